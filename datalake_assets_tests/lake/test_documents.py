"""How one object of an answer is judged: cleaned, checked, keyed, digested, or quarantined by a named rule."""

import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake_assets.entities import PERSON, SENSITIVE_KEYS, TERM, Column, Entity
from datalake_assets.exact_json import loads
from datalake_assets.lake.canonical import digest
from datalake_assets.lake.documents import (
    Answer,
    judge,
    key_of,
    settle_duplicates,
    unusable,
    value_at,
    without_sensitive_keys,
)
from datalake_assets.lake.outcomes import Outcome

CANARY = "123-45-6789"

COURSE = Entity(
    name="course",
    table="course_data",
    document_column="course_data",
    dated_column="dl_insert_date",
    key=(
        Column("term_code", ("termDetails", "term", "code"), "integer"),
        Column("session_code", ("v2", "sessionCode"), "varchar", 3),
    ),
    columns=(Column("course_data", (), "jsonb"),),
    load_hour=2,
)


def judged(text: str, entity: Entity = TERM) -> Answer:
    return judge(entity, loads(text.encode(), control_characters=True), "test row 1")


def term_text(**fields: str) -> str:
    """A good term as JSON, with some members given as JSON texts."""
    members = {"ACAD_CAREER": '"UGRD"', "STRM": '"2258"', "DESCR": '"Fall 2025"', **fields}
    return "{" + ",".join(f'"{name}": {text}' for name, text in members.items()) + "}"


# -------------------------------------------------------------------------------------------------- judging


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (term_text(), None),
        (term_text(DESCR="null"), None),
        (term_text(DESCR='""'), None),
        (term_text(DESCR='"' + "x" * 20 + '"'), None),
        (term_text(DESCR='"' + "x" * 20 + '   "'), None),
        (term_text(DESCR='"' + "é" * 20 + '"'), None),
        (term_text(ELSEWHERE='{"any": [1, {"thing": null}]}'), None),
        ('{"ACAD_CAREER": "UGRD", "STRM": "2258"}', None),
        (term_text(DESCR='"' + "x" * 21 + '"'), "too_long"),
        (term_text(CURRENT_IND='"YN"'), "too_long"),
        (term_text(DESCR="17"), "wrong_type"),
        (term_text(DESCR="false"), "wrong_type"),
        (term_text(DESCR="[]"), "wrong_type"),
        (term_text(DESCR="{}"), "wrong_type"),
        (term_text(STRM="null"), "unusable_key"),
        (term_text(STRM='""'), "unusable_key"),
        (term_text(STRM='"   "'), "unusable_key"),
        (term_text(STRM="2258"), "unusable_key"),
        (term_text(STRM='"22580"'), "unusable_key"),
        (term_text(STRM='["2258"]'), "unusable_key"),
        ('{"STRM": "2258"}', "unusable_key"),
        ("{}", "unusable_key"),
        ("null", "not_an_object"),
        ('"text"', "not_an_object"),
        ("[]", "not_an_object"),
        ("NaN", "not_an_object"),
        (term_text(DESCR='"a\\u0000b"'), "nul_character"),
        (term_text(STRM='"22\\u00008"'), "nul_character"),
        (term_text(DESCR='"\\ud800"'), "lone_surrogate"),
        (term_text(UNITS="NaN"), "not_a_number"),
        (term_text(UNITS="1e999999"), "number_too_large"),
        (term_text(UNITS="[" * 150 + "]" * 150), "nesting_too_deep"),
        ('{"ACAD_CAREER": "UGRD", "STRM": "2258", "STRM": "2261"}', "duplicate_key"),
    ],
)
def test_a_document_is_kept_or_quarantined_by_a_named_rule(text: str, rule: str | None) -> None:
    """One NUL, lone surrogate or NaN once lost the whole batch that it was inserted with (fault P11)."""
    answer = judged(text)
    assert answer.rule == rule
    if rule is None:
        assert answer.outcome is Outcome.DATA
        assert answer.key == ("UGRD", "2258")
        assert answer.document is not None
        assert loads(answer.document) == loads(text.encode())
        assert answer.digest == digest(loads(text.encode()))
        assert answer.reason is None
    else:
        assert answer.outcome is Outcome.QUARANTINED
        assert answer.digest is None
        assert answer.reason is not None
        assert answer.reason.endswith(".")


