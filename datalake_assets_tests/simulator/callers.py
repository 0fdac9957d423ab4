"""Callers that hide nothing: requests written byte for byte, and everything that came back.

An HTTP library would repair or refuse just what these tests are about. What is called and what must come back
stands in the tests.
"""

import gzip
import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from urllib.parse import urlsplit

from datalake_assets.simulator.client import SimulatorControl

SCENARIO_START = date(2026, 11, 20)
CSTOOLS_PATH = "/cstools/api/v1/queries/execute"
QAS_PATH = "/PSIGW/RESTListeningConnector/PSFT_CS/ExecuteQuery.v1/PUBLIC/BU_TERM_QRY/JSON/NONFILE"
QAS_PARAMETERS = {"isconnectedquery": "N", "maxrows": "0", "json_resp": "true"}
TERM_QUERY = {"query_name": "BU_TERM_QRY"}

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

    def json(self) -> Any:
        assert len(self.body) == int(self.headers["content-length"])
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return json.loads(body)


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
