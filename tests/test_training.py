"""The training loop: determinism, what it records, what it leaves alone."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from tqdm import tqdm

from repcollapse import data, diagnostics, training
from repcollapse.methods import METHODS
from repcollapse.networks import JointEmbedding, Pretext
from repcollapse.objectives import (
    Jigsaw,
    MoCo,
    PretextTask,
    Rotation,
    SwAV,
    invariance,
    negative_cosine,
    nt_xent,
    vicreg,
)
from repcollapse.training import Recipe, checkpoints, compare, embed_views, pick_device, train
from repcollapse.views import banks

SMALL = {"width": 8, "dimension": 6, "batch_size": 32}
INSTRUMENTS = [
    *(
        "zero_rows",
        "raw_std",
        "feature_std",
        "spread",
        "mean_share",
        "stable_rank",
        "participation_ratio",
    ),
    *("effective_rank", "rankme", "alignment", "uniformity", "intraclass_correlation"),
]


def recipe(objective=nt_xent, **kwargs):
    return Recipe(objective, **SMALL | kwargs)


def small(arm):
    """The same with less of everything; a pretext task has no dimension."""
    return replace(arm, **{k: v for k, v in SMALL.items() if k != "dimension" or not arm.pretext})


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", n_train=80, n_test=40)


@pytest.fixture(scope="module")
def tiny(digits):
    return banks(digits, views=3, test_views=3, side=8)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(training, "tqdm", functools.partial(tqdm, disable=True))


def fit(tiny, arm=None, **kwargs):
    return train(arm or recipe(), *tiny, **{"steps": 12, "device": "cpu"} | kwargs)


# --- one run


def test_the_same_seed_gives_the_same_run_bit_for_bit(tiny):
    one, two = fit(tiny, keep=[7]), fit(tiny, keep=[7])
    pd.testing.assert_frame_equal(one.history, two.history, check_exact=True)
    np.testing.assert_array_equal(one.losses, two.losses)
    assert torch.equal(one.embeddings[7], two.embeddings[7])
    for a, b in zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_another_seed_gives_another_run(tiny):
    one, two = fit(tiny), fit(tiny, seed=1)
    # Already before the first step: the seed governs initialisation, and later the order.
    assert one.history["spread"][0] != two.history["spread"][0]
    assert not np.isclose(one.losses, two.losses).any()


def test_the_seed_governs_the_order_of_batches_too(tiny, monkeypatch):
    starts = []
    step = training._step

    def spy(*arguments):
        starts.append(arguments[-1].get_state())
        return step(*arguments)

    monkeypatch.setattr(training, "_step", spy)
    for seed in (0, 0, 1):
        fit(tiny, steps=1, seed=seed)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_global_random_states_are_neither_read_nor_moved(tiny):
    torch.manual_seed(5)
    first = fit(tiny, steps=3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.manual_seed(6)
    moved = torch.get_rng_state()
    second = fit(tiny, steps=3)
    assert torch.equal(torch.get_rng_state(), moved)
    assert (np.random.get_state()[1] == before[1]).all()
    np.testing.assert_array_equal(first.losses, second.losses)
    compare({"a": recipe()}, dataset=data.load("digits", n_train=40, n_test=20), seeds=1, steps=1,
            device="cpu")  # fmt: skip
    assert torch.equal(torch.get_rng_state(), moved)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_of_any_method_depends_on_its_seed_alone(tiny, name):
    losses = []
    for state in (5, 6):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        losses.append(fit(tiny, arm=replace(METHODS[name], batch_size=32), steps=3).losses)
        assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(*losses)


def test_an_objective_draws_anew_at_every_step_and_seed(tiny):
    drawn = []

    def noisy(z_a, z_b):
        if torch.is_grad_enabled():
            drawn.append(float(torch.rand(())))
        return invariance(z_a, z_b)

    for seed in (0, 0, 1):
        fit(tiny, arm=recipe(noisy), steps=3, seed=seed)
    first, again, other = drawn[:3], drawn[3:6], drawn[6:]
    assert first == again and len({*first, *other}) == 6


def test_history_holds_the_instruments_at_the_checkpoints(tiny):
    run = fit(tiny, steps=12)
    assert list(run.history.columns) == ["step", "loss", *INSTRUMENTS]
    assert run.history["step"].tolist() == [0, 5, 10, 12]
    assert run.losses.shape == (12,) and np.isfinite(run.losses).all()
    # The loss beside a reading is that of the step before it; before the first there is none.
    assert np.isnan(run.history["loss"][0])
    np.testing.assert_array_equal(run.history["loss"][1:], run.losses[[4, 9, 11]])
    assert run.seconds > 0
    read = diagnostics.instruments(embed_views(run.model, tiny[1])[1])
    assert run.history.iloc[-1][INSTRUMENTS].to_dict() == read


def test_training_minimises_the_loss(tiny):
    losses = fit(tiny, steps=60, arm=recipe(lr=5e-3)).losses
    assert losses[-10:].mean() < losses[:5].mean() - 0.2


def test_steps_zero_leaves_the_model_untrained(tiny):
    run = fit(tiny, steps=0)
    assert run.history["step"].tolist() == [0]
    assert len(run.losses) == 0
    assert np.isnan(run.history["loss"][0])
    torch.manual_seed(0)
    for trained, fresh in zip(
        run.model.parameters(), recipe().build(tiny[0].shape).parameters(), strict=True
    ):
        assert torch.equal(trained, fresh)


def test_keep_adds_embeddings_and_readings(tiny):
    run = fit(tiny, steps=8, keep=(3, 8))
    assert sorted(run.embeddings) == [3, 8]
    assert run.history["step"].tolist() == [0, 3, 5, 8]
    assert run.embeddings[3].shape == (40, 6) and not run.embeddings[3].requires_grad
    torch.testing.assert_close(run.embeddings[8], embed_views(run.model, tiny[1])[1][0])
    assert diagnostics.spread(run.embeddings[3]) == run.history["spread"][1]
    # Reading more often changes nothing.
    np.testing.assert_array_equal(run.losses, fit(tiny, steps=8).losses)


def test_keep_beyond_the_last_step_is_refused(tiny):
    with pytest.raises(ValueError, match=r"keep must name steps from 0 to 8; got \[99\]"):
        fit(tiny, steps=8, keep=(3, 99))


def test_a_bar_that_was_given_advances_once_a_step(tiny):
    with tqdm(total=5, file=io.StringIO()) as bar:
        fit(tiny, steps=5, progress=bar)
        assert bar.n == 5


def test_the_rate_follows_a_cosine_to_zero(tiny, monkeypatch):
    rates = []
    step = training._step

    def spy(model, optimizer, *rest):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(model, optimizer, *rest)

    monkeypatch.setattr(training, "_step", spy)
    fit(tiny, steps=10, arm=recipe(lr=0.1))
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * np.arange(10) / 10)), rtol=1e-9)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, [0]), (1, [0, 1]), (5, [0, 5]), (30, [0, 5, 10, 20, 30]),
     (400, [0, 5, 10, 20, 50, 100, 200, 400]), (1000, [0, 5, 10, 20, 50, 100, 200, 500, 1000])],
)  # fmt: skip
def test_checkpoints(steps, expected):
    assert checkpoints(steps) == expected


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("predictor", ["none", "mlp", "linear", "frozen"])
def test_recipes_of_all_kinds_train(tiny, momentum, predictor):
    arm = recipe(invariance, predictor=predictor, stop_gradient=True, momentum=momentum)
    run = fit(tiny, arm=arm, steps=3)
    assert np.isfinite(run.losses).all()
    assert (run.model.target is None) == (momentum is None)
    assert (run.model.predictor is None) == (predictor == "none")


def test_the_momentum_target_follows_during_training(tiny):
    run = fit(tiny, arm=recipe(momentum=0.5), steps=3)
    torch.manual_seed(0)
    fresh = recipe(momentum=0.5).build(tiny[0].shape)
    target, start = (next(m.target.parameters()) for m in (run.model, fresh))
    online = next(run.model.encoder.parameters())
    assert not torch.equal(target, start) and not torch.equal(target, online)


@pytest.mark.parametrize(("projector", "dimension"), [("mlp", 6), ("linear", 6), ("none", 8)])
def test_projectors(projector, dimension):
    sizes = {} if projector == "none" else {"dimension": dimension}
    model = Recipe(nt_xent, projector=projector, width=8, **sizes).build((1, 8, 8))
    h, z = model.embed(torch.randn(4, 1, 8, 8))
    assert h.shape == (4, 8) and z.shape == (4, dimension)
    assert isinstance(model, JointEmbedding)


@pytest.mark.parametrize("encoder", ["mlp", "conv"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_norms_reach_every_part(encoder, norm):
    model = recipe(encoder=encoder, norm=norm, predictor="mlp").build((1, 8, 8))
    parts = (model.encoder, model.projector, model.predictor)
    for part in parts:
        found = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in part.modules())
        assert found == (norm == "batch")


def test_embed_views_is_in_evaluation_mode_and_views_first(tiny):
    model = fit(tiny, steps=2).model
    model.train()
    h, z = embed_views(model, tiny[1])
    assert not model.training
    assert h.shape == (3, 40, 8) and z.shape == (3, 40, 6)
    torch.testing.assert_close(z[2], model.embed(tiny[1].views[:, 2])[1])
    assert embed_views(model, tiny[1], 2)[1].shape == (2, 40, 6)
    assert not z.requires_grad


def test_views_are_embedded_where_the_model_is(tiny):
    """The device without memory stands for any other than the bank's."""
    h, z = embed_views(recipe().build(tiny[1].shape).to("meta"), tiny[1])
    assert h.device.type == z.device.type == "meta" and z.shape == (3, 40, 6)
    assert tiny[1].device.type == "cpu"


