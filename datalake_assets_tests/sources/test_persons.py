import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.exact_json import DuplicateKeys, JsonValue, defects
from datalake_assets.sources import persons as persons_module
from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.persons import BatchAnswer, PersonApi, PersonRequest, SnapLogicPersons
from datalake_assets.sources.policies import PERSON_BATCH
from datalake_assets.worker import Worker
from datalake_assets_tests.sources.fault_server import (
    FaultServer,
    Reply,
    Request,
    Wire,
    answer,
    chunks,
    close_delimited,
    gzipped,
    head,
    serving,
)

pytestmark = pytest.mark.anyio

FAST = replace(PERSON_BATCH, read_s=0.3, total_s=0.6, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)
A, B, C, STRANGER = "U00000001", "U00000002", "U00000003", "U00000009"
KEY = "canary-key-42"

Client = Callable[[FaultServer], PersonApi | SnapLogicPersons]


def person_api(server: FaultServer, **more: Any) -> PersonApi:
    return PersonApi(f"{server.url}/person/v1/batch", SecretStr(KEY), **{"policy": FAST, **more})


def snaplogic(server: FaultServer, **more: Any) -> SnapLogicPersons:
    url = f"{server.url}/snaplogic/person"
    return SnapLogicPersons(url, SecretStr(KEY), cs_env="ptst", **{"policy": FAST, **more})


def requests(*ids: str) -> list[PersonRequest]:
    return [PersonRequest(id_) for id_ in ids]


def term(id_: str, strm: str = "2258", career: str = "UGRD", **more: Any) -> dict[str, Any]:
    return {"buid": id_, "acad_career": career, "strm": strm, **more}


def unchanged(document: JsonValue, pointer: str) -> JsonValue:
    return document


def record(id_: str, **more: Any) -> bytes:
    return json.dumps({"type": "record", "data": {"personid": id_, **more}}, ensure_ascii=False).encode() + b"\n"


def line(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


def ndjson(*lines: bytes) -> Reply:
    return answer(b"".join(lines), content_type="application/x-ndjson")


async def fetch(
    *replies: Reply, batch: Sequence[PersonRequest] | None = None, client: Client = person_api
) -> tuple[BatchAnswer, list[Request]]:
    async with serving(*replies) as server, client(server) as persons:
        got = await persons.fetch(requests(A, B, C) if batch is None else batch, unchanged)
    return got, server.requests


# ------------------------------------------------------------------------------------------- what is asked


async def test_persons_with_terms_are_asked_in_the_documented_form() -> None:
    batch = [
        PersonRequest(A, (term(A, units=Decimal("4.00")), term(A, "2261")), ({"emplid": A, "strm": "2258"},)),
        PersonRequest(B, (), ({"emplid": B, "strm": "2258"},)),
    ]
    _, (request,) = await fetch(ndjson(record(A), record(B)), batch=batch)
    assert (request.method, request.target, request.headers["x-api-key"]) == ("POST", "/person/v1/batch", KEY)
    assert b'"units":4.00}' in request.body
    assert json.loads(request.body) == {
        "objects": ["student", "affiliate", "faculty", "employee"],
        "options": {"response_format": "ndjson", "batch_size": 5},
        "student": {"uid_car_term": [term(A, units=4.0), term(A, "2261")]},
        "faculty": {"emplid_term": [{"emplid": A, "strm": "2258"}, {"emplid": B, "strm": "2258"}]},
    }


async def test_an_empty_half_of_the_terms_is_left_out() -> None:
    _, (request,) = await fetch(ndjson(record(A)), batch=[PersonRequest(A, (term(A),))])
    assert "faculty" not in json.loads(request.body)


async def test_persons_without_terms_are_asked_by_id() -> None:
    _, (request,) = await fetch(ndjson(record(A), record(B), record(C)))
    assert json.loads(request.body) == {
        "buids": [A, B, C],
        "objects": ["student", "affiliate", "faculty", "employee"],
        "options": {"response_format": "ndjson"},
    }


async def test_the_environment_is_sent_where_it_is_set() -> None:
    """Fault P17: it was configured and never sent."""
    _, (request,) = await fetch(ndjson(record(A)), client=lambda server: person_api(server, cs_env="prd"))
    assert request.target == "/person/v1/batch?csEnv=prd"


async def test_snaplogic_is_asked_in_a_literal_that_no_value_can_break_out_of() -> None:
    """Fault D5: hand-built pseudo-JSON with unescaped values."""
    batch = [
        PersonRequest(
            A,
            (
                term(A),
                term(A, career='X"}],evil:[{"\\'),
            ),
        )
    ]
    _, (request,) = await fetch(answer([{"personid": A}]), batch=batch, client=snaplogic)
    assert request.target == (
        "/snaplogic/person?objects=%5B%27student%27,%27affiliate%27,%27faculty%27,%27employee%27%5D&csEnv=ptst"
    )
    assert json.loads(request.body) == {
        "uidCarTerm": f'[{{BUID:"{A}",ACAD_CAREER:"UGRD",STRM:"2258"}},'
        f'{{BUID:"{A}",ACAD_CAREER:"X\\"}}],evil:[{{\\"\\\\",STRM:"2258"}}]'
    }


async def test_snaplogic_is_asked_for_persons_without_student_terms_by_id() -> None:
    batch = [PersonRequest(A, (), ({"emplid": A, "strm": "2258"},))]
    _, (request,) = await fetch(answer([{"personid": A}]), batch=batch, client=snaplogic)
    assert json.loads(request.body) == {"uidCarTerm": f'[{{BUID:"{A}"}}]'}


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "U1234567",
        "U123456789",
        "u12345678",
        "U1234567\n",
        "U\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        '"}],x:[{',
    ],
)
def test_an_id_of_no_university_form_is_never_asked(id_: str) -> None:
    with pytest.raises(ValueError, match="not U and eight digits") as caught:
        PersonRequest(id_)
    assert not id_ or id_ not in str(caught.value)


