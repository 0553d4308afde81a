"""Embeddings, labels and identifiers from files: block by block, and never unpickled.

:func:`open_rows` returns something that has a shape and gives rows as it is sliced, whatever the
format: ``.npy``, ``.npz``, ``.safetensors``, ``.pt`` and ``.pth`` (weights only), ``.parquet``,
``.csv``. What can be memory-mapped is, Parquet is read by row groups and CSV by blocks of lines, so
that a file may be larger than memory; only a compressed ``.npz`` and a single column are read
whole.

An index that pandas has written beside the columns is left out, and :func:`left_out` says so: in
CSV a first column without a name, in Parquet what the file's own metadata call the index. A first
line of whole numbers in CSV is a header, not a row, if it counts the columns from 0 or if the line
below it has no whole number. Any other column that is no part of an embedding is refused by name.

Where a file holds several arrays, ``file.npz::name`` names one. What the package writes itself,
:func:`write_whole` writes.
"""

from __future__ import annotations

import csv
import difflib
import math
import os
import pickle
import secrets
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile, pairwise
from operator import not_
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np

SEPARATOR = "::"
HALVES = ".repcollapse-*.part"  # what a process that is killed leaves of what it was writing
SHAPES = {
    1: "(N,), one value a row",
    2: "(N, D), rows are samples",
    3: "(V, N, D), V views of N samples",
}
# What to do with an array of as many axes, where so many were wanted.
HINTS = {
    (2, 1): "as a single row it is z[None], as a single column z[:, None]",
    (2, 3): (
        "views of the same samples are for --views (views= in Python), beside their embeddings; "
        "tokens or patches become one row a sample by z.mean(axis=1)"
    ),
    (2, 4): "pictures of features, (N, C, H, W), become rows by z.mean(axis=(2, 3))",
    (3, 2): "stack the views with numpy.stack([first, second])",
}
DIGITS = "0123456789"
UNNAMED = "Unnamed: 0"  # what pandas calls a column without a name that it has read
BLOCK = 2**25  # bytes of a block of lines, as float64
WHOLE = "if these are embeddings, scale them back if they were quantised, and save "
WHOLE += "z.astype('float32')"
CONVERSIONS = {
    "i": WHOLE,
    "u": WHOLE,
    "c": "save the real and the imaginary part beside each other",
}


class InputError(ValueError):
    """A file that cannot be read as what was asked for; the text says what to do."""


class Rows(Protocol):
    """Rows that lie somewhere: a shape, and arrays for slices of the first axis."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Return some rows, in memory or mapped."""


def open_rows(location: str | Path, *, dimensions: int = 2) -> Rows:
    """Return the floating-point array of a file, to be read by slices of its first axis.

    Parameters
    ----------
    location
        A file, or ``file::name`` for one of several arrays in it.
    dimensions
        2 for embeddings (N, D), 3 for views (V, N, D).

    Raises
    ------
    InputError
        For a file that is missing, damaged, pickled or of an unknown format, for an array of
        another shape or without floating-point numbers, and for a column that is no part of an
        embedding: one of text, or one without a number in its name among more that are numbered
        in turn (0, 1, ... or emb_0, emb_1, ...).

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "z.npy"
    >>> np.save(path, np.eye(4))
    >>> rows = open_rows(path)
    >>> rows.shape, float(rows[1:3].sum())
    ((4, 4), 2.0)
    """
    path, rows = _open(location, dimensions)
    if len(rows.shape) != dimensions or 0 in rows.shape:
        hint = HINTS.get((dimensions, len(rows.shape)), "it holds nothing")
        raise InputError(
            f"{show(path)} must have shape {SHAPES[dimensions]}; got {tuple(rows.shape)}"
            + (f": {hint}" if hint else "")
        )
    with _as_input_errors(path):
        dtype = rows[:1].dtype
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise InputError(
            f"{show(path)} must hold floating-point numbers; got {dtype.name}: "
            f"{CONVERSIONS.get(dtype.kind, 'save the embeddings as float32')}"
        )
    return rows if isinstance(rows, np.ndarray) else _Guarded(path, rows)


@dataclass(frozen=True)
class _Guarded:
    """Rows whose damage may show only as they are read."""

    path: Path
    rows: Rows

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape

    @property
    def left_out(self) -> tuple[str, ...]:
        return left_out(self.rows)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        with _as_input_errors(self.path):
            return self.rows[rows]


