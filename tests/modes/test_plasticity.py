"""The stream of tasks: what is drawn anew, what is recycled, and what each means adds."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from repcollapse.checkups import unit_scores
from repcollapse.data import load
from repcollapse.modes import plasticity
from repcollapse.modes.runs import once


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


def run(arm: str, seed: int, *, steps: int) -> plasticity.Trained:
    return once(partial(plasticity.train, arm, steps=steps, device="cpu"), seed)


def test_images_are_rows_about_the_mean_picture() -> None:
    x = plasticity.images("digits", 3)
    assert x.shape == (plasticity.IMAGES, 64)
    raw = load("digits", seed=3).train.images.flatten(1)
    about = raw - raw.mean(dim=0)
    expected = about[: plasticity.IMAGES] / about.square().mean().sqrt()
    torch.testing.assert_close(x, expected)


def test_tasks_are_random_labels_that_a_seed_and_nothing_else_governs() -> None:
    labels = plasticity.tasks(2000, 0)
    assert labels.shape == (plasticity.TASKS, 2000)
    share = torch.stack([(labels == k).double().mean(dim=1) for k in range(plasticity.CLASSES)])
    assert float((share - 0.1).abs().max()) < 0.04
    alike = (labels[1:] == labels[:-1]).double().mean(dim=1)
    assert float(alike.max()) < 0.14
    torch.manual_seed(0)
    assert torch.equal(labels, plasticity.tasks(2000, 0))
    assert not torch.equal(labels, plasticity.tasks(2000, 1))


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


@pytest.mark.parametrize("arm", plasticity.ARMS)
def test_a_run_repeats_itself_and_is_read_after_every_task(arm: str) -> None:
    one, other = (run(arm, 1, steps=2) for _ in range(2))
    assert one.history.equals(other.history)
    assert one.history["task"].tolist() == list(range(1, plasticity.TASKS + 1))
    assert list(one.activations) == one.history["task"].tolist()
    assert one.activations[plasticity.TASKS].shape == (plasticity.IMAGES, plasticity.WIDTH)


def test_readings_are_of_the_first_task_and_of_the_last_five() -> None:
    found = run("Adam alone", 1, steps=3)
    accuracy = found.history["accuracy"].tolist()
    assert found.first == accuracy[0]
    assert found.late == pytest.approx(sum(accuracy[-5:]) / 5)
    assert (found.dormant_first, found.dormant) == (
        found.history["dormant"].iloc[0],
        found.history["dormant"].iloc[-1],
    )
    rank = found.history["rank"].tolist()
    assert found.rank_kept == pytest.approx(rank[-1] / rank[0])


def test_units_are_recycled_every_forty_steps_and_not_after_the_last(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(plasticity, "recycle", lambda *_: seen.append(1))
    run("ReDo", 0, steps=10)  # 140 steps in all
    assert len(seen) == 3
    run("ReDo", 0, steps=20)  # 280, which is seven times 40
    assert len(seen) == 3 + 6
    run("Adam alone", 0, steps=10)
    assert len(seen) == 9


def test_l2_init_pulls_to_the_beginning_and_infer_to_scaled_heads() -> None:
    model, _, x = trained()
    heads = torch.nn.Linear(plasticity.WIDTH, plasticity.HEADS, bias=False)
    hidden = model.hidden(x)[-1]
    held = plasticity.penalty("L2 Init", model, heads, x)
    assert held(hidden).item() == 0
    with torch.no_grad():
        model.linear[0].weight += 2
    moved = 4 * model.linear[0].weight.numel()
    assert held(hidden).item() == pytest.approx(plasticity.L2 * moved, rel=1e-4)
    (slope,) = torch.autograd.grad(held(hidden), model.linear[0].weight)
    torch.testing.assert_close(slope, torch.full_like(slope, 2 * plasticity.L2 * 2))
    kept = plasticity.penalty("InFeR", model, heads, x)
    now = model.hidden(x)[-1].detach()
    expected = plasticity.INFER * (9 * heads(now)).square().mean()  # heads against ten times them
    assert kept(now).item() == pytest.approx(expected.item(), rel=1e-4)
    assert plasticity.penalty("ReDo", model, heads, x)(hidden).item() == 0


def test_adam_alone_loses_what_a_fresh_network_keeps() -> None:
    worn, fresh = (run(arm, 7, steps=40) for arm in ("Adam alone", "drawn anew"))
    assert worn.late < fresh.late - 0.2
    assert worn.dormant > fresh.dormant + 0.1


@pytest.mark.parametrize(
    ("arm", "steps", "message"),
    [("prayer", 2, "arm must be one of"), ("ReDo", 0, "steps must be")],
)
def test_other_means_and_lengths_are_refused(arm: str, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plasticity.train(arm, 0, steps=steps)
