"""`ApiDataset`: a paginated API becomes tables, without code of its own.

The model says what can be declared and refuses nonsense; the builder makes assets, checks, a job and a schedule of it.
Fetching is in `sources/api_pages.py`, landing and loading in `lake/datasets.py`.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, model_validator

from datalake_assets.assets.layers import ONE_RETRY, is_last_attempt
from datalake_assets.assets.reporting import column_schema, observed_schema, preview, reported_failures
from datalake_assets.components.scheduling import Schedule, build_trigger, job_name
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
from datalake_assets.lake.ahead import Ahead
from datalake_assets.lake.datasets import (
    CHECKS,
    ChecksFailedError,
    Dataset,
    Extract,
    Finding,
    Limits,
    UnknownFields,
    land,
    landed,
    load,
    origin_of,
    version_of,
)
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.guards import GUARDED_BY
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.replacement import DeclaredTable, Loaded, Mode, is_loaded
from datalake_assets.lake.tables import Layer, Table, TableColumn
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.sources.api_pages import Paging, pages, unchanged
from datalake_assets.sources.validators import Validators
from datalake_assets.storage.parquet import Manifest

MAX_RUNTIME_S: Final = 6 * 3600
_UNCHANGED: Final = "Nothing was loaded: the tables show the latest snapshot already."
_IDENTIFIER: Final = r"^[a-z_][a-z0-9_]{0,62}$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ColumnSpec(_Model):
    """A column of a table, and the field that it is filled from."""

    from_: Annotated[
        str | tuple[str, ...],
        Field(alias="from", description="The field; a list of names leads into nested objects."),
    ]
    to: Annotated[
        str | None, Field(pattern=_IDENTIFIER, description="The column; the field's own name if left out.")
    ] = None
    type: TypeWords
    key: Annotated[bool, Field(description="Part of what no two rows have in common.")] = False
    required: Annotated[bool, Field(description="A row without a value is one that does not fit.")] = False
    optional: Annotated[bool, Field(description="Records may lack the field altogether.")] = False
    personal: Annotated[bool, Field(description="Holds personal data: masked in previews.")] = False
    description: Annotated[str, Field(description="What it holds.")] = ""

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if not self.path or not all(self.path):
            raise ValueError("`from` names no field")
        if sensitive := sorted(name for name in self.path if name.lower() in SENSITIVE_KEYS):
            raise ValueError(f"{', '.join(sensitive)} is never kept: it is removed before anything is written")
        refuse_column_name(self.name)
        return self

    @property
    def path(self) -> tuple[str, ...]:
        """Where the value is in a record."""
        return (self.from_,) if isinstance(self.from_, str) else self.from_

    @property
    def name(self) -> str:
        """The column."""
        return self.to or self.path[-1]

    @property
    def column(self) -> Column:
        """The column as the lake knows it."""
        return Column(
            name=self.name,
            source=".".join(self.path),
            type=parse_type(self.type),
            required=self.required,
            key=self.key,
            description=self.description,
            personal=self.personal,
        )


class PagingSpec(_Model):
    """How the API cuts its records into pages."""

    type: Annotated[
        Literal["next_link", "page_number", "offset", "cursor", "header_link", "single_page"],
        Field(description="How the next page is found."),
    ] = "next_link"
    results: Annotated[str, Field(description="The member that holds the records; empty: the body is the list.")] = (
        "results"
    )
    next: Annotated[str, Field(description="The member that names the next page (`next_link`, `cursor`).")] = "next"
    parameter: Annotated[
        str | None, Field(description="The parameter for it; `page`, `offset` or `cursor` if left out.")
    ] = None
    first: Annotated[int | None, Field(ge=0, description="The first page number (1 if left out) or offset (0).")] = None
    size_parameter: Annotated[str, Field(description="The parameter for the page size.")] = "page_size"
    size: Annotated[int | None, Field(gt=0, description="Records asked for in a page.")] = None
    max_pages: Annotated[int, Field(gt=0, description="More pages than these are refused.")] = 100_000
    https_next: Annotated[
        bool, Field(description="Read `http://` in links as `https://`, for a source behind a proxy that ends TLS.")
    ] = False

    @property
    def paging(self) -> Paging:
        """The same for the client."""
        return Paging(kind=self.type, **self.model_dump(exclude={"type"}))


class SourceSpec(_Model):
    """Where the records come from."""

    resource: Annotated[
        str, Field(pattern=_IDENTIFIER, description="Name of the source: address and logon are `SOURCE_<NAME>_…`.")
    ]
    path: Annotated[str, Field(pattern=r"^/", description="Path of the dataset, appended to the address.")]
    params: Annotated[Mapping[str, str], Field(description="Parameters of the first request.")] = {}
    paging: Annotated[PagingSpec, Field(description="How it is cut into pages.")] = PagingSpec()
    unchanged: Annotated[
        Literal["skip", "fetch"],
        Field(description="`skip`: what the source says is unchanged (ETag, Last-Modified) is not fetched again."),
    ] = "skip"


class TargetSpec(_Model):
    """The table that the records fill."""

    schema_: Annotated[str, Field(alias="schema", pattern=_IDENTIFIER, description="Schema of the tables.")]
    table: Annotated[str, Field(pattern=_IDENTIFIER, description="Name of the table.")]
    load: Annotated[
        Mode,
        Field(
            description="`replace`: the records are all there are; `append`: those of a day; `upsert`: each takes the "
            "place of an older one with its key."
        ),
    ] = "replace"
    indexes: Annotated[tuple[tuple[str, ...], ...], Field(description="Columns of further indexes.")] = ()
    readers: Annotated[tuple[str, ...], Field(description="Roles that may read the tables once they are made.")] = ()


class ChildSpec(_Model):
    """An array of objects in each record, as a table of its own: the record's key, `position`, and its columns."""

    array: Annotated[str, Field(min_length=1, description="The member that holds the array.")]
    table: Annotated[str, Field(pattern=_IDENTIFIER, description="The table.")]
    columns: Annotated[tuple[ColumnSpec, ...], Field(min_length=1, description="Columns, from the array's objects.")]
    indexes: Annotated[tuple[tuple[str, ...], ...], Field(description="Columns of further indexes.")] = ()