async def test_persons_with_and_without_terms_are_not_mixed() -> None:
    """Beside terms the API takes no ids: who has none would silently not be asked for."""
    with pytest.raises(ValueError, match="either persons with terms or persons without"):
        await fetch(ndjson(), batch=[PersonRequest(A, (term(A),)), PersonRequest(B)])


# ---------------------------------------------------------------------------------------- what is answered


async def test_documents_are_given_by_id_without_loss() -> None:
    first = record(A, name="a\u2028b\u0085c")
    second = b'{"type":"record","data":{"personid":" U00000002 ","gpa":4.00}}\n'
    got, _ = await fetch(ndjson(first, second), batch=requests(A, B))
    assert got.documents == {
        A: ({"personid": A, "name": "a\u2028b\u0085c"},),
        B: ({"personid": " U00000002 ", "gpa": Decimal("4.00")},),
    }
    assert str(got.documents[B][0]["gpa"]) == "4.00"
    assert (got.missing, got.unusable, got.empty, got.foreign, got.partial) == ((), (), 0, 0, False)
    assert got.pointer.startswith("the person API, http://127.0.0.1")
    assert (got.bytes_in, got.seconds > 0) == (len(first + second), True)


UNUSABLE_LINES = [
    (b'{"type":"record","data":null}', "record_not_object"),
    (b'{"type":"record"}', "record_not_object"),
    (b'{"type":"record","data":[]}', "record_not_object"),
    (b'{"type":"record","data":{"name":"x"}}', "record_without_id"),
    (b'{"type":"record","data":{"personid":null}}', "record_without_id"),
    (b'{"type":"record","data":{"personid":3}}', "record_without_id"),
    (b'{"type":"record","data":{"personid":" "}}', "record_without_id"),
    (b'{"type":"record","type":"error","data":{}}', "duplicate_key"),
    (b'{"data":{"personid":"U00000003"}}', "line_without_type"),
    (b"[1]", "line_not_object"),
    (b'"text"', "line_not_object"),
    (b"17", "line_not_object"),
    (b"<html>", "not_json"),
    (b'{"type":"record","data":{"pers', "not_json"),
    (b'{"type":"record","data":{"personid":"U00000003","x":"\xff"}}', "line_not_utf8"),
]


@pytest.mark.parametrize(("bad", "rule"), UNUSABLE_LINES)
async def test_a_line_that_cannot_be_used_costs_itself_only(bad: bytes, rule: str) -> None:
    """Faults P9, P10: one such line discarded the batch, five times; records without an id vanished uncounted."""
    got, asked = await fetch(ndjson(record(A), bad + b"\n", record(B)))
    assert set(got.documents) == {A, B}
    assert [(line.number, line.rule) for line in got.unusable] == [(2, rule)]
    assert got.unusable[0].reason.endswith(".")
    assert got.missing == (C,)
    assert len(asked) == 1


