"""Objectives without a repulsive term: they compare two views of a sample and nothing else.

What keeps such an objective from collapse, if anything does, lies outside it: in a predictor, in a
stop-gradient, in a momentum target.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._distributed import gather, mean_over_ranks, world_size
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import lengths, mean_squared_distance, unit_rows
from repcollapse.objectives._targets import detaches_target


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
    return mean_squared_distance(unit_rows(z_a), unit_rows(z_b))


@in_full_precision
def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Return the negative mean cosine of SimSiam, one direction of it.

    .. math::

        -\frac{1}{N} \sum_i \frac{p_i^\top t_i}{\lVert p_i \rVert \lVert t_i \rVert}

    Both arguments have a gradient: SimSiam's stop-gradient is the caller's `target.detach()`.

    Parameters
    ----------
    prediction, target
        The predictor's output for one view and the embedding of the other, shape (N, D), row i of
        both from one sample, N >= 2.

    Returns
    -------
    Tensor
        A scalar in [-1, 1]. At complete collapse it is -1, its minimum: the value alone cannot tell
        a perfect model from a dead one. A row of zeros has cosine 0 with everything.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Chen & He 2021, "Exploring simple Siamese representation learning", equation 1.

    Examples
    --------
    >>> import torch
    >>> float(negative_cosine(torch.eye(2), 3 * torch.eye(2)))
    -1.0
    """
    prediction, target = _checks.as_matrix_pair("prediction", prediction, "target", target)
    # Lengths divide N products and not the rows, with fewer passes over N x D.
    products = torch.linalg.vecdot(prediction, target, dim=1)
    return -(products / (lengths(prediction) * lengths(target))).mean()


