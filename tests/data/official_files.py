"""Tiny files in the official formats, for the readers' tests."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np

from repcollapse.data import files

FASHION = [name for name in files.MD5 if name.endswith(".gz")]
BINARY = [name for name in files.MD5 if name.endswith(".bin")]
PYTHON = [name.removesuffix(".bin") for name in BINARY]


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
    # A time stamp would make of equal arrays files that differ.
    return gzip.compress(header + values.astype(np.uint8).tobytes(), mtime=0)


def arrays(seed: int, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 3, 32, 32) and labels, of one batch."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return images, np.arange(count, dtype=np.uint8) % 10


def binary_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).tobytes()


def python_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as Python 2 wrote it: protocol 2, text as byte strings, numpy's names of then."""
    count, pixels = len(images), images.tobytes()

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00t"
        + text(b"b")
        + b"\x87R(K\x01(M"
        + struct.pack("<H", count)
        + b"M\x00\x0ctcnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(pixels))
        + pixels
        + b"tb"
    )
    labels_list = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"labels") + labels_list + text(b"data") + array + b"u."


def write_fashion(root: Path, count: int = 40) -> None:
    folder = root / "fashion_mnist"
    folder.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(count) % 10))


def write_cifar(root: Path, form: str) -> None:
    folder = root / form
    folder.mkdir(parents=True)
    for seed, name in enumerate(BINARY if form == files.CIFAR_BINARY else PYTHON):
        write = binary_batch if form == files.CIFAR_BINARY else python_batch
        (folder / name).write_bytes(write(*arrays(seed)))


def binary_archive(extra: dict[str, bytes] | None = None, leave_out: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        members = {
            f"{files.CIFAR_BINARY}/{name}": binary_batch(*arrays(seed))
            for seed, name in enumerate(BINARY)
            if name != leave_out
        }
        for name, data in {**members, **(extra or {})}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
