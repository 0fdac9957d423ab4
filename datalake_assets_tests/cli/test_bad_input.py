"""What people mistype, and what they are told: input, message, exit code. 2 is click's code for a wrong usage."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datalake_assets_tests.cli.commands import Commands

ALLOW = ["allow", "term_raw.term_data", "2026-01-31", "volume", "--reason"]
VIEWS = ["run", "dit__completed_omis_orders_views"]
RIDES = ["run", "trips__rides_load"]
REASON = "The registrar closed the old careers."


@dataclass(frozen=True)
class Bad:
    """A bad input.

    Attributes:
        words: What is typed after `datalake`; `{folder}` stands for the shell's folder.
        message: What standard error must hold.
        code: The exit code.
        variables: Environment variables besides the good ones.
    """

    words: list[str]
    message: str
    code: int = 1
    variables: dict[str, str] = field(default_factory=dict)


TABLE = [
    Bad(["chekcs"], "There is no command 'chekcs'. Commands: ", 2),
    Bad(["checks", "--date", "2026-02-30"], "Invalid value for '--date'", 2),
    Bad(["checks", "--date", "yesterday"], "Invalid value for '--date'", 2),
    Bad(["checks", "--entity", "terms"], "There is no entity 'terms'; there are: term"),
    Bad(["checks", "--jsno"], "No such option", 2),
    Bad(["checks"], "LAKE_MAX_FAILED_SHARE is 'x'; it must be a share", variables={"LAKE_MAX_FAILED_SHARE": "x"}),
    Bad(["checks"], "DATALAKE_TODAY is 'x'; it must be a date", variables={"DATALAKE_TODAY": "x"}),
    Bad(["checks"], "POSTGRES_PORT is 'x'; it must be a whole number", variables={"POSTGRES_PORT": "x"}),
    Bad(["checks"], "The server's socket", variables={"POSTGRES_PORT": "1"}),
    Bad(["as-of", "term"], "Missing argument 'KEY...'", 2),
    Bad(["as-of", "terms", "UGRD", "2258"], "There is no entity 'terms'"),
    Bad(["as-of", "term", "UGRD"], "A key of term is ACAD_CAREER STRM; got 1 words."),
    Bad(["as-of", "term", "UGRD", "2258", "x"], "A key of term is ACAD_CAREER STRM; got 3 words."),
    Bad(["as-of", "term", "UGRD", "2258", "--at", "31.01.2026"], "Invalid value for '--at'", 2),
    Bad(["as-of", "term", "UGRD", "2258"], "The lake holds no term UGRD 2258."),
    Bad(["blame", "term", "/DESCR"], "A key of term is ACAD_CAREER STRM; got 0 words."),
    Bad(["blame", "term", "UGRD", "2258", "/DESCR"], "The lake holds no term UGRD 2258."),
    Bad(["blame", "term", "UGRD", "2258", "DESCR"], "got 3 words."),
    Bad(["quarantine"], "Commands:", 2),
    Bad(["quarantine", "lsit"], "No such command 'lsit'", 2),
    Bad(["quarantine", "list", "--state", "closed"], "'closed' is not one of 'open', 'replayed'", 2),
    Bad(["quarantine", "list", "--entity", "x"], "There is no entity 'x'"),
    Bad(["quarantine", "show", "0"], "0 is not in the range", 2),
    Bad(["quarantine", "show", "abc"], "'abc' is not a valid integer", 2),
    Bad(["quarantine", "show", "999"], "There is no quarantined document 999. What to do: `datalake quarantine list`"),
    Bad(["quarantine", "replay", "999"], "There is no quarantined document 999."),
    Bad(["quarantine", "replay"], "Give either the NUMBER of a document or --all.", 2),
    Bad(["quarantine", "replay", "1", "--all"], "Give either the NUMBER of a document or --all.", 2),
    Bad(["quarantine", "replay", "--all", "--document", "{folder}/a.json"], "--document mends one document", 2),
    Bad(["quarantine", "replay", "1", "--entity", "term"], "--entity goes with --all", 2),
    Bad(["quarantine", "replay", "1", "--document", "{folder}/none.json"], "does not exist", 2),
    Bad(["quarantine", "replay", "1", "--document", "{folder}/a.json"], "The mended document cannot be read"),
    Bad(["migrate"], "The server's socket", variables={"POSTGRES_PORT": "1"}),
    Bad(["migrate", "now"], "unexpected extra argument (now)", 2),
    Bad([*ALLOW[:4]], "Missing option '--reason'", 2),
    Bad([*ALLOW, "because"], "The reason has 7 characters; it needs at least 10."),
    Bad([*ALLOW, "          x          "], "The reason has 1 characters; it needs at least 10."),
    Bad(["allow", "term_raw.terms", *ALLOW[2:], REASON], "No guard watches 'term_raw.terms'"),
    Bad(
        ["allow", "term_xform.current_term_data", *ALLOW[2:], REASON],
        "Assets with guards: term_raw.term_data, course_raw.course_data, ",
    ),
    Bad([*ALLOW[:3], "age", "--reason", REASON], "There is no guard 'age'. What to do: Guards: volume."),
    Bad(["allow", ALLOW[1], "january", *ALLOW[3:], REASON], "'january' is no partition of term_raw.term_data."),
    Bad(["allow", ALLOW[1], "2026-01-31|2258", *ALLOW[3:], REASON], "Write it like 2026-01-31"),
    Bad(["allow", ALLOW[1], "2026-01-31", "--reason", REASON], "There is no guard '2026-01-31'."),
    Bad(["allow", "dit.omis_client_survey", *ALLOW[2:], REASON], "trips.rides, trips.zones."),
    Bad(["allow", "dit.contacts", "2026", *ALLOW[3:], REASON], "'2026' is no partition of dit.contacts."),
    Bad(["allow", "trips.rides", "2021-01-01", *ALLOW[3:], REASON], "Write it like green|2021-07-01"),
    Bad(["allow", "trips.rides", "volume", "--reason", REASON], "trips.rides is loaded by partition."),
    Bad(["allow", "trips.zones", "2021-01-01", *ALLOW[3:], REASON], "What to do: Leave it out"),
    Bad(["run", "dit__contacts"], "By day: course_daily, person_daily, term_daily. Declared pipelines: dit__"),
    Bad(["run", "term_daily", "--partition", "2026-01-31"], "term_daily takes no --partition."),
    Bad(["run", "dit__contacts_load", "--term", "2258"], "dit__contacts_load is not run by term."),
    Bad(["run", "dit__contacts_load", "--date", "2026-01-31"], "dit__contacts_load has no partitions"),
    Bad([*VIEWS], "has partitions: 2019-07-01 to 20"),
    Bad([*VIEWS, "--partition", "2019-07"], "'2019-07' is no partition of dit__completed_omis_orders_views"),
    Bad([*VIEWS, "--date", "2019-06-30"], "No partition of dit__completed_omis_orders_views holds 2019-06-30"),
    Bad([*VIEWS, "--from", "2019-07-01"], "A range needs both ends."),
    Bad([*VIEWS, "--from", "2020-06-01", "--to", "2019-07-01"], "2019-07-01 comes before 2020-06-01."),
    Bad([*VIEWS, "--date", "2019-07-01", "--partition", "2019-07-01"], "named in more than one way"),
    Bad([*RIDES, "--date", "2021-01-31"], "More than one partition of trips__rides_load holds 2021-01-31"),
    Bad([*RIDES, "--partition", "red|2021-01-01"], "'red|2021-01-01' is no partition of trips__rides_load"),
    Bad([*RIDES, "--partition", "green"], "'green' is no partition of trips__rides_load"),
    Bad([*RIDES, "--from", "green|2021-01-01", "--to", "yellow|2021-02-01"], "What to do: Exchange --from and --to."),
    Bad(["reconcile", "--older-than", "-1"], "-1.0 is not in the range", 2),
    Bad(["reconcile", "--older-than", "soon"], "'soon' is not a valid float", 2),
    Bad(["doctor", "now"], "unexpected extra argument (now)", 2),
]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: " ".join(bad.words))
def test_bad_input_is_answered_with_a_sentence(commands: Commands, bad: Bad) -> None:
    (commands.folder / "a.json").write_text('{"STRM": ')
    commands.variables.update(bad.variables)
    answered = commands.run(*(word.format(folder=commands.folder) for word in bad.words))
    assert bad.message in " ".join(answered.err.split())
    assert (answered.code, answered.out, "Traceback" in answered.err) == (bad.code, "", False)


def test_a_refused_permission_leaves_no_trace(commands: Commands) -> None:
    commands.run(*ALLOW, "because")
    assert commands.sql("select count(*) from ops.guard_override") == [(0,)]


def test_a_mistyped_word_starts_no_server(commands: Commands) -> None:
    """What can be refused without the lake is refused before anything is started or made."""
    for name in [name for name in commands.environment if name.startswith("POSTGRES_")]:
        del commands.environment[name]
    for words in (["as-of", "terms", "a"], [*ALLOW, "because"], ["quarantine", "replay"], ["checks", "--entity", "x"]):
        assert commands.run(*words).code in (1, 2)
    assert not Path(commands.home).exists()
