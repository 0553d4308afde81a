"""The directions in which embeddings point: how spread, about what, in how many dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import Moments, unit_rows

EPSILON2 = 0.5


def feature_std(z: ArrayLike) -> float:
    r"""Return the mean standard deviation of the normalised features, scaled to 1 when isotropic.

    .. math:: \frac{\sqrt D}{D} \sum_j \operatorname{std}_i\left(z_{ij} / \lVert z_i \rVert\right)

    with the N divisor. Rows of zeros have no direction and are left out.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.

    Returns
    -------
    float
        In [0, 1]: 1 for directions spread evenly, 0 at complete collapse. Invariant to a positive
        scale of each row, but not to rotation: embeddings on one line read 1 if that line is the
        diagonal. :func:`spread` is the rotation-invariant form.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Chen & He 2021, "Exploring simple Siamese representation learning", figure 2.

    Examples
    --------
    >>> import torch
    >>> feature_std(torch.ones(4, 3))
    0.0
    >>> feature_std(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))  # rank one, yet it reads "healthy"
    1.0
    """
    return feature_std_of(squared_deviations(unit_rows(_checks.as_matrix("z", z))))


def spread(z: ArrayLike) -> float:
    r"""Return how far the directions of the embeddings are from being one and the same.

    .. math:: \sqrt{1 - \lVert \bar u \rVert^2}, \qquad
              \bar u = \frac{1}{N} \sum_i z_i / \lVert z_i \rVert

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2. Rows of zeros are left out; if all are zero, spread is 0.

    Returns
    -------
    float
        In [0, 1]: 1 when the directions average to nothing, 0 at complete collapse. It is the root
        of the summed variance of the unit rows. Invariant to rotation and to a positive scale of
        each row; blind to rank.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    Examples
    --------
    >>> import torch
    >>> spread(torch.ones(4, 3))
    0.0
    >>> spread(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    1.0
    """
    return spread_of(squared_deviations(unit_rows(_checks.as_matrix("z", z))))


def mean_share(z: ArrayLike) -> float:
    r"""Return the share of the unit rows' energy that their mean holds: how narrow the cone is.

    .. math:: \lVert \bar u \rVert^2 = \frac{1}{N^2} \sum_{i, k} \cos(z_i, z_k)
              = 1 - \text{spread}^2

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2. Rows of zeros are left out; if all are zero, it is 1.

    Returns
    -------
    float
        In [0, 1]: 1/N expected for directions uniform on the sphere, 1 at complete collapse. A
        high value alone is a cone, not a collapse.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Ethayarajh 2019, "How contextual are contextualized word representations?", where the mean
    cosine between samples measures anisotropy.

    Examples
    --------
    >>> import torch
    >>> mean_share(torch.ones(4, 3))
    1.0
    """
    return 1.0 - spread(z) ** 2


def mean_cosine(z: ArrayLike) -> float:
    r"""Return the mean cosine of two different embeddings.

    .. math:: \frac{1}{N (N - 1)} \sum_{i \ne k} \cos(z_i, z_k)
              = \frac{N \lVert \bar u \rVert^2 - 1}{N - 1}

    with :math:`\bar u` the mean of the unit rows, from which it is taken: no pair is formed.
    :func:`mean_share` counts each row with itself as well, and depends on N for that.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2. Rows of zeros are left out; with fewer than two others,
        it is 1.

    Returns
    -------
    float
        In [-1 / (N - 1), 1]: 0 expected for directions uniform on the sphere, 1 at complete
        collapse. Invariant to rotation and to a positive scale of each row.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Ethayarajh 2019, "How contextual are contextualized word representations?".

    Examples
    --------
    >>> import torch
    >>> mean_cosine(torch.ones(4, 3))
    1.0
    >>> round(mean_cosine(torch.eye(3)), 6) + 0
    0.0
    """
    unit = unit_rows(_checks.as_matrix("z", z))
    n = len(unit)
    if n < 2:
        return 1.0
    # About the mean, for equal rows to give exactly 1.
    return 1.0 - n / (n - 1) * spread_of(squared_deviations(unit)) ** 2


def coding_rate(z: ArrayLike, *, epsilon2: float = EPSILON2, normalised: bool = False) -> float:
    r"""Return the rate, in nats, of coding the directions of the embeddings to a precision.

    .. math:: R = \frac12 \log \det \left(I + \frac{D}{N \epsilon^2} U^\top U\right)

    with U the unit rows.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2. Rows of zeros are left out.
    epsilon2
        :math:`\epsilon^2 > 0`, the squared error that the code may leave.
    normalised
        Return the place between the two limits instead: 0 for one direction alone, 1 for min(N, D)
        that are used alike; 0 where the two are the same.

    Returns
    -------
    float
        In [:math:`\frac12 \log(1 + D / \epsilon^2)`,
        :math:`\frac r2 \log(1 + D / (r \epsilon^2))`], r = min(N, D). The lower limit, which is not
        0, is its value at complete collapse: 2.77 for D = 128. Without any direction, 0. Invariant
        to rotation and to a positive scale of each row.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a precision other than these.

    References
    ----------
    Yu et al. 2020, "Learning diverse and discriminative representations via the principle of
    maximal coding rate reduction".

    Examples
    --------
    >>> import torch
    >>> round(coding_rate(torch.ones(10, 128)), 2)
    2.77
    >>> round(coding_rate(torch.eye(8), normalised=True), 6)
    1.0
    """
    epsilon2 = _checks.number("epsilon2", epsilon2, above=0)
    unit = unit_rows(_checks.as_matrix("z", z))
    n, dimension = unit.shape
    if n >= dimension:
        energies = Moments.of(unit).eigenvalues(center=False)
    else:
        energies = torch.linalg.svdvals(unit).square() if n else unit.new_zeros(1)
    return coding_rate_of(
        energies, n, epsilon2=epsilon2, dimension=dimension, normalised=normalised
    )


# The measures themselves, of what several can share.


def squared_deviations(rows: Tensor) -> Tensor:
    """Return the mean square of each column about its mean, exactly 0 where it does not vary.

    It is summed about the mean: the mean square less the squared mean would cancel near collapse.
    Without rows it is 0.
    """
    if len(rows) == 0:
        return rows.new_zeros(rows.shape[1])
    centred = rows - rows[0]
    centred -= centred.mean(dim=0)
    return centred.square_().mean(dim=0)


def feature_std_of(variances: Tensor) -> float:
    """Return the feature standard deviation of the variances of the unit rows' columns."""
    return min(round(float(variances.sqrt().mean() * math.sqrt(len(variances))), 15), 1.0)


def spread_of(variances: Tensor) -> float:
    """Return the spread of the variances of the unit rows' columns."""
    return min(math.sqrt(float(variances.sum())), 1.0)


def coding_rate_of(
    energies: Tensor,
    n: int,
    *,
    dimension: int | None = None,
    epsilon2: float = EPSILON2,
    normalised: bool = False,
) -> float:
    """Return the coding rate of the eigenvalues of the plain scatter of `n` unit rows.

    There are `dimension` of them, or as many as the energies.
    """
    if n == 0:
        return 0.0
    dimension = dimension or len(energies)
    rate = float(torch.log1p(energies * (dimension / (n * epsilon2))).sum()) / 2
    if not normalised:
        return rate
    rank = min(n, dimension)
    low = math.log1p(dimension / epsilon2) / 2
    high = rank * math.log1p(dimension / (rank * epsilon2)) / 2
    return min(max((rate - low) / (high - low), 0.0), 1.0) if rank > 1 else 0.0
