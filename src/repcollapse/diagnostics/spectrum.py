r"""Measures of shape: how many dimensions the embeddings use.

All read the spectrum of one matrix: :math:`\sigma_k` its singular values,
:math:`\lambda_k = \sigma_k^2 / (N - 1)` the eigenvalues of its covariance. They are blind to scale:
a cloud shrunk to a point keeps its rank. Zero scatter has rank 0 by every measure here.

For centred data they are ordered: stable rank <= participation ratio <=
effective rank (lambda) <= effective rank (sigma) <= rank. The unbiased participation ratio, an
estimate of the population's number, stands outside.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import EPS, LARGEST, SMALLEST, Moments, as_double, unit_rows

RANKME_EPS = 1e-7
# Of alpha-ReQ: the window of ranks in the spectrum, and how many a line needs.
WINDOW = (11, 100)
SHORTEST = 10


def singular_values(z: ArrayLike, *, center: bool = True) -> Tensor:
    r"""Return the min(N, D) singular values of `z` in float64, descending.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    center
        Subtract the mean row first.

    Returns
    -------
    Tensor
        Shape (min(N, D),). Values below about 1e-7 of the largest (a rounding error of its square;
        where N < D, a rounding error of itself) are exactly 0.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    Examples
    --------
    >>> import torch
    >>> sigma = singular_values(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), center=False)
    >>> [round(value, 9) for value in sigma.tolist()]
    [4.0, 3.0]
    """
    return _singular_values(_checks.as_matrix("z", z), (center,))[0]


def both_singular_values(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the singular values of a checked matrix centred and as it is, for one pass."""
    centred, plain = _singular_values(z, (True, False))
    return centred, plain


def _singular_values(matrix: Tensor, centerings: tuple[bool, ...]) -> list[Tensor]:
    matrix, scale = _in_range(matrix)
    n, dimension = matrix.shape
    if n >= dimension:
        moments = Moments.of(matrix)
        return [scale * moments.eigenvalues(center=center).sqrt() for center in centerings]
    # Fewer rows than columns: the matrix itself is smaller than its scatter.
    matrix = as_double(matrix)
    mean = matrix.mean(dim=0)
    found = []
    for center in centerings:
        values = torch.linalg.svdvals(matrix - mean if center else matrix)
        floor = dimension * EPS * 10 * torch.maximum(values[0], mean.abs().max())
        found.append(scale * torch.where(values > floor, values, 0.0))
    return found


def _in_range(matrix: Tensor) -> tuple[Tensor, float]:
    """Return the matrix, divided by its largest entry where powers leave float64, and that."""
    if matrix.dtype != torch.float64:
        return matrix, 1.0
    largest = float(torch.linalg.vector_norm(matrix.detach(), ord=math.inf))
    if largest == 0 or SMALLEST <= largest <= LARGEST:
        return matrix, 1.0
    return matrix / largest, largest


def stable_rank(z: ArrayLike) -> float:
    r"""Return the total variance over the largest, :math:`\sum_k \lambda_k / \lambda_1`.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.

    Returns
    -------
    float
        In [1, rank]; 1 when one direction holds everything, 0 at zero scatter. Invariant to scale,
        translation and rotation. One outlier drives it.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Rudelson & Vershynin 2007, "Sampling from large matrices".

    Examples
    --------
    >>> import torch
    >>> round(stable_rank(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    3.0
    """
    return stable_rank_of(singular_values(z))


