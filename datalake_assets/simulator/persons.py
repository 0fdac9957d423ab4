"""What the sources say of a person: documents of basics, contacts, studies, employment and affiliation.

A pure function of seed, person and day: what is said follows from the last change, the order of arrays and
members and the style of numbers from the day. Documents share their parts and must not be changed. Who is
there stands in `people.py`, what documents are put together from in `person_parts.py`.
"""

import re
from collections.abc import Callable, Collection
from datetime import date, timedelta
from typing import Final, cast

from datalake_assets.simulator import person_parts as parts
from datalake_assets.simulator.config import Config
from datalake_assets.simulator.json_text import Json, Verbatim
from datalake_assets.simulator.people import People, Person, Study, Version
from datalake_assets.simulator.person_parts import Part, coded
from datalake_assets.simulator.population import Dice, Draws

_FRACTION: Final = re.compile(r"\d+\.\d+")
_SPREAD: Final = (0.6, 0.75, 0.85, 0.93, 0.98, 1.02, 1.08, 1.2, 1.5, 2.2)
_STUDENT_BYTES: Final = 3300
_SEMESTER_BYTES: Final = 1250
_EMPLOYEE_BYTES: Final = 2300
_POSITION_BYTES: Final = 1010
_TO_REMOVE: Final = "must be removed"
_ABSENT: Final = "absent"
_PRONOUNS: Final[tuple[Json, ...]] = (
    [coded("SHE", "she/her")],
    [coded("HE", "he/him")],
    [coded("THEY", "they/them")],
    [],
    None,
)
_NOTHING: Final[tuple[Json, ...]] = (None, {}, _ABSENT, _ABSENT)
_OPEN_END: Final = "9999-12-31"


