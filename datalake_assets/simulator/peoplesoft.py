"""PeopleSoft's Query Access Service over REST: a named query, as JSON if the request insists on it.

`GET /PSIGW/RESTListeningConnector/{node}/ExecuteQuery.v1/{owner}/{query}/{type}/{format}` with a Basic logon.
Names of parameters are read in any case; prompt names, filter fields and the names of queries are not. The
rows come from `queries.py`.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import date
from typing import Final, cast
from xml.sax.saxutils import escape

from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.frame import Answer, Question, Received, Reply, Verdict, page
from datalake_assets.simulator.ib import ib_fault
from datalake_assets.simulator.queries import LOGIN_PAGE, QUERY_ERRORS, QUERY_KNOBS, Queries, Query, spoilt_answer
from datalake_assets.simulator.rows import Row

_NODE: Final = "PSFT_CS"
_PARAMETERS: Final = (
    "isconnectedquery",
    "maxrows",
    "prompt_uniquepromptname",
    "prompt_fieldvalue",
    "filterfields",
    "prompt_psqueryname",
    "json_resp",
)
_ALIAS: Final = "A."
_TITLES: Final = {
    403: "Error 403--Forbidden",
    404: "Error 404--Not Found",
    429: "429 Too Many Requests",
    500: "Error 500--Internal Server Error",
    503: "Error 503--Service Unavailable",
}


class QueryAccessService:
    """The endpoint that executes public queries.

    Args:
        queries: The queries it knows.
        credentials: The user it knows.
        alias_fields: Fields are named with the alias of their record.
    """

    name = "qas"
    source = "peoplesoft"
    prefix = "/PSIGW"
    route = "/PSIGW/RESTListeningConnector/{node}/ExecuteQuery.v1/{owner}/{query}/{type}/{format}"
    knobs = QUERY_KNOBS

    def __init__(self, queries: Queries, credentials: Credentials, *, alias_fields: bool) -> None:
        self._queries = queries
        self._credentials = credentials
        self._prefix = _ALIAS if alias_fields else ""

    def read(self, received: Received) -> Question | Reply:
        """Find the question in a request, or refuse it as web server and Integration Broker do."""
        if received.method != "GET":
            return page(405, "Error 405--Method Not Allowed").with_headers(("allow", "GET"))
        if not self._is_logged_on(received):
            return self.failure(401)
        query, trouble = self._addressed(received.places)
        if query is None:
            return ib_fault(trouble)
        parameters: dict[str, str] = {}
        for name, value in received.parameters:
            if name.lower() not in _PARAMETERS or name.lower() in parameters:
                return ib_fault("The parameters do not fit the URI template of ExecuteQuery.v1.")
            parameters[name.lower()] = value
        return self._question(query, parameters)

    def _is_logged_on(self, received: Received) -> bool:
        scheme, _, encoded = (received.header("authorization") or "").partition(" ")
        try:
            logon = b64decode(encoded, validate=True).decode()
        except (Base64Error, ValueError):
            return False
        known = f"{self._credentials.peoplesoft_user}:{self._credentials.peoplesoft_password}"
        return scheme.lower() == "basic" and logon == known

    def _addressed(self, places: Mapping[str, str]) -> tuple[Query | None, str]:
        query = self._queries.named(places["query"])
        if places["node"] != _NODE:
            return None, "The receiving node is not valid."
        if places["owner"].lower() != "public" or query is None:
            return None, "The query does not exist or you are not authorized to access it."
        if places["type"].upper() != "JSON" or places["format"].upper() != "NONFILE":
            return None, "The output type or the output format is not supported."
        return query, ""

    def _question(self, query: Query, parameters: Mapping[str, str]) -> Question | Reply:
        if parameters.get("isconnectedquery", "").upper() != "N" or "prompt_psqueryname" in parameters:
            return ib_fault("isconnectedquery is required; a connected query has no JSON output.")
        maxrows = parameters.get("maxrows", "")
        if not (maxrows.isascii() and maxrows.isdigit() and len(maxrows) < 10):
            return ib_fault("maxrows is required and must be a number.")
        json_resp = parameters.get("json_resp", "false").lower()
        if json_resp not in ("true", "false"):
            return ib_fault("json_resp must be true or false.")
        names = _listed(parameters.get("prompt_uniquepromptname"))
        values = _listed(parameters.get("prompt_fieldvalue"))
        if sorted(names) != sorted(query.prompts) or len(names) != len(values):
            return ib_fault("The prompts are not those of the query.")
        filtered = _listed(parameters.get("filterfields"))
        if len(set(filtered)) != len(filtered) or not {*filtered} <= {_ALIAS + column for column in query.columns}:
            return ib_fault("filterfields holds a name that is no unique field name of the query.")
        prompts = dict(zip(names, values, strict=True))
        details = {
            "query": query,
            "prompts": prompts,
            "maxrows": int(maxrows),
            "json": json_resp == "true",
            "columns": [name.removeprefix(_ALIAS) for name in filtered] or list(query.columns),
        }
        key = ",".join([query.name, *(prompts[name] for name in query.prompts)])
        return Question(key, details, people=tuple(prompts.values()))

    def question_about(self, kind: str) -> Question | None:
        """The question that yields the whole population of a kind."""
        query = self._queries.about(kind)
        if query is None:
            return None
        details = {"query": query, "prompts": {}, "maxrows": 0, "json": True, "columns": list(query.columns)}
        return Question(query.name, details)

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """The rows of the query and their number; XML unless JSON was insisted on."""
        details = question.details
        query, columns = cast(Query, details["query"]), cast(list[str], details["columns"])
        rows = query.rows(cast(Mapping[str, str], details["prompts"]), day)
        rows = rows[: cast(int, details["maxrows"]) or None]
        rows = [
            Row(row.key, {name: row.document[name] for name in row.document if name in columns}, row.number)
            for row in rows
        ]
        fields = query.fields.prefixed(self._prefix)
        if not details["json"]:
            reply = Reply(200, _xml(query.name, rows, self._prefix).encode(), "text/xml; charset=utf-8")
            return Answer(reply, rows, Verdict("final", "XML was asked for"))
        return spoilt_answer(rows, strike, fields, _Envelope(query.name))

    def failure(self, status: int) -> Reply:
        """The web server's way to say no."""
        if status == 401:
            refused = page(401, "Error 401--Unauthorized", "<p>This server requires a logon.</p>")
            return refused.with_headers(("www-authenticate", 'Basic realm="PeopleSoft"'))
        return page(status, _TITLES[status])

    def lost(self, received: Received) -> Reply:
        """An address that the web server does not have."""
        return page(404, "Error 404--Not Found")


