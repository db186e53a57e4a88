"""Which networks a search may build, and the smallest batches that they may train on."""

from collections.abc import Mapping
from typing import Any

from raysearch.config import Recipe, Study, nest, outer


def all_specs(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Return each network that the search may pick, with every variant of `network.*` in turn."""
    found: dict[str, list[dict[str, Any]]] = {}
    fixed = {key: value for key, value in study.fixed.items() if outer(key) == "network"}
    for architecture in architectures(study):
        for values in study.examples():
            own = nest({"network": {}, **fixed, **_applicable(study, architecture, values)})
            spec = {**study.networks[architecture], **own["network"]}
            if spec not in found.setdefault(architecture, []):
                found[architecture].append(spec)
    return found


def architectures(study: Study) -> list[str]:
    """Return the networks of the space, or the fixed one, and those of the start points."""
    dimension = study.space.get("architecture")
    found = dimension.examples() if dimension else [study.fixed["architecture"]]
    started = [point["architecture"] for point in study.start_values() if "architecture" in point]
    return list(dict.fromkeys([*found, *started]))


def _applicable(study: Study, architecture: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `network.*` that hold for an architecture: where searched, by their `when`."""
    chosen = {**values, "architecture": architecture}
    same = values.get("architecture") == architecture
    return {
        key: value
        for key, value in values.items()
        if outer(key) == "network"
        and (study.space[key].applies(chosen) if key in study.space else same)
    }


def smallest_batches(study: Study, workers: int) -> dict[str, dict[int, Recipe]]:
    """Return for each network and side of its squares the recipe that takes fewest images at once.

    Sides are those of `probes`: the first two and the last of many.
    """
    found: dict[str, dict[int, Recipe]] = {}
    keys = ("architecture", side_key(study), "batch_size", "accumulation")
    for values in study.combined(keys):
        recipe = study.recipe(values)
        sides = found.setdefault(recipe.architecture, {})
        known = sides.get(side_of(study, recipe))
        if known is None or at_once(recipe, workers) < at_once(known, workers):
            sides[side_of(study, recipe)] = recipe
    return found


def side_key(study: Study) -> str:
    """Name the value that gives the squares their side."""
    return "crop_size" if study.what.segments else "image_size"


def side_of(study: Study, recipe: Recipe) -> int:
    return int(getattr(recipe, side_key(study)))


def at_once(recipe: Recipe, workers: int) -> int:
    """Return the fewest images that a worker takes at a time."""
    return recipe.batch_size // workers // recipe.accumulation
