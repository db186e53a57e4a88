"""Batch normalisation on two CPU ranks gives the numbers of one batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raysearch.config import Task
from raysearch.models import build
from raysearch.models.batch_norm import (
    ActivatedRankBatchNorm,
    ActivatedSyncBatchNorm,
    RankBatchNorm,
    synchronise,
)
from tests.training.two_ranks import on_two_ranks

CPU = torch.device("cpu")
UNET = {"type": "attention_unet", "width": 2, "depth": 2}
SHARES = ([0, 1, 2], [3, 4, 5, 6, 7])  # ranks may hold different numbers of images


def activated(kind: Callable[[int], Any]) -> nn.Module:
    """A layer made as timm makes its own, without waiting for timm on each rank."""
    layer = kind(4)
    layer.drop, layer.act = nn.Identity(), nn.SiLU()
    return layer


def timms(channels: int) -> nn.Module:
    from timm.layers import BatchNormAct2d

    return BatchNormAct2d(channels, act_layer=nn.SiLU)


def layers(activated_kind: Callable[[int], Any] = timms) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "plain": nn.BatchNorm2d(4),
        "not affine": nn.BatchNorm2d(4, affine=False),
        "cumulative": nn.BatchNorm2d(4, momentum=None),
        "one-dimensional": nn.BatchNorm1d(4),
        "activated": activated(activated_kind),
    }
    for layer in layers.values():
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return layers


def images_of(name: str) -> Tensor:
    images = torch.randn(8, 4, 5, 6, generator=torch.Generator().manual_seed(1)) * 3 + 100
    return images.flatten(2) if name == "one-dimensional" else images


def run_layer(layer: nn.Module, name: str, share: list[int]) -> dict[str, Tensor]:
    """Two steps of a layer on some of the images: outputs, gradients, running statistics."""
    layer.train()
    images = images_of(name)
    slope = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    layer(images[share] + 1)
    own = images[share].requires_grad_()
    output = layer(own)
    (output * slope[share]).sum().backward()
    result = {"output": output.detach(), "images": own.grad}
    result |= {f"gradient of {k}": p.grad for k, p in layer.named_parameters()}
    result |= {k: b.double() for k, b in layer.named_buffers()}
    return result


def network_and_batch(spec: dict[str, Any] = UNET) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    network = build(spec, Task("segmentation", 3, ("ground", "cat")))
    return network, torch.rand(4, 3, 32, 32)


def run_network(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    network(images).semantic.square().mean().backward()
    named = [(k.removeprefix("module."), v) for k, v in network.named_parameters()]
    result = {f"gradient of {k}": p.grad for k, p in named}
    buffers = [(k.removeprefix("module."), v) for k, v in network.named_buffers()]
    return result | {k: b.double() for k, b in buffers}


def on_a_rank(rank: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        name: run_layer(synchronise(layer, CPU), name, SHARES[rank])
        for name, layer in layers(ActivatedRankBatchNorm).items()
    }
    network, images = network_and_batch()
    ready = DistributedDataParallel(synchronise(network, CPU))
    result["network"] = run_network(ready, images[2 * rank : 2 * rank + 2])
    network, images = network_and_batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = synchronise(network, CPU)(images[2 * rank : 2 * rank + 2]).semantic
    output.float().mean().backward()
    result["bf16"] = output.detach()
    return result


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_two_ranks(on_a_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", list(layers()))
class TestLayer:
    def test_forward_and_gradient_of_the_images(self, name: str, ranks: list[Any]) -> None:
        expected = run_layer(layers()[name], name, list(range(8)))
        for key in ("output", "images"):
            got = torch.cat([rank[name][key] for rank in ranks])
            torch.testing.assert_close(got, expected[key], atol=2e-4, rtol=1e-4)

    def test_gradients_of_the_parameters_add_up(self, name: str, ranks: list[Any]) -> None:
        expected = run_layer(layers()[name], name, list(range(8)))
        for key in [key for key in expected if key.startswith("gradient")]:
            got = ranks[0][name][key] + ranks[1][name][key]
            torch.testing.assert_close(got, expected[key], atol=5e-3, rtol=1e-4)

    def test_running_statistics(self, name: str, ranks: list[Any]) -> None:
        expected = run_layer(layers()[name], name, list(range(8)))
        for key in [key for key in expected if "running" in key or "tracked" in key]:
            for rank in ranks:
                torch.testing.assert_close(rank[name][key], expected[key], atol=1e-4, rtol=1e-5)


def test_a_network_under_ddp_equals_one_big_batch(ranks: list[Any]) -> None:
    expected = run_network(*network_and_batch())
    assert ranks[0]["network"].keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(ranks[0]["network"][key], value, atol=2e-4, rtol=2e-3)
        assert torch.equal(ranks[0]["network"][key], ranks[1]["network"][key])


def test_bf16_autocast(ranks: list[Any]) -> None:
    network, images = network_and_batch()
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(images).semantic
    got = torch.cat([rank["bf16"] for rank in ranks])
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, atol=0.05, rtol=0.1)


def test_conversion_keeps_parameters_names_and_numbers() -> None:
    network, images = network_and_batch({"type": "smp", "encoder": "tu-test_efficientnet"})
    network.eval()
    before, names = network(images).semantic, list(network.state_dict())
    parameters = list(network.parameters())
    converted = synchronise(network, CPU)
    assert list(converted.state_dict()) == names
    assert all(a is b for a, b in zip(converted.parameters(), parameters, strict=True))
    assert torch.equal(converted(images).semantic, before)
    normalising = [m for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert all(isinstance(m, RankBatchNorm) for m in normalising)
    assert any(isinstance(m, ActivatedRankBatchNorm) for m in normalising)


def test_gpus_get_torchs_own_layer() -> None:
    network = nn.Sequential(nn.BatchNorm2d(4), timms(4))
    network = synchronise(network, torch.device("cuda"))
    assert type(network[0]) is nn.SyncBatchNorm
    assert isinstance(network[1], ActivatedSyncBatchNorm)
    assert isinstance(network[1], nn.SyncBatchNorm)
    images = torch.randn(2, 4, 3, 3)
    expected = nn.functional.silu(images / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(network[1].eval()(images), expected)


def test_one_process_is_the_usual_normalisation() -> None:
    for name, layer in layers().items():
        converted = synchronise(layers()[name], CPU)
        expected = run_layer(layer, name, list(range(8)))
        for key, value in run_layer(converted, name, list(range(8))).items():
            assert torch.equal(value, expected[key])
