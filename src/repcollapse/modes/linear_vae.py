"""A linear variational autoencoder: its objective needs no sampling, its optimum is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse.checkups import gaussian_kl
from repcollapse.modes.fitting import minimise


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

    Returns
    -------
    Tensor
        A scalar, at least 0. At collapse (W and V zero, variances one) it is half the trace of the
        covariance, whatever the price.

    References
    ----------
    Lucas et al. 2019.

    Examples
    --------
    >>> w, v, covariance = torch.zeros(3, 2), torch.zeros(2, 3), torch.eye(3)
    >>> float(linear_loss(w, v, torch.zeros(2), covariance, price=0.1))
    1.5
    """
    shared = covariance @ v.T
    second = v @ shared  # of the posterior's means
    error = covariance.trace() - 2 * (w * shared).sum() + ((w.T @ w) * second).sum()
    error = error + (w.square().sum(dim=0) * log_var.exp()).sum()
    centred = gaussian_kl(torch.zeros_like(log_var), log_var)
    divergence = (0.5 * second.diagonal() + centred).sum()
    return 0.5 * error + price * divergence


@dataclass(frozen=True, eq=False, kw_only=True)
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
    covariance: Tensor, price: float, *, latents: int = 10, iterations: int = 600
) -> LinearFit:
    """Fit a linear VAE by L-BFGS in float64, from a random start of torch's global generator.

    The encoder is moved as a map of whitened data. That changes neither the loss nor what the
    encoder can be, and spares the optimiser the range of the data's variances.

    Parameters
    ----------
    covariance
        (D, D), of centred data; directions in which these do not vary are none of the encoder's.
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
    whitener = _whitener(covariance)
    w, of_white, log_var = (
        (torch.randn(shape, dtype=torch.float64) / size**0.5).requires_grad_()
        for shape in ((size, latents), (latents, size), (latents,))
    )
    minimise(
        lambda: linear_loss(w, of_white @ whitener, log_var, covariance, price),
        [w, of_white, log_var],
        iterations=iterations,
        gradient=1e-7 * covariance.diagonal().sum().item(),
    )
    w, v, log_var = w.detach(), of_white.detach() @ whitener, log_var.detach()
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


def _whitener(covariance: Tensor) -> Tensor:
    """Return the root of the covariance's inverse, without the directions that have no variance."""
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    vary = eigenvalues > 1e-10 * eigenvalues[-1]
    return (vectors[:, vary] * eigenvalues[vary].rsqrt()) @ vectors[:, vary].T


def price_for(eigenvalues: np.ndarray, rank: int) -> float:
    """Return the price at which `rank` latents pay: the geometric middle of two eigenvalues.

    For rank 0 it is a tenth above the largest.

    Parameters
    ----------
    eigenvalues
        Descending, shape (K,).
    rank
        How many of them are to exceed the price, 0 to K - 1.

    Raises
    ------
    TypeError, ValueError
        For a rank other than these.

    Examples
    --------
    >>> price_for(np.array([4.0, 1.0]), 1)
    2.0
    """
    rank = _checks.integer("rank", rank, at_least=0, at_most=len(eigenvalues) - 1)
    if rank == 0:
        return float(1.1 * eigenvalues[0])
    return float(math.sqrt(eigenvalues[rank - 1] * eigenvalues[rank]))
