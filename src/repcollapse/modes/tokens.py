"""Tokens of eight kinds, each to be mapped by a matrix of its own: the world of expert routing.

They lie on a circle, one cluster a kind, so that the best router is known: one expert a kind. What
makes a router forget it is what all tokens have in common, an offset of the inputs and a part of
the map; both can be left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse.data import stream

RADIUS, SPREAD = 3.0, 0.4  # of the circle, and of a cluster within its plane


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens `x` and targets `y`, shape (N, D), and the `kind` of each, shape (N,)."""

    x: Tensor
    y: Tensor
    kind: Tensor


def draw_tokens(
    seed: int,
    *,
    kinds: int = 8,
    dimension: int = 16,
    shared: float = 2.0,
    offset: float = 3.0,
    train: int = 4096,
    test: int = 2048,
) -> tuple[Tokens, Tokens]:
    r"""Return tokens to train on and tokens to judge by, all drawn by `seed`.

    .. math:: x = c_k + o\,e_3 + \epsilon, \qquad y = (s A + B_k)\,x

    with centres :math:`c_k` at equal distances on a circle in the first two dimensions, noise of
    0.4 in these two and of 1 in all others, and entries of :math:`A`, :math:`B_k` from N(0, 1/D).

    Parameters
    ----------
    seed
        Of the maps, the kinds and the noise.
    kinds, dimension
        How many clusters, at least 2, and D, at least 3.
    shared, offset
        :math:`s` and :math:`o`, at least 0: the part of the map and the part of the input that all
        tokens have in common. With both at 0 they have nothing in common.
    train, test
        How many tokens of each.

    Returns
    -------
    tuple of Tokens
        Those to train on, those to judge by.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.

    Examples
    --------
    >>> train, test = draw_tokens(0)
    >>> train.x.shape, test.y.shape
    (torch.Size([4096, 16]), torch.Size([2048, 16]))
    """
    kinds = _checks.integer("kinds", kinds, at_least=2)
    dimension = _checks.integer("dimension", dimension, at_least=3)
    shared = _checks.number("shared", shared, at_least=0)
    offset = _checks.number("offset", offset, at_least=0)
    train = _checks.integer("train", train, at_least=1)
    test = _checks.integer("test", test, at_least=1)
    generator = stream(seed, "tokens and maps of routing")
    angle = 2 * math.pi * torch.arange(kinds) / kinds
    centres = torch.zeros(kinds, dimension)
    centres[:, 0], centres[:, 1] = RADIUS * angle.cos(), RADIUS * angle.sin()
    centres[:, 2] = offset
    common = torch.randn(dimension, dimension, generator=generator)
    own = torch.randn(kinds, dimension, dimension, generator=generator)
    maps = (shared * common + own) / math.sqrt(dimension)
    kind = torch.randint(kinds, (train + test,), generator=generator)
    noise = torch.randn(len(kind), dimension, generator=generator)
    noise[:, :2] *= SPREAD
    x = centres[kind] + noise
    y = torch.einsum("nij,nj->ni", maps[kind], x)
    return (
        Tokens(x[:train], y[:train], kind[:train]),
        Tokens(x[train:], y[train:], kind[train:]),
    )


def one_map_error(train: Tokens, test: Tokens) -> float:
    """Return the mean squared error on `test` of the one linear map that fits `train` best.

    Examples
    --------
    >>> x = torch.eye(3)
    >>> whole = Tokens(x, 2 * x, torch.arange(3))
    >>> round(one_map_error(whole, whole), 6)
    0.0
    """
    best = torch.linalg.lstsq(train.x.double(), train.y.double()).solution
    return float((test.x.double() @ best - test.y.double()).square().mean())
