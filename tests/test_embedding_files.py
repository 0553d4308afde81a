"""Files of embeddings: every format, every damage, nothing ever unpickled; and written whole."""

from __future__ import annotations

import os
import pickle
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from repcollapse import files
from repcollapse.files import (
    READERS,
    InputError,
    left_out,
    open_rows,
    read_codes,
    require_file,
    show,
    write_whole,
)

Z = np.random.default_rng(0).normal(size=(37, 5)).astype(np.float32)
FORBIDDEN = Path(tempfile.gettempdir()) / "repcollapse-test-code-was-run"


def save_parquet_lists(path: Path, z: np.ndarray) -> None:
    pd.DataFrame({"z": list(z)}).to_parquet(path, row_group_size=10)


WRITERS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "a.npy": np.save,
    "fortran.npy": lambda path, z: np.save(path, np.asfortranarray(z)),
    "big-endian.npy": lambda path, z: np.save(path, z.astype(">f4")),
    "stored.npz": lambda path, z: np.savez(path, z=z),
    "packed.npz": lambda path, z: np.savez_compressed(path, z=z),
    "a.safetensors": lambda path, z: safetensors.torch.save_file({"z": torch.tensor(z)}, path),
    "a.pt": lambda path, z: torch.save(torch.tensor(z), path),
    "named.pth": lambda path, z: torch.save({"z": torch.tensor(z), "epoch": 3}, path),
    "old.pt": lambda path, z: torch.save(
        torch.tensor(z), path, _use_new_zipfile_serialization=False
    ),
    "columns.parquet": lambda path, z: (
        pd.DataFrame(z).rename(columns=str).to_parquet(path, row_group_size=10)
    ),
    "lists.parquet": save_parquet_lists,
    "head.csv": lambda path, z: pd.DataFrame(z).to_csv(path, index=False, header=list("abcde")),
    "counted.csv": lambda path, z: pd.DataFrame(z).to_csv(path, index=False),
    "indexed.csv": lambda path, z: pd.DataFrame(z).to_csv(path),
    "bare.csv": lambda path, z: pd.DataFrame(z).to_csv(path, index=False, header=False),
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    WRITERS[request.param](path, Z)
    return path


def test_every_format_gives_the_same_rows(written: Path) -> None:
    rows = open_rows(written)
    assert tuple(rows.shape) == Z.shape
    np.testing.assert_allclose(np.asarray(rows[:]), Z, rtol=1e-6)
    for part in (slice(0, 1), slice(8, 23), slice(30, 99), slice(20, 20), slice(3, 30, 4)):
        np.testing.assert_allclose(np.asarray(rows[part]), Z[part], rtol=1e-6)


def test_every_ending_is_tried() -> None:
    assert {Path(name).suffix for name in WRITERS} == set(READERS)


@pytest.mark.parametrize("name", ["a.npy", "stored.npz"])
def test_what_is_stored_plainly_is_mapped(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, Z)
    assert isinstance(open_rows(tmp_path / name), np.memmap)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions_are_kept(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "z.npy", Z.astype(dtype))
    assert open_rows(tmp_path / "z.npy")[:2].dtype == dtype


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    torch.save(torch.tensor(Z).bfloat16(), tmp_path / "z.pt")
    assert open_rows(tmp_path / "z.pt")[:].dtype == np.float32


def test_one_of_several_arrays_is_named(tmp_path: Path) -> None:
    path = tmp_path / "all.npz"
    np.savez(path, z=Z, h=2 * Z, views=np.stack([Z, Z]), labels=np.arange(37) % 3)
    assert open_rows(f"{path}::h")[:1][0, 0] == 2 * Z[0, 0]
    assert tuple(open_rows(path, dimensions=3).shape) == (2, 37, 5)  # the only one of that shape
    codes, names = read_codes(path, 37, what="labels")
    assert codes.tolist() == [row % 3 for row in range(37)]
    assert names == ["0", "1", "2"]
    with pytest.raises(InputError, match=r"all.npz must hold one array of shape \(N, D\).*z \(37"):
        open_rows(path)
    with pytest.raises(InputError, match=r"has no array 'y'; it holds z \(37, 5\), h"):
        open_rows(f"{path}::y")


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("l.npy", np.save),
        ("l.csv", lambda path, values: pd.Series(values, name="l").to_csv(path, index=False)),
        ("l.parquet", lambda path, values: pd.DataFrame({"l": values}).to_parquet(path)),
    ],
)
@pytest.mark.parametrize("values", [["cat", "<b>", "cat"], [7, -1, 7]])
def test_labels_are_integers_or_strings(
    tmp_path: Path, name: str, save: Callable[..., None], values: list[object]
) -> None:
    save(tmp_path / name, np.asarray(values))
    codes, names = read_codes(tmp_path / name, 3, what="labels")
    assert [names[code] for code in codes] == [str(value) for value in values]


