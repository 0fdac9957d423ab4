"""A regression is told from noise."""

from pathlib import Path

import pytest

from datalake_assets_tests.benchmarks.measure import Figure, Kind
from datalake_assets_tests.benchmarks.usual import FILE, Usual, read, taken, worse, write


def figure(ratio: float, case: str = "load") -> Figure:
    return Figure(case, "COPY", (ratio,), (1.0,), limit=9.0)


def test_what_is_usual_is_the_median_of_the_runs_and_at_least_some_noise() -> None:
    usual = taken([[figure(1.0)], [figure(1.1)], [figure(1.05)]])
    assert usual == {"load, beside COPY": Usual(1.05, 0.3)}
    noisy = taken([[figure(1.0)], [figure(2.0)], [figure(1.5)]])
    assert noisy["load, beside COPY"].noise == pytest.approx(2 / 1.5)


def test_figures_that_are_no_ratios_or_were_not_always_measured_are_left_out() -> None:
    value = Figure("memory", "", (9.0,), kind=Kind.VALUE, limit=9.0)
    told = Figure("load", "proof", (9.0,), (1.0,))
    assert taken([[figure(1.0), figure(2.0, "rare"), value, told], [figure(1.0), value, told]]).keys() == {
        "load, beside COPY"
    }


def test_a_ratio_beyond_its_noise_is_a_regression() -> None:
    usual = {"load, beside COPY": Usual(1.0, 0.3)}
    assert worse([figure(1.29)], usual) == []
    assert worse([figure(1.31)], usual) == ["load, beside COPY: 1.31 x; usual is 1.00, and up to 1.30 is noise."]


def test_what_is_no_longer_measured_is_no_success() -> None:
    assert worse([], {"load, beside COPY": Usual(1.0, 0.3)}) == ["load, beside COPY was not measured."]


def test_usual_ratios_are_kept_in_a_file(tmp_path: Path) -> None:
    usual = {"load, beside COPY": Usual(1.25, 0.4)}
    write(usual, tmp_path / "usual.json")
    assert read(tmp_path / "usual.json") == usual
    assert read(FILE)
