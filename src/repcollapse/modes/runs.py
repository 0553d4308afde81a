"""What all modes share: to fit a model, and to repeat runs over arms and seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from repcollapse import _checks

Result = TypeVar("Result")


@dataclass(frozen=True)
class Runs(Generic[Result]):
    """What every arm gave for every seed.

    Attributes
    ----------
    results
        By arm, then by seed, in the order in which they ran.
    """

    results: dict[str, dict[int, Result]]

    @property
    def arms(self) -> list[str]:
        """The arms in the order given."""
        return list(self.results)

    @property
    def seeds(self) -> list[int]:
        """The seeds in the order run."""
        return list(next(iter(self.results.values())))

    def of(self, arm: str) -> list[Result]:
        """Return the results of `arm`, one a seed.

        Raises
        ------
        ValueError
            For an arm that is not there.
        """
        _checks.choice("arm", arm, self.arms)
        return list(self.results[arm].values())

    def values(self, arm: str, name: str) -> dict[int, float]:
        """Return the attribute `name` of the results of `arm`, by seed, for the ledger.

        Raises
        ------
        ValueError
            For an arm that is not there.
        AttributeError
            For an attribute that the results do not have.
        """
        _checks.choice("arm", arm, self.arms)
        return {seed: float(getattr(found, name)) for seed, found in self.results[arm].items()}


def repeat(
    arms: Mapping[str, Callable[[int], Result]], *, seeds: int, first_seed: int = 0
) -> Runs[Result]:
    """Run every arm on every seed.

    Parameters
    ----------
    arms
        By name, a function of a seed. Before each call torch's global generators are seeded with
        the seed, and put back afterwards; two arms so start from the same numbers.
    seeds, first_seed
        How many seeds, and the first.

    Raises
    ------
    TypeError, ValueError
        For seeds other than these, or without an arm.

    Examples
    --------
    >>> runs = repeat({"sum": lambda seed: torch.rand(3).sum()}, seeds=2)
    >>> runs.seeds, len(runs.of("sum"))
    ([0, 1], 2)
    """
    seeds = _checks.integer("seeds", seeds, at_least=1)
    first_seed = _checks.integer("first_seed", first_seed, at_least=0)
    if not arms:
        raise ValueError("arms must name at least one; got none")
    results: dict[str, dict[int, Result]] = {arm: {} for arm in arms}
    with tqdm(total=seeds * len(arms), unit="run") as bar:
        for seed in range(first_seed, first_seed + seeds):
            for arm, run in arms.items():
                bar.set_description(f"{arm}, seed {seed}")
                with torch.random.fork_rng():
                    torch.manual_seed(seed)
                    results[arm][seed] = run(seed)
                bar.update()
    return Runs(results)


def fit(
    parameters: Iterable[Tensor],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    watch: Callable[[int], None] | None = None,
    at: Collection[int] = (),
    **options: Any,
) -> np.ndarray:
    """Minimise a loss, and return its value at every step.

    Parameters
    ----------
    parameters
        What the optimiser moves.
    loss
        A function of the step, called once a step with gradients on; what it draws is its own
        affair.
    steps, lr, optimiser, options
        How many steps, and the optimiser with its learning rate and further options.
    watch, at
        Called with the step *before* each of the steps `at`, and after the last one with `steps`
        where that is among them, without gradients.

    Returns
    -------
    numpy.ndarray
        The losses, shape (steps,).

    Raises
    ------
    TypeError, ValueError
        For steps that are not a count.
    FloatingPointError
        Where the loss is not finite, with the step.

    Examples
    --------
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> losses = fit([x], lambda step: (x**2).sum(), steps=200, lr=0.1)
    >>> bool(losses[-1] < 1e-4)
    True
    """
    steps = _checks.integer("steps", steps, at_least=0)
    optimizer = optimiser(parameters, lr=lr, **options)
    losses = np.empty(steps)
    for step in range(steps + 1):
        if watch is not None and step in at:
            with torch.no_grad():
                watch(step)
        if step == steps:
            break
        value = loss(step)
        losses[step] = value.item()
        if not np.isfinite(losses[step]):
            raise FloatingPointError(f"loss must stay finite; it is {losses[step]} at step {step}")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    return losses
