"""Read the pickles of two official data sets without running what a pickle can run.

A pickle is a program: to load one is to call what it names. The files of CIFAR-10 and of Planetoid,
which Python 2 wrote, name a handful of things to rebuild arrays of numbers. Each reader says which
names its files need, and what stands in for each: an object that can do exactly that one thing and
keeps no state of its own. Every other name is refused.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np

# Unsigned bytes, and integers and floats of four bytes with the little end first.
_TYPES = {code: np.dtype(f"<{code.decode()}") for code in (b"u1", b"i4", b"f4")}

# What puts an object into the memo under a number of the file's choice; MEMOIZE counts on.
REMEMBERING = ("PUT", "BINPUT", "LONG_BINPUT")


class RefusedError(ValueError):
    """A pickle asks for what files of its format do not need; nothing of it has been run."""


def loads(data: bytes, *, source: str, format: str, allowed: Mapping[str, Any]) -> Any:
    """Return what a pickle holds: containers, numbers, bytes, and what stand-ins make of the rest.

    Parameters
    ----------
    data
        The pickle, of any protocol; the byte strings of protocol 0 in ASCII.
    source
        The file's name, for error messages.
    format
        What the file is one of, as in "CIFAR-10", for error messages.
    allowed
        Under each dotted name that such files need, what stands in for it: called where the pickle
        calls the name. Those of :data:`NUMPY` make an :class:`Array`. A stand-in must not have an
        attribute that can be set, and raises :class:`RefusedError` for arguments that it does not
        know.

    Raises
    ------
    RefusedError
        Where the pickle asks for another name or an outside object, for more places to remember
        objects in than it has bytes, or for something that a stand-in refuses. It is a ValueError.
    ValueError
        Where the pickle is damaged.

    Examples
    --------
    >>> loads(pickle.dumps({0: [1, 2]}), source="file", format="CIFAR-10", allowed=NUMPY)
    {0: [1, 2]}
    >>> loads(pickle.dumps(print), source="file", format="CIFAR-10", allowed=NUMPY)
    Traceback (most recent call last):
        ...
    repcollapse.data.unpickle.RefusedError: file: refused: the pickle asks for builtins.print; a \
file of CIFAR-10 needs only numpy.core.multiarray._reconstruct, numpy.ndarray, numpy.dtype
    """
    # A pickle may ask by a number that a program gave a name, and what has once been found under a
    # number is handed out without asking: nothing may be there, and nothing of ours left there.
    copyreg.clear_extension_cache()
    try:
        _require_small_memo(data)
        return _Unpickler(data, format, allowed).load()
    except RefusedError as error:
        raise RefusedError(f"{source}: refused: {error}") from None
    except Exception as error:
        # A damaged pickle raises whatever its bytes happen to mean.
        raise ValueError(
            f"{source}: not a whole pickle of {format} ({type(error).__name__}: {error})"
        ) from error
    finally:
        copyreg.clear_extension_cache()


def _require_small_memo(data: bytes) -> None:
    """Refuse a pickle that remembers an object under a number larger than its bytes can count to.

    The unpickler makes room for all smaller numbers, so that nine bytes could take all memory.
    """
    for opcode, number, _ in pickletools.genops(data):
        if opcode.name in REMEMBERING and (number or 0) > len(data):
            raise RefusedError(
                f"the pickle asks for {number} places in its memo; it may ask for {len(data)}, "
                "one for each of its bytes"
            )


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, format: str, allowed: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._format, self._allowed = format, allowed

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in self._allowed:
            raise RefusedError(
                f"the pickle asks for {asked}; a file of {self._format} needs only "
                f"{', '.join(self._allowed)}"
            )
        return self._allowed[asked]

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedError(f"the pickle asks for the outside object {pid!r}; it may ask for none")


class Array:
    """An array of unsigned bytes, or of integers or floats of four bytes; empty until filled.

    Attributes
    ----------
    values : numpy.ndarray
        What it holds, read-only.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = np.frombuffer(b"", np.uint8)

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple(shape), _Type() as kind, False, bytes(data)):
                self.values = _filled(shape, kind.dtype, data)
            case _:
                raise RefusedError("the pickle describes an array other than plain numbers")


def _filled(shape: tuple[Any, ...], dtype: np.dtype[Any], data: bytes) -> np.ndarray:
    if not all(type(size) is int and size >= 0 for size in shape):
        raise RefusedError(f"the pickle asks for an array of shape {shape!r}")
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:
        raise RefusedError(
            f"an array of shape {shape} and type {dtype.str} cannot hold {len(data)} bytes"
        ) from error


class _Type:
    """Stands in for one of the numpy types."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        order = self.dtype.str[:1].encode()  # of single bytes "|", of four "<"
        if state != (3, order, None, None, None, -1, -1, 0):
            raise RefusedError(f"the pickle asks for the numpy type {state!r}")


# With empty slots, an instance has no attribute that a pickle could set.
class _NDArray:
    __slots__ = ()


class _Reconstruct:
    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> Array:
        if not isinstance(kind, _NDArray) or (shape, code) != ((0,), b"b"):
            raise RefusedError(f"the pickle asks for an array of shape {shape!r}, type {code!r}")
        return Array()


class _DType:
    __slots__ = ()

    def __call__(self, code: Any, align: Any, copy: Any) -> _Type:
        if code not in _TYPES or (align, copy) != (0, 1):
            known = ", ".join(map(repr, _TYPES))
            raise RefusedError(f"the pickle asks for the numpy type {code!r}; known are {known}")
        return _Type(_TYPES[code])


# The names by which numpy rebuilds an array.
NUMPY: Mapping[str, Any] = {
    "numpy.core.multiarray._reconstruct": _Reconstruct(),
    "numpy.ndarray": _NDArray(),
    "numpy.dtype": _DType(),
}
