"""``repcollapse demo``: a first look, on embeddings whose state is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from repcollapse.commandline import terminal
from repcollapse.diagnosis import diagnose

ROWS, COLUMNS = 2000, 64
SEED = 0


def _healthy(z: Tensor) -> Tensor:
    return z


def _complete(z: Tensor) -> Tensor:
    return 1 + 1e-3 * z


def _dimensional(z: Tensor) -> Tensor:
    return z * (torch.arange(COLUMNS) < 4) + 1e-3 * z.roll(1, dims=0)


def _cluster(z: Tensor) -> Tensor:
    return z[torch.arange(len(z)) % 10] + 1e-2 * z.roll(10, dims=0)


def _cone(z: Tensor) -> Tensor:
    return z + 1.5


DRAWN: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "healthy": ("normal in every direction", _healthy),
    "complete": ("the same, a thousandth as large, about (1, ..., 1)", _complete),
    "cluster": ("ten points, with a little noise", _cluster),
    "dimensional": ("normal in four directions", _dimensional),
    "cone": ("normal about (1.5, ..., 1.5)", _cone),
}


def drawn(kind: str) -> Tensor:
    """Return embeddings of a kind, the same at every call."""
    generator = torch.Generator().manual_seed(SEED)
    return DRAWN[kind][1](torch.randn(ROWS, COLUMNS, generator=generator))


def run() -> None:
    """Draw, diagnose and show each kind."""
    parts = []
    for kind, (title, _) in DRAWN.items():
        parts += terminal.short(diagnose(drawn(kind)), title)
    closing = "Your own: repcollapse diagnose FILE. What a word means: repcollapse explain WORD."
    opening = (
        f"{ROWS:,} embeddings of {COLUMNS} dimensions, five times. Numbers stand beside what "
        "isotropic embeddings, as many, read."
    )
    terminal.print_all(opening, "", *parts, closing)
