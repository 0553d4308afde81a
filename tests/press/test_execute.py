"""Execution: what is kept, what runs again, what is shown when something breaks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from press.execute import (
    Executed,
    accelerator,
    cache_key,
    declared_parameters,
    execute,
    executed_path,
    kernel_environment,
    machinery,
    prune,
    require_parameters,
    strip,
)
from press.project import PressError, Project
from press.worker import describe

PRESS = Path(__file__).parents[2] / "book"


def outputs(done: Executed) -> str:
    return json.dumps([cell.get("outputs") for cell in done.read()["cells"]])


def test_a_notebook_is_executed_once_and_then_kept(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (first,) = execute(project, {})
    content = first.path.read_bytes()
    assert "5" in outputs(first)
    assert first.cost.cpu_seconds > 0
    assert first.cost.peak_mb > 20
    (second,) = execute(project, {})
    assert second == first
    assert second.path.read_bytes() == content
    shown = capsys.readouterr().out
    assert shown.count("01_one: finished") == 1
    assert "01_one: kept" in shown


def test_two_runs_differ_in_nothing_but_their_cost(project: Project) -> None:
    (first,) = execute(project, {"seeds": 7})
    notebook = first.read()
    first.path.unlink()
    (second,) = execute(project, {"seeds": 7})
    again = second.read()
    for each in (notebook, again):
        del each["metadata"]["press"]["cost"]
    assert notebook == again
    assert "papermill" not in json.dumps(notebook)


def test_parameters_reach_the_notebook_and_do_not_push_out_the_defaults(project: Project) -> None:
    (default,) = execute(project, {})
    (other,) = execute(project, {"seeds": 20})
    assert "20" in outputs(other)
    assert default.path.exists()
    assert default.path != other.path


def test_an_unknown_parameter_is_refused_by_name(project: Project) -> None:
    with pytest.raises(PressError, match=r"01_one.ipynb has no parameter 'sead'.*first_seed"):
        execute(project, {"sead": 1})


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"seeds": "[1"}, r"seeds=\[1: expected a whole number, since 01_one.ipynb has seeds = 5"),
        ({"seeds": 1.5}, "seeds=1.5: expected a whole number"),
        ({"seeds": ""}, "seeds=: expected a whole number"),
        ({"first_seed": "2024-01-01"}, "first_seed=2024-01-01: expected a whole number"),
        ({"rate": "fast"}, "rate=fast: expected a number, since 01_one.ipynb has rate = 0.5"),
    ],
)
def test_a_parameter_of_another_type_than_its_default_is_refused(
    project: Project, make: Any, parameters: dict[str, object], told: str
) -> None:
    cell = make.code("seeds = 5\nfirst_seed = 0\nrate: float = 0.5", "parameters")
    make.write(project.notebooks[0], make.markdown("# One"), cell)
    with pytest.raises(PressError, match=told):
        execute(project, parameters)
    require_parameters(project.notebooks[0], {"rate": 1, "seeds": 3})


def test_declared_parameters_may_be_annotated_or_computed(project: Project, make: Any) -> None:
    cell = make.code('seeds = 5\ndataset: str = "digits"\nlow = -1\nmany = 2 * 3', "parameters")
    make.write(project.notebooks[0], cell, make.code("other = 1"))
    assert declared_parameters(project.notebooks[0]) == {
        "seeds": 5,
        "dataset": "digits",
        "low": -1,
        "many": None,
    }


def test_a_parameters_cell_that_is_not_python_is_named(project: Project, make: Any) -> None:
    make.write(project.notebooks[0], make.code("seeds = ", "parameters"))
    with pytest.raises(PressError, match=r"01_one.ipynb: the cell tagged 'parameters' must be"):
        execute(project, {})


def test_the_key_follows_all_that_can_change_what_is_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = project.notebooks[0]
    keys = [cache_key(project, source, {})]
    assert cache_key(project, source, {}) == keys[0]
    keys.append(cache_key(project, source, {"seeds": 2}))
    source.write_text(source.read_text() + "\n")
    keys.append(cache_key(project, source, {}))
    (project.package / "package" / "__init__.py").write_text("VALUE = 2\n")
    keys.append(cache_key(project, source, {}))
    for name in ("environment", "accelerator", "machinery"):
        monkeypatch.setattr(f"press.execute.{name}", lambda: "another")
        keys.append(cache_key(project, source, {}))
    assert len(set(keys)) == len(keys)


def test_the_machinery_is_what_runs_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("execute.py", "worker.py", "project.py"):
        (tmp_path / name).write_bytes((PRESS / "press" / name).read_bytes())
    before = machinery()
    monkeypatch.setattr("press.execute.__file__", str(tmp_path / "execute.py"))
    assert machinery() == before
    seen = {before}
    for name in ("worker.py", "project.py", "execute.py"):
        (tmp_path / name).write_text("changed")
        seen.add(machinery())
    assert len(seen) == 4


@pytest.mark.parametrize(("available", "name"), [(True, "cuda"), (False, "cpu")])
def test_the_accelerator_is_the_one_torch_would_take(
    available: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    assert accelerator.__wrapped__() == name


def test_a_notebook_imports_the_package_of_its_own_checkout(project: Project, make: Any) -> None:
    own = project.package / "repcollapse"  # the name of one that is installed, too
    own.mkdir()
    (own / "__init__.py").write_text("")
    cells = [make.markdown("# One"), make.code("import repcollapse\nprint(repcollapse.__file__)")]
    make.write(project.notebooks[0], *cells)
    (done,) = execute(project, {})
    assert str(own) in outputs(done)


def test_a_change_of_the_package_runs_the_notebook_again(project: Project) -> None:
    (first,) = execute(project, {})
    (project.package / "package" / "__init__.py").write_text("VALUE = 2\n")
    (second,) = execute(project, {})
    assert second.path != first.path


def test_what_python_leaves_beside_the_package_changes_nothing(project: Project) -> None:
    (first,) = execute(project, {})
    cached = project.package / "package" / "__pycache__"
    cached.mkdir()
    (cached / "x.pyc").write_bytes(b"x")
    (second,) = execute(project, {})
    assert second.path == first.path


def test_a_failing_notebook_shows_its_cell_and_the_others_finish(
    project: Project, make: Any
) -> None:
    folder = project.root / "notebooks"
    make.write(
        folder / "00_bad.ipynb", make.markdown("# Bad"), make.code("width = 3\nwidth / (width - 3)")
    )
    with pytest.raises(PressError) as caught:
        execute(project, {})
    message = str(caught.value)
    assert "00_bad.ipynb failed" in message
    assert "    width / (width - 3)" in message
    assert "ZeroDivisionError" in message
    assert "\x1b[" not in message
    assert list(project.executed.glob("01_one.*.ipynb"))
    assert not list(project.executed.glob("00_bad.*"))


def test_a_notebook_over_its_limit_is_stopped(project: Project, make: Any) -> None:
    make.write(
        project.root / "notebooks" / "01_one.ipynb",
        make.markdown("# One"),
        make.code("quick = 1"),
        make.code("import time\ntime.sleep(60)"),
    )
    began = time.monotonic()
    with pytest.raises(PressError) as caught:
        execute(project, {}, limit=8)
    assert time.monotonic() - began < 30
    assert str(caught.value) == (
        "01_one.ipynb ran longer than its limit of 8 s and was stopped in the cell\n\n"
        "    import time\n    time.sleep(60)"
    )


def test_a_notebook_stopped_before_it_began_is_said_to_be(project: Project) -> None:
    with pytest.raises(PressError, match=r"limit of 0.01 s and was stopped before its first cell"):
        execute(project, {}, limit=0.01)


def test_a_worker_whose_parent_is_gone_ends_at_once(project: Project, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    target = tmp_path / "out.ipynb"
    worker = [sys.executable, str(PRESS / "press" / "worker.py"), str(project.notebooks[0])]
    done = subprocess.run(
        [*worker, str(target), "{}", str(tmp_path), str(gone.pid)], check=False, timeout=60
    )
    assert done.returncode == 1
    assert not target.exists()


def test_a_killed_build_keeps_what_was_finished_and_leaves_no_child(
    project: Project, make: Any, tmp_path: Path
) -> None:
    slow = project.root / "notebooks" / "02_slow.ipynb"
    mark = tmp_path / "pid"
    make.write(
        slow,
        make.markdown("# Slow"),
        make.code(
            f"import os, pathlib, time\n"
            f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n"
            f"time.sleep(120)"
        ),
    )
    command = [sys.executable, "-m", "press", "--root", str(project.root), "build"]
    build = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(PRESS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: mark.exists() and bool(list(project.executed.glob("01_one.*.ipynb"))))
    kernel = int(mark.read_text())
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    wait_for(lambda: not alive(kernel))

    assert not list(project.executed.glob("02_slow.*"))
    kept = next(project.executed.glob("01_one.*.ipynb"))
    content = kept.read_bytes()
    make.write(slow, make.markdown("# Slow"), make.code("print('quick now')"))
    first, second = execute(project, {})
    assert first.path == kept
    assert kept.read_bytes() == content
    assert "quick now" in outputs(second)
    assert not (project.build / "unfinished").exists()


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether the process runs: one that is only waiting to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_environment_of_a_run(
    monkeypatch: pytest.MonkeyPatch, project: Project, tmp_path: Path
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("JUPYTER_PATH", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("REPCOLLAPSE_DATA", "/data")
    environment = kernel_environment(project, tmp_path)
    assert environment["PYTHONPATH"] == str(project.root / "src")
    assert "MPLBACKEND" not in environment
    assert "JUPYTER_PATH" not in environment
    assert environment["REPCOLLAPSE_DATA"] == "/data"
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "1"


def test_strip_removes_papermills_traces(make: Any) -> None:
    injected = make.code("seeds = 1", "injected-parameters")
    injected["id"] = "random"
    injected["metadata"] |= {"papermill": {"duration": 1.0}, "execution": {"iopub": "now"}}
    notebook = make.notebook(injected)
    notebook["metadata"]["papermill"] = {"start_time": "now"}
    strip(notebook)
    assert "papermill" not in json.dumps(notebook)
    assert "now" not in json.dumps(notebook)
    assert notebook["cells"][0]["id"] == "injected-parameters"


def test_old_versions_are_forgotten_oldest_first(project: Project) -> None:
    project.executed.mkdir(parents=True)
    for index in range(9):
        path = executed_path(project, "01_one", f"{index:016d}")
        path.write_text("{}")
        os.utime(path, (index, index))
    prune(project, "01_one")
    left = sorted(path.name for path in project.executed.iterdir())
    assert left == [f"01_one.{index:016d}.ipynb" for index in range(3, 9)]


def test_a_failure_is_described_without_colours() -> None:
    text = describe("a = 1\na.b", ["\x1b[31mAttributeError\x1b[0m", "no b"])
    assert text == "The cell\n\n    a = 1\n    a.b\n\nraised\n\nAttributeError\nno b"
