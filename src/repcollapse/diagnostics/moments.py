"""Sufficient statistics of embeddings, in float64: what every spectral measure is read off.

They merge, so it does not matter whether the rows came in one matrix, in batches or on several
machines. A pass over the rows costs one symmetric rank-k update, half of a matrix product, and
holds one block of rows in float64 beside the D x D result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike

EPS = torch.finfo(torch.float64).eps
# Rows are cast, shifted and summed over in pieces that stay in the second-level cache. Products are
# taken of a block of several: a rank-k update becomes efficient from there on.
PIECE, BLOCK = 256, 1024
LARGEST, SMALLEST = 1e75, 1e-75  # of float64 entries: their fourth powers are normal numbers
ITERATIONS = 100


@dataclass(frozen=True)
class Moments:
    r"""The moments of n rows of D numbers, up to those fourths that need no D x D x D array.

    Rows are shifted before they are squared and all sums are float64, so that a mean of ten
    thousand standard deviations costs no digits, and rows that are all equal have exactly no
    scatter. Every operation returns new moments.

    Attributes
    ----------
    count
        n.
    mean
        :math:`\bar x`, shape (D,).
    scatter
        :math:`\sum_i y_i y_i^\top` with :math:`y_i = x_i - \bar x`, shape (D, D).
    third
        :math:`\sum_i \lVert y_i \rVert^2 y_i`, shape (D,): what merging the next one needs.
    fourth
        :math:`\sum_i \lVert y_i \rVert^4`: what the unbiased participation ratio needs.

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
    third: Tensor
    fourth: float

    @classmethod
    def of(cls, z: ArrayLike) -> Moments:
        """Return the moments of the rows of `z`, shape (N, D), N >= 1.

        Raises
        ------
        TypeError, ValueError
            For anything but a finite matrix, or for float64 numbers so large or so small that
            their fourth powers leave the range of float64.
        """
        matrix = as_rows("z", z, finite=False)
        sums = _Sums(_centre(as_double(_sample(matrix))))
        for rows in matrix.detach().split(PIECE):
            sums.room(len(rows)).copy_(rows)
            sums.take(len(rows))
        sums.require_finite("z", matrix)
        return sums.moments()

    @classmethod
    def empty(cls, dimension: int, *, device: torch.device | str = "cpu") -> Moments:
        """Return the moments of no rows, which change nothing that they are merged with."""
        dimension = _checks.integer("dimension", dimension, at_least=1)
        zeros = torch.zeros(dimension, dtype=torch.float64, device=device)
        return cls(0, zeros, torch.outer(zeros, zeros), zeros, 0.0)

    def update(self, z: ArrayLike) -> Moments:
        """Return the moments of these rows and those of `z` together."""
        return self.merge(Moments.of(z))

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
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        count = self.count + other.count
        shift = other.mean - self.mean
        share = other.count / count
        weight = self.count * share
        third, fourth = torch.zeros_like(self.third), 0.0
        for side, step in ((self, -share * shift), (other, (1 - share) * shift)):
            moved = _shifted(
                step,
                count=side.count,
                total=torch.zeros_like(step),
                products=side.scatter,
                third=side.third,
                fourth=side.fourth,
            )
            third, fourth = third + moved[0], fourth + moved[1]
        return Moments(
            count,
            self.mean + shift * share,
            self.scatter + other.scatter + weight * torch.outer(shift, shift),
            third,
            fourth,
        )

    def eigenvalues(self, *, center: bool = True) -> Tensor:
        r"""Return the D eigenvalues of the scatter about the mean (or the origin), descending.

        They are the squared singular values of the centred (or the plain) matrix. Whatever lies
        below the rounding error of the largest centred one, or of the mean, is exactly 0, and so
        is whatever is beyond the rank that n rows can have.
        """
        noise = self.count * (len(self.mean) * EPS * float(self.mean.abs().max())) ** 2
        if center:
            values = _descending(self.scatter, noise)
            return _beyond(values, self.count - 1)
        energy = self.count * float(self.mean.square().sum())
        if energy > float(self.scatter.diagonal().sum()) / len(self.mean):
            split = self._beside_the_mean(noise)
            if split is not None:
                return _beyond(split, self.count)
        plain = self.scatter + self.count * torch.outer(self.mean, self.mean)
        return _beyond(_descending(plain, noise), self.count)

    def _beside_the_mean(self, noise: float) -> Tensor | None:
        """Return the plain eigenvalues where that of the mean stands out, or None.

        An eigensolver is exact to the rounding error of the largest eigenvalue. Where that is the
        mean's, the others would drown in it: it is split off before.
        """
        norm = torch.linalg.vector_norm(self.mean)
        # A reflection turns the mean into the first axis, ...
        mirror = self.mean / norm
        mirror[0] += 1.0 if float(mirror[0]) >= 0 else -1.0
        mirror = mirror / torch.linalg.vector_norm(mirror)
        half = self.scatter @ mirror
        inner = half - (mirror @ half) * mirror
        turned = self.scatter - 2 * (torch.outer(mirror, inner) + torch.outer(inner, mirror))
        top, edge, rest = turned[0, 0] + self.count * norm**2, turned[1:, 0], turned[1:, 1:]
        # ... near which (1, p) is the leading eigenvector, found by power iteration.
        p = torch.zeros_like(edge)
        for _ in range(ITERATIONS):
            change = (edge + rest @ p) / (top + edge @ p) - p
            p = p + change
            if not bool((change.abs() > 4 * EPS).any()):
                break
        else:
            return None
        crossed, length = torch.outer(p, edge), float(p @ p)
        # The same matrix on the complement of (1, p), whose basis is (-p^T; I) (I + p p^T)^(-1/2).
        split = rest + top * torch.outer(p, p) - crossed - crossed.T
        if length > 0:
            unit = p / math.sqrt(length)
            left = split @ unit
            shrink = 1 - 1 / math.sqrt(1 + length)
            split = split - shrink * (torch.outer(left, unit) + torch.outer(unit, left))
            split = split + shrink**2 * (unit @ left) * torch.outer(unit, unit)
        others = _descending(split, noise) if len(p) else p
        return torch.cat([(top + edge @ p)[None], others])

    def pack(self) -> Tensor:
        """Return everything as one float64 vector of 2 + 2 D + D^2 numbers, to send or to save."""
        ends = self.mean.new_tensor([self.count, self.fourth])
        return torch.cat([ends, self.mean, self.third, self.scatter.flatten()])

    @classmethod
    def unpack(cls, packed: Tensor) -> Moments:
        """Return the moments that :meth:`pack` made a vector of.

        Raises
        ------
        TypeError, ValueError
            For anything but such a vector, and for one that has lost its float64 on the way.
        """
        if not isinstance(packed, Tensor) or packed.dtype != torch.float64:
            got = packed.dtype if isinstance(packed, Tensor) else type(packed).__name__
            raise TypeError(f"packed must be a float64 tensor; got {got}")
        dimension = math.isqrt(max(packed.numel(), 1) - 1) - 1
        if packed.ndim != 1 or dimension < 1 or packed.numel() != 1 + (dimension + 1) ** 2:
            raise ValueError(f"packed must have shape (2 + 2 D + D^2,); got {tuple(packed.shape)}")
        ends, mean, third, scatter = packed.split([2, dimension, dimension, dimension**2])
        return cls(int(ends[0]), mean, scatter.reshape(dimension, dimension), third, float(ends[1]))


