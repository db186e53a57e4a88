"""Label errors: where good and different trials agree with each other against the label.

Nothing is trained or asked for it: the probabilities of a search's candidates lie on the disk. The
jury are the better half of the trials, one checkpoint each. As in confident learning (Northcutt et
al. 2021, https://arxiv.org/abs/1911.00068), a class is believed where its probability is at least
what it has, on average, where it is the label; here three quarters of the jury must say so too.
Regions of masks are only judged between classes that the jury knows, with an IoU of at least 0.65
on these images. A weak network draws every object too small or too large, and would accuse each
label of the contrary.

Whole images are ranked by the normalised margin, regions by it times their area.
"""

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.config import Objective, Task
from raysearch.data import Data
from raysearch.inference.choose import measurable
from raysearch.inference.compare import target_of
from raysearch.inference.probabilities import Probabilities

SPLIT = "val"
JURORS, FEWEST = 7, 2
AGREED = 0.75  # Of the jury, at least.
SURE = 0.5  # Least probability to believe, however unsure the trials are of a class elsewhere.
KNOWN = 0.65  # Least IoU of a class of pixels to judge its labels.
STEP = 8  # Rows and columns of masks that the mean confidence of a class is taken of.
SEEN = 0.1  # Of an object: below this share of its pixels it is not seen, or not labelled.
BAND = 64  # Images are so many times as wide as half of the widest border that is no error.
LEAST_SHARE, LEAST_PIXELS = 0.0002, 8  # Of an image: smaller objects are not told.

Kind = Literal["another class", "not seen", "not labelled"]
Region = NDArray[np.bool_]


@dataclass(frozen=True)
class Suspect:
    """An image, or a region of one, whose label is probably wrong.

    Attributes:
        name: of the sample; `position` in its split.
        kind: labelled as another class than is said; labelled where only background is said; or
            background where something is said.
        label, said: class ids.
        confidence: mean probability of what is said.
        agreement: share of the jury that says it.
        pixels: of the region; 0 of a whole image.
        box: left, top, right and bottom in pixels, the latter two outside; None of a whole image.
        score: 0..1, the margin of what is said over the label, times the region's share of the
            image.
    """

    name: str
    split: str
    position: int
    kind: Kind
    label: int
    said: int
    confidence: float
    agreement: float
    pixels: int
    box: tuple[int, int, int, int] | None
    score: float


