"""The built site in a real Chromium: what a reader sees, at two widths and in both themes."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("REPCOLLAPSE_SITE", ROOT / "_build" / "html"))
# The theme's own two, on every page of every book made with it.
KNOWN_VIOLATIONS = {"label-content-name-mismatch", "region"}
# Without preloading: axe would ask for the stylesheets' own imports at addresses that do not exist.
AXE_OPTIONS = {"preload": False, "resultTypes": ["violations"]}
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
# Most of the time goes into axe. Its rules ask for a width (what is hidden, how large a target is)
# or for a theme (contrast), none for both at once.
AUDITED = {(1280, "light"), (390, "dark")}
PATH_LIKE = re.compile(r"^\S*(?:/\S+|\.(?:png|svg|jpe?g|gif|webp))$")


def page_names() -> list[str]:
    """Every page that a reader can reach; one name that stands for all where nothing is built."""
    found = sorted(
        path.relative_to(SITE).as_posix()
        for path in SITE.rglob("*.html")
        if not path.relative_to(SITE).as_posix().startswith(("_static/", "_modules/", "404"))
    )
    return found or ["index.html"]


def chapter_names() -> list[str]:
    return [name for name in page_names() if name.startswith("notebooks/")] or ["index.html"]


@dataclass(frozen=True)
class View:
    """A window that a page is looked at in."""

    context: BrowserContext
    audited: bool


@pytest.fixture(scope="module", params=[(w, t) for w in WIDTHS for t in THEMES], ids=str)
def view(request: pytest.FixtureRequest, browser: Browser) -> Iterator[View]:
    width, theme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    yield View(context, request.param in AUDITED)
    context.close()


@pytest.fixture(scope="module")
def desk(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.mark.parametrize("name", page_names())
def test_page_is_quiet_fits_and_is_accessible(view: View, address: str, name: str) -> None:
    complaints: list[str] = []
    page = view.context.new_page()
    page.on("console", lambda message: keep_errors(message.type, message.text, complaints))
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.on("response", lambda response: keep_missing(response.status, response.url, complaints))
    page.on("request", lambda request: keep_strangers(request.url, address, complaints))
    page.goto(f"{address}/{name}", wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    theme = page.evaluate("() => document.documentElement.dataset.theme")
    assert theme == page.evaluate(
        "() => matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
    )
    sizes = page.evaluate("() => [document.scrollingElement.scrollWidth, window.innerWidth]")
    violations = audit(page) if view.audited else []
    page.close()
    assert complaints == []
    assert sizes[0] <= sizes[1], f"{name} scrolls sideways: {widest(view.context, address, name)}"
    assert violations == []


def audit(page: Page) -> list[str]:
    """What axe has against the page, but for what the theme does on every page."""
    return [
        f"{found['id']}: {node['html']} {node.get('failureSummary', '')}"
        for found in Axe().run(page, options=AXE_OPTIONS).response["violations"]
        if found["id"] not in KNOWN_VIOLATIONS
        for node in found["nodes"]
    ]


def keep_errors(kind: str, text: str, complaints: list[str]) -> None:
    if kind == "error":
        complaints.append(f"console: {text}")


def keep_missing(status: int, url: str, complaints: list[str]) -> None:
    if status >= 400:
        complaints.append(f"{status}: {url}")


def keep_strangers(url: str, address: str, complaints: list[str]) -> None:
    if not url.startswith((address, "data:", "blob:")):
        complaints.append(f"external request: {url}")


def widest(context: BrowserContext, address: str, name: str) -> list[str]:
    """The elements that reach beyond the window, for the message."""
    page = context.new_page()
    page.goto(f"{address}/{name}")
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('article *')]
            .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1)
            .slice(0, 5).map((e) => e.outerHTML.slice(0, 160))"""
    )
    page.close()
    return found


@pytest.mark.parametrize("name", page_names())
def test_every_image_has_words(desk: BrowserContext, address: str, name: str) -> None:
    page = desk.new_page()
    page.goto(f"{address}/{name}")
    alts = page.evaluate("() => [...document.querySelectorAll('article img')].map((i) => i.alt)")
    broken = page.evaluate(
        """async () => {
            const images = [...document.querySelectorAll('article img')];
            await Promise.all(images.map((i) => i.decode().catch(() => null)));
            return images.filter((i) => i.naturalWidth === 0).map((i) => i.src);
        }"""
    )
    page.close()
    assert [alt for alt in alts if not alt.strip() or PATH_LIKE.match(alt)] == []
    assert broken == []


