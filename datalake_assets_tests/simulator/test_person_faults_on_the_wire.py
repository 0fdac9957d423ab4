"""Every fault of persons, as it arrives at a socket, from both person APIs."""

import json
import re
from typing import Any

import pytest

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets_tests.simulator.callers import (
    SCENARIO_START,
    Heard,
    ask_adap,
    ask_person_api,
    ask_persons,
    ask_sap,
    ask_snapperson,
    ask_vds,
    documents_of,
    people_of,
)

IDS = [person.id for person in people_of()][:40]
VICTIM = IDS[17]


def strike(simulator: SimulatorControl, fault: str, **settings: object) -> None:
    simulator.set_faults([{"fault": fault, "scope": "personapi", **settings}])


def stream(simulator: SimulatorControl, fault: str, **settings: object) -> Heard:
    strike(simulator, fault, **settings)
    return ask_persons(simulator, IDS)


def ids_of(heard: Heard) -> list[Any]:
    return [document["personid"] for document in documents_of(heard)]


def victim_of(heard: Heard) -> dict[str, Any]:
    [document] = [document for document in documents_of(heard) if document["personid"] == VICTIM]
    return dict(document)


def line_of(heard: Heard) -> bytes:
    """The line of the victim, whatever it holds."""
    [line] = [line for line in heard.lines if f'"{VICTIM}"'.encode() in line]
    return line


# ------------------------------------------------------------------------------------------------- stream


def test_a_stream_ends_early_and_its_chunks_end_well(simulator: SimulatorControl) -> None:
    """Nothing but the set of those asked for tells that it is not whole."""
    heard = stream(simulator, "ndjson_truncate", how="clean_eof", share=0.25)
    assert heard.lines[-1] == b""
    assert ids_of(heard) == IDS[:10]


def test_a_stream_ends_within_a_line(simulator: SimulatorControl) -> None:
    lines = stream(simulator, "ndjson_truncate", how="mid_line", share=0.25).lines
    assert len(lines) == 11
    assert lines[-1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(lines[-1])


def test_the_last_newline_is_missing_and_nothing_else(simulator: SimulatorControl) -> None:
    heard = stream(simulator, "ndjson_truncate", how="no_final_newline")
    assert heard.lines[-1]
    assert ids_of(heard) == IDS


@pytest.mark.parametrize(("how", "place"), [("meta", 0), ("summary", -2)])
def test_lines_of_other_types_come_first_or_last(simulator: SimulatorControl, how: str, place: int) -> None:
    heard = stream(simulator, "ndjson_extra_types", how=how)
    assert json.loads(heard.lines[place])["type"] == how
    assert ids_of(heard) == IDS


def test_blank_lines_are_the_heartbeat_of_a_slow_stream(simulator: SimulatorControl) -> None:
    heard = stream(simulator, "ndjson_extra_types", how="heartbeat")
    assert heard.lines.count(b"") == 5
    assert ids_of(heard) == IDS


def test_an_error_takes_the_place_of_a_record_and_names_the_person(simulator: SimulatorControl) -> None:
    heard = stream(simulator, "ndjson_extra_types", how="error", keys=[VICTIM])
    error = json.loads(line_of(heard))
    assert (error["type"], error["data"]["buid"]) == ("error", VICTIM)
    assert ids_of(heard) == [person_id for person_id in IDS if person_id != VICTIM]


def test_other_lines_combine(simulator: SimulatorControl) -> None:
    faults = [{"fault": "ndjson_extra_types", "scope": "personapi", "how": how} for how in ("meta", "summary")]
    simulator.set_faults([*faults, {"fault": "ndjson_crlf"}, {"fault": "ndjson_bom"}])
    heard = ask_persons(simulator, IDS)
    assert heard.lines[0].startswith(b'\xef\xbb\xbf{"type":"meta"')
    assert all(line.endswith(b"}\r") for line in heard.lines[:-1])
    assert json.loads(heard.lines[-2])["data"]["records"] == 40


@pytest.mark.parametrize("how", ["text", "scalar", "bad_utf8"])
def test_a_line_of_garbage_stands_in_the_middle(simulator: SimulatorControl, how: str) -> None:
    lines = stream(simulator, "ndjson_garbage_line", how=how).lines
    assert len(lines) == 42
    garbage = lines[20]
    if how == "bad_utf8":
        with pytest.raises(UnicodeDecodeError):
            garbage.decode()
    elif how == "text":
        with pytest.raises(json.JSONDecodeError):
            json.loads(garbage)
    else:
        assert json.loads(garbage) == 42


def test_a_stream_is_spoilt_as_a_whole(simulator: SimulatorControl) -> None:
    assert stream(simulator, "encoding", how="utf16").lines[0].startswith(b"\xff\xfe")
    assert "iso-8859-1" in stream(simulator, "encoding", how="wrong_charset_header").headers["content-type"]
    assert stream(simulator, "shape", how="empty_result").lines == [b""]
    assert stream(simulator, "error_200", how="login_html").headers["content-type"].startswith("text/html")
    bad = b"".join(stream(simulator, "encoding", how="bad_utf8_byte").chunks)
    with pytest.raises(UnicodeDecodeError):
        bad.decode()


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("null_data", {"data": None}),
        ("missing_data_key", {}),
        ("object_for_array", {"data": {}}),
        ("empty_result", {"data": []}),
    ],
)
def test_an_object_holds_no_persons(simulator: SimulatorControl, how: str, answer: object) -> None:
    strike(simulator, "shape", how=how)
    assert ask_persons(simulator, IDS, streamed=False).json() == answer


