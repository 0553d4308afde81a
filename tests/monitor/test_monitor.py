"""The monitor: what it reads, what it keeps, what it leaves alone, and when it speaks."""

import copy
import gc
import pickle
import sys
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import repcollapse
from repcollapse import CollapseWarning, Monitor, diagnose
from repcollapse.diagnosis import VERDICTS, decide
from repcollapse.diagnosis.brief import PAIRS, read_briefly
from repcollapse.diagnosis.crowding import apart
from repcollapse.monitor import MEASURES, rows_of


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


class Given(nn.Module):
    """A model that returns what it is given, through a layer that can be watched."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.calls = 0

    def forward(self, z):
        return self.layer(z)


def fed(batches, model=None, *, warn=False, **settings):
    """Return a monitor that has seen a batch a step."""
    model = model or Given()
    with Monitor(model, {"layer": "layer"}, warn=warn, **settings) as monitor:
        for batch in batches:
            model(batch)
            monitor.step()
    return monitor


def column(monitor, name):
    return monitor.history[name].tolist()


def spreading(spread, seed=0, n=512, d=32):
    """Return rows whose directions have about this spread."""
    z = normal(n, d, seed)
    offset = np.sqrt(1 / spread**2 - 1)
    return z / np.sqrt(d) + offset * torch.eye(d)[0]


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16))


def trained(model, *, steps, monitor=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = model(torch.randn(64, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.step()
    return model


def test_readings_are_of_the_first_step_and_of_every_kth():
    monitor = fed([normal(512, 8, seed) for seed in range(60)])
    assert column(monitor, "step") == [1, 25, 50]
    assert column(fed([normal(512, 8)] * 9, every=4), "step") == [1, 4, 8]
    assert column(fed([normal(512, 8)] * 9, every=4, first_step=1002), "step") == [
        *(1003, 1004, 1008)
    ]


def test_a_reading_is_what_diagnose_reads():
    z = normal(256, 24) * torch.arange(1, 25.0) ** -0.5 + 0.1
    monitor = fed([z] * 25)
    whole = diagnose(z)
    for name in MEASURES:
        read = monitor.history[name][-1]
        assert read == pytest.approx(whole.metrics[name], rel=1e-9), name
    assert monitor.diagnosis("layer").to_dict() == whole.to_dict()
    assert monitor.history["verdict"][-1] == whole.verdict == "healthy"


def made(name):
    z = normal(600, 48)
    if name == "zeros":
        z[:580] = 0
    if name == "clusters":
        z = 3 * normal(6, 48, 1)[torch.arange(600) % 6] + 0.01 * z
    if name == "directions":
        z = normal(6, 48, 1)[torch.arange(600) % 6] * (1 + z[:, :1].abs())
    if name == "outliers":
        z = z @ torch.eye(48) * 1e-3 + 1
        z[::200] *= -50
    if name == "constant":
        z = torch.ones(600, 48)
    return {"line": z[:, :1] * torch.ones(48), "cone": z + 3, "wide": normal(600, 900)}.get(name, z)


@pytest.mark.parametrize(
    "name",
    [
        *("normal", "zeros", "clusters", "directions", "outliers", "constant", "line", "cone"),
        "wide",
    ],
)
def test_brief_evidence_decides_as_the_whole_does(name):
    z = made(name)
    brief, whole = read_briefly(z), diagnose(z)
    assert decide(brief)[0].kind == whole.verdict
    for measure in (*MEASURES, "rank", "zero_rows", "dead_dimensions", "outliers"):
        if measure in ("points", "outliers"):  # of a sample
            continue
        assert brief.metrics[measure] == pytest.approx(
            whole.metrics[measure], rel=1e-6, abs=1e-9
        ), measure
    assert brief.sampled == PAIRS


def test_a_look_tells_what_sits_on_points():
    def about_mean(z):
        return z.double() - z.double().mean(dim=0)

    assert apart(about_mean(normal(128, 48)))
    assert not apart(about_mean(made("clusters")[:128]))
    copies = normal(128, 48)
    copies[5] = copies[7]
    assert not apart(about_mean(copies))
    assert not apart(torch.zeros(128, 4, dtype=torch.float64))


def test_small_batches_are_gathered_up_to_the_reading():
    batches = [torch.full((10, 4), float(step)) + normal(10, 4) for step in range(1, 51)]
    monitor = fed(batches, rows=35, every=10)
    assert column(monitor, "step") == [4, 10, 20, 30, 40, 50]
    assert column(monitor, "rows") == [35] * 6
    # The last four batches before the reading, and not the four after the one before.
    last = torch.cat(batches[46:50])
    torch.testing.assert_close(monitor._layers["layer"].rows[:30], last[:30])
    # Where a whole interval does not suffice, what it gave is read.
    assert column(fed(batches, rows=500, every=10), "rows") == [100] * 5


def test_of_large_batches_some_rows_from_all_over_are_kept():
    z = torch.arange(1000.0)[:, None] * torch.ones(1, 4)
    kept = fed([z], rows=100)._layers["layer"].rows
    assert kept.shape == (100, 4) and kept.dtype == torch.float32
    assert kept[:, 0].tolist() == list(range(0, 1000, 10))


def test_long_rows_need_more_of_them():
    assert column(fed([normal(600, 2000)]), "rows") == [500]
    assert column(fed([normal(600, 1000)]), "rows") == [256]


def test_memory_is_bounded():
    model = Given()
    with Monitor(model, ["layer"], rows=64, every=5) as monitor:
        for step in range(200):
            model(normal(50, 8, step))
            monitor.step()
            layer = monitor._layers["layer"]
            assert sum(len(piece) for piece in layer.pieces) <= 64
            assert layer.rows is None or layer.rows.shape == (64, 8)
            # Copies of just these rows, and not views that keep the batch alive.
            assert all(piece.untyped_storage().nbytes() <= 64 * 8 * 4 for piece in layer.pieces)


def test_between_readings_nothing_is_taken():
    model = Given()
    with Monitor(model, ["layer"], every=10, rows=16) as monitor:
        for step in range(1, 31):
            model(normal(16, 4))
            assert (monitor._layers["layer"].count > 0) == (step == 1 or step % 10 == 0)
            monitor.step()


def test_outputs_are_let_go():
    model = Given()
    with Monitor(model, ["layer"], rows=16) as monitor:
        z = normal(16, 4).requires_grad_()
        output = model(z * 1)
        kept = weakref.ref(output)
        del output
        assert kept() is None
        monitor.step()


def test_training_is_left_alone():
    torch.manual_seed(1)
    plain = trained(mlp(), steps=60)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    model = mlp()
    with Monitor(model, {"h": "2", "z": "3"}, every=5, warn=False) as monitor:
        trained(model, steps=60, monitor=monitor)
    assert len(monitor.history["step"]) > 20
    assert torch.equal(state, torch.get_rng_state())
    for ours, theirs in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_closing_takes_the_hooks_off_and_lets_go_of_the_model():
    model = Given()
    monitor = Monitor(model, ["layer"])
    assert len(model.layer._forward_hooks) == 1
    model(normal(600, 4))
    monitor.step()
    monitor.close()
    monitor.close()
    assert not model.layer._forward_hooks
    with pytest.raises(RuntimeError, match="closed"):
        monitor.step()
    assert monitor.diagnosis("layer").rows == 256 and column(monitor, "step") == [1]
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        gc.enable()


def test_an_error_in_the_loop_closes_too():
    model = Given()
    with pytest.raises(ZeroDivisionError), Monitor(model, ["layer"]):
        raise ZeroDivisionError
    assert not model.layer._forward_hooks


def test_a_monitor_that_is_forgotten_takes_its_hooks_with_it():
    model = Given()
    monitor = Monitor(model, ["layer"])
    del monitor
    gc.collect()
    assert not model.layer._forward_hooks


def test_copies_of_the_model_are_not_watched():
    model = Given()
    with Monitor(model, ["layer"], rows=16) as monitor:
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other(normal(16, 4))
            assert monitor._layers["layer"].count == 0
        model(normal(16, 4))
        assert monitor._layers["layer"].count == 16


def test_validation_is_not_read_and_a_target_in_evaluation_mode_is():
    model = nn.ModuleDict({"online": nn.Identity(), "target": nn.Identity()})
    with Monitor(model, ["online", "target"], rows=16) as monitor:
        model.eval()
        model["online"](normal(16, 4))
        assert monitor._layers["online"].count == 0
        model.train()
        model["target"].eval()
        with torch.no_grad():
            model["online"](normal(16, 4))
            model["target"](normal(16, 4))
        monitor.step()
    assert column(monitor, "layer") == ["online", "target"]


def test_recomputed_activations_are_not_read_again():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    model = Model()
    with Monitor(model, ["inner"], rows=64) as monitor:
        model(normal(16, 4)).sum().backward()
        assert model.inner.weight.grad is not None
        assert monitor._layers["inner"].count == 16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_in_float32(dtype):
    monitor = fed([normal(512, 8).to(dtype)] * 25)
    assert monitor._layers["layer"].rows.dtype == torch.float32
    assert column(monitor, "verdict") == ["too-early", "healthy"]


def test_autocast_is_read():
    model = nn.Sequential(nn.Linear(8, 8))
    with Monitor(model, ["0"], rows=16) as monitor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(normal(16, 8)).dtype == torch.bfloat16
        assert monitor.step()
    assert monitor._layers["0"].rows.dtype == torch.float32


def test_feature_maps_are_averaged_over_positions():
    maps = torch.arange(48.0).reshape(2, 3, 2, 4)
    torch.testing.assert_close(rows_of("x", maps), maps.mean(dim=(2, 3)))
    torch.testing.assert_close(rows_of("x", maps.half()), maps.mean(dim=(2, 3)))


class Output(dict):
    """Like what Hugging Face's models return."""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            Output(last_hidden_state=torch.ones(2, 5, 4)),
            r"Output \(last_hidden_state: a tensor of shape \(2, 5, 4\)\): give select={'x'",
        ),
        ((torch.ones(2, 4), None), r"tuple \(a tensor of shape \(2, 4\), a NoneType\): give sel"),
        (None, "a NoneType: give select"),
        (torch.ones(2, 4).long(), "return floats; got torch.int64"),
        (torch.ones(2, 5, 4), r"feature maps \(N, D, H, W\); got a tensor of shape \(2, 5, 4\)"),
        (torch.ones(5), r"got a tensor of shape \(5,\)"),
        (torch.ones(2, 8193), "of 1 to 8192 numbers"),
    ],
)
def test_other_outputs_are_refused_with_the_way_out(output, said):
    with pytest.raises((TypeError, ValueError), match=said):
        rows_of("x", output)


