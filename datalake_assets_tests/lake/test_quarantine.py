"""Documents that could not be kept: mirrored from snapshots, replayed to where a first good load would have ended."""

import asyncio
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.entities import TERM
from datalake_assets.exact_json import JsonError, loads
from datalake_assets.lake import quarantine
from datalake_assets.lake.documents import Answer, as_duplicate, judge, settle_duplicates, unusable
from datalake_assets.lake.landing import Snapshot
from datalake_assets.lake.ledger import SupersededError
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.quarantine import Quarantined, QuarantineError
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.lake.connections import Watched
from datalake_assets_tests.lake.lakes import CLOCK, SmallLake, answer, outcome, term

pytestmark = pytest.mark.anyio

D1, D2, D3 = (date(2026, 1, day) for day in (1, 2, 3))
TOO_LONG = "x" * 21


async def landed(lake: SmallLake, day: date, *answers: Answer, complete: bool = True) -> Snapshot:
    """A snapshot with its quarantine, as an extraction leaves both."""
    snapshot = lake.land(day, answers, complete=complete)
    await lake.mirror_quarantine(snapshot)
    return snapshot


async def listed(lake: SmallLake, state: str | None = "open") -> list[Quarantined]:
    return await quarantine.listing(lake.connection, state=state)


async def replay(lake: SmallLake, number: int, document: Any = None) -> LoadSlice:
    content = document if document is None or isinstance(document, bytes) else orjson.dumps(document)
    return await quarantine.replay(
        lake.connection, lake.landing, number, document=content, run_id="replay", clock=CLOCK
    )


def judged(text: str, source: str = "test") -> Answer:
    return judge(TERM, loads(text.encode()), source)


# -------------------------------------------------------------------------------------------------- the mirror


async def test_the_table_shows_what_the_snapshot_could_not_keep(lake: SmallLake) -> None:
    """Invariant 5: reason, rule and pointer to the source, and the document cleaned of sensitive keys."""
    await landed(lake, D1, answer(term("2251")), answer(term("2255", TOO_LONG, SSN="123-45-6789")))
    (found,) = await listed(lake)
    assert (found.entity, found.load_date, found.scope, found.key) == ("term", D1, "", ("UGRD", "2255"))
    assert (found.rule, found.source, found.state) == ("too_long", "test", "open")
    assert found.reason == "Column descr is longer than 20 characters."
    assert found.document is None
    shown = await quarantine.show(lake.connection, found.quarantine_id)
    assert loads(shown.document or b"") == term("2255", TOO_LONG)


async def test_a_document_is_listed_once_however_often_its_snapshot_is_mirrored(lake: SmallLake) -> None:
    snapshot = await landed(lake, D1, answer(term("2255", TOO_LONG)), answer(term("2258", 17)))
    before = await listed(lake)
    for _ in range(3):
        await lake.mirror_quarantine(snapshot)
    assert await listed(lake, None) == before
    assert len(before) == 2


