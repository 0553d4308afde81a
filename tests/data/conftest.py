from __future__ import annotations

from pathlib import Path

import pytest

from repcollapse.data import files


@pytest.fixture
def no_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of the tests' own making pass for official ones."""
    monkeypatch.setattr(files, "MD5", {})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_sums: None) -> Path:
    """An empty folder that REPCOLLAPSE_DATA names."""
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that stands for the download cache; REPCOLLAPSE_DATA is not set."""
    import pooch

    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    return tmp_path / "repcollapse"
