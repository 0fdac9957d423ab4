"""VDS, the virtual directory of people: RadiantOne's REST interface (ADAP), and the SnapLogic task before it.

`GET /adap/{base DN}` searches as RadiantOne's Web Services API Guide says: a default size limit, `totalResults`
that is a code below 0, pages by cookie, and fewer entries but no error for whoever brings no credentials.
`POST /vds` runs such a search and answers with the output documents of a SnapLogic REST snap, in which an error
of the directory comes with status 200. Who stands in the directory is told by `people.py`.
"""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final, cast
from urllib.parse import parse_qsl

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.frame import Answer, Question, Received, Reply
from datalake_assets.simulator.json_text import Json, write
from datalake_assets.simulator.ldap_filter import Attributes, FilterError, Matches, read_filter
from datalake_assets.simulator.people import People, Person
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.queries import LOGIN_PAGE, QUERY_KNOBS, spoilt_answer
from datalake_assets.simulator.rows import Fields, Row, numbered
from datalake_assets.simulator.snaplogic import snaplogic_error, snaplogic_error_document

BASE_DN: Final = "ou=people,dc=example,dc=edu"

_SIZE_LIMIT_EXCEEDED: Final = -1
_MORE_PAGES: Final = -2
_SEARCH_ENDED: Final = -3
_COOKIE_LASTS_S: Final = 60
_CLUSTER_NODE: Final = "node1"
_FIELDS: Final = Fields(key="PersonBuid", text="DisplayName", longest=60)
_PARAMETERS: Final = (
    "filter",
    "attributes",
    "scope",
    "sizeLimit",
    "startIndex",
    "count",
    "pageSize",
    "cookie",
    "returnMode",
)
_MESSAGES: Final = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


@dataclass(frozen=True)
class Entry:
    """One entry of the directory.

    Attributes:
        person_id: Whose it is.
        attributes: The values of its attributes, by name as it is written.
        searched: The same by name in lower case.
        is_public: Whether it is shown to anybody.
    """

    person_id: str
    attributes: Attributes
    searched: Attributes
    is_public: bool


@dataclass(frozen=True)
class Search:
    """A search, once it has been found right.

    Attributes:
        text: Its filter as it was written.
        matches: Its filter.
        finds_nothing: Base and scope reach no person.
        names: Attributes asked for, in lower case; None: all.
        size_limit: Most entries; 0: all.
        first: Place of the first entry returned, from 0.
        count: Entries returned at most; None: all.
        page_size: Entries of a page; None: no paging.
        as_arrays: Every value is an array.
        is_anonymous: Only what anybody may see.
    """

    text: str
    matches: Matches
    finds_nothing: bool
    names: frozenset[str] | None
    size_limit: int
    first: int
    count: int | None
    page_size: int | None
    as_arrays: bool
    is_anonymous: bool


class SearchError(Exception):
    """What ADAP dislikes about a search."""


