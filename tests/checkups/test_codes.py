"""Codebook usage against its closed forms, by enumeration, and where it may judge."""

import itertools
import math

import numpy as np
import pytest
import torch

from repcollapse.checkups import codebook_usage, usage


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


@pytest.mark.parametrize("rows", [500, 5000])
@pytest.mark.parametrize("share", [1.0, 0.75])
def test_a_codebook_of_which_most_is_in_use_is_healthy(rows, share):
    codes = torch.arange(rows) % int(64 * share)
    assert codebook_usage(codes, 64).verdict == "healthy"


@pytest.mark.parametrize("used", [1, 2, 16, 30])
def test_where_more_than_a_bit_is_lost_it_is_a_collapse(used):
    checkup = codebook_usage(torch.arange(6400) % used, 64)
    assert (checkup.verdict, checkup.severity) == ("codebook-collapse", "collapse")
    assert checkup.metrics["bits_lost"] == pytest.approx(math.log2(64 / used), abs=0.02)
    (finding,) = checkup.findings
    assert (finding.value, finding.reference) == (
        checkup.metrics["perplexity"],
        checkup.metrics["null_perplexity"],
    )


def test_all_codes_used_is_no_excuse():
    codes = torch.cat([torch.arange(64), torch.zeros(5000, dtype=torch.int64)])
    checkup = codebook_usage(codes, 64)
    assert checkup.metrics["share"] == 1.0 and checkup.verdict == "codebook-collapse"


def test_one_code_of_two_is_a_collapse_and_both_are_not():
    assert codebook_usage([1] * 10, 2).verdict == "codebook-collapse"
    assert codebook_usage([1, 0] * 5, 2).verdict == "healthy"


@pytest.mark.parametrize("rows", [1, 9, 40, 300])
def test_few_even_draws_from_a_large_codebook_are_too_few_and_no_collapse(rows):
    codes = torch.randint(1024, (rows,), generator=torch.Generator().manual_seed(rows))
    checkup = codebook_usage(codes, 1024)
    assert (checkup.verdict, checkup.severity) == ("not-enough-data", "warning")
    assert f"{rows:,} rows" in checkup.findings[0].sentence


def test_few_rows_that_keep_coming_back_are_a_collapse_of_a_large_codebook():
    assert codebook_usage(torch.arange(300) % 3, 1024).verdict == "codebook-collapse"


@pytest.mark.parametrize(("rows", "size"), [(10, 2), (15, 3), (60, 12), (320, 64)])
def test_even_draws_are_hardly_ever_called_a_collapse(rows, size):
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(size, (200, rows), generator=generator)
    assert sum(codebook_usage(codes, size).verdict == "codebook-collapse" for codes in draws) <= 2


@pytest.mark.parametrize(
    ("codes", "size", "error", "says"),
    [
        ([0, 1], 1, ValueError, "size must be at least 2; got 1"),
        ([0, 1], 2.0, TypeError, "size must be an integer; got float"),
        ([0, 2], 2, ValueError, "codes must be at least 0 and at most 1; got 2"),
        ([-1, 0], 2, ValueError, "codes must be at least 0 and at most 1; got -1"),
        ([0.0, 1.0], 2, TypeError, "codes must hold integer"),
        ([[0, 1]], 2, ValueError, r"codes must have shape \(1,\)"),
        (torch.tensor(0), 2, ValueError, "codes must have shape"),
        ([], 2, (TypeError, ValueError), "codes must"),
        (torch.zeros(0, dtype=torch.int64), 2, ValueError, "number of codes must be at least 1"),
    ],
)
def test_bad_codes_are_refused(codes, size, error, says):
    with pytest.raises(error, match=says):
        codebook_usage(codes, size)


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
