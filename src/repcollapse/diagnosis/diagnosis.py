"""A diagnosis: a verdict, its findings, and the numbers behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repcollapse.diagnosis import report
from repcollapse.diagnosis.findings import COLLAPSES, Finding, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The answer of :func:`repcollapse.diagnose`. Printed, it is a report.

    Attributes
    ----------
    verdict
        "not-enough-data", "complete", "cluster", "dimensional", "cone" or "healthy": of those that
        apply, the first in this order.
    findings
        Everything that was found, that of the verdict first.
    metrics
        Every number that was read, by name. The exponent `alpha_req` is that of a line through
        eigenvalues `alpha_req_first` to `alpha_req_last`, which fits as `alpha_req_r2` says; the
        window decides the exponent, and a law may not hold at all.
    nulls
        What isotropic data of the same size would read, for the metrics that have such a value.
    intervals
        The ends of 95 % intervals, for the metrics that have one.
    rows, dimension
        N and D.
    sampled
        Of how many rows pairs were taken: all, or a sample drawn by the rows' global index.
    spectrum
        The eigenvalues of the covariance as shares of their sum, descending; those of isotropic
        data of the same size are `null_spectrum`.
    null_spectrum
        See `spectrum`.
    """

    verdict: str
    findings: tuple[Finding, ...]
    metrics: dict[str, float]
    nulls: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    rows: int
    dimension: int
    sampled: int
    spectrum: tuple[float, ...]
    null_spectrum: tuple[float, ...]

    @property
    def collapsed(self) -> bool:
        """Whether the verdict is a collapse, that is, complete, cluster or dimensional."""
        return self.verdict in COLLAPSES

    @property
    def severity(self) -> str:
        """The severity of the first finding, which is that of the verdict."""
        return self.findings[0].severity

    @property
    def sentence(self) -> str:
        """The sentence of the first finding, on which the verdict rests."""
        return self.findings[0].sentence

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON, None for numbers that are not finite."""
        return plain(
            {
                "verdict": self.verdict,
                "rows": self.rows,
                "dimension": self.dimension,
                "sampled": self.sampled,
                "findings": [finding.to_dict() for finding in self.findings],
                "metrics": self.metrics,
                "nulls": self.nulls,
                "intervals": self.intervals,
                "spectrum": self.spectrum,
                "null_spectrum": self.null_spectrum,
            }
        )

    def plot(self) -> Figure:
        """Return a figure: the spectrum, and readings as shares of what isotropic data read.

        It is matplotlib's, in the book's style and otherwise left alone: show or save it, and close
        it.
        """
        return report.plot(self)

    def __str__(self) -> str:
        return report.text(self)

    def __repr__(self) -> str:
        return str(self)

    def to_html(self) -> str:
        """Return the report as a fragment of HTML that needs nothing else, light or dark."""
        return report.to_html(self)

    def _repr_html_(self) -> str:
        return self.to_html()
