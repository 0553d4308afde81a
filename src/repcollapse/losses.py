"""What a loss reads once the embeddings have collapsed, and what a given value therefore says.

:func:`collapse_values` lists the states of collapse that an objective has and what it reads in
each, :func:`collapse_value` returns the first of these numbers, :func:`explain_loss` holds a value
that someone saw against all of them. None of them sees an embedding, so none decides: a loss at its
collapse value is a reason to look at the embeddings, an untrained network may have it too, and for
some objectives collapse is the minimum.

Objectives go by their names in :mod:`repcollapse.objectives` or by those of the methods in
:mod:`repcollapse.methods` that train with them, in capitals or not, with whatever stands between
the words: ``"nt_xent"``, ``"NT-Xent"`` and ``"simclr"`` are one.
"""

from __future__ import annotations

import bisect
import difflib
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from repcollapse import _checks


@dataclass(frozen=True)
class CollapseValue:
    """What an objective reads in one state of collapse.

    Attributes
    ----------
    state
        Which collapse, in words.
    value
        What the loss reads, in the convention of :mod:`repcollapse.objectives`.
    formula
        The value as a formula of the settings.
    minimum
        Whether this is also the least that the loss can be: then the loss cannot tell a perfect
        model from a dead one.
    """

    state: str
    value: float
    formula: str
    minimum: bool = False


@dataclass(frozen=True)
class LossReading:
    """What a value of a loss says about collapse; its text is for people.

    Attributes
    ----------
    objective, value
        What was asked about.
    match
        The state of collapse whose value it is, None if it is none's. Where `counts` is not empty,
        it is so only if the count is one of them.
    settings
        The settings under which it is, those that were found from the value included.
    text
        The answer in a few sentences.
    counts
        Of a count that was not given, all whole numbers for which it is; else empty.
    """

    objective: str
    value: float
    match: CollapseValue | None
    settings: dict[str, float | str]
    text: str
    counts: range = range(0)

    def __str__(self) -> str:
        return self.text


States = Iterator[CollapseValue]
Settings = dict[str, float | str]
COMPLETE = "complete collapse"
CONVENTIONS = ("official", "paper")
INTERVALS = ("cut", "whole")
CHOICES = {"convention": CONVENTIONS, "interval": INTERVALS}  # settings that are words


# --- one function an objective: its parameters are the settings that its value depends on


def _invariance() -> States:
    yield CollapseValue(COMPLETE, 0.0, "0", minimum=True)


def _negative_cosine() -> States:
    yield CollapseValue(COMPLETE, -1.0, "-1", minimum=True)


def _nt_xent(pairs: int) -> States:
    yield CollapseValue(COMPLETE, math.log(2 * pairs - 1), "log(2N - 1)")


def _clip(pairs: int) -> States:  # InfoNCE between two encoders; here it is an example
    yield CollapseValue(COMPLETE, math.log(pairs), "log N")


def _moco(queue: int) -> States:
    yield CollapseValue(COMPLETE, math.log(queue + 1), "log(K + 1)")


def _alignment_uniformity() -> States:
    yield CollapseValue(COMPLETE, 0.0, "0")


def _spectral_contrastive() -> States:
    yield CollapseValue("complete collapse to a vector of length 1", -1.0, "-1")
    yield CollapseValue("complete collapse to the origin", 0.0, "0")


def _vicreg(
    variance: float = 25.0, gamma: float = 1.0, eps: float = 1e-4, convention: str = "official"
) -> States:
    branches = 1 + CONVENTIONS.index(_checks.choice("convention", convention, CONVENTIONS))
    value = branches * variance * max(gamma - math.sqrt(eps), 0.0)
    formula = f"{branches} * {variance:g} * ({gamma:g} - sqrt({eps:g}))"
    yield CollapseValue(COMPLETE, value, formula)


def _barlow_twins(dimension: int) -> States:
    yield CollapseValue(COMPLETE, float(dimension), "D")


def _w_mse() -> States:
    yield CollapseValue("complete collapse, with shrinkage", 2.0, "2")


