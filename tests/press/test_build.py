"""The whole press on a book of one chapter: pages, swaps, failures that leave the site alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from press.__main__ import main, parse_parameters
from press.project import PressError, Project, recover_folder, swap_folder, write_json

ROOT = Path(__file__).parents[2]
TOC = """\
format: jb-book
root: index
chapters:
  - file: notebooks/01_one
  - file: book/ledger
  - file: book/bibliography
"""
INDEX = """\
# The book

<!-- press:figure film -->

See {numref}`a-figure`, [the film](#film) and {glue:text}`notebooks/01_one.ipynb::answer:s`.

<!-- press:places -->
"""
REFERENCES = """\
@article{someone2021, author = {Someone, Ada}, title = {On collapse}, journal = {J}, year = {2021}}
"""


@pytest.fixture(autouse=True)
def nobodys_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on a public builder must not lend these books its own address."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)


@pytest.fixture
def book(tmp_path: Path, make: Any) -> Project:
    """A complete small book, with the committed configuration, extension and style."""
    for name in ("_config.yml", "book/ledger.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / name, tmp_path / "book" / name)
    (tmp_path / "src").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n\n[project.urls]\n')
    (tmp_path / "_toc.yml").write_text(TOC)
    (tmp_path / "index.md").write_text(INDEX)
    (tmp_path / "book" / "references.bib").write_text(REFERENCES)
    (tmp_path / "book" / "bibliography.md").write_text("# Bibliography\n\n```{bibliography}\n```\n")
    write_chapter(tmp_path, make)
    return Project(tmp_path)


def write_chapter(root: Path, make: Any, *more: dict[str, Any], **changes: Any) -> None:
    claim = make.claim_output(
        citation="someone2021", mode="complete", remedy="negatives", outcome="prevented", **changes
    )
    glue = (
        "display({'application/papermill.record/text/plain': 'forty-two'}, raw=True, metadata="
        "{'scrapbook': {'name': 'answer', 'mime_prefix': 'application/papermill.record/'}})"
    )
    make.write(
        root / "notebooks" / "01_one.ipynb",
        make.code('import os\nSOURCE = os.environ.get("REPCOLLAPSE_SOURCE", "")', "remove-cell"),
        make.markdown("# One\n\nSee [it](#a-figure) and [the claim](#claim-a-claim)."),
        make.parameters(),
        make.emit(make.figure(), claim, make.cell_output("a-claim"), make.figure("film", 3)),
        make.code(f"from IPython.display import display\n{glue}"),
        make.markdown("**Exercise: more.** Why?", "exercise"),
        make.markdown("Because.", "solution"),
        make.code("print(6 * 7)", "solution"),
        *more,
    )


def press(project: Project, *arguments: str) -> int:
    return main(["--root", str(project.root), *arguments])


@pytest.mark.slow
def test_a_book_is_built_kept_and_left_alone_by_failures(
    book: Project, make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert press(book, "build") == 0, capsys.readouterr()
    shown = capsys.readouterr().out
    assert "01_one: started" in shown
    assert "rendering" in shown

    page = BeautifulSoup((book.html / "notebooks" / "01_one.html").read_text(), "html.parser")
    figure = page.find("figure", id="a-figure")
    assert figure is not None
    assert [image["class"][0] for image in figure.find_all("img")] == ["only-light", "only-dark"]
    assert "The loss" in figure.figcaption.get_text()
    assert len(page.find("figure", id="film").select(".rc-frame")) == 3
    assert page.find(id="claim-a-claim").select_one(".rc-verdict").get_text() == "reproduced"
    assert "Someone, 2021" in page.find(id="claim-a-claim").get_text()
    assert "one core" in page.select_one(".rc-cost").get_text()
    assert "REPCOLLAPSE_SOURCE" not in page.get_text()
    assert "42" in page.select_one("div.solution").get_text()
    index = BeautifulSoup((book.html / "index.html").read_text(), "html.parser")
    assert "forty-two" in index.get_text()
    link = index.select_one('a[href="notebooks/01_one.html#claim-a-claim"]')
    place = link.find_parent("li")
    assert place.get_text().strip() == "negatives: complete collapse prevented"
    assert [image["class"][0] for image in place.find_all("img")] == ["only-light", "only-dark"]
    assert {image["alt"] for image in place.find_all("img")} == {"A dot"}
    assert "Colab" not in index.get_text()
    (entry,) = json.loads((book.html / "ledger.json").read_text())
    assert entry["id"] == "a-claim"
    assert len(entry["blocks"]) == 1
    offered = book.html / "_sources" / "notebooks" / "01_one.ipynb"
    assert offered.read_bytes() == book.notebooks[0].read_bytes()

    # Nothing changed: nothing is done.
    before = (book.html / "index.html").stat()
    assert press(book, "build") == 0
    shown = capsys.readouterr().out
    assert "01_one: kept" in shown
    assert "the site is kept" in shown
    assert (book.html / "index.html").stat().st_ino == before.st_ino

    # A committed block that changes in a digit no page shows: the ledger's data follow.
    for value in (0.0010000001, 0.0010000002):
        measurements = [value, 0.002, 0.003, 0.001, 0.003]
        seeds = [100, 101, 102, 103, 104]
        record = make.claim_record(measurements=measurements, seeds=seeds)
        write_json(book.replications / "first_seed_100.json", [record])
        assert press(book, "build") == 0
        assert "rendering" in capsys.readouterr().out
        (entry,) = json.loads((book.html / "ledger.json").read_text())
        assert entry["blocks"][1]["measurements"] == measurements
    shutil.rmtree(book.replications)
    assert press(book, "build") == 0
    before = (book.html / "index.html").stat()

    # A claim that no longer holds, a notebook that fails and a page that warns: the site stays.
    write_chapter(book.root, make, verdict="not reproduced")
    assert press(book, "build") == 1
    assert "claim 'a-claim' (01_one.ipynb) is not reproduced" in capsys.readouterr().err
    write_chapter(book.root, make, make.code("raise RuntimeError('broken here')"))
    assert press(book, "build") == 1
    assert "broken here" in capsys.readouterr().err
    write_chapter(book.root, make, make.markdown("[nowhere](#nowhere)"))
    assert press(book, "build") == 1
    assert "nowhere" in capsys.readouterr().err
    assert (book.html / "index.html").stat().st_ino == before.st_ino

    # A picture without words passes Sphinx and not the check.
    picture = make.display({"image/png": make.figure()["data"]["image/png"]})
    write_chapter(book.root, make, make.emit(picture))
    assert press(book, "build") == 1
    assert "notebooks/01_one.html: an image" in capsys.readouterr().err
    assert (book.html / "index.html").stat().st_ino == before.st_ino


@pytest.mark.slow
def test_a_replication_is_recorded_and_then_judged_with(
    book: Project, make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_chapter(book.root, make, seeds=[100, 101, 102, 103, 104], verdict="not reproduced")
    assert press(book, "replicate", "first_seed=100") == 0
    assert "is not reproduced, expected reproduced" in capsys.readouterr().out
    assert (book.replications / "first_seed_100.json").exists()
    write_chapter(book.root, make)
    assert press(book, "build") == 1
    error = capsys.readouterr().err
    assert "is not reproduced, expected reproduced" in error
    assert "seeds 0 to 4, digits: reproduced" in error
    assert "seeds 100 to 104, digits: not reproduced" in error


@pytest.mark.parametrize("arguments", [[], ["seeds=3"], ["first_seed=x"]])
def test_replicate_needs_other_seeds_and_nothing_else(
    book: Project, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert press(book, "replicate", *arguments) == 1
    assert "first_seed=N" in capsys.readouterr().err


def test_the_address_is_written_everywhere(book: Project) -> None:
    for url in ("https://example.org/first", "https://github.com/someone/collapse"):
        assert press(book, "address", url) == 0
        text = (book.root / "pyproject.toml").read_text()
        assert text.count("Repository") == 1
        assert f'Repository = "{url}"' in text
        source = book.notebooks[0].read_text()
        assert f'\\"REPCOLLAPSE_SOURCE\\", \\"git+{url}\\"' in source


@pytest.mark.parametrize("url", ["", "somewhere", "https://"])
def test_what_is_no_address_is_refused(
    book: Project, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert press(book, "address", url) == 1
    assert "expected the address of a git repository" in capsys.readouterr().err


def test_parameters_are_typed() -> None:
    given = ["first_seed=100", "dataset=sprites", "rate=0.5", "shift=-1"]
    assert parse_parameters(given) == {
        "first_seed": 100,
        "dataset": "sprites",
        "rate": 0.5,
        "shift": -1,
    }


@pytest.mark.parametrize("text", ["[1", "", "no", "2024-01-01", "null", "~", "{a: 1}", "a=b", "'"])
def test_what_is_no_number_is_taken_as_it_was_given(text: str) -> None:
    assert parse_parameters([f"name={text}"]) == {"name": text}


@pytest.mark.parametrize("items", [["seeds"], ["2x=1"], ["seeds=1", "seeds=2"]])
def test_malformed_parameters_are_refused(items: list[str]) -> None:
    with pytest.raises(PressError, match="expected name=value"):
        parse_parameters(items)


def test_a_swap_cut_in_half_is_undone(tmp_path: Path) -> None:
    site, new = tmp_path / "html", tmp_path / "new"
    site.mkdir()
    (site / "page").write_text("old")
    new.mkdir()
    (new / "page").write_text("new")
    site.rename(tmp_path / "html.previous")  # as if killed between the two renames
    recover_folder(site)
    assert (site / "page").read_text() == "old"
    swap_folder(new, site)
    assert (site / "page").read_text() == "new"
    recover_folder(site)
    assert (site / "page").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["html"]
