"""PeopleSoft queries: what can be asked by name, and the faults their answers share.

Both faces of PeopleSoft (`peoplesoft.py`, `cstools.py`) run these queries; each brings its own envelope.
A further query is one more entry in `Queries`. Logons, parameters and paths belong to the faces.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Protocol

from datalake_assets.simulator.faults import Fault, Strike
from datalake_assets.simulator.frame import TRUSTED, Answer, Reply, Verdict
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.people import People, Person
from datalake_assets.simulator.rows import Fields, Row, numbered, struck_rows
from datalake_assets.simulator.terms import TermPopulation

QUERY_KNOBS: Final = frozenset(
    {
        "error_200",
        "malformed_json",
        "encoding",
        "shape",
        "row_cap",
        "missing_records",
        "dup_records",
        "wrong_types",
        "poison",
        "sensitive_elsewhere",
    }
)
"""The faults of bodies and rows that queries know."""

QUERY_ERRORS: Final = ("ps_status_error", "ib_fault_xml", "login_html")
"""The errors that call themselves 200 which queries know."""

LOGIN_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body>"
    '<form method="post" action="/psp/simulated/?cmd=login"><input name="userid"><input name="pwd" type="password">'
    "</form></body></html>"
)


@dataclass(frozen=True)
class Query:
    """A query that PeopleSoft knows by name.

    Attributes:
        name: Its name; case matters.
        kind: The kind of document whose whole population it yields; empty if it yields a part.
        prompts: Names of its prompts; case matters.
        columns: All fields it may yield.
        fields: What faults may spoil.
        rows: Its rows, by values of the prompts and day.
    """

    name: str
    kind: str
    prompts: tuple[str, ...]
    columns: tuple[str, ...]
    fields: Fields
    rows: Callable[[Mapping[str, str], date], list[Row]]


class Queries:
    """All queries of one population.

    Args:
        terms: The terms.
        people: The people.
    """

    def __init__(self, terms: TermPopulation, people: People) -> None:
        self._by_name = {
            query.name: query
            for query in [
                Query(
                    name="BU_TERM_QRY",
                    kind="term",
                    prompts=(),
                    columns=(
                        "ACAD_CAREER",
                        "STRM",
                        "DESCR",
                        "TERM_BEGIN_DT",
                        "TERM_END_DT",
                        "CURRENT_IND",
                        "BU_CUR_FUTURE_TERM",
                        "BU_FUTURE_TERM_1",
                        "BU_PAST_TERM_1",
                        "OLD_TERM",
                        "ACAD_YEAR",
                    ),
                    fields=Fields(key="STRM", text="DESCR", longest=20),
                    rows=lambda _, day: numbered([(term.key, dict(term.fields)) for term in terms.on(day)]),
                ),
                Query(
                    name="BU_PARM_0216_QRY",
                    kind="",
                    prompts=(),
                    columns=("CAMPUS_ID",),
                    fields=Fields(key="CAMPUS_ID", text="", longest=0),
                    rows=lambda _, day: _ids(people, [person for person in people.on(day) if person.student]),
                ),
                Query(
                    name="BU_PARM_ENRL_DORM_QRY",
                    kind="",
                    prompts=(),
                    columns=("CAMPUS_ID",),
                    fields=Fields(key="CAMPUS_ID", text="", longest=0),
                    rows=lambda _, day: _ids(people, [person for person in people.on(day) if person.dorm]),
                ),
                Query(
                    name="BU_TERM_STD_FULL_TERM",
                    kind="",
                    prompts=("BUID",),
                    columns=("CAMPUS_ID", "ACAD_CAREER", "STRM", "ACAD_PROG", "STDNT_CAR_NBR"),
                    fields=Fields(key="STRM", text="ACAD_PROG", longest=8),
                    rows=lambda prompts, day: _terms(people.terms_of(prompts["BUID"], day)),
                ),
                Query(
                    name="BU_FACULTY_GET",
                    kind="",
                    prompts=("EMPLID",),
                    columns=("EMPLID", "STRM"),
                    fields=Fields(key="STRM", text="", longest=0),
                    rows=lambda prompts, day: _terms(people.teaching_of(prompts["EMPLID"], day)),
                ),
            ]
        }

    def named(self, name: str) -> Query | None:
        """The query of exactly this name."""
        return self._by_name.get(name)

    def about(self, kind: str) -> Query | None:
        """The query that yields the whole population of a kind."""
        return next((query for query in self._by_name.values() if query.kind == kind), None)


def _ids(people: People, listed: Iterable[Person]) -> list[Row]:
    return numbered([((person.id,), {"CAMPUS_ID": people.listed_id(person)}) for person in listed])


def _terms(documents: Iterable[dict[str, Json]]) -> list[Row]:
    return numbered([((str(document["STRM"]),), document) for document in documents])


class Envelope(Protocol):
    """How a face wraps rows."""

    @property
    def counts_rows(self) -> bool:
        """Whether the envelope says how many rows there are."""
        ...

    @property
    def reads_raw_controls(self) -> bool:
        """Whether clients must put up with raw control characters in strings here."""
        ...

    def around(self, rows: str, count: int) -> str:
        """The body that holds the rows, given as the text of an array or of what stands in its place."""
        ...

    def without_rows(self, shape: str) -> str:
        """The body whose rows are missing, for the shapes `null_data` and `missing_data_key`."""
        ...

    @property
    def errors(self) -> Sequence[str]:
        """The forms of `error_200` that are known here."""
        ...

    def error(self, how: str) -> Reply:
        """An error that calls itself 200."""
        ...

    def row(self, row: Row, prefix: str, *, numbered: bool) -> str:
        """The text of one row."""
        ...


def spoilt_answer(rows: list[Row], strike: Strike, fields: Fields, envelope: Envelope) -> Answer:
    """Wrap rows and spoil them as the faults say."""
    errors = [fault.word("how") for fault in strike.of("body") if fault.knob == "error_200"]
    if known := [how for how in errors if how in envelope.errors]:
        return Answer(envelope.error(known[0]), verdict=Verdict("final", f"an error in a 200: {known[0]}"))
    sent, missing = struck_rows(rows, strike, fields)
    is_capped = any(fault.knob == "row_cap" and fault.number("rows") < len(rows) for fault in strike.faults)
    verdict = _rows_verdict(sent, missing, envelope, is_capped=is_capped)
    spoiling = [fault for fault in strike.of("body") if fault.knob != "error_200"]
    hows = {fault.word("how") for fault in spoiling}
    if hows & {"latin1_body", "wrong_charset_header"}:
        sent = _with_accent(sent, fields)
    array = "[" + ",".join(envelope.row(row, fields.prefix, numbered="no_rownumber" not in hows) for row in sent) + "]"
    text = envelope.around(array, len(sent) + len(missing))
    reply = Reply(200, b"")
    for fault in spoiling:
        verdict = body_verdict(fault) if verdict is TRUSTED else verdict
        text = _spoilt_text(text, fault, sent, fields, envelope)
    body = text.encode()
    for fault in spoiling:
        if fault.knob == "encoding":
            body, reply = encoded_body(text, body, reply, fault)
    proves_all = envelope.counts_rows or "no_rownumber" not in hows
    return Answer(replace(reply, body=body), sent, verdict, proves_all)


def _rows_verdict(sent: list[Row], missing: list[Row], envelope: Envelope, *, is_capped: bool) -> Verdict:
    if missing:
        return Verdict("final", f"{len(missing)} rows are missing from the answer")
    if any(row.breaks == "every" or (row.breaks and not envelope.reads_raw_controls) for row in sent):
        return Verdict("final", "no JSON: a row breaks the body")
    # No client can read this off one answer: it has to know the cap, or to compare with the day before.
    return Verdict("final", "the answer is capped") if is_capped else TRUSTED


def body_verdict(fault: Fault) -> Verdict:
    """What a sound client makes of a body that a fault has spoilt as a whole."""
    how = fault.word("how")
    if (fault.knob, how) == ("malformed_json", "cut"):
        return Verdict("again", "the JSON is cut", at_most=1)
    if (fault.knob, how) == ("malformed_json", "trailing_comma"):
        return Verdict("final", "no JSON: trailing_comma")
    if fault.knob == "shape" and how != "no_rownumber":
        return Verdict("final", f"the envelope holds no rows: {how}")
    if fault.knob == "encoding" and how not in ("bom", "wrong_charset_header"):
        return Verdict("final", f"not UTF-8: {how}")
    return TRUSTED


def _spoilt_text(text: str, fault: Fault, rows: list[Row], fields: Fields, envelope: Envelope) -> str:
    how = fault.word("how")
    if (fault.knob, how) == ("malformed_json", "cut"):
        return text[: len(text) * 2 // 3]
    if (fault.knob, how) == ("malformed_json", "trailing_comma"):
        return ",]".join(text.rsplit("]", 1))
    if fault.knob == "shape" and how in ("null_data", "missing_data_key"):
        return envelope.without_rows(how)
    if fault.knob == "shape" and how == "object_for_array":
        return envelope.around(envelope.row(rows[0], fields.prefix, numbered=True) if rows else "{}", 1)
    if fault.knob == "shape" and how == "empty_result":
        return envelope.around("[]", 0)
    return text


def encoded_body(text: str, body: bytes, reply: Reply, fault: Fault) -> tuple[bytes, Reply]:
    """The body in the encoding that a fault of encodings wants, and the reply with the header to it."""
    how = fault.word("how")
    if how == "bom":
        return b"\xef\xbb\xbf" + body, reply
    if how == "latin1_body":
        return text.encode("latin-1", errors="replace"), reply
    if how == "utf16":
        return text.encode("utf-16"), replace(reply, content_type="application/json; charset=utf-16")
    if how == "bad_utf8_byte":
        spoilt = body.replace(b" 20", b" \xff20", 1)
        return spoilt if spoilt != body else body.replace(b':"', b':"\xff', 1), reply
    return body, replace(reply, content_type="application/json; charset=iso-8859-1")


def _with_accent(rows: list[Row], fields: Fields) -> list[Row]:
    """Rows of which at least one holds a letter that encodings differ about."""
    if any(not row.text().isascii() for row in rows):
        return rows
    for place, row in enumerate(rows):
        text = row.document.get(fields.text)
        if isinstance(text, str) and not row.trouble:
            accented = {**row.document, fields.text: text.rstrip()[: fields.longest - 1] + "é"}
            return [*rows[:place], replace(row, document=accented), *rows[place + 1 :]]
    return rows
