"""Whatever the files hold and are called: a message, never a traceback, code run or half a report.

REPCOLLAPSE_FUZZ sets the number of cases; 100 without it, 2,000 and more in a full run.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from commandline_support import Trap, ask, trap
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("REPCOLLAPSE_FUZZ", "100"))
MARK = Path(tempfile.gettempdir()) / f"repcollapse-fuzz-code-was-run-{os.getpid()}"
ENDINGS = [*[".npy", ".npz", ".safetensors", ".pt", ".parquet", ".csv"] * 4, ".pth", ".txt", ""]
ODD = ["<script>alert(1)</script>", "</title><b>", "&amp;", "[bold red]", "[/]", "a\nb", "\x1b[31m"]
ODD += [
    "é",
    "空",
    "\u202e",
    "'",
    '"',
    "%s{0}",
    "a::b",
    "::",
    " ",
    "-",
    "--help",
    "x" * 150,
    "\ud800",
]
EXTREME = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e-320, 1e-30, 1e30, 6e4, 1e300, -1e308]
DTYPES = ["f2", "f4", "f8", ">f4", "i4", "u1", "?", "c8", "U5", "S3", "M8[s]", "V4"]

names = st.one_of(
    st.sampled_from(["z", "y"]),
    st.sampled_from(["z", "y"]),
    st.sampled_from(ODD),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12),
).map(lambda name: name.replace("/", "∕"))


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Small arrays of any kind, with extreme values here and there."""
    shape = draw(
        st.sampled_from([*[(40, 5)] * 12, (17, 1), (3, 4), (1, 3), (0, 5), (40,), (2, 20, 5)])
    )
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    z = generator.normal(size=shape)
    for _ in range(draw(st.sampled_from([0] * 6 + [1, 2]))):
        if z.size:
            z.flat[draw(st.integers(0, z.size - 1))] = draw(st.sampled_from(EXTREME))
    z = z * draw(st.sampled_from([1.0] * 8 + [0.0, 1e-200, 1e150])) + draw(
        st.sampled_from([0.0, 0.0, 1.0, 1e8])
    )
    dtype = draw(st.sampled_from([*["f4", "f8"] * 10, *DTYPES]))
    with np.errstate(all="ignore"):
        if dtype in ("M8[s]", "V4"):
            return np.zeros(shape, dtype)
        return z.astype(dtype)


def codes(draw: st.DrawFn) -> np.ndarray:
    """Labels, of the right length or not."""
    n = draw(st.sampled_from([40] * 9 + [39, 0, 17]))
    kind = draw(st.sampled_from([*["ints", "names"] * 4, "ones", "alone", "floats", "huge"]))
    some = np.arange(n)
    return {
        "ints": some % 4 - 1,
        "names": np.array([*ODD[:6], "ok"])[some % 7],
        "ones": np.ones(n, dtype=int),
        "alone": some,
        "floats": some / 2,
        "huge": (some % 3).astype("u8") + np.uint64(2**63),
    }[kind]


def save_npy(path: Path, z: np.ndarray) -> None:
    np.save(path, z)


def save_npz(path: Path, z: np.ndarray) -> None:
    np.savez_compressed(path, z=z)


def save_pt(path: Path, z: np.ndarray) -> None:
    torch.save({"z": torch.from_numpy(np.ascontiguousarray(z))}, path)


def save_safetensors(path: Path, z: np.ndarray) -> None:
    safetensors.torch.save_file({"z": torch.from_numpy(np.ascontiguousarray(z))}, path)


def save_parquet(path: Path, z: np.ndarray) -> None:
    pd.DataFrame(z).rename(columns=str).to_parquet(path)


def save_csv(path: Path, z: np.ndarray) -> None:
    pd.DataFrame(z).to_csv(path, index=False)


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".npy": save_npy,
    ".npz": save_npz,
    ".pt": save_pt,
    ".pth": save_pt,
    ".safetensors": save_safetensors,
    ".parquet": save_parquet,
    ".csv": save_csv,
}


