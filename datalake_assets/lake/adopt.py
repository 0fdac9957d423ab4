"""Taking over the tables of an earlier system, and giving them back as they were.

The old tables hold history without digests under the very names that ours have. They are set aside whole (rows,
indexes, triggers, and the views that read them), ours are made by the migrations, and every state that the old
ones tell is kept: all in one transaction, with the steps of the way back recorded in it. How the history is read
is in `sql/adopt/`; what is shown to an operator, and when to go on, is decided by the command.
"""

import asyncio
import multiprocessing
import os
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import asyncpg

from datalake_assets import exact_json
from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.entities import SENSITIVE_KEYS, Entity
from datalake_assets.keys import TableName, quote_identifier
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.curated import partition_of
from datalake_assets.lake.documents import without_sensitive_keys
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement
from datalake_assets.storage.migrations import migrate_within
from datalake_assets.storage.postgres import copy_records, scrubbing

ASIDE: Final = "_before_adoption"
"""What is set aside goes to the schema of its own name with this behind it."""

TRANSPORT_MEMBERS: Final = frozenset({"attr:rownumber"})
"""Members that the old flows left at the top of a row: place in an answer, not part of the document."""

_SERVICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_PAGES: Final = 32
"""Pages of a table that are read at once: some hundred to two thousand documents."""

_MOST_WORKERS: Final = 4
_WORKERS_FROM_ROWS: Final = 20_000
"""From here on starting processes takes less time than they save."""

_COPY_DEADLINE_S: Final = 600.0
_BYTES_PER_S: Final = 20_000_000

Progress = Callable[[str, int, int], None]
"""Told what is done, how many are done, and of how many."""


class AdoptionError(LoadError):
    """Tables cannot be adopted, or not be given back; nothing was changed."""


@dataclass(frozen=True)
class OldTable:
    """One table of the earlier system.

    Attributes:
        name: Its name, which ours will have.
        layer: raw, xform or curated.
        rows: How many rows it holds.
        bytes: What it takes with its indexes.
    """

    name: TableName
    layer: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class OldHistory:
    """What an entity's old tables tell of it.

    Attributes:
        entity: Whose.
        rows: Rows of the raw table.
        keys: Documents by key.
        states: Distinct states in order, over all keys: what is kept.
        change_points: Those that the history by dates holds.
        within_a_date: Those that came and went within a date, kept beside it.
        repeated: Rows that say what the row before says, shuffled or not.
        current_only: States that only the current table shows; they end the history of their key.
        removed: Keys that the current table does not show; their history ends with a removal.
        first_date: Date of the first state.
        last_date: Date of the last: dates up to it have no snapshots.
        sensitive: Documents, of all layers, from which sensitive keys are removed on the way.
    """

    entity: str
    rows: int
    keys: int
    states: int
    change_points: int
    within_a_date: int
    repeated: int
    current_only: int
    removed: int
    first_date: date | None
    last_date: date | None
    sensitive: int


@dataclass(frozen=True)
class OldService:
    """A service of the old curated table.

    Attributes:
        table: The table.
        service: Its name.
        rows: How many rows it has; they are adopted as they are.
        is_defined: We define it too; the rows of another go with the first load.
    """

    table: str
    service: str
    rows: int
    is_defined: bool


@dataclass(frozen=True)
class Difference:
    """Rows that readers will not see as they were."""

    table: str
    rows: int
    what: str


@dataclass(frozen=True)
class Plan:
    """What an adoption does, or has done.

    Attributes:
        zone: Time zone in which the old timestamps are read.
        tables: The old tables.
        histories: What they tell, by entity.
        services: Whom the old curated tables serve.
        triggers: Triggers that no longer act, as `table: trigger`.
        views: Views that are made anew over the new tables.
        grants: Grants to read that the new tables get too, as `role: table`.
        writers: Grants to write that they do not get.
        differences: Rows that readers will not see as they were.
        problems: What stands against it.
        extra_bytes: Space that the new tables will take, about.
        seconds: How long it takes, about; how long it took, if it is done.
    """

    zone: str
    tables: tuple[OldTable, ...]
    histories: tuple[OldHistory, ...]
    services: tuple[OldService, ...]
    triggers: tuple[str, ...]
    views: tuple[str, ...]
    grants: tuple[str, ...]
    writers: tuple[str, ...]
    differences: tuple[Difference, ...]
    problems: tuple[str, ...]
    extra_bytes: int
    seconds: float


