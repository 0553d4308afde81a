"""A batch that is spread over several processes, joined."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Return the number of processes that share a batch: 1 without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def gather(z: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order: (N, D) on each becomes (world size times N, D).

    Every rank then computes the same value from the same rows. The backward pass sums over ranks
    what each asks of a row, world size times the gradient of that one value; DDP's average over
    ranks divides by the same number, and the parameters' gradient is that of one process on the
    joined batch. A plain `all_gather` passes no gradient to the rows of other ranks, and an
    `all_reduce` of a statistic none through it: both lose a factor and show the same loss curve.

    Without a process group, or in a group of one, it returns `z`: a script runs unchanged on one
    process.

    Raises
    ------
    ValueError
        Where ranks hold different numbers of rows, on all of them.
    """
    if world_size() == 1:
        return z
    _require_same_rows(len(z), z.device)
    with warnings.catch_warnings():
        # Deprecated in some versions of torch in favour of a functional form without autograd.
        warnings.simplefilter("ignore", FutureWarning)
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(z))


def mean_over_ranks(loss: Tensor, rows: int) -> Tensor:
    """Return the mean over ranks of a loss that is itself a mean over `rows` rows.

    For losses in which the rows of a batch do not meet one another: the gradient of a row is the
    same with or without it, and no rows need be exchanged. Without a process group it is `loss`.
    """
    if world_size() == 1:
        return loss
    _require_same_rows(rows, loss.device)
    return gather(loss.unsqueeze(0)).mean()


def _require_same_rows(rows: int, device: torch.device) -> None:
    """Collectives of unequal sizes hang or return garbage: compare the sizes first."""
    here = torch.tensor([rows], device=device)
    everywhere = [torch.empty_like(here) for _ in range(world_size())]
    distributed.all_gather(everywhere, here)
    counts = [int(each) for each in everywhere]
    if len(set(counts)) > 1:
        raise ValueError(
            f"gather_distributed needs the same number of rows on every rank; got {counts} "
            "(drop_last=True in the loader makes them equal)"
        )
