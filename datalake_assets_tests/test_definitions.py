"""The code location as users meet it: names, descriptions, schedules; loaded without any environment."""

from datetime import UTC, date, datetime

import dagster as dg
import pytest

from datalake_assets.clock import CAMPUS_ZONE
from datalake_assets.definitions import defs
from datalake_assets.entities import ENTITIES, ID_SOURCES, POPULATION, TERM
from datalake_assets.lake.checks import checks_of
from datalake_assets.lake.tables import LAYERS, table_of
from datalake_assets.resources import LakeResource
from datalake_assets.settings import project_files
from datalake_assets.storage.migrations import migrate


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


SOURCES = {
    "peoplesoft/BU_TERM_QRY",
    "peoplesoft/BU_PARM_0216_QRY",
    "peoplesoft/BU_PARM_ENRL_DORM_QRY",
    "peoplesoft/BU_TERM_STD_FULL_TERM",
    "peoplesoft/BU_FACULTY_GET",
    "sap/Z_HR_EMPLOYEE_OBJ_LIST",
    "vds/faculty",
    "vds/staff",
    "snaplogic/course",
    "snaplogic/person",
}
"""Every question that is asked of a source system."""


def test_asset_keys_are_the_tables_and_the_sources_and_nothing_else(definitions):
    keys = {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}
    tables = {"/".join(table_of(entity, layer).name.parts) for entity in ENTITIES for layer in LAYERS}
    ids = {"/".join(entity.landing.parts) for entity in (*ID_SOURCES, POPULATION)}
    assert keys == tables | ids | SOURCES


def test_the_graph_goes_from_source_to_curated(definitions):
    """Fault D7: jobs of ops had neither lineage nor partitions nor checks."""
    upstream = {
        spec.key.to_user_string(): sorted(dep.asset_key.to_user_string() for dep in spec.deps)
        for spec in definitions.resolve_all_asset_specs()
    }
    assert {key for key, above in upstream.items() if not above} == SOURCES
    for entity in ENTITIES:
        above = [["/".join(table_of(entity, layer).name.parts)] for layer in LAYERS]
        below = [upstream["/".join(table_of(entity, layer).name.parts)] for layer in LAYERS]
        assert below[1:] == above[:-1]
    assert {key: upstream[key] for key in upstream if "_landing/" in key} == {
        "term_landing/term_data": ["peoplesoft/BU_TERM_QRY"],
        "course_landing/course_data": ["snaplogic/course", "term_curated/term_data_by_service"],
        "person_landing/peoplesoft_ids": ["peoplesoft/BU_PARM_0216_QRY", "peoplesoft/BU_PARM_ENRL_DORM_QRY"],
        "person_landing/sap_ids": ["sap/Z_HR_EMPLOYEE_OBJ_LIST"],
        "person_landing/vds_ids": ["vds/faculty", "vds/staff"],
        "person_landing/population": [
            "person_landing/peoplesoft_ids",
            "person_landing/sap_ids",
            "person_landing/vds_ids",
        ],
        "person_landing/person_data": [
            "peoplesoft/BU_FACULTY_GET",
            "peoplesoft/BU_TERM_STD_FULL_TERM",
            "person_landing/population",
            "snaplogic/person",
        ],
    }


def test_every_asset_has_group_owner_kinds_and_a_first_line_with_grain_and_key(definitions):
    for spec in definitions.resolve_all_asset_specs():
        first_line = (spec.description or "").splitlines()[0]
        assert first_line.startswith("One row per "), spec.key
        assert spec.group_name in {entity.name for entity in ENTITIES}
        assert spec.owners
        assert spec.kinds
        assert spec.tags["lake/layer"]


def test_tables_show_their_declared_columns_code_version_and_code(definitions):
    for table in (table_of(entity, layer) for entity in ENTITIES for layer in LAYERS):
        spec = definitions.resolve_assets_def(table.name.parts).get_asset_spec(dg.AssetKey(table.name.parts))
        schema = spec.metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == [column.name for column in table.columns]
        assert spec.code_version
        assert "dagster/code_references" in spec.metadata


@pytest.mark.parametrize(
    ("repository", "address"),
    [
        ("https://github.com/example/lake.git", "https://github.com/example/lake/tree/HEAD/"),
        ("https://gitlab.example.edu/data/lake/", "https://gitlab.example.edu/data/lake/-/tree/HEAD/"),
        ("https://git.example.edu/data/lake", "https://git.example.edu/data/lake/tree/HEAD/"),
    ],
)
def test_code_is_linked_in_the_repository_where_one_is_named(monkeypatch, repository, address):
    """Links to files of the server are of no use to who looks at its UI from elsewhere."""
    monkeypatch.setenv("DATALAKE_GIT_URL", repository)
    for asset in defs().assets or []:
        spec = asset if isinstance(asset, dg.AssetSpec) else next(iter(asset.specs))
        if references := spec.metadata.get("dagster/code_references"):
            (reference,) = references.code_references
            assert reference.url.startswith(f"{address}datalake_assets/assets/"), spec.key


