"""Objectives that regularise the statistics of a batch of embeddings."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._distributed import gather
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import sum_of_squares
from repcollapse.objectives._terms import weighted_sum

CONVENTIONS = ("official", "paper")


class VICRegTerms(NamedTuple):
    """The three unweighted terms of VICReg."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


@in_full_precision
def vicreg_terms(
    z_a: Tensor,
    z_b: Tensor,
    *,
    gamma: float = 1.0,
    eps: float = 1e-4,
    convention: str = "official",
    gather_distributed: bool = False,
) -> VICRegTerms:
    r"""Return the invariance, variance and covariance terms of VICReg, unweighted.

    With :math:`S_j = \sqrt{\operatorname{Var}(z_j) + \epsilon}` and C the covariance matrix of one
    view, both with the N - 1 divisor,

    .. math::

        s = \frac{1}{N} \sum_i \lVert z^a_i - z^b_i \rVert^2, \quad
        v(Z) = \frac{1}{D} \sum_j \max(0, \gamma - S_j), \quad
        c(Z) = \frac{1}{D} \sum_{j \ne k} C_{jk}^2,

    and the terms are s, v(Z_a) + v(Z_b) and c(Z_a) + c(Z_b). The authors' code differs from these
    equations of the paper: it divides s by D and the variance term by 2. `convention` says which.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are not normalised.
    gamma
        The standard deviation asked of every dimension, > 0.
    eps
        Added to the variance before the root, > 0.
    convention
        "official" (the authors' code, to which the published weights belong) or "paper".
    gather_distributed
        Take the batch to be that of all ranks joined, each of which gets the same value; without
        a process group it changes nothing.

    Returns
    -------
    VICRegTerms
        Scalars >= 0. At complete collapse invariance and covariance are 0 and variance is
        :math:`\gamma - \sqrt\epsilon` ("official"; 0.99 at the defaults) or twice that ("paper").
        There the variance term is also without gradient: below a spread of
        :math:`\sqrt\epsilon` it pushes ever less.

    Raises
    ------
    TypeError, ValueError
        For embeddings, numbers or a convention other than these.

    References
    ----------
    Bardes, Ponce & LeCun 2022, "VICReg: variance-invariance-covariance regularization for
    self-supervised learning", equations 1 to 6.

    Examples
    --------
    >>> import torch
    >>> terms = vicreg_terms(torch.ones(8, 4), torch.ones(8, 4))
    >>> [round(float(term), 4) for term in terms]
    [0.0, 0.99, 0.0]
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    gamma = _checks.number("gamma", gamma, above=0)
    eps = _checks.number("eps", eps, above=0)
    _checks.choice("convention", convention, CONVENTIONS)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    distance = F.mse_loss(z_a, z_b)
    covariance_a, covariance_b = _covariance(z_a), _covariance(z_b)
    variance = _hinge(covariance_a, gamma, eps) + _hinge(covariance_b, gamma, eps)
    covariance = _offdiagonal(covariance_a) + _offdiagonal(covariance_b)
    if convention == "official":
        return VICRegTerms(distance, variance / 2, covariance)
    return VICRegTerms(distance * z_a.shape[1], variance, covariance)


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(dim=0)
    return centred.T @ centred / (len(z) - 1)


def _hinge(covariance: Tensor, gamma: float, eps: float) -> Tensor:
    std = torch.sqrt(covariance.diagonal() + eps)
    return F.relu(gamma - std).mean()


def _offdiagonal(covariance: Tensor) -> Tensor:
    """Return the squared off-diagonal covariances, summed and divided by D."""
    return _offdiagonal_squares(covariance) / len(covariance)


def _offdiagonal_squares(matrix: Tensor) -> Tensor:
    # The diagonal is subtracted term by term: subtracting two large sums would cancel.
    return sum_of_squares(matrix - matrix.diagonal().diag())


def vicreg(
    z_a: Tensor,
    z_b: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    gamma: float = 1.0,
    eps: float = 1e-4,
    convention: str = "official",
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return the VICReg objective, the weighted sum of the terms of :func:`vicreg_terms`.

    .. math::

        \ell = \lambda\, s(Z_a, Z_b) + \mu\,[v(Z_a) + v(Z_b)] + \nu\,[c(Z_a) + c(Z_b)]

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    invariance, variance, covariance
        The weights :math:`\lambda, \mu, \nu \ge 0`.
    gamma, eps, convention, gather_distributed
        As in :func:`vicreg_terms`.

    Returns
    -------
    Tensor
        A scalar >= 0. At complete collapse, with the default weights: 24.75 in the "official"
        convention, 49.5 in the "paper" one.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Bardes, Ponce & LeCun 2022, "VICReg".

    Examples
    --------
    >>> import torch
    >>> round(float(vicreg(torch.ones(8, 4), torch.ones(8, 4))), 4)
    24.75
    """
    weights = (
        _checks.number("invariance", invariance, at_least=0),
        _checks.number("variance", variance, at_least=0),
        _checks.number("covariance", covariance, at_least=0),
    )
    terms = vicreg_terms(
        z_a,
        z_b,
        gamma=gamma,
        eps=eps,
        convention=convention,
        gather_distributed=gather_distributed,
    )
    return weighted_sum(terms, weights)


