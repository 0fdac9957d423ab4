"""The one base of every error the project raises on purpose.

An error is part of the interface: it says what happened, where, and what to do next. It never carries
personal data or a secret; counts, names of tables, partitions and files are enough to act on. Concrete
classes stand beside the code that raises them, not here.
"""


class DatalakeError(Exception):
    """An error written for the person who has to act on it.

    Args:
        what: What happened, as a full sentence.
        where: Asset, partition, key count, file and line, as far as known.
        todo: What to do next.
    """

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        super().__init__(what, where, todo)
        self.what = what
        self.where = where
        self.todo = todo

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"Where: {self.where}.")
        if self.todo:
            parts.append(f"What to do: {self.todo}")
        return " ".join(parts)
