"""Every fault that the simulated sources know, alone and in the hostile mix: nothing lost, doubled or wrongly removed.

Ids, term queries, courses and people are asked for as their assets ask for them, over real HTTP, and loaded to curated
on a real server; only Dagster is left out, because a day takes a second without it. The first day is good, the second
one has the fault. What the tables must hold afterwards follows from what the simulator says was sent and from the keys
that the lake itself says it could not get or keep.
"""

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from datalake_assets.assets.course import ask_for_courses
from datalake_assets.assets.landing import LandingRun
from datalake_assets.assets.person import ask_for_persons
from datalake_assets.assets.population import ask_peoplesoft, ask_sap, ask_vds
from datalake_assets.cli.judgement import Expectation, differences, read_contents
from datalake_assets.entities import COURSE, ID_SOURCES, PEOPLESOFT_IDS, PERSON, POPULATION, SAP_IDS, VDS_IDS, Entity
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.curated import load_curated
from datalake_assets.lake.extraction import Extraction, Fill, ask_once
from datalake_assets.lake.landing import read_outcomes
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.population import guard_sources, join_sources
from datalake_assets.lake.raw import RawLoad
from datalake_assets.lake.services import load_services
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked
from datalake_assets.lake.xform import load_xform
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.simulator.faults import KNOBS, Fault, fault
from datalake_assets.simulator.personapi import PersonApi
from datalake_assets.simulator.queries import QUERY_KNOBS
from datalake_assets.simulator.snaplogic_course import SnapLogicCourse
from datalake_assets.simulator.snapperson import SnapPerson
from datalake_assets.sources.policies import RequestPolicy
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.integration.canaries import Canaries, secrets_of
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal
from datalake_assets_tests.servers import open_folder

FIRST, SECOND, THIRD, FOURTH = (date(2026, 3, day) for day in (2, 3, 4, 5))
CALM = date(2026, 3, 7)
"""A day later than the outage with which the scenario ends its first days."""
PERSONS = 60
SEEDS = 50

WORLD: dict[str, Any] = {
    "persons": PERSONS,
    "courses_per_term": 40,
    "roster_size": 4,
    "person_change_rate": 0.3,
    "person_reorder_rate": 0.3,
    "person_new_rate": 0.05,
    "person_removed_rate": 0.05,
    "course_change_rate": 0.3,
    "course_new_rate": 0.05,
    "course_removed_rate": 0.05,
    "empty_docs_rate": 0,
}
"""Small, and with a change of every kind on every day; among so few courses one empty object would stop removals."""

ASKS = {PEOPLESOFT_IDS: ask_peoplesoft, SAP_IDS: ask_sap, VDS_IDS: ask_vds}


class ImpatientSources(SourcesResource):
    """The real clients, which wait and repeat for a second where a night waits for an hour."""

    def policy_of(self, policy: RequestPolicy) -> RequestPolicy:
        return replace(
            policy, read_s=1.5, total_s=4, attempts=3, backoff_base_s=0.01, backoff_cap_s=0.05, retry_floor=100
        )


