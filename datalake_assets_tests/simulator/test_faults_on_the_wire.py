"""Every fault, as it arrives at a socket, on both faces of PeopleSoft."""

import ast
import gzip
import json
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets.simulator.faults import KNOBS
from datalake_assets_tests.simulator.callers import (
    Heard,
    ask_cstools,
    ask_qas,
    call,
    cstools_headers,
    cstools_rows,
    key_of,
)

Ask = Callable[..., Heard]
ENDPOINTS = [pytest.param(ask_cstools, id="cstools"), pytest.param(ask_qas, id="qas")]
both = pytest.mark.parametrize("ask", ENDPOINTS)

VICTIM = "UGRD/2258"


def rows_of(heard: Heard) -> list[Any]:
    data = heard.json()["data"]
    rows: list[Any] = data if isinstance(data, list) else data["query"]["rows"]
    return rows


def strike(simulator: SimulatorControl, fault: str, **settings: object) -> None:
    simulator.set_faults([{"fault": fault, **settings}])


def faulty(simulator: SimulatorControl, ask: Ask, fault: str, **settings: object) -> Heard:
    strike(simulator, fault, **settings)
    return ask(simulator)


def victim_of(heard: Heard) -> dict[str, Any]:
    [row] = [row for row in rows_of(heard) if isinstance(row, dict) and row.get("STRM") and key_of(row) == VICTIM]
    return dict(row)


# ------------------------------------------------------------------------------------------------- status


@both
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("status_401", 401),
        ("status_403", 403),
        ("status_404", 404),
        ("status_429", 429),
        ("status_500", 500),
        ("status_502_html", 502),
        ("status_503", 503),
        ("status_504_html", 504),
    ],
)
def test_a_status_is_sent(simulator: SimulatorControl, ask: Ask, fault: str, status: int) -> None:
    heard = faulty(simulator, ask, fault)
    assert heard.status == status
    is_page = fault.endswith("_html") or ask is ask_qas
    assert heard.headers["content-type"].startswith("text/html" if is_page else "application/json")
    assert ("www-authenticate" in heard.headers) == (ask is ask_qas and status == 401)
    assert "retry-after" not in heard.headers


@both
@pytest.mark.parametrize("fault", ["status_429", "status_503"])
def test_retry_after_comes_in_every_form(simulator: SimulatorControl, ask: Ask, fault: str) -> None:
    found = {
        form: faulty(simulator, ask, fault, retry_after=form, retry_after_s=7).headers.get("retry-after")
        for form in KNOBS[fault].parameters["retry_after"].options
    }
    now = datetime.now(UTC)
    assert abs(parsedate_to_datetime(found.pop("http_date") or "") - now - timedelta(seconds=7)) < timedelta(seconds=5)
    assert parsedate_to_datetime(found.pop("past_date") or "") < now
    assert found == {"absent": None, "seconds": "7", "garbage": "in a while", "86400": "86400"}


@both
def test_a_key_expires_at_the_nth_request(simulator: SimulatorControl, ask: Ask) -> None:
    strike(simulator, "key_expires_at_request", n=3)
    assert [ask(simulator).status for _ in range(4)] == [200, 200, 401, 401]


@both
def test_a_redirect_stays_on_this_server(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "redirect_302", target="same_origin")
    assert (heard.status, heard.headers["location"]) == (302, "/elsewhere/login")


@both
def test_a_redirect_to_another_host_is_logged_with_what_it_was_told(simulator: SimulatorControl, ask: Ask) -> None:
    """The other name is this server too, so that a key that follows a redirect is seen."""
    heard = faulty(simulator, ask, "redirect_302", target="cross_origin")
    port = simulator.base_url.rpartition(":")[2]
    assert (heard.status, heard.headers["location"]) == (302, f"http://localhost:{port}/elsewhere/login")
    call(simulator, "GET", "/elsewhere/login", cstools_headers(simulator))
    last = simulator.requests()["requests"][-1]
    assert (last["endpoint"], last["headers"]["x-api-key"], last["status"]) == (None, True, 404)


