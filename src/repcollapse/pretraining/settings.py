"""What decides the numbers of a run, and nothing that does not."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from repcollapse import _checks
from repcollapse.data import NAMES
from repcollapse.methods import METHODS
from repcollapse.training import Recipe

DTYPES = ("float32", "float64")
# Train and test images of each data set, all there are; sprites are drawn, as many as one likes.
SIZES = {
    "digits": (1300, 497),
    "sprites": (1536, 512),
    "fashion_mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
}
EPOCHS = 100


@dataclass(frozen=True)
class Settings:
    """Everything that a run's numbers depend on. Two runs of equal settings give equal numbers.

    Left out, since they change them by rounding at most: the device, the number of processes, and
    how often checkpoints are written.

    Parameters
    ----------
    method
        A name in :data:`repcollapse.methods.METHODS`.
    dataset
        A name for :func:`repcollapse.data.load`; all of it is used unless `limit` says less.
    encoder, dimension, batch_size, lr, weight_decay
        In place of the method's own. `batch_size` is that of all processes together.
    epochs, steps
        How long; one of the two, by default 100 epochs. An epoch leaves out what does not fill a
        batch. The rate follows a cosine to zero over the whole.
    seed
        Governs split, initialisation, order and views.
    amp
        Autocast to bfloat16; None stands for "on a GPU" and is settled by :func:`pretrain`.
    channels_last
        Keep images and convolutions' weights in that memory format.
    dtype
        "float32", or "float64" for checks.
    limit, test_limit, probe_limit
        How many images at most are trained on, are kept for testing, and are used to fit a probe.
    log_every, evaluate_every
        Steps between two readings of the training batch, and between two of the instruments on
        test views; 0 leaves the latter to the end.

    Raises
    ------
    TypeError, ValueError
        For anything but these; the message begins with the field's name.

    Examples
    --------
    >>> settings = Settings("vicreg", "digits", steps=50)
    >>> settings.batch_size, settings.total_steps(1300)
    (128, 50)
    """

    method: str
    dataset: str
    encoder: str | None = None
    dimension: int | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    amp: bool | None = None
    channels_last: bool = False
    dtype: str = "float32"
    limit: int | None = None
    test_limit: int = 2000
    probe_limit: int = 5000
    log_every: int = 50
    evaluate_every: int = 0

    def __post_init__(self) -> None:
        _checks.choice("method", self.method, METHODS)
        _checks.choice("dataset", self.dataset, NAMES)
        _checks.choice("dtype", self.dtype, DTYPES)
        _checks.integer("seed", self.seed, at_least=0)
        if self.steps is not None and self.epochs is not None:
            raise ValueError(
                f"steps must be left out where epochs is given; got {self.steps} and {self.epochs}"
            )
        if self.steps is None:
            epochs = EPOCHS if self.epochs is None else self.epochs
            self._settle("epochs", _checks.integer("epochs", epochs, at_least=1))
        else:
            _checks.integer("steps", self.steps, at_least=1)
        for name in ("limit", "test_limit", "probe_limit"):
            if getattr(self, name) is not None:
                _checks.integer(name, getattr(self, name), at_least=2)
        most = None if self.dataset == "sprites" else SIZES[self.dataset][0]
        if self.limit is not None:
            _checks.integer("limit", self.limit, at_least=2, at_most=most)
        _checks.integer("log_every", self.log_every, at_least=1)
        _checks.integer("evaluate_every", self.evaluate_every, at_least=0)
        if self.amp and self.dtype != "float32":
            raise ValueError(f"amp must be off with dtype {self.dtype!r}; got {self.amp}")
        recipe = self._replaced()
        for name in ("encoder", "dimension", "batch_size", "lr", "weight_decay"):
            self._settle(name, getattr(recipe, name))

    def _settle(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # once, while the frozen object is being made

    def _replaced(self) -> Recipe:
        names = ("encoder", "dimension", "batch_size", "lr", "weight_decay")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(METHODS[self.method], **given)

    def recipe(self, *, gather: bool = False) -> Recipe:
        """Return the method's recipe with these settings; with `gather`, for a shared batch."""
        recipe = self._replaced()
        return replace(recipe, objective=_gathering(recipe.objective)) if gather else recipe

    def total_steps(self, samples: int) -> int:
        """Return the steps of the whole run on that many samples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None and self.batch_size is not None
        return self.epochs * (samples // self.batch_size)

    def record(self) -> dict[str, Any]:
        """Return all of it as plain values, the recipe spelt out."""
        recipe = vars(self._replaced())
        spelt = recipe | {"objective": _spelt(recipe["objective"])}
        return asdict(self) | {"recipe": spelt}


def _gathering(objective: Any) -> Any:
    """Return `objective` with gather_distributed=True, where it knows the option.

    Those that do not are means over samples, whose average over processes is the whole's.
    """
    if "gather_distributed" not in inspect.signature(objective).parameters:
        return objective
    return partial(objective, gather_distributed=True)


def _spelt(objective: Any) -> str:
    """Return the objective's name and the options bound to it, without addresses."""
    if not isinstance(objective, partial):
        return f"{objective.__module__}.{objective.__qualname__}"
    bound = ", ".join(f"{name}={value!r}" for name, value in sorted(objective.keywords.items()))
    return f"{_spelt(objective.func)}({bound})"
