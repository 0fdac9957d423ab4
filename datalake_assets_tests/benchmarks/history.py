"""What questions to a month of history cost: `datalake as-of` and `datalake blame`, beside a look at one row.

All that the commands do once they are connected is counted, as in their own process: each question has a connection
that has asked nothing before, and statements that were not rendered before. The table is filled with few documents
many times over, since only the answers are timed.
"""

import asyncio
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import asyncpg

from datalake_assets import statements
from datalake_assets.entities import PERSON
from datalake_assets.lake.documents import judge
from datalake_assets.lake.history import as_of, blame
from datalake_assets.settings import project_files
from datalake_assets.simulator.client import running_simulator
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress, copy_records, session
from datalake_assets_tests.benchmarks.measure import Figure, Kind, Plan, in_turns, timed
from datalake_assets_tests.integration.rehearsal import DATALAKE
from datalake_assets_tests.servers import fresh_database, running_server

FIRST = date(2026, 3, 2)
DAYS = 30
"""Days of changes, after the day of the first load."""

PATTERNS = 61
"""Persons whose documents are rendered; everybody has those of one of them."""

MOST_IN_MEMORY = 200_000
"""Keys of a table that the disk in memory has room for."""

QUESTIONS = 50
"""Of a kind in a round; the value of the round is their median."""

LIMIT_MS = 20.0

Question = Callable[[asyncpg.Connection], Coroutine[Any, Any, object]]


def history(plan: Plan) -> Iterator[Figure]:
    """As-of of any key on any date; blame of keys with a few change points and of those that change every day."""
    with running_server(in_memory=plan.documents <= MOST_IN_MEMORY) as server, fresh_database(server) as lake:
        migrate(lake, project_files() / "sql" / "migrations")
        took = timed(lambda: asyncio.run(_fill(lake, plan)))
        (any_key, few, many), size = asyncio.run(_keys(lake, plan.documents))
        plan.say(f"{plan.documents:,} keys with {DAYS} days of changes made in {took:.0f} s, {size / 2**30:.1f} GiB")
        draw = random.Random(1)  # noqa: S311 - drawn to be repeated, not to be secret
        slowest: dict[str, float] = {}

        def asked(name: str, ask: Callable[[str, date], Question], keys: Sequence[str]) -> Callable[[int], float]:
            def one_round(_: int) -> float:
                questions = [
                    ask(draw.choice(keys), FIRST + timedelta(days=draw.randint(0, DAYS))) for _ in range(QUESTIONS)
                ]
                times = asyncio.run(_answered(lake, questions))
                slowest[name] = max(*times, slowest.get(name, 0.0))
                return statistics.median(times)

            return one_round

        kinds: dict[str, tuple[Callable[[str, date], Question], Sequence[str]]] = {
            "index lookup": (_lookup, any_key),
            "as-of, any key and date": (_as_of, any_key),
            "blame /email, 2-5 change points": (_blame("/email"), few),
            f"blame /email, {DAYS + 1} change points": (_blame("/email"), many),
            f"blame of all fields, {DAYS + 1} change points": (_blame(None), many),
        }
        rounds = in_turns(plan.rounds, *(asked(name, ask, keys) for name, (ask, keys) in kinds.items()))
        (beside, lookups), *measured = zip(kinds, rounds, strict=True)
        note = f"whole process {_process_s(lake, 'as-of', many[0], '--at', str(FIRST)):.1f} s"
        for name, values in measured:
            told = f"slowest {slowest[name]:.0f} ms; {plan.documents:,} keys"
            yield Figure(name, beside, values, lookups, Kind.VALUE, LIMIT_MS, "ms", f"{told}; {note}" if note else told)
            yield Figure(name, beside, values, lookups, Kind.RATIO, None, "ms")
            note = ""


def _lookup(key: str, _: date) -> Question:
    query = f"select digest from {PERSON.raw} where bu_uid = $1 and load_date = $2"
    return lambda connection: connection.fetchval(query, key, FIRST)


def _as_of(key: str, at: date) -> Question:
    return lambda connection: as_of(connection, PERSON, (key,), at)


