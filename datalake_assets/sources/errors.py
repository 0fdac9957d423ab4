"""How a source can fail, told apart by one question: would asking again help?

    DatalakeError
      SourceError              no trustworthy answer; its key is `failed`, never empty
        TransientSourceError   asking again may help: silence, reset, cut body, 408 425 429 500 502 503 504
        PermanentSourceError   asking again cannot help: every other status, redirects, TLS, an answer that
                               is not what was asked for
          RedirectedError      the answer is elsewhere; told apart for the one source that documents redirects

A status that stands nowhere else is permanent: a client retries what is known to pass, nothing more. Which
failures a client raises, and its sentences, stand with the client.
"""

from typing import Final

from datalake_assets.errors import DatalakeError

TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses worth another attempt (reference: client policy, "Retry"); 500 only a limited number of times."""

REFUSED_LOGON_STATUSES: Final = frozenset({401, 403})
"""Statuses after which nothing more is asked: repeated bad logons can lock an account."""


class SourceError(DatalakeError):
    """A source gave no trustworthy answer.

    Args:
        what: What happened, as a full sentence.
        where: Request, attempt and request id.
        todo: What to do next.
        status: HTTP status of the answer, if one arrived.

    Attributes:
        source_stopped: Whether the source is asked nothing more, so that asking for something else is no use either.
    """

    def __init__(self, what: str, *, where: str = "", todo: str = "", status: int | None = None) -> None:
        super().__init__(what, where=where, todo=todo)
        self.status = status
        self.source_stopped = False


class PermanentSourceError(SourceError):
    """Asking again would give the same answer."""


class RedirectedError(PermanentSourceError):
    """The source redirects, and nobody follows unless the source documents it.

    Args:
        what: What happened, as a full sentence.
        where: Request, attempt and request id.
        todo: What to do next.
        status: HTTP status of the answer.
        location: Where to, if that is on the same origin, so that credentials may be sent there; never shown.
    """

    def __init__(
        self, what: str, *, where: str = "", todo: str = "", status: int | None = None, location: str | None = None
    ) -> None:
        super().__init__(what, where=where, todo=todo, status=status)
        self.location = location


class TransientSourceError(SourceError):
    """Asking again may help.

    Args:
        what: What happened, as a full sentence.
        where: Request, attempt and request id.
        todo: What to do next.
        status: HTTP status of the answer, if one arrived.
        retry_after_s: Seconds that the source asked to be left alone, if it said so.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        todo: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(what, where=where, todo=todo, status=status)
        self.retry_after_s = retry_after_s
