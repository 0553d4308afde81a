"""Probes: what they read, and which of them see complete collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repcollapse.diagnostics import knn_accuracy, linear_probe, resolution_probe

PROBES = [resolution_probe, linear_probe, knn_accuracy]


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def sets(counts, *, residue, offset=1.0, d=8, dtype=np.float32, seed=0):
    """A constant plus a residue that carries the class, and a little noise."""
    rng = np.random.default_rng(seed)
    y = labels_of(counts)
    centres = rng.standard_normal((len(counts), d)) * 3

    def draw():
        z = centres[y] + rng.standard_normal((len(y), d))
        return (offset + residue * z).astype(dtype)

    return draw(), y, draw(), y


@pytest.mark.parametrize("counts", [(40, 40, 40, 40), (90, 30, 30, 10)])
@pytest.mark.parametrize("residue", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("offset", [1.0, 100.0])
def test_only_the_resolution_probe_sees_complete_collapse(counts, residue, offset):
    collapsed = sets(counts, residue=residue * offset, offset=offset)
    assert resolution_probe(*collapsed) == pytest.approx(max(counts) / sum(counts))
    assert linear_probe(*collapsed) > 0.95
    assert knn_accuracy(*collapsed) > 0.8


@pytest.mark.parametrize("counts", [(40, 40, 40, 40), (90, 30, 30, 10)])
def test_exactly_constant_embeddings_give_chance(counts):
    constant = sets(counts, residue=0.0)
    chance = max(counts) / sum(counts)
    assert resolution_probe(*constant) == pytest.approx(chance)
    assert linear_probe(*constant) == pytest.approx(chance)
    assert resolution_probe(*sets(counts, residue=0.0, offset=0.0)) == pytest.approx(chance)


@pytest.mark.parametrize("counts", [(40, 40, 40, 40), (90, 30, 30, 10)])
@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_reads_a_healthy_embedding(probe, counts):
    assert probe(*sets(counts, residue=1.0, offset=0.0)) > 0.9


@pytest.mark.parametrize("probe", PROBES)
def test_labels_without_relation_give_chance(probe):
    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((400, 5)), rng.standard_normal((400, 5))
    y, other = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    assert probe(train, y, test, other) == pytest.approx(0.25, abs=0.08)


def test_chance_is_the_test_share_of_the_largest_training_class():
    z = np.ones((10, 3))
    train_y, test_y = [1] * 6 + [0] * 4, [0] * 7 + [1] * 3
    assert resolution_probe(z, train_y, z, test_y) == 0.3


@pytest.mark.parametrize("probe", PROBES)
def test_probes_are_deterministic_and_leave_the_random_state_alone(probe):
    arguments = sets((30, 30, 30), residue=1.0, offset=0.0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert probe(*arguments) == probe(*arguments)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize("probe", [resolution_probe, knn_accuracy])
def test_invariant_to_rotation_and_the_scale_of_rows(probe):
    train, y, test, other = sets((30, 30, 30), residue=1.0, offset=0.5, dtype=np.float64)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    rows = np.exp(np.random.default_rng(2).standard_normal((90, 1)))
    expected = probe(train, y, test, other)
    assert probe(train @ rotation, y, test @ rotation, other) == expected
    assert probe(rows * train, y, test / rows, other) == expected


def test_resolution_probe_is_the_documented_ridge():
    train, y, test, other = sets((30, 20, 10), residue=0.02, offset=1.0, dtype=np.float64)
    u, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (train, test))
    one_hot, share = np.eye(3)[y], np.array([30, 20, 10]) / 60
    centred = u - u.mean(axis=0)
    w = np.linalg.solve(centred.T @ centred + 1e-3 * 60 * np.eye(8), centred.T @ (one_hot - share))
    scores = share + (v - u.mean(axis=0)) @ w
    answers = scores.argmax(axis=1)
    answers[np.abs(scores - share).max(axis=1) < 0.01] = 0
    measured = resolution_probe(train, y, test, other)
    assert measured == pytest.approx((answers == other).mean(), rel=1e-12)
    assert 0.5 < measured < 1


@pytest.mark.parametrize("probe", PROBES)
def test_any_integers_and_containers_will_do(probe):
    train, y, test, other = sets((20, 20), residue=1.0, offset=0.0)
    expected = probe(train, y, test, other)
    assert probe(torch.from_numpy(train), torch.from_numpy(y), torch.from_numpy(test), other) == (
        expected
    )
    assert probe(train, [7 - 9 * i for i in y], test, (7 - 9 * other).astype(np.int16)) == expected


def test_a_test_class_never_trained_on_counts_as_wrong():
    train, y, test, _ = sets((20, 20), residue=1.0, offset=0.0)
    for probe in PROBES:
        assert probe(train, y, test, np.full(40, 5)) == 0


def test_settings_of_the_standard_probes_matter():
    train, y, _test, _other = sets((30, 30, 30), residue=1.0, offset=0.0)
    y = np.random.default_rng(0).permutation(y)
    # One neighbour remembers every label; all neighbours together know only the majority.
    assert knn_accuracy(train, y, train, y, k=1) == 1
    assert knn_accuracy(train, y, train, y, k=90) == pytest.approx(1 / 3)
    assert linear_probe(train, y, train, y, c=1e-6) <= linear_probe(train, y, train, y, c=100.0)
