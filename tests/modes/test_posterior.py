"""The VAE: decoders that cannot peek, what a setting changes, and what is read."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from repcollapse.modes import posterior
from repcollapse.modes.coins import Running, toss
from repcollapse.modes.pixels import Masked
from repcollapse.modes.posterior import VAE, Setting, train_vae


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
    _, kl = vae.terms(toss(50, 6)[0])
    assert kl.min() >= 0.5 * (0.25 - math.log(0.25) - 1) - 1e-6


@pytest.mark.parametrize(("free", "counts"), [(0.0, True), (50.0, False)])
def test_free_nats_take_the_divergence_from_the_loss_below_them(free: float, counts: bool) -> None:
    ends = []
    for weight in (0.0, 10.0):
        torch.manual_seed(1)
        vae = VAE(6, 1, Running(blind=True))
        batch = partial(torch.clone, toss(4, 6)[0])
        train_vae(vae, batch, Setting(free=free, weight=weight), steps=3, lr=4e-2)
        ends.append(torch.cat([p.flatten() for p in vae.encoder.parameters()]))
    assert torch.equal(*ends) is not counts


def test_a_hidden_past_is_hidden_from_the_share_asked_for() -> None:
    class Noting(Running):
        seen: float = 0

        def forward(self, z: torch.Tensor, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
            assert torch.equal(keep, keep[:, :1].expand_as(keep))
            self.seen = float(keep.mean())
            return super().forward(z, x, keep)

    for hide in (0.0, 0.3, 1.0):
        torch.manual_seed(0)
        vae = VAE(6, 1, Noting())
        train_vae(vae, lambda: toss(5000, 6)[0], Setting(hide=hide), steps=1, lr=1e-3)
        assert vae.decoder.seen == pytest.approx(1 - hide, abs=0.02)


def test_the_weight_may_follow_the_training() -> None:
    asked: list[float] = []

    def weight(over: float) -> float:
        asked.append(over)
        return over

    torch.manual_seed(0)
    vae = VAE(6, 1, Running(hidden=4))
    train_vae(vae, lambda: toss(4, 6)[0], Setting(weight=weight), steps=8, lr=4e-2)
    assert asked == [step / 8 for step in range(8)]


def test_a_decoder_rests_in_the_steps_in_which_a_batch_says_so() -> None:
    torch.manual_seed(0)
    vae = VAE(6, 1, Running(hidden=4))
    places: list[list[torch.Tensor]] = []
    moving = [True, False, False, False, True, False, True, True]

    def batch() -> torch.Tensor:
        vae.decoder.requires_grad_(moving[len(places)])
        places.append([torch.cat([p.detach().flatten() for p in m.parameters()]) for m in parts])
        return toss(4, 6)[0]

    parts = (vae.decoder, vae.encoder)
    train_vae(vae, batch, Setting(), steps=8, lr=4e-2)
    places.append([torch.cat([p.detach().flatten() for p in m.parameters()]) for m in parts])
    steps = list(itertools.pairwise(places))
    assert [not torch.equal(old[0], new[0]) for old, new in steps] == moving
    assert all(not torch.equal(old[1], new[1]) for old, new in steps)


def test_the_rate_falls_over_the_second_half() -> None:
    class Slope(VAE):
        def terms(
            self, x: torch.Tensor, keep: torch.Tensor | None = None
        ) -> tuple[torch.Tensor, torch.Tensor]:
            way.append(self.at.item())
            return self.at.expand(len(x)), torch.zeros(len(x))

    way: list[float] = []
    vae = Slope(6, 1, Running())
    vae.at = torch.nn.Parameter(torch.tensor(0.0))
    train_vae(vae, lambda: toss(4, 6)[0], Setting(), steps=12, lr=0.5)
    rates = [0.5] * 7 + [0.5 * left / 6 for left in (5, 4, 3, 2, 1)]
    assert -np.diff([*way, vae.at.item()]) == pytest.approx(rates, rel=1e-4)


@pytest.mark.parametrize(
    ("trace", "peak"),
    [
        ([1.0] * 30, 1.0),
        ([0.0] * 15 + [10.0] + [0.0] * 15, 1.0),
        ([0.0] * 8 + [2.0] * 10, 2.0),
        ([1.0, 2.0, 6.0], 3.0),
        ([4.0], 4.0),
    ],
)
def test_the_peak_is_of_ten_batches_or_of_all(trace: list[float], peak: float) -> None:
    nothing = torch.empty(0)
    found = posterior.Trained(
        kl=0.0, nats=0.0, trace=np.array(trace), mu=nothing, log_var=nothing, draw=nothing
    )
    assert found.peak == pytest.approx(peak)
    assert math.isnan(replace(found, trace=np.empty(0)).peak)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"weight": -1.0}, "weight must be at least 0; got -1.0"),
        ({"free": -0.1}, "free must be at least 0"),
        ({"hide": 1.5}, "hide must be at least 0 and at most 1"),
        ({"variance": 0.0}, "variance must be above 0"),
    ],
)
def test_a_setting_of_another_kind_is_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Setting(**wrong)
