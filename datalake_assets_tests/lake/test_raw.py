"""The history: which answers change it, which never do, and what stops a load before it changes anything."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.lake.guards import IntolerableError, Tolerances, VolumeGuardError
from datalake_assets.lake.landing import NoSnapshotError
from datalake_assets.lake.outcomes import Outcome
from datalake_assets_tests.lake.lakes import SmallLake, answer, outcome, term

pytestmark = pytest.mark.anyio

D1, D2, D3, D4, D5 = (date(2026, 1, day) for day in (1, 2, 3, 4, 5))
STRICT = Tolerances(failed=0.01, quarantined=0.05, removed=0.20)


async def changes(lake: SmallLake, strm: str) -> list[tuple[date, str]]:
    return [(day, operation) for key, day, operation, _ in await lake.history() if key == strm]


# ------------------------------------------------------------------------------------------------- outcomes


@pytest.mark.parametrize(
    ("second", "complete", "expected"),
    [
        ([answer(term("2251", "Other"))], True, "U"),
        ([answer(term("2251"))], True, None),
        ([outcome("2251", Outcome.ABSENT)], True, "D"),
        ([outcome("2251", Outcome.ABSENT)], False, "D"),
        ([], True, "D"),
        # Failed is not empty.
        ([outcome("2251", Outcome.FAILED)], True, None),
        ([outcome("2251", Outcome.QUARANTINED)], True, None),
        ([answer(term("2251", "x" * 21))], True, None),
        # What is missing from an incomplete answer is not known to be gone.
        ([], False, None),
        ([answer(term("2255"))], False, None),
        # A document that does not tell its key may be the one that seems to be missing.
        ([answer(term("    "))], True, None),
    ],
)
async def test_what_one_answer_does_to_a_key_that_is_alive(
    lake: SmallLake, second: list[Any], complete: bool, expected: str | None
) -> None:
    """Invariants 2 and 3: only data writes, and only a confirmed absence removes."""
    lake.land(D1, [answer(term("2251"))])
    await lake.load_raw(D1)
    lake.land(D2, second, complete=complete)
    await lake.load_raw(D2)
    assert await changes(lake, "2251") == [(D1, "I"), *([(D2, expected)] if expected else [])]


@pytest.mark.parametrize(
    "only", [outcome("2251", kind) for kind in (Outcome.FAILED, Outcome.QUARANTINED, Outcome.ABSENT)]
)
async def test_a_key_that_was_never_there_is_not_made_by_an_answer_without_data(lake: SmallLake, only: Any) -> None:
    """Invariant 2: not even a removal, which would claim that there had been something."""
    lake.land(D1, [only])
    await lake.load_raw(D1)
    assert await lake.history() == []


async def test_a_key_that_returns_is_inserted_anew(lake: SmallLake) -> None:
    for day, answers in ((D1, [answer(term("2251"))]), (D2, []), (D3, []), (D4, [answer(term("2251"))])):
        lake.land(day, answers)
        await lake.load_raw(day)
    assert await changes(lake, "2251") == [(D1, "I"), (D2, "D"), (D4, "I")]


async def test_one_row_is_written_for_each_change_and_none_between(lake: SmallLake) -> None:
    """Invariant 1: A, A, B, B, A are three change points; raw terms once had no history at all (fault T6)."""
    for day, descr in ((D1, "A"), (D2, "A"), (D3, "B"), (D4, "B"), (D5, "A")):
        lake.land(day, [answer(term("2251", descr))])
        await lake.load_raw(day)
    assert await changes(lake, "2251") == [(D1, "I"), (D3, "U"), (D5, "U")]


async def test_a_shuffled_array_is_no_change(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251", LIST=[{"a": 1}, {"b": [1, 2]}]))])
    lake.land(D2, [answer(term("2251", LIST=[{"b": [2, 1]}, {"a": 1}]))])
    await lake.load_raw(D1)
    receipt = await lake.load_raw(D2)
    assert (receipt.rows_unchanged, receipt.rows_changed) == (1, 0)
    assert await changes(lake, "2251") == [(D1, "I")]


@pytest.mark.parametrize(
    ("before", "after"), [([], None), ({}, None), ([], {}), (None, ""), ("x", "x ")], ids=lambda value: repr(value)
)
async def test_empty_values_of_different_kinds_are_changes(lake: SmallLake, before: Any, after: Any) -> None:
    """`[]`, `{}` and null once compared equal, and a real change was not stored (fault P21)."""
    lake.land(D1, [answer(term("2251", LIST=before))])
    lake.land(D2, [answer(term("2251", LIST=after))])
    await lake.load_raw(D1)
    await lake.load_raw(D2)
    assert await changes(lake, "2251") == [(D1, "I"), (D2, "U")]


async def test_terms_of_different_careers_with_one_code_are_different_keys(lake: SmallLake) -> None:
    lake.land(D1, [answer(term("2251", career=career)) for career in ("UGRD", "GRAD", "LAW")])
    receipt = await lake.load_raw(D1)
    assert receipt.rows_new == receipt.rows_total == 3


async def test_the_position_in_the_answer_is_neither_kept_nor_a_change(lake: SmallLake) -> None:
    """With the row number in the key, rows without one ended the load, an added term renamed the rest (fault T5)."""
    lake.land(D1, [answer(term("2251")), answer(term("2255"))])
    lake.land(D2, [answer(term("2255")), answer(term("2248")), answer(term("2251"))])
    await lake.load_raw(D1)
    receipt = await lake.load_raw(D2)
    assert (receipt.rows_new, receipt.rows_unchanged, receipt.rows_changed) == (1, 2, 0)


# ------------------------------------------------------------------------------------------- repeated and late


async def test_a_second_load_of_a_day_changes_nothing(lake: SmallLake) -> None:
    """Invariant 1: run ids and clocks of raw aside, which tell by whom the slice was written last."""
    lake.land(D1, [answer(term("2251", CURRENT_IND="Y")), answer(term("2255"))])
    lake.land(D2, [answer(term("2251", "Other", CURRENT_IND="Y"))])
    await lake.load(D1)
    await lake.load(D2)
    before = await lake.contents()
    everything = "term_xform.current_term_data", "term_curated.term_data_by_service"
    rows = [await lake.rows(table, "modified_date", "load_date", "run_id", "loaded_at") for table in everything]
    for day in (D2, D1, D2):
        receipt = await lake.load(day, "run-2")
    assert (receipt.rows_new, receipt.rows_changed, receipt.rows_removed) == (0, 1, 1)
    assert await lake.contents() == before
    assert rows == [await lake.rows(table, "modified_date", "load_date", "run_id", "loaded_at") for table in everything]


async def test_a_day_landed_anew_that_says_what_the_day_before_said_takes_its_changes_back(lake: SmallLake) -> None:
    """Invariant 1: nothing is new in the snapshot, and something is wrong in the history."""
    for day, description in ((D1, "Fall"), (D2, "Autumn"), (D2, "Fall")):
        lake.land(day, [answer(term("2251", description)), answer(term("2255"))])
        await lake.load_raw(day)
    assert await changes(lake, "2251") == [(D1, "I")]


async def test_a_key_is_not_gone_with_the_rival_of_its_document(lake: SmallLake) -> None:
    """Invariant 3: of two different documents of a key one is kept, and the next day has it alone."""
    lake.land(D1, [answer(term("2251")), outcome("2251", Outcome.QUARANTINED)])
    await lake.load_raw(D1)
    lake.land(D2, [answer(term("2251")), answer(term("2255"))])
    await lake.load_raw(D2)
    assert await changes(lake, "2251") == [(D1, "I")]


async def test_a_history_that_somebody_emptied_is_filled_again_although_nothing_is_new(lake: SmallLake) -> None:
    """Invariant 1: the tables are a function of what was landed, not of what receipts say of it."""
    for day in (D1, D2):
        lake.land(day, [answer(term("2251"))])
        await lake.load_raw(day)
    await lake.connection.execute("truncate term_raw.term_data")
    await lake.load_raw(D2)
    assert await changes(lake, "2251") == [(D2, "I")]
    await lake.load_raw(D1)
    assert await changes(lake, "2251") == [(D1, "I")]


async def test_a_late_day_does_not_touch_what_a_later_one_has_said(lake: SmallLake) -> None:
    """Invariant 1: loading a day never changes the current state of a key that answered since."""
    lake.land(D3, [answer(term("2251", "New"))])
    await lake.load_raw(D3)
    await lake.load_xform(D3)
    lake.land(D1, [answer(term("2251", "Old")), answer(term("2255"))])
    await lake.load_raw(D1)
    receipt = await lake.load_xform(D1)
    assert await lake.rows("term_xform.current_term_data", "strm", "descr") == [("2251", "New")]
    assert (receipt.rows_changed, receipt.rows_new) == (0, 0)
    assert await lake.history() == [
        ("2251", D1, "I", term("2251", "Old")),
        ("2251", D3, "U", term("2251", "New")),
        ("2255", D1, "I", term("2255")),
        ("2255", D3, "D", None),
    ]


async def test_the_date_of_a_row_is_its_partition_and_not_the_day_of_the_load(lake: SmallLake) -> None:
    """Invariant 9: `modified_date` says when a document changed at its source, not when it was loaded."""
    lake.land(D1, [answer(term("2251", CURRENT_IND="Y"))])
    await lake.load(D1)
    for table in ("term_raw.term_data", "term_xform.current_term_data", "term_curated.term_data_by_service"):
        rows = await lake.rows(table, "modified_date::text", "load_date")
        assert rows == [("2026-01-01 00:00:00", D1)]


# -------------------------------------------------------------------------------------------------- refusals


async def refused(lake: SmallLake, day: date, error: type[Exception]) -> str:
    """The refusal of a load, which must not have changed anything."""
    before, receipts = await lake.contents(), await lake.rows("ops.receipt", "asset", "partition", "attempt")
    with pytest.raises(error) as refusal:
        await lake.load_raw(day)
    assert await lake.contents() == before
    assert await lake.rows("ops.receipt", "asset", "partition", "attempt") == receipts
    return str(refusal.value)


async def ten_terms(lake: SmallLake) -> None:
    lake.land(D1, [answer(term(f"{number:04}")) for number in range(10)])
    await lake.load_raw(D1)


async def test_a_day_that_was_never_landed_is_not_loaded(lake: SmallLake) -> None:
    assert "There is no snapshot to load from." in await refused(lake, D1, NoSnapshotError)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([outcome("0000", Outcome.FAILED)], "1 of 10 keys are without a trustworthy answer; at most 1.0% may be."),
        ([answer(term("0000", "x" * 21))], "1 of 10 keys are in quarantine; at most 5.0% may be."),
    ],
)
async def test_an_answer_of_which_too_much_is_missing_stops_the_load(
    lake: SmallLake, bad: list[Any], message: str
) -> None:
    """Invariant 3: a partial answer is not green, it is refused."""
    await ten_terms(lake)
    lake.tolerances = STRICT
    lake.land(D2, [*bad, *(answer(term(f"{number:04}", "New")) for number in range(1, 10))])
    text = await refused(lake, D2, IntolerableError)
    assert message in text
    assert "Where: term_raw.term_data, partition 2026-01-02." in text


async def test_a_load_that_would_remove_too_much_stops(lake: SmallLake) -> None:
    """Invariant 3: half an answer that calls itself complete once emptied the table (fault T1)."""
    await ten_terms(lake)
    lake.tolerances = STRICT
    lake.land(D2, [answer(term(f"{number:04}", "New")) for number in range(7)])
    text = await refused(lake, D2, VolumeGuardError)
    assert "This load would remove 3 of 10 keys; at most 20% may go at once." in text
    assert "Where: term_raw.term_data, partition 2026-01-02." in text


async def test_an_empty_answer_never_empties_the_table(lake: SmallLake) -> None:
    """Invariant 3: a missing or empty answer wipes nothing, even where it calls itself complete (fault T1)."""
    await ten_terms(lake)
    lake.tolerances = STRICT
    lake.land(D2, [])
    assert "would remove 10 of 10 keys" in await refused(lake, D2, VolumeGuardError)


async def test_absences_that_the_source_confirms_pass_the_same_guard(lake: SmallLake) -> None:
    await ten_terms(lake)
    lake.tolerances = STRICT
    lake.land(D2, [outcome(f"{number:04}", Outcome.ABSENT, career="UGRD") for number in range(10)])
    assert "would remove 10 of 10 keys" in await refused(lake, D2, VolumeGuardError)


@pytest.mark.parametrize(
    ("asset", "partition", "guard", "passes"),
    [
        ("term_raw.term_data", "2026-01-02", "volume", True),
        ("term_raw.term_data", "2026-01-03", "volume", False),
        ("term_raw.term_data", "2026-01-02", "other", False),
        ("term_xform.current_term_data", "2026-01-02", "volume", False),
    ],
)
async def test_permission_lets_exactly_one_slice_past_exactly_one_guard(
    lake: SmallLake, asset: str, partition: str, guard: str, passes: bool
) -> None:
    """Invariant 3: what an operator permits for one night must not hold for another."""
    await ten_terms(lake)
    lake.tolerances = STRICT
    await lake.connection.execute(
        "insert into ops.guard_override values ($1, $2, $3, 'The source has closed these terms.', 'operator', now())",
        asset,
        partition,
        guard,
    )
    lake.land(D2, [answer(term("0000"))])
    if passes:
        receipt = await lake.load_raw(D2)
        assert (receipt.rows_removed, receipt.rows_unchanged) == (9, 1)
    else:
        await refused(lake, D2, VolumeGuardError)


async def test_permission_does_not_lift_the_tolerance_of_failures(lake: SmallLake) -> None:
    lake.tolerances = STRICT
    await lake.connection.execute(
        "insert into ops.guard_override"
        " values ('term_raw.term_data', '2026-01-01', 'volume', 'As agreed by mail.', 'operator', now())"
    )
    lake.land(D1, [outcome("2251", Outcome.FAILED)])
    await refused(lake, D1, IntolerableError)


# -------------------------------------------------------------------------------------------------- receipts


answers = st.dictionaries(
    st.sampled_from(["2251", "2255", "2258"]),
    st.sampled_from(["A", "B", Outcome.ABSENT, Outcome.FAILED, Outcome.QUARANTINED]),
)


@given(st.lists(st.tuples(answers, st.booleans()), min_size=1, max_size=5))
@settings(deadline=None, max_examples=20)
async def test_every_receipt_adds_up(module_lake: SmallLake, days: list[tuple[dict[str, Any], bool]]) -> None:
    """Invariant 3: nothing that was fetched is unaccounted for, and the totals are those of the tables.

    Skipped rows once counted as inserted, and errors were counted nowhere (faults C6, D6).
    """
    await module_lake.empty()
    alive = 0
    for number, (found, complete) in enumerate(days):
        day = D1 + timedelta(days=number)
        rows = [
            outcome(key, value) if isinstance(value, Outcome) else answer(term(key, value))
            for key, value in found.items()
        ]
        snapshot = module_lake.land(day, rows, complete=complete)
        receipt = await module_lake.load_raw(day)
        new, changed, removed, unchanged = (
            receipt.rows_new or 0,
            receipt.rows_changed or 0,
            receipt.rows_removed or 0,
            receipt.rows_unchanged or 0,
        )
        assert receipt.outcomes == snapshot.outcomes
        assert new + changed + unchanged == snapshot.outcomes.data
        assert removed <= alive
        alive += new - removed
        assert receipt.rows_total == len(await module_lake.history())
        current = await module_lake.load_xform(day)
        assert current.rows_total == alive == len(await module_lake.rows("term_xform.current_term_data", "strm"))


async def test_a_receipt_is_kept_in_the_database_and_shown_under_stable_names(lake: SmallLake) -> None:
    """Nothing told which run had asked for what, and what had become of it (fault X4)."""
    snapshot = lake.land(D1, [answer(term("2251")), answer(term("2255")), outcome("2258", Outcome.FAILED)])
    receipt = await lake.load_raw(D1, "run-9")
    columns = ("run_id", "load_date", "asked", "data", "failed", "rows_total", "rows_new", "snapshot_sha256")
    assert await lake.rows("ops.receipt", *columns) == [("run-9", D1, 3, 2, 1, 2, 2, snapshot.sha256)]
    shown = receipt.metadata()
    assert {name: shown[name] for name in shown if not name.endswith(("_s", "per_s"))} == {
        "lake/rows_new": 2,
        "lake/rows_changed": 0,
        "lake/rows_removed": 0,
        "lake/rows_unchanged": 0,
        "lake/rows_quarantined": 0,
        "dagster/row_count": 2,
    }


async def test_every_row_tells_its_run_and_its_source(lake: SmallLake) -> None:
    """Raw tables once held neither source, nor digest, nor run (fault X5)."""
    lake.land(D1, [answer(term("2251"))])
    await lake.load_raw(D1, "run-1")
    sha256 = lake.land(D2, []).sha256
    await lake.load_raw(D2, "run-2")
    assert await lake.rows("term_raw.term_data", "load_date", "run_id", "source", "digest is null") == [
        (D1, "run-1", "test", False),
        (D2, "run-2", f"snapshot {sha256[:12]} of 2026-01-02", True),
    ]
