"""Every method on the whole of CIFAR-10, and what a step of each costs on a GPU.

Needs a GPU. Trains every method by `repcollapse train`, several side by side, each as the package
defines it but for the encoder, a ResNet-18; every one for as many epochs, from the same seed, and
beside them one that stays untrained. Times steps as `bench_steps.py` does. Whatever is known is
written to `cifar10.json` beside this file at once, and `cifar10.md` is made of that. Without a GPU
it only writes `cifar10.md` anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from bench_steps import BATCH, alone, bare
from reports import write
from timing import interleaved

from repcollapse.methods import METHODS
from repcollapse.networks import JointEmbedding
from repcollapse.pretraining import Settings, Trainer
from repcollapse.pretraining.sources import AugmentedSource
from repcollapse.training import pick_device
from repcollapse.views import ViewBank

REPORT = Path(__file__).with_name("cifar10.md")
RECORDS = REPORT.with_suffix(".json")
UNTRAINED = "untrained"
DEVICE = pick_device()
# What differs from the methods' own settings, as options of the command line.
OPTIONS = {
    "dataset": "cifar10",
    "encoder": "resnet18",
    "test_limit": 10_000,
    "probe_limit": 10_000,
    "seed": 0,
}
COLUMNS = {
    "linear, h": ("probes", "linear_probe_h"),
    "linear, z": ("probes", "linear_probe_z"),
    "resolution, h": ("probes", "resolution_probe_h"),
    "resolution, z": ("probes", "resolution_probe_z"),
    "kNN, z": ("probes", "knn_z"),
    "effective rank of z": ("final", "effective_rank"),
    "spread of z": ("final", "spread"),
}


# ----------------------------------------------------------------------------------- accuracies


def arguments(options: dict[str, Any]) -> list[str]:
    """Return options as the command line takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def untrained(folder: Path, options: dict[str, Any]) -> None:
    """Write what the instruments and probes read of the network that all methods begin with."""
    settings = Settings("simclr", amp=False, steps=1, **options)
    trainer = Trainer(settings, DEVICE)
    result = {"settings": settings.record(), "steps": 0}
    result |= {"final": trainer.instruments(), "probes": trainer.probes()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def command(arm: str, folder: Path, options: dict[str, Any], length: list[str]) -> list[str]:
    """Return the command that leaves the arm's result in the folder."""
    if arm == UNTRAINED:
        return [sys.executable, __file__, "--untrained", str(folder), json.dumps(options)]
    return [
        *(sys.executable, "-m", "repcollapse", "train", f"--method={arm}", f"--out={folder}"),
        *("--device=auto", "--channels-last", *arguments(options), *length),
    ]


def run(arm: str, folder: Path, options: dict[str, Any], length: list[str], threads: int) -> Any:
    """Train one arm in a process of its own; return its result, or what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / "log.txt").open("w") as log:
        made = subprocess.run(
            command(arm, folder, options, length),
            check=False,
            stdout=log,
            stderr=log,
            env=environment,
        )
    if made.returncode:
        said = (folder / "log.txt").read_text().strip().splitlines() or [""]
        return {"failed": f"status {made.returncode}: {said[-1]}"}
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def train_all(
    records: dict[str, Any],
    folder: Path,
    options: dict[str, Any],
    length: list[str],
    side_by_side: int,
) -> None:
    """Train every arm, so many at a time, and record each as soon as it is done."""
    # Those with a momentum target take longest and go first, so that all end together.
    arms = sorted(METHODS, key=lambda name: METHODS[name].momentum is None)
    records["runs"] = {}
    records["training"] = {"side_by_side": side_by_side, "length": " ".join(length)}
    threads = max(1, (os.cpu_count() or 1) // side_by_side)
    started = time.perf_counter()
    with ThreadPoolExecutor(side_by_side) as pool:
        waiting = {
            pool.submit(run, arm, folder / arm, options, length, threads): arm
            for arm in [*arms, UNTRAINED]
        }
        for done in as_completed(waiting):
            result = done.result()
            records["runs"][waiting[done]] = result
            records["training"]["seconds"] = time.perf_counter() - started
            record(records)
            readings = result.get("failed") or result["probes"]
            print(
                f"{time.perf_counter() - started:6.1f} s  {waiting[done]}  {readings}", flush=True
            )


# ----------------------------------------------------------------------------------------- steps


def clock() -> float:
    """Return the time once the GPU has done all it was told to."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def random_sources(settings: Settings, device: torch.device) -> tuple[AugmentedSource, ...]:
    """Stand in for the data: random pictures, whose content costs nothing."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (8 * BATCH, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (len(images),), generator=generator)
    mean, std = torch.full((3,), 0.5, device=device), torch.full((3,), 0.3, device=device)
    source = AugmentedSource(images.to(device), labels, mean, std, torch.float32)
    return source, source


def trainer_of(name: str, batch_size: int | None = None) -> Trainer:
    """Return a trainer of the method on random pictures."""
    settings = Settings(
        *(name, "cifar10"),
        encoder="resnet18",
        batch_size=batch_size,
        steps=10**6,
        amp=True,
        channels_last=True,
    )
    with mock.patch("repcollapse.pretraining.trainer.sources", random_sources):
        return Trainer(settings, DEVICE)


def mixed(run: Callable[[], object]) -> Callable[[], object]:
    """Return `run` in mixed precision."""

    def inner() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            run()

    return inner


def measure(name: str, rounds: int) -> dict[str, float]:
    """Return the seconds of a method's step and of its parts."""
    trainer = trainer_of(name, BATCH)
    parts = {"step": trainer.advance, "views": trainer._batch}
    model = trainer.model
    if isinstance(model, JointEmbedding):
        images = torch.cat(trainer._batch()).unflatten(0, (2, BATCH)).transpose(0, 1)
        nothing = torch.empty(0)
        bank = ViewBank(images, torch.zeros(BATCH).long(), {}, {}, nothing, nothing)
        model.train()
        with torch.autocast(DEVICE.type, torch.bfloat16):
            parts |= {"bare": mixed(bare(model, bank)), "objective": mixed(alone(model, bank))}
    seconds = interleaved(parts, rounds=rounds, warm_up=3, clock=clock)
    loss, _ = trainer.advance()
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{name}: the loss is {loss.item()}")
    return seconds


def measure_all(records: dict[str, Any], rounds: int) -> None:
    """Time the steps of every method, and record each as soon as it is done."""
    records["steps"] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "rounds": rounds,
        "seconds": {},
    }
    for name in METHODS:
        records["steps"]["seconds"][name] = measure(name, rounds)
        record(records)
        print(name, records["steps"]["seconds"][name], flush=True)


