import json
from collections.abc import Iterable
from datetime import date
from typing import Any

import orjson
import pytest

from datalake_assets import exact_json
from datalake_assets.entities import TERM
from datalake_assets.lake import quarantine
from datalake_assets.lake.documents import Answer, judge, settle_duplicates
from datalake_assets.lake.outcomes import Outcome
from datalake_assets_tests.cli.commands import CURRENT, FIRST, FUTURE, PAST, SECOND, THIRD, Commands
from datalake_assets_tests.lake.lakes import CLOCK, SmallLake, answer

POISON = {**FUTURE, "DESCR": 17}
MENDED = {**FUTURE, "DESCR": "Spring term"}


def once_refused(document: dict[str, Any], rule: str = "a_rule_of_old") -> Answer:
    """A document that an older version of the rules did not let pass."""
    return Answer(
        key=(document["ACAD_CAREER"], document["STRM"]),
        outcome=Outcome.QUARANTINED,
        source="test",
        document=orjson.dumps(document),
        rule=rule,
        reason="It was refused once.",
    )


async def land(lake: SmallLake, day: date, answers: Iterable[Answer]) -> None:
    await lake.mirror_quarantine(lake.land(day, answers))
    await lake.load(day, f"run of {day}")


async def days(lake: SmallLake, *second: Answer) -> None:
    """Three days; the second is as told, the third says once more what a good second would have said."""
    await land(lake, FIRST, [answer(PAST), answer(CURRENT), answer(FUTURE)])
    await land(lake, SECOND, [answer(PAST), answer(CURRENT), *second])
    await land(lake, THIRD, [answer(PAST), answer(CURRENT), answer(MENDED)])


async def contents_after_good_days(lake: SmallLake) -> dict[str, list[str]]:
    """What the tables hold if the second day is good from the start."""
    before = lake.landing
    await lake.empty()
    await days(lake, answer(MENDED))
    contents = await lake.contents()
    await lake.empty()
    lake.landing = before
    return contents


@pytest.fixture
def poisoned(commands: Commands) -> tuple[Commands, int, dict[str, list[str]]]:
    """A lake with one poisoned document, its number, and what the tables would hold without the poison."""
    good = commands.in_lake(contents_after_good_days)

    async def story(lake: SmallLake) -> int:
        await days(lake, answer(POISON))
        assert await lake.contents() != good
        return (await quarantine.listing(lake.connection))[0].quarantine_id

    return commands, commands.in_lake(story), good


def mended_file(commands: Commands, document: dict[str, Any] = MENDED) -> str:
    file = commands.folder / "mended.json"
    file.write_bytes(orjson.dumps(document))
    return str(file)


def test_quarantined_documents_are_listed_without_their_content(poisoned: tuple[Commands, int, Any]) -> None:
    commands, number, _ = poisoned
    listed = commands.run("quarantine", "list", "--entity", "term", "--json")
    assert listed.json() == [
        {
            "number": number,
            "entity": "term",
            "load_date": "2026-01-02",
            "scope": "",
            "key": ["UGRD", "2261"],
            "rule": "wrong_type",
            "reason": "Column descr is no text.",
            "source": "test",
            "state": "open",
        }
    ]
    shown = commands.run("quarantine", "list").out.splitlines()
    assert shown[1].split() == [str(number), "term", "2026-01-02", "UGRD", "2261", "open", "wrong_type", "test"]


def test_states_tell_what_is_left_to_do(poisoned: tuple[Commands, int, Any]) -> None:
    commands, number, _ = poisoned
    assert commands.run("quarantine", "list", "--state", "replayed", "--json").json() == []
    assert commands.run("quarantine", "replay", number, "--document", mended_file(commands)).code == 0
    assert commands.run("quarantine", "list").out == "Nothing is in quarantine.\n"
    states = [item["state"] for item in commands.run("quarantine", "list", "--state", "all", "--json").json()]
    assert states == ["replayed"]


