"""The course client, against answers written byte by byte and against the simulator with each of its faults."""

import gzip
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import pytest
from pydantic import SecretStr

from datalake_assets.exact_json import DuplicateKeys, defects
from datalake_assets.simulator.canonical import digest
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.sources.courses import COURSES_AT_ONCE, CourseAccount, CourseApi, CourseItem
from datalake_assets.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from datalake_assets.sources.policies import COURSE_TERM, MiB
from datalake_assets_tests.sources.fault_server import (
    FaultServer,
    Reply,
    answer,
    chunks,
    close_delimited,
    gzipped,
    length_lie,
    reset_in_body,
    serving,
)

pytestmark = pytest.mark.anyio

FAST = replace(COURSE_TERM, connect_s=2, read_s=2, total_s=10, backoff_base_s=0.01, backoff_cap_s=0.02)
KEY = "canary-secret"
TERM = "2258"
DETAILS = {"academicCareer": "UGRD", "term": {"code": TERM}}


def course(number: int = 1, **fields: object) -> dict[str, Any]:
    return {"v2": {"courseId": f"{number:06d}", "sessionCode": "1"}, **fields}


def group(*courses: object, **changed: object) -> dict[str, Any]:
    return {"termDetails": DETAILS, "courses": list(courses), **changed}


@dataclass
class Taken:
    """What a careful user of the client holds when it is done."""

    items: list[CourseItem] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    restarts: int = 0

    async def take(self, items: Sequence[CourseItem]) -> None:
        self.items += items
        self.sizes.append(len(items))

    async def restart(self) -> None:
        self.items.clear()
        self.sizes.clear()
        self.restarts += 1

    @property
    def values(self) -> list[Any]:
        return [item.value for item in self.items if item.rule is None]

    @property
    def keys(self) -> set[tuple[str, str, str, str]]:
        """Keys as the truth of the simulator writes them; whoever tells none is left out."""
        found = set()
        for value in self.values:
            details, v2 = value["termDetails"], value["v2"]
            if isinstance(v2, dict) and v2["courseId"].isdecimal():
                code = str(details["term"]["code"]).strip()
                found.add((details["academicCareer"], code, str(int(v2["courseId"])), v2["sessionCode"]))
        return found


def client(server: FaultServer, **changed: Any) -> CourseApi:
    return CourseApi(f"{server.url}/course", SecretStr(KEY), **{"cs_env": "test", "policy": FAST, **changed})


async def fetch(*replies: Reply, **changed: Any) -> tuple[CourseAccount, Taken]:
    taken = Taken()
    async with serving(*replies) as server, client(server, **changed) as api:
        return await api.fetch_term(TERM, taken.take, restart=taken.restart), taken


async def refusal(*replies: Reply, **changed: Any) -> PermanentSourceError:
    with pytest.raises(PermanentSourceError) as caught:
        await fetch(*replies, **changed)
    return caught.value


# --- what is asked, and what comes of it


async def test_a_term_is_asked_by_one_request_with_the_key_in_a_header() -> None:
    taken = Taken()
    async with serving(answer([group(course())])) as server, client(server) as api:
        await api.fetch_term(TERM, taken.take, restart=taken.restart)
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("GET", "/course?term=2258&csEnv=test", b"")
    assert request.headers["x-api-key"] == KEY


@pytest.mark.parametrize("strm", ["", "225", "22588", "UGRD", "2258&csEnv=prd", "\uff12258"])
async def test_what_is_no_term_is_not_asked(strm: str) -> None:
    taken = Taken()
    async with serving(answer([group(course())])) as server, client(server) as api:
        with pytest.raises(PermanentSourceError, match="is not the code of a term"):
            await api.fetch_term(strm, taken.take, restart=taken.restart)
    assert server.requests == []