@dataclass(frozen=True)
class Adopted:
    """An adopted history, and how many loads were committed on top of it."""

    raw_table: str
    last_date: date | None
    rows_taken: int
    states: int
    change_points: int
    loads: int


@dataclass
class _Old:
    """The old tables of one entity, while they are worked on."""

    entity: Entity
    relations: dict[str, int]
    columns: dict[str, frozenset[str]]
    rows: dict[str, int]
    sensitive: int = 0
    too_deep: int = 0

    @property
    def names(self) -> dict[str, TableName]:
        return {"raw": self.entity.raw, "xform": self.entity.xform, "curated": self.entity.curated}

    @property
    def aside(self) -> dict[str, TableName]:
        return {layer: TableName(name.schema + ASIDE, name.table) for layer, name in self.names.items()}

    @property
    def prepared(self) -> str:
        return f"{self.entity.name}_prepared"

    @property
    def state(self) -> str:
        return f"{self.entity.name}_state"

    @property
    def shows_documents(self) -> bool:
        """Whether current and curated tables hold documents, not only columns read out of them."""
        return any(not column.path for column in self.entity.columns)

    @property
    def shown_names(self) -> list[str]:
        """Columns that the old current table has of those that ours shows."""
        wanted = [column.name for column in self.entity.columns] + [name for name, _, _ in self.entity.derived_columns]
        return [name for name in wanted if name in self.columns["xform"] and name in self.columns["curated"]]

    @property
    def templates(self) -> dict[str, Any]:
        entity = self.entity
        return {
            "key_names": entity.key_names,
            "document": entity.document_column,
            "dated": entity.dated_column,
            "prepared": self.prepared,
            "state": self.state,
            "shows_documents": self.shows_documents,
            "names": self.shown_names,
        }


@dataclass
class _Survey:
    """What was found in the catalogue."""

    olds: list[_Old] = field(default_factory=list)
    tables: list[OldTable] = field(default_factory=list)
    triggers: list[asyncpg.Record] = field(default_factory=list)
    views: list[asyncpg.Record] = field(default_factory=list)
    grants: list[asyncpg.Record] = field(default_factory=list)
    view_statements: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def relations(self) -> list[int]:
        return [relation for old in self.olds for relation in old.relations.values()]


