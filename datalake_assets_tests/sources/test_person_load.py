import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.exact_json import JsonValue
from datalake_assets.sources import person_load
from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.peoplesoft import CsTools
from datalake_assets.sources.person_load import LoadProgress, Member, PersonResult, Terms, load_persons
from datalake_assets.sources.persons import PersonApi
from datalake_assets.sources.policies import PERSON_BATCH, PERSON_TERMS, RequestPolicy
from datalake_assets_tests.sources.fault_server import FaultServer, Reply, Request, Wire, answer, chunks, serving

pytestmark = pytest.mark.anyio

FAST_TERMS = replace(PERSON_TERMS, read_s=5, total_s=5, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)
FAST_BATCH = replace(PERSON_BATCH, read_s=5, total_s=5, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)

Rows = list[dict[str, Any]]


def person(number: int) -> str:
    return f"U{number:08}"


def students(*numbers: int) -> list[Member]:
    return [Member(person(number), True, False) for number in numbers]


def plain(*numbers: int) -> list[Member]:
    return [Member(person(number), False, False) for number in numbers]


@dataclass
class World:
    """CS Tools and the person API on loopback, answering for everybody unless told otherwise.

    Attributes:
        terms: Rows of term queries, by id; everybody else has none.
        teaching: Rows of faculty queries, by id.
        bad_terms: What is answered instead to the query about a person.
        unheard: Persons whose first query is answered as if they had no terms.
        bad_batch: What is answered instead to a batch of ids; None for a good answer.
        unknown: Persons of whom the API says nothing.
    """

    terms: dict[str, Rows] = field(default_factory=dict)
    teaching: dict[str, Rows] = field(default_factory=dict)
    bad_terms: dict[str, Reply] = field(default_factory=dict)
    unheard: set[str] = field(default_factory=set)
    bad_batch: Callable[[list[str], int], Reply | None] = lambda ids, attempt: None
    unknown: set[str] = field(default_factory=set)
    query_s: float = 0
    batch_s: float = 0
    asked_terms: list[str] = field(default_factory=list)
    asked_batches: list[list[str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    batches_under_way: int = 0
    most_batches: int = 0
    _attempts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    async def reply(self, request: Request, wire: Wire) -> None:
        body = json.loads(request.body)
        if request.target == "/person":
            await self._batch(body, request, wire)
        else:
            await self._query(body, request, wire)

    async def _query(self, body: dict[str, Any], request: Request, wire: Wire) -> None:
        (id_,) = body["prompt_values"]
        self.asked_terms.append(id_)
        await asyncio.sleep(self.query_s)
        if id_ in self.bad_terms:
            await self.bad_terms[id_](request, wire)
            return
        rows = (self.terms if body["query_name"] == "BU_TERM_STD_FULL_TERM" else self.teaching).get(id_, [])
        if id_ in self.unheard:
            self.unheard.remove(id_)
            rows = []
        numbered = [{"attr:rownumber": number, **row} for number, row in enumerate(rows, start=1)]
        await answer({"data": numbered})(request, wire)

    async def _batch(self, body: dict[str, Any], request: Request, wire: Wire) -> None:
        rows = body.get("student", {}).get("uid_car_term", []), body.get("faculty", {}).get("emplid_term", [])
        named = [*body.get("buids", []), *(row["buid"] for row in rows[0]), *(row["emplid"] for row in rows[1])]
        ids = list(dict.fromkeys(named))
        self.asked_batches.append(ids)
        self.bodies.append(body)
        self._attempts[tuple(ids)] += 1
        self.batches_under_way += 1
        self.most_batches = max(self.most_batches, self.batches_under_way)
        try:
            await asyncio.sleep(self.batch_s)
            bad = self.bad_batch(ids, self._attempts[tuple(ids)])
            await (bad or ndjson(*[id_ for id_ in ids if id_ not in self.unknown]))(request, wire)
        finally:
            self.batches_under_way -= 1


def records(*ids: str) -> bytes:
    return b"".join(json.dumps({"type": "record", "data": {"personid": id_}}).encode() + b"\n" for id_ in ids)


def ndjson(*ids: str) -> Reply:
    return answer(records(*ids), content_type="application/x-ndjson")


def unchanged(document: JsonValue, pointer: str) -> JsonValue:
    return document


class Memory:
    def __init__(self) -> None:
        self.kept: list[list[Terms]] = []
        self.known: dict[str, Terms] = {}

    def get(self, person_id: str, /) -> Terms | None:
        return self.known.get(person_id)

    async def keep(self, answers: Sequence[Terms], /) -> None:
        await asyncio.sleep(0)
        self.kept.append(list(answers))
        self.known |= {answer.id: answer for answer in answers}


@asynccontextmanager
async def sources(
    world: World, *, terms: RequestPolicy = FAST_TERMS, batch: RequestPolicy = FAST_BATCH
) -> AsyncIterator[tuple[CsTools, PersonApi, FaultServer]]:
    key = SecretStr("canary-key")
    async with (
        serving(world.reply) as server,
        CsTools(f"{server.url}/terms", key, policy=terms) as queries,
        PersonApi(f"{server.url}/person", key, policy=batch) as persons,
    ):
        yield queries, persons, server


async def load(world: World, members: Iterable[Member], **more: Any) -> dict[str, PersonResult]:
    """Everybody's result; every member has exactly one."""
    policies = {name: more.pop(name) for name in ("terms", "batch") if name in more}
    members = list(members)
    results: list[PersonResult] = []
    async with sources(world, **policies) as (queries, persons, _):
        arguments: dict[str, Any] = {
            "queries": queries,
            "persons": persons,
            "memory": Memory(),
            "take": unchanged,
            **more,
        }
        async with aclosing(load_persons(members, **arguments)) as groups:
            async for group in groups:
                results += group
    assert sorted(result.id for result in results) == sorted(member.id for member in members)
    return {result.id: result for result in results}


def failed(results: dict[str, PersonResult]) -> dict[str, str]:
    return {id_: result.rule for id_, result in results.items() if result.outcome == "failed"}


def term_row(number: int, strm: str = "2258", **more: Any) -> dict[str, Any]:
    return {"CAMPUS_ID": person(number), "ACAD_CAREER": "UGRD", "STRM": strm, **more}


def world_of_students(*numbers: int, terms: int = 1, **more: Any) -> World:
    rows = {person(number): [term_row(number, str(2251 + term)) for term in range(terms)] for number in numbers}
    return World(terms=rows, **more)


# --------------------------------------------------------------------------------------------- what is asked


async def test_terms_go_from_the_queries_to_the_batch_as_the_api_wants_them() -> None:
    world = World(
        terms={person(1): [term_row(1, " 2258", UNITS=4), term_row(1, "2258", UNITS=4), term_row(1, "2261", UNITS=0)]},
        teaching={person(2): [{"STRM": 2258}, {"EMPLID": "U77777777 ", "STRM": "2261"}, {"STRM": "2258"}]},
    )
    both = Member(person(1), True, True)
    results = await load(world, [both, Member(person(2), False, True)])
    assert failed(results) == {}
    assert sorted(world.asked_terms) == [person(1)] * 3 + [person(2)], "an empty answer is asked for twice"
    student = [
        {"buid": person(1), "acad_career": "UGRD", "strm": strm, "units": n} for strm, n in (("2258", 4), ("2261", 0))
    ]
    assert world.bodies[0]["student"] == {"uid_car_term": student}
    assert world.bodies[0]["faculty"] == {
        "emplid_term": [{"emplid": person(2), "strm": "2258"}, {"emplid": "U77777777", "strm": "2261"}]
    }


async def test_a_confirmed_empty_answer_means_no_terms() -> None:
    world = world_of_students(1)
    results = await load(world, [*students(1, 2), *plain(3)])
    assert failed(results) == {}
    assert sorted(world.asked_batches) == [[person(1)], [person(2)], [person(3)]]
    assert [sorted(body)[0] for body in world.bodies].count("buids") == 2


async def test_terms_that_were_not_found_at_first_are_not_lost() -> None:
    """Invariant 2: PeopleSoft answers alike whether somebody has no terms or it found none."""
    world = world_of_students(*range(20), unheard={person(number) for number in range(20)})
    assert failed(await load(world, students(*range(20)))) == {}
    assert [sorted(body)[-1] for body in world.bodies] == ["student"], "the one batch has everybody's terms"


@pytest.mark.parametrize("without", [5, 6])
async def test_too_many_without_terms_are_not_believed(without: int) -> None:
    """Invariant 2: a source that has lost its terms looks like people who have none."""
    world = world_of_students(*range(20 - without))
    memory = Memory()
    results = await load(world, students(*range(20)), without_terms=0.25, memory=memory)
    lacking = {person(number) for number in range(20 - without, 20)}
    if without == 5:
        assert failed(results) == {}
        assert memory.known.keys() == results.keys()
        return
    assert failed(results) == dict.fromkeys(lacking, "terms_doubtful")
    assert not lacking.intersection(id_ for batch in world.asked_batches for id_ in batch)
    assert memory.known.keys() == results.keys() - lacking, "what is not believed is asked for again"
    assert results[person(19)].reason == (
        "BU_TERM_STD_FULL_TERM knows no terms of 6 of the 20 people who are named for it; of more than 5 that is not "
        "believed."
    )


async def test_whether_people_without_terms_are_believed_does_not_depend_on_how_many_are_left() -> None:
    world = world_of_students(*range(17))
    answered = {person(number) for number in range(17)}
    async with sources(world) as (queries, persons, _):
        loading = load_persons(
            students(*range(20)),
            queries=queries,
            persons=persons,
            memory=Memory(),
            take=unchanged,
            answered=answered,
            without_terms=0.25,
        )
        results = [result async for group in loading for result in group]
    assert {result.id: result.rule for result in results} == dict.fromkeys(map(person, range(17, 20)), "")


async def test_doubts_about_students_are_none_about_teachers() -> None:
    world = world_of_students(*range(20))
    teachers = [Member(person(number), False, True) for number in range(30, 33)]
    results = await load(world, [*students(*range(20)), *teachers])
    assert failed(results) == dict.fromkeys(map(person, range(30, 33)), "terms_doubtful")


async def test_where_anybody_may_be_a_student_only_those_who_are_named_show_that_terms_are_lacking() -> None:
    world = world_of_students(1, 2, 3)
    results = await load(world, [*students(1, 2, 3), *plain(*range(10, 40))], ask_all_for_terms=True)
    assert failed(results) == {}
    assert set(world.asked_terms) == set(results)
    world = World()
    results = await load(world, [*students(1, 2, 3), *plain(*range(10, 40))], ask_all_for_terms=True)
    assert failed(results) == dict.fromkeys(results, "terms_doubtful")


async def test_nobody_to_ask_for_is_no_work() -> None:
    assert await load(World(), []) == {}


async def test_batches_never_hold_more_terms_or_persons_than_they_may() -> None:
    """Fault P16: the size was a floor."""
    world = world_of_students(*range(40), terms=7)
    world.terms[person(50)] = [term_row(50, str(2251 + number)) for number in range(30)]
    results = await load(
        world,
        [*students(*range(40), 50), *students(*range(60, 85)), *plain(*range(100, 125))],
        batch_terms=20,
        batch_ids=10,
    )
    assert failed(results) == {}
    sizes = [len(body.get("student", {}).get("uid_car_term", [])) for body in world.bodies]
    assert sorted(set(sizes) - {0}) == [14, 30], "two persons of seven terms each, and one with more than fit"
    assert Counter(len(body["buids"]) for body in world.bodies if "buids" in body) == {10: 4, 5: 2}


async def test_somebody_in_the_population_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="twice"):
        await load(World(), plain(1, 1))


async def test_an_id_of_no_university_form_fails_alone_and_unasked() -> None:
    """Fault D3: a record that was to be skipped ended the worker that skipped it."""
    world = World()
    results = await load(world, [*plain(1), Member("12345678", False, False), Member("u1", True, True)])
    assert failed(results) == {"12345678": "id_malformed", "u1": "id_malformed"}
    assert (world.asked_batches, world.asked_terms) == ([[person(1)]], [])


# ------------------------------------------------------------------------------------- failed is not empty

NO_TERMS_KNOWN: dict[str, tuple[Reply, str]] = {
    "P1 fails on every attempt": (answer(b"", 503), "term_query_failed"),
    "P1 refused": (answer({"message": "Not Found"}, 404), "term_query_failed"),
    "P2 no data": (answer({"message": "x"}), "term_query_failed"),
    "P2 error": (answer({"error": "x", "data": []}), "term_query_failed"),
    "P3 null": (answer({"data": None}), "term_query_failed"),
    "P3 object": (answer({"data": {}}), "term_query_failed"),
    "no row": (answer({"data": ["x"]}), "term_row_unusable"),
    "somebody else": (answer({"data": [term_row(1)]}), "term_row_unusable"),
    "no term": (answer({"data": [{"CAMPUS_ID": person(2), "ACAD_CAREER": "UGRD"}]}), "term_row_unusable"),
    "blank career": (answer({"data": [{"ACAD_CAREER": " ", "STRM": "2258"}]}), "term_row_unusable"),
    "one row of two": (answer({"data": [term_row(2), term_row(2, "")]}), "term_row_unusable"),
    "clash": (answer({"data": [term_row(2, strm="2261") | {"Strm": "2258"}]}), "term_row_unusable"),
    "poison": (answer({"data": [term_row(2, NAME="\0")]}), "term_row_unusable"),
}


@pytest.mark.parametrize("how", NO_TERMS_KNOWN)
async def test_a_person_whose_terms_are_not_known_is_not_asked_for(how: str) -> None:
    """Faults P1 to P3: a failed query counted as "no terms", and the poorer document replaced the good one."""
    bad, rule = NO_TERMS_KNOWN[how]
    world = world_of_students(1, 3, bad_terms={person(2): bad})
    results = await load(world, students(1, 2, 3))
    assert failed(results) == {person(2): rule}
    assert sorted(world.asked_batches) in ([[person(1), person(3)]], [[person(3), person(1)]])
    assert results[person(2)].reason
    assert results[person(2)].pointer
    assert person(2) not in results[person(2)].reason + results[person(2)].pointer + repr(list(results.values()))


async def test_a_teacher_whose_second_query_fails_is_not_asked_for() -> None:
    world = world_of_students(1)

    async def second(request: Request, wire: Wire) -> None:
        is_student = json.loads(request.body)["query_name"] == "BU_TERM_STD_FULL_TERM"
        await answer({"data": [term_row(1)]} if is_student else {"data": None})(request, wire)

    world.bad_terms[person(1)] = second
    assert failed(await load(world, [Member(person(1), True, True)])) == {person(1): "term_query_failed"}
    assert world.asked_batches == []


async def test_one_bad_person_does_not_hold_up_the_others() -> None:
    """Fault P4: it slept inside the semaphore for 400 seconds."""
    world = world_of_students(*range(30), bad_terms={person(0): answer(b"", 503, headers={"Retry-After": "1"})})
    slow = replace(FAST_TERMS, concurrency=1)
    seen: dict[str, float] = {}
    started = time.monotonic()
    async with sources(world, terms=slow) as (queries, persons, _):
        groups = load_persons(
            students(*range(30)),
            queries=queries,
            persons=persons,
            memory=Memory(),
            take=unchanged,
            batch_terms=10,
            queries_at_once=3,
        )
        async with aclosing(groups):
            async for group in groups:
                seen |= {result.id: time.monotonic() - started for result in group}
    assert sorted(seen.values())[19] < 1 < seen[person(0)]


# --------------------------------------------------------------------------------------- batches that fail


@pytest.mark.parametrize(
    "poisoned",
    [
        pytest.param(answer(b"", 504), id="gateway timeout"),
        pytest.param(answer({"detail": []}, 422), id="refused"),
        pytest.param(answer(b"not json"), id="no json"),
        pytest.param(answer(b'{"type":"error","message":"upstream"}\n'), id="error instead"),
        pytest.param(chunks(b"\n", ended=False), id="cut at once"),
    ],
)
async def test_a_person_who_fails_every_batch_costs_nobody_else(poisoned: Reply) -> None:
    """Faults P5, D4: the batch was logged and its ids were kept nowhere; an id that failed five times vanished."""
    world = World(bad_batch=lambda ids, _: poisoned if person(37) in ids else None)
    policy = replace(FAST_BATCH, retry_floor=1000)
    results = await load(world, plain(*range(100)), batch=policy)
    assert failed(results) == {person(37): "batch_failed"}
    distinct = {tuple(ids) for ids in world.asked_batches}
    assert len(distinct) <= 1 + 2 * 7, "halves down to one cost two requests a level"
    assert re.search("person API", results[person(37)].reason)


async def test_a_stream_that_breaks_costs_only_what_it_did_not_bring() -> None:
    """Faults P8, P9: five times five minutes, and everything thrown away each time."""

    def cut(ids: list[str], attempt: int) -> Reply | None:
        return chunks(records(*ids[:60]), b'{"type":"rec', ended=False) if len(ids) == 100 else None

    world = World(bad_batch=cut)
    results = await load(world, plain(*range(100)))
    assert failed(results) == {}
    assert sorted(map(len, world.asked_batches)) == [20, 20, 100]


async def test_a_person_who_breaks_every_stream_costs_nobody_else() -> None:
    def cut(ids: list[str], attempt: int) -> Reply | None:
        if person(37) not in ids:
            return None
        return chunks(b"\n", records(*ids[: ids.index(person(37))]) + b'{"type":"rec', ended=False)

    world = World(bad_batch=cut)
    results = await load(world, plain(*range(100)), batch=replace(FAST_BATCH, retry_floor=1000))
    assert failed(results) == {person(37): "batch_failed"}


async def test_whom_an_answer_lacks_is_asked_for_once_more() -> None:
    """Fault P8: a clean early end passed for the whole batch."""
    world = World(bad_batch=lambda ids, _: ndjson(*ids[:75]) if len(ids) == 100 else None, unknown={person(99)})
    results = await load(world, plain(*range(100)))
    assert failed(results) == {person(99): "missing_record"}
    assert results[person(99)].reason == "Twice the answer held no record of this person."
    assert sorted(map(len, world.asked_batches)) == [5, 10, 10, 100]


async def test_whom_an_error_names_fails_with_what_it_said() -> None:
    error = json.dumps({"type": "error", "message": f"no document of {person(2)}"}).encode() + b"\n"
    world = World(bad_batch=lambda ids, _: answer(records(person(1)) + error) if person(2) in ids else None)
    results = await load(world, plain(1, 2))
    assert failed(results) == {person(2): "source_error"}
    assert "with an error for this person, twice: no document of ***" in results[person(2)].reason


async def test_a_document_of_somebody_else_is_never_taken_for_an_answer() -> None:
    world = World(bad_batch=lambda ids, _: ndjson(person(9), person(1)))
    results = await load(world, plain(1, 2))
    assert failed(results) == {person(2): "missing_record"}
    assert results[person(2)].reason.endswith("held 2 records that are nobody's who was asked for.")


async def test_contradicting_documents_are_handed_on_together() -> None:
    twice = b'{"type":"record","data":{"personid":"U00000001","x":1}}\n'
    world = World(bad_batch=lambda ids, _: answer(twice + twice + records(person(1))))
    assert len((await load(world, plain(1)))[person(1)].documents) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 302])
