"""A small classifier of pictures, and what is read of it once it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse.data import stream
from repcollapse.diagnostics import NeuralCollapse, linear_probe, neural_collapse
from repcollapse.networks import mlp

HIDDEN = 128
NOISE = 0.2  # of the features' standard deviation: a reader of finite precision


class Classifier(nn.Module):
    """Rectified features of a perceptron, a last layer, and a linear decoder for one remedy.

    Examples
    --------
    >>> model = Classifier(inputs=64, width=32, outputs=2)
    >>> model.head(model.body(torch.zeros(3, 64))).shape
    torch.Size([3, 2])
    """

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        rectified = (nn.BatchNorm1d(width), nn.ReLU())
        self.body = nn.Sequential(*mlp([inputs, HIDDEN, width]), *rectified)
        self.head = nn.Linear(width, outputs)
        self.decoder = nn.Linear(width, inputs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """A network and what it makes of pictures, those trained on and those not, all on the CPU.

    Attributes
    ----------
    model
        The network.
    objective
        What it was trained by, "cross-entropy" or "supcon".
    seed
        Of everything that was drawn.
    train_labels, test_labels
        The classes of the pictures, whatever the network was told of them.
    train_targets, test_targets
        What it was told, or would have been.
    shown
        Which training pictures it was shown, shape (N,).
    features, test_features
        By step, shape (N, d), float64, normalised by the statistics of the pictures it was shown.
    heads
        By step, weight and bias of the last layer.
    """

    model: Classifier
    objective: str
    seed: int
    train_labels: Tensor
    test_labels: Tensor
    train_targets: Tensor
    test_targets: Tensor
    shown: Tensor
    features: dict[int, Tensor]
    test_features: dict[int, Tensor]
    heads: dict[int, tuple[Tensor, Tensor]]

    @property
    def last(self) -> int:
        """The step after which training ended."""
        return max(self.features)

    @property
    def h(self) -> Tensor:
        """The features of the training pictures at the end."""
        return self.features[self.last]

    @property
    def h_test(self) -> Tensor:
        """The features of the test pictures at the end."""
        return self.test_features[self.last]

    def collapse(self, step: int | None = None) -> NeuralCollapse:
        """Return NC1 to NC4 of the pictures it was trained on, at the end or before a step."""
        step = self.last if step is None else step
        weight, bias = self.heads[step]
        h, targets = self.features[step][self.shown], self.train_targets[self.shown]
        return neural_collapse(h, targets, weight=weight, bias=bias)

    @cached_property
    def history(self) -> pd.DataFrame:
        """All that :meth:`collapse` returns, a row for each step at which features were kept."""
        return pd.DataFrame([{"step": k, **self.collapse(k)._asdict()} for k in self.features])

    @cached_property
    def right(self) -> Tensor:
        """Which test pictures the last layer is right about, shape (M,).

        Raises
        ------
        ValueError
            For a network trained by "supcon", whose last layer gives no answers.
        """
        if self.objective == "supcon":
            raise ValueError("objective must be 'cross-entropy' for answers; got 'supcon'")
        weight, bias = self.heads[self.last]
        scores = F.linear(self.h_test, weight.double(), bias.double())
        return scores.argmax(dim=1) == self.test_targets

    @property
    def accuracy(self) -> float:
        """How often the last layer is :attr:`right`, of all classes, shown or not."""
        return float(self.right.double().mean())

    @cached_property
    def probe(self) -> float:
        """What a linear probe reads of the classes; of those not shown, where some were not."""
        return self._probe(0.0)

    @cached_property
    def noisy_probe(self) -> float:
        """The same with noise of a fifth of the features' standard deviation on both sides."""
        return self._probe(NOISE)

    def _probe(self, noise: float) -> float:
        deviation = noise * (self.h - self.h.mean(dim=0)).square().mean().sqrt()
        generator = stream(self.seed, "noise on features")
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
