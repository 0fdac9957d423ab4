"""What documents of people are put together from: invented names, places, courses and codes.

Parts are made once and shared between documents, so nobody may change them. Whose document holds which part
is decided in `persons.py`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from datalake_assets.simulator.json_text import Json, Verbatim, write
from datalake_assets.simulator.population import Dice, Draws

Part = dict[str, Json]

FIRST_NAMES: Final = (
    "Amara", "Bogdan", "Chiara", "Dmitri", "Élodie", "Farid", "Guðrún", "Hana", "Íñigo", "Jürgen", "Keiko", "Łukasz",
    "Maeve", "Ngozi", "Øyvind", "Priya", "Quentin", "Renée", "Søren", "Thảo", "Uma", "Václav", "Wren", "Xiomara",
)  # fmt: skip
LAST_NAMES: Final = (
    "Ångström-Sample", "Broadleaf", "Château", "D'Arcy-Test", "Example", "Fjörd", "Groß", "Hollow", "Ivory", "Jaskółka",
    "Kettle", "Lantern", "Müller-Invent", "Nowhere", "O'Sample", "Pebble", "Quill", "Riverstone", "Šimple", "Thistle",
)  # fmt: skip
ODD_NAMES: Final = (
    "Line\u2028Separated",
    "Next\u0085Line",
    "\U0001d49c\U0001d4c8\U0001d4c9\U0001d4c7\U0001d4b6 \U0001f393",
    "\u05e0\u05d5\u05e2\u05d4 \u0644\u064a\u0644\u0649",
    "Zoe\u0308 Lu\u0301 n\u0303",
)
"""Names that break readers: line ends that are none, astral, right-to-left and combining characters."""

CITIES: Final = (("Exampleton", "MA", "02999"), ("Sampleville", "NH", "03999"), ("Testbury", "RI", "00999"))
STREETS: Final = ("Invented Way", "Nowhere St", "Placeholder Ave", "Rue de l'Exemple", "Sample Sq")
AREA_CODES: Final = ("617", "857", "781", "508")
COLLEGES: Final = (
    ("ARC", "College of Arcane Letters", "20001"),
    ("ENX", "School of Invented Engineering", "20002"),
    ("QSB", "Questioned School of Business", "20003"),
    ("MUS", "School of Music & Murmurs", "20004"),
)
PLANS: Final = ("Cartography", "Fluid Logic", "Ornithology", "Palæography", "Tidal Studies", "Weather Finance")
TITLES: Final = ("Senior Archivist", "Laboratory Manager", "Lecturer", "Associate Professor", "Research Fellow")
GROUPS: Final = (
    ("KLMP", "Kindled Lamp Scholars"), ("ROWR", "Rowing"), ("CHRS", "University Chorus"), ("VETS", "Veterans"),
    ("TRAN", "Transfer Cohort"), ("FGEN", "First Generation"), ("MNTR", "Peer Mentors"), ("LABS", "Laboratory Access"),
)  # fmt: skip
TESTS: Final = (
    ("SAT I", "MATH", 200, 800), ("SAT I", "ERW", 200, 800), ("ACT", "COMP", 1, 36), ("TOEFL", "TOTAL", 0, 120),
    ("GRE", "QUANT", 130, 170), ("AP", "CALC BC", 1, 5),
)  # fmt: skip
_SUBJECTS: Final = ("ARCCT", "ARCFL", "ENXTD", "QSBWF", "MUSMU", "ENXOP")
_COURSES: Final = ("Reading Old Maps", "Tides & Time", "Birds, Observed", "Théorie du vent", "Ledger of Clouds")
_PATTERNS: Final = (["Mon", "Wed", "Fri"], ["Tue", "Thu"], ["Mon"], ["Tue", "Wed", "Thu"])
_MODES: Final = (("P", "In Person"), ("OL", "Online"), ("HY", "Hybrid"))
_PROGRAMS: Final = {
    "UGRD": ("UGLA", "Undergraduate Studies", "BA", "Bachelor of Arts"),
    "GRAD": ("GRLA", "Graduate Studies", "MS", "Master of Science"),
    "LAW": ("LAWJD", "Law", "JD", "Juris Doctor"),
    "MED": ("MEDMD", "Medicine", "MD", "Doctor of Medicine"),
}
_CAREERS: Final = {"UGRD": "Undergraduate", "GRAD": "Graduate", "LAW": "Law", "MED": "Medicine"}
_SEASONS: Final = {
    "1": ("Spring", "01-21", "05-05"),
    "5": ("Summer", "05-22", "08-10"),
    "8": ("Fall", "09-03", "12-11"),
}
_CLASSES_PER_TERM: Final = 120


def coded(code: str, description: str) -> Part:
    """A code and what it means."""
    return {"code": code, "description": description}


def phone_number(draws: Draws) -> str:
    """A number of the range that is kept for fiction."""
    return f"{draws.pick(AREA_CODES)}/555-01{draws.below(100):02d}"


def address(draws: Draws, kind: tuple[str, str], since: str) -> Part:
    """A postal address."""
    city, state, postal_code = draws.pick(CITIES)
    return {
        "type": coded(*kind),
        "line1": f"{1 + draws.below(400)} {draws.pick(STREETS)}",
        "line2": draws.pick(("", "", None, "Apt 3B", "c/o Sample\tOffice")),
        "city": city,
        "state": state,
        "postalCode": postal_code,
        "country": "USA",
        "effectiveDate": since,
    }


def career(code: str) -> Part:
    """A career and its name."""
    return coded(code, _CAREERS[code])


@lru_cache(maxsize=1024)
def academic_term(strm: str) -> Part:
    """A term as documents name it."""
    year = _year(strm)
    return {
        "term": coded(strm, f"{_SEASONS[strm[3]][0]} {year}"),
        "year": str(year + (strm[3] != "1")),
    }


class Parts:
    """The parts of one seed that are too many to be listed.

    Args:
        seed: Other seeds, other parts.
    """

    def __init__(self, seed: int) -> None:
        self._dice = Dice(seed)
        self.classes = lru_cache(maxsize=1024)(self._classes)
        self.degree_program = lru_cache(maxsize=1024)(self._degree_program)
        self.someone = lru_cache(maxsize=1024)(self._someone)
        self.class_bytes = round(
            sum(len(write(item).encode()) + 1 for item in self.classes("2258")) / _CLASSES_PER_TERM
        )

    def _someone(self, number: int) -> Part:
        """A member of the faculty or the staff, as others name them."""
        draws = self._dice.draws("someone", number)
        first, last = draws.pick(FIRST_NAMES), draws.pick((*LAST_NAMES, *ODD_NAMES))
        return {
            "buid": f"U8{draws.below(10_000_000):07d}",
            "firstName": first,
            "lastName": last,
            "email": f"someone.{number}@example.edu",
        }

    def _classes(self, strm: str) -> Sequence[Part]:
        """The classes that students of a term are in."""
        return tuple(self._class(strm, number) for number in range(_CLASSES_PER_TERM))

    def _class(self, strm: str, number: int) -> Part:
        draws = self._dice.draws("class", strm, number)
        _, begin, end = _SEASONS[strm[3]]
        year, hour = _year(strm), 8 + draws.below(10)
        # A class without a room or a teacher yet says so in different ways.
        room: Json = {"building": "Invented Hall", "room": f"{draws.below(400):03d}"}
        places: list[Json] = [room] * 6 + [None, {}]
        teachers: list[Json] = [self.someone(draws.below(500)) for _ in range(draws.pick((1, 1, 1, 1, 2, 0)))]
        status = draws.pick((("E", "Enrolled"),) * 9 + (("D", "Dropped"), ("W", "Waiting")))
        detail: Part = {
            "instructionType": coded(*draws.pick(_MODES)),
            "instructor": teachers,
            "location": draws.pick(places),
            "calendar": {
                "days": list(draws.pick(_PATTERNS)),
                "startTime": f"{hour:02d}:10",
                "endTime": f"{hour + 1:02d}:00",
                "startDate": f"{year}-{begin}",
                "endDate": f"{year}-{end}",
            },
        }
        return {
            "course": {
                "courseId": f"00{draws.below(10_000):04d}",
                "subject": draws.pick(_SUBJECTS),
                "number": f"{100 + draws.below(800)}",
                "title": draws.pick(_COURSES),
            },
            "section": {"code": f"{draws.pick('ABC')}{1 + draws.below(9)}", "classNumber": f"{10_000 + number}"},
            "units": Verbatim(draws.pick(("4.0", "2.0", "3", "4.00"))),
            "enrollmentStatus": coded(*status),
            "campus": coded("INV", "Invented Campus"),
            "details": [detail],
        }

    def _degree_program(self, code: str, number: int) -> list[Json]:
        """The programmes that a student of a career is in; `number` tells variants apart."""
        draws = self._dice.draws("degree program", code, number)
        college, college_name, _ = draws.pick(COLLEGES)
        program, program_name, degree, degree_name = _PROGRAMS[code]
        plan = draws.pick(PLANS)
        plans: list[Json] = [{**coded(f"{college}{plan[:3].upper()}", f"{plan} {degree}"), "type": "MAJ"}]
        if draws.chance(0.3):
            plans.append({**coded(f"{college}MIN", draws.pick(PLANS)), "type": "MIN"})
        return [
            {
                "academicCareer": career(code),
                "academicGroup": coded(college, college_name),
                "academicOrganization": coded(f"{college}{plan[:2].upper()}", f"{college} {plan}"),
                "academicPlan": plans,
                "college": coded(college, college_name),
                "program": coded(program, program_name),
                "degree": coded(degree, degree_name),
            }
        ]


def _year(strm: str) -> int:
    return int(strm[1:3]) + (2000 if strm[0] == "2" else 1900)
