"""A small book in a temporary folder: notebooks that emit the package's bundles by hand."""

import base64
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from press.execute import Cost, Executed
from press.ledger import Claim, parse
from press.outputs import CELL, CLAIM, COLUMN, FIGURE
from press.project import Project
from repcollapse import evidence

PNG = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
).decode()

BELOW = evidence.every_seed(below=0.01)
MEASURED = {
    "reproduced": [0.001, 0.002, 0.003, 0.001, 0.003],
    "not reproduced": [0.001, 0.002, 0.003, 0.001, 0.023],
}
KEPT = {
    "prevented": [0.9, 0.8, 1.1, 0.7, 0.95],
    "reduced": [0.9, 0.2, 0.6, 0.7, 0.95],
    "not prevented": [0.1, 0.2, -0.1, 0.3, 0.0],
}

Cell = dict[str, Any]
Record = dict[str, Any]


class Maker:
    """Makes cells, notebooks, figures, claims and projects."""

    def code(self, source: str, *tags: str, outputs: list[Record] | None = None) -> Cell:
        return {
            "cell_type": "code",
            "id": f"code-{len(source)}-{abs(hash(source)) % 10**6}",
            "metadata": {"tags": list(tags)} if tags else {},
            "execution_count": None,
            "source": textwrap.dedent(source),
            "outputs": outputs or [],
        }

    def markdown(self, source: str, *tags: str) -> Cell:
        return {
            "cell_type": "markdown",
            "id": f"text-{len(source)}-{abs(hash(source)) % 10**6}",
            "metadata": {"tags": list(tags)} if tags else {},
            "source": source,
        }

    def parameters(self) -> Cell:
        return self.code('seeds = 5\nfirst_seed = 0\ndataset: str = "digits"', "parameters")

    def notebook(self, *cells: Cell) -> dict[str, Any]:
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return {
            "cells": list(cells),
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 5,
        }

    def figure(self, name: str = "a-figure", frames: int = 1, **changes: Any) -> Record:
        labels = [""] if frames == 1 else [f"step {index}" for index in range(frames)]
        record = {
            "name": name,
            "alt": "A line that falls",
            "caption": "The loss $L$ falls.",
            "width": 640,
            "frames": [{"label": label, "light": PNG, "dark": PNG} for label in labels],
        } | changes
        return self.display({"image/png": PNG, "text/plain": "alt", FIGURE: record})

    def claim_record(self, identifier: str = "a-claim", **changes: Any) -> Record:
        """What a chapter records; the measurements give the verdict, unless a test has others."""
        verdict = changes.get("verdict", "reproduced")
        values = changes.get("measurements", MEASURED.get(verdict, MEASURED["reproduced"]))
        mean, interval = evidence.mean_interval(values)
        return {
            "id": identifier,
            "statement": "It collapses.",
            "source": "Table 1",
            "reported": "constant",
            "kind": "trained",
            "criterion": str(BELOW),
            "expected": "reproduced",
            "measurements": values,
            "seeds": [0, 1, 2, 3, 4],
            "dataset": "digits",
            "mean": mean,
            "interval": list(interval) if interval else None,
            "verdict": verdict,
            "chapter": "one",
            "bounds": BELOW.to_bounds(),
        } | changes

    def grid_cell(self, mode: str, remedy: str, **changes: Any) -> Record:
        """What a chapter records of a cell of the matrix."""
        values = changes.pop("measurements", KEPT["prevented"])
        return self.claim_record(
            f"{mode}-{remedy}",
            **{
                "kind": "cell",
                "mode": mode,
                "remedy": remedy,
                "measurements": values,
                "criterion": str(evidence.thirds()),
                "bounds": evidence.thirds().to_bounds(),
                "expected": "prevented",
                "verdict": evidence.verdict(evidence.thirds(), values),
            }
            | changes,
        )

    def cell_output(self, identifier: str) -> Record:
        record = {"id": identifier, "alt": "A dot", "light": PNG, "dark": PNG}
        return self.display({"image/png": PNG, CELL: record})

    def claim_output(self, identifier: str = "a-claim", **changes: Any) -> Record:
        record = self.claim_record(identifier, **changes)
        return self.display({"text/markdown": "a claim", CLAIM: record})

    def column_output(self, *cells: Record) -> Record:
        return self.display({"text/markdown": "a table", COLUMN: {"cells": list(cells)}})

    def claim(self, identifier: str = "a-claim", **changes: Any) -> Claim:
        return parse(self.claim_record(identifier, **changes), "01_one", "One")

    def display(self, data: Record) -> Record:
        return {"output_type": "display_data", "data": data, "metadata": {}}

    def stream(self, text: str) -> Record:
        return {"output_type": "stream", "name": "stdout", "text": text}

    def emit(self, *outputs: Record) -> Cell:
        """A code cell that displays these outputs when it is executed."""
        lines = ["import json", "from IPython.display import display"]
        lines += [
            f"display(json.loads({json.dumps(item['data'])!r}), raw=True)" for item in outputs
        ]
        return self.code("\n".join(lines))

    def write(self, path: Path, *cells: Cell) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.notebook(*cells), indent=1), encoding="utf-8")


@pytest.fixture
def make() -> Maker:
    return Maker()


@pytest.fixture
def project(tmp_path: Path, make: Maker) -> Project:
    """A checkout with a package and one quick notebook, without pages."""
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 1\n")
    make.write(
        tmp_path / "notebooks" / "01_one.ipynb",
        make.markdown("# One"),
        make.parameters(),
        make.code("import package\n\nprint(seeds)"),
    )
    return Project(tmp_path)


@pytest.fixture
def executed(tmp_path: Path, make: Maker) -> Callable[..., Executed]:
    """Write an executed notebook as the press leaves it, without running it."""

    def write(name: str, *cells: Cell, parameters: Record | None = None) -> Executed:
        path = tmp_path / "_build" / "executed" / f"{name}.key.ipynb"
        make.write(path, *cells)
        return Executed(name, path, Cost(38.2, 410.4), parameters or {})

    return write
