"""Replays carried through: from mended documents to tables as a first good load would have left them.

Judging a document again and amending the snapshot of its day is done in `quarantine.py`, loading in
`rebuild.py`. Here both become one step that can be repeated after any interruption, and that says what changed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import asyncpg

from datalake_assets import exact_json
from datalake_assets.clock import Clock
from datalake_assets.errors import DatalakeError
from datalake_assets.lake import quarantine
from datalake_assets.lake.documents import Key, judge
from datalake_assets.lake.ledger import Receipt
from datalake_assets.lake.quarantine import Quarantined, QuarantineError
from datalake_assets.lake.rebuild import Rebuild
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.statements import statement


@dataclass(frozen=True)
class ChangePoint:
    """A date on which a document changed: I, U or D, with the digest of what it became."""

    load_date: date
    operation: str
    digest: bytes | None


@dataclass(frozen=True)
class Replayed:
    """One document that left quarantine.

    Attributes:
        document: The document as it was quarantined.
        key: Its key, which may have been unknown before it was mended.
        added: Change points that its history has gained.
        removed: Change points that its history has lost: a later load no longer says anything new.
    """

    document: Quarantined
    key: Key
    added: tuple[ChangePoint, ...]
    removed: tuple[ChangePoint, ...]


@dataclass(frozen=True)
class Refused:
    """One document that stays in quarantine, and why."""

    document: Quarantined
    reason: str


@dataclass(frozen=True)
class ReplayReport:
    """What became of a replay.

    Attributes:
        replayed: Documents that left quarantine.
        refused: Documents that stay.
        receipts: What was loaded, in order.
        problems: Partitions whose snapshot is amended, and whose tables could not be loaded.
    """

    replayed: list[Replayed]
    refused: list[Refused]
    receipts: list[Receipt]
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Replay:
    """Replays documents of one lake.

    Args:
        rebuilds: How to load the tables, by name of the entity.
        run_id: Who replays.
        clock: For the moment of an amendment.
    """

    rebuilds: Mapping[str, Rebuild]
    run_id: str
    clock: Clock

    async def one(
        self, connection: asyncpg.Connection, quarantine_id: int, document: bytes | None = None
    ) -> ReplayReport:
        """Replay one document; repeated after an interruption, it finishes what was begun.

        Args:
            connection: A connection of its own, outside any transaction.
            quarantine_id: Which document.
            document: A mended document; None judges what was kept by the rules of today.

        Raises:
            QuarantineError: It was replayed before, still breaks a rule, or cannot be replayed.
            LoadError: The snapshot is amended, but a table refused to be loaded; the error says how to go on.
        """
        kept = await quarantine.show(connection, quarantine_id)
        if reason := self._not_replayed(kept):
            raise QuarantineError("The row is not replayed here.", where=f"{kept.entity}, {kept.source}", todo=reason)
        await self._mirror(connection, [kept])
        kept = await quarantine.show(connection, quarantine_id)
        if kept.state != "open" and await self._rebuild(kept).is_behind(connection, slice_of(kept)):
            return ReplayReport([], [], await self._load(connection, slice_of(kept)))
        key = _key(kept, document)
        before = await self._history(connection, kept, key)
        piece = await self._amend(connection, kept, document)
        receipts = await self._load(connection, piece)
        after = await self._history(connection, kept, key)
        return ReplayReport([_replayed(kept, key, before, after)], [], receipts)

    async def every_open(self, connection: asyncpg.Connection, entity: str | None = None) -> ReplayReport:
        """Replay all open documents that the rules of today let pass; each partition is loaded once.

        Documents of which several share a key are left: somebody has to choose between them.

        Args:
            connection: A connection of its own, outside any transaction.
            entity: Only documents of this entity, or rows of this table.
        """
        listed = await quarantine.listing(connection, entity=entity)
        await self._mirror(connection, [item for item in listed if item.entity in self.rebuilds])
        listed = await quarantine.listing(connection, entity=entity)
        refused = [Refused(item, reason) for item in listed if (reason := self._not_replayed(item))]
        found = [item for item in listed if item.entity in self.rebuilds]
        rivals = Counter((item.entity, item.load_date, item.key) for item in found if all(item.key))
        amended: list[tuple[Quarantined, Key, list[ChangePoint]]] = []
        pieces: dict[LoadSlice, None] = {}
        for item in reversed(found):
            if item.rule == "duplicate_document" or rivals[item.entity, item.load_date, item.key] > 1:
                reason = "Several documents have this key; choose one and replay it by its number."
                refused.append(Refused(item, reason))
                continue
            try:
                kept = await quarantine.show(connection, item.quarantine_id)
                key = _key(kept, None)
                before = await self._history(connection, kept, key)
                pieces[await self._amend(connection, kept, None)] = None
            except QuarantineError as error:
                refused.append(Refused(item, str(error)))
            else:
                amended.append((item, key, before))
        receipts: list[Receipt] = []
        problems: list[str] = []
        for piece in sorted(pieces, key=lambda piece: (piece.entity.name, piece.partition)):
            try:
                receipts += await self._load(connection, piece)
            except DatalakeError as error:
                problems.append(str(error))
        replayed = [
            _replayed(item, key, before, await self._history(connection, item, key)) for item, key, before in amended
        ]
        return ReplayReport(replayed, refused, receipts, problems)

    async def _mirror(self, connection: asyncpg.Connection, documents: Iterable[Quarantined]) -> None:
        """Settle what an interrupted replay left: documents that their snapshot no longer holds."""
        for entity, piece in {(item.entity, slice_of(item)): None for item in documents}:
            landing = self.rebuilds[entity].landing
            snapshot = landing.current(piece)
            if snapshot is not None:
                async with connection.transaction():
                    await quarantine.mirror(connection, landing, snapshot, self.run_id)

    async def _amend(self, connection: asyncpg.Connection, kept: Quarantined, document: bytes | None) -> LoadSlice:
        return await quarantine.replay(
            connection,
            self._rebuild(kept).landing,
            kept.quarantine_id,
            document=document,
            run_id=self.run_id,
            clock=self.clock,
        )

    async def _load(self, connection: asyncpg.Connection, piece: LoadSlice) -> list[Receipt]:
        return list(await self.rebuilds[piece.entity.name].load(connection, piece, self.run_id))

    async def _history(self, connection: asyncpg.Connection, kept: Quarantined, key: Key) -> list[ChangePoint]:
        entity = quarantine.entity_named(kept.entity)
        query = statement("replay/change_points.sql", raw=entity.raw, key_names=entity.key_names)
        rows = await connection.fetch(query, *key)
        return [ChangePoint(row["load_date"], row["operation"].decode(), row["digest"]) for row in rows]

    def _not_replayed(self, kept: Quarantined) -> str | None:
        """What to do instead with a row of a declared table: its snapshot shows its source as it is."""
        if kept.entity in self.rebuilds:
            return None
        return (
            f"Correct it at its source, or the declaration of {kept.entity}, and materialise the partition again, "
            "landing first; it then leaves quarantine."
        )

    def _rebuild(self, kept: Quarantined) -> Rebuild:
        return self.rebuilds[kept.entity]


def slice_of(kept: Quarantined) -> LoadSlice:
    """The partition that a quarantined document belongs to."""
    entity = quarantine.entity_named(kept.entity)
    columns = {column.name: column for column in entity.key}
    words = kept.scope.split("|") if kept.scope else []
    scope = tuple(
        int(word) if columns[name].type == "integer" else word for name, word in zip(entity.scope, words, strict=True)
    )
    return LoadSlice(entity, kept.load_date, scope)


def _key(kept: Quarantined, document: bytes | None) -> Key:
    content = kept.document if document is None else document
    value: Any = None if content is None else exact_json.loads(content)
    return judge(quarantine.entity_named(kept.entity), value, kept.source).key


def _replayed(kept: Quarantined, key: Key, before: list[ChangePoint], after: list[ChangePoint]) -> Replayed:
    added = tuple(point for point in after if point not in before)
    removed = tuple(point for point in before if point not in after)
    return Replayed(kept, key, added, removed)
