"""The people of the university: who is there on a day, in which roles, and when what is told of them changes.

Ids are a permutation of running numbers, so a person is found by id without a register; comings, goings and
changes are drawn as gaps between them, so that any day is reached without a walk through all days before it.
What the sources say of a person stands in `persons.py`, how they say it in the endpoints.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from math import floor
from typing import Final, NamedTuple

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.errors import SimulatorError
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.population import Dice, Draws, Occurrences
from datalake_assets.simulator.terms import TermPopulation

_EPOCH: Final = date(2026, 1, 1)
_IDS: Final = 10_000_000
_MOST_TERMS: Final = 14
_CAREER_WEIGHTS: Final = {"UGRD": 65, "GRAD": 25, "LAW": 5, "MED": 5}
_PROGRAMS: Final = {
    "UGRD": ("UGLA", "UGENG", "UGBUS"),
    "GRAD": ("GRLA", "GRENG", "GRBUS"),
    "LAW": ("LAWJD", "LAWLM"),
    "MED": ("MEDMD", "MEDMS"),
}


@dataclass(frozen=True, slots=True)
class Person:
    """One person, whose roles stay as they are.

    Attributes:
        id: `U` and eight digits.
        student: Named by PeopleSoft's query of students.
        dorm: Named by PeopleSoft's query of residents; a few are named by it alone.
        faculty: Primary affiliation in VDS.
        staff: Primary affiliation in VDS.
        affiliate: Has an assignment as affiliate.
        employee: Active in SAP, which knows affiliates without another role as well.
    """

    id: str
    student: bool = False
    dorm: bool = False
    faculty: bool = False
    staff: bool = False
    affiliate: bool = False
    employee: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """The state of what is told of a person.

    Attributes:
        number: How often it has changed; 0 when the person came.
        since: The day of the last change, or of the coming.
    """

    number: int
    since: date


class Study(NamedTuple):
    """One term of a student.

    Attributes:
        career: Its career.
        strm: Its code.
        career_number: The place of the career among those of the student, from 0.
        has_begun: Whether it has begun.
    """

    career: str
    strm: str
    career_number: int
    has_begun: bool


class People:
    """All people on any day.

    Nobody comes, goes or changes before the first day of the scenario, or 2026-01-01 without one.

    Args:
        config: The knobs.
        terms: The terms that are studied and taught.

    Raises:
        SimulatorError: All shares of roles are 0.
    """

    def __init__(self, config: Config, terms: TermPopulation) -> None:
        self._config = config
        self._terms = terms
        self._dice = Dice(config.seed)
        self._first = (config.scenario_start or _EPOCH).toordinal()
        self._weights = (config.share_student, config.share_faculty, config.share_staff, config.share_affiliate)
        if not sum(self._weights):
            raise SimulatorError(
                "share_student, share_faculty, share_staff and share_affiliate are all 0.",
                allowed=["at least one share above 0"],
            )
        self._factor = 10 * self._dice.below(_IDS // 10, "ids", "factor") + self._dice.pick((1, 3, 7, 9), "ids", "end")
        self._inverse = pow(self._factor, -1, _IDS)
        self._offset = self._dice.below(_IDS, "ids", "offset")
        self._totals = [config.persons]
        self._stays = Occurrences(self._dice, "stays", (config.person_removed_rate, config.person_return_rate))
        self._changes = Occurrences(self._dice, "changes", (config.person_change_rate,))
        self._person = cache(self._draw_person)
        self._taught = cache(terms.taught)
        # Kept, because sources, documents and truths ask for the same days again and again.
        self.on = lru_cache(maxsize=32)(self._on)
        self.former_employees = lru_cache(maxsize=32)(self._former_employees)

    def named(self, person_id: str, day: date) -> Person | None:
        """The person of exactly this id, if there on that day."""
        number = self._number(person_id)
        if number is None or number >= self._total(day) or not self._is_there(number, day):
            return None
        return self._person(number)

    def came(self, person_id: str) -> date:
        """The day on which a person came.

        Raises:
            KeyError: It is nobody's id.
        """
        number = self._number(person_id)
        if number is None:
            raise KeyError(person_id)
        return date.fromordinal(self._coming(number))

    def listed_id(self, person: Person) -> str:
        """The id as PeopleSoft's lists of ids write it: some carry trailing blanks."""
        is_padded = self._dice.chance(self._config.whitespace_rate, "blanks", person.id)
        return person.id + "  " if is_padded else person.id

    def version(self, person_id: str, day: date) -> Version:
        """Since when the person has been as on that day.

        Raises:
            KeyError: Nobody has had this id by then.
        """
        number = self._number(person_id)
        if number is None or number >= self._total(day):
            raise KeyError(person_id)
        changes, since = self._changes.until(number, self._coming(number), day.toordinal())
        return Version(changes, date.fromordinal(since))

    def terms_of(self, person_id: str, day: date) -> list[dict[str, Json]]:
        """The terms of a student as PeopleSoft lists them; none for everybody else and for some students."""
        return [
            {
                "CAMPUS_ID": person_id,
                "ACAD_CAREER": study.career,
                "STRM": study.strm,
                "ACAD_PROG": self._program(person_id, study.career),
                "STDNT_CAR_NBR": study.career_number,
            }
            for study in self.studies(person_id, day)
        ]

    def teaching_of(self, person_id: str, day: date) -> list[dict[str, Json]]:
        """The terms in which a teacher teaches, as PeopleSoft lists them; none for everybody else."""
        return [{"EMPLID": person_id, "STRM": strm} for strm in self.taught_codes(person_id, day)]

    def taught_codes(self, person_id: str, day: date) -> list[str]:
        """The codes of the terms in which a teacher teaches; some teach in none."""
        person = self.named(person_id, day)
        if person is None or not person.faculty:
            return []
        draws = self._dice.draws("teaching", person_id)
        if draws.chance(0.1):
            return []
        codes, current = self._taught("UGRD", self.version(person_id, day).since)
        first = max(0, current - draws.below(3))
        return codes[first : current + 1 + draws.below(2)]

    def studies(self, person_id: str, day: date) -> list[Study]:
        """The terms of a student by career and time.

        Like everything that is told of people, they go with the calendar only when the person changes.
        """
        person = self.named(person_id, day)
        if person is None or not person.student:
            return []
        draws = self._dice.draws("terms", person_id)
        if draws.chance(0.02):
            return []
        careers = self._careers(draws)
        wanted = min(_MOST_TERMS, 1 + draws.below(2 * self._config.terms_per_student - 1))
        share, ahead, in_summer = max(1, wanted // len(careers)), draws.below(2), draws.below(7) == 0
        came, since = self.came(person_id), self.version(person_id, day).since
        found: list[Study] = []
        for number, career in enumerate(careers):
            codes, current = self._taught(career, since)
            at_coming = self._taught(career, came)[1]
            # A career ended before the next one began; the last one goes on, and grows as time goes by.
            goes_on = number == len(careers) - 1
            last = current + ahead if goes_on else at_coming - share
            count = min(_MOST_TERMS, share + (current - at_coming if goes_on else 0))
            regular = [
                Study(career, codes[place], number, place <= current)
                for place in range(max(0, last - 2 * _MOST_TERMS), min(last + 1, len(codes)))
                if in_summer or codes[place][3] != "5"
            ]
            found += regular[-count:]
        return found

    def _careers(self, draws: Draws) -> list[str]:
        known = [career for career in _CAREER_WEIGHTS if career in self._config.careers]
        career = draws.weighted(known, [_CAREER_WEIGHTS[career] for career in known])
        return ["UGRD", career] if career != "UGRD" and draws.chance(0.1) else [career]

    def _program(self, person_id: str, career: str) -> str:
        blanks = "  " if self._dice.chance(self._config.whitespace_rate, "blanks", person_id, career) else ""
        return self._dice.pick(_PROGRAMS[career], "program", person_id, career) + blanks

    def _on(self, day: date) -> Sequence[Person]:
        """Everybody who is there, by id."""
        there = [self._person(number) for number in range(self._total(day)) if self._is_there(number, day)]
        return tuple(sorted(there, key=lambda person: person.id))

    def _former_employees(self, day: date) -> Sequence[str]:
        """Ids that SAP lists as no longer active: some of people who are there still, others of those who left."""
        former = []
        for number in range(self._total(day)):
            person = self._person(number)
            is_there = self._is_there(number, day)
            if person.employee != is_there and (person.employee or self._dice.chance(0.04, "former", number)):
                former.append(person.id)
        return tuple(sorted(former))

    def _total(self, day: date) -> int:
        """How many people there have ever been by a day."""
        days = max(0, day.toordinal() - self._first)
        if len(self._totals) <= days:
            drawn = self._config.person_new_rate * self._config.persons
            longer = list(self._totals)
            while len(longer) <= days:
                more = floor(drawn) + self._dice.chance(drawn % 1, "new", self._first + len(longer))
                longer.append(min(_IDS, longer[-1] + more))
            # Replaced as a whole, so that threads that ask at once see the same.
            self._totals = longer
        return self._totals[days]

    def _coming(self, number: int) -> int:
        """The day on which a person came; found among those that `_total` has been asked for."""
        return self._first + bisect_left(self._totals, number + 1)

    def _is_there(self, number: int, day: date) -> bool:
        moves, _ = self._stays.until(number, self._coming(number), day.toordinal())
        return moves % 2 == 0

    def _id(self, number: int) -> str:
        return f"U9{(self._factor * number + self._offset) % _IDS:07d}"

    def _number(self, person_id: str) -> int | None:
        digits = person_id[2:]
        if not (person_id.startswith("U9") and len(digits) == 7 and digits.isascii() and digits.isdigit()):
            return None
        return (int(digits) - self._offset) * self._inverse % _IDS

    def _draw_person(self, number: int) -> Person:
        draws = self._dice.draws("person", number)
        role = draws.weighted(("student", "faculty", "staff", "affiliate"), self._weights)
        also_affiliate = draws.chance(0.04)
        known_by_one = draws.chance(0.03)
        also = draws.below(100)
        person_id = self._id(number)
        if role == "student":
            return Person(
                person_id,
                student=not known_by_one,
                dorm=known_by_one or also < 35,
                affiliate=also_affiliate,
                employee=also % 10 == 0,
            )
        if role == "affiliate":
            # No list but SAP's names affiliates who are nothing else.
            return Person(person_id, student=also < 10, affiliate=True, employee=also >= 10 or also % 2 == 0)
        return Person(
            person_id,
            student=also < 6,
            faculty=role == "faculty",
            # A few employees are missing in VDS, and a few teachers in SAP.
            staff=role == "staff" and not known_by_one,
            affiliate=also_affiliate,
            employee=role == "staff" or not known_by_one,
        )
