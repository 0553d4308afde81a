"""Units that no longer answer: the dormant share of a layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import DORMANT, WARNING, Advice

TAU = 0.025  # of the layer's mean: the threshold of Sokar et al. for what they count
# A unit that is silent on all inputs takes no part and gets no gradient. A tenth of a layer is more
# than one in a thousand fresh layers of 64 rectified units loses on centred inputs, and few enough
# to be mended before the network fails.
MOST = 0.1

ADVICE = Advice(
    WARNING,
    "What was learnt may still work; what comes next will be learnt worse. Recycle the silent "
    "units, normalise the layer and hold the weights near where they began, or begin anew.",
    "22_plasticity_loss",
    "Plasticity loss",
)


def unit_scores(activations: Tensor) -> Tensor:
    r"""Return what each unit answers on average, over what a unit of the layer does.

    .. math:: s_i = \frac{\mathbb E\,|h_i|}{\frac1D \sum_k \mathbb E\,|h_k|}

    Parameters
    ----------
    activations
        Of one layer, shape (N, D), after the nonlinearity.

    Returns
    -------
    Tensor
        Shape (D,), float64, at least 0, with mean 1; all 0 where the whole layer is silent.
        Invariant to the scale of the layer and to the order of its inputs.

    References
    ----------
    Sokar et al. 2023, "The dormant neuron phenomenon in deep reinforcement learning", definition
    3.1.

    Examples
    --------
    >>> import torch
    >>> unit_scores(torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]]))
    tensor([2., 0., 1.], dtype=torch.float64)
    """
    each = activations.detach().double().abs().mean(dim=0)
    mean = each.mean()
    return each / mean if mean > 0 else each


def dormant_share(activations: ArrayLike | Mapping[str, ArrayLike], *, tau: float = TAU) -> Checkup:
    r"""Return which share of the units is dormant, :math:`s_i \le \tau`, layer by layer.

    Parameters
    ----------
    activations
        Of one layer after its nonlinearity, shape (N, D), N >= 2; or several layers by name.
    tau
        In [0, 1): the score of :func:`unit_scores` up to which a unit counts as dormant.

    Returns
    -------
    Checkup
        `metrics` has "dormant_share" over all units, in [0, 1], and "dormant_share:name" for each
        of several layers. Where a tenth or more of all units or of any layer is dormant, the
        finding is "dormant-units". A silent layer reads 1, a linear one 0.

    Raises
    ------
    TypeError, ValueError
        For activations or a threshold other than these.

    References
    ----------
    Sokar et al. 2023, definition 3.1.

    Examples
    --------
    >>> import torch
    >>> h = torch.rand(100, 8, generator=torch.Generator().manual_seed(0))
    >>> dormant_share(h).verdict
    'healthy'
    >>> h[:, :2] = 0
    >>> checkup = dormant_share(h)
    >>> checkup.verdict, checkup.metrics["dormant_share"]
    ('dormant-units', 0.25)
    """
    tau = _checks.number("tau", tau, at_least=0, below=1)
    layers = activations if isinstance(activations, Mapping) else {"": activations}
    if not layers:
        raise ValueError("activations must hold at least one layer; got none")
    dormant = {}
    for name, given in layers.items():
        label = f"activations[{name!r}]" if name else "activations"
        dormant[name] = unit_scores(_checks.as_matrix(label, given, min_rows=2)) <= tau
    shares = {name: float(units.double().mean()) for name, units in dormant.items()}
    units = sum(len(found) for found in dormant.values())
    silent = sum(int(found.sum()) for found in dormant.values())
    metrics = {"dormant_share": silent / units}
    if len(layers) > 1 or "" not in layers:
        metrics |= {f"dormant_share:{name}": share for name, share in shares.items()}
    summary = (
        f"{silent} of {units} units are dormant: they answer at most {tau:g} of their layer's mean."
    )
    worst = max(shares, key=lambda name: shares[name])
    if max(shares[worst], silent / units) < MOST:
        return Checkup(summary, metrics)
    where = f", {shares[worst]:.0%} of layer {worst}" if worst else ""
    finding = ADVICE.finding(
        DORMANT,
        f"{silent} of {units} units{where} answer to nothing: they take no part, and no gradient "
        "reaches them.",
        "dormant_share",
        silent / units,
        reference=MOST,
    )
    return Checkup(summary, metrics, (finding,))
