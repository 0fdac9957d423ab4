"""PeopleSoft queries, asked in two ways that give the same answer: rows whose completeness was judged.

`QueryAccessService` speaks to PeopleSoft's own REST service, `CsTools` to the wrapper before it. Both check
the envelope, take the transport field `attr:rownumber` and alias prefixes (`A.STRM`) off the rows, and refuse
an answer that may be partial. What a row means, and which fields it must have, does not belong here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from pydantic import SecretStr

from datalake_assets.exact_json import DuplicateKeys, JsonError, JsonValue, loads
from datalake_assets.sources.client import SourceClient
from datalake_assets.sources.errors import PermanentSourceError
from datalake_assets.sources.exchange import SHOWN_CHARACTERS, Exchange, kind_of, whole_number
from datalake_assets.sources.http import DEFAULT_USER_AGENT, Answer, HttpSource, HttpStats
from datalake_assets.sources.kinds import JSON, XML
from datalake_assets.sources.policies import RequestPolicy

ROW_NUMBER: Final = "attr:rownumber"
"""A row's position in the answer, from 1; it belongs to the transport, not to the document."""

JsonObject = dict[str, JsonValue]

Proof = Literal["row_count", "row_numbers", "none"]


@dataclass(frozen=True)
class UnusableRow:
    """A row that cannot be a document; it condemns itself, not the answer it came in.

    Attributes:
        rule: `row_not_object`, `duplicate_key` or `alias_clash`.
        reason: The same as a sentence without values.
        value: What the source sent, row number removed.
    """

    rule: str
    reason: str
    value: JsonValue = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class QueryAnswer:
    """The rows of one query, and what is known about their completeness.

    Attributes:
        query: Name of the query.
        rows: In the order of the answer.
        ordinals: The number of each row: its `attr:rownumber`, or the place left for it.
        pointer: Endpoint, query and request id, fit to be kept beside every row; no personal data.
        proof: What the completeness rests on: `row_count` (the envelope's own count), `row_numbers` (1 to N
            without a gap, which cannot show rows missing at the end), or `none`.
        control_characters: Whether strings held raw control characters, which only a lenient parser takes.
        attempts: Requests sent until the answer came.
        seconds: From the first request to the last byte, waits included.
        bytes_in: Size of the body on the wire.
    """

    query: str
    rows: tuple[JsonObject | UnusableRow, ...] = field(repr=False)
    ordinals: tuple[int, ...] = field(repr=False)
    pointer: str
    proof: Proof
    control_characters: bool
    attempts: int
    seconds: float
    bytes_in: int


class PeopleSoftQueries(Protocol):
    """Whoever can run a PeopleSoft query."""

    @property
    def stats(self) -> HttpStats:
        """What the source has cost so far."""

    async def run_query(
        self, name: str, prompts: Mapping[str, str] | None = None, *, may_be_empty: bool = False
    ) -> QueryAnswer:
        """Run one query.

        Args:
            name: Name of the query, e.g. `BU_TERM_QRY`.
            prompts: Values by prompt name; they are treated as personal data.
            may_be_empty: Whether an explicit empty list of rows is an answer. A list that is missing or null
                never is: such an answer confirms nothing.

        Raises:
            TransientSourceError: The source failed on every attempt.
            PermanentSourceError: The source refused, or its answer cannot be trusted to be complete.
        """


