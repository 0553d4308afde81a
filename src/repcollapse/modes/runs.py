"""Runs of arms over seeds, and what they gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, TypeVar

import pandas as pd
import torch
from tqdm import tqdm

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
        """Return an attribute of the results of `arm`, by seed, for the ledger.

        Parameters
        ----------
        arm
            One of :attr:`arms`.
        name
            Of an attribute that is a number; "usage.used" is `used` of the attribute `usage`.

        Raises
        ------
        ValueError
            For an arm that is not there.
        AttributeError
            For an attribute that the results do not have.
        """
        _checks.choice("arm", arm, self.arms)
        read = attrgetter(name)
        return {seed: float(read(found)) for seed, found in self.results[arm].items()}

    def table(self, *names: str) -> pd.DataFrame:
        """Return attributes of the results of all arms as a table, a row for each arm and seed.

        Parameters
        ----------
        names
            Of attributes that are numbers, as in :meth:`values`.

        Returns
        -------
        pandas.DataFrame
            The columns "arm", "seed" and `names`, rows in the order of :attr:`results`.

        Raises
        ------
        AttributeError
            For an attribute that the results do not have.

        Examples
        --------
        >>> runs = repeat({"one": lambda seed: 1.5 * seed, "two": lambda seed: 0.0}, seeds=2)
        >>> runs.table("real")["real"].tolist()
        [0.0, 1.5, 0.0, 0.0]
        """
        reads = [attrgetter(name) for name in names]
        rows = [
            (arm, seed, *(float(read(found)) for read in reads))
            for arm, by_seed in self.results.items()
            for seed, found in by_seed.items()
        ]
        return pd.DataFrame(rows, columns=["arm", "seed", *names])


def once(run: Callable[[int], Result], seed: int) -> Result:
    """Return `run(seed)`, called with torch's global generators seeded and put back afterwards.

    Parameters
    ----------
    run
        A function of a seed; weights that it draws, and whatever else has no stream of its own,
        follow from the seed.
    seed
        >= 0.

    Raises
    ------
    TypeError, ValueError
        For a seed other than these.

    Examples
    --------
    >>> bool(once(lambda seed: torch.rand(()), 3) == once(lambda seed: torch.rand(()), 3))
    True
    """
    seed = _checks.integer("seed", seed, at_least=0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return run(seed)


def repeat(
    arms: Mapping[str, Callable[[int], Result]], *, seeds: int, first_seed: int = 0
) -> Runs[Result]:
    """Run every arm on every seed.

    Parameters
    ----------
    arms
        By name, a function of a seed, called by :func:`once`: two arms start from the same numbers.
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
                results[arm][seed] = once(run, seed)
                bar.update()
    return Runs(results)
