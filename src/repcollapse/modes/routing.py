"""Expert routing: a mixture of linear experts whose router may forget most of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from repcollapse import _checks
from repcollapse.checkups import Usage, usage
from repcollapse.data import stream
from repcollapse.modes.fitting import fit
from repcollapse.modes.mixture import SwitchLayer, balance_loss
from repcollapse.modes.tokens import Tokens, draw_tokens, one_map_error
from repcollapse.training import pick_device

BATCH, LEARNING_RATE = 128, 1e-2


@dataclass(frozen=True)
class Setting:
    """What is done against a collapse of the routing; as it stands, nothing.

    Attributes
    ----------
    experts
        E, at least 2.
    balance
        Weight of :func:`repcollapse.modes.mixture.balance_loss`, at least 0.
    shared_expert, cosine
        The options of :class:`repcollapse.modes.mixture.SwitchLayer`.
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
