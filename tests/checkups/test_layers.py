"""Residuals by layer against closed forms, and when the checkup speaks of a collapse."""

import json
import math

import numpy as np
import pytest
import torch

from repcollapse.checkups import diagnose_layers, layer_residuals
from repcollapse.checkups.layers import ALIKE

T = 8


def rows(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def shrinking(factors, *, base=1.0):
    """One layer a factor: a common row of length one, and what is apart from it at that length."""
    common = torch.zeros(T, 4, dtype=torch.float64)
    common[:, 0] = 1 / math.sqrt(T)
    apart = rows(T, 4)
    apart -= apart.mean(dim=0)
    apart /= apart.norm()
    return [base * (common + factor * apart) for factor in factors]


def residual_of(factor):
    return factor / math.sqrt(1 + factor**2)


# --- the measure


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


# --- the finding


def test_a_collapse_is_found_where_it_begins_with_its_rate():
    checkup = diagnose_layers(shrinking([0.5**layer for layer in range(13)]))
    assert (checkup.verdict, checkup.severity) == ("rank-collapse", "collapse")
    assert checkup.metrics["onset"] == 8  # 1 / sqrt(1 + 2^16), a little below 2^-8
    assert checkup.metrics["rate"] == pytest.approx(0.5, rel=1e-3)
    assert checkup.metrics["residual_12"] == pytest.approx(residual_of(0.5**12))
    (finding,) = checkup.findings
    assert (finding.measure, finding.reference) == ("residual_12", ALIKE)
    assert finding.page == "20_rank_collapse"
    assert "by a factor of 0.5 a layer" in finding.sentence
    assert "from layer 8 on" in finding.sentence


def test_the_kind_names_and_advises():
    checkup = diagnose_layers(shrinking([1.0, 1e-4]), kind="oversmoothing")
    assert checkup.verdict == "oversmoothing"
    assert checkup.findings[0].page == "21_oversmoothing"
    assert "nodes" in checkup.findings[0].sentence


@pytest.mark.parametrize(
    "factors",
    [
        [1.0, 0.9, 0.8],  # nothing happens
        [1.0, 0.1, 0.01],  # less apart, and told apart in eight bits
        [1e-3, 1e-3, 9e-4],  # alike from the start: no layer did it
        [1e-3, 1e-3, 1e-4],  # ... and lost a tenth of that, less than the four bits asked for
        [1.0, 1e-5, 0.5],  # apart again at the end
        [1e-5, 1.0, 10.0],  # the other way
    ],
)
def test_nothing_is_found_where_rows_do_not_become_alike(factors):
    checkup = diagnose_layers(shrinking(factors))
    assert checkup.verdict == "healthy"
    assert math.isnan(checkup.metrics["onset"])
    assert "after layer 2" in checkup.summary


def test_alike_at_the_input_and_sixteen_times_more_so_at_the_end_is_found():
    assert diagnose_layers(shrinking([1e-3, 6e-5])).verdict == "rank-collapse"


def test_the_onset_is_that_from_which_rows_stay_alike():
    checkup = diagnose_layers(shrinking([1.0, 1e-4, 0.5, 1e-4, 1e-4]))
    assert checkup.metrics["onset"] == 3


@pytest.mark.parametrize("base", [1e-120, 1e120])
def test_verdict_and_rate_do_not_know_the_scale(base):
    plain = diagnose_layers(shrinking([0.5**layer for layer in range(13)]))
    scaled = diagnose_layers(shrinking([0.5**layer for layer in range(13)], base=base))
    assert scaled.metrics == pytest.approx(plain.metrics, rel=1e-9)


def test_no_rate_is_told_of_a_doubly_exponential_fall():
    checkup = diagnose_layers(shrinking([0.5 ** (3**layer) for layer in range(5)] + [1e-16] * 5))
    assert checkup.verdict == "rank-collapse"
    assert math.isnan(checkup.metrics["rate"])
    assert "factor" not in checkup.findings[0].sentence


def test_rounding_takes_no_part_in_the_rate():
    turn = torch.linalg.qr(rows(4, 4, seed=3))[0]  # the common row is in every column
    falling = [layer @ turn for layer in shrinking([0.1**layer for layer in range(14)])]
    single = [layer.float() for layer in falling]
    assert layer_residuals(single)[8] > 2e-8  # half of it and more is rounding
    assert diagnose_layers(falling).metrics["rate"] == pytest.approx(0.1, rel=1e-3)
    assert diagnose_layers(single).metrics["rate"] == pytest.approx(0.1, rel=0.05)


def test_a_jump_has_no_rate():
    assert math.isnan(diagnose_layers(shrinking([1.0] * 8 + [1e-4])).metrics["rate"])


def test_one_layer_is_enough_and_the_report_is_plain():
    checkup = diagnose_layers([rows(T, 4), torch.ones(T, 4)])
    assert checkup.metrics["residual_1"] == pytest.approx(0, abs=1e-15)
    assert checkup.metrics["layers"] == 1
    assert "rank-collapse" in str(checkup)
    assert json.loads(json.dumps(checkup.to_dict()))["metrics"]["rate"] is None


def test_zeros_at_the_input_are_no_collapse_of_depth():
    checkup = diagnose_layers([torch.zeros(T, 4), torch.zeros(T, 4)])
    assert checkup.verdict == "healthy"
    assert math.isnan(checkup.metrics["kept"])


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
        (ValueError, "kind must be one of", {"kind": "smooth"}),
    ],
)
def test_bad_input_is_refused_by_name(error, message, arguments):
    with pytest.raises(error, match=message):
        diagnose_layers(**({"hidden": [good, good]} | arguments))
