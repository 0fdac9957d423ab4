"""The lake in the Dagster UI, clicked through in a real browser against `datalake dev` as a user starts it.

All tests look at one lake of three days: two are loaded before the UI opens, today is loaded by clicking.
"""

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from datalake_assets.entities import TERM
from datalake_assets.lake.checks import checks_of
from datalake_assets.lake.tables import table_of
from datalake_assets.sources.policies import TERM_QUERY
from datalake_assets_tests.browser.dev import PATIENCE_S, Dev, processes_of, running_dev
from datalake_assets_tests.browser.ui import WIDE, Ui, chromium, headless_browser
from datalake_assets_tests.integration.rehearsal import same

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with running_dev() as dev:
        yield dev
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(PATIENCE_S) == 0
        assert processes_of(dev.home) == {}, "dev ended, but not all that it had started"


@pytest.fixture(scope="module")
def browser_context() -> Iterator[BrowserContext]:
    with headless_browser() as browser:
        yield browser.new_context(viewport=WIDE)


@pytest.fixture
def ui(dev: Dev, browser_context: BrowserContext) -> Iterator[Ui]:
    with browser_context.new_page() as page:
        yield Ui(page, dev.url)


def test_the_graph_shows_source_landing_raw_xform_and_curated_from_left_to_right(ui: Ui):
    shown = [(node.locator("[class*=nameRow], [class*=Name]").first.inner_text(), node) for node in ui.graph()]
    expected = [
        ("BU_TERM_QRY", {"source"}),
        ("term_data", {"parquet", "json"}),
        ("term_data", {"postgres", "bronze"}),
        ("current_term_data", {"postgres", "silver"}),
        ("term_data_by_service", {"postgres", "gold"}),
    ]
    assert [name for name, _ in shown] == [name for name, _ in expected]
    for (name, node), (_, kinds) in zip(shown, expected, strict=True):
        for kind in kinds:
            expect(node.get_by_role("img", name=kind, exact=True), name).to_be_visible()


# ---------------------------------------------------------------------------------------------- two days again


@dataclass(frozen=True)
class Backfill:
    """A backfill that is under way, and how often the source had been asked before it."""

    id: str
    asked_before: int


@pytest.fixture(scope="module")
def backfill(dev: Dev, browser_context: BrowserContext) -> Backfill:
    """Both past days, launched by clicking. Dagster looks after backfills twice a minute; other tests use the time."""
    asked = len(dev.simulator.requests()["requests"])
    with browser_context.new_page() as page:
        return Backfill(Ui(page, dev.url).launch(f"[{dev.days[0]}...{dev.days[1]}]"), asked)


# ---------------------------------------------------------------------------------------------------- a red day


@dataclass
class RedRun:
    """A run that failed, and what its page had shown on the way."""

    id: str
    shown_while_running: str
    frames: list[str]
    page_stayed: bool


@pytest.fixture(scope="module")
def red_run(backfill: Backfill, dev: Dev, browser_context: BrowserContext) -> RedRun:
    """Today, materialised while CS Tools answers every request with 503."""
    frames: list[str] = []
    dev.simulator.set_faults([{"fault": "status_503", "scope": "cstools"}])
    with browser_context.new_page() as page:
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
        ui = Ui(page, dev.url)
        run = ui.launch(dev.today.isoformat())
        page.evaluate("window.sameDocument = true")
        expect(page.get_by_text("It is asked again in").first).to_be_visible()
        shown = page.inner_text("body")
        ui.expect_run_to_end("Failure")
        # The state of the run is asked for on its own, so it may be shown before the last event has come.
        ui.wait_until(lambda: any("RunFailureEvent" in frame for frame in frames), "the last event did not come")
        stayed = page.evaluate("window.sameDocument === true")
    dev.simulator.set_faults()
    return RedRun(run, shown, frames, stayed)


def test_the_run_page_shows_events_while_the_run_goes_on(red_run: RedRun):
    """Dagster's event stream rests on LISTEN in PostgreSQL, which fails with another driver than ours."""
    assert "STEP_START" in red_run.shown_while_running
    assert "_FAILURE" not in red_run.shown_while_running
    assert red_run.page_stayed, "the page was loaded anew"
    places = [
        next(number for number, frame in enumerate(red_run.frames) if event in frame)
        for event in ("ExecutionStepStartEvent", "It is asked again in", "ExecutionStepFailureEvent", "RunFailureEvent")
    ]
    assert places == sorted(places)
    assert len(set(places)) > 2, "the events came all at once"