# ---------------------------------------------------------------------------------------------- transport


@both
def test_latency_comes_before_the_first_byte(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "latency", ms=200, jitter_ms=50)
    assert 0.2 <= heard.pieces[0][0] < 2
    assert heard.status == 200


@both
def test_a_stall_is_silence_in_the_middle(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "stall", after_bytes=100, seconds=0.4)
    silences = [
        (later - earlier, size) for (earlier, size), (later, _) in zip(heard.pieces, heard.pieces[1:], strict=False)
    ]
    longest, said_before = max(silences)
    assert longest > 0.3
    assert said_before == len(heard.head) + 4 + 100
    assert len(rows_of(heard)) == 143


def test_a_stall_that_outlasts_the_caller_ends_with_him(simulator: SimulatorControl) -> None:
    strike(simulator, "stall", after_bytes=100, seconds=600)
    assert ask_cstools(simulator, patience_s=0.2).end == "silent"
    simulator.set_faults()
    ask_cstools(simulator)
    told = simulator.requests()
    assert told["requests"][0]["bytes"] == 100
    assert told["endpoints"]["cstools"] == {"requests": 2, "high_water": 1}


@both
def test_a_trickle_never_falls_silent(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "trickle", bytes_per_second=60_000)
    assert heard.pieces[-1][0] > 0.3
    assert len(heard.pieces) > 5
    assert len(rows_of(heard)) == 143


@both
def test_a_connection_is_reset_before_anything_is_said(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "conn_reset", when="before_headers")
    assert (heard.raw, heard.end) == (b"", "reset")


@both
def test_a_connection_is_reset_within_the_body(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "conn_reset", when="mid_body")
    assert heard.end == "reset"
    assert heard.status == 200
    assert 0 < len(heard.body) < int(heard.headers["content-length"])


@both
def test_a_length_promises_more_than_comes(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "content_length_lie", how="more")
    assert heard.end == "closed"
    assert int(heard.headers["content-length"]) == len(heard.body) + 100
    assert json.loads(heard.body)


@both
def test_a_length_promises_less_than_comes(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "content_length_lie", how="less")
    length = int(heard.headers["content-length"])
    assert length == len(heard.body) - 100
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.body[:length])


@both
def test_a_body_without_a_length_ends_early(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "body_cut", how="close_delimited")
    assert (heard.status, heard.end) == (200, "closed")
    assert not {"content-length", "transfer-encoding"} & heard.headers.keys()
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.body)


@both
def test_the_last_chunk_never_comes(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "body_cut", how="chunked")
    assert (heard.headers["transfer-encoding"], heard.end) == ("chunked", "closed")
    size, _, rest = heard.body.partition(b"\r\n")
    assert len(rest) == int(size, 16) + 2
    assert not heard.body.endswith(b"0\r\n\r\n")


@both
def test_a_gzip_stream_is_cut_in_an_answer_that_http_calls_complete(simulator: SimulatorControl, ask: Ask) -> None:
    strike(simulator, "body_cut", how="gzip")
    heard = ask(simulator, ("accept-encoding", "gzip"))
    assert len(heard.body) == int(heard.headers["content-length"])
    assert heard.headers["content-encoding"] == "gzip"
    unpacker = zlib.decompressobj(wbits=31)
    assert unpacker.decompress(heard.body)
    assert not unpacker.eof


# ------------------------------------------------------------------------------------------------- bodies


@both
@pytest.mark.parametrize(
    ("how", "content_type", "says"),
    [
        ("ps_status_error", "application/json", '"status":"error"'),
        ("ib_fault_xml", "text/xml; charset=utf-8", '<IBResponse type="error">'),
        ("login_html", "text/html; charset=utf-8", '<input name="pwd" type="password">'),
    ],
)
def test_an_error_calls_itself_200(
    simulator: SimulatorControl, ask: Ask, how: str, content_type: str, says: str
) -> None:
    heard = faulty(simulator, ask, "error_200", how=how)
    assert (heard.status, heard.headers["content-type"]) == (200, content_type)
    assert says in heard.text


