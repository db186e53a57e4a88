"""Choose a model on validation images: members, vote, views, temperature, post-processing.

Nothing is kept that does not help there, and nothing here sees a test image. The more is compared
on few images, the more of what seems to help does so by chance: `Chosen.tried` counts it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from raysearch.config import Objective, Task
from raysearch.data import Data
from raysearch.data.batch import as_tensor
from raysearch.inference.calibration import held_out_gain
from raysearch.inference.compare import (
    Asked,
    Measured,
    Rows,
    Source,
    Stored,
    measure,
    measure_masks,
    sample,
    target_of,
)
from raysearch.inference.models import Model, view
from raysearch.inference.postprocess import STAGES, How, described
from raysearch.inference.probabilities import Probabilities
from raysearch.inference.scratch import Scratch
from raysearch.inference.selection import Limits, Scorer, Selection, select
from raysearch.inference.threads import threads
from raysearch.inference.tta import IDENTITY, SETS, Views, cost
from raysearch.training.trained import Trained, load_trained

SPLIT = "val"
SINGLE, ENSEMBLE, TTA = "single", "ensemble", " + TTA"
MODEL = "model"
VALUES = 2**24  # Logits that the temperature is fitted to.
PIXELS = 2**14  # Of an image, about, that members are compared on.

Say = Callable[[str], None]
Viewing = tuple[str, ...]
PLAIN: Viewing = (IDENTITY,)
Name = TypeVar("Name", str, Viewing)


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and by which figures.

    Attributes:
        objective: what figures were compared by.
        model: the one to be used.
        rows: single, single + TTA, ensemble and ensemble + TTA, at temperature 1 and without
            post-processing; the TTA is the best that was tried, also where it does not help.
        validation: of each row, and of `model`.
        tried: for each decision the objective of each choice; of the temperature, the gain in
            negative log-likelihood; under "compared" how many choices each decision was among, and
            on how many images.
        diversity: mean disagreement of two members.
    """

    objective: Objective
    model: Model
    rows: dict[str, Model]
    validation: dict[str, Measured]
    tried: dict[str, dict[str, float]]
    selection: Selection
    diversity: float


def measurable(objective: Objective, task: Task) -> Objective:
    """Return the objective, or the task's headline where it can only be measured in training."""
    classes = {f"{task.by_class}/{name}" for name in task.classes}
    if objective.metric in {*task.scores, *classes} - {"threshold", "max_probability"}:
        return objective
    return Objective(metric=task.headline)


def choose(
    found: Sequence[Probabilities],
    data: Data,
    task: Task,
    objective: Objective,
    limits: Limits,
    device: torch.device,
    say: Say = lambda text: None,
    views: Views | None = None,
) -> Chosen:
    """Choose among candidates whose answers on validation images are on disk.

    Args:
        views: what is tried beside the fixed sets of views; nothing, unless it says so.

    Raises:
        ConfigError: no candidate is within the limits, or a scale makes no sense.
    """
    objective = measurable(objective, task)
    views = views or Views()
    return _Chooser(found, data, task, objective, limits, device, say, views).choose()


