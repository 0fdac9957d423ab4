import json
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.peoplesoft import (
    ROW_NUMBER,
    CsTools,
    PeopleSoftQueries,
    QueryAccessService,
    QueryAnswer,
    UnusableRow,
)
from datalake_assets.sources.policies import TERM_QUERY, RequestPolicy
from datalake_assets_tests.sources.fault_server import (
    FaultServer,
    Reply,
    answer,
    chunks,
    close_delimited,
    length_lie,
    serving,
)

pytestmark = pytest.mark.anyio

FAST = replace(TERM_QUERY, connect_s=0.5, read_s=0.5, total_s=1, attempts=2, backoff_base_s=0.01, backoff_cap_s=0.02)
SECRET = "canary-secret"
PERSON = "canary-person"
BUID = "U12345678"


def qas(server: FaultServer, policy: RequestPolicy = FAST, **more: Any) -> QueryAccessService:
    return QueryAccessService(server.url, "loader", SecretStr(SECRET), policy=policy, **more)


def cs_tools(server: FaultServer, policy: RequestPolicy = FAST, **more: Any) -> CsTools:
    return CsTools(f"{server.url}/api/v1/queries/execute", SecretStr(SECRET), policy=policy, **more)


def row(number: object, **fields: object) -> dict[str, object]:
    return {ROW_NUMBER: number, "STRM": "2258", **fields}


def qas_document(rows: object, *, name: str = "BU_TERM_QRY", count: object = ..., **more: object) -> dict[str, Any]:
    counted = (len(rows) if isinstance(rows, list) else 0) if count is ... else count
    query = {"numrows": counted, "queryname=": name, "rows": rows}
    return {"status": "success", "data": {"query": query}, **more}


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return document


async def ask(
    client: Callable[[FaultServer], QueryAccessService | CsTools],
    *replies: Reply,
    prompts: Mapping[str, str] | None = None,
    may_be_empty: bool = False,
) -> QueryAnswer:
    async with serving(*replies) as server, client(server) as queries:
        return await queries.run_query("BU_TERM_QRY", prompts, may_be_empty=may_be_empty)


# --- what is asked


async def test_qas_is_asked_by_the_documented_path_and_parameters() -> None:
    async with serving(answer(qas_document([row(1)]))) as server, qas(server) as queries:
        await queries.run_query("BU_TERM_QRY")
        await queries.run_query("BU_TERM_QRY", {"BUID": "U12345678", "TERM": "22 58"})
    folder = "/PSIGW/RESTListeningConnector/PSFT_CS/ExecuteQuery.v1/PUBLIC/BU_TERM_QRY/JSON/NONFILE"
    first, second = server.requests
    assert (first.method, first.target) == ("GET", f"{folder}?isconnectedquery=N&maxrows=0&json_resp=true")
    assert second.target == (
        f"{folder}?isconnectedquery=N&maxrows=0"
        "&prompt_uniquepromptname=BUID,TERM&prompt_fieldvalue=U12345678,22%2058&json_resp=true"
    )
    assert first.headers["authorization"] == "Basic bG9hZGVyOmNhbmFyeS1zZWNyZXQ="
    assert "application/json" in first.headers["accept"]


async def test_qas_can_be_asked_on_another_node_and_as_another_owner() -> None:
    async with (
        serving(answer(qas_document([row(1)]))) as server,
        qas(server, node="PSFT_HR", owner="private") as queries,
    ):
        await queries.run_query("BU_TERM_QRY")
    assert "/PSFT_HR/ExecuteQuery.v1/private/BU_TERM_QRY/" in server.requests[0].target


async def test_cs_tools_is_asked_by_post() -> None:
    async with serving(answer({"data": [row(1)]})) as server, cs_tools(server) as queries:
        await queries.run_query("BU_TERM_QRY")
        await queries.run_query("BU_TERM_QRY", {"BUID": "U12345678"})
    first, second = server.requests
    assert (first.method, first.target) == ("POST", "/api/v1/queries/execute")
    assert first.headers["x-api-key"] == SECRET
    assert first.headers["content-type"] == "application/json"
    assert json.loads(first.body) == {"query_name": "BU_TERM_QRY"}
    assert json.loads(second.body) == {
        "query_name": "BU_TERM_QRY",
        "prompt_names": ["BUID"],
        "prompt_values": ["U12345678"],
    }


