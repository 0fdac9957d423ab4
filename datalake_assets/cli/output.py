"""What commands print: tables for people, one JSON document for programs, progress for those who wait.

Results go to standard output; progress and hints go to standard error, so that `--json` prints nothing else.
What is worth printing is decided by each command.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from datalake_assets import exact_json
from datalake_assets.exact_json import JsonValue

T = TypeVar("T")

PLAIN_LINE_EVERY_S: Final = 5.0
"""Where progress cannot be drawn, a line at most this often."""

_STYLES: Final = {"ok": "green", "passed": "green", "warning": "yellow", "error": "red", "FAILED": "bold red"}
_UNWRAPPED_COLUMNS: Final = 10_000


def print_json(value: JsonValue) -> None:
    """Print one JSON document; dates are written as text, numbers exactly."""
    click.echo(indented(value))


def indented(value: JsonValue, depth: int = 0) -> str:
    """A value as JSON with two blanks a level; every number keeps its digits."""
    outer, inner = "  " * depth, "  " * (depth + 1)
    if isinstance(value, dict) and value:
        members = (f"{inner}{_scalar(str(key))}: {indented(member, depth + 1)}" for key, member in value.items())
        return "{\n" + ",\n".join(members) + f"\n{outer}}}"
    if isinstance(value, list | tuple) and value:
        items = (inner + indented(item, depth + 1) for item in value)
        return "[\n" + ",\n".join(items) + f"\n{outer}]"
    return _scalar(value)


def one_line(value: JsonValue, longest: int = 60) -> str:
    """A value as compact JSON, cut where a table cell ends."""
    text = _scalar(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _scalar(value: JsonValue) -> str:
    try:
        return exact_json.dumps(value).decode()
    except TypeError:  # a lone surrogate, as a quarantined document may hold
        return exact_json.dumps_ascii(value).decode()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[str] = ()) -> None:
    """Print a table; a terminal wraps long cells, anything else gets whole lines.

    Args:
        columns: Headings.
        rows: Cells; None is an empty one. Words for a state are coloured on a terminal.
        numeric: Headings of columns that are aligned to the right.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNWRAPPED_COLUMNS)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        texts = ["" if cell is None else str(cell) for cell in row]
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in texts))
    console.print(table)


def hint(text: str) -> None:
    """Say something that is not the result."""
    click.echo(text, err=True)


def progressing(
    items: Sequence[T], doing: str, *, every_s: float = PLAIN_LINE_EVERY_S, terminal: bool | None = None
) -> Iterator[T]:
    """Go through items and show how far it is: a bar on a terminal, else a line now and then.

    Args:
        items: What is worked on.
        doing: What is done, e.g. `Running checks`.
        every_s: Shortest time between two lines.
        terminal: Whether standard error is one; None finds out.
    """
    if sys.stderr.isatty() if terminal is None else terminal:
        yield from track(items, description=doing, console=Console(stderr=True), transient=True)
        return
    started = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - said >= every_s:
            left = (now - started) / done * (len(items) - done)
            hint(f"{doing}: {done} of {len(items)}, about {left:.0f} s left")
            said = now
        yield item


def as_text(values: Iterable[Any]) -> str:
    """Words of a key as one types them."""
    return " ".join(map(str, values))
