import asyncio
import gzip
import logging
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from datalake_assets.sources.errors import (
    PermanentSourceError,
    RedirectedError,
    SourceError,
    TransientSourceError,
)
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.policies import (
    COURSE_TERM,
    HAWK_PAGE,
    PEOPLESOFT_IDS,
    PERSON_BATCH,
    PERSON_TERMS,
    SAP_IDS,
    TERM_QUERY,
    VDS_PAGE,
    MiB,
    RequestPolicy,
)
from datalake_assets_tests.sources.fault_server import (
    FaultServer,
    Reply,
    Request,
    Wire,
    answer,
    chunks,
    close_delimited,
    drip,
    gzipped,
    hang_up,
    head,
    length_lie,
    nonsense,
    reset,
    reset_in_body,
    serving,
    silence,
)

pytestmark = pytest.mark.anyio

FAST = RequestPolicy(
    connect_s=0.4,
    read_s=0.4,
    total_s=0.8,
    attempts=3,
    concurrency=4,
    body_bytes=64 * 1024,
    backoff_base_s=0.01,
    backoff_cap_s=0.02,
    retry_after_cap_s=2,
)
ONCE = replace(FAST, attempts=1)

KEY = "canary-key-7f31"
PASSWORD = 'canary-pass"w/ö rd-99'
PERSON = "canary-person-0815"
CANARIES = (KEY, PASSWORD, PERSON, "U12345678", "900-12-3456", "canary-cookie")


def source(server: FaultServer, policy: RequestPolicy = FAST, *, path: str = "", **more: object) -> HttpSource:
    arguments: dict[str, object] = {"headers": {"x-api-key": SecretStr(KEY)}, "policy": policy, **more}
    return HttpSource("the source", server.url + path, **arguments)  # type: ignore[arg-type]


async def failure_of(server: FaultServer, policy: RequestPolicy = FAST) -> SourceError:
    async with source(server, policy) as http:
        with pytest.raises(SourceError) as caught:
            await http.request("GET", "/x", key="a test")
    return caught.value


# -------------------------------------------------------------------------------- answers and their meaning

PERMANENT, TRANSIENT = PermanentSourceError, TransientSourceError
ALL = FAST.attempts

WIRE_ANSWERS: list[tuple[str, Reply, type[SourceError], str, int]] = [
    # H1: cut bodies
    ("length_cut", length_lie(b'{"a":1}', 50), TRANSIENT, "ended before the whole answer", ALL),
    ("chunks_cut", chunks(b'{"a":', ended=False), TRANSIENT, "ended before the whole answer", ALL),
    ("reset_in_body", reset_in_body, TRANSIENT, "connection to the source broke", ALL),
    ("empty_cut", close_delimited(b""), TRANSIENT, "empty body where JSON was asked. The con", ALL),
    # H3: gzip
    ("gzip_without_trailer", gzipped(b'{"a":1}' * 9000, 4), TRANSIENT, "gzip stream ends before", ALL),
    ("gzip_half", gzipped(b'{"a":1}' * 9000, 60), TRANSIENT, "gzip stream ends before", ALL),
    ("gzip_lie", answer(b"{}", headers={"Content-Encoding": "gzip"}), PERMANENT, "its bytes are not", 1),
    ("gzip_flipped", answer(
        gzip.compress(b'{"a":1}')[:-8] + b"\0" * 8, headers={"Content-Encoding": "gzip"}
    ), PERMANENT, "its bytes are not", 1),
    ("brotli", answer(b"{}", headers={"Content-Encoding": "br"}), PERMANENT, "encoded as 'br'", 1),
    # H4: something else with status 200
    ("html", answer(b"<!DOCTYPE html><p>x", content_type="text/html"), PERMANENT, "HTML page where JSON", 1),
    ("html_as_json", answer(b"\n <html><body>x"), PERMANENT, 'It begins: "<html><body>x"', 1),
    ("xml", answer(b"<?xml version='1.0'?><x/>", content_type="text/xml"), PERMANENT, "XML where JSON", 1),
    ("empty", answer(b""), PERMANENT, "empty body where JSON was asked", 1),
    ("blank", answer(b" \r\n"), PERMANENT, "empty body where JSON was asked", 1),
    ("text", answer(b"Service ok", content_type="text/plain"), PERMANENT, "not begin like JSON", 1),
    ("picture", answer(b"{}", content_type="image/png"), PERMANENT, "calls 'image/png' where JSON", 1),
    ("no_content", answer(b"", 204), PERMANENT, "status 204", 1),
    ("partial_content", answer(b"{}", 206), PERMANENT, "status 206", 1),
    # H8: silence and hang-ups
    ("hang_up", hang_up, TRANSIENT, "ended before the whole answer", ALL),
    ("reset", reset, TRANSIENT, "connection to the source broke", ALL),
    ("not_http", nonsense, TRANSIENT, "ended before the whole answer", ALL),
    # H13: size
    ("too_large", answer(b"[" + b"1," * 40_000 + b"1]"), PERMANENT, "larger than the 65536 bytes", 1),
    ("too_large_chunked", chunks(b"[", *[b"1," * 5000] * 9), PERMANENT, "larger than the 65536 bytes", 1),
    ("absurd_length", length_lie(b"{}", 10**17), PERMANENT, "larger than the 65536 bytes", 1),
    ("gzip_bomb", gzipped(b"[" + b" " * 80_000_000 + b"]"), PERMANENT, "larger than the 65536 bytes", 1),
    # statuses
    *[(f"status_{s}", answer(b"{}", s), PERMANENT, f"with status {s}", 1)
      for s in (400, 401, 403, 404, 405, 413, 415, 422, 501, 505)],
    *[(f"status_{s}", answer(b"{}", s), TRANSIENT, f"with status {s}", ALL)
      for s in (408, 425, 429, 502, 503, 504)],
    *[(f"status_{s}", answer(b"", s, headers={"Location": "https://other.example/p?k=1"}), RedirectedError,
       "redirects to other.example;", 1) for s in (301, 302, 303, 307, 308)],
    ("not_modified", answer(b"", 304), PERMANENT, "status 304", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "kind", "sentence", "requests"),
    [pytest.param(*case[1:], id=case[0]) for case in WIRE_ANSWERS],
)
async def test_what_a_wire_answer_means(reply: Reply, kind: type[SourceError], sentence: str, requests: int) -> None:
    async with serving(reply) as server:
        failure = await failure_of(server, replace(FAST, attempts=3))
    assert type(failure) is kind
    assert sentence in failure.what
    assert "a test, GET http://127.0.0.1" in failure.where
    assert failure.todo
    assert len(server.requests) == requests