def test_a_shown_document_can_be_mended_and_replayed(poisoned: tuple[Commands, int, Any]) -> None:
    """Standard output is the document and nothing else, so that it can go to a file."""
    commands, number, good = poisoned
    shown = commands.run("quarantine", "show", number)
    assert shown.json() == POISON
    assert "Column descr is no text." in shown.err
    assert commands.run("quarantine", "show", number, "--json").json()["document"] == POISON
    mended = {**json.loads(shown.out), "DESCR": "Spring term"}
    assert commands.run("quarantine", "replay", number, "--document", mended_file(commands, mended)).code == 0
    assert commands.in_lake(SmallLake.contents) == good


def test_a_shown_document_keeps_every_digit_and_shows_every_defect(commands: Commands) -> None:
    """What is shown is what gets mended and replayed: a rounded number would be a silent change."""
    text = b'{"ACAD_CAREER":"UGRD","STRM":"2261","DESCR":"\\ud800","CREDITS":1.10,"BIG":123456789012345678901234567890}'

    async def story(lake: SmallLake) -> int:
        await days(lake, judge(TERM, exact_json.loads(text), "test"))
        return (await quarantine.listing(lake.connection))[0].quarantine_id

    shown = commands.run("quarantine", "show", commands.in_lake(story)).out
    assert "".join(shown.split()) == text.decode()


def test_a_replay_ends_where_a_first_good_load_would_have(poisoned: tuple[Commands, int, Any]) -> None:
    """Invariant 5; the third day said nothing new, so its change point goes."""
    commands, number, good = poisoned
    replayed = commands.run("quarantine", "replay", number, "--document", mended_file(commands), "--json")
    assert replayed.code == 0
    assert commands.in_lake(SmallLake.contents) == good
    report = replayed.json()
    (done,) = report["replayed"]
    points = [(point["load_date"], point["operation"]) for point in done["change_points_added"]]
    gone = [(point["load_date"], point["operation"]) for point in done["change_points_removed"]]
    assert (points, gone) == ([("2026-01-02", "U")], [("2026-01-03", "U")])
    assert [(table["asset"], table["partition"]) for table in report["tables"]] == [
        ("term_raw.term_data", "2026-01-02"),
        ("term_xform.current_term_data", "2026-01-02"),
        ("term_curated.term_data_by_service", "2026-01-02"),
    ]
    assert commands.run("checks", "--date", "2026-01-02", "--entity", "term").code == 0


def test_a_replay_says_in_words_what_changed(poisoned: tuple[Commands, int, Any]) -> None:
    commands, number, _ = poisoned
    lines = commands.run("quarantine", "replay", number, "--document", mended_file(commands)).out.splitlines()
    assert lines[:3] == [
        f"{number}: term UGRD 2261 of 2026-01-02 is replayed.",
        "  + change point 2026-01-02 U",
        "  - change point 2026-01-03 U",
    ]


def test_a_document_that_is_still_bad_stays_and_changes_nothing(poisoned: tuple[Commands, int, Any]) -> None:
    commands, number, _ = poisoned
    before = commands.in_lake(SmallLake.contents)
    refused = commands.run("quarantine", "replay", number)
    assert (refused.code, refused.out) == (1, "")
    assert "The document still breaks rule wrong_type" in refused.err
    file = mended_file(commands, {**MENDED, "STRM": "2299"})
    other = commands.run("quarantine", "replay", number, "--document", file)
    assert (other.code, other.out) == (1, "")
    assert "has another key" in other.err
    assert commands.in_lake(SmallLake.contents) == before
    assert commands.run("quarantine", "list", "--json").json()[0]["state"] == "open"


def test_a_second_replay_of_a_document_is_refused(poisoned: tuple[Commands, int, Any]) -> None:
    commands, number, _ = poisoned
    file = mended_file(commands)
    assert commands.run("quarantine", "replay", number, "--document", file).code == 0
    again = commands.run("quarantine", "replay", number, "--document", file)
    assert (again.code, again.out) == (1, "")
    assert "The document is replayed already." in again.err


