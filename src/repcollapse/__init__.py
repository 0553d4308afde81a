"""Representation collapse: objectives, diagnostics and evidence, shared by an executable book.

``data`` and ``views`` make what is trained on, ``networks`` and ``training`` train it,
``objectives`` hold the remedies and what collapses without them, ``diagnostics`` measure what came
out, ``diagnosis`` says what the measures mean together, ``monitor`` asks for it while a model
trains, ``checkups`` judge other models in the worlds of ``modes``, ``evidence`` judges claims,
``figures`` draw. Each is imported when it is first asked for,
and so are the names that stand for the package: :func:`diagnose`, :class:`Monitor`,
:func:`collapse_value`, :func:`explain_loss`.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `_NAMES` lends, for checkers and editors, which import nothing
    from repcollapse.diagnosis import Diagnosis as Diagnosis
    from repcollapse.diagnosis import diagnose as diagnose
    from repcollapse.losses import collapse_value as collapse_value
    from repcollapse.losses import collapse_values as collapse_values
    from repcollapse.losses import explain_loss as explain_loss
    from repcollapse.monitor import CollapseWarning as CollapseWarning
    from repcollapse.monitor import Monitor as Monitor

__version__ = version("repcollapse")

_PARTS = frozenset(
    {
        *("cases", "checkups", "data", "diagnosis", "diagnostics", "evidence", "figures", "files"),
        *("graphs", "losses", "methods", "metrics", "modes", "monitor", "networks", "objectives"),
        *("pretraining", "training", "views"),
    }
)
# Names that stand for the package, and the part that has each. The build reads this dictionary.
_NAMES = {
    "CollapseWarning": "monitor",
    "Diagnosis": "diagnosis",
    "Monitor": "monitor",
    "diagnose": "diagnosis",
    "collapse_value": "losses",
    "collapse_values": "losses",
    "explain_loss": "losses",
}


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS, *_NAMES})