async def test_a_document_that_the_source_has_mended_is_superseded(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2255", TOO_LONG)), answer(term("2258", 17)))
    await landed(lake, D1, answer(term("2255")), answer(term("2258", 17)))
    assert [(one.key[1], one.state) for one in await listed(lake, None)] == [("2258", "open"), ("2255", "superseded")]


async def test_a_document_that_is_back_is_open_again(lake: SmallLake) -> None:
    bad = await landed(lake, D1, answer(term("2255", TOO_LONG)))
    await landed(lake, D1, answer(term("2255")))
    assert await listed(lake) == []
    await lake.mirror_quarantine(bad)
    assert [(one.key[1], one.state) for one in await listed(lake, None)] == [("2255", "open")]


async def test_a_replayed_document_that_the_source_repeats_is_open_again(lake: SmallLake) -> None:
    """The new snapshot does not hold what was mended, so nobody may believe that it does."""
    await landed(lake, D1, answer(term("2255", TOO_LONG)))
    (found,) = await listed(lake)
    await replay(lake, found.quarantine_id, term("2255", "Mended"))
    assert await listed(lake) == []
    await landed(lake, D1, answer(term("2255", TOO_LONG)))
    assert [one.quarantine_id for one in await listed(lake)] == [found.quarantine_id]
    await replay(lake, found.quarantine_id, term("2255", "Mended"))
    assert [one.state for one in await listed(lake, None)] == ["replayed"]


async def test_days_are_mirrored_apart(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2255", TOO_LONG)))
    await landed(lake, D2, answer(term("2255")))
    await landed(lake, D3, answer(term("2255", TOO_LONG)))
    assert [(one.load_date, one.state) for one in await listed(lake, None)] == [(D3, "open"), (D1, "open")]


async def test_more_documents_than_fit_one_chunk_are_all_listed(lake: SmallLake) -> None:
    await landed(lake, D1, *(judged(f'{{"STRM": {number}}}', f"row {number}") for number in range(1201)))
    assert len(await listed(lake)) == 1201


async def test_a_part_that_is_no_document_is_listed_without_key_and_content(lake: SmallLake) -> None:
    await landed(lake, D1, unusable(TERM, "cut_line", "The line ends in the middle.", "test row 9"))
    (found,) = await listed(lake)
    assert (found.key, found.rule, found.document) == (("", ""), "cut_line", None)


async def test_equal_documents_at_different_places_of_an_answer_are_listed_apart(lake: SmallLake) -> None:
    await landed(lake, D1, judged('{"STRM": 1}', "row 1"), judged('{"STRM": 1}', "row 2"))
    assert sorted(one.source for one in await listed(lake)) == ["row 1", "row 2"]


async def test_the_list_is_of_one_entity_and_one_state(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2255", TOO_LONG)))
    assert await quarantine.listing(lake.connection, entity="course") == []
    assert len(await quarantine.listing(lake.connection, entity="term", state="open")) == 1
    assert await quarantine.listing(lake.connection, entity="term", state="replayed") == []


# -------------------------------------------------------------------------------------------------- the replay


GOOD_DAYS = {
    D1: [term("2251", CURRENT_IND="Y"), term("2255", "Summer"), term("2258", "Old")],
    D2: [term("2251", CURRENT_IND="Y"), term("2255", "Mended"), term("2258", "New")],
    D3: [term("2251", CURRENT_IND="Y"), term("2255", "Mended"), term("2258", "Old")],
}


async def loaded(lake: SmallLake, poisoned: dict[tuple[date, str], Any]) -> dict[str, list[str]]:
    """The tables after three days, of which some documents are poisoned."""
    await lake.empty()
    for day, documents in GOOD_DAYS.items():
        answers = [answer(poisoned.get((day, document["STRM"]), document)) for document in documents]
        await landed(lake, day, *answers)
        await lake.load(day)
    return await lake.contents()


@pytest.mark.parametrize("day", [D1, D2, D3], ids=["first day", "second day", "third day"])
@pytest.mark.parametrize("strm", ["2255", "2258"])
@pytest.mark.parametrize(
    "poison",
    [{"DESCR": TOO_LONG}, {"DESCR": 17}, {"DESCR": "\0"}, {"STRM": None}],
    ids=["too long", "wrong type", "nul", "no key"],
)
async def test_a_replay_ends_where_a_first_good_load_would_have(
    lake: SmallLake, day: date, strm: str, poison: dict[str, Any]
) -> None:
    """Invariant 5: every table, history included, as if the document had been good from the start."""
    expected = await loaded(lake, {})
    good = next(document for document in GOOD_DAYS[day] if document["STRM"] == strm)
    assert await loaded(lake, {(day, strm): {**good, **poison}}) != expected or (day == D3 and strm == "2255")
    (found,) = await listed(lake)
    piece = await replay(lake, found.quarantine_id, good)
    assert piece == LoadSlice(TERM, day)
    await lake.load(day)
    assert await lake.contents() == expected
    assert [one.state for one in await listed(lake, None)] == ["replayed"]


poisons = st.lists(
    st.tuples(st.sampled_from([D1, D2, D3]), st.sampled_from(["2255", "2258"])), min_size=1, max_size=4, unique=True
)


@given(poisons, st.integers(0, 99))
@settings(deadline=None, max_examples=6)
async def test_replays_may_come_in_any_order(module_lake: SmallLake, places: list[tuple[date, str]], seed: int) -> None:
    """Invariant 5, for several poisoned documents of several days, replayed in any order."""
    expected = await loaded(module_lake, {})
    await loaded(module_lake, {(day, strm): term(strm, TOO_LONG) for day, strm in places})
    found = await listed(module_lake)
    assert len(found) == len(places)
    for one in sorted(found, key=lambda one: hash((one.quarantine_id, seed))):
        good = next(document for document in GOOD_DAYS[one.load_date] if document["STRM"] == one.key[1])
        piece = await replay(module_lake, one.quarantine_id, good)
        await module_lake.load(piece.load_date)
    assert await module_lake.contents() == expected


async def test_a_document_that_passes_the_rules_of_today_is_replayed_as_it_was_kept(
    lake: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 5: the rule was wrong, the document right, to the last digit and the last array."""
    odd = '"N":[1.50,12345678901234567890],"X":"\u00e9\u2028"'
    text = f'{{"ACAD_CAREER":"UGRD","STRM":"2255","DESCR":"{TOO_LONG}",{odd}}}'
    await landed(lake, D1, judged(text))
    (found,) = await listed(lake)
    with pytest.raises(QuarantineError, match="still breaks rule too_long"):
        await replay(lake, found.quarantine_id)
    monkeypatch.setattr("datalake_assets.lake.documents._broken_rule", lambda *_: None)
    await replay(lake, found.quarantine_id)
    (kept,) = lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1)))
    assert kept == judged(text)


async def test_a_replay_gives_completeness_back_when_the_last_unknown_key_is_known(lake: SmallLake) -> None:
    """Invariant 3: until then no key that seemed to be missing was removed, and afterwards it is."""
    await landed(lake, D1, answer(term("2251")), answer(term("2255")))
    await lake.load_raw(D1)
    snapshot = await landed(lake, D2, answer(term("2251", STRM=None)))
    await lake.load_raw(D2)
    assert snapshot.complete is False
    (found,) = await listed(lake)
    await replay(lake, found.quarantine_id, term("2251"))
    assert lake.landing.require(LoadSlice(TERM, D2)).complete is True
    await lake.load_raw(D2)
    assert [(strm, day, operation) for strm, day, operation, _ in await lake.history()] == [
        ("2251", D1, "I"),
        ("2255", D1, "I"),
        ("2255", D2, "D"),
    ]


async def test_an_incomplete_answer_stays_incomplete_after_a_replay(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2251", TOO_LONG)), complete=False)
    (found,) = await listed(lake)
    await replay(lake, found.quarantine_id, term("2251"))
    assert lake.landing.require(LoadSlice(TERM, D1)).complete is False


async def test_a_mended_document_is_cleaned_of_sensitive_keys(lake: SmallLake) -> None:
    """Invariant 6: an operator's file goes the same way as an answer."""
    await landed(lake, D1, answer(term("2251", TOO_LONG)))
    (found,) = await listed(lake)
    await replay(lake, found.quarantine_id, term("2251", sSn="123-45-6789"))
    (kept,) = lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1)))
    assert loads(kept.document or b"") == term("2251")


async def test_the_document_that_is_chosen_among_duplicates_changes_places_with_the_other(lake: SmallLake) -> None:
    first, second = answer(term("2251", "A")), answer(term("2251", "B"))
    rejected = as_duplicate(second)
    await landed(lake, D1, first, rejected)
    (found,) = await listed(lake)
    await replay(lake, found.quarantine_id)
    rows = list(lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1))))
    assert rows == [second, as_duplicate(first)]
    (rival,) = await listed(lake)
    await replay(lake, rival.quarantine_id)
    assert list(lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1)))) == [first, rejected]


