"""What a notebook reaches is what makes it run again, and nothing else does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from press.imports import files_behind, package_files
from press.project import Project, digest_of_measurements, digest_of_sources

TREE = {
    "pack/__init__.py": "_NAMES = {'lend': 'lent', 'fetch': 'family'}",
    "pack/base.py": "",
    "pack/middle.py": "def late():\n    from pack import base\n    return base",
    "pack/top.py": "import pack.middle",
    "pack/lent.py": "",
    "pack/alone.py": "",
    "pack/family/__init__.py": "from pack.family.first import one",
    "pack/family/first.py": "one = 1",
    "pack/family/second.py": "from pack import base",
}

Write = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "src"


@pytest.fixture
def notebook(make: Any, tmp_path: Path) -> Write:
    def write(*code: str, tag: str | None = None) -> Path:
        path = tmp_path / "notebooks" / "chapter.ipynb"
        path.parent.mkdir(exist_ok=True)
        cells = [make.code(each, *([tag] if tag else [])) for each in code]
        path.write_text(json.dumps(make.notebook(*cells)))
        return path

    return write


def reached(path: Path, source: Path) -> set[str]:
    return {file.relative_to(source / "pack").as_posix() for file in files_behind(path, source)}


FAMILY = {"family/__init__.py", "family/first.py", "family/second.py"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import json", set()),
        ("from pack import lend", {"lent.py"}),
        ("from pack import fetch", FAMILY | {"base.py"}),
        ("from pack.base import anything", {"base.py"}),
        ("from pack import top as t", {"top.py", "middle.py", "base.py"}),
        ("import pack.family.first", FAMILY | {"base.py"}),
        ("from pack.family import one", FAMILY | {"base.py"}),
        ("def f():\n    import pack.alone", {"alone.py"}),
        ("name = 'pack.alone'", {"alone.py"}),
        ("text = 'pack is alone'", set()),
        ("text = 'pack'", set()),
    ],
)
def test_imports_are_followed(source: Path, notebook: Write, code: str, expected: set[str]) -> None:
    assert reached(notebook(code), source) == expected


@pytest.mark.parametrize(
    "code", ["import pack", "import pack as p", "%run pack", "import subprocess", "!python -m pack"]
)
def test_what_cannot_be_read_reaches_everything(source: Path, notebook: Write, code: str) -> None:
    assert files_behind(notebook(code), source) == package_files(source)


def test_the_unseen_cell_that_installs_does_not_count(source: Path, notebook: Write) -> None:
    assert reached(notebook("import subprocess", tag="remove-cell"), source) == set()


@pytest.mark.parametrize(
    ("changed", "matters"),
    [
        *[(name, True) for name in ("top.py", "middle.py", "base.py")],
        *[(name, False) for name in ("alone.py", "family/first.py", "new.py", "__init__.py")],
    ],
)
def test_only_what_is_reached_counts(
    source: Path, notebook: Write, changed: str, matters: bool
) -> None:
    path, project = notebook("from pack import top"), Project(source.parent)
    before = digest_of_sources(project, path)
    with (source / "pack" / changed).open("a") as file:
        file.write("\n# a change\n")
    assert (digest_of_sources(project, path) != before) is matters


def test_the_notebook_itself_counts(source: Path, notebook: Write) -> None:
    project = Project(source.parent)
    before = digest_of_sources(project, notebook("import pack"))
    assert digest_of_sources(project, notebook("import pack  # again")) != before


CLAIM = """ledger.claim(
    "it-collapses",
    criterion=evidence.every_seed(below=0.05),{expected}
)"""


def as_committed(path: Path) -> Path:
    """Lay a notebook out as nbformat does: a line of code is a line of the file."""
    content = nbformat.read(path, as_version=4)
    for index, cell in enumerate(content.cells):
        cell.id = f"cell-{index}"
    nbformat.write(content, path)
    return path


def test_what_is_expected_is_shown_and_measures_nothing(source: Path, notebook: Write) -> None:
    project = Project(source.parent)
    shown, measured = set(), set()
    for verdict in ("", "reproduced", "not reproduced"):
        expected = f'\n    expected="{verdict}",' if verdict else ""
        path = as_committed(notebook(CLAIM.format(expected=expected)))
        shown.add(digest_of_sources(project, path))
        measured.add(digest_of_measurements(project, path))
    assert len(shown) == 3
    assert len(measured) == 1
    prose = CLAIM.format(expected="")
    path = as_committed(notebook(prose))
    content = nbformat.read(path, as_version=4)
    content.cells.append(nbformat.v4.new_markdown_cell("What follows from this."))
    nbformat.write(content, path)
    assert digest_of_sources(project, path) not in shown
    assert digest_of_measurements(project, path) in measured
    stricter = as_committed(notebook(CLAIM.format(expected="").replace("0.05", "0.04")))
    assert digest_of_measurements(project, stricter) not in measured
