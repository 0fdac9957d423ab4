import tracemalloc
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.sources.ndjson import Line, read_lines

pytestmark = pytest.mark.anyio


async def lines(pieces: Iterable[bytes], longest: int = 1000) -> list[Line]:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [line async for line in read_lines(stream(), longest=longest)]


BODY = '\ufeff{"a":"x\u2028y\u0085z\u2029\u000b\u000c"}\r\n\n{"b":"\U0001f600é"}\n{"c":1}\r\n{"cut":'.encode()


@given(st.lists(st.integers(0, len(BODY)), max_size=12))
async def test_lines_are_the_same_however_the_body_is_cut_into_pieces(cuts: list[int]) -> None:
    """Fault P9: U+2028, U+2029, U+0085, VT and FF stay inside their line; so does a character cut by the network."""
    places = [0, *sorted(cuts), len(BODY)]
    got = await lines(BODY[start:end] for start, end in pairwise(places))
    assert got == [
        Line(1, '{"a":"x\u2028y\u0085z\u2029\u000b\u000c"}'.encode()),
        Line(2, b""),
        Line(3, '{"b":"\U0001f600é"}'.encode()),
        Line(4, b'{"c":1}'),
        Line(5, b'{"cut":', ended=False),
    ]


async def test_only_one_carriage_return_and_only_the_first_mark_are_taken_off() -> None:
    got = await lines([b"\xef\xbb\xbf\xef\xbb\xbfa\r\r\n\xef\xbb\xbfb\n"])
    assert [line.data for line in got] == [b"\xef\xbb\xbfa\r", b"\xef\xbb\xbfb"]


async def test_a_byte_that_is_no_utf8_costs_its_line_only() -> None:
    """Fault P9: a decoder that replaces would hand over U+FFFD as if the source had written it."""
    got = await lines([b'{"a":1}\n{"b":"\xff"}\n{"c":3}\n'])
    assert [(line.data, line.rule) for line in got] == [(b'{"a":1}', None), (b"", "line_not_utf8"), (b'{"c":3}', None)]
    assert got[1].reason == "The line is not UTF-8: byte 6 of 9 is not valid."


@pytest.mark.parametrize("step", [1, 7, 5000])
async def test_a_line_beyond_the_bound_costs_itself_only(step: int) -> None:
    body = b"ok\n" + b"x" * 1001 + b"\n" + b"y" * 1000 + b"\n" + b"z" * 1001
    got = await lines(body[start : start + step] for start in range(0, len(body), step))
    assert [(line.number, line.rule, line.ended) for line in got] == [
        (1, None, True),
        (2, "line_too_long", True),
        (3, None, True),
        (4, "line_too_long", False),
    ]
    assert got[1].reason == "The line has 1001 bytes, more than the 1000 that are held."


async def test_a_line_without_end_does_not_grow_the_memory() -> None:
    piece = b"x" * 100_000
    tracemalloc.start()
    got = await lines((piece for _ in range(500)), longest=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line.rule for line in got] == ["line_too_long"]
    assert peak < 3_000_000


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf"])
async def test_an_empty_body_has_no_usable_line(body: bytes) -> None:
    assert [line.data for line in await lines([body]) if line.data] == []
