"""SQL expressions of declarations: what none of them may call, whatever it is evaluated by.

Rows are a function of what was landed, so an expression that reads a clock, or rolls dice, would give other rows the
next time. What expressions are for, and how they are evaluated, is in `dated_views.py` and `row_rules.py`.
"""

from typing import Any, Final

from sqlglot import exp

_CLASSES: Final = (
    exp.CurrentDate,
    exp.CurrentDatetime,
    exp.CurrentTime,
    exp.CurrentTimestamp,
    exp.Localtime,
    exp.Localtimestamp,
    exp.Rand,
    exp.Uuid,
)
_FUNCTIONS: Final = frozenset(
    {
        "clock_timestamp",
        "current_localtime",
        "current_localtimestamp",
        "gen_random_uuid",
        "get_current_time",
        "get_current_timestamp",
        "nextval",
        "now",
        "random",
        "statement_timestamp",
        "timeofday",
        "today",
        "transaction_timestamp",
        "txid_current",
    }
)
_WORDS: Final = frozenset({"now", "today", "tomorrow", "yesterday"})


def clock_in(expression: Any) -> str | None:
    """What of a parsed expression depends on when it is evaluated, or on chance; None if nothing does.

    Args:
        expression: As sqlglot parsed it.
    """
    for node in expression.walk():
        is_word = isinstance(node, exp.Literal) and node.is_string and node.this.strip().lower() in _WORDS
        if isinstance(node, _CLASSES) or (is_word and isinstance(node.parent, exp.Cast)):
            return str(node.sql())
        if isinstance(node, exp.Anonymous) and node.name.lower() in _FUNCTIONS:
            return f"{node.name.lower()}()"
    return None