def participation_ratio(z: ArrayLike, *, unbiased: bool | str = False) -> float:
    r"""Return :math:`(\operatorname{tr} C)^2 / \operatorname{tr} C^2`: directions in use.

    With the covariance C of the sample this is :math:`(\sum_k \lambda_k)^2 / \sum_k \lambda_k^2`,
    which few samples bias low. Unbiased, it is the ratio of estimates of numerator and denominator
    that are right on average at any N: with S the sample covariance,
    :math:`Q = \sum_i \lVert x_i - \bar x \rVert^4 / (N-1)` and
    :math:`c = (N-1) / (N (N-2) (N-3))`,

    .. math::

        \widehat{(\operatorname{tr} C)^2} &= c \left[2 \operatorname{tr} S^2
            + (N^2 - 3N + 1) (\operatorname{tr} S)^2 - N Q\right] \\
        \widehat{\operatorname{tr} C^2} &= c \left[(N-1)(N-2) \operatorname{tr} S^2
            + (\operatorname{tr} S)^2 - N Q\right]

    for rows of any distribution, or, for normal rows alone and with less noise, with m = N - 1,

    .. math::

        \widehat{(\operatorname{tr} C)^2} &= \frac{m (m+1) (\operatorname{tr} S)^2
            - 2 m \operatorname{tr} S^2}{(m-1)(m+2)} \\
        \widehat{\operatorname{tr} C^2} &= \frac{m^2 \operatorname{tr} S^2
            - m (\operatorname{tr} S)^2}{(m-1)(m+2)}

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.
    unbiased
        False, True or "distribution-free" (N >= 4), or "gaussian" (N >= 3).

    Returns
    -------
    float
        Plain, in [1, rank]: isotropic data of D dimensions read about D / (1 + D/N). Unbiased, it
        may exceed the rank, is noisy below some thirty samples, and is NaN where the estimate of
        :math:`\operatorname{tr} C^2` is not positive. 0 at zero scatter. Invariant to scale,
        translation and rotation.

    Raises
    ------
    TypeError, ValueError
        For embeddings or an estimate other than these.

    References
    ----------
    Himeno & Yamada 2014, "Estimations for some functions of covariance matrix in high dimension
    under non-normality and its applications", for the form free of a distribution; Bai & Saranadasa
    1996, "Effect of high dimension: by an example of a two sample problem", for normal rows.

    Examples
    --------
    >>> import torch
    >>> cross = torch.cat([torch.eye(3), -torch.eye(3)])
    >>> round(participation_ratio(cross), 6)
    3.0
    >>> z = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    >>> 50 < participation_ratio(z) < 53  # 256 / (1 + 4)
    True
    >>> 230 < participation_ratio(z, unbiased=True) < 280
    True
    """
    matrix = _checks.as_matrix("z", z)
    if unbiased is False:
        return participation_ratio_of(singular_values(matrix))
    form = _checks.choice("unbiased", "distribution-free" if unbiased is True else unbiased, FORMS)
    needed = FORMS[form]
    if len(matrix) < needed:
        raise ValueError(f"unbiased={form!r} needs at least {needed} rows; got {len(matrix)}")
    return participation_ratio_of_moments(Moments.of(_in_range(matrix)[0]), form)


def effective_rank(z: ArrayLike, *, spectrum: str = "sigma", center: bool = True) -> float:
    r"""Return the exponential of the entropy of the normalised spectrum.

    .. math:: \exp\left(-\sum_k q_k \log q_k\right), \qquad q_k = \sigma_k / \sum_l \sigma_l

    or, with ``spectrum="lambda"``, the same of :math:`p_k = \lambda_k / \sum_l \lambda_l`. The two
    are different numbers (394 and 110 on one matrix): never compare one with the other.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    spectrum
        "sigma", singular values as in the source, or "lambda", eigenvalues of the covariance.
    center
        Subtract the mean row first.

    Returns
    -------
    float
        In [1, rank], 0 at zero scatter. Invariant to scale, rotation and, when centred,
        translation.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a spectrum other than these.

    References
    ----------
    Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality".

    Examples
    --------
    >>> import torch
    >>> round(effective_rank(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    3.0
    """
    _checks.choice("spectrum", spectrum, ("sigma", "lambda"))
    values = singular_values(z, center=center)
    return effective_rank_of(values if spectrum == "sigma" else values.square())


