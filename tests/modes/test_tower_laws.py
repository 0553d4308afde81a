"""The two laws of two towers: against finite differences, and against an integral."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from repcollapse.modes.tower_laws import log_temperature_gradient, relu_cosine
from repcollapse.modes.tower_losses import info_nce


def unit(count, dimension, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimension, generator=generator).double(), dim=1)


@pytest.mark.parametrize("gap", [0.3, 1.0, 1.8])
@pytest.mark.parametrize("tau", [0.01, 0.2])
def test_a_gap_at_right_angles_is_a_higher_temperature(gap, tau):
    u, v = unit(40, 6, 0), unit(40, 6, 1)
    side = torch.full((40, 1), gap / 2, dtype=torch.float64)
    cosine = math.sqrt(1 - gap**2 / 4)
    lifted = torch.cat([cosine * u, side], 1), torch.cat([cosine * v, -side], 1)
    warmer = info_nce(u, v, temperature=tau / (1 - gap**2 / 4))
    torch.testing.assert_close(info_nce(*lifted, temperature=tau), warmer, rtol=1e-12, atol=0)


def test_the_gradient_is_the_derivative_by_the_logarithm_of_the_temperature():
    u, v, step = unit(20, 5, 0), unit(20, 5, 1), 1e-5
    high, low = (float(info_nce(u, v, temperature=0.1 * math.exp(s))) for s in (step, -step))
    assert log_temperature_gradient(u, v, 0.1) == pytest.approx((high - low) / (2 * step), rel=1e-6)
    with torch.no_grad():
        assert log_temperature_gradient(u, v, 0.1) != 0


def test_no_gradient_drives_towers_that_are_one_point_each():
    point = torch.ones(5, 2)
    assert log_temperature_gradient(point, -point, 0.1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        log_temperature_gradient(point, point, 0)
    with pytest.raises(ValueError, match="u and v must have the same shape"):
        log_temperature_gradient(point, point[:4], 0.1)


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.3, 0.8])
def test_the_recursion_is_the_integral_over_gaussian_weights(rho):
    # x = r cos t, y = r cos(t - angle): the radius cancels, the angle is integrated.
    t = (np.arange(400000) + 0.5) / 400000 * 2 * math.pi
    x, y = np.cos(t), np.cos(t - math.acos(rho))
    integral = (np.maximum(x, 0) * np.maximum(y, 0)).mean() / (np.maximum(x, 0) ** 2).mean()
    assert relu_cosine(rho, 1) == pytest.approx(integral, abs=1e-9)


def test_five_layers_from_a_right_angle_have_their_digits():
    climb = [round(relu_cosine(0.0, layers), 3) for layers in range(1, 6)]
    assert climb == [0.318, 0.494, 0.605, 0.681, 0.736]
    assert relu_cosine(0.0, 1) == pytest.approx(1 / math.pi, abs=1e-15)


def test_the_recursion_climbs_to_one_and_stays():
    climb = [relu_cosine(0.0, layers) for layers in range(1, 200)]
    assert all(a < b < 1 for a, b in pairwise(climb))
    assert relu_cosine(1.0, 3) == pytest.approx(1)
    assert relu_cosine(-1.0, 1) == pytest.approx(0, abs=1e-12)
    assert relu_cosine(0.25, 0) == 0.25
    with pytest.raises(ValueError, match="cosine must be at least -1 and at most 1; got"):
        relu_cosine(1.5, 1)
