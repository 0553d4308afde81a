"""The answer to: has it collapsed or converged, in which way, on what evidence.

:func:`diagnose` answers for a matrix. What does not fit in memory, or lies on several machines,
goes through a :class:`Survey` in batches, and :func:`conclude` answers for that.
:func:`diagnose_arms` sets several models beside each other, each trained from several seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from repcollapse import _checks
from repcollapse.diagnosis.arms import Arms
from repcollapse.diagnosis.decide import decide
from repcollapse.diagnosis.diagnosis import Diagnosis
from repcollapse.diagnosis.findings import VERDICTS, Finding
from repcollapse.diagnosis.readings import Evidence
from repcollapse.diagnosis.survey import MOST_COLUMNS, Survey, block_of
from repcollapse.diagnosis.tally import Tally, numbered

__all__ = [
    "VERDICTS",
    "Arms",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Survey",
    "Tally",
    "conclude",
    "decide",
    "diagnose",
    "diagnose_arms",
]


def diagnose(z: Any, *, labels: Any = None, views: Any = None, groups: Any = None) -> Diagnosis:
    """Say whether embeddings have collapsed, in which way, and on what evidence.

    Parameters
    ----------
    z
        Embeddings, shape (N, D): a torch tensor or an array of floating type, in memory or memory
        mapped, a data frame of floating columns, or anything with a shape that gives such rows as
        it is sliced (:func:`repcollapse.files.open_rows`). It is read once, block by block.
    labels
        Classes, integers or strings, shape (N,): what is left of them in the embeddings is then
        judged too.
    views
        Embeddings of V >= 2 views of each of n >= 2 samples, shape (V, n, D): whether views of a
        sample agree is then judged too. They need not be of the samples in `z`.
    groups
        Identifiers, integers or strings, shape (N,): rows of one identifier are views of one
        sample.

    Returns
    -------
    Diagnosis
        The verdict does not change with rotation or scale, nor with the order of the rows but for
        which of more than 2,048 are drawn for pairs.

    Raises
    ------
    TypeError, ValueError
        For embeddings, labels, views or identifiers other than these.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(1000, 32, generator=torch.Generator().manual_seed(0))
    >>> diagnose(z).verdict
    'healthy'
    >>> diagnose(1 + 1e-3 * z).verdict
    'complete'
    >>> diagnose(z[:, :2] @ torch.eye(2, 32)).verdict
    'dimensional'
    """
    z = _checks.as_array("z", z)
    n, dimension = _shape("z", z, "(N, D), rows are samples")
    if dimension > MOST_COLUMNS:
        raise ValueError(
            f"z must have at most {MOST_COLUMNS} columns; got {dimension}: project it onto fewer "
            "(a random projection keeps what is measured here)"
        )
    if labels is not None:
        labels = _checks.as_codes("labels", labels, n)
    if groups is not None:
        groups = _checks.as_codes("groups", groups, n, what="identifiers")
    survey = Survey.empty(dimension)
    step = block_of(dimension)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        survey = survey.update(
            _block(z[rows]),
            labels=None if labels is None else labels[rows],
            groups=None if groups is None else groups[rows],
        )
    if views is not None:
        n_views, samples, columns = _shape("views", views, "(V, N, D), V views of N samples")
        if n_views < 2 or samples < 2:
            raise ValueError(
                f"views needs at least 2 views of at least 2 samples; got V={n_views}, N={samples}"
            )
        if n_views == n and samples < n_views:
            raise ValueError(
                f"views must have shape (V, N, D), V views of N samples; got shape "
                f"{(n_views, samples, columns)} beside {n} rows in z, which looks like (N, V, D): "
                "views.swapaxes(0, 1) has the axes in order"
            )
        if columns != dimension:
            raise ValueError(f"views must have D = {dimension} like z; got D = {columns}")
        step = block_of(dimension, n_views)
        for start in range(0, samples, step):
            stop = min(start + step, samples)
            survey = survey.update_views(_block(views[:, start:stop]))
    return conclude(survey)


def diagnose_arms(
    embeddings: Mapping[str, Mapping[int, Any] | Iterable[Any]],
    *,
    labels: Mapping[int, Any] | Iterable[Any] | None = None,
) -> Arms:
    """Return the diagnoses of several models, each trained from several seeds.

    Parameters
    ----------
    embeddings
        By arm, for each seed, embeddings of N samples, shape (N, D); or of V >= 2 views of each,
        shape (V, N, D), of which the first is diagnosed and all say whether views agree. Those of
        an arm are given by seed, or alone, which numbers them 0, 1, ...
    labels
        For each seed the classes of the samples, shape (N,), the same for all arms; given by seed
        where the embeddings are, and else in their order.

    Raises
    ------
    TypeError, ValueError
        For embeddings or labels that :func:`repcollapse.diagnose` refuses, no arm, or an arm of
        other seeds than the labels.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(2, 500, 16, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.arange(500) % 5
    >>> arms = diagnose_arms({"dead": [z * 1e-3 + 1], "alive": [z]}, labels=[labels])
    >>> {arm: dict(arms.verdicts(arm)) for arm in arms.arms}
    {'dead': {'complete': 1}, 'alive': {'healthy': 1}}
    >>> diagnose_arms({"alive": {100: z[0]}}).by_arm["alive"][100].verdict
    'healthy'
    """
    classes = None if labels is None else numbered(labels)
    found = {}
    for arm, runs in embeddings.items():
        embedded = numbered(runs)
        if classes is not None and embedded.keys() != classes.keys():
            raise ValueError(
                f"embeddings must be of the seeds of labels, {list(classes)}; got "
                f"{list(embedded)} for {arm!r}"
            )
        found[arm] = {
            seed: _of_seed(z, None if classes is None else classes[seed])
            for seed, z in embedded.items()
        }
    return Arms(found)


def _of_seed(z: Any, labels: Any) -> Diagnosis:
    if getattr(z, "ndim", 2) == 3:
        return diagnose(z[0], labels=labels, views=z)
    return diagnose(z, labels=labels)


def conclude(survey: Survey) -> Diagnosis:
    """Return the diagnosis of everything that a survey has seen.

    Raises
    ------
    TypeError, ValueError
        For anything but a survey of one row or more.
    """
    if not isinstance(survey, Survey):
        raise TypeError(f"survey must be a Survey; got {type(survey).__name__}")
    if survey.moments.rows.count == 0:
        raise ValueError("survey must have seen at least one row; got none")
    evidence = survey.evidence()
    findings = decide(evidence)
    return Diagnosis(
        findings[0].kind,
        tuple(findings),
        evidence.metrics,
        evidence.nulls,
        evidence.intervals,
        evidence.rows,
        evidence.dimension,
        evidence.sampled,
        evidence.spectrum,
        evidence.null_spectrum,
    )


def _shape(name: str, value: Any, expected: str) -> tuple[int, ...]:
    _checks.require_dense(name, value)
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "__getitem__"):
        raise TypeError(
            f"{name} must be a torch.Tensor or numpy.ndarray of shape {expected}; got "
            f"{type(value).__name__} (numpy.asarray(..., dtype=float) makes one)"
        )
    shape = tuple(int(size) for size in shape)
    if len(shape) != expected.count(",", 0, expected.index(")")) + 1 or 0 in shape:
        raise ValueError(f"{name} must have shape {expected}; got shape {shape}")
    return shape


def _block(rows: Any) -> Any:
    # A copy: of a memory map only what is looked at is read, and torch wants to own it.
    return np.array(rows) if isinstance(rows, np.ndarray) else rows
