"""Objectives that keep embeddings apart with negative samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._distributed import gather, mean_over_ranks
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import mean_squared_distance, sum_of_squares, unit_rows
from repcollapse.objectives._targets import detaches_target
from repcollapse.objectives._terms import weighted_sum


class NTXentTerms(NamedTuple):
    """The two forces of NT-Xent; their sum is the loss."""

    attraction: Tensor
    repulsion: Tensor


@in_full_precision
def nt_xent_terms(
    z_a: Tensor, z_b: Tensor, *, temperature: float = 0.2, gather_distributed: bool = False
) -> NTXentTerms:
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
    gather_distributed
        Take the batch to be that of all ranks joined, each of which gets the same value; without
        a process group it changes nothing.

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
    similarity, partner = _candidates(z_a, z_b, temperature, gather_distributed)
    # The diagonal of one block, half of which stands for all: the other block is its transpose.
    attraction = -similarity.diagonal(len(partner) // 2).mean()
    # The partition function is what the cross entropy has beyond the attraction.
    return NTXentTerms(attraction, F.cross_entropy(similarity, partner) - attraction)


@in_full_precision
def nt_xent(
    z_a: Tensor, z_b: Tensor, *, temperature: float = 0.2, gather_distributed: bool = False
) -> Tensor:
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
    gather_distributed
        Take the batch to be that of all ranks joined, each of which gets the same value; without
        a process group it changes nothing.

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
    return F.cross_entropy(*_candidates(z_a, z_b, temperature, gather_distributed))


def _candidates(
    z_a: Tensor, z_b: Tensor, temperature: float, gather_distributed: bool
) -> tuple[Tensor, Tensor]:
    """Return what each of the 2N rows scores every other, over the temperature, and its partner.

    `cross_entropy` of the two has one pass over the 2N x 2N matrix in each direction where
    `logsumexp` has several.
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    temperature = _checks.number("temperature", temperature, above=0)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    n = len(z_a)
    unit = unit_rows(torch.cat([z_a, z_b]))
    similarity = (unit / temperature) @ unit.T
    # A row is neither its own positive nor its own negative.
    similarity.fill_diagonal_(-torch.inf)
    return similarity, torch.arange(2 * n, device=unit.device).roll(n)