def test_a_cut_object_is_no_json(simulator: SimulatorControl) -> None:
    for how in ("cut", "trailing_comma"):
        strike(simulator, "malformed_json", how=how)
        with pytest.raises(json.JSONDecodeError):
            ask_persons(simulator, IDS, streamed=False).json()


def test_transport_faults_strike_a_stream(simulator: SimulatorControl) -> None:
    heard = stream(simulator, "body_cut", how="chunked")
    assert heard.chunks[-1] != b""
    assert stream(simulator, "conn_reset", when="mid_body").end == "reset"


# ------------------------------------------------------------------------------------------------ records


def test_a_person_is_missing_without_a_word(simulator: SimulatorControl) -> None:
    assert ids_of(stream(simulator, "missing_records", keys=[VICTIM])) == [one for one in IDS if one != VICTIM]


def test_a_person_comes_twice(simulator: SimulatorControl) -> None:
    same = documents_of(stream(simulator, "dup_records", how="same", keys=[VICTIM]))
    assert same[17] == same[18]
    other = documents_of(stream(simulator, "dup_records", how="different", keys=[VICTIM]))
    assert other[17] != other[18]
    assert other[17]["personid"] == other[18]["personid"] == VICTIM


def test_a_person_comes_who_was_not_asked_for(simulator: SimulatorControl) -> None:
    sent = ids_of(stream(simulator, "foreign_records", keys=[VICTIM]))
    [foreign] = set(sent) - set(IDS)
    assert sent[17:19] == [VICTIM, foreign]
    assert foreign in {person.id for person in people_of()}


def test_nothing_stands_in_the_place_of_a_person(simulator: SimulatorControl) -> None:
    assert documents_of(stream(simulator, "null_data", keys=[VICTIM]))[17] is None
    instead = documents_of(stream(simulator, "empty_docs", how="instead", keys=[VICTIM]))
    assert (instead[17], len(instead)) == ({}, 40)
    added = documents_of(stream(simulator, "empty_docs", how="added", keys=[VICTIM]))
    assert ({} in added, len(added)) == (True, 41)


def test_a_value_has_another_type(simulator: SimulatorControl) -> None:
    def struck(how: str) -> dict[str, Any]:
        document: dict[str, Any] = documents_of(stream(simulator, "wrong_types", how=how, keys=[VICTIM]))[17]
        return document

    assert struck("personid_number")["personid"] == int(VICTIM[1:])
    assert struck("personid_null")["personid"] is None
    assert struck("birth_date_number")["personBasic"]["birthDate"] == 20040229
    [basic] = struck("person_basic_list")["personBasic"]
    assert basic["ssn"].startswith("900-")


def test_poison_is_what_databases_and_parsers_refuse(simulator: SimulatorControl) -> None:
    def struck(how: str) -> bytes:
        return line_of(stream(simulator, "poison", how=how, keys=[VICTIM], depth=300, length=70, mb=0.1))

    assert b"\\u0000" in struck("nul")
    assert b'\\ud83d"' in struck("lone_surrogate")
    assert b'"note":1e400000' in struck("huge_number")
    assert b'"note":' + b"[" * 300 + b"]" * 300 in struck("deep_nesting")
    assert b'"' + b"k" * 70 + b'":"long"' in struck("long_key")
    assert b'"note":"' + b"x" * 104_857 in struck("huge_doc_mb")


def test_a_line_is_no_json(simulator: SimulatorControl) -> None:
    def struck(how: str) -> bytes:
        return line_of(stream(simulator, "malformed_json", how=how, keys=[VICTIM]))

    with pytest.raises(json.JSONDecodeError):
        json.loads(struck("unescaped_quote"))
    with pytest.raises(json.JSONDecodeError):
        json.loads(struck("raw_control"))
    assert b'"gpa":NaN' in struck("nan")
    pairs: list[list[str]] = []
    json.loads(struck("dup_keys"), object_pairs_hook=lambda found: pairs.append([name for name, _ in found]))
    assert any(names.count("phone") == 2 for names in pairs)