@given(st.text(max_size=4), st.text(max_size=25))
def test_any_text_in_key_and_column_is_judged_without_an_error(strm: str, descr: str) -> None:
    """Invariant 5: whatever one document holds, its neighbours go on."""
    answer = judged(json.dumps({"ACAD_CAREER": "UGRD", "STRM": strm, "DESCR": descr}))
    assert answer.outcome in (Outcome.DATA, Outcome.QUARANTINED)
    assert (answer.rule is None) == (answer.outcome is Outcome.DATA)


@pytest.mark.parametrize("rule", ["too_long", "wrong_type", "unusable_key", "nul_character"])
def test_a_reason_never_quotes_the_document(rule: str) -> None:
    """Invariant 6: reasons are logged and shown, documents are not."""
    texts = {
        "too_long": term_text(DESCR=f'"{CANARY} {CANARY}"'),
        "wrong_type": term_text(DESCR=f'["{CANARY}"]'),
        "unusable_key": term_text(STRM=f'"{CANARY}"'),
        "nul_character": term_text(DESCR=f'"{CANARY}\\u0000"'),
    }
    answer = judged(texts[rule])
    assert answer.rule == rule
    assert CANARY not in (answer.reason or "") + answer.source


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"termDetails": {"term": {"code": 2258}}, "v2": {"sessionCode": "1"}}', (2258, "1")),
        ('{"termDetails": {"term": {"code": "2258"}}, "v2": {"sessionCode": " 01 "}}', (2258, "01")),
        ('{"termDetails": {"term": {"code": " 0258 "}}, "v2": {"sessionCode": "001"}}', (258, "001")),
        ('{"termDetails": {"term": {"code": 0}}, "v2": {"sessionCode": "A"}}', (0, "A")),
        ('{"termDetails": {"term": {"code": 2147483647}}, "v2": {"sessionCode": "A"}}', (2147483647, "A")),
        ('{"termDetails": {"term": {"code": 2147483648}}, "v2": {"sessionCode": "A"}}', (None, "A")),
        ('{"termDetails": {"term": {"code": -1}}, "v2": {"sessionCode": "A"}}', (None, "A")),
        ('{"termDetails": {"term": {"code": 2258.0}}, "v2": {"sessionCode": "A"}}', (None, "A")),
        ('{"termDetails": {"term": {"code": true}}, "v2": {"sessionCode": "A"}}', (None, "A")),
        ('{"termDetails": {"term": {"code": "22x"}}, "v2": {"sessionCode": "A"}}', (None, "A")),
        ('{"termDetails": {"term": {"code": null}}, "v2": {"sessionCode": "ABCD"}}', (None, None)),
        ('{"termDetails": null, "v2": []}', (None, None)),
        ('{"termDetails": {"term": [{"code": 1}]}, "v2": "x"}', (None, None)),
    ],
)
def test_a_key_is_read_exactly_or_not_at_all(text: str, key: tuple[Any, ...]) -> None:
    """`termDetails` or `v2` being null once ended a whole course load (fault C5)."""
    assert key_of(COURSE, loads(text.encode())) == key
    assert judged(text, COURSE).keyed is (None not in key)


@pytest.mark.parametrize("part", ["null", "[]", "{}", '"x"', "[[]]"])
def test_a_person_without_the_usual_parts_is_kept_as_sent(part: str) -> None:
    """`personBasic` being null once ended the insert of a whole batch (fault D6)."""
    text = f'{{"personid": "U00000001", "personBasic": {part}, "personDetails": {part}, "studentInfo": {part}}}'
    answer = judged(text, PERSON)
    assert (answer.key, answer.outcome) == (("U00000001",), Outcome.DATA)
    assert loads(answer.document or b"") == loads(text.encode())


def test_padding_around_a_key_names_the_same_document() -> None:
    assert judged(term_text(STRM='" 2258 "')).key == judged(term_text()).key


