"""Staging: what a notebook's outputs become, and what the pages are given."""

import base64
import io
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from press import ledger, stage
from press.imports import text_of
from press.project import PressError, Project
from press.stage import (
    Address,
    fill_placeholders,
    find_address,
    stage_notebooks,
    transform,
    write_config,
)

ROOT = Path(__file__).parents[2]


def png_of(make: Any) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(make.figure("one")["data"]["image/png"]))


def sources(page: dict[str, Any]) -> list[str]:
    return [text_of(cell) for cell in page["cells"]]


def test_a_figure_becomes_two_files_and_a_directive(
    make: Any, executed: Any, tmp_path: Path
) -> None:
    chapter = executed(
        "01_one", make.markdown("# One"), make.code("show()", outputs=[make.figure()])
    )
    target = tmp_path / "target"
    target.mkdir()
    figures = stage_notebooks([chapter], [], target)
    assert list(figures) == ["a-figure"]
    names = sorted(path.name for path in (target / "figures").iterdir())
    assert names == ["a-figure-dark.png", "a-figure-light.png", "a-figure.json"]
    about = json.loads((target / "figures" / "a-figure.json").read_text())
    assert about["alt"] == "A line that falls"
    page = json.loads((target / "notebooks" / "01_one.ipynb").read_text())
    _, code, figure = page["cells"]
    assert code["outputs"] == []
    assert figure["cell_type"] == "markdown"
    assert "{rc-figure} /figures/a-figure.json" in figure["source"]
    assert ":name: a-figure" in figure["source"]
    assert "The loss $L$ falls." in figure["source"]


def test_a_flipbook_has_a_file_for_each_frame_and_theme(
    make: Any, executed: Any, tmp_path: Path
) -> None:
    chapter = executed(
        "01_one", make.markdown("# One"), make.code("", outputs=[make.figure("film", 3)])
    )
    target = tmp_path / "target"
    target.mkdir()
    stage_notebooks([chapter], [], target)
    frames = sorted((target / "figures").glob("film-0?-*.webp"))
    assert len(frames) == 6
    with Image.open(frames[0]) as packed, Image.open(png_of(make)) as drawn:
        assert packed.format == "WEBP"
        assert packed.convert("RGB").tobytes() == drawn.convert("RGB").tobytes()
    about = json.loads((target / "figures" / "film.json").read_text())
    assert [frame["label"] for frame in about["frames"]] == ["step 0", "step 1", "step 2"]


def test_a_figure_that_is_too_heavy_is_refused(
    make: Any, executed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "MOST_BYTES", 10)
    chapter = executed(
        "01_one", make.markdown("# One"), make.code("", outputs=[make.figure("film", 3)])
    )
    (tmp_path / "target").mkdir()
    with pytest.raises(PressError, match="figure 'film' weighs"):
        stage_notebooks([chapter], [], tmp_path / "target")


def test_the_order_of_outputs_is_kept(make: Any, executed: Any) -> None:
    said = make.display({"text/markdown": "It is **0.1**.", "text/plain": "It is 0.1."})
    outputs = [
        make.stream("before"),
        make.figure(),
        make.stream("between"),
        make.claim_output(),
        said,
        make.stream("after"),
    ]
    chapter = executed("01_one", make.markdown("# One"), make.code("x", outputs=outputs))
    page = transform(chapter.read(), chapter, {"a-claim": make.claim()})
    kinds = [
        cell["outputs"][0]["text"] if cell["cell_type"] == "code" else text_of(cell)[:13]
        for cell in page["cells"][1:]
    ]
    assert kinds == [
        "before",
        "````{rc-figur",
        "between",
        "(claim-a-clai",
        "It is **0.1**",
        "after",
    ]
    assert page["cells"][3]["metadata"]["tags"] == ["remove-input"]
    assert len({cell["id"] for cell in page["cells"]}) == len(page["cells"])


def test_ordinary_and_glued_outputs_stay(make: Any, executed: Any) -> None:
    glued = make.display({"application/papermill.record/text/plain": "0.1"})
    glued["metadata"] = {"scrapbook": {"name": "x"}}
    html = make.display({"text/html": "<b>x</b>", "text/markdown": "x"})
    chapter = executed("01_one", make.markdown("# One"), make.code("x", outputs=[glued, html]))
    page = transform(chapter.read(), chapter, {})
    assert page["cells"][1]["outputs"] == [glued, html]


