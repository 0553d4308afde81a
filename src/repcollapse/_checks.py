"""Argument checks shared by every public function.

Each returns the checked value in the form the caller works on, or raises an error that names the
argument, says what was given and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

ArrayLike = Tensor | np.ndarray


def as_matrix(
    name: str,
    value: Any,
    *,
    min_rows: int = 2,
    dimension: int | None = None,
    finite: bool = True,
) -> Tensor:
    """Return `value` as a finite floating (N, D) tensor with N >= `min_rows` and D >= 1.

    With `dimension`, D must be that. Without `finite`, whoever asks calls :func:`require_finite`.
    """
    matrix = _as_floating_tensor(name, value)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or dimension not in (None, matrix.shape[1]):
        raise ValueError(
            f"{name} must have shape (N, {dimension or 'D'}), rows are samples; "
            f"got shape {tuple(matrix.shape)}"
        )
    if len(matrix) < min_rows:
        raise ValueError(f"{name} needs at least {min_rows} rows; got {len(matrix)}")
    if finite:
        require_finite(name, matrix)
    return matrix


def as_matrix_pair(
    name_a: str, a: Any, name_b: str, b: Any, *, dimension: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return two finite floating (N, D) tensors of one shape and dtype."""
    matrix_a = as_matrix(name_a, a, dimension=dimension)
    matrix_b = as_matrix(name_b, b, dimension=dimension)
    if matrix_a.shape != matrix_b.shape:
        raise ValueError(
            f"{name_a} and {name_b} must have the same shape (N, D); "
            f"got {tuple(matrix_a.shape)} and {tuple(matrix_b.shape)}"
        )
    if matrix_a.dtype != matrix_b.dtype:
        raise TypeError(
            f"{name_a} and {name_b} must have the same dtype; "
            f"got {matrix_a.dtype} and {matrix_b.dtype}"
        )
    return matrix_a, matrix_b


def as_views(
    name: str, value: Any, *, min_views: int = 2, min_samples: int = 2, finite: bool = True
) -> Tensor:
    """Return `value` as a finite floating (V, N, D) tensor of V >= `min_views` views.

    Without `finite`, whoever asks finds out whether all of them are numbers.
    """
    views = _as_floating_tensor(name, value)
    if views.ndim != 3 or views.shape[2] == 0:
        raise ValueError(
            f"{name} must have shape (V, N, D), V views of N samples; "
            f"got shape {tuple(views.shape)}"
        )
    if views.shape[0] < min_views or views.shape[1] < min_samples:
        raise ValueError(
            f"{name} needs at least {min_views} views of at least {min_samples} samples; "
            f"got V={views.shape[0]}, N={views.shape[1]}"
        )
    if finite:
        require_finite(name, views)
    return views


