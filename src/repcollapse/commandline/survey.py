"""Going through the rows: block by block, each process its slice, merged on the first.

A row is known by its global index, so that the numbers do not depend on how many processes there
are. Surveys meet in pairs, in as many rounds as the number of processes has bits, and no process
ever holds more than two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import distributed

from repcollapse.commandline.inputs import Inputs
from repcollapse.commandline.output import message_for
from repcollapse.diagnosis import Diagnosis, Survey, conclude
from repcollapse.diagnosis.packing import DTYPES, PARTS, pack, unpack
from repcollapse.diagnosis.survey import block_of
from repcollapse.files import InputError, Rows

Tick = Callable[[int], None]
FAR = re.compile(r"^(z|views) must be finite; (row|sample) (\d+) holds")


def nothing(rows: int) -> None:
    """Take no notice of rows that were read."""


def slice_of(total: int, rank: int, world: int) -> range:
    """Return the indices that are a process's own."""
    return range(total * rank // world, total * (rank + 1) // world)


def survey_of(inputs: Inputs, *, rank: int = 0, world: int = 1, tick: Tick = nothing) -> Survey:
    """Return the survey of a process's slice of the rows, and of the views where there are any."""
    n, dimension = inputs.shards.shape
    survey = Survey.empty(dimension)
    for rows in _blocks(slice_of(n, rank, world), block_of(dimension)):
        block = inputs.shards.block(rows.start, rows.stop)
        try:
            survey = survey.update(
                block,
                start=rows.start,
                labels=None if inputs.labels is None else inputs.labels.codes[_at(rows)],
                groups=None if inputs.groups is None else inputs.groups.codes[_at(rows)],
            )
        except ValueError as error:
            raise _explained(error, inputs) from error
        tick(len(rows))
    if inputs.views is not None:
        n_views, samples, _ = inputs.views.shape
        for rows in _blocks(slice_of(samples, rank, world), block_of(dimension, n_views)):
            try:
                survey = survey.update_views(_of_views(inputs.views, rows), start=rows.start)
            except ValueError as error:
                raise _explained(error, inputs) from error
            tick(len(rows) * n_views)
    return survey


def rows_of(inputs: Inputs, *, rank: int = 0, world: int = 1) -> int:
    """Return how many rows `survey_of` will report."""
    found = len(slice_of(inputs.shards.shape[0], rank, world))
    if inputs.views is not None:
        n_views, samples, _ = inputs.views.shape
        found += n_views * len(slice_of(samples, rank, world))
    return found


def concluded(survey: Survey, inputs: Inputs) -> Diagnosis:
    """Return the diagnosis; what still does not fit together is the input's fault."""
    try:
        return conclude(survey)
    except ValueError as error:
        raise _explained(error, inputs) from error


def _blocks(own: range, step: int) -> list[range]:
    bounds = [*range(own.start, own.stop, step), own.stop]
    return [range(start, stop) for start, stop in pairwise(bounds)]


def _at(rows: range) -> slice:
    return slice(rows.start, rows.stop)


def _of_views(views: Rows, rows: range) -> np.ndarray:
    return np.array(views[:, rows.start : rows.stop])  # type: ignore[index]


def _explained(error: ValueError, inputs: Inputs) -> ValueError:
    """Return what a check says in the words of the command line, and any other error as it is."""
    message = str(error)
    files = ", ".join(inputs.shards.names[:3]) + (", ..." if len(inputs.shards.names) > 3 else "")
    if found := FAR.match(message):
        number = int(found[3])
        where = (
            inputs.shards.place(number)
            if found[1] == "z"
            else f"sample {number} of {inputs.views_name}"
        )
        return InputError(
            f"{where} holds NaN or Inf: find out why, or leave such rows out, and ask again"
        )
    name, _, said = message.partition(" ")
    shown = {"z": files, "views": inputs.views_name}
    for each, codes in (("labels", inputs.labels), ("groups", inputs.groups)):
        if codes is not None:
            shown[each] = f"--{each} {codes.source}"
    return InputError(f"{shown[name]} {said}") if name in shown else error


# --- several processes


@dataclass(frozen=True)
class Trouble:
    """What one of several processes could not do."""

    message: str
    status: int


def merged(survey: Survey | None, trouble: Trouble | None) -> Survey | Trouble | None:
    """Return the survey of all processes on the first, None on the others; or what went wrong.

    Every process of the group must call it, also one that has failed: then all learn of it, and
    none waits for what will not come.
    """
    everyone: list[Trouble | None] = [
        None if status < 0 else Trouble(text, status) for text, status in _gathered(trouble)
    ]
    failed = next((each for each in everyone if each is not None), None)
    if failed is not None:
        return failed
    assert survey is not None
    rank, world, distance = distributed.get_rank(), distributed.get_world_size(), 1
    while distance < world:
        if rank % (2 * distance):
            _send(survey, rank - distance)
            return None
        if rank + distance < world:
            survey = survey.merge(_receive(rank + distance, survey.dimension))
        distance *= 2
    return survey


def trouble_of(error: Exception) -> Trouble:
    """Return an error as what can be told to other processes."""
    message, status = message_for(error)
    return Trouble(message, status)


MESSAGE = 2048  # bytes


def _gathered(trouble: Trouble | None) -> list[tuple[str, int]]:
    """Return every process's message and status, which is -1 where nothing went wrong."""
    own = torch.zeros(MESSAGE + 4, dtype=torch.uint8)
    if trouble is not None:
        text = trouble.message.encode(errors="replace")[:MESSAGE]
        own[0], own[1] = 1, trouble.status
        own[2:4] = torch.tensor(divmod(len(text), 256), dtype=torch.uint8)
        own[4 : 4 + len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    all_of_them = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(all_of_them, own)
    found = []
    for each in all_of_them:
        failed, status, high, low = each[:4].tolist()
        said = bytes(each[4 : 4 + 256 * high + low].tolist()).decode(errors="replace")
        found.append((said, status if failed else -1))
    return found


def _send(survey: Survey, to: int) -> None:
    parts = pack(survey)
    sizes = [[part.numel(), DTYPES.index(part.dtype)] for part in parts]
    distributed.send(torch.tensor(sizes), to)
    for part in parts:
        if part.numel():
            distributed.send(part.flatten(), to)


def _receive(source: int, dimension: int) -> Survey:
    sizes = torch.empty(PARTS, 2, dtype=torch.int64)
    distributed.recv(sizes, source)
    parts = []
    for size, dtype in sizes.tolist():
        part = torch.empty(size, dtype=DTYPES[dtype])
        if size:
            distributed.recv(part, source)
        parts.append(part)
    return unpack(parts, dimension)