async def test_empty_objects_are_counted() -> None:
    got, _ = await fetch(ndjson(record(A), line(type="record", data={}), line(type="record", data={})))
    assert (got.empty, got.missing) == (2, (B, C))


async def test_records_of_nobody_asked_are_counted_and_never_kept() -> None:
    """Fault P8: foreign records were accepted."""
    got, _ = await fetch(ndjson(record(A), record(STRANGER), record(B), record(C)))
    assert (set(got.documents), got.foreign) == ({A, B, C}, 1)


async def test_equal_documents_of_one_person_are_one_and_different_ones_are_kept() -> None:
    """Fault P8: the last one won."""
    got, _ = await fetch(ndjson(record(A, x=1), record(B, x=1), record(A, x=1), record(B, x=True), record(C)))
    assert got.documents[A] == ({"personid": A, "x": 1},)
    assert [str(document["x"]) for document in got.documents[B]] == ["1", "True"]


async def test_an_error_condemns_the_persons_it_names() -> None:
    """Fault P8: error lines were ignored."""
    error = line(type="error", message=f"timeout for {B}", details={"buid": C})
    got, _ = await fetch(ndjson(record(A), record(B), error))
    assert (set(got.documents), set(got.refused), got.missing) == ({A}, {B, C}, ())
    assert got.refused[B] == "timeout for ***"
    assert got.complaints == ()


async def test_an_error_that_names_nobody_is_told() -> None:
    got, _ = await fetch(ndjson(record(A), line(type="error", error={"message": "upstream down"}), line(detail="no")))
    assert (got.complaints, got.refused, got.missing) == (("upstream down", "no"), {}, (B, C))


async def test_an_error_in_place_of_documents_is_a_failure() -> None:
    async with serving(ndjson(line(type="error", message="upstream down"))) as server, person_api(server) as persons:
        with pytest.raises(PermanentSourceError, match="error instead of documents: upstream down") as caught:
            await persons.fetch(requests(A), unchanged)
    assert caught.value.status == 200


async def test_lines_of_other_types_are_counted_by_name() -> None:
    lines = [line(type="metadata", n=1), b"\n", record(A), b" \r\n", line(type="summary"), line(type="metadata")]
    got, _ = await fetch(ndjson(*lines), batch=requests(A))
    assert (got.unknown_types, got.unusable, got.missing) == ({"metadata": 2, "summary": 1}, (), ())


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b'"a\\u0000b"', "nul_character"),
        (b'"\\ud800"', "lone_surrogate"),
        (b"NaN", "not_a_number"),
        (b"1e999999", "number_too_large"),
        (b"[" * 500 + b"]" * 500, "nesting_too_deep"),
        (b'{"a":1,"a":2}', "duplicate_key"),
    ],
)
async def test_a_value_that_a_database_refuses_reaches_the_lake_with_its_defect(value: bytes, rule: str) -> None:
    """Fault P11: one such value lost the batch; it must cost its person, and not pass for something else."""
    poisoned = b'{"type":"record","data":{"personid":"U00000002","x":%b}}\n' % value
    got, _ = await fetch(ndjson(record(A), poisoned, record(C)))
    assert got.missing == ()
    assert [defects(got.documents[id_][0]) for id_ in (A, B, C)] == [None, rule, None]


async def test_a_record_that_names_a_field_twice_is_kept_as_such() -> None:
    twice = b'{"type":"record","data":{"personid":"U00000001","x":1,"x":2}}\n'
    got, _ = await fetch(ndjson(twice), batch=requests(A))
    assert isinstance(got.documents[A][0], DuplicateKeys)


@pytest.mark.parametrize("media", ["application/x-ndjson", "application/json", "text/plain", "application/jsonl"])
async def test_lines_are_taken_under_every_name_they_go_by(media: str) -> None:
    body = b"\xef\xbb\xbf" + record(A).replace(b"\n", b"\r\n")
    got, _ = await fetch(answer(body, content_type=f"{media}; charset=latin-1"), batch=requests(A))
    assert set(got.documents) == {A}


# --------------------------------------------------------------------------------------- streams that break


async def stall_after(wire: Wire, body: bytes) -> None:
    await wire.send(head(headers={"Transfer-Encoding": "chunked"}))
    await wire.send(b"%x\r\n%b\r\n" % (len(body), body))
    await wire.client_left()


