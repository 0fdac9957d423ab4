"""The virtual directory: who is named, through the wrapper and through ADAP, and which answers were cut."""

import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.ids import IdAnswer
from datalake_assets.sources.policies import VDS_PAGE
from datalake_assets.sources.vds import VdsAdap, VdsWrapper, VirtualDirectory
from datalake_assets_tests.sources.fault_server import (
    FaultServer,
    Reply,
    Request,
    Wire,
    answer,
    close_delimited,
    serving,
)

pytestmark = pytest.mark.anyio

FAST = replace(VDS_PAGE, connect_s=0.5, read_s=0.5, total_s=1, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)
SECRET = "canary-secret"
BUID = "U12345678"
BASE_DN = "ou=people,dc=example,dc=edu"


def wrapper(server: FaultServer, **more: Any) -> VdsWrapper:
    return VdsWrapper(f"{server.url}/vds", SecretStr(SECRET), policy=FAST, **more)


def adap(server: FaultServer, **more: Any) -> VdsAdap:
    logon = {} if "bearer" in more else {"basic": ("cn=reader,dc=example", SecretStr(SECRET))}
    return VdsAdap(f"{server.url}/adap", BASE_DN, policy=FAST, **logon, **more)


def entry(*values: Any) -> dict[str, Any]:
    """An entry as ADAP writes it by default: one value as a text, several as a list."""
    return {"dn": f"uid={values}", "attributes": {"PersonBuid": values[0] if len(values) == 1 else list(values)}}


def people(first: int, last: int) -> list[dict[str, Any]]:
    return [entry(f"U9{number:07}") for number in range(first, last + 1)]


def found(entries: object, **more: object) -> dict[str, object]:
    return {"resources": entries, **more}


def page(entries: object, total: object, cookie: object = ..., **more: object) -> dict[str, object]:
    return {
        "httpStatus": 200,
        **found(entries, totalResults=total, **more),
        **({} if cookie is ... else {"cookie": cookie}),
    }


def output(entity: object, status: object = 200) -> dict[str, object]:
    return {"statusLine": {"statusCode": status, "reasonPhrase": "Said"}, "entity": entity, "headers": {}}


async def ask(
    client: Callable[..., VdsWrapper | VdsAdap], *replies: Reply, may_be_empty: bool = False, **more: Any
) -> IdAnswer:
    async with serving(*replies) as server, client(server, **more) as directory:
        return await directory.ids("faculty", may_be_empty=may_be_empty)


def parameters(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}


# ------------------------------------------------------------------------------------------------ the wrapper


async def test_the_wrapper_is_asked_as_the_predecessor_asked_it() -> None:
    async with serving(answer(output(found([entry("U90000001")])))) as server, wrapper(server) as directory:
        await directory.ids("faculty")
        await directory.ids("staff")
    first, second = server.requests
    assert (first.method, first.target, first.headers["authorization"]) == ("POST", "/vds", f"Bearer {SECRET}")
    assert json.loads(first.body) == {"params": "filter=(PersonPrimaryAffiliation=faculty)&sizeLimit=25000"}
    assert json.loads(second.body) == {"params": "filter=(PersonPrimaryAffiliation=staff)&sizeLimit=25000"}


@pytest.mark.parametrize(
    "document",
    [
        output(found(people(1, 3))),
        [output(found(people(1, 3)))],
        [output(found(people(1, 1))), output(found(people(2, 3)), "200")],
        {"entity": found(people(1, 3), totalResults=3, count=3)},
        {"entity": found(people(1, 3)), "statusLine": None},
    ],
)
async def test_the_answer_of_the_wrapper_may_be_an_object_or_a_list(document: Any) -> None:
    got = await ask(wrapper, answer(document))
    assert got.rows == ("U90000001", "U90000002", "U90000003")
    assert (got.received, got.unusable, got.complete) == (3, (), True)
    assert got.bytes_in > 100
    assert "faculty" in got.pointer


