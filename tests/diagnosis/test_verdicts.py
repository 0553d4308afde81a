"""Each verdict where it is due, and not where a single number would give it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from repcollapse import diagnose, diagnosis, diagnostics
from repcollapse.diagnosis import VERDICTS, Survey, conclude
from repcollapse.diagnosis.chance import fewest_dimensions, most_mean_share
from repcollapse.diagnosis.crowding import crowding
from repcollapse.diagnosis.readings import SHARES, dimensions_holding


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def power_law(n, d, alpha, seed=0):
    return normal(n, d, seed) * torch.arange(1, d + 1) ** (-alpha / 2)


def low_rank(n, d, rank, noise=1e-3, seed=0):
    return normal(n, rank, seed) @ torch.eye(rank, d) + noise * normal(n, d, seed + 1)


def clusters(n, d, count, within, seed=0):
    centres = normal(count, d, seed)
    return centres[torch.arange(n) % count] + math.sqrt(within) * normal(n, d, seed + 1)


def offset(z, share):
    length = z.square().sum(dim=1).mean().sqrt()
    direction = torch.nn.functional.normalize(torch.ones(z.shape[1]), dim=0)
    return z - z.mean(dim=0) + length * math.sqrt(share / (1 - share)) * direction


def with_outliers(z):
    z = z.clone()
    z[:: len(z) // 5] *= 1000
    return z


def with_copies(z):
    z = z.clone()
    z[: len(z) // 3] = z[-(len(z) // 3) :]
    return z


def with_dead_feature(z):
    z = z.clone()
    z[:, 0] = 2.0
    return z


CASES = {
    "normal": (normal(1000, 64), "healthy"),
    "normal, few rows": (normal(50, 64), "healthy"),
    "on the sphere": (torch.nn.functional.normalize(normal(500, 128), dim=1), "healthy"),
    "power law": (power_law(1000, 256, 1.25), "healthy"),
    "rectified": (normal(1000, 64).relu(), "healthy"),
    "classes with an inside": (clusters(1000, 64, 10, 0.3), "healthy"),
    "outliers": (with_outliers(normal(1000, 64)), "healthy"),
    "copies": (with_copies(normal(1000, 64)), "healthy"),
    "a dead feature": (with_dead_feature(normal(1000, 64)), "healthy"),
    "views that agree": (normal(60, 1024).repeat(5, 1) + 0.01 * normal(300, 1024, 1), "healthy"),
    "one": (torch.ones(100, 16), "complete"),
    "zero": (torch.zeros(100, 16), "complete"),
    "mostly zero": (torch.cat([torch.zeros(95, 16), normal(5, 16)]), "complete"),
    "one and noise": (1 + 1e-2 * normal(1000, 64), "complete"),
    "a ray": (normal(500, 1).exp() * torch.ones(64), "complete"),
    "one but for a few": (torch.cat([torch.ones(990, 64), normal(10, 64)]), "complete"),
    "a line": (low_rank(1000, 64, 1), "dimensional"),
    "a line in a plane": (low_rank(1000, 2, 1), "dimensional"),
    "a line, blurred": (low_rank(1000, 64, 1, noise=0.01), "dimensional"),
    "three of 64": (low_rank(1000, 64, 3), "dimensional"),
    "three of 64, few rows": (low_rank(50, 64, 3), "dimensional"),
    "twenty of 1024": (low_rank(300, 1024, 20), "dimensional"),
    "three of 64, in a cone": (offset(low_rank(1000, 64, 3), 0.8), "dimensional"),
    "three of 64, outliers": (with_outliers(low_rank(1000, 64, 3)), "dimensional"),
    "points": (clusters(1000, 64, 10, 1e-4), "cluster"),
    "points, few rows": (clusters(60, 64, 4, 1e-4), "cluster"),
    "two points": (clusters(1000, 64, 2, 1e-4), "cluster"),
    "exact points": (clusters(1000, 64, 50, 0.0), "cluster"),
    "zero or one": ((torch.arange(200) % 2)[:, None] * torch.ones(16), "cluster"),
    "rays": (clusters(1000, 64, 10, 1e-4) * normal(1000, 1, 7).exp(), "cluster"),
    "a cone": (offset(normal(1000, 64), 0.75), "cone"),
    "a cone of a power law": (offset(power_law(1000, 64, 1.0), 0.9), "cone"),
    "few rows of many": (normal(100, 2048), "not-enough-data"),
    "five rows": (normal(5, 8), "not-enough-data"),
    "five equal rows": (torch.ones(5, 8), "not-enough-data"),
    "one row": (torch.ones(1, 8), "not-enough-data"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is(name):
    z, verdict = CASES[name]
    found = diagnose(z)
    assert found.verdict == verdict, str(found)
    assert found.findings[0].kind == verdict
    assert found.collapsed == (verdict in ("complete", "cluster", "dimensional"))


@pytest.mark.parametrize("name", [n for n in CASES if "few rows of many" not in n])
def test_rotation_scale_and_order_do_not_matter(name):
    z, verdict = CASES[name]
    turn, _ = torch.linalg.qr(normal(z.shape[1], z.shape[1], 3).double())
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))
    assert diagnose(1e6 * z.double()[order] @ turn).verdict == verdict
    assert diagnose(1e-6 * z).verdict == verdict


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "name", ["normal", "one and noise", "three of 64", "points", "a cone", "rays"]
)
def test_precision_does_not_matter(name, dtype):
    z, verdict = CASES[name]
    assert diagnose(z.to(dtype)).verdict == verdict


def test_arrays_are_taken_as_tensors_are():
    z = CASES["points"][0]
    assert diagnose(z.numpy()).to_dict() == diagnose(z).to_dict()
    assert diagnose(z.clone().requires_grad_()).to_dict() == diagnose(z).to_dict()


def test_verdicts_go_in_order():
    """Two clusters a hundredth apart beside one vector: complete, cluster and dimensional."""
    z = 1 + 0.01 * clusters(400, 32, 2, 1e-6)
    found = diagnose(z)
    kinds = [each.kind for each in found.findings]
    assert kinds[:3] == ["complete", "cluster", "dimensional"]
    few = [each.kind for each in diagnose(z[:10]).findings]
    assert few[:2] == ["not-enough-data", "complete"]
    cone = [each.kind for each in diagnose(offset(low_rank(1000, 64, 3), 0.8)).findings]
    assert cone == ["dimensional", "cone"]
    assert [v for v in VERDICTS if v in kinds] == kinds[:3]


@pytest.mark.parametrize(("n", "d"), [(2, 1), (2, 512), (3, 2), (3, 512), (5, 8), (12, 2)])
def test_few_isotropic_rows_show_nothing_but_that_they_are_few(n, d):
    others = 0
    for seed in range(100):
        kinds = [each.kind for each in diagnose(normal(n, d, seed)).findings]
        assert kinds[0] == "not-enough-data"
        others += any(kind in ("complete", "dimensional", "cone") for kind in kinds)
    assert others <= 2  # one case in a thousand, of some readings


def test_few_rows_still_show_what_isotropic_ones_do_not():
    few = diagnose(low_rank(10, 64, 1))
    assert [each.kind for each in few.findings] == ["not-enough-data", "dimensional"]
    cone = diagnose(offset(normal(10, 64), 0.9))
    assert [each.kind for each in cone.findings] == ["not-enough-data", "cone"]
    line = diagnose(1 + 1e-3 * normal(3, 64))
    assert [each.kind for each in line.findings] == ["not-enough-data", "complete"]


@pytest.mark.parametrize(("n", "d"), [(4, 3), (10, 64), (14, 5)])
def test_what_chance_reads_is_what_draws_read(n, d):
    draws = [normal(n, d, seed).double() for seed in range(2000)]
    spectra = [diagnostics.singular_values(z).square() for z in draws]
    for share in SHARES.values():
        least = fewest_dimensions(n, d, share)
        held = sorted(dimensions_holding(each, share) for each in spectra)
        assert held[0] < 1.05 * least and least < held[10], share
    shares = [diagnostics.mean_share(z) for z in draws]
    assert sum(each > most_mean_share(n, d) for each in shares) <= 30
    deviation = (most_mean_share(n, d) - 1 / n) / 3
    assert np.std(shares) == pytest.approx(deviation, rel=0.05)


def test_rules_of_one_number_are_wrong_where_the_verdict_is_right():
    def rank_alone(metrics):  # "collapsed" below a quarter of the dimensions
        return metrics["effective_rank"] < 16

    def cosine_alone(metrics):
        return metrics["mean_share"] > 0.5

    dead, clip = diagnose(1 + 1e-3 * normal(1000, 64)), diagnose(offset(normal(1000, 64), 0.75))
    assert dead.verdict == "complete" and not rank_alone(dead.metrics)
    assert clip.verdict == "cone" and cosine_alone(clip.metrics)


def test_a_finding_brings_its_evidence():
    found = diagnose(low_rank(1000, 64, 3, noise=1e-4)).findings[0]
    assert found.severity == "collapse"
    assert found.measure == "dimensions_999"
    assert 2.9 < found.value < 3.0
    assert found.reference == pytest.approx(64, rel=0.01)
    assert found.interval[0] < found.value < found.interval[1]
    assert "3.0 dimensions of 64" in found.sentence
    assert found.page == "05_dimensional_collapse" and found.title == "Dimensional collapse"
    assert "covariance" in found.advice


def test_every_collapse_brings_its_interval():
    bent = 1 + 0.01 * normal(1000, 64)
    bent[:10] = normal(10, 64, 1)
    for z, measure in (
        (CASES["one and noise"][0], "spread"),
        (bent, "core_spread"),  # without its outliers
        (CASES["one but for a few"][0], "core_spread"),
        (CASES["points"][0], "points"),
        (CASES["rays"][0], "direction_points"),
    ):
        found = diagnose(z)
        first = found.findings[0]
        assert first.interval == found.intervals[measure], measure
        assert first.interval[0] <= first.value <= first.interval[1], measure
    assert first.interval[1] < 12  # ten points


def test_the_interval_of_points_covers_what_is_true():
    shares = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.1])
    truth, covered, widths, values = 1 / float(shares.square().sum()), 0, [], []
    for seed in range(100):
        draw = torch.Generator().manual_seed(seed)
        rows = torch.eye(5).double()[torch.multinomial(shares, 400, True, generator=draw)]
        found = crowding(rows, 400)
        covered += found.low <= truth <= found.high
        widths.append(found.high - found.low)
        values.append(found.points)
    assert covered >= 90
    std = float(torch.tensor(values).std())
    assert 0.8 < sum(widths) / len(widths) / (2 * 1.96 * std) < 1.25


def test_equal_rows_are_said_to_be_one_row():
    rows = diagnose(normal(1, 8).expand(200, 8)).findings[0]
    line = diagnose(normal(1, 8) * normal(200, 1, 3).abs()).findings[0]
    assert rows.kind == line.kind == "complete"
    assert rows.sentence.startswith("All 200 rows are the same row") and rows.value == 0
    assert line.sentence.startswith("The embeddings are one direction")


def test_a_cone_of_noise_is_not_said_to_tell_samples_apart():
    sample, noise = normal(400, 16), torch.stack([normal(400, 16, 3), normal(400, 16, 4)])
    harmless, noisy = 2 + sample + 0.1 * noise, 2 + 0.1 * sample + noise
    for views, said in ((harmless, "of 16."), (noisy, "follows the view")):
        found = diagnose(views[0], views=views)
        assert found.verdict == "cone" and said in found.findings[0].sentence
        assert ("follows the view" in found.findings[0].sentence) == (views is noisy)
        assert ("noise" in [each.kind for each in found.findings]) == (views is noisy)


def test_a_dying_run_in_its_cone_is_not_told_that_it_lives():
    """Spread 0.066 and falling: by itself it could be either, and nothing says that it is well."""
    found = diagnose(1 + 0.066 * normal(1000, 64))
    assert found.verdict == "cone" and 0.06 < found.metrics["spread"] < 0.07
    said = " ".join(str(found).split())
    for never in ("not because samples", "No collapse: subtract", "not a collapse"):
        assert never not in said
    assert "repcollapse compare" in said and "on its way to a complete collapse" in said


def test_numbers_of_dimensions_are_written_alike():
    for dimension, limit in ((64, "6.4"), (128, "12.8"), (300, "30.0")):
        sentence = diagnose(low_rank(1000, dimension, 3)).findings[0].sentence
        assert f"and {limit} or fewer are called" in sentence


def test_a_complete_collapse_without_its_outliers_says_so():
    found = diagnose(CASES["one but for a few"][0])
    assert found.metrics["spread"] > 0.1
    assert found.findings[0].value == 0.0
    assert "1 % of rows far from the others left out" in found.findings[0].sentence


def test_notes():
    z = normal(500, 32)
    z[:20] = 0
    z[20:60] = z[60:100]
    z[:, 3] = 0
    z[400] *= 500
    found = {each.kind: each for each in diagnose(1e-4 * z).findings}
    assert set(found) == {
        *("healthy", "zero-rows", "duplicates", "dead-dimensions", "outliers", "shrunken"),
    }
    assert found["zero-rows"].value == 20
    assert found["duplicates"].value == pytest.approx((20 + 80) / 499)  # the outlier left out
    assert found["dead-dimensions"].value == 1
    assert found["outliers"].value == pytest.approx(1 / 500)
    assert found["shrunken"].severity == "warning"
    assert found["zero-rows"].severity == "note"
    assert found["healthy"].severity == "healthy"


def test_a_zero_row_in_the_middle_is_said_to_move_the_intrinsic_dimension():
    z = normal(1000, 256)
    z[7] = 0
    found = diagnose(z)
    with_it, without = (
        found.metrics[name] for name in ("intrinsic_dimension", "intrinsic_dimension_nonzero")
    )
    assert with_it == pytest.approx(diagnostics.intrinsic_dimension(z).value)
    others = torch.cat([z[:7], z[8:]])
    assert without == pytest.approx(diagnostics.intrinsic_dimension(others).value)
    assert with_it < 4 and without > 50
    (note,) = found.findings[1:]
    assert f"is {with_it:.3g} with them, and {without:.3g} without" in note.sentence
    plane = normal(1000, 2)  # nobody's neighbour in particular
    plane[7] = 0
    assert "intrinsic" not in diagnose(plane).findings[1].sentence
    assert "intrinsic_dimension_nonzero" not in diagnose(normal(50, 4)).metrics


@pytest.mark.parametrize(("n", "d", "rank"), [(2000, 512, 52), (3000, 128, 14), (300, 512, 60)])
def test_directions_without_variance_are_noted(n, d, rank):
    turn, _ = torch.linalg.qr(normal(d, d, 3))
    found = diagnose(normal(n, rank) @ turn[:rank])
    assert [each.kind for each in found.findings] == ["healthy", "dead-dimensions"]
    healthy, note = found.findings
    shown = min(n - 1, d)
    assert (note.severity, note.measure, note.value) == ("note", "rank", rank)
    assert note.reference == shown and note.page == "05_dimensional_collapse"
    assert note.sentence.startswith(f"{shown - rank} of ") and f" {d}" in note.sentence
    assert f"the rows lie in {rank} dimensions" in note.sentence
    assert "nothing to mend" not in str(found) and "a probe" in healthy.advice


def test_what_is_dead_is_said_once():
    along_axes = torch.cat([normal(2000, 100), torch.ones(2000, 300)], dim=1)
    (note,) = diagnose(along_axes).findings[1:]
    assert note.sentence == "300 of 400 features never change."
    turn, _ = torch.linalg.qr(normal(100, 100, 3))
    both = along_axes.clone()
    both[:, :100] = normal(2000, 60) @ turn[:60]
    (note,) = diagnose(both).findings[1:]
    assert note.sentence.startswith("340 of 400 directions carry no variance at all (300 features")
    some = torch.cat([both[:, :100], normal(2000, 300, 5)], dim=1)  # 40 of 400, and no news
    assert [each.kind for each in diagnose(some).findings] == ["healthy"]
    collapsed = diagnose(normal(1000, 3) @ turn[:3])
    assert [each.kind for each in collapsed.findings] == ["dimensional"]  # which says it


def test_health_without_a_note_leaves_nothing_to_mend():
    assert "nothing to mend" in diagnose(CASES["normal"][0]).findings[0].advice
    for name in ("outliers", "copies", "a dead feature"):
        found = diagnose(CASES[name][0])
        assert found.verdict == "healthy" and len(found.findings) > 1
        assert "nothing to mend" not in str(found)


# --- labels


def test_classes_that_are_points_are_found_with_labels_alone():
    labels = np.arange(1000) % 10
    inside = diagnose(clusters(1000, 64, 10, 0.3), labels=labels)
    assert [each.kind for each in inside.findings] == ["healthy"]
    assert inside.metrics["nearest_mean_accuracy"] == 1.0
    points = diagnose(clusters(1000, 64, 10, 0.02), labels=labels)
    assert [each.kind for each in points.findings] == ["healthy", "class-collapse"]
    assert points.findings[1].value == pytest.approx(0.02, rel=0.2)
    assert points.metrics["nc1"] < inside.metrics["nc1"] / 5


def test_classes_that_are_lost():
    labels = np.arange(1000) % 10
    found = diagnose(normal(1000, 64), labels=labels)
    assert [each.kind for each in found.findings] == ["healthy", "classes-lost"]
    lost = found.findings[1]
    assert lost.reference == pytest.approx(0.1)
    assert lost.interval[0] < lost.value < lost.interval[1]


def test_most_rows_in_one_place_are_told_of():
    """A verdict of health does not look at that place alone, and the report tells of it."""
    place = torch.where(torch.arange(1000)[:, None] < 700, 1e-3, 1.0)
    found = diagnose(normal(1000, 64) * place + 1e-3)
    kinds = {each.kind: each for each in found.findings}
    assert found.verdict in ("healthy", "cone") and kinds["duplicates"].severity == "warning"
    assert "70 % of the 1,000 rows looked at lie in one place" in kinds["duplicates"].sentence
    zeros = normal(1000, 64)
    zeros[:600] = 0
    found = diagnose(zeros)
    kinds = {each.kind: each for each in found.findings}
    assert found.verdict == "healthy" and kinds["duplicates"].severity == "warning"
    assert "but for 60 % in one place, the rows do not sit" in found.findings[0].sentence
    assert kinds["duplicates"].value == found.metrics["heaviest_place"] == 0.6


def test_rows_that_are_near_to_others_are_in_no_one_place():
    """In few dimensions every row is, and views of a sample are."""
    angle = 2 * math.pi * torch.arange(1000) / 1000
    circle = torch.stack([angle.cos(), angle.sin()], dim=1) @ torch.linalg.qr(normal(32, 2)).Q.T
    cases = [normal(1000, 1), normal(5000, 2), normal(1000, 3), circle]
    for z in cases:
        found = diagnose(z)
        assert "duplicates" not in [each.kind for each in found.findings]
        assert (
            "apart" not in found.findings[0].sentence
            and "but for" not in found.findings[0].sentence
        )
        assert found.metrics["heaviest_place"] < 0.1
    twice = diagnose(normal(300, 64).repeat(2, 1))  # two views without noise
    assert "and copies apart, the rows do not sit on points" in twice.findings[0].sentence
    assert {each.severity for each in twice.findings if each.kind == "duplicates"} == {"note"}
    assert twice.metrics["heaviest_place"] == 2 / 600


def test_health_without_far_rows_quotes_what_it_rests_on():
    z = normal(1000, 64)
    z[3] *= 1000
    first = diagnose(z).findings[0]
    assert first.kind == "healthy" and "a few far rows left out" in first.sentence
    assert first.measure == "core_dimensions_999" and "one dimension" not in first.sentence
    assert first.value == diagnose(z).metrics["core_dimensions_999"] > 60


def test_a_feature_on_a_scale_of_its_own_is_named():
    z = normal(500, 64)
    z[:, 7] *= 100
    found = diagnose(z)
    assert found.verdict == "dimensional"
    assert "Feature 7, counted from 0, alone holds 99" in found.findings[0].sentence
    assert found.metrics["largest_feature"] == 7
    dead = torch.zeros(500, 8).index_copy_(1, torch.tensor([3]), z[:, :1])
    assert "Feature" not in diagnose(dead).findings[0].sentence  # there are no others
    turned = diagnose(z @ torch.linalg.qr(normal(64, 64, 1)).Q)
    assert turned.verdict == "dimensional" and "Feature" not in turned.findings[0].sentence


# --- views and groups


def paired(noise, n=400, d=32):
    samples = power_law(n, d, 0.5)
    return torch.stack([samples + noise * normal(n, d, seed) for seed in (5, 6)])


def test_views_that_do_not_agree_are_noise():
    kinds = [each.kind for each in diagnose(normal(400, 32), views=paired(4.0)).findings]
    assert kinds == ["healthy", "noise"]
    found = diagnose(normal(400, 32), views=paired(0.3))
    assert [each.kind for each in found.findings] == ["healthy"]
    low, high = found.intervals["intraclass_correlation"]
    assert low < found.metrics["intraclass_correlation"] < high < low + 0.1


def test_short_embeddings_that_follow_the_view_have_shrunk_to_a_point():
    noise, healthy = paired(4.0), paired(0.3)
    found = diagnose(0.001 * noise[0], views=0.001 * noise)
    assert [each.kind for each in found.findings] == ["complete", "noise"]
    assert "shrunk to a point" in found.findings[0].sentence
    assert diagnose(noise[0], views=noise).verdict == "healthy"  # as long as ever
    assert diagnose(0.001 * healthy[0], views=0.001 * healthy).verdict == "healthy"
    assert diagnose(0.001 * noise[0]).verdict == "healthy"  # scale alone may be a unit


def test_views_with_their_axes_in_another_order_are_refused():
    z = normal(400, 32)
    with pytest.raises(ValueError, match=r"looks like \(N, V, D\): views.swapaxes\(0, 1\)"):
        diagnose(z, views=paired(0.3).transpose(0, 1))
    many = normal(16 * 50, 8).reshape(16, 50, 8)
    diagnose(many[:, 0], views=many)  # as many views as rows, of more samples
    two = normal(2, 8)  # of two rows, two views of two samples are in either order
    assert diagnose(two, views=torch.stack([two, two])).verdict == "not-enough-data"


def test_views_that_agree_too_well_are_a_shortcut():
    views = paired(0.5)
    code = torch.randint(2, (400, 1), generator=torch.Generator().manual_seed(1)) * 8.0
    found = diagnose(views[0], views=views + code * torch.eye(1, 32))
    assert [each.kind for each in found.findings] == ["healthy", "shortcut"]
    assert found.metrics["intraclass_correlation"] < 0.95  # of all axes, one
    assert found.findings[1].value > 0.97


def test_views_that_hardly_differ_are_called_so():
    z = normal(400, 32)
    for noise, said in ((0.0, "less than 0.01 %"), (0.05, "0.125 %")):
        views = torch.stack([z, z + noise * normal(400, 32, 1)])
        (finding,) = (each for each in diagnose(z, views=views).findings if each.kind == "shortcut")
        assert finding.sentence.startswith(f"Views of a sample hardly differ: {said}")


def test_groups_are_views_by_another_name():
    views = paired(4.0)
    rows, groups = views.reshape(800, 32), np.tile(np.arange(400), 2)
    found = diagnose(rows, groups=groups)
    assert [each.kind for each in found.findings] == ["healthy", "noise"]
    both = diagnose(rows, groups=groups, views=paired(0.3))
    assert [each.measure for each in both.findings[1:]] == ["group_intraclass_correlation"]
    assert both.metrics["intraclass_correlation"] > 0.5


@pytest.mark.parametrize("scale", [1e9, 1e30, 1e-30])
def test_lidar_is_read_at_any_scale(scale):
    """Two views of a rank-deficient cloud, whose scatter within is singular but for delta."""
    samples = normal(60, 3) @ normal(3, 32, 1)
    views = torch.stack([samples + normal(60, 2, k) @ normal(2, 32, 7) for k in (5, 6)]).double()
    found = diagnose(scale * views[0], views=scale * views)
    assert found.verdict in ("dimensional", "healthy")
    assert 0 <= found.metrics["lidar"] <= 32


# --- pieces


def test_how_many_dimensions_hold_a_share():
    energies = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert dimensions_holding(energies, 0.4) == 1.0
    assert dimensions_holding(energies, 0.85) == 2.75
    assert dimensions_holding(energies, 0.999) == pytest.approx(3.99)
    assert dimensions_holding(torch.zeros(3), 0.9) == 0.0


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_a_cloud_of_any_dimension_has_no_points(d):
    found = crowding(normal(800, d).double(), 800)
    assert math.isnan(found.radius) and found.points == 800


def test_points_are_counted_by_how_likely_two_rows_share_one():
    even = crowding(clusters(600, 16, 6, 0.0).double(), 600)
    assert even.points == pytest.approx(6, rel=0.01)
    sizes = [300, 150, 150]
    rows = torch.repeat_interleave(torch.eye(3), torch.tensor(sizes), dim=0)
    uneven = crowding(rows.double(), 600)
    assert uneven.points == pytest.approx(1 / (0.25 + 2 / 16), rel=0.01)
    assert uneven.company == 1.0 and uneven.flatness == 1.0 and uneven.duplicates == 1.0
    assert uneven.distinct == 3


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"z": [[1.0, 2.0]]}, TypeError, r"z must be a torch.Tensor or numpy.ndarray of shape"),
        ({"z": torch.ones(4)}, ValueError, r"z must have shape \(N, D\), .* got shape \(4,\)"),
        ({"z": torch.ones(0, 4)}, ValueError, r"z must have shape .* got shape \(0, 4\)"),
        ({"z": torch.ones(2, 3, 4)}, ValueError, r"z must have shape \(N, D\)"),
        ({"z": torch.ones(3, 4).long()}, TypeError, r"z must have a floating dtype; got torch"),
        ({"z": np.array([["a"]])}, TypeError, r"z must have a floating dtype; got <U1"),
        ({"z": torch.full((4, 2), math.nan)}, ValueError, r"z must be finite; row 0 holds NaN"),
        ({"z": torch.ones(2, 9000)}, ValueError, r"z must have at most 8192 columns; got 9000"),
        ({"labels": ["a"] * 20}, ValueError, r"labels must be of at least 2 classes; got one"),
        ({"labels": ["a", 1] * 10}, TypeError, r"labels must hold integers or strings.* item 1"),
        ({"labels": ["a", "b"]}, ValueError, r"labels must have shape \(20,\), one label a row"),
        ({"groups": ["a", "b"]}, ValueError, r"groups must have shape \(20,\), one identifier a"),
        ({"labels": [0.5] * 20}, TypeError, r"labels must hold integer class labels; got"),
        ({"labels": [0, 1]}, ValueError, r"labels must have shape \(20,\), one label a row"),
        ({"labels": [1] * 20}, ValueError, r"labels must be of at least 2 classes; got one"),
        ({"groups": range(20)}, ValueError, r"groups must name at least 2 samples .* got 0"),
        ({"groups": [0.5] * 20}, TypeError, r"groups must hold integer identifiers; got"),
        ({"views": torch.ones(20, 4)}, ValueError, r"views must have shape \(V, N, D\)"),
        ({"views": torch.ones(1, 20, 4)}, ValueError, r"views needs at least 2 views"),
        ({"views": torch.ones(2, 20, 5)}, ValueError, r"views must have D = 4 like z; got D = 5"),
        ({"views": 3}, TypeError, r"views must be a torch.Tensor"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(**{"z": normal(20, 4), **arguments})


def test_strings_name_classes_and_samples_as_integers_do():
    views = paired(0.3)
    rows, groups = views.reshape(800, 32), np.tile(np.arange(400), 2)
    classes = groups % 4
    expected = diagnose(rows, labels=classes, groups=groups).to_dict()
    names, files = np.array(list("abcd"))[classes], np.array([f"{k:03d}.png" for k in groups])
    for labels, samples in (
        (names, files),
        (names.tolist(), tuple(files.tolist())),
        (names.astype("S"), files.astype(object)),
        (pd.Series(names), pd.Series(files)),
        (pd.Series(classes), pd.Series(groups)),
    ):
        assert diagnose(rows, labels=labels, groups=samples).to_dict() == expected
    odd, even = diagnose(rows, labels=groups % 2 == 1), diagnose(rows, labels=groups % 2)
    assert odd.to_dict() == even.to_dict()


def test_a_data_frame_is_taken_as_its_array_is():
    z = CASES["points"][0].numpy()
    expected = diagnose(z).to_dict()
    frame = pd.DataFrame(z, index=[f"row {k}" for k in range(len(z))])
    assert diagnose(frame).to_dict() == expected
    assert diagnose(frame.astype("Float32")).to_dict() == expected  # nullable


def test_what_in_a_frame_is_no_feature_is_named():
    frame = pd.DataFrame(normal(50, 3).numpy(), columns=list("xyz"))
    for column in (range(50), [f"img{k}" for k in range(50)]):
        with pytest.raises(TypeError, match=r"z must have columns .* column 'id' holds"):
            diagnose(frame.assign(id=column))
    missing = frame.astype("Float64")
    missing.iloc[3, 1] = pd.NA
    with pytest.raises(TypeError, match="z must hold numbers in every place"):
        diagnose(missing)


def test_a_conclusion_needs_a_survey():
    with pytest.raises(TypeError, match="survey must be a Survey; got Tensor"):
        conclude(torch.ones(3, 4))
    with pytest.raises(ValueError, match="at least one row"):
        conclude(Survey.empty(4))


def test_the_package_lends_the_names():
    import repcollapse

    assert repcollapse.diagnose is diagnosis.diagnose
    assert repcollapse.Diagnosis is diagnosis.Diagnosis
    assert repcollapse.collapse_value("nt_xent", pairs=256) == pytest.approx(math.log(511))
    assert repcollapse.collapse_values("dino", prototypes=8)[0].value == pytest.approx(math.log(8))
    assert str(repcollapse.explain_loss("byol", 0.0)).startswith("0 is what byol reads")
    assert {"diagnose", "Diagnosis", "explain_loss"} <= set(dir(repcollapse))
