"""What a checkup says: its numbers, and its findings."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from repcollapse.diagnosis.findings import Advice, Finding, plain
from repcollapse.diagnosis.report import COLOURS, MARKS, STYLE, WIDTH, number

HEALTHY = "healthy"


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
        """How grave the first finding is: "collapse", "warning", "note", or "healthy"."""
        return self.findings[0].severity if self.findings else HEALTHY

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
        lines = _wrapped(f"{MARKS[self.severity]} {self.verdict}: {self.summary}", "  ")
        for finding in self.findings:
            lines += ["", *_wrapped(f"{MARKS[finding.severity]} {finding.sentence}", "  ")]
            lines += _wrapped(f"  → {finding.advice} See: {finding.title}.", "    ")
        return "\n".join([*lines, "", *(f"{k:32}{number(v):>10}" for k, v in self.metrics.items())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li style='border-color:{COLOURS[finding.severity]}'>"
            f"<p><b>{html.escape(finding.kind)}</b> {html.escape(finding.sentence)}</p>"
            f"<p class='rc-advice'>{html.escape(finding.advice)} "
            f"<i>{html.escape(finding.title)}</i></p></li>"
            for finding in self.findings
        )
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(name)}</th><td>{number(value)}</td></tr>"
            for name, value in self.metrics.items()
        )
        return (
            f"<div class='rc-diagnosis'><style>{STYLE}</style>"
            f"<p><b><span aria-hidden='true'>{MARKS[self.severity]}</span> "
            f"{html.escape(self.verdict)}</b> {html.escape(self.summary)}</p>"
            f"<ul>{items}</ul>"
            f"<div class='rc-scroll'><table><tbody>{rows}</tbody></table></div></div>"
        )


def make_finding(
    kind: str,
    sentence: str,
    measure: str,
    value: float,
    advice: Advice,
    *,
    reference: float | None = None,
) -> Finding:
    """Return a finding that rests on one number, held against its reference."""
    return Finding(
        kind,
        advice.severity,
        sentence,
        measure,
        value,
        reference,
        None,
        advice.text,
        advice.page,
        advice.title,
    )


@dataclass(frozen=True, repr=False)
class Checkups:
    """Checkups by arm, one a seed. Printed, it says for each arm what was found how often."""

    arms: dict[str, tuple[Checkup, ...]]

    def verdicts(self, arm: str) -> Counter[str]:
        """Return how often each verdict was given, the most frequent first.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        if arm not in self.arms:
            raise ValueError(f"arm must be one of {', '.join(self.arms)}; got {arm!r}")
        found = Counter(checkup.verdict for checkup in self.arms[arm])
        return Counter(dict(found.most_common()))

    def tells(self, kind: str, *, broken: Iterable[str], mended: Iterable[str]) -> list[bool]:
        """Return for each seed whether it is told: all of `broken` are `kind`, `mended` healthy.

        Raises
        ------
        ValueError
            For an arm that is not there, or arms of different numbers of seeds.
        """
        wanted = dict.fromkeys(broken, kind) | dict.fromkeys(mended, HEALTHY)
        if strangers := sorted(wanted.keys() - self.arms.keys()):
            raise ValueError(f"arms must be some of {', '.join(self.arms)}; got {strangers}")
        seeds = {arm: len(self.arms[arm]) for arm in wanted}
        if len(set(seeds.values())) > 1:
            raise ValueError(f"arms must have as many seeds as each other; got {seeds}")
        return [
            all(checkup.verdict == wanted[arm] for arm, checkup in zip(wanted, row, strict=True))
            for row in zip(*(self.arms[arm] for arm in wanted), strict=True)
        ]

    def typical(self, arm: str) -> Checkup:
        """Return the first checkup whose verdict is the most frequent one.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        verdict = next(iter(self.verdicts(arm)))
        return next(checkup for checkup in self.arms[arm] if checkup.verdict == verdict)

    def _tally(self, arm: str) -> str:
        seeds = len(self.arms[arm])
        return ", ".join(f"{kind} in {n} of {seeds}" for kind, n in self.verdicts(arm).items())

    def _said(self, arm: str) -> str:
        checkup = self.typical(arm)
        return checkup.findings[0].sentence if checkup.findings else checkup.summary

    def __str__(self) -> str:
        lines = []
        for arm in self.arms:
            lines += [f"{arm}: {self._tally(arm)}", *_wrapped(f"  {self._said(arm)}", "  ")]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li style='border-color:{COLOURS[self.typical(arm).severity]}'>"
            f"<p><b>{html.escape(arm)}</b>: "
            f"<span aria-hidden='true'>{MARKS[self.typical(arm).severity]}</span> "
            f"{html.escape(self._tally(arm))}</p><p>{html.escape(self._said(arm))}</p></li>"
            for arm in self.arms
        )
        return f"<div class='rc-diagnosis'><style>{STYLE}</style><ul>{items}</ul></div>"


def side_by_side(checkups: Mapping[str, Iterable[Checkup]]) -> Checkups:
    """Return the checkups of several models, each from several seeds, to be shown together.

    Raises
    ------
    ValueError
        Without an arm, or for an arm without a checkup.

    Examples
    --------
    >>> well = Checkup("64 of 64 codes are in use.", {"used": 64.0})
    >>> side_by_side({"mended": [well, well]})
    mended: healthy in 2 of 2
      64 of 64 codes are in use.
    """
    arms = {arm: tuple(found) for arm, found in checkups.items()}
    if not arms or not all(arms.values()):
        raise ValueError(
            "checkups must have one or more for each of one arm or more; got "
            f"{ {arm: len(found) for arm, found in arms.items()} }"
        )
    return Checkups(arms)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
