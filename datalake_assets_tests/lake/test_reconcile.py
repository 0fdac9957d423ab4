from dataclasses import replace

import pytest

from datalake_assets.entities import TERM
from datalake_assets.lake.reconcile import (
    RunFacts,
    RunVerdict,
    judge_run,
    looks_like_run_id,
    slice_of_folder,
    snapshots_to_keep,
)
from datalake_assets.storage.parquet import Manifest

SILENT = RunFacts(
    run_id="a",
    job="term_daily",
    status="STARTED",
    silent_s=301.0,
    pids=(17,),
    living_pids=(),
    backends=(),
    is_here=True,
)


def manifest(sha256: str, dataset: str = "term_landing/term_data", **partition: str) -> Manifest:
    return Manifest(
        dataset=dataset,
        partition=partition or {"load_date": "2026-01-31"},
        file=f"{sha256[:32]}.parquet",
        rows=1,
        bytes=1,
        sha256=sha256,
        columns=(),
        created_at="2026-01-31T00:00:00+00:00",
        run_id="a",
        account={},
    )


def test_a_silent_run_without_process_or_session_is_dead() -> None:
    verdict = judge_run(SILENT, 300)
    assert verdict == RunVerdict("dead", "Silent for 301 s; its process 17 is gone, and it has no session in the lake.")
    assert "no process of it ever spoke" in judge_run(replace(SILENT, pids=()), 300).why


@pytest.mark.parametrize(
    ("sign", "state"),
    [
        ({"backends": (5,)}, "alive"),
        ({"backends": (5,), "is_here": False}, "alive"),
        ({"living_pids": (17,)}, "alive"),
        ({"silent_s": 299.0}, "young"),
        ({"is_here": False}, "unknown"),
        ({"is_here": False, "living_pids": (17,)}, "unknown"),
    ],
)
def test_any_sign_of_life_or_doubt_leaves_a_run_alone(sign: dict[str, object], state: str) -> None:
    """A run that is ended by mistake is loaded a second time beside itself."""
    assert judge_run(replace(SILENT, **sign), 300).state == state


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("0f1ae2a5-7d0f-4e6b-8c8e-0d6a7f2f9b11", True),
        ("replay-0f1ae2a5-7d0f-4e6b-8c8e-0d6a7f2f9b11", False),
        ("datalake demo", False),
        ("psql", False),
        ("", False),
    ],
)
def test_sessions_of_people_are_told_from_sessions_of_runs(name: str, is_one: bool) -> None:
    assert looks_like_run_id(name) is is_one


def test_a_snapshot_that_history_may_be_mended_from_stays() -> None:
    """Later dates are mended from the snapshot that they were loaded from, current or not."""
    loaded, other, foreign = "a" * 64, "b" * 64, "c" * 64
    named = {
        ("term_raw.term_data", "2026-01-31"): loaded,
        ("term_raw.term_data", "2026-02-01"): other,
        ("taxi.trips", "2026-01"): foreign,
    }
    keep = snapshots_to_keep([TERM], named)
    assert keep(manifest(loaded))
    assert not keep(manifest(other))  # of another date
    assert not keep(manifest("d" * 64))
    assert keep(manifest(foreign, "taxi/trips_file", month="2026-01"))
    assert not keep(manifest("d" * 64, "taxi/trips_file", month="2026-01"))


def test_a_folder_that_is_no_partition_is_left_alone() -> None:
    assert slice_of_folder(TERM, {"load_date": "2026-01-31", "request": "x"}) is not None
    assert slice_of_folder(TERM, {"load_date": "yesterday"}) is None
    assert slice_of_folder(TERM, {}) is None
    assert snapshots_to_keep([TERM], {})(manifest("a" * 64, day="1"))
