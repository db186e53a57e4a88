"""Measure several models on the same images in one pass, image by image, at native size."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from raysearch.data import Data
from raysearch.data.batch import as_tensor
from raysearch.inference.calibration import (
    calibration_error,
    negative_log_likelihood,
    reliability,
)
from raysearch.inference.models import Model, view
from raysearch.inference.postprocess import postprocess
from raysearch.inference.probabilities import Probabilities, as_logits
from raysearch.inference.tallies import Tallies, confusions
from raysearch.inference.threads import threads
from raysearch.inference.tta import IDENTITY
from raysearch.training.metrics import build_metrics
from raysearch.training.trained import Trained

PIXELS, ALL_PIXELS = 2048, 2**20  # Calibration looks at so many of an image, and of all images.
BATCH = 32  # Of classified images.
ROUNDS = 3  # Of trying how many threads are best.


class Source(Protocol):
    """Where answers come from.

    Attributes:
        step: of masks, every so manyth row and column is answered, from the middle of the first.
    """

    step: int

    def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        """Return a member's logits (N, K, ...) of a view of the images at places in the cache.

        Masks are asked about one image at a time.
        """

    def per_image(self, model: Model) -> float | None:
        """Return the seconds of a model on one image; None where no network was asked."""


@dataclass(frozen=True)
class Measured:
    """What a model is worth on one split.

    Attributes:
        metrics: as in training; of a model without a threshold, at the one of the best F1; of one
            that cleans masks, those of its masks.
        tallies: by image, for intervals; of a two-class model, at its threshold.
        confusion: (K, K), rows true classes.
        calibration_error, nll: expected calibration error and negative log-likelihood, of evenly
            spaced pixels.
        seconds_per_image: of reading nothing, preparing the image and asking every member about
            every view; None where answers came from the disk.
        reliability: see `raysearch.inference.calibration.reliability`, of the same pixels.
    """

    metrics: dict[str, float]
    tallies: Tallies
    confusion: NDArray[np.int64]
    calibration_error: float
    nll: float
    seconds_per_image: float | None
    reliability: list[list[float]] = field(default_factory=list)


class Asked:
    """Logits from the networks themselves, and how long each took."""

    def __init__(self, data: Data, device: torch.device) -> None:
        self.data, self.device, self.step = data, device, 1
        self.most = torch.get_num_threads()
        self.threads: dict[Path, int] = {}
        self.seconds: dict[tuple[Path, str], list[float]] = defaultdict(list)

    def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        images = [as_tensor(self.data.cache.image(index)) for index in indices]
        if member.place not in self.threads:
            self.threads[member.place] = self._fastest(member, images)
        began = time.perf_counter()
        with threads(self.threads[member.place]):
            logits = view(member, images, name)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = (time.perf_counter() - began) / len(indices)
        self.seconds[member.place, name].append(seconds)
        return logits

    def _fastest(self, member: Trained, images: Sequence[Tensor]) -> int:
        """Return how many threads answer soonest: small networks on busy cores, one."""
        if self.device.type != "cpu" or self.most == 1:
            return self.most
        view(member, images, IDENTITY)  # The first answer always takes longer.
        seconds: dict[int, float] = {}
        for count in (1, self.most):
            began = time.perf_counter()
            with threads(count):
                for _ in range(ROUNDS):
                    view(member, images, IDENTITY)
            seconds[count] = time.perf_counter() - began
        return min(seconds, key=lambda count: seconds[count])

    def per_image(self, model: Model) -> float:
        """Return the sum of the medians of the model's networks and views."""
        pairs = [(member.place, name) for member in model.members for name in model.tta]
        return sum(median(self.seconds[pair]) for pair in pairs)


class Stored:
    """Logits from the disk, of images as they are."""

    def __init__(
        self, found: Mapping[Path, Probabilities], data: Data, split: str, step: int = 1
    ) -> None:
        self.found, self.step = found, step
        self.positions = {index: at for at, index in enumerate(data.indices(split))}

    def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        if name != IDENTITY:
            raise ValueError(f"{name} is not kept on disk")
        found = self.found[member.place]
        images = [found.image(self.positions[index], self.step) for index in indices]
        return as_logits(torch.cat(images))

    def per_image(self, model: Model) -> None:
        return None


@torch.inference_mode()
@threads(1)
def measure(
    models: Mapping[str, Model],
    data: Data,
    split: str,
    source: Source,
    seen: Callable[[str, Tensor], None] = lambda name, classes: None,
) -> dict[str, Measured]:
    """Measure models that share members: each member is asked once about each view of an image.

    Memory holds the answers of one image, or of a batch of classified ones.

    Args:
        seen: is told each model's class ids, int64 (1, H, W) or (N,), in the order of the split.
    """
    meters = {name: _Meter(model, len(data.indices(split))) for name, model in models.items()}
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, model in models.items():
        groups[_mixing(model)].append(name)
    asked = [models[names[0]] for names in groups.values()]
    for indices in _batches(data, split):
        target = target_of(data, indices, source.step)
        for names, said in zip(groups.values(), _mix(asked, indices, source), strict=True):
            for name in names:
                seen(name, meters[name].update(said, target.to(said.device)))
    return {name: m.measured(source.per_image(m.model)) for name, m in meters.items()}