class ChecksSpec(_Model):
    """What must hold before the tables change."""

    min_rows: Annotated[int, Field(ge=0, description="Fewest records; 0 where an empty dataset is legal.")] = 1
    min_rows_ratio: Annotated[float, Field(ge=0, le=1, description="Smallest share of the rows before.")] = 0.9
    allow_all_null: Annotated[tuple[str, ...], Field(description="Columns that may be without any value.")] = ()
    max_quarantined_share: Annotated[
        float, Field(ge=0, lt=1, description="Largest share of rows that may be left out because a value does not fit.")
    ] = 0.0


class ApiDatasetSpec(_Model):
    """Attributes of an `ApiDataset`."""

    source: Annotated[SourceSpec, Field(description="Where the records come from.")]
    target: Annotated[TargetSpec, Field(description="The table that they fill.")]
    columns: Annotated[tuple[ColumnSpec, ...], Field(min_length=1, description="Columns of the table.")]
    children: Annotated[tuple[ChildSpec, ...], Field(description="Arrays that become tables of their own.")] = ()
    unknown_fields: Annotated[UnknownFields, Field(description="What a field that is not declared means.")] = "warn"
    checks: Annotated[ChecksSpec, Field(description="What must hold before the tables change.")] = ChecksSpec()
    schedule: Annotated[Schedule | None, Field(description="When it is loaded; a word or cron expression will do.")] = (
        None
    )
    description: Annotated[str, Field(description="What the dataset is.")] = ""
    owner: Owner = "team:data-engineering"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for place, columns, indexes in self._tables():
            names = [column.name for column in columns]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{place}: column {', '.join(twice)} is declared twice")
            if unknown := sorted({name for index in indexes for name in index} - set(names)):
                raise ValueError(f"{place}: an index names column {', '.join(unknown)}, which is not declared")
        key = [column.name for column in self.columns if column.key]
        if self.target.load == "upsert" and not key:
            raise ValueError("`load: upsert` needs a key: mark its columns with `key: true`")
        if self.children and not key:
            raise ValueError("children are found by the key of their record: mark its columns with `key: true`")
        if self.children and self.target.load == "upsert":
            raise ValueError("`load: upsert` takes no children: an element that is gone could not be told")
        known = {column.name for _, columns, _ in self._tables() for column in columns}
        if self.target.load != "replace" and "load_date" in known:
            raise ValueError(f"`load: {self.target.load}` adds a column load_date of its own; name yours otherwise")
        tables = [self.target.table, *(child.table for child in self.children)]
        if twice := sorted({table for table in tables if tables.count(table) > 1}):
            raise ValueError(f"table {', '.join(twice)} is declared twice: each array needs a table of its own")
        schemas = (self.target.schema_, f"{self.target.schema_}_landing")
        refuse_source_key(self.origin, [TableName(schema, table) for schema in schemas for table in tables])
        if unknown := sorted(set(self.checks.allow_all_null) - known):
            raise ValueError(f"`allow_all_null` names {', '.join(unknown)}, which is no column")
        return self

    def _tables(self) -> Iterator[tuple[str, Sequence[ColumnSpec], Sequence[tuple[str, ...]]]]:
        yield self.target.table, self.columns, self.target.indexes
        for child in self.children:
            clash = {"position", *(column.name for column in self.columns if column.key)}
            if taken := sorted(clash & {column.name for column in child.columns}):
                raise ValueError(
                    f"{child.table}: column {', '.join(taken)} comes from the record; name yours otherwise"
                )
            yield child.table, child.columns, child.indexes

    @property
    def name(self) -> str:
        """What the pipeline is called."""
        return self.target.table

    @property
    def origin(self) -> list[str]:
        """What is read, as an asset of its source."""
        return [self.source.resource, self.source.path.strip("/").rpartition("/")[2] or self.name]

    @property
    def dataset(self) -> Dataset:
        """The same as the lake knows it."""
        key = [column for column in self.columns if column.key]
        position = Column("position", "", parse_type("integer"), key=True, description="Place in the array, from 0.")
        arrays = frozenset(child.array for child in self.children)
        extracts = [
            Extract(
                table=self._table(self.target.table, tuple(each.column for each in self.columns), self.target.indexes),
                sources={column.name: column.path for column in self.columns},
                optional=frozenset(column.name for column in self.columns if column.optional),
                unknown_fields=self.unknown_fields,
                arrays=arrays,
            )
        ]
        for child in self.children:
            columns = (*(each.column for each in key), position, *(each.column for each in child.columns))
            paths = {column.name: column.path for column in (*key, *child.columns)}
            extracts.append(
                Extract(
                    table=self._table(child.table, columns, child.indexes),
                    sources={**paths, position.name: ()},
                    array=child.array,
                    parent=frozenset(column.name for column in key),
                    optional=frozenset(column.name for column in child.columns if column.optional),
                    unknown_fields=self.unknown_fields,
                )
            )
        return Dataset(
            name=self.name,
            landing=TableName(f"{self.target.schema_}_landing", self.target.table),
            extracts=tuple(extracts),
            mode=self.target.load,
            limits=Limits(
                min_rows=self.checks.min_rows,
                min_rows_ratio=self.checks.min_rows_ratio,
                allow_all_null=frozenset(self.checks.allow_all_null),
                max_quarantined_share=self.checks.max_quarantined_share,
            ),
            definition=self.definition,
        )

    @property
    def definition(self) -> str:
        """Digest of all that the rows depend on: a changed one loads the same snapshot anew."""
        text = self.model_dump_json(exclude={"schedule", "description", "owner"})
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _table(self, name: str, columns: tuple[Column, ...], indexes: tuple[tuple[str, ...], ...]) -> DeclaredTable:
        return DeclaredTable(
            name=TableName(self.target.schema_, name),
            columns=columns,
            indexes=indexes,
            comment=self.description,
            readers=self.target.readers,
        )


