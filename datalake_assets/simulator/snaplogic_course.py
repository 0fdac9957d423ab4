"""SnapLogic's course task: every course of a term, in one array with one group per academic career.

`GET /snaplogic/course?term=STRM&csEnv=ENV` with a key. A term that does not exist is answered like one without
courses, by `[]`. Which courses there are stands in `courses.py`, how SnapLogic itself says no in `snaplogic.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Final, cast

from datalake_assets.simulator.courses import CourseGroup, CoursePopulation
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Fault, Strike
from datalake_assets.simulator.frame import TRUSTED, Answer, Question, Received, Reply, Verdict
from datalake_assets.simulator.json_text import Json, write
from datalake_assets.simulator.queries import LOGIN_PAGE, body_verdict, encoded_body
from datalake_assets.simulator.rows import Fields, Row, struck_rows
from datalake_assets.simulator.snaplogic import snaplogic_error, snaplogic_error_document

_FIELDS: Final = Fields(key="v2", text="titleLong", longest=200)
_ENVIRONMENTS: Final = ("ptst", "prd", "test", "prod")
_EMPTY: Final = "{}"


class SnapLogicCourse:
    """The endpoint that tells the courses of a term.

    Args:
        courses: The courses.
        credentials: The key it accepts.
    """

    name = "snaplogic_course"
    source = "snaplogic"
    prefix = "/snaplogic"
    route = "/snaplogic/course"
    knobs = frozenset(
        {
            "error_200",
            "malformed_json",
            "encoding",
            "shape",
            "dup_records",
            "empty_docs",
            "wrong_types",
            "poison",
            "sensitive_elsewhere",
        }
    )

    def __init__(self, courses: CoursePopulation, credentials: Credentials) -> None:
        self._courses = courses
        self._credentials = credentials

    def read(self, received: Received) -> Question | Reply:
        """Find the question in a request, or refuse it as the platform does."""
        if received.header("x-api-key") != self._credentials.snaplogic_course_key:
            return self.failure(401)
        if received.method != "GET":
            return self.failure(405).with_headers(("allow", "GET"))
        parameters = received.parameters
        asked = dict(parameters)
        if sorted(name for name, _ in parameters) != ["csEnv", "term"] or received.body:
            return self.failure(400)
        if asked["csEnv"] not in _ENVIRONMENTS or not asked["term"]:
            return self.failure(400)
        return self.question(asked["term"])

    def question(self, term: str) -> Question:
        """The question about the courses of a term."""
        return Question(term, {"term": term})

    def question_about(self, kind: str) -> Question | None:
        """Nothing: courses are asked for term by term."""
        return None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """All groups of the term."""
        for fault in strike.of("body"):
            if fault.knob == "error_200" and fault.word("how") in ("snap_error_doc", "login_html"):
                is_page = fault.word("how") == "login_html"
                page = Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")
                reply = page if is_page else snaplogic_error_document()
                return Answer(reply, verdict=Verdict("final", f"an error in a 200: {fault.word('how')}"))
        return _spoilt_answer(self._courses.groups(day, cast(str, question.details["term"])), strike)

    def failure(self, status: int) -> Reply:
        """The platform's way to say no."""
        return snaplogic_error(status)

    def lost(self, received: Received) -> Reply:
        """A task that there is not."""
        return self.failure(404)


