"""Render the staged tree, warnings as errors, and put the site in place in one step."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from press.project import (
    PressError,
    Project,
    child_environment,
    digest_of_tree,
    environment,
    recover_folder,
    swap_folder,
)
from press.worker import ANSI

KEY_FILE = ".press.json"


def render(project: Project, finish: Callable[[Path], None]) -> bool:
    """Bring the site up to date.

    Parameters
    ----------
    project : Project
        The checkout, staged.
    finish : callable
        Called with the folder of the fresh site before it is put in place: writes what Sphinx does
        not, and raises :class:`PressError` where the site is not fit to be seen.

    Returns
    -------
    bool
        False where the site was already made of exactly this.
    """
    recover_folder(project.html)
    key = site_key(project)
    if kept_key(project.html) == key:
        return False
    workshop = project.build / "rendering"
    shutil.rmtree(workshop, ignore_errors=True)
    jupyter_book(project, workshop)
    fresh = workshop / "_build" / "html"
    finish(fresh)
    (fresh / ".nojekyll").touch()  # Pages would otherwise leave out every folder with an underscore
    (fresh / KEY_FILE).write_text(json.dumps({"key": key}), encoding="utf-8")
    swap_folder(fresh, project.html)
    shutil.rmtree(workshop)
    return True


def jupyter_book(project: Project, output: Path, builder: str = "html") -> None:
    """Run Jupyter Book; its script, since running it as a module does nothing and succeeds."""
    script = Path(sys.executable).with_name("jupyter-book")
    command = [str(script), "build", str(project.staged), "--path-output", str(output)]
    command += ["-W", "-n", "--keep-going", "--all", "-q", "--builder", builder]
    done = subprocess.run(
        command,
        env=child_environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PressError(f"Jupyter Book refused the pages:\n{ANSI.sub('', done.stdout).strip()}")


def site_key(project: Project) -> str:
    """Digest all a site is made of: pages, ledger, package (the API page), tools and this press."""
    parts = [
        digest_of_tree(project.staged),
        digest_of_tree(project.package),
        digest_of_tree(Path(__file__).parent),
        environment(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def kept_key(site: Path) -> str | None:
    """Return the key of the site that is in place."""
    try:
        key: str = json.loads((site / KEY_FILE).read_text(encoding="utf-8"))["key"]
    except FileNotFoundError:
        return None
    return key
