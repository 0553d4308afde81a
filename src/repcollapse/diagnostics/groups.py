"""Measures of grouped rows: views by the sample they are of, samples by their class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import BLOCK, EPS, SymmetricSum, as_double, as_rows

DELTA = 1e-4


@dataclass(frozen=True)
class GroupedMoments:
    r"""Counts and means of G groups of rows, and the scatter of all rows about their group's mean.

    The state grows with the number of groups. Rows of one group need not lie together, nor come in
    one update: only their identifier counts. All numbers are float64, and every operation returns a
    new state.

    Attributes
    ----------
    keys
        The identifiers of the groups, ascending, shape (G,).
    counts
        How many rows each has, shape (G,).
    means
        Their means, shape (G, D).
    within
        :math:`\sum_g \sum_{i \in g} (x_i - \bar x_g)(x_i - \bar x_g)^\top`, shape (D, D).

    Examples
    --------
    >>> import torch
    >>> z, groups = torch.arange(12.0).reshape(6, 2), torch.tensor([7, 3, 7, 3, 3, 7])
    >>> whole = GroupedMoments.of(z, groups)
    >>> merged = GroupedMoments.of(z[:2], groups[:2]).update(z[2:], groups[2:])
    >>> whole.keys.tolist(), torch.allclose(whole.within, merged.within)
    ([3, 7], True)
    """

    keys: Tensor
    counts: Tensor
    means: Tensor
    within: Tensor

    @classmethod
    def of(cls, z: ArrayLike, groups: Any) -> GroupedMoments:
        """Return the state of the rows of `z`, shape (N, D), with integer identifiers (N,).

        Raises
        ------
        TypeError, ValueError
            For anything else.
        """
        matrix = as_rows("z", z).detach()
        names = _checks.as_labels("groups", groups, len(matrix), what="identifiers")
        keys, index, counts = names.unique(return_inverse=True, return_counts=True)
        # Equal rows become exact zeros: the rounding of their mean would pass for scatter.
        origin = as_double(matrix[:1])[0]
        means = origin.new_zeros(len(keys), len(origin))
        index = index.to(origin.device)
        for rows, where in _blocks(matrix, index):
            means.index_add_(0, where, rows - origin)
        means /= counts[:, None].to(means)
        scatter = SymmetricSum(len(origin), origin.device)
        for rows, where in _blocks(matrix, index):
            scatter.add((rows - origin) - means[where])
        return cls(keys.cpu(), counts.cpu(), means + origin, scatter.total())

    def update(self, z: ArrayLike, groups: Any) -> GroupedMoments:
        """Return the state of these rows and those of `z` together."""
        return self.merge(GroupedMoments.of(z, groups))

    def merge(self, other: GroupedMoments) -> GroupedMoments:
        """Return the state of both sets of rows together; groups of one identifier become one.

        Raises
        ------
        TypeError, ValueError
            For anything but such a state of as many columns.
        """
        if not isinstance(other, GroupedMoments):
            raise TypeError(f"other must be GroupedMoments; got {type(other).__name__}")
        if other.means.shape[1] != self.means.shape[1]:
            raise ValueError(
                f"other must have {self.means.shape[1]} columns; got {other.means.shape[1]}"
            )
        keys = torch.cat([self.keys, other.keys]).unique()
        mine, theirs = torch.searchsorted(keys, self.keys), torch.searchsorted(keys, other.keys)
        counts = torch.zeros_like(keys)
        counts[mine] += self.counts
        joined = counts.clone()
        joined[theirs] += other.counts
        means = self.means.new_zeros(len(keys), self.means.shape[1])
        means[mine] = self.means
        shift = other.means - means[theirs]
        # Torch divides integers in its default precision, not in that of the means.
        share = (other.counts.double() / joined[theirs]).to(shift)[:, None]
        weight = counts[theirs].to(shift)[:, None] * share
        scatter = SymmetricSum(shift.shape[1], shift.device)
        scatter.add(weight.sqrt() * shift)
        known = (counts[theirs] > 0).to(shift.device)[:, None]
        means[theirs] = torch.where(known, means[theirs] + share * shift, other.means)
        return GroupedMoments(keys, joined, means, self.within + other.within + scatter.total())

    def compute(self) -> dict[str, float]:
        """Return the measures of rows that are views of samples, by name.

        Returns
        -------
        dict
            `lidar` and `intraclass_correlation`, of the groups as samples: what
            :func:`repcollapse.diagnostics.lidar` reads of the same rows, and
            :func:`repcollapse.diagnostics.intraclass_correlation` of as many views of each. `lidar`
            is NaN where a group has a single row.

        Raises
        ------
        ValueError
            For fewer than two groups, or none of two rows.

        Examples
        --------
        >>> import torch
        >>> cross = torch.cat([torch.eye(3), -torch.eye(3)])
        >>> state = GroupedMoments.of(cross, range(6)).update(cross, range(6))
        >>> {name: round(value, 6) for name, value in state.compute().items()}
        {'lidar': 3.0, 'intraclass_correlation': 1.0}
        """
        correlation = intraclass_correlation_of(self)
        single = bool((self.counts < 2).any())
        return {
            "lidar": math.nan if single else lidar_of(self),
            "intraclass_correlation": correlation,
        }


def lidar(z: ArrayLike, groups: Any, *, delta: float = DELTA) -> float:
    r"""Return the effective rank of what tells samples apart, against what tells their views apart.

    .. math::

        \Sigma_b &= \frac{1}{n - 1} \sum_g (\bar z_g - m)(\bar z_g - m)^\top, \qquad
        m = \frac{1}{n} \sum_g \bar z_g \\
        \Sigma_w &= \frac{1}{N - n} \sum_g \sum_{i \in g} (z_i - \bar z_g)(z_i - \bar z_g)^\top
        + \delta I

    and the exponential of the entropy of the eigenvalues, as shares, of
    :math:`\Sigma_w^{-1/2} \Sigma_b \Sigma_w^{-1/2}`.

    Parameters
    ----------
    z
        Embeddings of several views of each of n >= 2 samples, shape (N, D).
    groups
        The integer identifier of the sample that each row is a view of, shape (N,): two views or
        more of each. Rows of a group need not lie together.
    delta
        > 0; it decides the answer where views agree to within it.

    Returns
    -------
    float
        In [1, min(D, n - 1)], 0 where all sample means are equal, as at complete collapse. Noise
        that views do not share does not raise it, as it raises a rank of the covariance. Invariant
        to translation and rotation, but because of `delta` not to scale.

    Raises
    ------
    TypeError, ValueError
        For embeddings or identifiers other than these.

    References
    ----------
    Thilak et al. 2024, "LiDAR: sensing linear probing performance in joint embedding SSL
    architectures".

    Examples
    --------
    >>> import torch
    >>> cross = torch.cat([torch.eye(3), -torch.eye(3)])
    >>> round(lidar(torch.cat([cross, cross]), list(range(6)) * 2), 6)
    3.0
    """
    return lidar_of(GroupedMoments.of(z, groups), delta)


def lidar_of(grouped: GroupedMoments, delta: float = DELTA) -> float:
    """Return LiDAR of grouped moments, in which every group has two rows or more."""
    delta = _checks.number("delta", delta, above=0)
    n, rows = len(grouped.keys), int(grouped.counts.sum())
    if n < 2:
        raise ValueError(f"groups needs at least 2 groups; got {n}")
    single = int((grouped.counts < 2).sum())
    if single:
        raise ValueError(
            f"groups needs at least 2 rows of each identifier; {single} of {n} have one"
        )
    between = _centred(grouped.means)
    within = grouped.within / (rows - n)
    ridge = torch.eye(between.shape[1], dtype=between.dtype, device=between.device) * delta
    factor, failed = torch.linalg.cholesky_ex(within + ridge)
    # The eigenvalues are those of L^-1 S_b L^-T, the squared singular values of the white means.
    if not bool(failed):
        white = torch.linalg.solve_triangular(factor, between.T, upper=False)
    else:  # beside rows as long as these, delta is less than a rounding error
        values, axes = torch.linalg.eigh(within)
        white = (axes.T @ between.T) / (values.clamp(min=0) + delta).sqrt()[:, None]
    sigma = torch.linalg.svdvals(white) if n <= len(white) else _roots(white)
    variance = sigma[: n - 1].square()
    if variance[0] == 0:
        return 0.0
    variance = torch.where(variance > variance[0] * (len(variance) + 100) * EPS, variance, 0.0)
    return float(torch.special.entr(variance / variance.sum()).sum().exp())


def intraclass_correlation_of(grouped: GroupedMoments) -> float:
    r"""Return the intraclass correlation of grouped moments, of any number of rows a group.

    With unequal groups, V is :math:`(N - \sum_g n_g^2 / N) / (n - 1)`, as usual.
    """
    n, rows = len(grouped.keys), int(grouped.counts.sum())
    if n < 2 or rows == n:
        raise ValueError(
            f"groups needs at least 2 groups and one of 2 rows; got {rows} rows in {n} groups"
        )
    counts = grouped.counts.to(grouped.means)
    shifted = grouped.means - grouped.means[0]
    grand = counts @ shifted / rows
    between = float((counts @ (shifted - grand).square()).sum()) / (n - 1)
    within = float(grouped.within.diagonal().sum()) / (rows - n)
    size = (rows - float(counts @ counts) / rows) / (n - 1)
    component = max((between - within) / size, 0.0)
    return component / (component + within) if component + within > 0 else 0.0


class NeuralCollapse(NamedTuple):
    """The four properties of neural collapse; those that need a classifier are None without one."""

    nc1: float
    nc2_norms: float
    nc2_angles: float
    nc3: float | None
    nc4: float | None


def cosines_of_means(z: ArrayLike, labels: Any) -> Tensor:
    r"""Return the cosine of each pair of class means about their mean.

    .. math:: \cos(m_c, m_k), \quad c < k, \qquad m_c = \mu_c - \frac1C \sum_k \mu_k

    Parameters
    ----------
    z
        Features, shape (N, D).
    labels
        Integer classes, shape (N,), C >= 2 of them.

    Returns
    -------
    Tensor
        Shape (C (C - 1) / 2,), float64, the pairs (1, 2), (1, 3) to (C - 1, C) of classes in
        ascending order. In a simplex all are -1 / (C - 1), which is their average wherever the
        :math:`m_c` have equal norm, for then
        :math:`0 = \lVert \sum_c m_c \rVert^2 \propto C + 2 \sum_{c < k} \cos(m_c, m_k)`.
        0 where one of the two is 0, as all are at complete collapse. Invariant to translation,
        rotation and a positive scale.

    Raises
    ------
    TypeError, ValueError
        For features or labels other than these.

    References
    ----------
    Papyan, Han & Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep
    learning training".

    Examples
    --------
    >>> import torch
    >>> lines = torch.cat([torch.eye(2), -torch.eye(2)])
    >>> cosines_of_means(lines, torch.arange(4)).tolist()
    [0.0, -1.0, 0.0, 0.0, -1.0, 0.0]
    """
    grouped = _of_classes(z, labels)
    if len(grouped.keys) < 2:
        raise ValueError(f"labels needs at least 2 classes; got {len(grouped.keys)}")
    return _cosines(_centred(grouped.means, divided=False))


def neural_collapse(
    z: ArrayLike,
    labels: Any,
    *,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
) -> NeuralCollapse:
    r"""Return how far features are from one point a class, in a simplex.

    With :math:`\mu_c` the mean of class c, :math:`m_c = \mu_c - \frac1C \sum_k \mu_k`,
    :math:`\Sigma_W` the covariance about the class means (divisor N) and
    :math:`\Sigma_B = \frac1C \sum_c m_c m_c^\top`,

    .. math::

        \text{nc1} &= \tfrac{1}{C} \operatorname{tr} (\Sigma_W \Sigma_B^+) \\
        \text{nc2\_norms} &= \operatorname{std}_c \lVert m_c \rVert /
                             \operatorname{mean}_c \lVert m_c \rVert \\
        \text{nc2\_angles} &= \operatorname{mean}_{c \ne k} \left\lvert \cos(m_c, m_k)
                              + \tfrac{1}{C - 1} \right\rvert \\
        \text{nc3} &= \left\lVert W / \lVert W \rVert_F - M / \lVert M \rVert_F \right\rVert_F \\
        \text{nc4} &= \text{share of rows whose } \operatorname{argmax}_c (w_c^\top z + b_c)
                      \text{ is not the class of the nearest } \mu_c

    The pseudo-inverse keeps the C - 1 directions that C means have, and no others.

    Parameters
    ----------
    z
        Features, shape (N, D).
    labels
        Integer classes, shape (N,), C >= 2 of them.
    weight, bias
        Those of the last layer, shapes (C, D) and (C,), a row for each class in ascending order of
        the labels. The bias is 0 if it is not given.

    Returns
    -------
    NeuralCollapse
        Each >= 0, and 0 for features that have collapsed to a simplex of class means: that is the
        end of training a classifier, and for pretraining the loss of all but the classes. The
        angles are averaged as absolute values since cosines of means of equal norm always average
        to -1 / (C - 1). Where all class means are equal, nc1 is infinite, or NaN if nothing varies
        within them either (complete collapse), and what needs their directions is NaN. Invariant to
        rotation and scale; nc1 to every invertible linear map where C - 1 >= D.

    Raises
    ------
    TypeError, ValueError
        For features, labels or a classifier other than these.

    References
    ----------
    Papyan, Han & Donoho 2020, "Prevalence of neural collapse during the terminal phase of deep
    learning training".

    Examples
    --------
    >>> import torch
    >>> simplex = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    >>> found = neural_collapse(simplex, [0, 1, 2] * 4, weight=torch.eye(3) - 1 / 3)
    >>> [round(value, 6) for value in found]
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    grouped = _of_classes(z, labels)
    nc1, norms, angles = neural_collapse_of(grouped)
    if weight is None:
        if bias is not None:
            raise ValueError("bias needs a weight beside it")
        return NeuralCollapse(nc1, norms, angles, None, None)
    matrix = _checks.as_matrix("z", z, min_rows=1)
    w = as_double(_checks.as_matrix("weight", weight, dimension=matrix.shape[1]))
    if len(w) != len(grouped.keys):
        raise ValueError(f"weight must have a row for each of {len(grouped.keys)} classes; "
                         f"got {len(w)}")  # fmt: skip
    w = w.to(grouped.means.device)
    b = w.new_zeros(len(w))
    if bias is not None:
        column = bias[:, None] if getattr(bias, "ndim", 0) == 1 else bias
        b = as_double(_checks.as_matrix("bias", column, dimension=1))[:, 0].to(w.device)
        if len(b) != len(w):
            raise ValueError(f"bias must have shape ({len(w)},); got ({len(b)},)")
    means = _centred(grouped.means, divided=False)
    size, length = torch.linalg.vector_norm(means), torch.linalg.vector_norm(w)
    nc3 = math.nan
    if size > 0 and length > 0:
        nc3 = float(torch.linalg.vector_norm(w / length - means / size))
    return NeuralCollapse(nc1, norms, angles, nc3, _disagreement(matrix, grouped.means, w, b))


