"""What few isotropic rows read by chance: a reading within that shows nothing."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from repcollapse.diagnosis.readings import dimensions_holding

# By chance is what one case in a thousand exceeds, or so.
DEVIATIONS = 3.0
DRAWS, TAIL = 2000, 0.001


def most_mean_share(n: int, dimension: int) -> float:
    r"""Return the mean share that n isotropic directions hardly ever exceed.

    .. math:: \frac1n + 3 \sqrt{\frac{2 (n - 1)}{n^3 D}}

    The mean share is 1/n and the mean of the cosines of different rows, which are uncorrelated, of
    mean 0 and variance 1/D. Above 1 where directions are too few to say anything.

    Examples
    --------
    >>> most_mean_share(2, 1) > 1, round(most_mean_share(1000, 64), 4)
    (True, 0.0015)
    """
    return 1 / n + DEVIATIONS * math.sqrt(2 * (n - 1) / (n**3 * dimension))


@lru_cache(maxsize=64)
def fewest_dimensions(n: int, dimension: int, share: float) -> float:
    """Return in how many dimensions n isotropic rows hold a share of their variance, at the least.

    Fewer are found in one case of a thousand. The eigenvalues are drawn, always the same ones, as
    the squared singular values of the triangular factor of a Wishart matrix (Bartlett 1933). That
    has min(n - 1, D) rows.

    Examples
    --------
    >>> round(fewest_dimensions(2, 512, 0.999), 3)  # two rows are a line, whatever they are
    0.999
    >>> 9 < fewest_dimensions(12, 512, 0.999) < 11
    True
    """
    few, many = sorted((n - 1, dimension))
    draw = np.random.default_rng(0)
    factors = np.tril(draw.normal(size=(DRAWS, few, few)), -1)
    place = np.arange(few)
    factors[:, place, place] = np.sqrt(draw.chisquare(many - place, size=(DRAWS, few)))
    energies = torch.linalg.svdvals(torch.from_numpy(factors)).square()
    read = sorted(dimensions_holding(each, share) for each in energies)
    return read[int(TAIL * DRAWS)]
