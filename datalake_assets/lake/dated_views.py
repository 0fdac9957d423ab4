"""Views of a table by period: one for each period, and one over all of them under a name that stays.

Expressions are SQL with Jinja in a sandbox. Whatever Jinja puts into them is a value: the SQL is parsed with a name in
its place, and the value then stands there as a literal of its type, so that a text can never become SQL. What is no
single expression, or reads a column that the table does not have, is refused before anything is changed. When views
are made belongs to the component.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import asyncpg
import sqlglot
from jinja2 import StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from sqlglot import exp
from sqlglot.errors import SqlglotError

from datalake_assets.keys import TableName, quote_identifier
from datalake_assets.lake.expressions import clock_in
from datalake_assets.lake.ledger import Ledger, Receipt
from datalake_assets.lake.slices import LoadError
from datalake_assets.statements import statement
from datalake_assets.storage.postgres import lock_slice, scrubbing

Every = Literal["day", "week", "month", "year"]

LONGEST_IDENTIFIER: Final = 63
"""Bytes of a name in PostgreSQL, which cuts longer ones off without a word."""

LONGEST_NAME: Final = LONGEST_IDENTIFIER - len("_2019_07_31")
_NO_LEAP_YEAR: Final = 2001
_DATED: Final = re.compile(r"_(\d{4})_(\d{2})_(\d{2})")
_MONTH_AND_DAY: Final = re.compile(r"(\d{2})-(\d{2})")


class ViewError(LoadError):
    """A view cannot be what it is declared to be; nothing was changed."""


@dataclass(frozen=True)
class Period:
    """A partition of a dated view.

    Attributes:
        every: How long it is.
        start: Its first day.
        zone: The time zone in which its days begin.
    """

    every: Every
    start: date
    zone: str = "UTC"

    @property
    def after(self) -> date:
        """The first day after it."""
        if self.every == "month":
            return (self.start.replace(day=1) + timedelta(days=32)).replace(day=1)
        if self.every == "year":
            return self.start.replace(year=self.start.year + 1)
        return self.start + timedelta(days=7 if self.every == "week" else 1)

    @property
    def is_regular(self) -> bool:
        """Whether such periods begin on its first day."""
        return {"day": True, "week": self.start.weekday() == 0, "month": self.start.day == 1}.get(
            self.every, (self.start.month, self.start.day) == (1, 1)
        )

    @property
    def last_day(self) -> date:
        """Its last day."""
        return self.after - timedelta(days=1)

    def midnight(self, day: date) -> datetime:
        """The moment at which a day begins."""
        return datetime.combine(day, time.min, ZoneInfo(self.zone))

    def fy_start(self, month_and_day: str) -> date:
        """First day of the financial year that the period begins in.

        Args:
            month_and_day: On which it begins, such as `04-06`.

        Raises:
            ViewError: That is no day.
        """
        match = _MONTH_AND_DAY.fullmatch(str(month_and_day))
        try:
            if match is None:
                raise ValueError
            begins = date(_NO_LEAP_YEAR, int(match[1]), int(match[2])).replace(year=self.start.year)
        except ValueError:
            raise ViewError(
                f"fy_start({month_and_day!r}): a financial year begins on a day such as '04-06', month first."
            ) from None
        return begins if begins <= self.start else begins.replace(year=begins.year - 1)

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What expressions may use."""
        return {
            "ds": self.start,
            "last_day": self.last_day,
            "period_start": self.midnight(self.start),
            "period_end": self.midnight(self.after),
            "midnight": self.midnight,
            "fy_start": self.fy_start,
            "params": params,
        }

    @staticmethod
    def that_ends(every: Every, last_day: date) -> "Period":
        """The period with this last day."""
        if every == "year":
            after = last_day + timedelta(days=1)
            return Period(every, after.replace(year=after.year - 1))
        days_before = {"day": 0, "week": 6, "month": last_day.day - 1}
        return Period(every, last_day - timedelta(days=days_before[every]))


@dataclass(frozen=True)
class Field:
    """A column of a view: an expression over columns of the table, and its name."""

    expression: str
    name: str


@dataclass(frozen=True)
class DatedView:
    """A view of a table by period.

    Attributes:
        name: The view over all periods; with the last day of a period appended, that of the period.
        table: What it is on.
        fields: Its columns; None: those of the table.
        where: The condition for a row to belong to a period.
        params: Further values for expressions.
        every: How long a period is.
        readers: Roles that may read it.
    """

    name: TableName
    table: TableName
    fields: tuple[Field, ...] | None
    where: str
    params: Mapping[str, Any]
    every: Every
    readers: tuple[str, ...] = ()

    def of(self, period: Period) -> TableName:
        """The view of one period."""
        return TableName(self.name.schema, f"{self.name.table}_{period.last_day:%Y_%m_%d}")

    def rendered(self, period: Period) -> "Rendered":
        """The expressions for one period.

        Raises:
            ViewError: One is no single expression, or uses what there is not.
        """
        values = period.values(self.params)
        fields = None
        if self.fields is not None:
            fields = tuple(
                Field(_expression(field.expression, values, field.name), field.name) for field in self.fields
            )
        return Rendered(fields, _expression(self.where, values, "where"))