@dataclass
class Campus:
    """A lake with the lineages of courses and people, and what its tables must hold.

    Attributes:
        lake: Databases, folders and the simulator.
        term: The term whose courses are loaded.
        flavours: The ways to the sources, where they are not the first ones.
        expected: What the tables must hold, by entity.
        said: Every line that a load told its log.
        refusals: Why loads were refused.
    """

    lake: Rehearsal
    term: str
    flavours: dict[str, str] = field(default_factory=dict)
    expected: dict[str, Expectation] = field(
        default_factory=lambda: {entity.name: Expectation(entity) for entity in (COURSE, PERSON)}
    )
    said: list[str] = field(default_factory=list)
    refusals: list[DatalakeError] = field(default_factory=list)

    def copy(self, folder: Path) -> "Campus":
        lake = self.lake.copy(f"{self.lake.database}_{uuid.uuid4().hex[:8]}", folder)
        return Campus(lake, self.term, expected=deepcopy(self.expected))

    @contextmanager
    def settings(self, **additions: str) -> Iterator[None]:
        """Be the environment of this process."""
        ways = self.lake.simulator.environment()
        environment = {name: value for name, value in self.lake.environment(**additions).items() if name not in ways}
        with patch.dict(os.environ, environment | self.lake.simulator.environment(**self.flavours), clear=True):
            yield

    def begin(self, day: date, faults: Iterable[Fault] = (), **plan: Any) -> None:
        """Let a day begin, with its faults."""
        self.lake.simulator.set_day(day)
        self.lake.simulator.set_faults([found.as_json() for found in faults], **plan)
        os.environ["DATALAKE_TODAY"] = day.isoformat()

    def piece(self, entity: Entity, day: date) -> LoadSlice:
        return LoadSlice(entity, day, (self.term,) if entity is COURSE else ())

    async def load_ids(self, day: date) -> bool:
        """Land the ids of all sources and join them."""
        for entity in ID_SOURCES:
            if not await self._allowed(self._land(entity, day, partial(_ids, entity))):
                return False
        return await self._allowed(self._land(POPULATION, day, _join))

    async def load(self, entity: Entity, day: date) -> bool:
        """Land an entity and load it up to curated, as far as that is allowed; then compare it with the truth."""
        before = await self.fingerprint(entity)
        loaded = await self._allowed(self._load(entity, day))
        if not loaded:
            assert await self.fingerprint(entity) == before, "a refused load changed tables"
        await self.compare(entity, day, loaded=loaded)
        return loaded

    async def load_day(self, day: date) -> dict[str, bool]:
        """Load everything, as a night does."""
        loaded = {"course": await self.load(COURSE, day)}
        loaded["person"] = await self.load_ids(day) and await self.load(PERSON, day)
        await self.compare(PERSON, day, loaded=False)
        return loaded

    async def compare(self, entity: Entity, day: date, *, loaded: bool) -> None:
        """Compare the tables with what they must hold."""
        expected, landing, wrong = self.expected[entity.name], LakeResource().landing(entity), []
        if loaded:
            snapshot = landing.require(self.piece(entity, day))
            asked = {"day": day, "term": self.term if entity is COURSE else None}
            flavour = {"endpoint": "snapperson"} if self._asks_snaplogic(entity) else {}
            truth = self.lake.simulator.truth(kind=entity.name, **asked, **flavour)["keys"]
            wrong += expected.take(truth, landing, snapshot)
            outcomes = read_outcomes(entity, landing.read(snapshot, [*entity.key_names, "outcome"]))
            absent = {tuple(map(str, key)) for key, outcome in outcomes if outcome is Outcome.ABSENT}
            wrong += [f"{key} exists and was landed as absent" for key in absent & {tuple(row["key"]) for row in truth}]
        async with session(self.lake.lake, application_name="test") as connection:
            contents = await read_contents(connection, entity, service_documents=True)
        keys = [{"key": list(key), "digest": digest} for key, digest in expected.digests.items()]
        wrong += differences(contents, {"keys": keys})
        last = {tuple(row["key"]): row for row in contents["history"]}
        alive = {key: row["digest"] for key, row in last.items() if row["operation"] != "D"}
        wrong += [] if alive == expected.digests else ["the history does not end where the current table stands"]
        seen = {tuple(row["key"]): row["digest"] for row in contents["service_documents"].get("full", [])}
        wrong += [] if seen == expected.digests else ["the service that sees everything sees something else"]
        assert wrong == []

    async def recover(self, entity: Entity, day: date) -> None:
        """Load a good day: whatever a fault left behind, the tables hold the truth again."""
        self.begin(day)
        loaded = (entity is COURSE or await self.load_ids(day)) and await self.load(entity, day)
        assert loaded, self.refusals[-1]
        term = self.term if entity is COURSE else None
        truth = self.lake.simulator.truth(kind=entity.name, day=day, term=term)["keys"]
        assert self.expected[entity.name].digests == {tuple(row["key"]): row["digest"] for row in truth}

    async def fingerprint(self, entity: Entity) -> list[str]:
        """A hash of every table of an entity."""
        async with session(self.lake.lake, application_name="test") as connection:
            return [
                await connection.fetchval(f"select md5(string_agg(t::text, '' order by t::text)) from {table} as t")
                for table in (entity.raw, entity.xform, entity.curated)
            ]

    async def leaks(self, log: str) -> list[str]:
        """Sensitive values and secrets in the lake, in its files and in whatever was said."""
        canaries = Canaries(secrets_of(self.lake.environment()))
        said = "\n".join([*self.said, *map(str, self.refusals), log])
        found = await canaries.in_database(self.lake.lake)
        return found + canaries.in_folder(self.lake.folder) + canaries.in_bytes(said.encode(), "what was said")

    def _asks_snaplogic(self, entity: Entity) -> bool:
        return entity is PERSON and self.flavours.get("person") == "snaplogic"

    async def _allowed(self, load: Awaitable[None]) -> bool:
        """Whether a load was carried out; one that was refused says what happened, where, and what to do."""
        refusal = None
        try:
            await load
        except DatalakeError as error:
            refusal = error
        if refusal is None:
            return True
        assert all((refusal.what, refusal.where, refusal.todo)), repr(refusal)
        self.refusals.append(refusal)
        return False

    async def _load(self, entity: Entity, day: date) -> None:
        ask = {COURSE: ask_for_courses, PERSON: ask_for_persons}[entity]
        await self._land(entity, day, lambda run: lambda spool: ask(run, spool))
        lake, piece, run_id = LakeResource(), self.piece(entity, day), str(uuid.uuid4())
        async with lake.connect(run_id) as connection:
            await RawLoad(lake.landing(entity), lake.ledger, lake.tolerances).load(connection, piece, run_id)
            await load_xform(connection, lake.ledger, piece, run_id)
            await load_curated(connection, lake.ledger, piece, load_services(entity).services, run_id)

    async def _land(self, entity: Entity, day: date, fill_of: Callable[[LandingRun], Fill]) -> None:
        lake, piece, run_id = LakeResource(), self.piece(entity, day), str(uuid.uuid4())
        extraction = Extraction(lake.landing(entity), lake.spools, lake.ledger, lake.clock)
        async with lake.connect(run_id) as connection:
            run = LandingRun(piece, lake, ImpatientSources(), connection, self.said.append)
            await extraction.land(connection, piece, run_id, fill=fill_of(run))


