"""The reader of patches, trained, and what is read of its tokens."""

from functools import partial

import pytest
import torch

from repcollapse.checkups import layer_residuals
from repcollapse.modes.attention import Wiring
from repcollapse.modes.patches import train
from repcollapse.modes.pictures import pictures
from repcollapse.modes.runs import once

MENDED = Wiring(skip=True, norm="pre", mlp=True)
BROKEN = Wiring(norm="pre", mlp=True)
SMALL = {"dataset": "digits", "depth": 2, "width": 16, "heads": 2, "device": "cpu"}


def trained(wiring, seed, **options):
    return once(partial(train, wiring, **SMALL | options), seed)


def test_training_teaches_and_is_read_layer_by_layer():
    run = trained(MENDED, 0, steps=60, at=(7,))
    assert run.gain > 0.4
    assert run.gain == run.accuracy - run.chance
    assert run.chance == pictures("digits", 0).chance
    assert run.losses.shape == (60,)
    assert list(run.hidden) == [0, 7, 60]
    assert run.tokens is run.hidden[60]
    assert [tuple(h.shape) for h in run.tokens] == [(497, 16, 16)] * 3
    assert (run.residuals == layer_residuals(run.tokens)).all()
    assert run.residual == run.residuals[-1] > 0.1
    assert run.position_accuracies.shape == (3,)
    assert run.position_accuracy == run.position_accuracies[-1]
    assert run.position_accuracies[0] > 0.9


def test_without_training_the_position_is_told_as_before():
    run = trained(MENDED, 0, steps=0)
    assert list(run.hidden) == [0]
    assert run.position_accuracy == run.untrained_position_accuracy


def test_tokens_without_skips_have_no_position():
    run = trained(BROKEN, 0, steps=0, depth=8)
    assert run.residual < 1e-5
    assert run.position_accuracy == pytest.approx(1 / 16)


def test_one_seed_is_one_result_and_both_wirings_get_its_weights():
    one, again, other = (trained(MENDED, seed, steps=3) for seed in (0, 0, 1))
    assert (one.losses == again.losses).all()
    assert (one.losses != other.losses).any()
    assert torch.equal(one.hidden[0][0], trained(BROKEN, 0, steps=0).hidden[0][0])


def test_batches_are_not_drawn_from_the_stream_of_the_weights(monkeypatch):
    drawn, randint = [], torch.randint

    def noted(*arguments, generator):
        drawn.append(generator.initial_seed())
        return randint(*arguments, generator=generator)

    monkeypatch.setattr(torch, "randint", noted)
    trained(MENDED, 3, steps=2)
    assert len(drawn) == 2
    assert 3 not in drawn, "the weights have 3 itself"


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("depth must be at least 1", {"depth": 0}),
        ("batch must be at least 1", {"batch": 0}),
        ("lr must be above 0", {"lr": 0.0}),
        ("steps must be at least 0", {"steps": -1}),
        ("heads must be at least 1", {"heads": 0}),
        ("at must be", {"at": (2,)}),
        ("name must be one of", {"dataset": "letters"}),
    ],
)
def test_bad_arguments_are_refused(message, options):
    with pytest.raises(ValueError, match=message):
        trained(MENDED, 0, **({"steps": 1} | options))