def breaking_streams(body: bytes) -> dict[str, Reply]:
    async def stall(_: Request, wire: Wire) -> None:
        await stall_after(wire, body)

    async def drip(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Content-Length": "100000"}) + body)
        for _ in range(20):
            await wire.send(b" ")
            await asyncio.sleep(0.05)

    return {
        "no last chunk": chunks(body, ended=False),
        "cut inside a line": chunks(body, b'{"type":"reco', ended=False),
        "ended inside a line": chunks(body, b'{"type":"reco'),
        "closed": close_delimited(body),
        "gzip cut": gzipped(body + record(STRANGER, x="y" * 3000), 5),
        "silence": stall,
        "deadline": drip,
    }


@pytest.mark.parametrize("how", breaking_streams(b""))
async def test_a_stream_that_breaks_keeps_what_came_before(how: str) -> None:
    """Faults P8, P9: a cut line threw away the batch, a clean early end passed for the whole of it."""
    got, asked = await fetch(breaking_streams(record(A) + record(B))[how])
    assert (set(got.documents), got.missing, got.partial) == ({A, B}, (C,), True)
    assert len(asked) == 1, "what is missing is asked for, not the batch"


@pytest.mark.parametrize("how", ["no last chunk", "cut inside a line", "silence", "deadline", "ended inside a line"])
async def test_a_stream_that_breaks_before_the_first_document_is_asked_again(how: str) -> None:
    got, asked = await fetch(breaking_streams(line(type="metadata"))[how], ndjson(record(A)), batch=requests(A))
    assert (set(got.documents), got.partial, len(asked)) == ({A}, False, 2)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as started:
        yield started


@pytest.mark.parametrize("held", [persons_module.HELD_BYTES, 100], ids=["held", "too long to be held"])
@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(ndjson(record(A), record(B, x=1), record(B, x=True), record(B, x=1)), id="documents"),
        pytest.param(ndjson(record(A), *(bad + b"\n" for bad, _ in UNUSABLE_LINES), record(B)), id="unusable"),
        pytest.param(ndjson(record(STRANGER), line(type="record", data={}), line(type="x" * 300)), id="counted"),
        pytest.param(ndjson(line(type="error", message=f"no {B}"), line(detail=f"{STRANGER}"), record(A)), id="errors"),
        *(pytest.param(reply, id=how) for how, reply in breaking_streams(record(A) + record(B)).items()),
    ],
)
async def test_what_a_second_process_reads_is_what_this_one_reads(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, reply: Reply, held: int
) -> None:
    monkeypatch.setattr(persons_module, "HELD_BYTES", held)
    here, _ = await fetch(reply)
    there, _ = await fetch(reply, client=lambda server: person_api(server, worker=worker))
    told = [
        {name: repr(value) for name, value in vars(got).items() if name not in {"pointer", "seconds"}}
        for got in (here, there)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("client", "reply"),
    [
        *(pytest.param(snaplogic, answer(body), id=body.decode()) for body in (b"[", b"[{},", b"[{}}")),
        *(pytest.param(person_api, reply, id=how) for how, reply in breaking_streams(line(type="metadata")).items()),
    ],
)
async def test_a_second_process_tells_why_an_answer_cannot_be_read(
    worker: Worker, client: Callable[..., PersonApi | SnapLogicPersons], reply: Reply
) -> None:
    told = []
    for reader in (None, worker):
        async with serving(reply, reply) as server, client(server, worker=reader) as persons:
            with pytest.raises(SourceError) as caught:
                await persons.fetch(requests(A), unchanged)
        told.append((type(caught.value), caught.value.what))
    assert told[0] == told[1]


async def test_an_early_end_that_looks_clean_leaves_persons_missing() -> None:
    got, _ = await fetch(chunks(record(A)))
    assert (got.missing, got.partial) == ((B, C), False)


@pytest.mark.parametrize("body", [b"", b"\n"])
async def test_a_stream_without_a_line_leaves_everybody_missing(body: bytes) -> None:
    """The API leaves out whom it does not know, without a word; that is no reason to ask a hundred times."""
    got, asked = await fetch(ndjson(body))
    assert (got.missing, got.partial, len(asked)) == ((A, B, C), False, 1)
    with pytest.raises(TransientSourceError, match="ended early, before the first document"):
        await fetch(close_delimited(body))


async def test_a_last_line_without_its_end_counts_if_nobody_is_missing() -> None:
    got, _ = await fetch(ndjson(record(A), record(B).rstrip()), batch=requests(A, B))
    assert (set(got.documents), got.partial) == ({A, B}, False)