class Directory:
    """The entries, and the searches that are run on them.

    Args:
        people: Everybody.
        config: The knobs, of which the default size limit and the share of padded ids matter.
    """

    def __init__(self, people: People, config: Config) -> None:
        self._people = people
        self._size_limit = config.vds_size_limit
        self._padded = config.whitespace_rate
        self._dice = Dice(config.seed)
        self._entries = lru_cache(maxsize=4)(self._entries_on)

    def read(self, base: str, parameters: Sequence[tuple[str, str]], *, is_anonymous: bool) -> Search:
        """Read a search.

        Raises:
            SearchError: Something about it is wrong.
        """
        asked: dict[str, str] = {}
        for name, value in parameters:
            if name not in _PARAMETERS or name in asked:
                raise SearchError(f"The parameter {name} is not valid.")
            asked[name] = value
        base = base.replace(" ", "").lower()
        scope = asked.get("scope", "sub")
        if scope not in ("base", "one", "sub") or asked.get("returnMode", "array") not in ("array", "ldapschema"):
            raise SearchError("The value of scope or returnMode is not valid.")
        if base != BASE_DN and not BASE_DN.endswith("," + base):
            raise SearchError("The base DN does not exist.")
        text = asked.get("filter", "(objectclass=*)")
        try:
            matches = read_filter(text)
        except FilterError:
            raise SearchError("The filter is not valid.") from None
        page_size = _number(asked, "pageSize")
        is_paged = page_size is not None
        return Search(
            text=text,
            matches=matches,
            finds_nothing=scope == "base" or (scope == "one" and base != BASE_DN),
            names=frozenset(asked["attributes"].lower().split(",")) if "attributes" in asked else None,
            size_limit=0 if is_paged else _number(asked, "sizeLimit", self._size_limit) or 0,
            first=self._offset(asked, text, is_paged=is_paged),
            count=None if is_paged else _number(asked, "count"),
            page_size=page_size,
            as_arrays=asked.get("returnMode") == "array",
            is_anonymous=is_anonymous,
        )

    def _offset(self, asked: Mapping[str, str], text: str, *, is_paged: bool) -> int:
        if is_paged:
            return self._read_cookie(asked["cookie"], text) if "cookie" in asked else 0
        if "cookie" in asked:
            raise SearchError("A cookie needs pageSize.")
        return max(1, _number(asked, "startIndex", 1) or 1) - 1

    def answer(self, search: Search, day: date, strike: Strike, wrapping: "Wrapping") -> Answer:
        """Run a search and wrap what it finds."""
        found = [] if search.finds_nothing else self._found(search, day)
        caps = [int(fault.number("rows")) for fault in strike.faults if fault.knob == "row_cap"]
        total, cookie = _SEARCH_ENDED, None
        if search.page_size is not None and caps:
            # As where paging is switched off: pageSize limits the search, and there is no next page.
            limited = found[: search.page_size]
            total = _SIZE_LIMIT_EXCEEDED
        elif search.page_size is not None:
            end = search.first + search.page_size
            limited = found[search.first : end]
            if search.page_size and end < len(found):
                total, cookie = _MORE_PAGES, self._cookie(end, search.text)
        else:
            limited = found[: search.size_limit or None]
            if len(limited) < len(found):
                total = _SIZE_LIMIT_EXCEEDED
            elif not search.size_limit:
                total = len(found)
            limited = limited[search.first :][: search.count]
        if caps and min(caps) < len(limited):
            total = _SIZE_LIMIT_EXCEEDED
        rows = numbered([((entry.person_id,), _shown(entry, search)) for entry in limited])
        return spoilt_answer(rows, strike, _FIELDS, _Envelope(total, cookie, wrapping))

    def _found(self, search: Search, day: date) -> list[Entry]:
        return [
            entry
            for entry in self._entries(day)
            if (entry.is_public or not search.is_anonymous) and search.matches(entry.searched)
        ]

    def _entries_on(self, day: date) -> list[Entry]:
        entries = []
        neighbours: dict[str, str] = {}
        for person in self._people.on(day):
            affiliation = _affiliation(person)
            if affiliation:
                entries.append(self._entry(person, affiliation, neighbours.get(affiliation), day))
                neighbours[affiliation] = person.id
        return entries

    def _entry(self, person: Person, affiliation: str, neighbour: str | None, day: date) -> Entry:
        is_padded = self._dice.chance(self._padded, "directory", "padded", person.id)
        ids: tuple[str, ...] = (person.id + "  " if is_padded else person.id,)
        # Entries that were joined keep the ids of both persons.
        if neighbour is not None and self._dice.chance(0.01, "directory", "joined", person.id):
            ids = (*ids, neighbour)
        attributes: dict[str, tuple[str, ...]] = {
            "objectClass": ("top", "person"),
            "PersonBuid": ids,
            "PersonPrimaryAffiliation": (affiliation,),
            "DisplayName": (f"Person {person.id}",),
        }
        if person.affiliate:
            end = date(day.year, 12, 31) + timedelta(days=365 * self._dice.below(3, "assignment", person.id))
            attributes["AffiliateAssignmentEndDate"] = (end.isoformat(),)
        searched = {name.lower(): values for name, values in attributes.items()}
        return Entry(person.id, attributes, searched, self._dice.chance(0.1, "directory", "public", person.id))

    def _cookie(self, offset: int, text: str) -> str:
        """A mark of a place in a search; it is signed, so that only this server's own are taken."""
        content = json.dumps([offset, text, time.time()]).encode()
        return f"{_CLUSTER_NODE}={urlsafe_b64encode(content).decode()}.{self._dice.text(16, 'cookie', content)}"

    def _read_cookie(self, cookie: str, text: str) -> int:
        encoded, _, signature = cookie.removeprefix(f"{_CLUSTER_NODE}=").rpartition(".")
        try:
            content = urlsafe_b64decode(encoded)
        except (Base64Error, ValueError):
            raise SearchError("The cookie is not valid.") from None
        if signature != self._dice.text(16, "cookie", content):
            raise SearchError("The cookie is not valid.")
        offset, of_text, issued = json.loads(content)
        if of_text != text:
            raise SearchError("The cookie belongs to another search.")
        if time.time() - issued > _COOKIE_LASTS_S:
            raise SearchError("The cookie has expired.")
        return int(offset)


