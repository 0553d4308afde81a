"""Measures of nearest neighbours: the dimension of whatever the embeddings lie on."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import as_double

BLOCK = 512
SPARE = 2  # candidates beyond those wanted, since a matrix product orders close ones loosely


class IntrinsicDimension(NamedTuple):
    """A dimension, the distinct `points` that it was estimated from, and the `duplicates` of them.

    `points` and `duplicates` add up to the rows that were given.
    """

    value: float
    points: int
    duplicates: int


def intrinsic_dimension(
    z: ArrayLike, *, discard: float = 0.1, resolution: float = 1e-6
) -> IntrinsicDimension:
    r"""Return the dimension by the two nearest neighbours (TwoNN).

    With :math:`\mu_i = r_{i2} / r_{i1} \ge 1` the ratio of a point's distances to its second and
    its first neighbour, in ascending order, and :math:`F_i = i / N`,

    .. math:: d = \frac{\sum_i \log \mu_i \, \bigl(-\log (1 - F_i)\bigr)}{\sum_i (\log \mu_i)^2},

    the slope of a line through the origin, over all but the largest ratios. Distances are taken in
    blocks: memory grows with N, and time with N^2.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 3.
    discard
        The share of the largest ratios that is left out, in [0, 1).
    resolution
        Rows nearer to one another than this share of the root mean square distance from the mean
        are one point, and so are equal rows: one pair of duplicates in ten rows would otherwise
        decide the answer.

    Returns
    -------
    IntrinsicDimension
        `value` >= 0: 0 at complete collapse, where all rows are one point; NaN for two points,
        which have no second neighbour; infinite where all have two neighbours equally far away.
        Invariant to scale, translation and rotation. Biased low in high dimensions, since N must
        grow exponentially with them. There one row in the middle decides it: a row of zeros among
        2,000 normal ones of 512 dimensions is the nearest neighbour of all of them, and 126 becomes
        3.1.

    Raises
    ------
    TypeError, ValueError
        For embeddings or options other than these.

    References
    ----------
    Facco et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information".

    Examples
    --------
    >>> import torch
    >>> plane = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0))
    >>> estimate = intrinsic_dimension(torch.cat([plane, plane @ torch.ones(2, 6)], dim=1))
    >>> round(estimate.value, 1)
    2.0
    >>> intrinsic_dimension(torch.ones(5, 3))
    IntrinsicDimension(value=0.0, points=1, duplicates=4)
    """
    matrix = as_double(_checks.as_matrix("z", z, min_rows=3))
    discard = _checks.number("discard", discard, at_least=0, below=1)
    resolution = _checks.number("resolution", resolution, at_least=0)
    points = _distinct(matrix)
    n = len(points)
    if n > 1:
        points, distances = _resolved(points, resolution)
        n = len(points)
    if n < 3:
        return IntrinsicDimension(0.0 if n == 1 else math.nan, n, len(matrix) - n)
    log_ratio = (distances[:, 1] / distances[:, 0]).log().sort().values
    share = torch.arange(1, n + 1, dtype=torch.float64, device=points.device) / n
    kept = min(int(n * (1 - discard)), n - 1)
    x, y = log_ratio[:kept], -torch.log1p(-share[:kept])
    squares = float(x @ x)
    return IntrinsicDimension(
        float(x @ y) / squares if squares > 0 else math.inf, n, len(matrix) - n
    )


def _distinct(matrix: Tensor) -> Tensor:
    """Return the rows without repetition, about their mean, with a mean square distance of 1."""
    rows = np.ascontiguousarray(matrix.cpu().numpy() + 0.0)  # a minus zero is a zero
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    kept = np.sort(np.unique(keys, return_index=True)[1])
    points = matrix[torch.from_numpy(kept).to(matrix.device)]
    points = points / points.abs().max().clamp(min=torch.finfo(points.dtype).tiny)
    points = points - points.mean(dim=0)
    scale = points.square().sum(dim=1).mean().sqrt()
    return points / scale if scale > 0 else points


def _resolved(points: Tensor, resolution: float) -> tuple[Tensor, Tensor]:
    """Return the points that are left when near ones become one, and their two distances."""
    while True:
        distances, index = _nearest(points)
        close = distances[:, 0] <= resolution
        # Of two that are near each other, the later goes; a chain takes several rounds.
        goes = close & (index < torch.arange(len(points), device=points.device))
        if not bool(goes.any()):
            return points, distances
        points = points[~goes]
        if len(points) < 2:
            return points, distances[:0]


def _nearest(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances to the two nearest others (inf beyond the last), and the first's index.

    Ranked by a matrix product, whose differences of squares are then replaced by the squares of
    differences.
    """
    n = len(points)
    squares = points.square().sum(dim=1)
    wanted = min(2 + SPARE, n - 1)
    distances = points.new_full((n, 2), torch.inf)
    nearest = torch.empty(n, dtype=torch.long, device=points.device)
    for start in range(0, n, BLOCK):
        rows = points[start : start + BLOCK]
        squared = torch.addmm(squares, rows, points.T, alpha=-2)
        own = torch.arange(len(rows), device=points.device)
        squared[own, own + start] = torch.inf
        candidates = squared.topk(wanted, largest=False).indices
        exact = torch.stack(
            [(rows - points[column]).square().sum(dim=1) for column in candidates.T], dim=1
        )
        order = exact.sort(dim=1)
        end = start + len(rows)
        distances[start:end, : min(2, wanted)] = order.values[:, :2].sqrt()
        nearest[start:end] = candidates[own, order.indices[:, 0]]
    return distances, nearest