def _blame(path: str | None) -> Callable[[str, date], Question]:
    return lambda key, _: lambda connection: blame(connection, PERSON, (key,), path)


async def _answered(lake: PostgresAddress, questions: Sequence[Question]) -> list[float]:
    """Milliseconds of each question, without those of connecting."""
    times = []
    for question in questions:
        async with session(lake, application_name="bench") as connection:
            statements._environment.cache_clear()
            started = time.perf_counter()
            await question(connection)
            times.append((time.perf_counter() - started) * 1000)
    return times


def _process_s(lake: PostgresAddress, *words: str) -> float:
    """Seconds of a command about one person, from its start to its end."""
    command, *arguments = words
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DATALAKE_", "POSTGRES_"))},
            "DATALAKE_HOME": home,
            "POSTGRES_HOST": lake.host,
            "POSTGRES_PORT": str(lake.port),
            "POSTGRES_USER": lake.user,
            "POSTGRES_PASS": lake.password.get_secret_value(),
            "POSTGRES_DB": lake.database,
        }
        line = [DATALAKE, command, PERSON.name, *arguments]
        return timed(lambda: subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=True))


# ------------------------------------------------------------------------------------------------- the table


async def _fill(lake: PostgresAddress, plan: Plan) -> None:
    """A first load and days on which 1 % changes: one key in a thousand on each of them, the others by chance."""
    columns = "bu_uid, person_data, dl_insert_date, load_date, operation, digest, source, run_id, loaded_at"
    async with session(lake, application_name="bench") as connection:
        await connection.execute(
            "create temp table rendered"
            " (pattern int, day int, document jsonb, digest bytea, primary key (day, pattern))"
        )
        names = ("pattern", "day", "document", "digest")
        await copy_records(connection, "rendered", names, _rendered(), deadline_s=600)
        for number in range(DAYS + 1):
            day, operation = FIRST + timedelta(days=number), "U" if number else "I"
            await connection.execute(
                f"insert into {PERSON.raw} ({columns})"
                f" select 'U' || lpad(i::text, 8, '0'), document, date '{day}', date '{day}', '{operation}', digest,"
                f" 'bench', 'run of {day}', now() from generate_series(1, {plan.documents}) as i"
                f" join rendered on pattern = i % {PATTERNS} and day = {number}"
                f" where {number} = 0 or i % 1000 = 1 or abs(hashint8(i * 100 + {number})) % 1000 < 9"
            )
            if number % 10 == 0:
                plan.say(f"day {number} of {DAYS}")
        await connection.execute(f"vacuum (analyze) {PERSON.raw}")


def _rendered() -> Iterator[tuple[int, int, bytes, bytes]]:
    """Documents of a few persons who change every day."""
    with running_simulator(
        scenario_start=FIRST, persons=PATTERNS, person_change_rate=1.0, person_new_rate=0, person_removed_rate=0
    ) as simulator:
        for number in range(DAYS + 1):
            documents = simulator.truth("person", day=FIRST + timedelta(days=number), documents=True)["documents"]
            for pattern, document in enumerate(documents.values()):
                answer = judge(PERSON, document, "bench")
                assert answer.document is not None
                assert answer.digest is not None
                yield pattern, number, answer.document, answer.digest


async def _keys(lake: PostgresAddress, documents: int) -> tuple[tuple[list[str], list[str], list[str]], int]:
    """Keys of any kind, with a few change points, and with one on every day; and the bytes of the table."""
    async with session(lake, application_name="bench") as connection:
        rows = await connection.fetch(
            f"select bu_uid, count(*) as points from {PERSON.raw} where load_date > '{FIRST}' group by bu_uid"
        )
        size = await connection.fetchval(f"select pg_total_relation_size('{PERSON.raw}')")
    few = [row["bu_uid"] for row in rows if 1 <= row["points"] <= 4]
    many = [row["bu_uid"] for row in rows if row["points"] == DAYS]
    return ([f"U{number:08}" for number in range(1, documents + 1)], few, many), size
