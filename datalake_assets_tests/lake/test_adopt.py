"""Adoption of an earlier system's tables: nothing is lost, readers notice nothing, and there is a way back."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import pytest

from datalake_assets import exact_json
from datalake_assets.clock import Clock
from datalake_assets.entities import COURSE, PERSON, TERM, Entity
from datalake_assets.lake.adopt import Adoption, AdoptionError, adopted, undo
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.checks import Lake, checks_of
from datalake_assets.lake.curated import load_curated
from datalake_assets.lake.documents import judge
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.history import as_of, blame
from datalake_assets.lake.landing import Landing, SourceAccount
from datalake_assets.lake.ledger import Ledger
from datalake_assets.lake.raw import RawLoad
from datalake_assets.lake.services import Service, load_services
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.xform import load_xform
from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate, pending
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake import predecessor
from datalake_assets_tests.lake.lakes import ANYTHING_GOES, CLOCK
from datalake_assets_tests.lake.predecessor import (
    course,
    fingerprint,
    insert_course,
    insert_person,
    insert_terms,
    person,
)

pytestmark = pytest.mark.anyio

ENTITIES: Final = (TERM, COURSE, PERSON)
MIGRATIONS: Final = project_files() / "sql" / "migrations"
TODAY: Final = date(2026, 1, 10)
NIGHT: Final = datetime(2026, 1, 1, 8, 10)  # noqa: DTZ001 - as the old flows stored it

ADA, BEA, CID = "U00000001", "U00000002", "U00000003"

READERS: Final = {
    "current persons": "select bu_uid, person_data, modified_date from person_xform.current_person_data",
    "curated persons": "select service, bu_uid, person_data, modified_date from person_curated.person_data_by_service",
    "current courses": "select academic_career, term_code, course_id, session_code, course_data, modified_date"
    " from course_xform.current_course_data",
    "curated courses": "select service, academic_career, term_code, course_id, session_code, course_data,"
    " modified_date from course_curated.course_data_by_service",
    "current terms": "select acad_career, strm, descr, term_begin_dt, term_end_dt, current_ind, bu_cur_future_term,"
    " bu_future_term_1, bu_past_term_1, old_term, acad_year, rownumber, modified_date"
    " from term_xform.current_term_data",
    "curated terms": "select service, acad_career, strm, descr, current_ind, rownumber, modified_date"
    " from term_curated.term_data_by_service",
}


def adoption(today: date = TODAY, entities: tuple[Entity, ...] = ENTITIES, **options: Any) -> Adoption:
    return Adoption(entities, MIGRATIONS, "adoption", today, zone="UTC", **options)


@asynccontextmanager
async def old_lake(address: PostgresAddress) -> AsyncIterator[asyncpg.Connection]:
    async with session(address, application_name="test") as connection:
        await predecessor.build(connection)
        yield connection


async def seen(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """What readers of current and curated tables see."""
    return {name: sorted(str(tuple(row)) for row in await connection.fetch(query)) for name, query in READERS.items()}


async def history(connection: asyncpg.Connection, uid: str) -> list[tuple[date, str, Any]]:
    rows = await connection.fetch(
        "select load_date, operation, person_data from person_raw.person_data where bu_uid = $1 order by load_date", uid
    )
    return [(row[0], row[1].decode(), row[2] and orjson.loads(row[2])) for row in rows]


async def some_history(connection: asyncpg.Connection) -> None:
    """Three persons over five nights, two courses, three terms."""
    night = [NIGHT + timedelta(days=number) for number in range(5)]
    await insert_person(connection, night[0], person(ADA, gpa=3.5))
    await insert_person(connection, night[0], person(BEA))
    await insert_person(connection, night[1], person(ADA, gpa=3.6))
    await insert_person(connection, night[2], person(ADA, gpa=3.5))
    await insert_person(connection, night[3], person(CID, tags=["a", "b"]))
    await insert_course(connection, night[0], course(7))
    await insert_course(connection, night[1], course(7, title="Calculus I"))
    await insert_course(connection, night[4], course(8))
    terms = [
        {"ACAD_CAREER": "UGRD", "STRM": strm, "DESCR": descr, "CURRENT_IND": current}
        for strm, descr, current in (("2255", "Summer", "N"), ("2258", "Fall", "Y"), ("2261", "Spring", "N"))
    ]
    await insert_terms(connection, night[4], terms)


async def load(connection: asyncpg.Connection, folder: Path, entity: Entity, day: date, documents: list[Any]) -> Any:
    """One night of ours: landing, raw, xform."""
    landing = Landing(ParquetStore(str(folder)), entity)
    piece = LoadSlice(entity, day, tuple(2258 for _ in entity.scope))
    answers = [judge(entity, exact_json.loads(orjson.dumps(document)), "test") for document in documents]
    landing.publish(piece, answers, complete=True, source=SourceAccount(), run_id="night", clock=CLOCK)
    receipt = await RawLoad(landing, Ledger(), ANYTHING_GOES).load(connection, piece, "night")
    await load_xform(connection, Ledger(), piece, "night")
    return receipt


async def test_a_plan_changes_nothing_and_tells_all(database: PostgresAddress):
    async with old_lake(database) as connection:
        await some_history(connection)
        before = await fingerprint(connection)
        plan = await adoption().plan(connection)
        assert await fingerprint(connection) == before
    by_entity = {item.entity: item for item in plan.histories}
    assert plan.problems == ()
    assert plan.differences == ()
    assert (by_entity["person"].rows, by_entity["person"].states, by_entity["person"].keys) == (5, 5, 3)
    assert (by_entity["person"].first_date, by_entity["person"].last_date) == (date(2026, 1, 1), date(2026, 1, 4))
    assert by_entity["course"].states == 3
    assert by_entity["term"].rows == 3
    assert "person_raw.person_data: trg_skip_repeated" in plan.triggers
    assert {str(table.name): table.rows for table in plan.tables}["person_curated.person_data_by_service"] == 6


async def test_every_state_is_kept_in_order_and_readers_see_the_same_rows(database: PostgresAddress):
    async with old_lake(database) as connection:
        await some_history(connection)
        before = await seen(connection)
        await adoption().carry_out(connection)
        assert await seen(connection) == before
        assert await history(connection, ADA) == [
            (date(2026, 1, 1), "I", person(ADA, gpa=3.5)),
            (date(2026, 1, 2), "U", person(ADA, gpa=3.6)),
            (date(2026, 1, 3), "U", person(ADA, gpa=3.5)),
        ]
        rows = await connection.fetch("select digest, person_data from person_raw.person_data")
        assert all(row["digest"] == digest(exact_json.loads(row["person_data"])) for row in rows)
        moments = await connection.fetch("select dl_insert_date from person_raw.person_data where bu_uid = $1", BEA)
        assert [row[0] for row in moments] == [NIGHT]
    assert pending(database, MIGRATIONS) == []
    assert migrate(database, MIGRATIONS) == []


async def test_shuffled_and_repeated_rows_are_one_state(database: PostgresAddress):
    async with session(database, application_name="test") as connection:
        await predecessor.build(connection, triggers=False)
        for number, tags in enumerate((["a", "b"], ["b", "a"], ["a", "b"], ["a", "c"], ["c", "a"])):
            await insert_person(connection, NIGHT + timedelta(days=number), person(ADA, tags=tags))
        await connection.execute(
            "insert into person_xform.current_person_data select bu_uid, person_data, dl_insert_date"
            " from person_raw.person_data order by dl_insert_date desc limit 1"
        )
        plan = await adoption().carry_out(connection)
        assert [(day.day, operation) for day, operation, _ in await history(connection, ADA)] == [(1, "I"), (4, "U")]
    told = next(item for item in plan.histories if item.entity == "person")
    assert (told.rows, told.states, told.repeated) == (5, 2, 3)


async def test_states_that_come_and_go_within_a_date_are_kept_beside_the_history(database: PostgresAddress):
    """The history by dates has room for one state a date: the last. `blame` tells the others too."""
    async with session(database, application_name="test") as connection:
        await predecessor.build(connection, triggers=False)
        story = ((0, 0, "a"), (1, 0, "b"), (1, 1, "a"), (2, 0, "c"), (2, 0, "d"), (2, 2, "e"))
        for day, hour, value in story:
            await insert_person(connection, NIGHT + timedelta(days=day, hours=hour), person(ADA, note=value))
        await connection.execute(
            "insert into person_xform.current_person_data select bu_uid, person_data, dl_insert_date"
            " from person_raw.person_data order by dl_insert_date desc limit 1"
        )
        plan = await adoption().carry_out(connection)
        assert [
            (day.day, operation, document["note"]) for day, operation, document in await history(connection, ADA)
        ] == [(1, "I", "a"), (3, "U", "e")]
        notes = [(change.load_date.day, change.after) for change in await blame(connection, PERSON, (ADA,), "/note")]
        assert notes == [(1, "a"), (2, "b"), (2, "a"), (3, "c"), (3, "d"), (3, "e")]
        state = await as_of(connection, PERSON, (ADA,), date(2026, 1, 2))
        assert state is not None
        assert state.document["note"] == "a"
    assert next(item for item in plan.histories if item.entity == "person").within_a_date == 4


async def test_what_the_current_table_shows_ends_the_history(database: PostgresAddress):
    """Readers know the current table: a state that only it shows is kept, a key that it lacks is removed."""
    async with old_lake(database) as connection:
        await some_history(connection)
        await connection.execute("alter table person_xform.current_person_data disable trigger user")
        await connection.execute(
            "update person_xform.current_person_data set person_data = $2, modified_date = $3 where bu_uid = $1",
            BEA,
            orjson.dumps(person(BEA, note="by hand")),
            NIGHT + timedelta(days=2),
        )
        await connection.execute("delete from person_xform.current_person_data where bu_uid = $1", CID)
        await connection.execute("delete from person_curated.person_data_by_service where bu_uid = $1", CID)
        before = await seen(connection)
        await adoption().carry_out(connection)
        assert await seen(connection) == before
        assert [(day.day, operation) for day, operation, _ in await history(connection, BEA)] == [(1, "I"), (3, "U")]
        assert [(day.day, operation) for day, operation, _ in await history(connection, CID)] == []
        kept = await blame(connection, PERSON, (CID,), "/tags")
        assert [(change.load_date.day, change.vanished) for change in kept] == [(4, False), (4, True)]


async def test_a_current_row_with_an_older_moment_is_current_all_the_same(database: PostgresAddress):
    """Of rows with one moment the old flows took any for the latest; readers know the one in the current table."""
    async with session(database, application_name="test") as connection:
        await predecessor.build(connection, triggers=False)
        shown = person(ADA, offer=1)
        for offer in (1, 2):
            await insert_person(connection, NIGHT, person(ADA, offer=offer))
        await connection.execute(
            "insert into person_xform.current_person_data values ($1, $2, $3)",
            ADA,
            orjson.dumps(shown),
            NIGHT - timedelta(hours=1),
        )
        before = await seen(connection)
        await adoption().carry_out(connection)
        assert await seen(connection) == before
        assert await history(connection, ADA) == [(date(2026, 1, 1), "I", shown)]
        offers = [change.after for change in await blame(connection, PERSON, (ADA,), "/offer")]
        assert offers == [1, 2, 1]


async def test_sensitive_keys_stay_behind(database: PostgresAddress):
    async with old_lake(database) as connection:
        await insert_person(connection, NIGHT, person(ADA, details={"SSN": "900-00-0001", "kin": "Bea"}))
        plan = await adoption().carry_out(connection)
        assert (await history(connection, ADA))[0][2] == person(ADA, details={"kin": "Bea"})
        for table in ("person_xform.current_person_data", "person_curated.person_data_by_service"):
            assert await connection.fetchval(f"select count(*) from {table} where person_data::text ilike '%ssn%'") == 0
    assert next(item for item in plan.histories if item.entity == "person").sensitive == 3


@pytest.mark.parametrize("entity", [PERSON, COURSE], ids=lambda entity: entity.name)
async def test_the_next_night_loads_on_top(database: PostgresAddress, tmp_path: Path, entity: Entity):
    async with old_lake(database) as connection:
        await some_history(connection)
        await adoption().carry_out(connection)
        shuffled = person(CID, tags=["b", "a"])
        tonight = {
            "person": [person(ADA, gpa=3.5), person(BEA, gpa=4), shuffled],
            "course": [course(8), course(9)],
        }[entity.name]
        receipt = await load(connection, tmp_path, entity, TODAY, tonight)
        counts = (receipt.rows_new, receipt.rows_changed, receipt.rows_removed, receipt.rows_unchanged)
        assert counts == {"person": (0, 1, 0, 2), "course": (1, 0, 1, 1)}[entity.name]


CHECKS: Final = {
    "schema_and_key",
    "change_points_are_changes",
    "no_sensitive_keys",
    "receipt_matches_rows",
    "removed_share_is_small",
    "shows_the_last_change_point",
    "rows_follow_the_history",
}


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
async def test_the_adopted_tables_pass_the_checks_of_ours(database: PostgresAddress, tmp_path: Path, entity: Entity):
    async with old_lake(database) as connection:
        await some_history(connection)
        plan = await adoption().carry_out(connection)
        last = next(item.last_date for item in plan.histories if item.entity == entity.name)
        assert last is not None
        landing = Landing(ParquetStore(str(tmp_path)), entity)
        services = load_services(entity).services
        lake = Lake(connection, landing, services, Tolerances(0.01, 0.05, 0.2), Clock(last))
        # Of the active terms, the earlier system may not know every one's courses.
        wanted = CHECKS | ({"is_fresh"} if not entity.scope else set())
        ran = [check for check in checks_of(entity) if check.name in wanted and check.layer != "landing"]
        assert {check.name for check in ran} == wanted
        verdicts = {check.name: await check.evaluate(lake, last) for check in ran}
        assert {name: verdict.summary for name, verdict in verdicts.items() if not verdict.passed} == {}


async def test_the_first_load_gives_services_what_ours_define(database: PostgresAddress, tmp_path: Path):
    """Adopted rows stay until then; a service that is no longer defined goes, the others are filtered anew."""
    email = Service(name="mail", description="What mailing lists need.", owner="team:mail", paths=("/email",))
    async with old_lake(database) as connection:
        await some_history(connection)
        plan = await adoption(services={"person": ["mail"]}).carry_out(connection)
        known = {item.service: item.is_defined for item in plan.services if item.table.startswith("person")}
        assert known == {"full": False, "mail": True}
        await load(connection, tmp_path, PERSON, TODAY, [person(ADA, gpa=3.5), person(BEA)])
        await load_curated(connection, Ledger(), LoadSlice(PERSON, TODAY), (email,), "night")
        rows = await connection.fetch(
            "select service, bu_uid, person_data from person_curated.person_data_by_service order by bu_uid"
        )
    assert [(row[0], row[1], orjson.loads(row[2])) for row in rows] == [
        ("mail", uid, {"email": person(uid)["email"]}) for uid in (ADA, BEA)
    ]


async def test_a_term_that_did_not_change_is_unchanged_to_the_next_night(database: PostgresAddress, tmp_path: Path):
    """The old flow kept the row number of the answer inside the document; the source does not change with it."""
    async with old_lake(database) as connection:
        await some_history(connection)
        await adoption().carry_out(connection)
        terms = [
            {"ACAD_CAREER": "UGRD", "STRM": strm, "DESCR": descr, "CURRENT_IND": current}
            for strm, descr, current in (("2255", "Summer", "N"), ("2258", "Fall", "Y"), ("2261", "Spring", "N"))
        ]
        receipt = await load(connection, tmp_path, TERM, TODAY, terms)
        assert (receipt.rows_new, receipt.rows_changed, receipt.rows_unchanged) == (0, 0, 3)


@pytest.mark.parametrize("day", [date(2026, 1, 2), date(2026, 1, 4), date(2025, 12, 31)])
async def test_a_date_of_the_adopted_history_cannot_be_loaded(database: PostgresAddress, tmp_path: Path, day: date):
    """Its later dates have no snapshots, so their change points could not be mended."""
    async with old_lake(database) as connection:
        await some_history(connection)
        await adoption().carry_out(connection)
        before = await history(connection, ADA)
        with pytest.raises(Exception, match="belongs to the adopted history"):
            await load(connection, tmp_path, PERSON, day, [person(ADA)])
        assert await history(connection, ADA) == before


async def test_the_way_back_restores_everything_byte_for_byte(database: PostgresAddress, tmp_path: Path):
    async with old_lake(database) as connection:
        await some_history(connection)
        await readers_of(connection)
        before = await fingerprint(connection)
        await adoption().carry_out(connection)
        assert [item.raw_table for item in await adopted(connection)] == [
            "course_raw.course_data",
            "person_raw.person_data",
            "term_raw.term_data",
        ]
        await undo(connection, ENTITIES)
        assert await fingerprint(connection) == before
        await insert_person(connection, NIGHT + timedelta(days=9), person(ADA, gpa=4))
        assert await connection.fetchval("select count(*) from person_curated.person_data_by_service") == 6
        with pytest.raises(AdoptionError, match="no adoption"):
            await undo(connection, ENTITIES)
        await adoption(date(2026, 1, 20)).carry_out(connection)


async def test_the_way_back_does_not_forget_loads_silently(database: PostgresAddress, tmp_path: Path):
    async with old_lake(database) as connection:
        await some_history(connection)
        before = await fingerprint(connection)
        await adoption().carry_out(connection)
        await load(connection, tmp_path, PERSON, TODAY, [person(ADA)])
        with pytest.raises(AdoptionError, match="1 loads"):
            await undo(connection, ENTITIES)
        assert len(await history(connection, ADA)) == 4
        await undo(connection, ENTITIES, discard_loads=True)
        assert await fingerprint(connection) == before


async def test_a_way_back_that_was_cut_off_is_not_begun(database: PostgresAddress):
    """Somebody gave up the old tables: ours must not be dropped before that is noticed."""
    async with old_lake(database) as connection:
        await some_history(connection)
        await adoption().carry_out(connection)
        await connection.execute("drop schema person_curated_before_adoption cascade")
        before = await fingerprint(connection)
        with pytest.raises(AdoptionError, match="cut off"):
            await undo(connection, ENTITIES)
        assert await fingerprint(connection) == before


async def test_the_way_back_leaves_what_was_there_before_the_adoption(database: PostgresAddress, tmp_path: Path):
    """A lake whose migrations began before: `ops` stays, and what was applied before stays applied."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "0001_ops.sql").write_text((MIGRATIONS / "0001_ops.sql").read_text("utf-8"), "utf-8")
    migrate(database, folder)
    async with old_lake(database) as connection:
        await some_history(connection)
        before = await fingerprint(connection)
        await adoption().carry_out(connection)
        await undo(connection, ENTITIES)
        after = await fingerprint(connection)
        # One row, with the number of the last migration; where in its table it stands means nothing.
        assert {**after, "rows ops.alembic_version": ""} == {**before, "rows ops.alembic_version": ""}
        assert await connection.fetchval("select version_num from ops.alembic_version") == "0001"
    assert pending(database, MIGRATIONS)[0] == "0002_term.sql"


