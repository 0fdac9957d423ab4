"""Curated tables of whole documents: many services in one pass, a partition for each, a scope at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.entities import COURSE, PERSON
from datalake_assets.lake.curated import partition_of
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.services import Service
from datalake_assets.lake.views import Views
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.lakes import SmallLake, answer, course, person, shuffled
from datalake_assets_tests.lake.model import Day, Model

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))
PERSONS = str(PERSON.curated)
COURSES = str(COURSE.curated)


def service(name: str, *paths: str, requires: tuple[Any, ...] = ()) -> Service:
    return Service(name=name, description="Of a test only.", owner="team:test", paths=paths, requires=requires)


MAIL = service("mail", "/personid", "/email/address")
STUDENTS = service("students", "/personid", "/student", requires=("/student",))
FULL = service("full", "/")
CATALOG = service("catalog", "/title", "/v2/courseId")


async def loaded(lake: SmallLake, *services: Service, day: date = D1, run_id: str = "run") -> tuple[int | None, ...]:
    """New, changed, removed and unchanged rows after loading with these services."""
    lake.services = services
    receipt = await lake.load_curated(day, run_id)
    return receipt.rows_new, receipt.rows_changed, receipt.rows_removed, receipt.rows_unchanged


async def current(lake: SmallLake, day: date, *answers: Answer, complete: bool = True) -> None:
    lake.land(day, answers, complete=complete)
    await lake.load_raw(day)
    await lake.load_xform(day)


async def seen(lake: SmallLake) -> dict[tuple[str, str], Any]:
    """What every service sees of every person."""
    rows = await lake.connection.fetch(f"select service, bu_uid, person_data from {PERSONS}")
    return {(row["service"], row["bu_uid"]): orjson.loads(row["person_data"]) for row in rows}


async def partitions(lake: SmallLake, table: str = PERSONS) -> list[str]:
    rows = await lake.connection.fetch(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = $1::regclass order by 1",
        table,
    )
    return [row["name"].split(".")[1].strip('"') for row in rows]


@pytest.fixture
async def persons(lake: SmallLake) -> SmallLake:
    """Two persons, of whom one is a student."""
    people = lake.of(PERSON)
    await loaded(people)
    await current(people, D1, one(person("U1", student={"gpa": 3.5})), one(person("U2", student={})))
    return people


def one(document: dict[str, Any]) -> Answer:
    return answer(document, COURSE if "v2" in document else PERSON)


# --------------------------------------------------------------------------------------------- several services


async def test_every_service_sees_its_paths_and_only_those_it_is_about(persons: SmallLake) -> None:
    """Invariant 7: a person with an address is no student (fault P20)."""
    assert await loaded(persons, FULL, MAIL, STUDENTS) == (5, 0, 0, 0)
    assert await seen(persons) == {
        ("full", "U1"): person("U1", student={"gpa": 3.5}),
        ("full", "U2"): person("U2", student={}),
        ("mail", "U1"): {"personid": "U1", "email": [{"address": "u1@example.edu"}]},
        ("mail", "U2"): {"personid": "U2", "email": [{"address": "u2@example.edu"}]},
        ("students", "U1"): {"personid": "U1", "student": {"gpa": 3.5}},
    }


async def test_only_documents_that_changed_are_read_again(persons: SmallLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night on which three of a hundred thousand persons change must not take as long as the first load."""
    read: list[bytes] = []
    of = Views.of
    monkeypatch.setattr(Views, "of", lambda views, document: (read.append(document), of(views, document))[1])
    await loaded(persons, FULL, MAIL, STUDENTS, run_id="run-1")
    assert len(read) == 2
    assert await loaded(persons, FULL, MAIL, STUDENTS, run_id="run-2") == (0, 0, 0, 5)
    await current(persons, D2, one(person("U1", student={"gpa": 3.5})), one(person("U2", student={"gpa": 1})))
    assert await loaded(persons, FULL, MAIL, STUDENTS, run_id="run-3") == (1, 2, 0, 3)
    assert [orjson.loads(document)["personid"] for document in read[2:]] == ["U2"]
    assert [run_id for run_id, *_ in await persons.rows(PERSONS, "run_id", "service")] == ["run-1"] * 3 + ["run-3"] * 3


