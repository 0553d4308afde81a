"""A stream of tasks that share nothing, and what becomes of a network that learns all of them.

Every task is to memorise the same images under new random labels, so that no task is harder than
the one before, and a fresh network learns each equally well. What a trained one has lost is seen as
what it fails to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.units import unit_scores
from repcollapse.data import load
from repcollapse.diagnostics import effective_rank
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp
from repcollapse.training import pick_device

IMAGES, CLASSES, WIDTH, TASKS = 300, 10, 64, 14
LR = 5e-3
DORMANT, RECYCLED = 0.025, 0.1  # scores below which a unit counts as dormant, and is recycled
REDO_EVERY, SHRINK, L2 = 40, 0.4, 1e-3
HEADS, SCALE, INFER = 10, 10.0, 0.1
METHODS = (
    *("plain", "redo", "layer norm", "l2 init", "layer norm + l2 init"),
    *("shrink and perturb", "infer", "reset"),
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
        """The three linear layers."""
        return [layer for layer in self.body if isinstance(layer, nn.Linear)]


@dataclass(frozen=True)
class Life:
    """What a network went through. `history` has a row for each task, as `READINGS`.

    `early` and `late` are the mean accuracy at the end of the first and of the last five tasks,
    `dormant` the share of dormant units at the end of the last, `rank_kept` the effective rank of
    the second layer then over that after the first task. `activations` holds the second layer's,
    shape (images, units), by task.
    """

    history: np.ndarray
    activations: dict[int, Tensor] = field(repr=False)
    early: float
    late: float
    dormant: float
    dormant_first: float
    rank_kept: float


READINGS = ("task", "accuracy", "dormant", "rank", "weights")


def images(dataset: str, seed: int) -> Tensor:
    """Return 300 images of a data set as rows, each pixel standardised over them."""
    flat = load(dataset, seed=seed).train.images[:IMAGES].flatten(1)
    spread = flat.std(dim=0)
    return (flat - flat.mean(dim=0)) / torch.where(spread > 0, spread, torch.ones(()))


def recycle(model: Learner, optimizer: torch.optim.Optimizer, x: Tensor) -> int:
    """Recycle the units whose score is at most 0.1 as ReDo does, and return how many they are.

    Incoming weights are drawn anew, outgoing ones set to zero, and the optimiser forgets both.
    """
    with torch.no_grad():
        layers, recycled = model.linear, 0
        for index, activations in enumerate(model.hidden(x)):
            dead = unit_scores(activations) <= RECYCLED
            incoming, outgoing = layers[index], layers[index + 1]
            fresh = nn.Linear(incoming.in_features, incoming.out_features).to(x.device)
            incoming.weight[dead], incoming.bias[dead] = fresh.weight[dead], fresh.bias[dead]
            outgoing.weight[:, dead] = 0
            for moments in (optimizer.state[weight] for weight in (incoming.weight, incoming.bias)):
                for name in ("exp_avg", "exp_avg_sq"):
                    moments[name][dead] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                optimizer.state[outgoing.weight][name][:, dead] = 0
            recycled += int(dead.sum())
    return recycled


def fresh_start(model: Learner, optimizer: torch.optim.Optimizer, *, kept: float = 0.0) -> None:
    """Replace the weights w by `kept` w + (1 - `kept`) fresh ones; the optimiser forgets all."""
    inputs, place = model.linear[0].in_features, model.linear[0].weight.device
    norm = "layer" if any(isinstance(layer, nn.LayerNorm) for layer in model.body) else "none"
    other = Learner(inputs, norm=norm).to(place)
    with torch.no_grad():
        for weight, fresh in zip(model.parameters(), other.parameters(), strict=True):
            weight.mul_(kept).add_(fresh, alpha=1 - kept)
    optimizer.state.clear()


def live(
    method: str, seed: int, *, steps: int, dataset: str = "digits", device: str = "cpu"
) -> Life:
    """Teach a network one task after another, with one means against the loss of plasticity.

    Parameters
    ----------
    method
        "plain": none. "redo": dormant units are recycled every 40 steps. "layer norm". "l2 init":
        a penalty of 1e-3 on the squared distance of the weights from where they began. Both.
        "shrink and perturb": at the end of a task, 0.4 of the weights plus 0.6 fresh ones.
        "infer": ten linear heads on the second layer keep to ten times what they read at the
        beginning. "reset": at the end of a task all is drawn anew.
    seed
        Governs the images, their labels, and the weights.
    steps
        Full-batch steps of Adam a task.
    dataset, device
        A name for :func:`repcollapse.data.load`; "auto" or a torch device.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    """
    _checks.choice("method", method, METHODS)
    steps = _checks.integer("steps", steps, at_least=1)
    place = pick_device(device)
    x = images(dataset, seed).to(place)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (TASKS, len(x)), generator=generator).to(place)
    model = Learner(x.shape[1], norm="layer" if "layer norm" in method else "none").to(place)
    heads = nn.Linear(WIDTH, HEADS, bias=False).to(place)
    penalty = _penalty(method, model, heads, x)
    weights = [*model.parameters(), *(heads.parameters() if method == "infer" else ())]
    adam = torch.optim.Adam(weights, lr=LR)
    rows: list[list[float]] = []
    activations: dict[int, Tensor] = {}

    def loss(step: int) -> Tensor:
        hidden = model.hidden(x)
        return F.cross_entropy(model.linear[-1](hidden[-1]), labels[step // steps]) + penalty(
            hidden[-1]
        )

    def watch(step: int) -> None:
        if step % steps == 0 and step:
            rows.append(_read(model, x, labels, step // steps))
            activations[step // steps] = model.hidden(x)[-1].cpu()
            if method == "reset":
                fresh_start(model, adam)
            elif method == "shrink and perturb":
                fresh_start(model, adam, kept=SHRINK)
        if method == "redo" and step and step % REDO_EVERY == 0 and step < steps * TASKS:
            recycle(model, adam, x)

    total = steps * TASKS
    fit(adam, loss, steps=total, watch=watch, at=range(total + 1))
    history = np.array(rows)
    return Life(
        history,
        activations,
        early=history[0, 1],
        late=float(history[-5:, 1].mean()),
        dormant=history[-1, 2],
        dormant_first=history[0, 2],
        rank_kept=history[-1, 3] / max(history[0, 3], 1e-12),
    )


def _penalty(
    method: str, model: Learner, heads: nn.Linear, x: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return what a method adds to the loss, as a function of the second layer's activations."""
    if "l2 init" in method:
        origin = [weight.detach().clone() for weight in model.parameters()]

        def distance(_: Tensor) -> Tensor:
            pairs = zip(model.parameters(), origin, strict=True)
            return L2 * torch.stack([(w - w0).square().sum() for w, w0 in pairs]).sum()

        return distance
    if method == "infer":
        with torch.no_grad():
            aim = SCALE * heads(model.hidden(x)[-1])
        return lambda hidden: INFER * F.mse_loss(heads(hidden), aim)
    return lambda hidden: hidden.new_zeros(())


def _read(model: Learner, x: Tensor, labels: Tensor, task: int) -> list[float]:
    """Return the readings at the end of a task, counted from 1."""
    hidden = model.hidden(x)
    right = (model.linear[-1](hidden[-1]).argmax(dim=1) == labels[task - 1]).double().mean()
    dormant = torch.cat([unit_scores(layer) <= DORMANT for layer in hidden]).double().mean()
    length = torch.stack([w.detach().double().square().sum() for w in model.parameters()]).sum()
    return [task, float(right), float(dormant), effective_rank(hidden[-1]), float(length.sqrt())]
