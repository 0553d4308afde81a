"""Each notebook keeps the contract of CONTRIBUTING.md, as far as it can be read without running."""

from __future__ import annotations

import ast
import importlib.util
import re
import statistics
import subprocess
import sys
import tomllib
from typing import Any

import nbformat
import pytest
import yaml
from chapters import CHAPTERS, ROOT, Chapter, links, tags

PARAMETERS = {"seeds": 5, "first_seed": 0, "dataset": "digits", "device": "auto", "steps": 400}
SECTIONS = [
    "## What you will see",
    "## Break it",
    "## Measure it",
    "## Why",
    "## Mend it",
    "## Where it stops working",
    "## Predict, then run",
    "## Take-aways",
]
# A tag that is misspelt does nothing, and nothing says so.
TAGS = {"parameters", "remove-cell", "hide-input", "hide-cell", "exercise", "solution"}
UNSEEN = {"remove-cell", "hide-input", "hide-cell", "solution"}
MYST = {
    "a colon fence": re.compile(r"^\s*:::", re.MULTILINE),
    "a directive": re.compile(r"^\s*(?:```+|~~~+)\s*\{", re.MULTILINE),
    "a role": re.compile(r"\{[\w:.+-]+\}`"),
    "a target": re.compile(r"^\(.+\)=\s*$", re.MULTILINE),
    "a labelled formula": re.compile(r"\$\$ *\([\w:-]+\)"),
    "a comment": re.compile(r"^%", re.MULTILINE),
    "a break": re.compile(r"^\+\+\+", re.MULTILINE),
    "a link without words": re.compile(r"\[\]\("),
    "attributes": re.compile(r"^\{[.#]", re.MULTILINE),
}
MOST_WORDS, MOST_LINES, MEDIAN_LINES, MOST_COLUMNS = 2200, 35, 8, 78

each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.path.stem)


def set_up(chapter: Chapter) -> str:
    return str(chapter.code[0].source)


def repository() -> str | None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    return None if address is None else str(address)


def test_there_are_notebooks_and_the_contents_list_them_in_order() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    listed = [file for file in listed if file.startswith("notebooks/")]
    assert listed == [f"notebooks/{chapter.path.stem}" for chapter in CHAPTERS]
    assert len(listed) >= 4


# --- the file


@each_chapter
def test_the_file_is_valid_and_holds_nothing_of_a_run(chapter: Chapter) -> None:
    notebook = chapter.notebook
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec == {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    identifiers = [cell.id for cell in notebook.cells]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, cell.id
        assert tags(cell) <= TAGS, cell.id
    for cell in chapter.code:
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id


# --- set-up and parameters


@each_chapter
def test_the_set_up_cell_is_first_and_the_same_everywhere(chapter: Chapter) -> None:
    assert tags(chapter.code[0]) == {"remove-cell"}
    assert set_up(chapter) == set_up(CHAPTERS[0])


@each_chapter
def test_the_set_up_cell_has_the_address_of_the_project(chapter: Chapter) -> None:
    found = re.search(r'os\.environ\.get\(\s*"REPCOLLAPSE_SOURCE",\s*"([^"]*)"', set_up(chapter))
    address = repository()
    assert found is not None
    assert found[1] == ("" if address is None else f"git+{address}")


def run_set_up(monkeypatch: pytest.MonkeyPatch, *, installed: bool, source: str) -> list[list[str]]:
    """Run the cell with its default address replaced; return the commands it would have run."""
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        assert check, "a failing pip must stop the notebook"
        commands.append(command)

    monkeypatch.delenv("REPCOLLAPSE_SOURCE", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(subprocess, "run", run)
    cell = re.sub(r'("REPCOLLAPSE_SOURCE",\s*)"[^"]*"', rf'\1"{source}"', set_up(CHAPTERS[0]))
    exec(compile(cell, "set-up", "exec"), {})
    return commands


def test_the_set_up_cell_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = run_set_up(monkeypatch, installed=False, source="git+https://host/name")
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-1] == "git+https://host/name"


def test_the_set_up_cell_leaves_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_set_up(monkeypatch, installed=True, source="git+https://host/name") == []


def test_the_set_up_cell_asks_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="set REPCOLLAPSE_SOURCE"):
        run_set_up(monkeypatch, installed=False, source="")


