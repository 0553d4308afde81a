"""The supervised contrastive loss: labels say which rows belong together."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks


def supcon(z: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    r"""Return the supervised contrastive loss of one view: all of a class are positives.

    .. math::

        \frac1N \sum_i \frac{-1}{|P(i)|} \sum_{p \in P(i)}
        \log \frac{\exp(u_i^\top u_p / \tau)}{\sum_{a \ne i} \exp(u_i^\top u_a / \tau)},
        \qquad u = z / \lVert z \rVert

    Parameters
    ----------
    z
        Embeddings, shape (N, D).
    labels
        Classes, shape (N,): two samples or more of each.
    temperature
        :math:`\tau > 0`.

    Returns
    -------
    Tensor
        A scalar, log(N - 1) at complete collapse. With two classes of n samples it is least,
        log(n - 1 + n exp(-2 / tau)), where the classes are two opposite points.

    Raises
    ------
    TypeError, ValueError
        For embeddings, labels or a temperature other than these.

    References
    ----------
    Khosla et al. 2020, L_out; the minimum: Graf et al. 2021.

    Examples
    --------
    >>> round(float(supcon(torch.ones(5, 2), torch.tensor([0, 0, 1, 1, 1]))), 4)
    1.3863
    """
    z = _checks.as_matrix("z", z)
    labels = _checks.as_labels("labels", labels, len(z)).to(z.device)
    temperature = _checks.number("temperature", temperature, above=0)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels) & ~itself
    counts = positive.sum(dim=1)
    if int(counts.min()) < 1:
        raise ValueError("labels must have two samples or more of each class; one has a single one")
    unit = F.normalize(z, dim=1)
    scores = (unit @ unit.T / temperature).masked_fill(itself, -math.inf)
    losses = scores.logsumexp(dim=1) - (scores.masked_fill(~positive, 0).sum(dim=1) / counts)
    return losses.mean()
