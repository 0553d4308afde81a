"""Cora, from the files of Planetoid: eight, which `repcollapse.data.files` finds or downloads."""

from __future__ import annotations

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
        Where a file is damaged, or asks for more than such files need; nothing of it is then run.
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
    paths = files.official("cora", FOLDER, URL, MD5)
    parts = {
        name.removeprefix("ind.cora."): files.verified_bytes(path, MD5)
        for name, path in paths.items()
    }
    return planetoid.read(parts, source="cora")


def cora_is_here() -> bool:
    """Return whether :func:`cora` would find its files without a download.

    Raises
    ------
    FileNotFoundError
        Where REPCOLLAPSE_DATA is set and names no folder that exists.
    """
    return files.is_here(FOLDER, MD5)
