"""Several processes against one: the same numbers, and one report."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline_support import ask, left

from repcollapse.commandline.inputs import Inputs
from repcollapse.commandline.survey import slice_of, survey_of
from repcollapse.diagnosis import Survey, conclude
from repcollapse.diagnosis.packing import from_words, pack, to_words, unpack

N, D = 2600, 12
PAIRWISE = {
    *("uniformity", "intrinsic_dimension", "outliers", "duplicates", "points", "point_radius"),
    *("point_company", "distinct", "heaviest_place", "nearest_mean_accuracy"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three shards of unequal length with labels, groups and views: more rows than a sample has."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    z = (generator.normal(size=(N, D)) * np.arange(1, D + 1) + 3).astype(np.float32)
    for name, rows in {"a": z[:900], "b": z[900:901], "c": z[901:]}.items():
        np.save(folder / f"{name}.npy", rows)
    np.save(folder / "z.npy", z)
    np.save(folder / "labels.npy", generator.integers(0, 5, N))
    np.save(folder / "groups.npy", generator.integers(0, 900, N))
    np.save(folder / "views.npy", np.stack([z[:70], z[:70] + generator.normal(size=(70, D))]))
    return folder


def options(folder: Path) -> list[object]:
    names = ("labels", "groups", "views")
    return [part for name in names for part in (f"--{name}", folder / f"{name}.npy")]


def opened(folder: Path) -> Inputs:
    return Inputs.open(
        [str(folder / f"{name}.npy") for name in "abc"],
        labels=[str(folder / "labels.npy")],
        groups=[str(folder / "groups.npy")],
        views=str(folder / "views.npy"),
    )


def agree(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        rel = 1e-6 if name.removeprefix("group_") in PAIRWISE else 1e-10
        assert other[name] == pytest.approx(value, rel=rel, abs=1e-12), name


@pytest.mark.parametrize("world", [1, 2, 3, 7, 4000])
def test_slices_are_all_rows_once(world):
    slices = [slice_of(N, rank, world) for rank in range(world)]
    assert [row for rows in slices for row in rows] == list(range(N))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@pytest.mark.parametrize("world", [2, 3])
def test_slices_merged_are_the_whole(data, world):
    inputs = opened(data)
    parts = [survey_of(inputs, rank=rank, world=world) for rank in range(world)]
    merged = Survey.empty(D)
    for part in parts:
        merged = merged.merge(part)
    agree(conclude(survey_of(inputs)).metrics, conclude(merged).metrics)


def same(one: Survey, other: Survey) -> None:
    assert all(torch.equal(a, b) for a, b in zip(pack(one), pack(other), strict=True))


def test_a_survey_survives_being_packed(data):
    full = survey_of(opened(data))
    bare = Survey.empty(D).update(np.ones((4, D), np.float32), start=7)
    for survey in (full, bare, Survey.empty(D)):
        same(unpack(pack(survey), D), survey)
        same(from_words(to_words(survey))[0], survey)
    first, second = from_words(torch.cat([to_words(bare), to_words(full)]))
    same(first, bare)
    same(second, full)
    assert (unpack(pack(bare), D).classes, unpack(pack(bare), D).groups) == (None, None)


def torchrun(processes: int, *parts: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*command, f"--nproc-per-node={processes}", "-m", "repcollapse", *map(str, parts)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(data, tmp_path):
    shards = [data / f"{name}.npy" for name in "abc"]
    two = torchrun(2, "diagnose", *shards, *options(data), "--json", tmp_path / "two.json")
    assert two.returncode == 0, two.stderr
    one = ask("diagnose", data / "z.npy", *options(data), "--json", tmp_path / "one.json")
    assert one.exit_code == 0
    reports = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")]
    agree(reports[0]["metrics"], reports[1]["metrics"])
    assert reports[0]["verdict"] == reports[1]["verdict"]
    assert two.stdout.count("What was read") == 1
    said = " ".join(two.stdout.split())  # the terminal wraps behind a path of any length
    assert f"{N:,} rows of {D}" in said


@pytest.mark.slow
def test_trouble_of_one_process_is_said_once_and_ends_all(data, tmp_path):
    bad = np.ones((10, D), np.float32)
    bad[8, 0] = np.nan  # in the slice of the second process alone
    np.save(tmp_path / "bad.npy", bad)
    done = torchrun(2, "diagnose", tmp_path / "bad.npy", "--json", tmp_path / "out.json")
    assert done.returncode == 1 and done.stdout == ""  # torchrun's own; the process has 2
    assert done.stderr.count("Error: row 8 of") == 1
    assert re.search(r"exitcode +: 2 ", done.stderr)
    assert left(tmp_path) == {"bad.npy"}
    # A file that is missing is said once, too, and a verdict is told from both by what was written.
    done = torchrun(2, "diagnose", tmp_path / "gone.npy")
    assert done.returncode == 1
    assert re.findall("^Error: .*", done.stderr, re.MULTILINE) == [
        f"Error: {tmp_path}/gone.npy does not exist: check its name"
    ]
    good = data / "z.npy"
    done = torchrun(2, "diagnose", good, "--fail-on", "healthy", "--json", tmp_path / "out.json")
    assert done.returncode == 1
    assert re.findall("^Error: ", done.stderr, re.MULTILINE) == []
    assert re.search(r"exitcode +: 1 ", done.stderr)
    assert left(tmp_path) == {"bad.npy", "out.json"}
