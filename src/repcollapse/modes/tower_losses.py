"""What two towers minimise: CLIP's loss, one remedy beside it, and temperatures that fall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks

Schedule = Callable[[float], float]


class Loss(Protocol):
    """A function of the unit rows of both towers, each (N, D), and a temperature: a scalar.

    :func:`repcollapse.objectives.nt_xent` is one, in which a row also meets its own tower's rows.
    """

    def __call__(self, u: Tensor, v: Tensor, /, *, temperature: float) -> Tensor:
        """Return what is minimised."""


def info_nce(u: Tensor, v: Tensor, *, temperature: float | Tensor) -> Tensor:
    r"""Return CLIP's loss: among all rows of the other tower, name the partner, both ways.

    .. math::

        \frac{1}{2N} \sum_i \left(\log \sum_k e^{(u_i^\top v_k - u_i^\top v_i) / \tau}
        + \log \sum_k e^{(u_k^\top v_i - u_i^\top v_i) / \tau}\right)

    Parameters
    ----------
    u, v
        Unit rows of both towers, shape (N, D), row i of both from one pair, N >= 2.
    temperature
        :math:`\tau > 0`, a number or a scalar tensor.

    Returns
    -------
    Tensor
        A scalar >= 0, in nats; log N where all rows of a tower are the same. No row meets another
        of its own tower.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a temperature other than these. That rows have length one is not asked:
        others are scored as they are.

    References
    ----------
    Radford et al. 2021, "Learning transferable visual models from natural language supervision",
    figure 3.

    Examples
    --------
    >>> same = torch.ones(8, 1)
    >>> bool(torch.isclose(info_nce(same, same, temperature=0.1), torch.tensor(8.0).log()))
    True
    """
    u, v = _checks.as_matrix_pair("u", u, "v", v)
    scores = u @ v.T / _positive("temperature", temperature)
    partner = torch.arange(len(u), device=u.device)
    return (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner)) / 2


def _positive(name: str, value: float | Tensor) -> float | Tensor:
    """Return a number above 0, or a scalar tensor that holds one, with its gradient."""
    if not isinstance(value, Tensor):
        return _checks.number(name, value, above=0)
    if value.ndim:
        raise ValueError(f"{name} must be a number or a scalar; got shape {tuple(value.shape)}")
    _checks.number(name, value.item(), above=0)
    return value


def mean_matching(weight: float) -> Loss:
    r"""Return :func:`info_nce` with a penalty on the distance of the batch's centroids.

    .. math:: \mathcal L(u, v; \tau) + w \lVert \bar u - \bar v \rVert^2

    Parameters
    ----------
    weight
        w >= 0.

    Returns
    -------
    Loss
        In [0, inf). The penalty is 0 where both towers have one centroid, as where both have
        collapsed to one point, and 4 w at most.

    Raises
    ------
    TypeError, ValueError
        For a weight other than these; the loss raises as :func:`info_nce` does.

    References
    ----------
    Grassucci et al. 2026.

    Examples
    --------
    >>> u, v = torch.eye(2), -torch.eye(2)
    >>> penalty = mean_matching(10)(u, v, temperature=1.0) - info_nce(u, v, temperature=1.0)
    >>> round(penalty.item(), 4)  # the centroids are the root of 2 apart
    20.0
    """
    weight = _checks.number("weight", weight, at_least=0)

    def loss(u: Tensor, v: Tensor, *, temperature: float) -> Tensor:
        contrast = info_nce(u, v, temperature=temperature)
        return contrast + weight * (u.mean(dim=0) - v.mean(dim=0)).square().sum()

    return loss


def annealed(start: float, end: float) -> Schedule:
    r"""Return a temperature that falls from one to the other, by equal factors.

    .. math:: \tau(s) = \tau_0^{1 - s} \, \tau_1^s

    Parameters
    ----------
    start, end
        :math:`\tau_0` and :math:`\tau_1`, > 0.

    Returns
    -------
    Schedule
        A function of the share s of the training that is over, from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        For temperatures other than these.

    Examples
    --------
    >>> [round(annealed(0.4, 0.1)(done), 3) for done in (0.0, 0.5, 1.0)]
    [0.4, 0.2, 0.1]
    """
    start = _checks.number("start", start, above=0)
    end = _checks.number("end", end, above=0)
    return lambda done: start * (end / start) ** done
