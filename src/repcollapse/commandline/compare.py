"""``repcollapse compare``: checkpoints of one training in their order, each a file."""

from __future__ import annotations

import html as markup
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from repcollapse.commandline import page, terminal
from repcollapse.commandline.diagnose import (
    as_json,
    fails,
    kinds_of,
    require_places,
    several,
    write_or_print,
)
from repcollapse.commandline.inputs import Inputs, paths_of
from repcollapse.commandline.output import ANSWERED, FAILED_ON, STANDARD, RefusalError
from repcollapse.commandline.survey import concluded, rows_of, survey_of
from repcollapse.diagnosis import Diagnosis
from repcollapse.diagnosis.course import advice_over
from repcollapse.diagnosis.report import COLOURS, HEADLINES, MARKS, number
from repcollapse.files import show

if TYPE_CHECKING:
    from rich.console import RenderableType

# What is followed over time: the head of its column, its title, and how it is written there.
FOLLOWED = {
    "spread": ("spread", "spread of directions", "z.3f"),
    "mean_share": ("mean", "mean share", "z.3f"),
    "dimensions_999": ("dims", "dimensions of 99.9 % of variance", ".3g"),
    "effective_rank": ("erank", "effective rank", ".3g"),
    "uniformity": ("unif.", "uniformity", "z.2f"),
}
FALL = 0.5  # of an effective rank, or a spread, without a collapse: half of it is worth a word


@dataclass(frozen=True)
class Step:
    """A checkpoint: its name, and its diagnosis."""

    name: str
    diagnosis: Diagnosis
    read: dict[str, Any]


def run(
    locations: Sequence[str],
    *,
    labels: str | None = None,
    html: Path | None = None,
    json: Path | None = None,
    fail_on: str | None = None,
) -> None:
    """Answer the command; ends with an exit status by :class:`typer.Exit` where it is not 0."""
    kinds = kinds_of(fail_on)
    if len(locations) < 2:
        raise RefusalError("compare takes two files or more; 'repcollapse diagnose' is for one")
    if several():
        raise RefusalError("compare runs on one process: start it without torchrun")
    require_places(html, json, paths_of([*locations, *([labels] if labels else [])]))
    warnings.simplefilter("ignore")  # of libraries, about files that we judge ourselves
    opened = [
        Inputs.open([each], labels=[labels] if labels is not None else ()) for each in locations
    ]
    steps = []
    with terminal.progress(sum(map(rows_of, opened))) as tick:
        for name, each in zip(short_names(locations), opened, strict=True):
            found = concluded(survey_of(each, tick=tick), each)
            steps.append(Step(name, found, each.to_dict()))
    written = {}
    if html is not None:
        written[html] = as_page(steps)
    if json is not None:
        written[json] = as_json(
            {
                "summary": summary(steps),
                "first_collapse": first_collapse(steps),
                "misplaced": misplaced(steps),
                "steps": [
                    {"name": step.name, "input": step.read, **step.diagnosis.to_dict()}
                    for step in steps
                ],
            }
        )
    write_or_print(written)
    if json is None or str(json) != STANDARD:
        terminal.print_all(*report(steps))
    failed = any(fails(step.diagnosis, kinds) for step in steps)
    raise typer.Exit(FAILED_ON if failed else ANSWERED)


def short_names(locations: Sequence[str]) -> list[str]:
    """Return locations without the folder and the ending that they share.

    Examples
    --------
    >>> short_names(["runs/a/10.npy", "runs/a/20.npy"]), short_names(["a/z.npy", "b/z.npy"])
    (['10', '20'], ['a/z', 'b/z'])
    """
    folders = [os.path.dirname(os.path.abspath(each)) for each in locations]  # noqa: PTH100, PTH120
    common = os.path.commonpath(folders)
    named = [os.path.relpath(os.path.abspath(each), common) for each in locations]  # noqa: PTH100
    endings = {os.path.splitext(name)[1] for name in named}  # noqa: PTH122
    ending = endings.pop() if len(endings) == 1 else ""
    return [show(name.removesuffix(ending)) for name in named]


def first_collapse(steps: Sequence[Step]) -> str | None:
    """Return the name of the first checkpoint that has collapsed."""
    return next((step.name for step in steps if step.diagnosis.collapsed), None)


def summary(steps: Sequence[Step]) -> str:
    """Return in a sentence or two when it collapsed, if it did."""
    collapsed = [step.diagnosis.collapsed for step in steps]
    if not any(collapsed):
        said = f"None of {len(steps)} checkpoints has collapsed."
        for name, title in (("effective_rank", "effective rank"), ("spread", "spread")):
            read = [step.diagnosis.metrics.get(name, 0.0) for step in steps]
            if read[-1] < FALL * max(read):
                top = read.index(max(read))
                said += (
                    f" The {title} has fallen, from {number(read[top])} at {steps[top].name} "
                    f"to {number(read[-1])}: on its way, perhaps."
                )
        return said
    first = collapsed.index(True)
    verdict = HEADLINES[steps[first].diagnosis.verdict]
    if all(collapsed):
        said = f"{verdict} from the first checkpoint on, {steps[0].name}"
        kinds = [step.diagnosis.verdict for step in steps]
        return said + (f"; {kinds[-1]} at the last." if kinds[-1] != kinds[0] else ".")
    if first == 0:
        said = f"{verdict} at the first checkpoint, {steps[0].name}."
    else:
        said = f"{verdict} between {steps[first - 1].name} and {steps[first].name}."
    again = next((k for k in range(first, len(steps)) if not collapsed[k]), None)
    if again is not None:
        said += f" Not so at {steps[again].name}" + (
            ", and at the last again."
            if collapsed[-1]
            else (", nor at the last." if again < len(steps) - 1 else ", the last.")
        )
    return said


