"""What is timed of API datasets, each in a process of its own that prints what it found as JSON.

`load` lands a dataset and loads its table with the parts of the component's two assets, without Dagster's run around
them; `drain` asks for the same pages by a bare loop of httpx, signed in the same way, and throws them away. What the
figures are held against is in `datasets.py`.

    python -m datalake_assets_tests.benchmarks.dataset_process load
    python -m datalake_assets_tests.benchmarks.dataset_process drain
"""

import asyncio
import re
import resource
import sys
import time
import uuid
from contextlib import aclosing
from typing import Any, Final

import httpx
import orjson
import yaml

from datalake_assets.components.api_dataset import ApiDatasetSpec
from datalake_assets.lake.ahead import Ahead
from datalake_assets.lake.datasets import land, load
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.settings import load_settings, project_files
from datalake_assets.sources.api_pages import pages
from datalake_assets.sources.hawk import Hawk

_PIPELINE: Final = "omis_dataset"
_NEXT: Final = re.compile(rb'"next":"([^"]+)"')
_HEAD_BYTES: Final = 2000


def pipeline() -> ApiDatasetSpec:
    """The dataset of the measurements: the shipped one with 32 columns."""
    path = project_files() / "datalake_assets" / "defs" / _PIPELINE / "defs.yaml"
    return ApiDatasetSpec.model_validate(yaml.safe_load(path.read_text("utf-8"))["attributes"])


async def land_and_load() -> dict[str, Any]:
    """Land the dataset and load its table."""
    spec, lake, run_id = pipeline(), LakeResource(), uuid.uuid4().hex
    dataset, way = spec.dataset, spec.source
    started = time.perf_counter()
    async with (
        SourcesResource().named(way.resource) as source,
        lake.connect(run_id) as connection,
        Ahead(dataset, way.paging.paging, lambda: lake.connect(run_id)) as ahead,
        aclosing(pages(source, way.path, way.paging.paging, elsewhere=ahead.read)) as stream,
    ):
        manifest = await land(
            connection,
            lake.snapshots,
            lake.ledger,
            dataset,
            stream,
            lambda: SourceAccount(source.stats.requests, source.stats.retries, source.stats.bytes_in),
            run_id=run_id,
            clock=lake.clock,
            ahead=ahead,
        )
    landed_s = time.perf_counter() - started
    async with lake.connect(run_id) as connection:
        loaded, _ = await load(connection, lake.snapshots, lake.ledger, dataset, run_id=run_id)
    assert loaded.changed
    return {"rows": sum(loaded.rows.values()), "pages": len(manifest.account["pages"]), "landed_s": landed_s}


async def drain() -> dict[str, Any]:
    """Ask for page after page, as each names the next one, and keep none."""
    source = pipeline().source
    way = load_settings().named_source(source.resource)
    assert way.key is not None
    hawk = Hawk(way.identity, way.key)
    url: str | None = f"{way.url}{source.path}"
    pages = size = 0
    async with httpx.AsyncClient(timeout=60) as client:
        while url is not None:
            head = b""
            async with client.stream("GET", url, headers=hawk.sign("GET", url).headers) as response:
                response.raise_for_status()
                async for data in response.aiter_bytes():
                    size += len(data)
                    if len(head) < _HEAD_BYTES:
                        head += data
            found = _NEXT.search(head[:_HEAD_BYTES])
            url = None if found is None else found[1].decode()
            pages += 1
    return {"pages": pages, "bytes": size}


def main() -> None:
    work = {"load": land_and_load, "drain": drain}[sys.argv[1]]
    started = time.perf_counter()
    told = asyncio.run(work())
    told["seconds"] = time.perf_counter() - started
    told["cpu_s"] = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    told["children_cpu_s"] = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    main()
