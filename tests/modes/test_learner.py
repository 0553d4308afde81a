"""A small classifier: what is drawn anew, what is recycled, and what a pull adds."""

from __future__ import annotations

import pytest
import torch

from repcollapse.checkups import unit_scores
from repcollapse.modes import learner


def trained(norm: str = "none") -> tuple[learner.Learner, torch.optim.Adam, torch.Tensor]:
    torch.manual_seed(0)
    model = learner.Learner(12, norm=norm)
    adam = torch.optim.Adam(model.parameters())
    x = torch.randn(50, 12)
    for _ in range(3):
        adam.zero_grad()
        model(x).square().mean().backward()
        adam.step()
    return model, adam, x


def test_recycling_wakes_the_silent_and_leaves_the_rest() -> None:
    model, adam, x = trained()
    first, second, _ = model.linear
    with torch.no_grad():
        first.bias[:5] = -100  # five units that answer to nothing
    before = first.weight.detach().clone()
    said = model(x)
    low, later = (unit_scores(layer) <= learner.RECYCLED for layer in model.hidden(x))
    assert learner.redo(model, adam, x) == int(low.sum() + later.sum())
    assert int(low.sum()) >= 5
    assert bool((unit_scores(model.hidden(x)[0])[:5] > 0).all())
    assert bool((second.weight[~later, :5] == 0).all())
    alive = unit_scores(model.hidden(x)[0]) > learner.RECYCLED
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
    other = learner.Learner(12, norm=norm)
    torch.manual_seed(5)
    learner.shrink_and_perturb(model, adam, kept=kept)
    for weight, old, new in zip(model.parameters(), before, other.parameters(), strict=True):
        torch.testing.assert_close(weight, kept * old + (1 - kept) * new)
    assert not adam.state


def test_l2_init_pulls_to_the_beginning_and_infer_to_scaled_heads() -> None:
    model, _, x = trained()
    heads = torch.nn.Linear(learner.WIDTH, learner.HEADS, bias=False)
    hidden = model.hidden(x)[-1]
    held = learner.penalty(learner.Setting(l2_init=0.5), model, heads, x)
    assert held(hidden).item() == 0
    with torch.no_grad():
        model.linear[0].weight += 2
    moved = 4 * model.linear[0].weight.numel()
    assert held(hidden).item() == pytest.approx(0.5 * moved, rel=1e-4)
    (slope,) = torch.autograd.grad(held(hidden), model.linear[0].weight)
    torch.testing.assert_close(slope, torch.full_like(slope, 2 * 0.5 * 2))
    kept = learner.penalty(learner.Setting(infer=0.1), model, heads, x)
    now = model.hidden(x)[-1].detach()
    expected = 0.1 * (9 * heads(now)).square().mean()  # heads against ten times them
    assert kept(now).item() == pytest.approx(expected.item(), rel=1e-4)
    both = learner.penalty(learner.Setting(l2_init=0.5, infer=0.1), model, heads, x)
    assert both(now).item() == pytest.approx(expected.item(), rel=1e-4)
    assert learner.penalty(learner.ARMS["ReDo"], model, heads, x)(hidden).item() == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"norm": "batch"}, "norm must be one of"),
        ({"l2_init": -1.0}, "l2_init must be at least 0; got -1.0"),
        ({"infer": float("inf")}, "infer must be"),
        ({"redo_every": -40}, "redo_every must be at least 0; got -40"),
        ({"kept": 1.5}, "kept must be at least 0 and at most 1; got 1.5"),
    ],
)
def test_a_setting_of_another_kind_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner.Setting(**wrong)  # type: ignore[arg-type]


def test_every_arm_is_another_setting() -> None:
    assert len(set(learner.ARMS.values())) == len(learner.ARMS) == 8
