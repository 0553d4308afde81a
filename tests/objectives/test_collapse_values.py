"""What the objectives read at collapse and at their minimum, and what they are invariant to."""

from __future__ import annotations

import math

import pytest
import torch

from repcollapse.objectives import invariance, nt_xent, nt_xent_terms, vicreg, vicreg_terms

OBJECTIVES = [invariance, nt_xent, vicreg]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [2, 16, 256])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_nt_xent_at_collapse(n, temperature, dtype):
    z = randn(1, 5, dtype=dtype).expand(n, 5)
    loss = nt_xent(z, z, temperature=temperature)
    terms = nt_xent_terms(z, z, temperature=temperature)
    assert float(loss) == pytest.approx(math.log(2 * n - 1), rel=5e-6)
    assert float(terms.attraction) == pytest.approx(-1 / temperature, rel=1e-6)
    assert float(terms.repulsion) == pytest.approx(1 / temperature + math.log(2 * n - 1), rel=1e-6)


def test_nt_xent_at_collapse_for_256_pairs_is_the_tabulated_value():
    assert float(nt_xent(torch.ones(256, 8), torch.ones(256, 8))) == pytest.approx(6.236, abs=5e-4)


def simplex(n):
    """Return n points in n dimensions, all at the same distance, about the origin."""
    return torch.eye(n, dtype=torch.float64) - 1 / n


@pytest.mark.parametrize(("n", "temperature"), [(16, 0.5), (2, 0.2), (8, 1.0)])
def test_nt_xent_on_a_simplex_is_the_closed_form_minimum(n, temperature):
    minimum = math.log(1 + 2 * (n - 1) * math.exp(-(1 + 1 / (n - 1)) / temperature))
    z = simplex(n)
    assert float(nt_xent(z, z, temperature=temperature)) == pytest.approx(minimum, abs=1e-12)
    if (n, temperature) == (16, 0.5):
        assert minimum == pytest.approx(1.515842, abs=5e-7)


