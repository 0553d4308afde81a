"""Has a codebook collapsed? By the entropy of its codes, against that of as many even draws."""

from __future__ import annotations

from collections.abc import Sequence

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.checkups.usage import checkup_of, indices, usage
from repcollapse.diagnosis.findings import CODEBOOK, COLLAPSE, NOT_ENOUGH, WARNING, Advice

# Cochran's rule for counts, five to a cell, asked of the cells that were seen. As long as rows keep
# coming upon new codes, nobody knows how many more there are; once each has come five times, the
# chance that a code of equal weight was missed is e^-5 or less.
ROWS_PER_CODE = 5

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


def codebook_usage(codes: ArrayLike | Sequence[int], size: int) -> Checkup:
    r"""Say whether a codebook is in use: "codebook-collapse", too few rows to tell, or healthy.

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
    found = usage(indices("codes", codes, size).bincount(minlength=size))
    metrics = {name: float(value) for name, value in found._asdict().items()}
    metrics["bits_lost"] = found.bits_lost
    seen = (
        f"{found.rows:,} rows use {found.used:,} of {size:,} codes, with a perplexity of "
        f"{found.perplexity:.1f}; as many even draws would use {found.null_share * size:,.1f}, "
        f"with {found.null_perplexity:.1f}."
    )
    return checkup_of(
        found,
        rows_needed=ROWS_PER_CODE * found.used,
        summary=seen,
        metrics=metrics,
        measure="perplexity",
        advice=ADVICE,
        collapse=CODEBOOK,
        meaning=f"That is {found.bits_lost:.1f} bits a code less.",
        rows="rows",
    )
