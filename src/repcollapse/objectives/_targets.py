"""Objectives that take their target as a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., Any])


def detaches_target(objective: Marked) -> Marked:
    """Mark a function or a class as one that sends no gradient to its target, whatever is asked.

    The mark is its attribute `detaches_target`, which subclasses inherit. Networks and recipes read
    it, and refuse `stop_gradient=False`, which would change nothing.
    """
    objective.detaches_target = True  # type: ignore[attr-defined]
    return objective
