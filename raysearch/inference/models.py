"""One or several trained networks as a single model: whole images in, probabilities out."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from raysearch.config import Task
from raysearch.data.augmentation.classification import SIZE, for_evaluation
from raysearch.data.batch import as_tensor
from raysearch.data.resize import fitted
from raysearch.data.validation import prepared
from raysearch.errors import ConfigError, RunError, closest
from raysearch.inference.postprocess import postprocess
from raysearch.inference.tta import IDENTITY, transform
from raysearch.study import load_study
from raysearch.training.checkpoint import BEST
from raysearch.training.metrics import BINS
from raysearch.training.trained import Trained, load_trained

ENSEMBLE, STUDY, RUN = "ensemble.json", "study.yaml", "run.json"
REFIT_FOLDER = "refit"  # That of a search's model that was trained again on more images.

Vote = Literal["average", "majority", "confidence"]
LEAST_CERTAIN = 1e-6


@dataclass(frozen=True)
class Model:
    """Trained networks that answer together.

    Attributes:
        weights: of each member; they sum to 1.
        vote: "average" takes the mean of the members' probabilities; "majority" the share of the
            members (by weight) whose likeliest class it is; "confidence" that mean, in which each
            member also counts by its certainty there, 1 - entropy / log K, at each pixel anew.
        tta: names of views, see `raysearch.inference.tta.transform`, that are averaged over.
        temperature: what logits are divided by (Guo et al. 2017, https://arxiv.org/abs/1706.04599).
        threshold: least probability of the positive class of a two-class segmentation; None takes
            the likeliest class.
        postprocessing: see `raysearch.inference.postprocess`.
    """

    members: tuple[Trained, ...]
    weights: tuple[float, ...]
    vote: Vote = "average"
    tta: tuple[str, ...] = (IDENTITY,)
    temperature: float = 1.0
    threshold: float | None = None
    postprocessing: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.members or len(self.members) != len(self.weights):
            raise ConfigError(f"{len(self.members)} members have {len(self.weights)} weights")
        if len({(member.task.kind, member.task.classes) for member in self.members}) > 1:
            raise ConfigError("members of an ensemble must tell the same classes apart")
        if self.vote not in (votes := get_args(Vote)):
            raise ConfigError(f"vote: '{self.vote}' is unknown. {closest(self.vote, votes)}")
        for name in self.tta:
            transform(name)

    @property
    def task(self) -> Task:
        return self.members[0].task

    @torch.inference_mode()
    def probabilities(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Return float32 (N, K, h, w), or (N, K) of whole images, on the members' device.

        Args:
            images: (N, C, h, w) as stored: uint8 or float32, at their own size; of several sizes
                where whole images are classified.
        """
        total: Tensor | None = None
        for member, weight in zip(self.members, self.weights, strict=True):
            logits = {name: view(member, images, name) for name in self.tta}
            added = weight * self.answer(logits)
            total = added if total is None else total.add_(added)
        assert total is not None
        return self.settled(total)

    def answer(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Return one member's say, (N, K, ...): its probabilities, or its vote.

        The say of all, each times its weight, is added up and then `settled`.
        """
        return self.say({name: self.softened(logits[name]) for name in self.tta})

    def softened(self, logits: Tensor) -> Tensor:
        """Return the probabilities of one view."""
        return (logits.float() / self.temperature).softmax(1)

    def say(self, views: Mapping[str, Tensor]) -> Tensor:
        """Return one member's say from its probabilities in each view."""
        mean = views[self.tta[0]]
        if len(self.tta) > 1:
            mean = mean.clone()
            for name in self.tta[1:]:
                mean += views[name]
            mean /= len(self.tta)
        if self.vote == "majority":
            return torch.zeros_like(mean).scatter_(1, mean.max(1, keepdim=True).indices, 1.0)
        return mean * certainty(mean) if self.vote == "confidence" else mean

    def settled(self, total: Tensor) -> Tensor:
        """Return the members' weighted sum as probabilities: by confidence it has any sum."""
        return total / total.sum(1, keepdim=True) if self.vote == "confidence" else total

    def classes(self, probabilities: Tensor) -> Tensor:
        """Return class ids, int64 (N, h, w) or (N,), on the same device."""
        if self.threshold is not None and self.task.binary:
            least = round(self.threshold * BINS)
            ids = ((probabilities[:, 1] * BINS).long() >= least).long()
        else:
            ids = probabilities.max(1).indices
        if not self.postprocessing or not self.task.segments:
            return ids
        masks = ids.cpu().numpy().astype(np.uint8)
        cleaned = np.stack([postprocess(mask, self.postprocessing) for mask in masks])
        return torch.from_numpy(cleaned).long().to(ids.device)


def certainty(probabilities: Tensor) -> Tensor:
    """Return 1 - entropy / log K of (N, K, ...) as (N, 1, ...): 1 where sure, all but 0 where no
    class is likelier than another."""
    entropy = torch.special.entr(probabilities).sum(1, keepdim=True)
    return (1 - entropy / math.log(probabilities.shape[1])).clamp_min(LEAST_CERTAIN)


def view(trained: Trained, images: Tensor | Sequence[Tensor], name: str) -> Tensor:
    """Return logits at native size of images in another position, turned back.

    Args:
        images: (C, h, w) each; of one size where pixels are classified.
    """
    change = transform(name)
    changed = [change.apply(image) for image in images]
    logits = native_logits(trained, changed, change.scale)
    return change.undo(logits) if trained.task.segments else logits


def native_logits(
    trained: Trained, images: Tensor | Sequence[Tensor], scale: float = 1.0
) -> Tensor:
    """Return logits (N, K, h, w) or (N, K) of whole images, prepared as in validation.

    Masks are found at the recipe's image_size, and brought to the images' own size.

    Args:
        images: (N, C, h, w) as stored: uint8 or float32.
        scale: see `network_logits`.
    """
    logits = network_logits(trained, images, scale)
    shape = images[0].shape[-2:]
    if not trained.task.segments or logits.shape[-2:] == shape:
        return logits
    return interpolate(logits, shape, mode="bilinear", align_corners=False)


def network_logits(
    trained: Trained, images: Tensor | Sequence[Tensor], scale: float = 1.0
) -> Tensor:
    """Return logits (N, K, h', w') at the size that the network sees images in, or (N, K).

    Args:
        images: (N, C, h, w) as stored: uint8 or float32.
        scale: the factor by which that size is greater than in validation.
    """
    device = trained.normalise.scale.device
    assert isinstance(device, torch.device)
    size = trained.recipe.image_size
    arrays = [image.movedim(0, -1).cpu().numpy() for image in images]
    if not trained.task.segments:
        side = round(scale * (size or SIZE))
        squares = [as_tensor(for_evaluation(array, side)) for array in arrays]
        return trained.logits(torch.stack(squares).to(device))
    height, width = seen_size(trained, images[0].shape[-2:], scale)
    asked = torch.stack([as_tensor(prepared(array, (height, width))) for array in arrays])
    return trained.logits(asked.to(device))[..., :height, :width]


def seen_size(trained: Trained, shape: Sequence[int], scale: float = 1.0) -> tuple[int, int]:
    """Return the height and width at which a network sees an image to segment, (h, w) as stored."""
    height, width = fitted(shape, trained.recipe.image_size)
    return max(1, round(scale * height)), max(1, round(scale * width))


def load_model(path: Path, device: torch.device | None = None) -> Model:
    """Load a trial, or the ensemble of a search, or its best trial where it has none.

    Args:
        path: folder of a trial or of a search, or what `write_bundle` has written.

    Raises:
        RunError: it is neither, or its weights or its ensemble.json cannot be read.
    """
    if (path / ENSEMBLE).is_file():
        return _load_ensemble(path, device)
    if (path / "trials").is_dir():
        path = _best_trial(path)
    trained = load_trained(path, device)
    return Model((trained,), (1.0,), threshold=trained.threshold)


def describe_model(model: Model, folder: Path) -> dict[str, Any]:
    """Return what the ensemble.json of a folder says of a model; `load_model` needs nothing else.

    Members are named by their place, seen from there.
    """
    members = [
        {**named(member.place, folder), "weight": weight}
        for member, weight in zip(model.members, model.weights, strict=True)
    ]
    return {
        "members": members,
        "vote": model.vote,
        "tta": list(model.tta),
        "temperature": model.temperature,
        "threshold": model.threshold,
        "postprocessing": dict(model.postprocessing),
    }


def write_bundle(run: Path, folder: Path) -> None:
    """Copy a search's ensemble.json, its members and its study into a folder that needs no search.

    Raises:
        RunError: there is no ensemble, or a member of it is gone.
    """
    told = _read_ensemble(run)
    folder.mkdir(parents=True, exist_ok=True)
    for number, member in enumerate(told["members"]):
        place = (run / member["place"]).resolve()
        newest = sorted(place.glob("epoch-*"))[-1:]
        if not newest:
            raise RunError(f"{place}: is gone; make the ensemble again")
        inner = f"members/{number}/{place.name}"
        shutil.copytree(newest[0], folder / inner / newest[0].name)
        member["place"] = inner
    (folder / ENSEMBLE).write_text(json.dumps(told, indent=2), encoding="utf-8")
    shutil.copyfile(run / STUDY, folder / STUDY)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is what `write_bundle` writes, and not a search, which may name others'."""
    return (folder / ENSEMBLE).is_file() and not (folder / RUN).exists()


def _read_ensemble(run: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((run / ENSEMBLE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(run, error) from error
    return told


def _unreadable(run: Path, error: Exception) -> RunError:
    return RunError(
        f"{run / ENSEMBLE}: cannot be read ({error!r}); write it again with "
        f"`python -m raysearch.ensemble {run}`"
    )


def named(place: Path, folder: Path) -> dict[str, Any]:
    """Return how a search's files name a checkpoint: its trial, its place as seen from the search's
    folder, and the search where it is another one."""
    run, trial = place.parents[2], int(place.parent.name)
    other = None if run == folder else f"{run.parent.name}/{run.name}"
    return {"trial": trial, "run": other, "place": Path(relpath(place, folder)).as_posix()}


def _load_ensemble(run: Path, device: torch.device | None) -> Model:
    told = _read_ensemble(run)
    try:
        places = [_inside(run, str(member["place"])) for member in told["members"]]
        rest: dict[str, Any] = {
            "weights": tuple(float(member["weight"]) for member in told["members"]),
            "vote": told["vote"],
            "tta": tuple(told["tta"]),
            "temperature": float(told["temperature"]),
            "threshold": told["threshold"],
            "postprocessing": told["postprocessing"],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(run, error) from error
    members = tuple(load_trained(place, device) for place in places)
    return Model(members, **rest)


def _inside(folder: Path, place: str) -> Path:
    """Return where a member lies. A search, and the refit in its folder, may name others' trials; a
    bundle, which may come from elsewhere, holds all that it names."""
    found = (folder / place).resolve()
    of_search = folder.parent if folder.name == REFIT_FOLDER else folder
    if not (of_search / RUN).is_file() and not found.is_relative_to(folder.resolve()):
        raise ValueError(f"the member {place} lies outside")
    return found


def _best_trial(run: Path) -> Path:
    """Return the folder of the best ended trial that has kept its weights."""
    objective = load_study(str(run / STUDY)).objective
    best: tuple[float, Path] | None = None
    for path in sorted((run / "trials").glob("*/end.json")):
        end = json.loads(path.read_text(encoding="utf-8"))
        value = end.get("value")
        usable = value is not None and any((path.parent / BEST).glob("epoch-*"))
        if usable and objective.better(value, best[0] if best else None):
            best = value, path.parent
    if best is None:
        raise RunError(f"{run}: no trial of it has kept its weights; choose another search")
    return best[1]