@both
def test_raw_control_characters_stand_in_a_string(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "malformed_json", how="raw_control", keys=[VICTIM])
    assert b'"Fall\t2025"' in heard.body
    with pytest.raises(json.JSONDecodeError, match="Invalid control character"):
        json.loads(heard.body)
    assert json.loads(heard.body, strict=False)


@both
def test_a_quote_is_not_escaped(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "malformed_json", how="unescaped_quote", keys=[VICTIM])
    assert b'"Fa"ll 2025"' in heard.body
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.body)


@both
def test_a_comma_trails(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "malformed_json", how="trailing_comma")
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.body)
    assert json.loads(heard.body.replace(b",]", b"]"))


@both
def test_json_is_cut_in_an_answer_that_http_calls_complete(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "malformed_json", how="cut")
    assert len(heard.body) == int(heard.headers["content-length"])
    with pytest.raises(json.JSONDecodeError):
        json.loads(heard.body)


@both
def test_a_value_is_not_a_number(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "malformed_json", how="nan", keys=[VICTIM])
    assert b'"DESCR":NaN' in heard.body
    assert len(rows_of(heard)) == 143


@both
def test_a_field_stands_twice_in_a_row(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "malformed_json", how="dup_keys", keys=[VICTIM])
    assert len(re.findall(rb'"DESCR":', heard.body)) == 144
    assert victim_of(heard)["DESCR"] == "twice"


@both
def test_a_byte_order_mark_comes_first(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "encoding", how="bom")
    assert heard.body.startswith(b"\xef\xbb\xbf{")
    assert json.loads(heard.body.decode("utf-8-sig"))


@both
@pytest.mark.parametrize("how", ["latin1_body", "bad_utf8_byte"])
def test_the_body_is_not_utf_8(simulator: SimulatorControl, ask: Ask, how: str) -> None:
    heard = faulty(simulator, ask, "encoding", how=how)
    assert heard.headers["content-type"] == "application/json"
    with pytest.raises(UnicodeDecodeError):
        heard.body.decode("utf-8")
    assert len(json.loads(heard.body.decode("latin-1"))["data"]) in (1, 143)


@both
def test_the_body_is_utf_16(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "encoding", how="utf16")
    assert heard.headers["content-type"] == "application/json; charset=utf-16"
    assert json.loads(heard.body.decode("utf-16"))


@both
def test_the_header_names_the_wrong_charset(simulator: SimulatorControl, ask: Ask) -> None:
    heard = faulty(simulator, ask, "encoding", how="wrong_charset_header")
    assert heard.headers["content-type"] == "application/json; charset=iso-8859-1"
    assert "Genève" in heard.body.decode("utf-8")
    assert "Genève" not in heard.body.decode("iso-8859-1")


@pytest.mark.parametrize(
    ("how", "cstools", "qas"),
    [
        ("null_data", {"data": None}, {"status": "success", "data": None}),
        ("missing_data_key", {}, {"status": "success"}),
        (
            "empty_result",
            {"data": []},
            {"status": "success", "data": {"query": {"numrows": 0, "queryname=": "BU_TERM_QRY", "rows": []}}},
        ),
    ],
)
def test_the_envelope_holds_no_rows(
    simulator: SimulatorControl, how: str, cstools: dict[str, Any], qas: dict[str, Any]
) -> None:
    strike(simulator, "shape", how=how)
    assert ask_cstools(simulator).json() == cstools
    assert ask_qas(simulator).json() == qas


def test_an_object_stands_where_the_array_belongs(simulator: SimulatorControl) -> None:
    strike(simulator, "shape", how="object_for_array")
    assert ask_cstools(simulator).json()["data"]["attr:rownumber"] == 1
    assert ask_qas(simulator).json()["data"]["query"]["rows"]["attr:rownumber"] == 1