@pytest.mark.parametrize("client", [wrapper, adap])
async def test_a_person_may_have_several_ids(client: Any) -> None:
    """Fault P13: a list among the ids ended the predecessor's load."""
    entries = [entry("U90000001"), entry(" U90000002", "U90000003 "), entry(["U90000004"])]
    body = output(found(entries)) if client is wrapper else page(entries, -3)
    got = await ask(client, answer(body))
    assert got.rows == ("U90000001", "U90000002", "U90000003", "U90000004")
    assert got.received == 3


async def test_the_name_of_the_attribute_is_the_same_in_any_letter_case() -> None:
    got = await ask(wrapper, answer(output(found([{"attributes": {"personbuid": "U90000001"}}]))))
    assert got.rows == ("U90000001",)


@pytest.mark.parametrize(
    ("bad", "rules"),
    [
        (entry(None), ["no_id"]),
        (entry(), ["no_id"]),
        ({"attributes": {}}, ["no_id"]),
        (entry(9), ["id_not_text"]),
        (entry({"a": 1}), ["id_not_text"]),
        (entry(None, 7), ["no_id", "id_not_text"]),
        ({"attributes": None}, ["no_attributes"]),
        ({}, ["no_attributes"]),
        (None, ["row_not_object"]),
    ],
)
async def test_an_entry_without_a_readable_id_condemns_only_itself(bad: Any, rules: list[str]) -> None:
    got = await ask(wrapper, answer(output(found([entry("U90000001"), bad]))))
    assert (got.rows, got.received, [one.rule for one in got.unusable]) == (("U90000001",), 2, rules)


async def test_a_blank_id_is_nobody() -> None:
    got = await ask(wrapper, answer(output(found([entry("U90000001", " "), entry("")]))))
    assert (got.rows, got.unusable, got.nameless, got.received) == (("U90000001",), (), 2, 2)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        # an upstream failure within 200
        (output(None, 500), "is an upstream failure with status 500. It said: 'Said'."),
        (output(found(people(1, 3)), 400), "is an upstream failure with status 400"),
        ([output(found(people(1, 3))), output(None, "401")], "is an upstream failure with status 401"),
        (output(found(people(1, 3)), "failed"), "is an upstream failure with status None"),
        # P13: entity null was an AttributeError
        (output(None), "has null where an object with 'resources' belongs"),
        (output("text"), "has a text where an object with 'resources' belongs"),
        (output({}), "has no 'resources'"),
        (output(found(None)), "has null where the list 'resources' belongs"),
        (output(found({"a": 1})), "has an object where the list 'resources' belongs"),
        ([], "names nobody, and there always are some"),
        (output(found([])), "names nobody, and there always are some"),
        ([output(found(people(1, 3))), {}], "has no 'entity'"),
        ([None], "has null where an object with 'entity' belongs"),
        ({"error": "Snap failed", "reason": "no route"}, "has no 'entity'. It said: 'Snap failed'; 'no route'."),
        # P13: an answer that was cut was taken for all there is
        (output(found(people(1, 5))), "was cut at 5 entries; the size limit asked for is 5. Raise VDS_SIZE_LIMIT"),
        (output(found(people(1, 9))), "was cut at 9 entries"),
        ([output(found(people(1, 3))), output(found(people(4, 5)))], "was cut at 5 entries"),
        (output(found(people(1, 3), totalResults=-1)), "was cut at 3 entries"),
        (output(found(people(1, 3), count=4)), "counts 4 of entries and holds 3"),
        (output(found(people(1, 3), count=None)), "counts no number of entries and holds 3"),
        (output(found(people(1, 3), totalResults="all")), "has a text where totalResults belongs"),
        (output(found([entry(None)])), "has 1 entries, and none has a readable PersonBuid"),
    ],
)
async def test_an_answer_of_the_wrapper_that_cannot_be_trusted_is_refused(document: Any, sentence: str) -> None:
    async with serving(answer(document)) as server, wrapper(server, size_limit=5) as directory:
        with pytest.raises(PermanentSourceError) as refusal:
            await directory.ids("staff")
    assert sentence in str(refusal.value)
    assert "What to do: " in str(refusal.value)
    assert len(server.requests) == 1


