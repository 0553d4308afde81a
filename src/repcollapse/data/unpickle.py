"""Read the pickles of CIFAR-10, which Python 2 wrote, without running what a pickle can run.

A pickle is a program: to load one is to call what it names. The official files name three things of
numpy, to rebuild one array of bytes. Those names lead here to stand-ins that can do exactly that
and keep no state of their own; every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np


def loads(data: bytes, *, source: str) -> Any:
    """Return what the pickle holds: containers, numbers, bytes and `ByteArray`.

    Parameters
    ----------
    data : bytes
        The pickle.
    source : str
        The file's name, for the error message.

    Raises
    ------
    ValueError
        Where the pickle is damaged or asks for any other name; nothing of it has then been run.

    Examples
    --------
    >>> loads(pickle.dumps({"label_names": ["cat"]}), source="example")
    {'label_names': ['cat']}
    >>> loads(pickle.dumps(print), source="example")
    Traceback (most recent call last):
        ...
    ValueError: example: refused: the pickle asks for builtins.print; a CIFAR-10 file needs only \
numpy.core.multiarray._reconstruct, numpy.ndarray, numpy.dtype
    """
    try:
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _RefusedError as error:
        raise ValueError(f"{source}: refused: {error}") from None
    except Exception as error:
        # A damaged pickle raises whatever its bytes happen to mean.
        raise ValueError(
            f"{source}: not a whole pickle of CIFAR-10 ({type(error).__name__}: {error})"
        ) from error


class ByteArray:
    """The array of a batch: a shape and as many unsigned bytes, in C order."""

    __slots__ = ("_data", "_shape")

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple(shape), _ByteType(), False, bytes(data)):
                self._shape, self._data = shape, data
            case _:
                raise _RefusedError("the pickle describes an array other than plain bytes")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise _RefusedError(f"the pickle asks for an array of shape {shape!r}")
        if math.prod(shape) != len(data):
            raise _RefusedError(f"an array of shape {shape} cannot hold {len(data)} bytes")

    def numpy(self) -> np.ndarray:
        """Return it as a read-only numpy array."""
        return np.frombuffer(self._data, np.uint8).reshape(self._shape)


class _RefusedError(pickle.UnpicklingError):
    pass


class _ByteType:
    """Stands in for numpy.dtype("u1")."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if state != (3, b"|", None, None, None, -1, -1, 0):
            raise _RefusedError(f"the pickle asks for the numpy type {state!r}")


# The three names. With empty slots, an instance has no attribute that a pickle could set.
class _NDArray:
    __slots__ = ()


class _Reconstruct:
    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> ByteArray:
        if not isinstance(kind, _NDArray) or (shape, code) != ((0,), b"b"):
            raise _RefusedError(f"the pickle asks for an array of shape {shape!r}, type {code!r}")
        return ByteArray()


class _DType:
    __slots__ = ()

    def __call__(self, code: Any, align: Any, copy: Any) -> _ByteType:
        if (code, align, copy) != (b"u1", 0, 1):
            raise _RefusedError(f"the pickle asks for the numpy type {code!r}; needed is b'u1'")
        return _ByteType()


_ALLOWED = {
    "numpy.core.multiarray._reconstruct": _Reconstruct,
    "numpy.ndarray": _NDArray,
    "numpy.dtype": _DType,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked not in _ALLOWED:
            raise _RefusedError(
                f"the pickle asks for {asked}; a CIFAR-10 file needs only {', '.join(_ALLOWED)}"
            )
        return _ALLOWED[asked]()

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError(f"the pickle asks for the outside object {pid!r}; it may ask for none")
