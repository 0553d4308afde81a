"""The modality gap: two towers for the two halves of an image, and one contrastive loss.

The data are in :mod:`repcollapse.modes.halves`, what is minimised in
:mod:`repcollapse.modes.tower_losses`, and what is read in :mod:`repcollapse.modes.tower_readings`.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import stream
from repcollapse.modes.fitting import fit
from repcollapse.modes.halves import SIDES, halves
from repcollapse.modes.tower_laws import log_temperature_gradient
from repcollapse.modes.tower_losses import Loss, Schedule, info_nce
from repcollapse.modes.tower_readings import Trained
from repcollapse.networks import mlp
from repcollapse.training import pick_device

WIDTH, DIMENSION = 128, 64
BATCH, LR = 128, 6e-4

STARTS = ("random", "centred", "copy")


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

    def forward(self, rows_a: Tensor, rows_b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit rows of both towers, each (N, 64)."""
        return F.normalize(self.a(rows_a), dim=1), F.normalize(self.b(rows_b), dim=1)

    @torch.no_grad()
    def centre(self, rows_a: Tensor, rows_b: Tensor) -> None:
        """Shift both outputs so that their means over these rows are zero."""
        for tower, rows in ((self.a, rows_a), (self.b, rows_b)):
            tower[-1].bias -= tower(rows).mean(dim=0)


@dataclass(frozen=True)
class Setting:
    """One way to train two towers.

    Attributes
    ----------
    temperature
        A number > 0, or a function of the share of the steps done, from 0 to 1.
    loss
        A function of both towers' unit rows and the temperature.
    start
        "random"; "centred", both outputs shifted to mean zero; or "copy", one tower twice.
    sides
        Which half each tower is shown, "left" or "right".

    Raises
    ------
    TypeError, ValueError
        For a temperature or a start other than these.
    """

    temperature: float | Schedule = 0.01
    loss: Loss = info_nce
    start: str = "random"
    sides: tuple[str, str] = SIDES

    def __post_init__(self) -> None:
        _checks.choice("start", self.start, STARTS)
        if not callable(self.temperature):
            _checks.number("temperature", self.temperature, above=0)

    def temperature_at(self, done: float) -> float:
        """Return the temperature when a share of the steps is done."""
        return self.temperature(done) if callable(self.temperature) else self.temperature


def train(
    setting: Setting,
    seed: int,
    *,
    steps: int,
    dataset: str = "digits",
    at: Collection[int] = (),
    judged: int | None = None,
    device: str = "auto",
) -> Trained:
    """Train two towers on the pairs of a data set, by Adam.

    Parameters
    ----------
    setting
        How they are trained.
    seed
        Of the split and of the batches. The weights come from torch's global generator, which
        :func:`repcollapse.modes.runs.once` seeds.
    steps
        How many, >= 0.
    dataset
        The images whose halves are paired, as in :func:`repcollapse.data.load`.
    at
        The steps before which the towers are read, beside the first, the judged and the last.
    judged
        The step that the numbers are of, from 0 to `steps`; by default the last.
    device
        Where they are trained: "auto", "cpu" or "cuda".

    Returns
    -------
    Trained
        Read on the test pairs, all on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    FloatingPointError
        Where the loss is not finite.

    Examples
    --------
    >>> trained = train(Setting(temperature=0.2), 0, steps=2)
    >>> list(trained.rows), trained.rows[2][0].shape
    ([0, 2], torch.Size([497, 64]))
    """
    steps = _checks.integer("steps", steps, at_least=0)
    judged = steps if judged is None else judged
    judged = _checks.integer("judged", judged, at_least=0, at_most=steps)
    place = pick_device(device)
    world = halves(dataset, seed, sides=setting.sides).to(place)
    towers = Towers(world.train_a.shape[1]).to(place)
    if setting.start == "centred":
        towers.centre(world.train_a, world.train_b)
    elif setting.start == "copy":
        towers.b = copy.deepcopy(towers.a)
    order = stream(seed, "batches of halves")
    rows, gradients = {}, {}

    def tau(step: int) -> float:
        return setting.temperature_at(step / max(steps, 1))

    def loss(step: int) -> Tensor:
        picked = torch.randperm(len(world.train_a), generator=order)[:BATCH].to(place)
        u, v = towers(world.train_a[picked], world.train_b[picked])
        return setting.loss(u, v, temperature=tau(step))

    def read(step: int) -> None:
        u, v = towers(world.test_a, world.test_b)
        rows[step] = u.cpu(), v.cpu()
        u, v = towers(world.train_a[:BATCH], world.train_b[:BATCH])
        gradients[step] = log_temperature_gradient(u, v, tau(step))

    # Fused: one kernel for all weights, which saves a sixth of the time.
    adam = torch.optim.Adam(towers.parameters(), lr=LR, fused=True)
    fit(adam, loss, steps=steps, watch=read, at={0, judged, steps, *at})
    return Trained(
        rows=rows,
        log_temperature_gradients=gradients,
        labels=world.labels.cpu(),
        judged=judged,
    )
