"""Links from assets in the UI to the code or the declaration that makes them.

Dagster calls them beta and warns of each; they decide nothing, so the warnings are kept from the operator.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg


@contextmanager
def unfinished_features() -> Iterator[None]:
    """Keep Dagster from warning of features that are used knowingly; its minor version is pinned."""
    with warnings.catch_warnings():
        for category in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category)
        yield


def linked_to_functions(assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]) -> Sequence[Any]:
    """Assets with a link to the function that makes them."""
    with unfinished_features():
        return dg.with_source_code_references(assets)


def linked_to_repository(assets: Iterable[Any], repository: str | None) -> Sequence[Any]:
    """Assets whose links lead to the repository instead of to files of the server, which only its users can open.

    Args:
        assets: The assets, with links to files.
        repository: Web address of the repository, whose default branch is linked; None: they stay as they are.
    """
    if repository is None:
        return list(assets)
    with unfinished_features():
        return dg.link_code_references_to_git(
            list(assets),
            git_url=repository.removesuffix("/").removesuffix(".git"),
            git_branch="HEAD",
            # Told, because a host that names neither would stop the whole code location.
            platform="gitlab" if "gitlab" in repository else "github",
            file_path_mapping=dg.AnchorBasedFilePathMapping(
                local_file_anchor=Path(__file__),
                file_anchor_path_in_repository="datalake_assets/code_links.py",
            ),
        )
