"""Named collections of faults, and the outage that belongs to the scenario.

A preset is a function of the day, so that every day of a long rehearsal brings its own faults. Single faults
and their draws stand in `faults.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.days import Days
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.faults import KNOBS, Fault, fault
from datalake_assets.simulator.population import Dice
from datalake_assets.simulator.terms import SCENARIO_OUTAGE, TermPopulation

PRESETS: Final = ("clean", "realistic", "hostile", "poison-day")

DailyFaults = Callable[[date], Sequence[Fault]]


@dataclass(frozen=True)
class FaultPlan:
    """Every fault in force: those of the scenario, of a preset, and those asked for.

    Attributes:
        preset: Name of the preset.
        preset_days: Days to which the preset was limited.
        faults: The faults asked for.
        fault_seed: What draws are keyed with.
        daily: The faults of scenario and preset on a day.
    """

    preset: str
    preset_days: Days | None
    faults: tuple[Fault, ...]
    fault_seed: int
    daily: DailyFaults

    def on(self, day: date) -> list[Fault]:
        """The faults in force on a day; each still says whom and which attempts it strikes."""
        return [*self.faults, *self.daily(day)]


class Presets:
    """The presets of one population.

    Args:
        config: The knobs.
        terms: The terms, of which `poison-day` spoils some.
        sources: Names of the systems that can have an outage.
    """

    def __init__(self, config: Config, terms: TermPopulation, sources: Iterable[str]) -> None:
        self._config = config
        self._terms = terms
        self._sources = sorted(set(sources))

    @property
    def scenario_start(self) -> date | None:
        """First day of the scenario."""
        return self._config.scenario_start

    @property
    def names(self) -> list[str]:
        """Every preset."""
        return [*PRESETS, *(f"outage:{source}" for source in self._sources)]

    def plan(
        self, preset: str, faults: Iterable[Fault] = (), days: Days | None = None, fault_seed: int | None = None
    ) -> FaultPlan:
        """Combine a preset with further faults.

        Raises:
            SimulatorError: There is no such preset, or it needs days that nothing tells.
        """
        if preset not in self.names:
            raise SimulatorError(f"There is no preset {preset!r}.", allowed=self.names)
        seed = self._config.fault_seed if fault_seed is None else fault_seed
        of_preset = lru_cache(maxsize=256)(self._faults_of(preset, days, seed))

        def daily(day: date) -> list[Fault]:
            in_force = of_preset(day) if days is None or day in days else ()
            return [*self._outage_of_scenario(), *in_force]

        return FaultPlan(preset, days, tuple(faults), seed, daily)

    def _outage_of_scenario(self) -> list[Fault]:
        start = self._config.scenario_start
        if start is None:
            return []
        return [fault("status_503", scope="peoplesoft", days=Days.on([start + timedelta(days=SCENARIO_OUTAGE - 1)]))]

    def _faults_of(self, preset: str, days: Days | None, seed: int) -> Callable[[date], tuple[Fault, ...]]:
        start = self._config.scenario_start
        if preset == "poison-day":
            if days is None and start is None:
                raise SimulatorError(
                    "The preset poison-day needs a day.", allowed=["scenario_start", "days beside the preset"]
                )
            poisoned = days or Days.on([start + timedelta(days=1)] if start else [])
            return lambda day: self._poison(day) if day in poisoned else ()
        if preset.startswith("outage:"):
            first = start + timedelta(days=1) if start and days is None else date.min
            outage = fault("status_503", scope=preset.removeprefix("outage:"))
            return lambda day: (outage,) if day >= first else ()
        if preset == "realistic":
            return lambda _: _REALISTIC
        if preset == "hostile":
            # The first day of the scenario can always be had, so that there is something to lose.
            return lambda day: _hostile(Dice(seed), day, may_be_lost=day != start)
        return lambda _: ()

    def _poison(self, day: date) -> tuple[Fault, ...]:
        """Spoil some courses and persons, and four terms.

        One of the terms changes with the roll, three do not; the roll itself must come through.
        """
        changing = "/".join(self._terms.beside_current(day, 1))
        others = [term.key for term in self._terms.on(day) if term.key[0] != "UGRD"]
        steady = ["/".join(key) for key in Dice(self._config.seed).shuffled(others, "poisoned")[:3]]
        hows = ("lone_surrogate", "huge_number", "deep_nesting")
        return (
            fault("poison", scope=_TERMS, how="nul", keys=[changing]),
            *(fault("poison", scope=_TERMS, how=how, keys=[key]) for how, key in zip(hows, steady, strict=False)),
            *_within((_COURSES, *_PERSONS), *(fault("poison", how=how, rate=0.002) for how in ("nul", *hows))),
        )


_TERMS: Final = "peoplesoft/BU_TERM_QRY"
_PEOPLESOFT_IDS: Final = "peoplesoft/BU_PARM_*"
_TERMS_OF_PERSONS: Final = ("peoplesoft/BU_TERM_STD_*", "peoplesoft/BU_FACULTY_*")
_COURSES: Final = "snaplogic_course"
_PERSONS: Final = ("personapi", "snapperson")
_BATCHES: Final = tuple(f"{name}/[0-9a-f]*" for name in _PERSONS)
"""Batches of more than one person, whose request keys are digests; whoever is asked for alone is spared."""


def _within(scopes: Iterable[str], *faults: Fault) -> tuple[Fault, ...]:
    return tuple(replace(found, scope=scope) for scope in scopes for found in faults)


_REALISTIC: Final = (
    *_within(
        (_TERMS, _PEOPLESOFT_IDS, "sap", "vds", _COURSES, *_PERSONS),
        fault("latency", ms=20, jitter_ms=60),
        fault("status_429", rate=0.15, first_n=1, retry_after="seconds", retry_after_s=1),
        fault("status_503", rate=0.1, first_n=1),
        fault("conn_reset", rate=0.03, first_n=1),
    ),
    # One request a person: what is bearable for a few requests would take hours here.
    *_within(
        _TERMS_OF_PERSONS,
        fault("latency", ms=2, jitter_ms=8),
        fault("status_429", rate=0.004, first_n=1, retry_after="seconds", retry_after_s=1),
        fault("status_503", rate=0.003, first_n=1),
        fault("conn_reset", rate=0.002, first_n=1),
    ),
    *_within((_PEOPLESOFT_IDS, "sap", "vds"), fault("dup_records", how="same", rate=0.01)),
    *_within(
        (_COURSES,),
        fault("poison", how="nul", rate=0.002),
        fault("dup_records", how="same", rate=0.005),
        fault("sensitive_elsewhere", how="nested", rate=0.01),
    ),
    *_within(
        _PERSONS,
        fault("poison", how="nul", rate=0.001),
        fault("poison", how="lone_surrogate", rate=0.0005),
        fault("poison", how="deep_nesting", rate=0.0005),
        fault("wrong_types", how="person_basic_list", rate=0.0005),
        fault("sensitive_elsewhere", how="upper", rate=0.01),
        fault("sensitive_elsewhere", how="nested", rate=0.01),
        fault("dup_records", how="same", rate=0.01),
        fault("dup_records", how="different", rate=0.0005),
        fault("foreign_records", rate=0.001),
        fault("null_data", rate=0.0003),
        fault("batch_killer", rate=0.0003),
        fault("ndjson_truncate", how="clean_eof", rate=0.03, first_n=1),
        fault("ndjson_truncate", how="mid_line", rate=0.02, first_n=1),
        fault("ndjson_extra_types", how="meta"),
        fault("ndjson_extra_types", how="summary"),
        fault("ndjson_extra_types", how="heartbeat"),
    ),
    *_within(
        ("datahub", "files"),
        fault("latency", ms=5, jitter_ms=20),
        fault("status_503", rate=0.05, first_n=1),
        fault("conn_reset", rate=0.03, first_n=1, when="mid_body"),
    ),
    *_within(
        _BATCHES,
        fault("missing_records", rate=0.003),
        fault("ndjson_extra_types", how="error", rate=0.002),
    ),
)

_PASSING: Final = (
    fault("status_429", first_n=1, retry_after="seconds", retry_after_s=1),
    fault("status_429", first_n=1, retry_after="past_date"),
    fault("status_429", first_n=1, retry_after="garbage"),
    fault("status_500", first_n=1),
    fault("status_502_html", first_n=2),
    fault("status_503", first_n=1, retry_after="http_date", retry_after_s=1),
    fault("status_504_html", first_n=1),
    fault("conn_reset", first_n=2, when="before_headers"),
    fault("conn_reset", first_n=1, when="mid_body"),
    fault("content_length_lie", first_n=1, how="more"),
    fault("body_cut", first_n=1, how="close_delimited"),
    fault("body_cut", first_n=1, how="chunked"),
    fault("body_cut", first_n=1, how="gzip"),
    fault("latency", ms=50, jitter_ms=150),
    fault("stall", after_bytes=2000, seconds=0.3),
    fault("trickle", bytes_per_second=100_000),
)
"""Faults that a sound client lives through, one at a time or two."""

_SPOILT_ROWS: Final = (
    fault("poison", how="nul"),
    fault("poison", how="lone_surrogate"),
    fault("poison", how="huge_number"),
    fault("poison", how="deep_nesting"),
    fault("poison", how="long_key"),
    fault("malformed_json", how="nan"),
    fault("malformed_json", how="dup_keys"),
    fault("wrong_types", how="text_number"),
    fault("wrong_types", how="text_object"),
    fault("wrong_types", how="text_too_long"),
    fault("wrong_types", how="key_null"),
    fault("wrong_types", how="row_empty"),
    fault("dup_records", how="same", rate=0.05),
    fault("dup_records", how="different"),
    fault("sensitive_elsewhere", how="upper", rate=0.05),
    fault("sensitive_elsewhere", how="mixed", rate=0.05),
    fault("sensitive_elsewhere", how="nested"),
    fault("encoding", how="bom"),
    fault("encoding", how="wrong_charset_header"),
)
"""Faults of every attempt that cost single rows at most."""

_LOST_DAYS: Final = (
    fault("status_401"),
    fault("status_403"),
    fault("status_404"),
    fault("key_expires_at_request", n=1),
    fault("status_503", retry_after="86400"),
    fault("redirect_302", target="cross_origin"),
    fault("redirect_302", target="same_origin"),
    fault("error_200", how="ps_status_error"),
    fault("error_200", how="ib_fault_xml"),
    fault("error_200", how="login_html"),
    fault("malformed_json", how="unescaped_quote"),
    fault("malformed_json", how="trailing_comma"),
    fault("malformed_json", how="cut"),
    fault("encoding", how="latin1_body"),
    fault("encoding", how="utf16"),
    fault("encoding", how="bad_utf8_byte"),
    fault("shape", how="null_data"),
    fault("shape", how="missing_data_key"),
    fault("shape", how="object_for_array"),
    fault("shape", how="empty_result"),
    fault("missing_records", rate=0.1),
    fault("row_cap", rows=100),
    fault("poison", how="huge_doc_mb", mb=17),
    fault("conn_reset", when="mid_body"),
)
"""Faults of every attempt after which there is no trustworthy answer."""


_LOST_TO_ALL: Final = (
    fault("status_401"),
    fault("status_503", retry_after="86400"),
    fault("redirect_302", target="cross_origin"),
    fault("error_200", how="login_html"),
)

_PASSING_QUICKLY: Final = tuple(found for found in _PASSING if found.knob != "trickle")
"""Without the one that takes its time with large bodies."""

_SPOILT_IDS: Final = (
    fault("dup_records", how="same", rate=0.02),
    fault("wrong_types", how="key_null", rate=0.002),
    fault("wrong_types", how="key_number", rate=0.002),
    fault("wrong_types", how="row_null", rate=0.002),
    fault("wrong_types", how="row_empty", rate=0.002),
    fault("encoding", how="bom"),
)

_LOST_IDS: Final = (
    *_LOST_TO_ALL,
    fault("malformed_json", how="cut"),
    fault("encoding", how="utf16"),
    fault("shape", how="null_data"),
    fault("shape", how="empty_result"),
    fault("row_cap", rows=20),
)

_SPOILT_DOCUMENTS: Final = (
    fault("poison", how="nul", rate=0.003),
    fault("poison", how="lone_surrogate", rate=0.003),
    fault("poison", how="huge_number", rate=0.003),
    fault("poison", how="deep_nesting", rate=0.003),
    fault("poison", how="long_key", rate=0.003),
    fault("malformed_json", how="nan", rate=0.003),
    fault("malformed_json", how="dup_keys", rate=0.003),
    fault("dup_records", how="same", rate=0.05),
    fault("dup_records", how="different", rate=0.003),
    fault("sensitive_elsewhere", how="upper", rate=0.05),
    fault("sensitive_elsewhere", how="mixed", rate=0.05),
    fault("sensitive_elsewhere", how="nested", rate=0.05),
    fault("empty_docs", how="added", rate=0.02),
    fault("encoding", how="bom"),
    fault("encoding", how="wrong_charset_header"),
)

_SPOILT_COURSES: Final = (
    fault("wrong_types", how="course_id", rate=0.003),
    fault("wrong_types", how="v2_null", rate=0.003),
    fault("wrong_types", how="sections_object", rate=0.003),
)

_LOST_COURSES: Final = (
    *_LOST_TO_ALL,
    fault("error_200", how="snap_error_doc"),
    fault("malformed_json", how="cut"),
    fault("shape", how="empty_result"),
    fault("shape", how="empty_object"),
    fault("wrong_types", how="term_code"),
    fault("wrong_types", how="term_details_null"),
)

_SPOILT_PERSONS: Final = (
    fault("wrong_types", how="personid_number", rate=0.001),
    fault("wrong_types", how="personid_null", rate=0.001),
    fault("wrong_types", how="birth_date_number", rate=0.003),
    fault("wrong_types", how="person_basic_list", rate=0.003),
    fault("empty_docs", how="instead", rate=0.001),
    fault("null_data", rate=0.001),
    fault("foreign_records", rate=0.01),
    fault("batch_killer", rate=0.0005),
    fault("missing_records", rate=0.001),
    fault("ndjson_truncate", how="clean_eof", first_n=1),
    fault("ndjson_truncate", how="mid_line", first_n=1),
    fault("ndjson_truncate", how="no_final_newline"),
    fault("ndjson_extra_types", how="meta"),
    fault("ndjson_extra_types", how="error", rate=0.001),
    fault("ndjson_extra_types", how="summary"),
    fault("ndjson_extra_types", how="heartbeat"),
    fault("ndjson_crlf"),
    fault("ndjson_bom"),
    fault("ndjson_garbage_line", how="text", first_n=1),
    fault("ndjson_garbage_line", how="scalar", first_n=1),
    fault("ndjson_garbage_line", how="bad_utf8", first_n=1),
)

_LOST_PERSONS: Final = (*_LOST_TO_ALL, fault("status_404"), fault("encoding", how="utf16"))

_PASSING_PERSONS_TERMS: Final = (
    fault("status_429", rate=0.01, first_n=1, retry_after="seconds", retry_after_s=1),
    fault("status_500", rate=0.01, first_n=1),
    fault("status_503", rate=0.01, first_n=1),
    fault("conn_reset", rate=0.01, first_n=1, when="mid_body"),
    fault("body_cut", rate=0.01, first_n=1, how="chunked"),
)


_LOST_DATASETS: Final = (
    *_LOST_TO_ALL,
    fault("malformed_json", how="cut"),
    *(fault("hawk", how=how) for how in KNOBS["hawk"].parameters["how"].options),
    *(fault("paging", how=how) for how in KNOBS["paging"].parameters["how"].options),
    *(fault("dataset", how=how) for how in KNOBS["dataset"].parameters["how"].options),
)

_LOST_FILES: Final = tuple(fault("file", how=how) for how in KNOBS["file"].parameters["how"].options)


@dataclass(frozen=True)
class _Hostility:
    """What `hostile` does to requests of one kind.

    Attributes:
        scopes: The requests.
        passing: Faults that a sound client lives through.
        spoilt: Faults of every attempt that cost single keys at most.
        lost: Faults after which there is no trustworthy answer.
        lost_share: Share of days that are lost.
        names: What its draws are named.
    """

    scopes: tuple[str, ...]
    passing: tuple[Fault, ...]
    spoilt: tuple[Fault, ...]
    lost: tuple[Fault, ...]
    lost_share: float
    names: tuple[str, ...]

    def on(self, dice: Dice, day: date, *, may_be_lost: bool) -> tuple[Fault, ...]:
        """The faults of a day."""
        if may_be_lost and dice.chance(self.lost_share, "lost day", *self.names, day):
            return _within(self.scopes, dice.pick(self.lost, "what loses it", *self.names, day))
        passes = 1 + dice.below(2, "how many pass", *self.names, day)
        passing = dice.shuffled(self.passing, "passing", *self.names, day)[:passes]
        spoils = dice.below(3, "how many spoil", *self.names, day)
        spoilt = dice.shuffled(self.spoilt, "spoilt", *self.names, day)[:spoils]
        return _within(self.scopes, *passing, *spoilt)


_HOSTILITIES: Final = (
    _Hostility((_TERMS,), _PASSING, _SPOILT_ROWS, _LOST_DAYS, 0.25, ()),
    _Hostility((_PEOPLESOFT_IDS,), _PASSING_QUICKLY, _SPOILT_IDS, _LOST_IDS, 0.06, ("ids",)),
    _Hostility(
        ("sap",),
        _PASSING_QUICKLY,
        _SPOILT_IDS,
        (*_LOST_IDS, fault("error_200", how="sap_return_e")),
        0.06,
        ("sap",),
    ),
    _Hostility(
        ("vds",),
        _PASSING_QUICKLY,
        _SPOILT_IDS,
        (*_LOST_IDS, fault("error_200", how="vds_statusline_500"), fault("error_200", how="snap_error_doc")),
        0.06,
        ("vds",),
    ),
    _Hostility(_TERMS_OF_PERSONS, _PASSING_PERSONS_TERMS, (), _LOST_TO_ALL, 0.04, ("terms of persons",)),
    _Hostility((_COURSES,), _PASSING_QUICKLY, (*_SPOILT_DOCUMENTS, *_SPOILT_COURSES), _LOST_COURSES, 0.1, ("courses",)),
    _Hostility(_PERSONS, _PASSING_QUICKLY, (*_SPOILT_DOCUMENTS, *_SPOILT_PERSONS), _LOST_PERSONS, 0.06, ("persons",)),
    _Hostility(("datahub",), _PASSING_QUICKLY, (), _LOST_DATASETS, 0.1, ("datasets",)),
    _Hostility(("files",), _PASSING_QUICKLY, (), _LOST_FILES, 0.06, ("files",)),
)


def _hostile(dice: Dice, day: date, *, may_be_lost: bool) -> tuple[Fault, ...]:
    return tuple(found for one in _HOSTILITIES for found in one.on(dice, day, may_be_lost=may_be_lost))
