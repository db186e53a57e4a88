"""Squeeze-and-excitation and self-attention: where they stand, and that they do what they say."""

import pytest
import torch
from timm.layers import SqueezeExcite
from torch.nn import functional as F

from raysearch.config import Task
from raysearch.models import build
from raysearch.models.blocks import OutputBlock, SelfAttention

TASK = Task("segmentation", bands=11, classes=("other", "debris"))


def places(network: torch.nn.Module, kind: type) -> list[str]:
    return [
        ".".join(name.split(".")[1:3])
        for name, module in network.named_modules()
        if isinstance(module, kind)
    ]


def test_excitation_stands_in_the_encoder_the_bottleneck_and_the_deepest_decoder_block() -> None:
    network = build({"type": "se_unet", "width": 4}, TASK)
    assert places(network, SqueezeExcite) == [*(f"encoder.{n}" for n in range(5)), "decoder.0"]


def test_attention_stands_at_the_bottleneck_and_in_every_decoder_block() -> None:
    network = build({"type": "self_attention_unet", "width": 4}, TASK)
    assert places(network, SelfAttention) == ["encoder.4", *(f"decoder.{n}" for n in range(4))]


@pytest.mark.parametrize("kind", ["se_unet", "self_attention_unet"])
def test_one_more_convolution_before_the_output(kind: str) -> None:
    network = build({"type": kind, "width": 4, "depth": 2}, TASK)
    head = next(module for module in network.modules() if isinstance(module, OutputBlock))
    assert [c.kernel_size for c in head if isinstance(c, torch.nn.Conv2d)] == [(3, 3), (1, 1)]


@pytest.mark.parametrize("kind", ["se_unet", "self_attention_unet"])
def test_dropout_is_the_document_s_unless_said_otherwise(kind: str) -> None:
    for spec, share in (({}, {0.2}), ({"dropout": 0.4}, {0.4}), ({"dropout": 0.0}, set())):
        network = build({"type": kind, "width": 4, "depth": 2, **spec}, TASK)
        found = {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout2d)}
        assert found == share


def test_attention_agrees_with_torch_s_own() -> None:
    """nn.MultiheadAttention over the same pixels with the same weights."""
    torch.manual_seed(0)
    block = SelfAttention(8, head_channels=4, keys=16)
    torch.nn.init.ones_(block.scale)
    reference = torch.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    with torch.no_grad():
        both = [block.queries.weight, block.keys_and_values.weight]
        reference.in_proj_weight.copy_(torch.cat(both)[..., 0, 0])
        reference.in_proj_bias.copy_(torch.cat([block.queries.bias, block.keys_and_values.bias]))
        reference.out_proj.weight.copy_(block.out.weight[..., 0, 0])
        reference.out_proj.bias.copy_(block.out.bias)
    features = torch.randn(2, 8, 5, 6)
    pixels = F.group_norm(features, 1).flatten(2).mT
    seen, _ = reference(pixels, pixels, pixels)
    expected = features + seen.mT.reshape(2, 8, 5, 6)
    torch.testing.assert_close(block(features), expected, atol=1e-5, rtol=1e-5)


def test_the_bottleneck_of_a_patch_sees_all_of_it_and_decoders_a_coarser_image() -> None:
    network = build({"type": "self_attention_unet", "width": 4, "keys": 6}, TASK)
    found = [module.keys for module in network.modules() if isinstance(module, SelfAttention)]
    assert found == [256 // 2**4, 6, 6, 6, 6]


def test_untrained_attention_passes_its_input_on_and_learns() -> None:
    block = SelfAttention(8)
    features = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(features), features)
    block(features).square().sum().backward()
    assert block.scale.grad.abs() > 0


@pytest.mark.parametrize("channels", [4, 96, 200])
def test_heads_divide_any_number_of_channels(channels: int) -> None:
    block = SelfAttention(channels, head_channels=64)
    assert channels % block.heads == 0
    assert block(torch.randn(1, channels, 4, 4)).shape == (1, channels, 4, 4)


def test_a_far_pixel_is_seen() -> None:
    """A change in one corner reaches the other, which no convolution of this network could do."""
    torch.manual_seed(0)
    network = build({"type": "self_attention_unet", "width": 4, "depth": 1, "dropout": 0.0}, TASK)
    for module in network.modules():
        if isinstance(module, SelfAttention):
            torch.nn.init.ones_(module.scale)
            module.normalisation = torch.nn.Identity()  # It looks at the whole image by itself.
    network.eval()
    images = torch.randn(1, 11, 64, 64)
    changed = images.clone()
    changed[..., :4, :4] += 5
    difference = (network(images).semantic - network(changed).semantic).abs()
    assert difference[..., -4:, -4:].max() > 0


def test_memory_of_attention_grows_with_the_pixels() -> None:
    """As many keys at 64 pixels as at 256: the scores are (pixels, 256), not (pixels, pixels)."""
    seen: list[torch.Size] = []
    block = SelfAttention(4, head_channels=4)
    block.keys_and_values.register_forward_hook(lambda m, inputs, out: seen.append(out.shape))
    for side in (8, 64, 256):
        block(torch.zeros(1, 4, side, side))
    assert [shape[-2:] for shape in seen] == [(8, 8), (16, 16), (16, 16)]