async def test_a_refusal_of_everybody_stops_everything_at_once(status: int) -> None:
    """Fault P4: every id of every batch would be refused, each of them several times."""
    refused = answer(b"", status, headers={"Location": "/x"})
    world = world_of_students(*range(50), query_s=0.02, bad_batch=lambda ids, _: refused)
    started = time.monotonic()
    with pytest.raises(PermanentSourceError, match=str(status) if status != 302 else "redirects"):
        await load(world, [*plain(*range(100, 400)), *students(*range(50))], batch_ids=10)
    assert time.monotonic() - started < 2
    assert len(world.asked_batches) <= 1 + FAST_BATCH.concurrency


async def test_a_refused_logon_of_the_term_queries_stops_everything_at_once() -> None:
    world = World(bad_terms={person(number): answer(b"", 401) for number in range(50)}, batch_s=5)
    started = time.monotonic()
    with pytest.raises(PermanentSourceError, match="refused the logon with status 401"):
        await load(world, [*students(*range(50)), *plain(100)])
    assert len(world.asked_terms) == 1
    assert time.monotonic() - started < 2


async def test_a_source_that_is_down_ends_the_load() -> None:
    """Thousands of failed persons would say the same thing, each after its own attempts."""
    world = World(bad_batch=lambda ids, _: answer(b"", 504))
    with pytest.raises(TransientSourceError, match="504"):
        await load(world, plain(*range(2000)))
    assert len(world.asked_batches) < 60


