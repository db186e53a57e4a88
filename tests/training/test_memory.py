"""What fits on a GPU: tried once, remembered, and halved when training finds that it does not."""

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.config import Objective, Recipe, Task
from raysearch.data import Data, open_data
from raysearch.errors import TrialError
from raysearch.training import memory
from raysearch.training.fitting import fitted_parts, halve, memory_key
from raysearch.training.loop import Training
from raysearch.training.machine import Machine
from raysearch.training.memory import Bounds, Limits, inject, is_oom, micro_batches, parts_for
from tests.data.voc_miniature import CLASSES, config, write_plain
from tests.training.two_ranks import on_two_ranks

TASK = Task("segmentation", 3, CLASSES)
SPEC: dict[str, Any] = {"type": "unet", "width": 4, "depth": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("memory")
    return open_data(config(), write_plain(folder / "voc"), folder / "cache", seed=0)


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    return Limits(tmp_path / "memory" / "gpu.json")


def training(
    data: Data, folder: Path, spec: dict[str, Any] = SPEC, machine: Machine | None = None,
    **values: Any,
) -> Training:  # fmt: skip
    base = {"architecture": "unet", "image_size": 32, "crop_size": 32, "batch_size": 8, "epochs": 2}
    recipe = Recipe.model_validate({**base, **values})
    machine = machine or Machine(device=torch.device("cpu"))
    return Training(recipe, spec, TASK, data, Objective(), folder, machine)


class Gpu:
    """Holds so many images at once, and counts what is tried."""

    def __init__(self, room: int) -> None:
        self.room, self.tried = room, list[int]()

    def __call__(self, images: int) -> None:
        self.tried.append(images)
        if images > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def holds(self, trial: Training) -> Training:
        """Let the network of a trial find this GPU full."""
        trial.network.register_forward_pre_hook(lambda module, args: self(len(args[0])))
        return trial


@pytest.mark.parametrize(
    ("share", "least", "most", "sizes"),
    [
        (8, 1, None, [1, 2, 3, 4, 8]),
        (8, 2, None, [1, 2, 3, 4]),
        (7, 1, None, [1, 2, 3, 4, 7]),
        (1, 1, None, [1]),
        (3, 1, 2, [2, 3]),
    ],
)
def test_micro_batches_are_what_parts_can_be(
    share: int, least: int, most: int | None, sizes: list[int]
) -> None:
    assert micro_batches(share, least, most) == sizes
    for parts in range(least, (most or share) + 1):
        assert max(map(len, torch.zeros(share).tensor_split(parts))) in sizes


def test_parts_are_as_few_as_fit() -> None:
    for share, largest, accumulation in product(range(1, 13), range(1, 14), (1, 2, 3)):
        parts = parts_for(share, largest, accumulation)
        assert parts >= accumulation
        assert -(-share // parts) <= largest
        assert parts == accumulation or -(-share // (parts - 1)) > largest


def test_the_largest_that_fits_is_found(limits: Limits) -> None:
    sizes = micro_batches(16)
    for room in (1, 2, 3, 5, 8, 15, 16, 19):
        found = limits.largest(f"unet {room}", sizes, Gpu(room))
        assert found == max(n for n in sizes if n <= room)


def test_what_is_known_is_not_tried_again(limits: Limits) -> None:
    gpu = Gpu(5)
    assert limits.largest("unet", micro_batches(16), gpu) == 4
    assert gpu.tried == [16, 8, 4, 6]
    again = Gpu(5)
    assert limits.largest("unet", micro_batches(16), again) == 4
    assert limits.largest("unet", micro_batches(6), again) == 3
    assert again.tried == []
    assert limits.largest("unet", micro_batches(10), again) == 5
    assert again.tried == [5]
    assert Limits(limits.path).known("unet") == Bounds(fits=5, fails=6)
    assert limits.largest("resnet", micro_batches(2), again) == 2


def test_a_larger_batch_asks_for_what_is_beyond(limits: Limits) -> None:
    limits.largest("unet", micro_batches(4), Gpu(32))
    gpu = Gpu(32)
    assert limits.largest("unet", micro_batches(32), gpu) == 32
    assert gpu.tried == [32]


def test_a_gpu_that_was_full_once_is_asked_again(limits: Limits) -> None:
    assert limits.largest("unet", micro_batches(4), Gpu(0)) == 0
    assert limits.largest("unet", micro_batches(4), Gpu(1)) == 1


def test_another_error_of_a_step_is_its_own(limits: Limits) -> None:
    def broken(images: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        limits.largest("unet", [1, 2], broken)
    assert limits.known("unet") == Bounds()


def test_what_training_finds_counts_more_than_a_probe(limits: Limits) -> None:
    limits.note("unet", fits=8)
    assert limits.note("unet", fails=8) == Bounds(4, 8)
    assert limits.note("unet", fits=9) == Bounds(9, None)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_exhausted_memory_is_recognised(error: Exception, full: bool) -> None:
    assert is_oom(error) is full


def test_a_fault_test_injects_what_a_full_gpu_says(monkeypatch: pytest.MonkeyPatch) -> None:
    inject(100)
    monkeypatch.setenv(memory.INJECTED, "4")
    inject(4)
    with pytest.raises(torch.OutOfMemoryError, match="INJECT") as caught:
        inject(5)
    assert is_oom(caught.value)


def test_each_kind_of_gpu_and_share_has_a_file() -> None:
    total = 79 * memory.GIB
    assert memory.file_name("NVIDIA H100 80GB HBM3", total) == "nvidia-h100-80gb-hbm3-79.json"
    assert memory.file_name("Tesla T4", 15 * memory.GIB, 0.5) == "tesla-t4-15-0.5.json"


def exactly(value: Any) -> Any:
    """A state whose tensors are bytes, so that two of them can be compared."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: exactly(entry) for key, entry in value.items()}
    return [exactly(entry) for entry in value] if isinstance(value, list | tuple) else value


def everything(trial: Training) -> dict[str, Any]:
    """All that a probe might have changed."""
    parts = {"optimizer": trial.optimizer, "schedule": trial.schedule, "scaler": trial.precision}
    parts |= {"network": trial.network} | ({"ema": trial.ema} if trial.ema else {})
    return {name: exactly(part.state_dict()) for name, part in parts.items()} | {
        "gradients": [p.grad for p in trial.network.parameters() if p.grad is not None],
        "torch": exactly(torch.get_rng_state()),
        "numpy": str(np.random.get_state()),
        "random": random.getstate(),
        "trial": (trial.machine, trial.ready, trial.parts),
        "modes": [module.training for module in trial.network.modules()],
    }


@pytest.mark.parametrize(
    "values",
    [{}, {"ema_decay": 0.9, "mixup_alpha": 0.4}, {"precision": "fp16", "schedule": "plateau"}],
)
def test_a_probe_leaves_no_trace(
    data: Data, tmp_path: Path, limits: Limits, values: dict[str, Any]
) -> None:
    trial = Gpu(3).holds(training(data, tmp_path, {**SPEC, "dropout": 0.3}, **values))
    before = everything(trial)
    assert fitted_parts(trial, limits) == 3
    assert everything(trial) == before


def test_a_probe_trains_with_gradients_and_the_optimizers_state(
    data: Data, tmp_path: Path, limits: Limits
) -> None:
    trial = training(data, tmp_path, ema_decay=0.9)
    seen: list[tuple[bool, bool, bool]] = []

    def look(module: torch.nn.Module, arguments: Any) -> None:
        weight = next(module.parameters())
        seen.append((module.training, weight.grad is not None, weight in trial.optimizer.state))

    trial.network.register_forward_pre_hook(look)
    assert fitted_parts(trial, limits) == 1
    assert seen == [(True, False, True), (True, True, True)]


def test_the_batch_is_trained_in_the_parts_that_fit(
    data: Data, tmp_path: Path, limits: Limits
) -> None:
    gpu = Gpu(3)
    trial = gpu.holds(training(data, tmp_path))
    trial.parts = fitted_parts(trial, limits)
    gpu.tried.clear()
    trial.train_epoch(1)
    assert set(gpu.tried) == {2, 3}
    assert sum(gpu.tried) == 8 * len(trial.batches)
    later = Gpu(3)
    other = later.holds(training(data, tmp_path / "other", batch_size=6, learning_rate=1e-5))
    assert fitted_parts(other, limits) == 2
    assert later.tried == []


def test_without_limits_the_recipe_says_how_many_parts(data: Data, tmp_path: Path) -> None:
    assert fitted_parts(training(data, tmp_path, accumulation=2)) == 2


def test_not_even_one_image_fails_the_trial(data: Data, tmp_path: Path, limits: Limits) -> None:
    trial = Gpu(0).holds(training(data, tmp_path))
    with pytest.raises(TrialError, match=r"out of memory: .*unet on 1 image of 32 x 32.*crop_size"):
        fitted_parts(trial, limits)


def test_memory_exhausted_in_training_halves_the_parts(
    data: Data, tmp_path: Path, limits: Limits
) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(4):
        trial = training(data, tmp_path)
        trial.parts = fitted_parts(trial, limits)
        told.append((trial.parts, halve(trial, limits)))
    assert told == [(1, 4), (2, 2), (4, 1), (8, 0)]
    key = memory_key(trial)
    assert limits.known(key) == Bounds(1, 2)
    assert json.loads((tmp_path / "micro_batch.json").read_text()) == {"largest": 1}


def test_a_trial_goes_on_with_half_and_keeps_its_effective_batch(
    data: Data, tmp_path: Path
) -> None:
    gpu, reports, failed = Gpu(3), list[dict[str, Any]](), list[int]()
    while not reports or not reports[-1]["finished"]:
        trial = gpu.holds(training(data, tmp_path))
        trial.parts = fitted_parts(trial)
        try:
            trial.fit(reports.append)
        except torch.OutOfMemoryError:
            failed.append(halve(trial))
    assert failed == [4, 2]
    assert [(told["epoch"], told["micro_batch"]) for told in reports] == [(1, 2), (2, 2)]
    assert trial.schedule.steps == 2 * len(trial.batches)
    assert {told["effective_batch"] for told in reports} == {8}


def test_what_needs_other_memory_has_another_key(data: Data, tmp_path: Path) -> None:
    def key(spec: dict[str, Any] | None = None, **values: Any) -> str:
        return memory_key(training(data, tmp_path, SPEC | (spec or {}), **values))

    same = key()
    assert same.startswith("unet-32-")
    assert key(learning_rate=1e-5, batch_size=4, seed=3, loss="2*cross_entropy") == same
    assert key({"dropout": 0.1}) == key({"dropout": 0.2}) != same
    others = [
        key({"width": 8}), key(crop_size=64), key(ema_decay=0.9), key(precision="bf16"),
        key(gradient_checkpointing=True), key(channels_last=False), key(loss="focal + dice"),
    ]  # fmt: skip
    assert len({same, *others}) == 8


class OnRank:
    """Rank 1 has less room than rank 0; a picklable call for a spawned rank."""

    def __init__(self, data: Data, folder: Path) -> None:
        self.data, self.folder = data, folder

    def __call__(self, rank: int) -> tuple[int, bytes, bytes]:
        machine = Machine(rank=rank, world=2, device=torch.device("cpu"))
        trial = training(self.data, self.folder / f"{rank}", machine=machine, batch_size=10)
        before = next(trial.network.parameters()).detach().numpy().tobytes()
        Gpu(5 - 2 * rank).holds(trial)
        parts = fitted_parts(trial, Limits(self.folder / f"gpu{rank}.json"))
        trial.parts = parts
        after = next(trial.network.parameters()).detach().numpy().tobytes()
        trial.train_epoch(1)
        return parts, before, after


def test_ranks_agree_on_the_parts_and_train_on(data: Data, tmp_path: Path) -> None:
    for parts, before, after in on_two_ranks(OnRank(data, tmp_path), tmp_path):
        assert parts == 2
        assert before == after
