"""The one training loop that all joint-embedding chapters share.

A :class:`Recipe` says what is trained, :func:`train` trains it on one seed, :func:`compare` trains
several recipes over several seeds on the same data and collects their instruments. Seeds run in
turn: batching them gained a quarter at most, too little for what it would cost in plain code.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from repcollapse import _checks, diagnostics
from repcollapse.data import Dataset
from repcollapse.networks import ENCODERS, NORMS, JointEmbedding, Objective, encoder, mlp
from repcollapse.views import ViewBank, banks

PROJECTORS = ("mlp", "linear", "none")
PROBE_VIEWS = 2


@dataclass(frozen=True)
class Recipe:
    """Everything about a joint embedding but its data and its seed.

    Parameters
    ----------
    objective
        A function of two (N, D) matrices that returns a scalar to minimise.
    encoder
        "mlp", "conv" or "resnet18".
    norm
        Normalisation of hidden layers: "batch", "layer" or "none".
    output_norm
        Batch-normalise the embeddings, without learned scale and shift.
    projector
        "mlp" (one hidden layer of 128), "linear" or "none".
    width, dimension
        Width of the representation h and of the embedding z.
    predictor
        Add a predictor with one hidden layer of 64.
    stop_gradient, momentum
        As in :class:`repcollapse.networks.JointEmbedding`.
    batch_size, lr, weight_decay
        Pairs a step, and Adam's settings; the rate follows a cosine to zero.

    Raises
    ------
    TypeError, ValueError
        For anything but these.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from repcollapse.objectives import invariance, nt_xent
    >>> collapsing = Recipe(invariance)
    >>> mended = replace(collapsing, objective=nt_xent)
    """

    objective: Objective
    encoder: str = "mlp"
    norm: str = "batch"
    output_norm: bool = False
    projector: str = "mlp"
    width: int = 64
    dimension: int = 64
    predictor: bool = False
    stop_gradient: bool = False
    momentum: float | None = None
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        if not callable(self.objective):
            raise TypeError(
                "objective must be a function of two matrices of embeddings; "
                f"got {type(self.objective).__name__}"
            )
        _checks.choice("encoder", self.encoder, ENCODERS)
        _checks.choice("norm", self.norm, NORMS)
        _checks.choice("projector", self.projector, PROJECTORS)
        _checks.integer("width", self.width, at_least=1)
        _checks.integer("dimension", self.dimension, at_least=1)
        _checks.integer("batch_size", self.batch_size, at_least=2)
        _checks.number("lr", self.lr, above=0)
        _checks.number("weight_decay", self.weight_decay, at_least=0)
        if self.momentum is not None:
            _checks.number("momentum", self.momentum, at_least=0, at_most=1)

    def build(self, shape: tuple[int, int, int]) -> JointEmbedding:
        """Return a freshly initialised model for images of `shape` (C, H, W)."""
        body, width = encoder(self.encoder, shape, width=self.width, norm=self.norm)
        head, dimension = self._projector(width)
        predictor = mlp([dimension, 64, dimension], norm=self.norm) if self.predictor else None
        return JointEmbedding(
            body,
            head,
            self.objective,
            predictor=predictor,
            stop_gradient=self.stop_gradient,
            momentum=self.momentum,
        )

    def _projector(self, width: int) -> tuple[nn.Module, int]:
        if self.projector == "none":
            return nn.Identity(), width
        widths = (
            [width, 128, self.dimension] if self.projector == "mlp" else [width, self.dimension]
        )
        return mlp(widths, norm=self.norm, output_norm=self.output_norm), self.dimension


@dataclass
class Run:
    """One recipe trained on one seed.

    `history` has a row for each step at which the instruments were read: `step`, `loss` (of the
    step before) and the instruments of the embeddings z, taken on test views in evaluation mode.
    `losses` holds the training loss of every step. `embeddings` holds z of the first test view at
    the steps asked for.
    """

    model: JointEmbedding
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
        Governs initialisation and the order of batches and views.
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
    steps = _checks.integer("steps", steps, at_least=0)
    seed = _checks.integer("seed", seed, at_least=0)
    chosen = pick_device(device)
    train_bank, test_bank = train_bank.to(chosen), test_bank.to(chosen)
    keep = set(keep)
    if beyond := sorted(step for step in keep if not 0 <= step <= steps):
        raise ValueError(f"keep must name steps from 0 to {steps}; got {beyond}")
    read_at = sorted({*checkpoints(steps), *keep})
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the GPU's, too
        model = recipe.build(train_bank.shape).to(chosen)
    calibrate_batch_norm(model, train_bank)
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
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
            losses.append(_step(model, optimizer, train_bank, recipe.batch_size, generator))
            schedule.step()
            bar.update()
    seconds = time.perf_counter() - started
    if progress is None:
        bar.close()
    return Run(model, pd.DataFrame(rows), np.asarray(losses), embeddings, seconds)


def _step(
    model: JointEmbedding,
    optimizer: torch.optim.Optimizer,
    bank: ViewBank,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    model.train()
    loss = model(*bank.sample_pair(batch_size, generator))
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is no longer finite: {loss.item()}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    model.after_step()
    return loss.item()


@torch.no_grad()
def calibrate_batch_norm(model: JointEmbedding, bank: ViewBank, batches: int = 8) -> None:
    """Set the running statistics of a new model's batch norms from the data.

    Before the first step they are 0 and 1 whatever the data, and an untrained network read in
    evaluation mode would look half collapsed.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # a plain average over the batches that follow
        norm.reset_running_stats()
    model.train()
    generator = torch.Generator().manual_seed(0)
    size = min(256, len(bank.views))
    for _ in range(batches):
        model(*bank.sample_pair(size, generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def embed_views(
    model: JointEmbedding, bank: ViewBank, views: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return h and z of the bank's first `views` views in evaluation mode, each (V, N, D).

    Raises
    ------
    TypeError, ValueError
        For views other than from 1 to as many as the bank has (all of them by default).
    """
    if views is not None:
        _checks.integer("views", views, at_least=1, at_most=bank.n_views)
    model.eval()
    pairs = [model.embed(view) for view in bank.views[:, :views].unbind(dim=1)]
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


def compare(
    arms: Mapping[str, Recipe],
    *,
    dataset: str | Dataset = "digits",
    seeds: int = 5,
    first_seed: int = 0,
    steps: int | Mapping[str, int] = 400,
    device: str = "auto",
    keep: Iterable[int] = (),
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

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    """
    if not isinstance(arms, Mapping) or not all(isinstance(r, Recipe) for r in arms.values()):
        raise TypeError("arms must map names to recipes")
    if not arms:
        raise ValueError("arms must name at least one recipe; got none")
    seeds = _checks.integer("seeds", seeds, at_least=1)
    first_seed = _checks.integer("first_seed", first_seed, at_least=0)
    steps_of = dict(steps) if isinstance(steps, Mapping) else dict.fromkeys(arms, steps)
    if set(steps_of) != set(arms):
        raise ValueError(f"steps must name exactly the arms {list(arms)}; got {list(steps_of)}")
    for number in steps_of.values():
        _checks.integer("steps", number, at_least=0)
    keep = tuple(keep)
    result = Comparison(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), {}, {})
    history, final, baselines = [], [], []
    first = next(iter(arms.values()))
    total = seeds * sum(steps_of[arm] for arm in arms)
    with tqdm(total=total, unit="step", smoothing=0.05) as bar:
        for seed in range(first_seed, first_seed + seeds):
            train_bank, test_bank = banks(dataset, seed=seed)
            result.test_banks[seed] = test_bank
            baselines.append(
                {"seed": seed} | _baselines(first, train_bank, test_bank, seed, device)
            )
            for arm, recipe in arms.items():
                bar.set_description(f"{arm}, seed {seed}")
                run = train(
                    recipe,
                    train_bank,
                    test_bank,
                    steps=steps_of[arm],
                    seed=seed,
                    device=device,
                    keep=[step for step in keep if step <= steps_of[arm]],
                    progress=bar,
                )
                result.runs[arm, seed] = run
                tag = {"arm": arm, "seed": seed}
                history.append(run.history.assign(**tag))
                last = run.history.iloc[-1].to_dict()
                final.append(tag | last | _probes(run.model, train_bank, test_bank))
    result.history = pd.concat(history, ignore_index=True)
    result.final = pd.DataFrame(final)
    result.baselines = pd.DataFrame(baselines)
    return result


def _probes(model: JointEmbedding, train_bank: ViewBank, test_bank: ViewBank) -> dict[str, float]:
    """Probe h and z: fitted on two views of every training sample, scored on one test view."""
    device = next(model.parameters()).device
    train_h, train_z = embed_views(model, train_bank.to(device), PROBE_VIEWS)
    test_h, test_z = embed_views(model, test_bank.to(device), 1)
    labels = train_bank.labels.repeat(PROBE_VIEWS)
    sets = {
        "h": (train_h.flatten(0, 1), labels, test_h[0], test_bank.labels),
        "z": (train_z.flatten(0, 1), labels, test_z[0], test_bank.labels),
    }
    return {
        "linear_probe_h": diagnostics.linear_probe(*sets["h"]),
        "linear_probe_z": diagnostics.linear_probe(*sets["z"]),
        "resolution_probe_h": diagnostics.resolution_probe(*sets["h"]),
        "resolution_probe_z": diagnostics.resolution_probe(*sets["z"]),
        "knn_z": diagnostics.knn_accuracy(*sets["z"]),
    }


def _baselines(
    recipe: Recipe, train_bank: ViewBank, test_bank: ViewBank, seed: int, device: str
) -> dict[str, float]:
    quiet = tqdm(total=0, disable=True)
    untrained = train(
        recipe, train_bank, test_bank, steps=0, seed=seed, device=device, progress=quiet
    )
    probes = _probes(untrained.model, train_bank, test_bank)
    pixels = (
        train_bank.views[:, :PROBE_VIEWS].transpose(0, 1).flatten(0, 1).flatten(1),
        train_bank.labels.repeat(PROBE_VIEWS),
        test_bank.views[:, 0].flatten(1),
        test_bank.labels,
    )
    counts = torch.bincount(train_bank.labels)
    return {
        "chance": float((test_bank.labels == counts.argmax()).double().mean()),
        "pixels": diagnostics.linear_probe(*pixels),
        "pixels_resolution": diagnostics.resolution_probe(*pixels),
    } | {f"untrained_{name}": value for name, value in probes.items()}
