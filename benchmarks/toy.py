"""Toy trials: they reserve, report and write what real ones do, but train nothing, without torch.

They run through the same search, with its journal, ASHA, records and retention. A worker of the
launcher `inline` is Tune's own; those of `train` are tasks in a placement group like Ray Train's,
without its process group.
"""

import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysearch.cluster import SETTINGS, Slots
from raysearch.config import Resources, Study
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord
from raysearch.training.history import append_epoch

CLASSES = ("background", "cat", "dog", "fox")
GATHERED_SECONDS = 120.0


def join(address: str, **counted: int) -> None:
    """Join Ray as a search does, or start it ("local") with CPUs and GPUs that are only counted."""
    os.environ.update(SETTINGS)
    local = {"include_dashboard": False} if address == "local" else {}
    ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local, **counted)


def toy_study(trials: int, epochs: int, resources: Resources | None = None) -> Study:
    """Two kinds of trials and five searched values."""
    return Study.model_validate({
        "name": "toy",
        "data": {"format": "voc", "classes": list(CLASSES)},
        "networks": {"small": {"type": "unet", "width": 4}, "large": {"type": "unet", "width": 8}},
        "space": {
            "architecture": ["small", "large"],
            "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            "batch_size": [4, 8, 16],
            "loss": ["focal", "focal + dice"],
        },
        "fixed": {"crop_size": 32},
        "budget": {"trials": trials, "epochs": epochs},
        "resources": (resources or Resources()).model_dump(),
    })  # fmt: skip


@dataclass(frozen=True)
class Toy:
    """What a toy trial does.

    Attributes:
        trials: the folder of all trials.
        seconds: of an epoch.
        gathered: so many first trials wait for each other, which proves that they fit at once.
    """

    trials: Path
    slots: Slots
    epochs: int
    seconds: float
    gathered: int = 0

    def folder(self, config: dict[str, Any]) -> Path:
        return self.trials / f"{config['number']:04d}"

    def gather(self, config: dict[str, Any]) -> None:
        """Wait until the first trials run side by side."""
        if config["number"] >= self.gathered:
            return
        (self.folder(config) / "here").touch()
        deadline = time.monotonic() + GATHERED_SECONDS
        while len(list(self.trials.glob("*/here"))) < self.gathered:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {self.gathered} trials run at once")
            time.sleep(0.05)


def inline(toy: Toy) -> Callable[[dict[str, Any]], None]:
    """Return the Tune trainable of one-worker trials, as `raysearch.search.trial` makes it."""
    made = tune.with_parameters(run_inline, toy=toy)
    return tune.with_resources(made, {"cpu": toy.slots.cpus, "gpu": toy.slots.gpus})


def train(toy: Toy) -> Callable[[dict[str, Any]], None]:
    """Return the Tune trainable of trials that reserve their workers themselves, as Train does."""
    driver = tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}])
    return tune.with_resources(tune.with_parameters(run_train, toy=toy), driver)


def run_inline(config: dict[str, Any], toy: Toy) -> None:
    began = time.time()
    toy.gather(config)
    for epoch in range(1, toy.epochs + 1):
        time.sleep(toy.seconds)
        report(config, toy, epoch, began)


def run_train(config: dict[str, Any], toy: Toy) -> None:
    with reserved(toy.slots) as group:
        began = time.time()
        toy.gather(config)
        for epoch in range(1, toy.epochs + 1):
            ray.get([one.remote(toy.seconds) for one in workers(toy.slots, group)])
            report(config, toy, epoch, began)


@contextmanager
def reserved(slots: Slots) -> Iterator[PlacementGroup]:
    """Hold the placement group that Ray Train would ask for."""
    bundle = {"CPU": float(slots.cpus)} | ({"GPU": slots.gpus} if slots.gpus else {})
    group = placement_group([bundle] * slots.workers, strategy="PACK")
    try:
        ray.get(group.ready())
        yield group
    finally:
        remove_placement_group(group)


def busy(seconds: float) -> None:
    """What a worker does in an epoch."""
    time.sleep(seconds)


def workers(slots: Slots, group: PlacementGroup) -> list[Any]:
    return [
        ray.remote(busy).options(
            num_cpus=slots.cpus,
            num_gpus=slots.gpus,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
        )
        for rank in range(slots.workers)
    ]


def report(config: dict[str, Any], toy: Toy, epoch: int, began: float) -> None:
    """Write an epoch and a checkpoint into the trial's folder, and report to Tune."""
    metrics = told(config, toy, epoch, began)
    append_epoch(toy.folder(config), metrics)
    best = toy.folder(config) / "best" / f"epoch-{epoch:04d}"
    best.mkdir(parents=True, exist_ok=True)
    (best / "weights.safetensors").write_bytes(bytes(10_000))
    tune.report(metrics)


def told(config: dict[str, Any], toy: Toy, epoch: int, began: float) -> dict[str, Any]:
    """The metrics of an epoch, as many as a small study has; best at a learning rate of 0.01."""
    recipe = config["recipe"]
    off = abs(math.log10(recipe["learning_rate"]) + 2) / 4
    noise = random.Random(f"{config['number']} {epoch}").uniform(-0.02, 0.02)
    value = (0.9 - off) * (1 - 0.5**epoch) + noise
    return {
        "epoch": epoch, "began": began, "time": time.time(), "parameters": 1000,
        "loss": 1 - value, "val_loss": 1.1 - value, "gap": -0.1, "train_accuracy": value,
        "accuracy_gap": 0.0, "learning_rate": recipe["learning_rate"], "images_per_second": 100.0,
        "train_seconds": toy.seconds * 0.9, "data_seconds": 0.0, "data_wait_share": 0.0,
        "validation_seconds": toy.seconds * 0.1, "validation_data_seconds": 0.0,
        "miou": value, "pixel_accuracy": value, "lowest_iou": value, "collapsed": 0.0,
        **{f"iou/{name}": value for name in CLASSES},
        "peak_memory_mb": 100.0, "best": value, "best_epoch": epoch, "reached": "",
        "finished": "max epochs" if epoch == toy.epochs else "",
    }  # fmt: skip


@dataclass(frozen=True)
class Stay:
    """When a trial was handed out, ran its first and last moment, and was over (Unix seconds)."""

    handed: float
    began: float
    left: float
    ended: float


class Stays(Listener):
    """Notes when each trial was handed out and over."""

    def __init__(self) -> None:
        self.handed: dict[int, float] = {}
        self.ended: dict[int, float] = {}

    def trial_started(self, record: TrialRecord) -> None:
        self.handed[record.number] = time.time()

    def trial_ended(self, record: TrialRecord) -> None:
        self.ended[record.number] = time.time()

    def of(self, run: RunFolder) -> list[Stay]:
        """Return the stays of all trials that ran, by number."""
        return [
            Stay(
                self.handed[record.number], record.history[0]["began"],
                record.history[-1]["time"], self.ended[record.number],
            )
            for record in run.trials() if record.history
        ]  # fmt: skip


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return how many spans of (begin, end) overlap where most do."""
    moments = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most
