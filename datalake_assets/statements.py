"""Every SQL statement of the project, read from `sql/` and rendered.

Templates take identifiers and structure (table and column names) only; values are always bound parameters of
the statement. What a statement does is said in the header of its file, not here.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from datalake_assets.keys import TableName, quote_identifier
from datalake_assets.settings import project_files


def statement(path: str, **names: Any) -> str:
    """Render one statement.

    Args:
        path: The file below `sql/`, e.g. `layers/raw/changes.sql`.
        names: Tables (`TableName`), column names and flags that the template asks for.

    Raises:
        jinja2.UndefinedError: The template asks for a name that was not given.
        jinja2.TemplateNotFound: There is no such file.
    """
    return _environment().get_template(path).render(**names)


def has_statement(path: str) -> bool:
    """Whether `sql/<path>` exists; tables that need a step of their own have one."""
    return (project_files() / "sql" / path).is_file()


def statement_names(folder: str) -> list[str]:
    """Paths of the statements directly in a folder below `sql/`, sorted; none if there is no such folder."""
    root = project_files() / "sql"
    return sorted(path.relative_to(root).as_posix() for path in (root / folder).glob("*.sql"))


def statement_text(path: str) -> str:
    """The text of a statement as it stands in the file."""
    return (project_files() / "sql" / path).read_text("utf-8")


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(project_files() / "sql"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["table"] = _table
    environment.filters["column"] = quote_identifier
    environment.filters["columns"] = _columns
    environment.filters["same"] = _same
    environment.filters["bound"] = _bound
    return environment


def _table(name: TableName) -> str:
    return name.quoted


def _columns(names: Iterable[str], alias: str = "") -> str:
    """`a, b` or, with an alias, `x.a, x.b`."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + quote_identifier(name) for name in names)


def _same(names: Iterable[str], left: str, right: str) -> str:
    """`l.a = r.a and l.b = r.b`."""
    return " and ".join(f"{left}.{quote_identifier(name)} = {right}.{quote_identifier(name)}" for name in names)


def _bound(names: Iterable[str], first: int, alias: str = "") -> str:
    """`a = $2 and b = $3`, counting from `first`; with an alias `x.a = $2`; `true` for no names."""
    prefix = f"{alias}." if alias else ""
    pairs = (f"{prefix}{quote_identifier(name)} = ${first + offset}" for offset, name in enumerate(names))
    return " and ".join(pairs) or "true"
