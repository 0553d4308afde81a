"""Probes: what they read, and which of them see complete collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repcollapse.diagnostics import (
    knn_accuracy,
    linear_map,
    linear_probe,
    regression_probe,
    resolution_probe,
)

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


# --- least squares


def regression_sets(*, n=60, m=40, d=5, k=2, noise=0.0):
    """Embeddings and values that depend on them linearly, up to noise."""
    rng = np.random.default_rng(0)
    weight, constant = rng.standard_normal((d, k)), rng.standard_normal(k)
    z = rng.standard_normal((n + m, d)) + 3
    y = z @ weight + constant + noise * rng.standard_normal((n + m, k))
    return z[:n], y[:n], z[n:], y[n:]


def test_a_linear_map_is_least_squares_with_a_constant():
    z, y, unseen, _ = regression_sets(noise=0.7)
    padded = np.column_stack([z, np.ones(len(z))])
    solution = np.linalg.lstsq(padded, y, rcond=None)[0]
    found = linear_map(z, y)
    np.testing.assert_allclose(found.weight, solution[:-1], rtol=1e-9)
    expected = np.column_stack([unseen, np.ones(len(unseen))]) @ solution
    np.testing.assert_allclose(found(unseen), expected, rtol=1e-9)
    np.testing.assert_allclose(found.mean_y, y.mean(axis=0), rtol=1e-12)


def test_one_value_a_row_gives_one_value_a_row():
    z, y, unseen, _ = regression_sets(noise=0.7)
    one, both = linear_map(z, y[:, 1]), linear_map(z, y)
    assert one(unseen).shape == (40,)
    np.testing.assert_allclose(one(unseen), both(unseen)[:, 1], rtol=1e-9)
    assert one(unseen[:1]).shape == (1,)


def test_of_several_maps_the_smallest_is_taken():
    z, y, *_ = regression_sets()
    doubled = linear_map(np.column_stack([z, z]), y)
    np.testing.assert_allclose(doubled.weight, np.tile(linear_map(z, y).weight / 2, (2, 1)))
    few = linear_map(z[:3], y[:3])  # more columns than rows
    np.testing.assert_allclose(few(z[:3]), y[:3], rtol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_regression_probe_is_the_share_explained_of_what_is_unseen(noise):
    z, y, unseen, asked = regression_sets(noise=noise)
    said = linear_map(z, y)(unseen).numpy()
    total = ((asked - y.mean(axis=0)) ** 2).sum()
    expected = 1 - ((asked - said) ** 2).sum() / total
    assert regression_probe(z, y, unseen, asked) == pytest.approx(expected, abs=1e-12)
    assert regression_probe(z, y, unseen, asked) > 0.3
    assert (regression_probe(z, y, unseen, asked) == pytest.approx(1)) == (noise == 0)


def test_values_without_relation_are_not_explained():
    z, _, unseen, _ = regression_sets(n=400, m=4000, d=20)
    rng = np.random.default_rng(1)
    found = regression_probe(z, rng.standard_normal(400), unseen, rng.standard_normal(4000))
    assert found == pytest.approx(-20 / 400, abs=0.03)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4, -1 / 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_at_exact_collapse_exactly_nothing_is_explained(constant, dtype):
    _, y, _, asked = regression_sets()
    rows = [torch.full((n, 7), constant, dtype=dtype) for n in (60, 40)]
    assert regression_probe(rows[0], y, rows[1], asked) == 0
    assert regression_probe(rows[0], y[:, 0], rows[1], asked[:, 0]) == 0


def test_regression_probe_magnifies_what_is_left():
    z, y, unseen, asked = regression_sets()
    left = [1 + 1e-9 * rows for rows in (z, unseen)]
    assert regression_probe(left[0], y, left[1], asked) == pytest.approx(1, abs=1e-6)


def test_regression_probe_ignores_what_a_linear_map_can_undo():
    z, y, unseen, asked = regression_sets(noise=0.5)
    change = np.random.default_rng(3).standard_normal((5, 5))
    moved = [rows @ change + 2 for rows in (z, unseen)]
    before = regression_probe(z, y, unseen, asked)
    assert regression_probe(moved[0], y, moved[1], asked) == pytest.approx(before, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z, y, *_: linear_map(z, y[:5]), ValueError, "y must have the 60 rows of z; got 5"),
        (lambda z, y, *_: linear_map(z, y.astype(int)), TypeError, "y must have a floating dtype"),
        (lambda z, y, *_: linear_map(z, y[None]), ValueError, "y must have shape"),
        (lambda z, y, *_: linear_map(z, y * np.nan), ValueError, "y must be finite"),
        (lambda z, y, *_: linear_map(z[:1], y[:1]), ValueError, "z needs at least 2 rows; got 1"),
        (lambda z, y, *_: linear_map(z, y)(z[:, 1:]), ValueError, r"z must have shape \(N, 5\)"),
        (
            lambda z, y, u, v: regression_probe(z, y, u, v[1:]),
            ValueError,
            "test_y must have the 40 rows of test_z; got 39",
        ),
        (
            lambda z, y, u, v: regression_probe(z, y, u[:, 1:], v),
            ValueError,
            "train_z and test_z must have the same number of columns; got 5 and 4",
        ),
        (
            lambda z, y, u, v: regression_probe(z, y, u, v[:, 0]),
            ValueError,
            "train_y and test_y must have the same number of columns; got 2 and 1",
        ),
        (
            lambda z, y, u, v: regression_probe(z, 0 * y + 3, u, 0 * v + 3),
            ValueError,
            "test_y must hold other values than the mean of train_y",
        ),
    ],
)
def test_what_least_squares_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(*regression_sets())
