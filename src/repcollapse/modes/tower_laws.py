"""Two laws of two towers: of the gap under CLIP's loss, and of the cone before any training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse.modes.tower_losses import info_nce


def log_temperature_gradient(u: Tensor, v: Tensor, temperature: float) -> float:
    r"""Return which way CLIP's loss drives a gap: its slope along the logarithm of temperature.

    .. math:: \frac{\partial \mathcal L}{\partial \log \tau}

    A gap g at right angles to both towers' variation changes the loss as a temperature higher by
    :math:`1 / (1 - g^2/4)` does. So a gap costs the loss where this is above 0, and lowers it where
    this is below.

    Parameters
    ----------
    u, v
        Unit rows of both towers, shape (N, D), row i of both from one pair, N >= 2.
    temperature
        :math:`\tau > 0`.

    Returns
    -------
    float
        In nats, any number; 0 where all rows of each tower are the same. It is below 0 where
        partners score less than the mean of all, weighted as the softmax weighs them.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a temperature other than these.

    References
    ----------
    Liang et al. 2022, "Mind the gap", figure 3, measure such a landscape; the law is derived in
    chapter 25.

    Examples
    --------
    >>> rows = torch.eye(4)
    >>> pairs = (rows, rows), (rows, rows.roll(1, 0))  # every partner the nearest, or none
    >>> [log_temperature_gradient(u, v, 0.2) > 0 for u, v in pairs]
    [True, False]
    """
    u, v = _checks.as_matrix_pair("u", u, "v", v)
    temperature = _checks.number("temperature", temperature, above=0)
    with torch.enable_grad():
        log_tau = torch.tensor(math.log(temperature), dtype=torch.float64, device=u.device)
        tau = log_tau.requires_grad_().exp()
        loss = info_nce(u.double(), v.double(), temperature=tau)
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
