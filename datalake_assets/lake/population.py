"""Who belongs to the university: the ids that several sources name, joined with who names them.

A population is as complete as the least complete of its sources, and a source that suddenly names far fewer
people than on the last good day stops it: everybody it no longer names would be removed. How ids are landed is in
`extraction.py`; what is asked about the people is not known here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import asyncpg

from datalake_assets import exact_json
from datalake_assets.entities import ID_SOURCES, POPULATION
from datalake_assets.lake.documents import Answer, judge
from datalake_assets.lake.guards import Tolerances, VolumeGuardError
from datalake_assets.lake.landing import Landing, Snapshot
from datalake_assets.lake.ledger import Ledger
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Asked
from datalake_assets.statements import statement
from datalake_assets.storage.parquet import ParquetStore

NAMED_BY = "named_by"


@dataclass(frozen=True)
class Member:
    """One person of the population.

    Attributes:
        id: University id.
        named_by: Why the person belongs to it: names of source and list, in order.
    """

    id: str
    named_by: tuple[str, ...]


def id_document(person_id: str, named_by: Iterable[str]) -> exact_json.JsonValue:
    """The document of a landed id."""
    return {"buid": person_id, NAMED_BY: sorted(named_by)}


def members_of(landing: Landing, snapshot: Snapshot) -> Iterator[Member]:
    """The people of a snapshot of ids or of the population."""
    for answer in landing.answers(snapshot):
        if answer.outcome is Outcome.DATA and answer.document is not None:
            document = exact_json.loads(answer.document)
            named_by = document.get(NAMED_BY) if isinstance(document, dict) else None
            reasons = named_by if isinstance(named_by, list) else []
            yield Member(str(answer.key[0]), tuple(str(reason) for reason in reasons))


def join_sources(store: ParquetStore, day: date) -> Asked:
    """Join the ids of all sources, as landed for one day.

    Args:
        store: The lake's snapshots.
        day: The load date.

    Returns:
        One answer a person, sorted by id; it names everybody only if every source does.

    Raises:
        NoSnapshotError: A source was not landed for the day.
    """
    reasons: dict[str, set[str]] = {}
    complete = True
    for source in ID_SOURCES:
        landing = Landing(store, source)
        snapshot = landing.require(LoadSlice(source, day))
        complete = complete and snapshot.complete
        for member in members_of(landing, snapshot):
            reasons.setdefault(member.id, set()).update(member.named_by)
    answers: list[Answer] = [
        judge(POPULATION, id_document(person_id, reasons[person_id]), "join of the landed ids")
        for person_id in sorted(reasons)
    ]
    return Asked(answers, named_all=complete)


async def guard_sources(
    connection: asyncpg.Connection, store: ParquetStore, ledger: Ledger, tolerances: Tolerances, day: date
) -> None:
    """Refuse a population of which a source names far fewer people than on the last good day.

    Args:
        connection: The lake.
        store: The lake's snapshots.
        ledger: Where permission to pass the guard is.
        tolerances: How much may go at once.
        day: The load date.

    Raises:
        NoSnapshotError: A source was not landed for the day.
        VolumeGuardError: A source shrank; the message says which, and by how much.
    """
    asset = str(POPULATION.landing)
    if await ledger.override(connection, asset, day.isoformat(), "volume") is not None:
        return
    names = [str(source.landing) for source in ID_SOURCES]
    rows = await connection.fetch(statement("population/last_good.sql"), names, asset, day)
    before = {row["asset"]: row for row in rows}
    shrunk = []
    for source in ID_SOURCES:
        last = before.get(str(source.landing))
        now = Landing(store, source).require(LoadSlice(source, day)).outcomes.data
        if last is not None and last["ids"] - now > max(1, tolerances.removed * last["ids"]):
            share = (last["ids"] - now) / last["ids"]
            shrunk.append(
                f"{source.landing} names {now:,} people, {share:.0%} fewer than the {last['ids']:,} of "
                f"{last['load_date']}"
            )
    if shrunk:
        raise VolumeGuardError(
            f"The population shrank too much: {'; '.join(shrunk)}. At most {tolerances.removed:.0%} may go at once.",
            where=f"{asset}, partition {day}",
            todo="Make sure with the source that they are really gone, then permit this one load with "
            f'`datalake allow {asset} {day} volume --reason "..."` and materialise it again.',
        )
