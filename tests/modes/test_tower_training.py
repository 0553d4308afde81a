"""Two towers on halves of images: the loss, its closed forms, and what a seed governs."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from repcollapse.modes import tower_laws, towers
from repcollapse.modes.runs import repeat


@pytest.fixture(scope="module")
def world():
    return towers.halves("digits", 900)


def unit(count, dimension, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimension, generator=generator).double(), dim=1)


def naive(u, v, tau):
    n, total = len(u), 0.0
    for i in range(n):
        ahead = sum(torch.exp((u[i] @ v[k] - u[i] @ v[i]) / tau) for k in range(n))
        back = sum(torch.exp((u[k] @ v[i] - u[i] @ v[i]) / tau) for k in range(n))
        total += (ahead.log() + back.log()) / (2 * n)
    return total


@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_the_loss_and_its_gradient_are_those_of_loops(tau):
    z = torch.stack([unit(6, 4, 0), unit(6, 4, 1)]).requires_grad_()
    ours, theirs = tower_laws.info_nce(*z, tau), naive(*z, tau)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, z)[0], torch.autograd.grad(theirs, z)[0])


@pytest.mark.parametrize("gap", [0.3, 1.0, 1.8])
@pytest.mark.parametrize("tau", [0.01, 0.2])
def test_a_gap_at_right_angles_is_a_higher_temperature(gap, tau):
    u, v = unit(40, 6, 0), unit(40, 6, 1)
    side = torch.full((40, 1), gap / 2, dtype=torch.float64)
    cosine = math.sqrt(1 - gap**2 / 4)
    lifted = torch.cat([cosine * u, side], 1), torch.cat([cosine * v, -side], 1)
    warmer = tower_laws.info_nce(u, v, tau / (1 - gap**2 / 4))
    torch.testing.assert_close(tower_laws.info_nce(*lifted, tau), warmer, rtol=1e-12, atol=0)


def test_the_pull_is_the_derivative_by_the_logarithm_of_the_temperature():
    u, v, step = unit(20, 5, 0), unit(20, 5, 1), 1e-5
    high, low = (float(tower_laws.info_nce(u, v, 0.1 * math.exp(s))) for s in (step, -step))
    assert tower_laws.pull(u, v, 0.1) == pytest.approx((high - low) / (2 * step), rel=1e-6)
    with torch.no_grad():
        assert tower_laws.pull(u, v, 0.1) != 0


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.3, 0.8])
def test_the_recursion_is_the_integral_over_gaussian_weights(rho):
    # x = r cos t, y = r cos(t - angle): the radius cancels, the angle is integrated.
    t = (np.arange(400000) + 0.5) / 400000 * 2 * math.pi
    x, y = np.cos(t), np.cos(t - math.acos(rho))
    integral = (np.maximum(x, 0) * np.maximum(y, 0)).mean() / (np.maximum(x, 0) ** 2).mean()
    assert tower_laws.relu_cosine(rho, 1) == pytest.approx(integral, abs=1e-9)


def test_the_recursion_climbs_to_one_and_stays():
    climb = [tower_laws.relu_cosine(0.0, layers) for layers in range(1, 200)]
    assert all(a < b < 1 for a, b in pairwise(climb))
    assert tower_laws.relu_cosine(1.0, 3) == pytest.approx(1)
    assert tower_laws.relu_cosine(-1.0, 1) == pytest.approx(0, abs=1e-12)
    assert tower_laws.relu_cosine(0.25, 0) == 0.25
    with pytest.raises(ValueError, match="cosine must be at least -1 and at most 1; got"):
        tower_laws.relu_cosine(1.5, 1)


def test_halves_are_the_two_sides_of_one_image(world):
    again = towers.halves("digits", 900)
    other = towers.halves("digits", 901)
    assert torch.equal(world.train_a, again.train_a)
    assert not torch.equal(world.train_a, other.train_a)
    both = torch.cat([world.train_a, world.train_b])
    assert float(both.mean()) == pytest.approx(0, abs=1e-5)
    from repcollapse.data import load

    image = load("digits", seed=900).test.images[0]
    sides = torch.cat([world.test_a[0].reshape(8, 4), world.test_b[0].reshape(8, 4)], dim=1)
    assert np.corrcoef(sides.flatten(), image.flatten())[0, 1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("start", ["random", "centred", "copy"])
def test_where_towers_start(world, start):
    torch.manual_seed(0)
    trained = towers.train(world, 0, steps=0, start=start)
    if start == "centred":
        assert trained.gap < 0.2
    else:
        assert trained.gap > 0.7
    with pytest.raises(ValueError, match="start must be one of"):
        towers.train(world, 0, steps=0, start="elsewhere")


def test_a_seed_governs_all_and_reading_changes_nothing(world):
    def arm(**options):
        return lambda seed: towers.train(world, seed, steps=6, **options)

    runs = repeat({"one": arm(), "two": arm(at=(2, 4))}, seeds=2, first_seed=900)
    one, two = runs.of("one"), runs.of("two")
    assert torch.equal(one[0].rows[6][0], two[0].rows[6][0])
    assert not torch.equal(one[0].rows[6][0], one[1].rows[6][0])
    assert list(two[0].rows) == [0, 2, 4, 6]
    assert runs.values("one", "gap")[900] == pytest.approx(one[0].checkup.metrics["gap"])
    assert runs.values("one", "first_gap")[900] == one[0].gaps[0]


def test_a_schedule_is_asked_for_the_share_of_steps_done(world):
    asked = []

    def schedule(done):
        asked.append(done)
        return 0.1

    towers.train(world, 0, steps=4, temperature=schedule)
    assert set(asked) == {0, 0.25, 0.5, 0.75, 1}
    falling = tower_laws.annealed(0.2, 0.01)
    assert [falling(done) for done in (0, 0.5, 1)] == pytest.approx(
        [0.2, math.sqrt(0.2 * 0.01), 0.01]
    )


def test_mean_matching_adds_the_squared_gap_and_a_reader_needs_one_space():
    u, v = unit(64, 4, 0), unit(64, 4, 1)
    gap = (u.mean(dim=0) - v.mean(dim=0)).norm()
    extra = tower_laws.mean_matching(10)(u, v, 0.1) - tower_laws.info_nce(u, v, 0.1)
    assert float(extra) == pytest.approx(10 * float(gap) ** 2)
    classes = (u[:, 0] > 0).long()
    one, two = (towers.Trained({0: (u, side)}, {0: 0.0}, classes, 0) for side in (u, -u))
    assert one.own_reader == two.own_reader == one.other_reader > 0.75
    assert two.other_reader < 0.25
