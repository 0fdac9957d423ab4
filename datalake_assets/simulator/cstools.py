"""CS Tools: the wrapper around PeopleSoft queries, behind a gateway that asks for an API key.

`POST /cstools/api/v1/queries/execute` with the name of a query and, if it has prompts, their names and values.
The gateway answers for keys, the application for everything else (422 and a list of details). The rows come
from `queries.py`.
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, Final, cast

from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.frame import Answer, Question, Received, Reply
from datalake_assets.simulator.ib import ib_fault
from datalake_assets.simulator.queries import LOGIN_PAGE, QUERY_ERRORS, QUERY_KNOBS, Queries, Query, spoilt_answer
from datalake_assets.simulator.rows import Row

_MESSAGES: Final = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal server error",
    503: "Service Unavailable",
}
_MEMBERS: Final = ("query_name", "prompt_names", "prompt_values")


class CsTools:
    """The endpoint that executes queries.

    Args:
        queries: The queries it knows.
        credentials: The key it accepts.
    """

    name = "cstools"
    source = "peoplesoft"
    prefix = "/cstools"
    route = "/cstools/api/v1/queries/execute"
    knobs = QUERY_KNOBS

    def __init__(self, queries: Queries, credentials: Credentials) -> None:
        self._queries = queries
        self._credentials = credentials

    def read(self, received: Received) -> Question | Reply:
        """Find the question in a request, or refuse it as gateway and application do."""
        if received.header("x-api-key") != self._credentials.cstools_key:
            return self.failure(403)
        if received.method != "POST":
            return _json(405, {"detail": "Method Not Allowed"}).with_headers(("allow", "POST"))
        if received.parameters:
            return _refused("extra_forbidden", ["query", received.parameters[0][0]], "Extra inputs are not permitted")
        media_type = (received.header("content-type") or "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            return _refused("model_attributes_type", ["body"], "Input should be a valid dictionary")
        try:
            body = json.loads(received.body.decode("utf-8"))
        except (ValueError, RecursionError):
            return _refused("json_invalid", ["body", 0], "JSON decode error")
        if not isinstance(body, dict):
            return _refused("model_attributes_type", ["body"], "Input should be a valid dictionary")
        return self._question(body)

    def _question(self, body: dict[str, Any]) -> Question | Reply:
        for member in body:
            if member not in _MEMBERS:
                return _refused("extra_forbidden", ["body", member], "Extra inputs are not permitted")
        if "query_name" not in body:
            return _refused("missing", ["body", "query_name"], "Field required")
        if not isinstance(body["query_name"], str):
            return _refused("string_type", ["body", "query_name"], "Input should be a valid string")
        for member in ("prompt_names", "prompt_values"):
            if member in body and not _is_texts(body[member]):
                return _refused("list_type", ["body", member], "Input should be a valid list of strings")
        query = self._queries.named(body["query_name"])
        if query is None:
            return _json(404, {"detail": "Query not found"})
        return self._prompted(query, body)

    def _prompted(self, query: Query, body: dict[str, Any]) -> Question | Reply:
        if not query.prompts and ("prompt_names" in body or "prompt_values" in body):
            return _refused("value_error", ["body", "prompt_names"], "The query has no prompts")
        names, values = body.get("prompt_names", []), body.get("prompt_values", [])
        if sorted(names) != sorted(query.prompts) or len(names) != len(values):
            return _refused("value_error", ["body", "prompt_names"], "The prompts are not those of the query")
        prompts = dict(zip(names, values, strict=True))
        key = ",".join([query.name, *(prompts[name] for name in query.prompts)])
        return Question(key, {"query": query, "prompts": prompts}, people=tuple(prompts.values()))

    def question_about(self, kind: str) -> Question | None:
        """The question that yields the whole population of a kind."""
        query = self._queries.about(kind)
        return Question(query.name, {"query": query, "prompts": {}}) if query else None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """The rows of the query, and no word about how many they are."""
        query = cast(Query, question.details["query"])
        rows = query.rows(cast(Mapping[str, str], question.details["prompts"]), day)
        return spoilt_answer(rows, strike, query.fields, _Envelope())

    def failure(self, status: int) -> Reply:
        """The gateway's way to say no."""
        return _json(status, {"message": _MESSAGES[status]})

    def lost(self, received: Received) -> Reply:
        """An address that the application does not have; without a key not even that is told."""
        if received.header("x-api-key") != self._credentials.cstools_key:
            return self.failure(403)
        return _json(404, {"detail": "Not Found"})


class _Envelope:
    errors = QUERY_ERRORS
    counts_rows = False
    reads_raw_controls = False

    def around(self, rows: str, count: int) -> str:
        return f'{{"data":{rows}}}'

    def without_rows(self, shape: str) -> str:
        return '{"data":null}' if shape == "null_data" else "{}"

    def row(self, row: Row, prefix: str, *, numbered: bool) -> str:
        return row.text(prefix, numbered=numbered)

    def error(self, how: str) -> Reply:
        if how == "ib_fault_xml":
            return ib_fault("The query could not be run.")
        if how == "login_html":
            return Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")
        return _json(200, {"status": "error", "message": "The query could not be run."})


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _json(status: int, body: object) -> Reply:
    return Reply(status, json.dumps(body, separators=(",", ":")).encode())


def _refused(kind: str, place: list[str | int], message: str) -> Reply:
    return _json(422, {"detail": [{"type": kind, "loc": place, "msg": message}]})
