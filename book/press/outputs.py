"""What the package leaves in an executed notebook for the press: figures, claims and cells."""

from collections.abc import Iterator
from typing import Any

from press.imports import text_of
from press.project import PressError

FIGURE = "application/vnd.repcollapse.figure+json"
CELL = "application/vnd.repcollapse.cell+json"
CLAIM = "application/vnd.repcollapse.claim+json"
COLUMN = "application/vnd.repcollapse.column+json"


def outputs_of(notebook: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """Every record of one kind, in the order of the page."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            record = output.get("data", {}).get(kind)
            if record is not None:
                yield record


def title_of(notebook: dict[str, Any], name: str) -> str:
    """Return the first heading."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in text_of(cell).splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    raise PressError(f"{name}.ipynb: no heading of the first level ('# Title') in a markdown cell")
