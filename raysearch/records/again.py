"""Runs that train again what a search has found: which recipes, what for, and what came out.

Such a run is a folder like a search's, beside it; its run.json says `again` and its recipes.json
holds the recipe of each trial by number, with what it stands for.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Self

from raysearch.config import Objective, Recipe
from raysearch.data.splits import Splits, read_splits
from raysearch.records.files import read_json, write_json
from raysearch.records.run_folder import RunFolder, find_runs
from raysearch.study import load_study

RECIPES = "recipes.json"
FINALISTS, REFIT, ABLATION, DISTILLATION = "finalists", "refit", "ablation", "distillation"


@dataclass(frozen=True)
class Again:
    """Recipes that are trained as a run of their own, on the data of a search.

    Attributes:
        of: the search.
        kind: what for, such as FINALISTS.
        recipes: one trial each, by number.
        about: what each of them stands for, as JSON.
        splits: of the images; None takes the search's own.
    """

    of: RunFolder
    kind: str
    recipes: tuple[Recipe, ...]
    about: tuple[dict[str, Any], ...]
    splits: Splits | None = None

    @classmethod
    def read(cls, run: RunFolder) -> Self | None:
        """Return what a run was given, to go on with it; None where it searches."""
        recipes = recipes_of(run)
        if not recipes:
            return None
        return cls(run, run.info["again"]["kind"], recipes, tuple(about_of(run)))

    @property
    def info(self) -> dict[str, str]:
        """What run.json says of it."""
        return {"kind": self.kind, "of": self.of.info["id"], "name": self.of.name}

    @property
    def parts(self) -> Splits:
        return self.splits or read_splits(self.of.splits_file)

    def write(self, run: RunFolder) -> None:
        write_json(run.path / RECIPES, self._told())

    def find(self) -> RunFolder | None:
        """Return the newest run that was given just this to train, ended or not."""
        for run in reversed(find_runs(self.of.output)):
            same = run.info.get("again") == self.info and _read(run) == self._told()
            if same and read_splits(run.splits_file) == self.parts:
                return run
        return None

    def ended(self, run: RunFolder) -> bool:
        """Whether there is nothing left to train in its run."""
        records = run.trials()
        running = any(record.state == "running" for record in records)
        return len(records) == len(self.recipes) and not running

    def _told(self) -> dict[str, Any]:
        recipes = [recipe.model_dump(mode="json") for recipe in self.recipes]
        return {"recipes": recipes, "about": list(self.about)}


def recipes_of(run: RunFolder) -> tuple[Recipe, ...]:
    """Return the recipes that a run was given; none where it searches."""
    return tuple(map(Recipe.model_validate, _read(run).get("recipes", [])))


def about_of(run: RunFolder) -> list[dict[str, Any]]:
    """Return what each trial of a run that was given recipes stands for, by number."""
    return list(_read(run).get("about", []))


def _read(run: RunFolder) -> dict[str, Any]:
    path = run.path / RECIPES
    return read_json(path) if path.is_file() else {}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return n, mean, standard deviation (of the sample; None of one value), least and greatest."""
    if not values:
        return {"n": 0, "mean": None, "std": None, "min": None, "max": None}
    return {
        "n": len(values),
        "mean": mean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def values_by(run: RunFolder, key: str) -> dict[Any, dict[int, float]]:
    """Return the best validation objective of each trial: {what it stands for: {seed: value}}.

    Args:
        key: of `about`, such as "trial"; a trial that failed has no value.
    """
    found: dict[Any, dict[int, float]] = {about[key]: {} for about in about_of(run)}
    about = about_of(run)
    for record in run.trials():
        if record.value is not None:
            found[about[record.number][key]][record.recipe.seed] = record.value
    return found


def differences(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """Return first - second of each seed that both have."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def write_finalists(run: RunFolder, again: RunFolder, command: str) -> dict[str, Any]:
    """Write finalists.json of a search, ranked by mean, and return what it holds.

    Args:
        again: the run in which they were trained again.
    """
    objective = load_study(str(run.study_file)).objective
    found = values_by(again, "trial")
    seeds: dict[int, list[int]] = {trial: [] for trial in found}
    for about in about_of(again):
        seeds[about["trial"]].append(about["seed"])
    finalists = []
    for trial, values in found.items():
        record = run.trial(trial)
        finalists.append(
            {
                "trial": trial,
                "architecture": record.recipe.architecture,
                "searched": record.value,
                **spread(list(values.values())),
                "values": values,
            }
        )
    told = _head(run, again, command) | {
        "seeds": {str(trial): tried for trial, tried in seeds.items()},
        "finalists": _by(finalists, lambda one: one["mean"], objective),
    }
    write_json(run.path / "finalists.json", told)
    return told


def write_ablation(run: RunFolder, again: RunFolder, command: str) -> dict[str, Any]:
    """Write ablation.json of a search, ranked by gain, and return what it holds.

    A gain is how much better the champion, trained again beside the others, is than without the
    technique, with the same seed; whatever the metric, above 0 is better.
    """
    objective = load_study(str(run.study_file)).objective
    sign = 1 if objective.mode == "max" else -1
    found, about = values_by(again, "technique"), about_of(again)
    everything = found.pop(about[0]["technique"])
    record = run.trial(about[0]["trial"])
    techniques = []
    for name, values in found.items():
        gains = [sign * gain for gain in differences(everything, values)]
        off = next(one["off"] for one in about if one["technique"] == name)
        techniques.append(
            {"technique": name, "off": off, **spread(list(values.values())),
             "values": values, "gain": spread(gains)}
        )  # fmt: skip
    told = _head(run, again, command) | {
        "seeds": sorted({recipe.seed for recipe in recipes_of(again)}),
        "champion": {
            "trial": record.number,
            "architecture": record.recipe.architecture,
            "searched": record.value,
            **spread(list(everything.values())),
            "values": everything,
        },
        "techniques": _by(techniques, lambda one: one["gain"]["mean"]),
    }
    write_json(run.path / "ablation.json", told)
    return told


def _head(run: RunFolder, again: RunFolder, command: str) -> dict[str, Any]:
    metric = load_study(str(run.study_file)).objective.metric
    return {
        "run": run.name,
        "again": again.name,
        "when": time.time(),
        "command": command,
        "metric": metric,
    }


def _by(
    rows: list[dict[str, Any]],
    value: Callable[[Mapping[str, Any]], float | None],
    objective: Objective | None = None,
) -> list[dict[str, Any]]:
    """Rows best first; those without a value last."""
    sign = 1 if objective and objective.mode == "min" else -1

    def key(row: Mapping[str, Any]) -> tuple[bool, float]:
        found = value(row)
        return found is None, 0.0 if found is None else sign * found

    return sorted(rows, key=key)
