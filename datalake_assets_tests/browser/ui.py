"""The Dagster UI in a headless Chromium, and the clicks that more than one test makes.

For the browser tests and for `tools/screenshots.py`. What must be seen is in the tests, not here.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from datalake_assets_tests.browser.dev import PATIENCE_S

GRAPH = "/locations/datalake_assets/asset-groups/term/lineage"

WIDE = {"width": 2100, "height": 900}
"""Wide enough for the graph to show its assets with everything about them."""

_FLAGS = (
    "--no-sandbox",  # with one, Chromium refuses to be run by root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Nothing but the UI is asked for anything.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """The machine's own Chromium, if it has one."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@contextmanager
def headless_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Ui:
    """One tab on the UI."""

    page: Page
    url: str

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_S * 1000)
        expect.set_options(timeout=PATIENCE_S * 1000)

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def graph(self) -> list[Locator]:
        """The assets of the graph from left to right."""
        nodes = self.open(GRAPH).locator("svg foreignObject > div")
        expect(nodes).to_have_count(5)
        expect(nodes.filter(has_text="Loading")).to_have_count(0)
        return sorted(nodes.all(), key=lambda node: (node.bounding_box() or {"x": 0.0})["x"])

    def launch(self, partitions: str) -> str:
        """Materialise partitions of the whole graph by clicking; the id of the run or backfill, whose page is shown."""
        page = self.open(GRAPH)
        page.get_by_role("button", name="Materialize all").click()
        selection = page.get_by_placeholder("No matching partitions")
        selection.fill(partitions)
        selection.press("Tab")
        page.get_by_role("button", name=re.compile("^Launch (1 run|backfill)$")).click()
        page.get_by_role("link", name="View", exact=True).click()
        page.wait_for_url(re.compile(r"/runs/"))
        return page.url.rpartition("/")[2].partition("?")[0]

    def wait_until(self, came: Callable[[], bool], otherwise: str) -> None:
        """Let the page go on until something has come about."""
        deadline = time.monotonic() + PATIENCE_S
        while not came():
            assert time.monotonic() < deadline, otherwise
            self.page.wait_for_timeout(100)

    def expect_run_to_end(self, state: str) -> None:
        """Wait for the run whose page is shown."""
        ended = self.page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
        expect(ended).to_be_visible()
        expect(ended).to_have_text(state)