def left_out(rows: Rows) -> tuple[str, ...]:
    r"""Return in words which columns of a file are not among its rows: the index of pandas.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "z.csv"
    >>> _ = path.write_text(",0,1\n0,0.5,1.5\n1,2.5,3.5\n")
    >>> rows = open_rows(path)
    >>> rows.shape, left_out(rows)
    ((2, 2), ('its first column, which has no name',))
    """
    return getattr(rows, "left_out", ())


def read_codes(location: str | Path, length: int, *, what: str) -> tuple[np.ndarray, list[str]]:
    r"""Return labels or identifiers as codes from 0, and the name of each code.

    Parameters
    ----------
    location
        A file with one column of integers or strings, or ``file::name``. An index that pandas has
        written beside it is left out, and so is the 0 that pandas writes as the name of a column
        that has none, where the rows would be one too many with it.
    length
        How many there must be, one a row of the embeddings.
    what
        What they are called in messages, such as "labels".

    Raises
    ------
    InputError
        For a file that cannot be read so.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
    >>> _ = path.write_text("label\ncat\ndog\ncat\n")
    >>> codes, names = read_codes(path, 3, what="labels")
    >>> codes.tolist(), names
    ([0, 1, 0], ['cat', 'dog'])
    """
    path, rows = _open(location, 1)
    with _as_input_errors(path):
        values = np.asarray(rows[:])
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if isinstance(rows, _PerhapsHeaded) and values.shape == (length + 1,):
        values = values[1:]
    if values.shape != (length,):
        alone = ": keep the column of them alone" if values.ndim == 2 else ""
        raise InputError(
            f"{what} must have shape ({length},), one a row; {show(path)} has {values.shape}{alone}"
        )
    if values.dtype.kind not in "iubUS":
        raise InputError(
            f"{what} must be integers or strings; {show(path)} holds {values.dtype.name}: if its "
            "numbers are whole, save them with .astype(int); a measured quantity has no classes, "
            "so bin it, numpy.digitize, or leave it out"
        )
    if values.dtype.kind == "U" and values.dtype.itemsize:
        points = np.ascontiguousarray(values).view(values.dtype.str[0] + "u4")
        if points.max(initial=0) > sys.maxunicode:
            raise InputError(f"{show(path)} is damaged: its strings hold what is no character")
    names, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), [show(str(name)) for name in names]


def show(text: str | Path) -> str:
    r"""Return a name for a message or a page, with what would act on a terminal spelled out.

    Examples
    --------
    >>> print(show("a" + chr(27) + "[31m.npy"))
    a\x1b[31m.npy
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(text))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have a file written that is there as a whole or not at all, even if the machine crashes.

    It is written beside its place, flushed to the disk and renamed. A file that was there keeps its
    permissions, a link stays a link, and into a pipe or a device, which have no beside, it is
    written directly.

    Parameters
    ----------
    path
        Where; a file of that name is replaced.
    write
        Called with the file, open for bytes.

    Raises
    ------
    OSError
        Where it cannot be written. Whatever `write` raises is passed on; what was there stays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "said.txt"
    ...     write_whole(path, lambda file: file.write(b"all of it"))
    ...     path.read_text()
    'all of it'
    """
    if is_special(path):
        with path.open("wb") as file:
            write(file)
        return
    path = path.resolve()
    beside = path.with_name(HALVES.replace("*", secrets.token_hex(8)))
    try:
        with beside.open("xb") as file:
            if path.exists():  # before anything is in it that others may not read
                beside.chmod(stat.S_IMODE(path.stat().st_mode))
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _flush_folder(path.parent)


def is_special(path: Path) -> bool:
    """Return whether something is there that is no file: a pipe, a device, a folder."""
    return path.exists() and not path.is_file()


