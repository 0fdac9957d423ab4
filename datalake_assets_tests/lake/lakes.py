"""A small real lake for tests: a database with the project's migrations and a folder of snapshots.

It is about terms, unless it is asked for another entity: `lake.of(PERSON)`, `lake.of(COURSE, 2258)`.
"""

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import asyncpg
import orjson

from datalake_assets import exact_json
from datalake_assets.clock import Clock
from datalake_assets.entities import COURSE, PERSON, TERM, Entity
from datalake_assets.lake import quarantine
from datalake_assets.lake.curated import load_curated
from datalake_assets.lake.documents import Answer, judge
from datalake_assets.lake.guards import Tolerances
from datalake_assets.lake.landing import Landing, Snapshot, SourceAccount
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.raw import RawLoad
from datalake_assets.lake.services import Service, load_services
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.xform import load_xform
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, session

ANYTHING_GOES = Tolerances(failed=1.0, quarantined=1.0, removed=1.0)
CLOCK = Clock(date(2026, 3, 1))

T = TypeVar("T")

TABLES: Final = ("term_raw.term_data", "term_xform.current_term_data", "term_curated.term_data_by_service")
OPERATIONS: Final = (
    "ops.receipt",
    "ops.load_attempt",
    "ops.quarantine",
    "ops.service_version",
    "ops.guard_override",
    "ops.table_state",
    "ops.term_filtered",
    "ops.term_touched",
)


def tables_of(entity: Entity) -> tuple[str, ...]:
    """The tables that hold an entity's rows."""
    return str(entity.raw), str(entity.xform), str(entity.curated)


EVERYTHING: Final = (
    *TABLES,
    *OPERATIONS,
    *(
        table
        for entity in (COURSE, PERSON)
        for table in (*tables_of(entity), f"ops.{entity.name}_filtered", f"ops.{entity.name}_touched")
    ),
)


def term(strm: str, descr: Any = "Fall 2025", career: str = "UGRD", **fields: Any) -> dict[str, Any]:
    """A small term document."""
    return {"ACAD_CAREER": career, "STRM": strm, "DESCR": descr, "CURRENT_IND": "N", **fields}


def person(bu_uid: str, **fields: Any) -> dict[str, Any]:
    """A small person document."""
    return {"personid": bu_uid, "email": [{"type": "CAMP", "address": f"{bu_uid.lower()}@example.edu"}], **fields}


def course(number: int, term_code: int = 2258, session: str = "1", **fields: Any) -> dict[str, Any]:
    """A small course document."""
    return {
        "termDetails": {"academicCareer": "UGRD", "term": {"code": str(term_code), "description": "Fall 2025"}},
        "v2": {"courseId": f"{number:06}", "sessionCode": session},
        **fields,
    }


def answer(document: Any, entity: Entity = TERM) -> Answer:
    """The row of landing for a document, as the real judge makes it."""
    return judge(entity, exact_json.loads(orjson.dumps(document)), "test")


def shuffled(items: Iterable[T], seed: int) -> list[T]:
    """The items in an order of their own for each seed."""
    order = list(items)
    random.Random(seed).shuffle(order)  # noqa: S311 - drawn to be repeated, not to be secret
    return order


def outcome(strm: str, kind: Outcome, career: str = "UGRD") -> Answer:
    """A row of landing without a document."""
    return Answer(key=(career, strm), outcome=kind, source="test", rule="test" if kind is Outcome.QUARANTINED else None)


@dataclass
class SmallLake:
    """Loads one entity through the real engine."""

    connection: asyncpg.Connection
    landing: Landing
    folder: Path
    tolerances: Tolerances = ANYTHING_GOES
    services: tuple[Service, ...] = load_services(TERM).services
    scope: tuple[str | int, ...] = ()

    @property
    def spools(self) -> ParquetStore:
        return ParquetStore(f"{self.folder}-spool")

    @property
    def ledger(self) -> Ledger:
        return Ledger()

    def of(self, entity: Entity, *scope: str | int, services: tuple[Service, ...] = ()) -> "SmallLake":
        """The same lake, about another entity or another scope of one."""
        landing = Landing(ParquetStore(str(self.folder)), entity)
        return replace(self, landing=landing, scope=scope, services=services)

    def piece(self, day: date) -> LoadSlice:
        return LoadSlice(self.landing.entity, day, self.scope)

    def land(self, day: date, answers: Iterable[Answer], *, complete: bool = True) -> Snapshot:
        return self.landing.publish(
            self.piece(day),
            answers,
            complete=complete,
            source=SourceAccount(),
            run_id="test",
            clock=CLOCK,
        )

    async def load_raw(self, day: date, run_id: str = "test") -> Receipt:
        load = RawLoad(self.landing, self.ledger, self.tolerances)
        return await load.load(self.connection, self.piece(day), run_id)

    async def load_xform(self, day: date, run_id: str = "test") -> Receipt:
        return await load_xform(self.connection, self.ledger, self.piece(day), run_id)

    async def load_curated(self, day: date, run_id: str = "test") -> Receipt:
        return await load_curated(self.connection, self.ledger, self.piece(day), self.services, run_id)

    async def load(self, day: date, run_id: str = "test") -> Receipt:
        receipt = await self.load_raw(day, run_id)
        await self.load_xform(day, run_id)
        await self.load_curated(day, run_id)
        return receipt

    async def mirror_quarantine(self, snapshot: Snapshot) -> None:
        async with self.connection.transaction():
            await quarantine.mirror(self.connection, self.landing, snapshot, "test")

    async def history(self) -> list[tuple[str, date, str, Any]]:
        rows = await self.connection.fetch(
            "select strm, load_date, operation, term_data from term_raw.term_data order by strm, load_date"
        )
        return [
            (
                row["strm"],
                row["load_date"],
                row["operation"].decode(),
                row["term_data"] and orjson.loads(row["term_data"]),
            )
            for row in rows
        ]

    async def rows(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        names = ", ".join(columns)
        rows = await self.connection.fetch(f"select {names} from {table} order by {names}")
        return [tuple(row) for row in rows]

    async def contents(self) -> dict[str, list[str]]:
        """Every row of every table without what tells by whom and when it was written."""
        return {
            table: [
                row[0].decode()
                for row in await self.connection.fetch(
                    f"select to_jsonb(t) - 'run_id' - 'loaded_at' as row from {table} as t order by row"
                )
            ]
            for table in tables_of(self.landing.entity)
        }

    async def empty(self) -> None:
        """Forget everything, snapshots included, so that one database serves many examples."""
        self.folder = self.folder.with_name(uuid4().hex)
        self.landing = Landing(ParquetStore(str(self.folder)), TERM)
        # A truncate of this many tables takes fifty times as long.
        await self.connection.execute("; ".join(f"delete from {table}" for table in EVERYTHING))


@asynccontextmanager
async def small_lake(address: PostgresAddress, folder: Path) -> AsyncIterator[SmallLake]:
    """A lake on a migrated database."""
    async with session(address, application_name="test") as connection:
        yield SmallLake(connection, Landing(ParquetStore(str(folder)), TERM), folder)
