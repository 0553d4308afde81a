"""Processes that share a batch: their group, and batch norm over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repcollapse.objectives._distributed import world_size
from repcollapse.training import pick_device

PATIENCE = timedelta(minutes=30)  # others wait while the first fits its probes


def rank() -> int:
    """Return the number of this process, 0 without a group."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the group that torchrun's environment describes, if it does; yield the own device.

    Each process on GPUs takes the one of its LOCAL_RANK, and the group speaks NCCL; on the CPU it
    speaks Gloo.

    Raises
    ------
    ValueError
        For a device that is not there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield pick_device(device)
        return
    own = _own_device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield own
    finally:
        distributed.destroy_process_group()


def _own_device(device: str) -> torch.device:
    chosen = pick_device(device)
    if chosen.type != "cuda":
        return chosen
    if chosen.index is not None:
        raise ValueError(
            f"device must not name one GPU where several processes run; got {device!r} "
            "('cuda' gives each its own)"
        )
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise ValueError(
            f"device must be there for each process; process {local} has none of {there}"
        )
    return torch.device("cuda", local)


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process through alone, and then the others: a download is made once."""
    if rank() > 0:
        distributed.barrier()
    try:
        yield
    finally:
        if rank() == 0 and world_size() > 1:
            distributed.barrier()


def any_process(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is set on any process, the same answer on all."""
    if world_size() == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return bool(raised)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Return `module` with every batch norm normalising over the batches of all processes.

    Parameters and buffers stay the same objects under the same names.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if isinstance(module, _BatchNorm):
        return SyncedBatchNorm.of(module)
    for name, child in module.named_children():
        setattr(module, name, synchronise_batch_norm(child, device))
    return module


class SyncedBatchNorm(_BatchNorm):
    r"""Batch norm over the joined batch of all processes, on any backend.

    `nn.SyncBatchNorm` is for CUDA only. With n values a channel on all processes together,

    .. math::

        y = w \hat x + b, \quad \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
        \mu = \frac{1}{n} \sum x, \quad \sigma^2 = \frac{1}{n} \sum (x - \mu)^2,

    sums over all processes, and with g the gradient at y,

    .. math::

        \nabla_x = \frac{w}{\sqrt{\sigma^2 + \epsilon}}
        \left( g - \tfrac{1}{n} \sum g - \hat x \, \tfrac{1}{n} \sum g \hat x \right).

    Weight and bias receive the gradient of the own rows, since DDP sums it over processes. In
    evaluation mode, and without a process group, it is batch norm as always.

    Takes inputs (N, C) and (N, C, ...); buffers and their updates are those of `nn.BatchNorm1d`.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> SyncedBatchNorm:
        """Return a synchronised norm that holds the parameters and buffers of `norm`."""
        made = cls(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        for name, parameter in norm.named_parameters(recurse=False):
            setattr(made, name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            setattr(made, name, buffer)
        return made.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"input must have shape (N, C, ...); got shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` normalised by channel."""
        of_batch = self.training or self.running_mean is None
        if not of_batch or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        y, mean, variance, count = _Normalised.apply(x, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None:
            self._follow(mean, variance * count / (count - 1))
        return y.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        # Without a momentum the running statistics are the plain average of all batches so far.
        weight = self.momentum
        if weight is None:
            weight = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


class _Normalised(torch.autograd.Function):
    """The two formulas of :class:`SyncedBatchNorm`; also returns the moments and n."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _joined_moments(x)
        centred = x - _by_channel(mean, x)
        scale = (variance + eps).rsqrt()
        normal = centred * _by_channel(scale, x)
        y = normal if weight is None else normal * _by_channel(weight, x)
        y = y if bias is None else y + _by_channel(bias, x)
        ctx.save_for_backward(normal, scale, weight, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return (y.clone() if y is normal else y), mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        normal, scale, weight, count = ctx.saved_tensors
        axes = _axes_of_values(g)
        own = torch.stack([g.sum(dim=axes), (g * normal).sum(dim=axes)])
        joined = own.clone()
        distributed.all_reduce(joined)
        along, across = (_by_channel(part / count, g) for part in joined)
        slope = scale if weight is None else scale * weight
        g_x = (g - along - normal * across) * _by_channel(slope, g)
        learned = weight is not None
        return g_x, own[1] if learned else None, own[0] if learned else None, None


def _joined_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, biased variance and number of the values of a channel on all processes.

    Each sums squares around its own mean, and the sums are moved to the joint one: the mean of
    squares less the square of the mean would lose the digits of a small variance.
    """
    variance, mean = torch.var_mean(x, dim=_axes_of_values(x), correction=0)
    own = torch.stack([mean, variance, torch.full_like(mean, x.numel() / x.shape[1])])
    parts = [torch.empty_like(own) for _ in range(world_size())]
    distributed.all_gather(parts, own)
    means, variances, counts = torch.stack(parts, dim=1)
    count = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / count
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean, variance, count[0]


def _axes_of_values(x: Tensor) -> list[int]:
    """Return all axes but the channels'."""
    return [axis for axis in range(x.ndim) if axis != 1]


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))