NEVER_ASKED = [
    ("BU_TERM_QRY/../X", None, "is not the name of a PeopleSoft query"),
    ("", None, "is not the name of a PeopleSoft query"),
    ("BU_TERM_QRY", {"BUID": " "}, "A prompt has no name or no value"),
    ("BU_TERM_QRY", {"": "U12345678"}, "A prompt has no name or no value"),
    ("BU_TERM_QRY", {"BUID": "U1\r\nX: 1"}, "or one that cannot be sent"),
    ("BU_TERM_QRY", {"BUID": "U1\ud800"}, "or one that cannot be sent"),
]


@pytest.mark.parametrize("client", [qas, cs_tools])
@pytest.mark.parametrize(("name", "prompts", "sentence"), NEVER_ASKED)
async def test_what_cannot_be_meant_is_not_asked(
    client: Callable[[FaultServer], QueryAccessService | CsTools],
    name: str,
    prompts: dict[str, str] | None,
    sentence: str,
) -> None:
    """An empty prompt means "everybody" to some queries."""
    async with serving(answer(qas_document([row(1)]))) as server, client(server) as queries:
        with pytest.raises(PermanentSourceError, match=sentence):
            await queries.run_query(name, prompts)
    assert server.requests == []


@pytest.mark.parametrize("prompts", [{"BUID": "U12345678,U2"}, {"A,B": "x"}])
async def test_qas_is_not_asked_for_a_value_with_a_comma(prompts: dict[str, str]) -> None:
    """QAS would read it as two values and answer for somebody else."""
    async with serving(answer(qas_document([row(1)]))) as server, qas(server) as queries:
        with pytest.raises(PermanentSourceError, match="A prompt holds a comma") as caught:
            await queries.run_query("BU_TERM_QRY", prompts)
    assert server.requests == []
    assert "U12345678" not in str(caught.value)


@pytest.mark.parametrize("part", ["node", "owner"])
def test_names_that_would_change_the_path_are_refused(part: str) -> None:
    with pytest.raises(PermanentSourceError, match=f"The {part} 'a/b' is not a PeopleSoft name"):
        QueryAccessService("https://x.example", "u", SecretStr("pass"), policy=FAST, **{part: "a/b"})


# --- what comes back


async def test_qas_rows_lose_their_transport_field_and_their_alias() -> None:
    sent = [
        {ROW_NUMBER: 1, "A.STRM": "2258", "B1.DESCR": "Fall", "lower.case": 1, "A.B.C": 2},
        {ROW_NUMBER: 2, "STRM": "2261"},
    ]
    got = await ask(qas, answer(qas_document(sent)))
    assert got.rows == (
        {"STRM": "2258", "DESCR": "Fall", "lower.case": 1, "A.B.C": 2},
        {"STRM": "2261"},
    )
    assert (got.ordinals, got.proof, got.attempts, got.query) == ((1, 2), "row_count", 1, "BU_TERM_QRY")
    assert got.bytes_in > 100


async def test_values_stay_as_they_were_sent() -> None:
    body = b'{"data":[{"a":" x ","b":"","c":null,"n":12345678901234567890.1230,"i":007}]}'.replace(b"007", b"7")
    got = await ask(cs_tools, answer(body))
    (first,) = got.rows
    assert isinstance(first, dict)
    assert (first["a"], first["b"], first["c"], first["i"]) == (" x ", "", None, 7)
    assert str(first["n"]) == "12345678901234567890.1230"


async def test_the_pointer_names_the_request_and_no_person() -> None:
    prompts = {"BUID": "U12345678", "NAME": PERSON}
    for client, reply in [(qas, qas_document([row(1)])), (cs_tools, {"data": [row(1)]})]:
        got = await ask(client, answer(reply), prompts=prompts)
        assert "BU_TERM_QRY" in got.pointer
        assert "127.0.0.1" in got.pointer
        assert "request id" in got.pointer
        assert "U12345678" not in got.pointer
        assert PERSON not in got.pointer


async def test_the_query_name_may_come_back_in_another_case() -> None:
    got = await ask(qas, answer(qas_document([row(1)], name="bu_term_qry ")))
    assert len(got.rows) == 1


