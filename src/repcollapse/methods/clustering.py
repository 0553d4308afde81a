"""Methods that compare assignments to prototypes."""

from repcollapse import objectives
from repcollapse.training import Recipe

swav = Recipe(objectives.SwAV)
dino = Recipe(objectives.DINO, momentum=0.99)
