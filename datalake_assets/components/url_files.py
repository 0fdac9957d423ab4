"""Files by address, one for each kind and month, as a declared pipeline: landing, table, and a copy for analysis.

`build_url_files` makes definitions of a declaration and does nothing else; the component reads the declaration from
`defs.yaml`. How files are read, judged and landed is in `lake/`, how they are fetched in `sources/url_files.py`.
"""

import asyncio
import codecs
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from datetime import date, datetime
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Literal, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, model_validator

from datalake_assets.assets.layers import ONE_RETRY, is_last_attempt
from datalake_assets.assets.reporting import account, reported_failures
from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.components.scheduling import Schedule, build_trigger, job_name, refuse_once
from datalake_assets.components.yaml_component import (
    Owner,
    TypeWords,
    YamlComponent,
    YamlScaffolder,
    refuse_column_name,
    refuse_source_key,
    source_spec,
)
from datalake_assets.entities import SENSITIVE_KEYS
from datalake_assets.keys import TableName
from datalake_assets.lake import files
from datalake_assets.lake.analysis_copy import replace_copy
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.file_checks import FileTolerances, Verdict, refuse, use_permission
from datalake_assets.lake.file_landing import (
    Dimension,
    Fetch,
    FileLanding,
    FilePiece,
    FileSnapshot,
    local_file,
)
from datalake_assets.lake.files import FileColumn
from datalake_assets.lake.guards import GUARDED_BY
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.partition_replace import PartitionedTable, declared_table, ensure_table, replace_partition
from datalake_assets.lake.row_rules import Rule, RuleError
from datalake_assets.lake.slices import LoadError
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.sources.policies import URL_FILE
from datalake_assets.sources.url_files import FetchedFile, fetched
from datalake_assets.sources.validators import NotModified, Validators
from datalake_assets.statements import statement

_NAME: Final = r"^[a-z_][a-z0-9_]{0,62}$"
_RESOURCE: Final = r"^[a-z][a-z0-9_]*$"
_MONTH: Final = r"^\d{4}-(0[1-9]|1[0-2])$"
_VALUE: Final = r"\w[\w.-]*"
_RESERVED: Final = frozenset({"line", "outcome", "rule", "reason", "document", "verdict"})
DUCKDB_POOL: Final = "duckdb"
"""DuckDB has one writer at a time; `dagster.yaml` gives a pool one slot."""

Names = str | tuple[str, ...]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FileSource(_Model):
    """Where the files come from."""

    resource: Annotated[
        str | None,
        Field(pattern=_RESOURCE, description="Name of the source: address and logon are `SOURCE_<NAME>_…`."),
    ] = None
    path: Annotated[
        str | None,
        Field(
            pattern=r"^/",
            description="Path of a file, appended to the address, with `{dimension}` or `{month:%Y-%m}` in it.",
            examples=["/{color}/{color}_tripdata_{month:%Y-%m}.csv.gz"],
        ),
    ] = None
    file: Annotated[str | None, Field(description="Instead of both: a file beside this declaration.")] = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.file is None) == (self.resource is None) or (self.resource is None) != (self.path is None):
            raise ValueError("say where the files are: either `resource` and `path`, or `file`")
        if self.file is not None and (self.file.startswith("/") or ".." in Path(self.file).parts):
            raise ValueError("`file` is the name of a file beside this declaration, or in a folder there")
        return self

    @property
    def template(self) -> str:
        """The path or the name of the file, with dimensions in it."""
        return (self.path or self.file or "").removeprefix("/")


class FileTarget(_Model):
    """The table that the rows fill."""

    schema_: Annotated[str, Field(alias="schema", pattern=_NAME, description="Schema of the table.")]
    table: Annotated[str, Field(pattern=_NAME, description="Name of the table.")]
    duckdb: Annotated[bool, Field(description="Whether DuckDB gets a copy for analysis.")] = False


