from datetime import date

import pytest

from datalake_assets.simulator.config import Config, knob_help
from datalake_assets.simulator.errors import SimulatorError


def test_knobs_are_read_from_text_as_from_values() -> None:
    of_text = Config.of(
        {
            "seed": "7",
            "scenario_start": "2026-11-20",
            "careers": "UGRD,LAW",
            "alias_fields": "true",
            "whitespace_rate": "0.5",
            "no_current": "2026-11-20,2026-11-22..",
        }
    )
    of_values = Config.of(
        {
            "seed": 7,
            "scenario_start": date(2026, 11, 20),
            "careers": ["UGRD", "LAW"],
            "alias_fields": True,
            "whitespace_rate": 0.5,
            "no_current": ["2026-11-20", "2026-11-22.."],
        }
    )
    assert of_text == of_values
    assert date(2026, 12, 24) in of_text.no_current


@pytest.mark.parametrize(
    ("knob", "value", "allowed"),
    [
        ("colour", "red", "whitespace_rate"),
        ("seed", "-1", "a whole number from 0"),
        ("seed", True, "a whole number from 0"),
        ("scenario_start", "tomorrow", "a day such as 2026-11-20"),
        ("terms_years", "0", "a whole number from 1 to 60"),
        ("careers", "UGRD,DENT", "UGRD, GRAD, LAW, MED"),
        ("careers", "GRAD", "UGRD, GRAD, LAW, MED"),
        ("careers", "UGRD,UGRD", "UGRD, GRAD, LAW, MED"),
        ("term_order", "random", "career, strm"),
        ("alias_fields", "yes", "true, false"),
        ("whitespace_rate", "1.5", "a share from 0 to 1"),
        ("null_vs_empty_rate", "nan", "a share from 0 to 1"),
        ("duplicate_current", "2026-13-01", "a day such as 2026-11-20"),
        ("null_columns", "STRM", "TERM_BEGIN_DT"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(knob: str, value: object, allowed: str) -> None:
    with pytest.raises(SimulatorError) as refused:
        Config.of({knob: value})
    assert allowed in str(refused.value)


def test_every_knob_is_explained() -> None:
    assert all(text for _, _, text in knob_help())
    assert {name for name, _, _ in knob_help()} == set(Config.__dataclass_fields__)