class PersonDocuments:
    """The documents of all people.

    Args:
        config: The knobs.
        people: The people.
    """

    def __init__(self, config: Config, people: People) -> None:
        self._config = config
        self._people = people
        self._dice = Dice(config.seed)
        self._parts = parts.Parts(config.seed)

    def document(
        self,
        person_id: str,
        day: date,
        *,
        terms: Collection[tuple[str, str]] = (),
        teaching: Collection[str] = (),
    ) -> Part:
        """What is sent of a person on a day, sensitive keys included.

        Args:
            person_id: Whose document.
            day: The day.
            terms: Career and code of the terms that are asked for; others are not told, nor are those that the
                person does not have.
            teaching: Codes of the terms whose teaching is asked for.

        Raises:
            KeyError: Nobody of that id is there on that day.
        """
        person = self._people.named(person_id, day)
        if person is None:
            raise KeyError(person_id)
        version = self._people.version(person_id, day)
        studies = self._people.studies(person_id, day)
        taught = [strm for strm in self._people.taught_codes(person_id, day) if strm in teaching]
        said: Json = self._said(person, version, studies, {*terms}, taught)
        if style := self._style(person_id, day):
            said = _restyled(said, texts=style == "texts")
        if self._dice.chance(self._config.person_reorder_rate, "reordered", person_id, day):
            draws = self._dice.draws("order", person_id, day)
            arrays = draws.chance(0.7)
            said = _reordered(said, draws, arrays=arrays, members=not arrays or draws.chance(0.5))
        return cast(Part, said)

    def true_document(self, person_id: str, day: date) -> Part:
        """What is sent if everything that there is is asked for.

        Raises:
            KeyError: Nobody of that id is there on that day.
        """
        terms = {(study.career, study.strm) for study in self._people.studies(person_id, day)}
        return self.document(person_id, day, terms=terms, teaching=self._people.taught_codes(person_id, day))

    def state(self, person_id: str, day: date) -> tuple[int, str]:
        """What the true document of a person follows from: on days with equal states it differs in order at most.

        Raises:
            KeyError: Nobody has had this id by then.
        """
        return self._people.version(person_id, day).number, self._style(person_id, day)

    def _style(self, person_id: str, day: date) -> str:
        """What is written with one digit more that day: nothing, numbers, or texts that look like numbers."""
        if not self._dice.chance(self._config.numeric_restyle_rate, "restyled", person_id, day):
            return ""
        return self._dice.pick(("numbers", "texts"), "style", person_id, day)

    def _said(
        self,
        person: Person,
        version: Version,
        studies: list[Study],
        terms: Collection[tuple[str, str]],
        taught: list[str],
    ) -> Part:
        draws = self._dice.draws("document", person.id)
        since = self._people.came(person.id)
        is_student = person.student or person.dorm
        has_position = person.faculty or person.staff or (person.employee and (is_student or not person.affiliate))
        wanted = self._config.doc_kb * 1024 * draws.pick(_SPREAD)
        document: Part = {
            "personid": person.id,
            "personBasic": self._basic(draws),
            "personDetails": self._details(draws, since),
            "email": self._email(person.id, draws),
            "phone": [
                {
                    "type": coded(*kind),
                    "number": parts.phone_number(draws),
                    "extension": self._empty(draws) if draws.chance(0.7) else f"{draws.below(9000):04d}",
                    "isPreferred": preferred,
                }
                for kind, preferred in ((("CELL", "Mobile"), True), (("HOME", "Home"), False))[: 1 + draws.below(2)]
            ],
        }
        if is_student:
            other = _EMPLOYEE_BYTES if has_position else 0
            document["studentInfo"] = self._student(draws, since, studies, terms, wanted - other)
            wanted = 0
        if has_position:
            document["employeeInfo"] = self._employee(draws, since, wanted)
        else:
            self._put_nothing(document, "employeeInfo", draws)
        if person.affiliate:
            document["affiliateInfo"] = self._affiliate(draws, since)
        else:
            self._put_nothing(document, "affiliateInfo", draws)
        if person.faculty:
            document["facultyInfo"] = self._faculty(person.id, draws, taught)
        if version.number:
            self._change(document, person.id, version)
        return document

    def _basic(self, draws: Draws) -> Part:
        first, last = draws.pick(parts.FIRST_NAMES), draws.pick(parts.LAST_NAMES)
        names: list[Json] = [self._name(draws, ("PRI", "Primary"), first, last, is_preferred=False)]
        if draws.chance(0.5):
            # Every odd name stands beside an ordinary one, so that every person can be told.
            known_as = draws.pick(parts.ODD_NAMES) if draws.chance(0.2) else draws.pick(parts.FIRST_NAMES)
            names.append(self._name(draws, ("PRF", "Preferred"), known_as, last, is_preferred=True))
        digits = f"{draws.below(1_000_000):06d}"
        born = date(1950, 1, 1) + timedelta(days=draws.below(20_000))
        return {
            "names": names,
            "birthDate": "2004-02-29" if draws.chance(0.01) else born.isoformat(),
            "pronouns": draws.pick(_PRONOUNS),
            "preferredLanguage": draws.pick(("en", "es", "", None)),
            "ssn": f"900-{digits[:2]}-{digits[2:]}",
            "socialSecurityNumber": f"900{digits}",
            "sexualOrientation": coded("X", _TO_REMOVE),
        }

    def _name(self, draws: Draws, kind: tuple[str, str], first: str, last: str, *, is_preferred: bool) -> Part:
        return {
            "type": coded(*kind),
            "prefix": draws.pick(("", None, "Dr.")),
            "firstName": self._padded(draws, first),
            "middleName": self._empty(draws) if draws.chance(0.5) else f"{draws.pick('BDFKV')}.",
            "lastName": self._padded(draws, last),
            "suffix": self._empty(draws),
            "isPreferred": is_preferred,
        }

    def _details(self, draws: Draws, since: date) -> Part:
        contacts: list[Json] = [
            {
                "name": self._padded(draws, f"{draws.pick(parts.FIRST_NAMES)} {draws.pick(parts.LAST_NAMES)}"),
                "relationship": coded(*draws.pick((("P", "Parent"), ("S", "Spouse"), ("F", "Friend")))),
                "isPrimary": number == 0,
                "phone": [{"type": coded("CELL", "Mobile"), "number": parts.phone_number(draws)}],
                "address": parts.address(draws, ("HOME", "Home"), since.isoformat()),
            }
            for number in range(draws.below(3))
        ]
        groups: list[Json] = [
            {
                **coded(*draws.pick(parts.GROUPS)),
                "effectiveDate": self._earlier(draws, since),
                "status": draws.pick("AI"),
            }
            for _ in range(draws.below(4))
        ]
        return {"emergencyContact": contacts, "group": groups, "holds": draws.pick(([], None, {}))}

    def _email(self, person_id: str, draws: Draws) -> list[Json]:
        found: list[Json] = [
            {"type": coded("CAMP", "Campus"), "address": f"{person_id.lower()}@example.edu", "isPreferred": True}
        ]
        if draws.chance(0.6):
            home = f"{draws.pick(parts.STREETS)[:3].lower()}.{person_id[-5:]}@example.org"
            found.append({"type": coded("HOME", "Home"), "address": self._padded(draws, home), "isPreferred": False})
        return found

    def _student(
        self,
        draws: Draws,
        since: date,
        studies: list[Study],
        terms: Collection[tuple[str, str]],
        wanted: float,
    ) -> Part:
        begun = sum(study.has_begun for study in studies)
        left = wanted - _STUDENT_BYTES - _SEMESTER_BYTES * len(studies)
        classes = max(1, round(left / (self._parts.class_bytes * max(1, begun))))
        code = studies[-1].career if studies else "UGRD"
        advisor: list[Json] = [
            {
                **self._parts.someone(draws.below(500)),
                "role": coded("ADVR", "Advisor"),
                "academicCareer": parts.career(code),
            }
            for _ in range(draws.pick((0, 1, 1, 2)))
        ]
        results: list[Json] = [
            {
                "test": coded(test, test.title()),
                "component": coded(component, component.title()),
                "score": f"{lowest + draws.below(highest - lowest + 1)}",
                "percentile": draws.pick((Verbatim("97.5"), Verbatim("50"), None)),
                "testDate": self._earlier(draws, since),
            }
            for test, component, lowest, highest in parts.TESTS[: draws.below(len(parts.TESTS))]
        ]
        gpa = 2000 + draws.below(2000)
        kinds = (("LOCL", "Local"), ("HOME", "Home"))[: 1 + draws.below(2)]
        variant = draws.below(40)
        asked: list[Json] = []
        for place, study in enumerate(studies):
            first = draws.below(1000)
            if (study.career, study.strm) in terms:
                asked.append({"studentSemesterInfo": self._semester(study, place, gpa, variant, classes, first)})
        return {
            "finAid": {"aidYear": f"{since.year + 1}", "packageStatus": _TO_REMOVE},
            "finAidReceived": draws.pick(("Y", "N")),
            "address": [parts.address(draws, kind, since.isoformat()) for kind in kinds],
            "academicProgress": {
                "standing": coded("GOOD", "Good standing"),
                "creditsCompleted": f"{16 * begun}.00",
                "asOfTerm": studies[-1].strm if studies else self._empty(draws),
            },
            "testResults": results,
            "advisor": advisor,
            "admissionHistory": [
                {
                    "applicationNumber": f"00{draws.below(1_000_000):06d}",
                    "admitTerm": parts.academic_term(studies[0].strm)["term"] if studies else None,
                    "admitType": coded("FYR", "First-year"),
                    "action": coded("MATR", "Matriculation"),
                    "actionDate": self._earlier(draws, since),
                }
            ],
            "studentSemester": asked,
        }

    def _semester(self, study: Study, place: int, gpa: int, variant: int, classes: int, first: int) -> Part:
        taken = self._parts.classes(study.strm)
        current = 2000 + (gpa + 7 * first) % 2001
        semester: Part = {
            "academicTerm": parts.academic_term(study.strm),
            "academicCareer": parts.career(study.career),
            "registrationStatus": coded("R", "Registered") if study.has_begun else coded("N", "Not registered"),
            "withdrawalStatus": coded("NWD", "Not withdrawn") if study.has_begun else None,
            "currentClassYear": coded(f"{10 * min(5, 1 + place // 2)}", f"Year {1 + place // 2}"),
            "certification": coded("F", "Full time") if study.has_begun else None,
            "certificationApproved": "Y" if study.has_begun else "",
            "projectedGraduationDate": f"20{int(study.strm[1:3]) + 3:02d}-05-20",
            "currentGpa": f"{current / 1000:.3f}" if study.has_begun else None,
            "cumulativeGpa": f"{gpa / 1000:.3f}",
            "unitsTermTotal": "16.00" if study.has_begun else "0.00",
            "unitsCumulative": f"{16 * (place + 1)}.00",
        }
        if study.has_begun:
            semester["degreeProgram"] = self._parts.degree_program(study.career, variant)
            # Steps that have no divisor in common with the number of classes meet each of them before any twice.
            semester["studentClass"] = [taken[(first + 7 * number) % len(taken)] for number in range(classes)]
        else:
            semester["degreeProgram"] = []
            semester["studentClass"] = []
        return semester

    def _employee(self, draws: Draws, since: date, wanted: float) -> Part:
        positions = max(1, round((wanted - _EMPLOYEE_BYTES) / _POSITION_BYTES))
        return {
            "address": [parts.address(draws, ("OFF", "Office"), since.isoformat())],
            "positions": [
                {"positionInfo": self._position(draws, since, is_current=number == 0)} for number in range(positions)
            ],
        }

    def _position(self, draws: Draws, since: date, *, is_current: bool) -> Part:
        college, college_name, number = draws.pick(parts.COLLEGES)
        field, title = draws.pick(parts.PLANS), draws.pick(parts.TITLES)
        is_academic = draws.chance(0.6)
        return {
            "basicData": {
                "positionId": f"5{draws.below(10_000_000):07d}",
                "title": self._padded(draws, title),
                "employeeGroup": "Faculty" if is_academic else "Staff",
                "employmentStatus": "3 - Active" if is_current else "0 - Withdrawn",
                "fte": Verbatim(draws.pick(("1.0", "0.5", "0.75"))),
                "beginDate": self._earlier(draws, since),
                "endDate": _OPEN_END if is_current else since.isoformat(),
            },
            "office": {
                "building": "Invented Hall",
                "room": f"{draws.below(400):03d}",
                "phone": parts.phone_number(draws),
            },
            "department": {
                "unit": coded(college, college_name),
                "department": coded(number, field),
                "departmentName": field,
                "organizationalUnit": f"1{draws.below(10_000_000):07d}",
                "organizationalUnitDescription": f"{college} {field}",
            },
            "academic": {
                "rank": title if is_academic else self._empty(draws),
                "tenureStatus": draws.pick(("T", "N", None)) if is_academic else None,
            },
            "supervisor": draws.pick((self._parts.someone(draws.below(500)),) * 4 + (None,)),
        }

    def _affiliate(self, draws: Draws, since: date) -> Part:
        college, college_name, number = draws.pick(parts.COLLEGES)
        affiliation: Part = {
            "address": [parts.address(draws, ("HOME", "Home"), since.isoformat())],
            "affiliateType": coded(*draws.pick((("VOL", "Volunteer"), ("VIS", "Visitor"), ("CON", "Contractor")))),
            "affiliateAssignment": self._padded(draws, draws.pick(("Archive volunteer", "Visiting scholar"))),
            "assignmentBeginDate": self._earlier(draws, since),
            "assignmentEndDate": draws.pick((_OPEN_END, f"{since.year + 1}-05-31")),
            "personalArea": coded("1000", "Invented Campus"),
            "personalSubArea": coded("0001", "Monthly"),
            "department": coded(number, draws.pick(parts.PLANS)),
            "unit": coded(college, college_name),
            "organizationalUnit": f"1{draws.below(10_000_000):07d}",
            "organizationalUnitParent": "10000001",
            "supervisorID": self._parts.someone(draws.below(500))["buid"],
        }
        if draws.chance(0.6):
            affiliation["sponsorID"] = self._parts.someone(draws.below(500))["buid"]
        return affiliation

    def _faculty(self, person_id: str, draws: Draws, taught: list[str]) -> Part:
        instruction: list[Json] = []
        for strm in taught:
            classes, first = self._parts.classes(strm), self._dice.below(1000, "teaches", person_id, strm)
            held: list[Json] = [
                {"course": taken["course"], "section": taken["section"]}
                for taken in (classes[(first + number) % len(classes)] for number in range(1 + first % 3))
            ]
            instruction.append({"academicTerm": parts.academic_term(strm), "class": held})
        return {"rank": draws.pick(parts.TITLES), "instruction": instruction}

    def _change(self, document: Part, person_id: str, version: Version) -> None:
        """Put the last change in. Each holds its day or its number, so that no two in a row are alike."""
        possible = [change for member, change in _CHANGES if document.get(member)]
        self._dice.pick(possible, "change", person_id, version.number)(document, version)

    def _put_nothing(self, document: Part, name: str, draws: Draws) -> None:
        nothing = draws.pick(_NOTHING)
        if nothing != _ABSENT:
            document[name] = nothing

    def _empty(self, draws: Draws) -> str | None:
        return draws.pick(("", " ")) if draws.chance(self._config.null_vs_empty_rate) else None

    def _padded(self, draws: Draws, text: str) -> str:
        return text + "  " if draws.chance(self._config.whitespace_rate) else text

    def _earlier(self, draws: Draws, since: date) -> str:
        return (since - timedelta(days=draws.below(1500))).isoformat()


