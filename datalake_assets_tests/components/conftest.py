from collections.abc import Iterator
from pathlib import Path

import pytest

from datalake_assets.settings import project_files
from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets.storage.migrations import migrate
from datalake_assets.storage.postgres import PostgresAddress
from datalake_assets_tests.components.pipelines import Pipelines, first_day

PAGE_SIZE = 50
RECORDS = 300


@pytest.fixture(scope="session")
def dataset_simulator() -> Iterator[SimulatorControl]:
    with running_simulator(day=first_day(), dataset_records=RECORDS, dataset_page_size=PAGE_SIZE) as control:
        yield control


@pytest.fixture
def simulator(dataset_simulator: SimulatorControl) -> SimulatorControl:
    """A simulator as it was started: no faults, an empty log."""
    dataset_simulator.reset()
    return dataset_simulator


@pytest.fixture
def pipelines(
    database: PostgresAddress, simulator: SimulatorControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipelines]:
    """A lake with the project's tables, and the environment in which pipelines find it and the simulator."""
    migrate(database, project_files() / "sql" / "migrations")
    with Pipelines(database, simulator, tmp_path, monkeypatch) as started:
        yield started
