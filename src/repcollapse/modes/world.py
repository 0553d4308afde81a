"""A ball in a box, filmed, and models that predict the next latent instead of the next frame.

The world is known exactly: a ball of constant velocity, reflected by four walls. A model sees two
frames and predicts what it will itself make of the next two. A constant is predicted perfectly, and
what keeps the constant away is one line of :func:`loss_of`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks, objectives
from repcollapse.data import load
from repcollapse.diagnostics import effective_rank
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp
from repcollapse.training import pick_device

SIDE, LATENTS = 10, 16
NOISE, BALL, FASTEST = 0.1, 0.1, 0.15  # of a pixel; in sides of the box
DIM = 0.75  # of a backdrop: the ball stays the brightest thing in the picture
BACKDROPS = ("none", "changing", "fixed")
KEEPERS = ("nothing", "stop-gradient", "momentum", "variance", "sigreg", "reconstruction")
MOMENTUM = 0.99
VICREG, SIGREG = 1 / 25, 0.1  # weights as in VICReg, where variance has 25, and LeWorldModel
FILMS, PROBED, BATCH = 8192, 2000, 128


@dataclass(frozen=True)
class Film:
    """Frames of a ball, shape (N, T, SIDE**2), and its position and velocity, (N, T, 2) each.

    `clean` are the frames before the camera's noise.
    """

    frames: Tensor
    clean: Tensor
    position: Tensor
    velocity: Tensor

    def seen(self, t: int) -> Tensor:
        """Return what a model is shown at time t >= 1: the frames t - 1 and t, side by side."""
        return self.frames[:, t - 1 : t + 1].flatten(1)

    def retake(self, generator: torch.Generator) -> Film:
        """Return the same events with other noise of the camera."""
        noise = NOISE * torch.randn(self.clean.shape, generator=generator)
        return replace(self, frames=self.clean + noise)


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
        N films of T frames.
    generator
        From which everything is drawn.
    backdrop
        "none", or pictures behind the ball: another one in every frame ("changing"), or one in all
        frames of a film ("fixed").
    pictures
        What hangs behind the ball, shape (P, SIDE, SIDE), values in [0, 1].

    Returns
    -------
    Film
        Positions in [0, 1], velocities of at most 0.15 a frame in each coordinate; pixels near
        [0, 1] with noise of standard deviation 0.1.

    Raises
    ------
    TypeError, ValueError
        For counts or a backdrop other than these, or a backdrop without pictures.

    Examples
    --------
    >>> shot = film(2, 40, torch.Generator().manual_seed(0))
    >>> shot.seen(1).shape, bool((shot.position >= 0).all() & (shot.position <= 1).all())
    (torch.Size([2, 200]), True)
    """
    count = _checks.integer("count", count, at_least=1)
    length = _checks.integer("length", length, at_least=2)
    _checks.choice("backdrop", backdrop, BACKDROPS)
    if backdrop != "none" and (pictures is None or pictures.shape[1:] != (SIDE, SIDE)):
        given = None if pictures is None else tuple(pictures.shape)
        raise ValueError(f"pictures must have shape (P, {SIDE}, {SIDE}); got {given}")
    start = torch.rand(count, 1, 2, generator=generator)
    speed = (2 * torch.rand(count, 1, 2, generator=generator) - 1) * FASTEST
    unfolded = (start + speed * torch.arange(length)[:, None]) % 2
    back = unfolded > 1
    position = torch.where(back, 2 - unfolded, unfolded)
    frames = _ball(position)
    if pictures is not None and backdrop != "none":
        shown = 1 if backdrop == "fixed" else length
        chosen = torch.randint(len(pictures), (count, shown), generator=generator)
        frames = torch.maximum(frames, pictures[chosen].flatten(2))
    velocity = torch.where(back, -speed, speed)
    return Film(frames, frames, position, velocity).retake(generator)


