"""Networks by name: `build` turns a study's specification into a network with its heads."""

from typing import Any

from torch import nn

from raysearch.config import Task
from raysearch.errors import ConfigError
from raysearch.models.heads import OneHead, Output, TwoHeads, encoder_of, encoder_parameters
from raysearch.models.networks import kind_of, network_types, read_options

__all__ = [
    "Output",
    "build",
    "encoder_of",
    "encoder_parameters",
    "network_types",
    "parameters_in_millions",
]


def build(spec: dict[str, Any], task: Task) -> nn.Module:
    """Build the network that a specification describes.

    Args:
        spec: "type" names a module of `raysearch.models.networks`; the other keys are its Options,
            such as {"type": "unet", "width": 64, "depth": 4}.
        task: kind, bands and classes; background is class 0 of a segmentation.

    Returns:
        A network whose forward takes normalised images (N, bands, h, w) and returns an `Output`;
        h and w are multiples of 32 where pixels are labelled.

    Raises:
        ConfigError: unknown type, key, decoder, encoder or model, a network of another kind than
            the task, or a value the network cannot have.
        WeightsError: encoder_weights names a file that is missing, damaged or of another encoder.
    """
    if "type" not in spec:
        raise ConfigError(
            f"network {spec}: 'type' is missing; add one of {network_types(task.kind)}"
        )
    network_type, options = read_options(spec)
    kind = kind_of(network_type)
    if kind != task.kind:
        raise ConfigError(
            f"network type '{spec['type']}' is made for {kind}, and the study's task is "
            f"{task.kind}. Types for {task.kind}: {', '.join(network_types(task.kind))}"
        )
    if not task.segments:
        return OneHead(network_type.build(options, task, task.num_classes))
    logits = network_type.build(options, task, task.num_classes + 1)
    return TwoHeads(logits, task.num_classes)


def parameters_in_millions(network: nn.Module) -> float:
    """Return the number of trained parameters, in millions."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad) / 1e6
