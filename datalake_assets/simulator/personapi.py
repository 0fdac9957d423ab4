"""The Data Engineering Person API: documents of the persons of a batch, as lines of JSON or as one object.

`POST /person/v1/batch` with a key. A batch names ids (`buids`), or terms (`student.uid_car_term`,
`faculty.emplid_term`) without which the documents tell of no term. Who is not known is left out without a word.
Records and their faults stand in `person_records.py`; what happens to the stream of lines stands here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Fault, Strike
from datalake_assets.simulator.frame import TRUSTED, Answer, Question, Received, Reply, Verdict
from datalake_assets.simulator.person_records import (
    OBJECTS,
    PERSON_KNOBS,
    Batch,
    PersonRecords,
    Record,
    batch_of,
    spoilt_body,
)
from datalake_assets.simulator.queries import LOGIN_PAGE

_MESSAGES: Final = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal server error",
    503: "Service Unavailable",
}
_MEMBERS: Final = ("buids", "objects", "options", "student", "faculty")
_GARBAGE: Final = {
    "text": b"--- worker restarted ---",
    "scalar": b"42",
    "bad_utf8": b'{"type":"record","data":{"personid":"U\xff"}}',
}
_SHAPES: Final = {
    "null_data": b'{"data":null}',
    "missing_data_key": b"{}",
    "object_for_array": b'{"data":{}}',
    "empty_result": b'{"data":[]}',
}


class PersonApi:
    """The endpoint that answers batches of persons.

    Args:
        records: What is sent of persons.
        credentials: The key it accepts.
    """

    name = "personapi"
    source = "personapi"
    prefix = "/person"
    route = "/person/v1/batch"
    knobs = PERSON_KNOBS | {
        "ndjson_truncate",
        "ndjson_extra_types",
        "ndjson_crlf",
        "ndjson_bom",
        "ndjson_garbage_line",
    }

    def __init__(self, records: PersonRecords, credentials: Credentials) -> None:
        self._records = records
        self._credentials = credentials

    def read(self, received: Received) -> Question | Reply:
        """Find the batch in a request, or refuse it as gateway and application do."""
        if received.header("x-api-key") != self._credentials.personapi_key:
            return self.failure(403)
        if received.method != "POST":
            return _json(405, {"detail": "Method Not Allowed"}).with_headers(("allow", "POST"))
        if received.parameters:
            return _refused("query", received.parameters[0][0], "Extra inputs are not permitted")
        media_type = (received.header("content-type") or "").partition(";")[0].strip().lower()
        try:
            body = json.loads(received.body.decode("utf-8")) if media_type == "application/json" else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return _refused("body", "", "Input should be a valid dictionary")
        try:
            batch, is_streamed = _read_batch(body)
        except _BodyError as error:
            return _refused("body", error.place, str(error))
        question = batch.question()
        return replace(question, details={**question.details, "is_streamed": is_streamed})

    def question_about(self, kind: str) -> Question | None:
        """Nothing: a batch is never the whole population."""
        return None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """The records of the batch, as lines or in one object."""
        if any(fault.knob == "error_200" and fault.word("how") == "login_html" for fault in strike.faults):
            reply = Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")
            return Answer(reply, verdict=Verdict("final", "an error in a 200: login_html"))
        wrap = _stream if question.details["is_streamed"] else _object
        return self._records.answer(batch_of(question), day, strike, lambda records: wrap(records, strike))

    def failure(self, status: int) -> Reply:
        """The gateway's way to say no."""
        return _json(status, {"message": _MESSAGES[status]})

    def lost(self, received: Received) -> Reply:
        """An address that the application does not have; without a key not even that is told."""
        if received.header("x-api-key") != self._credentials.personapi_key:
            return self.failure(403)
        return _json(404, {"detail": "Not Found"})


class _BodyError(Exception):
    def __init__(self, place: str, message: str) -> None:
        self.place = place
        super().__init__(message)


def _read_batch(body: Mapping[str, Any]) -> tuple[Batch, bool]:
    """The batch that a body names, and whether lines are wanted."""
    for member in body:
        if member not in _MEMBERS:
            raise _BodyError(member, "Extra inputs are not permitted")
    objects = body.get("objects")
    if not isinstance(objects, list) or not objects or not all(item in OBJECTS for item in objects):
        raise _BodyError("objects", f"Input should be a list of {', '.join(OBJECTS)}")
    is_streamed = _read_options(body.get("options", {}))
    if ("buids" in body) == ("student" in body or "faculty" in body):
        raise _BodyError("buids", "Either buids or student and faculty should be given")
    terms: dict[str, set[tuple[str, str]]] = {}
    teaching: dict[str, set[str]] = {}
    ids = list(_read_ids(body["buids"])) if "buids" in body else []
    for row in _read_rows(body, "student", "uid_car_term", ("buid", "acad_career", "strm")):
        ids.append(row["buid"])
        terms.setdefault(row["buid"], set()).add((row["acad_career"], row["strm"]))
    for row in _read_rows(body, "faculty", "emplid_term", ("emplid", "strm")):
        ids.append(row["emplid"])
        teaching.setdefault(row["emplid"], set()).add(row["strm"])
    batch = Batch(
        ids=tuple(dict.fromkeys(ids)),
        terms={person_id: frozenset(found) for person_id, found in terms.items()},
        teaching={person_id: frozenset(found) for person_id, found in teaching.items()},
        objects=frozenset(objects),
    )
    return batch, is_streamed


