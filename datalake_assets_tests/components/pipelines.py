"""Declared pipelines on a real lake and a simulated source: built, run and looked at."""

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import dagster as dg
import pytest
import yaml

from datalake_assets.components.api_dataset import ApiDatasetSpec, build_api_dataset
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.settings import project_files
from datalake_assets.simulator.client import SimulatorControl
from datalake_assets.storage.postgres import PostgresAddress, session

OMIS = "/v4/dataset/omis-dataset"


def first_day() -> date:
    return date(2026, 11, 20)


def attributes_of(pipeline: str) -> dict[str, Any]:
    """The attributes in the `defs.yaml` of a pipeline that comes with the project."""
    path = project_files() / "datalake_assets" / "defs" / pipeline / "defs.yaml"
    found = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(found["attributes"], dict)
    return found["attributes"]


class Pipelines:
    """Runs pipelines in this process, in an instance that is gone with the test."""

    def __init__(
        self, address: PostgresAddress, simulator: SimulatorControl, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.address = address
        self.simulator = simulator
        self.home = folder
        self._monkeypatch = monkeypatch
        self._environment = {
            **simulator.environment(),
            "DATALAKE_HOME": str(folder),
            "POSTGRES_HOST": address.host,
            "POSTGRES_PORT": str(address.port),
            "POSTGRES_DB": address.database,
            "POSTGRES_USER": address.user,
            "POSTGRES_PASS": address.password.get_secret_value(),
            "HTTP_BACKOFF_FACTOR": "0.01",
        }
        self.instance = dg.DagsterInstance.ephemeral()

    def __enter__(self) -> Self:
        for name, value in self._environment.items():
            self._monkeypatch.setenv(name, value)
        self.show(first_day())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.instance.dispose()

    def show(self, day: date) -> None:
        """Let it be a day, for the lake and for the source."""
        self._monkeypatch.setenv("DATALAKE_TODAY", day.isoformat())
        self.simulator.set_day(day)

    def dataset(self, attributes: dict[str, Any]) -> dg.Definitions:
        """The definitions of an API dataset, with what it needs to run."""
        return self.with_resources(build_api_dataset(ApiDatasetSpec.model_validate(attributes), running=False))

    def with_resources(self, *definitions: dg.Definitions) -> dg.Definitions:
        resources = dg.Definitions(resources={"lake": LakeResource(), "sources": SourcesResource()})
        return dg.Definitions.merge(*definitions, resources)

    def run(
        self, definitions: dg.Definitions, job: str, *, raise_on_error: bool = True, **options: Any
    ) -> dg.ExecuteInProcessResult:
        found = definitions.resolve_job_def(job)
        return found.execute_in_process(instance=self.instance, raise_on_error=raise_on_error, **options)

    def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async def ask() -> Sequence[asyncpg.Record]:
            async with session(self.address, application_name="tests") as connection:
                return await connection.fetch(query, *values)

        return list(asyncio.run(ask()))

    def execute(self, statement: str) -> None:
        async def ask() -> None:
            async with session(self.address, application_name="tests") as connection:
                await connection.execute(statement)

        asyncio.run(ask())


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step of a run says."""
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    data = event.step_failure_data
    return f"{data.user_failure_data.description if data.user_failure_data else ''} {data.error_display_string}"


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Whether each check of a run passed, by `table.check`."""
    return {
        f"{each.asset_key.path[-1]}.{each.check_name}": each.passed for each in result.get_asset_check_evaluations()
    }