class FileDimension(_Model):
    """One value by which files are told apart: a kind, or a month."""

    name: Annotated[
        str, Field(pattern=_NAME, description="Column of the table, dimension of the partitions, word in `path`.")
    ]
    values: Annotated[tuple[str, ...] | None, Field(min_length=1, description="The kinds of files.")] = None
    start: Annotated[str | None, Field(pattern=_MONTH, description="Of months: the first one, e.g. 2019-01.")] = None
    end: Annotated[str | None, Field(pattern=_MONTH, description="Of months: the first one that is no more.")] = None
    lag_months: Annotated[int, Field(ge=0, le=24, description="Of months: how much later their files appear.")] = 0

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.values is None) == (self.start is None):
            raise ValueError(f"{self.name} needs either `values`, for kinds, or `start`, for months")
        if self.values is not None and len(set(self.values)) != len(self.values):
            raise ValueError(f"{self.name} names a value twice")
        if wrong := [value for value in self.values or () if not re.fullmatch(_VALUE, value)]:
            raise ValueError(f"{wrong[0]!r} cannot be a value of {self.name}: use letters, digits, `_`, `-` and `.`")
        if self.name in _RESERVED:
            raise ValueError(f"{self.name} is a column of every snapshot: name the dimension otherwise")
        if self.values is not None and (self.end is not None or self.lag_months):
            raise ValueError(f"{self.name}: `end` and `lag_months` belong to months, which have a `start`")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"{self.name} ends in {self.end}, and begins no earlier than in {self.start}")
        return self

    @property
    def is_month(self) -> bool:
        """Whether it is a month."""
        return self.start is not None

    @property
    def months(self) -> dg.MonthlyPartitionsDefinition:
        """Those that have ended and whose files should have appeared."""
        return dg.MonthlyPartitionsDefinition(
            start_date=f"{self.start}-01",
            end_date=f"{self.end}-01" if self.end else None,
            timezone=CAMPUS_ZONE.key,
            end_offset=-self.lag_months,
        )

    @property
    def partitions(self) -> dg.PartitionsDefinition[str]:
        """What Dagster makes of it."""
        return self.months if self.values is None else dg.StaticPartitionsDefinition(list(self.values))


class FileFormat(_Model):
    """How the files are written."""

    type: Annotated[
        Literal["csv", "parquet"], Field(description="A CSV file may be gzipped, which its first bytes say.")
    ] = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="Between the values of a CSV file.")] = ","
    quote: Annotated[str, Field(min_length=1, max_length=1, description="Around values that hold the delimiter.")] = '"'
    encoding: Annotated[str, Field(description="Of a CSV file.")] = "utf-8"
    null_values: Annotated[
        tuple[str, ...], Field(description="Texts that stand for nothing; quoted ones only where no text is meant.")
    ] = ("",)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(f"there is no encoding {self.encoding!r}: use a name such as utf-8 or latin-1") from None
        if self.delimiter == self.quote or {self.delimiter, self.quote} & {"\r", "\n"}:
            raise ValueError("`delimiter` and `quote` are two characters, neither of which ends a line")
        return self


class FileColumnSpec(_Model):
    """One column: what the files call it, and what it is in the table."""

    from_: Annotated[
        Names | dict[str, Names],
        Field(
            alias="from",
            description="What the files call it: a name; a list, of which the first that is there counts; or a mapping "
            "from kind of file to either, which leaves out kinds without the column.",
        ),
    ]
    to: Annotated[str | None, Field(pattern=_NAME, description="Its name in the table, if it is another one.")] = None
    type: TypeWords
    required: Annotated[bool, Field(description="A row without a value is quarantined.")] = False
    description: Annotated[str, Field(description="What it holds.")] = ""

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if not self.from_:
            raise ValueError("`from` names no column")
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"{self.name or 'the column'!r} cannot be its name in the table: add `to`")
        if self.name in _RESERVED:
            raise ValueError(f"{self.name} is a column of every snapshot: name yours otherwise with `to`")
        refuse_column_name(self.name)
        names = self.from_.values() if isinstance(self.from_, dict) else [self.from_]
        if sensitive := sorted(name for each in names for name in _listed(each) if name.lower() in SENSITIVE_KEYS):
            raise ValueError(f"{', '.join(sensitive)} is never kept: leave the column out")
        return self

    @property
    def name(self) -> str:
        """The column."""
        return self.to or (self.from_ if isinstance(self.from_, str) else "")

    @property
    def column(self) -> Column:
        """The column as the lake knows it."""
        return Column(self.name, self.name, parse_type(self.type), required=self.required, description=self.description)

    def of(self, kind: str | None) -> FileColumn:
        """The column in files of a kind."""
        if not isinstance(self.from_, dict):
            return FileColumn(self.column, _listed(self.from_))
        elsewhere = {name: other for other, names in self.from_.items() if other != kind for name in _listed(names)}
        return FileColumn(self.column, _listed(self.from_.get(kind or "", ())), elsewhere)