@threads(1)
def measure_masks(
    model: Model, plain: Measured, masks: Iterable[NDArray[np.uint8]], data: Data, split: str
) -> Measured:
    """Measure a model that cleans masks, from those that it is known to give before: no network is
    asked again.

    Args:
        plain: what the model is worth without post-processing; its probabilities are the same.
        masks: (H, W) of each image of the split, not cleaned.
    """
    meter = _Meter(model, 0)
    for mask, index in zip(masks, data.indices(split), strict=True):
        cleaned = torch.from_numpy(postprocess(mask, model.postprocessing))
        meter.count(cleaned.long()[None], target_of(data, [index]))
    metrics, confusion = meter.metrics.compute(), meter.metrics.total().numpy()
    return replace(plain, metrics=metrics, tallies=meter.tallies, confusion=confusion)


def target_of(data: Data, indices: Sequence[int], step: int = 1) -> Tensor:
    """Return the class ids of images, int64 (N,), or of one image's pixels, (1, H, W).

    Args:
        step: see `Source`.
    """
    if not data.cache.segmented:
        return torch.tensor([data.cache.label(index) for index in indices])
    masks = [data.cache.mask(index)[step // 2 :: step, step // 2 :: step] for index in indices]
    return torch.from_numpy(np.stack(masks)).long()


def _batches(data: Data, split: str) -> list[tuple[int, ...]]:
    indices, size = data.indices(split), 1 if data.cache.segmented else BATCH
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def _mixing(model: Model) -> tuple[Any, ...]:
    """What a model's probabilities follow from."""
    places = tuple(member.place for member in model.members)
    return places, model.weights, model.vote, model.tta, model.temperature


def _mix(models: Sequence[Model], indices: Sequence[int], source: Source) -> list[Tensor]:
    """Return each model's probabilities, (N, K, ...)."""
    members = {m.place: m for model in models for m in model.members}
    sums: list[Tensor | None] = [None] * len(models)
    for place, member in members.items():
        asking = [m for m in models if place in {one.place for one in m.members}]
        names = dict.fromkeys(name for model in asking for name in model.tta)
        logits = {name: source(member, name, indices) for name in names}
        softened: dict[Any, Tensor] = {}
        says: dict[Any, Tensor] = {}
        for at, model in enumerate(models):
            for own, weight in zip(model.members, model.weights, strict=True):
                if own.place != place:
                    continue
                for name in model.tta:
                    if (name, model.temperature) not in softened:
                        softened[name, model.temperature] = model.softened(logits[name])
                how = (model.vote, model.tta, model.temperature)
                if how not in says:
                    views = {name: softened[name, model.temperature] for name in model.tta}
                    says[how] = model.say(views)
                before = sums[at]
                added = weight * says[how]
                sums[at] = added if before is None else before.add_(added)
    totals = [one for one in sums if one is not None]
    return [model.settled(total) for model, total in zip(models, totals, strict=True)]


class _Meter:
    """Everything that is counted for one model."""

    def __init__(self, model: Model, images: int) -> None:
        self.model, self.task = model, model.task
        self.metrics = build_metrics(model.task, "cpu", threshold=model.threshold)
        self.tallies = Tallies(model.task, model.threshold)
        self.pixels = min(PIXELS, max(1, ALL_PIXELS // max(1, images))) if self.task.segments else 1
        self.said = Rows(images * self.pixels, self.task.num_classes)
        self.truth = Rows(images * self.pixels)

    def update(self, said: Tensor, target: Tensor) -> Tensor:
        """Count images, probabilities (N, K, ...) and the truth (N, ...); return the class ids."""
        pixels, truth = sample(said, target, self.pixels, self.task.ignore_index)
        self.said.add(pixels)
        self.truth.add(truth)
        classes = self.model.classes(said)
        if self.task.segments and (self.model.postprocessing or not self.task.binary):
            self.count(classes, target)
        else:
            self._count_probabilities(said, target)
        return classes

    def count(self, classes: Tensor, target: Tensor) -> None:
        """Count masks (N, H, W) of class ids that are decided already."""
        if self.task.binary:
            self._count_probabilities(one_hot(classes, 2).movedim(-1, 1).float(), target)
            return
        for one, truth in zip(classes.split(1), target, strict=True):
            (counts,) = confusions(one, truth, self.task.num_classes, self.task.ignore_index)
            self.metrics.confusion += counts.cpu()
            self.tallies.count(counts)

    def _count_probabilities(self, said: Tensor, target: Tensor) -> None:
        logits = as_logits(said)
        self.metrics.update(logits, target)
        for one, truth in zip(logits.split(1), target, strict=True):
            self.tallies.update(one, truth)

    def measured(self, seconds: float | None) -> Measured:
        said, truth = self.said.values(), self.truth.values().long()
        return Measured(
            self.metrics.compute(),
            self.tallies,
            self.metrics.total().numpy(),
            calibration_error(said, truth),
            negative_log_likelihood(said, truth),
            seconds,
            reliability(said, truth),
        )


class Rows:
    """Rows that are gathered in one piece of memory.

    Many small pieces between the large ones of whole images would keep the allocator from giving
    those back.
    """

    def __init__(self, most: int, *shape: int) -> None:
        self.all = torch.empty(most, *shape)
        self.count = 0

    def add(self, rows: Tensor) -> None:
        self.all[self.count : self.count + len(rows)] = rows
        self.count += len(rows)

    def values(self) -> Tensor:
        return self.all[: self.count]


def sample(said: Tensor, target: Tensor, pixels: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return rows (P, K) and ids (P,): of whole images all, of one image evenly spaced pixels.

    Args:
        said: (N, K), or (1, K, H, W).
        target: (N,), or (1, H, W), of which ignored pixels are left out.
    """
    if target.dim() == 1:
        return said, target
    rows, truth = said[0].flatten(1), target.flatten()
    step = -(-len(truth) // pixels)
    rows, truth = rows[:, step // 2 :: step].T, truth[step // 2 :: step]
    known = truth != ignore_index
    return rows[known], truth[known]
