"""Expert routing: eight linear experts, and a router that may forget most of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups import Usage, usage
from repcollapse.data import stream
from repcollapse.modes.runs import fit
from repcollapse.modes.tokens import Tokens, draw_tokens, one_map_error
from repcollapse.training import pick_device

BATCH, LEARNING_RATE = 128, 1e-2


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


@dataclass(frozen=True)
class Setting:
    """What is done against a collapse of the routing; as it stands, nothing.

    Attributes
    ----------
    experts
        E, at least 2.
    balance
        Weight of :func:`balance_loss`, at least 0.
    shared_expert, cosine
        The options of :class:`SwitchLayer`.
    warm_up
        For how many steps every token gets all experts.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    Examples
    --------
    >>> Setting(balance=-1.0)
    Traceback (most recent call last):
    ...
    ValueError: balance must be at least 0; got -1.0
    """

    experts: int = 8
    balance: float = 0.0
    shared_expert: bool = False
    cosine: bool = False
    warm_up: int = 0

    def __post_init__(self) -> None:
        _checks.integer("experts", self.experts, at_least=2)
        _checks.number("balance", self.balance, at_least=0)
        _checks.integer("warm_up", self.warm_up, at_least=0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """A layer after its training, read on tokens that it has not seen.

    Attributes
    ----------
    layer, test
        The layer, and these tokens.
    losses
        The loss of every batch, shape (steps,).
    routes
        By step, the expert of each token, shape (N,), at the steps asked for.
    probabilities
        The router's at the end, shape (N, E).
    error
        The squared error over that of one linear map fitted to all tokens.
    """

    layer: SwitchLayer
    test: Tokens
    losses: np.ndarray
    routes: dict[int, Tensor]
    probabilities: Tensor
    error: float

    @property
    def route(self) -> Tensor:
        """The expert of each token at the end, shape (N,)."""
        return self.probabilities.argmax(dim=1)

    @property
    def loads(self) -> pd.DataFrame:
        """The share of the tokens that each expert gets: a row a step, a column an expert."""
        experts = self.probabilities.shape[1]
        counts = {
            step: route.bincount(minlength=experts).tolist() for step, route in self.routes.items()
        }
        return pd.DataFrame.from_dict(counts, orient="index") / len(self.test.x)

    @property
    def usage(self) -> Usage:
        """How many experts are in use, and how evenly, at the end."""
        return usage(self.route.bincount(minlength=self.probabilities.shape[1]))

    @property
    def entropy(self) -> float:
        """The entropy of the load over log E."""
        return self.usage.entropy / math.log(self.probabilities.shape[1])

    @property
    def agreement(self) -> float:
        """The normalised mutual information of route and kind."""
        return float(normalized_mutual_info_score(self.test.kind.numpy(), self.route.numpy()))


def train(
    setting: Setting,
    seed: int,
    *,
    steps: int,
    tokens: Callable[[int], tuple[Tokens, Tokens]] = draw_tokens,
    at: Collection[int] = (),
    device: str = "auto",
) -> Trained:
    """Train a layer for the squared error, and read its routes on the way.

    Parameters
    ----------
    setting
        What is done beside that.
    seed
        Of the tokens, the router's first weights and the batches, each from a stream of its own.
    steps
        How many steps of Adam on batches of 128.
    tokens
        A function of the seed that gives those to train on and those to judge by.
    at
        The steps before which the routes are kept, 0 to `steps`; with `steps`, those of the end.
    device
        Where to train, as in :func:`repcollapse.training.pick_device`.

    Returns
    -------
    Trained
        All on the CPU.

    Raises
    ------
    TypeError, ValueError
        For steps, one of `at` beyond them, or a device other than these.

    Examples
    --------
    >>> found = train(Setting(experts=4), 0, steps=2, at=(0, 2))
    >>> found.loads.shape, list(found.routes)
    ((2, 4), [0, 2])
    """
    place = pick_device(device)
    seen, unseen = tokens(seed)
    x, y, x_test = seen.x.to(place), seen.y.to(place), unseen.x.to(place)
    layer = SwitchLayer(
        x.shape[1],
        setting.experts,
        shared=setting.shared_expert,
        cosine=setting.cosine,
        generator=stream(seed, "router of routing"),
    ).to(place)
    batches = stream(seed, "batches of routing")
    routes: dict[int, Tensor] = {}

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(x), (BATCH,), generator=batches).to(place)
        predicted, p, route = layer(x[rows], dense=step < setting.warm_up)
        value = (predicted - y[rows]).square().mean()
        return value if setting.balance == 0 else value + setting.balance * balance_loss(p, route)

    def keep(step: int) -> None:
        routes[step] = layer.probabilities(x_test).argmax(dim=1).cpu()

    adam = torch.optim.Adam(layer.parameters(), lr=LEARNING_RATE, fused=True)
    losses = fit(adam, loss, steps=steps, watch=keep, at=at)
    layer.cpu()
    with torch.no_grad():
        predicted, p, _ = layer(unseen.x)
    error = (predicted - unseen.y).double().square().mean() / one_map_error(seen, unseen)
    return Trained(
        layer=layer,
        test=unseen,
        losses=losses,
        routes=routes,
        probabilities=p,
        error=float(error),
    )
