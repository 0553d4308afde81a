"""Graphs that need no download: drawn from blocks, a karate club, and the neighbours of images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import load, stratified_order, stream
from repcollapse.graphs.graph import Graph, components

# A node with ten neighbours on average is without any in one case of twenty thousand: where a
# hundred graphs in a row fall apart, the probabilities are to blame.
DRAWS = 100


def block_model(
    seed: int,
    *,
    blocks: int = 4,
    size: int = 50,
    within: float = 0.12,
    between: float = 0.02,
    dimension: int = 16,
    signal: float = 1.5,
    labelled: int = 5,
) -> Graph:
    r"""Return a stochastic block model: nodes of a block are joined more often than others.

    Nodes i and j are joined with probability `within` if they are of one block and `between` if
    not; a graph that is not connected is drawn anew. The features of a node of block b are
    :math:`s\, m_b + \epsilon`, with :math:`m_b` a random unit vector of the block, `signal` s, and
    standard normal noise :math:`\epsilon`.

    Parameters
    ----------
    seed
        Draws the edges, the features and which nodes are labelled.
    blocks, size
        How many blocks, which are the classes, and how many nodes each has.
    within, between
        The probabilities, in [0, 1].
    dimension, signal
        D of the features, and how far from the origin the block means lie; noise has norm
        :math:`\sqrt D` on average.
    labelled
        Nodes of each class to train on; as many again are for validation.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these.

    References
    ----------
    Holland, Laskey & Leinhardt 1983.

    Examples
    --------
    >>> graph = block_model(0)
    >>> len(graph), graph.classes, len(graph.train), len(graph.test)
    (200, 4, 20, 160)
    >>> graph.homophily > 0.5
    True
    """
    blocks = _checks.integer("blocks", blocks, at_least=2)
    size = _checks.integer("size", size, at_least=3)
    within = _checks.number("within", within, at_least=0, at_most=1)
    between = _checks.number("between", between, at_least=0, at_most=1)
    dimension = _checks.integer("dimension", dimension, at_least=1)
    signal = _checks.number("signal", signal, at_least=0)
    labelled = _checks.integer("labelled", labelled, at_least=1)
    generator = stream(seed, "block model")
    labels = torch.arange(blocks).repeat_interleave(size)
    edges = _connected_edges(labels, within, between, generator)
    means = torch.randn(blocks, dimension, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), dimension, generator=generator, dtype=torch.float64)
    return Graph(
        signal * F.normalize(means, dim=1)[labels] + noise,
        edges,
        labels,
        *labelled_split(labels, labelled, generator),
    )


def _connected_edges(
    labels: Tensor, within: float, between: float, generator: torch.Generator
) -> Tensor:
    pairs = torch.triu_indices(len(labels), len(labels), offset=1)
    odds = torch.where(labels[pairs[0]] == labels[pairs[1]], within, between)
    for _ in range(DRAWS):
        edges = pairs[:, torch.rand(len(odds), generator=generator) < odds]
        if int(components(edges, len(labels)).max()) == 0:
            return edges
    raise ValueError(
        f"within and between must be large enough for a connected graph; got {within:g} and "
        f"{between:g}, and none in {DRAWS} draws"
    )


def karate_club() -> Graph:
    """Return Zachary's karate club: 34 members, 78 friendships, and the two clubs it broke into.

    Features are one-hot, each member's own. The instructor and the president are labelled, each the
    centre of a club; everybody else is for the test.

    References
    ----------
    Zachary 1977; the copy is that of networkx, without its weights.

    Examples
    --------
    >>> club = karate_club()
    >>> len(club), club.edges.shape[1], club.labels.bincount().tolist()
    (34, 78, [17, 17])
    """
    import networkx  # torch brings it; slow to import

    club = networkx.karate_club_graph()
    members = torch.arange(len(club))
    labels = torch.tensor([int(club.nodes[i]["club"] != "Mr. Hi") for i in range(len(club))])
    leaders = torch.tensor([0, len(club) - 1])
    return Graph(
        torch.eye(len(club), dtype=torch.float64),
        torch.tensor(sorted(tuple(sorted(edge)) for edge in club.edges())).T,
        labels,
        leaders,
        members[:0],
        members[1:-1],
    )


def neighbours(
    dataset: str, *, seed: int = 0, nodes: int = 600, k: int = 10, labelled: int = 5
) -> Graph:
    """Return the graph of the nearest neighbours among training images of a data set.

    Nodes are images, and their pixels are the features. Two are joined if either is among the `k`
    nearest of the other, by Euclidean distance; classes are not looked at.

    Parameters
    ----------
    dataset
        One of `repcollapse.data.NAMES`.
    seed
        Draws which images, as `repcollapse.data.load` does, and which are labelled.
    nodes, k
        How many images, and of how many neighbours each is sure.
    labelled
        Images of each class to train on; as many again are for validation.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these; else as `repcollapse.data.load`.

    Examples
    --------
    >>> graph = neighbours("digits", nodes=200)
    >>> len(graph), graph.features.shape[1], int(graph.degrees.min()) > 10
    (200, 64, True)
    """
    nodes = _checks.integer("nodes", nodes, at_least=3)
    k = _checks.integer("k", k, at_least=1, at_most=nodes - 1)
    labelled = _checks.integer("labelled", labelled, at_least=1)
    images = load(dataset, seed=seed, n_train=nodes).train
    pixels = images.images.flatten(1).double()
    distance = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
    nearest = distance.topk(k, largest=False).indices
    pairs = torch.stack([torch.arange(nodes).repeat_interleave(k), nearest.flatten()])
    edges = pairs.sort(dim=0).values.unique(dim=1)
    split = labelled_split(images.labels, labelled, stream(seed, "neighbours"))
    return Graph(pixels, edges, images.labels, *split)


def labelled_split(
    labels: Tensor, labelled: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw nodes of every class for training, as many for validation, and leave the rest to test.

    Parameters
    ----------
    labels
        The class of each node, shape (N,), int64.
    labelled
        How many of each class to train on.
    generator
        What draws them.

    Returns
    -------
    tuple of Tensor
        The nodes for training, for validation and for the test, each int64 and rising.

    Raises
    ------
    ValueError
        For a class with too few nodes to leave one for the test.
    """
    order = stratified_order(labels, generator)
    parts: tuple[list[Tensor], ...] = ([], [], [])
    for label in labels.unique():
        members = order[labels[order] == label]
        if len(members) <= 2 * labelled:
            raise ValueError(
                f"labelled must be below half of every class; got {labelled}, "
                f"and {len(members)} nodes of class {int(label)}"
            )
        chosen = members.split([labelled, labelled, len(members) - 2 * labelled])
        for part, some in zip(parts, chosen, strict=True):
            part.append(some)
    train, validation, test = (torch.cat(part).sort().values for part in parts)
    return train, validation, test