def test_the_injected_parameters_are_hidden_and_named_under_the_title(
    make: Any, executed: Any
) -> None:
    chapter = executed(
        "01_one",
        make.markdown("# One\n\nText."),
        make.code("seeds = 1", "injected-parameters"),
        parameters={"seeds": 1},
    )
    page = transform(chapter.read(), chapter, {})
    assert page["cells"][1]["metadata"]["tags"] == ["injected-parameters", "remove-cell"]
    title = sources(page)[0]
    assert title.startswith("# One\n\n:::{div} rc-cost")
    assert "38 s on one core, 410 MB of memory" in title
    assert "`seeds = 1`" in title
    assert title.rstrip().endswith("Text.")


def test_exercises_and_folded_solutions(make: Any, executed: Any) -> None:
    chapter = executed(
        "01_one",
        make.markdown("# One"),
        make.markdown("**Exercise 1: halve it.** What then?", "exercise"),
        make.markdown("It falls.", "solution"),
        make.code("x", "solution", outputs=[make.figure()]),
        make.markdown("Go on."),
    )
    text = sources(transform(chapter.read(), chapter, {}))
    assert text[1].startswith("`````{exercise} halve it\n:label: exercise-01_one-1\n")
    assert "What then?" in text[1]
    assert text[2] == "```{solution-start} exercise-01_one-1\n:class: dropdown\n```"
    assert text[3:5] == ["It falls.", "x"]
    assert "{rc-figure}" in text[5]
    assert text[6:] == ["```{solution-end}\n```", "Go on."]


def test_plain_exercises_and_hidden_cells_are_folded_alike(make: Any, executed: Any) -> None:
    said = make.display({"text/markdown": "It falls."})
    chapter = executed(
        "01_one",
        make.markdown("# One\n\nText.\n\n**Exercise 1.** What then?"),
        make.code("x", "hide-cell", outputs=[said, make.figure()]),
        make.markdown("**Exercise 2.** And then?"),
        make.markdown("Go on."),
        make.code("y", "hide-cell"),
    )
    page = transform(chapter.read(), chapter, {})
    text = sources(page)
    assert text[0].rstrip().endswith("Text.")
    assert text[1].startswith("`````{exercise}")
    assert text[2].startswith("```{solution-start} exercise-01_one-1")
    assert text[3:5] == ["x", "It falls."]
    assert text[6] == "```{solution-end}\n```"
    assert text[7].startswith("`````{exercise}")
    assert text[8:] == ["Go on.", "y"]
    assert page["cells"][3]["metadata"]["tags"] == ["solution"]
    assert page["cells"][-1]["metadata"]["tags"] == ["hide-cell"]


def test_a_solution_without_exercise_is_refused(make: Any, executed: Any) -> None:
    chapter = executed("01_one", make.markdown("# One"), make.markdown("x", "solution"))
    with pytest.raises(PressError, match=r"01_one.ipynb: a cell tagged 'solution' comes before"):
        transform(chapter.read(), chapter, {})


