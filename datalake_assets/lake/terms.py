"""Which terms are active: those that Term's selection named on its last good day.

How they are selected is in `sql/term_curated/`; what is loaded for them does not belong here.
"""

import asyncpg

from datalake_assets.entities import COURSE, TERM
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement


class NoActiveTermsError(LoadError):
    """No term is active, so nothing can be loaded by term."""


async def active_terms(connection: asyncpg.Connection) -> list[int]:
    """Codes of the active terms, in order.

    Raises:
        NoActiveTermsError: There is none; it never means that courses are gone.
    """
    rows = await connection.fetch(statement(f"{COURSE.raw.path}/loaded_scopes.sql"))
    if not rows:
        raise NoActiveTermsError(
            "No term is active: Term was never loaded, or its last load named none.",
            where=str(TERM.curated),
            todo="Run `datalake run term_daily`, and look at the checks of the term tables.",
        )
    return sorted(int(row["term_code"]) for row in rows)
