"""Partitions: which slices of time and scope every asset has.

Load dates are days in the university's time zone, today included; courses are also cut by term. Which partition runs
when is in `automation.py`.
"""

from datetime import date
from typing import Final

import dagster as dg

from datalake_assets.clock import CAMPUS_ZONE

LOAD_DATE: Final = "load_date"
TERM_DIMENSION: Final = "term"
TERMS: Final = dg.DynamicPartitionsDefinition(name="term")
"""Codes of terms; added when a term becomes active, never deleted."""


def load_dates(start: date) -> dg.DailyPartitionsDefinition:
    """One partition per day from `start` to today, in `CAMPUS_ZONE`."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone=CAMPUS_ZONE.key, end_offset=1)


def load_dates_by_term(days: dg.DailyPartitionsDefinition) -> dg.MultiPartitionsDefinition:
    """One partition per day and term; its keys are written `2026-01-31|2258`."""
    return dg.MultiPartitionsDefinition({LOAD_DATE: days, TERM_DIMENSION: TERMS})


def partition_key(load_date: date, term: int | str | None = None) -> str:
    """The key of a partition.

    Args:
        load_date: Its day.
        term: Its term, where the entity is loaded by term.
    """
    day = load_date.isoformat()
    return day if term is None else dg.MultiPartitionKey({LOAD_DATE: day, TERM_DIMENSION: str(term)})
