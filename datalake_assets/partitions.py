"""Partitions: which slices of time and scope every asset has.

Keys are load dates in the university's time zone, today included. Which partition runs when is in
`automation.py`.
"""

from datetime import date

import dagster as dg

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.entities import Entity
from datalake_assets.lake.slices import LoadSlice


def load_dates(start: date) -> dg.DailyPartitionsDefinition:
    """One partition per day from `start` to today, in `CAMPUS_ZONE`."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone=CAMPUS_ZONE.key, end_offset=1)


def slice_of(entity: Entity, partition_key: str) -> LoadSlice:
    """The slice of a partition key such as `2026-01-31`."""
    return LoadSlice(entity, date.fromisoformat(partition_key))
