"""Sufficient statistics of an embedding matrix: count, mean and scatter, in float64.

Every spectral measure is read off these three, so it does not matter whether they came from one
batch or were accumulated over many.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from repcollapse import _checks

EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Moments:
    r"""Count n, mean :math:`\bar x` (D,) and scatter :math:`\sum (x-\bar x)(x-\bar x)^\top` (D, D).

    Two-pass within a batch and merged in float64, so that a mean of a hundred standard deviations
    costs no digits.

    Examples
    --------
    >>> import torch
    >>> z = torch.arange(12.0).reshape(6, 2)
    >>> merged = Moments.of(z[:2]).merge(Moments.of(z[2:]))
    >>> torch.allclose(merged.scatter, Moments.of(z).scatter)
    True
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, z: Tensor) -> Moments:
        """Return the moments of the rows of `z`, shape (N, D)."""
        rows = as_double(_checks.as_matrix("z", z, min_rows=1))
        mean = rows.mean(dim=0)
        centred = rows - mean
        # The residual of the mean's own rounding is taken out, to keep constant rows at zero.
        correction = centred.mean(dim=0)
        centred -= correction
        return cls(len(rows), mean + correction, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together (Chan, Golub & LeVeque 1979).

        Raises
        ------
        TypeError, ValueError
            For anything but moments of as many columns.
        """
        if not isinstance(other, Moments):
            raise TypeError(f"other must be Moments; got {type(other).__name__}")
        if other.mean.shape != self.mean.shape:
            raise ValueError(f"other must have {len(self.mean)} columns; got {len(other.mean)}")
        count = self.count + other.count
        shift = other.mean - self.mean
        weight = self.count * other.count / count
        return Moments(
            count,
            self.mean + shift * (other.count / count),
            self.scatter + other.scatter + weight * torch.outer(shift, shift),
        )

    def eigenvalues(self, *, center: bool = True) -> Tensor:
        r"""Return the eigenvalues of the scatter about the mean (or the origin), descending.

        They are the squared singular values of the centred (or the plain) matrix. Whatever lies
        below the rounding error of the largest one, or of the mean, is returned as exactly 0.
        """
        scatter = self.scatter
        if not center:
            scatter = scatter + self.count * torch.outer(self.mean, self.mean)
        values = torch.linalg.eigvalsh(scatter).flip(0)
        dimension = len(values)
        noise = self.count * (dimension * EPS * self.mean.abs().max()) ** 2
        floor = torch.maximum(values[0] * dimension * EPS * 10, noise)
        return torch.where(values > floor, values, 0.0)


def as_double(z: Tensor) -> Tensor:
    """Return `z` in float64, without gradient; on the CPU if its device has no float64."""
    z = z.detach()
    return (z.cpu() if z.device.type == "mps" else z).double()


def unit_rows(z: Tensor) -> Tensor:
    """Return the rows of `z` that are not zero, in float64 and with length one."""
    rows = as_double(z)
    # Squares of very long and very short rows leave the range of float64.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    keep = norms[:, 0] > 0
    return rows[keep] / norms[keep]