class QueryAccessService(SourceClient):
    """PeopleSoft's Query Access Service (QAS) over REST; use it as an async context manager.

    Address, parameters, Basic authentication and envelope follow Oracle's PeopleTools documentation ("QAS
    ExecuteQuery REST GET"); the undocumented JSON form (`json_resp=true`, the field `queryname=` with its
    equals sign, unescaped control characters) is known from public clients. An answer is complete if
    `numrows` counts its rows; readable row numbers must not contradict that, but a row may lack one.

    Args:
        base_url: Scheme and host of PeopleSoft's gateway.
        user: User that may run the queries.
        password: Password of that user.
        policy: What a request may cost.
        node: Integration Broker node.
        owner: `PUBLIC` or `PRIVATE` queries.
        row_cap: The user's "maximum rows to fetch", if known: PeopleSoft cuts there without saying so.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        base_url: str,
        user: str,
        password: SecretStr,
        *,
        policy: RequestPolicy,
        node: str = "PSFT_CS",
        owner: str = "PUBLIC",
        row_cap: int | None = None,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        for part, value in (("node", node), ("owner", owner)):
            if not _NAME.fullmatch(value):
                raise PermanentSourceError(
                    f"The {part} {value!r} is not a PeopleSoft name.",
                    todo="Use letters, digits, underscores.",
                )
        self._http = HttpSource(
            "PeopleSoft QAS",
            base_url,
            policy=policy,
            basic=(user, password),
            ca_bundle=ca_bundle,
            user_agent=user_agent,
        )
        self._folder = f"/PSIGW/RESTListeningConnector/{node}/ExecuteQuery.v1/{owner}"
        self._row_cap = row_cap

    async def run_query(
        self, name: str, prompts: Mapping[str, str] | None = None, *, may_be_empty: bool = False
    ) -> QueryAnswer:
        """Run one query; see `PeopleSoftQueries.run_query`.

        `isconnectedquery=N` and `maxrows=0` (no cap of ours) are required parameters. Prompt names and values
        are lists joined by commas, so a value that holds a comma cannot be asked for.
        """
        prompts = _checked_query(name, prompts)
        parameters = {"isconnectedquery": "N", "maxrows": "0"}
        if prompts:
            if any("," in text for pair in prompts.items() for text in pair):
                raise PermanentSourceError(
                    "A prompt holds a comma, which separates values in a request to PeopleSoft QAS.",
                    where=name,
                    todo="Refuse this key before it is asked for.",
                )
            parameters["prompt_uniquepromptname"] = ",".join(prompts)
            parameters["prompt_fieldvalue"] = ",".join(prompts.values())
        parameters["json_resp"] = "true"
        exchange = _Exchange(self._http, name, prompts, self._row_cap, may_be_empty, control_characters=True)
        document, answer = await exchange.ask(
            "GET", f"{self._folder}/{name}/JSON/NONFILE", params=parameters, accept=(*JSON, *XML)
        )
        status = exchange.member(document, "status", answer)
        if status != "success":
            raise exchange.refusal(f"says its status is {exchange.shown(status)}, not success", answer)
        query = exchange.member(exchange.member(document, "data", answer), "query", answer)
        answered = exchange.member(query, "queryname=", answer)
        if not isinstance(answered, str) or answered.strip().casefold() != name.casefold():
            raise exchange.refusal(f"is for the query {exchange.shown(answered)}, not {name}", answer)
        rows = exchange.rows(exchange.member(query, "rows", answer), "rows", answer)
        count = whole_number(exchange.member(query, "numrows", answer))
        if count != len(rows):
            counted = "no number" if count is None else str(count)
            raise exchange.refusal(f"counts {counted} of rows and holds {len(rows)}", answer)
        return exchange.answer(rows, answer, counted=True)


class CsTools(SourceClient):
    """CS Tools, the wrapper before PeopleSoft's queries; use it as an async context manager.

    Request and envelope are those of the predecessor's flows: `POST` with `x-api-key`, answered by
    `{"data": [row, ...]}`. The envelope has no count, so only row numbers speak of completeness: either every
    row has one and they run from 1 to N, or none has any; anything between is refused.

    Args:
        endpoint: Full address that queries are posted to.
        key: API key.
        policy: What a request may cost.
        row_cap: The PeopleSoft user's "maximum rows to fetch", if known.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        endpoint: str,
        key: SecretStr,
        *,
        policy: RequestPolicy,
        row_cap: int | None = None,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        self._http = HttpSource(
            "CS Tools",
            endpoint,
            policy=policy,
            headers={"x-api-key": key},
            ca_bundle=ca_bundle,
            user_agent=user_agent,
        )
        self._row_cap = row_cap

    async def run_query(
        self, name: str, prompts: Mapping[str, str] | None = None, *, may_be_empty: bool = False
    ) -> QueryAnswer:
        """Run one query; see `PeopleSoftQueries.run_query`."""
        prompts = _checked_query(name, prompts)
        body: dict[str, Any] = {"query_name": name}
        if prompts:
            body |= {"prompt_names": list(prompts), "prompt_values": list(prompts.values())}
        exchange = _Exchange(self._http, name, prompts, self._row_cap, may_be_empty)
        document, answer = await exchange.ask("POST", json=body)
        if isinstance(document, dict):
            for complaint in _COMPLAINTS & document.keys():
                if document[complaint]:
                    raise exchange.refusal(f"holds an error: {exchange.shown(document[complaint])}", answer)
        rows = exchange.rows(exchange.member(document, "data", answer), "data", answer)
        return exchange.answer(rows, answer, counted=False)


