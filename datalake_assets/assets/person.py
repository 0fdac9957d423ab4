"""Person, from the population to landing: whom to ask for, and what becomes of each answer.

The pipeline of questions is in `sources/person_load.py`, the population in `population.py`; the layers below landing
come from `layers.py`.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final, cast

import dagster as dg

from datalake_assets import exact_json
from datalake_assets.assets.landing import LandingRun, build_landing_asset, source_spec
from datalake_assets.assets.layers import build_layer_assets
from datalake_assets.assets.population import FACULTY, STUDENTS
from datalake_assets.entities import PERSON, POPULATION
from datalake_assets.lake import population
from datalake_assets.lake.documents import Answer, judge, without_sensitive_keys
from datalake_assets.lake.extraction import Fill
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked, Filled, Spool
from datalake_assets.sources.http import HttpStats
from datalake_assets.sources.person_load import LoadProgress, Member, PersonResult, Terms, load_persons
from datalake_assets.sources.policies import PERSON_TERMS
from datalake_assets.worker import Worker

PERSONS: Final = ["snaplogic", "person"]
STUDENT_TERMS: Final = ["peoplesoft", "BU_TERM_STD_FULL_TERM"]
TEACHING_TERMS: Final = ["peoplesoft", "BU_FACULTY_GET"]

TERM_ANSWERS: Final = "terms"
"""Kind of the notes in which answered term queries are spooled."""

WORTH_A_PROCESS: Final = 1_000
"""Persons from whom on a second process that reads their documents is sooner done than it is started."""


def build_person_assets(partitions_def: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The Person lineage from its documents to curated; the population comes from `population.py`."""

    async def fill_of(run: LandingRun) -> Fill:
        return lambda spool: ask_for_persons(run, spool)

    return [
        source_spec(
            STUDENT_TERMS,
            entity=PERSON,
            description="One row per term of one student: PeopleSoft Campus Solutions, asked student by student.",
        ),
        source_spec(
            TEACHING_TERMS,
            entity=PERSON,
            description="One row per term in which one person teaches: PeopleSoft Campus Solutions.",
        ),
        source_spec(
            PERSONS,
            entity=PERSON,
            description="One row per person asked for, in batches: the person API, or SnapLogic's pipeline before it.",
        ),
        build_landing_asset(
            entity=PERSON,
            deps=[POPULATION.landing.parts, STUDENT_TERMS, TEACHING_TERMS, PERSONS],
            partitions_def=partitions_def,
            fill_of=fill_of,
        ),
        *build_layer_assets(entity=PERSON, partitions_def=partitions_def),
    ]


async def ask_for_persons(run: LandingRun, spool: Spool) -> Filled:
    """Ask for everybody in the population of whom the spool does not know yet.

    Somebody who is not in the population is gone, if it names everybody; if it does not, everybody in it is asked for
    terms.

    Raises:
        NoSnapshotError: The population was not landed for the day.
        SourceError: A source refused or stopped; what was answered stays in the spool.
        IntolerableError: Too many were not answered for; the others stay in the spool.
    """
    landing = run.lake.landing(POPULATION)
    snapshot = landing.require(LoadSlice(POPULATION, run.piece.load_date))
    answered = {str(person_id) for (person_id,) in spool.answered()}
    # Whose name stood in a row that could not be read may be among those whom another source names: a document without
    # the terms of such a person would be poorer and look newer.
    ask_all_for_terms = not snapshot.complete
    members = [
        Member(
            member.id,
            is_student=not set(STUDENTS).isdisjoint(member.named_by),
            is_teacher=FACULTY in member.named_by,
        )
        for member in population.members_of(landing, snapshot)
    ]
    asked = sum(member.id not in answered for member in members)
    run.log(f"Asking for {asked:,} people; {len(answered):,} were answered before.")
    failed: Counter[str] = Counter()
    started = time.monotonic()
    with Worker() if asked >= WORTH_A_PROCESS else contextlib.nullcontext() as worker:
        async with run.sources.queries(PERSON_TERMS) as queries, run.sources.persons(worker) as persons:
            costs = _Costs((queries.stats, persons.stats))
            loading = load_persons(
                members,
                queries=queries,
                persons=persons,
                memory=SpooledTerms(spool.notes(TERM_ANSWERS)),
                take=partial(judge, PERSON),
                answered=answered,
                ask_all_for_terms=ask_all_for_terms,
                without_terms=run.lake.tolerances.without_terms,
                progress=lambda progress: run.log(told(progress)),
            )
            async with contextlib.aclosing(loading) as batches:
                async for results in batches:
                    failed.update(result.rule for result in results if result.outcome == "failed")
                    batch = Asked(list(_answers(results)), costs.since_last())
                    await asyncio.to_thread(spool.append, batch)
    spool.append(Asked([], SourceAccount(duration_s=round(time.monotonic() - started, 3))))
    run.lake.tolerances.check_failed(failed.total(), len(members), f"{run.piece}", failed)
    return Filled(named_all=snapshot.complete)


