"""Procedural sprites: eight shapes whose every property is known.

A shape is a polygon. What identifies one sprite among its kind is *content*, kept by every view:
how elongated it is, how thick its stroke is (thick enough, and it is filled) and how bright it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repcollapse.data.dataset import Dataset, Split, stream

SIDE = 24

# The content factors and their ranges, uniform in each.
FACTORS = {
    "elongation": (-0.6, 0.6),  # log2(height / width)
    "stroke": (0.2, 0.6),  # thickness of the outline, in half-widths of the image
    "tone": (0.6, 1.0),  # brightness of the stroke
}
_REACH = 0.75  # half the extent of a shape before elongation, in half-widths of the image


def load_sprites(seed: int, n_train: int, n_test: int) -> Dataset:
    """Return freshly drawn sprites, all classes equally often up to rounding."""
    train = _draw(n_train, stream(seed, "sprites train"))
    test = _draw(n_test, stream(seed, "sprites test"))
    return Dataset("sprites", train, test, class_names=tuple(SHAPES), views="moved")


def _draw(count: int, generator: torch.Generator) -> Split:
    labels = torch.arange(count)[torch.randperm(count, generator=generator)] % len(SHAPES)
    factors = {
        name: torch.empty(count).uniform_(low, high, generator=generator)
        for name, (low, high) in FACTORS.items()
    }
    images = torch.empty(count, 1, SIDE, SIDE)
    for label, polygon in enumerate(SHAPES.values()):
        members = (labels == label).nonzero().flatten()
        own = {name: values[members] for name, values in factors.items()}
        images[members] = render(polygon, **own)
    return Split(images, labels, factors)


def render(polygon: Tensor, elongation: Tensor, stroke: Tensor, tone: Tensor) -> Tensor:
    r"""Draw one polygon N times, with smooth edges.

    With :math:`d` the signed distance of a pixel to the outline, negative inside, and :math:`p` the
    side of a pixel, the brightness is
    :math:`\mathrm{tone}\cdot\sigma(-d/p)\,\sigma((d+\mathrm{stroke})/p)` with
    :math:`\sigma(u)=\min(1,\max(0,u+1/2))`: inside the outline and no deeper than the stroke.

    Parameters
    ----------
    polygon : Tensor, shape (M, 2)
        Corners (x, y) in [-1, 1], y pointing down.
    elongation, stroke, tone : Tensor, shape (N,)
        The content factors, see `FACTORS`.

    Returns
    -------
    Tensor, shape (N, 1, SIDE, SIDE)
        Values in [0, 1].

    Examples
    --------
    >>> one = torch.ones(1)
    >>> image = render(SHAPES["square"], 0 * one, 0.2 * one, one)
    >>> image[0, 0, 12, 12].item(), image[0, 0, 12].amax().item()  # hollow
    (0.0, 1.0)
    """
    half = elongation / 2
    stretch = torch.stack([torch.exp2(-half), torch.exp2(half)], dim=1)
    distance = _signed_distance(_REACH * polygon * stretch.unsqueeze(1))
    pixel = 2 / SIDE
    inside = (0.5 - distance / pixel).clamp(0, 1)
    not_too_deep = (0.5 + (distance + stroke[:, None]) / pixel).clamp(0, 1)
    return (tone[:, None] * inside * not_too_deep).reshape(-1, 1, SIDE, SIDE)


def _signed_distance(corners: Tensor) -> Tensor:
    """Return the distance of each pixel to the outline, negative inside: (N, M, 2) to (N, P)."""
    centres = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=1)[None, :, None, :]
    start, end = corners[:, None], corners.roll(-1, dims=1)[:, None]
    edge, to_point = end - start, points - start
    along = ((to_point * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    distance = (to_point - along.unsqueeze(-1) * edge).square().sum(-1).amin(-1).sqrt()
    # Even-odd rule: a ray to the right crosses the outline an odd number of times from inside.
    spans = (start[..., 1] > points[..., 1]) != (end[..., 1] > points[..., 1])
    height = torch.where(spans, edge[..., 1], torch.ones_like(edge[..., 1]))
    crossing = start[..., 0] + edge[..., 0] * to_point[..., 1] / height
    crossings = (spans & (points[..., 0] < crossing)).sum(-1)
    return torch.where(crossings % 2 == 1, -distance, distance)


def _polygon(*corners: tuple[float, float]) -> Tensor:
    return torch.tensor(corners)


def _circle(corners: int, radius: float = 1.0) -> list[tuple[float, float]]:
    turns = [2 * math.pi * i / corners for i in range(corners)]
    return [(radius * math.sin(turn), -radius * math.cos(turn)) for turn in turns]


def _star() -> Tensor:
    outer, inner = _circle(10), _circle(10, radius=0.42)
    return _polygon(*(outer[i] if i % 2 == 0 else inner[i] for i in range(10)))


def _heart() -> Tensor:
    turns = [2 * math.pi * i / 32 for i in range(32)]
    return _polygon(
        *(
            (
                math.sin(turn) ** 3,
                (-13 * math.cos(turn) + 5 * math.cos(2 * turn) + 2 * math.cos(3 * turn)) / 16,
            )
            for turn in turns
        )
    )


def _crescent() -> Tensor:
    # The outer arc goes the long way round; the inner one comes back nearer to the middle.
    tips = 0.62
    outer = [(-math.cos(t) + 0.2, math.sin(t)) for t in _arc(-math.pi + tips, math.pi - tips)]
    tip_x, tip_y = outer[-1]
    radius = math.hypot(tip_x - 0.55, tip_y)
    bend = math.atan2(tip_y, 0.55 - tip_x)
    inner = [(0.55 - radius * math.cos(t), radius * math.sin(t)) for t in _arc(bend, -bend)]
    return _polygon(*outer, *inner[1:-1])


def _arc(start: float, end: float, corners: int = 17) -> list[float]:
    return [start + (end - start) * i / (corners - 1) for i in range(corners)]


_ARM = 0.36
SHAPES: dict[str, Tensor] = {
    "disc": _polygon(*_circle(32)),
    "square": _polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": _polygon((0, -1), (1, 0.85), (-1, 0.85)),
    "star": _star(),
    "cross": _polygon(
        *((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
        *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
    ),
    "heart": _heart(),
    "crescent": _crescent(),
    "tee": _polygon(
        *((-1, -1), (1, -1), (1, -0.3), (_ARM, -0.3)),
        *((_ARM, 1), (-_ARM, 1), (-_ARM, -0.3), (-1, -0.3)),
    ),
}
