"""Declared pipelines in the Dagster UI: their lineage, and what a dataset's page tells after a load."""

import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from datalake_assets_tests.browser.dev import PATIENCE_S, PIPELINES, Dev, running_dev
from datalake_assets_tests.browser.ui import Ui, chromium, headless_browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium on this machine"),
]

TALL = {"width": 2200, "height": 2400}
"""The UI draws what is in sight, and there are many pipelines."""


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with running_dev(1, dataset_records=100) as dev:
        yield dev
        dev.process.send_signal(signal.SIGINT)
        dev.process.wait(PATIENCE_S)


@pytest.fixture
def ui(dev: Dev) -> Iterator[Ui]:
    with headless_browser() as browser, browser.new_context(viewport=TALL).new_page() as page:
        yield Ui(page, dev.url)


def test_the_lineage_leads_from_sources_to_tables_and_views(dev: Dev, ui: Ui) -> None:
    """Apart from Term, Course and Person, which are another code location; as many arrows as the webserver tells."""
    upstream = dev.upstream(PIPELINES)
    lineage = ui.lineage(upstream, PIPELINES)
    for key in upstream:
        assert any(box.text.startswith(key[-1]) for box in lineage.boxes), key
    assert all(start.x < end.x for start, end in lineage.arrows)


def test_the_page_of_a_loaded_table_shows_its_rows_checks_and_declaration(dev: Dev, ui: Ui) -> None:
    """What the README promises of `datalake dev`; names of people are masked."""
    dev.run("dit__omis_dataset_load")
    page = ui.open("/assets/dit/omis_dataset?view=overview")
    expect(page.get_by_text("defs.yaml").first).to_be_visible()
    expect(page.get_by_text("order_status").first).to_be_visible()
    page = ui.open("/assets/dit/omis_dataset?view=checks")
    for check in ("pages_are_whole", "enough_rows", "key_is_unique"):
        expect(page.get_by_text(check).first).to_be_visible()
    expect(page.get_by_text("dit.omis_dataset would have").first).to_be_visible()
