"""The evidence of a diagnosis from few rows at little cost, for whoever asks again and again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repcollapse.diagnosis.crowding import apart
from repcollapse.diagnosis.readings import (
    SHARES,
    Evidence,
    dimensions_holding,
    read_core,
    read_direction_intervals,
    read_nulls,
    read_scale,
)
from repcollapse.diagnostics.moments import EPS, unit_rows
from repcollapse.diagnostics.spectrum import (
    effective_rank_of,
    participation_ratio_of,
    rankme_of,
)

PAIRS = 128  # rows of which pairs are taken: enough to find company on as many points as count


def read_briefly(rows: Tensor) -> Evidence:
    """Return all that a verdict rests on, and the readings that a monitor keeps.

    What :func:`~repcollapse.diagnosis.conclude` reads beside, intervals of the spectrum, measures
    of pairs, correlations, costs several times as much and decides nothing.

    Parameters
    ----------
    rows
        Embeddings, shape (N, D), N >= 2, finite. Pairs are taken of some from all over them.
    """
    n, dimension = rows.shape
    z = rows.double()
    mean, centred = _centred(z)
    lengths = centred.square().sum(dim=1)
    squares = centred.square().sum(dim=0)
    norms = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    directed = z / norms if bool(norms.all()) else unit_rows(z)
    middle = of_units = torch.zeros_like(squares)
    beside = directed
    if len(directed):
        middle, beside = _centred(directed)
        of_units = beside.square().sum(dim=0)
    metrics = {"rows": float(n), "dimension": float(dimension)}
    metrics |= read_scale(
        mean,
        squares,
        of_units,
        rows=n,
        directed=len(directed),
        zero_rows=n - len(directed),
    )
    energies, plain = _energies(centred), _energies(z)
    sigma = energies.sqrt()
    metrics |= {name: dimensions_holding(energies, share) for name, share in SHARES.items()}
    metrics["rank"] = float((energies > 0).sum())
    metrics["participation_ratio"] = participation_ratio_of(sigma)
    metrics["effective_rank"] = effective_rank_of(sigma)
    metrics["rankme"] = rankme_of(plain.sqrt())
    metrics["dead_dimensions"] = float((squares <= n * (16 * EPS * mean).square()).sum())
    some = torch.arange(min(PAIRS, n)) * n // min(PAIRS, n)
    alone = len(directed) == n and apart(centred[some]) and apart(beside[some])
    trace, fourth = float(lengths.sum()), float(lengths @ lengths)
    of_core, limits = read_core(z[some], n, trace, fourth, apart=alone)
    metrics |= of_core
    metrics["distinct"] *= n / len(some)
    nulls, null_energies = read_nulls(n, dimension)
    return Evidence(
        n,
        dimension,
        len(some),
        metrics,
        nulls,
        limits | read_direction_intervals(metrics, middle, directed, n),
        tuple((energies / max(float(energies.sum()), math.ulp(0.0))).tolist()),
        tuple((null_energies / null_energies.sum()).tolist()),
    )


def _centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the rows about it, which are exactly zero where all are equal."""
    shifted = rows - rows[0]
    step = shifted.mean(dim=0)
    return rows[0] + step, shifted - step


def _energies(rows: Tensor) -> Tensor:
    """Return the squared singular values, descending, by the smaller of the two products."""
    n, dimension = rows.shape
    product = rows @ rows.T if n < dimension else rows.T @ rows
    values = torch.linalg.eigvalsh(product).flip(0)
    return torch.where(values > values[0] * (len(values) + 100) * EPS, values, 0.0)
