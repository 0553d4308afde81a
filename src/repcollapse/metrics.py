"""The measures and the diagnosis as metrics of torchmetrics, one state for all.

Every class keeps moments of whatever it was updated with, and joins them over processes: the value
is that of all rows, not a mean over batches. In a `MetricCollection` measures share one state. The
state is of whole numbers that hold the bits of float64 ones, so that moving a module to another
precision does not round it.

Needs torchmetrics: ``pip install 'repcollapse[metrics]'``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnosis import Diagnosis, Survey, conclude
from repcollapse.diagnosis.packing import from_words, to_words
from repcollapse.diagnostics import EmbeddingMoments, spectral_measures

__all__ = [
    "DiagnosisMetric",
    "EffectiveRank",
    "EmbeddingMeasures",
    "MeanShare",
    "ParticipationRatio",
    "RankMe",
    "Spread",
    "StableRank",
]


def _joined(states: Tensor) -> Tensor:
    """Return the moments of several states of moments, shape (k, P)."""
    first, *rest = map(_moments, states)
    for other in rest:
        first = first.merge(other)
    return _bits(first).to(states.device)


def _moments(state: Tensor) -> EmbeddingMoments:
    return EmbeddingMoments.unpack(state.cpu().view(torch.float64))


def _bits(moments: EmbeddingMoments) -> Tensor:
    return moments.pack().cpu().view(torch.int64)


def _scalar(value: float, device: torch.device) -> Tensor:
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return torch.tensor(value, dtype=dtype, device=device)


class _Exact(Metric):
    """A metric whose state no conversion to another precision touches."""

    is_differentiable = False

    def set_dtype(self, dst_type: Any) -> Metric:
        """Leave everything as it is: the state is float64, whatever the module is."""
        return self


class EmbeddingMeasures(_Exact):
    """Every measure of the spectrum and of the directions of embeddings, by name.

    What :func:`repcollapse.diagnostics.spectral_measures` returns, as scalars in float64.

    Parameters
    ----------
    dimension
        D, the columns of the embeddings.
    options
        Those of every metric of torchmetrics.

    Examples
    --------
    >>> metric = EmbeddingMeasures(3)
    >>> for _ in range(2):
    ...     metric.update(torch.cat([torch.eye(3), -torch.eye(3)]))
    >>> round(float(metric.compute()["effective_rank"]), 6)
    3.0
    """

    full_state_update = False
    moments: Tensor

    def __init__(self, dimension: int, **options: Any) -> None:
        super().__init__(**options)
        self.dimension = _checks.integer("dimension", dimension, at_least=1)
        empty = _bits(EmbeddingMoments.empty(self.dimension))
        self.add_state("moments", default=empty, dist_reduce_fx=_joined)

    def update(self, z: ArrayLike) -> None:
        """Take in the rows of `z`, shape (N, D).

        Raises
        ------
        TypeError, ValueError
            For anything else.
        """
        matrix = _checks.as_matrix("z", z, min_rows=1)
        if matrix.shape[1] != self.dimension:
            raise ValueError(f"z must have {self.dimension} columns; got {matrix.shape[1]}")
        there = self.moments.device
        merged = _moments(self.moments).merge(_moments(_bits(EmbeddingMoments.of(matrix))))
        self.moments = _bits(merged).to(there)

    def compute(self) -> Any:
        """Return the measures of all rows so far, two at least."""
        return {name: self._scalar(value) for name, value in self._measures().items()}

    def _measures(self) -> dict[str, float]:
        return spectral_measures(_moments(self.moments))

    def _scalar(self, value: float) -> Tensor:
        return _scalar(value, self.moments.device)


class _Measure(EmbeddingMeasures):
    """One of the measures."""

    measure: ClassVar[str]

    def compute(self) -> Tensor:
        """Return the measure of all rows so far, two at least."""
        return self._scalar(self._measures()[self.measure])


class Spread(_Measure):
    """:func:`repcollapse.diagnostics.spread`, of all rows."""

    measure = "spread"


class MeanShare(_Measure):
    """:func:`repcollapse.diagnostics.mean_share`, of all rows."""

    measure = "mean_share"


class StableRank(_Measure):
    """:func:`repcollapse.diagnostics.stable_rank`, of all rows."""

    measure = "stable_rank"


class EffectiveRank(_Measure):
    """:func:`repcollapse.diagnostics.effective_rank`, of all rows."""

    measure = "effective_rank"


class RankMe(_Measure):
    """:func:`repcollapse.diagnostics.rankme`, of all rows."""

    measure = "rankme"


class ParticipationRatio(_Measure):
    """:func:`repcollapse.diagnostics.participation_ratio`, of all rows, biased or not."""

    def __init__(self, dimension: int, *, unbiased: bool = False, **options: Any) -> None:
        super().__init__(dimension, **options)
        self.unbiased = unbiased

    def compute(self) -> Tensor:
        """Return the measure of all rows so far, two at least."""
        name = "participation_ratio_unbiased" if self.unbiased else "participation_ratio"
        return self._scalar(self._measures()[name])


class DiagnosisMetric(_Exact):
    """The diagnosis of everything that all processes have seen.

    :meth:`diagnosis` returns it, and `compute` its numbers, to log. Which rows are drawn for pairs
    depends on which process saw them; nothing else does.

    Parameters
    ----------
    dimension
        D, the columns of the embeddings.
    options
        Those of every metric of torchmetrics.

    Examples
    --------
    >>> metric = DiagnosisMetric(8)
    >>> z = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    >>> for batch in z.split(100):
    ...     metric.update(1 + 1e-3 * batch)
    >>> metric.diagnosis().verdict, float(metric.compute()["collapsed"])
    ('complete', 1.0)
    """

    full_state_update = True
    surveys: list[Tensor]

    def __init__(self, dimension: int, **options: Any) -> None:
        super().__init__(**options)
        self.dimension = _checks.integer("dimension", dimension, at_least=1)
        self.add_state("surveys", default=[], dist_reduce_fx="cat")

    def update(self, z: ArrayLike, *, labels: Any = None, groups: Any = None) -> None:
        """Take in rows, with their labels and the samples that they are views of, if they have any.

        Takes and raises what :meth:`repcollapse.diagnosis.Survey.update` does.
        """
        survey = self._survey()
        # A row is known by its index, and rows of two processes are never the same.
        start = survey.next_row or _own_rank() << 40
        survey = survey.update(z, start=start, labels=labels, groups=groups)
        self.surveys = [to_words(survey).to(self.device)]

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers of the diagnosis, and whether it is of a collapse: 1 or 0."""
        found = conclude(self._survey())
        numbers = {"collapsed": float(found.collapsed), **found.metrics}
        return {name: _scalar(value, self.device) for name, value in numbers.items()}

    def diagnosis(self) -> Diagnosis:
        """Return the diagnosis of what all processes have seen; all of them must ask."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync,
            should_unsync=self._should_unsync,
        ):
            return conclude(self._survey())

    def _survey(self) -> Survey:
        merged = Survey.empty(self.dimension)
        states = self.surveys if isinstance(self.surveys, list) else [self.surveys]
        for words in states:
            for survey in from_words(words.cpu()):
                merged = merged.merge(survey)
        return merged

    def _sync_dist(self, *arguments: Any, **options: Any) -> None:
        if not self.surveys:  # torchmetrics would send another type for a process without rows
            self.surveys = [to_words(Survey.empty(self.dimension)).to(self.device)]
        super()._sync_dist(*arguments, **options)


def _own_rank() -> int:
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if joined else 0
