"""The diagnoses of several models beside each other, each trained from several seeds."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from dataclasses import dataclass

from repcollapse.diagnosis.diagnosis import Diagnosis
from repcollapse.diagnosis.findings import COLLAPSE, WARNING
from repcollapse.diagnosis.report import COLOURS, HEADLINES, MARKS, STYLE, WIDTH


@dataclass(frozen=True, repr=False)
class Arms:
    """Diagnoses by arm, one a seed. Printed, it says for each arm what was found how often.

    Attributes
    ----------
    diagnoses
        The diagnoses of each arm, in the order of its seeds.
    """

    diagnoses: dict[str, tuple[Diagnosis, ...]]

    def __post_init__(self) -> None:
        if not self.diagnoses or not all(self.diagnoses.values()):
            raise ValueError(
                "diagnoses must have one diagnosis or more for each of one arm or more; got "
                f"{ {arm: len(found) for arm, found in self.diagnoses.items()} }"
            )

    def verdicts(self, arm: str) -> Counter[str]:
        """Return how often each verdict was given, the most frequent first.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        found = Counter(diagnosis.verdict for diagnosis in self._of(arm))
        return Counter(dict(found.most_common()))

    def found(self, arm: str) -> Counter[str]:
        """Return how often each collapse or warning was found beside the verdicts.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        found = Counter(
            finding.kind
            for diagnosis in self._of(arm)
            for finding in diagnosis.findings[1:]
            if finding.severity in (COLLAPSE, WARNING)
        )
        return Counter(dict(found.most_common()))

    def typical(self, arm: str) -> Diagnosis:
        """Return the first diagnosis whose verdict is the most frequent one.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        verdict = next(iter(self.verdicts(arm)))
        return next(found for found in self._of(arm) if found.verdict == verdict)

    def _of(self, arm: str) -> tuple[Diagnosis, ...]:
        if arm not in self.diagnoses:
            raise ValueError(f"arm must be one of {', '.join(self.diagnoses)}; got {arm!r}")
        return self.diagnoses[arm]

    def __str__(self) -> str:
        lines = []
        for arm in self.diagnoses:
            lines += [f"{arm}: {self._tally(arm)}"]
            lines += textwrap.wrap(
                self.typical(arm).findings[0].sentence,
                WIDTH,
                initial_indent="  ",
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
            if also := self._also(arm):
                lines += [f"  {also}"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(map(self._item, self.diagnoses))
        return f"<div class='rc-diagnosis'><style>{STYLE}</style><ul>{items}</ul></div>"

    def _item(self, arm: str) -> str:
        typical = self.typical(arm)
        severity = typical.findings[0].severity
        also = self._also(arm)
        return (
            f"<li style='border-color:{COLOURS[severity]}'>"
            f"<p><b>{html.escape(arm)}</b>: <span aria-hidden='true'>{MARKS[severity]}</span> "
            f"{html.escape(self._tally(arm))}</p>"
            f"<p>{html.escape(typical.findings[0].sentence)}</p>"
            + (f"<p class='rc-advice'>{html.escape(also)}</p>" if also else "")
            + "</li>"
        )

    def _tally(self, arm: str) -> str:
        seeds = len(self._of(arm))
        return ", ".join(
            f"{HEADLINES[verdict]} in {count} of {seeds}"
            for verdict, count in self.verdicts(arm).items()
        )

    def _also(self, arm: str) -> str:
        seeds = len(self._of(arm))
        found = [f"{kind} in {count} of {seeds}" for kind, count in self.found(arm).items()]
        return f"Also found: {', '.join(found)}." if found else ""
