"""When two documents count as equal: every edit is a change, every mere way of writing is none."""

import copy
import hashlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.exact_json import loads
from datalake_assets.lake.canonical import DIGEST_BYTES, canonical, digest
from datalake_assets.simulator.canonical import canonical_text
from datalake_assets.simulator.json_text import Verbatim

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
literals = st.from_regex(r"-?(0|[1-9][0-9]{0,35})(\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
numbers = literals.map(lambda literal: loads(literal.encode()))
documents = st.recursive(
    st.none() | st.booleans() | texts | numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, random: Any) -> Any:
    """The same document as a source might write it another time: members and elements in another order."""
    if isinstance(value, dict):
        members = [(key, shuffled(member, random)) for key, member in value.items()]
        random.shuffle(members)
        return dict(members)
    if isinstance(value, list):
        items = [shuffled(item, random) for item in value]
        random.shuffle(items)
        return items
    return value


def oracle(value: Any) -> Any:
    """The form for the simulator's implementation, which was written from the same text by itself."""
    if isinstance(value, dict):
        return {key: oracle(member) for key, member in value.items()}
    if isinstance(value, list):
        return [oracle(item) for item in value]
    return Verbatim(str(value)) if isinstance(value, Decimal) else value


# ------------------------------------------------------------------------------------------------- the form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("null", "null"),
        ("true", "true"),
        ('""', '""'),
        ("[]", "[]"),
        ("{}", "{}"),
        ('{"b": 1, "a": 2}', '{"a":2,"b":1}'),
        ('{"\uffff": 1, "\U00010000": 2, "z": 3}', '{"z":3,"\uffff":1,"\U00010000":2}'),
        ("[3, 20, 1, 20]", "[1,20,20,3]"),
        ('[{"b": [2, 1]}, {"a": null}, "x", null]', '["x",null,{"a":null},{"b":[1,2]}]'),
        (r'"\u00e9\/\u0041\u001f\u007f\b\t\n\f\r\\\""', '"é/A\\u001f\x7f\\b\\t\\n\\f\\r\\\\\\""'),
        ("-0", "0"),
        ("0.00", "0"),
        ("-0e10", "0"),
        ("1.0", "1"),
        ("1e2", "100"),
        ("1.50", "15e-1"),
        ("0.25", "25e-2"),
        ("-12.5e-3", "-125e-4"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1e29", "1" + "0" * 29),
        ("1e30", "1e30"),
        ("1234567890123456789012345678901", "1234567890123456789012345678901e0"),
        ("1e40", "1e40"),
        ("-10e399", "-1e400"),
    ],
)
def test_the_form_is_as_described(text: str, form: str) -> None:
    assert canonical(loads(text.encode())).decode() == form


@given(documents)
def test_the_form_agrees_with_an_implementation_written_by_itself(document: Any) -> None:
    assert canonical(document).decode() == canonical_text(oracle(document))


@given(documents)
def test_the_form_of_the_form_is_itself(document: Any) -> None:
    text = canonical(document)
    assert canonical(loads(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "{}"),
        (
            '{"STRM": "2258", "ACAD_CAREER": "UGRD", "DESCR": "Herbst \u00e9", "N": [2, 1, 1.50], "X": null}',
            '{"ACAD_CAREER":"UGRD","DESCR":"Herbst é","N":[1,15e-1,2],"STRM":"2258","X":null}',
        ),
    ],
)
def test_the_digest_is_blake2b_of_the_form(text: str, expected: str) -> None:
    assert digest(loads(text.encode())) == hashlib.blake2b(expected.encode(), digest_size=DIGEST_BYTES).digest()


@pytest.mark.parametrize(
    ("text", "golden"),
    [
        ("{}", "2afb9b83f9314e5d029766197f539792"),
        ('{"STRM": "2258", "UNITS": 1.50, "NAMES": ["b", "a"]}', "aaa72256dbea66fd6cdb608f95f74d06"),
    ],
)
def test_digests_stay_what_they_are(text: str, golden: str) -> None:
    """Another digest for the same document would turn every row of every lake into a change."""
    assert digest(loads(text.encode())).hex() == golden


# --------------------------------------------------------------------------------------------------- equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
        ('{"a":[1,2]}', ' { "a" : [ 1 , 2 ] } '),
        (r'"\u00e9"', '"é"'),
        (r'"\ud83d\ude00"', '"😀"'),
        (r'"\/"', '"/"'),
        ("1.0", "1.00"),
        ("1", "1e0"),
        ("100", "1E+2"),
        ("-0", "0"),
        ("12345678901234567890.0", "12345678901234567890"),
        ("[1, 2, 2]", "[2, 1, 2]"),
        ('[{"a": 1}, {"b": [1, 2]}]', '[{"b": [2, 1]}, {"a": 1.0}]'),
        ("[[1, 2], [3]]", "[[3], [2, 1]]"),
    ],
)
def test_another_way_of_writing_is_no_change(one: str, other: str) -> None:
    assert digest(loads(one.encode())) == digest(loads(other.encode()))