@pytest.mark.parametrize("name", chapter_names())
def test_a_chapter_shows_its_cost_and_figures(
    desk: BrowserContext, address: str, name: str
) -> None:
    page = desk.new_page()
    page.goto(f"{address}/{name}")
    cost = page.inner_text(".rc-cost")
    shown = page.evaluate(
        """() => [...document.querySelectorAll('figure.rc-figure')].map((f) =>
            [...f.querySelectorAll('img')].filter((i) => i.offsetParent !== null).length)"""
    )
    page.close()
    assert re.search(r"\d+ s on one core, \d+ MB of memory", cost)
    assert shown, "a chapter without a figure"
    # One image a figure: this theme's, this frame's. A folded solution hides its own until opened.
    assert set(shown) <= {0, 1}
    assert 1 in shown


@pytest.mark.parametrize("theme", THEMES)
def test_figures_follow_the_theme(browser: Browser, address: str, theme: str) -> None:
    context = browser.new_context(color_scheme=theme)
    page = context.new_page()
    page.goto(f"{address}/{chapter_names()[0]}")
    sources = page.evaluate(
        """() => [...document.querySelectorAll('figure.rc-figure img')]
            .filter((i) => i.offsetParent !== null).map((i) => i.src)"""
    )
    context.close()
    assert sources
    assert all(re.search(rf"-{theme}\.(png|webp)$", source) for source in sources)


def test_search_finds_dimensional(desk: BrowserContext, address: str) -> None:
    page = desk.new_page()
    page.goto(f"{address}/search.html?q=dimensional")
    page.wait_for_selector("#search-results ul.search li a")
    found = page.locator("#search-results ul.search li").count()
    page.close()
    assert found >= 1


def first_flipbook(page: Page, address: str) -> str | None:
    for name in page_names():
        if 'class="rc-flipbook' in (SITE / name).read_text(encoding="utf-8"):
            page.goto(f"{address}/{name}")
            return name
    return None


def test_flipbook_is_worked_by_keyboard(desk: BrowserContext, address: str) -> None:
    page = desk.new_page()
    assert first_flipbook(page, address), "the book has no flipbook"
    book = page.locator(".rc-flipbook").first
    if "rc-autoplay" in (book.get_attribute("class") or ""):
        page.emulate_media(reduced_motion="reduce")
        page.reload()
        book = page.locator(".rc-flipbook").first
    slider = book.locator("input[type=range]")
    assert visible_frame(page) == book.locator(".rc-frame").count() - 1
    slider.focus()
    page.keyboard.press("Home")
    first = visible_frame(page)
    label = slider.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    assert visible_frame(page) == first + 1
    assert slider.get_attribute("aria-valuetext") != label
    assert slider.get_attribute("aria-label")
    page.keyboard.press("End")
    last = visible_frame(page)
    assert last == book.locator(".rc-frame").count() - 1
    button = book.locator("button")
    button.focus()
    page.keyboard.press("Enter")
    assert button.inner_text() == "Pause"
    assert visible_frame(page) == 0
    page.keyboard.press("Enter")
    assert button.inner_text() == "Play"
    page.close()


def visible_frame(page: Page) -> int:
    index: int = page.evaluate(
        """() => [...document.querySelector('.rc-flipbook').querySelectorAll('.rc-frame')]
            .findIndex((f) => f.offsetParent !== null)"""
    )
    return index


def test_flipbook_plays_once_and_stops(desk: BrowserContext, address: str) -> None:
    page = desk.new_page()
    page.clock.install()
    assert first_flipbook(page, address), "the book has no flipbook"
    book = page.locator(".rc-flipbook").first
    button = book.locator("button")
    if button.inner_text() == "Pause":
        button.click()
    book.locator("input").evaluate("(s) => { s.value = 0; s.dispatchEvent(new Event('input')); }")
    button.click()
    frames = book.locator(".rc-frame").count()
    page.clock.run_for(650 * (frames + 5))
    assert visible_frame(page) == frames - 1
    assert button.inner_text() == "Play"
    page.close()


def test_the_site_reads_from_the_file_system(desk: BrowserContext, site: Path) -> None:
    complaints: list[str] = []
    page = desk.new_page()
    page.on("request", lambda request: keep_strangers(request.url, "file://", complaints))
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.goto((site / "index.html").resolve().as_uri())
    heading = page.inner_text("h1")
    page.close()
    assert heading
    assert complaints == []


def test_without_scripts_a_flipbook_shows_all_its_frames(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    assert first_flipbook(page, address), "the book has no flipbook"
    book = page.locator(".rc-flipbook").first
    frames = book.locator(".rc-frame").all()
    shown = [frame.is_visible() for frame in frames]
    context.close()
    assert len(shown) > 1
    assert all(shown)
