"""The virtual directory (VDS, a RadiantOne): ids of faculty and staff, asked in two ways.

`VdsWrapper` speaks to the SnapLogic task before the directory, `VdsAdap` to its own REST interface (ADAP), whose
size limits, paging and codes are those of RadiantOne's Web Services API Guide. Both refuse an answer that was
cut at a size limit. A person may have several ids; each is taken.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Protocol
from urllib.parse import quote

from pydantic import SecretStr

from datalake_assets.exact_json import JsonValue
from datalake_assets.sources.client import SourceClient
from datalake_assets.sources.errors import PermanentSourceError, RedirectedError
from datalake_assets.sources.exchange import Exchange, kind_of, whole_number
from datalake_assets.sources.http import DEFAULT_USER_AGENT, Answer, HttpSource, HttpStats
from datalake_assets.sources.ids import IdAnswer, read_id, row_defect, sorted_out
from datalake_assets.sources.peoplesoft import UnusableRow
from datalake_assets.sources.policies import VDS_PAGE, RequestPolicy

Affiliation = Literal["faculty", "staff"]
"""Values of `PersonPrimaryAffiliation` that are asked for."""

ATTRIBUTE: Final = "PersonBuid"

SIZE_LIMIT: Final = 25_000
"""Entries that the predecessor asked the wrapper for at most."""

PAGE_SIZE: Final = 1000
"""Entries of one page: what RadiantOne grants to anybody."""


class VirtualDirectory(Protocol):
    """Whoever can ask the directory."""

    @property
    def stats(self) -> HttpStats:
        """What the source has cost so far."""

    async def ids(self, affiliation: Affiliation, *, may_be_empty: bool = False) -> IdAnswer:
        """The ids of all people with this primary affiliation.

        Args:
            affiliation: Whose.
            may_be_empty: Whether an explicit empty list of entries is an answer.

        Raises:
            TransientSourceError: The directory failed on every attempt.
            PermanentSourceError: It refused, or its answer is cut or cannot be trusted.
        """


class VdsWrapper(SourceClient):
    """The SnapLogic task before VDS; use it as an async context manager.

    The request is the predecessor's. The answer is one output document of a SnapLogic REST snap, or a list of
    them, and the status of what stood behind it is in the document: an upstream failure arrives with status 200.

    Args:
        url: Full address that searches are posted to.
        key: Bearer key.
        policy: What a request may cost.
        size_limit: Entries asked for at most. An answer of that many is refused, because it may have been cut.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        url: str,
        key: SecretStr,
        *,
        policy: RequestPolicy = VDS_PAGE,
        size_limit: int = SIZE_LIMIT,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        self._http = HttpSource(
            "VDS", url, policy=policy, headers=_bearer(key), ca_bundle=ca_bundle, user_agent=user_agent
        )
        self._size_limit = size_limit

    async def ids(self, affiliation: Affiliation, *, may_be_empty: bool = False) -> IdAnswer:
        """The ids of all people with this primary affiliation; see `VirtualDirectory.ids`."""
        exchange = Exchange(self._http, affiliation, todo=_TODO)
        search = f"filter={_filter(affiliation)}&sizeLimit={self._size_limit}"
        document, answer = await exchange.ask("POST", json={"params": search})
        outputs = document if isinstance(document, list) else [document]
        entries: list[JsonValue] = []
        totals: set[int | None] = set()
        for output in outputs:
            _refuse_upstream_failure(exchange, output, answer)
            entity = exchange.member(output, "entity", answer)
            entries += _entries(exchange, entity, answer)
            totals.add(_total(exchange, entity, answer))
        if _SIZE_LIMIT_EXCEEDED in totals or len(entries) >= self._size_limit:
            raise exchange.refusal(
                f"was cut at {len(entries)} entries; the size limit asked for is {self._size_limit}",
                answer,
                "Raise VDS_SIZE_LIMIT, and the limit of the directory itself if it is lower.",
            )
        # So many would come if the limit asked for did not reach the directory.
        complete = len(entries) != _DEFAULT_SIZE_LIMIT or None not in totals
        return _answer(exchange, entries, [answer], complete=complete, may_be_empty=may_be_empty)


