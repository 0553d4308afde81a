"""Whether rows sit on few points: pairs of rows, and how near they are to one another."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from torch import Tensor

BLOCK = 512
Z95 = NormalDist().inv_cdf(0.975)
# Radii in units of the root mean square distance of a pair, four to a factor of three, up to three
# times the largest that a point may have.
RADII = 3.0 ** (torch.arange(-44, -2, dtype=torch.float64) / 4)
FACTOR = 4  # places in RADII
LARGEST = 0.15  # of a point: the rows on it then vary by about one per cent of the whole variance
COPY = 0.05  # of a copy of a row, which shows no dimension that the row does not
FLAT = 1.25  # a line has 3 times as many pairs within 3 times a radius, a plane 9 times
CROWDED = 0.9  # share of the rows that have company
ROWS_A_POINT = 8  # copies of single rows, and a handful of views of one sample, are no collapse


@dataclass(frozen=True)
class Crowding:
    """How the rows sit together.

    Attributes
    ----------
    points
        On how many points they sit, as the inverse of the chance that two rows share one, and the
        number of rows where they do not sit on points at all.
    radius
        How far apart rows of one point are, as a share of the root mean square distance; NaN where
        there are no points.
    company
        The share of rows that have another row within that radius.
    flatness
        By what factor the number of near pairs grows where the radius is tripled.
    duplicates
        The share of rows that repeat another row to a millionth of the distance.
    distinct
        How many of `rows` have none before them within `COPY` of the distance.
    heaviest
        The share of rows within `COPY` of the distance of the row that has most of them so near.
    low, high
        The ends of the 95 % interval of `points`; NaN where there are no points.
    """

    points: float
    radius: float
    company: float
    flatness: float
    duplicates: float
    distinct: float
    heaviest: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def none(cls, rows: int, total: int) -> Crowding:
        """Return that of rows which do not sit on points, and none of which is a copy."""
        alone = 1 / max(rows, 1)
        return cls(float(total), math.nan, 0.0, math.nan, 0.0, float(rows), alone)


def apart(centred: Tensor) -> bool:
    """Return whether rows about their mean sit on no points, and none is a copy, by one look.

    It takes a third of the time of :func:`crowding`, and where it says no, that has to say more.
    """
    n = len(centred)
    squares = centred.square().sum(dim=1)
    squared = torch.addmm(squares, centred, centred.T, alpha=-2).add_(squares[:, None])
    nearest = squared.fill_diagonal_(torch.inf).min(dim=1).values
    scale = 2 * float(squares.sum() - centred.sum(dim=0).square().sum() / n) / max(n - 1, 1)
    return (
        float(nearest.min()) > scale * COPY**2
        and int((nearest <= scale * LARGEST**2).sum()) < CROWDED * n
    )


def crowding(rows: Tensor, total: int) -> Crowding:
    r"""Return how `rows`, a sample of `total` rows, sit together.

    The share of pairs within a radius r, the correlation integral, grows like :math:`r^d` where
    rows lie on something of dimension d. Where they sit on separate points it does not grow at all
    between the size of a point and the distance of two: such a plateau, over a factor of three, is
    what is looked for.

    References
    ----------
    Grassberger & Procaccia 1983, "Measuring the strangeness of strange attractors".
    """
    n = len(rows)
    if n < 2:
        return Crowding.none(n, total)
    rows = rows - rows[0]
    rows = rows - rows.mean(dim=0)
    squares = rows.square().sum(dim=1)
    scale = 2 * float(squares.sum()) / (n - 1)  # the mean square distance of two different rows
    if scale == 0:
        return Crowding(1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    edges = scale * RADII.square()
    counts = torch.zeros(len(edges), dtype=torch.float64)
    nearest = torch.full((n,), torch.inf, dtype=torch.float64)
    distinct, most = 0, 1
    for start in range(0, n, BLOCK):
        piece, own = rows[start : start + BLOCK], squares[start : start + BLOCK]
        squared = torch.addmm(squares, piece, rows.T, alpha=-2) + own[:, None]
        at = torch.arange(len(piece))
        squared[at, at + start] = torch.inf
        nearest[start : start + BLOCK] = squared.min(dim=1).values
        near = squared[squared <= edges[-1]]  # few, as a rule
        counts += torch.bincount(torch.bucketize(near, edges), minlength=len(edges)).double()
        close = nearest[start : start + BLOCK] <= scale * COPY**2
        if bool(close.any()):  # to rows before them, or only to later ones?
            beside = squared <= scale * COPY**2
            most = max(most, 1 + int(beside.sum(dim=1).max()))
            close = beside.tril(start - 1).any(dim=1)
        distinct += int((~close).sum())
    duplicates = float((nearest <= scale * 1e-12).double().mean())
    found = replace(
        Crowding.none(n, total),
        duplicates=duplicates,
        distinct=float(distinct),
        heaviest=most / n,
    )
    if float((nearest <= scale * LARGEST**2).double().mean()) < CROWDED:
        return found  # nor have they company within any smaller radius
    pairs = counts.cumsum(0) / (n * (n - 1))
    company = torch.stack([(nearest <= scale * radius**2).double().mean() for radius in RADII])
    points = 1 / (pairs + (1 - pairs) / total)
    for k in range(len(RADII) - FACTOR):
        if RADII[k] > LARGEST:
            break
        growth = float(pairs[k + FACTOR] / pairs[k]) if pairs[k] > 0 else math.inf
        if (
            company[k] >= CROWDED
            and points[k] * ROWS_A_POINT <= total
            and growth <= FLAT
            and not growth >= found.flatness
        ):
            found = replace(
                found,
                points=float(points[k]),
                radius=float(RADII[k]),
                company=float(company[k]),
                flatness=growth,
            )
    if math.isnan(found.radius):
        return found
    low, high = _interval(rows, squares, scale * found.radius**2, total)
    return replace(found, low=min(low, found.points), high=max(high, found.points))


def _interval(rows: Tensor, squares: Tensor, limit: float, total: int) -> tuple[float, float]:
    r"""Return the ends of the 95 % interval of the number of points, from pairs within a radius.

    The chance that two rows share a point is a mean over pairs (a U-statistic), whose variance is
    that of twice a row's own share of them, by N (Hoeffding 1948). Points that are all as likely
    have an interval that is somewhat too wide.
    """
    n = len(rows)
    near = torch.zeros(n, dtype=torch.float64)
    for start in range(0, n, BLOCK):
        piece, own = rows[start : start + BLOCK], squares[start : start + BLOCK]
        squared = torch.addmm(squares, piece, rows.T, alpha=-2) + own[:, None]
        near[start : start + BLOCK] = (squared <= limit).sum(dim=1) - 1  # not with itself
    shares = near / (n - 1)
    error, chance = 2 * float(shares.std()) / math.sqrt(n), float(shares.mean())
    most, least = min(chance + Z95 * error, 1.0), max(chance - Z95 * error, 0.0)
    return 1 / (most + (1 - most) / total), 1 / (least + (1 - least) / total)