async def test_courses_are_handed_over_flat_with_the_details_of_their_term() -> None:
    law = {"academicCareer": "LAW", "term": {"code": TERM}}
    account, taken = await fetch(answer([group(course(1), {}, course(2)), {}, group(course(3), termDetails=law)]))
    assert taken.values == [
        {**course(1), "termDetails": DETAILS},
        {**course(2), "termDetails": DETAILS},
        {**course(3), "termDetails": law},
    ]
    assert [item.ordinal for item in taken.items] == [1, 3, 4]
    assert (account.courses, account.empty_objects, account.groups, account.attempts) == (3, 2, 2, 1)
    assert account.bytes_in > 100
    assert account.pointer.startswith("SnapLogic course term 2258, http://127.0.0.1:")
    assert "request id" in account.pointer


async def test_details_may_come_after_the_courses() -> None:
    """The order of members is not the source's promise."""
    late = {"more": 1, "courses": [course(1), {}, course(2)], "termDetails": DETAILS}
    account, taken = await fetch(answer([late]))
    assert [(item.ordinal, item.value["v2"]["courseId"]) for item in taken.items] == [(1, "000001"), (3, "000002")]
    assert account.empty_objects == 1


async def test_more_courses_before_their_details_than_are_held_are_refused() -> None:
    """A term that has to be held whole is what the stream is there to avoid."""
    late = {"courses": [course(number) for number in range(100)], "termDetails": DETAILS}
    error = await refusal(answer([late]), held_bytes=2000)
    assert "more than 2000 bytes of courses before the termDetails" in error.what


@pytest.mark.parametrize("code", [TERM, f" {TERM} ", int(TERM)])
async def test_the_code_of_the_term_may_be_a_number_or_padded(code: object) -> None:
    details = {"academicCareer": "UGRD", "term": {"code": code}}
    _, taken = await fetch(answer([group(course(), termDetails=details)]))
    assert taken.values == [{**course(), "termDetails": details}]


async def test_a_single_group_may_come_without_its_list() -> None:
    account, taken = await fetch(answer(group(course())))
    assert (account.groups, taken.values) == (1, [{**course(), "termDetails": DETAILS}])


async def test_many_courses_come_in_lists_of_a_bounded_length() -> None:
    account, taken = await fetch(answer([group(*map(course, range(1100)))]))
    assert (account.courses, taken.sizes) == (1100, [COURSES_AT_ONCE, COURSES_AT_ONCE, 100])


async def test_large_courses_come_in_short_lists() -> None:
    """500 courses of some megabytes each would not fit into memory."""
    _, taken = await fetch(answer([group(*(course(number, notes="x" * 3 * MiB) for number in range(7)))]))
    assert taken.sizes == [3, 3, 1]


async def test_numbers_keep_their_digits() -> None:
    body = json.dumps([group(course(credits="@"))]).replace('"@"', "12345678901234567890.120").encode()
    _, taken = await fetch(answer(body))
    assert str(taken.values[0]["credits"]) == "12345678901234567890.120"


# --- one bad course costs one course (C5)


@pytest.mark.parametrize(
    ("written", "rule", "reason"),
    [
        ('{"title": "Intro\t1"}', "control_character", "A text of the course holds a control character"),
        ("null", "not_an_object", "The course is null, not an object."),
        ('["a"]', "not_an_object", "The course is a list, not an object."),
        ('"UGRD"', "not_an_object", "The course is a text, not an object."),
        (
            '{"notes": "' + "x" * 5000 + '"}',
            "too_large",
            "The course is longer than the 4000 bytes that are held of one.",
        ),
    ],
)
async def test_a_course_that_cannot_be_read_costs_itself(written: str, rule: str, reason: str) -> None:
    body = json.dumps([group(course(1), "@", course(2))]).replace('"@"', written).encode()
    account, taken = await fetch(answer(body), held_bytes=4000)
    first, bad, last = taken.items
    assert (bad.ordinal, bad.value, bad.rule) == (2, None, rule)
    assert (bad.reason or "").startswith(reason)
    assert "Intro" not in (bad.reason or "")
    assert [first.value["v2"], last.value["v2"]] == [course(1)["v2"], course(2)["v2"]]
    assert account.courses == 3


