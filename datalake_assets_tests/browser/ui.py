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

from datalake_assets_tests.browser.dev import CAMPUS, PATIENCE_S, Upstream

LINEAGE = "/asset-groups~code_location%3A%22{}%22"
"""The graph of everything in a code location."""

WIDE = {"width": 2100, "height": 900}
"""Wide enough for the graph to show its assets with everything about them."""

NODES = "svg foreignObject > div:not([class])"
"""Assets of a graph; boxes of groups, and links to other groups, have a class."""

ARROWS = "svg path[marker-end]"

_DRAWN = """([nodes, arrows]) => ({
    boxes: [...document.querySelectorAll(nodes)].map(node => [
        node.textContent,
        ...["x", "y", "width", "height"].map(name => Number(node.parentNode.getAttribute(name))),
    ]),
    paths: [...document.querySelectorAll(arrows)].map(path => path.getAttribute("d")),
})"""

_HEAD = 10.0
"""Arrows end a little before the asset that they point to, for their heads."""

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
class Box:
    """An asset as it is drawn: its name, in which the UI may leave out the middle, and its place."""

    text: str
    x: float
    y: float
    width: float
    height: float

    def is_of(self, name: str) -> bool:
        start, _, end = self.text.partition("…")
        return name == self.text if not end else name.startswith(start) and name.endswith(end)


@dataclass(frozen=True)
class Lineage:
    """A graph as it is drawn: assets, and arrows from one to another."""

    boxes: list[Box]
    arrows: list[tuple[Box, Box]]

    def upstream_of(self, boxes: set[Box]) -> set[Box]:
        """Everything from which arrows lead to some assets."""
        found = {start for start, end in self.arrows if end in boxes}
        return found | self.upstream_of(found) if found else found


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

    def open_group(self, name: str) -> Page:
        """Show the graph of a group."""
        return self.open(f"/locations/datalake_assets/asset-groups/{name}/lineage")

    def graph(self) -> list[Locator]:
        """The assets of Term's graph from left to right."""
        nodes = self.open_group("term").locator(NODES)
        expect(nodes).to_have_count(5)
        expect(nodes.filter(has_text="Loading")).to_have_count(0)
        return sorted(nodes.all(), key=lambda node: (node.bounding_box() or {"x": 0.0})["x"])

    def lineage(self, upstream: Upstream, location: str = CAMPUS) -> "Lineage":
        """The graph of everything in a code location, with every group unfolded.

        Args:
            upstream: How many assets and arrows there will be to see.
            location: The code location.
        """
        page = self.open(LINEAGE.format(location))
        # A group that is still folded has no box of its own.
        expect(page.locator("svg foreignObject").first).to_be_visible()
        page.locator("body").press("Alt+e")
        expect(page.locator(NODES)).to_have_count(len(upstream))
        expect(page.locator(ARROWS)).to_have_count(sum(map(len, upstream.values())))
        drawn = page.evaluate(_DRAWN, [NODES, ARROWS])
        boxes = [Box(*node) for node in drawn["boxes"]]
        return Lineage(boxes, [_arrow(path, boxes) for path in drawn["paths"]])

    def launch(self, partitions: str, *, group: str = "term", term: str | None = None) -> str:
        """Materialise partitions of a whole group by clicking.

        Args:
            partitions: The load dates.
            group: The group.
            term: The term, where a group has them.

        Returns:
            The id of the run or backfill, whose page is shown.
        """
        page = self.open_group(group)
        page.get_by_role("button", name="Materialize all").click()
        selection = page.get_by_placeholder(re.compile("^(No matching partitions|ex: )"))
        selection.fill(partitions)
        selection.press("Tab")
        if term is not None:
            page.get_by_text("Select a partition or create one").click()
            page.get_by_role("menuitem").filter(has_text=term).click()
            page.keyboard.press("Escape")
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


def _arrow(path: str, boxes: list[Box]) -> tuple[Box, Box]:
    """The assets between which an arrow is drawn: it leaves one on the right and enters another on the left."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    (from_x, from_y), (to_x, to_y) = numbers[:2], numbers[-2:]
    (start,) = (box for box in boxes if box.x + box.width == from_x and box.y < from_y < box.y + box.height)
    (end,) = (box for box in boxes if to_x <= box.x <= to_x + _HEAD and box.y < to_y < box.y + box.height)
    return start, end
