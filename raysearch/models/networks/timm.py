"""Any image model of timm, https://github.com/huggingface/pytorch-image-models, with a new head.

EfficientNet-B0 has 4.0 million parameters below its head, B3 10.7, B4 17.5, ResNet-50 23.5 and
ResNet-101 42.5. The library takes seconds to import, so it is imported when a network is built.
"""

from collections import OrderedDict
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import ConfigDict, Field
from torch import Tensor, nn

from raysearch.config import Task, Values
from raysearch.errors import ConfigError
from raysearch.models.weights import load_encoder

KIND = "classification"


class Options(Values):
    """model: timm's name, such as efficientnet_b0, resnet50 or resnet50.a1_in1k (with a tag).

    encoder_weights: null for random weights, a .safetensors or .pth file, or "imagenet", which
        `raysearch.models.weights.fetch` turns into a file.
    head: "linear" is dropout and one linear layer; "deep" is a linear layer to `hidden` features
        and ReLU before them. (The food strategy asks for a deeper classifier and leaves its form
        open; this one has no batch normalisation, so that a batch may be a single image.)
    dropout: the share of features dropped before the last linear layer in training.
    drop_path: the share of residual branches dropped in training, rising to it with depth
        (https://arxiv.org/abs/1603.09382).
    Other keys are the model's own arguments, such as dynamic_img_size: true, with which a vision
    transformer takes images of any size.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str = "efficientnet_b0"
    encoder_weights: str | None = None
    head: Literal["linear", "deep"] = "linear"
    hidden: int = Field(default=512, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class Classifier(nn.Module):
    """Features of whole images (N, features) from the encoder, logits (N, channels) by the head."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


def build(options: Options, task: Task, channels: int) -> nn.Module:
    check_model(options.model)
    encoder = _encoder(options, task.bands)
    network = Classifier(encoder, _head(options, encoder.head_hidden_size, channels))
    if options.encoder_weights is not None:
        load_encoder(network, options.encoder_weights)
    return network


def check_model(name: str) -> None:
    """Refuse a model that timm does not have.

    Raises:
        ConfigError: unknown name, or an unknown tag behind a known one.
    """
    from timm import is_model, list_models, list_pretrained

    base, _, tag = name.partition(".")
    if is_model(base) and (not tag or name in list_pretrained(f"{base}.*")):
        return
    known = list_pretrained(f"{base}.*") if is_model(base) else list_models()
    near = get_close_matches(name, known, cutoff=0.4) or known[:3]
    raise ConfigError(
        f"model '{name}' is unknown to timm. Near: {', '.join(near) or 'none'}; "
        "timm.list_models() has them all."
    )


def _encoder(options: Options, bands: int) -> Any:
    """Return timm's model without its classifier; its pooled features are (N, features)."""
    from timm import create_model

    arguments = dict(options.model_extra or {})
    if options.drop_path:
        arguments["drop_path_rate"] = options.drop_path
    try:
        return create_model(
            options.model, pretrained=False, num_classes=0, in_chans=bands, **arguments
        )
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"network timm: model '{options.model}' with {arguments} cannot be built: {error}"
        ) from error


def _head(options: Options, features: int, channels: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if options.head == "deep":
        layers["hidden"] = nn.Linear(features, options.hidden)
        layers["activation"] = nn.ReLU(inplace=True)
        features = options.hidden
    layers["dropout"] = nn.Dropout(options.dropout)
    layers["classifier"] = nn.Linear(features, channels)
    return nn.Sequential(layers)
