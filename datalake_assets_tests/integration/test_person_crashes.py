"""Invariants 4 and 11 for people: what a load that died, failed or met another had been answered is not asked again.

The simulator's log tells whom it was asked about, the spool who was answered; both are read between two runs.
"""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from datalake_assets.assets.person import STUDENT_TERMS, TEACHING_TERMS, TERM_ANSWERS
from datalake_assets.clock import Clock
from datalake_assets.entities import PERSON
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Spool
from datalake_assets.sources.policies import PERSON_BATCH, PERSON_TERMS
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.integration.rehearsal import Rehearsal, differing, rehearsal
from datalake_assets_tests.integration.two_runs import ended_as_one, left_behind, two_runs

FIRST = date(2026, 3, 2)
RUN = ("run", "person_daily", "--date", FIRST.isoformat(), "--quiet")
TODAY = {"DATALAKE_TODAY": FIRST.isoformat()}
LANDING = str(PERSON.landing)

KILLS = 3
KILLS_OF_CAMPAIGN = 20
PAIRS_OF_CAMPAIGN = 20

BATCHES, TERMS = "personapi", "cstools"
"""Endpoints that are asked about persons by name."""

SLOW: Final[list[dict[str, Any]]] = [
    {"fault": "latency", "scope": TERMS, "ms": 20, "jitter_ms": 60},
    {"fault": "latency", "scope": BATCHES, "ms": 100, "jitter_ms": 500},
]
"""So that at any moment some questions are on the wire."""

BATCHES_UNDER_WAY = 2 * PERSON_BATCH.concurrency
"""Batches that a crash may cost: those on the wire, and as many again whose results wait for the spool."""

TERMS_UNDER_WAY = 50 + PERSON_TERMS.concurrency
"""Persons whose terms a crash may cost: what is spooled at once, and who is being asked about."""

Asked = dict[str, Counter[str]]
"""How often each person was asked about, by endpoint."""


@dataclass(frozen=True)
class Undisturbed:
    """A load that nothing disturbed, and the empty lake it began with."""

    empty: Rehearsal
    tables: dict[str, list[tuple[Any, ...]]]
    asked: Asked
    seconds: float

    @property
    def questions(self) -> int:
        return sum(map(Counter.total, self.asked.values()))

    def copy(self, name: str, folder: Path) -> Rehearsal:
        self.empty.simulator.reset()
        return self.empty.copy(f"{name}_{uuid.uuid4().hex[:8]}", folder)