async def readers_of(connection: asyncpg.Connection) -> None:
    """Somebody who reads: grants, a view upon a view, comments."""
    await connection.execute(
        """
        do $$ begin create role adopt_reader; exception when duplicate_object then null; end $$;
        grant usage on schema person_xform, person_curated to adopt_reader;
        grant select on person_xform.current_person_data to adopt_reader;
        grant insert on person_xform.current_person_data to adopt_reader;
        grant select (service, bu_uid) on person_curated.person_data_by_service to adopt_reader;
        create schema reports;
        grant usage on schema reports to adopt_reader;
        create view reports.mail with (security_barrier = true) as
            select service, bu_uid, person_data -> 'email' as email from person_curated.person_data_by_service
            where service = 'mail';
        comment on view reports.mail is 'Who has mail';
        create view reports.counted as
            select m.service, count(*) as persons from reports.mail as m
            join person_xform.current_person_data as c using (bu_uid) group by m.service;
        grant select on reports.counted to adopt_reader;
        """
    )


async def test_readers_keep_their_grants_and_views_follow_the_new_tables(database: PostgresAddress, tmp_path: Path):
    async with old_lake(database) as connection:
        await some_history(connection)
        await readers_of(connection)
        plan = await adoption().carry_out(connection)
        assert plan.views == ("reports.mail", "reports.counted")
        assert plan.writers == ("adopt_reader: person_xform.current_person_data: insert",)
        await load(connection, tmp_path, PERSON, TODAY, [person(ADA, gpa=3.5), person(CID, tags=["a", "b"])])
        await connection.execute("delete from person_curated.person_data_by_service where bu_uid = $1", BEA)
        comment = await connection.fetchval("select obj_description('reports.mail'::regclass)")
        assert comment == "Who has mail"
        await connection.execute("set role adopt_reader")
        assert await connection.fetchval("select persons from reports.counted") == 2
        assert await connection.fetchval("select count(bu_uid) from person_curated.person_data_by_service") == 4
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("select person_data from person_curated.person_data_by_service")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("insert into person_xform.current_person_data default values")
        await connection.execute("reset role")


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (
            "create materialized view public.frozen as select bu_uid from person_xform.current_person_data",
            "public.frozen cannot be made anew",
        ),
        (
            "create table public.note (bu_uid varchar references person_xform.current_person_data)",
            "constraint note_bu_uid_fkey",
        ),
        (
            "create function public.one() returns setof person_xform.current_person_data language sql"
            " as 'select * from person_xform.current_person_data'",
            "function public.one",
        ),
        ("alter table person_raw.person_data enable row level security", "row security"),
        ("drop table person_curated.person_data_by_service", "There is no table person_curated"),
        ("alter table person_raw.person_data rename dl_insert_date to at", "lacks the columns dl_insert_date"),
        ("insert into person_raw.person_data values ('U1', '{}', '2030-01-01 12:00')", "goes up to 2030-01-01"),
        (
            "alter table term_xform.current_term_data alter descr type varchar(50);"
            " insert into term_xform.current_term_data (acad_career, strm, descr, rownumber)"
            " values ('UGRD', '2271', repeat('x', 21), 1)",
            "descr of more than 20",
        ),
    ],
    ids=["materialized", "foreign-key", "function", "row-security", "no-table", "no-column", "future", "too-long"],
)
async def test_what_would_break_is_refused_by_name(database: PostgresAddress, made: str, named: str):
    async with session(database, application_name="test") as connection:
        await predecessor.build(connection, triggers=False)
        await connection.execute(made)
        before = await fingerprint(connection)
        plan = await adoption().plan(connection)
        assert any(named in problem for problem in plan.problems), plan.problems
        with pytest.raises(AdoptionError, match="cannot be adopted"):
            await adoption().carry_out(connection)
        assert await fingerprint(connection) == before


