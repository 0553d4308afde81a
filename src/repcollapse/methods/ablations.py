"""Every method whole, and again without what keeps it from collapse.

Chapters that ask what a collapse looks like, or whether it is recognised, train both: `WHOLE` has
recipes by method, `BROKEN` has a :class:`Broken` by method and by what it lacks. A broken arm is
its whole method but for one setting, and carries the kinds of collapse that were written down for
it: those of some arms after pilot runs on the seeds 900 to 904, all of them before any run that
judges.

>>> whole, broken = WHOLE["simsiam"], BROKEN["simsiam: no stop-gradient"]
>>> broken.recipe == replace(whole, stop_gradient=False), broken.kinds
(True, ('complete',))
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from repcollapse import objectives

# Modules and not their recipes, whose names would be a second method's here.
from repcollapse.methods import (
    asymmetric,
    clustering,
    contrastive,
    matching,
    pretext,
    statistical,
    whitening,
)
from repcollapse.training import Recipe


class Broken(NamedTuple):
    """A method that has lost something, and the verdicts that are right for what comes of it."""

    recipe: Recipe
    kinds: tuple[str, ...]


# Targets follow faster than usual, so that a collapse has time to finish, and SIGReg looks along a
# quarter of its usual directions, which saves time.
WHOLE: dict[str, Recipe] = {
    "simsiam": asymmetric.simsiam,
    "byol": replace(asymmetric.byol, momentum=0.9),
    "directpred": replace(asymmetric.directpred, momentum=0.9),
    "swav": clustering.swav,
    "dino": Recipe(partial(objectives.DINO, momentum=0.95), momentum=0.95),
    "simclr": contrastive.simclr,
    "moco": replace(contrastive.moco, momentum=0.9),
    "alignment_uniformity": contrastive.alignment_uniformity,
    "spectral_contrastive": contrastive.spectral_contrastive,
    "sigreg": replace(matching.sigreg, objective=partial(objectives.sigreg, slices=64)),
    "rotation": pretext.rotation,
    "jigsaw": pretext.jigsaw,
    "inpainting": pretext.inpainting,
    "vicreg": statistical.vicreg,
    "barlow_twins": statistical.barlow_twins,
    "w_mse": whitening.w_mse,
}


def nt_xent_attraction(z_a: Tensor, z_b: Tensor) -> Tensor:
    r"""Return NT-Xent without its repulsion, :math:`-\frac1N \sum_i u^a_i \cdot u^b_i / \tau`.

    Parameters
    ----------
    z_a, z_b
        As for :func:`repcollapse.objectives.nt_xent`, shape (N, D) each, of unit rows u.

    Returns
    -------
    Tensor
        A scalar in :math:`[-1/\tau, 1/\tau]`, with :math:`\tau = 0.2`; at complete collapse its
        least, -5.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    Chen et al. 2020, "A simple framework for contrastive learning of visual representations", for
    NT-Xent.

    Examples
    --------
    >>> import torch
    >>> round(float(nt_xent_attraction(torch.ones(4, 3), torch.ones(4, 3))), 4)
    -5.0
    """
    return objectives.nt_xent_terms(z_a, z_b).attraction


def spectral_attraction(z_a: Tensor, z_b: Tensor) -> Tensor:
    r"""Return the spectral contrastive loss without its repulsion.

    .. math:: -\frac{2}{N} \sum_i {z^a_i}^\top z^b_i

    Parameters
    ----------
    z_a, z_b
        As for :func:`repcollapse.objectives.spectral_contrastive`, shape (N, D) each.

    Returns
    -------
    Tensor
        The attraction of :func:`repcollapse.objectives.spectral_contrastive_terms`, a scalar that
        has no least value: embeddings grow without end. At complete collapse to a vector of squared
        length r it is -2r.

    Raises
    ------
    TypeError, ValueError
        For embeddings other than these.

    References
    ----------
    HaoChen, Wei, Gaidon & Ma 2021, "Provable guarantees for self-supervised deep learning with
    spectral contrastive loss".

    Examples
    --------
    >>> import torch
    >>> z = torch.ones(4, 3)
    >>> bool(spectral_attraction(2 * z, 2 * z) < spectral_attraction(z, z) < 0)
    True
    """
    return objectives.spectral_contrastive_terms(z_a, z_b).attraction


def _changed(name: str, *kinds: str, **fields: Any) -> Broken:
    """Return a whole method with other fields of its recipe."""
    return Broken(replace(WHOLE[name], **fields), kinds)


def _variant(name: str, *kinds: str, **options: Any) -> Broken:
    """Return a whole method with other options of its objective."""
    return _changed(name, *kinds, objective=partial(WHOLE[name].objective, **options))


# Without repulsion directions may end on a few points or on a line: two kinds are right for one.
BROKEN: dict[str, Broken] = {
    "simclr: no negatives": _changed("simclr", "complete", objective=nt_xent_attraction),
    "moco: no batch norm": _changed("moco", "complete", norm="none"),
    "alignment_uniformity: no uniformity": _variant("alignment_uniformity", "complete", uniform=0),
    "spectral_contrastive: no repulsion": _changed(
        "spectral_contrastive", "cluster", "dimensional", objective=spectral_attraction
    ),
    "simsiam: no stop-gradient": _changed("simsiam", "complete", stop_gradient=False),
    "byol: no predictor": _changed("byol", "complete", predictor="none"),
    "directpred: flat predictor": _variant("directpred", "complete", eps=100.0),
    "vicreg: no variance": _variant("vicreg", "complete", variance=0),
    "vicreg: no covariance": _variant("vicreg", "dimensional", covariance=0),
    "barlow_twins: no redundancy": _variant("barlow_twins", "dimensional", redundancy=0),
    "w_mse: no whitening": _changed("w_mse", "complete", objective=objectives.invariance),
    "swav: no Sinkhorn": _variant("swav", "complete", balance=False),
    "swav: soft codes": _variant("swav", "complete", epsilon=0.1),
    "dino: no centring": _variant("dino", "complete", center=False),
    "dino: no sharpening": _variant("dino", "complete", teacher_temperature=0.1),
    "sigreg: no normality": _variant("sigreg", "complete", weight=0),
}
