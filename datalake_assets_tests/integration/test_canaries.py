"""No sensitive value and no secret stays anywhere: files, Parquet, both databases, output, the database's own log."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datalake_assets.simulator.client import running_simulator
from datalake_assets.storage.embedded import EmbeddedPostgres
from datalake_assets.storage.postgres import PostgresAddress, PostgresError, scrubbing, session
from datalake_assets_tests.integration.canaries import Canaries, secrets_of
from datalake_assets_tests.integration.rehearsal import DATALAKE
from datalake_assets_tests.servers import open_folder

LAST = "2026-03-25"
"""On this day and the one before, hostile courses, terms and people all hold sensitive keys where none belong."""

SSN = "900-12-3456"
KEY = "simulated-key/of+a source"


@dataclass(frozen=True)
class Demo:
    """What a hostile demo left behind, with its server running again.

    Attributes:
        home: Its files.
        server: Its server.
        output: What its command said.
        secrets: Every secret that it was given.
    """

    home: Path
    server: PostgresAddress
    output: str
    secrets: list[str]

    @property
    def canaries(self) -> Canaries:
        return Canaries([*self.secrets, self.server.password.get_secret_value()])

    @property
    def server_folder(self) -> Path:
        """Where the server keeps its data, its password and its log; a note tells if that is elsewhere."""
        note = self.home / "demo" / "postgres" / "data-is-elsewhere.txt"
        return Path(note.read_text().splitlines()[0]) if note.exists() else note.parent


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with running_simulator() as simulator:  # secrets follow from the seed, so these are those of the demo
        known = [simulator.environment(person=person, vds=vds, flavour=flavour) for person, vds, flavour in WAYS]
    secrets = sorted({secret for environment in known for secret in secrets_of(environment)})
    with open_folder() as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "DE_"))}
        arguments = ["--persons", "60", "--days", "2", "--preset", "hostile", "--until", LAST]
        result = subprocess.run(
            [DATALAKE, "demo", *arguments],
            env={**environment, "DATALAKE_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        with EmbeddedPostgres(home / "demo" / "postgres") as server:
            demo = Demo(home, server, result.stdout + result.stderr, secrets)
            yield demo
        shutil.rmtree(demo.server_folder)


WAYS = (("ndjson", "wrapper", "cstools"), ("snaplogic", "adap", "qas"))


def test_nothing_sensitive_stays_in_any_file(demo: Demo) -> None:
    """Invariant 6: snapshots, spool, Dagster's folders, and PostgreSQL's own files as they lie on the disk."""
    assert len(demo.secrets) >= 8
    assert len(list(demo.home.rglob("*.parquet"))) > 10
    assert demo.canaries.in_folder(demo.home / "demo" / "lake") == []
    found = {hit for folder in (demo.home, demo.server_folder) for hit in demo.canaries.in_folder(folder)}
    # The server's own password has to be on the disk, for whoever may read the server's data anyway.
    assert {hit for hit in found if not hit.endswith("password: a secret")} == set()


@pytest.mark.parametrize("database", ["datalake", "datalake_dagster"])
def test_nothing_sensitive_stays_in_any_table(demo: Demo, database: str) -> None:
    """Invariant 6: tables of every layer, quarantine, receipts, and Dagster's events, tags and logs."""
    address = demo.server.with_database(database)
    filled = {"datalake": "person_raw.person_data", "datalake_dagster": "public.event_logs"}[database]

    async def look() -> list[str]:
        async with session(address, application_name="test") as connection:
            assert await connection.fetchval(f"select count(*) from {filled}") > 50
        return await demo.canaries.in_database(address)

    assert asyncio.run(look()) == []


def test_nothing_sensitive_is_said(demo: Demo) -> None:
    """Invariant 6: what the command prints."""
    assert "All 2 days and 11 declared pipelines are as they should be" in demo.output
    assert demo.canaries.in_bytes(demo.output.encode(), "output") == []


