"""The monitor on methods of the book: healthy runs pass, and what collapses is caught in time."""

from dataclasses import replace

import pytest
import torch

from repcollapse import Monitor
from repcollapse.methods import METHODS
from repcollapse.training import _step, calibrate, seeded, seeded_step
from repcollapse.views import banks

CPU = torch.device("cpu")


def watched(recipe, seed, steps):
    bank, _ = banks("digits", seed=seed)
    with seeded(seed, CPU):
        model = recipe.build(bank.shape)
        calibrate(model, bank)
    optimizer = recipe.optimizer(model)
    generator = torch.Generator().manual_seed(seed)
    layers = {"backbone": "encoder", "projector": "projector"}
    if model.target is not None:
        layers["target"] = "target"
    with Monitor(model, layers, warn=False) as monitor:
        for step in range(steps):
            with seeded_step(seed, step, CPU):
                _step(model, optimizer, bank, recipe.batch_size, generator)
            monitor.step()
    return monitor


@pytest.mark.parametrize("seed", [900, 901])
def test_simsiam_without_stop_gradient_is_caught_within_100_steps(seed):
    monitor = watched(replace(METHODS["simsiam"], stop_gradient=False), seed, 100)
    assert 25 <= monitor.alarms["projector"].step <= 100


# Those that come nearest to a collapse on their way: of the spread, and of the dimensions.
@pytest.mark.parametrize("name", ["simsiam", "dino", "directpred", "barlow_twins"])
def test_healthy_runs_get_no_collapse(name):
    monitor = watched(METHODS[name], 900, 150)
    assert not monitor.alarms
    steps, verdicts = monitor.history["step"], monitor.history["verdict"]
    assert set(verdicts[steps < 25]) == {"too-early"}
    assert set(verdicts[steps >= 25]) <= {"healthy", "cone"}
