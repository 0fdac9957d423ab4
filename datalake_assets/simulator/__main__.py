"""`python -m datalake_assets.simulator`: the command line of the simulator.

It reads arguments and prints; what they mean is decided in `config.py`, `presets.py` and `server.py`.
"""

import argparse
import sys
from pathlib import Path

from datalake_assets.simulator.config import Config, knob_help
from datalake_assets.simulator.days import parse_day
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.presets import PRESETS
from datalake_assets.simulator.server import Start, serve

_ABOUT = """\
Speak the protocols of the campus sources over real HTTP on loopback, with invented data.

PeopleSoft's queries (terms; ids of students; terms of one person) have two endpoints, and so have persons and VDS:
  POST /cstools/api/v1/queries/execute                        header x-api-key
  GET  /PSIGW/RESTListeningConnector/PSFT_CS/ExecuteQuery.v1/PUBLIC/BU_TERM_QRY/JSON/NONFILE
       ?isconnectedquery=N&maxrows=0&json_resp=true           Basic logon
  POST /sap?BAPIName=Z_HR_EMPLOYEE_OBJ_LIST&account=HR        header x-api-key
  POST /vds                                                   Bearer key
  GET  /adap/ou=people,dc=example,dc=edu?filter=..            Basic logon or Bearer key; without: as for anybody
  GET  /snaplogic/course?term=STRM&csEnv=test                 header x-api-key
  POST /snaplogic/person?objects=['student']&csEnv=test       header x-api-key
  POST /person/v1/batch                                       header x-api-key
  GET  /v4/dataset/omis-dataset                               Hawk
  GET  /files/green/green_tripdata_2021-01.csv.gz             for anybody
When it listens, it prints (or writes to --ready-file) its address, the token of its control, and the
environment variables with which the real clients find it.

The scenario (--scenario-start DATE) is a walk through days: 1 first load, 2 term roll, 3 one term changed
and one removed, 4 everything shuffled, 5 outage, 6 back to normal with a new term.
"""

_CONTROL = """\
control (header x-sim-token):
  GET  /_sim/healthz                          is it there (no token needed)
  PUT  /_sim/day       {"day": "2026-11-20"}  show another day; null follows the calendar
  PUT  /_sim/faults    {"preset": "clean", "faults": [{"fault": "status_503", "scope": "cstools", "first_n": 1}]}
  GET  /_sim/faults                           what is in force, and every fault with its settings
  GET  /_sim/truth?kind=term&since=DATE&day=DATE   what the lake must hold after landing these days
  GET  /_sim/truth?kind=person&day=DATE            who there is that day, as sent; &documents=true, &endpoint=NAME
  GET  /_sim/truth?kind=course&day=DATE&term=2258  the courses of a term that day, likewise
  GET  /_sim/truth?kind=dataset&day=DATE&dataset=omis-dataset   records and columns of a dataset, counted
  GET  /_sim/truth?kind=taxi&colour=green&month=2021-01         rows and sums of a month
  GET  /_sim/requests                         who asked what, how often, with which headers
  POST /_sim/reset                            as if just started

example:
  python -m datalake_assets.simulator --scenario-start 2026-11-20 --day 2026-11-20 --preset realistic
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0, or 2 if something was asked for that the simulator does not know.
    """
    asked = _parser().parse_args(arguments)
    try:
        serve(_start(asked))
    except SimulatorError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    knobs = [name_default_help for name_default_help in knob_help() if name_default_help[0] not in _OPTIONS]
    lines = [f"  {name} (default {default})\n      {text}" for name, default, text in knobs]
    parser = argparse.ArgumentParser(
        prog="python -m datalake_assets.simulator",
        description=_ABOUT,
        epilog="\n".join(["knobs of the population (--knob NAME=VALUE; lists with commas):", *lines, "", _CONTROL]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default 0)")
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen on (default 127.0.0.1)")
    parser.add_argument("--beyond-loopback", action="store_true", help="allow an interface that others can reach")
    parser.add_argument("--seed", help="other seeds, other data (default 1)")
    parser.add_argument("--fault-seed", help="other seeds, other draws of faults (default 1)")
    parser.add_argument("--preset", default="clean", help=f"{', '.join(PRESETS)}, outage:<source> (default clean)")
    parser.add_argument("--scenario-start", metavar="DATE", help="first day of the scenario (default: no scenario)")
    parser.add_argument("--day", metavar="DATE", help="day to show first (default: the calendar's, in New York)")
    parser.add_argument("--knob", action="append", default=[], metavar="NAME=VALUE", help="a knob, see below")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="write address and token there, not to stdout")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the standard input does")
    return parser


_OPTIONS = ("seed", "fault_seed", "scenario_start")


def _start(asked: argparse.Namespace) -> Start:
    knobs: dict[str, object] = {}
    for text in asked.knob:
        name, equals, value = text.partition("=")
        if not equals or name in knobs:
            raise SimulatorError(f"--knob {text!r} is no NAME=VALUE, or given twice.", allowed=["NAME=VALUE, once"])
        knobs[name] = value
    for name in _OPTIONS:
        value = getattr(asked, name)
        if value is not None:
            knobs[name] = value
    return Start(
        config=Config.of(knobs),
        preset=asked.preset,
        day=parse_day(asked.day, "--day") if asked.day else None,
        host=asked.host,
        port=asked.port,
        beyond_loopback=asked.beyond_loopback,
        ready_file=asked.ready_file,
        until_stdin_closes=asked.until_stdin_closes,
    )


if __name__ == "__main__":
    sys.exit(main())