class VdsAdap(SourceClient):
    """RadiantOne's REST interface (ADAP); use it as an async context manager.

    Searches are paged with `pageSize` and `cookie`. Where the directory has paging switched off, it says that its
    size limit was exceeded, and everything is asked for at once; that answer carries the true total. Without
    credentials ADAP answers as for anybody, with fewer entries and no error, so they are required here.

    Args:
        url: Address of ADAP, to which the base DN is appended.
        base_dn: Where the search begins, e.g. `ou=people,dc=example,dc=edu`.
        basic: DN and password for Basic authentication.
        bearer: Token for Bearer authentication, instead of `basic`.
        policy: What the request of one page may cost.
        page_size: Entries of a page.
        ca_bundle: File or folder with the only authorities trusted; the public ones if None.
        user_agent: Sent as `User-Agent`.
    """

    def __init__(
        self,
        url: str,
        base_dn: str,
        *,
        basic: tuple[str, SecretStr] | None = None,
        bearer: SecretStr | None = None,
        policy: RequestPolicy = VDS_PAGE,
        page_size: int = PAGE_SIZE,
        ca_bundle: str | Path | None = None,
        user_agent: str = DEFAULT_USER_AGENT,
    ) -> None:
        if (basic is None) == (bearer is None):
            raise PermanentSourceError(
                "VDS ADAP needs either a user with a password or a bearer token; without, it answers as for anybody.",
                todo="Set VDS_USERNAME and VDS_PASSWORD, or VDS_KEY.",
            )
        if not base_dn.strip():
            raise PermanentSourceError("VDS ADAP needs a base DN to search below.", todo="Set VDS_BASE_DN.")
        self._http = HttpSource(
            "VDS ADAP",
            url,
            policy=policy,
            headers=None if bearer is None else _bearer(bearer),
            basic=basic,
            ca_bundle=ca_bundle,
            user_agent=user_agent,
        )
        self._path = "/" + quote(base_dn.strip(), safe="=,")
        self._page_size = page_size

    async def ids(self, affiliation: Affiliation, *, may_be_empty: bool = False) -> IdAnswer:
        """The ids of all people with this primary affiliation; see `VirtualDirectory.ids`.

        Two searches are not known to be complete. Where all pages have one cookie, it stands for the directory's own
        place in the search, which moves on although an answer is lost: after a repeated request a page may be
        missing. And where the last page is empty, its "-3" may mean that the search ended early.
        """
        search = {
            "filter": _filter(affiliation),
            "attributes": ATTRIBUTE,
            "scope": "sub",
            "returnMode": "array",
        }
        entries: list[JsonValue] = []
        answers: list[Answer] = []
        seen: set[str] = set()
        cookies: list[str] = []
        cookie = ""
        repeated = False
        while True:
            exchange = Exchange(self._http, affiliation, personal=(cookie,), todo=_TODO)
            page = {**search, "pageSize": str(self._page_size), **({"cookie": cookie} if cookie else {})}
            document, answer = await self._ask(exchange, page)
            answers.append(answer)
            found, total = _entries(exchange, document, answer), _total(exchange, document, answer)
            if total == _SIZE_LIMIT_EXCEEDED and not cookie:
                return await self._unpaged(exchange, search, answers, may_be_empty=may_be_empty)
            following = _cookie(exchange, document, answer)
            if total == _MORE_PAGES and not following:
                raise exchange.refusal("says that there are more pages, and gives no cookie to ask for them", answer)
            if total not in (_MORE_PAGES, _LAST_PAGE) and not (cookie == following == "" and total == len(found)):
                raise exchange.refusal(
                    f"has the totalResults {total} for a page of {len(found)} entries, so it may have been cut", answer
                )
            names = {str(entry) for entry in found}
            if names and names <= seen:
                raise exchange.refusal(f"repeats entries: page {len(answers)} has none that were not seen", answer)
            seen |= names
            entries += found
            repeated |= bool(cookie) and answer.attempts > 1
            if total != _MORE_PAGES:
                pages_are_told_apart = len(cookies) > 1 and len(set(cookies)) == len(cookies)
                complete = (bool(found) or not cookie) and (pages_are_told_apart or not repeated)
                return _answer(exchange, entries, answers, complete=complete, may_be_empty=may_be_empty)
            if not found:
                raise exchange.refusal("has no entry, and says that there are more pages", answer)
            cookie = following
            cookies.append(cookie)

    async def _unpaged(
        self, exchange: Exchange, search: Mapping[str, str], answers: list[Answer], *, may_be_empty: bool
    ) -> IdAnswer:
        """Everything in one answer; with `sizeLimit=0` the directory tells the true total."""
        document, answer = await self._ask(exchange, {**search, "sizeLimit": "0"})
        found, total = _entries(exchange, document, answer), _total(exchange, document, answer)
        if total != len(found):
            raise exchange.refusal(
                f"has the totalResults {total} for {len(found)} entries, so it was cut", answer, _PAGING_IS_OFF
            )
        return _answer(exchange, found, [*answers, answer], complete=True, may_be_empty=may_be_empty)

    async def _ask(self, exchange: Exchange, parameters: Mapping[str, str]) -> tuple[JsonValue, Answer]:
        """Ask for one page, where the node is that has the search: a cluster redirects to it."""
        try:
            document, answer = await exchange.ask("GET", self._path, params=parameters)
        except RedirectedError as redirect:
            if redirect.location is None:
                raise
            document, answer = await exchange.ask("GET", redirect.location)
        status = whole_number(document.get("httpStatus", 200)) if isinstance(document, dict) else 200
        if status != 200:
            raise exchange.refusal(f"says that its status is {status}, not 200", answer)
        return document, answer