def _moved(document: Part, version: Version) -> None:
    student = cast(Part, document["studentInfo"])
    first, *others = cast(list[Json], student["address"])
    moved = {"line1": f"{version.number} Newly Invented Way", "effectiveDate": version.since.isoformat()}
    student["address"] = [{**cast(Part, first), **moved}, *others]


def _joined(document: Part, version: Version) -> None:
    details = cast(Part, document["personDetails"])
    code, description = parts.GROUPS[version.number % len(parts.GROUPS)]
    joined: Part = {**coded(code, description), "effectiveDate": version.since.isoformat(), "status": "A"}
    details["group"] = [*cast(list[Json], details["group"]), joined]


def _renamed(document: Part, version: Version) -> None:
    basic = cast(Part, document["personBasic"])
    first, *others = cast(list[Json], basic["names"])
    renamed: Part = {**cast(Part, first), "lastName": f"Renamed-{version.number}"}
    basic["names"] = [renamed, *others]


def _reachable_elsewhere(document: Part, version: Version) -> None:
    first, *others = cast(list[Json], document["phone"])
    document["phone"] = [{**cast(Part, first), "extension": f"{version.number:04d}"}, *others]


def _unreachable(document: Part, version: Version) -> None:
    """Two ways to have no contacts, in turn: of the two only their form tells them apart."""
    cast(Part, document["personDetails"])["emergencyContact"] = None if version.number % 2 else []


