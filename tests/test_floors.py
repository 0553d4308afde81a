"""An import of the package only ever points down the floors that CONTRIBUTING.md draws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from press.imports import names_in

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "repcollapse"
# It stands beside the floors: what it may read, and who may read it, is said in words.
BESIDE = "figures"
MAY_DRAW = {"diagnosis/report.py"}


def floors() -> dict[str, int]:
    """The height of each part: 0 at the bottom."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"an import only ever points down:\n\n```text\n(.*?)```", text, re.DOTALL)
    rows = [re.split(r"\s*·\s*", row.strip()) for row in reversed(drawn.strip().splitlines())]
    return {part: height for height, row in enumerate(rows) for part in row}


def parts() -> dict[str, Path]:
    return {
        path.stem: path
        for path in SOURCE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }


def imports_of(file: Path) -> set[str]:
    """The parts of the package that a file imports or names to load later."""
    names = names_in(file.read_text(encoding="utf-8"))
    found = {name.split(".")[1] for name in names if name.startswith("repcollapse.")}
    return found & parts().keys()


def files() -> list[Path]:
    return [
        file
        for part, path in sorted(parts().items())
        if not part.startswith("__")
        for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))
    ]


def test_every_part_has_its_floor() -> None:
    drawn = floors()
    standing = {part for part in parts() if not part.startswith("__")} - {BESIDE}
    assert sorted(drawn.keys() - standing) == []
    assert sorted(standing - drawn.keys()) == []


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_down(file: Path) -> None:
    height, inside = floors(), file.relative_to(SOURCE)
    own = inside.parts[0].removesuffix(".py")
    if own == BESIDE:
        return
    reached = imports_of(file) - {own}
    if str(inside) in MAY_DRAW:
        reached -= {BESIDE}
    assert BESIDE not in reached
    upward = {part for part in reached if height[part] >= height[own]}
    assert sorted(upward) == []
