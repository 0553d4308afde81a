"""Which files of the package a notebook can reach: a change elsewhere changes nothing it shows."""

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


class UnreadableError(Exception):
    """What this code imports cannot be told by reading it."""


def files_behind(notebook: Path, source: Path) -> list[Path]:
    """Return the files below ``source`` that a notebook imports, and that these import in turn.

    A subpackage counts as a whole, since it may load whatever lies in its folder. The file of the
    package at the top does not: it lends names, and whose they are is followed. Where reading the
    code cannot tell what is loaded (the package as a whole, magics, other processes), everything
    counts.
    """
    found: set[Path] = set()
    try:
        wanted = {name for code in code_of(notebook) for name in imports_of(code, source)}
        while wanted:
            new = {file for name in wanted for file in files_of(name, source)} - found
            found |= new
            texts = [file.read_text(encoding="utf-8") for file in new if file.suffix == ".py"]
            wanted = {name for text in texts for name in imports_of(text, source)}
    except UnreadableError:
        return package_files(source)
    return sorted(found)


def package_files(folder: Path) -> list[Path]:
    """Return every file below a folder, leaving out what Python itself leaves there."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(part.endswith(".egg-info") for part in path.parts)
    )


def code_of(notebook: Path) -> Iterator[str]:
    """Yield the code cells of a notebook, but for the unseen one that installs the package."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        unseen = "remove-cell" in cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and not unseen:
            code = text_of(cell)
            if "subprocess" in code:
                raise UnreadableError
            yield code


def text_of(cell: dict[str, Any]) -> str:
    """Return the source of a cell: the format allows a string or a list of lines."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def imports_of(code: str, source: Path) -> Iterator[str]:
    """Yield the modules below ``source`` that code imports, or names in a string to load later."""
    for name in names_in(code):
        parent, _, last = name.rpartition(".")
        if is_package(name, source):
            raise UnreadableError
        if files_of(name, source):
            yield name
        elif is_package(parent, source):
            if last in (lent := lent_by(parent, source)):
                yield f"{parent}.{lent[last]}"
        elif files_of(parent, source):
            yield parent  # what is no module is a name in one


def is_package(name: str, source: Path) -> bool:
    """Whether this is the name of the package at the top."""
    return name.isidentifier() and (source / name / "__init__.py").is_file()


def lent_by(package: str, source: Path) -> dict[str, str]:
    """Return the names that a package takes from its modules when asked, and from which.

    It keeps them in a dictionary called ``_NAMES``.
    """
    return names_lent((source / package / "__init__.py").read_text(encoding="utf-8"))


@cache
def names_lent(code: str) -> dict[str, str]:
    """Return the dictionary that code calls ``_NAMES``, empty where it has none."""
    for node in ast.parse(code).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="_NAMES")], value=value):
                return ast.literal_eval(value)
    return {}


@cache
def names_in(code: str) -> frozenset[str]:
    """Return all dotted names that code imports, or holds as a string."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        raise UnreadableError from None
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                names |= {f"{module}.{alias.name}" for alias in aliases}
            case ast.Constant(value=str(text)) if (
                "." in text and text.replace(".", "").isidentifier()
            ):
                names.add(text)
    return frozenset(names)


def files_of(module: str, source: Path) -> tuple[Path, ...]:
    """Return the files that importing a module below the package loads, none if there is no such.

    They are those of the outermost subpackage that it belongs to, or its own.
    """
    parts = module.split(".")
    if len(parts) == 1:
        return ()
    for depth in range(1, len(parts) + 1):
        path = source.joinpath(*parts[:depth])
        folder = (path / "__init__.py").is_file()
        if not folder and not path.with_suffix(".py").is_file():
            return ()
    inner = source.joinpath(*parts[:2])
    return tuple(package_files(inner)) if inner.is_dir() else (inner.with_suffix(".py"),)
