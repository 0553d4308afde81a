"""The rank family and the moments below it, against numpy, closed forms and each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repcollapse.diagnostics import (
    Moments,
    effective_rank,
    participation_ratio,
    rankme,
    singular_values,
    stable_rank,
)

few = settings(max_examples=40, deadline=None)


@st.composite
def matrices(draw):
    """Matrices of any shape, decay, rank, scale and offset."""
    n, d = draw(st.integers(2, 24)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    decay = draw(st.sampled_from([0.0, 0.5, 1.0, 2.0]))
    rank = draw(st.integers(1, d))
    scales = np.arange(1, d + 1.0) ** -decay * (np.arange(d) < rank)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    offset = draw(st.sampled_from([0.0, 1.0, 100.0])) * rng.standard_normal(d)
    return draw(st.sampled_from([1e-6, 1.0, 1e6])) * (
        (rng.standard_normal((n, d)) * scales) @ rotation + offset
    )


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# --- against numpy


def reference(z, *, center):
    z = np.asarray(z, dtype=np.float64)
    return np.linalg.svd(z - z.mean(axis=0) if center else z, compute_uv=False)


def entropy_rank(weights):
    share = weights[weights > 0] / weights.sum()
    return math.exp(-(share * np.log(share)).sum())


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (3, 5), (40, 8), (8, 40), (64, 64)])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_singular_values_are_numpys(shape, center, dtype):
    z = (randn(*shape) + 0.5).astype(dtype)
    values = singular_values(z, center=center)
    assert values.dtype == torch.float64 and values.shape == (min(shape),)
    expected = reference(z, center=center)
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-6 * expected[0])
    assert (values[:-1] >= values[1:]).all()


@few
@given(matrices())
def test_ranks_are_what_numpys_singular_values_give(z):
    sigma, plain = reference(z, center=True), reference(z, center=False)
    # Ours vanish below some 1e-7 of the largest, the rounding of the scatter matrix. What lies
    # about there counts for less than the tolerance, whichever side it falls on.
    sigma, plain = (s * (s > 1e-6 * s[0]) for s in (sigma, plain))
    share = plain / plain.sum() + 1e-7
    expected = {
        "stable": (sigma**2).sum() / sigma[0] ** 2,
        "participation": (sigma**2).sum() ** 2 / (sigma**4).sum(),
        "lambda": entropy_rank(sigma**2),
        "sigma": entropy_rank(sigma),
        "plain": entropy_rank(plain),
        "rankme": math.exp(-(share * np.log(share)).sum()),
    }
    measured = {
        "stable": stable_rank(z),
        "participation": participation_ratio(z),
        "lambda": effective_rank(z, spectrum="lambda"),
        "sigma": effective_rank(z),
        "plain": effective_rank(z, center=False),
        "rankme": rankme(z),
    }
    assert measured == pytest.approx(expected, rel=2e-4)


# --- order and invariance


@few
@given(matrices())
def test_the_measures_are_ordered(z):
    sigma = singular_values(z)
    chain = [
        1.0,
        stable_rank(z),
        participation_ratio(z),
        effective_rank(z, spectrum="lambda"),
        float(sigma.sum() ** 2 / sigma.square().sum()),
        effective_rank(z, spectrum="sigma"),
        float((sigma > 0).sum()),
    ]
    for smaller, larger in itertools.pairwise(chain):
        assert smaller <= larger * (1 + 1e-9)
    assert chain[-1] <= min(z.shape[1], len(z) - 1)


CENTRED = {
    "stable_rank": stable_rank,
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "effective_rank_lambda": lambda z: effective_rank(z, spectrum="lambda"),
}
PLAIN = {"rankme": rankme, "uncentred": lambda z: effective_rank(z, center=False)}


@pytest.mark.parametrize("measure", [*CENTRED.values(), *PLAIN.values()], ids=[*CENTRED, *PLAIN])
def test_ranks_ignore_scale_rotation_and_order(measure):
    z = randn(30, 6) * np.arange(1, 7) + 0.3
    rotation = np.linalg.qr(randn(6, 6, seed=1))[0]
    for other in (1e5 * z, -1e-5 * z, z @ rotation, z[::-1].copy()):
        assert measure(other) == pytest.approx(measure(z), rel=1e-8)
    # An invertible linear map and scales of single rows are another matrix.
    assert abs(measure(z * np.arange(6, 0, -1) ** 3) - measure(z)) > 0.1
    assert abs(measure(z * np.exp(2 * randn(30, 1, seed=2))) - measure(z)) > 0.1


@pytest.mark.parametrize("measure", CENTRED.values(), ids=CENTRED)
@pytest.mark.parametrize("offset", [1.0, 1e4])
def test_centred_ranks_ignore_a_mean_of_ten_thousand_deviations(measure, offset):
    z = randn(200, 16) * np.linspace(1, 0.1, 16)
    assert measure(z + offset) == pytest.approx(measure(z), rel=1e-8)


@pytest.mark.parametrize("measure", PLAIN.values(), ids=PLAIN)
def test_a_mean_offset_ruins_uncentred_ranks(measure):
    z = randn(200, 16)
    assert measure(z + 10) < 0.6 * measure(z)


def test_float32_embeddings_far_from_the_origin():
    z = (100 + 0.01 * randn(300, 24)).astype(np.float32)
    sigma = reference(z, center=True)
    np.testing.assert_allclose(singular_values(z), sigma, rtol=1e-8)
    assert participation_ratio(z) == pytest.approx((sigma**2).sum() ** 2 / (sigma**4).sum())


# --- collapse


@pytest.mark.parametrize("constant", [0.0, 0.1, -1.0, 1 / 3, 1e4])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize("shape", [(2, 1), (497, 24), (16, 60)])
def test_constant_rows_have_no_rank(constant, dtype, shape):
    z = torch.full(shape, constant, dtype=dtype)
    for measure in CENTRED.values():
        assert measure(z) == 0
        assert measure(z.float().numpy()) == 0
    assert rankme(z) == pytest.approx(1 if constant else 0, abs=1e-3)
    assert effective_rank(z, center=False) == pytest.approx(1 if constant else 0, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_constant_row_that_is_no_round_number(scale):
    z = np.repeat(scale * randn(1, 64), 497, axis=0)
    for measure in CENTRED.values():
        assert measure(z) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_one(dtype):
    z = torch.from_numpy(randn(50, 1) * randn(1, 8, seed=1)).to(dtype)
    for measure in CENTRED.values():
        # Rounding to float32 leaves other directions at 1e-7 of the first.
        assert measure(z) == pytest.approx(1, abs=1e-5)
    assert rankme(z) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("rank", [1, 2, 5, 9])
def test_equal_directions_count_as_many_as_there_are(rank):
    z = np.zeros((2 * rank, 12))
    z[:rank, :rank], z[rank:, :rank] = np.eye(rank), -np.eye(rank)
    for measure in CENTRED.values():
        assert measure(z) == pytest.approx(rank, rel=1e-12)
    assert rankme(z) == pytest.approx(rank, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_the_numbers_it_holds(dtype):
    z = torch.from_numpy(randn(40, 6)).to(dtype)
    for measure in [*CENTRED.values(), *PLAIN.values()]:
        assert measure(z) == measure(z.double())


def test_a_tensor_in_a_graph_and_a_strided_one_are_fine():
    z = torch.from_numpy(randn(6, 40))
    assert rankme(z.T.requires_grad_()) == pytest.approx(rankme(z.T.contiguous()))
    every_other = z.detach().numpy()[:, ::2]
    assert participation_ratio(every_other) == pytest.approx(
        participation_ratio(every_other.copy())
    )


def test_numpy_arrays_that_torch_would_not_take():
    z = randn(12, 4)
    locked = z.copy()
    locked.setflags(write=False)
    assert rankme(locked) == rankme(z)
    assert rankme(z.astype(">f8")) == rankme(z)


# --- isotropic data


@pytest.mark.parametrize(
    ("ratio", "sigma", "lambda_", "participation"),
    [
        (0.01, 0.9987, 0.995, 0.990),
        (0.1, 0.987, 0.950, 0.907),
        (0.25, 0.965, 0.880, 0.797),
        (0.5, 0.925, 0.776, 0.663),
        (1.0, 0.800, 0.603, 0.496),
    ],
)
def test_isotropic_data(ratio, sigma, lambda_, participation):
    """Three effective ranks of one matrix, as shares of its 64 dimensions."""
    draws = [randn(round(64 / ratio), 64, seed=seed) for seed in range(4)]

    def share(measure):
        return np.mean([measure(z) for z in draws]) / 64

    assert share(lambda z: effective_rank(z, center=False)) == pytest.approx(sigma, abs=0.006)
    assert share(rankme) == pytest.approx(sigma, abs=0.006)
    assert share(CENTRED["effective_rank_lambda"]) == pytest.approx(lambda_, abs=0.008)
    assert share(participation_ratio) == pytest.approx(participation, abs=0.008)


@pytest.mark.parametrize("n", [32, 128, 512, 2048])
def test_participation_ratio_of_isotropic_data_is_biased_as_documented(n):
    mean = np.mean([participation_ratio(randn(n, 64, seed=seed)) for seed in range(5)])
    assert mean == pytest.approx(64 / (1 + 64 / n), rel=0.035)


def test_rankme_of_square_isotropic_data_reads_four_fifths():
    assert rankme(randn(256, 256)) / 256 == pytest.approx(0.80, abs=0.005)


# --- moments


@few
@given(matrices(), st.lists(st.integers(1, 23), max_size=4))
def test_moments_do_not_depend_on_how_the_rows_were_split(z, cuts):
    z = torch.from_numpy(z)
    edges = sorted({0, len(z), *(cut for cut in cuts if cut < len(z))})
    parts = [Moments.of(z[a:b]) for a, b in itertools.pairwise(edges)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    whole = Moments.of(z)
    scale = float(whole.scatter.diagonal().sum()) + 1e-12 * float(z.abs().max()) ** 2
    assert merged.count == whole.count == len(z)
    torch.testing.assert_close(
        merged.mean, whole.mean, rtol=1e-12, atol=1e-13 * float(z.abs().max())
    )
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=1e-9, atol=1e-9 * scale)


def test_moments_are_numpys():
    z = randn(20, 4) + 3
    moments = Moments.of(torch.from_numpy(z).float())
    assert moments.mean.dtype == moments.scatter.dtype == torch.float64
    z = z.astype(np.float32).astype(float)
    np.testing.assert_allclose(moments.mean, z.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.scatter, 19 * np.cov(z.T), rtol=1e-12)
    np.testing.assert_allclose(
        moments.eigenvalues(), np.linalg.svd(z - z.mean(axis=0), compute_uv=False) ** 2, rtol=1e-10
    )


def test_merging_single_rows():
    z = torch.from_numpy(randn(5, 3)) + 1e6
    merged = Moments.of(z[:1])
    for row in z[1:]:
        merged = merged.merge(Moments.of(row[None]))
    torch.testing.assert_close(merged.scatter, Moments.of(z).scatter, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("constant", [0.1, -1 / 3, 1e4 + 0.1, 7e-4])
def test_constant_rows_have_exactly_no_scatter(constant):
    whole = torch.full((497, 3), constant, dtype=torch.float64)
    assert not Moments.of(whole).scatter.any()
    assert torch.equal(Moments.of(whole).mean, whole[0])
    assert not Moments.of(whole[:100]).merge(Moments.of(whole[100:])).scatter.any()


@pytest.mark.parametrize("measure", CENTRED.values(), ids=CENTRED)
def test_rows_that_differ_by_rounding_alone_have_no_rank(measure):
    """What a matrix product leaves of a constant: the last bit of float64 differs by row."""
    last_bit = np.sign(randn(497, 24)) * np.finfo(float).eps
    assert measure((5 * randn(1, 24, seed=1)) * (1 + last_bit)) == 0
    # A difference that float64 does hold, a thousand times larger than that, is not swept away.
    assert measure((5 * randn(1, 24, seed=1)) * (1 + 1e3 * last_bit)) > 1
