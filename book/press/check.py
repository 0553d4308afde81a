"""Look at the finished pages as a strict reader would: pictures, links, strangers, evidence."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from press.ledger import Claim, slug
from press.outputs import CELL, FIGURE, outputs_of
from press.project import PressError

LEDGER_PAGE, MATRIX_PAGE = "book/ledger.html", "book/matrix.html"
REQUESTING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
REQUESTING_LINKS = {"stylesheet", "preload", "prefetch", "modulepreload", "preconnect", "icon"}
EXTERNAL = re.compile(r"(?:https?:)?//", re.IGNORECASE)
EXTERNAL_SOURCES = re.compile(r"(?:^\s*|,\s+)(?:https?:)?//", re.IGNORECASE)
CSS_REQUEST = re.compile(
    r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""", re.IGNORECASE
)
PATH_LIKE = re.compile(r"^\S*(?:/\S+|\.(?:png|svg|jpe?g|gif|webp))$", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """One file of the site."""

    site: Path
    path: Path

    @property
    def name(self) -> str:
        """Its address within the site."""
        return self.path.relative_to(self.site).as_posix()

    @cached_property
    def tree(self) -> BeautifulSoup:
        """Its elements."""
        return BeautifulSoup(self.path.read_text(encoding="utf-8"), "html.parser")

    @cached_property
    def anchors(self) -> set[str]:
        """All that a fragment can point at."""
        return {str(tag["id"]) for tag in self.tree.find_all(id=True)}

    @property
    def body(self) -> Tag:
        """What the authors wrote, without the theme around it."""
        return self.tree.find("article") or self.tree


def check(site: Path, notebooks: dict[str, dict[str, Any]], claims: Sequence[Claim]) -> None:
    """Check a site.

    Parameters
    ----------
    site : Path
        Its folder.
    notebooks : dict
        The executed notebooks by name: what the pages have to show.
    claims : sequence of Claim
        The claims that the ledger has to show.

    Raises
    ------
    PressError
        With one line for each fault, naming the page and the element.
    """
    pages = {
        page.name: page for page in (Page(site, path) for path in sorted(site.rglob("*.html")))
    }
    faults = [
        fault
        for page in pages.values()
        if not page.name.startswith("_static/")
        for fault in [*images(page), *strangers(page), *links(page, pages)]
    ]
    faults += stylesheets(site)
    faults += figures(pages, notebooks)
    faults += evidence(site, pages, claims)
    if faults:
        raise PressError(f"the site has {len(faults)} faults:\n" + "\n".join(faults))


def images(page: Page) -> Iterator[str]:
    """Pictures that a blind reader would not get to know."""
    for image in page.body.find_all("img"):
        alt = str(image.get("alt") or "").strip()
        if not alt:
            yield f"{page.name}: an image without alt text: {show(image)}"
        elif PATH_LIKE.match(alt):
            yield f"{page.name}: an image whose alt text is a path, {alt!r}: {show(image)}"


def strangers(page: Page) -> Iterator[str]:
    """Find requests that would leave the site."""
    for tag in page.tree.find_all([*REQUESTING, "link", "style"]):
        if tag.name == "style":
            for address in CSS_REQUEST.findall(tag.get_text()):
                yield f"{page.name}: a style asks for {address}"
            continue
        if tag.name == "link" and not REQUESTING_LINKS & set(tag.get("rel") or []):
            continue
        address = str(tag.get("href" if tag.name == "link" else REQUESTING[tag.name]) or "")
        if EXTERNAL.match(address):
            yield f"{page.name}: an external request: {show(tag)}"
    for tag in page.tree.find_all(style=CSS_REQUEST):
        yield f"{page.name}: a style asks for something external: {show(tag)}"
    for tag in page.tree.find_all(srcset=EXTERNAL_SOURCES) + page.tree.find_all(poster=EXTERNAL):
        yield f"{page.name}: an external request: {show(tag)}"
    for tag in page.tree.find_all("image"):  # of SVG
        if any(EXTERNAL.match(str(tag.get(name) or "")) for name in ("href", "xlink:href")):
            yield f"{page.name}: an external request: {show(tag)}"


def stylesheets(site: Path) -> Iterator[str]:
    """Fonts and pictures that a stylesheet would fetch from elsewhere."""
    for path in sorted(site.rglob("*.css")):
        for address in CSS_REQUEST.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site).as_posix()}: an external request: {address}"


