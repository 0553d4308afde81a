"""What every graph is: nodes with features and classes, joined by edges, some of them labelled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""The eigendecomposition of a normalised adjacency, :math:`\hat A = U \Lambda U^\top`.

    Attributes
    ----------
    values
        The eigenvalues, rising, in (-1, 1]; shape (N,).
    vectors
        The eigenvectors, one a column, each of length one; shape (N, N).
    """

    values: Tensor
    vectors: Tensor

    @property
    def second(self) -> float:
        """The second largest modulus of an eigenvalue, 1 where the graph is in several pieces.

        On one piece, what smoothing does not leave alone shrinks by this factor a round in the end.
        """
        return float(self.values[:-1].abs().max())


@dataclass(frozen=True, eq=False)
class Graph:
    r"""An undirected graph without weights or loops, and the nodes whose class may be learned from.

    Parameters
    ----------
    features
        One row a node, shape (N, D), floating; kept in float64. All that a graph holds is on the
        CPU.
    edges
        Shape (2, E), int64, each pair once, the smaller node first.
    labels
        The class of each node, shape (N,), counted from 0.
    train, validation, test
        Nodes, int64, none of them twice. `validation` may be empty.

    Attributes
    ----------
    degrees
        :math:`\tilde d_i = 1 + d_i`, the number of neighbours, the node itself among them; shape
        (N,).
    adjacency
        :math:`\hat A = \tilde D^{-1/2} (A + I) \tilde D^{-1/2}`, shape (N, N), sparse float64.
        Symmetric, with eigenvalues in (-1, 1]; 1 belongs to :math:`\sqrt{\tilde d}` on each
        connected component.

    Raises
    ------
    TypeError, ValueError
        Where a shape, dtype or index is another; the message names the field.

    References
    ----------
    Kipf & Welling 2017, for the normalised adjacency.

    Examples
    --------
    >>> path = Graph(torch.eye(3), torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 0, 1]),
    ...              torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))
    >>> path.degrees.tolist(), path.homophily
    ([2.0, 3.0, 2.0], 0.5)
    """

    features: Tensor
    edges: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor

    def __post_init__(self) -> None:
        features = _checks.as_matrix("features", self.features).detach().cpu().double()
        nodes = len(features)
        labels = _checks.as_labels("labels", self.labels, nodes).cpu()
        if int(labels.min()) < 0:
            raise ValueError(f"labels must be at least 0; got {int(labels.min())}")
        edges = _edges("edges", self.edges, nodes)
        parts = {
            "train": _part("train", self.train, nodes),
            "validation": _part("validation", self.validation, nodes, at_least=0),
            "test": _part("test", self.test, nodes),
        }
        if len(together := torch.cat(list(parts.values()))) != len(together.unique()):
            raise ValueError("train, validation and test must have no node in common or twice")
        checked = {"features": features, "labels": labels, "edges": edges, **parts}
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def classes(self) -> int:
        """The number of classes, one more than the largest label."""
        return int(self.labels.max()) + 1

    @property
    def homophily(self) -> float:
        """The share of edges that join two nodes of one class; a ValueError without an edge."""
        if not self.edges.shape[1]:
            raise ValueError("homophily needs at least one edge; the graph has none")
        first, second = self.labels[self.edges]
        return float((first == second).double().mean())

    @cached_property
    def degrees(self) -> Tensor:
        """Each node's neighbours, itself among them."""
        return _degrees(self.edges, len(self))

    @cached_property
    def adjacency(self) -> Tensor:
        """The normalised adjacency, sparse."""
        return normalised(self.edges, len(self))

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigenvalues and eigenvectors of the normalised adjacency.

        They take N x N numbers, and time that grows as the cube of N.
        """
        return Spectrum(*torch.linalg.eigh(self.adjacency.to_dense()))

    @cached_property
    def components(self) -> Tensor:
        """The connected component of each node, counted from 0."""
        return components(self.edges, len(self))

    def parts(self, h: ArrayLike) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return rows and labels of the labelled nodes, then of the test, as probes take them.

        Parameters
        ----------
        h
            What is read of the nodes, shape (N, D), floating.

        Returns
        -------
        tuple of Tensor
            (`h[train]`, `labels[train]`, `h[test]`, `labels[test]`), `h` in its own dtype.

        Raises
        ------
        TypeError, ValueError
            Where `h` is no matrix of finite numbers with one row a node.

        Examples
        --------
        >>> from repcollapse.graphs import karate_club
        >>> club = karate_club()
        >>> [tuple(part.shape) for part in club.parts(club.features)]
        [(2, 34), (2,), (32, 34), (32,)]
        """
        h = rows_of("h", h, len(self))
        return h[self.train], self.labels[self.train], h[self.test], self.labels[self.test]


