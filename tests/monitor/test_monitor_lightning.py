"""The callback for Lightning, with a trainer that does what Lightning's does, and with its own."""

import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from repcollapse import CollapseWarning


class Callback:
    """Of Lightning, which needs not be installed."""

    def __init__(self):
        self.made = True


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Identity()
        self.logged = []

    def log_dict(self, values):
        self.logged.append(values)


class Trainer:
    """Calls a callback around batches, with one step of the optimiser every `accumulate`."""

    def __init__(self, callback, *, accumulate=1, global_step=0):
        self.callback, self.accumulate, self.global_step = callback, accumulate, global_step

    def fit(self, module, batches, *, error=None):
        self.callback.on_train_start(self, module)
        for index, batch in enumerate(batches):
            module.encoder(batch)
            self.global_step += (index + 1) % self.accumulate == 0
            self.callback.on_train_batch_end(self, module, None, batch, index)
        if error is not None:
            self.callback.on_exception(self, module, error)
        else:
            self.callback.on_train_end(self, module)


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def adapter(request, monkeypatch):
    """The module, imported anew where one of the two packages is there."""
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    package = types.ModuleType(request.param)
    package.Callback = Callback
    if request.param.startswith("lightning"):
        monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, request.param, package)
    monkeypatch.delitem(sys.modules, "repcollapse.integrations.lightning", raising=False)
    import repcollapse.integrations.lightning as adapter

    yield adapter
    monkeypatch.delitem(sys.modules, "repcollapse.integrations.lightning", raising=False)


def normal(seed):
    return torch.randn(64, 4, generator=torch.Generator().manual_seed(seed))


def test_steps_of_the_optimiser_are_counted_and_readings_logged(adapter):
    watch = adapter.CollapseMonitor(["encoder"], rows=16, every=10)
    assert isinstance(watch, Callback) and watch.made and watch.monitor is None
    module = Module()
    Trainer(watch, accumulate=2, global_step=100).fit(module, map(normal, range(60)))
    assert watch.monitor.history["step"].tolist() == [101, 110, 120, 130]
    assert len(module.logged) == 4
    assert module.logged[-1] == watch.monitor.log()
    assert not module.encoder._forward_hooks


def test_a_collapse_is_warned_of(adapter):
    watch = adapter.CollapseMonitor({"h": "encoder"})
    with pytest.warns(CollapseWarning, match="^h: complete collapse"):
        Trainer(watch).fit(Module(), [torch.ones(512, 4)] * 50)


def test_hooks_are_gone_after_an_error(adapter):
    watch, module = adapter.CollapseMonitor(["encoder"]), Module()
    watch.on_exception(None, module, RuntimeError())  # before the fit has begun
    Trainer(watch).fit(module, [normal(0)], error=RuntimeError())
    assert not module.encoder._forward_hooks


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # torch renames it
def test_lightnings_own_trainer_warns_of_a_collapse(tmp_path, monkeypatch):
    lightning = pytest.importorskip("lightning.pytorch")
    monkeypatch.delitem(sys.modules, "repcollapse.integrations.lightning", raising=False)
    from repcollapse.integrations.lightning import CollapseMonitor

    class Collapsing(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(8, 16)

        def training_step(self, batch, index):
            return (self.encoder(batch) - 1).square().mean()  # a constant is the answer

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    rows = torch.randn(128 * 256, 8, generator=torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(rows, batch_size=256)
    watch = CollapseMonitor({"z": "encoder"})
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[watch],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Collapsing()
    with pytest.warns(CollapseWarning, match="^z: complete collapse"):
        trainer.fit(model, loader)
    assert trainer.global_step == 128
    assert watch.monitor.history["step"].tolist() == [1, 25, 50, 75, 100, 125]
    assert set(watch.monitor.log()) <= set(trainer.logged_metrics)
    assert not model.encoder._forward_hooks


def test_without_lightning_it_says_what_to_do():
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('lightning', 'lightning.pytorch', 'pytorch_lightning'))\n"
        "from repcollapse.integrations.lightning import CollapseMonitor\n"
        "CollapseMonitor(['encoder'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "CollapseMonitor needs Lightning: pip install lightning" in done.stderr
