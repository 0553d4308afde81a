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
from repcollapse.data import stratified_order


@dataclass(frozen=True, eq=False)
class Graph:
    r"""An undirected graph without weights or loops, and the nodes whose class may be learned from.

    Parameters
    ----------
    features : Tensor, shape (N, D)
        One row a node, floating; kept in float64.
    edges : Tensor, shape (2, E)
        int64, each pair once, the smaller node first.
    labels : Tensor, shape (N,)
        The class of each node.
    train, validation, test : Tensor
        int64 indices of nodes, no node twice. `validation` may be empty.

    Attributes
    ----------
    degrees : Tensor, shape (N,)
        :math:`\tilde d_i = 1 + d_i`, the number of neighbours, the node itself among them.
    adjacency : Tensor, shape (N, N)
        :math:`\hat A = \tilde D^{-1/2} (A + I) \tilde D^{-1/2}`, sparse float64. Symmetric, with
        eigenvalues in (-1, 1]; 1 belongs to :math:`\sqrt{\tilde d}` on each connected component.

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
        features = _checks.as_matrix("features", self.features).double()
        object.__setattr__(self, "features", features)
        labels = _checks.as_labels("labels", self.labels, len(features))
        object.__setattr__(self, "labels", labels)
        _indices("edges", self.edges, len(features))
        if self.edges.ndim != 2 or len(self.edges) != 2:
            raise ValueError(f"edges must have shape (2, E); got {tuple(self.edges.shape)}")
        if not bool((self.edges[0] < self.edges[1]).all()):
            raise ValueError("edges must name the smaller node first, and no node joined to itself")
        if self.edges.unique(dim=1).shape != self.edges.shape:
            raise ValueError("edges must name each pair once; at least one is there twice")
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, part in parts.items():
            _indices(name, part, len(features))
            if part.ndim != 1 or (len(part) == 0 and name != "validation"):
                raise ValueError(f"{name} must hold one node or more; got {tuple(part.shape)}")
        if len(together := torch.cat(list(parts.values()))) != len(together.unique()):
            raise ValueError("train, validation and test must have no node in common or twice")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def classes(self) -> int:
        """How many classes there are: one more than the largest label."""
        return int(self.labels.max()) + 1

    @property
    def homophily(self) -> float:
        """The share of edges that join two nodes of one class."""
        first, second = self.labels[self.edges]
        return float((first == second).double().mean())

    @cached_property
    def degrees(self) -> Tensor:
        """Each node's neighbours, itself among them."""
        return 1.0 + torch.bincount(self.edges.flatten(), minlength=len(self)).double()

    @cached_property
    def adjacency(self) -> Tensor:
        """The normalised adjacency, sparse."""
        return normalised(self.edges, self.degrees)

    @cached_property
    def components(self) -> Tensor:
        """The connected component of each node, counted from 0."""
        return components(self.edges, len(self))


def normalised(edges: Tensor, degrees: Tensor) -> Tensor:
    """Return the normalised adjacency of these edges, loops added, for degrees that count them."""
    nodes = torch.arange(len(degrees))
    rows = torch.cat([edges[0], edges[1], nodes])
    columns = torch.cat([edges[1], edges[0], nodes])
    weights = (degrees[rows] * degrees[columns]).rsqrt()
    shape = (len(degrees), len(degrees))
    pairs = torch.stack([rows, columns])
    return torch.sparse_coo_tensor(pairs, weights, shape, check_invariants=True).coalesce()


def components(edges: Tensor, nodes: int) -> Tensor:
    """Return the connected component of each of so many nodes, counted from 0."""
    matrix = coo_matrix((np.ones(edges.shape[1]), edges.numpy()), shape=(nodes, nodes))
    return torch.from_numpy(connected_components(matrix, directed=False)[1]).long()


def labelled_split(
    labels: Tensor, labelled: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw `labelled` nodes of every class for training, as many for validation, the rest to test.

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


def _indices(name: str, value: Any, nodes: int) -> None:
    if not isinstance(value, Tensor) or value.dtype != torch.int64:
        given = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} must be an int64 torch.Tensor; got {given}")
    if value.numel() and not 0 <= int(value.min()) <= int(value.max()) < nodes:
        raise ValueError(
            f"{name} must hold nodes from 0 to {nodes - 1}; "
            f"got {int(value.min())} to {int(value.max())}"
        )
