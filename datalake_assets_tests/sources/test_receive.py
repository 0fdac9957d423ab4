import asyncio
import gzip
import time
import tracemalloc
from dataclasses import replace

import pytest

from datalake_assets.sources.bodies import BodyStream
from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.policies import MiB
from datalake_assets_tests.sources.fault_server import (
    Request,
    Wire,
    answer,
    chunks,
    close_delimited,
    gzipped,
    head,
    length_lie,
    serving,
    silence,
)
from datalake_assets_tests.sources.test_http import FAST, KEY, ONCE, PERSON, everything_said, source

pytestmark = pytest.mark.anyio


async def whole_body(stream: BodyStream) -> tuple[bytes, bool]:
    return b"".join([piece async for piece in stream]), stream.whole


async def until_it_breaks(stream: BodyStream) -> tuple[list[bytes], str]:
    pieces = []
    try:
        async for piece in stream:
            pieces.append(piece)
    except TransientSourceError as failure:
        return pieces, failure.what
    return pieces, ""


async def test_a_body_is_read_as_it_comes() -> None:
    """A body of gigabytes is never held: its reader has the first piece before the last one is sent."""
    go_on = asyncio.Event()

    async def slowly(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Content-Length": "6"}) + b"[1,")
        await go_on.wait()
        await wire.send(b"23]")

    async def read(stream: BodyStream) -> bytes:
        first = await anext(stream)
        assert not stream.whole
        go_on.set()
        rest = b"".join([piece async for piece in stream])
        assert stream.whole
        assert stream.bytes_in == 6
        assert stream.headers["content-length"] == "6"
        assert (stream.attempt, stream.shown_url) == (1, f"{server.url}/x")
        assert f"attempt 1 of 3, request id {stream.request_id}" in stream.where
        return first + rest

    async with serving(slowly) as server, source(server) as http:
        assert await http.receive("GET", "/x", key="a test", read=read) == b"[1,23]"


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        pytest.param(gzipped(b" " * 70_000 + b"[1]"), True, id="gzip"),
        pytest.param(chunks(b"\xef", b"\xbb\xbf [", b"1]"), True, id="chunks"),
        pytest.param(close_delimited(b" \n[1]"), False, id="unsized"),
    ],
)
async def test_what_was_looked_at_to_tell_the_kind_is_read_again(reply, whole: bool) -> None:  # type: ignore[no-untyped-def]
    async with serving(reply) as server, source(server, replace(FAST, body_bytes=MiB)) as http:
        body, proved = await http.receive("GET", key="a test", read=whole_body)
    assert (body.removeprefix(b"\xef\xbb\xbf").strip(), proved) == (b"[1]", whole)


async def test_a_large_body_does_not_grow_the_memory() -> None:
    async def count(stream: BodyStream) -> int:
        return sum([len(piece) async for piece in stream])

    body = gzipped(b"[" + b" " * 10_000_000 + b"]")
    async with serving(body) as server, source(server, replace(FAST, total_s=20, body_bytes=64 * MiB)) as http:
        tracemalloc.start()
        assert await http.receive("GET", key="a test", read=count) == 10_000_002
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6 * MiB


async def test_a_reader_sees_only_answers_of_the_right_kind() -> None:
    """A reader of lines would count a login page as so many unusable lines."""
    pages = [
        answer(b"", 503),
        answer(b""),
        answer(b"<html>", content_type="text/html"),
    ]
    for page in pages:
        async with serving(page) as server, source(server, ONCE) as http:
            with pytest.raises(SourceError):
                await http.receive("GET", key="a test", read=lambda _: pytest.fail("was read"))


async def test_a_reader_that_asks_for_another_attempt_gets_one() -> None:
    seen = []

    async def read(stream: BodyStream) -> int:
        seen.append((await whole_body(stream))[0])
        if stream.attempt < 3:
            raise TransientSourceError("not good enough")
        return stream.attempt

    async with serving(answer([1]), answer([2]), answer([3])) as server, source(server) as http:
        assert await http.receive("GET", key="a test", read=read) == 3
        assert http.stats.retries == 2
    assert seen == [b"[1]", b"[2]", b"[3]"]


@pytest.mark.parametrize(
    "error", [PermanentSourceError("no use"), OSError(28, "no space left"), TimeoutError(), KeyError()]
)
async def test_what_else_a_reader_raises_is_not_taken_for_a_fault_of_the_source(error: Exception) -> None:
    """A full disk is not cured by asking the source again."""

    async def read(stream: BodyStream) -> None:
        await anext(stream)
        raise error

    async with serving(answer([1])) as server, source(server) as http:
        with pytest.raises(type(error)) as caught:
            await http.receive("GET", key="a test", read=read)
    assert caught.value is error
    assert len(server.requests) == 1