# ---------------------------------------------------------------------------------------- report


def record(records: dict[str, Any]) -> None:
    """Write the records as they are now."""
    write(RECORDS, json.dumps(records, indent=1))


def accuracies(records: dict[str, Any]) -> list[str]:
    """Return what came of the runs as Markdown."""
    whole = {arm: result for arm, result in records["runs"].items() if "failed" not in result}
    failed = {arm: result for arm, result in records["runs"].items() if "failed" in result}
    lines = ["## What came of it", ""]
    if trained := [whole[arm] for arm in METHODS if arm in whole]:
        lines += [*conditions(trained, records["training"]), ""]
    lines += [
        f"| method | dimension of z | {' | '.join(COLUMNS)} |",
        f"|---|{'--:|' * (1 + len(COLUMNS))}",
        *(row(arm, whole[arm]) for arm in [UNTRAINED, *METHODS] if arm in whole),
    ]
    if UNTRAINED in whole:
        lines += ["", below(whole)]
    for arm, result in failed.items():
        lines += ["", f"`{arm}` did not end well: {result['failed']}."]
    return [*lines, ""]


def conditions(trained: list[dict[str, Any]], training: dict[str, Any]) -> list[str]:
    """Return under what conditions the runs were made; all were made under the same."""
    settings, hardware, versions = (
        trained[0][part] for part in ("settings", "hardware", "versions")
    )
    peaks = sorted(result["hardware"].get("gpu_memory_peak", 0) / 1e9 for result in trained)
    images = sum(2 * result["settings"]["batch_size"] * result["steps"] for result in trained)
    chance = trained[0]["probes"]["chance"]
    return [
        f"One {hardware.get('gpu', 'CPU')}, {hardware['cpus']} CPU cores, torch "
        f"{versions['torch']}, Python {versions['python']}.",
        f"Every method for {settings['epochs']} epochs of the 50,000 training images "
        f"({trained[0]['steps']:,} steps), one seed;",
        f"{training['side_by_side']} runs side by side, {training['seconds'] / 60:.1f} minutes "
        "for all of them with their probes:",
        f"{images / training['seconds']:,.0f} images/s together, "
        f"{peaks[0]:.1f} to {peaks[-1]:.1f} GB of GPU memory a run.",
        "ResNet-18 with the stem for small images, bfloat16 autocast, channels-last, views made on",
        "the GPU. All else is the methods' own: batches of "
        f"{settings['batch_size']} pairs, Adam from {settings['lr']:g}",
        f"along a cosine to 0, weight decay {settings['weight_decay']:g}.",
        "",
        "Accuracies in %, of probes fitted on two augmented views of each of "
        f"{settings['probe_limit']:,} training images",
        f"and scored on one augmented view of each of the {settings['test_limit']:,} test images. "
        "That is not the",
        "protocol of the literature, which fits on all training images as they are. An answer by",
        f"chance is right in {100 * chance:.0f} %. The test images alone make for a standard error "
        "of half a point; what",
        "another seed would make of it was not measured, and nothing was tuned to this length or",
        "this network: the table says what the package does there, not which method is best.",
    ]