def _ids(entity: Entity, run: LandingRun) -> Fill:
    return ask_once(entity.table, lambda: ASKS[entity](run.sources))


def _join(run: LandingRun) -> Fill:
    async def joined() -> Asked:
        lake, day = run.lake, run.piece.load_date
        await guard_sources(run.connection, lake.snapshots, lake.ledger, lake.tolerances, day)
        return join_sources(lake.snapshots, day)

    return ask_once(POPULATION.table, joined)


@dataclass(frozen=True)
class Lane:
    """Requests of one kind, and what is loaded with their answers.

    Attributes:
        scope: The requests, as faults name them.
        knobs: The faults of bodies and rows that their endpoint knows.
        load: What is loaded on the day of the fault.
        flavours: The ways to the sources, if they are not the first ones.
    """

    scope: str
    knobs: frozenset[str]
    load: str
    flavours: tuple[tuple[str, str], ...] = ()


LANES = {
    "peoplesoft ids": Lane("cstools/BU_PARM_*", QUERY_KNOBS, "ids"),
    "peoplesoft ids by QAS": Lane("qas/BU_PARM_*", QUERY_KNOBS, "ids", (("flavour", "qas"),)),
    "sap": Lane("sap", QUERY_KNOBS, "ids"),
    "vds": Lane("vds", QUERY_KNOBS, "ids"),
    "vds by ADAP": Lane("adap", QUERY_KNOBS, "ids", (("vds", "adap"),)),
    "terms of persons": Lane("cstools/BU_[TF]*", QUERY_KNOBS, "person"),
    "terms of persons by QAS": Lane("qas/BU_[TF]*", QUERY_KNOBS, "person", (("flavour", "qas"),)),
    "persons": Lane("personapi", PersonApi.knobs, "person"),
    "persons by SnapLogic": Lane("snapperson", SnapPerson.knobs, "person", (("person", "snaplogic"),)),
    "courses": Lane("snaplogic_course", SnapLogicCourse.knobs, "course"),
}


