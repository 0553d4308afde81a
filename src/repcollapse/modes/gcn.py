"""Graph convolutional networks: smoothing with weights and a rectifier between any two rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.residuals import layer_residuals
from repcollapse.graphs import Graph, block_model, normalised
from repcollapse.modes.fitting import fit
from repcollapse.modes.smoothing import (
    ALPHA,
    INITIAL_RESIDUAL,
    PAIR_NORM,
    PLAIN,
    RULES,
    accuracy,
    pair_norm,
)
from repcollapse.training import pick_device

THETA = 0.5  # GCNII: the weights of layer l count for log(THETA / l + 1), the identity for the rest


@dataclass(frozen=True)
class Network:
    """What tells one network of this page from another.

    Parameters
    ----------
    depth
        How many layers, at least 0.
    rule : {"plain", "PairNorm", "initial residual"}
        What a layer does, see :class:`GCN`.
    keep
        DropEdge: the share of edges, in (0, 1], that a training step sees, drawn and normalised
        anew each time. The finished network sees all.
    bias
        Add a bias to every layer. What smoothing leaves alone is then no longer one direction.
    alpha
        In [0, 1], what the initial residual brings back of the input; the other rules have none.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these.
    """

    depth: int = 32
    rule: str = PLAIN
    keep: float = 1.0
    bias: bool = False
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        _checks.integer("depth", self.depth, at_least=0)
        _checks.choice("rule", self.rule, RULES)
        _checks.number("keep", self.keep, above=0, at_most=1)
        _checks.number("alpha", self.alpha, at_least=0, at_most=1)


class GCN(nn.Module):
    r"""A graph convolutional network of equal layers between two linear ones.

    .. math::

        H_{l+1} = \sigma(\hat A H_l W_l), \qquad
        H_{l+1} = \sigma(\operatorname{PairNorm}(\hat A H_l W_l)), \qquad
        H_{l+1} = \sigma\left(((1 - \alpha) \hat A H_l + \alpha H_0)
        ((1 - \beta_l) I + \beta_l W_l)\right)

    with :math:`\sigma` the rectifier and :math:`\beta_l = \log(\theta / l + 1)`: plain, with
    PairNorm, and GCNII, whose initial residual goes with an identity mapping; :math:`\theta = 1/2`.
    Weights begin as He et al. 2015 have it, so that a rectified layer keeps the size of what enters
    it.

    Parameters
    ----------
    inputs, classes
        The dimension of the features, and how many classes there are, each at least 1.
    network
        How deep it is, and by which rule.
    width
        Of every layer, at least 1.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these.

    References
    ----------
    Kipf & Welling 2017; Zhao & Akoglu 2020; Chen et al. 2020 (GCNII).

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> club = karate_club()
    >>> model = GCN(34, 2, Network(depth=3))
    >>> states = model.hidden(club.features.float(), club.adjacency.float())
    >>> [tuple(h.shape) for h in states]
    [(34, 16), (34, 16), (34, 16), (34, 16)]
    """

    def __init__(self, inputs: int, classes: int, network: Network, *, width: int = 16) -> None:
        super().__init__()
        inputs = _checks.integer("inputs", inputs, at_least=1)
        classes = _checks.integer("classes", classes, at_least=1)
        width = _checks.integer("width", width, at_least=1)
        self.network = network
        self.into = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(
            nn.Linear(width, width, bias=network.bias) for _ in range(network.depth)
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.get_parameter("weight"))
        self.out = nn.Linear(width, classes)

    def hidden(self, x: Tensor, adjacency: Tensor) -> list[Tensor]:
        """Return what enters the first layer and what leaves each, all of shape (N, width).

        Parameters
        ----------
        x
            The features, shape (N, inputs).
        adjacency
            The normalised adjacency, shape (N, N), dense or sparse.
        """
        states = [F.relu(self.into(x))]
        for number, layer in enumerate(self.layers, start=1):
            h = adjacency @ states[-1]
            if self.network.rule == INITIAL_RESIDUAL:
                h = (1 - self.network.alpha) * h + self.network.alpha * states[0]
                beta = math.log(THETA / number + 1)
                h = (1 - beta) * h + beta * layer(h)
            elif self.network.rule == PAIR_NORM:
                h = pair_norm(layer(h))
            else:
                h = layer(h)
            states.append(F.relu(h))
        return states

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Return the scores of all nodes, shape (N, classes); arguments as for :meth:`hidden`."""
        return self.out(self.hidden(x, adjacency)[-1])


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, read on the graph that it was trained on.

    Attributes
    ----------
    graph
        That graph.
    accuracy, fitted
        On the test nodes; and the loss on the labelled ones after the last step.
    hidden
        What entered its first layer and what left each, L + 1 of shape (N, width), on the CPU.
    """

    graph: Graph
    accuracy: float
    fitted: float
    hidden: list[Tensor]

    @property
    def residuals(self) -> np.ndarray:
        """By layer, the share outside the roots of the degrees; shape (L + 1,)."""
        return layer_residuals(self.hidden, along=self.graph.degrees.sqrt())

    @property
    def residual(self) -> float:
        """That share in the last layer, which is 0 where smoothing has left nothing else."""
        return float(self.residuals[-1])


def train(
    network: Network,
    seed: int,
    *,
    steps: int,
    graph: Callable[[int], Graph] = block_model,
    device: str = "auto",
) -> Trained:
    """Train a :class:`GCN` on the labelled nodes of a graph.

    Weights and dropped edges come from torch's global generators, which
    :func:`repcollapse.modes.runs.repeat` and :func:`repcollapse.modes.runs.once` seed.

    Parameters
    ----------
    network
        Its depth, its rule, and whether edges are dropped.
    seed
        Draws the graph.
    steps
        Of training, each on all labelled nodes; 0 for the network as it begins.
    graph
        A function of the seed that draws what is to be learned.
    device
        "auto" or a torch device.

    Returns
    -------
    Trained
        What it reads and what its layers hold, on the CPU.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these.

    Examples
    --------
    >>> trained = train(Network(depth=2), 0, steps=0)
    >>> len(trained.hidden), tuple(trained.hidden[0].shape)
    (3, (200, 16))
    """
    place = pick_device(device)
    drawn = graph(seed)
    x, labels = drawn.features.float().to(place), drawn.labels.to(place)
    whole = drawn.adjacency.to_dense().float().to(place)  # of 200 nodes, faster than sparse
    model = GCN(x.shape[1], drawn.classes, network).to(place)

    def loss(step: int) -> Tensor:
        adjacency = whole if network.keep == 1 else _thinned(drawn, network.keep).to(place)
        return F.cross_entropy(model(x, adjacency)[drawn.train], labels[drawn.train])

    # No weight decay: where nothing is learned, it would shrink the network to nothing.
    fit(torch.optim.Adam(model.parameters(), lr=0.02), loss, steps=steps)
    with torch.no_grad():
        hidden = model.hidden(x, whole)
        scores = model.out(hidden[-1])
        fitted = F.cross_entropy(scores[drawn.train], labels[drawn.train])
    return Trained(
        graph=drawn,
        accuracy=accuracy(drawn, scores),
        fitted=float(fitted),
        hidden=[h.cpu() for h in hidden],
    )


def _thinned(graph: Graph, keep: float) -> Tensor:
    """Return the normalised adjacency of a random share of the edges, dense, float32."""
    edges = graph.edges[:, torch.rand(graph.edges.shape[1]) < keep]
    return normalised(edges, len(graph)).to_dense().float()
