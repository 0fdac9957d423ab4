"""Files by address arrive whole and as they are, or not at all."""

import asyncio
import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.url_files import FetchedFile, fetched
from datalake_assets.sources.validators import NotModified, Validators
from datalake_assets_tests.sources.fault_server import (
    FaultServer,
    Reply,
    Request,
    Wire,
    answer,
    chunks,
    close_delimited,
    head,
    serving,
)
from datalake_assets_tests.sources.test_http import FAST

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 400
TAG = {"ETag": '"v1"', "Last-Modified": "Fri, 20 Nov 2026 00:00:00 GMT"}
PATH = "/green/green_tripdata_2021-01.csv.gz"


def source(server: FaultServer, **more: object) -> HttpSource:
    return HttpSource("the files", server.url, policy=replace(FAST, body_bytes=10**6), **more)


def broken_after(size: int, body: bytes = BODY, status: int = 200, headers: dict[str, str] = TAG) -> Reply:
    async def reply(_: Request, wire: Wire) -> None:
        await wire.send(head(status, {"Content-Length": str(len(body)), **headers}, None) + body[:size])
        await asyncio.sleep(0.05)
        wire.reset()

    return reply


def rest_of(body: bytes, tag: str = '"v1"') -> Reply:
    """Goes on where the request says; a stranger to ranges would begin anew."""

    async def reply(request: Request, wire: Wire) -> None:
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        span = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", "ETag": tag}
        await wire.send(head(206, {"Content-Length": str(len(body) - start), **span}, None) + body[start:])

    return reply


async def content(server: FaultServer, folder: Path, **more: object) -> tuple[FetchedFile, bytes]:
    async with server, source(server) as opened, fetched(opened, PATH, folder=folder, **more) as found:
        assert isinstance(found, FetchedFile)
        data = found.path.read_bytes()
    return found, data


async def test_a_file_arrives_with_its_hash_and_version_and_is_gone_afterwards(tmp_path: Path) -> None:
    found, data = await content(serving(answer(BODY, content_type="application/gzip", headers=TAG)), tmp_path)
    assert data == BODY
    assert found.bytes == len(BODY)
    assert found.sha256 == hashlib.sha256(BODY).hexdigest()
    assert found.validators == Validators('"v1"', "Fri, 20 Nov 2026 00:00:00 GMT")
    assert PATH in found.pointer
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", [{}, {"Content-Encoding": "gzip"}])
async def test_a_compressed_file_is_left_as_it_is(tmp_path: Path, encoding: dict[str, str]) -> None:
    """Object stores call a .csv.gz gzip-encoded; unpacked on the way, its hash would be that of another file."""
    packed = gzip.compress(b"a,b\n1,2\n")
    server = serving(answer(packed, content_type="text/csv", headers=encoding))
    assert (await content(server, tmp_path))[1] == packed
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_known_version_is_not_sent_again(tmp_path: Path) -> None:
    async def reply(request: Request, wire: Wire) -> None:
        assert request.headers["if-none-match"] == '"v1"'
        await wire.send(head(304, TAG, None))

    server = serving(reply)
    known = Validators('"v1"')
    async with server, source(server) as opened, fetched(opened, PATH, unless=known, folder=tmp_path) as found:
        assert isinstance(found, NotModified)
        assert PATH in found.pointer


async def test_a_broken_file_is_continued_where_it_broke(tmp_path: Path) -> None:
    server = serving(broken_after(90_000), rest_of(BODY))
    assert (await content(server, tmp_path))[1] == BODY
    assert server.requests[1].headers["range"] == "bytes=90000-"
    assert server.requests[1].headers["if-range"] == '"v1"'


async def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    """Halves of two versions glued together would be a file that never was."""
    other = bytes(reversed(BODY))
    server = serving(broken_after(90_000), answer(other, content_type="text/csv", headers={"ETag": '"v2"'}))
    found, data = await content(server, tmp_path)
    assert data == other
    assert found.validators == Validators('"v2"')
    assert found.sha256 == hashlib.sha256(other).hexdigest()


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"v1"'}, {"Last-Modified": TAG["Last-Modified"]}])
async def test_without_proof_that_the_bytes_are_the_same_a_file_is_begun_anew(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    server = serving(broken_after(90_000, headers=headers), answer(BODY, content_type=None))
    assert (await content(server, tmp_path))[1] == BODY
    assert "range" not in server.requests[1].headers


@pytest.mark.parametrize(
    "wrong",
    [
        rest_of(BODY, tag='"v2"'),
        answer(BODY[5:], 206, headers={"Content-Range": "bytes 5-9/10", **TAG}),
        answer(BODY[5:], 206, headers=TAG),
        answer(b"", 416, headers=TAG),
    ],
)
async def test_another_part_than_the_rest_is_not_taken(tmp_path: Path, wrong: Reply) -> None:
    server = serving(broken_after(90_000), wrong, answer(BODY, content_type=None))
    assert (await content(server, tmp_path))[1] == BODY
    assert "range" not in server.requests[2].headers


async def test_a_file_without_a_provable_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransientSourceError, match="may be cut"):
        await content(serving(close_delimited(b"a,b\n1,2\n", {"Content-Type": "text/csv"})), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_chunks_prove_their_end(tmp_path: Path) -> None:
    assert (await content(serving(chunks(b"a,b\n", b"1,2\n")), tmp_path))[1] == b"a,b\n1,2\n"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer(b"<!DOCTYPE html><html><body>Sign in</body></html>", content_type="text/html"), "HTML page"),
        (answer(b"", content_type="text/csv"), "empty body"),
        (answer(b"x", 404), "status 404"),
        (answer(b"x" * 1_100_000, content_type="text/csv"), "larger than"),
        (answer(b"x", 302, headers={"Location": "https://elsewhere.example.edu/x"}), "redirects to elsewhere"),
    ],
)
async def test_what_is_no_file_is_refused(tmp_path: Path, reply: Reply, says: str) -> None:
    with pytest.raises(PermanentSourceError, match=says):
        await content(serving(reply), tmp_path)
    assert list(tmp_path.iterdir()) == []


def redirecting(place: str) -> Reply:
    return answer(b"", 302, headers={"Location": place})


async def test_a_known_host_is_followed_without_credentials(tmp_path: Path) -> None:
    """GitHub answers a release's address with one of its storage, where a key has no business."""
    store = serving(answer(BODY, content_type=None, headers=TAG))
    async with store:
        first = serving(redirecting(f"http://127.0.0.1:{store.port}/stored?token=canary-7f"))
        async with first:
            key = {"x-api-key": SecretStr("canary-key")}
            async with (
                source(first, headers=key, redirect_hosts=["127.0.0.1"]) as opened,
                fetched(opened, PATH, folder=tmp_path) as found,
            ):
                assert isinstance(found, FetchedFile)
                assert found.path.read_bytes() == BODY
                assert "canary" not in repr(found)
    assert first.requests[0].headers["x-api-key"] == "canary-key"
    assert store.requests[0].target == "/stored?token=canary-7f"
    assert "x-api-key" not in store.requests[0].headers


async def test_redirects_without_end_are_left(tmp_path: Path) -> None:
    server = serving(redirecting("/again"))
    with pytest.raises(PermanentSourceError, match="more than 3 times"):
        await content(server, tmp_path)
    assert len(server.requests) == 4


async def test_a_source_that_fails_leaves_no_file(tmp_path: Path) -> None:
    server = serving(broken_after(1000))
    with pytest.raises(SourceError):
        await content(server, tmp_path)
    assert len(server.requests) == 3
    assert list(tmp_path.iterdir()) == []