def test_refused_at_the_first_forward_and_selected_from():
    class Tokens(nn.Module):
        def forward(self, x):
            return Output(last_hidden_state=x)

    model = Tokens()
    tokens = normal(40 * 5, 8).reshape(40, 5, 8)
    with Monitor(model, {"first": ""}), pytest.raises(TypeError, match="select"):
        model(tokens)
    select = {"first": lambda output: output["last_hidden_state"][:, 0]}
    with Monitor(model, {"first": ""}, rows=40, select=select) as monitor:
        model(tokens)
        monitor.step()
    assert torch.equal(monitor._layers["first"].rows, tokens[:, 0])


def test_rows_of_another_length_are_refused():
    model = Given()
    with Monitor(model, ["layer"]):
        model(normal(16, 4))
        with pytest.raises(ValueError, match="rows of one length; got 5 after 4"):
            model(normal(16, 5))


@pytest.mark.parametrize(
    ("layers", "settings", "error", "said"),
    [
        ("layer", {}, TypeError, "layers must map names"),
        ([], {}, ValueError, "at least one"),
        ({"": "layer"}, {}, ValueError, "not empty"),
        (["encoder"], {}, ValueError, "got 'encoder', and there are layer$"),
        ({"x": 3}, {}, TypeError, "got int for 'x'"),
        (["layer"], {"every": 0}, ValueError, "every must be at least 1"),
        (["layer"], {"rows": 15}, ValueError, "rows must be at least 16"),
        (["layer"], {"first_step": -1}, ValueError, "first_step"),
        (["layer"], {"select": {"other": len}}, ValueError, "got \\['other'\\]"),
        (["layer"], {"select": {"layer": 1}}, TypeError, "functions; got int for 'layer'"),
    ],
)
def test_arguments_are_checked(layers, settings, error, said):
    model = Given()
    with pytest.raises(error, match=said):
        Monitor(model, layers, **settings)
    assert not model.layer._forward_hooks


