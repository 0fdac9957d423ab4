"""Callers that hide nothing: requests written byte for byte, and everything that came back.

An HTTP library would repair or refuse just what these tests are about. What is called and what must come back
stands in the tests.
"""

import gzip
import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from datalake_assets.simulator.client import SimulatorControl
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.people import People, Person
from datalake_assets.simulator.terms import TermPopulation

SCENARIO_START = date(2026, 11, 20)
CSTOOLS_PATH = "/cstools/api/v1/queries/execute"
QAS_PATH = "/PSIGW/RESTListeningConnector/PSFT_CS/ExecuteQuery.v1/PUBLIC/BU_TERM_QRY/JSON/NONFILE"
QAS_PARAMETERS = {"isconnectedquery": "N", "maxrows": "0", "json_resp": "true"}
TERM_QUERY = {"query_name": "BU_TERM_QRY"}
OBJECTS = ["student", "affiliate", "faculty", "employee"]
PERSON_PATH = "/person/v1/batch"
SAP_PATH = "/sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=HR"

End = Literal["closed", "reset", "silent"]


@dataclass(frozen=True)
class Heard:
    """Everything that came back over one connection.

    Attributes:
        raw: Every byte.
        end: How it ended: closed, reset, or silence until the caller gave up.
        pieces: Seconds since the caller began to speak, and how many bytes had come by then.
    """

    raw: bytes
    end: End
    pieces: list[tuple[float, int]]

    @property
    def head(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        """What follows the headers, chunks and compression included."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.head.split(" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = (line.partition(": ") for line in self.head.split("\r\n")[1:])
        return {name.lower(): value for name, _, value in lines}

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    @property
    def chunks(self) -> list[bytes]:
        """The chunks of a body that was sent without a length, the empty one at its end included."""
        chunks, rest = [], self.body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            chunks.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        return chunks

    @property
    def lines(self) -> list[bytes]:
        """The lines of a stream that came whole."""
        *chunks, end = self.chunks
        assert end == b""
        return b"".join(chunks).split(b"\n")

    @property
    def content(self) -> bytes:
        """A body that came with its length, not compressed."""
        assert len(self.body) == int(self.headers["content-length"])
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    def json(self) -> Any:
        return json.loads(self.content)


def call(
    simulator: SimulatorControl,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    patience_s: float = 5.0,
) -> Heard:
    """Send a request on a connection of its own and listen until it ends."""
    address = urlsplit(simulator.base_url)
    lines = [f"{method} {target} HTTP/1.1", f"host: {address.netloc}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 0), timeout=patience_s) as connection:
        started = time.monotonic()
        connection.sendall(request)
        return _listen(connection, started)


def _listen(connection: socket.socket, started: float) -> Heard:
    raw, pieces = bytearray(), []
    end: End = "closed"
    try:
        while piece := connection.recv(65536):
            raw += piece
            pieces.append((time.monotonic() - started, len(raw)))
    except ConnectionResetError:
        end = "reset"
    except TimeoutError:
        end = "silent"
    return Heard(bytes(raw), end, pieces)


def cstools_headers(simulator: SimulatorControl) -> list[tuple[str, str]]:
    key = simulator.environment("cstools")["DE_CSTOOLS_KEY"]
    return [("x-api-key", key), ("content-type", "application/json")]


def qas_headers(simulator: SimulatorControl) -> list[tuple[str, str]]:
    environment = simulator.environment("qas")
    logon = f"{environment['PEOPLE_SOFT_USER']}:{environment['PEOPLE_SOFT_PASS']}"
    return [("authorization", "Basic " + b64encode(logon.encode()).decode())]


def ask_cstools(simulator: SimulatorControl, *more_headers: tuple[str, str], patience_s: float = 5.0) -> Heard:
    """The term query as CS Tools wants it."""
    headers = [*cstools_headers(simulator), *more_headers]
    return call(simulator, "POST", CSTOOLS_PATH, headers, json.dumps(TERM_QUERY).encode(), patience_s)


def ask_qas(simulator: SimulatorControl, *more_headers: tuple[str, str], **changed: str | None) -> Heard:
    """The term query as the Query Access Service wants it; a parameter that is None is left out."""
    headers = [*qas_headers(simulator), *more_headers]
    return call(simulator, "GET", qas_target(**changed), headers)


def qas_target(path: str = QAS_PATH, /, **changed: str | None) -> str:
    parameters: Mapping[str, str | None] = {**QAS_PARAMETERS, **changed}
    return path + "?" + "&".join(f"{name}={value}" for name, value in parameters.items() if value is not None)


def cstools_rows(simulator: SimulatorControl) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask_cstools(simulator).json()["data"]
    return rows


def qas_rows(simulator: SimulatorControl) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ask_qas(simulator).json()["data"]["query"]["rows"]
    return rows


def key_of(row: Mapping[str, Any]) -> str:
    return f"{row['ACAD_CAREER'].strip()}/{row['STRM'].strip()}"


def json_headers(*more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("content-type", "application/json"), *more]


def people_of(simulated: Config | None = None) -> Sequence[Person]:
    """The people whom the simulator of these tests knows on the first day of its scenario."""
    config = simulated or Config.of({"scenario_start": SCENARIO_START})
    return People(config, TermPopulation(config)).on(SCENARIO_START)


def ask_sap(simulator: SimulatorControl, target: str = SAP_PATH, body: bytes = b"{}") -> Heard:
    """The list of employees as its client asks for it."""
    return call(simulator, "POST", target, json_headers(("x-api-key", simulator.environment()["SAP_KEY"])), body)


def ask_vds(simulator: SimulatorControl, params: str) -> Heard:
    """A search through the task before VDS."""
    key = simulator.environment()["VDS_KEY"]
    headers = json_headers(("authorization", f"Bearer {key}"))
    return call(simulator, "POST", "/vds", headers, json.dumps({"params": params}).encode())


def ask_adap(
    simulator: SimulatorControl, *, anonymously: bool = False, base: str | None = None, **search: str
) -> Heard:
    """A search in VDS itself."""
    environment = simulator.environment(vds="adap")
    logon = b64encode(f"{environment['VDS_USERNAME']}:{environment['VDS_PASSWORD']}".encode()).decode()
    headers = [] if anonymously else [("authorization", f"Basic {logon}")]
    target = f"/adap/{quote(base or environment['VDS_BASE_DN'])}?{urlencode(search)}"
    return call(simulator, "GET", target, headers)


def ask_persons(simulator: SimulatorControl, ids: Sequence[str], *, streamed: bool = True, **body: object) -> Heard:
    """A batch of ids as the Person API wants it; members of the body can be set, or left out with None."""
    options = {"response_format": "ndjson"} if streamed else {}
    asked = {"buids": list(ids), "objects": OBJECTS, "options": options, **body}
    return ask_person_api(simulator, {name: value for name, value in asked.items() if value is not None})


def ask_person_api(simulator: SimulatorControl, body: object, *more_headers: tuple[str, str]) -> Heard:
    headers = json_headers(("x-api-key", simulator.environment()["DE_PERSON_API_KEY"]), *more_headers)
    return call(simulator, "POST", PERSON_PATH, headers, json.dumps(body).encode())


def ask_snapperson(
    simulator: SimulatorControl,
    rows: str,
    target: str = "/snaplogic/person?objects=['student']&csEnv=test",
    patience_s: float = 5.0,
) -> Heard:
    """A batch as SnapLogic's person task wants it, given as the text that only looks like JSON."""
    key = simulator.environment(person="snaplogic")["SNAPLOGIC_PERSON_KEY"]
    headers = json_headers(("x-api-key", key))
    return call(simulator, "POST", target, headers, json.dumps({"uidCarTerm": rows}).encode(), patience_s)


def documents_of(heard: Heard) -> list[Any]:
    """The documents in the records of a stream."""
    return [record["data"] for record in map(json.loads, filter(None, heard.lines)) if record["type"] == "record"]
