"""`repcollapse diagnose`: answers, files, refusals, exit statuses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commandline_support import KINDS, NORMAL, Trap, ask, left, program, refused, trap

import repcollapse
from repcollapse import diagnose
from repcollapse.commandline import output
from repcollapse.diagnosis import VERDICTS
from repcollapse.diagnosis.report import HEADLINES


@pytest.fixture
def z(tmp_path: Path) -> Path:
    np.save(tmp_path / "z.npy", NORMAL)
    return tmp_path / "z.npy"


def save(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def close(one: dict, other: dict, rel: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if value is None:
            assert other[name] is None, name
            continue
        assert other[name] == pytest.approx(value, rel=rel, abs=1e-12), name


def test_there_is_a_case_of_every_verdict():
    assert set(KINDS) == set(VERDICTS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_begins_with_the_verdict_and_why(tmp_path, kind):
    save(tmp_path, z=KINDS[kind])
    result = ask("diagnose", tmp_path / "z.npy", "--json", tmp_path / "z.json")
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].endswith(HEADLINES[kind])
    said = json.loads((tmp_path / "z.json").read_text())
    assert said["verdict"] == kind
    text = " ".join(result.stdout.split())
    for finding in said["findings"]:
        assert finding["sentence"] in text
        assert finding["advice"] in text
        number, _, title = finding["page"].partition("_")
        assert f"See chapter {int(number)}, {finding['title']}." in text, title


def test_a_report_fits_a_terminal_and_is_plain_elsewhere(tmp_path):
    save(tmp_path, z=KINDS["dimensional"], y=np.arange(400) % 3)
    result = ask("diagnose", tmp_path / "z.npy", "--labels", tmp_path / "y.npy")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout and "│" not in result.stdout


def test_the_numbers_are_those_of_diagnose(z, tmp_path):
    labels, groups = np.arange(400) % 4, np.arange(400) // 2
    views = np.stack([NORMAL[:50], NORMAL[:50] + 0.1])
    save(tmp_path, labels=labels, groups=groups, views=views)
    options = []
    for name in ("labels", "groups", "views"):
        options += [f"--{name}", tmp_path / f"{name}.npy"]
    assert ask("diagnose", z, *options, "--json", tmp_path / "z.json").exit_code == 0
    said = json.loads((tmp_path / "z.json").read_text())
    direct = diagnose(NORMAL, labels=labels, groups=groups, views=views).to_dict()
    assert said["findings"] == direct["findings"]
    close(said["metrics"], direct["metrics"], 1e-12)
    assert said["input"]["labels"]["largest"] == {str(k): 100 for k in range(4)}
    assert said["repcollapse"] == repcollapse.__version__


def test_shards_are_one_data_set_in_the_order_given(z, tmp_path):
    save(tmp_path, a=NORMAL[:150], b=NORMAL[150:151], c=NORMAL[151:], y=np.arange(400) % 4)
    shards = [tmp_path / f"{name}.npy" for name in "abc"]
    with_labels = ["--labels", tmp_path / "y.npy", "--json", "-"]
    one = json.loads(ask("diagnose", z, *with_labels).stdout)
    several = json.loads(ask("diagnose", *shards, *with_labels).stdout)
    other = json.loads(ask("diagnose", *reversed(shards), *with_labels).stdout)
    close(one["metrics"], several["metrics"], 1e-10)
    assert other["metrics"]["nearest_mean_accuracy"] != one["metrics"]["nearest_mean_accuracy"]


def test_labels_may_come_with_each_shard_and_are_joined_by_name(z, tmp_path):
    save(tmp_path, a=NORMAL[:150], b=NORMAL[150:])
    names = np.array(["cat", "dog", "eel"])[np.arange(400) % 3]
    # The second file has other codes for the same names, since it has no "cat".
    names[150:][names[150:] == "cat"] = "fox"
    save(tmp_path, whole=names, first=names[:150], second=names[150:])
    apart = ["--labels", tmp_path / "first.npy", "--labels", tmp_path / "second.npy"]
    one = ask("diagnose", z, "--labels", tmp_path / "whole.npy", "--json", "-")
    two = ask("diagnose", tmp_path / "a.npy", tmp_path / "b.npy", *apart, "--json", "-")
    close(json.loads(one.stdout)["metrics"], json.loads(two.stdout)["metrics"], 1e-9)
    said = refused(ask("diagnose", *[tmp_path / "a.npy"] * 3, *apart))
    assert "given 2 times for 3 files" in said


def test_rows_are_read_block_by_block(tmp_path, monkeypatch):
    from repcollapse.diagnosis import survey

    save(tmp_path, z=np.tile(NORMAL, (10, 1)))
    whole = json.loads(ask("diagnose", tmp_path / "z.npy", "--json", "-").stdout)
    monkeypatch.setattr(survey, "BYTES", 8 * 16 * 300)
    parts = json.loads(ask("diagnose", tmp_path / "z.npy", "--json", "-").stdout)
    close(whole["metrics"], parts["metrics"], 1e-9)


def test_fail_on_takes_what_is_found_beside_a_verdict(tmp_path):
    z = NORMAL.copy()
    z[: len(z) // 4] = 0
    save(tmp_path, z=z)
    for kind, status in (("zero-rows", 1), ("shortcut,duplicates", 1), ("shortcut", 0)):
        assert ask("diagnose", tmp_path / "z.npy", "--fail-on", kind).exit_code == status
    assert ask("diagnose", tmp_path / "z.npy", "--fail-on", "complete,cluster").exit_code == 0


@pytest.mark.parametrize(
    ("fail_on", "status"),
    [("dimensional", 1), ("complete, dimensional", 1), ("complete,healthy", 0), (None, 0)],
)
def test_fail_on_decides_the_status_and_the_report_is_there_anyway(tmp_path, fail_on, status):
    save(tmp_path, z=KINDS["dimensional"])
    options = [] if fail_on is None else ["--fail-on", fail_on]
    result = ask("diagnose", tmp_path / "z.npy", *options, "--json", tmp_path / "z.json")
    assert result.exit_code == status
    assert "Dimensional collapse" in result.stdout
    assert json.loads((tmp_path / "z.json").read_text())["verdict"] == "dimensional"


def test_a_page_needs_nothing_else(z, tmp_path):
    assert ask("diagnose", z, "--html", tmp_path / "z.html").exit_code == 0
    page = (tmp_path / "z.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    for outside in ("<script", "<link", "<img", "http://", "https://", "url(", "@import"):
        assert outside not in page
    assert "prefers-color-scheme:dark" in page and "<svg" in page
    assert "participation_ratio_unbiased" in page


def test_names_are_text_wherever_they_are_shown(tmp_path):
    name = "<script>alert(1)</script>&'\"[bold]\n\x1b[31mred\udcff é.npy".replace("/", "")
    np.save(tmp_path / name, NORMAL)
    np.save(
        tmp_path / "y.npy", np.array(["<b>x</b>", "[/red]\n", "ok", "\x1b[0m"])[np.arange(400) % 4]
    )
    options = ["--labels", tmp_path / "y.npy", "--html", tmp_path / "z.html"]
    result = ask("diagnose", tmp_path / name, *options, "--json", tmp_path / "z.json", columns=300)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    shown = "".join(result.stdout.split())
    assert r"""<script>alert(1)<script>&'"[bold]\n\x1b[31mred\udcffé.npy""" in shown
    page = (tmp_path / "z.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "<b>x" not in page and "\x1b" not in page
    assert "&lt;script&gt;" in page and "&lt;b&gt;x&lt;/b&gt; (100)" in page
    largest = json.loads((tmp_path / "z.json").read_text())["input"]["labels"]["largest"]
    assert set(largest) == {"<b>x</b>", r"[/red]\n", "ok", r"\x1b[0m"}


def test_a_report_replaces_an_older_one_as_a_whole(z, tmp_path, monkeypatch):
    target = tmp_path / "z.json"
    target.write_text("older")
    target.chmod(0o640)
    before = left(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in refused(ask("diagnose", z, "--json", target))
    assert target.read_text() == "older" and left(tmp_path) == before
    monkeypatch.undo()
    assert ask("diagnose", z, "--json", target).exit_code == 0
    assert json.loads(target.read_text())["verdict"] == "healthy"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640 and left(tmp_path) == before


def test_a_link_is_written_through(z, tmp_path):
    (tmp_path / "real.json").write_text("older")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert ask("diagnose", z, "--json", tmp_path / "link.json").exit_code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert "healthy" in (tmp_path / "real.json").read_text()


def test_json_on_standard_output_is_nothing_but_json(z):
    result = ask("diagnose", z, "--json", "-")
    assert json.loads(result.stdout)["verdict"] == "healthy"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--html", "gone/z.html"], "no folder"),
        (["--json", "."], "is a folder"),
        (["--json", "z.npy"], "would overwrite an input"),
        (["--json", "y.npy", "--labels", "y.npy"], "would overwrite an input"),
        (["--json", "same", "--html", "same"], "the same file"),
        (["--fail-on", "collapsed"], "not-enough-data, complete"),
        (["--fail-on", "collapsed"], "class-collapse, classes-lost"),
        (["--html", "-"], "--html takes the name of a file"),
        (["--views", "turned.npy"], "looks like (N, V, D): save views.swapaxes(0, 1)"),
        (["--fail-on", ""], "--fail-on takes verdicts"),
        (["--labels", "short.npy"], "labels must have shape (400,)"),
        (["--labels", "ones.npy"], "at least 2 are needed: leave --labels out"),
        (["--labels", "z.npy"], "labels must have shape"),
        (["--labels", "none.npy"], "none.npy does not exist: did you mean one.npy?"),
        (["--groups", "alone.npy"], "2 samples that have 2 rows"),
        (["--views", "z.npy"], "(V, N, D)"),
        (["--views", "narrow.npy"], "8 columns, and the embeddings have 16"),
        (["--views", "one.npy"], "at least 2 views"),
        (["--views", "broken.npy"], "sample 3 of broken.npy holds NaN or Inf"),
        (["nan.npy"], "row 1 of nan.npy holds NaN or Inf"),
        (["narrow2.npy"], "narrow2.npy has 8 columns, and z.npy has 16"),
        (["huge.npy"], "rescale"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    z, tmp_path, monkeypatch, options, said
):
    monkeypatch.chdir(tmp_path)
    bad = NORMAL[:3].copy()
    bad[1, 2] = np.nan
    broken = np.stack([NORMAL[:5]] * 2)
    broken[1, 3, 0] = np.inf
    save(
        tmp_path, y=np.arange(400) % 4, short=np.arange(399), ones=np.ones(400, dtype=int),
        alone=np.arange(400), narrow=np.stack([NORMAL[:, :8]] * 2), narrow2=NORMAL[:, :8],
        one=NORMAL[None], turned=np.stack([NORMAL] * 2, axis=1),
        broken=broken, nan=bad, huge=NORMAL.astype(float) * 1e300,
    )  # fmt: skip
    before = left(tmp_path)
    assert said in refused(ask("diagnose", "z.npy", *options))
    assert left(tmp_path) == before


HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"


def as_npy(folder: Path, mark: Path) -> None:
    (folder / "z.npy").write_bytes(HEADER + b" " * 58 + b"\n" + trap(mark))


def as_pt(folder: Path, mark: Path) -> None:
    (folder / "z.pt").write_bytes(trap(mark))


def as_npz(folder: Path, mark: Path) -> None:
    np.savez(folder / "z.npz", z=np.array([Trap(mark)], dtype=object))


@pytest.mark.parametrize("write", [as_npy, as_pt, as_npz])
def test_code_in_a_file_is_never_run(tmp_path, write):
    mark = tmp_path / "ran"
    write(tmp_path, mark)
    (file,) = tmp_path.iterdir()
    refused(ask("diagnose", file))
    assert not mark.exists()


@pytest.mark.parametrize("error", [KeyError("moments"), ValueError("svd did not converge")])
def test_what_was_not_foreseen_is_named_a_defect(z, monkeypatch, error):
    from repcollapse.commandline import survey

    def broken(*args, **options):
        raise error

    monkeypatch.setattr(survey, "conclude", broken)
    result = ask("diagnose", z)
    assert result.exit_code == output.DEFECT
    assert "defect of repcollapse" in result.stderr and type(error).__name__ in result.stderr


@pytest.mark.parametrize("command", ["diagnose", "compare"])
def test_an_environment_that_is_half_torchruns_is_refused(z, monkeypatch, command):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "unset it" in refused(ask(command, z, z))


def test_too_little_memory_is_said(z, monkeypatch):
    from repcollapse.commandline import diagnose as command

    def starved(*args, **options):
        raise MemoryError

    monkeypatch.setattr(command, "survey_of", starved)
    assert "not enough memory" in refused(ask("diagnose", z))


def test_a_terminal_without_unicode_is_answered_in_ascii(z):
    done = program("diagnose", z, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("v Healthy") and "->" in done.stdout


def test_a_reader_who_leaves_is_no_error(z):
    command = f"{sys.executable} -m repcollapse diagnose {z} --fail-on healthy"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr == ""


def test_one_process_answers_from_anywhere(z, tmp_path):
    done = program("diagnose", z, "--html", tmp_path / "z.html", "--fail-on", "healthy")
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.startswith("✓ Healthy")
    assert left(tmp_path) == {"z.npy", "z.html"}
    missing = program("diagnose", tmp_path / "gone.npy")
    assert missing.returncode == 2 and missing.stdout == ""
    assert missing.stderr == f"Error: {tmp_path}/gone.npy does not exist: check its name\n"


@pytest.mark.parametrize("command", [["diagnose", "gone.npy"], ["compare", "z.npy", "gone.npy"]])
@pytest.mark.parametrize("more", [[], ["--labels", "other.npy"]])
def test_a_missing_file_is_said_before_torch_is_imported(z, monkeypatch, command, more):
    monkeypatch.chdir(z.parent)
    code = (
        "import sys; from repcollapse.cli import app\n"
        f"try: app({[*command, *more]!r})\nexcept SystemExit as end: print(end.code)\n"
        "print({'torch', 'scipy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "2\nset()\n"
    assert done.stderr == "Error: gone.npy does not exist: check its name\n"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_report_says_which_column_was_left_out(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(NORMAL, index=np.arange(400)[::-1]).rename(columns=str)
    frame.to_csv("z.csv") if ending == "csv" else frame.to_parquet("z.parquet")
    result = ask("diagnose", f"z.{ending}", "--json", "z.json", "--html", "z.html")
    assert result.exit_code == 0 and "400 rows of 16" in result.stdout
    (said,) = json.loads(Path("z.json").read_text())["input"]["left_out"]
    assert said.startswith(f"z.{ending}: its ") and f"left out of {said}\n" in result.stdout
    assert "<dt>left out</dt>" in Path("z.html").read_text(encoding="utf-8")
    np.save("z.npy", NORMAL)
    assert "left out" not in ask("diagnose", "z.npy").stdout


@pytest.mark.parametrize("order", "<>")
def test_strings_of_what_is_no_character_are_refused(tmp_path, order):
    np.save(tmp_path / "z.npy", NORMAL)
    np.save(tmp_path / "labels.npy", np.array(["cat", "dog"] * 200, dtype=f"{order}U3"))
    asked = ["diagnose", tmp_path / "z.npy", "--labels", tmp_path / "labels.npy"]
    assert ask(*asked).exit_code == 0
    data = (tmp_path / "labels.npy").read_bytes()
    (tmp_path / "labels.npy").write_bytes(data[:-4] + b"\xff" * 4)
    assert "labels.npy is damaged" in refused(ask(*asked))
