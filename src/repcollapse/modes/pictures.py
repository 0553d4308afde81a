"""The pictures of a data set as modes are trained on them: standardised, or small and grey."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import load
from repcollapse.training import chance

ABOUT = ("channels", "pixels")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures to train on and pictures to judge by, with the class that each is of.

    Attributes
    ----------
    train, test
        Standardised pictures, shapes (N, C, H, W) and (M, C, H, W), or what :meth:`each` made of
        them.
    train_labels, test_labels
        Their classes, int64, shapes (N,) and (M,).
    classes
        How many classes the data set has.
    mean, scale
        What was subtracted from each picture, and what it was divided by after: of shapes that go
        with (C, H, W).

    Examples
    --------
    >>> rows = pictures("digits", 0).each(lambda images: images.flatten(1))
    >>> tuple(rows.train.shape), tuple(rows.test.shape), rows.classes
    ((1300, 64), (497, 64), 10)
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int
    mean: Tensor
    scale: Tensor

    def each(self, function: Callable[[Tensor], Tensor]) -> Pictures:
        """Return them with `function` applied to the pictures of both halves."""
        return replace(self, train=function(self.train), test=function(self.test))

    def to(self, device: torch.device | str) -> Pictures:
        """Return them, labels as well, on a device."""
        return Pictures(
            self.train.to(device),
            self.train_labels.to(device),
            self.test.to(device),
            self.test_labels.to(device),
            self.classes,
            self.mean.to(device),
            self.scale.to(device),
        )

    def raw(self, images: Tensor) -> Tensor:
        r"""Return standardised pictures as they were in the data set.

        .. math:: s\,x + m

        Parameters
        ----------
        images
            Standardised as these are, shape (N, C, H, W).

        Returns
        -------
        Tensor
            Of that shape; of `train` and `test`, values in [0, 1] but for rounding.

        Raises
        ------
        ValueError
            For images of another shape than `train`, or after :meth:`each` made rows of them.

        Examples
        --------
        >>> digits = pictures("digits", 0)
        >>> seen = load("digits", seed=0).test.images
        >>> bool(torch.allclose(digits.raw(digits.test), seen, atol=1e-6))
        True
        """
        if images.ndim != 4 or images.shape[1:] != self.train.shape[1:]:
            raise ValueError(
                "images must have shape (N, C, H, W), with C, H and W as in train, of shape "
                f"{tuple(self.train.shape)}; got {tuple(images.shape)}"
            )
        return images * self.scale + self.mean

    @property
    def chance(self) -> float:
        """The share of the test pictures that are of the largest training class, in [0, 1]."""
        return chance(self.train_labels, self.test_labels)


def pictures(dataset: str, seed: int, *, about: str = "channels") -> Pictures:
    r"""Return the pictures of a data set, split by `seed` and standardised by the training half.

    About the mean of every channel, :math:`(x - m_c) / s_c`, with :math:`m_c` the mean of all
    training pixels of the channel and :math:`s_c` their standard deviation (divisor one less). Or
    about the mean training picture :math:`\bar x`,

    .. math:: (x - \bar x) / s, \qquad
              s^2 = \frac1{NP} \sum_i \lVert x_i - \bar x \rVert^2,

    over N pictures of P numbers: one scale for all, so that what varies little stays little.

    Parameters
    ----------
    dataset, seed
        As in :func:`repcollapse.data.load`.
    about
        "channels" or "pixels".

    Returns
    -------
    Pictures
        float32. Of the training half, every channel has mean 0 and variance 1; or every pixel has
        mean 0, and all together the mean square 1: there, a reconstruction by the mean picture
        has the error 1.

    Raises
    ------
    ValueError
        For another `about`, or a data set whose training pictures are all alike.
    TypeError, ValueError, FileNotFoundError, ConnectionError, ImportError
        As :func:`repcollapse.data.load` does.

    Examples
    --------
    >>> digits = pictures("digits", 0, about="pixels")
    >>> tuple(digits.train.shape), round(float(digits.train.square().mean()), 4)
    ((1300, 1, 8, 8), 1.0)
    """
    _checks.choice("about", about, ABOUT)
    return _standardised(dataset, seed, about)


@lru_cache(maxsize=8)  # all arms of a seed have the same, and some data sets are slow to draw
def _standardised(dataset: str, seed: int, about: str) -> Pictures:
    both = load(dataset, seed=seed)
    train, test = both.train.images, both.test.images
    if about == "channels":
        scale, mean = torch.std_mean(train, dim=(0, 2, 3), keepdim=True)
    else:
        mean = train.mean(dim=0)
        scale = (train - mean).square().mean().sqrt()
    if not bool((scale > 0).all()):
        raise ValueError(f"dataset must have training pictures that differ; {dataset!r} has not")
    return Pictures(
        train=(train - mean) / scale,
        train_labels=both.train.labels,
        test=(test - mean) / scale,
        test_labels=both.test.labels,
        classes=len(both.class_names),
        mean=mean,
        scale=scale,
    )


def grey(images: Tensor, side: int) -> Tensor:
    """Return small grey pictures: the mean of the channels, drawn anew with `side` pixels a side.

    Parameters
    ----------
    images
        Shape (N, C, H, W), values in [0, 1].
    side
        >= 1. A pixel is a mean of those that it covers, or lies between, weighted by nearness.

    Returns
    -------
    Tensor
        Shape (N, side, side), values in [0, 1]; of grey pictures with as many pixels, the same.

    Raises
    ------
    TypeError, ValueError
        For a side that is not a count, or images of another shape.

    Examples
    --------
    >>> tuple(grey(torch.rand(5, 3, 32, 32), 8).shape)
    (5, 8, 8)
    """
    side = _checks.integer("side", side, at_least=1)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (N, C, H, W); got {tuple(images.shape)}")
    mean = images.mean(dim=1, keepdim=True)
    return F.interpolate(mean, (side, side), mode="bilinear", antialias=True)[:, 0]
