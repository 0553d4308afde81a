"""Methods whose two sides differ, and the one without any difference, which collapses."""

from repcollapse import objectives
from repcollapse.training import Recipe

invariance = Recipe(objectives.invariance)
simsiam = Recipe(objectives.negative_cosine, predictor="mlp", stop_gradient=True)
byol = Recipe(objectives.byol, predictor="mlp", momentum=0.99)
directpred = Recipe(objectives.DirectPred, momentum=0.99)
