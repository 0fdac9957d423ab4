"""The only wiring: assets, checks, jobs, schedules and resources of the code location.

Nothing is decided here; every part is built by the module that owns it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

import datalake_assets.defs
from datalake_assets.assets.course import build_course_assets
from datalake_assets.assets.person import build_person_assets
from datalake_assets.assets.population import build_population_assets
from datalake_assets.assets.term import build_term_assets
from datalake_assets.automation import build_daily_automation, build_reconcile_sensor, build_term_sensor
from datalake_assets.checks import build_entity_checks
from datalake_assets.entities import ENTITIES
from datalake_assets.notifications import build_notification_sensors
from datalake_assets.partitions import load_dates, load_dates_by_term
from datalake_assets.resources import LakeResource, LakeTables, SourcesResource
from datalake_assets.settings import load_settings, project_files
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
            assets=linked_to_code(assets, settings.get("DATALAKE_GIT_URL")),
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
        # Every folder of `datalake_assets/defs/`.
        dg.ComponentTree.from_module(defs_module=datalake_assets.defs, project_root=project_files()).build_defs(),
    )


def linked_to_code(assets: Sequence[dg.AssetsDefinition | dg.AssetSpec], repository: str | None) -> Sequence[Any]:
    """Assets with a link from the UI to the code that makes them.

    Args:
        assets: The assets.
        repository: Web address of the repository, whose default branch is linked; None: links to the files here.
    """
    with warnings.catch_warnings():
        # Beta in Dagster 1.13; the links decide nothing.
        warnings.simplefilter("ignore", dg.BetaWarning)
        referenced = dg.with_source_code_references(assets)
        if repository is None:
            return referenced
        return dg.link_code_references_to_git(
            referenced,
            git_url=repository.removesuffix("/").removesuffix(".git"),
            git_branch="HEAD",
            # Told, because a host that names neither would stop the whole code location.
            platform="gitlab" if "gitlab" in repository else "github",
            file_path_mapping=dg.AnchorBasedFilePathMapping(
                local_file_anchor=Path(__file__),
                file_anchor_path_in_repository="datalake_assets/definitions.py",
            ),
        )