async def test_a_sound_answer_is_returned_with_its_cost() -> None:
    async with serving(answer({"a": 1})) as server, source(server) as http:
        got = await http.request("GET", "/x", key="a test")
        assert (got.status, got.body, got.attempts, got.bytes_in) == (200, b'{"a": 1}', 1, 8)
        assert got.whole
        assert (http.stats.requests, http.stats.retries, http.stats.bytes_in) == (1, 0, 8)
        assert 0 < got.seconds < 1


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        pytest.param(answer(b"[1]"), True, id="length"),
        pytest.param(chunks(b"[", b"1]"), True, id="chunks"),
        pytest.param(gzipped(b"[1]"), True, id="gzip"),
        pytest.param(close_delimited(gzip.compress(b"[1]"), {"Content-Encoding": "gzip"}), True, id="gzip_unsized"),
        pytest.param(close_delimited(b"[1]"), False, id="unsized"),
    ],
)
async def test_an_answer_says_whether_its_end_is_proved(reply: Reply, whole: bool) -> None:
    """H2: a body that ends with the connection may be cut; nobody but its reader can tell."""
    async with serving(reply) as server, source(server) as http:
        got = await http.request("GET", key="a test")
    assert (got.body, got.whole) == (b"[1]", whole)


async def test_a_gzip_answer_of_several_members_is_read_to_its_end() -> None:
    packed = gzip.compress(b"[1,") + gzip.compress(b"2]")
    async with (
        serving(answer(packed, headers={"Content-Encoding": "gzip"})) as server,
        source(server) as http,
    ):
        assert (await http.request("GET", key="a test")).body == b"[1,2]"
        assert http.stats.bytes_in == len(packed)


async def test_a_gzip_bomb_does_not_grow_the_memory() -> None:
    """H13: 80 MB from 78 KB must be stopped while unpacking, not afterwards."""
    bomb = gzipped(b"[" + b" " * 80_000_000 + b"]")
    async with serving(bomb) as server, source(server, replace(ONCE, body_bytes=2 * MiB)) as http:
        tracemalloc.start()
        with pytest.raises(PermanentSourceError, match="larger than"):
            await http.request("GET", key="a test")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 6 * MiB


async def test_a_request_says_who_asks_and_what_it_takes() -> None:
    async with serving(answer()) as server, source(server, user_agent="lake/1") as http:
        got = await http.request("POST", "/x", params={"a": "1,2 3"}, json={"q": ["ü"]}, key="a test")
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/x?a=1,2%203")
    assert request.body == '{"q":["ü"]}'.encode()
    assert request.headers["user-agent"] == "lake/1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "gzip"
    assert request.headers["x-request-id"] == f"{got.request_id}-1"
    assert request.headers["x-api-key"] == KEY


