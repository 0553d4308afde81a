"""A small classifier, and what can be done for it so that it goes on learning.

Recycle its dormant units, draw it anew in whole or in part, or add a pull to how it began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from repcollapse import _checks
from repcollapse.checkups import unit_scores
from repcollapse.networks import mlp

CLASSES, WIDTH = 10, 64
RECYCLED = 0.1  # the score up to which a unit is recycled
HEADS, SCALE = 10, 10.0  # InFeR's linear heads, and how many times what they read they keep to


@dataclass(frozen=True)
class Setting:
    """What is done against a loss of plasticity; as it stands, nothing.

    Attributes
    ----------
    norm
        "layer" for layer normalisation, or "none".
    l2_init, infer
        Weights of the two terms of :func:`penalty`, at least 0.
    redo_every
        After how many steps :func:`redo` recycles dormant units, each time; 0 for never.
    kept
        The share of the weights that :func:`shrink_and_perturb` keeps at the end of a task, in
        [0, 1]: 0 is a reset. None leaves weights and optimiser as they are.

    Raises
    ------
    TypeError, ValueError
        For values other than these.

    Examples
    --------
    >>> Setting(l2_init=-1.0)
    Traceback (most recent call last):
    ...
    ValueError: l2_init must be at least 0; got -1.0
    """

    norm: str = "none"
    l2_init: float = 0.0
    infer: float = 0.0
    redo_every: int = 0
    kept: float | None = None

    def __post_init__(self) -> None:
        _checks.choice("norm", self.norm, ("none", "layer"))
        _checks.number("l2_init", self.l2_init, at_least=0)
        _checks.number("infer", self.infer, at_least=0)
        _checks.integer("redo_every", self.redo_every, at_least=0)
        if self.kept is not None:
            _checks.number("kept", self.kept, at_least=0, at_most=1)


ARMS = {
    "Adam alone": Setting(),
    "ReDo": Setting(redo_every=40),
    "LayerNorm": Setting(norm="layer"),
    "L2 Init": Setting(l2_init=1e-3),
    "LayerNorm + L2 Init": Setting(norm="layer", l2_init=1e-3),
    "InFeR": Setting(infer=0.1),
    "shrink and perturb": Setting(kept=0.4),
    "reset": Setting(kept=0.0),
}


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


def redo(model: Learner, optimizer: torch.optim.Optimizer, x: Tensor) -> int:
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

    Returns
    -------
    int
        From 0 to 128, the units of both layers.

    References
    ----------
    Sokar et al. 2023, algorithm 1.

    Examples
    --------
    >>> model, x = Learner(4), torch.ones(5, 4)
    >>> adam = torch.optim.Adam(model.parameters())
    >>> model(x).sum().backward()
    >>> adam.step()
    >>> _ = nn.init.constant_(model.linear[0].bias, -100.0)  # no unit of the first layer answers
    >>> redo(model, adam, x) >= WIDTH
    True
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


def shrink_and_perturb(model: Learner, optimizer: torch.optim.Optimizer, *, kept: float) -> None:
    """Replace the weights w by `kept` w + (1 - `kept`) fresh ones; the optimiser forgets all.

    Parameters
    ----------
    model, optimizer
        Changed in place. Fresh weights are drawn from torch's global generator.
    kept
        In [0, 1]: 0 is a reset, which draws all anew, and at 1 only the optimiser forgets.

    References
    ----------
    Ash & Adams 2020, "On warm-starting neural network training", section 4.

    Examples
    --------
    >>> model = Learner(4)
    >>> before = model.linear[0].weight.clone()
    >>> shrink_and_perturb(model, torch.optim.Adam(model.parameters()), kept=1.0)
    >>> torch.equal(model.linear[0].weight, before)
    True
    """
    inputs, place = model.linear[0].in_features, model.linear[0].weight.device
    norm = "layer" if any(isinstance(layer, nn.LayerNorm) for layer in model.body) else "none"
    other = Learner(inputs, norm=norm).to(place)
    with torch.no_grad():
        for weight, fresh in zip(model.parameters(), other.parameters(), strict=True):
            weight.mul_(kept).add_(fresh, alpha=1 - kept)
    optimizer.state.clear()


def penalty(
    setting: Setting, model: Learner, heads: nn.Linear, x: Tensor
) -> Callable[[Tensor], Tensor]:
    r"""Return what a setting adds to the loss, as a function of the second layer's activations h.

    .. math:: \lambda \lVert \theta - \theta_0 \rVert^2
              + \mu \, \frac1{NK} \sum_i \lVert V h_i - 10\, V_0 h_{0,i} \rVert^2

    The first is L2 Init, with the weights :math:`\theta_0` as they are at this call and
    :math:`\lambda` the setting's `l2_init`; the second InFeR, with K heads V, what they and the
    network were at this call, and :math:`\mu` the setting's `infer`.

    Parameters
    ----------
    setting
        Whose weights of the terms count; a term of weight 0 is left out.
    model, heads
        The network, and InFeR's linear heads on its second layer, which learn with it.
    x
        The inputs, shape (N, inputs).

    Returns
    -------
    Callable
        From h, shape (N, 64), to a scalar of at least 0. L2 Init's is 0 at this call.

    References
    ----------
    Kumar et al. 2023, equation 1; Lyle et al. 2022, section 4.

    Examples
    --------
    >>> model, heads, x = Learner(4), nn.Linear(WIDTH, HEADS), torch.ones(5, 4)
    >>> h = model.hidden(x)[-1]
    >>> [penalty(ARMS[arm], model, heads, x)(h).item() for arm in ("L2 Init", "Adam alone")]
    [0.0, 0.0]
    """
    weights = list(model.parameters())
    with torch.no_grad():
        origin = parameters_to_vector(weights).clone()
        aim = SCALE * heads(model.hidden(x)[-1])

    def added(hidden: Tensor) -> Tensor:
        total = hidden.new_zeros(())
        if setting.l2_init:
            moved = parameters_to_vector(weights) - origin
            total = total + setting.l2_init * moved.square().sum()
        if setting.infer:
            total = total + setting.infer * F.mse_loss(heads(hidden), aim)
        return total

    return added
