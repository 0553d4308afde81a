"""The stream of tasks: what is drawn, what is read, and what is done when."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from repcollapse.data import load
from repcollapse.modes import learner, plasticity
from repcollapse.modes.learner import ARMS
from repcollapse.modes.runs import once


def run(arm: str, seed: int, *, steps: int) -> plasticity.Trained:
    return once(partial(plasticity.train, ARMS[arm], steps=steps, device="cpu"), seed)


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
    share = torch.stack([(labels == k).double().mean(dim=1) for k in range(learner.CLASSES)])
    assert float((share - 0.1).abs().max()) < 0.04
    alike = (labels[1:] == labels[:-1]).double().mean(dim=1)
    assert float(alike.max()) < 0.14
    torch.manual_seed(0)
    assert torch.equal(labels, plasticity.tasks(2000, 0))
    assert not torch.equal(labels, plasticity.tasks(2000, 1))


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_repeats_itself_and_is_read_after_every_task(arm: str) -> None:
    one, other = (run(arm, 1, steps=2) for _ in range(2))
    assert one.history.equals(other.history)
    assert one.history["task"].tolist() == list(range(1, plasticity.TASKS + 1))
    assert list(one.activations) == one.history["task"].tolist()
    assert one.activations[plasticity.TASKS].shape == (plasticity.IMAGES, learner.WIDTH)


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
    monkeypatch.setattr(plasticity, "redo", lambda *_: seen.append(1))
    run("ReDo", 0, steps=10)  # 140 steps in all
    assert len(seen) == 3
    run("ReDo", 0, steps=20)  # 280, which is seven times 40
    assert len(seen) == 3 + 6
    run("Adam alone", 0, steps=10)
    assert len(seen) == 9


def test_adam_alone_loses_what_a_fresh_network_keeps() -> None:
    worn, fresh = (run(arm, 7, steps=40) for arm in ("Adam alone", "reset"))
    assert worn.late < fresh.late - 0.2
    assert worn.dormant > fresh.dormant + 0.1


def test_weights_are_replaced_at_the_end_of_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(plasticity, "shrink_and_perturb", lambda *_, kept: seen.append(kept))
    run("Adam alone", 0, steps=2)
    assert seen == []
    run("shrink and perturb", 0, steps=2)
    assert seen == plasticity.TASKS * [ARMS["shrink and perturb"].kept]
    run("reset", 0, steps=1)
    assert seen[plasticity.TASKS :] == plasticity.TASKS * [0.0]


def test_what_the_network_is_made_of_follows_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    norms, learned = [], []

    class Noted(learner.Learner):
        def __init__(self, inputs: int, *, norm: str) -> None:
            norms.append(norm)
            super().__init__(inputs, norm=norm)

    def adam(weights: list[torch.Tensor], **options: object) -> torch.optim.Optimizer:
        learned.append(len(weights))
        return real(weights, **options)

    real = torch.optim.Adam
    monkeypatch.setattr(plasticity, "Learner", Noted)
    monkeypatch.setattr(torch.optim, "Adam", adam)
    for arm in ("Adam alone", "InFeR", "LayerNorm + L2 Init"):
        run(arm, 0, steps=1)
    assert norms == ["none", "none", "layer"]
    assert learned == [6, 7, 10]  # InFeR's heads learn; two norms have a scale and a shift each


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        plasticity.train(learner.Setting(), 0, steps=0)
