"""`datalake doctor`: what is wrong with this installation, and how to mend it.

Looks at settings, files, the database and Dagster's storage, and changes nothing; every failure becomes a
finding, so that the rest is still looked at. Whether the data is right is asked by `datalake checks`.
"""

import asyncio
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import asyncpg
import click

from datalake_assets.cli.access import database_exists, lake_server
from datalake_assets.cli.output import print_json, print_table
from datalake_assets.cli.stack import lake_stack
from datalake_assets.entities import ENTITIES
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.checks import Lake, checks_of
from datalake_assets.lake.landing import Landing
from datalake_assets.lake.leftovers import Backend, backends_of_runs
from datalake_assets.lake.reconcile import SILENT_FOR_S
from datalake_assets.lake.services import load_services
from datalake_assets.settings import VARIABLES, Settings, load_settings, project_files
from datalake_assets.statements import statement
from datalake_assets.storage.durable_files import Space, files_at
from datalake_assets.storage.migrations import pending
from datalake_assets.storage.parquet import ParquetStore
from datalake_assets.storage.postgres import PostgresAddress, scrubbing, session

State = Literal["ok", "warning", "error"]

LARGEST_SKEW_S: Final = 60.0
"""Receipts carry the database's clock and snapshots this machine's; further apart, their order misleads."""

SCARCE_BYTES: Final = 5 << 30
"""Free space below which a large load may not find room."""

NO_ROOM_BYTES: Final = 500 << 20
"""Free space below which the next load may fail."""


_ANSWERS_WITHIN_S: Final = 3.0
"""A source that takes longer to be reached is as good as gone."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: What it is about.
        state: Whether something must or should be done.
        what: What was found; never a secret.
        todo: How to mend it.
    """

    area: str
    state: State
    what: str
    todo: str = ""


@dataclass(frozen=True)
class Source:
    """A source system, by the variables that it needs.

    Attributes:
        name: As operators call it.
        address: The variable that switches it on.
        credentials: Alternatives; all variables of one of them must be set.
    """

    name: str
    address: str
    credentials: tuple[tuple[str, ...], ...]


