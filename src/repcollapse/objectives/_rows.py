"""What objectives do with rows and entries, in few passes forward and backward.

Operations of torch alone: with a `torch.autograd.Function` unit rows would cost less, and
`torch.func` could not differentiate the objectives that use them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def lengths(z: Tensor, *, keepdim: bool = False) -> Tensor:
    """Return the lengths of the rows of `z`, and 1e-12 for shorter ones."""
    return torch.linalg.vector_norm(z, dim=1, keepdim=keepdim).clamp_min(1e-12)


def unit_rows(z: Tensor) -> Tensor:
    """Return the rows of `z` over their :func:`lengths`.

    As `F.normalize(z, dim=1)`, which expands the lengths to a matrix on the way.
    """
    return z / lengths(z, keepdim=True)


def mean_squared_distance(rows: Tensor, others: Tensor) -> Tensor:
    """Return the mean over rows of the squared distance between row i of both."""
    return F.mse_loss(rows, others, reduction="sum") / len(rows)


def sum_of_squares(x: Tensor) -> Tensor:
    """Return the sum of the squares of all entries."""
    flat = x.flatten()
    return flat.dot(flat)
