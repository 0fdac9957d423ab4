import json
from decimal import Decimal

import pytest

from datalake_assets import exact_json
from datalake_assets.cli.output import indented, one_line, print_table, progressing


@pytest.mark.parametrize(
    "text",
    [
        '{"a":[],"b":{},"c":[1,{"d":null}],"e":true,"f":"é \\" \\n"}',
        "[1.10,123456789012345678901234567890,-0.5,1e400]",
        '"alone"',
    ],
)
def test_indented_json_is_the_same_value_with_every_digit(text: str) -> None:
    """A document that is shown must not differ from the one that is stored: floats would round."""
    assert exact_json.loads(indented(exact_json.loads(text.encode())).encode()) == exact_json.loads(text.encode())


def test_indented_json_has_two_blanks_a_level() -> None:
    assert indented({"a": [1, 2], "b": Decimal("1.10")}) == json.dumps({"a": [1, 2], "b": "X"}, indent=2).replace(
        '"X"', "1.10"
    )


def test_a_lone_surrogate_is_shown_as_an_escape() -> None:
    """A quarantined document may hold what UTF-8 cannot."""
    assert indented({"name": "\ud800"}) == '{\n  "name": "\\ud800"\n}'


def test_a_long_value_is_cut_where_its_cell_ends() -> None:
    assert one_line({"a": "x" * 100}, longest=12) == '{"a":"xxxxx…'
    assert one_line({"a": 1}) == '{"a":1}'


def test_a_table_that_is_piped_keeps_every_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich takes a pipe for a terminal of 80 columns and folds cells, which no program can read back."""
    print_table(("name", "text"), [("a", "word " * 60), ("[bold]", None)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split(None, 1)[1].strip() == ("word " * 60).strip()
    assert lines[2].startswith("[bold]")


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progressing([1, 2, 3], "Counting", every_s=0, terminal=False)) == [1, 2, 3]
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.split(",")[0] for line in output.err.splitlines()] == ["Counting: 1 of 3", "Counting: 2 of 3"]


def test_quick_work_says_nothing_of_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progressing([1, 2, 3], "Counting", terminal=False)) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_a_bar_that_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progressing([1, 2, 3], "Counting", terminal=True)) == [1, 2, 3]
    assert capsys.readouterr().out == ""
