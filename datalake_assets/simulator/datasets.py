"""API datasets: `GET /v4/dataset/{name}`, signed with Hawk both ways, in pages that a cursor leads through.

Which datasets there are, with fields and types, stands in `datasets.json`; every value follows from seed, dataset,
record and day. Records are told in the order in which they were made; a share of them changes each day, some go, some
come. Requests are judged by mohawk, as the real receiver does, and not by anything that a client of ours uses.
"""

import base64
import io
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

import mohawk

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import Strike
from datalake_assets.simulator.frame import TRUSTED, Answer, Question, Received, Reply, Verdict
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.presets import FaultPlan

_SKEW_S: Final = 60
_FIRST_DAY: Final = date(2025, 1, 1)
"""Before it nothing comes and nothing goes."""
_MADE_FROM: Final = datetime(2019, 1, 1, tzinfo=UTC)
_MADE_WITHIN: Final = timedelta(days=730)
_PERIOD_DAYS: Final = 100
"""Days after which each record has changed once: a hundredth of them changes each day."""
_GOES: Final = 50
"""One record in so many goes, some day within `_GONE_WITHIN_DAYS`."""
_GONE_WITHIN_DAYS: Final = 2000
_NEW_SHARE: Final = 10_000
"""A ten-thousandth of the records of the first day comes every day."""


@dataclass(frozen=True)
class _Part:
    """A part of each record: a field, or several that are drawn together because nothing depends on them.

    Attributes:
        name: The field, or the first of several.
        kind: What it holds.
        values: What is drawn from, written as members.
        when: The member without which it is null.
    """

    name: str
    kind: str
    values: tuple[str, ...]
    when: str | None = None


