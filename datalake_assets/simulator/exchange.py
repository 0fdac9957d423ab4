"""One question, one attempt, one response: where endpoint and faults meet.

The application sends what comes out here; the truth reads the same and sends nothing, so both speak of the
same bytes. What a sound client makes of a response is decided here too, from the faults and never by parsing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Final

from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import Fault, Strike, strike
from datalake_assets.simulator.frame import TRUSTED, Endpoint, Question, Reply, Verdict, page
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.rows import Row
from datalake_assets.simulator.wire import Break, Delivery

OTHER_HOST: Final = "other-host.example"
"""Stands in a redirect for this server under another name, which only the application knows."""

_STATUS: Final = {
    "status_429": 429,
    "status_500": 500,
    "status_502_html": 502,
    "status_503": 503,
    "status_504_html": 504,
    "status_401": 401,
    "status_403": 403,
    "status_404": 404,
}
_AGAIN: Final = {429: None, 500: 2, 502: None, 503: None, 504: None}
"""Statuses that are worth another attempt, and how many."""

_BREAKS: Final[dict[tuple[str, str], tuple[Break, Verdict]]] = {
    ("when", "before_headers"): ("reset_before_headers", Verdict("again", "the connection was reset")),
    ("when", "mid_body"): ("reset_mid_body", Verdict("again", "the connection was reset")),
    ("how", "more"): ("length_more", Verdict("again", "the body is shorter than its length")),
    ("how", "less"): ("length_less", Verdict("again", "the JSON is cut", at_most=1)),
    ("how", "close_delimited"): ("cut_close_delimited", Verdict("again", "the body is cut")),
    ("how", "chunked"): ("cut_chunked", Verdict("again", "the body is cut")),
    ("how", "gzip"): ("cut_gzip", Verdict("again", "the gzip stream is cut")),
}


@dataclass(frozen=True)
class Patience:
    """What a sound client puts up with.

    Attributes:
        attempts: How often it asks.
        deadline_s: How long a whole response may take.
        silence_s: How long it waits for the next byte.
        body_mb: How many MiB it accepts.
        retry_after_s: The longest Retry-After that it waits for.
    """

    attempts: int = 4
    deadline_s: float = 120.0
    silence_s: float = 60.0
    body_mb: float = 16.0
    retry_after_s: float = 900.0


PATIENCE: Final = Patience()


@dataclass(frozen=True)
class Exchange:
    """What one attempt meets.

    Attributes:
        reply: The response.
        delivery: How it is put on the wire.
        rows: The rows in it.
        verdict: What a sound client makes of it.
        faults: Names of the faults that struck.
        proves_all: Whether it shows that no row is missing.
    """

    reply: Reply
    delivery: Delivery
    rows: Sequence[Row]
    verdict: Verdict
    faults: tuple[str, ...]
    proves_all: bool = True


def exchange(
    endpoint: Endpoint,
    question: Question,
    day: date,
    attempt: int,
    faults: Iterable[Fault],
    fault_seed: int,
    patience: Patience = PATIENCE,
) -> Exchange:
    """Answer one attempt."""
    known = [fault for fault in faults if fault.stage in ("transport", "status") or fault.knob in endpoint.knobs]
    struck = strike(known, fault_seed, endpoint, question.key, day, attempt, question.rows_key)
    rows: Sequence[Row] = ()
    proves_all, delay_s = True, 0.0
    refused = _refused(endpoint, struck, attempt, patience)
    if refused is not None:
        reply, verdict = refused
    else:
        answer = endpoint.answer(question, day, struck)
        reply, rows, verdict, proves_all = answer.reply, answer.rows, answer.verdict, answer.proves_all
        delay_s = answer.delay_s
    delivery, transport_verdict = _delivery(struck, Dice(fault_seed), (endpoint.name, question.key, day, attempt))
    delivery = replace(delivery, delay_s=delivery.delay_s + delay_s)
    if transport_verdict is not TRUSTED:
        verdict = transport_verdict
    elif verdict is TRUSTED:
        verdict = _too_much(reply, delivery, patience)
    return Exchange(reply, delivery, rows, verdict, tuple(fault.knob for fault in struck.faults), proves_all)


@dataclass(frozen=True)
class Outcome:
    """What a sound client ends with after all its attempts.

    Attributes:
        rows: The rows it can trust; None if there was no trustworthy answer.
        attempts: How often it asked.
        why: What was wrong with the last answer, if that was not trustworthy.
        proves_all: Whether the answer shows that no row is missing.
    """

    rows: Sequence[Row] | None
    attempts: int
    why: str = ""
    proves_all: bool = True


def sound_outcome(
    endpoint: Endpoint,
    question: Question,
    day: date,
    faults: Sequence[Fault],
    fault_seed: int,
    patience: Patience = PATIENCE,
) -> Outcome:
    """Ask as a sound client does: again after what may pass, never after what will not."""
    spent: dict[str, int] = {}
    why = ""
    for attempt in range(1, patience.attempts + 1):
        met = exchange(endpoint, question, day, attempt, faults, fault_seed, patience)
        if met.verdict.trust == "trusted":
            return Outcome(met.rows, attempt, proves_all=met.proves_all)
        why = met.verdict.why
        spent[why] = spent.get(why, 0) + 1
        if met.verdict.trust == "final" or (met.verdict.at_most is not None and spent[why] > met.verdict.at_most):
            return Outcome(None, attempt, why)
    return Outcome(None, patience.attempts, f"{why}, {patience.attempts} times")


def _refused(endpoint: Endpoint, struck: Strike, attempt: int, patience: Patience) -> tuple[Reply, Verdict] | None:
    for fault in struck.of("status"):
        if fault.knob == "key_expires_at_request":
            if attempt >= fault.number("n"):
                return endpoint.failure(401), Verdict("final", "status 401")
        elif fault.knob == "redirect_302":
            return _redirect(fault), Verdict("final", "status 302")
        elif fault.knob in _STATUS:
            return _status(endpoint, fault, patience)
        else:
            raise SimulatorError(f"The fault {fault.knob} has no status.")
    return None


def _status(endpoint: Endpoint, fault: Fault, patience: Patience) -> tuple[Reply, Verdict]:
    status = _STATUS[fault.knob]
    if fault.knob.endswith("_html"):
        title = {502: "502 Bad Gateway", 504: "504 Gateway Time-out"}[status]
        reply = page(status, title, "<hr><center>nginx</center>")
    else:
        reply = endpoint.failure(status)
    why = f"status {status}"
    if status in (429, 503):
        header, wait = _retry_after(fault)
        if header is not None:
            reply = reply.with_headers(("retry-after", header))
        if wait > patience.retry_after_s:
            return reply, Verdict("final", f"{why}, come back in {wait:.0f} s")
    if status in _AGAIN:
        return reply, Verdict("again", why, at_most=_AGAIN[status])
    return reply, Verdict("final", why)


def _retry_after(fault: Fault) -> tuple[str | None, float]:
    form, seconds = fault.word("retry_after"), fault.number("retry_after_s")
    now = datetime.now(UTC)
    if form == "seconds":
        return f"{seconds:.0f}", seconds
    if form == "http_date":
        return format_datetime(now + timedelta(seconds=seconds), usegmt=True), seconds
    if form == "past_date":
        return format_datetime(now - timedelta(days=1), usegmt=True), 0.0
    if form == "garbage":
        return "in a while", 0.0
    return ("86400", 86400.0) if form == "86400" else (None, 0.0)


def _redirect(fault: Fault) -> Reply:
    origin = "" if fault.word("target") == "same_origin" else f"http://{OTHER_HOST}"
    return page(302, "302 Found").with_headers(("location", f"{origin}/elsewhere/login"))


def _delivery(struck: Strike, dice: Dice, names: tuple[object, ...]) -> tuple[Delivery, Verdict]:
    delivery, verdict = Delivery(), TRUSTED
    for fault in struck.of("transport"):
        if fault.knob == "latency":
            jitter = dice.below(1001, fault.identity, *names) / 1000 * fault.number("jitter_ms")
            delivery = replace(delivery, delay_s=delivery.delay_s + (fault.number("ms") + jitter) / 1000)
        elif fault.knob == "stall":
            after = int(fault.number("after_bytes"))
            delivery = replace(delivery, stall_after=after, stall_s=fault.number("seconds"))
        elif fault.knob == "trickle":
            delivery = replace(delivery, bytes_per_second=fault.number("bytes_per_second"))
        elif not delivery.broken:
            word = "when" if fault.knob == "conn_reset" else "how"
            broken, verdict = _BREAKS[word, fault.word(word)]
            delivery = replace(delivery, broken=broken)
    return delivery, verdict


def _too_much(reply: Reply, delivery: Delivery, patience: Patience) -> Verdict:
    if len(reply.body) > patience.body_mb * 1024 * 1024:
        return Verdict("final", f"the body is larger than {patience.body_mb:g} MiB")
    if max(delivery.delay_s, delivery.stall_s) > patience.silence_s:
        return Verdict("again", f"silence of more than {patience.silence_s:g} s")
    dripping = len(reply.body) / delivery.bytes_per_second if delivery.bytes_per_second else 0.0
    if delivery.delay_s + delivery.stall_s + dripping > patience.deadline_s:
        return Verdict("again", f"no whole body within {patience.deadline_s:g} s")
    return TRUSTED
