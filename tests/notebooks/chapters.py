"""The chapters as these tests read them: their cells, and what their code says without running."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)
MATH = re.compile(r"\$\$.*?\$\$|\$[^$]+\$", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)")


@dataclass(frozen=True)
class Chapter:
    """One notebook."""

    path: Path

    @cached_property
    def notebook(self) -> nbformat.NotebookNode:
        return nbformat.read(self.path, as_version=nbformat.NO_CONVERT)

    @property
    def code(self) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def prose(self) -> list[str]:
        return [cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @cached_property
    def tree(self) -> ast.Module:
        """All code in reading order, as one module."""
        return ast.parse("\n".join(cell.source for cell in self.code))

    @property
    def headings(self) -> list[str]:
        text = CODE.sub("", "\n\n".join(self.prose))
        return re.findall(r"^#{1,6} .*$", text, re.MULTILINE)

    def section(self, heading: str) -> str:
        """Return the Markdown under a heading, up to the next of its level."""
        _, _, rest = "\n\n".join(self.prose).partition(f"{heading}\n")
        return re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]

    def calls(self, *names: str) -> list[ast.Call]:
        """Return the calls of functions of these names, such as "ledger.claim", in order."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in names
        ]
        return sorted(found, key=lambda call: (call.lineno, call.col_offset))

    def identifiers(self, function: str) -> list[str]:
        """Return the first argument of each call of a function, which has to be written out."""
        return [str(ast.literal_eval(call.args[0])) for call in self.calls(function)]

    @property
    def figures(self) -> list[str]:
        """The names of the figures, which have to be written out."""
        return [
            str(ast.literal_eval(keyword.value))
            for call in self.calls("figures.show", "figures.flipbook")
            for keyword in call.keywords
            if keyword.arg == "name"
        ]


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def links(markdown: str) -> Iterator[tuple[str, str]]:
    """Text and target of each link, leaving out what only looks like one in code or formulas."""
    for match in LINK.finditer(MATH.sub("", CODE.sub("", markdown))):
        yield match[1], match[2]


CHAPTERS = [Chapter(path) for path in NOTEBOOKS]
