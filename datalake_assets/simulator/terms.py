"""The terms of every career, as they stand on a day: an invented calendar and what changes in it.

A pure function of seed, term and day. Quirks of the fields (trailing blanks, several ways to write "empty")
depend on the term and never on the day, so that they do not look like changes. How terms are sent belongs to
the endpoints, what is spoilt on the way to `rows.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, cached_property, lru_cache
from typing import Final

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.population import Dice

SCENARIO_ROLL: Final = 2
SCENARIO_CHANGE: Final = 3
SCENARIO_SHUFFLE: Final = 4
SCENARIO_OUTAGE: Final = 5
SCENARIO_NEW_TERM: Final = 6

TermKey = tuple[str, str]

_ANCHOR_YEAR: Final = 2026
_SEASONS: Final = {"1": "Spring", "5": "Summer", "8": "Fall"}
_OLD_SEASONS: Final = {"5": "2", "8": "4", "1": "6"}
_TAUGHT: Final = {"UGRD": "158", "GRAD": "158", "LAW": "18", "MED": "158"}
_SPANS: Final = {
    ("1", False): ((1, 20), (5, 14)),
    ("5", False): ((5, 21), (8, 11)),
    ("8", False): ((9, 2), (12, 19)),
    ("1", True): ((1, 6), (6, 4)),
    ("5", True): ((6, 11), (7, 30)),
    ("8", True): ((8, 5), (12, 17)),
}


@dataclass(frozen=True)
class Term:
    """One term of one career.

    Attributes:
        career: Academic career.
        year: Calendar year in which it lies.
        season: Last digit of its code: 1 spring, 5 summer, 8 fall.
    """

    career: str
    year: int
    season: str

    @property
    def strm(self) -> str:
        """The code, such as 2258 for fall 2025."""
        return f"{self.year // 1000}{self.year % 100:02d}{self.season}"

    @property
    def key(self) -> TermKey:
        """What identifies the term."""
        return self.career, self.strm

    @property
    def acad_year(self) -> int:
        """The academic year: summer and fall count to the next one."""
        return self.year + (self.season != "1")


@dataclass(frozen=True)
class TermDocument:
    """What the source says of one term on one day.

    Attributes:
        key: Career and code, without blanks.
        fields: The fields in the order in which they are sent.
    """

    key: TermKey
    fields: dict[str, Json]


class TermPopulation:
    """All terms on any day.

    Args:
        config: The knobs.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._dice = Dice(config.seed)
        start = config.scenario_start
        self._first_year = (start.year if start else _ANCHOR_YEAR) - config.terms_years
        # Kept, because walks and truths ask for the same days and terms again and again.
        self.on = lru_cache(maxsize=64)(self._on)
        self._span = cache(self._draw_span)
        self._blanks = cache(self._draw_blanks)
        self._empty = cache(self._draw_empty)

    def scenario_day(self, day: date) -> int:
        """The number of a day in the scenario, from 1; 0 or less before it, and without a scenario."""
        start = self._config.scenario_start
        return (day - start).days + 1 if start else 0

    def beside_current(self, day: date, offset: int) -> TermKey:
        """The UGRD term so many places after (or, negative, before) the current one."""
        return self._terms("UGRD", day)[self._current_index("UGRD", day) + offset].key

    def taught(self, career: str, day: date) -> tuple[list[str], int]:
        """The codes of a career in order of time, and the place of the current one."""
        return [term.strm for term in self._terms(career, day)], self._current_index(career, day)

    @cached_property
    def revised_key(self) -> TermKey | None:
        """The UGRD term that changes on day 3 of the scenario."""
        start = self._config.scenario_start
        return self.beside_current(start, 2) if start else None

    @cached_property
    def removed_key(self) -> TermKey | None:
        """The past term that disappears on day 3 of the scenario."""
        start = self._config.scenario_start
        careers = [career for career in self._config.careers if career in ("GRAD", "LAW")]
        if start is None or not careers:
            return None
        career = self._dice.pick(careers, "removed career")
        past = self._terms(career, start)[: self._current_index(career, start)]
        return self._dice.pick(past, "removed term").key if past else None

    def _on(self, day: date) -> tuple[TermDocument, ...]:
        documents = [
            TermDocument(term.key, self._fields(terms, index, current, day))
            for career in self._config.careers
            for terms, current in [(self._terms(career, day), self._current_index(career, day))]
            for index, term in enumerate(terms)
        ]
        if self.scenario_day(day) >= SCENARIO_CHANGE:
            documents = [document for document in documents if document.key != self.removed_key]
        if self._config.term_order == "strm":
            documents.sort(key=lambda document: document.key[1])
        if self.scenario_day(day) == SCENARIO_SHUFFLE:
            documents = [self._reordered(document) for document in self._dice.shuffled(documents, "rows")]
        return tuple(documents)

    def _reordered(self, document: TermDocument) -> TermDocument:
        names = self._dice.shuffled(document.fields, "fields", *document.key)
        return TermDocument(document.key, {name: document.fields[name] for name in names})

    def _calendar_day(self, day: date) -> date:
        # The calendar stands still in the scenario, so that nothing but its own events changes a term.
        frozen = 1 <= self.scenario_day(day) < SCENARIO_NEW_TERM
        return self._config.scenario_start or day if frozen else day

    def _terms(self, career: str, day: date) -> list[Term]:
        last_year = max(self._calendar_day(day).year, self._first_year) + self._config.future_years
        terms = list(self._taught(career, last_year))
        if career == "UGRD" and self.scenario_day(day) >= SCENARIO_NEW_TERM and self._config.scenario_start:
            promised = list(self._taught(career, self._config.scenario_start.year + self._config.future_years))
            if len(terms) == len(promised):
                terms.append(next(self._taught(career, last_year + 1, first_year=last_year + 1)))
        return terms

    def _taught(self, career: str, last_year: int, first_year: int | None = None) -> Iterator[Term]:
        for year in range(self._first_year if first_year is None else first_year, last_year + 1):
            for season in _TAUGHT[career]:
                yield Term(career, year, season)

    def _current_index(self, career: str, day: date) -> int:
        terms = self._terms(career, day)
        index = self._index_at(terms, self._calendar_day(day))
        start = self._config.scenario_start
        if career == "UGRD" and start and self.scenario_day(day) >= SCENARIO_ROLL:
            index = max(index, self._index_at(terms, start) + 1)
        return index

    def _index_at(self, terms: list[Term], day: date) -> int:
        begun = [index for index, term in enumerate(terms) if self._span(term)[0] <= day]
        return begun[-1] if begun else 0

    def _draw_span(self, term: Term) -> tuple[date, date]:
        (first_month, first_day), (last_month, last_day) = _SPANS[term.season, term.career == "MED"]
        shift = timedelta(days=self._dice.below(5, "shift", term.career, term.year) - 2)
        return date(term.year, first_month, first_day) + shift, date(term.year, last_month, last_day) + shift

    def _fields(self, terms: list[Term], index: int, current: int, day: date) -> dict[str, Json]:
        term = terms[index]
        revised = self.scenario_day(day) >= SCENARIO_CHANGE and term.key == self.revised_key
        first, last = self._span(term)
        if revised:
            last += timedelta(days=7)
        following = terms[index + 1].strm if index + 1 < len(terms) and index >= current - 1 else None
        preceding = terms[index - 1].strm if index and index <= current + 1 else None
        values: dict[str, str | None] = {
            "ACAD_CAREER": term.career,
            "STRM": term.strm,
            "DESCR": _description(term) + (" (rev)" if revised else ""),
            "TERM_BEGIN_DT": f"{first:%Y%m%d}",
            "TERM_END_DT": f"{last:%Y%m%d}",
            "CURRENT_IND": "Y" if self._is_marked(index, current, term, day) else "N",
            "BU_CUR_FUTURE_TERM": "C" if index == current else "F" if index > current else None,
            "BU_FUTURE_TERM_1": following,
            "BU_PAST_TERM_1": preceding,
            "OLD_TERM": f"{term.acad_year}{_OLD_SEASONS[term.season]}" if index <= current else None,
            "ACAD_YEAR": str(term.acad_year),
        }
        nulled = self._config.null_columns if term.career == "UGRD" and 0 < abs(index - current) <= 2 else ()
        fields: dict[str, Json] = {}
        for name, value in values.items():
            if name in nulled:
                fields[name] = None
            elif value is not None:
                fields[name] = value + self._blanks(term.key, name)
            else:
                empty = self._empty(term.key, name)
                if empty != "left out":
                    fields[name] = empty
        return fields

    def _is_marked(self, index: int, current: int, term: Term, day: date) -> bool:
        if term.career == "UGRD" and day in self._config.no_current:
            return False
        if term.career == "UGRD" and day in self._config.duplicate_current and index == current - 1:
            return True
        return index == current

    def _draw_blanks(self, key: TermKey, name: str) -> str:
        if not self._dice.chance(self._config.whitespace_rate, "blanks", *key, name):
            return ""
        return " " * (1 + self._dice.below(3, "how many blanks", *key, name))

    def _draw_empty(self, key: TermKey, name: str) -> str | None:
        if not self._dice.chance(self._config.null_vs_empty_rate, "empty", *key, name):
            return None
        # The old code of a term that has none yet is never text: readers count on null or nothing.
        forms = ("left out",) if name == "OLD_TERM" else ("", " ", "left out")
        return self._dice.pick(forms, "form of empty", *key, name)


def _description(term: Term) -> str:
    abroad = " Genève" if term.career == "GRAD" and term.season == "5" else ""
    return f"{_SEASONS[term.season]} {term.year}{abroad}"
