"""Posterior collapse: a latent whose posterior is the prior, whatever the input.

A variational autoencoder of binary data, how it is trained, and what is read of it. The worlds that
it lives in are `coins` and `pixels`; for a linear one see `linear_vae`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups import gaussian_kl
from repcollapse.modes.fitting import fit
from repcollapse.networks import mlp


class VAE(nn.Module):
    """An encoder to a Gaussian posterior, and a decoder of binary data.

    Parameters
    ----------
    inputs, latents
        T and K.
    decoder
        Called with z, x and what of x it may see, returns logits.
    variance
        The posterior's variance, where it is fixed and not learned.
    """

    def __init__(
        self, inputs: int, latents: int, decoder: nn.Module, *, variance: float | None = None
    ) -> None:
        super().__init__()
        self.encoder = mlp([inputs, 64, 2 * latents], norm="none")
        self.decoder = decoder
        self.variance = variance

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x), both (N, K)."""
        mu, log_var = self.encoder(2 * x - 1).chunk(2, dim=1)
        if self.variance is not None:
            log_var = torch.full_like(log_var, math.log(self.variance))
        return mu, log_var

    def terms(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the two terms of the negative ELBO, (N,): reconstruction and divergence."""
        mu, log_var = self.posterior(x)
        z = mu + (log_var / 2).exp() * torch.randn_like(mu)
        logits = self.decoder(z, x, torch.ones_like(x) if keep is None else keep)
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)
        return error, gaussian_kl(mu, log_var).sum(dim=1)


@dataclass(frozen=True)
class Setting:
    """How a VAE is trained; as it stands, for its ELBO and nothing else.

    Attributes
    ----------
    weight
        Of the divergence: a number of at least 0, or a function of how much of the training is
        over, in [0, 1).
    free
        Nats below which the divergence of a batch is not counted (free bits, one group), at least
        0.
    hide
        The share of samples whose past is hidden from the decoder, in [0, 1].
    blind
        Give the decoder no past at all.
    variance
        Of the posterior, above 0, where it is fixed and not learned.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    Examples
    --------
    >>> Setting(hide=2)
    Traceback (most recent call last):
    ...
    ValueError: hide must be at least 0 and at most 1; got 2
    """

    weight: float | Callable[[float], float] = 1.0
    free: float = 0.0
    hide: float = 0.0
    blind: bool = False
    variance: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.weight):
            _checks.number("weight", self.weight, at_least=0)
        _checks.number("free", self.free, at_least=0)
        _checks.number("hide", self.hide, at_least=0, at_most=1)
        if self.variance is not None:
            _checks.number("variance", self.variance, above=0)


def train_vae(
    vae: VAE, batch: Callable[[], Tensor], setting: Setting, *, steps: int, lr: float
) -> np.ndarray:
    """Train a VAE by Adam, over the second half of the steps at a rate that falls towards 0.

    Parameters
    ----------
    vae
        The model; what it draws comes from torch's global generators.
    batch
        Draws a batch, shape (N, T). It is called once a step, before the model is, so that it may
        say what rests in this step: what requires no gradient does.
    setting
        How; `blind` and `variance` are the model's, and change nothing here.
    steps, lr
        How many steps, and the rate in the first half; then it falls along a line.

    Returns
    -------
    numpy.ndarray
        The divergence of every batch in nats, shape (steps,).

    Raises
    ------
    TypeError, ValueError
        For steps other than a count.
    """
    steps = _checks.integer("steps", steps, at_least=0)
    trace = np.empty(steps)
    adam = torch.optim.Adam(vae.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adam, lambda step: min(1.0, 2 - 2 * step / max(steps, 1))
    )

    def loss(step: int) -> Tensor:
        x = batch()
        keep = (torch.rand(len(x), 1) >= setting.hide).float().to(x.device).expand_as(x)
        error, kl = (term.mean() for term in vae.terms(x, keep))
        trace[step] = kl.item()
        weight = setting.weight(step / steps) if callable(setting.weight) else setting.weight
        return error + weight * kl.clamp(min=setting.free)

    fit(adam, loss, steps=steps, schedule=schedule)
    return trace


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """What is read off a trained VAE, on data that it has not seen.

    Attributes
    ----------
    kl, nats
        Mean divergence, and mean negative ELBO, in nats a sample.
    trace
        The divergence of every batch of the training, shape (steps,).
    mu, log_var, draw
        Mean and log-variance of the posterior of each sample, and a draw of it, all (N, K).
    """

    kl: float
    nats: float
    trace: np.ndarray
    mu: Tensor
    log_var: Tensor
    draw: Tensor

    @property
    def peak(self) -> float:
        """The largest divergence of the training, mean of ten batches, or of all where fewer.

        NaN where there was no training.
        """
        if not len(self.trace):
            return math.nan
        window = min(10, len(self.trace))
        return float(np.convolve(self.trace, np.full(window, 1 / window), mode="valid").max())


@torch.no_grad()
def read(vae: VAE, x: Tensor, trace: np.ndarray) -> Trained:
    r"""Return what :class:`Trained` lists, of samples that the model has not seen.

    .. math::

        \mathrm{nats} = \mathbb{E}\left[-\log p(x \mid z)
        + \mathrm{KL}\left(q(z \mid x) \,\Vert\, p(z)\right)\right],

    the negative ELBO, over all samples and four draws of z for each.

    Parameters
    ----------
    vae
        The model; z is drawn from torch's global generators.
    x
        Samples, 0 or 1, shape (N, T), where the model is.
    trace
        The divergence of every batch of its training, shape (steps,).

    Returns
    -------
    Trained
        All on the CPU. At complete collapse `kl` is 0, and `nats` the mean reconstruction error.

    References
    ----------
    Kingma & Welling 2014, "Auto-encoding variational Bayes", section 2.2.

    Examples
    --------
    >>> from repcollapse.modes.coins import Running, toss
    >>> found = read(VAE(6, 1, Running()), toss(5, 6)[0], np.empty(0))
    >>> tuple(found.mu.shape), found.nats > found.kl >= 0
    ((5, 1), True)
    """
    mu, log_var = vae.posterior(x)
    draw = mu + (log_var / 2).exp() * torch.randn_like(mu)
    error, kl = (term.double().mean().item() for term in vae.terms(x.repeat(4, 1)))
    return Trained(
        kl=kl,
        nats=error + kl,
        trace=trace,
        mu=mu.cpu(),
        log_var=log_var.cpu(),
        draw=draw.cpu(),
    )
