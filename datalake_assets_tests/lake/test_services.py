"""Services: what a path list lets through, when a row exists, and what a wrong definition is told."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.entities import ENTITIES, TERM, Column, Entity
from datalake_assets.lake.services import (
    AllowTree,
    Service,
    ServiceError,
    compile_paths,
    filtered,
    holds_data,
    load_services,
)

PERSON = Entity(
    name="person",
    table="person_data",
    document_column="person_data",
    dated_column="dl_insert_date",
    key=(Column("bu_uid", ("personid",), "varchar"),),
    columns=(Column("person_data", (), "jsonb"),),
    load_hour=3,
)


def service(*paths: str, requires: tuple[Any, ...] = ()) -> Service:
    return Service(name="test", description="Of a test only.", owner="team:test", paths=paths, requires=requires)


# ------------------------------------------------------------------------------------------------ the filter


@pytest.mark.parametrize(
    ("paths", "document", "seen"),
    [
        # A leaf keeps the whole subtree, unless it is null.
        (("/a",), {"a": {"b": [1, None, {}]}, "c": 1}, {"a": {"b": [1, None, {}]}}),
        (("/a",), {"a": None}, {}),
        (("/a",), {"a": ""}, {"a": ""}),
        (("/a",), {"a": False}, {"a": False}),
        (("/a",), {"a": []}, {"a": []}),
        (("/a",), {"b": 1}, {}),
        # An object keeps the allowed members that it has.
        (("/a/b", "/a/c"), {"a": {"b": 1, "d": 2}}, {"a": {"b": 1}}),
        (("/a/b",), {"a": {"b": None}}, {"a": {}}),
        # An array is filtered element by element.
        (("/a/b",), {"a": [{"b": 1, "c": 2}, {"c": 3}, {"b": 4}]}, {"a": [{"b": 1}, {}, {"b": 4}]}),
        (("/a/b",), {"a": [1, "x", None, {"b": 1}]}, {"a": [{"b": 1}]}),
        (("/a/b",), {"a": [[{"b": 1, "c": 2}], [3]]}, {"a": [[{"b": 1}], []]}),
        (("/a",), {"a": [1, "x", None, {"b": 1}]}, {"a": [1, "x", None, {"b": 1}]}),
        # A scalar where the tree goes deeper is dropped.
        (("/a/b",), {"a": 1}, {}),
        (("/a/b",), {"a": "b"}, {}),
        (("/a/b/c",), {"a": {"b": 1}}, {"a": {}}),
        # The whole document.
        (("/",), {"a": {"b": None}}, {"a": {"b": None}}),
        (("/", "/a"), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        # Overlapping paths: the one above allows what is below it, in any order.
        (("/a", "/a/b"), {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2}}),
        (("/a/b/c", "/a/b", "/a/d"), {"a": {"b": {"x": 1}, "c": 2, "d": 3}}, {"a": {"b": {"x": 1}, "d": 3}}),
        (("/ab", "/a/b"), {"a": {"b": 1, "c": 2}, "ab": 3}, {"a": {"b": 1}, "ab": 3}),
        # Names are exact.
        (("/A",), {"a": 1}, {}),
        (("/a.b",), {"a": {"b": 1}, "a.b": 2}, {"a.b": 2}),
        (("/*",), {"a": 1, "*": 2}, {"*": 2}),
        (("/a~1b",), {"a/b": 1}, {}),
    ],
)
def test_the_filter_lets_through_exactly_what_the_paths_name(
    paths: tuple[str, ...], document: dict[str, Any], seen: dict[str, Any]
) -> None:
    """Invariant 7: nothing outside the paths, and everything inside them."""
    assert filtered(document, compile_paths(paths)) == seen
    assert filtered(document, compile_paths(paths[::-1])) == seen


names = st.sampled_from(["a", "b", "c", "a/b", "~", ".", "*", "", " ", "x" * 1000, "[]", "0"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=15,
)
objects = st.dictionaries(names, documents, max_size=4)
members = names.filter(lambda name: name and "/" not in name)
paths = st.lists(members, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
path_lists = st.lists(paths, min_size=1, max_size=4).map(tuple)


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    """Where scalars stand, by member names; elements of arrays add nothing."""
    if isinstance(value, dict):
        return [leaf for name, member in value.items() for leaf in leaves(member, (*path, name))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, path)]
    return [(path, repr(value))]


def is_allowed(path: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    return any(path[: len(parts)] == parts for parts in (tuple(text[1:].split("/")) for text in allowed))


@given(objects, path_lists)
def test_everything_a_service_sees_lies_within_its_paths(document: dict[str, Any], allowed: tuple[str, ...]) -> None:
    """Invariant 7, for documents with any names and paths with any overlap."""
    seen = filtered(document, compile_paths(allowed))
    assert [path for path, _ in leaves(seen) if not is_allowed(path, allowed)] == []


@given(objects, path_lists)
def test_nothing_that_a_service_may_see_is_kept_from_it(document: dict[str, Any], allowed: tuple[str, ...]) -> None:
    """Every value but null within the paths arrives: an allow-list that drops data is as wrong as one that leaks."""
    seen = filtered(document, compile_paths(allowed))
    wanted = sorted(leaf for leaf in leaves(document) if is_allowed(leaf[0], allowed) and leaf[1] != "None")
    assert sorted(leaf for leaf in leaves(seen) if leaf[1] != "None") == wanted


@given(objects, path_lists, paths)
def test_a_path_that_is_added_never_takes_anything_away(
    document: dict[str, Any], allowed: tuple[str, ...], added: str
) -> None:
    before = leaves(filtered(document, compile_paths(allowed)))
    after = leaves(filtered(document, compile_paths((*allowed, added))))
    for leaf in before:
        assert leaf in after
        after.remove(leaf)


@given(objects, path_lists, st.randoms(use_true_random=False))
def test_filtering_twice_or_in_another_order_of_paths_is_the_same(
    document: dict[str, Any], allowed: tuple[str, ...], source: random.Random
) -> None:
    tree = compile_paths(allowed)
    once = filtered(document, tree)
    shuffled = list(allowed)
    source.shuffle(shuffled)
    assert filtered(once, tree) == once
    assert compile_paths(tuple(shuffled)) == tree


@pytest.mark.parametrize(
    ("paths", "tree"),
    [
        (("/a",), {"a": {}}),
        (("/a/b", "/a"), {"a": {}}),
        (("/a", "/a/b/c"), {"a": {}}),
        (("/a/b", "/a/c"), {"a": {"b": {}, "c": {}}}),
        (("/a/b/c", "/a/b"), {"a": {"b": {}}}),
        (("/abc", "/a/b"), {"abc": {}, "a": {"b": {}}}),
        (("/x/y", "/"), {}),
    ],
)
def test_overlapping_paths_compile_to_the_widest(paths: tuple[str, ...], tree: AllowTree) -> None:
    assert compile_paths(paths) == tree


# ---------------------------------------------------------------------------------------- whether a row exists


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (None, False),
        ({}, False),
        ([], False),
        ([[], {}, None], False),
        ({"a": {"b": [None, {"c": None}]}}, False),
        ("", True),
        (0, True),
        (False, True),
        ({"a": [{"b": 0}]}, True),
    ],
)
def test_data_is_a_scalar_at_any_depth(value: Any, holds: bool) -> None:
    assert holds_data(value) is holds


def test_what_stands_beside_a_part_of_the_key_is_data() -> None:
    """Fault C8: an object called `v2` with a course or a session in it counted as nothing, at any depth."""
    section = {"v2": {"courseId": "001234", "sessionCode": "1", "room": "CAS B12"}}
    seen = service("/sections/v2", requires=("/sections/v2",)).view(
        {"v2": {"courseId": "1"}, "sections": [section]}, KEY
    )
    assert seen == {"sections": [section]}


EMPLOYEE = {
    "personid": "U1",
    "names": [{"type": "PRF", "last": "Doe"}],
    "birthDate": "2000-01-01",
    "student": None,
    "employee": {"jobs": [{"title": "clerk"}]},
}
KEY = [("personid",)]


@pytest.mark.parametrize(
    ("paths", "requires", "seen"),
    [
        (("/personid", "/birthDate"), (), {"personid": "U1", "birthDate": "2000-01-01"}),
        # A member of the population who is no student gets no row of a student service (fault P20).
        (("/personid", "/birthDate", "/student"), ("/student",), None),
        (("/personid", "/birthDate"), ("/student/terms",), None),
        (("/personid", "/birthDate"), ("/employee/jobs/title",), {"personid": "U1", "birthDate": "2000-01-01"}),
        (("/personid", "/birthDate"), ("/employee", "/student"), None),
        (("/birthDate",), (("/student", "/employee"),), {"birthDate": "2000-01-01"}),
        (("/birthDate",), (("/student", "/affiliate"),), None),
        (("/birthDate",), ("/",), {"birthDate": "2000-01-01"}),
        # Nothing beyond the key: no empty shell.
        (("/personid", "/student"), (), None),
        (("/student",), ("/birthDate",), None),
        # Unless the definition says that the key is enough.
        (("/personid", "/student"), ("/personid",), {"personid": "U1"}),
        (("/nothing",), (), None),
        (("/",), (), EMPLOYEE),
    ],
)
def test_a_row_exists_only_where_what_the_service_is_for_holds_data(
    paths: tuple[str, ...], requires: tuple[Any, ...], seen: Any
) -> None:
    """Invariant 7: fifteen services once got a row of every person with a name and a birth date (fault P20)."""
    assert service(*paths, requires=requires).view(EMPLOYEE, KEY) == seen


def test_a_whole_document_that_is_only_a_key_gives_no_row() -> None:
    assert service("/").view({"personid": "U1", "student": {}}, KEY) is None


@given(objects, path_lists, st.lists(paths, max_size=2).map(tuple))
def test_a_row_holds_data_or_does_not_exist(
    document: dict[str, Any], allowed: tuple[str, ...], requires: tuple[str, ...]
) -> None:
    seen = service(*allowed, requires=requires).view(document, [("a",)])
    if seen is None:
        return
    assert any(requires or path[:1] != ("a",) for path, text in leaves(seen) if text != "None")
    for path in requires:
        assert holds_data(filtered(document, compile_paths((path,))))


# ------------------------------------------------------------------------------------------------ versions


def test_the_version_of_a_definition_changes_with_what_rows_depend_on_and_nothing_else() -> None:
    """A changed version rebuilds every row of the service; a reworded description must not."""
    first = service("/a", "/b", requires=("/a",))
    same = Service(
        name="test", description="Another description.", owner="team:other", paths=("/b", "/a"), requires=("/a",)
    )
    assert first.version == same.version
    others = [
        service("/a", requires=("/a",)),
        service("/a", "/b"),
        service("/a", "/b", requires=(("/a", "/b"),)),
        service("/a", "/b", requires=("/a", "/b")),
        Service(**{**first.model_dump(), "select": "active_terms"}),
    ]
    assert len({other.version for other in [first, *others]}) == 6


# -------------------------------------------------------------------------------------------- definitions


GOOD = """\
entity: term
services:
  names:
    description: Names of terms for a test.
    owner: team:test
    paths: [/STRM, /DESCR]