@dataclass(frozen=True)
class Rendered:
    """Expressions without templates: fields (None: all columns of the table) and condition."""

    fields: tuple[Field, ...] | None
    where: str

    @property
    def sources(self) -> dict[str, set[str]]:
        """For each field the columns that it reads."""
        return {field.name: _columns(field.expression) for field in self.fields or ()}

    @property
    def columns(self) -> set[str]:
        """Every column that is read."""
        return set().union(_columns(self.where), *self.sources.values())


async def make_view(
    connection: asyncpg.Connection, ledger: Ledger, view: DatedView, period: Period, *, run_id: str
) -> Receipt:
    """Make, or make anew, the view of a period, and the view over all periods.

    Who depends on the views, and who may read them, stays.

    Args:
        connection: A connection of its own, outside any transaction.
        ledger: Receipts.
        view: What is declared.
        period: Which period.
        run_id: Who makes it.

    Raises:
        ViewError: The table lacks a column, or the columns of the view are others than before.
        PostgresError: The server refused the expressions.
    """
    dated = view.of(period)
    rendered = view.rendered(period)
    with scrubbing(str(dated)):
        async with connection.transaction():
            await lock_slice(connection, str(view.name))
            attempt = await ledger.begin(connection, str(view.name), period.start.isoformat(), run_id)
            columns = await _table_columns(connection, view, rendered)
            fields = rendered.fields or tuple(Field(quote_identifier(name), name) for name in columns)
            names = [field.name for field in fields]
            await _refuse_other_columns(connection, view, dated, names)
            query = statement("declared/view_query.sql", fields=fields, table=view.table, condition=rendered.where)
            # Before the views are touched: nobody who reads them waits for it.
            rows = await connection.fetchval(statement("declared/count_query.sql", query=query))
            await lock_slice(connection, "schema", view.name.schema)
            await connection.execute(statement("declared/create_schema.sql", schema=view.name.schema))
            try:
                await _create(connection, dated, query, view.readers)
                await _create(connection, view.name, await _all_periods(connection, view, names), view.readers)
            except asyncpg.InvalidTableDefinitionError:
                raise ViewError(
                    "A column of the view has another type than in the view that is there.",
                    where=str(dated),
                    todo=f"Cast it to its type of before in the declaration; or drop {view.name} and its periods, then "
                    "materialise every period again. Nothing was changed.",
                ) from None
            receipt = Receipt(asset=str(view.name), partition=period.start.isoformat(), run_id=run_id, rows_total=rows)
            await ledger.write(connection, receipt, attempt)
    return receipt


async def _create(connection: asyncpg.Connection, view: TableName, query: str, readers: Sequence[str]) -> None:
    await connection.execute(statement("declared/create_view.sql", view=view, query=query))
    for role in readers:
        await connection.execute(statement("declared/grant_schema.sql", schema=view.schema, role=role))
        await connection.execute(statement("declared/grant.sql", table=view, role=role))


async def _table_columns(connection: asyncpg.Connection, view: DatedView, rendered: Rendered) -> list[str]:
    state = await connection.fetchrow(statement("declared/state.sql"), *view.table)
    if state is None:
        raise ViewError(
            f"There is no table {view.table} for the view to be on.",
            where=str(view.name),
            todo="Materialise the dataset first.",
        )
    columns = [row["name"] for row in await connection.fetch(statement("declared/columns.sql"), state["oid"])]
    if missing := sorted(rendered.columns - set(columns)):
        raise ViewError(
            f"{view.table} has no column {', '.join(missing)}, which the view reads.",
            where=str(view.name),
            todo="Correct the view, or declare the column in its dataset again. Nothing was changed.",
        )
    return columns


async def _refuse_other_columns(
    connection: asyncpg.Connection, view: DatedView, dated: TableName, names: Sequence[str]
) -> None:
    """A view keeps who depends on it only if its columns stay; new ones may come behind them."""
    if view.every in names:
        raise ViewError(
            f'A column is called "{view.every}", as the one by which {view.name} tells the periods apart.',
            where=str(dated),
            todo="List the columns, and name that one otherwise.",
        )
    others = [each.view for each in await _periods(connection, view) if each.names != names[: len(each.names)]]
    what = f"Views of {len(others)} periods have other columns than are declared now."
    whole = await connection.fetchrow(statement("declared/views.sql"), view.name.schema, view.name.table)
    if not others and whole and whole["name"] == view.name.table and whole["columns"][0] != view.every:
        others = [view.name]
        what = f"The view shows a {whole['columns'][0]} for each row, and is declared to show a {view.every} now."
    if others:
        raise ViewError(
            what,
            where=str(dated),
            todo=f"Declare a view of another name; or drop {view.name} and {', '.join(map(str, others))}, then "
            "materialise every period again. Nothing was changed.",
        )


@dataclass(frozen=True)
class _Standing:
    """The view of a period as it is in the database, with the types of its columns."""

    view: TableName
    last_day: date
    columns: dict[str, str]

    @property
    def names(self) -> list[str]:
        return list(self.columns)