def test_a_refused_row_is_quoted_neither_in_our_error_nor_in_the_log_of_the_server(demo: Demo) -> None:
    """Invariant 6: PostgreSQL tells the whole row to the client, and by default to its log."""
    document = orjson.dumps({"ssn": SSN, "key": demo.secrets[0]})

    async def provoke() -> tuple[str, str]:
        async with session(demo.server.with_database("datalake"), application_name="test") as connection:
            await connection.execute("create temporary table probe (id int primary key, document jsonb not null)")
            with pytest.raises(asyncpg.PostgresError) as theirs:
                await connection.execute("insert into pg_temp.probe values (null, $1)", document)
            with pytest.raises(PostgresError) as ours, scrubbing("the probe"):
                await connection.execute("insert into pg_temp.probe values (null, $1)", document)
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(f"select '{document.decode()}'::int")
            return str(theirs.value.as_dict()), f"{ours.value!r} {ours.value} {ours.value.__cause__!r}"

    detail, message = asyncio.run(provoke())
    quoted = demo.canaries.in_bytes(detail.encode(), "detail")
    assert quoted == ["detail: a secret", "detail: a sensitive value"], "the provocation quotes nothing"
    assert demo.canaries.in_bytes(message.encode(), "message") == []
    log = (demo.server_folder / "server.log").read_bytes()
    assert b"database system is ready" in log
    assert demo.canaries.in_bytes(log, "log") == []


def test_one_value_that_is_planted_in_a_copy_is_found(demo: Demo, tmp_path: Path) -> None:
    """A search that finds nothing proves nothing until it has found something."""
    copy = tmp_path / "copy"
    shutil.copytree(demo.home / "demo" / "lake", copy)
    assert demo.canaries.in_folder(copy) == []
    victim = next(path for path in sorted(copy.rglob("*.parquet")) if "document" in pq.read_schema(path).names)
    table = pq.read_table(victim)
    documents = table.column("document").to_pylist()
    documents[0] = orjson.dumps({"notes": [{"text": f"no. {SSN}."}]})
    place = table.schema.get_field_index("document")
    spoilt = table.set_column(place, table.schema.field(place), pa.array(documents, table.schema.field(place).type))
    pq.write_table(spoilt, victim, compression="zstd", use_dictionary=False, write_statistics=False)
    assert b"900" not in victim.read_bytes() or demo.canaries.in_bytes(victim.read_bytes(), "") == []
    assert demo.canaries.in_folder(copy) == [f"{victim.relative_to(copy)}: a sensitive value"]


@pytest.mark.parametrize(
    "planted",
    [
        SSN,
        "900123456",
        '{"a": [{"SSN": null}]}',
        '{"text": "{\\"finAid\\": {}}"}',
        "must be removed",
        KEY,
        "https://example.edu/?key=simulated-key%2Fof%2Ba%20source",
        "Basic dXNlcjpzaW11bGF0ZWQta2V5L29mK2Egc291cmNl",
    ],
)
def test_a_planted_value_is_found_in_every_form(database: PostgresAddress, tmp_path: Path, planted: str) -> None:
    canaries = Canaries([KEY])

    async def plant() -> list[str]:
        async with session(database, application_name="test") as connection:
            await connection.execute("create table public.probe (id int, said text, document jsonb)")
            await connection.execute("insert into public.probe values (1, 'harmless', null)")
            assert await canaries.in_database(database) == []
            text = orjson.dumps({"message": planted})
            await connection.execute("insert into public.probe values (2, 'harmless', $1::jsonb)", text)
            await connection.execute("insert into public.probe values (3, $1, null)", planted)
        return await canaries.in_database(database)

    assert asyncio.run(plant()) == [f"public.probe: {kind}" for kind in 2 * [kind_of(planted)]]
    (tmp_path / "a.log").write_text(f"10:00 said {planted}\n")
    assert canaries.in_folder(tmp_path) == [f"a.log: {kind_of(planted)}"]


def kind_of(planted: str) -> str:
    return "a secret" if "imulated" in planted or planted.startswith("Basic") else "a sensitive value"