def _answers(results: Sequence[PersonResult]) -> Iterator[Answer]:
    for result in results:
        if result.outcome == "failed":
            yield Answer((result.id,), Outcome.FAILED, result.pointer, rule=result.rule, reason=result.reason)
        yield from cast(Iterable[Answer], result.documents)


class SpooledTerms:
    """Answered term queries in the spool of a load; fulfils `person_load.TermMemory`.

    Args:
        notes: Where they are spooled: one answer a person, whose document holds the terms.
    """

    def __init__(self, notes: Spool) -> None:
        self._notes = notes
        self._known = {str(answer.key[0]): answer.document for answer in notes.answers()}

    def get(self, person_id: str, /) -> Terms | None:
        """What is known of a person; None if it was not answered yet."""
        document = self._known.get(person_id)
        if document is None:
            return None
        known = exact_json.loads(document)
        terms: dict[str, list[dict[str, exact_json.JsonValue]]] = cast(
            dict[str, list[dict[str, exact_json.JsonValue]]], known
        )
        return Terms(person_id, tuple(terms["student"]), tuple(terms["teaching"]))

    async def keep(self, answers: Sequence[Terms], /) -> None:
        """Keep some answers."""
        rows = [
            Answer(
                (terms.id,),
                Outcome.DATA,
                "term queries",
                document=exact_json.dumps(
                    without_sensitive_keys({"student": list(terms.student), "teaching": list(terms.teaching)})
                ),
            )
            for terms in answers
        ]
        await asyncio.to_thread(self._notes.append, Asked(rows))


class _Costs:
    """What sources cost between two looks."""

    def __init__(self, stats: Sequence[HttpStats]) -> None:
        self._stats = stats
        self._told = SourceAccount()

    def since_last(self) -> SourceAccount:
        now = SourceAccount(
            requests=sum(one.requests for one in self._stats),
            retries=sum(one.retries for one in self._stats),
            bytes_in=sum(one.bytes_in for one in self._stats),
        )
        told, self._told = self._told, now
        return now - told


def told(progress: LoadProgress) -> str:
    """A heartbeat as one line for the log of a run."""
    strange = progress.unusable + progress.empty + progress.foreign + progress.unknown_types
    parts = [
        f"{progress.persons:,} of {progress.of:,} people",
        f"{progress.failed:,} failed",
        f"{progress.terms_asked:,} asked for terms",
        f"{progress.batches:,} batches",
        f"{progress.retries:,} retries",
        *([f"{strange:,} records that are nobody's"] if strange else []),
        f"{progress.rate_per_s:,.0f} people/s",
        *([] if progress.remaining_s is None else [f"about {progress.remaining_s:,.0f} s to go"]),
    ]
    return ", ".join(parts) + "."