def neural_collapse_of(grouped: GroupedMoments) -> tuple[float, float, float]:
    """Return nc1, nc2_norms and nc2_angles of moments grouped by class."""
    classes, rows = len(grouped.keys), int(grouped.counts.sum())
    if classes < 2:
        raise ValueError(f"labels needs at least 2 classes; got {classes}")
    means = _centred(grouped.means, divided=False)
    within = float(grouped.within.diagonal().sum())
    if not bool(means.any()):
        return (math.inf if within > 0 else math.nan), math.nan, math.nan
    _, sigma, axes = torch.linalg.svd(means, full_matrices=False)
    kept = min(classes - 1, int((sigma > sigma[0] * (sum(means.shape) + 100) * EPS).sum()))
    axes, between = axes[:kept], sigma[:kept].square() / classes
    along = ((axes @ grouped.within) * axes).sum(dim=1) / rows
    norms = torch.linalg.vector_norm(means, dim=1)
    spread_of_norms = float(norms.std(correction=0) / norms.mean())
    angles = math.nan
    if bool((norms > 0).all()):
        angles = float((_cosines(means) + 1 / (classes - 1)).abs().mean())
    return float((along / between).sum()) / classes, spread_of_norms, angles


def _disagreement(matrix: Tensor, means: Tensor, weight: Tensor, bias: Tensor) -> float:
    origin, wrong = means.mean(dim=0), 0
    shifted = means - origin
    for start in range(0, len(matrix), BLOCK):
        rows = as_double(matrix[start : start + BLOCK])
        answers = torch.addmm(bias, rows, weight.T).argmax(dim=1)
        nearest = (2 * (rows - origin) @ shifted.T - shifted.square().sum(dim=1)).argmax(dim=1)
        wrong += int((answers != nearest).sum())
    return wrong / len(matrix)


def _of_classes(z: ArrayLike, labels: Any) -> GroupedMoments:
    matrix = as_rows("z", z)
    return GroupedMoments.of(matrix, _checks.as_labels("labels", labels, len(matrix)))


def _centred(means: Tensor, *, divided: bool = True) -> Tensor:
    """Return the means about their mean, exactly 0 where they are equal; over sqrt(n - 1)."""
    shifted = means - means[0]
    shifted = shifted - shifted.mean(dim=0)
    return shifted / math.sqrt(len(means) - 1) if divided else shifted


def _cosines(rows: Tensor) -> Tensor:
    unit = F.normalize(rows, dim=1, eps=1e-300)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    return (unit @ unit.T)[first, second]


def _roots(white: Tensor) -> Tensor:
    products = SymmetricSum(len(white), white.device)
    products.add(white.T.contiguous())
    return torch.linalg.eigvalsh(products.total()).flip(0).clamp(min=0).sqrt()


def _blocks(matrix: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(matrix), BLOCK):
        yield as_double(matrix[start : start + BLOCK]), index[start : start + BLOCK]