async def test_a_get_carries_no_content_type() -> None:
    """Hawk hashes the content type; one that nobody meant breaks the signature."""
    async with serving(answer()) as server, source(server) as http:
        await http.request("GET", key="a test")
    assert "content-type" not in server.requests[0].headers


# -------------------------------------------------------------------------------------------------- retries


async def test_a_truncated_body_is_retried_and_nothing_of_it_is_kept() -> None:
    async with serving(length_lie(b'[{"cut":1},', 90), answer([1])) as server, source(server) as http:
        got = await http.request("GET", key="a test")
        assert (got.body, got.attempts) == (b"[1]", 2)
        assert (http.stats.requests, http.stats.retries) == (2, 1)
    first, second = (request.headers["x-request-id"] for request in server.requests)
    assert (first, second) == (f"{got.request_id}-1", f"{got.request_id}-2")


async def test_every_retry_is_logged_once_and_the_last_failure_is_not(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Retries that leave no trace hide a source that is failing; stamina's own words would double each one."""
    busy = answer({"message": f"busy, {PERSON}"}, 503)
    async with serving(busy) as server, source(server) as http:
        with pytest.raises(TransientSourceError):
            await http.request("GET", key="a test", personal=[PERSON])
    told = [record.getMessage() for record in caplog.records if record.name == "datalake_assets.sources"]
    assert len(told) == FAST.attempts - 1
    for number, text in enumerate(told, start=1):
        assert "the source answered with status 503. It said:" in text
        assert "It is asked again in 0.0 s. Where: a test, GET" in text
        assert f"attempt {number} of 3, request id" in text
        assert PERSON not in text
    assert [record for record in caplog.records if "stamina" in record.name] == []
    assert "stamina" not in "".join(capfd.readouterr())


async def test_a_failure_that_is_not_retried_is_not_logged_as_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(answer(b"", 404)) as server, source(server) as http:
        with pytest.raises(PermanentSourceError):
            await http.request("GET", key="a test")
    assert [record for record in caplog.records if record.name == "datalake_assets.sources"] == []


async def test_a_post_whose_answer_was_lost_is_asked_again() -> None:
    """H18: every call is a read, so a second POST is safe."""
    async with serving(hang_up, answer([1])) as server, source(server) as http:
        got = await http.request("POST", json={"query": "A"}, key="a test")
    assert got.body == b"[1]"
    assert [request.body for request in server.requests] == [b'{"query":"A"}'] * 2


async def test_a_status_500_is_retried_twice_at_most() -> None:
    async with serving(answer(b"", 500)) as server:
        failure = await failure_of(server, replace(FAST, attempts=9, max_500=2))
    assert isinstance(failure, TransientSourceError)
    assert len(server.requests) == 3


async def test_other_failures_do_not_use_up_the_retries_of_status_500() -> None:
    replies = [answer(b"", 503), answer(b"", 500), answer(b"", 503), answer(b"", 500), answer([1])]
    async with serving(*replies) as server, source(server, replace(FAST, attempts=5)) as http:
        assert (await http.request("GET", key="a test")).attempts == 5


async def test_a_source_that_is_down_is_transient() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    http = HttpSource("the source", f"http://127.0.0.1:{port}", policy=FAST)
    async with http:
        with pytest.raises(TransientSourceError, match="could not be reached"):
            await http.request("GET", key="a test")
    assert http.stats.requests == FAST.attempts


def the_name_service_answers() -> bool:
    try:
        socket.getaddrinfo("nowhere.invalid", 443)
    except socket.gaierror as error:
        return error.errno != socket.EAI_AGAIN
    return False


async def test_a_host_name_that_does_not_exist_is_permanent() -> None:
    if not the_name_service_answers():
        pytest.skip("the name service of this machine is not there to deny the name")
    policy = replace(FAST, connect_s=5, total_s=5)
    async with HttpSource("the source", "https://nowhere.invalid", policy=policy) as http:
        with pytest.raises(PermanentSourceError, match=r"name of the source is not known: nowhere\.invalid"):
            await http.request("GET", key="a test")
        assert http.stats.requests == 1


@pytest.mark.parametrize("asked", ["1", format_datetime(datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC), usegmt=True)])
async def test_retry_after_is_a_minimum(asked: str) -> None:
    headers = {"Retry-After": asked, "Date": "Tue, 01 Jan 2030 00:00:00 GMT"}
    async with serving(answer(b"", 429, headers=headers), answer()) as server, source(server) as http:
        assert (await http.request("GET", key="a test")).seconds >= 1