def links(page: Page, pages: dict[str, Page]) -> Iterator[str]:
    """Links into the site that lead nowhere."""
    if page.name == "404.html":
        return  # its links begin at the root of the site, wherever that will be
    for link in page.tree.find_all("a", href=True):
        parts = urlsplit(str(link["href"]))
        if parts.scheme or parts.netloc:
            continue
        target = page
        if parts.path:
            path = (page.path.parent / unquote(parts.path)).resolve()
            if path.is_dir():
                path = path / "index.html"
            if not path.exists():
                yield f"{page.name}: a link to a missing file: {show(link)}"
                continue
            if path.suffix != ".html":
                continue
            target = pages[path.relative_to(page.site.resolve()).as_posix()]
        if parts.fragment and unquote(parts.fragment) not in target.anchors:
            yield f"{page.name}: a link to a missing place: {show(link)}"


def figures(pages: dict[str, Page], notebooks: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Figures that were executed and do not arrive, or arrive without their dark version."""
    for name, notebook in notebooks.items():
        page = pages.get(f"notebooks/{name}.html")
        if page is None:
            yield f"notebooks/{name}.html: the page is missing"
            continue
        expected = 0
        for record in outputs_of(notebook, FIGURE):
            expected += 2 * len(record["frames"])
            figure = page.body.find("figure", id=record["name"])
            found = len(figure.find_all("img")) if isinstance(figure, Tag) else 0
            if found != 2 * len(record["frames"]):
                yield (
                    f"{page.name}: figure {record['name']!r} shows {found} images, expected "
                    f"{2 * len(record['frames'])}"
                )
        expected += sum(ordinary_image(output) for output in visible_outputs(notebook))
        found = len(page.body.find_all("img"))
        if found != expected:
            yield f"{page.name}: {found} images, the notebook has {expected}"


def visible_outputs(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the outputs of the cells that the page shows."""
    for cell in notebook["cells"]:
        if not {"remove-cell", "remove-output"} & set(cell["metadata"].get("tags", [])):
            yield from cell.get("outputs", [])


def ordinary_image(output: dict[str, Any]) -> bool:
    """Whether an output is a picture that did not go through the package's figures."""
    data = output.get("data", {})
    return not {FIGURE, CELL} & set(data) and any(kind.startswith("image/") for kind in data)


def evidence(site: Path, pages: dict[str, Page], claims: Sequence[Claim]) -> Iterator[str]:
    """Claims that the ledger, its data or the chapter do not show."""
    recorded = {entry["id"] for entry in json.loads((site / "ledger.json").read_text("utf-8"))}
    for claim in claims:
        chapter = f"notebooks/{claim.notebook}.html"
        places = [(chapter, f"claim-{claim.id}"), (LEDGER_PAGE, f"ledger-{claim.id}")]
        if claim.kind == "cell":
            places = [
                (chapter, f"chapter-column-{slug(str(claim.mode))}"),
                (LEDGER_PAGE, f"ledger-column-{slug(str(claim.mode))}"),
                (MATRIX_PAGE, f"cell-{claim.id}"),
            ]
        for name, anchor in places:
            if name not in pages or anchor not in pages[name].anchors:
                yield f"{name}: claim {claim.id!r} has no place #{anchor}"
        if claim.id not in recorded:
            yield f"ledger.json: claim {claim.id!r} is missing"


def show(tag: Tag) -> str:
    """Return the opening of an element, short enough for a line."""
    text = str(tag).split(">", 1)[0] + ">"
    return text if len(text) < 160 else text[:157] + "..."
