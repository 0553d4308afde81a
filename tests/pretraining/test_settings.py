from __future__ import annotations

from functools import partial

import pytest

from repcollapse import training
from repcollapse.methods import METHODS
from repcollapse.objectives import w_mse
from repcollapse.pretraining import Settings
from repcollapse.pretraining.settings import SIZES, _gathering, _spelt


def test_the_methods_own_values_are_filled_in():
    settings, recipe = Settings("byol", "digits"), METHODS["byol"]
    for name in ("encoder", "dimension", "batch_size", "lr", "weight_decay"):
        assert getattr(settings, name) == getattr(recipe, name)
    assert settings.recipe() == recipe
    # So that leaving a value out and giving it are the same settings.
    assert Settings("byol", "digits", lr=recipe.lr) == settings


def test_given_values_replace_them():
    settings = Settings("byol", "digits", encoder="conv", lr=1e-4, dimension=8, batch_size=16)
    recipe = settings.recipe()
    assert (recipe.encoder, recipe.lr, recipe.dimension, recipe.batch_size) == ("conv", 1e-4, 8, 16)
    assert recipe.predictor == "mlp" and recipe.momentum == METHODS["byol"].momentum


def test_length():
    assert Settings("byol", "digits").epochs == 100
    assert Settings("byol", "digits", steps=7).total_steps(1300) == 7
    # 1300 images hold 10 batches of 128; what is left is left out.
    assert Settings("byol", "digits", epochs=3).total_steps(1300) == 30


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_builds_and_is_spelt_without_addresses(name):
    recipe = Settings(name, "digits").recipe(gather=True)
    assert isinstance(recipe, training.Recipe)
    record = Settings(name, "digits").record()
    assert " at 0x" not in str(record)
    assert record["recipe"]["objective"].startswith("repcollapse.objectives.")


def test_gathering_is_bound_where_it_is_known():
    def plain(z_a, z_b):
        return z_a

    assert _gathering(plain) is plain
    bound = _gathering(partial(w_mse, slices=2))
    assert bound.keywords == {"slices": 2, "gather_distributed": True}
    assert _gathering(METHODS["swav"].objective)(8).gather_distributed
    without = {"invariance", "simsiam", "byol", "rotation", "jigsaw", "inpainting"}
    for name, recipe in METHODS.items():
        assert (_gathering(recipe.objective) is recipe.objective) == (name in without), name


def test_bound_options_are_spelt():
    assert _spelt(partial(w_mse, slices=2)) == "repcollapse.objectives.whitening.w_mse(slices=2)"


def test_sizes_are_those_of_the_loaders():
    from repcollapse.data import _LOADERS

    assert SIZES["digits"] == _LOADERS["digits"][1:]
    assert SIZES["sprites"] == _LOADERS["sprites"][1:]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"method": "simclrr"}, ValueError, r"method must be one of \['alignment_uniformity', .*"),
        ({"dataset": "mnist"}, ValueError, "dataset must be one of .*; got 'mnist'"),
        ({"encoder": "vit"}, ValueError, "encoder must be one of .*; got 'vit'"),
        ({"steps": 5, "epochs": 5}, ValueError, "steps must be left out where epochs is given"),
        ({"steps": 0}, ValueError, "steps must be at least 1; got 0"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1; got 0"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2; got 1"),
        ({"lr": 0.0}, ValueError, "lr must be above 0; got 0.0"),
        ({"lr": "high"}, TypeError, "lr must be a number; got str"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be at least 0; got -1.0"),
        ({"seed": -1}, ValueError, "seed must be at least 0; got -1"),
        ({"dtype": "half"}, ValueError, "dtype must be one of"),
        ({"dtype": "float64", "amp": True}, ValueError, "amp must be off with dtype 'float64'"),
        ({"limit": 1}, ValueError, "limit must be at least 2"),
        ({"limit": 1301}, ValueError, "limit must be at least 2 and at most 1300; got 1301"),
        ({"test_limit": 1}, ValueError, "test_limit must be at least 2"),
        ({"probe_limit": 1}, ValueError, "probe_limit must be at least 2"),
        ({"log_every": 0}, ValueError, "log_every must be at least 1"),
        ({"evaluate_every": -1}, ValueError, "evaluate_every must be at least 0"),
    ],
)
def test_bad_settings(given, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Settings(**{"method": "vicreg", "dataset": "digits"} | given)
