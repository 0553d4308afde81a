"""Half precision, autocast and large offsets: finite and right, in value and gradient."""

from __future__ import annotations

import functools

import pytest
import torch

from repcollapse.objectives import invariance, nt_xent, vicreg, vicreg_terms

HALVES = [torch.float16, torch.bfloat16]
OBJECTIVES = {
    "invariance": invariance,
    "mse": functools.partial(invariance, normalize=False),
    "nt_xent": functools.partial(nt_xent, temperature=0.07),
    "vicreg": vicreg,
}


def embeddings(state, n=64, d=16):
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(n, d, generator=generator) for _ in range(2)]
    if state == "healthy":
        return noise[0], noise[0] + 0.3 * noise[1]
    constant = torch.randn(1, d, generator=generator).expand(n, d)
    if state == "collapsed":
        return constant.clone(), constant.clone()
    if state == "zero":
        return torch.zeros(n, d), torch.zeros(n, d)
    return constant + 1e-2 * noise[0], constant + 1e-2 * noise[1]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("state", ["healthy", "nearly collapsed", "collapsed", "zero"])
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_embeddings(name, state, dtype):
    objective = OBJECTIVES[name]
    z_a, z_b = (z.to(dtype).requires_grad_() for z in embeddings(state))
    loss = objective(z_a, z_b)
    # The same rounded embeddings in double precision: rounding is the input's, not the loss's.
    exact_a, exact_b = (z.detach().double().requires_grad_() for z in (z_a, z_b))
    exact = objective(exact_a, exact_b)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4, abs=1e-6)
    gradients = torch.autograd.grad(loss, (z_a, z_b))
    expected = torch.autograd.grad(exact, (exact_a, exact_b))
    for gradient, reference in zip(gradients, expected, strict=True):
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()
        error = float((gradient.double() - reference).norm())
        assert error <= 0.02 * float(reference.norm()) + 1e-4


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_by_keyword(name, dtype):
    z_a, z_b = (z.to(dtype) for z in embeddings("healthy"))
    loss = OBJECTIVES[name](z_a=z_a, z_b=z_b)
    assert loss.dtype == torch.float32
    assert loss.item() == float(OBJECTIVES[name](z_a, z_b))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("state", ["healthy", "nearly collapsed", "collapsed"])
def test_autocast_changes_nothing_for_float32_embeddings(name, state):
    z_a, z_b = embeddings(state)
    plain = OBJECTIVES[name](z_a, z_b)
    with torch.autocast("cpu", torch.bfloat16):
        loss = OBJECTIVES[name](z_a, z_b)
    assert loss.dtype == torch.float32
    assert loss.item() == plain.item()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_network_under_autocast_gets_finite_gradients(name, scale):
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 16)
    x_a, x_b = embeddings("healthy", d=8)
    with torch.autocast("cpu", torch.bfloat16):
        z_a, z_b = layer(scale * x_a), layer(scale * x_b)
        assert z_a.dtype == torch.bfloat16
        loss = OBJECTIVES[name](z_a, z_b)
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    for parameter in layer.parameters():
        assert torch.isfinite(parameter.grad).all()


def reference_terms(z):
    """Covariance in float64 of what float32 or bfloat16 hold."""
    covariance = torch.cov(z.double().T)
    std = (covariance.diagonal() + 1e-4).sqrt()
    off = covariance - covariance.diagonal().diag()
    return float((1 - std).clamp(min=0).mean()), float(2 * off.square().sum() / z.shape[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_statistics_survive_a_mean_of_ten_thousand_standard_deviations(dtype):
    z = (100 + 0.01 * embeddings("healthy")[0]).to(dtype)
    terms = vicreg_terms(z, z)
    variance, covariance = reference_terms(z)
    assert 0.98 < variance < 0.99
    assert float(terms.variance) == pytest.approx(variance, rel=1e-5)
    assert float(terms.covariance) == pytest.approx(covariance, rel=1e-3)


def test_statistics_survive_an_offset_in_bfloat16():
    z = (100 + 3 * embeddings("healthy")[0]).bfloat16()
    terms = vicreg_terms(z, z, gamma=10.0)
    covariance = torch.cov(z.double().T)
    expected = float((10 - (covariance.diagonal() + 1e-4).sqrt()).mean())
    assert float(terms.variance) == pytest.approx(expected, rel=1e-5)


def test_a_dead_row_among_healthy_ones_is_finite():
    z_a, z_b = embeddings("healthy")
    z_a[3] = 0
    z_a.requires_grad_()
    for objective in OBJECTIVES.values():
        loss = objective(z_a, z_b)
        assert torch.isfinite(loss)
        assert torch.isfinite(torch.autograd.grad(loss, z_a)[0]).all()


def test_nt_xent_at_a_tiny_temperature():
    # exp(1 / 0.005) overflows float32: only a sum in logarithms survives.
    generator = torch.Generator().manual_seed(0)
    z_a, z_b = torch.randn(2, 16, 8, generator=generator)
    single = nt_xent(z_a, z_b, temperature=0.005)
    double = nt_xent(z_a.double(), z_b.double(), temperature=0.005)
    assert torch.isfinite(single)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_a_term_without_weight_cannot_spoil_the_loss():
    generator = torch.Generator().manual_seed(0)
    z_a, z_b = 1e12 * torch.randn(2, 16, 8, generator=generator)
    assert torch.isfinite(vicreg(z_a, z_b, covariance=0))
