"""Smoothing against closed forms, and the networks against their equations."""

from __future__ import annotations

import math

import pytest
import torch

from repcollapse.graphs import block_model, distance_to_limit, karate_club
from repcollapse.modes.oversmoothing import (
    ALPHA,
    GCN,
    RULES,
    THETA,
    pair_norm,
    propagate,
    smooth,
    train,
)

SMALL = {"size": 12, "within": 0.6, "between": 0.1, "labelled": 3}


@pytest.fixture
def spectrum():
    values, vectors = torch.linalg.eigh(karate_club().adjacency.to_dense())
    return values, vectors


# --- smoothing


def test_plain_smoothing_multiplies_each_direction_by_its_eigenvalue(spectrum):
    club, (values, vectors) = karate_club(), spectrum
    (h,) = propagate(club, depths=(7,))
    expected = vectors @ torch.diag(values**7) @ vectors.T @ club.features
    torch.testing.assert_close(h, expected)


def test_the_distance_falls_by_the_second_largest_modulus(spectrum):
    club = karate_club()
    before, after = (distance_to_limit(club, h) for h in propagate(club, depths=(80, 81)))
    assert after / before == pytest.approx(float(spectrum[0][:-1].abs().max()), rel=1e-8)


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
    (h,) = propagate(club, "pair norm", depths=(200,))
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


@pytest.mark.parametrize("depths", [(), (3, 1), (-1, 2), (2, 2)])
def test_other_depths_are_refused(depths):
    with pytest.raises(ValueError, match="depths must rise from 0 or more"):
        propagate(karate_club(), depths=depths)


@pytest.mark.parametrize("call", [propagate, smooth, train])
def test_other_rules_are_refused(call):
    with pytest.raises(ValueError, match="rule must be one of"):
        call(karate_club(), "hope")


def test_a_linear_layer_reads_blocks_that_smoothing_made_clear():
    graph = block_model(900, **SMALL)
    torch.manual_seed(0)
    run = smooth(graph, depths=(0, 4, 400), steps=60)
    assert run.at(4) > 0.9 > run.at(0)
    assert run.deepest == run.at(400) < 0.5
    assert len(run.hidden) == len(run.accuracy) == 3


# --- networks


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_the_networks_are_their_equations(rule, bias):
    torch.manual_seed(0)
    graph = block_model(0, **SMALL)
    x, a = graph.features.float(), graph.adjacency.to_dense().float()
    model = GCN(16, 4, depth=3, rule=rule, bias=bias)
    assert all((layer.bias is not None) == bias for layer in model.layers)
    h = first = (x @ model.into.weight.T + model.into.bias).relu()
    for number, layer in enumerate(model.layers, start=1):
        offset = layer.bias if bias else 0
        if rule == "initial residual":
            beta = math.log(THETA / number + 1)
            weights = (1 - beta) * torch.eye(16) + beta * layer.weight.T
            h = (((1 - ALPHA) * a @ h + ALPHA * first) @ weights + beta * offset).relu()
        else:
            h = a @ h @ layer.weight.T + offset
            if rule == "pair norm":
                h = h - h.mean(dim=0)
                h = h / (h.square().sum() / len(h)).sqrt()
            h = h.relu()
    scores = model(x, a)
    torch.testing.assert_close(scores, h @ model.out.weight.T + model.out.bias)
    torch.testing.assert_close(model.hidden[-1], h)
    assert len(model.hidden) == 4
    scores.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_shallow_network_learns_and_a_seed_governs_it():
    graph = block_model(900, **SMALL)
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(train(graph, depth=2, steps=60, device="cpu"))
    assert runs[0].accuracy == runs[1].accuracy > 0.8
    assert runs[0].fitted < 0.1
    assert len(runs[0].hidden) == 3


def test_dropping_edges_is_seen_in_training_alone():
    graph = block_model(900, **SMALL)
    found = []
    for keep, steps in ((1.0, 0), (0.3, 0), (1.0, 3), (0.3, 3)):
        torch.manual_seed(3)
        found.append(train(graph, depth=2, keep=keep, steps=steps, device="cpu").hidden[-1])
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[2], found[3])


@pytest.mark.parametrize("keep", [0.0, 1.5, math.nan])
def test_keep_is_a_share(keep):
    with pytest.raises(ValueError, match="keep must be"):
        train(karate_club(), keep=keep, depth=1, steps=1)
