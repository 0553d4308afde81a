from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import planetoid_support as tiny
import pytest
import torch

from repcollapse.data import files
from repcollapse.graphs import cora as official
from repcollapse.graphs import cora_is_here
from repcollapse.graphs.planetoid import Array, SparseRows, loads, read

GIVEN = os.environ.get(files.VARIABLE)
real_files = pytest.mark.skipif(
    not GIVEN or not (Path(GIVEN) / "planetoid_cora" / "ind.cora.graph").is_file(),
    reason=f"{files.VARIABLE} does not name a folder with the files of Cora",
)


# --- what is read


def test_arrays_and_matrices_are_what_they_were() -> None:
    values = np.arange(12, dtype="<i4").reshape(3, 4)
    found = loads(tiny.pickled(tiny.array(values)), source="f")
    assert isinstance(found, Array)
    assert np.array_equal(found.numpy(), values)
    words = np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, 3]], dtype="<f4")
    matrix = loads(tiny.pickled(tiny.sparse(words)), source="f")
    assert isinstance(matrix, SparseRows)
    assert np.array_equal(matrix.numpy(), words)
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


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


class Wrapped:
    """Harm inside the arguments of a name that is allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return np.dtype, (Harm(self.path), False, True)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "harm"
    data = pickle.dumps({0: [Harm(target)]}, protocol)
    with pytest.raises(ValueError, match=r"f: refused: the pickle asks for (posix|nt)\.system"):
        loads(data, source="f")
    assert not target.exists()
    pickle.loads(data)  # the test is worth something: a plain loader does run it
    assert target.exists()


def test_code_within_what_is_allowed_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "harm"
    data = pickle.dumps(Wrapped(target), 2)
    with pytest.raises(ValueError, match=r"f: refused: the pickle asks for (posix|nt)\.system"):
        loads(data, source="f")
    assert not target.exists()
    with pytest.raises(TypeError):
        pickle.loads(data)
    assert target.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cbuiltins\neval\n(S'1'\ntR",
        b"c__builtin__\neval\n(S'1'\ntR",
        b"\x8c\x08builtins\x8c\x04eval\x93",  # STACK_GLOBAL
        b"(S'true'\nios\nsystem\n",  # INST
        b"cnumpy\nload\n",
        b"cnumpy\nndarray.tofile\n",
        b"cscipy.sparse.csr\ncsc_matrix\n)\x81",
        b"cscipy.sparse._csr\ncsr_matrix\n)\x81",
        b"ccopyreg\n_reconstructor\n",
        b"ccollections\nOrderedDict\n)R",
        b"ccollections\ndefaultdict\ncos\nsystem\n\x85R",
        b"ccollections\ndefaultdict\ncnumpy\ndtype\n\x85R",  # known, but no factory
    ],
)
def test_every_other_name_is_refused(opcodes: bytes) -> None:
    with pytest.raises(ValueError, match="f: refused: the pickle asks for"):
        loads(tiny.pickled(opcodes), source="f")


@pytest.mark.parametrize("opcodes", [b"Psomething\n", b"K\x01Q"])
def test_outside_objects_are_refused(opcodes: bytes) -> None:
    with pytest.raises(ValueError, match=r"f: refused: .* outside object"):
        loads(tiny.pickled(opcodes), source="f")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"U\x02i4", b"U\x02O8"),  # objects in place of numbers
        (b"U\x02i4", b"U\x02V4"),
        (b"U\x01<", b"U\x01>"),
        (b"NNN", b"NNK\x08"),
        (tiny.number(3) + tiny.number(4), tiny.number(3) + tiny.number(5)),
        (tiny.number(3) + tiny.number(4), tiny.number(-3) + tiny.number(-4)),
        (b"K\x00\x85U\x01b", b"K\x09\x85U\x01b"),
    ],
)
def test_arrays_other_than_plain_numbers_are_refused(old: bytes, new: bytes) -> None:
    data = tiny.pickled(tiny.array(np.arange(12, dtype="<i4").reshape(3, 4)))
    assert data.count(old) == 1
    with pytest.raises(ValueError, match="f: refused"):
        loads(data.replace(old, new), source="f")


def test_arrays_of_objects_as_numpy_writes_them_are_refused() -> None:
    with pytest.raises(ValueError, match="f: refused"):
        loads(pickle.dumps(np.array([1, "two"], dtype=object), 2), source="f")


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


def test_the_stand_ins_cannot_be_altered() -> None:
    # BUILD with a pair sets attributes on the object below it.
    names = (
        b"numpy\ndtype",
        b"numpy\nndarray",
        b"numpy.core.multiarray\n_reconstruct",
        b"scipy.sparse.csr\ncsr_matrix",
        b"collections\ndefaultdict",
        b"__builtin__\nlist",
    )
    for name in names:
        for state in (b"(N}S'__call__'\nK\x01st", b"}S'numpy'\nK\x01s"):
            with pytest.raises(ValueError, match="f: "):
                loads(b"\x80\x02c" + name + b"\n" + state + b"b.", source="f")
    test_arrays_and_matrices_are_what_they_were()


# --- damaged files


@pytest.mark.parametrize("part", ["x", "y", "tx", "ty", "allx", "ally", "graph"])
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
        (changed(ally=tiny.pickled(tiny.sparse(WORDS_))), r"tiny\.ally: must hold a matrix"),
        (
            changed(allx=tiny.pickled(tiny.sparse(np.where(WORDS_ > 0, np.nan, 0)[: tiny.FIRST]))),
            r"tiny\.allx: .*finite",
        ),
        (changed(ally=tiny.pickled(tiny.array(ONE_HOT[:3]))), r"tiny\.allx: does not fit"),
        (
            changed(ally=tiny.pickled(tiny.array(2 * ONE_HOT[: tiny.FIRST]))),
            r"tiny\.ally: labels must be one-hot",
        ),
        (changed(x=tiny.pickled(tiny.sparse(1 - WORDS_[:4]))), r"tiny\.x: must be the first rows"),
        (changed(graph=tiny.pickled(b"](K\x01e")), r"tiny\.graph: .*dictionary of lists"),
        (changed(graph=tiny.pickled(tiny.dictionary({0: [9999]}))), r"tiny\.graph: .*got 9999"),
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


# --- where the files lie


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that REPCOLLAPSE_DATA names, with a tiny graph in the place of Cora."""
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    (tmp_path / "planetoid_cora").mkdir()
    for part, data in tiny.files().items():
        (tmp_path / "planetoid_cora" / f"ind.cora.{part}").write_bytes(data)
    return tmp_path


