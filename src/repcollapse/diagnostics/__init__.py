"""Measurements of embeddings, one convention a name.

Pure functions of one (N, D) matrix, or of (V, N, D) views, that return a float, or a named tuple
where a number alone would mislead. None of them decides alone whether a representation has
collapsed: scale (the standard deviation of the features as they are), direction (:func:`spread`,
:func:`mean_share`) and shape (:func:`effective_rank`) are three different questions.

What does not fit in memory goes through a state: :class:`EmbeddingMoments` (or
:class:`JackknifeMoments`, for intervals) and :class:`GroupedMoments` take rows in batches, merge,
and give the same numbers. :func:`null_measures` says what isotropic data of the same size reads.
"""

from __future__ import annotations

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.assignments import (
    PrototypeUsage,
    prototype_usage,
)
from repcollapse.diagnostics.directions import (
    coding_rate,
    feature_std,
    feature_std_of,
    mean_cosine,
    mean_share,
    spread,
    spread_of,
    squared_deviations,
)
from repcollapse.diagnostics.groups import (
    GroupedMoments,
    NeuralCollapse,
    cosines_of_means,
    intraclass_correlation_of,
    lidar,
    lidar_of,
    neural_collapse,
    neural_collapse_of,
)
from repcollapse.diagnostics.measures import (
    Interval,
    JackknifeMoments,
    jackknife_intervals,
    null_measures,
    null_singular_values,
    spectral_measures,
)
from repcollapse.diagnostics.moments import (
    EmbeddingMoments,
    Moments,
    as_double,
    unit_rows,
)
from repcollapse.diagnostics.neighbours import (
    IntrinsicDimension,
    intrinsic_dimension,
)
from repcollapse.diagnostics.normality import (
    sigreg_statistic,
)
from repcollapse.diagnostics.pairs import (
    alignment,
    intraclass_correlation,
    uniformity,
    uniformity_of,
)
from repcollapse.diagnostics.probes import (
    LinearMap,
    knn_accuracy,
    linear_map,
    linear_probe,
    regression_probe,
    resolution_probe,
)
from repcollapse.diagnostics.spectrum import (
    AlphaReQ,
    OffDiagonal,
    alpha_req,
    both_singular_values,
    cev_auc,
    effective_rank,
    effective_rank_of,
    offdiagonal_correlation,
    participation_ratio,
    participation_ratio_of,
    rankme,
    rankme_of,
    singular_values,
    srank,
    stable_rank,
    stable_rank_of,
)

__all__ = [
    "AlphaReQ",
    "EmbeddingMoments",
    "GroupedMoments",
    "Interval",
    "IntrinsicDimension",
    "JackknifeMoments",
    "LinearMap",
    "Moments",
    "NeuralCollapse",
    "OffDiagonal",
    "PrototypeUsage",
    "alignment",
    "alpha_req",
    "cev_auc",
    "coding_rate",
    "cosines_of_means",
    "effective_rank",
    "feature_std",
    "instruments",
    "intraclass_correlation",
    "intraclass_correlation_of",
    "intrinsic_dimension",
    "jackknife_intervals",
    "knn_accuracy",
    "lidar",
    "lidar_of",
    "linear_map",
    "linear_probe",
    "mean_cosine",
    "mean_share",
    "neural_collapse",
    "neural_collapse_of",
    "null_measures",
    "null_singular_values",
    "offdiagonal_correlation",
    "participation_ratio",
    "prototype_usage",
    "rankme",
    "regression_probe",
    "resolution_probe",
    "sigreg_statistic",
    "singular_values",
    "spectral_measures",
    "spread",
    "srank",
    "stable_rank",
    "uniformity",
]


def instruments(views: ArrayLike) -> dict[str, float]:
    """Return the label-free instruments that every chapter reads, by name.

    Parameters
    ----------
    views
        Embeddings, shape (V, N, D): V >= 2 views of N >= 2 samples. Measures of one matrix are
        taken on the first view, alignment on the first two, the intraclass correlation on all.

    Returns
    -------
    dict
        `zero_rows` (how many rows have no direction and were left out of what needs one),
        `raw_std` (mean standard deviation of the features as they are), `feature_std`, `spread`,
        `mean_share`, `stable_rank`, `participation_ratio`, `effective_rank`, `rankme`,
        `alignment`, `uniformity` and `intraclass_correlation`.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    Examples
    --------
    >>> import torch
    >>> readings = instruments(torch.ones(2, 4, 3))
    >>> readings["spread"], readings["effective_rank"]
    (0.0, 0.0)
    """
    views = _checks.as_views("views", views)
    first = as_double(views[0])
    unit = unit_rows(first)
    n, directed = len(first), squared_deviations(unit)
    centred, plain = both_singular_values(views[0])
    return {
        "zero_rows": float(n - len(unit)),
        "raw_std": float((squared_deviations(first) * (n / (n - 1))).sqrt().mean()),
        "feature_std": feature_std_of(directed),
        "spread": spread_of(directed),
        "mean_share": 1.0 - spread_of(directed) ** 2,
        "stable_rank": stable_rank_of(centred),
        "participation_ratio": participation_ratio_of(centred),
        "effective_rank": effective_rank_of(centred),
        "rankme": rankme_of(plain),
        "alignment": alignment(first, as_double(views[1])),
        "uniformity": uniformity_of(unit),
        "intraclass_correlation": intraclass_correlation(views),
    }
