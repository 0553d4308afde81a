"""Objectives of joint-embedding learning, one file a family.

Every objective is a pure function of two (N, D) matrices of embeddings, row i of both from one
sample, and returns a scalar to minimise. Those made of several forces have a `..._terms` function
beside them that returns the forces apart.
"""

from repcollapse.objectives.asymmetric import invariance
from repcollapse.objectives.contrastive import NTXentTerms, nt_xent, nt_xent_terms
from repcollapse.objectives.statistical import VICRegTerms, vicreg, vicreg_terms

__all__ = [
    "NTXentTerms",
    "VICRegTerms",
    "invariance",
    "nt_xent",
    "nt_xent_terms",
    "vicreg",
    "vicreg_terms",
]