@detaches_target
@in_full_precision
def byol(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Return BYOL's regression loss, one direction of it.

    .. math::

        \frac{1}{N} \sum_i \left\lVert \frac{p_i}{\lVert p_i \rVert}
        - \frac{t_i}{\lVert t_i \rVert} \right\rVert^2
        = 2 - \frac{2}{N} \sum_i \cos(p_i, t_i)

    The target is a constant: no gradient reaches it.

    Parameters
    ----------
    prediction, target
        The predictor's output for one view and the momentum network's projection of the other,
        shape (N, D), row i of both from one sample, N >= 2.

    Returns
    -------
    Tensor
        A scalar in [0, 4]. At complete collapse it is 0, its minimum: the value alone cannot tell a
        perfect model from a dead one.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Grill et al. 2020, "Bootstrap your own latent", equation 2.

    Examples
    --------
    >>> import torch
    >>> float(byol(torch.eye(2), 3 * torch.eye(2)))
    0.0
    >>> float(byol(torch.eye(2), torch.eye(2).flip(0)))
    2.0
    """
    prediction, target = _checks.as_matrix_pair("prediction", prediction, "target", target)
    return _byol(prediction, target)


def _byol(prediction: Tensor, target: Tensor) -> Tensor:
    return mean_squared_distance(unit_rows(prediction), unit_rows(target.detach()))


@detaches_target
@in_full_precision
def directpred(
    z: Tensor,
    target: Tensor,
    *,
    correlation: Tensor | None = None,
    eps: float = 0.1,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return BYOL's loss with the predictor that DirectPred sets instead of training it.

    With the correlation matrix of the predictor's input, not centred,
    :math:`F = \mathbb{E}[z z^\top] = U \operatorname{diag}(s)\, U^\top`, the predictor is

    .. math::

        W = U \operatorname{diag}(p)\, U^\top, \qquad p_j = \sqrt{s_j / s_{\max}} + \epsilon,

    and the loss :math:`\frac{1}{N} \sum_i \lVert \widehat{W z_i} - \hat t_i \rVert^2` with
    :math:`\hat x = x / \lVert x \rVert`. W and the target are constants. The loss is blind to the
    scale of W; dividing by the largest eigenvalue makes W, too, independent of the scale of z.
    The authors' code does so too (its `balance_type` "boost_scale", the one it runs DirectPred
    with), so that :math:`\epsilon` is measured against gains of at most 1.

    Parameters
    ----------
    z, target
        The online projection of one view and the target projection of the other, shape (N, D),
        row i of both from one sample, N >= 2.
    correlation
        F, shape (D, D), symmetric; from this batch if None. :class:`DirectPred` keeps a running
        average.
    eps
        :math:`\epsilon \ge 0`, the share of the identity: it lets weak directions grow.
    gather_distributed
        Without a `correlation`, take it over the joined batch of all ranks; return the mean over
        all ranks, the same on each. Without a process group it changes nothing.

    Returns
    -------
    Tensor
        A scalar in [0, 4]. At complete collapse it is 0, its minimum, as for BYOL.

    Raises
    ------
    TypeError, ValueError
        For embeddings, a correlation or an eps other than these.

    References
    ----------
    Tian, Chen & Ganguli 2021, "Understanding self-supervised learning dynamics without contrastive
    pairs", section 5.

    Examples
    --------
    >>> import torch
    >>> constant = torch.tensor([[3.0, 4.0]]).expand(4, 2)
    >>> abs(round(float(directpred(constant, constant)), 4))
    0.0
    """
    z, target = _checks.as_matrix_pair("z", z, "target", target)
    eps = _checks.number("eps", eps, at_least=0)
    if correlation is None:
        correlation = _correlation(z, gather_distributed)
    else:
        correlation = _checks.as_matrix("correlation", correlation, min_rows=1)
        _require_symmetric(correlation, z.shape[1])
    loss = _byol(z @ _direct_predictor(correlation, eps).to(z.dtype), target)
    return mean_over_ranks(loss, len(z)) if gather_distributed else loss


def _correlation(z: Tensor, gather_distributed: bool) -> Tensor:
    rows = z.detach()
    if gather_distributed:
        rows = gather(rows)
    return rows.T @ rows / len(rows)


def _require_symmetric(correlation: Tensor, dimension: int) -> None:
    if correlation.shape != (dimension, dimension):
        raise ValueError(
            f"correlation must have shape ({dimension}, {dimension}), the embeddings' D; "
            f"got shape {tuple(correlation.shape)}"
        )
    asymmetry = float((correlation - correlation.T).detach().abs().max())
    if asymmetry > 1e-3 * float(correlation.detach().abs().max()):
        raise ValueError(
            f"correlation must be symmetric; it differs from its transpose by up to {asymmetry:g}"
        )


@torch.no_grad()
def _direct_predictor(correlation: Tensor, eps: float) -> Tensor:
    """Return W of a correlation matrix; symmetric, so that rows are multiplied from the right."""
    strengths, directions = torch.linalg.eigh(correlation)
    strengths = strengths.clamp(min=0)
    # Of a matrix of zeros every strength is 0, relative to any maximum.
    largest = strengths[-1].clamp(min=torch.finfo(strengths.dtype).tiny)
    gains = (strengths / largest).sqrt() + eps
    return (directions * gains) @ directions.T


@detaches_target
class DirectPred(nn.Module):
    r"""DirectPred's loss with its running correlation: :func:`directpred` for a training loop.

    After each step, the correlation of the predictor's input moves towards that of the batch,

    .. math::

        \hat F \leftarrow \rho \hat F + (1 - \rho)\, \mathbb{E}_{\text{batch}}[z z^\top],

    and the predictor is set from it. Call the module once for each direction, then `after_step()`
    once the optimiser has stepped: both directions make one update. A forward pass in evaluation
    mode or without gradients leaves no trace. Before the first update the predictor is that of the
    batch at hand; the first update takes the batch's correlation as it is. At complete collapse the
    value is 0, its minimum, as that of :func:`directpred`.

    Parameters
    ----------
    dimension
        D, the dimension of the embeddings.
    momentum
        The paper's :math:`\rho`, in [0, 1].
    eps
        As in :func:`directpred`.
    gather_distributed
        Take the correlation over the batch of all ranks, and return the mean over all ranks, the
        same on each. Without a process group it changes nothing.

    Attributes
    ----------
    correlation
        :math:`\hat F`, shape (D, D), a buffer of at least float32.
    predictor
        W, shape (D, D), a buffer.
    updates
        How many updates there were, a buffer.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Tian, Chen & Ganguli 2021, "Understanding self-supervised learning dynamics without contrastive
    pairs", section 5.

    Examples
    --------
    >>> import torch
    >>> loss = DirectPred(2)
    >>> z = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> value = loss(z, z)
    >>> loss.after_step()
    >>> [round(float(gain), 4) for gain in loss.predictor.diagonal()]  # sqrt(4/4), sqrt(1/4); + 0.1
    [1.1, 0.6]
    """

    correlation: Tensor
    predictor: Tensor
    updates: Tensor

    def __init__(
        self,
        dimension: int,
        *,
        momentum: float = 0.3,
        eps: float = 0.1,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        self.dimension = _checks.integer("dimension", dimension, at_least=1)
        self.momentum = _checks.number("momentum", momentum, at_least=0, at_most=1)
        self.eps = _checks.number("eps", eps, at_least=0)
        self.gather_distributed = gather_distributed
        self.register_buffer("correlation", torch.zeros(self.dimension, self.dimension))
        self.register_buffer("predictor", torch.eye(self.dimension))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._products: Tensor | None = None  # sum of z z^T over the rows seen since the last step
        self._rows = 0

    @in_full_precision
    def forward(self, z: Tensor, target: Tensor) -> Tensor:
        """Return the loss of (N, D) online projections against (N, D) targets."""
        z, target = _checks.as_matrix_pair("z", z, "target", target, dimension=self.dimension)
        if self.training and torch.is_grad_enabled():
            self._note(z.detach())
        predictor = self.predictor
        if not self.updates:
            predictor = _direct_predictor(_correlation(z, self.gather_distributed), self.eps)
        loss = _byol(z @ predictor.to(z.dtype), target)
        return mean_over_ranks(loss, len(z)) if self.gather_distributed else loss

    def _note(self, z: Tensor) -> None:
        products = z.T @ z
        self._products = products if self._products is None else self._products + products
        self._rows += len(z)

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the correlation by the forward passes since the last call, and the predictor."""
        if self._products is None:
            return
        batch = self._products / self._rows
        if self.gather_distributed and world_size() > 1:
            # A state without gradient: here a sum over ranks is all that is asked for.
            distributed.all_reduce(batch)
            batch /= world_size()
        if self.updates:
            batch = torch.lerp(batch, self.correlation.to(batch.dtype), self.momentum)
        self.correlation.copy_(batch)
        with torch.autocast(batch.device.type, enabled=False):
            self.predictor.copy_(_direct_predictor(batch, self.eps))
        self.updates += 1
        self._products, self._rows = None, 0

    def extra_repr(self) -> str:
        """Return the settings, for `repr`."""
        return (
            f"{self.dimension}, momentum={self.momentum}, eps={self.eps}, "
            f"gather_distributed={self.gather_distributed}"
        )
