"""What must hold of the tables: every check as a plain function of the lake and a load date.

Generated checks follow from the entity (columns, keys, receipts, freshness, services); the others are SQL files
that return the offending rows: none is a pass. The same checks run as Dagster asset checks and from the command
line, so nothing here knows either.
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final, Literal

import asyncpg

from datalake_assets.clock import CAMPUS_ZONE, Clock
from datalake_assets.entities import SENSITIVE_KEYS, Entity
from datalake_assets.keys import TableName
from datalake_assets.lake.guards import IntolerableError, Tolerances
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.services import Service
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.tables import LAYERS, Layer, Table, table_of
from datalake_assets.statements import statement, statement_names, statement_text
from datalake_assets.storage.postgres import scrubbing

Severity = Literal["error", "warn"]

GRACE: Final = timedelta(hours=6)
"""How long after its start a daily load may take before the data counts as stale."""


@dataclass(frozen=True)
class Lake:
    """What checks look at.

    Attributes:
        connection: The database.
        landing: Snapshots of the entity.
        services: Services of the entity.
        tolerances: How much may be missing.
        clock: What today is.
    """

    connection: asyncpg.Connection
    landing: Landing
    services: tuple[Service, ...]
    tolerances: Tolerances
    clock: Clock


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
        snapshot = lake.landing.current(LoadSlice(entity, load_date))
        if snapshot is None:
            return Verdict(False, f"No snapshot of {load_date} was landed.")
        outcomes = snapshot.outcomes
        numbers: dict[str, int | float] = {
            "asked": outcomes.asked,
            "data": outcomes.data,
            "absent": outcomes.absent,
            "failed": outcomes.failed,
            "quarantined": outcomes.quarantined,
        }
        try:
            lake.tolerances.check_outcomes(outcomes, f"{table.name}, partition {load_date}")
        except IntolerableError as error:
            return Verdict(False, str(error), numbers)
        return Verdict(True, f"{outcomes.asked} keys asked, every one accounted for.", numbers)

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
        duplicates = await lake.connection.fetchval(
            statement("layers/checks/duplicate_keys.sql", table=table.name, key=table.key)
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
        "key_names": entity.key_names,
        "document": entity.document_column,
        "sensitive": sorted(SENSITIVE_KEYS),
    }

    async def evaluate(path: str, lake: Lake, load_date: date) -> Verdict:
        query = statement(path, **names)
        with scrubbing(f"check {path}"):
            rows = await lake.connection.fetch(query, *([load_date] if "$1" in query else []))
        return Verdict(
            not rows,
            f"{len(rows)} offending rows." if rows else "No offending row.",
            {"offending_rows": len(rows)},
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
        receipt = await lake.connection.fetchrow(
            statement("layers/checks/last_receipt.sql"), str(table.name), load_date
        )
        if receipt is None:
            return Verdict(False, f"{load_date} was not loaded.")
        alive = receipt["rows_removed"] + receipt["rows_changed"] + receipt["rows_unchanged"]
        share = receipt["rows_removed"] / alive if alive else 0.0
        allowed = lake.tolerances.removed
        return Verdict(
            share <= allowed or receipt["rows_removed"] <= 1,
            f"{receipt['rows_removed']} of {alive} keys were removed; {allowed:.0%} may be.",
            {"removed_share": round(share, 4)},
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


def _service_paths(entity: Entity, table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        paths = sorted({path for service in lake.services for path in service.paths if path != "/"})
        queries = [_jsonpath(path) for path in paths]
        unused = await lake.connection.fetch(
            statement(
                "layers/curated/unused_paths.sql",
                raw=entity.raw,
                xform=entity.xform,
                key_names=entity.key_names,
                document=entity.document_column,
            ),
            paths,
            queries,
        )
        names = ", ".join(row["path"] for row in unused)
        return Verdict(
            not unused,
            f"No document holds {names}." if unused else f"All {len(paths)} paths of services hold data somewhere.",
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


def _jsonpath(path: str) -> str:
    names = "".join(f".{json.dumps(name)}" for name in path.removeprefix("/").split("/"))
    return f"lax ${names} ? (@ != null)"


def _freshness(entity: Entity, table: Table) -> Check:
    async def evaluate(lake: Lake, load_date: date) -> Verdict:
        newest = await lake.connection.fetchval(statement("layers/checks/newest_load.sql"), str(table.name))
        expected = expected_date(entity, lake.clock.now()) if lake.clock.rehearsed is None else lake.clock.rehearsed
        if newest is None:
            return Verdict(False, "Nothing was ever loaded.")
        late = max(0, (expected - newest).days)
        return Verdict(
            not late,
            f"The newest load date is {newest}; {expected} is due." if late else f"Loaded up to {newest}.",
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
