"""Objectives against naive double loops and pytorch-metric-learning: values and gradients."""

from __future__ import annotations

import functools

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, VICRegLoss

from repcollapse.objectives import invariance, nt_xent, nt_xent_terms, vicreg, vicreg_terms

SHAPES = [(2, 1), (2, 3), (5, 4), (4, 9), (12, 2)]
DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def pair(n, d, dtype=torch.float64, *, noise=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed + 97 * n + d)
    z = torch.randn(n, d, generator=generator, dtype=torch.float64)
    other = z + noise * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return z.to(dtype).requires_grad_(), other.to(dtype).requires_grad_()


# --- the oracles: nothing but scalars, sums and loops


def dot(u, v):
    return sum(u[j] * v[j] for j in range(len(u)))


def unit(u):
    return [x / dot(u, u).sqrt() for x in u]


def naive_invariance(z_a, z_b, *, normalize=True):
    n, d = z_a.shape
    total = 0
    for i in range(n):
        a, b = (unit(z_a[i]), unit(z_b[i])) if normalize else (z_a[i], z_b[i])
        for j in range(d):
            total = total + (a[j] - b[j]) ** 2
    return total / (n if normalize else n * d)


def naive_nt_xent_terms(z_a, z_b, *, temperature):
    n = len(z_a)
    rows = [unit(row) for row in [*z_a, *z_b]]
    attraction, repulsion = 0, 0
    for i in range(2 * n):
        partition = 0
        for k in range(2 * n):
            if k != i:
                partition = partition + (dot(rows[i], rows[k]) / temperature).exp()
        repulsion = repulsion + partition.log()
        attraction = attraction - dot(rows[i], rows[(i + n) % (2 * n)]) / temperature
    return attraction / (2 * n), repulsion / (2 * n)


def naive_nt_xent(z_a, z_b, *, temperature):
    return sum(naive_nt_xent_terms(z_a, z_b, temperature=temperature))


def covariance(z, j, k):
    n = len(z)
    mean_j, mean_k = sum(z[:, j]) / n, sum(z[:, k]) / n
    return sum((z[i, j] - mean_j) * (z[i, k] - mean_k) for i in range(n)) / (n - 1)


def naive_vicreg_terms(z_a, z_b, *, gamma=1.0, eps=1e-4, convention="official"):
    n, d = z_a.shape
    s = sum((z_a[i, j] - z_b[i, j]) ** 2 for i in range(n) for j in range(d)) / n
    v = c = 0 * (z_a.sum() + z_b.sum())
    for z in (z_a, z_b):
        for j in range(d):
            gap = gamma - (covariance(z, j, j) + eps).sqrt()
            v = v + (gap if gap > 0 else 0 * gap) / d
            for k in range(d):
                if k != j:
                    c = c + covariance(z, j, k) ** 2 / d
    return (s / d, v / 2, c) if convention == "official" else (s, v, c)


def naive_vicreg(z_a, z_b, *, weights=(25.0, 25.0, 1.0), **kwargs):
    return sum(w * t for w, t in zip(weights, naive_vicreg_terms(z_a, z_b, **kwargs), strict=True))


