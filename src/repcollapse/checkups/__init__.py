"""What collapses elsewhere, one function a symptom: numbers, and a finding where they mean one.

:func:`repcollapse.diagnose` judges embeddings. These judge what other models have of their own:
codes, experts, units, latents, layers, towers. Each returns a :class:`Checkup`;
:func:`side_by_side` sets those of several models beside each other.
"""

from __future__ import annotations

from repcollapse.checkups.checkup import Checkup
from repcollapse.checkups.codes import codebook_usage
from repcollapse.checkups.experts import expert_load
from repcollapse.checkups.gap import modality_gap
from repcollapse.checkups.latents import gaussian_kl, posterior_kl
from repcollapse.checkups.layers import diagnose_layers
from repcollapse.checkups.residuals import layer_residuals
from repcollapse.checkups.side_by_side import Checkups, side_by_side
from repcollapse.checkups.units import dormant_share, unit_scores
from repcollapse.checkups.usage import Usage, usage

__all__ = [
    "Checkup",
    "Checkups",
    "Usage",
    "codebook_usage",
    "diagnose_layers",
    "dormant_share",
    "expert_load",
    "gaussian_kl",
    "layer_residuals",
    "modality_gap",
    "posterior_kl",
    "side_by_side",
    "unit_scores",
    "usage",
]
