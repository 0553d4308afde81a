"""Pictures as patches, and the transformer that reads them."""

import pytest
import torch

from repcollapse.modes.attention import Wiring
from repcollapse.modes.reader import VisionTransformer, patchify


def test_patches_are_cut_row_by_row_with_their_channels():
    images = torch.arange(2 * 3 * 64.0).reshape(2, 3, 8, 8)
    patches = patchify(images)
    assert patches.shape == (2, 16, 12)
    for place in range(16):
        row, column = divmod(place, 4)
        corner = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.equal(patches[:, place], corner.flatten(1))


@pytest.mark.parametrize("shape", [(2, 1, 6, 6), (2, 1, 8, 4), (2, 8, 8)])
def test_images_that_four_patches_do_not_fill_are_refused(shape):
    with pytest.raises(ValueError, match="images must have shape"):
        patchify(torch.zeros(shape))


@pytest.mark.parametrize("name", ["inputs", "classes", "depth", "width", "heads"])
def test_sizes_that_are_none_are_refused(name):
    sizes = {"inputs": 4, "classes": 2, "depth": 1, "width": 8, "heads": 2} | {name: 0}
    inputs, classes = sizes.pop("inputs"), sizes.pop("classes")
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        VisionTransformer(inputs, classes, Wiring(), **sizes)


def test_the_reader_knows_where_a_patch_is():
    torch.manual_seed(0)
    reader = VisionTransformer(
        4, 2, Wiring(skip=True, norm="pre", mlp=True), depth=1, width=8, heads=2
    )
    patches = torch.randn(3, 16, 4)
    swapped = patches[:, torch.arange(16).flip(0)]
    assert not torch.allclose(reader(patches), reader(swapped), atol=1e-4)
    assert reader(patches).shape == (3, 2)
    assert [tuple(h.shape) for h in reader.hidden(patches)] == [(3, 16, 8)] * 2
