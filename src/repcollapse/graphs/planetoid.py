"""Read the citation graphs of Planetoid, pickles of Python 2, without running what pickles can run.

A pickle is a program: to load one is to call what it names. The official files name six things, to
rebuild arrays, sparse matrices and a dictionary of lists. Those names lead here to stand-ins that
can do exactly that and keep no state of their own; every other name is refused. It is done as in
:mod:`repcollapse.data.unpickle`, which knows the one kind of array of CIFAR-10.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from repcollapse.graphs.graph import Graph

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph")
VALIDATION = 500  # the nodes after the labelled ones, as Planetoid's users have it
_TYPES = {b"i4": np.dtype("<i4"), b"f4": np.dtype("<f4")}


def loads(data: bytes, *, source: str) -> Any:
    """Return what the pickle holds: an array, a `SparseRows`, or containers, numbers and bytes.

    Parameters
    ----------
    data : bytes
        The pickle.
    source : str
        The file's name, for the error message.

    Raises
    ------
    ValueError
        Where the pickle is damaged or asks for any other name; nothing of it has then been run.

    Examples
    --------
    >>> loads(pickle.dumps({0: [1, 2]}), source="example")
    {0: [1, 2]}
    >>> loads(pickle.dumps(print), source="example")
    Traceback (most recent call last):
        ...
    ValueError: example: refused: the pickle asks for builtins.print; a file of Planetoid needs \
only numpy.core.multiarray._reconstruct, numpy.ndarray, numpy.dtype, scipy.sparse.csr.csr_matrix, \
collections.defaultdict, __builtin__.list
    """
    try:
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _RefusedError as error:
        raise ValueError(f"{source}: refused: {error}") from None
    except Exception as error:
        # A damaged pickle raises whatever its bytes happen to mean.
        raise ValueError(
            f"{source}: not a whole pickle of Planetoid ({type(error).__name__}: {error})"
        ) from error


def read(files: Mapping[str, bytes], *, source: str) -> Graph:
    """Return the graph of one data set of Planetoid with its public split.

    The labelled nodes come first, the next 500 are for validation, and those of the test index for
    the test. Each node's words are divided by their number, as is customary. Neighbours that are
    named twice or from both ends are one edge, and loops are left out.

    Parameters
    ----------
    files
        The bytes of the parts "x", "y", "tx", "ty", "allx", "ally", "graph" and "test.index".
    source
        The data set's name, as in "ind.cora.x", for error messages.

    Raises
    ------
    ValueError
        Where a part is damaged, is refused by :func:`loads`, or does not fit the others.
    """
    x, y, tx, ty, allx, ally, graph = (
        loads(files[part], source=f"ind.{source}.{part}") for part in PARTS
    )
    labelled = _matrix(f"ind.{source}.x", x, SparseRows)
    words = [_matrix(f"ind.{source}.{p}", m, SparseRows) for p, m in (("allx", allx), ("tx", tx))]
    classes = [_matrix(f"ind.{source}.{p}", m, Array) for p, m in (("ally", ally), ("ty", ty))]
    order = _test_index(f"ind.{source}.test.index", files["test.index"], len(words[0]), len(tx))
    for part, rows, other in zip(("allx", "tx"), words, classes, strict=True):
        if len(rows) != len(other) or rows.shape[1] != labelled.shape[1]:
            raise ValueError(f"ind.{source}.{part}: does not fit its labels or ind.{source}.x")
    features, one_hot = (np.concatenate(parts) for parts in (words, classes))
    # The test rows stand in the order of the index; put each where its node is.
    features[order], one_hot[order] = words[1], classes[1]
    if not ((one_hot == 0) | (one_hot == 1)).all() or not (one_hot.sum(axis=1) == 1).all():
        raise ValueError(f"ind.{source}.ally: labels must be one-hot, one class a node")
    if not np.array_equal(features[: len(labelled)], labelled) or len(y) != len(labelled):
        raise ValueError(f"ind.{source}.x: must be the first rows of ind.{source}.allx")
    first = len(labelled)
    if first + VALIDATION > len(words[0]):
        raise ValueError(f"ind.{source}.allx: must hold {VALIDATION} nodes for validation")
    return Graph(
        torch.from_numpy(features / np.maximum(features.sum(axis=1, keepdims=True), 1)),
        _edges(f"ind.{source}.graph", graph, len(features)),
        torch.from_numpy(one_hot.argmax(axis=1)),
        torch.arange(first),
        torch.arange(first, first + VALIDATION),
        torch.from_numpy(np.sort(order)),
    )


def _matrix(source: str, found: Any, kind: type[Array] | type[SparseRows]) -> np.ndarray:
    if not isinstance(found, kind):
        raise ValueError(f"{source}: must hold a matrix; got another kind of thing")
    matrix = found.numpy()
    if matrix.ndim != 2 or not np.isfinite(matrix).all() or (matrix < 0).any():
        raise ValueError(f"{source}: must hold a matrix of finite numbers, none below 0")
    return matrix.astype(np.float64)


def _test_index(source: str, data: bytes, first: int, count: int) -> np.ndarray:
    try:
        order = np.array([int(line) for line in data.decode("ascii").split()])
    except ValueError as error:
        raise ValueError(f"{source}: must hold one number a line ({error})") from error
    if sorted(order.tolist()) != list(range(first, first + count)):
        raise ValueError(
            f"{source}: must name each node from {first} to {first + count - 1} once; "
            f"got {len(order)} numbers"
        )
    return order


def _edges(source: str, graph: Any, nodes: int) -> torch.Tensor:
    if not isinstance(graph, dict) or not all(isinstance(ends, list) for ends in graph.values()):
        raise ValueError(f"{source}: must hold a dictionary of lists of nodes")
    pairs = {
        (min(node, end), max(node, end))
        for node, ends in graph.items()
        for end in ends
        if _is_node(source, node, nodes) and _is_node(source, end, nodes) and node != end
    }
    if not pairs:
        raise ValueError(f"{source}: must hold at least one edge")
    return torch.tensor(sorted(pairs)).T.contiguous()


def _is_node(source: str, value: Any, nodes: int) -> bool:
    if type(value) is not int or not 0 <= value < nodes:
        raise ValueError(f"{source}: must name nodes from 0 to {nodes - 1}; got {value!r}")
    return True


class _RefusedError(pickle.UnpicklingError):
    pass


class _Type:
    """Stands in for a numpy type of four bytes, little end first."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        if state != (3, b"<", None, None, None, -1, -1, 0):
            raise _RefusedError(f"the pickle asks for the numpy type {state!r}")


