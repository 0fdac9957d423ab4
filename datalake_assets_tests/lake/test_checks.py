"""Every check passes on a good lake and finds the damage that it is there to find."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.clock import CAMPUS_ZONE, Clock
from datalake_assets.entities import SENSITIVE_KEYS, TERM
from datalake_assets.lake import checks
from datalake_assets.lake.checks import GRACE, Check, Lake, Verdict, checks_of, expected_date
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.services import Service
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets_tests.lake.lakes import SmallLake, answer, outcome

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))
STRICT = Tolerances(failed=0.01, quarantined=0.05, removed=0.20)
RAW, XFORM, CURATED = "term_raw.term_data", "term_xform.current_term_data", "term_curated.term_data_by_service"

ALL: dict[tuple[str, str], Check] = {(check.layer, check.name): check for check in checks_of(TERM)}


def document(strm: str, **fields: Any) -> dict[str, Any]:
    """A term with every column."""
    whole = {column.path[0]: "1" for column in TERM.columns}
    return {
        **whole,
        "ACAD_CAREER": "UGRD",
        "STRM": strm,
        "TERM_BEGIN_DT": "20250902",
        "TERM_END_DT": "20251220",
        **fields,
    }


def year(current: str, **fields: Any) -> list[Any]:
    codes = ("2248", "2251", "2255", "2258", "2261", "2265")
    return [answer(document(code, CURRENT_IND="Y" if code == current else "N", **fields)) for code in codes]


@pytest.fixture(scope="module")
async def good(anyio_backend: str, module_lake: SmallLake) -> SmallLake:
    """Three good days: a term is renamed, the current term rolls, a term goes."""
    await module_lake.empty()
    for day, answers in ((D1, year("2251")), (D2, year("2251", DESCR="Renamed")), (D3, year("2255")[1:])):
        module_lake.land(day, answers)
        await module_lake.load(day)
    return module_lake


async def evaluated(good: SmallLake, check: Check, day: date = D3, **changes: Any) -> Verdict:
    lake = Lake(good.connection, good.landing, good.services, STRICT, Clock(D3))
    return await check.evaluate(replace(lake, **changes), day)


@asynccontextmanager
async def damaged(good: SmallLake, *statements: str) -> AsyncIterator[None]:
    """The lake after some statements, which are undone at the end."""
    transaction = good.connection.transaction()
    await transaction.start()
    try:
        for statement in statements:
            await good.connection.execute(statement)
        yield
    finally:
        await transaction.rollback()


# ----------------------------------------------------------------------------------- what each check is there for


CORRUPTIONS: dict[tuple[str, str], list[list[str]]] = {
    ("raw", "schema_and_key"): [
        [f"alter table {RAW} add column extra text"],
        [f"alter table {RAW} alter column source type varchar(200)"],
        [f"alter table {RAW} alter column run_id drop not null"],
        [f"alter table {RAW} drop constraint term_data_pkey", f"insert into {RAW} table {RAW}"],
        [
            f"alter table {RAW} drop constraint term_data_pkey",
            f"alter table {RAW} alter column strm drop not null",
            f"update {RAW} set strm = null where strm = '2248' and load_date = '2026-01-01'",
        ],
    ],
    ("raw", "change_points_are_changes"): [
        [f"update {RAW} set operation = 'I' where operation = 'U'"],
        [f"update {RAW} set operation = 'U' where operation = 'I'"],
        [f"delete from {RAW} where load_date = '2026-01-01' and strm = '2255'"],
        [
            f"update {RAW} as r set digest = e.digest from {RAW} as e where r.strm = e.strm and r.operation = 'U'"
            " and r.load_date = '2026-01-02' and e.load_date = '2026-01-01'"
        ],
    ],
    ("raw", "no_sensitive_keys"): [
        [f"""update {RAW} set term_data = {text} where load_date = '2026-01-03' and operation <> 'D'"""]
        for text in (
            *(f"""term_data || '{{"{key}": 1}}'""" for key in (*sorted(SENSITIVE_KEYS), "SSN", "sSn", "FinAid")),
            """'{"a": [[{"b": [{"Ssn": null}]}]]}'""",
        )
    ],
    ("raw", "receipt_matches_rows"): [
        [f"update ops.receipt set asked = asked + 1 where asset = '{RAW}' and load_date = '2026-01-03'"],
        [f"update ops.receipt set rows_new = rows_new + 1 where asset = '{RAW}' and load_date = '2026-01-03'"],
        [f"update ops.receipt set failed = null where asset = '{RAW}' and load_date = '2026-01-03'"],
    ],
    ("raw", "removed_share_is_small"): [
        [f"update ops.receipt set rows_removed = 3 where asset = '{RAW}' and load_date = '2026-01-03'"],
        [f"delete from ops.receipt where asset = '{RAW}' and load_date = '2026-01-03'"],
    ],
    ("raw", "is_fresh"): [
        [f"delete from ops.receipt where asset = '{RAW}' and load_date = '2026-01-03'"],
        ["delete from ops.receipt"],
    ],
    ("xform", "schema_and_key"): [
        [f"alter table {XFORM} alter column descr type text"],
        [f"alter table {XFORM} drop column old_term"],
        [f"drop table {XFORM}"],
    ],
    ("xform", "shows_the_last_change_point"): [
        [f"delete from {XFORM} where strm = '2255'"],
        [f"update {XFORM} set digest = '\\x00' where strm = '2255'"],
        [f"update {XFORM} set load_date = '2026-01-01' where strm = '2255'"],
        [f"update {XFORM} set strm = '9999' where strm = '2255'"],
        [
            f"insert into {RAW} select acad_career, strm, null, modified_date, '2026-01-04', 'D', null, source, run_id,"
            f" loaded_at from {RAW} where strm = '2255' and load_date = '2026-01-03'"
        ],
    ],
    ("xform", "exactly_one_current_undergraduate_term"): [
        [f"update {XFORM} set current_ind = 'N'"],
        [f"update {XFORM} set current_ind = null"],
        [f"update {XFORM} set current_ind = 'Y' where strm in ('2255', '2258')"],
        [f"update {XFORM} set acad_career = 'GRAD'"],
        [f"delete from {XFORM}"],
    ],
    ("xform", "terms_end_after_they_begin"): [
        [f"update {XFORM} set term_end_dt = '20250901' where strm = '2255'"],
    ],
    ("xform", "is_fresh"): [[f"delete from ops.receipt where asset = '{XFORM}' and load_date = '2026-01-03'"]],
    ("curated", "schema_and_key"): [
        [f"alter table {CURATED} alter column service type text"],
        [f"alter table {CURATED} drop constraint term_data_by_service_pkey", f"insert into {CURATED} table {CURATED}"],
    ],
    ("curated", "rows_follow_the_history"): [
        [f"update {CURATED} set digest = '\\x00' where strm = '2255'"],
        [f"update {CURATED} set load_date = '2025-12-31' where strm = '2255'"],
        [f"update {CURATED} set strm = '9999' where strm = '2255'"],
        [f"delete from {RAW} where strm = '2255' and load_date = '2026-01-03'"],
    ],
    ("curated", "rows_show_the_current_state"): [
        ["delete from ops.term_filtered where strm = '2255'"],
        ["update ops.term_filtered set digest = '\\x00' where strm = '2255'"],
        ["update ops.term_filtered set load_date = '2026-01-01' where strm = '2255'"],
        ["insert into ops.term_filtered values ('UGRD', '9999', '2026-01-01', '\\x00')"],
        [f"delete from {XFORM} where strm = '2255'"],
    ],
    ("curated", "active_terms_hold_the_current_term"): [
        [f"update {CURATED} set current_ind = 'N'"],
        [f"update {CURATED} set current_ind = 'Y'"],
        [f"update {CURATED} set acad_career = 'GRAD' where strm = '2255'"],
        [f"delete from {CURATED}"],
        [f"delete from {CURATED} where strm <> '2255'"],
        [
            f"insert into {CURATED} select service, acad_career, x || right(strm, 3), descr, term_begin_dt,"
            " term_end_dt, 'N', bu_cur_future_term, bu_future_term_1, bu_past_term_1, old_term, acad_year, rownumber,"
            f" modified_date, load_date, digest, run_id, loaded_at from {CURATED}, unnest(array['8', '9']) as x"
            " where strm = '2255'"
        ],
    ],
    ("curated", "service_paths_hold_data"): [
        [f"update {RAW} set term_data = term_data - 'OLD_TERM'"],
        [f"""update {RAW} set term_data = term_data || '{{"OLD_TERM": null}}'"""],
    ],
    ("curated", "is_fresh"): [[f"delete from ops.receipt where asset = '{CURATED}' and load_date = '2026-01-03'"]],
}
"""Damage by direct SQL, by the check that must find it."""


def test_every_check_has_damage_that_it_must_find() -> None:
    """A check that nobody has seen fail may be unable to."""
    assert {*CORRUPTIONS, ("landing", "receipt_balances")} == set(ALL)


@pytest.mark.parametrize("key", ALL, ids="-".join)
async def test_a_good_lake_passes(good: SmallLake, key: tuple[str, str]) -> None:
    verdict = await evaluated(good, ALL[key])
    assert verdict.passed, verdict.summary


@pytest.mark.parametrize(
    ("key", "statements"),
    [pytest.param(key, statements, id="-".join(key)) for key, many in CORRUPTIONS.items() for statements in many],
)
async def test_damage_is_found(good: SmallLake, key: tuple[str, str], statements: list[str]) -> None:
    """Invariant 3: damage that no check finds is a green run on wrong data."""
    async with damaged(good, *statements):
        verdict = await evaluated(good, ALL[key])
    assert not verdict.passed
    assert verdict.summary.endswith(".")
    assert (await evaluated(good, ALL[key])).passed


async def test_a_check_tells_counts_and_never_values(good: SmallLake) -> None:
    """Invariant 6: results of checks are shown to everybody who may see the UI."""
    canary = "canary-7"
    statement = f"""update {RAW} set term_data = term_data || '{{"ssn": "{canary}"}}' where load_date = '2026-01-03'"""
    async with damaged(good, statement, f"update {XFORM} set descr = '{canary}', current_ind = 'Y'"):
        verdicts = [await evaluated(good, check) for check in ALL.values()]
    assert sum(not verdict.passed for verdict in verdicts) > 1
    assert canary not in repr(verdicts)


# ------------------------------------------------------------------------------------------------- the snapshot


@pytest.mark.parametrize(
    ("answers", "passes", "summary"),
    [
        ([], True, "0 keys asked, every one accounted for."),
        (year("2251"), True, "6 keys asked, every one accounted for."),
        ([*year("2251"), outcome("9999", Outcome.ABSENT)], True, "7 keys asked"),
        ([*year("2251"), outcome("9999", Outcome.FAILED)], False, "1 of 7 keys are without a trustworthy answer"),
        ([*year("2251"), answer(document("9999", DESCR=17))], False, "1 of 7 keys are in quarantine"),
    ],
)
async def test_a_snapshot_passes_if_no_more_is_missing_than_tolerated(
    good: SmallLake, tmp_path: Path, answers: list[Any], passes: bool, summary: str
) -> None:
    """Invariant 3: the first check of the lineage stops everything below it."""
    other = SmallLake(good.connection, Landing(ParquetStore(str(tmp_path)), TERM), tmp_path)
    other.land(D3, answers)
    verdict = await evaluated(good, ALL["landing", "receipt_balances"], landing=other.landing)
    assert verdict.passed is passes
    assert summary in verdict.summary


async def test_a_snapshot_that_is_missing_fails(good: SmallLake) -> None:
    verdict = await evaluated(good, ALL["landing", "receipt_balances"], date(2026, 1, 9))
    assert verdict == Verdict(False, "No snapshot of 2026-01-09 was landed.")


# --------------------------------------------------------------------------------------------------- freshness


@dataclass(frozen=True)
class FixedClock(Clock):
    """A clock that stands still."""

    moment: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ((2026, 1, 15, 0, 0), date(2026, 1, 14)),
        ((2026, 1, 15, 6, 59), date(2026, 1, 14)),
        ((2026, 1, 15, 7, 0), date(2026, 1, 15)),
        ((2026, 1, 15, 23, 59), date(2026, 1, 15)),
        # The clock goes forward at 2:00: six hours after 1:00 it is 8:00.
        ((2026, 3, 8, 7, 59), date(2026, 3, 7)),
        ((2026, 3, 8, 8, 0), date(2026, 3, 8)),
        ((2026, 3, 9, 6, 59), date(2026, 3, 8)),
        # The clock goes back at 2:00: six hours after the first 1:00 it is 6:00.
        ((2026, 11, 1, 5, 59), date(2026, 10, 31)),
        ((2026, 11, 1, 6, 0), date(2026, 11, 1)),
        ((2026, 11, 2, 7, 0), date(2026, 11, 2)),
    ],
)
@pytest.mark.parametrize("zone", [NEW_YORK, UTC, ZoneInfo("Asia/Tokyo")], ids=str)
def test_a_day_is_due_when_its_load_has_had_its_time(local: tuple[int, ...], expected: date, zone: Any) -> None:
    """Right on both days on which the clocks change, wherever the machine stands."""
    moment = datetime(*local, tzinfo=NEW_YORK)  # type: ignore[misc,arg-type]
    assert expected_date(TERM, moment.astimezone(zone)) == expected


SIXTEEN_YEARS = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2020, 2036))


@given(
    st.integers(*SIXTEEN_YEARS).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)), st.sampled_from([0, 1, 2, 3])
)
def test_the_day_that_is_due_is_the_last_one_whose_grace_is_over(moment: datetime, hour: int) -> None:
    """Over sixteen years, for every hour at which a load may start, hours that a night skips or repeats included."""
    entity = replace(TERM, load_hour=hour)
    due = expected_date(entity, moment)

    def over(day: date) -> bool:
        start = datetime(day.year, day.month, day.day, hour, tzinfo=CAMPUS_ZONE).astimezone(UTC)
        return moment >= start + GRACE

    assert over(due)
    assert not over(due + timedelta(days=1))


@pytest.mark.parametrize("layer", ["raw", "xform", "curated"])
@pytest.mark.parametrize(
    ("local", "passes", "late"),
    [
        ((2026, 1, 3, 12, 0), True, 0),
        ((2026, 1, 4, 6, 59), True, 0),
        ((2026, 1, 4, 7, 0), False, 1),
        ((2026, 1, 9, 12, 0), False, 6),
    ],
)
async def test_data_is_stale_when_the_day_that_is_due_is_missing(
    good: SmallLake, layer: str, local: tuple[int, ...], passes: bool, late: int
) -> None:
    moment = datetime(*local, tzinfo=NEW_YORK)  # type: ignore[misc,arg-type]
    verdict = await evaluated(good, ALL[layer, "is_fresh"], clock=FixedClock(moment=moment))
    assert (verdict.passed, verdict.numbers) == (passes, {"days_late": late})
    assert ("Loaded up to 2026-01-03." if passes else "The newest load date is 2026-01-03") in verdict.summary


@pytest.mark.parametrize("layer", ["raw", "xform", "curated"])
async def test_backfilling_an_old_day_does_not_turn_a_stale_table_green(good: SmallLake, layer: str) -> None:
    """A check that looks at the last materialisation is satisfied by a backfill of last year."""
    clock = FixedClock(moment=datetime(2026, 1, 9, 12, 0, tzinfo=NEW_YORK))
    async with damaged(good):
        before = await evaluated(good, ALL[layer, "is_fresh"], clock=clock)
        await good.load(D1, "backfill of today")
        verdict = await evaluated(good, ALL[layer, "is_fresh"], clock=clock)
    assert not verdict.passed
    assert verdict == before


# ------------------------------------------------------------------------------------------------------- details


async def test_a_column_that_is_wrong_is_named_with_what_it_should_be(good: SmallLake) -> None:
    async with damaged(
        good,
        f"alter table {XFORM} alter column descr type text",
        f"alter table {XFORM} drop column old_term",
        f"alter table {XFORM} add column extra integer not null default 0",
    ):
        verdict = await evaluated(good, ALL["xform", "schema_and_key"])
    assert verdict.summary == (
        "term_xform.current_term_data: descr should be character varying(20) and is text; extra should be absent and "
        "is integer not null; old_term should be character varying(5) and is absent."
    )
    assert verdict.numbers == {"columns_wrong": 3}


async def test_one_key_may_always_go(good: SmallLake) -> None:
    """One of five is a fifth, and two of five are more than may go."""
    async with damaged(
        good, f"update ops.receipt set rows_removed = 2, rows_changed = 3, rows_unchanged = 0 where asset = '{RAW}'"
    ):
        assert not (await evaluated(good, ALL["raw", "removed_share_is_small"])).passed
    async with damaged(
        good, f"update ops.receipt set rows_removed = 1, rows_changed = 0, rows_unchanged = 0 where asset = '{RAW}'"
    ):
        assert (await evaluated(good, ALL["raw", "removed_share_is_small"])).passed


async def test_only_the_last_load_of_a_day_is_looked_at(good: SmallLake) -> None:
    async with damaged(
        good,
        "insert into ops.receipt select asset, partition, 0, run_id, load_date, scope, 9, 0, 0, 0, 0, complete, 0,"
        f" 9, 9, 9, 9, snapshot_sha256, 0, 0, 0, 0, committed_at from ops.receipt where asset = '{RAW}'",
    ):
        assert (await evaluated(good, ALL["raw", "receipt_matches_rows"])).passed
        assert (await evaluated(good, ALL["raw", "removed_share_is_small"])).passed


async def test_paths_without_data_are_named(good: SmallLake) -> None:
    """Forty of forty paths once matched nothing, and nobody was told (fault C1)."""
    odd = Service(
        name="odd", description="Odd paths.", owner="team:test", paths=('/a"b', "/x.y", "/$", "/DESCR/x", "/STRM")
    )
    verdict = await evaluated(good, ALL["curated", "service_paths_hold_data"], services=(odd,))
    assert verdict.summary == 'No document holds /$, /DESCR/x, /a"b, /x.y.'
    assert verdict.numbers == {"paths_without_data": 4}


async def test_a_path_below_an_array_holds_data_if_an_element_does(good: SmallLake) -> None:
    nested = Service(name="nested", description="Nested paths.", owner="team:test", paths=("/list/a", "/list/b"))
    async with damaged(
        good, f"""update {RAW} set term_data = term_data || '{{"list": [{{"c": 1}}, {{"a": 0, "b": null}}]}}'"""
    ):
        verdict = await evaluated(good, ALL["curated", "service_paths_hold_data"], services=(nested,))
    assert verdict.summary == "No document holds /list/b."


def test_names_are_unique_within_a_table_and_every_check_says_what_must_hold() -> None:
    assert len(ALL) == len(checks_of(TERM))
    for check in ALL.values():
        assert check.description.endswith((".", ")."))
        assert "$" not in check.description
        assert not (check.blocking and check.severity == "warn"), (
            f"{check.name} would stop a run that is only warned of"
        )


def test_a_check_file_without_its_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Severity is a decision; one that was forgotten must not become a warning by itself."""
    monkeypatch.setattr(checks, "statement_names", lambda folder: [f"{folder}/nameless.sql"])
    monkeypatch.setattr(checks, "statement_text", lambda _: "-- Offending rows.\nselect 1\n")
    with pytest.raises(
        ValueError, match=r"sql/layers/raw/checks/nameless.sql must begin with '-- severity: error\|warn'"
    ):
        checks_of(TERM)
