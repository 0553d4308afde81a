"""The gap between two towers: closed forms, its null, invariances, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from repcollapse.checkups import gap as gaps
from repcollapse.checkups import modality_gap
from repcollapse.checkups.gap import (
    BEYOND_COIN,
    MIN_PAIRS,
    TWO_HUMPS,
    centroid_gap,
    recall,
    separability,
)
from repcollapse.diagnostics import linear_probe


def rows(count, dimension, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


def apart(angle, count=200, dimension=8):
    """Return pairs of equal rows, turned by an angle towards the two ends of one more axis."""
    unit = torch.nn.functional.normalize(rows(count, dimension), dim=1)
    unit = torch.cat([unit, -unit])  # the mean is zero exactly
    lift = torch.full((len(unit), 1), math.sin(angle), dtype=unit.dtype)
    level = math.cos(angle) * unit
    return torch.cat([level, lift], dim=1), torch.cat([level, -lift], dim=1)


@pytest.mark.parametrize("angle", [0.1, 0.5, 1.2])
def test_the_gap_of_two_parallel_circles_of_the_sphere(angle):
    found = modality_gap(*apart(angle)).metrics
    gap = 2 * math.sin(angle)
    assert found["gap"] == pytest.approx(gap, abs=1e-12)
    assert found["alignment"] == pytest.approx(gap**2, abs=1e-12)
    assert found["gap_share"] == pytest.approx(1, abs=1e-12)  # nothing else is between a pair
    assert found["mean_share_a"] == pytest.approx(math.sin(angle) ** 2, abs=1e-12)
    assert found["separability"] == 1
    assert found["recall"] == found["recall_centred"] == 1


def test_the_gap_is_that_of_the_rows_as_they_are():
    a, b = rows(30, 5), 3 * rows(30, 5, seed=1)
    means = [[sum(column) / 30 for column in zip(*z.tolist(), strict=True)] for z in (a, b)]
    assert centroid_gap(a, b) == pytest.approx(math.dist(*means))
    unit = [torch.nn.functional.normalize(z, dim=1) for z in (a, b)]
    assert modality_gap(a, b).metrics["gap"] == pytest.approx(centroid_gap(*unit))
    single = a.float(), b.float()
    assert centroid_gap(*single) == centroid_gap(*(z.double() for z in single))


def test_the_share_is_one_over_n_on_average_when_a_coin_deals_the_pairs():
    a, b = rows(30, 5), rows(30, 5, seed=1) + 3
    unit = [torch.nn.functional.normalize(z, dim=1) for z in (a, b)]
    signs = torch.randint(2, (20000, 30), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    gaps = (signs.double() @ (unit[0] - unit[1]) / 30).norm(dim=1)
    root_mean_square = float(gaps.square().mean().sqrt())
    assert modality_gap(a, b).metrics["coin_gap"] == pytest.approx(root_mean_square, rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_two_halves_of_one_population_are_healthy(seed):
    a, b = (rows(60, 32, seed=2 * seed + side) + 1 for side in (0, 1))
    found = modality_gap(a, b)
    assert found.verdict == "healthy"
    assert found.metrics["gap_share"] * 60 < BEYOND_COIN


def test_a_thousandth_between_towers_without_width_is_a_gap_only_where_no_coin_makes_it():
    base = torch.ones(40, 4, dtype=torch.float64) + 1e-4 * rows(40, 4)
    shifted = base + torch.tensor([1e-2, -1e-2, 0, 0], dtype=torch.float64)
    assert modality_gap(base, shifted).verdict == "modality-gap"
    assert modality_gap(base, base.flip(0)).verdict == "healthy"


def test_both_conditions_are_needed():
    # Four standard deviations along one axis are two humps, one is not, though no coin made it.
    narrow, wide = (rows(400, 3) * torch.tensor([scale, 1, 1.0]) for scale in (0.25, 1.0))
    shift = torch.tensor([0.5, 0, 0])
    far = torch.tensor([0.0, 6, 0])
    two, one = (modality_gap(z + far + shift, z + far - shift) for z in (narrow, wide))
    assert two.verdict == "modality-gap"
    assert one.metrics["gap_share"] * 400 > BEYOND_COIN
    assert one.metrics["separability"] < TWO_HUMPS
    assert one.verdict == "healthy"


def test_a_hair_beside_the_distance_in_a_pair_is_no_gap():
    a, _ = apart(1e-3)
    generator = torch.Generator().manual_seed(0)
    _, b = apart(1e-3)
    found = modality_gap(a, b[torch.randperm(len(b), generator=generator)])
    assert found.metrics["separability"] > 0.95
    assert found.metrics["gap_share"] * len(a) < 1
    assert found.verdict == "healthy"


def test_at_collapse():
    point = torch.ones(30, 6)
    same = modality_gap(point, point)
    assert (same.metrics["gap"], same.metrics["gap_share"], same.verdict) == (0, 0, "healthy")
    assert same.metrics["separability"] == 0.5
    assert same.metrics["recall"] == pytest.approx(1 / 30)
    two = modality_gap(point, -point)
    assert two.metrics["gap"] == pytest.approx(2)
    assert two.metrics["gap_share"] == pytest.approx(1)
    assert two.metrics["separability"] == 1
    assert two.verdict == "modality-gap"


def test_it_is_invariant_to_rotation_scale_exchange_and_order_of_pairs():
    a, b = rows(80, 6) + 1, rows(80, 6, seed=1)
    turn = torch.linalg.qr(rows(6, 6, seed=2)).Q
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    order = torch.stack([2 * order, 2 * order + 1], dim=1).flatten()  # the halves stay as they are
    scale = rows(80, 1, seed=3).exp()
    plain = modality_gap(a, b).metrics
    for other in (
        modality_gap(a @ turn, b @ turn),
        modality_gap(scale * a, b / scale),
        modality_gap(a[order], b[order]),
    ):
        for name in ("gap", "gap_share", "alignment", "recall", "mean_share_a"):
            assert other.metrics[name] == pytest.approx(plain[name], abs=1e-12), name
    assert modality_gap(b, a).metrics["gap"] == pytest.approx(plain["gap"])
    assert modality_gap(b, a).metrics["mean_share_b"] == pytest.approx(plain["mean_share_a"])


def test_to_shift_the_gallery_moves_no_rank_and_recall_has_both_ways():
    u = torch.nn.functional.normalize(rows(50, 4), dim=1)
    v = torch.nn.functional.normalize(u + 0.3 * rows(50, 4, seed=1), dim=1)
    nearest = (u @ v.T).argmax(dim=1)
    assert torch.equal((u @ (v - v.mean(dim=0)).T).argmax(dim=1), nearest)
    right = (nearest == torch.arange(50)).double().mean()
    back = ((v @ u.T).argmax(dim=1) == torch.arange(50)).double().mean()
    assert right != back
    assert modality_gap(u, v).metrics["recall"] == pytest.approx(float(right + back) / 2)


@pytest.mark.parametrize("block", [1, 7, 50, 64])
def test_recall_is_that_of_one_matrix_of_scores_whatever_the_block(monkeypatch, block):
    a = rows(50, 4)
    b = a + 0.5 * rows(50, 4, seed=1)
    b[9] = b[3]  # a tie that counts in part
    expected = 0.0
    for scores in (a @ b.T, b @ a.T):
        best = scores == scores.amax(dim=1, keepdim=True)
        expected += float((best.diagonal().double() / best.sum(dim=1)).mean()) / 2
    monkeypatch.setattr(gaps, "BLOCK", block)
    assert recall(a, b) == pytest.approx(expected, abs=1e-12)


def test_every_row_is_asked_of_a_reader_that_has_not_seen_its_pair():
    a, b = rows(31, 5) + 0.5, rows(31, 5, seed=1)
    right = 0
    for half in (0, 1):
        seen, unseen = slice(half, None, 2), slice(1 - half, None, 2)
        x = torch.cat([a[seen], b[seen]])
        y = torch.tensor([0.0] * len(a[seen]) + [1.0] * len(b[seen]))
        answers = linear_probe(x, y.long(), a[unseen], torch.zeros(len(a[unseen])).long())
        right += answers * len(a[unseen])
        answers = linear_probe(x, y.long(), b[unseen], torch.ones(len(b[unseen])).long())
        right += answers * len(b[unseen])
    assert separability(a, b) == pytest.approx(right / 62)


@pytest.mark.parametrize("measure", [centroid_gap, recall, separability])
def test_the_measures_alone_refuse_what_are_no_pairs(measure):
    with pytest.raises(ValueError, match="a and b must have the same shape"):
        measure(torch.ones(4, 3), torch.ones(5, 3))


def test_the_limits_are_what_their_reasons_say():
    assert pytest.approx(0.841345, abs=1e-6) == TWO_HUMPS
    x = np.linspace(-6, 6, 20001)
    for distance, humps in ((1.98, 1), (2.02, 2)):
        density = sum(np.exp(-((x - side * distance / 2) ** 2) / 2) for side in (-1, 1))
        peaks = (np.diff(np.sign(np.diff(density))) < 0).sum()
        assert peaks == humps
    assert 3 / (2 * math.sqrt(MIN_PAIRS)) < TWO_HUMPS - 0.5


def test_the_finding_names_the_chapter_and_the_limit():
    (finding,) = modality_gap(*apart(0.5)).findings
    assert finding.page == "25_modality_gap"
    assert (finding.severity, finding.reference) == ("warning", TWO_HUMPS)
    assert "0.96 apart" in finding.sentence
    assert "the square of that is 100% of the mean squared distance" in finding.sentence


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.ones(30, 3), torch.ones(30, 4), "a and b must have the same shape"),
        (torch.ones(19, 3), torch.ones(19, 3), "at least 20 rows; got 19"),
        (torch.ones(30, 3), torch.zeros(30, 3), "b must have no row of zeros; 30 of 30"),
        (torch.full((30, 3), math.nan), torch.ones(30, 3), "a must be finite"),
    ],
)
def test_what_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        modality_gap(a, b)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="a must have a floating dtype"):
        modality_gap(torch.ones(30, 3, dtype=torch.long), torch.ones(30, 3))
