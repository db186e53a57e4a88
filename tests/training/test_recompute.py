"""Gradient checkpointing: the same numbers from less memory, for every kind of network."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parallel import DistributedDataParallel

from raysearch.config import Task
from raysearch.models import build
from raysearch.models.batch_norm import synchronise
from raysearch.training.optimisation import Ema
from raysearch.training.recompute import blocks, recompute_activations
from tests.training.two_ranks import on_two_ranks

MASKS = Task("segmentation", bands=3, classes=("ground", "cat"))
IMAGES = Task("classification", bands=3, classes=("cat", "dog", "owl"))
UNET = {"type": "unet", "width": 4, "depth": 2, "dropout": 0.2}
NETWORKS: dict[str, tuple[dict[str, Any], Task]] = {
    "unet": (UNET, MASKS),
    "attention_unet": ({"type": "attention_unet", "width": 4, "depth": 2}, MASKS),
    "resnet": ({"type": "smp", "encoder": "resnet18"}, MASKS),
    "efficientnet": ({"type": "smp", "encoder": "efficientnet-b0"}, MASKS),
    "densenet": ({"type": "smp", "encoder": "densenet121"}, MASKS),  # grows lists of features
    "timm encoder": ({"type": "smp", "encoder": "tu-resnet10t"}, MASKS),
    "unet++": ({"type": "smp", "encoder": "tu-test_resnet", "decoder": "unetplusplus"}, MASKS),
    "classifier": ({"type": "timm", "model": "test_resnet"}, IMAGES),
    "transformer": ({"type": "timm", "model": "test_vit", "dynamic_img_size": True}, IMAGES),
}


def network(name: str = "unet") -> nn.Module:
    torch.manual_seed(0)
    return build(*NETWORKS[name]).train()


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, batch: Tensor | None = None) -> None:
    """One pass forward and back, with the same random numbers for dropout."""
    torch.manual_seed(2)
    output = model(images() if batch is None else batch)
    heads = [logits for logits in output if logits is not None]
    sum((logits.square().mean() for logits in heads), torch.zeros(())).backward()


def bytes_kept(model: nn.Module) -> int:
    """What one forward pass keeps for backward: saved tensors and what goes into each block."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    def enter(block: nn.Module, arguments: tuple[Any, ...]) -> None:
        kept.extend(torch.utils._pytree.tree_leaves(arguments))

    handles = [block.register_forward_pre_hook(enter) for block in blocks(model)]
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step(model)
    for handle in handles:
        handle.remove()
    storages = [t.untyped_storage() for t in kept if isinstance(t, Tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("name", NETWORKS)
class TestEveryNetwork:
    def test_gradients_and_statistics_are_the_same(self, name: str) -> None:
        plain, recomputing = network(name), network(name)
        assert recompute_activations(recomputing) > 0
        step(plain)
        step(recomputing)
        for (key, expected), found in zip(
            plain.named_parameters(), recomputing.parameters(), strict=True
        ):
            if expected.grad is None:
                assert found.grad is None, key
            else:
                torch.testing.assert_close(found.grad, expected.grad, msg=key)
        for (key, buffer), found in zip(plain.named_buffers(), recomputing.buffers(), strict=True):
            assert torch.equal(found, buffer), key

    def test_far_less_is_kept(self, name: str) -> None:
        plain, recomputing = network(name), network(name)
        recompute_activations(recomputing)
        assert bytes_kept(recomputing) < 0.5 * bytes_kept(plain)

    def test_keys_of_the_weights_stay(self, name: str) -> None:
        recomputing = network(name)
        recompute_activations(recomputing)
        assert list(recomputing.state_dict()) == list(network(name).state_dict())


def test_running_statistics_move_once_a_step() -> None:
    model = network()
    recompute_activations(model)
    for _ in range(3):
        step(model)
    counts = [b.item() for name, b in model.named_buffers() if name.endswith("batches_tracked")]
    assert counts
    assert set(counts) == {3}


def test_each_block_is_computed_twice_in_training_and_once_in_evaluation() -> None:
    model = network()
    count = recompute_activations(model)
    entered: list[nn.Module] = []
    for block in blocks(model):
        first = next(part for part in block.modules() if isinstance(part, nn.Conv2d))
        first.register_forward_hook(lambda layer, *_: entered.append(layer))
    step(model)
    assert len(entered) == 2 * count
    entered.clear()
    model.eval()
    step(model)
    assert len(entered) == count
    entered.clear()
    with torch.no_grad():
        model.train()(images())
    assert len(entered) == count


def test_asking_twice_changes_nothing() -> None:
    model, plain = network(), network()
    assert recompute_activations(model) == recompute_activations(model)
    step(model)
    step(plain)
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_recomputes_by_itself(how: Any) -> None:
    model = network()
    recompute_activations(model)
    copied = how(model)
    assert bytes_kept(copied) == bytes_kept(model)
    for parameter in model.parameters():
        parameter.grad = None
        parameter.data.zero_()
    fresh = network()
    copied.zero_grad()
    step(copied)
    step(fresh)
    assert all(parameter.grad is None for parameter in model.parameters())
    for found, expected in zip(copied.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_the_moving_average_of_a_network_that_recomputes() -> None:
    model = network()
    recompute_activations(model)
    average = Ema(model, 0.5)
    step(model)
    torch.optim.SGD(model.parameters(), 0.1).step()
    average.update(model)
    for found, expected in zip(average.module.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected)  # The first update takes the network as it is.


def test_a_frozen_encoder() -> None:
    models = network(), network()
    recompute_activations(models[1])
    for model in models:
        model.network.encoder.requires_grad_(False).eval()
        step(model)
    for expected, found in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_mixed_precision() -> None:
    models = network(), network()
    recompute_activations(models[1])
    for model in models:
        with torch.autocast("cpu", torch.bfloat16):
            step(model)
    for expected, found in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_a_network_without_blocks() -> None:
    assert recompute_activations(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())) == 0


def of_rank(rank: int) -> list[list[Tensor]]:
    """Gradients and buffers after two steps with and without recomputation, one image a rank."""
    results = []
    for recomputing in (False, True):
        model = synchronise(network(), torch.device("cpu"))
        if recomputing:
            recompute_activations(model)
        ready = DistributedDataParallel(model)
        for _ in range(2):
            step(ready, images()[rank : rank + 1])
        results.append([*(p.grad for p in model.parameters()), *model.buffers()])
    return results


def test_two_ranks(tmp_path: Path) -> None:
    for plain, recomputing in on_two_ranks(of_rank, tmp_path):
        for expected, found in zip(plain, recomputing, strict=True):
            torch.testing.assert_close(found, expected)
