"""A survey as tensors, to send and to save, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from repcollapse.diagnosis.sampling import GroupSample, RowSample
from repcollapse.diagnosis.survey import Survey
from repcollapse.diagnostics import EmbeddingMoments, GroupedMoments

DTYPES = (torch.int64, torch.float64)
PARTS = 15


def pack(survey: Survey) -> list[Tensor]:
    """Return everything in a survey as tensors, those of what it lacks empty."""
    classes, nothing_here = survey.classes, torch.empty(0, dtype=torch.float64)
    counts = [survey.next_row, survey.next_view, survey.sample.capacity]
    limits = []
    for groups in (survey.groups, survey.views):
        counts.append(-1 if groups is None else groups.capacity)
        limit = 2**64 if groups is None else groups.limit
        limits += [limit >> 32, limit & 0xFFFFFFFF]
    parts = [
        torch.tensor(counts + limits, dtype=torch.int64),
        survey.moments.pack(),
        torch.from_numpy(survey.sample.index),
        survey.sample.rows,
        torch.from_numpy(survey.sample.labels),
    ]
    if classes is None:
        parts += [nothing_here.long(), nothing_here.long(), nothing_here, nothing_here]
    else:
        parts += [classes.keys, classes.counts, classes.means, classes.within]
    for groups in (survey.groups, survey.views):
        if groups is None:
            parts += [nothing_here.long(), nothing_here.long(), nothing_here]
        else:
            parts += [
                torch.from_numpy(groups.groups),
                torch.from_numpy(groups.index),
                groups.rows,
            ]
    return [part.contiguous() for part in parts]


def unpack(parts: list[Tensor], dimension: int) -> Survey:
    """Return the survey that :func:`pack` took apart."""
    head, moments, index, rows, labels, keys, counts, means, within, *grouped = parts
    next_row, next_view, capacity, *rest = head.tolist()
    capacities, limits = rest[:2], rest[2:]
    classes = None
    if len(keys):
        classes = GroupedMoments(
            keys, counts, means.reshape(-1, dimension), within.reshape(dimension, dimension)
        )
    samples: list[GroupSample | None] = []
    for k, size in enumerate(capacities):
        names, places, held = grouped[3 * k : 3 * k + 3]
        limit = (limits[2 * k] << 32) + limits[2 * k + 1]
        samples.append(
            None
            if size < 0
            else GroupSample(
                size, names.numpy(), places.numpy(), held.reshape(-1, dimension), limit
            )
        )
    return Survey(
        EmbeddingMoments.unpack(moments),
        RowSample(capacity, index.numpy(), rows.reshape(-1, dimension), labels.numpy()),
        classes,
        samples[0],
        samples[1],
        next_row,
        next_view,
    )


def to_words(survey: Survey) -> Tensor:
    """Return a survey as one int64 vector, the bits of its numbers among them.

    It begins with its own length, so that several that were joined can be told apart. Whole numbers
    are what no conversion to another precision touches.
    """
    parts = pack(survey)
    sizes = [each for part in parts for each in (part.numel(), DTYPES.index(part.dtype))]
    body = [part.flatten().view(torch.int64) for part in parts]
    length = 2 + len(sizes) + sum(map(len, body))
    return torch.cat([torch.tensor([length, survey.dimension, *sizes]), *body])


def from_words(words: Tensor) -> list[Survey]:
    """Return the surveys that :func:`to_words` made the vector of, one or several joined."""
    found = []
    while len(words):
        length, dimension, *sizes = words[: 2 + 2 * PARTS].tolist()
        body, parts = words[2 + 2 * PARTS : length], []
        for size, dtype in zip(sizes[::2], sizes[1::2], strict=True):
            parts.append(body[:size].view(DTYPES[dtype]))
            body = body[size:]
        found.append(unpack(parts, dimension))
        words = words[length:]
    return found
