"""`load`: the same rules for every data set, and what is particular to digits and sprites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from official_files import write_cifar, write_fashion

from repcollapse.data import NAMES, Dataset, load
from repcollapse.data.files import CIFAR_BINARY
from repcollapse.data.sprites import FACTORS, SHAPES, SIDE, render

SMALL = {"n_train": 20, "n_test": 10}
Load = Callable[..., Dataset]


@pytest.fixture
def load_any(root: Path) -> Load:
    write_fashion(root)
    write_cifar(root, CIFAR_BINARY)
    return load


def rows(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_everything(name: str, load_any: Load) -> None:
    first, again, other = (load_any(name, seed=seed, **SMALL) for seed in (1, 1, 2))
    for part in ("train", "test"):
        a, b, c = (getattr(dataset, part) for dataset in (first, again, other))
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
        assert all(torch.equal(a.factors[key], b.factors[key]) for key in a.factors)
        assert rows(a.images) != rows(c.images)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_types_and_disjoint_splits(name: str, load_any: Load) -> None:
    dataset = load_any(name, **SMALL)
    assert dataset.name == name
    for split, size in ((dataset.train, 20), (dataset.test, 10)):
        assert len(split) == len(split.labels) == size
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert 0 <= split.labels.min() <= split.labels.max() < len(dataset.class_names)
        assert split.images.max() > 0.5  # not divided twice
    assert not rows(dataset.train.images) & rows(dataset.test.images)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_train": 1}, ValueError, "n_train must be at least 2.*got 1"),
        ({"n_test": 0}, ValueError, "n_test must be at least 2.*got 0"),
        ({"n_train": 2.0}, TypeError, "n_train must be an integer; got float"),
        ({"seed": -1}, ValueError, "seed must be at least 0.*got -1"),
        ({"seed": "0"}, TypeError, "seed must be an integer; got str"),
    ],
)
def test_bad_numbers(
    name: str, arguments: dict[str, object], error: type[Exception], message: str, load_any: Load
) -> None:
    with pytest.raises(error, match=message):
        load_any(name, **arguments)


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"name must be one of \['cifar10', 'digits'.*got 'mnist'"):
        load("mnist")


def test_more_than_there_is(load_any: Load) -> None:
    with pytest.raises(ValueError, match=r"n_train \+ n_test must be at most 1797.*1301 \+ 497"):
        load_any("digits", n_train=1301)
    with pytest.raises(ValueError, match="n_train must be at least 2 and at most 40; got 41"):
        load_any("fashion_mnist", n_train=41, n_test=2)
    with pytest.raises(ValueError, match="n_test must be at least 2 and at most 20; got 21"):
        load_any("cifar10", n_train=2, n_test=21)


def test_digits_are_all_used_once_and_balanced() -> None:
    digits = load("digits")
    assert (len(digits.train), len(digits.test)) == (1300, 497)
    # Some digits of the set may coincide; the values that went in must be those that came out.
    from sklearn.datasets import load_digits

    ours = torch.cat([digits.train.images, digits.test.images]).mul(16).flatten(1)
    theirs = torch.from_numpy(load_digits().data).float()
    assert sorted(ours.tolist()) == sorted(theirs.tolist())
    share = digits.train.labels.bincount() / 1300
    assert (share - digits.test.labels.bincount() / 497).abs().max() < 0.005


def test_sprites_are_balanced_and_their_factors_in_range() -> None:
    sprites = load("sprites")
    for split in (sprites.train, sprites.test):
        assert split.images.shape[1:] == (1, SIDE, SIDE)
        assert split.labels.bincount().unique().numel() == 1
        assert set(split.factors) == set(FACTORS)
        for name, (low, high) in FACTORS.items():
            values = split.factors[name]
            assert low <= values.min() < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < values.max() <= high


def test_sprites_are_drawn_as_their_labels_and_factors_say() -> None:
    split = load("sprites", n_train=24, n_test=2).train
    for i, label in enumerate(split.labels):
        own = {name: values[i : i + 1] for name, values in split.factors.items()}
        expected = render(list(SHAPES.values())[label], **own)
        assert torch.allclose(split.images[i : i + 1], expected, atol=1e-5)


def drawn(shape: str, elongation: float, stroke: float, tone: float) -> torch.Tensor:
    return render(SHAPES[shape], *torch.tensor([[elongation], [stroke], [tone]]))[0, 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_sprite_factors_are_what_one_sees(shape: str) -> None:
    filled = drawn(shape, 0.0, 3.0, 1.0)
    assert filled.max() == 1
    assert filled[0].max() == filled[-1].max() == filled[:, 0].max() == filled[:, -1].max() == 0
    # Tone scales the brightness.
    assert torch.allclose(drawn(shape, 0.0, 3.0, 0.6), 0.6 * filled)
    # A thinner stroke leaves a subset, and less of it.
    thick, thin = drawn(shape, 0.0, 0.4, 1.0), drawn(shape, 0.0, 0.2, 1.0)
    assert (thin <= thick).all()
    assert (thick <= filled).all()
    assert thin.sum() < filled.sum()
    # Elongation is log2 of height over width, relative to the shape's own; the area is kept.
    tall = drawn(shape, 0.6, 3.0, 1.0)
    assert extent(tall, 1) / extent(tall, 0) == pytest.approx(
        2**0.6 * extent(filled, 1) / extent(filled, 0), rel=0.08
    )
    assert tall.sum() == pytest.approx(filled.sum().item(), rel=0.02)


def extent(image: torch.Tensor, axis: int) -> float:
    """Standard deviation of the brightness along an axis: 0 is x, 1 is y."""
    weight = image.sum(dim=axis) / image.sum()
    place = torch.arange(SIDE, dtype=torch.float32)
    mean = (weight * place).sum()
    return (weight * (place - mean).square()).sum().sqrt().item()


def test_a_disc_has_the_area_of_a_disc() -> None:
    area = drawn("disc", 0.0, 3.0, 1.0).sum().item() * (2 / SIDE) ** 2
    assert area == pytest.approx(torch.pi * 0.75**2, rel=0.01)
