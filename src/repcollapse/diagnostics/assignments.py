"""Measures of assignments to prototypes: clusters, codes, the outputs of a softmax."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import as_double

TOLERANCE = 1e-2  # bfloat16 keeps two to three digits of a sum


class PrototypeUsage(NamedTuple):
    """The share of the prototypes that are in `use`, and the mean `entropy` of one assignment."""

    use: float
    entropy: float


def prototype_usage(assignments: ArrayLike) -> PrototypeUsage:
    r"""Return how many of the prototypes are used, and how undecided each assignment is.

    .. math:: \frac{1}{K} \exp H\Bigl(\frac{1}{N} \sum_i p_i\Bigr), \qquad
              \frac{1}{N} \sum_i H(p_i), \qquad H(p) = -\sum_k p_k \log p_k

    Parameters
    ----------
    assignments
        Probabilities, shape (N, K), N >= 1: rows are not negative and sum to one, within 1 %; they
        are divided by their sums. Hard assignments are rows of one 1.

    Returns
    -------
    PrototypeUsage
        `use` in [1/K, 1] and `entropy` in [0, log K]. There are two collapses: all to one
        prototype, 1/K and 0, and every sample to all alike, 1 and log K. A decided and balanced
        assignment has 1 and 0. Isotropic embeddings have no value of their own here: it depends on
        the prototypes. Invariant to the order of the samples and of the prototypes.

    Raises
    ------
    TypeError, ValueError
        For anything but such rows.

    References
    ----------
    The two entropies whose difference is the mutual information of sample and prototype; Caron et
    al. 2020 (SwAV) and 2021 (DINO) describe the two collapses.

    Examples
    --------
    >>> import torch
    >>> prototype_usage(torch.eye(4))
    PrototypeUsage(use=1.0, entropy=0.0)
    >>> prototype_usage(torch.eye(4)[[2, 2, 2]])
    PrototypeUsage(use=0.25, entropy=0.0)
    """
    p = as_double(_checks.as_matrix("assignments", assignments, min_rows=1))
    sums = p.sum(dim=1, keepdim=True)
    wrong = ((p < 0).any(dim=1) | ((sums[:, 0] - 1).abs() > TOLERANCE)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"assignments must have rows that are not negative and sum to 1; row {row} sums to "
            f"{float(sums[row]):g} with least entry {float(p[row].min()):g} "
            f"({len(wrong)} of {len(p)} rows are such)"
        )
    p = p / sums
    use = math.exp(float(torch.special.entr(p.mean(dim=0)).sum())) / p.shape[1]
    entropy = float(torch.special.entr(p).sum(dim=1).mean())
    return PrototypeUsage(min(use, 1.0), entropy)
