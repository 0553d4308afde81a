"""Measures of pairs: views of one sample, and samples of one batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import as_double, unit_rows

BLOCK = 256  # rows: a block of potentials then fits the second-level cache
SHARPEST = 350.0
ENTRIES = 1 << 16  # of views taken at once: in float64, half a megabyte


def alignment(z_a: ArrayLike, z_b: ArrayLike, *, alpha: float = 2.0) -> float:
    r"""Return the mean distance between two views of a sample, on the unit sphere.

    .. math:: \frac{1}{N} \sum_i \lVert \hat z^a_i - \hat z^b_i \rVert^\alpha

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2. Rows of zeros
        keep length zero.
    alpha
        The power, > 0.

    Returns
    -------
    float
        In [0, 2^alpha]; 0 when views coincide, and at complete collapse: read it beside
        :func:`uniformity`.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a power other than these.

    References
    ----------
    Wang & Isola 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere".

    Examples
    --------
    >>> import torch
    >>> alignment(torch.eye(2), torch.eye(2).flip(0))
    2.0
    """
    matrix_a, matrix_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    alpha = _checks.number("alpha", alpha, above=0)
    unit_a, unit_b = (
        torch.nn.functional.normalize(as_double(matrix), dim=1, eps=1e-300)
        for matrix in (matrix_a, matrix_b)
    )
    squared = (unit_a - unit_b).square().sum(dim=1)
    return float(squared.pow(alpha / 2).mean())


def uniformity(z: ArrayLike, *, t: float = 2.0) -> float:
    r"""Return the logarithm of the mean Gaussian potential between distinct samples.

    .. math:: \log \frac{2}{N(N-1)} \sum_{i < k} e^{-t \lVert \hat z_i - \hat z_k \rVert^2}

    All pairs are taken, in blocks and in float64: memory grows with N, not with its square.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2. Rows of zeros are left out; with fewer than two others,
        the uniformity is 0.
    t
        The sharpness of the potential, > 0.

    Returns
    -------
    float
        In [-2 t N / (N-1), 0]; 0 at complete collapse. Directions uniform on the sphere in D
        dimensions read :math:`-2t + \log {}_0F_1(; D/2; t^2)`, about -4 + 8/D for t = 2. Nearly
        blind to rank: eight of 128 dimensions read -3.08, all of them -3.94.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a sharpness other than these.

    References
    ----------
    Wang & Isola 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere".

    Examples
    --------
    >>> import torch
    >>> uniformity(torch.ones(4, 3))
    0.0
    >>> uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    -8.0
    """
    unit = unit_rows(_checks.as_matrix("z", z))
    return uniformity_of(unit, _checks.number("t", t, above=0))


def uniformity_of(unit: Tensor, t: float = 2.0) -> float:
    """Return the uniformity of unit rows."""
    n = len(unit)
    if n < 2:
        return 0.0
    total = _log_potentials(unit, t) if 2 * t <= SHARPEST else _log_sharp_potentials(unit, t)
    return min(total - math.log(n * (n - 1) / 2), 0.0)


def _log_potentials(unit: Tensor, t: float) -> float:
    """Return the logarithm of the sum over pairs, in blocks: never an N x N matrix."""
    rows = unit * math.sqrt(2 * t)
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        ahead = rows[start : start + BLOCK]
        # The cosine of a row with itself is left out where it stands, and never subtracted.
        total += float((ahead @ ahead.T).exp_().triu(1).sum())
        for other in range(start + BLOCK, len(rows), BLOCK):
            total += float((ahead @ rows[other : other + BLOCK].T).exp_().sum())
    return math.log(total) - 2 * t


def _log_sharp_potentials(unit: Tensor, t: float) -> float:
    """Return the same where potentials leave the range of float64: all of it in logarithms."""
    total = unit.new_tensor(-torch.inf)
    for start in range(0, len(unit), BLOCK):
        for other in range(start, len(unit), BLOCK):
            ahead, behind = unit[start : start + BLOCK], unit[other : other + BLOCK]
            exponent = 2 * t * (ahead @ behind.T - 1)
            if other == start:
                own = torch.ones_like(exponent, dtype=torch.bool).tril()
                exponent = exponent.masked_fill(own, -torch.inf)
            total = torch.logaddexp(total, exponent.logsumexp(dim=(0, 1)))
    return float(total)


def intraclass_correlation(views: ArrayLike) -> float:
    r"""Return the share of the embeddings' variance that lies between samples, not between views.

    .. math:: \frac{\operatorname{tr} B}{\operatorname{tr} B + \operatorname{tr} W}

    W is the variance within a sample's views and B the variance between samples, both as the
    one-way analysis of variance estimates them without bias (B = (MS_between - MS_within) / V,
    taken as 0 where negative).

    Parameters
    ----------
    views
        Embeddings, shape (V, N, D): V >= 2 views of N >= 2 samples.

    Returns
    -------
    float
        In [0, 1]: 1 when an embedding depends on the sample alone, 0 when on the view alone, and 0
        when all embeddings are equal. Invariant to scale, translation and rotation; blind to rank.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Shrout & Fleiss 1979, "Intraclass correlations", form (1, 1), summed over dimensions.

    Examples
    --------
    >>> import torch
    >>> samples = torch.eye(3)
    >>> intraclass_correlation(torch.stack([samples, samples]))
    1.0
    """
    stacked = _checks.as_views("views", views)
    n_views, n_samples, dimension = stacked.shape
    origin = as_double(stacked[0, 0])
    sample_means = origin.new_empty(n_samples, dimension)
    squares = 0.0
    block = max(1, ENTRIES // (n_views * dimension))
    for start in range(0, n_samples, block):
        # Equal embeddings become exact zeros: the rounding of their mean would pass for variance.
        part = as_double(stacked[:, start : start + block]) - origin
        means = torch.mean(part, dim=0, out=sample_means[start : start + block])
        part -= means
        squares += float(part.square_().sum())
    within = squares / (n_samples * (n_views - 1))
    between = float((sample_means - sample_means.mean(dim=0)).square().sum()) / (n_samples - 1)
    component = max(between - within / n_views, 0.0)
    total = component + within
    return component / total if total > 0 else 0.0
