"""The one training loop that all joint-embedding chapters share.

A :class:`Recipe` says what is trained, :func:`train` trains it on one seed, :func:`compare` trains
several recipes over several seeds on the same data and collects their instruments. Seeds run in
turn: batching them gained a quarter at most, too little for what it would cost in plain code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from repcollapse import _checks, diagnostics
from repcollapse.data import Dataset, stream
from repcollapse.networks import (
    ENCODERS,
    NORMS,
    JointEmbedding,
    Model,
    Objective,
    Pretext,
    calibrate_batch_norm,
    check_target,
    encoder,
    mlp,
)
from repcollapse.objectives import PretextTask
from repcollapse.views import ViewBank, banks

if TYPE_CHECKING:
    import pandas as pd  # slow to import, and only the tables need it

PROJECTORS = ("mlp", "linear", "none")
PREDICTORS = ("none", "mlp", "linear", "frozen")
# What a recipe says of the comparison of two views, and of nothing else.
_OF_PAIRS = (
    *("head_norm", "output_norm", "projector", "dimension"),
    *("predictor", "predictor_lr", "stop_gradient", "momentum"),
)
PROBE_VIEWS = 2
PROBES = (
    "linear_probe_h",
    "linear_probe_z",
    "resolution_probe_h",
    "resolution_probe_z",
    "knn_z",
)


@dataclass(frozen=True)
class Recipe:
    """Everything about a joint embedding but its data and its seed.

    Parameters
    ----------
    objective
        A function of two (N, D) matrices that returns a scalar to minimise; for objectives with
        state a class, or a partial of one, called with the dimension for every run anew
        (``SwAV``, ``partial(MoCo, queue=512)``); or a class of pretext tasks, called with the
        width of h and the shape of the images.
    encoder
        "mlp", "conv" or "resnet18".
    norm, head_norm
        Normalisation of hidden layers: "batch", "layer" or "none". `head_norm` is that of projector
        and predictor, by default the same.
    output_norm
        Batch-normalise the embeddings, without learned scale and shift.
    projector
        "mlp" (one hidden layer of 128), "linear" or "none".
    width, dimension
        Width of the representation h and of the embedding z.
    predictor
        "none", "mlp" (one hidden layer of 64), "linear", or "frozen": the "mlp" as it was drawn,
        never trained.
    stop_gradient, momentum
        As in :class:`repcollapse.networks.JointEmbedding`.
    batch_size, lr, weight_decay
        Pairs a step, and Adam's settings; the rate follows a cosine to zero.
    predictor_lr
        The predictor's rate, as a multiple of `lr`.

    Raises
    ------
    TypeError, ValueError
        For anything but these, and for settings other than the defaults that would change nothing,
        as another `predictor_lr` without a predictor that learns.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from repcollapse.objectives import invariance, nt_xent
    >>> collapsing = Recipe(invariance)
    >>> mended = replace(collapsing, objective=nt_xent)
    """

    objective: Objective | Callable[..., nn.Module]
    encoder: str = "mlp"
    norm: str = "batch"
    head_norm: str | None = None
    output_norm: bool = False
    projector: str = "mlp"
    width: int = 64
    dimension: int = 64
    predictor: str = "none"
    stop_gradient: bool | None = None
    momentum: float | None = None
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 1e-5
    predictor_lr: float = 1.0

    def __post_init__(self) -> None:
        if not callable(self.objective):
            raise TypeError(
                "objective must be a function of two matrices of embeddings, or a class of "
                f"objectives; got {type(self.objective).__name__}"
            )
        if isinstance(self.objective, nn.Module):
            raise TypeError(
                "objective must be a class, from which every run makes its own; "
                f"got a {type(self.objective).__name__}, which the runs would share"
            )
        _checks.choice("encoder", self.encoder, ENCODERS)
        _checks.choice("norm", self.norm, NORMS)
        if self.head_norm is not None:
            _checks.choice("head_norm", self.head_norm, NORMS)
        _checks.choice("projector", self.projector, PROJECTORS)
        _checks.choice("predictor", self.predictor, PREDICTORS)
        _checks.integer("width", self.width, at_least=1)
        _checks.integer("dimension", self.dimension, at_least=1)
        _checks.integer("batch_size", self.batch_size, at_least=2)
        _checks.number("lr", self.lr, above=0)
        _checks.number("weight_decay", self.weight_decay, at_least=0)
        _checks.number("predictor_lr", self.predictor_lr, above=0)
        check_target(self.objective, self.stop_gradient, self.momentum)
        without_effect = self._without_effect()
        for setting in fields(self):
            given = getattr(self, setting.name)
            if setting.name in without_effect and given != setting.default:
                raise ValueError(
                    f"{setting.name} must be left at {setting.default!r} with "
                    f"{without_effect[setting.name]}; got {given!r}"
                )

    def _without_effect(self) -> dict[str, str]:
        """Return the settings that would change nothing, each with the reason."""
        idle = {}
        if self.predictor in ("none", "frozen"):
            idle["predictor_lr"] = f"the predictor {self.predictor!r}, which does not learn"
        if self.projector != "mlp" and self.predictor in ("none", "linear"):
            idle["head_norm"] = "a projector and a predictor that have no hidden layer"
        if self.projector == "none":
            idle |= dict.fromkeys(("dimension", "output_norm"), "the projector 'none'")
        if self.encoder == "resnet18":
            idle |= dict.fromkeys(("norm", "width"), "the encoder 'resnet18', which has its own")
        if self.pretext:
            why = "a pretext task, which needs neither projector nor target"
            idle |= dict.fromkeys(_OF_PAIRS, why)
        return idle

    @property
    def pretext(self) -> bool:
        """Whether the objective is a pretext task, which needs neither projector nor pairs."""
        made = _class_of(self.objective)
        return made is not None and issubclass(made, PretextTask)

    def build(self, shape: tuple[int, int, int]) -> Model:
        """Return a freshly initialised model for images of `shape` (C, H, W)."""
        body, width = encoder(self.encoder, shape, width=self.width, norm=self.norm)
        if self.pretext:
            return Pretext(body, self.objective(width, shape))  # type: ignore[arg-type]
        head, dimension = self._projector(width)
        predictor = self._predictor(dimension)
        objective = self.objective
        if _class_of(objective) is not None:
            objective = objective(dimension)  # type: ignore[call-arg, arg-type, assignment]
        return JointEmbedding(
            body,
            head,
            objective,  # type: ignore[arg-type]
            predictor=predictor,
            stop_gradient=self.stop_gradient,
            momentum=self.momentum,
        )

    def optimizer(self, model: Model) -> torch.optim.Optimizer:
        """Return Adam over the weights of `model` that learn."""
        learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        ahead = [p for name, p in learning if name.startswith("predictor.")]
        rest = [p for name, p in learning if not name.startswith("predictor.")]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if ahead:
            groups.append({"params": ahead, "lr": self.lr * self.predictor_lr})
        return torch.optim.Adam(groups, lr=self.lr, weight_decay=self.weight_decay, fused=True)

    def _projector(self, width: int) -> tuple[nn.Module, int]:
        if self.projector == "none":
            return nn.Identity(), width
        widths = (
            [width, 128, self.dimension] if self.projector == "mlp" else [width, self.dimension]
        )
        norm = self.head_norm or self.norm
        return mlp(widths, norm=norm, output_norm=self.output_norm), self.dimension

    def _predictor(self, dimension: int) -> nn.Module | None:
        if self.predictor == "none":
            return None
        widths = (
            [dimension, dimension] if self.predictor == "linear" else [dimension, 64, dimension]
        )
        made = mlp(widths, norm=self.head_norm or self.norm)
        return made.requires_grad_(False) if self.predictor == "frozen" else made


def _class_of(objective: object) -> type | None:
    """Return the class that `objective` is, or is a partial of; None for a function."""
    made = objective.func if isinstance(objective, partial) else objective
    return made if isinstance(made, type) else None


@dataclass
class Run:
    """One recipe trained on one seed.

    `history` has a row for each step at which the instruments were read: `step`, `loss` (of the
    step before) and the instruments of the embeddings z, taken on test views in evaluation mode.
    `losses` holds the training loss of every step. `embeddings` holds z of the first test view at
    the steps asked for.
    """

    model: Model
    history: pd.DataFrame
    losses: np.ndarray
    embeddings: dict[int, Tensor]
    seconds: float


def pick_device(device: str = "auto") -> torch.device:
    """Return the device called `device`; "auto" is the GPU where there is one.

    Raises
    ------
    ValueError
        For a device that torch does not know or that is not there.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be 'auto' or a torch device of this machine; got {device!r}"
        ) from error
    return chosen


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which the instruments are read, close together where things happen.

    Examples
    --------
    >>> checkpoints(400)
    [0, 5, 10, 20, 50, 100, 200, 400]
    >>> checkpoints(30)
    [0, 5, 10, 20, 30]
    """
    grid = [0] + [scale * 10**power for power in range(7) for scale in (1, 2, 5)]
    return [step for step in grid if step < steps and step not in (1, 2)] + [steps]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Lend torch's global generators, seeded with `seed`, and put them back as they were.

    Those of the CPU and of `device`: whatever draws without a generator of its own draws from one
    of the two.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all GPUs
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def seeded_step(seed: int, step: int, device: torch.device) -> AbstractContextManager[None]:
    """Lend the generators for a step: what an objective draws is counted, and carries no state."""
    return seeded(stream(seed, f"objective of step {step}").initial_seed(), device)


def train(
    recipe: Recipe,
    train_bank: ViewBank,
    test_bank: ViewBank,
    *,
    steps: int = 400,
    seed: int = 0,
    device: str = "auto",
    keep: Iterable[int] = (),
    progress: tqdm | None = None,
) -> Run:
    """Train `recipe` and read the instruments on the way.

    Parameters
    ----------
    recipe
        What to train.
    train_bank, test_bank
        Pre-rendered views; only the first is trained on.
    steps
        Optimiser steps, >= 0; with 0 the model stays untrained.
    seed
        Governs initialisation, the order of batches and views, and what an objective draws.
    device
        "auto" or a torch device.
    keep
        Steps at which the test embeddings are kept; the instruments are read there, too.
    progress
        A bar to advance by one a step; by default a bar of its own is shown.

    Returns
    -------
    Run

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    FloatingPointError
        If the loss is no longer finite.
    """
    import pandas as pd

    steps = _checks.integer("steps", steps, at_least=0)
    seed = _checks.integer("seed", seed, at_least=0)
    chosen = pick_device(device)
    train_bank, test_bank = train_bank.to(chosen), test_bank.to(chosen)
    keep = set(keep)
    if beyond := sorted(step for step in keep if not 0 <= step <= steps):
        raise ValueError(f"keep must name steps from 0 to {steps}; got {beyond}")
    read_at = sorted({*checkpoints(steps), *keep})
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed, chosen):
        model = recipe.build(train_bank.shape).to(chosen)
        calibrate(model, train_bank)
    optimizer = recipe.optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    losses: list[float] = []
    rows: list[dict[str, float]] = []
    embeddings: dict[int, Tensor] = {}
    bar = progress if progress is not None else tqdm(total=steps, unit="step")
    started = time.perf_counter()
    for step in range(steps + 1):
        if step in read_at:
            z = embed_views(model, test_bank)[1]
            rows.append(
                {"step": step, "loss": losses[-1] if losses else np.nan}
                | diagnostics.instruments(z)
            )
            if step in keep:
                embeddings[step] = z[0].cpu()
        if step < steps:
            with seeded_step(seed, step, chosen):
                losses.append(_step(model, optimizer, train_bank, recipe.batch_size, generator))
            schedule.step()
            bar.update()
    seconds = time.perf_counter() - started
    if progress is None:
        bar.close()
    return Run(model, pd.DataFrame(rows), np.asarray(losses), embeddings, seconds)


def _step(
    model: Model,
    optimizer: torch.optim.Optimizer,
    bank: ViewBank,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    if not model.training:  # walking through all modules at every step costs more than asking
        model.train()
    loss = model(*bank.sample_pair(batch_size, generator))
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is no longer finite: {value}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    model.after_step()
    return value


def calibrate(model: Model, bank: ViewBank, batches: int = 8) -> None:
    """Set the running statistics of a new model's batch norms from `batches` of the bank's pairs.

    As :func:`repcollapse.networks.calibrate_batch_norm`, always with the same pairs.
    """
    generator = torch.Generator().manual_seed(0)
    size = min(256, len(bank))
    calibrate_batch_norm(model, (bank.sample_pair(size, generator) for _ in range(batches)))


@torch.no_grad()
def embed_views(model: Model, bank: ViewBank, views: int | None = None) -> tuple[Tensor, Tensor]:
    """Return h and z of the bank's first `views` views in evaluation mode, each (V, N, D).

    The views are taken to where the model is, a view at a time, and h and z stay there.

    Raises
    ------
    TypeError, ValueError
        For views other than from 1 to as many as the bank has (all of them by default).
    """
    if views is not None:
        _checks.integer("views", views, at_least=1, at_most=bank.n_views)
    model.eval()
    device = next(model.parameters()).device
    pairs = [model.embed(view.to(device)) for view in bank.views[:, :views].unbind(dim=1)]
    h, z = zip(*pairs, strict=True)
    return torch.stack(h), torch.stack(z)


@dataclass
class Comparison:
    """Several recipes over several seeds on the same data.

    `history` is tidy: a row for each arm, seed and reading. `final` has a row for each arm and
    seed: the last reading, and the probes of h and z. `baselines` has a row for each seed: the
    share of the largest class, and the probes of the raw pixels and of the first arm untrained.
    `runs` holds every :class:`Run` by (arm, seed), `test_banks` the test views by seed.
    """

    history: pd.DataFrame
    final: pd.DataFrame
    baselines: pd.DataFrame
    runs: dict[tuple[str, int], Run] = field(repr=False)
    test_banks: dict[int, ViewBank] = field(repr=False)

    @property
    def arms(self) -> list[str]:
        """The arms in the order given."""
        return list(dict.fromkeys(self.final["arm"]))

    @property
    def seeds(self) -> list[int]:
        """The seeds in the order trained."""
        return list(dict.fromkeys(self.final["seed"]))

    def values(self, arm: str, column: str) -> dict[int, float]:
        """Return the final `column` of `arm` by seed.

        Raises
        ------
        ValueError
            For an arm or a column that is not there.
        """
        _checks.choice("arm", arm, self.arms)
        _checks.choice("column", column, list(self.final.columns))
        rows = self.final[self.final["arm"] == arm]
        return dict(zip(rows["seed"], rows[column].astype(float), strict=True))

    def embed(self, arm: str, views: int = 2) -> list[Tensor]:
        """Return z of the first test `views` of `arm`, shape (views, N, D), for each seed.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        _checks.choice("arm", arm, self.arms)
        return [
            embed_views(self.runs[arm, seed].model, self.test_banks[seed], views)[1]
            for seed in self.seeds
        ]

    def labels(self) -> list[Tensor]:
        """Return the classes of the test samples, shape (N,), for each seed."""
        return [self.test_banks[seed].labels for seed in self.seeds]