def _spoilt_answer(groups: tuple[CourseGroup, ...], strike: Strike) -> Answer:
    rows = [Row(key, course, 0) for group in groups for key, course in group.courses.items()]
    sent = _of_courses(struck_rows(rows, strike, _FIELDS)[0], strike)
    whole = {row.key: row for row in rows}
    after = frozenset(key for group in groups for key in group.empty_after)
    texts: dict[str, list[str]] = {group.career: [] for group in groups}
    for row in sent:
        texts[row.key[0]].append(_unspoilt(row) if whole[row.key] is row else row.text(numbered=False))
        if row.key in after:
            texts[row.key[0]].append(_EMPTY)
    text, verdict = _envelope([(group, ",".join(texts[group.career])) for group in groups], strike)
    if any(row.breaks == "every" for row in sent):
        verdict = Verdict("final", "no JSON: a course breaks the body")
    reply, body = Reply(200, b""), text.encode()
    for fault in strike.of("body"):
        verdict = body_verdict(fault) if verdict is TRUSTED else verdict
        if (fault.knob, fault.word("how")) == ("malformed_json", "cut"):
            body = body[: len(body) * 2 // 3]
        elif (fault.knob, fault.word("how")) == ("malformed_json", "trailing_comma"):
            body = b",]".join(body.rsplit(b"]", 1))
        elif fault.knob == "encoding":
            body, reply = encoded_body(text, body, reply, fault)
    # An empty object is no row: nobody can tell which course it stands for, if any.
    return Answer(replace(reply, body=body), [row for row in sent if row.whole != _EMPTY], verdict)


def _unspoilt(row: Row) -> str:
    # What nothing has touched is plain JSON, for which the library is faster by far.
    return json.dumps(row.document, ensure_ascii=False, separators=(",", ":"))


def _of_courses(rows: list[Row], strike: Strike) -> list[Row]:
    """What faults do that only courses know."""
    for fault in strike.faults:
        if fault.knob == "empty_docs":
            chosen = strike.rows(fault, [row.name for row in rows])
            added = fault.word("how") == "added"
            rows = [
                spoilt
                for row in rows
                for spoilt in ([row] if added or row.name not in chosen else [])
                + ([replace(row, whole=_EMPTY)] if row.name in chosen else [])
            ]
        elif fault.knob == "wrong_types" and fault.word("how") in ("course_id", "v2_null", "sections_object"):
            chosen = strike.rows(fault, [row.name for row in rows])
            rows = [_of_other_type(row, fault) if row.name in chosen else row for row in rows]
    return rows


def _of_other_type(row: Row, fault: Fault) -> Row:
    course, how = row.document, fault.word("how")
    if how == "sections_object":
        sections = course.get("sections")
        return replace(row, document={**course, "sections": {"first": sections if isinstance(sections, list) else []}})
    v2 = course.get("v2")
    spoilt: Json = None if how == "v2_null" or not isinstance(v2, Mapping) else {**v2, "courseId": "abc"}
    return replace(row, document={**course, "v2": spoilt}, trouble="the key is unusable", keyed=False)


def _envelope(groups: list[tuple[CourseGroup, str]], strike: Strike) -> tuple[str, Verdict]:
    """The groups as text, the first of them in another shape, or one with other details, if faults say so."""
    verdict = TRUSTED
    details: dict[str, dict[str, Json] | None] = {group.career: group.details for group, _ in groups}
    for fault in strike.faults:
        if fault.knob == "wrong_types" and fault.word("how") in ("term_code", "term_details_null"):
            chosen = strike.rows(fault, list(details))
            verdict = Verdict("final", f"a group is of another term, or of none: {fault.word('how')}")
            details = {
                career: _other_details(told, fault) if career in chosen else told for career, told in details.items()
            }
    shapes = [fault.word("how") for fault in strike.of("body") if fault.knob == "shape"]
    texts = [
        _group(details[group.career], courses, shapes if place == 0 else [])
        for place, (group, courses) in enumerate(groups)
    ]
    if "empty_result" in shapes:
        return "[]", verdict
    if "empty_object" in shapes:
        return "{}", verdict
    if "object_for_array" in shapes:
        return texts[0] if texts else "{}", verdict
    return "[" + ",".join(texts) + "]", verdict


def _other_details(told: dict[str, Json] | None, fault: Fault) -> dict[str, Json] | None:
    if told is None or fault.word("how") == "term_details_null":
        return None
    return {**told, "term": {"code": "1998", "description": "Fall 1999"}}


def _group(details: dict[str, Json] | None, courses: str, shapes: list[str]) -> str:
    if "missing_data_key" in shapes:
        return f'{{"termDetails":{write(details)}}}'
    listed = "null" if "null_data" in shapes else f"[{courses}]"
    return f'{{"termDetails":{write(details)},"courses":{listed}}}'