async def test_a_broken_stream_with_everybody_in_it_is_whole() -> None:
    got, _ = await fetch(chunks(record(A), record(B), ended=False), batch=requests(A, B))
    assert (got.missing, got.partial) == ((), False)


# ------------------------------------------------------------------------------------------------ SnapLogic


async def test_snaplogic_answers_with_an_array_some_of_which_is_empty() -> None:
    body = [{"personid": A, "x": 1}, {}, {"personid": STRANGER}, None, {"x": 1}, {}, {"personid": B}]
    got, _ = await fetch(answer(body), client=snaplogic)
    assert got.documents == {A: ({"personid": A, "x": 1},), B: ({"personid": B},)}
    assert (got.empty, got.foreign, got.missing, got.partial) == (2, 1, (C,), False)
    assert [(line.number, line.rule) for line in got.unusable] == [(4, "record_not_object"), (5, "record_without_id")]


async def test_snaplogic_answers_with_an_object_where_there_is_one_document() -> None:
    got, _ = await fetch(answer({"personid": A}), batch=requests(A), client=snaplogic)
    assert set(got.documents) == {A}


async def test_snaplogic_handles_an_error_and_answers_200() -> None:
    error = {"error": "failed", "reason": f"no {B}", "resolution": "wait", "stacktrace": "at x"}
    got, _ = await fetch(answer([{"personid": A}, error]), client=snaplogic)
    assert (set(got.documents), set(got.refused)) == ({A}, {B})
    for body in (error | {"reason": "x"}, [error | {"reason": "x"}]):
        with pytest.raises(PermanentSourceError, match="error instead of documents: failed; x; wait"):
            await fetch(answer(body), client=snaplogic)


async def test_an_array_that_is_cut_keeps_what_came_before() -> None:
    body = b'[{"personid":"U00000001"},{"personid":"U0000'
    got, asked = await fetch(answer(body), client=snaplogic)
    assert (set(got.documents), got.missing, got.partial, len(asked)) == ({A}, (B, C), True, 1)


async def test_an_array_that_is_no_json_is_a_failure() -> None:
    with pytest.raises(PermanentSourceError, match="is not readable"):
        await fetch(answer(b'[}{"personid":"U00000001"}]'), client=snaplogic)


async def test_one_item_that_is_no_json_costs_itself_only() -> None:
    body = b'[{"personid":"U00000001"},{"personid":"U00000002",},{"personid":"U00000003"}]'
    got, _ = await fetch(answer(body), client=snaplogic)
    assert (set(got.documents), [line.rule for line in got.unusable]) == ({A, C}, ["not_json"])


# -------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("client", [person_api, snaplogic])
async def test_nothing_secret_or_personal_is_said_or_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Fault X3: full lists of ids and complete error bodies were logged."""
    caplog.set_level(logging.DEBUG)
    name = "Canary Person"
    batch = requests(A, B)
    error = answer({"message": f"{A} and {B}, key {KEY}", "ssn": "900-12-3456"}, 400)
    async with serving(error) as server, client(server) as persons:
        with pytest.raises(SourceError) as caught:
            await persons.fetch(batch, unchanged)
    said = "".join(traceback.format_exception(caught.value))
    lines = [line(type="record", data={"personid": A, "name": name}), record(STRANGER), b'{"x": "Canary Person"\n']
    body = ndjson(*lines) if client is person_api else answer([{"personid": A, "name": name}, {"name": name}])
    got, _ = await fetch(body, batch=batch, client=client)
    said += repr(got) + repr(batch) + str(got.unusable) + got.pointer + caplog.text
    assert [canary for canary in (A, B, STRANGER, KEY, name, "900-12-3456") if canary in said] == []


async def test_a_wrong_key_costs_one_request() -> None:
    async with serving(answer({"message": "Forbidden"}, 403)) as server, person_api(server) as persons:
        asked = [persons.fetch(requests(id_), unchanged) for id_ in (A, B, C)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(failure, PermanentSourceError) and failure.source_stopped for failure in failures)
    assert len(server.requests) == 1


async def test_a_source_that_is_down_is_asked_as_often_as_its_policy_says() -> None:
    async with serving(answer(b"", 504)) as server, person_api(server) as persons:
        with pytest.raises(TransientSourceError, match="status 504"):
            await persons.fetch(requests(A), unchanged)
        assert (persons.stats.requests, persons.stats.retries, persons.concurrency) == (2, 1, 5)
