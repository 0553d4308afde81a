"""Has a posterior become the prior? In nats, for each latent and for all of them together."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from repcollapse import _checks
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import COLLAPSE, IDLE, NOTE, POSTERIOR, Advice

# What latents tell of the input is at most the mean divergence of their posterior from the prior,
# whatever the decoder. Below half of what there is to tell, at least half of it is therefore
# missing; where nobody says how much there is, one yes or no, log 2, is the least worth telling.
LEAST_SHARE = 0.5
ONE_BIT = math.log(2)
# Of one latent. A posterior that differs from the prior by this much is told from it in one draw
# with an advantage of at most sqrt(KL / 2) = 7 % (Pinsker). A linear VAE gives a direction less
# where its variance exceeds the price of coding it by less than 2 %: nearly free to leave out.
IDLE_BELOW = 0.01

ADVICE = {
    POSTERIOR: Advice(
        COLLAPSE,
        "The decoder does without the latent. Take something from it (hide part of its past), buy "
        "a minimum of information (free bits, a posterior that cannot be the prior), or lower the "
        "weight of the divergence or the noise variance below what the data vary by.",
        "18_posterior_collapse",
        "Posterior collapse",
    ),
    IDLE: Advice(
        NOTE,
        "A latent is dropped where it would explain less than it costs. If the data vary in as few "
        "ways, nothing is wrong; if not, lower the weight of the divergence or the noise variance.",
        "18_posterior_collapse",
        "Posterior collapse",
    ),
}


def gaussian_kl(mu: Tensor, log_var: Tensor) -> Tensor:
    r"""Return the divergence of each N(mu, exp(log_var)) from N(0, 1), in nats.

    .. math:: \tfrac12 \left(\mu^2 + \sigma^2 - \log \sigma^2 - 1\right)

    Parameters
    ----------
    mu, log_var
        Mean and logarithm of the variance, of one shape.

    Returns
    -------
    Tensor
        Of that shape and at least 0; 0 at collapse alone, where the posterior is the prior. To be
        differentiated.

    References
    ----------
    Kingma & Welling 2014, appendix B.

    Examples
    --------
    >>> import torch
    >>> gaussian_kl(torch.tensor([0.0, 1.0]), torch.zeros(2)).tolist()
    [0.0, 0.5]
    """
    return 0.5 * (mu.square() + log_var.exp() - log_var - 1)


def posterior_kl(mu: Any, log_var: Any, *, reference: float | None = None) -> Checkup:
    r"""Say whether the latents of a variational autoencoder still hold something of the input.

    .. math::

        \mathrm{KL}_k = \frac1N \sum_n \tfrac12 \left( \mu_{nk}^2 + \sigma_{nk}^2
        - \log \sigma_{nk}^2 - 1 \right)

    is what latent k costs; what all tell of the input is at most their sum.

    Parameters
    ----------
    mu, log_var
        Mean and logarithm of the variance of the posterior of N >= 2 samples, both (N, K); the
        prior is N(0, I).
    reference
        What there is to tell, in nats, where it is known: a mutual information, or log C for C
        classes that are alike frequent. Without, one bit.

    Returns
    -------
    Checkup
        With "posterior-collapse" where the sum is below half of the reference, else with
        "idle-latents", a note, where single latents carry less than 0.01 nats. In `metrics`: `kl`
        (total), `largest_kl` and `smallest_kl` of a latent, `latents`, `idle_latents`,
        `active_units` (latents whose mean varies by more than 0.01, which decides nothing here),
        `reference`.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these, or a divergence that overflows.

    References
    ----------
    Hoffman & Johnson 2016 for the bound; Burda et al. 2016 for active units.

    Examples
    --------
    >>> import torch
    >>> mu = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    >>> posterior_kl(mu, torch.zeros(2, 2)).verdict  # one bit in the first, nothing in the second
    'idle-latents'
    >>> posterior_kl(mu / 10, torch.zeros(2, 2)).verdict
    'posterior-collapse'
    """
    means, logs = _checks.as_matrix_pair("mu", mu, "log_var", log_var)
    if reference is not None:
        reference = _checks.number("reference", reference, above=0)
    each = _divergence(means, logs)
    worth = ONE_BIT if reference is None else reference
    total, idle = float(each.sum()), int((each < IDLE_BELOW).sum())
    latents = len(each)
    metrics = {
        "kl": total,
        "largest_kl": float(each.max()),
        "smallest_kl": float(each.min()),
        "latents": float(latents),
        "idle_latents": float(idle),
        "active_units": float((means.double().var(dim=0) > 0.01).sum()),
        "reference": worth,
    }
    least = LEAST_SHARE * worth
    if reference is None:
        half_a_bit = f"half a bit ({least:.2f} nats)"
        told = f"what there is to tell was not given; below {half_a_bit} would be called a collapse"
        missed = f"less than {half_a_bit}; what there is to tell was not given"
    else:
        told = f"there are {worth:.2f} nats to be told"
        missed = (
            f"so that the latents hold at most {total / worth:.0%} of the {worth:.2f} nats there "
            "are to be told"
        )
    summary = (
        f"The posterior costs {total:.2f} nats in {latents} latent{'s' * (latents > 1)}, of which "
        f"{idle} carry less than {IDLE_BELOW} each; {told}."
    )
    if total < least:
        sentence = f"The posterior is {total:.3f} nats from the prior, {missed}."
        kind, measure, value, limit = POSTERIOR, "kl", total, least
    elif idle:
        sentence = (
            f"{idle} of {latents} latents carry less than {IDLE_BELOW} nats each; the others carry "
            f"{total:.2f} together."
        )
        kind, measure, value = IDLE, "smallest_kl", float(each.min())
        limit = IDLE_BELOW
    else:
        return Checkup(summary, metrics)
    finding = ADVICE[kind].finding(kind, sentence, measure, value, reference=limit)
    return Checkup(summary, metrics, (finding,))


def _divergence(mu: Tensor, log_var: Tensor) -> Tensor:
    mu, log_var = mu.detach().double().cpu(), log_var.detach().double().cpu()
    each = gaussian_kl(mu, log_var).mean(dim=0)
    if not _checks.all_finite(each):
        raise ValueError(
            "log_var must be the logarithm of a variance that float64 can hold; "
            f"got up to {float(log_var.max()):g}"
        )
    return each
