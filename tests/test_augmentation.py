"""The two halves of augmented views: what is drawn, and what is made of it."""

from __future__ import annotations

import pytest
import torch

from repcollapse.augmentation import FACTORS, _steps, augment, draw, factors

N, SIDE = 64, 32
PARAMETERS = (
    "crop.src",
    "flip.batch_prob",
    "jitter.batch_prob",
    "jitter.brightness_factor",
    "jitter.contrast_factor",
    "jitter.saturation_factor",
    "jitter.hue_factor",
    "grey.batch_prob",
)


def drawn_by(seed, count=N, size=(SIDE, SIDE), **options):
    return draw(count, size, torch.Generator().manual_seed(seed), **options)


@pytest.fixture
def images():
    images = torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images[0] = 0.5  # grey: no hue
    images[1] = 0  # black: no saturation either
    images[2:16] = images[2:16].round()  # at the ends of the range, where rounding could leave it
    images[16:24] = 1
    return images


@pytest.mark.parametrize("side", [SIDE, 20])
def test_the_halves_make_what_kornia_makes_in_one_go(images, side):
    views = images
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for step in _steps((side, side)).values():
            views = step(views)
    assert torch.equal(augment(images, drawn_by(2, side=side)), views)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_counts(images, name):
    drawn = drawn_by(3)
    other = drawn | {name: drawn[name].roll(1, 0)}
    assert (augment(images, other) - augment(images, drawn)).abs().max() > 0.01


def test_so_does_the_order_of_the_jitter(images):
    drawn = drawn_by(3)
    other = drawn | {"jitter.order": drawn["jitter.order"].flip(dims=[1])}
    assert (augment(images, other) - augment(images, drawn)).abs().max() > 0.01


@pytest.mark.parametrize("places", [slice(16, 40), slice(0, 1), [60, 3, 3]])
def test_rows_of_what_was_drawn_render_those_rows(images, places):
    drawn = drawn_by(3)
    part = {name: values[places] for name, values in drawn.items()}
    assert torch.equal(augment(images[places], part), augment(images, drawn)[places])


def test_views_stay_in_range_in_either_precision(images):
    for seed in range(4, 9):
        drawn = drawn_by(seed)
        views, exact = augment(images, drawn), augment(images.double(), drawn)
        assert exact.dtype == torch.float64
        assert views.min() >= 0 and views.max() <= 1
        torch.testing.assert_close(views.double(), exact, rtol=0, atol=1e-4)


def test_the_generator_alone_says_what_is_drawn():
    generator = torch.Generator().manual_seed(0)
    before = torch.get_rng_state()
    first, second = (draw(8, (SIDE, SIDE), generator) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    again = drawn_by(0, 8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["crop.src"], second["crop.src"])


def test_factors_tell_what_was_done():
    height, width, count = 24, SIDE, 400
    across = torch.linspace(-1, 1, width).expand(height, width)
    down = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    places = torch.stack([across, down, torch.zeros(height, width)]) / 2 + 0.5
    drawn = drawn_by(5, count, (height, width), side=20)
    drawn["jitter.batch_prob"] = torch.zeros(count)
    told = factors(drawn)
    assert tuple(told) == FACTORS
    views = augment(places.expand(count, -1, -1, -1), drawn)
    grey = (views[:, 0] == views[:, 2]).all(dim=(1, 2))
    assert torch.equal(told["grey"], grey.float()) and 0 < grey.sum() < count
    seen, coloured = 2 * views[~grey, :2] - 1, {name: told[name][~grey] for name in FACTORS}
    x, y = seen.mean(dim=(2, 3)).unbind(dim=1)
    torch.testing.assert_close(coloured["x"], x, rtol=0, atol=1e-5)
    torch.testing.assert_close(coloured["y"], y, rtol=0, atol=1e-5)
    rise, fall = seen[:, 0, 0, -1] - seen[:, 0, 0, 0], seen[:, 1, -1, 0] - seen[:, 1, 0, 0]
    assert torch.equal(coloured["flip"], (rise < 0).float()) and 0 < (rise < 0).sum() < len(rise)
    wide, tall = rise.abs() / 2 * (width - 1) + 1, fall / 2 * (height - 1) + 1
    torch.testing.assert_close(coloured["scale"], wide * tall / (height * width), rtol=0, atol=1e-4)


def test_the_recipe_is_simclrs():
    count = 20_000
    drawn = drawn_by(0, count)
    for name, rate in {"flip": 0.5, "jitter": 0.8, "grey": 0.2}.items():
        error = (rate * (1 - rate) / count) ** 0.5
        assert abs(drawn[f"{name}.batch_prob"].mean() - rate) <= 4.5 * error, name
    for name, middle, reach in (
        ("brightness", 1, 0.4),
        ("contrast", 1, 0.4),
        ("saturation", 1, 0.4),
        ("hue", 0, 0.1),
    ):
        off = (drawn[f"jitter.{name}_factor"] - middle).abs() / reach
        assert off.max() <= 1 + 1e-6 and abs(off.mean() - 0.5) < 0.01, name
    scale = factors(drawn)["scale"]
    assert 0.17 < scale.min() < 0.2 and scale.max() == 1 and 0.5 < scale.mean() < 0.65
    corners = drawn["crop.src"]
    assert corners.min() == 0 and corners.max() == SIDE - 1
