"""What the training loop adds to the work that a method prescribes, and what its objective costs.

For each method, many times over in one process: a whole training step of the package;
the same forwards and backwards through bare networks, from a gradient given at their end; and the
objective alone, on embeddings, with the update of what it keeps (a queue, a correlation). The
loop's share is (step - objective) / bare: views, checks, optimiser, bookkeeping. Writes `steps.md`
beside this file.
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from reports import write
from timing import interleaved
from torch import Tensor

from repcollapse.methods import METHODS
from repcollapse.networks import JointEmbedding
from repcollapse.training import Recipe, _step
from repcollapse.views import ViewBank, banks

REPORT = Path(__file__).with_name("steps.md")
BATCH = 256
LIMITS = {"mlp": 1.3, "resnet18": 1.1}
DEEP = ("simclr", "simsiam", "byol")  # without a second side, with a predictor, with a target


def pictures() -> ViewBank:
    """Return a bank of random pictures of CIFAR-10's shape: their content costs nothing."""
    views = torch.randn(2 * BATCH, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2 * BATCH, dtype=torch.long)
    return ViewBank(views, labels, {}, {}, torch.zeros(3), torch.ones(3))


def whole(model: JointEmbedding, recipe: Recipe, bank: ViewBank) -> Callable[[], object]:
    """Return a step of the package's loop."""
    optimizer = recipe.optimizer(model)
    generator = torch.Generator().manual_seed(0)
    return lambda: _step(model, optimizer, bank, BATCH, generator)


def sides(model: JointEmbedding, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the two sides of the objective are made of, through networks alone."""
    z = model.projector(model.encoder(images))
    ahead = z if model.predictor is None else model.predictor(z)
    if model.target is None:
        return ahead, z
    with torch.no_grad():
        return ahead, model.target(images)


def bare(model: JointEmbedding, bank: ViewBank) -> Callable[[], object]:
    """Return the forwards and backwards that the method prescribes."""
    images = torch.cat(bank.sample_pair(BATCH, torch.Generator().manual_seed(0)))

    def run() -> None:
        ahead, _ = sides(model, images)
        model.zero_grad(set_to_none=True)
        ahead.backward(torch.ones_like(ahead))

    return run


def alone(model: JointEmbedding, bank: ViewBank) -> Callable[[], object]:
    """Return the objective, forward and backward, in the directions that the method calls it."""
    images = torch.cat(bank.sample_pair(BATCH, torch.Generator().manual_seed(0)))
    ahead, target = (side.detach() for side in sides(model, images))
    plain = model.predictor is None and model.target is None and not model.stop_gradient
    update = getattr(model.objective, "after_step", None)

    def run() -> None:
        p_a, p_b = ahead.clone().requires_grad_().chunk(2)
        t_a, t_b = target.chunk(2)
        if plain:
            loss = model.objective(p_a, p_b)
        else:
            loss = (model.objective(p_a, t_b) + model.objective(p_b, t_a)) / 2
        loss.backward()
        if update is not None:
            update()

    return run


def measure(name: str, encoder: str, bank: ViewBank, rounds: int) -> dict[str, float]:
    """Return the three times of one method."""
    torch.manual_seed(0)
    recipe = replace(METHODS[name], encoder=encoder, batch_size=BATCH)
    model = recipe.build(bank.shape)
    assert isinstance(model, JointEmbedding)
    parts = {"step": whole(model, recipe, bank), "bare": bare(model, bank)}
    parts |= {"objective": alone(model, bank)}
    return interleaved(parts, rounds=rounds, warm_up=1)


def table(encoder: str, rows: dict[str, dict[str, float]], rounds: int) -> list[str]:
    """Return the rows as Markdown."""
    lines = [
        f"## {encoder}, {BATCH} pairs a step",
        "",
        f"Rounds: {rounds}. The loop's share is to stay below {LIMITS[encoder]}.",
        "",
        "| method | (step - objective) / bare | objective / bare | step, ms |",
        "|---|--:|--:|--:|",
    ]
    for name, t in rows.items():
        share = (t["step"] - t["objective"]) / t["bare"]
        lines.append(
            f"| {name} | {share:.2f} | {t['objective'] / t['bare']:.3f} | {1e3 * t['step']:.1f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="of the small network")
    parser.add_argument("--deep-rounds", type=int, default=3, help="of the ResNet-18")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = [name for name, recipe in METHODS.items() if not recipe.pretext]
    digits, _ = banks("digits", seed=0)
    small = {name: measure(name, "mlp", digits, options.rounds) for name in pairs}
    colour = pictures()
    deep = {name: measure(name, "resnet18", colour, options.deep_rounds) for name in DEEP}
    lines = [
        "# What a training step costs beside the networks",
        "",
        f"{platform.machine()}, one thread, torch {torch.__version__}; medians of CPU time,",
        "all parts of a method timed in turn.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
    ]
    lines += table("mlp", small, options.rounds)
    lines += table("resnet18", deep, options.deep_rounds)
    write(REPORT, "\n".join(lines))
    print(REPORT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
