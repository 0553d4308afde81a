"""Does a router use its experts? By the entropy of their load, against that of even draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.checkups.usage import checkup_of, indices, usage
from repcollapse.diagnosis.findings import COLLAPSE, NOT_ENOUGH, ROUTING, WARNING, Advice
from repcollapse.diagnostics import prototype_usage

# Cochran's rule for counts, five to a cell. Experts, unlike codes, are few and known: with five
# tokens to each, an even router misses a given one with a chance of e^-5 or less.
TOKENS_PER_EXPERT = 5

ADVICE = {
    ROUTING: Advice(
        COLLAPSE,
        "An expert that gets no tokens learns nothing, and so gets none. Give what all tokens "
        "share an expert of its own, and add a balancing loss. Then compare the error with that "
        "of one dense expert: a balanced load is not a specialised one.",
        "23_expert_routing",
        "Expert routing",
    ),
    NOT_ENOUGH: Advice(
        WARNING,
        "Route more tokens, five or more to an expert: this is about their number, not the model.",
        "23_expert_routing",
        "Expert routing",
    ),
}


def expert_load(assignments: ArrayLike | Sequence[int], experts: int) -> Checkup:
    r"""Say whether a router uses its experts: "routing-collapse", too few tokens, or healthy.

    A collapse is found where the load has a bit less entropy than as many even draws would have,

    .. math:: H(f) \le \mathbb{E} H_{\text{even}} - \log 2,

    that of half of the experts, or where one gets everything, if there are five tokens to an expert
    and ten in all. With fewer, and a perplexity up to E/2, it is said that they are too few to
    tell. Healthy means balanced and no more: whether an expert's tokens have anything in common is
    not looked at.

    Parameters
    ----------
    assignments
        The expert of each token, integers of 0 to E - 1, shape (N,); or the router's probabilities,
        shape (N, E), rows that sum to one, each of which is taken to go to its largest entry, the
        first where there are several. With top-k routing, pass all k choices in one vector.
    experts
        E >= 2.

    Returns
    -------
    Checkup
        `tokens`, `used` experts, their `share`, `load_entropy` over log E, `max_load` (the largest
        share of the tokens), `perplexity`; `null_share`, `null_load_entropy` and `null_perplexity`
        of as many even draws; `bits_lost` against them. Of probabilities also `decision_entropy`,
        the mean entropy of a row over log E. At collapse to one expert `load_entropy` is 0 and
        `max_load` 1.

    Raises
    ------
    TypeError, ValueError
        For assignments or experts other than these.

    References
    ----------
    Shazeer et al. 2017, section 4 and appendix A, where the load of experts is held against an
    even one; Fedus et al. 2022, section 2.2.

    Examples
    --------
    >>> expert_load(list(range(8)) * 10, experts=8).verdict
    'healthy'
    >>> expert_load([3] * 80, experts=8).verdict
    'routing-collapse'
    """
    experts = _checks.integer("experts", experts, at_least=2)
    routes, undecided = _routes(assignments, experts)
    counts = routes.bincount(minlength=experts)
    found, most_possible = usage(counts), math.log(experts)
    metrics = {
        "tokens": float(found.rows),
        "used": float(found.used),
        "share": found.share,
        "load_entropy": found.entropy / most_possible,
        "max_load": float(counts.max()) / found.rows,
        "perplexity": found.perplexity,
        "null_share": found.null_share,
        "null_load_entropy": found.null_entropy / most_possible,
        "null_perplexity": found.null_perplexity,
        "bits_lost": found.bits_lost,
        **undecided,
    }
    seen = (
        f"{found.rows:,} tokens go to {found.used:,} of {experts:,} experts, "
        f"{metrics['max_load']:.0%} of them to one; the entropy of the load is "
        f"{metrics['load_entropy']:.2f} of log E, that of as many even draws "
        f"{metrics['null_load_entropy']:.2f}."
    )
    return checkup_of(
        found,
        rows_needed=TOKENS_PER_EXPERT * experts,
        summary=seen,
        metrics=metrics,
        measure="load_entropy",
        advice=ADVICE,
        collapse=ROUTING,
        meaning=f"A load as uneven uses no more than {found.perplexity:.1f} experts in effect.",
        rows="tokens",
    )


def _routes(assignments: Any, experts: int) -> tuple[Tensor, dict[str, float]]:
    """Return the expert of each token, and of probabilities how undecided they are."""
    if getattr(assignments, "ndim", 1) == 2:
        p = _checks.as_matrix("assignments", assignments, min_rows=1, dimension=experts)
        undecided = prototype_usage(p).entropy / math.log(experts)  # raises for other rows
        return p.detach().argmax(dim=1).cpu(), {"decision_entropy": undecided}
    return indices("assignments", assignments, experts), {}
