"""Residuals by layer against loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from layers_support import T, residual_of, rows, shrinking

from repcollapse.checkups import layer_residuals


def test_the_residual_is_that_of_loops():
    x, w = rows(3, T, 5), rows(T, seed=1)
    unit = w / w.norm()
    expected = 0.0
    for sample in x:
        apart = sum(
            (sample[i, k] - unit[i] * sum(unit[j] * sample[j, k] for j in range(T))) ** 2
            for i in range(T)
            for k in range(5)
        )
        expected += float((apart / sample.square().sum()).sqrt()) / len(x)
    np.testing.assert_allclose(layer_residuals([x, x], along=w), [expected] * 2, rtol=1e-12)


def test_the_residual_of_known_rows_is_their_closed_form():
    factors = [1e6, 1.0, 1e-3, 1e-9]
    np.testing.assert_allclose(
        layer_residuals(shrinking(factors)), [residual_of(f) for f in factors], rtol=1e-6
    )


def test_independent_rows_read_what_the_docstring_says():
    read = layer_residuals([rows(4000, T, 16)] * 2)
    np.testing.assert_allclose(read, math.sqrt(1 - 1 / T), atol=2e-3)


@pytest.mark.parametrize("scale", [1e-200, 1.0, -3.0, 1e200])
def test_scale_and_the_length_of_w_do_not_matter(scale):
    x = rows(2, T, 5)
    read = layer_residuals([x, scale * x], along=scale * torch.ones(T, dtype=torch.float64))
    np.testing.assert_allclose(read, layer_residuals([x, x]), rtol=1e-12)


def test_order_of_rows_and_rotation_of_columns_do_not_matter():
    x = rows(T, 5)
    turned = x[torch.randperm(T)] @ torch.linalg.qr(rows(5, 5, seed=2))[0]
    first, second = layer_residuals([x, turned])
    assert first == pytest.approx(second, rel=1e-12)


def test_samples_are_averaged_and_dimensions_may_change():
    x, y = rows(T, 5), torch.ones(T, 5, dtype=torch.float64)
    (both, _) = layer_residuals([torch.stack([x, y]), rows(2, T, 3)])
    assert both == pytest.approx(layer_residuals([x, x])[0] / 2, rel=1e-12)


def test_rows_along_w_and_zeros_read_nothing():
    w = torch.arange(1.0, T + 1, dtype=torch.float64)
    along = w[:, None] * torch.ones(1, 3, dtype=torch.float64)
    read = layer_residuals([along, torch.zeros(T, 3)], along=w)
    np.testing.assert_allclose(read, 0, atol=1e-15)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, np.float32]
)
def test_every_floating_dtype_is_measured_in_float64(dtype):
    x = rows(T, 5)
    given = x.numpy().astype(dtype) if dtype is np.float32 else x.to(dtype)
    read = layer_residuals([given, given])
    assert read.dtype == np.float64
    np.testing.assert_allclose(read, layer_residuals([x, x]), rtol=5e-3)


# --- bad input

good = torch.eye(T)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "hidden must be a list or tuple.*got Tensor", {"hidden": torch.ones(2, T, 3)}),
        (ValueError, "input and the output.*got 1 array", {"hidden": [good]}),
        (ValueError, r"got \(1, 7\) in hidden\[1\]", {"hidden": [good, good[:7]]}),
        (ValueError, r"got \(2, 8\) in hidden\[1\]", {"hidden": [good, torch.ones(2, T, 3)]}),
        (ValueError, r"hidden\[0\] needs at least 2 rows", {"hidden": [good[:1], good[:1]]}),
        (ValueError, r"hidden\[1\] must have shape", {"hidden": [good, torch.ones(T)]}),
        (ValueError, r"hidden\[1\] must have shape \(B", {"hidden": [good, torch.ones(0, T, 3)]}),
        (TypeError, r"hidden\[1\].*floating", {"hidden": [good, good.long()]}),
        (TypeError, r"hidden\[1\].*list", {"hidden": [good, [[1.0]]]}),
        (ValueError, r"hidden\[1\] must be finite", {"hidden": [good, good / 0]}),
        (ValueError, r"hidden\[1\] must be finite", {"hidden": [good, 1e300 * good.half()]}),
        (ValueError, r"along must have shape \(8,\)", {"along": torch.ones(7)}),
        (ValueError, r"along must have shape \(8,\)", {"along": good}),
        (ValueError, "along must have shape.*got 3", {"along": 3}),
        (ValueError, "along must be finite", {"along": torch.full((T,), math.nan)}),
        (ValueError, "along must not be zero", {"along": torch.zeros(T)}),
    ],
)
def test_bad_input_is_refused_by_name(error, message, arguments):
    with pytest.raises(error, match=message):
        layer_residuals(**({"hidden": [good, good]} | arguments))