async def test_control_characters_are_accepted_from_qas_alone() -> None:
    """PeopleCode's writer leaves tabs and line breaks unescaped; the wrapper has a real JSON writer."""
    body = json.dumps(qas_document([row(1, DESCR="Fall#2025")])).encode().replace(b"#", b"\t\n")
    got = await ask(qas, answer(body))
    assert got.rows == ({"STRM": "2258", "DESCR": "Fall\t\n2025"},)
    assert got.control_characters
    with pytest.raises(PermanentSourceError, match="is not readable"):
        await ask(cs_tools, answer(b'{"data":[{"a":"\t"}]}'))


async def test_a_byte_order_mark_does_no_harm() -> None:
    got = await ask(qas, answer(b"\xef\xbb\xbf" + json.dumps(qas_document([row(1)])).encode()))
    assert len(got.rows) == 1
    assert not got.control_characters


async def test_an_explicit_empty_list_is_an_answer_where_it_may_be() -> None:
    for client, reply in [(qas, qas_document([])), (cs_tools, {"data": []})]:
        got = await ask(client, answer(reply), may_be_empty=True)
        assert (got.rows, got.ordinals) == ((), ())


# --- answers that cannot be trusted

IB_FAULT = (
    b'<?xml version="1.0"?>\n<IBResponse type="error"><DefaultTitle>Integration Broker Response</DefaultTitle>'
    b"<StatusCode>20</StatusCode><MessageSet>158</MessageSet><MessageID>10001</MessageID>"
    b"<DefaultMessage><![CDATA[Query  BU_TERM_QRY\n failed for U12345678]]></DefaultMessage></IBResponse>"
)

NO_TRUST: list[tuple[str, Any, Any, str]] = [
    # T1, P2, P3: an answer without rows is no answer
    ("qas_empty", qas, qas_document([]), "has no rows, and this query always has some"),
    ("qas_rows_null", qas, qas_document(None, count=0), "has null where the list 'rows' belongs"),
    ("qas_rows_object", qas, qas_document({"a": 1}), "has an object where the list 'rows' belongs"),
    ("qas_no_rows", qas, without(qas_document([row(1)]), "data", "query", "rows"), "has no 'rows'"),
    ("qas_no_numrows", qas, without(qas_document([row(1)]), "data", "query", "numrows"), "has no 'numrows'"),
    ("qas_no_name", qas, without(qas_document([row(1)]), "data", "query", "queryname="), "has no 'queryname='"),
    ("qas_no_query", qas, without(qas_document([row(1)]), "data", "query"), "has no 'query'"),
    ("qas_no_data", qas, without(qas_document([row(1)]), "data"), "has no 'data'"),
    ("qas_no_status", qas, without(qas_document([row(1)]), "status"), "has no 'status'"),
    ("qas_data_null", qas, {"status": "success", "data": None}, "has null where an object with 'query' belongs"),
    ("qas_object", qas, {}, "has no 'status'"),
    ("qas_list", qas, [row(1)], "has a list where an object with 'status' belongs"),
    ("qas_error", qas, {"error": "no such query"}, "has no 'status'. It said: 'no such query'"),
    ("cs_empty", cs_tools, {"data": []}, "has no rows, and this query always has some"),
    ("cs_null", cs_tools, {"data": None}, "has null where the list 'data' belongs"),
    ("cs_object_for_list", cs_tools, {"data": row(1)}, "has an object where the list 'data' belongs"),
    ("cs_object", cs_tools, {}, "has no 'data'"),
    ("cs_list", cs_tools, [row(1)], "has a list where an object with 'data' belongs"),
    ("cs_error", cs_tools, {"message": "Endpoint request timed out"}, "It said: 'Endpoint request timed out'"),
    ("cs_detail", cs_tools, {"detail": [{"input": PERSON}]}, "has no 'data'. It said: a list"),
    ("cs_both", cs_tools, {"data": [row(1)], "error": "partial"}, "holds an error: 'partial'"),
    # what QAS says of itself
    ("qas_status", qas, qas_document([row(1)], status="error"), "says its status is 'error', not success"),
    ("qas_status_null", qas, qas_document([row(1)], status=None), "says its status is null, not success"),
    ("qas_other_query", qas, qas_document([row(1)], name="BU_OTHER"), "is for the query 'BU_OTHER', not BU_TERM"),
    # T5 and completeness: rows cannot be proved to be all
    ("qas_fewer", qas, qas_document([row(1), row(2)], count=3), "counts 3 of rows and holds 2"),
    ("qas_more", qas, qas_document([row(1), row(2)], count=1), "counts 1 of rows and holds 2"),
    ("qas_count_null", qas, qas_document([row(1)], count=None), "counts no number of rows and holds 1"),
    ("qas_count_true", qas, qas_document([row(1)], count=True), "counts no number of rows and holds 1"),
    ("qas_count_float", qas, qas_document([row(1)], count=1.0), "counts no number of rows and holds 1"),
    ("qas_gap", qas, qas_document([row(1), row(2), row(4)]), "has row numbers from 1 to 4 for 3 rows"),
    ("qas_from_zero", qas, qas_document([row(0), row(1)]), "has row numbers from 0 to 1 for 2 rows"),
    ("qas_repeated", qas, qas_document([row(1), row(2), row(2)]), "repeats 1 of its row numbers"),
    ("cs_gap", cs_tools, {"data": [row(1), row(3)]}, "has row numbers from 1 to 3 for 2 rows"),
    ("cs_repeated", cs_tools, {"data": [row(1), row(1), row(2)]}, "repeats 1 of its row numbers"),
    ("cs_mixed", cs_tools, {"data": [row(1), {"STRM": "x"}]}, "number in 1 of its 2 rows and no other count"),
    ("cs_unreadable", cs_tools, {"data": [row("one"), row(None)]}, "number in 0 of its 2 rows and no other"),
    # what is not JSON
    ("qas_quote", qas, b'{"status":"success","data":{"x":"a"b"}}', "is not readable. The text is not JSON"),
    ("qas_latin1", qas, b'{"status":"\xe9"}', "is not readable. The text is not UTF-8"),
    ("cs_comma", cs_tools, b'{"data":[{"a":1},]}', "is not readable"),
    ("qas_twice", qas, b'{"status":"success","status":"success","data":{}}', "a field beside 'status' twice"),
    ("cs_twice", cs_tools, b'{"data":[{"a":1}],"data":[]}', "a field beside 'data' twice"),
    ("qas_fault", qas, IB_FAULT, 'StatusCode 20, MessageSet 158, MessageID 10001: "Query BU_TERM_QRY failed for ***"'),
    ("qas_other_xml", qas, b"<query><row/></query>", 'is XML where JSON was asked. It begins: "<query><row/>'),
    ("qas_login", qas, b"<html><input type=password>", "answered with an HTML page where JSON was asked"),
    ("cs_xml", cs_tools, IB_FAULT, "answered with XML where JSON was asked"),
]  # fmt: skip


