"""Whole methods and broken ones: each of these is one of those but for one thing."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

import pytest
import torch

from repcollapse.diagnosis import VERDICTS
from repcollapse.methods import METHODS
from repcollapse.methods.ablations import BROKEN, WHOLE
from repcollapse.training import Recipe


def parts(objective: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(objective, partial):
        return objective.func, objective.keywords
    return objective, {}


def changes(one: Recipe, other: Recipe) -> set[str]:
    """The settings in which two recipes differ, those of one objective each by its name."""
    found = {
        field.name
        for field in fields(Recipe)
        if field.name != "objective" and getattr(one, field.name) != getattr(other, field.name)
    }
    (function, options), (other_function, others) = parts(one.objective), parts(other.objective)
    if function is not other_function:
        return found | {"objective"}
    names = options.keys() | others.keys()
    return found | {name for name in names if options.get(name) != others.get(name)}


def test_what_is_whole_is_a_method_that_does_not_collapse_by_itself() -> None:
    assert WHOLE.keys() <= METHODS.keys() - {"invariance"}
    for name, recipe in WHOLE.items():
        assert changes(METHODS[name], recipe) <= {"momentum", "slices"}


def test_a_broken_arm_is_no_method() -> None:
    assert not METHODS.keys() & BROKEN.keys()
    assert not any(made.recipe is recipe for made in BROKEN.values() for recipe in METHODS.values())


@pytest.mark.parametrize("arm", BROKEN)
def test_a_broken_arm_lacks_one_thing(arm: str) -> None:
    name, _ = arm.split(": ")
    assert len(changes(WHOLE[name], BROKEN[arm].recipe)) == 1


@pytest.mark.parametrize("arm", BROKEN)
def test_its_kinds_are_verdicts_of_a_collapse(arm: str) -> None:
    kinds = BROKEN[arm].kinds
    assert kinds and set(kinds) <= set(VERDICTS) - {"healthy", "cone", "not-enough-data"}


def test_whatever_compares_two_views_is_broken_at_least_once() -> None:
    compared = {name for name, recipe in WHOLE.items() if not recipe.pretext}
    assert compared == {name for name, _ in (arm.split(": ") for arm in BROKEN)}


@pytest.mark.parametrize("recipes", [WHOLE, {arm: made.recipe for arm, made in BROKEN.items()}])
def test_each_can_be_trained(recipes: dict[str, Recipe]) -> None:
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(2, 64, 1, 16, 16, generator=generator)
    for arm, recipe in recipes.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = recipe.build((1, 16, 16))
            loss = model(*views)
        loss.backward()
        assert loss.isfinite(), arm
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert any(bool(g.any()) for g in gradients), arm
