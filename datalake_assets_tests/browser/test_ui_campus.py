"""Terms, courses and people in the Dagster UI: their lineage, their partitions, and a term that is loaded again alone.

All tests look at one lake of two days. Both are loaded by commands, the second while a term of SnapLogic is down,
PeopleSoft fails now and then, and a person's document cannot be kept.
"""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Response, WebSocket, expect

from datalake_assets.entities import COURSE, ENTITIES, PERSON, TERM
from datalake_assets.lake.checks import checks_of
from datalake_assets_tests.browser.dev import PATIENCE_S, Dev, processes_of, running_dev
from datalake_assets_tests.browser.ui import WIDE, Box, Ui, chromium, headless_browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
]

SYSTEMS = {"peoplesoft", "sap", "vds", "snaplogic"}


@dataclass(frozen=True)
class Campus:
    """The lake, and what the commands of its second day came to."""

    dev: Dev
    red_term: str
    output: str

    @property
    def red_partition(self) -> str:
        return f"{self.dev.today}|{self.red_term}"

    def course_receipts(self) -> set[tuple[Any, ...]]:
        """Asset, partition, attempt and run of every committed load of courses."""
        query = "select asset, partition, attempt, run_id, committed_at from ops.receipt where asset like 'course%'"
        return set(self.dev.rows("datalake", query))

    def terms(self) -> dict[str, set[str]]:
        """Terms whose courses are in raw, by load date."""
        loaded: dict[str, set[str]] = {day.isoformat(): set() for day in self.dev.days}
        for partition in {row[1] for row in self.course_receipts() if row[0] == str(COURSE.raw)}:
            day, _, term = partition.partition("|")
            loaded[day].add(term)
        return loaded


@pytest.fixture(scope="module")
def campus() -> Iterator[Campus]:
    with running_dev(2, entities=ENTITIES, persons=80, person_change_rate=0.2, courses_per_term=20) as dev:
        (done,) = dev.load(dev.today, TERM)
        assert done.returncode == 0, done.stderr
        terms = [term["strm"] for term in dev.contents()["active_terms"]]
        faults = [
            {"fault": "status_503", "scope": f"snaplogic_course/{terms[1]}"},
            {"fault": "status_503", "scope": "cstools/BU_TERM_STD_FULL_TERM*", "rate": 0.2, "first_n": 1},
            {"fault": "poison", "scope": "personapi"},
        ]
        dev.simulator.set_faults(faults)
        courses, people = dev.load(dev.today, COURSE, PERSON)
        assert courses.returncode == 1, courses.stdout
        assert people.returncode == 0, people.stderr
        output = "".join(text for command in (courses, people) for text in (command.stdout, command.stderr))
        yield Campus(dev, terms[1], output)
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(PATIENCE_S) == 0
        assert processes_of(dev.home) == {}, "dev ended, but not all that it had started"


@pytest.fixture(scope="module")
def dev(campus: Campus) -> Dev:
    return campus.dev


@pytest.fixture(scope="module")
def browser_context() -> Iterator[BrowserContext]:
    with headless_browser() as browser:
        yield browser.new_context(viewport=WIDE)


@pytest.fixture
def ui(dev: Dev, browser_context: BrowserContext) -> Iterator[Ui]:
    with browser_context.new_page() as page:
        yield Ui(page, dev.url)


# ------------------------------------------------------------------------------------------------------ the graph


def test_the_lineage_leads_from_four_systems_to_nine_tables_from_left_to_right(dev: Dev, ui: Ui):
    upstream = dev.upstream()
    lineage = ui.lineage(upstream)

    def drawn(key: tuple[str, ...]) -> str:
        """How an asset is written in the graph; landing and raw of an entity bear the same name."""
        (text,) = {box.text for box in lineage.boxes if box.is_of(key[-1])}
        return text

    arrows = Counter((start.text, end.text) for start, end in lineage.arrows)
    assert arrows == Counter((drawn(above), drawn(key)) for key, keys in upstream.items() for above in keys)
    for start, end in lineage.arrows:
        assert start.x + start.width < end.x, (start, end)

    leads_to = {end for _, end in lineage.arrows}
    sources = {box for box in lineage.boxes if box not in leads_to}
    named = {key for key, keys in upstream.items() if not keys}
    assert Counter(box.text for box in sources) == Counter(drawn(key) for key in named)
    assert {key[0] for key in named} == SYSTEMS

    systems: dict[Box, set[str]] = {box: {key[0] for key in named if drawn(key) == box.text} for box in sources}
    for entity, expected in ((TERM, {"peoplesoft"}), (COURSE, {"peoplesoft", "snaplogic"}), (PERSON, SYSTEMS)):
        (curated,) = (box for box in lineage.boxes if box.is_of(entity.curated.table))
        way = lineage.upstream_of({curated})
        assert [sum(box.is_of(table) for box in way) for table in (entity.xform.table, entity.raw.table)] == [1, 2]
        assert set().union(*(systems[box] for box in way & sources)) == expected, entity.name


# ----------------------------------------------------------------------------------------------- term by load date