def test_a_model_is_asked_for():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module; got function"):
        Monitor(lambda x: x, ["layer"])


def test_wrapped_models_are_looked_through(tmp_path):
    model = Given()
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))
    with Monitor(wrapped, ["layer"], rows=16) as monitor:
        assert monitor._model is model
        assert len(model.layer._forward_hooks) == 1
        wrapped.eval()
        model(normal(16, 4))
        assert monitor._layers["layer"].count == 0


def test_compiled_graphs_are_told_of_and_their_rows_handed_over():
    model = Given()
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # no break in the graph
    with Monitor(compiled, {"hidden": "layer", "given": None}, every=3, rows=16) as monitor:
        with pytest.warns(RuntimeWarning, match=r"^hidden: nothing to read in 3 steps") as told:
            for _ in range(9):
                monitor.observe("given", compiled(normal(16, 4)))
                monitor.step()
        assert len(told) == 1
        with pytest.raises(ValueError, match="layer must be one of"):
            monitor.observe("other", normal(16, 4))
        model.eval()
        monitor.observe("given", normal(16, 4))
        assert monitor._layers["given"].count == 0
    assert column(monitor, "layer") == ["given"] * 4
    assert set(column(monitor, "rows")) == {16}


def test_no_verdict_before_the_25th_step():
    monitor = fed([torch.ones(512, 4)] * 60, every=3)
    steps, verdicts = monitor.history["step"], monitor.history["verdict"]
    assert set(verdicts[steps < 25]) == {"too-early"}
    assert set(monitor.history["reading"]) == {"complete"}
    assert not {*verdicts} - {*VERDICTS, "too-early", "unconfirmed"}
    assert monitor.alarms["layer"].step == 27
    late = fed([torch.ones(512, 4)] * 60, every=3, first_step=300)
    assert late.alarms["layer"].step == 327 and late.alarms["layer"].began == 301


