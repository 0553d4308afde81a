"""Where things lie, what is installed, and how a folder or a file is replaced in one step."""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from press.imports import files_behind, package_files

DEFAULT_LIMIT = 1200.0
# MPLBACKEND makes every figure vanish without an error; JUPYTER_PATH brings foreign kernels.
UNWANTED_VARIABLES = ("MPLBACKEND", "JUPYTER_PATH", "PYTHONPATH")
# The line of a claim that says what verdict the build is to find.
EXPECTATION = re.compile(r'^    expected="(?:not )?reproduced",\n', re.MULTILINE)


class PressError(Exception):
    """Something the person at the terminal must mend; its text says what and where."""


@dataclass(frozen=True)
class Project:
    """The folders of one checkout."""

    root: Path

    @property
    def notebooks(self) -> list[Path]:
        """The chapters, in reading order."""
        return sorted((self.root / "notebooks").glob("*.ipynb"))

    @property
    def package(self) -> Path:
        """The source of the package the notebooks import."""
        return self.root / "src"

    @property
    def replications(self) -> Path:
        """The committed blocks: the same claims, measured on other seeds."""
        return self.root / "book" / "replications"

    @property
    def build(self) -> Path:
        """Everything that is made and may be deleted."""
        return self.root / "_build"

    @property
    def executed(self) -> Path:
        """Finished notebooks, one file a key."""
        return self.build / "executed"

    @property
    def staged(self) -> Path:
        """The input of Jupyter Book."""
        return self.build / "staged"

    @property
    def html(self) -> Path:
        """The site."""
        return self.build / "html"


def child_environment(project: Project) -> dict[str, str]:
    """Return the variables for what the press starts, which must import this checkout's package.

    Without that, a copied checkout would run the package that its environment was installed from.
    """
    kept = {name: value for name, value in os.environ.items() if name not in UNWANTED_VARIABLES}
    return kept | {"PYTHONPATH": str(project.package)}


@cache
def environment() -> str:
    """Return the interpreter and every installed version, as text.

    The environment itself is asked rather than ``constraints.txt``: what ran is what is installed.
    """
    installed = {
        f"{found.name.lower()}=={found.version}"
        for found in importlib.metadata.distributions()
        if found.name.lower() != "repcollapse"
    }
    return "\n".join([platform.python_version(), platform.machine(), *sorted(installed)])


def digest_of_files(folder: Path, files: Iterable[Path]) -> str:
    """One digest of names and contents, the same whatever order the files come in."""
    digest = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def digest_of_tree(folder: Path) -> str:
    """Digest of every file under a folder."""
    return digest_of_files(folder, package_files(folder))


def digest_of_sources(project: Project, notebook: Path) -> str:
    """Digest of what an author can change about what a chapter shows."""
    return _digest_with_package(project, notebook, notebook.read_bytes())


def digest_of_measurements(project: Project, notebook: Path) -> str:
    """The same of what a chapter measures, which is its code alone.

    Prose measures nothing. Nor does what a claim is expected to come to: it is written down after a
    run and changes no number in it.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        EXPECTATION.sub("", "".join(cell["source"]))
        for cell in cells
        if cell["cell_type"] == "code"
    ]
    return _digest_with_package(project, notebook, json.dumps(code).encode())


def _digest_with_package(project: Project, notebook: Path, content: bytes) -> str:
    behind = files_behind(notebook, project.package)
    return hashlib.sha256(content + digest_of_files(project.package, behind).encode()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def to_json(value: object) -> str:
    """Return readable JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write readable JSON, atomically."""
    write_atomically(path, to_json(value))


def swap_folder(new: Path, target: Path) -> None:
    """Put ``new`` where ``target`` is, or leave ``target`` as it was.

    A swap that was killed between its two renames is undone by :func:`recover_folder`.
    """
    previous = target.with_name(target.name + ".previous")
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        target.replace(previous)
    try:
        new.replace(target)
    except BaseException:
        recover_folder(target)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Bring back the previous folder if a swap was interrupted between its two renames."""
    previous = target.with_name(target.name + ".previous")
    if previous.exists() and not target.exists():
        previous.replace(target)
    shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def exclusive(project: Project) -> Iterator[None]:
    """Hold the build folder: two builds at once would clear away each other's unfinished work."""
    project.build.mkdir(parents=True, exist_ok=True)
    with (project.build / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PressError(f"another build is at work in {project.build}: wait for it") from None
        yield
