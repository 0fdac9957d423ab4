"""What must hold of the tables: every check as a plain function of the lake and a load date.

Generated checks follow from the entity (columns, keys, receipts, freshness, services); the others are SQL files
that return the offending rows: none is a pass. The same checks run as Dagster asset checks and from the command
line, so nothing here knows either.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

import asyncpg

from datalake_assets.clock import CAMPUS_ZONE, Clock
from datalake_assets.entities import SENSITIVE_KEYS, Entity
from datalake_assets.keys import TableName
from datalake_assets.lake.curated import filtered_marks
from datalake_assets.lake.guards import IntolerableError, Tolerances
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.services import WHOLE_DOCUMENT, Service
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.tables import LAYERS, Layer, Table, table_of
from datalake_assets.lake.views import holds_data_at, parsed
from datalake_assets.statements import has_statement, statement, statement_names, statement_text
from datalake_assets.storage.postgres import scrubbing

Severity = Literal["error", "warn"]

GRACE: Final = timedelta(hours=6)
"""How long after its start a daily load may take before the data counts as stale."""

_DOCUMENTS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Lake:
    """What checks look at.

    Attributes:
        connection: The database.
        landing: Snapshots of the entity.
        services: Services of the entity.
        tolerances: How much may be missing.
        clock: What today is.
        scope: Of an entity that is loaded in scopes, the only one to look at: another may be under way. Empty: all.
    """

    connection: asyncpg.Connection
    landing: Landing
    services: tuple[Service, ...]
    tolerances: Tolerances
    clock: Clock
    scope: tuple[str | int, ...] = ()

    @property
    def scope_text(self) -> str | None:
        """The scope as receipts name it, or None for all of them."""
        return "|".join(map(str, self.scope)) if self.scope else None


@dataclass(frozen=True)
class Verdict:
    """Result of one check.

    Attributes:
        passed: Whether it holds.
        summary: One sentence; counts and names of tables, never values of rows.
        numbers: Counts worth plotting.
    """

    passed: bool
    summary: str
    numbers: dict[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One check of one table.

    Attributes:
        name: Unique within the table.
        table: Which table.
        layer: Its layer.
        description: What must hold.
        severity: error fails a run and `datalake checks`; warn does not.
        blocking: A failure stops what lies below the table in the same run.
        evaluate: The check itself.
    """

    name: str
    table: TableName
    layer: Layer
    description: str
    severity: Severity
    blocking: bool
    evaluate: Callable[[Lake, date], Awaitable[Verdict]]


def checks_of(entity: Entity) -> tuple[Check, ...]:
    """All checks of an entity, in the order of its layers."""
    checks: list[Check] = []
    for layer in LAYERS:
        table = table_of(entity, layer)
        if layer == "landing":
            checks.append(_receipt_balance(entity, table))
            continue
        checks.append(_schema(table))
        checks.extend(_sql_checks(entity, table, f"layers/{layer}/checks"))
        if layer != "raw" and any(column.type == "jsonb" for column in entity.columns):
            checks.extend(_sql_checks(entity, table, f"layers/{layer}/checks/documents"))
        checks.extend(_sql_checks(entity, table, f"{table.name.path}/checks"))
        if layer == "raw":
            checks.append(_volume(entity, table))
        if layer == "curated":
            checks.append(_service_paths(entity, table))
        checks.append(_freshness(entity, table))
    return tuple(checks)


def expected_date(entity: Entity, now: datetime) -> date:
    """The newest load date that must be there: that of the last daily load whose grace is over.

    Args:
        entity: Whose load.
        now: The moment, with a time zone.
    """
    local = now.astimezone(CAMPUS_ZONE)
    start = datetime(local.year, local.month, local.day, entity.load_hour, tzinfo=CAMPUS_ZONE)
    due = start.timestamp() + GRACE.total_seconds()
    return local.date() if local.timestamp() >= due else local.date() - timedelta(days=1)


