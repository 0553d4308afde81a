"""A small transformer that reads a picture as sixteen patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repcollapse import _checks
from repcollapse.modes.attention import Layer, Wiring, scaled_linear, states

GRID = 4  # patches along a side of a picture
PATCHES = GRID**2


def patchify(images: Tensor) -> Tensor:
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
    >>> patchify(torch.arange(64.0).reshape(1, 1, 8, 8))[0, 1]
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


class VisionTransformer(nn.Module):
    """A small vision transformer: patches to tokens, a stack of layers, the mean token to classes.

    Every token has a learned embedding of its position. Weights come from torch's global generator.

    Parameters
    ----------
    inputs, classes
        How many numbers a patch has, >= 1, and how many classes there are, >= 1.
    wiring, depth
        How every layer is put together, and how many there are.
    width, heads
        As in :class:`repcollapse.modes.attention.SelfAttention`.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these.

    References
    ----------
    Dosovitskiy et al. 2021, "An image is worth 16x16 words", section 3.1; there a token of its own
    answers, here the mean does.

    Examples
    --------
    >>> reader = VisionTransformer(4, 10, Wiring(skip=True), depth=2, width=8, heads=2)
    >>> reader(torch.zeros(3, 16, 4)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self, inputs: int, classes: int, wiring: Wiring, *, depth: int, width: int, heads: int
    ) -> None:
        super().__init__()
        inputs = _checks.integer("inputs", inputs, at_least=1)
        classes = _checks.integer("classes", classes, at_least=1)
        depth = _checks.integer("depth", depth, at_least=1)
        width = _checks.integer("width", width, at_least=1)
        self.embed = scaled_linear(inputs, width)
        self.positions = nn.Parameter(torch.randn(PATCHES, width))
        self.layers = nn.ModuleList(Layer(width, heads, wiring) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def hidden(self, patches: Tensor) -> list[Tensor]:
        """Return the tokens that enter the first layer and those that leave each, (N, 16, D)."""
        return states(self.layers, self.embed(patches) + self.positions)

    def logits(self, tokens: Tensor) -> Tensor:
        """Return logits of the classes, (N, K), for the tokens of the last layer, (N, 16, D)."""
        return self.head(self.norm(tokens).mean(dim=1))

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits of the classes, (N, K), for (N, 16, P)."""
        return self.logits(self.hidden(patches)[-1])
