"""Stage what Jupyter Book renders: pages with placeholders filled, notebooks in their final form.

The notebooks keep plain Markdown and standard outputs, so that they read well on Colab. Here, and
only here, they become pages of the book: figures with captions, numbers and a dark version; claims
as cards; exercises with folded solutions; the measured cost under the title.
"""

import base64
import copy
import io
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml
from PIL import Image

from press import ledger
from press.execute import Executed
from press.imports import text_of
from press.ledger import Claim
from press.outputs import CELL, CLAIM, COLUMN, FIGURE, outputs_of
from press.project import PressError, Project, recover_folder, swap_folder, to_json

COLAB = "https://colab.research.google.com"
THEMES = ("light", "dark")
MOST_BYTES = 700_000  # of one figure in one theme
PLACEHOLDER = re.compile(r"<!-- press:(\w+)(?: ([\w-]+))? -->")
# Outputs that a reader of the page must not meet unfolded, or at all: a figure there is a mistake.
FOLDED = {"hide-cell", "hide-output", "remove-output"}
LEDGER_FILE = "ledger.json"
MATHJAX = ("tex-chtml-full.js", "output/chtml/fonts", "a11y", "sre", "ui")
# Source of a cell that carries the rest of an output: not shown, but a cell without one is dropped.
CONTINUED = "# continued"

Cell = dict[str, Any]


@dataclass(frozen=True)
class Address:
    """Where the repository lives, as far as anyone has said."""

    url: str
    branch: str

    @property
    def site(self) -> str | None:
        """The Pages address of a GitHub repository."""
        parts = urlparse(self.url)
        path = parts.path.strip("/").removesuffix(".git").split("/")
        if parts.hostname != "github.com" or len(path) != 2:
            return None
        owner, name = path
        root = f"https://{owner.lower()}.github.io/"
        return root if name.lower() == f"{owner.lower()}.github.io" else f"{root}{name}/"


def stage(project: Project, executed: Sequence[Executed], claims: Sequence[Claim]) -> None:
    """Write ``_build/staged`` anew, in one step."""
    recover_folder(project.staged)
    target = project.build / "staged.partial"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    address = find_address(project, os.environ)
    write_config(project, target, address)
    shutil.copy(project.root / "_toc.yml", target)
    copy_book(project, target)
    stage_mathjax(target)
    figures = stage_notebooks(executed, claims, target)
    fill_placeholders(target, claims, figures)
    text = to_json([ledger.as_json(claim) for claim in claims])
    (target / LEDGER_FILE).write_text(text, encoding="utf-8")
    swap_folder(target, project.staged)


# ------------------------------------------------------------------------------------------
# Pages, configuration, vendored files
# ------------------------------------------------------------------------------------------


def copy_book(project: Project, target: Path) -> None:
    """Copy the front page and everything below ``book`` that the site is made of."""
    shutil.copy(project.root / "index.md", target)
    shutil.copytree(
        project.root / "book",
        target / "book",
        ignore=shutil.ignore_patterns("press", "replications", "__pycache__", ".*"),
    )


def stage_mathjax(target: Path) -> None:
    """Copy the part of MathJax the pages use, so that formulas need no network."""
    vendored = target / "vendor" / "mathjax"
    for name in MATHJAX:
        source = mathjax_folder() / name
        (vendored / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, vendored / name)
        else:
            shutil.copy(source, vendored / name)


def mathjax_folder() -> Path:
    """Where sphinx-mathjax-offline keeps it: its folder's name cannot be imported."""
    site = Path(yaml.__file__).parents[1]
    folder = site / "sphinx-mathjax-offline" / "static" / "mathjax"
    if not folder.is_dir():
        raise PressError("sphinx-mathjax-offline is not installed in this environment")
    return folder


