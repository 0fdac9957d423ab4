"""Documents that could not be kept: listed, shown, and replayed once the rule or the document is mended.

The table mirrors what the snapshots hold, so it can be made anew from them; a replay amends the snapshot of its
day, after which the tables follow as from a first good load. Judging documents is in `documents.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b

import asyncpg

from datalake_assets import exact_json
from datalake_assets.clock import Clock
from datalake_assets.entities import ENTITIES, Entity
from datalake_assets.lake.documents import DUPLICATE_DOCUMENT, Answer, as_duplicate, judge, settle_duplicates
from datalake_assets.lake.landing import Landing, Snapshot
from datalake_assets.lake.ledger import Ledger
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.slices import LoadError, LoadSlice
from datalake_assets.statements import statement

_CHUNK_ROWS = 500


class QuarantineError(LoadError):
    """A quarantined document cannot be shown or replayed."""


@dataclass(frozen=True)
class Quarantined:
    """One quarantined document; `document` only where it was asked for."""

    quarantine_id: int
    entity: str
    load_date: date
    scope: str
    key: tuple[str, ...]
    rule: str
    reason: str
    source: str
    state: str
    document: bytes | None = None


async def mirror(connection: asyncpg.Connection, landing: Landing, snapshot: Snapshot, run_id: str) -> int:
    """Make the table show the quarantined rows of a snapshot, inside the caller's transaction.

    Open rows of the same partition that the snapshot no longer holds are marked superseded; closed ones that it
    holds again are opened.

    Returns:
        How many rows of the snapshot are in quarantine.
    """
    piece = snapshot.slice
    answers = landing.answers(snapshot) if snapshot.outcomes.quarantined else iter(())
    place = (piece.entity.name, piece.load_date, piece.scope_text)
    return await mirror_answers(connection, place, answers, run_id)


async def mirror_answers(
    connection: asyncpg.Connection, place: tuple[str, date, str], answers: Iterable[Answer], run_id: str
) -> int:
    """Make the table show the quarantined ones of some answers for a partition, inside the caller's transaction.

    Args:
        connection: The lake.
        place: What the partition is called: entity or table, date, scope.
        answers: All of the partition; others than quarantined ones are passed over.
        run_id: Who loads them.

    Returns:
        How many of them are in quarantine.
    """
    fingerprints: list[bytes] = []
    rows: list[tuple[object, ...]] = []
    for answer in answers:
        if answer.outcome is not Outcome.QUARANTINED:
            continue
        mark = fingerprint(answer)
        fingerprints.append(mark)
        key = ["" if part is None else str(part) for part in answer.key]
        rows.append((*place, key, answer.rule, answer.reason, answer.source, answer.document, mark, run_id))
        if len(rows) >= _CHUNK_ROWS:
            await connection.executemany(statement("quarantine/upsert.sql"), rows)
            rows = []
    await connection.executemany(statement("quarantine/upsert.sql"), rows)
    await connection.execute(statement("quarantine/supersede.sql"), *place, fingerprints)
    return len(fingerprints)


async def listing(
    connection: asyncpg.Connection, *, entity: str | None = None, state: str | None = "open"
) -> list[Quarantined]:
    """Quarantined documents, newest load date first, without their content."""
    rows = await connection.fetch(statement("quarantine/list.sql"), entity, state)
    return [_quarantined(row) for row in rows]


async def show(connection: asyncpg.Connection, quarantine_id: int) -> Quarantined:
    """One quarantined document with what could be kept of it.

    Raises:
        QuarantineError: There is no such number.
    """
    row = await connection.fetchrow(statement("quarantine/show.sql"), quarantine_id)
    if row is None:
        raise QuarantineError(
            f"There is no quarantined document {quarantine_id}.",
            todo="`datalake quarantine list` shows the numbers.",
        )
    return _quarantined(row, with_document=True)


async def replay(
    connection: asyncpg.Connection,
    landing: Landing,
    quarantine_id: int,
    *,
    document: bytes | None,
    run_id: str,
    clock: Clock,
) -> LoadSlice:
    """Judge a quarantined document again and, if it passes, amend the snapshot of its day with it.

    Args:
        connection: The lake.
        landing: Snapshots of the document's entity.
        quarantine_id: Which document.
        document: A mended document; None judges what was kept by the rules of today.
        run_id: Who replays.
        clock: For the moment of the amendment.

    Returns:
        The partition to materialise below landing, so that the tables follow.

    Raises:
        QuarantineError: It was replayed before, still breaks a rule, or is a document of another key.
        SupersededError: The partition is being landed at this moment.
    """
    kept = await show(connection, quarantine_id)
    where = f"{kept.entity}, partition {kept.load_date}, quarantined document {quarantine_id}"
    if kept.state != "open":
        raise QuarantineError(f"The document is {kept.state} already.", where=where)
    entity = entity_named(kept.entity)
    content = document if document is not None else kept.document
    if content is None:
        raise QuarantineError(
            "Nothing of the document could be kept, so it cannot be judged again.",
            where=where,
            todo="Give the mended document with --document FILE.",
        )
    answer = judge(entity, exact_json.loads(content), kept.source)
    if answer.outcome is not Outcome.DATA:
        raise QuarantineError(
            f"The document still breaks rule {answer.rule}: {answer.reason}",
            where=where,
            todo="Give a mended document with --document FILE.",
        )
    if any(known not in ("", str(part)) for known, part in zip(kept.key, answer.key, strict=True)):
        raise QuarantineError("The mended document has another key than the quarantined one.", where=where)
    scope = tuple(answer.key[entity.key_names.index(name)] or "" for name in entity.scope)
    piece = LoadSlice(entity, kept.load_date, scope)
    ledger = Ledger()
    attempt = await ledger.begin(connection, str(entity.landing), piece.partition, run_id)
    snapshot = landing.require(piece)
    mark = await connection.fetchval(statement("quarantine/fingerprint.sql"), quarantine_id)
    amended = landing.publish(
        piece,
        _amended(landing.answers(snapshot), mark, answer, entity, where, chosen=kept.rule == DUPLICATE_DOCUMENT),
        complete=snapshot.named_all,
        source=snapshot.source,
        run_id=run_id,
        clock=clock,
        keep_current=True,
    )
    async with connection.transaction():
        await ledger.check_fence(connection, str(entity.landing), piece.partition, attempt)
        await connection.execute(statement("quarantine/resolve.sql"), quarantine_id)
        await mirror(connection, landing, amended, run_id)
        await ledger.write(connection, amended.receipt(run_id), attempt)
        landing.promote(amended)
    return piece


def fingerprint(answer: Answer) -> bytes:
    """Identity of a quarantined row within its partition."""
    parts = (answer.source, answer.rule or "", answer.document or b"")
    text = b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    return blake2b(text, digest_size=16).digest()


def entity_named(name: str) -> Entity:
    """The entity of a name.

    Raises:
        LoadError: There is none.
    """
    for entity in ENTITIES:
        if entity.name == name:
            return entity
    known = ", ".join(entity.name for entity in ENTITIES)
    raise LoadError(f"There is no entity {name!r}; there are: {known}.")


def _amended(
    answers: Iterator[Answer], mark: bytes, mended: Answer, entity: Entity, where: str, *, chosen: bool
) -> Iterator[Answer]:
    """The answers with one document mended.

    Those that share its key are judged and settled anew, as in a first load; but a document that was in quarantine
    only for the sake of another one of its key was chosen by whoever replays it, and changes places with that one.
    """
    found = False
    rivals: list[Answer] = []
    for answer in answers:
        if answer.outcome is Outcome.QUARANTINED and fingerprint(answer) == mark:
            found = True
        elif answer.key == mended.key:
            rivals.append(answer)
        else:
            yield answer
    if not found:
        raise QuarantineError(
            "The partition's snapshot no longer holds the document.",
            where=where,
            todo="Materialise the landing partition again; `datalake quarantine list` then shows what is left.",
        )
    if chosen:
        yield mended
        yield from (as_duplicate(rival) if rival.outcome is Outcome.DATA else rival for rival in rivals)
    else:
        yield from settle_duplicates([mended, *(_judged_anew(entity, rival) for rival in rivals)], entity)


def _judged_anew(entity: Entity, answer: Answer) -> Answer:
    if answer.outcome is not Outcome.QUARANTINED or answer.document is None:
        return answer
    return judge(entity, exact_json.loads(answer.document), answer.source)


def _quarantined(row: asyncpg.Record, *, with_document: bool = False) -> Quarantined:
    return Quarantined(
        quarantine_id=row["quarantine_id"],
        entity=row["entity"],
        load_date=row["load_date"],
        scope=row["scope"],
        key=tuple(row["document_key"]),
        rule=row["rule"],
        reason=row["reason"],
        source=row["source"],
        state=row["state"],
        document=row["document"] if with_document else None,
    )