def shown_states(page: Page, name: str) -> list[str]:
    """The colours of the dots beside a partition."""
    dots = page.locator(f'[data-tooltip="{name}"]').first.locator("xpath=following-sibling::div")
    return [str(dot.get_attribute("style")).partition("accent-")[2].partition(")")[0] for dot in dots.all()]


def test_the_partitions_of_courses_are_shown_term_by_date(campus: Campus, ui: Ui):
    dev, loaded = campus.dev, campus.terms()
    terms = sorted(set().union(*loaded.values()) | {campus.red_term})
    assert all(0 < len(loaded[str(day)]) < len(terms) for day in dev.days), "nothing tells the days apart"
    page = ui.open(f"/assets/{'/'.join(COURSE.raw)}?view=partitions")
    count = sum(map(len, loaded.values()))
    expect(page.get_by_text(f"Materialized ({count})")).to_be_visible()
    expect(page.get_by_text("Failed (1)")).to_be_visible()
    expect(page.get_by_text(f"Missing ({2 * len(terms) - count - 1})")).to_be_visible()
    for day in map(str, dev.days):
        page.get_by_title(day).click()
        expected = {term: ["green"] if term in loaded[day] else ["gray"] for term in terms}
        if day == str(dev.today):
            expected[campus.red_term] = ["red"]
        ui.wait_until(
            lambda expected=expected: {term: shown_states(page, term) for term in terms} == expected,
            f"{day}: not {expected}",
        )


# --------------------------------------------------------------------------------------------------- series, checks


def test_what_changed_in_people_is_plotted_over_the_days(dev: Dev, ui: Ui):
    changed = dict(
        dev.rows("datalake", "select partition, rows_changed from ops.receipt where asset = $1", str(PERSON.raw))
    )
    assert len(changed) == 2
    assert len(set(changed.values())) == 2, "a flat line would not tell which point is which"
    page = ui.open(f"/assets/{'/'.join(PERSON.raw)}?view=overview")
    with page.expect_response(
        lambda answer: "AssetPartitionEventsQuery" in (answer.request.post_data or "")
    ) as answered:
        page.get_by_role("button", name="Plots").click()
    assert plotted(answered.value.json()) == changed

    canvas = page.get_by_text("lake/rows_changed", exact=True).locator("xpath=../..").locator("canvas")
    canvas.scroll_into_view_if_needed()
    ends: list[Any] = [None]

    def is_drawn() -> bool:
        ends[0] = canvas.evaluate(_ENDS_OF_LINE)
        return ends[0] is not None and ends[0][1][0] - ends[0][0][0] > 0.5

    ui.wait_until(is_drawn, "no line is drawn over the width of the plot")
    (_, first_y), (_, last_y) = ends[0]
    first, last = changed[str(dev.days[0])], changed[str(dev.days[1])]
    assert (first_y > last_y) == (first < last), "upwards is more"


_ENDS_OF_LINE = """canvas => {
    const {width, height} = canvas;
    const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
    const found = [];
    for (let x = 0; x < width; x++)
        for (let y = 0; y < height; y++) {
            const [red, green, blue, alpha] = data.slice(4 * (y * width + x), 4 * (y * width + x) + 4);
            if (alpha > 200 && blue > 180 && red < 120 && green < 120) found.push([x / width, y / height]);
        }
    return found.length ? [found[0], found[found.length - 1]] : null;
}"""
"""Where the coloured line of a plot begins and ends, as shares of its width and height."""