@dataclass(frozen=True)
class Adoption:
    """Adopts the tables of some entities.

    Args:
        entities: Whose; those without old tables are left alone.
        migrations: Folder of the migrations that make our tables.
        run_id: Who adopts.
        today: The day, after which no history may lie.
        services: Names of the services that we define, by entity.
        zone: Time zone in which the old timestamps were written; None: that of the database.
        progress: Told how far it is.
    """

    entities: Sequence[Entity]
    migrations: Path
    run_id: str
    today: date
    services: Mapping[str, Collection[str]] = field(default_factory=dict)
    zone: str | None = None
    progress: Progress = lambda doing, done, total: None

    async def plan(self, connection: asyncpg.Connection) -> Plan:
        """Say what an adoption would do, down to every row; reads everything and changes nothing.

        Raises:
            AdoptionError: There is nothing to adopt.
        """
        started = time.monotonic()
        transaction = connection.transaction(isolation="repeatable_read")
        with scrubbing("planning an adoption"):
            await transaction.start()
            try:
                survey = await self._survey(connection)
                return await self._work_out(connection, survey, started)
            finally:
                if not connection.is_closed():
                    await transaction.rollback()

    async def carry_out(self, connection: asyncpg.Connection, *, accept_differences: bool = False) -> Plan:
        """Adopt: all of it, or nothing if anything stands against it.

        Args:
            connection: A connection of its own, outside any transaction.
            accept_differences: Go on although some rows will not be seen as they were.

        Raises:
            AdoptionError: There is nothing to adopt, or something stands against it.
        """
        started = time.monotonic()
        with scrubbing("adopting tables"):
            async with connection.transaction():
                survey = await self._survey(connection)
                _refuse(survey.problems)
                old_names = [name for old in survey.olds for name in old.names.values()]
                await connection.execute(statement("adopt/lock.sql", tables=old_names))
                plan = await self._work_out(connection, survey, started)
                _refuse(plan.problems)
                if plan.differences and not accept_differences:
                    rows = sum(difference.rows for difference in plan.differences)
                    raise AdoptionError(
                        f"Readers would not see {rows} rows as they are now.",
                        where=", ".join(sorted({difference.table for difference in plan.differences})),
                        todo="Read the plan (`datalake adopt`); adopt with --accept-differences if they may differ.",
                    )
                await self._replace(connection, survey)
                for old in survey.olds:
                    await self._fill(connection, old, plan)
                await self._make_views(connection, survey)
        return _done(plan, time.monotonic() - started)

    # ------------------------------------------------------------------------------------------ what there is

    async def _survey(self, connection: asyncpg.Connection) -> _Survey:
        survey = _Survey()
        for entity in self.entities:
            await self._survey_entity(connection, entity, survey)
        if not survey.olds and not survey.problems:
            raise AdoptionError(
                "There is nothing to adopt: no table of an earlier system has the name of one of ours.",
                where=", ".join(str(entity.raw) for entity in self.entities),
                todo="Set POSTGRES_HOST and POSTGRES_DB to the database that the old flows fill.",
            )
        relations = survey.relations
        survey.triggers = await connection.fetch(statement("adopt/triggers.sql"), relations)
        survey.views = await connection.fetch(statement("adopt/views.sql"), relations)
        everything = relations + [view["relation"] for view in survey.views]
        survey.grants = await connection.fetch(statement("adopt/grants.sql"), everything)
        survey.problems += [
            f"View {view['schema']}.{view['name']} cannot be made anew: it is materialized, or has triggers or rules."
            for view in survey.views
            if not view["is_plain"]
        ]
        survey.problems += [
            f"{view['schema']}.{view['name']} belongs to {view['owner_name']}, in whose place our role may not act."
            for view in survey.views
            if not view["may_move"]
        ]
        survey.problems += [
            f"Something would stay with the old tables: {row['obstacle']}."
            for row in await connection.fetch(statement("adopt/obstacles.sql"), everything)
        ]
        return survey

    async def _survey_entity(self, connection: asyncpg.Connection, entity: Entity, survey: _Survey) -> None:
        names = {"raw": entity.raw, "xform": entity.xform, "curated": entity.curated}
        rows = await connection.fetch(statement("adopt/tables.sql"), [name.quoted for name in names.values()])
        found = {row["name"]: row for row in rows}
        is_ours = {name for name, row in found.items() if {"digest", "load_date"} <= set(row["columns"])}
        if not found or is_ours == set(found):
            return
        for layer, name in names.items():
            row = found.get(name.quoted)
            if row is None:
                survey.problems.append(f"There is no table {name}, which belongs to the others of {entity.name}.")
                continue
            if row["name"] in is_ours:
                survey.problems.append(f"{name} is ours already, but other tables of {entity.name} are not.")
            if not row["is_plain"]:
                survey.problems.append(f"{name} is no plain table.")
            if not row["may_move"]:
                survey.problems.append(
                    f"Our role may not move {name}: it needs the rights of {row['owner_name']}, and to create schemas."
                )
            if row["has_row_security"]:
                survey.problems.append(f"{name} has row security, which the new table would not have.")
            missing = _expected(entity, layer) - set(row["columns"])
            if missing:
                survey.problems.append(f"{name} lacks the columns {', '.join(sorted(missing))}.")
        if survey.problems:
            return
        by_layer = {layer: found[name.quoted] for layer, name in names.items()}
        old = _Old(
            entity,
            {layer: row["relation"] for layer, row in by_layer.items()},
            {layer: frozenset(row["columns"]) for layer, row in by_layer.items()},
            {},
        )
        for layer, row in by_layer.items():
            old.rows[layer] = await connection.fetchval(statement("layers/count.sql", table=names[layer]))
            survey.tables.append(OldTable(names[layer], layer, old.rows[layer], row["bytes"]))
        survey.olds.append(old)

    # ------------------------------------------------------------------------------------- what it comes to

    async def _work_out(self, connection: asyncpg.Connection, survey: _Survey, started: float) -> Plan:
        zone = self.zone or await connection.fetchval(statement("adopt/timezone.sql"))
        problems = list(survey.problems)
        histories: list[OldHistory] = []
        differences: list[Difference] = []
        services: list[OldService] = []
        if not problems:
            with _digesters(max((old.rows["raw"] for old in survey.olds), default=0)) as digesters:
                for old in survey.olds:
                    await self._prepare(connection, old, digesters)
            for old in survey.olds:
                await self._find_states(connection, old, zone)
                history = await _history(connection, old)
                histories.append(history)
                told = await self._services(connection, old)
                services += told
                problems += await self._misfits(connection, old, history, told)
                differences += await _differences(connection, old)
        elapsed = time.monotonic() - started
        extra = _extra_bytes(survey.tables, histories)
        return Plan(
            zone=zone,
            tables=tuple(survey.tables),
            histories=tuple(histories),
            services=tuple(services),
            triggers=tuple(f"{row['schema']}.{row['table']}: {row['name']}" for row in survey.triggers),
            views=tuple(f"{row['schema']}.{row['name']}" for row in survey.views),
            grants=_granted(survey.grants, reading=True),
            writers=_granted(survey.grants, reading=False),
            differences=tuple(differences),
            problems=tuple(problems),
            extra_bytes=extra,
            seconds=round(elapsed + extra / _BYTES_PER_S, 1),
        )

    async def _prepare(self, connection: asyncpg.Connection, old: _Old, digesters: ProcessPoolExecutor | None) -> None:
        await connection.execute(statement("adopt/prepared.sql", into=old.prepared))
        layers = ["raw"]
        if old.shows_documents:
            layers += ["xform", "curated"]
        for layer in layers:
            await self._prepare_layer(connection, old, layer, digesters)

    async def _prepare_layer(
        self, connection: asyncpg.Connection, old: _Old, layer: str, digesters: ProcessPoolExecutor | None
    ) -> None:
        name, ordered = old.names[layer], old.entity.ordered
        query = statement(
            "adopt/documents.sql",
            table=name,
            document=old.entity.document_column,
            # Curated rows are not digested; only those that may need cleaning are looked at.
            sensitive=sorted(SENSITIVE_KEYS) if layer == "curated" else [],
        )
        doing, total, done = f"Reading {name}", old.rows[layer], 0
        pages = await connection.fetchval(statement("adopt/pages.sql"), old.relations[layer])
        waiting: deque[tuple[list[Any], Future[list[Prepared]] | list[Prepared]]] = deque()
        for page in range(0, pages, _PAGES):
            rows = await connection.fetch(query, (page, 0), (page + _PAGES, 0))
            places, documents = [row["row_id"] for row in rows], [row["document"] for row in rows]
            if digesters is None:
                waiting.append((places, prepare(documents, ordered)))
            else:
                waiting.append((places, digesters.submit(prepare, documents, ordered)))
            # Enough is under way for every process to have its next piece at hand.
            while len(waiting) > (0 if digesters is None else 2 * _MOST_WORKERS):
                done += await self._keep(connection, old, layer, *waiting.popleft())
                self.progress(doing, done, total)
        while waiting:
            done += await self._keep(connection, old, layer, *waiting.popleft())

    async def _keep(
        self,
        connection: asyncpg.Connection,
        old: _Old,
        layer: str,
        places: list[Any],
        work: "Future[list[Prepared]] | list[Prepared]",
    ) -> int:
        results = await asyncio.wrap_future(work) if isinstance(work, Future) else work
        old.sensitive += sum(result.sensitive for result in results)
        old.too_deep += sum(result.digest is None for result in results)
        await copy_records(
            connection,
            old.prepared,
            ("layer", "row_id", "digest", "document"),
            [
                (layer, place, result.digest, result.cleaned)
                for place, result in zip(places, results, strict=True)
                if layer != "curated" or result.cleaned is not None
            ],
            schema="pg_temp",
            deadline_s=_COPY_DEADLINE_S,
        )
        return len(places)

    async def _find_states(self, connection: asyncpg.Connection, old: _Old, zone: str) -> None:
        self.progress(f"Ordering the states of {old.entity.name}", 0, old.rows["raw"])
        query = statement(
            "adopt/state.sql",
            into=old.state,
            raw=old.entity.raw,
            xform=old.entity.xform,
            zone=CAMPUS_ZONE.key,
            **old.templates,
        )
        await connection.execute(query, zone)
        await connection.execute(statement("adopt/state_index.sql", **old.templates))

    async def _services(self, connection: asyncpg.Connection, old: _Old) -> list[OldService]:
        curated, defined = old.entity.curated, self.services.get(old.entity.name, ())
        rows = await connection.fetch(statement("adopt/services.sql", curated=curated))
        return [OldService(str(curated), row["service"], row["rows_shown"], row["service"] in defined) for row in rows]

    async def _misfits(
        self, connection: asyncpg.Connection, old: _Old, history: OldHistory, services: Sequence[OldService]
    ) -> list[str]:
        problems = []
        if old.too_deep:
            problems.append(f"{old.too_deep} documents of {old.entity.name} cannot be digested: nested too deep.")
        if history.last_date is not None and history.last_date > self.today:
            problems.append(
                f"The history of {old.entity.name} goes up to {history.last_date}, and today is {self.today}."
            )
        if strange := sum(_SERVICE.fullmatch(service.service) is None for service in services):
            problems.append(
                f"{strange} services of {old.entity.curated} have names that are not letters, digits and underscores."
            )
        limited = [column for column in (*old.entity.key, *old.entity.columns) if column.max_length]
        for layer in ("raw", "xform", "curated"):
            columns = [column for column in limited if column.name in old.columns[layer]]
            if columns:
                query = statement("adopt/too_long.sql", table=old.names[layer], columns=columns)
                problems += [
                    f"{row['rows_too_long']} rows of {old.names[layer]} hold a {row['name']} of more than "
                    f"{row['longest']} characters."
                    for row in await connection.fetch(query)
                ]
        return problems

    # ------------------------------------------------------------------------------------------ carrying out

    async def _replace(self, connection: asyncpg.Connection, survey: _Survey) -> None:
        """Set the old tables and views aside and make ours; remember the way back."""
        self.progress("Setting the old tables aside", 0, 0)
        for view in survey.views:
            # Taken down while the names that they read still mean the old tables.
            rows = await connection.fetch(statement("adopt/view_statements.sql"), view["relation"])
            survey.view_statements[f"{view['schema']}.{view['name']}"] = [row["statement"] for row in rows]
        steps: list[tuple[str, str, str, str]] = []
        moved = [("table", name) for old in survey.olds for name in old.names.values()]
        moved += [("view", TableName(view["schema"], view["name"])) for view in survey.views]
        for schema in sorted({name.schema + ASIDE for _, name in moved}):
            await connection.execute(statement("adopt/create_schema.sql", into=schema))
            steps.append(("aside", schema, "", ""))
        for kind, name in moved:
            aside = name.schema + ASIDE
            await connection.execute(statement("adopt/set_aside.sql", kind=kind, table=name, into=aside))
            steps.append((f"moved {kind}", name.schema, name.table, aside))
        for row in survey.triggers:
            steps.append((f"trigger {row['state']}", row["schema"], row["table"], row["name"]))
        for schema, table in sorted({(row["schema"], row["table"]) for row in survey.triggers}):
            aside_table = TableName(schema + ASIDE, table)
            await connection.execute(statement("adopt/disable_triggers.sql", table=aside_table))
        before = {tuple(row) for row in await connection.fetch(statement("adopt/relations.sql"))}
        applied = await migrate_within(connection, self.migrations)
        after = [tuple(row) for row in await connection.fetch(statement("adopt/relations.sql"))]
        steps += [
            (f"made {kind}", schema, name, "") for kind, schema, name in after if (kind, schema, name) not in before
        ]
        steps += [("made view", view["schema"], view["name"], "") for view in survey.views]
        steps += [("migration", "", name, "") for name in applied[:1]]
        for place, step in enumerate(steps):
            await connection.execute(statement("adopt/remember.sql"), place, *step)

    async def _fill(self, connection: asyncpg.Connection, old: _Old, plan: Plan) -> None:
        """Write everything that the old tables tell into ours, and the account of it."""
        entity = old.entity
        aside = {f"old_{layer}": name for layer, name in old.aside.items()}
        names = {**old.templates, **aside, "raw": entity.raw, "xform": entity.xform, "curated": entity.curated}
        history = next(history for history in plan.histories if history.entity == entity.name)
        self.progress(f"Writing {entity.raw}", 0, history.change_points)
        await connection.execute(
            statement("adopt/history.sql", **names), self.run_id, f"adopted from {entity.raw} of an earlier system"
        )
        await connection.execute(statement("adopt/states_within_a_date.sql", **names), entity.name, self.run_id)
        self.progress(f"Writing {entity.xform}", 0, old.rows["xform"])
        await connection.execute(statement("adopt/current.sql", **names), self.run_id)
        self.progress(f"Writing {entity.curated}", 0, old.rows["curated"])
        await self._make_room_for_services(connection, old)
        await connection.execute(statement("adopt/curated.sql", **names), self.run_id)
        for table in (entity.raw, entity.xform, entity.curated):
            await connection.execute(statement("adopt/analyze.sql", table=table))
        await connection.execute(
            statement("adopt/record.sql"),
            str(entity.raw),
            history.last_date,
            history.rows,
            history.states,
            history.change_points,
            self.run_id,
        )
        if history.last_date is not None:
            query = statement("adopt/receipts.sql", table=entity.raw, scope=entity.scope)
            await connection.execute(query, str(entity.raw), history.last_date, self.run_id)
            for table in (entity.xform, entity.curated):
                query = statement("adopt/receipt.sql", table=table, scope=entity.scope)
                await connection.execute(query, str(table), history.last_date, self.run_id)

    async def _make_room_for_services(self, connection: asyncpg.Connection, old: _Old) -> None:
        """Where services have partitions, make one for each that the old table names."""
        curated = old.entity.curated
        row = await connection.fetchrow(statement("layers/curated/partitions.sql"), *curated)
        if row is None or not row["partitioned"]:
            return
        for service in await connection.fetch(statement("adopt/services.sql", curated=old.aside["curated"])):
            partition = partition_of(curated, service["service"])
            query = statement(
                "layers/curated/add_partition.sql", curated=curated, partition=partition, service=service["service"]
            )
            await connection.execute(query)

    async def _make_views(self, connection: asyncpg.Connection, survey: _Survey) -> None:
        """Make the views anew over our tables, and let everybody read what they could read."""
        self.progress("Making views and grants", 0, len(survey.views))
        for view, statements in survey.view_statements.items():
            with scrubbing(f"making the view {view} anew over the new tables"):
                for text in statements:
                    await connection.execute(text)
        for row in survey.grants:
            if row["privilege"] == "SELECT":
                await connection.execute(row["statement"])


