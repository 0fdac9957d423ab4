"""What services see: rows follow from documents and definitions, and from nothing else."""

from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake_assets.lake.services import Service
from datalake_assets_tests.lake.lakes import SmallLake, answer, term

pytestmark = pytest.mark.anyio

D1, D2 = date(2026, 1, 1), date(2026, 1, 2)
TABLE = "term_curated.term_data_by_service"


def service(name: str, *paths: str, requires: tuple[Any, ...] = (), select: str | None = None) -> Service:
    return Service(
        name=name, description="Of a test only.", owner="team:test", paths=paths, requires=requires, select=select
    )


NAMES = service("names", "/STRM", "/DESCR")
YEARS = service("years", "/ACAD_YEAR", requires=("/ACAD_YEAR",))
FULL = service("full", "/")


async def load(lake: SmallLake, *services: Service, run_id: str = "run") -> tuple[int | None, ...]:
    """New, changed, removed and unchanged rows after loading with these services."""
    lake.services = services
    receipt = await lake.load_curated(D1, run_id)
    return receipt.rows_new, receipt.rows_changed, receipt.rows_removed, receipt.rows_unchanged


@pytest.fixture
async def two_terms(lake: SmallLake) -> SmallLake:
    lake.land(D1, [answer(term("2251", ACAD_YEAR="2025")), answer(term("2255", "Summer"))])
    await lake.load_raw(D1)
    await lake.load_xform(D1)
    return lake


async def test_a_service_sees_its_paths_and_no_other(two_terms: SmallLake) -> None:
    """Invariant 7: allow-lists only; the key is the row's own."""
    await load(two_terms, NAMES, YEARS)
    columns = ("service", "strm", "acad_career", "descr", "acad_year", "current_ind", "load_date")
    assert await two_terms.rows(TABLE, *columns) == [
        ("names", "2251", "UGRD", "Fall 2025", None, None, D1),
        ("names", "2255", "UGRD", "Summer", None, None, D1),
        ("years", "2251", "UGRD", None, "2025", None, D1),
    ]


async def test_a_row_vanishes_when_what_the_service_requires_is_gone(two_terms: SmallLake) -> None:
    """Invariant 7: no empty shells, and no rows of those who no longer belong (fault P20)."""
    await load(two_terms, YEARS)
    two_terms.land(D2, [answer(term("2251")), answer(term("2255", "Summer", ACAD_YEAR="2026"))])
    await two_terms.load_raw(D2)
    await two_terms.load_xform(D2)
    assert await load(two_terms, YEARS) == (1, 0, 1, 0)
    assert await two_terms.rows(TABLE, "strm", "acad_year") == [("2255", "2026")]


async def test_a_second_load_writes_nothing(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, YEARS, run_id="run-1")
    assert await load(two_terms, NAMES, YEARS, run_id="run-2") == (0, 0, 0, 3)
    assert set(await two_terms.rows(TABLE, "run_id")) == {("run-1",)}


async def test_only_rows_whose_document_changed_are_written_anew(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, run_id="run-1")
    two_terms.land(D2, [answer(term("2251", ACAD_YEAR="2025")), answer(term("2255", "Other"))])
    await two_terms.load_raw(D2)
    await two_terms.load_xform(D2)
    assert await load(two_terms, NAMES, run_id="run-2") == (0, 1, 0, 1)
    assert await two_terms.rows(TABLE, "strm", "descr", "run_id", "modified_date::date") == [
        ("2251", "Fall 2025", "run-1", D1),
        ("2255", "Other", "run-2", D2),
    ]


# ------------------------------------------------------------------------------------------------ definitions


async def test_a_changed_definition_rebuilds_that_service_and_no_other(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, YEARS, run_id="run-1")
    narrower = replace_paths(NAMES, "/STRM", "/CURRENT_IND")
    assert await load(two_terms, narrower, YEARS, run_id="run-2") == (0, 2, 0, 1)
    assert await two_terms.rows(TABLE, "service", "strm", "descr", "current_ind", "run_id") == [
        ("names", "2251", None, "N", "run-2"),
        ("names", "2255", None, "N", "run-2"),
        ("years", "2251", None, None, "run-1"),
    ]


