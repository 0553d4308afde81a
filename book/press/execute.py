"""Execute the notebooks: a process each, two at a time, kept until something they need changes."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any

from press.imports import text_of
from press.project import (
    DEFAULT_LIMIT,
    PressError,
    Project,
    child_environment,
    digest_of_files,
    digest_of_sources,
    environment,
    write_json,
)
from press.worker import indented, running_cell

Parameters = Mapping[str, object]
KEPT_VERSIONS = 6
# Type of a default, what may replace it, and how to say so. A bool is no number here.
NUMBERS: tuple[tuple[type, type | UnionType, str], ...] = (
    (int, int, "a whole number"),
    (float, int | float, "a number"),
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class Cost:
    """What a notebook took: processor seconds and the largest resident set, kernel included."""

    cpu_seconds: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.cpu_seconds:.0f} s of CPU, {self.peak_mb:.0f} MB"


@dataclass(frozen=True)
class Executed:
    """A finished notebook."""

    name: str
    path: Path
    cost: Cost
    parameters: dict[str, object]

    def read(self) -> dict[str, Any]:
        """Return the notebook as plain JSON."""
        notebook: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return notebook


@dataclass
class Run:
    """A notebook that is being executed."""

    source: Path
    key: str
    partial: Path
    log: Path
    process: subprocess.Popen[bytes]
    limit: float
    deadline: float


def execute(
    project: Project, parameters: Parameters, jobs: int = 2, limit: float = DEFAULT_LIMIT
) -> list[Executed]:
    """Bring every notebook up to date.

    Parameters
    ----------
    project : Project
        The checkout.
    parameters : mapping
        Values for the cell tagged ``parameters`` of every notebook; empty for the defaults.
    jobs : int
        How many notebooks run at a time.
    limit : float
        Seconds of wall clock one notebook may take.

    Returns
    -------
    list of Executed
        In reading order.

    Raises
    ------
    PressError
        If a parameter is unknown to a notebook or of another type than its default, or if a
        notebook fails; the others are finished first.
    """
    sources = project.notebooks
    for source in sources:
        require_parameters(source, parameters)
    workshop = fresh_workshop(project)
    finished: dict[str, Executed] = {}
    waiting: list[tuple[Path, str]] = []
    for source in sources:
        key = cache_key(project, source, parameters)
        kept = recall(project, source.stem, key)
        if kept is None:
            waiting.append((source, key))
        else:
            finished[source.stem] = kept
            say(f"{source.stem}: kept from the last time ({kept.cost})")
    failures = run_all(
        project,
        waiting,
        parameters=parameters,
        workshop=workshop,
        jobs=jobs,
        limit=limit,
        finished=finished,
    )
    shutil.rmtree(workshop)
    if failures:
        raise PressError("\n\n".join(failures))
    return [finished[source.stem] for source in sources]


def run_all(
    project: Project,
    waiting: list[tuple[Path, str]],
    *,
    parameters: Parameters,
    workshop: Path,
    jobs: int,
    limit: float,
    finished: dict[str, Executed],
) -> list[str]:
    """Work through the queue, filling ``finished``; return one text a failure."""
    waiting = list(waiting)
    running: list[Run] = []
    failures: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                # The long chapters stand at the end: begun last, they would leave the others idle.
                source, key = waiting.pop()
                run = start(
                    project,
                    source,
                    key,
                    parameters=parameters,
                    workshop=workshop,
                    limit=limit,
                )
                running.append(run)
                say(f"{source.stem}: started")
            time.sleep(0.05)
            for run in list(running):
                outcome = poll(run)
                if outcome is None:
                    continue
                running.remove(run)
                if isinstance(outcome, Cost):
                    done = keep(project, run, outcome, parameters)
                    finished[done.name] = done
                    say(f"{done.name}: finished ({outcome})")
                else:
                    failures.append(outcome)
                    say(f"{run.source.stem}: FAILED")
    finally:
        for run in running:
            run.process.kill()
            run.process.wait()
    return failures


def start(
    project: Project,
    source: Path,
    key: str,
    *,
    parameters: Parameters,
    workshop: Path,
    limit: float,
) -> Run:
    """Start one notebook in a folder of its own, out of reach of the repository's files."""
    folder = workshop / source.stem
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    partial = folder / "notebook.ipynb"
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("worker.py")),
                str(source),
                str(partial),
                json.dumps(dict(parameters)),
                str(scratch),
                str(os.getpid()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=kernel_environment(project, folder),
            start_new_session=True,  # Ctrl-C reaches the press alone, which ends its children
        )
    return Run(source, key, partial, log, process, limit, time.monotonic() + limit)


def poll(run: Run) -> Cost | str | None:
    """Return the cost of a finished run, the story of a failed one, or None while it goes on."""
    pid, status, usage = os.wait4(run.process.pid, os.WNOHANG)
    if pid == 0:
        if time.monotonic() < run.deadline:
            return None
        run.process.kill()
        run.process.wait()
        return (
            f"{run.source.name} ran longer than its limit of {run.limit:g} s and was stopped "
            f"{place(run)}"
        )
    run.process.returncode = os.waitstatus_to_exitcode(status)
    if run.process.returncode == 0:
        scale = 1e6 if sys.platform == "darwin" else 1e3  # ru_maxrss: bytes there, kB elsewhere
        return Cost(round(usage.ru_utime + usage.ru_stime, 1), round(usage.ru_maxrss / scale, 1))
    story = run.log.read_text(encoding="utf-8", errors="replace").strip()
    return f"{run.source.name} failed.\n{story}"


