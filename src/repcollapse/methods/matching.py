"""The method that matches a distribution."""

from repcollapse import objectives
from repcollapse.training import Recipe

# One-dimensional slices see a batch of 128 pairs fill 16 dimensions better than 64.
sigreg = Recipe(objectives.sigreg, dimension=16)
