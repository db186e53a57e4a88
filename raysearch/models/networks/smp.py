"""Any decoder of segmentation_models_pytorch on any of its encoders or timm's ("tu-" names).

The library takes seconds to import, so it is imported when the first such network is built.
"""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from pydantic import ConfigDict, Field
from torch import nn
from torch.func import functional_call

from raysearch.config import Task, Values
from raysearch.errors import ConfigError, closest
from raysearch.models.weights import load_encoder

TAKEN = {
    "self",
    "encoder_name",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
    "kwargs",
}


class Options(Values):
    """decoder: unet, unetplusplus, fpn, deeplabv3plus, segformer, upernet, ... by smp's name.

    encoder: smp's name, or "tu-" and timm's name.
    encoder_weights: null for random weights, a .safetensors or .pth file, or the name of
        pretrained weights ("imagenet"), which `raysearch.models.weights.fetch` turns into a file.
    dropout: the share of the decoder's last channels dropped in training.
    Other keys are the decoder's own arguments, such as encoder_depth or decoder_channels; a "tu-"
    encoder takes timm's arguments too, such as drop_path_rate.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    decoder: str = "unet"
    encoder: str = "resnet34"
    encoder_weights: str | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)


def build(options: Options, task: Task, channels: int) -> nn.Module:
    decoder = find_decoder(options.decoder)
    check_encoder(options.encoder)
    network = _construct(decoder, options, task.bands, channels)
    _freeze_unreached(network, options, task.bands)
    if options.encoder_weights is not None:
        load_encoder(network, options.encoder_weights)
    if options.dropout:
        dropout = nn.Dropout2d(options.dropout)
        network.segmentation_head = nn.Sequential(dropout, network.segmentation_head)
    return network


def find_decoder(name: str) -> Callable[..., Any]:
    """Return smp's class of that name.

    Raises:
        ConfigError: there is none.
    """
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING

    if name not in MODEL_ARCHITECTURES_MAPPING:
        raise ConfigError(
            f"decoder '{name}' is unknown. {closest(name, MODEL_ARCHITECTURES_MAPPING)}"
        )
    decoder: Callable[..., Any] = MODEL_ARCHITECTURES_MAPPING[name]
    return decoder


def check_encoder(name: str) -> None:
    """Refuse an encoder that neither smp nor timm has ("timm-" names are smp's deprecated ones).

    Raises:
        ConfigError: unknown name.
    """
    from segmentation_models_pytorch.encoders import get_encoder_names
    from timm import is_model, list_models

    if name.startswith("tu-"):
        if is_model(name.removeprefix("tu-").partition(".")[0]):
            return
        near = get_close_matches(name, [f"tu-{model}" for model in list_models()], cutoff=0.4)
        raise ConfigError(
            f"encoder '{name}' is unknown to timm. Near: {', '.join(near) or 'none'}; "
            "timm.list_models() has them all."
        )
    valid = [encoder for encoder in get_encoder_names() if not encoder.startswith("timm-")]
    if name not in valid:
        raise ConfigError(f"encoder '{name}' is unknown. {closest(name, valid)}")


def _construct(decoder: Callable[..., Any], options: Options, bands: int, channels: int) -> Any:
    arguments = dict(options.model_extra or {})
    known = set(inspect.signature(decoder).parameters) - TAKEN
    unknown = sorted(set(arguments) - known)
    if unknown and not options.encoder.startswith("tu-"):
        raise ConfigError(
            f"network smp: unknown key '{unknown[0]}'. "
            + closest(unknown[0], known | set(Options.model_fields))
        )
    if options.decoder == "dpt":
        arguments.setdefault("dynamic_img_size", True)
    try:
        return decoder(
            encoder_name=options.encoder,
            encoder_weights=None,
            in_channels=bands,
            classes=channels,
            **arguments,
        )
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"network smp: decoder '{options.decoder}' on encoder '{options.encoder}' with "
            f"{arguments} cannot be built: {error}"
        ) from error


_UNREACHED: dict[str, list[str]] = {}


def _freeze_unreached(network: nn.Module, options: Options, bands: int) -> None:
    """Freeze the parameters that the output does not depend on.

    Some encoders keep layers that a decoder never uses (EfficientNet's last convolution, the
    stages below encoder_depth). DDP would wait for their gradients and fail.
    """
    key = f"{bands} {options.model_dump_json(exclude={'encoder_weights', 'dropout'})}"
    if key not in _UNREACHED:
        size = (options.model_extra or {}).get("img_size", 224)
        _UNREACHED[key] = _unreached(network, torch.empty(1, bands, size, size, device="meta"))
    for name in _UNREACHED[key]:
        network.get_parameter(name).requires_grad_(False)


def _unreached(network: nn.Module, images: torch.Tensor) -> list[str]:
    """Name the parameters that get no gradient, by one pass over shapes without any numbers."""
    training = network.training
    parameters = {
        name: torch.empty_like(p, device="meta").requires_grad_()
        for name, p in network.named_parameters()
    }
    buffers = {name: b.to("meta") for name, b in network.named_buffers()}
    functional_call(network.eval(), {**parameters, **buffers}, images).sum().backward()
    network.train(training)
    return [name for name, p in parameters.items() if p.grad is None]
