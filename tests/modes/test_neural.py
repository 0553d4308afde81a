"""A classifier against what it is told."""

from functools import partial

import pytest
import torch

from repcollapse.diagnosis import diagnose
from repcollapse.modes.neural import BATCH, Setting, batches, train
from repcollapse.modes.pictures import pictures
from repcollapse.modes.runs import once, repeat


@pytest.fixture(scope="module")
def trained():
    arms = {
        "broken": partial(train, Setting("parity", decay=0.05), steps=100, at=(0,)),
        "mended": partial(train, Setting("parity", decay=0.05, reconstruct=2.0), steps=100),
        "again": partial(train, Setting("parity", decay=0.05), steps=100),
    }
    return repeat(arms, seeds=1, first_seed=900)


def test_what_is_told_stays_and_what_is_not_goes_unless_it_is_asked_for(trained):
    broken, mended = (trained.of(arm)[0] for arm in ("broken", "mended"))
    assert broken.accuracy > 0.9
    shares = [
        diagnose(run.h, labels=run.train_targets).metrics["within_share"]
        for run in (broken, mended)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.4
    assert broken.noisy_probe < mended.noisy_probe - 0.3
    assert broken.collapse().nc1 < 0.2 * broken.collapse(0).nc1
    assert torch.equal(broken.train_targets, broken.train_labels % 2)


def test_a_seed_governs_everything(trained):
    assert torch.equal(trained.of("broken")[0].h, trained.of("again")[0].h)
    assert trained.values("broken", "noisy_probe") == trained.values("again", "noisy_probe")


def test_weights_are_the_generators_and_all_else_is_the_seeds():
    run = partial(train, Setting("parity", decay=0.0), steps=1)
    torch.manual_seed(1)
    one = run(900)
    torch.manual_seed(1)
    two = run(900)
    other = run(900)
    assert torch.equal(one.h, two.h)
    assert not torch.equal(one.h, other.h)
    assert torch.equal(one.train_labels, other.train_labels)


def test_what_the_loss_draws_is_not_the_order_of_the_batches(monkeypatch):
    # One stream a purpose: to draw weights for another width must leave the batches as they are.
    batches = []
    kept = torch.randperm

    def noted(*arguments, **options):
        batches.append(kept(*arguments, **options))
        return batches[-1]

    monkeypatch.setattr(torch, "randperm", noted)
    for width in (32, 64):
        once(partial(train, Setting("parity", decay=0.0, width=width), steps=1), 900)
    assert torch.equal(*batches)


def test_half_of_the_classes_is_hidden():
    run = once(partial(train, Setting("first half", decay=0.0), steps=2), 900)
    assert bool((run.train_labels[run.shown] < 5).all())
    assert bool((run.train_labels[~run.shown] >= 5).all())
    assert run.model.head.out_features == 5


def test_a_start_is_taken_over():
    first = once(partial(train, Setting("classes", decay=0.0), steps=3), 900)
    second = train(Setting("parity", decay=0.0), 900, steps=0, start=first.model)
    assert torch.equal(first.h, second.h)
    assert second.model.head.out_features == 2


def test_an_anchor_holds_the_body_where_it_began_and_leaves_the_head_free():
    first = once(partial(train, Setting("classes", decay=0.0), steps=20), 900)

    def way(**options):
        setting = Setting("parity", decay=0.05, **options)
        run = once(partial(train, setting, steps=20, start=first.model), 900)
        moved = zip(first.model.body.parameters(), run.model.body.parameters(), strict=True)
        return run, sum(float((p - q).detach().square().sum()) for p, q in moved)

    (free, far), (held, near) = way(), way(anchor=1.0)
    assert near < 0.1 * far
    assert held.model.head.weight.abs().max() > 0
    assert free.accuracy > 0.8 and held.accuracy > 0.8


def test_without_decay_and_anchor_nothing_pulls_the_body():
    # An anchor takes the place of the body's decay, so that at the start neither has a gradient.
    first = once(partial(train, Setting("classes", decay=0.0), steps=3), 900)
    steps = [
        once(partial(train, Setting("parity", **options), steps=1, start=first.model), 900)
        for options in ({"decay": 0.0}, {"decay": 0.5, "anchor": 3.0})
    ]
    bodies = [list(run.model.body.parameters()) for run in steps]
    for one, other in zip(*bodies, strict=True):
        torch.testing.assert_close(one, other)


def test_supcon_trains_a_last_layer_as_wide_as_the_features():
    run = train(Setting("parity", decay=0.0, width=24, objective="supcon"), 900, steps=2)
    assert run.model.head.out_features == 24


def test_an_order_has_every_row_once_and_what_is_left_of_it_is_not_shown():
    draw = batches(3 * BATCH + 5, torch.Generator().manual_seed(0))
    rounds = [torch.cat([draw() for _ in range(3)]) for _ in range(2)]
    for order in rounds:
        assert len(order.unique()) == len(order) == 3 * BATCH
    assert not torch.equal(*rounds)
    few = batches(7, torch.Generator().manual_seed(0))
    assert sorted(few().tolist()) == sorted(few().tolist()) == list(range(7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "colour"}, "task must be"),
        ({"decay": -1}, "decay must be"),
        ({"objective": "hinge"}, "objective must be"),
        ({"reconstruct": -1}, "reconstruct must be"),
        ({"anchor": -1}, "anchor must be"),
        ({"width": 0}, "width must be"),
    ],
)
def test_what_is_not_understood_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Setting(**{"task": "parity", "decay": 0.0} | options)


def test_features_are_read_by_the_statistics_of_what_was_shown():
    run = once(partial(train, Setting("first half", decay=0.0), steps=1), 900)
    shown = pictures("digits", 900).train.flatten(1)[run.shown]
    with torch.no_grad():
        before = run.model.body[:-1](shown)
    torch.testing.assert_close(before.mean(dim=0), torch.zeros(32), atol=1e-2, rtol=0)
    torch.testing.assert_close(before.std(dim=0), torch.ones(32), atol=1e-2, rtol=0)