def test_a_red_run_says_what_where_and_what_to_do(red_run: RedRun, ui: Ui):
    page = ui.open(f"/runs/{red_run.id}")
    page.get_by_placeholder("Filter…").fill("type:STEP_FAILURE")
    for text in (
        "Failure: CS Tools answered with status 503.",
        "Where: BU_TERM_QRY, POST http://",
        "attempt 4 of 4",
        "What to do: See whether the source is up, then run the load again.",
    ):
        expect(page.get_by_text(text).first).to_be_visible()
    expect(page.get_by_text("Exceeded max_retries")).to_have_count(0)


def test_every_retry_is_in_the_log_of_its_run_and_not_on_the_terminal_a_second_time(red_run: RedRun, dev: Dev):
    events = dev.rows("datalake_dagster", "select event from public.event_logs where run_id = $1", red_run.id)
    retries = [event for (event,) in events if "It is asked again in" in event]
    assert len(retries) == 2 * (TERM_QUERY.attempts - 1), "those of each try of the step"
    output = (dev.home / "dev.log").read_text()
    assert output.count("It is asked again in") == len(retries)
    assert "stamina" not in output.replace("/stamina/", "").replace("stamina.retry_context", "")


def test_no_secret_can_be_read_in_the_ui(red_run: RedRun, dev: Dev, ui: Ui):
    """Whatever a page may show comes from the storage, the captured output, or the configuration."""
    readable = [(dev.home / "dev.log").read_text(), *red_run.frames, red_run.shown_while_running]
    for table, column in (("event_logs", "event"), ("runs", "run_body"), ("asset_keys", "last_materialization")):
        texts = [text for (text,) in dev.rows("datalake_dagster", f"select {column} from public.{table}") if text]
        assert texts, table
        readable += texts
    readable += [path.read_text() for path in (dev.home / "dagster" / "logs").rglob("*") if path.is_file()]
    readable.append(dev.graphql("{instance {info}}")["instance"]["info"])
    page = ui.open(f"/runs/{red_run.id}")
    expect(page.get_by_text("RUN_FAILURE").first).to_be_visible()
    readable.append(page.content())
    everything = "\n".join(readable)
    for seen in ("PostgresRunStorage", "RunFailureEvent", "STEP_FAILURE", "It is asked again in"):
        assert seen in everything
    for secret in dev.secrets:
        assert len(secret) > 10
        assert secret not in everything


# --------------------------------------------------------------------------------------------------- a green day


@pytest.fixture(scope="module")
def green_run(red_run: RedRun, dev: Dev, browser_context: BrowserContext) -> str:
    """Today again, with a source that answers."""
    with browser_context.new_page() as page:
        ui = Ui(page, dev.url)
        run = ui.launch(dev.today.isoformat())
        ui.expect_run_to_end("Success")
    return run


def test_a_partition_materialised_by_clicking_equals_the_truth(green_run: str, dev: Dev):
    assert same(dev.contents(), dev.truth())
    runs = dev.rows(
        "datalake", "select run_id from ops.receipt where load_date = $1 and asset = $2", dev.today, str(TERM.raw)
    )
    assert runs == [(green_run,)]


def test_the_page_of_an_asset_says_what_it_is_and_where_it_comes_from(green_run: str, ui: Ui):
    page = ui.open(f"/assets/{'/'.join(TERM.raw)}?view=overview")
    expect(page.get_by_text("One row per term and change point; key: acad_career, strm, load_date.")).to_be_visible()
    for column in table_of(TERM, "raw").columns:
        expect(page.get_by_text(column.description).first).to_be_attached()
    expect(page.get_by_text("term_raw.term_data", exact=True).first).to_be_visible()
    source = page.get_by_role("link", name=re.compile("^Open .* in editor$"))
    expect(source).to_have_attribute("href", re.compile(r"/datalake_assets/assets/layers\.py"))
    page.get_by_role("button", name="Plots").click()
    for name in ("lake/rows_new", "lake/rows_changed", "lake/rows_removed", "lake/duration_s", "dagster/row_count"):
        expect(page.get_by_text(name, exact=True)).to_be_attached()


