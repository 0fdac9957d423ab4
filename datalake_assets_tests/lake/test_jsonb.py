"""What we call fit to be kept and what PostgreSQL's jsonb accepts are one and the same."""

import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from datalake_assets.exact_json import JsonValue, defects, dumps, loads
from datalake_assets.lake.canonical import digest
from datalake_assets_tests.lake.lakes import SmallLake

pytestmark = pytest.mark.anyio

OUR_OWN_RULES = {"duplicate_key", "nesting_too_deep"}
"""Refused although jsonb would take them: it keeps the last of two values, and some thousand levels."""

CHARACTERS = ["a", "é", "\u2028", "\U0001f600", "\\u0000", "\\u0001", "\\ud800", "\\udc00x", "\\ud83d\\ude00", "\\n"]
LITERALS = ["0", "-0", "1.50", "1e3", "-1E-5", "NaN", "Infinity", "-Infinity", "null", "true"]


def exact_limit(source: random.Random) -> str:
    """A number around the limits of jsonb's numeric."""
    whole = source.choice([1, 2, 131_071, 131_072, 131_073])
    fraction = source.choice([0, 1, 16_382, 16_383, 16_384])
    exponent = source.choice([0, 0, 1, -1, 131_070, 131_071, 131_072, -16_382, -16_383, -16_384, 10**9, -(10**9)])
    digits = source.choice("019")
    text = "1" + digits * (whole - 1) if digits == "0" or whole > 1 else digits
    text = text if text[0] != "0" or text == "0" else "1" + text[1:]
    return (
        source.choice(["", "-"])
        + text
        + ("." + digits * fraction if fraction else "")
        + (f"e{exponent}" if exponent else "")
    )


def random_json(source: random.Random, depth: int = 0) -> str:
    def text() -> str:
        return '"' + "".join(source.choices(CHARACTERS, weights=[9, 9, 9, 9, 1, 9, 1, 1, 9, 9], k=3)) + '"'

    def member() -> str:
        return random_json(source, depth + 1)

    kinds: list[Callable[[], str]] = [text, text, lambda: source.choice(LITERALS)]
    if depth < 3:
        kinds += [
            lambda: f"[{','.join(member() for _ in range(source.randrange(4)))}]",
            lambda: "{" + ",".join(f"{text()}:{member()}" for _ in range(source.randrange(4))) + "}",
        ]
    return source.choice(kinds)()


def samples() -> list[str]:
    source = random.Random(20260101)  # noqa: S311 - drawn to be repeated, not to be secret
    return (
        [random_json(source) for _ in range(600)]
        + [exact_limit(source) for _ in range(150)]
        + ["0e131072", "0e999999999", "0.0e-16384", "-0.0", "1e-9999999999999999999", "1e9999999999999999999"]
        + ["[" * 100 + "]" * 100, "[" * 101 + "]" * 101, '{"a": 1, "a": 2}', '""', "[]", "{}"]
    )


async def test_jsonb_accepts_what_has_no_defect_and_refuses_what_has_one(lake: SmallLake) -> None:
    """Invariant 5: one value that PostgreSQL refuses would end the load of all its neighbours (fault P11)."""
    texts = samples()
    accepted = await accepted_by_jsonb(lake, texts)
    found = [defects(loads(text.encode())) for text in texts]
    disagreed = [
        (text[:60], defect, taken)
        for text, defect, taken in zip(texts, found, accepted, strict=True)
        if taken is not (defect is None or defect in OUR_OWN_RULES)
    ]
    assert disagreed == []
    assert {"nul_character", "lone_surrogate", "not_a_number", "number_too_large", None, *OUR_OWN_RULES} == set(found)


async def accepted_by_jsonb(lake: SmallLake, texts: list[str]) -> list[bool]:
    if lake.connection.get_server_version().major >= 16:
        rows = await lake.connection.fetch(
            "select pg_input_is_valid(t, 'jsonb') from unnest($1::text[]) with ordinality as u (t, n) order by n", texts
        )
        return [row[0] for row in rows]
    await lake.connection.execute(
        "create function pg_temp.is_jsonb(t text) returns boolean language plpgsql as"
        " 'begin perform t::jsonb; return true; exception when others then return false; end'"
    )
    rows = await lake.connection.fetch(
        "select pg_temp.is_jsonb(t) from unnest($1::text[]) with ordinality as u (t, n) order by n", texts
    )
    return [row[0] for row in rows]


async def test_a_document_comes_back_from_jsonb_as_it_went(lake: SmallLake) -> None:
    """Nothing is lost between landing and raw: numbers to the last digit, texts to the last character."""
    documents = [value for text in samples() if defects(value := loads(text.encode())) is None]
    rows = await lake.connection.fetch(
        "select d from unnest($1::jsonb[]) with ordinality as u (d, n) order by n",
        [dumps(value) for value in documents],
    )
    returned = [loads(row[0]) for row in rows]
    assert [digest(value) for value in returned] == [digest(value) for value in documents]
    assert [plain(value) for value in returned] == [plain(value) for value in documents]


def plain(value: JsonValue) -> JsonValue:
    """With every number as a decimal, so that 1e3 and 1000 compare by value."""
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value
