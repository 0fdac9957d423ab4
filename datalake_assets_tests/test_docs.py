"""What users and contributors read: pages of components as they are made, examples that load, links that lead on."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from datalake_assets.settings import project_files
from tools.component_pages.__main__ import ALL, Page, built, examples, least, written

ROOT = project_files()
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
ONE_OF_TWO = {"source.file"}
"""Fields that exclude others, so that no declaration has them all."""

PLACES = re.compile(r"\.\.\.|, or |\bN\b|HOST|yellow|[()]")
"""What stands in a message for what differs from case to case."""

by_component = pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)


@by_component
def test_pages_of_components_say_what_the_models_say(page: Page) -> None:
    assert page.file.read_text("utf-8") == written(page), (
        f"{page.file.relative_to(ROOT)}: run `make docs`, and commit it."
    )


@by_component
def test_what_is_scaffolded_loads_as_it_stands(page: Page) -> None:
    assert built(page, yaml.safe_load(least(page))).jobs


@by_component
def test_the_full_example_shows_every_field_there_is(page: Page) -> None:
    """A field that nobody can see an example of is found by nobody."""
    shown = set(named(yaml.safe_load(examples(page.file.read_text("utf-8"))[1])["attributes"]))
    there_are = set(fields(page.component.model, seen=set()))
    assert there_are - shown == ONE_OF_TWO & there_are


def named(value: Any, at: str = "") -> Iterator[str]:
    """The fields that a declaration names, lists and free mappings passed through."""
    if isinstance(value, list):
        for each in value:
            yield from named(each, at)
    elif isinstance(value, dict):
        for name, inside in value.items():
            path = f"{at}.{name}" if at else str(name)
            yield path
            if path.rpartition(".")[2] not in {"params", "from", "set"}:
                yield from named(inside, path)


def fields(model: type[BaseModel], at: str = "", *, seen: set[type[BaseModel]]) -> Iterator[str]:
    """The fields of a model and of the models in it, each model once."""
    seen.add(model)
    for name, field in model.model_fields.items():
        path = ".".join(filter(None, (at, field.alias or name)))
        yield path
        for inner in models_in(field.annotation):
            if inner in seen:
                continue
            yield from fields(inner, path, seen=seen)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inside in getattr(annotation, "__args__", ()):
        yield from models_in(inside)


# ------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> list[str]:
    """Headings as GitHub names them in addresses."""
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    there_are = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    asked = set(re.findall(r"^\s*make ([a-z]+)|`make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE))
    assert {first or second for first, second in asked} <= there_are


# ---------------------------------------------------------------------------------------------------- messages


def test_messages_that_operators_look_up_are_those_of_the_code() -> None:
    """A message that was reworded is found no more."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    looked_up = re.findall(r"^\| (.*?) \|", text.partition("## Who is told")[0], re.MULTILINE)
    code = "".join(path.read_text("utf-8") for path in sorted((ROOT / "datalake_assets").rglob("*.py")))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a sentence that goes over several lines
    code += " ".join(path.stem for path in (ROOT / "sql").rglob("*.sql"))  # checks
    parts = [
        part.strip() for message in re.findall(r"`([^`]+)`", " ".join(looked_up)) for part in PLACES.split(message)
    ]
    assert [part for part in parts if part not in code] == []
