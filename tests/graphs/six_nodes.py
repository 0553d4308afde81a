"""A graph of six nodes in two pieces."""

from __future__ import annotations

import torch

from repcollapse.graphs import Graph

EDGES = torch.tensor([[0, 1, 1, 3], [1, 2, 3, 4]])  # node 5 stands alone


def small(**changes):
    parts = {
        "features": torch.arange(12.0).reshape(6, 2),
        "edges": EDGES,
        "labels": torch.tensor([0, 0, 1, 1, 1, 0]),
        "train": torch.tensor([0, 2]),
        "validation": torch.tensor([], dtype=torch.int64),
        "test": torch.tensor([1, 3]),
    }
    return Graph(**(parts | changes))