def backdrops(dataset: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return the images of a data set as pictures for :func:`film`: of training, and of testing."""
    split = load(dataset, seed=seed)
    grey = (part.images.mean(dim=1, keepdim=True) for part in (split.train, split.test))
    train, test = (
        DIM * F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]
        for images in grey
    )
    return train, test


def _ball(position: Tensor) -> Tensor:
    """Return frames of a blurred ball, its centre kept its own width away from the edges."""
    grid = (torch.arange(SIDE) + 0.5) / SIDE
    centre = BALL + (1 - 2 * BALL) * position
    across, down = ((grid - centre[..., k, None]) / BALL for k in (0, 1))
    across, down = (torch.exp(-(distance**2) / 2) for distance in (across, down))
    return (down[..., :, None] * across[..., None, :]).flatten(2)


class WorldModel(nn.Module):
    """An encoder of what is seen, a predictor of its next latent, and a decoder for one arm."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp([2 * SIDE**2, 128, 64, LATENTS], norm="none")
        self.predictor = mlp([LATENTS, 64, LATENTS], norm="none")
        self.decoder = mlp([LATENTS, 64, 2 * SIDE**2], norm="none")
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target towards the encoder."""
        for slow, fast in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - MOMENTUM)


def loss_of(model: WorldModel, now: Tensor, then: Tensor, keeper: str) -> Tensor:
    r"""Return the squared error of the predicted latent, and what `keeper` adds against collapse.

    .. math:: \frac1{ND} \sum_i \lVert g(f(x_i)) - f(x'_i) \rVert^2

    with the encoder f and the predictor g. Without a keeper its least value, 0, is that of any
    constant f. "stop-gradient" takes :math:`f(x')` for a constant, "momentum" takes a slow copy of
    f there; "variance" adds the variance and covariance terms of VICReg, "sigreg" 0.1 times the
    statistic of SIGReg, "reconstruction" the squared error of a decoder.

    Parameters
    ----------
    model
        Whose latents.
    now, then
        What is seen at two successive times, shape (N, 2 SIDE**2).
    keeper
        One of `KEEPERS`.

    Raises
    ------
    ValueError
        For any other keeper.
    """
    _checks.choice("keeper", keeper, KEEPERS)
    z_now, z_then = model.encoder(now), model.encoder(then)
    aim = {"stop-gradient": z_then.detach, "momentum": lambda: model.target(then)}
    aimed = aim.get(keeper, lambda: z_then)()
    error = F.mse_loss(model.predictor(z_now), aimed)
    match keeper:
        case "variance":
            terms = objectives.vicreg_terms(z_now, z_then)
            return error + terms.variance + VICREG * terms.covariance
        case "sigreg":
            return error + SIGREG * objectives.sigreg_terms(z_now, z_then, slices=64).statistic
        case "reconstruction":
            return error + F.mse_loss(model.decoder(z_now), now)
    return error


@dataclass(frozen=True)
class Outcome:
    """A trained model and what it knows. `history` has a row for each reading, as `READINGS`.

    `encoders` are those of the steps at which it was read.
    `variance` is the total variance of z, `error` the prediction error over that: 1 where the mean
    is predicted, whatever is seen. `position` and `velocity` are the shares of
    their variance that a linear map explains on unseen films, least squares in float64: the most
    lenient probe, which magnifies whatever is left.
    """

    model: WorldModel
    encoders: dict[int, nn.Module]
    history: np.ndarray
    variance: float
    error: float
    rank: float
    position: float
    velocity: float
    initial_variance: float
    initial_position: float


READINGS = ("step", "loss", "variance", "error", "rank", "position", "velocity")


def train(
    keeper: str,
    seed: int,
    *,
    steps: int,
    at: Sequence[int] = (),
    backdrop: str = "none",
    pictures: tuple[Tensor, Tensor] | None = None,
    lr: float = 1e-3,
    device: str = "cpu",
) -> Outcome:
    """Train a model against collapse by `keeper`, on 8,192 films of three frames.

    Parameters
    ----------
    keeper
        One of `KEEPERS`.
    seed
        Governs the weights and the films.
    steps, at
        Optimiser steps, and those at which it is read, the first and the last besides.
    backdrop, pictures
        See :func:`film`; the pictures of training and those of testing.
    lr, device
        Adam's learning rate; "auto" or a torch device.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    """
    generator = torch.Generator().manual_seed(seed)
    behind, unseen = pictures if pictures is not None else (None, None)
    taken = film(FILMS, 3, generator, backdrop=backdrop, pictures=behind)
    tested = film(1000, 3, generator, backdrop=backdrop, pictures=unseen)
    place = pick_device(device)
    now, then = taken.seen(1).to(place), taken.seen(2).to(place)
    model = WorldModel().to(place)
    rows: list[list[float]] = []
    encoders: dict[int, nn.Module] = {}
    last = [float("nan")]

    def loss(step: int) -> Tensor:
        if keeper == "momentum" and step:
            model.follow()
        drawn = torch.randint(FILMS, (BATCH,), generator=generator)
        value = loss_of(model, now[drawn], then[drawn], keeper)
        last[0] = value.item()
        return value

    def watch(step: int) -> None:
        rows.append([step, last[0], *read(model, taken, tested)])
        encoders[step] = copy.deepcopy(model.encoder).cpu()

    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.Adam(parameters, lr=lr, fused=True)
    fit(adam, loss, steps=steps, watch=watch, at={0, steps, *at})
    last_row = dict(zip(READINGS, rows[-1], strict=True))
    return Outcome(
        model.cpu(),
        encoders,
        np.array(rows),
        **{name: last_row[name] for name in READINGS[2:]},
        initial_variance=rows[0][2],
        initial_position=rows[0][5],
    )


@torch.no_grad()
def read(model: WorldModel, taken: Film, tested: Film) -> list[float]:
    """Return the readings of a model from `variance` on: fitted on one film, read on the other."""
    place = next(model.parameters()).device
    z, z_then = (model.encoder(tested.seen(t).to(place)) for t in (1, 2))
    variance = float(z.double().var(dim=0).sum())
    error = float((model.predictor(z) - z_then).double().square().sum(dim=1).mean())
    fitted = model.encoder(taken.seen(1)[:PROBED].to(place)).cpu()
    z = z.cpu()
    position = explained(fitted, taken.position[:PROBED, 1], z, tested.position[:, 1])
    velocity = explained(fitted, taken.velocity[:PROBED, 1], z, tested.velocity[:, 1])
    return [variance, error / variance, effective_rank(z), position, velocity]


def linear_map(z: Tensor, y: Tensor) -> Tensor:
    """Return the least-squares map from z, with a constant, to y, shape (D + 1, K), float64."""
    return torch.linalg.lstsq(_with_constant(z), y.double(), driver="gelsd").solution


def decode(z: Tensor, weights: Tensor) -> Tensor:
    """Return what a map of :func:`linear_map` says of latents, shape (N, K), float64."""
    return _with_constant(z) @ weights


def explained(z: Tensor, y: Tensor, unseen_z: Tensor, unseen_y: Tensor) -> float:
    """Return the share of the variance of unseen y that a linear map of z explains, at most 1."""
    unseen_y = unseen_y.double()
    missed = (decode(unseen_z, linear_map(z, y)) - unseen_y).square().sum()
    return float(1 - missed / (unseen_y - y.double().mean(dim=0)).square().sum())


def _with_constant(z: Tensor) -> Tensor:
    z = z.double()
    return torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1)
