"""The installed `datalake` command as a process of its own, from start to exit code."""

from datalake_assets_tests.cli.commands import Commands, three_days


def test_the_installed_command_prints_one_json_document_and_nothing_else(commands: Commands) -> None:
    commands.in_lake(three_days)
    checked = commands.call("checks", "--date", "2026-01-03", "--entity", "term", "--json")
    assert (checked.code, checked.json()["errors"]) == (0, 0)
    shown = commands.call("as-of", "term", "UGRD", "2258", "--json")
    assert (shown.code, shown.json()["document"]["STRM"], shown.err) == (0, "2258", "")


def test_an_error_of_ours_is_a_sentence_on_standard_error_and_exit_code_1(commands: Commands) -> None:
    failed = commands.call("as-of", "term", "UGRD", "9999")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("error: The lake holds no term UGRD 9999. Where: term_raw.term_data.")
    assert "Traceback" not in failed.err


def test_a_failed_check_is_the_exit_code_of_the_process(commands: Commands) -> None:
    assert commands.call("checks", "--date", "2026-01-09").code == 1


def test_reconciling_says_nothing_but_its_result(commands: Commands) -> None:
    """Dagster's logging must not get between a program and the JSON it reads."""
    done = commands.call("reconcile", "--json")
    assert (done.code, done.json()["runs_ended"], done.err) == (0, [], "")
