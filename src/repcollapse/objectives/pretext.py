"""Pretext tasks: an image is altered, and a head on its features says how.

Such a task cannot be solved by a constant, and nothing is compared between views: features that
collapse leave the head to guess. Nothing here is random: which alteration an image gets goes by its
place in the batch, so that every batch is balanced. Shuffle the batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import sum_of_squares

TURNS = 4
ORDERS = 24


@in_full_precision
def rotation(logits: Tensor, turns: Tensor) -> Tensor:
    r"""Return the cross entropy of predicting by how many quarter turns an image was rotated.

    .. math::

        -\frac{1}{N} \sum_n \log \operatorname{softmax}(a_n)_{r_n}

    Parameters
    ----------
    logits
        :math:`a_n`, shape (N, 4).
    turns
        :math:`r_n`, integers 0 to 3, shape (N,).

    Returns
    -------
    Tensor
        A scalar in nats, >= 0. At complete collapse of the features the logits are equal for all
        images, and with turns in equal numbers the least it can be is :math:`\log 4 = 1.386`.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Gidaris, Singh & Komodakis 2018, "Unsupervised representation learning by predicting image
    rotations".

    Examples
    --------
    >>> import torch
    >>> round(float(rotation(torch.zeros(4, 4), torch.arange(4))), 4)
    1.3863
    """
    return _classification(logits, "turns", turns, TURNS)


@in_full_precision
def jigsaw(logits: Tensor, orders: Tensor) -> Tensor:
    r"""Return the cross entropy of predicting in which of P orders the tiles of an image lie.

    .. math::

        -\frac{1}{N} \sum_n \log \operatorname{softmax}(a_n)_{o_n}

    Parameters
    ----------
    logits
        :math:`a_n`, shape (N, P).
    orders
        :math:`o_n`, integers 0 to P - 1, shape (N,): numbers of the orders in a fixed list.

    Returns
    -------
    Tensor
        A scalar in nats, >= 0. At complete collapse of the features, with orders in equal numbers,
        the least it can be is :math:`\log P`, 3.178 for the 24 orders of :class:`Jigsaw`.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Noroozi & Favaro 2016, "Unsupervised learning of visual representations by solving jigsaw
    puzzles".

    Examples
    --------
    >>> import torch
    >>> round(float(jigsaw(torch.zeros(24, 24), torch.arange(24))), 4)
    3.1781
    """
    return _classification(logits, "orders", orders, None)


def _classification(logits: Any, name: str, answers: Any, count: int | None) -> Tensor:
    logits = _checks.as_matrix("logits", logits, min_rows=1)
    if count is not None and logits.shape[1] != count:
        raise ValueError(f"logits must have shape (N, {count}); got shape {tuple(logits.shape)}")
    answers = _checks.as_labels(name, answers, len(logits)).to(logits.device)
    if answers.min() < 0 or answers.max() >= logits.shape[1]:
        raise ValueError(
            f"{name} must be at least 0 and at most {logits.shape[1] - 1}; "
            f"got {int(answers.min())} to {int(answers.max())}"
        )
    return F.cross_entropy(logits, answers)


@in_full_precision
def inpainting(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    r"""Return the mean squared error of a prediction inside the holes.

    .. math::

        \frac{\sum_p m_p (\hat x_p - x_p)^2}{\sum_p m_p}

    over all pixels p of all channels and images, m being 1 inside a hole and 0 outside.

    Parameters
    ----------
    prediction, image
        Shape (N, C, H, W) each.
    mask
        Booleans, true inside the hole, shape (N, 1, H, W).

    Returns
    -------
    Tensor
        A scalar >= 0. At complete collapse of the features the prediction is one picture for all,
        and the least it can be is the variance of the pixels inside the holes, each about its own
        mean over the images whose hole covers it.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these, or a mask without holes.

    References
    ----------
    Pathak et al. 2016, "Context encoders: feature learning by inpainting".

    Examples
    --------
    >>> import torch
    >>> mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    >>> mask[..., :2, :2] = True
    >>> float(inpainting(torch.zeros(1, 3, 4, 4), 2 * torch.ones(1, 3, 4, 4), mask))
    4.0
    """
    prediction, image = _as_images("prediction", prediction), _as_images("image", image)
    if prediction.shape != image.shape:
        raise ValueError(
            "prediction and image must have the same shape (N, C, H, W); "
            f"got {tuple(prediction.shape)} and {tuple(image.shape)}"
        )
    mask = _as_mask(mask, image)
    inside = mask.to(prediction.dtype)
    return sum_of_squares((prediction - image) * inside) / (inside.sum() * image.shape[1])


class PretextTask(nn.Module):
    """A pretext task for an encoder: what all of them share.

    A task alters images (:meth:`puzzle`), has the encoder look at them and its own head answer.
    The head's parameters are the task's: give them to the optimiser.

    Parameters
    ----------
    width
        Width of the encoder's output, which is (N, width).
    shape
        (C, H, W) of an image.

    Attributes
    ----------
    first_place
        The place of the first image of a batch, 0. Where processes share a batch, each counts on
        from the one before it.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these; on call for images that are not (N, C, H, W), or an encoder
        whose output is not (N, width).
    """

    def __init__(self, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.width = _checks.integer("width", width, at_least=1)
        if not isinstance(shape, tuple) or len(shape) != 3:
            raise TypeError(f"shape must be a tuple (C, H, W); got {shape!r}")
        self.shape = tuple(_checks.integer("shape", size, at_least=1) for size in shape)
        self.first_place = 0

    def puzzle(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder is shown for (N, C, H, W) images, and the right answers."""
        raise NotImplementedError

    def forward(self, encoder: nn.Module, images: Tensor) -> Tensor:
        """Return the task's loss, a scalar to minimise."""
        raise NotImplementedError

    def _in_turn(self, images: Tensor, count: int) -> Tensor:
        """Return which of `count` alterations each image gets, by its place in the batch."""
        return (self.first_place + torch.arange(len(images), device=images.device)) % count

    def _as_input(self, images: Any) -> Tensor:
        images = _as_images("images", images)
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"images must have shape (N, {', '.join(map(str, self.shape))}); "
                f"got shape {tuple(images.shape)}"
            )
        return images

    def _answer(self, encoder: nn.Module, head: nn.Module, shown: Tensor) -> Tensor:
        features = encoder(shown)
        if features.shape != (len(shown), self.width):
            raise ValueError(
                f"encoder must return shape ({len(shown)}, {self.width}); "
                f"got shape {tuple(features.shape)}"
            )
        return head(features)


