"""A mixture of linear experts, one for each token, and the loss that balances their load."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks


def balance_loss(probabilities: Tensor, route: Tensor) -> Tensor:
    r"""Return the auxiliary loss of the Switch Transformer, without its weight.

    .. math:: E \sum_i f_i P_i

    with :math:`f_i` the share of the tokens that go to expert i, a constant to the gradient, and
    :math:`P_i` the mean of its probability.

    Parameters
    ----------
    probabilities
        Of the router, shape (N, E).
    route
        The expert of each token, integers, shape (N,).

    Returns
    -------
    Tensor
        A scalar in (0, E]. It is E where one expert is sure to get everything and 1 where
        :math:`P` is uniform. Where the router is sure of every token it is :math:`E \sum f_i^2`,
        one plus the squared coefficient of variation of the load. Where it is not, it can be
        less than 1.

    Raises
    ------
    TypeError, ValueError
        For probabilities that are no matrix, or routes of another length.

    References
    ----------
    Fedus et al. 2022, equations 4 to 6.

    Examples
    --------
    >>> everything_to_one = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 6)
    >>> float(balance_loss(everything_to_one, torch.zeros(6, dtype=torch.long)))
    4.0
    """
    p = _checks.as_matrix("probabilities", probabilities, min_rows=1, finite=False)
    route = _checks.as_labels("route", route, len(p))
    load = (route.bincount(minlength=p.shape[1]).double() / len(p)).to(p)
    return p.shape[1] * (load * p.mean(dim=0)).sum()


class SwitchLayer(nn.Module):
    r"""Linear experts of which each token gets one, times its probability.

    .. math:: y = p_k W_k x \;(+\; V x), \qquad k = \arg\max_i p_i, \qquad
              p = \operatorname{softmax}(R x)

    Parameters
    ----------
    dimension, experts
        D, and E >= 2. The experts start at zero, so that at first none is better than another.
    shared
        Add an expert :math:`V` that every token gets.
    cosine
        Let the router compare directions only: scores are cosines over a learned temperature.
    generator
        Draws the router, the only part that is drawn; torch's global generator where there is none.
    """

    def __init__(
        self,
        dimension: int,
        experts: int,
        *,
        shared: bool = False,
        cosine: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        scale = 1.0 if cosine else 0.02
        drawn = torch.randn(experts, dimension, generator=generator)
        self.router = nn.Parameter(scale * drawn)
        self.experts = nn.Parameter(torch.zeros(experts, dimension, dimension))
        self.shared = nn.Parameter(torch.zeros(dimension, dimension)) if shared else None
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.1))) if cosine else None

    def probabilities(self, x: Tensor) -> Tensor:
        """Return what the router thinks of each token, shape (N, E)."""
        if self.log_temperature is None:
            return (x @ self.router.T).softmax(dim=1)
        cosines = F.normalize(x, dim=1) @ F.normalize(self.router, dim=1).T
        return (cosines / self.log_temperature.exp()).softmax(dim=1)

    def forward(self, x: Tensor, *, dense: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return outputs (N, D), probabilities (N, E) and the expert of each token (N,).

        With `dense`, outputs are those of all experts by their probabilities, as in a warm-up.
        """
        p = self.probabilities(x)
        route = p.argmax(dim=1)
        weights = p if dense else p * F.one_hot(route, p.shape[1])
        # One product with all experts, most of whose terms are zero: they are too small to sort.
        weighted = (weights.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
        y = weighted @ self.experts.transpose(1, 2).flatten(0, 1)
        return (y if self.shared is None else y + x @ self.shared.T), p, route
