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
from repcollapse.modes.fitting import fit
from repcollapse.networks import follow, mlp
from repcollapse.training import pick_device

WIDTH, LATENTS = 64, 16
TARGETS = ("own", "detached", "momentum")
MOMENTUM, SLICES = 0.99, 64
FILMS, JUDGED, BATCH, LR = 8192, 1000, 64, 2e-3


class WorldModel(nn.Module):
    """An encoder of what is seen, a predictor of its next latent, and a decoder for one arm."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp([2 * SIDE**2, WIDTH, LATENTS], norm="none")
        self.predictor = mlp([LATENTS, WIDTH, LATENTS], norm="none")
        self.decoder = mlp([LATENTS, WIDTH, 2 * SIDE**2], norm="none")
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)


@dataclass(frozen=True)
class Setting:
    """What a loss has against collapse; as it stands, nothing: prediction alone.

    Attributes
    ----------
    target
        The next latent that is predicted: "own", that of the encoder; "detached", the same for a
        constant; "momentum", that of a slow copy of the encoder.
    variance, covariance
        Weights of these terms of :func:`repcollapse.objectives.vicreg_terms`, at least 0.
    sigreg
        Weight of the statistic of :func:`repcollapse.objectives.sigreg_terms`, at least 0.
    reconstruction
        Weight of the squared error of a decoder that draws what is seen, at least 0.

    Raises
    ------
    TypeError, ValueError
        For values other than these.

    Examples
    --------
    >>> Setting(sigreg=-0.1)
    Traceback (most recent call last):
    ...
    ValueError: sigreg must be at least 0; got -0.1
    """

    target: str = "own"
    variance: float = 0.0
    covariance: float = 0.0
    sigreg: float = 0.0
    reconstruction: float = 0.0

    def __post_init__(self) -> None:
        _checks.choice("target", self.target, TARGETS)
        for term in ("variance", "covariance", "sigreg", "reconstruction"):
            _checks.number(term, getattr(self, term), at_least=0)


ARMS = {
    "prediction alone": Setting(),
    "stop-gradient": Setting(target="detached"),
    "momentum target": Setting(target="momentum"),
    "variance terms": Setting(variance=1.0, covariance=1 / 25),  # as in VICReg, 25 to 1
    "SIGReg": Setting(sigreg=0.1),  # as in LeWorldModel
    "reconstruction": Setting(reconstruction=1.0),
}


def loss_of(model: WorldModel, now: Tensor, then: Tensor, setting: Setting) -> Tensor:
    r"""Return the squared error of the predicted latent, and what a setting adds against collapse.

    .. math:: \frac1{ND} \sum_i \lVert g(f(x_i)) - t_i \rVert^2

    with the encoder f, the predictor g, and the target t: :math:`f(x'_i)`, the same for a constant,
    or what a slow copy of f makes of :math:`x'_i`. In prediction alone, with the first, that is
    all, and its least value, 0, is that of any constant f.

    Parameters
    ----------
    model
        Whose latents.
    now, then
        What is seen at two successive times, shape (N, 2 SIDE**2).
    setting
        The target, and the weights of further terms; a term of weight 0 is left out.

    Returns
    -------
    Tensor
        A scalar, at least 0.

    Examples
    --------
    >>> model, seen = WorldModel(), torch.rand(2, 5, 2 * SIDE**2)
    >>> dull = loss_of(model, *seen, Setting())
    >>> bool(dull < loss_of(model, *seen, Setting(variance=1.0)))
    True
    """
    if setting.target == "own":
        z, aim = model.encoder(torch.cat([now, then])).chunk(2)
    else:
        z = model.encoder(now)
        with torch.no_grad():
            aim = (model.encoder if setting.target == "detached" else model.target)(then)
    loss = F.mse_loss(model.predictor(z), aim)
    if setting.variance or setting.covariance:
        terms = objectives.vicreg_terms(z, aim)
        loss = loss + setting.variance * terms.variance + setting.covariance * terms.covariance
    if setting.sigreg:
        loss = loss + setting.sigreg * objectives.sigreg_terms(z, aim, slices=SLICES).statistic
    if setting.reconstruction:
        loss = loss + setting.reconstruction * F.mse_loss(model.decoder(z), now)
    return loss


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
    setting: Setting,
    seed: int,
    *,
    steps: int,
    backdrop: str = "none",
    dataset: str = "digits",
    at: Collection[int] = (),
    device: str = "auto",
) -> Trained:
    """Train a model on 8,192 films of three frames.

    Parameters
    ----------
    setting
        What its loss has against collapse; `ARMS` has some by name.
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
    >>> trained = train(ARMS["stop-gradient"], 0, steps=2, at=[1], device="cpu")
    >>> trained.history["step"].tolist(), trained.position <= 1
    ([0, 1, 2], True)
    """
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
        if setting.target == "momentum" and step:
            follow(model.target, model.encoder.parameters(), MOMENTUM)
        drawn = torch.randint(FILMS, (BATCH,), generator=order)
        return loss_of(model, now[drawn], then[drawn], setting)

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
