"""The services of person and course: what each sees of a document that has everything, and who gets no row."""

from copy import deepcopy
from typing import Any

import pytest

from datalake_assets.entities import COURSE, PERSON, Entity
from datalake_assets.lake.services import WHOLE_DOCUMENT, Service, filtered, holds_data, load_services


def coded(code: str, text: str) -> dict[str, str]:
    return {"code": code, "description": text}


SEMESTER: dict[str, Any] = {
    "academicTerm": {"term": coded("2258", "Fall 2025"), "year": "2026"},
    "academicCareer": coded("UGRD", "Undergraduate"),
    "registrationStatus": coded("R", "Registered"),
    "withdrawalStatus": coded("NWD", "Not withdrawn"),
    "currentClassYear": coded("30", "Junior"),
    "certification": coded("F", "Full time"),
    "certificationApproved": "Y",
    "projectedGraduationDate": "2027-05-20",
    "currentGpa": "3.670",
    "cumulativeGpa": "3.512",
    "unitsTermTotal": "16.00",
    "unitsCumulative": "64.00",
    "degreeProgram": [
        {
            "academicCareer": coded("UGRD", "Undergraduate"),
            "academicGroup": coded("CAS", "Arts & Sciences"),
            "academicOrganization": coded("CASCS", "Computer Science"),
            "academicPlan": [coded("CASCSBA", "Computer Science BA")],
            "college": coded("CAS", "Arts & Sciences"),
            "program": coded("UGLA", "Liberal Arts"),
            "degree": coded("BA", "Bachelor of Arts"),
            "notes": "for the registrar only",
        }
    ],
    "studentClass": [
        {
            "course": {"courseId": "001234", "title": "Intro"},
            "section": {"code": "A1"},
            "enrollmentStatus": coded("E", "Enrolled"),
            "campus": coded("CRC", "Charles River Campus"),
            "grade": "A",
            "details": [
                {
                    "instructionType": coded("P", "In Person"),
                    "instructor": [
                        {
                            "buid": "U90000017",
                            "firstName": "Ada",
                            "lastName": "Example",
                            "email": "ada@example.edu",
                            "salary": "1",
                        }
                    ],
                    "location": {"room": "AUD"},
                    "calendar": {"days": ["Mon", "Wed"]},
                }
            ],
        }
    ],
}
STUDENT_INFO: dict[str, Any] = {
    "address": [{"line1": "2 Dormitory Sq"}],
    "academicProgress": {"creditsCompleted": "64.00"},
    "testResults": [{"score": "710"}],
    "advisor": [{"buid": "U90000017", "email": "ada@example.edu"}],
    "admissionHistory": [{"applicationNumber": "00123456"}],
    "studentSemester": [
        {"studentSemesterInfo": SEMESTER},
        {"studentSemesterInfo": {"academicTerm": {"term": coded("2261", "Spring 2026")}, "studentClass": []}},
    ],
    "hold": "for the bursar only",
}
EMPLOYEE_INFO: dict[str, Any] = {
    "address": [{"line1": "3 Example Ave"}],
    "positions": [
        {
            "positionInfo": {
                "basicData": {"title": "Assistant", "beginDate": "2024-09-03"},
                "office": {"room": "138"},
                "department": {
                    "unit": coded("CAS", "Arts & Sciences"),
                    "department": coded("12345", "Computer Science"),
                    "departmentName": "Computer Science",
                    "organizationalUnit": "10004321",
                    "organizationalUnitDescription": "CAS Computer Science",
                    "costCentre": "for finance only",
                },
                "academic": {"rank": "Lecturer", "tenureStatus": None},
                "supervisor": {"buid": "U90000017", "email": "ada@example.edu"},
                "payGrade": "for human resources only",
            }
        }
    ],
}
AFFILIATE_INFO: dict[str, Any] = {
    "address": [{"line1": "4 Nowhere St"}],
    "affiliateType": coded("VOL", "Volunteer"),
    "affiliateAssignment": "Laboratory volunteer",
    "assignmentBeginDate": "2025-06-01",
    "assignmentEndDate": "2026-05-31",
    "personalArea": coded("1000", "Charles River Campus"),
    "personalSubArea": coded("0001", "Monthly"),
    "department": coded("12345", "Computer Science"),
    "unit": coded("CAS", "Arts & Sciences"),
    "organizationalUnit": "10004321",
    "organizationalUnitParent": "10000001",
    "supervisorID": "U90000017",
    "sponsorID": "U90000018",
    "background": "for security only",
}
SHARED: dict[str, Any] = {
    "personid": "U90000001",
    "personBasic": {
        "names": [{"firstName": "Noor", "lastName": "Sample-O'Neil"}],
        "birthDate": "2004-02-29",
        "pronouns": [coded("SHE", "she/her")],
        "citizenship": "for the international office only",
    },
    "email": [{"type": coded("CAMP", "Campus"), "address": "noor@example.edu", "isPreferred": True, "verified": False}],
    "phone": [{"type": coded("CELL", "Mobile"), "number": "617/555-0100", "isPreferred": True, "extension": "9"}],
}
"""What everybody may have, whatever they are at the university."""

