"""How long the README's two commands take on a fresh clone, and a build with little to do.

    python benchmarks/build_times.py > benchmarks/build_times.md

Clones the committed state of this repository into an empty folder and times, one after the other:
`make book`; `make book` again; `make book` after one chapter has changed; `make test`.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGED = "11_variance_regularization"


def timed(command: list[str], folder: Path) -> float:
    """Run `command` in `folder`, its output on stderr, and return the seconds it took."""
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)
    return time.perf_counter() - started


def touch_chapter(folder: Path) -> None:
    """Change the source of one code cell of one chapter, as an author would."""
    path = folder / "notebooks" / f"{CHANGED}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"][2:] if cell["cell_type"] == "code")
    cell["source"].append("\n# changed")
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print a Markdown table."""
    with tempfile.TemporaryDirectory() as parent:
        clone = Path(parent) / "book"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        rows = [
            ("`make book` on a fresh clone, installation included", timed(["make", "book"], clone))
        ]
        rows.append(("`make book` again, nothing changed", timed(["make", "book"], clone)))
        touch_chapter(clone)
        rows.append((f"`make book` after a change of `{CHANGED}`", timed(["make", "book"], clone)))
        subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
        rows.append(("`make test` after that", timed(["make", "test"], clone)))
        costs = [
            (path.stem, json.loads(path.read_text(encoding="utf-8"))["metadata"]["press"]["cost"])
            for path in sorted((clone / "_build" / "executed").glob("*.ipynb"))
        ]
    print("# What the two commands take\n")
    print(f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}. ")
    print("Written by `benchmarks/build_times.py`.\n")
    print("| command | minutes:seconds |\n|---|---|")
    for name, seconds in rows:
        print(f"| {name} | {int(seconds // 60)}:{seconds % 60:04.1f} |")
    print("\n| chapter, executed two at a time | CPU seconds | peak MB |\n|---|---|---|")
    for name, cost in costs:
        print(f"| `{name}` | {cost['cpu_seconds']:.0f} | {cost['peak_mb']:.0f} |")


if __name__ == "__main__":
    main()
