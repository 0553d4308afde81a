"""The parts that the objectives share, against the plain operations they stand for."""

import pytest
import torch
from support import DTYPES, TOLERANCE, assert_same, randn
from torch.nn import functional as F

from repcollapse import objectives
from repcollapse.objectives import _rows


def rows(dtype):
    """Rows of ordinary length, one of zeros and one shorter than any direction needs."""
    z = randn(6, 5).to(dtype)
    z[2] = 0
    z[4] *= 1e-14
    return z.requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_rows_are_those_of_torch_in_value_and_gradient(dtype):
    z, weights = rows(dtype), randn(6, 5, seed=1).to(dtype)
    ours, theirs = _rows.unit_rows(z), F.normalize(z, dim=1)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(ours, theirs, **tolerance)
    gradients = [torch.autograd.grad((u * weights).sum(), z)[0] for u in (ours, theirs)]
    torch.testing.assert_close(*gradients, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_and_squares_are_sums(dtype):
    a, b = (randn(6, 5, seed=seed).to(dtype).requires_grad_() for seed in range(2))
    distance = ((a - b) ** 2).sum() / 6
    assert_same(_rows.mean_squared_distance(a, b), distance, (a, b), dtype)
    assert_same(_rows.sum_of_squares(a), (a**2).sum(), (a,), dtype)


@pytest.mark.parametrize(
    "name", ["invariance", "negative_cosine", "byol", "nt_xent", "vicreg", "barlow_twins"]
)
def test_function_transforms_reach_second_derivatives(name):
    objective, z, other = getattr(objectives, name), randn(4, 3), randn(4, 3, seed=1)

    def loss(x):
        return objective(x, other)

    gradient = torch.autograd.grad(loss(z.requires_grad_()), z)[0]
    torch.testing.assert_close(torch.func.grad(loss)(z.detach()), gradient)
    hessian = torch.func.jacrev(torch.func.grad(loss))(z.detach()).reshape(12, 12)
    assert float(hessian.abs().max()) > 1e-3
    torch.testing.assert_close(hessian, hessian.T)
