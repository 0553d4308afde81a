"""Runs over arms and seeds, and the loop that fits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from repcollapse.modes.runs import fit, repeat


def drawn(seed: int) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, drawn=float(torch.rand(())))


def test_every_arm_runs_on_every_seed_and_two_arms_start_from_the_same_numbers() -> None:
    runs = repeat({"one": drawn, "other": drawn}, seeds=3, first_seed=7)
    assert (runs.arms, runs.seeds) == (["one", "other"], [7, 8, 9])
    assert runs.values("one", "seed") == {7: 7.0, 8: 8.0, 9: 9.0}
    assert runs.values("one", "drawn") == runs.values("other", "drawn")
    assert len(set(runs.values("one", "drawn").values())) == 3


def test_the_global_generator_is_put_back() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(())
    repeat({"one": drawn}, seeds=2)
    assert torch.equal(torch.stack([first, torch.rand(())]), expected)


@pytest.mark.parametrize(("seeds", "arms"), [(0, {"one": drawn}), (1, {})])
def test_runs_need_a_seed_and_an_arm(seeds: int, arms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(seeds|arms) must"):
        repeat(arms, seeds=seeds)  # type: ignore[arg-type]


def test_an_arm_that_is_not_there_is_named() -> None:
    runs = repeat({"one": drawn}, seeds=1)
    with pytest.raises(ValueError, match="arm must be one of"):
        runs.of("two")
    with pytest.raises(ValueError, match="arm must be one of"):
        runs.values("two", "seed")


def test_a_fit_is_plain_gradient_descent() -> None:
    x = torch.tensor([4.0], requires_grad=True)
    losses = fit([x], lambda step: x.square().sum(), steps=3, lr=0.25, optimiser=torch.optim.SGD)
    assert losses.tolist() == [16.0, 4.0, 1.0]
    assert x.item() == 0.5


def test_it_is_watched_before_a_step_and_after_the_last_without_gradients() -> None:
    x = torch.tensor([4.0], requires_grad=True)
    seen = []

    def watch(step: int) -> None:
        seen.append((step, x.item(), torch.is_grad_enabled()))

    fit(
        [x],
        lambda step: x.square().sum(),
        steps=2,
        lr=0.25,
        optimiser=torch.optim.SGD,
        watch=watch,
        at=[0, 2],
    )
    assert seen == [(0, 4.0, False), (2, 1.0, False)]


def test_a_loss_that_is_not_finite_ends_it_with_the_step() -> None:
    x = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(FloatingPointError, match="nan at step 3"):
        fit([x], lambda step: x.sum() * (float("nan") if step == 3 else 1), steps=9, lr=0.1)
