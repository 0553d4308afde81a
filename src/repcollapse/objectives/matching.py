"""Objectives that match the distribution of the embeddings to a given one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._distributed import gather, world_size
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import unit_rows
from repcollapse.objectives._terms import weighted_sum


class SIGRegTerms(NamedTuple):
    """The two unweighted terms of LeJEPA."""

    prediction: Tensor
    statistic: Tensor


@in_full_precision
def epps_pulley(x: Tensor, *, knots: int = 17, extent: float = 3.0) -> Tensor:
    r"""Return the Epps-Pulley statistic of every column of `x` against the standard normal.

    .. math::

        T = N \int_{-t_{\max}}^{t_{\max}}
        \left| \hat\varphi(t) - e^{-t^2/2} \right|^2 e^{-t^2/2} \, dt,
        \qquad \hat\varphi(t) = \frac{1}{N} \sum_n e^{i t x_n}

    by the trapezoid rule on `knots` points of :math:`[0, t_{\max}]`, doubled: the integrand is
    even.

    Parameters
    ----------
    x
        Samples, shape (N, M): M one-dimensional samples of size N >= 2.
    knots
        Points of the rule, >= 2.
    extent
        :math:`t_{\max} > 0`.

    Returns
    -------
    Tensor
        Shape (M,), in [0, inf). Its size at health does not depend on N, at collapse it grows as N.
        On the whole line a sample of the standard normal reads
        :math:`\sqrt{2\pi} (1 - 1/\sqrt 3) = 1.0594` on average, whatever N: a floor and not 0.
        Equal samples at the origin read
        :math:`N \sqrt{2\pi} (1 - \sqrt 2 + 1/\sqrt 3) = 0.40892 N`, far from it
        :math:`N \sqrt{2\pi} (1 + 1/\sqrt 3) = 3.954 N`. At the default rule the first two are
        1.0525 and 0.40205 N. The third becomes 3.572 N on average over places, and repeats: the
        rule cannot tell a shift of :math:`2\pi (\mathrm{knots} - 1) / t_{\max} = 33.5` from none.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Epps & Pulley 1983, "A test for normality based on the empirical characteristic function";
    Balestriero & LeCun 2025, "LeJEPA".

    Examples
    --------
    >>> import torch
    >>> round(float(epps_pulley(torch.zeros(100, 1))), 3)
    40.205
    """
    x = _checks.as_matrix("x", x)
    knots = _checks.integer("knots", knots, at_least=2)
    extent = _checks.number("extent", extent, above=0)
    return _EppsPulley.apply(x, knots, extent)


class _EppsPulley(torch.autograd.Function):
    """The statistic with its derivative taken on the way.

    The knots are multiples of one step, so that the angle-addition formulas give their sines and
    cosines from the first. Both are needed once more in the derivative: keeping none of them and
    summing it here costs a quarter of the time, and a knot's share of the memory, that automatic
    differentiation of the plain formula takes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: int, extent: float) -> Tensor:
        n = len(x)
        step = extent / (knots - 1)
        first_cos, first_sin = (x * step).cos(), (x * step).sin()
        cos, sin = first_cos, first_sin
        statistic, derivative = torch.zeros_like(x[0]), torch.zeros_like(x)
        ctx.rule = _rule(knots, extent)
        for t_k, normal_k, weight in ctx.rule:
            real, imaginary = cos.mean(dim=0) - normal_k, sin.mean(dim=0)
            statistic += weight * n * (real.square() + imaginary.square())
            slope = 2 * weight * t_k
            derivative.addcmul_(cos, slope * imaginary).addcmul_(sin, -slope * real)
            cos, sin = cos * first_cos - sin * first_sin, sin * first_cos + cos * first_sin
        ctx.save_for_backward(x, derivative)
        return statistic

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, derivative = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: once more, differentiably
            derivative = torch.zeros_like(x)
            for t_k, normal_k, weight in ctx.rule:
                cos, sin = (t_k * x).cos(), (t_k * x).sin()
                slope = cos * sin.mean(dim=0) - sin * (cos.mean(dim=0) - normal_k)
                derivative = derivative + 2 * weight * t_k * slope
        return derivative * gradient, None, None


def _rule(knots: int, extent: float) -> list[tuple[float, float, float]]:
    """Return t, e^(-t^2 / 2) and the weight of each knot, window and both halves of the line in it.

    The knot 0 is left out: every characteristic function is 1 there.
    """
    step = extent / (knots - 1)
    t = [k * step for k in range(1, knots)]
    normal = [math.exp(-(t_k**2) / 2) for t_k in t]
    weights = [2 * step * normal_k for normal_k in normal]
    weights[-1] /= 2
    return list(zip(t, normal, weights, strict=True))