def test_a_collapse_that_lasts_is_warned_of_once_with_its_step():
    def batches():
        for step in range(1, 201):
            yield normal(512, 32, step) if step < 60 else spreading(0.02, step)

    with pytest.warns(CollapseWarning) as told:
        monitor = fed(batches(), warn=True)
    assert len(told) == 1
    assert told[0].filename == __file__
    text = str(told[0].message)
    assert text.startswith("layer: complete collapse (since step 75, certain at step 100). The emb")
    assert column(monitor, "verdict") == [
        *("too-early", "healthy", "healthy", "unconfirmed"),
        *["complete"] * 5,
    ]
    alarm = monitor.alarms["layer"]
    assert (alarm.verdict, alarm.began, alarm.step) == ("complete", 75, 100)
    assert alarm.diagnosis.verdict == "complete"


def test_each_layer_is_warned_of_by_itself():
    model = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity(), "c": nn.Identity()})
    with pytest.warns(CollapseWarning) as told, Monitor(model, ["a", "b", "c"]) as monitor:
        for step in range(50):
            model["a"](torch.ones(512, 4))
            model["b"](normal(512, 8, step) @ torch.eye(8)[:, :1] @ torch.ones(1, 8))
            model["c"](normal(512, 8, step))
            monitor.step()
    assert [str(each.message).split(" collapse")[0] for each in told] == [
        *("a: complete", "b: dimensional")
    ]
    assert set(monitor.alarms) == {"a", "b"}


