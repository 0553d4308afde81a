"""Watch layers of a model while it trains, and say once when one of them collapses.

In plain PyTorch, where `model` is any module that has an `encoder` and a `projector`::

    with Monitor(model, {"backbone": "encoder", "projector": "projector"}) as monitor:
        for batch in loader:
            loss = model(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor.step():                      # True where layers have just been read
                wandb.log(monitor.log(), commit=False)

With Hugging Face's trainer, whose models return several tensors, of which `select` takes one::

    class WatchCollapse(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            self.monitor = Monitor(
                model,
                {"sentences": "bert"},
                select={"sentences": lambda output: output.last_hidden_state[:, 0]},
                first_step=state.global_step,
            )

        def on_step_end(self, args, state, control, **kwargs):
            self.monitor.step()

        def on_train_end(self, args, state, control, **kwargs):
            self.monitor.close()

For Lightning there is :class:`repcollapse.integrations.lightning.CollapseMonitor`.
"""

from __future__ import annotations

import math
import warnings
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from repcollapse import _checks
from repcollapse.diagnosis import Diagnosis, decide, diagnose
from repcollapse.diagnosis.brief import read_briefly
from repcollapse.diagnosis.findings import COLLAPSES, COMPLETE, NOT_ENOUGH
from repcollapse.diagnosis.survey import MOST_COLUMNS

__all__ = ["MEASURES", "Alarm", "CollapseWarning", "Monitor"]

# What is kept of every reading, by its name in `Diagnosis.metrics`.
MEASURES = (
    *("spread", "mean_share", "raw_std", "distance", "rankme", "effective_rank"),
    *("participation_ratio", "dimensions_99", "dimensions_999", "points"),
)
# Verdicts of a monitor that a diagnosis does not have.
TOO_EARLY, UNCONFIRMED, NOT_FINITE = "too-early", "unconfirmed", "not-finite"
SILENT = "silent"  # what is told of a layer beside NOT_FINITE
# Steps that a start may take, and that a collapse has to last. Within so many, Adam's mean of
# gradients (0.9) and the running statistics of batch norm (0.1) have forgotten what they began
# with: what is seen at both ends of such a stretch was not one batch, nor what a network was drawn
# with.
START = 25
# Of a reading, and of the numbers in a row: no fewer can tell a collapse to a tenth of them from
# health (ROWS_A_FLOOR times the floor of `diagnosis.decide` are a fifth).
ROWS, OF_DIMENSION = 256, 0.25

Layer = str | nn.Module | None
Select = Callable[[Any], Tensor]


class CollapseWarning(UserWarning):
    """A layer that a :class:`Monitor` watches has collapsed."""


@dataclass(frozen=True)
class Alarm:
    """A collapse that a :class:`Monitor` has warned of.

    Attributes
    ----------
    layer
        Its name.
    verdict
        "complete", "cluster" or "dimensional".
    began
        The step of the first reading of those that all showed a collapse; of a fall, where it
        ended.
    step
        The step at which it was certain, and the warning given.
    diagnosis
        The evidence.
    """

    layer: str
    verdict: str
    began: int
    step: int
    diagnosis: Diagnosis

    def __str__(self) -> str:
        finding = self.diagnosis.findings[0]
        since = f"since step {self.began}, " if self.began < self.step else ""
        return (
            f"{self.layer}: {self.verdict} collapse ({since}certain at step {self.step}). "
            f"{finding.sentence} {finding.advice}"
        )


class _Tap:
    """The hook on a module: it does nothing but when it is open and the model is trained."""

    def __init__(self, layer: _Watched, model: nn.Module) -> None:
        self.layer, self.model = layer, model
        self.open = True

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        # Inside a graph that is compiled there is nothing to be read; asking for this first
        # leaves nothing of the hook in it.
        if torch.compiler.is_compiling() or not self.open:
            return
        # Checkpointed activations are computed again in the backward pass.
        if self.model.training and torch._C._current_graph_task_id() == -1:
            self.layer.take(output)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # A copy of the model, a momentum target say, or a model that is saved as a whole is not
        # watched.
        return _NoTap, ()


class _NoTap:
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        pass


@dataclass(frozen=True)
class _Suspect:
    """A reading that shows a collapse: the number it rests on, and its interval."""

    step: int
    kind: str
    measure: str
    low: float
    high: float


