"""Measurements of embeddings, one convention a name.

Pure functions of one (N, D) matrix, or of (V, N, D) views, that return a float. None of them
decides alone whether a representation has collapsed: scale (the standard deviation of the features
as they are), direction (:func:`spread`, :func:`mean_share`) and shape (:func:`effective_rank`) are
three different questions.
"""

from __future__ import annotations

from torch import Tensor

from repcollapse import _checks
from repcollapse.diagnostics.directions import feature_std, mean_share, spread
from repcollapse.diagnostics.moments import Moments, as_double
from repcollapse.diagnostics.pairs import alignment, intraclass_correlation, uniformity
from repcollapse.diagnostics.probes import knn_accuracy, linear_probe, resolution_probe
from repcollapse.diagnostics.spectrum import (
    effective_rank,
    effective_rank_of,
    participation_ratio,
    participation_ratio_of,
    rankme,
    rankme_of,
    singular_values,
    stable_rank,
    stable_rank_of,
)

__all__ = [
    "Moments",
    "alignment",
    "effective_rank",
    "feature_std",
    "instruments",
    "intraclass_correlation",
    "knn_accuracy",
    "linear_probe",
    "mean_share",
    "participation_ratio",
    "rankme",
    "resolution_probe",
    "singular_values",
    "spread",
    "stable_rank",
    "uniformity",
]


def instruments(views: Tensor) -> dict[str, float]:
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
    z = as_double(views[0])
    centred = singular_values(z)
    return {
        "zero_rows": float((z == 0).all(dim=1).sum()),
        "raw_std": float(z.std(dim=0).mean()),
        "feature_std": feature_std(z),
        "spread": spread(z),
        "mean_share": mean_share(z),
        "stable_rank": stable_rank_of(centred),
        "participation_ratio": participation_ratio_of(centred),
        "effective_rank": effective_rank_of(centred),
        "rankme": rankme_of(singular_values(z, center=False)),
        "alignment": alignment(z, as_double(views[1])),
        "uniformity": uniformity(z),
        "intraclass_correlation": intraclass_correlation(views),
    }
