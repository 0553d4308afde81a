"""The modality gap: whether the embeddings of two towers share one space or divide it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import MODALITY_GAP, WARNING, Advice, Finding
from repcollapse.diagnostics import alignment, linear_probe, mean_share
from repcollapse.diagnostics.moments import as_double

# Two equal normals make two humps only where their means are more than two standard deviations
# apart. The best reader then says of a share of Phi(1) which of the two a number came from.
TWO_HUMPS = (1 + math.erf(1 / math.sqrt(2))) / 2
# Were it a coin which member of a pair belongs to which tower, N times the share of the gap would
# be 1 on average. In the worst case, a single direction, it is a squared normal number: beyond the
# square of three only once in 370. A reader of standardised rows sees any hair; this does not.
BEYOND_COIN = 9.0
# Right answers of a coin to N pairs scatter by at most 1 / (2 sqrt N). From here on TWO_HUMPS is
# more than three times that above one half.
MIN_PAIRS = 20
BLOCK = 1024  # rows whose scores are held at once

ADVICE = {
    MODALITY_GAP: Advice(
        WARNING,
        "A gap alone costs hardly anything where one modality is ranked against the other. Where "
        "scores of both kinds meet (a mixed index, clusters, one threshold for all), subtract each "
        "tower's mean, train at a higher temperature, or add negatives within each tower.",
        "25_modality_gap",
        "Modality gap",
    ),
}


def modality_gap(a: ArrayLike, b: ArrayLike) -> Checkup:
    r"""Say whether the embeddings of two towers keep apart by modality.

    With the unit rows :math:`u_i` and :math:`v_i` of a pair, the gap is the distance between the
    towers' centroids, and its share is what it holds of the mean squared distance in a pair:

    .. math::

        g = \lVert \bar u - \bar v \rVert, \qquad
        \text{share} = \frac{g^2}{\frac1N \sum_i \lVert u_i - v_i \rVert^2}

    If nothing but a coin decided which member of a pair is whose, the share would be 1/N on
    average, whatever the embeddings.

    Parameters
    ----------
    a, b
        Embeddings, shape (N, D), row i of both from one pair, N >= 20. They are normalised here.

    Returns
    -------
    Checkup
        `gap` in [0, 2], the `coin_gap` that the coin gives (the root of its mean square),
        `gap_share` in [0, 1], `separability` in [0, 1] (how many of the rows a linear reader gives
        to the right tower, fitted on the other half of the pairs; 0.5 by chance), `mean_share_a`
        and `mean_share_b` (each tower's cone), `alignment`, and `recall`, the share of rows whose
        nearest row of the other tower is its partner, both ways; `recall_centred` is that of rows
        less their tower's mean; by chance 1/N. The finding "modality-gap" is made where the reader
        is right in more than :math:`\Phi(1) = 0.841` of all rows and the share is more than 9/N.
        Where both towers have collapsed, each to its own point, gap_share and separability are 1;
        to the same point, the gap is 0 and the separability 0.5.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these, or with rows of zeros, which have no direction.

    References
    ----------
    Liang et al. 2022, "Mind the gap", section 4.2, for the gap; Fahim, Murphy & Fyshe 2024, "It's
    not a modality gap", for separability beside it.

    Examples
    --------
    >>> import torch
    >>> rows = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> modality_gap(rows, rows).verdict, modality_gap(rows + 2, rows - 2).verdict
    ('healthy', 'modality-gap')
    """
    a, b = _checks.as_matrix_pair("a", a, "b", b)
    if len(a) < MIN_PAIRS:
        raise ValueError(f"a and b need at least {MIN_PAIRS} rows; got {len(a)}")
    u, v = _unit("a", a), _unit("b", b)
    gap = centroid_gap(u, v)
    apart = alignment(u, v)
    metrics = {
        "gap": gap,
        "coin_gap": math.sqrt(apart / len(u)),
        "gap_share": min(gap**2 / apart, 1.0) if apart > 0 else 0.0,
        "separability": separability(u, v),
        "mean_share_a": mean_share(u),
        "mean_share_b": mean_share(v),
        "alignment": apart,
        "recall": recall(u, v),
        "recall_centred": recall(u - u.mean(dim=0), v - v.mean(dim=0)),
        "recall_chance": 1 / len(u),
    }
    said = (
        f"The towers' centroids are {gap:.2f} apart ({metrics['coin_gap']:.2f} if a coin dealt "
        f"each pair to the towers); the square of that is {metrics['gap_share']:.0%} of the mean "
        f"squared distance in a pair; a linear reader tells the tower of "
        f"{metrics['separability']:.0%} of the rows"
    )
    found = metrics["separability"] > TWO_HUMPS and metrics["gap_share"] * len(u) > BEYOND_COIN
    return Checkup(f"{said}.", metrics, (_finding(said, metrics),) if found else ())


def _finding(said: str, metrics: dict[str, float]) -> Finding:
    return ADVICE[MODALITY_GAP].finding(
        MODALITY_GAP,
        f"{said}. From {TWO_HUMPS:.0%} on they are two humps: each tower keeps to its own part.",
        "separability",
        metrics["separability"],
        reference=TWO_HUMPS,
    )


def centroid_gap(a: ArrayLike, b: ArrayLike) -> float:
    r"""Return the distance between the centroids of two towers.

    .. math:: \left\lVert \frac1N \sum_i a_i - \frac1N \sum_i b_i \right\rVert

    Parameters
    ----------
    a, b
        Embeddings of both towers, shape (N, D), row i of both from one pair, N >= 2. They are taken
        as they are; the literature has unit rows.

    Returns
    -------
    float
        In [0, inf), of unit rows in [0, 2]. Where each tower is one point it is the distance of the
        two, 0 where they are the same.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Liang et al. 2022, "Mind the gap", section 4.2.

    Examples
    --------
    >>> import torch
    >>> centroid_gap(torch.ones(4, 1), -torch.ones(4, 1))
    2.0
    """
    a, b = _checks.as_matrix_pair("a", a, "b", b)
    return float((as_double(a).mean(dim=0) - as_double(b).mean(dim=0)).norm())


def separability(a: ArrayLike, b: ArrayLike) -> float:
    r"""Return how many rows a linear reader gives to the right tower.

    Logistic regression on standardised features, fitted on every second pair and asked about the
    others, and the same in turn. Both rows of a pair are on one side. With :math:`s_i` the log odds
    of the second tower by the reader that was not fitted on pair i,

    .. math::

        \frac{1}{2N} \sum_i \left(\left[s_i(a_i) \le 0\right] + \left[s_i(b_i) > 0\right]\right)

    Parameters
    ----------
    a, b
        Embeddings of both towers, shape (N, D), row i of both from one pair, N >= 2.

    Returns
    -------
    float
        In [0, 1]. By chance it is 0.5, and so it is where both towers are one point; 1 where each
        has collapsed to a point of its own.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Fahim, Murphy & Fyshe 2024, "It's not a modality gap".

    Examples
    --------
    >>> import torch
    >>> rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> separability(rows, rows), separability(rows + 9, rows - 9)
    (0.5, 1.0)
    """
    a, b = _checks.as_matrix_pair("a", a, "b", b)
    right = 0.0
    for half in (0, 1):
        fitted, asked = (torch.cat([rows[side::2] for rows in (a, b)]) for side in (half, 1 - half))
        right += len(asked) * linear_probe(fitted, _sides(fitted), asked, _sides(asked))
    return right / (2 * len(a))


def _sides(rows: Tensor) -> Tensor:
    """Return which tower each of these rows is from, the first half from 0."""
    return torch.tensor([0, 1]).repeat_interleave(len(rows) // 2)


def recall(a: ArrayLike, b: ArrayLike) -> float:
    r"""Return how often the row of the other tower that scores highest is the partner.

    .. math::

        \frac{1}{2N} \sum_i \left(\left[\operatorname{arg\,max}_k\, a_i^\top b_k = i\right]
        + \left[\operatorname{arg\,max}_k\, a_k^\top b_i = i\right]\right)

    A row that shares the first place with others counts in part. Scores are taken for a block of
    rows at a time, so that N x N numbers are never held.

    Parameters
    ----------
    a, b
        Embeddings of both towers, shape (N, D), row i of both from one pair, N >= 2. They are
        scored as they are; of unit rows the highest is the nearest.

    Returns
    -------
    float
        In [0, 1]; 1/N by chance, and where all rows of a tower are the same.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Hodosh, Young & Hockenmaier 2013, "Framing image description as a ranking task", for recall at
    1, there each way by itself.

    Examples
    --------
    >>> import torch
    >>> recall(torch.eye(4), torch.eye(4)), recall(torch.eye(4), torch.ones(4, 4))
    (1.0, 0.25)
    """
    a, b = _checks.as_matrix_pair("a", a, "b", b)
    a, b = as_double(a), as_double(b)
    return (_first(a, b) + _first(b, a)) / (2 * len(a))


def _first(asking: Tensor, asked: Tensor) -> float:
    """Return how many rows find their partner first, one of k in a tie as 1/k."""
    found = 0.0
    for start in range(0, len(asking), BLOCK):
        scores = asking[start : start + BLOCK] @ asked.T
        best = scores == scores.amax(dim=1, keepdim=True)
        found += float((best.diagonal(offset=start).double() / best.sum(dim=1)).sum())
    return found


def _unit(name: str, rows: Tensor) -> Tensor:
    rows = as_double(rows)
    lengths = rows.norm(dim=1, keepdim=True)
    if not bool(lengths.all()):
        zeros = int((lengths == 0).sum())
        raise ValueError(f"{name} must have no row of zeros; {zeros} of {len(rows)} rows are")
    return rows / lengths
