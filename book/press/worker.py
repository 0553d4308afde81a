"""Run one notebook with papermill: the child process of the press, started as a plain script.

``worker.py SOURCE TARGET PARAMETERS FOLDER PARENT`` executes SOURCE with the JSON object
PARAMETERS, from FOLDER as working directory, and writes TARGET; a file beside TARGET holds the cell
that is running. It exits 1, with the failing cell and its traceback on stderr, where a cell raises,
and at once where the process PARENT is gone.
"""

import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def watch(parent: int) -> None:
    """End with the parent: a build that is killed outright leaves nothing running behind it.

    The parent says who it is, since one killed early is no longer there to be asked. The kernel
    watches this process in the same way.
    """
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)


def describe(source: str, traceback: list[str]) -> str:
    """Show the failing cell and what it raised, without the colours meant for a terminal."""
    return f"The cell\n\n{indented(source)}\n\nraised\n\n{ANSI.sub('', chr(10).join(traceback))}"


def indented(source: str) -> str:
    """Set a cell off from the text around it."""
    return "\n".join(f"    {line}" for line in source.splitlines())


def running_cell(target: Path) -> Path:
    """Return the file that holds the source of the cell that is running."""
    return target.with_name("running")


def main(arguments: list[str]) -> int:
    """Execute the notebook; return the exit code."""
    source, target, parameters, folder, parent = arguments
    threading.Thread(target=watch, args=(int(parent),), daemon=True).start()
    warnings.simplefilter("ignore")  # those of papermill's own dependencies; the kernel has its own
    logging.disable(logging.WARNING)

    import papermill
    from papermill.exceptions import PapermillExecutionError

    def note(cell: dict[str, Any], **_: Any) -> None:
        running_cell(Path(target)).write_text(cell["source"], encoding="utf-8")

    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=json.loads(parameters),
            kernel_name="python3",
            cwd=folder,
            progress_bar=False,
            request_save_on_cell_execute=False,
            autosave_cell_every=0,
            start_timeout=120,
            on_cell_execute=note,
        )
    except PapermillExecutionError as error:
        print(describe(error.source, error.traceback), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
