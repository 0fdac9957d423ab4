"""Using a simulator from tests, demo and benchmarks: start it, steer it, ask it for the truth.

Needs nothing but the standard library. The clients of the simulated sources do not belong here and share
nothing with it: they are given `environment()` and nothing else.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from datalake_assets.simulator.errors import SimulatorError

_START_WITHIN_S: Final = 20.0
_ANSWER_WITHIN_S: Final = 120.0
_CHECKOUT: Final = Path(__file__).resolve().parents[2]

Day = date | str

Environments = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Environment variables by system and flavour."""


class SimulatorControl:
    """The control of a running simulator.

    Args:
        base_url: Its address.
        token: Its control token.
        environments: The environment variables for its users, by system and flavour, as the simulator
            announced them.
        flavour: The endpoint that is meant where none is named: `cstools`, or `qas` for PeopleSoft's Query
            Access Service.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        environments: Environments | None = None,
        flavour: str = "cstools",
    ) -> None:
        self.base_url = base_url
        self.flavour = flavour
        self._token = token
        self._environments = environments or {}
        # No proxy of the environment may stand between a test and its own machine.
        self._opener = build_opener(ProxyHandler({}))

    def environment(
        self, flavour: str | None = None, *, person: str = "ndjson", vds: str = "wrapper"
    ) -> dict[str, str]:
        """Environment variables with which the real clients find this simulator.

        Args:
            flavour: How PeopleSoft is asked: `cstools` or `qas`; None: the one of this control.
            person: Which person API is asked: `ndjson` (the Data Engineering Person API) or `snaplogic`.
            vds: How VDS is asked: `wrapper` (the SnapLogic task before it) or `adap` (its own interface).
        """
        chosen = {"peoplesoft": flavour or self.flavour, "person": person, "vds": vds}
        found: dict[str, str] = {}
        for system, flavours in self._environments.items():
            found |= flavours[_known(chosen.get(system, next(iter(flavours))), flavours)]
        return found

    def set_day(self, day: Day | None) -> date:
        """Show a day; None follows the calendar. Returns the day that is shown."""
        answer = self._ask("PUT", "/_sim/day", {"day": None if day is None else str(day)})
        return date.fromisoformat(answer["day"])

    def day(self) -> date:
        """The day that is shown."""
        return date.fromisoformat(self._ask("GET", "/_sim/day")["day"])

    def set_faults(
        self,
        faults: Iterable[Mapping[str, Any]] = (),
        *,
        preset: str = "clean",
        days: Sequence[str] | None = None,
        fault_seed: int | None = None,
    ) -> dict[str, Any]:
        """Put faults in force instead of those that were, and count attempts from 1 again.

        Args:
            faults: Such as `{"fault": "status_503", "scope": "cstools", "first_n": 1}`.
            preset: Faults that are in force beside them.
            days: Days and windows (`2026-11-20..`) to which the preset is limited.
            fault_seed: Key of the draws; None keeps the one of the start.
        """
        body = {"preset": preset, "days": days, "faults": list(faults), "fault_seed": fault_seed}
        return self._ask("PUT", "/_sim/faults", body)

    def faults(self) -> dict[str, Any]:
        """The faults in force, and every fault there is."""
        return self._ask("GET", "/_sim/faults")

    def truth(
        self,
        kind: str = "term",
        *,
        since: Day | None = None,
        day: Day | None = None,
        days: Iterable[Day] | None = None,
        endpoint: str | None = None,
        term: str | None = None,
        documents: bool = False,
        dataset: str | None = None,
        colour: str | None = None,
        month: str | None = None,
        **patience: float,
    ) -> dict[str, Any]:
        """What the lake must hold: of terms after landing days, of people and courses as they are sent on one day.

        Args:
            kind: The kind of document: `term`, `person` or `course`. The first goes by `since`, `day`, `days`,
                `endpoint` and patience, the others by `day`, `term`, `endpoint` and `documents`. Or `dataset`, by
                `day`, `dataset` and `documents`; or `taxi`, by `day`, `colour` and `month`.
            since: First day; None: the first of the scenario, or `day`.
            day: Last day; None: the day that is shown.
            days: Exactly these days instead of every day from `since` to `day`.
            endpoint: The endpoint that the lake asks; None: of terms the flavour of this control, of people
                `personapi` (the other is `snapperson`).
            term: The term whose courses are meant.
            documents: Tell the documents too, without sensitive keys.
            dataset: The name of a dataset, such as `omis-dataset`.
            colour: `green` or `yellow`.
            month: A month such as `2021-01`.
            **patience: What its client puts up with: attempts, deadline_s, silence_s, body_mb, retry_after_s.
        """
        asked: dict[str, Any] = {
            "kind": kind,
            "since": since,
            "day": day,
            "endpoint": endpoint,
            "term": term,
            "dataset": dataset,
            "colour": colour,
            "month": month,
            **patience,
        }
        if kind == "term":
            asked["endpoint"] = endpoint or self.flavour
        if documents:
            asked["documents"] = "true"
        if days is not None:
            asked["days"] = ",".join(str(item) for item in days)
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return self._ask("GET", f"/_sim/truth?{query}")

    def requests(self) -> dict[str, Any]:
        """The log of requests."""
        return self._ask("GET", "/_sim/requests")

    def reset(self) -> None:
        """Return the simulator to how it was started, with an empty log."""
        self._ask("POST", "/_sim/reset")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        request = Request(  # noqa: S310 - the address is the simulator's own
            self.base_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-sim-token": self._token, "content-type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=_ANSWER_WITHIN_S) as response:
                answer: dict[str, Any] = json.load(response)
        except HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise SimulatorError(f"The simulator refuses {method} {path}: status {error.code}, {text}") from None
        return answer


def _known(flavour: str, flavours: Mapping[str, Mapping[str, str]]) -> str:
    if flavour not in flavours:
        raise SimulatorError(f"There is no flavour {flavour!r}.", allowed=sorted(flavours))
    return flavour


@contextmanager
def running_simulator(
    *,
    preset: str = "clean",
    seed: int = 1,
    scenario_start: Day | None = None,
    day: Day | None = None,
    flavour: str = "cstools",
    port: int = 0,
    **knobs: object,
) -> Iterator[SimulatorControl]:
    """Start a simulator in a process of its own, and end it afterwards.

    Args:
        preset: The faults it starts with.
        seed: Other seeds, other data.
        scenario_start: First day of the scenario; None: no scenario.
        day: The day it shows first; None: the first of the scenario, or else the calendar's.
        flavour: How PeopleSoft is asked, for `environment()` and `truth()`: `cstools` or `qas`.
        port: The port; 0 takes a free one.
        **knobs: Knobs of the population, such as `term_order="strm"`.

    Raises:
        SimulatorError: It refused its arguments, did not start, or failed inside while it ran.
    """
    command = ["--port", str(port), "--seed", str(seed), "--preset", preset, "--until-stdin-closes"]
    for option, chosen in (("--scenario-start", scenario_start), ("--day", day or scenario_start)):
        if chosen is not None:
            command += [option, str(chosen)]
    for name, value in knobs.items():
        command += ["--knob", f"{name}={_knob_text(value)}"]
    with tempfile.TemporaryDirectory(prefix="simulator-") as folder, tempfile.TemporaryFile() as errors:
        ready_file = Path(folder) / "ready.json"
        process = subprocess.Popen(  # noqa: S603 - this interpreter and arguments of our own
            [sys.executable, "-m", "datalake_assets.simulator", *command, "--ready-file", str(ready_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=_CHECKOUT,
        )
        try:
            ready = _wait_until_ready(process, ready_file, errors)
            flavour = _known(flavour, ready["environments"]["peoplesoft"])
            yield SimulatorControl(ready["base_url"], ready["control_token"], ready["environments"], flavour)
        finally:
            # It keeps nothing that a gentle end would save.
            process.kill()
            process.communicate()
        if complaint := _said(errors):
            raise SimulatorError(f"The simulator failed while it answered; do not trust what it said: {complaint}")


def _knob_text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode(errors="replace").strip()


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready_file: Path, errors: IO[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + _START_WITHIN_S
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            state = f"status {process.returncode}" if process.returncode is not None else "not ready in time"
            raise SimulatorError(f"The simulator did not start ({state}): {_said(errors)}")
        time.sleep(0.01)
    ready: dict[str, Any] = json.loads(ready_file.read_text(encoding="utf-8"))
    return ready
