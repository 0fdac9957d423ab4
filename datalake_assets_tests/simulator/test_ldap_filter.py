import pytest

from datalake_assets.simulator.ldap_filter import FilterError, read_filter

ENTRY = {"affiliation": ("faculty",), "buid": ("U90000001", "U90000002"), "name": ("A. Example",), "none": ()}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("(affiliation=faculty)", True),
        ("(Affiliation=FACULTY)", True),
        ("affiliation=faculty", True),
        ("(affiliation=facult)", False),
        ("(affiliation=fac*)", True),
        ("(name=a. *mple)", True),
        ("(name=[a]*)", False),
        ("(name=?. Example)", False),
        ("(buid=U90000002)", True),
        ("(buid=*)", True),
        ("(none=*)", False),
        ("(other=*)", False),
        ("(!(affiliation=staff))", True),
        ("(&(buid=*)(affiliation=staff))", False),
        ("(|(affiliation=staff)(affiliation=faculty))", True),
        ("(&(buid=*)(&(!(affiliation=staff))(!(affiliation=affiliate))))", True),
    ],
)
def test_a_filter_finds_what_it_describes(text: str, matches: bool) -> None:
    assert read_filter(text)(ENTRY) is matches


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "()",
        "(affiliation)",
        "(affiliation=)",
        "(affiliation=faculty",
        "(affiliation=faculty))",
        "(affiliation=faculty)(buid=*)",
        "(&)",
        "(!(buid=*)(name=*))",
        "(&buid=*)",
        "((buid=*))",
        "(affiliation=a)b)",
        "(=faculty)",
        "(!" * 30 + "(buid=*)" + ")" * 30,
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(FilterError):
        read_filter(text)
