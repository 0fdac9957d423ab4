"""What a snapshot says that the one loaded before it did not: the only rows of which anything can follow.

To apply the same answer twice changes nothing: data stays written, what is gone stays gone, what failed keeps its
state. So a row that stands in both snapshots leaves the state as it is, and a snapshot that says what the one before
it said leaves all of it. What becomes of the other rows is decided in `raw.py`.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from datalake_assets.lake.documents import Key
from datalake_assets.lake.landing import Landing, Snapshot, keys_of
from datalake_assets.lake.outcomes import Outcome


@dataclass(frozen=True)
class Delta:
    """A snapshot beside the one loaded before it.

    Attributes:
        fresh: One byte for each row of the snapshot: 1 where it has to be looked at.
        gone: Keys that the snapshot before it named, and this complete one does not.
        repeated: Documents that stood in the snapshot before it too.
    """

    fresh: bytes
    gone: tuple[Key, ...]
    repeated: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing can follow from the snapshot."""
        return not self.gone and 1 not in self.fresh


def compare(landing: Landing, snapshot: Snapshot, before: Snapshot) -> Delta | None:
    """Find what is new in a snapshot; None if all of it has to be looked at.

    Documents are told apart by their digests, which cover the key too. A key has one document at most, and may have
    rows beside it that are none. Memory holds the digests of both snapshots.

    Args:
        landing: Where both are.
        snapshot: The one that is loaded.
        before: The one that the latest earlier date of its scope was loaded from.

    Raises:
        DamagedFileError: A file is missing or not what its manifest says.
    """
    if snapshot.complete and not before.complete:
        return None  # there may be keys that neither of them names
    if snapshot.content is not None and snapshot.content == before.content:
        return Delta(bytes(snapshot.manifest.rows), (), snapshot.outcomes.data)
    known, sent = _digests(landing, before), _digests(landing, snapshot)
    fresh = _not_in(sent, known)
    gone: tuple[Key, ...] = ()
    if snapshot.complete:
        is_missed = _not_in(known, sent)
        missed = set(_keys(landing, before, is_missed)).difference(_keys(landing, snapshot, fresh))
        # A row that was no document is missed although the document beside it stands in both.
        repeated = _keys(landing, before, is_missed.translate(_OPPOSITE), among=missed)
        gone = tuple(sorted(missed.difference(repeated)))
    return Delta(fresh, gone, fresh.count(0))


_OPPOSITE: Final = bytes((1, 0)) + bytes(254)


def _digests(landing: Landing, snapshot: Snapshot) -> pa.ChunkedArray:
    """The digest of every row that is a document, null for the others."""
    kind = landing.schema.field("digest").type
    chunks = [
        pc.if_else(pc.equal(batch.column("outcome"), Outcome.DATA.value), batch.column("digest"), pa.scalar(None, kind))
        for batch in landing.read(snapshot, ("outcome", "digest"), verify=False)
    ]
    return pa.chunked_array(chunks, kind)


def _not_in(digests: pa.ChunkedArray, others: pa.ChunkedArray) -> bytes:
    """One byte for each digest: 1 where it is null or none of the others."""
    is_new = pc.invert(pc.is_in(digests, value_set=others, skip_nulls=True))
    flags = (chunk.cast(pa.uint8()) for chunk in is_new.chunks)
    return b"".join(memoryview(chunk.buffers()[1])[: len(chunk)] for chunk in flags)


def _keys(landing: Landing, snapshot: Snapshot, wanted: bytes, among: Set[Key] | None = None) -> Iterator[Key]:
    """The keys of some rows, or those only that are among some keys; a row without its whole key has none."""
    names = landing.entity.key_names
    if among is not None:
        parts = pa.array([key[0] for key in among], landing.schema.field(names[0]).type)
    first = 0
    for batch in landing.read(snapshot, names, verify=False) if among is None or among else ():
        mask = pa.array(memoryview(wanted)[first : first + batch.num_rows], pa.uint8()).cast(pa.bool_())
        first += batch.num_rows
        if among is not None:
            mask = pc.and_(mask, pc.is_in(batch.column(names[0]), value_set=parts))
        for key in keys_of(landing.entity, batch.filter(mask)):
            if None not in key and (among is None or key in among):
                yield key