@pytest.mark.parametrize(
    "asked", ["soon", "-5", "1.5", "", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 99 Foo 2030 99:99:99 GMT"]
)
async def test_a_retry_after_that_is_past_or_unreadable_does_not_delay(asked: str) -> None:
    async with (
        serving(answer(b"", 503, headers={"Retry-After": asked}), answer()) as server,
        source(server) as http,
    ):
        assert (await http.request("GET", key="a test")).seconds < 0.3


@pytest.mark.parametrize(
    "asked",
    [
        "3",
        "86400",
        pytest.param("9" * 5000, id="5,000 digits"),
        # An id of its own: with the moment in it, two workers would collect different tests.
        pytest.param(format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), id="tomorrow"),
    ],
)
async def test_a_retry_after_beyond_the_cap_fails_the_source(asked: str) -> None:
    """H5: a daily quota must end the load with that reason, not keep it asleep until midnight."""
    patient = replace(FAST, backoff_base_s=60, backoff_cap_s=60)
    async with serving(answer(b"", 429, headers={"Retry-After": asked})) as server, source(server, patient) as http:
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(TransientSourceError, match="asked to be left alone for") as caught:
                await http.request("GET", key="a test")
        assert time.monotonic() - started < 0.5
        assert "not asked, because an earlier request stopped it" in caught.value.what
    assert len(server.requests) == 1


async def test_waiting_for_a_retry_leaves_the_slot_to_others() -> None:
    """Fault P4: one bad key that slept inside the semaphore blocked a slot for 400 seconds."""
    order = []

    async def ask(http: HttpSource, name: str) -> None:
        await http.request("GET", f"/{name}", key=name)
        order.append(name)

    replies = [answer(), answer(b"", 503, headers={"Retry-After": "1"}), answer(), answer()]
    async with serving(*replies) as server, source(server, replace(FAST, concurrency=1)) as http:
        await http.request("GET", key="the first, to be admitted")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(http, "throttled"))
            await asyncio.sleep(0.1)
            tasks.create_task(ask(http, "quick"))
    assert order == ["quick", "throttled"]