class Adap:
    """The directory's own REST interface.

    Args:
        directory: The entries.
        credentials: The logons it accepts.
    """

    name = "adap"
    source = "vds"
    prefix = "/adap"
    route = "/adap/{base:path}"
    knobs = QUERY_KNOBS

    def __init__(self, directory: Directory, credentials: Credentials) -> None:
        self._directory = directory
        self._credentials = credentials

    def read(self, received: Received) -> Question | Reply:
        """Find the search in a request, or refuse it; without credentials the search is that of anybody."""
        authorization = received.header("authorization")
        if authorization is not None and not self._knows(authorization):
            return self.failure(401)
        if received.method != "GET":
            return self.failure(405).with_headers(("allow", "GET"))
        try:
            search = self._directory.read(
                received.places["base"], received.parameters, is_anonymous=authorization is None
            )
        except SearchError as error:
            return _adap_error(400, str(error))
        return _question(search)

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return given == self._credentials.vds_key
        return scheme.lower() == "basic" and given == self._credentials.vds_basic

    def question_about(self, kind: str) -> Question | None:
        """Nothing: the truth of ids is that of the people."""
        return None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """What the search finds."""
        return self._directory.answer(cast(Search, question.details["search"]), day, strike, _AdapWrapping())

    def failure(self, status: int) -> Reply:
        """The directory's way to say no."""
        return _adap_error(status, _MESSAGES.get(status, "Server error"))

    def lost(self, received: Received) -> Reply:
        """An address that the interface does not have."""
        return self.failure(404)


class Vds:
    """The SnapLogic task that searches the directory.

    Args:
        directory: The entries.
        credentials: The key it accepts.
        config: The knobs, of which the seed matters.
    """

    name = "vds"
    source = "vds"
    prefix = "/vds"
    route = "/vds"
    knobs = QUERY_KNOBS

    def __init__(self, directory: Directory, credentials: Credentials, config: Config) -> None:
        self._directory = directory
        self._credentials = credentials
        self._dice = Dice(config.seed)

    def read(self, received: Received) -> Question | Reply:
        """Find the search in a request, or refuse it; what the directory refuses comes with status 200."""
        if received.header("authorization") != f"Bearer {self._credentials.vds_key}":
            return self.failure(401)
        if received.method != "POST":
            return self.failure(405).with_headers(("allow", "POST"))
        media_type = (received.header("content-type") or "").partition(";")[0].strip().lower()
        try:
            body = json.loads(received.body.decode("utf-8"))
        except (ValueError, RecursionError):
            return self.failure(400)
        is_right = isinstance(body, dict) and list(body) == ["params"] and isinstance(body["params"], str)
        if media_type != "application/json" or not is_right or received.query:
            return self.failure(400)
        try:
            parameters = parse_qsl(body["params"], keep_blank_values=True)
            return _question(self._directory.read(BASE_DN, parameters, is_anonymous=False))
        except SearchError as error:
            return _upstream_error(400, "Bad Request", str(error))

    def question_about(self, kind: str) -> Question | None:
        """Nothing: the truth of ids is that of the people."""
        return None

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """What the search finds, as one document; on some days in an array."""
        search = cast(Search, question.details["search"])
        in_array = self._dice.chance(0.5, "vds", "array", search.text, day)
        return self._directory.answer(search, day, strike, _WrapperWrapping(in_array=in_array))

    def failure(self, status: int) -> Reply:
        """SnapLogic's way to say no."""
        return snaplogic_error(status)

    def lost(self, received: Received) -> Reply:
        """An address that SnapLogic does not have."""
        return self.failure(404)


