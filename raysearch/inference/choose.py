"""Choose a model on validation images: members, vote, views, temperature, post-processing.

Nothing is kept that does not help there, and nothing here sees a test image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from raysearch.config import Objective, Task
from raysearch.data import Data
from raysearch.inference.calibration import held_out_gain
from raysearch.inference.compare import (
    Asked,
    Measured,
    Rows,
    Source,
    Stored,
    measure,
    sample,
    target_of,
)
from raysearch.inference.models import Model
from raysearch.inference.postprocess import CHOICES
from raysearch.inference.probabilities import Probabilities
from raysearch.inference.selection import Limits, Scorer, Selection, select
from raysearch.inference.tta import IDENTITY, SETS
from raysearch.training.trained import Trained, load_trained

SPLIT = "val"
SINGLE, ENSEMBLE, TTA = "single", "ensemble", " + TTA"
MODEL = "model"
VALUES = 2**24  # Logits that the temperature is fitted to.

Say = Callable[[str], None]


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
            negative log-likelihood.
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
) -> Chosen:
    """Choose among candidates whose answers on validation images are on disk.

    Raises:
        ConfigError: no candidate is within the limits.
    """
    return _Chooser(found, data, task, measurable(objective, task), limits, device, say).choose()


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
    ) -> None:
        self.found, self.data, self.task = found, data, task
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
        source = Sampled(Asked(self.data, self.device), self.data, ensemble)
        rows, validation, name = self._views(single, ensemble, source)
        kept, before = rows[name], self._value(validation[name])
        temperature = self._temperature(kept, source)
        self.say("trying post-processing")
        model, measured = self._finished(replace(kept, temperature=temperature))
        if self._worse(measured, before):
            model, measured = self._finished(kept)
        self.tried["temperature"]["kept"] = model.temperature
        numbers = [self._number(member.place) for member in ensemble.members]
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
                    f"{name}: majority": replace(several, vote="majority"),
                }
        values = self._compare("members", models, Stored(self.of_place, self.data, SPLIT))
        best_name = self._best({k: v for k, v in values.items() if k != SINGLE})
        if best_name is None or self.objective.better(values[SINGLE], values[best_name]):
            return single, single
        return single, models[best_name]

    def _views(
        self, single: Model, ensemble: Model, source: Source
    ) -> tuple[dict[str, Model], dict[str, Measured], str]:
        """Return the rows to compare, what they are worth, and the ensemble's row that is better.

        Each set of views that the limits allow is tried.
        """
        tried: dict[str, Model] = {}
        for base, model in ((SINGLE, single), (ENSEMBLE, ensemble)):
            members = [self.of_place[member.place] for member in model.members]
            fit = [views for views in SETS if self.limits.allow(members, len(views))]
            tried[base] = model
            tried |= {f"{base}: {', '.join(views)}": replace(model, tta=views) for views in fit}
        found = measure(tried, self.data, SPLIT, source)
        values = {name: self._value(one) for name, one in found.items()}
        self.tried["tta"] = values
        rows, validation = {}, {}
        for base in (SINGLE, ENSEMBLE):
            rows[base], validation[base] = tried[base], found[base]
            best = self._best({k: v for k, v in values.items() if k.startswith(f"{base}: ")})
            if best is not None:
                rows[base + TTA], validation[base + TTA] = tried[best], found[best]
        with_views = validation.get(ENSEMBLE + TTA)
        helps = with_views is not None and self.objective.better(
            self._value(with_views), values[ENSEMBLE]
        )
        return rows, validation, ENSEMBLE + TTA if helps else ENSEMBLE

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
            return torch.stack(said).sum(0)

        if model.vote != "average" or not len(truth):
            self.tried["temperature"] = {}
            return 1.0
        temperature, gain = held_out_gain(at, truth, group)
        self.tried["temperature"] = {"fitted": temperature, "gain": gain}
        return temperature if gain > 0 else 1.0

    def _finished(self, model: Model) -> tuple[Model, Measured]:
        """Return the model with its threshold and the post-processing that helps it, if any."""
        asked = Asked(self.data, self.device)
        if self.task.binary:
            model = _with_threshold(model, measure({"": model}, self.data, SPLIT, asked)[""])
        choices = CHOICES if self.task.segments else CHOICES[:1]
        models = {_text(how): replace(model, postprocessing=how) for how in choices}
        found = measure(models, self.data, SPLIT, asked)
        values = {name: self._value(one) for name, one in found.items()}
        self.tried["postprocessing"] = values
        best = self._best(values) or _text({})
        return models[best], found[best]

    def _compare(self, what: str, models: Mapping[str, Model], source: Source) -> dict[str, float]:
        found = measure(models, self.data, SPLIT, source)
        self.tried[what] = {name: self._value(one) for name, one in found.items()}
        return self.tried[what]

    def _best(self, values: Mapping[str, float]) -> str | None:
        """Return the name of the best value, of equal ones the first."""
        best: str | None = None
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


class Sampled:
    """Passes logits on, and keeps some of those of a model's members, evenly spaced."""

    def __init__(self, source: Asked, data: Data, model: Model) -> None:
        self.source, self.data, self.model = source, data, model
        self.kept: dict[tuple[Path, str], Rows] = {}
        self.targets: dict[int, Tensor] = {}
        views = {name for names in SETS for name in names} | {IDENTITY}
        each = model.task.num_classes * len(model.members) * len(views)
        images = max(1, len(data.indices(SPLIT)))
        self.pixels = max(1, VALUES // (each * images)) if model.task.segments else 1
        self.most = images * self.pixels

    def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        logits = self.source(member, name, indices)
        if member.place in {one.place for one in self.model.members}:
            ignored = self.model.task.ignore_index
            rows, truth = sample(logits.cpu(), target_of(self.data, indices), self.pixels, ignored)
            pair = member.place, name
            if pair not in self.kept:
                self.kept[pair] = Rows(self.most, self.model.task.num_classes)
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


def _text(how: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in how.items()) or "none"