SOURCES: Final = (
    Source("CS Tools", "DE_CSTOOLS_ENDPOINT", (("DE_CSTOOLS_KEY",),)),
    Source("PeopleSoft", "PEOPLE_SOFT_URL", (("PEOPLE_SOFT_USER", "PEOPLE_SOFT_PASS"),)),
    Source("SnapLogic person", "SNAPLOGIC_PERSON_URL", (("SNAPLOGIC_PERSON_KEY",),)),
    Source("SnapLogic course", "SNAPLOGIC_COURSE_URL", (("SNAPLOGIC_COURSE_KEY",),)),
    Source("person API", "DE_PERSON_API_URL", (("DE_PERSON_API_KEY",),)),
    Source("VDS", "VDS_URL", (("VDS_KEY",), ("VDS_USERNAME", "VDS_PASSWORD", "VDS_BASE_DN"))),
    Source("SAP", "SAP_URL", (("SAP_KEY",),)),
)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor_command(as_json: bool) -> None:
    """Say what is wrong with this installation and how to mend it; exit 1 on an error.

    Looks at settings, sources, declared pipelines, PostgreSQL (connection, TLS, clock, grants, migrations), disk
    space, permissions, Dagster's storage, pool slots, dead runs, quarantine and freshness. Nothing is changed.

    Example: datalake doctor --json
    """
    findings = list(examine(load_settings()))
    errors = sum(finding.state == "error" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if as_json:
        print_json({"errors": errors, "warnings": warnings, "findings": [asdict(finding) for finding in findings]})
    else:
        print_table(("state", "area", "finding", "what to do"), [(f.state, f.area, f.what, f.todo) for f in findings])
        click.echo(f"{len(findings)} findings: {errors} errors, {warnings} warnings.")
    sys.exit(1 if errors else 0)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, from what needs least to what needs most."""
    yield from examine_settings(settings)
    yield from examine_sources(settings)
    yield from examine_pipelines(settings)
    yield from _reported("files", lambda: examine_files(settings))
    server = settings.home / "postgres"
    if settings.uses_embedded_postgres and not server.exists():
        yield Finding("PostgreSQL", "ok", f"The embedded server is not made yet; the first load makes it in {server}.")
        return
    try:
        with lake_server(settings) as address:
            yield from examine_database(settings, address)
    except DatalakeError as error:
        yield _failure("PostgreSQL", error)


# ------------------------------------------------------------------------------------ settings and sources


def examine_settings(settings: Settings) -> Iterator[Finding]:
    """Every variable whose value cannot be used, all at once."""
    messages: dict[str, DatalakeError] = {}
    readers: list[Callable[[], object]] = [
        lambda: settings.start_date,
        lambda: settings.clock,
        lambda: settings.tolerances,
    ]
    if not settings.uses_embedded_postgres:
        readers.append(settings.postgres)
    for variable in VARIABLES:
        readers.append(lambda name=variable.name: settings.get(name))  # type: ignore[misc]
    for read in readers:
        try:
            read()
        except DatalakeError as error:
            messages[error.what] = error
    yield from (_failure("settings", error) for error in messages.values())
    if not messages:
        given = sum(settings.is_set(variable.name) for variable in VARIABLES)
        yield Finding("settings", "ok", f"{given} of {len(VARIABLES)} variables are set, all to usable values.")
    for variable in VARIABLES:
        name = variable.name
        if name.endswith(("_CA_BUNDLE", "_CA")) and settings.is_set(name):
            path = Path(settings.require(name))
            if not os.access(path, os.R_OK):
                yield Finding(
                    "settings", "error", f"{name}: {path} cannot be read.", f"Set {name}: {variable.purpose}."
                )
    if settings.is_set("DATALAKE_TODAY"):
        yield Finding(
            "settings", "warning", "DATALAKE_TODAY is set: the clock stands still.", "Unset it outside rehearsals."
        )
    if settings.is_set("DATALAKE_CRASH_AT"):
        yield Finding(
            "settings", "error", "DATALAKE_CRASH_AT is set: loads kill themselves.", "Unset it; only tests need it."
        )


def examine_sources(settings: Settings) -> Iterator[Finding]:
    """Which sources are configured, by the names of their variables."""
    for source in SOURCES:
        area = f"source {source.name}"
        names = [name for names in source.credentials for name in names]
        if not settings.is_set(source.address):
            stray = [name for name in names if settings.is_set(name)]
            if stray:
                yield Finding(
                    area, "warning", f"{_and(stray)} set, {source.address} is not.", f"Set {source.address} as well."
                )
            else:
                yield Finding(area, "ok", f"Not configured ({source.address} is not set).")
            continue
        if not any(all(settings.is_set(name) for name in alternative) for alternative in source.credentials):
            ways = " or ".join(" and ".join(alternative) for alternative in source.credentials)
            yield Finding(area, "error", f"{source.address} is set, its credentials are not.", f"Set {ways}.")
            continue
        yield _address(settings, source, area)
    for name in settings.named_sources:
        area = f"source {name}"
        try:
            settings.named_source(name)
        except DatalakeError as error:
            yield _failure(area, error)
        else:
            yield _address(settings, Source(name, f"SOURCE_{name.upper()}_URL", ()), area)


def _address(settings: Settings, source: Source, area: str) -> Finding:
    parts = urlsplit(settings.require(source.address))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        todo = f"Set {source.address} to https://host/path, without user or password in it."
        return Finding(area, "error", f"{source.address} is not a usable address.", todo)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        todo = f"Set {source.address} to an https address."
        return Finding(area, "warning", f"{source.address} sends credentials unencrypted (http).", todo)
    return Finding(area, "ok", "Configured.")


def examine_pipelines(settings: Settings) -> Iterator[Finding]:
    """Whether what is declared can be read, and whether the sources that it names are set up and answer."""
    from datalake_assets.cli.pipeline_jobs import declared

    try:
        specs = declared().resolve_all_asset_specs()
    except DatalakeError as error:
        yield _failure("pipelines", error)
        return
    used = {spec.key.path[0]: None for spec in specs if spec.tags.get("lake/layer") == "source"}
    for name in sorted(used):
        area = f"pipelines of {name}"
        variable = f"SOURCE_{name.upper()}_URL"
        if name not in settings.named_sources:
            default = settings.get(variable)
            what = f"The address that comes with the project is used ({variable} is not set)."
            yield Finding(area, "ok", what if default else f"Cannot be loaded yet ({variable} is not set).")
            continue
        try:
            parts = urlsplit(settings.named_source(name).url)
            address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        except (DatalakeError, ValueError):
            continue  # said above
        try:
            socket.create_connection(address, timeout=_ANSWERS_WITHIN_S).close()
        except OSError as error:
            what = f"{variable} does not answer ({error.strerror or type(error).__name__})."
            yield Finding(area, "warning", what, "Look at the address, at the network, and at the source itself.")
        else:
            yield Finding(area, "ok", f"{variable} answers.")


# --------------------------------------------------------------------------------------------------- files


def examine_files(settings: Settings) -> Iterator[Finding]:
    """Permissions of what holds secrets, room on the disks, and whether the lake's files can be reached."""
    yield from _private(Path(".env"), 0o077, "warning", "settings", "It may hold passwords and keys")
    server = settings.home / "postgres"
    if settings.uses_embedded_postgres and server.exists():
        # Root starts the server as another account, which must be able to enter.
        yield from _private(server, 0o067 if os.geteuid() == 0 else 0o077, "error", "PostgreSQL", "It holds the lake")
        yield from _private(server / "password", 0o077, "error", "PostgreSQL", "It opens the lake")
    yield space_for("DATALAKE_HOME", str(settings.home), files_at(str(settings.home)).space())
    yield from _lake_store(settings)


def _private(path: Path, forbidden: int, state: State, area: str, why: str) -> Iterator[Finding]:
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & forbidden:
        what = f"{path} has permissions {mode:03o}: others than its owner may use it. {why}."
        yield Finding(area, state, what, f"chmod {mode & ~forbidden:03o} {path}")
    else:
        yield Finding(area, "ok", f"{path} is closed to others.")


def _lake_store(settings: Settings) -> Iterator[Finding]:
    url = settings.lake_url
    area = "lake files"
    try:
        files = files_at(url)
        next(iter(files.walk(ENTITIES[0].landing.path)), None)
        space = files.space()
    except Exception as error:  # any library may stand behind the address, with errors of its own
        todo = "Set LAKE_URL to a folder or to an object store whose library is installed, with its credentials."
        yield Finding(area, "error", f"LAKE_URL cannot be listed ({type(error).__name__}).", todo)
        return
    folder = Path(files.uri(""))
    if not folder.is_absolute():
        yield Finding(area, "ok", "LAKE_URL can be listed.")
        yield space_for("the spool of the object store", "temporary folder", space)
        return
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding(area, "error", f"{folder} cannot be written.", "Give the account that loads the right to write.")
    yield space_for("the lake", str(folder), space)


def space_for(what: str, where: str, space: Space) -> Finding:
    """Whether there is room for the next load."""
    text = f"{space.free / 2**30:,.1f} of {space.total / 2**30:,.1f} GiB are free for {what} ({where})."
    if space.free >= SCARCE_BYTES:
        return Finding("disk", "ok", text)
    state: State = "error" if space.free < NO_ROOM_BYTES else "warning"
    return Finding("disk", state, text, "Free some space; `datalake reconcile` removes what is no longer needed.")


# -------------------------------------------------------------------------------------------- the database


def examine_database(settings: Settings, address: PostgresAddress) -> Iterator[Finding]:
    """The server, the lake in it, and Dagster's storage; each only if what it stands on is there."""
    if not asyncio.run(database_exists(address)):
        yield Finding("PostgreSQL", "warning", f"There is no {address} yet.", "`datalake migrate` makes it.")
        return
    yield from asyncio.run(_server(address))
    try:
        names = pending(address, project_files() / "sql" / "migrations")
    except DatalakeError as error:
        yield _failure("migrations", error)
        return
    if names:
        yield Finding("migrations", "warning", f"Pending: {', '.join(names)}.", "`datalake migrate` applies them.")
        return
    yield Finding("migrations", "ok", "The tables are up to date.")
    yield from asyncio.run(_contents(settings, address))
    if not asyncio.run(database_exists(address.with_database(settings.require("DAGSTER_POSTGRES_DB")))):
        yield Finding("Dagster", "ok", "It has no storage yet; the first `datalake run` or `dev` makes it.")
        return
    yield from _dagster(settings)


async def _server(address: PostgresAddress) -> list[Finding]:
    schemas = ["ops", *(name.schema for entity in ENTITIES for name in (entity.raw, entity.xform, entity.curated))]
    async with session(address, application_name="datalake doctor") as connection:
        with scrubbing("looking at the server"):
            asked = time.time()
            row = await connection.fetchrow(statement("doctor/session.sql"))
            answered = time.time()
            lacking = await connection.fetch(statement("doctor/grants.sql"), schemas)
    findings = [Finding("PostgreSQL", "ok", f"Version {row['version']}, {address}.")]
    findings.append(encryption_of(address, row["encrypted"], row["tls_version"]))
    findings.append(clock_skew(row["server_time"].timestamp() - (asked + answered) / 2, (answered - asked) / 2))
    for lack in lacking:
        what = f"Role {address.user} lacks {', '.join(lack['lacking'])} on {lack['object']}."
        todo = "Let the owner or a superuser grant it; ownership goes with `alter table … owner to`."
        findings.append(Finding("grants", "error", what, todo))
    if not lacking:
        findings.append(Finding("grants", "ok", f"Role {address.user} may do what loads and migrations need."))
    return findings


def encryption_of(address: PostgresAddress, encrypted: bool, version: str | None) -> Finding:
    """Whether what is sent to the server can be read on the way, or by somebody in its place."""
    if address.is_local:
        return Finding("TLS", "ok", "The server is on this machine; nothing crosses a network.")
    if not encrypted:
        todo = "Set POSTGRES_SSLMODE=verify-full and POSTGRES_CA."
        return Finding("TLS", "error", "Documents and the password cross the network unencrypted.", todo)
    if address.sslmode != "verify-full":
        todo = "Set POSTGRES_SSLMODE=verify-full, and POSTGRES_CA to the authority of the server."
        what = f"{version}, but the server's identity is not verified (sslmode {address.sslmode})."
        return Finding("TLS", "warning", what, todo)
    return Finding("TLS", "ok", f"{version}, and the server's certificate is verified.")


def clock_skew(seconds: float, uncertainty: float) -> Finding:
    """How far the clocks are apart, given how long it took to ask."""
    if abs(seconds) - uncertainty <= LARGEST_SKEW_S:
        return Finding("clock", "ok", f"This machine and the database agree to {abs(seconds):.1f} s.")
    ahead = "ahead of" if seconds > 0 else "behind"
    what = f"The clock of the database is {abs(seconds):.0f} s {ahead} this machine's."
    return Finding("clock", "error", what, "Let both follow a time server (NTP).")


async def _contents(settings: Settings, address: PostgresAddress) -> list[Finding]:
    findings = []
    async with session(address, application_name="datalake doctor") as connection:
        with scrubbing("looking at the lake"):
            open_documents = await connection.fetch(statement("doctor/open_quarantine.sql"))
            for row in open_documents:
                what = f"{row['documents']} documents of {row['entity']} are in quarantine since {row['oldest']}."
                findings.append(
                    Finding("quarantine", "warning", what, f"`datalake quarantine list --entity {row['entity']}`")
                )
            if not open_documents:
                findings.append(Finding("quarantine", "ok", "Nothing is in quarantine."))
            try:
                findings += await _freshness(settings, connection)
            except DatalakeError as error:
                findings.append(_failure("freshness", error))
    return findings


async def _freshness(settings: Settings, connection: asyncpg.Connection) -> list[Finding]:
    findings = []
    for entity in ENTITIES:
        lake = Lake(
            connection=connection,
            landing=Landing(ParquetStore(settings.lake_url), entity),
            services=load_services(entity).services,
            tolerances=settings.tolerances,
            clock=settings.clock,
        )
        for check in checks_of(entity):
            if check.name != "is_fresh":
                continue
            verdict = await check.evaluate(lake, settings.clock.today())
            what = f"{check.table}: {verdict.summary}"
            todo = "" if verdict.passed else f"Look at the runs of {entity.name}_daily, and at its schedule."
            findings.append(Finding("freshness", "ok" if verdict.passed else "warning", what, todo))
    return findings


# ------------------------------------------------------------------------------------------------- Dagster


def _dagster(settings: Settings) -> Iterator[Finding]:
    # Nothing is pending and both databases are there, so the stack finds everything as it needs it.
    with lake_stack(settings, with_dagster=True) as stack:
        backends = asyncio.run(_backends(stack.address))
        try:
            yield from _instance(backends, runs_are_here=stack.address.is_local)
        except Exception as error:  # Dagster lets errors of its drivers through
            todo = "Look at database DAGSTER_POSTGRES_DB; after an upgrade: `datalake exec dagster instance migrate`."
            yield Finding("Dagster", "error", f"Its storage cannot be read ({type(error).__name__}).", todo)


async def _backends(address: PostgresAddress) -> list[Backend]:
    async with session(address, application_name="datalake doctor") as connection:
        with scrubbing("looking at sessions"):
            return await backends_of_runs(connection)


def _instance(backends: list[Backend], *, runs_are_here: bool) -> list[Finding]:
    import dagster as dg

    from datalake_assets.recovery import runs as dead_runs

    with dg.DagsterInstance.get() as instance:
        runs = dead_runs.judged_runs(instance, backends, runs_are_here=runs_are_here, older_than_s=SILENT_FOR_S)
        pools = dead_runs.pools(instance)
        held = dead_runs.slots_of_ended_runs(instance)
    findings = [Finding("Dagster", "ok", f"Its storage answers; {len(runs)} runs are at work.")]
    for judged in runs:
        if judged.verdict.state in ("dead", "unknown"):
            what = f"Run {judged.facts.run_id} ({judged.facts.job}): {judged.verdict.why}"
            todo = "`datalake reconcile` ends it" + (
                "." if judged.verdict.state == "dead" else ", with --single-host where all runs work on this machine."
            )
            findings.append(Finding("dead runs", "warning", what, todo))
    for slots in held:
        what = f"{slots.slots} slot(s) of pool {slots.pool} are held by run {slots.run_id}, which has ended."
        findings.append(Finding("pool slots", "warning", what, "`datalake reconcile` frees them."))
    for pool in pools:
        findings.append(
            Finding("pool slots", "ok", f"{pool.slots - pool.taken} of {pool.slots} of {pool.name} are free.")
        )
    return findings


# ------------------------------------------------------------------------------------------------- helpers


def _reported(area: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except DatalakeError as error:
        yield _failure(area, error)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        yield Finding(area, "error", f"{error.strerror or type(error).__name__}{where}.", "Look at its permissions.")


def _failure(area: str, error: DatalakeError) -> Finding:
    return Finding(area, "error", error.what if not error.where else f"{error.what} Where: {error.where}.", error.todo)


def _and(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
