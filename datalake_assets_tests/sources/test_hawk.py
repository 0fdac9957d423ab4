"""Hawk against mohawk, an implementation of somebody else: what we sign it accepts, what it signs we believe."""

import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import mohawk
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError
from datalake_assets.sources.hawk import Hawk, payload_hash
from datalake_assets.sources.http import HttpSource
from datalake_assets_tests.sources.fault_server import Reply, Request, Wire, answer, head, serving
from datalake_assets_tests.sources.test_http import FAST, ONCE

KEY = "canary-hawk-key-3b"
CREDENTIALS = {"id": "lake", "key": KEY, "algorithm": "sha256"}
HAWK = Hawk("lake", SecretStr(KEY))
SCHEMES = st.sampled_from(["http", "https"])
HOSTS = st.sampled_from(["api.example.edu", "API.Example.EDU", "127.0.0.1:8090", "api.example.edu:443", "[::1]:81"])
PATHS = st.sampled_from(["", "/", "/v4/dataset/omis-dataset", "/a%3Db", "/ü".encode().decode("latin-1")])
QUERIES = st.sampled_from(["", "cursor=cD0y&page_size=10", "page_size=10&cursor=cD0y", "a=%3D", "a==", "q"])


def receiver(authorization: str, url: str, method: str = "GET", **more: object) -> mohawk.Receiver:
    return mohawk.Receiver(
        lambda _: dict(CREDENTIALS),
        authorization,
        url,
        method,
        content=more.pop("content", b""),
        content_type=more.pop("content_type", ""),
        seen_nonce=lambda *_: False,
        **more,
    )


@given(SCHEMES, HOSTS, PATHS, QUERIES, st.sampled_from(["GET", "POST"]), st.binary(max_size=40))
def test_what_is_signed_is_accepted_and_what_is_answered_believed(
    scheme: str, host: str, path: str, query: str, method: str, body: bytes
) -> None:
    url = f"{scheme}://{host}{path or '/'}" + (f"?{query}" if query else "")
    signed = HAWK.sign(method, url, body, "application/json; charset=utf-8")
    server = receiver(signed.headers["Authorization"], url, method, content=body, content_type="application/json")
    server.respond(content=body, content_type="text/plain", ext="some thing")
    signed.verify({"server-authorization": server.response_header, "content-type": "Text/Plain;charset=x"}, body)


@pytest.mark.parametrize(
    "other",
    [
        "http://api.example.edu/v4?a=1&b=%3D",
        "https://api.example.edu/v4?b=%3D&a=1",
        "https://api.example.edu/v4?a=1&b==",
        "https://api.example.edu:444/v4?a=1&b=%3D",
    ],
)
def test_a_signature_is_good_for_one_address_byte_for_byte(other: str) -> None:
    signed = HAWK.sign("GET", "https://api.example.edu/v4?a=1&b=%3D")
    receiver(signed.headers["Authorization"], "https://api.example.edu/v4?a=1&b=%3D")
    with pytest.raises(mohawk.exc.MacMismatch):
        receiver(signed.headers["Authorization"], other)


@given(st.binary(max_size=200), st.sampled_from(["", "application/json", "Text/HTML; charset=utf-8"]))
def test_the_payload_hash_is_that_of_mohawk(content: bytes, content_type: str) -> None:
    theirs = mohawk.util.calculate_payload_hash(content, "sha256", content_type)
    assert payload_hash(content, content_type) == theirs.decode()


URL = "https://api.example.edu/v4/dataset/omis-dataset"


def answered(body: bytes = b'{"next":null}', key: str = KEY, url: str = URL, ext: str | None = None) -> dict[str, str]:
    """Headers of an answer to another request with the same nonce, or with another key."""
    sender = mohawk.Receiver(
        lambda _: {**CREDENTIALS, "key": key},
        mohawk.Sender(
            {**CREDENTIALS, "key": key}, url, "GET", content="", content_type="", nonce="n", _timestamp=int(time.time())
        ).request_header,
        url,
        "GET",
        content="",
        content_type="",
        seen_nonce=lambda *_: False,
    )
    sender.respond(content=body, content_type="application/json", ext=ext)
    return {"server-authorization": sender.response_header, "content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "is not signed"),
        ({"server-authorization": ""}, "is not signed"),
        ({"server-authorization": "Basic abc"}, "is not signed"),
        ({"server-authorization": "Hawk"}, "another key"),
        ({"server-authorization": 'Hawk mac="ü"'}, "is not signed"),
        ({"server-authorization": 'Hawk mac="a", mac="b"'}, "is not signed"),
        ({"server-authorization": 'Hawk mac="a" and more'}, "is not signed"),
        ({"server-authorization": 'Hawk mac="' + "a" * 5000 + '"'}, "is not signed"),
        (answered(), "another key or for another request"),
        (answered(key="other"), "another key or for another request"),
    ],
)
def test_an_answer_that_is_not_the_sources_own_is_refused(headers: dict[str, str], says: str) -> None:
    with pytest.raises(PermanentSourceError, match=says) as refused:
        HAWK.sign("GET", URL).verify(headers, b'{"next":null}')
    assert KEY not in str(refused.value)


