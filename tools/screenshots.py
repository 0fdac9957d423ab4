"""Take the screenshots of README.md and docs/operations.md: `python -m tools.screenshots`.

Starts `datalake dev` on a lake of a few days, as the browser tests do, and photographs it in a headless Chromium.
What the pages must show is tested in `datalake_assets_tests/browser/`.
"""

import re
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from datalake_assets_tests.browser.dev import Dev, running_dev
from datalake_assets_tests.browser.ui import Ui, chromium, headless_browser

FOLDER = Path(__file__).parent.parent / "docs" / "images"
LARGEST_BYTES = 200_000


def main() -> None:
    """Take all of them.

    Raises:
        SystemExit: There is no Chromium here, or a picture is too large for the repository.
    """
    if chromium() is None:
        sys.exit("There is no Chromium on this machine; install Debian's package chromium.")
    FOLDER.mkdir(exist_ok=True)
    with running_dev() as dev, headless_browser() as browser:
        context = browser.new_context(viewport={"width": 1600, "height": 560})
        with context.new_page() as page:
            take_graph(Ui(page, dev.url))
        with context.new_page() as page:
            page.set_viewport_size({"width": 1400, "height": 620})
            take_red_run(Ui(page, dev.url), dev)


def take_graph(ui: Ui) -> None:
    """The lineage from source to curated, after two loaded days."""
    ui.graph()
    picture(ui.page, "graph.png")


def take_red_run(ui: Ui, dev: Dev) -> None:
    """A run that failed because PeopleSoft was out, at the event that says so."""
    dev.simulator.set_faults([{"fault": "status_503", "scope": "cstools"}])
    ui.launch(dev.today.isoformat())
    ui.expect_run_to_end("Failure")
    ui.page.get_by_placeholder("Filter…").fill("type:STEP_FAILURE")
    expect(ui.page.get_by_text(re.compile("What to do: See whether the source is up")).first).to_be_visible()
    picture(ui.page, "red-run.png")


def picture(page: Page, name: str) -> None:
    """Write what a page shows."""
    page.wait_for_timeout(1000)  # until what slides or fades has come to rest
    file = FOLDER / name
    page.screenshot(path=file, animations="disabled")
    size = file.stat().st_size
    if size > LARGEST_BYTES:
        sys.exit(f"{file} has {size:,} bytes; at most {LARGEST_BYTES:,} belong in the repository.")
    print(f"{file.relative_to(FOLDER.parent.parent)}: {size:,} bytes")


if __name__ == "__main__":
    main()