class _Classification(PretextTask):
    """A task whose answers are classes, and whose head is linear."""

    head: nn.Linear
    _loss: Callable[[Tensor, Tensor], Tensor]

    def forward(self, encoder: nn.Module, images: Tensor) -> Tensor:
        """Return the cross entropy of the head's logits."""
        shown, answers = self.puzzle(images)
        return self._loss(self._answer(encoder, self.head, shown), answers)

    @torch.no_grad()
    def accuracy(self, encoder: nn.Module, images: Tensor) -> float:
        """Return the share of images that the head answers rightly; chance is 1 / classes."""
        shown, answers = self.puzzle(images)
        logits = self._answer(encoder, self.head, shown)
        return float((logits.argmax(dim=1) == answers).double().mean())


class Rotation(_Classification):
    r"""Say by how many quarter turns an image was rotated, counter-clockwise.

    .. math::

        -\frac1N \sum_{i=1}^{N} \log p\bigl(r_i \mid h(R^{r_i} x_i)\bigr), \qquad r_i = i \bmod 4

    with R a quarter turn, h the encoder and p the softmax of the linear head's four scores.

    Image i of a batch is turned i mod 4 times. The head is linear. At complete collapse the loss is
    log 4 and the accuracy 1/4.

    Parameters
    ----------
    width
        Width of the encoder's output.
    shape
        (C, H, W) of an image, H = W.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these; on call as in :class:`PretextTask`.

    References
    ----------
    Gidaris, Singh & Komodakis 2018, "Unsupervised representation learning by predicting image
    rotations"; there each image is shown in all four turns.

    Examples
    --------
    >>> import torch
    >>> task = Rotation(64, (1, 8, 8))
    >>> task(torch.nn.Flatten(), torch.rand(16, 1, 8, 8)).shape
    torch.Size([])
    """

    _loss = staticmethod(rotation)

    def __init__(self, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__(width, shape)
        if self.shape[1] != self.shape[2]:
            raise ValueError(f"shape must be square, H = W; got {self.shape}")
        self.head = nn.Linear(self.width, TURNS)

    def puzzle(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the turned images and the turns, shape (N,)."""
        images = self._as_input(images)
        shown = images.clone()
        for turn in range(1, TURNS):
            these = slice((turn - self.first_place) % TURNS, None, TURNS)
            shown[these] = images[these].rot90(turn, (2, 3))
        return shown, self._in_turn(images, TURNS)


class Jigsaw(_Classification):
    r"""Say in which order the tiles of an image lie.

    .. math::

        -\frac1N \sum_{i=1}^{N} \log p\bigl(o_i \mid h(\pi_{o_i} x_i)\bigr), \qquad o_i = i \bmod 24

    with :math:`\pi_o` the o-th order of the tiles, h the encoder and p the softmax of the linear
    head's 24 scores.

    The image is cut in grid x grid tiles, which are put together again in one of 24 orders: all
    that four tiles have, or, of nine, a fixed set that differ from each other in many places (each
    is the one farthest, in Hamming distance, from the nearest of those before it). Image i of a
    batch gets order i mod 24. One image of tiles goes through the encoder, and the head is linear;
    in the paper tiles go through it singly. At complete collapse the loss is log 24 and the
    accuracy 1/24.

    Parameters
    ----------
    width
        Width of the encoder's output.
    shape
        (C, H, W) of an image; the grid divides H and W.
    grid
        Tiles along a side, 2 or 3.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these; on call as in :class:`PretextTask`.

    References
    ----------
    Noroozi & Favaro 2016, "Unsupervised learning of visual representations by solving jigsaw
    puzzles".

    Examples
    --------
    >>> import torch
    >>> task = Jigsaw(64, (1, 8, 8))
    >>> task(torch.nn.Flatten(), torch.rand(48, 1, 8, 8)).shape
    torch.Size([])
    """

    _loss = staticmethod(jigsaw)
    orders: Tensor

    def __init__(self, width: int, shape: tuple[int, int, int], *, grid: int = 2) -> None:
        super().__init__(width, shape)
        self.grid = _checks.integer("grid", grid, at_least=2, at_most=3)
        if self.shape[1] % self.grid or self.shape[2] % self.grid:
            raise ValueError(
                f"grid must divide the sides of the image, {self.shape[1]} and {self.shape[2]}; "
                f"got {grid} (cropping the images makes them fit)"
            )
        self.register_buffer("orders", torch.tensor(_orders(self.grid**2)))
        self.head = nn.Linear(self.width, ORDERS)

    def puzzle(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of permuted tiles and the numbers of the orders, shape (N,).

        Place p, counted along rows, holds the tile that was at `orders[number, p]`.
        """
        images = self._as_input(images)
        numbers = self._in_turn(images, ORDERS)
        n, channels, height, width = images.shape
        tile = (height // self.grid, width // self.grid)
        tiles = images.reshape(n, channels, self.grid, tile[0], self.grid, tile[1])
        tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(n, self.grid**2, channels, *tile)
        order = self.orders.to(images.device)[numbers]
        tiles = tiles[torch.arange(n, device=images.device)[:, None], order]
        tiles = tiles.reshape(n, self.grid, self.grid, channels, *tile).permute(0, 3, 1, 4, 2, 5)
        return tiles.reshape(images.shape), numbers


class Inpainting(PretextTask):
    r"""Fill the hole in an image.

    .. math::

        \frac{1}{\sum_i |M_i|} \sum_{i=1}^{N} \sum_{p \in M_i}
        \bigl(g(h(\tilde x_i))_p - x_{ip}\bigr)^2

    with :math:`M_i` the values in the hole of image i, :math:`\tilde x_i` the image without them,
    h the encoder and g the head.

    A square hole is filled with the mean of what remains of its image, channel by channel; a
    perceptron of one hidden layer draws the whole image from the features, and only the hole
    counts. The hole of image i of a batch is at place i mod 9: corners, middles of the sides,
    centre. At complete collapse the loss is the variance of the pixels in the holes, and the
    relative error 1.

    Parameters
    ----------
    width
        Width of the encoder's output.
    shape
        (C, H, W) of an image.
    hole
        Side of the hole as a share of the shorter side of the image, in (0, 1).
    hidden
        Width of the perceptron's hidden layer.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these, or a hole without a pixel or without anything around it; on call
        as in :class:`PretextTask`.

    References
    ----------
    Pathak et al. 2016, "Context encoders: feature learning by inpainting", its squared error alone.

    Examples
    --------
    >>> import torch
    >>> task = Inpainting(64, (1, 8, 8))
    >>> task(torch.nn.Flatten(), torch.rand(18, 1, 8, 8)).shape
    torch.Size([])
    """

    masks: Tensor

    def __init__(
        self, width: int, shape: tuple[int, int, int], *, hole: float = 0.5, hidden: int = 256
    ) -> None:
        super().__init__(width, shape)
        hole = _checks.number("hole", hole, above=0, at_most=1)
        hidden = _checks.integer("hidden", hidden, at_least=1)
        channels, height, breadth = self.shape
        side = round(hole * min(height, breadth))
        if not 0 < side < min(height, breadth):
            raise ValueError(
                f"hole must leave pixels inside and around it in {height} x {breadth} pixels; "
                f"got {hole}, {side} pixels wide"
            )
        self.register_buffer("masks", _holes(height, breadth, side))
        self.head = nn.Sequential(
            nn.Linear(self.width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels * height * breadth),
            nn.Unflatten(1, self.shape),
        )

    def puzzle(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images with holes, and where those are, booleans of shape (N, 1, H, W)."""
        images = self._as_input(images)
        mask = self.masks.to(images.device)[self._in_turn(images, len(self.masks))]
        outside = (~mask).sum(dim=(2, 3), keepdim=True)
        mean = images.masked_fill(mask, 0).sum(dim=(2, 3), keepdim=True) / outside
        return torch.where(mask, mean, images), mask

    def forward(self, encoder: nn.Module, images: Tensor) -> Tensor:
        """Return :func:`inpainting` of the head's picture."""
        shown, mask = self.puzzle(images)
        return inpainting(self._answer(encoder, self.head, shown), images, mask)

    @torch.no_grad()
    def error(self, encoder: nn.Module, images: Tensor) -> float:
        """Return the loss over the variance in the holes: 0 is perfect, 1 the best one picture.

        Raises
        ------
        ValueError
            If the images are equal inside their holes: there is nothing to predict.
        """
        loss = self(encoder, images)
        variance = _variance(images.to(loss.dtype), self.puzzle(images)[1])
        if variance == 0:
            raise ValueError("images must differ inside their holes; all of them are equal there")
        return float(loss / variance)


def _variance(images: Tensor, mask: Tensor) -> Tensor:
    """Return the variance inside the holes, of each pixel over the images whose hole covers it."""
    counts = mask.sum(dim=0)
    means = (images * mask).sum(dim=0) / counts.clamp(min=1)
    return inpainting(means.expand_as(images), images, mask)


def _holes(height: int, width: int, side: int) -> Tensor:
    """Return nine masks, shape (9, 1, H, W): the corners, middles of the sides and centre."""
    masks = torch.zeros(9, 1, height, width, dtype=torch.bool)
    tops, lefts = ((0, (size - side) // 2, size - side) for size in (height, width))
    for mask, (top, left) in zip(masks, itertools.product(tops, lefts), strict=True):
        mask[:, top : top + side, left : left + side] = True
    return masks


@cache
def _orders(tiles: int) -> np.ndarray:
    """Return 24 orders of the tiles, each far from all before it; the first is the right one."""
    candidates = np.array(list(itertools.permutations(range(tiles))), dtype=np.int8)
    chosen = [0]
    nearest = (candidates != candidates[0]).sum(axis=1, dtype=np.int8)
    while len(chosen) < ORDERS:
        chosen.append(int(nearest.argmax()))
        distance = (candidates != candidates[chosen[-1]]).sum(axis=1, dtype=np.int8)
        nearest = np.minimum(nearest, distance)
    return candidates[chosen].astype(np.int64)


def _as_images(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        given = f"dtype {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating torch.Tensor; got {given}")
    if value.ndim != 4 or 0 in value.shape:
        raise ValueError(f"{name} must have shape (N, C, H, W); got shape {tuple(value.shape)}")
    if not _checks.all_finite(value):
        raise ValueError(f"{name} must be finite; it holds NaN or Inf")
    return value


def _as_mask(mask: Any, image: Tensor) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        given = f"dtype {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a boolean torch.Tensor; got {given}")
    expected = (len(image), 1, *image.shape[2:])
    if mask.shape != expected:
        raise ValueError(f"mask must have shape {expected}; got shape {tuple(mask.shape)}")
    if not mask.any():
        raise ValueError("mask must be true somewhere; there is no hole in it")
    return mask
