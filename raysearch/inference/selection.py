"""Greedy selection of an ensemble (Caruana et al. 2004, doi 10.1145/1015330.1015432).

Beginning with the best single candidate, the one is added, again and again and with replacement,
that makes the mean of the probabilities best by the study's metric on validation images. How often
a candidate was taken is its weight. Bagging repeats this on random halves of the candidates and
averages the weights, because one that wins by luck is seldom taken where others stand in for it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from raysearch.config import Objective, Task
from raysearch.data import Data
from raysearch.errors import ConfigError
from raysearch.inference.probabilities import Probabilities, as_logits
from raysearch.inference.scratch import Scratch
from raysearch.inference.tallies import confusions
from raysearch.inference.threads import threads
from raysearch.training.metrics import Metrics, build_metrics

# Of an image's probabilities, so many values are looked at on average, on a regular grid.
VALUES = 2**15
BLOCK = 16
ROUNDS, PATIENCE = 12, 3
BAGS, SEED = 6, 0

Counts = tuple[int, ...]


@dataclass(frozen=True)
class Limits:
    """What an ensemble may cost.

    Attributes:
        members: distinct candidates.
        milliseconds: of all networks on one image, where the candidates were asked.
        gigabytes: of the members' weights.
    """

    members: int = 5
    milliseconds: float | None = None
    gigabytes: float | None = None

    def allow(self, members: Sequence[Probabilities], views: float = 1.0) -> bool:
        """Whether these may answer together, each asked about so many views of an image.

        A view at another scale counts by its area, see `raysearch.inference.tta.cost`.
        """
        time = 1000 * views * sum(one.seconds_per_image for one in members)
        size = sum(one.candidate.size for one in members) / 1e9
        return (
            len(members) <= self.members
            and (self.milliseconds is None or time <= self.milliseconds)
            and (self.gigabytes is None or size <= self.gigabytes)
        )


@dataclass(frozen=True)
class Selection:
    """Weights of each candidate, which sum to 1, and their scores on the images of the grid.

    Attributes:
        greedy: of one selection among all.
        bagged: the mean over selections among halves.
        path: the best score after each round of the selection among all.
    """

    greedy: tuple[float, ...]
    bagged: tuple[float, ...]
    path: tuple[float, ...]


class Scorer:
    """Scores means of candidates' probabilities, by the metric that trials are ranked by.

    All questions of one call are answered in one pass over the images, and remembered.
    """

    def __init__(
        self, found: Sequence[Probabilities], data: Data, split: str, task: Task, metric: str
    ) -> None:
        self.found, self.data, self.task, self.metric = found, data, task, metric
        self.indices = data.indices(split)
        self.known: dict[Counts, float] = {}

    def __call__(self, asked: Iterable[Counts]) -> list[float]:
        """Return the score of each: how often each candidate counts in the mean."""
        wanted = [_reduced(counts) for counts in asked]
        new = list(dict.fromkeys(counts for counts in wanted if counts not in self.known))
        if new:
            self.known |= dict(zip(new, self._measure(new), strict=True))
        return [self.known[counts] for counts in wanted]

    def _measure(self, asked: Sequence[Counts]) -> list[float]:
        weights = torch.tensor(asked, dtype=torch.float32)
        weights /= weights.sum(1, keepdim=True)
        used = weights.any(0).nonzero().flatten().tolist()
        metrics = [build_metrics(self.task) for _ in asked]
        for positions in self._batches():
            said, target = self._said(positions, used)
            flat = said.flatten(1)
            for first in range(0, len(asked), BLOCK):
                rows = slice(first, first + BLOCK)
                means = (weights[rows, used] @ flat).view(-1, *said.shape[1:])
                self._count(metrics[rows], means, target)
        return [one.compute().get(self.metric, math.nan) for one in metrics]

    def _count(self, metrics: Sequence[Metrics], means: Tensor, target: Tensor) -> None:
        if not self.task.binary and self.metric != "top5":
            found = means.max(1 if self.task.segments else 2).indices
            ignored = self.task.ignore_index if self.task.segments else None
            tables = confusions(found, target, self.task.num_classes, ignored)
            for one, counts in zip(metrics, tables, strict=True):
                one.confusion += counts
            return
        # Only a threshold asks for more than the order of the classes.
        logits = as_logits(means) if self.task.binary else means
        for one, mean in zip(metrics, logits, strict=True):
            one.update(mean[None] if self.task.segments else mean, target)

    def _batches(self) -> list[range]:
        """Return the positions that are read together: one mask, or many whole images."""
        count = len(self.indices)
        size = 1 if self.task.segments else max(1, VALUES // self.task.num_classes)
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    def _said(self, positions: range, used: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what candidates say, and the truth.

        Of one mask they are (C, K, h, w) and (h, w), on the grid; of N images (C, N, K) and (N,).
        """
        if not self.task.segments:
            labels = [self.data.cache.label(self.indices[at]) for at in positions]
            return torch.stack([self.found[at].rows(positions) for at in used]), torch.tensor(
                labels
            )
        position = positions[0]
        step = self._step
        mask = self.data.cache.mask(self.indices[position])[step // 2 :: step, step // 2 :: step]
        said = self._grids.read(position, (len(self.found), self.task.num_classes, *mask.shape))
        return torch.from_numpy(said[list(used)].astype(np.float32)), torch.from_numpy(mask.copy())

    @cached_property
    def _step(self) -> int:
        """How far the points of the grid lie apart: the same in all images, whose pixels count
        alike."""
        mean = np.mean([math.prod(shape) for shape in self.found[0].shapes])
        return max(1, math.ceil(math.sqrt(mean / VALUES)))

    @cached_property
    def _grids(self) -> Scratch:
        """Every image's grid of all candidates, so that only that is read again each round."""
        grids = Scratch(self.found[0].path.parent, np.float16)
        for position in range(len(self.indices)):
            grids.add(one.image(position, self._step).numpy() for one in self.found)
        return grids

    @threads(1)
    def disagreement(self, members: Sequence[int]) -> float:
        """Return the share of pixels, or images, that two members tell apart, mean over pairs."""
        pairs = list(combinations(range(len(members)), 2))
        if not pairs:
            return 0.0
        differs, total = 0.0, 0
        for positions in self._batches():
            said, target = self._said(positions, members)
            known = target != self.task.ignore_index if self.task.segments else target == target
            classes = said.argmax(1 if self.task.segments else 2)
            total += int(known.sum()) * len(pairs)
            for one, two in pairs:
                differs += ((classes[one] != classes[two]) & known).sum().item()
        return differs / max(1, total)


@threads(1)
def select(
    scorer: Scorer, objective: Objective, limits: Limits, bags: int = BAGS, seed: int = SEED
) -> Selection:
    """Select an ensemble.

    Raises:
        ConfigError: no single candidate is within the limits.
    """
    found, count = scorer.found, len(scorer.found)
    alone = [at for at in range(count) if limits.allow([found[at]])]
    if not alone:
        fastest = min(one.seconds_per_image for one in found)
        smallest = min(one.candidate.size for one in found)
        raise ConfigError(
            f"no trial is within the limits; the fastest takes {1000 * fastest:.3g} ms an image, "
            f"the smallest {smallest / 1e9:.3g} GB; raise them"
        )
    random = np.random.default_rng(seed)
    halves = [random.permutation(alone)[: max(1, (len(alone) + 1) // 2)] for _ in range(bags)]
    pools = [alone, *([int(at) for at in half] for half in halves)]

    def allowed(counts: Counts) -> bool:
        return limits.allow([found[at] for at in range(count) if counts[at]])

    walks = [_Walk(sorted(pool), count) for pool in pools]
    _walk(walks, scorer, objective.better, allowed)
    greedy, bagged = (_share(walks[0].best), [_share(walk.best) for walk in walks[1:]])
    mean = tuple(np.mean(bagged, axis=0).tolist()) if bagged else greedy
    return Selection(greedy, _within(mean, allowed), tuple(walks[0].path))


class _Walk:
    """One selection under way: who was taken how often, and the best on the way."""

    def __init__(self, pool: Sequence[int], count: int) -> None:
        self.pool = pool
        self.counts: Counts = (0,) * count
        self.best: Counts = self.counts
        self.score: float | None = None
        self.path: list[float] = []
        self.idle = 0

    def steps(self, allowed: Callable[[Counts], bool]) -> list[Counts]:
        if self.idle >= PATIENCE:
            return []
        return [step for at in self.pool if allowed(step := _with(self.counts, at))]


def _walk(
    walks: Sequence[_Walk],
    scorer: Scorer,
    better: Callable[[float, float | None], bool],
    allowed: Callable[[Counts], bool],
) -> None:
    """Let all selections take each round together, so that images are read once a round."""
    for _ in range(ROUNDS):
        steps = [walk.steps(allowed) for walk in walks]
        scores = iter(scorer([step for own in steps for step in own]))
        for walk, own in zip(walks, steps, strict=True):
            taken: tuple[float, Counts] | None = None
            for step in own:
                score = next(scores)
                if better(score, taken[0] if taken else None):
                    taken = score, step
            if taken is None:
                walk.idle = PATIENCE
                continue
            score, walk.counts = taken
            if better(score, walk.score):
                walk.score, walk.best, walk.idle = score, walk.counts, 0
            else:
                walk.idle += 1
            walk.path.append(walk.score)  # type: ignore[arg-type]


def _with(counts: Counts, at: int) -> Counts:
    return (*counts[:at], counts[at] + 1, *counts[at + 1 :])


def _reduced(counts: Counts) -> Counts:
    """Return the smallest counts with the same shares."""
    divisor = math.gcd(*counts)
    return tuple(count // divisor for count in counts) if divisor else counts


def _share(counts: Counts) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(count / max(1, total) for count in counts)


def _within(weights: Sequence[float], allowed: Callable[[Counts], bool]) -> tuple[float, ...]:
    """Keep the greatest weights that are allowed together; they sum to 1 again."""
    kept: Counts = (0,) * len(weights)
    for at in sorted(range(len(weights)), key=lambda at: -weights[at]):
        if weights[at] > 0 and allowed(more := _with(kept, at)):
            kept = more
    total = sum(weight for weight, one in zip(weights, kept, strict=True) if one)
    return tuple(w / total if one else 0.0 for w, one in zip(weights, kept, strict=True))
