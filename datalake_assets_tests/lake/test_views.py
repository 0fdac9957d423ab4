"""Filtering for many services at once gives every service what it would get alone."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets import exact_json
from datalake_assets.lake.services import Service, filtered, holds_data
from datalake_assets.lake.views import Views, holds_data_at

KEY = [("id",), ("info", "code")]


def service(name: str, *paths: str, requires: tuple[Any, ...] = ()) -> Service:
    return Service(name=name, description="Of a test only.", owner="team:test", paths=paths, requires=requires)


names = st.sampled_from(["id", "info", "code", "a", "b", "list"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", 1.5, 2**70, 1e300]))
values = st.recursive(
    scalars,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(names, below, max_size=4)),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=6).map(
    lambda document: {**document, "id": "U1", "info": {**_members(document.get("info")), "code": 7}}
)
paths = st.lists(names, max_size=3).map(lambda parts: "/" + "/".join(parts))
services = st.lists(
    st.builds(
        lambda allowed, requires: (allowed, tuple(requires)),
        st.lists(paths, min_size=1, max_size=4),
        st.lists(st.one_of(paths, st.lists(paths, min_size=1, max_size=2).map(tuple)), max_size=2),
    ),
    max_size=6,
).map(
    lambda drawn: [service(f"s{number}", *allowed, requires=needed) for number, (allowed, needed) in enumerate(drawn)]
)


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@given(services, st.lists(documents, max_size=3))
def test_every_service_sees_what_it_would_see_alone(several: list[Service], some: list[Any]) -> None:
    """Invariant 7, however services share paths; and one document leaves nothing behind for the next."""
    views = Views(several, KEY)
    for document in some:
        text = json.dumps(document).encode()
        whole = exact_json.loads(text)
        found = views.of(text)
        assert len({name for name, _ in found}) == len(found)
        assert {name: whole if seen is None else exact_json.loads(seen) for name, seen in found} == {
            each.name: seen for each in several if (seen := each.view(whole, KEY)) is not None
        }


@given(values, paths)
def test_a_path_holds_data_if_what_it_allows_does(value: Any, path: str) -> None:
    document = {"a": value}
    alone = service("alone", path).tree
    assert holds_data_at(document, path) == holds_data(filtered(document, alone))


def test_numbers_are_written_as_they_were() -> None:
    text = b'{"id": "U1", "a": [3.50, 12345678901234567890.123, 0.1], "b": 123456789012345678901234567890}'
    ((_, seen),) = Views([service("most", "/id", "/a", "/b")], KEY).of(text)
    assert seen is not None
    assert b'"a":[3.50,12345678901234567890.123,0.1]' in seen
    assert b'"b":123456789012345678901234567890' in seen


def test_an_integer_of_any_length_is_kept() -> None:
    """Python refuses to read one of more than 4,300 digits, and PostgreSQL keeps one of 131,072."""
    text = b'{"id":"U1","a":' + b"7" * 5000 + b"}"
    ((_, seen),) = Views([service("most", "/a")], KEY).of(text)
    assert seen == b'{"a":' + b"7" * 5000 + b"}"


def test_a_whole_document_is_not_written_again() -> None:
    """It stands in the lake already, and the server copies it quicker than anybody could send it."""
    document = orjson.dumps({"id": "U1", "a": 1})
    assert Views([service("full", "/"), service("part", "/a")], KEY).of(document) == [
        ("full", None),
        ("part", b'{"a":1}'),
    ]


def test_what_is_shared_is_not_mixed_up() -> None:
    """Several services that see one object, each another part of it."""
    document = orjson.dumps({"id": "U1", "a": [{"a": 1, "b": {"a": 2, "b": 3}}, {"b": {"b": 4}}, 5]})
    several = [
        service("first", "/a/a"),
        service("second", "/a/b/b"),
        service("third", "/a/b"),
        service("fourth", "/a"),
        service("fifth", "/a/a", "/a/b/a"),
    ]
    assert {name: orjson.loads(seen)["a"] for name, seen in Views(several, KEY).of(document)} == {
        "first": [{"a": 1}, {}],
        "second": [{"b": {"b": 3}}, {"b": {"b": 4}}],
        "third": [{"b": {"a": 2, "b": 3}}, {"b": {"b": 4}}],
        "fourth": [{"a": 1, "b": {"a": 2, "b": 3}}, {"b": {"b": 4}}, 5],
        "fifth": [{"a": 1, "b": {"a": 2}}, {"b": {}}],
    }