@pytest.mark.parametrize(("client", "document", "sentence"), [pytest.param(*case[1:], id=case[0]) for case in NO_TRUST])
async def test_an_answer_that_cannot_be_trusted_is_refused(client: Any, document: Any, sentence: str) -> None:
    """H4: five shapes of status 200 that the predecessor took for "no terms"."""
    media = "text/xml" if isinstance(document, bytes) and document.startswith(b"<") else "application/json"
    async with serving(answer(document, content_type=media)) as server, client(server) as queries:
        with pytest.raises(PermanentSourceError) as caught:
            await queries.run_query("BU_TERM_QRY")
    assert sentence in caught.value.what
    assert "BU_TERM_QRY" in str(caught.value)
    assert caught.value.todo
    assert len(server.requests) == 1


@pytest.mark.parametrize("case", [case for case in NO_TRUST if case[0] not in {"qas_empty", "cs_empty"}])
async def test_only_an_explicit_empty_list_confirms_that_there_is_nothing(case: tuple[str, Any, Any, str]) -> None:
    """Invariant 2: null, a missing field or an error document is `failed`, also where rows may be missing."""
    _, client, document, sentence = case
    media = "text/xml" if isinstance(document, bytes) and document.startswith(b"<") else "application/json"
    with pytest.raises(PermanentSourceError) as caught:
        await ask(client, answer(document, content_type=media), may_be_empty=True)
    assert sentence in caught.value.what


@pytest.mark.parametrize(("rows", "trusted"), [(2, True), (3, False), (4, False)])
async def test_as_many_rows_as_the_cap_may_have_been_cut(rows: int, trusted: bool) -> None:
    """PeopleSoft's maximum rows to fetch cuts an answer, and nothing in the answer says so."""
    sent = [row(number) for number in range(1, rows + 1)]
    for client, reply in [(qas, qas_document(sent)), (cs_tools, {"data": sent})]:
        async with serving(answer(reply)) as server, client(server, row_cap=3) as queries:  # type: ignore[operator]
            if trusted:
                assert len((await queries.run_query("BU_TERM_QRY")).rows) == rows
            else:
                with pytest.raises(PermanentSourceError, match="maximum rows to fetch is 3, so it may have been"):
                    await queries.run_query("BU_TERM_QRY")