class BarlowTwinsTerms(NamedTuple):
    """The two unweighted terms of Barlow Twins."""

    on_diagonal: Tensor
    off_diagonal: Tensor


@in_full_precision
def barlow_twins_terms(
    z_a: Tensor, z_b: Tensor, *, eps: float = 1e-5, gather_distributed: bool = False
) -> BarlowTwinsTerms:
    r"""Return the invariance and the redundancy term of Barlow Twins, unweighted.

    With every dimension of each view standardised over the batch,
    :math:`\tilde z_j = (z_j - \bar z_j) / \sqrt{\operatorname{Var}(z_j) + \epsilon}`, the variance
    with the N divisor, and the cross-correlation :math:`C = \tilde Z_a^\top \tilde Z_b / N`,

    .. math::

        \text{on\_diagonal} = \sum_j (1 - C_{jj})^2, \qquad
        \text{off\_diagonal} = \sum_{j \ne k} C_{jk}^2.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    eps
        Added to the variance before the root, > 0, as in batch normalisation. The paper's
        pseudo-code has none, and is NaN where a dimension is constant.
    gather_distributed
        Take the batch to be that of all ranks joined, each of which gets the same value; without
        a process group it changes nothing.

    Returns
    -------
    BarlowTwinsTerms
        Scalars in [0, 4D] and [0, D(D - 1)]. At complete collapse on_diagonal is D and off_diagonal
        0: nothing correlates with a constant.

    Raises
    ------
    TypeError, ValueError
        For embeddings or an eps other than these.

    References
    ----------
    Zbontar, Jing, Misra, LeCun & Deny 2021, "Barlow Twins: self-supervised learning via redundancy
    reduction", equations 1 and 2.

    Examples
    --------
    >>> import torch
    >>> terms = barlow_twins_terms(torch.ones(8, 4), torch.ones(8, 4))
    >>> [float(term) for term in terms]
    [4.0, 0.0]
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    eps = _checks.number("eps", eps, above=0)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    correlation = _standardise(z_a, eps).T @ _standardise(z_b, eps) / len(z_a)
    on_diagonal = sum_of_squares(1 - correlation.diagonal())
    return BarlowTwinsTerms(on_diagonal, _offdiagonal_squares(correlation))


def _standardise(z: Tensor, eps: float) -> Tensor:
    # Its kernel computes z / std - mean / std, which is rounding alone where the mean is large and
    # the spread none: from the first row first. No shift changes what is standardised, so that
    # there is no gradient through this one.
    return F.batch_norm(z - z[0].detach(), None, None, training=True, eps=eps)


def barlow_twins(
    z_a: Tensor,
    z_b: Tensor,
    *,
    redundancy: float = 0.005,
    eps: float = 1e-5,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return the Barlow Twins objective, the weighted sum of :func:`barlow_twins_terms`.

    .. math::

        \ell = \sum_j (1 - C_{jj})^2 + \lambda \sum_{j \ne k} C_{jk}^2

    with the cross-correlation C of the two views, both standardised over the batch.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    redundancy
        The weight :math:`\lambda \ge 0`. It is the paper's, found at D = 8192; the second sum has
        D - 1 times as many parts as the first, and a small D asks for a larger weight.
    eps, gather_distributed
        As in :func:`barlow_twins_terms`.

    Returns
    -------
    Tensor
        A scalar >= 0, at complete collapse D. One dimension copied D times is no collapse to the
        first term: with `redundancy` 0 it is the minimum, 0.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Zbontar, Jing, Misra, LeCun & Deny 2021, "Barlow Twins: self-supervised learning via redundancy
    reduction".

    Examples
    --------
    >>> import torch
    >>> float(barlow_twins(torch.ones(8, 4), torch.ones(8, 4)))
    4.0
    """
    redundancy = _checks.number("redundancy", redundancy, at_least=0)
    terms = barlow_twins_terms(z_a, z_b, eps=eps, gather_distributed=gather_distributed)
    return weighted_sum(terms, (1.0, redundancy))
