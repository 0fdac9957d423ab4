"""Troubles as tests need them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from datalake_assets.notify.model import Trouble

NOW = datetime(2026, 1, 2, 7, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def trouble(**changes: Any) -> Trouble:
    """A failed load of terms."""
    values: dict[str, Any] = {
        "kind": "run_failed",
        "severity": "error",
        "subject": "term_raw.term_data",
        "asset": "term_raw.term_data",
        "partition": "2026-01-02",
        "run_id": "run-1",
        "what": "The load would remove 17 of 20 keys.",
        "where": "term_raw.term_data, partition 2026-01-02",
        "todo": "Make sure with the source.",
        "cause": "Failure IntolerableError",
    }
    return Trouble(**{**values, **changes})
