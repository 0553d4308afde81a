"""Methods that compare assignments to prototypes."""

from functools import partial

from repcollapse import objectives
from repcollapse.training import Recipe

swav = Recipe(partial(objectives.SwAV, epsilon=0.025))
dino = Recipe(objectives.DINO, momentum=0.99)
