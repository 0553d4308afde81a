"""The method that whitens a batch."""

from functools import partial

from repcollapse import objectives
from repcollapse.training import Recipe

# Half the usual dimension: a batch of 128 pairs has to span the embedding with room to spare.
w_mse = Recipe(partial(objectives.w_mse, shrinkage=1e-3), dimension=32)