def test_labels_of_another_length_or_kind_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.arange(4))
    with pytest.raises(InputError, match=r"labels must have shape \(5,\).*has \(4,\)"):
        read_codes(tmp_path / "l.npy", 5, what="labels")
    np.save(tmp_path / "f.npy", np.linspace(0, 1, 5))
    with pytest.raises(InputError, match=r"groups must be integers or strings.*float64: .*astype"):
        read_codes(tmp_path / "f.npy", 5, what="groups")


# --- what pandas writes beside the numbers

NAMES = [f"img{row}" for row in range(len(Z))]
NUMBERED, NAMED = pd.DataFrame(Z), pd.DataFrame(Z, columns=[f"f{k}" for k in range(5)])
WORDS = pd.DataFrame(Z, columns=[*"abcde"])
FROM_ONE = pd.DataFrame(Z, columns=[*"12345"])
PADDED = pd.DataFrame(Z, columns=[f"emb_{k:02d}" for k in range(1, 6)])


def again(path: Path, frame: pd.DataFrame) -> None:
    """Write what was written with its index and read without."""
    frame.to_csv(path)
    pd.read_csv(path).to_csv(path, index=False)


NAMELESS = "its first column, which has no name"
INDEXED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "counted.csv": (lambda path: NUMBERED.to_csv(path, index=False), ()),
    "from-1.csv": (
        lambda path: NUMBERED.rename(columns=lambda k: k + 1).to_csv(path, index=False),
        (),
    ),
    "default.csv": (NUMBERED.to_csv, (NAMELESS,)),
    "named.csv": (NAMED.to_csv, (NAMELESS,)),
    "images.csv": (NUMBERED.set_axis(NAMES).to_csv, (NAMELESS,)),
    "again.csv": (lambda path: again(path, NUMBERED), (NAMELESS,)),
    "two.csv": (NUMBERED.set_axis([NAMES, NAMES]).to_csv, ("its first 2 columns",)),
    "default.parquet": (NAMED.to_parquet, ()),
    "custom.parquet": (
        NAMED.set_axis(np.arange(len(Z))[::-1]).to_parquet,
        ("its index, column '__index_level_0__'",),
    ),
    "images.parquet": (
        NAMED.set_axis(pd.Index(NAMES, name="image")).to_parquet,
        ("its index, column 'image'",),
    ),
    "lists.parquet": (
        pd.DataFrame({"z": list(Z)}, index=pd.Index(NAMES)).to_parquet,
        ("its index, column '__index_level_0__'",),
    ),
}


@pytest.mark.parametrize("name", INDEXED)
def test_an_index_of_pandas_is_left_out_and_said(tmp_path: Path, name: str) -> None:
    write, said = INDEXED[name]
    write(tmp_path / name)
    rows = open_rows(tmp_path / name)
    assert tuple(rows.shape) == Z.shape
    np.testing.assert_allclose(np.asarray(rows[:]), Z, rtol=1e-6)
    assert left_out(rows) == said


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (WORDS.assign(image=NAMES), "its column 'image' must hold numbers; row 0 holds 'img0'"),
        (
            NUMBERED.assign(label=1),
            "its column 'label' has no number in its name, and the others do, 0 and so on",
        ),
        (NUMBERED.assign(image=NAMES), "its column 'image' has no number in its name, and"),
        (
            NAMED.assign(id=range(len(Z))),
            "its column 'id' has no number in its name, and the others do, f0",
        ),
        (NAMED.iloc[:, [0, 1, 4, 2, 3]].assign(id=1), "its column 'id' has no number"),
        (FROM_ONE.assign(id=1), "its column 'id' has no number in its name, and the others do, 1"),
        (PADDED.assign(image_id=1), "its column 'image_id' has no number in its name, and"),
    ],
)
def test_a_column_that_is_no_part_of_it_is_refused_by_name(
    tmp_path: Path, ending: str, frame: pd.DataFrame, said: str
) -> None:
    path = tmp_path / f"z{ending}"
    frame = frame.rename(columns=str)
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
    with pytest.raises(InputError, match=f"{said}.* drop .* and write the file again"):
        open_rows(path)