def place(run: Run) -> str:
    """Say where a notebook was when it was stopped."""
    cell = running_cell(run.partial)
    if not cell.exists():
        return "before its first cell."
    return f"in the cell\n\n{indented(cell.read_text(encoding='utf-8'))}"


def keep(project: Project, run: Run, cost: Cost, parameters: Parameters) -> Executed:
    """Make the finished notebook visible, in one step and with nothing in it that a clock wrote."""
    notebook = json.loads(run.partial.read_text(encoding="utf-8"))
    strip(notebook)
    notebook["metadata"]["press"] = {
        "key": run.key,
        "cost": asdict(cost),
        "parameters": dict(parameters),
    }
    path = executed_path(project, run.source.stem, run.key)
    write_json(path, notebook)
    prune(project, run.source.stem)
    return Executed(run.source.stem, path, cost, dict(parameters))


def strip(notebook: dict[str, Any]) -> None:
    """Remove papermill's dates, durations and random identifiers: equal runs give equal files."""
    notebook["metadata"].pop("papermill", None)
    for cell in notebook["cells"]:
        cell["metadata"].pop("papermill", None)
        cell["metadata"].pop("execution", None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"


def cache_key(project: Project, source: Path, parameters: Parameters) -> str:
    """Digest of all that can change what a notebook shows."""
    parts = [
        digest_of_sources(project, source),
        machinery(),
        environment(),
        accelerator(),
        json.dumps(dict(parameters), sort_keys=True),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def machinery() -> str:
    """Digest of the files that decide how a notebook is run."""
    folder = Path(__file__).parent
    return digest_of_files(
        folder, [folder / "execute.py", folder / "worker.py", folder / "project.py"]
    )


@cache
def accelerator() -> str:
    """Return what ``device = "auto"`` finds on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def executed_path(project: Project, name: str, key: str) -> Path:
    """Where the notebook of this key lies: other parameters do not push out the defaults."""
    return project.executed / f"{name}.{key[:16]}.ipynb"


def recall(project: Project, name: str, key: str) -> Executed | None:
    """Return the finished notebook of this key, if there is one."""
    path = executed_path(project, name, key)
    if not path.exists():
        return None
    press = json.loads(path.read_text(encoding="utf-8"))["metadata"]["press"]
    if press["key"] != key:
        return None
    path.touch()
    return Executed(name, path, Cost(**press["cost"]), press["parameters"])


def prune(project: Project, name: str) -> None:
    """Forget the versions of a notebook that were not used for longest."""
    versions = sorted(
        project.executed.glob(f"{name}.*.ipynb"), key=lambda path: path.stat().st_mtime
    )
    for path in versions[:-KEPT_VERSIONS]:
        path.unlink()


def fresh_workshop(project: Project) -> Path:
    """Empty the folder of unfinished work: what an interrupted build left there goes."""
    workshop = project.build / "unfinished"
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir(parents=True)
    project.executed.mkdir(parents=True, exist_ok=True)
    return workshop


def kernel_environment(project: Project, folder: Path) -> dict[str, str]:
    """Return the environment of a run: one thread, our kernel, nobody's personal settings."""
    return (
        child_environment(project)
        | dict.fromkeys(THREAD_VARIABLES, "1")
        | {
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": str(folder / "ipython"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
    )


def require_parameters(source: Path, parameters: Parameters) -> None:
    """Refuse a parameter the notebook lacks, since nothing would read it, or of the wrong type."""
    known = declared_parameters(source)
    for name, value in parameters.items():
        if name not in known:
            raise PressError(
                f"{source.name} has no parameter {name!r}; its cell tagged 'parameters' sets: "
                f"{', '.join(sorted(known)) or 'nothing'}"
            )
        default = known[name]
        for kind, accepted, words in NUMBERS:
            if type(default) is kind and not isinstance(value, accepted):
                raise PressError(
                    f"parameter {name}={value}: expected {words}, since {source.name} has "
                    f"{name} = {default}"
                )


def declared_parameters(source: Path) -> dict[str, object]:
    """Return the names assigned in the cell tagged ``parameters``, with their plain values."""
    declared: dict[str, object] = {}
    for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
        if "parameters" not in cell["metadata"].get("tags", []):
            continue
        try:
            statements = ast.parse(text_of(cell)).body
        except SyntaxError as error:
            raise PressError(
                f"{source.name}: the cell tagged 'parameters' must be plain assignments: {error}"
            ) from None
        for statement in statements:
            match statement:
                case ast.Assign(targets=[ast.Name(name)], value=value):
                    declared[name] = plain_value(value)
                case ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value):
                    declared[name] = plain_value(value)
    return declared


def plain_value(expression: ast.expr) -> object:
    """Return the value of a literal, None for anything else."""
    try:
        value: object = ast.literal_eval(expression)
    except ValueError:
        return None
    return value


def say(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)
