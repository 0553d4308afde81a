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
from repcollapse.modes.fitting import fit
from repcollapse.modes.learner import (
    CLASSES,
    HEADS,
    WIDTH,
    Learner,
    Setting,
    penalty,
    redo,
    shrink_and_perturb,
)
from repcollapse.modes.pictures import pictures
from repcollapse.training import pick_device

IMAGES, TASKS, LR = 300, 14, 5e-3
LATE = 5  # tasks at the end of the stream, whose mean says what can still be learnt


@dataclass(frozen=True, eq=False)
class Trained:
    """What a network went through, task by task.

    Attributes
    ----------
    history
        A row for each task, read when it ends: "task", counted from 1; "accuracy", the share of
        its labels that are learnt; "dormant", the share of units that are; "rank", the effective
        rank of the second layer; and "weight_norm", that of all weights and biases as one vector.
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
    setting: Setting, seed: int, *, steps: int, dataset: str = "digits", device: str = "auto"
) -> Trained:
    """Teach a network fourteen tasks one after another.

    Parameters
    ----------
    setting
        What is done against a loss of plasticity; :data:`repcollapse.modes.learner.ARMS` has some
        by name.
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
    >>> trained = train(Setting(redo_every=40), 0, steps=1, device="cpu")
    >>> len(trained.history), tuple(trained.activations[14].shape)
    (14, (300, 64))
    """
    steps = _checks.integer("steps", steps, at_least=1)
    place = pick_device(device)
    x = images(dataset, seed).to(place)
    labels = tasks(len(x), seed).to(place)
    model = Learner(x.shape[1], norm=setting.norm).to(place)
    heads = nn.Linear(WIDTH, HEADS, bias=False).to(place)
    added = penalty(setting, model, heads, x)
    weights = [*model.parameters(), *(heads.parameters() if setting.infer else ())]
    adam = torch.optim.Adam(weights, lr=LR, fused=True)
    rows: list[dict[str, float]] = []
    activations: dict[int, Tensor] = {}
    total = steps * TASKS
    ends = range(steps, total + 1, steps)
    recycled = range(setting.redo_every, total, setting.redo_every) if setting.redo_every else ()

    def loss(step: int) -> Tensor:
        *_, hidden = model.hidden(x)
        return F.cross_entropy(model.linear[-1](hidden), labels[step // steps]) + added(hidden)

    def watch(step: int) -> None:
        if step in ends:
            task = step // steps
            rows.append({"task": task, **_read(model, x, labels[task - 1])})
            activations[task] = model.hidden(x)[-1].cpu()
            if setting.kept is not None:
                shrink_and_perturb(model, adam, kept=setting.kept)
        if step in recycled:
            redo(model, adam, x)

    fit(adam, loss, steps=total, watch=watch, at={*ends, *recycled})
    return Trained(pd.DataFrame(rows), activations)


def _read(model: Learner, x: Tensor, labels: Tensor) -> dict[str, float]:
    first, second = model.hidden(x)
    right = (model.linear[-1](second).argmax(dim=1) == labels).double().mean()
    return {
        "accuracy": float(right),
        "dormant": dormant_share({"first": first, "second": second}).metrics["dormant_share"],
        "rank": effective_rank(second),
        "weight_norm": float(parameters_to_vector(model.parameters()).double().norm()),
    }
