"""Every decoder of segmentation_models_pytorch, and encoders of both libraries."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from raysearch.config import Recipe, Task
from raysearch.errors import ConfigError
from raysearch.models import build, parameters_in_millions
from raysearch.models.networks import smp as networks
from raysearch.training.checkpoint import save
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import description, load_trained

TASK = Task("segmentation", bands=3, classes=("ground", "cat", "dog"))
ENCODER = {"dpt": "tu-test_vit"}
SMALLER = {
    "dpt": {"decoder_intermediate_channels": [16, 16, 16, 16], "decoder_fusion_channels": 16},
    "deeplabv3": {"decoder_channels": 32},
    "deeplabv3plus": {"decoder_channels": 32},
    "upernet": {"decoder_channels": 32},
    "fpn": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "segformer": {"decoder_segmentation_channels": 32},
    "pspnet": {"psp_out_channels": 32},
}


def spec(decoder: str, encoder: str = "tu-test_resnet", **keys: object) -> dict[str, object]:
    return {"type": "smp", "decoder": decoder, "encoder": encoder, **keys}


@pytest.mark.parametrize("decoder", sorted(smp.MODEL_ARCHITECTURES_MAPPING))
def test_every_decoder_trains_both_heads(decoder: str) -> None:
    encoder = ENCODER.get(decoder, "tu-test_resnet")
    network = build(spec(decoder, encoder, **SMALLER.get(decoder, {})), TASK)
    output = network(torch.rand(2, 3, 128, 128))
    assert output.semantic.shape == (2, 3, 128, 128)
    assert output.boundary.shape == (2, 1, 128, 128)
    (output.semantic.square().mean() + output.boundary.square().mean()).backward()
    trained = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0"])
def test_encoders_of_smp(encoder: str) -> None:
    network = build(spec("unet", encoder, dropout=0.2), TASK)
    output = network(torch.rand(2, 3, 64, 64))
    output.semantic.sum().backward()
    assert output.semantic.shape == (2, 3, 64, 64)
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("encoder", ["tu-test_efficientnet", "tu-test_convnext", "tu-resnet10t"])
def test_encoders_of_timm(encoder: str) -> None:
    output = build(spec("unet", encoder), TASK)(torch.rand(2, 3, 64, 64))
    assert output.boundary.shape == (2, 1, 64, 64)


def test_layers_that_a_decoder_never_uses_are_frozen() -> None:
    network = build(spec("unet", "efficientnet-b0"), TASK)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {
        f"network.encoder.{p}" for p in ("_conv_head.weight", "_bn1.weight", "_bn1.bias")
    }


def test_finding_them_leaves_the_random_numbers_alone() -> None:
    states = []
    for keys in ({}, {}, {"decoder_channels": [64, 32, 16, 8, 8]}):
        torch.manual_seed(0)
        network = build(spec("unet", "efficientnet-b0", **keys), TASK)
        states.append(network.network.encoder._conv_stem.weight)
        assert network.training
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_parameters_of_efficientnet_b3() -> None:
    network = build(spec("unet", "efficientnet-b3"), TASK)
    encoder = sum(p.numel() for p in network.network.encoder.parameters()) / 1e6
    assert encoder == pytest.approx(10.70, abs=0.01)
    assert parameters_in_millions(network) == pytest.approx(12.57, abs=0.01)


def test_arguments_of_the_decoder_reach_it() -> None:
    narrow = build(spec("unet", decoder_channels=[32, 16, 8, 8, 4]), TASK)
    assert narrow.network.segmentation_head[0].in_channels == 4
    shallow = build(spec("unet", encoder_depth=3, decoder_channels=[16, 8, 4]), TASK)
    assert len(shallow.network.decoder.blocks) == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"decoder": "unett"}, "decoder 'unett' is unknown. Did you mean 'unet'"),
        ({"encoder": "resnet81"}, "encoder 'resnet81' is unknown. Did you mean 'resnet18'"),
        ({"encoder": "tu-resnet10tt"}, "unknown to timm. Near: tu-resnet10t"),
        ({"encoder": "timm-efficientnet-b0"}, "is unknown"),
        ({"decoder_chanels": 3}, "unknown key 'decoder_chanels'. Did you mean 'decoder_channels'"),
        ({"encoder": "tu-test_resnet", "nonsense": 3}, "cannot be built"),
        ({"decoder_channels": [8, 8]}, "cannot be built"),
        ({"classes": 3}, "unknown key 'classes'"),
        ({"encoder_weights": "imagenet"}, "driver fetches"),
    ],
)
def test_what_cannot_be_built_says_why(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({"type": "smp", "encoder": "resnet18", **keys}, TASK)


def test_a_network_is_loaded_alike_under_inference_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of its kind in a process finds what nothing reaches, by gradients."""
    told = description(
        spec("unet"), TASK, Recipe(architecture="a"), Normalisation(torch.zeros(3), torch.ones(3))
    )
    save(tmp_path / "best", 1, build(spec("unet"), TASK).state_dict(), model=told)
    monkeypatch.setattr(networks, "_UNREACHED", {})
    with torch.inference_mode():
        network = load_trained(tmp_path).network
    assert not next(network.parameters()).is_inference()
