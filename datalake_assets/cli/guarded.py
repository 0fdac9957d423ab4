"""Assets whose loads a guard can refuse, and how their partitions are written: what `datalake allow` can name.

What guards watch is in `lake/guards.py` and `lake/file_checks.py`, and by declared assets told with a tag.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from datalake_assets.entities import ENTITIES, POPULATION
from datalake_assets.errors import DatalakeError
from datalake_assets.lake.guards import GUARDED_BY
from datalake_assets.lake.slices import slice_of

_DATE = "2026-01-31"


class NotAllowedError(DatalakeError):
    """A permission cannot be recorded as asked."""


@dataclass(frozen=True)
class Guarded:
    """An asset whose loads a guard can refuse.

    Attributes:
        asset: Its name.
        form: How its partitions are written; empty if it has none.
        read: Gives a partition as the guard asks for it; None or an error if there is no such partition.
    """

    asset: str
    form: str
    read: Callable[[str], str | None]

    def partition(self, text: str) -> str:
        """The partition that somebody wrote.

        Raises:
            NotAllowedError: There is no such partition.
        """
        try:
            found = self.read(text)
        except (ValueError, DatalakeError):
            found = None
        if found is not None:
            return found
        what = f"{text!r} is no partition of {self.asset}." if text else f"{self.asset} is loaded by partition."
        todo = f"Write it like {self.form}, as Dagster shows it." if self.form else "Leave it out: there are none."
        raise NotAllowedError(what, todo=todo)


def guarded(asset: str) -> Guarded:
    """The guarded asset of a name; what is declared is read only if no entity has one of that name.

    Raises:
        NotAllowedError: No guard watches it.
    """
    name = asset.replace("/", ".")
    known = {str(entity.raw): entity for entity in ENTITIES} | {str(POPULATION.landing): POPULATION}
    if name in known:
        entity = known[name]
        form = "|".join((_DATE, *(part.upper() for part in entity.scope)))
        return Guarded(name, form, lambda text: slice_of(entity, text).partition)
    declared = {each.asset: each for each in _declared()}
    if name not in declared:
        names = ", ".join([*known, *sorted(declared)])
        raise NotAllowedError(f"No guard watches {asset!r}.", todo=f"Assets with guards: {names}.")
    return declared[name]


def _declared() -> list[Guarded]:
    from datalake_assets.cli.pipeline_jobs import declared, is_partition

    found = []
    for spec in declared().resolve_all_asset_specs():
        partitions, name = spec.partitions_def, ".".join(spec.key.path)
        if spec.tags.get(GUARDED_BY) == "load_date":
            found.append(Guarded(name, _DATE, lambda text: date.fromisoformat(text).isoformat()))
        elif GUARDED_BY not in spec.tags:
            continue
        elif partitions is None:
            found.append(Guarded(name, "", lambda text: None if text else ""))
        else:
            form = str(partitions.get_last_partition_key())
            found.append(Guarded(name, form, lambda text, of=partitions: text if is_partition(of, text) else None))  # type: ignore[misc]
    return found
