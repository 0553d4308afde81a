"""The readers of the official files: on tiny files always, on the real ones where they are."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import (
    BINARY,
    PYTHON,
    arrays,
    binary_batch,
    idx,
    python_batch,
    write_cifar,
    write_fashion,
)

from repcollapse.data import files, load
from repcollapse.data.official import read_cifar_binary, read_cifar_pickle, read_idx
from repcollapse.data.unpickle import RefusedError

GIVEN = os.environ.get(files.VARIABLE)
real_files = pytest.mark.skipif(
    not GIVEN, reason=f"{files.VARIABLE} does not name a folder with the official files"
)


# --- tiny files


def test_idx_round_trip(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images.gz"
    path.write_bytes(idx(values))
    assert np.array_equal(read_idx(path, dimensions=3), values)


WHOLE = idx(np.ones((5, 4, 4)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "must begin with 0x00000803; got 0x$", id="empty"),
        pytest.param(b"no gzip file", "not a whole gzip file", id="no gzip"),
        pytest.param(WHOLE[:-9], "not a whole gzip file", id="cut short"),
        pytest.param(
            WHOLE[:20] + b"\xff\xff\xff" + WHOLE[23:], "not a whole gzip file", id="damaged inside"
        ),
        pytest.param(
            gzip.compress(b"abc", mtime=0),
            "an IDX file of 3 dimension.* must begin with 0x00000803",
            id="too short for a header",
        ),
        pytest.param(
            idx(np.ones(5)), "must begin with 0x00000803; got 0x00000801", id="of another dimension"
        ),
        pytest.param(
            gzip.compress(gzip.decompress(WHOLE)[:-1], mtime=0),
            r"shape \(5, 4, 4\), 96 bytes.*got 95 bytes",
            id="a byte missing",
        ),
        pytest.param(
            gzip.compress(gzip.decompress(WHOLE) + b"x", mtime=0),
            "96 bytes in all; got 97 bytes",
            id="a byte too many",
        ),
        pytest.param(
            gzip.compress(struct.pack(">4I", 0x0803, *[2**32 - 1] * 3), mtime=0),
            "got 16 bytes",
            id="sizes without data",
        ),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"images.gz: .*{message}"):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "must hold whole records of 3073 bytes; got 0 bytes", id="empty"),
        pytest.param(
            binary_batch(*arrays(0))[:-1],
            "whole records of 3073 bytes; got 61459 bytes",
            id="a byte missing",
        ),
        pytest.param(b"\x0a" + bytes(3072), "labels must be 0 to 9", id="label 10"),
    ],
)
def test_damaged_binary_batches_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "batch.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"batch.bin: .*{message}"):
        read_cifar_binary(path)


IMAGES, LABELS = arrays(0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not a whole pickle", id="empty"),
        pytest.param(python_batch(IMAGES, LABELS)[:-100], "not a whole pickle", id="cut short"),
        pytest.param(pickle.dumps([1]), "must be a dict", id="no dict"),
        pytest.param(
            pickle.dumps({b"data": 1}, 2), "refused", id="written by Python 3"
        ),  # how Python 3 writes bytes in protocol 2
        pytest.param(
            b"}(U\x04dataK\x01U\x06labels]u.", "b'data' must be an array", id="pixels are no array"
        ),
        pytest.param(
            b"}(U\x04dataK\x01U\x06labelsK\x01u.",
            "b'labels' must be a list of integers",
            id="labels are no list",
        ),
        pytest.param(
            python_batch(IMAGES, LABELS[:-1]),
            "got pixels of shape .20, 3072. and 19 labels",
            id="a label missing",
        ),
        pytest.param(python_batch(IMAGES, LABELS + 1), "labels must be 0 to 9", id="label 10"),
    ],
)
def test_damaged_python_batches_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "batch"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"batch: .*{message}"):
        read_cifar_pickle(path)


def test_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    data = (
        python_batch(IMAGES, LABELS).replace(b"U\x02u1", b"U\x02i4").replace(b"U\x01|", b"U\x01<")
    )
    path.write_bytes(data.replace(b"M\x14\x00M\x00\x0c", b"K\x05M\x00\x0c"))
    with pytest.raises(ValueError, match="b'data' must be an array of unsigned bytes"):
        read_cifar_pickle(path)


@pytest.mark.parametrize("forged", PYTHON)
def test_a_batch_that_would_run_code_does_not(root: Path, forged: str) -> None:
    write_cifar(root, files.CIFAR_PYTHON)
    path, target = root / files.CIFAR_PYTHON / forged, root / "harm"
    code = b"cos\nmkdir\nV" + os.fsencode(target) + b"\n\x85R"
    path.write_bytes(path.read_bytes()[:-1] + code + b".")
    with pytest.raises(RefusedError, match=rf"{forged}: refused: .* asks for os\.mkdir"):
        load("cifar10", n_train=20, n_test=10)
    assert not target.exists()
    pickle.loads(b"\x80\x02" + code + b".")  # the same, as a plain loader reads it
    assert target.is_dir()


def test_both_forms_of_cifar_are_one_data_set(root: Path) -> None:
    write_cifar(root, files.CIFAR_PYTHON)
    python = load("cifar10", seed=3, n_train=30, n_test=10)
    write_cifar(root, files.CIFAR_BINARY)
    binary = load("cifar10", seed=3, n_train=30, n_test=10)
    for part in ("train", "test"):
        a, b = getattr(python, part), getattr(binary, part)
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_the_official_halves_stay_apart(root: Path) -> None:
    write_cifar(root, files.CIFAR_BINARY)
    dataset = load("cifar10", n_train=100, n_test=20)
    official = np.concatenate([arrays(seed)[0] for seed in range(5)])
    ours = dataset.train.images.mul(255).round().to(torch.uint8).numpy()
    assert sorted(x.tobytes() for x in ours) == sorted(x.tobytes() for x in official)
    # Each image keeps its own label.
    label_of = {
        image.tobytes(): label
        for seed in range(6)
        for image, label in zip(*arrays(seed), strict=True)
    }
    assert [label_of[x.tobytes()] for x in ours] == dataset.train.labels.tolist()
    held_out = dataset.test.images.mul(255).round().to(torch.uint8).numpy()
    assert sorted(x.tobytes() for x in held_out) == sorted(x.tobytes() for x in arrays(5)[0])


def test_images_and_labels_of_fashion_must_be_as_many(root: Path) -> None:
    write_fashion(root)
    path = root / "fashion_mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(idx(np.arange(39) % 10))
    with pytest.raises(ValueError, match=r"train-labels.*: .*40 images and 39 labels"):
        load("fashion_mnist", n_train=2, n_test=2)
    path.write_bytes(idx(np.arange(40)))
    with pytest.raises(ValueError, match=r"train-labels.*: labels must be 0 to 9"):
        load("fashion_mnist", n_train=2, n_test=2)


# --- the real files


@real_files
def test_real_fashion_mnist() -> None:
    dataset = load("fashion_mnist", n_train=60_000, n_test=10_000)
    assert dataset.train.labels.bincount().tolist() == [6000] * 10
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    # Mean and standard deviation of the train pixels, as widely published.
    assert dataset.train.images.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert dataset.train.images.std().item() == pytest.approx(0.3530, abs=1e-4)


@real_files
def test_real_cifar10() -> None:
    dataset = load("cifar10", n_train=50_000, n_test=10_000)
    assert dataset.train.labels.bincount().tolist() == [5000] * 10
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    mean = dataset.train.images.mean(dim=(0, 2, 3))
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


@real_files
@pytest.mark.parametrize(("pickled", "binary"), list(zip(PYTHON, BINARY, strict=True)))
def test_the_real_forms_hold_the_same_bytes(pickled: str, binary: str) -> None:
    path = Path(str(GIVEN)) / files.CIFAR_PYTHON / pickled
    if not path.is_file():
        pytest.skip(f"{files.VARIABLE} has no {files.CIFAR_PYTHON}/{pickled}")
    images, labels = read_cifar_pickle(path)
    md5 = hashlib.md5(binary_batch(images, labels), usedforsecurity=False).hexdigest()
    assert md5 == files.MD5[binary]