def _progressed(document: Part, version: Version) -> None:
    student = cast(Part, document["studentInfo"])
    progress = cast(Part, student["academicProgress"])
    student["academicProgress"] = {**progress, "creditsCompleted": f"{130 + version.number}.00"}
    semesters = cast(list[Json], student["studentSemester"])
    if semesters:
        told = cast(Part, cast(Part, semesters[-1])["studentSemesterInfo"])
        gpa = f"{3000 + version.number % 1000:04d}"
        student["studentSemester"] = [
            *semesters[:-1],
            {"studentSemesterInfo": {**told, "cumulativeGpa": f"{gpa[0]}.{gpa[1:]}"}},
        ]


def _promoted(document: Part, version: Version) -> None:
    employee = cast(Part, document["employeeInfo"])
    first, *others = cast(list[Json], employee["positions"])
    position = cast(Part, cast(Part, first)["positionInfo"])
    basic = {**cast(Part, position["basicData"]), "beginDate": version.since.isoformat()}
    employee["positions"] = [{"positionInfo": {**position, "basicData": basic}}, *others]


def _reassigned(document: Part, version: Version) -> None:
    affiliate = cast(Part, document["affiliateInfo"])
    affiliate["assignmentEndDate"] = (version.since + timedelta(days=365)).isoformat()