@both
def test_rows_come_without_numbers(simulator: SimulatorControl, ask: Ask) -> None:
    rows = rows_of(faulty(simulator, ask, "shape", how="no_rownumber"))
    assert len(rows) == 143
    assert not any("attr:rownumber" in row for row in rows)


# --------------------------------------------------------------------------------------------------- rows


def test_a_cap_cuts_and_says_nothing(simulator: SimulatorControl) -> None:
    strike(simulator, "row_cap", rows=100)
    assert [row["attr:rownumber"] for row in cstools_rows(simulator)] == list(range(1, 101))
    query = ask_qas(simulator).json()["data"]["query"]
    assert (query["numrows"], len(query["rows"])) == (100, 100)


def test_rows_are_missing_but_count_and_numbers_tell(simulator: SimulatorControl) -> None:
    strike(simulator, "missing_records", rate=0.1)
    numbers = [row["attr:rownumber"] for row in cstools_rows(simulator)]
    assert len(numbers) < 143
    assert max(numbers) == 143
    query = ask_qas(simulator).json()["data"]["query"]
    assert query["numrows"] == 143
    assert len(query["rows"]) < 143
    strike(simulator, "missing_records", rate=1)
    assert [row["attr:rownumber"] for row in cstools_rows(simulator)] == [143]


@both
def test_a_row_comes_twice_alike(simulator: SimulatorControl, ask: Ask) -> None:
    rows = rows_of(faulty(simulator, ask, "dup_records", how="same", keys=[VICTIM]))
    first, second = (row for row in rows if key_of(row) == VICTIM)
    assert first.pop("attr:rownumber") + 1 == second.pop("attr:rownumber")
    assert first == second
    assert [row["attr:rownumber"] for row in rows if "attr:rownumber" in row][-1] == 144


@both
def test_a_row_comes_twice_with_a_difference(simulator: SimulatorControl, ask: Ask) -> None:
    rows = rows_of(faulty(simulator, ask, "dup_records", how="different", keys=[VICTIM]))
    first, second = (row["DESCR"] for row in rows if key_of(row) == VICTIM)
    assert (first, second) == ("Fall 2025", "Fall 2025*")


@both
@pytest.mark.parametrize(
    ("how", "field", "value"),
    [
        ("text_number", "DESCR", 2025),
        ("text_bool", "DESCR", True),
        ("text_object", "DESCR", {"value": "Fall 2025"}),
        ("text_too_long", "DESCR", "Fall 2025 x".ljust(60, "x")),
        ("key_number", "STRM", 2258),
        ("key_null", "STRM", None),
        ("row_number_text", "attr:rownumber", "30"),
    ],
)
def test_a_value_has_another_type(simulator: SimulatorControl, ask: Ask, how: str, field: str, value: object) -> None:
    rows = rows_of(faulty(simulator, ask, "wrong_types", how=how, keys=[VICTIM]))
    assert rows[29][field] == value
    assert type(rows[29][field]) is type(value)
    assert len(rows) == 143


@both
@pytest.mark.parametrize(
    ("how", "row"),
    [
        ("row_text", "UGRD 2258"),
        ("row_null", None),
        ("row_list", ["UGRD", "2258"]),
        ("row_empty", {"attr:rownumber": 30}),
    ],
)
def test_a_row_is_none(simulator: SimulatorControl, ask: Ask, how: str, row: object) -> None:
    rows = rows_of(faulty(simulator, ask, "wrong_types", how=how, keys=[VICTIM]))
    assert rows[29] == row
    assert len(rows) == 143


@both
def test_a_key_is_missing(simulator: SimulatorControl, ask: Ask) -> None:
    rows = rows_of(faulty(simulator, ask, "wrong_types", how="key_missing", keys=[VICTIM]))
    assert "STRM" not in rows[29]