@dataclass(frozen=True)
class EmbeddingMoments:
    r"""What all spectral measures of embeddings need: moments of the rows and of their directions.

    Attributes
    ----------
    rows
        The moments of the rows as they are.
    units
        Those of the unit rows :math:`z_i / \lVert z_i \rVert`, or None if they were not wanted.
        Rows of zeros have none and are left out.
    zero_rows
        How many those are.

    Examples
    --------
    >>> import torch
    >>> state = EmbeddingMoments.of(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]]))
    >>> state.rows.count, state.units.count, state.zero_rows
    (3, 2, 1)
    """

    rows: Moments
    units: Moments | None
    zero_rows: int

    @classmethod
    def of(cls, z: ArrayLike, *, units: bool = True) -> EmbeddingMoments:
        """Return the state of the rows of `z`, shape (N, D), N >= 1, in one pass.

        Raises
        ------
        TypeError, ValueError
            As :meth:`Moments.of`.
        """
        matrix = as_rows("z", z, finite=False)
        sample = _sample(matrix)
        plain, directions, zero_rows = _Sums(_centre(as_double(sample))), None, 0
        if units:
            directions = _Sums(_centre(unit_rows(sample), dimension=matrix.shape[1]))
        scaled, origin = matrix.dtype == torch.float64, plain.shift @ plain.shift
        for rows in matrix.detach().split(PIECE):
            piece = plain.room(len(rows)).copy_(rows)
            if directions is not None:
                directed = _unit(piece, scaled=scaled, out=directions.room(len(rows)))
                zero_rows += len(rows) - directed
                directions.take(directed)
            squares = plain.take(len(rows))
            if directions is None:
                # A row of zeros is as far from the shift as the origin is; few others are.
                suspects = (squares - origin).abs() <= 1e-6 * origin
                if bool(suspects.any()):
                    zero_rows += int((~rows[suspects.to(rows.device)].any(dim=1)).sum())
        plain.require_finite("z", matrix)
        return cls(plain.moments(), directions.moments() if directions else None, zero_rows)

    @classmethod
    def empty(cls, dimension: int, *, units: bool = True) -> EmbeddingMoments:
        """Return the state of no rows."""
        nothing = Moments.empty(dimension)
        return cls(nothing, nothing if units else None, 0)

    def update(self, z: ArrayLike) -> EmbeddingMoments:
        """Return the state of these rows and those of `z` together."""
        return self.merge(EmbeddingMoments.of(z, units=self.units is not None))

    def merge(self, other: EmbeddingMoments) -> EmbeddingMoments:
        """Return the state of both sets of rows together.

        Raises
        ------
        TypeError, ValueError
            For anything but such a state, of as many columns and of unit rows where this is.
        """
        if not isinstance(other, EmbeddingMoments):
            raise TypeError(f"other must be EmbeddingMoments; got {type(other).__name__}")
        units: Moments | None = None
        if self.units is not None and other.units is not None:
            units = self.units.merge(other.units)
        elif self.units is not other.units:
            raise ValueError("other must have moments of unit rows if, and only if, these do")
        return EmbeddingMoments(
            self.rows.merge(other.rows), units, self.zero_rows + other.zero_rows
        )

    def compute(self) -> dict[str, float]:
        """Return every measure of these rows, two at least, by name.

        It is :func:`repcollapse.diagnostics.spectral_measures` of the state, and raises what that
        does.

        Examples
        --------
        >>> import torch
        >>> cross = torch.cat([torch.eye(3), -torch.eye(3)])
        >>> state = EmbeddingMoments.empty(3).update(cross[:2]).update(cross[2:])
        >>> round(state.compute()["effective_rank"], 6)
        3.0
        """
        from repcollapse.diagnostics.measures import spectral_measures

        return spectral_measures(self)

    def pack(self) -> Tensor:
        """Return everything as one float64 vector, to send or to save."""
        units = [] if self.units is None else [self.units.pack()]
        return torch.cat([self.rows.mean.new_tensor([self.zero_rows]), self.rows.pack(), *units])

    @classmethod
    def unpack(cls, packed: Tensor, *, units: bool = True) -> EmbeddingMoments:
        """Return the state that :meth:`pack` made a vector of."""
        zero_rows, rest = int(packed[0]), packed[1:]
        if not units:
            return cls(Moments.unpack(rest), None, zero_rows)
        half = len(rest) // 2
        return cls(Moments.unpack(rest[:half]), Moments.unpack(rest[half:]), zero_rows)


