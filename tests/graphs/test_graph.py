"""What a graph is, what is refused as one, and what is read off it."""

from __future__ import annotations

import math

import pytest
import torch
from six_nodes import EDGES, small

from repcollapse.graphs import normalised


def test_the_adjacency_is_that_of_loops():
    graph = small()
    a = torch.eye(6, dtype=torch.float64)
    for i, j in EDGES.T.tolist():
        a[i, j] = a[j, i] = 1
    expected = torch.zeros_like(a)
    for i in range(6):
        for j in range(6):
            expected[i, j] = a[i, j] / math.sqrt(a[i].sum() * a[j].sum())
    torch.testing.assert_close(graph.adjacency.to_dense(), expected)
    assert graph.degrees.tolist() == [2, 4, 2, 3, 2, 1]
    assert graph.components.tolist() == [0, 0, 0, 0, 0, 1]
    assert graph.homophily == 0.5


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": torch.ones(6)}, ValueError, "features"),
        ({"features": torch.full((6, 2), math.nan)}, ValueError, "features must be finite"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, "labels"),
        ({"labels": torch.tensor([0, 1, -1, 0, 1, 0])}, ValueError, "labels must be at least 0"),
        ({"edges": EDGES.float()}, TypeError, "edges must be an int64"),
        ({"edges": EDGES[0]}, ValueError, r"edges must have shape \(2, E\)"),
        ({"edges": EDGES.flip(0)}, ValueError, "edges must name the smaller node first"),
        ({"edges": torch.tensor([[2], [2]])}, ValueError, "no node joined to itself"),
        ({"edges": torch.tensor([[0, 0], [1, 1]])}, ValueError, "edges must name each pair once"),
        ({"edges": torch.tensor([[0], [6]])}, ValueError, "edges must hold nodes from 0 to 5"),
        ({"train": torch.tensor([0, 0])}, ValueError, "no node in common or twice"),
        ({"test": torch.tensor([0])}, ValueError, "no node in common or twice"),
        ({"test": torch.tensor([], dtype=torch.int64)}, ValueError, "test must hold one node"),
        ({"train": [0]}, TypeError, "train must be an int64 torch.Tensor; got list"),
        ({"train": torch.tensor([-1])}, ValueError, "train must hold nodes"),
    ],
)
def test_what_is_no_graph_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        small(**changes)


def test_the_adjacency_of_loops_alone_is_the_identity():
    none = torch.zeros(2, 0, dtype=torch.int64)
    assert torch.equal(normalised(none, 3).to_dense(), torch.eye(3, dtype=torch.float64))
    graph = small(edges=none)
    assert torch.equal(graph.adjacency.to_dense(), torch.eye(6, dtype=torch.float64))
    assert graph.components.tolist() == list(range(6))
    with pytest.raises(ValueError, match="homophily needs at least one edge; the graph has none"):
        _ = graph.homophily


def test_what_a_graph_holds_is_held_apart_from_gradients():
    features = torch.ones(6, 2, requires_grad=True)
    graph = small(features=features)
    assert (graph.features.dtype, graph.features.requires_grad) == (torch.float64, False)


def test_the_spectrum_is_that_of_the_adjacency():
    graph = small()
    values, vectors = graph.spectrum.values, graph.spectrum.vectors
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, graph.adjacency.to_dense())
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(6, dtype=torch.float64))
    assert values.tolist() == sorted(values.tolist())
    assert graph.spectrum.second == pytest.approx(1, abs=1e-12)  # two components
    assert graph.spectrum is graph.spectrum


def test_the_second_modulus_may_be_of_a_negative_eigenvalue():
    ring = small(edges=torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 5, 5]]))
    # A ring of six: (1 + 2 cos(2 pi k / 6)) / 3.
    assert ring.spectrum.second == pytest.approx(2 / 3)
    threes = small(edges=torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2], [3, 4, 5, 3, 4, 5, 3, 4, 5]]))
    # Two threes, all joined across: (1 + 3, 1, 1 - 3) / 4.
    assert threes.spectrum.second == pytest.approx(0.5)
    assert float(threes.spectrum.values[0]) == pytest.approx(-0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_parts_are_rows_and_labels_in_their_order(dtype):
    graph = small()
    h = torch.arange(18.0).reshape(6, 3).to(dtype)
    known, classes, asked, answers = graph.parts(h)
    assert torch.equal(known, h[[0, 2]])
    assert torch.equal(asked, h[[1, 3]])
    assert (classes.tolist(), answers.tolist()) == ([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (torch.ones(5, 2), "h must have one row a node, 6; got 5"),
        (torch.full((6, 2), math.nan), "h must be finite"),
    ],
)
def test_parts_are_those_of_one_row_a_node(h, message):
    with pytest.raises(ValueError, match=message):
        small().parts(h)
