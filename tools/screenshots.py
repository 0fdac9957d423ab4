"""Take the screenshots of README.md and docs/operations.md: `python -m tools.screenshots`.

Starts `datalake dev` on a lake of a few days, as the browser tests do, and photographs it in a headless Chromium.
What the pages must show is tested in `datalake_assets_tests/browser/`.
"""

import re
import sys
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import FloatRect, Page, expect

from datalake_assets.entities import ENTITIES
from datalake_assets_tests.browser.dev import CAMPUS, PIPELINES, Dev, running_dev
from datalake_assets_tests.browser.ui import Ui, chromium, headless_browser

FOLDER = Path(__file__).parent.parent / "docs" / "images"
LARGEST_BYTES = 250_000
MARGIN = 8
PIPELINE_RUNS = (
    *(f"dit__{name}_load" for name in ("omis_dataset", "investment_projects_dataset", "contacts")),
    *(
        f"dit__{name}_views --from 2019-07-01 --to {{last}}"
        for name in ("omis_client_survey", "completed_omis_orders", "cancelled_omis_orders", "investment_projects")
    ),
    *(f"trips__{name}_load" for name in ("zones", "payment_types")),
    *(
        f"trips__{name}_load --partition {color}|2021-01-01"
        for color in ("green", "yellow")
        for name in ("rides", "monthly_revenue")
    ),
)


def main() -> None:
    """Take all of them.

    Raises:
        SystemExit: There is no Chromium here, or a picture is too large for the repository.
    """
    if chromium() is None:
        sys.exit("There is no Chromium on this machine; install Debian's package chromium.")
    FOLDER.mkdir(exist_ok=True)
    with running_dev(2, entities=ENTITIES, persons=80, taxi_rows=500) as dev, headless_browser() as browser:
        for group in (ENTITIES[:1], ENTITIES[1:]):
            dev.load(dev.today, *group)
        context = browser.new_context(viewport={"width": 2200, "height": 1200})
        with context.new_page() as page:
            take_graph(Ui(page, dev.url), dev, CAMPUS, "graph.png")
        last = dev.today.replace(day=1) - timedelta(days=1)
        for run in PIPELINE_RUNS:
            dev.run(*run.format(last=last.replace(day=1)).split())
        # As wide as it is shown, so that its bytes are few.
        narrow = browser.new_context(viewport={"width": 2200, "height": 2400}, device_scale_factor=0.66)
        with narrow.new_page() as page:
            take_graph(Ui(page, dev.url), dev, PIPELINES, "pipelines.png")
        with context.new_page() as page:
            page.set_viewport_size({"width": 1400, "height": 620})
            take_red_run(Ui(page, dev.url), dev)


def take_graph(ui: Ui, dev: Dev, location: str, name: str) -> None:
    """The whole lineage of a code location, from the source systems on; nothing but the graph."""
    ui.lineage(dev.upstream(location), location)
    boxes = [box for asset in ui.page.locator("svg foreignObject").all() if (box := asset.bounding_box())]
    left, top = min(box["x"] for box in boxes), min(box["y"] for box in boxes)
    right, bottom = max(box["x"] + box["width"] for box in boxes), max(box["y"] + box["height"] for box in boxes)
    clip = FloatRect(x=left - MARGIN, y=top - MARGIN, width=right - left + 2 * MARGIN, height=bottom - top + 2 * MARGIN)
    picture(ui.page, name, clip)


def take_red_run(ui: Ui, dev: Dev) -> None:
    """A run that failed because PeopleSoft was out, at the event that says so."""
    dev.simulator.set_faults([{"fault": "status_503", "scope": "cstools"}])
    ui.launch(dev.today.isoformat())
    ui.expect_run_to_end("Failure")
    ui.page.get_by_placeholder("Filter…").fill("type:STEP_FAILURE")
    expect(ui.page.get_by_text(re.compile("What to do: See whether the source is up")).first).to_be_visible()
    picture(ui.page, "red-run.png")


def picture(page: Page, name: str, clip: FloatRect | None = None) -> None:
    """Write what a page shows, or a part of it."""
    page.wait_for_timeout(1000)  # until what slides or fades has come to rest
    file = FOLDER / name
    page.screenshot(path=file, animations="disabled", clip=clip)
    size = file.stat().st_size
    if size > LARGEST_BYTES:
        sys.exit(f"{file} has {size:,} bytes; at most {LARGEST_BYTES:,} belong in the repository.")
    print(f"{file.relative_to(FOLDER.parent.parent)}: {size:,} bytes")


if __name__ == "__main__":
    main()
