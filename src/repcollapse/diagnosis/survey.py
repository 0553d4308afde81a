"""What a diagnosis is made from: evidence collected from rows in one pass, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repcollapse._checks import ArrayLike

SAMPLE = 2048  # rows of which pairs are taken


@dataclass(frozen=True)
class Evidence:
    """The numbers that :func:`decide` decides on."""


class Survey:
    """Evidence of embeddings, collected from batches of rows; every operation returns a new one.

    A row is known by its global index: whichever batches and processes the rows came in, the same
    rows give the same evidence.
    """

    @classmethod
    def empty(cls, dimension: int, *, sample: int = SAMPLE) -> Survey:
        """Return the survey of no rows of `dimension` numbers."""
        raise NotImplementedError

    def update(
        self, z: ArrayLike, *, start: int | None = None, labels: Any = None, groups: Any = None
    ) -> Survey:
        """Return the survey of these rows and those of `z`, shape (n, D).

        `start` is the global index of the first, by default that after the last one seen; `labels`
        and `groups` are integers, shape (n,), in every update or in none.
        """
        raise NotImplementedError

    def update_views(self, views: ArrayLike) -> Survey:
        """Return the survey with views of some samples, shape (V, n, D), in any number of calls."""
        raise NotImplementedError

    def merge(self, other: Survey) -> Survey:
        """Return the survey of both sets of rows."""
        raise NotImplementedError

    def evidence(self) -> Evidence:
        """Return the numbers."""
        raise NotImplementedError