# --- batch norm before the first step


def test_calibration_makes_the_untrained_reading_that_of_training_mode(tiny):
    """With running statistics of 0 and 1 an untrained network reads half collapsed."""
    calibrated = fit(tiny, steps=0)
    torch.manual_seed(0)
    raw = recipe().build(tiny[0].shape)
    uncalibrated = diagnostics.instruments(embed_views(raw, tiny[1])[1])
    model = calibrated.model.train()
    with torch.no_grad():
        z = model.embed(tiny[1].views[:, 0])[1]
    reading = calibrated.history.iloc[0]
    assert reading["raw_std"] == pytest.approx(float(z.std(dim=0).mean()), rel=0.3)
    assert uncalibrated["raw_std"] < 0.6 * reading["raw_std"]
    assert uncalibrated["spread"] < 0.6 * reading["spread"]


def test_calibration_keeps_momentum_and_learns_nothing(tiny):
    torch.manual_seed(0)
    model = recipe().build(tiny[0].shape)
    before = {n: p.clone() for n, p in model.named_parameters()}
    training.calibrate(model, tiny[0])
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert [norm.momentum for norm in norms] == [0.1] * len(norms)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all(int(norm.num_batches_tracked) == 8 for norm in norms)


# --- failures


def test_a_loss_that_is_not_finite_stops_training(tiny):
    def broken(z_a, z_b):
        return nt_xent(z_a, z_b) * float("nan")

    with pytest.raises(FloatingPointError, match="loss is no longer finite: nan"):
        fit(tiny, arm=recipe(broken))


