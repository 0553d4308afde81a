"""How long the README's two commands take on a fresh clone, and a build with little to do.

Clones the committed state of this repository into an empty folder and times, one after the other:
`make book`; `make book` again; `make book` after one chapter has changed; `make test`. Writes
`build.md` beside this file. With `--book-alone` only the first is timed: the others take as long
again. With `--built FOLDER` nothing is timed: the report has what each chapter cost in the build of
a clone that is there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reports import write

ROOT = Path(__file__).resolve().parents[1]
REPORT = Path(__file__).with_name("build.md")
CHANGED = "11_variance_regularization"
# Of the make and the environment that started this: the clone has its own.
UNWANTED = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


def timed(command: list[str], folder: Path) -> float:
    """Run `command` in `folder` and return the seconds it took."""
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return time.perf_counter() - started


def change_chapter(folder: Path) -> None:
    """Change the source of one code cell of one chapter, as an author would."""
    path = folder / "notebooks" / f"{CHANGED}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"][2:] if cell["cell_type"] == "code")
    cell["source"].append("\n# changed")
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def measure(clone: Path, *, book_alone: bool) -> list[tuple[str, float]]:
    """Return what was done in the clone, and the seconds that each took."""
    rows = [("`make book` on a fresh clone, installation included", timed(["make", "book"], clone))]
    if book_alone:
        return rows
    rows.append(("`make book` again, nothing changed", timed(["make", "book"], clone)))
    change_chapter(clone)
    rows.append((f"`make book` after a change of `{CHANGED}`", timed(["make", "book"], clone)))
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
    rows.append(("`make test` after that", timed(["make", "test"], clone)))
    return rows


def costs(folder: Path) -> list[tuple[str, dict[str, float]]]:
    """Return what each chapter of the last build cost.

    A build touches the executed notebooks that it uses; those of other parameters lie beside them.
    """
    found = []
    for source in sorted((folder / "notebooks").glob("*.ipynb")):
        kept = (folder / "_build" / "executed").glob(f"{source.stem}.*.ipynb")
        last = max(kept, key=lambda path: path.stat().st_mtime)
        metadata = json.loads(last.read_text(encoding="utf-8"))["metadata"]
        found.append((source.stem, metadata["press"]["cost"]))
    return found


def report(rows: list[tuple[str, float]], chapters: list[tuple[str, dict[str, float]]]) -> str:
    """Return the two tables as Markdown."""
    lines = [
        "# What the two commands take",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
    ]
    if rows:
        lines += ["| command | minutes:seconds |", "|---|---|"]
    for name, seconds in rows:
        minutes, rest = divmod(round(seconds), 60)
        lines.append(f"| {name} | {minutes}:{rest:02d} |")
    if rows:
        lines += [""]
    lines += ["| chapter, executed two at a time | CPU seconds | peak MB |", "|---|---|---|"]
    for name, cost in chapters:
        lines.append(f"| `{name}` | {cost['cpu_seconds']:.0f} | {cost['peak_mb']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the report in one step once everything is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--book-alone", action="store_true")
    parser.add_argument("--built", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.built is not None:
        text = report([], costs(options.built))
    else:
        with tempfile.TemporaryDirectory() as parent:
            clone = Path(parent) / "book"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            text = report(measure(clone, book_alone=options.book_alone), costs(clone))
    write(REPORT, text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