def plotted(answer: Any) -> dict[str, int]:
    """The numbers of rows changed in an answer of GraphQL to the plots, by partition."""
    found: dict[str, int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            entries = value.get("metadataEntries")
            for entry in entries if isinstance(entries, list) else []:
                if entry.get("label") == "lake/rows_changed":
                    found[value["partition"]] = entry["intValue"]
            for item in value.values():
                walk(item)

    walk(answer["data"])
    return found


@pytest.mark.parametrize("layer", ["raw", "xform", "curated"])
def test_the_checks_of_people_show_their_results(dev: Dev, ui: Ui, layer: str):
    names = [check.name for check in checks_of(PERSON) if check.layer == layer]
    assert len(names) > 1
    page = ui.open(f"/assets/{'/'.join(getattr(PERSON, layer))}?view=checks")
    expect(page.get_by_text(f"Checks ({len(names)})")).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(len(names))
    page.get_by_text(names[0], exact=True).first.click()
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()
    expect(page.get_by_role("row", name="load_date")).to_contain_text(dev.today.isoformat())


# ------------------------------------------------------------------------------------------------- no personal data


def test_nothing_of_a_person_can_be_read_in_the_ui(campus: Campus, browser_context: BrowserContext):
    """Whatever a page may show comes from the storage, the captured output, or answers of the webserver."""
    dev = campus.dev
    assert dev.rows("datalake", "select 1 from ops.quarantine where entity = 'person'"), "no document was refused"
    run = run_of_people(dev)
    retried = "select count(*) from public.event_logs where run_id = $1 and event like '%It is asked again in%'"
    assert dev.rows("datalake_dagster", retried, run) > [(0,)], "nothing was told of single students"
    readable = [campus.output, (dev.home / "dev.log").read_text()]
    for table, column in (
        ("event_logs", "event"),
        ("runs", "run_body"),
        ("asset_keys", "last_materialization"),
        ("asset_check_executions", "evaluation_event"),
    ):
        texts = [text for (text,) in dev.rows("datalake_dagster", f"select {column} from public.{table}") if text]
        assert texts, table
        readable += texts
    readable += [path.read_text() for path in (dev.home / "dagster" / "logs").rglob("*") if path.is_file()]

    answers: list[Response] = []
    frames: list[str] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: frames.append(str(frame)))

    with browser_context.new_page() as page:
        page.on("response", lambda answer: answers.append(answer) if answer.url.endswith("/graphql") else None)
        page.on("websocket", listen)
        ui = Ui(page, dev.url)
        ui.open(f"/runs/{run}")
        expect(page.get_by_text("RUN_SUCCESS").first).to_be_visible()
        readable += [page.content(), page.inner_text("body")]
        for table in (PERSON.raw, PERSON.xform, PERSON.curated):
            ui.open(f"/assets/{'/'.join(table)}?view=partitions&partition={dev.today}")
            expect(page.get_by_role("row").filter(has=page.get_by_text("preview", exact=True))).to_contain_text("•••")
            readable += [page.content(), page.inner_text("body")]
        readable += [answer.text() for answer in answers]
    everything = "\n".join([*readable, *frames])
    for seen in ("people/s", "ASSET_CHECK_EVALUATION", "RunSuccessEvent", "lake/rows_changed"):
        assert seen in everything, seen

    documents = dev.simulator.truth(kind="person", day=dev.today, documents=True)["documents"]
    personal = {text for document in documents.values() for text in personal_texts(document)} | set(documents)
    assert len(personal) > 5 * len(documents)
    words = set(re.findall(r"[\w@.'/-]+", everything))
    leaked = {text for text in personal if text in words or (not re.fullmatch(r"[\w'-]+", text) and text in everything)}
    assert leaked == set()
    assert re.findall(r"U\d{8}", everything) == [], "ids of whoever it is"


def personal_texts(document: Any) -> Iterator[str]:
    """Ids, names, birth dates, addresses, phone numbers and e-mail addresses, as they may be written in JSON."""
    if isinstance(document, list):
        for item in document:
            yield from personal_texts(item)
    elif isinstance(document, dict):
        for name, value in document.items():
            is_personal = name in ("firstName", "lastName", "birthDate", "line1", "number", "address", "email", "buid")
            if is_personal and isinstance(value, str) and len(value) > 3:
                yield from {value, json.dumps(value)[1:-1]}
            yield from personal_texts(value)


def run_of_people(dev: Dev) -> str:
    """The run that loaded people today."""
    ((run,),) = dev.rows(
        "datalake",
        "select run_id from ops.receipt where asset = $1 and load_date = $2",
        str(PERSON.raw),
        dev.today,
    )
    return str(run)


# -------------------------------------------------------------------------------------------------- one term, again


def test_a_term_that_failed_is_loaded_again_alone(campus: Campus, ui: Ui):
    dev, before = campus.dev, campus.course_receipts()
    tables = {str(table) for table in (COURSE.landing, COURSE.raw, COURSE.xform, COURSE.curated)}
    assert campus.red_partition not in {row[1] for row in before}, "nothing of it was written"
    assert len(campus.terms()[str(dev.today)]) > 1, "the other terms did not wait for it"

    red = ui.launch(dev.today.isoformat(), group="course", term=campus.red_term)
    ui.expect_run_to_end("Failure")
    page = ui.page
    page.get_by_placeholder("Filter…").fill("type:STEP_FAILURE")
    for text in (
        "SnapLogic course answered with status 503.",
        f"Where: term {campus.red_term}, GET http://",
        "attempt 3 of 3",
        "What to do: See whether the source is up, then run the load again.",
    ):
        expect(page.get_by_text(text).first).to_be_visible()
    assert campus.course_receipts() == before

    dev.simulator.set_faults()
    asked = len(dev.simulator.requests()["requests"])
    page.get_by_role("button", name="Re-execute all").click()
    page.wait_for_url(lambda url: "/runs/" in url and red not in url)
    again = page.url.rpartition("/")[2].partition("?")[0]
    ui.expect_run_to_end("Success")

    written = campus.course_receipts() - before
    assert before <= campus.course_receipts()
    assert {row[1] for row in written} == {campus.red_partition}
    assert {row[3] for row in written} == {again}
    assert {row[0] for row in written} <= tables
    assert {row[0] for row in written} >= tables - {str(COURSE.landing)}
    assert len(dev.simulator.requests()["requests"]) - asked == 1
    ui.open(f"/assets/{'/'.join(COURSE.raw)}?view=partitions")
    expect(page.get_by_text("Failed (0)")).to_be_visible()
    expect(page.get_by_text(f"Materialized ({sum(map(len, campus.terms().values()))})")).to_be_visible()
