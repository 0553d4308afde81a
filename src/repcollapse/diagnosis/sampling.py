"""Samples of rows that do not depend on the order or the batches in which the rows came.

Every row has a priority, a hash of its global index, and the rows of the lowest priorities are
kept. Any split of the rows into batches or processes therefore ends with the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SAMPLE = 2048  # rows: their pairs take a second where D = 2048, and two million pairs are plenty
GROUP_ROWS = 4096  # rows of whole groups: 2,048 pairs of views
PER_GROUP = 16  # rows of a group beyond these tell little more about it


def priorities(index: np.ndarray) -> np.ndarray:
    """Return a hash of 64 bits of every index (SplitMix64: Steele, Lea & Flood 2014)."""
    x = index.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class RowSample:
    """The rows of lowest priority among all that were seen, at most `capacity` of them.

    `index` holds their global indices, in the order of priority; `labels` their labels, of which
    rows without have none at all (an empty vector).
    """

    capacity: int
    index: np.ndarray
    rows: Tensor
    labels: np.ndarray

    @classmethod
    def empty(cls, dimension: int, capacity: int = SAMPLE) -> RowSample:
        """Return the sample of no rows."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(capacity, nothing, torch.empty(0, dimension, dtype=torch.float64), nothing)

    def update(self, rows: Tensor, index: np.ndarray, labels: np.ndarray) -> RowSample:
        """Return the sample of these rows and the given ones, of other indices."""
        if len(self.index) == self.capacity:
            # Few of later batches get in: the others need not be copied.
            low = priorities(index) < priorities(self.index[-1:])[0]
            rows, index = rows[torch.from_numpy(low)], index[low]
            labels = labels[low] if len(labels) else labels
        rows = rows.detach().to("cpu", torch.float64)
        return self.merge(RowSample(self.capacity, index, rows, labels))

    def merge(self, other: RowSample) -> RowSample:
        """Return the sample of all rows of both."""
        index = np.concatenate([self.index, other.index])
        order = np.argsort(priorities(index), kind="stable")[: self.capacity]
        labels = np.concatenate([self.labels, other.labels])
        return RowSample(
            self.capacity,
            index[order],
            torch.cat([self.rows, other.rows])[torch.from_numpy(order)],
            labels[order] if len(labels) else labels,
        )


@dataclass(frozen=True)
class GroupSample:
    """Whole groups of lowest priority, as many as fit in `capacity` rows.

    Of a group of more than `PER_GROUP` rows, those of lowest priority stand for it. Groups whose
    priority is `limit` or more have been dropped, and stay so whatever comes in of them.
    """

    capacity: int
    groups: np.ndarray
    index: np.ndarray
    rows: Tensor
    limit: int = 2**64

    @classmethod
    def empty(cls, dimension: int, capacity: int = GROUP_ROWS) -> GroupSample:
        """Return the sample of no rows."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(capacity, nothing, nothing, torch.empty(0, dimension, dtype=torch.float64))

    def update(self, rows: Tensor, index: np.ndarray, groups: np.ndarray) -> GroupSample:
        """Return the sample of these rows and the given ones, of other indices."""
        low = _below(self.limit, groups)
        kept = rows.detach()[torch.from_numpy(low)].to("cpu", torch.float64)
        return self.merge(GroupSample(self.capacity, groups[low], index[low], kept))

    def merge(self, other: GroupSample) -> GroupSample:
        """Return the sample of all rows of both.

        A group is dropped when those before it and it have too many rows. They will not become
        fewer, so that what is left in the end is what is left of all rows at once.
        """
        groups = np.concatenate([self.groups, other.groups])
        index = np.concatenate([self.index, other.index])
        limit = min(self.limit, other.limit)
        order = np.lexsort((priorities(index), priorities(groups)))
        order = order[_below(limit, groups[order])]
        order = order[_places(groups[order]) < PER_GROUP]
        starts = np.flatnonzero(_places(groups[order]) == 0)
        ends = np.append(starts[1:], len(order))
        fits = int((ends <= self.capacity).sum())
        if fits < len(ends):
            limit = int(priorities(groups[order][starts[fits] :][:1])[0])
            order = order[: starts[fits]]
        rows = torch.cat([self.rows, other.rows])[torch.from_numpy(order)]
        return GroupSample(self.capacity, groups[order], index[order], rows, limit)


def _below(limit: int, groups: np.ndarray) -> np.ndarray:
    if limit == 2**64:
        return np.ones(len(groups), dtype=bool)
    return priorities(groups) < np.uint64(limit)


def _places(ordered: np.ndarray) -> np.ndarray:
    """Return the place of each row in its group, of rows that are ordered by group."""
    place = np.arange(len(ordered))
    if len(ordered) == 0:
        return place
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return place - np.repeat(first, np.diff(np.r_[first, len(ordered)]))
