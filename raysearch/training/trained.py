"""A trained network as its checkpoint describes it, ready to be asked, or to be built upon."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raysearch.config import Recipe, Task
from raysearch.errors import RunError
from raysearch.models import build
from raysearch.training import checkpoint
from raysearch.training.checkpoint import BEST, FINAL
from raysearch.training.normalisation import Normalisation


@dataclass(frozen=True)
class Trained:
    """An epoch of a trial, in evaluation mode.

    Attributes:
        place: folder of its checkpoint, such as trials/0007/best, which tells it from all others.
        threshold: least probability of the positive class, where the task has two classes.
        metrics: of validation, at that epoch.
    """

    network: nn.Module
    normalise: Normalisation
    task: Task
    recipe: Recipe
    threshold: float | None
    metrics: dict[str, Any]
    place: Path

    @property
    def folder(self) -> Path:
        """Of the trial."""
        return self.place.parent

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return semantic logits (N, K, ...) in float32 of images (N, C, h, w) as stored."""
        output: Tensor = self.network(self.normalise(images)).semantic
        return output.float()


def description(
    spec: dict[str, Any], task: Task, recipe: Recipe, normalise: Normalisation
) -> dict[str, Any]:
    """Return what a checkpoint says of its network, as JSON; `load_trained` needs nothing else."""
    bare = {**spec, "encoder_weights": None} if "encoder_weights" in spec else spec
    return {
        "spec": bare,
        "task": {
            "kind": task.kind,
            "bands": task.bands,
            "classes": list(task.classes),
            "ignore_index": task.ignore_index,
        },
        "recipe": recipe.model_dump(mode="json"),
        "mean": normalise.mean.tolist(),
        "std": normalise.std.tolist(),
    }


@torch.inference_mode(False)  # Networks are built in the same way wherever they are asked.
def load_trained(folder: Path, device: torch.device | None = None) -> Trained:
    """Load a trained network.

    Args:
        folder: of a trial, whose best epoch is meant, or of one of its checkpoints, such as
            trials/0007/final.

    Raises:
        RunError: the folder has no checkpoint that can be read.
    """
    device = device or torch.device("cpu")
    place = folder if folder.name in (BEST, FINAL) else folder / BEST
    found = checkpoint.load(place)
    if found is None or not found.model:
        raise RunError(
            f"{place}: has no readable checkpoint (only the best trials of a search keep theirs); "
            "choose another trial"
        )
    told = found.model
    task = Task(**{**told["task"], "classes": tuple(told["task"]["classes"])})
    network = build(told["spec"], task)
    network.load_state_dict(found.weights)
    normalise = Normalisation(torch.tensor(told["mean"]), torch.tensor(told["std"]))
    return Trained(
        network.to(device).eval(),
        normalise.to(device),
        task,
        Recipe.model_validate(told["recipe"]),
        found.metrics.get("threshold"),
        found.metrics,
        place,
    )