async def test_neighbours_of_a_replayed_document_stay_as_they_were(lake: SmallLake) -> None:
    others = [answer(term("2255")), outcome("2258", Outcome.FAILED), outcome("2261", Outcome.ABSENT)]
    await landed(lake, D1, answer(term("2251", TOO_LONG)), answer(term("2265", 17)), *others)
    numbers = {one.key[1]: one.quarantine_id for one in await listed(lake)}
    await replay(lake, numbers["2251"], term("2251"))
    rows = list(lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1))))
    assert sorted(rows, key=lambda row: row.key) == sorted(
        [answer(term("2251")), answer(term("2265", 17)), *others], key=lambda row: row.key
    )
    assert [one.key[1] for one in await listed(lake)] == ["2265"]


@pytest.mark.parametrize("mended", ["A", "B", "C"])
async def test_a_mended_document_is_settled_with_its_rivals_as_in_a_first_load(lake: SmallLake, mended: str) -> None:
    """Invariant 5: a key of two documents, of which one was poisoned, had kept its last state."""
    answers = [answer(term("2251", "B")), answer(term("2251", 17))]
    await landed(lake, D1, *settle_duplicates(answers, TERM))
    poisoned = next(one for one in await listed(lake) if one.rule == "wrong_type")
    await replay(lake, poisoned.quarantine_id, term("2251", mended))
    rows = list(lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1))))
    assert rows == list(settle_duplicates([answer(term("2251", "B")), answer(term("2251", mended))], TERM))
    assert len(await listed(lake)) == len(rows) - 1