def test_a_dip_is_not_warned_of():
    spreads = [0.9, 0.9, 0.9, 0.02, 0.3, 0.6]
    batches = [spreading(spreads[step // 25], step) for step in range(150)]
    monitor = fed(batches)
    assert "unconfirmed" in column(monitor, "verdict")
    assert not monitor.alarms


def test_a_start_from_a_point_is_not_warned_of_while_it_is_left():
    def batches(stop):
        spread = 0.005
        for step in range(1, 201):
            spread = min(spread * (1.05 if step < stop else 1), 0.9)
            yield spreading(spread)

    assert not fed(batches(200)).alarms
    # And is, when it gets no further: at 25 and 50 it still rises.
    assert fed(batches(40)).alarms["layer"].step == 75


def test_a_fall_that_ends_in_a_point_is_certain_at_once():
    spreads = {25: 0.3, 50: 0.15, 75: 0.08, 100: 0.04}
    monitor = fed([spreading(spreads.get(step, 0.9), step) for step in range(1, 101)])
    assert (monitor.alarms["layer"].began, monitor.alarms["layer"].step) == (100, 100)
    # One reading on the way that did not fall, and it might be a dip.
    spreads[50] = 0.07
    assert not fed([spreading(spreads.get(step, 0.9), step) for step in range(1, 101)]).alarms


def test_nothing_is_certain_of_a_fall_from_the_untrained_network():
    spreads = {1: 0.3, 25: 0.15, 50: 0.04}
    monitor = fed([spreading(spreads.get(step, 0.9), step) for step in range(1, 51)])
    assert column(monitor, "verdict") == ["too-early", "cone", "unconfirmed"]


def test_rows_that_are_not_finite_are_told_of_once():
    bad = normal(512, 4)
    bad[2, 1] = float("nan")
    with pytest.warns(RuntimeWarning, match="1 of 256 rows hold NaN or Inf at step 25") as told:
        monitor = fed([normal(512, 4)] * 24 + [bad] * 40)
    assert len(told) == 1 and told[0].filename == __file__
    assert column(monitor, "verdict") == ["too-early", "not-finite", "not-finite"]
    assert np.isnan(monitor.history["spread"][-1]) and not monitor.alarms
    with pytest.raises(ValueError, match="no finite rows"):
        monitor.diagnosis("layer")


def test_rows_that_are_not_finite_begin_the_count_of_collapsed_readings_anew():
    dead, bad = torch.ones(512, 4) + 1e-4 * normal(512, 4), normal(512, 4)
    bad[2, 1] = float("nan")
    with pytest.warns(RuntimeWarning, match="NaN or Inf"):
        monitor = fed([normal(512, 4)] * 24 + [dead] * 25 + [bad] + [dead] * 50)
    verdicts = column(monitor, "verdict")
    assert verdicts == ["too-early", "unconfirmed", "not-finite", "unconfirmed", "complete"]
    assert monitor.alarms["layer"].began == 75


def test_it_says_what_it_watches_and_what_it_found():
    monitor = fed([normal(512, 4)] * 25)
    assert repr(monitor) == "<Monitor of layer at step 25: no alarm>"
    dead = torch.ones(512, 4) + 1e-4 * normal(512, 4)
    assert repr(fed([dead] * 50)).endswith("at step 50: layer: complete collapse>")
    with pytest.raises(ValueError, match=r"watched by \{.model.: ..\}"):
        Monitor(nn.Linear(2, 2), [""])
    with pytest.raises(ValueError, match="none but the model itself"):
        Monitor(nn.Linear(2, 2), ["encoder"])


def test_history_is_arrays_of_one_length():
    model = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity()})
    with Monitor(model, ["a", "b"]) as monitor:
        assert all(len(values) == 0 for values in monitor.history.values())
        assert monitor.log() == {}
        with pytest.raises(ValueError, match="no finite rows of a reading yet"):
            monitor.diagnosis("a")
        with pytest.raises(ValueError, match="layer must be one of"):
            monitor.diagnosis("c")
        read = []
        for step in range(50):
            model["a"](normal(512, 4, step))
            model["b"](normal(512, 6, step))
            read.append(monitor.step())
    assert [step + 1 for step, was in enumerate(read) if was] == [1, 25, 50]
    history = monitor.history
    assert set(history) == {"step", "layer", "verdict", "reading", "rows", *MEASURES}
    assert all(len(values) == 6 for values in history.values())
    assert history["step"].tolist() == [1, 25, 50] * 2
    assert history["layer"].tolist() == ["a"] * 3 + ["b"] * 3
    assert history["step"].dtype == np.int64 and history["spread"].dtype == np.float64


def test_the_log_is_flat_floats():
    monitor = fed([torch.ones(512, 4)] * 50)
    log = monitor.log()
    assert log["collapse/layer/spread"] == 0.0 and log["collapse/layer/alarm"] == 1.0
    assert set(log) == {f"collapse/layer/{name}" for name in (*MEASURES, "alarm")}
    assert all(type(value) is float for value in log.values())
    assert fed([normal(512, 4)] * 25).log("x")["x/layer/alarm"] == 0.0


def test_single_rows_are_too_few():
    monitor = fed([normal(1, 4)] * 30, every=1)
    assert set(column(monitor, "reading")) == {"not-enough-data"}


def test_it_is_there_when_it_is_asked_for():
    assert repcollapse.Monitor is Monitor and "Monitor" in dir(repcollapse)
    assert issubclass(CollapseWarning, UserWarning)
    assert Monitor is sys.modules["repcollapse.monitor"].Monitor


def test_no_warning_where_none_is_wanted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fed([torch.ones(512, 4)] * 60).alarms
