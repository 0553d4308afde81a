"""A small transformer that reads pictures as patches and names what they show."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.layers import layer_residuals
from repcollapse.data import stream
from repcollapse.diagnostics import resolution_probe
from repcollapse.modes.attention import Layer, Wiring, scaled_linear, states
from repcollapse.modes.pictures import pictures
from repcollapse.modes.runs import fit
from repcollapse.training import pick_device

GRID = 4  # patches along a side of a picture
PLACES = GRID**2
PROBED = 100  # pictures on which a probe of the place is learned, and as many that test it


def cut(images: Tensor) -> Tensor:
    """Cut pictures into 4 x 4 patches, row by row.

    Parameters
    ----------
    images
        Shape (N, C, S, S); four divides S.

    Returns
    -------
    Tensor
        Shape (N, 16, P), P = C (S / 4)^2: of a patch the channels, then its rows.

    Raises
    ------
    ValueError
        For images of another shape.

    Examples
    --------
    >>> cut(torch.arange(64.0).reshape(1, 1, 8, 8))[0, 1]
    tensor([ 2.,  3., 10., 11.])
    """
    if images.ndim != 4 or images.shape[-1] % GRID or images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"images must have shape (N, C, S, S) with a side that {GRID} divides; "
            f"got {tuple(images.shape)}"
        )
    side = images.shape[-1] // GRID
    grid = images.unfold(2, side, side).unfold(3, side, side)  # (N, C, 4, 4, side, side)
    return grid.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


class Reader(nn.Module):
    """Patches to tokens, a stack of layers, the mean token to classes.

    Weights come from torch's global generator.

    Parameters
    ----------
    inputs, classes
        How many numbers a patch has, and how many classes there are.
    wiring, depth
        How every layer is put together, and how many there are.
    width, heads
        As in :class:`repcollapse.modes.attention.SelfAttention`.

    Examples
    --------
    >>> reader = Reader(4, 10, Wiring(skip=True), depth=2, width=8, heads=2)
    >>> reader(torch.zeros(3, 16, 4)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self, inputs: int, classes: int, wiring: Wiring, *, depth: int, width: int, heads: int
    ) -> None:
        super().__init__()
        depth = _checks.integer("depth", depth, at_least=1)
        self.embed = scaled_linear(inputs, width)
        self.place = nn.Parameter(torch.randn(PLACES, width))
        self.layers = nn.ModuleList(Layer(width, heads, wiring) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def hidden(self, patches: Tensor) -> list[Tensor]:
        """Return the tokens that enter the first layer and those that leave each, (N, 16, D)."""
        return states(self.layers, self.embed(patches) + self.place)

    def forward(self, patches: Tensor) -> Tensor:
        """Return scores of the classes, (N, K), for (N, 16, P)."""
        return self.head(self.norm(self.hidden(patches)[-1]).mean(dim=1))


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
    def places(self) -> np.ndarray:
        """By layer how often a token tells which of the 16 patches it is, shape (L + 1,).

        At finite resolution; by chance 1/16.
        """
        return np.array([_place(tokens) for tokens in self.tokens])

    @property
    def place(self) -> float:
        """How often a token of the last layer tells which patch it is."""
        return float(self.places[-1])

    @cached_property
    def untrained_place(self) -> float:
        """The same before the first step."""
        return _place(self.hidden[0][-1])


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
        The layers, as in :class:`Reader`.
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
    seen = pictures(dataset, seed).each(cut).to(place)
    inputs = seen.train.shape[-1]
    model = Reader(inputs, seen.classes, wiring, depth=depth, width=width, heads=heads).to(place)
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
        right = model(seen.test).argmax(dim=1) == seen.test_labels
    return Trained(
        accuracy=float(right.double().mean()), chance=seen.chance, hidden=hidden, losses=losses
    )


def _place(tokens: Tensor) -> float:
    """Return how well a token tells its place, learned on some pictures and tested on others."""
    learn, test = tokens[: 2 * PROBED].chunk(2)
    labels = torch.arange(PLACES)
    return resolution_probe(
        *(learn.flatten(0, 1), labels.repeat(len(learn))),
        *(test.flatten(0, 1), labels.repeat(len(test))),
    )
