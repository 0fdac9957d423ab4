import json
import socket
import stat
import statistics
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets_tests.simulator.callers import ask_cstools, ask_qas

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "datalake_assets.simulator"]


def refused(*arguments: str) -> str:
    """What the command says when it refuses its arguments."""
    result = subprocess.run([*MODULE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_no_answer_waits_for_the_acknowledgement_of_its_own_head() -> None:
    """40 ms a question, which would be most of what a load of people takes."""
    with running_simulator(day="2026-11-20") as simulator:
        address = urlsplit(simulator.base_url)
        connection = HTTPConnection(address.hostname or "", address.port)
        seconds = []
        for _ in range(21):
            started = time.perf_counter()
            connection.request("GET", "/nowhere")
            connection.getresponse().read()
            seconds.append(time.perf_counter() - started)
        connection.close()
    assert statistics.median(seconds) < 0.03


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - refused, which is the point
def test_another_interface_than_loopback_is_refused(host: str) -> None:
    assert "is no loopback interface" in refused("--host", host)


def test_another_interface_needs_to_be_insisted_on(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [*MODULE, "--host", "0.0.0.0", "--beyond-loopback", "--ready-file", str(ready)]  # noqa: S104
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            wait_for(ready)
            assert json.loads(ready.read_text())["base_url"].startswith("http://0.0.0.0:")
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "chaos"], "clean, realistic, hostile, poison-day, outage:datahub"),
        (["--preset", "poison-day"], "poison-day needs a day"),
        (["--knob", "colour=red"], "whitespace_rate"),
        (["--knob", "seed"], "NAME=VALUE"),
        (["--knob", "term_order=strm", "--knob", "term_order=career"], "NAME=VALUE, once"),
        (["--scenario-start", "soon"], "a day such as 2026-11-20"),
        (["--day", "soon"], "a day such as 2026-11-20"),
        (["--seed", "x"], "a whole number"),
        (["--host", "nowhere.invalid"], "is not known"),
        (["--port", "99999"], "0 to 65535"),
        (["--port", "-1"], "0 to 65535"),
        (["--colour", "red"], "unrecognized arguments"),
    ],
)
def test_what_the_command_does_not_know_is_refused(arguments: list[str], says: str) -> None:
    assert says in refused(*arguments)


def test_a_port_that_is_taken_is_named(simulator: SimulatorControl) -> None:
    port = urlsplit(simulator.base_url).port
    assert f"Port {port} of 127.0.0.1 cannot be listened on" in refused("--port", str(port))


def test_help_teaches_what_there_is() -> None:
    result = subprocess.run([*MODULE, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    for word in (
        "null_columns",
        "/_sim/truth",
        "poison-day",
        "x-api-key",
        "isconnectedquery=N",
        "--until-stdin-closes",
    ):
        assert word in result.stdout


def test_it_says_on_stdout_where_it_listens_and_ends_with_its_parent() -> None:
    """A test run that is killed must not leave simulators behind."""
    command = [*MODULE, "--until-stdin-closes"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            announced = ""
            while not announced.endswith("\n}\n"):
                announced += process.stdout.readline()
            ready = json.loads(announced)
            assert ready["pid"] == process.pid
            with socket.create_connection(("127.0.0.1", urlsplit(ready["base_url"]).port), timeout=5):
                pass
            process.stdin.close()
            assert process.wait(timeout=10) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_the_ready_file_is_whole_and_only_for_its_owner(tmp_path: Path) -> None:
    """It holds the token of the control."""
    ready = tmp_path / "ready.json"
    with subprocess.Popen([*MODULE, "--ready-file", str(ready)], cwd=ROOT) as process:
        try:
            wait_for(ready)
            assert set(json.loads(ready.read_text())) == {"base_url", "control_token", "pid", "environments"}
            assert stat.S_IMODE(ready.stat().st_mode) == 0o600
            assert list(tmp_path.iterdir()) == [ready]
        finally:
            process.kill()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, "the simulator did not start"
        time.sleep(0.01)


def test_it_imports_nothing_that_makes_it_slow_to_start() -> None:
    """Tests start it by the dozen. Measured in modules, because seconds depend on the machine."""
    code = "import datalake_assets.simulator.__main__, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"dagster", "pyarrow", "polars", "pydantic", "httpx", "asyncpg", "sqlalchemy", "jinja2", "numpy"}
    assert heavy & {name.partition(".")[0] for name in result.stdout.split()} == set()


def test_environments_lead_clients_to_it(simulator: SimulatorControl) -> None:
    assert simulator.environment() == simulator.environment("cstools")
    others = {
        "SNAPLOGIC_COURSE_URL",
        "SNAPLOGIC_COURSE_KEY",
        "DE_PERSON_API_URL",
        "DE_PERSON_API_KEY",
        "SAP_URL",
        "SAP_KEY",
        "VDS_URL",
        "VDS_KEY",
        "SOURCE_DATAHUB_URL",
        "SOURCE_DATAHUB_AUTH",
        "SOURCE_DATAHUB_ID",
        "SOURCE_DATAHUB_KEY",
        "SOURCE_NYC_TLC_URL",
    }
    cstools, qas = ({*simulator.environment(flavour)} - others for flavour in ("cstools", "qas"))
    assert cstools == {"CS_ENV", "DE_CSTOOLS_ENDPOINT", "DE_CSTOOLS_KEY"}
    assert qas == {"CS_ENV", "PEOPLE_SOFT_URL", "PEOPLE_SOFT_USER", "PEOPLE_SOFT_PASS"}
    assert others < {*simulator.environment()}
    other_ways = simulator.environment(person="snaplogic", vds="adap")
    assert {*other_ways} - cstools == others - {"DE_PERSON_API_URL", "DE_PERSON_API_KEY", "VDS_KEY"} | {
        "SNAPLOGIC_PERSON_URL",
        "SNAPLOGIC_PERSON_KEY",
        "VDS_BASE_DN",
        "VDS_USERNAME",
        "VDS_PASSWORD",
    }
    assert simulator.environment("qas")["PEOPLE_SOFT_URL"] == simulator.base_url
    with pytest.raises(SimulatorError, match="cstools, qas"):
        simulator.environment("sap")
    with pytest.raises(SimulatorError, match="ndjson, snaplogic"):
        simulator.environment(person="paper")


def test_a_flavour_is_meant_where_none_is_named() -> None:
    with running_simulator(day="2026-11-20", flavour="qas") as simulator:
        assert "PEOPLE_SOFT_URL" in simulator.environment()
        assert simulator.truth()["endpoint"] == "qas"


def test_the_same_seed_gives_the_same_bytes_in_another_process(simulator: SimulatorControl) -> None:
    """Nothing may hang on the hash seed of the interpreter, on time, or on what was asked before."""
    first = ask_cstools(simulator).body, ask_qas(simulator).body
    ask_cstools(simulator)
    with running_simulator(scenario_start="2026-11-20") as other:
        assert (ask_cstools(other).body, ask_qas(other).body) == first
        assert other.environment()["DE_CSTOOLS_KEY"] == simulator.environment()["DE_CSTOOLS_KEY"]
        assert other.truth() == simulator.truth()
    with running_simulator(scenario_start="2026-11-20", seed=2) as other:
        assert ask_cstools(other).body != first[0]


def test_a_simulator_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(SimulatorError, match=r"did not start \(status 2\).*clean, realistic"),
        running_simulator(preset="chaos"),
    ):
        pass


def test_the_process_is_gone_afterwards() -> None:
    with running_simulator() as simulator:
        port = urlsplit(simulator.base_url).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
