"""Where the usage of a codebook is a collapse, and where there are too few rows to tell."""

import math

import pytest
import torch

from repcollapse.checkups import codebook_usage


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