def test_a_document_without_a_usable_key_is_kept_in_quarantine_with_what_is_known_of_it() -> None:
    """Records without an id were once dropped without being counted (fault P10)."""
    answer = judged('{"ACAD_CAREER": "UGRD", "DESCR": "Fall"}')
    assert answer.key == ("UGRD", None)
    assert not answer.keyed
    assert loads(answer.document or b"") == {"ACAD_CAREER": "UGRD", "DESCR": "Fall"}


def test_what_is_kept_of_a_quarantined_document_is_what_the_source_wrote() -> None:
    """Invariant 5: once the rule is mended, the document must be as good as at its first load."""
    text = term_text(DESCR='"' + "x" * 21 + '"', UNITS="1.50", ID="12345678901234567890", NAME='"é\u2028"')
    answer = judged(text)
    assert answer.rule == "too_long"
    assert (answer.document or b"").isascii()
    assert digest(loads(answer.document or b"")) == digest(loads(text.encode()))


def test_a_part_of_an_answer_that_is_no_document_is_quarantined_without_a_key() -> None:
    answer = unusable(TERM, "cut_line", "The line ends in the middle.", "test row 9")
    assert (answer.key, answer.outcome, answer.keyed) == ((None, None), Outcome.QUARANTINED, False)
    assert (answer.rule, answer.document) == ("cut_line", None)


@pytest.mark.parametrize(
    ("path", "value"),
    [((), {"a": {"b": 1}}), (("a",), {"b": 1}), (("a", "b"), 1), (("a", "c"), None), (("a", "b", "c"), None)],
)
def test_a_value_is_found_by_its_path(path: tuple[str, ...], value: Any) -> None:
    assert value_at({"a": {"b": 1}}, path) == value


# ------------------------------------------------------------------------------------------ sensitive keys


sensitive_names = st.sampled_from(sorted(SENSITIVE_KEYS)).flatmap(
    lambda name: st.tuples(*(st.sampled_from([letter, letter.upper()]) for letter in name)).map("".join)
)
scalars = st.none() | st.integers(-9, 9) | st.text("xyz", max_size=3)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "ssn_x", "xssn", "name"]) | sensitive_names, inner, max_size=4)
    ),
    max_leaves=15,
)


def all_keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for member in value.values() for key in all_keys(member)}
    if isinstance(value, list):
        return {key for item in value for key in all_keys(item)}
    return set()


def pruned(value: Any) -> Any:
    """What a reader would do by hand."""
    if isinstance(value, dict):
        return {key: pruned(value[key]) for key in value if key.lower() not in SENSITIVE_KEYS}
    return [pruned(item) for item in value] if isinstance(value, list) else value


@given(trees)
def test_sensitive_keys_are_removed_at_any_depth_and_in_any_case_and_nothing_else(tree: Any) -> None:
    """Invariant 6: once they were removed one level deep and in exact case only (fault P12)."""
    cleaned = without_sensitive_keys(tree)
    assert not {key.lower() for key in all_keys(cleaned)} & SENSITIVE_KEYS
    assert cleaned == pruned(tree)


@pytest.mark.parametrize(
    "text",
    [
        term_text(SSN=f'"{CANARY}"'),
        term_text(person=f'[{{"Ids": [[{{"sSn": "{CANARY}"}}]]}}]'),
        term_text(DESCR="17", ssn=f'"{CANARY}"'),
        term_text(DESCR='"\\u0000"', x=f'{{"FinAid": {{"note": "{CANARY}"}}}}'),
        term_text(STRM="null", sexualOrientation=f'["{CANARY}"]'),
        f'{{"STRM": "1", "STRM": "2", "ssn": "{CANARY}"}}',
        f'{{"ssn": "{CANARY}", "ssn": "{CANARY}"}}',
        f'{{"ssn": "{CANARY}", "SSN": "{CANARY}", "STRM": NaN}}',
        f'[{{"ssn": "{CANARY}"}}]',
        term_text(deep="[" * 150 + f'{{"ssn": "{CANARY}"}}' + "]" * 150),
        term_text(deep="[" * 99 + f'{{"ssn": "{CANARY}"}}' + "]" * 99),
    ],
)
def test_nothing_sensitive_is_left_in_any_answer(text: str) -> None:
    """Invariant 6: also not in a document that is quarantined, nor in one with duplicate keys."""
    answer = judged(text)
    assert CANARY not in repr(answer)
    assert b"ssn" not in (answer.document or b"").lower()


