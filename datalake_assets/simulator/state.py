"""What can be changed while a simulator runs: the day it shows and the faults in force.

Everything else is fixed at the start (`config.py`) or follows from these (`population.py`). How changes come
in belongs to `control.py`.
"""

from collections.abc import Iterable
from datetime import date

from datalake_assets.simulator.days import Days, campus_today
from datalake_assets.simulator.faults import Fault
from datalake_assets.simulator.log import RequestLog
from datalake_assets.simulator.presets import FaultPlan, Presets
from datalake_assets.simulator.throttle import Throttle


class State:
    """Day, faults and log of one simulator.

    Args:
        presets: The presets it knows.
        preset: The one it starts with.
        day: The day it shows first; None follows the calendar.
        secrets: What must never stand in an address.
        throttle: The limits of the systems.
    """

    def __init__(
        self, presets: Presets, preset: str, day: date | None, secrets: tuple[str, ...], throttle: Throttle
    ) -> None:
        self._presets = presets
        self._first_preset = preset
        self._first_day = day
        self.log = RequestLog(secrets)
        self.throttle = throttle
        self.shown_day = day
        self.plan: FaultPlan = presets.plan(preset)

    @property
    def day(self) -> date:
        """The day it shows."""
        return self.shown_day or campus_today()

    def set_faults(self, preset: str, faults: Iterable[Fault], days: Days | None, fault_seed: int | None) -> None:
        """Put other faults in force, and count attempts from 1 again."""
        self.plan = self._presets.plan(preset, faults, days, fault_seed)
        self.log.forget_attempts()

    def reset(self) -> None:
        """Return to how it was started."""
        self.shown_day = self._first_day
        self.plan = self._presets.plan(self._first_preset)
        self.log.clear()
        self.throttle.clear()
