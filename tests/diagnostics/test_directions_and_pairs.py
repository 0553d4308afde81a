"""Spread, mean share, feature std, alignment, uniformity and the intraclass correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp0f1

from repcollapse.diagnostics import (
    alignment,
    effective_rank,
    feature_std,
    instruments,
    intraclass_correlation,
    mean_cosine,
    mean_share,
    pairs,
    participation_ratio,
    rankme,
    singular_values,
    spread,
    stable_rank,
    uniformity,
)

few = settings(max_examples=30, deadline=None)
RANKS = [stable_rank, participation_ratio, effective_rank, rankme]
DIRECTIONS = [spread, mean_share, mean_cosine, feature_std, uniformity]


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


samples = st.builds(
    lambda n, d, offset, seed: randn(n, d, seed=seed) + offset,
    st.integers(2, 30),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 30.0]),
    st.integers(0, 2**32 - 1),
)


# --- definitions and identities


@few
@given(samples)
def test_definitions(z):
    u = unit(z)
    n, d = z.shape
    mean = u.mean(axis=0)
    cosines = [u[i] @ u[k] for i in range(n) for k in range(n)]
    squared = [((u[i] - u[k]) ** 2).sum() for i in range(n) for k in range(i)]
    assert mean_share(z) == pytest.approx(np.mean(cosines), abs=1e-12)
    assert spread(z) == pytest.approx(math.sqrt(max(0, 1 - mean @ mean)), abs=1e-7)
    assert feature_std(z) == pytest.approx(math.sqrt(d) * u.std(axis=0).mean(), abs=1e-12)
    assert uniformity(z) == pytest.approx(math.log(np.mean(np.exp(-2 * np.array(squared)))))


@few
@given(samples)
def test_identities_and_ranges(z):
    n = len(z)
    assert spread(z) ** 2 + mean_share(z) == pytest.approx(1, abs=1e-14)
    # Cauchy and Schwarz: the mean deviation is at most the root of the mean variance.
    assert 0 <= feature_std(z) <= spread(z) + 1e-12
    for measure in (spread, mean_share, feature_std):
        assert 0 <= measure(z) <= 1
    assert -4 * n / (n - 1) - 1e-12 <= uniformity(z) <= 0


@few
@given(samples)
def test_mean_cosine_is_that_of_all_pairs_and_of_no_row_with_itself(z):
    cosines = unit(z) @ unit(z).T
    pairs = cosines[~np.eye(len(z), dtype=bool)]
    assert mean_cosine(z) == pytest.approx(pairs.mean(), abs=1e-12)
    assert -1 / (len(z) - 1) - 1e-12 <= mean_cosine(z) <= 1


@pytest.mark.parametrize("n", [2, 3, 10])
def test_mean_cosine_is_least_where_directions_cancel(n):
    simplex = np.eye(n) - 1 / n
    assert mean_cosine(simplex) == pytest.approx(-1 / (n - 1), rel=1e-12)


def test_mean_cosine_of_uniform_directions_does_not_depend_on_their_number():
    readings = [
        np.mean([mean_cosine(randn(n, 8, seed=seed)) for seed in range(400)]) for n in (3, 50)
    ]
    assert readings == pytest.approx([0, 0], abs=0.03)


def test_without_two_directions_the_mean_cosine_is_that_of_collapse():
    z = np.zeros((5, 3))
    assert mean_cosine(z) == 1
    z[2] = 1
    assert mean_cosine(z) == 1


def test_feature_std_is_the_spread_where_all_features_vary_alike():
    z = np.concatenate([np.eye(5), -np.eye(5)])
    assert feature_std(z) == pytest.approx(spread(z), rel=1e-12)


def test_feature_std_depends_on_the_basis_and_spread_does_not():
    diagonal = randn(40, 1) * np.ones((1, 8))
    axis = np.linalg.norm(diagonal, axis=1, keepdims=True) * np.sign(diagonal[:, :1])
    axis = axis * np.eye(8)[:1]
    assert feature_std(diagonal) > 0.95
    assert feature_std(axis) == pytest.approx(feature_std(diagonal) / math.sqrt(8), rel=1e-12)
    assert spread(axis) == pytest.approx(spread(diagonal), rel=1e-12)


def test_healthy_relu_features_read_below_one():
    z = np.maximum(randn(4000, 128), 0)
    assert feature_std(z) == pytest.approx(0.82, abs=0.01)


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_mean_share_of_uniform_directions_is_one_over_n(n):
    shares = [mean_share(randn(n, 16, seed=seed)) for seed in range(40)]
    assert np.mean(shares) == pytest.approx(1 / n, rel=0.2)


# --- invariances


@pytest.mark.parametrize("measure", DIRECTIONS)
def test_measures_of_direction_ignore_the_scale_of_rows_and_their_order(measure):
    z = randn(30, 6) * np.arange(1, 7) + 0.5
    rows = np.exp(3 * randn(30, 1, seed=1))
    for other in (1e6 * z, rows * z, z[::-1].copy()):
        assert measure(other) == pytest.approx(measure(z), rel=1e-10)
    # Translation moves the origin that directions are seen from.
    assert abs(measure(z + 3) - measure(z)) > 0.05


@pytest.mark.parametrize("measure", [spread, mean_share, uniformity])
def test_measures_of_direction_ignore_rotation(measure):
    z = randn(30, 6) * np.arange(1, 7) + 0.5
    rotation = np.linalg.qr(randn(6, 6, seed=1))[0]
    assert measure(z @ rotation) == pytest.approx(measure(z), rel=1e-10)


def test_alignment_invariances():
    a, b = randn(30, 6), randn(30, 6, seed=1)
    rows, rotation = np.exp(randn(30, 1, seed=2)), np.linalg.qr(randn(6, 6, seed=3))[0]
    assert alignment(rows * a, b / rows) == pytest.approx(alignment(a, b), rel=1e-12)
    assert alignment(a @ rotation, b @ rotation) == pytest.approx(alignment(a, b), rel=1e-12)
    assert abs(alignment(a @ rotation, b) - alignment(a, b)) > 1e-3


def test_intraclass_correlation_invariances():
    views = randn(1, 30, 6) + 0.5 * randn(3, 30, 6, seed=1)
    rotation = np.linalg.qr(randn(6, 6, seed=3))[0]
    for other in (1e5 * views, -1e-5 * views, views + 100, views @ rotation, views[::-1].copy()):
        assert intraclass_correlation(other) == pytest.approx(
            intraclass_correlation(views), rel=1e-9
        )
    rows = np.exp(randn(1, 30, 1, seed=2))
    assert abs(intraclass_correlation(rows * views) - intraclass_correlation(views)) > 1e-3


# --- collapse


@pytest.mark.parametrize("constant", [0.1, -1.0, 1 / 3, 1e4])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize("shape", [(2, 1), (97, 16)])
def test_constant_rows(constant, dtype, shape):
    z = torch.full(shape, constant, dtype=dtype)
    assert spread(z) == 0
    assert feature_std(z) == 0
    assert mean_share(z) == mean_cosine(z) == 1
    assert uniformity(z) == pytest.approx(0, abs=1e-14)
    assert alignment(z, z) == 0


@pytest.mark.parametrize("n", [3, 97, 1000])
def test_equal_rows_have_exactly_no_spread(n):
    """The rounding of their mean is no spread."""
    z = np.repeat(randn(1, 7), n, axis=0)
    assert (spread(z), mean_share(z), mean_cosine(z)) == (0, 1, 1)
    assert instruments(np.stack([z, z]))["spread"] == 0


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.3, -1 / 3, 1e4, 12345.678])
@pytest.mark.parametrize("views", [2, 3, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_views_have_no_correlation(constant, views, dtype):
    """The rounding of a mean is neither between nor within anything."""
    assert intraclass_correlation(torch.full((views, 97, 6), constant, dtype=dtype)) == 0
    row = constant * torch.from_numpy(randn(1, 1, 6)).to(dtype)
    assert intraclass_correlation(row.expand(views, 97, 6)) == 0


def test_all_zero():
    z = torch.zeros(5, 3)
    assert (spread(z), feature_std(z), mean_share(z), alignment(z, z)) == (0, 0, 1, 0)
    assert uniformity(z) == 0
    readings = instruments(torch.zeros(2, 5, 3))
    assert (readings["zero_rows"], readings["effective_rank"], readings["rankme"]) == (5, 0, 0)


def test_instruments_count_zero_rows_and_leave_them_out_of_what_needs_a_direction():
    views = randn(2, 40, 6)
    kept = instruments(views)
    padded = instruments(np.concatenate([np.zeros((2, 3, 6)), views], axis=1))
    assert (kept["zero_rows"], padded["zero_rows"]) == (0, 3)
    for name in ("feature_std", "spread", "mean_share", "uniformity"):
        assert padded[name] == pytest.approx(kept[name], rel=1e-12), name
    assert padded["raw_std"] < kept["raw_std"]


@pytest.mark.parametrize("measure", DIRECTIONS)
def test_zero_rows_are_left_out(measure):
    z = randn(10, 4)
    assert measure(np.concatenate([np.zeros((3, 4)), z])) == pytest.approx(measure(z), rel=1e-12)


def test_a_zero_row_keeps_its_length_in_alignment():
    a, b = np.eye(2), np.eye(2)
    b[0] = 0
    assert alignment(a, b) == 0.5


@pytest.mark.parametrize("residue", [1e-2, 1e-4, 1e-7])
def test_spread_is_proportional_to_the_residue_near_collapse(residue):
    """It is not a difference of numbers near one: that would read 0 or noise below 1e-8."""
    base, noise = randn(1, 16) * 5, randn(200, 16, seed=1)
    direction = base / np.linalg.norm(base)
    tangent = noise - (noise @ direction.T) * direction
    tangent -= tangent.mean(axis=0)
    expected = residue * np.sqrt((tangent**2).sum() / 200) / np.linalg.norm(base)
    assert spread(base + residue * noise) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("measure", DIRECTIONS)
def test_half_precision_is_read_as_the_numbers_it_holds(measure, dtype):
    z = torch.from_numpy(randn(40, 6)).to(dtype)
    assert measure(z) == measure(z.double()) == measure(z.double().numpy())


# --- alignment and uniformity


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 3.0])
def test_alignment_is_the_mean_power_of_the_distance(alpha):
    a, b = randn(20, 5), randn(20, 5, seed=1)
    distance = np.linalg.norm(unit(a) - unit(b), axis=1)
    assert alignment(a, b, alpha=alpha) == pytest.approx((distance**alpha).mean(), rel=1e-12)
    assert alignment(a, -a, alpha=alpha) == pytest.approx(2**alpha, rel=1e-12)
    assert alignment(a, b) == alignment(a, b, alpha=2.0)


@pytest.mark.parametrize("d", [2, 3, 8, 64, 128])
@pytest.mark.parametrize("t", [1.0, 2.0])
def test_uniformity_of_uniform_directions(d, t):
    closed = -2 * t + math.log(hyp0f1(d / 2, t * t))
    assert uniformity(randn(3000, d), t=t) == pytest.approx(closed, abs=4e-3)


def test_uniformity_is_nearly_blind_to_rank():
    narrow = np.zeros((3000, 128))
    narrow[:, :8] = randn(3000, 8)
    assert uniformity(narrow) == pytest.approx(-3.08, abs=0.01)
    assert uniformity(randn(3000, 128)) == pytest.approx(-3.94, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 15, 16, 17, 33])
@pytest.mark.parametrize("block", [1, 7, 16])
def test_uniformity_in_blocks_is_that_of_all_pairs(monkeypatch, n, block):
    monkeypatch.setattr(pairs, "BLOCK", block)
    z = randn(n, 4)
    squared = torch.pdist(torch.from_numpy(unit(z))).square()
    expected = float(squared.mul(-2).exp().mean().log())
    assert uniformity(z) == pytest.approx(expected, rel=1e-10)


def test_self_pairs_are_not_counted():
    """Counting them would read -3.925 for 3000 rows of 128 dimensions, not -3.937."""
    z = randn(200, 64)
    cosine = unit(z) @ unit(z).T
    with_selves = math.log(np.exp(-4 * (1 - cosine)).mean())
    assert uniformity(z) < with_selves - 0.1


def test_uniformity_where_every_potential_underflows():
    antipodes = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(antipodes, t=500.0) == pytest.approx(-2000, rel=1e-12)


def test_uniformity_is_least_on_a_simplex():
    n, t = 9, 2.0
    simplex = np.eye(n) - 1 / n
    assert uniformity(simplex, t=t) == pytest.approx(-2 * t * n / (n - 1), rel=1e-12)


# --- intraclass correlation


def anova(views):
    """One-way analysis of variance by hand, a sample a group, summed over dimensions."""
    n_views, n, d = views.shape
    ms_between = ms_within = 0.0
    for j in range(d):
        grand = views[:, :, j].mean()
        for i in range(n):
            group = views[:, i, j]
            ms_between += n_views * (group.mean() - grand) ** 2 / (n - 1)
            ms_within += sum((x - group.mean()) ** 2 for x in group) / (n * (n_views - 1))
    between = max(0, (ms_between - ms_within) / n_views)
    return between / (between + ms_within)


@few
@given(
    st.integers(2, 5), st.integers(2, 12), st.integers(1, 5), st.sampled_from([0.1, 1.0, 5.0]),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_intraclass_correlation_is_that_of_the_analysis_of_variance(v, n, d, noise, seed):
    views = randn(1, n, d, seed=seed) + noise * randn(v, n, d, seed=seed + 1)
    measured = intraclass_correlation(views)
    assert measured == pytest.approx(anova(views), rel=1e-9, abs=1e-12)
    assert 0 <= measured <= 1


def test_a_worked_example():
    # Groups (0, 2) and (4, 6): means 1 and 5, MS between 16, MS within 2, so B = 7 and 7 / 9.
    views = torch.tensor([[[0.0], [4.0]], [[2.0], [6.0]]])
    assert intraclass_correlation(views) == pytest.approx(7 / 9, rel=1e-12)


def test_limits_of_the_intraclass_correlation():
    samples_only = np.repeat(randn(1, 40, 8), 4, axis=0)
    assert intraclass_correlation(samples_only) == 1
    assert intraclass_correlation(randn(8, 2000, 8)) == pytest.approx(0, abs=0.01)
    views_only = np.repeat(randn(4, 1, 8), 40, axis=1)
    assert intraclass_correlation(views_only) == 0


@pytest.mark.parametrize("entries", [1, 100, 1 << 16])
def test_intraclass_correlation_does_not_depend_on_the_blocks(entries, monkeypatch):
    views = 1e3 + randn(1, 75, 6) + 0.5 * randn(3, 75, 6, seed=1)
    monkeypatch.setattr(pairs, "ENTRIES", entries)
    assert intraclass_correlation(views) == pytest.approx(anova(views), rel=1e-9)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_intraclass_correlation_estimates_the_share_of_variance(noise):
    views = randn(1, 4000, 8) + noise * randn(3, 4000, 8, seed=1)
    assert intraclass_correlation(views) == pytest.approx(1 / (1 + noise**2), abs=0.02)


# --- the set of instruments


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(30, 6), (20, 50), (700, 3)])
def test_instruments_are_the_single_functions(shape, dtype):
    from repcollapse import diagnostics

    samples, noise = randn(1, *shape), randn(3, *shape, seed=1)
    views = torch.from_numpy(samples + 0.5 * noise).to(dtype)
    readings = instruments(views)
    z = views[0].double()
    assert readings["alignment"] == alignment(z, views[1].double())
    assert readings["intraclass_correlation"] == intraclass_correlation(views)
    assert readings["raw_std"] == pytest.approx(float(z.std(dim=0).mean()))
    single = set(readings) - {"alignment", "intraclass_correlation", "raw_std", "zero_rows"}
    assert readings["zero_rows"] == 0
    assert single == {
        *("feature_std", "spread", "mean_share", "stable_rank", "participation_ratio"),
        *("effective_rank", "rankme", "uniformity"),
    }
    for name in single:
        assert readings[name] == getattr(diagnostics, name)(views[0]), name


@pytest.mark.parametrize("constant", [0.1, 1e4])
def test_instruments_at_collapse(constant):
    readings = instruments(torch.full((4, 97, 16), constant))
    zero = {
        *("raw_std", "feature_std", "spread", "stable_rank", "participation_ratio"),
        *("effective_rank", "alignment", "uniformity", "intraclass_correlation"),
    }
    for name in zero:
        assert readings[name] == pytest.approx(0, abs=1e-11), name
    assert readings["mean_share"] == 1
    assert readings["rankme"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("exponent", [-300, -100, 100, 160, 300])
def test_the_range_of_float64_is_no_limit(exponent):
    z = randn(40, 6) + 0.5
    scaled = z * 10.0**exponent
    for measure in (spread, feature_std, mean_share, uniformity, *RANKS):
        assert measure(scaled) == pytest.approx(measure(z), rel=1e-9), measure.__name__


@pytest.mark.parametrize("center", [True, False])
def test_few_rows_of_many_columns(center):
    z = randn(12, 400) * np.logspace(0, -9, 12)[:, None]
    reference = np.linalg.svd(z - z.mean(axis=0) if center else z, compute_uv=False)
    keep = reference > reference[0] * 1e-10
    values = singular_values(z, center=center).numpy()
    np.testing.assert_allclose(values[keep], reference[keep], rtol=1e-6)