@pytest.mark.parametrize(
    "names",
    [
        [*("a0", "a1", "b0", "b1", "b2")],  # two families
        [*("x", "y", "z", "pc1", "pc2")],  # more of other names than numbered ones
        [*("a", "b", "c", "d", "e")],
        [*("f3", "f9", "f1", "g", "h4")],  # numbered, but not in turn
        [*("x1", "x2", "x3", "x4", "y1")],  # the only one of its family, and numbered
        [*("h0_0", "h0_1", "h1_0", "h1_1", "h2_0")],  # by layer and unit
        [*("2020", "2021", "2022", "2023", "2024")],
    ],
)
def test_columns_of_other_names_are_all_read(tmp_path: Path, names: list[str]) -> None:
    pd.DataFrame(Z, columns=names).to_csv(tmp_path / "z.csv", index=False)
    assert open_rows(tmp_path / "z.csv").shape == Z.shape


def test_a_column_of_lists_beside_others_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": range(len(Z)), "embedding": list(Z)})
    frame.to_parquet(tmp_path / "z.parquet")
    with pytest.raises(InputError, match=r"'embedding' holds lists.*frame\[\['embedding'\]\]"):
        open_rows(tmp_path / "z.parquet")
    frame[["embedding"]].to_parquet(tmp_path / "z.parquet")
    assert open_rows(tmp_path / "z.parquet").shape == Z.shape


@pytest.mark.parametrize(("mark", "called"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(tmp_path: Path, mark: str, called: str) -> None:
    for header in (True, False):
        for decimal in ".,":
            frame = pd.DataFrame(Z)
            frame.to_csv(tmp_path / "z.csv", index=False, header=header, sep=mark, decimal=decimal)
            with pytest.raises(InputError, match=f"separated by {called}: write it with commas"):
                open_rows(tmp_path / "z.csv")


def test_names_with_semicolons_are_labels(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("label\ncat;pet\ndog;pet\ncat;pet\n")
    assert read_codes(tmp_path / "y.csv", 3, what="labels")[1] == ["cat;pet", "dog;pet"]


def test_a_named_index_in_csv_is_a_column_like_others_and_refused(tmp_path: Path) -> None:
    NUMBERED.rename_axis("id").to_csv(tmp_path / "z.csv")
    with pytest.raises(InputError, match="its column 'id' has no number"):
        open_rows(tmp_path / "z.csv")


SERIES: dict[str, Callable[[pd.Series, Path], object]] = {
    "parquet": lambda values, path: (
        values.set_axis(10 + values.index[::-1]).to_frame("label").to_parquet(path)
    ),
    "header": lambda values, path: values.to_csv(path, index=False),
    "index": lambda values, path: values.to_csv(path),
    "bare": lambda values, path: values.to_csv(path, index=False, header=False),
    "title": lambda values, path: values.rename("label").to_csv(path),
}


@pytest.mark.parametrize("how", SERIES)
@pytest.mark.parametrize("values", [[0, 1, 2, 0], [5, 1, 5], ["cat", "dog", "cat"], [0]])
def test_labels_that_pandas_wrote_are_all_read_and_nothing_else(
    tmp_path: Path, how: str, values: list[object]
) -> None:
    path = tmp_path / ("y.parquet" if how == "parquet" else "y.csv")
    SERIES[how](pd.Series(values), path)
    codes, names = read_codes(path, len(values), what="labels")
    assert [names[code] for code in codes] == [str(value) for value in values]


def test_labels_beside_other_columns_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"row": [3, 4], "label": [0, 1]}).to_csv(tmp_path / "y.csv", index=False)
    with pytest.raises(InputError, match=r"has \(2, 2\): keep the column of them alone"):
        read_codes(tmp_path / "y.csv", 2, what="labels")


def test_a_first_zero_in_another_format_is_a_label(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.arange(4))
    with pytest.raises(InputError, match=r"must have shape \(3,\)"):
        read_codes(tmp_path / "y.npy", 3, what="labels")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1,2\n3,4\n", 2),
        ("0,1\n0.5,0.25\n", 1),
        ("\n\n1,2\n0.5,0.25\n", 1),
        ("1,1\n0.5,0.25\n", 2),
        ("-1,2\n0.5,0.25\n", 2),
        ('"","V1","V2"\n"1",0.5,2\n', 1),
        ("a, b\r\n1, 2\r\n", 1),
    ],
)
def test_a_first_line_of_numbers_may_be_names(tmp_path: Path, text: str, rows: int) -> None:
    (tmp_path / "z.csv").write_bytes(text.encode())
    assert open_rows(tmp_path / "z.csv").shape == (rows, 2)


