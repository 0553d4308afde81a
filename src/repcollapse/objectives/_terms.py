"""The weighted sum of an objective's terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def weighted_sum(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the sum of weight times term; a term of weight 0 is left out.

    0 times an overflow would be NaN.
    """
    weighted = [(weight, term) for weight, term in zip(weights, terms, strict=True) if weight > 0]
    if not weighted:
        return 0 * terms[0]
    (weight, term), *rest = weighted
    total = weight * term
    for weight, term in rest:
        total = torch.add(total, term, alpha=weight)
    return total
