"""How many of K options are in use, how evenly, and what as many even draws would read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import COLLAPSE, HEALTHY, NOT_ENOUGH, Advice

# One bit: half of the options would hold as much. It is lost against the entropy of as many even
# draws, so that the number of rows alone never loses it. Of two options a bit is all there is, and
# it is lost only where one has everything.
BITS_LOST = 1.0
# Below ten rows even a fair coin falls on one side every time more often than once in 500.
FEWEST_ROWS = 10


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

    @property
    def bits_lost(self) -> float:
        """How many bits less these draws hold than as many even ones would."""
        return (self.null_entropy - self.entropy) / math.log(2)


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


def judged(found: Usage, *, rows_needed: int) -> str:
    r"""Say whether so few options are in use that it is a collapse, or whether rows are too few.

    Parameters
    ----------
    found
        What :func:`usage` read.
    rows_needed
        How many rows it takes to judge; ten at least are asked for in any case.

    Returns
    -------
    str
        With enough rows "collapse" where all have one option, or where their entropy is a bit below
        that of as many even draws, :math:`H \le \mathbb{E} H_{\text{even}} - \log 2`. With fewer
        "not-enough-data" where the perplexity is at most K/2. Else "healthy".

    Examples
    --------
    >>> judged(usage([40, 0, 0, 0]), rows_needed=20)
    'collapse'
    >>> judged(usage([10, 10, 10, 10]), rows_needed=20)
    'healthy'
    >>> judged(usage([2, 0, 0, 0]), rows_needed=20)
    'not-enough-data'
    """
    if found.rows >= max(FEWEST_ROWS, rows_needed):
        lost = found.used == 1 or found.bits_lost >= BITS_LOST
        return COLLAPSE if lost else HEALTHY
    return NOT_ENOUGH if found.perplexity <= found.size / 2 else HEALTHY


def checkup_of(
    found: Usage,
    *,
    rows_needed: int,
    summary: str,
    metrics: dict[str, float],
    measure: str,
    advice: Mapping[str, Advice],
    collapse: str,
    meaning: str,
    rows: str,
) -> Checkup:
    """Return what :func:`judged` says as a checkup, with one finding unless the usage is healthy.

    Parameters
    ----------
    found, rows_needed
        As in :func:`judged`.
    summary, metrics
        Of the checkup, whatever is found.
    measure
        The one of `metrics` that a finding names. Its reference is that of even draws, under the
        same name with "null_" before it.
    advice
        By kind: for `collapse`, and for "not-enough-data".
    collapse
        The kind of a collapse.
    meaning
        What a collapse means: the sentence after the summary.
    rows
        What a row is called, in the plural.

    Examples
    --------
    >>> checkup_of(
    ...     usage([0, 0, 0, 0, 0, 60]),
    ...     rows_needed=30,
    ...     summary="Sixty throws.",
    ...     metrics={"share": 1 / 6, "null_share": 1.0},
    ...     measure="share",
    ...     advice={"loaded": Advice(COLLAPSE, "Throw another die.", "page", "Dice")},
    ...     collapse="loaded",
    ...     meaning="All are sixes.",
    ...     rows="throws",
    ... ).sentence
    'Sixty throws. All are sixes.'
    """
    judgement = judged(found, rows_needed=rows_needed)
    if judgement == HEALTHY:
        return Checkup(summary, metrics)
    if judgement == COLLAPSE:
        kind, sentence = collapse, f"{summary} {meaning}"
    else:
        kind, sentence = NOT_ENOUGH, f"Too few {rows} to tell: {summary}"
    finding = advice[kind].finding(
        kind, sentence, measure, metrics[measure], reference=metrics[f"null_{measure}"]
    )
    return Checkup(summary, metrics, (finding,))


def indices(name: str, values: Any, size: int) -> Tensor:
    """Return which of `size` options each row took, after checks, on the CPU.

    Parameters
    ----------
    name
        What an error calls them.
    values
        Integers of 0 to `size` - 1, shape (N,), N >= 1: a tensor, an array or a sequence.
    size
        K.

    Returns
    -------
    Tensor
        Integers, shape (N,).

    Raises
    ------
    TypeError, ValueError
        For anything but such integers.

    Examples
    --------
    >>> indices("codes", [2, 0, 2], 3)
    tensor([2, 0, 2])
    """
    length = values.shape[0] if getattr(values, "shape", ()) else 0
    if isinstance(values, Sequence):
        length = len(values)
    rows = _checks.as_labels(name, values, length).cpu()
    _checks.integer(f"the number of {name}", len(rows), at_least=1)
    for bound in torch.aminmax(rows):
        _checks.integer(name, int(bound), at_least=0, at_most=size - 1)
    return rows


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
