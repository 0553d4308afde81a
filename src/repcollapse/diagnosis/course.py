"""What checkpoints of one training say together, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from repcollapse.diagnosis.diagnosis import Diagnosis
from repcollapse.diagnosis.findings import COLLAPSE, COMPLETE, CONE, WARNING, Finding

BEGINNING = (
    "The cone at {cone} was the beginning of the complete collapse at {collapse}: what helps "
    "against that helps here. Subtracting the mean would only hide it."
)
STAYING = (
    "If the spread no longer falls from checkpoint to checkpoint, the cone is one that stays, as "
    "healthy models have: subtract the mean before comparing cosines, and judge by the centred "
    "spectrum. If it falls, it is on its way to a complete collapse."
)


def advice_over(checkpoints: Iterable[tuple[str, Diagnosis]]) -> list[Finding]:
    """Return what to do about a training: each kind of collapse or warning once, collapses first.

    Parameters
    ----------
    checkpoints
        Their names and diagnoses, in the order of training.

    Returns
    -------
    list of Finding
        The latest of every kind, collapses before warnings, and otherwise in the order in which the
        kinds appeared. A cone before a complete collapse is advised on as the beginning of that,
        and another by its course.

    Examples
    --------
    >>> import torch
    >>> from repcollapse import diagnose
    >>> z = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    >>> found = advice_over([("1", diagnose(z + 2)), ("2", diagnose(z + 50))])
    >>> [each.kind for each in found], found[1].advice[:43]
    (['complete', 'cone'], 'The cone at 1 was the beginning of the comp')
    """
    latest: dict[str, Finding] = {}
    places: dict[str, list[tuple[int, str]]] = {CONE: [], COMPLETE: []}
    for place, (name, diagnosis) in enumerate(checkpoints):
        for finding in diagnosis.findings:
            if finding.severity in (COLLAPSE, WARNING):
                latest[finding.kind] = finding
            if finding.kind in places:
                places[finding.kind].append((place, name))
    if places[CONE]:
        began, cone = places[CONE][0]
        later = next((name for place, name in places[COMPLETE] if place > began), None)
        said = STAYING if later is None else BEGINNING.format(cone=cone, collapse=later)
        latest[CONE] = replace(latest[CONE], advice=said)
    return sorted(latest.values(), key=lambda finding: finding.severity != COLLAPSE)