def compare(
    arms: Mapping[str, Recipe],
    *,
    dataset: str | Dataset = "digits",
    seeds: int = 5,
    first_seed: int = 0,
    steps: int | Mapping[str, int] = 400,
    device: str = "auto",
    keep: Iterable[int] = (),
    prepare: Mapping[str, Callable[[ViewBank], ViewBank]] | None = None,
    validation: bool = False,
    test_views: int | None = None,
    probes: Collection[str] | Mapping[str, Collection[str]] = PROBES,
) -> Comparison:
    """Train every arm on every seed; a seed governs split, views, initialisation and order.

    Parameters
    ----------
    arms
        Recipes by name.
    dataset
        A name for :func:`repcollapse.data.load`, or a data set (then the split is the same for
        every seed).
    seeds, first_seed
        How many seeds, and the first.
    steps
        Optimiser steps, for all arms or by arm.
    device
        "auto" or a torch device.
    keep
        Steps at which test embeddings are kept, of the arms that reach them.
    prepare
        By arm, what becomes of the views, both of training and of testing, before the arm sees
        them; arms that are not named see the views as they are.
    validation
        Leave the test samples alone: train on four fifths of the training samples and judge on the
        rest, for choosing among settings.
    test_views
        Read so many views of each unseen image, at least 2, in place of all that there are: 8, or
        16 with `validation`. They are the first of these. No reading changes but the intraclass
        correlation, the only one that takes more than two; with two, readings take half the time.
        `test_banks` has all views in any case.
    probes
        Which of `PROBES` to take, of all arms or by arm; arms that are not named are not probed.
        `baselines` has each that is taken of any arm, of the untrained network, and the linear and
        the resolution probe of the pixels where one of their kind is among them; with no probes it
        has the chance level only.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    """
    _require_recipes(arms)
    seeds = _checks.integer("seeds", seeds, at_least=1)
    first_seed = _checks.integer("first_seed", first_seed, at_least=0)
    steps_of = _steps_of(arms, steps)
    prepare = dict(prepare or {})
    if strangers := sorted(set(prepare) - set(arms)):
        raise ValueError(f"prepare must name some of the arms {list(arms)}; got {strangers}")
    if test_views is not None:
        _checks.integer("test_views", test_views, at_least=2)
    probes_of = _probes_of(arms, probes)
    names = [name for name in PROBES if any(name in taken for taken in probes_of.values())]
    keep = tuple(keep)
    first = next(iter(arms.values()))
    runs: dict[tuple[str, int], Run] = {}
    scores: dict[tuple[str, int], dict[str, float]] = {}
    baselines: list[dict[str, float]] = []
    test_banks: dict[int, ViewBank] = {}
    with tqdm(total=seeds * sum(steps_of.values()), unit="step", smoothing=0.05) as bar:
        for seed in range(first_seed, first_seed + seeds):
            train_bank, test_bank = banks(dataset, seed=seed)
            if validation:
                train_bank, test_bank = _held_out(train_bank, seed)
            test_banks[seed] = test_bank
            if test_views is not None:
                test_bank = test_bank.first(test_views)
            row = _baselines(first, train_bank, test_bank, seed=seed, device=device, names=names)
            baselines.append(row)
            for arm, recipe in arms.items():
                bar.set_description(f"{arm}, seed {seed}")
                prepared = prepare.get(arm, _as_it_is)
                seen = prepared(train_bank), prepared(test_bank)
                runs[arm, seed] = train(
                    recipe,
                    *seen,
                    steps=steps_of[arm],
                    seed=seed,
                    device=device,
                    keep=[step for step in keep if step <= steps_of[arm]],
                    progress=bar,
                )
                taken = probes_of[arm]
                scores[arm, seed] = probe(runs[arm, seed].model, *seen, taken) if taken else {}
    return _collected(runs, scores, baselines, test_banks)