@both
def test_poison_is_what_databases_and_parsers_refuse(simulator: SimulatorControl, ask: Ask) -> None:
    bodies = {
        how: faulty(simulator, ask, "poison", how=how, keys=[VICTIM], depth=300, length=70, mb=0.1).body
        for how in KNOBS["poison"].parameters["how"].options
    }
    assert b'"DESCR":"Fall\\u0000 2025"' in bodies["nul"]
    assert b'"DESCR":"Fall\\ud83d"' in bodies["lone_surrogate"]
    assert b'"BU_NOTE":1e400000' in bodies["huge_number"]
    assert b'"BU_NOTE":' + b"[" * 300 + b"]" * 300 in bodies["deep_nesting"]
    assert b'"BU_' + b"K" * 70 + b'":"long"' in bodies["long_key"]
    assert b'"BU_NOTE":"' + b"x" * 104_857 in bodies["huge_doc_mb"]


@both
def test_a_sensitive_key_stands_where_none_belongs(simulator: SimulatorControl, ask: Ask) -> None:
    def sensitive(how: str) -> dict[str, Any]:
        return victim_of(faulty(simulator, ask, "sensitive_elsewhere", how=how, keys=[VICTIM]))

    assert sensitive("upper")["SSN"].startswith("900-")
    assert sensitive("mixed")["SocialSecurityNumber"].startswith("900-")
    contact = sensitive("nested")["BU_CONTACT"]
    assert contact["Ssn"].startswith("900-")
    assert contact["notes"] == [{"finAid": "yes", "n": 1}]


@both
def test_faults_of_rows_strike_a_share_of_them_alike_on_every_attempt(simulator: SimulatorControl, ask: Ask) -> None:
    strike(simulator, "sensitive_elsewhere", rate=0.2)
    struck = [{key_of(row) for row in rows_of(ask(simulator)) if "SSN" in row} for _ in range(2)]
    assert struck[0] == struck[1]
    assert 10 < len(struck[0]) < 50


# ------------------------------------------------------------------------------------------------ general


def test_faults_combine(simulator: SimulatorControl) -> None:
    simulator.set_faults(
        [
            {"fault": "latency", "ms": 100},
            {"fault": "poison", "how": "nul", "keys": [VICTIM]},
            {"fault": "wrong_types", "how": "key_null", "keys": ["LAW/2258"]},
            {"fault": "encoding", "how": "bom"},
            {"fault": "status_503", "first_n": 1},
        ]
    )
    refused, heard = ask_cstools(simulator), ask_cstools(simulator)
    assert refused.status == 503
    assert heard.pieces[0][0] >= 0.1
    assert heard.body.startswith(b"\xef\xbb\xbf")
    assert b"Fall\\u0000" in heard.body
    assert b'"STRM":null' in heard.body


def test_a_fault_stays_within_its_scope_and_its_days(simulator: SimulatorControl) -> None:
    strike(simulator, "status_503", scope="qas", days=["2026-11-21.."])
    seen = []
    for day in ("2026-11-20", "2026-11-21", "2026-11-22"):
        simulator.set_day(day)
        seen.append((ask_cstools(simulator).status, ask_qas(simulator).status))
    assert seen == [(200, 200), (200, 503), (200, 503)]


def test_attempts_are_counted_for_each_endpoint_and_day(simulator: SimulatorControl) -> None:
    strike(simulator, "status_503", first_n=1)
    assert [ask_cstools(simulator).status, ask_qas(simulator).status, ask_cstools(simulator).status] == [503, 503, 200]
    simulator.set_day("2026-11-21")
    assert [ask_cstools(simulator).status for _ in range(2)] == [503, 200]


def test_every_form_of_every_fault_is_observed_in_this_folder() -> None:
    """A knob that is added without a test of what it does on the wire would be a guess."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*.py")]
    named = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    options = {
        option for knob in KNOBS.values() for parameter in knob.parameters.values() for option in parameter.options
    }
    assert set(KNOBS) | options <= named


def test_gzip_and_plain_answers_carry_the_same_fault(simulator: SimulatorControl) -> None:
    strike(simulator, "poison", how="nul", keys=[VICTIM])
    packed = ask_cstools(simulator, ("accept-encoding", "gzip"))
    assert gzip.decompress(packed.body) == ask_cstools(simulator).body
