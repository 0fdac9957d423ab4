"""The control of a simulator under `/_sim/`: day, faults, truth and log, for those who hold its token.

Parameters and members that are not known are refused with the list of those that are. What the truth is
stands in `truth.py` and `ideal.py`, what faults are in `faults.py`.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import fields
from datetime import date
from hmac import compare_digest
from typing import Any, Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from datalake_assets.simulator.days import Days, days_between, parse_day
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.exchange import Patience
from datalake_assets.simulator.faults import KNOBS, parse_fault
from datalake_assets.simulator.frame import Endpoint
from datalake_assets.simulator.ideal import Asked, Ideals
from datalake_assets.simulator.json_text import write
from datalake_assets.simulator.presets import FaultPlan, Presets
from datalake_assets.simulator.state import State
from datalake_assets.simulator.truth import KINDS, Truth

_Handler = Callable[[Request], Awaitable[Response]]

_PATIENCE: Final = tuple(setting.name for setting in fields(Patience))
_LONGEST_TRUTH: Final = 1000


class Teller(Protocol):
    """Tells the truth about one kind of thing on a day."""

    @property
    def kind(self) -> str:
        """The kind."""
        ...

    @property
    def parameters(self) -> tuple[str, ...]:
        """What can be asked besides the day."""
        ...

    def told(self, day: date, asked: Mapping[str, str], plan: FaultPlan) -> dict[str, Any]:
        """The truth."""
        ...


class Control:
    """The handlers of the control.

    Args:
        state: What they read and change.
        endpoints: The endpoints there are.
        presets: The presets there are.
        ideals: The ideals there are.
        tellers: Who tells the truth about what is no document of a campus.
        token: What a request must carry in the header `x-sim-token`.
    """

    def __init__(
        self,
        state: State,
        endpoints: list[Endpoint],
        presets: Presets,
        ideals: Ideals,
        tellers: Iterable[Teller],
        token: str,
    ) -> None:
        self._state = state
        self._endpoints = endpoints
        self._presets = presets
        self._token = token
        self._ideals = ideals
        self._tellers = {teller.kind: teller for teller in tellers}
        self._truth_of = Truth(endpoints)

    def routes(self) -> list[Route]:
        """The routes; only the health of the process is told to everybody."""
        served: dict[str, dict[str, _Handler]] = {
            "/_sim/reset": {"POST": self._reset},
            "/_sim/day": {"GET": self._day, "PUT": self._set_day},
            "/_sim/faults": {"GET": self._faults, "PUT": self._set_faults},
            "/_sim/truth": {"GET": self._truth},
            "/_sim/requests": {"GET": self._requests},
        }
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        return [
            Route("/_sim/healthz", self._healthz, methods=["GET"]),
            *(Route(path, self._guarded(handlers), methods=methods) for path, handlers in served.items()),
        ]

    def _guarded(self, handlers: Mapping[str, _Handler]) -> _Handler:
        async def handle(request: Request) -> Response:
            # Compared as bytes: a header may hold what is no ASCII, of which compare_digest takes no text.
            if not compare_digest(request.headers.get("x-sim-token", "").encode(), self._token.encode()):
                return JSONResponse({"error": "The header x-sim-token is missing or wrong."}, 401)
            if request.method not in handlers:
                allowed = list(handlers)
                return JSONResponse({"error": f"{request.method} is not known here.", "allowed": allowed}, 405)
            try:
                return await handlers[request.method](request)
            except SimulatorError as error:
                return JSONResponse({"error": str(error), "allowed": error.allowed}, 422)

        return handle

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _reset(self, _: Request) -> Response:
        self._state.reset()
        return self._day_answer()

    async def _day(self, _: Request) -> Response:
        return self._day_answer()

    async def _set_day(self, request: Request) -> Response:
        body = await _body(request, ("day",))
        if "day" not in body:
            raise SimulatorError("The body names no day.", allowed=['{"day": "2026-11-20"}', '{"day": null}'])
        self._state.shown_day = None if body["day"] is None else parse_day(body["day"], "day")
        return self._day_answer()

    def _day_answer(self) -> Response:
        return JSONResponse({"day": self._state.day.isoformat(), "follows_calendar": self._state.shown_day is None})

    async def _faults(self, _: Request) -> Response:
        plan = self._state.plan
        knobs = {
            name: {
                "stage": knob.stage,
                "meaning": knob.meaning,
                "parameters": {key: parameter.described() for key, parameter in knob.parameters.items()},
                "endpoints": [
                    endpoint.name
                    for endpoint in self._endpoints
                    if knob.stage in ("transport", "status") or name in endpoint.knobs
                ],
            }
            for name, knob in KNOBS.items()
        }
        return JSONResponse(
            {
                "preset": plan.preset,
                "days": plan.preset_days.texts() if plan.preset_days is not None else None,
                "fault_seed": plan.fault_seed,
                "faults": [fault.as_json() for fault in plan.faults],
                "today": [fault.as_json() for fault in plan.on(self._state.day)],
                "presets": self._presets.names,
                "knobs": knobs,
            }
        )

    async def _set_faults(self, request: Request) -> Response:
        body = await _body(request, ("preset", "days", "faults", "fault_seed"))
        described = body.get("faults", [])
        if not isinstance(described, list):
            raise SimulatorError(f"faults is {described!r}.", allowed=["a list of faults"])
        seed = body.get("fault_seed")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise SimulatorError(f"fault_seed is {seed!r}.", allowed=["a whole number"])
        days = Days.parse(body["days"]) if body.get("days") is not None else None
        if days is not None and "preset" not in body:
            raise SimulatorError("days limits a preset, and none is named.", allowed=self._presets.names)
        faults = [parse_fault(item, self._endpoints) for item in described]
        self._state.set_faults(body.get("preset", "clean"), faults, days, seed)
        return await self._faults(request)

    async def _truth(self, request: Request) -> Response:
        kind = request.query_params.get("kind")
        if kind in self._ideals.kinds:
            return await self._ideal(request, kind)
        if kind in self._tellers:
            return await self._told(request, self._tellers[kind])
        if kind not in KINDS:
            raise SimulatorError(f"kind is {kind!r}.", allowed=[*KINDS, *self._ideals.kinds, *self._tellers])
        asked = _parameters(request, ("kind", "since", "day", "days", "endpoint", *_PATIENCE))
        endpoint = asked.get("endpoint", self._endpoints[0].name)
        days, patience = self._asked_days(asked), _patience(asked)
        return JSONResponse(self._truth_of.after(kind, days, endpoint, self._state.plan, patience))

    async def _ideal(self, request: Request, kind: str) -> Response:
        asked = _parameters(request, ("kind", "day", "term", "endpoint", "documents"))
        day, plan = parse_day(asked["day"], "day") if "day" in asked else self._state.day, self._state.plan
        if asked.get("documents", "false") not in ("true", "false"):
            raise SimulatorError(f"documents is {asked['documents']!r}.", allowed=["true", "false"])
        wants_documents = asked.get("documents") == "true"
        wanted = Asked(day, asked.get("term"), asked.get("endpoint"), tuple(plan.on(day)), plan.fault_seed)

        def told() -> bytes:
            return write(self._ideals.told(kind, wanted, documents=wants_documents)).encode()

        # In a thread of its own, so that the sources go on answering while many documents are put together.
        return Response(await run_in_threadpool(told), media_type="application/json")

    async def _told(self, request: Request, teller: Teller) -> Response:
        asked = _parameters(request, ("kind", "day", *teller.parameters))
        day, plan = parse_day(asked["day"], "day") if "day" in asked else self._state.day, self._state.plan

        def told() -> bytes:
            return json.dumps(teller.told(day, asked, plan)).encode()

        return Response(await run_in_threadpool(told), media_type="application/json")

    def _asked_days(self, asked: Mapping[str, str]) -> list[date]:
        last = parse_day(asked["day"], "day") if "day" in asked else self._state.day
        first = parse_day(asked["since"], "since") if "since" in asked else self._presets.scenario_start or last
        if "days" in asked:
            days = [parse_day(text.strip(), "days") for text in asked["days"].split(",") if text.strip()]
            for day in days:
                if ("since" in asked and day < first) or ("day" in asked and day > last):
                    raise SimulatorError(f"days holds {day}.", allowed=[f"days from {first} to {last}"])
            return days
        if not 0 <= (last - first).days < _LONGEST_TRUTH:
            raise SimulatorError(f"since is {first}, day is {last}.", allowed=[f"1 to {_LONGEST_TRUTH} days"])
        return list(days_between(first, last))

    async def _requests(self, _: Request) -> Response:
        return JSONResponse(self._state.log.as_json())


async def _body(request: Request, members: tuple[str, ...]) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise SimulatorError("The body is no JSON.", allowed=members) from None
    if not isinstance(body, dict):
        raise SimulatorError("The body is no object.", allowed=members)
    for member in body:
        if member not in members:
            raise SimulatorError(f"The body has a member {member!r}.", allowed=members)
    return body


def _parameters(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names or name in asked:
            raise SimulatorError(f"The parameter {name!r} is unknown or given twice.", allowed=names)
        asked[name] = value
    return asked


def _patience(asked: Mapping[str, str]) -> Patience:
    patience: dict[str, Any] = {}
    for name in _PATIENCE:
        if name in asked:
            try:
                patience[name] = int(asked[name]) if name == "attempts" else float(asked[name])
            except ValueError:
                patience[name] = 0
            if not 0 < patience[name] <= 1e6:
                raise SimulatorError(f"{name} is {asked[name]!r}.", allowed=["a number above 0"])
    return Patience(**patience)
