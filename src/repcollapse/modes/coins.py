"""Coins of unknown bias: a world in which the worth of a latent is known to the nat.

How much a latent can be worth, and what the best likelihood is, are both exact, so that a model
that has lost its latent can be told from one that is merely badly trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import stream
from repcollapse.diagnostics import regression_probe
from repcollapse.modes import posterior
from repcollapse.modes.posterior import VAE, Setting
from repcollapse.training import pick_device

UNSEEN, BATCH, LEARNING_RATE = 4000, 128, 4e-2


def toss(
    coins: int, tosses: int, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return tosses of coins of unknown bias.

    Parameters
    ----------
    coins, tosses
        N and T.
    generator
        What they are drawn from, where not torch's global generator.

    Returns
    -------
    tuple of Tensor
        The tosses, 0 or 1, shape (N, T); and the bias of each coin, uniform in [0, 1], shape (N,).

    Examples
    --------
    >>> x, bias = toss(5, 3)
    >>> x.shape, bias.shape
    (torch.Size([5, 3]), torch.Size([5]))
    """
    bias = torch.rand(coins, 1, generator=generator)
    return torch.bernoulli(bias.expand(coins, tosses), generator=generator), bias[:, 0]


def log_evidence(x: Tensor) -> Tensor:
    r"""Return the exact log p(x) of tosses of coins of uniform bias, in nats.

    .. math:: p(x) = \frac1{(T+1)\binom Tk}, \qquad k = \sum_t x_t

    Parameters
    ----------
    x
        Tosses, 0 or 1, shape (N, T).

    Returns
    -------
    Tensor
        At most 0, in float64 on the CPU, shape (N,).

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

    Parameters
    ----------
    tosses
        T, at least 1.

    Returns
    -------
    float
        Above 0, and about half of log T where T is large.

    Raises
    ------
    TypeError, ValueError
        For tosses other than these.

    Examples
    --------
    >>> round(information(32), 3)
    1.36
    """
    tosses = _checks.integer("tosses", tosses, at_least=1)
    heads = torch.arange(tosses + 1)
    x = (torch.arange(tosses) < heads[:, None]).double()
    return float(-log_evidence(x).mean()) - tosses / 2


class Running(nn.Module):
    """A decoder for coins: toss t from the latent and the mean of the tosses before it.

    The mean and the number of what came before is all that an exchangeable past can say, so that
    this small network can learn Laplace's rule.

    Parameters
    ----------
    latents, hidden
        K, and how many hidden units.
    blind
        See no past.
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


def probe(z: Tensor, bias: Tensor) -> float:
    """Return R^2 of the bias (N,) from z (N, K), fitted on one half and read on the other.

    Examples
    --------
    >>> _, bias = toss(20, 1)
    >>> round(probe(3 * bias[:, None] - 1, bias), 6)
    1.0
    """
    half = len(z) // 2
    return regression_probe(z[:half], bias[:half], z[half:], bias[half:])


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained(posterior.Trained):
    """What is read off a VAE on coins that it has not seen, beside what is read off any.

    Attributes
    ----------
    excess
        How far `nats` is above the exact negative log-evidence of the same tosses.
    probe_of_mean, probe_of_draw
        R^2 of the bias from the posterior's mean, and from one draw of it.
    heads
        How many ones each sample has, shape (N,).
    """

    excess: float
    probe_of_mean: float
    probe_of_draw: float
    heads: Tensor


def read(vae: VAE, x: Tensor, bias: Tensor, trace: np.ndarray) -> Trained:
    """Return what :class:`Trained` lists, of tosses of coins of a known bias.

    Parameters
    ----------
    vae, trace
        As in :func:`repcollapse.modes.posterior.read`.
    x
        Tosses, 0 or 1, shape (N, T), where the model is.
    bias
        Of each coin, shape (N,), on the CPU; one half fits the probes, the other is read.

    Returns
    -------
    Trained
        All on the CPU. At complete collapse the probes read about 0.

    Examples
    --------
    >>> found = read(VAE(6, 1, Running()), *toss(40, 6), np.empty(0))
    >>> tuple(found.heads.shape), found.probe_of_mean <= 1
    ((40,), True)
    """
    found = posterior.read(vae, x, trace)
    return Trained(
        **vars(found),
        excess=found.nats + float(log_evidence(x).mean()),
        probe_of_mean=probe(found.mu, bias),
        probe_of_draw=probe(found.draw, bias),
        heads=x.sum(dim=1).long().cpu(),
    )


def train(
    setting: Setting, seed: int, *, steps: int, tosses: int = 32, device: str = "auto"
) -> Trained:
    """Train a VAE with one latent on ever new coins, and read it on 4,000 others.

    Parameters
    ----------
    setting
        How it is trained, as in :class:`repcollapse.modes.posterior.Setting`.
    seed
        Of the coins to be read on, which are the same for all settings. The weights, and after them
        the coins to be trained on and all noise, come from torch's global generators, which
        :func:`repcollapse.modes.runs.once` seeds.
    steps, tosses
        How many steps of Adam on batches of 128, and T, at least 1.
    device
        Where to train, as in :func:`repcollapse.training.pick_device`.

    Returns
    -------
    Trained
        All on the CPU.

    Raises
    ------
    TypeError, ValueError
        For steps, tosses or a device other than these.

    Examples
    --------
    >>> found = train(Setting(hide=0.7), 0, steps=2, tosses=8)
    >>> found.mu.shape, found.trace.shape
    (torch.Size([4000, 1]), (2,))
    """
    steps = _checks.integer("steps", steps, at_least=0)
    tosses = _checks.integer("tosses", tosses, at_least=1)
    place = pick_device(device)
    x, bias = toss(UNSEEN, tosses, generator=stream(seed, "coins to be read on"))
    vae = VAE(tosses, 1, Running(blind=setting.blind), variance=setting.variance).to(place)
    trace = posterior.train_vae(
        vae, lambda: toss(BATCH, tosses)[0].to(place), setting, steps=steps, lr=LEARNING_RATE
    )
    return read(vae, x.to(place), bias, trace)
