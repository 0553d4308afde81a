"""Two modalities in one image: its left half and its right half."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repcollapse.modes.pictures import pictures

SIDES = ("left", "right")


@dataclass(frozen=True, eq=False, kw_only=True)
class Halves:
    """What each tower is shown of every image, as rows: a is the one tower's, b the other's.

    Attributes
    ----------
    train_a, train_b, test_a, test_b
        Pixels, shape (N, P), each channel standardised by all train pixels.
    labels
        The classes of the test images, shape (N,).
    """

    train_a: Tensor
    train_b: Tensor
    test_a: Tensor
    test_b: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Halves:
        """Return all of it on a device."""
        return Halves(**{name: rows.to(device) for name, rows in vars(self).items()})


def halves(dataset: str, seed: int, *, sides: tuple[str, str] = SIDES) -> Halves:
    """Cut the images of a data set in two, and give each tower a half.

    Parameters
    ----------
    dataset, seed
        As in :func:`repcollapse.data.load`.
    sides
        The half of each tower: "left" or "right". Of an odd width neither has the middle column.

    Returns
    -------
    Halves
        On the CPU.

    Raises
    ------
    ValueError
        For sides other than these.
    TypeError, ValueError, FileNotFoundError, ConnectionError, ImportError
        As :func:`repcollapse.data.load` does.

    Examples
    --------
    >>> halves("digits", 0).train_a.shape
    torch.Size([1300, 32])
    """
    if len(sides) != 2 or not set(sides) <= set(SIDES):
        raise ValueError(f"sides must be two of {', '.join(SIDES)}; got {sides}")
    first, second = sides
    seen = pictures(dataset, seed)

    def half(images: Tensor, side: str) -> Tensor:
        width = images.shape[-1] // 2
        return (images[..., :width] if side == "left" else images[..., -width:]).flatten(1)

    return Halves(
        train_a=half(seen.train, first),
        train_b=half(seen.train, second),
        test_a=half(seen.test, first),
        test_b=half(seen.test, second),
        labels=seen.test_labels,
    )
