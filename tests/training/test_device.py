"""Devices, and mixed precision on a CPU."""

import pytest
import torch
from torch import nn

from raysearch.config import Task
from raysearch.errors import ConfigError
from raysearch.models import build
from raysearch.training.device import (
    Precision,
    check_kernels,
    choose_dtype,
    find_device,
    has_kernels,
    peak_memory_mb,
    prepare,
)

CPU = torch.device("cpu")
CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((6, 0), CUDA_13, False),  # Tesla P100
        ((7, 0), CUDA_13, False),  # V100: older minor than 7.5
        ((7, 5), CUDA_13, True),
        ((8, 9), CUDA_13, True),  # code for 8.6 runs on 8.9
        ((9, 0), CUDA_13, True),
        ((10, 3), CUDA_13, True),
        ((12, 1), CUDA_13, True),
        ((13, 0), CUDA_13, True),  # PTX of 12.0 is compiled for what comes later
        ((13, 0), ["sm_90", "sm_120"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120a"], False),
        ((6, 0), ["sm_50", "sm_60", "sm_90"], True),
        ((9, 4), ["gfx942"], True),
    ],
)
def test_has_kernels(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert has_kernels(capability, architectures) is runs


def test_a_gpu_without_kernels_is_told_with_the_ways_out() -> None:
    with pytest.raises(ConfigError) as caught:
        check_kernels("Tesla P100-PCIE-16GB", (6, 0), CUDA_13)
    message = str(caught.value)
    assert "Tesla P100-PCIE-16GB has compute capability 6.0" in message
    assert "sm_75" in message
    assert "CUDA 12.6" in message
    assert "CUDA_VISIBLE_DEVICES=''" in message


def test_find_device_finds_one_that_computes() -> None:
    device = find_device()
    assert torch.ones(2, device=device).sum().item() == 2
    assert peak_memory_mb(device) >= 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the CPU is not what is found")
def test_without_a_gpu_the_cpu_is_found() -> None:
    assert find_device() == CPU
    assert peak_memory_mb(CPU) > 50


def test_prepare_seeds_and_keeps_to_its_threads() -> None:
    before = torch.get_num_threads()
    numbers = []
    for _ in range(2):
        prepare(seed=5, threads=1, device=CPU)
        numbers.append(torch.rand(3))
    assert torch.get_num_threads() == 1
    assert torch.equal(*numbers)
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("auto", torch.float32),
        ("float32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_precision_on_a_cpu(precision: str, dtype: torch.dtype) -> None:
    assert choose_dtype(precision, CPU) == dtype
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    chosen = Precision(precision, CPU)
    assert chosen.scaler.is_enabled() is (precision == "fp16")
    with chosen.autocast():
        assert nn.Linear(2, 2)(torch.rand(1, 2)).dtype == dtype


def test_unknown_precision() -> None:
    with pytest.raises(ConfigError, match="precision 'fp8' is unknown"):
        choose_dtype("fp8", CPU)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_network_learns_in_every_precision(precision: str, clip_norm: float | None) -> None:
    torch.manual_seed(0)
    network = build({"type": "unet", "width": 2, "depth": 1}, Task("segmentation", 3, ("a", "b")))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-2, fused=True)
    chosen = Precision(precision, CPU)
    target = torch.arange(16 * 16).view(1, 16, 16).expand(2, -1, -1) // 8 % 2
    images = target.unsqueeze(1).expand(-1, 3, -1, -1) + 0.1 * torch.rand(2, 3, 16, 16)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        with chosen.autocast():
            semantic = network(images).semantic
        loss = nn.functional.cross_entropy(semantic.float(), target)
        chosen.scale(loss).backward()
        chosen.step(optimizer, network, clip_norm)
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def one_step(gradient: float, clip_norm: float | None) -> tuple[float, Precision]:
    """Step a weight of 1 by SGD with rate 1, under an enabled scaler; return it afterwards."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    chosen = Precision("fp16", CPU)
    chosen.scale((model.weight * gradient).sum()).backward()
    chosen.step(torch.optim.SGD(model.parameters(), lr=1.0), model, clip_norm)
    return model.weight.item(), chosen


def test_gradients_are_clipped_after_they_are_unscaled() -> None:
    assert one_step(0.5, clip_norm=1.0)[0] == pytest.approx(0.5)
    assert one_step(4.0, clip_norm=1.0)[0] == pytest.approx(0.0, abs=1e-5)
    assert one_step(4.0, clip_norm=None)[0] == pytest.approx(-3.0)


def test_an_overflow_skips_the_step_and_lowers_the_scale() -> None:
    weight, chosen = one_step(float("inf"), clip_norm=1.0)
    assert weight == 1.0
    assert chosen.scaler.get_scale() == 2.0**15


def test_the_scaler_is_resumed() -> None:
    _, chosen = one_step(float("inf"), clip_norm=1.0)
    again = Precision("fp16", CPU)
    again.load_state_dict(chosen.state_dict())
    assert again.scaler.get_scale() == 2.0**15
    plain = Precision("float32", CPU)
    plain.load_state_dict(plain.state_dict())
    assert plain.state_dict() == {}