# --- CSV by blocks


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of which no more than seven rows are in memory, the index included."""
    monkeypatch.setattr(files, "BLOCK", 7 * 6 * 8)
    NUMBERED.to_csv(tmp_path / "z.csv")
    return tmp_path / "z.csv"


def test_csv_is_read_by_blocks_of_lines(blocks: Path) -> None:
    rows = open_rows(blocks)
    assert tuple(rows.shape) == Z.shape
    for part in (slice(30, 99), slice(0, 1), slice(5, 23), slice(3, 30, 4), slice(20, 20)):
        np.testing.assert_allclose(rows[part], Z[part], rtol=1e-6)
    held = rows.rows.held[1]  # type: ignore[attr-defined]
    assert len(held) <= 7


def test_a_line_of_csv_is_found_in_whichever_block_it_is(blocks: Path) -> None:
    lines = blocks.read_text().splitlines()
    for row in (3, 20, 36):
        changed = list(lines)
        changed[row + 1] = f"{row},1,2,three,4,5"
        blocks.write_text("\n".join(changed))
        with pytest.raises(InputError, match=f"column '2' must hold numbers; row {row} holds 'th"):
            open_rows(blocks)
        changed[row + 1] = f"{row},1,2,,4,5"
        blocks.write_text("\n".join(changed))
        with pytest.raises(InputError, match=f"column '2' must hold no empty value.*row {row} "):
            open_rows(blocks)


def test_a_csv_that_shrinks_while_it_is_read_is_said(blocks: Path) -> None:
    rows = open_rows(blocks)
    assert len(rows[:]) == len(Z)  # the next reading begins anew
    blocks.write_text("\n".join(blocks.read_text().splitlines()[:9]))
    with pytest.raises(InputError, match=r"z.csv: it became shorter while it was read"):
        rows[:]


# --- bad input


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (FORBIDDEN,)


def malicious_npz() -> bytes:
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w") as archive, archive.open("z.npy", "w") as member:
            np.lib.format.write_array(member, np.array([Malicious()], dtype=object))
        file.seek(0)
        return file.read()


def saved(write: Callable[..., object], *arguments: object) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.npy"
        write(path, *arguments)
        return path.read_bytes()


def save_pt(path: Path, value: object) -> None:
    torch.save(value, path)


BAD = {
    "nothing.npy": (b"", "is empty, 0 bytes"),
    "text.npy": (b"1,2,3\n", "cannot be read as .npy"),
    "pickle.npy": (pickle.dumps(Malicious()), "cannot be read as .npy"),
    "objects.npy": (saved(np.save, np.array([Malicious()], dtype=object)), "never loaded"),
    "short.npy": (saved(np.save, Z)[:-1], "promises 740 bytes.*there are 739"),
    "huge.npy": (header("(10**9, 10**9)"), "cannot be read as .npy"),
    "vast.npy": (header("(1000000000000, 1000000000)"), "promises 4000000000000000000000 bytes"),
    "negative.npy": (header("(-1, 5)"), "promises"),
    "empty.npy": (
        saved(np.save, Z[:0]),
        r"must have shape \(N, D\).*got \(0, 5\): it holds nothing",
    ),
    "vector.npy": (saved(np.save, Z[:, 0]), r"must have shape \(N, D\).*got \(37,\): .*z\[None"),
    "views.npy": (
        saved(np.save, Z[None]),
        r"must have shape \(N, D\).*got \(1, 37, 5\): .*--views",
    ),
    "whole.npy": (saved(np.save, Z.astype(int)), "numbers; got int64: .* z.astype"),
    "small.npy": (saved(np.save, Z.astype("i1")), "numbers; got int8: .* scale them back"),
    "pictures.npy": (saved(np.save, Z[None, None]), r"got \(1, 1, 37, 5\): .* z.mean\(axis=\(2, 3"),
    "complex.npy": (saved(np.save, Z.astype(complex)), "floating-point numbers; got complex128"),
    "records.npy": (saved(np.save, np.zeros((2, 2), "f4,f4")), "must hold floating-point numbers"),
    "objects.npz": (malicious_npz(), "never loaded"),
    "no.npz": (b"PK\x03\x04", "cannot be read as .npz"),
    "no.safetensors": (b"\xff" * 40, "cannot be read as .safetensors"),
    "long.safetensors": ((2**60).to_bytes(8, "little") + b"{}", "cannot be read as .safetensors"),
    "pickle.pt": (pickle.dumps(Malicious()), "cannot be read as .pt"),
    "new.pt": (
        saved(save_pt, {"z": Malicious()}),
        "is never unpickled: save the tensor",
    ),
    "list.pt": (saved(save_pt, [torch.ones(2, 3)]), "it holds a list: save one tensor"),
    "empty.pt": (saved(save_pt, {"epoch": 3}), "it holds none"),
    "no.parquet": (b"PAR1PAR1", "cannot be read as .parquet"),
    "words.csv": (b"a,b\n1,2\n3,four\n", "column 'b' must hold numbers; row 1 holds 'four'"),
    "gap.csv": (b"a,b\n1,2\n3,\n", "column 'b' must hold no empty value or NaN; row 1 does"),
    "first.csv": (b",2.5,3\n1,2,3\n", "column 0 must hold no empty value or NaN; row 0 does"),
    "names.csv": (b"a,b\n", r"got \(0, 2\): it holds nothing"),
    "wide.csv": (b"a,b\n1,2,3\n", "first line has 2 names and its second 3 values: name every"),
    "ragged.csv": (b"1,2\n3,4\n5,6,7\n", "cannot be read as .csv"),
    "nothing.csv": (b"", "is empty, 0 bytes"),
    "binary.csv": (bytes(range(256)), "cannot be read as .csv"),
    "unknown.txt": (b"1 2 3", "must end in one of .npy, .npz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    FORBIDDEN.unlink(missing_ok=True)
    data, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        open_rows(path)
    assert not FORBIDDEN.exists()


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("none.npy", "none.npy does not exist: check its name"),
        ("steps.npy", r"steps.npy does not exist: did you mean .*step.npy\?"),
        ("steps.npy::z", r"steps.npy does not exist: did you mean .*step.npy\?"),
        ("gone/z.npy", "does not exist: there is no folder .*gone"),
        (
            "folder.npy",
            r"folder.npy is a folder: name the files in it, such as .*folder.npy/\*.npy",
        ),
        ("pipe.npy", "pipe.npy is not a file: write what it gives into one"),
        ("empty.npy", "empty.npy is empty"),
        ("x" * 300 + ".npy", "does not exist"),
        ("a\0b.npy", "does not exist"),
    ],
)
def test_what_is_not_there_is_said_with_what_to_do(
    tmp_path: Path, location: str, said: str
) -> None:
    (tmp_path / "step.npy").write_bytes(content("a.npy"))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "empty.npy").touch()
    os.mkfifo(tmp_path / "pipe.npy")
    for ask in (open_rows, require_file):
        with pytest.raises(InputError, match=said):
            ask(f"{tmp_path}/{location}")


def test_a_parquet_column_that_is_no_number_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2.0], "name": ["x", "y"]}).to_parquet(tmp_path / "z.parquet")
    with pytest.raises(InputError, match="column 'name' must hold numbers"):
        open_rows(tmp_path / "z.parquet")
    pd.DataFrame({"z": [[1.0, 2.0], [3.0]]}).to_parquet(tmp_path / "l.parquet")
    with pytest.raises(InputError, match=r"its lists must have one length; got \[2, 1\]"):
        open_rows(tmp_path / "l.parquet")


def test_a_name_cannot_act_on_a_terminal() -> None:
    assert show("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"


def content(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        WRITERS[name](path, Z)
        return path.read_bytes()


CONTENT = {name: content(name) for name in WRITERS}


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(WRITERS)),
    cut=st.floats(0, 1),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
@example(name="lists.parquet", cut=1.0, places=[(0.6, 7)])
def test_damage_never_gives_another_error(
    name: str, cut: float, places: list[tuple[float, int]]
) -> None:
    data = bytearray(CONTENT[name])
    for place, byte in places:
        data[min(int(place * len(data)), len(data) - 1)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data[: int(cut * len(data))])
        try:
            rows = open_rows(path)
            for start in range(0, len(Z), 10):
                rows[start : start + 10]
        except InputError as error:
            assert name in str(error)


# --- what is written


def test_a_write_that_fails_leaves_nothing_new(tmp_path):
    def fail(file):
        file.write(b"half of it")
        raise OSError("no space left")

    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, fail)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a crash of the machine could leave the name without the content."""
    done = []
    path = tmp_path / "file"
    fsync = os.fsync

    def noted(descriptor):
        done.append(path.exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_whole(path, lambda file: file.write(b"all of it"))
    assert done == [False, True]  # the content, then the folder with the new name


def test_a_file_keeps_its_permissions_and_a_link_stays_one(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, lambda file: file.write(b"after"))
    assert link.is_symlink() and real.read_text() == "after"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_what_others_may_not_read_they_may_not_read_while_it_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o600)
    modes = []
    write_whole(path, lambda file: modes.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode)))
    assert modes == [0o600]


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, lambda file: file.write(b"all of it"))
        assert os.read(reader, 100) == b"all of it"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
