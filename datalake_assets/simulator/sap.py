"""SAP: the list of all employees, past and present, from a BAPI behind an API gateway.

`POST /sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=HR` with the body `{}` and a key. The gateway (Apigee's engine)
answers for keys, parameters and its own failures with a `fault`; what the BAPI dislikes comes with status 200
and a `RETURN`. Who is employed stands in `people.py`.
"""

import json
from datetime import date
from functools import lru_cache
from typing import Final

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.frame import Answer, Question, Received, Reply
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.people import People
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.queries import LOGIN_PAGE, QUERY_KNOBS, spoilt_answer
from datalake_assets.simulator.rows import Fields, Row, numbered

_BAPI: Final = "Z_HR_EMPLOYEE_OBJ_LIST"
_ACCOUNT: Final = "HR"
_ACTIVE: Final = "3 - Active"
_INACTIVE: Final = ("0 - Withdrawn", "1 - Inactive", "2 - Retired")
_FIELDS: Final = Fields(key="BUID", text="ENAME", longest=40)
_FAULTS: Final = {
    400: ("Bad request", "protocol.http.BadRequest"),
    401: ("Invalid ApiKey", "oauth.v2.InvalidApiKey"),
    403: ("Access denied for client", "accesscontrol.IPDeniedAccess"),
    404: ("Unable to identify proxy for host: default and url: /", "messaging.adaptors.http.flow.ApplicationNotFound"),
    405: ("Received 405 Response without Allow Header", "protocol.http.Response405WithoutAllowHeader"),
    429: ("Rate limit quota violation. Quota limit exceeded.", "policies.ratelimit.QuotaViolation"),
    500: ("Execution of ServiceCallout failed", "steps.servicecallout.ExecutionFailed"),
    503: ("The Service is temporarily unavailable", "messaging.adaptors.http.flow.ServiceUnavailable"),
}


class Sap:
    """The endpoint that lists employees.

    Args:
        people: Everybody.
        credentials: The key it accepts.
        config: The knobs, of which the share of padded ids matters.
    """

    name = "sap"
    source = "sap"
    prefix = "/sap"
    route = "/sap"
    knobs = QUERY_KNOBS

    def __init__(self, people: People, credentials: Credentials, config: Config) -> None:
        self._people = people
        self._credentials = credentials
        self._padded = config.whitespace_rate
        self._dice = Dice(config.seed)
        self._rows = lru_cache(maxsize=4)(self._rows_on)

    def read(self, received: Received) -> Question | Reply:
        """Find the question in a request, or refuse it as gateway and BAPI do."""
        key = received.header("x-api-key")
        if key is None:
            return _fault(
                401,
                "Failed to resolve API Key variable request.header.x-api-key",
                "steps.oauth.v2.FailedToResolveAPIKey",
            )
        if key != self._credentials.sap_key:
            return self.failure(401)
        if received.method != "POST":
            return self.failure(405)
        parameters = received.parameters
        if sorted(name for name, _ in parameters) != ["BAPIName", "account"]:
            return self.failure(400)
        try:
            body = json.loads(received.body)
        except (ValueError, RecursionError):
            return self.failure(400)
        if body != {}:
            return _returned([_message("The interface of the function has no such parameter.")])
        asked = dict(parameters)
        if asked["BAPIName"] != _BAPI:
            return _returned([_message("The function module does not exist.")])
        if asked["account"] != _ACCOUNT:
            return _returned([_message("The account may not run this function.")])
        return Question(_BAPI)

    def question_about(self, kind: str) -> Question | None:
        """Nothing: the truth of ids is that of the people."""
        return None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """All rows; a single one is an object and no array, as where XML stands behind it."""
        return spoilt_answer(list(self._rows(day)), strike, _FIELDS, _Envelope())

    def failure(self, status: int) -> Reply:
        """The gateway's way to say no."""
        return _fault(status, *_FAULTS[status])

    def lost(self, received: Received) -> Reply:
        """An address that the gateway does not have."""
        return self.failure(404)

    def _rows_on(self, day: date) -> list[Row]:
        active = [person.id for person in self._people.on(day) if person.employee]
        rows = [self._row(person_id, _ACTIVE) for person_id in active]
        # Whoever came back, or has a second contract, is there twice.
        rows += [
            self._row(person_id, self._dice.pick(_INACTIVE, "earlier", person_id), 2)
            for person_id in active
            if self._dice.chance(0.03, "employed before", person_id)
        ]
        rows += [
            self._row(person_id, _ACTIVE, 3) for person_id in active if self._dice.chance(0.02, "two posts", person_id)
        ]
        rows += [
            self._row(person_id, self._dice.pick(_INACTIVE, "former", person_id))
            for person_id in self._people.former_employees(day)
        ]
        rows += [self._row("", _ACTIVE, number) for number in range(len(active) // 500)]
        rows.sort(key=lambda row: str(row.document["PERNR"]))
        return numbered([(row.key, row.document) for row in rows])

    def _row(self, person_id: str, status: str, contract: int = 1) -> Row:
        names = person_id, contract
        began = f"{1990 + self._dice.below(30, 'began', *names)}0{1 + self._dice.below(9, 'month', *names)}01"
        ended = "99991231" if status == _ACTIVE else self._dice.pick(("00000000", "20251231"), "ended", *names)
        is_padded = self._dice.chance(self._padded, "padded", *names)
        document: dict[str, Json] = {
            "PERNR": f"{self._dice.below(100_000_000, 'number', *names):08d}",
            "BUID": person_id.ljust(12) if is_padded or not person_id else person_id,
            "ENAME": f"Employee {person_id}".ljust(40),
            "EMP_STATUS": status,
            "BEGDA": began,
            "ENDDA": ended,
        }
        return Row((person_id,), document, contract)


class _Envelope:
    errors = ("sap_return_e", "login_html")
    counts_rows = False
    reads_raw_controls = False

    def around(self, rows: str, count: int) -> str:
        # The one row may have been left out by a fault; then there is none to take out of the array.
        only = rows[1:-1] if count == 1 and rows.startswith("[{") else rows
        return f'{{"ET_EMP_LIST":{only}}}'

    def without_rows(self, shape: str) -> str:
        return '{"ET_EMP_LIST":null}' if shape == "null_data" else "{}"

    def row(self, row: Row, prefix: str, *, numbered: bool) -> str:
        return row.text(prefix, numbered=False)

    def error(self, how: str) -> Reply:
        if how == "login_html":
            return Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")
        return _returned(_message("The list of employees could not be read."), with_table=True)


def _message(text: str) -> dict[str, Json]:
    return {"TYPE": "E", "ID": "ZHR", "NUMBER": "001", "MESSAGE": text}


def _returned(returned: Json, *, with_table: bool = False) -> Reply:
    """What the BAPI says of a failure: one message or a table of them, with an empty list of employees or none."""
    table: dict[str, Json] = {"ET_EMP_LIST": []} if with_table else {}
    return _json(200, {**table, "RETURN": returned})


def _fault(status: int, text: str, code: str) -> Reply:
    return _json(status, {"fault": {"faultstring": text, "detail": {"errorcode": code}}})


def _json(status: int, body: dict[str, Json]) -> Reply:
    return Reply(status, json.dumps(body, separators=(",", ":")).encode())