def _flush_folder(folder: Path) -> None:
    """Flush the renaming itself, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split(location: str | Path) -> tuple[Path, str | None]:
    text = os.fspath(location)
    if SEPARATOR not in text or Path(text).is_file():
        return Path(text), None
    before, _, name = text.rpartition(SEPARATOR)
    return Path(before), name


def require_file(location: str | Path) -> None:
    """Raise where there is no file to be read; it is not opened.

    Parameters
    ----------
    location
        A file, or ``file::name``.

    Raises
    ------
    InputError
        For what does not exist, a folder, another thing that is no file, and an empty file.

    Examples
    --------
    >>> require_file("gone/z.npy")
    Traceback (most recent call last):
    repcollapse.files.InputError: gone/z.npy does not exist: there is no folder gone
    """
    path, _ = _split(location)
    name = show(path)
    try:
        there, folder = path.exists(), path.parent.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        there = folder = False
    if not there and folder:
        beside = {}
        with suppress(OSError):  # a folder that may be entered and not be listed
            beside = {each.stem: each for each in path.parent.iterdir() if each.suffix in READERS}
        near = difflib.get_close_matches(path.stem, beside, 1)
        meant = f"did you mean {show(beside[near[0]])}?" if near else "check its name"
        raise InputError(f"{name} does not exist: {meant}")
    if not there:
        raise InputError(f"{name} does not exist: there is no folder {show(path.parent)}")
    if path.is_dir():
        raise InputError(f"{name} is a folder: name the files in it, such as {name}/*.npy")
    if not path.is_file():
        raise InputError(f"{name} is not a file: write what it gives into one first")
    if path.stat().st_size == 0:
        raise InputError(f"{name} is empty, 0 bytes: write it again")


def _open(location: str | Path, dimensions: int) -> tuple[Path, Rows]:
    """Return the array that is named; or the only one there, or the only one of `dimensions`."""
    path, name = _split(location)
    with _as_input_errors(path):
        require_file(path)
        ending = path.suffix.lower()
        if ending not in READERS:
            raise InputError(f"{show(path)} must end in one of {', '.join(READERS)}")
        arrays = READERS[ending](path)
        if name is None:
            fitting = [key for key, array in arrays.items() if len(array.shape) == dimensions]
            choices = list(arrays) if len(arrays) == 1 else fitting
            if len(choices) != 1:
                raise InputError(
                    f"{show(path)} must hold one array of shape {SHAPES[dimensions]}, or name one, "
                    f"FILE{SEPARATOR}NAME; it holds {_listed(arrays)}"
                )
            name = choices[0]
        if name not in arrays:
            raise InputError(
                f"{show(path)} has no array {show(name)!r}; it holds {_listed(arrays)}"
            )
        return path, arrays[name].load()


def _listed(arrays: Mapping[str, Entry]) -> str:
    shown = [f"{show(name)} {tuple(array.shape)}" for name, array in list(arrays.items())[:10]]
    more = f" and {len(arrays) - 10} more" if len(arrays) > 10 else ""
    return ", ".join(shown) + more or "none"


@contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
    """Name the file in whatever a format's library raises over a damaged one."""
    try:
        yield
    except InputError as error:
        text = str(error)
        if text.startswith(show(path)):
            raise
        raise InputError(f"{show(path)}: {text}") from error
    except ImportError as error:
        needed = f"{show(path)} needs {error.name}: pip install 'repcollapse[files]'"
        raise InputError(needed) from error
    except Exception as error:  # their kinds are as many as the libraries and the damages
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{show(path)} cannot be read as {path.suffix.lower()}: {show(lines[0][:200])}"
        ) from error


# --- one reader a format: a path in; out, by name, the arrays that the file holds, not yet read


@dataclass(frozen=True)
class Entry:
    """An array of a file: its shape, and how to get at it."""

    shape: tuple[int, ...]
    load: Callable[[], Rows]


