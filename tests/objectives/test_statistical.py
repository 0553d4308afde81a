"""Barlow Twins; VICReg beside another library."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from support import (
    DTYPES,
    HALVES,
    STATES,
    assert_as_frozen,
    assert_autocast_is_harmless,
    assert_half_agrees_with_double,
    assert_same,
    embeddings,
    pair,
    randn,
    refused,
)

from repcollapse.objectives import barlow_twins, barlow_twins_terms, vicreg


def standardised(z, eps):
    """Return the columns of z, each less its mean and over its standard deviation."""
    n, d = z.shape
    columns = []
    for j in range(d):
        mean = sum(z[i, j] for i in range(n)) / n
        variance = sum((z[i, j] - mean) ** 2 for i in range(n)) / n
        columns.append([(z[i, j] - mean) / (variance + eps).sqrt() for i in range(n)])
    return columns


def naive_barlow_twins_terms(z_a, z_b, eps):
    n, d = z_a.shape
    a, b = standardised(z_a, eps), standardised(z_b, eps)
    on = off = 0 * (z_a.sum() + z_b.sum())
    for j in range(d):
        for k in range(d):
            correlation = sum(a[j][i] * b[k][i] for i in range(n)) / n
            if j == k:
                on = on + (1 - correlation) ** 2
            else:
                off = off + correlation**2
    return on, off


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(3, 1), (5, 4), (4, 6), (9, 2)])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_barlow_twins_terms(n, d, eps, dtype):
    z = pair(n, d, dtype)
    ours, theirs = barlow_twins_terms(*z, eps=eps), naive_barlow_twins_terms(*z, eps)
    assert ours._fields == ("on_diagonal", "off_diagonal")
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other, z, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("redundancy", [0.0, 0.005, 2.0])
def test_barlow_twins(redundancy, dtype):
    z = pair(6, 4, dtype)
    on, off = naive_barlow_twins_terms(*z, 1e-5)
    assert_same(barlow_twins(*z, redundancy=redundancy), on + redundancy * off, z, dtype)


def test_the_defaults_are_the_papers_weight_and_the_eps_of_batch_normalisation():
    z = pair(6, 4)
    given = barlow_twins(*z, redundancy=0.005, eps=1e-5)
    assert barlow_twins(*z).item() == given.item()


def test_the_gradient_agrees_with_finite_differences():
    assert torch.autograd.gradcheck(functools.partial(barlow_twins, redundancy=0.5), pair(6, 3))


def test_barlow_twins_as_in_lightly():
    assert_as_frozen(functools.partial(barlow_twins, redundancy=0.02), "barlow_twins")


def test_vicreg_as_in_lightly():
    assert_as_frozen(vicreg, "vicreg")


# --- collapse, minimum, invariances


@pytest.mark.parametrize("constant", [0.0, 1.0, -1e3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_at_collapse_the_value_is_the_dimension(constant, dtype):
    z = torch.full((32, 7), constant, dtype=dtype)
    terms = barlow_twins_terms(z, z)
    assert float(terms.on_diagonal) == 7 and float(terms.off_diagonal) == 0
    assert float(barlow_twins(z, z)) == 7


def test_one_dimension_copied_is_at_the_minimum_of_the_first_term_and_the_maximum_of_the_second():
    z = randn(50, 1).expand(50, 5)
    terms = barlow_twins_terms(z, z, eps=1e-12)
    assert float(terms.on_diagonal) == pytest.approx(0, abs=1e-9)
    assert float(terms.off_diagonal) == pytest.approx(5 * 4, rel=1e-9)
    assert float(barlow_twins(z, z, redundancy=0)) == pytest.approx(0, abs=1e-8)


def hadamard():
    """Return eight samples of seven uncorrelated dimensions."""
    h2 = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    return torch.kron(torch.kron(h2, h2), h2)[:, 1:]


def test_at_its_minimum_it_is_zero_and_at_most_four_a_dimension():
    z = hadamard()
    assert float(barlow_twins(z, z, eps=1e-12)) == pytest.approx(0, abs=1e-20)
    assert float(barlow_twins_terms(z, -z, eps=1e-12).on_diagonal) == pytest.approx(28)


def test_it_cannot_leave_exact_collapse():
    z = [torch.full((8, 3), 0.5, dtype=torch.float64).requires_grad_() for _ in range(2)]
    for gradient in torch.autograd.grad(barlow_twins(*z), z):
        assert float(gradient.abs().max()) < 1e-12


def test_views_may_be_exchanged_and_samples_reordered_but_not_their_pairing():
    z_a, z_b = randn(9, 4), randn(9, 4) + 0.1 * randn(9, 4, seed=1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    loss = float(barlow_twins(z_a, z_b))
    assert float(barlow_twins(z_b, z_a)) == pytest.approx(loss, rel=1e-12)
    assert float(barlow_twins(z_a[order], z_b[order])) == pytest.approx(loss, rel=1e-12)
    assert float(barlow_twins(z_a, z_b[order])) > loss + 0.1


def test_location_and_scale_of_a_dimension_do_not_matter_but_rotation_does():
    z_a, z_b = randn(30, 4) * torch.tensor([3.0, 1, 1, 0.5]), randn(30, 4, seed=1)
    loss = float(barlow_twins(z_a, z_b, eps=1e-12))
    moved = barlow_twins(z_a * torch.tensor([2.0, 5, 1, 9]) + 3, 4 * z_b - 1, eps=1e-12)
    assert float(moved) == pytest.approx(loss, rel=1e-9)
    q = torch.linalg.qr(randn(4, 4, seed=3)).Q
    assert abs(float(barlow_twins(z_a @ q, z_b @ q, eps=1e-12)) - loss) > 1e-3


# --- precision


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision(state, dtype):
    assert_half_agrees_with_double(barlow_twins, state, dtype)


@pytest.mark.parametrize("state", STATES)
def test_autocast(state):
    assert_autocast_is_harmless(barlow_twins, state)


@pytest.mark.parametrize("objective", [barlow_twins, functools.partial(vicreg, gamma=10.0)])
def test_statistics_survive_a_mean_of_a_thousand_standard_deviations(objective):
    z_a, z_b = (100 + 0.1 * z for z in embeddings("healthy"))
    exact = objective(z_a.double(), z_b.double())
    assert float(objective(z_a, z_b)) == pytest.approx(float(exact), rel=1e-4)


# --- bad input

A, B = (z.detach().float() for z in pair(6, 3))
NAN = A.clone()
NAN[4, 1] = math.nan


@pytest.mark.parametrize("function", [barlow_twins, barlow_twins_terms])
@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ((NAN, B), {}, ValueError, "z_a must be finite; row 4"),
        ((A, NAN), {}, ValueError, "z_b must be finite; row 4"),
        ((A, B[:, :2]), {}, ValueError, "z_a and z_b must have the same shape"),
        ((A, B.double()), {}, TypeError, "z_a and z_b must have the same dtype"),
        ((A[:1], B[:1]), {}, ValueError, "z_a needs at least 2 rows; got 1"),
        ((A, B), {"eps": 0}, ValueError, "eps must be above 0; got 0"),
        ((A, B), {"eps": "small"}, TypeError, "eps must be a number; got str"),
    ],
)
def test_bad_input(function, given, options, error, message):
    refused(lambda: function(*given, **options), error, message)


def test_a_negative_weight():
    message = "redundancy must be at least 0; got -0.1"
    refused(lambda: barlow_twins(A, B, redundancy=-0.1), ValueError, message)
