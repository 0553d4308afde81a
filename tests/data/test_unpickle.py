from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from official_files import arrays, python_batch

from repcollapse.data import unpickle


def test_reads_what_python_2_wrote() -> None:
    images, labels = arrays(seed=0)
    batch = unpickle.loads(python_batch(images, labels), source="batch")
    assert batch[b"labels"] == labels.tolist()
    assert np.array_equal(batch[b"data"].numpy(), images.reshape(len(images), -1))


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "harm"
    data = pickle.dumps({"data": Harm(target)}, protocol)
    with pytest.raises(ValueError, match=r"batch: refused: the pickle asks for (posix|nt)\.system"):
        unpickle.loads(data, source="batch")
    assert not target.exists()
    pickle.loads(data)  # the test is worth something: a plain loader does run it
    assert target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",  # STACK_GLOBAL
        b"(S'true'\nios\nsystem\n.",  # INST
        b"cnumpy\nload\n.",
        b"cnumpy\nndarray.tofile\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"ccopyreg\n_reconstructor\n.",
    ],
)
def test_every_other_name_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="batch: refused: the pickle asks for"):
        unpickle.loads(data, source="batch")


@pytest.mark.parametrize("data", [b"Psomething\n.", b"K\x01Q."])
def test_outside_objects_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"batch: refused: .* outside object"):
        unpickle.loads(data, source="batch")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"U\x02u1", b"U\x02O8"),  # objects in place of bytes
        (b"K\x03U\x01|NNN", b"K\x03U\x01|NNK\x08"),  # another state of the type
        (b"M\x14\x00M\x00\x0c", b"M\xff\xffM\xff\xff"),  # a shape larger than the bytes there are
        (b"(K\x00t", b"(K\x09t"),
    ],
)
def test_arrays_other_than_plain_bytes_are_refused(old: bytes, new: bytes) -> None:
    data = python_batch(*arrays(seed=0))
    assert data.count(old) == 1
    with pytest.raises(ValueError, match="batch: refused"):
        unpickle.loads(data.replace(old, new), source="batch")


def test_the_stand_ins_cannot_be_altered() -> None:
    # BUILD with a pair sets attributes on the object below it.
    for name in (b"numpy\ndtype", b"numpy\nndarray", b"numpy.core.multiarray\n_reconstruct"):
        with pytest.raises(ValueError, match="batch: "):
            unpickle.loads(b"c" + name + b"\n(N}S'__call__'\nK\x01stb.", source="batch")
    test_reads_what_python_2_wrote()


@pytest.mark.parametrize("length", [0, 1, 10, 200, -1])
def test_a_truncated_pickle_names_the_file(length: int) -> None:
    data = python_batch(*arrays(seed=0))[:length]
    with pytest.raises(ValueError, match="folder/batch: not a whole pickle"):
        unpickle.loads(data, source="folder/batch")