async def test_a_fault_about_the_logon_stops_the_source() -> None:
    fault = IB_FAULT.replace(b"Query  BU_TERM_QRY\n failed", b"Authentication failed")
    async with serving(answer(fault, content_type="text/xml")) as server, qas(server) as queries:
        for _ in range(2):
            with pytest.raises(PermanentSourceError, match="Authentication failed for"):
                await queries.run_query("BU_TERM_QRY")
    assert len(server.requests) == 1


async def test_another_fault_does_not_stop_the_source() -> None:
    replies = [answer(IB_FAULT, content_type="text/xml"), answer(qas_document([row(1)]))]
    async with serving(*replies) as server, qas(server) as queries:
        with pytest.raises(PermanentSourceError, match="fault of the Integration Broker"):
            await queries.run_query("BU_TERM_QRY")
        assert len((await queries.run_query("BU_TERM_QRY")).rows) == 1


# --- bodies that end


def whole(client: Any) -> bytes:
    rows = [row(1), row(2), row(3)]
    return json.dumps(qas_document(rows) if client is qas else {"data": rows}).encode()


@pytest.mark.parametrize("client", [qas, cs_tools])
async def test_a_body_cut_anywhere_is_never_accepted(client: Any) -> None:
    """H2: a body that ends with the connection gives no sign of having been cut, not even at the end of a row."""
    body = whole(client)
    cuts = sorted({*range(1, len(body), 7), *(i for i in range(1, len(body)) if body[i - 1 : i] in b"}],")})
    for cut in cuts:
        async with serving(close_delimited(body[:cut])) as server, client(server) as queries:
            with pytest.raises(TransientSourceError, match="ended early, twice"):
                await queries.run_query("BU_TERM_QRY")
        assert len(server.requests) == 2


@pytest.mark.parametrize("client", [qas, cs_tools])
@pytest.mark.parametrize("cut", ["unsized", "length_too_small", "chunks"])
async def test_a_body_that_was_cut_is_asked_for_once_more(client: Any, cut: str) -> None:
    body = whole(client)
    short = body[:-20]
    reply = {
        "unsized": close_delimited(short),
        "length_too_small": length_lie(body, len(short)),
        "chunks": chunks(short[:30], short[30:]),
    }[cut]
    got = await ask(client, reply, answer(body))
    assert len(got.rows) == 3


async def test_a_whole_unsized_body_is_accepted() -> None:
    assert len((await ask(qas, close_delimited(whole(qas)))).rows) == 3


# --- rows and their numbers


@pytest.mark.parametrize(
    ("numbers", "ordinals"),
    [
        ([1, 2, 3], (1, 2, 3)),
        ([3, 1, 2], (3, 1, 2)),
        (["1", "2", "3"], (1, 2, 3)),
        ([1, None, 3], (1, 2, 3)),
        ([2, "two", 1], (2, 3, 1)),
        ([None, True, 1.5], (1, 2, 3)),
        ([..., ..., ...], (1, 2, 3)),
        ([..., 1, ...], (2, 1, 3)),
    ],
)
async def test_qas_counts_its_rows_so_a_row_may_lack_its_number(
    numbers: list[object], ordinals: tuple[int, ...]
) -> None:
    """Fault T5: rows without attr:rownumber aborted the predecessor's load."""
    rows = [{"STRM": "x"} if number is ... else row(number, STRM="x") for number in numbers]
    got = await ask(qas, answer(qas_document(rows)))
    assert got.ordinals == ordinals
    assert got.rows == ({"STRM": "x"},) * 3
    assert got.proof == "row_count"


@pytest.mark.parametrize(
    ("numbers", "proof"), [([1, 2], "row_numbers"), (["2", 1], "row_numbers"), ([..., ...], "none")]
)
async def test_cs_tools_says_what_its_completeness_rests_on(numbers: list[object], proof: str) -> None:
    rows = [{"STRM": "x"} if number is ... else row(number) for number in numbers]
    got = await ask(cs_tools, answer({"data": rows}))
    assert (len(got.rows), got.proof) == (2, proof)


