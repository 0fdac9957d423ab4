"""The comparison behind the pipelines of the demo must find what is wrong; the demo shows that it finds no more."""

import pytest

from datalake_assets.cli.demo_pipelines import PipelineReport
from datalake_assets.cli.pipeline_judgement import differences

MUST = {"a": {"rows": 2, "amount": 5}, "b": {"rows": 0}}


@pytest.mark.parametrize(
    ("found", "loaded", "said"),
    [
        ({"a": {"rows": 2, "amount": 5, "more": 1}}, ["a", "b"], []),
        ({}, [], []),
        ({"a": {"rows": 2, "amount": 4}}, ["a", "b"], ["a: amount 4 instead of 5"]),
        ({}, ["a"], ["a: rows 0 instead of 2", "a: amount 0 instead of 5"]),
        ({"a": {"rows": 1, "amount": 5}}, [], ["a: rows 1 instead of 2"]),
        ({"c": {"rows": 1}}, [], ["c should not be there"]),
    ],
)
def test_a_total_that_differs_is_named(found, loaded, said):
    """What was not loaded may be missing, and must be right if it is there."""
    assert differences(MUST, found, loaded) == said


@pytest.mark.parametrize(
    ("succeeded", "wrong", "obtainable", "faithful", "said"),
    [
        (True, [], True, True, None),
        (True, ["rows 1 instead of 2"], True, False, "differs from what it must hold: rows 1 instead of 2"),
        (False, [], True, True, "a run failed although its source had everything"),
        (False, [], True, False, None),
        (False, [], False, True, None),
        (True, [], False, False, "is green although its source had nothing to load"),
    ],
)
def test_a_verdict_tells_a_justified_failure_from_a_fault(succeeded, wrong, obtainable, faithful, said):
    report = PipelineReport("dit__contacts_load", ["run"], succeeded, "", 1.0, {}, wrong, obtainable)
    verdict = report.verdict(faithful=faithful)
    assert verdict is None if said is None else said in (verdict or "")
