"""Codebooks: how many codes are in use, how evenly, and what as many even draws would read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import CODEBOOK, COLLAPSE, NOT_ENOUGH, WARNING, Advice

# One bit: a codebook of half the size would hold as much. It is lost against the entropy of as many
# even draws, so that the number of rows alone never loses it.
LOST = math.log(2)
# Cochran's rule for counts, five to a cell, asked of the cells that were seen. As long as rows keep
# coming upon new codes, nobody knows how many more there are; once each has come five times, the
# chance that a code of equal weight was missed is e^-5 or less.
ROWS_PER_CODE = 5
# Below ten rows even a fair coin falls on one side every time more often than once in 500.
FEWEST_ROWS = 10

ADVICE = {
    CODEBOOK: Advice(
        COLLAPSE,
        "A code that is nearest to nothing is never moved. Put dead codes where the data are: "
        "start from k-means or encoder outputs, average by EMA, reset what falls out of use. Then "
        "compare the reconstruction error, for full usage alone is no quality.",
        "19_codebook_collapse",
        "Codebook collapse",
    ),
    NOT_ENOUGH: Advice(
        WARNING,
        "Encode more rows, five or more to a code: this is about their number, not the model.",
        "19_codebook_collapse",
        "Codebook collapse",
    ),
}


class Usage(NamedTuple):
    """How N draws fell on K options, and what N even draws would read.

    `size` is K and `rows` is N; `used` options were drawn at all, a `share` of K. `entropy` is that
    of the counts, in nats, and `perplexity` its exponential. `null_share`, `null_entropy` and
    `null_perplexity` are the same for draws that take every option alike: the expected share, the
    expected entropy, and the exponential of the latter.
    """

    size: int
    rows: int
    used: int
    share: float
    entropy: float
    perplexity: float
    null_share: float
    null_entropy: float
    null_perplexity: float


def usage(counts: ArrayLike | Sequence[int]) -> Usage:
    r"""Return how many options were used and how evenly, beside what even draws would read.

    .. math:: \frac{1}{K} \#\{k : n_k > 0\}, \qquad
              H = -\sum_k \frac{n_k}{N} \log \frac{n_k}{N}, \qquad \exp H

    and for N independent draws that take each of K options with the same chance

    .. math:: 1 - \Bigl(1 - \frac{1}{K}\Bigr)^N, \qquad
              \mathbb{E} H = \log N - \mathbb{E} \log(1 + B), \quad B \sim \mathrm{Bin}(N - 1, 1/K),

    both exact: the other N - 1 draws join one draw on its option B times.

    Parameters
    ----------
    counts
        How often each option was taken, shape (K,), integers of at least 0, K >= 2, N >= 1.

    Returns
    -------
    Usage
        `share` in [1/K, 1], `entropy` in [0, log K], `perplexity` in [1, K]. Where all draws took
        one option these are 1/K, 0 and 1; even counts have 1, log K and K. Invariant to the order
        of the options.

    Raises
    ------
    TypeError, ValueError
        For anything but such counts.

    References
    ----------
    The perplexity of codes is reported since van den Oord et al. 2017. The share is the classical
    occupancy of N balls in K urns. That an entropy of counts reads low on average, by about
    (K - 1) / 2N where N is large, is due to Miller 1955.

    Examples
    --------
    >>> even = usage([5, 5, 5, 5])
    >>> even.used, even.perplexity, round(even.null_share, 4)
    (4, 4.0, 0.9968)
    >>> usage([20, 0, 0, 0]).perplexity
    1.0
    """
    values = counts.tolist() if hasattr(counts, "tolist") else list(counts)
    values = [_checks.integer("counts", value, at_least=0) for value in values]
    size = _checks.integer("the number of counts", len(values), at_least=2)
    rows = _checks.integer("the sum of counts", sum(values), at_least=1)
    shares = torch.tensor(values, dtype=torch.float64) / rows
    used = sum(value > 0 for value in values)
    entropy = float(torch.special.entr(shares).sum())
    null = _even_entropy(rows, size)
    return Usage(
        size,
        rows,
        used,
        used / size,
        entropy,
        min(max(math.exp(entropy), 1.0), float(used)),
        -math.expm1(rows * math.log1p(-1 / size)),
        null,
        math.exp(null),
    )


def _even_entropy(rows: int, size: int) -> float:
    """Return the expected entropy of the counts of `rows` even draws among `size` options."""
    others, chance = rows - 1, 1 / size
    # Beyond twelve standard deviations, and forty where the counts are few, there is nothing left.
    reach = 12 * math.sqrt(others * chance) + 40
    low, high = max(0, int(others * chance - reach)), min(others, int(others * chance + reach))
    joined = torch.arange(low, high + 1, dtype=torch.float64)
    log_weight = (
        joined * math.log(chance)
        + (others - joined) * math.log1p(-chance)
        - torch.lgamma(joined + 1)
        - torch.lgamma(others - joined + 1)
    )
    weight = log_weight.softmax(dim=0)  # the constant log N! drops out
    return math.log(rows) - float(weight @ torch.log1p(joined))


def codebook_usage(codes: ArrayLike | Sequence[int], size: int) -> Checkup:
    r"""Check whether a codebook is in use: "codebook-collapse", too few rows to tell, or healthy.

    A collapse is found where the codes hold a bit less than as many even draws would,

    .. math:: H \le \mathbb{E} H_{\text{even}} - \log 2,

    or where all rows have one code, if there are at least ten rows and five to a code in use. With
    fewer, and a perplexity up to K/2, it is said that they are too few to tell.

    Parameters
    ----------
    codes
        The index of the code of each row, shape (N,), integers of 0 to K - 1, N >= 1: of held-out
        data; where a sample has many codes, all of them in one vector.
    size
        How many codes the codebook has, K >= 2.

    Returns
    -------
    Checkup
        Its metrics: those of :func:`usage` and `bits_lost`, what even draws would hold more than
        these codes do. At collapse to one code `perplexity` is 1.

    Raises
    ------
    TypeError, ValueError
        For codes or a size other than these.

    References
    ----------
    van den Oord et al. 2017; usage and perplexity as reported by Mentzer et al. 2024.

    Examples
    --------
    >>> codebook_usage(list(range(8)) * 10, size=8).verdict
    'healthy'
    >>> codebook_usage([3] * 80, size=8).verdict
    'codebook-collapse'
    >>> codebook_usage([3, 1, 3], size=8).verdict
    'not-enough-data'
    """
    size = _checks.integer("size", size, at_least=2)
    found = usage(_counted(codes, size))
    lost = found.null_entropy - found.entropy
    bits = lost / math.log(2)
    metrics = {**{name: float(value) for name, value in found._asdict().items()}, "bits_lost": bits}
    seen = (
        f"{found.rows:,} rows use {found.used:,} of {size:,} codes, with a perplexity of "
        f"{found.perplexity:.1f}; as many even draws would use {found.null_share * size:,.1f}, "
        f"with {found.null_perplexity:.1f}."
    )
    enough = found.rows >= max(FEWEST_ROWS, ROWS_PER_CODE * found.used)
    if enough and (found.used == 1 or lost >= LOST):
        kind, sentence = CODEBOOK, f"{seen} That is {bits:.1f} bits a code less."
    elif not enough and found.perplexity <= size / 2:
        kind, sentence = NOT_ENOUGH, f"Too few rows to tell: {seen}"
    else:
        return Checkup(seen, metrics)
    finding = ADVICE[kind].finding(
        kind, sentence, "perplexity", found.perplexity, reference=found.null_perplexity
    )
    return Checkup(seen, metrics, (finding,))


def _counted(codes: Any, size: int) -> Tensor:
    """Return how many rows have each code."""
    length = codes.shape[0] if getattr(codes, "shape", ()) else 0
    if isinstance(codes, Sequence):
        length = len(codes)
    rows = _checks.as_labels("codes", codes, length).cpu()
    _checks.integer("the number of codes", len(rows), at_least=1)
    for bound in torch.aminmax(rows):
        _checks.integer("codes", int(bound), at_least=0, at_most=size - 1)
    return rows.bincount(minlength=size)
