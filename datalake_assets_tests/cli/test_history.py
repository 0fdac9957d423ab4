from datalake_assets_tests.cli.commands import FUTURE, SECOND, THIRD, Commands, three_days


def test_as_of_shows_the_document_of_a_date_and_since_when(commands: Commands) -> None:
    commands.in_lake(three_days)
    before = commands.run("as-of", "term", "UGRD", "2261", "--at", "2026-01-01", "--json").json()
    after = commands.run("as-of", "term", "UGRD", "2261", "--at", "2026-01-02", "--json").json()
    assert before == {
        "entity": "term",
        "key": ["UGRD", "2261"],
        "at": "2026-01-01",
        "since": "2026-01-01",
        "operation": "I",
        "document": FUTURE,
        "run_id": "run of 2026-01-01",
    }
    assert after["document"] == {**FUTURE, "DESCR": "Spring 2026 (new)"}
    assert (after["since"], after["operation"]) == ("2026-01-02", "U")


def test_as_of_without_a_date_shows_today(commands: Commands) -> None:
    commands.in_lake(three_days)
    shown = commands.run("as-of", "term", "UGRD", "2261")
    assert shown.code == 0
    assert shown.out.startswith("term UGRD 2261 on 2026-01-03: unchanged since 2026-01-02 (run run of 2026-01-02)\n{\n")
    assert '"DESCR": "Spring 2026 (new)"' in shown.out


def test_as_of_says_since_when_a_document_is_gone(commands: Commands) -> None:
    commands.in_lake(three_days)
    assert commands.run("as-of", "term", "UGRD", "2255").out == (
        "term UGRD 2255 on 2026-01-03: gone since 2026-01-03 (run run of 2026-01-03)\n"
    )
    assert commands.run("as-of", "term", "UGRD", "2255", "--json").json()["document"] is None


def test_a_document_that_came_later_is_told_from_one_that_never_was(commands: Commands) -> None:
    commands.in_lake(three_days)
    early = commands.run("as-of", "term", "UGRD", "2258", "--at", "2025-12-31")
    assert (early.code, early.out) == (1, "")
    assert "The lake holds no term UGRD 2258 up to 2025-12-31; it came later." in early.err
    never = commands.run("as-of", "term", "UGRD", "9999")
    assert (never.code, never.out) == (1, "")
    assert "The lake holds no term UGRD 9999." in never.err


def test_blame_tells_field_values_date_and_run(commands: Commands) -> None:
    commands.in_lake(three_days)
    changes = commands.run("blame", "term", "UGRD", "2261", "/DESCR", "--json").json()
    assert changes["path"] == "/DESCR"
    assert [
        (change["load_date"], change["before"], change["after"], change["appeared"], change["run_id"])
        for change in changes["changes"]
    ] == [
        ("2026-01-01", None, "Spring 2026", True, "run of 2026-01-01"),
        (str(SECOND), "Spring 2026", "Spring 2026 (new)", False, "run of 2026-01-02"),
    ]


def test_blame_shows_the_end_of_a_document_field_by_field(commands: Commands) -> None:
    commands.in_lake(three_days)
    lines = commands.run("blame", "term", "UGRD", "2255").out.splitlines()
    assert lines[0].split() == ["date", "field", "before", "after", "run"]
    assert [line for line in lines if line.startswith(str(THIRD)) and "/DESCR" in line and '"Summer 2025"' in line]


def test_a_field_that_never_was_is_told_from_a_document_that_never_was(commands: Commands) -> None:
    commands.in_lake(three_days)
    field = commands.run("blame", "term", "UGRD", "2258", "/descr")
    assert (field.code, field.out) == (1, "")
    assert "No document of term UGRD 2258 ever had a field /descr." in field.err
    document = commands.run("blame", "term", "UGRD", "9999", "/DESCR")
    assert "The lake holds no term UGRD 9999." in document.err