def misplaced(steps: Sequence[Step]) -> str | None:
    """Say so where names that differ in their numbers alone have these in another order."""
    names = [step.name for step in steps]
    if len({re.sub(r"\d+", "#", name) for name in names}) > 1:
        return None
    ordered = sorted(names, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    if ordered == names:
        return None
    return (
        "Checkpoints are read in the order in which they are given, and the numbers in their names "
        f"have another: {', '.join(ordered)}. If these are steps, give them so ($(ls -v ...) does)."
    )


def arrow(name: str, before: Diagnosis, after: Diagnosis) -> str:
    """Return how a reading moved, where it did by more than both intervals, or else nothing."""
    old, new = before.metrics.get(name), after.metrics.get(name)
    low, high = before.intervals.get(name), after.intervals.get(name)
    if old is None or new is None or low is None or high is None:
        return ""
    if high[0] > low[1]:
        return "↑"
    return "↓" if high[1] < low[0] else ""


def cells(steps: Sequence[Step]) -> list[list[tuple[str, str]]]:
    """Return for each checkpoint every reading that is followed, and the arrow before it."""
    arrows = [[""] * len(FOLLOWED)] + [
        [arrow(name, before.diagnosis, after.diagnosis) for name in FOLLOWED]
        for before, after in pairwise(steps)
    ]
    readings = [[short(name, step.diagnosis.metrics) for name in FOLLOWED] for step in steps]
    return [list(zip(*each, strict=True)) for each in zip(readings, arrows, strict=True)]


def short(name: str, values: dict[str, float]) -> str:
    """Return a reading as its column has it."""
    value = values.get(name, math.nan)
    if not math.isfinite(value) or abs(value) >= 1000:
        return number(value)
    return format(value, FOLLOWED[name][2])


def report(steps: Sequence[Step]) -> list[RenderableType]:
    """Return the report for a terminal."""
    from rich.text import Text

    worst = next((step for step in steps if step.diagnosis.collapsed), steps[-1])
    table = terminal.table_of(gap=1)
    table.add_column("checkpoint", overflow="fold", min_width=10)
    table.add_column("verdict", no_wrap=True)
    for head, _, _ in FOLLOWED.values():
        table.add_column(head, justify="right", no_wrap=True)
    for step, readings in zip(steps, cells(steps), strict=True):
        severity = step.diagnosis.severity
        table.add_row(
            Text(step.name),
            Text(f"{MARKS[severity]} {step.diagnosis.verdict}", terminal.STYLES[severity]),
            *(
                Text.assemble((moved, "bold"), " " if moved else "", reading)
                for reading, moved in readings
            ),
        )
    last = steps[-1].diagnosis
    nulls = [short(name, last.nulls) for name in FOLLOWED]
    table.add_row(Text("isotropic", "dim"), "", *(Text(each, "dim") for each in nulls))
    parts: list[RenderableType] = [
        Text(summary(steps), terminal.STYLES[worst.diagnosis.severity]),
        *([Text(told, terminal.STYLES["warning"])] if (told := misplaced(steps)) else []),
        "",
        table,
        "",
        Text(
            "↑ ↓: moved since the checkpoint before by more than both 95 % intervals. mean: share "
            "of the directions' energy in their mean; dims: dimensions of 99.9 % of the variance; "
            "erank: effective rank; unif.: uniformity.",
            "dim",
        ),
    ]
    advice = advice_over((step.name, step.diagnosis) for step in steps)
    if advice:
        parts += ["", Text("What to do", "bold"), *terminal.advice_on(advice)]
    return parts


# --- the page


def as_page(steps: Sequence[Step]) -> str:
    """Return the report as one page: a table, a picture of each reading, every diagnosis."""
    title = f"{steps[0].name} to {steps[-1].name}"
    rows = []
    for step, readings in zip(steps, cells(steps), strict=True):
        severity = step.diagnosis.severity
        rows.append(
            f"<tr><td>{markup.escape(step.name)}</td>"
            f"<td class='l'><b style='color:{COLOURS[severity]}'>"
            f"{MARKS[severity]}</b> {step.diagnosis.verdict}</td>"
            + "".join(f"<td>{moved} {reading}</td>" for reading, moved in readings)
            + "</tr>"
        )
    heads = "".join(f"<th scope='col'>{head}</th>" for head, _, _ in FOLLOWED.values())
    charts = "".join(
        _chart(steps, name, head, label) for name, (head, label, _) in FOLLOWED.items()
    )
    every = "".join(
        f"<details><summary>{markup.escape(step.name)}: {step.diagnosis.verdict}</summary>"
        f"{step.diagnosis.to_html()}</details>"
        for step in steps
    )
    advice = advice_over((step.name, step.diagnosis) for step in steps)
    items = "".join(
        f"<li><b>{each.kind}</b> {markup.escape(each.advice)} "
        f"<i>{markup.escape(each.title)}</i></li>"
        for each in advice
    )
    advised = f"<h2>What to do</h2><ul>{items}</ul>" if items else ""
    told = f"<p>{markup.escape(said)}</p>" if (said := misplaced(steps)) else ""
    return page.page(
        title,
        f"<h1>{markup.escape(title)}<small>{len(steps)} checkpoints</small></h1>"
        f"<p><b>{markup.escape(summary(steps))}</b></p>{told}"
        f"<div class='charts'>{charts}</div>"
        "<div class='scroll' tabindex='0'><table class='all wrap'><thead><tr>"
        "<th scope='col'>checkpoint</th><th scope='col' class='l'>verdict</th>"
        f"{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        "<p><small>↑ ↓: moved since the checkpoint before by more than both 95 % intervals. "
        "Dashed: what isotropic data of the same size read. mean: share of the directions' energy "
        "in their mean; dims: dimensions of 99.9 % of the variance; erank: effective rank; unif.: "
        f"uniformity.</small></p>{advised}"
        f"<h2>Every checkpoint</h2>{every}",
    )


WIDE, HIGH, LEFT, BELOW, EDGE = 240, 130, 48, 30, 8


def _chart(steps: Sequence[Step], name: str, head: str, label: str) -> str:
    """Return a picture of a reading over the checkpoints, with its intervals and null values."""
    values = [step.diagnosis.metrics.get(name) for step in steps]
    nulls = [step.diagnosis.nulls.get(name) for step in steps]
    known = [each for each in (*values, *nulls) if each is not None and abs(each) < float("inf")]
    known = [each for each in known if each == each]  # noqa: PLR0124  (NaN)
    if not known:
        return ""
    low, high = min(0.0, *known), max(0.0, *known)
    high = high if high > low else low + 1
    floor, middle = HIGH - BELOW, (LEFT + WIDE - EDGE) / 2

    def x(k: int) -> float:
        return LEFT + (WIDE - LEFT - EDGE) * (k + 0.5) / len(steps)

    def y(value: float) -> float:
        return EDGE + (floor - EDGE) * (high - min(max(value, low), high)) / (high - low)

    def line(series: Sequence[float | None], style: str) -> str:
        points = " ".join(
            f"{x(k):.1f},{y(value):.1f}"
            for k, value in enumerate(series)
            if value in known
            if value is not None
        )
        return f"<polyline points='{points}' fill='none' {style}/>"

    marks = ""
    for k, step in enumerate(steps):
        value, interval = values[k], step.diagnosis.intervals.get(name)
        if value is None or value not in known:
            continue
        colour = COLOURS[step.diagnosis.severity]
        if interval is not None:
            marks += (
                f"<path d='M{x(k):.1f} {y(interval[0]):.1f}V{y(interval[1]):.1f}' "
                f"stroke='{colour}' stroke-width='2' stroke-opacity='.5'/>"
            )
        marks += f"<circle cx='{x(k):.1f}' cy='{y(value):.1f}' r='3.2' fill='{colour}'/>"
    said = f"{label}: " + ", ".join("none" if v is None else number(v) for v in values)
    return (
        f"<figure><figcaption>{label}</figcaption>"
        f"<svg viewBox='0 0 {WIDE} {HIGH}' role='img' aria-label='{markup.escape(said)}'>"
        f"<path d='M{LEFT} {EDGE}V{floor}H{WIDE - EDGE}' fill='none' stroke='currentColor' "
        "stroke-opacity='.35'/>"
        + line(nulls, "stroke='currentColor' stroke-opacity='.6' stroke-dasharray='3 3'")
        + line(values, "stroke='currentColor' stroke-opacity='.55' stroke-width='1.4'")
        + marks
        + "<g fill='currentColor' font-size='10' text-anchor='end'>"
        f"<text x='{LEFT - 4}' y='{EDGE + 4}'>{number(high)}</text>"
        f"<text x='{LEFT - 4}' y='{floor + 3}'>{number(low)}</text></g>"
        "<g fill='currentColor' font-size='10' text-anchor='middle'>"
        f"<text x='{x(0):.1f}' y='{floor + 12}'>1</text>"
        f"<text x='{x(len(steps) - 1):.1f}' y='{floor + 12}'>{len(steps)}</text>"
        f"<text x='{middle}' y='{HIGH - 4}'>checkpoint, in order</text>"
        f"<text x='10' y='{(EDGE + floor) / 2}' transform='rotate(-90 10 {(EDGE + floor) / 2})'>"
        f"{head}</text></g></svg></figure>"
    )
