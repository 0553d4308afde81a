"""A new chapter: where it goes, what is refused, and that nothing is written then."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from press.__main__ import main
from press.chapter import (
    LONGEST_NAME,
    MARKER,
    TEMPLATE,
    begin_chapter,
    fill,
    part_of,
    require_written,
    with_chapter,
)
from press.project import PressError, Project
from repcollapse import figures
from repcollapse.methods import METHODS

CONTENTS = """\
format: jb-book
parts:
  - caption: Seeing
    chapters:
      - file: notebooks/01_one
  - caption: Remedies
    chapters:
      - file: notebooks/08_eight
      - file: notebooks/11_eleven
  - caption: Reference
    chapters:
      - file: book/ledger
"""
SET_UP = "import os  # as everywhere"


@pytest.fixture
def book(tmp_path: Path, make: Any) -> Project:
    for name in ("01_one", "08_eight", "11_eleven"):
        cells = make.markdown("# A"), make.code(SET_UP, "remove-cell"), make.parameters()
        make.write(tmp_path / "notebooks" / f"{name}.ipynb", *cells)
    (tmp_path / "_toc.yml").write_text(CONTENTS)
    return Project(tmp_path)


def contents(book: Project) -> str:
    return (book.root / "_toc.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "part", "after", "inside"),
    [
        ("09_nine", None, "08_eight", "Remedies"),
        ("12_twelve", None, "11_eleven", "Remedies"),
        ("02_two", None, "01_one", "Seeing"),
        ("02_two", "Seeing", "01_one", "Seeing"),
        ("02_two", "Remedies", "    chapters:", "Remedies"),
        ("00_zero", None, "    chapters:", "Seeing"),
    ],
)
def test_a_chapter_goes_by_its_number(name: str, part: str | None, after: str, inside: str) -> None:
    lines = with_chapter(CONTENTS, name, part).splitlines()
    place = lines.index(f"      - file: notebooks/{name}")
    assert lines[place - 1].endswith(after)
    assert part_of("\n".join(lines), name) == inside
    del lines[place]
    assert lines == CONTENTS.splitlines()


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("02_two", "Reference", "PART='Reference': .* puts 02_two into 'Seeing' or 'Remedies'"),
        ("09_nine", "Seeing", "puts 09_nine into 'Remedies'"),
        ("09_nine", "remedies", "PART='remedies'"),
        ("08_eight", None, "_toc.yml lists it already"),
    ],
)
def test_a_part_that_breaks_the_order_is_refused(name: str, part: str | None, message: str) -> None:
    with pytest.raises(PressError, match=message):
        with_chapter(CONTENTS, name, part)


def test_contents_without_notebooks_are_refused() -> None:
    with pytest.raises(PressError, match="lists no notebook"):
        with_chapter("parts: []\n", "09_nine", None)


def test_the_notebook_is_the_template_filled(book: Project) -> None:
    written = begin_chapter(book, "12_soft_whitening", "w_mse", "Soft whitening", "Remedies")
    assert written == ["notebooks/12_soft_whitening.ipynb", "_toc.yml"]
    assert contents(book) == with_chapter(CONTENTS, "12_soft_whitening", "Remedies")
    notebook = nbformat.read(book.root / written[0], as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert notebook.cells[0].source == SET_UP
    assert notebook.cells[1].source.startswith("# Soft whitening\n")
    for said in (
        'METHODS["w_mse"]',
        'figures.colour("w_mse")',
        '"soft-whitening-prevents-collapse"',
        'remedy="soft whitening"',
        "(#soft-whitening-mended)",
    ):
        assert said in text
    assert "@" not in text
    assert "```" not in text


@pytest.mark.parametrize(
    ("title", "remedy"),
    [("VICReg", "VICReg"), ("W-MSE", "W-MSE"), ("Sub-batch", "sub-batch"), ("A", "A")],
)
def test_a_name_keeps_its_capitals_in_the_matrix(book: Project, title: str, remedy: str) -> None:
    begin_chapter(book, "12_new", "vicreg", title)
    text = (book.root / "notebooks" / "12_new.ipynb").read_text(encoding="utf-8")
    assert json.dumps(f'remedy="{remedy}"')[1:-1] in text


def test_a_method_without_a_colour_of_its_own_gets_one_of_the_palette(
    book: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "new", METHODS["vicreg"])
    begin_chapter(book, "12_new", "new", "New")
    text = (book.root / "notebooks" / "12_new.ipynb").read_text(encoding="utf-8")
    assert r"figures.colour(\"purple\")" in text
    assert figures.colour("purple")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "triplet"}, "NAME='triplet': expected two digits and words"),
        ({"name": ""}, "NAME=''"),
        ({"name": "12_Triplet"}, "NAME='12_Triplet'"),
        ({"name": "12-triplet"}, "NAME='12-triplet'"),
        ({"name": "../12_triplet"}, "NAME='../12_triplet'"),
        ({"name": "12_" + "a" * LONGEST_NAME}, f"at most {LONGEST_NAME} characters"),
        ({"name": "11_eleven"}, "notebooks/11_eleven.ipynb has that number already"),
        ({"name": "11_other"}, "notebooks/11_eleven.ipynb has that number already"),
        ({"method": "vicregg"}, "METHOD='vicregg': expected one of alignment_uniformity, "),
        ({"method": "invariance"}, "METHOD='invariance': expected a remedy"),
        ({"title": ""}, "TITLE=''"),
        ({"title": 'The "margin"'}, "TITLE="),
        ({"title": "a\nb"}, "TITLE="),
        ({"title": "a" * 61}, "at most 60 characters"),
        ({"part": "Seeing"}, "PART='Seeing'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    book: Project, given: dict[str, str], message: str
) -> None:
    before = {path: path.read_bytes() for path in book.root.rglob("*") if path.is_file()}
    good = {"name": "12_triplet", "method": "vicreg", "title": "Triplet"}
    with pytest.raises(PressError, match=message):
        begin_chapter(book, **(good | given))
    assert {path: path.read_bytes() for path in book.root.rglob("*") if path.is_file()} == before


def test_the_command_says_what_it_wrote(book: Project, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--root", str(book.root), "chapter", "12_new", "vicreg", "New"]
    assert main([*given, "--part", ""]) == 0
    assert capsys.readouterr().out == "wrote notebooks/12_new.ipynb\nwrote _toc.yml\n"
    assert main(given) == 1
    assert "has that number already" in capsys.readouterr().err


def test_every_placeholder_is_filled_and_every_tag_kept() -> None:
    with pytest.raises(KeyError):
        fill("# @TITLE@ of @NOBODY@", {"TITLE": "A"})
    notebook = fill("Text\n\n```python hide-input\na = 1\n```\n\n```python\nb = 2\n```\n", {})
    shown = [(cell["cell_type"], cell["source"], cell["metadata"]) for cell in notebook["cells"]]
    assert shown == [
        ("markdown", "Text", {}),
        ("code", "a = 1", {"tags": ["hide-input"]}),
        ("code", "b = 2", {}),
    ]


@pytest.mark.parametrize("command", [["build"], ["replicate", "first_seed=100"]])
def test_nothing_is_built_of_a_chapter_that_is_not_written(
    book: Project, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    begin_chapter(book, "12_new", "vicreg", "New")
    assert main(["--root", str(book.root), *command]) == 1
    said = capsys.readouterr()
    assert f"notebooks/12_new.ipynb: {TEMPLATE.read_text().count(MARKER)} places" in said.err
    assert "11_eleven" not in said.err + said.out, "nothing was executed"
    assert not book.build.exists()


def test_a_book_without_the_mark_is_written(book: Project) -> None:
    require_written(book)
