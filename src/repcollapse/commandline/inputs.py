"""The files of one question: shards joined to one matrix, labels, identifiers, views."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from repcollapse.commandline.output import RefusalError
from repcollapse.diagnosis.survey import MOST_COLUMNS
from repcollapse.files import SEPARATOR, InputError, Rows, left_out, open_rows, read_codes, show


@dataclass(frozen=True)
class Shards:
    """Files that are one matrix, their rows in the order of the files."""

    names: tuple[str, ...]
    parts: tuple[Rows, ...]

    @classmethod
    def open(cls, locations: Sequence[str]) -> Shards:
        """Open them all.

        Raises
        ------
        InputError
            For a file that cannot be read, and for one of other columns than the first.
        """
        names = tuple(map(show, locations))
        parts = tuple(map(open_rows, locations))
        first = parts[0].shape[1]
        for name, part in zip(names, parts, strict=True):
            if part.shape[1] != first:
                raise InputError(
                    f"{name} has {part.shape[1]} columns, and {names[0]} has {first}: the files of "
                    "one data set have the same columns ('repcollapse compare' is for several "
                    "models)"
                )
        if first > MOST_COLUMNS:
            raise InputError(
                f"{names[0]} has {first} columns, more than {MOST_COLUMNS}: project it onto fewer "
                "(a random projection keeps what is measured here)"
            )
        return cls(names, parts)

    @property
    def ends(self) -> list[int]:
        """The number of rows up to and with each file."""
        return list(accumulate(part.shape[0] for part in self.parts))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all files, and columns."""
        return self.ends[-1], self.parts[0].shape[1]

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return a copy of rows from `start` up to `stop`, all in one file or not."""
        ends, pieces = self.ends, []
        for end, part in zip(ends, self.parts, strict=True):
            begin = end - part.shape[0]
            if begin < stop and start < end:
                pieces.append(np.array(part[max(start - begin, 0) : min(stop, end) - begin]))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Which columns of the files are not among the rows, in words."""
        return tuple(
            f"{name}: {each}"
            for name, part in zip(self.names, self.parts, strict=True)
            for each in left_out(part)
        )

    def place(self, row: int) -> str:
        """Return where a row lies, in words."""
        which = bisect_right(self.ends, row)
        return f"row {row - ([0, *self.ends][which])} of {self.names[which]}"


@dataclass(frozen=True)
class Codes:
    """Labels or identifiers: integers, and the name that each stands for."""

    source: str
    codes: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """Everything that a diagnosis is asked about."""

    shards: Shards
    labels: Codes | None = None
    groups: Codes | None = None
    views: Rows | None = None
    views_name: str = ""

    @classmethod
    def open(
        cls,
        locations: Sequence[str],
        *,
        labels: Sequence[str] = (),
        groups: Sequence[str] = (),
        views: str | None = None,
    ) -> Inputs:
        """Open everything, and check that it fits together.

        Raises
        ------
        InputError, RefusalError
            Where it does not.
        """
        shards = Shards.open(locations)
        opened = None if views is None else _views(views, *shards.shape)
        return cls(
            shards,
            _codes(labels, shards, "labels", least=2),
            _codes(groups, shards, "groups", least=2),
            opened,
            "" if views is None else show(views),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what was read, for a report."""
        said: dict[str, Any] = {"files": list(self.shards.names)}
        if beside := self.shards.left_out:
            said["left_out"] = list(beside)
        for name, codes in (("labels", self.labels), ("groups", self.groups)):
            if codes is not None:
                said[name] = {"file": codes.source, "different": len(codes.names)}
        if self.labels is not None:
            counts = np.bincount(self.labels.codes, minlength=len(self.labels.names))
            largest = np.argsort(-counts, kind="stable")[:20]
            said["labels"]["largest"] = {self.labels.names[k]: int(counts[k]) for k in largest}
        if self.views is not None:
            said["views"] = {"file": self.views_name, "shape": list(self.views.shape)}
        return said


def paths_of(locations: Sequence[str]) -> list[Path]:
    """Return the files behind locations, without the names of arrays in them."""
    return [
        Path(each if Path(each).exists() else each.rpartition(SEPARATOR)[0] or each)
        for each in locations
    ]


def _codes(locations: Sequence[str], shards: Shards, what: str, *, least: int) -> Codes | None:
    """Read one file for all rows, or one for each file of embeddings."""
    if not locations:
        return None
    if len(locations) == 1:
        lengths = [shards.shape[0]]
    elif len(locations) == len(shards.parts):
        lengths = [part.shape[0] for part in shards.parts]
    else:
        raise RefusalError(
            f"--{what} was given {len(locations)} times for {len(shards.parts)} files of "
            "embeddings: give it once, for all rows, or once for each file"
        )
    read = [
        read_codes(location, length, what=what)
        for location, length in zip(locations, lengths, strict=True)
    ]
    source = ", ".join(map(show, locations))
    codes, names = read[0]
    if len(read) > 1:  # one name has one code, whichever file it is in
        names = sorted({name for _, own in read for name in own})
        place = {name: code for code, name in enumerate(names)}
        codes = np.concatenate(
            [np.array([place[name] for name in own], dtype=np.int64)[part] for part, own in read]
        )
    if len(names) < least:
        raise InputError(
            f"{source} holds {len(names)} different {what}, and at least {least} are needed: "
            f"leave --{what} out"
        )
    return Codes(source, codes, tuple(names))


def _views(location: str, rows_beside: int, columns: int) -> Rows:
    rows, name = open_rows(location, dimensions=3), show(location)
    n_views, samples, dimension = rows.shape
    if n_views < 2 or samples < 2:
        raise InputError(
            f"{name} must hold at least 2 views of at least 2 samples, shape (V, N, D); got "
            f"{tuple(rows.shape)}"
        )
    if n_views == rows_beside and samples < n_views:
        raise InputError(
            f"{name} must have shape (V, N, D), V views of N samples; got {tuple(rows.shape)} "
            f"beside {rows_beside} rows, which looks like (N, V, D): save "
            "views.swapaxes(0, 1)"
        )
    if dimension != columns:
        raise InputError(f"{name} has {dimension} columns, and the embeddings have {columns}")
    return rows
