"""Augmented views of photographs: SimCLR's recipe without blur, made by Kornia.

In two halves: :func:`draw` draws the parameters of a batch, on the CPU, and :func:`augment` is a
pure function of images and parameters, on any device. So a bank can tell what was done to each
view, and each of several processes can render its slice of a batch that all have drawn.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

FACTORS = ("x", "y", "scale", "flip", "grey")

# Kornia draws these once a call, all others for every image.
_SHARED = ("order", "forward_input_shape")


@functools.cache  # they keep nothing that counts: parameters are always given
def _steps(size: tuple[int, int]) -> dict[str, Any]:
    from kornia import augmentation as kornia

    return {
        "crop": kornia.RandomResizedCrop(size, scale=(0.2, 1.0), cropping_mode="resample"),
        "flip": kornia.RandomHorizontalFlip(p=0.5),
        "jitter": kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        "grey": kornia.RandomGrayscale(p=0.2),
    }


def draw(
    count: int, size: tuple[int, int], generator: torch.Generator, *, side: int | None = None
) -> dict[str, Tensor]:
    """Return the parameters of `count` views of images of `size` (H, W).

    The views are `side` pixels high and wide, by default as the images are. The parameters are
    Kornia's, named `step.parameter`, each with a row a view, so that rows can be picked.
    """
    drawn = {}
    shape, seen = torch.Size([count, 3, *size]), size if side is None else (side, side)
    with torch.random.fork_rng(devices=[]):  # Kornia knows the global generator only
        torch.set_rng_state(generator.get_state())
        for name, step in _steps(seen).items():
            for key, values in step.forward_parameters(shape).items():
                drawn[f"{name}.{key}"] = values.expand(count, -1) if key in _SHARED else values
            shape = torch.Size([count, 3, *seen])
        generator.set_state(torch.get_rng_state())
    return drawn


def augment(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Return the views of (N, 3, H, W) `images` in [0, 1], row i by row i of what was drawn."""
    height, width = drawn["crop.output_size"][0].tolist()
    for name, step in _steps((height, width)).items():
        own = {key.split(".")[1]: v for key, v in drawn.items() if key.startswith(f"{name}.")}
        images = step(images, params=own | {key: own[key][0] for key in _SHARED if key in own})
    return images


def factors(drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what was done to each view, by the names in `FACTORS`.

    `x` and `y` of the crop's centre, the image reaching from -1 to 1; `scale`, the crop's share of
    the image's area; `flip` and `grey`, 1 where it was done and else 0.
    """
    first, last = drawn["crop.src"][:, 0], drawn["crop.src"][:, 2]  # corner pixels, (x, y)
    size = drawn["crop.input_size"].flip(dims=[1])
    x, y = ((first + last) / (size - 1) - 1).unbind(dim=1)
    scale = ((last - first + 1) / size).prod(dim=1)
    done = (x, y, scale, drawn["flip.batch_prob"], drawn["grey.batch_prob"])
    return dict(zip(FACTORS, done, strict=True))