class _AdapWrapping:
    errors: Sequence[str] = ("login_html",)

    def around(self, found: str) -> str:
        return found

    def error(self, how: str) -> Reply:
        return Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")


class _WrapperWrapping:
    errors: Sequence[str] = ("login_html", "snap_error_doc", "vds_statusline_500")

    def __init__(self, *, in_array: bool) -> None:
        self._in_array = in_array

    def around(self, found: str) -> str:
        document = _output(200, "OK", found)
        return f"[{document}]" if self._in_array else document

    def error(self, how: str) -> Reply:
        if how == "snap_error_doc":
            return snaplogic_error_document()
        if how == "vds_statusline_500":
            return _upstream_error(500, "Internal Server Error", "The directory failed.")
        return Reply(200, LOGIN_PAGE.encode(), "text/html; charset=utf-8")


Wrapping = _AdapWrapping | _WrapperWrapping


class _Envelope:
    counts_rows = True
    reads_raw_controls = False

    def __init__(self, total: int, cookie: str | None, wrapping: Wrapping) -> None:
        self.errors = wrapping.errors
        self._total = total
        self._cookie = cookie
        self._wrapping = wrapping

    def around(self, rows: str, count: int) -> str:
        return self._entity(f'"count":{count},"resources":{rows}')

    def without_rows(self, shape: str) -> str:
        return self._entity('"count":0,"resources":null' if shape == "null_data" else '"count":0')

    def _entity(self, members: str) -> str:
        paging = f',"cookie":{write(self._cookie)}'
        return self._wrapping.around(f'{{"httpStatus":200,{members},"totalResults":{self._total}{paging}}}')

    def row(self, row: Row, prefix: str, *, numbered: bool) -> str:
        if row.whole is not None:
            return row.whole
        dn = write(f"uid={row.name},{BASE_DN}")
        return f'{{"dn":{dn},"attributes":{row.text(numbered=False)}}}'

    def error(self, how: str) -> Reply:
        return self._wrapping.error(how)


def _affiliation(person: Person) -> str:
    if person.faculty:
        return "faculty"
    if person.staff:
        return "staff"
    return "affiliate" if person.affiliate else ""


def _question(search: Search) -> Question:
    is_later = search.page_size is not None and search.first > 0
    return Question(f"{search.text},{search.first}" if is_later else search.text, {"search": search})


def _shown(entry: Entry, search: Search) -> dict[str, Json]:
    return {
        name: list(values) if search.as_arrays or len(values) > 1 else values[0]
        for name, values in entry.attributes.items()
        if search.names is None or name.lower() in search.names
    }


def _number(asked: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise SearchError(f"The value of {name} is not valid.")
    return int(text)


def _output(status: int, reason: str, entity: str) -> str:
    """An output document of a SnapLogic REST snap."""
    line = write({"reasonPhrase": reason, "statusCode": status, "protoVersion": "HTTP/1.1"})
    return f'{{"statusLine":{line},"entity":{entity},"headers":{{"content-type":"application/json"}}}}'


def _upstream_error(status: int, reason: str, message: str) -> Reply:
    return Reply(200, f"[{_output(status, reason, write({'httpStatus': status, 'message': message}))}]".encode())


def _adap_error(status: int, message: str) -> Reply:
    reply = Reply(status, write({"httpStatus": status, "message": message}).encode())
    return reply.with_headers(("www-authenticate", 'Basic realm="ADAP"')) if status == 401 else reply
