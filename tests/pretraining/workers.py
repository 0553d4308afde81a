"""What the processes of the distributed tests run; light, since each of them imports it."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from repcollapse.methods import METHODS
from repcollapse.objectives import negative_cosine, w_mse
from repcollapse.pretraining import Settings, Trainer
from repcollapse.pretraining.processes import SyncedBatchNorm, synchronise_batch_norm
from repcollapse.training import Recipe

WORLD = 2
STEPS = 50

# Beside the methods themselves: what their defaults leave out.
EXTRA = {
    "w_mse in slices": Recipe(partial(w_mse, shrinkage=1e-3, slices=2), dimension=8),
    "gradient through the target": Recipe(
        negative_cosine, predictor="mlp", momentum=0.9, stop_gradient=False, output_norm=True
    ),
    "vicreg on conv": replace(METHODS["vicreg"], encoder="conv"),
}


def settings_of(name: str, dtype: str) -> Settings:
    """A batch of 40: neither it nor a half of it divides by the 24 orders of a jigsaw.

    More samples than dimensions: DirectPred takes roots of the correlation's spectrum, and at an
    eigenvalue of 0 they make 1e-8 of a rounding of 1e-16, on one process as on two.
    """
    sizes = {} if METHODS[name].pretext else {"dimension": 16}
    return Settings(
        name, "digits", steps=STEPS, batch_size=40, limit=96, test_limit=40, dtype=dtype, seed=3,
        **sizes,
    )  # fmt: skip


def trained(name: str, dtype: str, steps: int) -> dict[str, Any]:
    trainer = Trainer(settings_of(name, dtype), torch.device("cpu"))
    losses, gradients = [], {}
    for step in range(steps):
        loss, z = trainer.advance(read=step == steps - 1)
        losses.append(float(loss))
        if step == 0:
            learned = trainer.model.named_parameters()
            gradients = {n: p.grad.clone() for n, p in learned if p.grad is not None}
    return {"losses": losses, "gradients": gradients, "z": z, "state": trainer.model.state_dict()}


def train_all() -> dict[str, dict[str, Any]]:
    METHODS.update(EXTRA)
    torch.set_num_threads(1)
    result = {}
    for name in METHODS:
        result[name] = trained(name, "float64", STEPS)
        result[f"{name}, float32"] = trained(name, "float32", 1)
    for name in EXTRA:
        del METHODS[name]
    return result


def norms(rank: int, norm: nn.Module, x: Tensor, g: Tensor) -> dict[str, Tensor | None]:
    """One training step of a norm on this rank's rows."""
    # A copy: what is sent to a process stays shared with it, buffers included.
    synced = synchronise_batch_norm(copy.deepcopy(norm), torch.device("cpu"))
    assert isinstance(synced, SyncedBatchNorm)
    part = len(x) // WORLD
    rows = slice(rank * part, (rank + 1) * part)
    own = x[rows].clone().requires_grad_()
    y = synced(own)
    y.backward(g[rows])
    learned = {f"gradient of {name}": p.grad for name, p in synced.named_parameters()}
    return {"y": y.detach(), "gradient of x": own.grad} | learned | dict(synced.named_buffers())


def run(rank: int, folder: str, cases: dict[str, tuple[nn.Module, Tensor, Tensor]]) -> None:
    """Everything that needs two processes, in one pair of them."""
    init = f"file://{folder}/group"
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=WORLD)
    read = {name: norms(rank, *case) for name, case in cases.items()}
    torch.save({"norms": read, "trained": train_all()}, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()