async def test_only_a_service_whose_definition_changed_is_filtered_again(persons: SmallLake) -> None:
    await loaded(persons, FULL, MAIL, STUDENTS, run_id="run-1")
    wider = service("mail", "/personid", "/email")
    await current(persons, D2, one(person("U1", student={"gpa": 3.5})))
    assert await loaded(persons, FULL, wider, STUDENTS, run_id="run-2") == (0, 1, 2, 2)
    assert await persons.rows(PERSONS, "service", "run_id") == [
        ("full", "run-1"),
        ("mail", "run-2"),
        ("students", "run-1"),
    ]
    assert (await seen(persons))["mail", "U1"]["email"] == person("U1")["email"]


async def test_a_person_who_is_gone_is_gone_for_every_service(persons: SmallLake) -> None:
    """Nobody took people out who had left (fault P22)."""
    await loaded(persons, FULL, MAIL, STUDENTS)
    await current(persons, D2, one(person("U2", student={})))
    assert await loaded(persons, FULL, MAIL, STUDENTS) == (0, 0, 3, 2)
    assert await persons.rows("ops.person_filtered", "bu_uid") == [("U2",)]


async def test_rows_converge_on_a_history_that_moves_on_while_they_are_loaded(persons: SmallLake) -> None:
    """Invariant 1: raw was loaded again and the current table not yet; nothing may be lost for good."""
    await loaded(persons, MAIL)
    persons.land(D1, [one(person("U1", email=[{"address": "new@example.edu"}])), one(person("U2", student={}))])
    await persons.load_raw(D1)
    renamed = service("mail", "/email/address")
    assert await loaded(persons, renamed, STUDENTS) == (0, 1, 1, 0)
    await persons.load_xform(D1)
    assert await loaded(persons, renamed, STUDENTS) == (1, 0, 0, 1)
    assert {key: row["email"] for key, row in (await seen(persons)).items()} == {
        ("mail", "U1"): [{"address": "new@example.edu"}],
        ("mail", "U2"): [{"address": "u2@example.edu"}],
    }


async def test_numbers_keep_their_digits(lake: SmallLake) -> None:
    """A grade of 3.50 stays one, and so does a number beyond what a float or 64 bits can hold."""
    people = lake.of(PERSON)
    text = '{"personid": "U1", "student": {"a": 3.50, "b": 12345678901234567890.123, "c": 123456789012345678901}}'
    await current(people, D1, answer(orjson.Fragment(text), PERSON))
    await loaded(people, FULL, STUDENTS)
    rows = await people.rows(PERSONS, "person_data #>> '{student}'")
    assert rows == [('{"a": 3.50, "b": 12345678901234567890.123, "c": 123456789012345678901}',)] * 2


# ------------------------------------------------------------------------------------------------- partitions


async def test_a_service_has_a_partition_while_it_is_defined(persons: SmallLake) -> None:
    await loaded(persons, FULL, MAIL)
    assert await partitions(persons) == ["person_data_by_service__full", "person_data_by_service__mail"]
    assert await loaded(persons, MAIL, STUDENTS) == (1, 0, 2, 2)
    assert await partitions(persons) == ["person_data_by_service__mail", "person_data_by_service__students"]
    assert await persons.rows("ops.service_version", "service") == [("mail",), ("students",)]


async def test_a_service_that_comes_back_has_its_rows_again(persons: SmallLake) -> None:
    await loaded(persons, FULL, MAIL)
    await loaded(persons, MAIL)
    assert await loaded(persons, FULL, MAIL) == (2, 0, 0, 2)


async def test_services_with_long_names_do_not_share_a_partition(persons: SmallLake) -> None:
    """PostgreSQL cuts identifiers after 63 characters without a word."""
    long = [service("x" * 63 + last, "/email") for last in "aAb"]
    assert await loaded(persons, *long) == (6, 0, 0, 0)
    assert len(await partitions(persons)) == 3
    assert max(len(partition_of(PERSON.curated, each.name).table) for each in long) == 63