def _receipt_balance(entity: Entity, table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        pieces = [LoadSlice(entity, load_date, lake.scope)] if lake.scope else lake.landing.pieces(load_date)
        numbers: dict[str, int | float] = dict.fromkeys(("asked", "data", "absent", "failed", "quarantined"), 0)
        problems: list[str] = []
        for piece in pieces:
            snapshot = lake.landing.current(piece)
            if snapshot is None:
                problems.append(f"No snapshot of {piece.partition} was landed.")
                continue
            for name in numbers:
                numbers[name] += getattr(snapshot.outcomes, name)
            try:
                lake.tolerances.check_outcomes(snapshot.outcomes, f"{table.name}, partition {piece.partition}")
            except IntolerableError as error:
                problems.append(str(error))
        if not pieces:
            problems.append(f"No snapshot of {load_date} was landed.")
        if problems:
            return Verdict(False, " ".join(problems), numbers if any(numbers.values()) else {})
        return Verdict(True, f"{numbers['asked']} keys asked, every one accounted for.", numbers)

    return Check(
        name="receipt_balances",
        table=table.name,
        layer=table.layer,
        description="Every key asked for is accounted for, and no more than tolerated failed or went to quarantine.",
        severity="error",
        blocking=True,
        evaluate=evaluate,
    )


def _schema(table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        rows = await lake.connection.fetch(statement("layers/checks/columns.sql"), *table.name)
        found = {row["name"]: (row["type"], row["nullable"]) for row in rows}
        declared = {column.name: (column.type, column.nullable) for column in table.columns}
        wrong = [
            f"{name} should be {_column_text(declared.get(name))} and is {_column_text(found.get(name))}"
            for name in sorted(declared.keys() | found.keys())
            if declared.get(name) != found.get(name)
        ]
        if wrong:
            return Verdict(False, f"{table.name}: {'; '.join(wrong)}.", {"columns_wrong": len(wrong)})
        # A table whose index says so need not be read.
        proved = await lake.connection.fetchval(statement("layers/checks/is_unique.sql"), *table.name, list(table.key))
        duplicates = (
            0
            if proved
            else await lake.connection.fetchval(
                statement("layers/checks/duplicate_keys.sql", table=table.name, key=table.key)
            )
        )
        if duplicates:
            return Verdict(False, f"{duplicates} keys stand more than once or are null.", {"keys_wrong": duplicates})
        return Verdict(True, f"{len(declared)} columns as declared; the key ({', '.join(table.key)}) is unique.")

    return Check(
        name="schema_and_key",
        table=table.name,
        layer=table.layer,
        description="Columns and types are as declared, and the key is unique and not null.",
        severity="error",
        blocking=True,
        evaluate=evaluate,
    )


def _column_text(column: tuple[str, bool] | None) -> str:
    if column is None:
        return "absent"
    return column[0] if column[1] else f"{column[0]} not null"


def _sql_checks(entity: Entity, table: Table, folder: str) -> list[Check]:
    names = {
        "raw": entity.raw,
        "xform": entity.xform,
        "curated": entity.curated,
        "marks": filtered_marks(entity),
        "key_names": entity.key_names,
        "columns": entity.columns,
        "document": entity.document_column,
        "sensitive": sorted(SENSITIVE_KEYS),
    }

    async def evaluate(path: str, lake: Lake, load_date: date) -> Verdict:
        query = statement(path, **names, scope=entity.scope if lake.scope else ())
        args: list[Any] = [load_date] if _TAKES_DATE in query else []
        args += lake.scope if _TAKES_SCOPE in query else ()
        with scrubbing(f"check {path}"):
            offending = await lake.connection.fetchval(
                statement("layers/checks/count_offending.sql", query=query), *args
            )
        return Verdict(
            not offending,
            f"{offending} offending rows." if offending else "No offending row.",
            {"offending_rows": offending},
        )

    checks = []
    for path in statement_names(folder):
        severity, blocking, description = _check_header(path)
        checks.append(
            Check(
                name=path.rsplit("/", 1)[1].removesuffix(".sql"),
                table=table.name,
                layer=table.layer,
                description=description,
                severity=severity,
                blocking=blocking,
                evaluate=partial(evaluate, path),
            )
        )
    return checks


_TAKES_DATE: Final = "-- $1: the date"
_TAKES_SCOPE: Final = "on: the scope"
"""What the header of a check says of its parameters."""

_HEADER: Final = re.compile(r"-- severity: (error|warn)\n-- blocking: (true|false)\n((?:-- .*\n)+)")


def _check_header(path: str) -> tuple[Severity, bool, str]:
    match = _HEADER.match(statement_text(path))
    if match is None:
        raise ValueError(
            f"sql/{path} must begin with '-- severity: error|warn', '-- blocking: true|false' and a description"
        )
    severity: Severity = "error" if match[1] == "error" else "warn"
    return severity, match[2] == "true", " ".join(line.removeprefix("-- ") for line in match[3].splitlines())


def _volume(entity: Entity, table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        receipts = await lake.connection.fetch(
            statement("layers/checks/last_receipts.sql"), str(table.name), load_date, lake.scope_text
        )
        if not receipts:
            return Verdict(False, f"{load_date} was not loaded.")
        allowed = lake.tolerances.removed
        alive = sum(_alive(receipt) for receipt in receipts)
        removed = sum(receipt["rows_removed"] for receipt in receipts)
        beyond = [
            f"{receipt['rows_removed']} of {_alive(receipt)} keys of {receipt['scope']}"
            for receipt in receipts
            if receipt["rows_removed"] > max(1, allowed * _alive(receipt))
        ]
        said = ", ".join(beyond) if entity.scope and beyond else f"{removed} of {alive} keys"
        return Verdict(
            not beyond,
            f"{said} were removed; {allowed:.0%} may be.",
            {"removed_share": round(removed / alive, 4) if alive else 0.0},
        )

    return Check(
        name="removed_share_is_small",
        table=table.name,
        layer=table.layer,
        description="No more keys went on the date than a night may remove (a larger load needs `datalake allow`).",
        severity="warn",
        blocking=False,
        evaluate=evaluate,
    )


def _alive(receipt: asyncpg.Record) -> int:
    """Keys that were alive before a load."""
    return int(receipt["rows_removed"] + receipt["rows_changed"] + receipt["rows_unchanged"])


def _service_paths(entity: Entity, table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        paths = {path for service in lake.services for path in service.paths if path != WHOLE_DOCUMENT}
        unused = dict.fromkeys(paths)
        documents = 0
        query = statement(
            "layers/curated/current_documents.sql",
            raw=entity.raw,
            xform=entity.xform,
            key_names=entity.key_names,
            document=entity.document_column,
            scope=entity.scope if lake.scope else (),
        )
        async with lake.connection.transaction():
            cursor = await lake.connection.cursor(query, *lake.scope)
            # Most paths are met in the first documents; only what is left is looked for in the others.
            while unused and (rows := await cursor.fetch(_DOCUMENTS_AT_ONCE)):
                for row in rows:
                    documents += 1
                    document = parsed(row["document"])
                    for path in [path for path in unused if holds_data_at(document, path)]:
                        del unused[path]
        if paths and not documents:
            return Verdict(False, "There is nothing to judge: no document is current.", {"paths_without_data": 0})
        return Verdict(
            not unused,
            f"No document holds {', '.join(sorted(unused))}."
            if unused
            else f"All {len(paths)} paths of services hold data somewhere.",
            {"paths_without_data": len(unused)},
        )

    return Check(
        name="service_paths_hold_data",
        table=table.name,
        layer=table.layer,
        description="Every path that a service may see holds data in some document; one that never does is a mistake.",
        severity="warn",
        blocking=False,
        evaluate=evaluate,
    )


def _freshness(entity: Entity, table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        expected = expected_date(entity, lake.clock.now()) if lake.clock.rehearsed is None else lake.clock.rehearsed
        scopes: list[str] = [lake.scope_text] if lake.scope_text else []
        if not scopes and has_statement(path := f"{entity.raw.path}/loaded_scopes.sql"):
            scopes = [row[0] for row in await lake.connection.fetch(statement(path))]
        rows = await lake.connection.fetch(statement("layers/checks/newest_loads.sql"), str(table.name))
        newest = {row["scope"]: row["load_date"] for row in rows}
        if not newest:
            return Verdict(False, "Nothing was ever loaded.")
        if never := [scope for scope in scopes if scope not in newest]:
            return Verdict(False, f"{', '.join(never)} was never loaded.")
        oldest = min(newest[scope] for scope in scopes) if scopes else max(newest.values())
        late = max(0, (expected - oldest).days)
        which = [scope for scope in scopes if newest[scope] < expected]
        of = f" of {', '.join(which)}" if which else ""
        return Verdict(
            not late,
            f"The newest load date{of} is {oldest}; {expected} is due." if late else f"Loaded up to {oldest}.",
            {"days_late": late},
        )

    return Check(
        name="is_fresh",
        table=table.name,
        layer=table.layer,
        description=f"The newest date is the one due by {entity.load_hour:02d}:00 and {GRACE.seconds // 3600} hours, "
        "whatever was loaded for older dates since.",
        severity="warn",
        blocking=False,
        evaluate=evaluate,
    )