def test_a_rate_far_too_high_is_an_error_and_no_nan_curve(tiny):
    with pytest.raises((FloatingPointError, ValueError), match="finite"):
        fit(tiny, arm=recipe(vicreg, lr=1e30, norm="none"), steps=5)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps must be at least 0; got -1"),
        ({"steps": 2.5}, TypeError, "steps must be an integer; got float"),
        ({"steps": True}, TypeError, "steps must be an integer; got bool"),
        ({"device": "tpu9"}, ValueError, "device must be 'auto' or a torch device.*; got 'tpu9'"),
        ({"arm": recipe(batch_size=500)}, ValueError, "batch_size must be .* at most 80; got 500"),
    ],
)
def test_bad_arguments(tiny, kwargs, error, message):
    with pytest.raises(error, match=message):
        fit(tiny, **kwargs)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective": "nt_xent"}, TypeError, "objective must be a function .*; got str"),
        ({"projector": "big"}, ValueError, "projector must be one of .*; got 'big'"),
        ({"encoder": "vit"}, ValueError, "encoder must be one of .*; got 'vit'"),
        ({"norm": "group"}, ValueError, "norm must be one of .*; got 'group'"),
        ({"dimension": 0}, ValueError, "dimension must be at least 1; got 0"),
        ({"width": 2.5}, TypeError, "width must be an integer; got float"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2; got 1"),
        ({"lr": -1}, ValueError, "lr must be above 0; got -1"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be at least 0; got -1"),
        ({"momentum": 2}, ValueError, "momentum must be .*; got 2"),
        ({"head_norm": "group"}, ValueError, "head_norm must be one of .*; got 'group'"),
        ({"predictor": True}, ValueError, "predictor must be one of .*; got True"),
        ({"predictor_lr": 0}, ValueError, "predictor_lr must be above 0; got 0"),
        ({"objective": 3}, TypeError, "objective must be a function .*; got int"),
        (
            {"objective": functools.partial(MoCo, queue=64), "stop_gradient": False},
            ValueError,
            "stop_gradient must be True or left out with MoCo, .*; got False",
        ),
        (
            {"objective": SwAV(6)},
            TypeError,
            "objective must be a class, .*; got a SwAV, which the runs would share",
        ),
    ],
)
def test_a_recipe_checks_itself(changes, error, message):
    with pytest.raises(error, match=message):
        Recipe(**{"objective": nt_xent} | changes)


