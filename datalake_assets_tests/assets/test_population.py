"""How ids of people are asked for: with which errors an operator is left when a source cannot be used."""

import pytest

from datalake_assets.assets.population import ask_peoplesoft
from datalake_assets.resources import SourcesResource
from datalake_assets.simulator.client import running_simulator
from datalake_assets.sources.errors import PermanentSourceError

pytestmark = pytest.mark.anyio


async def test_of_two_queries_that_fail_side_by_side_one_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_simulator(day="2026-11-20", persons=50) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        simulator.set_faults([{"fault": "status_404", "scope": "peoplesoft/BU_PARM_*"}])
        with pytest.raises(PermanentSourceError, match="404"):
            await ask_peoplesoft(SourcesResource())