def below(whole: dict[str, Any]) -> str:
    """Return which methods' h reads no better than that of the network they began with."""
    part, key = COLUMNS["linear, h"]
    least = whole[UNTRAINED][part][key]
    names = [f"`{arm}`" for arm in METHODS if arm in whole and whole[arm][part][key] <= least]
    return f"No better than untrained by the linear probe of h: {', '.join(names) or 'none'}."


def row(arm: str, result: dict[str, Any]) -> str:
    """Return one arm's row."""
    pretext = arm in METHODS and METHODS[arm].pretext
    cells = [arm, "512, z = h" if pretext else str(result["settings"]["dimension"])]
    for part, key in COLUMNS.values():
        value = result[part][key]
        if part == "probes":
            cells.append(f"{100 * value:.1f}")
        else:
            cells.append(f"{value:.1f}" if key == "effective_rank" else f"{value:.3f}")
    return f"| {' | '.join(cells)} |"


def costs(steps: dict[str, Any]) -> list[str]:
    """Return what steps cost as Markdown."""
    lines = [
        f"## What a step costs, {BATCH} pairs",
        "",
        f"One {steps['gpu']}, torch {steps['torch']}, one process alone on it; medians of "
        f"{steps['rounds']} rounds of wall",
        "time, the GPU waited for. Random pictures; precision and memory format as above. As in",
        "`steps.md`, bare is the forwards and backwards that the method prescribes, through",
        "networks alone. The step has the views in it, whose parameters are drawn on the CPU and",
        "which are made on the GPU; the last column leaves them out.",
        "",
        "| method | step, ms | images/s | views, ms | bare, ms | objective, ms "
        "| (step - objective) / bare | (step - objective - views) / bare |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, t in steps["seconds"].items():
        cells = [name, f"{1e3 * t['step']:.1f}", f"{2 * BATCH / t['step']:,.0f}"]
        cells.append(f"{1e3 * t['views']:.1f}")
        if "bare" in t:
            rest = t["step"] - t["objective"]
            cells += [f"{1e3 * t['bare']:.1f}", f"{1e3 * t['objective']:.1f}"]
            cells += [f"{rest / t['bare']:.2f}", f"{(rest - t['views']) / t['bare']:.2f}"]
        else:
            cells += ["–"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def report(records: dict[str, Any]) -> None:
    """Write the report from what was recorded."""
    lines = [
        "# CIFAR-10 with ResNet-18",
        "",
        f"Written by `benchmarks/{Path(__file__).name}` from `{RECORDS.name}`.",
        "",
    ]
    if "runs" in records:
        lines += accuracies(records)
    if "steps" in records:
        lines += costs(records["steps"])
    write(REPORT, "\n".join(lines))
    print(REPORT.read_text(encoding="utf-8"))


def main() -> None:
    """Measure what is asked for, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--side-by-side", type=int, default=6, help="runs at a time")
    parser.add_argument("--rounds", type=int, default=10, help="of the timing of steps")
    parser.add_argument("--parts", nargs="*", choices=["steps", "runs"], default=["steps", "runs"])
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"), help="of the runs")
    parser.add_argument("--untrained", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.untrained:
        folder, given = options.untrained
        untrained(Path(folder), json.loads(given))
        return
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}
    if DEVICE.type != "cuda":
        print(f"no GPU: {REPORT.name} is written from the records there are\n")
    else:
        if "steps" in options.parts:
            measure_all(records, options.rounds)
        if "runs" in options.parts:
            length = [f"--epochs={options.epochs}"]
            train_all(records, options.out, OPTIONS, length, options.side_by_side)
    report(records)


if __name__ == "__main__":
    main()
