"""What is advised over checkpoints of one training."""

import torch

from repcollapse import diagnose
from repcollapse.diagnosis.course import advice_over


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


HEALTHY, CONE, DEAD = (diagnose(normal(500, 16) + offset) for offset in (0.0, 2.0, 50.0))
LINE = diagnose(normal(500, 1) @ torch.ones(1, 16))


def advised(*steps):
    return advice_over([(str(k), step) for k, step in enumerate(steps)])


def test_the_collapse_comes_first_and_the_cone_before_it_was_its_beginning():
    complete, cone = advised(HEALTHY, CONE, CONE, DEAD)
    assert complete.kind == "complete" and complete.advice == DEAD.findings[0].advice
    assert cone.kind == "cone"
    assert "cone at 1 was the beginning of the complete collapse at 3" in cone.advice


def test_a_cone_that_stays_or_comes_afterwards_is_none():
    for steps in ((HEALTHY, CONE, CONE), (DEAD, CONE), (CONE, LINE)):
        cone = next(each for each in advised(*steps) if each.kind == "cone")
        assert cone.advice.startswith("If the spread no longer falls")
        assert "compare" not in cone.advice
    assert [each.kind for each in advised(CONE, LINE)] == ["dimensional", "cone"]


def test_health_needs_no_advice():
    assert advised(HEALTHY, HEALTHY) == []
