"""Posterior collapse: a latent whose posterior is the prior, whatever the input.

Two worlds in which the answer is known. A *linear* VAE of data of known covariance: its objective
needs no sampling, its optimum has a closed form. And *coins of unknown bias*: how much a latent can
be worth, and what the best likelihood is, are both exact, so that a model that has lost its latent
can be told from one that is merely badly trained. Digits, pixel by pixel, are a third.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks, data
from repcollapse.checkups.latents import gaussian_kl
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp

# --- a linear VAE


def linear_loss(w: Tensor, v: Tensor, log_var: Tensor, covariance: Tensor, price: float) -> Tensor:
    r"""Return what a linear VAE minimises, exactly: the negative ELBO times the noise variance.

    .. math:: \tfrac12 \mathbb E \lVert x - W z \rVert^2
        + \beta \sigma^2\, \mathbb E\, \mathrm{KL}(q(z \mid x) \,\Vert\, N(0, I)),
        \qquad q = N(V x, \operatorname{diag} \sigma_q^2)

    up to a constant. The weight and the noise variance enter as a product, the price of a nat.

    Parameters
    ----------
    w, v, log_var
        Decoder (D, K), encoder (K, D), logarithm of the posterior's variances (K,).
    covariance
        That of the centred data, (D, D).
    price
        :math:`\beta \sigma^2`.
    """
    shared = covariance @ v.T
    second = v @ shared  # of the posterior's means
    error = covariance.trace() - 2 * (w * shared).sum() + ((w.T @ w) * second).sum()
    error = error + (w.square().sum(dim=0) * log_var.exp()).sum()
    divergence = 0.5 * (second.diagonal() + log_var.exp() - log_var - 1).sum()
    return 0.5 * error + price * divergence


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear VAE beside its theory.

    Attributes
    ----------
    price, eigenvalues
        What a nat costs, and the largest K eigenvalues of the data, descending.
    squared_singular_values, kl
        Of the decoder, and of the latents in nats; both descending, shape (K,).
    encoder, log_var
        What the posterior is made of: (K, D) and (K,).
    """

    price: float
    eigenvalues: np.ndarray
    squared_singular_values: np.ndarray
    kl: np.ndarray
    encoder: Tensor
    log_var: Tensor

    @property
    def predicted_rank(self) -> int:
        """How many eigenvalues exceed the price."""
        return int((self.eigenvalues > self.price).sum())

    @property
    def rank(self) -> int:
        """How many squared singular values of the decoder exceed a thousandth of the data's."""
        return int((self.squared_singular_values > 1e-3 * self.eigenvalues[0]).sum())

    @property
    def singular_value_error(self) -> float:
        """Largest distance to max(eigenvalue - price, 0), over the largest eigenvalue."""
        theory = np.maximum(self.eigenvalues - self.price, 0)
        return float(np.abs(self.squared_singular_values - theory).max() / self.eigenvalues[0])

    @property
    def kl_error(self) -> float:
        """Largest distance in nats to half the logarithm of eigenvalue over price, or 0."""
        theory = 0.5 * np.log(np.maximum(self.eigenvalues / self.price, 1))
        return float(np.abs(self.kl - theory).max())

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the posterior of centred data (N, D), both (N, K)."""
        mu = x.double() @ self.encoder.T
        return mu, self.log_var.expand_as(mu)


def fit_linear(
    covariance: Tensor, price: float, *, latents: int = 10, iterations: int = 400
) -> LinearFit:
    """Fit a linear VAE by L-BFGS in float64, from a random start of torch's global generator.

    Parameters
    ----------
    covariance
        (D, D), of centred data.
    price
        Above 0, see :func:`linear_loss`.
    latents, iterations
        K, at most D; and how many steps of L-BFGS at most.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Lucas et al. 2019, "Don't blame the ELBO!"; Tipping & Bishop 1999 for the optimum.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> found = fit_linear(torch.diag(torch.tensor([4.0, 2.0, 1.0])), 1.5, latents=2)
    >>> found.rank, [round(float(value), 3) for value in found.squared_singular_values]
    (2, [2.5, 0.5])
    """
    covariance = _checks.as_matrix("covariance", covariance, min_rows=1).double()
    price = _checks.number("price", price, above=0)
    size = len(covariance)
    latents = _checks.integer("latents", latents, at_least=1, at_most=size)
    shapes = ((size, latents), (latents, size), (latents,))
    counts = [math.prod(shape) for shape in shapes]

    def parts(flat: Tensor) -> list[Tensor]:
        return [one.view(shape) for one, shape in zip(flat.split(counts), shapes, strict=True)]

    def value_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        flat = torch.from_numpy(point).requires_grad_()
        w, v, log_var = parts(flat)
        loss = linear_loss(w, v, log_var, covariance, price)
        (gradient,) = torch.autograd.grad(loss, flat)
        return loss.item(), gradient.numpy()

    start = torch.randn(sum(counts), dtype=torch.float64) / size**0.5
    flat_enough = 1e-7 * covariance.diagonal().sum().item()
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 0, "gtol": flat_enough}
    end = minimize(
        value_and_gradient, start.numpy(), jac=True, method="L-BFGS-B", options=options
    ).x
    w, v, log_var = parts(torch.from_numpy(end))
    second_moment = ((v @ covariance) * v).sum(dim=1)
    kl = gaussian_kl(second_moment.sqrt(), log_var)
    return LinearFit(
        price=price,
        eigenvalues=torch.linalg.eigvalsh(covariance).flip(0)[:latents].numpy(),
        squared_singular_values=torch.linalg.svdvals(w).square().numpy(),
        kl=kl.sort(descending=True).values.numpy(),
        encoder=v,
        log_var=log_var,
    )


def price_for(eigenvalues: np.ndarray, rank: int) -> float:
    """Return the price at which `rank` latents pay: the geometric middle of two eigenvalues.

    For rank 0 it is a tenth above the largest.

    Raises
    ------
    TypeError, ValueError
        For a rank that is not one of 0 to the number of eigenvalues less one.

    Examples
    --------
    >>> price_for(np.array([4.0, 1.0]), 1)
    2.0
    """
    rank = _checks.integer("rank", rank, at_least=0, at_most=len(eigenvalues) - 1)
    if rank == 0:
        return float(1.1 * eigenvalues[0])
    return float(math.sqrt(eigenvalues[rank - 1] * eigenvalues[rank]))


# --- coins of unknown bias


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

    fit(vae.parameters(), loss, steps=steps - last, lr=lr, fused=True)
    fit(
        vae.parameters(),
        lambda step: loss(step + steps - last),
        steps=last,
        lr=lr / 10,
        fused=True,
    )
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