@pytest.mark.parametrize(
    ("sent", "rule", "reason"),
    [
        ("null", "row_not_object", "The row is null, not an object."),
        ("[1]", "row_not_object", "The row is a list, not an object."),
        ('"x"', "row_not_object", "The row is a text, not an object."),
        ("7", "row_not_object", "The row is a number, not an object."),
        ("false", "row_not_object", "The row is a truth value, not an object."),
        ("NaN", "row_not_object", "The row is a number, not an object."),
        (f'{{"{ROW_NUMBER}":2,"A.STRM":"1","B.STRM":"2"}}', "alias_clash", "Two fields of the row are called 'STRM'."),
        (f'{{"{ROW_NUMBER}":2,"STRM":"1","B.STRM":"2"}}', "alias_clash", "Two fields of the row are called 'STRM'."),
        (f'{{"{ROW_NUMBER}":2,"STRM":"1","STRM":"2"}}', "duplicate_key", "The row names a field twice."),
    ],
)
async def test_an_unusable_row_condemns_only_itself(sent: str, rule: str, reason: str) -> None:
    """Invariant 5: one bad document costs one document."""
    rows = f'[{{"{ROW_NUMBER}":1,"STRM":"a"}},{sent},{{"{ROW_NUMBER}":3,"STRM":"c"}}]'
    wrapped = {"numrows": 3, "queryname=": "BU_TERM_QRY", "rows": "#"}
    document = json.dumps({"status": "success", "data": {"query": wrapped}}).replace('"#"', rows)
    for client, body in [(qas, document), (cs_tools, f'{{"data":{rows}}}')]:
        got = await ask(client, answer(body.encode()))
        first, bad, third = got.rows
        assert (first, third) == ({"STRM": "a"}, {"STRM": "c"})
        assert isinstance(bad, UnusableRow)
        assert (bad.rule, bad.reason) == (rule, reason)
        assert got.ordinals == (1, 2, 3)


async def test_an_unusable_row_keeps_what_was_sent_but_does_not_show_it() -> None:
    sent = {ROW_NUMBER: 1, "A.ID": PERSON, "B.ID": "x"}
    got = await ask(cs_tools, answer({"data": [sent]}))
    (bad,) = got.rows
    assert isinstance(bad, UnusableRow)
    assert bad.value == {"A.ID": PERSON, "B.ID": "x"}
    assert PERSON not in repr(bad) + repr(got)


# --- what is said


@pytest.mark.parametrize("client", [qas, cs_tools])
@pytest.mark.parametrize(
    "reply",
    [
        answer({"error": f"no terms for {PERSON} / U12345678, key {SECRET}"}),
        answer({"status": f"failed for {PERSON}", "data": [], "errors": f"{PERSON} {SECRET}"}),
        answer(IB_FAULT.replace(b"U12345678", PERSON.encode()), content_type="text/xml"),
        answer(f"<x>{PERSON}U12345678{SECRET}</x>".encode(), content_type="text/xml"),
        answer(f'{{"data":[{{"id":"{PERSON}","k":"{SECRET}" "U12345678"'.encode()),
        answer({"detail": [{"input": ["U12345678", PERSON]}]}, 422),
        answer(f"{PERSON} U12345678 {SECRET}".encode(), 503),
    ],
)
async def test_no_person_and_no_secret_is_named(client: Any, reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    """Fault X3: the predecessor logged full lists of ids and complete error bodies."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as caught:
        await ask(client, reply, prompts={"BUID": BUID, "NAME": PERSON})
    said = "".join([*traceback.format_exception(caught.value), repr(caught.value), caplog.text])
    assert [canary for canary in (PERSON, BUID, SECRET) if canary in said] == []


def test_clients_do_not_show_their_secrets() -> None:
    clients = [
        QueryAccessService("https://x.example", "loader", SecretStr(SECRET), policy=FAST),
        CsTools("https://x.example/q", SecretStr(SECRET), policy=FAST),
    ]
    assert "canary" not in repr(clients) + repr([vars(client) for client in clients])


async def test_both_clients_are_peoplesoft_queries_and_count_what_they_cost() -> None:
    for client, reply in [(qas, qas_document([row(1)])), (cs_tools, {"data": [row(1)]})]:
        async with serving(answer(b"", 503), answer(reply)) as server, client(server) as opened:
            queries: PeopleSoftQueries = opened
            got = await queries.run_query("BU_TERM_QRY")
            assert (queries.stats.requests, queries.stats.retries, got.attempts) == (2, 1, 2)
            assert queries.stats.bytes_in == got.bytes_in