def _swav(prototypes: int) -> States:
    yield CollapseValue("equal scores for all prototypes", math.log(prototypes), "log K")
    yield CollapseValue("all samples at one prototype, without Sinkhorn", 0.0, "0", minimum=True)


def _dino(prototypes: int) -> States:
    yield CollapseValue("collapse to the uniform distribution", math.log(prototypes), "log K")
    yield CollapseValue("collapse to one prototype", 0.0, "0", minimum=True)


# The squared distance between 1, the characteristic function of a constant 0, and that of a normal
# variable, under the window exp(-t^2 / 2), by the objective's own rule: 17 knots on [0, 3].
EPPS_PULLEY_AT_ORIGIN = 0.402047579731665


# The same on the whole line, exactly.
EPPS_PULLEY_ON_THE_LINE = math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))


def _sigreg(pairs: int, weight: float = 0.05, interval: str = "cut") -> States:
    whole = _checks.choice("interval", interval, INTERVALS) == "whole"
    statistic = EPPS_PULLEY_ON_THE_LINE if whole else EPPS_PULLEY_AT_ORIGIN
    value = statistic * weight * pairs
    formula = f"{statistic:.3f} * {weight:g} * N"
    yield CollapseValue("complete collapse to the origin", value, formula)


def _triplet(margin: float = 1.0) -> States:  # torch.nn.TripletMarginLoss; here it is an example
    yield CollapseValue(COMPLETE, margin, "the margin")


def _soft_margin_triplet() -> States:  # log(1 + exp(d+ - d-)), Hermans, Beyer & Leibe 2017
    yield CollapseValue(COMPLETE, math.log(2), "log 2")


def _uniformity() -> States:  # repcollapse.diagnostics.uniformity, for those who train with it
    yield CollapseValue(COMPLETE, 0.0, "0")


def _rotation() -> States:
    yield CollapseValue("chance, where the head guesses among four rotations", math.log(4), "log 4")


def _jigsaw() -> States:
    yield CollapseValue("chance, where the head guesses among 24 orders", math.log(24), "log 24")


STATES: dict[str, Callable[..., States]] = {
    "invariance": _invariance,
    "negative_cosine": _negative_cosine,
    "byol": _invariance,
    "directpred": _invariance,
    "nt_xent": _nt_xent,
    "moco": _moco,
    "alignment_uniformity": _alignment_uniformity,
    "spectral_contrastive": _spectral_contrastive,
    "vicreg": _vicreg,
    "barlow_twins": _barlow_twins,
    "w_mse": _w_mse,
    "swav": _swav,
    "dino": _dino,
    "sigreg": _sigreg,
    "clip": _clip,
    "info_nce": _clip,
    "triplet": _triplet,
    "soft_margin_triplet": _soft_margin_triplet,
    "uniformity": _uniformity,
    "rotation": _rotation,
    "jigsaw": _jigsaw,
}
SYMBOLS = {"pairs": "N", "queue": "K", "prototypes": "K", "dimension": "D"}
WORDS = {
    "pairs": "number of pairs",
    "queue": "queue's length",
    "prototypes": "number of prototypes",
    "dimension": "dimension",
}
LEAST = {"pairs": 2, "queue": 1, "prototypes": 2, "dimension": 1}
MOST = 2**40  # of a count that is looked for
UNTRAINED = (
    "A network may read this before it is trained, too: the embeddings decide, so ask diagnose."
)
ALIKE = "That is also its minimum: the loss cannot tell a perfect model from a dead one."
ELSEWHERE = "A loss does not show every collapse: the embeddings decide, so ask diagnose."
BY = {
    ("convention", "official"): "in the official code's convention",
    ("convention", "paper"): "in the paper's convention",
    ("interval", "cut"): "with its integral cut at -3 and 3",
    ("interval", "whole"): "with its integral over the whole line",
}


