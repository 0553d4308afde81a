"""How much the rows of a sample differ from what they have in common, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import as_double


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
    layers = as_layers(hidden)
    w = _direction(along, layers[0].shape[1])
    return np.array([_residual(as_double(layer).cpu(), w) for layer in layers])


def as_layers(hidden: Sequence[ArrayLike]) -> list[Tensor]:
    """Return hidden states as (B, T, D) tensors, or raise as :func:`layer_residuals` says."""
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


def _residual(x: Tensor, w: Tensor) -> float:
    largest = x.abs().amax(dim=(1, 2), keepdim=True)
    x = x / torch.where(largest > 0, largest, 1.0)
    apart = (x - w * (w * x).sum(dim=1, keepdim=True)).norm(dim=(1, 2))
    whole = x.norm(dim=(1, 2))
    return float((apart / torch.where(whole > 0, whole, 1.0)).clamp(max=1).mean())