async def test_no_more_requests_than_allowed_are_under_way_and_waiting_costs_no_time() -> None:
    """The deadline is that of a request on the wire, not that of a queue."""
    async with (
        serving(answer(after_s=0.2)) as server,
        source(server, replace(FAST, concurrency=3)) as http,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(16):
            tasks.create_task(http.request("GET", key=f"number {number}"))
    assert server.most_at_once == 3
    assert len(server.requests) == 16


@pytest.mark.parametrize("reply", [silence, answer(b"", 503, headers={"Retry-After": "2"})])
async def test_a_cancelled_request_ends_at_once_and_is_not_repeated(reply: Reply) -> None:
    async with serving(reply) as server, source(server) as http:
        task = asyncio.create_task(http.request("GET", key="a test"))
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
    assert len(server.requests) == 1


# ------------------------------------------------------------------------------------------------ deadlines


async def test_a_slow_drip_ends_at_the_deadline() -> None:
    """H7: httpx's own timeouts are per read; one byte every so often never trips them."""
    async with serving(drip(b"[" + b" " * 500 + b"]", 0.02)) as server:
        started = time.monotonic()
        failure = await failure_of(server, replace(ONCE, total_s=0.5))
        took = time.monotonic() - started
    assert isinstance(failure, TransientSourceError)
    assert "had not answered in full after 0.5 seconds" in failure.what
    assert 0.45 < took < 1


async def test_silence_ends_at_the_read_timeout() -> None:
    async with serving(silence) as server:
        started = time.monotonic()
        failure = await failure_of(server, replace(ONCE, read_s=0.3, total_s=5))
    assert isinstance(failure, TransientSourceError)
    assert "silent for too long" in failure.what
    assert time.monotonic() - started < 1


async def test_a_connection_that_never_comes_about_ends_at_the_connect_timeout() -> None:
    """H8: a listener whose backlog is full drops the SYN, as a black hole does."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with HttpSource("the source", address, policy=replace(ONCE, total_s=5)) as http:
            started = time.monotonic()
            with pytest.raises(TransientSourceError, match=r"No connection .* came about"):
                await http.request("GET", key="a test")
    assert time.monotonic() - started < 1


async def test_a_refused_logon_whose_page_drips_is_still_a_refused_logon() -> None:
    """A 401 taken for a timeout would be repeated until the account is locked."""
    async with serving(drip(b"x" * 1000, 0.05, status=401)) as server:
        failure = await failure_of(server, replace(FAST, total_s=0.3))
    assert isinstance(failure, PermanentSourceError)
    assert failure.status == 401
    assert len(server.requests) == 1


# ----------------------------------------------------------------------------------- logons and the breaker


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_password_costs_one_logon_however_many_ask(status: int) -> None:
    """H6: repeated bad logons can lock a PeopleSoft account."""
    async with (
        serving(answer({"message": "Forbidden"}, status, after_s=0.05)) as server,
        source(server) as http,
    ):
        asked = [http.request("GET", key=f"number {number}") for number in range(10)]
        failures = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(PermanentSourceError, match="not asked, because an earlier request stopped it"):
            await http.request("GET", key="later")
    assert len(server.requests) == 1
    assert all(isinstance(failure, PermanentSourceError) for failure in failures)
    assert sum("refused the logon" in str(failure) for failure in failures) == 10
    assert {failure.status for failure in failures if isinstance(failure, SourceError)} == {status}


async def test_nobody_else_tries_while_the_page_of_a_refused_logon_is_read() -> None:
    async with serving(answer(), drip(b"x" * 500, 0.02, status=401)) as server, source(server) as http:
        await http.request("GET", key="a test")
        refused = asyncio.create_task(http.request("GET", key="a test"))
        await asyncio.sleep(0.15)
        with pytest.raises(PermanentSourceError, match="not asked"):
            await http.request("GET", key="a test")
        with pytest.raises(PermanentSourceError, match=r"status 401\. It said: xxx"):
            await refused
    assert len(server.requests) == 2


async def test_a_logon_that_expires_half_way_stops_the_source() -> None:
    async with serving(answer(), answer(b"", 401)) as server, source(server) as http:
        await http.request("GET", key="a test")
        for _ in range(3):
            with pytest.raises(PermanentSourceError, match="refused the logon with status 401"):
                await http.request("GET", key="a test")
    assert len(server.requests) == 2


async def test_a_login_page_stops_the_source() -> None:
    page = answer(b'<html><form><input TYPE="password"></form>', content_type="text/html")
    async with serving(page) as server, source(server) as http:
        for _ in range(2):
            with pytest.raises(PermanentSourceError, match="HTML page where JSON was asked"):
                await http.request("GET", key="a test")
    assert len(server.requests) == 1


async def test_failures_in_a_row_open_the_breaker() -> None:
    policy = replace(FAST, attempts=2, breaker_failures=3)
    async with serving(answer(b"", 503)) as server, source(server, policy) as http:
        for _ in range(3):
            with pytest.raises(TransientSourceError, match="status 503"):
                await http.request("GET", key="a test")
        with pytest.raises(TransientSourceError, match="3 requests in a row had failed, the last one so"):
            await http.request("GET", key="a test")
    assert len(server.requests) == 6


async def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    policy = replace(ONCE, breaker_failures=2)
    async with serving(*[answer(b"", 404), answer()] * 3) as server, source(server, policy) as http:
        for _ in range(3):
            with pytest.raises(PermanentSourceError, match="status 404"):
                await http.request("GET", key="a test")
            await http.request("GET", key="a test")
    assert len(server.requests) == 6


async def test_a_stopped_source_does_not_finish_the_retries_of_others() -> None:
    replies = [answer(), answer(b"", 503, headers={"Retry-After": "1"}), answer(b"", 401)]
    async with serving(*replies) as server, source(server) as http:
        await http.request("GET", key="a test")
        throttled = asyncio.create_task(http.request("GET", key="a test"))
        await asyncio.sleep(0.1)
        with pytest.raises(PermanentSourceError):
            await http.request("GET", key="a test")
        with pytest.raises(PermanentSourceError, match="not asked"):
            await throttled
    assert len(server.requests) == 3


# ------------------------------------------------------------------------------------ where requests may go


async def test_a_redirect_is_not_followed_and_the_key_stays_at_home() -> None:
    """H14, fault X2: httpx sends x-api-key along to another host, and turns a POST into a GET."""
    async with serving(answer()) as trap:
        away = {"Location": f"http://localhost:{trap.port}/steal?token={KEY}"}
        async with serving(answer(b"", 302, headers=away)) as server, source(server) as http:
            with pytest.raises(PermanentSourceError, match="redirects to localhost;") as caught:
                await http.request("POST", json={}, key="a test")
    assert trap.requests == []
    assert "steal" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:9/x",
        "https://other.example/x",
        "@other.example/x",
        "x",
        "/ü",
        "http://u:p@127.0.0.1/",
    ],
)
async def test_an_address_elsewhere_is_never_asked(path: str) -> None:
    async with serving(answer()) as server, source(server) as http:
        with pytest.raises(PermanentSourceError, match=r"pointed to another place|is no path"):
            await http.request("GET", path, key="a test")
    assert server.requests == []


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("", "", "/"),
        ("/api/execute", "", "/api/execute"),
        ("/api/execute?v=1", "", "/api/execute?v=1&q=2"),
        ("/api/", "/x", "/api/x"),
        ("/api", "/x?v=1", "/api/x?v=1&q=2"),
    ],
)
async def test_paths_are_appended_to_the_base_address(base: str, path: str, target: str) -> None:
    async with serving(answer()) as server, source(server, path=base) as http:
        await http.request("GET", path, params={"q": "2"} if "q=2" in target else None, key="a test")
    assert server.requests[0].target == target


async def test_an_address_with_a_password_is_never_asked() -> None:
    async with serving(answer()) as server, source(server) as http:
        with pytest.raises(PermanentSourceError, match="pointed to another place") as caught:
            await http.request("GET", server.url.replace("://", "://user:canary-pass@"), key="a test")
    assert server.requests == []
    assert "canary" not in str(caught.value)


async def test_an_absolute_address_on_the_same_origin_is_asked() -> None:
    async with serving(answer()) as server, source(server, path="/api") as http:
        await http.request("GET", f"{server.url}/next?cursor=1", key="a test")
    assert server.requests[0].target == "/next?cursor=1"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://cs.example.edu/api", "begins with http://; credentials would cross the network"),
        ("http://10.0.0.1", "begins with http://"),
        ("http://127.0.0.1.example.edu", "begins with http://"),
        ("https://user:canary-pass@cs.example.edu", "contains a user or a password"),
        ("ftp://cs.example.edu", "must begin with https://"),
        ("cs.example.edu", "must begin with https://"),
        ("https://", "must begin with https://"),
        ("https://cs.example.edu:port", "is not an address"),
    ],
)
def test_an_address_that_must_not_be_used_is_refused(address: str, sentence: str) -> None:
    with pytest.raises(PermanentSourceError, match=sentence) as caught:
        HttpSource("the source", address, policy=FAST)
    assert "canary-pass" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://localhost:1", "http://127.8.8.8", "http://[::1]:9", "https://x.example"])
def test_plain_http_is_for_loopback(address: str) -> None:
    assert "the source" in repr(HttpSource("the source", address, policy=FAST))


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer()) as proxy, serving(answer([1])) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with source(server) as http:
            assert (await http.request("GET", key="a test")).body == b"[1]"
    assert proxy.requests == []


async def test_cookies_are_not_sent_back() -> None:
    cookie = {"Set-Cookie": "PS_TOKEN=canary-cookie; Path=/"}
    async with serving(answer(headers=cookie)) as server, source(server) as http:
        for _ in range(2):
            await http.request("GET", key="a test")
    assert "cookie" not in server.requests[1].headers
    assert server.requests[1].connection == 1, "the connection is kept, the cookie is not"


# ------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def tls_server(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_private_authority_is_trusted_through_its_bundle(authority: trustme.CA, ca_bundle: Path) -> None:
    tls = tls_server(authority.issue_cert("127.0.0.1"))
    async with serving(answer([1]), tls=tls) as server, source(server, ca_bundle=ca_bundle) as http:
        assert (await http.request("GET", key="a test")).body == b"[1]"


BAD_CERTIFICATES = {
    "expired": ("127.0.0.1", datetime(2020, 1, 1, tzinfo=UTC), True, "has expired"),
    "wrong_name": ("other.example", None, True, "IP address mismatch"),
    "unknown_authority": ("127.0.0.1", None, False, "unable to get local issuer|self.signed"),
}


@pytest.mark.parametrize("case", BAD_CERTIFICATES)
async def test_a_bad_certificate_is_refused_and_not_retried(authority: trustme.CA, ca_bundle: Path, case: str) -> None:
    """H15, fault X1: nothing is sent to a server that cannot prove who it is."""
    identity, not_after, trusted, sentence = BAD_CERTIFICATES[case]
    tls = tls_server(authority.issue_cert(identity, not_after=not_after))
    bundle = ca_bundle if trusted else None
    async with serving(answer(), tls=tls) as server, source(server, ca_bundle=bundle) as http:
        with pytest.raises(PermanentSourceError, match=f"TLS connection.*({sentence})"):
            await http.request("GET", key="a test")
        assert http.stats.requests == 1
    assert server.requests == []


@contextmanager
def server_of_tls_1_1(certificate: trustme.LeafCert) -> Iterator[int]:
    """A blocking server in a thread: unlike asyncio's, it sends the alert that real servers send."""
    tls = tls_server(certificate)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        tls.minimum_version = ssl.TLSVersion.TLSv1
        tls.maximum_version = ssl.TLSVersion.TLSv1_1

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError), tls.wrap_socket(connection, server_side=True) as wrapped:
                    wrapped.sendall(head(headers={"Content-Length": "2"}) + b"{}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=5)


def version_spoken_to_a_lax_client(port: int, ca_bundle: Path) -> str | None:
    tls = ssl.create_default_context(cafile=ca_bundle)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        tls.minimum_version = ssl.TLSVersion.TLSv1
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        tls.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped,
    ):
        return wrapped.version()


