r"""The person task of SnapLogic: documents of persons, asked for in a text that only looks like JSON.

`POST /snaplogic/person?objects=['student',...]&csEnv=..` with a key and `{"uidCarTerm": "[{BUID:\"U..\"}]"}`: the
text is a literal of JavaScript with bare names, and is read as strictly as one. The answer is an array in which
empty objects stand here and there. Records and their faults stand in `person_records.py`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.frame import Answer, Question, Received, Reply, Verdict
from datalake_assets.simulator.person_records import (
    OBJECTS,
    PERSON_KNOBS,
    Batch,
    PersonRecords,
    Record,
    batch_of,
    spoilt_body,
)
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.queries import LOGIN_PAGE
from datalake_assets.simulator.snaplogic import snaplogic_error, snaplogic_error_document

_ENVIRONMENTS: Final = ("ptst", "prd", "test", "prod")
_OBJECTS: Final = re.compile(r"\['[a-z]+'(?:, ?'[a-z]+')*\]")
_ROW: Final = re.compile(r'\{([A-Z_]+:"[^"\\\x00-\x1f]*"(?:,[A-Z_]+:"[^"\\\x00-\x1f]*")*)\}')
_MEMBER: Final = re.compile(r'([A-Z_]+):"([^"]*)"')
_SHAPES: Final = {
    "null_data": b"null",
    "missing_data_key": b"{}",
    "object_for_array": b'{"data":{}}',
    "empty_result": b"[]",
}


class SnapPerson:
    """The endpoint that answers batches of persons.

    Args:
        records: What is sent of persons.
        credentials: The key it accepts.
        config: The knobs, of which the share of empty objects matters.
    """

    name = "snapperson"
    source = "snaplogic"
    prefix = "/snaplogic"
    route = "/snaplogic/person"
    knobs = PERSON_KNOBS

    def __init__(self, records: PersonRecords, credentials: Credentials, config: Config) -> None:
        self._records = records
        self._credentials = credentials
        self._empty_share = config.empty_docs_rate
        self._dice = Dice(config.seed)

    def read(self, received: Received) -> Question | Reply:
        """Find the batch in a request, or refuse it as the platform does."""
        if received.header("x-api-key") != self._credentials.snaplogic_person_key:
            return self.failure(401)
        if received.method != "POST":
            return self.failure(405).with_headers(("allow", "POST"))
        parameters = received.parameters
        asked = dict(parameters)
        objects = _read_objects(asked.get("objects", ""))
        if sorted(name for name, _ in parameters) != ["csEnv", "objects"] or not objects:
            return self.failure(400)
        if asked["csEnv"] not in _ENVIRONMENTS:
            return self.failure(400)
        media_type = (received.header("content-type") or "").partition(";")[0].strip().lower()
        try:
            body = json.loads(received.body.decode("utf-8")) if media_type == "application/json" else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict) or list(body) != ["uidCarTerm"] or not isinstance(body["uidCarTerm"], str):
            return self.failure(400)
        rows = _read_rows(body["uidCarTerm"])
        # The pipeline has nothing that handles a text it cannot read.
        return _batch(rows, objects).question() if rows else self.failure(500)

    def question_about(self, kind: str) -> Question | None:
        """Nothing: a batch is never the whole population."""
        return None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """The records of the batch in an array."""
        for fault in strike.faults:
            if fault.knob == "error_200" and fault.word("how") in ("login_html", "snap_error_doc"):
                how = fault.word("how")
                page = Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")
                reply = page if how == "login_html" else snaplogic_error_document()
                return Answer(reply, verdict=Verdict("final", f"an error in a 200: {how}"))

        def wrap(records: Sequence[Record]) -> tuple[Reply, Verdict]:
            texts: list[bytes] = []
            for record in records:
                texts.append(record.text)
                if self._dice.chance(self._empty_share, "empty", record.person_id, day):
                    texts.append(b"{}")
            return spoilt_body(b"[" + b",".join(texts) + b"]", strike, _SHAPES)

        return self._records.answer(batch_of(question), day, strike, wrap)

    def failure(self, status: int) -> Reply:
        """The platform's way to say no."""
        return snaplogic_error(status)

    def lost(self, received: Received) -> Reply:
        """A task that is not there."""
        return self.failure(404)


def _read_objects(text: str) -> frozenset[str]:
    """The sections of a list such as `['student','faculty']`; none if it is no such list."""
    named = re.findall(r"'([a-z]+)'", text) if _OBJECTS.fullmatch(text) else []
    return frozenset(named) if all(name in OBJECTS for name in named) else frozenset()


def _read_rows(text: str) -> list[Mapping[str, str]]:
    """The rows of a literal of JavaScript, each with an id and maybe a term; none if it is anything else."""
    literal = text.strip()
    if not (literal.startswith("[") and literal.endswith("]")):
        return []
    rows: list[Mapping[str, str]] = []
    place, end = 1, len(literal) - 1
    while True:
        found = _ROW.match(literal, place, end)
        if found is None:
            return []
        members = _MEMBER.findall(found[1])
        row = dict(members)
        if len(row) != len(members) or set(row) not in ({"BUID"}, {"BUID", "ACAD_CAREER", "STRM"}):
            return []
        rows.append(row)
        place = found.end()
        if place == end:
            return rows
        if literal[place] != ",":
            return []
        place += 2 if literal[place + 1 : place + 2] == " " else 1


def _batch(rows: Sequence[Mapping[str, str]], objects: frozenset[str]) -> Batch:
    terms: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        if "STRM" in row:
            terms.setdefault(row["BUID"], set()).add((row["ACAD_CAREER"], row["STRM"]))
    return Batch(
        ids=tuple(dict.fromkeys(row["BUID"] for row in rows)),
        terms={person_id: frozenset(found) for person_id, found in terms.items()},
        # This API has no place to name the terms that somebody teaches.
        teaching=None,
        objects=objects,
    )
