"""Objectives that whiten a batch before they compare its views."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse.objectives._distributed import gather
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import mean_squared_distance, unit_rows

METHODS = ("cholesky", "zca")


class SingularCovarianceError(ValueError):
    """A batch without spread in some direction cannot be whitened."""


@in_full_precision
def whiten(z: Tensor, *, shrinkage: float = 0.0, method: str = "cholesky") -> Tensor:
    r"""Return the rows of `z`, centred and mapped linearly to unit covariance.

    .. math::

        w_i = W (z_i - \bar z), \qquad W^\top W = \left((1 - \epsilon) C + \epsilon I\right)^{-1}

    with C the covariance of the batch with the N - 1 divisor, as in the paper, and
    :math:`\epsilon` the shrinkage. W is the inverse of the lower Cholesky factor ("cholesky", the
    paper's) or the symmetric inverse root ("zca", the whitening nearest to the identity). The two
    differ by a rotation. The first depends on the order of the dimensions: dimension 1 is only
    rescaled, dimension D pays for its correlation with all others.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    shrinkage
        :math:`\epsilon` in [0, 1]; 1 only centres.
    method
        "cholesky" or "zca".

    Returns
    -------
    Tensor
        Shape (N, D). Without shrinkage, mean 0 and covariance I (divisor N - 1) exactly. At
        complete collapse there is nothing to whiten: an error without shrinkage, rows of exact
        zeros with it.

    Raises
    ------
    SingularCovarianceError
        A ValueError. Without shrinkage, or with one below the rounding of the covariance, when the
        rows span fewer than D directions: always where N <= D.
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Ermolov et al. 2021, "Whitening for self-supervised representation learning", equation 6;
    Kessy, Lewin & Strimmer 2018, "Optimal whitening and decorrelation".

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 6.0], [0.0, -6.0]])
    >>> torch.cov(whiten(z).T).round(decimals=4).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    z = _checks.as_matrix("z", z)
    shrinkage = _checks.number("shrinkage", shrinkage, at_least=0, at_most=1)
    _checks.choice("method", method, METHODS)
    return _whiten(z[None], shrinkage, method)[0]