@pytest.mark.parametrize(
    ("kept", "idle", "default", "why"),
    [
        ({}, {"predictor_lr": 10.0}, 1.0, "the predictor 'none', which does not learn"),
        ({"predictor": "frozen"}, {"predictor_lr": 0.1}, 1.0, "the predictor 'frozen', which does"),
        ({"projector": "linear"}, {"head_norm": "layer"}, None, "a projector and a predictor that"),
        (
            {"projector": "none", "predictor": "linear"},
            {"head_norm": "none"},
            None,
            "a projector and a predictor that have no hidden layer",
        ),
        ({"projector": "none"}, {"dimension": 32}, 64, "the projector 'none'"),
        ({"projector": "none"}, {"output_norm": True}, False, "the projector 'none'"),
        ({"encoder": "resnet18"}, {"norm": "none"}, "batch", "the encoder 'resnet18', which has"),
        ({"encoder": "resnet18"}, {"width": 32}, 64, "the encoder 'resnet18', which has its own"),
        *(
            ({"objective": functools.partial(Jigsaw, grid=2)}, idle, default, "a pretext task, wh")
            for idle, default in (
                ({"head_norm": "layer"}, None),
                ({"output_norm": True}, False),
                ({"projector": "linear"}, "mlp"),
                ({"dimension": 32}, 64),
                ({"predictor": "mlp"}, "none"),
                ({"stop_gradient": True}, None),
                ({"momentum": 0.9}, None),
            )
        ),
    ],
)
def test_a_setting_without_effect_is_refused(kept, idle, default, why):
    kept = {"objective": nt_xent} | kept
    Recipe(**kept)
    ((name, given),) = idle.items()
    message = rf"^{name} must be left at {default!r} with {why}.*; got {given!r}$"
    with pytest.raises(ValueError, match=message):
        Recipe(**kept | idle)


@pytest.mark.parametrize("arms", [[Recipe(nt_xent)], {"a": nt_xent}])
def test_arms_are_recipes_by_name(arms):
    with pytest.raises(TypeError, match="arms must map names to recipes"):
        compare(arms)