async def adopted(connection: asyncpg.Connection) -> list[Adopted]:
    """What was adopted; nothing where no adoption was carried out."""
    if not await connection.fetchval(statement("adopt/is_adopted.sql")):
        return []
    rows = await connection.fetch(statement("adopt/adopted.sql"))
    return [
        Adopted(
            row["raw_table"], row["last_date"], row["rows_taken"], row["states"], row["change_points"], row["loads"]
        )
        for row in rows
    ]


async def undo(
    connection: asyncpg.Connection, entities: Sequence[Entity], *, discard_loads: bool = False
) -> list[TableName]:
    """Give the old tables back as they were: all of them, or none.

    Args:
        connection: A connection of its own, outside any transaction.
        entities: Whose accounts are forgotten.
        discard_loads: Go on although loads were committed since; what they brought is lost.

    Returns:
        The tables and views that are back.

    Raises:
        AdoptionError: There is nothing to go back from, or the way back is cut off.
    """
    with scrubbing("going back from an adoption"):
        async with connection.transaction():
            taken = await adopted(connection)
            if not taken:
                raise AdoptionError(
                    "There is no adoption to go back from.",
                    where="ops.adoption",
                    todo="Nothing; `datalake adopt` plans one.",
                )
            loads = sum(item.loads for item in taken)
            if loads and not discard_loads:
                raise AdoptionError(
                    f"{loads} loads were committed since the adoption; going back forgets them.",
                    where=", ".join(item.raw_table for item in taken if item.loads),
                    todo="Keep what you need of them, then go back with --discard-loads.",
                )
            steps = [tuple(row) for row in await connection.fetch(statement("adopt/way_back.sql"))]
            return await _go_back(connection, steps, [entity for entity in entities if _is_taken(entity, taken)])


