"""The techniques of training, each with the change of a recipe that leaves it out."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raysearch.config import Recipe, Study
from raysearch.config.study import NEEDS, PIXELS
from raysearch.models.networks import read_options
from raysearch.models.networks.smp import find_decoder

CHAMPION = "everything"


def _always(recipe: Recipe) -> bool:
    return True


def _mixes(recipe: Recipe) -> bool:
    return recipe.mix_probability > 0


def _by_pixel(recipe: Recipe) -> bool:
    """Whether the loss has a term that weighs classes and pixels."""
    return any(recipe.loss.get(term) for term in ("cross_entropy", "focal"))


def _by_class(recipe: Recipe) -> bool:
    return bool(recipe.loss.get("cross_entropy"))


@dataclass(frozen=True)
class Technique:
    """One thing that a recipe may do.

    Attributes:
        off: the values with which it is left out.
        acts: whether a recipe that has other values does it.
    """

    name: str
    off: Mapping[str, Any]
    acts: Callable[[Recipe], bool] = _always


# Of the network: what drops features in training, and pretrained weights.
DROPOUTS = ("dropout", "drop_path", "decoder_dropout", "drop_path_rate")
WEIGHTS = "encoder_weights"

TECHNIQUES = (
    Technique("augmentation", {"augment_strength": 0.0}),
    Technique("elastic deformation", {"elastic": False}, lambda r: r.augment_strength > 0),
    Technique("quarter turns", {"quarter_turns": False}),
    Technique("MixUp", {"mixup_alpha": 0.0}, _mixes),
    Technique("CutMix", {"cutmix_alpha": 0.0}, _mixes),
    Technique("label smoothing", {"label_smoothing": 0.0}, _by_class),
    Technique("class weights", {"class_weights": "none"}, _by_class),
    Technique("pixel weights", {"pixel_weights": False}, _by_pixel),
    Technique("boundary head", {"boundary_weight": 0.0}),
    Technique("moving average", {"ema_decay": 0.0}),
    Technique("warm-up", {"warmup": 0.0}, lambda r: r.schedule != "one_cycle"),
    Technique("schedule", {"schedule": "constant"}),
    Technique("weight decay", {"weight_decay": 0.0}),
    Technique("gradient clipping", {"clip_norm": None}),
    Technique("frozen encoder first", {"frozen": 0.0}),
    Technique("lower encoder rate", {"encoder_lr_ratio": 1.0}, lambda r: r.encoder_lr_ratio < 1),
    Technique("early stopping", {"early_stopping": None}),
    Technique("gap limit", {"gap_limit": None}),
)


@dataclass(frozen=True)
class Variant:
    """A recipe with one technique left out, or with all (`CHAMPION`): name, change and result."""

    name: str
    off: dict[str, Any]
    recipe: Recipe


def without_each(recipe: Recipe, study: Study) -> list[Variant]:
    """Return a recipe as it is, and once without each technique that it makes use of."""
    changes = {one.name: dict(one.off) for one in TECHNIQUES if _used(one, recipe, study)}
    changes |= _of_the_loss(recipe) | _of_the_network(study.network_spec(recipe))
    if study.teachers and recipe.distill_weight:
        changes["distillation"] = {"distill_weight": 0.0}
    variants = [Variant(CHAMPION, {}, recipe)]
    for name, off in changes.items():
        network = {**recipe.network, **off.get("network", {})}
        without = recipe.model_copy(update={**off, "network": network})
        variants.append(Variant(name, off, without))
    return variants


def _used(technique: Technique, recipe: Recipe, study: Study) -> bool:
    fits = study.task == "segmentation" or not any(NEEDS.get(k) == PIXELS for k in technique.off)
    differs = any(getattr(recipe, key) != value for key, value in technique.off.items())
    return fits and differs and technique.acts(recipe)


def _of_the_loss(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Focal loss becomes cross-entropy of its weight; any other term goes where one remains."""
    terms = {name: weight for name, weight in recipe.loss.items() if weight}
    changes = {}
    for name in terms:
        rest = {term: weight for term, weight in terms.items() if term != name}
        if name == "focal":
            rest["cross_entropy"] = rest.get("cross_entropy", 0.0) + terms[name]
        if rest and name != "cross_entropy":
            changes[f"{name} loss"] = {"loss": rest}
    return changes


def _of_the_network(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a network's own options say, those that it is not given among them."""
    _, options = read_options(spec)
    values = options.model_dump()
    if spec["type"] == "smp":
        decoder = inspect.signature(find_decoder(values["decoder"])).parameters
        own = {k: p.default for k, p in decoder.items() if k in DROPOUTS}
        values = own | values
    dropped = {key: 0.0 for key in DROPOUTS if values.get(key)}
    changes: dict[str, dict[str, Any]] = {"dropout": {"network": dropped}} if dropped else {}
    if values.get(WEIGHTS) is not None:
        changes["pretrained weights"] = {"network": {WEIGHTS: None}}
    return changes