EVERYTHING: dict[str, Any] = SHARED | {
    "personDetails": {
        "emergencyContact": [{"name": "Parent Sample", "phone": [{"number": "617/555-0101"}]}],
        "group": [coded("HON", "Honors College")],
        "visa": "for the international office only",
    },
    "studentInfo": STUDENT_INFO,
    "employeeInfo": EMPLOYEE_INFO,
    "affiliateInfo": AFFILIATE_INFO,
}
COURSE_STORED: dict[str, Any] = {
    "termDetails": {
        "academicCareer": "UGRD",
        "term": coded("2258", "Fall 2025"),
        "startDate": "2025-09-02",
    },
    "v2": {"courseId": "001234", "sessionCode": "1", "courseOfferNumber": "1"},
    "college": coded("CAS", "Arts & Sciences"),
    "department": coded("CS", "Computer Science"),
    "number": "111",
    "title": "Intro",
    "titleLong": "Introduction",
    "notes": "Lecture and lab.",
    "enrollmentLimit": "240",
    "enrollmentLlimit": "240",
    "courseLevel": coded("100", "Introductory"),
    "startDate": "2025-09-02",
    "endDate": "2025-12-20",
    "fees": "for the bursar only",
    "sections": [
        {
            **{
                name: f"a {name}"
                for name in [
                    "section",
                    "classNumber",
                    "startDate",
                    "endDate",
                    "enrollmentCap",
                    "enrollmentTotal",
                    "lastEnrollmentDate",
                    "lastDropDateWithPenalty",
                    "lastDropDateWithoutPenalty",
                    "suffix",
                    "title",
                    "description",
                    "combinedSectionDescription",
                    "combinedSection",
                    "group",
                    "sectionType",
                    "credits",
                    "creditVariance",
                    "unitsMinimum",
                    "unitsMaximum",
                    "enrolledTotal",
                    "topic",
                    "associatedClass",
                    "classEnrollmentStatus",
                ]
            },
            "v2": {
                "instructionType": coded("P", "In Person"),
                "meetingDetails": [{"days": ["Mon"], "instructors": [{"buid": "U90000017"}]}],
                "roster": [{"buid": "U90000001", "units": "4.00"}],
            },
        },
        {"section": "B1", "v2": {"roster": [], "meetingDetails": []}},
    ],
}
EXAMPLES = {"person": EVERYTHING, "course": COURSE_STORED}

SERVICES = {entity.name: load_services(entity).services for entity in (PERSON, COURSE)}
ALL = [
    pytest.param(entity, one, id=f"{entity.name}-{one.name}")
    for entity in (PERSON, COURSE)
    for one in SERVICES[entity.name]
]
STUDENT = {one.name for one in SERVICES["person"] if one.name.startswith("student")}
EMPLOYEE = {one.name for one in SERVICES["person"] if one.name.startswith("employee")}
AFFILIATE = {one.name for one in SERVICES["person"] if one.name.startswith("affiliate")}


def rows_of(document: dict[str, Any], entity: Entity = PERSON) -> set[str]:
    """Services that get a row of a document."""
    key = [column.path for column in entity.key]
    return {one.name for one in SERVICES[entity.name] if one.view(document, key) is not None}


def scalars(value: Any, path: tuple[str, ...] = ()) -> set[str]:
    """Paths at which a scalar stands, as services write them."""
    if isinstance(value, dict):
        return {found for name, member in value.items() for found in scalars(member, (*path, name))}
    if isinstance(value, list):
        return {found for item in value for found in scalars(item, path)}
    return set() if value is None else {"/" + "/".join(path)}


def lies_within(path: str, allowed: tuple[str, ...]) -> bool:
    return any(one == WHOLE_DOCUMENT or path == one or path.startswith(one + "/") for one in allowed)


# ------------------------------------------------------------------------------------------- every service


@pytest.mark.parametrize(("entity", "one"), ALL)
def test_every_path_of_a_service_finds_data_in_the_stored_form(entity: Entity, one: Service) -> None:
    """Fault C1: 40 of 40 course paths named the form in which courses are sent, and matched nothing. Fault C2."""
    for path in (*one.paths, *one.required_paths):
        assert holds_data(filtered(EXAMPLES[entity.name], Service(**one.model_dump() | {"paths": [path]}).tree)), path