@pytest.mark.parametrize(
    ("written", "defect"),
    [
        ("NaN", "not_a_number"),
        ("1e400000", "number_too_large"),
        ("[" * 100_000 + "]" * 100_000, "nesting_too_deep"),
        ('"\\u0000"', "nul_character"),
        ('"\\ud800"', "lone_surrogate"),
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('1, "notes": 2', "duplicate_key"),
    ],
)
async def test_a_course_that_the_lake_cannot_keep_is_marked_and_its_neighbours_are_not(
    written: str, defect: str
) -> None:
    """The mark must survive the joining with the details of the term, or the last of two values would be believed."""
    body = json.dumps([group(course(1), course(2, notes="@"), course(3))]).replace('"@"', written).encode()
    _, taken = await fetch(answer(body))
    assert [defects(value) for value in taken.values] == [None, defect, None]
    assert isinstance(taken.values[1], DuplicateKeys) is (written == '1, "notes": 2')


@pytest.mark.parametrize(
    "spoilt", [{"v2": None}, {"v2": {"courseId": "abc", "sessionCode": "1"}}, {"sections": {"a": 1}}, {"v2": []}]
)
async def test_a_course_without_a_key_is_handed_over_like_any_other(spoilt: dict[str, Any]) -> None:
    """Fault C5: `v2: null` ended the whole flow."""
    account, taken = await fetch(answer([group(course(1), course(2) | spoilt)]))
    assert account.courses == 2
    assert taken.values[1] == {**course(2), **spoilt, "termDetails": DETAILS}


# --- what is no answer (C4: no courses, and success)


@pytest.mark.parametrize(
    "body",
    [[], {}, [{}], [{}, {}], [group()], [group({}, {})], group(), [group(), group({})]],
    ids=json.dumps,
)
async def test_an_answer_without_a_course_is_never_an_empty_term(body: object) -> None:
    """Taken for an empty term it would remove every course of it."""
    error = await refusal(answer(body))
    assert "holds no course at all" in error.what


ERROR = {"error": "The upstream failed", "reason": "HTTP status 500", "resolution": "Wait.", "stacktrace": "com.x.Y"}


@pytest.mark.parametrize(
    "body", [ERROR, [ERROR], [group(course()), ERROR], [group(course(), **ERROR)], [{**ERROR, "courses": []}]]
)
async def test_an_error_in_a_200_is_an_error_and_told(body: object) -> None:
    error = await refusal(answer(body))
    assert "holds an error" in error.what
    assert "The upstream failed; HTTP status 500" in error.what
    assert "com.x.Y" not in str(error)


async def test_an_error_of_the_platform_in_a_200_is_an_error() -> None:
    error = await refusal(answer({"http_status_code": 401, "response_map": {"error_list": [{"message": "no"}]}}))
    assert "holds an error. It said: 401" in error.what


async def test_a_sound_group_may_say_something() -> None:
    _, taken = await fetch(answer([group(course(), message="all courses", error=None)]))
    assert len(taken.items) == 1