def as_labels(name: str, value: Any, length: int, *, what: str = "class labels") -> Tensor:
    """Return `value` as an int64 vector of `length` class labels, or of what they are called."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        value = np.array(value, dtype=np.int64)  # native byte order, contiguous, writable
    try:
        labels = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must hold integer {what}; got {type(value).__name__}") from error
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must hold integer {what}; got dtype {labels.dtype}")
    if labels.ndim != 1 or len(labels) != length:
        raise ValueError(
            f"{name} must have shape ({length},), one {what.rsplit(maxsplit=1)[-1][:-1]} a row; "
            f"got shape {tuple(labels.shape)}"
        )
    return labels.long()


def as_codes(name: str, value: Any, length: int, *, what: str = "class labels") -> Tensor:
    """Return `value` as :func:`as_labels` does, where it holds strings or booleans by codes.

    A column of a data frame is taken as well.
    """
    given = type(value).__name__
    if not isinstance(value, Tensor | np.ndarray) and hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, list | tuple) and any(isinstance(each, str) for each in value):
        value = np.array(value, dtype=object)
    if isinstance(value, np.ndarray) and value.dtype == object:
        other = [k for k, each in enumerate(value.flat) if not isinstance(each, str)]
        if other:
            raise TypeError(
                f"{name} must hold integers or strings, one kind of them; "
                f"item {other[0]} of {given} is {type(value.flat[other[0]]).__name__}"
            )
        value = value.astype(str)
    if isinstance(value, np.ndarray) and value.dtype.kind in "bUS":
        value = np.unique(value, return_inverse=True)[1].reshape(value.shape)
    return as_labels(name, value, length, what=what)


def as_array(name: str, value: Any) -> Any:
    """Return a data frame as the array of its columns, and anything else as it is.

    Raises
    ------
    TypeError
        For a frame with a column of another type than floating ones, such as an index that was
        saved as a column.
    """
    if isinstance(value, Tensor | np.ndarray) or not hasattr(value, "to_numpy"):
        return value
    columns = getattr(value, "columns", None)
    if columns is not None:
        for column, dtype in zip(columns, value.dtypes, strict=True):
            if not str(dtype).lower().startswith(("float", "double", "half")):
                raise TypeError(
                    f"{name} must have columns of floating type alone; column {column!r} holds "
                    f"{dtype}: leave it out, or convert it if it is a feature"
                )
    array = value.to_numpy()
    if array.dtype == object:  # nullable numbers
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must hold numbers in every place; {error}") from error
    return array


def all_finite(value: Tensor) -> bool:
    """Return whether `value` holds neither NaN nor Inf."""
    value = value.detach()
    return _sum_is_finite(value) or bool(torch.isfinite(value).all())


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """Return `value` if it is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {sorted(options)}; got {value!r}")
    return value


def number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """Return `value` as a finite float within the bounds: above < value < below for these two."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number; got {type(value).__name__}")
    if not (math.isfinite(value) and above < value < below and at_least <= value <= at_most):
        bounds = [
            text
            for text, applies in (
                (f"above {above:g}", above > -math.inf),
                (f"at least {at_least:g}", at_least > -math.inf),
                (f"at most {at_most:g}", at_most < math.inf),
                (f"below {below:g}", below < math.inf),
            )
            if applies
        ]
        raise ValueError(f"{name} must be {' and '.join(bounds) or 'finite'}; got {value!r}")
    return float(value)


def integer(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> int:
    """Return `value` as an int within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer; got {type(value).__name__}")
    return int(
        number(name, value, at_least=at_least, at_most=math.inf if at_most is None else at_most)
    )


def _as_floating_tensor(name: str, value: Any) -> Tensor:
    require_dense(name, value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value  # what nearly every call gives
    if isinstance(value, np.ndarray):
        native = value.dtype.newbyteorder("=")
        if native not in (np.float16, np.float32, np.float64):
            raise TypeError(f"{name} must have a floating dtype; got {value.dtype}")
        # Torch takes neither a foreign byte order nor, without a warning, a read-only array.
        value = torch.from_numpy(np.require(value, native, ["C", "W"]))
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor or numpy.ndarray; got {type(value).__name__} "
            "(numpy.asarray(..., dtype=float) makes one)"
        )
    if not value.is_floating_point():
        raise TypeError(f"{name} must have a floating dtype; got {value.dtype}")
    return value


def require_dense(name: str, value: Any) -> None:
    """Raise for a sparse tensor, which can be neither sliced nor summed as others are."""
    if isinstance(value, Tensor) and value.layout != torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor; got {value.layout} (.to_dense() makes one)"
        )


def require_finite(name: str, rows: Tensor) -> None:
    """Raise where a row holds NaN or Inf, and say which."""
    rows = rows.detach()
    if _sum_is_finite(rows):
        return
    bad = (~torch.isfinite(rows)).any(dim=-1).nonzero().tolist()
    if bad:
        axes = ("view", "row")[-len(bad[0]) :]
        place = ", ".join(f"{axis} {index}" for axis, index in zip(axes, bad[0], strict=True))
        raise ValueError(
            f"{name} must be finite; {place} holds NaN or Inf "
            f"({len(bad)} of {rows.shape[:-1].numel()} rows do)"
        )


def _sum_is_finite(value: Tensor) -> bool:
    # A NaN or Inf makes the sum one, and a sum costs a tenth of an elementwise test. Finite numbers
    # may overflow in it, so that only the elementwise test convicts.
    return math.isfinite(value.sum().item())
