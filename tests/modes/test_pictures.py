"""Pictures as modes are trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from repcollapse.data import Dataset, Split, load
from repcollapse.modes import pictures as module
from repcollapse.modes.pictures import ABOUT, grey, pictures


@pytest.fixture
def coloured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    """Pictures of two channels of very different sizes, in the place of a data set."""
    generator = torch.Generator().manual_seed(0)
    parts = (torch.rand(count, 2, 4, 4, generator=generator) for count in (30, 10))
    sizes = torch.tensor([1.0, 0.1])[:, None, None]
    train, test = (Split(sizes * part, torch.arange(len(part)) % 3) for part in parts)
    made = Dataset("digits", train, test, ("a", "b", "c"), "moved")
    monkeypatch.setattr(module, "load", lambda name, *, seed: made)
    module._standardised.cache_clear()
    yield made
    module._standardised.cache_clear()


def test_each_channel_is_standardised_by_the_training_half(coloured: Dataset) -> None:
    found = pictures("digits", 0, about="channels")
    std, mean = torch.std_mean(found.train, dim=(0, 2, 3))
    torch.testing.assert_close(std, torch.ones(2))
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-6, rtol=0)
    train = coloured.train.images[:, 1]
    expected = (coloured.test.images[:, 1] - train.mean()) / train.std()
    torch.testing.assert_close(found.test[:, 1], expected)


def test_about_the_mean_picture_one_scale_serves_all_pixels(coloured: Dataset) -> None:
    found = pictures("digits", 0, about="pixels")
    torch.testing.assert_close(found.train.mean(dim=0), torch.zeros(2, 4, 4), atol=1e-6, rtol=0)
    assert float(found.train.square().mean()) == pytest.approx(1)
    sizes = found.train.square().mean(dim=(0, 2, 3)).sqrt()
    assert float(sizes[0] / sizes[1]) == pytest.approx(10, rel=0.1)  # what is little stays little
    shift = coloured.test.images[0] - coloured.train.images[0]
    ratio = shift / (found.test[0] - found.train[0])
    torch.testing.assert_close(ratio, ratio[0, 0, 0].expand_as(ratio), rtol=1e-3, atol=0)


def test_labels_classes_and_chance_are_those_of_the_data(coloured: Dataset) -> None:
    found = pictures("digits", 0)
    assert torch.equal(found.train_labels, coloured.train.labels)
    assert torch.equal(found.test_labels, coloured.test.labels)
    assert found.classes == 3
    some = replace(
        found, train_labels=torch.tensor([2, 2, 1]), test_labels=torch.tensor([2, 0, 1, 2])
    )
    assert some.chance == 0.5


def test_both_halves_go_through_a_function_and_labels_stay() -> None:
    whole = pictures("digits", 900)
    left = whole.each(lambda images: images[..., :4].flatten(1))
    assert left.train.shape == (1300, 32)
    assert torch.equal(left.test, whole.test[..., :4].flatten(1))
    assert left.train_labels is whole.train_labels
    assert left.to("cpu").classes == 10


@pytest.mark.parametrize("about", ABOUT)
def test_standardised_pictures_can_be_had_as_they_were(coloured: Dataset, about: str) -> None:
    found = pictures("digits", 0, about=about)
    torch.testing.assert_close(found.raw(found.test), coloured.test.images)
    torch.testing.assert_close(found.to("cpu").raw(found.train[:3]), coloured.train.images[:3])
    with pytest.raises(ValueError, match=r"images must have shape .* got \(10, 32\)"):
        found.raw(found.test.flatten(1))
    with pytest.raises(ValueError, match=r"images must have shape .* got \(10, 1, 4, 4\)"):
        found.raw(found.test[:, :1])
    rows = found.each(lambda images: images.flatten(1))
    with pytest.raises(ValueError, match=r"images must have shape .* got \(10, 32\)"):
        rows.raw(rows.test)


def test_seeds_split_anew_and_one_seed_is_drawn_once() -> None:
    assert pictures("digits", 900) is pictures("digits", 900)
    assert not torch.equal(pictures("digits", 900).test_labels, pictures("digits", 901).test_labels)


def test_another_way_and_pictures_all_alike_are_refused(coloured: Dataset) -> None:
    with pytest.raises(ValueError, match="about must be one of"):
        pictures("digits", 0, about="rows")
    coloured.train.images[:, 1] = 0.5
    with pytest.raises(ValueError, match="training pictures that differ"):
        pictures("digits", 0)


def test_grey_is_the_mean_of_channels_at_another_size() -> None:
    images = load("digits", seed=900).train.images[:20]
    assert torch.equal(grey(images, 8), images[:, 0])
    coloured = torch.cat([images, 1 - images], dim=1)
    torch.testing.assert_close(grey(coloured, 5), torch.full((20, 5, 5), 0.5))
    small = grey(images, 2)
    assert small.shape == (20, 2, 2)
    assert 0 <= float(small.min()) < float(small.max()) <= 1
    # A pixel is drawn from its own corner of the picture.
    corner = torch.zeros(1, 1, 8, 8)
    corner[..., :4, :4] = 1
    assert grey(corner, 2)[0].argmax() == 0
    with pytest.raises(ValueError, match="images must have shape"):
        grey(images[0], 4)
    with pytest.raises(ValueError, match="side must be at least 1; got 0"):
        grey(images, 0)
