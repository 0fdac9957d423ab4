"""The pages of an API dataset, one after the other, each handed over while the next one is fetched.

How the next page is found is declared (`Paging`); it is followed on the same origin and path only, and a source that
leads in a circle, or sends a page twice, is refused. Pages hold whatever objects the source sent: what a record means,
and whether one came twice across pages, is for whoever loads them. How a page is asked for is in `http.py`.
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

import orjson

from datalake_assets.exact_json import JsonError, JsonValue, dumps_ascii, dumps_sound, loads
from datalake_assets.sources.errors import PermanentSourceError
from datalake_assets.sources.http import Answer, HttpSource
from datalake_assets.sources.validators import Validators

PagingKind = Literal["next_link", "page_number", "offset", "cursor", "header_link", "single_page"]

_OK: Final = frozenset({200})
_OR_UNCHANGED: Final = frozenset({200, 304})
_LINK: Final = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*]+\s*=\s*(?:"[^"]*"|[^",;\s]+))*)')
_NEXT: Final = re.compile(r';\s*rel\s*=\s*"?(?:[^";]*\s)?next(?:\s[^";]*)?"?\s*(?:;|$)', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Paging:
    """How an API cuts its records into pages.

    Attributes:
        kind: `next_link`: the body names the address of the next page; `header_link`: the header `Link` does;
            `cursor`: the body names a word to be sent as a parameter; `page_number` and `offset`: counted here until
            a page is empty, because a short page only shows that the source gives fewer than it was asked for;
            `single_page`: there is one.
        results: The member that holds the records, with dots between nested ones; empty: the body is the list.
        next: The member that names the next page of `next_link` and `cursor`; it must be there, null at the end.
        parameter: The parameter that carries page number, offset or cursor; the kind's own word if None.
        first: The first page number or offset.
        size_parameter: The parameter that asks for a page size.
        size: Records asked for in a page; the source's own choice if None.
        max_pages: More pages than these are refused.
        https_next: Read `http://` in links as `https://`, for a source behind a proxy that ends TLS.
    """

    kind: PagingKind = "next_link"
    results: str = "results"
    next: str = "next"
    parameter: str | None = None
    first: int | None = None
    size_parameter: str = "page_size"
    size: int | None = None
    max_pages: int = 100_000
    https_next: bool = False

    @property
    def counted_parameter(self) -> str:
        """The parameter that is changed from page to page."""
        return self.parameter or {"page_number": "page", "offset": "offset"}.get(self.kind, "cursor")


@dataclass(frozen=True)
class SoundPage:
    """A page in which nothing is to be refused, read in another process.

    Attributes:
        records: How many there are in it.
        digest: Of all of them.
        next: The member that names the next page, if its paging has one.
        made: What the caller made of the records there.
    """

    records: int
    digest: bytes
    next: JsonValue
    made: Any = field(default=None, repr=False)


ReadElsewhere = Callable[[bytes, int], Awaitable[SoundPage | None]]
"""Reads the body of a page with a number; None: it is to be read here, whatever is wrong with it."""


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        number: Its place, from 1.
        records: The objects in it, parsed without loss; each is to be looked at for `exact_json.defects`. None are
            here if it was read elsewhere.
        bytes: Size of its body.
        sha256: Of its body.
        pointer: Source, address and request id, fit to be kept.
        validators: The version that the source named with it.
        elsewhere: What another process found in it.
    """

    number: int
    records: list[dict[str, JsonValue]] = field(repr=False)
    bytes: int
    sha256: str
    pointer: str
    validators: Validators
    elsewhere: SoundPage | None = None

    @property
    def count(self) -> int:
        """How many records are in it."""
        return len(self.records) if self.elsewhere is None else self.elsewhere.records


