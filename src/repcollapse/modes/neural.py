"""Neural collapse in a network: what a classifier leaves of its pictures, and what it does not.

A small perceptron is told the classes of pictures, or less than that, and its features are read.
Where they go in the end is in :mod:`repcollapse.modes.free_features`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks, data
from repcollapse.diagnostics import NeuralCollapse, linear_probe, neural_collapse
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp

TASKS = ("classes", "parity", "first half")
OBJECTIVES = ("cross-entropy", "supcon")
HIDDEN, BATCH = 128, 128
LR, MOMENTUM = 0.1, 0.9
NORM_MOMENTUM = 0.1  # torch's own
NOISE = 0.2  # of the features' standard deviation: a reader of finite precision


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


class Classifier(nn.Module):
    """Rectified features of a perceptron, a last layer, and a linear decoder for one remedy."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        rectified = (nn.BatchNorm1d(width), nn.ReLU())
        self.body = nn.Sequential(*mlp([inputs, HIDDEN, width]), *rectified)
        self.head = nn.Linear(width, outputs)
        self.decoder = nn.Linear(width, inputs)


@dataclass(frozen=True)
class Trained:
    """A network and what it makes of pictures, those trained on and those not.

    Attributes
    ----------
    model
        The network.
    train_labels, test_labels
        The classes of the pictures, whatever the network was told of them.
    train_targets, test_targets
        What it was told.
    shown
        Which training pictures it was shown, shape (N,).
    features, test_features
        By step, shape (N, d), float64, normalised by the statistics of the pictures it was shown.
    heads
        By step, weight and bias of the last layer.
    seed
        Of everything that was drawn.
    """

    model: Classifier
    train_labels: Tensor
    test_labels: Tensor
    train_targets: Tensor
    test_targets: Tensor
    shown: Tensor
    features: dict[int, Tensor]
    test_features: dict[int, Tensor]
    heads: dict[int, tuple[Tensor, Tensor]]
    seed: int

    @property
    def h(self) -> Tensor:
        """The features of the training pictures at the end."""
        return self.features[max(self.features)]

    @property
    def h_test(self) -> Tensor:
        """The features of the test pictures at the end."""
        return self.test_features[max(self.test_features)]

    def collapse(self, step: int | None = None) -> NeuralCollapse:
        """Return NC1 to NC4 of the pictures it was trained on, at the end or before a step."""
        step = max(self.features) if step is None else step
        weight, bias = self.heads[step]
        h, targets = self.features[step][self.shown], self.train_targets[self.shown]
        return neural_collapse(h, targets, weight=weight, bias=bias)

    @cached_property
    def right(self) -> Tensor:
        """Which test pictures the last layer is right about, shape (M,)."""
        weight, bias = self.heads[max(self.heads)]
        scores = F.linear(self.h_test, weight.double(), bias.double())
        return scores.argmax(dim=1) == self.test_targets

    @property
    def accuracy(self) -> float:
        """How often the last layer is right about test pictures."""
        return float(self.right.double().mean())

    @cached_property
    def probe(self) -> float:
        """What :func:`linear_probe` reads of the classes; of those not shown, where some were."""
        return self._probe(0.0)

    @cached_property
    def noisy_probe(self) -> float:
        """The same with noise of a fifth of the features' standard deviation on both sides."""
        return self._probe(NOISE)

    def _probe(self, noise: float) -> float:
        deviation = noise * (self.h - self.h.mean(dim=0)).square().mean().sqrt()
        generator = data.stream(self.seed, "noise on features")
        h, h_test = (
            rows + deviation * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
            for rows in (self.h, self.h_test)
        )
        asked, asked_test = torch.ones_like(self.shown), torch.ones(len(h_test), dtype=torch.bool)
        if not bool(self.shown.all()):
            asked = ~self.shown
            asked_test = torch.isin(self.test_labels, self.train_labels[asked])
        return linear_probe(
            h[asked], self.train_labels[asked], h_test[asked_test], self.test_labels[asked_test]
        )


