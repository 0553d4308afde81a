"""A tiny graph in the official format of Planetoid: pickles as Python 2 wrote them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

NODES, FIRST, LABELLED, WORDS, CLASSES = 520, 510, 4, 6, 3


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def array(values: np.ndarray) -> bytes:
    """The opcodes of one array, without the frame of a pickle."""
    kind = {np.dtype("<i4"): b"i4", np.dtype("<f4"): b"f4"}[values.dtype]
    data = values.tobytes()
    shape = b"(" + b"".join(number(size) for size in values.shape) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + text(kind)
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )


def sparse(values: np.ndarray) -> bytes:
    """The opcodes of a matrix by its rows."""
    rows, columns = np.nonzero(values)
    starts = np.searchsorted(rows, np.arange(len(values) + 1)).astype("<i4")
    return sparse_of(
        starts, columns.astype("<i4"), values[rows, columns].astype("<f4"), values.shape
    )


def sparse_of(
    starts: np.ndarray, columns: np.ndarray, numbers: np.ndarray, shape: tuple[int, ...]
) -> bytes:
    return (
        b"cscipy.sparse.csr\ncsr_matrix\n)\x81}("
        + text(b"format")
        + text(b"csr")
        + text(b"_shape")
        + number(shape[0])
        + number(shape[1])
        + b"\x86"
        + text(b"indptr")
        + array(starts)
        + text(b"indices")
        + array(columns)
        + text(b"maxprint")
        + b"K\x32"
        + text(b"data")
        + array(numbers)
        + b"ub"
    )


def dictionary(graph: Mapping[int, list[int]]) -> bytes:
    lists = b"".join(
        number(node) + b"](" + b"".join(number(end) for end in ends) + b"e"
        for node, ends in graph.items()
    )
    return b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + lists + b"u"


def pickled(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def contents() -> tuple[np.ndarray, np.ndarray, dict[int, list[int]], np.ndarray]:
    """Words, classes, neighbours, and the test nodes in the order of their file."""
    draw = np.random.default_rng(0)
    words = (draw.random((NODES, WORDS)) < 0.5).astype(np.float32)
    labels = draw.integers(0, CLASSES, NODES)
    graph = {i: [(i + 1) % NODES, (i + 7) % NODES] for i in range(NODES)}
    graph[0] += [1, 0]  # named twice, and a loop
    graph[1] += [0]  # from both ends
    return words, labels, graph, draw.permutation(np.arange(FIRST, NODES))


def files() -> dict[str, bytes]:
    words, labels, graph, order = contents()
    one_hot = np.eye(CLASSES)[labels].astype("<i4")
    return {
        "x": pickled(sparse(words[:LABELLED])),
        "y": pickled(array(one_hot[:LABELLED])),
        "allx": pickled(sparse(words[:FIRST])),
        "ally": pickled(array(one_hot[:FIRST])),
        "tx": pickled(sparse(words[order])),
        "ty": pickled(array(one_hot[order])),
        "graph": pickled(dictionary(graph)),
        "test.index": "".join(f"{node}\n" for node in order).encode(),
    }