class FileRule(_Model):
    """What becomes of rows; each rule sees what the ones before it have left."""

    name: Annotated[str, Field(pattern=_NAME, description="Counted and quarantined under this word.")]
    where: Annotated[str, Field(min_length=1, description="Condition in DuckDB's SQL, over columns and dimensions.")]
    do: Annotated[
        Literal["drop", "quarantine", "set"], Field(description="What becomes of the rows for which it holds.")
    ]
    set: Annotated[dict[str, str], Field(description="With `do: set`: columns and the expressions that they get.")] = {}

    @model_validator(mode="after")
    def _sets_if_it_says_so(self) -> Self:
        if (self.do == "set") != bool(self.set):
            raise ValueError(f"rule {self.name}: `set` belongs to `do: set`, and `do: set` needs it")
        return self


class FileChecks(_Model):
    """What must hold before a partition is replaced."""

    min_rows: Annotated[int, Field(ge=0, description="Fewest good rows of a file; 0 allows an empty one.")] = 1
    row_change_ratio: Annotated[
        float | None,
        Field(gt=0, description="How far the number of good rows may move from that of the load before, as a share."),
    ] = 0.5
    max_quarantined_share: Annotated[
        float, Field(ge=0, lt=1, description="Largest share of rows that may be quarantined.")
    ] = 0.05


