"""What a diagnosis says: verdicts, and findings with their evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

COMPLETE, DIMENSIONAL, CLUSTER = "complete", "dimensional", "cluster"
CONE, HEALTHY, NOT_ENOUGH = "cone", "healthy", "not-enough-data"
# Where several apply, the first of these is the verdict.
VERDICTS = (NOT_ENOUGH, COMPLETE, CLUSTER, DIMENSIONAL, CONE, HEALTHY)
COLLAPSES = (COMPLETE, CLUSTER, DIMENSIONAL)
# What is found beside a verdict.
CLASSES, SHORTCUT, NOISE = "class-collapse", "shortcut", "noise"
SHRUNKEN, ZEROS, DUPLICATES, DEAD, OUTLIERS = (
    *("shrunken", "zero-rows", "duplicates", "dead-dimensions", "outliers"),
)
SEVERITIES = ("collapse", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that the evidence shows.

    Attributes
    ----------
    kind
        One of the verdicts, or "class-collapse", "shortcut", "noise", "shrunken", "zero-rows",
        "duplicates", "dead-dimensions", "outliers".
    severity
        "collapse", "warning" or "note".
    sentence
        What was seen, with its numbers.
    measure
        The name in :attr:`Diagnosis.metrics` of the number that it rests on first.
    value, reference
        That number, and what healthy data of the same size would read, or the limit where there is
        no such number; None where there is neither.
    interval
        The ends of its 95 % interval, None where it has none.
    advice
        What to do.
    page
        The page of the book that says more, by the name of its file: "04_complete_collapse".
    title
        The title of that page.
    """

    kind: str
    severity: str
    sentence: str
    measure: str
    value: float
    reference: float | None
    interval: tuple[float, float] | None
    advice: str
    page: str
    title: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON, None for numbers that are not finite."""
        return plain(asdict(self))


def plain(value: Any) -> Any:
    """Return nested data as JSON can hold it: lists, and None where a number is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value
