"""Pictures as patches, and the reader that is trained on them."""

import pytest
import torch

from repcollapse.modes.attention import Wiring
from repcollapse.modes.patches import Pictures, Reader, cut, pictures, train

MENDED = Wiring(skip=True, norm="pre", mlp=True)
SMALL = {"depth": 2, "width": 8, "heads": 2, "batch": 8, "device": "cpu"}


def toy(seed=0, n=40):
    """Pictures of one channel whose class is where their bright patch is: 0 left, 1 right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = 0.1 * torch.randn(n, 1, 8, 8, generator=generator)
    images[labels == 0, :, :, :4] += 1
    images[labels == 1, :, :, 4:] += 1
    patches = cut(images)
    return Pictures(patches[: n // 2], labels[: n // 2], patches[n // 2 :], labels[n // 2 :])


def test_patches_are_cut_row_by_row_with_their_channels():
    images = torch.arange(2 * 3 * 64.0).reshape(2, 3, 8, 8)
    patches = cut(images)
    assert patches.shape == (2, 16, 12)
    for place in range(16):
        row, column = divmod(place, 4)
        corner = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(patches[:, place], corner.flatten(1))


@pytest.mark.parametrize("shape", [(2, 1, 6, 6), (2, 1, 8, 4)])
def test_images_that_four_patches_do_not_fill_are_refused(shape):
    with pytest.raises(ValueError, match="images must be square"):
        cut(torch.zeros(shape))


def test_pictures_are_standardised_and_follow_their_seed():
    first, again, other = (pictures("digits", seed) for seed in (3, 3, 4))
    assert torch.equal(first.train, again.train)
    assert not torch.equal(first.train, other.train)
    assert first.train.mean() == pytest.approx(0, abs=1e-4)
    assert first.train.std() == pytest.approx(1, abs=1e-3)
    assert first.classes == 10
    assert 0.05 < first.chance < 0.2


def test_chance_is_the_share_of_the_largest_training_class():
    empty = torch.zeros(0, 16, 1)
    images = Pictures(empty, torch.tensor([2, 2, 0]), empty, torch.tensor([2, 0, 0, 1]))
    assert (images.classes, images.chance) == (3, 0.25)


def test_the_reader_knows_where_a_patch_is():
    torch.manual_seed(0)
    reader = Reader(4, 2, MENDED, depth=1, width=8, heads=2)
    patches = torch.randn(3, 16, 4)
    swapped = patches[:, torch.arange(16).flip(0)]
    assert not torch.allclose(reader(patches), reader(swapped), atol=1e-4)
    assert reader(patches).shape == (3, 2)
    assert [tuple(h.shape) for h in reader.hidden(patches)] == [(3, 16, 8)] * 2


def test_training_teaches_and_is_read_layer_by_layer():
    torch.manual_seed(0)
    run = train(MENDED, toy(), steps=60, seed=0, **SMALL)
    assert run.accuracy > 0.9
    assert run.gain == run.accuracy - run.chance == run.accuracy - 0.5
    assert run.losses.shape == (60,)
    assert run.residuals.shape == run.untrained.shape == run.places.shape == (3,)
    assert run.residual == run.residuals[-1] > 0.1
    assert run.place == run.places[-1]
    assert run.places[0] > 0.5
    assert len(run.hidden) == 3


def test_without_training_nothing_has_changed():
    torch.manual_seed(0)
    run = train(MENDED, toy(), steps=0, seed=0, **SMALL)
    assert (run.residuals == run.untrained).all()
    assert run.place == run.untrained_place


def test_tokens_without_skips_have_no_place():
    torch.manual_seed(0)
    run = train(Wiring(norm="pre", mlp=True), toy(), steps=0, seed=0, **{**SMALL, "depth": 8})
    assert run.residual < 1e-5
    assert run.place == pytest.approx(1 / 16)


def test_one_seed_is_one_result():
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        runs.append(train(MENDED, toy(), steps=3, seed=seed, **SMALL).losses)
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("depth must be at least 1", {"depth": 0}),
        ("batch must be at least 1", {"batch": 0}),
        ("steps must be at least 0", {"steps": -1}),
        ("heads must be at least 1", {"heads": 0}),
    ],
)
def test_bad_sizes_are_refused(message, options):
    with pytest.raises(ValueError, match=message):
        train(MENDED, toy(), **({"steps": 1, "seed": 0} | SMALL | options))
