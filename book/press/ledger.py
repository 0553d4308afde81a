"""The evidence: gather all claims, add the committed blocks, judge, and write them down.

An entry of the ledger is a claim of somebody, or a cell of the matrix (kind "cell"), which nobody
claimed: its verdict is an outcome. Both are measured over seeds, repeated in blocks, and held
against what their notebook expects.
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from press.execute import Executed
from press.outputs import CLAIM, COLUMN, outputs_of, title_of
from press.project import PressError, Project, digest_of_measurements, write_json
from repcollapse import evidence
from repcollapse.evidence import NOT_JUDGED, NOT_REPRODUCED, OUTCOMES, REPRODUCED

VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_JUDGED)
# What may be expected of each kind; a verdict may also be that nothing was judged.
EXPECTED = {
    "trained": (REPRODUCED, NOT_REPRODUCED),
    "exact": (REPRODUCED, NOT_REPRODUCED),
    "cell": OUTCOMES,
}


@dataclass(frozen=True)
class Block:
    """One claim measured on one set of seeds."""

    measurements: list[float]
    seeds: list[int] | None
    dataset: str | None
    mean: float
    interval: list[float] | None
    verdict: str


@dataclass(frozen=True)
class Claim:
    """One claim as a notebook recorded it, with the blocks that other seeds gave."""

    id: str
    statement: str
    source: str
    reported: str
    kind: str
    criterion: str
    expected: str
    measurements: list[float]
    seeds: list[int] | None
    dataset: str | None
    mean: float
    interval: list[float] | None
    verdict: str
    chapter: str
    bounds: dict[str, Any]
    mode: str | None = None
    remedy: str | None = None
    outcome: str | None = None
    unit: str | None = None
    citation: str | None = None
    blocks: tuple[Block, ...] = ()
    notebook: str = ""
    title: str = ""

    @property
    def over_seeds(self) -> bool:
        """Whether it was measured on several seeds, and not derived."""
        return self.kind != "exact"

    @property
    def block(self) -> Block:
        """What this run measured."""
        return Block(
            self.measurements, self.seeds, self.dataset, self.mean, self.interval, self.verdict
        )


PUBLIC = tuple(item.name for item in fields(Claim))[:14]
REQUIRED = (*PUBLIC, "bounds")
OPTIONAL = ("mode", "remedy", "outcome", "unit", "citation")
BLOCK_FIELDS = tuple(item.name for item in fields(Block))


def gather(executed: Iterable[Executed]) -> list[Claim]:
    """Read the claims of the executed notebooks; an identifier may occur once in the whole book."""
    claims: dict[str, Claim] = {}
    for chapter in executed:
        notebook = chapter.read()
        columns = [entry for column in outputs_of(notebook, COLUMN) for entry in column["cells"]]
        for record in [*outputs_of(notebook, CLAIM), *columns]:
            claim = parse(record, chapter.name, title_of(notebook, chapter.name))
            if claim.id in claims:
                raise PressError(
                    f"claim {claim.id!r} is recorded twice: in {claims[claim.id].notebook}.ipynb "
                    f"and in {chapter.name}.ipynb"
                )
            claims[claim.id] = claim
    return list(claims.values())


def parse(record: dict[str, Any], notebook: str, title: str) -> Claim:
    """Make a claim of one record; a record that lacks something is refused, not repaired."""
    missing = [name for name in REQUIRED if name not in record]
    if missing:
        raise PressError(
            f"{notebook}.ipynb: claim {record.get('id', '(without id)')!r} lacks "
            f"{', '.join(missing)}"
        )
    expected = EXPECTED.get(record["kind"], ())
    for name, allowed in (
        ("kind", tuple(EXPECTED)),
        ("expected", expected),
        ("verdict", (*expected, NOT_JUDGED)),
    ):
        if record[name] not in allowed:
            raise PressError(
                f"{notebook}.ipynb: claim {record['id']!r} has {name} {record[name]!r}, "
                f"expected one of {', '.join(map(repr, allowed))}"
            )
    try:
        evidence.Criterion.from_bounds(record["bounds"])
    except (TypeError, ValueError) as error:
        raise PressError(f"{notebook}.ipynb: claim {record['id']!r}: {error}") from None
    known = {name: record[name] for name in REQUIRED}
    known |= {name: record[name] for name in OPTIONAL if record.get(name) is not None}
    return Claim(**known, notebook=notebook, title=title)


def add_blocks(claims: Sequence[Claim], replications: Path) -> list[Claim]:
    """Judge what was trained on this run and on every committed block of other seeds."""
    files = sorted(replications.glob("first_seed_*.json"))
    blocks = {path.name: read_replication(path) for path in files}
    for name, records in blocks.items():
        trained = {claim.id for claim in claims if claim.over_seeds}
        for gone in sorted(records.keys() - trained):
            raise PressError(
                f"book/replications/{name} has a claim {gone!r} that no chapter records as "
                f"trained: {renew(name)}"
            )
    return [
        combine(claim, blocks) if claim.over_seeds else replace(claim, blocks=(claim.block,))
        for claim in claims
    ]


def combine(claim: Claim, replications: dict[str, dict[str, dict[str, Any]]]) -> Claim:
    """Judge this run's block and the committed ones.

    A claim is reproduced if it is in all of them; the outcome of a cell is that of all their seeds.
    """
    blocks = [claim.block]
    for name, records in replications.items():
        if claim.id not in records:
            raise PressError(
                f"claim {claim.id!r} is not in book/replications/{name}: {renew(name)}"
            )
        record = records[claim.id]
        if set(record["seeds"]) & set(claim.seeds or []):
            continue  # the same seeds again would be no second witness
        faults = list(faults_of_block(record, claim))
        if faults:
            raise PressError(
                f"claim {claim.id!r}: its block in book/replications/{name} "
                f"{', and '.join(faults)}: {renew(name)}"
            )
        blocks.append(Block(**{key: record[key] for key in BLOCK_FIELDS}))
    verdict = claim.verdict
    if verdict != NOT_JUDGED and claim.kind == "cell":
        values = [value for block in blocks for value in block.measurements]
        verdict = evidence.verdict(evidence.Criterion.from_bounds(claim.bounds), values)
    elif verdict != NOT_JUDGED:
        held = all(block.verdict == REPRODUCED for block in blocks)
        verdict = REPRODUCED if held else NOT_REPRODUCED
    return replace(claim, verdict=verdict, blocks=tuple(blocks))


def faults_of_block(record: dict[str, Any], claim: Claim) -> Iterator[str]:
    """Say where a committed block is not of this claim, or not what its measurements give."""
    compared = ["statement", "kind", "criterion"]
    if claim.verdict != NOT_JUDGED:  # a run on other data still shows what the default data gave
        compared.append("dataset")
    for name in compared:
        if record[name] != getattr(claim, name):
            yield f"has another {name} ({record[name]!r}, the claim {getattr(claim, name)!r})"
    values, seeds = record["measurements"], record["seeds"]
    if len(set(seeds)) != len(values) or len(values) < evidence.MIN_SEEDS:
        yield (
            f"has {len(values)} measurements for the seeds {seeds}, expected one for each of at "
            f"least {evidence.MIN_SEEDS} seeds"
        )
        return
    mean, bounds = evidence.mean_interval(values)
    computed = [mean, *(bounds or ())]
    recorded = [record["mean"], *(record["interval"] or ())]
    if not agree(computed, recorded):
        yield f"records mean and interval {recorded}, its measurements give {computed}"
    verdict = evidence.verdict(evidence.Criterion.from_bounds(claim.bounds), values)
    if record["verdict"] != verdict:
        yield f"records the verdict {record['verdict']!r}, its measurements give {verdict!r}"


def agree(first: Sequence[float], second: Sequence[float]) -> bool:
    """Tell whether numbers are the same but for the last digits, where two machines may differ."""
    return len(first) == len(second) and all(
        math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)
        for one, two in zip(first, second, strict=True)
    )


def renew(name: str) -> str:
    """Return the command that writes a block anew."""
    first = name.removeprefix("first_seed_").removesuffix(".json")
    return f"run `make replicate FIRST_SEED={first}`"


def read_replication(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of one committed block, by claim."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        records = None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise PressError(
            f"book/replications/{path.name} is not a list of claims: {renew(path.name)}"
        )
    incomplete = [record.get("id") for record in records if not set(PUBLIC) <= set(record)]
    if incomplete:
        raise PressError(
            f"claim {incomplete[0]!r} is incomplete in book/replications/{path.name}: "
            f"{renew(path.name)}"
        )
    return {record["id"]: record for record in records}


def sources_by_notebook(project: Project) -> dict[str, str]:
    """Digest of what measures each chapter, by its notebook's name."""
    return {path.stem: digest_of_measurements(project, path) for path in project.notebooks}