def test_a_changed_body_is_refused() -> None:
    signed = HAWK.sign("GET", URL)
    server = receiver(signed.headers["Authorization"], URL)
    server.respond(content=b'{"results":[1]}', content_type="application/json")
    headers = {"server-authorization": server.response_header, "content-type": "application/json"}
    signed.verify(headers, b'{"results":[1]}')
    with pytest.raises(PermanentSourceError, match="its body is not the one that was signed"):
        signed.verify(headers, b'{"results":[2]}')


def test_a_sound_answer_that_took_longer_than_the_skew_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """mohawk's own client refuses it, because it compares the time of the request with the present."""
    signed = HAWK.sign("GET", URL)
    server = receiver(signed.headers["Authorization"], URL)
    server.respond(content=b"{}", content_type="application/json")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 119)
    signed.verify({"server-authorization": server.response_header, "content-type": "application/json"}, b"{}")


def test_no_two_signatures_share_a_nonce() -> None:
    nonces = {HAWK.sign("GET", URL).headers["Authorization"].partition('nonce="')[2][:12] for _ in range(100)}
    assert len(nonces) == 100


@pytest.mark.parametrize("client_id", ['a"b', "a\\b", "a\nb", "ü", ""])
def test_an_id_that_a_header_cannot_carry_is_refused(client_id: str) -> None:
    with pytest.raises(PermanentSourceError, match="id of a Hawk client"):
        Hawk(client_id, SecretStr(KEY))


def test_nothing_shows_the_key() -> None:
    assert KEY not in repr(HAWK) + repr(HAWK.sign("GET", URL))


# ------------------------------------------------------------------------------------------------- over HTTP


def source(url: str, *, attempts: int = 3) -> HttpSource:
    return HttpSource("the API", url, policy=replace(FAST, attempts=attempts), signer=HAWK)


def signing(body: bytes = b'{"next":null,"results":[]}', change: Callable[[bytes], bytes] = lambda body: body) -> Reply:
    """A receiver that refuses what mohawk refuses, and signs; what is sent may be changed behind its back."""

    async def reply(request: Request, wire: Wire) -> None:
        url = f"http://{request.headers['host']}{request.target}"
        found = receiver(request.headers["authorization"], url, content_type=request.headers.get("content-type", ""))
        found.respond(content=body, content_type="application/json")
        sent = change(body)
        headers = {"Content-Length": str(len(sent)), "Server-Authorization": found.response_header}
        await wire.send(head(headers=headers) + sent)

    return reply


@pytest.mark.anyio
async def test_every_attempt_is_signed_anew() -> None:
    """A source that keeps nonces refuses a request that is repeated as it was."""
    async with serving(answer(status=503), signing()) as server, source(server.url) as api:
        await api.request("GET", "/v4?b=%3D&a=1,2", key="page")
    first, second = (request.headers["authorization"] for request in server.requests)
    assert first != second
    assert server.requests[1].target == "/v4?b=%3D&a=1,2"


@pytest.mark.anyio
async def test_an_answer_is_verified_before_it_is_handed_over() -> None:
    async with (
        serving(signing(change=lambda body: body.replace(b"[]", b"[1]"))) as server,
        source(server.url) as api,
    ):
        with pytest.raises(PermanentSourceError, match="not the one that was signed") as refused:
            await api.request("GET", "/v4", key="page")
    assert len(server.requests) == 1
    assert "request id" in str(refused.value)


@pytest.mark.anyio
async def test_a_signed_answer_that_came_cut_is_asked_for_again() -> None:
    """Without a length or chunks nothing but the signature tells that the connection was closed too early."""

    async def cut(request: Request, wire: Wire) -> None:
        url = f"http://{request.headers['host']}{request.target}"
        found = receiver(request.headers["authorization"], url)
        found.respond(content=b'{"next":null,"results":[]}', content_type="application/json")
        headers = {"Connection": "close", "Server-Authorization": found.response_header}
        await wire.send(head(headers=headers) + b'{"next":null,')
        wire.close()

    async with serving(cut, signing()) as server, source(server.url) as api:
        assert (await api.request("GET", "/v4", key="page")).attempts == 2


@pytest.mark.anyio
async def test_a_refused_logon_names_all_that_can_be_wrong() -> None:
    late = formatdate(time.time() - 300, usegmt=True)
    refusal = answer({"detail": "Incorrect authentication credentials."}, 401, headers={"Date": late})
    async with serving(refusal) as server, source(server.url) as api:
        with pytest.raises(PermanentSourceError) as refused:
            await api.request("GET", "/v4", key="page")
    text = str(refused.value)
    assert "id or the key is wrong" in text
    assert "clock is wrong (300 seconds apart" in text or "clock is wrong (301 seconds apart" in text
    assert "allow-list" in text
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_a_signed_answer_cannot_be_read_piece_by_piece() -> None:
    """Whoever reads a stream would use it before its end is known, and so before it can be believed."""
    async with serving(signing()) as server, source(server.url) as api:
        with pytest.raises(PermanentSourceError, match="piece by piece"):
            await api.receive("GET", key="page", read=lambda stream: stream.start(lambda _: True))
    assert server.requests == []


@pytest.mark.anyio
async def test_an_unsigned_source_needs_no_signature() -> None:
    async with serving(answer(b"{}")) as server, HttpSource("the API", server.url, policy=ONCE) as api:
        assert (await api.request("GET", key="page")).body == b"{}"
