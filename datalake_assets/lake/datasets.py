"""API datasets: pages landed as they come, and landed records turned into the rows of declared tables.

A record is landed whole, so that tables are a function of the snapshot and of the declaration alone. What a record
must look like is judged when it is loaded, column by column. How tables change is in `replacement.py`, how types are
made in `declared.py`, how pages are had in `sources/api_pages.py`.
"""

import asyncio
import queue
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal

import asyncpg
import pyarrow as pa

from datalake_assets import exact_json
from datalake_assets.clock import Clock
from datalake_assets.exact_json import JsonValue
from datalake_assets.keys import TableName
from datalake_assets.lake.crashpoints import reach
from datalake_assets.lake.declared import Column
from datalake_assets.lake.documents import Answer, without_sensitive_keys
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.quarantine import mirror_answers
from datalake_assets.lake.replacement import (
    Counts,
    DeclaredTable,
    Incoming,
    Loaded,
    Mode,
    Origin,
    drop_prepared,
    is_loaded,
    load_tables,
    prepared_parts,
)
from datalake_assets.lake.slices import LoadError
from datalake_assets.sources.api_pages import Page, Paging, SoundPage, read_sound_page
from datalake_assets.sources.validators import Validators
from datalake_assets.statements import statement
from datalake_assets.storage.parquet import Manifest, ParquetStore
from datalake_assets.storage.postgres import PostgresError, scrubbing

if TYPE_CHECKING:
    from datalake_assets.lake.ahead import Ahead

