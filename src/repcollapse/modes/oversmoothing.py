"""Nodes that average over their neighbours until nothing tells them apart.

Two models. Simple graph convolution smooths the features first and trains one linear layer on what
is left, so that depth has nothing to do with training. A graph convolutional network has weights
and a rectifier between any two smoothings. Both know the same ways out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.graphs import Graph, normalised
from repcollapse.modes.runs import fit
from repcollapse.training import pick_device

PLAIN, PAIR_NORM, INITIAL_RESIDUAL = RULES = ("plain", "pair norm", "initial residual")
DEPTHS = (0, 1, 2, 4, 8, 16, 32)
ALPHA = 0.1  # how much of the input every layer brings back
THETA = 0.5  # GCNII: the weights of layer l count for log(THETA / l + 1), the identity for the rest


def pair_norm(h: Tensor) -> Tensor:
    r"""Return features centred over the nodes and brought to a mean squared norm of one.

    .. math::

        \tilde h_i = h_i - \bar h, \qquad
        h_i \to \tilde h_i \Big/ \sqrt{\tfrac1N \sum_j \lVert \tilde h_j \rVert^2}

    The sum of the squared distances of all pairs is then :math:`2 N^2`, whatever it was.

    Parameters
    ----------
    h
        Shape (N, D).

    Returns
    -------
    Tensor
        The same shape; zeros where all nodes are the same.

    References
    ----------
    Zhao & Akoglu 2020, with scale 1.

    Examples
    --------
    >>> pair_norm(torch.tensor([[0.0], [4.0]])).flatten().tolist()
    [-1.0, 1.0]
    """
    centred = h - h.mean(dim=0)
    scale = centred.square().sum(dim=1).mean().sqrt()
    return centred / torch.where(scale > 0, scale, 1.0)


def propagate(graph: Graph, rule: str = PLAIN, *, depths: Sequence[int] = DEPTHS) -> list[Tensor]:
    r"""Return the features after so many rounds of smoothing, in float64, without any weights.

    .. math::

        H_{l+1} = \hat A H_l, \qquad
        H_{l+1} = \operatorname{PairNorm}(\hat A H_l), \qquad
        H_{l+1} = (1 - \alpha) \hat A H_l + \alpha H_0

    Parameters
    ----------
    graph
        Whose features :math:`H_0` are.
    rule : {"plain", "pair norm", "initial residual"}
        Which of the three; :math:`\alpha = 0.1`.
    depths
        Which l to keep, each at least 0, rising.

    Raises
    ------
    ValueError
        For a rule or depths other than these.

    References
    ----------
    Wu et al. 2019; Zhao & Akoglu 2020; Gasteiger, Bojchevski & Günnemann 2019.

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> [tuple(h.shape) for h in propagate(karate_club(), depths=(0, 8))]
    [(34, 34), (34, 34)]
    """
    _checks.choice("rule", rule, RULES)
    if not depths or list(depths) != sorted(set(depths)) or min(depths) < 0:
        raise ValueError(f"depths must rise from 0 or more; got {list(depths)}")
    h = pair_norm(graph.features) if rule == PAIR_NORM else graph.features
    kept = []
    for depth in range(max(depths) + 1):
        if depth in depths:
            kept.append(h)
        h = graph.adjacency @ h
        if rule == PAIR_NORM:
            h = pair_norm(h)
        elif rule == INITIAL_RESIDUAL:
            h = (1 - ALPHA) * h + ALPHA * graph.features
    return kept


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A graph smoothed by one rule, and what a linear layer reads of its classes at each depth.

    Attributes
    ----------
    graph, rule
        What was smoothed, and how.
    depths, hidden, accuracy
        After how many rounds, the features, and the accuracy on the test nodes.
    """

    graph: Graph
    rule: str
    depths: tuple[int, ...]
    hidden: tuple[Tensor, ...]
    accuracy: np.ndarray

    @property
    def deepest(self) -> float:
        """The accuracy at the largest depth."""
        return float(self.accuracy[-1])

    def at(self, depth: int) -> float:
        """Return the accuracy after so many rounds, which must be one of the depths."""
        return float(self.accuracy[self.depths.index(depth)])


def smooth(
    graph: Graph, rule: str = PLAIN, *, depths: Sequence[int] = DEPTHS, steps: int = 100
) -> Smoothed:
    """Smooth, and train a linear layer at every depth on the labelled nodes.

    Parameters
    ----------
    graph, rule, depths
        As in :func:`propagate`.
    steps
        Of training, each on all labelled nodes. The setting is that of Wu et al. 2019: float32,
        Adam with a learning rate of 0.2 and weight decay.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these.

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> smooth(karate_club(), depths=(0, 2), steps=20).at(2) > 0.8
    True
    """
    hidden = propagate(graph, rule, depths=depths)
    accuracy = np.array([_read_out(graph, h.float(), steps) for h in hidden])
    return Smoothed(graph, rule, tuple(depths), tuple(hidden), accuracy)


