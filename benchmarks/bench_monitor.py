"""What a monitor costs, what it makes of healthy runs, and when it sees a collapse.

The cost is that of steps with a monitor over the same steps without, an interval at a time, in
turn. Healthy runs are those of every method of the book at its defaults, on digits; collapsing
ones have their remedy taken away. Writes `monitor.md` beside this file.
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from reports import write
from timing import interleaved

from repcollapse import objectives
from repcollapse.methods import METHODS
from repcollapse.monitor import Monitor
from repcollapse.networks import Model
from repcollapse.training import Recipe, _step, calibrate, seeded, seeded_step
from repcollapse.views import ViewBank, banks

REPORT = Path(__file__).with_name("monitor.md")
CPU = torch.device("cpu")
BATCH, STEPS, LIMIT = 256, 400, 1.03
COLLAPSING = {
    "simsiam without stop-gradient": replace(METHODS["simsiam"], stop_gradient=False),
    "simsiam without batch norm": replace(METHODS["simsiam"], norm="none"),
    "invariance": METHODS["invariance"],
    "byol without predictor": replace(METHODS["byol"], predictor="none"),
    "vicreg without covariance": replace(
        METHODS["vicreg"], objective=partial(objectives.vicreg, covariance=0.0)
    ),
}
HEALTHY = {name: recipe for name, recipe in METHODS.items() if name not in COLLAPSING}
TIMED = ("simsiam", "vicreg", "byol")


def layers(model: Model) -> dict[str, torch.nn.Module]:
    """Return everything that is worth a look."""
    found = {"backbone": model.encoder}
    for name in ("projector", "target"):
        if isinstance(module := getattr(model, name, None), torch.nn.Module):
            found[name] = module
    return found


def made(recipe: Recipe, bank: ViewBank, seed: int) -> tuple[Model, torch.optim.Optimizer]:
    """Return a model as `repcollapse.training.train` begins with it."""
    with seeded(seed, CPU):
        model = recipe.build(bank.shape)
        calibrate(model, bank)
    return model, recipe.optimizer(model)


def watch(recipe: Recipe, bank: ViewBank, seed: int, steps: int) -> Monitor:
    """Train as the chapters do, watched, and return the monitor."""
    model, optimizer = made(recipe, bank, seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(seed)
    with Monitor(model, layers(model), warn=False) as monitor:
        for step in range(steps):
            with seeded_step(seed, step, CPU):
                _step(model, optimizer, bank, recipe.batch_size, generator)
            schedule.step()
            monitor.step()
    return monitor


def interval(
    recipe: Recipe, bank: ViewBank, names: tuple[str, ...]
) -> tuple[Callable[[], object], Monitor | None]:
    """Return the steps of one interval, with a monitor of the layers named, if there are any."""
    recipe = replace(recipe, batch_size=BATCH)
    model, optimizer = made(recipe, bank, 0)
    generator = torch.Generator().manual_seed(0)
    every = {name: module for name, module in layers(model).items() if name in names}
    monitor = Monitor(model, every) if every else None

    def run() -> None:
        for _ in range(monitor.every if monitor else 25):
            _step(model, optimizer, bank, BATCH, generator)
            if monitor:
                monitor.step()

    return run, monitor


def costs(bank: ViewBank, rounds: int) -> list[str]:
    """Return the table of costs."""
    lines = [
        "## Cost",
        "",
        f"{BATCH} pairs a step, the default MLP; every 25 steps, 256 rows of each layer. Rounds: "
        f"{rounds}.",
        f"The ratio is to stay at or below {LIMIT}.",
        "",
        "| method | layers | with / without | a reading of a layer, ms | step, ms |",
        "|---|---|--:|--:|--:|",
    ]
    for name in TIMED:
        every = tuple(layers(made(METHODS[name], bank, 0)[0]))
        sets = [(), ("projector",), ("backbone", "projector"), every]
        parts = {chosen: interval(METHODS[name], bank, chosen)[0] for chosen in dict.fromkeys(sets)}
        seconds = interleaved(
            {", ".join(chosen): run for chosen, run in parts.items()}, rounds=rounds, warm_up=4
        )
        plain = seconds.pop("")
        for watched, spent in seconds.items():
            count = watched.count(",") + 1
            lines.append(
                f"| {name} | {watched} | {spent / plain:.3f} | {1e3 * (spent - plain) / count:.1f} "
                f"| {1e3 * plain / 25:.1f} |"
            )
    return [*lines, ""]


def healthy(seeds: range, names: list[str]) -> list[str]:
    """Return the table of healthy runs."""
    lines = [
        "## Healthy runs",
        "",
        f"{STEPS} steps on {len(seeds)} seeds from {seeds[0]}, digits. No layer of any is to be "
        "called collapsed.",
        "",
        "| method | readings | cone | unconfirmed | called collapsed | least spread | least "
        "dimensions of 99 % |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    wrong = 0
    for name in names:
        readings = cones = doubts = alarms = 0
        spread = dimensions = float("inf")
        for seed in seeds:
            bank, _ = banks("digits", seed=seed)
            monitor = watch(HEALTHY[name], bank, seed, STEPS)
            history = monitor.history
            assert not {*history["verdict"][history["step"] < 25]} - {"too-early"}
            readings += len(history["step"])
            cones += int((history["verdict"] == "cone").sum())
            doubts += int((history["verdict"] == "unconfirmed").sum())
            alarms += len(monitor.alarms)
            spread = min(spread, history["spread"].min())
            dimensions = min(dimensions, history["dimensions_99"].min())
        wrong += alarms
        lines.append(
            f"| {name} | {readings} | {cones} | {doubts} | {alarms} | {spread:.2f} | "
            f"{dimensions:.1f} |"
        )
        print(lines[-1], flush=True)
    return [*lines, "", f"Layers called collapsed: {wrong}.", ""]


def collapsing(seeds: range) -> list[str]:
    """Return the table of runs that collapse."""
    lines = [
        "## Runs that collapse",
        "",
        f"{STEPS} steps on the same seeds; by seed, the step at which the projector was called "
        "collapsed, and how. SimSiam without stop-gradient is to be caught within 100.",
        "",
        "| run | steps |",
        "|---|---|",
    ]
    for name, recipe in COLLAPSING.items():
        found = []
        for seed in seeds:
            bank, _ = banks("digits", seed=seed)
            alarm = watch(recipe, bank, seed, STEPS).alarms.get("projector")
            found.append("not" if alarm is None else f"{alarm.step} {alarm.verdict}")
        lines.append(f"| {name} | {', '.join(found)} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="of the costs")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=300)
    parser.add_argument("--only", nargs="*", choices=list(HEALTHY), help="healthy runs of these")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    bank, _ = banks("digits", seed=0)
    lines = [
        "# What a monitor costs and sees",
        "",
        f"{platform.machine()}, one thread, torch {torch.__version__}; medians of CPU time.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
    ]
    seen = collapsing(seeds) + healthy(seeds, options.only or list(HEALTHY))
    lines += costs(bank, options.rounds) + seen
    write(options.report, "\n".join(lines))


if __name__ == "__main__":
    main()
