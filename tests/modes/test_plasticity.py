"""The stream of tasks: what is drawn anew, what is recycled, and what each means adds."""

from __future__ import annotations

import pytest
import torch

from repcollapse.checkups.units import unit_scores
from repcollapse.modes import plasticity


def trained(norm: str = "none") -> tuple[plasticity.Learner, torch.optim.Adam, torch.Tensor]:
    torch.manual_seed(0)
    model = plasticity.Learner(12, norm=norm)
    adam = torch.optim.Adam(model.parameters())
    x = torch.randn(50, 12)
    for _ in range(3):
        adam.zero_grad()
        model(x).square().mean().backward()
        adam.step()
    return model, adam, x


def test_images_are_standardised_rows_and_a_pixel_without_ink_stays_zero() -> None:
    x = plasticity.images("digits", 3)
    assert x.shape == (plasticity.IMAGES, 64)
    spread = x.std(dim=0)
    assert bool(((spread - 1).abs() < 1e-5).logical_or(spread == 0).all())
    assert bool((spread == 0).any()), "the corners of the digits are blank"


def test_recycling_wakes_the_silent_and_leaves_the_rest() -> None:
    model, adam, x = trained()
    first, second, _ = model.linear
    with torch.no_grad():
        first.bias[:5] = -100  # five units that answer to nothing
    before = first.weight.detach().clone()
    said = model(x)
    low, later = (unit_scores(layer) <= plasticity.RECYCLED for layer in model.hidden(x))
    assert plasticity.recycle(model, adam, x) == int(low.sum() + later.sum())
    assert int(low.sum()) >= 5
    assert bool((unit_scores(model.hidden(x)[0])[:5] > 0).all())
    assert bool((second.weight[~later, :5] == 0).all())
    alive = unit_scores(model.hidden(x)[0]) > plasticity.RECYCLED
    kept = alive & (first.weight == before).all(dim=1)
    assert int(kept.sum()) >= 50
    assert bool((adam.state[first.weight]["exp_avg"][:5] == 0).all())
    assert bool((adam.state[second.weight]["exp_avg_sq"][:, :5] == 0).all())
    torch.testing.assert_close(model(x), said, atol=0.05, rtol=0)  # silent ones said nothing


@pytest.mark.parametrize(("kept", "norm"), [(0.0, "none"), (0.4, "none"), (0.4, "layer")])
def test_a_fresh_start_keeps_a_share_of_the_weights(kept: float, norm: str) -> None:
    model, adam, _ = trained(norm)
    before = [weight.detach().clone() for weight in model.parameters()]
    torch.manual_seed(5)
    other = plasticity.Learner(12, norm=norm)
    torch.manual_seed(5)
    plasticity.fresh_start(model, adam, kept=kept)
    for weight, old, new in zip(model.parameters(), before, other.parameters(), strict=True):
        torch.testing.assert_close(weight, kept * old + (1 - kept) * new)
    assert not adam.state


@pytest.mark.parametrize("method", plasticity.METHODS)
def test_a_life_repeats_itself_and_is_read_after_every_task(method: str) -> None:
    lives = []
    for _ in range(2):
        torch.manual_seed(1)
        lives.append(plasticity.live(method, 1, steps=2))
    one, other = lives
    assert one.history.tolist() == other.history.tolist()
    assert one.history[:, 0].tolist() == list(range(1, plasticity.TASKS + 1))
    assert one.activations[plasticity.TASKS].shape == (plasticity.IMAGES, plasticity.WIDTH)
    assert one.late == pytest.approx(one.history[-5:, 1].mean())


def test_l2_init_pulls_to_the_beginning_and_infer_to_scaled_heads() -> None:
    model, _, x = trained()
    heads = torch.nn.Linear(plasticity.WIDTH, plasticity.HEADS, bias=False)
    hidden = model.hidden(x)[-1]
    held = plasticity._penalty("l2 init", model, heads, x)
    assert held(hidden).item() == 0
    with torch.no_grad():
        model.linear[0].weight += 2
    moved = 4 * model.linear[0].weight.numel()
    assert held(hidden).item() == pytest.approx(plasticity.L2 * moved, rel=1e-4)
    kept = plasticity._penalty("infer", model, heads, x)
    model.zero_grad()
    now = model.hidden(x)[-1].detach()
    expected = plasticity.INFER * (9 * heads(now)).square().mean()  # heads against ten times them
    assert kept(now).item() == pytest.approx(expected.item(), rel=1e-4)


def test_adam_alone_loses_what_a_fresh_network_keeps() -> None:
    torch.manual_seed(0)
    worn = plasticity.live("plain", 0, steps=40)
    torch.manual_seed(0)
    fresh = plasticity.live("reset", 0, steps=40)
    assert worn.late < fresh.late - 0.2
    assert worn.dormant > fresh.dormant + 0.1


@pytest.mark.parametrize(
    ("method", "steps", "message"),
    [("prayer", 2, "method must be one of"), ("plain", 0, "steps must be")],
)
def test_other_means_and_lengths_are_refused(method: str, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plasticity.live(method, 0, steps=steps)
