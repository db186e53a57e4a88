"""What exported files are worth, by the same metrics on the same images as their PyTorch models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raysearch.data import Data
from raysearch.data.batch import as_tensor
from raysearch.inference.compare import Measured, measure
from raysearch.inference.models import Model
from raysearch.inference.onnx.runner import OnnxModel, judge
from raysearch.inference.probabilities import as_logits
from raysearch.training.trained import Trained


@dataclass(frozen=True)
class Quality:
    """Attributes:
    differs: the share of pixels, or of images, to which another model gives another class; None
        where there is no other.
    """

    measured: Measured
    differs: float | None


def quality(
    models: Mapping[str, Model | OnnxModel],
    data: Data,
    split: str,
    against: Mapping[str, str],
) -> dict[str, Quality]:
    """Measure models in one pass over a split.

    Args:
        against: by name, which earlier model's classes a model's are compared with.
    """
    judges = {name: _judge(name, model) for name, model in models.items()}
    said: dict[str, Tensor] = {}
    differing, counted = dict.fromkeys(against, 0), dict.fromkeys(against, 0)

    def seen(name: str, classes: Tensor) -> None:
        said[name] = classes
        if name in against:
            differing[name] += int((classes != said[against[name]]).sum())
            counted[name] += classes.numel()

    found = measure(judges, data, split, _Answers(models, data), seen)
    shares = {name: differing[name] / max(1, counted[name]) for name in against}
    return {name: Quality(one, shares.get(name)) for name, one in found.items()}


class _Answers:
    """Asks whole models, each known by the name of its judge's only member."""

    step = 1

    def __init__(self, models: Mapping[str, Model | OnnxModel], data: Data) -> None:
        self.models, self.data = models, data

    def __call__(self, member: Trained, name: str, indices: Sequence[int]) -> Tensor:
        images = [as_tensor(self.data.cache.image(index)) for index in indices]
        return as_logits(self.models[str(member.place)].probabilities(images).cpu())

    def per_image(self, model: Model) -> None:
        return None


def _judge(name: str, model: Any) -> Model:
    by = model.judge if isinstance(model, OnnxModel) else model
    return judge(by.task, Path(name), by.threshold, by.postprocessing)
