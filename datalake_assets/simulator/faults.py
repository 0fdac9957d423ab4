"""Faults: which there are, how one is described, and whether one strikes.

A fault is keyed by fault seed, endpoint, request key, day and attempt, never by the order in which requests
arrive, so concurrency cannot change the outcome and a retry can succeed. What a fault does to rows stands in
`rows.py`, to bodies with the endpoints, to sockets in `wire.py`; named collections stand in `presets.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, Protocol

from datalake_assets.simulator.days import Days
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.population import Dice

Stage = Literal["transport", "status", "body", "rows"]


@dataclass(frozen=True)
class Parameter:
    """One setting of a knob.

    Attributes:
        default: Used when a fault does not give it.
        options: The words allowed; empty for a number.
        lowest: Smallest number allowed.
        highest: Largest number allowed.
    """

    default: str | float
    options: tuple[str, ...] = ()
    lowest: float = 0
    highest: float = 1e9

    def read(self, name: str, value: object) -> str | float:
        """The value, if it is allowed.

        Raises:
            SimulatorError: It is not.
        """
        if self.options:
            if value not in self.options:
                raise SimulatorError(f"{name} is {value!r}.", allowed=self.options)
            return str(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.lowest <= value <= self.highest:
            raise SimulatorError(f"{name} is {value!r}.", allowed=[self.described()])
        return value

    def described(self) -> str:
        """What is allowed, in words."""
        return "|".join(self.options) if self.options else f"a number from {self.lowest:g} to {self.highest:g}"


@dataclass(frozen=True)
class Knob:
    """One kind of fault.

    Attributes:
        stage: What it spoils.
        meaning: One sentence for people.
        parameters: Its settings.
    """

    stage: Stage
    meaning: str
    parameters: Mapping[str, Parameter]


def _knob(stage: Stage, meaning: str, **parameters: Parameter) -> Knob:
    return Knob(stage, meaning, parameters)


_RETRY_AFTER: Final = Parameter("absent", ("absent", "seconds", "http_date", "past_date", "garbage", "86400"))
_RETRY_AFTER_S: Final = Parameter(1, lowest=0, highest=3600)

_ERRORS: Final = (
    "ps_status_error",
    "ib_fault_xml",
    "login_html",
    "sap_return_e",
    "snap_error_doc",
    "vds_statusline_500",
)

KNOBS: Final[Mapping[str, Knob]] = {
    "latency": _knob(
        "transport",
        "The answer starts late, by `ms` plus up to `jitter_ms`.",
        ms=Parameter(50),
        jitter_ms=Parameter(0),
    ),
    "stall": _knob(
        "transport",
        "Silence of `seconds` after so many bytes of the body.",
        after_bytes=Parameter(1000),
        seconds=Parameter(5),
    ),
    "trickle": _knob(
        "transport", "The body drips at so many bytes a second.", bytes_per_second=Parameter(1000, lowest=1)
    ),
    "conn_reset": _knob(
        "transport",
        "The connection is reset (RST).",
        when=Parameter("before_headers", ("before_headers", "mid_body")),
    ),
    "content_length_lie": _knob(
        "transport",
        "Content-Length promises more bytes than come, or fewer.",
        how=Parameter("more", ("more", "less")),
    ),
    "body_cut": _knob(
        "transport",
        "Half the body: without any length, without the last chunk, or half a gzip stream that HTTP calls complete.",
        how=Parameter("close_delimited", ("close_delimited", "chunked", "gzip")),
    ),
    "status_429": _knob("status", "Throttled.", retry_after=_RETRY_AFTER, retry_after_s=_RETRY_AFTER_S),
    "status_500": _knob("status", "The server failed."),
    "status_502_html": _knob("status", "A proxy's page: bad gateway."),
    "status_503": _knob("status", "Not available.", retry_after=_RETRY_AFTER, retry_after_s=_RETRY_AFTER_S),
    "status_504_html": _knob("status", "A proxy's page: the gateway timed out."),
    "status_401": _knob("status", "The logon is refused."),
    "status_403": _knob("status", "The logon may not do this."),
    "status_404": _knob("status", "The address leads nowhere."),
    "redirect_302": _knob(
        "status",
        "Sent elsewhere: to a page of this server, or to another host name (which logs what it was told).",
        target=Parameter("same_origin", ("same_origin", "cross_origin")),
    ),
    "key_expires_at_request": _knob("status", "401 from the n-th attempt on.", n=Parameter(2, lowest=1)),
    "error_200": _knob(
        "body",
        "An error that calls itself 200, in the form of the system that knows it.",
        how=Parameter("ps_status_error", _ERRORS),
    ),
    "malformed_json": _knob(
        "body",
        "No JSON: whole body (unescaped_quote, trailing_comma, cut) or single rows (raw_control, nan, dup_keys).",
        how=Parameter("cut", ("raw_control", "unescaped_quote", "trailing_comma", "nan", "dup_keys", "cut")),
    ),
    "encoding": _knob(
        "body",
        "Another encoding than UTF-8, or another than the header says.",
        how=Parameter("bom", ("bom", "latin1_body", "utf16", "bad_utf8_byte", "wrong_charset_header")),
    ),
    "shape": _knob(
        "body",
        "Another shape of the envelope, down to an answer that holds nothing.",
        how=Parameter(
            "null_data",
            (
                "null_data",
                "missing_data_key",
                "object_for_array",
                "empty_result",
                "empty_object",
                "no_rownumber",
            ),
        ),
    ),
    "ndjson_truncate": _knob(
        "body",
        "The stream ends after a share of its lines, within one or between two; or just its last newline is missing.",
        how=Parameter("clean_eof", ("mid_line", "clean_eof", "no_final_newline")),
        share=Parameter(0.5, highest=1),
    ),
    "ndjson_extra_types": _knob(
        "body",
        "Lines that are no records: at the start, at the end, blank ones between; error takes the place of a record.",
        how=Parameter("meta", ("meta", "error", "summary", "heartbeat")),
    ),
    "ndjson_crlf": _knob("body", "Lines end with CR LF."),
    "ndjson_bom": _knob("body", "The stream begins with a byte order mark."),
    "ndjson_garbage_line": _knob(
        "body",
        "A line in the middle that is no JSON, no object, or no UTF-8.",
        how=Parameter("text", ("text", "scalar", "bad_utf8")),
    ),
    "hawk": _knob(
        "body",
        "An answer's signature is wrong or missing, or of another body; or a right request is refused: as seen before, "
        "or by a clock that is so many seconds ahead.",
        how=Parameter(
            "bad_response_mac", ("bad_response_mac", "no_server_auth", "other_body", "replay_refused", "clock_skew")
        ),
        seconds=Parameter(300, highest=86_400),
    ),
    "paging": _knob(
        "body",
        "A page names itself as the next, or one elsewhere, or none; it is the one before, or empty though not last.",
        how=Parameter(
            "next_loops",
            ("next_loops", "next_other_host", "next_other_path", "missing_next", "page_twice", "empty_page"),
        ),
    ),
    "dataset": _knob(
        "body",
        "A field is gone, new, or of another type; all records are gone, or a share of them.",
        how=Parameter("field_vanishes", ("field_vanishes", "field_appears", "type_changes", "empty", "shrinks")),
        share=Parameter(0.2, highest=1),
    ),
    "file": _knob(
        "body",
        "The first rows are of another month, or say NA; the file is of another colour, or its gzip stream is cut.",
        how=Parameter("other_month", ("other_month", "na_text", "na_number", "other_colour", "cut_gzip")),
        rows=Parameter(3, lowest=1, highest=1_000_000),
    ),
    "row_cap": _knob("rows", "Silently no more than so many rows.", rows=Parameter(100, lowest=1)),
    "missing_records": _knob("rows", "Rows are left out; counts and numbers still tell."),
    "dup_records": _knob("rows", "Rows come twice, alike or different.", how=Parameter("same", ("same", "different"))),
    "foreign_records": _knob("rows", "Beside a person comes another one who was not asked for."),
    "empty_docs": _knob(
        "rows", "{} after a document, or in the place of one.", how=Parameter("instead", ("instead", "added"))
    ),
    "null_data": _knob("rows", "null in the place of a person."),
    "batch_killer": _knob("rows", "504 whenever one of these persons is asked for."),
    "wrong_types": _knob(
        "rows",
        "A value of another type than ever before, or a row that is none.",
        how=Parameter(
            "text_number",
            (
                "text_number",
                "text_bool",
                "text_object",
                "text_too_long",
                "key_number",
                "key_null",
                "key_missing",
                "row_number_text",
                "row_text",
                "row_null",
                "row_list",
                "row_empty",
                "personid_number",
                "personid_null",
                "birth_date_number",
                "person_basic_list",
                "term_code",
                "term_details_null",
                "course_id",
                "v2_null",
                "sections_object",
            ),
        ),
    ),
    "poison": _knob(
        "rows",
        "Values that PostgreSQL or parsers refuse; depth, length and mb size deep_nesting, long_key, huge_doc_mb.",
        how=Parameter("nul", ("nul", "lone_surrogate", "huge_number", "deep_nesting", "long_key", "huge_doc_mb")),
        depth=Parameter(2000, lowest=200, highest=1_000_000),
        length=Parameter(5000, lowest=1, highest=1_000_000),
        mb=Parameter(20, lowest=0, highest=512),
    ),
    "sensitive_elsewhere": _knob(
        "rows",
        "A social security number where none belongs.",
        how=Parameter("upper", ("upper", "mixed", "nested")),
    ),
}

ROW_HOWS_OF_BODY: Final = frozenset({"raw_control", "unescaped_quote", "nan", "dup_keys"})
"""Forms of `malformed_json` that sit in single rows."""


class Addressee(Protocol):
    """What a scope is compared with: an endpoint."""

    @property
    def name(self) -> str:
        """Name of the endpoint."""
        ...

    @property
    def source(self) -> str:
        """Name of the system it belongs to."""
        ...


@dataclass(frozen=True)
class Fault:
    """One fault as it was asked for.

    Attributes:
        knob: Its kind.
        scope: Endpoint, source or `*`, and after a slash a pattern of request keys.
        rate: Share of attempts (faults of rows: of rows) that it strikes.
        first_n: It strikes only the first so many attempts.
        keys: It strikes only these request keys (faults of rows: rows).
        days: It strikes only on these days.
        settings: Parameters of its knob.
    """

    knob: str
    scope: str = "*"
    rate: float | None = None
    first_n: int | None = None
    keys: tuple[str, ...] | None = None
    days: Days | None = None
    settings: tuple[tuple[str, str | float], ...] = ()

    @property
    def stage(self) -> Stage:
        """What it spoils."""
        return KNOBS[self.knob].stage

    @property
    def in_rows(self) -> bool:
        """Whether `rate` and `keys` speak of rows."""
        if self.knob == "malformed_json":
            return self.word("how") in ROW_HOWS_OF_BODY
        if self.knob == "ndjson_extra_types":
            return self.word("how") == "error"
        return self.stage == "rows" and self.knob != "row_cap"

    def word(self, name: str) -> str:
        """A setting that is a word."""
        return str(self._setting(name))

    def number(self, name: str) -> float:
        """A setting that is a number."""
        return float(self._setting(name))

    def _setting(self, name: str) -> str | float:
        return dict(self.settings).get(name, KNOBS[self.knob].parameters[name].default)

    @property
    def identity(self) -> str:
        """What its draws are keyed with: everything but its place in a list."""
        return f"{self.knob} {self.scope} {self.settings}"

    def addresses(self, endpoint: Addressee, request_key: str) -> bool:
        """Whether its scope covers a request."""
        name, _, pattern = self.scope.partition("/")
        return name in ("*", endpoint.name, endpoint.source) and fnmatchcase(request_key, pattern or "*")

    def as_json(self) -> dict[str, Any]:
        """The form that `parse_fault` reads."""
        described: dict[str, Any] = {"fault": self.knob, "scope": self.scope, **dict(self.settings)}
        for name in ("rate", "first_n"):
            if getattr(self, name) is not None:
                described[name] = getattr(self, name)
        if self.keys is not None:
            described["keys"] = list(self.keys)
        if self.days is not None:
            described["days"] = self.days.texts()
        return described


def fault(
    knob: str,
    *,
    scope: str = "*",
    rate: float | None = None,
    first_n: int | None = None,
    keys: Iterable[str] | None = None,
    days: Days | None = None,
    **settings: str | float,
) -> Fault:
    """Describe a fault in code; `parse_fault` reads one that came from outside."""
    parameters = KNOBS[knob].parameters
    read = tuple(sorted((name, parameters[name].read(name, value)) for name, value in settings.items()))
    return Fault(knob, scope, rate, first_n, tuple(keys) if keys is not None else None, days, read)


def parse_fault(described: object, endpoints: Iterable[Addressee]) -> Fault:
    """Read a fault such as `{"fault": "status_503", "scope": "cstools", "first_n": 1}`.

    Raises:
        SimulatorError: A name is unknown or a value not allowed.
    """
    if not isinstance(described, dict):
        raise SimulatorError(f"A fault is {described!r}.", allowed=['an object such as {"fault": "status_503"}'])
    knob = described.get("fault")
    if not isinstance(knob, str) or knob not in KNOBS:
        raise SimulatorError(f"There is no fault {knob!r}.", allowed=sorted(KNOBS))
    parameters = KNOBS[knob].parameters
    names = ("fault", "scope", "rate", "first_n", "keys", "days", *parameters)
    for name in described:
        if name not in names:
            raise SimulatorError(f"The fault {knob} has no setting {name!r}.", allowed=names)
    return Fault(
        knob=knob,
        scope=_scope(described.get("scope", "*"), endpoints),
        rate=_optional(described.get("rate"), "rate", _is_rate, "a share above 0 and up to 1"),
        first_n=_optional(described.get("first_n"), "first_n", _is_count, "a whole number from 1"),
        keys=_keys(described.get("keys")),
        days=Days.parse(described["days"]) if described.get("days") is not None else None,
        settings=tuple(
            sorted((name, parameters[name].read(name, described[name])) for name in described if name in parameters)
        ),
    )


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _optional(value: Any, name: str, fits: Callable[[object], bool], allowed: str) -> Any:
    if value is not None and not fits(value):
        raise SimulatorError(f"{name} is {value!r}.", allowed=[allowed])
    return value


def _keys(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(key, str) for key in value):
        raise SimulatorError(f"keys is {value!r}.", allowed=["a list of keys such as UGRD/2258 or BU_TERM_QRY"])
    return tuple(value)


def _scope(value: object, endpoints: Iterable[Addressee]) -> str:
    known = sorted({"*"} | {name for endpoint in endpoints for name in (endpoint.name, endpoint.source)})
    if not isinstance(value, str) or value.partition("/")[0] not in known:
        raise SimulatorError(f"scope is {value!r}.", allowed=[f"{name}[/pattern of request keys]" for name in known])
    return value


class Strike:
    """The faults that strike one attempt of one request.

    Args:
        faults: Those whose scope, day, attempt and draw fit.
        dice: Draws the rows.
        names: What the draws of rows are keyed with.
    """

    def __init__(self, faults: Iterable[Fault], dice: Dice, *names: object) -> None:
        self.faults = tuple(faults)
        self._dice = dice
        self._names = names

    def of(self, stage: Stage) -> list[Fault]:
        """The faults of one stage, in the order in which they were asked for."""
        return [found for found in self.faults if found.stage == stage]

    def rows(self, fault: Fault, keys: Iterable[str]) -> set[str]:
        """The rows that a fault strikes, whatever the attempt: those named, a share, or a single one."""
        candidates = [key for key in keys if fault.keys is None or key in fault.keys]
        if fault.rate is not None:
            return {key for key in candidates if self._dice.chance(fault.rate, fault.identity, *self._names, key)}
        if fault.keys is not None or not candidates:
            return set(candidates)
        # The lowest hash and not one place of the list: a row more or less elsewhere must not move it.
        return {min(candidates, key=lambda key: self._dice.number(fault.identity, key))}


def strike(
    faults: Iterable[Fault],
    fault_seed: int,
    endpoint: Addressee,
    request_key: str,
    day: date,
    attempt: int,
    rows_key: str = "",
) -> Strike:
    """Draw which faults strike an attempt; rows are drawn with `rows_key` where there is one."""
    dice = Dice(fault_seed)
    names = (endpoint.name, request_key, day)

    def strikes(fault: Fault) -> bool:
        if not fault.addresses(endpoint, request_key):
            return False
        if fault.days is not None and day not in fault.days:
            return False
        if fault.first_n is not None and attempt > fault.first_n:
            return False
        if fault.in_rows:
            return True
        if fault.keys is not None and request_key not in fault.keys:
            return False
        return fault.rate is None or dice.chance(fault.rate, fault.identity, *names, attempt)

    return Strike([fault for fault in faults if strikes(fault)], dice, endpoint.name, rows_key or request_key, day)
