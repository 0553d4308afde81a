"""The ways in, ``make`` and ``.ci/run``, where the machine lacks what they need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make") or ""


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    unwanted = ("MAKE", "MFLAGS", "REPCOLLAPSE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without an environment."""
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.skipif(not MAKE, reason="make is not installed")
def test_a_failing_venv_leaves_no_half_environment(bare: Path) -> None:
    # As on a system without ensurepip: the interpreter is there, pip is not, and venv fails.
    half = f"""\
case "$*" in
    "-m venv"*) mkdir -p .venv/bin && ln -s /bin/false .venv/bin/python; exit 1;;
    *) exec {sys.executable} "$@";;
esac"""
    done = run(MAKE, "install", f"PYTHON={script(bare / 'half', half)}", folder=bare)
    assert done.returncode != 0
    assert "venv" in done.stdout
    assert not (bare / ".venv").exists()


@pytest.mark.skipif(not MAKE, reason="make is not installed")
def test_a_half_environment_that_was_left_is_made_anew(bare: Path) -> None:
    (bare / ".venv" / "bin").mkdir(parents=True)
    (bare / ".venv" / "bin" / "python").symlink_to("/bin/false")
    spy = f"""\
case "$*" in
    "-m venv"*) echo "asked for $*"; exit 1;;
    *) exec {sys.executable} "$@";;
esac"""
    done = run(MAKE, "install", f"PYTHON={script(bare / 'spy', spy)}", folder=bare)
    assert "asked for -m venv --clear .venv" in done.stdout


@pytest.mark.skipif(not MAKE, reason="make is not installed")
def test_an_old_python_is_named(bare: Path) -> None:
    # The guard compares sys.version_info, so a Python that claims to be older is enough.
    old = f"""\
exec {sys.executable} -c "import collections, sys
V = collections.namedtuple('V', 'major minor')
sys.version_info = V(3, 10)
exec(sys.argv[1])" "$2\""""
    done = run(MAKE, "install", f"PYTHON={script(bare / 'old', old)}", folder=bare)
    assert done.returncode != 0
    assert "Python 3.11 or later is needed" in done.stderr
    assert "is 3.10" in done.stderr
    assert not (bare / ".venv").exists()


@pytest.mark.parametrize(("user", "apt"), [("1000", True), ("0", False)])
def test_ci_says_first_that_it_needs_a_browser(user: str, apt: bool, tmp_path: Path) -> None:
    commands = tmp_path / "commands"  # all that there is on this machine
    commands.mkdir()
    for name in ("bash", "dirname"):
        (commands / name).symlink_to(shutil.which(name) or "")
    script(commands / "id", f"echo {user}")
    if apt:
        script(commands / "apt-get", "echo apt-get was called")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    done = run(commands / "bash", ".ci/run", folder=tmp_path, PATH=str(commands))
    assert done.returncode == 1
    assert ".ci/run needs chromium" in done.stderr
    assert "REPCOLLAPSE_CHROMIUM" in done.stderr
    assert done.stdout == ""
