"""Pickles of official files: what is read, and that nothing of a pickle is ever run.

What is refused is tried on what either reader allows: that of CIFAR-10 and that of Planetoid.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_files import arrays, python_batch

from repcollapse.data.unpickle import NUMPY, Array, RefusedError, loads
from repcollapse.graphs.planetoid import ALLOWED

BOTH = {"CIFAR-10": NUMPY, "Planetoid": ALLOWED}


@pytest.fixture(params=BOTH)
def allowed(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return BOTH[request.param]


def read(data: bytes, allowed: Mapping[str, Any] = NUMPY) -> Any:
    return loads(data, source="file", format="CIFAR-10", allowed=allowed)


# --- what is read


def test_reads_what_python_2_wrote() -> None:
    images, labels = arrays(seed=0)
    batch = read(python_batch(images, labels))
    assert batch[b"labels"] == labels.tolist()
    assert np.array_equal(batch[b"data"].values, images.reshape(len(images), -1))


@pytest.mark.parametrize(("code", "order"), [("u1", b"|"), ("i4", b"<"), ("f4", b"<")])
def test_an_array_has_its_type(code: str, order: bytes) -> None:
    values = np.array([[1, 2, 250], [0, 7, 9]], dtype=f"<{code}")
    found = read(array(values, code.encode(), order))
    assert isinstance(found, Array)
    assert found.values.dtype == values.dtype
    assert np.array_equal(found.values, values)
    assert not found.values.flags.writeable


def test_an_array_that_the_pickle_never_fills_is_empty() -> None:
    begun = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tU\x01b\x87R."
    assert read(begun).values.shape == (0,)


def array(values: np.ndarray, code: bytes, order: bytes) -> bytes:
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tU\x01b\x87R(K\x01("
        + b"".join(b"K" + bytes([size]) for size in values.shape)
        + b"tcnumpy\ndtype\nU\x02"
        + code
        + b"K\x00K\x01\x87R(K\x03U\x01"
        + order
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", values.nbytes)
        + values.tobytes()
        + b"tb."
    )


# --- code, by every opcode that can run it

EXTENSION = 0xF0
WAYS = {
    "GLOBAL and REDUCE": b"cos\nmkdir\nVHARM\n\x85R",
    "STACK_GLOBAL": b"\x8c\x02os\x8c\x05mkdir\x93VHARM\n\x85R",
    "INST": b"(VHARM\nios\nmkdir\n",
    "OBJ": b"(cos\nmkdir\nVHARM\no",
    "NEWOBJ": b"cbuiltins\ntuple\ncbuiltins\nmap\n(cos\nmkdir\n(VHARM\nlt\x81\x85\x81",
    "NEWOBJ_EX": b"cbuiltins\ntuple\ncbuiltins\nmap\n(cos\nmkdir\n(VHARM\nlt}\x92\x85}\x92",
    "BUILD": b"cfunctools\npartial\ncbuiltins\nprint\n\x85R(cos\nmkdir\n(VHARM\nt}Ntb)R",
    "EXT1": b"\x82" + bytes([EXTENSION]) + b"VHARM\n\x85R",
}


@pytest.fixture
def extension() -> Iterator[None]:
    """A program may have given os.mkdir a number."""
    copyreg.add_extension("os", "mkdir", EXTENSION)
    yield
    copyreg.remove_extension("os", "mkdir", EXTENSION)
    copyreg.clear_extension_cache()


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("way", WAYS)
def test_code_is_refused_and_not_run(way: str, tmp_path: Path, allowed: Mapping[str, Any]) -> None:
    target = tmp_path / "harm"
    data = b"\x80\x04" + WAYS[way].replace(b"HARM", os.fsencode(target)) + b"."
    with pytest.raises(RefusedError, match="file: refused: the pickle asks for"):
        read(data, allowed)
    assert not target.exists()
    pickle.loads(data)  # the test is worth something: a plain loader does run it
    assert target.is_dir()


@pytest.mark.usefixtures("extension")
def test_a_number_that_was_used_before_is_refused_as_well(
    tmp_path: Path, allowed: Mapping[str, Any]
) -> None:
    first, second = (
        b"\x80\x04" + WAYS["EXT1"].replace(b"HARM", os.fsencode(tmp_path / name)) + b"."
        for name in ("before", "harm")
    )
    pickle.loads(first)  # what the number stands for is remembered from here on
    with pytest.raises(RefusedError, match=r"file: refused: the pickle asks for os\.mkdir"):
        read(second, allowed)
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_a_stand_in_is_not_remembered_under_a_number() -> None:
    copyreg.add_extension("numpy", "dtype", EXTENSION)
    try:
        asked = b"\x80\x04\x82" + bytes([EXTENSION]) + b"."
        assert read(asked) is NUMPY["numpy.dtype"]
        assert pickle.loads(asked) is np.dtype
    finally:
        copyreg.remove_extension("numpy", "dtype", EXTENSION)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize("put", [b"\x85R", b"b", b"\x81", b"\x85o"])
def test_code_within_what_is_allowed_is_refused(name: str, put: bytes, tmp_path: Path) -> None:
    target = tmp_path / "harm"
    module, _, last = name.rpartition(".")
    code = WAYS["GLOBAL and REDUCE"].replace(b"HARM", os.fsencode(target))
    data = b"\x80\x04(c" + f"{module}\n{last}\n".encode() + code + put + b"."
    with pytest.raises(RefusedError, match=r"file: refused: the pickle asks for os\.mkdir"):
        read(data, ALLOWED)
    assert not target.exists()


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


class Wrapped:
    """Harm inside the arguments of a name that is allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return np.dtype, (Harm(self.path), False, True)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_that_python_pickled_is_refused_and_not_run(
    protocol: int, tmp_path: Path, allowed: Mapping[str, Any]
) -> None:
    target = tmp_path / "harm"
    data = pickle.dumps({"data": [Harm(target)]}, protocol)
    with pytest.raises(RefusedError, match=r"file: refused: .* asks for (posix|nt)\.system"):
        read(data, allowed)
    assert not target.exists()
    pickle.loads(data)
    assert target.exists()


