"""Smoothing against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from repcollapse.graphs import block_model, distance_to_limit, karate_club
from repcollapse.modes.runs import once
from repcollapse.modes.smoothing import ALPHA, accuracy, pair_norm, propagate, smooth

SMALL = {"size": 12, "within": 0.6, "between": 0.1, "labelled": 3}


def test_plain_smoothing_multiplies_each_direction_by_its_eigenvalue():
    club = karate_club()
    values, vectors = club.spectrum.values, club.spectrum.vectors
    (h,) = propagate(club, depths=(7,))
    expected = vectors @ torch.diag(values**7) @ vectors.T @ club.features
    torch.testing.assert_close(h, expected)


def test_the_distance_falls_by_the_second_largest_modulus():
    club = karate_club()
    before, after = (distance_to_limit(club, h) for h in propagate(club, depths=(80, 81)))
    assert after / before == pytest.approx(club.spectrum.second, rel=1e-8)


def test_an_initial_residual_ends_at_personalised_pagerank():
    club = karate_club()
    a = club.adjacency.to_dense()
    eye = torch.eye(34, dtype=torch.float64)
    limit = ALPHA * torch.linalg.solve(eye - (1 - ALPHA) * a, club.features)
    near, there = propagate(club, "initial residual", depths=(32, 400))
    torch.testing.assert_close(there, limit)
    assert float((near - limit).norm()) <= (1 - ALPHA) ** 32 * float((club.features - limit).norm())


def test_pair_norm_ends_in_the_leading_direction_of_the_centred_adjacency():
    club = karate_club()
    centring = torch.eye(34, dtype=torch.float64) - 1 / 34
    leading = torch.linalg.eigh(centring @ club.adjacency.to_dense() @ centring).eigenvectors[:, -1]
    (h,) = propagate(club, "PairNorm", depths=(200,))
    assert float((leading @ h).norm() / h.norm()) == pytest.approx(1, abs=1e-12)


def test_pair_norm_keeps_the_sum_of_squared_distances():
    generator = torch.Generator().manual_seed(0)
    h = pair_norm(5 + torch.randn(9, 4, generator=generator, dtype=torch.float64))
    total = sum(float((a - b).square().sum()) for a in h for b in h)
    assert total == pytest.approx(2 * 9**2)
    torch.testing.assert_close(pair_norm(3 * h + 2), h)
    assert pair_norm(torch.ones(5, 2)).tolist() == [[0.0, 0.0]] * 5


def test_depths_are_kept_in_order():
    club = karate_club()
    alone = [propagate(club, depths=(depth,))[0] for depth in (0, 3, 5)]
    together = propagate(club, depths=(0, 3, 5))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_alpha_says_how_much_of_the_input_comes_back():
    club = karate_club()
    (none, all_of_it, half) = (
        propagate(club, "initial residual", depths=(3,), alpha=alpha)[0] for alpha in (0, 1, 0.5)
    )
    assert torch.equal(none, propagate(club, depths=(3,))[0])
    assert torch.equal(all_of_it, club.features)
    h = club.features
    for _ in range(3):
        h = (club.adjacency @ h + club.features) / 2
    torch.testing.assert_close(half, h)


def test_pair_norm_has_a_gradient_where_all_nodes_are_the_same():
    h = torch.ones(5, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(pair_norm(h)[0, 0], h)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("depths", "error", "message"),
    [
        ((), ValueError, "depths must rise from 0 or more"),
        ((3, 1), ValueError, "depths must rise from 0 or more"),
        ((2, 2), ValueError, "depths must rise from 0 or more"),
        ((-1, 2), ValueError, "depths must be at least 0; got -1"),
        ((0.5, 2), TypeError, "depths must be an integer; got float"),
    ],
)
def test_other_depths_are_refused(depths, error, message):
    with pytest.raises(error, match=message):
        propagate(karate_club(), depths=depths)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan])
def test_alpha_is_a_share(alpha):
    with pytest.raises(ValueError, match="alpha must be at least 0 and at most 1"):
        propagate(karate_club(), "initial residual", alpha=alpha)


@pytest.mark.parametrize("call", [propagate, smooth])
def test_other_rules_are_refused(call):
    with pytest.raises(ValueError, match="rule must be one of"):
        call(karate_club(), "hope")


def test_a_linear_layer_reads_blocks_that_smoothing_made_clear():
    graph = block_model(900, **SMALL)
    run = once(lambda seed: smooth(graph, depths=(0, 4, 400), steps=60), 0)
    assert run.accuracy[4] > 0.9 > run.accuracy[0]
    assert run.deepest == run.accuracy[400] < 0.5
    assert list(run.hidden) == list(run.accuracy) == [0, 4, 400]
    assert torch.equal(run.hidden[4], propagate(graph, depths=(4,))[0])


def test_the_accuracy_is_that_of_the_test_nodes_alone():
    graph = block_model(900, **SMALL)
    scores = torch.nn.functional.one_hot(graph.labels)
    scores[graph.train] = -scores[graph.train]
    assert accuracy(graph, scores) == 1
    scores[graph.test[:3]] = -scores[graph.test[:3]]
    assert accuracy(graph, scores) == pytest.approx(1 - 3 / len(graph.test))
