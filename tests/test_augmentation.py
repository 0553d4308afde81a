"""Augmented views against Kornia's, with equal parameters and in distribution."""

from __future__ import annotations

import kornia.augmentation as kornia
import pytest
import torch

from repcollapse import augmentation

N, SIDE = 64, 32
NAMES = ("brightness", "contrast", "saturation", "hue")


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(N, 3, SIDE, SIDE, generator=generator)
    images[0] = 0.5  # grey: no hue
    images[1] = 0  # black: no saturation either
    return images


def kornias(count, side=SIDE):
    """Kornia's steps, what they draw, and the same in our terms."""
    torch.manual_seed(2)
    steps = [
        kornia.RandomResizedCrop((side, side), scale=(0.2, 1.0), cropping_mode="resample"),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        kornia.RandomGrayscale(p=0.2),
    ]
    parameters = [step.forward_parameters(torch.Size([count, 3, SIDE, SIDE])) for step in steps]
    crop, flip, jitter, grey = parameters
    low, high = crop["src"][:, 0], crop["src"][:, 2]
    drawn = {"crop": torch.cat([low, high - low + 1], dim=1)}
    jittered = jitter["batch_prob"] > 0.5
    for name in NAMES:
        values = jitter[f"{name}_factor"]
        drawn[name] = torch.full((count,), 0.0 if name == "hue" else 1.0)
        drawn[name][jittered] = values if len(values) < count else values[jittered]
    drawn["flip"], drawn["grey"] = flip["batch_prob"] > 0.5, grey["batch_prob"] > 0.5
    drawn["order"] = jitter["order"].expand(count, -1)
    return steps, parameters, drawn


def kornias_views(images, side=SIDE):
    steps, parameters, drawn = kornias(len(images), side)
    for step, given in zip(steps, parameters, strict=True):
        images = step(images, params=given)
    return images.clamp(0, 1), drawn


@pytest.fixture
def fork():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("side", [SIDE, 20])
def test_views_are_kornias_for_equal_parameters(images, fork, side):
    views, drawn = kornias_views(images, side)
    assert 0 < drawn["flip"].sum() < N and 0 < drawn["grey"].sum() < N
    torch.testing.assert_close(
        augmentation.augment(images, drawn, side=side), views, rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("name", [*NAMES, "crop", "flip", "grey"])
def test_every_parameter_counts(images, fork, name):
    """The comparison above would see any of them left out."""
    views, drawn = kornias_views(images)
    other = drawn[name].flip(0) if name != "crop" else drawn[name].roll(1, 0)
    changed = augmentation.augment(images, drawn | {name: other})
    assert (changed - views).abs().max() > 0.01


def test_parameters_are_distributed_as_kornias(fork):
    count = 20_000
    ours = augmentation.draw(count, (SIDE, SIDE), torch.Generator().manual_seed(0))
    theirs = kornias(count)[2]
    ours["hue"], theirs["hue"] = ours["hue"].abs(), theirs["hue"].abs()
    for name in ("crop", "flip", "grey", *NAMES):
        a, b = ours[name].double(), theirs[name].double()
        for x, y in ((a, b), (a.square(), b.square())):
            error = ((x.var(dim=0) + y.var(dim=0)) / count).sqrt()
            assert ((x.mean(dim=0) - y.mean(dim=0)).abs() <= 4.5 * error + 1e-9).all(), name
    area = ours["crop"][:, 2] * ours["crop"][:, 3] / SIDE**2
    assert area.min() > 0.17 and area.max() == 1
    assert (ours["crop"][:, :2] >= 0).all()
    assert (ours["crop"][:, :2] + ours["crop"][:, 2:] <= SIDE).all()


def test_a_slice_of_what_was_drawn_renders_a_slice(images):
    drawn = augmentation.draw(N, (SIDE, SIDE), torch.Generator().manual_seed(3))
    whole = augmentation.augment(images, drawn)
    part = {name: values[16:40] for name, values in drawn.items()}
    assert torch.equal(augmentation.augment(images[16:40], part), whole[16:40])


def test_views_stay_in_range_in_either_precision(images):
    drawn = augmentation.draw(N, (SIDE, SIDE), torch.Generator().manual_seed(4))
    views = augmentation.augment(images, drawn)
    exact = augmentation.augment(images.double(), drawn)
    assert exact.dtype == torch.float64
    assert views.min() >= 0 and views.max() <= 1
    torch.testing.assert_close(views.double(), exact, rtol=0, atol=1e-4)


def test_equal_generators_draw_equal_views():
    one, two, other = (
        augmentation.draw(8, (SIDE, SIDE), torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["crop"], other["crop"])
