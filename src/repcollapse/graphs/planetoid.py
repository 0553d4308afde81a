"""Read the citation graphs of Planetoid, pickles of Python 2, without running what pickles can run.

The official files name six things, to rebuild arrays, sparse matrices and a dictionary of lists.
:mod:`repcollapse.data.unpickle` refuses every other name and has the arrays; here is the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from repcollapse.data import unpickle
from repcollapse.data.unpickle import Array, RefusedError
from repcollapse.graphs.graph import Graph

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph")
VALIDATION = 500  # the nodes after the labelled ones, as Planetoid's users have it
# Entries of a matrix, 400 MB. A file has only those that are not zero: without a limit, one matrix
# of a few bytes could ask for any amount.
MOST = 100_000_000


def loads(data: bytes, *, source: str) -> Any:
    """Return what a file of Planetoid holds: `Array`, `SparseRows`, containers, numbers and bytes.

    Parameters
    ----------
    data
        The pickle.
    source
        The file's name, for error messages.

    Raises
    ------
    ValueError
        Where the pickle is damaged; a :class:`~repcollapse.data.unpickle.RefusedError` where it
        asks for a name that such files do not need, and nothing of it has been run.

    Examples
    --------
    >>> import pickle
    >>> loads(pickle.dumps({0: [1, 2]}, protocol=2), source="ind.example.graph")
    {0: [1, 2]}
    """
    return unpickle.loads(data, source=source, format="Planetoid", allowed=ALLOWED)


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
    found = {part: loads(files[part], source=f"ind.{source}.{part}") for part in PARTS}
    x, allx, tx = (_matrix(f"ind.{source}.{p}", found[p], SparseRows) for p in ("x", "allx", "tx"))
    y, ally, ty = (_matrix(f"ind.{source}.{p}", found[p], Array) for p in ("y", "ally", "ty"))
    _require_nodes(f"ind.{source}.allx", allx, ally, words=x.shape[1], classes=y.shape[1])
    _require_nodes(f"ind.{source}.tx", tx, ty, words=x.shape[1], classes=y.shape[1])
    for part, rows, of in (("x", x, allx), ("y", y, ally)):
        if not np.array_equal(of[: len(rows)], rows) or len(x) != len(y):
            raise ValueError(
                f"ind.{source}.{part}: must be the first rows of ind.{source}.all{part}"
            )
    if len(x) + VALIDATION > len(allx):
        raise ValueError(f"ind.{source}.allx: must hold {VALIDATION} nodes for validation")
    order = _test_index(f"ind.{source}.test.index", files["test.index"], len(allx), len(tx))
    words, one_hot = _in_order(allx, tx, order), _in_order(ally, ty, order)
    return Graph(
        torch.from_numpy(words / np.maximum(words.sum(axis=1, keepdims=True), 1)),
        _edges(f"ind.{source}.graph", found["graph"], len(words)),
        torch.from_numpy(one_hot.argmax(axis=1)),
        torch.arange(len(x)),
        torch.arange(len(x), len(x) + VALIDATION),
        torch.from_numpy(np.sort(order)),
    )


def _matrix(source: str, found: Any, kind: type[Array] | type[SparseRows]) -> np.ndarray:
    if not isinstance(found, kind):
        raise ValueError(f"{source}: must hold a matrix; got another kind of thing")
    values = found.values
    if values.ndim != 2 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{source}: must hold a matrix of finite numbers, none below 0")
    return values.astype(np.float64)


def _require_nodes(
    source: str, rows: np.ndarray, one_hot: np.ndarray, *, words: int, classes: int
) -> None:
    """Raise where rows of words and of classes are not those of the same nodes."""
    if (rows.shape, one_hot.shape) != ((len(one_hot), words), (len(rows), classes)):
        raise ValueError(
            f"{source}: must hold {words} words a node, and as many nodes as there are labels of "
            f"{classes} classes; got shape {rows.shape} and labels of shape {one_hot.shape}"
        )
    if not ((one_hot == 0) | (one_hot == 1)).all() or not (one_hot.sum(axis=1) == 1).all():
        raise ValueError(f"{source}: its labels must be one-hot, one class a node")


def _in_order(known: np.ndarray, test: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the rows of all nodes: those of the test stand in the order of their index."""
    rows = np.concatenate([known, test])
    rows[order] = test
    return rows


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
        given = value if type(value) is int else type(value).__name__
        raise ValueError(f"{source}: must name nodes from 0 to {nodes - 1}; got {given}")
    return True


class SparseRows:
    """A matrix that was kept by its rows; empty until filled.

    Attributes
    ----------
    values : numpy.ndarray
        What it holds, its zeros included.
    """

    __slots__ = ("values",)

    def __new__(cls) -> SparseRows:
        """Return an empty one, as the pickle asks for before it says what it holds."""
        made = super().__new__(cls)
        made.values = np.zeros((0, 0))
        return made

    def __setstate__(self, state: Any) -> None:
        match state:
            case {
                b"format": b"csr",
                b"_shape": (int(rows), int(columns)),
                b"indptr": Array() as starts,
                b"indices": Array() as indices,
                b"data": Array() as numbers,
            } if rows >= 0 and columns >= 0 and rows * columns <= MOST:
                shape = rows, columns
            case _:
                raise RefusedError("the pickle describes a matrix other than sparse rows")
        self.values = _dense(shape, starts.values, indices.values, numbers.values)


def _dense(
    shape: tuple[int, int], starts: np.ndarray, columns: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """Return the matrix whose row i has `numbers` in `columns` from `starts[i]` to the next."""
    whole = (
        (starts.shape, columns.ndim) == ((shape[0] + 1,), 1)
        and starts.dtype == columns.dtype == np.dtype("<i4")
        and columns.shape == numbers.shape
        and (starts[0], starts[-1]) == (0, len(columns))
        and (np.diff(starts) >= 0).all()
        and ((columns >= 0) & (columns < shape[1])).all()
    )
    if not whole:
        raise RefusedError("the pickle describes sparse rows that do not fit together")
    full = np.zeros(shape, numbers.dtype)
    rows = np.repeat(np.arange(shape[0]), np.diff(starts))
    np.add.at(full, (rows, columns), numbers)
    return full


# With empty slots, an instance has no attribute that a pickle could set.
class _List:
    __slots__ = ()


class _DefaultDict:
    __slots__ = ()

    def __call__(self, factory: Any) -> dict[Any, Any]:
        if not isinstance(factory, _List):
            raise RefusedError(f"the pickle asks for a dictionary that calls {factory!r}")
        return {}


ALLOWED: Mapping[str, Any] = {
    **unpickle.NUMPY,
    "scipy.sparse.csr.csr_matrix": SparseRows,  # the class: the pickle makes the instance itself
    "collections.defaultdict": _DefaultDict(),
    "__builtin__.list": _List(),
}
