"""The shipped studies in miniature searches, with their documents' techniques switched on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raysearch import evaluate
from raysearch.data.sample import generate
from raysearch.study import load_study
from tests.commands.conftest import Workplace

SMALL: dict[str, dict[str, int]] = {
    "unity": {"sequences": 6, "frames": 2, "side": 64},
    "marine_debris": {"train": 12, "val": 6, "test": 6, "side": 64},
    "food101": {"train": 6, "test": 3, "side": 48},
}
TECHNIQUES: dict[str, list[str]] = {
    "unity": [
        "fixed.loss={cross_entropy: 0.4, focal: 0.2, dice: 0.3, boundary: 0.1}",
        "fixed.mixup_alpha=0.4",
        "fixed.cutmix_alpha=1.0",
        "fixed.label_smoothing=0.1",
        "fixed.batch_size=4",
        "fixed.accumulation=2",
        "fixed.gradient_checkpointing=true",
        "fixed.ema_decay=0.9",
        "fixed.encoder_lr_ratio=0.1",
        "fixed.schedule=warm_restarts",
        "fixed.save_every=1",
        "fixed.boundary_weight=0.2",
        "fixed.image_size=64",
        "fixed.crop_size=64",
    ],
    "marine_debris": [
        "fixed.pixel_weights=true",
        "fixed.clip_norm=1.0",
        "fixed.warmup=0.1",
        "fixed.batch_size=4",
        "fixed.network.dropout=0.2",
    ],
    "food101": [
        "fixed.mixup_alpha=0.2",
        "fixed.cutmix_alpha=1.0",
        "fixed.label_smoothing=0.1",
        "fixed.frozen=0.5",
        "fixed.frozen_learning_rate=0.001",
        "fixed.encoder_lr_ratio=0.1",
        "fixed.network.head=deep",
        "fixed.ema_decay=0.9",
        "fixed.schedule=warm_restarts",
        "fixed.batch_size=8",
        "fixed.image_size=32",
    ],
}


class Place:
    """Runs shipped studies on tiny generated sets."""

    def __init__(self, workplace: Workplace) -> None:
        self.workplace, self.path = workplace, workplace.path

    def tune(self, study: str, *arguments: str, trials: int = 2) -> Path:
        small = json.dumps(SMALL[study])
        changes = [f"sample={small}", "resources.cache=cache", *TECHNIQUES[study]]
        sets = [part for change in changes for part in ("--set", change)]
        common = ("--profile", "quick", "--trials", str(trials), "--epochs", "2", *sets)
        self.told = self.workplace.tune(*common, *arguments, study=study, ensemble=True)
        return (self.path / "results" / study / "latest").resolve()


@pytest.fixture
def place(workplace: Workplace) -> Place:
    return Place(workplace)


def recipe(run: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (run / "trials" / f"{number:04d}" / "recipe.json").read_text()
    )
    return found


def history(run: Path, number: int) -> list[dict[str, Any]]:
    lines = (run / "trials" / f"{number:04d}" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_unity(place: Place) -> None:
    run = place.tune("unity")
    board = pd.read_csv(run / "leaderboard.csv")
    assert set(board["state"]) <= {"completed", "pruned"}
    expected = load_study("unity").objective.expected
    assert {f"iou/{name}" for name in expected} <= set(board.columns)
    assert board["expectations"].str.contains("/8 met").all()
    assert recipe(run, 0)["gradient_checkpointing"] is True
    finished = board[board["state"] == "completed"]["trial"].iloc[0]
    kept = run / "trials" / f"{finished:04d}" / "every"
    assert {path.name for path in kept.iterdir()} == {"epoch-0001", "epoch-0002"}
    assert "accuracy_gap" in history(run, 0)[0]


@pytest.mark.slow
def test_marine_debris_and_a_test_on_other_patches(place: Place) -> None:
    other = generate("marine_debris", place.path / "other", seed=9, sizes=SMALL["marine_debris"])
    run = place.tune("marine_debris", "--test-data", str(other))
    board = pd.read_csv(run / "leaderboard.csv")
    scores = board[["f1", "precision", "recall", "positive_iou", "threshold", "max_probability"]]
    assert scores.notna().all(axis=None)
    assert scores.stack().between(0, 1).all()
    assert recipe(run, 0)["pixel_weights"] is True
    (told,) = run.glob("evaluation-test-*.json")
    found = json.loads(told.read_text())
    assert found["data"] == str(other)
    assert found["images"] == SMALL["marine_debris"]["test"]
    assert found["threshold"] == pytest.approx(board["threshold"].iloc[0], abs=1e-6)
    f1 = found["metrics"]["f1"]
    assert found["metrics"]["positive_iou"] == pytest.approx(f1 / (2 - f1), abs=1e-6)


def test_food101_then_from_its_weights_with_a_teacher(place: Place) -> None:
    first = place.tune("food101")
    board = pd.read_csv(first / "leaderboard.csv")
    assert {"top1", "top5", "balanced_accuracy", "lowest_accuracy"} <= set(board.columns)
    best = first / "trials" / f"{board['trial'].iloc[0]:04d}"
    held_out = json.loads((first / "splits.json").read_text())["val"]
    assert np.load(best / "confusion.npy").sum() == len(held_out)
    assert (best / "confusion.png").is_file()
    assert evaluate.main(["food101"]) == 0
    told = json.loads((first / "test.json").read_text())
    low, high = told["wilson"]["top1"]
    assert low <= told["metrics"]["top1"] <= high

    name = board["architecture"].iloc[0]
    sources = ("--init-from", str(first), "--teacher", str(first))
    second = place.tune("food101", *sources, "--set", f"fixed.architecture={name}", trials=1)
    study = load_study(str(second / "study.yaml"))
    assert study.init_from[name] == best
    assert study.teachers == [best]
    assert "teachers" in place.told
