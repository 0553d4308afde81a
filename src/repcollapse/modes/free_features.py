"""Neural collapse where it is exact: features and last layer both free, and nothing else.

A network that can give any sample any feature leaves this problem, whose minimum is known in closed
form: the corners of a simplex, of a size that weight decay sets (:func:`margin_of`,
:func:`length_of`), down to a single point (:func:`threshold`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks, data
from repcollapse.diagnostics import cosines_of_means
from repcollapse.modes.fitting import minimise


@dataclass(frozen=True, eq=False, kw_only=True)
class Unconstrained:
    """The minimum that was found.

    Attributes
    ----------
    features, labels
        Features of n samples of each of K classes, shape (K n, d), and their classes, (K n,).
    weight
        The last layer, shape (K, d).
    """

    features: Tensor
    labels: Tensor
    weight: Tensor

    @property
    def cosines(self) -> Tensor:
        """The cosines of all pairs of centred class means, shape (K (K - 1) / 2,)."""
        return cosines_of_means(self.features, self.labels)

    @property
    def margin(self) -> float:
        """How far the right score is above the others, the mean over samples and classes."""
        scores = self.features @ self.weight.T
        right = scores.gather(1, self.labels[:, None]).squeeze(1)
        others = (scores.sum(dim=1) - right) / (len(self.weight) - 1)
        return float((right - others).mean())


def threshold(classes: int, per_class: int) -> float:
    r"""Return the weight decay from which on nothing is learned.

    .. math:: \sqrt{\lambda_W \lambda_H} = \frac{1}{K \sqrt n}

    Parameters
    ----------
    classes, per_class
        K >= 2 classes of n >= 1 samples each.

    Returns
    -------
    float
        > 0: the geometric mean of the decays of the last layer and of the features.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Derived in chapter 17, in the model of Zhu et al. 2021.

    Examples
    --------
    >>> threshold(classes=5, per_class=4)
    0.1
    """
    classes = _checks.integer("classes", classes, at_least=2)
    return 1 / (classes * math.sqrt(_checks.integer("per_class", per_class, at_least=1)))


def margin_of(classes: int, ratio: float) -> float:
    r"""Return the margin at the minimum of :func:`unconstrained`, in closed form.

    .. math:: a = \log\left(1 + K \left(\tfrac1c - 1\right)\right) \quad (c < 1), \qquad
              a = 0 \quad (c \ge 1)

    Parameters
    ----------
    classes
        K >= 2.
    ratio
        c > 0: :math:`\sqrt{\lambda_W \lambda_H}` over the :func:`threshold`.

    Returns
    -------
    float
        >= 0, in nats; 0 where all features are 0, which is a complete collapse.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Derived in chapter 17, in the model of Zhu et al. 2021.

    Examples
    --------
    >>> margin_of(10, 1.0), round(margin_of(10, 0.5), 4)
    (0.0, 2.3979)
    """
    classes = _checks.integer("classes", classes, at_least=2)
    ratio = _checks.number("ratio", ratio, above=0)
    return math.log1p(classes * (1 / ratio - 1)) if ratio < 1 else 0.0


def length_of(classes: int, per_class: int, *, decay_weight: float, decay_features: float) -> float:
    r"""Return the length of every feature at the minimum of :func:`unconstrained`, in closed form.

    .. math:: \lVert h \rVert^2
              = \sqrt{\frac{\lambda_W}{\lambda_H}} \; \frac{K - 1}{K \sqrt n} \; a

    with the margin a of :func:`margin_of`. The scores have K - 1 singular values :math:`a \sqrt n`,
    and at the minimum both decays cost the same.

    Parameters
    ----------
    classes, per_class
        K >= 2 classes of n >= 1 samples each.
    decay_weight, decay_features
        :math:`\lambda_W` and :math:`\lambda_H`, > 0.

    Returns
    -------
    float
        >= 0, where the features have K - 1 dimensions or more; 0 from the :func:`threshold` on,
        which is a complete collapse.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Derived in chapter 17, in the model of Zhu et al. 2021.

    Examples
    --------
    >>> decay = 0.97 * threshold(5, 10)
    >>> round(length_of(5, 10, decay_weight=decay, decay_features=decay), 3)
    0.191
    >>> length_of(5, 10, decay_weight=0.5, decay_features=0.5)
    0.0
    """
    decay_weight = _checks.number("decay_weight", decay_weight, above=0)
    decay_features = _checks.number("decay_features", decay_features, above=0)
    ratio = math.sqrt(decay_weight * decay_features) / threshold(classes, per_class)
    spread = (classes - 1) / (classes * math.sqrt(per_class)) * margin_of(classes, ratio)
    return math.sqrt(math.sqrt(decay_weight / decay_features) * spread)


def unconstrained(
    classes: int,
    *,
    decay_weight: float,
    decay_features: float,
    seed: int,
    per_class: int = 10,
    width: int = 16,
    iterations: int = 1000,
) -> Unconstrained:
    r"""Return the minimum over features and last layer, both free, found by L-BFGS in float64.

    .. math::

        \min_{W, H} \frac{1}{K n} \sum_i \mathrm{CE}(W h_i, y_i)
        + \frac{\lambda_W}{2} \lVert W \rVert_F^2 + \frac{\lambda_H}{2} \lVert H \rVert_F^2

    Parameters
    ----------
    classes, per_class, width
        K classes of n samples each, features of d numbers.
    decay_weight, decay_features
        :math:`\lambda_W` and :math:`\lambda_H`, > 0.
    seed
        Of the start.
    iterations
        At most so many.

    Returns
    -------
    Unconstrained
        Where d >= K - 1, a simplex with the margin of :func:`margin_of` and features of the
        length of :func:`length_of`; from the :func:`threshold` on, all zeros.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Zhu et al. 2021, "A geometric analysis of neural collapse with unconstrained features".

    Examples
    --------
    >>> found = unconstrained(3, decay_weight=0.01, decay_features=0.01, seed=0)
    >>> bool((found.cosines + 1 / 2).abs().max() < 1e-5)
    True
    """
    classes = _checks.integer("classes", classes, at_least=2)
    per_class = _checks.integer("per_class", per_class, at_least=1)
    width = _checks.integer("width", width, at_least=1)
    decay_weight = _checks.number("decay_weight", decay_weight, above=0)
    decay_features = _checks.number("decay_features", decay_features, above=0)
    generator = data.stream(seed, "unconstrained features")
    labels = torch.arange(classes).repeat_interleave(per_class)
    features, weight = (
        torch.randn(rows, width, generator=generator, dtype=torch.float64).requires_grad_()
        for rows in (len(labels), classes)
    )

    def loss() -> Tensor:
        penalty = decay_weight * weight.square().sum() + decay_features * features.square().sum()
        return F.cross_entropy(features @ weight.T, labels) + penalty / 2

    minimise(loss, [features, weight], iterations=iterations, gradient=1e-12, memory=20)
    return Unconstrained(features=features.detach(), labels=labels, weight=weight.detach())