@pytest.mark.parametrize("tag", ["hide-cell", "hide-output", "remove-output"])
def test_a_figure_in_a_hidden_output_is_refused(make: Any, executed: Any, tag: str) -> None:
    cell = make.code("x", tag, outputs=[make.figure()])
    chapter = executed("01_one", make.markdown("# One"), cell)
    with pytest.raises(PressError, match=rf"tagged {tag} shows a figure.*'solution'"):
        transform(chapter.read(), chapter, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alt": " "}, "figure 'a-figure' has no alt"),
        ({"caption": ""}, "figure 'a-figure' has no caption"),
        ({"name": "A Figure"}, "figure name 'A Figure'"),
    ],
)
def test_a_figure_nobody_can_refer_to_or_read_is_refused(
    make: Any, executed: Any, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    cell = make.code("x", outputs=[make.figure(**changes)])
    chapter = executed("01_one", make.markdown("# One"), cell)
    (tmp_path / "target").mkdir()
    with pytest.raises(PressError, match=message):
        stage_notebooks([chapter], [], tmp_path / "target")


def test_a_figure_name_is_unique_in_the_book(make: Any, executed: Any, tmp_path: Path) -> None:
    cells = (make.markdown("# X"), make.code("x", outputs=[make.figure()]))
    chapters = [executed("01_one", *cells), executed("02_two", *cells)]
    (tmp_path / "target").mkdir()
    with pytest.raises(PressError, match=r"02_two.*'a-figure' exists already"):
        stage_notebooks(chapters, [], tmp_path / "target")


def test_a_cell_of_the_matrix_becomes_two_files_and_leaves_the_page(
    make: Any, executed: Any, tmp_path: Path
) -> None:
    place = {"mode": "complete", "remedy": "negatives", "outcome": "prevented"}
    claim = replace(make.claim(**place), notebook="01_one")
    cell = make.cell_output(claim.id)
    outputs = [make.claim_output(), cell]
    chapter = executed("01_one", make.markdown("# One"), make.code("x", outputs=outputs))
    target = tmp_path / "target"
    target.mkdir()
    assert stage_notebooks([chapter], [claim], target) == {}
    names = sorted(path.name for path in (target / "figures").iterdir())
    assert names == [f"cell-a-claim{end}" for end in ("-dark.png", "-light.png", ".json")]
    about = json.loads((target / "figures" / "cell-a-claim.json").read_text())
    frame = {"label": "", "light": "cell-a-claim-light.png", "dark": "cell-a-claim-dark.png"}
    assert about == {"alt": "A dot", "width": 72, "frames": [frame]}
    page = json.loads((target / "notebooks" / "01_one.ipynb").read_text())
    assert [len(c.get("outputs", [])) for c in page["cells"]] == [0, 0, 0]
    assert "(claim-a-claim)=" in text_of(page["cells"][2])
    (target / "index.md").write_text("<!-- press:places -->")
    fill_placeholders(target, [claim], {})
    text = (target / "index.md").read_text()
    assert "- {rc-cell}`a-claim` [negatives](#claim-a-claim): complete collapse prevented" in text


def test_a_column_of_cells_becomes_a_table_that_the_matrix_links_to(
    make: Any, executed: Any, tmp_path: Path
) -> None:
    record = make.grid_cell("complete", "negatives")
    cell = ledger.parse(record, "01_one", "One")
    outputs = [make.column_output(record), make.cell_output(cell.id)]
    chapter = executed("01_one", make.markdown("# One"), make.code("x", outputs=outputs))
    target = tmp_path / "target"
    target.mkdir()
    stage_notebooks([chapter], [cell], target)
    page = json.loads((target / "notebooks" / "01_one.ipynb").read_text())
    table = text_of(page["cells"][2])
    assert table.startswith("(chapter-column-complete)=\n")
    assert "| negatives | 0.89 (0.70 to 1.10) | prevented |" in table
    (target / "index.md").write_text("<!-- press:matrix -->")
    fill_placeholders(target, [cell], {})
    link = "[{rc-cell}`complete-negatives` {rc-outcome}`prevented`](#chapter-column-complete)"
    assert link in (target / "index.md").read_text()


def test_a_cell_without_a_picture_is_refused(make: Any, executed: Any, tmp_path: Path) -> None:
    record = make.grid_cell("complete", "negatives")
    column = make.code("x", outputs=[make.column_output(record)])
    chapter = executed("01_one", make.markdown("# One"), column)
    (tmp_path / "target").mkdir()
    with pytest.raises(PressError, match=r"no figures.cell shows .* complete-negatives"):
        stage_notebooks([chapter], [ledger.parse(record, "01_one", "One")], tmp_path / "target")


def test_a_place_in_the_matrix_without_a_picture_is_refused(
    make: Any, executed: Any, tmp_path: Path
) -> None:
    claim = make.claim(mode="complete", remedy="negatives", outcome="prevented")
    chapter = executed("01_one", make.markdown("# One"), make.code("x", outputs=[]))
    (tmp_path / "target").mkdir()
    with pytest.raises(PressError, match=r"no figures.cell shows the embeddings of a-claim"):
        stage_notebooks([chapter], [claim], tmp_path / "target")


@pytest.mark.parametrize("place", [{}, {"mode": "c", "remedy": "r", "outcome": "prevented"}])
def test_a_cell_of_no_claim_in_the_matrix_is_refused(
    make: Any, executed: Any, tmp_path: Path, place: dict[str, str]
) -> None:
    """Of a claim without a place there, and of a claim of another chapter."""
    claim = replace(make.claim(**place), notebook="01_one" if not place else "02_two")
    outputs = [make.cell_output(claim.id)]
    chapter = executed("01_one", make.markdown("# One"), make.code("x", outputs=outputs))
    (tmp_path / "target").mkdir()
    with pytest.raises(PressError, match=r"01_one.*drawn for 'a-claim', which is no cell and"):
        stage_notebooks([chapter], [claim], tmp_path / "target")


def test_placeholders_are_filled(make: Any, tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "index.md").write_text("<!-- press:figure film -->\n\n<!-- press:places -->")
    (tmp_path / "book" / "ledger.md").write_text("<!-- press:summary -->\n<!-- press:ledger -->")
    claim = make.claim(mode="complete", remedy="negatives", outcome="prevented")
    film = {"name": "film", "caption": "It moves."}
    fill_placeholders(tmp_path, [claim], {"film": film})
    index = (tmp_path / "index.md").read_text()
    assert ":name: film-again\n:autoplay:" in index
    assert "[negatives](#claim-a-claim): complete collapse prevented" in index
    page = (tmp_path / "book" / "ledger.md").read_text()
    assert "**1** claims" in page
    assert "(ledger-a-claim)=" in page


def test_a_claim_is_mentioned_on_another_page(make: Any, tmp_path: Path) -> None:
    claim = make.claim(statement="The part [0, 1) is empty.", verdict="not reproduced")
    (tmp_path / "index.md").write_text("- <!-- press:claim a-claim -->\n")
    fill_placeholders(tmp_path, [make.claim("another"), claim], {})
    assert (tmp_path / "index.md").read_text() == (
        "- [The part \\[0, 1) is empty.](#claim-a-claim) {rc-verdict}`not reproduced`\n"
    )


def test_the_mention_of_what_is_no_claim_is_refused(make: Any, tmp_path: Path) -> None:
    """Cells have no card that could be shown."""
    cell = ledger.parse(make.grid_cell("complete", "negatives"), "01_one", "One")
    for identifier in ("nowhere", cell.id):
        (tmp_path / "index.md").write_text(f"<!-- press:claim {identifier} -->")
        with pytest.raises(PressError, match=f"press:claim {identifier} -->: no notebook records"):
            fill_placeholders(tmp_path, [make.claim(), cell], {})


@pytest.mark.parametrize("text", ["<!-- press:matrx -->", "<!-- press:figure nowhere -->"])
def test_an_unknown_placeholder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "index.md").write_text(text)
    with pytest.raises(PressError, match=r"matrx|nowhere"):
        fill_placeholders(tmp_path, [], {})


