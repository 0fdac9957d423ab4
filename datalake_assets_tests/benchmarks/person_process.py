"""What is timed of the extraction of persons, each in a process of its own that prints what it found as JSON.

`land` lands a day with the parts of the landing asset, put together as `assets/landing.py` does, without Dagster's run
around them; `record` does so too and keeps every request that was sent; `drain` sends those again, as many at a time,
and throws the answers away. What the figures are held against is in `extraction.py`.

    python -m datalake_assets_tests.benchmarks.person_process land 2026-03-02
    python -m datalake_assets_tests.benchmarks.person_process record 2026-03-02 requests.pickle
    python -m datalake_assets_tests.benchmarks.person_process drain requests.pickle
"""

import asyncio
import pickle
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import orjson

from datalake_assets.assets.landing import LandingRun
from datalake_assets.assets.person import ask_for_persons
from datalake_assets.entities import PERSON
from datalake_assets.lake.extraction import Extraction
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.sources.policies import PERSON_BATCH, PERSON_TERMS

Sent = tuple[str, str, list[tuple[str, str]], bytes]
"""Method, address, headers and body of a request."""

BATCHES = "/person/v1/batch"


async def land(day: date) -> dict[str, Any]:
    """Land the persons of a day whose population is landed already."""
    lake, sources, run_id = LakeResource(), SourcesResource(), uuid.uuid4().hex
    piece = LoadSlice(PERSON, day)
    extraction = Extraction(lake.landing(PERSON), lake.spools, lake.ledger, lake.clock)
    async with lake.connect(run_id) as connection:
        run = LandingRun(piece, lake, sources, connection, lambda line: None)
        landed = await extraction.land(connection, piece, run_id, fill=lambda spool: ask_for_persons(run, spool))
    return {"documents": landed.receipt.outcomes.data}


async def drain(requests: list[Sent]) -> dict[str, Any]:
    """Send requests, those of each source as many at a time as its policy allows, and read every answer."""
    size = 0

    async def worker(client: httpx.AsyncClient, waiting: Iterator[Sent]) -> None:
        nonlocal size
        for method, url, headers, content in waiting:
            async with client.stream(method, url, headers=headers, content=content) as response:
                response.raise_for_status()
                async for data in response.aiter_raw():
                    size += len(data)

    is_batch = [httpx.URL(url).path == BATCHES for _, url, _, _ in requests]
    batches = [request for request, batch in zip(requests, is_batch, strict=True) if batch]
    queries = [request for request, batch in zip(requests, is_batch, strict=True) if not batch]
    async with httpx.AsyncClient(timeout=60) as client, asyncio.TaskGroup() as workers:
        for waiting, policy in ((iter(batches), PERSON_BATCH), (iter(queries), PERSON_TERMS)):
            for _ in range(policy.concurrency):
                workers.create_task(worker(client, waiting))
    return {"batches": len(batches), "queries": len(queries), "bytes": size}


@contextmanager
def recorded(requests: list[Sent]) -> Iterator[None]:
    """Note every request that is sent."""
    send = httpx.AsyncHTTPTransport.handle_async_request

    async def noting(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        requests.append((request.method, str(request.url), request.headers.multi_items(), request.content))
        return await send(self, request)

    with patch.object(httpx.AsyncHTTPTransport, "handle_async_request", noting):
        yield


def main() -> None:
    what, subject, *rest = sys.argv[1:]
    requests: list[Sent] = pickle.loads(Path(subject).read_bytes()) if what == "drain" else []  # noqa: S301 - `record` wrote it
    started = time.perf_counter()
    if what == "drain":
        told = asyncio.run(drain(requests))
    elif what == "land":
        told = asyncio.run(land(date.fromisoformat(subject)))
    else:
        with recorded(requests):
            told = asyncio.run(land(date.fromisoformat(subject)))
        Path(rest[0]).write_bytes(pickle.dumps(requests))
    told["seconds"] = time.perf_counter() - started
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    main()
