"""A stream of tasks that share nothing, and what becomes of a network that learns all of them.

Every task is to memorise the same images under new random labels, so that no task is harder than
the one before, and a fresh network learns each equally well. What a trained one has lost is seen as
what it fails to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from repcollapse import _checks
from repcollapse.checkups import dormant_share, unit_scores
from repcollapse.data import stream
from repcollapse.diagnostics import effective_rank
from repcollapse.modes.pictures import pictures
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp
from repcollapse.training import pick_device

IMAGES, CLASSES, WIDTH, TASKS = 300, 10, 64, 14
LR = 5e-3
RECYCLED, REDO_EVERY = 0.1, 40  # the score up to which a unit is recycled, and after how many steps
SHRINK, L2 = 0.4, 1e-3
HEADS, SCALE, INFER = 10, 10.0, 0.1
LATE = 5  # tasks at the end of the stream, whose mean says what can still be learnt
ARMS = (
    *("Adam alone", "ReDo", "LayerNorm", "L2 Init", "LayerNorm + L2 Init"),
    *("shrink and perturb", "InFeR", "drawn anew"),
)


class Learner(nn.Module):
    """Two hidden layers and a readout; `hidden` gives the activations of both layers."""

    def __init__(self, inputs: int, *, norm: str = "none") -> None:
        super().__init__()
        self.body = mlp([inputs, WIDTH, WIDTH, CLASSES], norm=norm)

    def hidden(self, x: Tensor) -> list[Tensor]:
        """Return what the two hidden layers make of x, after the rectifier."""
        found = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.body(x)

    @property
    def linear(self) -> list[nn.Linear]:
        """The three linear layers, the readout last."""
        return [layer for layer in self.body if isinstance(layer, nn.Linear)]


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


def recycle(model: Learner, optimizer: torch.optim.Optimizer, x: Tensor) -> int:
    """Recycle the units whose score is at most 0.1 as ReDo does, and return how many they are.

    Incoming weights are drawn anew, outgoing ones set to zero, and the optimiser forgets both.

    Parameters
    ----------
    model
        Changed in place.
    optimizer
        Adam over the model's weights, after a step or more.
    x
        Inputs by which units are scored, shape (N, inputs).

    References
    ----------
    Sokar et al. 2023, algorithm 1.
    """
    with torch.no_grad():
        layers, recycled = model.linear, 0
        for index, activations in enumerate(model.hidden(x)):
            dead = unit_scores(activations) <= RECYCLED
            incoming, outgoing = layers[index], layers[index + 1]
            fresh = nn.Linear(incoming.in_features, incoming.out_features).to(x.device)
            incoming.weight[dead], incoming.bias[dead] = fresh.weight[dead], fresh.bias[dead]
            outgoing.weight[:, dead] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                for weight in (incoming.weight, incoming.bias):
                    optimizer.state[weight][name][dead] = 0
                optimizer.state[outgoing.weight][name][:, dead] = 0
            recycled += int(dead.sum())
    return recycled


def fresh_start(model: Learner, optimizer: torch.optim.Optimizer, *, kept: float = 0.0) -> None:
    """Replace the weights w by `kept` w + (1 - `kept`) fresh ones; the optimiser forgets all.

    Parameters
    ----------
    model, optimizer
        Changed in place. Fresh weights are drawn from torch's global generator.
    kept
        In [0, 1]: 0 draws all anew, and at 1 only the optimiser forgets.

    References
    ----------
    Ash & Adams 2020, "On warm-starting neural network training", section 4.
    """
    inputs, place = model.linear[0].in_features, model.linear[0].weight.device
    norm = "layer" if any(isinstance(layer, nn.LayerNorm) for layer in model.body) else "none"
    other = Learner(inputs, norm=norm).to(place)
    with torch.no_grad():
        for weight, fresh in zip(model.parameters(), other.parameters(), strict=True):
            weight.mul_(kept).add_(fresh, alpha=1 - kept)
    optimizer.state.clear()


def penalty(arm: str, model: Learner, heads: nn.Linear, x: Tensor) -> Callable[[Tensor], Tensor]:
    r"""Return what an arm adds to the loss, as a function of the second layer's activations h.

    L2 Init adds :math:`10^{-3} \lVert \theta - \theta_0 \rVert^2`, with the weights
    :math:`\theta_0` as they are at this call; InFeR adds a tenth of the mean squared distance of
    V h from ten times what the heads V read at this call; the others nothing.

    Parameters
    ----------
    arm
        One of `ARMS`.
    model, heads
        The network, and InFeR's linear heads on its second layer, which learn with it.
    x
        The inputs, shape (N, inputs).

    References
    ----------
    Kumar et al. 2023, equation 1; Lyle et al. 2022, section 4.
    """
    if "L2 Init" in arm:
        weights = list(model.parameters())
        origin = parameters_to_vector(weights).detach().clone()
        return lambda hidden: L2 * (parameters_to_vector(weights) - origin).square().sum()
    if arm == "InFeR":
        with torch.no_grad():
            aim = SCALE * heads(model.hidden(x)[-1])
        return lambda hidden: INFER * F.mse_loss(heads(hidden), aim)
    return lambda hidden: hidden.new_zeros(())


def train(
    arm: str, seed: int, *, steps: int, dataset: str = "digits", device: str = "auto"
) -> Trained:
    """Teach a network fourteen tasks one after another, with one means against losing plasticity.

    Parameters
    ----------
    arm
        "Adam alone": none. "ReDo": dormant units are recycled every 40 steps. "LayerNorm".
        "L2 Init": see :func:`penalty`. "LayerNorm + L2 Init". "shrink and perturb": at the end of
        a task, 0.4 of the weights plus 0.6 fresh ones. "InFeR". "drawn anew": all weights are, at
        the end of a task.
    seed
        Governs the images and their labels. Weights come from torch's global generator, which
        :func:`repcollapse.modes.runs.once` seeds.
    steps
        Full-batch steps of Adam a task, >= 1.
    dataset, device
        As in :func:`repcollapse.data.load`; "auto" or a torch device.

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
