"""The mergeable states: against numpy, in any batches, far from the origin, at any precision."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repcollapse import diagnostics
from repcollapse.diagnostics import (
    EmbeddingMoments,
    GroupedMoments,
    JackknifeMoments,
    Moments,
    intraclass_correlation,
    intraclass_correlation_of,
    jackknife_intervals,
    moments,
    null_measures,
    null_singular_values,
    spectral_measures,
)
from repcollapse.diagnostics.spectrum import (
    alpha_req_of,
    cev_auc_of,
    effective_rank_of,
    participation_ratio_of,
    rankme_of,
    srank_of,
    stable_rank_of,
)

few = settings(max_examples=30, deadline=None)


def randn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


samples = st.builds(
    lambda n, d, offset, scale, seed: scale * (randn(n, d, seed=seed) + offset),
    st.integers(4, 40),
    st.integers(1, 12),
    st.sampled_from([0.0, 1.0, 1e4]),
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.integers(0, 2**32 - 1),
)
cuts = st.lists(st.integers(1, 39), max_size=4)


def parts(z, places):
    edges = sorted({0, len(z), *(place for place in places if place < len(z))})
    return [z[a:b] for a, b in itertools.pairwise(edges)]


def close(ours, theirs, *, scale, digits=1e-9):
    np.testing.assert_allclose(ours, theirs, rtol=digits, atol=digits * scale)


def direct(z):
    """Return mean, scatter, third and fourth by their definitions, in two passes."""
    mean = z.mean(axis=0)
    centred = z - mean
    squares = (centred**2).sum(axis=1)
    return mean, centred.T @ centred, squares @ centred, (squares**2).sum()


# --- moments


@few
@given(samples)
def test_moments_are_their_definitions(z):
    found = Moments.of(torch.from_numpy(z))
    mean, scatter, third, fourth = direct(z)
    spread = float(np.trace(scatter))
    # A mean that is 10,000 deviations away leaves twelve of sixteen digits to a deviation.
    close(found.mean, mean, scale=float(np.abs(mean).max()), digits=1e-13)
    close(found.scatter, scatter, scale=spread)
    close(found.third, third, scale=spread**1.5)
    close(found.fourth, fourth, scale=spread**2)


@few
@given(samples, cuts)
def test_every_state_is_the_same_however_the_rows_were_split(z, places):
    z = torch.from_numpy(z)
    whole = EmbeddingMoments.of(z)
    merged = EmbeddingMoments.empty(z.shape[1])
    for part in parts(z, places):
        merged = merged.update(part)
    assert merged.zero_rows == whole.zero_rows
    for ours, theirs in ((merged.rows, whole.rows), (merged.units, whole.units)):
        spread = float(theirs.scatter.trace()) + 1e-20 * float(theirs.mean.square().sum())
        assert ours.count == theirs.count
        close(ours.scatter, theirs.scatter, scale=spread)
        close(ours.third, theirs.third, scale=spread**1.5)
        close(ours.fourth, theirs.fourth, scale=spread**2)


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 1023, 1024, 1025, 2500])
def test_blocks_leave_no_row_out(rows):
    z = randn(rows, 5) + np.arange(rows)[:, None] / 100
    found = EmbeddingMoments.of(z)
    mean, scatter, third, fourth = direct(z)
    np.testing.assert_allclose(found.rows.mean, mean, rtol=1e-12)
    close(found.rows.scatter, scatter, scale=1, digits=1e-10)
    close(found.rows.third, third, scale=max(fourth, 1), digits=1e-10)
    assert found.rows.fourth == pytest.approx(fourth, rel=1e-10, abs=1e-12)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    close(found.units.scatter, direct(unit)[1], scale=1, digits=1e-10)
    assert found.units.count == found.rows.count == rows


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_mean_of_ten_thousand_deviations_is_read_as_the_numbers_it_holds(dtype):
    """One pass in half precision reads a variance of 0, or a negative one."""
    z = (100 + torch.from_numpy(randn(3000, 8))).to(dtype)
    found = spectral_measures(EmbeddingMoments.of(z))
    expected = spectral_measures(EmbeddingMoments.of(z.double()))
    assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert found["raw_std"] == pytest.approx(float(z.double().std(dim=0).mean()), rel=1e-10)
    assert found["raw_std"] > 0.9


def test_one_pass_in_float32_is_what_this_avoids():
    z = torch.from_numpy(100 + 0.01 * randn(5000, 4)).float()
    one_pass = (z.square().mean(dim=0) - z.mean(dim=0).square()).abs().sqrt().mean()
    assert abs(float(one_pass) / 0.01 - 1) > 0.3
    assert spectral_measures(EmbeddingMoments.of(z))["raw_std"] == pytest.approx(0.01, rel=0.02)


def test_zero_rows_are_counted_and_have_no_direction():
    z = randn(40, 6)
    z[[3, 17, 39]] = 0
    for units in (True, False):
        state = EmbeddingMoments.of(z, units=units).update(np.zeros((2, 6)))
        assert (state.rows.count, state.zero_rows) == (42, 5)
    directions = EmbeddingMoments.of(z).units
    assert directions.count == 37
    kept = EmbeddingMoments.of(z[z.any(axis=1)]).units
    torch.testing.assert_close(directions.scatter, kept.scatter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1 / 3, 1e4])
def test_constant_rows_have_exactly_no_scatter(constant):
    z = torch.full((3000, 7), constant)
    found = spectral_measures(EmbeddingMoments.of(z[:1300]).update(z[1300:]))
    zero = ["raw_std", "rank", "stable_rank", "participation_ratio", "effective_rank"]
    for name in [*zero, "effective_rank_lambda", "participation_ratio_unbiased", "srank"]:
        assert found[name] == 0
    assert (found["feature_std"], found["spread"]) == (0, 0)
    assert found["cev_auc"] == 1
    assert math.isnan(found["offdiagonal_correlation"]) and math.isnan(found["alpha_req"])
    assert found["coding_rate_normalised"] == pytest.approx(0, abs=1e-12)
    assert found["rankme"] == pytest.approx(1 if constant else 0, abs=1e-4)


@pytest.mark.parametrize("scale", [1e80, 1e-80])
def test_numbers_whose_fourth_powers_are_none_are_refused_by_states_and_not_by_measures(scale):
    z = scale * randn(20, 3)
    with pytest.raises(ValueError, match="rescale it"):
        Moments.of(z)
    for measure in (diagnostics.effective_rank, diagnostics.stable_rank):
        assert measure(z) == pytest.approx(measure(z / scale), rel=1e-9)
    found = diagnostics.participation_ratio(z, unbiased=True)
    assert found == pytest.approx(diagnostics.participation_ratio(z / scale, unbiased=True))
    value = diagnostics.offdiagonal_correlation(z).value
    assert value == pytest.approx(diagnostics.offdiagonal_correlation(z / scale).value)


def test_packing_keeps_every_bit_and_notices_lost_ones():
    state = EmbeddingMoments.of(randn(30, 5))
    for given_state, units in ((state, True), (EmbeddingMoments(state.rows, None, 2), False)):
        back = EmbeddingMoments.unpack(given_state.pack(), units=units)
        assert torch.equal(back.pack(), given_state.pack())
        assert (back.zero_rows, back.units is None) == (given_state.zero_rows, not units)
    with pytest.raises(TypeError, match="float64"):
        Moments.unpack(state.rows.pack().float())
    with pytest.raises(ValueError, match="shape"):
        Moments.unpack(state.rows.pack()[:-1])


def test_states_that_do_not_fit_are_refused():
    state = EmbeddingMoments.of(randn(5, 3))
    with pytest.raises(ValueError, match="3 columns; got 4"):
        state.update(randn(5, 4))
    with pytest.raises(ValueError, match="unit rows"):
        state.merge(EmbeddingMoments.of(randn(5, 3), units=False))
    for other in (GroupedMoments.of(randn(4, 3), [0, 1, 0, 1]), JackknifeMoments.of(randn(4, 3))):
        with pytest.raises(TypeError, match="EmbeddingMoments"):
            state.merge(other)
        with pytest.raises(TypeError, match="other must be"):
            other.merge(state)
    with pytest.raises(ValueError, match="at least 2 rows"):
        spectral_measures(EmbeddingMoments.of(randn(1, 3)))


# --- against a float64 SVD


def by_svd(z, window):
    centred = z - z.mean(axis=0)
    centred -= centred.mean(axis=0)
    sigma = torch.from_numpy(np.linalg.svd(centred, compute_uv=False))
    plain = torch.from_numpy(np.linalg.svd(z, compute_uv=False))
    return read(sigma, plain, window)


def read(sigma, plain, window):
    return {
        "stable_rank": stable_rank_of(sigma),
        "participation_ratio": participation_ratio_of(sigma),
        "effective_rank_lambda": effective_rank_of(sigma.square()),
        "effective_rank": effective_rank_of(sigma),
        "cev_auc": cev_auc_of(sigma),
        "srank": srank_of(sigma),
        "alpha": alpha_req_of(sigma, window).alpha,
        "rankme": rankme_of(plain),
        "effective_rank_plain": effective_rank_of(plain),
    }


@pytest.mark.parametrize("d", [24, 100, 300])
@pytest.mark.parametrize("condition", [1e2, 1e6])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scalars_agree_with_a_float64_svd_to_six_digits(d, condition, offset, dtype):
    scales = np.geomspace(1, 1 / condition, d)
    rotation = np.linalg.qr(randn(d, d, seed=1))[0]
    z = ((randn(1500, d) * scales) @ rotation + offset * randn(1, d, seed=2)).astype(dtype)
    state = Moments.of(z[:400]).update(z[400:])
    window = (11, 100)
    found = read(state.eigenvalues().sqrt(), state.eigenvalues(center=False).sqrt(), window)
    assert found == pytest.approx(by_svd(z.astype(np.float64), window), rel=1e-6)


def test_half_of_the_dimensions_a_millionth_of_the_others():
    """A step is no power law, and its exponent is left out: it weighs every small value alike."""
    scales = np.r_[np.ones(20), np.full(20, 1e-6)]
    z = (randn(1500, 40) * scales) @ np.linalg.qr(randn(40, 40, seed=1))[0]
    for offset in (0.0, 1.0, 1e4):
        state = Moments.of(z + offset)
        sigma, plain = state.eigenvalues().sqrt(), state.eigenvalues(center=False).sqrt()
        found, expected = read(sigma, plain, (1, 20)), by_svd(z + offset, (1, 20))
        assert found == pytest.approx(expected, rel=1e-6)


def test_what_few_rows_cannot_have_is_exactly_zero():
    state = Moments.of(randn(7, 30) + 5)
    assert int((state.eigenvalues() > 0).sum()) == 6
    assert int((state.eigenvalues(center=False) > 0).sum()) == 7


@few
@given(samples)
def test_measures_of_a_state_are_the_single_functions(z):
    found = spectral_measures(EmbeddingMoments.of(z))
    d = diagnostics
    expected = {
        "stable_rank": d.stable_rank(z),
        "participation_ratio": d.participation_ratio(z),
        "participation_ratio_unbiased": d.participation_ratio(z, unbiased=True),
        "effective_rank_lambda": d.effective_rank(z, spectrum="lambda"),
        "effective_rank": d.effective_rank(z),
        "rankme": d.rankme(z),
        "srank": d.srank(z),
        "cev_auc": d.cev_auc(z),
        "offdiagonal_correlation": d.offdiagonal_correlation(z).value,
        "feature_std": d.feature_std(z),
        "mean_share": d.mean_share(z),
        "coding_rate": d.coding_rate(z),
        "coding_rate_normalised": d.coding_rate(z, normalised=True),
        "raw_std": float(z.std(axis=0, ddof=1).mean()),
    }
    measured = {name: found[name] for name in expected}
    assert measured == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)
    # The root of a difference near zero keeps half of its digits.
    assert found["spread"] == pytest.approx(d.spread(z), abs=1e-7)
    assert set(found) == set(null_measures(*z.shape))


# --- null values


def test_gaussian_ranks_of_isotropic_data_are_those_of_marchenko_and_pastur():
    """Shares of 64 dimensions, as measured on draws."""
    table = {
        0.01: (0.9987, 0.995, 0.990),
        0.1: (0.987, 0.950, 0.907),
        0.25: (0.965, 0.880, 0.797),
        0.5: (0.925, 0.776, 0.663),
        1.0: (0.803, 0.603, 0.496),
    }
    for ratio, (plain, entropy, participation) in table.items():
        null = null_measures(round(64 / ratio), 64)
        assert null["rankme"] / 64 == pytest.approx(plain, abs=0.004)
        assert null["effective_rank_lambda"] / 64 == pytest.approx(entropy, abs=0.004)
        assert null["participation_ratio"] / 64 == pytest.approx(participation, abs=0.006)
        assert null["participation_ratio_unbiased"] == 64


@pytest.mark.parametrize("shape", [(30, 8), (64, 64), (50, 256), (400, 64), (5, 1), (2, 3)])
def test_null_values_are_the_means_of_draws(shape):
    draws = [spectral_measures(EmbeddingMoments.of(randn(*shape, seed=seed))) for seed in range(60)]
    few_rows = shape[0] <= 5
    for name, null in null_measures(*shape).items():
        if name == "participation_ratio_unbiased" and shape[0] < 30:
            continue  # a ratio of noisy estimates: its mean is another question
        readings = np.array([draw[name] for draw in draws])
        if math.isnan(null):
            assert np.isnan(readings).all()
            continue
        error = readings.std(ddof=1) / math.sqrt(len(readings))
        slack = (0.1 if few_rows else 0.03) * abs(null)
        assert abs(readings.mean() - null) <= 4 * error + slack, name


@pytest.mark.parametrize("shape", [(2, 1), (2, 9), (5, 5), (6, 5), (300, 100), (100, 300)])
@pytest.mark.parametrize("center", [True, False])
def test_null_spectra_have_the_energy_and_the_rank_of_draws(shape, center):
    sigma = null_singular_values(*shape, center=center)
    freedom = shape[0] - center
    assert sigma.shape == (min(shape),)
    assert (sigma[:-1] >= sigma[1:]).all()
    assert int((sigma > 0).sum()) == min(freedom, shape[1])
    assert float(sigma.square().sum()) == pytest.approx(freedom * shape[1], rel=1e-12)


# --- intervals


@few
@given(samples, cuts, st.integers(0, 30))
def test_blocks_follow_the_global_row_index(z, places, start):
    whole = JackknifeMoments.of(z, blocks=4, start=start)
    first, *rest = parts(z, places)
    merged = JackknifeMoments.of(first, blocks=4, start=start)
    for part in rest:
        merged = merged.update(part)
    assert merged.next_row == whole.next_row == start + len(z)
    for ours, theirs in zip(merged.blocks, whole.blocks, strict=True):
        assert ours.rows.count == theirs.rows.count
        scale = float(theirs.rows.scatter.trace()) + 1e-20 * float(theirs.rows.mean.square().sum())
        close(ours.rows.scatter, theirs.rows.scatter, scale=scale)


def test_leaving_a_block_out_is_leaving_its_rows_out():
    z = randn(60, 5) + 3
    state = JackknifeMoments.of(z, blocks=3)
    for k, left in enumerate(state.left_out()):
        rows = z[np.arange(60) % 3 != k]
        torch.testing.assert_close(left.rows.scatter, Moments.of(rows).scatter)
    torch.testing.assert_close(state.total().rows.scatter, Moments.of(z).scatter)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    z = randn(400, 1)
    state = JackknifeMoments.of(z, blocks=400 // 4)

    def first(part):
        return {"mean": float(part.rows.mean[0])}

    found = jackknife_intervals(state, measures=first)["mean"]
    groups = np.array([z[k::100].mean() for k in range(100)])
    assert found.error == pytest.approx(groups.std(ddof=1) / 10, rel=1e-9)
    assert found.high - found.value == pytest.approx(1.984217 * found.error, rel=1e-5)


def test_intervals_cover_what_other_samples_read():
    """Of normal data with a falling spectrum, at 95 %; three binomial errors are allowed for."""
    scales = np.arange(1, 9.0) ** -0.5

    def measures(state):
        sigma = state.rows.eigenvalues().sqrt()
        return {
            "effective_rank": effective_rank_of(sigma),
            "participation_ratio": participation_ratio_of(sigma),
            "energy": float(sigma.square().sum()),
        }

    readings = [
        jackknife_intervals(
            JackknifeMoments.of(randn(320, 8, seed=seed) * scales + 0.3, units=False),
            measures=measures,
        )
        for seed in range(120)
    ]
    for name in readings[0]:
        centre = np.mean([reading[name].value for reading in readings])
        covered = np.mean([r[name].low <= centre <= r[name].high for r in readings])
        assert 0.89 <= covered <= 0.995, (name, covered)


@pytest.mark.parametrize(
    ("options", "message"), [({"level": 0.0}, "above 0"), ({"level": 1.0}, "below 1")]
)
def test_intervals_need_a_level_and_rows(options, message):
    state = JackknifeMoments.of(randn(100, 3))
    with pytest.raises(ValueError, match=message):
        jackknife_intervals(state, **options)
    with pytest.raises(ValueError, match="3 rows in every block; one has 1"):
        jackknife_intervals(JackknifeMoments.of(randn(20, 3)))


# --- grouped


@few
@given(samples, cuts, st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_groups_do_not_depend_on_the_order_or_the_batches(z, places, groups, seed):
    labels = np.random.default_rng(seed).integers(-groups, groups, len(z))
    whole = GroupedMoments.of(z, labels)
    pieces = list(zip(parts(z, places), parts(labels, places), strict=True))
    merged = GroupedMoments.of(*pieces[0])
    for piece in pieces[1:]:
        merged = merged.update(*piece)
    assert merged.keys.tolist() == whole.keys.tolist() == sorted(set(labels.tolist()))
    assert merged.counts.tolist() == [int((labels == key).sum()) for key in whole.keys.tolist()]
    within, means = np.zeros((z.shape[1],) * 2), []
    for key in whole.keys.tolist():
        mean, scatter, _, _ = direct(z[labels == key])
        within, means = within + scatter, [*means, mean]
    spread = float(np.trace(direct(z)[1])) + 1e-20 * float(np.abs(z).max()) ** 2
    for state in (whole, merged):
        close(state.means, np.array(means), scale=float(np.abs(z).max()), digits=1e-12)
        close(state.within, within, scale=spread)


def test_the_correlation_of_grouped_views_is_that_of_stacked_ones():
    views = randn(1, 30, 6) + 0.5 * randn(3, 30, 6, seed=1) + 50
    order = np.random.default_rng(2).permutation(90)
    rows, groups = views.reshape(90, 6)[order], np.tile(np.arange(30), 3)[order]
    found = intraclass_correlation_of(GroupedMoments.of(rows, groups))
    assert found == pytest.approx(intraclass_correlation(views), rel=1e-9)


def test_the_correlation_of_unequal_groups():
    # Groups (0, 2) and (3, 4, 5): means 1 and 4, MS between 10.8, MS within 4/3, V = 2.4.
    z, groups = np.array([[0.0], [2.0], [3.0], [4.0], [5.0]]), [0, 0, 1, 1, 1]
    component = (10.8 - 4 / 3) / 2.4
    found = intraclass_correlation_of(GroupedMoments.of(z, groups))
    assert found == pytest.approx(component / (component + 4 / 3), rel=1e-12)
    with pytest.raises(ValueError, match="one of 2 rows"):
        intraclass_correlation_of(GroupedMoments.of(z, range(5)))


def test_the_unit_rows_of_the_shortest_numbers():
    z = np.vstack([1e-74 * randn(3, 4), 1e-300 * randn(2, 4, seed=1), np.zeros((1, 4))])
    state = EmbeddingMoments.of(z)
    assert (state.units.count, state.zero_rows) == (5, 1)
    assert EmbeddingMoments.of(z, units=False).zero_rows == 1
    assert moments.unit_rows(torch.from_numpy(z)).shape == (5, 4)


# --- what a state computes


@given(samples, cuts)
@few
def test_a_state_computes_the_measures_of_all_its_rows(z, places):
    first, *rest = parts(z, places)
    state = EmbeddingMoments.of(first)
    for part in rest:
        state = state.update(part)
    found, expected = state.compute(), spectral_measures(EmbeddingMoments.of(z))
    assert found == pytest.approx(spectral_measures(state), rel=1e-12, nan_ok=True)
    assert found.keys() == expected.keys()
    assert found["participation_ratio"] == pytest.approx(expected["participation_ratio"], rel=1e-6)


def test_grouped_rows_compute_what_views_do():
    z, groups = randn(90, 5) + np.repeat(randn(30, 5, seed=1), 3, axis=0), np.arange(90) // 3
    found = GroupedMoments.of(z[:50], groups[:50]).update(z[50:], groups[50:]).compute()
    assert found["lidar"] == pytest.approx(diagnostics.lidar(z, groups))
    views = z.reshape(30, 3, 5).transpose(1, 0, 2)
    assert found["intraclass_correlation"] == pytest.approx(intraclass_correlation(views))
    alone = GroupedMoments.of(z[:-2], groups[:-2]).compute()
    assert math.isnan(alone["lidar"]) and 0 < alone["intraclass_correlation"] < 1
    with pytest.raises(ValueError, match="at least 2 groups"):
        GroupedMoments.of(z[:3], groups[:3]).compute()


def test_blocks_of_rows_compute_intervals():
    state = JackknifeMoments.of(randn(200, 4))
    found, expected = state.compute(), jackknife_intervals(state)
    assert found.keys() == expected.keys()
    assert found["stable_rank"] == expected["stable_rank"]
