"""The design's invariant 1 as a few lines, written from its sentence and sharing nothing with the engine."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass
class Day:
    """What a source answered on one date: key to document, "absent", "failed" or "quarantined"."""

    answers: dict[str, Any]
    complete: bool = True


@dataclass
class Model:
    """State and history after landing days in date order."""

    state: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[str, date, str, Any]] = field(default_factory=list)

    @classmethod
    def after(cls, days: dict[date, Day]) -> "Model":
        model = cls()
        for day in sorted(days):
            after = dict(model.state)
            for key, answer in days[day].answers.items():
                if isinstance(answer, dict):
                    after[key] = answer
                elif answer == "absent":
                    after.pop(key, None)
            if days[day].complete:
                after = {key: document for key, document in after.items() if key in days[day].answers}
            for key in model.state.keys() | after.keys():
                old, new = model.state.get(key), after.get(key)
                if old != new:
                    operation = "I" if old is None else "D" if new is None else "U"
                    model.history.append((key, day, operation, new))
            model.state = after
        model.history.sort(key=lambda row: row[:2])
        return model