def replace_paths(one: Service, *paths: str) -> Service:
    return service(one.name, *paths, requires=one.requires, select=one.select)


async def test_a_reworded_definition_rebuilds_nothing(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, run_id="run-1")
    reworded = Service(**{**NAMES.model_dump(), "description": "In other words.", "paths": NAMES.paths[::-1]})
    assert await load(two_terms, reworded, run_id="run-2") == (0, 0, 0, 2)


async def test_a_service_that_is_no_longer_defined_loses_its_rows(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, YEARS)
    assert await load(two_terms, YEARS) == (0, 0, 2, 1)
    assert await two_terms.rows(TABLE, "service") == [("years",)]


async def test_a_service_that_comes_back_has_its_rows_again(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, YEARS)
    await load(two_terms, YEARS)
    assert await load(two_terms, NAMES, YEARS) == (2, 0, 0, 1)


async def test_the_definition_that_rows_were_made_with_is_kept(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES, run_id="run-1")
    await load(two_terms, NAMES, run_id="run-2")
    rows = await two_terms.connection.fetch("select * from ops.service_version")
    assert [(row["entity"], row["service"], row["version"], row["run_id"]) for row in rows] == [
        ("term", "names", NAMES.version, "run-1")
    ]
    assert orjson.loads(rows[0]["definition"])["paths"] == ["/STRM", "/DESCR"]
    changed = replace_paths(NAMES, "/DESCR")
    await load(two_terms, changed, run_id="run-3")
    assert await two_terms.rows("ops.service_version", "version", "run_id") == [(changed.version, "run-3")]


async def test_one_service_does_not_depend_on_another(two_terms: SmallLake) -> None:
    await load(two_terms, NAMES)
    alone = (await two_terms.contents())[TABLE]
    await load(two_terms, FULL, NAMES, YEARS)
    assert [row for row in (await two_terms.contents())[TABLE] if '"names"' in row] == alone


# --------------------------------------------------------------------------------------- against a full rebuild


definitions = st.lists(
    st.builds(
        lambda name, paths, required: service(name, *paths, requires=required),
        st.sampled_from(["one", "two"]),
        st.lists(st.sampled_from(["/", "/DESCR", "/STRM", "/ACAD_YEAR"]), min_size=1, max_size=3),
        st.sampled_from([(), ("/DESCR",), (("/DESCR", "/ACAD_YEAR"),)]),
    ),
    max_size=2,
    unique_by=lambda one: one.name,
)
contents = st.dictionaries(
    st.sampled_from(["2251", "2255", "2258"]),
    st.fixed_dictionaries({"DESCR": st.sampled_from([None, "A", "B"]), "ACAD_YEAR": st.sampled_from([None, "2026"])}),
)


@given(st.lists(st.tuples(contents, definitions), min_size=1, max_size=4))
@settings(deadline=None, max_examples=25)
async def test_every_way_to_a_state_ends_in_the_rows_of_a_full_rebuild(
    module_lake: SmallLake, steps: list[tuple[dict[str, Any], list[Service]]]
) -> None:
    """Invariant 1: curated is a function of definitions and current state, whatever was defined and loaded before."""
    await module_lake.empty()
    lake = replace(module_lake)
    for number, (documents, services) in enumerate(steps):
        day = date(2026, 1, 1 + number)
        lake.land(day, [answer(term(strm, **fields)) for strm, fields in documents.items()])
        await lake.load_raw(day)
        await lake.load_xform(day)
        lake.services = tuple(services)
        receipt = await lake.load_curated(day)
    found = (await lake.contents())[TABLE]
    assert receipt.rows_total == len(found)
    documents, services = steps[-1]
    assert sorted((row["service"], row["strm"]) for row in map(orjson.loads, found)) == sorted(
        (one.name, strm)
        for one in services
        for strm, fields in documents.items()
        if one.view(term(strm, **fields), [("ACAD_CAREER",), ("STRM",)]) is not None
    )
    await lake.connection.execute(f"delete from {TABLE}; delete from ops.service_version")
    await lake.load_curated(day)
    assert (await lake.contents())[TABLE] == found