def _require_recipes(arms: object) -> None:
    if not isinstance(arms, Mapping) or not all(isinstance(r, Recipe) for r in arms.values()):
        raise TypeError("arms must map names to recipes")
    if not arms:
        raise ValueError("arms must name at least one recipe; got none")


def _steps_of(arms: Mapping[str, Recipe], steps: int | Mapping[str, int]) -> dict[str, int]:
    """Return the steps of every arm."""
    steps_of = dict(steps) if isinstance(steps, Mapping) else dict.fromkeys(arms, steps)
    if set(steps_of) != set(arms):
        raise ValueError(f"steps must name exactly the arms {list(arms)}; got {list(steps_of)}")
    return {arm: _checks.integer("steps", given, at_least=0) for arm, given in steps_of.items()}


def _probes_of(
    arms: Mapping[str, Recipe], probes: Collection[str] | Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    """Return the probes of every arm."""
    given = probes if isinstance(probes, Mapping) else dict.fromkeys(arms, probes)
    if strangers := sorted(set(given) - set(arms)):
        raise ValueError(f"probes must name some of the arms {list(arms)}; got {strangers}")
    return {
        arm: [_checks.choice("probes", name, PROBES) for name in given.get(arm, ()) or ()]
        for arm in arms
    }


def _collected(
    runs: dict[tuple[str, int], Run],
    scores: dict[tuple[str, int], dict[str, float]],
    baselines: list[dict[str, float]],
    test_banks: dict[int, ViewBank],
) -> Comparison:
    """Return the runs with their tables."""
    import pandas as pd

    history, final = [], []
    for (arm, seed), run in runs.items():
        history.append(run.history.assign(arm=arm, seed=seed))
        last = run.history.iloc[-1].to_dict()
        final.append({"arm": arm, "seed": seed} | last | scores[arm, seed])
    return Comparison(
        pd.concat(history, ignore_index=True),
        pd.DataFrame(final),
        pd.DataFrame(baselines),
        runs,
        test_banks,
    )


def _as_it_is(bank: ViewBank) -> ViewBank:
    return bank


def _held_out(bank: ViewBank, seed: int) -> tuple[ViewBank, ViewBank]:
    """Return four fifths of the samples to train on, and the rest to judge on."""
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(seed))
    cut = len(bank) * 4 // 5
    return bank.select(order[:cut]), bank.select(order[cut:])


