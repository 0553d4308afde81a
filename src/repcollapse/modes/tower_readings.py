"""What is read of two towers on their way: their gap, what a loss makes of it, and its price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from torch import Tensor

from repcollapse.checkups.checkup import Checkup
from repcollapse.checkups.gap import centroid_gap, modality_gap
from repcollapse.diagnostics import resolution_probe


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """Two towers on their way, seen on images that they are not trained on; all on the CPU.

    Attributes
    ----------
    rows
        By step, the unit rows of the test images, both (N, 64); the last step is after training.
    log_temperature_gradients
        By step, :func:`repcollapse.modes.tower_laws.log_temperature_gradient` on the first
        training pairs, at the temperature of the step.
    labels
        The classes of the test images.
    judged
        The step, one of those in `rows`, that `checkup` and all single numbers are of.
    """

    rows: dict[int, tuple[Tensor, Tensor]]
    log_temperature_gradients: dict[int, float]
    labels: Tensor
    judged: int

    def __post_init__(self) -> None:
        if self.judged not in self.rows:
            raise ValueError(f"judged must be one of {sorted(self.rows)}; got {self.judged}")

    @cached_property
    def gaps(self) -> dict[int, float]:
        """By step, the distance between the centroids."""
        return {step: centroid_gap(u, v) for step, (u, v) in self.rows.items()}

    @property
    def history(self) -> pd.DataFrame:
        """By step the gap and the gradient: columns step, gap and log_temperature_gradient."""
        slopes = self.log_temperature_gradients
        return pd.DataFrame(
            {"step": step, "gap": gap, "log_temperature_gradient": slopes[step]}
            for step, gap in self.gaps.items()
        )

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
    def mean_share(self) -> float:
        """How narrow the cones of the towers are, the mean of both."""
        return (self.checkup.metrics["mean_share_a"] + self.checkup.metrics["mean_share_b"]) / 2

    @cached_property
    def own_reader(self) -> float:
        """How well a reader of the classes does on other images in the tower it was fitted on."""
        u, v = self.rows[self.judged]
        return (_read(u, u, self.labels) + _read(v, v, self.labels)) / 2

    @cached_property
    def other_reader(self) -> float:
        """How well it does on them in the other tower, as it should if they shared a space."""
        u, v = self.rows[self.judged]
        return (_read(u, v, self.labels) + _read(v, u, self.labels)) / 2


def _read(fitted: Tensor, asked: Tensor, labels: Tensor) -> float:
    return resolution_probe(fitted[::2], labels[::2], asked[1::2], labels[1::2])
