"""Arithmetic precision shared by the objectives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

HALF = (torch.float16, torch.bfloat16)


def in_full_precision(objective: Callable[P, R]) -> Callable[P, R]:
    """Run `objective` outside autocast, half-precision embeddings cast up to float32.

    exp(1/0.07) overflows float16, and a variance taken in bfloat16 around a mean of 100 reads 0:
    both are values of an objective at or near collapse, where it matters most.
    """

    @functools.wraps(objective)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        # Most calls have nothing to change, and both changes cost more than to see that.
        device, half = "cpu", False
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                device, half = value.device.type, half or value.dtype in HALF
        if not half and not torch.is_autocast_enabled(device):
            return objective(*args, **kwargs)
        raised = {name: _cast_up(value) for name, value in kwargs.items()}
        with torch.autocast(device, enabled=False):
            return objective(*map(_cast_up, args), **raised)  # type: ignore[arg-type]

    return wrapped


def _cast_up(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
