"""Energies and distances against loops, projections and what smoothing gives."""

from __future__ import annotations

import math

import pytest
import torch
from six_nodes import EDGES, small

from repcollapse.checkups import layer_residuals
from repcollapse.graphs import (
    block_model,
    dirichlet_energy,
    distance_to_limit,
    spectral_energy,
)


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
    with pytest.raises(ValueError, match="x must have one row a node, 6; got 5"):
        spectral_energy(small(), h[:5], 1)


def test_relative_energies_do_not_know_the_scale(h):
    graph = small()
    relative = dirichlet_energy(graph, h, relative=True)
    assert relative == pytest.approx(dirichlet_energy(graph, h) / float(h.square().sum()))
    for scale in (1e-100, -3.0, 1e100):
        assert dirichlet_energy(graph, scale * h, relative=True) == pytest.approx(relative)
        assert spectral_energy(graph, scale * h, 3, relative=True) == pytest.approx(
            spectral_energy(graph, h, 3, relative=True)
        )


@pytest.mark.parametrize("layers", [0, 1, 5])
def test_the_relative_spectral_energy_is_what_smoothing_gives(h, layers):
    graph, smoothed = small(), h
    for _ in range(layers):
        smoothed = graph.adjacency @ smoothed
    expected = dirichlet_energy(graph, smoothed, relative=True)
    assert spectral_energy(graph, h, layers, relative=True) == pytest.approx(expected, rel=1e-10)


def test_nothing_has_no_relative_energy():
    nothing = torch.zeros(6, 2)
    assert dirichlet_energy(small(), nothing, relative=True) == 0
    assert spectral_energy(small(), nothing, 2, relative=True) == 0


def test_features_may_have_gradients_and_any_dtype(h):
    graph = small()
    expected = dirichlet_energy(graph, h.float())
    assert dirichlet_energy(graph, h.float().requires_grad_()) == expected
    assert distance_to_limit(graph, h.half()) == pytest.approx(
        distance_to_limit(graph, h), rel=1e-2
    )
