"""Rank collapse in attention: layers that differ in how they are wired, untrained, in float64.

What training makes of them is in :mod:`repcollapse.modes.patches`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.layers import layer_residuals

NORMS = ("none", "pre", "post")


@dataclass(frozen=True)
class Wiring:
    """How a layer is put together.

    Attributes
    ----------
    skip
        Add what enters a branch to what leaves it.
    norm
        Layer norm: "none", "pre" (of what enters a branch) or "post" (of what leaves, after the
        sum).
    mlp
        After attention a second branch, a perceptron that sees one token at a time.
    scale
        Multiply what leaves a branch by this before the sum; without `skip` it would change
        nothing and is refused.

    Raises
    ------
    TypeError, ValueError
        For options other than these.
    """

    skip: bool = False
    norm: str = "none"
    mlp: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        _checks.choice("norm", self.norm, NORMS)
        scale = _checks.number("scale", self.scale, above=0)
        if scale != 1 and not self.skip:
            raise ValueError(f"scale must be 1 without skip, where it changes nothing; got {scale}")


class SelfAttention(nn.Module):
    r"""Attention of several heads, every token to all.

    .. math::

        \bigoplus_h \operatorname{softmax}\!\left(\frac{Q_h K_h^\top}{\sqrt{D/H}}\right) V_h \, W_o,
        \qquad Q = X W_q,\; K = X W_k,\; V = X W_v

    All weights are drawn with variance 1/D, queries and keys with a `gain` on top.
    """

    def __init__(self, width: int, heads: int, *, gain: float = 1.0) -> None:
        super().__init__()
        if width % _checks.integer("heads", heads, at_least=1):
            raise ValueError(f"width must be a multiple of {heads} heads; got {width}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        with torch.no_grad():
            self.query.weight *= gain
            self.key.weight *= gain

    def weights(self, x: Tensor) -> Tensor:
        """Return who attends to whom, (B, H, T, T), for tokens (B, T, D): rows sum to one."""
        query, key = self._split(self.query(x)), self._split(self.key(x))
        return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for (B, T, D)."""
        # The product of `weights` and values, in one call.
        query, key, value = (self._split(m(x)) for m in (self.query, self.key, self.value))
        read = F.scaled_dot_product_attention(query, key, value)
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One layer: attention, and where the wiring says so a perceptron after it."""

    def __init__(self, width: int, heads: int, wiring: Wiring, *, gain: float = 1.0) -> None:
        super().__init__()
        self.wiring = wiring
        branches: list[nn.Module] = [SelfAttention(width, heads, gain=gain)]
        if wiring.mlp:
            hidden = 2 * width
            branches.append(
                nn.Sequential(linear(width, hidden), nn.ReLU(), linear(hidden, width, variance=2))
            )
        self.branches = nn.ModuleList(branches)
        self.norms = nn.ModuleList(
            nn.Identity() if wiring.norm == "none" else nn.LayerNorm(width) for _ in branches
        )

    @property
    def attention(self) -> SelfAttention:
        """The first branch."""
        return cast(SelfAttention, self.branches[0])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for (B, T, D)."""
        for branch, norm in zip(self.branches, self.norms, strict=True):
            y = branch(norm(x) if self.wiring.norm == "pre" else x)
            x = x + self.wiring.scale * y if self.wiring.skip else y
            x = norm(x) if self.wiring.norm == "post" else x
        return x


def linear(fan_in: int, fan_out: int, *, variance: float = 1.0) -> nn.Linear:
    """Return a linear map without offset whose weights have `variance` / `fan_in`."""
    layer = nn.Linear(fan_in, fan_out, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(variance / fan_in))
    return layer


def states(layers: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Return what enters the first of `layers` and what leaves each."""
    hidden = [x]
    for layer in layers:
        hidden.append(layer(hidden[-1]))
    return hidden


@dataclass(frozen=True)
class Stack:
    """An untrained stack and what it makes of random tokens.

    Attributes
    ----------
    layers, hidden
        The layers, and the L + 1 states of one sample, (T, D) each, float64.
    residuals
        The relative residual by layer, (L + 1,).
    """

    layers: list[Layer]
    hidden: list[Tensor]
    residuals: np.ndarray

    def residual(self, layer: int) -> float:
        """Return the relative residual after `layer` layers."""
        return float(self.residuals[layer])


def untrained(
    wiring: Wiring,
    *,
    depth: int = 32,
    tokens: int = 32,
    width: int = 64,
    heads: int = 4,
    gain: float = 1.0,
) -> Stack:
    """Return a stack with fresh weights in every layer, and its states.

    Tokens, independent and normal, and weights come from torch's global generator, tokens first:
    from one seed every wiring gets the same tokens.

    Raises
    ------
    TypeError, ValueError
        For sizes other than positive, or heads that do not divide the width.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> bool(untrained(Wiring(), depth=3).residual(3) < 1e-5)
    True
    """
    depth = _checks.integer("depth", depth, at_least=1)
    x = torch.randn(1, tokens, width, dtype=torch.float64)
    layers = [Layer(width, heads, wiring, gain=gain).double() for _ in range(depth)]
    with torch.no_grad():
        hidden = states(layers, x)
    return Stack(layers, [state[0] for state in hidden], layer_residuals(hidden))


@dataclass(frozen=True)
class Law:
    """The residual that leaves one layer against that which enters it, and the slope in logs."""

    entering: np.ndarray
    leaving: np.ndarray
    exponent: float


def one_layer(
    wiring: Wiring, *, tokens: int = 32, width: int = 64, heads: int = 4, points: int = 8
) -> Law:
    """Return how the residual that leaves one fresh layer depends on that which enters.

    Tokens are one common row plus 1e-4 to 10^-1.5 times independent normal ones; the exponent is
    the slope of a line through both logarithms. Draws from torch's global generator.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> [round(one_layer(Wiring(skip=skip)).exponent, 2) for skip in (False, True)]
    [3.0, 1.0]
    """
    common = torch.randn(1, 1, width, dtype=torch.float64)
    apart = torch.randn(1, tokens, width, dtype=torch.float64)
    layer = Layer(width, heads, wiring).double()
    pairs = []
    for size in np.logspace(-4, -1.5, points):
        x = common + size * apart
        with torch.no_grad():
            pairs.append(layer_residuals([x, layer(x)]))
    entering, leaving = np.array(pairs).T
    slope = np.polyfit(np.log(entering), np.log(leaving), 1)[0]
    return Law(entering, leaving, float(slope))


def query_share(stack: Stack) -> float:
    """Return the gradient of the last layer's query weights over that of its value weights.

    Frobenius norms, for the loss that is the product of the last states with fixed normal numbers,
    from torch's global generator.
    """
    layer = stack.layers[-1]
    read = layer(stack.hidden[-2][None])
    weights = [layer.attention.query.weight, layer.attention.value.weight]
    loss = (read * torch.randn_like(read)).sum()
    query, value = torch.autograd.grad(loss, weights)
    return float(query.norm() / value.norm())
