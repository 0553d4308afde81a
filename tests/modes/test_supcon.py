"""The supervised contrastive loss against loops."""

import math

import pytest
import torch

from repcollapse.modes.supcon import supcon


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


@pytest.mark.parametrize(
    ("labels", "temperature", "message"),
    [
        ([0, 0, 1], 0.1, "two samples or more of each class"),
        ([0, 0, 0], 0, "temperature must be above 0"),
    ],
)
def test_what_is_not_understood_is_refused(labels, temperature, message):
    with pytest.raises(ValueError, match=message):
        supcon(torch.eye(3), labels, temperature=temperature)