@dataclass(frozen=True)
class Verdict:
    """What a jury says of one image.

    Attributes:
        mean: probabilities (K, H, W) float32, or (K,) of a whole image.
        votes: each juror's likeliest class, (J, H, W), or (J,).
    """

    mean: NDArray[np.float32]
    votes: NDArray[np.intp]

    @property
    def said(self) -> NDArray[np.intp]:
        """The likeliest class on average, (H, W), or ()."""
        return self.mean.argmax(0)

    @property
    def agreement(self) -> NDArray[np.float64]:
        """Share of the jurors that say so too, (H, W), or ()."""
        share: NDArray[np.float64] = (self.votes == self.said).mean(0)
        return share

    def of(self, classes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the mean probability of a class at each place."""
        return np.take_along_axis(self.mean, classes[None].astype(np.intp), 0)[0]


@dataclass(frozen=True)
class Knowledge:
    """What a jury knows of the classes, (K,) each.

    Attributes:
        confidence: the mean probability of a class where it is the label.
        judged: whether its labels can be judged.
    """

    confidence: NDArray[np.float64]
    judged: NDArray[np.bool_]


def jury(found: Sequence[Probabilities], objective: Objective, task: Task) -> list[Probabilities]:
    """Return the better half of the trials, at most 7: the best of each architecture come first.

    Empty where fewer than two trials are there: one trial agrees with itself.
    """
    by = measurable(objective, task)
    scored = [one for one in found if one.metrics.get(by.metric) is not None]
    scored.sort(key=lambda one: one.metrics[by.metric], reverse=by.mode == "max")
    ranked = _firsts(scored, lambda one: one.candidate.place.parent)
    if len(ranked) < FEWEST:
        return []
    better = ranked[: max(FEWEST, -(-len(ranked) // 2))]
    first = _firsts(better, _architecture)
    return [*first, *(one for one in better if one not in first)][:JURORS]


def _firsts(
    ranked: Sequence[Probabilities], kind: Callable[[Probabilities], Hashable]
) -> list[Probabilities]:
    """The first one of each kind."""
    seen: dict[Hashable, Probabilities] = {}
    for one in ranked:
        seen.setdefault(kind(one), one)
    return list(seen.values())


def _architecture(one: Probabilities) -> str:
    recipe = json.loads((one.candidate.place.parent / "recipe.json").read_text(encoding="utf-8"))
    return str(recipe["architecture"])


def ask(jurors: Sequence[Probabilities], position: int, step: int = 1) -> Verdict:
    """Return what a jury says of the image at a position of the split."""
    mean, votes = torch.zeros(()), []
    for juror in jurors:
        said = juror.image(position, step)[0]
        mean = mean + said / len(jurors)
        votes.append(said.argmax(0).numpy())
    return Verdict(mean.numpy(), np.stack(votes))


def suspects(
    found: Sequence[Probabilities], data: Data, task: Task, objective: Objective
) -> list[Suspect]:
    """Return images, or regions of them, that are probably mislabelled, worst first.

    Memory holds what the jury says of one image.

    Args:
        found: candidates whose answers on validation are on the disk.
    """
    jurors = jury(found, objective, task)
    return accused(jurors, knowledge(jurors, data, task), data, task) if jurors else []


def knowledge(jurors: Sequence[Probabilities], data: Data, task: Task) -> Knowledge:
    """Measure what a jury knows of each class; of masks on every 8th row and column."""
    total = np.zeros(task.num_classes)
    counts = np.zeros((task.num_classes, task.num_classes))
    for position, index in enumerate(data.indices(SPLIT)):
        label = target_of(data, [index], STEP)[0].numpy().reshape(-1)
        mean = ask(jurors, position, STEP).mean.reshape(task.num_classes, -1)
        for truth in range(task.num_classes):
            here = mean[:, label == truth]
            total[truth] += here[truth].sum()
            counts[truth] += np.bincount(here.argmax(0), minlength=task.num_classes)
    right, labelled, said = counts.diagonal(), counts.sum(1), counts.sum(0)
    iou = right / np.maximum(1, labelled + said - right)
    judged = iou >= KNOWN if task.segments else np.ones(task.num_classes, bool)
    return Knowledge(total / np.maximum(1, labelled), judged)


def accused(
    jurors: Sequence[Probabilities], known: Knowledge, data: Data, task: Task
) -> list[Suspect]:
    """Return what a jury that knows so much suspects, worst first."""
    least = np.maximum(SURE, known.confidence)
    told: list[Suspect] = []
    names = getattr(data.splits, SPLIT)
    for position, (name, index) in enumerate(zip(names, data.indices(SPLIT), strict=True)):
        verdict, label = ask(jurors, position), target_of(data, [index])[0].numpy()
        if not task.segments:
            told += _of_image(verdict, label, least, name, position)
            continue
        regions = _regions(verdict, label, least, task.ignore_index)
        told += (_of_region(verdict, label, region, name, position) for region in regions)
    told = [one for one in told if known.judged[one.label] and known.judged[one.said]]
    return sorted(told, key=lambda one: -one.score)


def _of_image(
    verdict: Verdict, label: NDArray[np.int64], least: NDArray[np.float64], name: str, position: int
) -> Iterator[Suspect]:
    said, truth = int(verdict.said), int(label)
    sure, share = float(verdict.mean[said]), float(verdict.agreement)
    if said == truth or share < AGREED or sure < least[said]:
        return
    margin = sure - float(verdict.mean[truth])
    yield Suspect(name, SPLIT, position, "another class", truth, said, sure, share, 0, None, margin)


def _regions(
    verdict: Verdict, label: NDArray[np.int64], least: NDArray[np.float64], ignored: int
) -> Iterator[Region]:
    """Regions of one label and one other class that is said: whole objects, then parts.

    Parts are opened, so that a border around an object, up to a 32nd of the image wide, is none.
    """
    said, agreed = verdict.said, verdict.agreement >= AGREED
    believed = verdict.of(said)
    sure = agreed & (believed >= least[said]) & (label != ignored)
    told = np.zeros(label.shape, bool)
    unseen = _unseen(verdict, label, agreed & (believed >= SURE), ignored)
    for region in (*unseen, *_unlabelled(said, label, sure)):
        if not told[region].any():
            told |= region
            yield region
    radius = max(2, round(label.size**0.5 / BAND))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    wrong = sure & (said != label) & ~told
    for truth, other in np.unique(np.stack([label[wrong], said[wrong]]), axis=1).T:
        here = (wrong & (label == truth) & (said == other)).astype(np.uint8)
        yield from _components(cv2.morphologyEx(here, cv2.MORPH_OPEN, disc) > 0)


def _unseen(
    verdict: Verdict, label: NDArray[np.int64], agreed: Region, ignored: int
) -> Iterator[Region]:
    """Labelled objects of which hardly a pixel is seen by any juror, where the jury agrees."""
    for truth in np.unique(label[(label > 0) & (label != ignored)]):
        for region in _components(label == truth):
            seen = (verdict.votes[:, region] == truth).mean(1).max()
            instead = region & agreed & (verdict.said == _commonest(verdict.said[region]))
            if seen < SEEN and instead.sum() >= AGREED * region.sum():
                yield instead


def _unlabelled(said: NDArray[np.intp], label: NDArray[np.int64], sure: Region) -> Iterator[Region]:
    """Objects that are surely seen, and of which hardly a pixel is labelled so."""
    for other in np.unique(said[sure & (said > 0)]):
        for region in _components(sure & (said == other)):
            if (label[region] == other).mean() < SEEN:
                yield region & (label == _commonest(label[region]))


def _components(mask: Region) -> Iterator[Region]:
    """The 8-connected regions of a mask that are large enough to tell of."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    least = max(LEAST_PIXELS, LEAST_SHARE * mask.size)
    for region in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least) + 1:
        yield regions == region


def _commonest(classes: NDArray[np.integer]) -> int:
    return int(np.bincount(classes).argmax())


def _of_region(
    verdict: Verdict, label: NDArray[np.int64], region: Region, name: str, position: int
) -> Suspect:
    truth, said = _commonest(label[region]), _commonest(verdict.said[region])
    rows, columns = np.nonzero(region)
    box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    sure = float(verdict.mean[said][region].mean())
    margin = max(0.0, sure - float(verdict.mean[truth][region].mean()))
    pixels = int(region.sum())
    kind: Kind = "not labelled" if truth == 0 else "not seen" if said == 0 else "another class"
    share = float((verdict.votes[:, region] == said).mean())
    score = margin * pixels / region.size
    return Suspect(name, SPLIT, position, kind, truth, said, sure, share, pixels, box, score)