async def test_an_error_document_tells_no_secret_and_no_person() -> None:
    error = await refusal(answer([{"error": f"no access for U12345678 with {KEY}"}]))
    assert "no access for *** with ***" in error.what


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([group(course(), termDetails=None)], "whose termDetails name no term"),
        ([group(course(), termDetails={"academicCareer": "UGRD"})], "whose termDetails name no term"),
        ([group(course(), termDetails={"term": {"code": True}})], "whose termDetails name no term"),
        ([group(course(), termDetails={"term": {"code": "2261"}})], "has a group of the term '2261'"),
        ([group(course()), group(course(), termDetails={"term": {"code": 2261}})], "has a group of the term '2261'"),
        ([{"courses": [course()], "termDetails": {"term": {"code": "2261"}}}], "has a group of the term '2261'"),
        ([{"courses": [course()]}], "has a group without 'termDetails'"),
        ([{"termDetails": DETAILS}], "has a group without 'courses'"),
        ([group(course()), {"x": 1}], "has a group without 'termDetails'"),
        ([group(course()), group(courses=None)], "something else where the list 'courses' belongs"),
        ([group(course()), group(courses=course())], "something else where the list 'courses' belongs"),
        ([group(course()), None], "something else where a group of courses belongs"),
        ([[group(course())]], "something else where a group of courses belongs"),
        (b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":1}],"courses":[]}]', "names a member twice"),
        (b'[{"termDetails":{"term":{"code":"2258"}},"termDetails":{},"courses":[{"a":1}]}]', "names a member twice"),
        (b'[{"termDetails":{"term":{"code":"2258"},},"courses":[{"a":1}]}]', "termDetails that are not readable"),
        (b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":1},]}]', "is not readable"),
        (b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":"b"c"}]}]', "is not readable"),
        (b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":1}]}] []', "is not readable"),
        (
            b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":1},{"a":1,}]}]',
            "Of course 2: The text is not JSON",
        ),
        (b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":tru}]}]', "Of course 1: The text is not JSON"),
        # The quote hides the end of one course, and an escaped one brings the end of another to light.
        (
            b'[{"termDetails":{"term":{"code":"2258"}},"courses":[{"a":"b"c"},{"a":"\\"d\\" e"},{"a":1}]}]',
            "Of course 1: The text is not JSON",
        ),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_is_refused_whole_and_at_once(
    body: object, sentence: str
) -> None:
    server = serving(answer(body))
    taken = Taken()
    async with server, client(server) as api:
        with pytest.raises(PermanentSourceError) as caught:
            await api.fetch_term(TERM, taken.take, restart=taken.restart)
    assert sentence in caught.value.what
    assert "request id" in caught.value.where
    assert (len(server.requests), taken.restarts) == (1, 0)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
async def test_another_encoding_than_utf_8_is_refused(encoding: str) -> None:
    """Latin-1 read as if it were UTF-8 with replacements would be stored with other letters than were meant."""
    body = json.dumps([group(course(title="Économie"))], ensure_ascii=False).encode(encoding)
    error = await refusal(answer(body))
    assert "not UTF-8" in error.what or "does not begin like JSON" in error.what


# --- what did not arrive whole is asked for again

WHOLE = json.dumps([group(*map(course, range(1200)))]).encode()
MANY = len(WHOLE) * 9 // 10


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(answer(WHOLE[:MANY]), id="a body of its own length"),
        pytest.param(close_delimited(WHOLE[:MANY]), id="no length"),
        pytest.param(chunks(WHOLE[:MANY], ended=False), id="no last chunk"),
        pytest.param(chunks(WHOLE[:MANY]), id="a last chunk too soon"),
        pytest.param(gzipped(WHOLE, cut=100), id="gzip without its end"),
        pytest.param(length_lie(WHOLE[:MANY], len(WHOLE)), id="a length too large"),
        pytest.param(length_lie(WHOLE, MANY), id="a length too small"),
        pytest.param(close_delimited(b'[{"termDetails": {"x": []'), id="ends like JSON"),
        pytest.param(reset_in_body, id="reset"),
    ],
)
async def test_a_cut_answer_is_asked_for_again_and_nothing_of_it_stays(cut: Reply) -> None:
    """Half a term taken for the whole would remove the other half."""
    account, taken = await fetch(cut, answer(WHOLE))
    assert [item.ordinal for item in taken.items] == list(range(1, 1201))
    assert (account.courses, account.attempts) == (1200, 2)


async def test_whoever_takes_is_told_when_a_new_beginning_is_made() -> None:
    _, taken = await fetch(
        chunks(WHOLE[:MANY]), answer(b"", 503), chunks(WHOLE[:MANY]), answer(WHOLE), policy=replace(FAST, attempts=4)
    )
    assert (taken.restarts, taken.sizes) == (2, [500, 500, 200])


async def test_an_answer_that_is_cut_every_time_is_a_transient_failure() -> None:
    taken = Taken()
    async with serving(answer(WHOLE[:MANY])) as server, client(server) as api:
        with pytest.raises(TransientSourceError, match=r"ended early\. The text ends after \d+ bytes"):
            await api.fetch_term(TERM, taken.take, restart=taken.restart)
    assert len(server.requests) == FAST.attempts