async def test_rows_that_readers_would_lose_need_consent(database: PostgresAddress):
    async with old_lake(database) as connection:
        await some_history(connection)
        await connection.execute(
            "insert into person_curated.person_data_by_service values ('full', 'U99999999', '{}', now())"
        )
        plan = await adoption().plan(connection)
        assert [(item.table, item.rows) for item in plan.differences] == [("person_curated.person_data_by_service", 1)]
        with pytest.raises(AdoptionError, match="would not see 1 rows"):
            await adoption().carry_out(connection)
        await adoption().carry_out(connection, accept_differences=True)


async def test_a_curated_row_without_a_change_point_counts_as_a_difference(database: PostgresAddress):
    """Its key came and went within one date, so that the history by dates holds no document of it."""
    async with old_lake(database) as connection:
        await insert_person(connection, NIGHT, person(ADA))
        await connection.execute("alter table person_xform.current_person_data disable trigger user")
        await connection.execute("delete from person_xform.current_person_data")
        plan = await adoption().plan(connection)
        assert [(item.table, item.rows) for item in plan.differences] == [("person_curated.person_data_by_service", 2)]


async def test_a_failure_at_the_end_leaves_the_old_tables_as_they_were(
    database: PostgresAddress, monkeypatch: pytest.MonkeyPatch
):
    async with old_lake(database) as connection:
        await some_history(connection)
        await readers_of(connection)
        before = await fingerprint(connection)

        async def fail(*_: object) -> None:
            raise RuntimeError("power cut")

        monkeypatch.setattr(Adoption, "_make_views", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            await adoption().carry_out(connection)
        assert await fingerprint(connection) == before


async def test_there_is_nothing_to_adopt_in_a_lake_of_ours(database: PostgresAddress):
    migrate(database, MIGRATIONS)
    async with session(database, application_name="test") as connection:
        with pytest.raises(AdoptionError, match="nothing to adopt"):
            await adoption().plan(connection)


async def test_timestamps_are_read_in_the_zone_they_were_written_in(database: PostgresAddress):
    """01:30 on the clock of the campus is the evening before to who takes it for UTC."""
    async with old_lake(database) as connection:
        await insert_person(connection, datetime(2026, 1, 2, 1, 30), person(ADA))  # noqa: DTZ001 - as stored
        dates = {}
        for zone in ("UTC", "America/New_York"):
            plan = await Adoption((PERSON,), MIGRATIONS, "adoption", TODAY, zone=zone).plan(connection)
            dates[zone] = plan.histories[0].first_date
    assert dates == {"UTC": date(2026, 1, 1), "America/New_York": date(2026, 1, 2)}


PERSONS, NIGHTS = 20_000, 3 * 365


def _story(number: int) -> list[tuple[int, list[str], bool]]:
    """What one person was over three years: (night, tags, whether it is said again in another order)."""
    draw = random.Random(number)  # noqa: S311 - drawn to be repeated, not to be secret
    nights = sorted(draw.sample(range(1, NIGHTS), draw.choice((4, 8, 11, 16))))
    return [
        (night, [f"t{draw.randrange(1000)}", f"s{place}", f"p{number % 7}"], draw.random() < 0.1)
        for place, night in enumerate([0, *nights])
    ]


@pytest.mark.campaign
async def test_twenty_thousand_persons_of_three_years_are_adopted_and_given_back(
    database: PostgresAddress, tmp_path: Path
):
    """Every distinct state in order, the same rows for readers, the next night on top, and the way back."""
    first = datetime(2023, 1, 2, 8, 10)  # noqa: DTZ001 - as the old flows stored it

    def documents(number: int) -> list[tuple[datetime, bytes]]:
        filler = {f"field{place}": f"value {number} {place}" for place in range(30)}
        rows = []
        for night, tags, again in _story(number):
            for offset, order in enumerate((tags, tags[::-1]) if again else (tags,)):
                document = person(f"U{number:08}", details=filler, tags=order, note=str(night))
                rows.append((first + timedelta(days=night, minutes=offset), orjson.dumps(document)))
        return rows

    rows = [(f"U{number:08}", document, at) for number in range(PERSONS) for at, document in documents(number)]
    rows.sort(key=lambda row: row[2])
    expected = {
        f"U{number:08}": [(first.date() + timedelta(days=night), str(night)) for night, _, _ in _story(number)]
        for number in range(PERSONS)
    }
    async with session(database, application_name="test") as connection:
        await predecessor.build(connection)
        await connection.execute("alter table person_raw.person_data disable trigger user")
        await connection.copy_records_to_table("person_data", schema_name="person_raw", records=rows)
        await connection.execute(
            "insert into person_xform.current_person_data select distinct on (bu_uid) bu_uid, person_data,"
            " dl_insert_date from person_raw.person_data order by bu_uid, dl_insert_date desc"
        )
        for name in ("trg_skip_repeated", "trg_show_current"):
            await connection.execute(f"alter table person_raw.person_data enable trigger {name}")
        before, shown = await fingerprint(connection), await seen(connection)
        planned = await adoption(date(2026, 1, 10)).plan(connection)
        plan = await adoption(date(2026, 1, 10)).carry_out(connection)
        assert planned.histories == plan.histories
        assert await seen(connection) == shown
        told = next(item for item in plan.histories if item.entity == "person")
        assert told.repeated == len(rows) - sum(map(len, expected.values())) > 10_000
        found: dict[str, list[tuple[date, str]]] = {}
        kept = "select bu_uid, load_date, person_data ->> 'note' from person_raw.person_data order by bu_uid, load_date"
        async with connection.transaction():
            async for row in connection.cursor(kept, prefetch=10_000):
                found.setdefault(row[0], []).append((row[1], row[2]))
        assert found == expected
        tonight = [orjson.loads(documents(number)[-1][1]) for number in range(PERSONS)]
        tonight[7]["note"] = "tonight"
        receipt = await load(connection, tmp_path, PERSON, date(2026, 1, 10), tonight[:-1])
        assert (receipt.rows_changed, receipt.rows_removed, receipt.rows_unchanged) == (1, 1, PERSONS - 2)
        await undo(connection, ENTITIES, discard_loads=True)
        assert await fingerprint(connection) == before
    print(f"{len(rows)} rows adopted in {plan.seconds} s, planned {planned.seconds} s")  # noqa: T201 - what a campaign is asked
