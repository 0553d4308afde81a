"""Two towers, one space: whether the embeddings of two modalities share it or divide it."""

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

ADVICE = Advice(
    WARNING,
    "A gap alone costs hardly anything where one modality is ranked against the other. Where "
    "scores of both kinds meet (a mixed index, clusters, one threshold for all), subtract each "
    "tower's mean, train at a higher temperature, or add negatives within each tower.",
    "25_modality_gap",
    "Modality gap",
)


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
    gap = float((u.mean(dim=0) - v.mean(dim=0)).norm())
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
        f"each pair to the towers), {metrics['gap_share']:.0%} of what separates a pair; a linear "
        f"reader tells the tower of {metrics['separability']:.0%} of the rows"
    )
    found = metrics["separability"] > TWO_HUMPS and metrics["gap_share"] * len(u) > BEYOND_COIN
    return Checkup(f"{said}.", metrics, (_finding(said, metrics),) if found else ())


def _finding(said: str, metrics: dict[str, float]) -> Finding:
    return ADVICE.finding(
        MODALITY_GAP,
        f"{said}. From {TWO_HUMPS:.0%} on they are two humps: each tower keeps to its own part.",
        "separability",
        metrics["separability"],
        reference=TWO_HUMPS,
    )


def separability(u: Tensor, v: Tensor) -> float:
    """Return how many rows a linear reader gives to the right tower.

    Logistic regression on one half of the pairs, asked about the other, and the same in turn.
    """
    right = 0.0
    for half in (0, 1):
        fitted = (u[half::2], v[half::2])
        asked = (u[1 - half :: 2], v[1 - half :: 2])
        rows = 2 * len(asked[0])
        right += rows * linear_probe(
            torch.cat(fitted), _towers(len(fitted[0])), torch.cat(asked), _towers(rows // 2)
        )
    return right / (2 * len(u))


def _towers(rows: int) -> Tensor:
    return torch.tensor([0, 1]).repeat_interleave(rows)


def recall(u: Tensor, v: Tensor) -> float:
    """Return how often the nearest row of the other tower is the partner, mean of both ways.

    A row that shares the first place with others counts in part: where all rows of the other tower
    are the same, it is chance, 1/N.
    """
    scores = u @ v.T
    return (_first(scores) + _first(scores.T)) / 2


def _first(scores: Tensor) -> float:
    best = scores == scores.amax(dim=1, keepdim=True)
    return float((best.diagonal() / best.sum(dim=1)).mean())


def _unit(name: str, rows: Tensor) -> Tensor:
    rows = as_double(rows)
    lengths = rows.norm(dim=1, keepdim=True)
    if not bool(lengths.all()):
        zeros = int((lengths == 0).sum())
        raise ValueError(f"{name} must have no row of zeros; {zeros} of {len(rows)} rows are")
    return rows / lengths
