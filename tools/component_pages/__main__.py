"""Write the pages of `docs/components/`, one for each component: `make docs`.

What a page says of fields comes from the component's model, what it says of assets and checks from what the full
example makes; the rest is the hand-written `.md` beside this file. Converters of JSON Schema (jsonschema-markdown,
jsonschema2md, json-schema-for-humans) were tried on these models: they lose what is said of fields that hold models,
show `null` and regular expressions as types, or need ten times the lines. A test compares the pages with this.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import dagster as dg
import yaml

from datalake_assets.components.api_dataset import ApiDataset, ApiDatasetScaffolder
from datalake_assets.components.dated_view import DatedView, DatedViewScaffolder
from datalake_assets.components.url_files import UrlFiles, UrlFilesScaffolder
from datalake_assets.components.yaml_component import YamlComponent, YamlScaffolder

PAGES: Final = Path(__file__).parents[2] / "docs" / "components"

_FORMS: Final = {
    r"^[a-z_][a-z0-9_]{0,62}$": "name",
    r"^[a-z_][a-z0-9_]*$": "name",
    r"^[a-z][a-z0-9_]*$": "name",
    r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$": "`schema.table`",
    r"^\d{4}-(0[1-9]|1[0-2])$": "month",
    "^/": "text with `/` first",
}
"""Regular expressions in words; of others the meaning says what is allowed."""


class Page(NamedTuple):
    """What is needed to write of a component."""

    component: type[YamlComponent]
    scaffolder: type[YamlScaffolder]
    name: str

    @property
    def file(self) -> Path:
        """The page."""
        return PAGES / f"{self.name}.md"


ALL: Final = (
    Page(ApiDataset, ApiDatasetScaffolder, "api_dataset"),
    Page(DatedView, DatedViewScaffolder, "dated_view"),
    Page(UrlFiles, UrlFilesScaffolder, "url_files"),
)


def written(page: Page) -> str:
    """The text of a page."""
    title = page.component.__name__
    intro, _, full = (Path(__file__).parent / f"{page.name}.md").read_text("utf-8").partition("<!-- example -->\n")
    return (
        "\n\n".join(
            (
                f"<!-- Written by `make docs` from datalake_assets/components/{page.name}.py and "
                f"tools/component_pages/{page.name}.md; edit those. -->",
                f"# {title}",
                " ".join((page.component.__doc__ or "").split()),
                intro.strip(),
                "## The least",
                f"`dg scaffold defs datalake_assets.components.{title} events` writes this, which loads as it stands:",
                _fenced(least(page)),
                "## With every field",
                full.strip(),
                "## What it makes",
                "Of the declaration with every field:",
                *_made(page, yaml.safe_load(examples(full)[0])),
                "## Fields",
                *_fields(page.component.model.model_json_schema()),
            )
        )
        + "\n"
    )


def least(page: Page, name: str = "events") -> str:
    """The declaration that `dg scaffold` writes."""
    stub = page.scaffolder.stub.replace("NAME", name)
    return f"type: datalake_assets.components.{page.component.__name__}\n\nattributes:\n{stub}"


def examples(text: str) -> list[str]:
    """The declarations in a page."""
    return re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def built(page: Page, declaration: dict[str, Any]) -> dg.Definitions:
    """What a declaration makes."""
    return page.component(page.component.model.model_validate(declaration["attributes"])).build(running=False)


# ------------------------------------------------------------------------------------------ what is made of it


def _made(page: Page, declaration: dict[str, Any]) -> Iterator[str]:
    made = built(page, declaration)
    assets = [asset for asset in made.assets or () if isinstance(asset, dg.AssetsDefinition)]
    sources = [asset for asset in made.assets or () if isinstance(asset, dg.AssetSpec)]
    specs = [*sources, *(spec for asset in assets for spec in asset.specs)]
    lines = ((f"`{spec.key.to_user_string()}`", (spec.description or "").partition("\n")[0]) for spec in specs)
    yield _table(("asset", "what it holds"), lines)
    checks = [spec for asset in assets for spec in asset.check_specs]
    if checks:
        yield _table(
            ("check", "of", "stops the load", "what must hold"),
            (
                (
                    f"`{spec.name}`",
                    f"`{spec.asset_key.to_user_string()}`",
                    "yes" if spec.blocking else "",
                    spec.description or "",
                )
                for spec in checks
            ),
        )
    (job,) = made.jobs or ()
    yield f"Job and schedule are called `{job.name}`. `datalake run {job.name}{_partition(assets[-1])}` runs it."


def _partition(asset: dg.AssetsDefinition) -> str:
    """What a command adds to name the first partition."""
    if asset.partitions_def is None:
        return ""
    key = asset.partitions_def.get_partition_keys()[0]
    return f' --partition "{key}"' if "|" in key else f" --partition {key}"


# ------------------------------------------------------------------------------------------------------ fields


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    """The table of a model, then those of the models in it, each under the place where it is met first."""
    models = schema.get("$defs", {})
    queue, places = [("", schema)], {"": ""}
    _places(schema, "", models, places)
    while queue:
        place, model = queue.pop(0)
        model = _object(model)
        if place:
            yield f"### {place}"
            yield " ".join(model["description"].split())
        required = model.get("required", ())
        yield _table(
            ("field", "type", "default", "meaning"),
            (
                (f"`{name}`", _type(field, places), _default(name in required, field), _meaning(field, models))
                for name, field in model["properties"].items()
            ),
        )
        if not place:
            queue += [(found, models[name]) for name, found in places.items() if name]


def _places(model: dict[str, Any], at: str, models: dict[str, Any], places: dict[str, str]) -> None:
    for name, field in _object(model)["properties"].items():
        for used in re.findall(r'"#/\$defs/(\w+)"', json.dumps(field)):
            if used not in places:
                places[used] = f"{at}{name}"
                _places(models[used], f"{at}{name}.", models, places)


def _object(model: dict[str, Any]) -> dict[str, Any]:
    """The mapping among the forms in which a model may be written."""
    return next((form for form in model.get("anyOf", ()) if "properties" in form), model)


def _type(field: dict[str, Any], places: dict[str, str]) -> str:
    kind = partial(_type, places=places)
    if "$ref" in field:
        place = places[field["$ref"].rpartition("/")[2]]
        link = f"[{place}](#{re.sub(r'[^a-z0-9_ -]', '', place)})"
        return f"text or {link}" if place == "schedule" else link
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(kind(form) for form in field["anyOf"] if form.get("type") != "null"))
    if "enum" in field:
        *others, last = (f"`{word}`" for word in field["enum"])
        return f"{', '.join(others)} or {last}"
    if "const" in field:
        return f"`{field['const']}`"
    if field["type"] == "array":
        return f"list of {kind(field['items'])}".replace("list of list", "list of lists")
    if field["type"] == "object":
        return f"mapping to {kind(field['additionalProperties'])}"
    if "pattern" in field:
        return _FORMS.get(field["pattern"], "text")
    if field.get("format") == "date":
        return "date"
    if field["type"] in {"integer", "number"}:
        return str(field["type"]) + _range(field)
    return {"string": "text", "boolean": "boolean"}[field["type"]]


def _range(field: dict[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {field[name]:g}" for name, word in words.items() if name in field)


def _default(is_required: bool, field: dict[str, Any]) -> str:
    if is_required:
        return "**required**"
    default = field["default"]
    if default is None or default == "":
        return ""
    if isinstance(default, dict) and default:
        return "its defaults"
    if not default and isinstance(default, list | dict):
        return "none"
    is_word = isinstance(default, str) and re.fullmatch(r"[\w:/-]+", default)
    return f"`{default if is_word else json.dumps(default)}`"


def _meaning(field: dict[str, Any], models: dict[str, Any]) -> str:
    """What is said of a field; pydantic leaves it out where its model says the same."""
    return str(field.get("description") or models[field["$ref"].rpartition("/")[2]]["description"])


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [heads, tuple("---" for _ in heads), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _fenced(text: str) -> str:
    return f"```yaml\n{text.strip()}\n```"


if __name__ == "__main__":
    PAGES.mkdir(parents=True, exist_ok=True)
    for each in ALL:
        each.file.write_text(written(each), "utf-8")
        print(each.file.relative_to(PAGES.parents[1]))
