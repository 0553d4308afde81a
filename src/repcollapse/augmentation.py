"""Augmented views of photographs: SimCLR's recipe without blur.

In two halves: :func:`draw` draws the parameters of a batch, on the CPU, and :func:`augment` is a
pure function of images and parameters, on any device. So a bank can tell what was done to each
view, and each of several processes can render its slice of a batch that all have drawn. For equal
parameters the views are Kornia's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

AREA = (0.2, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10
FLIP = 0.5
STRENGTH = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
JITTER = 0.8
GREY = 0.2
LUMA = (0.299, 0.587, 0.114)


def draw(count: int, size: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    """Return the parameters of `count` views of images of `size` (H, W).

    Returns
    -------
    dict
        `crop` (count, 4): left, top, width and height in pixels; `flip` and `grey`, booleans;
        `brightness`, `contrast` and `saturation`, factors; `hue`, in turns; `order` (count, 4), in
        which the four are applied, one order for all, as Kornia has one a call.
    """
    drawn = {"crop": _crops(count, size, generator)}
    drawn["flip"] = torch.rand(count, generator=generator) < FLIP
    jittered = torch.rand(count, generator=generator) < JITTER
    for name, strength in STRENGTH.items():
        neutral = 0.0 if name == "hue" else 1.0
        change = (2 * torch.rand(count, generator=generator) - 1) * strength
        drawn[name] = neutral + torch.where(jittered, change, 0.0)
    drawn["grey"] = torch.rand(count, generator=generator) < GREY
    drawn["order"] = torch.randperm(len(STRENGTH), generator=generator).expand(count, -1)
    return drawn


def _crops(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw areas and aspect ratios until a crop fits, ten times at most; else the whole image."""
    height, width = size
    share, tilt = torch.rand(2, count, ATTEMPTS, generator=generator)
    area = (AREA[0] + share * (AREA[1] - AREA[0])) * height * width
    low, high = (math.log(bound) for bound in RATIO)
    ratio = torch.exp(low + tilt * (high - low))
    widths, heights = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    wide = torch.where(found, widths.gather(1, first)[:, 0], float(width))
    tall = torch.where(found, heights.gather(1, first)[:, 0], float(height))
    x, y = torch.rand(2, count, generator=generator)
    left = (x * (width - wide + 1)).floor()
    top = (y * (height - tall + 1)).floor()
    return torch.stack([left, top, wide, tall], dim=1)


def augment(images: Tensor, drawn: dict[str, Tensor], *, side: int | None = None) -> Tensor:
    """Return the views of (N, 3, H, W) `images` in [0, 1], row i by row i of what was drawn.

    They are `side` pixels high and wide, by default as the images are.
    """
    order = drawn["order"][0].tolist() if len(images) else []
    drawn = {name: values.to(images.device) for name, values in drawn.items() if name != "order"}
    size = tuple(images.shape[-2:]) if side is None else (side, side)
    views = _cropped(images, drawn["crop"].to(images.dtype), drawn["flip"], size)
    names = list(STRENGTH)
    for step in order:
        factor = drawn[names[step]].to(images.dtype)[:, None, None, None]
        views = _STEPS[names[step]](views, factor)
    return torch.where(drawn["grey"][:, None, None, None], _luma(views), views).clamp(0, 1)


def centre(crop: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return x and y of the centres of crops, an image of `size` reaching from -1 to 1."""
    (height, width), (left, top, wide, tall) = size, crop.unbind(dim=1)
    return (2 * left + wide - 1) / (width - 1) - 1, (2 * top + tall - 1) / (height - 1) - 1


def _cropped(images: Tensor, crop: Tensor, flip: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cut, resize to `size`, bilinearly from corner to corner, and flip."""
    height, width = images.shape[-2:]
    wide, tall = crop[:, 2], crop[:, 3]
    x, y = centre(crop, (height, width))
    across = torch.where(flip, -1, 1) * (wide - 1) / (width - 1)
    down = (tall - 1) / (height - 1)
    zero = torch.zeros_like(x)
    rows = torch.stack([across, zero, x, zero, down, y], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(rows, [*images.shape[:2], *size], align_corners=True)
    # Beyond the border lies rounding only: a corner of 1 + 1e-7 must not fetch zeros.
    return F.grid_sample(images, grid, align_corners=True, padding_mode="border")


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp(0, 1)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(images).mean(dim=(2, 3), keepdim=True)
    return (images * factor + mean * (1 - factor)).clamp(0, 1)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor + _luma(images) * (1 - factor)).clamp(0, 1)


def _hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue, in HSV, keeping value and chroma."""
    red, green, blue = images.unbind(dim=1)
    value, largest = images.max(dim=1)
    chroma = value - images.amin(dim=1)
    divisor = torch.where(chroma > 0, chroma, 1)
    sextant = torch.where(
        largest == 0,
        (green - blue) / divisor,
        torch.where(largest == 1, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    turned = sextant + 6 * turns[:, 0]
    channels = []
    for offset in (5, 3, 1):  # red, green and blue are one function, a third of a turn apart
        place = (turned + offset).remainder(6)
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, dim=1)


_STEPS = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
