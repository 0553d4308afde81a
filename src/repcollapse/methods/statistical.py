"""Methods that regularise the statistics of a batch."""

from repcollapse import objectives
from repcollapse.training import Recipe

vicreg = Recipe(objectives.vicreg)
barlow_twins = Recipe(objectives.barlow_twins)
