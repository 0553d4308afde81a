"""World models of the ball: they predict the next latent instead of the next frame.

A model sees two frames and predicts what it will itself make of the next two. A constant is
predicted perfectly, and what keeps the constant away is one line of :func:`loss_of`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks, objectives
from repcollapse.data import stream
from repcollapse.diagnostics import effective_rank, regression_probe
from repcollapse.modes.ball import SIDE, Film, backdrops, film
from repcollapse.modes.runs import fit
from repcollapse.networks import follow, mlp
from repcollapse.training import pick_device

WIDTH, LATENTS = 64, 16
ARMS = (
    *("prediction alone", "stop-gradient", "momentum target", "variance terms", "SIGReg"),
    "reconstruction",
)
MOMENTUM = 0.99
VICREG, SIGREG, SLICES = 1 / 25, 0.1, 64  # as in VICReg, where variance has 25, and LeWorldModel
FILMS, JUDGED, BATCH, LR = 8192, 1000, 64, 2e-3


class WorldModel(nn.Module):
    """An encoder of what is seen, a predictor of its next latent, and a decoder for one arm."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp([2 * SIDE**2, WIDTH, LATENTS], norm="none")
        self.predictor = mlp([LATENTS, WIDTH, LATENTS], norm="none")
        self.decoder = mlp([LATENTS, WIDTH, 2 * SIDE**2], norm="none")
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)


