"""Long runs: killed and resumed they end as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from repcollapse.pretraining import (
    CheckpointError,
    Settings,
    Stopped,
    TrainingError,
    checkpoints,
    loop,
    pretrain,
)
from repcollapse.pretraining.loop import Watcher
from repcollapse.pretraining.trainer import Trainer

SMALL = {"batch_size": 16, "limit": 64, "test_limit": 40, "dimension": 8}
# SigReg draws at every step, MoCo has a queue and a momentum target: state of all kinds.
METHODS = ("sigreg", "moco")


def settings(method: str = "sigreg", **given) -> Settings:
    defaults = {"steps": 24, "log_every": 3, "evaluate_every": 8} | SMALL
    return Settings(method, "digits", **defaults | given)


def equal(a, b) -> bool:
    """Equal to the last bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


TIMES = ("seconds", "steps_per_second", "images_per_second", "hardware")


def assert_same_end(one: Path, two: Path) -> None:
    """Both folders hold the end of the same run: weights, optimiser, metrics and probes."""
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, two)]
    for result in results:
        for name in TIMES:
            del result[name]
    assert results[0] == results[1]
    states = [checkpoints.read(checkpoints.found(folder)[0]) for folder in (one, two)]
    for state in states:
        del state["seconds"]
    assert states[0]["step"] == results[0]["steps"]
    assert equal(*states)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """The folders of runs that nothing interrupted."""
    folders = {method: tmp_path_factory.mktemp(method) for method in METHODS}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for method, folder in folders.items():
        pretrain(settings(method), folder, checkpoint_every=5)
    torch.set_num_threads(threads)
    return folders


# --- what a run leaves


def test_what_is_written(whole):
    folder = whole["sigreg"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 3, 6, 8, 9, 12, 15, 16, 18, 21, 24]
    by_step = {row["step"]: row for row in rows}
    assert set(by_step[3]) == {"step", "loss", "lr", "batch_spread"}
    assert {"spread", "effective_rank", "alignment"} <= set(by_step[8])
    assert "loss" not in by_step[8]
    assert {"loss", "spread"} <= set(by_step[24])
    result = json.loads((folder / "result.json").read_text())
    assert result["final"] == by_step[24]
    assert result["settings"]["method"] == "sigreg" and result["settings"]["amp"] is False
    assert result["steps"] == 24
    assert {"linear_probe_h", "knn_z", "chance"} <= set(result["probes"])
    assert result["hardware"]["processes"] == 1 and result["versions"]["torch"]
    assert result["seconds"] > 0
    found = checkpoints.found(folder)
    assert [int(path.stem[-9:]) for path in found] == [24, 20]
    assert not list(folder.glob(".*.part"))


def test_the_model_of_a_checkpoint_is_that_of_the_recipe(whole):
    state = checkpoints.read(checkpoints.found(whole["moco"])[0])
    model = settings("moco").recipe().build((1, 16, 16))
    model.load_state_dict(state["model"])


def test_training_learns(tmp_path):
    result = pretrain(
        settings("vicreg", steps=150, limit=400, test_limit=200, batch_size=64, dimension=32),
        tmp_path,
    )
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * next(row["loss"] for row in rows if "loss" in row)
    assert result["probes"]["linear_probe_h"] > 3 * result["probes"]["chance"]


def test_the_rate_follows_a_cosine_to_zero(whole):
    rows = [json.loads(line) for line in (whole["moco"] / "metrics.jsonl").read_text().splitlines()]
    rates = {row["step"]: row["lr"] for row in rows if "lr" in row}
    cosine = [0.5 * (1 + math.cos(math.pi * (step - 1) / 24)) for step in rates]
    assert list(rates.values()) == pytest.approx([settings("moco").lr * each for each in cosine])


def test_reading_more_often_changes_nothing(whole, tmp_path):
    pretrain(settings("sigreg", evaluate_every=0, log_every=1), tmp_path)
    rows = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole["sigreg"], tmp_path)
    ]
    losses = [{row["step"]: row["loss"] for row in each if "loss" in row} for each in rows]
    assert len(losses[1]) == 24
    assert all(losses[1][step] == loss for step, loss in losses[0].items())