class _Chooser:
    """One choice under way: each step narrows the model and notes what it compared."""

    def __init__(
        self,
        found: Sequence[Probabilities],
        data: Data,
        task: Task,
        objective: Objective,
        limits: Limits,
        device: torch.device,
        say: Say,
        views: Views,
    ) -> None:
        self.found, self.data, self.task, self.views = found, data, task, views
        self.objective, self.limits, self.device, self.say = objective, limits, device, say
        self.of_place = {one.candidate.place: one for one in found}
        self.loaded: dict[Path, Trained] = {}
        self.tried: dict[str, dict[str, float]] = {}

    def choose(self) -> Chosen:
        scorer = Scorer(self.found, self.data, SPLIT, self.task, self.objective.metric)
        self.say(f"selecting among {len(self.found)} candidates")
        selection = select(scorer, self.objective, self.limits)
        single, ensemble = self._members(selection)
        self.say("trying test-time augmentation")
        alone, together = self._with_views(single, ensemble, self._sets(single, ensemble))
        rows, validation = _rows(alone, together)
        values = {name: self._value(validation[name]) for name in rows if name.startswith(ENSEMBLE)}
        name = self._best(values) or ENSEMBLE
        temperature = self._temperature(rows[name], together.source)
        self.say("trying post-processing")
        model, measured = self._finished(rows[name], temperature, self._value(validation[name]))
        self.tried["temperature"]["kept"] = model.temperature
        self.tried["compared"] = self._compared()
        numbers = [self._number(member.place) for member in rows[ENSEMBLE].members]
        return Chosen(
            self.objective,
            model,
            {name: _with_threshold(row, validation[name]) for name, row in rows.items()},
            {**validation, MODEL: measured},
            self.tried,
            selection,
            scorer.disagreement(numbers),
        )

    def _members(self, selection: Selection) -> tuple[Model, Model]:
        """Return the best single, and the best ensemble of at least two that is not worse."""
        alone = [one for one in self.found if self.limits.allow([one])]
        best = alone[0]
        for one in alone[1:]:
            if self.objective.better(self._alone(one), self._alone(best)):
                best = one
        single = Model((self._load(best.candidate.place),), (1.0,))
        models = {SINGLE: single}
        for name, weights in (("weighted", selection.greedy), ("bagged", selection.bagged)):
            several = self._model(weights)
            if len(several.members) > 1:
                equal = (1 / len(several.members),) * len(several.members)
                models |= {
                    name: several,
                    f"{name}: average": replace(several, weights=equal),
                    f"{name}: by score": replace(several, weights=self._by_score(several)),
                    f"{name}: confidence": replace(several, vote="confidence"),
                }
                if max(several.weights) < 0.5:  # Else one member outvotes all others.
                    models[f"{name}: majority"] = replace(several, vote="majority")
        source = Stored(self.of_place, self.data, SPLIT, self._step())
        values = self._compare("members", models, source)
        best_name = self._best({k: v for k, v in values.items() if k != SINGLE})
        if best_name is None or self.objective.better(values[SINGLE], values[best_name]):
            return single, single
        return single, models[best_name]

    def _step(self) -> int:
        """Return how far apart the pixels lie that members are compared on."""
        pixels = [math.prod(self.data.cache.shape(at)) for at in self.data.indices(SPLIT)]
        mean = sum(pixels) / len(pixels) if self.task.segments else 1
        return max(1, math.isqrt(round(mean / PIXELS)))

    def _by_score(self, model: Model) -> tuple[float, ...]:
        """Return weights that are proportional to what each member is worth alone."""
        alone = [self._alone(self.of_place[member.place]) for member in model.members]
        worth = [max(value, 0.0) if math.isfinite(value) else 0.0 for value in alone]
        return tuple(one / sum(worth) for one in worth) if sum(worth) else model.weights

    def _sets(self, *models: Model) -> list[Viewing]:
        """Return the sets of views that every network can be asked about."""
        members = {member.place: member for model in models for member in model.members}.values()
        turned = all(member.recipe.quarter_turns for member in members)
        image = as_tensor(self.data.cache.image(self.data.indices(SPLIT)[0]))
        coloured = self.task.bands == 3 and image.dtype == torch.uint8
        sets = self.views.sets(turned, coloured)
        extra = {name for views in sets[len(SETS) :] for name in views}
        refused = {
            name for name in extra if not all(_answers(member, image, name) for member in members)
        }
        if refused:
            self.say(f"left out, as a network takes no such size: {', '.join(sorted(refused))}")
        return [views for views in sets if not refused & set(views)]

    def _with_views(
        self, single: Model, ensemble: Model, sets: Sequence[Viewing]
    ) -> tuple["_Viewed", "_Viewed"]:
        """Return the best single and the ensemble, each in the sets of views that are tried.

        Those that the limits allow are tried on the best single; on the ensemble, which costs more,
        those that did not harm it there, or the least harmful. Where the ensemble turns out worse
        than the single, both are the single.
        """
        self.tried["tta"] = {}
        asked = Asked(self.data, self.device)
        alone = self._viewed(SINGLE, single, sets, asked)
        if ensemble is single:
            return alone, alone
        values = {views: self._value(one) for views, one in alone.measured.items()}
        plain = values.pop(PLAIN)
        harmless = [
            views for views, value in values.items() if not self.objective.better(plain, value)
        ]
        least = self._best(values)
        together = self._viewed(ENSEMBLE, ensemble, harmless or ([least] if least else []), asked)
        worse = self._worse(together.measured[PLAIN], plain)
        return alone, alone if worse else together

    def _viewed(self, base: str, model: Model, sets: Sequence[Viewing], asked: Asked) -> "_Viewed":
        members = [self.of_place[member.place] for member in model.members]
        fit = [PLAIN, *(views for views in sets if self.limits.allow(members, cost(views)))]
        models = {", ".join(views): replace(model, tta=views) for views in fit}
        source = Sampled(asked, self.data, model, fit)
        found = measure(models, self.data, SPLIT, source)
        for name, one in found.items():
            named = base if models[name].tta == PLAIN else f"{base}: {name}"
            self.tried["tta"][named] = self._value(one)
        measured = {models[name].tta: one for name, one in found.items()}
        best = self._best({v: self._value(one) for v, one in measured.items() if v != PLAIN})
        return _Viewed(model, measured, source, best)

    @threads(1)
    def _temperature(self, model: Model, source: "Sampled") -> float:
        """Return the temperature that helps images which it was not fitted to, or 1."""
        truth, group = source.truth()
        logits = source.logits()

        def at(temperature: float, rows: Tensor) -> Tensor:
            warm = replace(model, temperature=temperature)
            said = [
                weight * warm.answer({v: logits[m.place, v][rows] for v in model.tta})
                for m, weight in zip(model.members, model.weights, strict=True)
            ]
            return warm.settled(torch.stack(said).sum(0))

        if model.vote == "majority" or not len(truth):
            self.tried["temperature"] = {}
            return 1.0
        temperature, gain = held_out_gain(at, truth, group)
        self.tried["temperature"] = {"fitted": temperature, "gain": gain}
        return temperature if gain > 0 else 1.0

    def _finished(self, kept: Model, temperature: float, before: float) -> tuple[Model, Measured]:
        """Return the model with its threshold, its temperature and what cleaning helps it.

        The temperature is given up where the figure would suffer by it. The networks are asked
        once (of two classes, once more for the threshold); masks are cleaned from the disk.
        """
        plain = {"warm": replace(kept, temperature=temperature)}
        if temperature != 1:
            plain["kept"] = kept
        asked = Asked(self.data, self.device)
        if self.task.binary:
            found = measure(plain, self.data, SPLIT, asked)
            plain = {name: _with_threshold(one, found[name]) for name, one in plain.items()}
        masks = {name: Scratch(self.found[0].path.parent, np.uint8) for name in plain}

        def keep(name: str, classes: Tensor) -> None:
            if self.task.segments:
                masks[name].add([classes.cpu().numpy()])

        found = measure(plain, self.data, SPLIT, asked, keep)
        for name, model in plain.items():
            finished = self._cleaned(model, found[name], masks[name])
            if not self._worse(finished[1], before):
                break
        return finished

    def _cleaned(self, model: Model, plain: Measured, masks: Scratch) -> tuple[Model, Measured]:
        """Return the model with the post-processing that helps it, stage after stage."""
        self.tried["postprocessing"] = {}
        if not self.task.segments:
            return model, plain

        def measured(how: How) -> Measured:
            shapes = (self.data.cache.shape(index) for index in self.data.indices(SPLIT))
            kept = (masks.read(at, shape) for at, shape in enumerate(shapes))
            cleaning = replace(model, postprocessing=how)
            return measure_masks(cleaning, plain, kept, self.data, SPLIT)

        # A two-class model's figures are otherwise those of its likeliest classes.
        as_it_is = measured({}) if self.task.binary else plain
        best, value = (model, plain), self._value(as_it_is)
        self.tried["postprocessing"][described({})] = value
        for stage in STAGES:
            before = best[0].postprocessing
            for step in stage:
                how = {**before, **step}
                found = measured(how)
                self.tried["postprocessing"][described(how)] = self._value(found)
                if self.objective.better(self._value(found), value):
                    best, value = (replace(model, postprocessing=how), found), self._value(found)
        return best

    def _compared(self) -> dict[str, float]:
        told = {name: len(self.tried[name]) for name in ("members", "tta", "postprocessing")}
        return {"candidates": len(self.found), **told, "images": len(self.data.indices(SPLIT))}

    def _compare(self, what: str, models: Mapping[str, Model], source: Source) -> dict[str, float]:
        found = measure(models, self.data, SPLIT, source)
        self.tried[what] = {name: self._value(one) for name, one in found.items()}
        return self.tried[what]

    def _best(self, values: Mapping[Name, float]) -> Name | None:
        """Return the name of the best value, of equal ones the first."""
        best: Name | None = None
        for name, value in values.items():
            if self.objective.better(value, None if best is None else values[best]):
                best = name
        return best

    def _value(self, measured: Measured) -> float:
        return measured.metrics.get(self.objective.metric, math.nan)

    def _worse(self, measured: Measured, before: float) -> bool:
        return self.objective.better(before, self._value(measured))

    def _alone(self, one: Probabilities) -> float:
        return one.metrics.get(self.objective.metric, math.nan)

    def _model(self, weights: Sequence[float]) -> Model:
        taken = [(self.found[at], weight) for at, weight in enumerate(weights) if weight > 0]
        taken.sort(key=lambda pair: -pair[1])
        members = tuple(self._load(one.candidate.place) for one, _ in taken)
        return Model(members, tuple(weight for _, weight in taken))

    def _load(self, place: Path) -> Trained:
        if place not in self.loaded:
            self.loaded[place] = load_trained(place, self.device)
        return self.loaded[place]

    def _number(self, place: Path) -> int:
        return [one.candidate.place for one in self.found].index(place)


