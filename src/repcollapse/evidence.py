"""Claims as data: what was said, by whom, what would count, what was measured, what came out.

A chapter opens a :class:`Ledger` and declares its claims, criteria included, before it trains
anything; afterwards it hands in the measurements. Every judged claim is shown in the notebook and
travels with it as data, from which the book's build gathers the ledger page and ``ledger.json``.

A cell of the matrix of remedies and modes is a measurement without a source: its criterion does not
ask whether somebody was right, it says which of three outcomes a collapse had.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from repcollapse import _checks
from repcollapse.data import NAMES

MIME = "application/vnd.repcollapse.claim+json"
COLUMN_MIME = "application/vnd.repcollapse.column+json"
REPRODUCED, NOT_REPRODUCED, NOT_JUDGED = "reproduced", "not reproduced", "not judged"
MIN_SEEDS = 5
OUTCOMES = PREVENTED, REDUCED, NOT_PREVENTED = "prevented", "reduced", "not prevented"
DEFAULT_DATASET, DEFAULT_STEPS = "digits", 400


SCOPES = {
    "seeds": "every seed",
    "interval": "95 % interval of the mean",
    "value": "value",
    "share": "share of every seed",
}


@dataclass(frozen=True)
class Criterion:
    """What must hold of a measurement: bounds, and of which number.

    Make one with :func:`every_seed`, :func:`interval`, :func:`within` or :func:`thirds`.

    Parameters
    ----------
    scope
        "seeds" (the measurement of every seed), "interval" (the whole 95 % interval of their mean),
        "value" (one exact number) or "share" (of what a collapse took, how much every seed kept:
        a collapse is prevented above the one bound and not prevented below the other).
    above, below
        Strict bounds.
    target, tolerance
        For "value": the closed form, and how far from it the number may lie.

    Examples
    --------
    >>> criterion = every_seed(below=0.05)
    >>> Criterion.from_bounds(criterion.to_bounds()) == criterion
    True
    """

    scope: str
    above: float | None = None
    below: float | None = None
    target: float | None = None
    tolerance: float | None = None

    def __str__(self) -> str:
        if self.scope == "share":
            return (
                f"prevented where the {SCOPES['share']} is > {self.above:.2f}, "
                f"not prevented where it is < {self.below:.2f}, reduced elsewhere"
            )
        if self.tolerance is not None and self.target is not None:
            return f"{SCOPES[self.scope]} within {self.tolerance:g} of {self.target:.7g}"
        bounds = [f"> {self.above:.7g}"] if self.above is not None else []
        bounds += [f"< {self.below:.7g}"] if self.below is not None else []
        return f"{SCOPES[self.scope]} {' and '.join(bounds)}"

    def holds(self, low: float, high: float) -> bool:
        """Whether everything from `low` to `high` meets it."""
        if self.tolerance is not None and self.target is not None:
            return max(abs(low - self.target), abs(high - self.target)) <= self.tolerance
        return (self.above is None or low > self.above) and (
            self.below is None or high < self.below
        )

    def to_bounds(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_bounds(cls, bounds: Mapping[str, Any]) -> Criterion:
        """Return the criterion that :meth:`to_bounds` wrote down.

        Raises
        ------
        ValueError
            For data of another form.
        """
        if set(bounds) != {f.name for f in fields(cls)} or bounds["scope"] not in SCOPES:
            raise ValueError(f"bounds must be what Criterion.to_bounds() returns; got {bounds!r}")
        return cls(**bounds)


def every_seed(*, above: float | None = None, below: float | None = None) -> Criterion:
    """Ask that the measurement of every single seed lie within the bounds.

    Raises
    ------
    ValueError
        Without any bound.

    Examples
    --------
    >>> str(every_seed(below=0.05))
    'every seed < 0.05'
    """
    return _bounded("seeds", above, below)


def interval(*, above: float | None = None, below: float | None = None) -> Criterion:
    """Ask that the whole 95 % interval of the mean over seeds lie within the bounds.

    Raises
    ------
    ValueError
        Without any bound.

    Examples
    --------
    >>> str(interval(above=0, below=1))
    '95 % interval of the mean > 0 and < 1'
    """
    return _bounded("interval", above, below)


def within(tolerance: float, *, of: float) -> Criterion:
    """Ask that one exact quantity agree with a closed form `of` to `tolerance`.

    Raises
    ------
    ValueError
        For a tolerance that is not positive.

    Examples
    --------
    >>> str(within(1e-6, of=1.5158424))
    'value within 1e-06 of 1.515842'
    """
    tolerance = _checks.number("tolerance", tolerance, above=0)
    of = _checks.number("of", of)
    return Criterion("value", target=of, tolerance=tolerance)


def thirds() -> Criterion:
    """Say of shares kept, one a seed, whether a collapse was prevented, reduced or neither.

    A share is 0 where nothing was done against the collapse and 1 where the network was told the
    answer. "prevented" if every seed keeps more than two thirds, "not prevented" if every seed
    keeps less than one, "reduced" if neither: in part, or not in every seed.

    Examples
    --------
    >>> verdict(thirds(), [0.9, 0.7, 1.1]), verdict(thirds(), [0.9, 0.1, 1.1])
    ('prevented', 'reduced')
    """
    return Criterion("share", above=2 / 3, below=1 / 3)


def _bounded(scope: str, above: float | None, below: float | None) -> Criterion:
    if above is None and below is None:
        raise ValueError("a criterion needs above, below or both; got neither")
    if above is not None:
        above = _checks.number("above", above)
    if below is not None:
        below = _checks.number("below", below, above=-math.inf if above is None else above)
    return Criterion(scope, above, below)


def mean_interval(values: Any) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of one value a seed and its 95 % interval; below two values, None.

    Of numbers the interval is Student's t. Of answers, True or False, the mean is the share of
    True, and the interval that of the binomial law, which neither leaves [0, 1] nor shrinks to a
    point where all answers are the same.

    Parameters
    ----------
    values
        Numbers, or answers: a 0 or 1 that may be a measurement is taken for a number.

    Raises
    ------
    ValueError
        Without values, or for any that is not finite.

    References
    ----------
    Student 1908; Clopper & Pearson 1934.

    Examples
    --------
    >>> mean_interval([1.0, 2.0, 3.0])
    (2.0, (-0.48413771175033027, 4.48413771175033))
    >>> share, (low, high) = mean_interval([True, True, True, False])
    >>> share, round(low, 3), round(high, 3)
    (0.75, 0.194, 0.994)
    """
    from scipy import stats  # slow to import

    sample = _numbers("values", values)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, None
    if sample.dtype == bool:
        exact = stats.binomtest(int(sample.sum()), len(sample)).proportion_ci(0.95)
        return mean, (float(exact.low), float(exact.high))
    half = float(stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample)))
    return mean, (mean - half, mean + half)


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    """Return a - b by seed, for the ledger.

    Raises
    ------
    ValueError
        For numbers of other seeds.

    Examples
    --------
    >>> difference({0: 3.0, 1: 5.0}, {0: 1.0, 1: 1.0})
    {0: 2.0, 1: 4.0}
    """
    return {seed: float(one - other) for seed, one, other in _pairs(a, b)}


