"""The laws of the residual in untrained attention: stacks, one layer, and what queries get."""

import pytest
import torch

from repcollapse.checkups import diagnose_layers
from repcollapse.modes.attention import Wiring
from repcollapse.modes.attention_laws import one_layer, query_gradient_ratio, untrained

FULL = Wiring(skip=True, norm="pre", mlp=True)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("wiring", "exponent"),
    [
        (Wiring(), 3),
        (Wiring(mlp=True), 3),
        (Wiring(norm="post"), 3),
        (Wiring(skip=True), 1),
        (FULL, 1),
        (Wiring(skip=True, norm="post", mlp=True), 1),
    ],
)
def test_one_layer_has_the_exponent_of_its_wiring(wiring, exponent):
    law = one_layer(wiring)
    assert law.exponent == pytest.approx(exponent, abs=0.01)
    assert law.entering.shape == law.leaving.shape == (8,)


def test_mixing_that_does_not_look_at_its_tokens_passes_the_residual_on():
    torch.manual_seed(1)
    mixed = one_layer(Wiring(), fixed=True)
    torch.manual_seed(1)
    attended = one_layer(Wiring())
    assert mixed.exponent == pytest.approx(1, abs=0.01)
    assert attended.exponent == pytest.approx(3, abs=0.01)
    assert (mixed.entering == attended.entering).all(), "one draw of tokens for both"


def test_without_skips_the_tokens_of_a_stack_become_alike():
    assert untrained(Wiring(), depth=3).residual(3) < 1e-5
    stack = untrained(Wiring(), depth=8)
    assert stack.residuals.shape == (9,)
    assert diagnose_layers(stack.hidden).verdict == "rank-collapse"


def test_skips_with_pre_norm_keep_them_apart():
    stack = untrained(FULL, depth=32)
    assert stack.residual(32) > 0.1
    assert diagnose_layers(stack.hidden).verdict == "healthy"


def test_scaled_branches_keep_what_post_norm_loses():
    post = untrained(Wiring(skip=True, norm="post", mlp=True), depth=32).residual(32)
    scaled = untrained(Wiring(skip=True, norm="post", mlp=True, scale=32**-0.5), depth=32)
    assert post < 0.01
    assert scaled.residual(32) > 0.5


def test_every_wiring_gets_the_tokens_of_its_seed():
    tokens = []
    for seed, wiring in ((5, Wiring()), (5, FULL), (6, FULL)):
        torch.manual_seed(seed)
        tokens.append(untrained(wiring, depth=1).hidden[0])
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])


def test_queries_get_no_gradient_where_tokens_are_alike():
    assert query_gradient_ratio(untrained(Wiring(norm="pre", mlp=True), depth=4)) < 1e-3
    assert query_gradient_ratio(untrained(FULL, depth=4)) > 0.05


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("depth must be at least 1; got 0", lambda: untrained(Wiring(), depth=0)),
        ("tokens must be at least 2; got 1", lambda: untrained(Wiring(), tokens=1)),
        ("width must be at least 1; got 0", lambda: untrained(Wiring(), width=0)),
        ("points must be at least 2; got 1", lambda: one_layer(Wiring(), points=1)),
        ("tokens must be at least 2; got 0", lambda: one_layer(Wiring(), tokens=0)),
    ],
)
def test_numbers_that_are_none_are_refused(message, make):
    with pytest.raises(ValueError, match=message):
        make()