def content(draw: st.DrawFn, what: str, ending: str) -> bytes:
    """Return the bytes of a file: written properly, as far as that goes, or with malice."""
    kind = draw(
        st.sampled_from(["written"] * 20 + ["damaged"] * 4 + ["noise", "trap", "header", "text"])
    )
    if kind in ("written", "damaged"):
        z = codes(draw) if what == "codes" else draw(arrays())
        if what == "views" and z.size == 200:
            z = z.reshape(2, 20, 5)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"z{ending or '.npy'}"
            try:
                WRITERS.get(ending, save_npy)(path, z)
            except Exception:  # not every format has every type: then as an array
                path = path.with_suffix(".npy")
                np.save(path, z)
            data = path.read_bytes()
        if kind == "damaged" and data:
            place = draw(st.integers(0, min(len(data) - 1, 400)))
            harm = draw(st.sampled_from(["cut", "change", "insert", "cut end"]))
            junk = draw(st.binary(min_size=1, max_size=8))
            data = {
                "cut": data[:place],
                "cut end": data[: len(data) - place],
                "change": data[:place] + junk + data[place + len(junk) :],
                "insert": data[:place] + junk + data[place:],
            }[harm]
        return data
    if kind == "trap":
        return malice(draw, ending)
    if kind == "header":
        shape = draw(
            st.sampled_from(
                ["(1099511627776, 1099511627776)", "(-1, 5)", "(40, 5, )", "(2**9,)", "()"]
            )
        )
        text = draw(
            st.sampled_from(
                [
                    f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}",
                    f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}",
                    "{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (3,), }",
                    "__import__('os').mkdir('" + str(MARK) + "')",
                    "{" * 3000,
                ]
            )
        )
        version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
        size = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
        return b"\x93NUMPY" + version + size + text.encode() + draw(st.binary(max_size=900))
    if kind == "text":
        cells = st.one_of(
            st.floats().map(str), st.sampled_from([*ODD, "", "nan", "1", "0.5", "=1+1", "\ufeff"])
        )
        rows = draw(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6))
        return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
    return draw(st.binary(max_size=200))


