"""docs/techniques.md names tests that exist, and keys that a study may set."""

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from raysearch import check, ensemble, evaluate, export, predict, tune
from raysearch.config import Recipe, Study
from raysearch.data.formats import reader
from raysearch.errors import RaysearchError
from raysearch.models import networks
from raysearch.training.losses import TERMS
from raysearch.training.optimisation import SHAPES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "techniques.md").read_text(encoding="utf-8")
COMMANDS = {
    "tune": tune,
    "check": check,
    "evaluate": evaluate,
    "ensemble": ensemble,
    "predict": predict,
    "export": export,
}
CODE = re.compile(r"`([^`]+)`")
TEST = re.compile(r"^[\w/]+\.py::[\w:]+$")


def tables() -> dict[str, list[list[str]]]:
    """Return the rows below each heading, as cells, without the heads of the tables."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in TEXT.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append([c.strip() for c in line.strip("|").split("|")])
    return {heading: rows[2:] for heading, rows in found.items()}


TABLES = tables()
ROWS = [row for rows in TABLES.values() for row in rows]
KEYS = sorted({key for row in ROWS for key in CODE.findall(row[1])})
TESTS = sorted({name for name in CODE.findall(TEXT) if TEST.match(name)})


def test_a_table_for_each_study() -> None:
    assert list(TABLES) == [
        "Animals", "Unity", "Marine debris", "Food-101", "After a search",
    ]  # fmt: skip
    studies = set(re.findall(r"search_spaces/(\w+)\.yaml", TEXT))
    assert studies == {path.stem for path in (ROOT / "search_spaces").glob("*.yaml")}


def test_every_row_has_a_key_and_a_proof() -> None:
    for row in ROWS:
        assert len(row) == 3, row
        assert CODE.search(row[1]) or row[1].startswith("always"), row
        proofs = CODE.findall(row[2])
        assert proofs, row
        assert all(TEST.match(name) for name in proofs), row


@cache
def defined(path: Path) -> frozenset[str]:
    """Return the tests in a file, as function or Class::function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            members = (part for part in node.body if isinstance(part, ast.FunctionDef))
            names |= {f"{node.name}::{part.name}" for part in members}
    return frozenset(name for name in names if name.rpartition(":")[2].startswith("test_"))


@pytest.mark.parametrize("name", TESTS)
def test_named_tests_exist(name: str) -> None:
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    assert path.is_file(), name
    assert function in defined(path), name


@pytest.mark.parametrize("key", KEYS)
def test_named_keys_can_be_set(key: str) -> None:
    mistake = wrong(key)
    assert not mistake, mistake


@pytest.mark.parametrize(
    "key",
    [
        "mixup_alhpa",
        "loss.boundry",
        "loss: {boundary: -1}",
        "loss: focal + dise",
        "schedule: cosinus",
        "focal_alpha: 2",
        "network.droput",
        "network.type: unett",
        "objective.gaol",
        "objective.goal: {target: 0.9}",
        "budget.epochs: 0",
        "data.bands.11",
        "data.format: marina",
        "--init-form",
        "check --split",
        "unknown.key",
    ],
)
def test_a_mistake_would_be_found(key: str) -> None:
    assert wrong(key)


def wrong(key: str) -> str:
    """Return what is wrong with a key, an option, or a key with its value; "" where it is right."""
    if "--" in key:
        command, _, option = key.rpartition(" ")
        known = options(COMMANDS[command or "tune"].parser())
        return "" if option in known else f"{option} is no option of {command or 'tune'}"
    read = yaml.load(key, Loader)
    name, value = next(iter(read.items())) if isinstance(read, dict) else (read, ...)
    first, _, rest = name.partition(".")
    if first == "network":
        return wrong_of_network(rest, value)
    if first in Recipe.model_fields:
        return wrong_of_recipe(name, value)
    return wrong_below(Study, name.split("."), value)


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


class Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as studies do."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^\d+(\.\d*)?(e-?\d+)?$"), list("0123456789")
)


def wrong_of_recipe(name: str, value: Any) -> str:
    if name.startswith("loss.") and value is ...:
        value = 1.0
    values = {} if value is ... else {name: value}
    try:
        recipe = Recipe.from_flat({"architecture": "unet", **values})
    except ValueError as error:
        return str(error)
    unknown = [term for term in recipe.loss if term not in TERMS]
    if recipe.schedule not in SHAPES:
        unknown.append(recipe.schedule)
    return f"{name}: unknown {unknown}" if unknown else ""


def wrong_of_network(name: str, value: Any) -> str:
    files = {path.stem for path in Path(networks.__file__).parent.glob("[a-z]*.py")}
    if name == "type":
        return "" if value in files else f"network.type: {value}"
    fields = {field for file in files for field in network_options(file).model_fields}
    return "" if name in fields else f"network.{name} is no key of any network"


def network_options(file: str) -> type[BaseModel]:
    module = __import__(f"{networks.__name__}.{file}", fromlist=["Options"])
    options_: type[BaseModel] = module.Options
    return options_


def wrong_below(model: type[BaseModel], path: list[str], value: Any) -> str:
    """Follow a dotted key through a study's values, and check the value at its end."""
    field = model.model_fields.get(path[0])
    if field is None:
        return f"{path[0]} is no key of {model.__name__}"
    inner = next(models(field.annotation), None)
    if path[1:] and inner is not None:
        return wrong_below(inner, path[1:], value)
    if path[1:] and not holds_any_key(field.annotation):
        return f"{path[0]} has no entries"
    if value is ... or path[1:]:
        return ""
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
        if path[0] == "format":
            reader(value)
    except (ValueError, RaysearchError) as error:
        return str(error)
    return ""


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


def holds_any_key(annotation: Any) -> bool:
    origin = getattr(annotation, "__origin__", None)
    return isinstance(origin, type) and issubclass(origin, Mapping | dict)
