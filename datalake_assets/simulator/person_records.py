"""Records of persons as both person APIs send them, and what faults do to single ones.

Faults of rows are keyed by person, so a person that is poison is so in every batch. How a batch is asked for and
wrapped belongs to `personapi.py` and `snapperson.py`; what a document says stands in `persons.py`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from typing import Final, cast

import orjson

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.faults import Fault, Strike
from datalake_assets.simulator.frame import TRUSTED, Answer, Question, Reply, Verdict, page
from datalake_assets.simulator.json_text import Json, Unescaped, Verbatim, write
from datalake_assets.simulator.people import People
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.population import Dice

OBJECTS: Final = ("student", "affiliate", "faculty", "employee")

PERSON_KNOBS: Final = frozenset(
    {
        "error_200",
        "malformed_json",
        "encoding",
        "shape",
        "missing_records",
        "dup_records",
        "foreign_records",
        "empty_docs",
        "null_data",
        "wrong_types",
        "poison",
        "sensitive_elsewhere",
        "batch_killer",
    }
)
"""The faults of bodies and rows that both person APIs know."""

_SECTIONS: Final = {
    "student": "studentInfo",
    "affiliate": "affiliateInfo",
    "faculty": "facultyInfo",
    "employee": "employeeInfo",
}
_INVENTED_SSN: Final = "900-12-3456"
_KEPT_TEXTS: Final = 4096

ROWS_KEY: Final = "persons"
"""With it faults of rows are drawn, so that a person fares alike in every batch."""

Document = dict[str, Json]


@dataclass(frozen=True)
class Batch:
    """The persons that a request asks for.

    Attributes:
        ids: Their ids in the order of the request, each once.
        terms: Career and code of the terms asked for, by id.
        teaching: Codes of the terms whose teaching is asked for, by id; None: of all.
        objects: The sections asked for.
    """

    ids: tuple[str, ...]
    terms: Mapping[str, frozenset[tuple[str, str]]]
    teaching: Mapping[str, frozenset[str]] | None
    objects: frozenset[str]

    def question(self) -> Question:
        """The question that it is; two that ask for the same persons are attempts of one."""
        key = self.ids[0] if len(self.ids) == 1 else _digest(self.ids)
        return Question(key, {"batch": self}, people=self.ids, rows_key=ROWS_KEY)


def batch_of(question: Question) -> Batch:
    """The batch that a question asks for."""
    return cast(Batch, question.details["batch"])


@dataclass(frozen=True)
class Record:
    """What is sent of one person.

    Attributes:
        person_id: Whose it is.
        text: The document as JSON, or what a fault made of it.
        is_error: An error takes the place of the document.
    """

    person_id: str
    text: bytes
    is_error: bool = False


class PersonRecords:
    """The records of all persons.

    Args:
        people: Everybody.
        documents: What is told of them.
        config: The knobs, of which the time that a batch takes matters.
    """

    def __init__(self, people: People, documents: PersonDocuments, config: Config) -> None:
        self._people = people
        self._documents = documents
        self._batch_s = config.person_batch_s
        self._gateway_cut_s = config.gateway_cut_s
        self._dice = Dice(config.seed)
        # A batch that is asked for again is most often asked for soon.
        self._text = lru_cache(maxsize=_KEPT_TEXTS)(self._text_of)
        self._single = lru_cache(maxsize=256)(self._single_of)

    def answer(
        self, batch: Batch, day: date, strike: Strike, wrap: Callable[[Sequence[Record]], tuple[Reply, Verdict]]
    ) -> Answer:
        """Answer a batch, unless it takes longer than the gateway waits or holds a person who is its end.

        Args:
            batch: Who is asked for.
            day: The day.
            strike: The faults.
            wrap: Makes the reply of the records.
        """
        if self._batch_s > self._gateway_cut_s:
            return _timed_out(self._gateway_cut_s)
        if any(self._chosen(fault, batch.ids, day, strike) for fault in _of(strike, "batch_killer")):
            return _timed_out(self._batch_s)
        reply, verdict = wrap(self.records(batch, day, strike))
        return Answer(reply, verdict=verdict, delay_s=self._batch_s)

    def records(self, batch: Batch, day: date, strike: Strike) -> list[Record]:
        """The records of those who are known, in the order in which they were asked for."""
        known = [person_id for person_id in batch.ids if self._people.named(person_id, day) is not None]
        struck = [
            (fault, self._chosen(fault, known, day, strike))
            for fault in strike.faults
            if fault.in_rows and fault.knob != "batch_killer"
        ]
        struck = [(fault, chosen) for fault, chosen in struck if chosen]
        texts = {person_id: self._text(person_id, day, *self._asked(batch, person_id)) for person_id in known}
        if not struck:
            return [Record(person_id, text) for person_id, text in texts.items()]
        sent: list[Record] = []
        for person_id, text in texts.items():
            faults = [fault for fault, chosen in struck if person_id in chosen]
            sent += self._spoilt(Record(person_id, text), faults, batch, day) if faults else [Record(person_id, text)]
        return sent

    def altered(self, day: date, strike: Strike) -> dict[str, list[Document]]:
        """What is sent of those whose documents faults alter, if everything that there is is asked for.

        Documents that are no JSON, or do not tell whose they are, are left out.
        """
        faults = [fault for fault in strike.faults if fault.in_rows]
        altering = [fault for fault in faults if _alters(fault)]
        everybody = [person.id for person in self._people.on(day)] if altering else []
        struck = {person_id for fault in altering for person_id in self._chosen(fault, everybody, day, strike)}
        chosen = [(fault, self._chosen(fault, struck, day, strike)) for fault in faults]
        sent: dict[str, list[Document]] = {}
        for person_id in struck:
            faults = [fault for fault, ids in chosen if person_id in ids]
            documents = _sent(self._documents.true_document(person_id, day), faults)
            sent[person_id] = [
                document for document in documents if isinstance(document, dict) and document["personid"] == person_id
            ]
        return sent

    def _asked(
        self, batch: Batch, person_id: str
    ) -> tuple[frozenset[tuple[str, str]], frozenset[str] | None, frozenset[str]]:
        teaching = None if batch.teaching is None else batch.teaching.get(person_id, frozenset())
        return batch.terms.get(person_id, frozenset()), teaching, batch.objects

    def _document(
        self,
        person_id: str,
        day: date,
        terms: frozenset[tuple[str, str]],
        teaching: frozenset[str] | None,
        objects: frozenset[str],
    ) -> Document:
        if teaching is None:
            teaching = frozenset(str(row["STRM"]) for row in self._people.teaching_of(person_id, day))
        document = self._documents.document(person_id, day, terms=terms, teaching=teaching)
        if len(objects) == len(OBJECTS):
            return document
        left_out = {section for name, section in _SECTIONS.items() if name not in objects}
        return {name: value for name, value in document.items() if name not in left_out}

    def _text_of(
        self,
        person_id: str,
        day: date,
        terms: frozenset[tuple[str, str]],
        teaching: frozenset[str] | None,
        objects: frozenset[str],
    ) -> bytes:
        return orjson.dumps(self._document(person_id, day, terms, teaching, objects), default=_fragment)

    def _chosen(self, fault: Fault, ids: Collection[str], day: date, strike: Strike) -> set[str]:
        if fault.rate is None and fault.keys is None:
            # One of everybody and not one of each batch: else a batch that is split would never come through.
            return {self._single(fault.identity, day)} & set(ids)
        return strike.rows(fault, ids)

    def _single_of(self, identity: str, day: date) -> str:
        everybody = [person.id for person in self._people.on(day)]
        return min(everybody, key=lambda person_id: self._dice.number(identity, person_id), default="")

    def _spoilt(self, record: Record, faults: Sequence[Fault], batch: Batch, day: date) -> Iterator[Record]:
        knobs = {fault.knob: fault for fault in faults}
        if "missing_records" in knobs:
            return
        if "ndjson_extra_types" in knobs:
            error = {"buid": record.person_id, "message": "The person could not be read."}
            yield Record(record.person_id, write(cast(Json, error)).encode(), is_error=True)
            return
        if "null_data" in knobs:
            yield Record(record.person_id, b"null")
            return
        if "empty_docs" in knobs:
            yield Record(record.person_id, b"{}")
        document = self._document(record.person_id, day, *self._asked(batch, record.person_id))
        sent = _sent(document, faults)
        yield from (record if one is document else replace(record, text=_bytes(one)) for one in sent)
        if "foreign_records" in knobs and sent:
            yield from self._foreign(batch, record.person_id, day)

    def _foreign(self, batch: Batch, beside: str, day: date) -> Iterator[Record]:
        """Whoever follows this person among all, and was not asked for."""
        everybody = [person.id for person in self._people.on(day)]
        place = everybody.index(beside)
        for person_id in everybody[place + 1 :] + everybody[:place]:
            if person_id not in batch.ids:
                yield Record(person_id, self._text(person_id, day, frozenset(), frozenset(), batch.objects))
                return


def spoilt_body(text: bytes, strike: Strike, shapes: Mapping[str, bytes]) -> tuple[Reply, Verdict]:
    """The reply with a body that is JSON or lines of it, spoilt as a whole.

    Args:
        text: The body.
        strike: The faults.
        shapes: The bodies for the forms of `shape` that are known here.
    """
    reply, verdict = Reply(200, b""), TRUSTED
    for fault in strike.of("body"):
        if fault.in_rows or fault.knob not in ("malformed_json", "encoding", "shape"):
            continue
        how = fault.word("how")
        if how == "cut":
            text, verdict = text[: len(text) * 2 // 3], Verdict("again", "the JSON is cut", at_most=1)
        elif how == "trailing_comma" and b"]" in text:
            text = b",]".join(text.rsplit(b"]", 1))
        elif how in shapes:
            text = shapes[how]
        elif how == "bom":
            text = b"\xef\xbb\xbf" + text
        elif how == "latin1_body":
            text = text.decode(errors="replace").encode("latin-1", errors="replace")
        elif how == "utf16":
            text = text.decode(errors="replace").encode("utf-16")
            reply = replace(reply, content_type="application/json; charset=utf-16")
        elif how == "bad_utf8_byte":
            text = text.replace(b'":"', b'":"\xff', 1)
        elif how == "wrong_charset_header":
            reply = replace(reply, content_type="application/json; charset=iso-8859-1")
    return replace(reply, body=text), verdict


def _sent(document: Document, faults: Sequence[Fault]) -> list["Document | str"]:
    """What is sent of a person: the document or what faults make of it, none if it is withheld, or several."""
    knobs = {fault.knob: fault for fault in faults}
    if not _WITHHOLDING.isdisjoint(knobs):
        return []
    if "empty_docs" in knobs and knobs["empty_docs"].word("how") == "instead":
        return []
    spoilt: Document | str = document
    for fault in faults:
        spoiler = _spoiler(fault)
        if spoiler is not None and isinstance(spoilt, dict):
            spoilt = spoiler(spoilt, fault)
    if "dup_records" not in knobs:
        return [spoilt]
    is_other = knobs["dup_records"].word("how") == "different"
    return [spoilt, _renamed(document, lambda name: name + "*") if is_other else spoilt]


def _alters(fault: Fault) -> bool:
    return _spoiler(fault) is not None or (fault.knob == "dup_records" and fault.word("how") == "different")


def _spoiler(fault: Fault) -> "_Spoiler | None":
    return _SPOILERS.get((fault.knob, fault.word("how"))) if fault.knob in _SPOILING else None


def _of(strike: Strike, knob: str) -> list[Fault]:
    return [fault for fault in strike.faults if fault.knob == knob]


def _timed_out(after_s: float) -> Answer:
    reply = page(504, "504 Gateway Time-out", "<hr><center>nginx</center>")
    return Answer(reply, verdict=Verdict("again", "status 504"), delay_s=after_s)


def _digest(ids: Sequence[str]) -> str:
    return blake2b(",".join(sorted(ids)).encode(), digest_size=16).hexdigest()


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, Verbatim):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)


def _bytes(spoilt: "Document | str") -> bytes:
    return (spoilt if isinstance(spoilt, str) else write(cast(Json, spoilt))).encode()


def _renamed(document: Document, change: Callable[[str], Json]) -> Document:
    """The document with another last name; the parts it shares with others stay as they are."""
    basic = document["personBasic"]
    if not isinstance(basic, dict):
        return document
    first, *others = cast(list[Document], basic["names"])
    name = {**first, "lastName": change(str(first["lastName"]).strip())}
    return {**document, "personBasic": {**basic, "names": cast(Json, [name, *others])}}


def _with(name: str, value: Callable[[Fault], Json]) -> "_Spoiler":
    return lambda document, fault: {**document, name: value(fault)}


def _named(change: Callable[[str], Json]) -> "_Spoiler":
    return lambda document, fault: _renamed(document, change)


def _basic(change: Callable[[Document], Json]) -> "_Spoiler":
    def spoil(document: Document, fault: Fault) -> Document:
        basic = document["personBasic"]
        return {**document, "personBasic": change(basic)} if isinstance(basic, dict) else document

    return spoil


def _id_as_number(document: Document, fault: Fault) -> Document:
    return {**document, "personid": int(str(document["personid"])[1:])}


def _twice(document: Document, fault: Fault) -> str:
    return write(cast(Json, document))[:-1] + ',"phone":[]}'


def _nested_ssn(document: Document, fault: Fault) -> Document:
    contact: Json = {"name": "A. Example", "Ssn": _INVENTED_SSN, "notes": [{"FINAID": "Y", "n": 1}]}
    details = cast(Document, document["personDetails"])
    return {**document, "personDetails": {**details, "emergencyContact": [contact]}}


_Spoiler = Callable[[Document, Fault], "Document | str"]

_SPOILERS: Final[dict[tuple[str, str], _Spoiler]] = {
    ("malformed_json", "raw_control"): _named(lambda name: Unescaped(f"{name[:1]}\t{name[1:]}")),
    ("malformed_json", "unescaped_quote"): _named(lambda name: Verbatim(f'"{name[:2]}"{name[2:]}"')),
    ("malformed_json", "nan"): _with("gpa", lambda _: Verbatim("NaN")),
    ("malformed_json", "dup_keys"): _twice,
    ("wrong_types", "personid_number"): _id_as_number,
    ("wrong_types", "personid_null"): _with("personid", lambda _: None),
    ("wrong_types", "birth_date_number"): _basic(lambda basic: {**basic, "birthDate": 20040229}),
    ("wrong_types", "person_basic_list"): _basic(lambda basic: [basic]),
    ("poison", "nul"): _named(lambda name: f"{name[:2]}\0{name[2:]}"),
    ("poison", "lone_surrogate"): _named(lambda name: Verbatim(f'"{name[:2]}\\ud83d"')),
    ("poison", "huge_number"): _with("note", lambda _: Verbatim("1e400000")),
    ("poison", "deep_nesting"): _with(
        "note", lambda fault: Verbatim("[" * int(fault.number("depth")) + "]" * int(fault.number("depth")))
    ),
    ("poison", "long_key"): lambda document, fault: {**document, "k" * int(fault.number("length")): "long"},
    ("poison", "huge_doc_mb"): _with("note", lambda fault: "x" * int(fault.number("mb") * 1024 * 1024)),
    ("sensitive_elsewhere", "upper"): _with("SSN", lambda _: _INVENTED_SSN),
    ("sensitive_elsewhere", "mixed"): _with("SocialSecurityNumber", lambda _: _INVENTED_SSN),
    ("sensitive_elsewhere", "nested"): _nested_ssn,
}
_SPOILING: Final = frozenset(knob for knob, _ in _SPOILERS)
_WITHHOLDING: Final = frozenset({"missing_records", "ndjson_extra_types", "null_data"})
