"""A small classifier, and what can be done for it so that it goes on learning.

Recycle its dormant units, draw it anew in whole or in part, or add a pull to how it began.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from repcollapse.checkups import unit_scores
from repcollapse.networks import mlp

CLASSES, WIDTH = 10, 64
RECYCLED = 0.1  # the score up to which a unit is recycled
L2 = 1e-3
HEADS, SCALE, INFER = 10, 10.0, 0.1


class Learner(nn.Module):
    """Two hidden layers and a readout; `hidden` gives the activations of both layers."""

    def __init__(self, inputs: int, *, norm: str = "none") -> None:
        super().__init__()
        self.body = mlp([inputs, WIDTH, WIDTH, CLASSES], norm=norm)

    def hidden(self, x: Tensor) -> list[Tensor]:
        """Return what the two hidden layers make of x, after the rectifier."""
        found = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.body(x)

    @property
    def linear(self) -> list[nn.Linear]:
        """The three linear layers, the readout last."""
        return [layer for layer in self.body if isinstance(layer, nn.Linear)]


def recycle(model: Learner, optimizer: torch.optim.Optimizer, x: Tensor) -> int:
    """Recycle the units whose score is at most 0.1 as ReDo does, and return how many they are.

    Incoming weights are drawn anew, outgoing ones set to zero, and the optimiser forgets both.

    Parameters
    ----------
    model
        Changed in place.
    optimizer
        Adam over the model's weights, after a step or more.
    x
        Inputs by which units are scored, shape (N, inputs).

    References
    ----------
    Sokar et al. 2023, algorithm 1.
    """
    with torch.no_grad():
        layers, recycled = model.linear, 0
        for index, activations in enumerate(model.hidden(x)):
            dead = unit_scores(activations) <= RECYCLED
            incoming, outgoing = layers[index], layers[index + 1]
            fresh = nn.Linear(incoming.in_features, incoming.out_features).to(x.device)
            incoming.weight[dead], incoming.bias[dead] = fresh.weight[dead], fresh.bias[dead]
            outgoing.weight[:, dead] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                for weight in (incoming.weight, incoming.bias):
                    optimizer.state[weight][name][dead] = 0
                optimizer.state[outgoing.weight][name][:, dead] = 0
            recycled += int(dead.sum())
    return recycled


def fresh_start(model: Learner, optimizer: torch.optim.Optimizer, *, kept: float = 0.0) -> None:
    """Replace the weights w by `kept` w + (1 - `kept`) fresh ones; the optimiser forgets all.

    Parameters
    ----------
    model, optimizer
        Changed in place. Fresh weights are drawn from torch's global generator.
    kept
        In [0, 1]: 0 draws all anew, and at 1 only the optimiser forgets.

    References
    ----------
    Ash & Adams 2020, "On warm-starting neural network training", section 4.
    """
    inputs, place = model.linear[0].in_features, model.linear[0].weight.device
    norm = "layer" if any(isinstance(layer, nn.LayerNorm) for layer in model.body) else "none"
    other = Learner(inputs, norm=norm).to(place)
    with torch.no_grad():
        for weight, fresh in zip(model.parameters(), other.parameters(), strict=True):
            weight.mul_(kept).add_(fresh, alpha=1 - kept)
    optimizer.state.clear()


def penalty(arm: str, model: Learner, heads: nn.Linear, x: Tensor) -> Callable[[Tensor], Tensor]:
    r"""Return what an arm adds to the loss, as a function of the second layer's activations h.

    L2 Init adds :math:`10^{-3} \lVert \theta - \theta_0 \rVert^2`, with the weights
    :math:`\theta_0` as they are at this call; InFeR adds a tenth of the mean squared distance of
    V h from ten times what the heads V read at this call; the others nothing.

    Parameters
    ----------
    arm
        One of :data:`repcollapse.modes.plasticity.ARMS`.
    model, heads
        The network, and InFeR's linear heads on its second layer, which learn with it.
    x
        The inputs, shape (N, inputs).

    References
    ----------
    Kumar et al. 2023, equation 1; Lyle et al. 2022, section 4.
    """
    if "L2 Init" in arm:
        weights = list(model.parameters())
        origin = parameters_to_vector(weights).detach().clone()
        return lambda hidden: L2 * (parameters_to_vector(weights) - origin).square().sum()
    if arm == "InFeR":
        with torch.no_grad():
            aim = SCALE * heads(model.hidden(x)[-1])
        return lambda hidden: INFER * F.mse_loss(heads(hidden), aim)
    return lambda hidden: hidden.new_zeros(())