def train(
    seed: int,
    *,
    dataset: str,
    task: str,
    decay: float,
    steps: int,
    width: int = 32,
    reconstruct: float = 0.0,
    objective: str = "cross-entropy",
    start: Classifier | None = None,
    at: Collection[int] = (),
    device: torch.device | str = "cpu",
) -> Trained:
    r"""Train a classifier, and return what it makes of all pictures.

    .. math::

        \mathrm{CE}(W h, y) + \rho \, \tfrac{1}{P} \lVert \hat x(h) - x \rVert^2
        + \tfrac{\lambda}{2} \lVert \theta \rVert^2

    with P pixels, by stochastic gradient descent whose rate falls from 0.1 along a cosine. From
    `seed` follow the split, the start and the order.

    Parameters
    ----------
    seed, dataset
        Which pictures; standardised by the mean and deviation of all training pixels.
    task
        "classes"; "parity", whether the number of the class is odd; or "first half": classes,
        shown those in the first half alone.
    decay, reconstruct
        :math:`\lambda` and :math:`\rho`, >= 0. The decay is of all parameters.
    steps, width
        How many, and how many features.
    objective
        "cross-entropy", or "supcon" on the last layer's outputs, then as wide as the features.
    start
        A network of the same width whose body is taken over.
    at
        The steps before which features are kept, beside the last.
    device
        Where it is trained; what is returned is on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    FloatingPointError
        Where the loss is not finite.

    Examples
    --------
    >>> run = train(0, dataset="digits", task="parity", decay=0.0, steps=0)
    >>> run.h.shape, run.model.head.out_features
    (torch.Size([1300, 32]), 2)
    """
    _checks.choice("task", task, TASKS)
    _checks.choice("objective", objective, OBJECTIVES)
    steps = _checks.integer("steps", steps, at_least=0)
    decay = _checks.number("decay", decay, at_least=0)
    reconstruct = _checks.number("reconstruct", reconstruct, at_least=0)
    pictures = data.load(dataset, seed=seed)
    x, x_test = (split.images.flatten(1) for split in (pictures.train, pictures.test))
    deviation, mean = torch.std_mean(x)
    x, x_test = ((rows - mean) / deviation for rows in (x, x_test))
    labels, test_labels = pictures.train.labels, pictures.test.labels
    classes = len(pictures.class_names)
    told, told_test = (y % 2 if task == "parity" else y for y in (labels, test_labels))
    shown = labels < classes // 2 if task == "first half" else torch.ones_like(labels).bool()
    outputs = int(told[shown].max()) + 1 if objective == "cross-entropy" else width
    model = Classifier(x.shape[1], width, outputs)
    if start is not None:
        model.body.load_state_dict(start.body.state_dict())
    model.to(device)
    x, x_test, rows = x.to(device), x_test.to(device), x[shown].to(device)
    y = told[shown].to(device)
    kept: dict[int, Tensor] = {}
    kept_test: dict[int, Tensor] = {}
    heads: dict[int, tuple[Tensor, Tensor]] = {}

    def watch(step: int) -> None:
        _calibrate(model.body, rows)
        model.eval()
        kept[step], kept_test[step] = (model.body(each).double().cpu() for each in (x, x_test))
        heads[step] = model.head.weight.cpu().clone(), model.head.bias.cpu().clone()
        model.train()

    draw = _batches(len(rows))
    judge = F.cross_entropy if objective == "cross-entropy" else supcon

    def loss(step: int) -> Tensor:
        batch = draw()
        h = model.body(rows[batch])
        answers = model.head(h)
        value = judge(answers, y[batch])
        if reconstruct:
            value = value + reconstruct * F.mse_loss(model.decoder(h), rows[batch])
        return value

    used = [model.body, model.head, *([model.decoder] if reconstruct else [])]
    descent = torch.optim.SGD(
        [parameter for part in used for parameter in part.parameters()],
        lr=LR,
        momentum=MOMENTUM,
        weight_decay=decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(descent, max(steps, 1))
    fit(descent, loss, steps=steps, schedule=schedule, watch=watch, at={*at, steps})
    model.eval().cpu()
    return Trained(model, labels, test_labels, told, told_test, shown, kept, kept_test, heads, seed)


def _calibrate(body: nn.Module, rows: Tensor) -> None:
    """Take batch norm's running statistics from `rows`: while weights move fast, they lag."""
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over what comes
    body.train()(rows)
    for norm in norms:
        norm.momentum = NORM_MOMENTUM


def _batches(count: int) -> Callable[[], Tensor]:
    """Return what draws the next batch: every row once, then all in another order."""
    order = torch.empty(0, dtype=torch.int64)

    def draw() -> Tensor:
        nonlocal order
        if len(order) < min(BATCH, count):
            order = torch.randperm(count)
        batch, order = order[:BATCH], order[BATCH:]
        return batch

    return draw