async def _go_back(
    connection: asyncpg.Connection, steps: list[tuple[Any, ...]], entities: list[Entity]
) -> list[TableName]:
    made = {(kind.removeprefix("made "), schema, name) for kind, schema, name, _ in steps if kind.startswith("made ")}
    made_schemas = {schema for kind, schema, _ in made if kind == "schema"}
    present = {tuple(row) for row in await connection.fetch(statement("adopt/relations.sql"))}
    for kind, schema, name, aside in steps:
        moved = kind.removeprefix("moved ")
        if kind != moved and (moved, aside, name) not in present:
            raise AdoptionError(
                f"The way back is cut off: {aside}.{name} is gone, which was {schema}.{name}.",
                where="ops.way_back",
                todo="Restore it from a backup, or stay with the new tables.",
            )
    # Tables that later migrations added to a schema of ours go with it.
    going = sorted(item for item in present if item in made or item[1] in made_schemas)
    if "ops" not in made_schemas:
        await _forget(connection, steps, entities)
    for kind in ("view", "table"):
        names = [TableName(schema, name) for what, schema, name in going if what == kind]
        if names:
            await connection.execute(statement("adopt/drop_tables.sql", kind=kind, tables=names))
    for kind, schema, name in going:
        if kind == "routine":
            routine = f"{quote_identifier(schema)}.{name}"
            await connection.execute(statement("adopt/drop_routine.sql", into=routine))
    for schema in sorted(made_schemas):
        await connection.execute(statement("adopt/drop_schema.sql", into=schema))
    back: list[TableName] = []
    for kind, schema, name, detail in steps:
        if kind.startswith("moved "):
            await connection.execute(
                statement(
                    "adopt/set_aside.sql", kind=kind.removeprefix("moved "), table=TableName(detail, name), into=schema
                )
            )
            back.append(TableName(schema, name))
    for kind, schema, name, detail in steps:
        how = {"trigger O": "", "trigger R": "replica", "trigger A": "always"}.get(kind)
        if how is not None:
            query = statement("adopt/enable_trigger.sql", table=TableName(schema, name), kind=how, into=detail)
            await connection.execute(query)
    for kind, schema, _, _ in steps:
        if kind == "aside":
            await connection.execute(statement("adopt/drop_schema.sql", into=schema))
    return sorted(back)


