"""Free features against their closed forms."""

import math
from functools import partial

import pytest
import torch

from repcollapse.diagnostics import neural_collapse
from repcollapse.modes.free_features import (
    Unconstrained,
    length_of,
    margin_of,
    threshold,
    unconstrained,
)


def free(classes, ratio, *, tilt=1.0, **options):
    decay = ratio * threshold(classes, 10)
    return unconstrained(
        classes, decay_weight=tilt * decay, decay_features=decay / tilt, seed=900, **options
    )


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("tilt", [1.0, 3.0])
def test_free_features_are_a_simplex_with_the_margin_of_the_formula(classes, tilt):
    found = free(classes, 0.4, tilt=tilt)
    torch.testing.assert_close(
        found.cosines, torch.full_like(found.cosines, -1 / (classes - 1)), atol=1e-6, rtol=0
    )
    assert found.margin == pytest.approx(margin_of(classes, 0.4), abs=1e-6)
    collapse = neural_collapse(found.features, found.labels, weight=found.weight)
    assert max(collapse) < 1e-5


@pytest.mark.parametrize(("ratio", "alive"), [(0.97, True), (1.03, False)])
def test_on_either_side_of_the_threshold_features_live_or_vanish(ratio, alive):
    found = free(4, ratio, tilt=2.0)
    assert (float(found.features.norm(dim=1).max()) > 0.1) == alive
    assert found.margin == pytest.approx(margin_of(4, ratio), abs=1e-6)


@pytest.mark.parametrize(("classes", "ratio"), [(3, 0.2), (5, 0.97), (4, 1.03)])
@pytest.mark.parametrize("tilt", [1.0, 3.0])
def test_every_feature_has_the_length_of_the_formula(classes, ratio, tilt):
    decay = ratio * threshold(classes, 10)
    length = length_of(classes, 10, decay_weight=tilt * decay, decay_features=decay / tilt)
    lengths = free(classes, ratio, tilt=tilt).features.norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, length), atol=1e-6, rtol=0)
    assert (length > 0.1) == (ratio < 1)


def test_a_length_needs_positive_decays_and_classes():
    with pytest.raises(ValueError, match="decay_features must be above 0"):
        length_of(3, 10, decay_weight=0.1, decay_features=0.0)
    with pytest.raises(ValueError, match="per_class must be at least 1"):
        length_of(3, 0, decay_weight=0.1, decay_features=0.1)


def test_the_margin_is_the_minimum_of_the_scalar_problem():
    classes, per_class, ratio = 7, 10, 0.35
    decay = ratio * threshold(classes, per_class)
    a = torch.linspace(0.01, 6, 600_000, dtype=torch.float64)
    loss = torch.log1p((classes - 1) * torch.exp(-a))
    loss += decay * (classes - 1) * math.sqrt(per_class) * a
    assert float(a[loss.argmin()]) == pytest.approx(margin_of(classes, ratio), abs=2e-5)


def test_too_few_dimensions_for_a_simplex_leave_the_other_properties():
    found = free(5, 0.3, width=2)
    collapse = neural_collapse(found.features, found.labels, weight=found.weight)
    assert collapse.nc1 < 1e-9
    assert collapse.nc3 < 1e-5
    assert collapse.nc2_angles > 0.3


def test_the_margin_of_a_solution_is_taken_from_its_scores():
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    solution = Unconstrained(
        features=features, labels=torch.arange(2), weight=torch.eye(2, dtype=torch.float64)
    )
    assert solution.margin == 1.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(threshold, 1, 10), "classes must be at least 2"),
        (partial(threshold, 3, 0), "per_class must be at least 1"),
        (partial(margin_of, 5, 0.0), "ratio must be above 0"),
        (partial(free, 5, -1.0), "decay_weight must be above 0"),
        (partial(free, 5, 0.5, width=0), "width must be at least 1"),
        (partial(unconstrained, 1, decay_weight=1, decay_features=1, seed=0), "classes must be"),
    ],
)
def test_what_is_not_understood_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
