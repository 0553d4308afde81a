"""What a checkup says: its numbers, and its findings."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from repcollapse.diagnosis.findings import FINE, HEALTHY, Finding, plain
from repcollapse.diagnosis.report import MARKS, STYLE, item, number, wrapped


@dataclass(frozen=True, repr=False)
class Checkup:
    """The answer of one function. Printed, it is a report.

    Attributes
    ----------
    summary
        What was looked at and read, in one sentence with its numbers.
    metrics
        Every number that was read, by name.
    findings
        What these numbers mean, the gravest first; empty where nothing was found.
    """

    summary: str
    metrics: dict[str, float]
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> str:
        """The kind of the first finding, "healthy" where there is none."""
        return self.findings[0].kind if self.findings else HEALTHY

    @property
    def severity(self) -> str:
        """The severity of the first finding, "healthy" where there is none."""
        return self.findings[0].severity if self.findings else FINE

    @property
    def sentence(self) -> str:
        """The sentence of the first finding, the summary where there is none."""
        return self.findings[0].sentence if self.findings else self.summary

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON, None for numbers that are not finite."""
        return plain(
            {
                "verdict": self.verdict,
                "summary": self.summary,
                "metrics": self.metrics,
                "findings": [finding.to_dict() for finding in self.findings],
            }
        )

    def __str__(self) -> str:
        lines = wrapped(f"{MARKS[self.severity]} {self.verdict}: {self.summary}", "  ")
        for finding in self.findings:
            lines += ["", *wrapped(f"{MARKS[finding.severity]} {finding.sentence}", "  ")]
            lines += wrapped(f"{finding.advice} See: {finding.title}.", "    ", first="  → ")
        return "\n".join([*lines, "", *(f"{k:32}{number(v):>10}" for k, v in self.metrics.items())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(name)}</th><td>{number(value)}</td></tr>"
            for name, value in self.metrics.items()
        )
        return (
            f"<div class='rc-diagnosis'><style>{STYLE}</style>"
            f"<p><b><span aria-hidden='true'>{MARKS[self.severity]}</span> "
            f"{html.escape(self.verdict)}</b> {html.escape(self.summary)}</p>"
            f"<ul>{''.join(map(item, self.findings))}</ul>"
            f"<div class='rc-scroll'><table><tbody>{rows}</tbody></table></div></div>"
        )
