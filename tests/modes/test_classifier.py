"""What is read of a classifier, on features that are made by hand."""

from dataclasses import replace

import pytest
import torch

from repcollapse.diagnostics import linear_probe, neural_collapse
from repcollapse.modes.classifier import Classifier, Trained


@pytest.fixture
def trained():
    """Three classes, of which the last is not shown, at two steps."""
    generator = torch.Generator().manual_seed(0)
    labels, test_labels = torch.arange(3).repeat(30), torch.arange(3).repeat(10)
    corners = torch.eye(3, 4, dtype=torch.float64)

    def around(which, noise):
        drawn = torch.randn(len(which), 4, generator=generator, dtype=torch.float64)
        return corners[which] + noise * drawn

    weight, bias = torch.eye(2, 4), torch.zeros(2)
    return Trained(
        model=Classifier(8, 4, 2),
        objective="cross-entropy",
        seed=900,
        train_labels=labels,
        test_labels=test_labels,
        train_targets=labels,
        test_targets=test_labels,
        shown=labels < 2,
        features={0: around(labels, 1.0), 7: around(labels, 0.1)},
        test_features={0: around(test_labels, 1.0), 7: around(test_labels, 0.1)},
        heads={0: (weight, bias), 7: (weight, bias)},
    )


def test_collapse_is_that_of_the_pictures_shown_and_the_history_has_every_step(trained):
    told = trained.train_targets[trained.shown]
    weight, bias = trained.heads[0]
    first = neural_collapse(trained.features[0][trained.shown], told, weight=weight, bias=bias)
    assert trained.collapse(0) == first
    assert trained.last == 7
    assert trained.history["step"].tolist() == [0, 7]
    assert trained.history["nc1"].tolist() == [first.nc1, trained.collapse().nc1]
    assert trained.collapse().nc1 < first.nc1


def test_the_last_layer_is_right_where_it_answers_what_was_told(trained):
    assert trained.accuracy == pytest.approx(2 / 3)  # it has no answer for the third class
    assert trained.right[trained.test_labels < 2].all()
    assert not trained.right[trained.test_labels == 2].any()
    with pytest.raises(ValueError, match="objective must be 'cross-entropy' for answers"):
        _ = replace(trained, objective="supcon").right


def test_the_probe_asks_for_the_classes_that_were_hidden(trained):
    hidden = replace(trained, shown=trained.train_labels == 0)
    train, test = hidden.train_labels > 0, hidden.test_labels > 0
    assert hidden.probe == linear_probe(
        hidden.h[train], hidden.train_labels[train], hidden.h_test[test], hidden.test_labels[test]
    )


def test_noise_hides_what_is_small_and_leaves_what_is_large(trained):
    whole = replace(trained, shown=torch.ones_like(trained.shown))
    shrunk = {k: h + 0 for k, h in whole.features.items()}
    shrunk_test = {k: h + 0 for k, h in whole.test_features.items()}
    for rows in (*shrunk.values(), *shrunk_test.values()):
        rows[:, 1:] *= 1e-4  # classes 1 and 2 are told apart by nothing large
    dim = replace(whole, features=shrunk, test_features=shrunk_test)
    assert whole.probe > 0.9
    assert whole.noisy_probe > 0.9
    assert dim.probe > 0.9
    assert dim.noisy_probe < 0.8