def find_address(project: Project, environ: os._Environ[str] | dict[str, str]) -> Address | None:
    """Return the deploying environment's repository, else that of ``[project.urls]``."""
    repository = environ.get("GITHUB_REPOSITORY")
    if repository:
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return Address(f"{server}/{repository}", branch_of(environ))
    with (project.root / "pyproject.toml").open("rb") as handle:
        urls = tomllib.load(handle)["project"].get("urls", {})
    return Address(urls["Repository"], "main") if "Repository" in urls else None


def branch_of(environ: os._Environ[str] | dict[str, str]) -> str:
    """Return the deployed branch; a pull request's merge reference is none to link to."""
    name = environ.get("GITHUB_REF_NAME", "main")
    return "main" if name.endswith("/merge") else name


def write_config(project: Project, target: Path, address: Address | None) -> None:
    """Copy ``_config.yml``, with the repository's buttons only where there is an address."""
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    if address is not None:
        config["repository"] = {"url": address.url, "branch": address.branch}
        config["launch_buttons"] = {"colab_url": COLAB}
        config["html"] |= {"use_repository_button": True, "use_issues_button": True}
        if address.site is not None:
            config["html"]["baseurl"] = address.site
            config["sphinx"]["config"]["ogp_site_url"] = address.site
            config["sphinx"]["config"]["notfound_urls_prefix"] = urlparse(address.site).path
            config["sphinx"]["extra_extensions"].append("sphinx_sitemap")
            config["sphinx"]["config"] |= {
                "sitemap_url_scheme": "{link}",
                "sitemap_show_lastmod": False,  # the staged tree is in no repository
            }
    (target / "_config.yml").write_text(
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )


