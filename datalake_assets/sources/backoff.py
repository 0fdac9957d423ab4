"""When a failed request is asked again: full jitter, and `Retry-After` as a minimum.

`Backoff` is the hook that stamina asks after every failed attempt; stamina owns the loop and the sleep. Which
failures are transient is said where they are raised (`http.py`), by their class.
"""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from datalake_assets.sources.errors import TransientSourceError

_FACTOR: Final = 2.0
_JITTER: Final = random.SystemRandom()
_LONGEST_S: Final = 1e9
"""What a `Retry-After` of absurdly many digits is read as; every cap is far below."""


class Backoff:
    """Decides about one request whether, and after how many seconds, it is asked again.

    Args:
        base_s: Upper end of the first random wait; it doubles with every attempt.
        cap_s: Upper end of every random wait.
        retry_after_cap_s: Longest `Retry-After` that is waited for.
        max_500: How many answers with status 500 are asked again.
    """

    def __init__(self, *, base_s: float, cap_s: float, retry_after_cap_s: float, max_500: int) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._retry_after_cap_s = retry_after_cap_s
        self._max_500 = max_500
        self._failures = 0
        self._answers_500 = 0

    def __call__(self, failure: Exception) -> bool | float:
        """Answer stamina: False to give up, or the seconds to wait."""
        if not isinstance(failure, TransientSourceError):
            return False
        self._failures += 1
        if failure.status == 500:
            self._answers_500 += 1
            if self._answers_500 > self._max_500:
                return False
        asked_for = failure.retry_after_s or 0.0
        if asked_for > self._retry_after_cap_s:
            return False
        # Added to the minimum and not merely compared with it, or everybody told "30" comes back at once.
        ceiling = min(self._cap_s, self._base_s * _FACTOR ** (self._failures - 1))
        return asked_for + _JITTER.uniform(0.0, ceiling)


def retry_after_seconds(header: str | None, date: str | None = None) -> float | None:
    """Read a `Retry-After` header (RFC 9110, 10.2.3): seconds, or a date.

    Args:
        header: The header's value.
        date: The answer's own `Date`, from which a date is counted, so that a wrong clock here does no harm.

    Returns:
        Seconds to wait; 0 for a date in the past; None where nothing readable was said.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 10 else _LONGEST_S
    until = _http_date(text)
    if until is None:
        return None
    now = _http_date(date) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _http_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
