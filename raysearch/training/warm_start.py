"""Begin with the weights of another search's trial, whatever classes it told apart."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raysearch.config import Task
from raysearch.errors import RunError
from raysearch.models import build, encoder_of
from raysearch.training.trained import Trained

# A smaller share of an encoder is another encoder, and the rest of it would begin at random.
LEAST = 0.9


class Taken(NamedTuple):
    """How many of a network's tensors were copied as they are, of how many that it has."""

    taken: int
    total: int


def start_from(network: nn.Module, spec: dict[str, Any], task: Task, source: Trained) -> Taken:
    """Copy the weights of a trained network into another; return how many of them fitted.

    Where the classes differ, the head is fitted: rows of classes that both know by name are
    copied, and the others keep their own start. So does any other tensor of another shape.

    Raises:
        RunError: fewer than nine of ten of the encoder's fit.
    """
    own, found = network.state_dict(), source.network.state_dict()
    other = source.task.classes != task.classes
    heads = _by_class(spec, task, own) if other else set()
    fitting = [n for n in own.keys() & found.keys() - heads if own[n].shape == found[n].shape]
    encoder = {id(p) for p in encoder_of(network).parameters()}
    named = {name for name, p in network.named_parameters() if id(p) in encoder}
    fits = len(named & set(fitting))
    if fits < LEAST * len(named):
        many = f"only {fits} of {len(named)}" if fits else "no"
        raise RunError(
            f"init_from: {many} weights of {source.folder} ({source.recipe.architecture}) fit this "
            "network's encoder; name a trial of the same architecture and sizes"
        )
    with torch.no_grad():
        for name in fitting:
            own[name].copy_(found[name])
        for name in heads & found.keys():
            _copy_rows(own[name], found[name], task, source.task)
    return Taken(len(fitting), len(own))


def _by_class(spec: dict[str, Any], task: Task, own: dict[str, Tensor]) -> set[str]:
    """Name the tensors whose shape follows the number of classes."""
    more = build(spec, replace(task, classes=(*task.classes, "one more"))).state_dict()
    return {name for name, value in own.items() if more[name].shape != value.shape}


def _copy_rows(own: Tensor, found: Tensor, task: Task, source: Task) -> None:
    """Copy the rows of classes that both know, and the boundary head's behind them."""
    if own.shape[1:] != found.shape[1:]:
        return
    for row, name in enumerate(task.classes):
        if name in source.classes:
            own[row] = found[source.classes.index(name)]
    if len(own) > task.num_classes and len(found) > source.num_classes:
        own[-1] = found[-1]
