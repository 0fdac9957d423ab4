"""Invariants 3, 4 and 11 for courses: every term stands for itself, and an answer counts whole or not at all."""

import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from datalake_assets.entities import COURSE, TERM
from datalake_assets.sources.courses import COURSES_AT_ONCE
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.integration.rehearsal import Rehearsal, differing, rehearsal
from datalake_assets_tests.integration.two_runs import ended_as_one, left_behind, two_runs

FIRST = date(2026, 3, 2)
RUN = ("run", "course_daily", "--date", FIRST.isoformat(), "--quiet")
TODAY = {"DATALAKE_TODAY": FIRST.isoformat()}
ENDPOINT = "snaplogic_course"

PAIRS_OF_CAMPAIGN = 20

SMALL: Final[dict[str, int]] = {
    "courses_per_term": 2 * COURSES_AT_ONCE + 100,
    "sections_per_course": 0,
    "roster_size": 0,
    "empty_docs_rate": 0,
}
"""Small courses, and so many that more than one part of an answer was spooled when half of it is there."""


@dataclass(frozen=True)
class Terms:
    """A lake that knows the active terms and no course yet, and the same after a load that nothing disturbed."""

    without_courses: Rehearsal
    codes: list[str]
    tables: dict[str, list[tuple[Any, ...]]]

    def copy(self, name: str, folder: Path) -> Rehearsal:
        self.without_courses.simulator.reset()
        return self.without_courses.copy(f"{name}_{uuid.uuid4().hex[:8]}", folder)


@pytest.fixture(scope="module")
def terms(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terms]:
    folder = tmp_path_factory.mktemp("course")
    with rehearsal(postgres_server, f"course_{uuid.uuid4().hex[:8]}", folder / "empty", FIRST, **SMALL) as lake:
        result = lake.load(FIRST, TERM)
        assert result.returncode == 0, result.stderr
        undisturbed = lake.copy(f"course_{uuid.uuid4().hex[:8]}", folder / "undisturbed")
        result = undisturbed.load(FIRST, COURSE)
        assert result.returncode == 0, result.stderr
        codes = [row["strm"] for row in lake.contents()["active_terms"]]
        assert sum((courses_of(lake, code) for code in codes), Counter()) == loaded_courses(undisturbed)
        yield Terms(lake, codes, tables_of(undisturbed))


def test_a_term_that_fails_holds_up_no_other_and_is_retried_alone(terms: Terms, tmp_path: Path):
    """Fault C3 besides: half an answer, in which courses were spoilt, came again whole and sound, and counts once."""
    lake = terms.copy("term", tmp_path)
    broken, cut, *others = terms.codes
    lake.simulator.set_faults(
        [
            {"fault": "status_404", "scope": f"{ENDPOINT}/{broken}"},
            {"fault": "body_cut", "how": "chunked", "scope": f"{ENDPOINT}/{cut}", "first_n": 1},
            {"fault": "poison", "how": "nul", "rate": 1.0, "scope": f"{ENDPOINT}/{cut}", "first_n": 1},
        ]
    )
    result = lake.load(FIRST, COURSE)
    assert result.returncode == 1
    ended = {code: f"course_daily {FIRST}|{code}: succeeded" in result.stdout for code in terms.codes}
    assert ended == {code: code != broken for code in terms.codes}, result.stdout + result.stderr
    assert loaded_courses(lake) == sum((courses_of(lake, code) for code in (cut, *others)), Counter())
    landings = {receipt["scope"]: receipt for receipt in lake.receipts(str(COURSE.landing))}
    assert landings.keys() == {cut, *others}
    assert [landings[cut][name] for name in ("asked", "data", "quarantined", "retries")] == [
        *[len(courses_of(lake, cut))] * 2,
        0,
        1,
    ]

    lake.simulator.reset()
    again = lake.command(*RUN, "--term", broken, **TODAY)
    assert again.returncode == 0, again.stderr
    assert len(lake.simulator.requests()["requests"]) == 1, "the other terms were asked for again"
    assert differing(tables_of(lake), terms.tables) == []
    assert lake.leftovers() == []


