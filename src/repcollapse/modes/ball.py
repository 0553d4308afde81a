"""A world that is known exactly: a ball in a box, filmed by a noisy camera.

The ball has a constant velocity and is reflected by four walls. Pictures may hang behind it, and
stay, or change with every frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse.data import load
from repcollapse.modes.pictures import grey

SIDE = 8  # pixels
NOISE, BALL, FASTEST = 0.15, 0.1, 0.15  # of a pixel's range; in sides of the box
DIM = 0.75  # of a backdrop: the ball stays the brightest thing in the picture
BACKDROPS = ("none", "changing", "fixed")


@dataclass(frozen=True, eq=False)
class Film:
    """Frames of a ball, and where it was.

    Attributes
    ----------
    frames, clean
        With the camera's noise and without, shape (N, T, SIDE**2): N films of T frames.
    position, velocity
        Of the ball in every frame, shape (N, T, 2), in sides of the box, and sides a frame.
    """

    frames: Tensor
    clean: Tensor
    position: Tensor
    velocity: Tensor

    def seen(self, t: int) -> Tensor:
        """Return what a model is shown at time t >= 1: the frames t - 1 and t, side by side.

        Raises
        ------
        TypeError, ValueError
            For a time without a frame, or without one before it.
        """
        t = _checks.integer("t", t, at_least=1, at_most=self.frames.shape[1] - 1)
        return self.frames[:, t - 1 : t + 1].flatten(1)

    def retake(self, generator: torch.Generator) -> Film:
        """Return the same events with other noise of the camera."""
        noise = NOISE * torch.randn(self.clean.shape, generator=generator)
        return replace(self, frames=self.clean + noise)

    @property
    def quadrants(self) -> Tensor:
        """The quarter of the box that the ball is in at time 1, one of 0 to 3, shape (N,)."""
        return (self.position[:, 1] > 0.5).long() @ torch.tensor([1, 2])


def film(
    count: int,
    length: int,
    generator: torch.Generator,
    *,
    backdrop: str = "none",
    pictures: Tensor | None = None,
) -> Film:
    r"""Return films of a ball that starts anywhere, with any velocity, and of what is behind it.

    With :math:`x` folded into the box as by mirrors, :math:`p(t) = \operatorname{fold}(p_0 + v t)`
    in each coordinate; the velocity changes its sign at every wall.

    Parameters
    ----------
    count, length
        N >= 1 films of T >= 2 frames.
    generator
        From which everything is drawn.
    backdrop
        "none", or pictures behind the ball: another one in every frame ("changing"), or one in all
        frames of a film ("fixed").
    pictures
        What hangs behind the ball, shape (P, SIDE, SIDE), values in [0, 1]; without a backdrop,
        none.

    Returns
    -------
    Film
        Positions in [0, 1], velocities of at most 0.15 a frame in each coordinate; pixels near
        [0, 1] with noise of standard deviation 0.15.

    Raises
    ------
    TypeError, ValueError
        For counts or a backdrop other than these, a backdrop without pictures, or pictures without
        a backdrop.

    Examples
    --------
    >>> shot = film(2, 40, torch.Generator().manual_seed(0))
    >>> shot.seen(1).shape, bool((shot.position >= 0).all() & (shot.position <= 1).all())
    (torch.Size([2, 128]), True)
    """
    count = _checks.integer("count", count, at_least=1)
    length = _checks.integer("length", length, at_least=2)
    _checks.choice("backdrop", backdrop, BACKDROPS)
    if (pictures is not None) != (backdrop != "none"):
        raise ValueError(
            "pictures must be given where there is a backdrop, and only there; "
            f"got backdrop {backdrop!r} and {'no' if pictures is None else len(pictures)} pictures"
        )
    start = torch.rand(count, 1, 2, generator=generator)
    speed = (2 * torch.rand(count, 1, 2, generator=generator) - 1) * FASTEST
    unfolded = (start + speed * torch.arange(length)[:, None]) % 2
    back = unfolded > 1
    position = torch.where(back, 2 - unfolded, unfolded)
    frames = _ball(position)
    if pictures is not None:
        if pictures.shape[1:] != (SIDE, SIDE):
            raise ValueError(
                f"pictures must have shape (P, {SIDE}, {SIDE}); got {tuple(pictures.shape)}"
            )
        shown = 1 if backdrop == "fixed" else length
        chosen = torch.randint(len(pictures), (count, shown), generator=generator)
        frames = torch.maximum(frames, pictures[chosen].flatten(2))
    velocity = torch.where(back, -speed, speed)
    return Film(frames, frames, position, velocity).retake(generator)


def backdrops(dataset: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return the images of a data set as pictures for :func:`film`: of training, and of testing.

    Parameters
    ----------
    dataset, seed
        As in :func:`repcollapse.data.load`, and refused as there.

    Returns
    -------
    tuple[Tensor, Tensor]
        Grey, shapes (P, SIDE, SIDE) and (Q, SIDE, SIDE), values in [0, 0.75].
    """
    split = load(dataset, seed=seed)
    return DIM * grey(split.train.images, SIDE), DIM * grey(split.test.images, SIDE)


def _ball(position: Tensor) -> Tensor:
    """Return frames of a blurred ball, its centre kept its own width away from the edges."""
    grid = (torch.arange(SIDE) + 0.5) / SIDE
    centre = BALL + (1 - 2 * BALL) * position
    across, down = ((grid - centre[..., k, None]) / BALL for k in (0, 1))
    across, down = (torch.exp(-(distance**2) / 2) for distance in (across, down))
    return (down[..., :, None] * across[..., None, :]).flatten(2)
