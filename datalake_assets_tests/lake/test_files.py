"""Files of rows: what stands in them arrives as itself, and what cannot be kept is told with its line."""

import gzip
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.files import FileColumn, FileError, Format, RowFile


def column(name: str, words: str = "text", *, required: bool = False, **elsewhere: str) -> FileColumn:
    declared = Column(name, name, parse_type(words), required=required)
    return FileColumn(declared, (name,), {there: kind for kind, there in elsewhere.items()})


def rows_of(path: Path, *columns: FileColumn, **format_: Any) -> list[dict[str, Any]]:
    file = RowFile(path, path.name, Format(**format_), columns)
    return [row for batch in file.batches() for row in batch.to_pylist()]


def write(folder: Path, text: str | bytes, name: str = "trips.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def values(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_text_is_not_taken_for_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, 'code,flag\n00123,NA\nNULL,nan\n1e5,"N/A"\n')
    rows = rows_of(path, column("code"), column("flag"))
    assert values(rows, "code") == ["00123", "NULL", "1e5"]
    assert values(rows, "flag") == ["NA", "nan", "N/A"]


def test_nothing_zero_and_an_empty_text_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path, 'note,count\n,0\n"",""\nfalse,\n')
    rows = rows_of(path, column("note"), column("count", "integer"))
    assert values(rows, "note") == [None, "", "false"]
    assert values(rows, "count") == [0, None, None]


def test_a_value_that_does_not_fit_costs_its_row_alone_and_is_told_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "id,fare\n1,12.50\n2,much\n3,0.10\n4,1.234\n")
    rows = rows_of(path, column("id", "smallint"), column("fare", "numeric(8,2)"))
    assert values(rows, "fare") == [Decimal("12.50"), None, Decimal("0.10"), None]
    assert [(row["line"], row["rule"]) for row in rows if row["rule"]] == [
        (3, "not_a_decimal"),
        (5, "too_many_decimals"),
    ]
    assert "much" not in rows[1]["reason"]
    assert orjson.loads(rows[1]["document"]) == {"id": "2", "fare": "much"}
    assert rows[0]["document"] is None


def test_a_row_without_a_required_value_is_refused(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, "id,name\n1,a\n,b\n"), column("id", "integer", required=True), column("name"))
    assert [(row["line"], row["rule"], row["reason"]) for row in rows][1] == (3, "required", "id is empty.")


def test_lines_are_those_of_the_file_whatever_stands_before(tmp_path: Path) -> None:
    """Line breaks inside values, lines of another length and empty lines all count."""
    path = write(tmp_path, 'id,note\n1,"two\nlines"\n2,a,b\n\n3,x\n4\n5,y\n6,"a\n\nb"\n7\n')
    file = RowFile(path, "trips.csv", Format(), [column("id", "integer"), column("note")])
    found = [(row["line"], row["id"], row["rule"]) for batch in file.batches() for row in batch.to_pylist()]
    assert sorted(found) == [
        (2, 1, None),
        (4, None, "unreadable"),
        (6, 3, None),
        (7, None, "unreadable"),
        (8, 5, None),
        (9, 6, None),
        (12, None, "unreadable"),
    ]
    assert file.blank == 1


def test_lines_are_right_in_every_block_of_a_long_file(tmp_path: Path) -> None:
    """pyarrow reads ahead of what it hands over, so it tells of unreadable rows of blocks to come."""
    lines = ["id,note"]
    for number in range(2, 200_002):
        lines.append(f"{number}" if number % 50_021 == 0 else f"{number},{'x' * 30}")
    path = write(tmp_path, "\n".join(lines) + "\n")
    file = RowFile(path, "trips.csv", Format(), [column("id", "integer"), column("note")])
    wrong = []
    for batch in file.batches():
        wrong += [row for row in batch.select(["line", "id"]).to_pylist() if row["id"] not in (None, row["line"])]
    assert wrong == []


def test_a_byte_that_is_no_text_costs_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, b"id,name\n1,good\n2,b\xffd\n3,n\0l\n")
    rows = rows_of(path, column("id", "integer"), column("name"))
    assert [(row["line"], row["rule"]) for row in rows] == [(2, None), (3, "unreadable"), (4, "nul_character")]


def test_the_declared_dialect_is_used(tmp_path: Path) -> None:
    path = write(tmp_path, "id;name\n1;'Gr\xfc;n'\n-;x\n".encode("latin-1"))
    rows = rows_of(
        path, column("id", "integer"), column("name"), delimiter=";", quote="'", encoding="latin-1", null=("-",)
    )
    assert [(row["id"], row["name"]) for row in rows] == [(1, "Grü;n"), (None, "x")]