@detaches_target
@in_full_precision
def moco(
    query: Tensor,
    key: Tensor,
    *,
    queue: Tensor,
    temperature: float = 0.2,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return MoCo's InfoNCE of one direction: queries against their keys and a queue of others.

    .. math::

        \ell = -\frac{1}{N} \sum_i \log \frac{e^{q_i^\top k_i / \tau}}
        {e^{q_i^\top k_i / \tau} + \sum_{m=1}^{K} e^{q_i^\top c_m / \tau}}

    with unit rows q of the query, k of the key and c of the queue. Keys and queue are constants:
    only the query has a gradient.

    Parameters
    ----------
    query, key
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2; the key from
        the momentum encoder. They are normalised here.
    queue
        Keys of other samples, shape (K, D), K >= 1. They are normalised here.
    temperature
        :math:`\tau > 0`.
    gather_distributed
        Return the mean over the queries of all ranks, the same on each; without a process group
        it changes nothing. Every rank must hold the same queue.

    Returns
    -------
    Tensor
        A scalar in nats, :math:`\ge 0`. At complete collapse, of the queue too, it is
        :math:`\log(K + 1)`: 11.09 for the paper's 65,536.

    Raises
    ------
    TypeError, ValueError
        For embeddings, a queue or a temperature other than these.

    References
    ----------
    He et al. 2020, "Momentum contrast for unsupervised visual representation learning", equation
    1; the default temperature is that of Chen et al. 2020, "Improved baselines with momentum
    contrastive learning".

    Examples
    --------
    >>> import torch
    >>> constant = torch.ones(4, 3)
    >>> loss = moco(constant, constant, queue=torch.ones(15, 3))
    >>> round(float(loss), 4)  # log(15 + 1)
    2.7726
    """
    query, key = _checks.as_matrix_pair("query", query, "key", key)
    queue = _checks.as_matrix("queue", queue, min_rows=1, dimension=query.shape[1])
    temperature = _checks.number("temperature", temperature, above=0)
    negatives = unit_rows(queue.detach().to(query.dtype))
    return _moco(query, key, negatives, temperature, gather_distributed)


def _moco(
    query: Tensor, key: Tensor, negatives: Tensor, temperature: float, gather_distributed: bool
) -> Tensor:
    """Return the loss of checked arguments; `negatives` has unit rows and is constant."""
    scaled = unit_rows(query) / temperature
    positive = (scaled * unit_rows(key.detach())).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, scaled @ negatives.T], dim=1)
    loss = F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))
    # Queries do not meet one another, so that the joined batch's value is the mean over ranks.
    return mean_over_ranks(loss, len(query)) if gather_distributed else loss


@detaches_target
class MoCo(nn.Module):
    r"""MoCo's loss with its queue: :func:`moco` for a training loop.

    Call it once for each direction, then `after_step()` once the optimiser has stepped: only that
    puts the keys seen meanwhile into the queue, in place of the oldest. A forward pass in
    evaluation mode or without gradients leaves no trace.

    Parameters
    ----------
    dimension
        D, the dimension of the embeddings.
    queue
        K, the number of keys kept. It starts with random directions from torch's default
        generator; the first K keys replace them.
    temperature
        :math:`\tau > 0`.
    gather_distributed
        Enqueue the keys of all ranks, in rank order, and return the mean over all ranks. Seed all
        ranks alike, or let DDP broadcast the buffers, so that all start with one queue. Without a
        process group it changes nothing.

    Attributes
    ----------
    queue
        Unit keys, shape (K, D), a buffer of at least float32.
    position
        Where in the queue the next key goes, a buffer.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    He et al. 2020, "Momentum contrast for unsupervised visual representation learning",
    algorithm 1.

    Examples
    --------
    >>> import torch
    >>> loss = MoCo(3, queue=15)
    >>> for _ in range(4):
    ...     value = loss(torch.ones(4, 3), torch.ones(4, 3))
    ...     loss.after_step()
    >>> round(float(loss(torch.ones(4, 3), torch.ones(4, 3))), 4)  # log(15 + 1): collapsed
    2.7726
    """

    queue: Tensor
    position: Tensor

    def __init__(
        self,
        dimension: int,
        *,
        queue: int = 1024,
        temperature: float = 0.2,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        self.dimension = _checks.integer("dimension", dimension, at_least=1)
        size = _checks.integer("queue", queue, at_least=1)
        self.temperature = _checks.number("temperature", temperature, above=0)
        self.gather_distributed = gather_distributed
        self.register_buffer("queue", unit_rows(torch.randn(size, self.dimension)))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))
        self._keys: list[Tensor] = []

    @in_full_precision
    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the loss of (N, D) queries against (N, D) keys and the queue."""
        query, key = _checks.as_matrix_pair("query", query, "key", key, dimension=self.dimension)
        if self.training and torch.is_grad_enabled():
            self._note(key.detach())
        negatives = self.queue.to(query.dtype)
        return _moco(query, key, negatives, self.temperature, self.gather_distributed)

    def _note(self, keys: Tensor) -> None:
        """Remember keys for `after_step`, and no more of them than the queue can take."""
        self._keys.append(keys)
        while sum(map(len, self._keys[1:])) >= len(self.queue):
            self._keys.pop(0)

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the keys of the forward passes since the last call into the queue."""
        if not self._keys:
            return
        # Block by block, so that the queue has the order of one process on the joined batch.
        blocks = map(gather, self._keys) if self.gather_distributed else iter(self._keys)
        keys = unit_rows(torch.cat(list(blocks)))[-len(self.queue) :]
        places = (self.position + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.position.copy_((self.position + len(keys)) % len(self.queue))
        self._keys = []

    def extra_repr(self) -> str:
        """Return the settings, for `repr`."""
        return (
            f"{self.dimension}, queue={len(self.queue)}, temperature={self.temperature}, "
            f"gather_distributed={self.gather_distributed}"
        )


class AlignmentUniformityTerms(NamedTuple):
    """The two unweighted terms of Wang & Isola."""

    alignment: Tensor
    uniformity: Tensor


@in_full_precision
def alignment_uniformity_terms(
    z_a: Tensor,
    z_b: Tensor,
    *,
    alpha: float = 2.0,
    t: float = 2.0,
    gather_distributed: bool = False,
) -> AlignmentUniformityTerms:
    r"""Return the alignment of positives and the uniformity of each view, unweighted.

    With unit rows :math:`u^a, u^b` of the two views,

    .. math::

        \text{alignment} = \frac{1}{N} \sum_i \lVert u^a_i - u^b_i \rVert^\alpha, \qquad
        \text{uniformity} = \frac{1}{2} \sum_{v \in \{a, b\}} \log \frac{1}{N(N-1)}
        \sum_{i \ne k} e^{-t \lVert u^v_i - u^v_k \rVert^2}.

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are normalised here.
    alpha
        The exponent of the distance between positives, >= 1.
    t
        The sharpness of the Gaussian potential, > 0.
    gather_distributed
        Take the batch to be that of all ranks joined, each of which gets the same value; without
        a process group it changes nothing.

    Returns
    -------
    AlignmentUniformityTerms
        Alignment in :math:`[0, 2^\alpha]`, uniformity in :math:`[-2tN/(N-1), 0]`, its lower end a
        regular simplex. At complete collapse both are 0: alignment at its best, uniformity at its
        worst.

    Raises
    ------
    TypeError, ValueError
        For embeddings or numbers other than these.

    References
    ----------
    Wang & Isola 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere".

    Examples
    --------
    >>> import torch
    >>> terms = alignment_uniformity_terms(torch.eye(3), torch.eye(3))
    >>> [round(float(term), 4) for term in terms]
    [0.0, -4.0]
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    alpha = _checks.number("alpha", alpha, at_least=1)
    t = _checks.number("t", t, above=0)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    unit_a, unit_b = unit_rows(z_a), unit_rows(z_b)
    if alpha == 2:
        alignment = mean_squared_distance(unit_a, unit_b)
    else:
        alignment = torch.linalg.vector_norm(unit_a - unit_b, dim=1).pow(alpha).mean()
    uniformity = (_log_potential(unit_a, t) + _log_potential(unit_b, t)) / 2
    return AlignmentUniformityTerms(alignment, uniformity)


def _log_potential(unit: Tensor, t: float) -> Tensor:
    """Return the logarithm of the mean Gaussian potential over all pairs of different rows.

    `diagnostics.uniformity` measures the same in float64, in blocks and without gradient. The one
    cannot stand for the other: blocks would keep every one for the backward pass, and a step has
    no use for float64.
    """
    n = len(unit)
    # Not 2 - 2 cos: a dead row has no length.
    lengths = t * unit.square().sum(dim=1)
    exponents = torch.addmm(-lengths, 2 * t * unit, unit.T) - lengths.unsqueeze(1)
    exponents.fill_diagonal_(-torch.inf)
    # By hand: torch.logsumexp makes more passes over the N x N matrix.
    peak = exponents.detach().amax()
    return (exponents - peak).exp().sum().log() + peak - math.log(n * (n - 1))


def alignment_uniformity(
    z_a: Tensor,
    z_b: Tensor,
    *,
    align: float = 1.0,
    uniform: float = 1.0,
    alpha: float = 2.0,
    t: float = 2.0,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return the weighted sum of the terms of :func:`alignment_uniformity_terms`.

    .. math::

        a\, \mathcal{L}_{\text{align}} + u\, \mathcal{L}_{\text{uniform}},
        \qquad a = \text{align}, \; u = \text{uniform}

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are normalised here.
    align, uniform
        The weights of alignment and uniformity, >= 0.
    alpha, t, gather_distributed
        As in :func:`alignment_uniformity_terms`.

    Returns
    -------
    Tensor
        A scalar. At complete collapse it is 0; with `uniform` 0 that is the minimum, with the
        default weights nearly the maximum of a model whose positives agree.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Wang & Isola 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere".

    Examples
    --------
    >>> import torch
    >>> constant = torch.ones(4, 3)
    >>> abs(round(float(alignment_uniformity(constant, constant)), 4))
    0.0
    """
    weights = (
        _checks.number("align", align, at_least=0),
        _checks.number("uniform", uniform, at_least=0),
    )
    terms = alignment_uniformity_terms(
        z_a, z_b, alpha=alpha, t=t, gather_distributed=gather_distributed
    )
    return weighted_sum(terms, weights)


class SpectralContrastiveTerms(NamedTuple):
    """The two forces of the spectral contrastive loss; their sum is the loss."""

    attraction: Tensor
    repulsion: Tensor


@in_full_precision
def spectral_contrastive_terms(
    z_a: Tensor, z_b: Tensor, *, gather_distributed: bool = False
) -> SpectralContrastiveTerms:
    r"""Split the spectral contrastive loss into the pull of positives and the push of the rest.

    .. math::

        \text{attraction} = -\frac{2}{N} \sum_i {z^a_i}^\top z^b_i, \qquad
        \text{repulsion} = \frac{1}{N(N-1)} \sum_{i \ne k} \left({z^a_i}^\top z^b_k\right)^2

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are not normalised.
    gather_distributed
        Take the batch to be that of all ranks joined, each of which gets the same value; without
        a process group it changes nothing.

    Returns
    -------
    SpectralContrastiveTerms
        At complete collapse to a vector of squared length r, attraction is -2r and repulsion
        :math:`r^2`.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    HaoChen, Wei, Gaidon & Ma 2021, "Provable guarantees for self-supervised deep learning with
    spectral contrastive loss".

    Examples
    --------
    >>> import torch
    >>> terms = spectral_contrastive_terms(torch.ones(4, 3), torch.ones(4, 3))
    >>> [float(term) for term in terms]
    [-6.0, 9.0]
    """
    z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
    if gather_distributed:
        z_a, z_b = gather(z_a), gather(z_b)
    n = len(z_a)
    products = z_a @ z_b.T
    attraction = -2 * products.diagonal().mean()
    # Zeroed, not subtracted after the sum: the diagonal may be nearly all of it.
    products.fill_diagonal_(0)
    return SpectralContrastiveTerms(attraction, sum_of_squares(products) / (n * (n - 1)))


def spectral_contrastive(z_a: Tensor, z_b: Tensor, *, gather_distributed: bool = False) -> Tensor:
    r"""Return the spectral contrastive loss, a low-rank factorisation of the augmentation graph.

    .. math::

        \ell = -\frac{2}{N} \sum_i {z^a_i}^\top z^b_i
        + \frac{1}{N(N-1)} \sum_{i \ne k} \left({z^a_i}^\top z^b_k\right)^2

    Parameters
    ----------
    z_a, z_b
        Embeddings of two views, shape (N, D), row i of both from one sample, N >= 2.
        They are not normalised: the loss sets their scale.
    gather_distributed
        As in :func:`spectral_contrastive_terms`.

    Returns
    -------
    Tensor
        A scalar. At complete collapse to a vector of squared length r it is :math:`r^2 - 2r`: 0 at
        the origin, and at best -1, with unit length. In expectation it is at least -D; on one
        batch of N <= D samples it has no minimum, since orthogonal rows may grow at no cost.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    HaoChen, Wei, Gaidon & Ma 2021, "Provable guarantees for self-supervised deep learning with
    spectral contrastive loss".

    Examples
    --------
    >>> import torch
    >>> unit = torch.tensor([[0.6, 0.8]]).expand(4, 2)
    >>> round(float(spectral_contrastive(unit, unit)), 4)
    -1.0
    """
    terms = spectral_contrastive_terms(z_a, z_b, gather_distributed=gather_distributed)
    return terms.attraction + terms.repulsion
