"""What `as-of` and `blame` tell of persons over several days, against what the simulator told on each of them."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

import asyncpg
import orjson
import pytest

from datalake_assets import exact_json
from datalake_assets.entities import PERSON
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.history import Change, as_of, blame
from datalake_assets.storage.postgres import PostgresAddress, session
from datalake_assets_tests.integration.rehearsal import Rehearsal, rehearsal
from datalake_assets_tests.integration.test_order_campus import python

FIRST = date(2026, 3, 2)
DAYS = [FIRST + timedelta(days=offset) for offset in range(4)]
KNOBS = {
    "persons": 60,
    "person_change_rate": 0.5,
    "person_new_rate": 0.05,
    "person_removed_rate": 0.05,
    "person_return_rate": 0.5,
}

LOAD = """
import os
import sys
from datetime import date
from datalake_assets.cli.jobs import run_job
from datalake_assets.simulator.client import SimulatorControl

simulator = SimulatorControl(*sys.argv[1:3])
for day in sys.argv[3:]:
    simulator.set_day(day)
    os.environ["DATALAKE_TODAY"] = day
    outcome = run_job("person_daily", date.fromisoformat(day), quiet=True)
    assert outcome.succeeded, outcome.errors
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Told:
    """A lake, and the documents that the simulator told on each day."""

    lake: Rehearsal
    truth: dict[date, dict[str, Any]]

    @property
    def keys(self) -> list[str]:
        """Everybody who was ever there."""
        return sorted({key for documents in self.truth.values() for key in documents})

    def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        async def asked() -> T:
            async with session(self.lake.lake, application_name="test") as connection:
                return await question(connection)

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def told(postgres_server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    name = f"history_{uuid.uuid4().hex[:8]}"
    with rehearsal(postgres_server, name, tmp_path_factory.mktemp("history"), FIRST, **KNOBS) as lake:
        control = lake.simulator
        python(lake, LOAD, DAYS[-1], control.base_url, control._token, *map(str, DAYS))
        truth = {day: control.truth("person", day=day, documents=True)["documents"] for day in DAYS}
        yield Told(lake, {day: exact_json.loads(orjson.dumps(documents)) for day, documents in truth.items()})


def test_as_of_shows_every_person_on_every_day_as_told_on_it(told: Told):
    async def compare(connection: asyncpg.Connection) -> None:
        for key in told.keys:
            assert await as_of(connection, PERSON, (key,), FIRST - timedelta(days=1)) is None
            for day, documents in told.truth.items():
                state = await as_of(connection, PERSON, (key,), day)
                shown = None if state is None else state.document
                assert _same(shown, documents.get(key)), f"{key} on {day}"

    told.ask(compare)


def test_what_blame_tells_leads_from_each_day_to_the_next(told: Told):
    """Whoever follows the changes holds the true document on every day, and nothing is told that did not change."""
    counts = {"told": 0, "vanished": 0, "returned": 0, "elements": 0}

    async def follow(connection: asyncpg.Connection) -> None:
        for key in told.keys:
            changes = await blame(connection, PERSON, (key,))
            document: dict[str, Any] = {}
            gone = False
            for day, documents in told.truth.items():
                today = [change for change in changes if change.load_date == day]
                before, after = document, documents.get(key, {})
                assert bool(today) is not _same(before, after), f"{key} on {day}"
                document = followed(before, today)
                assert _same(document, after), f"{key} on {day}"
                counts["told"] += len(today)
                counts["vanished"] += bool(before and not after)
                counts["returned"] += bool(gone and after and not before)
                counts["elements"] += sum(change.path.endswith("[]") for change in today)
                gone = gone or bool(before and not after)

    told.ask(follow)
    assert all(counts.values()), f"a history without changes of every kind proves nothing: {counts}"


def test_blame_of_one_field_tells_what_blame_of_all_fields_tells_of_it(told: Told):
    async def compare(connection: asyncpg.Connection) -> None:
        for key in told.keys[:20]:
            everything = await blame(connection, PERSON, (key,))
            for path in sorted({change.path.removesuffix("[]") for change in everything}):
                found = await blame(connection, PERSON, (key,), path)
                below = [one for one in everything if one.path == path or one.path.startswith((f"{path}/", f"{path}["))]
                # Beside those, what came or went with what holds it.
                with_holder = [one for one in found if one not in below]
                assert [one for one in found if one not in with_holder] == below, f"{key} {path}"
                for one in with_holder:
                    holders = [other for other in everything if path.startswith((f"{other.path}/", f"{other.path}["))]
                    assert one.path == path
                    assert one.load_date in {holder.load_date for holder in holders}, f"{key} {path}"

    told.ask(compare)


def test_the_commands_say_the_same(told: Told):
    key = next(key for key in told.keys if len({digest(told.truth[day].get(key)) for day in DAYS}) > 1)
    for day in (DAYS[1], DAYS[-1]):
        shown = told.lake.command("as-of", "person", key, "--at", day.isoformat(), "--json")
        document = exact_json.loads(shown.stdout.encode())["document"] if shown.returncode == 0 else None
        assert _same(document, told.truth[day].get(key)), shown.stderr
    listed = orjson.loads(told.lake.command("blame", "person", key, "--json").stdout)["changes"]
    changes = told.ask(lambda connection: blame(connection, PERSON, (key,)))
    assert [(one["load_date"], one["path"]) for one in listed] == [(str(one.load_date), one.path) for one in changes]


# ------------------------------------------------------------------------------------------------------------


def followed(document: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    """The document that changes make of another, which stays as it was."""
    document = exact_json.loads(exact_json.dumps(document))
    for change in changes:
        *above, name = change.path.removeprefix("/").removesuffix("[]").split("/")
        holder = document
        for member in above:
            holder = holder[member]
        if not change.path.endswith("[]"):
            assert (name in holder) is not change.appeared, change.path
            assert change.appeared or _same(holder[name], change.before), change.path
            holder.pop(name, None)
            if not change.vanished:
                holder[name] = change.after
        elif change.vanished:
            place = next(place for place, element in enumerate(holder[name]) if _same(element, change.before))
            del holder[name][place]
        else:
            holder[name].append(change.after)
    return document


def _same(one: Any, other: Any) -> bool:
    return digest(one) == digest(other)
