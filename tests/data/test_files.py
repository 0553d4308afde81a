"""Where files are looked for, and what is said where they are not."""

from __future__ import annotations

import builtins
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from official_files import BINARY, FASHION, binary_archive, write_cifar, write_fashion

from repcollapse.data import files, load

SMALL: dict[str, Any] = {"n_train": 20, "n_test": 10}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


# --- REPCOLLAPSE_DATA


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_missing_files_name_variable_folder_and_files(root: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load(name)
    wanted = FASHION if name == "fashion_mnist" else BINARY
    for text in (files.VARIABLE, str(root), name, *wanted):
        assert text in str(caught.value)


def test_only_what_is_missing_is_named(root: Path) -> None:
    write_fashion(root)
    (root / "fashion_mnist" / FASHION[1]).unlink()
    with pytest.raises(FileNotFoundError, match=FASHION[1]) as caught:
        load("fashion_mnist")
    assert FASHION[0] not in str(caught.value)


def test_an_incomplete_form_gives_way_to_a_complete_one(root: Path) -> None:
    write_cifar(root, files.CIFAR_BINARY)
    write_cifar(root, files.CIFAR_PYTHON)
    (root / files.CIFAR_BINARY / BINARY[0]).unlink()
    assert files.cifar10() == root / files.CIFAR_PYTHON


def test_a_folder_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=f"{files.VARIABLE} must name a folder that exists"):
        load("cifar10")


def test_with_the_variable_set_nothing_is_downloaded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pooch was asked")

    monkeypatch.setattr(files, "_pooch", refuse)
    with pytest.raises(FileNotFoundError):
        load("fashion_mnist")


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_another_md5_is_an_error_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(files.VARIABLE, str(tmp_path))
    write_fashion(tmp_path)
    write_cifar(tmp_path, files.CIFAR_PYTHON)
    bad = tmp_path / (
        f"fashion_mnist/{FASHION[0]}"
        if name == "fashion_mnist"
        else "cifar-10-batches-py/data_batch_1"
    )
    with pytest.raises(ValueError, match="damaged or not the official file") as caught:
        load(name)
    for text in (str(bad), md5(bad.read_bytes()), files.MD5[bad.name]):
        assert text in str(caught.value)


# --- the files of any data set


@pytest.fixture
def poems(root: Path) -> dict[str, str]:
    """Two files of a data set of the tests' own, with their sums."""
    (root / "verse").mkdir()
    texts = {"one.txt": b"a", "two.txt": b"b"}
    for name, text in texts.items():
        (root / "verse" / name).write_bytes(text)
    return {name: md5(text) for name, text in texts.items()}


def test_what_lies_in_the_given_folder_is_found(root: Path, poems: dict[str, str]) -> None:
    assert files.is_here("verse", poems)
    found = files.official("poems", "verse", "http://127.0.0.1:9/", poems)
    assert found == {name: root / "verse" / name for name in poems}
    assert [files.verified_bytes(path, poems) for path in found.values()] == [b"a", b"b"]


def test_what_does_not_lie_there_is_named(root: Path, poems: dict[str, str]) -> None:
    (root / "verse" / "two.txt").unlink()
    assert not files.is_here("verse", poems)
    with pytest.raises(FileNotFoundError, match=r"poems is not in .* missing verse/two.txt\."):
        files.official("poems", "verse", "http://127.0.0.1:9/", poems)


def test_a_file_is_held_against_its_own_sums(root: Path, poems: dict[str, str]) -> None:
    path = root / "verse" / "one.txt"
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"one.txt: damaged or not the official file") as caught:
        files.verified_bytes(path, poems)
    assert poems["one.txt"] in str(caught.value)
    assert files.verified_bytes(path, {}) == b"other"


def test_what_is_not_there_is_downloaded_once(
    site: tuple[Path, str, list[str]], cache: Path
) -> None:
    folder, address, served = site
    (folder / "one.txt").write_bytes(b"a")
    (folder / "two.txt").write_bytes(b"other")
    for _ in range(2):
        found = files.official("poems", "verse", address, {"one.txt": md5(b"a")})
        assert found["one.txt"].read_bytes() == b"a"
        assert files.is_here("verse", ["one.txt"])
    assert served == ["/one.txt"]
    assert not files.is_here("verse", ["one.txt", "two.txt"])
    with pytest.raises(ValueError, match=r"poems: .* did not deliver the official file"):
        files.official("poems", "verse", address, {"one.txt": md5(b"a"), "two.txt": md5(b"b")})


# --- downloads, from a server of the test's own