async def test_of_two_replays_at_once_none_undoes_the_other(lake: SmallLake, lake_address: PostgresAddress) -> None:
    """Invariant 11: each amends the snapshot of the day, so one that did not see the other must not commit."""
    await landed(lake, D1, *(answer(term(f"{number:04}", TOO_LONG)) for number in range(6)))

    async def one(document: Quarantined) -> int:
        async with session(lake_address, application_name="replay") as connection:
            try:
                await replay(
                    SmallLake(connection, lake.landing, lake.folder), document.quarantine_id, term(document.key[1])
                )
            except SupersededError:
                return 0
            return 1

    done = sum(await asyncio.gather(*map(one, await listed(lake))))
    assert lake.landing.require(LoadSlice(TERM, D1)).outcomes.data == done == 6 - len(await listed(lake))
    for document in await listed(lake):
        await one(document)
    assert lake.landing.require(LoadSlice(TERM, D1)).outcomes.data == 6


async def test_a_replay_does_not_commit_over_a_load_that_began_meanwhile(lake: SmallLake) -> None:
    """Invariant 11: the load's new answer must not be replaced by an amendment of the old one."""
    before = await landed(lake, D1, answer(term("2251", TOO_LONG)))
    (found,) = await listed(lake)

    async def load_begins(call: int) -> None:
        if call == 4:
            await lake.ledger.begin(lake.connection, str(TERM.landing), "2026-01-01", "load")

    watched = SmallLake(Watched(lake.connection, load_begins), lake.landing, lake.folder)
    with pytest.raises(SupersededError):
        await replay(watched, found.quarantine_id, term("2251"))
    assert lake.landing.require(LoadSlice(TERM, D1)).sha256 == before.sha256
    assert [one.state for one in await listed(lake, None)] == ["open"]


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "mended", "message"),
    [
        (f'"DESCR": "{TOO_LONG}"', None, "still breaks rule too_long: Column descr is longer than 20 characters."),
        (f'"DESCR": "{TOO_LONG}"', {"DESCR": 17}, "still breaks rule wrong_type: Column descr is no text."),
        ('"DESCR": 17', {"STRM": "9999"}, "The mended document has another key than the quarantined one."),
        ('"DESCR": 17', {"ACAD_CAREER": "GRAD"}, "The mended document has another key than the quarantined one."),
        ('"STRM": null', {"ACAD_CAREER": "GRAD"}, "The mended document has another key than the quarantined one."),
        ('"DESCR": "\\u0000"', None, "still breaks rule nul_character"),
        ('"DESCR": "\\ud800"', None, "still breaks rule lone_surrogate"),
        ('"X": NaN', None, "still breaks rule not_a_number"),
        ('"X": -Infinity', None, "still breaks rule not_a_number"),
        ('"X": 1e999999', None, "still breaks rule number_too_large"),
        ('"X": 1e9999999999999999999', None, "still breaks rule number_too_large"),
        ('"X": 1, "X": 2', None, "still breaks rule duplicate_key"),
        ('"X": [{"Y": 1, "Y": 2}]', None, "still breaks rule duplicate_key"),
        ('"X": ' + "[" * 200 + "]" * 200, None, "still breaks rule nesting_too_deep"),
    ],
)
async def test_a_replay_that_would_not_be_right_is_refused(
    lake: SmallLake, text: str, mended: dict[str, Any] | None, message: str
) -> None:
    """Invariant 5: nothing that was altered on its way into quarantine may pass for what the source wrote."""
    known = '"ACAD_CAREER": "UGRD"' + ("" if "STRM" in text else ', "STRM": "2251"')
    before = await landed(lake, D1, judged(f"{{{known}, {text}}}"))
    (found,) = await listed(lake)
    with pytest.raises(QuarantineError) as refusal:
        await replay(lake, found.quarantine_id, None if mended is None else {**term("2251"), **mended})
    assert message in str(refusal.value)
    assert f"Where: term, partition 2026-01-01, quarantined document {found.quarantine_id}." in str(refusal.value)
    assert lake.landing.require(LoadSlice(TERM, D1)).sha256 == before.sha256
    assert [one.state for one in await listed(lake, None)] == ["open"]