def test_what_the_ui_materialises_runs_in_one_process(definitions):
    """A process per step takes ten times as long as the steps of a partition."""
    assert definitions.resolve_implicit_global_asset_job_def().executor_def.name == "in_process"


def test_every_check_of_the_lake_is_an_asset_check(definitions):
    specs = [spec for checks in definitions.asset_checks or [] for spec in checks.check_specs]
    found = {("/".join(spec.asset_key.path), spec.name, spec.blocking) for spec in specs}
    expected = {
        ("/".join(check.table.parts), check.name, check.blocking) for entity in ENTITIES for check in checks_of(entity)
    }
    assert found == expected


def test_the_schedule_ships_stopped_and_starts_by_setting(definitions, monkeypatch):
    assert definitions.resolve_schedule_def("term_daily").default_status is dg.DefaultScheduleStatus.STOPPED
    monkeypatch.setenv("DATALAKE_SCHEDULES", "running")
    assert defs().resolve_schedule_def("term_daily").default_status is dg.DefaultScheduleStatus.RUNNING


def requests_of(definitions: dg.Definitions, tick: datetime) -> list[dg.RunRequest]:
    with dg.build_schedule_context(
        scheduled_execution_time=tick,
        repository_def=definitions.get_repository_def(),
        resources={"lake": LakeResource()},
    ) as context:
        return list(definitions.resolve_schedule_def("term_daily").evaluate_tick(context).run_requests or [])


@pytest.mark.parametrize(
    "tick",
    [
        pytest.param(datetime(2026, 3, 8, 6, 0, tzinfo=UTC), id="the day of 23 hours, 01:00 EST"),
        pytest.param(datetime(2026, 11, 1, 5, 0, tzinfo=UTC), id="the day of 25 hours, first 01:00"),
        pytest.param(datetime(2026, 11, 1, 6, 0, tzinfo=UTC), id="the day of 25 hours, second 01:00"),
        pytest.param(datetime(2026, 7, 1, 5, 0, tzinfo=UTC), id="summer"),
    ],
)
def test_a_tick_loads_the_day_that_has_just_begun(definitions, tick):
    """A partition one off on a DST day would leave a day unloaded for good."""
    requests = requests_of(definitions, tick)
    assert [request.partition_key for request in requests] == [tick.astimezone(CAMPUS_ZONE).date().isoformat()]


def test_the_hour_that_comes_twice_asks_for_one_run(definitions):
    """On the day of 25 hours 01:00 comes twice; the second tick repeats the run key of the first."""
    keys = set()
    for hour in (5, 6):
        requests = requests_of(definitions, datetime(2026, 11, 1, hour, tzinfo=UTC))
        keys |= {request.run_key for request in requests}
    assert keys == {"term_daily 2026-11-01"}


def test_partitions_hold_today_in_the_university_and_every_day_once(definitions):
    partitions = definitions.resolve_assets_def(TERM.raw.parts).partitions_def
    now = datetime(2026, 11, 2, 3, 0, tzinfo=UTC)  # still the evening of 1 November in New York
    keys = partitions.get_partition_keys(current_time=now)
    assert keys[-1] == "2026-11-01"
    assert len(keys) == len(set(keys)) == (date(2026, 11, 1) - date(2025, 1, 1)).days + 1


def test_the_reconcile_sensor_sweeps_the_lake_and_says_what_it_did(definitions, database, monkeypatch, tmp_path):
    """A sensor that fails at its first tick would leave dead runs for ever."""
    migrate(database, project_files() / "sql" / "migrations")
    for name, value in {
        "POSTGRES_HOST": database.host,
        "POSTGRES_PORT": str(database.port),
        "POSTGRES_DB": database.database,
        "POSTGRES_USER": database.user,
        "POSTGRES_PASS": database.password.get_secret_value(),
        "DATALAKE_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(
            instance=instance, repository_def=definitions.get_repository_def(), resources={"lake": LakeResource()}
        )
        tick = definitions.resolve_sensor_def("reconcile").evaluate_tick(context)
    assert tick.skip_message == (
        "0 runs ended, 0 sessions ended, 0 runs' slots freed, 0 spools cleared, 0 files removed."
    )
