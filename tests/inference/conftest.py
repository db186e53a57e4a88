"""A search as it was left: its data, its splits, and one trained trial, without any training."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from raysearch.config import Study
from raysearch.data import open_data
from raysearch.models import build
from raysearch.records.run_folder import RunFolder
from raysearch.study import to_yaml
from raysearch.training import checkpoint
from raysearch.training.history import append_epoch
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import description
from tests.data.voc_miniature import CLASSES, write_plain
from tests.records.fakes import common

NETWORK = {"type": "unet", "width": 4, "depth": 2}


def tiny(root: Path, cache: Path, **changes: Any) -> Study:
    values: dict[str, Any] = {
        "name": "tiny",
        "data": {"format": "voc", "path": root, "classes": CLASSES},
        "networks": {"narrow": NETWORK},
        "fixed": {"architecture": "narrow", "image_size": 32, "crop_size": 32, "batch_size": 4},
        "budget": {"trials": 1, "epochs": 2},
        "resources": {"cache": cache},
    }
    return Study.model_validate(values | changes)


def searched(folder: Path, study: Study) -> RunFolder:
    """The run folder of a search over a study's data, without trials."""
    resources, root = study.resources, study.data.path
    assert resources.cache is not None
    assert root is not None
    data = open_data(study.data, root, resources.cache, seed=0)
    run = RunFolder.create(folder, study.name)
    run.write("study.yaml", to_yaml(study))
    run.write(run.splits_file.name, data.splits.to_json())
    run.describe(data_digest=data.digest, splits=data.splits.mode, seed=0)
    return run


def trained(
    run: RunFolder,
    number: int,
    study: Study,
    weights: bool = True,
    seed: int | None = None,
    **metrics: Any,
) -> None:
    """A trial whose network has random weights and says that it had these metrics in validation."""
    recipe, task = study.recipe({}), study.what
    run.begin_trial(number, recipe)
    folder = run.trial_folder(number)
    line = common(1) | metrics
    append_epoch(folder, line)
    run.end_trial(number, "completed", "max epochs", study.objective)
    if not weights:
        return
    torch.manual_seed(number if seed is None else seed)
    network, normalise = (
        build(NETWORK, task),
        Normalisation(torch.zeros(3), torch.full((3,), 255.0)),
    )
    told = description(NETWORK, task, recipe, normalise)
    state = network.state_dict()
    checkpoint.save(folder / "best", 1, state, metrics=line, model=told, keep=1)


@pytest.fixture(scope="session")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace with 12 images (train 6, val 3, test 3 by lists), searched once."""
    place = tmp_path_factory.mktemp("left")
    study = tiny(write_plain(place / "voc"), place / "cache")
    run = searched(place / "results", study)
    trained(run, 0, study, miou=0.5, pixel_accuracy=0.9)
    trained(run, 1, study, miou=0.25, pixel_accuracy=0.8)
    trained(run, 2, study, weights=False, miou=0.125)
    return place


@pytest.fixture
def run(left: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run folder to write in; the data stay where they are."""
    latest = (left / "results" / "tiny" / "latest").resolve()
    copy = tmp_path / "results" / "tiny" / latest.name
    shutil.copytree(latest, copy)
    return RunFolder.open(copy)
