"""The monitor as a callback of Lightning.

::

    from repcollapse.integrations.lightning import CollapseMonitor

    watch = CollapseMonitor({"backbone": "encoder", "projector": "projector"})
    Trainer(callbacks=[watch]).fit(module, loader)
    watch.monitor.history

Needs ``lightning`` or ``pytorch_lightning``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from repcollapse.monitor import Layer, Monitor

# A trainer of one of the two wants a callback of the same.
PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _base() -> type | None:
    """Return Lightning's callback, of the package that is in use already, if there is one."""
    for name in sorted(PACKAGES, key=lambda name: name not in sys.modules):
        try:
            return import_module(name).Callback
        except ModuleNotFoundError:
            continue
    return None


if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = _base() or object


class CollapseMonitor(_Callback):
    """Watch layers of a LightningModule, log their readings, and warn of a collapse.

    Parameters
    ----------
    layers, settings
        As for :class:`repcollapse.Monitor`, whose `model` is the module that is fitted and whose
        `first_step` is the trainer's.

    Attributes
    ----------
    monitor
        The monitor of the last fit, None before the first.

    Raises
    ------
    ModuleNotFoundError
        Without Lightning.
    """

    def __init__(self, layers: Mapping[str, Layer] | Sequence[str], **settings: Any) -> None:
        if _Callback is object:
            raise ModuleNotFoundError(
                "CollapseMonitor needs Lightning: pip install lightning, or use repcollapse.Monitor"
            )
        super().__init__()
        self.layers, self.settings = layers, settings
        self.monitor: Monitor | None = None
        self._seen = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch."""
        self._seen = trainer.global_step
        self.monitor = Monitor(pl_module, self.layers, first_step=self._seen, **self.settings)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, if the optimiser made a step after it, and log what was read."""
        if self.monitor is None or trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        if self.monitor.step():
            pl_module.log_dict(self.monitor.log())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the hooks off."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Take the hooks off."""
        self._close()

    def _close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
