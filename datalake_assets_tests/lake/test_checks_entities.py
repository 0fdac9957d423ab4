"""Checks of entities that are whole documents or are loaded in scopes: they pass on a good lake and find damage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from datalake_assets.clock import Clock
from datalake_assets.entities import COURSE, PERSON, Entity
from datalake_assets.lake.checks import Check, Lake, Verdict, checks_of
from datalake_assets.lake.curated import partition_of
from datalake_assets.lake.documents import Answer
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.services import Service
from datalake_assets_tests.lake.lakes import SmallLake, answer, course, person, term

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))
STRICT = Tolerances(failed=0.01, quarantined=0.05, removed=0.20)
FALL, SPRING = 2258, 2261


def service(name: str, *paths: str, requires: tuple[str, ...] = ()) -> Service:
    return Service(name=name, description="Of a test only.", owner="team:test", paths=paths, requires=requires)


SERVICES = {
    "course": (service("full", "/"), service("catalog", "/title", "/sections/topic")),
    "person": (service("full", "/"), service("mail", "/email/address")),
}
CHECKS: dict[tuple[str, str, str], Check] = {
    (entity.name, check.layer, check.name): check for entity in (COURSE, PERSON) for check in checks_of(entity)
}


def courses(code: int, count: int = 6, **fields: Any) -> list[Answer]:
    return [
        answer(course(number, code, title="A", sections=[{"topic": "x"}], **fields), COURSE)
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
async def good(anyio_backend: str, module_lake: SmallLake) -> dict[str, SmallLake]:
    """Three good days of persons and of two terms of courses, of which the terms say that they are active."""
    await module_lake.empty()
    lakes = {"person": module_lake.of(PERSON, services=SERVICES["person"])}
    for code in (FALL, SPRING):
        lakes[str(code)] = module_lake.of(COURSE, code, services=SERVICES["course"])
    lakes["course"] = lakes[str(FALL)]
    codes = ("2255", "2258", "2261")
    module_lake.services = (service("active_terms", "/STRM", requires=("/STRM",)),)
    for day in (D1, D3):
        module_lake.land(day, [answer(term(code, CURRENT_IND="Y" if code == "2258" else "N")) for code in codes])
        await module_lake.load(day)
    await module_lake.connection.execute(
        "delete from term_curated.term_data_by_service where strm not in ('2258', '2261')"
    )
    for day, title in ((D1, "A"), (D2, "B"), (D3, "C")):
        lakes["person"].land(day, [answer(person(f"U{number}", title=title), PERSON) for number in range(6)])
        await lakes["person"].load(day)
        for code in (FALL, SPRING):
            lakes[str(code)].land(day, courses(code, note=title))
            await lakes[str(code)].load(day)
    return lakes


async def evaluated(good: dict[str, SmallLake], key: tuple[str, str, str], day: date = D3, **changes: Any) -> Verdict:
    lake = good[key[0]]
    seen = Lake(lake.connection, lake.landing, SERVICES[key[0]], STRICT, Clock(D3))
    return await CHECKS[key].evaluate(replace(seen, **changes), day)


@asynccontextmanager
async def damaged(good: dict[str, SmallLake], *statements: str) -> AsyncIterator[None]:
    """The lake after some statements, which are undone at the end."""
    connection = good["person"].connection
    transaction = connection.transaction()
    await transaction.start()
    try:
        for statement in statements:
            await connection.execute(statement)
        yield
    finally:
        await transaction.rollback()


def with_ssn(entity: Entity, table: str) -> str:
    column = entity.document_column
    return (
        f'update {table} set {column} = {column} || \'{{"a": [[{{"b": [{{"Ssn": null}}]}}]]}}\''
        " where load_date = '2026-01-03'"
    )


def damage(entity: Entity) -> dict[tuple[str, str], list[str]]:
    """Damage by direct SQL, in one scope of the entity, by the check that must find it."""
    raw, xform, curated = map(str, (entity.raw, entity.xform, entity.curated))
    one = "term_code = 2261 and course_id = 3" if entity is COURSE else "bu_uid = 'U3'"
    scope = "2261" if entity is COURSE else ""
    receipt = f"where asset = '{raw}' and load_date = '2026-01-03' and scope = '{scope}'"
    marks = f"ops.{entity.name}_filtered"
    return {
        ("raw", "schema_and_key"): [f"alter table {raw} alter column source type varchar(200)"],
        ("raw", "change_points_are_changes"): [f"update {raw} set operation = 'I' where operation = 'U' and {one}"],
        ("raw", "no_sensitive_keys"): [with_ssn(entity, raw)],
        ("raw", "receipt_matches_rows"): [f"update ops.receipt set failed = null {receipt}"],
        ("raw", "removed_share_is_small"): [f"update ops.receipt set rows_removed = 3 {receipt}"],
        ("raw", "is_fresh"): [f"delete from ops.receipt {receipt}"],
        ("xform", "schema_and_key"): [f"alter table {xform} drop column modified_date"],
        ("xform", "no_sensitive_keys"): [with_ssn(entity, xform)],
        ("xform", "shows_the_last_change_point"): [f"delete from {xform} where {one}"],
        ("xform", "is_fresh"): [f"delete from ops.receipt {receipt.replace(raw, xform)}"],
        ("curated", "schema_and_key"): [f"alter table {curated} alter column run_id drop not null"],
        ("curated", "no_sensitive_keys"): [with_ssn(entity, curated)],
        ("curated", "rows_follow_the_history"): [f"update {curated} set digest = '\\x00' where {one}"],
        ("curated", "rows_show_the_current_state"): [f"delete from {marks} where {one}"],
        ("curated", "service_paths_hold_data"): [
            f"update {raw} set {entity.document_column} = {entity.document_column} - 'sections' - 'email'"
        ],
        ("curated", "is_fresh"): [f"delete from ops.receipt {receipt.replace(raw, curated)}"],
    }


DAMAGE = {
    (entity.name, layer, name): statements
    for entity in (COURSE, PERSON)
    for (layer, name), statements in damage(entity).items()
}
DAMAGE["course", "raw", "active_terms_are_of_the_day"] = [
    "delete from ops.receipt where asset = 'term_curated.term_data_by_service' and load_date = '2026-01-03'"
]


def test_every_check_has_damage_that_it_must_find() -> None:
    assert {*DAMAGE, ("course", "landing", "receipt_balances"), ("person", "landing", "receipt_balances")} == set(
        CHECKS
    )


@pytest.mark.parametrize("key", CHECKS, ids="-".join)
async def test_a_good_lake_passes(good: dict[str, SmallLake], key: tuple[str, str, str]) -> None:
    verdict = await evaluated(good, key)
    assert verdict.passed, verdict.summary


@pytest.mark.parametrize("key", DAMAGE, ids="-".join)
async def test_damage_is_found(good: dict[str, SmallLake], key: tuple[str, str, str]) -> None:
    """Invariant 3: damage in one of several terms, or deep in a document, is damage."""
    async with damaged(good, *DAMAGE[key]):
        assert not (await evaluated(good, key)).passed


WHOLE_TABLE = {"schema_and_key", "receipt_matches_rows", "no_sensitive_keys", "service_paths_hold_data"} | {
    "active_terms_are_of_the_day"
}


@pytest.mark.parametrize(
    "key", [key for key in DAMAGE if key[0] == "course" and key[2] not in WHOLE_TABLE], ids="-".join
)
async def test_damage_in_another_term_does_not_stop_this_one(
    good: dict[str, SmallLake], key: tuple[str, str, str]
) -> None:
    """Terms are loaded side by side: what stands between two layers of another one is no damage."""
    async with damaged(good, *DAMAGE[key]):
        assert (await evaluated(good, key, scope=(FALL,))).passed
        assert not (await evaluated(good, key, scope=(SPRING,))).passed


async def test_duplicates_are_found_where_no_index_keeps_them_away(good: dict[str, SmallLake]) -> None:
    table = PERSON.curated
    partition = partition_of(table, "mail")
    async with damaged(
        good,
        f"alter table {table} drop constraint person_data_by_service_pkey",
        f"insert into {table} table {partition}",
    ):
        verdict = await evaluated(good, ("person", "curated", "schema_and_key"))
    assert verdict.summary == "6 keys stand more than once or are null."


async def test_a_term_whose_answer_is_partly_missing_is_named(good: dict[str, SmallLake]) -> None:
    """Invariant 3: five good terms do not outweigh a bad one."""
    spring = good[str(SPRING)]
    failed = Answer(key=("UGRD", SPRING, 9, "1"), outcome=Outcome.FAILED, source="test")
    day = date(2026, 1, 4)
    good[str(FALL)].land(day, courses(FALL, 200))
    spring.land(day, [*courses(SPRING), failed])
    key = ("course", "landing", "receipt_balances")
    verdict = await evaluated(good, key, day)
    assert not verdict.passed
    assert "1 of 7 keys" in verdict.summary
    assert "partition 2026-01-04|2261" in verdict.summary
    assert verdict.numbers["asked"] == 207
    assert (await evaluated(good, key, day, scope=(FALL,))).passed


async def test_a_term_that_was_not_landed_fails(good: dict[str, SmallLake]) -> None:
    key = ("course", "landing", "receipt_balances")
    assert not (await evaluated(good, key, date(2026, 1, 9))).passed
    assert "2026-01-03|2265" in (await evaluated(good, key, scope=(2265,))).summary


async def test_a_term_that_was_not_loaded_is_stale_although_others_were(good: dict[str, SmallLake]) -> None:
    """Courses of one active term were missing, and the run was green (fault C3)."""
    key = ("course", "xform", "is_fresh")
    receipt = f"ops.receipt where asset = '{COURSE.xform}' and scope = '2261'"
    async with damaged(good, f"delete from {receipt} and load_date = '2026-01-03'"):
        verdict = await evaluated(good, key)
        assert verdict.summary == "The newest load date of 2261 is 2026-01-02; 2026-01-03 is due."
    async with damaged(good, f"delete from {receipt}"):
        assert (await evaluated(good, key)).summary == "2261 was never loaded."
    async with damaged(
        good, f"delete from {receipt}", "delete from term_curated.term_data_by_service where strm = '2261'"
    ):
        assert (await evaluated(good, key)).passed, "a term that is no longer active is not loaded"


@pytest.mark.parametrize("name", ["person", "course"])
async def test_an_empty_table_is_nothing_to_judge(good: dict[str, SmallLake], name: str) -> None:
    """Forty paths once matched nothing, and a check that has nothing to look at must not say that all is well (C1)."""
    entity = COURSE if name == "course" else PERSON
    async with damaged(good, f"delete from {entity.xform}"):
        verdict = await evaluated(good, (name, "curated", "service_paths_hold_data"))
    assert not verdict.passed
    assert verdict.summary == "There is nothing to judge: no document is current."


async def test_a_path_of_which_only_empty_values_are_known_holds_no_data(good: dict[str, SmallLake]) -> None:
    async with damaged(
        good, f"""update {PERSON.raw} set person_data = person_data || '{{"email": [{{"address": null}}]}}'"""
    ):
        verdict = await evaluated(good, ("person", "curated", "service_paths_hold_data"))
    assert verdict.summary == "No document holds /email/address."


async def test_text_that_speaks_of_a_sensitive_key_is_none(good: dict[str, SmallLake]) -> None:
    text = """'{"note": "he said \\"ssn\\": 1", "ssnNumber": 1}'"""
    async with damaged(good, f"update {PERSON.raw} set person_data = person_data || {text}"):
        assert (await evaluated(good, ("person", "raw", "no_sensitive_keys"))).passed