@in_full_precision
def sigreg_terms(
    z_a: Tensor,
    z_b: Tensor,
    *,
    slices: int = 256,
    knots: int = 17,
    extent: float = 3.0,
    directions: Tensor | None = None,
    gather_distributed: bool = False,
) -> SIGRegTerms:
    r"""Return the prediction and the normality terms of LeJEPA, unweighted.

    .. math::

        \text{prediction} = \frac{1}{2ND} \sum_i \sum_{v \in \{a, b\}}
        \lVert z^v_i - \mu_i \rVert^2, \quad \mu_i = \tfrac12 (z^a_i + z^b_i), \qquad
        \text{statistic} = \frac{1}{2M} \sum_{v} \sum_m T(Z^v u_m)

    with T of :func:`epps_pulley` and :math:`u_m` M unit directions, drawn anew at every call: by
    the theorem of Cramér and Wold a distribution all of whose projections are standard normal is
    itself the isotropic one. The prediction is a quarter of the mean squared error between the
    views; as in the paper's listing it is a mean over dimensions too, where its equation has a sum.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are not normalised.
    slices
        M >= 1, directions drawn from torch's default generator, uniform on the sphere. Both views
        are projected on the same.
    knots, extent
        The rule of :func:`epps_pulley`.
    directions
        Unit rows to use instead, shape (M, D); `slices` is then ignored.
    gather_distributed
        Test the joined batch of all ranks, on the directions of rank 0; without a process group it
        changes nothing.

    Returns
    -------
    SIGRegTerms
        Scalars >= 0. At complete collapse the prediction is 0 and the statistic that of equal
        samples: 0.40205 N at the origin, about 3.572 N far from it. All rows then receive the same
        gradient, none at the origin: it moves the point there and never makes it a cloud. A healthy
        normal batch reads 1.0525, which is not 0.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Balestriero & LeCun 2025, "LeJEPA: provable and scalable self-supervised learning without the
    heuristics".

    Examples
    --------
    >>> import torch
    >>> terms = sigreg_terms(torch.zeros(100, 3), torch.zeros(100, 3))
    >>> [round(float(term), 3) for term in terms]
    [0.0, 40.205]
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    slices = _checks.integer("slices", slices, at_least=1)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    if directions is None:
        directions = _draw(slices, z_a, shared=gather_distributed)
    else:
        directions = _as_directions(directions, z_a)
    prediction = F.mse_loss(z_a, z_b) / 4
    samples = torch.cat([z_a @ directions.T, z_b @ directions.T], dim=1)
    return SIGRegTerms(prediction, epps_pulley(samples, knots=knots, extent=extent).mean())


def _draw(slices: int, z: Tensor, *, shared: bool) -> Tensor:
    directions = torch.randn(slices, z.shape[1], dtype=z.dtype, device=z.device)
    directions = unit_rows(directions)
    if shared and world_size() > 1:
        # Every rank draws, so that their generators keep step, and one draw counts.
        distributed.broadcast(directions, src=0)
    return directions


def _as_directions(directions: Any, z: Tensor) -> Tensor:
    directions = _checks.as_matrix("directions", directions, min_rows=1)
    if directions.shape[1] != z.shape[1]:
        raise ValueError(
            f"directions must have shape (M, {z.shape[1]}), one of D coordinates a row; "
            f"got shape {tuple(directions.shape)}"
        )
    lengths = directions.detach().norm(dim=1)
    if (lengths - 1).abs().max() > 1e-3:
        raise ValueError(
            "directions must be unit rows; "
            f"got lengths from {float(lengths.min()):g} to {float(lengths.max()):g}"
        )
    return directions.to(z)


def sigreg(
    z_a: Tensor,
    z_b: Tensor,
    *,
    weight: float = 0.05,
    slices: int = 256,
    knots: int = 17,
    extent: float = 3.0,
    directions: Tensor | None = None,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return the LeJEPA objective: prediction, and normality by SIGReg.

    .. math::

        \ell = (1 - \lambda)\, \text{prediction} + \lambda\, \text{statistic}

    with the terms of :func:`sigreg_terms`.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    weight
        :math:`\lambda` in [0, 1]. At 0 nothing opposes collapse.
    slices, knots, extent, directions, gather_distributed
        As in :func:`sigreg_terms`.

    Returns
    -------
    Tensor
        A scalar >= 0. At complete collapse to the origin 0.40205 :math:`\lambda N`: 5.146 at the
        default weight and N = 256. A healthy batch of equal views reads 1.0525 :math:`\lambda`,
        0.053.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Balestriero & LeCun 2025, "LeJEPA".

    Examples
    --------
    >>> import torch
    >>> round(float(sigreg(torch.zeros(256, 8), torch.zeros(256, 8))), 3)
    5.146
    """
    weight = _checks.number("weight", weight, at_least=0, at_most=1)
    terms = sigreg_terms(
        z_a,
        z_b,
        slices=slices,
        knots=knots,
        extent=extent,
        directions=directions,
        gather_distributed=gather_distributed,
    )
    return weighted_sum(terms, (1 - weight, weight))