async def _forget(connection: asyncpg.Connection, steps: list[tuple[Any, ...]], entities: list[Entity]) -> None:
    """Where `ops` was there before, take out what the adoption and the loads since wrote into it."""
    assets = [str(name) for entity in entities for name in (entity.landing, entity.raw, entity.xform, entity.curated)]
    await connection.execute(statement("adopt/forget.sql"), assets, [entity.name for entity in entities])
    for kind, _, name, _ in steps:
        if kind == "migration":
            await connection.execute(statement("adopt/forget_migrations.sql"), name[:4])
            await connection.execute(statement("adopt/forget_version.sql"))


# ------------------------------------------------------------------------------------------------- documents


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was worked out of one old document.

    Attributes:
        digest: Its digest; None if it is nested too deep to have one.
        cleaned: The document without what is never kept; None if nothing had to go.
        sensitive: A sensitive key had to go.
    """

    digest: bytes | None
    cleaned: bytes | None
    sensitive: bool


def prepare(documents: Sequence[bytes], ordered: frozenset[tuple[str, ...]]) -> list[Prepared]:
    """Clean and digest old documents; runs in a process of its own where there are many."""
    return [_prepare_one(document, ordered) for document in documents]


def _prepare_one(text: bytes, ordered: frozenset[tuple[str, ...]]) -> Prepared:
    value = exact_json.loads(text)
    if exact_json.defects(value):
        return Prepared(None, None, False)
    cleaned = without_sensitive_keys(value)
    sensitive = bool(cleaned != value)
    if isinstance(cleaned, dict) and not TRANSPORT_MEMBERS.isdisjoint(cleaned):
        cleaned = {name: member for name, member in cleaned.items() if name not in TRANSPORT_MEMBERS}
    changed = sensitive or len(cleaned) != len(value) if isinstance(value, dict) else sensitive
    return Prepared(digest(cleaned, ordered), exact_json.dumps(cleaned) if changed else None, sensitive)


@contextmanager
def _digesters(rows: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that digest; none where starting them takes longer than the work."""
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    if rows < _WORKERS_FROM_ROWS or workers < 2:
        yield None
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


