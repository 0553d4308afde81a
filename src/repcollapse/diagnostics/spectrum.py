r"""Measures of shape: how many dimensions the embeddings use.

All read the spectrum of one matrix: :math:`\sigma_k` its singular values,
:math:`\lambda_k = \sigma_k^2 / (N - 1)` the eigenvalues of its covariance. They are blind to scale:
a cloud shrunk to a point keeps its rank. Zero scatter has rank 0 by every measure here.

For centred data they are ordered: stable rank <= participation ratio <=
effective rank (lambda) <= effective rank (sigma) <= rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import EPS, Moments, as_double

RANKME_EPS = 1e-7


def singular_values(z: ArrayLike, *, center: bool = True) -> Tensor:
    r"""Return the min(N, D) singular values of `z` in float64, descending.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    center
        Subtract the mean row first.

    Returns
    -------
    Tensor
        Shape (min(N, D),). Values below about 1e-7 of the largest (a rounding error of its square;
        where N < D, a rounding error of itself) are exactly 0.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    Examples
    --------
    >>> import torch
    >>> singular_values(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), center=False).tolist()
    [4.0, 3.0]
    """
    matrix = as_double(_checks.as_matrix("z", z))
    scale = matrix.abs().max()
    if scale == 0:
        return matrix.new_zeros(min(matrix.shape))
    # Squares of very large and very small entries leave the range of float64.
    matrix = matrix / scale
    n, dimension = matrix.shape
    if n >= dimension:
        return scale * Moments.of(matrix).eigenvalues(center=center).sqrt()
    # Fewer rows than columns: the matrix itself is smaller than its scatter.
    rows = matrix - matrix.mean(dim=0) if center else matrix
    values = torch.linalg.svdvals(rows)
    floor = dimension * EPS * 10 * torch.maximum(values[0], matrix.mean(dim=0).abs().max())
    return scale * torch.where(values > floor, values, 0.0)


def stable_rank(z: ArrayLike) -> float:
    r"""Return the total variance over the largest, :math:`\sum_k \lambda_k / \lambda_1`.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.

    Returns
    -------
    float
        In [1, rank]; 1 when one direction holds everything, 0 at zero scatter. Invariant to scale,
        translation and rotation. One outlier drives it.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Rudelson & Vershynin 2007, "Sampling from large matrices".

    Examples
    --------
    >>> import torch
    >>> round(stable_rank(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    3.0
    """
    return stable_rank_of(singular_values(z))


def participation_ratio(z: ArrayLike) -> float:
    r"""Return :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`, a number of directions in use.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.

    Returns
    -------
    float
        In [1, rank], 0 at zero scatter. Biased low for few samples: isotropic data of D dimensions
        read about D / (1 + D/N). Invariant to scale, translation and rotation.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    Examples
    --------
    >>> import torch
    >>> round(participation_ratio(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    3.0
    """
    return participation_ratio_of(singular_values(z))


def effective_rank(z: ArrayLike, *, spectrum: str = "sigma", center: bool = True) -> float:
    r"""Return the exponential of the entropy of the normalised spectrum.

    .. math:: \exp\left(-\sum_k q_k \log q_k\right), \qquad q_k = \sigma_k / \sum_l \sigma_l

    or, with ``spectrum="lambda"``, the same of :math:`p_k = \lambda_k / \sum_l \lambda_l`. The two
    are different numbers (394 and 110 on one matrix): never compare one with the other.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    spectrum
        "sigma", singular values as in the source, or "lambda", eigenvalues of the covariance.
    center
        Subtract the mean row first.

    Returns
    -------
    float
        In [1, rank], 0 at zero scatter. Invariant to scale, rotation and, when centred,
        translation.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a spectrum other than these.

    References
    ----------
    Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality".

    Examples
    --------
    >>> import torch
    >>> round(effective_rank(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    3.0
    """
    _checks.choice("spectrum", spectrum, ("sigma", "lambda"))
    values = singular_values(z, center=center)
    return effective_rank_of(values if spectrum == "sigma" else values.square())


def rankme(z: ArrayLike) -> float:
    r"""Return RankMe, the smoothed effective rank of the embeddings as they are, not centred.

    .. math:: \exp\left(-\sum_k (q_k + \epsilon) \log (q_k + \epsilon)\right), \qquad
              q_k = \sigma_k / \sum_l \sigma_l, \quad \epsilon = 10^{-7}

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.

    Returns
    -------
    float
        In [1, about min(N, D)], near 1 where one direction (often the mean) holds everything, 0
        for a matrix of zeros. Isotropic data with N = D read 0.80 D. Invariant to scale and
        rotation, not to translation: a mean offset can halve it. Comparable within one method,
        not across methods.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Garrido et al. 2023, "RankMe: assessing the downstream performance of pretrained
    self-supervised representations by their rank".

    Examples
    --------
    >>> import torch
    >>> round(rankme(torch.eye(3)), 4)
    3.0
    >>> round(rankme(torch.ones(4, 3)), 4)
    1.0
    """
    return rankme_of(singular_values(z, center=False))


# The measures themselves, of a spectrum that has been computed: several can share one.


def stable_rank_of(sigma: Tensor) -> float:
    """Return the stable rank of the singular values of a centred matrix."""
    return float((sigma / sigma[0]).square().sum()) if sigma[0] > 0 else 0.0


def participation_ratio_of(sigma: Tensor) -> float:
    """Return the participation ratio of the singular values of a centred matrix."""
    if sigma[0] == 0:
        return 0.0
    variance = (sigma / sigma[0]).square()
    return float(variance.sum() ** 2 / variance.square().sum())


def effective_rank_of(weights: Tensor) -> float:
    """Return the exponential of the entropy of `weights`, scaled to sum to one."""
    if weights.max() == 0:
        return 0.0
    return float(torch.special.entr(weights / weights.sum()).sum().exp())


def rankme_of(sigma: Tensor) -> float:
    """Return RankMe of the singular values of a matrix as it is."""
    if sigma[0] == 0:
        return 0.0
    return float(torch.special.entr(sigma / sigma.sum() + RANKME_EPS).sum().exp())
