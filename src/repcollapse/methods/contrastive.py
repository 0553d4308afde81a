"""Methods that push samples apart."""

from repcollapse import objectives
from repcollapse.training import Recipe

simclr = Recipe(objectives.nt_xent)
moco = Recipe(objectives.MoCo, momentum=0.99)
alignment_uniformity = Recipe(objectives.alignment_uniformity)
spectral_contrastive = Recipe(objectives.spectral_contrastive)