# ---------------------------------------------------------------------------------------------------- builder


def build_api_dataset(spec: ApiDatasetSpec, *, running: bool) -> dg.Definitions:
    """Assets, checks, a job and a schedule of an API dataset.

    Args:
        spec: What is declared.
        running: Whether the schedule starts running.
    """
    dataset = spec.dataset
    origin = spec.origin
    common: dict[str, Any] = {"group_name": spec.name, "owners": [spec.owner]}
    source = source_spec(origin)
    landing_spec = dg.AssetSpec(
        key=dataset.landing.parts,
        deps=[origin],
        kinds={"parquet", "json"},
        tags={"lake/layer": "landing"},
        description=f"One row per record that {spec.source.resource} sent, page and position.\n\n{spec.description}",
        metadata={"dagster/storage_kind": "parquet"},
        **common,
    )

    @dg.multi_asset(
        name="__".join(dataset.landing), specs=[landing_spec], retry_policy=ONE_RETRY, pool=spec.source.resource
    )
    def landing(
        context: dg.AssetExecutionContext, lake: LakeResource, sources: SourcesResource
    ) -> dg.MaterializeResult[Any]:
        with reported_failures(last_attempt=is_last_attempt(context)):
            manifest, note = asyncio.run(_land(spec, dataset, lake, sources, context.run.run_id))
        told = manifest.account
        context.log.info("%s: %s records in %s pages. %s", dataset.landing, manifest.rows, len(told["pages"]), note)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": manifest.rows,
                "lake/pages": len(told["pages"]),
                "lake/requests": told["requests"],
                "lake/retries": told["retries"],
                "lake/bytes_in": told["bytes_in"],
                "lake/duration_s": told["duration_s"],
                "lake/note": note,
                "lake/snapshot_sha256": manifest.sha256,
                "dagster/uri": lake.snapshots.data_uri(manifest),
            },
            data_version=dg.DataVersion(manifest.sha256),
        )

    shown = [_shown(extract.table) for extract in dataset.extracts]

    @dg.multi_asset(
        name="__".join(dataset.tables[0].name),
        specs=[
            dg.AssetSpec(
                key=extract.table.name.parts,
                deps=[dataset.landing.parts],
                kinds={"postgres", "table"},
                tags={"lake/layer": "table", **_guard(dataset, extract)},
                description=_description(spec, extract),
                code_version=dataset.definition,
                metadata={
                    "dagster/table_name": str(extract.table.name),
                    "dagster/storage_kind": "postgres",
                    "dagster/column_schema": column_schema(table),
                    "dagster/column_lineage": _lineage(dataset, extract),
                },
                **common,
            )
            for extract, table in zip(dataset.extracts, shown, strict=True)
        ],
        check_specs=[
            dg.AssetCheckSpec(
                name=name,
                asset=extract.table.name.parts,
                blocking=name != "no_field_is_unknown" or spec.unknown_fields == "fail",
                description=CHECKS[name],
            )
            for place, extract in enumerate(dataset.extracts)
            for name in _checks(extract, is_first=place == 0)
        ],
        retry_policy=ONE_RETRY,
    )
    def tables(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[Any]:
        async def run() -> tuple[Loaded, list[Finding], list[dict[str, Any]]]:
            async with lake.connect(context.run.run_id) as connection:
                loaded, found = await load(connection, lake.snapshots, lake.ledger, dataset, run_id=context.run.run_id)
                seen = [
                    {
                        "dagster/column_schema": await observed_schema(connection, table),
                        "preview": await preview(connection, table, "declared/preview.sql"),
                    }
                    for table in shown
                ]
                return loaded, found, seen

        with reported_failures(last_attempt=is_last_attempt(context)):
            try:
                loaded, found, seen = asyncio.run(run())
            except ChecksFailedError as error:
                yield from (_result(finding) for finding in error.findings)
                raise
        if not loaded.changed:
            context.log.info("%s", _UNCHANGED)
            found = [
                Finding(name, extract.table.name, True, _UNCHANGED)
                for place, extract in enumerate(dataset.extracts)
                for name in _checks(extract, is_first=place == 0)
            ]
        receipts = dict(zip((table.name for table in dataset.tables), loaded.receipts, strict=False))
        for table, metadata_seen in zip(dataset.tables, seen, strict=True):
            receipt = receipts.get(table.name)
            numbers: dict[str, Any] = {} if receipt is None else receipt.metadata()
            yield dg.MaterializeResult(
                asset_key=table.name.parts,
                metadata={
                    **numbers,
                    "dagster/row_count": loaded.rows[table.name],
                    "lake/changed": loaded.changed,
                    **metadata_seen,
                },
                check_results=[_result(finding) for finding in found if finding.table == table.name],
            )

    job = dg.define_asset_job(
        name=job_name(dataset.tables[0].name, "load"),
        selection=dg.AssetSelection.assets(dataset.landing.parts, *(table.name.parts for table in dataset.tables)),
        executor_def=dg.in_process_executor,
        tags={dg.MAX_RUNTIME_SECONDS_TAG: str(MAX_RUNTIME_S)},
        description=f"Lands {spec.source.path} and loads its tables, with every check.",
    )
    definitions = dg.Definitions(assets=[source, landing, tables], jobs=[job])
    if spec.schedule is None:
        return definitions
    trigger = build_trigger(name=job.name, job=job, schedule=spec.schedule, running=running)
    return dg.Definitions.merge(definitions, trigger)


async def _land(
    spec: ApiDatasetSpec, dataset: Dataset, lake: LakeResource, sources: SourcesResource, run_id: str
) -> tuple[Manifest, str]:
    paging, path, params = spec.source.paging.paging, spec.source.path, dict(spec.source.params)
    known = landed(lake.snapshots, dataset.landing)[-1:]
    async with sources.named(spec.source.resource) as source, lake.connect(run_id) as connection:
        version = version_of(known[0]) if known and spec.source.unchanged == "skip" else Validators()
        # What was landed but refused may have been mended since, by a source that does not tell so.
        if (
            version
            and await is_loaded(connection, dataset.tables, origin_of(dataset, known[0]), dataset.mode)
            and await unchanged(source, path, paging, version, params=params)
        ):
            return known[0], "The source says that nothing has changed; nothing was fetched."
        async with (
            Ahead(dataset, paging, lambda: lake.connect(run_id)) as ahead,
            aclosing(pages(source, path, paging, params=params, elsewhere=ahead.read)) as stream,
        ):
            manifest = await land(
                connection,
                lake.snapshots,
                lake.ledger,
                dataset,
                stream,
                lambda: SourceAccount(source.stats.requests, source.stats.retries, source.stats.bytes_in),
                run_id=run_id,
                clock=lake.clock,
                ahead=ahead,
            )
    same = known and known[0].sha256 == manifest.sha256
    return manifest, "The content is the same as before." if same else "The content is new."


def _checks(extract: Extract, *, is_first: bool) -> list[str]:
    """Names of the checks of a table."""
    left_out = set() if is_first else {"pages_are_whole"}
    if not extract.table.key:
        left_out.add("key_is_unique")
    if extract.unknown_fields == "ignore":
        left_out.add("no_field_is_unknown")
    return [name for name in CHECKS if name not in left_out]


def _guard(dataset: Dataset, extract: Extract) -> dict[str, str]:
    """Rows can be compared with those before where they are all there are; the first table stands for the others."""
    is_guarded = dataset.mode == "replace" and extract is dataset.extracts[0]
    return {GUARDED_BY: "load_date"} if is_guarded else {}


def _result(finding: Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=finding.table.parts,
        check_name=finding.check,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.WARN if finding.warns else dg.AssetCheckSeverity.ERROR,
        description=finding.said,
        metadata={f"lake/{name}": number for name, number in finding.numbers.items()},
    )


def _shown(table: DeclaredTable) -> Table:
    """A declared table as reports know tables."""
    columns = tuple(
        TableColumn(column.name, column.sql, column.nullable, column.description, column.personal)
        for column in table.columns
    )
    return Table(table.name, _SHOWN_AS, table.key or table.names[:1], columns)


_SHOWN_AS: Final[Layer] = "xform"
"""Reports do not look at the layer; the tables hold current states, as those of this layer do."""


def _description(spec: ApiDatasetSpec, extract: Extract) -> str:
    key = ", ".join(extract.table.key) or "none"
    what = f"element of `{extract.array}`" if extract.array else "record"
    return f"One row per {what} at {spec.source.path}; key: {key}.\n\n{spec.description}".strip()


def _lineage(dataset: Dataset, extract: Extract) -> dg.TableColumnLineage:
    landing = dg.AssetKey(dataset.landing.parts)

    def field(name: str) -> str:
        path = ".".join(extract.sources[name])
        inside = extract.array and name not in extract.parent
        return f"document.{extract.array}[*].{path}".rstrip(".") if inside else f"document.{path}"

    return dg.TableColumnLineage({name: [dg.TableColumnDep(landing, field(name))] for name in extract.table.names})


# -------------------------------------------------------------------------------------------------- component


class ApiDatasetScaffolder(YamlScaffolder):
    """A dataset with one column, to be filled in."""

    stub = """\
  source: {resource: datahub, path: /v4/dataset/NAME}  # SOURCE_DATAHUB_URL and so on, see .env.example
  target: {schema: dit, table: NAME}
  columns:
    - {from: id, type: text, key: true}
  schedule: "@daily"
"""


@dg.scaffold_with(ApiDatasetScaffolder)
class ApiDataset(YamlComponent):
    """A paginated API as tables: landed page by page, checked, and swapped in as a whole."""

    model = ApiDatasetSpec

    def build(self, *, running: bool) -> dg.Definitions:
        """Assets, checks, a job and a schedule."""
        return build_api_dataset(self.spec, running=running)
