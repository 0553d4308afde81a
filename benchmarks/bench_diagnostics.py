"""What the measures cost beside what a user would do instead, as ratios of CPU time.

Every line of a table is timed in turn with its yardstick, several rounds in one process and with
one thread, and the medians are compared; peak memory is that of a process of its own, above what
the data and the imports take. Writes `diagnostics.md` beside this file.
"""

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from reports import write
from timing import by_round, interleaved
from torch import Tensor

from repcollapse import diagnostics
from repcollapse.diagnostics import EmbeddingMoments, JackknifeMoments, Moments

REPORT = Path(__file__).with_name("diagnostics.md")
N, D = 50_000, 512
PAIRS, WIDTH = 20_000, 128  # pdist of as many float32 rows takes 0.8 GiB, and twice for the rest
ROUNDS = 15
IMPORTS = 10
PEAKS = ("moments", "moments and unit rows", "svdvals", "uniformity")


def scatter(z: Tensor) -> object:
    return diagnostics.spectral_measures(EmbeddingMoments.of(z, units=False))


def directions(z: Tensor) -> object:
    return diagnostics.spectral_measures(EmbeddingMoments.of(z))


def spectral() -> list[str]:
    z = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    double = z.double()
    functions: dict[str, Callable[[], object]] = {
        "bare": lambda: double.T @ double,
        "scatter": lambda: scatter(z),
        "directions": lambda: directions(z),
        "moments": lambda: Moments.of(z),
        "intervals": lambda: diagnostics.jackknife_intervals(JackknifeMoments.of(z)),
        "half": lambda: z.T @ z,
        "svd64": lambda: torch.linalg.svdvals(double),
        "svd32": lambda: torch.linalg.svdvals(z),
    }
    taken = by_round(functions, rounds=ROUNDS, warm_up=1)
    seconds = {name: median(values) for name, values in taken.items()}
    best = {name: min(values) for name, values in taken.items()}
    rows = [
        ("centred and uncentred scatter, all measures", "scatter", "bare", 0.9, "most"),
        ("the same, and those of the unit rows", "directions", "bare", 1.8, "most"),
        ("float64 `svdvals`, once", "svd64", "scatter", 2.5, "least"),
        ("float32 `svdvals`, once", "svd32", "scatter", 1.0, "least"),
        ("the moments alone", "moments", "bare", None, ""),
        ("float32 `Z.T @ Z`", "half", "bare", None, ""),
        ("all measures with jackknife intervals, 16 blocks", "intervals", "bare", None, ""),
    ]
    names = {"bare": "float64 `Z.T @ Z`", "scatter": "our measures of the scatter"}
    lines = [
        f"## Spectral measures, {N:,} x {D} float32",
        "",
        "| what | seconds | over | ratio | of the best rounds | wanted |",
        "|---|--:|---|--:|--:|---|",
    ]
    for label, name, over, limit, side in rows:
        wanted = f"at {side} {limit}" if limit else ""
        ratio, least = seconds[name] / seconds[over], best[name] / best[over]
        lines.append(
            f"| {label} | {seconds[name]:.3f} | {names[over]} | {ratio:.2f} | {least:.2f} "
            f"| {wanted} |"
        )
    rate = 2 * N * D**2 / seconds["bare"] / 1e9
    lines += [
        "",
        f"The product itself ran at {rate:.0f} Gflop/s. It is torch's, a general product; a "
        "symmetric one",
        "does half the work, so that 0.5 is the limit of this machine at equal efficiency. What",
        "else runs on the machine takes cache, and costs the blocked update more than the plain",
        "product: the best rounds are the least disturbed.",
        "",
    ]
    return lines