# ------------------------------------------------------------------------------------------ crash and retry


async def test_answered_term_queries_survive_a_crash() -> None:
    world = world_of_students(*range(120))
    memory = Memory()
    world.bad_batch = lambda ids, _: answer(b"", 403)
    with pytest.raises(SourceError):
        await load(world, students(*range(120)), memory=memory)
    first = list(world.asked_terms)
    assert len(memory.known) == len(first)
    world.bad_batch = lambda ids, _: None
    assert failed(await load(world, students(*range(120)), memory=memory)) == {}
    assert sorted(world.asked_terms) == sorted(person(number) for number in range(120)), "nobody was asked for twice"


async def test_term_queries_are_kept_in_groups_and_failures_are_not_kept() -> None:
    world = world_of_students(*range(119), bad_terms={person(7): answer({"data": None})})
    memory = Memory()
    await load(world, students(*range(119)), memory=memory)
    assert [len(group) for group in memory.kept] == [50, 50, 18]
    assert person(7) not in memory.known


async def test_a_consumer_that_stops_early_leaves_nothing_behind() -> None:
    """Fault P18: heartbeat, workers and connections ran on."""
    world = world_of_students(*range(200), query_s=0.01, batch_s=0.05)
    before = asyncio.all_tasks()
    async with sources(world) as (queries, persons, server):
        groups = load_persons(
            [*plain(*range(300, 400)), *students(*range(200))],
            queries=queries,
            persons=persons,
            memory=Memory(),
            take=unchanged,
            batch_ids=10,
            progress=lambda _: None,
        )
        async with aclosing(groups):
            async for _ in groups:
                break
        left = asyncio.all_tasks() - before - server._tasks
        assert {task.get_coro().__qualname__ for task in left} <= {"FaultServer._serve"}
        asked = len(server.requests)
        await asyncio.sleep(0.2)
        assert len(server.requests) == asked


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
async def test_a_consumer_that_fails_ends_the_load(how: str) -> None:
    world = World(batch_s=0.01)
    before = asyncio.all_tasks()

    async def consume(groups: Any) -> None:
        async with aclosing(groups):
            async for _ in groups:
                if how == "raises":
                    raise KeyError("a mistake of the consumer")
                await asyncio.sleep(60)

    async with sources(world) as (queries, persons, server):
        groups = load_persons(
            plain(*range(100)), queries=queries, persons=persons, memory=Memory(), take=unchanged, batch_ids=2
        )
        consumer = asyncio.create_task(consume(groups))
        await asyncio.sleep(0.15)
        consumer.cancel()
        with pytest.raises(KeyError if how == "raises" else asyncio.CancelledError):
            await consumer
        assert asyncio.all_tasks() - before - server._tasks == set()