@each_chapter
def test_one_cell_declares_the_parameters_and_all_are_used(chapter: Chapter) -> None:
    (position,) = [i for i, cell in enumerate(chapter.code) if "parameters" in tags(cell)]
    declared: dict[str, Any] = {}
    exec(chapter.code[position].source, {}, declared)
    assert declared == PARAMETERS
    rest = "\n".join(cell.source for cell in chapter.code[position + 1 :])
    names = [node for node in ast.walk(ast.parse(rest)) if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    written = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    assert sorted(declared.keys() - read) == [], "declared, but not used"
    assert sorted(declared.keys() & written) == [], "overwritten: the given value would be lost"


# --- prose


@each_chapter
def test_the_sections_are_those_of_a_chapter(chapter: Chapter) -> None:
    assert chapter.prose[0].startswith("# ")
    assert sum(heading.startswith("# ") for heading in chapter.headings) == 1
    assert [heading for heading in chapter.headings if heading in SECTIONS] == SECTIONS


@each_chapter
def test_markdown_is_plain(chapter: Chapter) -> None:
    # The strings of the code, too: captions and computed sentences are shown as they are on Colab.
    strings = [
        node.value
        for node in ast.walk(chapter.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [
        (what, text[:60])
        for text in [*chapter.prose, *strings]
        for what, pattern in MYST.items()
        if pattern.search(text)
    ]
    assert found == []


@each_chapter
def test_the_text_is_short(chapter: Chapter) -> None:
    assert sum(len(text.split()) for text in chapter.prose) <= MOST_WORDS


@each_chapter
def test_exercises_have_folded_solutions(chapter: Chapter) -> None:
    cells = chapter.notebook.cells
    exercises = [
        position
        for position, cell in enumerate(cells)
        if cell.cell_type == "markdown" and re.search(r"^\*\*Exercise", cell.source, re.MULTILINE)
    ]
    assert exercises
    for position in exercises:
        assert cells[position].source.count("**Exercise") == 1, cells[position].id
        assert tags(cells[position + 1]) & {"hide-cell", "solution"}, cells[position].id
        assert cells[position + 1].cell_type == "code", "a solution is executed"


# --- code


@each_chapter
def test_visible_code_is_short(chapter: Chapter) -> None:
    visible = [cell for cell in chapter.code if not tags(cell) & UNSEEN]
    lengths = [len(cell.source.splitlines()) for cell in visible]
    assert max(lengths) <= MOST_LINES
    assert statistics.median(lengths) <= MEDIAN_LINES, lengths


@each_chapter
def test_visible_code_fits_the_page(chapter: Chapter) -> None:
    wide = [
        f"{cell.id}: {len(line)} columns: {line}"
        for cell in chapter.code
        if not tags(cell) & UNSEEN
        for line in cell.source.splitlines()
        if len(line) > MOST_COLUMNS
    ]
    assert wide == []


# --- figures, claims, links


@each_chapter
def test_take_aways_link_to_the_figures_that_show_them(chapter: Chapter) -> None:
    bullets = re.split(r"^- ", chapter.section("## Take-aways"), flags=re.MULTILINE)[1:]
    assert bullets
    for bullet in bullets:
        point = bullet.split("\n\n")[0]
        targets = [target for _, target in links(point)]
        assert targets, f"without a link: {point}"
        assert set(targets) <= {f"#{name}" for name in chapter.figures}, point


@each_chapter
def test_links_lead_somewhere(chapter: Chapter) -> None:
    anchors = {f"#{name}" for other in CHAPTERS for name in other.figures}
    anchors |= {
        f"#claim-{name}" for other in CHAPTERS for name in other.identifiers("ledger.claim")
    }
    for text in chapter.prose:
        for _, target in links(text):
            if re.match(r"https?://", target):
                continue
            path, hash_, fragment = target.partition("#")
            assert not hash_ or f"#{fragment}" in anchors, target
            assert not path or (chapter.path.parent / path).is_file(), target


@each_chapter
def test_every_claim_is_judged_once_and_the_ledger_is_closed(chapter: Chapter) -> None:
    declared = chapter.identifiers("ledger.claim")
    assert declared
    assert sorted(chapter.identifiers("ledger.judge")) == sorted(declared)
    methods = ["ledger.claim", "ledger.judge", "ledger.close"]
    said = [ast.unparse(call.func) for call in chapter.calls(*methods)]
    assert said.count("ledger.close") == 1
    assert said[-1] == "ledger.close"


@each_chapter
def test_what_is_cited_is_in_the_bibliography(chapter: Chapter) -> None:
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{\s*([^,\s]+)", bibliography, re.MULTILINE))
    cited = {
        str(ast.literal_eval(node.value))
        for node in ast.walk(chapter.tree)
        if isinstance(node, ast.keyword)
        and node.arg == "citation"
        and ast.literal_eval(node.value) is not None
    }
    assert cited
    assert sorted(cited - known) == []


@pytest.mark.parametrize("kind", ["figures", "claims"])
def test_names_are_unique_in_the_book(kind: str) -> None:
    names = [
        name
        for chapter in CHAPTERS
        for name in (chapter.figures if kind == "figures" else chapter.identifiers("ledger.claim"))
    ]
    assert len(names) >= len(CHAPTERS)
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
    assert [name for name in names if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []


@each_chapter
def test_every_figure_has_a_name(chapter: Chapter) -> None:
    assert len(chapter.figures) == len(chapter.calls("figures.show", "figures.flipbook")) > 0
