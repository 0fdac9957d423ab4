"""The population: ids of people from PeopleSoft, SAP and VDS, and their join.

How each source is asked is in `sources/`; how ids are joined and guarded is in `lake/population.py`; what is asked
about the people is in `person.py`.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import dagster as dg

from datalake_assets.assets.landing import LandingRun, build_landing_asset, source_spec
from datalake_assets.entities import ID_SOURCES, PEOPLESOFT_IDS, POPULATION, SAP_IDS, VDS_IDS, Entity
from datalake_assets.lake.documents import Answer, judge, unusable
from datalake_assets.lake.extraction import Fill, ask_once
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.population import guard_sources, id_document, join_sources
from datalake_assets.lake.spool import Asked
from datalake_assets.resources import SourcesResource
from datalake_assets.sources.http import HttpStats
from datalake_assets.sources.ids import IdAnswer, peoplesoft_ids
from datalake_assets.sources.policies import PEOPLESOFT_IDS as PEOPLESOFT_IDS_POLICY

STUDENT_QUERIES: Final = ("BU_PARM_0216_QRY", "BU_PARM_ENRL_DORM_QRY")
"""Queries that name students; a student may stand in both."""

FACULTY: Final = "vds/faculty"
STAFF: Final = "vds/staff"
EMPLOYEES: Final = "sap/Z_HR_EMPLOYEE_OBJ_LIST"
STUDENTS: Final = tuple(f"peoplesoft/{query}" for query in STUDENT_QUERIES)
"""Who names a person, as written into landed ids; also the keys of the source assets."""

_SOURCES: Final[Mapping[str, tuple[Entity, str]]] = {
    **dict.fromkeys(STUDENTS, (PEOPLESOFT_IDS, "One row per student: PeopleSoft Campus Solutions.")),
    EMPLOYEES: (SAP_IDS, "One row per employee, active or not: SAP."),
    FACULTY: (VDS_IDS, "One row per person whose primary affiliation is faculty: the virtual directory."),
    STAFF: (VDS_IDS, "One row per person whose primary affiliation is staff: the virtual directory."),
}


def build_population_assets(partitions_def: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The sources of ids, one landing asset for each system, and the population."""
    asks = {PEOPLESOFT_IDS: ask_peoplesoft, SAP_IDS: ask_sap, VDS_IDS: ask_vds}

    def ids(entity: Entity) -> dg.AssetsDefinition:
        async def fill_of(run: LandingRun) -> Fill:
            return ask_once(entity.table, lambda: asks[entity](run.sources))

        deps = [name.split("/") for name, (of, _) in _SOURCES.items() if of is entity]
        return build_landing_asset(entity=entity, deps=deps, partitions_def=partitions_def, fill_of=fill_of)

    async def join(run: LandingRun) -> Fill:
        lake, day = run.lake, run.piece.load_date

        async def joined() -> Asked:
            await guard_sources(run.connection, lake.snapshots, lake.ledger, lake.tolerances, day)
            return join_sources(lake.snapshots, day)

        return ask_once(POPULATION.table, joined)

    return [
        *(source_spec(name.split("/"), entity=of, description=text) for name, (of, text) in _SOURCES.items()),
        *(ids(entity) for entity in ID_SOURCES),
        build_landing_asset(
            entity=POPULATION,
            deps=[entity.landing.parts for entity in ID_SOURCES],
            partitions_def=partitions_def,
            fill_of=join,
        ),
    ]


async def ask_peoplesoft(sources: SourcesResource) -> Asked:
    """Ask PeopleSoft for the ids of students."""
    try:
        async with sources.queries(PEOPLESOFT_IDS_POLICY) as queries, asyncio.TaskGroup() as tasks:
            asked = {
                f"peoplesoft/{query}": tasks.create_task(peoplesoft_ids(queries, query)) for query in STUDENT_QUERIES
            }
    except ExceptionGroup as failures:
        # Raised by itself: a group says neither what failed nor whether trying again may help.
        raise failures.exceptions[0] from None
    return _ids(PEOPLESOFT_IDS, {name: task.result() for name, task in asked.items()}, queries.stats)


async def ask_sap(sources: SourcesResource) -> Asked:
    """Ask SAP for the ids of active employees."""
    async with sources.employees() as employees:
        answer = await employees.active_ids()
    return _ids(SAP_IDS, {EMPLOYEES: answer}, employees.stats)


async def ask_vds(sources: SourcesResource) -> Asked:
    """Ask the directory for the ids of faculty and staff."""
    async with sources.directory() as directory:
        answers = {FACULTY: await directory.ids("faculty"), STAFF: await directory.ids("staff")}
    return _ids(VDS_IDS, answers, directory.stats)


def _ids(entity: Entity, answers: Mapping[str, IdAnswer], stats: HttpStats) -> Asked:
    """One landed row a person, with every list of the source that names the person."""
    named_by: dict[str, set[str]] = {}
    rows: list[Answer] = []
    for name, answer in answers.items():
        for person_id in answer.rows:
            named_by.setdefault(person_id, set()).add(name)
        rows += [unusable(entity, row.rule, row.reason, answer.pointer) for row in answer.unusable]
    pointer = "; ".join(answer.pointer for answer in answers.values())
    rows += [judge(entity, id_document(person_id, names), pointer) for person_id, names in named_by.items()]
    source = SourceAccount(
        requests=stats.requests,
        retries=stats.retries,
        bytes_in=stats.bytes_in,
        duration_s=round(max(answer.seconds for answer in answers.values()), 3),
    )
    return Asked(rows, source, named_all=all(answer.complete for answer in answers.values()))
