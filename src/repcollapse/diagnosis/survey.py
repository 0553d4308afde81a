"""What a diagnosis is made from: evidence collected from rows in one pass, in any order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnosis.readings import Evidence, read_groups, read_labels, read_rows
from repcollapse.diagnosis.sampling import GROUP_ROWS, SAMPLE, GroupSample, RowSample
from repcollapse.diagnostics import EmbeddingMoments, GroupedMoments
from repcollapse.diagnostics.moments import as_rows

if TYPE_CHECKING:
    from repcollapse.diagnosis.diagnosis import Diagnosis

BYTES = 2**25  # of a block of rows in float64
MOST_CLASSES = 2**16
MOST_COLUMNS = 2**13  # two scatters are a gibibyte then


@dataclass(frozen=True)
class Survey:
    """Evidence of embeddings, collected in batches of rows; every operation returns a new one.

    A row is known by its global index: whichever batches and processes the rows came in, the same
    rows give the same evidence, but for the last digits of a sum. The state holds some D x D
    matrices, a mean for every class and samples of rows whose size does not depend on N.

    Attributes
    ----------
    moments
        Of all rows and of their directions.
    sample
        The rows of which pairs are taken.
    classes
        The moments of all rows by label, None without labels.
    groups
        A sample of whole groups, None without groups.
    views
        The same of samples whose rows are views, None without views.
    next_row, next_view
        The global indices of the row and of the sample of views that follow.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    >>> first = Survey.empty(8).update(z[:100])
    >>> second = Survey.empty(8).update(z[100:], start=100)
    >>> survey = second.merge(first)
    >>> survey.moments.rows.count, survey.next_row
    (300, 300)
    """

    moments: EmbeddingMoments
    sample: RowSample
    classes: GroupedMoments | None = None
    groups: GroupSample | None = None
    views: GroupSample | None = None
    next_row: int = 0
    next_view: int = 0

    @classmethod
    def empty(cls, dimension: int, *, sample: int = SAMPLE) -> Survey:
        """Return the survey of no rows of `dimension` numbers, which keeps `sample` of them."""
        dimension = _checks.integer("dimension", dimension, at_least=1, at_most=MOST_COLUMNS)
        sample = _checks.integer("sample", sample, at_least=16)
        return cls(EmbeddingMoments.empty(dimension), RowSample.empty(dimension, sample))

    @property
    def dimension(self) -> int:
        """The number of columns."""
        return self.sample.rows.shape[1]

    def update(
        self, z: ArrayLike, *, start: int | None = None, labels: Any = None, groups: Any = None
    ) -> Survey:
        """Return the survey of these rows and of those of `z`, shape (n, D).

        Parameters
        ----------
        z
            Embeddings, n >= 1.
        start
            The global index of the first of them; by default they follow the last ones.
        labels, groups
            Integer classes, and integer identifiers of the samples that rows are views of, shape
            (n,): in every update or in none.

        Raises
        ------
        TypeError, ValueError
            For rows, an index, labels or identifiers other than these.
        """
        start = self.next_row if start is None else _checks.integer("start", start, at_least=0)
        matrix = _on_cpu(_checks.as_matrix("z", z, min_rows=1, finite=False))
        _require_finite("z", "row", matrix, start)
        as_rows("z", matrix)
        if matrix.shape[1] != self.dimension:
            raise ValueError(f"z must have {self.dimension} columns; got {matrix.shape[1]}")
        index = np.arange(start, start + len(matrix), dtype=np.int64)
        seen = self.moments.rows.count > 0
        self._require_same("labels", seen, self.classes is not None, labels is not None)
        self._require_same("groups", seen, self.groups is not None, groups is not None)
        classes, codes = self.classes, np.empty(0, dtype=np.int64)
        if labels is not None:
            found = _checks.as_labels("labels", labels, len(matrix))
            codes = found.cpu().numpy()
            of_batch = GroupedMoments.of(matrix, found)
            classes = of_batch if classes is None else classes.merge(of_batch)
            if len(classes.keys) > MOST_CLASSES:
                raise ValueError(
                    f"labels must be of at most {MOST_CLASSES} classes; got more: identifiers of "
                    "samples are groups"
                )
        grouped = self.groups
        if groups is not None:
            names = _checks.as_labels("groups", groups, len(matrix), what="identifiers")
            grouped = grouped or GroupSample.empty(self.dimension, GROUP_ROWS)
            grouped = grouped.update(matrix, index, names.cpu().numpy())
        return replace(
            self,
            moments=self.moments.merge(EmbeddingMoments.of(matrix)),
            sample=self.sample.update(matrix, index, codes),
            classes=classes,
            groups=grouped,
            next_row=max(self.next_row, start + len(matrix)),
        )

    def update_views(self, views: ArrayLike, *, start: int | None = None) -> Survey:
        """Return the survey with V >= 2 views of n more samples, shape (V, n, D), beside the rows.

        Raises
        ------
        TypeError, ValueError
            For views or an index other than these.
        """
        start = self.next_view if start is None else _checks.integer("start", start, at_least=0)
        stacked = _on_cpu(_checks.as_views("views", views, min_samples=1, finite=False))
        n_views, n, dimension = stacked.shape
        if dimension != self.dimension:
            raise ValueError(f"views must have D = {self.dimension} like z; got D = {dimension}")
        _require_finite("views", "sample", stacked.transpose(0, 1).flatten(1), start)
        names = np.tile(np.arange(start, start + n, dtype=np.int64), n_views)
        # Of more views than a sample holds, which ones stay is drawn by view and sample.
        index = np.repeat(np.arange(n_views, dtype=np.int64) << 40, n) + names
        kept = self.views or GroupSample.empty(dimension, GROUP_ROWS)
        as_one = stacked.reshape(n_views * n, dimension)
        kept = kept.update(as_rows("views", as_one), index, names)
        return replace(self, views=kept, next_view=max(self.next_view, start + n))

    def merge(self, other: Survey) -> Survey:
        """Return the survey of both sets of rows, which have no row in common.

        Raises
        ------
        TypeError, ValueError
            For anything but a survey of as many columns, with labels and groups where this has
            them.
        """
        if not isinstance(other, Survey):
            raise TypeError(f"other must be a Survey; got {type(other).__name__}")
        if other.dimension != self.dimension:
            raise ValueError(f"other must have {self.dimension} columns; got {other.dimension}")
        if other.sample.capacity != self.sample.capacity:
            raise ValueError(
                f"other must keep {self.sample.capacity} rows; got {other.sample.capacity}"
            )
        both = self.moments.rows.count > 0 and other.moments.rows.count > 0
        for name, mine, theirs in (
            ("labels", self.classes, other.classes),
            ("groups", self.groups, other.groups),
        ):
            self._require_same(name, both, mine is not None, theirs is not None)
        if len(np.intersect1d(self.sample.index, other.sample.index)):
            raise ValueError("other must be of other rows: some global indices are in both")
        return Survey(
            self.moments.merge(other.moments),
            self.sample.merge(other.sample),
            _merged(self.classes, other.classes),
            _merged(self.groups, other.groups),
            _merged(self.views, other.views),
            max(self.next_row, other.next_row),
            max(self.next_view, other.next_view),
        )

    def evidence(self) -> Evidence:
        """Return the numbers.

        Raises
        ------
        ValueError
            For a survey without rows, for labels of a single class, and for groups of which not two
            have two rows.
        """
        if self.moments.rows.count == 0:
            raise ValueError("a survey must have seen at least one row; got none")
        if self.classes is not None and len(self.classes.keys) < 2:
            raise ValueError("labels must be of at least 2 classes; got one")
        if self.groups is not None:
            _, counts = np.unique(self.groups.groups, return_counts=True)
            if (counts >= 2).sum() < 2:
                raise ValueError(
                    "groups must name at least 2 samples that have 2 rows or more; got "
                    f"{(counts >= 2).sum()}"
                )
        found = read_rows(self.moments, self.sample)
        metrics, intervals = dict(found.metrics), dict(found.intervals)
        parts = []
        if self.classes is not None:
            parts.append(read_labels(self.classes, self.sample))
        if self.groups is not None:
            parts.append(read_groups(self.groups, "group_" if self.views else ""))
        if self.views is not None:
            parts.append(read_groups(self.views))
        for more, limits in parts:
            metrics |= more
            intervals |= limits
        return replace(found, metrics=metrics, intervals=intervals)

    def compute(self) -> Diagnosis:
        """Return the diagnosis: :func:`repcollapse.diagnosis.conclude` of this survey.

        Examples
        --------
        >>> import torch
        >>> z = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
        >>> Survey.empty(8).update(z[:100]).update(z[100:]).compute().verdict
        'healthy'
        """
        from repcollapse.diagnosis import conclude

        return conclude(self)

    @staticmethod
    def _require_same(name: str, seen: bool, had: bool, given: bool) -> None:
        if seen and had != given:
            raise ValueError(
                f"{name} must be given for all rows or for none; "
                f"the others came {'with' if had else 'without'}"
            )


def block_of(dimension: int, views: int = 1) -> int:
    """Return how many rows, or samples of so many views, are read at once.

    Examples
    --------
    >>> block_of(128), block_of(128, views=4)
    (32768, 8192)
    """
    rows = max(BYTES // (8 * dimension), 256)
    return max(rows // views, 64)


def _on_cpu(rows: Tensor) -> Tensor:
    return rows.detach().cpu()


def _require_finite(name: str, what: str, rows: Tensor, start: int) -> None:
    """Raise where a row is not finite, and say which among all of them."""
    if not _checks.all_finite(rows):
        bad = (~torch.isfinite(rows)).any(dim=1).nonzero()[0, 0]
        raise ValueError(f"{name} must be finite; {what} {start + int(bad)} holds NaN or Inf")


def _merged(mine: Any, theirs: Any) -> Any:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return mine.merge(theirs)
