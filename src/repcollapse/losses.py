"""What a loss reads once the embeddings have collapsed, and what a given value therefore says.

:func:`collapse_values` lists the states of collapse that an objective has and what it reads in
each, :func:`collapse_value` returns the first of these numbers, :func:`explain_loss` holds a value
that someone saw against all of them. None of them sees an embedding, so none decides: a loss at its
collapse value is a reason to look at the embeddings, and for some objectives collapse is the
minimum.
"""

from __future__ import annotations

import bisect
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
        The state of collapse whose value it is, None if it is none's.
    settings
        The settings under which it is, those that were found from the value included.
    text
        The answer in a sentence or two.
    """

    objective: str
    value: float
    match: CollapseValue | None
    settings: dict[str, float | str]
    text: str

    def __str__(self) -> str:
        return self.text


States = Iterator[CollapseValue]
COMPLETE = "complete collapse"
CONVENTIONS = ("official", "paper")


# --- one function an objective: its parameters are the settings that its value depends on


def _invariance() -> States:
    yield CollapseValue(COMPLETE, 0.0, "0", minimum=True)


def _negative_cosine() -> States:
    yield CollapseValue(COMPLETE, -1.0, "-1", minimum=True)


def _nt_xent(pairs: int) -> States:
    yield CollapseValue(COMPLETE, math.log(2 * pairs - 1), "log(2N - 1)")


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


def _sigreg(pairs: int, weight: float = 0.05) -> States:
    value = EPPS_PULLEY_AT_ORIGIN * weight * pairs
    yield CollapseValue("complete collapse to the origin", value, f"0.402 * {weight:g} * N")


def _triplet(margin: float = 1.0) -> States:  # torch.nn.TripletMarginLoss; here it is an example
    yield CollapseValue(COMPLETE, margin, "the margin")


def _rotation() -> States:
    yield CollapseValue("the head guesses among four rotations", math.log(4), "log 4")


def _jigsaw() -> States:
    yield CollapseValue("the head guesses among 24 orders", math.log(24), "log 24")


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
    "triplet": _triplet,
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


def collapse_values(objective: str, **settings: float | str) -> tuple[CollapseValue, ...]:
    r"""Return what `objective` reads in each state of collapse that it has.

    Parameters
    ----------
    objective
        A name in :mod:`repcollapse.objectives`, or "triplet" (:class:`torch.nn.TripletMarginLoss`).
    settings
        What the value depends on: `pairs` (N, of "nt_xent" and "sigreg"), `queue` ("moco"),
        `prototypes` ("swav", "dino"), `dimension` ("barlow_twins"), all of which must be given;
        `weight` ("sigreg"), `variance`, `gamma`, `eps`, `convention` ("vicreg") and `margin`
        ("triplet"), which have the objective's defaults.

    Returns
    -------
    tuple of CollapseValue
        The complete collapse first.

    Raises
    ------
    TypeError, ValueError
        For an objective without a known value, a setting that it lacks, or one that is missing.

    Examples
    --------
    >>> for each in collapse_values("dino", prototypes=4096):
    ...     print(f"{each.value:.4f} = {each.formula}: {each.state}")
    8.3178 = log K: collapse to the uniform distribution
    0.0000 = 0: collapse to one prototype
    """
    if missing := _missing(objective, settings):
        raise TypeError(f"{missing} must be given: the value of {objective!r} depends on it")
    return _states(objective, settings)


def collapse_value(objective: str, **settings: float | str) -> float:
    """Return what `objective` reads at complete collapse.

    Takes and raises what :func:`collapse_values` does. An objective that has another state of
    collapse beside it (DINO's and SwAV's single prototype) reads something else there.

    Examples
    --------
    >>> round(collapse_value("nt_xent", pairs=256), 3)
    6.236
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
        As for :func:`collapse_values`. A count that is not given is looked for: the answer names
        the whole number for which the value would be that of a collapse, if there is one.
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
    8.3178 = log K: dino reads this at collapse to the uniform distribution.
    >>> print(explain_loss("dino", 8.3178))
    8.3178 = log K for K = 4096: if that is your number of prototypes, dino reads this at collapse
    to the uniform distribution.
    >>> print(explain_loss("byol", 0.0004))
    0.0004 = 0: byol reads this at complete collapse. It is also its minimum: the loss cannot tell a
    perfect model from a dead one.
    >>> print(explain_loss("nt_xent", 4.1, pairs=256))
    4.1 is not what nt_xent reads at complete collapse (6.236).
    """
    value = _checks.number("value", value)
    tolerance = _checks.number("tolerance", tolerance, above=0)
    missing = _missing(objective, settings)
    if missing:
        settings = settings | {missing: _count_for(objective, missing, value, settings)}
    states = _states(objective, settings)
    match = next((each for each in states if _near(each.value, value, tolerance)), None)
    guessed = bool(match and missing and SYMBOLS[missing] in match.formula)
    if match is None:
        said = f"{value:g} {_denial(objective, states, missing)}"
    else:
        given = f" for {SYMBOLS[missing]} = {settings[missing]}" if missing and guessed else ""
        said = f"{value:g} = {match.formula}{given}: "
        if missing and guessed:
            said += f"if that is your {WORDS[missing]}, "
        said += f"{objective} reads this at {match.state}."
        if match.minimum:
            said += " It is also its minimum: the loss cannot tell a perfect model from a dead one."
    if missing and not guessed:
        del settings[missing]
    return LossReading(objective, value, match, settings, textwrap.fill(said, 96))


def _denial(objective: str, states: tuple[CollapseValue, ...], missing: str | None) -> str:
    if missing:
        state = states[0]
        return (
            f"is not what {objective} reads at {state.state}, {state.formula}, "
            f"for any {WORDS[missing]}."
        )
    each = " or ".join(f"at {state.state} ({state.value:.4g})" for state in states)
    return f"is not what {objective} reads {each}."


def _near(reading: float, value: float, tolerance: float) -> bool:
    return abs(reading - value) <= tolerance * max(1.0, abs(reading))


def _states(objective: str, settings: dict[str, float | str]) -> tuple[CollapseValue, ...]:
    known = _settings_of(objective)
    for name, given in settings.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise TypeError(f"{name} is no setting of {objective!r}; expected among: {takes}")
        if name in LEAST:
            _checks.integer(name, given, at_least=LEAST[name])
        elif name != "convention":
            _checks.number(name, given, at_least=0)
    return tuple(STATES[objective](**settings))


def _settings_of(objective: str) -> list[str]:
    return list(
        inspect.signature(STATES[_checks.choice("objective", objective, STATES)]).parameters
    )


def _missing(objective: str, settings: dict[str, float | str]) -> str | None:
    """Return the count that `objective` needs and `settings` lack; none needs more than one."""
    lacking = (name for name in _settings_of(objective) if name in LEAST and name not in settings)
    return next(lacking, None)


def _count_for(objective: str, name: str, value: float, settings: dict[str, float | str]) -> int:
    """Return the count whose first collapse value, which grows with it, is nearest to `value`.

    A power of two goes before others that are as near as four decimals can tell.
    """

    def distance(count: int) -> float:
        return abs(_states(objective, settings | {name: count})[0].value - value)

    def reaches(count: int) -> bool:
        return _states(objective, settings | {name: count})[0].value >= value

    above = LEAST[name] + bisect.bisect_left(range(LEAST[name], MOST), True, key=reaches)
    nearest = min(max(above - 1, LEAST[name]), above, key=distance)
    power = 2 ** max(round(math.log2(nearest)), 1)
    return power if distance(power) <= max(5e-5, distance(nearest)) else nearest