def malice(draw: st.DrawFn, ending: str) -> bytes:
    """Return a file that runs code where it is unpickled."""
    how = draw(st.sampled_from(["bare", "npy", "npz", "torch"]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "z"
        if how == "npy":
            np.save(
                path.with_suffix(".npy"), np.array([Trap(MARK)], dtype=object), allow_pickle=True
            )
        elif how == "npz":
            np.savez(path.with_suffix(".npz"), z=np.array([Trap(MARK)], dtype=object))
        elif how == "torch":
            torch.save({"z": Trap(MARK)}, path.with_suffix(".pt"))
        elif ending == ".npz":
            with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
                archive.writestr("z.npy", trap(MARK))
        else:
            return trap(MARK)
        (made,) = Path(folder).iterdir()
        return made.read_bytes()


def put(draw: st.DrawFn, folder: Path, what: str) -> str:
    """Write a file, or do not, and return what to call it on the command line."""
    ending = draw(st.sampled_from(ENDINGS if what == "z" else [".npy", ".csv", ".npz", ".parquet"]))
    path = folder / (draw(names) + ending)
    there = draw(st.sampled_from(["yes"] * 30 + ["no", "folder"]))
    try:
        if there == "folder":
            path.mkdir()
        elif there == "yes" and not path.exists():
            path.write_bytes(content(draw, what, ending))
    except (OSError, UnicodeError):  # a name that no file can have is asked about all the same
        pass
    return str(path) + draw(st.sampled_from([""] * 12 + ["::z", "::", "::no"]))


# What is said, for the statistics of hypothesis: many of each are wanted.
REFUSALS = ["cannot be read", "never loaded", "does not exist", "must end in", "must have shape"]
REFUSALS += ["must hold one array", "has no array", "must hold floating", "NaN or Inf", "rescale"]
REFUSALS += ["header promises", "different labels", "columns", "--fail-on", "must be integers"]
REFUSALS += ["2 samples", "its column", "have rows"]


def check(result, before: set[str], folder: Path, wanted: dict[str, Path]) -> None:
    event(f"exit status {result.exit_code}")
    assert not MARK.exists()
    assert "Traceback" not in result.output and "defect" not in result.stderr, result.stderr
    new = {path.name for path in folder.iterdir()} - before
    if result.exit_code == 2:
        assert result.stdout == "" and new == set()
        said = result.stderr
        found = [key for key in REFUSALS if key in said]
        event(f"refused: {found[0] if found else 'otherwise'}")
        assert len(said) > 15 and "Warning" not in said
        assert "\x1b" not in said and (said.startswith("Usage: ") or said.count("\n") == 1)
        return
    assert result.exit_code in (0, 1) and result.stderr == ""
    assert new == {path.name for path in wanted.values()}
    if "json" in wanted:
        json.loads(wanted["json"].read_text(encoding="utf-8"))
    if "html" in wanted:
        page = wanted["html"].read_text(encoding="utf-8")
        assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
        assert "<script" not in page and page.count("</title>") == 1 and "\x1b" not in page


@pytest.mark.slow
@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(data=st.data())
@pytest.mark.timeout(7200)
def test_no_file_and_no_name_brings_it_down(data: st.DataObject) -> None:
    draw = data.draw
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "in", Path(name) / "out"
        folder.mkdir()
        out.mkdir()
        command = draw(st.sampled_from(["diagnose", "diagnose", "diagnose", "compare"]))
        count = draw(st.sampled_from([1, 1, 1, 2])) if command == "diagnose" else 2
        parts = [command, *(put(draw, folder, "z") for _ in range(count))]
        if draw(st.integers(0, 2)) == 0:
            parts += ["--labels", put(draw, folder, "codes")]
        if command == "diagnose" and draw(st.integers(0, 3)) == 0:
            parts += ["--groups", put(draw, folder, "codes")]
        if command == "diagnose" and draw(st.integers(0, 4)) == 0:
            parts += ["--views", put(draw, folder, "views")]
        if draw(st.integers(0, 3)) == 0:
            parts += [
                "--fail-on",
                draw(st.sampled_from(["complete", "healthy,cone", "dimensional", "", "<b>"])),
            ]
        wanted = {}
        for kind in ("html", "json"):
            if draw(st.booleans()):
                wanted[kind] = out / f"report.{kind}"
                parts += [f"--{kind}", str(wanted[kind])]
        check(ask(*parts), set(), out, wanted)


@settings(max_examples=max(CASES // 4, 20), deadline=None)
@given(name=st.one_of(names, st.text(max_size=30)), rows=st.integers(-3, 5000))
def test_no_question_brings_explain_down(name: str, rows: int) -> None:
    result = ask("explain", "--rows", rows, "--dimension", 8, "--", name)
    assert result.exit_code in (0, 2) and "defect" not in result.stderr
    assert "\x1b" not in result.output and (result.stdout or result.stderr.startswith("Error: "))


@settings(max_examples=max(CASES // 4, 20), deadline=None)
@given(
    loss=st.floats(),
    objective=st.sampled_from(["dino", "nt_xent", "vicreg", "sigreg", "byol", "moco", "<b>"]),
    value=st.one_of(st.floats().map(str), st.integers(-(10**30), 10**30).map(str), names),
    setting=st.sampled_from(
        ["prototypes", "pairs", "queue", "weight", "gamma", "eps", "convention"]
    ),
)
def test_no_loss_brings_explain_down(loss: float, objective: str, value: str, setting: str) -> None:
    asked = [f"--loss={loss}", f"--objective={objective}", f"--set={setting}={value}"]
    result = ask("explain", *asked)
    assert result.exit_code in (0, 2) and "defect" not in result.stderr
    assert "\x1b" not in result.output
