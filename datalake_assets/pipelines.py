"""The only wiring of declared pipelines: every folder of `datalake_assets/defs/`, in a code location of its own.

A declaration that cannot be loaded stops the others of this location, but never Term, Course and Person, whose
wiring is in `definitions.py`; and their runs need not read it. What declarations mean is in `components/`.
"""

import dagster as dg

import datalake_assets.defs
from datalake_assets.code_links import linked_to_repository, unfinished_features
from datalake_assets.resources import LakeResource, SourcesResource
from datalake_assets.settings import load_settings, project_files


@dg.definitions
def defs() -> dg.Definitions:
    """Everything that is declared."""
    tree = dg.ComponentTree.from_module(defs_module=datalake_assets.defs, project_root=project_files())
    with unfinished_features():
        declared = tree.build_defs()
    return dg.Definitions(
        assets=linked_to_repository(declared.assets or (), load_settings().get("DATALAKE_GIT_URL")),
        asset_checks=declared.asset_checks,
        jobs=declared.jobs,
        schedules=declared.schedules,
        sensors=declared.sensors,
        resources={"lake": LakeResource(), "sources": SourcesResource()},
        # Also of what the UI materialises: starting a process per step takes longer than the steps do.
        executor=dg.in_process_executor,
    )