@dataclass(frozen=True)
class _Header:
    """What precedes an array in numpy's format, and where in the file the array begins."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    end: int

    def mapped(self, path: Path, before: int = 0) -> Rows:
        """Map the array that follows the header, which begins after so many bytes."""
        order = "F" if self.fortran else "C"
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        return np.memmap(path, self.dtype, "r", before + self.end, self.shape, order)  # type: ignore[call-overload]


def _header(file: IO[bytes], size: int) -> _Header:
    """Read a header, in a file of `size` bytes: no Python objects, and no more than there is."""
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise InputError("it holds pickled Python objects, which are never loaded")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed > there:
        raise InputError(
            f"its header promises {needed} bytes, an array of shape {shape}; there are {there}"
        )
    return _Header(shape, fortran, dtype, file.tell())


def _npy(path: Path) -> dict[str, Entry]:
    with path.open("rb") as file:
        header = _header(file, path.stat().st_size)
    return {"array": Entry(header.shape, partial(header.mapped, path))}


def _npz(path: Path) -> dict[str, Entry]:
    entries = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                header = _header(file, member.file_size)
            name = member.filename.removesuffix(".npy")
            entries[name] = Entry(header.shape, partial(_member, path, member, header))
    return entries


def _member(path: Path, member: zipfile.ZipInfo, header: _Header) -> Rows:
    """Map a member that is stored as it is; read one that is compressed."""
    if member.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as file:
            file.seek(member.header_offset + 26)  # the lengths of its name and of its extra field
            lengths = struct.unpack("<HH", file.read(4))
        start = member.header_offset + 30 + sum(lengths)
        if start + member.file_size > path.stat().st_size:
            raise InputError(f"its member {member.filename!r} ends beyond the file")
        return header.mapped(path, before=start)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if member.file_size > memory / 2:
        raise InputError(
            f"it is compressed and takes {member.file_size / 2**30:.1f} GiB of memory: save it "
            "with numpy.savez or as .npy, which are mapped"
        )
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


class _Converted:
    """Rows of a torch tensor, or of a slice of safetensors, as numpy arrays."""

    def __init__(self, rows: Any, shape: Sequence[int]) -> None:
        self.rows, self.shape = rows, tuple(shape)

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        import torch

        block = self.rows[rows]
        return (block.float() if block.dtype == torch.bfloat16 else block).numpy()


def _safetensors(path: Path) -> dict[str, Entry]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    shapes = {name: tuple(rows.get_shape()) for name, rows in slices.items()}
    return {
        name: Entry(shapes[name], partial(_Converted, rows, shapes[name]))
        for name, rows in slices.items()
    }


def _pt(path: Path) -> dict[str, Entry]:
    import torch

    mapped = zipfile.is_zipfile(path)  # the format of before torch 1.6 cannot be mapped
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except pickle.UnpicklingError as error:
        raise InputError(
            "it holds Python objects or is damaged, and is never unpickled: save the tensor of "
            "embeddings alone, torch.save(z, path)"
        ) from error
    if isinstance(held, list | tuple):
        raise InputError(
            f"it holds a {type(held).__name__}: save one tensor (N, D), torch.cat of batches or "
            "torch.stack of rows"
        )
    tensors = held if isinstance(held, Mapping) else {"tensor": held}
    return {
        str(name): Entry(tuple(value.shape), partial(_Converted, value.detach(), value.shape))
        for name, value in tensors.items()
        if isinstance(value, torch.Tensor) and value.layout == torch.strided
    }


class _Parquet:
    """Rows of a Parquet file by row groups: columns of numbers, or one column of lists of them."""

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetFile

        self.file = ParquetFile(path)
        groups = range(self.file.num_row_groups)
        lengths = [self.file.metadata.row_group(index).num_rows for index in groups]
        self.bounds = np.cumsum([0, *lengths]).tolist()
        self.read: tuple[int, np.ndarray] | None = None
        names = self.file.schema_arrow.names
        index = {"__index_level_0__", UNNAMED, *self._index_of_pandas()}
        self.kept = [k for k, name in enumerate(names) if name not in index]
        self.kept = self.kept or list(range(len(names)))
        _require_features([names[k] for k in self.kept])
        self.left_out = tuple(
            f"its index, column {show(name)!r}"
            for k, name in enumerate(names)
            if k not in self.kept
        )
        width = self._group(0).shape[1:] if groups else (0,)
        self.shape = (self.bounds[-1], *width)

    def _index_of_pandas(self) -> list[str]:
        """Return the columns of the index; one that only counts the rows is none of the file's."""
        said = self.file.schema_arrow.pandas_metadata or {}
        return [each for each in said.get("index_columns", []) if isinstance(each, str)]

    def _group(self, index: int) -> np.ndarray:
        if self.read is None or self.read[0] != index:
            table = self.file.read_row_group(index).select(self.kept)
            self.read = index, _as_array(table)
        return self.read[1]

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        start, stop, step = rows.indices(self.shape[0])
        parts = [
            self._group(index)[max(start - begin, 0) : stop - begin]
            for index, (begin, end) in enumerate(pairwise(self.bounds))
            if begin < stop and start < end
        ]
        return np.concatenate(parts)[::step] if parts else np.empty((0, *self.shape[1:]))