async def test_a_document_that_could_not_be_kept_at_all_needs_a_mended_one(lake: SmallLake) -> None:
    await landed(lake, D1, unusable(TERM, "cut_line", "The line ends in the middle.", "test row 9"))
    (found,) = await listed(lake)
    with pytest.raises(QuarantineError, match="Nothing of the document could be kept") as refusal:
        await replay(lake, found.quarantine_id)
    assert "--document FILE" in str(refusal.value)
    await replay(lake, found.quarantine_id, term("2251"))
    assert lake.landing.require(LoadSlice(TERM, D1)).outcomes.data == 1


async def test_a_document_is_replayed_once(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2251", TOO_LONG)))
    (found,) = await listed(lake)
    await replay(lake, found.quarantine_id, term("2251"))
    with pytest.raises(QuarantineError, match="The document is replayed already"):
        await replay(lake, found.quarantine_id, term("2251", "Another"))


async def test_a_superseded_document_is_not_replayed(lake: SmallLake) -> None:
    """The source has said something newer about its key."""
    await landed(lake, D1, answer(term("2251", TOO_LONG)))
    (found,) = await listed(lake)
    await landed(lake, D1, answer(term("2251", "Newer")))
    with pytest.raises(QuarantineError, match="The document is superseded already"):
        await replay(lake, found.quarantine_id, term("2251"))


async def test_a_document_that_its_snapshot_no_longer_holds_is_not_replayed(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2251", TOO_LONG)))
    (found,) = await listed(lake)
    lake.land(D1, [answer(term("2251", "Newer"))])
    with pytest.raises(QuarantineError, match="The partition's snapshot no longer holds the document"):
        await replay(lake, found.quarantine_id, term("2251"))
    assert [row.document for row in lake.landing.answers(lake.landing.require(LoadSlice(TERM, D1)))] == [
        answer(term("2251", "Newer")).document
    ]


async def test_a_mended_document_that_is_no_json_is_refused(lake: SmallLake) -> None:
    await landed(lake, D1, answer(term("2251", TOO_LONG)))
    (found,) = await listed(lake)
    with pytest.raises(JsonError, match="not JSON"):
        await replay(lake, found.quarantine_id, b"{")


async def test_a_number_that_does_not_exist_is_refused(lake: SmallLake) -> None:
    with pytest.raises(QuarantineError) as refusal:
        await quarantine.show(lake.connection, 999_999)
    assert str(refusal.value) == (
        "There is no quarantined document 999999. What to do: `datalake quarantine list` shows the numbers."
    )


def test_an_entity_is_found_by_its_name_or_named() -> None:
    assert quarantine.entity_named("term") is TERM
    with pytest.raises(LoadError, match="There is no entity 'terms'; there are: term"):
        quarantine.entity_named("terms")
