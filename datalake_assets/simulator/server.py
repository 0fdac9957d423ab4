"""Starting a simulator: the socket it listens on, the server, and how it says that it is ready.

It listens on loopback, and elsewhere only when it is told to, because it answers with invented data to
whoever knows how to ask. The command line stands in `__main__.py`, the wiring in `app.py`.
"""

import ipaddress
import json
import os
import secrets
import socket
import sys
import threading
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from uvicorn.config import Config as ServerConfig
from uvicorn.server import Server

from datalake_assets.simulator.app import build
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.credentials import Credentials
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.vds import BASE_DN
from datalake_assets.simulator.wire import WireProtocol


@dataclass(frozen=True)
class Start:
    """How a simulator is started.

    Attributes:
        config: The knobs of its population.
        preset: The faults it starts with.
        day: The day it shows first; None follows the calendar.
        host: The interface it listens on.
        port: The port; 0 takes a free one.
        beyond_loopback: It may listen on an interface that others can reach.
        ready_file: Written when it listens.
        until_stdin_closes: It ends when its standard input does, so that it never outlives its parent.
        token: What its control asks for.
    """

    config: Config = field(default_factory=Config)
    preset: str = "clean"
    day: date | None = None
    host: str = "127.0.0.1"
    port: int = 0
    beyond_loopback: bool = False
    ready_file: Path | None = None
    until_stdin_closes: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


def serve(start: Start) -> None:
    """Run a simulator until it is told to stop.

    Raises:
        SimulatorError: The interface is no loopback interface, or a knob or preset does not fit.
    """
    app = build(start.config, start.preset, start.token, start.day)
    with _listening(start) as listening:
        server = _AnnouncingServer(
            ServerConfig(
                app,
                http=WireProtocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                log_level="error",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            ),
            start,
        )
        if start.until_stdin_closes:
            threading.Thread(target=_stop_with_stdin, args=(server,), daemon=True).start()
        server.run(sockets=[listening])


def describe(start: Start, host: str, port: int) -> dict[str, Any]:
    """What a user of a running simulator needs to know."""
    base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return {
        "base_url": base_url,
        "control_token": start.token,
        "pid": os.getpid(),
        "environments": _environments(base_url, Credentials.of(start.config.seed)),
    }


def _environments(base_url: str, credentials: Credentials) -> dict[str, dict[str, dict[str, str]]]:
    """Environment variables by system and by flavour: the ways in which one system can be asked."""
    return {
        "peoplesoft": {
            "cstools": {
                "CS_ENV": "test",
                "DE_CSTOOLS_ENDPOINT": f"{base_url}/cstools/api/v1/queries/execute",
                "DE_CSTOOLS_KEY": credentials.cstools_key,
            },
            "qas": {
                "CS_ENV": "test",
                "PEOPLE_SOFT_URL": base_url,
                "PEOPLE_SOFT_USER": credentials.peoplesoft_user,
                "PEOPLE_SOFT_PASS": credentials.peoplesoft_password,
            },
        },
        "course": {
            "snaplogic": {
                "SNAPLOGIC_COURSE_URL": f"{base_url}/snaplogic/course",
                "SNAPLOGIC_COURSE_KEY": credentials.snaplogic_course_key,
            },
        },
        "person": {
            "ndjson": {
                "DE_PERSON_API_URL": f"{base_url}/person/v1/batch",
                "DE_PERSON_API_KEY": credentials.personapi_key,
            },
            "snaplogic": {
                "SNAPLOGIC_PERSON_URL": f"{base_url}/snaplogic/person",
                "SNAPLOGIC_PERSON_KEY": credentials.snaplogic_person_key,
            },
        },
        "vds": {
            "wrapper": {"VDS_URL": f"{base_url}/vds", "VDS_KEY": credentials.vds_key},
            "adap": {
                "VDS_URL": f"{base_url}/adap",
                "VDS_BASE_DN": BASE_DN,
                "VDS_USERNAME": credentials.vds_user,
                "VDS_PASSWORD": credentials.vds_password,
            },
        },
        "datahub": {
            "hawk": {
                "SOURCE_DATAHUB_URL": base_url,
                "SOURCE_DATAHUB_AUTH": "hawk",
                "SOURCE_DATAHUB_ID": credentials.datahub_id,
                "SOURCE_DATAHUB_KEY": credentials.datahub_key,
            },
        },
        "nyc_tlc": {"files": {"SOURCE_NYC_TLC_URL": f"{base_url}/files"}},
        "sap": {"bapi": {"SAP_URL": f"{base_url}/sap", "SAP_KEY": credentials.sap_key}},
    }


class _AnnouncingServer(Server):
    def __init__(self, config: ServerConfig, start: Start) -> None:
        super().__init__(config)
        self._start = start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not sockets:
            return
        host, port = sockets[0].getsockname()[:2]
        text = json.dumps(describe(self._start, host, port), indent=2) + "\n"
        if self._start.ready_file is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            _write_at_once(self._start.ready_file, text)


def _listening(start: Start) -> socket.socket:
    # Checked here, because resolvers take a larger number modulo 65536.
    if not 0 <= start.port <= 65535:
        raise SimulatorError(f"The port is {start.port}.", allowed=["0 to 65535"])
    try:
        family, _, _, _, address = socket.getaddrinfo(start.host, start.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SimulatorError(f"The host {start.host!r} is not known ({error.strerror}).") from None
    if not (ipaddress.ip_address(address[0]).is_loopback or start.beyond_loopback):
        raise SimulatorError(
            f"{start.host!r} is no loopback interface, and the simulator answers whoever reaches it.",
            allowed=["127.0.0.1", "::1", "localhost", "--beyond-loopback"],
        )
    try:
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        raise SimulatorError(
            f"Port {start.port} of {start.host} cannot be listened on ({error.strerror}).",
            allowed=["--port 0, which takes a free one"],
        ) from None


def _write_at_once(path: Path, text: str) -> None:
    """Write a file that only its owner can read, and that is either whole or not there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _stop_with_stdin(server: Server) -> None:
    # Read below sys.stdin, whose lock a daemon thread would hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    server.should_exit = True
