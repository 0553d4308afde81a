from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from repcollapse.data import Dataset, Split, load
from repcollapse.views import Motion, ViewBank, banks, make_bank

STILL = Motion(shift=0, rotation=0, scale=(0.7, 0.7), background=0, noise=0)


def blob(side: int = 8, count: int = 3) -> Dataset:
    """A data set of one bright pixel block in the middle, with one known content factor."""
    images = torch.zeros(count, 1, side, side)
    middle = slice(side // 2 - 1, side // 2 + 1)
    images[:, :, middle, middle] = 1
    split = Split(images, torch.arange(count), {"tone": torch.linspace(0, 1, count)})
    return Dataset("blob", split, split, ("a", "b", "c"), "moved")


def photographs(count: int = 6) -> Dataset:
    """Colour images that differ from place to place, so that a crop can be told from another."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=draw)
    images = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear").clamp(0, 1)
    split = Split(images, torch.arange(count))
    return Dataset("photographs", split, split, tuple("abcdef"), "augmented")


def pixels(bank: ViewBank) -> Tensor:
    """The views in pixel values, before standardisation."""
    return bank.views * bank.std[:, None, None] + bank.mean[:, None, None]


def centre_of_mass(images: Tensor) -> Tensor:
    """(x, y) of each image of (..., S, S), the canvas reaching from -1 to 1."""
    side = images.shape[-1]
    place = (torch.arange(side) + 0.5) * 2 / side - 1
    mass = images.sum(dim=(-1, -2))
    x = (images.sum(dim=-2) * place).sum(-1) / mass
    y = (images.sum(dim=-1) * place).sum(-1) / mass
    return torch.stack([x, y], dim=-1)


# --- moved views: the recorded nuisances are the true ones


@pytest.mark.parametrize("side", [8, 28])  # 28 is pasted on a finer canvas first
def test_shift_moves_the_centre_of_mass(side: int) -> None:
    dataset = blob(side)
    motion = Motion(rotation=0, scale=(0.7, 0.7), background=0, noise=0)
    bank = make_bank(dataset.train, dataset, views=32, motion=motion)
    seen = centre_of_mass(pixels(bank)[:, :, 0])
    told = torch.stack([bank.factors["x"], bank.factors["y"]], dim=-1)
    assert (seen - told).abs().max() < 0.03
    assert told.abs().max() > 0.2


def test_an_image_is_scaled_then_turned_clockwise_then_shifted() -> None:
    dataset = blob()
    images = torch.zeros(1, 1, 8, 8)
    images[..., 3:5, 6] = 1  # right of the middle, at x = 0.625
    split = Split(images, torch.zeros(1, dtype=torch.int64))
    motion = Motion(rotation=1.5, background=0, noise=0)
    bank = make_bank(split, dataset, views=64, side=32, motion=motion)
    told = bank.factors
    reach = 0.625 * told["scale"]
    x = told["x"] + reach * told["rotation"].cos()
    y = told["y"] + reach * told["rotation"].sin()
    seen = centre_of_mass(pixels(bank)[:, :, 0])
    assert (seen - torch.stack([x, y], dim=-1)).abs().max() < 0.03


def test_scale_is_half_the_side_of_the_pasted_image() -> None:
    dataset = blob()
    split = Split(torch.ones(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
    motion = Motion(shift=0, rotation=0, scale=(0.3, 0.9), background=0, noise=0)
    bank = make_bank(split, dataset, views=64, side=32, motion=motion)
    area = pixels(bank)[:, :, 0].mean(dim=(-1, -2))  # of a canvas of side 2: (2 s)² / 4
    # Each edge is blurred over an image pixel, s/4, half of it cut off: what remains is 1 - 1/32
    # of the side on each edge, at the lowest order.
    assert (area.sqrt() / bank.factors["scale"] - 1).abs().max() < 0.06
    assert bank.factors["scale"].std() > 0.1


def test_background_is_the_amplitude_of_the_wave() -> None:
    dataset = blob()
    split = Split(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))
    motion = Motion(background=0.4, noise=0)
    bank = make_bank(split, dataset, views=64, side=32, motion=motion)
    highest = pixels(bank).abs().amax(dim=(-1, -2, -3))
    told = bank.factors["background"]
    assert (highest <= told + 1e-5).all()
    assert (highest >= 0.97 * told - 1e-5).all()  # the wave peaks between pixels


def test_noise_is_normal_with_its_deviation() -> None:
    dataset = blob()
    split = Split(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))
    motion = Motion(background=0, noise=0.05)
    bank = make_bank(split, dataset, views=64, side=32, motion=motion)
    assert pixels(bank).std().item() == pytest.approx(0.05, rel=0.02)
    assert bank.views.pow(4).mean().item() == pytest.approx(3, rel=0.05)


def test_a_still_view_is_the_image_itself() -> None:
    dataset = blob()
    motion = Motion(shift=0, rotation=0, scale=(1.0, 1.0), background=0, noise=0)
    bank = make_bank(dataset.train, dataset, views=2, side=8, motion=motion)
    expected = dataset.train.images[:, None].expand(-1, 2, -1, -1, -1)
    assert torch.allclose(pixels(bank), expected, atol=1e-5)


def test_content_is_the_same_in_all_views() -> None:
    dataset = blob()
    bank = make_bank(dataset.train, dataset, views=5)
    assert set(bank.content) == {"tone"}
    assert torch.equal(bank.content["tone"], torch.linspace(0, 1, 3)[:, None].expand(3, 5))
    assert not set(bank.content) & set(bank.factors)
    assert all(values.shape == (3, 5) for values in bank.factors.values())


def test_sprites_turn_further() -> None:
    sprites = load("sprites", n_train=64, n_test=8)
    turned = make_bank(sprites.train, sprites, views=4).factors["rotation"].abs().max()
    assert 0.5 < turned <= 0.6


# --- standardisation, seeds


@pytest.mark.parametrize("name", ["digits", "sprites"])
def test_the_train_bank_is_standardised_and_the_test_bank_by_it(name: str) -> None:
    train, test = banks(name, seed=1, views=4, test_views=2)
    assert train.views.dtype == test.views.dtype == torch.float32
    assert train.views.double().mean().abs() < 1e-5
    assert train.views.double().std().item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(train.mean, test.mean)
    assert torch.equal(train.std, test.std)
    assert test.views.mean() != 0
    assert torch.isfinite(test.views).all()


def test_colours_are_standardised_each() -> None:
    dataset = photographs()
    bank = make_bank(dataset.train, dataset, views=4)
    assert torch.allclose(bank.views.mean(dim=(0, 1, 3, 4)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(bank.views.std(dim=(0, 1, 3, 4)), torch.ones(3), atol=1e-3)


@pytest.mark.parametrize("dataset", [blob(), photographs()], ids=["moved", "augmented"])
def test_a_seed_decides_all_views(dataset: Dataset) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = make_bank(dataset.train, dataset, views=3, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's draws are touched
    torch.manual_seed(5)
    again = make_bank(dataset.train, dataset, views=3, seed=1)
    other = make_bank(dataset.train, dataset, views=3, seed=2)
    assert torch.equal(first.views, again.views)
    assert all(torch.equal(first.factors[name], again.factors[name]) for name in first.factors)
    assert not torch.equal(first.views, other.views)


def test_the_test_bank_does_not_repeat_the_nuisances_of_the_train_bank() -> None:
    dataset = blob()
    train = make_bank(dataset.train, dataset, views=4)
    test = make_bank(dataset.test, dataset, views=4, like=train)
    assert not torch.equal(train.factors["x"], test.factors["x"])


def test_the_seed_of_banks_governs_split_and_views() -> None:
    a, b = (banks("digits", seed=seed, views=2, test_views=2)[0] for seed in (0, 1))
    assert not torch.equal(a.labels, b.labels)
    assert not torch.equal(a.factors["x"], b.factors["x"])


def test_a_loaded_data_set_gives_the_banks_of_its_name() -> None:
    by_name = banks("sprites", seed=2, views=2, test_views=2)
    by_value = banks(load("sprites", seed=2), seed=2, views=2, test_views=2)
    for a, b in zip(by_name, by_value, strict=True):
        assert torch.equal(a.views, b.views)


# --- augmented views


def test_augmented_factors_are_the_true_ones() -> None:
    dataset = photographs(6)
    bank = make_bank(dataset.train, dataset, views=64)
    seen, told = pixels(bank), bank.factors
    assert seen.shape == (6, 64, 3, 32, 32)
    assert seen.min() > -1e-4
    assert seen.max() < 1 + 1e-4
    colourless = (seen.amax(dim=2) - seen.amin(dim=2)).amax(dim=(-1, -2)) < 1e-4
    assert torch.equal(colourless, told["grey"] == 1)
    assert 0.1 < told["grey"].mean() < 0.3
    assert 0.4 < told["flip"].mean() < 0.6
    assert 0.05 < told["scale"].min() < 0.4
    assert 0.9 < told["scale"].max() <= 1


def test_the_crop_is_where_its_factors_say() -> None:
    # Brightness rises to the right. Jitter moves and stretches it but keeps its order: a view falls
    # off to the right exactly where it is flipped, and is the brighter the further right the crop.
    ramp = torch.linspace(0.3, 0.7, 32).expand(4, 3, 32, 32)
    split = Split(ramp.clone(), torch.zeros(4, dtype=torch.int64))
    bank = make_bank(split, photographs(), views=64)
    columns = pixels(bank).mean(dim=(2, 3))
    rise = columns[..., -4:].mean(dim=-1) - columns[..., :4].mean(dim=-1)
    assert torch.equal(rise < 0, bank.factors["flip"] == 1)
    x, brightness = bank.factors["x"].flatten(), columns.mean(dim=-1).flatten()
    assert torch.corrcoef(torch.stack([brightness, x]))[0, 1] > 0.2
    # A crop lies within the image. Its area is at most its width, both as fractions.
    assert (bank.factors["x"].abs() + bank.factors["scale"] <= 1 + 0.1).all()


# --- pairs


@pytest.fixture(scope="module")
def numbered() -> ViewBank:
    """Each view holds 10 × its image + its own number, so that one can tell what was drawn."""
    numbers = 10.0 * torch.arange(12)[:, None] + torch.arange(4)
    views = numbers[:, :, None, None, None].expand(12, 4, 1, 8, 8).contiguous()
    one = torch.ones(1)
    return ViewBank(views, torch.arange(12), {"x": numbers}, {}, one, one)


def test_pairs_are_two_views_of_one_image_each_image_once(numbered: ViewBank) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = set()
    for _ in range(200):
        a, b = (x[:, 0, 0, 0].long() for x in numbered.sample_pair(8, generator))
        assert torch.equal(a // 10, b // 10)
        assert len(set((a // 10).tolist())) == 8
        assert (a != b).all()
        pairs |= set(zip((a % 10).tolist(), (b % 10).tolist(), strict=True))
    assert len(pairs) == 4 * 3  # every ordered pair of views comes up


def test_the_generator_decides_the_pairs(numbered: ViewBank) -> None:
    def draw(seed: int) -> Tensor:
        return torch.stack(numbered.sample_pair(12, torch.Generator().manual_seed(seed)))

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize(
    ("size", "generator", "error", "message"),
    [
        (0, torch.Generator(), ValueError, "batch_size must be at least 1 and at most 12; got 0"),
        (13, torch.Generator(), ValueError, "batch_size must be at least 1 and at most 12; got 13"),
        (2.0, torch.Generator(), TypeError, "batch_size must be an integer; got float"),
        (2, None, TypeError, "generator must be a torch.Generator; got NoneType"),
    ],
)
def test_pairs_refuse(
    numbered: ViewBank, size: int, generator: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        numbered.sample_pair(size, generator)


def test_a_bank_moves_as_a_whole(numbered: ViewBank) -> None:
    moved = numbered.to("meta")
    assert {moved.device.type, moved.labels.device.type, moved.mean.device.type} == {"meta"}
    assert moved.factors["x"].device.type == "meta"
    assert len(moved) == 12
    assert moved.n_views == 4
    assert moved.shape == (1, 8, 8)


# --- bad input

BLOB = blob()
BANK = make_bank(BLOB.train, BLOB, views=2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"views": 1}, ValueError, "views must be at least 2.*got 1"),
        ({"views": "2"}, TypeError, "views must be an integer; got str"),
        ({"side": 7}, ValueError, "side must be at least 8.*got 7"),
        ({"seed": -1}, ValueError, "seed must be at least 0.*got -1"),
        ({"like": 3}, TypeError, "like must be a ViewBank; got int"),
        ({"like": BANK, "side": 20}, ValueError, r"like must hold views of shape \(1, 20, 20\)"),
        ({"motion": 0.3}, TypeError, "motion must be a Motion; got float"),
        ({"split": BLOB}, TypeError, "split must be a Split; got Dataset"),
        ({"dataset": "digits"}, TypeError, "dataset must be a Dataset; got str"),
        (
            {"dataset": photographs(), "motion": STILL},
            ValueError,
            "motion must be None for augmented views",
        ),
        ({"dataset": photographs()}, ValueError, r"split must hold colour images.*\(3, 1, 8, 8\)"),
    ],
)
def test_make_bank_refuses(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"split": BLOB.train, "dataset": BLOB, **arguments}
    with pytest.raises(error, match=message):
        make_bank(arguments.pop("split"), arguments.pop("dataset"), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "mnist"}, "dataset must be one of .*; got 'mnist'"),
        ({"dataset": "digits", "test_views": 1}, "test_views must be at least 2.*got 1"),
        ({"dataset": "digits", "views": 0}, "views must be at least 2.*got 0"),
    ],
)
def test_banks_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        banks(arguments.pop("dataset"), **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"shift": -0.1}, ValueError, "shift must be at least 0; got -0.1"),
        ({"noise": float("nan")}, ValueError, "noise must be at least 0; got nan"),
        ({"rotation": "0"}, TypeError, "rotation must be a number; got str"),
        ({"scale": 0.5}, TypeError, r"scale must be a pair \(low, high\); got 0.5"),
        ({"scale": (0, 0.5)}, ValueError, r"scale\[0\] must be above 0; got 0"),
        ({"scale": (0.5, 0.4)}, ValueError, r"scale\[1\] must be at least 0.5; got 0.4"),
    ],
)
def test_motion_refuses(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Motion(**arguments)


def test_selected_images_keep_everything_of_theirs():
    bank, _ = banks("digits", views=2, test_views=2)
    rows = torch.tensor([5, 3, 70])
    picked = bank.select(rows)
    assert torch.equal(picked.views, bank.views[rows])
    assert torch.equal(picked.labels, bank.labels[rows])
    assert set(picked.factors) == set(bank.factors) and len(picked) == 3
    for name, values in bank.factors.items():
        assert torch.equal(picked.factors[name], values[rows])
    assert torch.equal(picked.mean, bank.mean)


def test_first_views_keep_everything_of_theirs():
    bank, _ = banks("sprites", views=4, test_views=2)
    kept = bank.first(3)
    assert torch.equal(kept.views, bank.views[:, :3]) and kept.views.is_contiguous()
    assert torch.equal(kept.labels, bank.labels)
    assert (
        set(kept.factors) == set(bank.factors) and set(kept.content) == set(bank.content) != set()
    )
    for ours, theirs in ((kept.factors, bank.factors), (kept.content, bank.content)):
        assert all(torch.equal(ours[name], values[:, :3]) for name, values in theirs.items())
    for views in (0, 5):
        with pytest.raises(ValueError, match="views must be at"):
            bank.first(views)