NUMBERS: dict[str, dict[str, float]] = {
    "trickle": {"bytes_per_second": 20_000},
    "stall": {"seconds": 3},
    "row_cap": {"rows": 20},
    "key_expires_at_request": {"n": 1},
}
"""Settings that are numbers, such that a fault is felt by people who are few and clients who are impatient."""


def variants(knob: str, scope: str) -> Iterator[Fault]:
    """Every form of a fault: each of its options, for the first attempt only and for all, or for some rows."""
    choices = [(name, option) for name, one in KNOBS[knob].parameters.items() for option in one.options]
    for chosen in [dict([choice]) for choice in choices] or [{}]:
        plain = fault(knob, scope=scope, **NUMBERS.get(knob, {}), **chosen)
        if plain.in_rows:
            yield replace(plain, rate=0.03 if chosen.get("how") == "huge_doc_mb" else 0.15)
            continue
        yield replace(plain, first_n=1)
        # How long a source asks to be left alone matters to who waits for it, and once it is too long.
        if chosen.get("retry_after", "absent") in ("absent", "86400"):
            yield plain


def cases() -> Iterator[tuple[str, Fault]]:
    """Every fault of every lane."""
    for name, lane in LANES.items():
        for knob, found in KNOBS.items():
            # One client for all ways to a source asks over HTTP, so what it does about its faults is shown once.
            if (found.stage in ("transport", "status") and not lane.flavours) or knob in lane.knobs:
                for variant in variants(knob, lane.scope):
                    yield name, variant


def named(value: object) -> str | None:
    if not isinstance(value, Fault):
        return None
    settings = [str(chosen) for _, chosen in value.settings]
    return "-".join([value.knob, *settings, "first" if value.first_n else "some" if value.rate else "all"])


@pytest.fixture(scope="module")
def first_day(postgres_server: PostgresAddress) -> Iterator[Campus]:
    """A campus after a good day, and with the population of the next."""
    name = f"faults_{uuid.uuid4().hex[:8]}"
    with open_folder() as folder, rehearsal(postgres_server, name, folder / "template", FIRST, **WORLD) as lake:
        terms = lake.simulator.truth("term", since=FIRST, day=FIRST)["active_terms"]
        campus = Campus(lake, terms[0]["strm"])
        with campus.settings():
            campus.begin(FIRST)
            assert asyncio.run(campus.load_day(FIRST)) == {"course": True, "person": True}
        yield campus


@pytest.fixture
def campus(first_day: Campus) -> Iterator[Campus]:
    """A copy of it, to spoil."""
    with open_folder() as folder:
        copy = first_day.copy(folder)
        yield copy
        first_day.lake.simulator.set_faults([])
        asyncio.run(_drop(first_day.lake.server, copy.lake.database))


async def _drop(server: PostgresAddress, database: str) -> None:
    async with session(server, application_name="test") as connection:
        await connection.execute(f'drop database "{database}" with (force)')


GENEROUS = {"LAKE_MAX_FAILED_SHARE": "0.9", "LAKE_MAX_QUARANTINED_SHARE": "0.9"}
"""Tolerances with which a load goes on, so that what it does to the tables can be seen."""


def live_through(campus: Campus, lane: Lane, found: Fault, log: pytest.LogCaptureFixture) -> None:
    """The second day with a fault, and whatever it leaves behind."""
    log.set_level("DEBUG")
    campus.flavours = dict(lane.flavours)
    with campus.settings(**GENEROUS):
        asyncio.run(_second_day(campus, lane, found))
        assert asyncio.run(campus.leaks(log.text)) == []


async def _second_day(campus: Campus, lane: Lane, found: Fault) -> None:
    campus.begin(SECOND)
    if lane.load == "person":
        assert await campus.load_ids(SECOND)
    campus.begin(SECOND, [found])
    if lane.load != "ids":
        await campus.load({"course": COURSE, "person": PERSON}[lane.load], SECOND)
    elif await campus.load_ids(SECOND):
        await campus.load(PERSON, SECOND)
    struck = {name for request in campus.lake.simulator.requests()["requests"] for name in request["faults"]}
    assert found.knob in struck, struck


