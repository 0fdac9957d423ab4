"""What every declared pipeline's component is: a model read from `defs.yaml`, and a builder that knows nothing of YAML.

Attributes are taken as they stand: Dagster's own templates (`{{ env.X }}`) are not rendered, because a variable that
is not set would stop the whole code location; credentials are named by resource. What a pipeline does belongs to its
component.
"""

import re
from abc import abstractmethod
from typing import Any, ClassVar, Self

import dagster as dg
import yaml
from pydantic import BaseModel

from datalake_assets.settings import load_settings

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class YamlComponent(dg.Component):
    """A component whose attributes are a frozen model.

    Args:
        spec: The attributes.
    """

    model: ClassVar[type[BaseModel]]

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel] | None:
        """The model that `dg check yaml` compares with."""
        return cls.model

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """The component of a `defs.yaml`."""
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Everything that the pipeline consists of."""
        return self.build(running=load_settings().schedules_run)

    @abstractmethod
    def build(self, *, running: bool) -> dg.Definitions:
        """Build from the attributes alone.

        Args:
            running: Whether schedules start running.
        """


class YamlScaffolder(dg.Scaffolder):
    """Writes a `defs.yaml` that loads as it stands."""

    stub: ClassVar[str]

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the stub.

        Args:
            request: Where, and for which component.
        """
        name = request.target_path.name.lower().replace("-", "_")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{request.target_path.name!r} cannot name a table: use small letters, digits and _.")
        request.target_path.mkdir(parents=True, exist_ok=True)
        text = f"type: {request.type_name}\n\nattributes:\n" + self.stub.replace("NAME", name)
        yaml.safe_load(text)
        (request.target_path / "defs.yaml").write_text(text, "utf-8")
