"""Bad input to the checks and to every public function of numbers: the message says what and why.

What is wrong with data sets, views, networks, training, evidence and figures is beside their tests.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from repcollapse import _checks, diagnostics, objectives
from repcollapse.diagnostics import Moments

NAN, INF = math.nan, math.inf


def good(n=8, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def holding(value, *, row=2, n=8):
    z = good(n)
    z[row, 1] = value
    return z


# --- every function of one matrix

ONE_MATRIX = {
    name: getattr(diagnostics, name)
    for name in (
        *(
            "feature_std",
            "spread",
            "mean_share",
            "mean_cosine",
            "uniformity",
            "singular_values",
            "stable_rank",
        ),
        *("participation_ratio", "effective_rank", "rankme", "srank", "cev_auc", "alpha_req"),
        *("offdiagonal_correlation", "intrinsic_dimension", "coding_rate", "sigreg_statistic"),
    )
} | {
    "prototype_usage": diagnostics.prototype_usage,
    "lidar": lambda z: diagnostics.lidar(z, [0, 0, 1, 1, 2, 2, 3, 3]),
    "neural_collapse": lambda z: diagnostics.neural_collapse(z, [0, 1] * 4),
    "cosines_of_means": lambda z: diagnostics.cosines_of_means(z, [0, 1] * 4),
    "linear_map": lambda z: diagnostics.linear_map(z, good()),
}
STATES = {
    "Moments.of": Moments.of,
    "EmbeddingMoments.of": diagnostics.EmbeddingMoments.of,
    "JackknifeMoments.of": diagnostics.JackknifeMoments.of,
    "GroupedMoments.of": lambda z: diagnostics.GroupedMoments.of(z, [0, 1] * 4),
}

BAD_MATRICES = {
    "nan": (holding(NAN), ValueError, r"{} must be finite; row 2 holds NaN or Inf \(1 of 8 rows"),
    "inf": (holding(INF, row=5), ValueError, "{} must be finite; row 5 holds NaN or Inf"),
    "minus inf": (holding(-INF, row=0), ValueError, "{} must be finite; row 0 holds NaN or Inf"),
    "inf and minus inf": (
        torch.tensor([[1.0, 2.0], [INF, -INF], [NAN, 0.0]]),
        ValueError,
        r"{} must be finite; row 1 holds NaN or Inf \(2 of 3 rows do\)",
    ),
    "half nan": (holding(NAN).half(), ValueError, "{} must be finite; row 2"),
    "numpy nan": (holding(NAN).numpy(), ValueError, "{} must be finite; row 2"),
    "vector": (good()[0], ValueError, r"{} must have shape \(N, D\).*; got shape \(3,\)"),
    "three axes": (good()[None], ValueError, r"{} must have shape.*; got shape \(1, 8, 3\)"),
    "scalar": (torch.tensor(1.0), ValueError, r"{} must have shape.*; got shape \(\)"),
    "no columns": (torch.ones(4, 0), ValueError, r"{} must have shape.*; got shape \(4, 0\)"),
    "no rows": (torch.ones(0, 3), ValueError, r"{} needs at least [123] rows; got 0"),
    "integers": (torch.ones(4, 3).long(), TypeError, "{} must have a floating dtype; got torch.i"),
    "booleans": (torch.ones(4, 3).bool(), TypeError, "{} must have a floating dtype; got torch.b"),
    "complex": (torch.ones(4, 3) * 1j, TypeError, "{} must have a floating dtype; got torch.c"),
    "numpy integers": (np.ones((4, 3), int), TypeError, "{} must have a floating dtype; got int"),
    "numpy objects": (np.ones((4, 3), object), TypeError, "{} must have a floating dtype; got ob"),
    "long double": (np.ones((4, 3), np.longdouble), TypeError, "{} must have a floating dtype"),
    "list": ([[1.0, 2.0], [3.0, 4.0]], TypeError, "{} must be a torch.Tensor or .*; got list"),
    "none": (None, TypeError, "{} must be a torch.Tensor or numpy.ndarray; got NoneType"),
    "text": ("z", TypeError, "{} must be a torch.Tensor or numpy.ndarray; got str"),
}


def check(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


@pytest.mark.parametrize("name", [*ONE_MATRIX, *STATES])
@pytest.mark.parametrize("bad", BAD_MATRICES)
def test_one_matrix(name, bad):
    value, error, message = BAD_MATRICES[bad]
    argument = "assignments" if name == "prototype_usage" else "z"
    function = (ONE_MATRIX | STATES)[name]
    check(lambda: function(value), error, message.format(argument))


TWO_ROWS = sorted(
    set(ONE_MATRIX)
    - {"prototype_usage", "lidar", "neural_collapse", "cosines_of_means", "intrinsic_dimension"}
)


@pytest.mark.parametrize("name", TWO_ROWS)
def test_one_row_is_not_enough(name):
    check(lambda: ONE_MATRIX[name](good(1)), ValueError, "z needs at least 2 rows; got 1")


def test_two_rows_have_no_second_neighbour():
    call = diagnostics.intrinsic_dimension
    check(lambda: call(good(2)), ValueError, "z needs at least 3 rows; got 2")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diagnostics.null_measures(1, 3), "n must be at least 2"),
        (lambda: diagnostics.null_measures(3, 0), "dimension must be at least 1"),
        (lambda: diagnostics.null_singular_values(1, 3), "n must be at least 2"),
        (lambda: Moments.empty(0), "dimension must be at least 1"),
        (lambda: diagnostics.JackknifeMoments.of(good(), blocks=1), "blocks must be at least 2"),
        (lambda: diagnostics.JackknifeMoments.of(good(), start=-1), "start must be at least 0"),
        (lambda: diagnostics.srank(good(), delta=1.0), "delta must be above 0 and below 1"),
        (lambda: diagnostics.srank(good(), delta=0), "delta must be above 0 and below 1"),
        (lambda: diagnostics.cev_auc(good(), rows="all"), "rows must be one of"),
        (lambda: diagnostics.cev_auc(good(), spectrum="s"), "spectrum must be one of"),
        (lambda: diagnostics.coding_rate(good(), epsilon2=0), "epsilon2 must be above 0"),
        (
            lambda: diagnostics.intrinsic_dimension(good(), discard=1.0),
            "discard must .* below 1",
        ),
        (lambda: diagnostics.intrinsic_dimension(good(), resolution=-1), "resolution must be at"),
        (lambda: diagnostics.lidar(good(), [0, 1] * 4, delta=0), "delta must be above 0"),
        (lambda: diagnostics.sigreg_statistic(good(), slices=0), "slices must be at least 1"),
        (lambda: diagnostics.sigreg_statistic(good(), knots=1), "knots must be at least 2"),
        (lambda: diagnostics.sigreg_statistic(good(), extent=0), "extent must be above 0"),
        (lambda: diagnostics.sigreg_statistic(good(), seed=-1), "seed must be at least 0"),
        (lambda: diagnostics.sigreg_statistic(good(), directions=good(2, 3)), "length 1"),
        (lambda: diagnostics.sigreg_statistic(good(), directions=good(2, 4)), "directions must"),
    ],
)
def test_options_of_measures(call, message):
    check(call, ValueError, message)


def test_moments_of_one_row_are_fine_and_of_none_are_not():
    assert Moments.of(good(1)).count == 1
    check(lambda: Moments.of(good(0)), ValueError, "z needs at least 1 rows; got 0")


# --- every function of two matrices

TWO_MATRICES = {
    name: getattr(objectives, name)
    for name in (
        *("invariance", "negative_cosine", "byol", "directpred", "nt_xent", "nt_xent_terms"),
        *("alignment_uniformity", "alignment_uniformity_terms"),
        *("spectral_contrastive", "spectral_contrastive_terms", "vicreg", "vicreg_terms"),
        *("barlow_twins", "barlow_twins_terms", "w_mse", "sigreg", "sigreg_terms"),
    )
} | {"alignment": diagnostics.alignment}


def first_two(function):
    return list(inspect.signature(function).parameters)[:2]


@pytest.mark.parametrize("function", TWO_MATRICES.values(), ids=TWO_MATRICES)
@pytest.mark.parametrize("bad", BAD_MATRICES)
@pytest.mark.parametrize("place", [0, 1])
def test_two_matrices(function, bad, place):
    value, error, message = BAD_MATRICES[bad]
    given = (value, good()) if place == 0 else (good(), value)
    check(lambda: function(*given), error, message.format(first_two(function)[place]))


@pytest.mark.parametrize("function", TWO_MATRICES.values(), ids=TWO_MATRICES)
@pytest.mark.parametrize(
    ("z_a", "z_b", "error", "message"),
    [
        (good(8), good(7), ValueError, r"{} and {} must .* same shape.*\(8, 3\) and \(7, 3\)"),
        (good(8, 3), good(8, 1), ValueError, r"{} and {} must .*\(8, 3\) and \(8, 1\)"),
        (good(1), good(1), ValueError, "{} needs at least 2 rows; got 1"),
        (good(), good().double(), TypeError, "same dtype; got torch.float32 and torch.float64"),
    ],
)
def test_two_matrices_that_do_not_match(function, z_a, z_b, error, message):
    check(lambda: function(z_a, z_b), error, message.format(*first_two(function)))


# --- every function of views

VIEWS = {
    "intraclass_correlation": diagnostics.intraclass_correlation,
    "instruments": diagnostics.instruments,
}


def views_with(value):
    views = torch.stack([good(), good(seed=1)])
    views[1, 4, 2] = value
    return views


@pytest.mark.parametrize("function", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize(
    ("views", "error", "message"),
    [
        (views_with(NAN), ValueError, r"views must be finite; view 1, row 4 .*\(1 of 16 rows do\)"),
        (views_with(INF), ValueError, "views must be finite; view 1, row 4"),
        (good(), ValueError, r"views must have shape \(V, N, D\).*; got shape \(8, 3\)"),
        (good()[None], ValueError, "views needs at least 2 views of at least 2 .*; got V=1, N=8"),
        (torch.ones(3, 1, 4), ValueError, "views needs .* at least 2 samples; got V=3, N=1"),
        (torch.ones(2, 4, 0), ValueError, r"views must have shape.*; got shape \(2, 4, 0\)"),
        (torch.ones(2, 4, 3).int(), TypeError, "views must have a floating dtype; got torch.int32"),
        ([good(), good()], TypeError, "views must be a torch.Tensor or numpy.ndarray; got list"),
    ],
)
def test_views(function, views, error, message):
    check(lambda: function(views), error, message)


# --- every probe

PROBES = {
    name: getattr(diagnostics, name)
    for name in ("resolution_probe", "linear_probe", "knn_accuracy")
}
Y = torch.tensor([0, 1] * 4)


@pytest.mark.parametrize("function", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("bad", BAD_MATRICES)
@pytest.mark.parametrize("place", [0, 2])
def test_matrices_of_probes(function, bad, place):
    value, error, message = BAD_MATRICES[bad]
    given = [good(), Y, good(), Y]
    given[place] = value
    check(lambda: function(*given), error, message.format(["train_z", "", "test_z"][place]))


@pytest.mark.parametrize("bad", BAD_MATRICES)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_matrices_of_the_regression_probe(bad, place):
    value, error, message = BAD_MATRICES[bad]
    given = [good(), good(seed=1), good(seed=2), good(seed=3)]
    given[place] = value
    name = ["train_z", "train_y", "test_z", "test_y"][place]
    if bad == "vector" and place % 2:  # one value a row will do, of as many rows
        message = "{} must have the 8 rows of .*; got 3"
    check(lambda: diagnostics.regression_probe(*given), error, message.format(name))


BAD_LABELS = {
    "short": (Y[:5], ValueError, r"{} must have shape \(8,\).*; got shape \(5,\)"),
    "column": (Y[:, None], ValueError, r"{} must have shape \(8,\).*; got shape \(8, 1\)"),
    "one hot": (torch.eye(8).long(), ValueError, r"{} must have shape \(8,\).*shape \(8, 8\)"),
    "floats": (Y.float(), TypeError, "{} must hold integer class labels; got dtype torch.float32"),
    "numpy floats": (Y.double().numpy(), TypeError, "{} must hold integer class labels; got dtype"),
    "list of floats": ([0.0, 1.0] * 4, TypeError, "{} must hold integer class labels; got dtype"),
    "booleans": (Y.bool(), TypeError, "{} must hold integer class labels; got dtype torch.bool"),
    "names": (["a", "b"] * 4, TypeError, "{} must hold integer class labels; got list"),
    "numpy names": (np.array(["a", "b"] * 4), TypeError, "{} must hold integer .*; got ndarray"),
    "none": (None, TypeError, "{} must hold integer class labels; got NoneType"),
}


@pytest.mark.parametrize("function", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("bad", BAD_LABELS)
@pytest.mark.parametrize("place", [1, 3])
def test_labels_of_probes(function, bad, place):
    value, error, message = BAD_LABELS[bad]
    given = [good(), Y, good(), Y]
    given[place] = value
    name = "train_labels" if place == 1 else "test_labels"
    check(lambda: function(*given), error, message.format(name))


GROUPED = {
    "neural_collapse": (diagnostics.neural_collapse, "labels", "class labels"),
    "cosines_of_means": (diagnostics.cosines_of_means, "labels", "class labels"),
    "lidar": (diagnostics.lidar, "groups", "identifiers"),
}


@pytest.mark.parametrize("case", GROUPED)
@pytest.mark.parametrize("bad", BAD_LABELS)
def test_labels_and_groups_of_rows(case, bad):
    function, name, what = GROUPED[case]
    value, error, message = BAD_LABELS[bad]
    check(
        lambda: function(good(), value), error, message.format(name).replace("class labels", what)
    )


@pytest.mark.parametrize("function", PROBES.values(), ids=PROBES)
def test_sets_that_do_not_match(function):
    message = "train_z and test_z must have the same number of columns; got 3 and 2"
    check(lambda: function(good(), Y, good(8, 2), Y), ValueError, message)
    message = "train_labels needs at least two classes; got one"
    check(lambda: function(good(), 0 * Y, good(), Y), ValueError, message)
    check(lambda: function(good(1), Y[:1], good(), Y), ValueError, "train_z needs at least 2 rows")
    assert function(good(), Y, good(1), Y[:1]) in (0.0, 1.0)


# --- every number and every word

A, B = good(), good(seed=1)
NUMBERS = {
    "nt_xent temperature": (lambda x: objectives.nt_xent(A, B, temperature=x), "temperature"),
    "nt_xent_terms": (lambda x: objectives.nt_xent_terms(A, B, temperature=x), "temperature"),
    "vicreg gamma": (lambda x: objectives.vicreg(A, B, gamma=x), "gamma"),
    "vicreg eps": (lambda x: objectives.vicreg(A, B, eps=x), "eps"),
    "vicreg_terms gamma": (lambda x: objectives.vicreg_terms(A, B, gamma=x), "gamma"),
    "vicreg_terms eps": (lambda x: objectives.vicreg_terms(A, B, eps=x), "eps"),
    "alignment alpha": (lambda x: diagnostics.alignment(A, B, alpha=x), "alpha"),
    "uniformity t": (lambda x: diagnostics.uniformity(A, t=x), "t"),
    "linear_probe c": (lambda x: diagnostics.linear_probe(A, Y, B, Y, c=x), "c"),
}
WEIGHTS = {
    name: (lambda x, name=name: objectives.vicreg(A, B, **{name: x}), name)
    for name in ("invariance", "variance", "covariance")
}


@pytest.mark.parametrize("case", [*NUMBERS, *WEIGHTS])
@pytest.mark.parametrize(
    ("value", "error", "given"),
    [
        (-1, ValueError, "-1"),
        (NAN, ValueError, "nan"),
        (INF, ValueError, "inf"),
        (True, TypeError, "bool"),
        ("1", TypeError, "str"),
        (None, TypeError, "NoneType"),
        (torch.tensor(1.0), TypeError, "Tensor"),
        (1j, TypeError, "complex"),
    ],
)
def test_numbers(case, value, error, given):
    function, name = (NUMBERS | WEIGHTS)[case]
    expected = "a number" if error is TypeError else "above 0" if case in NUMBERS else "at least 0"
    check(lambda: function(value), error, f"^{name} must be {expected}; got {given}")


@pytest.mark.parametrize("case", NUMBERS)
def test_zero_is_not_positive(case):
    function, name = NUMBERS[case]
    check(lambda: function(0), ValueError, f"^{name} must be above 0; got 0")


@pytest.mark.parametrize("case", [*NUMBERS, *WEIGHTS])
@pytest.mark.parametrize("value", [1, 2.5, np.float32(1.5), np.int64(2)])
def test_any_kind_of_number_will_do(case, value):
    (NUMBERS | WEIGHTS)[case][0](value)


@pytest.mark.parametrize(
    ("k", "error", "message"),
    [
        (0, ValueError, "k must be at least 1 and at most 8; got 0"),
        (9, ValueError, "k must be at least 1 and at most 8; got 9"),
        (2.0, TypeError, "k must be an integer; got float"),
        (True, TypeError, "k must be an integer; got bool"),
    ],
)
def test_k(k, error, message):
    check(lambda: diagnostics.knn_accuracy(A, Y, B, Y, k=k), error, message)


@pytest.mark.parametrize("word", ["Official", "", None, 3, ["official"]])
def test_words(word):
    for function in (objectives.vicreg, objectives.vicreg_terms):
        check(
            lambda function=function: function(A, B, convention=word),
            ValueError,
            r"convention must be one of \['official', 'paper'\]; got",
        )
    message = r"spectrum must be one of \['lambda', 'sigma'\]; got"
    check(lambda: diagnostics.effective_rank(A, spectrum=word), ValueError, message)


# --- the checks themselves


def test_everything_public_is_in_these_tables():
    """Those that take scores, queues or pictures have their tables beside their other tests."""
    elsewhere = {"epps_pulley", "whiten", "moco", "sinkhorn", "swav", "dino", "dino_terms"}
    elsewhere |= {"rotation", "jigsaw", "inpainting"}
    # Functions of a size are among the options above; those of a state are beside the states.
    elsewhere |= {"null_measures", "null_singular_values", "spectral_measures", "lidar_of"}
    elsewhere |= {"jackknife_intervals", "neural_collapse_of", "intraclass_correlation_of"}
    elsewhere |= {"regression_probe"}
    tested = {*ONE_MATRIX, *TWO_MATRICES, *VIEWS, *PROBES, *elsewhere}
    public = {name: getattr(diagnostics, name) for name in diagnostics.__all__}
    public |= {name: getattr(objectives, name) for name in objectives.__all__}
    functions = {name for name, value in public.items() if not isinstance(value, type)}
    assert functions == tested
    states = {name for name, value in public.items() if hasattr(value, "merge")}
    assert states == {name.removesuffix(".of") for name in STATES}


def test_finite_embeddings_whose_sum_overflows_are_fine():
    z = torch.full((4, 3), 1e308, dtype=torch.float64)
    z[0] = 9e307
    assert _checks.as_matrix("z", z) is z


def test_checks_return_what_the_caller_works_on():
    z = good()
    assert _checks.as_matrix("z", z) is z
    assert torch.equal(_checks.as_matrix("z", z.numpy()), z)
    assert _checks.as_labels("y", np.array([3, 1], np.uint8), 2).dtype == torch.int64
    assert _checks.choice("word", "a", {"a": 1, "b": 2}) == "a"
    assert isinstance(_checks.number("x", np.float32(2)), float)
    assert type(_checks.integer("n", np.int16(3), at_least=0)) is int


def test_arrays_are_not_changed():
    z = good().numpy()
    before = z.copy()
    diagnostics.instruments(np.stack([z, z + 1]))
    diagnostics.resolution_probe(z, Y, z, Y)
    objectives.vicreg(torch.from_numpy(z), torch.from_numpy(z))
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_numpy_of_any_floating_dtype_is_read_by_value(dtype):
    z = good().numpy().astype(dtype)
    z.setflags(write=False)
    native = z.astype(z.dtype.newbyteorder("="))
    matrix = _checks.as_matrix("z", z)
    np.testing.assert_array_equal(matrix.numpy(), native)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "x must be finite; got nan"),
        ({"above": 0}, "x must be above 0; got nan"),
        ({"at_least": 0, "at_most": 1}, "x must be at least 0 and at most 1; got nan"),
        ({"above": 0, "below": 1}, "x must be above 0 and below 1; got nan"),
    ],
)
def test_bounds_in_words(kwargs, message):
    check(lambda: _checks.number("x", NAN, **kwargs), ValueError, f"^{message}$")


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_bounds_are_inclusive_except_above_and_below(value):
    assert _checks.number("x", value, at_least=0, at_most=1) == value
    if value == 1:
        check(lambda: _checks.number("x", value, below=1), ValueError, "x must be below 1; got 1.0")
    if value == 0:
        check(lambda: _checks.number("x", value, above=0), ValueError, "x must be above 0")