async def test_an_explicit_empty_list_is_an_answer_where_it_may_be() -> None:
    for client, body in [(wrapper, output(found([]))), (adap, page([], -3))]:
        got = await ask(client, answer(body), may_be_empty=True)
        assert (got.rows, got.received) == ((), 0)
    with pytest.raises(PermanentSourceError, match="is an upstream failure"):
        await ask(wrapper, answer(output(found([]), 503)), may_be_empty=True)


async def test_exactly_the_default_size_limit_is_not_known_to_be_complete() -> None:
    """So many come if the limit asked for did not reach the directory."""
    assert not (await ask(wrapper, answer(output(found(people(1, 1000)))))).complete
    assert (await ask(wrapper, answer(output(found(people(1, 1000), totalResults=1000))))).complete
    assert (await ask(wrapper, answer(output(found(people(1, 1001)))))).complete


# ----------------------------------------------------------------------------------------------------- ADAP


async def test_adap_is_asked_page_by_page_until_it_says_the_search_has_ended() -> None:
    replies = [
        answer(page(people(1, 3), -2, "localhost=1a=")),
        answer(page(people(4, 5), -2, "localhost=2b=")),
        answer(page(people(6, 6), -3, "null", count=1)),
    ]
    async with serving(*replies) as server, adap(server, page_size=3) as directory:
        got = await directory.ids("staff")
    assert got.rows == tuple(f"U9000000{number}" for number in range(1, 7))
    assert (got.received, got.complete, got.unusable) == (6, True, ())
    assert got.pointer.endswith("3 answers")
    assert got.bytes_in == directory.stats.bytes_in
    first, second, third = server.requests
    assert {urlsplit(request.target).path for request in server.requests} == {f"/adap/{BASE_DN}"}
    assert (first.method, first.headers["authorization"][:6]) == ("GET", "Basic ")
    search = {
        "filter": "(PersonPrimaryAffiliation=staff)",
        "attributes": "PersonBuid",
        "scope": "sub",
        "returnMode": "array",
        "pageSize": "3",
    }
    assert parameters(first) == search
    assert parameters(second) == search | {"cookie": "localhost=1a="}
    assert parameters(third) == search | {"cookie": "localhost=2b="}
    assert "filter=%28PersonPrimaryAffiliation%3Dstaff%29" in first.target


async def test_adap_can_be_asked_with_a_bearer_token_and_below_any_dn() -> None:
    reply = answer(page(people(1, 1), -3))
    async with serving(reply) as server, adap(server, bearer=SecretStr(SECRET)) as directory:
        await directory.ids("staff")
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    async with (
        serving(reply) as server,
        VdsAdap(f"{server.url}/adap", "o=A & B/C?", bearer=SecretStr(SECRET), policy=FAST) as directory,
    ):
        await directory.ids("staff")
    assert server.requests[0].target.startswith("/adap/o=A%20%26%20B%2FC%3F?filter=")


@pytest.mark.parametrize("more", [{}, {"basic": ("cn=x", SecretStr("pass")), "bearer": SecretStr("pass")}])
def test_adap_is_not_asked_without_a_logon(more: Any) -> None:
    """Anybody is answered, with fewer entries and no error."""
    with pytest.raises(PermanentSourceError, match="without, it answers as for anybody"):
        VdsAdap("https://x.example/adap", BASE_DN, **more)


def test_adap_is_not_asked_without_a_base() -> None:
    with pytest.raises(PermanentSourceError, match="needs a base DN"):
        VdsAdap("https://x.example/adap", " ", bearer=SecretStr("pass"))


async def test_one_page_may_be_all_there_is() -> None:
    for total in (-3, 2):
        assert len((await ask(adap, answer(page(people(1, 2), total)))).rows) == 2


