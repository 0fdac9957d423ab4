"""Rows of an answer, and what faults do to single ones.

A row knows what it says, whose it is, and whether a receiver can keep it and can tell its key: the truth
counts with that, the client never sees it. How rows are wrapped into an answer belongs to the endpoints.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from datalake_assets.simulator.faults import Fault, Strike
from datalake_assets.simulator.json_text import Json, Unescaped, Verbatim, write

ROW_NUMBER: Final = "attr:rownumber"

Breaks = Literal["", "strict", "every"]

_TURN: Final = {"dup_records": 1, "row_cap": 2, "missing_records": 3}
"""Rows are spoilt, then copied, then capped, then left out: each sees what the one before made."""

_INVENTED_SSN: Final = "900-12-3456"


@dataclass(frozen=True)
class Fields:
    """Which fields of a row a fault may spoil.

    Attributes:
        key: A field of the key.
        text: A text field outside the key; empty if there is none.
        longest: Characters that the text field holds.
        prefix: What stands before each name on the wire, such as `A.`.
    """

    key: str
    text: str
    longest: int
    prefix: str = ""

    def prefixed(self, prefix: str) -> "Fields":
        """The same fields under names that carry a prefix on the wire."""
        return replace(self, prefix=prefix)


@dataclass(frozen=True)
class Row:
    """One row as it is sent.

    Attributes:
        key: Whose row it is.
        document: Its fields in their order, without the row number and without alias prefixes.
        number: Its row number.
        trouble: Why a receiver cannot keep it; empty if it can.
        keyed: Whether a receiver can tell the key.
        number_as_text: The row number is a string.
        whole: Text that stands in the place of the whole row.
        tail: Members written after the last field.
        breaks: Which parsers fail on the whole body because of it: every JSON parser, or only strict ones.
    """

    key: tuple[str, ...]
    document: dict[str, Json] = field(hash=False)
    number: int
    trouble: str = ""
    keyed: bool = True
    number_as_text: bool = False
    whole: str | None = None
    tail: str = ""
    breaks: Breaks = ""

    @property
    def name(self) -> str:
        """The key as faults name it: UGRD/2258."""
        return "/".join(self.key)

    def text(self, prefix: str = "", *, numbered: bool = True) -> str:
        """The row as JSON, or what a fault made of it."""
        if self.whole is not None:
            return self.whole
        number: Json = str(self.number) if self.number_as_text else self.number
        members = [f"{write(ROW_NUMBER)}:{write(number)}"] if numbered else []
        members += [f"{write(prefix + name)}:{write(value)}" for name, value in self.document.items()]
        return "{" + ",".join(members) + self.tail + "}"


def numbered(documents: Sequence[tuple[tuple[str, ...], dict[str, Json]]]) -> list[Row]:
    """Rows of an answer that nothing has spoilt, numbered from 1."""
    return [Row(key, document, number) for number, (key, document) in enumerate(documents, start=1)]


def struck_rows(rows: list[Row], strike: Strike, fields: Fields) -> tuple[list[Row], list[Row]]:
    """What faults make of the rows.

    Returns:
        The rows that are sent, and those that are left out although counts and numbers speak of them.
    """
    missing: set[str] = set()
    for fault in sorted(strike.faults, key=lambda fault: _TURN.get(fault.knob, 0)):
        if fault.knob == "row_cap":
            rows = rows[: int(fault.number("rows"))]
        elif fault.knob == "missing_records":
            # The last row stays: without it nothing but a count would tell, and CS Tools sends none.
            missing |= strike.rows(fault, [row.name for row in rows[:-1]])
        elif fault.in_rows:
            chosen = strike.rows(fault, [row.name for row in rows])
            if fault.knob == "dup_records":
                rows = _with_copies(rows, chosen, fault, fields)
            else:
                rows = [_spoilt(row, fault, fields) if row.name in chosen else row for row in rows]
    return [row for row in rows if row.name not in missing], [row for row in rows if row.name in missing]


def _with_copies(rows: list[Row], chosen: set[str], fault: Fault, fields: Fields) -> list[Row]:
    copied: list[Row] = []
    for row in rows:
        copied.append(row)
        if row.name in chosen:
            text = row.document.get(fields.text)
            if fault.word("how") == "different" and isinstance(text, str) and not row.trouble:
                other = text.rstrip()[: fields.longest - 1] + "*"
                copied.append(replace(row, document={**row.document, fields.text: other}))
            else:
                copied.append(row)
    return [replace(row, number=number) for number, row in enumerate(copied, start=1)]


def _spoilt(row: Row, fault: Fault, fields: Fields) -> Row:
    # A row that is spoilt already stays as it is, so that faults can be combined in any way.
    if row.trouble:
        return row
    spoiler = _SPOILERS.get((fault.knob, fault.word("how")))
    return spoiler(row, fault, fields) if spoiler else row


_Spoiler = Callable[[Row, Fault, Fields], Row]


def _text_becomes(value: Callable[[str], Json], trouble: str, breaks: Breaks = "") -> _Spoiler:
    def spoil(row: Row, fault: Fault, fields: Fields) -> Row:
        text = row.document.get(fields.text)
        if not isinstance(text, str):
            return row
        document = {**row.document, fields.text: value(text)}
        return replace(row, document=document, trouble=trouble, breaks=breaks)

    return spoil


def _extra_field(value: Callable[[Fault], tuple[str, Json]], trouble: str) -> _Spoiler:
    def spoil(row: Row, fault: Fault, fields: Fields) -> Row:
        name, extra = value(fault)
        return replace(row, document={**row.document, name: extra}, trouble=trouble)

    return spoil


def _key_becomes(change: Callable[[dict[str, Json], str], dict[str, Json]], trouble: str) -> _Spoiler:
    def spoil(row: Row, fault: Fault, fields: Fields) -> Row:
        if fields.key not in row.document:
            return row
        return replace(row, document=change(dict(row.document), fields.key), trouble=trouble, keyed=False)

    return spoil


def _whole_becomes(text: str, trouble: str) -> _Spoiler:
    def spoil(row: Row, fault: Fault, fields: Fields) -> Row:
        return replace(row, whole=text, trouble=trouble, keyed=False)

    return spoil


def _number_as_text(row: Row, fault: Fault, fields: Fields) -> Row:
    return replace(row, number_as_text=True)


def _twice(row: Row, fault: Fault, fields: Fields) -> Row:
    member = f",{write(fields.prefix + (fields.text or fields.key))}:{write('twice')}"
    # Parsers keep one of the two and do not tell which member it was: it could as well have been the key.
    return replace(row, tail=row.tail + member, trouble="duplicate keys in one object", keyed=False)


def _without(document: dict[str, Json], name: str) -> dict[str, Json]:
    return {key: value for key, value in document.items() if key != name}


def _as_number(document: dict[str, Json], name: str) -> dict[str, Json]:
    return {**document, name: int("".join(filter(str.isdigit, str(document[name]))) or "0")}


def _split_by_tab(text: str) -> Json:
    return Unescaped(text.replace(" ", "\t", 1))


_SPOILERS: Final[dict[tuple[str, str], _Spoiler]] = {
    ("malformed_json", "raw_control"): _text_becomes(_split_by_tab, "", "strict"),
    ("malformed_json", "unescaped_quote"): _text_becomes(
        lambda text: Verbatim(f'"{text[:2]}"{text[2:]}"'), "an unescaped quote", "every"
    ),
    ("malformed_json", "nan"): _text_becomes(lambda _: Verbatim("NaN"), "NaN is no JSON value"),
    ("malformed_json", "dup_keys"): _twice,
    ("wrong_types", "text_number"): _text_becomes(lambda _: 2025, "a number where text belongs"),
    ("wrong_types", "text_bool"): _text_becomes(lambda _: True, "a boolean where text belongs"),
    ("wrong_types", "text_object"): _text_becomes(lambda text: {"value": text}, "an object where text belongs"),
    ("wrong_types", "text_too_long"): _text_becomes(lambda text: f"{text} x".ljust(60, "x"), "longer than its column"),
    ("wrong_types", "key_number"): _key_becomes(_as_number, "a number where the key belongs"),
    ("wrong_types", "key_null"): _key_becomes(lambda document, name: {**document, name: None}, "the key is null"),
    ("wrong_types", "key_missing"): _key_becomes(_without, "the key is missing"),
    ("wrong_types", "row_number_text"): _number_as_text,
    ("wrong_types", "row_text"): _whole_becomes('"UGRD 2258"', "a text is no row"),
    ("wrong_types", "row_null"): _whole_becomes("null", "null is no row"),
    ("wrong_types", "row_list"): _whole_becomes('["UGRD","2258"]', "a list is no row"),
    ("wrong_types", "row_empty"): _key_becomes(lambda document, name: {}, "the row is empty"),
    ("poison", "nul"): _text_becomes(lambda text: f"{text[:4]}\0{text[4:]}", "a NUL character"),
    ("poison", "lone_surrogate"): _text_becomes(lambda text: Verbatim(f'"{text[:4]}\\ud83d"'), "a lone surrogate"),
    ("poison", "huge_number"): _extra_field(
        lambda _: ("BU_NOTE", Verbatim("1e400000")), "a number beyond PostgreSQL's numeric"
    ),
    ("poison", "deep_nesting"): _extra_field(
        lambda fault: ("BU_NOTE", Verbatim("[" * int(fault.number("depth")) + "]" * int(fault.number("depth")))),
        "nesting beyond all bounds",
    ),
    ("poison", "long_key"): _extra_field(lambda fault: ("BU_" + "K" * int(fault.number("length")), "long"), ""),
    ("poison", "huge_doc_mb"): _extra_field(lambda fault: ("BU_NOTE", "x" * int(fault.number("mb") * 1024 * 1024)), ""),
    ("sensitive_elsewhere", "upper"): _extra_field(lambda _: ("SSN", _INVENTED_SSN), ""),
    ("sensitive_elsewhere", "mixed"): _extra_field(lambda _: ("SocialSecurityNumber", _INVENTED_SSN), ""),
    ("sensitive_elsewhere", "nested"): _extra_field(
        lambda _: ("BU_CONTACT", {"name": "A. Example", "Ssn": _INVENTED_SSN, "notes": [{"finAid": "yes", "n": 1}]}),
        "",
    ),
}