def test_code_in_the_arguments_of_what_is_allowed_is_not_run(
    tmp_path: Path, allowed: Mapping[str, Any]
) -> None:
    target = tmp_path / "harm"
    data = pickle.dumps(Wrapped(target), 2)
    with pytest.raises(RefusedError, match=r"file: refused: .* asks for (posix|nt)\.system"):
        read(data, allowed)
    assert not target.exists()
    with pytest.raises(TypeError):
        pickle.loads(data)
    assert target.exists()


# --- everything else that is not needed


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",  # STACK_GLOBAL
        b"(S'true'\nios\nsystem\n.",  # INST
        b"cnumpy\nload\n.",
        b"cnumpy\nndarray.tofile\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"ccopyreg\n_reconstructor\n.",
        b"cscipy.sparse.csr\ncsc_matrix\n.",
        b"cscipy.sparse._csr\ncsr_matrix\n.",
        b"ccollections\nOrderedDict\n.",
    ],
)
def test_every_other_name_is_refused(data: bytes, allowed: Mapping[str, Any]) -> None:
    with pytest.raises(RefusedError, match=r"file: refused: the pickle asks for .* needs only"):
        read(data, allowed)


def test_what_one_format_needs_the_other_does_not_get() -> None:
    data = b"c__builtin__\nlist\n."
    read(data, ALLOWED)
    with pytest.raises(RefusedError, match="a file of CIFAR-10 needs only numpy"):
        read(data, NUMPY)


@pytest.mark.parametrize("data", [b"Psomething\n.", b"K\x01Q."])
def test_outside_objects_are_refused(data: bytes, allowed: Mapping[str, Any]) -> None:
    with pytest.raises(RefusedError, match=r"file: refused: .* outside object"):
        read(data, allowed)


