"""Where what must never be kept could have been kept: a search through folders, Parquet files and whole databases.

What is searched for are invented sensitive values, by their forms, and secrets, by their values in any encoding that a
text may give them.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq

from datalake_assets.settings import VARIABLES
from datalake_assets.storage.postgres import PostgresAddress, session

SENSITIVE = (
    rb"\b900-?\d{2}-?\d{4}\b(?![-\d])",
    rb"must be removed",
    rb'"(?i:ssn|socialsecuritynumber|sexualorientation|finaid|finaidreceived)\\*"',
)
"""Social security numbers, the text in every other sensitive value, and the keys themselves, as the simulator sends
them. The keys are quoted because their bare names stand in settings and in checks."""

SHORTEST_SECRET = 6


class Canaries:
    """What is searched for.

    Args:
        secrets: Values that must stand nowhere.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form.encode() for secret in secrets for form in _forms(secret)}
        self.pattern = re.compile(b"|".join([*SENSITIVE, *map(re.escape, sorted(forms))]))

    def in_bytes(self, data: bytes, where: str) -> list[str]:
        """Hits in a text, told by place and kind but not by value."""
        return [f"{where}: {_kind(match[0])}" for match in self.pattern.finditer(data)]

    def in_folder(self, folder: Path) -> list[str]:
        """Hits in every file below a folder; of Parquet also in what its columns hold once it is unpacked."""
        hits = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            where = str(path.relative_to(folder))
            hits += self.in_bytes(path.read_bytes(), where)
            if path.suffix == ".parquet":
                hits += self.in_bytes(b"\n".join(_unpacked(path)), where)
        return hits

    async def in_database(self, address: PostgresAddress) -> list[str]:
        """Hits in every row of every table of a database."""
        hits = []
        async with session(address, application_name="search") as connection:
            tables = await connection.fetch(
                "select quote_ident(table_schema) || '.' || quote_ident(table_name) as name"
                " from information_schema.tables"
                " where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')"
            )
            for table in tables:
                rows = await connection.fetch(f"select t::text as text from {table['name']} as t")
                # A row as text doubles the quotes of the texts in it.
                text = "\n".join(row["text"] for row in rows).replace('""', '"')
                hits += self.in_bytes(text.encode(), table["name"])
        return hits


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets among environment variables."""
    names = [variable.name for variable in VARIABLES if variable.secret]
    return [value for name in names if len(value := environment.get(name, "")) >= SHORTEST_SECRET]


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    # Within a longer text every third character begins a new group of four.
    for lead in ("", "a", "aa"):
        whole = b64encode((lead + secret).encode()).decode().rstrip("=")
        yield whole[len(lead) + 1 if lead else 0 : -2]


def _unpacked(path: Path) -> Iterator[bytes]:
    file = pq.ParquetFile(path)
    for batch in file.iter_batches():
        for column in batch.columns:
            for value in column.to_pylist():
                yield value if isinstance(value, bytes) else str(value).encode()


def _kind(found: bytes) -> str:
    return "a sensitive value" if re.match(b"|".join(SENSITIVE), found) else "a secret"