def rankme(z: ArrayLike) -> float:
    r"""Return RankMe, the smoothed effective rank of the embeddings as they are, not centred.

    .. math:: \exp\left(-\sum_k (q_k + \epsilon) \log (q_k + \epsilon)\right), \qquad
              q_k = \sigma_k / \sum_l \sigma_l, \quad \epsilon = 10^{-7}

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.

    Returns
    -------
    float
        In [1, about min(N, D)], near 1 where one direction (often the mean) holds everything, 0
        for a matrix of zeros. Isotropic data with N = D read 0.80 D. Invariant to scale and
        rotation, not to translation: a mean offset can halve it. Comparable within one method,
        not across methods.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Garrido et al. 2023, "RankMe: assessing the downstream performance of pretrained
    self-supervised representations by their rank".

    Examples
    --------
    >>> import torch
    >>> round(rankme(torch.eye(3)), 4)
    3.0
    >>> round(rankme(torch.ones(4, 3)), 4)
    1.0
    """
    return rankme_of(singular_values(z, center=False))


def srank(z: ArrayLike, *, delta: float = 0.01, center: bool = True) -> int:
    r"""Return how many singular values hold all but a share delta of their sum.

    .. math:: \min\left\{k : \sum_{i \le k} \sigma_i \ge (1 - \delta) \sum_i \sigma_i\right\}

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    delta
        In (0, 1).
    center
        Subtract the mean row first. The source does not: ``center=False`` is its number.

    Returns
    -------
    int
        In [1, rank]; 1 when one direction holds everything, 0 at zero scatter. Invariant to scale,
        rotation and, when centred, translation. It moves in steps.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a share other than these.

    References
    ----------
    Kumar et al. 2021, "Implicit under-parameterization inhibits data-efficient deep reinforcement
    learning".

    Examples
    --------
    >>> import torch
    >>> srank(torch.cat([torch.eye(3), -torch.eye(3)]))
    3
    """
    delta = _checks.number("delta", delta, above=0, below=1)
    return srank_of(singular_values(z, center=center), delta)


def cev_auc(z: ArrayLike, *, spectrum: str = "sigma", rows: str = "plain") -> float:
    r"""Return the area under the cumulative explained variance.

    .. math:: \frac{1}{K} \sum_{k=1}^{K} \sum_{i \le k} q_i, \qquad
              q_i = \sigma_i / \sum_l \sigma_l, \quad K = \min(N, D)

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.
    spectrum
        "sigma", singular values as in the source's code, or "lambda", eigenvalues of the
        covariance, which is what the name says.
    rows
        "plain", or "unit" for rows of length one before they are centred, as in the source's code;
        rows of zeros are then left out.

    Returns
    -------
    float
        In (0.5, 1]: (K + 1) / 2K for a flat spectrum, 1 when one direction holds everything, and 1
        at zero scatter. Invariant to scale, translation and rotation ("unit": to scale of each row
        and rotation).

    Raises
    ------
    TypeError, ValueError
        For embeddings or options other than these.

    References
    ----------
    Li, Efros & Pathak 2022, "Understanding collapse in non-contrastive siamese representation
    learning".

    Examples
    --------
    >>> import torch
    >>> round(cev_auc(torch.cat([torch.eye(3), -torch.eye(3)])), 4)
    0.6667
    """
    _checks.choice("spectrum", spectrum, ("sigma", "lambda"))
    _checks.choice("rows", rows, ("plain", "unit"))
    matrix = _checks.as_matrix("z", z)
    if rows == "unit":
        matrix = unit_rows(matrix)
        if len(matrix) < 2:
            return 1.0
    sigma = singular_values(matrix)
    return cev_auc_of(sigma if spectrum == "sigma" else (sigma / sigma[0]).square())


class AlphaReQ(NamedTuple):
    """The exponent of a power-law spectrum, and what it was fitted to.

    `alpha`, the `r2` of the line, and the `first` and the `last` eigenvalue it was laid through.
    """

    alpha: float
    r2: float
    first: int
    last: int


