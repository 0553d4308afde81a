"""Where views come from: the whole data set on the device, and what draws views of its images.

Photographs lie there as bytes and are augmented anew at every step. Moved views are taken from a
bank of 16 renderings of each image, as the chapters take them: rendering is a matter of the CPU
and is done once (Fashion-MNIST's bank has 1 GB).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from repcollapse import augmentation
from repcollapse.data import Dataset, Split, load, stream
from repcollapse.pretraining.settings import SIZES, Settings
from repcollapse.views import ViewBank, make_bank

MOMENTS_FROM = 2048  # images whose views give the mean and standard deviation of all


class Source(Protocol):
    """The images of a split and how their views are drawn."""

    @property
    def labels(self) -> Tensor:
        """The class of each image."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of a view."""

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return what makes two views of each of `count` images: 2 `count` rows, on the CPU.

        Rows `count` on are the second views of the same images.
        """

    def render(self, rows: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Return a view of each of the images `rows`, (N, C, H, W), by as many rows of `drawn`."""


@dataclass(frozen=True)
class BankSource:
    """Views from a bank: two different ones of an image, every pair as likely."""

    bank: ViewBank
    dtype: torch.dtype

    @property
    def labels(self) -> Tensor:
        """The class of each image."""
        return self.bank.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of a view."""
        return self.bank.shape

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the number of each view in the bank."""
        views = self.bank.n_views
        first = torch.randint(views, (count,), generator=generator)
        further = torch.randint(1, views, (count,), generator=generator)
        return {"view": torch.cat([first, (first + further) % views])}

    def render(self, rows: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Return views as they lie in the bank."""
        picks = (rows * self.bank.n_views + drawn["view"]).to(self.bank.device)
        return self.bank.views.flatten(0, 1)[picks].to(self.dtype)


@dataclass(frozen=True)
class AugmentedSource:
    """Views made on the device from images of bytes, standardised by channel."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of a view."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the parameters of :func:`augmentation.draw`."""
        return augmentation.draw(2 * count, self.shape[1:], generator)

    def render(self, rows: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Return augmented views."""
        images = self.images[rows.to(self.images.device)].to(self.dtype) / 255
        views = augmentation.augment(images, drawn)
        return (views - self.mean[:, None, None]) / self.std[:, None, None]


def sources(settings: Settings, device: torch.device) -> tuple[Source, Source]:
    """Return the train and the test source of `settings`, on `device`.

    Raises
    ------
    FileNotFoundError, ConnectionError, ImportError, ValueError
        As :func:`repcollapse.data.load` does.
    """
    most_train, most_test = SIZES[settings.dataset]
    dataset = load(
        settings.dataset,
        seed=settings.seed,
        n_train=most_train if settings.limit is None else settings.limit,
        n_test=min(settings.test_limit, most_test),
    )
    dtype = getattr(torch, settings.dtype)
    if dataset.views == "moved":
        return _banked(dataset, settings.seed, device, dtype)
    train = _augmented(dataset.train, None, settings.seed, device, dtype)
    return train, _augmented(dataset.test, train, settings.seed, device, dtype)


def _banked(
    dataset: Dataset, seed: int, device: torch.device, dtype: torch.dtype
) -> tuple[Source, Source]:
    train = make_bank(dataset.train, dataset, seed=seed)
    test = make_bank(dataset.test, dataset, views=2, seed=seed, like=train)
    return BankSource(train.to(device), dtype), BankSource(test.to(device), dtype)


def _augmented(
    split: Split,
    like: AugmentedSource | None,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> AugmentedSource:
    images = split.images.mul(255).round_().byte().to(device)
    if like is not None:
        return AugmentedSource(images, split.labels, like.mean, like.std, dtype)
    zero = torch.zeros(3, dtype=dtype, device=device)
    raw = AugmentedSource(images, split.labels, zero, zero + 1, dtype)
    count = min(MOMENTS_FROM, len(images))
    drawn = raw.draw(count, stream(seed, "views that the moments are taken of"))
    first = {name: values[:count] for name, values in drawn.items()}
    std, mean = torch.std_mean(raw.render(torch.arange(count), first), dim=(0, 2, 3))
    return AugmentedSource(images, split.labels, mean, std, dtype)
