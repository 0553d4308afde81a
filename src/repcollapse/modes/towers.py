"""The modality gap: the left and the right half of an image, two towers, one contrastive loss."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.checkup import Checkup
from repcollapse.checkups.gap import modality_gap
from repcollapse.data import load, stream
from repcollapse.diagnostics import resolution_probe
from repcollapse.modes.runs import fit
from repcollapse.modes.tower_laws import Loss, Schedule, info_nce, pull
from repcollapse.networks import mlp

WIDTH, DIMENSION = 128, 64
BATCH, LR = 128, 6e-4

STARTS = ("random", "centred", "copy")


@dataclass(frozen=True)
class Halves:
    """Both halves of every image as rows: a is the left one, b the right one.

    Attributes
    ----------
    train_a, train_b, test_a, test_b
        Pixels, shape (N, P), standardised by the mean and standard deviation of all train pixels.
    labels
        The classes of the test images, shape (N,).
    """

    train_a: Tensor
    train_b: Tensor
    test_a: Tensor
    test_b: Tensor
    labels: Tensor


def halves(dataset: str, seed: int, *, device: torch.device | None = None) -> Halves:
    """Cut the images of a data set in two; of an odd width the middle column is left out.

    Examples
    --------
    >>> halves("digits", 0).train_a.shape
    torch.Size([1300, 32])
    """
    images = load(dataset, seed=seed)
    mean, std = images.train.images.mean(), images.train.images.std()
    half = images.train.images.shape[-1] // 2
    train, test = (
        ((split.images - mean) / std).to(device) for split in (images.train, images.test)
    )
    return Halves(
        train_a=train[..., :half].flatten(1),
        train_b=train[..., -half:].flatten(1),
        test_a=test[..., :half].flatten(1),
        test_b=test[..., -half:].flatten(1),
        labels=images.test.labels,
    )


class Towers(nn.Module):
    """Two perceptrons of one shape, each with weights of its own.

    Examples
    --------
    >>> u, v = Towers(32)(torch.zeros(3, 32), torch.zeros(3, 32))
    >>> u.shape
    torch.Size([3, 64])
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.a = mlp([pixels, WIDTH, DIMENSION], norm="none")
        self.b = mlp([pixels, WIDTH, DIMENSION], norm="none")

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit rows of both towers, each (N, 64)."""
        return F.normalize(self.a(left), dim=1), F.normalize(self.b(right), dim=1)

    @torch.no_grad()
    def centre(self, left: Tensor, right: Tensor) -> None:
        """Shift both outputs so that their means over these rows are zero."""
        for tower, rows in ((self.a, left), (self.b, right)):
            tower[-1].bias -= tower(rows).mean(dim=0)


@dataclass(frozen=True)
class Trained:
    """Two towers on their way, seen on images that they are not trained on.

    Attributes
    ----------
    rows
        By step, the unit rows of the test halves, both (N, 64); the last step is after training.
    pulls
        By step, :func:`repcollapse.modes.tower_laws.pull` on the first training pairs, at the
        temperature of the step.
    labels
        The classes of the test images.
    judged
        The step that `checkup` and all numbers are of.
    """

    rows: dict[int, tuple[Tensor, Tensor]]
    pulls: dict[int, float]
    labels: Tensor
    judged: int

    @cached_property
    def gaps(self) -> dict[int, float]:
        """By step, the distance between the centroids."""
        return {
            step: float((u.double().mean(dim=0) - v.double().mean(dim=0)).norm())
            for step, (u, v) in self.rows.items()
        }

    @cached_property
    def checkup(self) -> Checkup:
        """What :func:`repcollapse.checkups.modality_gap` says of the towers at `judged`."""
        return modality_gap(*self.rows[self.judged])

    @property
    def first_gap(self) -> float:
        """The gap before training."""
        return self.gaps[0]

    @property
    def gap(self) -> float:
        """The gap at `judged`."""
        return self.gaps[self.judged]

    @property
    def separability(self) -> float:
        """How many rows a linear reader gives to the right tower."""
        return self.checkup.metrics["separability"]

    @property
    def recall(self) -> float:
        """How often the nearest row of the other tower is the partner."""
        return self.checkup.metrics["recall"]

    @property
    def own_reader(self) -> float:
        """How well a reader of the classes does on other images in the tower it was fitted on."""
        u, v = self.rows[self.judged]
        return (_read(u, u, self.labels) + _read(v, v, self.labels)) / 2

    @property
    def other_reader(self) -> float:
        """How well it does on them in the other tower: what one space for both would give."""
        u, v = self.rows[self.judged]
        return (_read(u, v, self.labels) + _read(v, u, self.labels)) / 2


def _read(fitted: Tensor, asked: Tensor, labels: Tensor) -> float:
    return resolution_probe(fitted[::2], labels[::2], asked[1::2], labels[1::2])


def train(
    world: Halves,
    seed: int,
    *,
    steps: int,
    temperature: float | Schedule = 0.01,
    loss: Loss = info_nce,
    start: str = "random",
    at: Collection[int] = (),
    judged: int | None = None,
) -> Trained:
    """Train two towers on the pairs of a world.

    Parameters
    ----------
    world
        The halves; the towers go where they are.
    seed
        Of the batches; the weights come from torch's global generator.
    steps, at
        How many steps of Adam, and before which the towers are read, beside before the first and
        after the last.
    temperature
        A number, or a function of the share of the steps done, from 0 to 1.
    loss
        A function of both towers' unit rows and the temperature.
    start
        "random"; "centred", both outputs shifted to mean zero; or "copy", one tower twice.
    judged
        The step that the numbers are of, by default the last.

    Raises
    ------
    ValueError
        For a start other than these.
    """
    _checks.choice("start", start, STARTS)
    device = world.train_a.device
    towers = Towers(world.train_a.shape[1]).to(device)
    if start == "centred":
        towers.centre(world.train_a, world.train_b)
    elif start == "copy":
        towers.b = copy.deepcopy(towers.a)
    generator = stream(seed, "batches of halves")
    rows, pulls = {}, {}

    def tau(step: int) -> float:
        return temperature(step / steps) if callable(temperature) else temperature

    def of_batch(step: int) -> Tensor:
        picked = torch.randperm(len(world.train_a), generator=generator)[:BATCH].to(device)
        u, v = towers(world.train_a[picked], world.train_b[picked])
        return loss(u, v, tau(step))

    def read(step: int) -> None:
        u, v = towers(world.test_a, world.test_b)
        rows[step] = u.cpu(), v.cpu()
        u, v = towers(world.train_a[:BATCH], world.train_b[:BATCH])
        pulls[step] = pull(u, v, tau(step))

    seen = {0, steps, *at}
    # Fused: one kernel for all weights, which saves a sixth of the time.
    adam = torch.optim.Adam(towers.parameters(), lr=LR, fused=True)
    fit(adam, of_batch, steps=steps, watch=read, at=seen)
    return Trained(rows, pulls, world.labels, steps if judged is None else judged)
