"""``repcollapse explain``: what a number, a verdict or a loss means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from repcollapse.commandline import terminal
from repcollapse.commandline.catalogue import (
    ALIASES,
    MEASURES,
    PREFIXES,
    TITLES,
    VERDICTS,
    Measure,
)
from repcollapse.commandline.output import RefusalError

if TYPE_CHECKING:
    from rich.console import RenderableType


def run(name: str | None, *, rows: int | None = None, dimension: int | None = None) -> None:
    """Answer the command for a number or a verdict, or list them."""
    if (rows is None) != (dimension is None):
        raise RefusalError("--rows and --dimension go together: isotropic data have both")
    if name is None:
        if rows is not None:
            raise RefusalError("--rows and --dimension need a NAME to explain, such as rankme")
        terminal.print_all(*_listed())
        return
    kind = normal(name, "-")
    parts: list[RenderableType] = _of_verdict(kind) if kind in VERDICTS else []
    measured = False
    for key, note in measures_of(name, certain=not parts):
        if parts:
            parts.append("")
        parts += _of_measure(key, MEASURES[key], note)
        if rows is not None and dimension is not None:
            parts.append(_null(key, rows, dimension))
        measured = True
    if rows is not None and not measured:
        raise RefusalError(f"--rows and --dimension are of a number, and {kind} is none")
    terminal.print_all(*parts)


def of_loss(value: float, objective: str | None, given: Sequence[str]) -> None:
    """Answer the command for a loss."""
    from repcollapse.losses import STATES, explain_loss

    if objective is None:
        raise RefusalError(
            f"--loss needs --objective, one of {', '.join(sorted(STATES))}, or a method that "
            "trains with one, such as simclr"
        )
    try:
        settings: dict[str, Any] = settings_of(given)
        reading = explain_loss(objective, value, **settings)
    except (TypeError, ValueError) as error:
        raise RefusalError(str(error)) from error
    said = str(reading).replace("\n", " ")
    terminal.print_all(re.sub(r"give (\w+) to check", r"--set \1=... checks it", said))


def settings_of(given: Iterable[str]) -> dict[str, float | str]:
    """Return settings from "name=value"."""
    settings: dict[str, float | str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier() or name in ("objective", "value", "tolerance"):
            raise RefusalError(f"--set takes NAME=VALUE, such as prototypes=4096; got {each!r}")
        settings[name] = _value(value)
    return settings


def _value(text: str) -> float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def normal(name: str, joint: str) -> str:
    """Return a name as the tables have it.

    Examples
    --------
    >>> normal("Effective rank", "_"), normal("NOT_ENOUGH_DATA", "-")
    ('effective_rank', 'not-enough-data')
    """
    return name.strip().lower().replace(" ", joint).replace("-", joint).replace("_", joint)


def measures_of(name: str, *, certain: bool = True) -> list[tuple[str, str]]:
    """Return the entries that a name stands for, each with a note.

    Raises
    ------
    RefusalError
        For a name that is none; it says which ones are near.
    """
    key = normal(name, "_")
    if key in MEASURES:
        return [(key, "")]
    if key in ALIASES:
        return [(each, "") for each in ALIASES[key]]
    for prefix, note in PREFIXES.items():
        if key.startswith(prefix) and key.removeprefix(prefix) in MEASURES:
            return [(key.removeprefix(prefix), f"{key}: {note}")]
    if not certain:  # it may be the name of something else
        return []
    titles = {normal(each.title, "_"): each_key for each_key, each in MEASURES.items()}
    if key in titles:
        return [(titles[key], "")]
    known = [*MEASURES, *ALIASES, *VERDICTS, *titles]
    near = difflib.get_close_matches(key, known, 3, 0.6)
    near += [each for each in known if len(key) >= 3 and key in each and each not in near]
    near = list(dict.fromkeys(titles.get(each, each) for each in near))[:3]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise RefusalError(
        f"{name!r} is no number or verdict; {meant}'repcollapse explain' lists them all"
    )


def _of_measure(key: str, measure: Measure, note: str) -> list[RenderableType]:
    from rich.text import Text

    pairs = [
        ("definition", measure.definition),
        ("range", measure.range),
        ("at collapse", measure.collapsed),
        ("isotropic", measure.null),
        ("fooled", measure.fooled),
        ("source", measure.source),
        ("read on", _capital(terminal.chapter_of(measure.page, TITLES[measure.page]))),
    ]
    head = Text.assemble((_capital(measure.title), "bold"), ("   " + key, "dim"))
    return [head, *([Text(note, "dim")] if note else []), terminal.pairs(pairs)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _null(key: str, rows: int, dimension: int) -> RenderableType:
    from repcollapse.diagnosis.readings import read_nulls
    from repcollapse.diagnosis.report import number

    if rows < 2 or dimension < 1:
        raise RefusalError("--rows must be at least 2 and --dimension at least 1")
    nulls, _ = read_nulls(rows, dimension)
    value = number(nulls[key]) if key in nulls else "has none that the size alone decides"
    return terminal.pairs([("", f"N = {rows:,}, D = {dimension:,}: {value}")])


def _of_verdict(kind: str) -> list[RenderableType]:
    from rich.text import Text

    from repcollapse.diagnosis.findings import ADVICE

    advice = ADVICE[kind]
    head = Text.assemble(
        (kind, terminal.STYLES[advice.severity]), ("   " + severity_of(kind), "dim")
    )
    pairs = [
        ("what", _capital(VERDICTS[kind][0]) + "."),
        ("when", criterion(kind)),
        ("what to do", advice.text),
        ("read on", _capital(terminal.chapter_of(advice.page, advice.title))),
    ]
    return [head, terminal.pairs(pairs)]


def severity_of(kind: str) -> str:
    """Return what a kind of finding is: a verdict, or something found beside one."""
    from repcollapse.diagnosis import VERDICTS as PROPER
    from repcollapse.diagnosis.findings import ADVICE

    severity = ADVICE[kind].severity
    return f"{'verdict' if kind in PROPER else 'found beside a verdict'}, {severity}"


def criterion(kind: str) -> str:
    """Return when a verdict is given, with the limits that decide it."""
    limits = vars(import_module("repcollapse.diagnosis.decide"))
    return VERDICTS[kind][1].format(**limits).replace("%", " %").replace("  %", " %")


def _listed() -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = [Text("Verdicts and findings", "bold")]
    parts.append(terminal.pairs([(kind, said) for kind, (said, _) in VERDICTS.items()]))
    parts += ["", Text("Numbers", "bold")]
    parts.append(terminal.pairs([(key, each.title) for key, each in MEASURES.items()]))
    parts += ["", Text("repcollapse explain NAME says more.", "dim")]
    return parts