@dataclass(frozen=True)
class _Viewed:
    """A model in several sets of views, what it is worth in each, and the best set of several."""

    model: Model
    measured: dict[Viewing, Measured]
    source: "Sampled"
    best: Viewing | None


def _rows(alone: _Viewed, together: _Viewed) -> tuple[dict[str, Model], dict[str, Measured]]:
    """Return the models to compare, with and without test-time augmentation, and their worth."""
    rows, worth = {}, {}
    for base, viewed in ((SINGLE, alone), (ENSEMBLE, together)):
        for name, views in ((base, PLAIN), (base + TTA, viewed.best)):
            if views is not None:
                rows[name] = replace(viewed.model, tta=views)
                worth[name] = viewed.measured[views]
    return rows, worth


class Sampled:
    """Passes logits on, and keeps some of those of a model's members, evenly spaced."""

    def __init__(self, source: Asked, data: Data, model: Model, sets: Sequence[Viewing]) -> None:
        self.source, self.data, self.step = source, data, source.step
        self.task = task = model.task
        self.kept: dict[tuple[Path, str], Rows] = {}
        self.targets: dict[int, Tensor] = {}
        views = {name for names in sets for name in names}
        each = task.num_classes * len(model.members) * len(views)
        images = max(1, len(data.indices(SPLIT)))
        self.pixels = max(1, VALUES // (each * images)) if task.segments else 1
        self.most = images * self.pixels

    def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        logits = self.source(member, name, indices)
        ignored = self.task.ignore_index
        rows, truth = sample(logits.cpu(), target_of(self.data, indices), self.pixels, ignored)
        pair = member.place, name
        if pair not in self.kept:
            self.kept[pair] = Rows(self.most, self.task.num_classes)
        self.kept[pair].add(rows)
        self.targets[indices[0]] = truth.clone()
        return logits

    def per_image(self, model: Model) -> float | None:
        return self.source.per_image(model)

    def logits(self) -> dict[tuple[Path, str], Tensor]:
        """Return the rows (P, K) of each member and view, in the order of `truth`."""
        return {pair: rows.values() for pair, rows in self.kept.items()}

    def truth(self) -> tuple[Tensor, Tensor]:
        """Return the class of each row, (P,), and the number of its image."""
        if not self.data.cache.segmented:
            truth = torch.cat(list(self.targets.values()))
            return truth, torch.arange(len(truth))
        numbers = [torch.full_like(ids, at) for at, ids in enumerate(self.targets.values())]
        return torch.cat(list(self.targets.values())), torch.cat(numbers)


def _with_threshold(model: Model, measured: Measured) -> Model:
    """Return a two-class model with the threshold that validation found best."""
    return replace(model, threshold=measured.metrics.get("threshold"))


def _answers(member: Trained, image: Tensor, name: str) -> bool:
    """Whether a network can be asked about a view: some take images of one size only."""
    try:
        view(member, image[None], name)
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True
