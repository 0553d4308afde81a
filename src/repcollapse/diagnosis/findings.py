"""What a diagnosis says: verdicts, and findings with their evidence."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repcollapse.diagnosis.readings import Evidence

COMPLETE, DIMENSIONAL, CLUSTER = "complete", "dimensional", "cluster"
CONE, HEALTHY, NOT_ENOUGH = "cone", "healthy", "not-enough-data"
# Where several apply, the first of these is the verdict.
VERDICTS = (NOT_ENOUGH, COMPLETE, CLUSTER, DIMENSIONAL, CONE, HEALTHY)
COLLAPSES = (COMPLETE, CLUSTER, DIMENSIONAL)
# What is found beside a verdict.
CLASSES, LOST, SHORTCUT, NOISE = "class-collapse", "classes-lost", "shortcut", "noise"
SHRUNKEN, ZEROS, DUPLICATES, DEAD, OUTLIERS = (
    *("shrunken", "zero-rows", "duplicates", "dead-dimensions", "outliers"),
)
# What checkups find.
CODEBOOK, ROUTING, POSTERIOR, IDLE = (
    *("codebook-collapse", "routing-collapse", "posterior-collapse", "idle-latents"),
)
RANK_COLLAPSE, OVERSMOOTHING, MODALITY_GAP, DORMANT = (
    *("rank-collapse", "oversmoothing", "modality-gap", "dormant-units"),
)
COLLAPSE, WARNING, NOTE, FINE = "collapse", "warning", "note", "healthy"


@dataclass(frozen=True)
class Advice:
    """How grave a kind of finding is, what to do, and where the book says more."""

    severity: str
    text: str
    page: str
    title: str

    def finding(
        self,
        kind: str,
        sentence: str,
        measure: str,
        value: float,
        *,
        reference: float | None = None,
        interval: tuple[float, float] | None = None,
    ) -> Finding:
        """Return a finding that this is the advice on; its parts are those of :class:`Finding`."""
        return Finding(
            kind,
            self.severity,
            sentence,
            measure,
            value,
            reference,
            interval,
            self.text,
            self.page,
            self.title,
        )


ADVICE = {
    NOT_ENOUGH: Advice(
        WARNING,
        "Embed more samples: this verdict is about the number of rows, not about the model.",
        "02_measuring_collapse",
        "Measuring collapse",
    ),
    COMPLETE: Advice(
        COLLAPSE,
        "A constant is enough for the loss. Ask for what a constant cannot give: negatives, a "
        "variance or whitening term, or a predictor with a stop-gradient and batch norm.",
        "04_complete_collapse",
        "Complete collapse",
    ),
    CLUSTER: Advice(
        COLLAPSE,
        "Balance the assignments (Sinkhorn, centring, a mean-entropy term), or add an objective "
        "that tells samples of one cluster apart.",
        "06_cluster_collapse",
        "Cluster collapse",
    ),
    DIMENSIONAL: Advice(
        COLLAPSE,
        "Penalise what the dimensions share (a covariance or cross-correlation term, whitening), "
        "or weaken the augmentation that drowns them. If the data vary in as few ways, it is "
        "theirs.",
        "05_dimensional_collapse",
        "Dimensional collapse",
    ),
    CONE: Advice(
        WARNING,
        "One look cannot tell a cone that stays, as healthy models have, from a collapse on its "
        "way. Compare checkpoints (repcollapse compare): if the spread falls from one reading to "
        "the next, it is on its way to a complete collapse. Only where it is stable, subtract the "
        "mean before comparing cosines, and judge by the centred spectrum.",
        "02_measuring_collapse",
        "Measuring collapse",
    ),
    HEALTHY: Advice(
        FINE,
        "The geometry leaves nothing to mend. Whether the embeddings hold what they are wanted "
        "for, a probe has to say.",
        "02_measuring_collapse",
        "Measuring collapse",
    ),
    CLASSES: Advice(
        WARNING,
        "Right for the end of training a classifier, a loss for whatever is to be transferred: "
        "stop earlier, lessen weight decay, or add a term that needs more than the class.",
        "17_neural_collapse",
        "Neural and sub-class collapse",
    ),
    LOST: Advice(
        WARNING,
        "Probe inputs and an untrained encoder the same way. If they know the classes, training "
        "has taught the model to ignore them.",
        "07_shortcuts",
        "Shortcuts",
    ),
    SHORTCUT: Advice(
        WARNING,
        "Look at pairs of views for what they share beside the content, and augment it away. Where "
        "views hardly differ at all, it means nothing.",
        "07_shortcuts",
        "Shortcuts",
    ),
    NOISE: Advice(
        WARNING,
        "A joint embedding is to do the opposite: see whether it is trained at all, whether the "
        "loss reaches this layer, and whether the views are of one sample.",
        "04_complete_collapse",
        "Complete collapse",
    ),
    SHRUNKEN: Advice(
        WARNING,
        "Hold the standard deviation against that of an untrained network; a variance term keeps "
        "it up.",
        "11_variance_regularization",
        "Variance regularization",
    ),
    ZEROS: Advice(
        NOTE,
        "Dead units or padding: find out which. Samples that differ and share a zero row are told "
        "apart no longer.",
        "04_complete_collapse",
        "Complete collapse",
    ),
    DUPLICATES: Advice(
        NOTE,
        "Embed each sample once. Where copies are of different samples, the model no longer tells "
        "these apart.",
        "02_measuring_collapse",
        "Measuring collapse",
    ),
    DEAD: Advice(
        NOTE,
        "Some are common after a rectifier. Of many, ask when they died: hold their number against "
        "that of an untrained network and of earlier checkpoints.",
        "05_dimensional_collapse",
        "Dimensional collapse",
    ),
    OUTLIERS: Advice(
        NOTE,
        "Look at these samples: they are often broken inputs.",
        "02_measuring_collapse",
        "Measuring collapse",
    ),
}

# Of a verdict of health where something else was found, and of most directions, dead at any angle.
HEALTHY_BUT = (
    "No collapse; see what was found beside it. Whether the embeddings hold what they are wanted "
    "for, a probe has to say."
)
SILENT = (
    "If a layer before has no more dimensions, they are the architecture's. Otherwise training has "
    "emptied them: hold the rank against that of an untrained network and of earlier checkpoints."
)


@dataclass(frozen=True)
class Finding:
    """One thing that the evidence shows.

    Attributes
    ----------
    kind
        What it is, in a word. Of a diagnosis one of the verdicts, or "class-collapse",
        "classes-lost", "shortcut", "noise", "shrunken", "zero-rows", "duplicates",
        "dead-dimensions", "outliers"; of a checkup "codebook-collapse", "routing-collapse",
        "posterior-collapse", "idle-latents", "rank-collapse", "oversmoothing", "modality-gap",
        "dormant-units", or "not-enough-data".
    severity
        "collapse", "warning", "note" or "healthy".
    sentence
        What was seen, with its numbers.
    measure
        The name, in the `metrics` of the diagnosis or the checkup, of the number that it rests on
        first.
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


def found(
    evidence: Evidence,
    kind: str,
    sentence: str,
    measure: str,
    *,
    value: float | None = None,
    reference: float | None = None,
    interval_of: str | None = None,
) -> Finding:
    """Return a finding, with value, reference and interval taken from the evidence.

    The interval is that of the measure, or of another reading where the value is that one's.
    """
    return ADVICE[kind].finding(
        kind,
        sentence,
        measure,
        evidence.metrics[measure] if value is None else value,
        reference=evidence.nulls.get(measure) if reference is None else reference,
        interval=evidence.intervals.get(interval_of or measure),
    )


def plain(value: Any) -> Any:
    """Return nested data as JSON can hold it: lists, and None where a number is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
