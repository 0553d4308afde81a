"""Whatever `diagnose` is given: a diagnosis that can be written down, or an error that says which.

REPCOLLAPSE_FUZZ sets the number of cases; 150 without it, 2,000 and more in a full run.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from repcollapse import diagnose
from repcollapse.diagnosis import VERDICTS

CASES = int(os.environ.get("REPCOLLAPSE_FUZZ", "150"))
N, D = 48, 6
# Ends of what can be squared twice, and of what the types hold.
SCALES = [1e-80, 1e-75, 1e-73, 1e-40, 1e-20, 1e-3, 1e3, 1e20, 1e38, 1e70, 1e73, 1e75, 1e80]
EXTREME = [0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 5e-324, 1e-70, 1e-30, 1e8, 1e30, 1e70, 1e300]
DTYPES = ["f2", "f4", "f8", ">f8", "i8", "?", "c16", "O", "U3", "M8[s]"]
NO_ARRAYS: list[Any] = [None, 3.5, "z.npy", b"z", [[1.0, 2.0]], {"z": 1}, object(), range(4)]
TENSORS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64]
TENSORS += [torch.complex64, torch.bool]
NAMED = re.compile(r"^(z|labels|views|groups) (must|needs)")


@st.composite
def structures(draw: st.DrawFn, rows: int, columns: int) -> np.ndarray:
    """Rows of one of the shapes that a scatter, a sample or a distance may stumble over."""
    z = np.random.default_rng(draw(st.integers(0, 5))).normal(size=(rows, columns))
    for change in draw(st.lists(st.sampled_from("abcdefghij"), max_size=4)):
        scale = draw(st.sampled_from(SCALES))
        if z.size == 0:
            return z
        at = draw(st.integers(0, 10**6))
        with np.errstate(all="ignore"):
            match change:
                case "a":
                    z = z * scale
                case "b":
                    z = z + scale
                case "c":
                    z[at % rows] *= scale
                case "d":
                    z[:, at % columns] *= scale
                case "e":
                    z[: at % rows] = z[0]
                case "f":
                    z[at % rows :] = 0.0
                case "g":
                    z[:, at % columns] = scale
                case "h":
                    z.flat[at % z.size] = draw(st.sampled_from(EXTREME))
                case "i":
                    z = z[np.arange(rows) % (1 + at % 4)]
                case "j":
                    z = z[:, :1] * np.ones(columns)
    return z


@st.composite
def embeddings(draw: st.DrawFn) -> Any:
    """Embeddings in every way that a caller may come by them."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from(NO_ARRAYS))
    rows = draw(st.sampled_from([N] * 12 + [0, 1, 2, 3, 15, 16, 17]))
    columns = draw(st.sampled_from([D] * 12 + [0, 1, 2, 64, 9000]))
    z = draw(structures(rows, columns))
    shape = draw(st.sampled_from(["matrix"] * 16 + ["flat", "deep", "scalar"]))
    z = {"matrix": z, "flat": z.ravel(), "deep": z[None], "scalar": z.sum()}[shape]
    z = np.asarray(z)
    with np.errstate(all="ignore"):
        how = draw(st.sampled_from(["array"] * 6 + ["tensor"] * 4 + ["other", "strided", "own"]))
        if how == "array":
            return z.astype(draw(st.sampled_from([*["f4", "f8"] * 10, *DTYPES])))
        if how == "strided":
            return np.asfortranarray(z)[::-1] if z.ndim else z
        if how == "other":
            return draw(st.sampled_from([np.ma.masked_array, np.ndarray.tolist, Sliceable]))(z)
    dtypes = [*[torch.float32, torch.float64] * 6, *TENSORS]
    tensor = torch.from_numpy(z.copy()).to(draw(st.sampled_from(dtypes)))
    if how == "own":
        ways = [torch.Tensor.to_sparse, torch.Tensor.t, torch.Tensor.detach]
        if tensor.is_floating_point():
            ways.append(torch.Tensor.requires_grad_)
        way = draw(st.sampled_from(ways))
        return tensor if tensor.ndim != 2 else way(tensor)
    return tensor


class Sliceable:
    """Rows with a shape that give arrays as they are sliced, and nothing else."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape = rows, rows.shape

    def __getitem__(self, some: slice) -> np.ndarray:
        return self.rows[some]


@st.composite
def codes(draw: st.DrawFn) -> Any:
    """Labels or identifiers: of this length or another, of integers or of something else."""
    n = draw(st.sampled_from([N] * 12 + [N - 1, 0, 2]))
    some = np.arange(n)
    return {
        "few": some % 3,
        "pairs": some // 2,
        "alone": some,
        "one": some * 0,
        "large": some % 3 + 2**62,
        "negative": some % 5 + np.iinfo(np.int64).min,
        "unsigned": (some % 3).astype("u8") + np.uint64(2**63),
        "list": (some % 3).tolist(),
        "tensor": torch.from_numpy(some % 3),
        "int8": torch.from_numpy(some % 3).to(torch.int8),
        "floats": some / 2,
        "names": np.array(["<b>", "x"])[some % 2],
        "objects": np.array([object()] * n),
        "flags": some % 2 == 0,
        "column": (some % 3)[:, None],
        "number": 3,
        "text": "labels.npy",
        "ragged": [[1], [1, 2]],
    }[draw(st.sampled_from(["few", "pairs"] * 6 + ODD_CODES))]


ODD_CODES = ["alone", "one", "large", "negative", "unsigned", "list", "tensor", "int8", "floats"]
ODD_CODES += ["names", "objects", "flags", "column", "number", "text", "ragged"]


@st.composite
def views(draw: st.DrawFn) -> Any:
    """Views: a pile of matrices, equal or not, or anything else."""
    if draw(st.integers(0, 7)) == 0:
        return draw(embeddings())
    count, columns = draw(st.sampled_from([2, 2, 2, 3, 1])), draw(st.sampled_from([D] * 9 + [5]))
    samples = draw(st.sampled_from([N, N, 2, 3, 1, 0]))
    z = draw(structures(count * samples, columns)).reshape(count, samples, columns)
    if draw(st.booleans()) and samples:
        z[-1] = z[0]
    return z


@pytest.mark.slow
@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(
    z=embeddings(),
    labels=st.one_of(st.none(), st.none(), codes()),
    groups=st.one_of(st.none(), st.none(), codes()),
    of_views=st.one_of(st.none(), st.none(), st.none(), views()),
)
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_it_answers_or_says_which_argument_is_wrong(z, labels, groups, of_views) -> None:
    try:
        found = diagnose(z, labels=labels, groups=groups, views=of_views)
    except (TypeError, ValueError) as error:
        event(f"refused: {type(error).__name__}")
        assert NAMED.match(str(error)), repr(error)
        return
    event(found.verdict)
    assert found.verdict in VERDICTS and found.findings[0].kind == found.verdict
    json.dumps(found.to_dict(), allow_nan=False)
    assert "<script" not in found.to_html() and str(found)