def fill_placeholders(
    target: Path, claims: Sequence[Claim], figures: dict[str, dict[str, Any]]
) -> None:
    """Replace each ``<!-- press:... -->`` of the Markdown pages by what this build found."""

    def front_figure(name: str) -> str:
        if name not in figures:
            raise PressError(f"<!-- press:figure {name} -->: no notebook shows a figure {name!r}")
        return figure_markdown(figures[name], anchor=f"{name}-again", autoplay=True)

    cells = (target / "figures").glob("cell-*.json")
    pictured = {path.stem.removeprefix("cell-") for path in cells}
    fillers: dict[str, Callable[[str], str]] = {
        "matrix": lambda _: ledger.matrix(claims),
        "places": lambda _: ledger.places(claims, pictured),
        "ledger": lambda _: ledger.page(claims),
        "summary": lambda _: ledger.summary(claims),
        "claim": lambda identifier: ledger.mention(claims, identifier),
        "figure": front_figure,
    }
    for page in [*target.glob("*.md"), *(target / "book").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")

        def fill(match: re.Match[str], page: Path = page) -> str:
            name, argument = match.groups()
            if name not in fillers:
                raise PressError(
                    f"{page.name}: <!-- press:{name} --> is unknown; there are {', '.join(fillers)}"
                )
            return fillers[name](argument or "")

        page.write_text(PLACEHOLDER.sub(fill, text), encoding="utf-8")


# ------------------------------------------------------------------------------------------
# Notebooks
# ------------------------------------------------------------------------------------------


def stage_notebooks(
    executed: Iterable[Executed], claims: Sequence[Claim], target: Path
) -> dict[str, dict[str, Any]]:
    """Write every notebook as a page, and its figures as files; return the figures by name."""
    (target / "notebooks").mkdir()
    (target / "figures").mkdir()
    verdicts = {claim.id: claim for claim in claims}
    undrawn = {claim.id for claim in claims if has_place(claim) and claim.over_seeds}
    figures: dict[str, dict[str, Any]] = {}
    for chapter in executed:
        notebook = chapter.read()
        for record in outputs_of(notebook, FIGURE):
            require_figure(record, chapter.name, figures)
            figures[record["name"]] = record
            about = (record["alt"], record["frames"], record.get("width"))
            write_pictures(target / "figures", record["name"], *about)
        for record in outputs_of(notebook, CELL):
            require_claim(record, chapter.name, verdicts)
            name = f"cell-{record['id']}"
            write_pictures(target / "figures", name, record["alt"], [{"label": "", **record}], 72)
            undrawn.discard(record["id"])
        page = transform(notebook, chapter, verdicts)
        text = json.dumps(page, indent=1, ensure_ascii=False)
        (target / "notebooks" / f"{chapter.name}.ipynb").write_text(text + "\n", encoding="utf-8")
    if undrawn:
        raise PressError(
            f"no figures.cell shows the embeddings of {', '.join(sorted(undrawn))}, which "
            "have a place in the matrix"
        )
    return figures


def require_figure(record: dict[str, Any], notebook: str, known: dict[str, Any]) -> None:
    """Refuse a figure that cannot be referred to or cannot be read by everyone."""
    name = record["name"]
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise PressError(
            f"{notebook}.ipynb: figure name {name!r}, expected words joined by hyphens"
        )
    if name in known:
        raise PressError(f"{notebook}.ipynb: a figure named {name!r} exists already in the book")
    for key in ("alt", "caption"):
        if not record[key].strip():
            raise PressError(f"{notebook}.ipynb: figure {name!r} has no {key}")


def has_place(claim: Claim) -> bool:
    """Tell whether the page of the matrix shows it."""
    return claim.outcome is not None or claim.kind == "cell"


def require_claim(record: dict[str, Any], notebook: str, claims: dict[str, Claim]) -> None:
    """Refuse a picture for the matrix that belongs to nothing with a place in it."""
    claim = claims.get(record["id"])
    if claim is None or not has_place(claim) or claim.notebook != notebook:
        raise PressError(
            f"{notebook}.ipynb: a cell of the matrix is drawn for {record['id']!r}, which is no "
            "cell and no claim of this chapter with a mode, a remedy and an outcome"
        )


def write_pictures(
    folder: Path, name: str, alt: str, frames: Sequence[dict[str, str]], width: int | None
) -> None:
    """Each frame in a light and a dark picture, and beside them what the extension needs to know.

    A flipbook's frames are packed anew, without a loss, since a page carries all of them.
    """
    written, weight = [], dict.fromkeys(THEMES, 0)
    flipbook = len(frames) > 1
    ending = "webp" if flipbook else "png"
    for index, frame in enumerate(frames):
        suffix = f"-{index:02d}" if flipbook else ""
        entry = {"label": frame["label"]}
        for theme in THEMES:
            drawn = base64.b64decode(frame[theme])
            picture = packed(drawn) if flipbook else drawn
            entry[theme] = f"{name}{suffix}-{theme}.{ending}"
            (folder / entry[theme]).write_bytes(picture)
            weight[theme] += len(picture)
        written.append(entry)
    if max(weight.values()) > MOST_BYTES:
        raise PressError(
            f"figure {name!r} weighs {max(weight.values()):,} bytes in one theme, more than "
            f"{MOST_BYTES:,}: fewer or simpler frames"
        )
    text = json.dumps({"alt": alt, "width": width, "frames": written}, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def packed(png: bytes) -> bytes:
    """Return the same pixels as WebP, which takes a quarter to a half of the bytes for plots."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(
        buffer, "WEBP", lossless=True, quality=50, method=2
    )
    return buffer.getvalue()


def figure_markdown(record: dict[str, Any], anchor: str, *, autoplay: bool = False) -> str:
    """Write the directive of the local extension, with the caption as its content."""
    options = [f":name: {anchor}"] + ([":autoplay:"] if autoplay else [])
    return "\n".join(
        [
            f"````{{rc-figure}} /figures/{record['name']}.json",
            *options,
            "",
            record["caption"].strip(),
            "````",
        ]
    )


def transform(
    notebook: dict[str, Any], chapter: Executed, claims: dict[str, Claim]
) -> dict[str, Any]:
    """Make a page of the executed notebook."""
    cells: list[Cell] = []
    for cell in mark_exercises(notebook["cells"]):
        cells += transform_cell(cell, chapter, claims)
    add_cost(cells, chapter)
    page = {**notebook, "cells": fold_solutions(cells, chapter.name)}
    # The cost is on the page; a key that changes with the package would render again for nothing.
    page["metadata"] = {key: value for key, value in notebook["metadata"].items() if key != "press"}
    return page


def transform_cell(cell: Cell, chapter: Executed, claims: dict[str, Claim]) -> list[Cell]:
    """Split a code cell where it shows something of ours, keeping the order of what it shows."""
    cell = copy.deepcopy(cell)
    tags: list[str] = cell["metadata"].get("tags", [])
    if "injected-parameters" in tags:
        cell["metadata"]["tags"] = [*tags, "remove-cell"]
    if cell["cell_type"] != "code" or "remove-cell" in cell["metadata"].get("tags", []):
        return [cell]
    runs = split_outputs(cell["outputs"], claims)
    if FOLDED & set(tags) and any(isinstance(run, str) for run in runs):
        raise PressError(
            f"{chapter.name}.ipynb: a cell tagged {', '.join(sorted(FOLDED & set(tags)))} shows a "
            "figure, a claim or text; fold it with the tag 'solution', or only its input with "
            "'hide-input'"
        )
    cell["outputs"] = runs.pop(0) if runs and isinstance(runs[0], list) else []
    pieces = [cell]
    for index, run in enumerate(runs, start=1):
        if isinstance(run, str):
            pieces.append(markdown_cell(run, f"{cell['id']}-{index}", tags))
        else:
            rest = {**cell, "id": f"{cell['id']}-{index}", "source": CONTINUED, "outputs": run}
            rest["metadata"] = {**cell["metadata"], "tags": [*tags, "remove-input"]}
            pieces.append(rest)
    return pieces


def split_outputs(
    outputs: Iterable[dict[str, Any]], claims: dict[str, Claim]
) -> list[str | list[dict[str, Any]]]:
    """Alternate what becomes Markdown of the page with what stays an output of the cell."""
    runs: list[str | list[dict[str, Any]]] = []
    for output in outputs:
        if CELL in output.get("data", {}):
            continue  # it is shown in the matrix, not here
        text = as_markdown(output, claims)
        if text is not None:
            runs.append(text)
        elif runs and isinstance(runs[-1], list):
            runs[-1].append(output)
        else:
            runs.append([output])
    return runs


def as_markdown(output: dict[str, Any], claims: dict[str, Claim]) -> str | None:
    """Return what the page says in place of an output, or None for one that stays."""
    data = output.get("data", {})
    if FIGURE in data:
        record = data[FIGURE]
        return figure_markdown(record, anchor=record["name"])
    if COLUMN in data:
        return ledger.column([claims[entry["id"]] for entry in data[COLUMN]["cells"]], "chapter")
    if CLAIM in data:
        claim = claims[data[CLAIM]["id"]]
        listed = f"[the ledger](#ledger-{claim.id})"
        return ledger.card(claim, f"claim-{claim.id}", link=listed)
    said = data.get("text/markdown")
    if said is not None and set(data) <= {"text/markdown", "text/plain"}:
        return said if isinstance(said, str) else "".join(said)
    return None


def markdown_cell(source: str, identifier: str, tags: Sequence[str] = ()) -> Cell:
    """Make a Markdown cell; it stays in a solution if its code cell was in one."""
    kept = [tag for tag in tags if tag == "solution"]
    return {
        "cell_type": "markdown",
        "id": re.sub(r"[^a-zA-Z0-9_-]", "-", identifier)[-64:],
        "metadata": {"tags": kept} if kept else {},
        "source": source,
    }


def add_cost(cells: list[Cell], chapter: Executed) -> None:
    """Put what the page cost under its title, and the parameters if they are not the defaults."""
    for cell in cells:
        heading = re.search(r"^# .+$", text_of(cell), re.MULTILINE)
        if cell["cell_type"] == "markdown" and heading:
            before, after = text_of(cell)[: heading.end()], text_of(cell)[heading.end() :]
            cell["source"] = f"{before}\n\n{cost_label(chapter)}\n{after}"
            return


def cost_label(chapter: Executed) -> str:
    """State what was measured when the page was executed."""
    seconds, memory = chapter.cost.cpu_seconds, chapter.cost.peak_mb
    text = f"Measured in this build: {seconds:.0f} s on one core, {memory:.0f} MB of memory."
    if chapter.parameters:
        values = ", ".join(f"`{name} = {value}`" for name, value in chapter.parameters.items())
        text += f" Run with {values}."
    return f":::{{div}} rc-cost\n{text}\n:::"


def mark_exercises(cells: Iterable[Cell]) -> list[Cell]:
    """Tag exercises and solutions that are written the plain way.

    A paragraph that begins with ``**Exercise`` opens an exercise, to the end of its cell; cells
    tagged ``hide-cell`` right after it are its solution, and are folded as one with their outputs.
    """
    marked: list[Cell] = []
    for cell in cells:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "markdown" and not {"exercise", "solution"} & set(tags):
            marked += split_exercises(cell)
        elif "hide-cell" in tags and marked and belongs_to_exercise(marked[-1]):
            kept = [tag for tag in tags if tag != "hide-cell"]
            marked.append(tagged(cell, [*kept, "solution"]))
        else:
            marked.append(cell)
    return marked


def split_exercises(cell: Cell) -> list[Cell]:
    """Cut a Markdown cell before each exercise in it."""
    before, *exercises = re.split(r"^(?=\*\*Exercise)", text_of(cell), flags=re.MULTILINE)
    parts = [{**cell, "source": before}] if before.strip() else []
    for index, text in enumerate(exercises, start=1):
        part = {**cell, "id": f"{cell['id']}-exercise-{index}", "source": text.strip()}
        parts.append(tagged(part, [*cell["metadata"].get("tags", []), "exercise"]))
    return parts


def belongs_to_exercise(cell: Cell) -> bool:
    """Tell whether what follows this cell can be a solution."""
    return bool({"exercise", "solution"} & set(cell["metadata"].get("tags", [])))


def tagged(cell: Cell, tags: list[str]) -> Cell:
    """Return the cell with these tags."""
    return {**cell, "metadata": {**cell["metadata"], "tags": tags}}


def fold_solutions(cells: list[Cell], name: str) -> list[Cell]:
    """Make exercises of cells tagged ``exercise``, and fold the ``solution`` cells after each."""
    result: list[Cell] = []
    count = 0
    inside = False
    for cell in cells:
        tags = cell["metadata"].get("tags", [])
        if inside and "solution" not in tags:
            result.append(markdown_cell("```{solution-end}\n```", f"solution-end-{count}"))
            inside = False
        if "exercise" in tags:
            count += 1
            result.append({**cell, "source": exercise(text_of(cell), f"exercise-{name}-{count}")})
            continue
        if "solution" in tags and not inside:
            if not count:
                raise PressError(
                    f"{name}.ipynb: a cell tagged 'solution' comes before any 'exercise'"
                )
            start = f"```{{solution-start}} exercise-{name}-{count}\n:class: dropdown\n```"
            result.append(markdown_cell(start, f"solution-start-{count}"))
            inside = True
        result.append(cell)
    if inside:
        result.append(markdown_cell("```{solution-end}\n```", f"solution-end-{count}"))
    return result


def exercise(text: str, label: str) -> str:
    """Write the directive; a leading bold 'Exercise: title.' becomes its title."""
    title = ""
    match = re.match(r"\*\*Exercise(?:\s*\d+)?[.:]?\s*(.*?)\*\*\s*", text)
    if match:
        title, text = match.group(1).strip().rstrip("."), text[match.end() :]
    return f"`````{{exercise}} {title}\n:label: {label}\n\n{text}\n`````"
