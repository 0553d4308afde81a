"""Reports for a terminal: in colour and boxes there, plain text wherever else it goes."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from repcollapse.commandline.output import say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from repcollapse.diagnosis import Diagnosis, Finding

NARROW, WIDE = 40, 100
STYLES = {"collapse": "bold red", "warning": "yellow", "note": "dim", "healthy": "bold green"}
INDENT = 2


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal that can do more than print."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # a closed stream
        return False


def print_all(*parts: RenderableType) -> None:
    """Print, with colour on a terminal that has it and where NO_COLOR does not forbid it."""
    from rich.console import Console

    terminal = is_terminal(sys.stdout)
    width = Console(file=sys.stdout).width if terminal or "COLUMNS" in os.environ else 80
    written = io.StringIO()
    console = Console(
        file=written,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=min(max(width, NARROW), WIDE),
        highlight=False,
        markup=False,
        emoji=False,
    )
    for part in parts:
        console.print(part)
    lines = written.getvalue().rstrip("\n").split("\n")
    say("\n".join(line.rstrip() for line in lines))


@contextmanager
def progress(total: int, *, wanted: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's standard error while rows are read, and take it away after."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("rows"),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (wanted and is_terminal(sys.stderr)),
    )
    with bar:
        task = bar.add_task("rows", total=total)
        yield lambda rows: bar.advance(task, rows)


def chapter(finding: Finding) -> str:
    """Return the chapter that a finding names, as a reader would look it up."""
    return chapter_of(finding.page, finding.title)


def chapter_of(page: str, title: str) -> str:
    """Return a page of the book by number and title.

    Examples
    --------
    >>> chapter_of("05_dimensional_collapse", "Dimensional collapse")
    'chapter 5, Dimensional collapse'
    """
    found = re.match(r"(\d+)_", page)
    return f"chapter {int(found[1])}, {title}" if found else title


def report(diagnosis: Diagnosis, name: str, beside: Sequence[str] = ()) -> list[RenderableType]:
    """Return the report of a diagnosis: verdict, findings, numbers, what to do."""
    from rich.padding import Padding
    from rich.text import Text

    from repcollapse.diagnosis.report import sampled

    parts: list[RenderableType] = [_verdict(diagnosis, name, beside), ""]
    if len(diagnosis.findings) > 1:
        parts.append(Text("Also found", "bold"))
        for finding in diagnosis.findings[1:]:
            parts.append(Padding(_finding(finding), (0, 0, 0, INDENT)))
        parts.append("")
    parts += [_numbers(diagnosis), ""]
    if note := sampled(diagnosis):
        parts += [Text(note, "dim"), ""]
    parts += [Text("What to do", "bold"), *advice_on(diagnosis.findings)]
    parts += ["", Text("repcollapse explain NAME says what a number or a finding is.", "dim")]
    return parts


def short(diagnosis: Diagnosis, title: str) -> list[RenderableType]:
    """Return a report of a few lines."""
    from rich.padding import Padding
    from rich.text import Text

    finding = diagnosis.findings[0]
    readings = ", ".join(
        f"{label} {_number(diagnosis.metrics[name])} / {_number(diagnosis.nulls[name])}"
        for name, label in (
            ("spread", "spread"),
            ("effective_rank", "effective rank"),
            ("dimensions_999", "dimensions"),
        )
        if name in diagnosis.nulls
    )
    return [
        _headline(diagnosis).append(f"   {title}", "dim"),
        Padding(Text(finding.sentence), (0, 0, 0, INDENT)),
        Padding(Text(readings, "dim"), (0, 0, 1, INDENT)),
    ]


def _headline(diagnosis: Diagnosis) -> Any:
    from rich.text import Text

    from repcollapse.diagnosis.report import HEADLINES, MARKS

    severity = diagnosis.severity
    headline = f"{MARKS[severity]} {HEADLINES[diagnosis.verdict]}"
    return Text(headline, STYLES[severity])


def _verdict(diagnosis: Diagnosis, name: str, beside: Sequence[str]) -> RenderableType:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from repcollapse.diagnosis.report import size

    first = diagnosis.findings[0]
    lines = [Text(first.sentence)]
    if measured := _measured(first):
        lines.append(Text(measured, "dim"))
    about = [Text(f"{name}: {size(diagnosis)}", "dim", overflow="fold")]
    about += [Text(each, "dim", overflow="fold") for each in beside]
    headline = _headline(diagnosis)
    if not is_terminal(sys.stdout):
        return Group(headline, Text("=" * headline.cell_len), *about, "", *lines)
    style = STYLES[first.severity]
    return Panel(
        Group(*about, "", *lines),
        title=headline,
        title_align="left",
        border_style=style,
        padding=(0, 1),
    )


def _finding(finding: Finding) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from repcollapse.diagnosis.report import MARKS

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column()
    style = STYLES[finding.severity]
    text = Text.assemble((finding.kind, style), ". ", finding.sentence)
    grid.add_row(Text(MARKS[finding.severity], style), text)
    if measured := _measured(finding):
        grid.add_row("", Text(measured, "dim"))
    return grid


def _measured(finding: Finding) -> str:
    """Return the number that a finding rests on, with what it is held against."""
    text = f"{finding.measure} = {_number(finding.value)}"
    if finding.interval is not None:
        low, high = map(_number, finding.interval)
        text += f", 95 % interval {low} to {high}"
    if finding.reference is not None:
        text += f", reference {_number(finding.reference)}"
    return text


def _numbers(diagnosis: Diagnosis) -> RenderableType:
    from rich.text import Text

    from repcollapse.diagnosis.report import readings

    table = table_of()
    table.add_column("What was read", no_wrap=True)
    for head in ("reading", "isotropic"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    deciding = {finding.measure: finding.severity for finding in reversed(diagnosis.findings)}
    for name, label, reading, null, interval in readings(diagnosis):
        style = STYLES.get(deciding.get(name, ""), "")
        table.add_row(Text(label), Text(reading, style), Text(null, "dim"), Text(interval, "dim"))
    return table


def advice_on(findings: Sequence[Finding]) -> list[RenderableType]:
    """Return what to do about each kind of finding, once."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=INDENT, justify="right")
    grid.add_column()
    seen = set()
    for finding in findings:
        if finding.kind not in seen:
            seen.add(finding.kind)
            said = Text.assemble(finding.advice, " See ", (chapter(finding), "bold"), ".")
            grid.add_row(Text("→", STYLES[finding.severity]), said)
    return [grid]


def _number(value: float) -> str:
    from repcollapse.diagnosis.report import number

    return number(value)


def table_of(gap: int = 2) -> Table:
    """Return a table without columns: ruled on a terminal, and plain elsewhere."""
    from rich import box
    from rich.table import Table

    return Table(
        box=box.SIMPLE_HEAD if is_terminal(sys.stdout) else None,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )


def pairs(rows: Sequence[tuple[str, str]]) -> RenderableType:
    """Return names with what is said of each, the names in a column of their own."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, said in rows:
        grid.add_row(Text(name, "cyan"), Text(said))
    return Padding(grid, (0, 0, 0, INDENT))