@pytest.mark.skipif(not ssl.HAS_TLSv1_1, reason="this OpenSSL cannot play a server of TLS 1.1")
async def test_tls_below_1_2_is_refused(authority: trustme.CA, ca_bundle: Path) -> None:
    with server_of_tls_1_1(authority.issue_cert("127.0.0.1")) as port:
        assert version_spoken_to_a_lax_client(port, ca_bundle) == "TLSv1.1"
        address = f"https://127.0.0.1:{port}"
        async with HttpSource("the source", address, policy=FAST, ca_bundle=ca_bundle) as http:
            with pytest.raises(PermanentSourceError, match=r"TLS connection.*PROTOCOL"):
                await http.request("GET", key="a test")
            assert http.stats.requests == 1


async def test_a_server_that_speaks_plain_http_behind_https_is_refused() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with HttpSource("the source", address, policy=FAST) as http:
            with pytest.raises(PermanentSourceError, match="TLS connection to the source was refused"):
                await http.request("GET", key="a test")


async def test_a_tls_connection_cut_in_the_body_is_retried(authority: trustme.CA, ca_bundle: Path) -> None:
    tls = tls_server(authority.issue_cert("127.0.0.1"))
    async with (
        serving(reset_in_body, answer([1]), tls=tls) as server,
        source(server, ca_bundle=ca_bundle) as http,
    ):
        assert (await http.request("GET", key="a test")).attempts == 2


