"""Expert routing: tokens of eight kinds, eight linear experts, and a router that may forget most.

The tokens lie on a circle, one cluster a kind, and each kind is mapped by a matrix of its own, so
that the best router is known: one expert a kind. What makes the router forget it is what all tokens
have in common, an offset of the inputs and a part of the map; both can be left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.modes.runs import fit
from repcollapse.training import pick_device

BATCH, LEARNING_RATE = 128, 1e-2
RADIUS, SPREAD = 3.0, 0.4  # of the circle, and of a cluster within its plane


@dataclass(frozen=True)
class Tokens:
    """Tokens `x` and targets `y`, shape (N, D), and the `kind` of each, shape (N,)."""

    x: Tensor
    y: Tensor
    kind: Tensor


def draw_tokens(
    seed: int,
    *,
    kinds: int = 8,
    dimension: int = 16,
    shared: float = 2.0,
    offset: float = 3.0,
    train: int = 4096,
    test: int = 2048,
) -> tuple[Tokens, Tokens]:
    r"""Return tokens to train on and tokens to judge by, all drawn by `seed`.

    .. math:: x = c_k + o\,e_3 + \epsilon, \qquad y = (s A + B_k)\,x

    with centres :math:`c_k` at equal distances on a circle in the first two dimensions, noise of
    0.4 in these two and of 1 in all others, and entries of :math:`A`, :math:`B_k` from N(0, 1/D).

    Parameters
    ----------
    seed
        Of the maps, the kinds and the noise.
    kinds, dimension
        How many clusters, at least 2, and D, at least 3.
    shared, offset
        :math:`s` and :math:`o`, at least 0: the part of the map and the part of the input that all
        tokens have in common. With both at 0 they have nothing in common.
    train, test
        How many tokens of each.

    Returns
    -------
    tuple of Tokens
        Those to train on, those to judge by.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    Examples
    --------
    >>> train, test = draw_tokens(0)
    >>> train.x.shape, test.y.shape
    (torch.Size([4096, 16]), torch.Size([2048, 16]))
    """
    seed = _checks.integer("seed", seed, at_least=0)
    kinds = _checks.integer("kinds", kinds, at_least=2)
    dimension = _checks.integer("dimension", dimension, at_least=3)
    shared = _checks.number("shared", shared, at_least=0)
    offset = _checks.number("offset", offset, at_least=0)
    train = _checks.integer("train", train, at_least=1)
    test = _checks.integer("test", test, at_least=1)
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.arange(kinds) / kinds
    centres = torch.zeros(kinds, dimension)
    centres[:, 0], centres[:, 1] = RADIUS * angle.cos(), RADIUS * angle.sin()
    centres[:, 2] = offset
    common = torch.randn(dimension, dimension, generator=generator)
    own = torch.randn(kinds, dimension, dimension, generator=generator)
    maps = (shared * common + own) / math.sqrt(dimension)
    kind = torch.randint(kinds, (train + test,), generator=generator)
    noise = torch.randn(len(kind), dimension, generator=generator)
    noise[:, :2] *= SPREAD
    x = centres[kind] + noise
    y = torch.einsum("nij,nj->ni", maps[kind], x)
    return (
        Tokens(x[:train], y[:train], kind[:train]),
        Tokens(x[train:], y[train:], kind[train:]),
    )


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
    load = route.bincount(minlength=p.shape[1]) / len(p)
    return p.shape[1] * (load.to(p) * p.mean(dim=0)).sum()


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
    """

    def __init__(
        self, dimension: int, experts: int, *, shared: bool = False, cosine: bool = False
    ) -> None:
        super().__init__()
        scale = 1.0 if cosine else 0.02
        self.router = nn.Parameter(scale * torch.randn(experts, dimension))
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
class Routed:
    """What a training left.

    `route` and `probabilities` are of the test tokens, at the end; `loads` are shares of them by
    expert, shape (readings, E), and `routes` their experts, shape (readings, N), at the steps
    `read_at`. `entropy` is that of the load over log E, `error` the squared error over that of one
    linear map fitted to all tokens, and `agreement` the normalised mutual information of route and
    kind.
    """

    layer: SwitchLayer
    test: Tokens
    losses: np.ndarray
    read_at: list[int]
    loads: np.ndarray
    routes: np.ndarray
    probabilities: Tensor
    route: Tensor
    entropy: float
    error: float
    agreement: float


def train_layer(
    seed: int,
    *,
    steps: int,
    experts: int = 8,
    balance: float = 0.0,
    shared_expert: bool = False,
    cosine: bool = False,
    warm_up: int = 0,
    shared: float = 2.0,
    offset: float = 3.0,
    tokens: tuple[Tokens, Tokens] | None = None,
    readings: int = 25,
    device: str = "auto",
) -> Routed:
    """Train a layer for the squared error, and read its routes on the way.

    Parameters
    ----------
    seed
        Of the tokens, the initialisation and the batches.
    steps, experts
        How many steps of Adam on batches of 128, and E.
    balance
        Weight of :func:`balance_loss`.
    shared_expert, cosine
        As in :class:`SwitchLayer`.
    warm_up
        For how many steps every token gets all experts.
    shared, offset
        As in :func:`draw_tokens`.
    tokens
        Other tokens to train on and to judge by, in place of those.
    readings
        How often the routes of the test tokens are kept.
    device
        Where to train, as in :func:`repcollapse.training.pick_device`.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    Examples
    --------
    >>> found = train_layer(0, steps=2, experts=4, readings=3)
    >>> found.loads.shape, found.read_at
    ((3, 4), [0, 1, 2])
    """
    experts = _checks.integer("experts", experts, at_least=2)
    balance = _checks.number("balance", balance, at_least=0)
    warm_up = _checks.integer("warm_up", warm_up, at_least=0)
    train, test = tokens or draw_tokens(seed, shared=shared, offset=offset)
    place = pick_device(device)
    x, y, seen = train.x.to(place), train.y.to(place), test.x.to(place)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = SwitchLayer(x.shape[1], experts, shared=shared_expert, cosine=cosine)
    layer.to(place)
    read_at = sorted({round(at) for at in np.linspace(0, steps, readings)})
    routes = []

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(x), (BATCH,), generator=generator).to(place)
        predicted, p, route = layer(x[rows], dense=step < warm_up)
        value = (predicted - y[rows]).square().mean()
        return value if balance == 0 else value + balance * balance_loss(p, route)

    def watch(step: int) -> None:
        routes.append(layer.probabilities(seen).argmax(dim=1).cpu().numpy())

    losses = fit(
        torch.optim.Adam(layer.parameters(), lr=LEARNING_RATE, fused=True),
        loss,
        steps=steps,
        watch=watch,
        at=read_at,
    )
    with torch.no_grad():
        predicted, p, route = (found.cpu() for found in layer(seen))
    loads = np.stack([np.bincount(each, minlength=experts) / len(each) for each in routes])
    entropy = torch.special.entr(torch.from_numpy(loads[-1])).sum() / math.log(experts)
    error = (predicted - test.y).double().square().mean() / one_map_error(train, test)
    agreement = normalized_mutual_info_score(test.kind.numpy(), routes[-1])
    return Routed(
        layer,
        test,
        losses,
        read_at,
        loads,
        np.stack(routes),
        p,
        route,
        float(entropy),
        float(error),
        float(agreement),
    )


def one_map_error(train: Tokens, test: Tokens) -> float:
    """Return the mean squared error on `test` of the one linear map that fits `train` best."""
    best = torch.linalg.lstsq(train.x.double(), train.y.double()).solution
    return float((test.x.double() @ best - test.y.double()).square().mean())
