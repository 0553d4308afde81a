"""The check of a finished site finds each kind of fault, by page and element."""

import json
from pathlib import Path
from typing import Any

import pytest

from press.check import check
from press.project import PressError

PAGE = """<html><head>{head}</head><body><article>{body}</article></body></html>"""
FIGURE = (
    '<figure id="a-figure"><img alt="A line that falls" src="a-light.png">'
    '<img alt="A line that falls" src="a-dark.png"></figure>'
)
CARD = '<div id="claim-a-claim"></div>'


class Site:
    def __init__(self, folder: Path, make: Any) -> None:
        self.folder = folder
        self.claims = [make.claim()]
        cell = make.code("x", outputs=[make.figure(), make.claim_output()])
        self.notebooks = {"01_one": make.notebook(make.markdown("# One"), cell)}
        (folder / "ledger.json").write_text(json.dumps([{"id": "a-claim"}]))
        self.page("index.html", '<a href="notebooks/01_one.html#claim-a-claim">x</a>')
        self.page("notebooks/01_one.html", FIGURE + CARD)
        self.page("book/ledger.html", '<div id="ledger-a-claim"></div>')

    def page(self, name: str, body: str, head: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(head=head, body=body))

    def check(self) -> None:
        check(self.folder, self.notebooks, self.claims)


@pytest.fixture
def site(tmp_path: Path, make: Any) -> Site:
    return Site(tmp_path, make)


def test_a_good_site_passes(site: Site) -> None:
    site.check()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<img src="x.png">', "index.html: an image without alt text: <img src="),
        ('<img alt=" " src="x.png">', "index.html: an image without alt text"),
        ('<img alt="_images/x.png" src="x.png">', "alt text is a path, '_images/x.png'"),
        ('<img alt="../a/b" src="x.png">', "alt text is a path"),
        ('<img alt="a" src="https://e.org/x.png">', "an external request: <img"),
        ('<img alt="a" src="x.png" srcset="x.png 1x, https://e.org/y.png 2x">', "request: <img"),
        ('<img alt="a" src="x.png" srcset=" https://e.org/y.png 2x">', "request: <img"),
        ('<p style="background: url(https://e.org/x.png)">a</p>', "a style asks for something"),
        ('<video src="x.webm" poster="//e.org/x.png"></video>', "external request: <video"),
        ('<svg><image href="https://e.org/x.png"/></svg>', "external request: <image"),
        ('<script src="//cdn.org/x.js"></script>', "an external request: <script"),
        ('<iframe src="http://e.org"></iframe>', "an external request: <iframe"),
        ("<style>@import 'https://e.org/x.css';</style>", "a style asks for https://e.org/x.css"),
        ('<a href="missing.html">x</a>', "a link to a missing file: <a href"),
        ('<a href="#nowhere">x</a>', "a link to a missing place"),
        ('<a href="notebooks/01_one.html#nowhere">x</a>', "a link to a missing place"),
    ],
)
def test_a_fault_of_a_page_is_found(site: Site, body: str, fault: str) -> None:
    site.page("index.html", body)
    with pytest.raises(PressError) as caught:
        site.check()
    assert fault in str(caught.value)
    assert "index.html" in str(caught.value)


@pytest.mark.parametrize("rel", ["stylesheet", "preload", "icon"])
def test_an_external_link_element_is_found(site: Site, rel: str) -> None:
    site.page("index.html", "", f'<link rel="{rel}" href="https://e.org/x">')
    with pytest.raises(PressError, match="an external request: <link"):
        site.check()


def test_what_asks_for_nothing_is_no_fault(site: Site) -> None:
    site.page(
        "index.html",
        '<a href="https://e.org">out</a><a href="mailto:a@b.c">write</a>'
        '<img alt="A/B pair of curves" src="x.png" srcset="data:image/png;base64,//8A 1x">',
        '<link rel="canonical" href="https://e.org/x">',
    )
    site.check()


def test_a_font_from_elsewhere_is_found(site: Site) -> None:
    (site.folder / "style.css").write_text('@font-face {src: url("https://fonts.org/a.woff")}')
    with pytest.raises(PressError, match=r"style.css: an external request: https://fonts.org"):
        site.check()


def test_a_figure_that_does_not_arrive_is_found(site: Site) -> None:
    site.page("notebooks/01_one.html", CARD)
    with pytest.raises(PressError, match="figure 'a-figure' shows 0 images, expected 2"):
        site.check()


def test_an_image_that_no_cell_made_or_that_was_lost_is_found(site: Site) -> None:
    site.page("notebooks/01_one.html", FIGURE + CARD + '<img alt="more" src="x.png">')
    with pytest.raises(PressError, match="3 images, the notebook has 2"):
        site.check()


def test_a_missing_chapter_is_found(site: Site) -> None:
    (site.folder / "notebooks" / "01_one.html").unlink()
    with pytest.raises(PressError, match=r"notebooks/01_one.html: the page is missing"):
        site.check()


@pytest.mark.parametrize(
    ("name", "anchor"),
    [("notebooks/01_one.html", "claim-a-claim"), ("book/ledger.html", "ledger-a-claim")],
)
def test_a_claim_that_is_not_shown_is_found(site: Site, name: str, anchor: str) -> None:
    site.page("index.html", "")
    site.page(name, FIGURE if "one" in name else "")
    with pytest.raises(PressError, match=f"{name}: claim 'a-claim' has no place #{anchor}"):
        site.check()


def test_a_claim_that_the_data_lack_is_found(site: Site) -> None:
    (site.folder / "ledger.json").write_text("[]")
    with pytest.raises(PressError, match=r"ledger.json: claim 'a-claim' is missing"):
        site.check()