def _as_array(table: Any) -> np.ndarray:
    """Return an Arrow table as (N, D): a column each, or the entries of one column of lists."""
    import pyarrow as pa
    from pyarrow import compute

    if len(table.columns) == 1:
        column = table.column(0)
        if not hasattr(column.type, "value_type") or pa.types.is_dictionary(column.type):
            return _column(column, table.column_names[0])
        lengths = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise InputError(f"its lists must have one length; got {lengths[:5]}")
        entries = _column(compute.list_flatten(column), table.column_names[0])
        return entries.reshape(len(column), lengths[0])
    for column, name in zip(table.columns, table.column_names, strict=True):
        if hasattr(column.type, "value_type") and not pa.types.is_dictionary(column.type):
            raise InputError(
                f"its column {show(name)!r} holds lists, beside other columns: write it as the "
                f"only one, frame[[{show(name)!r}]].to_parquet(...)"
            )
    columns = [
        _column(column, name)
        for column, name in zip(table.columns, table.column_names, strict=True)
    ]
    for values, name in zip(columns, table.column_names, strict=True):
        if values.dtype.kind not in "fiu":
            held = repr(show(str(values[0])[:40])) if len(values) else values.dtype.name
            raise InputError(_no_number(repr(show(name)), 0, held))
    return np.column_stack(columns)


def _column(column: Any, name: str) -> np.ndarray:
    if column.null_count:
        raise InputError(f"its column {show(name)!r} has {column.null_count} empty values")
    values = np.asarray(column.to_numpy())
    return values.astype(str) if values.dtype == object else values


def _parquet(path: Path) -> dict[str, Entry]:
    rows = _Parquet(path)
    return {"table": Entry(rows.shape, lambda: rows)}


def _no_number(column: str, row: int, held: str) -> str:
    return (
        f"its column {column} must hold numbers; row {row} holds {held}: an identifier or a label "
        "is no part of an embedding, so drop the column and write the file again (labels and "
        "identifiers are a file of their own, of one column)"
    )


def _require_features(names: Sequence[str]) -> None:
    """Raise for a name without a number among more that are numbered in turn: emb_0, emb_1, ..."""
    families: dict[str, list[int]] = {}
    for name in names:
        stem = name.rstrip(DIGITS)
        if stem != name:
            families.setdefault(stem, []).append(int(name[len(stem) :]))
    counting = {stem: len(numbers) for stem, numbers in families.items() if _in_turn(numbers)}
    others = [name for name in names if name.rstrip(DIGITS) == name]
    if others and len(others) < sum(counting.values()):
        like = next(name for name in names if name.rstrip(DIGITS) in counting)
        raise InputError(
            f"its column {show(others[0])!r} has no number in its name, and the others do, "
            f"{show(like)} and so on, so that it is no part of the embedding: drop it and write "
            "the file again (labels and identifiers are a file of their own, of one column)"
        )


def _in_turn(numbers: Sequence[int]) -> bool:
    """Return whether two numbers or more are 0, 1, ... or 1, 2, ..., in any order."""
    first = min(numbers)
    return (
        len(numbers) > 1 and first <= 1 and sorted(numbers) == [*range(first, first + len(numbers))]
    )


def _counted(names: Sequence[str]) -> bool:
    return list(names) == [str(k) for k in range(len(names))]


