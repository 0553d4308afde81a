"""Probes: what can still be read out of an embedding, with labels.

Every probe is fitted on one set and scored on another. Compare it with chance, with raw inputs and
with an untrained encoder, never with 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike

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


def _probe_arguments(
    train_z: ArrayLike, train_labels: Any, test_z: ArrayLike, test_labels: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train = _checks.as_matrix("train_z", train_z)
    test = _checks.as_matrix("test_z", test_z, min_rows=1)
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"train_z and test_z must have the same number of columns; "
            f"got {train.shape[1]} and {test.shape[1]}"
        )
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