def test_a_finished_run_is_not_trained_again(whole, tmp_path, monkeypatch):
    pretrain(settings(steps=4), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(Trainer, "advance", None)
    pretrain(settings(steps=4), tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


# --- killed


# Kills itself: at a step; in the middle of writing a checkpoint; between a renamed checkpoint and
# the removal of the old one.
KILLED = """
import os, signal, sys
from repcollapse import files
from repcollapse.pretraining import checkpoints, trainer

place, when = sys.argv[1], int(sys.argv[2])
calls = 0

def dies(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == when:
            if place == "writing":
                arguments[1].write(b"PK half a checkpoint")
                arguments[1].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

if place == "step":
    trainer.Trainer.advance = dies(trainer.Trainer.advance)
elif place == "writing":
    checkpoints.torch.save = dies(checkpoints.torch.save)
elif place == "renamed":
    files._flush_folder = dies(files._flush_folder)

from repcollapse.cli import app
app(sys.argv[3:])
"""


def command(method: str, out: Path) -> list[str]:
    given = {"--method": method, "--dataset": "digits", "--steps": 24, "--log-every": 3}
    given |= {"--evaluate-every": 8, "--checkpoint-every": 5, "--device": "cpu", "--out": out}
    given |= {"--batch-size": 16, "--limit": 64, "--test-limit": 40, "--dimension": 8}
    return ["train", *(str(part) for pair in given.items() for part in pair)]


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_killed_and_run_again_it_ends_like_a_run_that_was_not(whole, tmp_path):
    """SIGKILL at three of the worst moments in turn, then to the end."""
    steps = []
    for place, when, left in (("step", 9, 1), ("writing", 2, 2), ("renamed", 2, 3)):
        killed = run("-c", KILLED, place, str(when), *command("sigreg", tmp_path))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert len(checkpoints.found(tmp_path)) == left, place
        steps.append(checkpoints.newest(tmp_path, pytest.fail)["step"])
        assert bool(list(tmp_path.glob(".*.part"))) == (place == "writing")
    # Each time a good checkpoint was there, and got further.
    assert steps == [5, 10, 15]
    pretrain(settings("sigreg"), tmp_path, checkpoint_every=5)
    assert_same_end(whole["sigreg"], tmp_path)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_at_once(whole, tmp_path, method, number):
    def stepped(step, row):
        if step == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"stopped by {number.name} after step 7"):
        pretrain(settings(method), tmp_path, checkpoint_every=5, watcher=Watcher(stepped=stepped))
    assert signal.getsignal(number) == before
    assert checkpoints.newest(tmp_path, pytest.fail)["step"] == 7
    said: list[str] = []
    pretrain(settings(method), tmp_path, checkpoint_every=5, watcher=Watcher(said=said.append))
    assert said == [f"going on from step 7 of {tmp_path}"]
    assert_same_end(whole[method], tmp_path)


def stopped_at(step: int, folder: Path, given: Settings, **options) -> None:
    def stepped(number, row):
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        pretrain(given, folder, watcher=Watcher(stepped=stepped), **options)


def test_a_damaged_newest_checkpoint_is_refused_and_the_one_before_it_used(whole, tmp_path):
    stopped_at(13, tmp_path, settings("moco"), checkpoint_every=5)
    newest = checkpoints.found(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-1000])
    said: list[str] = []
    pretrain(settings("moco"), tmp_path, checkpoint_every=5, watcher=Watcher(said=said.append))
    assert "checkpoint-000000013.pt: damaged" in said[0]
    assert said[1] == f"going on from step 10 of {tmp_path}"
    assert_same_end(whole["moco"], tmp_path)


def test_lost_metrics_are_written_anew_from_the_checkpoint(whole, tmp_path):
    stopped_at(13, tmp_path, settings("sigreg"), checkpoint_every=5)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')  # as a crash of the machine may leave it
    pretrain(settings("sigreg"), tmp_path, checkpoint_every=5)
    assert_same_end(whole["sigreg"], tmp_path)