async def test_a_reader_sees_a_new_service_only_when_its_load_is_committed(
    persons: SmallLake, lake_address: PostgresAddress
) -> None:
    """Invariant 4: a partition is made before the load; it may be empty, and never half full."""
    async with session(lake_address, application_name="reader") as reader:
        counts = set()

        async def watch() -> None:
            while not load.done():
                counts.add(await reader.fetchval(f"select count(*) from {PERSONS} where service = 'mail'"))

        load = asyncio.create_task(loaded(persons, MAIL))
        await asyncio.gather(load, watch())
        counts.add(await reader.fetchval(f"select count(*) from {PERSONS} where service = 'mail'"))
    assert counts == {0, 2}


# ------------------------------------------------------------------------------------------------------ scope


@pytest.fixture
async def fall(lake: SmallLake) -> SmallLake:
    """Two terms with two courses each."""
    for code in (2258, 2261):
        term = lake.of(COURSE, code)
        await loaded(term)
        await current(term, D1, *(one(course(number, code, title=f"{code} {number}")) for number in (1, 2)))
    return lake.of(COURSE, 2258)


async def test_a_load_touches_the_rows_of_its_term_only(fall: SmallLake) -> None:
    assert await loaded(fall, CATALOG, FULL) == (4, 0, 0, 0)
    assert await fall.rows(COURSES, "service", "term_code", "course_id") == [
        (name, 2258, number) for name in ("catalog", "full") for number in (1, 2)
    ]
    spring = fall.of(COURSE, "2261")
    assert await loaded(spring, CATALOG, FULL) == (4, 0, 0, 0)
    await current(spring, D2)
    assert await loaded(spring, CATALOG, FULL, day=D2) == (0, 0, 4, 0)
    assert await loaded(fall, CATALOG, FULL) == (0, 0, 0, 4)


async def test_counts_are_those_of_the_term(fall: SmallLake) -> None:
    """A table of six terms must not make the load of one look six times as large."""
    spring = fall.of(COURSE, 2261)
    await loaded(spring, CATALOG)
    await loaded(fall, CATALOG)
    await current(fall, D2, one(course(1, title="New")), one(course(2, title="2258 2")))
    receipt = await fall.load_xform(D2)
    assert (receipt.rows_changed, receipt.rows_unchanged, receipt.rows_total) == (0, 2, 4)
    fall.services = (CATALOG,)
    receipt = await fall.load_curated(D2)
    assert (receipt.rows_changed, receipt.rows_unchanged, receipt.rows_total) == (1, 1, 4)


async def test_a_changed_definition_rebuilds_each_term_at_its_own_next_load(fall: SmallLake) -> None:
    spring = fall.of(COURSE, 2261)
    for term in (fall, spring):
        await loaded(term, CATALOG)
    titles = service("catalog", "/title")
    assert await loaded(fall, titles) == (0, 2, 0, 0)
    rows = await fall.rows(COURSES, "term_code", "course_id", "course_data ? 'v2'")
    assert [(code, has_number) for code, _, has_number in rows] == [(2258, False)] * 2 + [(2261, True)] * 2
    assert await loaded(spring, titles) == (0, 2, 0, 0)
    assert await loaded(fall, titles) == (0, 0, 0, 2)


async def test_a_service_that_is_gone_is_gone_in_every_term(fall: SmallLake) -> None:
    spring = fall.of(COURSE, 2261)
    for term in (fall, spring):
        await loaded(term, CATALOG, FULL)
    assert await loaded(fall, CATALOG) == (0, 0, 4, 2)
    assert await loaded(spring, CATALOG) == (0, 0, 0, 2)
    assert await partitions(fall, COURSES) == ["course_data_by_service__catalog"]


@asynccontextmanager
async def beside(lake: SmallLake, address: PostgresAddress) -> AsyncIterator[SmallLake]:
    """The lake through a connection of its own."""
    async with session(address, application_name="beside") as connection:
        yield replace(lake, connection=connection)


