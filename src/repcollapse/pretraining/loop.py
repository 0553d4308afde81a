"""The loop around a trainer: what is written, when, and how a run goes on after it was stopped."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from repcollapse import _checks, diagnostics
from repcollapse.files import write_whole
from repcollapse.pretraining import checkpoints, processes
from repcollapse.pretraining.settings import Settings
from repcollapse.pretraining.trainer import Trainer

METRICS, RESULT = "metrics.jsonl", "result.json"
Row = dict[str, float]


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or the embeddings are no longer finite, or cannot be used."""


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal asked to stop; the checkpoint is written, and the same call goes on from there."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")


@dataclass
class Watcher:
    """Who is told what happens; by default nobody. Only the first process's is."""

    started: Callable[[int, int], None] = field(default=lambda step, steps: None)
    stepped: Callable[[int, Row | None], None] = field(default=lambda step, row: None)
    said: Callable[[str], None] = field(default=lambda message: None)


def pretrain(
    settings: Settings,
    out: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    resume: bool = True,
    checkpoint_every: int = 1000,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and write what came of it to `out`.

    In a process group (:func:`processes.process_group`) every process calls it alike; only the
    first writes. `out` must then be one folder for all of them.

    Parameters
    ----------
    settings
        What to train.
    out
        A folder, made where it is missing. It receives `checkpoint-<step>.pt` (the last two),
        `metrics.jsonl` (a line of numbers per reading, without times, so that equal runs give equal
        bytes) and at the end `result.json`.
    device
        Where this process trains.
    resume
        Go on from the newest whole checkpoint; otherwise begin anew, and remove what `out` has of
        another run once settings and data have been found to fit.
    checkpoint_every
        Steps between checkpoints; one is also written at the end, and on SIGTERM or SIGINT.
    watcher
        Is told of progress.

    Returns
    -------
    dict
        What `result.json` holds: settings, the last readings, probes, times, hardware, versions.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these, or settings that are not those of the checkpoint.
    CheckpointError
        Where there are checkpoints and none is whole.
    TrainingError
        Where the numbers no longer allow a step; the last checkpoint is from before.
    Stopped
        After SIGTERM or SIGINT.
    """
    checkpoint_every = _checks.integer("checkpoint_every", checkpoint_every, at_least=1)
    device = torch.device(device)
    amp = device.type == "cuda" and settings.dtype == "float32"
    settings = replace(settings, amp=amp if settings.amp is None else settings.amp)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    first = processes.rank() == 0
    watcher = watcher if watcher is not None and first else Watcher()
    with _locked(folder, first), _signals() as received:
        state = _found(folder, settings, watcher.said) if resume else None
        run = _Run(Trainer(settings, device), folder, watcher, first=first)
        if first:
            checkpoints.clean(folder)
            if not resume:  # only now: the trainer has taken the settings, and has its data
                _remove(folder)
        if state is not None:
            run.restore(state)
        run.train(checkpoint_every, received)
        return run.conclude()


def _found(folder: Path, settings: Settings, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the state to go on from; None where there is none."""
    with processes.first_process_first():
        state = checkpoints.newest(folder, say)
    if state is not None:
        _require_same(folder, state["settings"], settings.record())
        say(f"going on from step {state['step']} of {folder}")
    return state


def _remove(folder: Path) -> None:
    """Remove what another run left, of its checkpoints the oldest last."""
    for path in [folder / RESULT, folder / METRICS, *checkpoints.found(folder)]:
        path.unlink(missing_ok=True)


def _require_same(folder: Path, was: dict[str, Any], given: dict[str, Any]) -> None:
    for name, value in given.items():
        if was.get(name) != value:
            raise ValueError(
                f"{name} must be {was.get(name)!r}, with which the checkpoint in {folder} was "
                f"made; got {value!r} (another --out, or --no-resume, begins anew)"
            )


@contextmanager
def _locked(folder: Path, first: bool) -> Iterator[None]:
    """Keep a second run out of the folder; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    if not first:
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"out must be a folder that no other run writes to; got {folder}"
            ) from error
        yield


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; a second SIGINT interrupts."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # only the main thread may
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Run:
    """A trainer and its folder."""

    def __init__(self, trainer: Trainer, folder: Path, watcher: Watcher, *, first: bool) -> None:
        self.trainer, self.folder, self.watcher, self.first = trainer, folder, watcher, first
        self.history: list[Row] = []
        self.seconds = 0.0

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint; what was read after it will be read again."""
        self.trainer.restore(state)
        self.history = state["history"]
        self.seconds = state["seconds"]

    def train(self, checkpoint_every: int, received: list[int]) -> None:
        """Make the steps that are left."""
        trainer, settings = self.trainer, self.trainer.settings
        if self.first:
            lines = "".join(map(_line, self.history)).encode()
            write_whole(self.folder / METRICS, lambda file: file.write(lines))
        self.watcher.started(trainer.step, trainer.steps)
        if trainer.step == 0 and settings.evaluate_every:
            self._note({"step": 0} | self._instruments())
        while trainer.step < trainer.steps:
            started = time.perf_counter()
            row = self._advance()
            last = trainer.step == trainer.steps
            self.seconds += time.perf_counter() - started
            if row is not None:
                self._note(row)
            self.watcher.stepped(trainer.step, row)
            stop = processes.any_process(bool(received), trainer.device)
            if last or stop or trainer.step % checkpoint_every == 0:
                self._save()
            if stop and not last:
                raise Stopped(received[0] if received else signal.SIGTERM, trainer.step)

    def _advance(self) -> Row | None:
        """Make a step; return what is read at it, if anything is."""
        trainer, settings = self.trainer, self.trainer.settings
        coming = trainer.step + 1
        last = coming == trainer.steps
        read = last or coming % settings.log_every == 0
        evaluate = last or (settings.evaluate_every and coming % settings.evaluate_every == 0)
        try:
            loss, z = trainer.advance(read=read)
            self._last_loss = loss
            row: Row = {"step": coming}
            if z is not None:
                _require_finite(loss)
                row |= {
                    "loss": loss.item(),
                    "lr": trainer.rate,
                    "batch_spread": diagnostics.spread(z),
                }
            if evaluate:
                row |= self._instruments()
        except (ValueError, FloatingPointError) as error:
            raise TrainingError(f"step {coming} of {trainer.steps}: {error}") from error
        return row if len(row) > 1 else None

    def _instruments(self) -> Row:
        # The first process reads; the others wait for it in the next step.
        return self.trainer.instruments() if self.first else {}

    def _note(self, row: Row) -> None:
        self.history.append(row)
        if self.first:
            with (self.folder / METRICS).open("a") as file:
                file.write(_line(row))

    def _save(self) -> None:
        try:
            _require_finite(self._last_loss)
        except FloatingPointError as error:
            raise TrainingError(f"step {self.trainer.step}: {error}; not saved") from error
        if self.first:
            extra = {"history": self.history, "seconds": self.seconds}
            checkpoints.save(self.folder, self.trainer.state() | extra)

    def conclude(self) -> dict[str, Any]:
        """Probe what was trained, and write it all down."""
        if not self.first:
            return {}
        trainer = self.trainer
        settings = trainer.settings
        assert settings.batch_size is not None
        result = {
            "settings": settings.record(),
            "steps": trainer.steps,
            "final": self.history[-1],
            "probes": trainer.probes(),
            "seconds": self.seconds,
            "steps_per_second": trainer.steps / self.seconds,
            "images_per_second": 2 * settings.batch_size * trainer.steps / self.seconds,
            "hardware": _hardware(trainer.device),
            "versions": _versions(),
        }
        text = json.dumps(result, indent=2).encode() + b"\n"
        write_whole(self.folder / RESULT, lambda file: file.write(text))
        return result


def _require_finite(loss: torch.Tensor) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is no longer finite: {loss.item()}")


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _hardware(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": str(device.type),
        "processes": processes.world_size(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["gpu_memory_peak"] = torch.cuda.max_memory_allocated(device)
    return found


def _versions() -> dict[str, str]:
    names = ("repcollapse", "torch", "numpy", "scikit-learn")
    return {"python": sys.version.split()[0]} | {name: version(name) for name in names}