def collapse_values(objective: str, **settings: float | str) -> tuple[CollapseValue, ...]:
    r"""Return what `objective` reads in each state of collapse that it has.

    Parameters
    ----------
    objective
        A name in :mod:`repcollapse.objectives` or of a method that trains with one; or "clip" and
        "info_nce" (the cross-entropy of N pairs, each among all N, in one direction or in both),
        "triplet" (:class:`torch.nn.TripletMarginLoss`), "soft_margin_triplet" (:math:`\log(1 +
        e^{d_+ - d_-})`) or "uniformity" (:func:`repcollapse.diagnostics.uniformity`).
    settings
        What the value depends on: `pairs` (N, of "nt_xent", "clip", "info_nce" and "sigreg"),
        `queue` ("moco"), `prototypes` ("swav", "dino"), `dimension` ("barlow_twins"), all of which
        must be given; `weight` and `interval` ("sigreg"; "cut", the integral of the objective from
        -3 to 3, or "whole", that over the line), `variance`, `gamma`, `eps`, `convention`
        ("vicreg"; "official" or "paper", twice as much) and `margin` ("triplet"), which have the
        objective's defaults.

    Returns
    -------
    tuple of CollapseValue
        The complete collapse first.

    Raises
    ------
    TypeError, ValueError
        For an objective without a known value, which names those that are spelt like it; for a
        setting that it lacks, or one that is missing.

    Examples
    --------
    >>> for each in collapse_values("dino", prototypes=4096):
    ...     print(f"{each.value:.4f} = {each.formula}: {each.state}")
    8.3178 = log K: collapse to the uniform distribution
    0.0000 = 0: collapse to one prototype
    """
    name = _objective(objective)
    if missing := _missing(name, settings):
        raise TypeError(f"{missing} must be given: the value of {name!r} depends on it")
    return _states(name, settings)


def collapse_value(objective: str, **settings: float | str) -> float:
    """Return what `objective` reads at complete collapse.

    Takes and raises what :func:`collapse_values` does. An objective that has another state of
    collapse beside it (DINO's and SwAV's single prototype) reads something else there.

    Examples
    --------
    >>> round(collapse_value("nt_xent", pairs=256), 3)
    6.236
    >>> collapse_value("SimCLR", pairs=256) == collapse_value("NT-Xent", pairs=256)
    True
    >>> collapse_value("vicreg"), collapse_value("vicreg", convention="paper")
    (24.75, 49.5)
    """
    return collapse_values(objective, **settings)[0].value


def explain_loss(
    objective: str, value: float, *, tolerance: float = 1e-3, **settings: float | str
) -> LossReading:
    """Say whether `value` is what `objective` reads at collapse.

    Parameters
    ----------
    objective, settings
        As for :func:`collapse_values`. Of a count that is not given the answer names those for
        which the value would be that of a collapse: the ones whose reading rounds to `value`, to as
        many decimals as it has, at most four; without any, those within `tolerance`. Nearly every
        value is that of some count, so that such an answer is only an if.
    value
        What the loss reads, in the convention of :mod:`repcollapse.objectives`.
    tolerance
        How near counts as equal: relative to values beyond one, absolute below.

    Returns
    -------
    LossReading
        Printed, it is the answer.

    Raises
    ------
    TypeError, ValueError
        As :func:`collapse_values`, but for a missing count; or for a value or a tolerance that is
        no number.

    Examples
    --------
    >>> print(explain_loss("dino", 8.3178, prototypes=4096))
    8.3178 is what dino reads at collapse to the uniform distribution, log K = 8.3178. A network may
    read this before it is trained, too: the embeddings decide, so ask diagnose.
    >>> print(explain_loss("swav", 6.24))
    6.24 is what swav reads at equal scores for all prototypes, log K, if K is 511 to 515, 512 among
    them: give prototypes to check. A network may read this before it is trained, too: the
    embeddings decide, so ask diagnose.
    >>> print(explain_loss("simsiam", -0.9996))
    -0.9996 is within 0.001 of what negative_cosine reads at complete collapse, -1. That is also its
    minimum: the loss cannot tell a perfect model from a dead one. A network may read this before it
    is trained, too: the embeddings decide, so ask diagnose.
    >>> print(explain_loss("vicreg", 49.5))
    49.5 is not what vicreg reads at complete collapse (24.75) in the official code's convention,
    the default, but what it reads in the paper's convention: give convention to check. A loss does
    not show every collapse: the embeddings decide, so ask diagnose.
    >>> print(explain_loss("nt_xent", 4.1, pairs=256))
    4.1 is not what nt_xent reads at complete collapse (6.236). A loss does not show every collapse:
    the embeddings decide, so ask diagnose.
    """
    name = _objective(objective)
    value = _checks.number("value", value)
    tolerance = _checks.number("tolerance", tolerance, above=0)
    missing = _missing(name, settings)
    if missing is None:
        return _with_all_counts(name, value, tolerance, settings)
    return _without_a_count(name, value, tolerance, settings, missing)