@given(documents, st.randoms(use_true_random=False))
def test_no_order_of_members_or_elements_is_a_change(document: Any, random: Any) -> None:
    """Sources shuffle arrays between calls; each shuffle would be a change point of every document."""
    assert digest(shuffled(document, random)) == digest(document)


# ---------------------------------------------------------------------------------------------- not equal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": null}', "{}"),
        ('{"a": null}', '{"a": ""}'),
        ('{"a": null}', '{"a": []}'),
        ('{"a": null}', '{"a": {}}'),
        ('{"a": []}', '{"a": {}}'),
        ('{"a": []}', "{}"),
        ('{"a": []}', '{"a": [null]}'),
        ('{"a": "1"}', '{"a": 1}'),
        ('{"a": true}', '{"a": 1}'),
        ('{"a": true}', '{"a": "true"}'),
        ('{"a": false}', '{"a": 0}'),
        ('{"a": "null"}', '{"a": null}'),
        ('"é"', '"e\u0301"'),
        ('"x"', '"x "'),
        ('"x"', '"X"'),
        ('{"A": 1}', '{"a": 1}'),
        ("[1]", "[1, 1]"),
        ("[1, 2]", "[[1, 2]]"),
        ("[[1], [2]]", "[[1, 2]]"),
        ('["a,b"]', '["a", "b"]'),
        ('["a\\",\\"b"]', '["a", "b"]'),
        ("1e30", "1e31"),
        ("15e-1", "15"),
        ("0.1", "0.10000000000000001"),
        ("9007199254740993", "9007199254740992"),
        ("12345678901234567890123", "12345678901234567890124"),
        ("1", "-1"),
    ],
)
def test_any_other_edit_is_a_change(one: str, other: str) -> None:
    """`[]`, `{}` and null once compared equal, and a real change was not stored (fault P21)."""
    assert digest(loads(one.encode())) != digest(loads(other.encode()))


@given(documents, documents)
def test_different_documents_have_different_digests(one: Any, other: Any) -> None:
    same = canonical_text(oracle(one)) == canonical_text(oracle(other))
    assert (digest(one) == digest(other)) is same


@given(st.dictionaries(texts, documents, min_size=1, max_size=4), st.data())
def test_a_member_that_is_added_lost_or_replaced_is_a_change(document: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(document)))
    lost = {key: value for key, value in document.items() if key != name}
    assert digest(lost) != digest(document)
    wrapped = {**document, name: [document[name]]}
    assert digest(wrapped) != digest(document)


# --------------------------------------------------------------------------------------------------- ordered


ORDERED = {("meetings",), ("person", "names")}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"meetings": [1, 2]}', '{"meetings": [2, 1]}', False),
        ('{"others": [1, 2]}', '{"others": [2, 1]}', True),
        ('{"person": {"names": ["a", "b"]}}', '{"person": {"names": ["b", "a"]}}', False),
        ('{"names": ["a", "b"]}', '{"names": ["b", "a"]}', True),
        ('{"person": [{"names": [1, 2]}]}', '{"person": [{"names": [2, 1]}]}', False),
        ('{"person": [{"names": [1, 2]}, 3]}', '{"person": [3, {"names": [1, 2]}]}', True),
        ('{"meetings": [{"rooms": [1, 2]}]}', '{"meetings": [{"rooms": [2, 1]}]}', True),
    ],
)
def test_only_the_paths_that_are_named_keep_their_order(one: str, other: str, equal: bool) -> None:
    assert (digest(loads(one.encode()), ORDERED) == digest(loads(other.encode()), ORDERED)) is equal


@given(documents)
def test_the_order_of_arrays_is_the_only_difference_that_a_named_path_makes(document: Any) -> None:
    """A single element has one order only, so the form is the same with and without the path."""
    wrapped = {"meetings": [document]}
    unnamed = {"other": document}
    assert canonical(unnamed, ORDERED) == canonical(unnamed)
    if not isinstance(document, list):
        assert canonical(wrapped, ORDERED) == canonical(wrapped)


@given(documents)
def test_a_document_is_not_changed_by_looking_at_it(document: Any) -> None:
    before = copy.deepcopy(document)
    canonical(document, ORDERED)
    assert json.dumps(document, default=str) == json.dumps(before, default=str)