async def test_terms_that_are_loaded_at_once_agree_about_partitions(
    fall: SmallLake, lake_address: PostgresAddress
) -> None:
    """Both find a service that has no partition yet, and then one that is no longer defined."""
    async with beside(fall.of(COURSE, 2261), lake_address) as spring:
        await asyncio.gather(loaded(fall, CATALOG, FULL), loaded(spring, CATALOG, FULL))
        assert len(await fall.rows(COURSES, "service", "term_code", "course_id")) == 8
        counts = await asyncio.gather(loaded(fall, CATALOG), loaded(spring, CATALOG))
    assert sum(removed or 0 for _, _, removed, _ in counts) == 4
    assert await partitions(fall, COURSES) == ["course_data_by_service__catalog"]


# --------------------------------------------------------------------------------------- against the model


SOME_PATHS = ("/", "/a", "/a/b", "/c", "/personid", "/list/x", "/list")
values = st.sampled_from([None, 1, 1.5, "", [], {}, {"b": None}, {"b": "x"}, [{"b": 2}, {"c": 3}]])
lists = st.lists(st.fixed_dictionaries({}, optional={"x": values, "y": values}), max_size=2)
documents = st.fixed_dictionaries({}, optional={"a": values, "c": values, "list": lists})
answers = st.one_of(documents, documents, st.sampled_from(["absent", "failed", "quarantined"]))
keys = ("U1", "U2", "U3")
days = st.builds(Day, answers=st.dictionaries(st.sampled_from(keys), answers), complete=st.booleans())
definitions = st.lists(
    st.builds(
        lambda name, paths, required: service(name, *paths, requires=required),
        st.sampled_from(["one", "two", "three"]),
        st.lists(st.sampled_from(SOME_PATHS), min_size=1, max_size=3),
        st.sampled_from([(), ("/a",), (("/a/b", "/list/x"),), ("/a", "/c")]),
    ),
    max_size=3,
    unique_by=lambda each: each.name,
)


def landed(key: str, value: Any) -> Answer:
    if isinstance(value, str):
        kind = Outcome(value)
        return Answer(key=(key,), outcome=kind, source="test", rule="test" if kind is Outcome.QUARANTINED else None)
    return answer({"personid": key, **value}, PERSON)


@given(
    history=st.lists(days, min_size=1, max_size=4),
    repeated=st.lists(st.integers(0, 3), max_size=2),
    seed=st.integers(0, 99),
    defined=st.lists(st.tuples(definitions, st.booleans()), min_size=6, max_size=6),
)
@settings(deadline=None, max_examples=40)
async def test_any_order_of_days_and_definitions_ends_in_the_filter_of_the_last_state(
    module_lake: SmallLake,
    history: list[Day],
    repeated: list[int],
    seed: int,
    defined: list[tuple[list[Service], bool]],
) -> None:
    """Invariants 1 and 7, with several services whose definitions change between loads."""
    await module_lake.empty()
    lake = module_lake.of(PERSON)
    dates = [D1 + timedelta(days=number) for number in range(len(history))]
    for day, what in zip(dates, history, strict=True):
        lake.land(day, [landed(key, value) for key, value in what.answers.items()], complete=what.complete)
    order = shuffled([*dates, *(dates[number % len(dates)] for number in repeated)], seed)
    for day, (services, curated_first) in zip(order, defined, strict=False):
        await lake.load_raw(day)
        lake.services = tuple(services)
        for load in (lake.load_curated, lake.load_xform) if curated_first else (lake.load_xform, lake.load_curated):
            await load(day)
    await lake.load_xform(dates[0])
    receipt = await lake.load_curated(dates[0])

    model = Model.after(
        {
            day: Day(
                {
                    key: value if isinstance(value, str) else {"personid": key, **value}
                    for key, value in what.answers.items()
                },
                what.complete,
            )
            for day, what in zip(dates, history, strict=True)
        }
    )
    expected = {
        (each.name, key): view
        for each in lake.services
        for key, document in model.state.items()
        if (view := each.view(document, [("personid",)])) is not None
    }
    assert await seen(lake) == expected
    assert receipt.rows_total == receipt.rows_unchanged + receipt.rows_new + receipt.rows_changed == len(expected)  # type: ignore[operator]
    assert await lake.rows("ops.person_filtered", "bu_uid", "load_date", "digest") == await lake.rows(
        str(PERSON.xform), "bu_uid", "load_date", "digest"
    )
