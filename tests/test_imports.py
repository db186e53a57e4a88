"""Imports point one way: each part imports only from parts below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "raysearch"
# From the bottom up. Modules not named here are the commands, which nothing imports.
LAYERS = [
    "errors", "limits", "redaction", "storage", "config", "study", "data", "models", "training",
    "inference", "records", "inspection", "cluster", "diagnosis", "search",
]  # fmt: skip
ONLY_IN = {"ray": {"search", "cluster"}, "mlflow": {"records"}}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(name: str) -> str:
    """Return the part of the package that a dotted name lies in: data of raysearch.data.voc."""
    return [*name.split("."), ""][1]


def dotted(path: Path) -> str:
    names = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported(path: Path) -> Iterator[str]:
    """Yield the absolute name of everything that a module imports, wherever in it."""
    package = dotted(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def own_parts(path: Path) -> set[str]:
    names = {part(name) for name in imported(path) if name.split(".")[0] == "raysearch"}
    return {name for name in names if name and not name.startswith("__")}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down(path: Path) -> None:
    here = part(dotted(path))
    if here == "" or here not in LAYERS:
        allowed = {here, *LAYERS}
    else:
        allowed = set(LAYERS[: LAYERS.index(here) + 1])
    assert own_parts(path) - allowed == set()


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_ray_and_mlflow_stay_in_their_rooms(path: Path) -> None:
    for library, rooms in ONLY_IN.items():
        if part(dotted(path)) not in rooms:
            assert library not in {name.split(".")[0] for name in imported(path)}


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - set(LAYERS) == set()