def test_seed_must_be_a_number(tiny):
    with pytest.raises(TypeError, match="seed must be an integer; got str"):
        fit(tiny, seed="0")


def test_pick_device():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for unknown in ("gpu", "cuda:99", 3.5):
        with pytest.raises(ValueError, match="device must be 'auto' or a torch device"):
            pick_device(unknown)


# --- several arms


@pytest.fixture(scope="module")
def comparison(digits):
    arms = {"simclr": recipe(), "none": recipe(invariance, norm="none")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "tqdm", functools.partial(tqdm, disable=True))
        return compare(
            arms, dataset=digits, seeds=2, first_seed=3, steps={"simclr": 6, "none": 4},
            keep=[4], device="cpu",
        )  # fmt: skip


def test_frames_are_tidy(comparison):
    assert comparison.arms == ["simclr", "none"]
    assert comparison.seeds == [3, 4]
    keys = comparison.history[["arm", "seed", "step"]]
    assert not keys.duplicated().any()
    readings = keys.groupby(["arm", "seed"])["step"].apply(list).to_dict()
    assert readings == {
        **{("simclr", s): [0, 4, 5, 6] for s in (3, 4)},
        **{("none", s): [0, 4] for s in (3, 4)},
    }
    assert set(comparison.history.columns) == {"arm", "seed", "step", "loss", *INSTRUMENTS}
    assert len(comparison.final) == 4
    assert set(comparison.final.columns) == set(comparison.history.columns) | {
        *("linear_probe_h", "linear_probe_z", "resolution_probe_h", "resolution_probe_z", "knn_z")
    }
    assert comparison.final["step"].tolist() == [6, 4, 6, 4]


def test_baselines(comparison):
    assert comparison.baselines["seed"].tolist() == [3, 4]
    scores = comparison.baselines.drop(columns="seed")
    assert {"chance", "pixels", "pixels_resolution", "untrained_linear_probe_h"} <= set(scores)
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
    assert (scores["pixels"] > scores["chance"]).all()


def test_embeddings_are_z_of_the_first_test_views_by_seed(comparison):
    arm = comparison.arms[0]
    embedded = comparison.embed(arm, views=1)
    assert len(embedded) == len(comparison.labels()) == len(comparison.seeds)
    for z, labels, seed in zip(embedded, comparison.labels(), comparison.seeds, strict=True):
        assert z.shape[:2] == (1, len(labels))
        assert diagnostics.spread(z[0]) == pytest.approx(comparison.values(arm, "spread")[seed])
    with pytest.raises(ValueError, match="arm must be"):
        comparison.embed("none of them")


def test_values_are_those_of_the_final_frame_by_seed(comparison):
    values = comparison.values("none", "spread")
    assert list(values) == [3, 4]
    rows = comparison.final.set_index(["arm", "seed"])["spread"]
    assert values == {seed: rows["none", seed] for seed in (3, 4)}
    assert all(type(value) is float for value in values.values())
    last = comparison.history[comparison.history["step"] == 4].set_index(["arm", "seed"])["spread"]
    assert values[4] == last["none", 4]


def test_runs_and_banks_are_kept_by_arm_and_seed(comparison):
    assert set(comparison.runs) == {(a, s) for a in ("simclr", "none") for s in (3, 4)}
    assert set(comparison.test_banks) == {3, 4}
    assert set(comparison.runs["simclr", 3].embeddings) == {4}
    assert not torch.equal(comparison.test_banks[3].views, comparison.test_banks[4].views)


def test_an_arm_is_the_run_of_its_own(comparison, digits):
    """Neither the other arms nor the other seeds leave a trace."""
    banks_ = banks(digits, seed=4)
    alone = train(recipe(), *banks_, steps=6, seed=4, device="cpu", keep=[4])
    together = comparison.runs["simclr", 4]
    pd.testing.assert_frame_equal(alone.history, together.history, check_exact=True)