_CHANGES: Final[tuple[tuple[str, Callable[[Part, Version], None]], ...]] = (
    ("personDetails", _joined),
    ("personDetails", _unreachable),
    ("personBasic", _renamed),
    ("phone", _reachable_elsewhere),
    ("studentInfo", _moved),
    ("studentInfo", _progressed),
    ("employeeInfo", _promoted),
    ("affiliateInfo", _reassigned),
)
"""What may change, by the member that must hold something for it."""


def _reordered(value: Json, draws: Draws, *, arrays: bool, members: bool) -> Json:
    """The same value with arrays, members or both in another order."""
    if isinstance(value, dict):
        names = draws.shuffled(value) if members else list(value)
        return {name: _reordered(value[name], draws, arrays=arrays, members=members) for name in names}
    if isinstance(value, list):
        items = draws.shuffled(value) if arrays else value
        return [_reordered(item, draws, arrays=arrays, members=members) for item in items]
    return value


def _restyled(value: Json, *, texts: bool) -> Json:
    """The same value with one digit more in its numbers, which changes nothing, or in its texts, which does."""
    if isinstance(value, dict):
        return {name: _restyled(member, texts=texts) for name, member in value.items()}
    if isinstance(value, list):
        return [_restyled(item, texts=texts) for item in value]
    if isinstance(value, Verbatim) and not texts:
        return Verbatim(value.text + ("0" if "." in value.text else ".0"))
    if type(value) is str and texts and _FRACTION.fullmatch(value):
        return value + "0"
    return value
