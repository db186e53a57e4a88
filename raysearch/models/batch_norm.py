"""Batch normalisation over the batch of all ranks.

torch.nn.SyncBatchNorm runs on GPUs alone; on a CPU (gloo) the modules here give the same numbers.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch normalisation of a network count the batches of all ranks as one.

    Parameters, buffers and their names stay. timm's normalisation layers that hold an activation
    keep it, which torch's own conversion would drop.
    """
    for name, child in network.named_children():
        setattr(network, name, synchronise(child, device))
    if not isinstance(network, _BatchNorm) or isinstance(network, nn.SyncBatchNorm):
        return network
    kind: type[_BatchNorm] = nn.SyncBatchNorm if device.type == "cuda" else RankBatchNorm
    if hasattr(network, "act"):
        kind = ActivatedSyncBatchNorm if device.type == "cuda" else ActivatedRankBatchNorm
    return _converted(network, kind)


def _converted(module: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    """Return a module of another kind that holds the very same parameters, buffers and children."""
    converted = kind(
        module.num_features,
        module.eps,
        module.momentum,
        module.affine,
        module.track_running_stats,
    )
    converted._parameters = module._parameters
    converted._buffers = module._buffers
    converted._modules = module._modules
    converted.training = module.training
    return converted


class RankBatchNorm(_BatchNorm):
    """Batch normalisation of (N, C, ...) whose training statistics are those of all ranks."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        ranks = dist.is_initialized() and dist.get_world_size() > 1
        if not (self.training and ranks):
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, variance, count)
        normalised: Tensor = output
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics; the variance that is kept is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)
        unbiased = variance * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class _Activated(_BatchNorm):
    """Adds what timm's layers hold beside the normalisation: dropout, then the activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        activated: Tensor = self.act(self.drop(super().forward(input)))
        return activated


class ActivatedRankBatchNorm(_Activated, RankBatchNorm):
    """timm's BatchNormAct2d over the ranks of a CPU."""


class ActivatedSyncBatchNorm(_Activated, nn.SyncBatchNorm):
    """timm's BatchNormAct2d over the ranks of GPUs."""


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the statistics of all ranks.

    Forward joins each rank's count, mean and sum of squared deviations (Chan et al. 1979), which
    loses no digits where the mean is large. Backward sums over the ranks what the gradient of the
    input needs; weight and bias get this rank's gradient, which DDP then reduces.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Any:
        count, mean, variance = _statistics_of_all_ranks(x)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), count)
        ctx.has_bias = bias is not None
        output = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        x, weight, mean, inverse, count = ctx.saved_tensors
        shape = [1, -1] + [1] * (x.dim() - 2)
        over = [0, *range(2, x.dim())]
        standard = (x.float() - mean.view(shape)) * inverse.view(shape)
        grad = grad.float()
        grad_bias, grad_weight = grad.sum(over), (grad * standard).sum(over)
        sums = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / count).unbind()
        scale = inverse if weight is None else inverse * weight
        grad_x = grad - mean_grad.view(shape) - standard * mean_product.view(shape)
        return (
            (grad_x * scale.view(shape)).to(x.dtype),
            None if weight is None else grad_weight.to(weight.dtype),
            grad_bias if ctx.has_bias else None,
            None,
        )


def _statistics_of_all_ranks(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return count (), mean (C,) and biased variance (C,) of x (N, C, ...) over all ranks."""
    over = [0, *range(2, x.dim())]
    variance, mean = torch.var_mean(x.float(), dim=over, correction=0)
    count = mean.new_tensor(x.numel() / x.size(1))
    own = torch.cat([count.view(1), mean, variance])
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    stacked = torch.stack(gathered).double()
    counts, means, variances = stacked.split([1, x.size(1), x.size(1)], dim=1)
    total = counts.sum()
    joint = (counts * means).sum(0) / total
    spread = (counts * (variances + (means - joint) ** 2)).sum(0) / total
    return total.float(), joint.float(), spread.float()
