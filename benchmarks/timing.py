"""Times of alternatives side by side, in one process, so that load and heat hit all alike."""

import gc
import random
import time
from collections.abc import Callable, Mapping
from statistics import median


def interleaved(
    parts: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Return the median seconds of one call of each part, called round by round."""
    taken = by_round(parts, rounds=rounds, warm_up=warm_up, clock=clock)
    return {name: median(seconds) for name, seconds in taken.items()}


def by_round(
    parts: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Return the seconds of one call of each part in every round but the first ones.

    By default CPU seconds of this process, all its threads: what other processes take of a busy
    machine is not counted. Every round has an order of its own, since a part's caches are what the
    one before it left; and, as in `timeit`, garbage is collected between rounds only.
    """
    order = random.Random(0)
    names = list(parts)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        gc.disable()
        for name in order.sample(names, len(names)):
            started = clock()
            parts[name]()
            taken = clock() - started
            if turn >= warm_up:
                seconds[name].append(taken)
        gc.enable()
    return seconds