class _Envelope:
    errors = QUERY_ERRORS
    counts_rows = True
    reads_raw_controls = True

    def __init__(self, query_name: str) -> None:
        self._query_name = query_name

    def around(self, rows: str, count: int) -> str:
        # The equals sign is part of the name: a slip of the real service that its clients live with.
        query = f'{{"numrows":{count},"queryname=":"{self._query_name}","rows":{rows}}}'
        return f'{{"status":"success","data":{{"query":{query}}}}}'

    def without_rows(self, shape: str) -> str:
        return '{"status":"success","data":null}' if shape == "null_data" else '{"status":"success"}'

    def row(self, row: Row, prefix: str, *, numbered: bool) -> str:
        return row.text(prefix, numbered=numbered)

    def error(self, how: str) -> Reply:
        if how == "ib_fault_xml":
            return ib_fault("The query could not be run.")
        if how == "login_html":
            return Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")
        return Reply(200, b'{"status":"error","data":{"message":"The query could not be run."}}')


def _listed(value: str | None) -> list[str]:
    return value.split(",") if value else []


def _xml(query_name: str, rows: list[Row], prefix: str) -> str:
    parts = [f'<?xml version="1.0"?><query numrows="{len(rows)}" queryname="{query_name}">']
    for row in rows:
        fields = "".join(
            f"<{prefix}{name}>{escape('' if value is None else str(value))}</{prefix}{name}>"
            for name, value in row.document.items()
        )
        parts.append(f'<row rownumber="{row.number}">{fields}</row>')
    return "".join(parts) + "</query>"
