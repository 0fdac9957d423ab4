"""Files of rows, streamed: CSV (also gzipped) and Parquet as typed Arrow batches, each row with its place in the file.

Everything is read as text first, by a declared dialect, so that `NA` and leading zeros stay what they are; then it
is typed by the declaration. A row that cannot be kept is marked with its rule and reason and keeps its text; its
neighbours go on. Memory holds one batch, whatever the size of the file. Where files come from, and what becomes of
the rows, does not belong here.
"""

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from datalake_assets.entities import SENSITIVE_KEYS
from datalake_assets.lake.declared import Column
from datalake_assets.lake.slices import LoadError

BATCH_ROWS: Final = 65_536
BLOCK_BYTES: Final = 1 << 20
UNREADABLE_ROWS: Final = 10_000
"""Unreadable rows one after the other from which on a file is refused as a whole."""

_GZIP: Final = b"\x1f\x8b"
_PARQUET: Final = b"PAR1"
_HEADER_BYTES: Final = 1 << 20
_NAMES_TOLD: Final = 8

REQUIRED: Final = "required"
UNREADABLE: Final = "unreadable"


class FileError(LoadError):
    """A file as a whole cannot be trusted; nothing was loaded."""


@dataclass(frozen=True)
class Format:
    """How a file is written; nothing about it is guessed but whether it is gzipped, which its first bytes say.

    Attributes:
        type: What it is.
        delimiter: Between the values of a CSV file.
        quote: Around values that hold the delimiter or a line break; doubled inside.
        encoding: Of a CSV file.
        null: Texts that stand for nothing; a quoted one only in columns that are no text.
    """

    type: Literal["csv", "parquet"] = "csv"
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    null: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class FileColumn:
    """One column to read.

    Attributes:
        column: What it is from here on.
        names: What it may be called in the file, first come first served; empty where such files do not have it.
        known_elsewhere: What it is called in files of which other kind, for the sentence when one comes here.
    """

    column: Column
    names: tuple[str, ...]
    known_elsewhere: Mapping[str, str] = field(default_factory=dict, hash=False)


