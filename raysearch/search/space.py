"""From a study's space to one trial's values."""

from collections.abc import Mapping
from typing import Any

from optuna import Trial

from raysearch.config import Choice, Dimension, Study, parents_first


def suggest(trial: Trial, study: Study, start: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of one trial.

    What a start point gives stands, also outside the space; a value inside it is told to Optuna,
    so that the sampler learns from it. The rest is sampled where its condition holds.
    """
    fixed = {k: v for k, v in study.fixed.items() if k == "architecture"}
    values = {**fixed, **start}
    for key in parents_first(study.space):
        dimension = study.space[key]
        if not dimension.applies(values) or (key in start and not dimension.contains(start[key])):
            continue
        values[key] = _suggest(trial, key, dimension)
    return values


def told(study: Study, start: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a start point that lies in the space: what Optuna is told beforehand."""
    return {k: v for k, v in start.items() if k in study.space and study.space[k].contains(v)}


def _suggest(trial: Trial, key: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(key, dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.whole:
        return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=dimension.log)
    return trial.suggest_float(key, low, high, step=step, log=dimension.log)
