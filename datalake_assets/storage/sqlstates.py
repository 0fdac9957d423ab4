"""What PostgreSQL's SQLSTATEs mean to an operator: a sentence, advice, and whether repeating may help.

Only knowledge about codes stands here; turning an error into one of ours is in `postgres.py`.
The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from typing import Final, NamedTuple


class Meaning(NamedTuple):
    """What happened, and what to do next."""

    what: str
    todo: str


TRANSIENT: Final = frozenset(
    (
        # The connection, not the work.
        *("08000", "08001", "08003", "08004", "08006", "08007"),
        # Read-only: a standby, or a server that is being moved.
        "25006",
        # The session was ended for idling.
        *("25P03", "57P05"),
        # Serialisation failure, unknown outcome, deadlock.
        *("40001", "40003", "40P01"),
        # Out of memory, out of connections.
        *("53200", "53300"),
        # Object in use, lock not available.
        *("55006", "55P03"),
        # Cancelled, by hand or by statement_timeout.
        "57014",
        # Shut down, crashed, starting.
        *("57P01", "57P02", "57P03"),
    )
)
"""SQLSTATEs after which the same work may succeed if it is repeated. All others need somebody to act; a full
disk (53100) is among them, because repeating only fills it again."""

QUOTABLE_CLASSES: Final = frozenset(("08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57"))
"""Classes whose primary message names objects and conditions; those of other classes may quote a value."""

_MEANINGS: Final = {
    "08": Meaning("The connection to the server was lost.", "Run again; look into the server's log if it repeats."),
    "21000": Meaning("A statement met the same key twice.", "Remove duplicates before the statement."),
    "22": Meaning("A value does not fit its type or column.", "Find the document named above; mend or quarantine it."),
    "22001": Meaning("A text is longer than its column allows.", "Widen the column, or mend the source."),
    "22003": Meaning("A number is out of range for its column.", "Widen the column, or mend the source."),
    "22021": Meaning("A text holds bytes that its encoding forbids, such as NUL.", "Mend or quarantine the document."),
    "22P02": Meaning("A text cannot be read as the type of its column.", "Mend or quarantine the document."),
    "22P05": Meaning("A text holds a character that cannot be stored.", "Mend or quarantine the document."),
    "23": Meaning("A row breaks a rule of the table.", "Look at the rule named above and at what the source sent."),
    "23502": Meaning("A row lacks a value that its column requires.", "Mend the source, or allow nulls."),
    "23503": Meaning("A row refers to one that does not exist.", "Load the table that it refers to first."),
    "23505": Meaning("Two rows have the same key.", "Look for duplicates, and for a slice that was loaded twice."),
    "25006": Meaning("The server is read-only.", "Connect to the primary, or wait for the switch-over to end."),
    "25P02": Meaning("The transaction had already failed.", "Look for the first error of this run."),
    "25P03": Meaning("The server ended a session that idled in a transaction.", "Run again; report it if it repeats."),
    "28": Meaning("The server does not let this role in.", "Check POSTGRES_USER, and pg_hba.conf on the server."),
    "28P01": Meaning("The password was refused.", "Check POSTGRES_USER and POSTGRES_PASS."),
    "3D000": Meaning("The database does not exist.", "Check POSTGRES_DB, or create the database."),
    "3F000": Meaning("A schema does not exist.", "Run `datalake migrate`."),
    "40001": Meaning("The transaction met another one and was rolled back.", "Run again."),
    "40P01": Meaning("Two transactions waited for each other; this one was rolled back.", "Run again."),
    "42": Meaning("PostgreSQL refuses the statement.", "Check that the tables are migrated: `datalake migrate`."),
    "42501": Meaning("The role lacks a privilege.", "Grant it to the role in POSTGRES_USER."),
    "42P01": Meaning("A table does not exist.", "Run `datalake migrate`."),
    "42P07": Meaning("The table exists already.", "Look for another writer of the same table."),
    "53100": Meaning("The disk of the server is full.", "Free space there, then run again; nothing was changed."),
    "53200": Meaning("The server is out of memory.", "Lower work_mem there, or the number of parallel runs."),
    "53300": Meaning(
        "The server has no connection left.", "Lower the number of parallel runs, or raise max_connections."
    ),
    "54": Meaning("A value or statement exceeds a limit of PostgreSQL.", "Quarantine the document, or split the work."),
    "55P03": Meaning("A lock was not free in time.", "Run again; pg_stat_activity shows who holds it."),
    "57014": Meaning("The statement was cancelled.", "Run again; if nobody cancelled it, check statement_timeout."),
    "57P01": Meaning("An administrator ended the server process.", "Run again."),
    "57P02": Meaning("The server crashed and restarts.", "Run again, and look into the server's log."),
    "57P03": Meaning("The server is starting, stopping or recovering.", "Run again in a moment."),
    "58": Meaning("The server cannot read or write its files.", "Look into the server's log and at its disk."),
    "XX": Meaning("The server met an internal error.", "Look into its log, and check its disk and backups."),
}


def meaning(sqlstate: str) -> Meaning:
    """What a code means: its own entry, else that of its class."""
    unknown = Meaning("PostgreSQL reports an error.", "Look up the SQLSTATE, and look into the server's log.")
    return _MEANINGS.get(sqlstate) or _MEANINGS.get(sqlstate[:2]) or unknown
