"""What every data set is: two splits of images with labels, drawn by seeded random streams."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks

ViewKind = Literal["moved", "augmented"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split, with what is known of each.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
        float32, pixel values in [0, 1].
    labels : Tensor, shape (N,)
        int64 class labels.
    factors : mapping of str to Tensor of shape (N,)
        Known properties of the *content*, which no view changes. Empty for photographs and
        handwriting, where nobody knows them.

    Raises
    ------
    TypeError, ValueError
        Where a shape or dtype is another; the message names the field.

    Examples
    --------
    >>> split = Split(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]))
    >>> len(split), split.channels
    (3, 1)
    """

    images: Tensor
    labels: Tensor
    factors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) or self.images.dtype != torch.float32:
            given = getattr(self.images, "dtype", type(self.images).__name__)
            raise TypeError(f"images must be a float32 torch.Tensor; got {given}")
        if self.images.ndim != 4 or 0 in self.images.shape:
            raise ValueError(f"images must have shape (N, C, H, W); got {tuple(self.images.shape)}")
        low, high = (float(bound) for bound in torch.aminmax(self.images))
        if not 0 <= low <= high <= 1:  # NaN fails this comparison, too
            raise ValueError(f"images must hold values in [0, 1]; got {low:g} to {high:g}")
        if not isinstance(self.labels, Tensor) or self.labels.dtype != torch.int64:
            given = getattr(self.labels, "dtype", type(self.labels).__name__)
            raise TypeError(f"labels must be an int64 torch.Tensor; got {given}")
        _checks.as_labels("labels", self.labels, len(self.images))
        for name, values in self.factors.items():
            if values.shape != (len(self.images),):
                raise ValueError(
                    f"factors[{name!r}] must have shape ({len(self.images)},); "
                    f"got {tuple(values.shape)}"
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        """How many channels an image has."""
        return self.images.shape[1]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: a train and a test split that share no image.

    Parameters
    ----------
    name : str
        The name that `load` knows it by.
    train, test : Split
        The two splits.
    class_names : tuple of str
        The name of each class; a label is an index into it.
    views : {"moved", "augmented"}
        How two views of one image are made: pasted elsewhere on a canvas with known nuisances, or
        cropped and recoloured as photographs are. See `repcollapse.views`.

    Raises
    ------
    TypeError, ValueError
        Where a split is none, the splits' images differ in shape, a label has no class name, or
        `views` is another word.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    views: ViewKind

    def __post_init__(self) -> None:
        _checks.choice("views", self.views, get_args(ViewKind))
        for name, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Split):
                raise TypeError(f"{name} must be a Split; got {type(split).__name__}")
            low, high = (int(bound) for bound in torch.aminmax(split.labels))
            if not 0 <= low <= high < len(self.class_names):
                raise ValueError(
                    f"class_names must name every label of {name}, {low} to {high}; "
                    f"got {len(self.class_names)} names"
                )
        shapes = [tuple(split.images.shape[1:]) for split in (self.train, self.test)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"train and test must hold images of one shape; got {shapes}")


def stream(seed: int, purpose: str) -> torch.Generator:
    """Return the random stream of `seed` for one purpose, independent of those for all others.

    Parameters
    ----------
    seed : int
        At least 0.
    purpose : str
        What is drawn from it, for example "digits split".

    Examples
    --------
    >>> first, again = (torch.rand(1, generator=stream(0, "split")) for _ in range(2))
    >>> other = torch.rand(1, generator=stream(0, "views"))
    >>> bool(first == again), bool(first == other)
    (True, False)
    """
    _checks.integer("seed", seed, at_least=0)
    entropy = np.random.SeedSequence([int(seed), zlib.crc32(purpose.encode())])
    # manual_seed takes 64 bits, but stays portable only where they fit a signed integer.
    state = int(entropy.generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator().manual_seed(state)


def stratified_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random order of all samples, every stretch of which holds the classes in proportion.

    Each class is shuffled and its members are placed evenly along [0, 1) with one random offset a
    place; sorting by place interleaves the classes. A slice of the order is then a stratified
    sample, and disjoint slices are disjoint samples.

    Parameters
    ----------
    labels : Tensor, shape (N,)
    generator : torch.Generator

    Returns
    -------
    Tensor, shape (N,)
        A permutation of 0 … N-1.

    Examples
    --------
    >>> labels = torch.tensor([0] * 60 + [1] * 30)
    >>> order = stratified_order(labels, stream(0, "example"))
    >>> labels[order[:30]].bincount().tolist()
    [20, 10]
    """
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        offset = torch.rand(len(members), generator=generator, dtype=torch.float64)
        place[members] = (torch.arange(len(members)) + offset) / len(members)
    return place.argsort()
