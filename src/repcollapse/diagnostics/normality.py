"""How far embeddings are from the isotropic normal distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import as_double

BLOCK = 1024


def sigreg_statistic(
    z: ArrayLike,
    *,
    slices: int = 256,
    knots: int = 17,
    extent: float = 3.0,
    directions: Tensor | None = None,
    seed: int = 0,
) -> float:
    r"""Return the sliced Epps-Pulley statistic of LeJEPA.

    .. math:: \frac{N}{M} \sum_m \int_{-T}^{T} e^{-t^2/2} \left\lvert \frac{1}{N} \sum_i
              e^{\mathrm{i} t\, z_i^\top u_m} - e^{-t^2/2} \right\rvert^2 dt

    over M random directions :math:`u_m`, the integral by the trapezoidal rule on [0, T], doubled.
    Embeddings are neither centred nor rescaled: the statistic is of them against mean 0 and
    covariance I.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    slices, seed
        M >= 1 and the seed that the directions are drawn with, uniform on the sphere: the same at
        every call, so that two embeddings are compared on the same slices.
    knots, extent
        Points of the rule, >= 2, and T > 0.
    directions
        Unit rows to use instead, shape (M, D).

    Returns
    -------
    float
        >= 0, and not 0 for healthy embeddings: normal ones read 1.0525 on average at any N (1.0594
        on the whole line). At complete collapse 0.40205 N at the origin, which is also the value of
        zero rows (0.40892 N on the whole line), and about 3.57 N far from it. Its scale grows with
        N: compare equal N only. Invariant to rotation in distribution, and to nothing else.

    Raises
    ------
    TypeError, ValueError
        For embeddings or options other than these.

    References
    ----------
    Epps & Pulley 1983; Balestriero & LeCun 2025, "LeJEPA: provable and scalable self-supervised
    learning without the heuristics".

    Examples
    --------
    >>> import torch
    >>> round(sigreg_statistic(torch.zeros(100, 3)), 3)
    40.205
    """
    matrix = _checks.as_matrix("z", z)
    n, dimension = matrix.shape
    slices = _checks.integer("slices", slices, at_least=1)
    knots = _checks.integer("knots", knots, at_least=2)
    extent = _checks.number("extent", extent, above=0)
    seed = _checks.integer("seed", seed, at_least=0)
    if directions is None:
        generator = torch.Generator().manual_seed(seed)
        axes = torch.randn(slices, dimension, dtype=torch.float64, generator=generator)
    else:
        axes = as_double(
            _checks.as_matrix("directions", directions, min_rows=1, dimension=dimension)
        )
        norms = torch.linalg.vector_norm(axes, dim=1)
        if bool((norms - 1).abs().max() > 1e-3):
            raise ValueError(f"directions must have rows of length 1; got {float(norms.max()):g}")
    rows = as_double(matrix[:0])
    axes = torch.nn.functional.normalize(axes, dim=1).to(rows.device)
    points = torch.linspace(0, extent, knots, dtype=torch.float64, device=rows.device)
    weights = torch.full_like(points, 2 * extent / (knots - 1))
    weights[0] = weights[-1] = extent / (knots - 1)
    window = (-points.square() / 2).exp()
    cosine = axes.new_zeros(len(points), len(axes))
    sine = torch.zeros_like(cosine)
    for start in range(0, n, BLOCK):
        projected = as_double(matrix[start : start + BLOCK]) @ axes.T
        for k, point in enumerate(points.tolist()):
            angle = point * projected
            cosine[k] += angle.cos().sum(dim=0)
            sine[k] += angle.sin().sum(dim=0)
    gap = (cosine / n - window[:, None]).square() + (sine / n).square()
    return float(n * ((weights * window) @ gap).mean())
