"""Probes: what can still be read out of an embedding, with labels.

Every probe is fitted on one set and scored on another. Compare it with chance, with raw inputs and
with an untrained encoder, never with 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.diagnostics.moments import as_double

RIDGE = 1e-3
RESOLUTION = 0.01
# A tenfold tighter fit costs more than twice the time and moves accuracies by under a point.
TOLERANCE = 1e-3


def resolution_probe(
    train_z: ArrayLike, train_labels: Any, test_z: ArrayLike, test_labels: Any
) -> float:
    r"""Return the test accuracy of a ridge classifier that cannot magnify.

    Ridge regression of the one-hot labels on the unit rows u, centred but not standardised,

    .. math::

        s_c(u) = \pi_c + w_c^\top (u - \bar u), \qquad
        \min_w \sum_i \lVert y_i - s(u_i) \rVert^2 + \lambda \lVert w \rVert^2, \quad
        \lambda = 10^{-3} N,

    with :math:`\pi_c` the share of class c in training. It answers with the class of the highest
    score, and with the largest class where the embedding moves no score by 0.01 from its share.
    Differences that are small against the embeddings themselves stay small, as they do for any
    reader of finite precision.

    Parameters
    ----------
    train_z, test_z
        Embeddings, shapes (N, D) and (M, D).
    train_labels, test_labels
        Integer classes, shapes (N,) and (M,).

    Returns
    -------
    float
        In [0, 1]. At complete collapse, the test share of the largest training class. Invariant
        to rotation and to a positive scale of each row.

    Raises
    ------
    TypeError, ValueError
        For embeddings or labels other than these, or a single training class.

    Notes
    -----
    Without the second rule a balanced set of classes defeats the probe: all shares are equal then,
    and the argmax follows a residue of any size.

    Examples
    --------
    >>> import torch
    >>> z, labels = torch.eye(2).repeat(8, 1), torch.tensor([0, 1] * 8)
    >>> resolution_probe(z, labels, z, labels)
    1.0
    >>> residue = torch.ones(16, 2) + 1e-5 * z  # all but collapsed
    >>> resolution_probe(residue, labels, residue, labels)
    0.5
    """
    from sklearn.linear_model import Ridge  # slow to import, as all of scikit-learn is

    train, train_y, test, test_y = _probe_arguments(train_z, train_labels, test_z, test_labels)
    classes, index = np.unique(train_y, return_inverse=True)
    one_hot = np.eye(len(classes))[index]
    share = one_hot.mean(axis=0)
    ridge = Ridge(alpha=RIDGE * len(train)).fit(_unit_or_zero(train), one_hot)
    scores = ridge.predict(_unit_or_zero(test))
    # A zero row has no direction: whatever the fit says at the origin was extrapolated.
    unresolved = (np.abs(scores - share).max(axis=1) < RESOLUTION) | ~test.any(axis=1)
    answers = np.where(unresolved, share.argmax(), scores.argmax(axis=1))
    return float((classes[answers] == test_y).mean())


def linear_probe(
    train_z: ArrayLike, train_labels: Any, test_z: ArrayLike, test_labels: Any, *, c: float = 1.0
) -> float:
    """Return the test accuracy of logistic regression on standardised features.

    The probe of the literature. Standardising magnifies whatever is left: on a collapsed embedding
    it still reads the class from float32 residue. Use :func:`resolution_probe` to see collapse.

    Parameters
    ----------
    train_z, test_z
        Embeddings, shapes (N, D) and (M, D); standardised with the training moments.
    train_labels, test_labels
        Integer classes, shapes (N,) and (M,).
    c
        Inverse strength of the L2 penalty, > 0.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        For embeddings, labels or a penalty other than these, or a single training class.

    Examples
    --------
    >>> import torch
    >>> z, labels = torch.eye(2).repeat(8, 1), torch.tensor([0, 1] * 8)
    >>> residue = torch.ones(16, 2) + 1e-5 * z
    >>> linear_probe(residue, labels, residue, labels)
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, train_y, test, test_y = _probe_arguments(train_z, train_labels, test_z, test_labels)
    c = _checks.number("c", c, above=0)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000, tol=TOLERANCE))
    probe.fit(train, train_y)
    return float(probe.score(test, test_y))


