"""What `repcollapse diagnose` costs on a file that is larger than its memory, and on two processes.

The file is random and made beside the system's temporary files. What a user would do instead is to
load it and ask numpy for the singular values. Two processes are started by torchrun and share the
rows; every process of every arm has one thread. Time after start-up is that of the file less that
of few rows in a file of their own; the arms take turns. Writes `command.md` beside this file.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from reports import write

REPORT = Path(__file__).with_name("command.md")
D, BLOCK, FEW = 512, 50_000, 2_048
SAMPLED = ("uniformity", "intrinsic_dimension", "outliers", "duplicates", "points")
SAMPLED += ("point_radius", "point_company", "distinct")
ASK = ["-m", "repcollapse", "diagnose"]
INSTEAD = (
    "import sys, numpy as np; z = np.load(sys.argv[1]); "
    "print(np.linalg.svd(z - z.mean(axis=0), compute_uv=False)[:3])"
)


@dataclass(frozen=True)
class Run:
    """One process and its children: seconds on the clock and of CPU, most MiB of its own memory."""

    wall: float
    cpu: float
    anonymous: float


def make(path: Path, rows: int) -> None:
    """Write random rows, none of them zero, a block at a time."""
    generator = np.random.default_rng(0)
    np.lib.format.open_memmap(path, "w+", np.float32, (rows, D)).flush()
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        for start in range(0, rows, BLOCK):
            block = generator.random((min(BLOCK, rows - start), D), dtype=np.float32)
            (block - np.float32(0.5)).tofile(file)


def watched(*command: str) -> Run:
    """Run a command, and look ten times a second at its anonymous memory (Linux alone has it)."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    ) as process:
        most = 0
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
            most = max([most, *(int(x.split()[1]) for x in lines if x.startswith("RssAnon"))])
            time.sleep(0.1)
    wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, most / 1024)


def arms(folder: Path, name: str) -> dict[int, list[str]]:
    """Return the commands on one process and on two."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    asked = {
        count: [*ASK, str(folder / f"{name}.npy"), "--json", str(folder / f"{count}.json")]
        for count in (1, 2)
    }
    return {1: asked[1], 2: [*launcher, *asked[2]]}


def apart(folder: Path) -> dict[bool, float]:
    """Return how far the numbers of two processes are from those of one: spectral, and of pairs."""
    one, two = (json.loads((folder / f"{k}.json").read_text())["metrics"] for k in (1, 2))
    most = {False: 0.0, True: 0.0}
    for name, value in one.items():
        if value is not None and math.isfinite(value):
            off = abs(two[name] - value) / max(abs(value), 1e-300) if two[name] != value else 0.0
            most[name in SAMPLED] = max(most[name in SAMPLED], off)
    return most


def processes(folder: Path, rows: int, rounds: int) -> list[str]:
    """Return the table of one process and two."""
    make(folder / "z.npy", rows)
    make(folder / "few.npy", FEW)
    whole: dict[int, list[Run]] = {1: [], 2: []}
    start: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(rounds):
        for count, command in arms(folder, "few").items():
            start[count].append(watched(*command))
        for count, command in arms(folder, "z").items():
            whole[count].append(watched(*command))
    off = apart(folder)
    walls = {k: median(run.wall for run in whole[k]) for k in (1, 2)}
    starts = {k: median(run.wall for run in start[k]) for k in (1, 2)}
    ratios = sorted(
        (two.wall - starts[2]) / (one.wall - starts[1])
        for one, two in zip(whole[1], whole[2], strict=True)
    )
    cpu = {k: median(run.cpu for run in whole[k]) for k in (1, 2)}
    (folder / "z.npy").unlink()
    return [
        f"## Two processes, {rows:,} x {D} float32, {rows * D * 4 / 1e9:.1f} GB",
        "",
        f"Medians of {rounds} rounds; start-up is a run on {FEW:,} rows.",
        "",
        "| | one process | two | two / one | wanted |",
        "|---|--:|--:|--:|---|",
        f"| seconds on the clock | {walls[1]:.1f} | {walls[2]:.1f} | {walls[2] / walls[1]:.2f} | |",
        f"| of these start-up | {starts[1]:.1f} | {starts[2]:.1f} | | |",
        f"| after start-up | {walls[1] - starts[1]:.1f} | {walls[2] - starts[2]:.1f} "
        f"| {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | at most 0.6 |",
        f"| CPU seconds, all processes | {cpu[1]:.1f} | {cpu[2]:.1f} | {cpu[2] / cpu[1]:.2f} | |",
        "",
        f"Relative difference of the numbers, at most: {off[False]:.1e} of those of the spectrum "
        "(wanted: 1e-10),",
        f"{off[True]:.1e} of those of the sample of pairs (wanted: 1e-6).",
        f"{os.cpu_count()} processors, load average {os.getloadavg()[1]:.1f} over the last five "
        "minutes: where other programs keep",
        "them busy, two processes get a larger share of them than one, or wait for each other.",
        "",
    ]


def memory(folder: Path, rows: int, large: int) -> list[str]:
    """Return the table of memory."""
    lines = [
        "## Memory",
        "",
        "The most anonymous memory (`RssAnon`) of the process, looked at ten times a second; the "
        "file itself is mapped.",
        "",
        "| what | file, GB | MiB | CPU seconds | wanted |",
        "|---|--:|--:|--:|---|",
    ]
    for count, label in (
        (FEW, "`diagnose`, start-up"),
        (rows, "`diagnose`"),
        (large, "`diagnose`"),
    ):
        make(folder / "z.npy", count)
        run = watched(*arms(folder, "z")[1])
        size = count * D * 4 / 1e9
        wanted = "at most 2048" if count == large else ""
        lines.append(f"| {label} | {size:.3g} | {run.anonymous:.0f} | {run.cpu:.1f} | {wanted} |")
        if count == rows:
            run = watched("-c", INSTEAD, str(folder / "z.npy"))
            lines.append(
                f"| `numpy.linalg.svd`, one spectrum | {size:.3g} | {run.anonymous:.0f} "
                f"| {run.cpu:.1f} | |"
            )
        (folder / "z.npy").unlink()
    return [*lines, ""]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the file of two processes")
    parser.add_argument("--large", type=int, default=10_000_000, help="of the largest file: 20 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where there is room; by default the system's")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args()
    lines = [
        "# What the command line costs",
        "",
        f"{platform.machine()}, one thread a process (`OMP_NUM_THREADS=1`), torch "
        f"{torch.__version__}.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
    ]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        lines += processes(folder, options.rows, options.rounds)
        lines += memory(folder, options.rows, options.large)
    write(options.report, "\n".join(lines))
    sys.stdout.write(options.report.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