def test_a_partition_shows_its_numbers_and_rows_without_documents(green_run: str, dev: Dev, ui: Ui):
    page = ui.open(f"/assets/{'/'.join(TERM.raw)}?view=partitions&partition={dev.today}")

    def row(name: str) -> Locator:
        return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))

    names = ("new", "changed", "removed", "unchanged")
    (numbers,) = dev.rows(
        "datalake",
        f"select {', '.join(f'rows_{name}' for name in names)} from ops.receipt where run_id = $1 and asset = $2",
        green_run,
        str(TERM.raw),
    )
    for name, number in zip(names, numbers, strict=True):
        expect(row(f"lake/rows_{name}")).to_have_text(re.compile(rf"\s{number}\s*$|rows_{name}{number}$"))
    expect(row("preview")).to_contain_text("•••")
    expect(row("preview")).to_contain_text(dev.today.isoformat())
    expect(row("preview")).not_to_contain_text("ACAD_CAREER")
    expect(row("preview")).not_to_contain_text("DESCR")


def test_every_check_shows_its_result(green_run: str, dev: Dev, ui: Ui):
    names = sorted(check.name for check in checks_of(TERM) if check.table == TERM.raw)
    page = ui.open(f"/assets/{'/'.join(TERM.raw)}?view=checks")
    loaded = re.compile("|".join(day.isoformat() for day in dev.days))  # the backfill may have been the last to check
    expect(page.get_by_text(f"Checks ({len(names)})")).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(len(names))
    for name in names:
        page.get_by_text(name, exact=True).first.click()
        expect(page.get_by_text("Passed", exact=True)).to_be_visible()
        expect(page.get_by_role("row", name="load_date")).to_have_text(loaded)


# ----------------------------------------------------------------------------------------- two days again, the end


def test_a_backfill_of_two_days_keeps_their_snapshots_and_rebuilds_what_lies_below(
    backfill: Backfill, green_run: str, dev: Dev, ui: Ui
):
    past = [day.isoformat() for day in dev.days[:2]]
    page = ui.open(f"/runs/b/{backfill.id}")
    expect(page.get_by_text("Status", exact=True).locator("xpath=..")).to_contain_text("Succeeded")
    expect(page.get_by_text("100% completed")).to_have_count(4)

    runs = runs_of(dev, backfill.id)
    assert {partition: state for partition, (_, state) in runs.items()} == dict.fromkeys(past, "SUCCESS")
    for asset in map(str, (TERM.raw, TERM.xform, TERM.curated)):
        written = dev.rows(
            "datalake",
            "select partition, (array_agg(run_id order by attempt desc))[1] from ops.receipt "
            "where asset = $1 and partition = any($2) group by partition",
            asset,
            past,
        )
        assert dict(written) == {partition: run for partition, (run, _) in runs.items()}, asset
    asked = len(dev.simulator.requests()["requests"]) - backfill.asked_before
    assert asked == 2 * TERM_QUERY.attempts + 1, "today was asked for, in vain and then not; the past days were not"
    ui.open(f"/assets/{'/'.join(TERM.landing)}?view=partitions&partition={past[0]}")
    expect(page.get_by_text("is kept as it was landed")).to_be_visible()
    assert same(dev.contents(), dev.truth())


def runs_of(dev: Dev, backfill: str) -> dict[str, tuple[str, str]]:
    """Id and state of each run of a backfill by its partition, which tells checks what they check."""
    wanted = f'filter: {{tags: [{{key: "dagster/backfill", value: "{backfill}"}}]}}'
    answer = dev.graphql(f"{{runsOrError({wanted}) {{... on Runs {{results {{runId status tags {{key value}}}}}}}}}}")
    runs = answer["runsOrError"]["results"]
    partitions = [next(tag["value"] for tag in run["tags"] if tag["key"] == "dagster/partition") for run in runs]
    return {partition: (run["runId"], run["status"]) for partition, run in zip(partitions, runs, strict=True)}
