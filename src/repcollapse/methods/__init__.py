"""The methods of the book, ready to train: an objective and the architecture it needs.

Every :class:`~repcollapse.training.Recipe` that a file of this folder names is a method, and the
name is its own. Put a file with a recipe here, and ``repcollapse train --method`` knows it.
Networks and optimiser are the book's defaults; replace what you want otherwise::

    replace(METHODS["vicreg"], encoder="resnet18", dimension=512)
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from repcollapse.training import Recipe


def _collect() -> dict[str, Recipe]:
    methods: dict[str, Recipe] = {}
    for module in iter_modules(__path__):
        named = vars(import_module(f"{__name__}.{module.name}")).items()
        recipes = {name: value for name, value in named if isinstance(value, Recipe)}
        if twice := sorted(set(recipes) & set(methods)):
            raise ImportError(f"{module.name}.py names methods that exist already: {twice}")
        methods |= recipes
    return methods


METHODS: dict[str, Recipe] = _collect()

__all__ = ["METHODS"]