"""


def written(folder: Path, text: str | bytes, entity: Entity = TERM) -> Path:
    path = folder / f"{entity.name}.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_a_good_file_is_read_with_the_lines_of_its_services(tmp_path: Path) -> None:
    found = load_services(TERM, written(tmp_path, GOOD))
    assert [(one.name, one.paths, one.requires, one.select) for one in found.services] == [
        ("names", ("/STRM", "/DESCR"), (), None)
    ]
    assert found.lines == {"names": 3}


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
def test_the_definitions_of_the_project_are_good(entity: Entity) -> None:
    found = load_services(entity)
    assert found.services
    assert all(found.lines[one.name] > 0 for one in found.services)


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("paths:", "path:", ["Service names: paths: Field required.", "term.yaml line 3", "Fields of a service: desc"]),
        (
            "    paths:",
            "    color: red\n    paths:",
            ["Service names: color: Extra inputs are not permitted"],
        ),
        ("/DESCR", "/DSCR", ["no document of term has a path /DSCR", "term.yaml line 3", "Did you mean /DESCR?"]),
        ("/DESCR", "/descr", ["no document of term has a path /descr", "term.yaml line 3"]),
        ("/DESCR", "/qqq", ["no document of term has a path /qqq", "Known: /ACAD_CAREER, /ACAD_YEAR, "]),
        ("/DESCR", "/DESCR/TEXT", ["no document of term has a path /DESCR/TEXT"]),
        ("/DESCR", "DESCR", ["Service names: paths.1: String should match pattern"]),
        ("/DESCR", "/DESCR/", ["Service names: paths.1: String should match pattern"]),
        ("/DESCR", "/A//B", ["Service names: paths.1: String should match pattern"]),
        ("/DESCR", "/SSN", ["path /SSN names SSN, which is never kept", "term.yaml line 3"]),
        ("/DESCR", "/a/FinAid/b", ["path /a/FinAid/b names FinAid, which is never kept"]),
        ("[/STRM, /DESCR]", "[/STRM, /DESCR]\n    requires: [/ssn]", ["path /ssn names ssn, which is never kept"]),
        ("[/STRM, /DESCR]", "[/DESCR]\n    requires: [/DSCR]", ["has a path /DSCR", "Did you mean /DESCR?"]),
        ("[/STRM, /DESCR]", "[/DESCR]\n    requires: [[/STRM, /X]]", ["has a path /X"]),
        ("[/STRM, /DESCR]", "[]", ["Service names: paths: Tuple should have at least 1 item"]),
        ("[/STRM, /DESCR]", "/STRM", ["Service names: paths: Input should be a valid tuple"]),
        ("[/STRM, /DESCR]", "[/STRM, /ACAD_CAREER]", ["names sees nothing beyond the key", "term.yaml line 3"]),
        ("team:test", "somebody", ["Service names: owner: String should match pattern", "term.yaml line 3"]),
        ("Names of terms for a test.", "Names", ["Service names: description: String should have at least 10"]),
        ("  names:", "  two words:", ["Service two words: name: String should match pattern", "term.yaml line 3"]),
        ("  names:", "  7:", ["Service 7: name: Input should be a valid string", "term.yaml line 3"]),
        ("    paths:", "    name: other\n    paths:", ["Service names must hold fields, and `name` is none of them"]),
        ("    paths:", "    1: other\n    paths:", ["Service names:", "Keys should be strings", "term.yaml line 3"]),
        ("    paths:", "    select: no_such\n    paths:", ["no selection no_such", "by_service/no_such.sql"]),
        ("    paths:", "    select: ../x\n    paths:", ["Service names: select: String should match pattern"]),
        ("    paths:", "    owner: team:other\n    paths:", ["The key 'owner' stands twice", "term.yaml line 6"]),
        ("    paths:", "    ? [a, b]\n    : c\n    paths:", ["not YAML: found unhashable key", "term.yaml line 6"]),
        ("    paths:", "   paths:", ["not YAML: ", "term.yaml line 6"]),
        ("team:test", "team:test: x", ["not YAML: mapping values are not allowed here", "term.yaml line 5"]),
        ("team:test", "2026-02-31", ["not YAML: day is out of range for month"]),
        ("team:test", "\x07", ["not YAML: special characters are not allowed", "term.yaml"]),
        (
            "team:test",
            "!!python/object:os.system x",
            ["not YAML: could not determine a constructor"],
        ),
        ("entity: term", "entity: person", ["must hold exactly `entity: term` and `services:`", "term.yaml line 1"]),
        ("entity: term", "entity: term\nmore: 1", ["must hold exactly `entity: term` and `services:`"]),
        ("entity: term", "services: {}\nentity: term", ["The key 'services' stands twice", "term.yaml line 3"]),
        ("services:\n", "services:\n---\n", ["not YAML: but found another document", "term.yaml line 3"]),
    ],
)
def test_a_wrong_definition_is_refused_with_file_line_and_advice(
    old: str, new: str, messages: list[str], tmp_path: Path
) -> None:
    """`enrollmentLlimit` in a path list was never noticed, and the field never delivered (faults C1, C2)."""
    assert old in GOOD
    with pytest.raises(ServiceError) as refusal:
        load_services(TERM, written(tmp_path, GOOD.replace(old, new, 1)))
    assert [text for text in messages if text not in str(refusal.value)] == [], str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold exactly `entity: term` and `services:`"),
        ("# nothing\n", "must hold exactly `entity: term` and `services:`"),
        ("[]", "must hold exactly `entity: term` and `services:`"),
        ("entity: term", "must hold exactly `entity: term` and `services:`"),
        ("entity: term\nservices:\n", "`services:` must name at least one service. Where: term.yaml line 1."),
        ("entity: term\nservices: {}\n", "`services:` must name at least one service"),
        ("entity: term\nservices: [names]\n", "`services:` must name at least one service"),
        ("entity: term\nservices:\n  names:\n", "Service names must hold fields"),
        ("entity: term\nservices:\n  names: [1]\n", "Service names must hold fields"),
        (b"\xff\xfe", "The services of term cannot be read: it is not UTF-8."),
    ],
)
def test_a_file_without_services_is_refused(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as refusal:
        load_services(TERM, written(tmp_path, text))
    assert message in str(refusal.value)
    assert "term.yaml" in str(refusal.value)


def test_a_missing_file_is_named_without_the_folders_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(ServiceError) as refusal:
        load_services(TERM, tmp_path)
    assert "The services of term cannot be read: No such file or directory. Where: term.yaml." in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_any_path_may_occur_in_an_entity_of_whole_documents(tmp_path: Path) -> None:
    text = GOOD.replace("entity: term", "entity: person").replace("/DESCR", "/names/last")
    assert load_services(PERSON, written(tmp_path, text, PERSON)).services[0].paths == ("/STRM", "/names/last")