def normalised(edges: Tensor, nodes: int) -> Tensor:
    r"""Return the normalised adjacency of so many nodes, joined by these edges and to themselves.

    .. math::

        \hat A = \tilde D^{-1/2} (A + I) \tilde D^{-1/2}, \qquad
        \tilde d_i = 1 + \textstyle\sum_j A_{ij}

    Parameters
    ----------
    edges
        As in :class:`Graph`, shape (2, E); E may be 0.
    nodes
        N.

    Returns
    -------
    Tensor
        Shape (N, N), sparse float64, symmetric.

    References
    ----------
    Kipf & Welling 2017.

    Examples
    --------
    >>> normalised(torch.tensor([[0], [1]]), 3).to_dense().tolist()
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    degrees = _degrees(edges, nodes)
    loops = torch.arange(nodes)
    rows = torch.cat([edges[0], edges[1], loops])
    columns = torch.cat([edges[1], edges[0], loops])
    weights = (degrees[rows] * degrees[columns]).rsqrt()
    pairs = torch.stack([rows, columns])
    return torch.sparse_coo_tensor(pairs, weights, (nodes, nodes), check_invariants=True).coalesce()


def components(edges: Tensor, nodes: int) -> Tensor:
    """Return the connected component of each node.

    Parameters
    ----------
    edges, nodes
        As in :func:`normalised`.

    Returns
    -------
    Tensor
        Shape (N,), int64, counted from 0 in the order of each component's first node.

    Examples
    --------
    >>> components(torch.tensor([[0], [2]]), 3).tolist()
    [0, 1, 0]
    """
    matrix = coo_matrix((np.ones(edges.shape[1]), edges.numpy()), shape=(nodes, nodes))
    return torch.from_numpy(connected_components(matrix, directed=False)[1]).long()


def rows_of(name: str, value: Any, nodes: int) -> Tensor:
    """Return `value` as a finite floating matrix of one row a node, or raise by `name`."""
    rows = _checks.as_matrix(name, value)
    if len(rows) != nodes:
        raise ValueError(f"{name} must have one row a node, {nodes}; got {len(rows)}")
    return rows


def _degrees(edges: Tensor, nodes: int) -> Tensor:
    return 1.0 + torch.bincount(edges.flatten(), minlength=nodes).double()


def _edges(name: str, value: Any, nodes: int) -> Tensor:
    edges = _indices(name, value, nodes)
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"{name} must have shape (2, E); got {tuple(edges.shape)}")
    if not bool((edges[0] < edges[1]).all()):
        raise ValueError(f"{name} must name the smaller node first, and no node joined to itself")
    if edges.unique(dim=1).shape != edges.shape:
        raise ValueError(f"{name} must name each pair once; at least one is there twice")
    return edges


def _part(name: str, value: Any, nodes: int, *, at_least: int = 1) -> Tensor:
    part = _indices(name, value, nodes)
    if part.ndim != 1 or len(part) < at_least:
        raise ValueError(f"{name} must hold one node or more; got {tuple(part.shape)}")
    return part


def _indices(name: str, value: Any, nodes: int) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype != torch.int64:
        given = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} must be an int64 torch.Tensor; got {given}")
    if value.numel() and not 0 <= int(value.min()) <= int(value.max()) < nodes:
        raise ValueError(
            f"{name} must hold nodes from 0 to {nodes - 1}; "
            f"got {int(value.min())} to {int(value.max())}"
        )
    return value.cpu()