@pytest.mark.parametrize("recorded", [False, True])
def test_a_replay_that_was_interrupted_is_finished_by_the_next(
    poisoned: tuple[Commands, int, Any], recorded: bool
) -> None:
    """Killed after the snapshot was amended, before or after that was recorded: the tables are behind."""
    commands, number, good = poisoned

    async def interrupted(lake: SmallLake) -> None:
        transaction = lake.connection.transaction()
        await transaction.start()
        content = orjson.dumps(MENDED)
        await quarantine.replay(
            lake.connection, lake.landing, number, document=content, run_id="interrupted", clock=CLOCK
        )
        await (transaction.commit() if recorded else transaction.rollback())

    commands.in_lake(interrupted)
    assert commands.in_lake(SmallLake.contents) != good
    finished = commands.run("quarantine", "replay", number, "--document", mended_file(commands))
    assert (finished.code, finished.out.splitlines()[-1]) == (0, "An earlier replay is finished.")
    assert commands.in_lake(SmallLake.contents) == good


def test_all_replays_what_passes_today_and_loads_each_partition_once(commands: Commands) -> None:
    good = commands.in_lake(contents_after_good_days)

    async def story(lake: SmallLake) -> None:
        await days(lake, once_refused(MENDED), answer({**POISON, "STRM": "2265"}))

    commands.in_lake(story)
    commands.variables["LAKE_MAX_QUARANTINED_SHARE"] = "0.5"
    replayed = commands.run("quarantine", "replay", "--all", "--json")
    assert replayed.code == 1  # one document stays
    report = replayed.json()
    assert [done["key"] for done in report["replayed"]] == [["UGRD", "2261"]]
    assert [(item["key"], item["rule"]) for item in report["refused"]] == [(["UGRD", "2265"], "wrong_type")]
    assert "still breaks rule wrong_type" in report["refused"][0]["refusal"]
    assert len(report["tables"]) == 3
    assert commands.in_lake(SmallLake.contents) == good
    again = commands.run("quarantine", "replay", "--all", "--entity", "term")
    assert again.out.splitlines()[-1] == "No document was replayed."


def test_a_partition_that_may_not_be_loaded_yet_is_a_problem_and_not_a_success(commands: Commands) -> None:
    """The mended document stands in the snapshot; the tables follow when the tolerance allows it."""

    async def story(lake: SmallLake) -> None:
        await days(lake, once_refused(MENDED), answer({**POISON, "STRM": "2265"}))

    good = commands.in_lake(contents_after_good_days)
    commands.in_lake(story)
    replayed = commands.run("quarantine", "replay", "--all", "--json").json()
    assert (len(replayed["replayed"]), replayed["tables"]) == (1, [])
    assert "1 of 4 keys are in quarantine" in replayed["problems"][0]
    number = replayed["replayed"][0]["number"]
    commands.variables["LAKE_MAX_QUARANTINED_SHARE"] = "0.5"
    assert commands.run("quarantine", "replay", number).code == 0
    assert commands.in_lake(SmallLake.contents) == good


def test_all_leaves_documents_that_share_a_key_to_people(commands: Commands) -> None:
    """Which of them counts must not depend on the order of their numbers."""

    async def story(lake: SmallLake) -> None:
        rivals = [answer(MENDED), answer({**MENDED, "DESCR": "Another name"})]
        old = [once_refused({**FUTURE, "STRM": "2265", "DESCR": name}) for name in ("one", "two")]
        await days(lake, *settle_duplicates(rivals, TERM), *old)

    commands.in_lake(story)
    before = commands.in_lake(SmallLake.contents)
    replayed = commands.run("quarantine", "replay", "--all", "--json")
    assert (replayed.code, replayed.json()["replayed"]) == (1, [])
    assert len(replayed.json()["refused"]) == 3
    assert {item["refusal"] for item in replayed.json()["refused"]} == {
        "Several documents have this key; choose one and replay it by its number."
    }
    assert commands.in_lake(SmallLake.contents) == before


def test_a_document_that_says_nothing_new_is_replayed_without_a_change(commands: Commands) -> None:
    async def story(lake: SmallLake) -> int:
        await days(lake, answer({**FUTURE, "DESCR": 17}))
        return (await quarantine.listing(lake.connection))[0].quarantine_id

    number = commands.in_lake(story)
    before = commands.in_lake(SmallLake.contents)
    replayed = commands.run("quarantine", "replay", number, "--document", mended_file(commands, FUTURE))
    assert replayed.code == 0
    assert "Its history is what it was" in replayed.out
    assert commands.in_lake(SmallLake.contents) == before