def alpha_req(z: ArrayLike, *, window: tuple[int, int] = WINDOW) -> AlphaReQ:
    r"""Return the exponent of the power law :math:`\lambda_i \propto i^{-\alpha}`.

    Minus the slope of the line of :math:`\log \lambda_i` on :math:`\log i`, by least squares with
    weights 1/i.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.
    window
        The first and the last i, counted from 1; it ends at the rank where that is less. The window
        decides about the exponent: report it.

    Returns
    -------
    AlphaReQ
        `alpha` is 0 for a flat spectrum and grows the faster the spectrum falls; about 1 was found
        to go with good features. Invariant to scale, translation and rotation. `r2` says whether a
        line describes the spectrum; it is 1 for a flat one.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a window other than these, and where fewer than ten eigenvalues above 0
        are in the window: collapse leaves no spectrum to fit.

    References
    ----------
    Stringer et al. 2019, "High-dimensional geometry of population responses in visual cortex";
    Ghosh et al. 2022, "Investigating power laws in deep representation learning".

    Examples
    --------
    >>> import torch
    >>> scales = torch.arange(1, 41, dtype=torch.float64) ** -0.5
    >>> fit = alpha_req(torch.cat([torch.diag(scales), -torch.diag(scales)]))
    >>> round(fit.alpha, 6), fit.first, fit.last
    (1.0, 11, 40)
    """
    first, last = window
    first = _checks.integer("window[0]", first, at_least=1)
    last = _checks.integer("window[1]", last, at_least=first + SHORTEST - 1)
    return alpha_req_of(singular_values(z), (first, last))


class OffDiagonal(NamedTuple):
    """The mean absolute correlation of features, and the `dead` features that have none."""

    value: float
    dead: tuple[int, ...]


def offdiagonal_correlation(z: ArrayLike) -> OffDiagonal:
    r"""Return the mean absolute correlation between different features.

    .. math:: \frac{1}{D (D-1)} \sum_{j \ne k} \left\lvert
              \frac{S_{jk}}{\sqrt{S_{jj} S_{kk}}} \right\rvert

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2; centred here.

    Returns
    -------
    OffDiagonal
        `value` in [0, 1]: 1 when all features are one, about :math:`\sqrt{2 / (\pi N)}`, not 0, for
        independent ones. `dead` names the features that do not vary: they correlate with nothing
        and are left out. With fewer than two others there is no pair, and the value is NaN, as at
        complete collapse. Invariant to translation, and to a scale of each feature, but not to
        rotation.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Hua et al. 2021, "On feature decorrelation in self-supervised learning"; Zbontar et al. 2021,
    "Barlow Twins".

    Examples
    --------
    >>> import torch
    >>> offdiagonal_correlation(torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [3.0, 6.0, 0.0]]))
    OffDiagonal(value=1.0, dead=(2,))
    """
    return offdiagonal_correlation_of(Moments.of(_in_range(_checks.as_matrix("z", z))[0]))


# The measures themselves, of a spectrum that has been computed: several can share one.


def stable_rank_of(sigma: Tensor) -> float:
    """Return the stable rank of the singular values of a centred matrix."""
    return float((sigma / sigma[0]).square().sum()) if sigma[0] > 0 else 0.0


def participation_ratio_of(sigma: Tensor) -> float:
    """Return the participation ratio of the singular values of a centred matrix."""
    if sigma[0] == 0:
        return 0.0
    variance = (sigma / sigma[0]).square()
    return float(variance.sum() ** 2 / variance.square().sum())


def effective_rank_of(weights: Tensor) -> float:
    """Return the exponential of the entropy of `weights`, scaled to sum to one."""
    if weights.max() == 0:
        return 0.0
    return float(torch.special.entr(weights / weights.sum()).sum().exp())


