"""The linear VAE: its exact objective against samples, and its optimum against the spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repcollapse.checkups import gaussian_kl
from repcollapse.modes import linear_vae


def test_the_linear_loss_is_the_mean_over_samples_and_noise() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3, dtype=torch.float64)
    w, v = torch.randn(3, 2).double(), torch.randn(2, 3).double()
    log_var = torch.randn(2).double()
    mu = x @ v.T
    noise = torch.randn(2000, 1, 2, dtype=torch.float64)
    decoded = (mu + (log_var / 2).exp() * noise) @ w.T
    error = 0.5 * (x - decoded).square().sum(dim=2).mean()
    sampled = error + 0.7 * gaussian_kl(mu, log_var.expand_as(mu)).sum(dim=1).mean()
    exact = linear_vae.linear_loss(w, v, log_var, x.T @ x / len(x), 0.7)
    assert exact.item() == pytest.approx(sampled.item(), rel=0.02)


@pytest.mark.parametrize("rank", [0, 1, 2, 4])
def test_a_linear_vae_keeps_the_eigenvalues_above_the_price(rank: int) -> None:
    eigenvalues = np.array([5.0, 3.0, 2.0, 1.0, 0.4, 0.1])
    torch.manual_seed(rank)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    covariance = basis @ torch.diag(torch.from_numpy(eigenvalues)) @ basis.T
    price = linear_vae.price_for(eigenvalues, rank)
    found = linear_vae.fit_linear(covariance, price, latents=5)
    assert found.predicted_rank == found.rank == rank
    assert found.singular_value_error < 1e-5
    assert found.kl_error < 1e-5
    x = torch.linalg.cholesky(covariance) @ torch.randn(6, 4000, dtype=torch.float64)
    mu, log_var = found.posterior(x.T)
    total = gaussian_kl(mu, log_var).sum(dim=1).mean().item()
    assert total == pytest.approx(found.kl.sum(), rel=0.1, abs=1e-3)


def test_pixels_that_never_vary_change_nothing() -> None:
    eigenvalues = np.array([5.0, 3.0, 1.0, 0.5])
    covariance = torch.zeros(7, 7, dtype=torch.float64)
    covariance[:4, :4] = torch.diag(torch.from_numpy(eigenvalues))
    torch.manual_seed(0)
    found = linear_vae.fit_linear(covariance, 2.0, latents=3)
    assert found.rank == 2 and found.singular_value_error < 1e-5 and found.kl_error < 1e-5
    assert not found.encoder[:, 4:].any()


def test_the_loss_has_a_gradient_at_collapse() -> None:
    w, v, log_var = (
        torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 2), (2, 3), 2)
    )
    loss = linear_vae.linear_loss(w, v, log_var, torch.eye(3, dtype=torch.float64), price=0.1)
    assert all(bool((slope == 0).all()) for slope in torch.autograd.grad(loss, [w, v, log_var]))


def test_a_price_lies_between_two_eigenvalues() -> None:
    eigenvalues = np.array([4.0, 2.0, 1.0])
    assert [int((eigenvalues > linear_vae.price_for(eigenvalues, k)).sum()) for k in range(3)] == [
        0,
        1,
        2,
    ]
    with pytest.raises(ValueError, match="rank must be"):
        linear_vae.price_for(eigenvalues, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"price": 0.0}, "price must be above 0"), ({"latents": 4}, "latents must be")],
)
def test_bad_input_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_vae.fit_linear(torch.eye(3), **{"price": 1.0, "latents": 2} | arguments)