def knn_accuracy(
    train_z: ArrayLike, train_labels: Any, test_z: ArrayLike, test_labels: Any, *, k: int = 5
) -> float:
    """Return the test accuracy of a vote among the k nearest training embeddings by cosine.

    Parameters
    ----------
    train_z, test_z
        Embeddings, shapes (N, D) and (M, D).
    train_labels, test_labels
        Integer classes, shapes (N,) and (M,).
    k
        Neighbours asked, 1 <= k <= N.

    Returns
    -------
    float
        In [0, 1]. All but blind to scale: it does not see a collapse whose residue still orders the
        samples, down to about 1e-7 of the embeddings themselves.

    Raises
    ------
    TypeError, ValueError
        For embeddings, labels or k other than these, or a single training class.

    Examples
    --------
    >>> import torch
    >>> z, labels = torch.eye(2).repeat(8, 1), torch.tensor([0, 1] * 8)
    >>> knn_accuracy(z, labels, z, labels)
    1.0
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, train_y, test, test_y = _probe_arguments(train_z, train_labels, test_z, test_labels)
    k = _checks.integer("k", k, at_least=1, at_most=len(train))
    # On unit rows the Euclidean order is the cosine order.
    vote = KNeighborsClassifier(k).fit(_unit_or_zero(train), train_y)
    return float(vote.score(_unit_or_zero(test), test_y))


@dataclass(frozen=True, eq=False)
class LinearMap:
    r"""A map :math:`\hat y(z) = \bar y + (z - \bar z) W`, made by :func:`linear_map`.

    Attributes
    ----------
    weight
        :math:`W`, shape (D, K), or (D,) where y is one number a row; float64.
    mean_z, mean_y
        The means of what it was fitted on, shapes (D,) and (K,), or () as above.
    """

    weight: Tensor
    mean_z: Tensor
    mean_y: Tensor

    def __call__(self, z: ArrayLike) -> Tensor:
        """Return what it says of embeddings (M, D): float64, shape (M, K), or (M,).

        Raises
        ------
        TypeError, ValueError
            For embeddings of another width, or that are none.
        """
        rows = _checks.as_matrix("z", z, min_rows=1, dimension=len(self.mean_z))
        return self.mean_y + (_double(rows) - self.mean_z) @ self.weight


def linear_map(z: ArrayLike, y: ArrayLike) -> LinearMap:
    r"""Return the linear map with a constant that takes embeddings to y with the least error.

    .. math:: \min_{W, b} \sum_i \lVert y_i - b - z_i W \rVert^2,

    by the singular values of the centred embeddings, in float64 on the CPU; of several such maps
    the one whose W is smallest.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 2.
    y
        What is to be read from them, floating, shape (N, K), or (N,).

    Returns
    -------
    LinearMap
        A function of embeddings. At exact collapse it says the mean of y, whatever it is asked.

    Raises
    ------
    TypeError, ValueError
        For embeddings or values other than these.

    References
    ----------
    Penrose 1956, "On best approximate solutions of linear matrix equations", for the smallest of
    several.

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[0.0], [1.0], [2.0]])
    >>> found = linear_map(z, 3 * z[:, 0] + 5)
    >>> [round(value, 6) for value in found(torch.tensor([[10.0]])).tolist()]
    [35.0]
    """
    rows = _double(_checks.as_matrix("z", z))
    values = _double(_values("y", y, len(rows), "z"))
    mean_z, centred_z = _about_mean(rows)
    mean_y, centred_y = _about_mean(values)
    weight = torch.linalg.lstsq(centred_z, centred_y, driver="gelsd").solution
    if getattr(y, "ndim", 2) == 1:
        weight, mean_y = weight[:, 0], mean_y[0]
    return LinearMap(weight, mean_z, mean_y)


def regression_probe(
    train_z: ArrayLike, train_y: ArrayLike, test_z: ArrayLike, test_y: ArrayLike
) -> float:
    r"""Return the share of the variance of y that a linear map of unseen embeddings explains.

    .. math:: R^2 = 1 - \frac{\sum_j \lVert y_j - \hat y(z_j) \rVert^2}
              {\sum_j \lVert y_j - \bar y \rVert^2}

    over the test rows, with the map :math:`\hat y` of :func:`linear_map` and the mean
    :math:`\bar y` both from the training rows. The most lenient of readers: without a penalty it
    magnifies whatever is left.

    Parameters
    ----------
    train_z, test_z
        Embeddings, shapes (N, D) and (M, D).
    train_y, test_y
        What is to be read from them, floating, shapes (N, K) and (M, K), or (N,) and (M,).

    Returns
    -------
    float
        At most 1; 0 for a reader that always says the mean, as at exact collapse, and below 0 for
        one that does worse on what it has not seen. Invariant to invertible linear maps of the
        embeddings and to their translation.

    Raises
    ------
    TypeError, ValueError
        For embeddings or values other than these, or test values all equal to the mean of those of
        training, of which nothing can be explained.

    References
    ----------
    Campbell & Thompson 2008, "Predicting excess stock returns out of sample", for a share of unseen
    values that is held against the mean of those seen; Alain & Bengio 2017, "Understanding
    intermediate layers using linear classifier probes", for linear readers.

    Examples
    --------
    >>> import torch
    >>> z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    >>> round(regression_probe(z[:40], z[:40, 0], z[40:], z[40:, 0]), 6)
    1.0
    >>> regression_probe(torch.ones(40, 3), z[:40, 0], torch.ones(10, 3), z[40:, 0])
    0.0
    """
    train = _checks.as_matrix("train_z", train_z)
    test = _checks.as_matrix("test_z", test_z, min_rows=1)
    _same_columns(train, test)
    fitted_to = _values("train_y", train_y, len(train), "train_z")
    asked = _values("test_y", test_y, len(test), "test_z")
    if fitted_to.shape[1] != asked.shape[1]:
        raise ValueError(
            "train_y and test_y must have the same number of columns; "
            f"got {fitted_to.shape[1]} and {asked.shape[1]}"
        )
    reader = linear_map(train, fitted_to)
    asked = _double(asked)
    total = (asked - reader.mean_y).square().sum()
    if total == 0:
        raise ValueError("test_y must hold other values than the mean of train_y")
    return 1 - float((asked - reader(test)).square().sum() / total)


def _values(name: str, y: ArrayLike, rows: int, of: str) -> Tensor:
    """Return y as a matrix of as many rows as the embeddings `of` have."""
    matrix = _checks.as_matrix(name, y[:, None] if getattr(y, "ndim", 0) == 1 else y, min_rows=1)
    if len(matrix) != rows:
        raise ValueError(f"{name} must have the {rows} rows of {of}; got {len(matrix)}")
    return matrix


def _double(rows: Tensor) -> Tensor:
    return as_double(rows).cpu()


def _about_mean(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean row, and all rows about it: exact zeros where they are equal."""
    shifted = rows - rows[0]
    mean = shifted.mean(dim=0)
    return rows[0] + mean, shifted - mean


def _same_columns(train: Tensor, test: Tensor) -> None:
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train_z and test_z must have the same number of columns; "
            f"got {train.shape[1]} and {test.shape[1]}"
        )


def _probe_arguments(
    train_z: ArrayLike, train_labels: Any, test_z: ArrayLike, test_labels: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train = _checks.as_matrix("train_z", train_z)
    test = _checks.as_matrix("test_z", test_z, min_rows=1)
    _same_columns(train, test)
    train_y = _checks.as_labels("train_labels", train_labels, len(train))
    test_y = _checks.as_labels("test_labels", test_labels, len(test))
    if len(train_y.unique()) < 2:
        raise ValueError("train_labels needs at least two classes; got one")
    return _numpy(train), _numpy(train_y), _numpy(test), _numpy(test_y)


def _numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _unit_or_zero(rows: np.ndarray) -> np.ndarray:
    return torch.nn.functional.normalize(torch.from_numpy(rows), dim=1, eps=1e-300).numpy()
