"""Begin a chapter: a notebook that runs and keeps the contract, with its sentences still to write.

``chapter.txt`` beside this file is the template: Markdown, and code cells as fenced blocks with
their tag behind ``python``. Whatever begins with :data:`MARKER` is to be replaced by the writer,
and no book is built while a notebook holds it.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from press.imports import text_of
from press.project import PressError, Project, to_json, write_atomically

MARKER = "TO WRITE:"
TEMPLATE = Path(__file__).with_name("chapter.txt")
BLOCK = re.compile(r"^```python ?([\w-]*)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"\d\d_[a-z0-9]+(?:_[a-z0-9]+)*")
# The title is also text of the code, in double quotes.
TITLE = re.compile(r"""[^\s"\\{}`$][^"\\{}`$\n]*""")
LONGEST_NAME, LONGEST_TITLE = 40, 60
LISTED = re.compile(r"^( *)- file: notebooks/(\S+)$")

Cell = dict[str, Any]


def begin_chapter(
    project: Project, name: str, method: str, title: str, part: str | None = None
) -> list[str]:
    """Write ``notebooks/NAME.ipynb`` and its line in ``_toc.yml``.

    Parameters
    ----------
    project : Project
        The checkout.
    name : str
        Of the file: two digits, which give the chapter its place, and words joined by underscores.
    method : str
        What mends: a name in ``repcollapse.methods``.
    title : str
        The chapter's.
    part : str, optional
        Caption of its part in the contents; by default that of the chapter before.

    Returns
    -------
    list of str
        The files written, relative to the root.

    Raises
    ------
    PressError
        For a name, method, title or part other than these, or where a chapter of that number
        exists. Nothing is written then.
    """
    require_name(project, name)
    if not TITLE.fullmatch(title) or len(title) > LONGEST_TITLE:
        raise PressError(
            f"TITLE={title!r}: expected one line of at most {LONGEST_TITLE} characters without "
            'any of " \\ { } ` $'
        )
    colour = require_method(method)
    contents = project.root / "_toc.yml"
    listed = with_chapter(contents.read_text(encoding="utf-8"), name, part)
    words = {
        "TITLE": title,
        # A name keeps its capitals, the first letter of an ordinary word goes in a table's row.
        "REMEDY": title[0].lower() + title[1:] if title[1:2].islower() else title,
        "METHOD": method,
        "COLOUR": colour,
        "SLUG": name[3:].replace("_", "-"),
    }
    notebook = fill(TEMPLATE.read_text(encoding="utf-8"), words)
    notebook["cells"][0]["source"] = set_up(project)
    path = project.root / "notebooks" / f"{name}.ipynb"
    write_atomically(path, to_json(notebook))
    write_atomically(contents, listed)
    return [file.relative_to(project.root).as_posix() for file in (path, contents)]


def require_name(project: Project, name: str) -> None:
    """Refuse a name of another form, and a number that is taken."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise PressError(
            f"NAME={name!r}: expected two digits and words in lower case, joined by underscores, "
            f"at most {LONGEST_NAME} characters: 90_triplet"
        )
    for path in project.notebooks:
        if path.stem[:3] == name[:3]:
            raise PressError(f"NAME={name!r}: notebooks/{path.name} has that number already")


def require_method(method: str) -> str:
    """Refuse a method that cannot mend anything; return its colour."""
    from repcollapse import figures, objectives
    from repcollapse.methods import METHODS

    if method not in METHODS:
        raise PressError(f"METHOD={method!r}: expected one of {', '.join(sorted(METHODS))}")
    if METHODS[method].objective is objectives.invariance:
        raise PressError(f"METHOD={method!r}: expected a remedy; this is what it has to mend")
    return method if method in figures.METHODS else "purple"


def with_chapter(contents: str, name: str, part: str | None) -> str:
    """Return the text of ``_toc.yml`` with the chapter in its place: chapters go by their names."""
    lines = contents.splitlines()
    places = [(at, found) for at, line in enumerate(lines) if (found := LISTED.match(line))]
    if not places:
        raise PressError("_toc.yml lists no notebook: expected lines like '- file: notebooks/...'")
    if any(found[2] == name for _, found in places):
        raise PressError(f"NAME={name!r}: _toc.yml lists it already")
    earlier = [(at + 1, found) for at, found in places if found[2] < name]
    later = [(at, found) for at, found in places if found[2] > name]
    candidates = earlier[-1:] + later[:1]  # after the one before, or before the one after
    for at, found in candidates:
        new = "\n".join([*lines[:at], f"{found[1]}- file: notebooks/{name}", *lines[at:]]) + "\n"
        if part in (None, part_of(new, name)):
            return new
    parts = " or ".join(repr(part_of(contents, found[2])) for _, found in candidates)
    raise PressError(f"PART={part!r}: chapters go by their numbers, which puts {name} into {parts}")


def part_of(contents: str, name: str) -> str | None:
    """Return the caption of the part in which the contents list a notebook."""
    for part in yaml.safe_load(contents).get("parts", []):
        if {"file": f"notebooks/{name}"} in part["chapters"]:
            return str(part["caption"])
    return None


def fill(template: str, words: dict[str, str]) -> dict[str, Any]:
    """Make a notebook of the template."""
    text = re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], template)
    cells: list[Cell] = []
    # The pattern's two groups stand between the texts: text, tag, code, text, tag, code, ..., text.
    pieces = [*BLOCK.split(text), "", ""]
    for prose, tag, code in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        if prose.strip():
            cells.append({"cell_type": "markdown", "metadata": {}, "source": prose.strip()})
        if code:
            metadata = {"tags": [tag]} if tag else {}
            cell = {"cell_type": "code", "metadata": metadata, "source": code}
            cells.append(cell | {"execution_count": None, "outputs": []})
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def set_up(project: Project) -> str:
    """Return the cell that installs the package, the same in all chapters."""
    for path in project.notebooks:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                return text_of(cell)
    raise PressError("notebooks/ holds no chapter whose set-up cell could be taken over")


def require_written(project: Project) -> None:
    """Refuse notebooks that still hold sentences of the template."""
    faults = []
    for path in project.notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        lines = [line.strip() for cell in cells for line in text_of(cell).splitlines()]
        left = [line for line in lines if MARKER in line]
        if left:
            faults.append(f"notebooks/{path.name}: {len(left)} places, the first: {left[0]}")
    if faults:
        raise PressError(f"sentences marked {MARKER!r} are still to write:\n" + "\n".join(faults))
