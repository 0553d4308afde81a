"""Graphs whose nodes are to be classified, and how smooth features are on them.

- `block_model`: 200 nodes in four blocks, drawn on the spot.
- `karate_club`: 34 members of a club that broke in two; from networkx, offline.
- `neighbours`: images of a data set of `repcollapse.data`, joined to their nearest.
- `cora`: 2,708 papers that cite each other; downloaded once, 0.6 MB.
"""

from __future__ import annotations

from repcollapse.graphs.cora import cora, cora_is_here
from repcollapse.graphs.graph import Graph, Spectrum, normalised
from repcollapse.graphs.made import block_model, karate_club, labelled_split, neighbours
from repcollapse.graphs.smoothness import dirichlet_energy, distance_to_limit, spectral_energy

__all__ = [
    "Graph",
    "Spectrum",
    "block_model",
    "cora",
    "cora_is_here",
    "dirichlet_energy",
    "distance_to_limit",
    "karate_club",
    "labelled_split",
    "neighbours",
    "normalised",
    "spectral_energy",
]
