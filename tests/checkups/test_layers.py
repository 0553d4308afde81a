"""When the checkup of hidden states speaks of a collapse, and what it says."""

from __future__ import annotations

import json
import math

import pytest
import torch
from layers_support import T, residual_of, rows, shrinking

from repcollapse.checkups import diagnose_layers, layer_residuals
from repcollapse.checkups.layers import ALIKE


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
    assert "It is below 1/256 from layer 8 on." in finding.sentence


def test_the_kind_names_and_advises():
    same = torch.ones(T)
    checkup = diagnose_layers(shrinking([1.0, 1e-4]), along=same, kind="oversmoothing")
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


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("kind must be one of", {"kind": "smooth"}),
        ("along must be given where kind is 'oversmoothing'.*got None", {"kind": "oversmoothing"}),
        (r"along must have shape \(8,\)", {"along": torch.ones(7), "kind": "oversmoothing"}),
        ("hidden must hold the input and the output", {"hidden": [torch.eye(T)]}),
    ],
)
def test_bad_input_is_refused_by_name(message, arguments):
    with pytest.raises(ValueError, match=message):
        diagnose_layers(**({"hidden": [torch.eye(T)] * 2} | arguments))
