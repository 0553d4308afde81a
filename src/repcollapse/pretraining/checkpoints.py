"""Checkpoints on disk: whole or not there, the last two kept, read without running what they hold.

A checkpoint is a file of `torch.save`, hence a zip archive with a CRC-32 of each of its parts. It
is written beside, flushed to the disk and renamed, so that a process that is killed leaves the
previous ones as they were. It holds tensors and plain values only and is read with
`weights_only=True`.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from repcollapse.files import HALVES, write_whole

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{9})\.pt")


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names the file and says why."""


def save(folder: Path, state: dict[str, Any]) -> Path:
    """Write `state`, which has its step in "step", and remove all but the last two checkpoints."""
    path = folder / f"checkpoint-{state['step']:09d}.pt"
    write_whole(path, lambda file: torch.save(state, file))
    for old in found(folder)[KEPT:]:
        old.unlink()
    return path


def found(folder: Path) -> list[Path]:
    """Return the checkpoints of `folder`, the newest first."""
    named = [path for path in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name)]
    return sorted(named, reverse=True)


def clean(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder.glob(HALVES):
        path.unlink()


def newest(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the newest state that is whole, None where there is no checkpoint.

    `warn` is told of each that is damaged and passed over.

    Raises
    ------
    CheckpointError
        Where there are checkpoints and all of them are damaged.
    """
    paths = found(folder)
    for path in paths:
        try:
            return read(path)
        except CheckpointError as error:
            warn(f"{error}; the one before it is used" if path != paths[-1] else str(error))
    if paths:
        raise CheckpointError(
            f"{folder}: all checkpoints are damaged; --no-resume starts anew and removes them"
        )
    return None


def read(path: Path) -> dict[str, Any]:
    """Return the state in `path`, its tensors on the CPU, after checking it whole.

    Raises
    ------
    CheckpointError
        Where the file is truncated, damaged, or holds anything but tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
        if part is not None:
            raise CheckpointError(f"{path}: damaged: the checksum of its part {part} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: it holds more than tensors and plain values, or is damaged"
        ) from error
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or cut short ({error})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: no checkpoint of this version of repcollapse")
    return state