def test_a_load_killed_in_the_middle_of_an_answer_is_made_good_by_running_it_again(terms: Terms, tmp_path: Path):
    lake = terms.copy("killed", tmp_path)
    code = terms.codes[-1]
    # What is killed had spooled courses without a key, which no later answer takes the place of.
    lake.simulator.set_faults(
        [
            {"fault": "trickle", "bytes_per_second": 200_000, "scope": ENDPOINT},
            {"fault": "wrong_types", "how": "v2_null", "rate": 1.0, "scope": ENDPOINT},
        ]
    )
    process = lake.start(*RUN, "--term", code, **TODAY)
    deadline = time.monotonic() + 60
    while not list((lake.folder / "spool").rglob("*.parquet")):
        assert time.monotonic() < deadline, "no part of the answer was spooled"
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert lake.receipts(str(COURSE.landing)) == []
    lake.simulator.reset()
    again = lake.command(*RUN, "--term", code, **TODAY)
    assert again.returncode == 0, again.stderr
    assert differing(tables_of(lake), of_term(terms.tables, code)) == []
    assert lake.leftovers() == []


def test_two_runs_of_a_term_at_the_same_moment_end_as_one_load(terms: Terms, tmp_path: Path):
    lake = terms.copy("pair", tmp_path)
    code = terms.codes[0]
    lake.simulator.set_faults([{"fault": "latency", "ms": 500, "jitter_ms": 1000, "scope": ENDPOINT}])
    ended_as_one(lake, two_runs(lake, *RUN, "--term", code, **TODAY), COURSE)
    assert differing(tables_of(lake), of_term(terms.tables, code)) == []
    assert left_behind(lake) == []


@pytest.mark.campaign
def test_two_runs_of_all_terms_at_random_distances_end_as_one_load(terms: Terms, tmp_path: Path):
    draw = random.Random(20260304)  # noqa: S311 - drawn to be repeated, not to be secret
    for number in range(PAIRS_OF_CAMPAIGN):
        lake = terms.copy("pair", tmp_path / str(number))
        lake.simulator.set_faults([{"fault": "latency", "ms": 200, "jitter_ms": 1000, "scope": ENDPOINT}])
        gap_s = number % 2 * draw.uniform(0.0, 9.0)
        superseded = ended_as_one(lake, two_runs(lake, *RUN, gap_s=gap_s, **TODAY), COURSE, each_alone=True)
        print(f"pair {number}, {gap_s:.1f} s apart: superseded at {', '.join(superseded) or 'nothing'}")  # noqa: T201 - the figure of the campaign
        assert differing(tables_of(lake), terms.tables) == []
        assert left_behind(lake) == []


# ------------------------------------------------------------------------------------------------- looking on


def courses_of(lake: Rehearsal, code: str) -> Counter[tuple[str, ...]]:
    """Key and digest of every course that there is."""
    truth = lake.simulator.truth(kind="course", day=FIRST, term=code)
    return Counter((*row["key"], row["digest"]) for row in truth["keys"])


def loaded_courses(lake: Rehearsal) -> Counter[tuple[str, ...]]:
    return Counter((*row["key"], row["digest"]) for row in lake.contents(COURSE)["keys"])


def tables_of(lake: Rehearsal) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables of courses, without what tells runs and requests apart."""
    tables = lake.dump(without=("source",))
    return {str(table): tables[str(table)] for table in (COURSE.raw, COURSE.xform, COURSE.curated)}


def of_term(tables: dict[str, list[tuple[Any, ...]]], code: str) -> dict[str, list[tuple[Any, ...]]]:
    return {table: [row for row in rows if int(code) in row] for table, rows in tables.items()}
