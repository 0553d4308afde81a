"""Autoencoders of pictures: what they are read on, and what depends on the seed."""

from functools import partial

import pytest
import torch

from repcollapse.modes.codebook import FSQ, Codebook
from repcollapse.modes.picture_codes import pixel_error, pixel_rows, train

MENDED = partial(Codebook, ema=True, reset=True)


def one(seed=900, make=Codebook, **options):
    return train(make, seed, steps=20, **options)


def test_rows_have_mean_zero_and_mean_square_one():
    rows = pixel_rows("digits", 900)
    torch.testing.assert_close(rows.train.mean(dim=0), torch.zeros(64), atol=1e-5, rtol=0)
    assert rows.train.square().mean().item() == pytest.approx(1, abs=1e-5)
    assert rows.test.shape == (497, 64) and 0.8 < rows.test.square().mean().item() < 1.2


def test_more_pictures_leave_less_in_pixels_and_one_leaves_all():
    few, many = (pixel_error("digits", 900, size) for size in (2, 32))
    assert many < few < 1.01
    assert pixel_error("digits", 900, 1) == pytest.approx(1, abs=1e-3)


def test_a_training_is_governed_by_its_seed_alone():
    torch.manual_seed(5)
    first = one(make=MENDED)
    state = torch.get_rng_state()
    again = one(make=MENDED)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.z, again.z) and torch.equal(first.codes, again.codes)
    assert first.error == again.error and first.z.shape == (497, 32)
    assert not torch.equal(first.z, one(901, MENDED).z)


def test_what_is_read_belongs_together():
    found = one(make=MENDED, kmeans=True, at=(0, 20))
    used = found.usage
    assert used.used == len(found.index.unique()) == round(used.share * found.size)
    assert 1 <= used.perplexity <= used.used and 0 <= found.accuracy <= 1
    assert list(found.trail) == [0, 20]
    assert torch.equal(found.trail[20][0], found.z)
    assert torch.equal(torch.cdist(found.z, found.codes).argmin(dim=1), found.index)
    drawn, test = found.drawn, pixel_rows("digits", 900).test
    by_hand = (drawn - test).square().mean() / test.square().mean()
    assert found.error == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_class_of_a_code_is_that_of_most_training_pictures():
    found = one(make=partial(Codebook, scale=10.0))
    assert found.usage.used == 1
    assert found.accuracy == pytest.approx(pixel_rows("digits", 900).chance)


def test_fsq_has_no_codes_to_show_or_to_start():
    found = one(make=FSQ, at=(0,))
    assert found.codes is None and found.trail[0][1] is None and found.size == 64
    with pytest.raises(ValueError, match="kmeans must be False for a bottleneck without codes"):
        one(make=FSQ, kmeans=True)


def test_a_start_from_kmeans_uses_nearly_all_codes_and_one_far_away_one_or_two():
    near = one(kmeans=True, at=(0,)).trail[0]
    far = one(make=partial(Codebook, scale=10.0), at=(0,)).trail[0]
    used = [len(torch.cdist(*kept).argmin(dim=1).unique()) for kept in (near, far)]
    assert used[0] > 50 and used[1] <= 3


def test_a_step_that_is_never_reached_is_refused():
    with pytest.raises(ValueError, match="at must be"):
        one(at=(21,))