class Dataset:
    """One dataset.

    Args:
        name: Its name.
        spec: Key, share of records and fields, as `datasets.json` has them.
        config: The knobs.
    """

    def __init__(self, name: str, spec: Mapping[str, Any], config: Config) -> None:
        self.name = name
        self.key: str = spec["key"]
        self._dice = Dice(config.seed)
        self._first = max(1, round(config.dataset_records * spec["records"]))
        self.kinds: dict[str, str] = spec["fields"]
        self.alive = lru_cache(maxsize=4)(self._alive_on)

    @cached_property
    def _parts(self) -> list[_Part]:
        parts: list[_Part] = []
        together: list[_Part] = []
        for place, (name, text) in enumerate(self.kinds.items()):
            part = self._part(place, name, text)
            is_alone = part.kind in ("one", *_OWN) or part.when is not None
            if together and (is_alone or len(together) == _TOGETHER):
                parts.append(_joined(together))
                together = []
            (parts if is_alone else together).append(part)
        return [*parts, _joined(together)] if together else parts

    def _alive_on(self, day: date) -> Sequence[int]:
        """The records that there are on a day, by number."""
        age = max(0, (day - _FIRST_DAY).days)
        made = self._first + age * self._first // _NEW_SHARE
        return [
            number
            for number in range(made)
            if number % _GOES != 7 or self._dice.below(_GONE_WITHIN_DAYS, self.name, "goes", number) >= age
        ]

    def record(self, number: int, day: date) -> str:
        """A record as it is on a day, as JSON."""
        revision = (day.toordinal() + number * 37) // _PERIOD_DAYS
        drawn = self._dice.number(self.name, number, revision)
        texts: list[str] = []
        for place, part in enumerate(self._parts):
            if part.kind in _OWN:
                texts.append(f'"{part.name}":{self._own(part.kind, number)}')
            elif part.when is not None and part.when not in texts:
                texts.append(f'"{part.name}":null')
            else:
                texts.append(part.values[((drawn >> place) + number * (place + 1)) % len(part.values)])
        return "{" + ",".join(texts) + "}"

    def _own(self, kind: str, number: int) -> str:
        if kind == "reference":
            return f'"SIM{number:07d}/19"'
        if kind == "uuid":
            text = self._dice.text(24, self.name, "uuid", number)
            return f'"{number:08x}-{text[:4]}-4{text[4:7]}-8{text[7:10]}-{text[10:22]}"'
        if kind == "email":
            return f'"contact{number}@example.edu"'
        # Three records each share a moment, because a cursor over moments must bear that.
        made = _MADE_FROM + _MADE_WITHIN * (number // 3 * 3) / self._first
        return f'"{made.date()}"' if kind == "created day" else f'"{made:%Y-%m-%dT%H:%M:%S.%f}Z"'

    def _part(self, place: int, name: str, text: str) -> _Part:
        kind, _, condition = text.partition(" when ")
        on, _, value = condition.partition("=")
        if kind.startswith("one of "):
            values: list[Any] = kind.removeprefix("one of ").split("|")
            kind = "one"
        else:
            values = list(_values(kind, name, self._dice.draws(self.name, name), 61 + 2 * (place % 17)))
        written = tuple(f"{json.dumps(name)}:{_written(value)}" for value in values)
        return _Part(name, kind, written, f'"{on}":"{value}"' if condition else None)


def _joined(parts: Sequence[_Part]) -> _Part:
    """Fields that are drawn together, in many more combinations than each has values."""
    texts = (
        ",".join(part.values[(number * (2 * place + 1)) % len(part.values)] for place, part in enumerate(parts))
        for number in range(_COMBINATIONS)
    )
    return _Part(parts[0].name, "several", tuple(texts))


_TOGETHER: Final = 8
_COMBINATIONS: Final = 499
_OWN: Final = ("reference", "uuid", "email", "created", "created day")
_WORDS: Final = (
    "Harbour",
    "Österreich",
    "O'Neill & Sons",
    "north  west",
    "00123",
    "NA",
    "null",
    "Line\nbreak",
    "漢字",
)


def _values(kind: str, name: str, draws: Any, count: int) -> Iterator[Any]:
    """The values of a field: those that loaders lose (false, 0, empty text) come first, missing ones in between."""
    required = kind.endswith("!")
    for place in range(count):
        number = draws.below(1_000_000)
        if place % 9 == 4 and not required:
            yield None
        elif kind in ("text", "text!"):
            word = _WORDS[number % len(_WORDS)]
            yield "" if place == 0 and not required else f"{word} {name.rpartition('__')[2]} {number % 1000}"
        elif kind == "boolean":
            yield number % 3 == 0
        elif kind == "integer":
            yield 0 if place == 0 else number
        elif kind == "decimal":
            yield "0.00" if place == 0 else f"{number}.{number % 100:02d}"
        elif kind == "number":
            yield Decimal("0") if place == 0 else Decimal(f"0.{number:06d}")
        elif kind == "phone":
            yield "" if place == 0 else f"555-01{number % 100:02d}"
        elif kind == "email?":
            yield "" if place == 0 else f"someone{number}@example.edu"
        else:
            moment = _MADE_FROM + _MADE_WITHIN * place / count + timedelta(seconds=number % 86_400, microseconds=number)
            yield moment.date().isoformat() if kind == "date" else f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def _written(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def datasets(config: Config) -> dict[str, Dataset]:
    """Every dataset by name."""
    text = (files(__package__) / "datasets.json").read_text(encoding="utf-8")
    return {name: Dataset(name, spec, config) for name, spec in json.loads(text).items()}


class DatasetApi:
    """The endpoint that tells datasets, page by page.

    Args:
        datasets: The datasets.
        credentials: The Hawk id and key that it accepts.
        config: The knobs.
    """

    name = "datasets"
    source = "datahub"
    prefix = "/v4"
    route = "/v4/dataset/{name}"
    knobs = frozenset({"hawk", "paging", "dataset", "malformed_json"})

    def __init__(self, datasets: Mapping[str, Dataset], credentials: Credentials, config: Config) -> None:
        self._datasets = datasets
        self._credentials = {
            "id": credentials.datahub_id,
            "key": credentials.datahub_key,
            "algorithm": "sha256",
        }
        self._size = config.dataset_page_size
        self._nonces: dict[tuple[str, str], float] = {}
        # It tells keys and whole headers at lower levels, and a warning for every request.
        logging.getLogger("mohawk").setLevel(logging.ERROR)

    def read(self, received: Received) -> Question | Reply:
        """Find the question in a request, or refuse it as the receiver does."""
        authorization = received.header("authorization")
        if not authorization:
            return _refused("Authentication credentials were not provided.")
        url = f"http://{received.header('host')}{received.target}"
        signed = _Signed(authorization, url, received, self._credentials)
        try:
            receiver = signed.received(self._is_seen)
        except Exception:  # mohawk raises whatever a header makes it stumble over
            return _refused("Incorrect authentication credentials.")
        if received.method != "GET":
            return _answered(receiver, 405, {"detail": f'Method "{received.method}" not allowed.'}).with_headers(
                ("allow", "GET")
            )
        if received.places["name"] not in self._datasets:
            return _answered(receiver, 404, {"detail": "Not found."})
        asked = dict(parse_qsl(received.query, keep_blank_values=True))
        try:
            start = _position(asked.get("cursor"))
            size = min(max(1, int(asked.get("page_size", self._size))), _LARGEST_PAGE)
        except ValueError:
            return _answered(receiver, 404, {"detail": "Invalid cursor"})
        name = received.places["name"]
        details = {
            "name": name,
            "start": start,
            "size": size,
            "asked": asked,
            "signed": signed,
            "receiver": receiver,
            "since": received.header("if-modified-since"),
        }
        return Question(f"{name}/{start // size + 1}", details)

    def answer(self, question: Question, day: date, strike: Strike) -> Answer:
        """One page as of a day, signed; spoilt before or after it is signed."""
        told = _Asked(**question.details)  # type: ignore[arg-type]
        hows = {fault.knob: fault for fault in strike.of("body")}
        how = hows["hawk"].word("how") if "hawk" in hows else ""
        if how == "replay_refused" or (how == "clock_skew" and told.signed.is_late(hows["hawk"].number("seconds"))):
            return Answer(_refused("Incorrect authentication credentials."), verdict=Verdict("final", "status 401"))
        changed = format_datetime(datetime(day.year, day.month, day.day, tzinfo=UTC), usegmt=True)
        if told.has(changed) and not hows:
            reply = _signed(told.receiver, Reply(304, b""))
            return Answer(reply.with_headers(("last-modified", changed)))
        body = self._page(told, day, hows)
        if "malformed_json" in hows:
            body = body[: len(body) // 2]
        reply = _signed(told.receiver, Reply(200, body)).with_headers(("last-modified", changed))
        if how == "bad_response_mac":
            reply = _with_header(reply, "server-authorization", 'Hawk mac="AAAA", hash="AAAA"')
        elif how == "no_server_auth":
            reply = _with_header(reply, "server-authorization", None)
        elif how == "other_body":
            reply = replace(reply, body=body.replace(b'"results"', b'"Results"', 1))
        return Answer(reply, verdict=Verdict("final", ", ".join(hows)) if hows else TRUSTED)

    def _page(self, told: "_Asked", day: date, hows: Mapping[str, Any]) -> bytes:
        dataset = self._datasets[told.name]
        alive = dataset.alive(day)
        how = hows["dataset"].word("how") if "dataset" in hows else ""
        if how == "empty":
            alive = []
        elif how == "shrinks":
            alive = alive[: int(len(alive) * (1 - hows["dataset"].number("share")))]
        paging = hows["paging"].word("how") if "paging" in hows else ""
        start = max(0, told.start - told.size) if paging == "page_twice" else told.start
        numbers = [] if paging == "empty_page" else alive[start : start + told.size]
        records = [dataset.record(number, day) for number in numbers]
        if how in _SPOILS:
            victim = [name for name, kind in dataset.kinds.items() if kind in ("text", "integer", "text!")][1]
            records = [_spoilt(record, victim, how) for record in records]
        following = told.start + (0 if paging == "empty_page" else told.size)
        then = told.link(following) if following < len(alive) else None
        if paging == "empty_page":
            # The cursor of an empty page leads on, to the same records under another name.
            then = told.link(told.start, again=True)
        before = told.link(max(0, told.start - told.size)) if told.start else None
        then = _misled(paging, told, then)
        links = "" if paging == "missing_next" else f'"next":{json.dumps(then)},'
        return f'{{{links}"previous":{json.dumps(before)},"results":[{",".join(records)}]}}'.encode()

    def failure(self, status: int) -> Reply:
        """How an error looks before anybody was recognised: without a signature."""
        if status == 401:
            return _refused("Incorrect authentication credentials.")
        return Reply(status, json.dumps({"detail": _DETAILS.get(status, "A server error occurred.")}).encode())

    def lost(self, received: Received) -> Reply:
        """An address that leads nowhere."""
        return self.failure(404)

    def question_about(self, kind: str) -> Question | None:
        """Nothing: the truth about datasets is told by `DatasetTruth`."""
        return None

    def _is_seen(self, client: str, nonce: str, _timestamp: str) -> bool:
        now = time.monotonic()
        if len(self._nonces) > _MOST_NONCES:
            self._nonces = {known: until for known, until in self._nonces.items() if until > now}
        if self._nonces.get((client, nonce), 0.0) > now:
            return True
        self._nonces[client, nonce] = now + 2 * _SKEW_S
        return False


_LARGEST_PAGE: Final = 10_000
_MOST_NONCES: Final = 10_000
_SPOILS: Final = ("field_vanishes", "type_changes", "field_appears")
_DETAILS: Final = {403: "You do not have permission to perform this action.", 404: "Not found."}


class _Signed:
    """A request as mohawk judges it."""

    def __init__(self, authorization: str, url: str, received: Received, credentials: Mapping[str, str]) -> None:
        self.url = url
        self._authorization = authorization
        self._received = received
        self._credentials = credentials

    def received(self, is_seen: Any, offset_s: float = 0.0) -> Any:
        return mohawk.Receiver(
            self._known,
            self._authorization,
            self.url,
            self._received.method,
            content=self._received.body,
            content_type=self._received.header("content-type") or "",
            seen_nonce=is_seen,
            localtime_offset_in_seconds=offset_s,
            timestamp_skew_in_seconds=_SKEW_S,
        )

    def _known(self, client: str) -> dict[str, str]:
        if client != self._credentials["id"]:
            raise LookupError
        return dict(self._credentials)

    def is_late(self, offset_s: float) -> bool:
        """Whether a receiver whose clock is so far ahead refuses it."""
        try:
            self.received(lambda *_: False, offset_s)
        except mohawk.exc.TokenExpired:
            return True
        return False


@dataclass(frozen=True)
class _Asked:
    """What a right request asks for."""

    name: str
    start: int
    size: int
    asked: dict[str, str]
    signed: _Signed
    receiver: Any
    since: str | None

    def link(self, start: int, *, again: bool = False) -> str:
        cursor = base64.b64encode(f"p={start}{'&r=1' if again else ''}".encode()).decode()
        return f"{self.signed.url.partition('?')[0]}?{urlencode({**self.asked, 'cursor': cursor}, quote_via=quote)}"

    def has(self, changed: str) -> bool:
        try:
            return self.since is not None and parsedate_to_datetime(self.since) >= parsedate_to_datetime(changed)
        except (ValueError, TypeError):
            return False


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    position = dict(parse_qsl(base64.b64decode(cursor, validate=True).decode("ascii")))
    start = int(position["p"]) if "p" in position else -1
    if start < 0:
        raise ValueError
    return start


def _misled(how: str, told: _Asked, then: str | None) -> str | None:
    if how == "next_loops":
        return told.signed.url
    if how == "next_other_host":
        return told.link(told.start + told.size).replace("//", "//other.", 1)
    if how == "next_other_path":
        return told.link(told.start + told.size).replace("/v4/dataset/", "/v4/elsewhere/")
    return then


def _spoilt(record: str, victim: str, how: str) -> str:
    document = json.loads(record, parse_float=Decimal)
    if how == "field_vanishes":
        del document[victim]
    elif how == "type_changes":
        document[victim] = {"name": document[victim]}
    else:
        document["brand_new_field"] = "news"
    return "{" + ",".join(f"{json.dumps(name)}:{_written(value)}" for name, value in document.items()) + "}"


def _signed(receiver: Any, reply: Reply) -> Reply:
    # As a file: of bytes it would make a text for its log, whether anybody reads that or not.
    receiver.respond(content=io.BytesIO(reply.body), content_type=reply.content_type)
    return reply.with_headers(("server-authorization", receiver.response_header))


def _answered(receiver: Any, status: int, body: Mapping[str, str]) -> Reply:
    return _signed(receiver, Reply(status, json.dumps(body).encode()))


def _refused(detail: str) -> Reply:
    reply = Reply(401, json.dumps({"detail": detail}).encode())
    return reply.with_headers(("www-authenticate", "Hawk"))


def _with_header(reply: Reply, name: str, value: str | None) -> Reply:
    kept = tuple((header, text) for header, text in reply.headers if header != name)
    return replace(reply, headers=kept if value is None else (*kept, (name, value)))


class DatasetTruth:
    """What a dataset holds on a day, whatever faults are in force.

    Args:
        datasets: The datasets.
    """

    kind = "dataset"
    parameters = ("dataset", "documents")

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self._datasets = datasets

    def told(self, day: date, asked: Mapping[str, str], _: FaultPlan) -> dict[str, Any]:
        """Records and columns, counted; with `documents` the records themselves, by key.

        Raises:
            SimulatorError: There is no such dataset.
        """
        dataset = self._datasets.get(asked.get("dataset", ""))
        if dataset is None:
            raise SimulatorError(f"dataset is {asked.get('dataset')!r}.", allowed=self._datasets)
        records = [
            json.loads(dataset.record(number, day), parse_float=Decimal, parse_int=Decimal)
            for number in dataset.alive(day)
        ]
        told: dict[str, Any] = {
            "kind": self.kind,
            "dataset": dataset.name,
            "day": day.isoformat(),
            "key": dataset.key,
            "records": len(records),
            "columns": {
                name: _column([record[name] for record in records], kind) for name, kind in dataset.kinds.items()
            },
        }
        if asked.get("documents") == "true":
            told["documents"] = {
                record[dataset.key]: json.loads(dataset.record(number, day))
                for record, number in zip(records, dataset.alive(day), strict=True)
            }
        return told


def _column(values: Sequence[Any], kind: str) -> dict[str, Any]:
    numbers = [Decimal(value) for value in values if isinstance(value, Decimal) or (kind == "decimal" and value)]
    return {
        "nulls": sum(value is None for value in values),
        "false": sum(value is False for value in values),
        "blank": sum(value == "" for value in values),
        "zero": sum(number == 0 for number in numbers),
        "distinct": len(set(values)),
        "sum": str(sum(numbers, Decimal(0))) if kind in ("integer", "decimal", "number") else None,
    }
