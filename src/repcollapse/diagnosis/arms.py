"""The diagnoses of several models beside each other, each trained from several seeds."""

from __future__ import annotations

from repcollapse.diagnosis.diagnosis import Diagnosis
from repcollapse.diagnosis.report import HEADLINES
from repcollapse.diagnosis.tally import Tally


class Arms(Tally[Diagnosis]):
    """Diagnoses by arm and seed. Printed, it says for each arm what was found how often.

    What can be asked of them is in :class:`Tally`.

    Examples
    --------
    >>> import torch
    >>> from repcollapse import diagnose
    >>> z = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    >>> arms = Arms({"dead": {100: diagnose(1 + 1e-3 * z)}, "alive": {100: diagnose(z)}})
    >>> arms.tells("complete", broken=["dead"], mended=["alive"])
    {100: True}
    """

    headlines = HEADLINES
