"""Hidden states by layer: whether the rows of a sample become alike with depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.checkups.residuals import as_layers, layer_residuals
from repcollapse.diagnosis.findings import COLLAPSE, OVERSMOOTHING, RANK_COLLAPSE, Advice, Finding
from repcollapse.diagnosis.report import number

# Rows are alike where the residual is below this. bfloat16, in which such networks are run, has
# eight bits: what a number differs from another by less than 2^-8 of it is rounded away.
ALIKE = 2.0**-8
# ... and depth has made them so where the residual is below this share of the input's: of those
# eight bits, at least four are gone between the input and the last layer. Rows may be alike from
# the start, as patches of an empty picture are; no layer is to blame for that.
LOST = 2.0**-4
# A residual below so many units of the dtype's rounding is rounding: in float32 it never falls
# much below 1e-7, whatever the network does.
ROUNDING = 16
# A rate per layer is the slope of a line through log r, which a doubly exponential fall is not: it
# reaches the rounding of float64 before it has given five points (0.1 cubed is 1e-3, 1e-9, 1e-27).
FEWEST = 5
# ... and no line is told of points of which it leaves more than a twentieth unexplained.
STRAIGHT = 0.95


class _Words(NamedTuple):
    rows: str
    common: str


_WORDS = {
    RANK_COLLAPSE: _Words("tokens", "their mean"),
    OVERSMOOTHING: _Words("nodes", "what averaging leaves alone"),
}

ADVICE = {
    RANK_COLLAPSE: Advice(
        COLLAPSE,
        "Attention averages. Give every layer a skip connection, normalise before the branch and "
        "not after the sum, or scale the branches by one over the square root of the depth.",
        "20_rank_collapse",
        "Rank collapse in attention",
    ),
    OVERSMOOTHING: Advice(
        COLLAPSE,
        "Every layer averages over neighbours. Use fewer, bring the input back into each (an "
        "initial residual), or hold the distances up (PairNorm).",
        "21_oversmoothing",
        "Oversmoothing in graphs",
    ),
}


def diagnose_layers(
    hidden: Sequence[ArrayLike],
    *,
    along: ArrayLike | None = None,
    kind: str = RANK_COLLAPSE,
) -> Checkup:
    r"""Say whether the rows of a sample (tokens, nodes) become alike with depth.

    Read is :func:`layer_residuals`, r. They have become alike if in the last layer r is below
    1/256, where bfloat16 rounds rows to the same, and below a sixteenth of the input's.

    Parameters
    ----------
    hidden
        What enters the first layer and what leaves each, as in :func:`layer_residuals`.
    along
        The direction along which rows are alike, as in :func:`layer_residuals`. Oversmoothing has
        no default: for symmetric normalisation it is that of the square roots of the degrees, for
        a plain mean over neighbours that of equal numbers.
    kind : {"rank-collapse", "oversmoothing"}
        How the finding is called, and what is advised.

    Returns
    -------
    Checkup
        Metrics: `layers`; `residual_0` of the input to `residual_L`; `kept`, the last over the
        first, NaN if the first is 0; `onset`, the first layer from which on the rows are alike,
        and `rate`, the factor per layer by which r falls in the latter half of the layers that are
        above the rounding of their dtype, both NaN where there is none. Finding: `kind`.

    Notes
    -----
    It knows one direction in which rows may differ without telling each other apart, `along`. A
    network that leaves several alone (a graph network with biases: ones and roots of degrees) can
    collapse onto those and read healthy. A last layer of zeros reads 0.

    Raises
    ------
    TypeError, ValueError
        For an argument other than these; NaN and Inf are refused by layer.

    References
    ----------
    Dong, Cordonnier & Loukas 2021, "Attention is not all you need"; Oono & Suzuki 2020, "Graph
    neural networks exponentially lose expressive power for node classification".

    Examples
    --------
    >>> x = torch.eye(4, dtype=torch.float64)
    >>> mixing = 0.1 * x + 0.9 / 4
    >>> hidden = [x]
    >>> for _ in range(6):
    ...     hidden.append(mixing @ hidden[-1])
    >>> checkup = diagnose_layers(hidden)
    >>> checkup.verdict, checkup.metrics["onset"], round(checkup.metrics["rate"], 3)
    ('rank-collapse', 3.0, 0.1)
    """
    _checks.choice("kind", kind, ADVICE)
    layers = as_layers(hidden)
    if kind == OVERSMOOTHING and along is None:
        raise ValueError(
            f"along must be given where kind is {kind!r}: the direction that averaging leaves "
            "alone, for symmetric normalisation the square roots of the degrees; got None"
        )
    r = layer_residuals(layers, along=along)
    kept = float(r[-1] / r[0]) if r[0] > 0 else math.nan
    onset = _onset(r)
    rate = _rate(r, max(torch.finfo(layer.dtype).eps for layer in layers))
    metrics = {"layers": len(r) - 1.0, "kept": kept, "onset": onset, "rate": rate}
    metrics |= {f"residual_{layer}": float(value) for layer, value in enumerate(r)}
    findings = () if math.isnan(onset) else (_found(kind, r, onset, rate),)
    return Checkup(_summary(kind, r), metrics, findings)


def _onset(r: np.ndarray) -> float:
    """Return the first layer from which on rows are alike to the end, NaN if they are not."""
    alike = (r < ALIKE) & (r < LOST * r[0])
    if not alike[-1]:
        return math.nan
    return float(len(alike) - np.argmin(alike[::-1]))


def _rate(r: np.ndarray, eps: float) -> float:
    """Return the factor per layer, NaN where a line through log r would say little."""
    rounding = np.flatnonzero(r <= ROUNDING * eps)
    above = int(rounding[0]) if len(rounding) else len(r)
    count = max(FEWEST, (above + 1) // 2)
    if above < count:
        return math.nan
    logs = np.log(r[above - count : above])
    layer = np.arange(count) - (count - 1) / 2
    slope = float(layer @ logs / (layer @ layer))
    total = float(((logs - logs.mean()) ** 2).sum())
    explained = slope**2 * float(layer @ layer)
    return math.exp(slope) if total > 0 and explained >= STRAIGHT * total else math.nan


def _summary(kind: str, r: np.ndarray) -> str:
    words = _WORDS[kind]
    return (
        f"The residual of the {words.rows} of a sample, all but {words.common}, is "
        f"{number(float(r[0]))} of them at the input and {number(float(r[-1]))} after layer "
        f"{len(r) - 1}."
    )


def _found(kind: str, r: np.ndarray, onset: float, rate: float) -> Finding:
    words = _WORDS[kind]
    falls = "" if math.isnan(rate) else f", in the end by a factor of {number(rate)} a layer"
    sentence = (
        f"The {words.rows} of a sample become alike with depth: their residual, all but "
        f"{words.common}, falls from {number(float(r[0]))} of them at the input to "
        f"{number(float(r[-1]))} after layer {len(r) - 1}{falls}. It is below 1/{1 / ALIKE:.0f} "
        f"from layer {onset:.0f} on."
    )
    last = f"residual_{len(r) - 1}"
    return ADVICE[kind].finding(kind, sentence, last, float(r[-1]), reference=ALIKE)
