"""What becomes of the rows of a file by declared rules: dropped, quarantined, or a value set.

Conditions are written in the SQL of DuckDB and evaluated by it a batch at a time: it computes with decimals exactly,
needs no row in Python, and can be kept from files, network and settings. It is also what the analytical copy is read
with, so a condition can be tried there. What a rule may be called, and where it is declared, does not belong here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from datalake_assets.lake.declared import Column
from datalake_assets.lake.expressions import clock_in
from datalake_assets.lake.files import documents_of
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement

_DUCKDB_TYPES: Final = {"jsonb": "varchar", "numeric": "decimal(38, 18)"}


def duckdb_type(sql: str) -> str:
    """The type in DuckDB that holds every value of one in PostgreSQL; a decimal without digits has few there."""
    return _DUCKDB_TYPES.get(sql, sql)


class RuleError(LoadError):
    """A rule cannot be evaluated; nothing was loaded."""


@dataclass(frozen=True)
class Rule:
    """One rule; it sees what the rules before it have left.

    Attributes:
        name: Stable word, counted under it and kept with what it quarantines.
        where: Condition in SQL; a row for which it is null is left alone.
        do: What becomes of the rows for which it holds.
        set: Columns and the expressions that they get.
    """

    name: str
    where: str
    do: Literal["drop", "quarantine", "set"]
    set: Mapping[str, str] = field(default_factory=dict, hash=False)

    def refuse_flaws(self, names: Collection[str]) -> None:
        """Find what can be wrong with it without a row.

        Args:
            names: What it may read.

        Raises:
            RuleError: It is no condition, or reads what there is not, or a clock.
        """
        known = {name.lower() for name in names}
        for text in (self.where, *self.set.values()):
            parsed: Any
            try:
                (parsed,) = sqlglot.parse(f"select ({text}\n)", dialect="duckdb")
            except (SqlglotError, ValueError):
                raise RuleError("This is no SQL expression.", where=f"rule {self.name}: {text}") from None
            if (clock := clock_in(parsed)) is not None:
                raise RuleError(
                    f"{clock} is another one each time that the file is read.",
                    where=f"rule {self.name}",
                    todo="Use columns and dimensions: rows must be the same whenever they are loaded.",
                )
            unknown = sorted({found.name for found in parsed.find_all(exp.Column)} - _lambda_names(parsed))
            if missing := [name for name in unknown if name.lower() not in known]:
                raise RuleError(f"There is no column {', '.join(missing)}.", where=f"rule {self.name}")


def _lambda_names(parsed: Any) -> set[str]:
    return {name.name for found in parsed.find_all(exp.Lambda) for name in found.expressions}


class RowRules:
    """Rules ready to be applied to batches of one schema.

    Args:
        rules: In their order.
        columns: The declared columns.
        constants: Further names that conditions may use, with the values that they have in every row: the partition.

    Raises:
        RuleError: A rule is no condition of these columns.
    """

    def __init__(self, rules: Sequence[Rule], columns: Sequence[Column], constants: Mapping[str, pa.Scalar]) -> None:
        self._rules = rules
        self._constants = constants
        self._names = [column.name for column in columns]
        if not rules:
            return
        for rule in rules:
            rule.refuse_flaws([*self._names, *constants, "line"])
        import duckdb  # takes a tenth of a second, which definitions need not wait for

        self._failures = duckdb.Error
        self._database = duckdb.connect(config={"enable_external_access": "false", "threads": "1"})
        # Days of moments are those of UTC, not of the machine.
        self._database.execute("set TimeZone = 'UTC'; set lock_configuration = true")
        types = {column.name: duckdb_type(column.type.sql) for column in columns}
        self._query = statement("files/rules.sql", rules=rules, columns=[*self._names, *constants], types=types)
        fields = [pa.field("line", pa.int64()), *(column.field for column in columns)]
        try:
            self._evaluated(pa.RecordBatch.from_pylist([], pa.schema(fields)))
        except duckdb.Error as error:  # of a statement without rows, which quotes the rules alone
            raise RuleError(
                f"A rule is no condition of the declared columns: {str(error).splitlines()[0]}",
                where=", ".join(rule.name for rule in rules),
                todo="Correct the condition; its words are those of DuckDB, its names those of the columns.",
            ) from None

    def apply(self, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
        """Batches of `files.row_schema` after the rules, each with where a row is to be dropped.

        Rows that are refused already are not judged again.

        Raises:
            RuleError: A rule fails on a value.
        """
        for batch in batches:
            if self._rules and batch.num_rows:
                yield self._applied(batch)
            else:
                yield batch, pa.repeat(pa.scalar(False), batch.num_rows)

    def _applied(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array]:
        good = batch.column("rule").is_null()
        judged = self._judged(batch.select(["line", *self._names]))
        if not judged.column("line").equals(batch.column("line")):
            raise RuleError("The rules gave the rows in another order.", todo="Report it, with the declaration.")
        verdicts = pc.if_else(good, judged.column("verdict"), pa.scalar(None, pa.int32()))
        names = pa.array([rule.name for rule in self._rules], pa.string())
        told = pa.array([f"Rule {rule.name} keeps it out." for rule in self._rules], pa.string())
        drops = pa.array([rule.do == "drop" for rule in self._rules], pa.bool_())
        dropped = drops.take(verdicts).fill_null(False)
        quarantined = pc.and_(verdicts.is_valid(), pc.invert(dropped))
        documents = batch.column("document")
        if pc.any(quarantined).as_py():
            found = documents_of(batch.select(self._names), pc.indices_nonzero(quarantined).to_pylist())
            documents = pc.coalesce(documents, found)
        changed = {
            **{name: pc.if_else(good, judged.column(name), batch.column(name)) for name in self._names},
            "rule": pc.coalesce(batch.column("rule"), names.take(verdicts)),
            "reason": pc.coalesce(batch.column("reason"), told.take(verdicts)),
            "document": documents,
        }
        arrays = [changed.get(name, batch.column(name)) for name in batch.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema), dropped

    def _judged(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        try:
            return self._evaluated(rows)
        except self._failures as error:
            # What DuckDB says of a value that failed holds the value.
            raise RuleError(
                f"A rule failed on a value ({type(error).__name__}).",
                where=", ".join(rule.name for rule in self._rules),
                todo="Let conditions and expressions fit every value, e.g. by try_cast; try them in DuckDB.",
            ) from None

    def _evaluated(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        more = {name: pa.repeat(value, rows.num_rows) for name, value in self._constants.items()}
        more["verdict"] = pa.nulls(rows.num_rows, pa.int32())
        arrays: list[Any] = [*rows.columns, *more.values()]
        self._database.register("row_batch", pa.RecordBatch.from_arrays(arrays, [*rows.schema.names, *more]))
        table = self._database.sql(self._query).to_arrow_table()
        types = {
            "line": pa.int64(),
            "verdict": pa.int32(),
            **{name: rows.schema.field(name).type for name in self._names},
        }
        columns = {name: table.column(name).combine_chunks().cast(kind) for name, kind in types.items()}
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
