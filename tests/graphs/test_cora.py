"""Where the files of Cora lie, and what the real ones hold."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
from pathlib import Path

import planetoid_support as tiny
import pooch
import pytest
import torch

from repcollapse.data import files
from repcollapse.data.unpickle import RefusedError
from repcollapse.graphs import cora as official
from repcollapse.graphs import cora_is_here
from repcollapse.graphs.planetoid import PARTS

module = importlib.import_module("repcollapse.graphs.cora")  # its function has its name

GIVEN = os.environ.get(files.VARIABLE)
real_files = pytest.mark.skipif(
    not GIVEN or not (Path(GIVEN) / "planetoid_cora" / "ind.cora.graph").is_file(),
    reason=f"{files.VARIABLE} does not name a folder with the files of Cora",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that REPCOLLAPSE_DATA names, with a tiny graph in the place of Cora."""
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    (tmp_path / "planetoid_cora").mkdir()
    for part, data in tiny.files().items():
        (tmp_path / "planetoid_cora" / f"ind.cora.{part}").write_bytes(data)
    return tmp_path


@pytest.fixture
def sums(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let the tiny files pass for official ones."""
    found = {name: md5((folder / "planetoid_cora" / name).read_bytes()) for name in module.MD5}
    monkeypatch.setattr(module, "MD5", found)
    return found


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def test_a_file_of_another_sum_is_refused(folder: Path) -> None:
    assert cora_is_here()
    with pytest.raises(ValueError, match=r"ind\.cora\.x: damaged or not the official file"):
        official()


@pytest.mark.usefixtures("sums")
def test_the_given_folder_is_read() -> None:
    assert len(official()) == tiny.NODES


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_would_run_code_does_not(part: str, folder: Path, sums: dict[str, str]) -> None:
    path, target = folder / "planetoid_cora" / f"ind.cora.{part}", folder / "harm"
    code = b"cos\nmkdir\nV" + os.fsencode(target) + b"\n\x85R"
    path.write_bytes(path.read_bytes()[:-1] + code + b".")
    sums[path.name] = md5(path.read_bytes())
    with pytest.raises(RefusedError, match=rf"ind\.cora\.{part}: refused: .* asks for os\.mkdir"):
        official()
    assert not target.exists()
    pickle.loads(tiny.pickled(code))  # the same, as a plain loader reads it
    assert target.is_dir()


def test_a_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "planetoid_cora" / "ind.cora.ty").unlink()
    assert not cora_is_here()
    with pytest.raises(FileNotFoundError, match=r"cora is not in .*missing .*ind\.cora\.ty\."):
        official()


def test_without_a_given_folder_the_files_are_downloaded_once(
    tmp_path: Path, folder: Path, sums: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert asked == [(module.URL + name, f"md5:{known}") for name, known in sums.items()]


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