async def _periods(connection: asyncpg.Connection, view: DatedView) -> list[_Standing]:
    rows = await connection.fetch(statement("declared/views.sql"), view.name.schema, f"{view.name.table}_")
    found = []
    for row in rows:
        if match := _DATED.fullmatch(row["name"].removeprefix(view.name.table)):
            with suppress(ValueError):  # no day: somebody else's view
                columns = dict(zip(row["columns"], row["types"], strict=True))
                last_day = date(*map(int, match.groups()))
                found.append(_Standing(TableName(view.name.schema, row["name"]), last_day, columns))
    return found


async def _all_periods(connection: asyncpg.Connection, view: DatedView, names: Sequence[str]) -> str:
    """The query over all periods; a column that an older view has not got is null there."""
    standing = await _periods(connection, view)
    types = {name: kind for each in standing for name, kind in each.columns.items()}
    periods = [
        {
            "start": _literal(Period.that_ends(view.every, each.last_day).start),
            "view": each.view,
            "missing": {name: types[name] for name in names if name not in each.columns},
        }
        for each in standing
    ]
    return statement("declared/all_periods.sql", periods=periods, names=names, column=quote_identifier(view.every))


# ------------------------------------------------------------------------------------------------ expressions


def _literal(value: Any) -> str:
    """A value as a SQL literal of its type; what has none is refused."""
    if isinstance(value, Undefined):
        return str(value)  # raises, with the name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, datetime):
        return f"timestamptz '{value.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"date '{value.isoformat()}'"
    if isinstance(value, str) and "\0" not in value:
        # With a backslash in it, what a plain literal means would hang on a setting of the server.
        text = value.replace("'", "''")
        return f" E'{text}'".replace("\\", "\\\\") if "\\" in value else f"'{text}'"
    raise ViewError(
        f"A template gives a value that cannot stand in SQL ({type(value).__name__}).",
        todo="Use dates, texts, numbers or booleans, and call functions with their arguments.",
    )


def _expression(template: str, values: Mapping[str, Any], name: str) -> str:
    where = f"expression of {name!r}"
    literals: dict[str, str] = {}

    def named(value: Any) -> str:
        """What stands for a value until it is known to be in a place of its own."""
        word = f"value_{len(literals)}_of_the_template"
        literals[word] = _literal(value)
        return word

    sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=named, autoescape=False)
    try:
        text = sandbox.from_string(template).render(values).strip()
    except ViewError:
        raise
    except Exception as error:  # whatever an expression of Jinja can raise
        raise ViewError(
            f"The template cannot be rendered: {str(error).rstrip('.')}.",
            where=where,
            todo="Use ds, last_day, period_start, period_end, midnight(), fy_start() and params.",
        ) from None
    try:
        parsed: Sequence[Any] = sqlglot.parse(f"select ({text}\n)", dialect="postgres")
        tokens = sqlglot.tokenize(text, read="postgres")
    except SqlglotError:
        raise ViewError("This is no SQL expression.", where=where, todo="Correct it in the defs.yaml.") from None
    if not _is_expression(parsed) or any(token.comments for token in tokens):
        raise ViewError(
            "This is more than one SQL expression over columns of the table.",
            where=where,
            todo="Leave out statements, subqueries and comments.",
        )
    if (clock := clock_in(parsed[0])) is not None:
        raise ViewError(
            f"{clock} is another one each time that the view is read.",
            where=where,
            todo="Use the days of the period: ds, last_day, period_start, period_end.",
        )
    alone = Counter(
        column.name for column in parsed[0].find_all(exp.Column) if not (column.table or column.this.args.get("quoted"))
    )
    inside = any(map(_PLACEHOLDER.search, literals.values()))
    if inside or any(text.count(word) != alone[word] for word in literals):
        raise ViewError(
            "A value of the template stands within quotes, or as a part of a word.",
            where=where,
            todo="Leave the quotes out: a value brings its own, as in `created_on >= {{ period_start }}`.",
        )
    return _PLACEHOLDER.sub(lambda match: literals[match[0]], text)


_PLACEHOLDER: Final = re.compile(r"value_\d+_of_the_template")


def _is_expression(parsed: Sequence[Any]) -> bool:
    if len(parsed) != 1 or not isinstance(parsed[0], exp.Select):
        return False
    select = parsed[0]
    clauses = [name for name, value in select.args.items() if value and name not in ("expressions", "kind")]
    forbidden = (exp.Query, exp.Table, exp.Values, exp.Command, exp.Alias, exp.Star)
    below = [node for node in select.walk() if isinstance(node, forbidden) and node is not select]
    stars = [node for node in below if isinstance(node, exp.Star) and isinstance(node.parent, exp.Count)]
    return not clauses and len(select.expressions) == 1 and len(below) == len(stars)


def _columns(expression: str) -> set[str]:
    """Columns that an expression reads, as PostgreSQL folds their names."""
    return set(_column_names(sqlglot.parse_one(f"select ({expression}\n)", dialect="postgres")))


def _column_names(select: Any) -> Iterator[str]:
    for column in select.find_all(exp.Column):
        yield column.name if column.this.args.get("quoted") else column.name.lower()
