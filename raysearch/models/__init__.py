"""Networks by name: `build` turns a study's specification into a network with two heads."""

from typing import Any

from torch import nn

from raysearch.config import Task
from raysearch.errors import ConfigError
from raysearch.models.heads import Output, TwoHeads
from raysearch.models.networks import network_types, read_options

__all__ = ["Output", "build", "network_types", "parameters_in_millions"]


def build(spec: dict[str, Any], task: Task) -> nn.Module:
    """Build the network that a specification describes.

    Args:
        spec: "type" names a module of `raysearch.models.networks`; the other keys are its Options,
            such as {"type": "unet", "width": 64, "depth": 4}.
        task: bands and classes; background is class 0.

    Returns:
        A network whose forward takes normalised images (N, bands, h, w), h and w multiples of 32,
        and returns an `Output`.

    Raises:
        ConfigError: unknown type, key, decoder or encoder, or a value the network cannot have.
        WeightsError: encoder_weights names a file that is missing, damaged or of another encoder.
    """
    if "type" not in spec:
        raise ConfigError(f"network {spec}: 'type' is missing; add one of {network_types()}")
    network_type, options = read_options(spec)
    logits = network_type.build(options, task, task.num_classes + 1)
    return TwoHeads(logits, task.num_classes)


def parameters_in_millions(network: nn.Module) -> float:
    """Return the number of trained parameters, in millions."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad) / 1e6
