"""``repcollapse diagnose``: one data set, in as many files and processes as it takes."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from torch import distributed

from repcollapse import __version__
from repcollapse.commandline import page, terminal
from repcollapse.commandline.inputs import Inputs, paths_of
from repcollapse.commandline.output import (
    ANSWERED,
    FAILED_ON,
    STANDARD,
    RefusalError,
    refuse,
    require_place,
    say,
    write_text,
)
from repcollapse.commandline.survey import (
    Trouble,
    concluded,
    merged,
    rows_of,
    survey_of,
    trouble_of,
)
from repcollapse.diagnosis import VERDICTS, Diagnosis, Survey
from repcollapse.diagnosis.findings import ADVICE


def run(
    locations: Sequence[str],
    *,
    labels: Sequence[str] = (),
    groups: Sequence[str] = (),
    views: str | None = None,
    html: Path | None = None,
    json: Path | None = None,
    fail_on: str | None = None,
) -> None:
    """Answer the command; ends with an exit status by :class:`typer.Exit` where it is not 0."""
    kinds = kinds_of(fail_on)
    inputs = paths_of([*locations, *labels, *groups, *([views] if views else [])])
    require_places(html, json, inputs)
    warnings.simplefilter("ignore")  # of libraries, about files that we judge ourselves
    if several():
        from repcollapse.pretraining import processes

        with processes.process_group("cpu"):
            answer = _of_several(locations, labels=labels, groups=groups, views=views)
        # The first process alone reports and fails, if anyone does: the others have no more to do.
        if answer is None:
            return
        if isinstance(answer, Trouble):
            refuse(answer.message, answer.status)
    else:
        opened = Inputs.open(locations, labels=labels, groups=groups, views=views)
        with terminal.progress(rows_of(opened)) as tick:
            survey = survey_of(opened, tick=tick)
        answer = concluded(survey, opened), opened
    diagnosis, opened = answer
    deliver(diagnosis, opened, html=html, json_=json)
    raise typer.Exit(FAILED_ON if fails(diagnosis, kinds) else ANSWERED)


def several() -> bool:
    """Return whether this is one of several processes that torchrun started.

    Raises
    ------
    RefusalError
        For an environment that only looks so.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return False
    if not (world.isdecimal() and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()):
        raise RefusalError(
            f"WORLD_SIZE is {world!r} in the environment, and RANK, MASTER_ADDR and MASTER_PORT do "
            "not go with it: unset it, or start the processes with torchrun"
        )
    return True


def _of_several(
    locations: Sequence[str], **options: Any
) -> tuple[Diagnosis, Inputs] | Trouble | None:
    """Return the diagnosis on the first process, None on the others; or what went wrong."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    survey: Survey | None = None
    trouble: Trouble | None = None
    opened: Inputs | None = None
    try:
        opened = Inputs.open(locations, **options)
        total = rows_of(opened, rank=rank, world=world)
        with terminal.progress(total, wanted=rank == 0) as tick:
            survey = survey_of(opened, rank=rank, world=world, tick=tick)
    except Exception as error:
        trouble = trouble_of(error)
    answer = merged(survey, trouble)
    if rank > 0 or answer is None:
        return None
    if isinstance(answer, Trouble):
        return answer
    assert opened is not None
    try:
        return concluded(answer, opened), opened
    except Exception as error:
        return trouble_of(error)


def deliver(diagnosis: Diagnosis, opened: Inputs, *, html: Path | None, json_: Path | None) -> None:
    """Write the files, both or neither rendered, and print the report."""
    read = opened.to_dict()
    written = {}
    if html is not None:
        written[html] = page.of_diagnosis(diagnosis, read)
    if json_ is not None:
        written[json_] = as_json({"input": read, **diagnosis.to_dict()})
    write_or_print(written)
    if json_ is not None and str(json_) == STANDARD:
        return
    beside = [f"left out of {each}" for each in read.get("left_out", ())]
    for name in ("labels", "groups"):
        if name in read:
            beside.append(f"{name}: {read[name]['file']}, {read[name]['different']:,} different")
    if "views" in read:
        shape = " x ".join(map(str, read["views"]["shape"]))
        beside.append(f"views: {read['views']['file']}, {shape}")
    terminal.print_all(*terminal.report(diagnosis, page.title_of(read["files"]), beside))


def fails(diagnosis: Diagnosis, kinds: frozenset[str]) -> bool:
    """Return whether a verdict, or what was found beside it, is among `kinds`."""
    beside = {each.kind for each in diagnosis.findings if each.kind not in VERDICTS}
    return not kinds.isdisjoint(beside | {diagnosis.verdict})


def kinds_of(text: str | None) -> frozenset[str]:
    """Return the verdicts and findings that a comma-separated list names."""
    if text is None:
        return frozenset()
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ADVICE:
            beside = ", ".join(each for each in ADVICE if each not in VERDICTS)
            raise RefusalError(
                "--fail-on takes verdicts and findings with commas between them, among "
                f"{', '.join(VERDICTS)}; {beside}; got {name!r}"
            )
    return frozenset(names)


def require_places(html: Path | None, json_: Path | None, inputs: Sequence[Path]) -> None:
    """Raise where a report could not be written."""
    if html is not None and str(html) == STANDARD:
        raise RefusalError("--html takes the name of a file, and - is for --json alone")
    if html is not None:
        require_place(html, "--html", inputs)
    if json_ is not None and str(json_) != STANDARD:
        require_place(json_, "--json", inputs)
    if html is not None and json_ is not None and html.absolute() == json_.absolute():
        raise RefusalError("--html and --json name the same file: name two")


def write_or_print(written: dict[Path, str]) -> None:
    """Write each text to its file, or print it where that is "-"."""
    for path, text in written.items():
        if str(path) == STANDARD:
            say(text.rstrip("\n"))
        else:
            write_text(path, text)


def as_json(content: dict[str, Any]) -> str:
    """Return a report for machines."""
    said = {"repcollapse": __version__, **content}
    return json.dumps(said, indent=2, allow_nan=False) + "\n"
