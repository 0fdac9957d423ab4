"""The unit of loading: one entity, one load date, and the scope that is loaded on its own.

A slice knows its names (partition key, folders, lock) and nothing of what is in it.
"""

from dataclasses import dataclass
from datetime import date, datetime, time

from datalake_assets.entities import Entity
from datalake_assets.errors import DatalakeError


class LoadError(DatalakeError):
    """A load was refused or could not be carried out; nothing was changed."""


@dataclass(frozen=True)
class LoadSlice:
    """One partition of an entity.

    Attributes:
        entity: What is loaded.
        load_date: The day the source was asked.
        scope: Values of `entity.scope`, in its order; empty where the entity is loaded as a whole. Texts that name
            numbers become numbers, as partition keys and folder names bring them.
    """

    entity: Entity
    load_date: date
    scope: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.scope) != len(self.entity.scope):
            raise LoadError(
                f"A slice of {self.entity.name} needs a value for each of {self.entity.scope or 'no'} scope columns; "
                f"got {len(self.scope)}."
            )
        columns = {column.name: column for column in self.entity.key}
        values = []
        for name, value in zip(self.entity.scope, self.scope, strict=True):
            is_number = columns[name].type == "integer"
            if is_number and not str(value).isdecimal():
                raise LoadError(f"{name} is a number in a slice of {self.entity.name}; got {value!r}.")
            values.append(int(value) if is_number else value)
        object.__setattr__(self, "scope", tuple(values))

    @property
    def dimensions(self) -> dict[str, str]:
        """Names and values of the partition's dimensions, as in folder names."""
        values = dict(zip(self.entity.scope, map(str, self.scope), strict=True))
        return {"load_date": self.load_date.isoformat(), **values}

    @property
    def partition(self) -> str:
        """The partition key, e.g. `2026-01-31` or `2026-01-31|2258`."""
        return "|".join(self.dimensions.values())

    @property
    def scope_text(self) -> str:
        """The scope alone, empty for a whole entity."""
        return "|".join(map(str, self.scope))

    def __str__(self) -> str:
        return f"{self.entity.name} {self.partition}"


def midnight(day: date) -> datetime:
    """A load date as columns of type timestamp show it."""
    return datetime.combine(day, time.min)


def slice_of(entity: Entity, partition: str) -> LoadSlice:
    """The slice of a partition key such as `2026-01-31` or `2026-01-31|2258`; the inverse of `LoadSlice.partition`."""
    day, *scope = partition.split("|")
    return LoadSlice(entity, date.fromisoformat(day), tuple(scope))
