"""What two towers minimise, and two laws: of the gap under this loss, of the cone before it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks

Loss = Callable[[Tensor, Tensor, float], Tensor]
Schedule = Callable[[float], float]


def info_nce(u: Tensor, v: Tensor, temperature: float | Tensor) -> Tensor:
    r"""Return CLIP's loss: among all rows of the other tower, name the partner, both ways.

    .. math::

        \frac{1}{2N} \sum_i \left(\log \sum_k e^{(u_i^\top v_k - u_i^\top v_i) / \tau}
        + \log \sum_k e^{(u_k^\top v_i - u_i^\top v_i) / \tau}\right)

    Parameters
    ----------
    u, v
        Unit rows of both towers, shape (N, D).
    temperature
        :math:`\tau > 0`.

    Returns
    -------
    Tensor
        A scalar >= 0; log N where all rows of a tower are the same. No row meets another of its
        own tower.

    References
    ----------
    Radford et al. 2021, "Learning transferable visual models from natural language supervision",
    figure 3.

    Examples
    --------
    >>> same = torch.ones(8, 1)
    >>> bool(torch.isclose(info_nce(same, same, 0.1), torch.tensor(8.0).log()))
    True
    """
    scores = u @ v.T / temperature
    partner = torch.arange(len(u), device=u.device)
    return (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner)) / 2


def pull(u: Tensor, v: Tensor, temperature: float) -> float:
    r"""Return :math:`\partial \ell / \partial \log \tau`: above 0 where a gap costs the loss.

    A gap g at right angles to both towers' variation is a temperature higher by
    :math:`1 / (1 - g^2/4)`, so that the loss opens a gap where this is below 0.

    Examples
    --------
    >>> rows = torch.eye(4)
    >>> pull(rows, rows, 0.2) > 0 > pull(rows, rows.roll(1, 0), 0.2)
    True
    """
    with torch.enable_grad():
        log_tau = torch.tensor(math.log(temperature), dtype=torch.float64, device=u.device)
        loss = info_nce(u.double(), v.double(), log_tau.requires_grad_().exp())
        return torch.autograd.grad(loss, log_tau)[0].item()


def relu_cosine(cosine: float, layers: int) -> float:
    r"""Return what a wide random ReLU network makes of the cosine between two inputs.

    .. math::

        \rho \mapsto \frac{\sqrt{1 - \rho^2} + (\pi - \arccos \rho)\, \rho}{\pi}

    once for every layer, with Gaussian weights without bias, in the limit of infinite width.

    Parameters
    ----------
    cosine
        In [-1, 1].
    layers
        How many, >= 0.

    Returns
    -------
    float
        In [0, 1] from the first layer on, and larger with every layer, with limit 1.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Cho & Saul 2009, "Kernel methods for deep learning": the arc-cosine kernel of degree 1.

    Examples
    --------
    >>> [round(relu_cosine(0.0, layers), 3) for layers in range(1, 6)]
    [0.318, 0.494, 0.605, 0.681, 0.736]
    """
    rho = _checks.number("cosine", cosine, at_least=-1, at_most=1)
    for _ in range(_checks.integer("layers", layers, at_least=0)):
        rho = min((math.sqrt(1 - rho**2) + (math.pi - math.acos(rho)) * rho) / math.pi, 1.0)
    return rho


def mean_matching(weight: float) -> Loss:
    r"""Return InfoNCE plus `weight` times :math:`\lVert \bar u - \bar v \rVert^2` of the batch."""

    def loss(u: Tensor, v: Tensor, temperature: float) -> Tensor:
        apart = (u.mean(dim=0) - v.mean(dim=0)).square().sum()
        return info_nce(u, v, temperature) + weight * apart

    return loss


def annealed(start: float, end: float) -> Schedule:
    """Return a temperature that falls from one to the other, by equal factors."""
    return lambda done: start * (end / start) ** done
