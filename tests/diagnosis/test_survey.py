"""The same rows give the same evidence, whatever batches, order and processes they came in."""

import itertools
import math
import pickle
import random

import numpy as np
import pytest
import torch

from repcollapse import diagnostics
from repcollapse.diagnosis import Survey, conclude, diagnose
from repcollapse.diagnosis.sampling import PER_GROUP, GroupSample, RowSample, priorities
from repcollapse.files import open_rows


def normal(n, d, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator).to(dtype)


def surveyed(z, cuts, *, order=None, labels=None, groups=None, sample=64):
    """Return the survey of `z` in pieces, each a survey of its own, merged in an order."""
    bounds = [0, *cuts, len(z)]
    parts = []
    for start, stop in itertools.pairwise(bounds):
        parts.append(
            Survey.empty(z.shape[1], sample=sample).update(
                z[start:stop],
                start=start,
                labels=None if labels is None else labels[start:stop],
                groups=None if groups is None else groups[start:stop],
            )
        )
    merged = Survey.empty(z.shape[1], sample=sample)
    for index in order or range(len(parts)):
        merged = merged.merge(parts[index])
    return merged


def assert_same(ours, theirs):
    assert ours.metrics.keys() == theirs.metrics.keys()
    for name, value in ours.metrics.items():
        assert value == pytest.approx(theirs.metrics[name], rel=1e-9, abs=1e-12, nan_ok=True), name
    for name, bounds in ours.intervals.items():
        assert bounds == pytest.approx(theirs.intervals[name], rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("seed", range(4))
def test_splits_and_order_of_merging_do_not_matter(seed):
    n = 400
    z = normal(n, 12, seed) + 3
    labels, groups = np.arange(n) % 5, np.arange(n) // 4
    whole = surveyed(z, [], labels=labels, groups=groups)
    draw = random.Random(seed)
    cuts = sorted(draw.sample(range(1, n), 6))
    parts = surveyed(
        z, cuts, order=draw.sample(range(7), 7), labels=labels, groups=groups, sample=64
    )
    assert parts.sample.index.tolist() == whole.sample.index.tolist()
    assert_same(parts.evidence(), whole.evidence())


def test_rows_follow_one_another_without_a_start():
    z = normal(300, 6)
    one = Survey.empty(6, sample=32).update(z)
    other = Survey.empty(6, sample=32)
    for piece in z.split(37):
        other = other.update(piece)
    assert other.next_row == one.next_row == 300
    assert other.sample.index.tolist() == one.sample.index.tolist()
    assert torch.equal(other.sample.rows, one.sample.rows)
    assert_same(other.evidence(), one.evidence())


def test_views_may_come_in_pieces():
    z, views = normal(100, 5), normal(3 * 200, 5, 1).reshape(3, 200, 5)
    whole = Survey.empty(5).update(z).update_views(views)
    parts = Survey.empty(5).update(z)
    for start in (100, 0):  # in any order, if it is said which
        parts = parts.update_views(views[:, start : start + 100], start=start)
    assert_same(parts.evidence(), whole.evidence())


def test_a_survey_computes_the_diagnosis():
    z = normal(300, 6)
    parts = Survey.empty(6).update(z[:100]).update(z[100:])
    assert parts.compute().to_dict() == conclude(parts).to_dict()


def test_a_survey_travels():
    survey = surveyed(normal(200, 7), [90], labels=np.arange(200) % 3)
    assert_same(pickle.loads(pickle.dumps(survey)).evidence(), survey.evidence())


def test_a_sample_is_the_rows_of_lowest_priority():
    index = np.arange(5000, dtype=np.int64)
    sample = RowSample.empty(2, capacity=100)
    rows = torch.stack([torch.arange(5000.0), torch.zeros(5000)], dim=1)
    for start in range(0, 5000, 700):
        piece = slice(start, min(start + 700, 5000))
        sample = sample.update(rows[piece], index[piece], np.empty(0, dtype=np.int64))
    expected = index[np.argsort(priorities(index))][:100]
    assert sample.index.tolist() == expected.tolist()
    assert sample.rows[:, 0].tolist() == expected.tolist()


def test_priorities_are_those_of_splitmix():
    # The first three numbers of the generator with seed 0, as its authors' code gives them.
    golden = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert priorities(golden).tolist() == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_a_sample_has_no_favourites():
    share = (priorities(np.arange(200_000)) < 2**63).reshape(20, -1).mean(axis=1)
    assert abs(share - 0.5).max() < 0.025


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_of_groups_does_not_depend_on_the_batches(seed):
    draw = np.random.default_rng(seed)
    groups = draw.integers(0, 60, 900)
    index = np.arange(900)
    rows = torch.from_numpy(index[:, None].astype(float))
    whole = GroupSample.empty(1, capacity=200).update(rows, index, groups)
    order = draw.permutation(900)
    parts = GroupSample.empty(1, capacity=200)
    for piece in np.array_split(order, 11):
        parts = parts.merge(
            GroupSample.empty(1, 200).update(rows[piece], index[piece], groups[piece])
        )
    assert parts.index.tolist() == whole.index.tolist()
    assert parts.groups.tolist() == whole.groups.tolist()
    kept = np.unique(whole.groups, return_counts=True)
    expected = np.minimum([(groups == group).sum() for group in kept[0]], PER_GROUP)
    assert kept[1].tolist() == expected.tolist()  # groups are whole
    assert 200 - PER_GROUP < len(whole.groups) <= 200


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_readings_are_those_of_the_functions_of_their_names(dtype):
    z = (normal(300, 20) * torch.arange(1, 21) ** -0.5 + 0.3).to(dtype)
    found = diagnose(z).metrics
    assert found["spread"] == pytest.approx(diagnostics.spread(z))
    assert found["mean_share"] == pytest.approx(diagnostics.mean_share(z))
    assert found["feature_std"] == pytest.approx(diagnostics.feature_std(z))
    assert found["participation_ratio"] == pytest.approx(diagnostics.participation_ratio(z))
    assert found["participation_ratio_unbiased"] == pytest.approx(
        diagnostics.participation_ratio(z, unbiased=True)
    )
    assert found["effective_rank"] == pytest.approx(diagnostics.effective_rank(z))
    assert found["effective_rank_lambda"] == pytest.approx(
        diagnostics.effective_rank(z, spectrum="lambda")
    )
    assert found["stable_rank"] == pytest.approx(diagnostics.stable_rank(z))
    assert found["rankme"] == pytest.approx(diagnostics.rankme(z))
    assert found["srank"] == diagnostics.srank(z)
    assert found["cev_auc"] == pytest.approx(diagnostics.cev_auc(z))
    fit = diagnostics.alpha_req(z)
    for part, value in fit._asdict().items():
        name = "alpha_req" if part == "alpha" else f"alpha_req_{part}"
        assert found[name] == pytest.approx(value), name
    assert found["uniformity"] == pytest.approx(diagnostics.uniformity(z))
    assert found["intrinsic_dimension"] == pytest.approx(diagnostics.intrinsic_dimension(z).value)
    assert found["raw_std"] == pytest.approx(float(z.double().std(dim=0).mean()))
    assert found["offdiagonal_correlation"] == pytest.approx(
        diagnostics.offdiagonal_correlation(z).value
    )


def test_a_spectrum_too_short_for_a_law_has_none():
    found = diagnose(normal(300, 12)).metrics
    for name in ("alpha_req", "alpha_req_r2", "alpha_req_first", "alpha_req_last"):
        assert math.isnan(found[name]), name


@pytest.mark.parametrize(("n", "d"), [(40, 200), (150, 200), (300, 200)])
def test_few_rows_are_read_like_many(n, d):
    z = normal(n, d) + 0.2
    found = diagnose(z).metrics
    for name in ("effective_rank", "rankme", "stable_rank"):
        assert found[name] == pytest.approx(getattr(diagnostics, name)(z), rel=1e-6), name


def test_readings_of_views_and_groups_are_those_of_the_functions():
    samples = normal(200, 6)
    views = torch.stack([samples + 0.5 * normal(200, 6, seed) for seed in (1, 2, 3)])
    found = diagnose(samples, views=views).metrics
    assert found["intraclass_correlation"] == pytest.approx(
        diagnostics.intraclass_correlation(views)
    )
    rows, names = views.reshape(600, 6), np.tile(np.arange(200), 3)
    grouped = diagnose(rows, groups=names).metrics
    assert grouped["intraclass_correlation"] == pytest.approx(found["intraclass_correlation"])
    for scale in (1.0, 0.01, 1e-4):  # beside a small scale, LiDAR's delta is much
        short = diagnose(scale * rows, groups=names).metrics
        assert short["lidar"] == pytest.approx(diagnostics.lidar(scale * rows, names), rel=1e-9)
    assert short["lidar"] != pytest.approx(grouped["lidar"], rel=1e-3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    alignment = sum(diagnostics.alignment(views[a], views[b]) for a, b in pairs) / 3
    assert found["alignment"] == pytest.approx(alignment)


def test_nearest_means_leave_the_row_itself_out():
    z, labels = normal(60, 40), np.arange(60) % 6
    right = 0
    for i in range(60):
        apart = []
        for c in range(6):
            others = (labels == c) & (np.arange(60) != i)
            apart.append(float((z[i] - z[others].mean(dim=0)).norm()))
        right += int(np.argmin(apart)) == labels[i]
    assert diagnose(z, labels=labels).metrics["nearest_mean_accuracy"] == pytest.approx(right / 60)


@pytest.mark.parametrize("n", [200, 800])
def test_intervals_cover_what_other_samples_read(n):
    scale = torch.arange(1, 13.0) ** -0.5
    drawn = [diagnose(normal(n, 12, seed) * scale + 0.2) for seed in range(60)]
    for name in drawn[0].intervals:
        mean = sum(each.metrics[name] for each in drawn) / len(drawn)
        covered = sum(each.intervals[name][0] <= mean <= each.intervals[name][1] for each in drawn)
        assert covered >= 50, name
        widths = [each.intervals[name][1] - each.intervals[name][0] for each in drawn]
        std = float(torch.tensor([each.metrics[name] for each in drawn]).std())
        assert 0.6 < sum(widths) / len(widths) / (2 * 1.96 * std) < 1.7, name


def test_a_memory_map_is_read_like_an_array(tmp_path):
    z = normal(3000, 16).numpy() + 1
    np.save(tmp_path / "z.npy", z)
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    expected = diagnose(z).to_dict()
    assert diagnose(mapped).to_dict() == expected
    assert diagnose(open_rows(tmp_path / "z.npy")).to_dict() == expected
    assert expected["sampled"] == 2048


def test_blocks_do_not_change_the_answer(monkeypatch):
    z, labels = normal(900, 8), np.arange(900) % 4
    whole = diagnose(z, labels=labels, views=z[:400].reshape(2, 200, 8))
    monkeypatch.setattr("repcollapse.diagnosis.survey.BYTES", 8 * 8 * 256)
    parts = diagnose(z, labels=labels, views=z[:400].reshape(2, 200, 8))
    for name, value in whole.metrics.items():
        assert parts.metrics[name] == pytest.approx(value, rel=1e-9, nan_ok=True), name


def test_merging_what_cannot_be_merged():
    z = normal(20, 4)
    survey = Survey.empty(4).update(z)
    with pytest.raises(TypeError, match=r"other must be a Survey; got Tensor"):
        survey.merge(z)
    with pytest.raises(ValueError, match=r"other must have 4 columns; got 5"):
        survey.merge(Survey.empty(5))
    with pytest.raises(ValueError, match=r"other must keep 2048 rows; got 99"):
        survey.merge(Survey.empty(4, sample=99))
    with pytest.raises(ValueError, match=r"other must be of other rows"):
        survey.merge(Survey.empty(4).update(z))
    labelled = Survey.empty(4).update(z, start=20, labels=[0, 1] * 10)
    with pytest.raises(ValueError, match=r"labels must be given for all rows or for none"):
        survey.merge(labelled)
    with pytest.raises(ValueError, match=r"labels must be given for all rows .* came with"):
        labelled.update(z)
    with pytest.raises(ValueError, match=r"groups must be given for all rows .* came without"):
        survey.update(z, groups=[0, 1] * 10)


def test_a_row_that_is_no_number_is_named_by_its_place_among_all():
    z = normal(20, 4)
    survey = Survey.empty(4).update(z)
    z[7, 2] = math.inf
    with pytest.raises(ValueError, match=r"z must be finite; row 27 holds NaN or Inf"):
        survey.update(z)
    with pytest.raises(ValueError, match=r"views must be finite; sample 107 holds NaN or Inf"):
        survey.update_views(torch.stack([z, z]), start=100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"z": normal(20, 5)}, "z must have 4 columns; got 5"),
        ({"z": normal(20, 4), "start": -1}, "start must be at least 0"),
        ({"z": normal(20, 4), "labels": [0] * 3}, r"labels must have shape \(20,\)"),
        ({"z": normal(20, 4), "groups": [0] * 3}, r"groups must have shape \(20,\)"),
    ],
)
def test_updates_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Survey.empty(4).update(**arguments)


def test_identifiers_are_no_labels(monkeypatch):
    monkeypatch.setattr("repcollapse.diagnosis.survey.MOST_CLASSES", 10)
    survey = Survey.empty(4).update(normal(10, 4), labels=range(10))
    with pytest.raises(ValueError, match="identifiers of samples are groups"):
        survey.update(normal(10, 4), labels=range(5, 15))
