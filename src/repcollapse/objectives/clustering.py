"""Objectives that compare two views by the prototypes they are assigned to."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.objectives._distributed import gather, world_size
from repcollapse.objectives._precision import in_full_precision
from repcollapse.objectives._rows import unit_rows
from repcollapse.objectives._targets import detaches_target


@in_full_precision
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return soft assignments to prototypes of which each gets its equal share of the batch.

    Rows and columns of :math:`e^{S / \epsilon}` are rescaled in turn, prototypes first, in
    logarithms:

    .. math::

        Q = \operatorname{diag}(u)\, e^{S / \epsilon} \operatorname{diag}(v), \qquad
        \sum_k Q_{nk} = 1, \quad \sum_n Q_{nk} = N / K.

    Parameters
    ----------
    scores
        S, shape (N, K): similarity of N >= 2 samples to K prototypes.
    epsilon
        Entropy of the assignment, > 0; the smaller, the harder.
    iterations
        Rescalings of both kinds, >= 1.
    gather_distributed
        Balance the joined batch of all ranks, and return this rank's rows of it; without a process
        group it changes nothing.

    Returns
    -------
    Tensor
        Codes, shape (N, K), without gradient. Rows sum to 1; columns to N / K in the limit of many
        iterations, and after 3 only roughly. At complete collapse rows are equal, so that all codes
        are uniform, 1 / K.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Cuturi 2013, "Sinkhorn distances"; Caron et al. 2020, "Unsupervised learning of visual features
    by contrasting cluster assignments", equations 3 to 5.

    Examples
    --------
    >>> import torch
    >>> sinkhorn(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    scores = _checks.as_matrix("scores", scores)
    epsilon = _checks.number("epsilon", epsilon, above=0)
    iterations = _checks.integer("iterations", iterations, at_least=1)
    rows = len(scores)
    with torch.no_grad():
        codes = _balance((gather(scores) if gather_distributed else scores) / epsilon, iterations)
        if gather_distributed and world_size() > 1:
            first = rows * distributed.get_rank()
            codes = codes[first : first + rows]
        return codes


def _balance(log_codes: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations - 1):
        log_codes = log_codes.log_softmax(dim=0).log_softmax(dim=1)
    return log_codes.log_softmax(dim=0).softmax(dim=1)


@in_full_precision
def swav(
    scores_a: Tensor,
    scores_b: Tensor,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    balance: bool = True,
    gather_distributed: bool = False,
) -> Tensor:
    r"""Return the swapped prediction of SwAV: each view predicts the code of the other.

    .. math::

        -\frac{1}{2N} \sum_n \sum_k \left(
        q^b_{nk} \log p^a_{nk} + q^a_{nk} \log p^b_{nk} \right), \qquad
        p = \operatorname{softmax}(S / \tau), \quad q = \operatorname{sinkhorn}(S)

    Codes are constants. This is the mean over the two predictions, as in the authors' code; the
    paper's equation 1 is their sum.

    Parameters
    ----------
    scores_a, scores_b
        Similarities to K prototypes, shape (N, K), row i of both from one sample, N >= 2:
        cosines, as from :class:`Prototypes`.
    temperature
        :math:`\tau > 0` of the predictions.
    epsilon, iterations
        As in :func:`sinkhorn`.
    balance
        Without it codes are :math:`\operatorname{softmax}(S / \epsilon)`, sharpened and nothing
        else: SwAV without Sinkhorn.
    gather_distributed
        Take the batch of all ranks; without a process group it changes nothing.

    Returns
    -------
    Tensor
        A scalar in nats, >= 0. With equal scores it is :math:`\log K`. When all samples go to one
        prototype it is at least :math:`\log K` with `balance`, and 0, the minimum, without
        (:math:`\log(1 + (K - 1) e^{-2/\tau})` at best for cosines).

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster
    assignments".

    Examples
    --------
    >>> import torch
    >>> equal = torch.zeros(4, 8)
    >>> round(float(swav(equal, equal)), 4)  # log 8
    2.0794
    >>> one = 10 * torch.eye(8)[:1].expand(4, 8)
    >>> abs(round(float(swav(one, one, balance=False)), 4))
    0.0
    """
    scores_a, scores_b = _checks.as_matrix_pair("scores_a", scores_a, "scores_b", scores_b)
    temperature = _checks.number("temperature", temperature, above=0)
    epsilon = _checks.number("epsilon", epsilon, above=0)
    iterations = _checks.integer("iterations", iterations, at_least=1)
    if gather_distributed:
        scores_a, scores_b = gather(scores_a), gather(scores_b)
    scaled_a, scaled_b = scores_a.detach() / epsilon, scores_b.detach() / epsilon
    if balance:
        codes_a, codes_b = _balance(scaled_a, iterations), _balance(scaled_b, iterations)
    else:
        codes_a, codes_b = scaled_a.softmax(dim=1), scaled_b.softmax(dim=1)
    a_from_b = F.cross_entropy(scores_b / temperature, codes_a)
    b_from_a = F.cross_entropy(scores_a / temperature, codes_b)
    return (a_from_b + b_from_a) / 2


class Prototypes(nn.Module):
    r"""Directions to compare embeddings with.

    .. math::

        S_{nk} = \frac{z_n^\top c_k}{\lVert z_n \rVert \lVert c_k \rVert}

    Normalising rows in the forward pass keeps the prototypes on the sphere, whatever the optimiser.

    Parameters
    ----------
    dimension
        D, of the embeddings.
    count
        K >= 2, of prototypes; random directions at the start, from torch's default generator.

    Raises
    ------
    TypeError, ValueError
        For sizes other than these, and on call for embeddings that are not (N, D).

    Examples
    --------
    >>> import torch
    >>> Prototypes(3, 5)(torch.ones(4, 3)).shape
    torch.Size([4, 5])
    """

    def __init__(self, dimension: int, count: int) -> None:
        super().__init__()
        dimension = _checks.integer("dimension", dimension, at_least=1)
        count = _checks.integer("count", count, at_least=2)
        self.weight = nn.Parameter(unit_rows(torch.randn(count, dimension)))

    def forward(self, z: Tensor) -> Tensor:
        """Return the cosines of (N, D) embeddings with the prototypes, shape (N, K)."""
        return _cosines(z, self.weight)

    def extra_repr(self) -> str:
        """Return the sizes."""
        count, dimension = self.weight.shape
        return f"dimension={dimension}, count={count}"


@in_full_precision
def _cosines(z: Tensor, weight: Tensor) -> Tensor:
    z = _checks.as_matrix("z", z)
    if z.shape[1] != weight.shape[1]:
        raise ValueError(
            f"z must have shape (N, {weight.shape[1]}), the dimension of the prototypes; "
            f"got shape {tuple(z.shape)}"
        )
    return unit_rows(z) @ unit_rows(weight.to(z)).T


class SwAV(nn.Module):
    r"""SwAV with its prototypes: :func:`swav` of the scores of two views.

    Parameters
    ----------
    dimension
        D, of the embeddings.
    prototypes
        K >= 2. They learn with the encoder: give their parameters to the optimiser.
    temperature, epsilon, iterations, balance, gather_distributed
        As in :func:`swav`.

    Notes
    -----
    At complete collapse the value is :math:`\log K` or more (by how much, the scores of the one
    direction that is left decide); without `balance` and with all samples at one prototype, near 0.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster
    assignments".

    Examples
    --------
    >>> import torch
    >>> objective = SwAV(16, prototypes=8)
    >>> loss = objective(torch.randn(32, 16), torch.randn(32, 16))
    >>> loss.backward()
    >>> objective.prototypes.weight.grad.shape
    torch.Size([8, 16])
    """

    def __init__(
        self,
        dimension: int,
        *,
        prototypes: int = 32,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        balance: bool = True,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        prototypes = _checks.integer("prototypes", prototypes, at_least=2)
        self.prototypes = Prototypes(dimension, prototypes)
        self.temperature = _checks.number("temperature", temperature, above=0)
        self.epsilon = _checks.number("epsilon", epsilon, above=0)
        self.iterations = _checks.integer("iterations", iterations, at_least=1)
        self.balance = balance
        self.gather_distributed = gather_distributed

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """Return the objective for two views, shape (N, D) each."""
        z_a, z_b = _checks.as_matrix_pair("z_a", z_a, "z_b", z_b)
        return swav(
            self.prototypes(z_a),
            self.prototypes(z_b),
            temperature=self.temperature,
            epsilon=self.epsilon,
            iterations=self.iterations,
            balance=self.balance,
            gather_distributed=self.gather_distributed,
        )

    def after_step(self) -> None:
        """Do nothing: SwAV has no state beside its parameters."""


class DINOTerms(NamedTuple):
    """The two parts of DINO's cross entropy; their sum is the loss."""

    entropy: Tensor
    divergence: Tensor


