"""What is read of two towers, on rows that are made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from repcollapse.modes.tower_readings import Trained


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(64, 4, generator=generator).double(), dim=1)


def read(*pairs, labels, judged=0):
    steps = dict(enumerate(pairs))
    return Trained(
        rows=steps,
        log_temperature_gradients={step: -float(step) for step in steps},
        labels=labels,
        judged=judged,
    )


def test_a_reader_of_classes_needs_one_space(rows):
    classes = (rows[:, 0] > 0).long()
    one, two = (read((rows, side), labels=classes) for side in (rows, -rows))
    assert one.own_reader == two.own_reader == one.other_reader > 0.75
    assert two.other_reader < 0.25


def test_all_numbers_are_of_the_step_that_is_judged(rows):
    lifted = F.normalize(rows + torch.tensor([2.0, 0, 0, 0]), dim=1)
    trained = read((lifted, -lifted), (rows, rows), labels=(rows[:, 0] > 0).long(), judged=1)
    assert (trained.gap, trained.separability, trained.recall) == (0, 0.5, 1)
    assert trained.first_gap > 1
    assert trained.history.to_dict("list") == {
        "step": [0, 1],
        "gap": [trained.first_gap, 0],
        "log_temperature_gradient": [0, -1],
    }
    first = replace(trained, judged=0)
    assert first.gap == first.checkup.metrics["gap"] == pytest.approx(trained.first_gap)
    assert first.mean_share == pytest.approx(first.checkup.metrics["mean_share_b"])
    assert first.mean_share > trained.mean_share
    with pytest.raises(ValueError, match=r"judged must be one of \[0, 1\]; got 7"):
        replace(trained, judged=7)
