"""What a lake on simulated sources must hold, and what of it does not: the comparison behind `datalake demo`.

The simulator says what was true on each day; the lake's own account says which keys it could not get or keep, and
those must stand as they did. Loading, and what is shown of it, do not belong here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from datalake_assets import exact_json
from datalake_assets.entities import TERM, Entity
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.landing import Landing, Snapshot, read_outcomes
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.statements import statement

TextKey = tuple[str, ...]


@dataclass
class Expectation:
    """What the lake must hold of one entity after the days taken in so far.

    Attributes:
        entity: Which entity.
        digests: Digest of the document by key, keys as text.
    """

    entity: Entity
    digests: dict[TextKey, str] = field(default_factory=dict)

    def take(self, truth: Iterable[Mapping[str, Any]], landing: Landing, snapshot: Snapshot) -> list[str]:
        """Take in a snapshot that was loaded.

        Args:
            truth: Key and digest of every document that there was, as the simulator tells them.
            landing: Where snapshots are read.
            snapshot: What the lake landed.

        Returns:
            What is wrong with the snapshot itself.
        """
        true = {tuple(map(str, row["key"])): row["digest"] for row in truth}
        columns = [*self.entity.key_names, "outcome"]
        outcomes: dict[TextKey, Outcome] = {}
        for key, outcome in read_outcomes(self.entity, landing.read(snapshot, columns)):
            # A key with data counts as answered, even if further documents of it were quarantined.
            if None not in key and (outcome is Outcome.DATA or tuple(map(str, key)) not in outcomes):
                outcomes[tuple(map(str, key))] = outcome
        of_scope = {key for key in self.digests if self._is_in_scope(key, snapshot)}
        for key, outcome in outcomes.items():
            if outcome is Outcome.DATA:
                self.digests[key] = true.get(key, "a document that no source has")
            elif outcome is Outcome.ABSENT:
                self.digests.pop(key, None)
        if not snapshot.complete:
            return []
        for key in of_scope - outcomes.keys():
            del self.digests[key]
        lost = len(true.keys() - outcomes.keys())
        return [f"{lost} keys that there were are missing from a snapshot that calls itself complete"] if lost else []

    def _is_in_scope(self, key: TextKey, snapshot: Snapshot) -> bool:
        values = dict(zip(self.entity.key_names, key, strict=True))
        scope = zip(self.entity.scope, snapshot.slice.scope, strict=True)
        return all(values[name] == str(value) for name, value in scope)


async def read_contents(
    connection: asyncpg.Connection, entity: Entity, *, service_documents: bool = False
) -> dict[str, Any]:
    """What the lake holds of an entity, in the form of the simulator's truth.

    Args:
        connection: The lake.
        entity: Which entity.
        service_documents: Also tell the digest of every document that a service sees.
    """
    names = {
        "entity": entity,
        "key_names": entity.key_names,
        "raw": entity.raw,
        "xform": entity.xform,
        "curated": entity.curated,
        "document": entity.document_column,
    }
    current = await connection.fetch(statement("demo/current.sql", **names))
    history = await connection.fetch(statement("demo/history.sql", **names))
    services = await connection.fetch(statement("demo/services.sql", **names))
    contents: dict[str, Any] = {
        "keys": [{"key": row["key"], "digest": row["digest"]} for row in current],
        "history": [dict(row.items()) for row in history],
        "services": {row["service"]: row["rows_seen"] for row in services},
    }
    if entity is TERM:
        active = await connection.fetch(statement("demo/active_terms.sql"))
        contents["active_terms"] = [dict(row.items()) for row in active]
    elif service_documents:
        seen: dict[str, list[dict[str, Any]]] = {}
        async with connection.transaction():
            async for row in connection.cursor(statement("demo/service_documents.sql", **names), prefetch=1_000):
                document = exact_json.loads(row["document"])
                seen.setdefault(row["service"], []).append({"key": row["key"], "digest": digest(document).hex()})
        contents["service_documents"] = seen
    return contents


def differences(contents: Mapping[str, Any], truth: Mapping[str, Any]) -> list[str]:
    """What contents of the lake have, or lack, against a truth; parts that the truth does not name are not compared."""
    found = []
    for name in ("keys", "history", "active_terms"):
        if name not in truth:
            continue
        have = {_text(row) for row in contents[name]}
        must = {_text(row) for row in truth[name] or []}
        if have != must or len(contents[name]) != len(truth[name] or []):
            found.append(f"{name}: {len(must - have)} missing, {len(have - must)} that should not be")
    return found


def _text(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_SORT_KEYS)
