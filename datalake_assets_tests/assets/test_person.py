"""How people are asked for, from the landed population to the spool."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from datalake_assets.assets import person
from datalake_assets.assets.landing import LandingRun
from datalake_assets.assets.person import ask_for_persons
from datalake_assets.assets.population import EMPLOYEES
from datalake_assets.clock import Clock
from datalake_assets.entities import PERSON, POPULATION
from datalake_assets.lake.documents import Answer, judge
from datalake_assets.lake.landing import SourceAccount
from datalake_assets.lake.outcomes import Outcome
from datalake_assets.lake.population import id_document
from datalake_assets.lake.slices import LoadSlice
from datalake_assets.lake.spool import Spool
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.simulator.client import running_simulator
from datalake_assets.storage.parquet import ParquetStore

pytestmark = pytest.mark.anyio

DAY = date(2026, 3, 2)


@contextmanager
def landed_population(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LandingRun]:
    """A population that is landed, of which anybody may be a student, and the simulated sources behind it."""
    with running_simulator(day=DAY, persons=60) as simulator:
        for name, value in simulator.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DATALAKE_HOME", str(home))
        lake = LakeResource()
        ids = [key[0] for key in (row["key"] for row in simulator.truth(kind="person", day=DAY)["keys"])]
        answers = [judge(POPULATION, id_document(id_, [EMPLOYEES]), "test") for id_ in ids]
        lake.landing(POPULATION).publish(
            LoadSlice(POPULATION, DAY), answers, complete=False, source=SourceAccount(), run_id="run", clock=Clock()
        )
        yield LandingRun(LoadSlice(PERSON, DAY), lake, SourcesResource(), cast(Any, None), lambda line: None)


async def test_documents_read_by_a_second_process_are_those_read_by_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[list[Answer]] = []
    with landed_population(tmp_path, monkeypatch) as run:
        for few, name in ((1_000_000, "here"), (0, "there")):
            monkeypatch.setattr(person, "WORTH_A_PROCESS", few)
            spool = Spool(ParquetStore(str(tmp_path / name)), run.piece, run_id="run", clock=Clock(), attempt=1)
            assert not (await ask_for_persons(run, spool)).named_all
            found.append(sorted((replace(answer, source="") for answer in spool.answers()), key=lambda each: each.key))
    assert [answer.outcome for answer in found[0]] == [Outcome.DATA] * len(found[0])
    assert len(found[0]) > 50
    assert found[0] == found[1]