async def test_certificates_of_the_environment_are_ignored(
    authority: trustme.CA, ca_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_bundle))
    tls = tls_server(authority.issue_cert("127.0.0.1"))
    async with serving(answer(), tls=tls) as server, source(server) as http:
        with pytest.raises(PermanentSourceError, match="TLS connection to the source was refused"):
            await http.request("GET", key="a test")


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_ca_bundle_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PermanentSourceError, match=r"CA bundle of the source cannot be read.*ca\.pem"):
        async with HttpSource("the source", "https://x.example", policy=FAST, ca_bundle=path):
            pass
    assert logging.getLogger("httpcore.http11").filters == []


# -------------------------------------------------------------------------------------------------- secrets


def everything_said(error: BaseException) -> str:
    """All that a log, a UI or an error tracker could show of an exception, local variables included."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [
        f"{name} = {value}"
        for frame in shown.stack
        if Path(frame.filename).name == "http.py"
        for name, value in (frame.locals or {}).items()
        if name not in {"params", "personal", "key", "json", "data", "body"}  # what the caller handed in
    ]
    return "\n".join([str(error), repr(error), *traceback.format_exception(error), *frames])


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    # When Dagster migrates its storage in this process, it disables the loggers that are there already.
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", False)
    caplog.set_level(logging.DEBUG)
    return caplog


TELLTALES: list[Reply] = [
    answer(f"no such person {PERSON} (U12345678, 900-12-3456) for {KEY}".encode(), 404),
    answer({"message": "bad key", "x-api-key": KEY, "password": PASSWORD}, 401),
    answer(f"Authorization: Basic {PASSWORD}".encode(), 503),
    answer(b"", 302, headers={"Location": f"http://x.example/{PERSON}"}),
    answer(f"<html>{PERSON} {KEY}".encode(), content_type="text/html"),
    answer(f"{PERSON}".encode(), content_type="text/plain"),
    answer(b"{}", content_type=f"x/{PERSON}"),
    length_lie(f"[{PERSON!r}".encode(), 500),
    hang_up,
    silence,
]


@pytest.mark.parametrize("number", range(len(TELLTALES)))
async def test_nothing_secret_or_personal_is_said_or_logged(
    number: int, everything_logged: pytest.LogCaptureFixture
) -> None:
    """O4, fault X3: canaries in the request, in the answer and in the address appear in no text."""

    async def with_cookie(request: Request, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await TELLTALES[number](request, wire)

    async with (
        serving(with_cookie) as server,
        source(server, replace(FAST, attempts=2), basic=("loader", SecretStr(PASSWORD))) as http,
    ):
        with pytest.raises(SourceError) as caught:
            await http.request(
                "GET",
                "/x",
                params={"prompt_fieldvalue": f"U12345678,{PERSON}"},
                key=PERSON,
                personal=[PERSON],
            )
        said = everything_said(caught.value) + everything_logged.text + repr(http) + repr(http.redactor)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "prompt_fieldvalue=***" in said
    token = server.requests[0].headers["authorization"].removeprefix("Basic ")
    assert [canary for canary in (*CANARIES, token) if canary in said] == []


async def test_the_log_of_a_good_answer_holds_nothing_secret(
    everything_logged: pytest.LogCaptureFixture,
) -> None:
    """httpcore logs every header of an answer."""
    reply = answer({"id": PERSON}, headers={"Set-Cookie": "s=canary-cookie", "X-Echo": f"a {KEY} b"})
    async with serving(reply) as server, source(server) as http:
        got = await http.request("GET", params={"prompt_fieldvalue": "U12345678"}, key="a test")
    assert "prompt_fieldvalue=***" in everything_logged.text
    assert "receive_response_headers.complete" in everything_logged.text
    assert [canary for canary in CANARIES if canary in everything_logged.text + repr(got)] == []


async def test_an_error_body_is_quoted_in_part_and_on_one_line() -> None:
    body = b"first line\r\nsecond\x1b[31m " + b"x" * 5000
    async with serving(answer(body, 404)) as server:
        failure = await failure_of(server)
    assert "It said: first line second [31m xxx" in failure.what
    assert len(failure.what) < 600


async def test_an_error_body_that_is_a_bomb_is_read_in_part_only() -> None:
    bomb = answer(gzip.compress(b"x" * 50_000_000), 404, headers={"Content-Encoding": "gzip"})
    async with serving(bomb) as server:
        tracemalloc.start()
        failure = await failure_of(server)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "status 404. It said: xxx" in failure.what
    assert peak < 3 * MiB


async def test_a_broken_error_body_takes_nothing_from_the_status() -> None:
    async def cut(_: Request, wire: Wire) -> None:
        await wire.send(head(403, {"Content-Length": "50"}))
        wire.reset()

    async with serving(cut) as server:
        failure = await failure_of(server)
    assert "refused the logon with status 403. Its body could not be read" in failure.what


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nX-Evil: 1", f" {KEY}", "", "ключ-canary"])
def test_a_key_that_headers_cannot_carry_is_refused_without_being_shown(key: str) -> None:
    """The HTTP library's own refusal quotes the value."""
    with pytest.raises(PermanentSourceError, match="value for the header x-api-key of the source") as caught:
        HttpSource("the source", "https://x.example", policy=FAST, headers={"x-api-key": SecretStr(key)})
    assert "canary" not in everything_said(caught.value)


