"""What declared pipelines of a demo must hold, and what they do hold: totals by partition, to be compared.

The standard is what the simulator says is true; where faults may spoil what is sent unnoticed, it is what was landed.
Loading, and what is shown of it, do not belong here.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg
import yaml

from datalake_assets import exact_json
from datalake_assets.cli.stack import Stack
from datalake_assets.components.api_dataset import ApiDatasetSpec, ColumnSpec
from datalake_assets.components.dated_view import DatedViewSpec
from datalake_assets.keys import TableName
from datalake_assets.lake.datasets import landed
from datalake_assets.settings import project_files
from datalake_assets.simulator.client import SimulatorControl
from datalake_assets.statements import statement
from datalake_assets.storage.parquet import ParquetStore

Totals = dict[str, Any]
"""Rows, and whatever else was counted or added up, by name."""

ByPartition = dict[str, Totals]
"""The totals of every partition that was loaded; of a table without partitions, under an empty key."""

WHOLE: Final = ""
_DEFS: Final = project_files() / "datalake_assets" / "defs"
_ZONES: Final = {"rows": 265, "zones called NA": 1}
"""The commission has so many zones, and one of them bears a name that many readers take for nothing."""
_BESIDE: Final = " of the second table"


def differences(must: ByPartition, found: ByPartition, loaded: Iterable[str]) -> list[str]:
    """What is not as it must be.

    Args:
        must: Totals of every partition that could be loaded.
        found: Totals of those that hold rows.
        loaded: Partitions whose load is green; others may be missing, and must be right if they are there.
    """
    wrong = []
    for key in sorted({*loaded, *found}):
        if key not in must:
            wrong.append(f"{key or 'the table'} should not be there")
            continue
        for name, expected in must[key].items():
            if (have := found[key].get(name) if key in found else 0) != expected:
                wrong.append(f"{key + ': ' if key else ''}{name} {have} instead of {expected}")
    return wrong


# --------------------------------------------------------------------------------------------------- datasets


class Sources:
    """What the sources of declared pipelines have, by their own words or by what was landed of it.

    Args:
        simulator: The sources.
        stack: The lake.
        trusted: Whether what is sent is what there is.
    """

    def __init__(self, simulator: SimulatorControl, stack: Stack, *, trusted: bool) -> None:
        self._simulator, self._stack, self.trusted = simulator, stack, trusted
        self._documents: dict[str, list[Mapping[str, Any]]] = {}

    def documents(self, pipeline: str) -> list[Mapping[str, Any]]:
        """Every record of an API dataset."""
        if pipeline not in self._documents:
            spec = dataset_spec(pipeline)
            self._documents[pipeline] = self._told(spec) if self.trusted else self._landed(spec)
        return self._documents[pipeline]

    def taxi(self, partition: str) -> Mapping[str, Any]:
        """What the simulator says of the trips of a partition, e.g. `green|2021-01-01`."""
        color, month = partition.split("|")
        return self._simulator.truth("taxi", colour=color, month=month[:7])

    def _told(self, spec: ApiDatasetSpec) -> list[Mapping[str, Any]]:
        name = spec.source.path.rpartition("/")[2]
        return list(self._simulator.truth("dataset", dataset=name, documents=True)["documents"].values())

    def _landed(self, spec: ApiDatasetSpec) -> list[Mapping[str, Any]]:
        store = ParquetStore(self._stack.settings.lake_url)
        return [
            exact_json.loads(document)
            for manifest in landed(store, spec.dataset.landing)[-1:]
            for batch in store.read(manifest, columns=["document"])
            for document in batch.column("document").to_pylist()
        ]


def dataset_spec(pipeline: str) -> ApiDatasetSpec:
    """The declaration of an API dataset."""
    return ApiDatasetSpec.model_validate(_attributes(pipeline))


def view_spec(pipeline: str) -> DatedViewSpec:
    """The declaration of a dated view."""
    return DatedViewSpec.model_validate(_attributes(pipeline))


def _attributes(pipeline: str) -> dict[str, Any]:
    attributes: dict[str, Any] = yaml.safe_load((_DEFS / pipeline / "defs.yaml").read_text("utf-8"))["attributes"]
    return attributes


def dataset_must(spec: ApiDatasetSpec, documents: Sequence[Mapping[str, Any]]) -> ByPartition:
    """What the table of a dataset must come to: `false`, `0` and empty texts are counted apart from missing values."""
    totals: Totals = {"rows": len(documents)}
    for column in spec.columns:
        values = [document.get(column.path[0]) for document in documents]
        totals[f"{column.name} nulls"] = sum(value is None for value in values)
        match _holds(column):
            case "text":
                totals[f"{column.name} blanks"] = sum(value == "" for value in values)
            case "boolean":
                totals[f"{column.name} falses"] = sum(value is False for value in values)
            case "number":
                numbers = [Decimal(str(value)) for value in values if value is not None]
                totals[f"{column.name} zeros"] = sum(number == 0 for number in numbers)
                totals[f"{column.name} sum"] = sum(numbers, Decimal(0)) if numbers else None
    return {WHOLE: totals}


async def dataset_found(connection: asyncpg.Connection, spec: ApiDatasetSpec) -> ByPartition:
    """What the table of a dataset comes to."""
    table = spec.dataset.tables[0].name
    if not await _exists(connection, table):
        return {}
    columns = [{"name": column.name, "holds": _holds(column)} for column in spec.columns]
    row = await connection.fetchrow(statement("demo/column_totals.sql", table=table, columns=columns))
    totals: Totals = {"rows": row["total"]}
    for name, value in row.items():
        what, _, place = name.partition("_")
        if place:
            totals[f"{columns[int(place)]['name']} {what}"] = value
    return {WHOLE: totals}


def _holds(column: ColumnSpec) -> Literal["text", "boolean", "number", "other"]:
    word = column.type.partition("(")[0]
    if word in ("text", "varchar"):
        return "text"
    if word == "boolean":
        return "boolean"
    return "number" if word in ("smallint", "integer", "bigint", "decimal", "double") else "other"


# ------------------------------------------------------------------------------------------------------ views


@dataclass(frozen=True)
class ViewTruth:
    """What a dated view shows of the records of its dataset.

    Attributes:
        dataset: The pipeline that loads the dataset.
        shows: Whether a record belongs to a month.
        amount: A column in pounds and the field in pence that it is made of, if there is one.
    """

    dataset: str
    shows: Callable[[Mapping[str, Any], date], bool]
    amount: tuple[str, str] | None = None


def _in_month(moment: str | None, month: date) -> bool:
    return moment is not None and moment.startswith(f"{month:%Y-%m}")


def _is_completed(order: Mapping[str, Any], month: date) -> bool:
    return order["status"] == "complete" and _in_month(order["completed_on"], month)


def _is_cancelled(order: Mapping[str, Any], month: date) -> bool:
    begins = date(month.year - (month.month < 4), 4, 1)
    return order["status"] == "cancelled" and (order["cancelled_on"] or "") >= begins.isoformat()


VIEWS: Final = {
    "cancelled_omis_orders": ViewTruth("omis_dataset", _is_cancelled, ("Net Price", "subtotal_cost")),
    "completed_omis_orders": ViewTruth("omis_dataset", _is_completed, ("Subtotal", "invoice__subtotal_cost")),
    "omis_client_survey": ViewTruth("omis_dataset", _is_completed),
    "investment_projects": ViewTruth(
        "investment_projects_dataset", lambda project, month: _in_month(project["created_on"], month)
    ),
}


def view_must(truth: ViewTruth, documents: Sequence[Mapping[str, Any]], months: Iterable[str]) -> ByPartition:
    """What the months of a view must come to."""
    must = {}
    for key in months:
        shown = [each for each in documents if truth.shows(each, date.fromisoformat(key))]
        must[key] = {"rows": len(shown)}
        if truth.amount is not None:
            must[key]["pence"] = sum(int(each[truth.amount[1]] or 0) for each in shown)
    return must


async def view_found(connection: asyncpg.Connection, spec: DatedViewSpec, truth: ViewTruth) -> ByPartition:
    """What the months of a view come to, as the view over all of them shows it."""
    view = spec.dated.name
    if not await _exists(connection, view):
        return {}
    names = truth.amount[:1] if truth.amount else ()
    rows = await connection.fetch(statement("demo/view_totals.sql", view=view, names=names))
    return {row["period"]: {"rows": row["total"], "pence": row["pence"]} for row in rows}


# ------------------------------------------------------------------------------------------------------- taxi


async def taxi_must(connection: asyncpg.Connection, sources: Sources, partitions: Iterable[str]) -> ByPartition:
    """What every table of trips must come to in some partitions; of a file that is not there, nothing."""
    if sources.trusted:
        truths = {key: sources.taxi(key) for key in partitions}
        return {
            key: _twice({"rows": truth["kept_rows"], "amount": Decimal(truth["kept_total_amount"])})
            for key, truth in truths.items()
            if truth["is_there"]
        }
    rows = await connection.fetch(statement("demo/landed_rows.sql"), "trips_landing.rides")
    return {row["partition"]: _twice({"rows": row["data"]}) for row in rows}


async def rides_found(connection: asyncpg.Connection, copy: Path) -> ByPartition:
    """What the trips come to, and beside them their copy in DuckDB."""
    found = await _trips(connection, "rides")
    if copy.exists():
        import duckdb  # takes a tenth of a second

        with duckdb.connect(copy, read_only=True) as analysis:
            _join(found, analysis.execute(statement("demo/taxi/rides.sql")).fetchall())
    return found


async def revenue_found(connection: asyncpg.Connection) -> ByPartition:
    """What the revenue by zone comes to, and beside it the trips with names that it is made of."""
    found = await _trips(connection, "monthly_revenue")
    named = await _trips(connection, "named_rides")
    _join(found, ((key, totals["rows"], totals["amount"]) for key, totals in named.items()))
    return found


async def _trips(connection: asyncpg.Connection, table: str) -> ByPartition:
    if not await _exists(connection, TableName("trips", table)):
        return {}
    rows = await connection.fetch(statement(f"demo/taxi/{table}.sql"))
    return {row["partition"]: {"rows": row["total"], "amount": row["amount"]} for row in rows}


def _twice(totals: Totals) -> Totals:
    """Totals that two tables must have."""
    return {**totals, **{f"{name}{_BESIDE}": value for name, value in totals.items()}}


def _join(found: ByPartition, beside: Iterable[tuple[Any, ...]]) -> None:
    for key, rows, amount in beside:
        found.setdefault(key, {"rows": 0}).update({f"rows{_BESIDE}": rows, f"amount{_BESIDE}": amount})


def lookup_must(table: str) -> ByPartition:
    """What the zones or the ways to pay must come to."""
    if table == "zones":
        return {WHOLE: dict(_ZONES)}
    with (_DEFS / "taxi" / table / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return {WHOLE: {"rows": sum(1 for _ in csv.DictReader(file))}}


async def lookup_found(connection: asyncpg.Connection, table: str) -> ByPartition:
    """What the zones or the ways to pay come to."""
    if not await _exists(connection, TableName("trips", table)):
        return {}
    row = await connection.fetchrow(statement(f"demo/taxi/{table}.sql"))
    return {WHOLE: {"rows": row["total"], "zones called NA": row.get("called_na")}}


async def _exists(connection: asyncpg.Connection, name: TableName) -> bool:
    return bool(await connection.fetchval(statement("demo/exists.sql"), str(name)))