def test_all_checkpoints_damaged_is_an_error(tmp_path):
    stopped_at(13, tmp_path, settings(), checkpoint_every=5)
    for path in checkpoints.found(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="all checkpoints are damaged"):
        pretrain(settings(), tmp_path)


def test_no_resume_begins_anew(whole, tmp_path):
    stopped_at(13, tmp_path, settings("sigreg", seed=7), checkpoint_every=5)
    pretrain(settings("sigreg"), tmp_path, resume=False, checkpoint_every=5)
    assert_same_end(whole["sigreg"], tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 80}, "batch_size must be at most 64"),
        ({"dataset": "cifar10"}, "REPCOLLAPSE_DATA must name a folder"),
    ],
)
def test_no_resume_leaves_the_old_run_where_the_new_one_cannot_begin(
    whole, tmp_path, monkeypatch, given, message
):
    from repcollapse.data import files

    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "no data"))
    folder = shutil.copytree(whole["sigreg"], tmp_path / "run")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pretrain(replace(settings(), **given), folder, resume=False)
    assert_same_end(whole["sigreg"], folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("method", "simclr"), ("lr", 0.1), ("seed", 1), ("limit", 65), ("steps", 25),
     ("encoder", "conv"), ("log_every", 4), ("dtype", "float64")],
)  # fmt: skip
def test_other_settings_are_refused_by_name(whole, name, value):
    was = getattr(settings(), name)
    with pytest.raises(ValueError, match=f"^{name} must be {was!r}, .*; got {value!r}"):
        pretrain(replace(settings(), **{name: value}), whole["sigreg"])


def test_a_changed_method_of_the_same_name_is_refused(whole, monkeypatch):
    from repcollapse.methods import METHODS

    monkeypatch.setitem(METHODS, "sigreg", replace(METHODS["sigreg"], projector="linear"))
    with pytest.raises(ValueError, match=r"^recipe must be .*'mlp'.*got .*'linear'"):
        pretrain(settings(), whole["sigreg"])


def test_two_runs_do_not_share_a_folder(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"^out must be a folder that no other run writes to"):
            pretrain(settings(), tmp_path)


# --- what cannot be trained


def test_a_loss_that_is_not_finite_is_an_error_and_is_not_saved(tmp_path, monkeypatch):
    advance = Trainer.advance

    def broken(self, *, read=False):
        loss, z = advance(self, read=read)
        return (loss * float("nan") if self.step >= 7 else loss), z

    monkeypatch.setattr(Trainer, "advance", broken)
    with pytest.raises(TrainingError, match="step 9 of 24: the loss is no longer finite: nan"):
        pretrain(settings(), tmp_path, checkpoint_every=5)
    assert checkpoints.newest(tmp_path, pytest.fail)["step"] == 5
    with pytest.raises(TrainingError, match=r"step 7: .* nan; not saved"):
        pretrain(settings(), tmp_path, checkpoint_every=7)
    assert checkpoints.newest(tmp_path, pytest.fail)["step"] == 5


def test_embeddings_that_are_not_finite_name_the_step(tmp_path):
    with pytest.raises(TrainingError, match=r"step \d+ of 24: .*finite"):
        pretrain(settings("vicreg", lr=1e30, encoder="conv"), tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": 12, "batch_size": 16}, "batch_size must be at most 12, the training images"),
        ({"evaluate_every": 0, "checkpoint_every": 0}, "checkpoint_every must be at least 1"),
    ],
)
def test_what_does_not_fit(tmp_path, given, message):
    options = {k: v for k, v in given.items() if k == "checkpoint_every"}
    rest = {k: v for k, v in given.items() if k not in options}
    with pytest.raises(ValueError, match=message):
        pretrain(settings(**rest), tmp_path, **options)


def test_a_batch_that_does_not_divide_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(loop.processes, "world_size", lambda: 3)
    with pytest.raises(ValueError, match=r"^batch_size must give the 3 processes equal parts"):
        Trainer(replace(settings(), amp=False), torch.device("cpu"))


def test_missing_data_names_the_variable(tmp_path, monkeypatch):
    from repcollapse.data import files

    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="REPCOLLAPSE_DATA"):
        pretrain(Settings("vicreg", "cifar10", steps=1, limit=16), tmp_path / "out")