class _Exchange(Exchange):
    """One query, from the request to the rows.

    Args:
        http: The source.
        query: Name of the query.
        prompts: Its prompts; their values are personal.
        row_cap: The user's "maximum rows to fetch", if known.
        may_be_empty: Whether an explicit empty list of rows is an answer.
        control_characters: Whether strings may hold raw control characters.
    """

    def __init__(
        self,
        http: HttpSource,
        query: str,
        prompts: Mapping[str, str],
        row_cap: int | None,
        may_be_empty: bool,
        *,
        control_characters: bool = False,
    ) -> None:
        super().__init__(
            http,
            query,
            personal=prompts.values(),
            todo="Nothing of it was kept. Run the query in PeopleSoft and compare; then ask the operator.",
        )
        self._query = query
        self._row_cap = row_cap
        self._may_be_empty = may_be_empty
        self._control_characters = control_characters
        self._was_lenient = False

    def parsed(self, answer: Answer) -> JsonValue:
        """The document, read leniently where it takes that and this service writes so."""
        if answer.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            raise self._fault(answer)
        try:
            return super().parsed(answer)
        except JsonError:
            if not self._control_characters:
                raise
        document = loads(answer.body, control_characters=True)
        self._was_lenient = True
        return document

    def rows(self, value: JsonValue, name: str, answer: Answer) -> Sequence[JsonValue]:
        """The list of rows, refused where it may not be what the query found."""
        if not isinstance(value, list):
            raise self.refusal(f"has {kind_of(value)} where the list {name!r} belongs", answer)
        if not value and not self._may_be_empty:
            raise self.refusal("has no rows, and this query always has some", answer)
        if self._row_cap is not None and len(value) >= self._row_cap:
            raise self.refusal(
                f"has {len(value)} rows and the user's maximum rows to fetch is {self._row_cap}, "
                "so it may have been cut",
                answer,
            )
        return value

    def answer(self, rows: Sequence[JsonValue], answer: Answer, *, counted: bool) -> QueryAnswer:
        """The rows with their ordinals, once the row numbers are found to agree with their count."""
        numbers = [whole_number(row.get(ROW_NUMBER)) if isinstance(row, dict) else None for row in rows]
        known = [number for number in numbers if number is not None]
        if len(set(known)) < len(known):
            raise self.refusal(f"repeats {len(known) - len(set(known))} of its row numbers", answer)
        if known and not 1 <= min(known) <= max(known) <= len(rows):
            raise self.refusal(f"has row numbers from {min(known)} to {max(known)} for {len(rows)} rows", answer)
        objects = sum(isinstance(row, dict) for row in rows)
        if not counted and len(known) < objects and any(_has_number(row) for row in rows):
            raise self.refusal(
                f"has a readable row number in {len(known)} of its {objects} rows and no other count", answer
            )
        free = iter(sorted(set(range(1, len(rows) + 1)) - set(known)))
        return QueryAnswer(
            query=self._query,
            rows=tuple(_row(row) for row in rows),
            ordinals=tuple(next(free) if number is None else number for number in numbers),
            pointer=self.pointer(answer),
            proof="row_count" if counted else "row_numbers" if known else "none",
            control_characters=self._was_lenient,
            attempts=answer.attempts,
            seconds=answer.seconds,
            bytes_in=answer.bytes_in,
        )

    def _fault(self, answer: Answer) -> PermanentSourceError:
        """XML where JSON was asked: the Integration Broker reports errors so, often with status 200."""
        text = answer.body[:_FAULT_BYTES].decode("utf-8", errors="replace")
        if "<IBResponse" not in text:
            begins = self.redactor.excerpt(answer.body[:_FAULT_BYTES], SHOWN_CHARACTERS)
            return self.refusal("is XML where JSON was asked", answer, f'It begins: "{begins}"')
        parts = {name: _element(text, name) for name in ("StatusCode", "MessageSet", "MessageID")}
        code = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
        message = self.redactor.excerpt(_element(text, "DefaultMessage").encode(), SHOWN_CHARACTERS)
        failure = self.refusal(
            "is a fault of the Integration Broker", answer, f'{self.redactor.text(code)}: "{message}"'
        )
        if _ABOUT_LOGON.search(message):
            self._http.stop(failure)
        return failure


_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,60}")
_ALIAS: Final = re.compile(r"\A[A-Z][A-Z0-9]{0,2}\.(?=[^.]+\Z)")
"""A record alias before a field name, e.g. `A.` in `A.STRM`."""

_COMPLAINTS: Final = frozenset({"error", "errors", "fault"})
_FAULT_BYTES: Final = 16 * 1024
_ABOUT_LOGON: Final = re.compile(r"(?i)authenticat|password|log-?\s?on|log-?\s?in|sign-?\s?on")


def _checked_query(name: str, prompts: Mapping[str, str] | None) -> Mapping[str, str]:
    if not _NAME.fullmatch(name):
        raise PermanentSourceError(f"{name!r} is not the name of a PeopleSoft query.", todo="Correct it.")
    prompts = prompts or {}
    # An empty prompt means "everything" to some queries.
    if not all(text.strip() and text.isprintable() for pair in prompts.items() for text in pair):
        raise PermanentSourceError(
            "A prompt has no name or no value, or one that cannot be sent.",
            where=name,
            todo="Refuse this key before it is asked for.",
        )
    return prompts


def _has_number(row: JsonValue) -> bool:
    return isinstance(row, dict) and ROW_NUMBER in row


def _row(row: JsonValue) -> JsonObject | UnusableRow:
    if not isinstance(row, dict):
        return UnusableRow("row_not_object", f"The row is {kind_of(row)}, not an object.", row)
    sent = {name: value for name, value in row.items() if name != ROW_NUMBER}
    if isinstance(row, DuplicateKeys):
        return UnusableRow("duplicate_key", "The row names a field twice.", sent)
    fields: JsonObject = {}
    for name, value in sent.items():
        bare = _ALIAS.sub("", name)
        if bare in fields:
            return UnusableRow("alias_clash", f"Two fields of the row are called {bare[:60]!r}.", sent)
        fields[bare] = value
    return fields


def _element(text: str, name: str) -> str:
    """The text of one element; without an XML parser there are no entities to be attacked with."""
    _, found, rest = text.partition(f"<{name}>")
    content, closed, _ = rest.partition(f"</{name}>")
    if not (found and closed):
        return ""
    return content.strip().removeprefix("<![CDATA[").removesuffix("]]>").strip()
