"""Coins of unknown bias: closed forms, what is read, and what a seed governs."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from repcollapse.modes import coins
from repcollapse.modes.coins import Running
from repcollapse.modes.posterior import VAE, Setting, train_vae
from repcollapse.modes.runs import once


def test_probabilities_of_tosses_sum_to_one_and_are_laplaces() -> None:
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    log_p = coins.log_evidence(x)
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
        log_p = coins.log_evidence(x)
        entropy = -(log_p.exp() * log_p).sum().item()
        within = tosses * -(bias * bias.log() + (1 - bias) * (1 - bias).log()).mean().item()
        assert coins.information(tosses) == pytest.approx(entropy - within, abs=1e-6)


def test_a_run_follows_from_its_seed_and_leaves_the_generators_alone() -> None:
    hidden = partial(coins.train, Setting(hide=0.5), steps=8, tosses=6)
    torch.manual_seed(5)
    first = once(hidden, 3)
    torch.rand(1)
    state = torch.get_rng_state()
    again = once(hidden, 3)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(first.trace, again.trace)
    assert torch.equal(first.mu, again.mu) and first.nats == again.nats
    assert (once(hidden, 4).trace != first.trace).any()


def test_weights_are_the_generators_and_the_coins_that_are_read_the_seeds() -> None:
    torch.manual_seed(1)
    one = coins.train(Setting(), 3, steps=0, tosses=6)
    other = coins.train(Setting(), 3, steps=0, tosses=6)
    torch.manual_seed(1)
    elsewhere = coins.train(Setting(), 4, steps=0, tosses=6)
    assert torch.equal(one.heads, other.heads) and not torch.equal(one.mu, other.mu)
    assert not torch.equal(one.heads, elsewhere.heads)


def test_a_run_is_read_on_the_same_coins_whatever_the_setting() -> None:
    plain, blind = (
        once(partial(coins.train, setting, steps=12, tosses=6), 5)
        for setting in (Setting(), Setting(hide=0.5, blind=True))
    )
    assert torch.equal(plain.heads, blind.heads)
    for one in (plain, blind):
        assert one.trace.shape == (12,) and one.mu.shape == one.draw.shape == (4000, 1)
        assert one.nats == pytest.approx(one.excess + 6 * 0.5 + coins.information(6), abs=0.1)


def test_what_is_read_of_a_vae_whose_latent_is_the_share_of_heads() -> None:
    torch.manual_seed(0)
    x, bias = coins.toss(2000, 32)
    vae = VAE(32, 1, Running(), variance=1e-8)
    for parameter in vae.encoder.parameters():
        torch.nn.init.zeros_(parameter)
    vae.encoder[0].weight.data[0], vae.encoder[0].bias.data[0] = 1 / 32, 1.0
    vae.encoder[-1].weight.data[0, 0] = 1.0
    found = coins.read(vae, x, bias, np.empty(0))
    torch.testing.assert_close(found.mu[:, 0], found.heads / 16, atol=1e-5, rtol=0)
    assert found.probe_of_mean == pytest.approx(found.probe_of_draw, abs=1e-3)
    assert found.probe_of_mean == pytest.approx(32 / 34, abs=0.02)  # 1 - E var(bias|x) / var(bias)
    assert found.excess > 0 and math.isnan(found.peak)


def test_a_probe_is_one_for_a_copy_and_about_zero_for_noise() -> None:
    torch.manual_seed(0)
    target = torch.rand(2000)
    assert coins.probe(3 * target[:, None] - 1, target) == pytest.approx(1)
    assert coins.probe(torch.randn(2000, 1), target) == pytest.approx(0, abs=0.02)


def test_steps_that_are_no_count_are_refused() -> None:
    vae = VAE(6, 1, Running())
    for steps, error in ((-1, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match="steps must be"):
            coins.train(Setting(), 0, steps=steps)
        with pytest.raises(error, match="steps must be"):
            train_vae(vae, lambda: coins.toss(4, 6)[0], Setting(), steps=steps, lr=1e-3)


def test_coins_without_tosses_are_refused() -> None:
    with pytest.raises(ValueError, match="tosses must be at least 1; got 0"):
        coins.information(0)
    with pytest.raises(ValueError, match="tosses must be at least 1; got 0"):
        coins.train(Setting(), 0, steps=1, tosses=0)
