"""Objectives of joint-embedding learning, one file a family.

Lower-case names are pure functions that return a scalar to minimise. They come in three forms:

- *Symmetric*, of the embeddings of two views, two (N, D) matrices with row i of both from one
  sample: :func:`invariance`, :func:`nt_xent`, :func:`alignment_uniformity`,
  :func:`spectral_contrastive`, :func:`vicreg`, :func:`barlow_twins`, :func:`w_mse`,
  :func:`sigreg`; :func:`swav` compares scores against prototypes, (N, K).
- *One-sided*, of a prediction and the target it is to meet, called once for each direction:
  :func:`negative_cosine`, :func:`byol`, :func:`directpred`, :func:`moco`, :func:`dino`. The target
  is a constant to all of these but the first.
- *Pretexts*, of what an encoder's head answered and what is right: :func:`rotation`,
  :func:`jigsaw`, :func:`inpainting`.

An objective made of several forces has a ``..._terms`` function beside it that returns them apart.
One that keeps something from step to step (a queue, a centre, prototypes, a correlation), or that
makes its own inputs, has a module in CamelCase: :class:`MoCo`, :class:`DirectPred`, :class:`SwAV`,
:class:`DINO`, :class:`Rotation`, :class:`Jigsaw`, :class:`Inpainting`. Such modules move their
state only in ``after_step()``, to be called once after each step of the optimiser.

Where the statistics of a batch or its negatives span several processes, ``gather_distributed=True``
makes value and gradient those of the joined batch.
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
