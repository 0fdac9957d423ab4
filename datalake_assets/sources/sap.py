"""SAP's list of employees: the ids of those who are active, or an error.

The request is the predecessor's: one `POST` that runs the BAPI `Z_HR_EMPLOYEE_OBJ_LIST` for all employees, past
and present. SAP reports failures of a BAPI with status 200, so an answer is trusted only if its `RETURN`
reports none. What becomes of the ids does not belong here.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from datalake_assets.exact_json import JsonValue
from datalake_assets.sources.client import SourceClient
from datalake_assets.sources.exchange import Exchange, kind_of
from datalake_assets.sources.http import DEFAULT_USER_AGENT, Answer, HttpSource
from datalake_assets.sources.ids import IdAnswer, read_id, row_defect, sorted_out
from datalake_assets.sources.peoplesoft import UnusableRow
from datalake_assets.sources.policies import SAP_IDS, RequestPolicy

BAPI: Final = "Z_HR_EMPLOYEE_OBJ_LIST"

ACTIVE: Final = "3 - Active"
"""The `EMP_STATUS` of people who are employed now."""


class SapEmployees(SourceClient):
    """SAP's employee list behind its API gateway; use it as an async context manager.

    Args:
        url: Full address that the BAPI is posted to.
        key: API key.
        policy: What a request may cost.
        active: Texts of `EMP_STATUS` that count, compared exactly after trimming.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr,
        *,
        policy: RequestPolicy = SAP_IDS,
        active: Collection[str] = (ACTIVE,),
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        self._http = HttpSource(
            "SAP", url, policy=policy, headers={"x-api-key": key}, ca_bundle=ca_bundle, user_agent=user_agent
        )
        self._active = frozenset(active)

    async def active_ids(self) -> IdAnswer:
        """The ids of all active employees.

        A row whose status cannot be read is unusable; one with another status is counted, and its id is not
        looked at.

        Raises:
            TransientSourceError: SAP failed on every attempt.
            PermanentSourceError: SAP reports a failure, or its answer cannot be trusted; one without a single
                active employee is none.
        """
        exchange = Exchange(
            self._http, BAPI, todo="Nothing of it was kept. Run the BAPI in SAP and compare; then ask the operator."
        )
        document, answer = await exchange.ask("POST", params={"BAPIName": BAPI, "account": "HR"}, json={})
        if isinstance(document, dict):
            _refuse_failure(exchange, document.get("RETURN"), answer)
        table = exchange.member(document, "ET_EMP_LIST", answer)
        # Gateways that make JSON of XML write a table of one row as an object.
        rows = [table] if isinstance(table, dict) and table else table
        if not isinstance(rows, list):
            raise exchange.refusal(f"has {kind_of(table)} where the table 'ET_EMP_LIST' belongs", answer)
        if not rows:
            raise exchange.refusal("names no employee, and there always are some", answer)
        active, unusable, nameless = sorted_out(item for row in rows if (item := self._read(row)) is not None)
        if not active:
            counted = " or ".join(sorted(map(repr, self._active)))
            raise exchange.refusal(
                f"has {len(rows)} rows, and none names an employee whose EMP_STATUS is {counted}", answer
            )
        return IdAnswer(
            rows=active,
            unusable=unusable,
            nameless=nameless,
            received=len(rows),
            complete=True,  # one table in one answer, which the JSON closes; the BAPI knows no paging and no limit
            pointer=exchange.pointer(answer),
            seconds=answer.seconds,
            bytes_in=answer.bytes_in,
        )

    def _read(self, row: JsonValue) -> str | UnusableRow | None:
        """An active employee's id, why it cannot be read, or None for an employee who does not count."""
        if (defect := row_defect(row)) is not None:
            return defect
        status = row.get("EMP_STATUS")
        if not isinstance(status, str) or not status.strip():
            return UnusableRow("no_status", "The row has no readable EMP_STATUS.", row)
        return read_id(row.get("BUID"), "BUID", row) if status.strip() in self._active else None


_NO_FAILURE: Final = frozenset({"", "S", "I", "W"})
"""Success, information, warning; the others are error (E), abort (A) and exit (X)."""


def _refuse_failure(exchange: Exchange, reported: JsonValue, answer: Answer) -> None:
    """Refuse an answer whose `RETURN`, a structure or a table, reports a failure or cannot be read."""
    if reported is None:
        return
    for message in reported if isinstance(reported, list) else [reported]:
        if row_defect(message) is not None:
            raise exchange.refusal(f"has {kind_of(message)} where a message of RETURN belongs", answer)
        said = {name: _text(message.get(name)) for name in ("TYPE", "ID", "NUMBER", "MESSAGE")}
        if said["TYPE"].upper() not in _NO_FAILURE:
            detail = ", ".join(f"{name} {exchange.shown(text)}" for name, text in said.items())
            raise exchange.refusal("is a failure that SAP reports in RETURN", answer, f"It said: {detail}.")


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    return str(value).strip() if isinstance(value, str | int) else kind_of(value)
