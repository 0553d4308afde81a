"""Has it collapsed or converged, in which way, on what evidence?

:func:`diagnose` answers for a matrix. What does not fit in memory, or lies on several machines,
goes through a :class:`Survey` in batches, and :func:`conclude` answers for that.
"""

from __future__ import annotations

from typing import Any

from repcollapse._checks import ArrayLike
from repcollapse.diagnosis.diagnosis import Diagnosis
from repcollapse.diagnosis.findings import VERDICTS, Finding
from repcollapse.diagnosis.survey import Evidence, Survey

__all__ = ["VERDICTS", "Diagnosis", "Evidence", "Finding", "Survey", "conclude", "diagnose"]


def diagnose(
    z: ArrayLike, *, labels: Any = None, views: Any = None, groups: Any = None
) -> Diagnosis:
    """Return whether embeddings have collapsed, in which way, and on what evidence.

    Parameters
    ----------
    z
        Embeddings, shape (N, D): a torch tensor or an array of floating type, in memory or memory
        mapped, or anything with a shape that gives such rows as it is sliced
        (:func:`repcollapse.files.open_rows`). It is read once, block by block.
    labels
        Integer classes, shape (N,): what is left of them in the embeddings is then judged too.
    views
        Embeddings of V >= 2 views of each of n >= 2 samples, shape (V, n, D): whether views of a
        sample agree is then judged too. They need not be of the samples in `z`.
    groups
        Integer identifiers, shape (N,): rows of one identifier are views of one sample.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        For embeddings, labels, views or identifiers other than these.
    """
    raise NotImplementedError


def conclude(survey: Survey) -> Diagnosis:
    """Return the diagnosis of everything that a survey has seen."""
    raise NotImplementedError
