"""Neural collapse in a network: a perceptron is told the classes of pictures, or less than that.

What is read of it is in :mod:`repcollapse.modes.classifier`; where its features go in the end, in
:mod:`repcollapse.modes.free_features`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import stream
from repcollapse.modes.classifier import Classifier, Trained
from repcollapse.modes.fitting import fit
from repcollapse.modes.pictures import Pictures, pictures
from repcollapse.modes.supcon import supcon
from repcollapse.networks import calibrate_batch_norm
from repcollapse.training import pick_device

TASKS = ("classes", "parity", "first half")
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": F.cross_entropy,
    "supcon": supcon,
}
BATCH = 128
LR, MOMENTUM = 0.1, 0.9


@dataclass(frozen=True)
class Setting:
    r"""What a classifier is told of its pictures, and what its loss asks of it.

    .. math::

        \mathrm{CE}(W h, y) + \rho \, \tfrac{1}{P} \lVert \hat x(h) - x \rVert^2
        + \tfrac{\lambda}{2} \lVert \theta \rVert^2
        + \tfrac{\alpha}{2} \lVert \theta_b - \theta_b^0 \rVert^2

    with P pixels, :math:`\hat x` a linear decoder, :math:`\theta` all parameters, and
    :math:`\theta_b` those of the body, which start at :math:`\theta_b^0`.

    Attributes
    ----------
    task
        "classes"; "parity", whether the number of the class is odd; or "first half": classes, of
        which those in the first half alone are shown.
    decay, reconstruct
        :math:`\lambda` and :math:`\rho`, >= 0.
    width
        How many features h has, >= 1.
    objective
        "cross-entropy", or "supcon" in its place, on the last layer's outputs, which are then as
        many as the features.
    anchor
        :math:`\alpha \ge 0`. Where it is above 0, the body does not decay (L2-SP, Li et al. 2018).

    Raises
    ------
    TypeError, ValueError
        For anything other than these.
    """

    task: str
    decay: float
    width: int = 32
    reconstruct: float = 0.0
    objective: str = "cross-entropy"
    anchor: float = 0.0

    def __post_init__(self) -> None:
        _checks.choice("task", self.task, TASKS)
        _checks.choice("objective", self.objective, OBJECTIVES)
        _checks.number("decay", self.decay, at_least=0)
        _checks.number("reconstruct", self.reconstruct, at_least=0)
        _checks.number("anchor", self.anchor, at_least=0)
        _checks.integer("width", self.width, at_least=1)


def train(
    setting: Setting,
    seed: int,
    *,
    steps: int,
    dataset: str = "digits",
    start: Classifier | None = None,
    at: Collection[int] = (),
    device: str = "auto",
) -> Trained:
    """Train a classifier, and return what it makes of all pictures.

    By stochastic gradient descent with momentum, whose rate falls from 0.1 along a cosine.

    Parameters
    ----------
    setting
        What it is told, and how it is judged.
    seed
        Of the split, of the order and of the probes' noise. The weights come from torch's global
        generator, which :func:`repcollapse.modes.runs.once` seeds.
    steps
        How many, >= 0.
    dataset
        Which pictures, as in :func:`repcollapse.data.load`; each channel is standardised.
    start
        A network of the same width whose body is taken over.
    at
        The steps before which features are kept, beside the last.
    device
        Where it is trained: "auto", "cpu" or "cuda".

    Returns
    -------
    Trained
        Features, heads and what they were told, all on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    FloatingPointError
        Where the loss is not finite.

    Examples
    --------
    >>> run = train(Setting("parity", decay=0.0), 0, steps=0)
    >>> run.h.shape, run.model.head.out_features
    (torch.Size([1300, 32]), 2)
    """
    steps = _checks.integer("steps", steps, at_least=0)
    place = pick_device(device)
    seen = pictures(dataset, seed).each(lambda images: images.flatten(1)).to(place)
    told, told_test, shown = _told(setting.task, seen)
    supervised = setting.objective == "cross-entropy"
    outputs = int(told[shown].max()) + 1 if supervised else setting.width
    model = Classifier(seen.train.shape[1], setting.width, outputs)
    if start is not None:
        model.body.load_state_dict(start.body.state_dict())
    model.to(place)
    rows, targets = seen.train[shown], told[shown]
    draw = batches(len(rows), stream(seed, "batches of a classifier"))
    judge = OBJECTIVES[setting.objective]
    body = list(model.body.parameters())
    began = [parameter.detach().clone() for parameter in body]
    features, test_features = {}, {}
    heads = {}

    def loss(step: int) -> Tensor:
        batch = draw().to(place)
        h = model.body(rows[batch])
        value = judge(model.head(h), targets[batch])
        if setting.reconstruct:
            value = value + setting.reconstruct * F.mse_loss(model.decoder(h), rows[batch])
        if setting.anchor:
            moved = sum((p - q).square().sum() for p, q in zip(body, began, strict=True))
            value = value + setting.anchor / 2 * moved
        return value

    def keep(step: int) -> None:
        # While weights move fast, running statistics lag behind them.
        calibrate_batch_norm(model.body, [(rows,)])
        model.eval()
        features[step] = model.body(seen.train).double().cpu()
        test_features[step] = model.body(seen.test).double().cpu()
        heads[step] = model.head.weight.cpu().clone(), model.head.bias.cpu().clone()
        model.train()

    others = [*model.head.parameters()]
    others += model.decoder.parameters() if setting.reconstruct else []
    body_decay = 0.0 if setting.anchor else setting.decay
    groups: list[dict[str, Any]] = [
        {"params": body, "weight_decay": body_decay},
        {"params": others},
    ]
    descent = torch.optim.SGD(
        groups, lr=LR, momentum=MOMENTUM, weight_decay=setting.decay, fused=True
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(descent, max(steps, 1))
    fit(descent, loss, steps=steps, schedule=falling, watch=keep, at={*at, steps})
    return Trained(
        model=model.eval().cpu(),
        objective=setting.objective,
        seed=seed,
        train_labels=seen.train_labels.cpu(),
        test_labels=seen.test_labels.cpu(),
        train_targets=told.cpu(),
        test_targets=told_test.cpu(),
        shown=shown.cpu(),
        features=features,
        test_features=test_features,
        heads=heads,
    )


def _told(task: str, seen: Pictures) -> tuple[Tensor, Tensor, Tensor]:
    """Return the targets of training and of test pictures, and which training ones are shown."""
    labels, test_labels = seen.train_labels, seen.test_labels
    shown = torch.ones_like(labels, dtype=torch.bool)
    if task == "parity":
        return labels % 2, test_labels % 2, shown
    return labels, test_labels, labels < seen.classes // 2 if task == "first half" else shown


def batches(count: int, generator: torch.Generator) -> Callable[[], Tensor]:
    """Return what draws the next batch: every row once, then all in another order.

    Parameters
    ----------
    count
        How many rows there are, >= 1.
    generator
        What an order is drawn from.

    Returns
    -------
    Callable
        Without arguments, it returns the indices of 128 rows, of all where there are fewer. What an
        order has left beyond whole batches is not shown.

    Examples
    --------
    >>> draw = batches(300, torch.Generator().manual_seed(0))
    >>> len(torch.cat([draw(), draw()]).unique())
    256
    """
    order = torch.empty(0, dtype=torch.int64)

    def draw() -> Tensor:
        nonlocal order
        if len(order) < min(BATCH, count):
            order = torch.randperm(count, generator=generator)
        batch, order = order[:BATCH], order[BATCH:]
        return batch

    return draw
