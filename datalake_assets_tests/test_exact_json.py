"""JSON without loss: everything a source can write is kept, named or refused, never changed in silence."""

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.exact_json import (
    MAX_DEPTH,
    DuplicateKeys,
    JsonError,
    JsonValue,
    NotJson,
    defects,
    dumps,
    dumps_ascii,
    dumps_sound,
    loads,
    loads_sound,
)

number_literals = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = texts.filter(lambda text: not text.startswith("\0"))
"""NUL begins the marks of values that could not be; Hypothesis finds them in the code."""
values = st.recursive(
    st.none() | st.booleans() | texts | number_literals.map(lambda literal: loads(literal.encode())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


spelled = st.sampled_from([r'"a"', r'"\u0061"', r'"b"', r'"\""', r'"\u0022"', '"é"', r'"\u00e9"', r'"\\"', '":"'])
"""Names, of which some are the same in another spelling."""


def kinds(value: JsonValue) -> object:
    """The types of a value, at every depth."""
    if isinstance(value, dict):
        return type(value), [kinds(member) for member in value.values()]
    return [kinds(item) for item in value] if isinstance(value, list) else type(value)


def nested(depth: int, inner: str = "1") -> str:
    return "[" * depth + inner + "]" * depth


@given(number_literals)
def test_a_number_keeps_its_exact_value(literal: str) -> None:
    """A float would turn 0.1 + 17 digits, or a 23-digit identifier, into another number."""
    value = loads(literal.encode())
    assert isinstance(value, int | Decimal)
    assert Decimal(value) == Decimal(literal)
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("literal", "kind"),
    [
        ("0", int),
        ("-99999999999999999", int),
        ("999999999999999999", int),
        ("1000000000000000000", Decimal),
        ("-12345678901234567890123", Decimal),
        ("1.0", Decimal),
        ("1e2", Decimal),
        ("1e400", Decimal),
    ],
)
def test_only_integers_that_every_reader_holds_become_int(literal: str, kind: type) -> None:
    assert type(loads(literal.encode())) is kind


def test_the_digits_of_a_fraction_are_kept_as_written() -> None:
    assert dumps(loads(b'{"price": 1.500, "big": 12345678901234567890123}')) == (
        b'{"price":1.500,"big":12345678901234567890123}'
    )


@given(values)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(dumps_ascii(value)) == value


@given(values)
def test_what_has_no_defects_may_be_read_the_short_way(value: Any) -> None:
    text = dumps(value)
    assert repr(loads_sound(text)) == repr(loads(text))


texts_of_json = st.recursive(
    st.sampled_from(["null", "true", "17", "1.50", "1e2", "123456789012345678901", "NaN", "{}", "[]", r'"\ud800"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.lists(st.tuples(spelled, inner), max_size=3).map(
            lambda members: "{" + ",".join(f"{name} : {value}" for name, value in members) + "}"
        ),
    ),
    max_leaves=10,
)
"""Texts as sources may write them: names twice, in several spellings, and values that are no JSON."""


@given(texts_of_json)
def test_however_a_text_is_read_nothing_of_it_is_lost(text: str) -> None:
    """Most texts are read a quick way that finds a name written twice by what is missing afterwards."""

    def members(pairs: list[tuple[str, JsonValue]]) -> JsonValue:
        return dict(pairs) if len(dict(pairs)) == len(pairs) else DuplicateKeys(pairs)

    def number(literal: str) -> JsonValue:
        return int(literal) if len(literal) <= 18 and literal.isdigit() else Decimal(literal)

    decoder = json.JSONDecoder(object_pairs_hook=members, parse_float=Decimal, parse_int=number, parse_constant=NotJson)
    found, expected = loads(text.encode()), decoder.decode(text)
    assert repr(found) == repr(expected)
    assert kinds(found) == kinds(expected)


@given(values)
def test_what_is_written_as_sound_is_what_has_no_defects(value: Any) -> None:
    assert dumps_sound(value) == (dumps(value) if defects(value) is None else None)


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '["\\ud800"]', '["\\u0000"]', "[NaN]", "[1e999999]", '{"\\u0000":1}']
)
def test_what_has_a_defect_is_not_written_as_sound(text: str) -> None:
    assert dumps_sound(loads(text.encode())) is None


