"""The command line: options, messages, exit statuses; torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import repcollapse
from repcollapse.cli import app

QUICK = {
    "--method": "vicreg", "--dataset": "digits", "--steps": "4", "--batch-size": "16",
    "--dimension": "8", "--limit": "48", "--test-limit": "24", "--device": "cpu",
    "--log-every": "2",
}  # fmt: skip


def arguments(out: Path, *more: str, **given: str) -> list[str]:
    options = QUICK | {"--out": str(out)}
    options |= {"--" + name.replace("_", "-"): value for name, value in given.items()}
    return ["train", *(part for pair in options.items() for part in pair), *more]


def invoke(*parts: str, catch: bool = False):
    runner = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"})
    return runner.invoke(app, list(parts), catch_exceptions=catch)


def python(*parts: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *parts],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_version():
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout == f"repcollapse {repcollapse.__version__}\n"


def test_help_names_every_option():
    from dataclasses import fields

    from repcollapse.pretraining import Settings

    result = invoke("train", "--help")
    assert result.exit_code == 0
    for field in fields(Settings):
        assert "--" + field.name.replace("_", "-") in result.stdout
    for option in ("--out", "--device", "--no-resume", "--no-amp", "--checkpoint-every"):
        assert option in result.stdout
    assert "REPCOLLAPSE_DATA" in result.stdout and "torchrun" in result.stdout


def test_importing_it_is_light():
    heavy = "{'torch', 'numpy', 'pandas', 'sklearn', 'matplotlib', 'rich.progress'}"
    done = python("-c", f"import sys, repcollapse.cli; print({heavy} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr


def test_python_m_is_the_same_program():
    done = python("-m", "repcollapse", "--version")
    assert done.stdout == f"repcollapse {repcollapse.__version__}\n", done.stderr


def test_train_writes_and_shows_a_result(tmp_path):
    result = invoke(*arguments(tmp_path))
    assert result.exit_code == 0, result.output
    assert "vicreg, 4 steps" in result.stdout and "linear_probe_h" in result.stdout
    assert "step 2/4  loss" in result.stderr and "spread" in result.stderr
    assert [row["step"] for row in rows(tmp_path)] == [2, 4]
    settings = json.loads((tmp_path / "result.json").read_text())["settings"]
    assert (settings["batch_size"], settings["limit"], settings["amp"]) == (16, 48, False)


@pytest.mark.parametrize(
    ("given", "option", "message"),
    [
        ({"method": "vicregg"}, "--method", "must be one of ['alignment_uniformity', "),
        ({"dataset": "mnist"}, "--dataset", "must be one of ['cifar10', 'digits', "),
        ({"encoder": "vit"}, "--encoder", "must be one of"),
        (
            {"method": "rotation"},
            "--dimension",
            "must be left at 64 with a pretext task, which needs neither projector nor target",
        ),
        ({"lr": "-1"}, "--lr", "must be above 0; got -1.0"),
        ({"lr": "fast"}, "--lr", "should be a valid number"),
        ({"batch_size": "1"}, "--batch-size", "must be at least 2; got 1"),
        ({"batch_size": "64"}, "--batch-size", "must be at most 48, the training images there are"),
        ({"epochs": "2"}, "--steps", "must be left out where epochs is given"),
        ({"device": "tpu9"}, "--device", "must be 'auto' or a torch device"),
        ({"checkpoint_every": "0"}, "--checkpoint-every", "must be at least 1; got 0"),
        ({"limit": "99999"}, "--limit", "must be at least 2 and at most 1300; got 99999"),
        ({"dtype": "half"}, "--dtype", "must be one of"),
    ],
)
def test_a_usage_error_names_the_option_and_exits_with_2(tmp_path, given, option, message):
    result = invoke(*arguments(tmp_path, **given))
    assert result.exit_code == 2
    said = result.stderr.replace("'", "")
    assert f"Invalid value for {option}: " in said
    assert message.replace("'", "") in said


def without(given, option):
    place = given.index(option)
    return [*given[:place], *given[place + 2 :]]


def test_what_is_needed_is_asked_for(tmp_path):
    result = invoke(*without(arguments(tmp_path), "--method"))
    assert result.exit_code == 2 and "Missing option '--method'" in result.stderr


def test_the_folder_has_a_name_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke(*without(arguments(tmp_path), "--out")).exit_code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["vicreg-digits-mlp"]


def test_other_settings_than_the_checkpoints_are_a_usage_error(tmp_path):
    assert invoke(*arguments(tmp_path)).exit_code == 0
    result = invoke(*arguments(tmp_path, lr="0.1"))
    assert result.exit_code == 2
    assert "--lr" in result.stderr and "must be 0.002" in result.stderr
    assert "--no-resume" in result.stderr
    assert invoke(*arguments(tmp_path, "--no-resume", lr="0.1")).exit_code == 0


def test_missing_data_is_an_error_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("REPCOLLAPSE_DATA", str(tmp_path))
    result = invoke(*arguments(tmp_path / "out", dataset="cifar10"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cifar10 is not in")
    assert "REPCOLLAPSE_DATA" in result.stderr and "Traceback" not in result.stderr


def test_damaged_checkpoints_are_an_error_without_a_traceback(tmp_path):
    (tmp_path / "checkpoint-000000002.pt").write_bytes(b"")
    result = invoke(*arguments(tmp_path))
    assert result.exit_code == 1
    assert "damaged or cut short" in result.stderr and "--no-resume" in result.stderr


def test_numbers_that_explode_are_an_error_without_a_traceback(tmp_path):
    result = invoke(*arguments(tmp_path, lr="1e30", encoder="conv"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: step ")
    assert "finite" in result.stderr


def test_a_bug_is_not_dressed_as_a_usage_error(tmp_path, monkeypatch):
    from repcollapse.pretraining.trainer import Trainer

    def broken(self, *, read=False):
        raise TypeError("unsupported operand")

    monkeypatch.setattr(Trainer, "advance", broken)
    with pytest.raises(TypeError, match="unsupported operand"):
        invoke(*arguments(tmp_path))


def test_sigterm_leaves_a_checkpoint_and_says_so(tmp_path, monkeypatch):
    from repcollapse.pretraining.trainer import Trainer

    advance = Trainer.advance

    def terminated(self, *, read=False):
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, read=read)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", terminated)
        result = invoke(*arguments(tmp_path))
    assert result.exit_code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 3: a checkpoint is in" in result.stderr
    result = invoke(*arguments(tmp_path))
    assert result.exit_code == 0 and "going on from step 3" in result.stderr


@pytest.mark.slow
def test_torchrun_gives_the_numbers_of_one_process(tmp_path):
    exact = {"dtype": "float64", "steps": "6", "evaluate_every": "3", "encoder": "conv"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = invoke(*arguments(tmp_path / "one", **exact))
    torch.set_num_threads(threads)
    assert one.exit_code == 0, one.output
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    two = python(*launch, "repcollapse", *arguments(tmp_path / "two", **exact))
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("vicreg, 6 steps") == 1  # one process speaks
    given, expected = rows(tmp_path / "two"), rows(tmp_path / "one")
    assert len(given) == len(expected) == 5
    for a, b in zip(given, expected, strict=True):
        assert a == pytest.approx(b, rel=1e-7, abs=1e-9)
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["hardware"]["processes"] == 2