def probe(
    model: Model, train_bank: ViewBank, test_bank: ViewBank, names: Collection[str] = PROBES
) -> dict[str, float]:
    """Probe h and z: fitted on two views of every training sample, scored on one test view.

    Parameters
    ----------
    model
        What was trained.
    train_bank, test_bank
        Views with labels.
    names
        Which of `PROBES`, named after the functions of :mod:`repcollapse.diagnostics` and what they
        are given.

    Returns
    -------
    dict
        Accuracies by name.

    Raises
    ------
    ValueError
        For a name that is not one of `PROBES`.
    """
    fitted_on = embed_views(model, train_bank, PROBE_VIEWS)
    scored_on = embed_views(model, test_bank, 1)
    return probe_embeddings(fitted_on, train_bank.labels, scored_on, test_bank.labels, names)


def probe_embeddings(
    fitted_on: tuple[Tensor, Tensor],
    train_labels: Tensor,
    scored_on: tuple[Tensor, Tensor],
    test_labels: Tensor,
    names: Collection[str] = PROBES,
) -> dict[str, float]:
    """Probe embeddings that are there already: :func:`probe` without a model.

    Parameters
    ----------
    fitted_on, scored_on
        h and z of training and of test samples, each (V, N, D). All views of the former are fitted
        on; the first of the latter is scored.
    train_labels, test_labels
        Classes of the samples, shape (N,).
    names
        As in :func:`probe`.

    Returns
    -------
    dict
        Accuracies by name.

    Raises
    ------
    ValueError
        For a name that is not one of `PROBES`.
    """
    of = {
        "linear_probe": diagnostics.linear_probe,
        "resolution_probe": diagnostics.resolution_probe,
        "knn": diagnostics.knn_accuracy,
    }
    scores = {}
    for name in names:
        measure, _, part = _checks.choice("names", name, PROBES).rpartition("_")
        views, test_views = (side["hz".index(part)] for side in (fitted_on, scored_on))
        labels = train_labels.repeat(len(views))
        scores[name] = of[measure](views.flatten(0, 1), labels, test_views[0], test_labels)
    return scores