class _Csv:
    """Rows of a CSV file by blocks of lines.

    All are parsed once, to be counted and checked, and again when they are asked for, in their
    order; going back begins anew. One block is kept, so that a small file is parsed once.
    """

    def __init__(self, path: Path, names: Sequence[str] | None, width: int, first: int) -> None:
        self.path, self.names, self.first = path, names, first
        one = "its first column, which has no name"
        self.left_out = () if first == 0 else (one if first == 1 else f"its first {first} columns",)
        self.lines = max(BLOCK // (8 * width), 1)
        self.held: tuple[int, np.ndarray] = 0, np.empty((0, width - first))
        self.blocks = self._parsed()
        for block in self.blocks:
            self.held = block
        self.shape = (self.held[0] + len(self.held[1]), width - first)

    def _parsed(self) -> Iterator[tuple[int, np.ndarray]]:
        start = 0
        with _read_csv(self.path, self.names, chunksize=self.lines) as frames:
            for frame in frames:
                if len(frame):
                    yield start, self._numbers(frame, start)
                start += len(frame)

    def _numbers(self, frame: Any, start: int) -> np.ndarray:
        for place in range(self.first, frame.shape[1]):
            values = frame.iloc[:, place]
            column = str(place) if self.names is None else repr(show(self.names[place]))
            _require_no_gap(values, column, start)
            if values.dtype.kind not in "fiu":
                texts = map(str, values)
                row = next((row for row, text in enumerate(texts) if not _is_number(text)), 0)
                held = repr(show(str(values.iloc[row])[:40]))
                raise InputError(_no_number(column, start + row, held))
        return frame.iloc[:, self.first :].to_numpy(dtype=np.float64)

    def _block(self, row: int) -> tuple[int, np.ndarray]:
        """Return the block that has a row, and the number of its first."""
        if row < self.held[0]:
            self.blocks, self.held = self._parsed(), (0, self.held[1][:0])
        while row >= self.held[0] + len(self.held[1]):
            block = next(self.blocks, None)
            if block is None:
                raise InputError("it became shorter while it was read: ask again when it is whole")
            self.held = block
        return self.held

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        start, stop, step = rows.indices(self.shape[0])
        parts, row = [np.empty((0, self.shape[1]))], start
        while row < stop:
            begin, block = self._block(row)
            parts.append(block[row - begin : stop - begin])
            row = begin + len(block)
        return np.concatenate(parts)[::step]


@dataclass(frozen=True)
class _PerhapsHeaded:
    """A column whose first line is 0: the first of its numbers, or what pandas calls the column."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        return self.values[rows]


def _csv(path: Path) -> dict[str, Entry]:
    first, second = _first_lines(path)
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        numbers = ",".join(second).split(mark)  # whose decimals may have commas
        if len(numbers) > 1 and all(_is_number(each.replace(",", ".")) for each in numbers):
            raise InputError(
                f"its cells are separated by {called}: write it with commas between cells, and "
                "points before decimals"
            )
    names = first if _is_header(first, second) else None
    if names is not None and len(second) > len(first):
        raise InputError(
            f"its first line has {len(first)} names and its second {len(second)} values: name "
            "every column, or leave the names out"
        )
    index = 0
    while names is not None and index < len(first) - 1 and first[index] in ("", UNNAMED):
        index += 1
    if len(first) - index == 1:
        return _one_column(path, names)
    if names is not None:
        _require_features(names[index:])
    rows = _Csv(path, names, len(first), index)
    return {"table": Entry(rows.shape, lambda: rows)}


def _one_column(path: Path, names: Sequence[str] | None) -> dict[str, Entry]:
    """Read the only column, or the one behind an index, whole: labels, as a rule."""
    values = _read_csv(path, names).iloc[:, -1]
    _require_no_gap(values, "0" if names is None else repr(show(names[-1])), 0)
    array = values.to_numpy() if len(values) else np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "fiu":
        array = array.astype(str)
        if names is not None and len(names) == 1 and names[0] in array:
            array = np.concatenate([names, array])  # a class again, and no name of the column
    if names == ["0"] and array.dtype.kind in "iu":
        rows: Rows = _PerhapsHeaded(np.concatenate([np.zeros(1, array.dtype), array]))
        return {"table": Entry(rows.shape, lambda: rows)}
    return {"table": Entry(array.shape, lambda: array)}


def _read_csv(path: Path, names: Sequence[str] | None, **options: Any) -> Any:
    import pandas as pd

    header = None if names is None else 0
    return pd.read_csv(path, header=header, encoding="utf-8-sig", skipinitialspace=True, **options)


def _require_no_gap(values: Any, column: str, start: int) -> None:
    gaps = values.isna().to_numpy()
    if gaps.any():
        row = start + int(gaps.argmax())
        raise InputError(f"its column {column} must hold no empty value or NaN; row {row} does")


def _first_lines(path: Path) -> tuple[list[str], list[str]]:
    """Return the cells of the first two lines that are not empty; of none, no cells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        filled = (cells for cells in csv.reader(file, skipinitialspace=True) if cells)
        return next(filled, []), next(filled, [])


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether the first line of a CSV file is names, which may be numbers."""
    named = list(dropwhile(not_, first))  # behind an index, which has no name
    if not all(_is_number(cell) for cell in named if cell):
        return True
    if named and _counted(named):
        return True
    whole = all(cell.isdecimal() for cell in first) and len(set(first)) == len(first)
    return whole and bool(second) and not any(cell.lstrip("-").isdecimal() for cell in second)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[[Path], dict[str, Entry]]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".pt": _pt,
    ".pth": _pt,
    ".parquet": _parquet,
    ".csv": _csv,
}