def loss_of(model: WorldModel, now: Tensor, then: Tensor, arm: str) -> Tensor:
    r"""Return the squared error of the predicted latent, and what an arm adds against collapse.

    .. math:: \frac1{ND} \sum_i \lVert g(f(x_i)) - f(x'_i) \rVert^2

    with the encoder f and the predictor g. In "prediction alone" that is all, and its least value,
    0, is that of any constant f. "stop-gradient" takes :math:`f(x')` for a constant; "momentum
    target" takes a slow copy of f there; "variance terms" adds the variance and covariance terms of
    VICReg, "SIGReg" 0.1 times the statistic of SIGReg, "reconstruction" the squared error of a
    decoder that draws x.

    Parameters
    ----------
    model
        Whose latents.
    now, then
        What is seen at two successive times, shape (N, 2 SIDE**2).
    arm
        One of `ARMS`.

    Returns
    -------
    Tensor
        A scalar, at least 0.

    Raises
    ------
    ValueError
        For any other arm.
    """
    _checks.choice("arm", arm, ARMS)
    if arm in ("stop-gradient", "momentum target"):
        with torch.no_grad():
            aim = (model.encoder if arm == "stop-gradient" else model.target)(then)
        return F.mse_loss(model.predictor(model.encoder(now)), aim)
    z_now, z_then = model.encoder(torch.cat([now, then])).chunk(2)
    error = F.mse_loss(model.predictor(z_now), z_then)
    match arm:
        case "variance terms":
            terms = objectives.vicreg_terms(z_now, z_then)
            return error + terms.variance + VICREG * terms.covariance
        case "SIGReg":
            return error + SIGREG * objectives.sigreg_terms(z_now, z_then, slices=SLICES).statistic
        case "reconstruction":
            return error + F.mse_loss(model.decoder(z_now), now)
    return error


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model and what it knows, read on films that no model was trained on.

    Attributes
    ----------
    model
        On the CPU.
    encoders
        Those of the steps at which it was read.
    history
        A row for each reading: "step"; "variance", the total variance of the latents z; "missed",
        the mean squared error of the prediction, as in the loss; "error", that over the mean
        variance of a dimension, which is 1 where the mean is predicted, whatever is seen; "rank",
        the effective rank of z; "position" and "velocity", the shares of their variance that
        :func:`repcollapse.diagnostics.regression_probe` reads from z.
    """

    model: WorldModel
    encoders: dict[int, nn.Module] = field(repr=False)
    history: pd.DataFrame

    @property
    def variance(self) -> float:
        """Total variance of the latents after the last step."""
        return self._last("variance")

    @property
    def variance_kept(self) -> float:
        """That over the variance before the first step."""
        return self.variance / float(self.history["variance"].iloc[0])

    @property
    def error(self) -> float:
        """Error of the prediction over the variance, after the last step."""
        return self._last("error")

    @property
    def missed(self) -> float:
        """Mean squared error of the prediction after the last step, as in the loss."""
        return self._last("missed")

    @property
    def rank(self) -> float:
        """Effective rank of the latents after the last step."""
        return self._last("rank")

    @property
    def position(self) -> float:
        """Share of the variance of the position explained, after the last step."""
        return self._last("position")

    @property
    def velocity(self) -> float:
        """Share of the variance of the velocity explained, after the last step."""
        return self._last("velocity")

    @property
    def initial_position(self) -> float:
        """Share of the variance of the position explained before the first step."""
        return float(self.history["position"].iloc[0])

    def _last(self, name: str) -> float:
        return float(self.history[name].iloc[-1])


def train(
    arm: str,
    seed: int,
    *,
    steps: int,
    backdrop: str = "none",
    dataset: str = "digits",
    at: Collection[int] = (),
    device: str = "auto",
) -> Trained:
    """Train a model with one means against collapse, on 8,192 films of three frames.

    Parameters
    ----------
    arm
        One of `ARMS`, see :func:`loss_of`.
    seed
        Governs the films, their order, and the pictures behind the ball. Weights come from torch's
        global generator, which :func:`repcollapse.modes.runs.once` seeds.
    steps
        Of Adam, on 64 films each, >= 1.
    backdrop, dataset
        See :func:`repcollapse.modes.ball.film`; the data set whose images hang there: those of
        training in the films to train on, those of testing in the films to judge by.
    at
        The steps at which the model is read, the first and the last besides.
    device
        "auto" or a torch device.

    Returns
    -------
    Trained
        Read on films of its own, all on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    Examples
    --------
    >>> trained = train("stop-gradient", 0, steps=2, at=[1], device="cpu")
    >>> trained.history["step"].tolist(), trained.position <= 1
    ([0, 1, 2], True)
    """
    _checks.choice("arm", arm, ARMS)
    steps = _checks.integer("steps", steps, at_least=1)
    pictures = (None, None) if backdrop == "none" else backdrops(dataset, seed)
    taken, judged = (
        film(count, 3, stream(seed, purpose), backdrop=backdrop, pictures=behind)
        for count, purpose, behind in zip(
            (FILMS, JUDGED), ("films to train on", "films to judge by"), pictures, strict=True
        )
    )
    place, order = pick_device(device), stream(seed, "order of films")
    now, then = taken.seen(1).to(place), taken.seen(2).to(place)
    model = WorldModel().to(place)
    rows: list[dict[str, float]] = []
    encoders: dict[int, nn.Module] = {}

    def loss(step: int) -> Tensor:
        if arm == "momentum target" and step:
            follow(model.target, model.encoder.parameters(), MOMENTUM)
        drawn = torch.randint(FILMS, (BATCH,), generator=order)
        return loss_of(model, now[drawn], then[drawn], arm)

    def watch(step: int) -> None:
        encoders[step] = copy.deepcopy(model.encoder).cpu()
        rows.append({"step": step, **read(model, taken, judged)})

    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    adam = torch.optim.Adam(parameters, lr=LR, fused=True)
    fit(adam, loss, steps=steps, watch=watch, at={0, steps, *at})
    return Trained(model.cpu(), encoders, pd.DataFrame(rows))


@torch.no_grad()
def read(model: WorldModel, taken: Film, judged: Film) -> dict[str, float]:
    """Return the readings of a model, as in :class:`Trained`: fitted on some films, of others.

    Parameters
    ----------
    model
        Where it is, the films are brought.
    taken, judged
        Films of three frames or more: the first of `taken` fit the probes, all of `judged` are
        read.

    Returns
    -------
    dict
        "variance", "missed", "error" and "rank", each at least 0; "position" and "velocity", each
        at most 1. At exact collapse the variance is 0, and the error over it 1, or infinite where
        the constant is missed.

    Examples
    --------
    >>> shots = [film(50, 3, torch.Generator().manual_seed(k)) for k in (0, 1)]
    >>> found = read(WorldModel(), *shots)
    >>> list(found)[:4], found["position"] <= 1
    (['variance', 'missed', 'error', 'rank'], True)
    """
    place = next(model.parameters()).device
    z, z_then = (model.encoder(judged.seen(t).to(place)) for t in (1, 2))
    variance = float(z.double().var(dim=0).sum())
    missed = float((model.predictor(z) - z_then).double().square().mean())
    first = slice(2 * JUDGED)  # films enough for a map of 16 latents
    fitted = model.encoder(taken.seen(1)[first].to(place))
    told = {
        name: regression_probe(
            fitted, getattr(taken, name)[first, 1], z, getattr(judged, name)[:, 1]
        )
        for name in ("position", "velocity")
    }
    return {
        "variance": variance,
        "missed": missed,
        "error": _over(missed, variance / z.shape[1]),
        "rank": effective_rank(z),
        **told,
    }


def _over(missed: float, variance: float) -> float:
    if variance > 0:
        return missed / variance
    return math.inf if missed > 0 else 1.0
