"""Fashion-MNIST and CIFAR-10, read from the files their authors publish."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from repcollapse import _checks
from repcollapse.data import files, unpickle
from repcollapse.data.dataset import Dataset, Split, stratified_order, stream

Arrays = tuple[np.ndarray, np.ndarray]  # uint8 images (N, C, H, W) and uint8 labels (N,)

FASHION_CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR_SHAPE = (3, 32, 32)


def load_fashion_mnist(seed: int, n_train: int, n_test: int) -> Dataset:
    """Return Fashion-MNIST, or as much of it as is asked for.

    Source: Xiao, Rasul and Vollgraf (2017), "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms", arXiv:1708.07747.
    """
    paths = files.fashion_mnist()

    def read(part: str) -> Arrays:
        images = read_idx(paths[f"{part}-images-idx3-ubyte.gz"], dimensions=3)
        path = paths[f"{part}-labels-idx1-ubyte.gz"]
        labels = _checked_labels(path, read_idx(path, dimensions=1))
        if len(images) != len(labels):
            raise ValueError(
                f"{path}: must hold one label an image; "
                f"got {len(images)} images and {len(labels)} labels"
            )
        return images[:, None], labels

    train = _choose(read("train"), "n_train", n_train, stream(seed, "fashion_mnist train"))
    test = _choose(read("t10k"), "n_test", n_test, stream(seed, "fashion_mnist test"))
    return Dataset("fashion_mnist", train, test, FASHION_CLASSES, views="moved")


def load_cifar10(seed: int, n_train: int, n_test: int) -> Dataset:
    """Return CIFAR-10, or as much of it as is asked for.

    Source: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images".
    """
    folder = files.cifar10()
    read = read_cifar_binary if folder.name == files.CIFAR_BINARY else read_cifar_pickle
    suffix = ".bin" if folder.name == files.CIFAR_BINARY else ""

    def read_all(names: list[str]) -> Arrays:
        batches = [read(folder / f"{name}{suffix}") for name in names]
        images, labels = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    batches = [f"data_batch_{number}" for number in range(1, 6)]
    train = _choose(read_all(batches), "n_train", n_train, stream(seed, "cifar10 train"))
    test = _choose(read_all(["test_batch"]), "n_test", n_test, stream(seed, "cifar10 test"))
    return Dataset("cifar10", train, test, CIFAR_CLASSES, views="augmented")


def read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """Return the unsigned bytes of one gzipped IDX file.

    The file holds, big-endian: the magic number 0x0000080d with d the number of dimensions (08 says
    unsigned bytes), d sizes of four bytes, then the values.

    Parameters
    ----------
    path : Path
        The .gz file, its hash checked where it is an official one.
    dimensions : int
        How many the file must have: 3 for images, 1 for labels.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it is damaged; the message names the file and what is wrong.
    """
    try:
        data = gzip.decompress(files.verified_bytes(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    header = 4 * (1 + dimensions)
    magic = 0x0800 + dimensions
    if len(data) < header or struct.unpack(">I", data[:4])[0] != magic:
        raise ValueError(
            f"{path}: an IDX file of {dimensions} dimension(s) must begin with "
            f"{magic:#010x}; got 0x{data[:4].hex()}"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise ValueError(
            f"{path}: its header announces shape {shape}, {expected} bytes in all; "
            f"got {len(data)} bytes"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_cifar_binary(path: Path) -> Arrays:
    """Return images and labels of one batch in CIFAR-10's binary form.

    Each record is one byte of label and 3072 bytes of image: red, green, blue, each by rows.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it is damaged; the message names the file and what is wrong.
    """
    data = files.verified_bytes(path)
    record = 1 + int(np.prod(CIFAR_SHAPE))
    if not data or len(data) % record:
        raise ValueError(
            f"{path}: must hold whole records of {record} bytes; got {len(data)} bytes"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    return _checked_batch(path, records[:, 1:], records[:, 0])


def read_cifar_pickle(path: Path) -> Arrays:
    """Return images and labels of one batch in CIFAR-10's Python form.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it is damaged, or asks for more than a batch needs: then it is a
        :class:`~repcollapse.data.unpickle.RefusedError`, and nothing of it has been run.
    """
    data = files.verified_bytes(path)
    batch = unpickle.loads(data, source=str(path), format="CIFAR-10", allowed=unpickle.NUMPY)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError(f"{path}: a CIFAR-10 batch must be a dict with b'data' and b'labels'")
    pixels, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{path}: b'labels' must be a list of integers")
    if not isinstance(pixels, unpickle.Array) or pixels.values.dtype != np.uint8:
        raise ValueError(f"{path}: b'data' must be an array of unsigned bytes, one row an image")
    return _checked_batch(path, pixels.values, np.array(labels))


def _checked_batch(path: Path, pixels: np.ndarray, labels: np.ndarray) -> Arrays:
    if pixels.shape != (len(labels), int(np.prod(CIFAR_SHAPE))):
        raise ValueError(
            f"{path}: must hold 3072 bytes and one label an image; "
            f"got pixels of shape {pixels.shape} and {len(labels)} labels"
        )
    return pixels.reshape(-1, *CIFAR_SHAPE), _checked_labels(path, labels)


def _checked_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{path}: labels must be 0 to 9, at least one")
    return labels.astype(np.uint8)


def _choose(arrays: Arrays, argument: str, size: int, generator: torch.Generator) -> Split:
    """Return `size` images of one official half, so that train never meets test."""
    images, labels = arrays[0], torch.from_numpy(arrays[1].astype(np.int64))
    _checks.integer(argument, size, at_least=2, at_most=len(images))
    chosen = stratified_order(labels, generator)[:size]
    return Split(torch.from_numpy(images[chosen.numpy()]).float().div_(255), labels[chosen])