def row_schema(columns: Sequence[FileColumn]) -> pa.Schema:
    """Columns of the batches: the line, the declared columns, and what became of the row.

    `rule` is null in a row that is good; `document` holds the text of one that is not, as a JSON object.
    """
    return pa.schema(
        [
            pa.field("line", pa.int64(), nullable=False),
            *(each.column.field for each in columns),
            pa.field("rule", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("document", pa.large_binary()),
        ]
    )


class RowFile:
    """One file to be read.

    Args:
        path: Where it is on this machine.
        name: What it is called in messages and in quarantine.
        format: How it is written.
        columns: What is read of it.

    Attributes:
        extra: Columns of the file that nobody asked for.
        blank: Lines so far that hold nothing at all; they are no rows.

    Raises:
        FileError: It is not such a file, or lacks a column.
    """

    def __init__(self, path: Path, name: str, format: Format, columns: Sequence[FileColumn]) -> None:  # noqa: A002
        self.path, self.name, self.format, self.columns = path, name, format, columns
        self.blank = 0
        with path.open("rb") as file:
            start = file.read(len(_PARQUET))
        if (start == _PARQUET) != (format.type == "parquet"):
            is_one = "is no" if format.type == "parquet" else "is a"
            raise self._refused(f"The file {is_one} Parquet file, but its format is declared as {format.type}.")
        self._gzipped = start.startswith(_GZIP)
        self._names = self._parquet_names() if format.type == "parquet" else self._csv_names()
        self._found = self._matched()
        self.extra = [name for name in self._names if name not in self._found.values()]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the file in their order, as `row_schema` says.

        Raises:
            FileError: The file ends too early, or cannot be read on.
        """
        schema = row_schema(self.columns)
        pieces = self._parquet_batches() if self.format.type == "parquet" else self._csv_batches()
        for lines, batch in pieces:
            yield self._typed(schema, lines, batch)

    # ------------------------------------------------------------------------------------------------ headers

    def _parquet_names(self) -> list[str]:
        try:
            with pq.ParquetFile(self.path) as file:
                return list(file.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise self._refused("The file is no readable Parquet.", error) from None

    def _csv_names(self) -> list[str]:
        try:
            with self._opened() as stream:
                start = stream.read(_HEADER_BYTES).decode(self.format.encoding, "ignore").removeprefix("\ufeff")
        except OSError as error:
            raise self._refused("The file cannot be unpacked; it may be cut.", error) from None
        dialect = {"delimiter": self.format.delimiter, "quotechar": self.format.quote}
        names = next(csv.reader(io.StringIO(start, newline=""), **dialect), [])  # type: ignore[arg-type]
        if not names:
            raise self._refused("The file is empty: not even a header is there.")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            told = ", ".join(name for name in repeated if name in self._wanted) or f"({len(repeated)} of {len(names)})"
            raise self._refused(f"The header names column {told} more than once.")
        return names

    def _matched(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for each in filter(lambda each: each.names, self.columns):
            name = next((name for name in each.names if name in self._names), None)
            if name is None:
                raise self._refused(f"The file has no column {' or '.join(each.names)}{self._hint(each)}.")
            found[each.column.name] = name
        return found

    def _hint(self, column: FileColumn) -> str:
        for name, kind in column.known_elsewhere.items():
            if name in self._names:
                return f"; it has {name}, which is what files of {kind} call it"
        if self._names[0].lstrip().startswith("<"):
            return "; it begins like a web page"
        if not self._wanted & set(self._names):
            # Then its first line may be the first row, which nobody but its reader should see.
            return f", nor any other that is declared among its {len(self._names)}; perhaps it has no header"
        told = ", ".join(self._names[:_NAMES_TOLD])
        return f"; its columns are {told}{', …' if len(self._names) > _NAMES_TOLD else ''}"

    @property
    def _wanted(self) -> set[str]:
        """What the declared columns may be called."""
        return {name for each in self.columns for name in each.names}

    def _refused(self, what: str, error: Exception | None = None) -> FileError:
        return FileError(
            what,
            where=self.name + ("" if error is None else f" ({type(error).__name__})"),
            todo="See whether the address and the declared columns belong together, and what the source says about "
            "this file. Nothing was loaded.",
        )

    # ------------------------------------------------------------------------------------------------ reading

    def _opened(self) -> pa.NativeFile:
        file = pa.OSFile(str(self.path))
        return pa.CompressedInputStream(file, "gzip") if self._gzipped else file

    def _csv_batches(self) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
        """Lines and rows of a CSV file, whose values are bytes as they stand there."""
        places = _Places(1 + sum(name.count("\n") for name in self._names))
        text = pa.binary()
        try:
            with (
                self._opened() as stream,
                pyarrow.csv.open_csv(
                    stream,
                    # One thread: with more of them pyarrow does not say which row it could not read.
                    read_options=pyarrow.csv.ReadOptions(
                        use_threads=False, block_size=BLOCK_BYTES, encoding=self.format.encoding
                    ),
                    parse_options=pyarrow.csv.ParseOptions(
                        delimiter=self.format.delimiter,
                        quote_char=self.format.quote,
                        newlines_in_values=True,
                        ignore_empty_lines=False,  # they count as lines
                        invalid_row_handler=places.unreadable,
                    ),
                    convert_options=pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(self._names, text),
                        null_values=list(self.format.null),
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                    ),
                ) as reader,
            ):
                for batch in reader:
                    lines = places.lines_of(batch)
                    yield from self._unreadable(places)
                    yield lines, batch
                places.pass_rest()
                yield from self._unreadable(places)
            if places.has_breaks:
                self._prove_quotes()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if places.too_many:
                what = f"More than {UNREADABLE_ROWS:,} rows one after the other have another number of values than "
                raise self._refused(f"{what}the header.") from None
            # Arrow quotes the row that it could not read.
            raise self._refused("The file cannot be read to its end; it may be cut or damaged.", error) from None

    def _prove_quotes(self) -> None:
        """Refuse a file whose quotes do not pair: rows that follow one would be part of a value, and nobody's."""
        csv.field_size_limit(max(csv.field_size_limit(), BLOCK_BYTES))  # longer ones Arrow has refused already
        encoding = "utf-8-sig" if codecs.lookup(self.format.encoding).name == "utf-8" else self.format.encoding
        dialect = {"delimiter": self.format.delimiter, "quotechar": self.format.quote, "strict": True}
        with self._opened() as stream, io.TextIOWrapper(stream, encoding, errors="replace", newline="") as text:
            reader = csv.reader(text, **dialect)  # type: ignore[arg-type]
            try:
                deque(reader, maxlen=0)
            except csv.Error:
                what = f"A quote is not closed where its value ends, before line {reader.line_num:,} or there"
                raise self._refused(f"{what}; rows would be hidden in that value.") from None

    @staticmethod
    def _unreadable(places: "_Places") -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
        """Rows with another number of values than the header, as rows without values."""
        if placed := places.take():
            lines, texts = zip(*placed, strict=True)
            yield pa.array(lines, pa.int64()), pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], [UNREADABLE])

    def _parquet_batches(self) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
        """Numbers and rows of a Parquet file; what stands for a line is the number of the row, from 1."""
        row = 1
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=list(self._found.values()), use_threads=False):
                    yield pa.array(range(row, row + batch.num_rows), pa.int64()), batch
                    row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise self._refused("The file cannot be read to its end; it may be cut or damaged.", error) from None

    # ------------------------------------------------------------------------------------------------- typing

    def _typed(self, schema: pa.Schema, lines: pa.Array, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.schema.names == [UNREADABLE]:
            return self._unread_rows(schema, lines, batch.column(0))
        lines, batch = self._without_blank(lines, batch)
        flaws: dict[int, tuple[str, str]] = {}
        arrays: list[pa.Array] = []
        for each in self.columns:
            column = each.column
            if not each.names:
                arrays.append(pa.nulls(batch.num_rows, column.type.arrow))
                continue
            cast = column.cast(self._texts(batch.column(self._found[column.name]), column, flaws))
            for failure in cast.failures:
                told = "empty" if failure.rule == REQUIRED else f"no {column.type}"
                flaws.setdefault(failure.row, (failure.rule, f"{column.name} is {told}."))
            arrays.append(cast.values)
        verdicts = [_sparse({row: flaw[part] for row, flaw in flaws.items()}, batch.num_rows) for part in (0, 1)]
        return pa.RecordBatch.from_arrays([lines, *arrays, *verdicts, documents_of(batch, flaws)], schema=schema)

    def _texts(self, values: pa.Array, column: Column, flaws: dict[int, tuple[str, str]]) -> pa.Array:
        """Values as text, with nulls where nothing is meant."""
        if pa.types.is_binary(values.type):
            values = _decoded(values, column, flaws)
            if column.type.kind == "text":
                return values
            means_nothing = pc.is_in(values, pa.array(self.format.null, pa.string()))
            return pc.if_else(means_nothing, pa.scalar(None, pa.string()), values)
        if pa.types.is_floating(values.type):
            return _float_text(values)
        if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
            values = _microseconds(values)
        try:
            return values.cast(pa.string())
        except pa.ArrowNotImplementedError:
            what = f"Column {self._found[column.name]} holds no single values but {values.type}."
            raise self._refused(what) from None

    def _without_blank(self, lines: pa.Array, batch: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        if self.format.type == "parquet" or any(column.null_count == 0 for column in batch.columns):
            return lines, batch
        filled = batch.column(0).is_valid()
        for column in batch.columns[1:]:
            filled = pc.or_(filled, column.is_valid())
        self.blank += batch.num_rows - pc.sum(filled).as_py()
        return lines.filter(filled), batch.filter(filled)

    def _unread_rows(self, schema: pa.Schema, lines: pa.Array, texts: pa.Array) -> pa.RecordBatch:
        rows = len(lines)
        reason = f"The row has another number of values than the header's {len(self._names)}."
        arrays = [lines, *(pa.nulls(rows, each.column.type.arrow) for each in self.columns)]
        arrays += [pa.repeat(pa.scalar(text), rows) for text in (UNREADABLE, reason)]
        # Which value belongs to which column cannot be told, so a sensitive one could not be left out.
        keeps_text = not any(map(_is_sensitive, self._names))
        documents = [orjson.dumps({"text": text} if keeps_text else {}) for text in texts.to_pylist()]
        return pa.RecordBatch.from_arrays([*arrays, pa.array(documents, pa.large_binary())], schema=schema)


def documents_of(batch: pa.RecordBatch, rows: Iterable[int]) -> pa.Array:
    """Some rows as JSON objects of their values as text, without sensitive ones; null for all others."""
    documents: list[bytes | None] = [None] * batch.num_rows
    names = [name for name in batch.schema.names if not _is_sensitive(name)]
    for row in rows:
        documents[row] = orjson.dumps({name: _shown(batch.column(name)[row]) for name in names})
    return pa.array(documents, pa.large_binary())


def _is_sensitive(name: str) -> bool:
    return name.strip().lower() in SENSITIVE_KEYS


def _shown(value: pa.Scalar) -> str | None:
    try:
        content = value.as_py()
    except ValueError:  # a time with nanoseconds
        content = value.cast(pa.string()).as_py()
    if isinstance(content, bytes):
        return content.decode("utf-8", "backslashreplace")
    return None if content is None else str(content)


def _sparse(values: Mapping[int, str], rows: int) -> pa.Array:
    """Texts at some rows, nulls at all others."""
    if not values:
        return pa.nulls(rows, pa.string())
    return pa.array([values.get(row) for row in range(rows)], pa.string())


class _Places:
    """Which line of a CSV file each row begins on.

    pyarrow gives rows without their number, and tells the numbers of those that it cannot read apart from them.
    """

    def __init__(self, header_lines: int) -> None:
        self._next = 2  # the number of the next row; the header was the first
        self._more_lines = header_lines - 1  # line breaks inside values so far
        self.has_breaks = False
        """Whether some value holds a line break."""
        self._unreadable: deque[tuple[int, str]] = deque()
        self._placed: list[tuple[int, str]] = []

    @property
    def too_many(self) -> bool:
        return len(self._unreadable) > UNREADABLE_ROWS

    def unreadable(self, row: pyarrow.csv.InvalidRow) -> Literal["skip", "error"]:
        self._unreadable.append((row.number, row.text))
        return "error" if self.too_many else "skip"

    def lines_of(self, batch: pa.RecordBatch) -> pa.Array:
        breaks = self._breaks(batch)
        self.has_breaks |= breaks is not None
        if breaks is None and not (self._unreadable and self._unreadable[0][0] < self._next + batch.num_rows):
            first = self._next + self._more_lines
            self._next += batch.num_rows
            return pa.array(range(first, first + batch.num_rows), pa.int64())
        lines = []
        for more in breaks.to_pylist() if breaks is not None else [0] * batch.num_rows:
            self._pass_unreadable()
            lines.append(self._next + self._more_lines)
            self._next += 1
            self._more_lines += more
        return pa.array(lines, pa.int64())

    def take(self) -> list[tuple[int, str]]:
        """Lines and texts of rows that could not be read, of those up to here."""
        placed, self._placed = self._placed, []
        return placed

    def pass_rest(self) -> None:
        """No readable row comes any more."""
        self._pass_unreadable()

    def _pass_unreadable(self) -> None:
        while self._unreadable and self._unreadable[0][0] <= self._next:
            _, text = self._unreadable.popleft()
            self._placed.append((self._next + self._more_lines, text))
            self.has_breaks |= "\n" in text
            self._next += 1
            self._more_lines += text.count("\n")

    @staticmethod
    def _breaks(batch: pa.RecordBatch) -> pa.Array | None:
        """How many line breaks the values of each row hold; None if there is none in the whole batch."""
        broken = [column for column in batch.columns if b"\n" in bytes(column.buffers()[2] or b"")]
        if not broken:
            return None
        counts = pa.repeat(pa.scalar(0, pa.int64()), batch.num_rows)
        for column in broken:
            counts = pc.add(counts, pc.count_substring(column, b"\n").fill_null(0).cast(pa.int64()))
        return counts


def _decoded(values: pa.Array, column: Column, flaws: dict[int, tuple[str, str]]) -> pa.Array:
    """Bytes as text; those that are no UTF-8 are told and left out."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for row, value in enumerate(values.to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                flaws.setdefault(row, (UNREADABLE, f"{column.name} holds bytes that are no text."))
                texts.append(None)
        return pa.array(texts, pa.string())


def _microseconds(values: pa.Array) -> pa.Array:
    """Times as PostgreSQL counts them, which programs that count nanoseconds mean, too; others stay as they are."""
    try:
        return values.cast(pa.timestamp("us", values.type.tz))
    except pa.ArrowInvalid:
        return values


def _float_text(values: pa.Array) -> pa.Array:
    """Floats with the fewest digits that mean them; whole ones without a point or an exponent."""
    is_whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53)).fill_null(False)
    whole = pc.if_else(is_whole, values, pa.scalar(0.0, values.type)).cast(pa.int64()).cast(pa.string())
    return pc.if_else(is_whole, whole, values.cast(pa.string()))
