"""All spectral measures of one state, their values for isotropic data, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.directions import coding_rate_of, feature_std_of, spread_of
from repcollapse.diagnostics.moments import EmbeddingMoments, Moments, as_rows
from repcollapse.diagnostics.spectrum import (
    SHORTEST,
    WINDOW,
    alpha_req_of,
    cev_auc_of,
    effective_rank_of,
    offdiagonal_correlation_of,
    participation_ratio_of,
    participation_ratio_of_moments,
    rankme_of,
    srank_of,
    stable_rank_of,
)

BLOCKS = 16
GRID = 4096  # points of the Marchenko-Pastur law
TRACY_WIDOM = -1.2065335745820  # the mean of the real Tracy-Widom law


def spectral_measures(state: EmbeddingMoments) -> dict[str, float]:
    r"""Return every measure that can be read off moments, by name.

    Two eigenvalue problems of D x D, and a third for the unit rows.

    Parameters
    ----------
    state
        The moments of N >= 2 embeddings.

    Returns
    -------
    dict
        `raw_std`, `rank`, `stable_rank`, `participation_ratio`, `participation_ratio_unbiased`,
        `effective_rank_lambda`, `effective_rank`, `rankme`, `srank`, `cev_auc`, `alpha_req` and
        `offdiagonal_correlation`; where the state has the moments of unit rows, also `feature_std`,
        `spread`, `mean_share`, `coding_rate` and `coding_rate_normalised`. Each is what the
        function of its name returns by default, with NaN where that has no answer: `alpha_req` for
        fewer than ten eigenvalues in its window, `participation_ratio_unbiased` for fewer than four
        rows.

    Raises
    ------
    TypeError, ValueError
        For anything but a state of two rows.

    Examples
    --------
    >>> import torch
    >>> cross = torch.cat([torch.eye(3), -torch.eye(3)])
    >>> found = spectral_measures(EmbeddingMoments.of(cross))
    >>> round(found["effective_rank"], 6), found["srank"], round(found["spread"], 6)
    (3.0, 3.0, 1.0)
    """
    if not isinstance(state, EmbeddingMoments):
        raise TypeError(f"state must be EmbeddingMoments; got {type(state).__name__}")
    rows = state.rows
    n, dimension = rows.count, len(rows.mean)
    if n < 2:
        raise ValueError(f"state needs at least 2 rows; got {n}")
    kept = min(n, dimension)
    centred = rows.eigenvalues().sqrt()[:kept]
    found = {
        "raw_std": float((rows.scatter.diagonal() / (n - 1)).clamp(min=0).sqrt().mean()),
        **_of_spectrum(centred),
        "participation_ratio_unbiased": participation_ratio_of_moments(rows),
        "rankme": rankme_of(rows.eigenvalues(center=False).sqrt()[:kept]),
        "offdiagonal_correlation": offdiagonal_correlation_of(rows).value,
    }
    if state.units is not None:
        found |= _of_directions(state.units)
    return found


def _of_spectrum(sigma: Tensor) -> dict[str, float]:
    rank = int((sigma > 0).sum())
    fits = min(rank, WINDOW[1]) - WINDOW[0] + 1 >= SHORTEST
    return {
        "rank": float(rank),
        "stable_rank": stable_rank_of(sigma),
        "participation_ratio": participation_ratio_of(sigma),
        "effective_rank_lambda": effective_rank_of(sigma.square()),
        "effective_rank": effective_rank_of(sigma),
        "srank": float(srank_of(sigma)),
        "cev_auc": cev_auc_of(sigma),
        "alpha_req": alpha_req_of(sigma).alpha if fits else math.nan,
    }


def _of_directions(units: Moments) -> dict[str, float]:
    n = units.count
    variances = (units.scatter.diagonal() / max(n, 1)).clamp(min=0)
    spread = spread_of(variances)
    energies = units.eigenvalues(center=False)
    return {
        "feature_std": feature_std_of(variances),
        "spread": spread,
        "mean_share": 1.0 - spread**2,
        "coding_rate": coding_rate_of(energies, n),
        "coding_rate_normalised": coding_rate_of(energies, n, normalised=True),
    }


def null_singular_values(n: int, dimension: int, *, center: bool = True) -> Tensor:
    r"""Return singular values typical of isotropic normal data of a size, without drawing any.

    The quantiles of the law of Marchenko and Pastur at (k - 1/2) / K, K = min(m, D), for the m
    degrees of freedom that the rows have, and for the first the mean of the law of Tracy and Widom.

    Parameters
    ----------
    n, dimension
        N >= 2 rows and D >= 1 columns, of variance 1.
    center
        Of the centred matrix, m = N - 1, or of the matrix as it is, m = N.

    Returns
    -------
    Tensor
        Shape (min(N, D),), float64, descending.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these.

    References
    ----------
    Marchenko & Pastur 1967; Johnstone 2001, "On the distribution of the largest eigenvalue in
    principal components analysis".

    Examples
    --------
    >>> sigma = null_singular_values(6400, 64)
    >>> round(float(sigma[0] / sigma[-1]), 2)
    1.21
    """
    n = _checks.integer("n", n, at_least=2)
    dimension = _checks.integer("dimension", dimension, at_least=1)
    freedom = n - 1 if center else n
    few, many = min(freedom, dimension), max(freedom, dimension)
    ratio = few / many
    # On x = 1 + ratio - 2 sqrt(ratio) cos(angle) the density is smooth.
    angle = torch.linspace(0, math.pi, GRID + 1, dtype=torch.float64)
    x = 1 + ratio - 2 * math.sqrt(ratio) * angle.cos()
    density = angle.sin().square() / x.clamp(min=torch.finfo(x.dtype).tiny)
    if ratio == 1:
        density[0] = 0.5  # the limit of sin^2 / (2 - 2 cos)
    law = torch.cat([x.new_zeros(1), torch.cumulative_trapezoid(density, angle)])
    at = (torch.arange(few, dtype=torch.float64).flip(0) + 0.5) / few
    values = torch.from_numpy(np.interp(at.numpy(), (law / law[-1]).numpy(), x.numpy())) * many
    if few > 1:
        root = math.sqrt(many - 0.5) + math.sqrt(few - 0.5)
        width = root * (1 / math.sqrt(many - 0.5) + 1 / math.sqrt(few - 0.5)) ** (1 / 3)
        values[0] = max(root**2 + TRACY_WIDOM * width, float(values[1]))
    values *= few * many / float(values.sum())
    return torch.cat([values.sqrt(), values.new_zeros(min(n, dimension) - few)])


def null_measures(n: int, dimension: int) -> dict[str, float]:
    r"""Return what :func:`spectral_measures` reads for isotropic normal data of a size.

    A rank has no scale of its own: N samples of D independent dimensions do not read D, and how far
    below they read depends on the measure. Nothing is drawn: spectra are typical ones
    (:func:`null_singular_values`), the participation ratio is the inverse of its inverse's exact
    mean, and the correlation and the mean share are exact means.

    Parameters
    ----------
    n, dimension
        N >= 2 rows and D >= 1 columns.

    Returns
    -------
    dict
        The names of :func:`spectral_measures`, for mean 0 and variance 1. NaN where that is NaN.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these.

    Examples
    --------
    >>> null = null_measures(64, 64)
    >>> round(null["rankme"] / 64, 2), round(null["effective_rank_lambda"] / 64, 2)
    (0.81, 0.6)
    """
    centred = null_singular_values(n, dimension)
    plain = null_singular_values(n, dimension, center=False)
    freedom = n - 1
    # Of a Wishart matrix: E tr W^2 = m D (m + D + 1), E (tr W)^2 = m D (m D + 2).
    ratio = (freedom * dimension + 2) / (freedom + dimension + 1)
    # Of a direction, one coordinate: sqrt(D) times the root of 1/D, less the mean's share.
    spread = math.sqrt(1 - 1 / n)
    correlation = math.nan
    if dimension > 1:
        # The square of a correlation of N pairs has the law Beta(1/2, (N - 2)/2).
        correlation = math.exp(math.lgamma(freedom / 2) - math.lgamma(n / 2)) / math.sqrt(math.pi)
    energies = plain.square() / dimension
    return {
        "raw_std": math.sqrt(2 / freedom) * math.exp(math.lgamma(n / 2) - math.lgamma(freedom / 2)),
        **_of_spectrum(centred),
        "participation_ratio": ratio,
        "participation_ratio_unbiased": float(dimension) if n >= 4 else math.nan,
        "rankme": rankme_of(plain),
        "offdiagonal_correlation": correlation,
        "feature_std": spread,
        "spread": spread,
        "mean_share": 1 / n,
        "coding_rate": coding_rate_of(energies, n, dimension=dimension),
        "coding_rate_normalised": coding_rate_of(energies, n, dimension=dimension, normalised=True),
    }


@dataclass(frozen=True)
class JackknifeMoments:
    """The moments of embeddings in blocks of rows, of which any one can be left out.

    A row belongs to the block of its global index modulo the number of blocks, whatever the batches
    or the machines that the rows came in.

    Attributes
    ----------
    blocks
        The states of the blocks.
    next_row
        The global index of the row that follows.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> state = JackknifeMoments.of(z[:30]).update(z[30:])
    >>> state.total().rows.count, len(state.left_out()), state.next_row
    (100, 16, 100)
    """

    blocks: tuple[EmbeddingMoments, ...]
    next_row: int

    @classmethod
    def of(
        cls, z: ArrayLike, *, blocks: int = BLOCKS, start: int = 0, units: bool = True
    ) -> JackknifeMoments:
        """Return the state of the rows of `z`, shape (N, D), the first of global index `start`.

        Raises
        ------
        TypeError, ValueError
            For embeddings, a number of blocks (>= 2) or an index (>= 0) other than these.
        """
        matrix = as_rows("z", z)
        blocks = _checks.integer("blocks", blocks, at_least=2)
        start = _checks.integer("start", start, at_least=0)
        states = []
        for k in range(blocks):
            rows = matrix[(k - start) % blocks :: blocks]
            states.append(
                EmbeddingMoments.of(rows, units=units)
                if len(rows)
                else EmbeddingMoments.empty(matrix.shape[1], units=units)
            )
        return cls(tuple(states), start + len(matrix))

    def update(self, z: ArrayLike) -> JackknifeMoments:
        """Return the state of these rows and of those of `z`, which follow them."""
        units = self.blocks[0].units is not None
        return self.merge(
            JackknifeMoments.of(z, blocks=len(self.blocks), start=self.next_row, units=units)
        )

    def merge(self, other: JackknifeMoments) -> JackknifeMoments:
        """Return the state of both sets of rows together, whatever their global indices.

        Raises
        ------
        TypeError, ValueError
            For anything but such a state of as many blocks and columns.
        """
        if not isinstance(other, JackknifeMoments):
            raise TypeError(f"other must be JackknifeMoments; got {type(other).__name__}")
        if len(other.blocks) != len(self.blocks):
            raise ValueError(f"other must have {len(self.blocks)} blocks; got {len(other.blocks)}")
        merged = tuple(a.merge(b) for a, b in zip(self.blocks, other.blocks, strict=True))
        return JackknifeMoments(merged, max(self.next_row, other.next_row))

    def compute(self) -> dict[str, Interval]:
        """Return every measure of these rows with its 95 % interval, by name.

        It is :func:`jackknife_intervals` of the state, and raises what that does.

        Examples
        --------
        >>> import torch
        >>> z = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
        >>> found = JackknifeMoments.of(z).compute()["participation_ratio_unbiased"]
        >>> found.low < 8 < found.high
        True
        """
        return jackknife_intervals(self)

    def total(self) -> EmbeddingMoments:
        """Return the state of all rows."""
        return list(accumulate(self.blocks, EmbeddingMoments.merge))[-1]

    def left_out(self) -> list[EmbeddingMoments]:
        """Return the states of all rows but those of one block, for every block."""
        before = list(accumulate(self.blocks, EmbeddingMoments.merge))
        after = list(accumulate(self.blocks[::-1], EmbeddingMoments.merge))[::-1]
        inner = [a.merge(b) for a, b in zip(before[:-2], after[2:], strict=True)]
        return [after[1], *inner, before[-2]]


class Interval(NamedTuple):
    """A reading, the ends of its interval, and its standard error."""

    value: float
    low: float
    high: float
    error: float


def jackknife_intervals(
    state: JackknifeMoments,
    *,
    level: float = 0.95,
    measures: Callable[[EmbeddingMoments], dict[str, float]] = spectral_measures,
) -> dict[str, Interval]:
    r"""Return the measures with intervals, by the delete-a-group jackknife.

    .. math:: \theta \pm t_{G-1} \, \mathrm{se}, \qquad
              \mathrm{se}^2 = \frac{G - 1}{G} \sum_g (\theta_{(g)} - \bar\theta)^2

    with :math:`\theta_{(g)}` the measure without block g of G, their mean :math:`\bar\theta`, and
    Student's t of G - 1 degrees of freedom.

    Parameters
    ----------
    state
        The moments in blocks, of at least three rows a block.
    level
        The coverage, in (0, 1).
    measures
        What to read off a state, by name.

    Returns
    -------
    dict
        An :class:`Interval` a name. It covers how the reading would vary over other samples of as
        many independent rows. It does not cover the measure's bias at this N: for that, see
        :func:`null_measures`. Rows that depend on one another (views of one sample, frames of one
        film) make it too narrow. NaN where a reading is NaN; integers that never move have an
        interval of no width.

    Raises
    ------
    TypeError, ValueError
        For a state or a level other than these.

    References
    ----------
    Kott 2001, "The delete-a-group jackknife"; Tukey 1958.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
    >>> found = jackknife_intervals(JackknifeMoments.of(z))["participation_ratio_unbiased"]
    >>> found.low < 8 < found.high
    True
    """
    level = _checks.number("level", level, above=0, below=1)
    if not isinstance(state, JackknifeMoments):
        raise TypeError(f"state must be JackknifeMoments; got {type(state).__name__}")
    fewest = min(block.rows.count for block in state.blocks)
    if fewest < 3:
        raise ValueError(f"state needs at least 3 rows in every block; one has {fewest}")
    from scipy.stats import t as student

    whole = measures(state.total())
    parts = [measures(part) for part in state.left_out()]
    blocks = len(parts)
    quantile = float(student.ppf((1 + level) / 2, blocks - 1))
    found = {}
    for name, value in whole.items():
        readings = [part[name] for part in parts]
        mean = fmean(readings)
        squares = sum((reading - mean) ** 2 for reading in readings)
        error = math.sqrt((blocks - 1) / blocks * squares) + 0 * value
        found[name] = Interval(value, value - quantile * error, value + quantile * error, error)
    return found