class Array:
    """An array of integers or floats of four bytes: a shape, and the bytes in C order."""

    __slots__ = ("_data", "_dtype", "_shape")

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple(shape), _Type() as kind, False, bytes(data)):
                self._shape, self._dtype, self._data = shape, kind.dtype, data
            case _:
                raise _RefusedError("the pickle describes an array other than plain numbers")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise _RefusedError(f"the pickle asks for an array of shape {shape!r}")
        if math.prod(shape) * self._dtype.itemsize != len(data):
            raise _RefusedError(f"an array of shape {shape} cannot hold {len(data)} bytes")

    def __len__(self) -> int:
        return int(self._shape[0])

    def numpy(self) -> np.ndarray:
        """Return it as a read-only numpy array."""
        return np.frombuffer(self._data, self._dtype).reshape(self._shape)


class SparseRows:
    """A matrix by its rows: where each begins, in which columns its numbers stand, and they."""

    __slots__ = ("_columns", "_numbers", "_shape", "_starts")

    def __setstate__(self, state: Any) -> None:
        match state:
            case {
                b"format": b"csr",
                b"_shape": (int(rows), int(columns)),
                b"indptr": Array() as starts,
                b"indices": Array() as indices,
                b"data": Array() as numbers,
            } if rows >= 0 and 0 <= columns <= _WIDEST:
                self._shape = rows, columns
            case _:
                raise _RefusedError("the pickle describes a matrix other than sparse rows")
        self._starts, self._columns, self._numbers = (
            part.numpy() for part in (starts, indices, numbers)
        )
        self._require_a_matrix()

    def _require_a_matrix(self) -> None:
        starts, columns = self._starts, self._columns
        whole = (
            (starts.shape, columns.ndim) == ((self._shape[0] + 1,), 1)
            and starts.dtype == columns.dtype == np.dtype("<i4")
            and columns.shape == self._numbers.shape
            and (starts[0], starts[-1]) == (0, len(columns))
            and (np.diff(starts) >= 0).all()
            and ((columns >= 0) & (columns < self._shape[1])).all()
        )
        if not whole:
            raise _RefusedError("the pickle describes sparse rows that do not fit together")

    def __len__(self) -> int:
        return self._shape[0]

    def numpy(self) -> np.ndarray:
        """Return it as a numpy array with its zeros."""
        full = np.zeros(self._shape, self._numbers.dtype)
        rows = np.repeat(np.arange(len(self)), np.diff(self._starts))
        np.add.at(full, (rows, self._columns), self._numbers)
        return full


_WIDEST = 1_000_000  # columns: a file of a few bytes must not ask for all memory there is


# The other names. With empty slots, an instance has no attribute that a pickle could set.
class _NDArray:
    __slots__ = ()


class _Reconstruct:
    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> Array:
        if not isinstance(kind, _NDArray) or (shape, code) != ((0,), b"b"):
            raise _RefusedError(f"the pickle asks for an array of shape {shape!r}, type {code!r}")
        return Array()


class _DType:
    __slots__ = ()

    def __call__(self, code: Any, align: Any, copy: Any) -> _Type:
        if code not in _TYPES or (align, copy) != (0, 1):
            raise _RefusedError(f"the pickle asks for the numpy type {code!r}")
        return _Type(_TYPES[code])


class _List:
    __slots__ = ()


class _DefaultDict:
    __slots__ = ()

    def __call__(self, factory: Any) -> dict[Any, Any]:
        if not isinstance(factory, _List):
            raise _RefusedError(f"the pickle asks for a dictionary that calls {factory!r}")
        return {}


_ALLOWED: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": _Reconstruct(),
    "numpy.ndarray": _NDArray(),
    "numpy.dtype": _DType(),
    "scipy.sparse.csr.csr_matrix": SparseRows,  # the class: the pickle makes the instance itself
    "collections.defaultdict": _DefaultDict(),
    "__builtin__.list": _List(),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in _ALLOWED:
            raise _RefusedError(
                f"the pickle asks for {asked}; a file of Planetoid needs only {', '.join(_ALLOWED)}"
            )
        return _ALLOWED[asked]

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError(f"the pickle asks for the outside object {pid!r}; it may ask for none")
