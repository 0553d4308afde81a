"""Halves of images are what they are said to be, and follow from the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repcollapse.data import load
from repcollapse.modes.halves import halves


def test_halves_are_the_two_sides_of_one_image():
    world = halves("digits", 900)
    assert torch.equal(world.train_a, halves("digits", 900).train_a)
    assert not torch.equal(world.train_a, halves("digits", 901).train_a)
    both = torch.cat([world.train_a, world.train_b])
    assert float(both.mean()) == pytest.approx(0, abs=1e-5)
    assert float(both.std()) == pytest.approx(1, abs=1e-5)
    split = load("digits", seed=900).test
    sides = torch.cat([world.test_a[0].reshape(8, 4), world.test_b[0].reshape(8, 4)], dim=1)
    assert np.corrcoef(sides.flatten(), split.images[0].flatten())[0, 1] == pytest.approx(1)
    assert torch.equal(world.labels, split.labels)


def test_each_tower_is_given_the_side_that_was_asked_for():
    world = halves("digits", 900)
    twice = halves("digits", 900, sides=("right", "right"))
    swapped = halves("digits", 900, sides=("right", "left"))
    assert torch.equal(twice.train_a, world.train_b)
    assert torch.equal(twice.test_a, twice.test_b)
    assert torch.equal(swapped.test_b, world.test_a)


@pytest.mark.parametrize("sides", [("left",), ("left", "top"), ("left", "right", "left")])
def test_sides_are_two_of_two(sides):
    with pytest.raises(ValueError, match="sides must be two of left, right; got"):
        halves("digits", 900, sides=sides)
