"""Objectives of joint-embedding learning, one file a family.

Every objective is a pure function of two (N, D) matrices of embeddings, row i of both from one
sample, and returns a scalar to minimise. Those made of several forces have a `..._terms` function
beside them that returns the forces apart; those that keep a state have a module beside them, which
is called for each direction and told `after_step()` once the optimiser has stepped.
"""

from repcollapse.objectives.asymmetric import (
    DirectPred,
    byol,
    directpred,
    invariance,
    negative_cosine,
)
from repcollapse.objectives.clustering import (
    DINO,
    DINOTerms,
    Prototypes,
    SwAV,
    dino,
    dino_terms,
    sinkhorn,
    swav,
)
from repcollapse.objectives.contrastive import (
    AlignmentUniformityTerms,
    MoCo,
    NTXentTerms,
    SpectralContrastiveTerms,
    alignment_uniformity,
    alignment_uniformity_terms,
    moco,
    nt_xent,
    nt_xent_terms,
    spectral_contrastive,
    spectral_contrastive_terms,
)
from repcollapse.objectives.matching import SIGRegTerms, epps_pulley, sigreg, sigreg_terms
from repcollapse.objectives.pretext import (
    Inpainting,
    Jigsaw,
    PretextTask,
    Rotation,
    inpainting,
    jigsaw,
    rotation,
)
from repcollapse.objectives.statistical import (
    BarlowTwinsTerms,
    VICRegTerms,
    barlow_twins,
    barlow_twins_terms,
    vicreg,
    vicreg_terms,
)
from repcollapse.objectives.whitening import SingularCovarianceError, w_mse, whiten

__all__ = [
    "DINO",
    "AlignmentUniformityTerms",
    "BarlowTwinsTerms",
    "DINOTerms",
    "DirectPred",
    "Inpainting",
    "Jigsaw",
    "MoCo",
    "NTXentTerms",
    "PretextTask",
    "Prototypes",
    "Rotation",
    "SIGRegTerms",
    "SingularCovarianceError",
    "SpectralContrastiveTerms",
    "SwAV",
    "VICRegTerms",
    "alignment_uniformity",
    "alignment_uniformity_terms",
    "barlow_twins",
    "barlow_twins_terms",
    "byol",
    "dino",
    "dino_terms",
    "directpred",
    "epps_pulley",
    "inpainting",
    "invariance",
    "jigsaw",
    "moco",
    "negative_cosine",
    "nt_xent",
    "nt_xent_terms",
    "rotation",
    "sigreg",
    "sigreg_terms",
    "sinkhorn",
    "spectral_contrastive",
    "spectral_contrastive_terms",
    "swav",
    "vicreg",
    "vicreg_terms",
    "w_mse",
    "whiten",
]
