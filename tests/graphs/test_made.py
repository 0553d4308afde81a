"""Graphs as they are drawn: from blocks, from a club, from the neighbours of images."""

from __future__ import annotations

import math

import pytest
import torch

from repcollapse.graphs import block_model, karate_club, neighbours


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
