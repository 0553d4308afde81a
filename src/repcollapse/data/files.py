"""Where the official files lie: in the folder REPCOLLAPSE_DATA names, or downloaded once.

Both have one layout:

    <folder>/fashion_mnist/*.gz             the four files
    <folder>/cifar-10-batches-bin/*.bin     the binary form, or
    <folder>/cifar-10-batches-py/*          the Python form
    <folder>/planetoid_cora/ind.cora.*      the eight files that `repcollapse.graphs.cora` reads

With REPCOLLAPSE_DATA set, nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

VARIABLE = "REPCOLLAPSE_DATA"
CIFAR_BINARY, CIFAR_PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"

FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
# Of CIFAR-10's two forms the binary one is downloaded: it needs no unpickling.
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"

# md5 is what the authors publish. It guards against damage, not against forgery: that nothing of a
# forged file is run is the business of the parsers.
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR_MD5 = {
    CIFAR_BINARY: {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
    CIFAR_PYTHON: {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
}
MD5 = FASHION_MD5 | CIFAR_MD5[CIFAR_BINARY] | CIFAR_MD5[CIFAR_PYTHON]


def official(dataset: str, folder: str, url: str, md5: Mapping[str, str]) -> dict[str, Path]:
    """Return the path of each file of a data set, by name; download them first where needed.

    Parameters
    ----------
    dataset
        Its name, for error messages.
    folder
        Where its files lie, below the folder that REPCOLLAPSE_DATA names or below the cache.
    url
        Where they are downloaded from: what stands before each name.
    md5
        The names of the files, and the md5 that a download of each must have. Files that are there
        are compared with it when they are read, by :func:`verified_bytes`.

    Raises
    ------
    FileNotFoundError
        Where REPCOLLAPSE_DATA names a folder that lacks some of them, or none that exists.
    ConnectionError
        Where they must be downloaded and cannot be.
    ValueError
        Where a download has another md5; nothing of it is kept.
    ImportError
        Where they must be downloaded and pooch is not installed.
    """
    given = _given_folder()
    root = _cache() if given is None else given
    if given is None:
        for name, expected in md5.items():
            _download(dataset, url + name, expected, root / folder / name)
    elif missing := _absent(root, folder, md5):
        raise _missing(dataset, given, missing)
    return {name: root / folder / name for name in md5}


def is_here(folder: str, names: Iterable[str]) -> bool:
    """Return whether :func:`official` would find all these files without a download.

    Raises
    ------
    FileNotFoundError
        Where REPCOLLAPSE_DATA names a folder that does not exist.
    """
    root = _given_folder()
    if root is None:
        try:
            root = _cache()
        except ImportError:  # without pooch there is no cache
            return False
    return not _absent(root, folder, names)


def fashion_mnist() -> dict[str, Path]:
    """Return the path of each of the four files, by name; see :func:`official`."""
    return official("fashion_mnist", "fashion_mnist", FASHION_URL, FASHION_MD5)


def cifar10() -> Path:
    """Return the folder of the batches, in either form; download the binary one where needed.

    Raises
    ------
    OSError, ValueError, ImportError
        As :func:`official`; a ValueError as well for an archive that lacks a batch.
    """
    given = _given_folder()
    root = _cache() if given is None else given
    missing: list[Path] = []
    for form, names in CIFAR_MD5.items():
        absent = _absent(root, form, names)
        if not absent:
            return root / form
        missing += absent
    if given is not None:
        raise _missing("cifar10", given, missing, either=True)
    archive = _download("cifar10", CIFAR_URL, CIFAR_ARCHIVE_MD5, root / "cifar-10-binary.tar.gz")
    return extract_binary(archive, root)  # the archive stays: another process may be reading it


def verified_bytes(path: Path, md5: Mapping[str, str] | None = None) -> bytes:
    """Return the file's bytes after comparing their md5 with the published one.

    Parameters
    ----------
    path
        The file.
    md5
        By name, what was published; by default :data:`MD5`. A file of another name passes.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where the md5 differs: the file is damaged, or another.
    """
    data = path.read_bytes()
    expected = (MD5 if md5 is None else md5).get(path.name)
    given = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if expected is not None and given != expected:
        raise ValueError(
            f"{path}: damaged or not the official file: its md5 is {given}, expected {expected}. "
            f"Replace it, or delete it to have it downloaded again where {VARIABLE} is not set."
        )
    return data


def extract_binary(archive: Path, root: Path) -> Path:
    """Unpack the six batches of CIFAR-10's binary archive into `root`.

    Only those six members are read, by name, each into a file of our own naming: whatever else an
    archive might hold (links, absolute paths) is never touched. They are written beside and then
    renamed one by one, so that a batch is there whole or not at all, also when two processes unpack
    at once.

    Raises
    ------
    ValueError
        Where the archive is damaged or lacks a batch; nothing is then left behind.
    """
    target = root / CIFAR_BINARY
    with tempfile.TemporaryDirectory(prefix=f".{CIFAR_BINARY}-", dir=root) as beside:
        _copy_members(archive, Path(beside))
        target.mkdir(exist_ok=True)
        for path in Path(beside).iterdir():
            path.replace(target / path.name)
    return target


def _copy_members(archive: Path, folder: Path) -> None:
    wanted = {f"{CIFAR_BINARY}/{name}": name for name in CIFAR_MD5[CIFAR_BINARY]}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                source = tar.extractfile(member) if name and member.isreg() else None
                if name and source is not None:
                    with (folder / name).open("wb") as copy:
                        shutil.copyfileobj(source, copy)
                    del wanted[member.name]
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: not a whole tar.gz archive ({error})") from error
    except OSError as error:
        if error.errno is not None:  # the disk's business; gzip's own complaints carry no number
            raise
        raise ValueError(f"{archive}: not a whole tar.gz archive ({error})") from error
    if wanted:
        raise ValueError(f"{archive}: lacks {', '.join(sorted(wanted))}")


def _given_folder() -> Path | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{VARIABLE} must name a folder that exists; got {value!r}")
    return folder


def _absent(root: Path, folder: str, names: Iterable[str]) -> list[Path]:
    return [path for name in names if not (path := root / folder / name).is_file()]


def _missing(
    dataset: str, folder: Path, paths: list[Path], *, either: bool = False
) -> FileNotFoundError:
    names = ", ".join(str(path.relative_to(folder)) for path in paths)
    forms = f" (either of the folders {' and '.join(CIFAR_MD5)} suffices)" if either else ""
    return FileNotFoundError(
        f"{dataset} is not in {folder}, the folder that {VARIABLE} names: missing {names}{forms}. "
        f"Put the official files there, or unset {VARIABLE} to have them downloaded."
    )


def _pooch() -> ModuleType:
    try:
        import pooch  # an extra: only downloads need it
    except ImportError as error:
        raise ImportError(
            "downloading a data set needs pooch: pip install pooch, "
            f"or set {VARIABLE} to a folder that has the official files"
        ) from error
    return pooch


def _cache() -> Path:
    return Path(_pooch().os_cache("repcollapse"))


def _download(dataset: str, url: str, md5: str, path: Path) -> Path:
    """Return `path`, downloaded if it is not there whole. Pooch writes beside it and renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _pooch().retrieve(
            url, known_hash=f"md5:{md5}", fname=path.name, path=path.parent, progressbar=True
        )
    except OSError as error:  # what requests raises offline is one, too
        raise ConnectionError(
            f"{dataset} could not be downloaded from {url} ({error}). It is needed once: connect "
            f"and try again, or set {VARIABLE} to a folder that has the official files."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{dataset}: {url} did not deliver the official file of md5 {md5} ({error}). Nothing "
            f"was kept: try again, or set {VARIABLE} to a folder that has the official files."
        ) from error
    return path