@pytest.mark.parametrize("packed", [False, True])
def test_a_gzipped_file_is_known_by_its_first_bytes(tmp_path: Path, packed: bool) -> None:
    text = b"id\n1\n2\n"
    path = write(tmp_path, gzip.compress(text) if packed else text, "trips.csv.gz")
    assert values(rows_of(path, column("id", "integer")), "id") == [1, 2]


def test_a_cut_gzip_fails_whole(tmp_path: Path) -> None:
    packed = gzip.compress(b"id\n" + b"".join(b"%d\n" % number for number in range(300_000)))
    path = write(tmp_path, packed[:-50_000])
    with pytest.raises(FileError, match="cannot be read to its end"):
        rows_of(path, column("id", "integer"))


def test_a_file_of_another_colour_fails_with_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, "tpep_pickup_datetime\n2021-01-01 00:00:00\n")
    with pytest.raises(FileError) as caught:
        rows_of(path, column("lpep_pickup_datetime", "timestamp", yellow="tpep_pickup_datetime"))
    assert caught.value.what == (
        "The file has no column lpep_pickup_datetime; "
        "it has tpep_pickup_datetime, which is what files of yellow call it."
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"id,id\n1,2\n", "names column id more than once"),
        (b"<html>Not here</html>", "has no column id; it begins like a web page"),
        (b"ID,id,ID\n1,2,3\n", r"names column \(1 of 3\) more than once"),
        (b"PAR1", "is a Parquet file"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(FileError, match=sentence):
        rows_of(write(tmp_path, content), column("id", "integer"))


def test_a_file_with_another_delimiter_is_refused_before_memory_fills_up(tmp_path: Path) -> None:
    path = write(tmp_path, "id,name\n" + "1;x\n" * 20_000)
    with pytest.raises(FileError, match="10,000 rows one after the other") as caught:
        rows_of(path, column("id", "integer"), column("name"))
    assert "1;x" not in str(caught.value)


def test_a_header_alone_is_a_file_without_rows(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path, "id\n"), column("id", "integer")) == []


def test_columns_that_nobody_asked_for_are_told(tmp_path: Path) -> None:
    assert RowFile(write(tmp_path, "id,new\n"), "x", Format(), [column("id")]).extra == ["new"]


def test_numbers_of_a_parquet_file_are_taken_by_their_digits(tmp_path: Path) -> None:
    """Identifiers with gaps are stored as floats by the program that writes the files of the taxi commission."""
    table = pa.table(
        {
            "zone": pa.array([2.0, None, 2.5, 1e16], pa.float64()),
            "fare": pa.array([12.35, 0.1, -3.0, 1.005], pa.float64()),
            "at": pa.array([0, 1, 2, 3], pa.timestamp("us")),
        }
    )
    path = tmp_path / "trips.parquet"
    pq.write_table(table, path)
    columns = [column("zone", "smallint"), column("fare", "numeric(8,2)"), column("at", "timestamp")]
    rows = rows_of(path, *columns, type="parquet")
    assert values(rows, "zone") == [2, None, None, None]
    assert values(rows, "fare") == [Decimal("12.35"), Decimal("0.10"), Decimal("-3.00"), None]
    assert [row["rule"] for row in rows] == [None, None, "not_an_integer", "not_an_integer"]
    assert values(rows, "line") == [1, 2, 3, 4]


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no readable Parquet"):
        rows_of(write(tmp_path, b"PAR1 and no more"), column("id"), type="parquet")


