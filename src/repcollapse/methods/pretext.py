"""Tasks made from the images themselves."""

from repcollapse import objectives
from repcollapse.training import Recipe

rotation = Recipe(objectives.Rotation)
jigsaw = Recipe(objectives.Jigsaw)
inpainting = Recipe(objectives.Inpainting)
