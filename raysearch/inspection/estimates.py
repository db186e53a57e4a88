"""Estimates of what a search will need: room for the cache, and memory for a trial."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from raysearch.config import Recipe, Study, outer
from raysearch.data.formats import Reader
from raysearch.errors import ConfigError, WeightsError
from raysearch.inspection.look import Look
from raysearch.models import build

FLOAT = 4
SMALL_BATCH = 2
ADAM = 2


@dataclass(frozen=True)
class Memory:
    """An estimate for one network in float32, at the study's largest batch and picture.

    Attributes:
        parameters: how many.
        state: bytes of weights, gradients, the optimizer's moments, and averaged weights.
        activations: bytes that the backward pass needs of one batch.
    """

    architecture: str
    parameters: int
    batch_size: int
    side: int
    state: int
    activations: int

    @property
    def total(self) -> int:
        return self.state + self.activations


def cache_bytes(reader: Reader, looks: Iterable[Look]) -> int:
    """Return the size of the cache that these samples are decoded into."""
    masked = 1 + reader.weighted
    side = reader.data.cache_side
    total = 0.0
    for look in looks:
        pixels = float(look.pixels)
        whole = isinstance(look.sample.target, int)
        if whole and side and min(look.shape) > side:
            pixels *= (side / min(look.shape)) ** 2
        total += pixels * (reader.data.bands * reader.dtype.itemsize + (0 if whole else masked))
    return round(total)


def memory_estimates(study: Study) -> list[Memory]:
    """Return an estimate for each network of the study that can be built here."""
    found = []
    for name in study.networks:
        recipe = _largest(study, name)
        if recipe is not None:
            try:
                found.append(_estimate(study, recipe))
            except (ConfigError, WeightsError):
                continue  # `tune` says what is wrong with a network; this is only its size.
    return found


def _largest(study: Study, architecture: str) -> Recipe | None:
    """Return the recipe of a network with the most pixels in a batch that the search may try."""
    recipes = []
    for values in study.examples():
        own = {k: v for k, v in values.items() if outer(k) != "network"}
        recipes.append(study.recipe({**own, "architecture": architecture}))
    return max(recipes, key=lambda r: r.batch_size * _side(study, r) ** 2, default=None)


def _side(study: Study, recipe: Recipe) -> int:
    side = recipe.crop_size if study.what.segments else recipe.image_size or recipe.crop_size
    return -(-side // 32) * 32


def _estimate(study: Study, recipe: Recipe) -> Memory:
    spec = study.network_spec(recipe)
    bare = spec | ({"encoder_weights": None} if "encoder_weights" in spec else {})
    network = build(bare, study.what).to("meta").train()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    side = _side(study, recipe)
    batch = -(-recipe.batch_size // recipe.accumulation)
    each = activation_bytes(network, (SMALL_BATCH, study.data.bands, side, side)) / SMALL_BATCH
    copies = 2 + ADAM + (recipe.ema_decay > 0)
    state = parameters * FLOAT * copies
    return Memory(recipe.architecture, parameters, batch, side, state, round(each * batch))


def activation_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Return the bytes that a network on the meta device keeps of a batch for its backward pass.

    Nothing is computed: tensors on that device have a shape and no values.
    """
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The storage is held, so that no other can take its address.
        kept[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.empty(*shape, device="meta"))
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    return sum(size for key, (size, _) in kept.items() if key not in weights)