def outdated(project: Project, claims: Iterable[Claim]) -> list[str]:
    """One line for each committed block that other notebooks or another package have measured."""
    present = sources_by_notebook(project)
    trained = [claim for claim in claims if claim.over_seeds]
    lines = []
    for path in sorted(project.replications.glob("first_seed_*.json")):
        records = read_replication(path)
        changed = dict.fromkeys(
            claim.notebook
            for claim in trained
            if records[claim.id].get("sources") != present[claim.notebook]
        )
        if changed:
            lines.append(
                f"warning: book/replications/{path.name} is older than the package or the "
                f"notebook: {', '.join(changed)}; {renew(path.name)}"
            )
    return lines


def surprises(claims: Iterable[Claim]) -> list[str]:
    """One text for each entry whose verdict is not the expected one, in either direction."""
    return [
        f"{'cell' if claim.kind == 'cell' else 'claim'} {claim.id!r} ({claim.notebook}.ipynb) is "
        f"{claim.verdict}, expected {claim.expected}: {claim.criterion}\n"
        + "\n".join(f"    {line}" for line in seen(claim))
        for claim in claims
        if claim.verdict not in (NOT_JUDGED, claim.expected)
    ]


def seen(claim: Claim) -> list[str]:
    """Return what each block measured, a line each."""
    return [f"{describe_block(block, claim.unit)}: {block.verdict}" for block in claim.blocks]


