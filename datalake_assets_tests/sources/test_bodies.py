import gzip
import hashlib
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.sources.bodies import PIECE_BYTES, BodyReader
from datalake_assets.sources.errors import PermanentSourceError, TransientSourceError

PLAIN = hashlib.shake_256(b"hard to compress").digest(500) * 3


def read(pieces: list[bytes], encoding: str = "gzip", limit: int = 10**6) -> bytes:
    reader = BodyReader(encoding=encoding, limit=limit, where="a test")
    unpacked = [out for piece in pieces for out in reader.feed(piece)]
    return b"".join([*unpacked, *reader.finish()])


@given(st.lists(st.binary(max_size=400), max_size=4), st.integers(1, 97), st.sampled_from(["gzip", "GZIP ", "x-gzip"]))
def test_a_gzip_body_is_the_same_however_it_is_cut_into_pieces(members: list[bytes], step: int, encoding: str) -> None:
    packed = b"".join(map(gzip.compress, members)) or gzip.compress(b"")
    pieces = [packed[start : start + step] for start in range(0, len(packed), step)]
    assert read(pieces, encoding) == b"".join(members)


def test_every_cut_of_a_gzip_body_is_noticed() -> None:
    """H3: httpx returns what it has and says nothing."""
    packed = gzip.compress(PLAIN)
    assert read([packed]) == PLAIN
    for length in range(len(packed)):
        with pytest.raises(TransientSourceError, match="gzip stream ends before the trailer"):
            read([packed[:length]])


def test_a_second_member_that_is_cut_is_noticed() -> None:
    with pytest.raises(TransientSourceError, match="gzip stream ends before the trailer"):
        read([gzip.compress(PLAIN), gzip.compress(PLAIN)[:-1]])


@pytest.mark.parametrize("tail", [b"<!-- served by proxy -->", b"\0\0\0\0"])
def test_bytes_after_a_gzip_body_are_refused(tail: bytes) -> None:
    with pytest.raises(PermanentSourceError, match="says it is gzip, but its bytes are not"):
        read([gzip.compress(PLAIN) + tail])


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip"])
def test_an_encoding_that_was_not_offered_is_refused(encoding: str) -> None:
    with pytest.raises(PermanentSourceError, match="only gzip was offered"):
        read([zlib.compress(PLAIN)], encoding)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_plain_body_passes_as_it_is_and_proves_nothing(encoding: str) -> None:
    assert read([PLAIN[:700], PLAIN[700:]], encoding) == PLAIN
    assert not BodyReader(encoding=encoding, limit=1, where="a test").proves_its_end


def test_the_bound_holds_on_the_wire_and_after_unpacking() -> None:
    packed = gzip.compress(PLAIN)
    assert read([PLAIN], "", limit=len(PLAIN)) == PLAIN
    assert read([packed], limit=len(PLAIN)) == PLAIN
    for pieces, encoding, limit in [
        ([PLAIN], "", len(PLAIN) - 1),
        ([packed], "gzip", len(PLAIN) - 1),
        ([gzip.compress(b"")] * 40, "gzip", 500),
    ]:
        with pytest.raises(PermanentSourceError, match=f"larger than the {limit} bytes"):
            read(pieces, encoding, limit)


def test_one_piece_of_a_bomb_is_unpacked_bit_by_bit() -> None:
    """H13: a single read from the wire may hold a thousand times its size."""
    bomb = gzip.compress(bytes(50_000_000))
    reader = BodyReader(encoding="gzip", limit=10**9, where="a test")
    tracemalloc.start()
    size = sum(len(piece) for piece in reader.feed(bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 50_000_000
    assert peak < 4 * PIECE_BYTES
