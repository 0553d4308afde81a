"""What the tests of the command line share: embeddings, ways to ask, what every answer keeps."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from click.testing import Result
from typer.testing import CliRunner

from repcollapse.cli import app

NORMAL = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
KINDS = {
    "healthy": NORMAL,
    "complete": (1 + 1e-3 * NORMAL).astype(np.float32),
    "dimensional": (NORMAL * (np.arange(16) < 1) + 1e-4 * NORMAL).astype(np.float32),
    "cluster": (NORMAL[np.arange(400) % 5] + 1e-3 * NORMAL).astype(np.float32),
    "cone": (NORMAL + 1.5).astype(np.float32),
    "not-enough-data": NORMAL[:8],
}
RUNNER = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}


def ask(*parts: object, columns: int = 80) -> Result:
    """Run a command in this process; what it does not catch is raised here."""
    runner = CliRunner(env=RUNNER | {"COLUMNS": str(columns)})
    return runner.invoke(app, [str(part) for part in parts], catch_exceptions=False)


def program(*parts: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "repcollapse", *map(str, parts)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def refused(result: Result) -> str:
    """Return the message of a refusal: one paragraph, and nothing else."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def left(folder: Path) -> set[str]:
    """Return the names of all files in a folder."""
    return {path.name for path in folder.iterdir()}


class Trap:
    """Something that runs code where it is unpickled: it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def trap(mark: Path) -> bytes:
    """Return a pickle that must never be loaded."""
    return pickle.dumps(Trap(mark))
