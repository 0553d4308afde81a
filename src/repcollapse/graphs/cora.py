"""Cora, from the files of Planetoid: in the folder REPCOLLAPSE_DATA names, or downloaded once.

Both have one layout, <folder>/planetoid_cora/ind.cora.*, beside those of `repcollapse.data.files`.
With REPCOLLAPSE_DATA set, nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from repcollapse.data import files
from repcollapse.graphs import planetoid
from repcollapse.graphs.graph import Graph

FOLDER = "planetoid_cora"
URL = "https://raw.githubusercontent.com/kimiyoung/planetoid/master/data/"
# The authors publish no sums; these are of their files, and guard against damage. That a reader
# cannot be harmed by a forged file is the business of `planetoid`, which runs nothing it reads.
MD5 = {
    "ind.cora.x": "190831eee19d8f330d89d94b40a65c5a",
    "ind.cora.y": "78344284e3ff7fd24eb9c307d51351eb",
    "ind.cora.tx": "b29c36916768e1d2f55391c1aa9317ac",
    "ind.cora.ty": "48bf43f54fa5b86089a4bd0299795f10",
    "ind.cora.allx": "c9083193a57057dd1238321e140194d7",
    "ind.cora.ally": "125d70817fe1fdbfdcad991995e81579",
    "ind.cora.graph": "b37c419cec179f45834467630c278e4c",
    "ind.cora.test.index": "9b822cae1d01f41e8bf8782e20367c0e",
}


def cora() -> Graph:
    """Return Cora: 2,708 papers with 1,433 words, 5,278 citations, seven subjects.

    With the split of Planetoid: 140 papers are labelled, 500 are for validation, 1,000 for the
    test. Features are which words occur, divided by their number. The eight files, 0.6 MB, are
    downloaded once, with pooch, unless REPCOLLAPSE_DATA names a folder that has them.

    Raises
    ------
    ValueError
        Where a file is damaged.
    FileNotFoundError
        Where REPCOLLAPSE_DATA is set and the folder lacks the files.
    ConnectionError
        Where the files must be downloaded and cannot be.
    ImportError
        Where they must be downloaded and pooch is not installed.

    References
    ----------
    Sen et al. 2008; Yang, Cohen & Salakhutdinov 2016 for the files and the split.
    """
    parts = {name.removeprefix("ind.cora."): _verified(path) for name, path in _paths().items()}
    return planetoid.read(parts, source="cora")


def cora_is_here() -> bool:
    """Return whether :func:`cora` would find its files without a download."""
    given = files._given_folder()
    if given is None:
        try:
            given = files._cache()
        except ImportError:  # without pooch there is no cache
            return False
    return all((given / FOLDER / name).is_file() for name in MD5)


def _paths() -> dict[str, Path]:
    given = files._given_folder()
    folder = (files._cache() if given is None else given) / FOLDER
    paths = {name: folder / name for name in MD5}
    if given is None:
        return {
            name: files._download("cora", URL + name, MD5[name], path)
            for name, path in paths.items()
        }
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise files._missing("cora", given, missing)
    return paths


def _verified(path: Path) -> bytes:
    data = path.read_bytes()
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != MD5.get(path.name, found):
        raise ValueError(
            f"{path}: damaged or not the official file: its md5 is {found}, expected "
            f"{MD5[path.name]}. Replace it, or delete it to have it downloaded again where "
            f"{files.VARIABLE} is not set."
        )
    return data