def test_a_sensitive_key_stands_where_none_belongs(simulator: SimulatorControl) -> None:
    def struck(how: str) -> dict[str, Any]:
        return victim_of(stream(simulator, "sensitive_elsewhere", how=how, keys=[VICTIM]))

    assert struck("upper")["SSN"].startswith("900-")
    assert struck("mixed")["SocialSecurityNumber"].startswith("900-")
    [contact] = struck("nested")["personDetails"]["emergencyContact"]
    assert contact["Ssn"].startswith("900-")


def test_only_the_victim_is_spoilt(simulator: SimulatorControl) -> None:
    """Documents share their parts; a fault that changed one in place would change many."""
    simulator.set_faults()
    before = ask_persons(simulator, IDS).lines
    for fault, how in (("poison", "nul"), ("wrong_types", "birth_date_number"), ("sensitive_elsewhere", "nested")):
        after = stream(simulator, fault, how=how, keys=[VICTIM]).lines
        assert [place for place in range(41) if before[place] != after[place]] == [17]
    simulator.set_faults()
    assert ask_persons(simulator, IDS).lines == before


def test_one_killer_fails_every_batch_that_it_is_in(simulator: SimulatorControl) -> None:
    strike(simulator, "batch_killer", keys=[VICTIM])
    halves = (IDS, IDS[:20], IDS[20:], [VICTIM])
    assert [ask_persons(simulator, half).status for half in halves] == [504, 504, 200, 504]
    assert [ask_persons(simulator, IDS).status for _ in range(3)] == [504] * 3


# -------------------------------------------------------------------------------------------- whom it hits


def test_a_person_fares_alike_in_every_batch_and_attempt(simulator: SimulatorControl) -> None:
    """A poisoned person that healed when its batch is split would not be poison."""
    strike(simulator, "null_data", rate=0.2)

    def struck(ids: list[str]) -> list[str]:
        return [
            one for one, document in zip(ids, documents_of(ask_persons(simulator, ids)), strict=True) if not document
        ]

    whole = struck(IDS)
    assert 2 < len(whole) < 20
    assert (
        struck(IDS) == struck(IDS[:13]) + struck(IDS[13:]) == [one for person_id in IDS for one in struck([person_id])]
    )
    assert struck(IDS) == whole


def test_without_rate_and_keys_one_person_of_all_is_struck(simulator: SimulatorControl) -> None:
    """One of each batch would leave no way to split it until it comes through."""
    strike(simulator, "batch_killer")
    everybody = [person.id for person in people_of()]
    batches = [everybody[start : start + 100] for start in range(0, len(everybody), 100)]
    assert [ask_persons(simulator, batch).status for batch in batches].count(504) == 1


def test_attempts_are_counted_by_the_set_of_persons(simulator: SimulatorControl) -> None:
    strike(simulator, "status_503", first_n=1)
    asked = [IDS[:10], IDS[9::-1], IDS[:9], IDS[:10], IDS[:9], IDS[:1]]
    assert [ask_persons(simulator, ids).status for ids in asked] == [503, 200, 503, 200, 200, 503]


def test_a_person_who_is_asked_for_alone_can_be_named_by_a_scope(simulator: SimulatorControl) -> None:
    simulator.set_faults([{"fault": "status_503", "scope": f"personapi/{VICTIM}"}])
    assert [ask_persons(simulator, ids).status for ids in ([VICTIM], IDS[:1], IDS)] == [503, 200, 200]
    simulator.set_faults([{"fault": "missing_records", "scope": "personapi/[0-9a-f]*", "keys": [VICTIM]}])
    assert (VICTIM in ids_of(ask_persons(simulator, IDS)), ids_of(ask_persons(simulator, [VICTIM]))) == (
        False,
        [VICTIM],
    )


def test_a_fault_passes_with_the_next_attempt(simulator: SimulatorControl) -> None:
    strike(simulator, "ndjson_truncate", how="clean_eof", first_n=1)
    assert [len(ids_of(ask_persons(simulator, IDS))) for _ in range(2)] == [20, 40]


# ---------------------------------------------------------------------------------------------- snaplogic


def snap(simulator: SimulatorControl, fault: str, **settings: object) -> Heard:
    simulator.set_faults([{"fault": fault, "scope": "snapperson", **settings}])
    return ask_snapperson(simulator, "[" + ",".join(f'{{BUID:"{one}"}}' for one in IDS) + "]")