@pytest.mark.parametrize(
    ("arm", "column", "message"),
    [
        ("byol", "spread", r"arm must be one of \['none', 'simclr'\]; got 'byol'"),
        ("none", "rank", r"column must be one of .*; got 'rank'"),
    ],
)
def test_values_that_are_not_there(comparison, arm, column, message):
    with pytest.raises(ValueError, match=message):
        comparison.values(arm, column)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"arms": {}}, ValueError, "arms must name at least one recipe; got none"),
        ({"seeds": 0}, ValueError, "seeds must be at least 1; got 0"),
        ({"seeds": "5"}, TypeError, "seeds must be an integer; got str"),
        ({"first_seed": -1}, ValueError, "first_seed must be at least 0; got -1"),
        ({"steps": {"b": 3}}, ValueError, r"steps must name exactly the arms \['a'\]; got \['b'\]"),
        ({"steps": -2}, ValueError, "steps must be at least 0; got -2"),
        ({"steps": "many"}, TypeError, "steps must be an integer; got str"),
        ({"dataset": "imagenet"}, ValueError, "must be one of .*; got 'imagenet'"),
        ({"device": "tpu9"}, ValueError, "device must be 'auto'"),
        ({"probes": ["svm"]}, ValueError, "probes must be one of .*; got 'svm'"),
        ({"probes": {"a": ["svm"]}}, ValueError, "probes must be one of .*; got 'svm'"),
        ({"probes": {"b": []}}, ValueError, r"probes must name some of the arms \['a'\]; got"),
        ({"test_views": 1}, ValueError, "test_views must be at least 2; got 1"),
        ({"test_views": 9}, ValueError, "views must be at least 1 and at most 8; got 9"),
        ({"prepare": {"b": str}}, ValueError, r"prepare must name some of the arms \['a'\]; got"),
    ],
)
def test_bad_comparisons(digits, kwargs, error, message):
    arguments = {"arms": {"a": recipe()}, "dataset": digits, "seeds": 1, "steps": 1,
                 "device": "cpu"} | kwargs  # fmt: skip
    with pytest.raises(error, match=message):
        compare(**arguments)


# --- what the chapters say, in small


def test_invariance_alone_collapses_and_negatives_prevent_it(tiny):
    shared = {"norm": "none", "lr": 5e-3}
    collapsed = fit(tiny, steps=150, arm=recipe(invariance, **shared)).history.iloc[-1]
    alive = fit(tiny, steps=150, arm=recipe(nt_xent, **shared)).history.iloc[-1]
    assert collapsed["spread"] < 0.1
    assert alive["spread"] > 0.6
    assert collapsed["loss"] < 0.05


def test_recipes_are_values():
    arm = recipe()
    assert replace(arm, lr=1.0).lr == 1.0 and arm.lr == 2e-3
    with pytest.raises(AttributeError):
        arm.lr = 1.0


@pytest.mark.parametrize("views", [0, 4])
def test_only_views_that_are_there_are_embedded(tiny, views):
    with pytest.raises(ValueError, match=f"views must be at least 1 and at most 3; got {views}"):
        embed_views(recipe().build(tiny[1].shape), tiny[1], views)


# --- objectives with state, pretext tasks, heads


@pytest.mark.parametrize("module", ["training", "methods", "pretraining", "evidence"])
def test_importing_it_is_light(module):
    """What draws, tabulates or fits a probe is imported where it is done."""
    heavy = "{'sklearn', 'scipy.stats', 'pandas', 'matplotlib', 'seaborn', 'kornia'}"
    code = f"import sys, repcollapse.{module}; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(tiny, name):
    arm = small(METHODS[name])
    run = fit(tiny, arm=arm, steps=3)
    assert np.isfinite(run.losses).all() and len(run.losses) == 3
    assert isinstance(run.model, Pretext if arm.pretext else JointEmbedding)