class SymmetricSum:
    """The sum of x x^T over blocks of float64 rows, one triangle of it, updated in place."""

    def __init__(self, dimension: int, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        if self._on_cpu:
            self._triangle = np.zeros((dimension, dimension), order="F")
        else:
            self._full = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> None:
        """Add the products of all rows of a float64 (n, D) matrix."""
        if len(rows) == 0:
            return
        if not self._on_cpu:
            self._full.addmm_(rows.T, rows)
            return
        from scipy.linalg.blas import dsyrk

        # The transpose of a C-ordered block is F-ordered: nothing is copied.
        dsyrk(1.0, rows.contiguous().numpy().T, beta=1.0, c=self._triangle, overwrite_c=1, lower=1)

    def total(self) -> Tensor:
        """Return the whole symmetric (D, D) matrix."""
        if not self._on_cpu:
            return (self._full + self._full.T) / 2
        lower = torch.from_numpy(self._triangle).tril()
        return lower + lower.tril(-1).T


class _Sums:
    """Sums over rows about a fixed shift, of which moments are made at the end.

    The shift is the mean of rows from all over the matrix, so that the mean of all is never far
    from it against their spread, in whatever order they lie.
    """

    def __init__(self, shift: Tensor) -> None:
        self.shift, self.count, self.fourth = shift, 0, 0.0
        self.sums = shift.new_zeros(2, len(shift))
        self.products = SymmetricSum(len(shift), shift.device)
        self.block, self.filled = shift.new_empty(BLOCK, len(shift)), 0

    def room(self, rows: int) -> Tensor:
        """Return where the next rows are to be written, at most a piece of them."""
        return self.block[self.filled : self.filled + rows]

    def take(self, rows: int) -> Tensor:
        """Take in the rows that were written there; return their squared distances to the shift."""
        piece = self.room(rows)
        piece -= self.shift
        squares = torch.linalg.vector_norm(piece, dim=1).square()
        self.sums += torch.stack([torch.ones_like(squares), squares]) @ piece
        self.fourth += float(squares @ squares)
        self.count += rows
        self.filled += rows
        if self.filled + PIECE > BLOCK:
            self.flush()
        return squares

    def require_finite(self, name: str, matrix: Tensor) -> None:
        """Raise where a row of the matrix that was taken in is not finite: its sums are not."""
        if not math.isfinite(self.fourth):
            _checks.require_finite(name, matrix)

    def flush(self) -> None:
        self.products.add(self.block[: self.filled])
        self.filled = 0

    def moments(self) -> Moments:
        if self.count == 0:
            return Moments.empty(len(self.shift), device=self.shift.device)
        self.flush()
        total, third = self.sums
        step = total / self.count
        products = self.products.total()
        moved = _shifted(
            -step,
            count=self.count,
            total=total,
            products=products,
            third=third,
            fourth=self.fourth,
        )
        scatter = products - torch.outer(total, step)
        return Moments(self.count, self.shift + step, scatter, moved[0], max(moved[1], 0.0))


def _shifted(
    step: Tensor, *, count: int, total: Tensor, products: Tensor, third: Tensor, fourth: float
) -> tuple[Tensor, float]:
    """Return the third and fourth sums of rows that have all been moved by `step`."""
    along, trace, length = products @ step, products.diagonal().sum(), step @ step
    moved_third = (
        third + 2 * along + length * total + (trace + 2 * total @ step + count * length) * step
    )
    moved_fourth = fourth + float(
        4 * (step @ along)
        + count * length**2
        + 4 * (third @ step)
        + 2 * length * trace
        + 4 * length * (total @ step)
    )
    return moved_third, moved_fourth


def _descending(scatter: Tensor, noise: float) -> Tensor:
    # MKL and OpenBLAS leave some machine epsilons of the largest eigenvalue, few of which depend
    # on the dimension.
    values = torch.linalg.eigvalsh(scatter).flip(0)
    floor = max(float(values[0]) * (len(values) + 100) * EPS, noise)
    return torch.where(values > floor, values, 0.0)


def _beyond(values: Tensor, rank: int) -> Tensor:
    values[max(rank, 0) :] = 0.0
    return values


def _centre(sample: Tensor, *, dimension: int | None = None) -> Tensor:
    if len(sample) == 0:
        return sample.new_zeros(dimension or sample.shape[1])
    # Equal rows become exact zeros: the rounding of their mean would pass for scatter.
    return sample[0] + (sample - sample[0]).mean(dim=0)


def _sample(matrix: Tensor) -> Tensor:
    return matrix[:: max(1, len(matrix) // PIECE)]


def as_rows(name: str, z: ArrayLike, *, finite: bool = True) -> Tensor:
    """Return `z` as a matrix of at least one row whose fourth powers float64 can hold.

    Without `finite`, whoever asks finds out whether those of other types are numbers at all.
    """
    matrix = _checks.as_matrix(name, z, min_rows=1, finite=False)
    if finite or matrix.dtype == torch.float64:
        _checks.require_finite(name, matrix)
    if matrix.dtype == torch.float64:
        largest = float(torch.linalg.vector_norm(matrix.detach(), ord=math.inf))
        if largest > LARGEST or 0 < largest < SMALLEST:
            raise ValueError(
                f"{name} must have its largest entry between {SMALLEST:g} and {LARGEST:g} in "
                f"magnitude, for its fourth power to be a number; got {largest:g}: rescale it"
            )
    return matrix


def as_double(z: Tensor) -> Tensor:
    """Return `z` in float64, without gradient; on the CPU if its device has no float64."""
    z = z.detach()
    return (z.cpu() if z.device.type == "mps" else z).double()


def unit_rows(z: Tensor) -> Tensor:
    """Return the rows of `z` that are not zero, in float64 and with length one."""
    rows = as_double(z)
    unit = torch.empty_like(rows)
    return unit[: _unit(rows, scaled=True, out=unit)]


def _unit(rows: Tensor, *, scaled: bool, out: Tensor) -> int:
    """Write the unit rows of those that are not zero into the first rows of `out`; say how many."""
    norms = _length(rows, scaled=scaled)
    if scaled:
        # Squares of very long and very short rows leave the range of float64.
        rows = rows / norms.clamp(min=torch.finfo(rows.dtype).tiny)
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    keep = norms[:, 0] > 0
    kept = int(keep.sum())
    if kept == len(rows) and not scaled:
        torch.mul(rows, 1 / norms, out=out)  # half the time of a division
    elif kept == len(rows):
        torch.div(rows, norms, out=out)
    else:
        torch.div(rows[keep], norms[keep], out=out[:kept])
    return kept


def _length(rows: Tensor, *, scaled: bool) -> Tensor:
    """Return a length of each row, shape (n, 1), that is 0 for rows of zeros alone."""
    # Squares of the shortest float64 rows are 0. The largest entry takes five times as long.
    return torch.linalg.vector_norm(rows, ord=math.inf if scaled else 2, dim=1, keepdim=True)
