"""What CONTRIBUTING.md asks of a newcomer, done as it stands there, in a copy of the tree."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from press import ledger
from press.chapter import MARKER, require_written
from press.execute import THREAD_VARIABLES, Cost, Executed
from press.outputs import CELL, CLAIM, FIGURE, outputs_of
from press.project import PressError, Project, child_environment
from press.stage import stage_notebooks

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make") or ""
LEFT_OUT = (".*", "_build", "__pycache__", "*.egg-info")
FILE = re.compile(r"`([\w/.]+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```bash\n([^\n]*)\n```$", re.MULTILINE)
METHOD, TEST = "src/repcollapse/methods/triplet.py", "tests/methods/test_triplet.py"
NOTEBOOK = "notebooks/90_triplet.ipynb"
LINE = "      - file: notebooks/90_triplet"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MAKE, reason="make is not installed"),
]


def page() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def command(beginning: str) -> list[str]:
    """The words of the one command in a block of its own that begins so."""
    (line,) = [line for line in COMMAND.findall(page()) if line.startswith(beginning)]
    return shlex.split(line)


def run(folder: Path, *words: str) -> str:
    """Run a command in the copy, with the package of the copy; return what it printed."""
    variables = child_environment(Project(folder)) | dict.fromkeys(THREAD_VARIABLES, "1")
    kept = {name: value for name, value in variables.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        words, cwd=folder, env=kept, capture_output=True, text=True, check=False, timeout=250
    )
    if done.returncode:
        pytest.fail(f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", pytrace=False)
    return done.stdout


def run_pytest(folder: Path, *words: str) -> str:
    return run(folder, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words)


def listed(folder: Path) -> list[str]:
    contents = yaml.safe_load((folder / "_toc.yml").read_text(encoding="utf-8"))
    files = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    return [file for file in files if file.startswith("notebooks/")]


def contents() -> list[str]:
    """The lines of the contents, without the page's example where somebody has followed it here."""
    lines = (ROOT / "_toc.yml").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line != LINE]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree after what the page says of a method and of a chapter."""
    folder = tmp_path_factory.mktemp("newcomer") / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / "_toc.yml").write_text("\n".join(contents()) + "\n", encoding="utf-8")
    (folder / NOTEBOOK).unlink(missing_ok=True)
    files = dict(FILE.findall(page()))
    assert list(files) == [METHOD, TEST]
    for name, text in files.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    # The environment is this one: what make would install it from is not looked at.
    ready = ("-o", ".venv/.installed", f"PY={sys.executable}")
    make, *given = command("make chapter")
    assert make == "make"
    run(folder, MAKE, *ready, *given)
    return folder


def test_the_method_passes_its_tests_and_its_doctest(tree: Path) -> None:
    said = run_pytest(tree, METHOD, TEST)
    assert "7 passed" in said


def test_the_command_line_trains_the_method(tree: Path) -> None:
    python, *words = command(".venv/bin/python -m repcollapse train")
    assert python == ".venv/bin/python"
    where = words.index("--epochs")
    words[where : where + 2] = ["--steps", "5"]
    run(tree, sys.executable, *words, "--device", "cpu", "--limit", "256", "--test-limit", "64")
    result = json.loads((tree / "_build" / "triplet" / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == 5
    recipe = result["settings"]["recipe"]
    assert recipe["objective"] == "repcollapse.methods.triplet.triplet_margin"


def test_method_and_chapter_pass_the_linter(tree: Path) -> None:
    ruff = (sys.executable, "-m", "ruff")
    run(tree, *ruff, "check", "--no-cache", METHOD, TEST, NOTEBOOK)
    run(tree, *ruff, "format", "--no-cache", "--check", METHOD, TEST, NOTEBOOK)


def test_the_chapter_is_one_file_and_a_line_of_the_contents(tree: Path) -> None:
    name = Path(NOTEBOOK).name
    known = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} - {name}
    assert {path.name for path in (tree / "notebooks").glob("*.ipynb")} - known == {name}
    assert listed(tree)[-1] == NOTEBOOK.removesuffix(".ipynb")
    lines = (tree / "_toc.yml").read_text(encoding="utf-8").splitlines()
    lines.remove(LINE)
    assert lines == contents()


def test_the_chapter_keeps_the_contract(tree: Path) -> None:
    said = run_pytest(tree, "tests/notebooks/test_contract.py", "-k", "90_triplet or unique")
    passed = int(re.search(r"(\d+) passed", said)[1])
    contract = (ROOT / "tests/notebooks/test_contract.py").read_text(encoding="utf-8")
    assert passed == contract.count("@each_chapter") + 2


def test_the_chapter_runs_and_becomes_a_page(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed.ipynb"
    run(
        tree,
        *(sys.executable, "-m", "papermill", NOTEBOOK, str(target), "-k", "python3"),
        *("-p", "seeds", "1", "-p", "steps", "20", "--no-progress-bar", "--cwd", str(tmp_path)),
    )
    executed = Executed(Path(NOTEBOOK).stem, target, Cost(1.0, 1.0), {"seeds": 1, "steps": 20})
    notebook = executed.read()

    (claim,) = outputs_of(notebook, CLAIM)
    assert claim["id"] == "triplet-prevents-collapse"
    assert (claim["mode"], claim["remedy"]) == ("complete", "triplet margin")
    assert claim["verdict"] == ledger.NOT_JUDGED
    (spread,) = claim["measurements"]
    assert 0.3 < spread <= 1, "a remedy at work, after 20 steps"
    (cell,) = outputs_of(notebook, CELL)
    assert cell["id"] == claim["id"]
    figures = {record["name"]: record for record in outputs_of(notebook, FIGURE)}
    assert list(figures) == ["triplet-spread", "triplet-instruments", "triplet-mended"]
    assert f"trained with the remedy at {spread:.2f}" in figures["triplet-spread"]["alt"]
    assert f"mended: spread {spread:.2f}" in figures["triplet-mended"]["alt"]

    staged = tmp_path / "staged"
    staged.mkdir()
    stage_notebooks([executed], ledger.gather([executed]), staged)
    made = nbformat.read(staged / NOTEBOOK, as_version=nbformat.NO_CONVERT)
    text = "\n".join(cell.source for cell in made.cells)
    assert "(claim-triplet-prevents-collapse)=" in text
    assert "```{solution-start} exercise-90_triplet-1" in text
    assert (staged / "figures" / "cell-triplet-prevents-collapse-dark.png").is_file()


def test_no_book_is_built_of_what_is_not_written(tree: Path) -> None:
    with pytest.raises(PressError, match=re.escape(NOTEBOOK)):
        require_written(Project(tree))
    path = tree / NOTEBOOK
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace(MARKER, "Written:"), encoding="utf-8")
        require_written(Project(tree))
    finally:
        path.write_text(text, encoding="utf-8")


def test_the_page_names_the_mark_of_the_template() -> None:
    assert f"`{MARKER}`" in page()
