"""Attention layers that differ in how they are wired, and nothing but the layers.

What they do to random tokens is in :mod:`repcollapse.modes.attention_laws`, what training makes of
them in :mod:`repcollapse.modes.patches`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks

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

    Examples
    --------
    >>> Wiring(scale=0.5)
    Traceback (most recent call last):
    ValueError: scale must be 1 without skip, where it changes nothing; got 0.5
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

    Parameters
    ----------
    width, heads
        D and H >= 1, which divides it.
    gain
        All weights are drawn with variance 1/D from torch's global generator; those of queries and
        keys are then multiplied by this, > 0.

    Raises
    ------
    TypeError, ValueError
        For sizes or a gain other than these.

    Examples
    --------
    >>> SelfAttention(8, 2)(torch.zeros(1, 4, 8)).shape
    torch.Size([1, 4, 8])
    """

    def __init__(self, width: int, heads: int, *, gain: float = 1.0) -> None:
        super().__init__()
        width = _checks.integer("width", width, at_least=1)
        heads = _checks.integer("heads", heads, at_least=1)
        gain = _checks.number("gain", gain, above=0)
        if width % heads:
            raise ValueError(f"width must be a multiple of {heads} heads; got {width}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (scaled_linear(width, width) for _ in range(4))
        self.fixed: Tensor | None
        self.register_buffer("fixed", None)
        with torch.no_grad():
            self.query.weight *= gain
            self.key.weight *= gain

    def weights(self, x: Tensor) -> Tensor:
        """Return who attends to whom, (B, H, T, T), for tokens (B, T, D): rows sum to one."""
        if self.fixed is not None:
            return self.fixed
        query, key = self._split(self.query(x)), self._split(self.key(x))
        return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)

    def fix(self, x: Tensor) -> None:
        """From now on mix all tokens as those of `x`, (1, T, D), are mixed, whatever they hold.

        Who attends to whom no longer depends on the input, which has to have as many tokens.

        Raises
        ------
        ValueError
            For tokens of another shape.

        Examples
        --------
        >>> attention = SelfAttention(8, 2)
        >>> attention.fix(torch.randn(1, 4, 8))
        >>> x = torch.randn(1, 4, 8)
        >>> torch.allclose(attention(3 * x), 3 * attention(x), atol=1e-5)
        True
        """
        if x.ndim != 3 or len(x) != 1 or x.shape[-1] != self.out.in_features:
            raise ValueError(
                f"x must have shape (1, T, {self.out.in_features}); got shape {tuple(x.shape)}"
            )
        self.fixed = self.weights(x).detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, D) for (B, T, D)."""
        value = self._split(self.value(x))
        if self.fixed is not None:
            read = self.fixed @ value
        else:  # the product of `weights` and values, in one call
            query, key = self._split(self.query(x)), self._split(self.key(x))
            read = F.scaled_dot_product_attention(query, key, value)
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One layer: attention, and where the wiring says so a perceptron after it.

    Parameters
    ----------
    width, heads, gain
        As in :class:`SelfAttention`; the perceptron is twice as wide inside.
    wiring
        How the branches are put together.

    Raises
    ------
    TypeError, ValueError
        As :class:`SelfAttention` does.

    Examples
    --------
    >>> len(Layer(8, 2, Wiring(mlp=True)).branches)
    2
    """

    def __init__(self, width: int, heads: int, wiring: Wiring, *, gain: float = 1.0) -> None:
        super().__init__()
        self.wiring = wiring
        branches: list[nn.Module] = [SelfAttention(width, heads, gain=gain)]
        if wiring.mlp:
            hidden = 2 * width
            branches.append(
                nn.Sequential(
                    scaled_linear(width, hidden),
                    nn.ReLU(),
                    scaled_linear(hidden, width, variance=2),
                )
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


def scaled_linear(fan_in: int, fan_out: int, *, variance: float = 1.0) -> nn.Linear:
    """Return a linear map without offset, its weights normal with `variance` / `fan_in`.

    With a variance of 1 numbers leave it, on average, as large as they came; with 2 they do so
    after a ReLU, which takes away half of their mean square.

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers", section 2.2, for the 2.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> round(float(scaled_linear(400, 300).weight.detach().std()), 3)
    0.05
    """
    layer = nn.Linear(fan_in, fan_out, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(variance / fan_in))
    return layer


def states(layers: Iterable[nn.Module], x: Tensor) -> list[Tensor]:
    """Return what enters the first of `layers` and what leaves each.

    Examples
    --------
    >>> [float(state) for state in states([torch.nn.ReLU(), torch.nn.Tanh()], torch.tensor(-2.0))]
    [-2.0, 0.0, 0.0]
    """
    hidden = [x]
    for layer in layers:
        hidden.append(layer(hidden[-1]))
    return hidden
