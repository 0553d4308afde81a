"""The checkups of several models beside each other, each trained from several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.tally import Tally


class Checkups(Tally[Checkup]):
    """Checkups by arm and seed. Printed, it says for each arm what was found how often.

    What can be asked of them is in :class:`~repcollapse.diagnosis.Tally`.
    """


def side_by_side(checkups: Mapping[str, Mapping[int, Checkup] | Iterable[Checkup]]) -> Checkups:
    """Return the checkups of several models, each from several seeds, to be shown together.

    Parameters
    ----------
    checkups
        By arm, the checkup of each seed, as :attr:`Runs.results <repcollapse.modes.runs.Runs>`
        has them; checkups alone are those of seeds 0, 1, and so on.

    Returns
    -------
    Checkups
        What was found how often, arm by arm, and whether it tells the broken from the mended.

    Raises
    ------
    ValueError
        Without an arm, or for an arm without a checkup.

    Examples
    --------
    >>> well = Checkup("64 of 64 codes are in use.", {"used": 64.0})
    >>> side_by_side({"mended": {100: well, 101: well}})
    mended: healthy in 2 of 2
      64 of 64 codes are in use.
    """
    return Checkups(checkups)
