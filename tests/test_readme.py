"""What the front matter says is so: examples run, commands exist, citations agree."""

import contextlib
import io
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import repcollapse
from repcollapse.cli import app
from repcollapse.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "index.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command begins a line of a block or a code span; `make` in a sentence is a verb.
COMMAND = re.compile(r"(?:^|`)make +([a-z]+)", re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def examples() -> list[tuple[str, str]]:
    """Each Python block of the README with the text block that follows it."""
    kinds = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return [
        (code, output)
        for (kind, code), (following, output) in pairwise(kinds)
        if kind == "python" and following == "text"
    ]


EXAMPLES = ["diagnostics", "diagnose", "monitor", "training"]


def test_every_python_example_of_the_readme_shows_its_output():
    assert len(examples()) == len(blocks("README.md", "python")) == len(EXAMPLES)


@pytest.mark.parametrize(("code", "output"), examples(), ids=EXAMPLES)
def test_an_example_of_the_readme_prints_what_it_says(code: str, output: str):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == output


QUESTIONS = [
    line
    for body in blocks("README.md", "bash")
    for line in body.splitlines()
    if re.match(r"repcollapse (diagnose|compare|explain|demo)", line)
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the questions of the README are about."""
    z = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    for name, array in {"z": z, "step-1": z, "step-2": 1 + 1e-3 * z}.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "labels.npy", np.arange(300) % 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_asks_every_kind_of_question():
    assert {line.split()[1] for line in QUESTIONS} == {"diagnose", "compare", "explain", "demo"}


@pytest.mark.parametrize("line", QUESTIONS)
def test_a_question_of_the_readme_is_answered(line: str, files: Path):
    result = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert len(result.stdout) > 50 and result.stderr == ""
    for name in re.findall(r"--(?:html|json) (\S+)", line):
        assert (files / name).stat().st_size > 1000


LINES = [line for body in blocks("README.md", "bash") for line in body.splitlines()]
LONG = [line for line in LINES if re.search(r"repcollapse train|^torchrun", line)]


def test_every_line_of_the_readme_is_of_a_kind_that_is_tested():
    rest = set(LINES) - set(QUESTIONS) - set(LONG)
    assert [line for line in rest if not re.match(r"(make|pip install) ", line)] == []


@pytest.mark.parametrize("line", LONG)
def test_a_command_of_the_readme_that_takes_long_has_the_options_it_gives(line: str):
    words = shlex.split(line)
    if words[0] == "torchrun":
        assert words[1].startswith("--nproc-per-node=") and words[2:4] == ["-m", "repcollapse"]
        words = words[3:]
    shown = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"}).stdout
    given = dict(pairwise(words))
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[\w-]+", shown))
    if words[1] == "train":
        assert given["--method"] in METHODS
        assert given.get("--dataset", "cifar10") in (
            "cifar10",
            "digits",
            "fashion_mnist",
            "sprites",
        )


def test_what_pip_is_asked_for_is_offered():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.findall(r"pip install '\.\[(\w+)\]'", (ROOT / "README.md").read_text("utf-8"))
    assert asked and set(asked) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES)
def test_every_make_command_is_a_target(page: str):
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", rules, re.MULTILINE))
    named = set(COMMAND.findall((ROOT / page).read_text(encoding="utf-8")))
    assert {"book", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_parameters_on_the_pages_are_the_notebooks_own(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    given = re.findall(r"(\w+)=", " ".join(re.findall(r"PARAMS='([^']*)'", text)))
    assert set(given) <= {"seeds", "first_seed", "dataset", "device", "steps"}


def entry(page: str) -> dict[str, str]:
    (block,) = blocks(page, "bibtex")
    return dict(re.findall(r"^ +(\w+) += \{+([^{}]*)\}+,?$", block, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "index.md"])
def test_the_bibtex_entry_agrees_with_the_citation_file(page: str):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (author,) = citation["authors"]
    shown = entry(page)
    assert shown["title"] == citation["title"]
    assert shown["version"] == citation["version"]
    assert shown["author"] == author["name"]


def test_there_is_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] == repcollapse.__version__
    assert project["version"] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_files_of_the_repository_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_is_cited_is_in_the_bibliography_and_the_other_way_round():
    bibliography = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    pages = [ROOT / "index.md", *(ROOT / "book").glob("*.md")]
    cited = {
        key
        for page in pages
        for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", page.read_text(encoding="utf-8"))
        for key in keys.split(",")
    }
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        cited |= set(re.findall(r"citation=\\?[\"'](\w+)", text))
    assert cited
    assert cited - known == set()
    assert known - cited == set()