async def test_where_paging_is_switched_off_everything_is_asked_for_at_once() -> None:
    """The page size then acts as a size limit: the page is a part that looks like an answer."""
    replies = [answer(page(people(1, 3), -1)), answer(page(people(1, 7), 7))]
    async with serving(*replies) as server, adap(server, page_size=3) as directory:
        got = await directory.ids("staff")
    assert (len(got.rows), got.received, got.complete) == (7, 7, True)
    asked = parameters(server.requests[1])
    assert asked["sizeLimit"] == "0"
    assert asked.keys().isdisjoint({"pageSize", "cookie"})


@pytest.mark.parametrize("total", [-1, 8, -3, None])
async def test_everything_at_once_is_refused_if_it_is_not_everything(total: object) -> None:
    second = page(people(1, 7), total)
    if total is None:
        del second["totalResults"]
    with pytest.raises(PermanentSourceError, match=r"for 7 entries, so it was cut\. Have .Enable paged results. "):
        await ask(adap, answer(page(people(1, 3), -1)), answer(second))


@pytest.mark.parametrize(
    ("pages", "sentence"),
    [
        ([page(people(1, 3), -2)], "says that there are more pages, and gives no cookie"),
        ([page(people(1, 3), -2, "null")], "says that there are more pages, and gives no cookie"),
        ([page(people(1, 3), -2, 7)], "has a number where the cookie belongs"),
        ([page(people(1, 3), 9)], "has the totalResults 9 for a page of 3 entries"),
        ([page(people(1, 3), 3, "c")], "has the totalResults 3 for a page of 3 entries"),
        ([found(people(1, 3))], "has the totalResults None for a page of 3 entries"),
        ([page(people(1, 3), -2, "c"), page(people(4, 6), -1)], "has the totalResults -1 for a page of 3"),
        ([page(people(1, 3), -2, "c"), page(people(4, 6), 3)], "has the totalResults 3 for a page of 3"),
        ([page([], -2, "c")], "has no entry, and says that there are more pages"),
        ([page([], -3)], "names nobody, and there always are some"),
        ([page(people(1, 3), -3, count=9)], "counts 9 of entries and holds 3"),
        ([page(None, -3)], "has null where the list 'resources' belongs"),
        ([page(people(1, 3), -3) | {"httpStatus": 500}], "says that its status is 500, not 200"),
        ([{"httpStatus": 200}], "has no 'resources'"),
        ([[]], "has a list where an object with 'resources' belongs"),
        # loops: pages without end
        ([page(people(1, 3), -2, "a"), page(people(1, 3), -2, "a")], "repeats entries: page 2 has none that were not"),
        ([page(people(n, n), -2, f"{n}") for n in (1, 2, 1)], "repeats entries: page 3 has none that were not seen"),
    ],
)
async def test_an_answer_of_adap_that_cannot_be_trusted_is_refused(pages: list[Any], sentence: str) -> None:
    with pytest.raises(PermanentSourceError) as refusal:
        await ask(adap, *map(answer, pages))
    assert sentence in str(refusal.value)


async def test_a_page_that_failed_is_asked_for_again() -> None:
    replies = [
        answer(page(people(1, 3), -2, "a")),
        answer(b"", 503),
        answer(page(people(4, 6), -2, "b")),
        answer(page(people(7, 7), -3)),
    ]
    async with serving(*replies) as server, adap(server) as directory:
        got = await directory.ids("staff")
    assert (len(got.rows), got.complete) == (7, True)
    assert [parameters(request).get("cookie") for request in server.requests] == [None, "a", "a", "b"]


@pytest.mark.parametrize("lost", [answer(b"", 503), close_delimited(b'{"httpStatus":200,"resou')])
async def test_a_repeated_request_may_have_skipped_a_page_where_the_directory_remembers_the_place(lost: Reply) -> None:
    """One cookie for all pages names a place that moves on although the answer was lost."""
    replies = [answer(page(people(1, 3), -2, "same")), lost, answer(page(people(7, 9), -3))]
    assert not (await ask(adap, *replies)).complete
    replies = [
        answer(page(people(1, 3), -2, "same")),
        answer(page(people(4, 6), -2, "same")),
        answer(page(people(7, 9), -3)),
    ]
    assert (await ask(adap, *replies)).complete