def long_put(number: int) -> bytes:
    return b"r" + struct.pack("<I", number)


@pytest.mark.parametrize("put", [long_put(2**24), long_put(2**31), b"p16777216\n"])
def test_a_few_bytes_cannot_ask_for_much_memory(put: bytes, allowed: Mapping[str, Any]) -> None:
    with pytest.raises(RefusedError, match=r"file: refused: the pickle asks for .* in its memo"):
        read(b"\x80\x02]" + put + b".", allowed)


@pytest.mark.parametrize("put", [long_put(5), b"p5\n", b"q\x05"])
def test_what_is_remembered_is_handed_out(put: bytes, allowed: Mapping[str, Any]) -> None:
    assert read(b"\x80\x02(]" + put + b"h\x05l.", allowed) == [[], []]


BYTES = python_batch(*arrays(seed=0))
FLOATS = array(np.arange(12, dtype="<f4").reshape(3, 4), b"f4", b"<")


@pytest.mark.parametrize(
    ("data", "old", "new"),
    [
        (BYTES, b"U\x02u1", b"U\x02O8"),  # objects in place of bytes
        (BYTES, b"K\x03U\x01|NNN", b"K\x03U\x01|NNK\x08"),  # another state of the type
        (BYTES, b"K\x03U\x01|", b"K\x03U\x01<"),  # an order that single bytes do not have
        (BYTES, b"M\x14\x00M\x00\x0c", b"M\xff\xffM\xff\xff"),  # larger than the bytes there are
        (BYTES, b"(K\x00t", b"(K\x09t"),
        (FLOATS, b"U\x02f4", b"U\x02V4"),
        (FLOATS, b"U\x02f4", b"U\x02u1"),
        (FLOATS, b"K\x03U\x01<", b"K\x03U\x01>"),
        (FLOATS, b"(K\x03K\x04t", b"(K\x03K\x05t"),
        (FLOATS, b"(K\x03K\x04t", b"(J\xfd\xff\xff\xffJ\xfc\xff\xff\xfft"),  # -3 times -4
        (FLOATS, b"(K\x03K\x04t", b"(J\xff\xff\xff\xffK\x04t"),  # what numpy would fill in
        (FLOATS, b"(K\x03K\x04t", b"(G@\x08\x00\x00\x00\x00\x00\x00K\x04t"),  # 3.0
    ],
)
def test_arrays_other_than_plain_numbers_are_refused(data: bytes, old: bytes, new: bytes) -> None:
    assert data.count(old) == 1
    with pytest.raises(RefusedError, match="file: refused"):
        read(data.replace(old, new))


def test_arrays_of_objects_as_numpy_writes_them_are_refused(allowed: Mapping[str, Any]) -> None:
    with pytest.raises(RefusedError, match="file: refused"):
        read(pickle.dumps(np.array([1, "two"], dtype=object), 2), allowed)


@pytest.mark.parametrize("state", [b"(N}S'__call__'\nK\x01st", b"}S'values'\nK\x01s"])
@pytest.mark.parametrize("name", NUMPY)
def test_the_stand_ins_cannot_be_altered(name: str, state: bytes) -> None:
    # BUILD with a pair, or a dictionary, sets attributes on the object below it.
    module, _, last = name.rpartition(".")
    with pytest.raises(ValueError, match="file: "):
        read(f"c{module}\n{last}\n".encode() + state + b"b.")
    test_reads_what_python_2_wrote()


@pytest.mark.parametrize("length", [0, 1, 10, 200, -1])
def test_a_truncated_pickle_names_the_file(length: int) -> None:
    with pytest.raises(ValueError, match=r"file: not a whole pickle of CIFAR-10") as caught:
        read(BYTES[:length])
    assert not isinstance(caught.value, RefusedError)