@given(values)
def test_the_standard_library_reads_what_is_written(value: Any) -> None:
    assert json.loads(dumps(value), parse_float=Decimal) == value


@given(texts)
def test_escapes_and_raw_characters_mean_the_same(text: str) -> None:
    escaped, raw = json.dumps(text), json.dumps(text, ensure_ascii=False)
    assert loads(escaped.encode()) == loads(raw.encode()) == text


def test_line_separators_inside_strings_are_kept() -> None:
    """U+2028 and U+0085 end a line for some readers, which lost whole batches (fault P9)."""
    assert loads('["a\u2028b\u0085c"]'.encode()) == ["a\u2028b\u0085c"]


def test_a_byte_order_mark_is_no_content() -> None:
    assert loads(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_a_duplicate_key_condemns_only_its_object() -> None:
    rows = loads(b'[{"a": 1}, {"a": 1, "a": 2}, {"b": {"c": 1, "c": 1}}]')
    assert isinstance(rows[1], DuplicateKeys)
    assert [defects(row) for row in rows] == [None, "duplicate_key", "duplicate_key"]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_a_value_that_is_no_number_condemns_only_its_row(literal: str) -> None:
    rows = loads(f'[{{"a": {literal}}}, {{"a": 1}}]'.encode())
    assert isinstance(rows[0]["a"], NotJson)
    assert [defects(row) for row in rows] == ["not_a_number", None]


def test_one_row_of_2000_levels_condemns_only_that_row() -> None:
    """A parser that recurses fails for the whole answer."""
    rows = loads(f'[{",".join(["{}"] * 25)}, {{"a": {nested(2000)}, "b": 2}}, {",".join(["{}"] * 25)}]'.encode())
    assert [defects(row) for row in rows] == [None] * 25 + ["nesting_too_deep"] + [None] * 25
    assert rows[25]["b"] == 2


def test_every_deep_value_of_a_row_is_cut_and_nothing_else() -> None:
    row = loads(f'{{"a": {nested(300)}, "b": "[[", "c": {nested(300, "{}")}, "d": [1, [2]]}}'.encode())
    assert isinstance(row, dict)
    assert (row["b"], row["d"]) == ("[[", [1, [2]])
    assert dumps_ascii(row).count(b"too deep") == 2


@pytest.mark.parametrize(("depth", "defect"), [(MAX_DEPTH, None), (MAX_DEPTH + 1, "nesting_too_deep")])
def test_the_limit_of_nesting_is_exact(depth: int, defect: str | None) -> None:
    assert defects(loads(nested(depth).encode())) == defect


def test_lists_and_objects_are_nested_in_each_other_no_deeper() -> None:
    half = MAX_DEPTH // 2
    assert defects(loads(('[{"a":' * half + "1" + "}]" * half).encode())) is None
    assert defects(loads(('[{"a":' * (half + 1) + "1" + "}]" * (half + 1)).encode())) == "nesting_too_deep"


def test_a_name_written_twice_is_found_beside_quotes_that_are_written_as_numbers() -> None:
    assert isinstance(loads(rb'{"a":1,"a":"\u0022\u0022"}'), DuplicateKeys)


def test_brackets_inside_strings_are_no_nesting() -> None:
    text = json.dumps({"a": "[" * 500, "b": '\\"[[[' * 100})
    assert defects(loads(text.encode())) is None


def test_control_characters_are_refused_unless_the_source_is_known_to_write_them() -> None:
    text = b'{"descr": "Fall\n2025\x01"}'
    with pytest.raises(JsonError, match="Invalid control character"):
        loads(text)
    assert loads(text, control_characters=True) == {"descr": "Fall\n2025\x01"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON: Expecting value at character 0 of 0"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at character 7 of 7 (line 1, column 8)"),
        (b'{"a": 1} x', "not JSON: Extra data at character 9 of 10"),
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": "x\xff"}', "not UTF-8: byte 8 of 11 is not valid"),
        (b'"\xed\xa0\x80"', "not UTF-8: byte 1 of 5 is not valid"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8: byte 0 of 6 is not valid"),
        (b"[" * 5000, "not JSON"),
        (b"[" * 5000 + b"]" * 10, "not JSON"),
        (b"]" * 200, "not JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_its_position(data: bytes, message: str) -> None:
    with pytest.raises(JsonError) as refusal:
        loads(data)
    assert message in str(refusal.value)


def test_a_refusal_never_quotes_the_text() -> None:
    """Invariant 6: an answer cut in the middle of a person's record must not reach a log through the error."""
    with pytest.raises(JsonError) as refusal:
        loads(b'{"ssn": "123-45-6789", "name": "Ann')
    assert "123" not in repr(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_a_text_that_breaks_off_inside_a_long_string_is_refused_quickly() -> None:
    """A scan that starts anew at every escaped quote takes minutes for an answer of a few megabytes."""
    data = b"[" * 101 + b'"' + b'\\"' * 500_000
    started = time.perf_counter()
    with pytest.raises(JsonError):
        loads(data)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        ('{"a": [1, "x", null, true, 1.5e10]}', None),
        ('"\\u0000"', "nul_character"),
        ('{"a\\u0000": 1}', "nul_character"),
        ('"é\\u0000"', "nul_character"),
        ('["\\ud800"]', "lone_surrogate"),
        ('{"\\udc00x": 1}', "lone_surrogate"),
        ('"\\ud83d\\ude00"', None),
        ("NaN", "not_a_number"),
        ("[-Infinity]", "not_a_number"),
        ('{"a": {"b": 1, "b": 1}}', "duplicate_key"),
        ('{"a": ' * 101 + "1" + "}" * 101, "nesting_too_deep"),
        ("1e131071", None),
        ("1e131072", "number_too_large"),
        ("-" + "9" * 131_072, None),
        ("9" * 131_073, "number_too_large"),
        ("1e-16383", None),
        ("1e-16384", "number_too_large"),
        ("1.0e-16383", "number_too_large"),
        ("1e9999999999999999999", "number_too_large"),
        ("1e-9999999999999999999", "number_too_large"),
    ],
)
def test_defects_have_stable_names(text: str, defect: str | None) -> None:
    assert defects(loads(text.encode())) == defect


@given(st.lists(st.sampled_from(['"\\ud800"', '"\\u0000"', "NaN", "1e999999", nested(150), '{"a":1,"a":2}', "1.5"])))
def test_any_parsed_value_can_be_kept_for_inspection(parts: list[str]) -> None:
    """Quarantine must be able to keep exactly the documents that nothing else can hold."""
    value = loads(f'{{"a": [{",".join(parts)}]}}'.encode())
    kept = dumps_ascii(value)
    assert kept.isascii()
    assert [defects(part) for part in loads(kept)["a"]] == [defects(part) for part in value["a"]]


def test_numbers_kept_for_inspection_are_numbers() -> None:
    """Invariant 5: a replay of what was kept must not find a text where the source wrote a number."""
    assert loads(dumps_ascii(loads(b'{"units": 1.50, "id": 12345678901234567890}'))) == {
        "units": Decimal("1.50"),
        "id": 12345678901234567890,
    }


SHALLOW = st.recursive(
    st.none() | st.text('"\\[]{}a\u2028', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"\\[{', max_size=2), inner, max_size=3),
    max_leaves=30,
)


@given(SHALLOW, st.booleans())
def test_brackets_and_quotes_in_strings_are_not_taken_for_nesting(value: JsonValue, ascii_only: bool) -> None:
    many = json.dumps([value] * 101, ensure_ascii=ascii_only).encode()
    assert loads(many) == [value] * 101
    deep = b"[" * 95 + many + b"]" * 95
    too_deep = depth_of(value) + 96 > MAX_DEPTH
    assert defects(loads(deep)) == ("nesting_too_deep" if too_deep else None)


def depth_of(value: JsonValue) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if members is None else 1 + max(map(depth_of, members), default=0)