async def pages(
    source: HttpSource,
    path: str,
    paging: Paging,
    *,
    params: Mapping[str, str] | None = None,
    elsewhere: ReadElsewhere | None = None,
) -> AsyncGenerator[Page]:
    """Every page of a dataset, in order; close it (`contextlib.aclosing`) where it is not read to its end.

    Args:
        source: An open source.
        path: The dataset's path.
        paging: How it is cut into pages.
        params: Parameters of the first request.
        elsewhere: Reads pages in another process; they are read in a thread of this one if None.

    Raises:
        SourceError: A page could not be had, or cannot be trusted.
    """
    asked: asyncio.Task[_Fetched] | None = None
    walk = _Walk(source, path, paging, params or {})
    try:
        asked = asyncio.create_task(walk.page(walk.start))
        while asked is not None:
            fetched = await asked
            # The next page is fetched while this one is read, and used by whoever asked for it.
            asked = None if fetched.then is None else asyncio.create_task(walk.page(fetched.then))
            sound = None if elsewhere is None else await elsewhere(fetched.answer.body, fetched.number)
            yield await asyncio.to_thread(walk.read, fetched, sound)
    finally:
        if asked is not None:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)


async def unchanged(
    source: HttpSource, path: str, paging: Paging, known: Validators, *, params: Mapping[str, str] | None = None
) -> bool:
    """Whether a dataset is still the version that was loaded; False if the source does not tell.

    It is asked for with the first page, which says no more about the others than the source means by it.

    Args:
        source: An open source.
        path: The dataset's path.
        paging: How it is cut into pages.
        known: What the source said of the version that was loaded.
        params: Parameters of the first request.

    Raises:
        SourceError: The source could not be asked.
    """
    if not known:
        return False
    walk = _Walk(source, path, paging, params or {})
    answer = await walk.ask(walk.start, unless=known)
    return answer.status == 304 or (known.etag is not None and Validators.of(answer.headers).etag == known.etag)


def read_sound_page(body: bytes, paging: Paging) -> tuple[SoundPage, list[dict[str, JsonValue]]] | None:
    """The records of a page and what must be known of them; None if there is anything to refuse.

    Args:
        body: The page.
        paging: Where its records are.
    """
    try:
        value = loads(body)
        records = _within(value, paging.results) if paging.results else value
        then = _within(value, paging.next) if paging.kind in _NAMED_IN_BODY else None
    except (JsonError, LookupError):
        return None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        return None
    text = dumps_sound(records)
    return None if text is None else (SoundPage(len(records), _digest(text), then), records)


@dataclass(frozen=True)
class _Fetched:
    """A page that has come and is not read yet.

    Attributes:
        number: Its place.
        answer: What came.
        pointer: Source, address and request id.
        then: The address of the next one.
        is_early: Whether that was found before the page was parsed, and is to be proved.
        named: What named it then.
    """

    number: int
    answer: Answer
    pointer: str
    then: str | None
    is_early: bool = False
    named: JsonValue = None


