"""A JSON text taken apart as it arrives must give what parsing the whole of it would have given."""

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datalake_assets.exact_json import JsonError, loads
from datalake_assets.sources.json_items import CutJsonError, JsonParts, Part, Path

OPENED = {
    (): (b"[", b"{"),
    (None,): (b"{",),
    (None, "courses"): (b"[",),
    ("courses",): (b"[",),
}
"""A list of groups, or one group alone: the shape for which all this was made."""

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NAMES = st.sampled_from(["courses", "termDetails", "a", ""]) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
GROUPS = st.lists(st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=4), max_size=4), max_size=4)
LONGEST = 1000


def taken_apart(text: bytes, cuts: list[int] | None = None, *, longest: int = LONGEST) -> list[Part]:
    parts = JsonParts(OPENED, longest=longest)
    ends = sorted({min(cut, len(text)) for cut in cuts or []} | {len(text)})
    found: list[Part] = []
    start = 0
    for end in ends:
        found += parts.feed(text[start:end])
        start = end
    return [*found, *parts.finish()]


def meaning(parts: list[Part]) -> list[tuple[str, Path, Any]]:
    return [(part.kind, part.path, json.loads(part.raw or b"") if part.kind == "value" else part.raw) for part in parts]


def expected(value: Any, path: Path = ()) -> Iterator[tuple[str, Path, Any]]:
    """The same from the whole: the model that the splitter is compared with."""
    bracket = b"[" if isinstance(value, list) else b"{" if isinstance(value, dict) else b""
    if not bracket or bracket not in OPENED.get(path, ()):
        yield "value", path, value
        return
    yield "opened", path, bracket
    members = [(None, item) for item in value] if isinstance(value, list) else value.items()
    for name, member in members:
        yield from expected(member, (*path, name))
    yield "closed", path, b"]" if isinstance(value, list) else b"}"


@given(
    value=VALUES | GROUPS,
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    bom=st.booleans(),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
@example(value=[{"courses": ['\\"]}', "\\", '"', "[{"]}], indent=None, ascii_only=True, bom=False, cuts=[])
@settings(max_examples=200, deadline=None)
def test_any_cutting_of_the_bytes_gives_what_parsing_the_whole_gives(
    value: Any, indent: int | None, ascii_only: bool, bom: bool, cuts: list[int]
) -> None:
    """A network cuts where it likes: inside names, escapes, characters, numbers, the byte order mark."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", errors="replace")
    value = json.loads(text)
    sent = b"\xef\xbb\xbf" * bom + text
    assert meaning(taken_apart(sent, cuts, longest=10**6)) == list(expected(value))
    assert taken_apart(sent, list(range(len(sent))), longest=10**6) == taken_apart(sent, longest=10**6)


def test_values_are_handed_over_in_the_bytes_they_were_written_in() -> None:
    """A number keeps its digits, and what is no JSON is for the parser of that one item to refuse."""
    text = b'[ {"courses" :[ 1.50 , NaN,{"a":1,"a":2}\n,["\t"] ,"\\u00e9", tru , {1 2} ] } ]'
    raws = [part.raw for part in taken_apart(text) if part.kind == "value"]
    assert raws == [b"1.50", b"NaN", b'{"a":1,"a":2}', b'["\t"]', b'"\\u00e9"', b"tru", b"{1 2}"]


@given(
    text=st.sampled_from([json.dumps([{"termDetails": {"x": "é"}, "courses": [{"a": [1, "}"]}, "b"]}, {}])]).map(
        str.encode
    ),
    end=st.integers(0, 60),
)
def test_a_text_that_ends_early_is_never_taken_for_whole(text: bytes, end: int) -> None:
    """What was cut may come whole the next time; what is wrong would be wrong again. `]` alone leaves it open."""
    cut = text[: min(end, len(text) - 1)]
    with pytest.raises(JsonError) as caught:
        taken_apart(cut)
    assert isinstance(caught.value, CutJsonError) is (not cut.rstrip().endswith(b"]"))


def test_a_quote_too_many_is_not_taken_for_a_cut_text() -> None:
    """Such a text would be as wrong the next time, and each time costs a quarter of an hour."""
    with pytest.raises(JsonError, match="a value in it never does") as caught:
        taken_apart(b'[{"courses": [{"title": "Intro "A"}]}]')
    assert not isinstance(caught.value, CutJsonError)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'[{"courses":[1,]}]', "a value is missing at byte 15"),
        (b'[{"courses":[1 2]}]', "a comma or a closing bracket is missing at byte 15"),
        (b'[{"courses":[1}]', "a comma or a closing bracket is missing at byte 14"),
        (b'[{"courses":[,1]}]', "a value or the end of the list is missing at byte 13"),
        (b'[{"courses",1}]', "a colon is missing at byte 11"),
        (b'[{"a":1,}]', "the name of a member is missing at byte 8"),
        (b"[{a:1}]", "the name of a member or the end of the object is missing at byte 2"),
        (b'[{"a":}]', "a value is missing at byte 6"),
        (b'[{"\\x":1}]', "not JSON: Invalid"),
        (b"[] []", "the end of the text is missing at byte 3"),
        (b"]", "a value is missing at byte 0"),
    ],
)
def test_opened_containers_must_be_json(text: bytes, sentence: str) -> None:
    for cuts in ([], list(range(len(text)))):
        with pytest.raises(JsonError, match=sentence) as caught:
            taken_apart(text, cuts)
        assert not isinstance(caught.value, CutJsonError)


@pytest.mark.parametrize("cuts", [[], [3], [4, 5, 6, 7]])
@pytest.mark.parametrize(
    "text", [b'[{"a":"\xff"}]', b'["\xc3", 1]', '["é"]'.encode("latin-1"), '["é"]'.encode("utf-16")]
)
def test_what_is_not_utf_8_is_refused(text: bytes, cuts: list[int]) -> None:
    """Latin-1 that happens to parse would be stored as other letters than were meant."""
    with pytest.raises(JsonError, match="not UTF-8") as caught:
        taken_apart(text, cuts)
    assert not isinstance(caught.value, CutJsonError)


def test_an_item_beyond_the_bound_costs_that_item_and_no_memory() -> None:
    huge = b'{"notes":"' + b"x" * 1_000_000 + b'"}'
    parts = JsonParts(OPENED, longest=LONGEST)
    found = list(parts.feed(b'[{"courses":[{"a":1},'))
    tracemalloc.start()
    for start in range(0, len(huge), 1000):
        found += parts.feed(huge[start : start + 1000])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found += [*parts.feed(b',{"b":2}]}]'), *parts.finish()]
    items = [(part.raw, part.size) for part in found if part.path == (None, "courses", None)]
    assert items == [(b'{"a":1}', 7), (None, len(huge)), (b'{"b":2}', 7)]
    assert peak < 50_000


def test_a_name_beyond_the_bound_is_refused() -> None:
    with pytest.raises(JsonError, match="name of a member is longer than the 1000 bytes"):
        taken_apart(b'[{"' + b"x" * 2000 + b'": 1}]')


def test_bottomless_nesting_is_one_item_like_any_other() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    found = taken_apart(b'[{"courses":[' + deep + b",1]}]", longest=10**6)
    assert [part.raw for part in found if part.path == (None, "courses", None)] == [deep, b"1"]
    assert loads(deep) is not None
