"""Batch normalisation whose statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional


@dataclass
class Share:
    """What of the frames in hand counts. A process without a frame of its own computes a stand-in, which must not."""

    counts: bool = True


def share_statistics(model: nn.Module, share: Share) -> None:
    """Turn every BatchNorm2d of `model` into one over all processes, in place: same tensors, same names.

    Synchronised batch normalisation: PyTorch's own on GPUs; on CPUs, which that refuses, the same over gloo.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            # A class of its own instead of a new module: optimiser, checkpoints and hooks keep what they hold.
            module.__class__ = _OnGpu if next(module.parameters()).is_cuda else _OnCpu
            module.share, module.process_group = share, None  # type: ignore[assignment]


class _Shared(nn.BatchNorm2d):
    share: Share

    def forward(self, images: Tensor) -> Tensor:
        if self.training and self.share.counts:
            return self._over_all(images)
        # The stand-in joins the others' sums with no frames at all, and goes through by the running statistics.
        joined = self._over_all(images[:0]) if self.training else images[:0]
        own = functional.batch_norm(
            images, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
        return torch.cat((joined, own)) if self.training else own

    def _over_all(self, images: Tensor) -> Tensor:
        raise NotImplementedError


class _OnGpu(_Shared, nn.SyncBatchNorm):
    def _over_all(self, images: Tensor) -> Tensor:
        return nn.SyncBatchNorm.forward(self, images)


class _OnCpu(_Shared):
    def _over_all(self, images: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        result, mean, variance, count = _Normalise.apply(images, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        return result  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """Ioffe and Szegedy 2015 over the frames of all processes, NCHW; each direction sums one small vector over them."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        values = _wide(images)
        own_count = values.numel() // values.shape[1]
        own_mean = values.sum((0, 2, 3)) / max(own_count, 1)
        own_square = (values - _per_channel(own_mean)).square().sum((0, 2, 3)).double()
        # In double precision nothing is lost by summing squares about zero.
        own_sum = own_mean.double() * own_count
        sums = torch.cat((own_sum, own_square + own_sum * own_mean, own_sum.new_tensor([own_count])))
        dist.all_reduce(sums)
        count = sums[-1]
        mean = sums[: len(weight)] / count
        variance = (sums[len(weight) : -1] / count - mean.square()).clamp(min=0).to(values.dtype)
        mean, scale = mean.to(values.dtype), (variance + eps).rsqrt()
        ctx.save_for_backward(images, weight, mean, scale, count)
        result = (values - _per_channel(mean)) * _per_channel(scale * weight) + _per_channel(bias)
        ctx.mark_non_differentiable(mean, variance, count)
        return result.to(images.dtype), mean, variance, count.to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        images, weight, mean, scale, count = ctx.saved_tensors
        rising = _wide(gradient)
        normal = (_wide(images) - _per_channel(mean)) * _per_channel(scale)
        for_bias, for_weight = rising.sum((0, 2, 3)), (rising * normal).sum((0, 2, 3))
        sums = torch.cat((for_bias, for_weight)).double()
        dist.all_reduce(sums)
        of_bias, of_weight = (sums / count).to(rising.dtype).chunk(2)
        falling = rising - _per_channel(of_bias) - normal * _per_channel(of_weight)
        return (falling * _per_channel(scale * weight)).to(images.dtype), for_weight, for_bias, None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype is torch.float64 else values.float()
