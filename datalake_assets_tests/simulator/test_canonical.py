"""The simulator's canonical form against its description, and against the lake's, which was written apart."""

import json
from decimal import Decimal
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets import exact_json
from datalake_assets.lake import canonical as lake_canonical
from datalake_assets.lake.documents import without_sensitive_keys
from datalake_assets.simulator.canonical import canonical_text, cleaned, digest
from datalake_assets.simulator.json_text import Json, Verbatim, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40),
    st.builds(lambda number: Verbatim(str(number)), st.decimals(allow_nan=False, allow_infinity=False)),
)
KEYS = st.one_of(TEXT, st.sampled_from(["ssn", "SSN", "FinAid", "finaidreceived", "name"]))
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0.000", "0"),
        ("-0e5", "0"),
        ("7", "7"),
        ("-7", "-7"),
        ("4.00", "4"),
        ("1.5", "15e-1"),
        ("0.25", "25e-2"),
        ("-0.250", "-25e-2"),
        ("120", "120"),
        ("1e2", "100"),
        ("1E+29", "1" + "0" * 29),
        ("1e30", "1e30"),
        ("1e40", "1e40"),
        ("1230e40", "123e41"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("1234567890123456789012345678901", "1234567890123456789012345678901e0"),
    ],
)
def test_a_number_is_written_by_value(number: str, text: str) -> None:
    assert canonical_text(Verbatim(number)) == text


def test_members_are_sorted_by_the_bytes_of_their_keys() -> None:
    assert canonical_text({"b": 1, "\U0001f600": 2, "\uffff": 3, "a": 4}) == '{"a":4,"b":1,"\uffff":3,"\U0001f600":2}'


def test_arrays_are_multisets() -> None:
    assert canonical_text([3, 1, [2, 1], 1]) == "[1,1,3,[1,2]]"


def test_strings_are_escaped_as_little_as_json_allows() -> None:
    assert canonical_text('a"\\\b\t\n\f\r\x01\x7f/é\u2028') == '"a\\"\\\\\\b\\t\\n\\f\\r\\u0001\x7f/é\u2028"'


def test_null_empty_and_absent_differ() -> None:
    documents: list[Json] = [{}, {"a": None}, {"a": ""}, {"a": " "}, {"a": []}, {"a": {}}]
    assert len({digest(document) for document in documents}) == len(documents)


def test_sensitive_keys_are_gone_at_any_depth_and_in_any_case() -> None:
    document: Json = {"SSN": 1, "a": [{"socialSecurityNumber": 1, "b": {"FINAID": [1], "sexualorientation": 2}}]}
    assert cleaned(document) == {"a": [{"b": {}}]}


def test_the_digest_is_blake2b_of_the_text_in_16_bytes() -> None:
    assert digest({"b": "é", "ssn": "x"}) == blake2b('{"b":"é"}'.encode(), digest_size=16).hexdigest()


def test_what_is_no_number_has_no_canonical_text() -> None:
    with pytest.raises(ValueError, match="is no number"):
        canonical_text(Verbatim("NaN"))


@given(DOCUMENTS)
def test_simulator_and_lake_agree_although_they_share_nothing(document: Json) -> None:
    """The truth is only worth something if both follow the same description."""
    received = without_sensitive_keys(exact_json.loads(write(document).encode()))
    assert canonical_text(cleaned(document)).encode() == lake_canonical.canonical(received)
    assert digest(document) == lake_canonical.digest(received).hex()


@given(DOCUMENTS)
def test_what_is_written_is_read_as_it_was(document: Json) -> None:
    read = json.loads(write(document), parse_float=Decimal)
    assert _plain(document) == read


def _plain(value: Json) -> object:
    if isinstance(value, Verbatim):
        return Decimal(value.text)
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
