"""Measure a search's trial on its test split or on other images, and keep what came out."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from raysearch.config import Study
from raysearch.data.splits import read_splits
from raysearch.errors import RunError
from raysearch.inference.evaluation import Evaluation, data_of_run, evaluate, other_data
from raysearch.records.files import read_json, write_json
from raysearch.records.leaderboard import best_trial
from raysearch.records.run_folder import RunFolder, find_runs
from raysearch.records.trial_record import TrialRecord
from raysearch.study import load_study
from raysearch.training.device import find_device
from raysearch.training.trained import Trained, load_trained

CACHE = Path("~/.cache/raysearch")
FEW_CLASSES = 30  # More than these keep no confusion matrix beside their scores.


def evaluate_run(
    run: RunFolder,
    split: str = "test",
    data: Path | None = None,
    trial: int | None = None,
    command: str | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Measure one trial of a search, write the result into the run folder, and return it.

    The file (`file` of what is returned) is test.json for the search's own test split, and says
    how often that was opened; for other images it is named by split and folder.

    Args:
        data: another folder of the study's format; None, or the search's own, takes its images.
        trial: its number; None takes the best.
        command: as it was typed.

    Raises:
        RunError: no such trial, or one without weights, or there is no honest test split.
        DataError: the images cannot be used.
    """
    study, info = load_study(str(run.study_file)), run.info
    if data is not None and study.data.path is not None and data.resolve() == study.data.path:
        data = None
    if data is None and split == "test" and info.get("splits") == "official":
        raise RunError(
            f"{run.name}: was searched with --splits official, which keeps no test images aside; "
            "measure with --split val, on other images with --data DIR, or search with "
            "--splits honest"
        )
    record = _chosen(run, study, trial)
    device = device or find_device()
    trained = load_trained(run.trial_folder(record.number), device)
    folder = cache_folder(study)
    root = (data or data_root(run, study)).resolve()
    if data is None:
        opened = data_of_run(study.data, root, folder, info["data_digest"], run.splits_file)
    else:
        opened = other_data(study.data, root, folder, split)
    found = evaluate(trained, opened, split, device)
    told = {
        "run": run.name,
        "trial": record.number,
        "architecture": record.recipe.architecture,
        "epoch": record.best_epoch,
        "split": split,
        "data": str(root),
        "data_digest": opened.digest,
        "device": str(device),
        "command": command,
        "when": time.time(),
        "file": _file_name(split, data, opened.digest, trial),
        **_measured(found, trained, study),
    }
    path = run.path / told["file"]
    if path == run.test_file:
        told |= openings(path, told)
    write_json(path, told)
    return told


def cache_folder(study: Study) -> Path:
    """Return where this machine keeps decoded images."""
    return (study.resources.cache or CACHE).expanduser().resolve()


def _file_name(split: str, data: Path | None, digest: str, trial: int | None) -> str:
    """Name a result by what was measured: another set has its own file, another trial too.

    The search's own test split has one file, which counts its openings.
    """
    if data is None and split == "test":
        return "test.json"
    chosen = "" if trial is None else f"-trial{trial}"
    where = f"-{data.resolve().name}-{digest[:6]}" if data is not None else ""
    return f"evaluation-{split}{where}{chosen}.json"


def _chosen(run: RunFolder, study: Study, number: int | None) -> TrialRecord:
    if number is None:
        best = best_trial(run.trials(), study.objective)
        if best is None:
            raise RunError(f"{run.name}: no trial of it has a value yet; finish the search first")
        return best
    known = run.numbers()
    if number not in known:
        told = f"0 to {known[-1]}" if known else "no trial"
        raise RunError(f"{run.name}: has no trial {number}; there is {told}")
    return run.trial(number)


def data_root(run: RunFolder, study: Study) -> Path:
    """Return the folder of a search's data.

    Raises:
        RunError: the study names none.
    """
    if study.data.path is None:
        raise RunError(f"{run.study_file}: names no data.path; name the folder with --data DIR")
    return study.data.path


def _measured(found: Evaluation, trained: Trained, study: Study) -> dict[str, Any]:
    """The numbers as JSON, beside those of validation, which the trial was chosen by."""
    headline = [study.objective.metric, *study.what.scores]
    before = {key: trained.metrics[key] for key in headline if key in trained.metrics}
    lost = {
        key: value - found.metrics[key]
        for key, value in before.items()
        if key in found.metrics and key not in ("threshold", "max_probability")
    }
    few = len(study.data.classes) <= FEW_CLASSES
    return {
        "images": found.images,
        "metrics": found.metrics,
        "intervals": {key: list(ends) for key, ends in found.intervals.items()},
        "wilson": {key: list(ends) for key, ends in found.wilson.items()},
        "validation": before,
        "drop": lost,
        "threshold": trained.threshold,
        "seconds_per_image": found.seconds_per_image,
        "confusion": found.confusion.tolist() if few else None,
    }


def openings(path: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return how often the test split has been looked at, and by which command each time.

    Openings by other searches that hold out the same images count too (`opened`), since what is
    chosen among searches by them is chosen by these images; `openings` lists this search's own.

    Args:
        path: of test.json.
        told: of this opening: when, trial and command.
    """
    before = read_json(path).get("openings", []) if path.is_file() else []
    known = [*before, {key: told[key] for key in ("when", "trial", "command")}]
    return {"opened": len(known) + _opened_elsewhere(path), "openings": known}


def _opened_elsewhere(path: Path) -> int:
    """How often other searches beside this one's folder looked at the same test images."""
    own = RunFolder(path.parent)
    if not own.splits_file.is_file():
        return 0
    others = (other for other in find_runs(own.output) if other.path != own.path)
    return sum(
        len(read_json(other.test_file).get("openings", []))
        for other in others
        if other.test_file.is_file() and _held_out(other) == _held_out(own)
    )


def _held_out(run: RunFolder) -> tuple[str, tuple[str, ...]]:
    return run.info.get("data_digest", ""), read_splits(run.splits_file).test