def test_a_sensitive_value_that_changes_is_no_change_of_the_document() -> None:
    one, other = judged(term_text(SSN='"1"')), judged(term_text(SSN='"2"'))
    assert one.digest == other.digest == judged(term_text()).digest


def test_a_duplicate_that_is_sensitive_still_condemns_its_object() -> None:
    """The object was not what its writer meant; which of the values was meant cannot be told of the others either."""
    assert judged('{"ACAD_CAREER": "UGRD", "STRM": "2258", "ssn": 1, "ssn": 2}').rule == "duplicate_key"


# ------------------------------------------------------------------------------------------------ duplicates


def settled(*texts: str) -> list[tuple[Any, ...]]:
    answers = [judge(TERM, loads(text.encode()), f"row {number}") for number, text in enumerate(texts)]
    return sorted(
        (tuple(map(str, answer.key)), answer.outcome.value, answer.rule or "", answer.document or b"")
        for answer in settle_duplicates(answers, TERM)
    )


def test_equal_documents_with_one_key_collapse_into_one() -> None:
    found = settled(term_text(N="[1, 2]"), term_text(N="[2, 1]"), term_text(N="[2, 1.0]"))
    assert [(key, outcome) for key, outcome, _, _ in found] == [(("UGRD", "2258"), "data")]


def test_of_different_documents_one_is_kept_and_the_others_quarantined() -> None:
    """With one key for two documents, which one was current once depended on the order of the answer (fault C7)."""
    found = settled(term_text(DESCR='"B"'), term_text(DESCR='"A"'), term_text(DESCR='"C"'))
    assert [(outcome, rule) for _, outcome, rule, _ in found] == [
        ("data", ""),
        ("quarantined", "duplicate_document"),
        ("quarantined", "duplicate_document"),
    ]
    assert b'"A"' in found[0][3]


@pytest.mark.parametrize(
    "texts",
    [
        [term_text(DESCR='"B"'), term_text(DESCR='"A"'), term_text(DESCR='"C"')],
        [term_text(N="[1, 2]"), term_text(N="[2, 1]"), term_text(N="[3]")],
        [term_text(N="1.0"), term_text(N="1"), term_text(N="2")],
        [term_text(DESCR='"B"'), term_text(DESCR="17"), term_text(DESCR='"C"')],
        [term_text(STRM='"1"'), term_text(STRM="null"), term_text(STRM="null"), term_text(STRM='"1 "')],
    ],
)
def test_what_is_kept_does_not_depend_on_the_order_of_the_answer(texts: list[str]) -> None:
    """Invariant 1: a source that shuffles its answer must not change what the lake holds, to the byte."""
    assert len({repr(settled(*order)) for order in permutations(texts)}) == 1


def test_a_key_of_which_any_document_is_quarantined_keeps_its_last_state() -> None:
    """Invariant 2: its good-looking document may be the wrong one of the two."""
    found = settled(term_text(DESCR='"B"'), term_text(DESCR="17"))
    assert {outcome for _, outcome, _, _ in found} == {"quarantined"}
    assert sorted(rule for _, _, rule, _ in found) == ["duplicate_document", "wrong_type"]


def test_documents_without_a_key_are_never_taken_for_duplicates() -> None:
    assert len(settled(term_text(STRM="null"), term_text(STRM="null"))) == 2


def test_no_answer_is_lost_among_many() -> None:
    """The account must balance: every document is kept, collapsed into an equal one, or quarantined."""
    texts = [term_text(STRM=f'"{number % 7}"', DESCR=f'"{number % 3}"') for number in range(60)]
    found = settled(*texts)
    assert sum(outcome == "data" for _, outcome, _, _ in found) == 7
    assert len(found) == len(set(texts))


def test_other_outcomes_of_one_key_stand_beside_each_other() -> None:
    failed = Answer(key=("UGRD", "1"), outcome=Outcome.FAILED, source="a", rule="timeout")
    found = list(settle_duplicates([failed, replace(failed, source="b")], TERM))
    assert [answer.source for answer in found] == ["a", "b"]
