"""A small transformer that reads pictures as patches and names what they show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.layers import layer_residuals
from repcollapse.data import load
from repcollapse.diagnostics import resolution_probe
from repcollapse.modes.attention import Layer, Wiring, scaled_linear, states
from repcollapse.modes.runs import fit
from repcollapse.training import pick_device

GRID = 4  # patches along a side of a picture
PLACES = GRID**2
PROBED = 100  # pictures on which a probe of the place is learned, and as many that test it


@dataclass(frozen=True)
class Pictures:
    """Pictures as patches, (N, 16, P), standardised, and their labels, (N,): train and test."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.train_labels.max()) + 1

    @property
    def chance(self) -> float:
        """The share of the largest training class among the test pictures."""
        largest = self.train_labels.bincount().argmax()
        return float((self.test_labels == largest).double().mean())


def pictures(dataset: str, seed: int) -> Pictures:
    """Return the pictures of a data set, as they are, split by `seed` and cut into 4 x 4 patches.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, ConnectionError, ImportError
        As :func:`repcollapse.data.load` does.

    Examples
    --------
    >>> tuple(pictures("digits", 0).train.shape)
    (1300, 16, 4)
    """
    data = load(dataset, seed=seed)
    std, mean = torch.std_mean(data.train.images, dim=(0, 2, 3), keepdim=True)
    train, test = (cut((split.images - mean) / std) for split in (data.train, data.test))
    return Pictures(train, data.train.labels, test, data.test.labels)


def cut(images: Tensor) -> Tensor:
    """Cut images (N, C, S, S) into patches (N, 16, P), row by row.

    Raises
    ------
    ValueError
        For a side that four patches do not fill.

    Examples
    --------
    >>> cut(torch.arange(64.0).reshape(1, 1, 8, 8))[0, 1]
    tensor([ 2.,  3., 10., 11.])
    """
    if images.shape[-1] % GRID or images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"images must be square, of a side that {GRID} divides; got {tuple(images.shape)}"
        )
    side = images.shape[-1] // GRID
    grid = images.unfold(2, side, side).unfold(3, side, side)  # (N, C, 4, 4, side, side)
    return grid.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


class Reader(nn.Module):
    """Patches to tokens, a stack of layers, the mean token to classes."""

    def __init__(
        self, inputs: int, classes: int, wiring: Wiring, *, depth: int, width: int, heads: int
    ) -> None:
        super().__init__()
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


@dataclass(frozen=True)
class Trained:
    """A trained reader, and what was read off it on unseen pictures.

    Attributes
    ----------
    accuracy, chance
        Of naming unseen pictures, and of answering with the largest class.
    places
        By layer, how well it can be told from a token alone, at finite resolution, which of the 16
        patches it comes from (chance: 1/16), shape (L + 1,).
    hidden
        The tokens of the unseen pictures by layer, (N, 16, D) each.
    untrained, residuals
        The relative residual by layer before the first step and after the last, (L + 1,) each.
    untrained_place
        The last of `places` before the first step.
    losses
        By step.
    """

    accuracy: float
    chance: float
    places: np.ndarray
    hidden: list[Tensor]
    untrained: np.ndarray
    residuals: np.ndarray
    untrained_place: float
    losses: np.ndarray

    @property
    def gain(self) -> float:
        """Accuracy beyond chance."""
        return self.accuracy - self.chance

    @property
    def residual(self) -> float:
        """The relative residual after the last layer."""
        return float(self.residuals[-1])

    @property
    def place(self) -> float:
        """How well the place of a patch can be told from a token of the last layer."""
        return float(self.places[-1])


def train(
    wiring: Wiring,
    images: Pictures,
    *,
    steps: int,
    seed: int,
    depth: int = 12,
    width: int = 32,
    heads: int = 4,
    batch: int = 32,
    lr: float = 3e-3,
    device: str = "auto",
) -> Trained:
    """Train a reader to name pictures, and read it on unseen ones.

    `seed` draws the batches; weights come from torch's global generator.

    Raises
    ------
    TypeError, ValueError
        For steps that are not a count, or sizes other than positive.
    FloatingPointError
        Where the loss is not finite.
    """
    depth = _checks.integer("depth", depth, at_least=1)
    batch = _checks.integer("batch", batch, at_least=1)
    on = pick_device(device)
    model = Reader(
        images.train.shape[-1], images.classes, wiring, depth=depth, width=width, heads=heads
    ).to(on)
    patches, labels, unseen = (x.to(on) for x in (images.train, images.train_labels, images.test))
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(patches), (batch,), generator=generator).to(on)
        return F.cross_entropy(model(patches[rows]), labels[rows])

    def hidden() -> list[Tensor]:
        with torch.no_grad():
            return [tokens.cpu() for tokens in model.hidden(unseen)]

    before = hidden()
    losses = fit(torch.optim.Adam(model.parameters(), lr=lr), loss, steps=steps)
    after = hidden()
    with torch.no_grad():
        answers = model(unseen).argmax(dim=1).cpu()
    return Trained(
        accuracy=float((answers == images.test_labels).double().mean()),
        chance=images.chance,
        places=np.array([_place(tokens) for tokens in after]),
        hidden=after,
        untrained=layer_residuals(before),
        residuals=layer_residuals(after),
        untrained_place=_place(before[-1]),
        losses=losses,
    )


def _place(tokens: Tensor) -> float:
    """Return how well a token tells its place, learned on some pictures and tested on others."""
    learn, test = tokens[: 2 * PROBED].chunk(2)
    labels = torch.arange(PLACES)
    return resolution_probe(
        *(learn.flatten(0, 1), labels.repeat(len(learn))),
        *(test.flatten(0, 1), labels.repeat(len(test))),
    )
