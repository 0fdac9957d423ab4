from collections.abc import Iterator

import pytest

from datalake_assets.simulator.client import SimulatorControl, running_simulator
from datalake_assets_tests.simulator.callers import SCENARIO_START


@pytest.fixture(scope="session")
def scenario_simulator() -> Iterator[SimulatorControl]:
    with running_simulator(scenario_start=SCENARIO_START) as simulator:
        yield simulator


@pytest.fixture
def simulator(scenario_simulator: SimulatorControl) -> SimulatorControl:
    """A simulator as it was started: first day of the scenario, no faults, an empty log."""
    scenario_simulator.reset()
    return scenario_simulator