async def test_a_body_without_a_length_counts_as_whole_when_its_json_is() -> None:
    account, _ = await fetch(close_delimited(WHOLE))
    assert account.courses == 1200


async def test_what_goes_wrong_with_the_taker_is_not_the_sources_fault() -> None:
    """A full disk must not be asked away with three requests of a quarter of an hour."""

    async def take(_: Sequence[CourseItem]) -> None:
        raise OSError("No space left on device")

    taken = Taken()
    async with serving(answer(WHOLE)) as server, client(server) as api:
        with pytest.raises(OSError, match="No space left"):
            await api.fetch_term(TERM, take, restart=taken.restart)
    assert (len(server.requests), taken.restarts) == (1, 0)


async def test_an_answer_larger_than_memory_allows_passes_through() -> None:
    """Fault C4: four whole terms in memory at once. Measured in Python objects, which is what grew."""
    one = json.dumps(course(1, notes="x" * 10_000)).encode()
    body = b'[{"termDetails":' + json.dumps(DETAILS).encode() + b',"courses":[' + b",".join([one] * 8000) + b"]}]"
    packed = gzip.compress(body, 1)
    seen = 0

    async def take(items: Sequence[CourseItem]) -> None:
        nonlocal seen
        seen += len(items)

    async with serving(answer(packed, headers={"Content-Encoding": "gzip"})) as server, client(server) as api:
        tracemalloc.start()
        try:
            await api.fetch_term(TERM, take, restart=Taken().restart)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert seen == 8000
    assert len(body) > 80 * MiB * 0.95
    assert peak < 30 * MiB


# --- the simulator, which shares nothing with the client

DAY = date(2026, 11, 20)
SIMULATED_TERM = "2268"


@pytest.fixture(scope="module")
def simulator() -> Any:
    with running_simulator(scenario_start=DAY, courses_per_term=60, empty_docs_rate=0.1) as running:
        yield running


async def fetch_simulated(simulator: SimulatorControl, strm: str = SIMULATED_TERM) -> tuple[CourseAccount, Taken]:
    environment = simulator.environment()
    taken = Taken()
    async with CourseApi(
        environment["SNAPLOGIC_COURSE_URL"],
        SecretStr(environment["SNAPLOGIC_COURSE_KEY"]),
        cs_env=environment["CS_ENV"],
        policy=FAST,
    ) as api:
        return await api.fetch_term(strm, taken.take, restart=taken.restart), taken


async def sound(simulator: SimulatorControl) -> Taken:
    simulator.reset()
    return (await fetch_simulated(simulator))[1]


async def test_every_simulated_course_arrives_once(simulator: SimulatorControl) -> None:
    simulator.reset()
    account, taken = await fetch_simulated(simulator)
    assert len(taken.keys) == account.courses == len(taken.items) >= 60
    assert account.groups == 4
    assert account.empty_objects > 0
    truth = simulator.truth("course", term=SIMULATED_TERM)
    assert taken.keys == {tuple(told["key"]) for told in truth["keys"]}
    assert sorted(map(digest, taken.values)) == sorted(told["digest"] for told in truth["keys"])


