"""Representation collapse: objectives, diagnostics and evidence, shared by an executable book.

``data`` and ``views`` make what is trained on, ``networks`` and ``training`` train it,
``objectives`` hold the remedies and what collapses without them, ``diagnostics`` measure what came
out, ``evidence`` judges claims about it, ``figures`` draw it. Each is imported when it is first
asked for.
"""

from importlib import import_module
from importlib.metadata import version
from types import ModuleType

__version__ = version("repcollapse")

_PARTS = frozenset(
    {
        *("data", "diagnostics", "evidence", "figures", "files", "losses", "methods"),
        *("networks", "objectives", "pretraining", "training", "views"),
    }
)


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS})
