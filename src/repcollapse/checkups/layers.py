"""Hidden states by layer: whether the rows of a sample become alike with depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import COLLAPSE, OVERSMOOTHING, RANK_COLLAPSE, Advice, Finding
from repcollapse.diagnosis.report import number
from repcollapse.diagnostics.moments import as_double

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


def layer_residuals(hidden: Sequence[ArrayLike], *, along: ArrayLike | None = None) -> np.ndarray:
    r"""Return by layer how much the rows of a sample differ from what they have in common.

    .. math::

        r(X) = \frac{\lVert X - w w^\top X\rVert_F}{\lVert X\rVert_F}, \qquad \lVert w\rVert = 1

    Parameters
    ----------
    hidden
        What enters the first layer and what leaves each: L + 1 >= 2 arrays, (T, D) rows of one
        sample or (B, T, D) of several, T >= 2. T and B are the same in all; D need not be.
    along
        The direction w, shape (T,), of any length but 0; by default that of equal numbers, along
        which all rows are the same. For graphs the square roots of the degrees (self-loops
        included), which symmetric normalisation leaves alone.

    Returns
    -------
    numpy.ndarray
        Shape (L + 1,), float64: the mean over samples, in [0, 1]. At collapse 0, which a sample
        without any entry but zeros reads as well; for independent rows of mean zero
        :math:`\sqrt{1 - 1/T}`.

    Raises
    ------
    TypeError, ValueError
        For hidden states or a direction other than these; NaN and Inf are refused by layer.

    References
    ----------
    Dong, Cordonnier & Loukas 2021, section 2, with the Frobenius norm and the mean of the rows.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> layer_residuals([x, x.mean(dim=0).expand(2, 2)]).round(4).tolist()
    [0.7071, 0.0]
    """
    return _residuals(_layers(hidden), along)


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
    hidden, along
        As in :func:`layer_residuals`.
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
    layers = _layers(hidden)
    r = _residuals(layers, along)
    kept = float(r[-1] / r[0]) if r[0] > 0 else math.nan
    onset = _onset(r)
    rate = _rate(r, max(torch.finfo(layer.dtype).eps for layer in layers))
    metrics = {"layers": len(r) - 1.0, "kept": kept, "onset": onset, "rate": rate}
    metrics |= {f"residual_{layer}": float(value) for layer, value in enumerate(r)}
    findings = () if math.isnan(onset) else (_found(kind, r, onset, rate),)
    return Checkup(_summary(kind, r), metrics, findings)


def _layers(hidden: Sequence[ArrayLike]) -> list[Tensor]:
    """Return the hidden states as (B, T, D) tensors."""
    if not isinstance(hidden, list | tuple):
        raise TypeError(
            f"hidden must be a list or tuple of arrays, one a layer; got {type(hidden).__name__}"
        )
    if len(hidden) < 2:
        raise ValueError(
            "hidden must hold the input and the output of at least one layer; "
            f"got {len(hidden)} array{'' if len(hidden) == 1 else 's'}"
        )
    layers = [_rows(f"hidden[{layer}]", value) for layer, value in enumerate(hidden)]
    for layer, rows in enumerate(layers):
        if rows.shape[:2] != layers[0].shape[:2]:
            raise ValueError(
                "hidden must have the same number of samples and rows in every layer; got "
                f"{tuple(rows.shape[:2])} in hidden[{layer}], {tuple(layers[0].shape[:2])} in "
                "hidden[0]"
            )
    return layers


def _rows(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray) or value.ndim != 3:
        return _checks.as_matrix(name, value)[None]
    samples, rows, dimension = value.shape
    if samples < 1 or rows < 2 or dimension < 1:
        raise ValueError(
            f"{name} must have shape (B, T, D) with B >= 1, T >= 2 and D >= 1; "
            f"got shape {tuple(value.shape)}"
        )
    flat = value.reshape(samples * rows, dimension)
    return _checks.as_matrix(name, flat).reshape(samples, rows, dimension)


def _direction(along: ArrayLike | None, rows: int) -> Tensor:
    if along is None:
        return torch.full((rows, 1), rows**-0.5, dtype=torch.float64)
    if not isinstance(along, Tensor | np.ndarray) or along.ndim != 1 or len(along) != rows:
        given = tuple(along.shape) if isinstance(along, Tensor | np.ndarray) else along
        raise ValueError(f"along must have shape ({rows},), one number a row; got {given!r}")
    w = as_double(_checks.as_matrix("along", along[:, None])).cpu()
    if not bool(w.any()):
        raise ValueError("along must not be zero everywhere")
    w = w / w.abs().max()  # squares of what is left neither overflow nor vanish
    return w / w.norm()


def _residuals(layers: Sequence[Tensor], along: ArrayLike | None) -> np.ndarray:
    w = _direction(along, layers[0].shape[1])
    return np.array([_residual(as_double(layer).cpu(), w) for layer in layers])


def _residual(x: Tensor, w: Tensor) -> float:
    largest = x.abs().amax(dim=(1, 2), keepdim=True)
    x = x / torch.where(largest > 0, largest, 1.0)
    apart = (x - w * (w * x).sum(dim=1, keepdim=True)).norm(dim=(1, 2))
    whole = x.norm(dim=(1, 2))
    return float((apart / torch.where(whole > 0, whole, 1.0)).clamp(max=1).mean())


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
        f"{number(float(r[-1]))} after layer {len(r) - 1}{falls}. It is below 1/256 from layer "
        f"{onset:.0f} on."
    )
    last = f"residual_{len(r) - 1}"
    return ADVICE[kind].finding(kind, sentence, last, float(r[-1]), reference=ALIKE)