async def test_a_term_that_does_not_exist_is_no_empty_term(simulator: SimulatorControl) -> None:
    simulator.reset()
    with pytest.raises(PermanentSourceError, match="holds no course at all"):
        await fetch_simulated(simulator, "9998")


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "malformed_json", "how": "raw_control"},
        {"fault": "malformed_json", "how": "nan"},
        {"fault": "malformed_json", "how": "dup_keys"},
        {"fault": "poison", "how": "nul"},
        {"fault": "poison", "how": "lone_surrogate"},
        {"fault": "poison", "how": "huge_number"},
        {"fault": "poison", "how": "deep_nesting", "depth": 100_000},
        {"fault": "poison", "how": "long_key"},
        {"fault": "poison", "how": "huge_doc_mb", "mb": 3},
        {"fault": "wrong_types", "how": "course_id"},
        {"fault": "wrong_types", "how": "v2_null"},
        {"fault": "wrong_types", "how": "sections_object"},
        {"fault": "wrong_types", "how": "row_text"},
        {"fault": "wrong_types", "how": "row_null"},
        {"fault": "sensitive_elsewhere", "how": "nested"},
        {"fault": "dup_records", "how": "different"},
        {"fault": "encoding", "how": "bom"},
        {"fault": "encoding", "how": "wrong_charset_header"},
        {"fault": "empty_docs", "how": "instead"},
        {"fault": "empty_docs", "how": "added"},
    ],
    ids=lambda fault: f"{fault['fault']} {fault['how']}",
)
async def test_a_fault_of_one_course_costs_no_other(simulator: SimulatorControl, fault: dict[str, Any]) -> None:
    before = await sound(simulator)
    simulator.set_faults([fault])
    account, taken = await fetch_simulated(simulator)
    assert len(before.keys - taken.keys) <= 1
    assert account.courses >= len(before.items) - (fault["fault"] == "empty_docs")


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "error_200", "how": "snap_error_doc"},
        {"fault": "error_200", "how": "login_html"},
        {"fault": "malformed_json", "how": "trailing_comma"},
        {"fault": "malformed_json", "how": "unescaped_quote"},
        {"fault": "encoding", "how": "latin1_body"},
        {"fault": "encoding", "how": "utf16"},
        {"fault": "encoding", "how": "bad_utf8_byte"},
        {"fault": "shape", "how": "null_data"},
        {"fault": "shape", "how": "missing_data_key"},
        {"fault": "shape", "how": "empty_result"},
        {"fault": "shape", "how": "empty_object"},
        {"fault": "wrong_types", "how": "term_code"},
        {"fault": "wrong_types", "how": "term_details_null"},
        {"fault": "status_401"},
        {"fault": "status_403"},
        {"fault": "status_404"},
        {"fault": "redirect_302", "target": "cross_origin"},
    ],
    ids=lambda fault: f"{fault['fault']} {fault.get('how', '')}",
)
async def test_an_answer_that_cannot_be_trusted_fails_the_term_at_once(
    simulator: SimulatorControl, fault: dict[str, Any]
) -> None:
    """Faults C3, C4: a failed term was a warning, and an empty one a success."""
    simulator.reset()
    simulator.set_faults([fault])
    with pytest.raises(PermanentSourceError) as caught:
        await fetch_simulated(simulator)
    requests = simulator.requests()["requests"]
    assert len(requests) == 1
    assert not any(request["secret_in_url"] for request in requests)
    secret = simulator.environment()["SNAPLOGIC_COURSE_KEY"]
    assert secret not in str(caught.value)
    assert "900-" not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "malformed_json", "how": "cut"},
        {"fault": "body_cut", "how": "close_delimited"},
        {"fault": "body_cut", "how": "chunked"},
        {"fault": "body_cut", "how": "gzip"},
        {"fault": "content_length_lie", "how": "more"},
        {"fault": "content_length_lie", "how": "less"},
        {"fault": "conn_reset", "when": "mid_body"},
        {"fault": "conn_reset", "when": "before_headers"},
        {"fault": "status_429", "retry_after": "past_date"},
        {"fault": "status_500"},
        {"fault": "status_502_html"},
        {"fault": "status_503"},
        {"fault": "status_504_html"},
    ],
    ids=lambda fault: " ".join(map(str, fault.values())),
)
async def test_a_failure_that_passes_costs_a_request_and_no_course(
    simulator: SimulatorControl, fault: dict[str, Any]
) -> None:
    before = await sound(simulator)
    simulator.set_faults([{**fault, "first_n": 1}])
    account, taken = await fetch_simulated(simulator)
    assert account.attempts == 2
    assert taken.keys == before.keys
    assert len(taken.items) == len(before.items)


async def test_a_failure_that_does_not_pass_fails_the_term(simulator: SimulatorControl) -> None:
    """Fault D2: a failure was an empty list of courses."""
    simulator.reset()
    simulator.set_faults([{"fault": "body_cut", "how": "gzip"}])
    with pytest.raises(SourceError, match="cut"):
        await fetch_simulated(simulator)
