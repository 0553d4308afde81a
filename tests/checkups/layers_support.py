"""Hidden states of known residuals."""

from __future__ import annotations

import math

import torch

T = 8


def rows(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def shrinking(factors, *, base=1.0):
    """One layer a factor: a common row of length one, and what is apart from it at that length."""
    common = torch.zeros(T, 4, dtype=torch.float64)
    common[:, 0] = 1 / math.sqrt(T)
    apart = rows(T, 4)
    apart -= apart.mean(dim=0)
    apart /= apart.norm()
    return [base * (common + factor * apart) for factor in factors]


def residual_of(factor):
    return factor / math.sqrt(1 + factor**2)