class _Walk:
    """One walk through a dataset: where it was, so that it does not go in a circle."""

    def __init__(self, source: HttpSource, path: str, paging: Paging, params: Mapping[str, str]) -> None:
        self._source = source
        self._path = path
        self._paging = paging
        self._asked: set[str] = set()
        self._seen: set[bytes] = set()
        self._number = 0
        self._base = urlsplit(source.url_of(path))
        query = dict(params)
        if paging.size is not None:
            query[paging.size_parameter] = str(paging.size)
        self._query = query
        self._counter = paging.first if paging.first is not None else int(paging.kind == "page_number")
        self._early = _early_member(paging.next) if paging.kind in _NAMED_IN_BODY and paging.results else None
        self.start = self._counted() if paging.kind in ("page_number", "offset") else self._with(query)

    async def page(self, address: str) -> _Fetched:
        """Fetch a page, and find out where the next one is."""
        answer = await self.ask(address)
        pointer = f"{self._source.name} {self._path}, page {self._number}, request id {answer.request_id}"
        # The source waits for whoever looks for the next page, so it is looked for where it usually stands.
        early = None if self._early is None else self._early.match(answer.body[:_EARLY_BYTES])
        if early is not None:
            with contextlib.suppress(ValueError):
                named = orjson.loads(early[1])
                return _Fetched(self._number, answer, pointer, self._address(named, pointer), True, named)
        return _Fetched(self._number, answer, pointer, await asyncio.to_thread(self._then, answer, pointer))

    async def ask(self, address: str, unless: Validators | None = None) -> Answer:
        """Ask for the page at an address."""
        self._number += 1
        if self._number > self._paging.max_pages:
            raise self._refusal(
                f"{self._source.name} names a page beyond the {self._paging.max_pages} that are allowed",
                "If the dataset has really grown that much, raise max_pages.",
            )
        self._asked.add(address)
        return await self._source.request(
            "GET",
            address,
            key=f"{self._path}, page {self._number}",
            headers=unless.asks_for_news if unless else None,
            statuses=_OR_UNCHANGED if unless else _OK,
        )

    def read(self, fetched: _Fetched, sound: SoundPage | None = None) -> Page:
        """Parse a page unless that was done elsewhere, and refuse it if it came before."""
        answer, pointer = fetched.answer, fetched.pointer
        records: list[JsonValue] = []
        if sound is not None:
            count, digest, then = sound.records, sound.digest, sound.next
        else:
            body = self._parsed(answer, pointer)
            records = self._records(body, pointer)
            if not all(isinstance(record, dict) for record in records):
                raise self._refusal(
                    f"A page of {self._source.name} holds a record that is no object",
                    "Ask the source's operator; nothing of the dataset is used.",
                    pointer,
                )
            count, digest = len(records), _digest(dumps_sound(records) or dumps_ascii(records))
            then = None if not fetched.is_early else self._member(body, self._paging.next, pointer)
        if fetched.is_early and then != fetched.named:
            raise self._refusal(
                f"A page of {self._source.name} names two next pages",
                "Ask the source's operator; nothing of the dataset is used.",
                pointer,
            )
        if count:
            self._refuse_if_seen(digest, fetched.number, pointer)
        return Page(
            number=fetched.number,
            records=records,
            bytes=len(answer.body),
            sha256=hashlib.sha256(answer.body).hexdigest(),
            pointer=pointer,
            validators=Validators.of(answer.headers),
            elsewhere=sound,
        )

    def _parsed(self, answer: Answer, pointer: str) -> JsonValue:
        try:
            return loads(answer.body)
        except JsonError as error:
            raise self._refusal(
                f"A page of {self._source.name} cannot be read: {error.what.rstrip('.')}",
                "Ask the source's operator; nothing of the dataset is used.",
                pointer,
            ) from None

    def _records(self, body: JsonValue, pointer: str) -> list[JsonValue]:
        records = self._member(body, self._paging.results, pointer) if self._paging.results else body
        if not isinstance(records, list):
            raise self._refusal(
                f"A page of {self._source.name} holds no list where its records should be",
                "Correct `results` of its paging, or ask the source's operator.",
                pointer,
            )
        return records

    def _then(self, answer: Answer, pointer: str) -> str | None:
        paging = self._paging
        if paging.kind == "single_page":
            return None
        try:
            # Numbers lose digits here, but it is three times as fast, and the source waits for it.
            body = orjson.loads(answer.body)
        except ValueError:
            body = self._parsed(answer, pointer)
        if paging.kind in ("page_number", "offset"):
            records = self._records(body, pointer)
            if not records:
                return None
            self._counter += 1 if paging.kind == "page_number" else len(records)
            return self._counted()
        if paging.kind == "header_link":
            then: JsonValue = _linked(answer.headers.get("link", ""))
        else:
            then = self._member(body, paging.next, pointer)
        return self._address(then, pointer)

    def _address(self, then: JsonValue, pointer: str) -> str | None:
        """The address of the page that a source names as the next one."""
        paging = self._paging
        if then is None or then == "":
            return None
        if isinstance(then, int) and not isinstance(then, bool) and paging.kind == "cursor":
            then = str(then)
        if not isinstance(then, str):
            raise self._refusal(f"{self._source.name} names a next page that is no text", "Correct `next`.", pointer)
        address = self._with({**self._query, paging.counted_parameter: then})
        if paging.kind != "cursor":
            address = self._on_the_same_path(then, pointer)
        if address in self._asked:
            raise self._refusal(
                f"{self._source.name} leads in a circle: page {self._number} names as the next one that was read",
                "Report it to the source's operator: its pages do not end.",
                pointer,
            )
        return address

    def _on_the_same_path(self, link: str, pointer: str) -> str:
        try:
            found = urlsplit(urljoin(urlunsplit(self._base), link))
            if self._paging.https_next and found.scheme == "http":
                found = found._replace(scheme="https")
            place = (found.scheme, found.hostname, found.port or _PORTS.get(found.scheme), found.path.rstrip("/"))
        except ValueError:
            found, place = self._base, ("", None, None, "")
        base = self._base
        here = (base.scheme, base.hostname, base.port or _PORTS[base.scheme], base.path.rstrip("/"))
        if place != here or "@" in found.netloc:
            hint = " Its links begin with http://: set https_next." if place[0] == "http" != here[0] else ""
            raise self._refusal(
                f"{self._source.name} names a next page at another place",
                f"Nothing is asked there, because credentials would go along.{hint}",
                pointer,
            )
        return urlunsplit(found._replace(fragment=""))

    def _refuse_if_seen(self, digest: bytes, number: int, pointer: str) -> None:
        # One digest a page: those of all records would take as much memory as there are records.
        if digest in self._seen:
            raise self._refusal(
                f"{self._source.name} sent a page twice: all records of page {number} were on an earlier one",
                "Report it to the source's operator: it goes in a circle, or does not heed the page it is asked for.",
                pointer,
            )
        self._seen.add(digest)

    def _member(self, body: JsonValue, name: str, pointer: str) -> JsonValue:
        try:
            return _within(body, name)
        except LookupError:
            raise self._refusal(
                f"A page of {self._source.name} has no {name!r}",
                "Correct its paging, or ask the source's operator; without it a page may be missing.",
                pointer,
            ) from None

    def _counted(self) -> str:
        return self._with({**self._query, self._paging.counted_parameter: str(self._counter)})

    def _with(self, query: Mapping[str, str]) -> str:
        known = {**dict(parse_qsl(self._base.query, keep_blank_values=True)), **query}
        return urlunsplit(self._base._replace(query=urlencode(known, quote_via=quote)))

    def _refusal(self, what: str, todo: str, pointer: str = "") -> PermanentSourceError:
        return PermanentSourceError(f"{what}.", where=pointer or f"{self._source.name} {self._path}", todo=todo)


