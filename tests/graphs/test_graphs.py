"""Graphs: what they must be, how they are drawn, and their measures against loops."""

from __future__ import annotations

import math

import pytest
import torch

from repcollapse.checkups import layer_residuals
from repcollapse.graphs import (
    Graph,
    block_model,
    dirichlet_energy,
    distance_to_limit,
    karate_club,
    neighbours,
    spectral_energy,
)

EDGES = torch.tensor([[0, 1, 1, 3], [1, 2, 3, 4]])  # node 5 stands alone


def small(**changes):
    parts = {
        "features": torch.arange(12.0).reshape(6, 2),
        "edges": EDGES,
        "labels": torch.tensor([0, 0, 1, 1, 1, 0]),
        "train": torch.tensor([0, 2]),
        "validation": torch.tensor([], dtype=torch.int64),
        "test": torch.tensor([1, 3]),
    }
    return Graph(**(parts | changes))


# --- what a graph is


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


# --- how graphs are drawn


def test_a_block_model_has_the_probabilities_it_was_given():
    graph = block_model(3, size=100, within=0.3, between=0.05)
    same = graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]
    pairs_within, pairs_between = 4 * 100 * 99 / 2, 6 * 100 * 100
    assert float(same.sum()) / pairs_within == pytest.approx(0.3, abs=0.015)
    assert float((~same).sum()) / pairs_between == pytest.approx(0.05, abs=0.005)
    assert int(graph.components.max()) == 0
    assert graph.labels[graph.train].bincount().tolist() == [5] * 4
    assert graph.labels[graph.validation].bincount().tolist() == [5] * 4
    together = torch.cat([graph.train, graph.validation, graph.test])
    assert sorted(together.tolist()) == list(range(400))


def test_a_seed_governs_everything():
    one, again, other = block_model(1), block_model(1), block_model(2)
    assert torch.equal(one.edges, again.edges)
    assert torch.equal(one.features, again.features)
    assert torch.equal(one.train, again.train)
    assert one.edges.shape != other.edges.shape or not torch.equal(one.edges, other.edges)
    assert not torch.equal(one.features, other.features)
    assert not torch.equal(one.train, other.train)


def test_a_block_model_that_cannot_be_connected_is_refused():
    with pytest.raises(ValueError, match="within and between must be large enough"):
        block_model(0, between=0.0)


def test_too_many_labels_are_refused():
    with pytest.raises(ValueError, match="labelled must be below half of every class; got 25"):
        block_model(0, labelled=25)


def test_the_karate_club_is_zachary_s():
    club = karate_club()
    assert (len(club), club.edges.shape[1], club.classes) == (34, 78, 2)
    assert club.degrees[[0, 33]].tolist() == [17.0, 18.0]
    assert club.labels[[0, 33]].tolist() == [0, 1]


def test_neighbours_are_the_nearest():
    graph = neighbours("digits", seed=4, nodes=120, k=3, labelled=2)
    joined = {tuple(edge) for edge in graph.edges.T.tolist()}
    expected = set()
    for i in range(120):
        away = (graph.features - graph.features[i]).norm(dim=1)
        away[i] = math.inf
        for j in away.argsort()[:3].tolist():
            expected.add((min(i, j), max(i, j)))
    assert joined == expected
    assert graph.labels[graph.train].bincount().tolist() == [2] * 10


# --- how smooth features are


@pytest.fixture
def h():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, generator=generator, dtype=torch.float64)


def test_the_energy_is_that_of_loops_and_of_the_trace(h):
    graph, total = small(), 0.0
    for i, j in EDGES.T.tolist():
        for d in range(3):
            scaled = h[i, d] / graph.degrees[i].sqrt(), h[j, d] / graph.degrees[j].sqrt()
            total += float(scaled[0] - scaled[1]) ** 2
    assert dirichlet_energy(graph, h) == pytest.approx(total, rel=1e-12)
    laplacian = torch.eye(6, dtype=torch.float64) - graph.adjacency.to_dense()
    assert dirichlet_energy(graph, h) == pytest.approx(float((h.T @ laplacian @ h).trace()))


def test_at_the_limit_energy_and_distance_are_nothing():
    graph = small()
    limit = graph.degrees.sqrt()[:, None] * torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    limit[5] = torch.tensor([7.0, 3.0])  # another component has another value
    assert dirichlet_energy(graph, limit) == pytest.approx(0, abs=1e-28)
    assert distance_to_limit(graph, limit) == pytest.approx(0, abs=1e-14)


def test_the_distance_is_that_of_the_projection(h):
    graph = small()
    values, vectors = torch.linalg.eigh(graph.adjacency.to_dense())
    fixed = vectors[:, values > 1 - 1e-9]
    assert fixed.shape[1] == 2
    expected = float((h - fixed @ fixed.T @ h).norm())
    assert distance_to_limit(graph, h) == pytest.approx(expected)


def test_on_one_component_it_is_the_residual_of_the_checkup():
    graph = block_model(7)
    x = graph.features
    (r, _) = layer_residuals([x, x], along=graph.degrees.sqrt())
    assert distance_to_limit(graph, x) / float(x.norm()) == pytest.approx(r)


@pytest.mark.parametrize("layers", [0, 1, 5])
def test_the_spectral_energy_is_what_smoothing_gives(h, layers):
    graph, smoothed = small(), h
    for _ in range(layers):
        smoothed = graph.adjacency @ smoothed
    expected = dirichlet_energy(graph, smoothed)
    assert spectral_energy(graph, h, layers) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("measure", [dirichlet_energy, distance_to_limit])
def test_rows_are_nodes(measure, h):
    with pytest.raises(ValueError, match="h must have one row a node, 6; got 5"):
        measure(small(), h[:5])
    with pytest.raises(ValueError, match="h must be finite"):
        measure(small(), torch.full((6, 2), math.inf))
    with pytest.raises(ValueError, match="layers must be at least 0"):
        spectral_energy(small(), h, -1)