@pytest.fixture(scope="module")
def undisturbed(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("person")
    # Many terms make many batches of few people.
    knobs = {"persons": 200, "terms_per_student": 14}
    with rehearsal(postgres_server, f"person_{uuid.uuid4().hex[:8]}", folder, FIRST, **knobs) as empty:
        lake = empty.copy(f"person_{uuid.uuid4().hex[:8]}", folder / "undisturbed")
        started = time.monotonic()
        result = lake.load(FIRST, PERSON)
        seconds = time.monotonic() - started
        assert result.returncode == 0, result.stderr
        asked = asked_about(lake)
        assert set(asked[BATCHES].values()) == {1}
        true = {row["key"][0] for row in lake.simulator.truth(kind="person", day=FIRST)["keys"]}
        assert asked[BATCHES].keys() == true
        yield Undisturbed(empty, tables_of(lake), asked, seconds)


# -------------------------------------------------------------------------------------------------- kill -9


@pytest.mark.parametrize("number", range(KILLS))
def test_a_load_killed_while_it_asks_asks_again_only_for_what_was_not_answered(
    undisturbed: Undisturbed, tmp_path: Path, number: int
):
    """The moment is drawn from the questions: one in the first third of them, one in the second, one in the third."""
    draw = random.Random(number)  # noqa: S311 - drawn to be repeated, not to be secret
    lake = undisturbed.copy("killed", tmp_path)
    lake.simulator.set_faults(SLOW)
    questions = (number + draw.random()) / KILLS * undisturbed.questions
    process = lake.start(*RUN, **TODAY)
    wait_until(lambda: sum(map(Counter.total, asked_about(lake).values())) >= questions)
    time.sleep(draw.uniform(0.0, 0.1))
    process.kill()
    process.communicate()
    spooled = made_good(undisturbed, lake)
    assert spooled is not None, "the load was not killed while it asked"
    if number > 0:
        assert spooled, "nothing was spooled, so nothing could be asked again"


@pytest.mark.campaign
def test_loads_of_people_killed_at_random_moments_are_made_good_by_the_next(undisturbed: Undisturbed, tmp_path: Path):
    """The moment is drawn over the length of a run, whatever it does then."""
    draw = random.Random(20260302)  # noqa: S311 - drawn to be repeated, not to be secret
    for number in range(KILLS_OF_CAMPAIGN):
        lake = undisturbed.copy("killed", tmp_path / str(number))
        lake.simulator.set_faults(SLOW)
        process = lake.start(*RUN, **TODAY)
        time.sleep(draw.uniform(0.2, 1.2) * undisturbed.seconds)
        process.kill()
        process.communicate()
        spooled = made_good(undisturbed, lake)
        print(f"kill {number}: {'landed before' if spooled is None else f'{len(spooled)} persons spooled'}")  # noqa: T201 - the figure of the campaign


def made_good(undisturbed: Undisturbed, lake: Rehearsal) -> set[str] | None:
    """Run a killed load again, and compare what it asks with the spool, and its end with the undisturbed one.

    Returns:
        Who was spooled; None where the killed run had committed its snapshot: then nothing was left to be asked, and
        a run after it asks for a new snapshot.
    """
    before = settled(lake)
    landed = bool(lake.receipts(LANDING))
    documents, terms = (set(), set()) if landed else spooled_persons(lake)
    if not landed:
        asked_in_vain = [
            entry
            for entry in lake.simulator.requests()["requests"]
            if entry["endpoint"] == BATCHES and not documents.issuperset(entry["people"])
        ]
        assert len(asked_in_vain) <= BATCHES_UNDER_WAY
        assert len(before[TERMS].keys() - terms - documents) <= TERMS_UNDER_WAY
    lake.simulator.set_faults()
    again = lake.load(FIRST, PERSON)
    assert again.returncode == 0, again.stderr
    after = asked_about(lake)
    known = {BATCHES: documents, TERMS: terms | documents}
    for endpoint, answered in known.items():
        rest = {id_: times for id_, times in undisturbed.asked[endpoint].items() if id_ not in answered}
        assert after[endpoint] - before[endpoint] == rest, f"{endpoint} was not asked for exactly what was missing"
    assert differing(tables_of(lake), undisturbed.tables) == []
    assert left_behind(lake) == []
    return None if landed else terms | documents


# ----------------------------------------------------------------------------------------- persons that fail


def test_a_load_in_which_too_many_fail_is_red_and_its_retry_asks_only_for_them(
    undisturbed: Undisturbed, tmp_path: Path
):
    """Invariants 2 to 4: nothing is loaded while more than one in a hundred have no answer."""
    lake = undisturbed.copy("failed", tmp_path)
    students = sorted(id_ for id_, times in undisturbed.asked[TERMS].items() if times == 1)
    without_terms, without_record = set(students[10:15]), set(students[40:45])
    lake.simulator.set_faults(
        [
            *(
                {"fault": "shape", "how": "object_for_array", "scope": f"{TERMS}/BU_*,{id_}"}
                for id_ in sorted(without_terms)
            ),
            {"fault": "missing_records", "scope": BATCHES, "keys": sorted(without_record)},
        ]
    )
    failed = lake.load(FIRST, PERSON)
    assert failed.returncode == 1, failed.stdout
    assert f"10 of {len(undisturbed.asked[BATCHES])} keys are without a trustworthy answer" in failed.stderr
    assert lake.receipts(LANDING) == []
    assert lake.contents(PERSON)["keys"] == []
    before = asked_about(lake)
    assert before[TERMS] == undisturbed.asked[TERMS]
    others = {id_: 2 if id_ in without_record else 1 for id_ in undisturbed.asked[BATCHES] if id_ not in without_terms}
    assert before[BATCHES] == others

    lake.simulator.set_faults()
    again = lake.load(FIRST, PERSON)
    assert again.returncode == 0, again.stderr
    after = asked_about(lake)
    assert after[BATCHES] - before[BATCHES] == dict.fromkeys(without_record | without_terms, 1)
    assert (after[TERMS] - before[TERMS]).keys() == without_terms
    assert differing(tables_of(lake), undisturbed.tables) == []
    assert lake.leftovers() == []


def test_a_step_that_is_retried_within_a_run_asks_only_for_the_rest(undisturbed: Undisturbed, tmp_path: Path):
    """PeopleSoft fails for the last people of the population, until the load stops and Dagster tries the step again."""
    lake = undisturbed.copy("retried", tmp_path)
    last = sorted(undisturbed.asked[TERMS])[-2 * PERSON_TERMS.breaker_failures :]
    queries = [source[-1] for source in (STUDENT_TERMS, TEACHING_TERMS)]
    keys = [f"{query},{id_}" for query in queries for id_ in last]
    lake.simulator.set_faults([{"fault": "status_500", "scope": TERMS, "keys": keys}])
    process = lake.start(*RUN, **TODAY)
    wait_until(lambda: attempts(lake) == 2)
    lake.simulator.set_faults()
    output = "".join(process.communicate(timeout=120))
    assert process.returncode == 0, output
    asked = asked_about(lake)
    again = {endpoint: asked[endpoint] - undisturbed.asked[endpoint] for endpoint in (BATCHES, TERMS)}
    assert not again[BATCHES]
    # The source was stopped while the others of ten may still have been under way.
    assert len(again[TERMS].keys() - set(last)) < PERSON_TERMS.concurrency
    assert differing(tables_of(lake), undisturbed.tables) == []
    assert lake.leftovers() == []


# ------------------------------------------------------------------------------------------ two runs at once


def test_two_runs_of_a_day_at_the_same_moment_end_as_one_load(undisturbed: Undisturbed, tmp_path: Path):
    lake = undisturbed.copy("pair", tmp_path)
    lake.simulator.set_faults(SLOW)
    ended_as_one(lake, two_runs(lake, *RUN, **TODAY), PERSON)
    assert differing(tables_of(lake), undisturbed.tables) == []
    assert left_behind(lake) == []


@pytest.mark.campaign
def test_two_runs_of_a_day_at_random_distances_end_as_one_load(undisturbed: Undisturbed, tmp_path: Path):
    draw = random.Random(20260303)  # noqa: S311 - drawn to be repeated, not to be secret
    for number in range(PAIRS_OF_CAMPAIGN):
        lake = undisturbed.copy("pair", tmp_path / str(number))
        lake.simulator.set_faults(SLOW)
        gap_s = number % 2 * draw.uniform(0.0, 9.0)
        superseded = ended_as_one(lake, two_runs(lake, *RUN, gap_s=gap_s, **TODAY), PERSON)
        print(f"pair {number}, {gap_s:.1f} s apart: superseded at {', '.join(superseded) or 'nothing'}")  # noqa: T201 - the figure of the campaign
        assert differing(tables_of(lake), undisturbed.tables) == []
        assert left_behind(lake) == []


# ------------------------------------------------------------------------------------------------- looking on


def tables_of(lake: Rehearsal) -> dict[str, list[tuple[Any, ...]]]:
    """Every row, without what tells runs and requests apart."""
    return lake.dump(without=("source",))


def asked_about(lake: Rehearsal) -> Asked:
    people = lake.simulator.requests()["people"]
    return {endpoint: Counter(people.get(endpoint, {})) for endpoint in (BATCHES, TERMS)}


def settled(lake: Rehearsal) -> Asked:
    """What was asked, once the requests of a killed run that were on the wire are in the log."""
    before = asked_about(lake)
    while True:
        time.sleep(0.2)
        now = asked_about(lake)
        if now == before:
            return now
        before = now


def spooled_persons(lake: Rehearsal) -> tuple[set[str], set[str]]:
    """Whose document, and whose terms, an unfinished load has spooled."""
    store = ParquetStore(str(lake.folder / "spool"))
    spool = Spool(store, LoadSlice(PERSON, FIRST), run_id="", clock=Clock())
    documents, terms = ({str(key[0]) for key in part.answered()} for part in (spool, spool.notes(TERM_ANSWERS)))
    return documents, terms


def attempts(lake: Rehearsal) -> int:
    async def count() -> int:
        async with session(lake.lake, application_name="test") as connection:
            found = await connection.fetchval("select attempt from ops.load_attempt where asset = $1", LANDING)
            return found or 0

    return asyncio.run(count())


def wait_until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