def test_methods_are_found_in_files_and_named_once(tmp_path, monkeypatch):
    from repcollapse import methods

    (tmp_path / "mine.py").write_text(
        "from repcollapse.training import Recipe\n"
        "from repcollapse.objectives import nt_xent\n"
        "triplets = Recipe(nt_xent)\n"
    )
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setitem(__import__("sys").modules, "repcollapse.methods.mine", None)
    monkeypatch.delitem(__import__("sys").modules, "repcollapse.methods.mine")
    assert set(methods._collect()) == {*METHODS, "triplets"}
    (tmp_path / "theirs.py").write_text((tmp_path / "mine.py").read_text())
    with pytest.raises(ImportError, match=r"theirs.py names methods that exist already"):
        methods._collect()


def test_every_run_has_an_objective_of_its_own(tiny):
    arm = recipe(functools.partial(SwAV, prototypes=5))
    one, two = fit(tiny, arm=arm, steps=2), fit(tiny, arm=arm, steps=2)
    assert one.model.objective is not two.model.objective
    for a, b in zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert any(name.startswith("objective.") for name, _ in one.model.named_parameters())


def test_a_queue_fills_during_training(tiny):
    arm = recipe(functools.partial(MoCo, queue=64), momentum=0.9)
    fresh, run = fit(tiny, arm=arm, steps=0), fit(tiny, arm=arm, steps=1)
    before, after = (r.model.objective.queue for r in (fresh, run))
    assert int((before != after).any(dim=1).sum()) == 2 * SMALL["batch_size"]


def test_a_pretext_needs_no_projector(tiny):
    arm = small(Recipe(Rotation))
    assert arm.pretext and not recipe().pretext and not recipe(SwAV).pretext
    run = fit(tiny, arm=arm, steps=2)
    assert isinstance(run.model.objective, PretextTask)
    h, z = embed_views(run.model, tiny[1])
    assert torch.equal(h, z) and h.shape[2] == SMALL["width"]


def test_a_frozen_predictor_stays_as_drawn(tiny):
    arm = recipe(negative_cosine, predictor="frozen", stop_gradient=True)
    fresh, run = fit(tiny, arm=arm, steps=0), fit(tiny, arm=arm, steps=3)
    pairs = zip(fresh.model.predictor.parameters(), run.model.predictor.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    moved = zip(fresh.model.encoder.parameters(), run.model.encoder.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in moved)


def test_the_predictor_has_a_rate_of_its_own():
    arm = recipe(negative_cosine, predictor="linear", stop_gradient=True, predictor_lr=10, lr=1e-3)
    model = arm.build((1, 8, 8))
    groups = arm.optimizer(model).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 1e-2])
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in model.predictor.parameters()}
    everything = {id(p) for group in groups for p in group["params"]}
    assert everything == {id(p) for p in model.parameters()}


def test_heads_may_have_another_norm(tiny):
    model = recipe(predictor="mlp", norm="batch", head_norm="none").build((1, 8, 8))
    norms = [
        any(isinstance(m, nn.BatchNorm1d) for m in part.modules())
        for part in (model.encoder, model.projector, model.predictor)
    ]
    assert norms == [True, False, False]


# --- what compare may be told


def few(**kwargs):
    return compare(**{"arms": {"a": recipe()}, "seeds": 1, "steps": 2, "device": "cpu"} | kwargs)


def test_prepared_arms_see_other_views(digits):
    seen = []

    def darkened(bank):
        seen.append(len(bank))
        return replace(bank, views=bank.views * 0)

    arms = {"a": recipe(), "b": recipe()}
    result = few(arms=arms, dataset=digits, prepare={"b": darkened})
    assert seen == [80, 40]
    assert result.runs["b", 0].history["spread"].iloc[-1] < 1e-3
    assert result.runs["a", 0].history["spread"].iloc[-1] > 0.1
    assert result.test_banks[0].views.abs().max() > 0


