"""Gradient checkpointing: a block's activations are computed again in the backward pass.

Chen et al., https://arxiv.org/abs/1604.06174. Only what goes into each block is kept. The blocks
are found by their form, so that every network has them: encoders of smp and timm as well as the
U-Nets here. (timm's own switch covers encoders alone, and moves running statistics twice.)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


def recompute_activations(network: nn.Module) -> int:
    """Make every block of a network recompute its activations while it trains.

    Modules stay where they are, and so do the keys of the state dictionary; copies of the network
    recompute too. What the network computes does not change, running statistics included.

    Returns:
        How many blocks do so; 0 for a network that has none.
    """
    found = list(blocks(network))
    for block in found:
        if not isinstance(block.forward, _Recomputed):
            block.forward = _Recomputed(block)
    return len(found)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the smallest parts that hold several layers with weights and no list of such parts.

    These are the residual blocks of an encoder, the double convolutions of a U-Net, its blocks on
    the way up: the modules in the lists (ModuleList, ModuleDict, Sequential) of which a network is
    built, and what stands beside those lists.
    """
    for child in module.children():
        if _layers(child) < 2:
            continue
        if any(_is_list(part) for part in child.modules()):
            yield from blocks(child)
        else:
            yield child


def _layers(module: nn.Module) -> int:
    """Count the convolutions, linear layers and the like in a module."""
    own = [any(p.ndim > 1 for p in m.parameters(recurse=False)) for m in module.modules()]
    return sum(own)


def _is_list(module: nn.Module) -> bool:
    kinds = nn.ModuleList | nn.ModuleDict | nn.Sequential
    return isinstance(module, kinds) and any(_layers(child) > 1 for child in module.children())


class _Recomputed:
    """The forward of a block, under torch's checkpointing while it trains."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        forward = partial(type(self.block).forward, self.block)
        if not (self.block.training and torch.is_grad_enabled()):
            return forward(*arguments, **named)
        # A dense block's list of features grows after each of its layers has seen it.
        arguments = tuple(list(a) if isinstance(a, list) else a for a in arguments)
        norms = [module for module in self.block.modules() if isinstance(module, _NormBase)]
        return checkpoint(
            forward,
            *arguments,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _statistics_kept(norms)),
            **named,
        )


@contextmanager
def _statistics_kept(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Let norms write their running statistics into copies: they saw this batch before."""
    kept = [dict(norm._buffers) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        norm._buffers.update({k: v if v is None else v.clone() for k, v in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
