"""A transformer is trained to name pictures from their patches, and its tokens are read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.residuals import layer_residuals
from repcollapse.data import stream
from repcollapse.diagnostics import resolution_probe
from repcollapse.modes.attention import Wiring
from repcollapse.modes.fitting import fit
from repcollapse.modes.pictures import pictures
from repcollapse.modes.reader import PATCHES, VisionTransformer, patchify
from repcollapse.training import pick_device

PROBED = 100  # pictures on which a probe of the position is learned, and as many that test it


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """A trained reader on unseen pictures.

    Attributes
    ----------
    accuracy, chance
        Of naming them, and of answering with the largest class.
    hidden
        By step their tokens: of what enters the first layer and of what leaves each, (N, 16, D).
        The last step is after training.
    losses
        The loss of every step, shape (steps,).
    """

    accuracy: float
    chance: float
    hidden: dict[int, list[Tensor]]
    losses: np.ndarray

    @property
    def gain(self) -> float:
        """Accuracy beyond chance."""
        return self.accuracy - self.chance

    @property
    def tokens(self) -> list[Tensor]:
        """The tokens by layer after training, L + 1 times (N, 16, D)."""
        return self.hidden[max(self.hidden)]

    @cached_property
    def residuals(self) -> np.ndarray:
        """Their relative residual by layer, shape (L + 1,)."""
        return layer_residuals(self.tokens)

    @property
    def residual(self) -> float:
        """The relative residual after the last layer."""
        return float(self.residuals[-1])

    @cached_property
    def position_accuracies(self) -> np.ndarray:
        """By layer how often a token tells which of the 16 patches it is, shape (L + 1,).

        At finite resolution; by chance 1/16.
        """
        return np.array([_position_accuracy(tokens) for tokens in self.tokens])

    @property
    def position_accuracy(self) -> float:
        """How often a token of the last layer tells which patch it is."""
        return float(self.position_accuracies[-1])

    @cached_property
    def untrained_position_accuracy(self) -> float:
        """The same before the first step."""
        return _position_accuracy(self.hidden[0][-1])


def train(
    wiring: Wiring,
    seed: int,
    *,
    steps: int,
    dataset: str,
    at: Collection[int] = (),
    device: str = "auto",
    depth: int = 12,
    width: int = 32,
    heads: int = 4,
    batch: int = 32,
    lr: float = 3e-3,
) -> Trained:
    """Train a reader to name pictures, and read it on unseen ones.

    Parameters
    ----------
    wiring, depth, width, heads
        The layers, as in :class:`repcollapse.modes.reader.VisionTransformer`.
    seed
        Of the split and the batches; the weights come from torch's global generator, which
        :func:`repcollapse.modes.runs.repeat` and :func:`repcollapse.modes.runs.once` seed.
    steps, at
        How many steps of Adam, and before which tokens are kept, beside before the first and after
        the last.
    dataset
        One of :data:`repcollapse.data.NAMES`.
    device
        "auto" or a torch device.
    batch, lr
        Pictures a step, >= 1, and the learning rate, > 0.

    Returns
    -------
    Trained
        Read on the test pictures, all on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    FileNotFoundError, ConnectionError, ImportError
        As :func:`repcollapse.data.load` does.
    FloatingPointError
        Where the loss is not finite.

    Examples
    --------
    >>> trained = train(Wiring(skip=True), 0, steps=2, dataset="digits", depth=1)
    >>> trained.residuals.shape, sorted(trained.hidden)
    ((2,), [0, 2])
    """
    batch = _checks.integer("batch", batch, at_least=1)
    lr = _checks.number("lr", lr, above=0)
    place = pick_device(device)
    seen = pictures(dataset, seed).each(patchify).to(place)
    inputs = seen.train.shape[-1]
    model = VisionTransformer(
        inputs, seen.classes, wiring, depth=depth, width=width, heads=heads
    ).to(place)
    order = stream(seed, "batches of patches")
    hidden: dict[int, list[Tensor]] = {}

    def loss(_: int) -> Tensor:
        rows = torch.randint(len(seen.train), (batch,), generator=order).to(place)
        return F.cross_entropy(model(seen.train[rows]), seen.train_labels[rows])

    def keep(step: int) -> None:
        hidden[step] = [tokens.cpu() for tokens in model.hidden(seen.test)]

    # Fused: one kernel for all weights, which saves a tenth of the time.
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    losses = fit(optimizer, loss, steps=steps, watch=keep, at={0, steps, *at})
    with torch.no_grad():
        answers = model.logits(hidden[steps][-1].to(place)).argmax(dim=1)
    right = answers == seen.test_labels
    return Trained(
        accuracy=float(right.double().mean()), chance=seen.chance, hidden=hidden, losses=losses
    )


def _position_accuracy(tokens: Tensor) -> float:
    """Return how well a token tells its position, learned on some pictures, tested on others."""
    learn, test = tokens[: 2 * PROBED].chunk(2)
    labels = torch.arange(PATCHES)
    return resolution_probe(
        *(learn.flatten(0, 1), labels.repeat(len(learn))),
        *(test.flatten(0, 1), labels.repeat(len(test))),
    )
