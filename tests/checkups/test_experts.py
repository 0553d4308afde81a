"""The load of experts against its limits, its null, and other input."""

import math

import numpy as np
import pytest
import torch

from repcollapse.checkups import expert_load


@pytest.mark.parametrize("experts", [2, 8, 64])
def test_the_limits(experts):
    even = expert_load(torch.arange(experts).repeat(10), experts)
    assert (even.verdict, even.metrics["share"]) == ("healthy", 1.0)
    assert even.metrics["load_entropy"] == pytest.approx(1)
    assert even.metrics["max_load"] == pytest.approx(1 / experts)
    one = expert_load(torch.zeros(10 * experts, dtype=torch.long), experts)
    assert (one.verdict, one.severity) == ("routing-collapse", "collapse")
    assert (one.metrics["load_entropy"], one.metrics["max_load"]) == (0.0, 1.0)
    assert one.metrics["used"] == 1 and one.metrics["perplexity"] == 1


@pytest.mark.parametrize(("used", "verdict"), [(3, "routing-collapse"), (5, "healthy")])
def test_the_limit_is_the_entropy_of_half_of_the_experts(used, verdict):
    assert expert_load(np.arange(16_000) % used, 8).verdict == verdict


def test_even_draws_are_healthy_and_read_as_their_null():
    generator = torch.Generator().manual_seed(0)
    found = [expert_load(torch.randint(16, (80,), generator=generator), 16) for _ in range(200)]
    assert {each.verdict for each in found} == {"healthy"}
    mean = np.mean([each.metrics["load_entropy"] for each in found])
    assert mean == pytest.approx(found[0].metrics["null_load_entropy"], abs=3e-3)


def test_probabilities_go_to_their_largest_entry():
    generator = torch.Generator().manual_seed(1)
    p = torch.randn(200, 6, generator=generator).softmax(dim=1)
    soft, hard = expert_load(p, 6), expert_load(p.argmax(dim=1), 6)
    undecided = soft.metrics.pop("decision_entropy")
    assert soft.metrics == hard.metrics and soft.verdict == hard.verdict
    assert undecided == pytest.approx(
        float(torch.special.entr(p).sum(dim=1).mean()) / math.log(6), rel=1e-5
    )


def test_the_order_of_tokens_and_the_names_of_experts_do_not_matter():
    routes = torch.tensor([0] * 30 + [1] * 9 + [3] * 6)
    renamed = torch.tensor([2, 0, 1, 3])[routes].flip(0)
    assert expert_load(routes, 4).metrics == pytest.approx(expert_load(renamed, 4).metrics)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_lists_arrays_and_tensors_say_the_same(kind):
    assert expert_load(kind([0, 1, 1, 2] * 10), 4) == expert_load([0, 1, 1, 2] * 10, 4)


def test_with_few_tokens_nothing_is_found():
    few = expert_load([1] * 39, 8)
    assert (few.verdict, few.severity) == ("not-enough-data", "warning")
    assert expert_load([1] * 40, 8).verdict == "routing-collapse"
    assert expert_load([0, 1, 2, 3, 4, 5], 8).verdict == "healthy"
    assert expert_load([1] * 9, 2).verdict == "not-enough-data"


def test_the_advice_does_not_take_balance_for_specialisation():
    (finding,) = expert_load([0] * 80, 8).findings
    assert "balanced load is not a specialised one" in finding.advice
    assert finding.page == "23_expert_routing" and finding.reference is not None


@pytest.mark.parametrize(
    ("assignments", "experts", "error", "message"),
    [
        ([0, 8], 8, ValueError, "assignments must be .*at most 7"),
        ([-1, 0], 8, ValueError, "assignments must be at least 0"),
        (
            torch.zeros(0, dtype=torch.long),
            8,
            ValueError,
            "the number of assignments must be at least 1",
        ),
        ([0.5, 1.0], 8, TypeError, "assignments must hold integer"),
        ([0, 1], 1, ValueError, "experts must be at least 2"),
        (torch.full((4, 3), 0.5), 3, ValueError, "sum to 1"),
        (torch.full((4, 3), 1 / 3), 4, ValueError, r"shape \(N, 4\)"),
        (torch.zeros(4, 3, 2, dtype=torch.long), 3, ValueError, "assignments must have shape"),
        (3, 8, (TypeError, ValueError), "assignments"),
    ],
)
def test_other_input_is_refused(assignments, experts, error, message):
    with pytest.raises(error, match=message):
        expert_load(assignments, experts)
