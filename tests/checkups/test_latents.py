"""Posterior collapse is decided in nats: closed forms, limits, invariances, bad input."""

from __future__ import annotations

import math

import pytest
import torch

from repcollapse.checkups import gaussian_kl, posterior_kl
from repcollapse.checkups.latents import IDLE_BELOW, LEAST_SHARE


def naive(mu: torch.Tensor, log_var: torch.Tensor) -> float:
    total = 0.0
    for row_mu, row_log in zip(mu.tolist(), log_var.tolist(), strict=True):
        for m, log in zip(row_mu, row_log, strict=True):
            total += 0.5 * (m * m + math.exp(log) - log - 1) / len(mu)
    return total


def signs(kl: float, *, rows: int = 8, latents: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of which each latent's divergence is `kl`, at unit variance."""
    mu = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(rows // 2)[:, None]
    return (mu * math.sqrt(2 * kl)).expand(rows, latents), torch.zeros(rows, latents).double()


def test_the_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, log_var = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    normal = torch.distributions.Normal
    prior = normal(torch.zeros(5).double(), torch.ones(5).double())
    theirs = torch.distributions.kl_divergence(normal(mu, (log_var / 2).exp()), prior)
    torch.testing.assert_close(gaussian_kl(mu, log_var), theirs)


def test_the_divergence_is_that_of_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, log_var = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    assert posterior_kl(mu, log_var).metrics["kl"] == pytest.approx(naive(mu, log_var), rel=1e-12)


def test_the_prior_itself_is_a_collapse_of_nothing_told() -> None:
    checkup = posterior_kl(torch.zeros(5, 4), torch.zeros(5, 4))
    assert checkup.verdict == "posterior-collapse"
    assert checkup.severity == "collapse"
    assert checkup.metrics["kl"] == 0
    assert checkup.metrics["idle_latents"] == 4


@pytest.mark.parametrize("reference", [None, 0.5, 3.0])
def test_the_limit_is_half_of_what_there_is_to_tell(reference: float | None) -> None:
    limit = LEAST_SHARE * (math.log(2) if reference is None else reference)
    assert posterior_kl(*signs(0.99 * limit), reference=reference).verdict == "posterior-collapse"
    assert posterior_kl(*signs(1.01 * limit), reference=reference).verdict == "healthy"


def test_what_there_is_to_tell_is_named_only_where_it_was_given() -> None:
    full, empty = signs(2.0), signs(0.1)
    assert posterior_kl(*full, reference=1.36).summary.endswith("; there are 1.36 nats to be told.")
    assert "at most 7% of the 1.36 nats" in posterior_kl(*empty, reference=1.36).sentence
    assert posterior_kl(*full).summary.endswith(
        "what there is to tell was not given; below half a bit (0.35 nats) would be called a "
        "collapse."
    )
    assert posterior_kl(*empty).sentence == (
        "The posterior is 0.100 nats from the prior, less than half a bit (0.35 nats); what there "
        "is to tell was not given."
    )


def test_the_limit_is_on_the_sum_over_latents() -> None:
    assert posterior_kl(*signs(0.1, latents=3)).verdict == "posterior-collapse"
    assert posterior_kl(*signs(0.1, latents=4)).verdict == "healthy"


def test_a_latent_that_carries_nothing_beside_one_that_does_is_a_note() -> None:
    mu, log_var = signs(2.0, latents=2)
    for kl, verdict in ((0.9 * IDLE_BELOW, "idle-latents"), (1.1 * IDLE_BELOW, "healthy")):
        scale = torch.tensor([1.0, math.sqrt(kl / 2.0)]).double()
        checkup = posterior_kl(mu * scale, log_var)
        assert checkup.verdict == verdict
    assert checkup.severity == "healthy"


def test_active_units_do_not_decide() -> None:
    # Means that vary by 0.02 pass for active, and tell a hundredth of a nat.
    checkup = posterior_kl(*signs(0.01))
    assert checkup.metrics["active_units"] == 1
    assert checkup.verdict == "posterior-collapse"
    # Variances alone tell something, and no mean varies.
    log_var = torch.tensor([-8.0, 0.0]).double().repeat(4)[:, None]
    checkup = posterior_kl(torch.zeros(8, 1).double(), log_var)
    assert checkup.metrics["active_units"] == 0
    assert checkup.verdict == "healthy"


def test_order_of_samples_and_latents_and_dtype_do_not_matter() -> None:
    mu, log_var = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    first = posterior_kl(mu, log_var)
    rows, columns = torch.tensor([3, 1, 5, 0, 2, 4]), torch.tensor([2, 0, 1])
    for one in (
        posterior_kl(mu[rows][:, columns], log_var[rows][:, columns]),
        posterior_kl(mu.double(), log_var.double()),
        posterior_kl(mu.numpy(), log_var.numpy()),
        posterior_kl(mu.clone().requires_grad_(), log_var),
    ):
        assert one.metrics == pytest.approx(first.metrics, rel=1e-6)
        assert one.verdict == first.verdict


def test_bad_input_is_named() -> None:
    good = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="mu and log_var must have the same shape"):
        posterior_kl(good, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="mu must be finite"):
        posterior_kl(torch.full((4, 2), float("nan")), good)
    with pytest.raises(TypeError, match="log_var must have a floating dtype"):
        posterior_kl(good, good.long())
    with pytest.raises(ValueError, match="mu needs at least 2 rows"):
        posterior_kl(good[:1], good[:1])
    with pytest.raises(ValueError, match="reference must be above 0"):
        posterior_kl(good, good, reference=0.0)
    with pytest.raises(ValueError, match="log_var must be the logarithm of a variance"):
        posterior_kl(good, torch.full((4, 2), 800.0))