def _read_options(options: object) -> bool:
    if not isinstance(options, dict):
        raise _BodyError("options", "Input should be a valid dictionary")
    for name, value in options.items():
        if name == "batch_size":
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _BodyError("options.batch_size", "Input should be greater than or equal to 1")
        elif name != "response_format":
            raise _BodyError(f"options.{name}", "Extra inputs are not permitted")
        elif value not in ("ndjson", "json"):
            raise _BodyError("options.response_format", "Input should be 'json' or 'ndjson'")
    return options.get("response_format") == "ndjson"


def _read_ids(ids: object) -> list[str]:
    if not isinstance(ids, list) or not ids or not all(isinstance(item, str) and item for item in ids):
        raise _BodyError("buids", "Input should be a valid list of strings")
    return ids


def _read_rows(body: Mapping[str, Any], section: str, name: str, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a section; columns beyond those needed are taken and not looked at."""
    if section not in body:
        return
    found = body[section]
    rows = found.get(name) if isinstance(found, dict) and list(found) == [name] else None
    if not isinstance(rows, list) or not rows:
        raise _BodyError(f"{section}.{name}", "Input should be a valid list")
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(column), str) and row[column] for column in needed):
            raise _BodyError(f"{section}.{name}", f"Each row needs the texts {', '.join(needed)}")
        yield row


def _object(records: Sequence[Record], strike: Strike) -> tuple[Reply, Verdict]:
    text = b'{"data":[' + b",".join(record.text for record in records if not record.is_error) + b"]}"
    return spoilt_body(text, strike, _SHAPES)


def _stream(records: Sequence[Record], strike: Strike) -> tuple[Reply, Verdict]:
    """Lines, one a record, and what faults make of them."""
    lines = [
        b'{"type":"error","data":%b}' % record.text if record.is_error else b'{"type":"record","data":%b}' % record.text
        for record in records
    ]
    faults = {(fault.knob, _how(fault)): fault for fault in strike.of("body") if not fault.in_rows}
    lines = _with_other_lines(lines, len(records), {how for knob, how in faults if knob == "ndjson_extra_types"})
    for knob, how in faults:
        if knob == "ndjson_garbage_line":
            lines.insert(len(lines) // 2, _GARBAGE[how])
    cut = next((fault for (knob, _), fault in faults.items() if knob == "ndjson_truncate"), None)
    ending = b"\r\n" if ("ndjson_crlf", "") in faults else b"\n"
    text = ending.join([*_kept(lines, cut), b""]) if lines else b""
    if cut is not None and cut.word("how") != "clean_eof":
        text = text[: -len(ending)]
    if ("ndjson_bom", "") in faults:
        text = b"\xef\xbb\xbf" + text
    reply, verdict = spoilt_body(text, strike, {"empty_result": b""})
    kind = reply.content_type.replace("application/json", "application/x-ndjson")
    verdict = verdict if verdict is not TRUSTED or cut is None else Verdict("again", "the stream is cut")
    return replace(reply, content_type=kind, streamed=True), verdict


def _with_other_lines(lines: list[bytes], count: int, kinds: set[str]) -> list[bytes]:
    if "heartbeat" in kinds:
        lines = [line for start in range(0, len(lines), 10) for line in (*lines[start : start + 10], b"")]
    if "meta" in kinds:
        lines = [b'{"type":"meta","data":{"version":"1","objects":4}}', *lines]
    if "summary" in kinds:
        lines = [*lines, b'{"type":"summary","data":{"records":%d}}' % count]
    return lines


def _kept(lines: list[bytes], cut: Fault | None) -> list[bytes]:
    """The lines before the end of the stream; the last one is half a line if it ends within one."""
    if cut is None or cut.word("how") == "no_final_newline":
        return lines
    kept = lines[: int(len(lines) * cut.number("share"))]
    if cut.word("how") == "mid_line":
        broken = lines[min(len(kept), len(lines) - 1)]
        return [*kept[: len(lines) - 1], broken[: len(broken) // 2]]
    return kept


def _how(fault: Fault) -> str:
    return fault.word("how") if fault.knob in ("ndjson_truncate", "ndjson_extra_types", "ndjson_garbage_line") else ""


def _json(status: int, body: object) -> Reply:
    return Reply(status, json.dumps(body, separators=(",", ":")).encode())


def _refused(where: str, place: str, message: str) -> Reply:
    location = [where, *filter(None, place.split("."))]
    return _json(422, {"detail": [{"type": "value_error", "loc": location, "msg": message}]})
