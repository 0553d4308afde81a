"""Posterior collapse: a latent whose posterior is the prior, whatever the input.

*Coins of unknown bias*: how much a latent can be worth, and what the best likelihood is, are both
exact, so that a model that has lost its latent can be told from one that is merely badly trained.
Digits, pixel by pixel, are a second world; for the linear one see `repcollapse.modes.linear_vae`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import data
from repcollapse.checkups.latents import gaussian_kl
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp


def toss(coins: int, tosses: int) -> tuple[Tensor, Tensor]:
    """Return tosses of coins, (coins, tosses) of 0 and 1, and the bias of each, uniform."""
    bias = torch.rand(coins, 1)
    return torch.bernoulli(bias.expand(coins, tosses)), bias[:, 0]


def log_evidence(x: Tensor) -> Tensor:
    r"""Return the exact log p(x) of tosses (N, T) of coins of uniform bias, in nats, (N,).

    .. math:: p(x) = \frac1{(T+1)\binom Tk}, \qquad k = \sum_t x_t

    Examples
    --------
    >>> round(log_evidence(torch.ones(1, 3)).exp().item(), 6)  # heads thrice
    0.25
    """
    tosses, heads = x.shape[1], x.cpu().double().sum(dim=1)
    choose = math.lgamma(tosses + 1) - torch.lgamma(heads + 1) - torch.lgamma(tosses - heads + 1)
    return -math.log(tosses + 1) - choose


def information(tosses: int) -> float:
    r"""Return the mutual information of a coin's uniform bias and its tosses, in nats.

    .. math:: I = \log(T+1) + \frac1{T+1} \sum_k \log \binom Tk - \frac T2

    The entropy of the tosses less what is left where the bias is known, on average half a nat each.

    Examples
    --------
    >>> round(information(32), 3)
    1.36
    """
    heads = torch.arange(tosses + 1)
    x = (torch.arange(tosses) < heads[:, None]).double()
    return float(-log_evidence(x).mean()) - tosses / 2


class Running(nn.Module):
    """A decoder for coins: toss t from the latent and the mean of the tosses before it.

    The mean and the number of what came before is all that an exchangeable past can say, so that
    this small network can learn Laplace's rule. `blind` is the same network without a past.
    """

    def __init__(self, latents: int = 1, *, hidden: int = 16, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind
        self.past = nn.Linear(2, hidden)
        self.latent = nn.Linear(latents, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)

    def forward(self, z: Tensor, x: Tensor, keep: Tensor) -> Tensor:
        """Return the logits of x, (N, T), from z (N, K); `keep` (N, T) is 0 where x is hidden."""
        keep = keep * (0.0 if self.blind else 1.0)
        signed = (2 * x - 1) * keep
        count = keep.cumsum(dim=1) - keep + 1
        seen = torch.stack([(signed.cumsum(dim=1) - signed) / count, 1 / count], dim=-1)
        return self.out(F.relu(self.past(seen) + self.latent(z)[:, None])).squeeze(-1)


class Masked(nn.Module):
    """A decoder for pixels in order: MADE (Germain et al. 2015), one hidden layer, with a latent.

    A hidden unit of degree d sees the first d pixels; pixel t is decoded from units of a degree
    below it. `blind` is the same network without a past.
    """

    reads: Tensor
    writes: Tensor

    def __init__(
        self, pixels: int, latents: int = 8, *, hidden: int = 192, blind: bool = False
    ) -> None:
        super().__init__()
        degree = torch.arange(hidden) * (pixels - 1) // hidden + 1
        place = torch.arange(pixels)
        self.register_buffer("reads", (place < degree[:, None]).float() * (0.0 if blind else 1.0))
        self.register_buffer("writes", (degree <= place[:, None]).float() + (1.0 if blind else 0.0))
        self.writes.clamp_(max=1)
        self.past = nn.Linear(pixels, hidden)
        self.latent = nn.Linear(latents, hidden, bias=False)
        self.out = nn.Linear(hidden, pixels)
        self.direct = nn.Linear(latents, pixels, bias=False)

    def forward(self, z: Tensor, x: Tensor, keep: Tensor) -> Tensor:
        """Return the logits of x, (N, D), from z (N, K); `keep` (N, D) is 0 where x is hidden."""
        past = F.linear((2 * x - 1) * keep, self.past.weight * self.reads, self.past.bias)
        hidden = F.relu(past + self.latent(z))
        return F.linear(hidden, self.out.weight * self.writes, self.out.bias) + self.direct(z)


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


def train(
    vae: VAE,
    batch: Callable[[], Tensor],
    *,
    steps: int,
    lr: float = 4e-2,
    weight: float | Callable[[float], float] = 1.0,
    free: float = 0.0,
    hide: float = 0.0,
) -> np.ndarray:
    """Train a VAE by Adam, the last quarter of the steps at a tenth of the rate.

    Parameters
    ----------
    vae, batch, steps, lr
        The model, what draws a batch (N, T), how many steps, and the rate of the first.
    weight
        Of the divergence: a number, or a function of how much of the training is over.
    free
        Nats below which the divergence of a batch is not counted (free bits, one group).
    hide
        The share of samples whose past is hidden from the decoder.

    Returns
    -------
    numpy.ndarray
        The divergence of every batch in nats, shape (steps,).
    """
    trace = np.empty(steps)
    last = steps // 4

    def loss(step: int) -> Tensor:
        x = batch()
        keep = (torch.rand(len(x), 1) >= hide).float().to(x.device).expand_as(x)
        error, kl = (term.mean() for term in vae.terms(x, keep))
        trace[step] = kl.item()
        scale = weight(step / steps) if callable(weight) else weight
        return error + scale * kl.clamp(min=free)

    def at_the_end(step: int) -> Tensor:
        return loss(step + steps - last)

    for part, length, rate in ((loss, steps - last, lr), (at_the_end, last, lr / 10)):
        fit(torch.optim.Adam(vae.parameters(), lr=rate, fused=True), part, steps=length)
    return trace


@dataclass(frozen=True)
class Trained:
    """What is read off a trained VAE, on data that it has not seen.

    Attributes
    ----------
    kl, nats
        Mean divergence, and mean negative ELBO, in nats a sample.
    excess
        For coins, how far `nats` is above the exact negative log-evidence of the same tosses.
    probe_of_mean, probe_of_draw
        For coins, R^2 of the bias from the posterior's mean, and from one draw of it.
    trace
        The divergence of every batch of the training.
    mu, log_var, draw, heads
        The posterior of the samples, a draw of it, and how many ones each sample has.
    """

    kl: float
    nats: float
    excess: float
    probe_of_mean: float
    probe_of_draw: float
    trace: np.ndarray
    mu: Tensor
    log_var: Tensor
    draw: Tensor
    heads: Tensor

    @property
    def peak(self) -> float:
        """The largest divergence of the training, mean of ten batches."""
        return float(np.convolve(self.trace, np.full(10, 0.1), mode="valid").max())


def explained(z: Tensor, target: Tensor) -> float:
    """Return R^2 of a linear regression on z (N, K), fitted on one half and read on the other."""
    inputs = F.pad(z.double(), (0, 1), value=1.0)
    half = len(z) // 2
    weights = torch.linalg.lstsq(inputs[:half], target[:half, None].double()).solution
    rest = target[half:].double()
    left = (rest - (inputs[half:] @ weights)[:, 0]).square().mean()
    return 1 - float(left / rest.var(correction=0))


@torch.no_grad()
def read(vae: VAE, x: Tensor, trace: np.ndarray, bias: Tensor | None = None) -> Trained:
    """Return what :class:`Trained` lists; without biases, `excess` and the probes are NaN."""
    mu, log_var = vae.posterior(x)
    draw = mu + (log_var / 2).exp() * torch.randn_like(mu)
    error, kl = (term.double().mean().item() for term in vae.terms(x.repeat(4, 1)))
    return Trained(
        kl=kl,
        nats=error + kl,
        excess=math.nan if bias is None else error + kl + float(log_evidence(x).mean()),
        probe_of_mean=math.nan if bias is None else explained(mu.cpu(), bias),
        probe_of_draw=math.nan if bias is None else explained(draw.cpu(), bias),
        trace=trace,
        mu=mu.cpu(),
        log_var=log_var.cpu(),
        draw=draw.cpu(),
        heads=x.sum(dim=1).long().cpu(),
    )


def run_coins(
    steps: int,
    *,
    tosses: int = 32,
    blind: bool = False,
    variance: float | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Trained:
    """Train a VAE with one latent on ever new coins, and read it on 4,000 others.

    The others are drawn first, so that all arms of a seed are read on the same; `options` are
    those of :func:`train`.
    """
    x, bias = toss(4000, tosses)
    vae = VAE(tosses, 1, Running(blind=blind), variance=variance).to(device)
    trace = train(vae, lambda: toss(64, tosses)[0].to(device), steps=steps, **options)
    return read(vae, x.to(device), trace, bias)


def run_pixels(
    dataset: str,
    seed: int,
    steps: int,
    *,
    blind: bool = False,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Trained:
    """Train a VAE with eight latents on images of 8 x 8 black and white pixels."""
    found = data.load(dataset, seed=seed)
    grey = [
        F.adaptive_avg_pool2d(split.images.mean(dim=1, keepdim=True), 8).flatten(1)
        for split in (found.train, found.test)
    ]
    seen, unseen = ((images > grey[0].mean()).float().to(device) for images in grey)
    vae = VAE(64, 8, Masked(64, blind=blind)).to(device)

    def batch() -> Tensor:
        return seen[torch.randint(len(seen), (64,)).to(device)]

    return read(vae, unseen, train(vae, batch, steps=steps, **{"lr": 5e-3} | options))