def _read_out(graph: Graph, h: Tensor, steps: int) -> float:
    linear = nn.Linear(h.shape[1], graph.classes)
    known, classes = h[graph.train], graph.labels[graph.train]
    fit(
        torch.optim.Adam(linear.parameters(), lr=0.2, weight_decay=5e-6),
        lambda step: F.cross_entropy(linear(known), classes),
        steps=steps,
    )
    return _accuracy(linear(h), graph)


def _accuracy(scores: Tensor, graph: Graph) -> float:
    right = scores.detach().cpu().argmax(dim=1)[graph.test] == graph.labels[graph.test]
    return float(right.double().mean())


class GCN(nn.Module):
    r"""A graph convolutional network of equal layers between two linear ones.

    .. math::

        H_{l+1} = \sigma(\hat A H_l W_l), \qquad
        H_{l+1} = \sigma(\operatorname{PairNorm}(\hat A H_l W_l)), \qquad
        H_{l+1} = \sigma\left(((1 - \alpha) \hat A H_l + \alpha H_0)
        ((1 - \beta_l) I + \beta_l W_l)\right)

    with :math:`\sigma` the rectifier and :math:`\beta_l = \log(\theta / l + 1)`: plain, with
    PairNorm, and GCNII, whose initial residual goes with an identity mapping. Weights begin as He
    et al. 2015 have it, so that a rectified layer keeps the size of what enters it.

    Parameters
    ----------
    inputs, classes
        The dimension of the features, and how many classes there are.
    depth, width
        How many such layers, and how wide they are.
    rule : {"plain", "pair norm", "initial residual"}
        Which of the three.
    bias
        Add a bias to every such layer. What smoothing leaves alone is then no longer one direction.

    Attributes
    ----------
    hidden : list of Tensor
        Of the last call: what entered the first layer, and what left each.

    References
    ----------
    Kipf & Welling 2017; Zhao & Akoglu 2020; Chen et al. 2020 (GCNII).
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        depth: int,
        rule: str = PLAIN,
        width: int = 16,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.rule = _checks.choice("rule", rule, RULES)
        self.into = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=bias) for _ in range(depth))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.get_parameter("weight"))
        self.out = nn.Linear(width, classes)
        self.hidden: list[Tensor] = []

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Return the scores of all nodes, shape (N, classes)."""
        first = h = F.relu(self.into(x))
        self.hidden = [h]
        for number, layer in enumerate(self.layers, start=1):
            h = adjacency @ h
            if self.rule == INITIAL_RESIDUAL:
                h = (1 - ALPHA) * h + ALPHA * first
                beta = math.log(THETA / number + 1)
                h = (1 - beta) * h + beta * layer(h)
            elif self.rule == PAIR_NORM:
                h = pair_norm(layer(h))
            else:
                h = layer(h)
            h = F.relu(h)
            self.hidden.append(h)
        return self.out(h)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Attributes
    ----------
    accuracy, fitted
        On the test nodes; and the loss on the labelled ones after the last step.
    hidden
        What entered its first layer and what left each, without gradients.
    """

    accuracy: float
    fitted: float
    hidden: tuple[Tensor, ...]


def train(
    graph: Graph,
    rule: str = PLAIN,
    *,
    depth: int = 32,
    keep: float = 1.0,
    bias: bool = False,
    steps: int = 100,
    device: str = "auto",
) -> Trained:
    """Train a :class:`GCN` on the labelled nodes.

    Parameters
    ----------
    graph, rule, depth
        What it learns, by which rule, and how deep it is.
    keep
        DropEdge: the share of edges, in (0, 1], that a training step sees, drawn and normalised
        anew each time. The finished network sees all.
    bias
        As in :class:`GCN`.
    steps
        Of training, each on all labelled nodes.
    device
        "auto" or a torch device.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these.
    """
    keep = _checks.number("keep", keep, above=0, at_most=1)
    place = pick_device(device)
    x, labels = graph.features.float().to(place), graph.labels.to(place)
    whole = graph.adjacency.to_dense().float().to(place)  # of 200 nodes, faster than sparse
    model = GCN(x.shape[1], graph.classes, depth=depth, rule=rule, bias=bias).to(place)

    def loss(step: int) -> Tensor:
        adjacency = whole if keep == 1 else _thinned(graph, keep).float().to(place)
        return F.cross_entropy(model(x, adjacency)[graph.train], labels[graph.train])

    # No weight decay: where nothing is learned, it would shrink the network to nothing.
    fit(torch.optim.Adam(model.parameters(), lr=0.02), loss, steps=steps)
    with torch.no_grad():
        scores = model(x, whole)
        fitted = F.cross_entropy(scores[graph.train], labels[graph.train])
    hidden = tuple(h.cpu() for h in model.hidden)
    return Trained(_accuracy(scores, graph), float(fitted), hidden)


def _thinned(graph: Graph, keep: float) -> Tensor:
    edges = graph.edges[:, torch.rand(graph.edges.shape[1]) < keep]
    return normalised(edges, len(graph)).to_dense()