@in_full_precision
def dino_terms(
    student: Tensor,
    teacher: Tensor,
    *,
    center: Tensor | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> DINOTerms:
    r"""Split DINO into the entropy of the teacher and the divergence of the student from it.

    .. math::

        \text{entropy} = -\frac{1}{N} \sum_n \sum_k p^t_{nk} \log p^t_{nk}, \qquad
        \text{divergence} = \frac{1}{N} \sum_n \sum_k p^t_{nk} \log \frac{p^t_{nk}}{p^s_{nk}}

    with the distributions of :func:`dino`. The entropy has no gradient, and tells the two kinds of
    collapse apart: the divergence is 0 in both.

    Parameters
    ----------
    student, teacher, center, student_temperature, teacher_temperature
        As in :func:`dino`.

    Returns
    -------
    DINOTerms
        Scalars >= 0 in nats. At complete collapse the divergence is 0 and the entropy
        :math:`\log K` (uniform outputs: centring without sharpening) or 0 (one-hot outputs:
        sharpening without centring).

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Caron et al. 2021, "Emerging properties in self-supervised vision transformers", section 5.3.

    Examples
    --------
    >>> import torch
    >>> terms = dino_terms(torch.zeros(4, 8), torch.zeros(4, 8))
    >>> [round(float(term), 4) for term in terms]  # log 8 and 0
    [2.0794, 0.0]
    """
    student, teacher = _scaled(student, teacher, center, student_temperature, teacher_temperature)
    log_student, log_teacher = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
    p = log_teacher.exp()
    entropy = -(p * log_teacher).sum(dim=1).mean()
    return DINOTerms(entropy, (p * (log_teacher - log_student)).sum(dim=1).mean())


@detaches_target
@in_full_precision
def dino(
    student: Tensor,
    teacher: Tensor,
    *,
    center: Tensor | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    r"""Return the cross entropy between the outputs of a teacher and of a student.

    .. math::

        -\frac{1}{N} \sum_n \sum_k p^t_{nk} \log p^s_{nk}, \qquad
        p^t = \operatorname{softmax}\left((t - c) / \tau_t\right), \quad
        p^s = \operatorname{softmax}(s / \tau_s)

    One-sided: call it twice, with the views exchanged, for the symmetric loss.

    Parameters
    ----------
    student, teacher
        Outputs s and t, shape (N, K), row i of both from one sample, N >= 2. The teacher's is a
        constant.
    center
        c, shape (K,); none by default. A running mean of t, see :class:`DINO`.
    student_temperature, teacher_temperature
        :math:`\tau_s, \tau_t > 0`; the teacher is sharper where :math:`\tau_t < \tau_s`.

    Returns
    -------
    Tensor
        A scalar in nats, >= 0. At complete collapse :math:`\log K` when outputs are uniform, 0 when
        they are one-hot.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Caron et al. 2021, "Emerging properties in self-supervised vision transformers".

    Examples
    --------
    >>> import torch
    >>> round(float(dino(torch.zeros(4, 4096), torch.zeros(4, 4096))), 4)
    8.3178
    """
    student, teacher = _scaled(student, teacher, center, student_temperature, teacher_temperature)
    return F.cross_entropy(student, teacher.softmax(dim=1))


def _scaled(
    student: Any,
    teacher: Any,
    center: Any,
    student_temperature: float,
    teacher_temperature: float,
) -> tuple[Tensor, Tensor]:
    student, teacher = _checks.as_matrix_pair("student", student, "teacher", teacher)
    student_temperature = _checks.number("student_temperature", student_temperature, above=0)
    teacher_temperature = _checks.number("teacher_temperature", teacher_temperature, above=0)
    teacher = teacher.detach()
    if center is not None:
        if not isinstance(center, Tensor) or center.shape != teacher.shape[1:]:
            given = tuple(center.shape) if isinstance(center, Tensor) else type(center).__name__
            raise ValueError(
                f"center must be a tensor of shape ({teacher.shape[1]},), a value an output; "
                f"got {given}"
            )
        teacher = teacher - center.detach()
    return student / student_temperature, teacher / teacher_temperature


@detaches_target
class DINO(nn.Module):
    r"""DINO with its prototypes and its centre: :func:`dino` of a student's scores and a teacher's.

    The last layer of both networks is here, cosines with K prototypes as in :class:`Prototypes`.
    The student's learn; the teacher's follow them, and the centre follows the teacher's scores,

    .. math::

        C^t \leftarrow m\, C^t + (1 - m)\, C^s, \qquad
        c \leftarrow m_c\, c + (1 - m_c)\, \bar t,

    once an optimiser step, when :meth:`after_step` is called.

    Parameters
    ----------
    dimension
        D, of the embeddings.
    prototypes
        K >= 2. The student's are parameters: give them to the optimiser.
    student_temperature, teacher_temperature
        As in :func:`dino`. At equal temperatures nothing sharpens.
    center
        Centre the teacher's scores.
    center_momentum, momentum
        :math:`m_c` and m in [0, 1]. The teacher's network has to follow at the same m:
        :class:`repcollapse.networks.JointEmbedding` refuses another.
    gather_distributed
        Take the batch of all ranks, for the centre and for the loss; without a process group it
        changes nothing.

    Notes
    -----
    `forward(student, teacher)` takes embeddings of shape (N, D); the teacher's are a constant. In
    training mode with gradients enabled it adds the teacher's scores to the mean that `after_step`
    takes into the centre: both directions of a symmetric loss, or several small batches, make one
    update. Without such a forward `after_step` does nothing.

    At complete collapse the value is :math:`\log K` (uniform) or near 0 (one prototype for all; for
    cosines :math:`\log(1 + (K - 1) e^{-2/\tau_s})` is the least, 6e-8 at the defaults).

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    References
    ----------
    Caron et al. 2021, "Emerging properties in self-supervised vision transformers".

    Examples
    --------
    >>> import torch
    >>> objective = DINO(16, prototypes=8)
    >>> loss = objective(torch.randn(32, 16), torch.randn(32, 16))
    >>> objective.after_step()
    >>> bool(objective.center.abs().max() > 0)
    True
    """

    center: Tensor
    teacher_weight: Tensor
    _sum: Tensor | float

    def __init__(
        self,
        dimension: int,
        *,
        prototypes: int = 32,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center: bool = True,
        center_momentum: float = 0.9,
        momentum: float = 0.99,
        gather_distributed: bool = False,
    ) -> None:
        super().__init__()
        count = _checks.integer("prototypes", prototypes, at_least=2)
        self.prototypes = Prototypes(dimension, count)
        self.student_temperature = _checks.number(
            "student_temperature", student_temperature, above=0
        )
        self.teacher_temperature = _checks.number(
            "teacher_temperature", teacher_temperature, above=0
        )
        self.centering = center
        self.center_momentum = _checks.number(
            "center_momentum", center_momentum, at_least=0, at_most=1
        )
        self.target_momentum = _checks.number("momentum", momentum, at_least=0, at_most=1)
        self.gather_distributed = gather_distributed
        self.register_buffer("center", torch.zeros(count))
        self.register_buffer("teacher_weight", self.prototypes.weight.detach().clone())
        self._forget()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the objective for a student's embeddings and a teacher's, shape (N, D) each."""
        student, teacher = _checks.as_matrix_pair("student", student, "teacher", teacher)
        scores = self.prototypes(student)
        target = _cosines(teacher.detach(), self.teacher_weight)
        if self.gather_distributed:
            scores, target = gather(scores), gather(target)
        if self.training and torch.is_grad_enabled():
            self._rows += len(target)
            self._sum = self._sum + target.sum(dim=0)
        return dino(
            scores,
            target,
            center=self.center if self.centering else None,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
        )

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the centre and the teacher's prototypes; call it after each optimiser step."""
        if self._rows == 0:
            return
        if self.centering:
            mean = torch.as_tensor(self._sum / self._rows).to(self.center)
            self.center.lerp_(mean, 1 - self.center_momentum)
        self.teacher_weight.lerp_(self.prototypes.weight, 1 - self.target_momentum)
        self._forget()

    def _forget(self) -> None:
        self._rows = 0
        self._sum = 0.0