class Server(http.server.SimpleHTTPRequestHandler):
    served: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.served.append(self.path)
        super().do_GET()


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, list[str]]]:
    folder = tmp_path_factory.mktemp("site")
    served: list[str] = []
    handler = type("Handler", (Server,), {"served": served})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/", served
        server.shutdown()
        thread.join()


@pytest.fixture
def fashion_site(
    site: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[str]]:
    folder, address, served = site
    write_fashion(folder)
    monkeypatch.setattr(files, "FASHION_URL", address + "fashion_mnist/")
    sums = {name: md5((folder / "fashion_mnist" / name).read_bytes()) for name in FASHION}
    monkeypatch.setattr(files, "FASHION_MD5", sums)
    monkeypatch.setattr(files, "MD5", sums)
    return folder / "fashion_mnist", served


def test_fashion_is_downloaded_once_with_a_progress_bar(
    cache: Path, fashion_site: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    _, served = fashion_site
    load("fashion_mnist", **SMALL)
    assert sorted(served) == sorted(f"/fashion_mnist/{name}" for name in FASHION)
    assert "100%" in capfd.readouterr().err
    load("fashion_mnist", **SMALL)
    assert len(served) == 4
    assert sorted(path.name for path in (cache / "fashion_mnist").iterdir()) == sorted(FASHION)


def test_a_damaged_download_is_refused_and_not_kept(
    cache: Path, fashion_site: tuple[Path, list[str]]
) -> None:
    folder, _ = fashion_site
    (folder / FASHION[0]).write_bytes(b"other bytes")
    with pytest.raises(ValueError, match=r"fashion_mnist: .* did not deliver the official file"):
        load("fashion_mnist", **SMALL)
    assert not list((cache / "fashion_mnist").iterdir())


def test_offline_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FASHION_URL", "http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(ConnectionError, match="fashion_mnist could not be downloaded") as caught:
        load("fashion_mnist")
    assert files.VARIABLE in str(caught.value)
    assert not list((cache / "fashion_mnist").iterdir())


def test_without_pooch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(files.VARIABLE, raising=False)
    real = builtins.__import__

    def without_pooch(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pooch":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pooch)
    assert not files.is_here("fashion_mnist", FASHION)
    with pytest.raises(ImportError, match=r"needs pooch: pip install pooch"):
        load("cifar10")


@pytest.fixture
def cifar_site(
    site: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch, no_sums: None
) -> list[str]:
    folder, address, served = site
    archive = binary_archive({"../outside": b"x", f"{files.CIFAR_BINARY}/readme.html": b"x"})
    (folder / "cifar.tar.gz").write_bytes(archive)
    monkeypatch.setattr(files, "CIFAR_URL", address + "cifar.tar.gz")
    monkeypatch.setattr(files, "CIFAR_ARCHIVE_MD5", md5(archive))
    return served


def test_cifar_is_downloaded_and_unpacked_once(cache: Path, cifar_site: list[str]) -> None:
    load("cifar10", **SMALL)
    load("cifar10", **SMALL)
    assert len(cifar_site) == 1
    assert sorted(path.name for path in (cache / files.CIFAR_BINARY).iterdir()) == sorted(BINARY)
    assert not (cache.parent / "outside").exists()
    assert sorted(path.name for path in cache.iterdir()) == [
        files.CIFAR_BINARY,
        "cifar-10-binary.tar.gz",
    ]


# --- the archive


def link_in_place_of_a_batch() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo(f"{files.CIFAR_BINARY}/{BINARY[0]}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no archive at all", "not a whole tar.gz archive"),
        (b"", "not a whole tar.gz archive"),
        (binary_archive()[:5000], "not a whole tar.gz archive"),
        (binary_archive(leave_out=BINARY[2]), f"lacks .*{BINARY[2]}"),
        (link_in_place_of_a_batch(), f"lacks .*{BINARY[0]}"),
    ],
)
def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path, data: bytes, message: str) -> None:
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(data)
    with pytest.raises(ValueError, match=f"cifar.tar.gz: {message}"):
        files.extract_binary(archive, tmp_path)
    assert list(tmp_path.iterdir()) == [archive]


def test_unpacking_again_mends_an_incomplete_folder(tmp_path: Path) -> None:
    archive = tmp_path / "cifar.tar.gz"
    archive.write_bytes(binary_archive())
    folder = files.extract_binary(archive, tmp_path)
    whole = (folder / BINARY[0]).read_bytes()
    (folder / BINARY[0]).unlink()
    (folder / BINARY[1]).write_bytes(b"half")
    assert files.extract_binary(archive, tmp_path) == folder
    assert (folder / BINARY[0]).read_bytes() == whole
    assert len((folder / BINARY[1]).read_bytes()) == len(whole)
