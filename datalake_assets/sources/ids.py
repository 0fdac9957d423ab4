"""Ids of people, as every source that names some gives them: an answer that was judged, or an error.

The ids are texts as they were sent, blanks at their ends removed. Whether an id has the university's form,
and what follows from a person that several sources name, is decided in the lake and not here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from datalake_assets.exact_json import DuplicateKeys, JsonValue
from datalake_assets.sources.peoplesoft import PeopleSoftQueries, UnusableRow

CAMPUS_ID: Final = "CAMPUS_ID"
"""Column of PeopleSoft's id queries."""


@dataclass(frozen=True, kw_only=True)
class IdAnswer:
    """The ids that one source names, and what is known about their completeness.

    Attributes:
        rows: Ids in the order of the answer, trimmed, repetitions included.
        unusable: Entries whose id, or whether it counts, cannot be read. They may be anybody.
        nameless: Entries whose id is blank, as sources write that there is none. They are nobody.
        received: Entries that the source sent, those that do not count included.
        complete: Whether the answer shows that it names everybody; where it cannot, ids that it lacks prove nothing.
        pointer: Source, question and request id; no personal data.
        seconds: From the first request to the last byte, waits included.
        bytes_in: Size of all bodies on the wire.
    """

    rows: tuple[str, ...] = field(repr=False)
    unusable: tuple[UnusableRow, ...]
    nameless: int
    received: int
    complete: bool
    pointer: str
    seconds: float
    bytes_in: int


def read_id(value: JsonValue, name: str, entry: JsonValue) -> str | UnusableRow:
    """An id, trimmed and blank if there is none, or why it cannot be read.

    Args:
        value: What stands where the id belongs.
        name: Of the field.
        entry: The whole entry, kept with what condemns it.
    """
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return UnusableRow("no_id", f"The entry has no {name}, not even a blank one.", entry)
    return UnusableRow("id_not_text", f"The {name} of the entry is not a text.", entry)


def sorted_out(read: Iterable[str | UnusableRow]) -> tuple[tuple[str, ...], tuple[UnusableRow, ...], int]:
    """Ids, what could not be read, and how many have no id."""
    rows: list[str] = []
    unusable: list[UnusableRow] = []
    nameless = 0
    for item in read:
        if isinstance(item, UnusableRow):
            unusable.append(item)
        elif item:
            rows.append(item)
        else:
            nameless += 1
    return tuple(rows), tuple(unusable), nameless


def row_defect(row: JsonValue) -> UnusableRow | None:
    """Why a row cannot even be looked into."""
    if not isinstance(row, dict):
        return UnusableRow("row_not_object", "The row is not an object.", row)
    if isinstance(row, DuplicateKeys):
        return UnusableRow("duplicate_key", "The row names a field twice.", row)
    return None


async def peoplesoft_ids(queries: PeopleSoftQueries, query: str) -> IdAnswer:
    """Ask PeopleSoft for the ids that a query names, in its column `CAMPUS_ID`.

    Args:
        queries: An open client.
        query: Name of a query without prompts, e.g. `BU_PARM_0216_QRY`.

    Raises:
        TransientSourceError: The source failed on every attempt.
        PermanentSourceError: It refused, or its answer cannot be trusted; an empty one is none.
    """
    answer = await queries.run_query(query)
    read = [row if isinstance(row, UnusableRow) else read_id(row.get(CAMPUS_ID), CAMPUS_ID, row) for row in answer.rows]
    rows, unusable, nameless = sorted_out(read)
    return IdAnswer(
        rows=rows,
        unusable=unusable,
        nameless=nameless,
        received=len(read),
        complete=answer.proof != "none",
        pointer=answer.pointer,
        seconds=answer.seconds,
        bytes_in=answer.bytes_in,
    )
