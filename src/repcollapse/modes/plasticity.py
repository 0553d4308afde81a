"""A stream of tasks that share nothing, and what becomes of a network that learns all of them.

Every task is to memorise the same images under new random labels, so that no task is harder than
the one before, and a fresh network learns each equally well. What a trained one has lost is seen as
what it fails to learn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from repcollapse import _checks
from repcollapse.checkups import dormant_share
from repcollapse.data import stream
from repcollapse.diagnostics import effective_rank
from repcollapse.modes.learner import (
    ARMS,
    CLASSES,
    HEADS,
    WIDTH,
    Learner,
    fresh_start,
    penalty,
    recycle,
)
from repcollapse.modes.pictures import pictures
from repcollapse.modes.runs import fit
from repcollapse.training import pick_device

IMAGES, TASKS, LR = 300, 14, 5e-3
REDO_EVERY, SHRINK = 40, 0.4  # steps between two recyclings; what is kept of weights
LATE = 5  # tasks at the end of the stream, whose mean says what can still be learnt


@dataclass(frozen=True, eq=False)
class Trained:
    """What a network went through, task by task.

    Attributes
    ----------
    history
        A row for each task, read when it ends: "task", counted from 1; "accuracy", the share of
        its labels that are learnt; "dormant", the share of units that are; "rank", the effective
        rank of the second layer; and "weights", the length of all weights and biases.
    activations
        Those of the second layer, on the CPU, shape (images, units), by task.
    """

    history: pd.DataFrame
    activations: dict[int, Tensor] = field(repr=False)

    @property
    def first(self) -> float:
        """Accuracy at the end of the first task."""
        return float(self.history["accuracy"].iloc[0])

    @property
    def late(self) -> float:
        """Mean accuracy at the end of the last five tasks."""
        return float(self.history["accuracy"].iloc[-LATE:].mean())

    @property
    def dormant_first(self) -> float:
        """Share of dormant units at the end of the first task."""
        return float(self.history["dormant"].iloc[0])

    @property
    def dormant(self) -> float:
        """Share of dormant units at the end of the last task."""
        return float(self.history["dormant"].iloc[-1])

    @property
    def rank_kept(self) -> float:
        """Effective rank at the end of the last task over that at the end of the first."""
        return float(self.history["rank"].iloc[-1] / self.history["rank"].iloc[0])


def images(dataset: str, seed: int) -> Tensor:
    """Return 300 training images as rows, about the mean picture, with mean square 1 over all.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, ConnectionError, ImportError
        As :func:`repcollapse.modes.pictures.pictures` does.
    """
    return pictures(dataset, seed, about="pixels").train[:IMAGES].flatten(1)


def tasks(images: int, seed: int, count: int = TASKS) -> Tensor:
    """Return random labels of so many images for a number of tasks, int64, shape (count, images).

    Examples
    --------
    >>> tasks(300, 0, 2).shape, bool((tasks(300, 0, 2) == tasks(300, 0)[:2]).all())
    (torch.Size([2, 300]), True)
    """
    return torch.randint(CLASSES, (count, images), generator=stream(seed, "labels of tasks"))


def train(
    arm: str, seed: int, *, steps: int, dataset: str = "digits", device: str = "auto"
) -> Trained:
    """Teach a network fourteen tasks one after another, with one means against losing plasticity.

    Parameters
    ----------
    arm
        "Adam alone": none. "ReDo": dormant units are recycled every 40 steps. "LayerNorm". "L2
        Init" and "InFeR": see :func:`repcollapse.modes.learner.penalty`. "LayerNorm + L2 Init".
        "shrink and perturb": at the end of a task, 0.4 of the weights plus 0.6 fresh ones. "drawn
        anew": all weights are, at the end of a task.
    seed
        Governs the images and their labels. Weights come from torch's global generator, which
        :func:`repcollapse.modes.runs.once` seeds.
    steps
        Full-batch steps of Adam a task, >= 1.
    dataset, device
        As in :func:`repcollapse.data.load`; "auto" or a torch device.

    Returns
    -------
    Trained
        A row of the history for each of fourteen tasks; activations on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    Examples
    --------
    >>> trained = train("ReDo", 0, steps=1, device="cpu")
    >>> len(trained.history), tuple(trained.activations[14].shape)
    (14, (300, 64))
    """
    _checks.choice("arm", arm, ARMS)
    steps = _checks.integer("steps", steps, at_least=1)
    place = pick_device(device)
    x = images(dataset, seed).to(place)
    labels = tasks(len(x), seed).to(place)
    model = Learner(x.shape[1], norm="layer" if "LayerNorm" in arm else "none").to(place)
    heads = nn.Linear(WIDTH, HEADS, bias=False).to(place)
    added = penalty(arm, model, heads, x)
    weights = [*model.parameters(), *(heads.parameters() if arm == "InFeR" else ())]
    adam = torch.optim.Adam(weights, lr=LR, fused=True)
    rows: list[dict[str, float]] = []
    activations: dict[int, Tensor] = {}

    def loss(step: int) -> Tensor:
        *_, hidden = model.hidden(x)
        return F.cross_entropy(model.linear[-1](hidden), labels[step // steps]) + added(hidden)

    def watch(step: int) -> None:
        task, left = divmod(step, steps)
        if left == 0:
            rows.append({"task": task, **_read(model, x, labels[task - 1])})
            activations[task] = model.hidden(x)[-1].cpu()
            if arm in ("drawn anew", "shrink and perturb"):
                fresh_start(model, adam, kept=SHRINK if arm == "shrink and perturb" else 0.0)
        if arm == "ReDo" and step % REDO_EVERY == 0 and task < TASKS:
            recycle(model, adam, x)

    total = steps * TASKS
    redo = range(REDO_EVERY, total, REDO_EVERY) if arm == "ReDo" else ()
    fit(adam, loss, steps=total, watch=watch, at={*range(steps, total + 1, steps), *redo})
    return Trained(pd.DataFrame(rows), activations)


def _read(model: Learner, x: Tensor, labels: Tensor) -> dict[str, float]:
    first, second = model.hidden(x)
    right = (model.linear[-1](second).argmax(dim=1) == labels).double().mean()
    return {
        "accuracy": float(right),
        "dormant": dormant_share({"first": first, "second": second}).metrics["dormant_share"],
        "rank": effective_rank(second),
        "weights": float(parameters_to_vector(model.parameters()).double().norm()),
    }