def cora_module() -> object:
    import importlib

    return importlib.import_module("repcollapse.graphs.cora")


def test_a_file_of_another_sum_is_refused(folder: Path) -> None:
    assert cora_is_here()
    with pytest.raises(ValueError, match=r"ind\.cora\.x: damaged or not the official file"):
        official()


def test_the_given_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = cora_module()
    monkeypatch.setattr(module, "MD5", {name: _sum(folder, name) for name in module.MD5})  # type: ignore[attr-defined]
    assert len(official()) == tiny.NODES


def _sum(folder: Path, name: str) -> str:
    import hashlib

    data = (folder / "planetoid_cora" / name).read_bytes()
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "planetoid_cora" / "ind.cora.ty").unlink()
    assert not cora_is_here()
    with pytest.raises(FileNotFoundError, match=r"cora is not in .*missing .*ind\.cora\.ty\."):
        official()


def test_without_a_given_folder_the_files_are_downloaded_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pooch

    module = cora_module()
    monkeypatch.setattr(module, "MD5", {name: _sum(folder, name) for name in module.MD5})  # type: ignore[attr-defined]
    monkeypatch.delenv(files.VARIABLE)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    asked = []

    def retrieve(url: str, *, known_hash: str, fname: str, path: Path, **options: object) -> None:
        asked.append((url, known_hash))
        (Path(path) / fname).write_bytes((folder / "planetoid_cora" / fname).read_bytes())

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert not cora_is_here()
    assert asked == []
    assert len(official()) == tiny.NODES
    assert cora_is_here()
    assert asked == [
        (module.URL + name, f"md5:{md5}")  # type: ignore[attr-defined]
        for name, md5 in module.MD5.items()  # type: ignore[attr-defined]
    ]


@real_files
def test_the_real_cora() -> None:
    graph = official()
    assert graph.features.shape == (2708, 1433)
    assert graph.edges.shape == (2, 5278)
    assert graph.classes == 7
    assert [len(part) for part in (graph.train, graph.validation, graph.test)] == [140, 500, 1000]
    assert graph.labels[graph.train].bincount().tolist() == [20] * 7
    # As widely published: four in five citations stay within a subject; 2,485 papers hang together.
    assert graph.homophily == pytest.approx(0.81, abs=0.001)
    assert int(graph.components.bincount().max()) == 2485
    torch.testing.assert_close(graph.features.sum(dim=1), torch.ones(2708, dtype=torch.float64))