def test_a_user_that_basic_authentication_cannot_carry_is_refused() -> None:
    with pytest.raises(PermanentSourceError, match="user of the source contains a colon"):
        HttpSource("the source", "https://x.example", policy=FAST, basic=("a:b", SecretStr("p")))


async def test_log_filters_are_taken_off_again() -> None:
    logger = logging.getLogger("httpcore.http11")
    before = list(logger.filters)
    async with HttpSource("the source", "https://x.example", policy=FAST):
        assert len(logger.filters) == len(before) + 1
    assert logger.filters == before


async def test_a_source_that_is_not_open_says_so() -> None:
    http = HttpSource("the source", "https://x.example", policy=FAST)
    with pytest.raises(PermanentSourceError, match="is not open; use it with `async with`"):
        await http.request("GET", key="a test")


# ------------------------------------------------------------------------------------------------- policies


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"connect_s": 0}, "connect_s is 0; a request needs some time"),
        ({"total_s": -1}, "total_s is -1"),
        ({"attempts": 0}, "attempts is 0; it must be at least 1"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"body_bytes": 0}, "body_bytes is 0"),
        ({"retry_after_cap_s": -1}, "retry_after_cap_s is -1; it cannot be negative"),
    ],
)
def test_a_policy_refuses_nonsense(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(FAST, **change)


def test_the_policies_are_those_of_the_table() -> None:
    table = {
        "TERM_QUERY": (10, 60, 120, 4, 1, 16),
        "PEOPLESOFT_IDS": (10, 120, 300, 4, 5, 256),
        "SAP_IDS": (10, 120, 300, 4, 5, 256),
        "VDS_PAGE": (10, 120, 300, 4, 5, 64),
        "PERSON_TERMS": (5, 30, 60, 5, 10, 4),
        "COURSE_TERM": (10, 300, 1200, 3, 2, 2048),
        "PERSON_BATCH": (10, 600, 1200, 4, 5, 4096),
        "HAWK_PAGE": (10, 60, 120, 4, 1, 64),
    }
    policies = {
        "TERM_QUERY": TERM_QUERY,
        "PEOPLESOFT_IDS": PEOPLESOFT_IDS,
        "SAP_IDS": SAP_IDS,
        "VDS_PAGE": VDS_PAGE,
        "PERSON_TERMS": PERSON_TERMS,
        "COURSE_TERM": COURSE_TERM,
        "PERSON_BATCH": PERSON_BATCH,
        "HAWK_PAGE": HAWK_PAGE,
    }
    assert {
        name: (p.connect_s, p.read_s, p.total_s, p.attempts, p.concurrency, p.body_bytes // MiB)
        for name, p in policies.items()
    } == table