def ratio(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    """Return a / b by seed, for the ledger.

    Raises
    ------
    ValueError
        For numbers of other seeds, or where b is 0.

    Examples
    --------
    >>> ratio({0: 3.0, 1: 5.0}, {0: 2.0, 1: 1.0})
    {0: 1.5, 1: 5.0}
    """
    pairs = list(_pairs(a, b))
    if empty := [seed for seed, _, other in pairs if other == 0]:
        raise ValueError(f"b must not be 0; it is for the seeds {empty}")
    return {seed: float(one / other) for seed, one, other in pairs}


def _pairs(a: Mapping[int, float], b: Mapping[int, float]) -> Iterator[tuple[int, float, float]]:
    if set(a) != set(b):
        raise ValueError(f"a and b must be of the same seeds; got {list(a)} and {list(b)}")
    return ((seed, one, b[seed]) for seed, one in a.items())


def _numbers(name: str, values: Any) -> np.ndarray:
    """Return numbers as float64, and answers as they are."""
    sample = np.asarray(list(values))
    if sample.dtype == bool and len(sample):
        return sample
    if not len(sample) or not np.issubdtype(sample.dtype, np.number):
        raise ValueError(f"{name} must hold at least one number; got {list(values)!r}")
    sample = sample.astype(float)
    if not np.isfinite(sample).all():
        raise ValueError(f"{name} must be finite; got {sample.tolist()}")
    return sample


def verdict(criterion: Criterion, measurements: Any) -> str:
    """Return whether `measurements` meet `criterion`, "reproduced" or "not reproduced".

    For the criterion :func:`thirds` it is the outcome: "prevented", "reduced" or "not prevented".

    Raises
    ------
    ValueError
        Without measurements, or for any that is not finite.

    Examples
    --------
    >>> verdict(every_seed(below=0.05), [0.01, 0.02, 0.06])
    'not reproduced'
    """
    sample = _numbers("measurements", measurements)
    if criterion.scope == "share":
        if sample.min() > criterion.above:
            return PREVENTED
        return NOT_PREVENTED if sample.max() < criterion.below else REDUCED
    if criterion.scope == "interval":
        _, bounds = mean_interval(sample)
        met = bounds is not None and criterion.holds(*bounds)
    else:
        met = criterion.holds(float(sample.min()), float(sample.max()))
    return REPRODUCED if met else NOT_REPRODUCED


@dataclass(frozen=True)
class Claim:
    """One claim: what is said, its source, what was reported there, and what would count here."""

    id: str
    statement: str
    source: str
    citation: str | None
    reported: str
    criterion: Criterion
    kind: str
    expected: str = REPRODUCED
    mode: str | None = None
    remedy: str | None = None
    outcome: str | None = None
    unit: str | None = None


class Ledger:
    """The claims of one chapter.

    Parameters
    ----------
    chapter
        The chapter's name.
    dataset, steps, seeds, first_seed
        What this run uses. A trained claim is judged only on the default data set and steps, with
        at least five seeds; otherwise it is shown as not judged.

    Examples
    --------
    >>> ledger = Ledger("demo", dataset="digits", steps=400, seeds=5, first_seed=0)
    >>> ledger.claim("a-b", "A falls below B.", source="Doe 2020, table 1", citation="doe2020",
    ...              reported="A 1, B 2", criterion=every_seed(below=0))
    >>> entry = ledger.entry("a-b", {0: -1.0, 1: -1.1, 2: -0.9, 3: -1.0, 4: -1.2})
    >>> entry["verdict"]
    'reproduced'
    """

    def __init__(
        self, chapter: str, *, dataset: str, steps: int, seeds: int, first_seed: int
    ) -> None:
        seeds = _checks.integer("seeds", seeds, at_least=1)
        first_seed = _checks.integer("first_seed", first_seed, at_least=0)
        steps = _checks.integer("steps", steps, at_least=0)
        self.chapter = chapter
        self.dataset = _checks.choice("dataset", dataset, NAMES)
        self.seeds = list(range(first_seed, first_seed + seeds))
        self.judged_here = (
            dataset == DEFAULT_DATASET and steps == DEFAULT_STEPS and seeds >= MIN_SEEDS
        )
        self.claims: dict[str, Claim] = {}
        self.entries: dict[str, dict[str, Any]] = {}

    def claim(
        self,
        id: str,
        statement: str,
        *,
        source: str,
        citation: str | None,
        reported: str,
        criterion: Criterion,
        expected: str = REPRODUCED,
        mode: str | None = None,
        remedy: str | None = None,
        outcome: str | None = None,
        unit: str | None = None,
    ) -> None:
        """Declare a claim.

        A claim about what a `remedy` does to a collapse `mode` (its `outcome`: "prevented",
        "reduced" or "not prevented") has a place in the book's matrix; the three go together.

        Raises
        ------
        ValueError
            For an identifier declared before, an `expected` verdict that is not one, or a place
            in the matrix that is incomplete.
        """
        if id in self.claims:
            raise ValueError(f"id must be new; {id!r} has been declared")
        _checks.choice("expected", expected, (REPRODUCED, NOT_REPRODUCED))
        if len({place is None for place in (mode, remedy, outcome)}) > 1:
            raise ValueError(
                "mode, remedy and outcome must be given together; "
                f"got {mode!r}, {remedy!r}, {outcome!r}"
            )
        if outcome is not None:
            _checks.choice("outcome", outcome, OUTCOMES)
        if not isinstance(criterion, Criterion):
            raise TypeError(
                "criterion must be made by every_seed, interval or within; "
                f"got {type(criterion).__name__}"
            )
        if criterion.scope == "share":
            raise ValueError("criterion must be one of a claim; thirds() is that of a cell")
        kind = "exact" if criterion.scope == "value" else "trained"
        self.claims[id] = Claim(
            id,
            statement,
            source,
            citation,
            reported,
            criterion,
            kind,
            expected,
            mode,
            remedy,
            outcome,
            unit,
        )

    def cell(self, mode: str, remedy: str, *, measure: str, expected: str) -> str:
        """Declare a cell of the matrix: what a remedy does to a collapse mode.

        Parameters
        ----------
        mode, remedy
            Its column and its row.
        measure
            Of what the share is taken that every seed keeps.
        expected
            The outcome: "prevented", "reduced" or "not prevented".

        Returns
        -------
        str
            The cell's identifier, for its picture.

        Raises
        ------
        ValueError
            For a cell declared before, or an `expected` that is no outcome.
        """
        id = re.sub(r"[^a-z0-9]+", "-", f"{mode} {remedy}".lower()).strip("-")
        if id in self.claims:
            raise ValueError(f"mode and remedy must be new; {id!r} has been declared")
        _checks.choice("expected", expected, OUTCOMES)
        self.claims[id] = Claim(
            id,
            f"What is kept of {measure} against {mode} collapse: {remedy}.",
            source="measured here",
            citation=None,
            reported="nothing",
            criterion=thirds(),
            kind="cell",
            expected=expected,
            mode=mode,
            remedy=remedy,
        )
        return id

    def entry(self, id: str, measurements: Mapping[int, float] | float) -> dict[str, Any]:
        """Judge a claim and return its ledger entry.

        Parameters
        ----------
        id
            The claim's identifier.
        measurements
            One number a seed, by seed, or its answer, True or False; for an exact claim, the
            number. What costs little may be measured on more seeds than this run's, which follow
            them.

        Raises
        ------
        ValueError
            For a claim not declared or judged before, for measurements that are not finite, or
            for seeds other than these.
        """
        if id not in self.claims:
            raise ValueError(f"id must be a declared claim, {sorted(self.claims)}; got {id!r}")
        if id in self.entries:
            raise ValueError(f"id must be a claim not judged before; got {id!r}")
        claim = self.claims[id]
        values = self._values(claim, measurements)
        mean, bounds = mean_interval(values)
        judged = claim.kind == "exact" or self.judged_here
        self.entries[id] = {
            "id": claim.id,
            "statement": claim.statement,
            "source": claim.source,
            "reported": claim.reported,
            "kind": claim.kind,
            "criterion": str(claim.criterion),
            "expected": claim.expected,
            "measurements": values,
            "seeds": list(measurements) if isinstance(measurements, Mapping) else None,
            "dataset": self.dataset if claim.kind != "exact" else None,
            "mean": mean,
            "interval": list(bounds) if bounds and claim.kind != "exact" else None,
            "verdict": verdict(claim.criterion, values) if judged else NOT_JUDGED,
            "chapter": self.chapter,
            "bounds": claim.criterion.to_bounds(),
            "unit": claim.unit,
            "citation": claim.citation,
            "mode": claim.mode,
            "remedy": claim.remedy,
            "outcome": claim.outcome,
        }
        return self.entries[id]

    def _values(self, claim: Claim, measurements: Mapping[int, float] | float) -> list[float]:
        if claim.kind == "exact":
            if isinstance(measurements, Mapping):
                raise TypeError("measurements of an exact claim must be one number; got a mapping")
            values = [_checks.number("measurements", measurements)]
        else:
            if not isinstance(measurements, Mapping):
                raise TypeError("measurements of a trained claim must be a mapping from seed")
            given, first = list(measurements), self.seeds[0]
            if len(given) < len(self.seeds) or given != list(range(first, first + len(given))):
                raise ValueError(
                    f"measurements must be of the seeds {self.seeds}, or of more that follow; "
                    f"got {given}"
                )
            values = _numbers(f"measurements of {claim.id!r}", measurements.values()).tolist()
        return values

    def judge(self, id: str, measurements: Mapping[int, float] | float) -> None:
        """Judge a claim and show it, its data attached to the notebook. Raises as :meth:`entry`."""
        entry = self.entry(id, measurements)
        _display({"text/markdown": describe(entry), MIME: entry})

    def column(self, mode: str, shares: Mapping[str, Mapping[int, float]]) -> None:
        """Judge the cells of one mode and show them as a table, their data attached.

        Parameters
        ----------
        mode
            The column.
        shares
            By remedy, the share that each seed keeps.

        Raises
        ------
        ValueError
            For remedies other than those declared for the mode; else as :meth:`entry`.
        """
        cells = {c.remedy: c.id for c in self.claims.values() if (c.kind, c.mode) == ("cell", mode)}
        if set(shares) != set(cells):
            raise ValueError(f"shares must be of the remedies {list(cells)}; got {list(shares)}")
        entries = [self.entry(cells[remedy], values) for remedy, values in shares.items()]
        _display({"text/markdown": tabulate(entries), COLUMN_MIME: {"cells": entries}})

    def close(self) -> None:
        """Check that every declared claim was judged.

        Raises
        ------
        RuntimeError
            Naming the claims that were not.
        """
        if missing := sorted(set(self.claims) - set(self.entries)):
            raise RuntimeError(f"claims declared but not judged: {missing}")


def describe(entry: Mapping[str, Any]) -> str:
    """Return a ledger entry as Markdown.

    Examples
    --------
    >>> ledger = Ledger("demo", dataset="digits", steps=400, seeds=5, first_seed=0)
    >>> ledger.claim("one", "It is one.", source="arithmetic", citation="none", reported="1",
    ...              criterion=within(0.1, of=1))
    >>> print(describe(ledger.entry("one", 1.0)))
    **Claim `one`: reproduced.** It is one.
    <BLANKLINE>
    - Source: arithmetic, which reports: 1
    - Criterion: value within 0.1 of 1
    - Measured: 1
    """
    measured = f"{entry['mean']:.4g}"
    if entry["interval"]:
        low, high = entry["interval"]
        measured += f", 95 % interval {low:.4g} to {high:.4g}"
    if entry["seeds"]:
        each = ", ".join(f"{value:.3g}" for value in entry["measurements"])
        measured += f" (seeds {entry['seeds'][0]} to {entry['seeds'][-1]}: {each})"
    return "\n".join(
        [
            f"**Claim `{entry['id']}`: {entry['verdict']}.** {entry['statement']}",
            "",
            f"- Source: {entry['source']}, which reports: {entry['reported']}",
            f"- Criterion: {entry['criterion']}",
            f"- Measured: {measured}",
        ]
    )


def tabulate(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the entries of cells as a Markdown table.

    Examples
    --------
    >>> ledger = Ledger("demo", dataset="digits", steps=400, seeds=5, first_seed=0)
    >>> id = ledger.cell("complete", "hope", measure="the spread", expected="not prevented")
    >>> print(tabulate([ledger.entry(id, dict.fromkeys(range(5), 0.25))]))
    | remedy | share kept, lowest to highest | outcome |
    |:--|:--|:--|
    | hope | 0.25 (0.25 to 0.25) | not prevented |
    """
    lines = ["| remedy | share kept, lowest to highest | outcome |", "|:--|:--|:--|"]
    for entry in entries:
        low, high = min(entry["measurements"]), max(entry["measurements"])
        share = f"{entry['mean']:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {entry['remedy']} | {share} | {entry['verdict']} |")
    return "\n".join(lines)


def say(text: str) -> None:
    """Show a sentence of Markdown whose numbers were computed."""
    _display({"text/markdown": text, "text/plain": text})


def pm(values: Mapping[int, float] | Any, digits: int = 2) -> str:
    """Format one value a seed as mean and half the width of its 95 % interval.

    Of answers, True or False, as the share of True with both ends, which lie unevenly about it.

    Examples
    --------
    >>> pm({0: 0.10, 1: 0.12, 2: 0.14})
    '0.12 ± 0.05'
    >>> pm({0: True, 1: True, 2: True, 3: False})
    '0.75 (0.19 to 0.99)'
    """
    sample = list(values.values()) if isinstance(values, Mapping) else list(values)
    mean, bounds = mean_interval(sample)
    if bounds is None:
        return f"{mean:.{digits}f}"
    if all(isinstance(value, bool | np.bool_) for value in sample):
        return f"{mean:.{digits}f} ({bounds[0]:.{digits}f} to {bounds[1]:.{digits}f})"
    return f"{mean:.{digits}f} ± {bounds[1] - mean:.{digits}f}"


def _display(bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    from IPython.display import display  # only a notebook has somewhere to show it

    display(bundle, metadata=metadata or {}, raw=True)
