"""A trial's batch in as many parts as its GPU needs: probed by real steps that leave no trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from raysearch.data.batch import Batch, collate
from raysearch.errors import TrialError
from raysearch.training.device import forget_peak_memory
from raysearch.training.memory import (
    MICRO_BATCH,
    Limits,
    allowed,
    free_memory,
    key_of,
    micro_batches,
    parts_for,
    replace_json,
)
from raysearch.training.unfinished import never

if TYPE_CHECKING:
    from raysearch.training.loop import Training

# Of the GPU, left free by the probe: memory in pieces, and validation's other shapes.
MARGIN = 0.05


def fitted_parts(training: "Training", limits: Limits | None = None) -> int:
    """Return in how many parts a trial's batch is trained, the same on every rank.

    Call it before the trial resumes. What training has found out itself (`halve`) holds too.

    Args:
        limits: of the GPU's kind; None tries nothing.

    Raises:
        TrialError: not even one image fits.
    """
    sizes = _sizes(training)
    found = largest_micro_batch(training, limits, sizes) if limits else sizes[-1]
    found = _on_all_ranks(training, min(found, allowed(training.folder) or found))
    if found < sizes[0]:
        raise TrialError(_too_large(training, sizes[0]))
    return parts_for(_share(training), found, training.recipe.accumulation)


def _share(training: "Training") -> int:
    """Images of a batch that a rank takes, at most."""
    return -(-training.recipe.batch_size // training.machine.world)


def _sizes(training: "Training") -> list[int]:
    """The micro-batches that a trial may have: each rank has an image for each of its parts."""
    recipe = training.recipe
    most = recipe.batch_size // training.machine.world
    return micro_batches(_share(training), recipe.accumulation, most)


def _on_all_ranks(training: "Training", images: int) -> int:
    if not training.ranks:
        return images
    least = torch.tensor([images], device=training.device)
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return int(least)


def _too_large(training: "Training", images: int) -> str:
    height, width = _example(training).images.shape[-2:]
    return (
        f"out of memory: {training.device} does not hold a step of {training.recipe.architecture} "
        f"on {images} image{'s' if images > 1 else ''} of {width} x {height} pixels; lower "
        "image_size or crop_size, take a smaller network, set gradient_checkpointing: true, or "
        "raise gpus_per_worker"
    )


def halve(training: "Training", limits: Limits | None = None) -> int:
    """After memory was exhausted in training: let the trial go on with half as many images a part.

    Remembered in the trial's folder, and for other trials.

    Returns:
        How many images a part may have from now on; 0 where it cannot have fewer.
    """
    used = -(-_share(training) // training.parts)
    least = _sizes(training)[0]
    if used == least:
        return 0
    if limits:
        limits.note(memory_key(training), fails=used)
    half = max(least, used // 2)
    replace_json(training.folder / MICRO_BATCH, {"largest": half})
    return half


def largest_micro_batch(training: "Training", limits: Limits, sizes: list[int]) -> int:
    """Return the largest of the sizes that a trial can train on its GPU; 0 for none.

    Its weights, optimizer, statistics and random numbers stay as they are.
    """
    key = memory_key(training)
    if limits.known(key).unknown(sizes):
        with unchanged(training), _alone(training):
            return limits.largest(key, sizes, _step(training))
    return limits.largest(key, sizes, lambda images: None)


def _step(training: "Training") -> Callable[[int], None]:
    """Return the step that is tried: two parts, with all that stands beside them later on.

    The second part meets the gradients of the first; the optimizer has its state already, and the
    margin is taken.
    """
    example = _example(training)

    def step(images: int) -> None:
        margin = _margin(training.device)
        for parameter in training.network.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        training.optimizer.step()
        training.step(collate([example] * (2 * images)))
        del margin

    return step


def _margin(device: torch.device) -> torch.Tensor | None:
    if device.type != "cuda":
        return None
    share = torch.cuda.get_per_process_memory_fraction(device)
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.empty(int(MARGIN * share * total), dtype=torch.uint8, device=device)


def _example(training: "Training") -> Batch:
    """The first training image, as the first epoch shows it."""
    return training.batches.dataset[(1, 0, 0)]


@contextmanager
def _alone(training: "Training") -> Iterator[None]:
    """Train without the other ranks, which may have less room; not compiled for a passing size."""
    norms = [m for m in training.network.modules() if isinstance(m, _BatchNorm) and training.ranks]
    before = {name: getattr(training, name) for name in ("machine", "ready", "parts", "going")}
    training.machine = replace(training.machine, world=1, must_go=never)
    training.ready, training.parts = training.network, 2
    training.network.train()
    for norm in norms:  # Those that gather over ranks need as much memory without.
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
        vars(training).update(before)


@contextmanager
def unchanged(training: "Training") -> Iterator[None]:
    """Put back weights, statistics, optimizer, schedule, average and random numbers."""
    parts: list[Any] = [training.network, training.optimizer, training.schedule, training.precision]
    parts += [training.ema] if training.ema else []
    before = [_copied(part.state_dict()) for part in parts]
    gpus = [training.device] if training.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        training.optimizer.zero_grad(set_to_none=True)
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        free_memory()
        forget_peak_memory(training.device)


def _copied(state: Any) -> Any:
    """A state in the computer's own memory."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else deepcopy(state)


def memory_key(training: "Training") -> str:
    """Name everything that the memory of a trial's step depends on."""
    recipe, task = training.recipe, training.task
    shape = tuple(_example(training).images.shape)
    told = {
        "network": {k: _kind(v) for k, v in training.spec.items() if k != "encoder_weights"},
        "task": (task.kind, task.num_classes),
        "image": shape,
        "dtype": training.precision.dtype,
        "channels_last": recipe.channels_last,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "compile": recipe.compile,
        "loss": sorted(name for name, weight in recipe.loss.items() if weight),
        "boundary": recipe.boundary_weight > 0,
        "pixel_weights": recipe.pixel_weights,
        "mixing": (recipe.mixup_alpha > 0, recipe.cutmix_alpha > 0),
        "ema": training.ema is not None,
        "optimizer": type(training.optimizer).__name__,
        "teachers": len(training.distillation.teachers) if training.distillation else 0,
        "ranks": training.ranks,
        "torch": torch.__version__,
    }
    return key_of(f"{recipe.architecture}-{shape[-1]}", told)


def _kind(value: Any) -> Any:
    """Of a rate, such as dropout, only whether there is one takes memory."""
    return value > 0 if isinstance(value, float) else value
