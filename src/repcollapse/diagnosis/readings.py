"""From moments and samples to numbers: what is read, what isotropic data would read, how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from repcollapse.diagnosis.crowding import Z95, Crowding, crowding
from repcollapse.diagnosis.sampling import GroupSample, RowSample
from repcollapse.diagnostics.groups import (
    GroupedMoments,
    intraclass_correlation_of,
    lidar_of,
    neural_collapse_of,
)
from repcollapse.diagnostics.measures import null_measures, null_singular_values
from repcollapse.diagnostics.moments import EmbeddingMoments, unit_rows
from repcollapse.diagnostics.neighbours import intrinsic_dimension
from repcollapse.diagnostics.pairs import uniformity
from repcollapse.diagnostics.spectrum import (
    alpha_req_of,
    cev_auc_of,
    effective_rank_of,
    offdiagonal_correlation_of,
    participation_ratio_of,
    participation_ratio_of_moments,
    rankme_of,
    singular_values,
    srank_of,
    stable_rank_of,
)

BLOCKS = 16
FAR = 10.0  # times the median distance from the median: 6.7 standard deviations on a normal line
FEW = 0.05  # more than this many far rows are no outliers but what the data look like
HEAVY = (
    10.0  # of the rows' fourth powers over squares: 3 for a normal line, less for more directions
)
AXES = 5  # leading ones: an axis of little weight does not matter to a reader
WIDE = 3  # columns a row: from here on singular values of the rows cost less than eigenvalues
FIT = ("alpha_req", "alpha_req_r2", "alpha_req_first", "alpha_req_last")
NO_FIT = (math.nan,) * 4
SHARES = {"dimensions_99": 0.99, "dimensions_999": 0.999}

Numbers = dict[str, float]
Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Evidence:
    """The numbers that a verdict is decided on.

    Attributes
    ----------
    rows, dimension
        N and D.
    sampled
        Of how many rows pairs were taken.
    metrics, nulls, intervals
        Readings by name; what isotropic data of the same size would read; 95 % intervals.
    spectrum, null_spectrum
        Eigenvalues of the covariance as shares of their sum, descending, and those of isotropic
        data.
    """

    rows: int
    dimension: int
    sampled: int
    metrics: Numbers
    nulls: Numbers
    intervals: Intervals
    spectrum: tuple[float, ...]
    null_spectrum: tuple[float, ...]


def dimensions_holding(energies: Tensor, share: float) -> float:
    """Return how many of descending `energies` hold a share of their sum, parts of one included.

    Examples
    --------
    >>> dimensions_holding(torch.tensor([3.0, 1.0, 0.0]), 0.875)
    1.5
    """
    total = float(energies.sum())
    if total <= 0:
        return 0.0
    held = energies.cumsum(0)
    full = min(int((held < share * total).sum()), len(energies) - 1)
    before = float(held[full - 1]) if full else 0.0
    return full + (share * total - before) / float(energies[full])


def read_rows(state: EmbeddingMoments, sample: RowSample) -> Evidence:
    """Return what the rows themselves say."""
    moments, units = state.rows, state.units
    assert units is not None
    n, dimension = moments.count, len(moments.mean)
    rows = sample.rows
    whole = len(rows) == n
    metrics: Numbers = {"rows": float(n), "dimension": float(dimension)}
    metrics |= read_scale(
        moments.mean,
        moments.scatter.diagonal(),
        units.scatter.diagonal(),
        rows=n,
        directed=units.count,
        zero_rows=state.zero_rows,
    )
    if n < 2:
        return Evidence(n, dimension, len(rows), metrics, {}, {}, (), ())
    centred = rows - moments.mean
    if whole and WIDE * n < dimension:  # the rows are far fewer numbers than their scatter
        sigma, plain = singular_values(rows), singular_values(rows, center=False)
    else:
        sigma = moments.eigenvalues().sqrt()[: min(n, dimension)]
        plain = moments.eigenvalues(center=False).sqrt()[: min(n, dimension)]
    if whole and n < dimension:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        projected = (vectors.square() * values.clamp(min=0)).flip(1)
    else:
        axes = torch.linalg.eigh(moments.scatter).eigenvectors.flip(1)
        projected = (centred @ axes)[:, : len(sigma)].square()
    energies = sigma.square()
    metrics |= _shape(sigma, plain)
    metrics["participation_ratio_unbiased"] = participation_ratio_of_moments(moments)
    dead = offdiagonal_correlation_of(moments)
    metrics |= {"offdiagonal_correlation": dead.value, "dead_dimensions": float(len(dead.dead))}
    nulls, null_energies = read_nulls(n, dimension)
    intervals = _intervals(metrics, energies / (n - 1), projected, n)
    intervals |= read_direction_intervals(metrics, units.mean, unit_rows(rows), n)
    of_pairs, low_high = _pairs(rows, n)
    metrics |= of_pairs
    if low_high is not None:
        intervals["uniformity"] = low_high
    trace = float(moments.scatter.diagonal().sum())
    of_core, limits = read_core(rows, n, trace, moments.fourth)
    metrics |= of_core
    intervals |= limits
    return Evidence(
        n,
        dimension,
        len(rows),
        metrics,
        nulls,
        intervals,
        _shares(energies),
        _shares(null_energies),
    )


def read_scale(
    mean: Tensor,
    squares: Tensor,
    unit_squares: Tensor,
    *,
    rows: int,
    directed: int,
    zero_rows: int,
) -> Numbers:
    """Return where rows are and how far apart, from their mean and sums of squares about it."""
    variance = squares.clamp(min=0)
    distance = float(variance.sum()) / max(rows, 1)
    spread, feature_std = 0.0, 0.0
    if directed >= 2:
        of_units = (unit_squares / directed).clamp(min=0)
        spread = min(math.sqrt(float(of_units.sum())), 1.0)
        feature_std = min(float(of_units.sqrt().mean()) * math.sqrt(len(of_units)), 1.0)
    return {
        "zero_rows": float(zero_rows),
        "raw_std": float((variance / max(rows - 1, 1)).sqrt().mean()),
        "length": math.sqrt(distance + float(mean.square().sum())),
        "distance": math.sqrt(distance),
        "largest_feature": float(variance.argmax()),
        "largest_feature_share": float(variance.max() / variance.sum()) if distance > 0 else 0.0,
        "feature_std": feature_std,
        "spread": spread,
        "mean_share": 1.0 - spread**2,
    }


def _shape(sigma: Tensor, plain: Tensor) -> Numbers:
    energies = sigma.square()
    found = {name: dimensions_holding(energies, share) for name, share in SHARES.items()}
    found |= {
        "rank": float((sigma > 0).sum()),
        "stable_rank": stable_rank_of(sigma),
        "participation_ratio": participation_ratio_of(sigma),
        "effective_rank_lambda": effective_rank_of(energies),
        "effective_rank": effective_rank_of(sigma),
        "rankme": rankme_of(plain),
        "srank": float(srank_of(sigma)),
        "cev_auc": cev_auc_of(sigma),
    }
    try:
        fit: tuple[float, ...] = alpha_req_of(sigma)
    except ValueError:  # fewer than ten eigenvalues from the eleventh on
        fit = NO_FIT
    return found | dict(zip(FIT, map(float, fit), strict=True))


def read_nulls(n: int, dimension: int) -> tuple[Numbers, Tensor]:
    """Return what isotropic data of this size read, and their energies."""
    nulls, energies = _nulls(n, dimension)
    return dict(nulls), energies


@lru_cache(maxsize=64)  # a monitor asks for the same ones at every reading
def _nulls(n: int, dimension: int) -> tuple[Numbers, Tensor]:
    from scipy.special import hyp0f1

    nulls = null_measures(n, dimension)
    # The first is of variance 1, which nothing else is; the others are not read.
    for name in ("raw_std", "coding_rate", "coding_rate_normalised"):
        del nulls[name]
    energies = null_singular_values(n, dimension).square()
    nulls |= {name: dimensions_holding(energies, share) for name, share in SHARES.items()}
    # Directions uniform on the sphere, t = 2; two of them, in one dimension.
    nulls["uniformity"] = math.log(float(hyp0f1(dimension / 2, 4.0))) - 4
    return nulls, energies


def _shares(energies: Tensor) -> tuple[float, ...]:
    total = float(energies.sum())
    return tuple((energies / total).tolist()) if total > 0 else (0.0,) * len(energies)


def _intervals(metrics: Numbers, variances: Tensor, projected: Tensor, n: int) -> Intervals:
    r"""Return the intervals of measures of the spectrum, by the infinitesimal jackknife.

    A measure f of the covariance moves by :math:`\sum_k g_k ((u_k^\top y_i)^2 - \lambda_k)` for a
    row y_i of weight one, :math:`g_k = \partial f / \partial \lambda_k`, and the variance of that
    over the rows, by N, is the variance of the measure (Jaeckel 1972; Efron 1982, chapter 6).
    """
    total = float(variances.sum())
    if total <= 0 or len(projected) < 3:
        return {}
    k = min(len(variances), projected.shape[1])
    lam, projected = variances[:k] / total, projected[:, :k] / total  # none of them has a scale
    positive = lam > 0
    logs = torch.where(positive, lam.clamp(min=1e-300).log(), 0.0)
    sigma = lam.sqrt()
    q = sigma / sigma.sum()
    log_q = torch.where(positive, q.clamp(min=1e-300).log(), 0.0)
    squares = float(lam.square().sum())
    first = torch.zeros_like(lam)
    first[0] = 1.0
    entropy, entropy_q = float((-lam * logs).sum()), float((-q * log_q).sum())
    gradients = {
        "participation_ratio": 2 / squares - 2 / squares**2 * lam,
        "stable_rank": 1 / lam[0] - first / lam[0] ** 2,
        "effective_rank_lambda": math.exp(entropy) * (-logs - entropy),
        "effective_rank": torch.where(
            positive,
            math.exp(entropy_q)
            * (-log_q - entropy_q)
            / (2 * sigma.sum() * sigma.clamp(min=1e-150)),
            0.0,
        ),
    }
    held = lam.cumsum(0)
    for name, share in SHARES.items():
        full = min(int((held < share).sum()), k - 1)
        before = float(held[full - 1]) if full else 0.0
        gradient = torch.full_like(lam, share)
        gradient[:full] -= 1
        gradient[full] -= (share - before) / lam[full]
        gradients[name] = gradient / lam[full]
    found = {}
    for name, gradient in gradients.items():
        influence = projected @ gradient
        error = float(influence.std()) / math.sqrt(n)
        found[name] = _around(metrics[name], error, low=0.0)
    return found


def _around(
    value: float, error: float, *, low: float = -math.inf, high: float = math.inf
) -> tuple[float, float]:
    return max(value - Z95 * error, low), min(value + Z95 * error, high)


def read_direction_intervals(metrics: Numbers, mean: Tensor, directed: Tensor, n: int) -> Intervals:
    """Return the intervals of mean share and spread, from some of n directions and their mean."""
    if len(directed) < 3:
        return {}
    error = 2 * float((directed @ mean).std()) / math.sqrt(n)  # of the mean's squared length
    share, spread = metrics["mean_share"], metrics["spread"]
    found = {"mean_share": _around(share, error, low=0.0, high=1.0)}
    low, high = found["mean_share"]
    found["spread"] = (math.sqrt(1 - high), math.sqrt(1 - low)) if spread > 0 else (0.0, 0.0)
    return found


def _pairs(rows: Tensor, n: int) -> tuple[Numbers, tuple[float, float] | None]:
    found = {"uniformity": uniformity(rows), "intrinsic_dimension": math.nan}
    if len(rows) >= 3:
        found["intrinsic_dimension"] = intrinsic_dimension(rows).value
    directed = rows[(rows != 0).any(dim=1)]
    if len(directed) < len(rows):  # the origin may be the nearest neighbour of all the others
        found["intrinsic_dimension_nonzero"] = math.nan
        if len(directed) >= 3:
            found["intrinsic_dimension_nonzero"] = intrinsic_dimension(directed).value
    # Blocks of rows in their order, which is random: each has its own uniformity.
    interval = None
    if len(rows) >= 4 * BLOCKS:
        parts = [uniformity(rows[k::BLOCKS]) for k in range(BLOCKS)]
        error = float(np.std(parts, ddof=1)) / math.sqrt(BLOCKS)
        interval = _around(found["uniformity"], error, high=0.0)
    return found, interval


def read_core(
    rows: Tensor, n: int, trace: float, fourth: float, *, apart: bool = False
) -> tuple[Numbers, Intervals]:
    """Return how a sample of n rows sits together, and what is left without the far ones.

    `trace` and `fourth` are the sums of the second and of the fourth powers of the distances of all
    rows from their mean. With `apart`, it is known that neither rows nor directions are near enough
    to one another to sit on points (:func:`~repcollapse.diagnosis.crowding.apart`).
    """
    far = torch.linalg.vector_norm(rows - rows.median(dim=0).values, dim=1)
    kept = far <= FAR * far.median()
    outliers = float((~kept).double().mean())
    kurtosis = n * fourth / trace**2 if trace > 0 else 0.0
    if outliers > FEW:
        kept = torch.ones_like(kept)
    apart = apart and outliers == 0  # without its outliers, a sample is another
    core = rows if apart else rows[kept]
    crowd = Crowding.none(len(core), n) if apart else crowding(core, n)
    found = {
        "outliers": outliers,
        "row_kurtosis": kurtosis,
        "duplicates": crowd.duplicates,
        "points": crowd.points,
        "point_radius": crowd.radius,
        "point_company": crowd.company,
        "distinct": crowd.distinct,
        "heaviest_place": crowd.heaviest,
    }
    intervals: Intervals = {}
    if not math.isnan(crowd.radius):
        intervals["points"] = (crowd.low, crowd.high)
    if math.isnan(crowd.radius) and not apart:
        # Points of a cosine are directions, whatever the lengths of the rows.
        crowd = crowding(unit_rows(core), n)
        if not math.isnan(crowd.radius):
            found |= {
                "direction_points": crowd.points,
                "direction_radius": crowd.radius,
                "direction_company": crowd.company,
            }
            intervals["direction_points"] = (crowd.low, crowd.high)
    if len(core) >= 2 and (0 < outliers <= FEW or kurtosis > HEAVY):
        sigma = singular_values(core)
        null = null_singular_values(len(core), core.shape[1]).square()
        directed = unit_rows(core)
        found["core_rows"] = float(len(core))
        for name, share in SHARES.items():
            found[f"core_{name}"] = dimensions_holding(sigma.square(), share)
            found[f"core_null_{name}"] = dimensions_holding(null, share)
        found["core_spread"] = 0.0
        if len(directed) >= 2:
            mean = directed.mean(dim=0)
            about = directed - mean
            spread = min(math.sqrt(float(about.square().sum()) / len(directed)), 1.0)
            found["core_spread"] = spread
            of_core = {"spread": spread, "mean_share": 1.0 - spread**2}
            limits = read_direction_intervals(of_core, mean, directed, len(directed))
            if "spread" in limits:
                intervals["core_spread"] = limits["spread"]
    return found, intervals


def read_labels(grouped: GroupedMoments, sample: RowSample) -> tuple[Numbers, Intervals]:
    """Return what is left of the classes."""
    counts = grouped.counts.double()
    n, classes = int(counts.sum()), len(counts)
    found: Numbers = {"classes": float(classes), "chance": float(counts.max()) / n}
    if classes < 2 or n <= classes:
        return found, {}
    within = float(grouped.within.diagonal().sum())
    mean = (counts / n) @ (grouped.means - grouped.means[0]) + grouped.means[0]
    between = float(counts @ (grouped.means - mean).square().sum(dim=1))
    nc1, norms, angles = neural_collapse_of(grouped)
    found |= {"nc1": nc1, "nc2_norms": norms, "nc2_angles": angles}
    total = within + between
    found["within_share"] = within / total if total > 0 else math.nan
    found["class_share"] = between / total if total > 0 else math.nan
    accuracy, size = _nearest_mean(grouped, sample)
    found["nearest_mean_accuracy"] = accuracy
    return found, {"nearest_mean_accuracy": _wilson(accuracy, size)}


def _nearest_mean(grouped: GroupedMoments, sample: RowSample) -> tuple[float, int]:
    """Return how many sampled rows are nearest to the mean of the others of their class."""
    labels = torch.from_numpy(sample.labels)
    own = torch.searchsorted(grouped.keys, labels)
    counts = grouped.counts.double()
    asked = counts[own] >= 2  # alone in its class, a row has no others
    rows, own = sample.rows[asked], own[asked]
    if len(rows) == 0:
        return math.nan, 0
    origin = grouped.means[0]
    means = grouped.means - origin
    shifted = rows - origin
    apart = means.square().sum(dim=1) - 2 * shifted @ means.T + shifted.square().sum(dim=1)[:, None]
    at = torch.arange(len(rows))
    size = counts[own]
    without = apart.clone()
    without[at, own] = (rows - grouped.means[own]).square().sum(dim=1) * (size / (size - 1)) ** 2
    right = without.argmin(dim=1) == own
    return float(right.double().mean()), len(rows)


def _wilson(share: float, size: int) -> tuple[float, float]:
    if size == 0:
        return math.nan, math.nan
    middle = (share + Z95**2 / (2 * size)) / (1 + Z95**2 / size)
    half = Z95 * math.sqrt(share * (1 - share) / size + Z95**2 / (4 * size**2))
    half /= 1 + Z95**2 / size
    return middle - half, middle + half


def read_groups(sample: GroupSample, prefix: str = "") -> tuple[Numbers, Intervals]:
    """Return how much of the variance lies between groups, whose rows are views of one sample."""
    _, index, counts = np.unique(sample.groups, return_inverse=True, return_counts=True)
    several = counts[index] >= 2
    as_they_are, groups = sample.rows[torch.from_numpy(several)], sample.groups[several]
    rows = _standard(as_they_are)
    found: Numbers = {f"{prefix}groups": float(len(np.unique(groups)))}
    found[f"{prefix}group_rows"] = float(len(groups))
    if found[f"{prefix}groups"] < 2:
        return found, {}
    grouped = GroupedMoments.of(rows - rows.mean(dim=0), groups)
    icc = intraclass_correlation_of(grouped)
    found |= {
        f"{prefix}intraclass_correlation": icc,
        f"{prefix}lidar": lidar_of(GroupedMoments.of(as_they_are, groups)),
        f"{prefix}best_intraclass_correlation": _best(grouped),
        f"{prefix}alignment": _alignment(rows, groups),
    }
    intervals: Intervals = {}
    place = np.unique(groups, return_inverse=True)[1] % BLOCKS
    if len(grouped.keys) >= 4 * BLOCKS:
        parts = []
        for block in range(BLOCKS):
            rest = torch.from_numpy(place != block)
            parts.append(
                intraclass_correlation_of(GroupedMoments.of(rows[rest], groups[place != block]))
            )
        squares = sum((part - fmean(parts)) ** 2 for part in parts)
        error = math.sqrt((BLOCKS - 1) / BLOCKS * squares)
        intervals[f"{prefix}intraclass_correlation"] = _around(icc, error, low=0.0, high=1.0)
    return found, intervals


def _standard(rows: Tensor) -> Tensor:
    """Return rows with a mean variance of one, whose squares are numbers."""
    if len(rows) < 2:
        return rows
    largest = rows.abs().max().clamp(min=1e-300)
    rows = rows / largest
    scale = (rows - rows[0]).var(dim=0).mean().sqrt()
    return rows / scale if scale > 0 else rows


def _best(grouped: GroupedMoments) -> float:
    """Return the largest intraclass correlation along a leading principal axis."""
    counts = grouped.counts.double()
    n, rows = len(counts), float(counts.sum())
    apart = grouped.means - (counts / rows) @ grouped.means
    between = (counts[:, None] * apart).T @ apart
    values, vectors = torch.linalg.eigh(between + grouped.within)
    axes = vectors[:, -AXES:][:, values[-AXES:] > 0]
    if axes.shape[1] == 0:
        return 0.0
    within = ((grouped.within @ axes) * axes).sum(dim=0) / (rows - n)
    size = (rows - float(counts @ counts) / rows) / (n - 1)
    component = (((between @ axes) * axes).sum(dim=0) / (n - 1) - within).clamp(min=0) / size
    return float((component / (component + within)).nan_to_num(0.0).max())


def _alignment(rows: Tensor, groups: np.ndarray) -> float:
    """Return the mean square distance of two directions of one group."""
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    directed = torch.where(lengths > 0, rows / lengths.clamp(min=1e-300), 0.0)
    index = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
    counts = torch.bincount(index).double()
    sums = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype).index_add_(0, index, directed)
    means = sums / counts[:, None]
    within = torch.zeros(len(counts), dtype=rows.dtype)
    within.index_add_(0, index, (directed - means[index]).square().sum(dim=1))
    return float((2 * within / (counts - 1)).mean())