def test_faults_of_persons_strike_snaplogic_as_well(simulator: SimulatorControl) -> None:
    assert None in snap(simulator, "null_data", keys=[VICTIM]).json()
    assert {} in snap(simulator, "empty_docs", how="instead", keys=[VICTIM]).json()
    assert VICTIM not in snap(simulator, "missing_records", keys=[VICTIM]).text
    assert "SSN" in snap(simulator, "sensitive_elsewhere", how="upper", keys=[VICTIM]).text
    assert b"\\u0000" in snap(simulator, "poison", how="nul", keys=[VICTIM]).body
    assert snap(simulator, "batch_killer", keys=[VICTIM]).status == 504


def test_an_error_document_of_snaplogic_comes_with_status_200(simulator: SimulatorControl) -> None:
    heard = snap(simulator, "error_200", how="snap_error_doc")
    assert heard.status == 200
    [document] = heard.json()
    assert set(document) == {"error", "reason", "resolution", "stacktrace"}
    assert snap(simulator, "shape", how="empty_result").json() == []
    assert snap(simulator, "shape", how="null_data").json() is None


def test_faults_of_streams_do_not_strike_an_array(simulator: SimulatorControl) -> None:
    sound = snap(simulator, "latency").body
    assert snap(simulator, "ndjson_extra_types", how="error", keys=[VICTIM]).body == sound
    assert snap(simulator, "ndjson_truncate", how="clean_eof").body == sound


def test_faults_that_persons_do_not_know_do_nothing(simulator: SimulatorControl) -> None:
    simulator.set_faults()
    sound = ask_persons(simulator, IDS).lines
    assert stream(simulator, "wrong_types", how="row_list").lines == sound
    assert stream(simulator, "error_200", how="ps_status_error").lines == sound


# ----------------------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_every_system_says_no_in_its_own_way(simulator: SimulatorControl, status: int) -> None:
    simulator.set_faults([{"fault": f"status_{status}"}])
    heard = {
        "personapi": ask_persons(simulator, IDS),
        "snapperson": ask_snapperson(simulator, f'[{{BUID:"{VICTIM}"}}]'),
        "sap": ask_sap(simulator),
        "vds": ask_vds(simulator, "filter=(buid=*)"),
        "adap": ask_adap(simulator, filter="(buid=*)"),
    }
    assert {name: answer.status for name, answer in heard.items()} == dict.fromkeys(heard, status)
    members = {name: next(iter(answer.json())) for name, answer in heard.items()}
    assert members == {
        "personapi": "message",
        "snapperson": "http_status_code",
        "sap": "fault",
        "vds": "http_status_code",
        "adap": "httpStatus",
    }


# ------------------------------------------------------------------------------------------------ presets


@pytest.mark.parametrize("source", ["personapi", "snaplogic"])
def test_an_outage_is_that_of_its_system(simulator: SimulatorControl, source: str) -> None:
    simulator.set_faults(preset=f"outage:{source}", days=[SCENARIO_START.isoformat()])
    statuses = (ask_persons(simulator, IDS).status, ask_snapperson(simulator, f'[{{BUID:"{VICTIM}"}}]').status)
    assert statuses == ((503, 200) if source == "personapi" else (200, 503))


def test_realistic_leaves_all_but_a_few_persons_to_a_sound_client(simulator: SimulatorControl) -> None:
    """Failed keys must stay well under 1 %, those to be quarantined well under 5 %."""
    simulator.set_faults(preset="realistic")
    everybody = [person.id for person in people_of()]
    waiting = [everybody[start : start + 100] for start in range(0, len(everybody), 100)]
    sound, failed = set(), set()
    attempts: dict[tuple[str, ...], int] = {}
    while waiting:
        batch = waiting.pop()
        heard = ask_persons(simulator, batch)
        whole = heard.end == "closed" and heard.raw and heard.status == 200
        attempts[tuple(batch)] = attempts.get(tuple(batch), 0) + 1
        if whole:
            found = named_in(heard) & set(batch)
            sound |= found
            rest = [person_id for person_id in batch if person_id not in found]
        else:
            rest = batch
        if rest and attempts[tuple(batch)] < 3:
            waiting.append(batch)
        elif len(batch) > 1:
            waiting += [half for half in (rest[: len(rest) // 2], rest[len(rest) // 2 :]) if half]
        else:
            failed |= set(rest)
    assert sound | failed == set(everybody)
    assert len(failed) < 0.004 * len(everybody)


def named_in(heard: Heard) -> set[str]:
    """Whose whole lines came, whatever else is in them."""
    records = [line for line in heard.lines[:-1] if line.startswith(b'{"type":"record"')]
    return {found[1].decode() for line in records if (found := re.search(rb'"personid":"(U[0-9]{8})"', line))}


def test_an_object_can_be_asked_for_with_terms(simulator: SimulatorControl) -> None:
    body = {"objects": ["student"], "student": {"uid_car_term": [{"buid": VICTIM, "acad_career": "X", "strm": "1"}]}}
    [document] = ask_person_api(simulator, body).json()["data"]
    assert document["personid"] == VICTIM
