"""The parts of Planetoid: what they hold, that none of them runs, and what does not fit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import planetoid_support as tiny
import pytest
import torch

from repcollapse.data.unpickle import Array, RefusedError
from repcollapse.graphs.planetoid import ALLOWED, PARTS, SparseRows, loads, read

# --- what is read


def test_arrays_and_matrices_are_what_they_were() -> None:
    values = np.arange(12, dtype="<i4").reshape(3, 4)
    found = loads(tiny.pickled(tiny.array(values)), source="f")
    assert isinstance(found, Array)
    assert np.array_equal(found.values, values)
    words = np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, 3]], dtype="<f4")
    matrix = loads(tiny.pickled(tiny.sparse(words)), source="f")
    assert isinstance(matrix, SparseRows)
    assert np.array_equal(matrix.values, words)
    assert loads(tiny.pickled(tiny.dictionary({3: [1, 2]})), source="f") == {3: [1, 2]}


def test_the_parts_become_one_graph() -> None:
    words, labels, _, order = tiny.contents()
    graph = read(tiny.files(), source="tiny")
    assert graph.labels.tolist() == labels.tolist()
    expected = words / np.maximum(words.sum(axis=1, keepdims=True), 1)
    torch.testing.assert_close(graph.features, torch.from_numpy(expected).double())
    assert graph.train.tolist() == list(range(tiny.LABELLED))
    assert graph.validation.tolist() == list(range(tiny.LABELLED, tiny.LABELLED + 500))
    assert graph.test.tolist() == sorted(order.tolist())
    pairs = {
        tuple(sorted((i, (i + step) % tiny.NODES))) for i in range(tiny.NODES) for step in (1, 7)
    }
    assert {tuple(edge) for edge in graph.edges.T.tolist()} == pairs


# --- what is refused


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_would_run_code_does_not(part: str, tmp_path: Path) -> None:
    target = tmp_path / "harm"
    code = b"cos\nmkdir\nV" + os.fsencode(target) + b"\n\x85R"
    parts = tiny.files()
    parts[part] = parts[part][:-1] + code + b"."
    with pytest.raises(RefusedError, match=rf"ind\.tiny\.{part}: refused: .* asks for os\.mkdir"):
        read(parts, source="tiny")
    assert not target.exists()
    pickle.loads(tiny.pickled(code))  # the same, as a plain loader reads it
    assert target.is_dir()


def test_code_among_the_parts_of_a_matrix_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "harm"
    code = b"cos\nmkdir\nV" + os.fsencode(target) + b"\n\x85R"
    whole = tiny.pickled(tiny.sparse(np.eye(3, dtype="<f4")))
    assert whole.count(b"K\x32") == 1
    with pytest.raises(RefusedError, match=r"f: refused: .* asks for os\.mkdir"):
        loads(whole.replace(b"K\x32", code), source="f")
    assert not target.exists()


def test_a_matrix_that_the_pickle_never_fills_is_none() -> None:
    parts = changed(x=tiny.pickled(b"cscipy.sparse.csr\ncsr_matrix\n)\x81"))
    with pytest.raises(ValueError, match=r"ind\.tiny\.allx: must hold 0 words a node"):
        read(parts, source="tiny")


@pytest.mark.parametrize(
    "opcodes",
    [
        b"ccollections\ndefaultdict\ncos\nsystem\n\x85R",
        b"ccollections\ndefaultdict\ncnumpy\ndtype\n\x85R",  # known, but no factory
        b"cscipy.sparse.csr\ncsr_matrix\n)\x81}b",  # sparse rows without any
    ],
)
def test_what_is_known_is_refused_with_other_arguments(opcodes: bytes) -> None:
    with pytest.raises(RefusedError, match="f: refused: the pickle"):
        loads(tiny.pickled(opcodes), source="f")


@pytest.mark.parametrize(
    ("starts", "columns", "shape"),
    [
        ([0, 1], [0], (2, 3)),  # a row too few
        ([0, 2, 1], [0], (2, 3)),  # back
        ([1, 1, 1], [0], (2, 3)),
        ([0, 1, 2], [0], (2, 3)),  # beyond the end
        ([0, 1, 1], [3], (2, 3)),  # no such column
        ([0, 1, 1], [-1], (2, 3)),
        ([0, 1, 1], [0], (2, 2_000_000_000)),  # all the memory there is
        ([0] * 2001, [], (2000, 1_000_000)),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(
    starts: list[int], columns: list[int], shape: tuple[int, int]
) -> None:
    opcodes = tiny.sparse_of(
        np.array(starts, "<i4"), np.array(columns, "<i4"), np.ones(len(columns), "<f4"), shape
    )
    with pytest.raises(ValueError, match="f: refused: the pickle describes"):
        loads(tiny.pickled(opcodes), source="f")


@pytest.mark.parametrize("state", [b"(N}S'__call__'\nK\x01st", b"}S'values'\nK\x01s"])
@pytest.mark.parametrize("name", ALLOWED)
def test_the_stand_ins_cannot_be_altered(name: str, state: bytes) -> None:
    # BUILD with a pair, or a dictionary, sets attributes on the object below it.
    module, _, last = name.rpartition(".")
    with pytest.raises(ValueError, match="f: "):
        loads(f"c{module}\n{last}\n".encode() + state + b"b.", source="f")
    test_arrays_and_matrices_are_what_they_were()


# --- damaged files


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("length", [0, 1, 40, -1])
def test_a_truncated_part_is_named(part: str, length: int) -> None:
    parts = tiny.files()
    parts[part] = parts[part][:length]
    with pytest.raises(ValueError, match=rf"ind\.tiny\.{part}: not a whole pickle"):
        read(parts, source="tiny")


def changed(**parts: bytes) -> dict[str, bytes]:
    return tiny.files() | parts


WORDS_, LABELS_, GRAPH_, ORDER_ = tiny.contents()
ONE_HOT = np.eye(tiny.CLASSES)[LABELS_].astype("<i4")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (changed(x=tiny.pickled(b"K\x01")), r"tiny\.x: must hold a matrix"),
        (changed(y=tiny.pickled(b"K\x01")), r"tiny\.y: must hold a matrix"),
        (changed(tx=tiny.pickled(b"K\x01")), r"tiny\.tx: must hold a matrix"),
        (changed(ally=tiny.pickled(tiny.sparse(WORDS_))), r"tiny\.ally: must hold a matrix"),
        (
            changed(allx=tiny.pickled(tiny.sparse(np.where(WORDS_ > 0, np.nan, 0)[: tiny.FIRST]))),
            r"tiny\.allx: .*finite",
        ),
        (
            changed(ally=tiny.pickled(tiny.array(ONE_HOT[:3]))),
            r"tiny\.allx: must hold 6 words a node",
        ),
        (
            changed(ally=tiny.pickled(tiny.array(2 * ONE_HOT[: tiny.FIRST]))),
            r"tiny\.allx: its labels must be one-hot",
        ),
        (changed(x=tiny.pickled(tiny.sparse(1 - WORDS_[:4]))), r"tiny\.x: must be the first rows"),
        (changed(y=tiny.pickled(tiny.array(ONE_HOT[4:8]))), r"tiny\.y: must be the first rows"),
        (
            changed(ty=tiny.pickled(tiny.array(ONE_HOT[-10:, :2]))),
            r"tiny\.tx: must hold .* labels of 3 classes",
        ),
        (changed(graph=tiny.pickled(b"](K\x01e")), r"tiny\.graph: .*dictionary of lists"),
        (changed(graph=tiny.pickled(tiny.dictionary({0: [9999]}))), r"tiny\.graph: .*got 9999"),
        (changed(graph=tiny.pickled(b"}(K\x00](G\0\0\0\0\0\0\0\0eu")), r"tiny\.graph: .*got float"),
        (changed(graph=tiny.pickled(tiny.dictionary({0: [0]}))), r"tiny\.graph: .*one edge"),
        ({**tiny.files(), "test.index": b"510\nword\n"}, r"test\.index: .*one number a line"),
        (
            {**tiny.files(), "test.index": b"510\n510\n"},
            r"test\.index: .*each node from 510 to 519",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(parts: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(parts, source="tiny")
