"""The measures beside the rank family: closed forms, limits, invariances, other libraries."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import hyp0f1

from repcollapse.diagnostics import (
    GroupedMoments,
    alpha_req,
    cev_auc,
    coding_rate,
    cosines_of_means,
    effective_rank,
    feature_std,
    intrinsic_dimension,
    lidar,
    neighbours,
    neural_collapse,
    offdiagonal_correlation,
    participation_ratio,
    prototype_usage,
    sigreg_statistic,
    singular_values,
    srank,
    uniformity,
)
from repcollapse.diagnostics.spectrum import rankme_of, srank_of
from repcollapse.objectives import epps_pulley

few = settings(max_examples=30, deadline=None)
FROZEN = json.loads(Path(__file__).with_name("frozen").joinpath("libraries.json").read_text())
CROSS = np.concatenate([np.eye(5), -np.eye(5)])
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rotation(d, seed=9):
    return np.linalg.qr(randn(d, d, seed=seed))[0]


def falling(n=200, d=30, seed=0):
    return randn(n, d, seed=seed) * np.arange(1, d + 1) ** -0.5


GROUPS = falling()[:, 0].argsort().argsort() // 4  # views agree in one feature
LABELS = np.arange(200) % 7
MEASURES = {
    # name: measure, and what it is invariant to: scale, translation, rotation, scale of rows
    "participation": (participation_ratio, "sto"),
    "unbiased": (lambda z: participation_ratio(z, unbiased=True), "sto"),
    "gaussian": (lambda z: participation_ratio(z, unbiased="gaussian"), "sto"),
    "srank": (srank, "sto"),
    "srank_plain": (lambda z: srank(z, center=False, delta=0.3), "so"),
    "cev_auc": (cev_auc, "sto"),
    "cev_auc_unit": (lambda z: cev_auc(z, rows="unit"), "sor"),
    "alpha_req": (lambda z: alpha_req(z).alpha, "sto"),
    "offdiagonal": (lambda z: offdiagonal_correlation(z).value, "st"),
    "lidar": (lambda z: lidar(z, GROUPS, delta=0.1), "to"),
    "dimension": (lambda z: intrinsic_dimension(z).value, "sto"),
    "coding_rate": (coding_rate, "sor"),
    "nc1": (lambda z: neural_collapse(z, LABELS).nc1, "sto"),
    "nc2_norms": (lambda z: neural_collapse(z, LABELS).nc2_norms, "sto"),
    "nc2_angles": (lambda z: neural_collapse(z, LABELS).nc2_angles, "sto"),
    "cosine": (lambda z: float(cosines_of_means(z, LABELS)[0]), "sto"),
    "sigreg": (sigreg_statistic, ""),
}
CHANGES = {
    "s": lambda z: 0.03 * z,
    "t": lambda z: z + 2,
    "o": lambda z: z @ rotation(z.shape[1]),
    "r": lambda z: z * np.exp(randn(len(z), 1, seed=8)),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("change", CHANGES)
def test_measures_ignore_what_they_say_and_nothing_else(name, change):
    measure, ignored = MEASURES[name]
    z = falling() + 0.2
    before, after = measure(z), measure(CHANGES[change](z))
    if change in ignored:
        assert after == pytest.approx(before, rel=1e-7)
    else:
        assert abs(after - before) > 1e-3 * abs(before)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_the_numbers_it_holds(name, dtype):
    measure, _ = MEASURES[name]
    z = torch.from_numpy(falling()).to(dtype)
    assert measure(z) == measure(z.double()) == measure(z.double().numpy())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert measure(z) == measure(z.double())


@pytest.mark.parametrize("constant", [0.0, 0.1, -1 / 3, 1e4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_complete_collapse(constant, dtype):
    z = torch.full((200, 30), constant, dtype=dtype)
    for unbiased in (False, True, "gaussian"):
        assert participation_ratio(z, unbiased=unbiased) == 0
    assert (srank(z), cev_auc(z), cev_auc(z, rows="unit")) == (0, 1, 1)
    assert lidar(z, GROUPS) == 0
    assert intrinsic_dimension(z) == (0, 1, 199)
    assert coding_rate(z) == pytest.approx(math.log(61) / 2 if constant else 0, rel=1e-9)
    assert coding_rate(z, normalised=True) == pytest.approx(0, abs=1e-12)
    correlation = offdiagonal_correlation(z)
    assert math.isnan(correlation.value) and correlation.dead == tuple(range(30))
    assert all(math.isnan(value) for value in neural_collapse(z, LABELS)[:3])
    with pytest.raises(ValueError, match="rank is 0"):
        alpha_req(z)


# --- spectra


@st.composite
def spectra(draw):
    n, d = draw(st.integers(4, 24)), draw(st.integers(1, 12))
    decay = np.arange(1, d + 1.0) ** -draw(st.sampled_from([0.0, 1.0, 3.0]))
    rank = np.arange(d) < draw(st.integers(1, d))
    z = (randn(n, d, seed=draw(st.integers(0, 2**32 - 1))) * decay * rank) @ rotation(d)
    dtype = draw(st.sampled_from(DTYPES))
    return torch.from_numpy(z + draw(st.sampled_from([0.0, 10.0]))).to(dtype)


@few
@given(spectra())
def test_order_and_ranges_at_every_precision(z):
    sigma = singular_values(z)
    rank = int((sigma > 0).sum())
    chain = [
        participation_ratio(z),
        effective_rank(z, spectrum="lambda"),
        float(sigma.sum() ** 2 / sigma.square().sum()) if rank else 0.0,
        effective_rank(z),
        float(rank),
    ]
    for smaller, larger in itertools.pairwise(chain):
        assert smaller <= larger * (1 + 1e-9)
    assert srank(z) <= rank
    assert (srank(z) >= 1) == (rank >= 1)
    assert 0.5 < cev_auc(z) <= cev_auc(z, spectrum="lambda") * (1 + 1e-12) <= 1 + 1e-12
    low, high = math.log1p(2 * z.shape[1]) / 2, min(z.shape)
    high = high / 2 * math.log1p(2 * z.shape[1] / high)
    assert low - 1e-9 <= coding_rate(z) <= high + 1e-9 or not z.any()
    assert 0 <= coding_rate(z, normalised=True) <= 1


def test_equal_directions():
    z = np.zeros((10, 12))
    z[:, :5] = CROSS
    assert srank(z) == 5
    assert srank(z, delta=0.5) == 3
    # Exactly enough is enough.
    assert [srank_of(torch.ones(8), 1 - k / 8) for k in range(1, 8)] == [*range(1, 8)]
    assert [srank_of(torch.ones(10), 1 - k / 10) for k in range(1, 10)] == [*range(1, 10)]
    assert cev_auc(z[:, :5]) == pytest.approx(0.6)
    assert coding_rate(CROSS, normalised=True) == pytest.approx(1, rel=1e-12)
    assert coding_rate(CROSS) == pytest.approx(5 / 2 * math.log(3), rel=1e-12)
    assert coding_rate(CROSS, epsilon2=1.0) == pytest.approx(5 / 2 * math.log(2), rel=1e-12)


def test_cumulative_shares_of_a_worked_spectrum():
    # Centred singular values in the ratio 3 : 1; shares 3/4 and 1, of squares 9/10 and 1.
    z = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    assert cev_auc(z) == pytest.approx(7 / 8)
    assert cev_auc(z, spectrum="lambda") == pytest.approx(19 / 20)
    assert cev_auc(z, rows="unit") == pytest.approx(3 / 4)
    assert srank(z, delta=0.26) == 1
    assert srank(z, delta=0.24) == 2


def test_the_mean_is_a_direction_of_the_sources_srank():
    z = randn(300, 8) + 1000
    assert srank(z) == 8
    assert srank(z, center=False) == 1


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law(alpha):
    scales = np.arange(1, 41) ** (-alpha / 2)
    z = np.concatenate([np.diag(scales), -np.diag(scales)])
    for window in ((11, 100), (1, 20)):
        fit = alpha_req(z, window=window)
        assert fit.alpha == pytest.approx(alpha, abs=1e-9)
        assert fit.r2 == pytest.approx(1, abs=1e-9)
        assert (fit.first, fit.last) == (window[0], min(window[1], 40))


def test_the_window_decides_about_the_exponent():
    scales = np.where(np.arange(1, 41) <= 12, 1.0, 0.1)
    z = np.concatenate([np.diag(scales), -np.diag(scales)])
    assert alpha_req(z, window=(13, 40)).alpha == pytest.approx(0, abs=1e-9)
    assert alpha_req(z, window=(3, 22)).alpha > 2
    assert alpha_req(z, window=(3, 22)).r2 < 0.9


def test_fewer_than_ten_eigenvalues_are_no_line():
    with pytest.raises(ValueError, match="got 9 "):
        alpha_req(randn(200, 19))
    assert alpha_req(randn(200, 20)).last == 20
    with pytest.raises(ValueError, match="at least 20"):
        alpha_req(randn(200, 30), window=(11, 19))


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_independent_features_have_a_floor_of_correlation(n):
    value = offdiagonal_correlation(randn(n, 40)).value
    assert value == pytest.approx(math.sqrt(2 / (math.pi * n)), rel=0.1)


def test_correlations_by_numpy_and_dead_features():
    z = randn(50, 6) @ randn(6, 6, seed=1)
    table = np.abs(np.corrcoef(z.T))
    expected = (table.sum() - 6) / 30
    assert offdiagonal_correlation(z).value == pytest.approx(expected, rel=1e-12)
    scaled = z * np.arange(1, 7) ** 3.0
    assert offdiagonal_correlation(scaled).value == pytest.approx(expected, rel=1e-12)
    dead = np.insert(z, [0, 4], 0.3, axis=1)
    found = offdiagonal_correlation(dead)
    assert found.dead == (0, 5)
    assert found.value == pytest.approx(expected, rel=1e-9)


# --- the unbiased participation ratio


def estimates(z, form):
    """Both estimates by their definitions, from the sample covariance and from Q."""
    n = len(z)
    s = np.cov(z.T, ddof=1).reshape(z.shape[1], z.shape[1])
    tr, tr2 = np.trace(s), (s**2).sum()
    if form == "gaussian":
        m = n - 1
        scale = (m - 1) * (m + 2)
        return (m * (m + 1) * tr**2 - 2 * m * tr2) / scale, (m**2 * tr2 - m * tr**2) / scale
    q = (((z - z.mean(axis=0)) ** 2).sum(axis=1) ** 2).sum() / (n - 1)
    c = (n - 1) / (n * (n - 2) * (n - 3))
    return (
        c * (2 * tr2 + (n**2 - 3 * n + 1) * tr**2 - n * q),
        c * ((n - 1) * (n - 2) * tr2 + tr**2 - n * q),
    )


@pytest.mark.parametrize("form", ["distribution-free", "gaussian"])
@pytest.mark.parametrize("shape", [(5, 3), (40, 8), (12, 30)])
def test_the_unbiased_ratio_is_that_of_the_two_estimates(form, shape):
    z = randn(*shape) * np.exp(randn(shape[0], 1, seed=1) / 2) + 3
    top, bottom = estimates(z, form)
    found = participation_ratio(z, unbiased=form)
    assert found == pytest.approx(top / bottom, rel=1e-9) if bottom > 0 else math.isnan(found)


def test_the_distribution_free_estimates_are_right_on_average_exactly():
    """Over all 81 samples of four from three skewed points, each as likely as any other."""
    points = np.array([[0.0, 1.0], [2.0, 5.0], [7.0, -3.0]])
    truth = np.cov(points.T, ddof=0)
    drawn = [np.array(rows) for rows in itertools.product(points, repeat=4)]
    tops, bottoms = zip(*(estimates(z, "distribution-free") for z in drawn), strict=True)
    assert np.mean(tops) == pytest.approx(np.trace(truth) ** 2, rel=1e-12)
    assert np.mean(bottoms) == pytest.approx((truth**2).sum(), rel=1e-12)
    # The form for normal rows is not, for rows as these.
    wrong = np.mean([estimates(z, "gaussian")[1] for z in drawn])
    assert abs(wrong / (truth**2).sum() - 1) > 0.05


def test_few_samples_of_many_dimensions():
    variance = np.arange(1, 513) ** -0.5
    truth = variance.sum() ** 2 / (variance**2).sum()
    assert truth == pytest.approx(281.7, abs=0.5)
    draws = [randn(64, 512, seed=seed) * np.sqrt(variance) for seed in range(20)]
    plain, free, normal = (
        np.mean([participation_ratio(z, unbiased=form) for z in draws])
        for form in (False, True, "gaussian")
    )
    assert plain == pytest.approx(51.2, rel=0.03)
    assert free == pytest.approx(truth, rel=0.06)
    assert normal == pytest.approx(truth, rel=0.06)


def test_rows_of_random_scale_fool_the_normal_form_alone():
    draws = [
        randn(64, 512, seed=seed) * np.exp(randn(64, 1, seed=100 + seed)) for seed in range(20)
    ]
    free, normal = (
        np.median([participation_ratio(z, unbiased=form) for z in draws])
        for form in ("distribution-free", "gaussian")
    )
    assert free == pytest.approx(512, rel=0.15)
    assert normal < 150


def test_unbiased_ratios_need_rows_and_a_form():
    with pytest.raises(ValueError, match="at least 4 rows; got 3"):
        participation_ratio(randn(3, 2), unbiased=True)
    with pytest.raises(ValueError, match="at least 3 rows; got 2"):
        participation_ratio(randn(2, 2), unbiased="gaussian")
    with pytest.raises(ValueError, match="unbiased must be one of"):
        participation_ratio(randn(9, 2), unbiased="jackknife")


# --- LiDAR


def naive_lidar(z, groups, delta):
    keys = sorted(set(groups.tolist()))
    means = np.array([z[groups == key].mean(axis=0) for key in keys])
    between = np.cov(means.T, ddof=1)
    within = sum(
        (z[groups == key] - m).T @ (z[groups == key] - m)
        for key, m in zip(keys, means, strict=True)
    )
    within = within / (len(z) - len(keys)) + delta * np.eye(z.shape[1])
    values, axes = np.linalg.eigh(within)
    root = axes @ np.diag(values**-0.5) @ axes.T
    share = np.linalg.eigvalsh(root @ between @ root).clip(min=0)
    share = share[share > 1e-12 * share.max()] / share.sum()
    return math.exp(-(share * np.log(share)).sum())


@pytest.mark.parametrize(("n", "q", "d"), [(20, 2, 6), (8, 5, 12), (50, 4, 20), (2, 2, 3)])
@pytest.mark.parametrize("delta", [1e-4, 0.1])
def test_lidar_is_its_definition_in_any_order(n, q, d, delta):
    groups = np.repeat(np.arange(n), q)
    z = randn(n, d)[groups] * np.linspace(2, 0.2, d) + 0.3 * randn(n * q, d, seed=1) + 4
    order = np.random.default_rng(2).permutation(n * q)
    found = lidar(z[order], 10 - 3 * groups[order], delta=delta)
    assert found == pytest.approx(naive_lidar(z, groups, delta), rel=1e-7)
    assert 1 - 1e-9 <= found <= min(d, n - 1) + 1e-9


def test_noise_that_views_do_not_share_raises_a_rank_and_not_lidar():
    signal = (randn(200, 4) @ randn(4, 16, seed=1))[np.tile(np.arange(200), 10)]
    signal = signal + 0.1 * randn(2000, 16, seed=2)
    noisy = np.concatenate([signal, randn(2000, 32, seed=3)], axis=1)
    groups = np.tile(np.arange(200), 10)
    assert effective_rank(noisy) > 2 * effective_rank(signal)
    assert lidar(noisy, groups) == pytest.approx(lidar(signal, groups), rel=0.25)


def test_groups_that_lidar_cannot_use():
    z = randn(6, 3)
    with pytest.raises(ValueError, match="2 of 4 have one"):
        lidar(z, [0, 0, 1, 1, 2, 3])
    with pytest.raises(ValueError, match="at least 2 groups"):
        lidar(z, [0] * 6)
    with pytest.raises(ValueError, match=r"shape \(6,\)"):
        lidar(z, [0] * 5)


# --- intrinsic dimension


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.1), (2, 0.1), (5, 0.3)])
def test_the_dimension_of_a_cube_in_more_dimensions(d, tolerance):
    z = np.random.default_rng(0).random((3000, d)) @ randn(d, 20, seed=1)
    assert intrinsic_dimension(z).value == pytest.approx(d, abs=tolerance)


def naive_dimension(z, discard):
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    ordered = np.sort(distance, axis=1)
    ratio = np.sort(ordered[:, 2] / ordered[:, 1])
    kept = min(int(len(z) * (1 - discard)), len(z) - 1)
    x = np.log(ratio[:kept])
    y = -np.log(1 - np.arange(1, kept + 1) / len(z))
    return x @ y / (x @ x)


@pytest.mark.parametrize("n", [5, 16, 17, 60])
@pytest.mark.parametrize("block", [1, 7, 16])
@pytest.mark.parametrize("discard", [0.0, 0.1, 0.5])
def test_neighbours_in_blocks_are_those_of_all_pairs(monkeypatch, n, block, discard):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    for offset in (0, 1e5):
        z = randn(n, 4) + offset
        found = intrinsic_dimension(z, discard=discard)
        assert found.value == pytest.approx(naive_dimension(z, discard), rel=1e-6)


@pytest.mark.parametrize("jitter", [0.0, 1e-9])
def test_duplicates_are_taken_out_and_reported(jitter):
    z = np.random.default_rng(0).random((1000, 6))
    copies = z[:100] + jitter * randn(100, 6, seed=1)
    clean, doubled = intrinsic_dimension(z), intrinsic_dimension(np.concatenate([z, copies]))
    assert (doubled.points, doubled.duplicates) == (1000, 100)
    assert doubled.value == pytest.approx(clean.value, rel=1e-6)
    if jitter:
        kept = intrinsic_dimension(np.concatenate([z, copies]), resolution=0.0)
        assert kept.duplicates == 0 and kept.value < 0.5 * clean.value


def test_many_copies_and_chains_of_near_ones_are_one_point():
    z = randn(30, 3)
    chain = z[:1] + 1e-8 * np.arange(1, 8)[:, None]
    found = intrinsic_dimension(np.concatenate([z, z, z[:5], chain]))
    assert (found.points, found.duplicates) == (30, 42)
    assert found.value == pytest.approx(intrinsic_dimension(z).value, rel=1e-9)


def test_points_without_a_second_neighbour():
    two = np.array([[0.0, 1.0], [1.0, 0.0]]).repeat(5, axis=0)
    assert math.isnan(intrinsic_dimension(two).value)
    assert intrinsic_dimension(two)[1:] == (2, 8)
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert intrinsic_dimension(square).value == math.inf


# --- neural collapse


def simplex(classes, d):
    return np.pad(np.eye(classes) - 1 / classes, ((0, 0), (0, d - classes))) @ rotation(d)


@pytest.mark.parametrize(("classes", "d"), [(2, 3), (3, 3), (10, 12)])
def test_a_simplex_is_neural_collapse_itself(classes, d):
    means = simplex(classes, d)
    labels = np.tile(np.arange(classes), 6)
    found = neural_collapse(3 * means[labels] + 5, labels, weight=0.2 * means,
                            bias=-0.2 * (means @ np.full(d, 5.0)))  # fmt: skip
    assert list(found) == pytest.approx([0, 0, 0, 0, 0], abs=1e-7)


def naive_nc1(z, labels):
    classes = np.unique(labels)
    means = np.array([z[labels == c].mean(axis=0) for c in classes])
    within = sum(
        (z[labels == c] - m).T @ (z[labels == c] - m) for c, m in zip(classes, means, strict=True)
    )
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / len(classes)
    values, axes = np.linalg.eigh(between)
    kept = np.argsort(values)[::-1][: len(classes) - 1]
    inverse = axes[:, kept] @ np.diag(1 / values[kept]) @ axes[:, kept].T
    return np.trace(within / len(z) @ inverse) / len(classes)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("residue", [1e-4, 0.1, 1.0])
def test_nc1_keeps_the_directions_of_the_means_and_no_others(scale, residue):
    labels = np.arange(300) % 5
    z = scale * (simplex(5, 20)[labels] + residue * randn(300, 20) + 3)
    assert neural_collapse(z, labels).nc1 == pytest.approx(naive_nc1(z, labels), rel=1e-6)
    assert neural_collapse(z, labels).nc1 == pytest.approx(residue**2 * 20 * 0.2, rel=0.2)


def test_nc1_ignores_every_linear_map_where_means_span_the_space():
    labels = np.arange(300) % 5
    z = simplex(5, 5)[labels][:, :4] + 0.1 * randn(300, 4)
    mapped = z @ (np.eye(4) + 0.3 * randn(4, 4, seed=1))
    assert neural_collapse(mapped, labels).nc1 == pytest.approx(
        neural_collapse(z, labels).nc1, rel=1e-6
    )


def test_angles_are_averaged_as_absolute_values():
    """Three means of equal norm, far from a simplex: their mean cosine is -1/2 all the same."""
    square = np.array([[1.0, 0, 1], [-1, 0, 1], [0, 1, -1], [0, -1, -1]])
    labels = np.arange(4)
    found = neural_collapse(square, labels)
    cosines = square @ square.T / 2
    pairs = cosines[~np.eye(4, dtype=bool)]
    assert pairs.mean() == pytest.approx(-1 / 3)
    assert found.nc2_norms == pytest.approx(0, abs=1e-12)
    assert found.nc2_angles == pytest.approx(np.abs(pairs + 1 / 3).mean(), rel=1e-12)
    assert found.nc2_angles > 0.1
    above = cosines[np.triu_indices(4, k=1)]
    np.testing.assert_allclose(cosines_of_means(square, labels), above, atol=1e-12)


@pytest.mark.parametrize(("classes", "d"), [(2, 1), (3, 3), (10, 12)])
def test_in_a_simplex_all_cosines_of_means_are_one_number(classes, d):
    means = simplex(classes, max(d, classes)) if d > 1 else np.array([[1.0], [-1.0]])
    labels = np.tile(np.arange(classes), 4)[::-1]
    found = cosines_of_means(0.01 * means[labels] + 7, labels)
    assert found.shape == (classes * (classes - 1) // 2,) and found.dtype == torch.float64
    np.testing.assert_allclose(found, -1 / (classes - 1), atol=1e-9)


def test_cosines_of_means_are_of_classes_in_ascending_order_whatever_their_names():
    z = np.array([[3.0, 0.0], [0.0, 2.0], [-3.0, -2.0]])
    centred = unit_rows_of(z)
    expected = [centred[0] @ centred[1], centred[0] @ centred[2], centred[1] @ centred[2]]
    np.testing.assert_allclose(cosines_of_means(z, [4, 9, 11]), expected, atol=1e-12)
    swapped = cosines_of_means(z, [9, 4, 11])
    np.testing.assert_allclose(swapped, np.array(expected)[[0, 2, 1]], atol=1e-12)


def unit_rows_of(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_equal_means_have_no_direction_and_one_class_has_no_pair():
    assert cosines_of_means(np.full((6, 3), 0.1), [0, 1, 2] * 2).tolist() == [0, 0, 0]
    one_at_the_centre = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    assert cosines_of_means(one_at_the_centre, [0, 1, 2]).tolist() == [-1, 0, 0]
    with pytest.raises(ValueError, match="labels needs at least 2 classes; got 1"):
        cosines_of_means(randn(4, 2), [3] * 4)


def test_norms_classifiers_and_disagreement():
    labels = np.arange(90) % 3
    z = np.array([[2.0, 0], [-1, 0], [-1, 0.5]])[labels] + 0.4 * randn(90, 2)
    weight, bias = randn(3, 2, seed=1), randn(3, seed=2)
    found = neural_collapse(z, labels, weight=weight, bias=bias)
    means = np.array([z[labels == c].mean(axis=0) for c in range(3)])
    centred = means - means.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    assert found.nc2_norms == pytest.approx(norms.std() / norms.mean(), rel=1e-9)
    gap = weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred)
    assert found.nc3 == pytest.approx(np.linalg.norm(gap), rel=1e-9)
    answers = (z @ weight.T + bias).argmax(axis=1)
    nearest = ((z[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert found.nc4 == (answers != nearest).mean() > 0
    assert neural_collapse(z, labels, weight=weight).nc4 != found.nc4
    assert neural_collapse(z, labels)[3:] == (None, None)


def test_equal_means():
    labels = np.tile([0, 1], 10)
    z = randn(10, 3).repeat(2, axis=0)
    found = neural_collapse(z, labels)
    assert found.nc1 > 1e20 or found.nc1 == math.inf
    with pytest.raises(ValueError, match="at least 2 classes"):
        neural_collapse(z, [0] * 20)
    with pytest.raises(ValueError, match="each of 2 classes; got 3"):
        neural_collapse(z, labels, weight=np.eye(3))
    with pytest.raises(ValueError, match="bias needs a weight"):
        neural_collapse(z, labels, bias=np.zeros(2))
    with pytest.raises(ValueError, match="bias must have shape"):
        neural_collapse(z, labels, weight=np.eye(3)[:2], bias=np.zeros(3))


# --- normality, prototypes, uniformity


def test_the_statistic_is_that_of_the_objective():
    z = torch.from_numpy(randn(70, 6) * 1.3 + 0.2)
    axes = torch.nn.functional.normalize(torch.from_numpy(randn(40, 6, seed=1)), dim=1)
    for knots, extent in ((17, 3.0), (5, 1.0), (60, 8.0)):
        expected = epps_pulley(z @ axes.T, knots=knots, extent=extent).mean()
        found = sigreg_statistic(z, directions=axes, knots=knots, extent=extent)
        assert found == pytest.approx(float(expected), rel=1e-9)
    assert sigreg_statistic(z) == sigreg_statistic(z) != sigreg_statistic(z, seed=1)


def test_the_floor_and_the_collapse_of_the_statistic():
    line = {"knots": 200, "extent": 12.0}
    root = math.sqrt(2 * math.pi)
    zeros = np.zeros((500, 8))
    assert sigreg_statistic(zeros) / 500 == pytest.approx(0.40205, abs=1e-5)
    whole = root * (1 - math.sqrt(2) + 1 / math.sqrt(3))
    assert sigreg_statistic(zeros, **line) / 500 == pytest.approx(whole, abs=1e-6)
    far = np.full((500, 8), 1e3)
    distant = sigreg_statistic(far, slices=64, knots=4001, extent=12.0) / 500
    assert distant == pytest.approx(root * (1 + 1 / math.sqrt(3)), rel=1e-2)
    for n in (50, 1000):
        draws = range(20_000 // n)
        floor = np.mean([sigreg_statistic(randn(n, 16, seed=seed), slices=64) for seed in draws])
        assert floor == pytest.approx(1.0525, abs=0.06)
    assert root * (1 - 1 / math.sqrt(3)) == pytest.approx(1.0594, abs=1e-4)


@pytest.mark.parametrize("k", [2, 5, 64])
def test_prototypes(k):
    balanced = np.eye(k).repeat(3, axis=0)
    assert prototype_usage(balanced) == pytest.approx((1, 0), abs=1e-12)
    assert prototype_usage(np.eye(k)[[1] * 7]) == pytest.approx((1 / k, 0), abs=1e-12)
    uniform = prototype_usage(np.full((7, k), 1 / k))
    assert uniform == pytest.approx((1, math.log(k)), rel=1e-12)
    soft = torch.softmax(torch.from_numpy(randn(50, k)), dim=1)
    found = prototype_usage(soft)
    assert found.entropy == pytest.approx(float((-soft * soft.log()).sum(dim=1).mean()))
    assert found.use == pytest.approx(
        math.exp(float((-soft.mean(0) * soft.mean(0).log()).sum())) / k
    )
    assert found == pytest.approx(prototype_usage(soft.bfloat16()), rel=2e-2)


@pytest.mark.parametrize(
    "rows", [[[0.5, 0.4]], [[1.5, -0.5]], [[0.0, 0.0]], [[1.0, 0.0], [2.0, 3.0]]]
)
def test_rows_that_are_no_probabilities(rows):
    with pytest.raises(ValueError, match="sum to 1; row"):
        prototype_usage(np.array(rows))


@pytest.mark.parametrize("d", [2, 3, 8, 64, 128])
def test_uniformity_on_the_sphere(d):
    readings = [uniformity(randn(2000, d, seed=seed).astype(np.float32)) for seed in range(4)]
    assert np.mean(readings) == pytest.approx(-4 + math.log(hyp0f1(d / 2, 4.0)), abs=2e-3)


@pytest.mark.parametrize("t", [0.5, 2.0, 170.0, 176.0, 400.0])
def test_sharp_and_soft_potentials(t):
    z = randn(40, 3)
    unit = torch.nn.functional.normalize(torch.from_numpy(z), dim=1)
    exponent = -t * torch.pdist(unit).square()
    expected = float(exponent.logsumexp(dim=0)) - math.log(len(exponent))
    assert uniformity(z, t=t) == pytest.approx(expected, rel=1e-10)


# --- other libraries


Z = np.array(FROZEN["z"])


@pytest.mark.parametrize("discard", FROZEN["twonn"])
def test_scikit_dimension_reads_the_same(discard):
    found = intrinsic_dimension(Z, discard=float(discard)).value
    assert found == pytest.approx(FROZEN["twonn"][discard], rel=1e-9)


@pytest.mark.parametrize("window", FROZEN["reptrix_alpha"])
def test_reptrix_reads_the_same_exponent(window):
    first, last = map(int, window.split("-"))
    # Its weights are float32.
    found = alpha_req(Z, window=(first, last)).alpha
    assert found == pytest.approx(FROZEN["reptrix_alpha"][window], rel=1e-6)


def test_what_reptrix_calls_rankme_is_another_rank():
    variance = singular_values(Z).square()
    assert rankme_of(variance) == pytest.approx(FROZEN["reptrix_rankme"], rel=1e-9)
    assert effective_rank(Z, spectrum="lambda") == pytest.approx(FROZEN["reptrix_rankme"], rel=1e-4)
    assert abs(effective_rank(Z) / FROZEN["reptrix_rankme"] - 1) > 0.1


def test_lightly_reads_the_same_deviation_without_our_scale():
    n, d = Z.shape
    ours = feature_std(Z) / math.sqrt(d) * math.sqrt(n / (n - 1))
    assert ours == pytest.approx(FROZEN["lightly_std_of_l2_normalized"], rel=1e-9)


# --- imports


@pytest.mark.parametrize("module", ["repcollapse", "repcollapse.diagnostics"])
def test_heavy_libraries_are_imported_when_they_are_needed(module):
    program = (
        f"import sys, torch; before = set(sys.modules); import {module}; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"sklearn", "scipy", "pandas", "matplotlib", "seaborn", "joblib"}
    assert not heavy & set(json.loads(run.stdout.replace("'", '"')))


def test_parts_of_the_package_are_attributes():
    program = "import repcollapse; print(repcollapse.diagnostics.srank.__name__, dir(repcollapse))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("srank") and "'objectives'" in run.stdout
    import repcollapse

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = repcollapse.nothing


def test_a_state_of_classes_is_enough_for_the_measures_of_classes():
    from repcollapse.diagnostics import lidar_of, neural_collapse_of

    z, labels = falling(), LABELS
    grouped = GroupedMoments.of(z[:90], labels[:90]).update(z[90:], labels[90:])
    assert neural_collapse_of(grouped) == pytest.approx(neural_collapse(z, labels)[:3], rel=1e-9)
    assert lidar_of(grouped) == pytest.approx(lidar(z, labels), rel=1e-9)