def chance(train_labels: Tensor, test_labels: Tensor) -> float:
    """Return how often the class that is most frequent in training is right in testing.

    Examples
    --------
    >>> chance(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1, 1]))
    0.75
    """
    return float((test_labels == torch.bincount(train_labels).argmax()).double().mean())


def _baselines(
    recipe: Recipe,
    train_bank: ViewBank,
    test_bank: ViewBank,
    *,
    seed: int,
    device: str,
    names: Collection[str],
) -> dict[str, float]:
    """Return what to compare a seed's probes with: chance, and probes of the same kinds."""
    row = {"seed": seed, "chance": chance(train_bank.labels, test_bank.labels)}
    if not names:
        return row
    quiet = tqdm(total=0, disable=True)
    untrained = train(
        recipe, train_bank, test_bank, steps=0, seed=seed, device=device, progress=quiet
    )
    probes = probe(untrained.model, train_bank, test_bank, names)
    pixels = (
        train_bank.views[:, :PROBE_VIEWS].transpose(0, 1).flatten(0, 1).flatten(1),
        train_bank.labels.repeat(PROBE_VIEWS),
        test_bank.views[:, 0].flatten(1),
        test_bank.labels,
    )
    kinds = {name.rpartition("_")[0] for name in names}
    if "linear_probe" in kinds:
        row["pixels"] = diagnostics.linear_probe(*pixels)
    if "resolution_probe" in kinds:
        row["pixels_resolution"] = diagnostics.resolution_probe(*pixels)
    return row | {f"untrained_{name}": value for name, value in probes.items()}
