"""Each notebook in an empty folder, where only what Colab has of ours is installed.

A notebook has to install the package through its own first cell, from a local git address, and to
run to its end. Package and notebooks come from a clone of the last commit: *changes that are not
committed are not tested*.

This takes minutes and an index to install from, so it is asked for by name. REPCOLLAPSE_COLAB=full
runs the notebooks as they are, each in an environment of its own. REPCOLLAPSE_COLAB=1 runs one seed
and few steps, one after the other in one environment, as a reader does who goes on to the next: the
first installs the package, and that cell is the same in all (`test_contract.py`). The chapters then
take turns between drawn sprites and, where REPCOLLAPSE_DATA has its files, Fashion-MNIST.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chapters import NOTEBOOKS, ROOT, Chapter
from elsewhere import BRIEF, require_brief

from press import ledger
from press.execute import THREAD_VARIABLES
from press.outputs import CLAIM, FIGURE, outputs_of

ASKED = os.environ.get("REPCOLLAPSE_COLAB", "")
DATA = os.environ.get("REPCOLLAPSE_DATA", "")
DATASETS = ["sprites", "fashion_mnist"] if DATA else ["sprites"]
PREINSTALLED = ["numpy", "matplotlib", "seaborn", "scikit-learn", "ipykernel"]
MINUTES = 60

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(20 * MINUTES),
    pytest.mark.skipif(
        not ASKED, reason="takes minutes: set REPCOLLAPSE_COLAB=1, or =full for the defaults"
    ),
]

LIST_INSTALLED = """
import importlib.metadata, json
every = importlib.metadata.distributions()
print(json.dumps({found.name.lower(): found.version for found in every}))
"""
FIND_ORIGIN = """
import importlib.metadata
print(importlib.metadata.distribution("repcollapse").read_text("direct_url.json"))
"""


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a command as somebody would who has none of this project; return what it printed."""
    ours = ("REPCOLLAPSE_", "PYTHON", "JUPYTER", "VIRTUAL_ENV", "MPLBACKEND")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept |= dict.fromkeys(THREAD_VARIABLES, "1") | {"PYTHONNOUSERSITE": "1"} | variables
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=15 * MINUTES,
    )
    if done.returncode:
        pytest.fail(f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}", pytrace=False)
    return done.stdout


def installed(python: Path) -> dict[str, str]:
    """Every distribution this interpreter sees, and its version."""
    versions: dict[str, str] = json.loads(run(python, "-c", LIST_INSTALLED, folder=python.parent))
    return versions


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    # Not pytest's own folder, which is kept for a while: this one is large.
    with tempfile.TemporaryDirectory(prefix="repcollapse-colab-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def clone(workshop: Path) -> Path:
    target = workshop / "clone"
    run("git", "clone", "--quiet", ROOT, target, folder=workshop)
    return target


@pytest.fixture(scope="module")
def pristine(workshop: Path) -> Path:
    """An environment with what Colab has of ours; with "full" it is only ever copied."""
    target = workshop / "pristine"
    run(sys.executable, "-m", "venv", target, folder=workshop)
    pip = [target / "bin" / "python", "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    run(*pip, "torch", folder=workshop)
    run(*pip, *PREINSTALLED, folder=workshop)
    return target


@pytest.fixture
def python(pristine: Path, workshop: Path) -> Iterator[Path]:
    """The interpreter that a notebook gets: with "full" of a fresh environment.

    It has links to the files of the pristine one. pip replaces files and never writes into them,
    so that the pristine one stays what it is.
    """
    if ASKED != "full":
        yield pristine / "bin" / "python"
        return
    target = workshop / "fresh"
    shutil.copytree(pristine, target, symlinks=True, copy_function=os.link)
    yield target / "bin" / "python"
    shutil.rmtree(target)


def describe_kernel(folder: Path, python: Path) -> None:
    """Write a kernel that runs in another environment than the papermill that drives it."""
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    description = {"argv": argv, "display_name": "Colab", "language": "python"}
    kernel = folder / "kernels" / "colab"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(description), encoding="utf-8")


def parameters_of(name: str) -> dict[str, Any]:
    """What a notebook is run with: nothing with "full", else briefly and on its turn's data set."""
    if ASKED == "full":
        return {}
    turn = [path.name for path in NOTEBOOKS].index(name) % len(DATASETS)
    return {"dataset": DATASETS[turn], **BRIEF}


def execute(source: Path, python: Path, address: str, folder: Path) -> dict[str, Any]:
    """Execute a notebook with the kernel of an environment, in a folder; return it."""
    with tempfile.TemporaryDirectory() as name:
        aside = Path(name)
        describe_kernel(aside, python)
        parameters = parameters_of(source.name)
        given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
        variables = {"JUPYTER_PATH": name, "IPYTHONDIR": str(aside / "ipython")}
        if parameters.get("dataset") == "fashion_mnist":
            variables["REPCOLLAPSE_DATA"] = DATA
        run(
            *(sys.executable, "-m", "papermill", source, aside / "out.ipynb", *given),
            *("-k", "colab", "--cwd", folder, "--no-progress-bar"),
            folder=aside,
            REPCOLLAPSE_SOURCE=address,
            **variables,
        )
        notebook: dict[str, Any] = json.loads((aside / "out.ipynb").read_text(encoding="utf-8"))
    return notebook


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_a_notebook_installs_the_package_and_runs(
    name: str, clone: Path, python: Path, tmp_path: Path
) -> None:
    source = clone / "notebooks" / name
    assert source.exists(), f"{name} is not committed"
    before = installed(python)
    if ASKED == "full" or name == NOTEBOOKS[0].name:
        assert "repcollapse" not in before
    assert "papermill" not in before

    notebook = execute(source, python, f"git+{clone.as_uri()}", tmp_path)

    after = installed(python)
    commit = run("git", "rev-parse", "HEAD", folder=clone).strip()
    origin = json.loads(run(python, "-c", FIND_ORIGIN, folder=tmp_path))
    assert origin["url"] == clone.as_uri()
    assert origin["vcs_info"]["commit_id"] == commit
    moved = {key: after.get(key) for key in before if after.get(key) != before[key]}
    assert moved == {}, "what Colab has must stay as it is"

    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    chapter = Chapter(source)
    assert [figure["name"] for figure in outputs_of(notebook, FIGURE)] == chapter.figures
    for cell in cells:
        for output in cell["outputs"]:
            if FIGURE in output.get("data", {}):
                assert {"image/png", "text/html"} & output["data"].keys()
    claims = [ledger.parse(claim, name, name) for claim in outputs_of(notebook, CLAIM)]
    assert sorted(claim.id for claim in claims) == sorted(chapter.identifiers("ledger.claim"))
    if ASKED != "full":
        require_brief(claims, parameters_of(name)["dataset"])
    assert list(tmp_path.iterdir()) == [], "a notebook leaves nothing behind"
