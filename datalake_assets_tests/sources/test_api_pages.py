"""Paging: every kind reads every record once, and whatever could hide a record, or never end, is refused."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from datalake_assets.sources.api_pages import Page, Paging, _early_member, _Walk, pages, unchanged
from datalake_assets.sources.errors import PermanentSourceError
from datalake_assets.sources.http import HttpSource
from datalake_assets.sources.validators import Validators
from datalake_assets_tests.sources.fault_server import FaultServer, Reply, Request, Wire, answer, head, serving
from datalake_assets_tests.sources.test_http import FAST

pytestmark = pytest.mark.anyio

PATH = "/v4/dataset/omis-dataset"
RECORDS = [{"id": number, "flag": False, "zero": 0, "blank": ""} for number in range(7)]

Answerer = Callable[[Request, dict[str, str]], Any]


def api(answers: Answerer, headers: dict[str, str] | None = None) -> FaultServer:
    """An API whose answer follows from the request: a body, or a body and headers."""

    async def reply(request: Request, wire: Wire) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        found = answers(request, query)
        body, more = found if isinstance(found, tuple) else (found, {})
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        await wire.send(head(headers={"Content-Length": str(len(sent)), **(headers or {}), **more}) + sent)

    return serving(reply)


def source(server: FaultServer) -> HttpSource:
    return HttpSource("the API", server.url, policy=replace(FAST, body_bytes=10**7))


async def read(server: FaultServer, paging: Paging, **more: Any) -> list[Page]:
    async with server, source(server) as opened:
        return [page async for page in pages(opened, PATH, paging, **more)]


def ids(found: list[Page]) -> list[int]:
    return [record["id"] for page in found for record in page.records]


def three(query: dict[str, str], parameter: str = "cursor") -> tuple[list[dict[str, Any]], str | None]:
    start = int(query.get(parameter, "0"))
    return RECORDS[start : start + 3], str(start + 3) if start + 3 < len(RECORDS) else None


def linked(request: Request, query: dict[str, str]) -> Any:
    records, then = three(query)
    url = f"http://{request.headers['host']}{PATH}?cursor={then}"
    return {"next": then and url, "previous": None, "results": records}


def relative(request: Request, query: dict[str, str]) -> Any:
    records, then = three(query)
    return {"meta": {"next": then and f"?cursor={then}"}, "data": {"rows": records}}


def header(request: Request, query: dict[str, str]) -> Any:
    records, then = three(query)
    links = f'<{PATH}?cursor=0>; rel="first"'
    return records, {"Link": f'{links}, <{PATH}?cursor={then}>; title="a, b"; rel="last next"' if then else links}


KINDS = [
    (Paging(), linked),
    (Paging(next="meta.next", results="data.rows"), relative),
    (Paging(kind="header_link", results=""), header),
    (
        Paging(kind="cursor", next="after", parameter="from"),
        lambda _, query: dict(zip(("results", "after"), three(query, "from"), strict=True)),
    ),
    (
        Paging(kind="offset", size=3, size_parameter="limit"),
        lambda _, query: {"results": RECORDS[int(query["offset"]) :][: int(query["limit"])]},
    ),
    (
        Paging(kind="offset", size=5),
        lambda _, query: {"results": RECORDS[int(query["offset"]) :][:2]},
    ),
    (
        Paging(kind="page_number", results=""),
        lambda _, query: RECORDS[3 * int(query["page"]) - 3 :][:3],
    ),
    (
        Paging(kind="page_number", results="", first=0, parameter="p"),
        lambda _, query: RECORDS[3 * int(query["p"]) :][:3],
    ),
    (Paging(kind="single_page"), lambda *_: {"results": RECORDS}),
]


@pytest.mark.parametrize(
    ("paging", "answers"), KINDS, ids=[f"{kind.kind}-{place}" for place, (kind, _) in enumerate(KINDS)]
)
async def test_every_kind_of_paging_reads_every_record_once(paging: Paging, answers: Answerer) -> None:
    """The second of the offset kinds gives fewer than it is asked for, which must not be taken for the end."""
    found = await read(api(answers), paging)
    assert ids(found) == list(range(7))
    assert [page.number for page in found] == list(range(1, len(found) + 1))


async def test_values_arrive_as_themselves_and_numbers_with_their_digits() -> None:
    body = (
        b'{"next": null, "results": [{"a": false, "b": 0, "c": "", "d": null, "e": 1.10, "f": 12345678901234567890}]}'
    )
    [page] = await read(api(lambda *_: body), Paging())
    assert page.records == [
        {"a": False, "b": 0, "c": "", "d": None, "e": Decimal("1.10"), "f": Decimal("12345678901234567890")}
    ]
    assert str(page.records[0]["e"]) == "1.10"
    assert page.bytes == len(body)
    assert len(page.sha256) == 64
    assert PATH in page.pointer


async def test_parameters_and_page_size_are_asked_for() -> None:
    server = api(linked)
    await read(server, Paging(size=100), params={"region": "a b&c"})
    assert server.requests[0].target == f"{PATH}?region=a%20b%26c&page_size=100"


async def test_an_empty_page_with_a_next_one_is_no_end() -> None:
    def answers(request: Request, query: dict[str, str]) -> Any:
        return {"next": None if "b" in query else f"{PATH}?{'b' if 'a' in query else 'a'}=1", "results": []}

    assert [page.records for page in await read(api(answers), Paging())] == [[], [], []]


async def test_an_empty_dataset_is_one_empty_page() -> None:
    [page] = await read(api(lambda *_: {"next": None, "results": []}), Paging())
    assert page.records == []


def to(place: str) -> Answerer:
    return lambda request, _: {"next": place.replace("HERE", request.headers["host"]), "results": [{"id": 1}]}


@pytest.mark.parametrize(
    "place",
    [
        "https://elsewhere.example.edu" + PATH,
        "http://elsewhere.example.edu" + PATH,
        "http://127.0.0.1:1" + PATH,
        "https://HERE" + PATH,
        "http://user@HERE" + PATH,
        "http://HERE/v4/dataset/contacts-dataset?cursor=1",
        "/elsewhere",
        "//elsewhere.example.edu" + PATH,
        "http://[::1" + PATH,
    ],
)
async def test_a_next_page_at_another_place_is_not_asked_for(place: str) -> None:
    """A signed request, or a key, would go along."""
    server = api(to(place))
    with pytest.raises(PermanentSourceError, match="at another place"):
        await read(server, Paging())
    assert len(server.requests) == 1


async def test_links_of_a_proxy_that_ends_tls_are_refused_with_the_way_out() -> None:
    link = f"http://api.example.edu{PATH}?cursor=1"
    tls = HttpSource("the API", "https://api.example.edu", policy=FAST)
    with pytest.raises(PermanentSourceError, match="set https_next"):
        _Walk(tls, PATH, Paging(), {})._on_the_same_path(link, "")
    followed = _Walk(tls, PATH, Paging(https_next=True), {})._on_the_same_path(link, "")
    assert followed == f"https://api.example.edu{PATH}?cursor=1"


@pytest.mark.parametrize(
    ("answers", "paging", "says", "requests"),
    [
        (lambda *_: {"next": f"{PATH}?cursor=0", "results": []}, Paging(), "in a circle", 2),
        (
            lambda _, query: {"next": f"{PATH}?cursor={int(query.get('cursor', 0)) + 1}", "results": RECORDS},
            Paging(),
            "sent a page twice",
            3,
        ),
        (lambda *_: {"after": "x", "results": []}, Paging(kind="cursor", next="after"), "in a circle", 2),
        (lambda *_: {"results": RECORDS}, Paging(kind="page_number"), "sent a page twice", 3),
        (lambda *_: {"results": RECORDS}, Paging(kind="offset"), "sent a page twice", 3),
    ],
)
async def test_a_source_that_leads_in_a_circle_is_left(
    answers: Answerer, paging: Paging, says: str, requests: int
) -> None:
    server = api(answers)
    with pytest.raises(PermanentSourceError, match=says):
        await read(server, paging)
    assert len(server.requests) <= requests


async def test_more_pages_than_allowed_are_refused() -> None:
    def answers(_: Request, query: dict[str, str]) -> Any:
        here = int(query.get("cursor", "0"))
        return {"next": f"{PATH}?cursor={here + 1}", "results": [{"id": here}]}

    with pytest.raises(PermanentSourceError, match="beyond the 5 that are allowed"):
        await read(api(answers), Paging(max_pages=5))


@pytest.mark.parametrize(
    ("body", "paging", "says"),
    [
        ({"results": []}, Paging(), "has no 'next'"),
        ({"next": None}, Paging(), "has no 'results'"),
        ({"results": []}, Paging(kind="cursor", next="meta.after"), "has no 'meta.after'"),
        ({"next": None, "results": None}, Paging(), "no list"),
        ({"next": None, "results": {"a": 1}}, Paging(), "no list"),
        ({"next": None, "results": [1]}, Paging(), "no object"),
        ({"next": 7, "results": []}, Paging(), "no text"),
        ({"next": True, "results": []}, Paging(kind="cursor"), "no text"),
        ([], Paging(), "has no"),
        (b'{"next": null, "results": [', Paging(), "cannot be read"),
        (b'{"next": null, "results": []} more', Paging(), "cannot be read"),
    ],
)
async def test_a_page_that_does_not_say_where_it_ends_is_refused(body: Any, paging: Paging, says: str) -> None:
    """Failed is not empty: taken for the end, it would drop every record that follows."""
    with pytest.raises(PermanentSourceError, match=says) as refused:
        await read(api(lambda *_: body), paging)
    assert PATH in str(refused.value)


async def test_the_next_page_is_fetched_while_this_one_is_used() -> None:
    server = api(linked)
    async with server, source(server) as opened, contextlib.aclosing(pages(opened, PATH, Paging())) as walk:
        assert (await anext(walk)).number == 1
        for _ in range(100):
            if len(server.requests) == 2:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 2  # and no more than the next one, so that memory stays bounded


async def test_a_page_is_handed_over_before_the_next_one_has_come() -> None:
    used = asyncio.Event()

    async def late(request: Request, wire: Wire) -> None:
        await used.wait()
        await answer({"next": None, "results": [{"id": 1}]})(request, wire)

    server = serving(answer({"next": f"{PATH}?cursor=1", "results": [{"id": 0}]}), late)
    async with server, source(server) as opened, contextlib.aclosing(pages(opened, PATH, Paging())) as walk:
        async with asyncio.timeout(0.3):  # less than the source waits for silence
            assert (await anext(walk)).number == 1
        used.set()
        assert (await anext(walk)).number == 2


async def test_a_page_that_is_left_unread_leaves_nothing_running() -> None:
    server = api(linked)
    before = asyncio.all_tasks()
    async with server, source(server) as opened:
        async with contextlib.aclosing(pages(opened, PATH, Paging())) as walk:
            await anext(walk)
        assert {task for task in asyncio.all_tasks() - before if "walk" in repr(task) or "page" in repr(task)} == set()


async def test_a_failed_page_fails_the_walk_after_the_pages_before_it() -> None:
    replies: list[Reply] = [
        answer({"next": f"{PATH}?cursor=1", "results": [{"id": 0}]}),
        answer({"detail": "no"}, 403),
    ]
    server = serving(*replies)
    async with server, source(server) as opened:
        walk = pages(opened, PATH, Paging())
        assert (await anext(walk)).records == [{"id": 0}]
        with pytest.raises(PermanentSourceError, match="refused the logon"):
            await anext(walk)


# ------------------------------------------------------------------------------------------ is there anything new


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Validators(etag='"v1"'), True),
        (Validators(etag='"v0"'), False),
        (Validators(last_modified="Fri, 20 Nov 2026 00:00:00 GMT"), True),
        (Validators(last_modified="Thu, 19 Nov 2026 00:00:00 GMT"), False),
        (Validators(), False),
    ],
)
async def test_a_source_tells_that_nothing_is_new(known: Validators, expected: bool) -> None:
    modified = "Fri, 20 Nov 2026 00:00:00 GMT"

    async def reply(request: Request, wire: Wire) -> None:
        same = request.headers.get("if-none-match") == '"v1"' or request.headers.get("if-modified-since") == modified
        body = b"" if same else b'{"next": null, "results": []}'
        size = {} if same else {"Content-Length": str(len(body))}
        await wire.send(head(304 if same else 200, {"ETag": '"v1"', "Last-Modified": modified, **size}) + body)

    server = serving(reply)
    async with server, source(server) as opened:
        assert await unchanged(opened, PATH, Paging(), known) is expected
        [page] = [page async for page in pages(opened, PATH, Paging())]
    assert page.validators == Validators('"v1"', modified)
    assert len(server.requests) == (2 if known else 1)


async def test_a_source_that_heeds_no_condition_still_tells_by_its_tag() -> None:
    server = api(lambda *_: {"next": None, "results": []}, headers={"ETag": '"v1"'})
    async with server, source(server) as opened:
        assert await unchanged(opened, PATH, Paging(), Validators(etag='"v1"'))
        assert not await unchanged(opened, PATH, Paging(), Validators(etag='"v2"'))


LATE = [
    (b'{"next": null, "results": [{"id": 1}], "next": "?cursor=3"}', "two next pages"),
    (b'{"next": "?cursor=3", "results": [{"id": %d}], "next": null}', "two next pages"),
]


@pytest.mark.parametrize(("body", "said"), LATE)
async def test_a_next_page_that_is_named_first_is_not_believed_if_another_one_is_named_later(body, said):
    """The first one is followed before the page is parsed."""
    with pytest.raises(PermanentSourceError, match=said):
        await read(api(lambda _, query: body.replace(b"%d", str(len(query)).encode())), Paging())


EARLY = [
    b'{"next":"a\\/b"',
    b'\n{ "count" : 7, "ok":true ,"next" :null,"results":[]}',
    b'{"a":"x \\" y","next":"b","results":[]}',
]
NOT_EARLY = [
    b'{"a":{"next":"no"},"next":"yes"}',
    b'{"a":"\\"next\\":\\"no\\""}',
    b'{"results":[{"next":"no"}],"next":"yes"}',
    b'[{"next":"no"}]',
    b'{"next":7,"results":[]}',
]


def test_the_next_page_is_found_early_where_it_stands_before_the_records_and_nowhere_else():
    pattern = _early_member("next")
    assert pattern is not None
    assert [found[1] for body in EARLY if (found := pattern.match(body + b","))] == [b'"a\\/b"', b"null", b'"b"']
    assert [body for body in NOT_EARLY if pattern.match(body)] == []
    assert _early_member("meta.next") is None