@dataclass
class _Watched:
    """One layer: the rows that are being gathered, and what was read of those before."""

    name: str
    select: Select | None
    capacity: int | None  # None until it is known how long rows are
    lead: int = 1  # steps that gathering takes
    open: bool = True
    count: int = 0
    dimension: int | None = None
    pieces: list[Tensor] = field(default_factory=list)
    steps: int = 0  # in which rows were wanted
    full: bool = False  # since a step before
    rows: Tensor | None = None  # of the last reading
    diagnosis: Diagnosis | None = None  # of these, where somebody asked
    began: int | None = None  # the step of the first of the readings that show a collapse in a row
    suspects: list[_Suspect] = field(default_factory=list)  # the last of these
    spreads: list[tuple[int, float, float]] = field(default_factory=list)  # by step, both ends
    alarm: Alarm | None = None
    told: set[str] = field(default_factory=set)
    numbers: dict[str, array] = field(default_factory=lambda: {m: array("d") for m in MEASURES})
    sizes: array = field(default_factory=lambda: array("q"))
    at: array = field(default_factory=lambda: array("q"))
    verdicts: list[str] = field(default_factory=list)
    readings: list[str] = field(default_factory=list)

    def take(self, output: Any) -> None:
        """Keep rows of an output as far as they are wanted."""
        if self.full_of_rows:
            return
        with torch.no_grad():
            z = rows_of(self.name, output, self.select)
            if self.dimension not in (None, z.shape[1]):
                raise ValueError(
                    f"the layer {self.name!r} must give rows of one length; got {z.shape[1]} after "
                    f"{self.dimension}: watch the modules apart"
                )
            self.dimension = z.shape[1]
            if self.capacity is None:
                self.capacity = max(ROWS, math.ceil(OF_DIMENSION * self.dimension))
            wanted = self.capacity - self.count
            if len(z) > wanted:
                z = z[torch.arange(wanted, device=z.device) * len(z) // wanted]
            self.pieces.append(z.detach().to("cpu", torch.float32, copy=True))
        self.count += len(z)

    @property
    def full_of_rows(self) -> bool:
        """Whether there are as many as are wanted."""
        return self.capacity is not None and self.count >= self.capacity

    def gathered(self) -> Tensor:
        """Return the rows, and begin anew."""
        rows = torch.cat(self.pieces)
        self.pieces, self.count, self.steps, self.full = [], 0, 0, False
        return rows


class Monitor:
    """Read layers of a model every k steps of its training, and warn of a collapse.

    Hooks on the layers keep a bounded number of the rows that go through them in training, copied
    to the CPU in float32, and :meth:`step` diagnoses these as :func:`repcollapse.diagnose` does.
    Between readings a hook does nothing. Neither weights nor random numbers change by it.

    A collapse is warned of when it lasts: two readings, 25 steps or more apart, and all between
    them, show one, and the last is not on its way out of it; or when all readings over twice as
    long fell and ended in a complete collapse. Up and down is what 95 % intervals say. One reading
    is one moment: a batch that is unlike others, or a network that starts from a point and leaves
    it. There is no verdict before the 25th step.

    Parameters
    ----------
    model
        What is trained. Rows are taken while it is in training mode, of a layer in evaluation mode
        as well (a momentum target); those of a validation are not.
    layers
        The layers to watch, by the names that they get: a module of the model, or the path of one
        ("encoder", "encoder.layer4"; "" is the model itself), or None for rows that are handed to
        :meth:`observe`. A sequence of paths names each by itself. A layer that is called several
        times a step is read as one.
    every
        Steps from reading to reading. The first is of the first step.
    rows
        How many rows a reading is made of: by default 256, or a quarter of the numbers in one if
        these are more. Where a batch has fewer, those of several steps up to
        the reading are taken together, of `every` steps at most; where it has more, some from all
        over it.
    select
        By layer, a function of what the module returns to a matrix (N, D). Without one, a module
        has to return such a matrix, or feature maps (N, D, ...) of two or more further axes, over
        which the mean is taken.
    warn
        Issue a :class:`CollapseWarning`, once a layer, by :func:`warnings.warn`. Alarms are kept in
        `alarms` either way.
    first_step
        How many steps were made before, of training that is resumed.

    Attributes
    ----------
    alarms
        What was warned of, by layer.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these, and from the forward pass for a module whose output is not
        rows.

    Notes
    -----
    A model in ``DistributedDataParallel`` or ``torch.compile`` is looked through, and each process
    of several reads its own rows. A hook inside of a compiled graph sees nothing: compile the parts
    (``model.encoder.compile()``) and watch these, or hand over the rows by :meth:`observe`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Monitor(model, {"output": "2"}, every=25, rows=64, warn=False) as monitor:
    ...     for _ in range(100):
    ...         optimizer.zero_grad()
    ...         model(torch.randn(64, 8)).square().mean().backward()  # nothing but shrinks
    ...         optimizer.step()
    ...         _ = monitor.step()
    >>> monitor.history["step"].tolist()
    [1, 25, 50, 75, 100]
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, Layer] | Sequence[str],
        *,
        every: int = 25,
        rows: int | None = None,
        select: Mapping[str, Select] | None = None,
        warn: bool = True,
        first_step: int = 0,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
        self.every = _checks.integer("every", every, at_least=1)
        if rows is not None:
            rows = _checks.integer("rows", rows, at_least=16)
        self._first = _checks.integer("first_step", first_step, at_least=0)
        self._warn = bool(warn)
        model = _inner(model)
        modules = _modules(model, layers)
        chosen = _selects(select, modules)
        self._steps = self._first
        self._layers = {name: _Watched(name, chosen.get(name), rows) for name in modules}
        self._model: nn.Module | None = model
        self._taps: list[_Tap] = []
        self._handles: list[Any] = []
        weakref.finalize(self, _release, self._handles)
        for name, module in modules.items():
            if module is not None:
                tap = _Tap(self._layers[name], model)
                self._taps.append(tap)
                self._handles.append(module.register_forward_hook(tap))

    def observe(self, layer: str, output: Any) -> None:
        """Hand over what a layer returned, of a layer that was given as None.

        Nothing is kept of it but at a reading, nor while the model is in evaluation mode.

        Raises
        ------
        ValueError
            For a name that is not one of `layers`.
        """
        watched = self._layers[_checks.choice("layer", layer, self._layers)]
        if watched.open and self._model is not None and self._model.training:
            watched.take(output)

    def step(self) -> bool:
        """Count a step of the optimiser; return whether layers were read at it.

        Raises
        ------
        RuntimeError
            After :meth:`close`.
        """
        if self._model is None:
            raise RuntimeError("the monitor is closed: its hooks are gone")
        self._steps += 1
        due = self._steps % self.every == 0
        read = False
        for layer in self._layers.values():
            if layer.open:
                read |= self._after(layer, due=due)
            layer.open = self._opens(layer)
        for tap in self._taps:
            tap.open = tap.layer.open
        return read

    def log(self, prefix: str = "collapse") -> dict[str, float]:
        """Return the last reading of every layer, flat: "collapse/projector/spread".

        "collapse/projector/alarm" is 1 from the step on at which a collapse was certain, else 0.
        """
        found: dict[str, float] = {}
        for name, layer in self._layers.items():
            if layer.at:
                found |= {f"{prefix}/{name}/{m}": layer.numbers[m][-1] for m in MEASURES}
                found[f"{prefix}/{name}/alarm"] = float(layer.alarm is not None)
        return found

    @property
    def history(self) -> dict[str, np.ndarray]:
        """All readings as arrays of one length, layer by layer.

        `step`, `layer`; `verdict`, that of :func:`repcollapse.diagnose`, or "too-early",
        "unconfirmed" where a reading shows a collapse that may not last, "not-finite"; `reading`,
        the verdict on these rows alone; `rows`; and the measures, by their names in
        :attr:`Diagnosis.metrics`.
        """
        layers = self._layers.values()
        found: dict[str, np.ndarray] = {
            "step": np.concatenate([np.asarray(layer.at, dtype=np.int64) for layer in layers]),
            "layer": np.array([layer.name for layer in layers for _ in layer.at], dtype=str),
            "verdict": np.array([v for layer in layers for v in layer.verdicts], dtype=str),
            "reading": np.array([r for layer in layers for r in layer.readings], dtype=str),
            "rows": np.concatenate([np.asarray(layer.sizes, dtype=np.int64) for layer in layers]),
        }
        for measure in MEASURES:
            found[measure] = np.concatenate([np.asarray(x.numbers[measure]) for x in layers])
        return found

    @property
    def alarms(self) -> dict[str, Alarm]:
        """What was warned of, by layer."""
        return {name: x.alarm for name, x in self._layers.items() if x.alarm is not None}

    def diagnosis(self, layer: str) -> Diagnosis:
        """Return the whole diagnosis of a layer's last reading.

        Raises
        ------
        ValueError
            For a name that is not one of `layers`, a layer that has not been read yet, and one
            whose last rows were not finite.
        """
        watched = self._layers[_checks.choice("layer", layer, self._layers)]
        if watched.rows is None:
            raise ValueError(f"the layer {layer!r} has no finite rows of a reading yet")
        if watched.diagnosis is None:
            watched.diagnosis = diagnose(watched.rows)
        return watched.diagnosis

    def __repr__(self) -> str:
        """What is watched, up to where, and what was warned of."""
        alarms = [f"{name}: {alarm.verdict} collapse" for name, alarm in self.alarms.items()]
        found = "; ".join(alarms) or "no alarm"
        return f"<Monitor of {', '.join(self._layers)} at step {self._steps}: {found}>"

    def close(self) -> None:
        """Take the hooks off, and let go of the model. What was read stays."""
        _release(self._handles)
        self._taps.clear()
        self._model = None
        for layer in self._layers.values():
            layer.open, layer.pieces, layer.count = False, [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _after(self, layer: _Watched, *, due: bool) -> bool:
        """Do what there is to do for an open layer after a step; return whether it was read."""
        if not layer.full:
            layer.steps += 1
            layer.full = layer.full_of_rows
        if not (due or (layer.full and not layer.at)):
            return False
        if layer.count and layer.capacity is not None:
            # The next time rows begin to be gathered as many steps before the reading as it takes.
            wanted = math.ceil(layer.steps * layer.capacity / layer.count)
            layer.lead = min(wanted, self.every)
            self._read(layer, layer.gathered())
            return True
        if layer.steps >= self.every or not layer.at:
            self._tell(
                layer,
                SILENT,
                f"{layer.name}: nothing to read in {layer.steps} steps up to step {self._steps}. "
                "The layer is not called while the model is in training mode, or only inside of a "
                "compiled graph: see Monitor.observe",
                depth=3,
            )
        layer.lead, layer.steps = self.every, 0
        return False

    def _opens(self, layer: _Watched) -> bool:
        """Whether the coming step's rows are wanted."""
        to_go = -(self._steps + 1) % self.every
        return not layer.at or to_go < layer.lead

    def _read(self, layer: _Watched, rows: Tensor) -> None:
        layer.diagnosis = None
        layer.at.append(self._steps)
        layer.sizes.append(len(rows))
        if not _checks.all_finite(rows):
            bad = int((~torch.isfinite(rows)).any(dim=1).sum())
            layer.rows = None
            self._tell(
                layer,
                NOT_FINITE,
                f"{layer.name}: {bad} of {len(rows)} rows hold NaN or Inf at step {self._steps}",
                depth=4,
            )
            self._forget(layer)
            self._note(layer, {}, NOT_FINITE, NOT_FINITE)
            return
        layer.rows = rows
        if len(rows) < 2:
            self._forget(layer)
            self._note(layer, {}, NOT_ENOUGH, NOT_ENOUGH)
            return
        evidence = read_briefly(rows)
        # Those of twice as long, and one from before.
        old = [spread for spread in layer.spreads if spread[0] <= self._steps - 2 * START]
        del layer.spreads[: max(len(old) - 1, 0)]
        low, high = evidence.intervals.get("spread", (0.0, 1.0))
        layer.spreads.append((self._steps, low, high))
        reading = decide(evidence)[0].kind
        self._note(layer, evidence.metrics, reading, self._verdict(layer, reading))

    def _note(
        self, layer: _Watched, metrics: Mapping[str, float], reading: str, verdict: str
    ) -> None:
        for measure in MEASURES:
            layer.numbers[measure].append(metrics.get(measure, math.nan))
        early = self._steps - self._first < START
        layer.readings.append(reading)
        layer.verdicts.append(TOO_EARLY if early and verdict != NOT_FINITE else verdict)
        if verdict in COLLAPSES and not early and layer.alarm is None:
            self._alarm(layer)

    def _verdict(self, layer: _Watched, reading: str) -> str:
        """Return what the reading means after those before it."""
        if reading in COLLAPSES and layer.alarm is not None:
            return reading
        if reading in COLLAPSES:
            diagnosis = self.diagnosis(layer.name)
            reading = diagnosis.verdict  # close to a limit it may be another: of more pairs
        if reading not in COLLAPSES:
            self._forget(layer)
            return reading
        finding = diagnosis.findings[0]
        interval = diagnosis.intervals.get(finding.measure, (0.0, math.inf))
        layer.suspects.append(_Suspect(self._steps, reading, finding.measure, *interval))
        layer.began = self._steps if layer.began is None else layer.began
        return reading if self._lasts(layer) or self._fell(layer) else UNCONFIRMED

    @staticmethod
    def _forget(layer: _Watched) -> None:
        """Begin anew with readings in a row: this one shows no collapse."""
        layer.began = None
        layer.suspects.clear()

    def _lasts(self, layer: _Watched) -> bool:
        """Whether a collapse was there long enough ago, and is not being left."""
        before = [suspect for suspect in layer.suspects if suspect.step <= self._steps - START]
        if not before:
            return False
        del layer.suspects[: len(before) - 1]
        now, then = layer.suspects[-1], before[-1]
        beyond = now.low > then.high and not math.isclose(now.low, then.high, rel_tol=1e-6)
        return now.measure != then.measure or not beyond

    def _fell(self, layer: _Watched) -> bool:
        """Whether all readings of twice as long led down to a complete collapse."""
        if layer.suspects[-1].kind != COMPLETE:
            return False
        whole = [s for s in layer.spreads if s[0] - self._first >= START]
        if not whole or whole[0][0] > self._steps - 2 * START:
            return False
        return all(now[2] < then[1] for then, now in pairwise(whole))

    def _alarm(self, layer: _Watched) -> None:
        assert layer.began is not None
        diagnosis = self.diagnosis(layer.name)
        layer.alarm = Alarm(layer.name, diagnosis.verdict, layer.began, self._steps, diagnosis)
        layer.suspects.clear()
        if self._warn:
            warnings.warn(str(layer.alarm), CollapseWarning, stacklevel=6)

    def _tell(self, layer: _Watched, what: str, message: str, *, depth: int) -> None:
        """Warn once; `depth` calls below whoever called :meth:`step`."""
        if what not in layer.told:
            layer.told.add(what)
            warnings.warn(message, RuntimeWarning, stacklevel=depth + 1)


def rows_of(name: str, output: Any, select: Select | None = None) -> Tensor:
    """Return what a module returned as a matrix (N, D) of rows.

    Raises
    ------
    TypeError, ValueError
        For anything but a floating (N, D) matrix or feature maps (N, D, ...), over whose two or
        more further axes the mean is taken.
    """
    output = output if select is None else select(output)
    way = f"give select={{{name!r}: a function of the output that returns a matrix (N, D)}}"
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the layer {name!r} must return one tensor; got {_described(output)}: {way}"
        )
    if not output.is_floating_point():
        raise TypeError(f"the layer {name!r} must return floats; got {output.dtype}: {way}")
    if output.ndim >= 4:
        output = output.flatten(2).mean(dim=2, dtype=torch.float32)
    if output.ndim != 2 or not 1 <= output.shape[1] <= MOST_COLUMNS:
        raise ValueError(
            f"the layer {name!r} must return rows (N, D) of 1 to {MOST_COLUMNS} numbers, or "
            f"feature maps (N, D, H, W); got {_described(output)}: {way}"
        )
    return output


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        inside = ", ".join(f"{key}: {_described(value)}" for key, value in output.items())
    elif isinstance(output, tuple | list):
        inside = ", ".join(_described(value) for value in output)
    else:
        return f"a {type(output).__name__}"
    return f"a {type(output).__name__} ({inside})"