def _with_all_counts(name: str, value: float, tolerance: float, settings: Settings) -> LossReading:
    states = _states(name, settings)
    match = _match(states, value, tolerance)
    if match is not None:
        return _answer(name, value, match, settings, _affirmed(name, value, match, tolerance) + ".")
    each = " or ".join(f"at {state.state} ({state.value:.4g})" for state in states)
    denied = f"{value:g} is not what {name} reads {each}"
    if name == "triplet" and "margin" not in settings and value > 0:
        said = f"{denied} with a margin of 1, the default, but with one of {value:g}: give margin"
        return _answer(name, value, None, settings, f"{said} to check.")
    for word, given, other in _other_words(name, settings):
        if _match(_states(name, settings | {word: other}), value, tolerance):
            default, check = (
                ("", "") if word in settings else (", the default", f": give {word} to check")
            )
            said = (
                f"{denied} {BY[word, given]}{default}, but what it reads {BY[word, other]}{check}."
            )
            return _answer(name, value, None, settings, said)
    return _answer(name, value, None, settings, f"{denied}.")


def _without_a_count(
    name: str, value: float, tolerance: float, settings: Settings, missing: str
) -> LossReading:
    symbol = SYMBOLS[missing]
    exact = _counts_for(name, missing, value, max(_half_unit(value), 5e-5), settings)
    counts = exact or _counts_for(name, missing, value, _slack(value, tolerance), settings)
    if not counts:
        states = _states(name, settings | {missing: LEAST[missing]})
        match = _match([each for each in states if symbol not in each.formula], value, tolerance)
        if match is not None:  # which needs no count
            said = _affirmed(name, value, match, tolerance) + "."
            return _answer(name, value, match, settings, said)
        at = f"at {states[0].state}, {states[0].formula}"
        said = f"{value:g} is not what {name} reads {at}, for any {WORDS[missing]}."
        return _answer(name, value, None, settings, said)
    powers = [2**k for k in range(MOST.bit_length()) if 2**k in counts]
    found = [
        (_states(name, settings | {missing: count})[0], count)
        for count in powers or [counts[0], counts[len(counts) // 2], counts[-1]]
    ]
    match, count = min(found, key=lambda each: abs(each[0].value - value))
    which = f"{count}"
    if len(counts) > 1:
        which = f"{counts[0]} to {counts[-1]}" + (f", {count} among them" if powers else "")
    near = "" if exact else f"within {_slack(value, tolerance):.2g} of "
    said = (
        f"{value:g} is {near}what {name} reads at {match.state}, {match.formula}, if {symbol} is "
        f"{which}: give {missing} to check."
    )
    return _answer(name, value, match, settings | {missing: count}, said, counts=counts)


def _answer(
    name: str,
    value: float,
    match: CollapseValue | None,
    settings: Settings,
    said: str,
    *,
    counts: range = range(0),
) -> LossReading:
    # What follows from whether it is a value of collapse, whichever.
    after = [ELSEWHERE] if match is None else [*([ALIKE] if match.minimum else []), UNTRAINED]
    text = textwrap.fill(" ".join([said, *after]), 96)
    return LossReading(name, value, match, settings, text, counts)


def _affirmed(name: str, value: float, match: CollapseValue, tolerance: float) -> str:
    # Read to as many decimals as it was given, it may be the very value.
    exact = abs(match.value - value) <= max(_half_unit(value), 5e-5)
    if _is_number(match.formula):
        exact = match.value == value
        equal = "" if exact else f", {match.formula}"
    else:
        equal = f", {match.formula} = {match.value:.5g}"
    near = "" if exact else f"within {_slack(match.value, tolerance):.2g} of "
    return f"{value:g} is {near}what {name} reads at {match.state}{equal}"


def _is_number(formula: str) -> bool:
    return formula.removeprefix("-").isdecimal()


def _half_unit(value: float) -> float:
    """Return half a unit of the last decimal that a number is written with."""
    exponent = Decimal(repr(value)).as_tuple().exponent
    assert isinstance(exponent, int)  # of a finite number
    return 0.5 * 10.0**exponent


def _slack(reading: float, tolerance: float) -> float:
    return tolerance * max(1.0, abs(reading))


def _match(states: Sequence[CollapseValue], value: float, tolerance: float) -> CollapseValue | None:
    near = (e for e in states if abs(e.value - value) <= _slack(e.value, tolerance))
    return next(near, None)


def _other_words(name: str, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield each setting that is a word, what it is, and each word that it is not."""
    for word in _settings_of(name):
        for other in CHOICES.get(word, ()):
            given = str(settings.get(word, CHOICES[word][0]))
            if other != given:
                yield word, given, other


def _objective(given: str) -> str:
    """Return the name of an objective, however it is spelt, or of that which a method trains."""
    if not isinstance(given, str):
        return _checks.choice("objective", given, STATES)
    known = {_plain(name): name for name in STATES}
    if _plain(given) in known:
        return known[_plain(given)]
    methods = {_plain(name): known[each] for name, each in _trained() if each in known}
    if _plain(given) in methods:
        return methods[_plain(given)]
    spelt = known | {_plain(name): name for name, _ in _trained()}
    near = difflib.get_close_matches(_plain(given), known | methods, 3, 0.6)
    meant = f": did you mean {' or '.join(spelt[each] for each in near)}?" if near else ""
    raise ValueError(
        f"objective must be one of {', '.join(sorted(STATES))}, or a method that trains with one "
        f"of them ({', '.join(name for name, each in _trained() if each in known)}); got "
        f"{given!r}{meant}"
    )


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _trained() -> list[tuple[str, str]]:
    """Return each method, and its objective as `_plain` spells it."""
    from repcollapse.methods import METHODS  # with the networks, which few questions need

    found = []
    for name, recipe in METHODS.items():
        objective = recipe.objective
        while isinstance(objective, partial):
            objective = objective.func
        found.append((name, _plain(getattr(objective, "__name__", ""))))
    return found


def _states(objective: str, settings: Settings) -> tuple[CollapseValue, ...]:
    known = _settings_of(objective)
    for name, given in settings.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise TypeError(f"{name} is no setting of {objective!r}; expected among: {takes}")
        if name in LEAST:
            _checks.integer(name, given, at_least=LEAST[name])
        elif name not in CHOICES:
            _checks.number(name, given, at_least=0)
    return tuple(STATES[objective](**settings))


def _settings_of(objective: str) -> list[str]:
    return list(inspect.signature(STATES[objective]).parameters)


def _missing(objective: str, settings: Settings) -> str | None:
    """Return the count that `objective` needs and `settings` lack; none needs more than one."""
    lacking = (name for name in _settings_of(objective) if name in LEAST and name not in settings)
    return next(lacking, None)


def _counts_for(name: str, count: str, value: float, slack: float, settings: Settings) -> range:
    """Return the counts whose first collapse value, which grows with them, is that near `value`."""

    def reading(number: int) -> float:
        return _states(name, settings | {count: number})[0].value

    every = range(LEAST[count], MOST)
    first = bisect.bisect_left(every, value - slack, key=reading)
    return every[first : bisect.bisect_right(every, value + slack, key=reading)]
