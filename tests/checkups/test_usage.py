"""Usage against its closed forms, by enumeration; what is judged of it; and other input."""

import itertools
import math

import numpy as np
import pytest
import torch

from repcollapse.checkups import codes, usage
from repcollapse.checkups.usage import checkup_of, indices, judged


@pytest.mark.parametrize(("rows", "size"), [(1, 2), (6, 2), (3, 3), (5, 3), (3, 5)])
def test_the_nulls_are_the_means_over_all_draws(rows, size):
    counts = [np.bincount(d, minlength=size) for d in itertools.product(range(size), repeat=rows)]
    all_draws = [usage(count) for count in counts]
    for found in all_draws:
        assert found.null_share == pytest.approx(np.mean([each.share for each in all_draws]))
        mean_entropy = np.mean([each.entropy for each in all_draws])
        assert found.null_entropy == pytest.approx(mean_entropy, abs=1e-12)
        assert found.null_perplexity == pytest.approx(math.exp(found.null_entropy))


def test_the_null_entropy_has_millers_bias_where_rows_are_many():
    found = usage([100_000] * 64)
    bias = math.log(64) - found.null_entropy
    assert bias == pytest.approx(63 / (2 * found.rows), rel=1e-2)


@pytest.mark.parametrize("size", [2, 7, 64])
def test_the_limits(size):
    even, one = usage([3] * size), usage([3 * size] + [0] * (size - 1))
    assert (even.used, even.share) == (size, 1.0)
    assert even.entropy == pytest.approx(math.log(size))
    assert even.perplexity == pytest.approx(size) and even.perplexity <= size
    assert one[:6] == (size, 3 * size, 1, 1 / size, 0.0, 1.0)


def test_the_order_of_the_options_does_not_matter():
    counts = torch.tensor([5, 0, 2, 9])
    assert usage(counts) == usage(counts.numpy()) == usage(counts.tolist())
    assert usage(counts) == pytest.approx(usage(counts.flip(0)))


def test_large_counts_are_counted():
    found = usage([10**9, 10**9])
    assert found.null_perplexity == pytest.approx(2) and found.null_share == 1.0


@pytest.mark.parametrize(
    ("counts", "error", "says"),
    [
        ([3], ValueError, "number of counts must be at least 2; got 1"),
        ([0, 0], ValueError, "sum of counts must be at least 1; got 0"),
        ([-1, 2], ValueError, "counts must be at least 0; got -1"),
        ([0.5, 0.5], TypeError, "counts must be an integer; got float"),
        (torch.eye(2), TypeError, "counts must be an integer; got list"),
    ],
)
def test_bad_counts_are_refused(counts, error, says):
    with pytest.raises(error, match=says):
        usage(counts)


@pytest.mark.parametrize("size", [2, 8, 64])
def test_a_bit_is_lost_where_half_of_the_options_have_all(size):
    half = usage([1000] * (size // 2) + [0] * (size // 2))
    even = half.null_entropy - math.log(size)
    assert half.bits_lost == pytest.approx(1 + even / math.log(2))
    assert usage([500] * size).bits_lost == pytest.approx(even / math.log(2))


@pytest.mark.parametrize(
    ("counts", "rows_needed", "says"),
    [
        ([50, 50, 50, 50], 20, "healthy"),
        ([100, 60, 40, 0], 20, "healthy"),
        ([100, 95, 5, 0], 20, "healthy"),
        ([198, 1, 1, 0], 20, "collapse"),
        ([200, 0, 0, 0], 20, "collapse"),
        ([200, 0, 0, 0], 201, "not-enough-data"),
        ([50, 50, 50, 50], 201, "healthy"),
        ([10, 0], 5, "collapse"),
        ([9, 0], 5, "not-enough-data"),
    ],
)
def test_what_is_judged(counts, rows_needed, says):
    assert judged(usage(counts), rows_needed=rows_needed) == says


@pytest.mark.parametrize(
    ("counts", "verdict", "says"),
    [
        ([200, 0, 0, 0], "codebook-collapse", "Seen. So."),
        ([19, 0, 0, 0], "not-enough-data", "Too few words to tell: Seen."),
        ([50, 50, 50, 50], "healthy", "Seen."),
    ],
)
def test_the_checkup_says_what_is_judged(counts, verdict, says):
    metrics = {"perplexity": 2.5, "null_perplexity": 3.5}
    checkup = checkup_of(
        usage(counts),
        rows_needed=20,
        summary="Seen.",
        metrics=metrics,
        measure="perplexity",
        advice=codes.ADVICE,
        collapse="codebook-collapse",
        meaning="So.",
        rows="words",
    )
    assert (checkup.verdict, checkup.sentence) == (verdict, says)
    assert (checkup.summary, checkup.metrics) == ("Seen.", metrics)
    for finding in checkup.findings:
        assert (finding.measure, finding.value, finding.reference) == ("perplexity", 2.5, 3.5)
        assert finding.advice == codes.ADVICE[verdict].text
    assert len(checkup.findings) == (verdict != "healthy")


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_indices_are_a_tensor_of_integers(kind):
    found = indices("codes", kind([3, 0, 3]), 4)
    assert isinstance(found, torch.Tensor) and found.tolist() == [3, 0, 3]


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ([4], ValueError, "routes must be at least 0 and at most 3; got 4"),
        ([-1], ValueError, "routes must be at least 0 and at most 3; got -1"),
        ([1.0], TypeError, "routes must hold integer"),
        (torch.zeros(0, dtype=torch.long), ValueError, "number of routes must be at least 1"),
    ],
)
def test_other_indices_are_refused_by_their_name(values, error, says):
    with pytest.raises(error, match=says):
        indices("routes", values, 4)
