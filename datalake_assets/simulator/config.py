"""What a simulator is started with: seed, scenario, preset and the knobs of its population.

Everything the answers depend on stands here or in the faults, and is fixed while the simulator runs. An
unknown knob or value is refused with the list of those allowed. Faults do not belong here (`faults.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Final

from datalake_assets.simulator.days import Days, parse_day
from datalake_assets.simulator.errors import SimulatorError

CAREERS: Final = ("UGRD", "GRAD", "LAW", "MED")
_NULLABLE: Final = (
    "TERM_BEGIN_DT",
    "TERM_END_DT",
    "BU_CUR_FUTURE_TERM",
    "BU_FUTURE_TERM_1",
    "BU_PAST_TERM_1",
    "OLD_TERM",
    "ACAD_YEAR",
)


def _whole(lowest: int, highest: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = lowest - 1
        if isinstance(value, bool) or not lowest <= number <= highest:
            raise SimulatorError(f"{name} is {value!r}.", allowed=[f"a whole number from {lowest} to {highest}"])
        return number

    return read


def _share(name: str, value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if isinstance(value, bool) or not 0.0 <= number <= 1.0:
        raise SimulatorError(f"{name} is {value!r}.", allowed=["a share from 0 to 1"])
    return number


def _flag(name: str, value: Any) -> bool:
    known = {"true": True, "false": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise SimulatorError(f"{name} is {value!r}.", allowed=known) from None


def _one_of(*options: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in options:
            raise SimulatorError(f"{name} is {value!r}.", allowed=options)
        return str(value)

    return read


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _some_of(*options: str) -> Callable[[str, Any], tuple[str, ...]]:
    def read(name: str, value: Any) -> tuple[str, ...]:
        chosen = _items(value)
        for item in chosen:
            if item not in options:
                raise SimulatorError(f"{name} holds {item!r}.", allowed=options)
        if len(set(chosen)) != len(chosen):
            raise SimulatorError(f"{name} names something twice: {', '.join(chosen)}.", allowed=options)
        return tuple(chosen)

    return read


def _careers(name: str, value: Any) -> tuple[str, ...]:
    careers = _some_of(*CAREERS)(name, value)
    if "UGRD" not in careers:
        raise SimulatorError(f"{name} lacks UGRD, on which the active terms depend.", allowed=CAREERS)
    return careers


def _days(name: str, value: Any) -> Days:
    return value if isinstance(value, Days) else Days.parse(_items(value))


def _optional_day(name: str, value: Any) -> date | None:
    return value if value is None or isinstance(value, date) else parse_day(value, name)


def _knob(read: Callable[[str, Any], Any], help_text: str) -> dict[str, Any]:
    return {"read": read, "help": help_text}


_NO_DAYS: Final = Days()


@dataclass(frozen=True)
class Config:
    """The knobs; `Config.of` reads and checks them, `knob_help` explains them."""

    seed: int = field(default=1, metadata=_knob(_whole(0, 2**63 - 1), "other seeds, other data"))
    fault_seed: int = field(
        default=1, metadata=_knob(_whole(0, 2**63 - 1), "other seeds, other draws of faults that have a rate")
    )
    scenario_start: date | None = field(
        default=None,
        metadata=_knob(
            _optional_day, "first day of the scenario: load, roll, change and removal, shuffle, outage, new term"
        ),
    )
    terms_years: int = field(default=10, metadata=_knob(_whole(1, 60), "past years of terms"))
    future_years: int = field(default=2, metadata=_knob(_whole(1, 10), "future years of terms"))
    careers: tuple[str, ...] = field(default=CAREERS, metadata=_knob(_careers, "careers, in the order of the answer"))
    term_order: str = field(
        default="career",
        metadata=_knob(
            _one_of("career", "strm"), "order of the answer: career keeps careers together, strm mixes them"
        ),
    )
    alias_fields: bool = field(default=False, metadata=_knob(_flag, "QAS names fields A.STRM instead of STRM"))
    whitespace_rate: float = field(default=0.01, metadata=_knob(_share, "share of text fields with trailing blanks"))
    null_vs_empty_rate: float = field(
        default=0.75,
        metadata=_knob(_share, 'share of empty fields written as "", " " or left out instead of null'),
    )
    duplicate_current: Days = field(default=_NO_DAYS, metadata=_knob(_days, "days on which two UGRD terms are current"))
    no_current: Days = field(default=_NO_DAYS, metadata=_knob(_days, "days on which no UGRD term is current"))
    null_columns: tuple[str, ...] = field(
        default=(),
        metadata=_knob(
            _some_of(*_NULLABLE), "fields that are null in the two UGRD terms before and after the current one"
        ),
    )
    compress: bool = field(default=True, metadata=_knob(_flag, "answers are compressed for clients that accept gzip"))

    @classmethod
    def of(cls, knobs: Mapping[str, Any]) -> "Config":
        """Read knobs as they come from a command line or from JSON.

        Raises:
            SimulatorError: A knob is unknown, or its value is not allowed.
        """
        known = {knob.name: knob.metadata["read"] for knob in fields(cls)}
        for name in knobs:
            if name not in known:
                raise SimulatorError(f"There is no knob {name!r}.", allowed=sorted(known))
        return cls(**{name: known[name](name, value) for name, value in knobs.items()})


def knob_help() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every knob."""
    return [(knob.name, _default_text(knob.default), str(knob.metadata["help"])) for knob in fields(Config)]


def _default_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or isinstance(value, Days) else str(value)
