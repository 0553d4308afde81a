"""Objectives that keep embeddings apart with negative samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._precision import in_full_precision


class NTXentTerms(NamedTuple):
    """The two forces of NT-Xent; their sum is the loss."""

    attraction: Tensor
    repulsion: Tensor


@in_full_precision
def nt_xent_terms(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.2) -> NTXentTerms:
    r"""Split NT-Xent into the pull between positives and the push from everything else.

    With the 2N unit rows :math:`u` of both views, :math:`p(i)` the other view of row i and
    :math:`\tau` the temperature,

    .. math::

        \text{attraction} = -\frac{1}{2N}\sum_i \frac{u_i^\top u_{p(i)}}{\tau}, \qquad
        \text{repulsion} = \frac{1}{2N}\sum_i \log \sum_{k \ne i} e^{u_i^\top u_k / \tau}.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
    temperature
        :math:`\tau > 0`.

    Returns
    -------
    NTXentTerms
        At complete collapse, attraction is :math:`-1/\tau` and repulsion
        :math:`1/\tau + \log(2N - 1)`. Attraction alone is SimCLR without negatives.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a temperature other than these.

    References
    ----------
    Chen et al. 2020, "A simple framework for contrastive learning of visual representations".

    Examples
    --------
    >>> import torch
    >>> constant = torch.ones(4, 3)
    >>> terms = nt_xent_terms(constant, constant, temperature=0.5)
    >>> round(float(terms.attraction), 4)
    -2.0
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    temperature = _checks.number("temperature", temperature, above=0)
    n = len(z_a)
    unit = F.normalize(torch.cat([z_a, z_b]), dim=1)
    similarity = unit @ unit.T / temperature
    attraction = -(unit[:n] * unit[n:]).sum(dim=1).mean() / temperature
    # A row is neither its own positive nor its own negative.
    others = similarity.masked_fill(
        torch.eye(2 * n, dtype=torch.bool, device=unit.device), -torch.inf
    )
    return NTXentTerms(attraction, others.logsumexp(dim=1).mean())


def nt_xent(z_a: Tensor, z_b: Tensor, *, temperature: float = 0.2) -> Tensor:
    r"""Return the normalised temperature-scaled cross entropy of SimCLR.

    .. math::

        \ell = -\frac{1}{2N} \sum_{i=1}^{2N}
        \log \frac{e^{u_i^\top u_{p(i)} / \tau}}{\sum_{k \ne i} e^{u_i^\top u_k / \tau}}

    over the 2N unit rows of both views; :math:`p(i)` is the other view of row i, all 2N - 2
    remaining rows are its negatives.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are normalised here; any scale will do down to a length of 1e-12, below which a row
        keeps its length.
    temperature
        :math:`\tau > 0`.

    Returns
    -------
    Tensor
        A scalar in nats. At complete collapse it is :math:`\log(2N - 1)`. Where D >= N - 1 its
        minimum is :math:`\log(1 + 2(N-1)\,e^{-(1 + 1/(N-1))/\tau})`: positives together, samples
        on a regular simplex.

    Raises
    ------
    TypeError, ValueError
        For embeddings or a temperature other than these.

    References
    ----------
    Chen et al. 2020, "A simple framework for contrastive learning of visual representations".

    Examples
    --------
    >>> import math, torch
    >>> constant = torch.ones(4, 3)
    >>> loss = nt_xent(constant, constant)
    >>> math.isclose(float(loss), math.log(2 * 4 - 1), rel_tol=1e-6)
    True
    """
    terms = nt_xent_terms(z_a, z_b, temperature=temperature)
    return terms.attraction + terms.repulsion
