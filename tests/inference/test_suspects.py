"""Label errors: those that are planted come first, and where trials and labels agree are none."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from raysearch.config import Objective, Study, Task
from raysearch.data import Data, open_data
from raysearch.inference.probabilities import Candidate, Probabilities
from raysearch.inference.suspects import jury, suspects
from raysearch.records.run_folder import RunFolder
from raysearch.records.suspects import read_suspects, write_suspects
from tests.data.voc_miniature import CLASSES, write_plain
from tests.inference.conftest import searched, tiny

TASK, MIOU = Task("segmentation", 3, CLASSES), Objective()
BACKGROUND, CAT, DOG = range(3)
DISC = np.ones((3, 3), np.uint8)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A data set of 18 validation images, every other one of a cat."""
    place = tmp_path_factory.mktemp("suspects")
    return tiny(write_plain(place / "voc", 72), place / "cache")


@pytest.fixture
def run(study: Study, tmp_path: Path) -> RunFolder:
    run = searched(tmp_path / "results", study)
    for number in range(6):
        run.begin_trial(number, study.recipe({}))
    return run


@pytest.fixture
def data(study: Study) -> Data:
    assert study.data.path is not None
    assert study.resources.cache is not None
    return open_data(study.data, study.data.path, study.resources.cache, seed=0)


@pytest.fixture
def masks(data: Data) -> list[Any]:
    """What validation images truly show, if the labels are right: a cat, a dog, a cat, ..."""
    return [np.where(m == 255, 0, m) for m in (data.cache.mask(i) for i in data.indices("val"))]


def said(
    run: RunFolder, number: int, masks: Sequence[Any], sure: float = 0.9, border: bool = True
) -> Probabilities:
    """A trial that is so sure of these masks, and that draws its objects a little larger."""
    path = run.path / f"{number}.npy"
    rows = []
    for mask in masks:
        wide = cv2.dilate(mask, DISC, iterations=number % 2 + border)
        ids = np.where(mask > 0, mask, wide)[None] == np.arange(3)[:, None, None]
        rows.append(np.where(ids, sure, (1 - sure) / 2))
    np.save(path, np.concatenate([row.reshape(-1) for row in rows]).astype(np.float16))
    candidate = Candidate(run.trial_folder(number) / "best", 1, "", 1)
    shapes = tuple(row.shape for row in rows)
    return Probabilities(candidate, path, shapes, {"miou": 0.5 - number / 10}, 0.01)


def test_labels_that_good_trials_confirm_are_not_suspected(
    run: RunFolder, data: Data, masks: list[Any]
) -> None:
    """A border of two pixels around each object is no error."""
    found = [said(run, number, masks) for number in range(3)]
    assert suspects(found, data, TASK, MIOU) == []


def test_planted_errors_come_first(run: RunFolder, data: Data, masks: list[Any]) -> None:
    masks[0][8:24, 6:20] = DOG  # Labelled as a cat.
    masks[1][26:34, 22:34] = CAT  # Not labelled.
    masks[2][:] = BACKGROUND  # Labelled as a cat, and nothing is there.
    found = [said(run, number, masks) for number in range(3)]
    told = {one.name: one for one in suspects(found, data, TASK, MIOU)}
    names = data.splits.val
    assert len(told) == 3
    swapped, missing, empty = (told[name] for name in names[:3])
    assert (swapped.kind, swapped.label, swapped.said) == ("another class", CAT, DOG)
    assert (swapped.pixels, swapped.box) == (16 * 14, (6, 8, 20, 24))
    assert (missing.kind, missing.label, missing.said) == ("not labelled", BACKGROUND, CAT)
    assert 8 * 12 <= missing.pixels <= 12 * 16
    assert (empty.kind, empty.label, empty.said) == ("not seen", CAT, BACKGROUND)
    assert swapped.confidence == pytest.approx(0.9, abs=0.01)
    assert swapped.agreement == 1.0
    assert swapped.score == pytest.approx((0.9 - 0.05) * 16 * 14 / masks[0].size, rel=0.01)
    scores = [one.score for one in suspects(found, data, TASK, MIOU)]
    assert scores == sorted(scores, reverse=True)


