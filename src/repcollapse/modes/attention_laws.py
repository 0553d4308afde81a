"""What untrained attention does to random tokens: layer by layer, and in one layer. In float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse.checkups.residuals import layer_residuals
from repcollapse.modes.attention import Layer, Wiring, states


@dataclass(frozen=True, eq=False, kw_only=True)
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

    Parameters
    ----------
    wiring
        How every layer is put together.
    depth, tokens
        L >= 1 layers, T >= 2 tokens of one sample.
    width, heads, gain
        As in :class:`repcollapse.modes.attention.SelfAttention`.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Dong, Cordonnier & Loukas 2021, "Attention is not all you need", section 2.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> bool(untrained(Wiring(), depth=3).residual(3) < 1e-5)
    True
    """
    depth = _checks.integer("depth", depth, at_least=1)
    x = torch.randn(1, _tokens(tokens), _width(width), dtype=torch.float64)
    layers = [Layer(width, heads, wiring, gain=gain).double() for _ in range(depth)]
    with torch.no_grad():
        hidden = states(layers, x)
    return Stack(
        layers=layers, hidden=[state[0] for state in hidden], residuals=layer_residuals(hidden)
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Law:
    """What one layer makes of the residual.

    Attributes
    ----------
    entering, leaving
        The relative residuals on both sides of the layer, (P,) each.
    exponent
        The slope of a line through their logarithms: the power of what enters that leaves.
    """

    entering: np.ndarray
    leaving: np.ndarray
    exponent: float


def one_layer(
    wiring: Wiring,
    *,
    fixed: bool = False,
    tokens: int = 32,
    width: int = 64,
    heads: int = 4,
    points: int = 8,
) -> Law:
    """Return how the residual that leaves one fresh layer depends on that which enters.

    Tokens are one common row plus 1e-4 to 10^-1.5 times independent normal ones. All is drawn from
    torch's global generator.

    Parameters
    ----------
    wiring, width, heads
        The layer, as in :class:`repcollapse.modes.attention.Layer`.
    fixed
        Mix tokens the same whatever they hold: as attention mixes independent normal ones, drawn
        last.
    tokens, points
        T >= 2 tokens, in P >= 2 sizes of what tells them apart.

    Raises
    ------
    TypeError, ValueError
        For numbers other than these.

    References
    ----------
    Dong, Cordonnier & Loukas 2021, "Attention is not all you need", section 1: the cube.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> [round(one_layer(Wiring(skip=skip)).exponent, 2) for skip in (False, True)]
    [3.0, 1.0]
    >>> round(one_layer(Wiring(), fixed=True).exponent, 2)
    1.0
    """
    points = _checks.integer("points", points, at_least=2)
    common = torch.randn(1, 1, _width(width), dtype=torch.float64)
    apart = torch.randn(1, _tokens(tokens), width, dtype=torch.float64)
    layer = Layer(width, heads, wiring).double()
    if fixed:
        layer.attention.fix(torch.randn(apart.shape, dtype=torch.float64))
    pairs = []
    for size in np.logspace(-4, -1.5, points):
        x = common + size * apart
        with torch.no_grad():
            pairs.append(layer_residuals([x, layer(x)]))
    entering, leaving = np.array(pairs).T
    slope = np.polyfit(np.log(entering), np.log(leaving), 1)[0]
    return Law(entering=entering, leaving=leaving, exponent=float(slope))


def query_gradient_ratio(stack: Stack) -> float:
    r"""Return the gradient norm of the last layer's query weights over that of its value weights.

    .. math::

        \frac{\lVert \nabla_{W_q} \ell \rVert_F}{\lVert \nabla_{W_v} \ell \rVert_F},
        \qquad \ell = \sum_{td} G_{td}\, X^{(L)}_{td}

    with G normal, from torch's global generator.

    Parameters
    ----------
    stack
        Layers, and what they made of one sample.

    Returns
    -------
    float
        >= 0. At collapse 0: where all tokens are alike, it is the same whom one attends to.

    References
    ----------
    Noci et al. 2022, "Signal propagation in transformers: theoretical perspectives and the role of
    rank collapse".

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> bool(query_gradient_ratio(untrained(Wiring(norm="pre"), depth=4)) < 1e-3)
    True
    """
    layer = stack.layers[-1]
    read = layer(stack.hidden[-2][None])
    weights = [layer.attention.query.weight, layer.attention.value.weight]
    loss = (read * torch.randn_like(read)).sum()
    query, value = torch.autograd.grad(loss, weights)
    return float(query.norm() / value.norm())


def _tokens(count: int) -> int:
    return _checks.integer("tokens", count, at_least=2)


def _width(count: int) -> int:
    return _checks.integer("width", count, at_least=1)
