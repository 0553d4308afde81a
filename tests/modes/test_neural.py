"""The supervised contrastive loss against loops, and a classifier against what it is told."""

import math
from functools import partial

import pytest
import torch

from repcollapse import data
from repcollapse.diagnosis import diagnose
from repcollapse.diagnostics import linear_probe
from repcollapse.modes.neural import supcon, train
from repcollapse.modes.runs import repeat


def naive_supcon(z, labels, temperature):
    unit, total, n = z / z.norm(dim=1, keepdim=True), 0.0, len(z)
    for i in range(n):
        below = sum(torch.exp(unit[i] @ unit[a] / temperature) for a in range(n) if a != i)
        friends = [p for p in range(n) if p != i and labels[p] == labels[i]]
        terms = [unit[i] @ unit[p] / temperature - torch.log(below) for p in friends]
        total -= sum(terms) / len(friends)
    return total / n


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_supcon_is_that_of_loops_in_value_and_gradient(temperature):
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(7, 4, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 1, 1, 0, 2, 2, 1])
    values = supcon(z, labels, temperature=temperature), naive_supcon(z, labels, temperature)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, z)[0] for value in values))


def test_supcon_is_least_at_two_opposite_points():
    point = torch.tensor([3.0, 4.0], dtype=torch.float64)
    z, labels = torch.stack([point, -point]).repeat(6, 1), torch.tensor([0, 1] * 6)
    least = math.log(5 + 6 * math.exp(-2 / 0.5))
    assert float(supcon(z, labels, temperature=0.5)) == pytest.approx(least)
    moved = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    assert float(supcon(moved, labels, temperature=0.5)) > least


@pytest.fixture(scope="module")
def trained():
    parity = partial(train, dataset="digits", task="parity", steps=100)
    arms = {
        "broken": partial(parity, decay=0.05, at=(0,)),
        "mended": partial(parity, decay=0.05, reconstruct=2.0),
        "again": partial(parity, decay=0.05),
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
    assert trained.values("broken", "probe") == trained.values("again", "probe")


def test_half_of_the_classes_is_hidden_and_probed():
    run = train(900, dataset="digits", task="first half", decay=0.0, steps=2)
    assert bool((run.train_labels[run.shown] < 5).all())
    assert bool((run.train_labels[~run.shown] >= 5).all())
    assert run.model.head.out_features == 5
    hidden, asked = ~run.shown, run.test_labels >= 5
    assert run.probe == linear_probe(
        run.h[hidden], run.train_labels[hidden], run.h_test[asked], run.test_labels[asked]
    )


def test_a_start_is_taken_over():
    first = train(900, dataset="digits", task="classes", decay=0.0, steps=3)
    second = train(900, dataset="digits", task="parity", decay=0.0, steps=0, start=first.model)
    assert torch.equal(first.h, second.h)
    assert second.model.head.out_features == 2


def test_supcon_trains_a_last_layer_as_wide_as_the_features():
    run = train(900, dataset="digits", task="parity", decay=0.0, steps=2, objective="supcon")
    assert run.model.head.out_features == 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(supcon, torch.eye(3), [0, 0, 1]), "two samples or more of each class"),
        (partial(supcon, torch.eye(2), [0, 0], temperature=0), "temperature must be above 0"),
        (partial(train, 0, dataset="digits", task="colour", decay=0, steps=0), "task must be"),
        (partial(train, 0, dataset="digits", task="parity", decay=-1, steps=0), "decay must be"),
        (
            partial(train, 0, dataset="digits", task="parity", decay=0, steps=0, objective="hinge"),
            "objective must be",
        ),
        (
            partial(train, 0, dataset="digits", task="parity", decay=0, steps=0, reconstruct=-1),
            "reconstruct must be",
        ),
    ],
)
def test_what_is_not_understood_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_features_are_read_by_the_statistics_of_what_was_shown():
    run = train(900, dataset="digits", task="first half", decay=0.0, steps=1)
    pixels = data.load("digits", seed=900).train.images.flatten(1)
    standard = (pixels - pixels.mean()) / pixels.std()
    with torch.no_grad():
        before = run.model.body[:-1](standard[run.shown])
    torch.testing.assert_close(before.mean(dim=0), torch.zeros(32), atol=1e-2, rtol=0)
    torch.testing.assert_close(before.std(dim=0), torch.ones(32), atol=1e-2, rtol=0)
    assert float(run.right.double().mean()) == run.accuracy