# ----------------------------------------------------------------------------------------------------- words


def _expected(entity: Entity, layer: str) -> set[str]:
    key = set(entity.key_names)
    if layer == "raw":
        return key | {entity.document_column, entity.dated_column}
    shown = {column.name for column in entity.columns} | {"modified_date"}
    return key | shown | ({"service"} if layer == "curated" else set())


async def _history(connection: asyncpg.Connection, old: _Old) -> OldHistory:
    row = await connection.fetchrow(statement("adopt/counts.sql", **old.templates))
    of_raw = row["states"] - row["states_of_current_only"] - row["removals_told"]
    return OldHistory(
        entity=old.entity.name,
        rows=old.rows["raw"],
        keys=row["keys"],
        states=row["states"],
        change_points=row["change_points"],
        within_a_date=row["states"] - row["change_points"],
        repeated=old.rows["raw"] - of_raw,
        current_only=row["states_of_current_only"],
        removed=row["removals_told"],
        first_date=row["first_date"],
        last_date=row["last_date"],
        sensitive=old.sensitive,
    )


async def _differences(connection: asyncpg.Connection, old: _Old) -> list[Difference]:
    entity = old.entity
    differences = []
    for name, key in ((entity.xform, entity.key_names), (entity.curated, ("service", *entity.key_names))):
        query = statement("adopt/not_shown.sql", table=name, key=key, **old.templates)
        if rows := await connection.fetchval(query):
            what = "are not shown: their key stands more than once, or the history holds no document of it"
            differences.append(Difference(str(name), rows, what))
    if not old.shows_documents:
        query = statement(
            "adopt/differing.sql", raw=entity.raw, xform=entity.xform, columns=entity.columns, **old.templates
        )
        if rows := await connection.fetchval(query):
            what = "say something else than the last document of their key; they stay until it changes"
            differences.append(Difference(str(entity.xform), rows, what))
    return differences


