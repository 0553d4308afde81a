"""What two towers minimise, against loops over single numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from repcollapse.modes.tower_losses import annealed, info_nce, mean_matching

NAN = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])


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
    ours, theirs = info_nce(*z, temperature=tau), naive(*z, tau)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, z)[0], torch.autograd.grad(theirs, z)[0])


def test_mean_matching_adds_the_squared_gap():
    u, v = unit(64, 4, 0), unit(64, 4, 1)
    gap = float((u.mean(dim=0) - v.mean(dim=0)).norm())
    extra = mean_matching(10)(u, v, temperature=0.1) - info_nce(u, v, temperature=0.1)
    assert float(extra) == pytest.approx(10 * gap**2)


def test_an_annealed_temperature_falls_by_equal_factors():
    falling = annealed(0.2, 0.01)
    assert [falling(done) for done in (0, 0.5, 1)] == pytest.approx(
        [0.2, math.sqrt(0.2 * 0.01), 0.01]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_matching(-1), "weight must be at least 0"),
        (lambda: annealed(0, 1), "start must be above 0"),
        (lambda: annealed(1, 0), "end must be above 0"),
        (lambda: info_nce(torch.eye(2), torch.eye(3), temperature=1), "u and v must have the same"),
        (lambda: info_nce(torch.ones(3), torch.ones(3), temperature=1), "u must have shape"),
        (lambda: info_nce(torch.eye(1), torch.eye(1), temperature=1), "u needs at least 2 rows"),
        (lambda: info_nce(torch.eye(2), NAN, temperature=1), "v must be finite; row 1 holds NaN"),
        (
            lambda: info_nce(torch.eye(2), torch.eye(2), temperature=0),
            "temperature must be above 0",
        ),
        (
            lambda: info_nce(torch.eye(2), torch.eye(2), temperature=torch.tensor(-1.0)),
            "temperature must be above 0; got -1.0",
        ),
        (
            lambda: info_nce(torch.eye(2), torch.eye(2), temperature=torch.ones(1)),
            r"temperature must be a number or a scalar; got shape \(1,\)",
        ),
        (
            lambda: mean_matching(1)(torch.eye(2), torch.eye(3), temperature=1),
            "u and v must have the same",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_temperature_that_is_learned_gets_its_gradient():
    u, v = unit(6, 4, 0), unit(6, 4, 1)
    tau = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(info_nce(u, v, temperature=tau), tau)
    (theirs,) = torch.autograd.grad(naive(u, v, tau), tau)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", ["0.1", True, None])
def test_a_temperature_is_a_number(temperature):
    with pytest.raises(TypeError, match="temperature must be a number"):
        info_nce(torch.eye(2), torch.eye(2), temperature=temperature)