def pasted_uniformity(z: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(z, dim=1)
    return torch.pdist(unit).square().mul(-2).exp().mean().log()


def pairs() -> list[str]:
    z = torch.randn(PAIRS, WIDTH, generator=torch.Generator().manual_seed(0))
    both = {"ours": lambda: diagnostics.uniformity(z), "pdist": lambda: pasted_uniformity(z)}
    seconds = interleaved(both, rounds=3, warm_up=1)
    large = torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0))
    alone = {
        "uniformity": lambda: diagnostics.uniformity(large),
        "dimension": lambda: diagnostics.intrinsic_dimension(z),
    }
    seconds |= interleaved(alone, rounds=1, warm_up=0)
    return [
        "## Measures of pairs",
        "",
        "| what | seconds | over ours | wanted |",
        "|---|--:|--:|---|",
        f"| `uniformity`, float64, {PAIRS:,} x {WIDTH} | {seconds['ours']:.2f} | 1 | |",
        f"| float32 `pdist`, pasted from the paper | {seconds['pdist']:.2f} "
        f"| {seconds['pdist'] / seconds['ours']:.2f} | at least 1.5 |",
        f"| `uniformity`, {N:,} x {WIDTH} | {seconds['uniformity']:.2f} | | |",
        f"| `intrinsic_dimension`, {PAIRS:,} x {WIDTH} | {seconds['dimension']:.2f} | | |",
        "",
    ]


def peak(name: str) -> None:
    """Print by how many MiB the call raised the peak of this process."""
    width = WIDTH if name == "uniformity" else D
    z = torch.randn(N, width, generator=torch.Generator().manual_seed(0))
    functions: dict[str, Callable[[Tensor], object]] = {
        "moments": scatter,
        "moments and unit rows": directions,
        "svdvals": lambda rows: torch.linalg.svdvals(rows.double()),
        "uniformity": diagnostics.uniformity,
    }
    functions[name](z[:64, :8].clone())  # what is imported, but no block of this width
    before = high_water()
    functions[name](z)
    sys.stdout.write(f"{high_water() - before}\n")


def high_water() -> float:
    """Return the peak memory of this process in MiB. Linux alone tells it without the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) / 1024


def child(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True
    ).stdout


def memory() -> list[str]:
    labels = {
        "moments": f"all measures of the scatter, {N:,} x {D}",
        "moments and unit rows": f"all measures, {N:,} x {D}",
        "svdvals": f"float64 `svdvals`, {N:,} x {D}",
        "uniformity": f"`uniformity`, {N:,} x {WIDTH}",
    }
    lines = ["## Memory, above the embeddings", "", "| what | MiB |", "|---|--:|"]
    for name in PEAKS:
        lines.append(f"| {labels[name]} | {float(child(__file__, '--peak', name)):.0f} |")
    return [*lines, ""]


def imports() -> list[str]:
    program = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"
    statements = {
        "import torch": "import torch",
        "import torch, repcollapse": "import torch, repcollapse",
        "import torch, repcollapse.diagnostics": "import torch, repcollapse.diagnostics",
    }
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(IMPORTS):
        for name, statement in statements.items():
            seconds[name].append(float(child("-c", program.format(statement))))
    base = median(seconds["import torch"])
    lines = ["## Imports, medians of ten", "", "| what | seconds | added | wanted |"]
    lines.append("|---|--:|--:|---|")
    for name, values in seconds.items():
        wanted = "at most 0.3" if name.endswith("repcollapse") else ""
        lines.append(
            f"| `{name}` | {median(values):.2f} | {median(values) - base:.2f} | {wanted} |"
        )
    return lines


def main() -> None:
    """Measure and write the report."""
    if sys.argv[1:2] == ["--peak"]:
        peak(sys.argv[2])
        return
    torch.set_num_threads(1)
    lines = [
        "# What the measures cost",
        "",
        f"{platform.machine()}, one thread (`OMP_NUM_THREADS=1`), torch {torch.__version__}; CPU",
        f"seconds, medians of {ROUNDS} rounds in which all of a table are timed in turn.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
        *spectral(),
        *pairs(),
        *memory(),
        *imports(),
    ]
    write(REPORT, "\n".join(lines))
    sys.stdout.write(REPORT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
