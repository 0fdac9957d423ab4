"""Create or refresh `.venv` from `requirements.lock`; every make target runs this first.

Needs nothing but the standard library. A venv that is complete and up to date costs a few milliseconds;
anything else (another lock, Python or folder, an interrupted attempt) is built anew. Two runs at once end as
one build: the second waits. What the project needs belongs in pyproject.toml, not here.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
# Written last, so that it stands for a venv that is whole.
STAMP = VENV / "complete.json"
PIP = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input"]


def main() -> int:
    with (ROOT / ".venv.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make is preparing .venv; waiting for it ...")
            fcntl.flock(held, fcntl.LOCK_EX)
        return refresh()


def refresh() -> int:
    packages = {
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "folder": str(ROOT),
        "python": list(sys.version_info[:2]),
    }
    wanted = {
        "packages": packages,
        "project": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
    }
    found = installed()
    if found == wanted:
        return 0
    STAMP.unlink(missing_ok=True)
    if found.get("packages") != packages and not install_packages():
        return 1
    if not pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)):
        return 1
    if not pip("check"):
        return 1
    STAMP.write_text(json.dumps(wanted))
    return 0


def installed() -> dict[str, object]:
    """What a whole venv was made from; empty if there is none."""
    if not (STAMP.is_file() and PYTHON.exists()):
        return {}
    return dict(json.loads(STAMP.read_text()))


def install_packages() -> bool:
    say(f"Creating .venv with Python {sys.version.split()[0]} ...")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=False).returncode:
        say("Python could not create .venv: its message is above.")
        return False
    total = len(re.findall(r"^[a-z0-9]", LOCK.read_text(), re.MULTILINE))
    say(f"Installing {total} packages from requirements.lock; the first time takes a minute or two ...")
    # The lock is complete, so nothing is left to resolve; `pip check` proves it at the end.
    options = ["--no-deps", "--no-compile", "--progress-bar", "off", "--require-hashes"]
    if not pip("install", *options, "--requirement", str(LOCK), total=total):
        return False
    # On every core, where pip uses one. Not left to the first import: where PYTHONDONTWRITEBYTECODE is set,
    # as in many images, each start would compile again. Files that no Python 3 can read stay as they are.
    compiler = [str(PYTHON), "-m", "compileall", "-qq", "-j", "0", str(VENV / "lib")]
    subprocess.run(compiler, check=False, stdout=subprocess.DEVNULL)
    return True


def pip(*arguments: str, total: int = 0) -> bool:
    """Run pip, show how far it is, and show its own words only if it fails."""
    last_lines: deque[str] = deque(maxlen=30)
    seen = 0
    # The name of a folder on PYTHONPATH must not decide what is "already satisfied".
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [*PIP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            last_lines.append(line)
            if line.startswith("Collecting "):
                seen += 1
                if seen % 25 == 0:
                    say(f"  {seen} of about {total} fetched")
            elif line.startswith("Installing collected"):
                say("  all fetched, unpacking")
    if process.returncode:
        sys.stderr.writelines(last_lines)
        say(f"pip {arguments[0]} failed; its last lines are above. PIP_INDEX_URL names a mirror of PyPI.")
    return process.returncode == 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