class UrlFilesSpec(_Model):
    """Attributes of `UrlFiles`."""

    source: Annotated[FileSource, Field(description="Where the files come from.")]
    target: Annotated[FileTarget, Field(description="The table that they fill.")]
    partitions: Annotated[
        tuple[FileDimension, ...], Field(max_length=2, description="None: one file, which is the whole table.")
    ] = ()
    format: Annotated[FileFormat, Field(description="How the files are written.")] = FileFormat()
    columns: Annotated[tuple[FileColumnSpec, ...], Field(min_length=1, description="Columns of the table.")]
    extra_columns: Annotated[
        Literal["ignore", "warn", "fail"], Field(description="What a column that is not declared means.")
    ] = "warn"
    rules: Annotated[tuple[FileRule, ...], Field(description="What becomes of rows.")] = ()
    checks: Annotated[FileChecks, Field(description="What must hold before a partition is replaced.")] = FileChecks()
    schedule: Annotated[
        Schedule | None, Field(description="When the latest month of every kind is loaded; a word or cron expression.")
    ] = None
    pool: Annotated[
        str | None,
        Field(
            pattern=r"^\S+$",
            description="Pool that limits how many files are fetched at once; the name of the source if left out.",
        ),
    ] = None
    description: Annotated[str, Field(description="What a row is.")] = ""
    owner: Owner = "team:data-engineering"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        dimensions = [dimension.name for dimension in self.partitions]
        if len([each for each in self.partitions if each.is_month]) > 1 or len(set(dimensions)) != len(dimensions):
            raise ValueError("partitions are kinds, months, or both, each with a name of its own")
        names = [*dimensions, *(column.name for column in self.columns)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"column {', '.join(twice)} is declared twice")
        kinds = {kind for each in self.partitions for kind in each.values or ()}
        for column in self.columns:
            if isinstance(column.from_, dict) and not set(column.from_) <= kinds:
                raise ValueError(f"column {column.name}: the kinds of files are {', '.join(sorted(kinds)) or 'none'}")
            if isinstance(column.from_, dict) and column.required and set(column.from_) != kinds:
                raise ValueError(f"column {column.name} is required, but not every kind of file has it")
        for rule in self.rules:
            if unknown := sorted(set(rule.set) - {column.name for column in self.columns}):
                raise ValueError(f"rule {rule.name} sets {', '.join(unknown)}, which is no column")
        if len({rule.name for rule in self.rules}) != len(self.rules):
            raise ValueError("two rules have the same name")
        for rule in self.rules:
            try:
                Rule(**rule.model_dump()).refuse_flaws(names)
            except RuleError as error:
                raise ValueError(str(error)) from None
        if dimensions:
            refuse_once(self.schedule)
        if self.origin is not None:
            refuse_source_key(self.origin, [self.name, self.landing, self.copy_name])
        self._check_template(set(dimensions))
        return self

    def _check_template(self, dimensions: set[str]) -> None:
        asked = {name for _, name, _, _ in Formatter().parse(self.source.template) if name is not None}
        if unknown := sorted(asked - dimensions):
            raise ValueError(f"the path asks for {', '.join(unknown)}, which is no dimension")
        if missing := sorted(dimensions - asked):
            raise ValueError(f"the path does not name {', '.join(missing)}, so that files would be mistaken")
        # Months of the same year, and the same month of two years, are told apart by a path that names both.
        months = [date(2000 + number // 12, number % 12 + 1, 1) for number in range(24)]
        choices = [[*(each.values or ())] or months for each in self.partitions]
        names = [each.name for each in self.partitions]
        try:
            paths = [
                self.source.template.format(**dict(zip(names, values, strict=True))) for values in product(*choices)
            ]
        except (ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"the path cannot be filled in: {error}") from None
        if len(set(paths)) != len(paths):
            raise ValueError("the path is the same for two partitions: name a month by `{month:%Y-%m}`")

    # ----------------------------------------------------------------------------------------- what follows

    @property
    def name(self) -> TableName:
        """The table."""
        return TableName(self.target.schema_, self.target.table)

    @property
    def origin(self) -> list[str] | None:
        """The files as an asset of their source; None if they stand beside the declaration."""
        return None if self.source.resource is None else [self.source.resource, self.target.table]

    @property
    def landing(self) -> TableName:
        """Dataset of the snapshots."""
        return TableName(f"{self.name.schema}_landing", self.name.table)

    @property
    def copy_name(self) -> TableName:
        """The copy in DuckDB, as an asset."""
        return TableName(f"{self.name.schema}_duckdb", self.name.table)

    @property
    def partitions_def(self) -> dg.PartitionsDefinition[str] | None:
        """What Dagster makes of the dimensions."""
        if not self.partitions:
            return None
        if len(self.partitions) == 1:
            return self.partitions[0].partitions
        return dg.MultiPartitionsDefinition({each.name: each.partitions for each in self.partitions})

    @property
    def declared(self) -> list[Column]:
        """The columns without what files call them."""
        return [each.column for each in self.columns]

    @property
    def lake_table(self) -> PartitionedTable:
        """The table in PostgreSQL."""
        dimensions = [(each.name, "date" if each.is_month else "text") for each in self.partitions]
        return declared_table(self.name, dimensions, self.declared)

    @property
    def code_version(self) -> str:
        """Hash of the declaration."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=6).hexdigest()

    def latest(self, moment: datetime) -> list[str]:
        """Partition keys of the latest month whose files should be there at a moment, one for each kind."""
        choices: dict[str, list[str]] = {}
        for each in self.partitions:
            if each.is_month:
                choices[each.name] = list(each.months.get_partition_keys(current_time=moment)[-1:])
            else:
                choices[each.name] = list(each.values or ())
        # Dagster writes the values of several dimensions in the order of the dimensions' names.
        return ["|".join(keys) for keys in product(*(choices[name] for name in sorted(choices)))]

    def piece(self, partition: str | None) -> FilePiece:
        """The file of a partition key, e.g. `green|2021-01-01`."""
        values = self._values(partition)
        kind = next((str(values[each.name]) for each in self.partitions if not each.is_month), None)
        return FilePiece(
            table=self.name,
            landing=self.landing,
            name=self.source.template.format(**values),
            key=partition or "",
            dimensions=tuple(Dimension(name, value) for name, value in values.items()),
            columns=tuple(each.of(kind) for each in self.columns),
            format=files.Format(**self.format.model_dump(exclude={"null_values"}), null=self.format.null_values),
            rules=tuple(Rule(**rule.model_dump()) for rule in self.rules),
        )

    def _values(self, partition: str | None) -> dict[str, str | date]:
        if not self.partitions:
            return {}
        texts = (partition or "").split("|")
        by_name = dict(zip(sorted(each.name for each in self.partitions), texts, strict=True))
        return {
            each.name: date.fromisoformat(by_name[each.name]) if each.is_month else by_name[each.name]
            for each in self.partitions
        }


def _listed(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


# -------------------------------------------------------------------------------------------------- builder


def build_url_files(spec: UrlFilesSpec, folder: Path, *, running: bool) -> dg.Definitions:
    """Make definitions of a declaration.

    Args:
        spec: What is declared.
        folder: Where files that stand beside the declaration are.
        running: Whether the schedule starts running.
    """
    assets: list[dg.AssetsDefinition] = [_landing_asset(spec, folder), _table_asset(spec)]
    if spec.target.duckdb:
        assets.append(_copy_asset(spec))
    job = dg.define_asset_job(
        name=job_name(spec.name, "load"),
        selection=dg.AssetSelection.assets(*assets),
        description=f"Loads {'one file' if spec.partitions else 'the file'} into {spec.name}.",
    )
    sources = [] if spec.origin is None else [source_spec(spec.origin)]
    made = dg.Definitions(assets=[*sources, *assets], jobs=[job])
    if spec.schedule is None:
        return made
    keys = (lambda _, moment: spec.latest(moment)) if spec.partitions else None
    trigger = build_trigger(name=job.name, job=job, schedule=spec.schedule, running=running, keys=keys)
    return dg.Definitions.merge(made, trigger)


# --------------------------------------------------------------------------------------------------- assets


def _landing_asset(spec: UrlFilesSpec, folder: Path) -> dg.AssetsDefinition:
    asset = dg.AssetKey(spec.landing.parts)
    specs = [
        dg.AssetCheckSpec("balance", asset=asset, description="Rows read = loaded + dropped + quarantined."),
        dg.AssetCheckSpec("min_rows", asset=asset, blocking=True, description="The file has enough good rows."),
        dg.AssetCheckSpec(
            "row_change_ratio", asset=asset, blocking=True, description="About as many good rows as at the load before."
        ),
        dg.AssetCheckSpec(
            "quarantined_share", asset=asset, blocking=True, description="Few enough rows are in quarantine."
        ),
        dg.AssetCheckSpec(
            "extra_columns",
            asset=asset,
            blocking=spec.extra_columns == "fail",
            description="The file has no column that is not declared.",
        ),
    ]

    @dg.multi_asset(
        name="__".join(spec.landing),
        specs=[
            _asset_spec(
                spec,
                spec.landing,
                {"parquet", spec.format.type},
                "landing",
                "One row per row of a file, whatever became of it, with its line.",
                {"dagster/column_schema": _schema(spec, line=True)},
                deps=[spec.origin] if spec.origin else [],
            )
        ],
        check_specs=specs,
        partitions_def=spec.partitions_def,
        retry_policy=ONE_RETRY,
        pool=spec.pool or spec.source.resource,
    )
    def landing(
        context: dg.AssetExecutionContext, lake: LakeResource, sources: SourcesResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with it Dagster expects no results of checks
        async def run() -> dg.MaterializeResult[Any]:
            piece = spec.piece(_partition(context))
            fetch = _beside(folder, piece) if spec.source.file else _from_source(spec, piece, sources)
            place = FileLanding(lake.snapshots, lake.ledger, lake.clock)
            async with lake.connect(context.run.run_id) as connection:
                landed = await place.land(connection, piece, context.run.run_id, fetch)
                snapshot = landed.snapshot
                verdicts = await _tolerances(spec).verdicts(connection, lake.ledger, snapshot)
            receipt = snapshot.receipt(context.run.run_id)
            context.log.info("%s %s", landed.note, account(receipt))
            told = snapshot.account
            return dg.MaterializeResult(
                metadata={
                    **receipt.metadata(),
                    "dagster/partition_row_count": snapshot.manifest.rows,
                    "lake/rows_dropped": told["dropped"],
                    "lake/blank_lines": told["blank_lines"],
                    "lake/rules": dict(told["by_rule"]),
                    "lake/note": landed.note,
                    "lake/file_sha256": told["file_sha256"],
                    "lake/snapshot_sha256": snapshot.manifest.sha256,
                    "dagster/uri": place.uri(snapshot),
                },
                check_results=[_result(asset, verdict) for verdict in verdicts],
                data_version=dg.DataVersion(snapshot.manifest.sha256),
            )

        with reported_failures(last_attempt=is_last_attempt(context)):
            return asyncio.run(run())

    return landing


def _table_asset(spec: UrlFilesSpec) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="__".join(spec.name),
        specs=[
            _asset_spec(
                spec,
                spec.name,
                {"postgres"},
                "table",
                spec.description or "One row per good row of the files.",
                {
                    "dagster/column_schema": _schema(spec),
                    "dagster/table_name": str(spec.name),
                    "dagster/storage_kind": "postgres",
                },
                deps=[spec.landing.parts],
            )
        ],
        partitions_def=spec.partitions_def,
        retry_policy=ONE_RETRY,
    )
    def table(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        async def run() -> dg.MaterializeResult[Any]:
            piece = spec.piece(_partition(context))
            place = FileLanding(lake.snapshots, lake.ledger, lake.clock)
            snapshot = place.require(piece)
            async with lake.connect(context.run.run_id) as connection:
                verdicts = await _tolerances(spec).verdicts(connection, lake.ledger, snapshot)
                refuse(verdicts, piece.where)

                async def used(_: int) -> None:
                    await use_permission(connection, snapshot)

                await ensure_table(connection, spec.lake_table)
                receipt = await replace_partition(
                    connection,
                    lake.ledger,
                    spec.lake_table,
                    [dimension.value for dimension in piece.dimensions],
                    place.rows(snapshot),
                    Receipt(
                        asset=str(spec.name),
                        partition=piece.key,
                        run_id=context.run.run_id,
                        load_date=piece.load_date,
                        outcomes=snapshot.outcomes,
                        snapshot_sha256=snapshot.manifest.sha256,
                    ),
                    guard=used,
                )
                rows = await connection.fetchval(statement("files/row_count.sql"), str(spec.name))
            context.log.info("%s", account(receipt))
            return dg.MaterializeResult(
                metadata={
                    **receipt.metadata(),
                    "dagster/row_count": rows,
                    "dagster/partition_row_count": receipt.rows_new,
                    "lake/snapshot_sha256": snapshot.manifest.sha256,
                },
                data_version=dg.DataVersion(snapshot.manifest.sha256),
            )

        with reported_failures(last_attempt=is_last_attempt(context)):
            return asyncio.run(run())

    return table


def _copy_asset(spec: UrlFilesSpec) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="__".join(spec.copy_name),
        specs=[
            _asset_spec(
                spec,
                spec.copy_name,
                {"duckdb"},
                "copy",
                f"One row per row of {spec.name}, for analysis in DuckDB, where the table has the same name.",
                {"dagster/column_schema": _schema(spec), "dagster/storage_kind": "duckdb"},
                deps=[spec.landing.parts, spec.name.parts],
            )
        ],
        partitions_def=spec.partitions_def,
        retry_policy=ONE_RETRY,
        pool=DUCKDB_POOL,
    )
    def copy(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult[Any]:
        with reported_failures(last_attempt=is_last_attempt(context)):
            piece = spec.piece(_partition(context))
            place = FileLanding(lake.snapshots, lake.ledger, lake.clock)
            snapshot = place.require(piece)
            values = [dimension.value for dimension in piece.dimensions]
            asyncio.run(_refuse_unless_shown(lake, snapshot, context.run.run_id))
            with _analysis(lake.settings.duckdb_file) as connection:
                done = replace_copy(connection, spec.lake_table, values, place.rows(snapshot))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": done.table_rows,
                "dagster/partition_row_count": done.partition_rows,
                "lake/snapshot_sha256": snapshot.manifest.sha256,
                "dagster/uri": str(lake.settings.duckdb_file),
            },
            data_version=dg.DataVersion(snapshot.manifest.sha256),
        )

    return copy


def _asset_spec(
    spec: UrlFilesSpec,
    name: TableName,
    kinds: set[str],
    layer: str,
    description: str,
    metadata: Mapping[str, Any],
    deps: Sequence[list[str]],
) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=name.parts,
        deps=deps,
        tags={"lake/layer": layer, **({GUARDED_BY: "partition"} if name == spec.name else {})},
        group_name=spec.name.schema,
        kinds=kinds,
        owners=[spec.owner],
        description=description,
        metadata=metadata,
        code_version=spec.code_version,
    )


def _schema(spec: UrlFilesSpec, *, line: bool = False) -> dg.TableSchema:
    described = {column.name: column.description or None for column in spec.declared}
    columns = [
        dg.TableColumn(
            each.name,
            each.sql,
            description=described.get(each.name),
            constraints=dg.TableColumnConstraints(nullable=each.nullable),
        )
        for each in spec.lake_table.columns
    ]
    if line:
        columns.insert(0, dg.TableColumn("line", "bigint", description="Line of the row in its file."))
    return dg.TableSchema(columns=columns)


def _beside(folder: Path, piece: FilePiece) -> Fetch:
    if not (folder / piece.name).is_file():
        raise LoadError(
            f"There is no file {piece.name} beside the declaration.",
            where=piece.where,
            todo="Put it there, or correct `file`, and materialise again.",
        )
    return local_file(folder / piece.name)


def _from_source(spec: UrlFilesSpec, piece: FilePiece, sources: SourcesResource) -> Fetch:
    @asynccontextmanager
    async def fetch(unless: Validators | None) -> AsyncIterator[FetchedFile | NotModified]:
        source = sources.named(str(spec.source.resource), URL_FILE)
        async with source, fetched(source, f"/{piece.name}", unless=unless) as found:
            yield found

    return fetch


async def _refuse_unless_shown(lake: LakeResource, snapshot: FileSnapshot, run_id: str) -> None:
    """Make sure that the copy gets what the table shows, and not what was kept out of it."""
    piece = snapshot.piece
    async with lake.connect(run_id) as connection:
        last = await connection.fetchrow(statement("files/rows_before.sql"), str(piece.table), piece.key)
    if last is None or last["snapshot_sha256"] != snapshot.manifest.sha256:
        raise LoadError(
            "The table does not show the file that was landed last.",
            where=piece.where,
            todo=f"Materialise {piece.table} first.",
        )


@contextmanager
def _analysis(file: Path) -> Iterator[Any]:
    import duckdb
    from dagster_duckdb import DuckDBResource  # takes a tenth of a second, which definitions need not wait for

    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(DuckDBResource(database=str(file)).get_connection())
        except duckdb.IOException:
            raise LoadError(
                "The DuckDB file cannot be opened for writing: another process has it open, or it is no such file.",
                where=str(file),
                todo="Close it where it is open, then materialise the copy again.",
            ) from None
        yield stack.enter_context(closing(connection))


def _partition(context: dg.AssetExecutionContext) -> str | None:
    return str(context.partition_key) if context.has_partition_key else None


def _tolerances(spec: UrlFilesSpec) -> FileTolerances:
    checks = spec.checks
    return FileTolerances(checks.min_rows, checks.row_change_ratio, spec.extra_columns, checks.max_quarantined_share)


def _result(asset: dg.AssetKey, verdict: Verdict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=verdict.check,
        asset_key=asset,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if verdict.blocks else dg.AssetCheckSeverity.WARN,
        description=verdict.summary,
        metadata=dict(verdict.numbers),
    )


# ------------------------------------------------------------------------------------------------ component


class UrlFilesScaffolder(YamlScaffolder):
    """One file a month with one column, to be filled in."""

    stub = """\
  source: {resource: nyc_tlc, path: "/NAME/{month:%Y-%m}.csv"}  # SOURCE_NYC_TLC_URL and so on, see .env.example
  target: {schema: files, table: NAME}
  partitions:
    - {name: month, start: 2024-01}
  columns:
    - {from: id, type: text, required: true}
  schedule: "@monthly"
"""


@dg.scaffold_with(UrlFilesScaffolder)
class UrlFiles(YamlComponent):
    """Files by address, one for each kind and month, into Parquet, PostgreSQL and, if wanted, DuckDB."""

    model = UrlFilesSpec
    folder = Path()

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """The component of a `defs.yaml`, which knows its folder: a file may stand there."""
        component = super().load(attributes, context)
        component.folder = context.path
        return component

    def build(self, *, running: bool) -> dg.Definitions:
        """Assets, checks, a job and a schedule."""
        return build_url_files(self.spec, self.folder, running=running)