_PORTS: Final = {"http": 80, "https": 443}
_NAMED_IN_BODY: Final = ("next_link", "cursor")
_EARLY_BYTES: Final = 8192
_TEXT: Final = r'"(?:[^"\\]|\\.)*+"'


def _early_member(name: str) -> re.Pattern[bytes] | None:
    """Finds a text or null that an object names before anything but texts, numbers and words."""
    if "." in name:
        return None
    members = rf"(?:{_TEXT}\s*:\s*(?:{_TEXT}|[\w.+-]++)\s*,\s*)*?"
    found = rf"\s*\{{\s*{members}{re.escape(orjson.dumps(name).decode())}\s*:\s*({_TEXT}|null)\s*[,}}]"
    return re.compile(found.encode(), re.DOTALL)


def _within(body: JsonValue, name: str) -> JsonValue:
    """The member of a name, with dots between nested ones.

    Raises:
        LookupError: It is not there.
    """
    for part in name.split("."):
        if not isinstance(body, dict) or part not in body:
            raise LookupError(part)
        body = body[part]
    return body


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()


def _linked(header: str) -> str | None:
    """The target of `rel="next"` in a header `Link` (RFC 8288)."""
    for target, settings in _LINK.findall(header):
        if _NEXT.search(settings):
            return str(target)
    return None
