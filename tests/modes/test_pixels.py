"""Pixels: what a run on images gives."""

from __future__ import annotations

import numpy as np
import torch

from repcollapse.modes import pixels
from repcollapse.modes.posterior import Setting


def test_a_run_on_digits_is_read_on_the_unseen_ones() -> None:
    found = pixels.train(Setting(), 3, steps=4)
    assert found.mu.shape == found.log_var.shape == found.draw.shape == (497, 8)
    assert found.trace.shape == (4,) and 0 < found.kl < found.nats < 100


def test_a_training_is_governed_by_its_seed_alone() -> None:
    torch.manual_seed(5)
    first = pixels.train(Setting(), 3, steps=3)
    state = torch.get_rng_state()
    again = pixels.train(Setting(), 3, steps=3)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(first.trace, again.trace)
    assert (pixels.train(Setting(), 4, steps=3).trace != first.trace).any()


def test_the_setting_arrives() -> None:
    fixed = pixels.train(Setting(variance=0.25, blind=True), 3, steps=1)
    torch.testing.assert_close(fixed.log_var.exp(), torch.full_like(fixed.log_var, 0.25))
