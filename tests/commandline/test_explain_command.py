"""`repcollapse explain` and `demo`: one table, complete and true."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline_support import ask, refused

from repcollapse import diagnose, diagnostics
from repcollapse.commandline import demo
from repcollapse.commandline.catalogue import ALIASES, MEASURES, PREFIXES, TITLES, VERDICTS
from repcollapse.commandline.compare import FOLLOWED
from repcollapse.commandline.explain import criterion, measures_of
from repcollapse.diagnosis.findings import ADVICE
from repcollapse.diagnosis.readings import read_nulls
from repcollapse.diagnosis.report import READINGS

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# What the definitions of the project name.
DEFINED = [
    *("feature std", "spread", "mean share", "off-diagonal correlation", "stable rank"),
    *("participation ratio", "participation ratio, unbiased", "effective rank"),
    *("effective_rank_lambda", "RankMe", "srank", "CEV-AUC", "alpha-ReQ", "alignment"),
    *("uniformity", "LiDAR", "intrinsic dimension", "coding rate", "NC1", "NC2", "NC3", "NC4"),
    *("SIGReg statistic", "prototype usage", "intraclass correlation", "resolution probe"),
    *("linear probe", "kNN", "ICC"),
]
# Functions of repcollapse.diagnostics that are no measure of embeddings.
HELPERS = {
    *("instruments", "jackknife_intervals", "null_measures", "null_singular_values"),
    *("linear_map", "singular_values", "spectral_measures"),
}


@pytest.fixture(scope="module")
def everything():
    """A diagnosis with every number that there is."""
    z = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    z[:3] *= 500
    labels, groups = torch.arange(300) % 3, torch.arange(300) // 2
    far = diagnose(z, labels=labels, groups=groups, views=z.reshape(2, 150, 12))
    zeros = diagnose(z * (torch.arange(300) > 0)[:, None])
    points = diagnose(torch.eye(12)[torch.arange(300) % 4] * torch.rand(300, 1).add(0.5))
    return far.metrics | zeros.metrics | points.metrics


def test_every_number_of_a_diagnosis_is_explained(everything):
    assert "direction_points" in everything and "core_rows" in everything
    for name in everything:
        assert measures_of(name), name


def test_every_public_measure_is_explained():
    functions = {
        name
        for name in diagnostics.__all__
        if inspect.isfunction(getattr(diagnostics, name)) and not name.endswith("_of")
    }
    assert functions >= HELPERS
    for name in functions - HELPERS:
        assert measures_of(name), name


def test_nothing_is_explained_that_is_not_there(everything):
    functions = set(diagnostics.__all__)
    bare = set(everything)
    for prefix in PREFIXES:
        bare |= {name.removeprefix(prefix) for name in everything}
    known = functions | bare | set(ALIASES["neural_collapse"])
    assert set(MEASURES) - known == set()
    assert {each for names in ALIASES.values() for each in names} <= set(MEASURES)


@pytest.mark.parametrize("name", DEFINED)
def test_every_name_of_the_definitions_is_found(name):
    assert measures_of(name)


def test_every_finding_is_explained_with_its_limits():
    assert set(VERDICTS) == set(ADVICE)
    for kind in VERDICTS:
        assert "{" not in criterion(kind)
    assert "below 0.05" in criterion("complete") and "10 % of D" in criterion("dimensional")


def test_no_entry_is_empty():
    for name, entry in MEASURES.items():
        assert all(vars(entry).values()), name
        assert entry.page in TITLES, name
        assert len(entry.definition) <= 100, name


def test_chapters_have_the_titles_that_are_given():
    found = {}
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        found[path.stem] = text.splitlines()[0].removeprefix("# ").partition(":")[0]
    given = TITLES | {advice.page: advice.title for advice in ADVICE.values()}
    assert len(set(given) & set(found)) >= 7
    assert {page: found[page] for page in given if page in found} == {
        page: title for page, title in given.items() if page in found
    }


def test_an_answer_says_all_there_is():
    text = " ".join(ask("explain", "RankMe").stdout.split())
    for part in vars(MEASURES["rankme"]).values():
        assert part in text or part == "27_side_by_side"
    assert "Chapter 27" in text
    text = " ".join(ask("explain", "not_enough_data").stdout.split())
    assert "Fewer than 16 rows" in text and ADVICE["not-enough-data"].text in text


def test_the_list_has_every_name():
    words = ask("explain").stdout.split()
    assert {*MEASURES, *VERDICTS} <= set(words)


def test_isotropic_data_of_a_size():
    text = ask("explain", "effective-rank", "--rows", 100, "--dimension", 64).stdout
    value = read_nulls(100, 64)[0]["effective_rank"]
    assert f"N = 100, D = 64: {value:.3g}" in text
    drawn = np.random.default_rng(1).normal(size=(100, 64))
    assert diagnostics.effective_rank(drawn) == pytest.approx(value, rel=0.02)
    text = ask("explain", "lidar", "--rows", 100, "--dimension", 64).stdout
    assert "has none that the size alone decides" in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["rankmee"], "did you mean rankme or"),
        (["effective rnk"], "did you mean effective_rank"),
        (["dimensionl"], "did you mean dimensional"),
        (["xyzzy"], "'repcollapse explain' lists them all"),
        (["\x1b[31m[/x]<b>"], r"\x1b[31m[/x]<b>"),
        (["rankme", "--rows", "5"], "go together"),
        (["rankme", "--rows", "1", "--dimension", "3"], "at least 2"),
        (["--rows", "5", "--dimension", "3"], "need a NAME"),
        (["--loss", "8.3"], "--objective, one of"),
        (["--loss", "8.3", "--objective", "dion"], "got 'dion': did you mean dino?"),
        (["--loss", "8.3", "--objective", "simclar"], "got 'simclar': did you mean simclr?"),
        (["--loss", "nan", "--objective", "dino"], "value must be finite"),
        (["--loss", "8.3", "--objective", "dino", "--set", "prototypes"], "NAME=VALUE"),
        (["--loss", "8.3", "--objective", "dino", "--set", "value=3"], "NAME=VALUE"),
        (["--loss", "8.3", "--objective", "dino", "--set", "heads=3"], "no setting of 'dino'"),
        (["--loss", "8.3", "--objective", "dino", "--set", "prototypes=1e400"], "prototypes"),
        (["rankme", "--loss", "8.3", "--objective", "dino"], "explained alone"),
        (["--objective", "dino"], "belong to --loss"),
    ],
)
def test_what_is_no_question_is_refused(asked, said):
    assert said in refused(ask("explain", *asked))


def test_a_loss_is_explained():
    asked = ["--loss", "8.3178", "--objective", "dino", "--set", "prototypes=4096"]
    text = " ".join(ask("explain", *asked).stdout.split())
    assert text == (
        "8.3178 is what dino reads at collapse to the uniform distribution, log K = 8.3178. A "
        "network may read this before it is trained, too: the embeddings decide, so ask diagnose."
    )
    text = " ".join(ask("explain", "--loss", "8.3178", "--objective", "DINO").stdout.split())
    assert "if K is 4096: --set prototypes=... checks it." in text


@pytest.mark.parametrize("name", ["nt_xent", "NT-Xent", "simclr", "SimCLR"])
def test_an_objective_goes_by_its_name_or_its_methods(name):
    asked = ["--loss", "6.236", "--objective", name, "--set", "pairs=256"]
    assert ask("explain", *asked).stdout.startswith("6.236 is what nt_xent reads at complete coll")


def test_what_a_report_calls_a_number_is_a_name_of_it():
    labels = [*READINGS.items(), *((name, head) for name, (head, _, _) in FOLLOWED.items())]
    labels += [(name, title) for name, (_, title, _) in FOLLOWED.items()]
    for name, label in labels:
        ((found, _),) = measures_of(label)
        assert found == name.removeprefix("group_")


def test_a_size_is_of_a_number_and_not_of_a_verdict():
    size = ("--rows", "100", "--dimension", "10")
    result = ask("explain", "complete", *size)
    assert result.exit_code == 2 and "are of a number, and complete is none" in result.output
    assert ask("explain", "rankme", *size).exit_code == 0


def test_explaining_is_light():
    import subprocess
    import sys

    code = (
        "import sys; from repcollapse.cli import app\n"
        "try: app(['explain', 'rankme'])\nexcept SystemExit: pass\n"
        "print({'torch', 'scipy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


def test_the_demo_is_what_it_says_it_is():
    for kind in demo.DRAWN:
        assert diagnose(demo.drawn(kind)).verdict == kind


def test_the_demo_shows_each_kind():
    result = ask("demo")
    assert result.exit_code == 0 and max(map(len, result.stdout.splitlines())) <= 80
    heads = re.findall(r"^[✓✗!] (.*?)   ", result.stdout, re.MULTILINE)
    assert heads == [
        "Healthy",
        "Complete collapse",
        "Cluster collapse",
        "Dimensional collapse",
        "A cone, no collapse so far",
    ]


def test_the_offset_that_is_said_to_halve_rankme_does():
    said = re.findall(r"(\d\.\d)\D+(\d+)", MEASURES["rankme"].fooled)
    found = {int(columns): float(offset) for offset, columns in said}
    assert set(found) == {64, 512}
    for columns, offset in found.items():
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(10 * columns, columns, generator=generator)
        halved = diagnostics.rankme(z + offset) / diagnostics.rankme(z)
        assert halved == pytest.approx(0.5, abs=0.02), columns
