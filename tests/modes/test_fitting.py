"""The loop that fits, and the search for a minimum."""

from __future__ import annotations

import pytest
import torch

from repcollapse.modes.fitting import fit, minimise


def test_a_fit_is_plain_gradient_descent() -> None:
    x = torch.tensor([4.0], requires_grad=True)
    losses = fit(torch.optim.SGD([x], lr=0.25), lambda step: x.square().sum(), steps=3)
    assert losses.tolist() == [16.0, 4.0, 1.0]
    assert x.item() == 0.5


def test_it_is_watched_before_a_step_and_after_the_last_without_gradients() -> None:
    x = torch.tensor([4.0], requires_grad=True)
    seen = []

    def watch(step: int) -> None:
        seen.append((step, x.item(), torch.is_grad_enabled()))

    descent = torch.optim.SGD([x], lr=0.25)
    fit(descent, lambda step: x.square().sum(), steps=2, watch=watch, at=[0, 2])
    assert seen == [(0, 4.0, False), (2, 1.0, False)]


def test_a_schedule_moves_the_rate_after_every_step() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    descent = torch.optim.SGD([x], lr=1.0)
    halving = torch.optim.lr_scheduler.ExponentialLR(descent, 0.5)
    losses = fit(descent, lambda step: x.sum(), steps=3, schedule=halving)
    assert losses.tolist() == [1.0, 0.0, -0.5]
    assert descent.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize("step", [3, -1])
def test_a_step_that_is_never_reached_is_refused(step: int) -> None:
    x = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match=f"at must be .* got {step}"):
        fit(torch.optim.SGD([x]), lambda _: x.sum(), steps=2, watch=print, at=[0, step])
    assert x.item() == 1.0


def test_a_loss_that_is_not_finite_ends_it_with_the_step() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    adam = torch.optim.Adam([x], lr=0.1)
    with pytest.raises(FloatingPointError, match="nan at step 3"):
        fit(adam, lambda step: x.sum() * (float("nan") if step == 3 else 1), steps=9)


def test_a_minimum_is_found_in_place_over_parameters_of_any_shape() -> None:
    """Of |a - 1|^2 + 100 |b - a a|^2, as Rosenbrock has it."""
    a = torch.full((2, 1), -1.2, dtype=torch.float64, requires_grad=True)
    b = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        return (a - 1).square().sum() + 100 * (b.T - a.square()).square().sum()

    least = minimise(loss, [a, b], iterations=200, gradient=1e-10)
    assert least == loss().item() < 1e-16
    torch.testing.assert_close(a.detach(), torch.ones(2, 1, dtype=torch.float64))
    torch.testing.assert_close(b.detach(), torch.ones(1, 2, dtype=torch.float64))


def test_a_minimum_is_looked_for_no_longer_than_allowed() -> None:
    a = torch.full((2,), -1.2, dtype=torch.float64, requires_grad=True)
    calls = []

    def loss() -> torch.Tensor:
        calls.append(1)
        return (a[0] - 1) ** 2 + 100 * (a[1] - a[0] ** 2) ** 2

    found = [minimise(loss, [a], iterations=count, gradient=0.0) for count in (2, 1)]
    assert len(calls) <= 8 and found[0] > 0.1
    minimise(loss, [a], iterations=200, gradient=1e9)  # flat enough where it is
    assert len(calls) <= 9


def test_a_minimum_needs_float64_and_finite_values() -> None:
    single = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match="parameters must be one tensor or more of float64"):
        minimise(single.sum, [single], iterations=5, gradient=0.0)
    with pytest.raises(TypeError, match=r"parameters must be .*; got \[\]"):
        minimise(single.sum, [], iterations=5, gradient=0.0)
    double = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match="parameters must require a gradient"):
        minimise(double.sum, [double, double.detach()], iterations=5, gradient=0.0)
    with pytest.raises(FloatingPointError, match="loss must stay finite; it is nan"):
        minimise(lambda: (double - 2).sqrt().sum(), [double], iterations=5, gradient=0.0)