def test_optimisation_reaches_the_closed_form_minimum_and_goes_no_further():
    z_a, z_b = (randn(16, 15, seed=seed).requires_grad_() for seed in (1, 2))
    optimizer = torch.optim.LBFGS([z_a, z_b], max_iter=120, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = nt_xent(z_a, z_b, temperature=0.5)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure().item() == pytest.approx(1.515842, abs=1e-5)
    assert closure().item() >= 1.5158423


@pytest.mark.parametrize(("convention", "value"), [("official", 24.75), ("paper", 49.5)])
@pytest.mark.parametrize("constant", [0.0, 1.0, -1e3])
def test_vicreg_at_collapse(convention, value, constant):
    z = torch.full((32, 7), constant)
    assert float(vicreg(z, z, convention=convention)) == pytest.approx(value, rel=1e-6)
    terms = vicreg_terms(z, z, convention=convention)
    assert float(terms.invariance) == 0 and float(terms.covariance) == 0
    assert float(terms.variance) == pytest.approx(value / 25, rel=1e-6)


def test_vicreg_at_its_minimum_is_zero():
    # Rows of a Hadamard matrix without its constant column: unit variance, uncorrelated.
    h2 = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    z = 1.01 * torch.kron(torch.kron(h2, h2), h2)[:, 1:]
    assert float(vicreg(z, z)) < 1e-24


@pytest.mark.parametrize("constant", [1.0, -250.0])
def test_invariance_at_collapse_is_its_minimum(constant):
    z = torch.full((4, 3), constant)
    assert float(invariance(z, z)) == 0
    assert float(invariance(z, z, normalize=False)) == 0


def test_invariance_is_at_most_four():
    z = randn(6, 3)
    assert float(invariance(z, -z)) == pytest.approx(4, rel=1e-12)


def variance_gradient(scale, eps):
    z = (scale * randn(64, 1)).requires_grad_()
    variance = vicreg_terms(z, z.detach(), eps=eps, gamma=10.0).variance
    return float(torch.autograd.grad(variance, z)[0].norm()), float(z.detach().std())


def test_variance_gradient_vanishes_below_the_root_of_eps():
    """It is proportional to std / sqrt(std^2 + eps): full above sqrt(eps), gone far below."""
    eps = 1e-4
    full, _ = variance_gradient(1.0, 1e-12)
    for scale in (1.0, 1e-1, 1e-2, 1e-3, 1e-5, 1e-8):
        norm, std = variance_gradient(scale, eps)
        assert norm / full == pytest.approx(std / math.sqrt(std**2 + eps), rel=1e-6)
    weakest, _ = variance_gradient(1e-8, eps)
    assert weakest < 2e-6 * full


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_objective_can_leave_exact_collapse(objective):
    z_a, z_b = (torch.full((8, 3), 0.5, dtype=torch.float64).requires_grad_() for _ in range(2))
    gradients = torch.autograd.grad(objective(z_a, z_b), (z_a, z_b))
    for gradient in gradients:
        assert float(gradient.abs().max()) < 1e-12


# --- invariances


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_symmetric_in_the_views(objective):
    z_a, z_b = randn(9, 4), randn(9, 4, seed=1)
    assert float(objective(z_a, z_b)) == pytest.approx(float(objective(z_b, z_a)), rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_order_of_samples_does_not_matter_but_their_pairing_does(objective):
    z_a, z_b = randn(9, 4), randn(9, 4) + 0.1 * randn(9, 4, seed=1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    loss = float(objective(z_a, z_b))
    assert float(objective(z_a[order], z_b[order])) == pytest.approx(loss, rel=1e-12)
    assert float(objective(z_a, z_b[order])) > loss + 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rotation_changes_only_what_looks_at_axes(objective):
    z_a, z_b = randn(9, 4) * torch.tensor([3.0, 1, 1, 0.1]), randn(9, 4, seed=1)
    q = torch.linalg.qr(randn(4, 4, seed=3)).Q
    change = float(objective(z_a @ q, z_b @ q) - objective(z_a, z_b))
    if objective is vicreg:
        assert abs(change) > 1e-3
    else:
        assert abs(change) < 1e-12


@pytest.mark.parametrize("objective", [invariance, nt_xent])
def test_normalised_objectives_ignore_the_scale_of_every_row(objective):
    z_a, z_b = randn(9, 4), randn(9, 4, seed=1)
    rows = randn(9, 1, seed=2).exp() * 1e3
    loss = float(objective(z_a, z_b))
    assert float(objective(rows * z_a, z_b / rows)) == pytest.approx(loss, rel=1e-12)


def test_objectives_of_scale_see_scale():
    z_a, z_b = randn(9, 4), randn(9, 4, seed=1)
    mse = float(invariance(z_a, z_b, normalize=False))
    scaled = float(invariance(3 * z_a, 3 * z_b, normalize=False))
    assert scaled == pytest.approx(9 * mse, rel=1e-12)
    assert abs(float(vicreg(3 * z_a, 3 * z_b) - vicreg(z_a, z_b))) > 1


def test_vicreg_ignores_a_common_translation():
    z_a, z_b = randn(9, 4), randn(9, 4, seed=1)
    moved = vicreg_terms(z_a + 7, z_b + 7)
    for one, other in zip(vicreg_terms(z_a, z_b), moved, strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-10)


def test_nt_xent_terms_add_up_and_temperature_matters():
    z_a, z_b = randn(9, 4), randn(9, 4, seed=1)
    terms = nt_xent_terms(z_a, z_b, temperature=0.3)
    assert float(sum(terms)) == pytest.approx(float(nt_xent(z_a, z_b, temperature=0.3)), rel=1e-14)
    assert float(nt_xent(z_a, z_b)) == float(nt_xent(z_a, z_b, temperature=0.2))
    assert float(nt_xent(z_a, z_b)) != float(nt_xent(z_a, z_b, temperature=0.3))
