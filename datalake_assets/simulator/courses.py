"""The courses of every term, as they stand on a day: what is offered, and how it changes from day to day.

Courses come, go, return and change; rosters change more often; arrays and members come in another order on
many days, which is no change. Quirks of the fields (how ids, codes and "empty" are written) depend on the
course and never on the day. How courses are asked for and spoilt on the way stands in `snaplogic_course.py`.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from datalake_assets.simulator.config import Config
from datalake_assets.simulator.json_text import Json
from datalake_assets.simulator.population import Dice, Draws, Occurrences
from datalake_assets.simulator.terms import SCENARIO_SHUFFLE, TermPopulation

CourseKey = tuple[str, str, str, str]
"""Career, term code, course id and session, as numbers are written without leading zeros."""

Object = dict[str, Json]

_EPOCH: Final = date(2026, 1, 1)
_IDS: Final = 899_981
"""A prime, so that multiples of a factor give every id once."""

_RETURN_RATE: Final = 0.02
_REORDERED: Final = 0.1
_CAREER_WEIGHTS: Final = {"UGRD": 60, "GRAD": 25, "LAW": 8, "MED": 7}
_SEASONS: Final = {
    "1": ("Spring", (1, 20), (5, 14)),
    "5": ("Summer", (5, 21), (8, 11)),
    "8": ("Fall", (9, 2), (12, 19)),
}
_COLLEGES: Final = {"CAS": "College of Arts & Sciences", "ENG": "College of Engineering", "QST": "School of Business"}
_DEPARTMENTS: Final = ("CS", "MA", "PH", "BI", "EC", "HI", "LX", "PY")
_SUBJECTS: Final = ("Algorithms", "Topology", "Optics", "Genetics", "Markets", "Rome", "Syntax", "Memory")
_LEVELS: Final = {"100": "Introductory", "300": "Intermediate", "500": "Advanced"}
_NOTES: Final[tuple[Json, ...]] = (
    None,
    "",
    "Carries lecture and lab components.",
    'Ünïcode and a "quoted" word are on purpose.',
    "Two\u2028lines, \u0085 and \U0001d11e.",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 and Z\u0361\u035caccents",
    "L'été d'Alice \\ 100 %",
)
_DAYS: Final[tuple[list[Json], ...]] = (["Mon", "Wed", "Fri"], ["Tue", "Thu"], ["Thu"], [])
_TYPES: Final = {"LEC": "Lecture", "LAB": "Laboratory", "DIS": "Discussion"}
_SSN_KEYS: Final = ("ssn", "SSN", "Ssn")


@dataclass(frozen=True)
class CourseGroup:
    """The courses of one career in one term, in the order of the answer.

    Attributes:
        career: The career.
        details: What is told of the term.
        courses: The courses by key.
        empty_after: Courses after which an empty object stands.
    """

    career: str
    details: Object
    courses: dict[CourseKey, Object]
    empty_after: frozenset[CourseKey]

    def wire(self) -> Object:
        """The group as it is sent."""
        listed: list[Json] = []
        for key, course in self.courses.items():
            listed += [course, {}] if key in self.empty_after else [course]
        return {"termDetails": self.details, "courses": listed}


class CoursePopulation:
    """All courses on any day.

    Nothing comes, goes or changes before the first day of the scenario, or 2026-01-01 without one.

    Args:
        config: The knobs.
        terms: The terms in which courses are offered.
    """

    def __init__(self, config: Config, terms: TermPopulation) -> None:
        self._config = config
        self._terms = terms
        self._dice = Dice(config.seed)
        self._first = (config.scenario_start or _EPOCH).toordinal()
        self._factor = 1 + self._dice.below(_IDS - 1, "course ids")
        self._stays = Occurrences(self._dice, "course stays", (config.course_removed_rate, _RETURN_RATE))
        self._changes = Occurrences(self._dice, "course changes", (config.course_change_rate,))
        self._churns = Occurrences(self._dice, "roster churns", (config.roster_churn,))
        # Kept, because attempts, bodies and truths ask for the same days again and again.
        self.groups = lru_cache(maxsize=4)(self._groups)

    def on(self, day: date, strm: str) -> list[Object]:
        """The groups of a term as they are sent; none if there is no such term on that day."""
        return [group.wire() for group in self.groups(day, strm)]

    def ideal(self, day: date, strm: str) -> list[tuple[CourseKey, Object]]:
        """Every course of a term with what is told of its term, by key."""
        return sorted(
            (
                (key, {**course, "termDetails": group.details})
                for group in self.groups(day, strm)
                for key, course in group.courses.items()
            ),
            key=lambda pair: pair[0],
        )

    def _groups(self, day: date, strm: str) -> tuple[CourseGroup, ...]:
        careers = {key[0] for key in (term.key for term in self._terms.on(day)) if key[1] == strm}
        offered: dict[str, dict[CourseKey, Object]] = {career: {} for career in sorted(careers)}
        days = max(0, day.toordinal() - self._first)
        total = self._config.courses_per_term
        # In another order on every day: courses are listed as their tasks finish.
        for number in self._dice.draws("order of courses", strm, day).shuffled(
            range(total + int(days * total * self._config.course_new_rate))
        ):
            career = self._career(number)
            if career in careers and self._is_offered(number, strm, day):
                key = (career, strm, str(self._course_id(number)), self._session(number))
                offered[career][key] = self._course(number, strm, day)
        rate = self._config.empty_docs_rate
        return tuple(
            CourseGroup(
                career,
                self._details(career, strm),
                courses,
                frozenset(key for key in courses if self._dice.chance(rate, "empty object", day, *key)),
            )
            for career, courses in self._dice.draws("order of groups", strm, day).shuffled(offered.items())
        )

    def _is_offered(self, number: int, strm: str, day: date) -> bool:
        times, _ = self._stays.until((strm, number), self._coming(number), day.toordinal())
        return times % 2 == 0

    def _coming(self, number: int) -> int:
        late = number - self._config.courses_per_term
        if late < 0:
            return self._first
        return self._first + int((late + 1) / (self._config.courses_per_term * self._config.course_new_rate))

    # Of ten courses one is the one before it in another session, and one the one before it in another career.

    def _course_id(self, number: int) -> int:
        return 1000 + (_original(number) + 1) * self._factor % _IDS

    def _session(self, number: int) -> str:
        is_other = number % 10 == 9 or (number % 10 == 5 and len(self._config.careers) == 1)
        return self._dice.pick(("6W1", "OC"), "session", number) if is_other else "1"

    def _career(self, number: int) -> str:
        careers = self._config.careers
        weights = [_CAREER_WEIGHTS[career] for career in careers]
        career = self._dice.draws("career", _original(number)).weighted(careers, weights)
        return careers[(careers.index(career) + (number % 10 == 5)) % len(careers)]

    def _details(self, career: str, strm: str) -> Object:
        year, (season, _, _) = _year(strm), _SEASONS[strm[3]]
        first, last = _span(strm)
        draws = self._dice.draws("term details", career, strm)
        codes: list[Json] = [strm, strm + " ", int(strm)]
        return {
            "academicCareer": career,
            "term": {"code": draws.weighted(codes, (8, 1, 1)), "description": f"{season} {year}"},
            "startDate": first.isoformat(),
            "endDate": last.isoformat(),
        }

    def _course(self, number: int, strm: str, day: date) -> Object:
        changes, _ = self._changes.until((strm, number), self._coming(number), day.toordinal())
        draws = self._dice.draws("course", number)
        course_id = self._course_id(number)
        subject, department = draws.pick(_SUBJECTS), draws.pick(_DEPARTMENTS)
        college, level = draws.pick(list(_COLLEGES)), draws.pick(list(_LEVELS))
        limit = str(20 * (1 + draws.below(12)) + changes)
        first, last = (moment.isoformat() for moment in _span(strm))
        course: Object = {
            "v2": {
                "courseId": f"{course_id:06d}",
                "sessionCode": self._session(number),
                "courseOfferNumber": "1",
                "effectiveDate": draws.pick(("2024-07-01", "2024-02-29", "1901-01-01")),
            },
            "college": {"code": college, "description": _COLLEGES[college]},
            "department": {"code": department, "description": department if draws.chance(0.5) else ""},
            "number": f"{level[0]}{number % 100:02d}",
            "title": f"{subject} {level[0]}",
            "titleLong": f"{_LEVELS[level]} {subject} {level[0]}",
            "notes": draws.pick(_NOTES),
            "enrollmentLimit": limit,
            "enrollmentLlimit": limit,
            "courseLevel": {"code": level, "description": _LEVELS[level]},
            "startDate": first,
            "endDate": draws.pick((last, last, "9999-12-31")),
            "sections": [self._section(number, strm, place, day) for place in range(self._sections(draws))],
        }
        is_shuffled = self._terms.scenario_day(day) == SCENARIO_SHUFFLE
        if is_shuffled or self._dice.chance(_REORDERED, "reordered", strm, number, day):
            course = _reordered_object(course, self._dice.draws("reordering", strm, number, day))
        return course

    def _sections(self, draws: Draws) -> int:
        average = self._config.sections_per_course
        return 0 if average == 0 or draws.chance(0.03) else 1 + draws.below(2 * average - 1)

    def _section(self, number: int, strm: str, place: int, day: date) -> Object:
        draws = self._dice.draws("section", strm, number, place)
        kind, first, last = draws.pick(list(_TYPES)), *(moment.isoformat() for moment in _span(strm))
        is_plain = draws.chance(0.5)
        empty: Json = draws.pick((None, "", " "))
        size = draws.below(2 * self._config.roster_size + 1)
        combined: Json = {"code": "C", "description": "Combined section"} if draws.chance(0.2) else None
        meetings: list[Json] = [_meeting(draws, meeting, first, last) for meeting in range(draws.below(3))]
        return {
            "section": f"{'ABC'[place % 3]}{1 + place // 3}",
            "classNumber": f"{10000 + draws.below(80000)}",
            "startDate": first,
            "endDate": last,
            "enrollmentCap": str(size + draws.below(10)),
            "enrollmentTotal": str(size),
            "enrolledTotal": str(size),
            "lastEnrollmentDate": first,
            "lastDropDateWithPenalty": last,
            "lastDropDateWithoutPenalty": last if is_plain else None,
            "suffix": empty,
            "title": f"{_TYPES[kind]} {place + 1}",
            "description": empty if is_plain else "Meets with another section.",
            "combinedSection": combined,
            "combinedSectionDescription": None if combined is None else "Meets with CDS DS 110",
            "group": {"code": f"{place + 1:02d}", "description": f"{_TYPES[kind]} group"},
            "sectionType": {"code": kind, "description": _TYPES[kind]},
            "credits": draws.pick(("4.00", "0.00", "2.5")),
            "creditVariance": "N",
            "unitsMinimum": "0.00",
            "unitsMaximum": "4.00",
            "topic": None if is_plain else {"code": "0", "description": ""},
            "associatedClass": "1",
            "classEnrollmentStatus": {"code": "O", "description": "Open"},
            "v2": {
                "instructionType": {"code": "P", "description": "In Person"},
                "meetingDetails": meetings,
                "roster": self._roster(number, strm, place, size, day),
            },
        }

    def _roster(self, number: int, strm: str, place: int, size: int, day: date) -> list[Json]:
        """So many students; at each change the longest enrolled drops out, and the one before is forgotten."""
        churns, since = self._churns.until((strm, number), self._coming(number), day.toordinal())
        has_ssn = self._dice.chance(0.1, "ssn", strm, number, place)
        rows: list[Json] = []
        for member in range(max(0, churns - 1) if size else 0, churns + size if size else 0):
            is_dropped = member < churns
            student = self._dice.number("member", strm, number, place, member)
            row: Object = {
                "buid": f"U9{student % 10_000_000:07d}",
                "enrollmentStatus": "D" if is_dropped else "E",
                "gradingBasis": ("GRD", "AUD", "P/F")[student % 3],
                "units": "4.00",
                "addDate": (_span(strm)[0] - timedelta(days=student % 90)).isoformat(),
                "dropDate": date.fromordinal(since).isoformat() if is_dropped else None,
            }
            if has_ssn and student % 4 == 0:
                row[_SSN_KEYS[student % 3]] = f"900-{student % 90 + 10:02d}-{student % 9000 + 1000:04d}"
            rows.append(row)
        return rows


def _original(number: int) -> int:
    return number - (number % 10 in (5, 9))


def _year(strm: str) -> int:
    return int(strm[0]) * 1000 + int(strm[1:3])


def _span(strm: str) -> tuple[date, date]:
    _, first, last = _SEASONS[strm[3]]
    return date(_year(strm), *first), date(_year(strm), *last)


def _meeting(draws: Draws, number: int, first: str, last: str) -> Object:
    is_placed = draws.chance(0.8)
    return {
        "meetingNumber": str(number + 1),
        "days": list(draws.pick(_DAYS)),
        "startTime": "10:10",
        "endTime": draws.pick(("11:00", "11:25")),
        "startDate": first,
        "endDate": last,
        "facility": {"code": "LAW_AUD", "building": "Law Auditorium", "room": "AUD", "capacity": "400"}
        if is_placed
        else None,
        "instructors": [
            {
                "buid": f"U9{draws.below(10_000_000):07d}",
                "firstName": draws.pick(("Ada", "Émile", "José")),
                "lastName": "Example",
                "email": "teacher@example.edu",
                "role": "PI",
            }
            for _ in range(draws.below(3))
        ],
    }


def _reordered_object(value: Object, draws: Draws) -> Object:
    return {name: _reordered(member, draws) for name, member in draws.shuffled(value.items())}


def _reordered(value: Json, draws: Draws) -> Json:
    """The same with its members, and the items of every array, in another order."""
    if isinstance(value, dict):
        return _reordered_object(value, draws)
    if isinstance(value, list):
        return [_reordered(item, draws) for item in draws.shuffled(value)]
    return value
