"""The application: endpoints on their routes, the control beside them, and one way for every request.

`build` is the place where a new endpoint is added. What an endpoint says stands in its own module, how it is
spoilt in `exchange.py`, how it is sent in `wire.py`, how a simulator is started in `server.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.control import Control
from datalake_assets.simulator.courses import CoursePopulation
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.cstools import CsTools
from datalake_assets.simulator.datasets import DatasetApi, DatasetTruth, datasets
from datalake_assets.simulator.exchange import OTHER_HOST, exchange
from datalake_assets.simulator.files import Files, FileTruth
from datalake_assets.simulator.frame import Endpoint, Received, Reply, page
from datalake_assets.simulator.ideal import CourseIdeal, Ideals, PersonIdeal, active_terms, counted_sources
from datalake_assets.simulator.people import People
from datalake_assets.simulator.peoplesoft import QueryAccessService
from datalake_assets.simulator.person_records import PersonRecords
from datalake_assets.simulator.personapi import PersonApi
from datalake_assets.simulator.persons import PersonDocuments
from datalake_assets.simulator.presets import Presets
from datalake_assets.simulator.queries import Queries
from datalake_assets.simulator.sap import Sap
from datalake_assets.simulator.snaplogic_course import SnapLogicCourse
from datalake_assets.simulator.snapperson import SnapPerson
from datalake_assets.simulator.state import State
from datalake_assets.simulator.terms import TermPopulation
from datalake_assets.simulator.throttle import Throttle
from datalake_assets.simulator.vds import Adap, Directory, Vds
from datalake_assets.simulator.wire import Delivery, Receive, Send, compressed, deliver

_LARGEST_REQUEST: Final = 16 * 1024 * 1024


def build(config: Config, preset: str, token: str, day: date | None = None) -> Starlette:
    """Wire a simulator.

    Args:
        config: The knobs.
        preset: The faults it starts with, and returns to when it is reset.
        token: What the control asks for.
        day: The day it shows first; None follows the calendar.

    Raises:
        SimulatorError: The preset is unknown or needs a day that nothing tells.
    """
    terms = TermPopulation(config)
    courses = CoursePopulation(config, terms)
    credentials = Credentials.of(config.seed)
    people = People(config, terms)
    queries = Queries(terms, people)
    directory = Directory(people, config)
    documents = PersonDocuments(config, people)
    records = PersonRecords(people, documents, config)
    of_courses = SnapLogicCourse(courses, credentials)
    of_persons = (PersonApi(records, credentials), SnapPerson(records, credentials, config))
    of_datasets, of_files = datasets(config), Files(config)
    endpoints: list[Endpoint] = [
        CsTools(queries, credentials),
        QueryAccessService(queries, credentials, alias_fields=config.alias_fields),
        of_courses,
        Sap(people, credentials, config),
        Vds(directory, credentials, config),
        Adap(directory, credentials),
        *of_persons,
        DatasetApi(of_datasets, credentials, config),
        of_files,
    ]
    presets = Presets(config, terms, (endpoint.source for endpoint in endpoints))
    state = State(presets, preset, day, credentials.secrets(), Throttle(config))
    ideals = Ideals(
        [PersonIdeal(people, documents, records, of_persons), CourseIdeal(courses, of_courses)],
        {"person": counted_sources(people), "course": active_terms(terms)},
    )
    tellers = (DatasetTruth(of_datasets), FileTruth(of_files))
    control = Control(state, endpoints, presets, ideals, tellers, token)
    return Starlette(
        routes=[
            *control.routes(),
            *(Route(endpoint.route, _Served(endpoint, state, compress=config.compress)) for endpoint in endpoints),
            Route("/{path:path}", _Elsewhere(endpoints, state)),
        ]
    )


class _Served:
    """An endpoint as an ASGI application."""

    def __init__(self, endpoint: Endpoint, state: State, *, compress: bool) -> None:
        self._endpoint = endpoint
        self._state = state
        self._compress = compress

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        received = await _received(scope, receive)
        if received is None:
            return
        log, day, endpoint = self._state.log, self._state.day, self._endpoint
        throttle = self._state.throttle
        entry = log.begin(received, endpoint.name, day)
        size, is_taken = 0, False
        try:
            found = endpoint.read(received)
            delivery = Delivery()
            if isinstance(found, Reply):
                reply = found
            elif refusal := throttle.refuses(endpoint.source, day):
                reply, entry.faults = endpoint.failure(429), (refusal,)
            else:
                throttle.begin(endpoint.source, day)
                is_taken = True
                attempt = log.next_attempt(endpoint.name, found.key, day)
                plan = self._state.plan
                met = exchange(endpoint, found, day, attempt, plan.on(day), plan.fault_seed)
                log.name_request(entry, found, attempt, met.faults)
                reply, delivery = _at_home(met.reply, scope), met.delivery
            entry.status = reply.status
            packed = compressed(reply, welcome=self._compress and received.accepts_gzip)
            size = await deliver(packed, delivery, scope, receive, send)
        finally:
            if is_taken:
                throttle.end(endpoint.source)
            log.end(entry, size)


class _Elsewhere:
    """Every other address: answered as the system answers below whose prefix it lies."""

    def __init__(self, endpoints: list[Endpoint], state: State) -> None:
        self._endpoints = endpoints
        self._state = state

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        received = await _received(scope, receive)
        if received is None:
            return
        entry = self._state.log.begin(received, None, self._state.day)
        size = 0
        try:
            reply = page(404, "404 Not Found")
            for endpoint in self._endpoints:
                if received.path.startswith(endpoint.prefix + "/"):
                    reply = endpoint.lost(received)
            entry.status = reply.status
            size = await deliver(reply, Delivery(), scope, receive, send)
        finally:
            self._state.log.end(entry, size)


async def _received(scope: Mapping[str, Any], receive: Receive) -> Received | None:
    """Read a request whole; None if the client hung up before its end, or sends without end."""
    request = Request(scope, receive)  # type: ignore[arg-type]
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > _LARGEST_REQUEST:
                return None
    except ClientDisconnect:
        return None
    query = scope["query_string"].decode("latin-1")
    path = scope["raw_path"].decode("latin-1")
    return Received(
        method=scope["method"],
        path=scope["path"],
        target=f"{path}?{query}" if query else path,
        query=query,
        headers=[(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]],
        body=bytes(body),
        places=scope.get("path_params", {}),
    )


def _at_home(reply: Reply, scope: Mapping[str, Any]) -> Reply:
    """Put this server's other name into a redirect to another host."""
    host, port = scope["server"]
    other = "127.0.0.1" if host not in ("127.0.0.1", "localhost") else "localhost"
    headers = tuple((name, value.replace(OTHER_HOST, f"{other}:{port}")) for name, value in reply.headers)
    return replace(reply, headers=headers)
