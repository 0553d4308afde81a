"""Objectives that regularise the statistics of a batch of embeddings."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._precision import in_full_precision

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
    distance = F.mse_loss(z_a, z_b)
    variance = _hinge(z_a, gamma, eps) + _hinge(z_b, gamma, eps)
    covariance = _offdiagonal(z_a) + _offdiagonal(z_b)
    if convention == "official":
        return VICRegTerms(distance, variance / 2, covariance)
    return VICRegTerms(distance * z_a.shape[1], variance, covariance)


def _hinge(z: Tensor, gamma: float, eps: float) -> Tensor:
    std = torch.sqrt(z.var(dim=0) + eps)
    return F.relu(gamma - std).mean()


def _offdiagonal(z: Tensor) -> Tensor:
    """Return the squared off-diagonal covariances, summed and divided by D."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    # The diagonal is subtracted term by term: subtracting two large sums would cancel.
    return (covariance - covariance.diagonal().diag()).square().sum() / z.shape[1]


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
    gamma, eps, convention
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
    terms = vicreg_terms(z_a, z_b, gamma=gamma, eps=eps, convention=convention)
    # A term of weight 0 is left out: 0 times an overflow would be NaN.
    parts = [weight * term for weight, term in zip(weights, terms, strict=True) if weight > 0]
    return torch.stack(parts).sum() if parts else 0 * terms.invariance