@pytest.mark.parametrize(("entity", "one"), ALL)
def test_a_service_sees_all_within_its_paths_and_nothing_else(entity: Entity, one: Service) -> None:
    """Invariant 7, over a document that also holds what no service but `full` may see."""
    document = EXAMPLES[entity.name]
    seen = scalars(one.view(document, [column.path for column in entity.key]))
    assert seen == {path for path in scalars(document) if lies_within(path, one.paths)}


def test_nobody_but_full_sees_what_is_for_others_only() -> None:
    for entity in (PERSON, COURSE):
        for one in SERVICES[entity.name]:
            seen = str(one.view(EXAMPLES[entity.name]))
            assert ("only" in seen) == (one.name == "full"), one.name


@pytest.mark.parametrize(("entity", "one"), ALL)
def test_what_a_service_requires_lies_within_what_it_sees_or_says_who_it_is_about(entity: Entity, one: Service) -> None:
    """A row whose existence tells of something outside the allow-list would leak it."""
    about = ("/studentInfo", "/employeeInfo", "/affiliateInfo")
    assert [path for path in one.required_paths if not lies_within(path, one.paths) and path not in about] == []


# --------------------------------------------------------------------------------------------- who gets a row


def test_a_person_who_is_everything_has_a_row_of_every_service() -> None:
    assert rows_of(EVERYTHING) == {one.name for one in SERVICES["person"]}
    assert len(SERVICES["person"]) == 23


def test_a_mail_address_a_name_and_a_birth_date_make_nobody_a_student() -> None:
    """Fault P20: such a person had fifteen rows, the student row with the birth date of an employee among them."""
    assert rows_of(SHARED) == {"bioDemo", "full"}
    empty = {"studentInfo": {}, "employeeInfo": {"positions": []}, "affiliateInfo": {"address": [], "department": None}}
    assert rows_of(SHARED | empty) == {"bioDemo", "full"}


@pytest.mark.parametrize(
    ("part", "services"),
    [("employeeInfo", EMPLOYEE), ("affiliateInfo", AFFILIATE), ("studentInfo", STUDENT - {"studentGroups"})],
)
def test_each_kind_of_person_has_rows_of_its_own_services_only(part: str, services: set[str]) -> None:
    """Fault P20, the other way round as well: nobody loses the services that are about them."""
    assert len(services) == {"employeeInfo": 5, "affiliateInfo": 4, "studentInfo": 10}[part]
    assert rows_of(SHARED | {part: EVERYTHING[part]}) == services | {"bioDemo", "full"}


def test_an_employee_with_an_emergency_contact_is_no_student() -> None:
    document = SHARED | {"employeeInfo": EMPLOYEE_INFO, "personDetails": EVERYTHING["personDetails"]}
    assert rows_of(document) == EMPLOYEE | {"bioDemo", "emergencyContact", "full"}


@pytest.mark.parametrize(
    ("part", "path", "lost"),
    [
        ("employeeInfo", ("positions", 0, "positionInfo", "supervisor"), {"employeeSupervisor"}),
        ("employeeInfo", ("positions", 0, "positionInfo", "academic"), {"employeeAcademic"}),
        ("employeeInfo", ("positions", 0, "positionInfo", "department"), {"employeeDepartment"}),
        ("employeeInfo", ("positions",), EMPLOYEE - {"employeeContactInfo", "employeeGeneric"}),
        ("employeeInfo", ("address",), set()),
        ("studentInfo", ("advisor",), {"studentAdvisor"}),
        ("studentInfo", ("testResults",), {"studentTestScores"}),
        ("studentInfo", ("admissionHistory",), {"studentAdmissionHistory"}),
        ("studentInfo", ("studentSemester",), {"studentClass", "studentDegreeProgram", "studentGPA", "studentGeneric"}),
        ("studentInfo", ("address",), set()),
    ],
)
def test_a_service_has_no_row_of_a_person_without_the_part_it_is_for(
    part: str, path: tuple[Any, ...], lost: set[str]
) -> None:
    document = deepcopy(SHARED | {part: EVERYTHING[part]})
    inner = document[part]
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = None
    assert rows_of(SHARED | {part: EVERYTHING[part]}) - rows_of(document) == lost


def test_nobody_can_be_reached_who_left_no_address() -> None:
    """A contact row that holds the id alone is an empty shell."""
    bare = {"personid": "U90000001", "studentInfo": {"advisor": [{"buid": "U90000017"}]}}
    assert rows_of(bare) == {"studentAdvisor", "full"}


def test_a_course_without_sections_is_in_the_catalog_and_nowhere_else() -> None:
    assert rows_of(COURSE_STORED, COURSE) == {one.name for one in SERVICES["course"]}
    assert len(SERVICES["course"]) == 5
    assert rows_of(COURSE_STORED | {"sections": []}, COURSE) == {"courseCatalog", "full"}
    assert rows_of(COURSE_STORED | {"sections": [{"section": "B1"}]}, COURSE) == {
        "courseCatalog",
        "courseSections",
        "full",
    }