def config_for(tmp_path: Path, address: Address | None) -> dict[str, Any]:
    write_config(Project(ROOT), tmp_path, address)
    config: dict[str, Any] = yaml.safe_load((tmp_path / "_config.yml").read_text())
    return config


def test_without_an_address_there_are_no_buttons(tmp_path: Path) -> None:
    config = config_for(tmp_path, None)
    assert config["launch_buttons"]["colab_url"] == ""
    assert config["repository"]["url"] == ""
    assert "use_repository_button" not in config["html"]
    assert "sphinx_sitemap" not in config["sphinx"]["extra_extensions"]


def test_with_an_address_the_buttons_lead_there(tmp_path: Path) -> None:
    config = config_for(tmp_path, Address("https://github.com/someone/collapse", "main"))
    assert config["repository"] == {"url": "https://github.com/someone/collapse", "branch": "main"}
    assert config["launch_buttons"]["colab_url"].startswith("https://colab")
    assert config["html"]["baseurl"] == "https://someone.github.io/collapse/"
    assert config["sphinx"]["config"]["notfound_urls_prefix"] == "/collapse/"
    assert "sphinx_sitemap" in config["sphinx"]["extra_extensions"]


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://github.com/Owner/Name", "https://owner.github.io/Name/"),
        ("https://github.com/owner/name.git", "https://owner.github.io/name/"),
        ("https://github.com/owner/owner.github.io", "https://owner.github.io/"),
        ("https://example.org/owner/name", None),
    ],
)
def test_where_pages_puts_the_site(url: str, site: str | None) -> None:
    assert Address(url, "main").site == site


def test_the_deploying_environment_comes_before_the_committed_address(tmp_path: Path) -> None:
    pyproject = '[project]\nname = "x"\n[project.urls]\nRepository = "https://github.com/a/b"\n'
    (tmp_path / "pyproject.toml").write_text(pyproject)
    project = Project(tmp_path)
    assert find_address(project, {}) == Address("https://github.com/a/b", "main")
    fork = {"GITHUB_REPOSITORY": "c/d", "GITHUB_REF_NAME": "draft"}
    assert find_address(project, fork) == Address("https://github.com/c/d", "draft")
    merge = {"GITHUB_REPOSITORY": "c/d", "GITHUB_REF_NAME": "12/merge"}
    assert find_address(project, merge) == Address("https://github.com/c/d", "main")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[project.urls]\n')
    assert find_address(project, {}) is None


def test_the_committed_pyproject_can_be_asked() -> None:
    with (ROOT / "pyproject.toml").open("rb") as handle:
        assert "urls" in tomllib.load(handle)["project"]
