"""The dormant share against counting by hand, its limits, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repcollapse.checkups import dormant_share, unit_scores
from repcollapse.checkups.units import MOST, TAU


def layer(units: int = 40, silent: int = 0, seed: int = 0) -> torch.Tensor:
    h = torch.rand(200, units, generator=torch.Generator().manual_seed(seed)) + 0.1
    h[:, :silent] = 0
    return h


def test_scores_are_those_of_the_definition() -> None:
    h = torch.randn(50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    each = [sum(abs(float(x)) for x in column) / 50 for column in h.T]
    expected = [value / (sum(each) / 7) for value in each]
    assert unit_scores(h).tolist() == pytest.approx(expected, rel=1e-12)


def test_scores_ignore_scale_and_order_and_average_one() -> None:
    h = layer(silent=3)
    scores = unit_scores(h)
    assert float(scores.mean()) == pytest.approx(1)
    torch.testing.assert_close(unit_scores(1000 * h.flip(0)), scores)


@pytest.mark.parametrize(("silent", "share"), [(0, 0.0), (3, 0.075), (4, 0.1), (40, 1.0)])
def test_the_share_is_that_of_the_silent(silent: int, share: float) -> None:
    checkup = dormant_share(layer(silent=silent))
    assert checkup.metrics["dormant_share"] == pytest.approx(share)
    assert checkup.verdict == ("dormant-units" if share >= MOST else "healthy")


@pytest.mark.parametrize(
    ("silent", "start"),
    [(0, "No unit of 40 is dormant"), (1, "1 of 40 units is dormant"), (3, "3 of 40 units are")],
)
def test_the_summary_counts_in_words(silent: int, start: str) -> None:
    summary = dormant_share(layer(silent=silent)).summary
    assert summary.startswith(start)
    assert summary.endswith("at most 0.025 of the layer's mean.")


def test_a_unit_counts_up_to_the_threshold() -> None:
    h = torch.ones(10, 100)
    h[:, 0] = TAU * 0.99
    assert dormant_share(h).metrics["dormant_share"] == 0.01
    h[:, 0] = TAU * 1.01
    assert dormant_share(h).metrics["dormant_share"] == 0
    assert dormant_share(h, tau=0.5).metrics["dormant_share"] == 0.01


def test_scores_need_a_matrix_of_numbers_and_may_be_of_one_input() -> None:
    assert unit_scores(np.array([[1.0, 3.0]])).tolist() == [0.5, 1.5]
    for bad in (torch.ones(3), torch.ones(0, 3), torch.tensor([[torch.nan, 1.0]])):
        with pytest.raises(ValueError, match="activations"):
            unit_scores(bad)


def test_negative_activations_are_answers() -> None:
    assert dormant_share(-layer()).metrics["dormant_share"] == 0


def test_one_bad_layer_is_found_among_good_ones() -> None:
    checkup = dormant_share({"first": layer(400), "second": layer(20, silent=10)})
    assert checkup.metrics["dormant_share"] == pytest.approx(10 / 420)
    assert checkup.metrics["dormant_share:second"] == 0.5
    assert checkup.verdict == "dormant-units"
    (finding,) = checkup.findings
    assert finding.sentence.startswith("50% of layer second hardly answer")
    assert (finding.measure, finding.value) == ("dormant_share:second", 0.5)


def test_no_layer_is_named_where_all_of_them_are_as_bad() -> None:
    (finding,) = dormant_share({"a": layer(20, silent=5), "b": layer(20, silent=5)}).findings
    assert finding.sentence.startswith("10 of 40 units hardly answer, at most 0.025")
    assert (finding.measure, finding.value) == ("dormant_share", 0.25)


def test_fresh_rectified_layers_are_healthy() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.randn(400, 64)
        found = dormant_share(torch.relu(torch.nn.Linear(64, 64)(x)).detach())
        assert found.verdict == "healthy"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_does_not_matter(dtype: torch.dtype) -> None:
    assert dormant_share(layer(silent=8).to(dtype)).metrics["dormant_share"] == 0.2


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (torch.ones(5), {}, r"activations must have shape \(N, D\)"),
        (torch.ones(1, 3), {}, "activations needs at least 2 rows"),
        (np.array([[1.0, np.nan]] * 3), {}, "activations must be finite"),
        ({}, {}, "at least one layer"),
        ({"a": torch.ones(1, 2)}, {}, r"activations\['a'\] needs at least 2 rows"),
        (torch.ones(3, 3), {"tau": 1.0}, "tau must be"),
    ],
)
def test_what_is_no_layer_is_refused(given, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        dormant_share(given, **options)