PEAK = """
import resource, sys
from pathlib import Path
from datalake_assets.lake.declared import Column, parse_type
from datalake_assets.lake.files import FileColumn, Format, RowFile

words = {"at": "timestamp", "zone": "smallint", "fare": "numeric(12,2)", "flag": "text", "more": "text"}
columns = [FileColumn(Column(name, name, parse_type(word)), (name,)) for name, word in words.items()]
rows = sum(batch.num_rows for batch in RowFile(Path(sys.argv[1]), "x", Format(), columns).batches())
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    piece = "2021-01-01 00:00:00,75,12.50,N,{}\n".format("x" * 80).encode() * 10_000
    peaks = []
    for pieces in (10, 60):
        path = tmp_path / f"{pieces}.csv.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(b"at,zone,fare,flag,more\n")
            for _ in range(pieces):
                file.write(piece)
        command = [sys.executable, "-c", PEAK, str(path)]
        rows, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(rows) == pieces * 10_000
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] * 1.25


QUOTES = {
    "never closed": b'id,note\n1,"open\n2,b\n3,c\n',
    "never closed, in a row of another length": b'id,note\n"1\n2,b\n3,c\n',
    "closed by that of a later row": b'id,note\n1,"open\n2,"b"\n3,c\n',
    "closed within a value": b'id,note\n1,"two\nlines" more\n',
}


@pytest.mark.parametrize("flaw", QUOTES)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_not_hidden_in_a_value_whose_quote_is_not_closed(tmp_path: Path, flaw: str, packed: bool) -> None:
    """Arrow takes all that follows for one value, so that rows would be lost without a word."""
    content = gzip.compress(QUOTES[flaw]) if packed else QUOTES[flaw]
    with pytest.raises(FileError, match="A quote is not closed where its value ends, before line"):
        rows_of(write(tmp_path, content), column("id"), column("note"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_breaks_and_doubled_quotes_within_values_are_kept(tmp_path: Path, end: str, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-8" else ""
    text = f'{mark}"id","note"{end}1,"two{end}lines, ""quoted"""{end}2,5" pipe{end}3,"é"'.encode(encoding)
    rows = rows_of(write(tmp_path, text), column("id"), column("note"), encoding=encoding)
    assert values(rows, "note") == [f'two{end}lines, "quoted"', '5" pipe', "é"]
    assert values(rows, "line") == [2, 4, 5]


PACKED = gzip.compress(b"id\n1\n")


def test_a_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, PACKED + gzip.compress(b"2\n")), column("id", "integer"))
    assert values(rows, "id") == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        PACKED + b"garbage",
        PACKED + bytes(20),
        PACKED + PACKED[:5],
        PACKED[:-8] + bytes(8),
        PACKED + gzip.compress(b"2\n")[:-4],
        PACKED[:-1],
    ],
    ids=["garbage", "zeros", "a cut header", "a wrong sum", "a cut member", "a missing byte"],
)
def test_a_gzip_with_anything_wrong_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FileError, match="it may be cut"):
        rows_of(write(tmp_path, content), column("id", "integer"))


def test_a_file_without_a_header_does_not_show_its_first_row(tmp_path: Path) -> None:
    """The first row of such a file is somebody's data, and messages go to logs."""
    with pytest.raises(FileError) as caught:
        rows_of(write(tmp_path, "Jane Doe,900-12-3456,900-12-3456x\n"), column("name"), column("number"))
    assert "nor any other that is declared among its 3; perhaps it has no header" in str(caught.value)
    with pytest.raises(FileError) as repeated:
        rows_of(write(tmp_path, "Jane Doe,Jane Doe\n"), column("name"))
    assert "900" not in str(caught.value)
    assert "Jane" not in str(caught.value) + str(repeated.value)


def test_sensitive_columns_of_a_refused_row_are_not_kept(tmp_path: Path) -> None:
    """Invariant 6; a row of another length is not kept at all, because nobody knows which value is which."""
    text = "id,SSN,note\n1,900-12-3456,a\nx,900-12-3457,b\n2,900-12-3458\n"
    rows = rows_of(write(tmp_path, text), column("id", "integer"), column("note"))
    documents = [row["document"] for row in rows if row["rule"]]
    assert [orjson.loads(document) for document in documents] in (
        [{"id": "x", "note": "b"}, {}],
        [{}, {"id": "x", "note": "b"}],
    )


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_a_parquet_file_may_be_counted_in_any_unit(tmp_path: Path, unit: str) -> None:
    """pandas writes nanoseconds."""
    path = tmp_path / "trips.parquet"
    at = pa.array([1_600_000_000], pa.timestamp("s")).cast(pa.timestamp(unit))
    pq.write_table(pa.table({"at": at}), path)
    [row] = rows_of(path, column("at", "timestamp"), type="parquet")
    assert (row["at"].year, row["rule"]) == (2020, None)


def test_a_time_that_no_timestamp_holds_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "trips.parquet"
    pq.write_table(pa.table({"at": pa.array([1_001, 1_000], pa.timestamp("ns"))}), path)
    rows = rows_of(path, column("at", "timestamp"), type="parquet")
    assert values(rows, "rule") == ["not_a_timestamp", "not_a_timestamp"]
    assert orjson.loads(rows[0]["document"]) == {"at": "1970-01-01 00:00:00.000001001"}


def test_a_column_of_lists_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "trips.parquet"
    pq.write_table(pa.table({"id": pa.array([[1]])}), path)
    with pytest.raises(FileError, match="Column id holds no single values but list"):
        rows_of(path, column("id"), type="parquet")
