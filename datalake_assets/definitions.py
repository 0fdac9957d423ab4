"""The only wiring of Term, Course and Person: assets, checks, jobs, schedules and resources of their code location.

Nothing is decided here; every part is built by the module that owns it. Declared pipelines have a code location of
their own, see `pipelines.py`.
"""

import dagster as dg

from datalake_assets.assets.course import build_course_assets
from datalake_assets.assets.person import build_person_assets
from datalake_assets.assets.population import build_population_assets
from datalake_assets.assets.term import build_term_assets
from datalake_assets.automation import build_daily_automation, build_reconcile_sensor, build_term_sensor
from datalake_assets.checks import build_entity_checks
from datalake_assets.code_links import linked_to_functions, linked_to_repository
from datalake_assets.entities import ENTITIES
from datalake_assets.notifications import build_notification_sensors
from datalake_assets.partitions import load_dates, load_dates_by_term
from datalake_assets.resources import LakeResource, LakeTables, SourcesResource
from datalake_assets.settings import load_settings
from datalake_assets.storage.parquet_io_manager import ParquetIOManager


@dg.definitions
def defs() -> dg.Definitions:
    """Everything the code location offers."""
    settings = load_settings()
    days = load_dates(settings.start_date)
    assets = [
        *build_term_assets(days),
        *build_course_assets(load_dates_by_term(days)),
        *build_population_assets(days),
        *build_person_assets(days),
    ]
    running = settings.schedules_run
    return dg.Definitions.merge(
        dg.Definitions(
            assets=linked_to_repository(linked_to_functions(assets), settings.get("DATALAKE_GIT_URL")),
            asset_checks=[checks for entity in ENTITIES for checks in build_entity_checks(entity)],
            resources={
                "lake": LakeResource(),
                "sources": SourcesResource(),
                "parquet": ParquetIOManager(location=settings.lake_url),
                "postgres": LakeTables(),
            },
            # Also of what the UI materialises: starting a process per step takes longer than the steps do.
            executor=dg.in_process_executor,
        ),
        *(build_daily_automation(entity=entity, running=running) for entity in ENTITIES),
        dg.Definitions(sensors=[build_term_sensor(running=running), build_reconcile_sensor(running=running)]),
        dg.Definitions(sensors=build_notification_sensors(running=running)),
    )