_TODO: Final = "Nothing of it was kept. Run the search in the directory and compare; then ask its operator."
_PAGING_IS_OFF: Final = 'Have "Enable paged results" switched on in RadiantOne, or its size limit raised.'

_DEFAULT_SIZE_LIMIT: Final = 1000
"""RadiantOne's own, where none is asked for."""

_SIZE_LIMIT_EXCEEDED: Final = -1
_MORE_PAGES: Final = -2
_LAST_PAGE: Final = -3


def _bearer(key: SecretStr) -> dict[str, SecretStr]:
    return {"Authorization": SecretStr(f"Bearer {key.get_secret_value()}")}


def _filter(affiliation: Affiliation) -> str:
    return f"(PersonPrimaryAffiliation={affiliation})"


def _refuse_upstream_failure(exchange: Exchange, output: JsonValue, answer: Answer) -> None:
    if not isinstance(output, dict) or output.get("statusLine") is None:
        return
    status = whole_number(exchange.member(output["statusLine"], "statusCode", answer))
    if status is None or status >= 400:
        reason = exchange.shown(output["statusLine"].get("reasonPhrase"))
        raise exchange.refusal(f"is an upstream failure with status {status}", answer, f"It said: {reason}.")


def _entries(exchange: Exchange, entity: JsonValue, answer: Answer) -> list[JsonValue]:
    entries = exchange.member(entity, "resources", answer)
    if not isinstance(entries, list):
        raise exchange.refusal(f"has {kind_of(entries)} where the list 'resources' belongs", answer)
    if "count" in entity and (count := whole_number(entity["count"])) != len(entries):
        counted = "no number" if count is None else str(count)
        raise exchange.refusal(f"counts {counted} of entries and holds {len(entries)}", answer)
    return entries


def _total(exchange: Exchange, entity: JsonValue, answer: Answer) -> int | None:
    """What ADAP says of the end of a search; the wrapper may leave it out."""
    if "totalResults" not in entity:
        return None
    total = whole_number(entity["totalResults"])
    if total is None:
        raise exchange.refusal(f"has {kind_of(entity['totalResults'])} where totalResults belongs", answer)
    return total


def _cookie(exchange: Exchange, document: JsonValue, answer: Answer) -> str:
    """The cookie of the next page; on the last one it is absent, null or the text "null"."""
    cookie = document.get("cookie")
    if cookie is None or cookie in ("", "null"):
        return ""
    if not isinstance(cookie, str):
        raise exchange.refusal(f"has {kind_of(cookie)} where the cookie belongs", answer)
    return cookie


def _answer(
    exchange: Exchange, entries: Sequence[JsonValue], answers: Sequence[Answer], *, complete: bool, may_be_empty: bool
) -> IdAnswer:
    last = answers[-1]
    if not entries and not may_be_empty:
        raise exchange.refusal("names nobody, and there always are some", last)
    rows, unusable, nameless = sorted_out(item for entry in entries for item in _read(entry))
    if not rows and entries:
        raise exchange.refusal(f"has {len(entries)} entries, and none has a readable {ATTRIBUTE}", last)
    return IdAnswer(
        rows=rows,
        unusable=unusable,
        nameless=nameless,
        received=len(entries),
        complete=complete,
        pointer=f"{exchange.pointer(last)}, {len(answers)} answers",
        seconds=sum(answer.seconds for answer in answers),
        bytes_in=sum(answer.bytes_in for answer in answers),
    )


def _read(entry: JsonValue) -> list[str | UnusableRow]:
    """The ids of one entry: a text for one value, a list for several, unless the directory always writes lists."""
    if (defect := row_defect(entry)) is not None:
        return [defect]
    attributes = entry.get("attributes")
    if (defect := row_defect(attributes)) is not None:
        return [UnusableRow("no_attributes", "The entry has no readable attributes.", entry)]
    # Names of LDAP attributes are the same in any letter case.
    values = next((value for name, value in attributes.items() if name.casefold() == ATTRIBUTE.casefold()), None)
    if not isinstance(values, list) or not values:
        return [read_id(None if values == [] else values, ATTRIBUTE, entry)]
    return [read_id(value, ATTRIBUTE, entry) for value in values]
