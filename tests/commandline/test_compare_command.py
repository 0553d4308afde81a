"""`repcollapse compare`: checkpoints over time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline_support import KINDS, ask, left, refused

from repcollapse.commandline.compare import FOLLOWED


@pytest.fixture
def run(tmp_path: Path) -> list[Path]:
    """Five checkpoints: two healthy, two collapsed, healthy again."""
    files = []
    for step, kind in enumerate(["healthy", "healthy", "dimensional", "complete", "healthy"]):
        files.append(tmp_path / f"step-{step}.npy")
        np.save(files[-1], KINDS[kind])
    return files


def test_it_says_when_it_collapsed(run, tmp_path):
    result = ask("compare", *run, "--json", tmp_path / "run.json")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Dimensional collapse between step-1 and step-2.")
    assert "Not so at step-4" in lines[0]
    assert max(map(len, lines)) <= 80
    said = json.loads((tmp_path / "run.json").read_text())
    assert said["first_collapse"] == "step-2"
    verdicts = ["healthy", "healthy", "dimensional", "complete", "healthy"]
    assert [step["verdict"] for step in said["steps"]] == verdicts
    rows = [line for line in lines if line.startswith("step-")]
    assert [row.split()[2] for row in rows] == verdicts


def test_arrows_are_for_what_moved_beyond_the_intervals(run):
    rows = ask("compare", *run[:4]).stdout.splitlines()
    first, second, third, fourth = (row for row in rows if row.startswith("step-"))
    assert "↓" not in first + second and "↑" not in first + second  # the same embeddings
    heads = [head for head, _, _ in FOLLOWED.values()]
    assert third.count("↓") >= 2 and heads == ["spread", "mean", "dims", "erank", "unif."]
    spread, mean = fourth.split()[3:5], fourth.split()[5:7]
    assert spread == ["↓", "0.001"] and mean == ["↑", "1.000"]


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["healthy", "healthy"], "None of 2 checkpoints has collapsed."),
        (["complete", "complete"], "Complete collapse from the first checkpoint on, 0."),
        (["dimensional", "complete"], "on, 0; complete at the last."),
        (["complete", "healthy"], "at the first checkpoint, 0. Not so at 1, the last."),
        (["complete", "healthy", "healthy"], "0. Not so at 1, nor at the last."),
        (["healthy", "complete", "healthy", "complete"], "Not so at 2, and at the last again."),
    ],
)
def test_every_course_has_its_sentence(tmp_path, kinds, said):
    for step, kind in enumerate(kinds):
        np.save(tmp_path / f"{step}.npy", KINDS[kind])
    result = ask("compare", *(tmp_path / f"{step}.npy" for step in range(len(kinds))))
    assert said in " ".join(result.stdout.split())


def test_checkpoints_in_the_order_of_a_shell_are_told_of(tmp_path):
    for step, kind in ((1, "healthy"), (9, "healthy"), (10, "complete")):
        np.save(tmp_path / f"ck-{step}.npy", KINDS[kind])
    shell = sorted(tmp_path.glob("*.npy"))
    assert [path.stem for path in shell] == ["ck-1", "ck-10", "ck-9"]
    options = ["--json", tmp_path / "out.json", "--html", tmp_path / "out.html"]
    text = " ".join(ask("compare", *shell, *options).stdout.split())
    said = "the numbers in their names have another: ck-1, ck-9, ck-10."
    assert said in text and said in (tmp_path / "out.html").read_text()
    assert said in json.loads((tmp_path / "out.json").read_text())["misplaced"]
    ordered = [shell[0], shell[2], shell[1]]
    text = " ".join(ask("compare", *ordered, *options).stdout.split())
    assert "Complete collapse between ck-9 and ck-10." in text and "numbers" not in text
    assert json.loads((tmp_path / "out.json").read_text())["misplaced"] is None
    assert "A constant is enough for the loss" in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize(
    "names",
    [
        ["epoch=0-val_loss=0.45", "epoch=1-val_loss=0.31"],
        ["2024-01-30", "2024-02-05"],
        ["epoch1_768d", "epoch2_512d"],
        ["first-9", "last-1"],
    ],
)
def test_names_whose_numbers_are_in_order_are_not_told_of(tmp_path, names):
    for name in names:
        np.save(tmp_path / f"{name}.npy", KINDS["healthy"])
    text = ask("compare", *(tmp_path / f"{name}.npy" for name in names)).stdout
    assert "None of 2 checkpoints" in text and "numbers" not in text


def test_a_rank_that_falls_is_mentioned(tmp_path):
    weights = np.exp(-0.4 * np.arange(16))
    np.save(tmp_path / "a.npy", KINDS["healthy"])
    np.save(tmp_path / "b.npy", (KINDS["healthy"] * weights).astype("f4"))
    text = " ".join(ask("compare", tmp_path / "a.npy", tmp_path / "b.npy").stdout.split())
    assert "None of 2" in text and "The effective rank has fallen, from 15" in text


def test_a_cone_is_told_from_a_collapse_on_its_way(tmp_path):
    """A spread that falls, until it is gone: the cone was its beginning, and not the mean's."""
    z = np.random.default_rng(0).normal(size=(500, 16))
    files = []
    for k, offset in enumerate([0.0, 2.0, 10.0, 50.0]):
        files.append(tmp_path / f"{k}.npy")
        np.save(files[-1], z + offset)
    on_its_way = " ".join(ask("compare", *files[:3]).stdout.split())
    assert (
        "None of 3 checkpoints has collapsed. The spread has fallen, from 0.999 at 0 to"
        in on_its_way
    )
    assert "If the spread no longer falls from checkpoint to checkpoint" in on_its_way
    dead = " ".join(ask("compare", *files).stdout.split()).partition("What to do")[2]
    first, second = "A constant is enough for the loss", "The cone at 1 was the beginning"
    assert 0 < dead.index(first) < dead.index(second)
    assert "subtract the mean before" not in dead


def test_the_page_has_every_checkpoint(run, tmp_path):
    target = tmp_path / "page.html"
    assert ask("compare", *run, "--html", target, "--fail-on", "complete").exit_code == 1
    page = target.read_text(encoding="utf-8")
    assert page.count("<details>") == len(run) and page.count("<figure>") == len(FOLLOWED)
    assert page.count("<circle") == len(run) * len(FOLLOWED)
    assert page.count(">checkpoint, in order</text>") == len(FOLLOWED)
    for head, _, _ in FOLLOWED.values():
        assert page.count(f">{head}</text>") == 1
    for outside in ("<script", "http://", "https://", "url(", "@import"):
        assert outside not in page
    assert "nan" not in page.lower().replace("finance", "")


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    before = left(tmp_path)
    target = ["--json", tmp_path / "out.json"]
    assert "two files or more" in refused(ask("compare", run[0], *target))
    assert "bad.npy cannot be read" in refused(
        ask("compare", run[0], tmp_path / "bad.npy", *target)
    )
    assert "overwrite an input" in refused(ask("compare", *run, "--json", run[1]))
    assert left(tmp_path) == before