@in_full_precision
def w_mse(
    z_a: Tensor,
    z_b: Tensor,
    *,
    shrinkage: float = 0.0,
    slices: int = 1,
    normalize: bool = True,
    method: str = "cholesky",
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return W-MSE, the mean squared distance between the whitened views of a sample.

    With :math:`w^a, w^b` the rows of both views, each view whitened by :func:`whiten`,

    .. math::

        \frac{1}{N} \sum_i \lVert \hat w^a_i - \hat w^b_i \rVert^2
        = \frac{1}{N} \sum_i \left(2 - 2 \cos(w^a_i, w^b_i)\right),
        \qquad \hat w = w / \lVert w \rVert,

    or without `normalize` the mean of :math:`\lVert w^a_i - w^b_i \rVert^2`, the paper's Euclidean
    variant. Nothing repels: unit covariance is imposed, and leaves no room for collapse.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    shrinkage
        As in :func:`whiten`. The paper uses none; some is needed where the batch may collapse.
    slices
        Parts of N / `slices` consecutive rows that are whitened each alone. The paper slices a
        large batch to parts of 2D rows and averages over several random partitions; here a
        shuffled batch is cut once.
    normalize
        Compare directions (the cosine) or the whitened rows as they are.
    method
        "cholesky" or "zca", as in :func:`whiten`.
    gather_distributed
        Whiten the joined batch of all ranks; without a process group it changes nothing.

    Returns
    -------
    Tensor
        A scalar in [0, 4]; views without relation read 2 on average. At complete collapse it is an
        error without shrinkage and exactly 2 with it: whitened rows are zero, and the cosine of a
        zero row counts as 0. The gradient there is exactly 0, so that no step leaves it. Just
        beside it the value need not be near 2: shrinkage does not touch the mean, and whatever
        deviation is left is compared by direction alone, at full size. Without `normalize` the
        range is [0, 4 D (N - 1) / N] and the value at collapse 0, the minimum.

    Raises
    ------
    SingularCovarianceError
        As in :func:`whiten`, for a slice of either view.
    TypeError, ValueError
        For arguments other than these, or slices that do not divide N or hold fewer than two rows.

    References
    ----------
    Ermolov et al. 2021, "Whitening for self-supervised representation learning".

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> z = torch.randn(16, 4, generator=generator)
    >>> round(abs(float(w_mse(z, 5 * z + 1))), 4)
    0.0
    >>> float(w_mse(torch.ones(16, 4), torch.ones(16, 4), shrinkage=0.01))
    2.0
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    shrinkage = _checks.number("shrinkage", shrinkage, at_least=0, at_most=1)
    _checks.choice("method", method, METHODS)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    n, dimension = z_a.shape
    slices = _checks.integer("slices", slices, at_least=1)
    if n % slices or n // slices < 2:
        raise ValueError(
            f"slices must divide the N = {n} rows in equal parts of at least 2; got {slices}"
        )
    parts = torch.cat([z_a, z_b]).reshape(2 * slices, n // slices, dimension)
    whitened = _whiten(parts, shrinkage, method).reshape(2 * n, dimension)
    if not normalize:
        return mean_squared_distance(*whitened.chunk(2))
    unit_a, unit_b = unit_rows(whitened).chunk(2)
    # The cosine form and not the squared difference: for rows of zeros, where the two differ, it
    # reads 2, and the squared difference 0, the value of perfect agreement.
    return 2 - 2 * (unit_a * unit_b).sum() / n


def _whiten(parts: Tensor, shrinkage: float, method: str) -> Tensor:
    """Whiten each of (P, n, D)."""
    n, dimension = parts.shape[1:]
    # From the first row and then from the mean: equal rows become exact zeros, and a large common
    # offset costs no digits.
    shifted = parts - parts[:, :1].detach()
    centred = shifted - shifted.mean(dim=1, keepdim=True)
    covariance = centred.mT @ centred / (n - 1)
    identity = torch.eye(dimension, dtype=parts.dtype, device=parts.device)
    shrunk = (1 - shrinkage) * covariance + shrinkage * identity
    _require_spread(centred, shrunk, shrinkage)
    if method == "zca":
        values, vectors = torch.linalg.eigh(shrunk.detach())
        if (values[:, 0] <= _rounding(shrunk) * values[:, -1]).any():
            raise _singular(centred, shrinkage)
        return centred @ _InverseRoot.apply(shrunk, values.sqrt(), vectors)
    factor, failures = torch.linalg.cholesky_ex(shrunk)
    pivots = factor.detach().diagonal(dim1=-2, dim2=-1).square()
    floor = _rounding(shrunk) * shrunk.detach().diagonal(dim1=-2, dim2=-1)
    if failures.any() or (pivots <= floor).any():
        raise _singular(centred, shrinkage)
    # The factor is inverted first: it has fewer columns than the batch has rows.
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return centred @ inverse.mT


def _require_spread(centred: Tensor, shrunk: Tensor, shrinkage: float) -> None:
    """Refuse what is singular whatever the rounding says: n rows span at most n - 1 directions."""
    n, dimension = centred.shape[1:]
    dead = (shrunk.detach().diagonal(dim1=-2, dim2=-1) <= 0).any()
    if dead or (shrinkage == 0 and n <= dimension):
        raise _singular(centred, shrinkage)


def _rounding(matrix: Tensor) -> float:
    return matrix.shape[-1] * torch.finfo(matrix.dtype).eps


def _singular(centred: Tensor, shrinkage: float) -> SingularCovarianceError:
    n, dimension = centred.shape[1:]
    rank = min(int(torch.linalg.matrix_rank(centred.detach()).min()), n - 1)
    return SingularCovarianceError(
        f"the embeddings cannot be whitened: a batch of N = {n} rows spans {rank} of "
        f"D = {dimension} directions (shrinkage = {shrinkage:g}). Give more rows than dimensions "
        "(the paper takes 2D), fewer dimensions, or shrinkage > 0; with rows enough, the "
        "embeddings have collapsed"
    )


class _InverseRoot(torch.autograd.Function):
    """The inverse root of (P, D, D) symmetric matrices from the roots of their spectra.

    Its derivative is finite where eigenvalues coincide, as all do at complete collapse; going
    through the eigenvectors, as automatic differentiation would, it is 0/0 there.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, roots: Tensor, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(roots, vectors)
        return (vectors / roots[:, None, :]) @ vectors.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # Daleckii-Krein: divided differences of x^(-1/2), -1 / (r s (r + s)) in the roots r, s.
        roots, vectors = ctx.saved_tensors
        rows, columns = roots[:, :, None], roots[:, None, :]
        inner = vectors.mT @ gradient @ vectors / (rows * columns * (rows + columns))
        return -vectors @ inner @ vectors.mT, None, None
