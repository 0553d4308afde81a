"""The worlds of posterior collapse: closed forms, decoders that cannot peek, seeds."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from repcollapse.checkups.latents import gaussian_kl
from repcollapse.modes import linear_vae, posterior
from repcollapse.modes.posterior import VAE, Masked, Running


def test_the_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    mu, log_var = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    normal = torch.distributions.Normal
    prior = normal(torch.zeros(5).double(), torch.ones(5).double())
    theirs = torch.distributions.kl_divergence(normal(mu, (log_var / 2).exp()), prior)
    torch.testing.assert_close(gaussian_kl(mu, log_var), theirs)


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
    assert found.singular_value_error < 1e-4
    assert found.kl_error < 1e-3
    x = torch.linalg.cholesky(covariance) @ torch.randn(6, 4000, dtype=torch.float64)
    mu, log_var = found.posterior(x.T)
    total = gaussian_kl(mu, log_var).sum(dim=1).mean().item()
    assert total == pytest.approx(found.kl.sum(), rel=0.1, abs=1e-3)


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


def test_probabilities_of_tosses_sum_to_one_and_are_laplaces() -> None:
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    log_p = posterior.log_evidence(x)
    assert log_p.exp().sum().item() == pytest.approx(1, rel=1e-12)
    for row, expected in zip(x.tolist(), log_p.tolist(), strict=True):
        said, heads = 0.0, 0.0
        for t, toss in enumerate(row):
            rule = (heads + 1) / (t + 2)
            said += math.log(rule if toss else 1 - rule)
            heads += toss
        assert said == pytest.approx(expected, rel=1e-12)


def test_the_information_is_that_of_a_sum_over_all_tosses() -> None:
    bias = (torch.arange(20000).double() + 0.5) / 20000
    for tosses in (1, 4):
        x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=tosses))).double()
        log_p = posterior.log_evidence(x)
        entropy = -(log_p.exp() * log_p).sum().item()
        within = tosses * -(bias * bias.log() + (1 - bias) * (1 - bias).log()).mean().item()
        assert posterior.information(tosses) == pytest.approx(entropy - within, abs=1e-6)


@pytest.mark.parametrize("decoder", [Running(2), Masked(6, 2, hidden=24)])
def test_a_decoder_sees_the_past_and_nothing_else(decoder: torch.nn.Module) -> None:
    x = torch.bernoulli(torch.full((3, 6), 0.5), generator=torch.Generator().manual_seed(0))
    z, keep = torch.randn(3, 2), torch.ones(3, 6)
    before = decoder(z, x, keep)
    for t in range(6):
        flipped = x.clone()
        flipped[:, t] = 1 - flipped[:, t]
        moved = (decoder(z, flipped, keep) - before).abs().amax(dim=0) > 1e-7
        assert not moved[: t + 1].any(), t
        assert t == 5 or moved[t + 1 :].any(), t
        hidden = torch.zeros(3, 6)
        torch.testing.assert_close(decoder(z, flipped, hidden), decoder(z, x, hidden))


@pytest.mark.parametrize("decoder", [Running(2, blind=True), Masked(6, 2, hidden=24, blind=True)])
def test_a_blind_decoder_sees_the_latent_alone(decoder: torch.nn.Module) -> None:
    z, keep = torch.randn(3, 2), torch.ones(3, 6)
    ones, zeros = decoder(z, torch.ones(3, 6), keep), decoder(z, torch.zeros(3, 6), keep)
    torch.testing.assert_close(ones, zeros)
    assert not torch.allclose(ones, decoder(z + 1, torch.ones(3, 6), keep))


def test_a_fixed_variance_is_a_floor_under_the_divergence() -> None:
    torch.manual_seed(0)
    vae = VAE(6, 1, Running(), variance=0.25)
    x, _ = posterior.toss(50, 6)
    _, kl = vae.terms(x)
    assert kl.min() >= 0.5 * (0.25 - math.log(0.25) - 1) - 1e-6


@pytest.mark.parametrize(("free", "counts"), [(0.0, True), (50.0, False)])
def test_free_nats_take_the_divergence_from_the_loss_below_them(free: float, counts: bool) -> None:
    ends = []
    for weight in (0.0, 10.0):
        torch.manual_seed(1)
        vae = VAE(6, 1, Running(blind=True))
        x, _ = posterior.toss(4, 6)
        posterior.train(vae, partial(torch.clone, x), steps=3, free=free, weight=weight)
        ends.append(torch.cat([p.flatten() for p in vae.encoder.parameters()]))
    assert torch.equal(*ends) is not counts


def test_a_run_is_read_on_the_same_coins_whatever_the_arm() -> None:
    found = []
    for hide, blind in ((0.0, False), (0.5, True)):
        torch.manual_seed(5)
        found.append(posterior.run_coins(12, tosses=6, hide=hide, blind=blind))
    assert torch.equal(found[0].heads, found[1].heads)
    for one in found:
        assert one.trace.shape == (12,)
        assert one.nats == pytest.approx(one.excess + 6 * 0.5 + posterior.information(6), abs=0.1)
        assert one.peak <= one.trace.max()


def test_explained_is_one_for_a_copy_and_about_zero_for_noise() -> None:
    torch.manual_seed(0)
    target = torch.rand(2000)
    assert posterior.explained(3 * target[:, None] - 1, target) == pytest.approx(1)
    assert posterior.explained(torch.randn(2000, 1), target) == pytest.approx(0, abs=0.02)


def test_pixels_run_through_on_digits() -> None:
    torch.manual_seed(0)
    found = posterior.run_pixels("digits", 3, 4)
    assert found.mu.shape == (497, 8)
    assert math.isnan(found.excess)
    assert 0 < found.kl < found.nats < 100


def test_training_follows_the_global_seed_and_nothing_else() -> None:
    traces = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        vae = VAE(8, 1, Running(hidden=4))
        traces.append(posterior.train(vae, lambda: posterior.toss(8, 8)[0], steps=8, hide=0.5))
    np.testing.assert_array_equal(traces[0], traces[1])
    assert (traces[0] != traces[2]).any()


def test_the_weight_may_follow_the_training() -> None:
    asked: list[float] = []

    def weight(over: float) -> float:
        asked.append(over)
        return over

    torch.manual_seed(0)
    vae = VAE(6, 1, Running(hidden=4))
    posterior.train(vae, lambda: posterior.toss(4, 6)[0], steps=8, weight=weight)
    assert asked == [step / 8 for step in range(8)]