def test_a_jury_that_is_of_two_minds_or_unsure_accuses_nobody(
    run: RunFolder, data: Data, masks: list[Any]
) -> None:
    wrong = [mask.copy() for mask in masks]
    wrong[0][8:24, 6:20] = DOG
    split = [said(run, 0, wrong), said(run, 1, wrong), said(run, 2, masks)]
    assert len(suspects(split[:2], data, TASK, MIOU)) == 1
    assert suspects([split[0], split[2]], data, TASK, MIOU) == []
    unsure = [said(run, number, wrong, sure=0.45) for number in range(2)]
    assert suspects(unsure, data, TASK, MIOU) == []
    assert suspects(split[:1], data, TASK, MIOU) == []


def test_ignored_pixels_cannot_be_wrong(run: RunFolder, data: Data, masks: list[Any]) -> None:
    for mask in masks:
        mask[8:24, 20] = DOG  # What the label leaves open.
    found = [said(run, number, masks, border=False) for number in (0, 2)]
    assert suspects(found, data, TASK, MIOU) == []


def test_the_jury_are_different_trials_of_the_better_half(run: RunFolder, masks: list[Any]) -> None:
    found = []
    for number, architecture in enumerate("aabbcc"):
        folder = run.trial_folder(number)
        (folder / "recipe.json").write_text(json.dumps({"architecture": architecture}))
        found.append(said(run, number, masks))
    last = replace(found[0].candidate, place=run.trial_folder(0) / "final")
    found.append(replace(found[0], candidate=last, metrics={"miou": 0.45}))
    assert [one.candidate.trial for one in jury(found[::-1], MIOU, TASK)] == [0, 2, 1]
    lossy = Objective(metric="lowest_iou")  # Which nobody has measured.
    assert jury(found, lossy, TASK) == []


class Foods:
    """Whole images with labels, as `Data` gives them."""

    def __init__(self, labels: Sequence[int]) -> None:
        self.cache, self.splits, self.labels = self, self, labels
        self.val = tuple(f"{place}.jpg" for place in range(len(labels)))
        self.segmented = False

    def indices(self, split: str) -> range:
        return range(len(self.labels))

    def label(self, index: int) -> int:
        return self.labels[index]


def test_a_whole_image_is_judged_by_its_margin(run: RunFolder) -> None:
    labels = [0, 0, 0, 1, 1, 2, 2]
    truth = [0, 0, 1, 1, 1, 2, 0]  # Images 2 and 6 are labelled wrongly, 6 more clearly so.
    shares = [0.8, 0.8, 0.75, 0.7, 0.7, 0.8, 0.95]
    task = Task("classification", 3, ("apple", "bread", "curry"))
    found = []
    for number in range(2):
        rows = np.array(
            [
                np.where(np.arange(3) == k, s, (1 - s) / 2)
                for k, s in zip(truth, shares, strict=True)
            ]
        )
        path = run.path / f"{number}.npy"
        np.save(path, rows.reshape(-1).astype(np.float16))
        candidate = Candidate(run.trial_folder(number) / "best", 1, "", 1)
        found.append(Probabilities(candidate, path, ((3,),) * 7, {"top1": 0.5}, 0.01))
    data: Any = Foods(labels)
    told = suspects(found, data, task, Objective(metric="top1"))
    assert [(one.name, one.label, one.said) for one in told] == [("6.jpg", 2, 0), ("2.jpg", 0, 1)]
    assert told[0].score == pytest.approx(0.95 - 0.025, abs=1e-3)
    assert told[0].box is None


def test_they_are_written_with_pictures(
    run: RunFolder, study: Study, data: Data, masks: list[Any]
) -> None:
    masks[0][8:24, 6:20] = DOG
    found = [said(run, number, masks) for number in range(3)]
    (one,) = write_suspects(run, found, data, study)
    told = read_suspects(run)
    assert told is not None
    assert (told["trials"], told["images"], told["unknown"]) == (["0", "1"], 18, [])
    (row,) = told["suspects"]
    assert (row["image"], row["label"], row["said"]) == (one.name, "cat", "dog")
    assert (row["left"], row["bottom"]) == (6, 24)
    with Image.open(run.path / row["picture"]) as picture:
        assert picture.width > 4 * 250
    table = list(csv.DictReader((run.path / "label_suspects.csv").read_text().splitlines()))
    assert [line["said"] for line in table] == ["dog"]
    blind = [said(run, number, [0 * mask for mask in masks]) for number in range(2)]
    assert write_suspects(run, blind, data, study) == []
    told = read_suspects(run)
    assert told is not None
    assert told["unknown"] == ["cat", "dog"]
    assert list((run.path / "label_suspects").iterdir()) == []
