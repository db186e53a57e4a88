"""The model of a search whose members have learned from training and validation images."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from raysearch.errors import RunError
from raysearch.inference.choose import MODEL
from raysearch.inference.compare import Asked, Measured, measure
from raysearch.inference.evaluation import data_of_run
from raysearch.inference.models import (
    ENSEMBLE,
    REFIT_FOLDER,
    STUDY,
    Model,
    describe_model,
    load_model,
)
from raysearch.records.again import about_of
from raysearch.records.ensemble import figures
from raysearch.records.evaluation import cache_folder, data_root, openings
from raysearch.records.files import read_json, write_json
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training.checkpoint import BEST, FINAL
from raysearch.training.device import find_device
from raysearch.training.trained import Trained, load_trained

REFIT = "refit"
NO_VALIDATION = "validation images were trained on: no figure of them says how good this model is"


def write_refit(
    run: RunFolder,
    again: RunFolder,
    command: str,
    test: bool = True,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Write the folder `refit` of a search, a model as `load_model` reads it; return what it says.

    Weights, vote, views, temperature, threshold and post-processing are those of ensemble.json,
    which were chosen on validation images while these were unseen.

    Args:
        again: the run in which the members were trained on all of these images, in their order.
        test: measure it and the model as it was on the test split, in one more opening of it;
            without effect where the ensemble has left that closed.

    Raises:
        RunError: a member failed.
    """
    device = device or find_device()
    before = load_model(run.path, device)
    members = tuple(_last_epoch(again, number, device) for number in range(len(before.members)))
    refit, folder = replace(before, members=members), run.path / REFIT_FOLDER
    folder.mkdir(exist_ok=True)
    shutil.copyfile(run.path / STUDY, folder / STUDY)
    chosen = read_json(run.path / ENSEMBLE)
    described = describe_model(refit, folder)
    for member, about in zip(described["members"], about_of(again), strict=True):
        member |= {"epochs": about["epochs"], "refits": about["place"]}
    told = {
        **{key: chosen[key] for key in ("run", "data", "data_digest", "metric")},
        "again": again.name,
        "when": time.time(),
        "command": command,
        "device": str(device),
        **described,
        "validation": None,
        "note": NO_VALIDATION,
        "test": None,
    }
    if test and chosen["test"] is not None:
        told["test"] = _of_test(run, {MODEL: before, REFIT: refit}, told, device)
    write_json(folder / ENSEMBLE, told)
    return told


def _last_epoch(again: RunFolder, number: int, device: torch.device) -> Trained:
    """A member after its last epoch, which is kept as the best one where it is that too."""
    record, folder = again.trial(number), again.trial_folder(number)
    if record.state != "completed":
        raise RunError(
            f"{again.name}/trials/{number}: {record.state} ({record.reason}), so the members are "
            f"not whole; see {folder}, and take `--resume` or delete {again.path} to begin anew"
        )
    place = folder / FINAL
    return load_trained(place if place.is_dir() else folder / BEST, device)


def _of_test(
    run: RunFolder, models: Mapping[str, Model], told: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """Measure the models on the test split together, and count the opening in test.json."""
    study = load_study(str(run.study_file))
    root = data_root(run, study).resolve()
    data = data_of_run(
        study.data, root, cache_folder(study), run.info["data_digest"], run.splits_file
    )
    found = measure(models, data, "test", Asked(data, device))
    trial = int(models[MODEL].members[0].folder.name)
    opening = openings(run.test_file, {**told, "trial": trial})
    write_json(run.test_file, read_json(run.test_file) | opening)
    differences = found[REFIT].tallies.difference(found[MODEL].tallies)
    return {
        "images": len(data.indices("test")),
        "metric": told["metric"],
        "rows": {name: _row(one, models[name]) for name, one in found.items()},
        "minus_model": {name: list(ends) for name, ends in differences.items()},
        **opening,
    }


def _row(found: Measured, model: Model) -> dict[str, Any]:
    ends = {"intervals": found.tallies.bootstrap(), "wilson": found.tallies.wilson()}
    between = {name: {k: list(v) for k, v in one.items()} for name, one in ends.items()}
    return {**figures(found), **between, "threshold": model.threshold}