def _extra_bytes(tables: Sequence[OldTable], histories: Sequence[OldHistory]) -> int:
    kept = {history.entity: history.states / history.rows for history in histories if history.rows}
    share = {table.name: kept.get(table.name.schema.removesuffix("_raw"), 1.0) for table in tables}
    return sum(round(table.bytes * min(1.0, share[table.name])) for table in tables)


def _granted(rows: Sequence[asyncpg.Record], *, reading: bool) -> tuple[str, ...]:
    words: dict[str, list[str]] = {}
    for row in rows:
        if (row["privilege"] == "SELECT") is reading:
            column = f" ({row['column_name']})" if row["column_name"] else ""
            words.setdefault(f"{row['grantee']}: {row['schema']}.{row['table']}{column}", []).append(
                row["privilege"].lower()
            )
    return tuple(where if reading else f"{where}: {', '.join(names)}" for where, names in words.items())


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise AdoptionError(
            f"The tables cannot be adopted: {' '.join(problems)}",
            todo="Nothing was changed. Mend that, then look at `datalake adopt` again.",
        )


def _done(plan: Plan, seconds: float) -> Plan:
    return replace(plan, seconds=round(seconds, 1))


def _is_taken(entity: Entity, taken: Sequence[Adopted]) -> bool:
    return str(entity.raw) in {item.raw_table for item in taken}
