"""The wheel, as the release workflow builds and tries it: all is there, and nothing else needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import repcollapse

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github/workflows"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info")

pytestmark = pytest.mark.slow


def workflow() -> dict:
    return yaml.safe_load((WORKFLOWS / "release.yml").read_text(encoding="utf-8"))


def script(name: str) -> str:
    """What a step of the workflow runs in an empty folder."""
    (step,) = [step for step in workflow()["jobs"]["try"]["steps"] if step.get("name") == name]
    assert step["working-directory"] == "empty"
    return step["run"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tree, so that building leaves nothing in this one."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    shutil.copytree(ROOT / "src", copy / "src", ignore=LEFT_OUT)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (made,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--target", folder / "site", made],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return made


def bash(wheel: Path, folder: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """Run lines as the workflow does, with the installed wheel and without this tree."""
    site = wheel.parent / "site"
    folders = [site / "bin", Path(sys.executable).parent]
    return subprocess.run(
        ["bash", "-e", "-c", lines],
        cwd=folder,
        env=os.environ
        | {"PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]])}
        | {"PYTHONPATH": str(site), "MYPYPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_holds_every_module_and_says_that_it_is_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = (ROOT / "src" / "repcollapse").rglob("*")
    there = {path.relative_to(ROOT / "src").as_posix() for path in sources if path.is_file()}
    assert held == {name for name in there if name.endswith((".py", ".txt", "py.typed"))}
    assert "repcollapse/modes/book.txt" in held
    assert "repcollapse/py.typed" in held
    assert wheel.name == f"repcollapse-{repcollapse.__version__}-py3-none-any.whl"


def test_its_command_line_works_in_an_empty_folder(wheel, tmp_path):
    lines = script("Use it where nothing of the repository is")
    asked = {line.split()[1] for line in lines.splitlines() if line.startswith("repcollapse")}
    assert asked == {"--version", "demo", "diagnose", "explain", "train"}
    where = "python -c 'import repcollapse; print(repcollapse.__file__)' >&2\n"
    done = bash(wheel, tmp_path, where + lines)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(str(wheel.parent / "site"))
    assert done.stdout.startswith(f"repcollapse {repcollapse.__version__}\n")
    assert "simsiam, 2 steps" in done.stdout and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        *("z.npy", "report.html", "report.json", "run")
    }


def test_a_checker_sees_the_types_of_every_name_that_the_package_lends(wheel, tmp_path):
    names = repcollapse._NAMES
    uses = "".join(f"reveal_type(repcollapse.{name})\n" for name in names)
    (tmp_path / "all.py").write_text("import repcollapse\n" + uses, encoding="utf-8")
    # One run for both questions, and without torch, over which a checker takes its time.
    checker = "python -m mypy --no-site-packages --ignore-missing-imports"
    made, asked = script("See its types").splitlines()
    asked = asked.replace("python -m mypy typed.py", "cat said.txt")
    done = bash(wheel, tmp_path, f"{made}\n{checker} all.py typed.py > said.txt || true\n{asked}")
    said = (tmp_path / "said.txt").read_text(encoding="utf-8")
    assert done.returncode == 0 and done.stdout.count("\n") == 1, said
    revealed = [line for line in said.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(names)
    assert not [line for line in revealed if '"Any"' in line]


def test_it_is_tried_on_every_python_that_it_says_it_runs_on():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    jobs = workflow()["jobs"]
    assert jobs["try"]["strategy"]["matrix"]["python"] == said
    assert jobs["publish"]["needs"] == "try" and jobs["try"]["needs"] == "build"


def test_only_a_tag_publishes_and_without_a_password():
    text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    publish = workflow()["jobs"]["publish"]
    assert publish["if"] == "github.ref_type == 'tag'"
    assert publish["permissions"] == {"id-token": "write"}
    assert workflow()["permissions"] == {"contents": "read"} and "secrets" not in text
