"""Objectives without a repulsive term: they compare two views of a sample and nothing else.

What keeps such an objective from collapse, if anything does, lies outside it: in a predictor, in a
stop-gradient, in a momentum target.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._precision import in_full_precision


@in_full_precision
def invariance(z_a: Tensor, z_b: Tensor, *, normalize: bool = True) -> Tensor:
    r"""Return the mean squared distance between two views: the objective that asks for collapse.

    .. math::

        \frac{1}{N} \sum_i \lVert \hat z^a_i - \hat z^b_i \rVert^2
        = \frac{1}{N} \sum_i \left(2 - 2 \cos(z^a_i, z^b_i)\right)

    with :math:`\hat z = z / \lVert z \rVert`; without `normalize`,
    :math:`\frac{1}{ND} \sum_i \lVert z^a_i - z^b_i \rVert^2`, the mean squared error of VICReg.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    normalize
        Compare directions (the cosine) or the embeddings as they are.

    Returns
    -------
    Tensor
        A scalar in [0, 4], or [0, inf) without `normalize`. At complete collapse it is 0, its
        minimum: the value alone cannot tell a perfect model from a dead one.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Hadsell, Chopra & LeCun 2006; Wang & Isola 2020, where it is the alignment loss with alpha 2.

    Examples
    --------
    >>> import torch
    >>> float(invariance(torch.ones(4, 3), torch.ones(4, 3)))
    0.0
    >>> float(invariance(torch.eye(2), torch.eye(2).flip(0)))
    2.0
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    if not normalize:
        return F.mse_loss(z_a, z_b)
    return (F.normalize(z_a, dim=1) - F.normalize(z_b, dim=1)).square().sum(dim=1).mean()