async def test_a_mistake_in_the_memory_is_not_swallowed() -> None:
    class Full(Memory):
        async def keep(self, answers: Sequence[Terms], /) -> None:
            raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left"):
        await load(world_of_students(1), students(1), memory=Full())


async def test_a_slow_consumer_slows_the_sources_down() -> None:
    """Fault P16: unbounded queues held whatever came."""
    world = world_of_students(*range(200))
    async with sources(world) as (queries, persons, _):
        groups = load_persons(
            [*students(*range(200)), *plain(*range(1000, 1400))],
            queries=queries,
            persons=persons,
            memory=Memory(),
            take=unchanged,
            batch_terms=2,
            batch_ids=2,
        )
        async with aclosing(groups):
            await anext(groups)
            asked = -1
            while asked != (asked := len(world.asked_terms)):
                await asyncio.sleep(0.3)
    assert FAST_BATCH.concurrency < len(world.asked_batches) <= 2 * FAST_BATCH.concurrency
    assert 10 < len(world.asked_terms) < 80


# ------------------------------------------------------------------------------------------- speed, progress


async def test_the_person_api_is_busy_from_the_start_and_term_queries_overlap_with_it() -> None:
    """The load takes what the slow source takes: 5 batches of 2 s, five at a time, are 2 s of its time."""
    world = world_of_students(*range(12), terms=10, query_s=0.02, batch_s=2)
    members = [*students(*range(12)), *plain(*range(1000, 1030))]
    started = time.monotonic()
    results = await load(world, members, batch_terms=60, batch_ids=10)
    took = time.monotonic() - started
    assert failed(results) == {}
    assert (len(world.asked_batches), world.most_batches) == (5, 5)
    assert took <= 1.2 * 2


async def test_more_batches_than_slots_keep_every_slot_busy() -> None:
    world = world_of_students(*range(20), terms=5, query_s=0.01, batch_s=0.5)
    started = time.monotonic()
    await load(world, [*students(*range(20)), *plain(*range(1000, 1100))], batch_terms=10, batch_ids=10)
    took = time.monotonic() - started
    assert (len(world.asked_batches), world.most_batches) == (20, 5)
    assert took < 5 * 0.5, "a fifth wave was not needed"


async def test_progress_is_told_while_nothing_is_finished_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person_load, "_HEARTBEAT_S", 0.05)
    told: list[LoadProgress] = []
    world = world_of_students(*range(20), query_s=0.1, batch_s=0.2, unknown={person(3)})
    world.bad_terms[person(4)] = answer(b"", 503)
    await load(world, [*students(*range(20)), *plain(100)], progress=told.append)
    assert len(told) >= 3
    assert (told[0].persons, told[0].of, told[0].remaining_s) == (0, 21, None)
    last = told[-1]
    assert (last.persons, last.of, last.failed, last.terms_asked, last.batches) == (21, 21, 2, 20, 3)
    assert (last.retries, last.remaining_s) == (1, 0)
    assert last.rate_per_s > 0
