"""Nothing half-written: every step of a replacement is observed, broken, and cut short.

Python announces each step that changes a file to its audit hooks, before it is taken. So a test can
look at the target at every step, and can let the process die there, whichever functions are used.
"""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from press.project import recover_folder, swap_folder, write_atomically, write_json

Replace = Callable[[Path, Path], None]
CHANGING = {
    *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"),
    *("shutil.rmtree", "shutil.copyfile", "shutil.move"),
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OLD, NEW = "the old text\n" * 1000, "the new text\n" * 500

watcher: Callable[[str, tuple[Any, ...]], None] | None = None
watched = threading.get_ident()


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Pass on what changes a file; a hook cannot be taken away again, so it is installed once."""
    if watcher is None or threading.get_ident() != watched:
        return
    if event in CHANGING or (event == "open" and arguments[2] & WRITING):
        watcher(event, arguments)


sys.addaudithook(hook)


@contextmanager
def watching(function: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    global watcher  # noqa: PLW0603
    watcher = function
    try:
        yield
    finally:
        watcher = None


class KilledError(BaseException):
    """The end of the process: nothing after it happens, not even a clean-up."""


def run_and_break(action: Callable[[], None], step: int, *, kill: bool) -> bool:
    """Run `action` until `step`, which fails; killed, so do all steps after it. Tell if it came."""
    taken = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal taken
        taken += 1
        if kill and taken > step:
            raise KilledError
        if taken == step + 1:
            raise OSError(f"{event} failed")

    with watching(watch), suppress(KilledError, OSError):
        action()
    return taken > step


# ------------------------------------------------------------------------------------------
# One file
# ------------------------------------------------------------------------------------------


def check_file(write: Callable[[Path, str], None], folder: Path) -> None:
    """Assert that a file is replaced in one step, wherever that is interrupted."""
    target = folder / "page.txt"
    target.write_text(OLD)
    seen: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        seen.append(event)
        assert target.exists(), f"gone before {event}"
        assert target.read_text() == OLD, f"changed before {event}"
        if event == "open":
            assert Path(arguments[0]) != target, "the target itself was opened for writing"

    with target.open() as reader:  # one who began to read before
        with watching(watch):
            write(target, NEW)
        assert reader.read() == OLD
    assert target.read_text() == NEW
    assert len(seen) >= 2, seen

    for kill in (False, True):
        for step in range(len(seen)):
            target.write_text(OLD)
            assert run_and_break(lambda: write(target, NEW), step, kill=kill)
            assert target.read_text() in (OLD, NEW), f"step {step} ({seen[step]}) broke it"


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    check_file(write_atomically, tmp_path)


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def write_after_removing(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def write_beside_and_copy(path: Path, text: str) -> None:
    beside = path.with_name("beside")
    beside.write_text(text)
    shutil.copy(beside, path)


@pytest.mark.parametrize("naive", [write_in_place, write_after_removing, write_beside_and_copy])
def test_a_file_written_in_another_way_would_be_caught(
    naive: Callable[[Path, str], None], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        check_file(naive, tmp_path)


@pytest.mark.parametrize("function", ["write_text", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "ledger.json"
    write_json(target, ["old"])
    before = target.read_bytes()
    real = Path.write_text

    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if function == "write_text":
            real(path, "[", encoding="utf-8")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, function, full)
    with pytest.raises(OSError, match="no space left"):
        write_json(target, ["new"])
    monkeypatch.undo()
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


# ------------------------------------------------------------------------------------------
# One folder
# ------------------------------------------------------------------------------------------


def fill(folder: Path, text: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    (folder / "index.html").write_text(text)
    (folder / "notebooks" / "one.html").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def whole(text: str) -> dict[str, str]:
    return {"index.html": text, "notebooks/one.html": text}


def check_folder(swap: Replace, folder: Path) -> None:
    """Assert that a site is replaced as a whole, wherever that is interrupted."""
    site, fresh = folder / "html", folder / "fresh"

    def begin() -> None:
        fill(site, OLD)
        fill(fresh, NEW)
        shutil.rmtree(folder / "html.previous", ignore_errors=True)

    seen: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        seen.append(event)
        # Between its two renames there is no site; there is never a part of one.
        assert content(site) in ({}, whole(OLD), whole(NEW)), f"in parts before {event}"

    begin()
    with watching(watch):
        swap(fresh, site)
    assert content(site) == whole(NEW)
    assert sorted(path.name for path in folder.iterdir()) == ["html"]
    assert seen.count("os.rename") >= 2, seen

    for step in range(len(seen)):
        begin()
        assert run_and_break(lambda: swap(fresh, site), step, kill=True)
        recover_folder(site)  # what the next build does first
        assert content(site) in (whole(OLD), whole(NEW)), f"killed at step {step} ({seen[step]})"
        assert not (folder / "html.previous").exists()

        begin()
        assert run_and_break(lambda: swap(fresh, site), step, kill=False)
        assert content(site) in (whole(OLD), whole(NEW)), f"failed at step {step} ({seen[step]})"


def test_a_site_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    check_folder(swap_folder, tmp_path)


def swap_after_removing(new: Path, target: Path) -> None:
    shutil.rmtree(target)
    new.replace(target)


def swap_by_copying(new: Path, target: Path) -> None:
    shutil.copytree(new, target, dirs_exist_ok=True)
    shutil.rmtree(new)


def swap_without_way_back(new: Path, target: Path) -> None:
    target.replace(target.with_name("html.gone"))
    new.replace(target)
    shutil.rmtree(target.with_name("html.gone"))


@pytest.mark.parametrize("naive", [swap_after_removing, swap_by_copying, swap_without_way_back])
def test_a_site_swapped_in_another_way_would_be_caught(naive: Replace, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_folder(naive, tmp_path)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_site(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, fresh = tmp_path / "html", tmp_path / "fresh"
    fill(site, OLD)
    fill(fresh, NEW)
    real = Path.replace
    calls = 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError("device busy")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="device busy"):
        swap_folder(fresh, site)
    assert content(site) == whole(OLD)
    assert content(fresh) == whole(NEW)


def test_the_first_site_needs_no_other(tmp_path: Path) -> None:
    fill(tmp_path / "fresh", NEW)
    swap_folder(tmp_path / "fresh", tmp_path / "html")
    assert content(tmp_path / "html") == whole(NEW)
