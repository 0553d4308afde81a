from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from repcollapse.data import files

OFFICIAL = Path(__file__).parents[1] / "data"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Equal to the last bit is asked of equal thread counts, and subprocesses have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of CIFAR-10's form, 100 train and 20 test images of noise, as REPCOLLAPSE_DATA."""
    monkeypatch.syspath_prepend(OFFICIAL)
    from official_files import write_cifar

    root = tmp_path / "data"
    write_cifar(root, files.CIFAR_BINARY)
    monkeypatch.setattr(files, "MD5", {})
    monkeypatch.setenv(files.VARIABLE, str(root))
    return root