async def test_a_search_that_ends_with_an_empty_page_may_have_ended_early() -> None:
    got = await ask(adap, answer(page(people(1, 3), -2, "a")), answer(page([], -3)))
    assert (len(got.rows), got.complete) == (3, False)


async def test_a_page_that_fails_for_good_fails_the_search() -> None:
    with pytest.raises(TransientSourceError):
        await ask(adap, answer(page(people(1, 3), -2, "a")), answer(b"", 503))


# ------------------------------------------------------------------------------------------------ redirects


def redirect(target: str) -> Reply:
    async def reply(request: Request, wire: Wire) -> None:
        location = target.format(host=request.headers["host"])
        await answer(b"", 302, headers={"Location": location})(request, wire)

    return reply


@pytest.mark.parametrize(
    "target", ["/node2/adap/x?pageSize=3&cookie=a", "http://{host}/node2/adap/x?pageSize=3&cookie=a"]
)
async def test_a_page_may_be_with_another_node_of_the_same_address(target: str) -> None:
    replies = [answer(page(people(1, 3), -2, "a")), redirect(target), answer(page(people(4, 4), -3))]
    async with serving(*replies) as server, adap(server) as directory:
        got = await directory.ids("staff")
    assert (len(got.rows), got.complete) == (4, True)
    assert server.requests[2].target == "/node2/adap/x?pageSize=3&cookie=a"
    assert server.requests[2].headers["authorization"] == server.requests[0].headers["authorization"]


@pytest.mark.parametrize(
    "target", ["http://other.example/adap", "https://{host}/adap", "//127.0.0.1:1/adap", "http://u@{host}/"]
)
async def test_credentials_are_not_carried_to_another_address(target: str) -> None:
    """Fault X2: the key was sent wherever a redirect pointed to."""
    async with serving(redirect(target)) as server, adap(server) as directory:
        with pytest.raises(PermanentSourceError, match="redirects are not followed"):
            await directory.ids("staff")
    assert len(server.requests) == 1


async def test_a_node_that_only_points_on_is_not_followed_for_ever() -> None:
    async with serving(redirect("/node2")) as server, adap(server) as directory:
        with pytest.raises(PermanentSourceError, match="VDS ADAP redirects to"):
            await directory.ids("staff")
    assert len(server.requests) == 2


async def test_the_wrapper_follows_nobody() -> None:
    async with serving(redirect("/elsewhere")) as server, wrapper(server) as directory:
        with pytest.raises(PermanentSourceError, match="redirects are not followed"):
            await directory.ids("staff")
    assert len(server.requests) == 1


# ------------------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize("client", [wrapper, adap])
@pytest.mark.parametrize(
    "replies",
    [
        [answer({"error": f"no {BUID} for {SECRET}"})],
        [answer(output(found([entry([BUID, SECRET])]), f"{BUID} {SECRET}"))],
        [answer(page(people(1, 1), -2, "canary-cookie")), answer(b"canary-cookie U12345678", 400)],
        [answer(page(people(1, 1), -2, "canary-cookie")), redirect("http://x.example/?cookie=canary-cookie")],
    ],
)
async def test_no_person_and_no_secret_is_named(
    client: Any, replies: list[Reply], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as caught:
        await ask(client, *replies)
    said = "".join([*traceback.format_exception(caught.value), repr(caught.value), caplog.text])
    assert [canary for canary in (BUID, SECRET, "canary-cookie") if canary in said] == []


async def test_neither_clients_nor_answers_show_what_they_hold() -> None:
    clients: list[VirtualDirectory] = [
        VdsWrapper("https://x.example", SecretStr(SECRET)),
        VdsAdap("https://x.example", BASE_DN, basic=("cn=x", SecretStr(SECRET))),
    ]
    assert "canary" not in repr(clients) + repr([vars(client) for client in clients])
    assert BUID not in repr(await ask(wrapper, answer(output(found([entry(BUID), entry([[BUID]])])))))