def rankme_of(sigma: Tensor) -> float:
    """Return RankMe of the singular values of a matrix as it is."""
    if sigma[0] == 0:
        return 0.0
    return float(torch.special.entr(sigma / sigma.sum() + RANKME_EPS).sum().exp())


def srank_of(sigma: Tensor, delta: float = 0.01) -> int:
    """Return how many singular values hold all but a share delta of their sum."""
    if sigma[0] == 0:
        return 0
    share = sigma.cumsum(0) / sigma.sum()
    # The sum rounds by some machine epsilons: what falls short by those is enough.
    return int((share < 1 - delta - len(sigma) * EPS).sum()) + 1


def cev_auc_of(weights: Tensor) -> float:
    """Return the mean cumulative share of descending `weights`."""
    if not weights[0] > 0:
        return 1.0
    return min(float((weights.cumsum(0) / weights.sum()).mean()), 1.0)


def alpha_req_of(sigma: Tensor, window: tuple[int, int] = WINDOW) -> AlphaReQ:
    """Return the exponent of the squares of the singular values of a centred matrix."""
    first, last = window[0], min(window[1], int((sigma > 0).sum()))
    if last - first + 1 < SHORTEST:
        raise ValueError(
            f"z needs at least {SHORTEST} eigenvalues above 0 from number {first} on, for a line "
            f"through them; got {max(last - first + 1, 0)} (its rank is {int((sigma > 0).sum())})"
        )
    index = torch.arange(first, last + 1, dtype=sigma.dtype, device=sigma.device)
    weight = 1 / index
    x, y = index.log(), 2 * sigma[first - 1 : last].log()
    x = x - (weight @ x) / weight.sum()
    y = y - (weight @ y) / weight.sum()
    slope = float((weight * x) @ y / ((weight * x) @ x))
    total = float((weight * y) @ y)
    left = float((weight * (y - slope * x)) @ (y - slope * x))
    # A flat spectrum varies by rounding alone, and its line leaves nothing to explain.
    flat = total <= len(index) * (1e3 * EPS) ** 2
    return AlphaReQ(-slope, 1.0 if flat else 1 - left / total, first, last)


FORMS = {"distribution-free": 4, "gaussian": 3}


def participation_ratio_of_moments(moments: Moments, form: str = "distribution-free") -> float:
    """Return the unbiased participation ratio; NaN where it cannot be estimated."""
    scatter, n = moments.scatter, moments.count
    trace = float(scatter.diagonal().sum())
    if trace == 0:
        return 0.0
    if n < FORMS[form]:
        return math.nan
    # Of a covariance of trace one: the ratio does not depend on it.
    frobenius, q = float((scatter / trace).square().sum()), moments.fourth / trace**2 * (n - 1)
    if form == "gaussian":
        m = n - 1
        squared_trace = m * (m + 1) - 2 * m * frobenius
        trace_of_square = m**2 * frobenius - m
    else:
        squared_trace = 2 * frobenius + (n**2 - 3 * n + 1) - n * q
        trace_of_square = (n - 1) * (n - 2) * frobenius + 1 - n * q
    return squared_trace / trace_of_square if trace_of_square > 0 else math.nan


def offdiagonal_correlation_of(moments: Moments) -> OffDiagonal:
    """Return the mean absolute correlation of the features, and those that have none."""
    variance = moments.scatter.diagonal()
    live = variance > moments.count * (16 * EPS * moments.mean.abs()).square()
    dead = tuple((~live).nonzero().flatten().tolist())
    k = int(live.sum())
    if k < 2:
        return OffDiagonal(math.nan, dead)
    scale = variance[live].sqrt()
    shared = moments.scatter[live][:, live] if dead else moments.scatter
    correlation = shared / torch.outer(scale, scale)
    total = correlation.abs().sum() - correlation.diagonal().abs().sum()
    return OffDiagonal(min(max(float(total) / (k * (k - 1)), 0.0), 1.0), dead)