REPRESENTATIVES = [
    ("courses", fault("malformed_json", how="cut")),
    ("courses", fault("shape", how="empty_result")),
    ("courses", fault("conn_reset", when="mid_body", first_n=1)),
    ("courses", fault("poison", how="nul", rate=0.15)),
    ("courses", fault("dup_records", how="different", rate=0.15)),
    ("courses", fault("empty_docs", how="added", rate=0.15)),
    ("persons", fault("ndjson_truncate", how="clean_eof")),
    ("persons", fault("ndjson_garbage_line", how="bad_utf8", first_n=1)),
    ("persons", fault("wrong_types", how="personid_null", rate=0.15)),
    ("persons", fault("sensitive_elsewhere", how="nested", rate=0.5)),
    ("persons", fault("batch_killer", rate=0.1)),
    ("terms of persons", fault("shape", how="null_data", rate=0.15)),
    ("terms of persons", fault("status_404", rate=0.15)),
    ("terms of persons", fault("sensitive_elsewhere", how="upper", rate=0.5)),
    ("peoplesoft ids", fault("row_cap", rows=20)),
    ("peoplesoft ids", fault("wrong_types", how="key_null", rate=0.15)),
    ("sap", fault("error_200", how="sap_return_e")),
    ("vds", fault("missing_records", rate=0.15)),
]


@pytest.mark.parametrize(("lane", "found"), REPRESENTATIVES, ids=named)
def test_a_fault_loses_doubles_or_removes_nothing(
    campus: Campus, lane: str, found: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariants 1, 2, 3 and 6: some of the faults that the campaign goes through in full."""
    live_through(campus, LANES[lane], replace(found, scope=LANES[lane].scope), caplog)


def test_what_an_unfinished_load_leaves_on_disk_holds_nothing_sensitive(
    campus: Campus, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant 6, fault P12: answers that are spooled for the next attempt are cleaned like documents."""
    caplog.set_level("DEBUG")

    async def live() -> None:
        campus.begin(SECOND)
        assert await campus.load_ids(SECOND)
        everywhere = [
            fault("sensitive_elsewhere", how=how, rate=0.5, scope=scope)
            for how in ("upper", "mixed", "nested")
            for scope in (LANES["terms of persons"].scope, "personapi")
        ]
        campus.begin(SECOND, [*everywhere, fault("missing_records", scope="personapi", rate=0.3)])
        assert not await campus.load(PERSON, SECOND)

    with campus.settings(LAKE_MAX_FAILED_SHARE="0.01"):
        asyncio.run(live())
        assert "without a trustworthy answer" in str(campus.refusals[-1])
        assert len(list(Path(campus.lake.folder, "spool").rglob("*.parquet"))) > 1
        assert asyncio.run(campus.leaks(caplog.text)) == []


@pytest.mark.campaign
@pytest.mark.parametrize(("lane", "found"), list(cases()), ids=named)
def test_no_fault_loses_doubles_or_removes_anything(
    campus: Campus, lane: str, found: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariants 1, 2, 3 and 6, fault by fault; the next good day makes everything good."""
    live_through(campus, LANES[lane], found, caplog)
    with campus.settings():
        asyncio.run(campus.recover(COURSE if LANES[lane].load == "course" else PERSON, THIRD))


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(SEEDS))
def test_hostile_nights_lose_double_or_remove_nothing(
    campus: Campus, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariants 1, 2, 3 and 6 under many faults at once, every other time with the tolerances of a real night."""
    caplog.set_level("DEBUG")

    async def live() -> None:
        for day in (SECOND, THIRD, FOURTH):
            campus.begin(day, preset="hostile", fault_seed=seed)
            await campus.load_day(day)
        for entity in (COURSE, PERSON):
            await campus.recover(entity, CALM)

    with campus.settings(**GENEROUS if seed % 2 else {}):
        asyncio.run(live())
        assert asyncio.run(campus.leaks(caplog.text)) == []