def as_json(claim: Claim) -> dict[str, Any]:
    """Return the public form, as ``ledger.json`` has it."""
    record = {name: getattr(claim, name) for name in PUBLIC}
    record["blocks"] = [
        {name: getattr(block, name) for name in BLOCK_FIELDS} for block in claim.blocks
    ]
    return record


def write_replication(project: Project, first_seed: int, claims: Iterable[Claim]) -> Path:
    """Commit-ready block of the trained claims and the cells, as this run alone judged them.

    Each holds a digest of what measured it, so that a build can tell when it has aged.
    """
    sources = sources_by_notebook(project)
    path = project.replications / f"first_seed_{first_seed}.json"
    records = []
    for claim in claims:
        if not claim.over_seeds:
            continue
        if claim.verdict == NOT_JUDGED:
            raise PressError(f"claim {claim.id!r} was not judged in this run: it makes no block")
        record = as_json(claim)
        del record["blocks"]
        records.append(record | {"sources": sources[claim.notebook]})
    write_json(path, records)
    return path


# ------------------------------------------------------------------------------------------
# How a claim is shown
# ------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, with a true minus sign and without a computer's exponent.

    Examples
    --------
    >>> number(0.123456), number(1234.5), number(-2.0), number(3.1e-9)
    ('0.123', '1234', '−2', '3.1 · 10⁻⁹')
    """
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.1e}".split("e")
        powers = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa} · 10{powers}".replace("-", "−")
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def describe_seeds(seeds: Sequence[int] | None) -> str:
    """Seeds as a person writes them.

    Examples
    --------
    >>> describe_seeds([0, 1, 2]), describe_seeds([7]), describe_seeds([1, 5])
    ('seeds 0 to 2', 'seed 7', 'seeds 1, 5')
    """
    if not seeds:
        return "no seeds"
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"


def describe_block(block: Block, unit: str | None) -> str:
    """Mean, interval, seeds and data of one block, in one line."""
    suffix = f" {unit}" if unit else ""
    if block.seeds is None:
        return f"{number(block.mean)}{suffix}"
    answers = all(isinstance(each, bool) for each in block.measurements)
    parts = [f"{'yes in a share of' if answers else 'mean'} {number(block.mean)}{suffix}"]
    if block.interval is not None:
        low, high = block.interval
        law = " (binomial)" if answers else ""
        parts.append(f"95 % interval{law} {number(low)} to {number(high)}")
    parts.append(describe_seeds(block.seeds))
    if block.dataset:
        parts.append(block.dataset)
    return ", ".join(parts)


def card(claim: Claim, anchor: str, *, link: str) -> str:
    """Write a claim as MyST: the same card in its chapter and on the ledger page but for `link`."""
    citation = f" {{cite:p}}`{claim.citation}`" if claim.citation else ""
    rows = [
        f"- **Source:** {claim.source}{citation}",
        f"- **Reported:** {claim.reported}",
        f"- **Criterion:** {claim.criterion}",
    ]
    here, *others = claim.blocks or (claim.block,)
    label = "Here" if claim.kind == "trained" else "Here (held against a closed form)"
    rows.append(f"- **{label}:** {show_block(here, claim)}")
    rows += [f"- **Again:** {show_block(block, claim)}" for block in others]
    if claim.verdict not in (claim.expected, NOT_JUDGED):
        rows.append(f"- **Expected:** {claim.expected}")
    rows.append(f"- **Also in:** {link}")
    return "\n".join(
        [
            f"({anchor})=",
            "",
            f"::::{{div}} rc-claim rc-claim-{slug(claim.verdict)}",
            ":::{div} rc-claim-head",
            f"{{rc-verdict}}`{claim.verdict}` {{rc-claim-id}}`{claim.id}`",
            ":::",
            "",
            f"{claim.statement}",
            "",
            *rows,
            "::::",
            "",
        ]
    )


def mention(claims: Iterable[Claim], identifier: str) -> str:
    """Write a claim as evidence on another page: its statement, which leads to it, and its verdict.

    Raises
    ------
    PressError
        If no chapter records it.
    """
    claim = next((claim for claim in claims if claim.id == identifier), None)
    if claim is None or claim.kind == "cell":
        raise PressError(f"<!-- press:claim {identifier} -->: no notebook records such a claim")
    return f"[{_plain(claim.statement)}](#claim-{claim.id}) {{rc-verdict}}`{claim.verdict}`"


def show_block(block: Block, claim: Claim) -> str:
    """One block, with its own verdict where several have one."""
    text = describe_block(block, claim.unit)
    if len(claim.blocks) > 1:
        text += f" ({block.verdict})"
    return text


def slug(text: str) -> str:
    """Words as a class name."""
    return text.replace(" ", "-")


def summary(claims: Sequence[Claim]) -> str:
    """Sum up the ledger in one sentence, and the cells in another."""
    stated = [claim for claim in claims if claim.kind != "cell"]
    counts = {verdict: sum(claim.verdict == verdict for claim in stated) for verdict in VERDICTS}
    parts = [f"**{counts[verdict]}** {verdict}" for verdict in VERDICTS if counts[verdict]]
    exact = sum(not claim.over_seeds for claim in stated)
    text = (
        f"**{len(stated)}** claims: {', '.join(parts)}. {len(stated) - exact} are trained, "
        f"over several seeds; {exact} are held against closed forms."
    )
    if cells := len(claims) - len(stated):
        text += f" Beside them **{cells}** cells of the matrix are measured."
    return text


def page(claims: Sequence[Claim]) -> str:
    """List what did not reproduce; then a card a claim and a table a column, by chapter."""
    lines = refuted(claims)
    for title, group in groupby(claims, key=lambda claim: claim.title):
        entries = list(group)
        lines += [f"## {title}", ""]
        for claim in entries:
            if claim.kind != "cell":
                link = f"[{title}](#claim-{claim.id})"
                lines.append(card(claim, f"ledger-{claim.id}", link=link))
        for mode, cells in columns(entries).items():
            lines += [f"**Kept against {mode} collapse**", "", column(cells, "ledger"), ""]
    return "\n".join(lines)


def refuted(claims: Sequence[Claim]) -> list[str]:
    """List the claims that did not reproduce, by chapter, each with a link to its card."""
    found = [c for c in claims if c.kind != "cell" and c.verdict == NOT_REPRODUCED]
    if not found:
        return []
    lines = ["## What did not reproduce", ""]
    for title, group in groupby(found, key=lambda claim: claim.title):
        lines += [f"**{title}**", ""]
        lines += [f"- [{_plain(claim.statement)}](#ledger-{claim.id})" for claim in group]
        lines.append("")
    return lines


def _plain(statement: str) -> str:
    """A statement as the text of a link."""
    return statement.replace("[", "\\[").replace("]", "\\]")


# ------------------------------------------------------------------------------------------
# The matrix
# ------------------------------------------------------------------------------------------


def columns(claims: Iterable[Claim]) -> dict[str, list[Claim]]:
    """Return the cells by mode, in order."""
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.kind == "cell":
            found.setdefault(str(claim.mode), []).append(claim)
    return found


def column(cells: Sequence[Claim], prefix: str) -> str:
    """Write the cells of one mode as a table: the same in its chapter and on the ledger page."""
    lines = [
        f"({prefix}-column-{slug(str(cells[0].mode))})=",
        "",
        "| remedy | share kept, by block: lowest to highest seed | outcome |",
        "|:--|:--|:--|",
    ]
    for cell in cells:
        blocks = "; ".join(shares(block) for block in cell.blocks or (cell.block,))
        lines.append(f"| {cell.remedy} | {blocks} | {cell.verdict} |")
    return "\n".join(lines)


def shares(block: Block) -> str:
    """Mean, lowest and highest share of a block."""
    low, high = min(block.measurements), max(block.measurements)
    return f"{block.mean:.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def matrix(claims: Sequence[Claim]) -> str:
    """Remedies (rows) by modes (columns): each cell shows its embeddings, its outcome and a link.

    Remedies are rows because they are many and modes are few: the table stays narrow.
    """
    found = {mode: {cell.remedy: cell for cell in cells} for mode, cells in columns(claims).items()}
    remedies = list(dict.fromkeys(str(remedy) for cells in found.values() for remedy in cells))
    lines = [
        "::::{div} rc-matrix",
        "",
        f"| remedy | {' | '.join(found)} |",
        "|:--|" + ":--|" * len(found),
    ]
    for remedy in remedies:
        if holes := [mode for mode in found if remedy not in found[mode]]:
            raise PressError(f"the matrix has no cell for {remedy!r} in the column {holes[0]!r}")
        row = " | ".join(grid_cell(cells[remedy]) for cells in found.values())
        lines.append(f"| **{remedy}** | {row} |")
    return "\n".join([*lines, "", "::::"]) if found else ""


def grid_cell(cell: Claim) -> str:
    """Write one cell of the matrix: its picture, its outcome, and the way to its table."""
    anchor = f"chapter-column-{slug(str(cell.mode))}"
    return f"[{{rc-cell}}`{cell.id}` {{rc-outcome}}`{cell.verdict}`](#{anchor})"


def outcome(claim: Claim) -> str:
    """Say of a claim with a place what became of a collapse, as far as the claim holds."""
    if claim.verdict == REPRODUCED:
        return str(claim.outcome)
    return f"{claim.outcome}? {claim.verdict}"


# Modes that are no collapse by themselves, though the book has a chapter on each.
NO_COLLAPSE = ("anisotropy", "modality gap", "oversmoothing")


def disease(mode: str | None) -> str:
    """Return a mode as a sentence names it.

    Examples
    --------
    >>> disease("cluster"), disease("modality gap"), disease("plasticity")
    ('cluster collapse', 'modality gap', 'loss of plasticity')
    """
    if mode == "plasticity":
        return "loss of plasticity"
    return str(mode) if mode in NO_COLLAPSE else f"{mode} collapse"


def places(claims: Sequence[Claim], pictured: Collection[str]) -> str:
    """List by chapter the claims that say what a remedy does to a mode.

    Those that are `pictured` show their embeddings.
    """
    lines: list[str] = []
    notebook = ""
    for claim in claims:
        if not claim.outcome:
            continue
        if claim.notebook != notebook:
            notebook = claim.notebook
            lines += ["", f"**{claim.title}**", ""]
        picture = f"{{rc-cell}}`{claim.id}` " if claim.id in pictured else ""
        text = f"[{claim.remedy}](#claim-{claim.id}): {disease(claim.mode)} {outcome(claim)}"
        lines.append(f"- {picture}{text}")
    return "\n".join(["::::{div} rc-places", *lines, "", "::::"]) if lines else ""
