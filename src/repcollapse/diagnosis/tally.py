"""Answers beside each other, by arm and by seed: what was said how often, and of what it tells."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar, Generic, Protocol, TypeVar

from repcollapse import _checks
from repcollapse.diagnosis.findings import COLLAPSE, HEALTHY, WARNING, Finding
from repcollapse.diagnosis.report import COLOURS, MARKS, STYLE, wrapped


class Answer(Protocol):
    """What can be tallied: a diagnosis, or a checkup."""

    @property
    def verdict(self) -> str:
        """What was said, in a word."""

    @property
    def severity(self) -> str:
        """How grave that is."""

    @property
    def sentence(self) -> str:
        """What it rests on, with its numbers."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that was found, that of the verdict first."""

    @property
    def metrics(self) -> dict[str, float]:
        """Every number that was read, by name."""


T = TypeVar("T", bound=Answer)


class Tally(Generic[T]):
    """Answers by arm and seed. Printed, it says for each arm what was found how often.

    Parameters
    ----------
    by_arm
        By arm, the answer for each seed, or answers alone, which then are those of seeds 0, 1, ...

    Raises
    ------
    ValueError
        Without an arm, or for an arm without an answer.
    """

    headlines: ClassVar[Mapping[str, str]] = {}

    def __init__(self, by_arm: Mapping[str, Mapping[int, T] | Iterable[T]]) -> None:
        #: The answers by arm, then by seed, in the order given.
        self.by_arm = {arm: numbered(given) for arm, given in by_arm.items()}
        if not self.by_arm or not all(self.by_arm.values()):
            raise ValueError(
                "by_arm must have an answer or more for each of one arm or more; got "
                f"{ {arm: len(found) for arm, found in self.by_arm.items()} }"
            )

    @property
    def arms(self) -> list[str]:
        """The arms, in the order given."""
        return list(self.by_arm)

    def of(self, arm: str) -> list[T]:
        """Return the answers of `arm`, one a seed.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        return list(self._seeds(arm).values())

    def values(self, arm: str, metric: str) -> dict[int, float]:
        """Return a number that was read of `arm`, by seed.

        Raises
        ------
        ValueError
            For an arm or a number that is not there.
        """
        for answer in self.of(arm):
            _checks.choice("metric", metric, answer.metrics)
        return {seed: answer.metrics[metric] for seed, answer in self._seeds(arm).items()}

    def verdicts(self, arm: str) -> Counter[str]:
        """Return how often each verdict was given, the most frequent first.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        return _by_count(answer.verdict for answer in self.of(arm))

    def found(self, arm: str) -> Counter[str]:
        """Return in how many answers each collapse or warning was found beside their verdict.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        return _by_count(kind for answer in self.of(arm) for kind in _beside(answer))

    def typical(self, arm: str) -> T:
        """Return the first answer whose verdict is the most frequent one.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        verdict = next(iter(self.verdicts(arm)))
        return next(answer for answer in self.of(arm) if answer.verdict == verdict)

    def tells(self, kind: str, *, broken: Iterable[str], mended: Iterable[str]) -> dict[int, bool]:
        """Say of each seed whether it is told: all of `broken` called `kind`, all `mended` healthy.

        An answer a seed, as a ledger takes it. It is the verdict that counts; what may stand beside
        one, :meth:`finds` looks for.

        Raises
        ------
        ValueError
            For no arm, one that is not there, or arms of different seeds.
        """
        wanted = [(arm, kind) for arm in broken] + [(arm, HEALTHY) for arm in mended]
        return {
            seed: all(self.by_arm[arm][seed].verdict == said for arm, said in wanted)
            for seed in self._common_seeds([arm for arm, _ in wanted])
        }

    def finds(self, kind: str, *, broken: Iterable[str], mended: Iterable[str]) -> dict[int, bool]:
        """Say of each seed whether `kind` is found in all of `broken` and in none of `mended`.

        It may be the verdict or stand beside it; whatever else is found does not count.

        Raises
        ------
        ValueError
            For no arm, one that is not there, or arms of different seeds.
        """
        wanted = [(arm, True) for arm in broken] + [(arm, False) for arm in mended]
        return {
            seed: all((kind in _kinds(self.by_arm[arm][seed])) == there for arm, there in wanted)
            for seed in self._common_seeds([arm for arm, _ in wanted])
        }

    def _seeds(self, arm: str) -> dict[int, T]:
        return self.by_arm[_checks.choice("arm", arm, self.arms)]

    def _common_seeds(self, arms: list[str]) -> list[int]:
        if not arms:
            raise ValueError("broken and mended must name at least one arm; got none")
        seeds = {arm: list(self._seeds(arm)) for arm in arms}
        first = seeds[arms[0]]
        if any(set(found) != set(first) for found in seeds.values()):
            raise ValueError(f"broken and mended must have the same seeds; got {seeds}")
        return first

    def _said(self, arm: str) -> str:
        return _listed(
            {self.headlines.get(kind, kind): n for kind, n in self.verdicts(arm).items()},
            len(self.by_arm[arm]),
        )

    def _also(self, arm: str) -> str:
        found = self.found(arm)
        return f"Also found: {_listed(found, len(self.by_arm[arm]))}." if found else ""

    def __str__(self) -> str:
        lines = []
        for arm in self.by_arm:
            lines += wrapped(f"{arm}: {self._said(arm)}", "  ")
            lines += wrapped(self.typical(arm).sentence, "  ", first="  ")
            lines += wrapped(self._also(arm), "  ", first="  ")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(map(self._item, self.by_arm))
        return f"<div class='rc-diagnosis'><style>{STYLE}</style><ul>{items}</ul></div>"

    def _item(self, arm: str) -> str:
        typical, also = self.typical(arm), self._also(arm)
        return (
            f"<li style='border-color:{COLOURS[typical.severity]}'>"
            f"<p><b>{html.escape(arm)}</b>: "
            f"<span aria-hidden='true'>{MARKS[typical.severity]}</span> "
            f"{html.escape(self._said(arm))}</p>"
            f"<p>{html.escape(typical.sentence)}</p>"
            + (f"<p class='rc-advice'>{html.escape(also)}</p>" if also else "")
            + "</li>"
        )


V = TypeVar("V")


def numbered(given: Mapping[int, V] | Iterable[V]) -> dict[int, V]:
    """Return what is given by seed; without seeds it is numbered from 0.

    Examples
    --------
    >>> numbered(["a", "b"]), numbered({100: "a"})
    ({0: 'a', 1: 'b'}, {100: 'a'})
    """
    return dict(given) if isinstance(given, Mapping) else dict(enumerate(given))


def _by_count(kinds: Iterable[str]) -> Counter[str]:
    return Counter(dict(Counter(kinds).most_common()))


def _kinds(answer: Answer) -> set[str]:
    return {answer.verdict, *(finding.kind for finding in answer.findings)}


def _beside(answer: Answer) -> list[str]:
    """Return the kinds of collapse and warning beside the verdict, each once, in their order."""
    kinds = (f.kind for f in answer.findings[1:] if f.severity in (COLLAPSE, WARNING))
    return [kind for kind in dict.fromkeys(kinds) if kind != answer.verdict]


def _listed(counts: Mapping[str, int], seeds: int) -> str:
    return ", ".join(f"{kind} in {count} of {seeds}" for kind, count in counts.items())