def test_validation_leaves_the_test_samples_alone(digits):
    result = few(dataset=digits, validation=True)
    train_bank, test_bank = banks(digits, seed=0)
    judged_on = result.test_banks[0]
    assert len(judged_on) == 16 and judged_on.n_views == train_bank.n_views
    pixels = {row.numpy().tobytes() for row in train_bank.views[:, 0]}
    assert {row.numpy().tobytes() for row in judged_on.views[:, 0]} <= pixels
    assert not {row.numpy().tobytes() for row in test_bank.views[:, 0]} & pixels


def test_without_probes_there_are_instruments_and_chance(digits):
    with_probes, without = few(dataset=digits), few(dataset=digits, probes=[])
    assert list(without.baselines.columns) == ["seed", "chance"]
    assert "linear_probe_h" not in without.final and "linear_probe_h" in with_probes.final
    pd.testing.assert_frame_equal(without.history, with_probes.history, check_exact=True)
    assert without.baselines["chance"].equals(with_probes.baselines["chance"])
    one = few(dataset=digits, probes=["knn_z"])
    assert set(one.final) - set(without.final) == {"knn_z"}
    everything = ["arm", "seed", *without.history.columns.drop(["arm", "seed"]), *training.PROBES]
    assert list(with_probes.final) == everything
    assert one.final["knn_z"].equals(with_probes.final["knn_z"])


@pytest.mark.parametrize(
    ("probes", "of_pixels"),
    [
        (["linear_probe_h"], {"pixels"}),
        (["resolution_probe_z"], {"pixels_resolution"}),
        (["linear_probe_z", "resolution_probe_h"], {"pixels", "pixels_resolution"}),
        (["knn_z"], set()),
    ],
)
def test_pixels_are_probed_as_the_networks_are(digits, probes, of_pixels):
    baselines = few(dataset=digits, probes=probes).baselines
    untrained = {f"untrained_{name}" for name in probes}
    assert set(baselines) == {"seed", "chance"} | untrained | of_pixels


def test_each_arm_may_have_probes_of_its_own(digits):
    arms = dict.fromkeys(("a", "b", "c"), recipe())
    probes = {"b": ["knn_z"], "a": ["linear_probe_h", "knn_z"]}
    own, same = (
        few(arms=arms, dataset=digits, probes=given) for given in (probes, training.PROBES)
    )
    for column in ("linear_probe_h", "knn_z"):
        probed = [arm for arm in arms if column in probes.get(arm, ())]
        for arm in arms:
            (ours,), (theirs,) = (r.values(arm, column).values() for r in (own, same))
            assert ours == theirs if arm in probed else np.isnan(ours)
    assert set(own.final) - set(own.history) == {"linear_probe_h", "knn_z"}
    untrained = [name for name in own.baselines if name.startswith("untrained")]
    assert untrained == ["untrained_linear_probe_h", "untrained_knn_z"]


def test_the_first_views_may_be_all_that_is_read(digits):
    every, two = few(dataset=digits, seeds=2), few(dataset=digits, seeds=2, test_views=2)
    for seed in two.seeds:
        assert torch.equal(two.test_banks[seed].views, every.test_banks[seed].views)
        (arm,) = two.arms
        z = embed_views(every.runs[arm, seed].model, every.test_banks[seed], 2)[1]
        read = diagnostics.intraclass_correlation(z)
        assert two.values(arm, "intraclass_correlation")[seed] == pytest.approx(read, rel=1e-5)
        assert every.values(arm, "intraclass_correlation")[seed] != pytest.approx(read, rel=1e-3)
    # Nothing else reads more than two views.
    for frame in ("history", "final"):
        few_views, all_views = (
            getattr(of, frame).drop(columns="intraclass_correlation") for of in (two, every)
        )
        pd.testing.assert_frame_equal(few_views, all_views, check_exact=True)
    held_out = few(dataset=digits, validation=True, test_views=3)
    z = held_out.embed("a", views=3)[0]
    read = diagnostics.intraclass_correlation(z)
    assert held_out.values("a", "intraclass_correlation")[0] == pytest.approx(read, rel=1e-5)