RECORDS: Final = pa.schema(
    [
        pa.field("page", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("document", pa.large_binary(), nullable=False),
        pa.field("rule", pa.string()),
    ]
)
"""A record as it is landed: where it stood, and the rule it breaks if it is JSON that cannot be kept."""

UnknownFields = Literal["ignore", "warn", "fail"]

_PAGES_AHEAD: Final = 2
_TOLD: Final = 5
"""How many bad values an error names; all of them are counted."""
_MOST_QUARANTINED: Final = 10_000
"""Rows beyond which nothing is published, whatever share they are: they are held in memory until then."""
_KEY_TWICE: Final = frozenset({"23505", "21000"})
"""States by which the server refuses a key that comes twice: in a table, and in one upsert."""
_NAMES_TOLD: Final = 10
_NAMES_KEPT: Final = 1000
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class ChecksFailedError(LoadError):
    """A dataset is not what it must be, so its tables were left as they were.

    Args:
        findings: What was checked, the checks that passed among them.
        where: The dataset.
    """

    def __init__(self, findings: Sequence["Finding"], where: str) -> None:
        failed = [finding for finding in findings if finding.blocks]
        super().__init__(
            " ".join(finding.said for finding in failed),
            where=where,
            todo="The tables are as before. Look at the source; or change the declaration, knowingly, and materialise "
            "again.",
        )
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: Name of the check.
        table: The table it is about.
        passed: Whether it holds.
        said: The result as a sentence.
        numbers: What was counted.
        warns: A failure is told, and stops nothing.
    """

    check: str
    table: TableName
    passed: bool
    said: str
    numbers: Mapping[str, int | float] = field(default_factory=dict)
    warns: bool = False

    @property
    def blocks(self) -> bool:
        """Whether the load must not be published."""
        return not (self.passed or self.warns)


@dataclass(frozen=True)
class Extract:
    """How the rows of a table are found in records.

    Attributes:
        table: The table.
        sources: For each column the path of its value in a record, or in an element of `array`; for a column of
            `parent`, in the record; empty for the place of an element.
        array: The member of a record that holds an array of objects, each a row; None: records are the rows.
        parent: Columns whose values are the record's.
        optional: Columns whose field a record may lack.
        unknown_fields: What a field that no table takes means.
        arrays: Members of the same objects that other tables are made of.
    """

    table: DeclaredTable
    sources: Mapping[str, tuple[str, ...]]
    array: str | None = None
    parent: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    unknown_fields: UnknownFields = "warn"
    arrays: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Limits:
    """What a load must hold to be published.

    Attributes:
        min_rows: Fewest rows of the first table; 0 where an empty dataset is legal.
        min_rows_ratio: Smallest share of the rows before, of any table.
        allow_all_null: Columns that may be without any value.
        max_quarantined_share: Largest share of rows with a value that does not fit; they are left out.
    """

    min_rows: int = 1
    min_rows_ratio: float = 0.9
    allow_all_null: frozenset[str] = frozenset()
    max_quarantined_share: float = 0.0


@dataclass(frozen=True)
class Dataset:
    """An API dataset.

    Attributes:
        name: Its name.
        landing: Where its records are landed.
        extracts: Its tables, the one of its records first.
        mode: How they are loaded.
        limits: What must hold.
        definition: Digest of all that its rows depend on besides the snapshot.
    """

    name: str
    landing: TableName
    extracts: tuple[Extract, ...]
    mode: Mode
    limits: Limits
    definition: str

    @property
    def tables(self) -> tuple[DeclaredTable, ...]:
        """Its tables."""
        return tuple(extract.table for extract in self.extracts)


# ---------------------------------------------------------------------------------------------------- landing


async def land(
    connection: asyncpg.Connection,
    store: ParquetStore,
    ledger: Ledger,
    dataset: Dataset,
    pages: AsyncIterator[Page],
    cost: Callable[[], SourceAccount],
    *,
    run_id: str,
    clock: Clock,
    ahead: "Ahead | None" = None,
) -> Manifest:
    """Land every page of a dataset as the snapshot of today.

    Pages are written while later ones are fetched. A page that fails leaves the snapshot before as it was; it is not
    taken up again in the middle, because the pages of two moments are no dataset.

    Args:
        connection: A connection of its own, outside any transaction.
        store: Where snapshots are kept.
        ledger: Attempts and receipts.
        dataset: The dataset.
        pages: Its pages, in order.
        cost: What it took, asked after the last page.
        run_id: Who lands it.
        clock: What today is.
        ahead: Prepares the tables meanwhile.

    Raises:
        SupersededError: A later run lands the same dataset.
        SourceError: A page could not be had.
    """
    started = time.monotonic()
    day = clock.today()
    partition = day.isoformat()
    with scrubbing(str(dataset.landing)):
        attempt = await ledger.begin(connection, str(dataset.landing), partition, run_id)
    told: list[dict[str, Any]] = []
    versions: set[Validators] = set()
    batches: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(_PAGES_AHEAD)

    def account() -> dict[str, Any]:
        # Many a source tells of each page what it tells of no other: then nothing is known of all of them.
        version = next(iter(versions)) if len(versions) == 1 else Validators()
        return {
            "pages": told,
            "etag": version.etag,
            "last_modified": version.last_modified,
            **asdict(cost()),
            "duration_s": round(time.monotonic() - started, 3),
        }

    def arrived() -> Iterator[pa.RecordBatch]:
        while (batch := batches.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    publishing = asyncio.create_task(
        asyncio.to_thread(
            store.publish,
            dataset.landing,
            {"load_date": partition},
            RECORDS,
            arrived(),
            run_id=run_id,
            created_at=clock.now(),
            account=account,
            keep_current=True,
        )
    )
    try:
        async for page in pages:
            versions.add(page.validators)
            told.append(
                {
                    "number": page.number,
                    "records": page.count,
                    "bytes": page.bytes,
                    "sha256": page.sha256,
                    "pointer": page.pointer,
                }
            )
            batch = await asyncio.to_thread(_landed, page)
            await _handed_over(batches, batch, publishing)
            if ahead is not None:
                await ahead.take(batch, page)
            reach("mid_request")
        await _handed_over(batches, None, publishing)
    except BaseException as error:
        if not publishing.done():
            await asyncio.to_thread(batches.put, error)
            await asyncio.wait({publishing})
        if publishing.done() and not publishing.cancelled():
            publishing.exception()
        raise
    manifest = await publishing
    reach("after_landing")
    with scrubbing(str(dataset.landing)):
        async with connection.transaction():
            receipt = Receipt(
                asset=str(dataset.landing),
                partition=partition,
                run_id=run_id,
                load_date=day,
                rows_total=manifest.rows,
                snapshot_sha256=manifest.sha256,
                requests=manifest.account["requests"],
                retries=manifest.account["retries"],
                bytes_in=manifest.account["bytes_in"],
                duration_s=manifest.account["duration_s"],
            )
            await ledger.write(connection, receipt, attempt)
            store.promote(manifest)
    if ahead is not None:
        await ahead.finish(origin_of(dataset, manifest))
    return manifest


async def _handed_over(
    batches: "queue.Queue[Any]", batch: pa.RecordBatch | None, publishing: "asyncio.Task[Manifest]"
) -> None:
    """Put a batch into the queue, unless its reader has failed: nobody would ever take it out."""
    while not publishing.done():
        try:
            batches.put_nowait(batch)
        except queue.Full:
            await asyncio.wait({publishing}, timeout=0.01)
        else:
            return
    publishing.result()


@dataclass(frozen=True)
class MadePage:
    """What is made of a sound page.

    Attributes:
        landed: Its records as they are landed.
        rows: Those of each table, and what was noticed on the way; None if a load must not publish them as they are.
    """

    landed: pa.RecordBatch
    rows: "TypedRows | None"


def read_page(body: bytes, number: int, paging: Paging, extracts: Sequence[Extract] | None) -> SoundPage | None:
    """Read, clean and type a page; None if there is anything about it that is not as usual.

    Args:
        body: The page.
        number: Its place.
        paging: Where its records are.
        extracts: Tables to make rows of; None if none are wanted.
    """
    if (found := read_sound_page(body, paging)) is None:
        return None
    sound, records = found
    cleaned = [without_sensitive_keys(record) for record in records]
    batch = _landed_batch(number, cleaned)
    if batch.column("rule").null_count < len(records):
        return None
    rows = None if extracts is None else rows_of(batch, extracts, cleaned)
    return replace(sound, made=MadePage(batch, rows))


def rows_of(
    batch: pa.RecordBatch, extracts: Sequence[Extract], records: list[dict[str, JsonValue]] | None = None
) -> "TypedRows | None":
    """The rows of each table in landed records, and what was noticed; None if one cannot be kept as it is.

    Args:
        batch: Landed records.
        extracts: The tables.
        records: The same, parsed.
    """
    made = []
    for extract in extracts:
        reading = _Reading(extract, "", set())
        rows = reading.take(batch, records)
        if reading.noticed.refused:
            return None
        made.append((rows, reading.noticed))
    return tuple(made)


def _landed(page: Page) -> pa.RecordBatch:
    if page.elsewhere is not None:
        made: MadePage = page.elsewhere.made
        return made.landed
    return _landed_batch(page.number, [without_sensitive_keys(record) for record in page.records])


def _landed_batch(number: int, records: Sequence[dict[str, JsonValue]]) -> pa.RecordBatch:
    documents, rules = [], []
    for cleaned in records:
        text = exact_json.dumps_sound(cleaned)
        rule = exact_json.defects(cleaned) if text is None else None
        if text is None:
            text = exact_json.dumps_ascii(cleaned) if rule else exact_json.dumps(cleaned)
        documents.append(text)
        rules.append(rule)
    count = len(documents)
    return pa.RecordBatch.from_arrays(
        [
            pa.repeat(pa.scalar(number, pa.int32()), count),
            pa.array(range(count), pa.int32()),
            pa.array(documents, pa.large_binary()),
            pa.array(rules, pa.string()),
        ],
        schema=RECORDS,
    )


def landed(store: ParquetStore, landing: TableName) -> list[Manifest]:
    """The current snapshot of every date that a dataset was landed on, oldest first."""
    found = [store.current(landing, partition) for partition in store.partitions(landing)]
    return sorted((each for each in found if each is not None), key=lambda each: each.partition["load_date"])


def version_of(manifest: Manifest) -> Validators:
    """What the source said of the version that a snapshot holds."""
    return Validators(manifest.account.get("etag"), manifest.account.get("last_modified"))


def origin_of(dataset: Dataset, manifest: Manifest) -> Origin:
    """What rows made of a snapshot are made from."""
    return Origin(date.fromisoformat(manifest.partition["load_date"]), manifest.sha256, dataset.definition)


# ---------------------------------------------------------------------------------------------------- loading


async def load(
    connection: asyncpg.Connection, store: ParquetStore, ledger: Ledger, dataset: Dataset, *, run_id: str
) -> tuple[Loaded, list[Finding]]:
    """Bring the tables of a dataset to what was landed.

    With `replace` that is the latest snapshot. With the others it is every snapshot that is not loaded yet, so that a
    date whose load failed is made up for; one that is refused again does not keep back the others.

    Args:
        connection: A connection of its own, outside any transaction.
        store: Where snapshots are kept.
        ledger: Attempts and receipts.
        dataset: The dataset.
        run_id: Who loads it.

    Returns:
        What became of the last load, and what was checked in it; nothing is checked where nothing is loaded.

    Raises:
        ChecksFailedError: A check that blocks failed.
        LoadError: The dataset was never landed, or its tables cannot be made.
        PostgresError: The server refused.
    """
    manifests = landed(store, dataset.landing)
    if not manifests:
        raise LoadError(
            "The dataset was never landed.",
            where=str(dataset.landing),
            todo="Materialise its landing asset first.",
        )
    done: tuple[Loaded, list[Finding]] | None = None
    refused: ChecksFailedError | None = None
    for manifest in manifests[-1:] if dataset.mode == "replace" else manifests:
        origin = origin_of(dataset, manifest)
        is_last = manifest is manifests[-1]
        if not is_last and await is_loaded(connection, dataset.tables, origin, dataset.mode):
            continue
        try:
            done = await _load(connection, store, ledger, dataset, manifest, origin, run_id)
        except ChecksFailedError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    assert done is not None  # noqa: S101 - the last one is always loaded
    return done


async def _load(
    connection: asyncpg.Connection,
    store: ParquetStore,
    ledger: Ledger,
    dataset: Dataset,
    manifest: Manifest,
    origin: Origin,
    run_id: str,
) -> tuple[Loaded, list[Finding]]:
    where = f"{dataset.tables[0].name}, landed {origin.load_date}"
    bad_records: set[tuple[int, int]] = set()
    readings = [_Reading(extract, manifest.dataset, bad_records) for extract in dataset.extracts]
    found: list[Finding] = []
    passed = await ledger.override(connection, str(dataset.tables[0].name), origin.load_date.isoformat(), "volume")

    async def judge(counts: Mapping[TableName, Counts]) -> None:
        found.append(_pages_are_whole(dataset, manifest, readings[0]))
        for reading in readings:
            ratio = None if passed or dataset.mode != "replace" else dataset.limits.min_rows_ratio
            found.extend(_found(reading, counts[reading.extract.table.name], dataset, ratio, reading is readings[0]))
        if any(finding.blocks for finding in found):
            raise ChecksFailedError(found, where)
        place = (str(dataset.tables[0].name), origin.load_date, "")
        answers = (answer for reading in readings for answer in reading.noticed.answers)
        await mirror_answers(connection, place, answers, run_id)

    try:
        loaded = await load_tables(
            connection,
            ledger,
            [
                Incoming(
                    reading.extract.table,
                    partial(reading.batches, store, manifest),
                    partial(_prepared, connection, reading, origin),
                )
                for reading in readings
            ],
            origin,
            run_id=run_id,
            mode=dataset.mode,
            judge=judge,
        )
    except PostgresError as error:
        if error.sqlstate not in _KEY_TWICE:
            raise
        found.append(
            Finding("key_is_unique", dataset.tables[0].name, False, f"Two rows have the same key ({error.where}).")
        )
        raise ChecksFailedError(found, where) from None
    finally:
        if dataset.mode == "replace" and not connection.is_closed():
            await drop_prepared(connection, dataset.tables)
    if loaded.changed:
        for table in dataset.tables:
            if table.key:
                found.append(Finding("key_is_unique", table.name, True, "No two rows have the same key."))
    return loaded, found


async def _prepared(
    connection: asyncpg.Connection, reading: "_Reading", origin: Origin
) -> tuple[TableName, int] | None:
    """A partition that holds the rows of a snapshot already, and how many; what was noticed then, is noticed."""
    for part in await prepared_parts(connection, reading.extract.table.name):
        if part.is_of(origin):
            rows = await connection.fetchval(statement("declared/count.sql", table=part.name))
            if rows == part.told["rows"]:
                reading.noticed = Noticed.from_json(part.told["noticed"])
                return part.name, rows
    return None


CHECKS: Final = {
    "pages_are_whole": "Every page that the manifest names was loaded, with every record.",
    "enough_rows": "There are as many rows as the declaration wants, and not many fewer than before.",
    "values_fit": "Every value is of its declared type, and every required one is there.",
    "fields_are_there": "Every declared field is in every record.",
    "no_field_is_unknown": "No record has a field that the declaration does not name.",
    "no_column_is_empty": "Every column holds at least one value.",
    "key_is_unique": "No two rows have the same key.",
}
"""What is checked before the tables change, by name."""


def _pages_are_whole(dataset: Dataset, manifest: Manifest, reading: "_Reading") -> Finding:
    pages = manifest.account["pages"]
    expected = {page["number"]: page["records"] for page in pages if page["records"]}
    whole = (
        [page["number"] for page in pages] == list(range(1, len(pages) + 1))
        and bool(pages)
        and expected == dict(reading.noticed.pages)
    )
    read = reading.noticed.records
    said = f"{len(pages)} pages with {sum(expected.values())} records were landed, {read} were read."
    numbers = {"pages": len(pages), "records": read}
    return Finding("pages_are_whole", dataset.tables[0].name, whole, said, numbers)


def _found(
    reading: "_Reading", counts: Counts, dataset: Dataset, ratio: float | None, is_first: bool
) -> Iterator[Finding]:
    table, limits, noticed = reading.extract.table.name, dataset.limits, reading.noticed
    fewest = limits.min_rows if is_first else 0
    least = 0.0 if ratio is None or counts.before is None else ratio * counts.before
    yield Finding(
        "enough_rows",
        table,
        counts.rows >= fewest and counts.rows >= least,
        f"{table} would have {counts.rows} rows instead of {counts.before or 0}; at least "
        f"{max(fewest, -int(-least // 1))} are expected.",
        {"rows": counts.rows, "rows_before": counts.before or 0},
    )
    bad = noticed.refused
    yield Finding(
        "values_fit",
        table,
        bad <= min(limits.max_quarantined_share * (counts.rows + bad), _MOST_QUARANTINED),
        f"{bad} of {counts.rows + bad} rows of {table} hold a value that does not fit{noticed.where}."
        if bad
        else "Every value fits.",
        {"rows_quarantined": bad},
    )
    missing = _few([f"{name} ({count} records)" for name, count in sorted(noticed.missing.items())])
    yield Finding(
        "fields_are_there",
        table,
        not missing,
        f"Declared fields are missing in records for {table}: {missing}." if missing else "Every field is there.",
        {"fields_missing": len(noticed.missing)},
    )
    if reading.extract.unknown_fields != "ignore":
        # Objects that are used as maps have keys that may be anybody's name or address.
        unknown = _few([name if _PLAIN_NAME.fullmatch(name) else "(no plain name)" for name in sorted(noticed.unknown)])
        yield Finding(
            "no_field_is_unknown",
            table,
            not unknown,
            f"Records for {table} have fields that are not declared: {unknown}." if unknown else "No field is unknown.",
            {"fields_unknown": len(noticed.unknown)},
            warns=reading.extract.unknown_fields == "warn",
        )
    empty = [
        name
        for name in reading.extract.table.names
        if counts.rows and not noticed.values[name] and name not in limits.allow_all_null
    ]
    yield Finding(
        "no_column_is_empty",
        table,
        not empty,
        f"Columns of {table} without any value: {', '.join(empty)}." if empty else "Every column holds values.",
        {"columns_empty": len(empty)},
    )


def _few(names: Sequence[str]) -> str:
    """Some names, and how many there are besides."""
    told = list(dict.fromkeys(names))[:_NAMES_TOLD]
    rest = len(names) - sum(name in told for name in names)
    return ", ".join(told) + (f" and {rest} others" if rest else "")


@dataclass
class Noticed:
    """What is noticed while records become the rows of a table.

    Attributes:
        records: Records that were read.
        pages: Those of each page.
        values: Values of each column that are not null.
        missing: Records that lack a field.
        unknown: Fields that no table takes, a thousand or so at most.
        refused: Rows that are left out.
        answers: The same as they go to quarantine, not more than can be held.
        examples: Where some of them stand.
    """

    records: int = 0
    pages: Counter[int] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    refused: int = 0
    answers: list[Answer] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Where some of the bad values stand, as the end of a sentence."""
        return f": {'; '.join(self.examples)}" if self.examples else ""

    def add(self, other: "Noticed") -> None:
        """Add what was noticed in further records, none of which was refused."""
        self.records += other.records
        self.pages += other.pages
        self.values += other.values
        self.missing += other.missing
        if len(self.unknown) < _NAMES_KEPT:
            self.unknown |= other.unknown

    def to_json(self) -> dict[str, Any]:
        """What was noticed in records none of which was refused, as plain JSON."""
        return {
            "records": self.records,
            "pages": sorted(self.pages.items()),
            "values": self.values,
            "missing": self.missing,
            "unknown": sorted(self.unknown),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Noticed":
        """The inverse of `to_json`."""
        pages, values, missing = Counter(dict(told["pages"])), Counter(told["values"]), Counter(told["missing"])
        return cls(told["records"], pages, values, missing, set(told["unknown"]))


TypedRows = tuple[tuple[pa.RecordBatch | None, Noticed], ...]
"""For each table its rows in some records, if there are any, and what was noticed on the way."""


class _Reading:
    """One pass over a snapshot for one table: rows, and what was noticed on the way.

    Args:
        extract: The table.
        source: What records are called in quarantine.
        bad_records: Pages and positions of records that were left out; added to by the table of the records, and
            passed over by the others.
    """

    def __init__(self, extract: Extract, source: str, bad_records: set[tuple[int, int]]) -> None:
        self.extract = extract
        self.noticed = Noticed()
        self._source = source
        self._bad_records = bad_records
        own = {name: path for name, path in extract.sources.items() if path and name not in extract.parent}
        self._known = {path[0] for path in own.values()} | extract.arrays
        self._needed = {path[0] for name, path in own.items() if name not in extract.optional}

    def batches(self, store: ParquetStore, manifest: Manifest) -> Iterator[pa.RecordBatch]:
        """The rows in a snapshot."""
        for batch in store.read(manifest):
            if (rows := self.take(batch)) is not None:
                yield rows

    def take(self, batch: pa.RecordBatch, records: list[dict[str, JsonValue]] | None = None) -> pa.RecordBatch | None:
        """The rows in landed records, if there are any; `records` are the same, parsed, if all of them are sound."""
        places = list(zip(batch.column("page").to_pylist(), batch.column("position").to_pylist(), strict=True))
        self.noticed.records += len(places)
        self.noticed.pages.update(Counter(page for page, _ in places))
        texts: list[bytes] = batch.column("document").to_pylist()
        broken = batch.column("rule")
        if broken.null_count < len(places):
            texts, places = self._sound(texts, places, broken.to_pylist())
        if records is None:
            records = exact_json.loads_sound(b"[" + b",".join(texts) + b"]")
        rows = self._rows(records, texts, places)
        return None if rows is None else self._cast(rows)

    def _sound(
        self, texts: list[bytes], places: list[tuple[int, int]], rules: list[str | None]
    ) -> tuple[list[bytes], list[tuple[int, int]]]:
        kept = []
        for text, place, rule in zip(texts, places, rules, strict=True):
            if rule is None:
                kept.append((text, place))
            elif self.extract.array is None:
                self._refuse(place, rule, "The record is JSON that cannot be kept.", text)
                self._bad_records.add(place)
        return [text for text, _ in kept], [place for _, place in kept]

    def _rows(
        self, records: list[dict[str, JsonValue]], texts: list[bytes], places: list[tuple[int, int]]
    ) -> "_Rows | None":
        if self.extract.array is None:
            self._look_at_fields(records)
            return _Rows(records, records, list(range(len(records))), texts, places) if records else None
        own, parents, positions, of_texts, of_places = [], [], [], [], []
        for record, text, place in zip(records, texts, places, strict=True):
            if place in self._bad_records:
                continue
            elements = record.get(self.extract.array)
            if elements is None:
                if self.extract.array not in record:
                    self.noticed.missing[self.extract.array] += 1
                continue
            if not isinstance(elements, list) or not all(isinstance(element, dict) for element in elements):
                self._refuse(place, "not_an_array", f"{self.extract.array} is no array of objects.", text)
                continue
            for position, element in enumerate(elements):
                own.append(element)
                parents.append(record)
                positions.append(position)
                of_texts.append(text)
                of_places.append(place)
        self._look_at_fields(own)
        return _Rows(own, parents, positions, of_texts, of_places) if own else None

    def _look_at_fields(self, records: Iterable[dict[str, JsonValue]]) -> None:
        for names, count in Counter(frozenset(record) for record in records).items():
            if len(self.noticed.unknown) < _NAMES_KEPT:
                self.noticed.unknown |= names - self._known
            for name in self._needed - names:
                self.noticed.missing[name] += count

    def _cast(self, rows: "_Rows") -> pa.RecordBatch:
        columns = []
        failures: dict[int, tuple[str, str]] = {}
        for column in self.extract.table.columns:
            cast = column.cast(self._column(column, rows))
            columns.append(cast.values)
            for failure in cast.failures:
                failures.setdefault(failure.row, (failure.rule, column.name))
        batch = pa.RecordBatch.from_arrays(columns, schema=self.extract.table.schema)
        if failures:
            for row, (rule, name) in sorted(failures.items()):
                self._refuse(rows.places[row], rule, f"Column {name}: {rule}.", rows.texts[row])
                if self.extract.array is None:
                    self._bad_records.add(rows.places[row])
            kept = [row not in failures for row in range(batch.num_rows)]
            batch = batch.filter(pa.array(kept, pa.bool_()))
        for name in batch.schema.names:
            column_values = batch.column(name)
            self.noticed.values[name] += len(column_values) - column_values.null_count
        return batch

    def _column(self, column: Column, rows: "_Rows") -> Sequence[JsonValue]:
        path = self.extract.sources[column.name]
        if not path:
            return rows.positions
        records = rows.parents if column.name in self.extract.parent else rows.records
        if len(path) == 1:
            name = path[0]
            try:
                return list(map(itemgetter(name), records))
            except KeyError:  # a record lacks the field, which is told elsewhere
                return [record.get(name) for record in records]
        return [_at(record, path) for record in records]

    def _refuse(self, place: tuple[int, int], rule: str, reason: str, text: bytes) -> None:
        page, position = place
        noticed = self.noticed
        noticed.refused += 1
        if noticed.refused > _MOST_QUARANTINED:
            return
        if len(noticed.examples) < _TOLD:
            noticed.examples.append(f"page {page}, record {position + 1}, {reason.rstrip('.')}")
        noticed.answers.append(
            Answer(
                key=(),
                outcome=Outcome.QUARANTINED,
                source=f"{self._source}, page {page}, record {position + 1}, {self.extract.table.name}",
                document=text,
                rule=rule,
                reason=reason,
            )
        )


@dataclass(frozen=True)
class _Rows:
    """Objects that become rows, each with the record it stands in, its place there, and where the record is."""

    records: list[dict[str, JsonValue]]
    parents: list[dict[str, JsonValue]]
    positions: list[int]
    texts: list[bytes]
    places: list[tuple[int, int]]


def _at(record: JsonValue, path: Sequence[str]) -> JsonValue:
    for name in path:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record