def assert_same(ours, theirs, z_a, z_b, dtype):
    """The same value, and the same gradient in both views."""
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert ours.dtype == dtype and ours.ndim == 0
    torch.testing.assert_close(ours, theirs.to(dtype), **tolerance)
    # A gradient of zero is still a gradient: NT-Xent in one dimension, a hinge that is met.
    of_ours = torch.autograd.grad(ours, (z_a, z_b), retain_graph=True)
    of_theirs = torch.autograd.grad(theirs, (z_a, z_b), retain_graph=True)
    scale = max(1.0, *(float(g.abs().max()) for g in of_theirs))
    for a, b in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(a / scale, b / scale, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("normalize", [True, False])
def test_invariance(n, d, dtype, normalize):
    z_a, z_b = pair(n, d, dtype)
    ours = invariance(z_a, z_b, normalize=normalize)
    assert_same(ours, naive_invariance(z_a, z_b, normalize=normalize), z_a, z_b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("temperature", [0.07, 0.5, 3.0])
def test_nt_xent(n, d, dtype, temperature):
    # At 0.07 the exponents reach 14: float32 keeps five digits of a sum of such terms.
    z_a, z_b = pair(n, d, dtype)
    ours = nt_xent(z_a, z_b, temperature=temperature)
    theirs = naive_nt_xent(z_a, z_b, temperature=temperature)
    assert_same(ours, theirs, z_a, z_b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_nt_xent_terms(dtype, temperature):
    z_a, z_b = pair(5, 4, dtype)
    ours = nt_xent_terms(z_a, z_b, temperature=temperature)
    theirs = naive_nt_xent_terms(z_a, z_b, temperature=temperature)
    assert ours._fields == ("attraction", "repulsion")
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other, z_a, z_b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 2), (5, 4), (3, 6)])
@pytest.mark.parametrize("convention", ["official", "paper"])
def test_vicreg_terms(n, d, dtype, convention):
    z_a, z_b = pair(n, d, dtype)
    ours = vicreg_terms(z_a, z_b, convention=convention)
    assert ours._fields == ("invariance", "variance", "covariance")
    theirs = naive_vicreg_terms(z_a, z_b, convention=convention)
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other, z_a, z_b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("convention", ["official", "paper"])
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (0.0, 1.0, 0.0), (2.0, 0.0, 0.5)])
@pytest.mark.parametrize(("gamma", "eps"), [(1.0, 1e-4), (3.0, 0.1)])
def test_vicreg(dtype, convention, weights, gamma, eps):
    z_a, z_b = pair(6, 3, dtype)
    named = dict(zip(("invariance", "variance", "covariance"), weights, strict=True))
    shared = {"gamma": gamma, "eps": eps, "convention": convention}
    ours = vicreg(z_a, z_b, **named, **shared)
    assert_same(ours, naive_vicreg(z_a, z_b, weights=weights, **shared), z_a, z_b, dtype)


@pytest.mark.parametrize(
    "objective",
    [
        invariance,
        functools.partial(invariance, normalize=False),
        functools.partial(nt_xent, temperature=0.3),
        functools.partial(vicreg, convention="official"),
        functools.partial(vicreg, convention="paper", gamma=2.0),
    ],
)
def test_gradients_agree_with_finite_differences(objective):
    assert torch.autograd.gradcheck(objective, pair(5, 3))


# --- another library


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("n", "d"), [(2, 3), (16, 8)])
def test_nt_xent_as_in_pytorch_metric_learning(dtype, temperature, n, d):
    z_a, z_b = pair(n, d, dtype, noise=1.0)
    labels = torch.arange(n).repeat(2)
    theirs = NTXentLoss(temperature=temperature)(torch.cat([z_a, z_b]), labels)
    ours = nt_xent(z_a, z_b, temperature=temperature)
    # It adds the smallest number of the dtype inside the logarithm: no difference at these sizes.
    assert_same(ours, theirs, z_a, z_b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 3.0, 2.0)])
def test_vicreg_as_in_pytorch_metric_learning(dtype, weights):
    """It follows the authors' code: the variance halved, the invariance a mean over dimensions."""
    z_a, z_b = pair(16, 8, dtype)
    i, v, c = weights
    theirs = VICRegLoss(invariance_lambda=i, variance_mu=v, covariance_v=c)(z_a, ref_emb=z_b)
    ours = vicreg(z_a, z_b, invariance=i, variance=v, covariance=c, convention="official")
    assert_same(ours, theirs, z_a, z_b, dtype)
    paper = vicreg(z_a, z_b, invariance=i, variance=v, covariance=c, convention="paper")
    assert abs((paper - theirs).item()) > 0.1
