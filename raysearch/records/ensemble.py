"""Make a search's ensemble, measure it, and keep what came out in the run folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from raysearch.config import Study
from raysearch.data import Data
from raysearch.data.splits import read_splits
from raysearch.errors import RunError
from raysearch.inference.choose import ENSEMBLE, MODEL, SINGLE, TTA, Chosen, choose
from raysearch.inference.compare import Asked, Measured, measure
from raysearch.inference.evaluation import data_of_run
from raysearch.inference.models import ENSEMBLE as FILE
from raysearch.inference.models import Model, describe_model, named
from raysearch.inference.probabilities import Candidate, Map, Probabilities, candidates, compute_all
from raysearch.inference.selection import Limits
from raysearch.inference.tta import Views
from raysearch.records.evaluation import FEW_CLASSES, cache_folder, data_root, openings
from raysearch.records.files import read_json, write_json
from raysearch.records.run_folder import RunFolder
from raysearch.records.suspects import write_suspects
from raysearch.study import load_study
from raysearch.training.device import find_device

OF_ENSEMBLES = ("calibration_error", "nll", "reliability")
ROWS = (SINGLE, SINGLE + TTA, ENSEMBLE, ENSEMBLE + TTA, MODEL)

Say = Callable[[str], None]


def ensemble_run(
    run: RunFolder,
    limits: Limits | None = None,
    test: bool = True,
    command: str | None = None,
    device: torch.device | None = None,
    say: Say = lambda text: None,
    others: Sequence[RunFolder] = (),
    how: Map = map,
    views: Views | None = None,
) -> dict[str, Any]:
    """Choose a search's ensemble on validation images; return what ensemble.json says of it.

    Args:
        others: searches over the same images, split alike, whose trials are candidates too.
        how: see `raysearch.inference.probabilities.compute_all`.
        views: see `raysearch.inference.choose.choose`.
        test: measure it on the test split too, which is one more opening of it; without effect
            where the search has kept none aside.
        command: as it was typed.
        say: is told what happens.

    Raises:
        RunError: no trial has kept its weights, or another search has other images or splits.
        ConfigError: no trial is within the limits.
        DataError: the images are no longer those of the search.
    """
    study, info = load_study(str(run.study_file)), run.info
    limits, device = limits or Limits(), device or find_device()
    wanted = _candidates(run, others)
    root = data_root(run, study).resolve()
    opened = data_of_run(
        study.data, root, cache_folder(study), info["data_digest"], run.splits_file
    )
    answers: dict[Path, Probabilities] = {}
    for one in compute_all(wanted, opened, "val", device, how):
        answers[one.candidate.place] = one
        say(f"trial {one.candidate.trial}: {len(answers)} of {len(wanted)}")
    found = [answers[candidate.place] for candidate in wanted]
    say("comparing labels with what trials agree on")
    suspects = write_suspects(run, found, opened, study)
    chosen = choose(found, opened, study.what, study.objective, limits, device, say, views)
    told = {
        "run": run.name,
        "when": time.time(),
        "command": command,
        "device": str(device),
        "data": str(root),
        "data_digest": opened.digest,
        **describe_model(chosen.model, run.path),
        **_of_validation(chosen, found, run.path),
        "suspects": len(suspects),
        "test": None,
    }
    if test and info.get("splits") != "official" and opened.indices("test"):
        say("opening the test split")
        told["test"] = _of_test(run, study, chosen, opened, told, device)
    write_json(run.path / FILE, told)
    return told


def _candidates(run: RunFolder, others: Sequence[RunFolder]) -> list[Candidate]:
    """The kept checkpoints of searches none of which has trained on what another one held out."""
    found = candidates(run.path)
    for other in others:
        same = [
            other.info.get("data_digest") == run.info["data_digest"],
            read_splits(other.splits_file) == read_splits(run.splits_file),
        ]
        if not all(same):
            what = "splits" if same[0] else "images"
            raise RunError(
                f"{other.name}: was run on other {what} than {run.name}; its trials may have "
                "learned what those are measured on. Search again with the same data and --seed"
            )
        found += candidates(other.path)
    if not found:
        raise RunError(f"{run.name}: no trial of it has kept its weights; choose another search")
    return found


def _of_validation(chosen: Chosen, found: list[Probabilities], folder: Path) -> dict[str, Any]:
    metric = chosen.objective.metric
    greedy, bagged = chosen.selection.greedy, chosen.selection.bagged
    return {
        "metric": metric,
        "candidates": [
            {
                **named(one.candidate.place, folder),
                "epoch": one.candidate.epoch,
                metric: one.metrics.get(metric),
                "seconds_per_image": one.seconds_per_image,
                "bytes": one.candidate.size,
                "greedy": greedy[at],
                "bagged": bagged[at],
            }
            for at, one in enumerate(found)
        ],
        "path": list(chosen.selection.path),
        "diversity": chosen.diversity,
        "tried": chosen.tried,
        "validation": {name: figures(one) for name, one in chosen.validation.items()},
    }


def _of_test(
    run: RunFolder,
    study: Study,
    chosen: Chosen,
    data: Data,
    told: Mapping[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    """Measure all rows and the model on the test split, and count the opening in test.json."""
    models = {**chosen.rows, MODEL: chosen.model}
    found = measure(models, data, "test", Asked(data, device))
    validation, metric = chosen.validation, chosen.objective.metric
    rows = {}
    for name, one in found.items():
        few = len(study.data.classes) <= FEW_CLASSES
        rows[name] = {
            **figures(one),
            **_intervals(one),
            "drop": _drop(validation[name], one),
            "threshold": models[name].threshold,
            "confusion": one.confusion.tolist() if few else None,
        }
    against = {
        name: _ends(found[name].tallies.difference(found[SINGLE].tallies))
        for name in (ENSEMBLE, ENSEMBLE + TTA, MODEL)
        if name in found
    }
    single = chosen.rows[SINGLE]
    counted = _count_opening(run, study, single, rows[SINGLE], validation[SINGLE], told, data)
    return {
        "images": len(found[SINGLE].tallies),
        "metric": metric,
        "rows": rows,
        "minus_single": against,
        **counted,
    }


def _count_opening(
    run: RunFolder,
    study: Study,
    single: Model,
    row: Mapping[str, Any],
    validation: Measured,
    told: Mapping[str, Any],
    data: Data,
) -> dict[str, Any]:
    """Add this opening to test.json; where that has no figures yet, those of the best single."""
    folder = single.members[0].folder
    owner = RunFolder.read(folder.parents[1])
    record = owner.trial(int(folder.name))
    opening = openings(run.test_file, {**told, "trial": record.number})
    before = read_json(run.test_file) if run.test_file.is_file() else {}
    headline = [study.objective.metric, *study.what.scores]
    first = {
        "run": owner.name,
        "trial": record.number,
        "architecture": record.recipe.architecture,
        "epoch": single.members[0].metrics["epoch"],
        "split": "test",
        **{key: told[key] for key in ("data", "data_digest", "device", "command", "when")},
        "file": run.test_file.name,
        "images": len(data.indices("test")),
        **{key: value for key, value in row.items() if key not in OF_ENSEMBLES},
        "validation": {k: v for k, v in validation.metrics.items() if k in headline},
    }
    write_json(run.test_file, (before or first) | opening)
    return opening


def figures(measured: Measured) -> dict[str, Any]:
    """Return a measurement's numbers as JSON."""
    return {
        "metrics": measured.metrics,
        "calibration_error": measured.calibration_error,
        "nll": measured.nll,
        "reliability": measured.reliability,
        "seconds_per_image": measured.seconds_per_image,
    }


def _intervals(measured: Measured) -> dict[str, Any]:
    ends = {"intervals": measured.tallies.bootstrap(), "wilson": measured.tallies.wilson()}
    return {name: _ends(one) for name, one in ends.items()}


def _drop(before: Measured, after: Measured) -> dict[str, float]:
    """What is lost from validation, by which everything was chosen, to test."""
    same = before.metrics.keys() & after.metrics.keys() - {"threshold", "max_probability"}
    return {name: before.metrics[name] - after.metrics[name] for name in sorted(same)}


def _ends(intervals: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: list(ends) for name, ends in intervals.items()}