def _modules(
    model: nn.Module, layers: Mapping[str, Layer] | Sequence[str]
) -> dict[str, nn.Module | None]:
    """Return the modules to watch by name."""
    if isinstance(layers, Sequence) and not isinstance(layers, str):
        layers = {name: name for name in layers}
    if not isinstance(layers, Mapping):
        raise TypeError(
            "layers must map names to modules of the model or to their paths; "
            f"got {type(layers).__name__}"
        )
    if not layers:
        raise ValueError("layers must name at least one layer; got none")
    found: dict[str, nn.Module | None] = {}
    for name, layer in layers.items():
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"layers must have names that are not empty; got {name!r} (the model itself is "
                'watched by {"model": ""})'
            )
        if isinstance(layer, str):
            try:
                found[name] = model.get_submodule(layer)
            except AttributeError as error:
                paths = [path for path, _ in model.named_modules() if path]
                there = ", ".join(paths[:20]) or 'none but the model itself, ""'
                raise ValueError(
                    f"layers must be modules of the model; got {layer!r}, and there are "
                    f"{there}{', ...' if len(paths) > 20 else ''}"
                ) from error
        elif layer is None or isinstance(layer, nn.Module):
            found[name] = layer
        else:
            raise TypeError(
                f"layers must be modules, their paths or None; got {type(layer).__name__} for "
                f"{name!r}"
            )
    return found


def _selects(
    select: Mapping[str, Select] | None, modules: Mapping[str, nn.Module | None]
) -> dict[str, Select]:
    """Return the functions by layer."""
    chosen = dict(select or {})
    if strangers := sorted(set(chosen) - set(modules)):
        raise ValueError(f"select must name some of the layers {list(modules)}; got {strangers}")
    for name, function in chosen.items():
        if not callable(function):
            raise TypeError(
                f"select must hold functions; got {type(function).__name__} for {name!r}"
            )
    return chosen


def _inner(model: nn.Module) -> nn.Module:
    """Return the model inside of what spreads it over devices or compiles it."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _release(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