async def test_a_reader_is_told_that_the_body_broke_and_may_keep_what_it_has() -> None:
    async def read(stream: BodyStream) -> list[bytes]:
        pieces, failure = await until_it_breaks(stream)
        assert "ended before the whole answer" in failure
        return pieces

    async with serving(length_lie(b"[1,", 90)) as server, source(server) as http:
        assert await http.receive("GET", key="a test", read=read) == [b"[1,"]
    assert len(server.requests) == 1


async def test_a_reader_is_told_that_the_time_is_over_and_may_keep_what_it_has() -> None:
    async def drip(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Content-Length": "10000"}))
        for _ in range(300):
            await wire.send(b"[")
            await asyncio.sleep(0.01)

    async def read(stream: BodyStream) -> int:
        pieces, failure = await until_it_breaks(stream)
        assert "had not answered in full after 0.3 seconds" in failure
        return len(pieces)

    async with serving(drip) as server, source(server, replace(FAST, total_s=0.3)) as http:
        started = time.monotonic()
        assert await http.receive("GET", key="a test", read=read) > 5
        assert 0.25 < time.monotonic() - started < 1


async def test_a_reader_that_never_ends_is_cancelled() -> None:
    async def read(stream: BodyStream) -> None:
        await whole_body(stream)
        await asyncio.sleep(60)

    async with serving(answer([1])) as server, source(server, replace(ONCE, total_s=0.1)) as http:
        started = time.monotonic()
        with pytest.raises(TransientSourceError, match=r"had not answered in full after 0\.1 seconds"):
            await http.receive("GET", key="a test", read=read)
        assert time.monotonic() - started < 4


async def test_a_reader_that_works_on_a_held_body_does_not_keep_the_source_waiting() -> None:
    """What is done with an answer costs the source nothing: the next question goes out as soon as the body is here."""
    one_at_a_time, asked = replace(FAST, concurrency=1), asyncio.Event()

    async def second(request: Request, wire: Wire) -> None:
        asked.set()
        await answer([2])(request, wire)

    async def read(stream: BodyStream) -> bytes:
        assert await stream.hold(MiB)
        if stream.request_id not in seen:
            seen.append(stream.request_id)
            if len(seen) == 1:
                await asyncio.wait_for(asked.wait(), 2)
        return b"".join([piece async for piece in stream])

    seen: list[str] = []
    async with serving(chunks(b"[1", b",1", b"]"), second) as server, source(server, one_at_a_time) as http:
        both = [http.receive("GET", key="a test", read=read) for _ in range(2)]
        assert sorted(await asyncio.gather(*both)) == [b"[1,1]", b"[2]"]
    assert [request.connection for request in server.requests] == [1, 1]


async def test_a_reader_that_works_on_a_body_on_the_wire_keeps_its_turn() -> None:
    one_at_a_time = replace(FAST, concurrency=1)

    async def read(stream: BodyStream) -> bytes:
        first = await anext(stream)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 1 or first == b"[2]"
        return first + b"".join([piece async for piece in stream])

    async with serving(answer([1]), answer([2])) as server, source(server, one_at_a_time) as http:
        both = [http.receive("GET", key="a test", read=read) for _ in range(2)]
        assert await asyncio.gather(*both) == [b"[1]", b"[2]"]


async def test_no_more_of_a_body_is_held_than_was_asked_for() -> None:
    go_on = asyncio.Event()

    async def slowly(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Content-Length": "7"}) + b"[1,2")
        await go_on.wait()
        await wire.send(b",3]")

    async def read(stream: BodyStream) -> bytes:
        assert not await stream.hold(4)
        assert not stream.whole
        go_on.set()
        return b"".join([piece async for piece in stream])

    async with serving(slowly) as server, source(server) as http:
        assert await http.receive("GET", key="a test", read=read) == b"[1,2,3]"


async def test_a_failure_met_while_a_body_is_held_is_told_behind_what_came_before_it() -> None:
    async def read(stream: BodyStream) -> list[bytes]:
        assert await stream.hold(MiB)
        pieces, failure = await until_it_breaks(stream)
        assert "ended before the whole answer" in failure
        return pieces

    async with serving(length_lie(b"[1,", 90)) as server, source(server) as http:
        assert await http.receive("GET", key="a test", read=read) == [b"[1,"]


async def test_a_body_that_is_not_read_to_its_end_closes_its_connection() -> None:
    """Its bytes would be taken for the beginning of the next answer."""

    async def first_piece(stream: BodyStream) -> bytes:
        return await anext(stream)

    async def endless(_: Request, wire: Wire) -> None:
        await wire.send(head(headers={"Content-Length": "1000"}) + b"[1,")
        await wire.client_left()

    async with serving(endless, answer([2])) as server, source(server) as http:
        assert await http.receive("GET", key="a test", read=first_piece) == b"[1,"
        assert (await http.request("GET", key="a test")).body == b"[2]"
    assert [request.connection for request in server.requests] == [1, 2]


async def test_a_body_read_to_its_end_keeps_its_connection() -> None:
    async with serving(answer([1])) as server, source(server) as http:
        for _ in range(2):
            await http.receive("GET", key="a test", read=whole_body)
    assert [request.connection for request in server.requests] == [1, 1]


async def test_the_first_good_answer_admits_the_others_before_it_is_read() -> None:
    """A batch that streams for minutes must not keep the other slots empty."""
    both = asyncio.Barrier(2)

    async def read(stream: BodyStream) -> None:
        await asyncio.wait_for(both.wait(), 1)
        await whole_body(stream)

    async with serving(answer([1])) as server, source(server) as http:
        await asyncio.gather(*[http.receive("GET", key="a test", read=read) for _ in range(2)])


async def test_a_source_that_is_silent_for_minutes_does_not_keep_the_others_waiting() -> None:
    policy = replace(ONCE, logon_wait_s=0.05, concurrency=3, total_s=0.3)
    async with serving(silence) as server, source(server, policy) as http:
        asked = [http.request("GET", key="a test") for _ in range(3)]
        started = time.monotonic()
        await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - started < 0.6
    assert server.most_at_once == 3


async def test_a_source_that_throttles_is_asked_less_at_once() -> None:
    under_way = []

    async def good(request: Request, wire: Wire) -> None:
        under_way.append(server._at_once)
        await answer(after_s=0.05)(request, wire)

    busy = answer(b"", 429, after_s=0.05)
    policy = replace(FAST, concurrency=4, backoff_base_s=0.0)
    async with serving(answer(), *[busy] * 4, good) as server, source(server, policy) as http:
        await http.request("GET", key="a test")
        await asyncio.gather(*[http.request("GET", key="a test") for _ in range(4)])
    assert server.most_at_once == 4
    assert max(under_way) == 2


async def test_a_source_that_fails_everywhere_is_not_asked_several_times_as_much(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = replace(FAST, retry_floor=3, retry_share=0.2, breaker_failures=100)
    async with serving(answer(b"", 504)) as server, source(server, policy) as http:
        asked = [http.request("GET", key="a test") for _ in range(20)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(failure, TransientSourceError) for failure in failures)
    assert len(server.requests) == 20 + 3 + 4
    assert "Its retries are used up: too many requests fail. Where: a test" in caplog.text


@pytest.mark.parametrize("reply", [answer(b"", 401), answer(b"", 429, headers={"Retry-After": "9999"})])
async def test_a_failure_says_that_the_source_is_stopped(reply) -> None:  # type: ignore[no-untyped-def]
    async with serving(reply) as server, source(server) as http:
        for _ in range(2):
            with pytest.raises(SourceError) as caught:
                await http.request("GET", key="a test")
            assert caught.value.source_stopped


async def test_a_failure_of_one_request_does_not_say_so() -> None:
    async with serving(answer(b"", 400)) as server, source(server) as http:
        with pytest.raises(PermanentSourceError) as caught:
            await http.request("GET", key="a test")
        assert not caught.value.source_stopped


async def test_nothing_of_a_body_hangs_on_an_error() -> None:
    """Some tools print the variables of every frame of a traceback."""

    async def read(stream: BodyStream) -> None:
        first = await anext(stream)
        raise TransientSourceError("broken") if first else AssertionError

    body = f'["{PERSON}"]'.encode()
    packed = answer(gzip.compress(body), headers={"Content-Encoding": "gzip"})
    async with serving(packed) as server, source(server, ONCE) as http:
        with pytest.raises(TransientSourceError) as caught:
            await http.receive("GET", key="a test", personal=[PERSON], read=read)
    said = everything_said(caught.value)
    assert PERSON not in said
    assert KEY not in said
