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


def _seconds(name: str, value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if isinstance(value, bool) or not 0.0 <= number <= 86_400.0:
        raise SimulatorError(f"{name} is {value!r}.", allowed=["seconds from 0 to 86400"])
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
    persons: int = field(default=2000, metadata=_knob(_whole(1, 1_000_000), "people on the first day"))
    share_student: float = field(default=0.7, metadata=_knob(_share, "weight of students among the people"))
    share_faculty: float = field(default=0.1, metadata=_knob(_share, "weight of teachers among the people"))
    share_staff: float = field(default=0.15, metadata=_knob(_share, "weight of staff among the people"))
    share_affiliate: float = field(default=0.05, metadata=_knob(_share, "weight of affiliates among the people"))
    terms_per_student: int = field(default=4, metadata=_knob(_whole(1, 14), "terms that a student has on average"))
    doc_kb: int = field(default=9, metadata=_knob(_whole(8, 1000), "median size of a person's document in KB"))
    person_change_rate: float = field(default=0.01, metadata=_knob(_share, "share of people who change on a day"))
    person_reorder_rate: float = field(
        default=0.05, metadata=_knob(_share, "share of people sent in another order of arrays and members on a day")
    )
    person_new_rate: float = field(
        default=0.001, metadata=_knob(_share, "people who come on a day, as a share of those of the first day")
    )
    person_removed_rate: float = field(default=0.0005, metadata=_knob(_share, "share of people who go on a day"))
    person_return_rate: float = field(default=0.01, metadata=_knob(_share, "share of those gone who return on a day"))
    numeric_restyle_rate: float = field(
        default=0.002, metadata=_knob(_share, "share of people whose numbers are written in another style on a day")
    )
    courses_per_term: int = field(default=200, metadata=_knob(_whole(1, 100_000), "courses of a term on the first day"))
    sections_per_course: int = field(default=2, metadata=_knob(_whole(0, 50), "sections of a course on average"))
    roster_size: int = field(default=8, metadata=_knob(_whole(0, 1000), "students of a section on average"))
    course_change_rate: float = field(default=0.03, metadata=_knob(_share, "share of courses that change on a day"))
    roster_churn: float = field(default=0.1, metadata=_knob(_share, "share of courses whose rosters change on a day"))
    course_new_rate: float = field(
        default=0.002, metadata=_knob(_share, "courses that come on a day, as a share of those of the first day")
    )
    course_removed_rate: float = field(default=0.002, metadata=_knob(_share, "share of courses that go on a day"))
    empty_docs_rate: float = field(
        default=0.002, metadata=_knob(_share, "share of documents after which SnapLogic sends an empty object")
    )
    dataset_records: int = field(
        default=2000, metadata=_knob(_whole(1, 10_000_000), "orders on the first day; the other datasets go by it")
    )
    dataset_page_size: int = field(
        default=100, metadata=_knob(_whole(1, 10_000), "records of a page, where a client names no page size")
    )
    taxi_rows: int = field(
        default=2000,
        metadata=_knob(_whole(1, 10_000_000), "green trips of a month; of yellow ones there are three times as many"),
    )
    person_batch_s: float = field(default=0.0, metadata=_knob(_seconds, "seconds that a batch of persons takes"))
    gateway_cut_s: float = field(
        default=900.0, metadata=_knob(_seconds, "seconds after which a gateway gives up on a batch of persons: 504")
    )
    concurrency_limit: int = field(
        default=10,
        metadata=_knob(_whole(1, 100_000), "requests that SnapLogic and the person API take at a time; beyond: 429"),
    )
    daily_quota: int = field(
        default=10_000,
        metadata=_knob(_whole(1, 10**9), "requests that SnapLogic and the person API take on a day; beyond: 429"),
    )
    vds_size_limit: int = field(
        default=1000, metadata=_knob(_whole(1, 10**6), "entries that a search of VDS gives if it names no size limit")
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
