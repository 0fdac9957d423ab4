"""Every invariant of the design is held by a test that names it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

INVARIANTS = {
    1: "history is a function of the snapshots",
    2: "failed is not empty",
    3: "never green on partial data",
    4: "all or nothing",
    5: "one bad document costs one document",
    6: "sensitive keys never touch a disk or a log",
    7: "allow-lists only",
    8: "bounded memory",
    9: "no clock in a transformation",
    10: "nothing happens at import",
    11: "exactly one writer per slice",
}


def cited(docstring: str) -> set[int]:
    """Numbers in "Invariant 3" or "Invariants 1, 2 and 5"."""
    found = re.findall(r"Invariants? (\d+(?:(?:, | and )\d+)*)", docstring)
    return {int(number) for numbers in found for number in re.findall(r"\d+", numbers)}


def citations() -> Iterator[tuple[int, str]]:
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for number in cited(ast.get_docstring(node) or ""):
                    yield number, f"{path.relative_to(TESTS)}::{node.name}"


@pytest.mark.parametrize(
    ("docstring", "numbers"),
    [
        ("Invariant 3: a sentence.", {3}),
        ("Invariants 1, 2 and 5 over random histories.", {1, 2, 5}),
        ("Two of them. Invariant 10. Invariant 11: more.", {10, 11}),
        ("The invariant has no number.", set()),
    ],
)
def test_a_citation_is_recognised(docstring: str, numbers: set[int]) -> None:
    assert cited(docstring) == numbers


@pytest.mark.parametrize("number", INVARIANTS, ids=INVARIANTS.__getitem__)
def test_an_invariant_is_held_by_tests_that_name_it(number: int) -> None:
    """A promise without a test is a hope."""
    assert [name for cited_number, name in citations() if cited_number == number]


def test_no_test_cites_an_invariant_that_does_not_exist() -> None:
    assert {number for number, _ in citations()} <= set(INVARIANTS)
