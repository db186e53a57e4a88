"""Run folders made by hand, as a search would have left them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysearch.config import Objective, Recipe, Study
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord
from raysearch.study import to_yaml
from raysearch.training.history import append_epoch

CLASSES = ("background", "cheetah", "lion")
STARTED = 1_700_000_000.0


def study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "name": "animals",
        "profile": "quick",
        "data": {"format": "voc", "classes": CLASSES},
        "networks": {
            "unet": {"type": "unet", "width": 8},
            "resnet": {"type": "smp", "decoder": "unet", "encoder": "resnet18"},
        },
        "space": {
            "architecture": ["unet", "resnet"],
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "loss": ["focal", "focal + 0.5*dice"],
        },
        "fixed": {"crop_size": 64},
        "start": [{"architecture": "unet", "learning_rate": 1e-3, "batch_size": 6}],
        "budget": {"trials": 4, "epochs": 6},
    }
    return Study.model_validate(values | changes)


def classification(classes: Sequence[str] = ("apple", "bread", "curry"), **changes: Any) -> Study:
    """The same networks, asked what whole images show."""
    values: dict[str, Any] = {
        "task": "classification",
        "data": {"format": "class_folders", "classes": tuple(classes)},
        "fixed": {"image_size": 64},
    }
    return study(**values | changes)


def water(**changes: Any) -> Study:
    """Pixels of one class that is looked for."""
    data = {"format": "pairs", "classes": ("land", "water")}
    return study(**{"data": data, "objective": {"metric": "f1"}} | changes)


def recipe(architecture: str = "unet", **values: Any) -> Recipe:
    base = {"learning_rate": 1e-3, "loss": "focal", "epochs": 6, "seed": 3}
    return study().recipe({"architecture": architecture, **base, **values}, seed=3)


def new_run(output: Path, of: Study | None = None) -> RunFolder:
    run = RunFolder.create(output, "animals")
    run.write("study.yaml", to_yaml(of or study()))
    run.describe(
        command="python -m raysearch.tune animals",
        versions={"raysearch": "0.1.0", "torch": "2.11.0", "ray": "2.60.0"},
        seed=3,
        data_digest="abc123",
        splits="honest",
    )
    return run


def metrics(epoch: int, top: float, started: float = STARTED) -> dict[str, Any]:
    """One line of a history whose mIoU climbs towards `top`."""
    miou = top * (1 - math.exp(-epoch / 2))
    return {
        "epoch": epoch,
        "time": started + 10 * epoch,
        "parameters": 1234,
        "miou": miou,
        "pixel_accuracy": 0.8,
        "lowest_iou": miou / 2,
        "iou/background": 0.9,
        "iou/cheetah": miou,
        "iou/lion": miou / 2,
        "collapsed": 0.0,
        "loss": 1 / epoch,
        "val_loss": 1.2 / epoch,
        "gap": 0.2 / epoch,
        "train_seconds": 7.0,
        "data_seconds": 1.0,
        "validation_seconds": 2.0,
        "peak_memory_mb": 100.0 + epoch,
        "learning_rate": 1e-3,
        "best": miou,
        "best_epoch": epoch,
        "finished": "",
    }


def add_trial(
    run: RunFolder,
    number: int,
    top: float,
    *,
    epochs: int = 3,
    state: str = "completed",
    started: float = STARTED,
    **values: Any,
) -> TrialRecord:
    """Write a trial as its process and the driver would; state "running" leaves it open."""
    run.begin_trial(number, recipe(**values))
    for epoch in range(1, epochs + 1):
        append_epoch(run.trial_folder(number), metrics(epoch, top, started))
    if state == "running":
        return run.trial(number)
    return run.end_trial(number, state, "max epochs", Objective())


def add_epochs(
    run: RunFolder, number: int, of: Study, lines: Sequence[dict[str, Any]], **values: Any
) -> TrialRecord:
    """Write a completed trial whose epochs have these metrics, the study's objective among them."""
    run.begin_trial(number, recipe(**values))
    for epoch, line in enumerate(lines, start=1):
        append_epoch(run.trial_folder(number), common(epoch) | line)
    return run.end_trial(number, "completed", "max epochs", of.objective)


def common(epoch: int, started: float = STARTED) -> dict[str, Any]:
    """What a line of a history says of any task."""
    own = metrics(epoch, 0.5, started)
    return {k: v for k, v in own.items() if "iou" not in k and k != "pixel_accuracy"}


def add_answers(run: RunFolder, number: int) -> None:
    """Predictions of a classification: the first is right, the second is not."""
    rng = np.random.default_rng(number)
    arrays: dict[str, Any] = {}
    for place, told in enumerate((1, 2)):
        arrays[f"image{place}"] = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        arrays |= {f"label{place}": 1, f"prediction{place}": told, f"probability{place}": 0.75}
    np.savez_compressed(run.trial_folder(number) / "predictions.npz", **arrays)


def add_predictions(run: RunFolder, number: int) -> None:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    label = rng.integers(0, 3, (24, 32), dtype=np.uint8)
    label[:3] = 255
    arrays = {"image0": image, "label0": label, "prediction0": np.where(label == 2, 1, label)}
    arrays["prediction0"] = np.minimum(arrays["prediction0"], 2)
    np.savez_compressed(run.trial_folder(number) / "predictions.npz", **arrays)
