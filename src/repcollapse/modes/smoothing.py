"""Nodes that average over their neighbours until nothing tells them apart, without any weights.

Simple graph convolution smooths the features first and trains one linear layer on what is left, so
that depth has nothing to do with training. Two changes of one line keep the nodes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.graphs import Graph
from repcollapse.modes.fitting import fit

PLAIN, PAIR_NORM, INITIAL_RESIDUAL = RULES = ("plain", "PairNorm", "initial residual")
DEPTHS = (0, 1, 2, 4, 8, 16, 32)
ALPHA = 0.1  # how much of the input every layer brings back


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
        The same shape; zeros where all nodes are the same, and its gradient is finite there.

    References
    ----------
    Zhao & Akoglu 2020, with scale 1.

    Examples
    --------
    >>> pair_norm(torch.tensor([[0.0], [4.0]])).flatten().tolist()
    [-1.0, 1.0]
    """
    centred = h - h.mean(dim=0)
    squared = centred.square().sum(dim=1).mean()
    return centred / torch.where(squared > 0, squared, 1.0).sqrt()


def propagate(
    graph: Graph, rule: str = PLAIN, *, depths: Sequence[int] = DEPTHS, alpha: float = ALPHA
) -> list[Tensor]:
    r"""Return the features after so many rounds of smoothing, in float64, without any weights.

    .. math::

        H_{l+1} = \hat A H_l, \qquad
        H_{l+1} = \operatorname{PairNorm}(\hat A H_l), \qquad
        H_{l+1} = (1 - \alpha) \hat A H_l + \alpha H_0

    Parameters
    ----------
    graph
        Whose features are :math:`H_0`; for PairNorm, once normalised.
    rule : {"plain", "PairNorm", "initial residual"}
        Which of the three.
    depths
        Which l to keep, each at least 0, rising.
    alpha
        :math:`\alpha` in [0, 1], of the initial residual; the other rules have none.

    Returns
    -------
    list of Tensor
        One a depth, each of shape (N, D).

    Raises
    ------
    TypeError, ValueError
        For a rule, depths or an alpha other than these.

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
    alpha = _checks.number("alpha", alpha, at_least=0, at_most=1)
    wanted = [_checks.integer("depths", depth, at_least=0) for depth in depths]
    if not wanted or wanted != sorted(set(wanted)):
        raise ValueError(f"depths must rise from 0 or more; got {list(depths)}")
    h = pair_norm(graph.features) if rule == PAIR_NORM else graph.features
    brought_back = alpha * graph.features
    kept = []
    for depth in range(wanted[-1] + 1):
        if depth in wanted:
            kept.append(h)
        if depth == wanted[-1]:
            break
        h = graph.adjacency @ h
        if rule == PAIR_NORM:
            h = pair_norm(h)
        elif rule == INITIAL_RESIDUAL:
            h.mul_(1 - alpha).add_(brought_back)  # in place: on a large graph, half the time
    return kept


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A graph smoothed by one rule, and what a linear layer reads of its classes at each depth.

    Attributes
    ----------
    graph, rule
        What was smoothed, and how.
    hidden
        The features by depth, each of shape (N, D), float64.
    accuracy
        Of the linear layer on the test nodes, by depth.
    """

    graph: Graph
    rule: str
    hidden: dict[int, Tensor]
    accuracy: dict[int, float]

    @property
    def deepest(self) -> float:
        """The accuracy at the largest depth."""
        return self.accuracy[max(self.accuracy)]


def smooth(
    graph: Graph, rule: str = PLAIN, *, depths: Sequence[int] = DEPTHS, steps: int = 100
) -> Smoothed:
    """Smooth, and train a linear layer at every depth on the labelled nodes.

    Its weights come from torch's global generator, which :func:`repcollapse.modes.runs.repeat` and
    :func:`repcollapse.modes.runs.once` seed.

    Parameters
    ----------
    graph, rule, depths
        As in :func:`propagate`.
    steps
        Of training, each on all labelled nodes. The setting is that of Wu et al. 2019: float32,
        Adam with a learning rate of 0.2 and weight decay.

    Returns
    -------
    Smoothed
        What the rule made of the features, and an accuracy in [0, 1], at every depth.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these.

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> smooth(karate_club(), depths=(0, 2), steps=20).accuracy[2] > 0.8
    True
    """
    hidden = dict(zip(depths, propagate(graph, rule, depths=depths), strict=True))
    read = {depth: read_out(graph, h, steps=steps) for depth, h in hidden.items()}
    return Smoothed(graph=graph, rule=rule, hidden=hidden, accuracy=read)


def read_out(graph: Graph, h: Tensor, *, steps: int = 100) -> float:
    """Train a linear layer on the labelled nodes, and return its accuracy on the test nodes.

    Parameters
    ----------
    graph
        Which nodes are labelled, which tested, and their classes.
    h
        Features of its nodes, shape (N, D).
    steps
        As in :func:`smooth`, whose setting this is; the weights come from the same generator.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> club = karate_club()
    >>> read_out(club, F.one_hot(club.labels), steps=20)
    1.0
    """
    rows = h.float()
    linear = nn.Linear(rows.shape[1], graph.classes)
    known, classes = rows[graph.train], graph.labels[graph.train]
    fit(
        torch.optim.Adam(linear.parameters(), lr=0.2, weight_decay=5e-6),
        lambda step: F.cross_entropy(linear(known), classes),
        steps=steps,
    )
    return accuracy(graph, linear(rows))


def accuracy(graph: Graph, scores: Tensor) -> float:
    """Return the share of the test nodes whose class has the largest score.

    Parameters
    ----------
    graph
        The graph, of N nodes.
    scores
        Shape (N, classes).

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> club = karate_club()
    >>> accuracy(club, F.one_hot(club.labels))
    1.0
    """
    right = scores.detach().cpu().argmax(dim=1)[graph.test] == graph.labels[graph.test]
    return float(right.double().mean())
