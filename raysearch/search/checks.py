"""What a search may choose is tried beforehand, so that no trial has to fail of it."""

from collections.abc import Iterable

import torch
from torch import nn

from raysearch.config import Recipe, Study
from raysearch.config.study import TEACHERS
from raysearch.data import Data
from raysearch.errors import ConfigError
from raysearch.models import build
from raysearch.search.variants import all_specs, at_once, side_key, side_of, smallest_batches
from raysearch.training.losses import build_loss
from raysearch.training.optimisation import build_schedule
from raysearch.training.recompute import recompute_activations

# What a network raises that cannot have a batch, or a size.
MISFITS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, KeyError)


def check_networks(study: Study, workers: int) -> dict[str, int]:
    """Build each variant of each network, and pass it its smallest batches; count parameters.

    The networks have no weights, and the batches no numbers: only shapes go through.

    Returns:
        The parameters of each network's first variant.

    Raises:
        ConfigError: a network that cannot be built, that cannot train on a size or on so few
            images, or that has no activations to recompute where that is asked for.
    """
    counts: dict[str, int] = {}
    batches = smallest_batches(study, workers)
    recomputing = _recomputing(study)
    for name, specs in all_specs(study).items():
        tried = set()
        for spec in specs:
            bare = spec | ({"encoder_weights": None} if "encoder_weights" in spec else {})
            network = build(bare, study.what)
            counts.setdefault(name, sum(p.numel() for p in network.parameters()))
            if (form := _form(network)) not in tried:
                _check_forward(study, network, batches.get(name, {}).values(), workers)
                tried.add(form)
            if name in recomputing and not recompute_activations(network):
                raise ConfigError(
                    f"gradient_checkpointing: {name} has no blocks to recompute; set it to false "
                    "for this network"
                )
    return counts


def _form(network: nn.Module) -> str:
    """Describe what the shapes in a network follow from; fractions, such as dropout, do not."""
    modules = [
        (type(module).__name__, {k: v for k, v in vars(module).items() if _shapes(v)})
        for module in network.modules()
    ]
    return repr([modules, [tuple(p.shape) for p in network.parameters()]])


def _shapes(value: object) -> bool:
    return isinstance(value, int | str | tuple)


def _recomputing(study: Study) -> set[str]:
    """Name the networks that may train with gradient checkpointing."""
    recipes = map(study.recipe, study.combined(("architecture", "gradient_checkpointing")))
    return {recipe.architecture for recipe in recipes if recipe.gradient_checkpointing}


def _check_forward(
    study: Study, network: nn.Module, recipes: Iterable[Recipe], workers: int
) -> None:
    """Pass the shapes of batches through a network in training, which loses its numbers."""
    task = study.what
    network = network.to("meta").train()
    for recipe in recipes:
        side, images = side_of(study, recipe), max(1, at_once(recipe, workers))
        # Several workers normalise over all their batches together.
        batch = torch.empty(images * workers, task.bands, side, side, device="meta")
        wanted = (len(batch), task.num_classes, *((side, side) if task.segments else ()))
        try:
            with torch.no_grad():
                shape = tuple(network(batch).semantic.shape)
        except NotImplementedError:
            continue  # What a layer does depends on numbers: only a trial can tell.
        except MISFITS as error:
            if "meta" in str(error):
                continue
            raise _misfit(study, recipe, images, str(error)) from error
        if shape != wanted:
            raise _misfit(study, recipe, images, f"it gives {shape}, not {wanted}")


def _misfit(study: Study, recipe: Recipe, images: int, reason: str) -> ConfigError:
    name, side = recipe.architecture, side_of(study, recipe)
    first = (reason.strip().splitlines() or ["no reason given"])[0].rstrip(".")
    if "more than 1 value per channel" in reason:
        repair = f"raise batch_size or {side_key(study)}, or lower accumulation"
    else:
        repair = f"choose another {side_key(study)}, or another network"
    return ConfigError(
        f"networks.{name}: cannot train on {images} image{'s' * (images > 1)} of {side} x {side} "
        f"pixels at a time (batch_size {recipe.batch_size}, accumulation {recipe.accumulation}): "
        f"{first}; {repair} for this network"
    )


def check_parts(study: Study) -> None:
    """Build the loss and the schedule of every kind that the search may choose.

    Raises:
        ConfigError: an unknown term of a loss, an unknown schedule, or values for teachers where
            there are none.
    """
    for sentence in study.idle(TEACHERS):
        raise ConfigError(sentence)
    frequency = torch.ones(study.what.num_classes)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    for values in study.examples():
        recipe = study.recipe(values)
        build_loss(recipe, study.what, frequency)
        build_schedule(recipe, optimizer, steps_per_epoch=1)


def check_batches(study: Study, workers: int) -> None:
    """Make sure that every worker of a trial has an image in every part of a batch.

    Raises:
        ConfigError: a batch that is too small, with the accumulation that it may meet.
    """
    for values in study.combined(("batch_size", "accumulation")):
        recipe = study.recipe(values)
        if recipe.batch_size < workers * recipe.accumulation:
            raise ConfigError(
                f"batch_size: {recipe.batch_size} is less than one image for each of {workers} "
                f"workers and {recipe.accumulation} accumulated parts; raise it, or take fewer"
            )


def check_data(study: Study, data: Data) -> None:
    """Make sure that the data have what the search may ask of them.

    Raises:
        ConfigError: pixels weighed by a confidence that the data say nothing of.
    """
    if data.cache.weighted:
        return
    if any(study.recipe(values).pixel_weights for values in study.examples()):
        where = "space" if "pixel_weights" in study.space else "fixed or start"
        raise ConfigError(
            f"pixel_weights: {study.data.format} data say nothing of confidence, so that nothing "
            f"can be weighed by it; take pixel_weights out of {where}, or set it to false"
        )
