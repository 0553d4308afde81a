"""Units that no longer answer: the dormant share of a layer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.checkups.checkup import Checkup
from repcollapse.diagnosis.findings import DORMANT, WARNING, Advice
from repcollapse.diagnostics.moments import as_double

TAU = 0.025  # of the layer's mean: the threshold of Sokar et al. for what they count
# A unit that is silent on all inputs takes no part and gets no gradient. A tenth of a layer is more
# than one in a thousand fresh layers of 64 rectified units loses on centred inputs, and few enough
# to be mended before the network fails.
MOST = 0.1

ADVICE = {
    DORMANT: Advice(
        WARNING,
        "What was learnt may still work; what comes next will be learnt worse. Recycle the "
        "dormant units, normalise the layer and hold the weights near where they began, or begin "
        "anew.",
        "22_plasticity_loss",
        "Plasticity loss",
    ),
}


def unit_scores(activations: ArrayLike) -> Tensor:
    r"""Return what each unit answers on average, over what a unit of the layer does.

    .. math:: s_i = \frac{\mathbb E\,|h_i|}{\frac1D \sum_k \mathbb E\,|h_k|}

    Parameters
    ----------
    activations
        Of one layer after its nonlinearity, shape (N, D), finite.

    Returns
    -------
    Tensor
        Shape (D,), float64, in [0, D], with mean 1; all 0 where the whole layer is silent.
        Invariant to the scale of the layer and to the order of its inputs.

    Raises
    ------
    TypeError, ValueError
        For activations other than these.

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
    return _scores("activations", activations)


def dormant_share(activations: ArrayLike | Mapping[str, ArrayLike], *, tau: float = TAU) -> Checkup:
    r"""Say whether units of a network have stopped answering, and which share of each layer.

    A unit is dormant where its score is :math:`s_i \le \tau`.

    Parameters
    ----------
    activations
        Of one layer after its nonlinearity, shape (N, D), N >= 2; or several layers by name.
    tau
        In [0, 1): the score of :func:`~repcollapse.checkups.unit_scores` up to which a unit counts
        as dormant. At 0 only those count that are silent on all N inputs.

    Returns
    -------
    Checkup
        `metrics` has "dormant_share" over all units, in [0, 1], and "dormant_share:name" for each
        of several layers. Where a tenth or more of all units or of any layer is dormant, the
        finding is "dormant-units", with the share and the name of what has the most. A silent
        layer reads 1, a linear one 0.

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
        dormant[name] = _scores(label, given, min_rows=2) <= tau
    silent = sum(int(found.sum()) for found in dormant.values())
    units = sum(map(len, dormant.values()))
    metrics = {"dormant_share": silent / units}
    if list(layers) != [""]:
        shares = {name: float(found.double().mean()) for name, found in dormant.items()}
        metrics |= {f"dormant_share:{name}": share for name, share in shares.items()}
    who = f"{silent} of {units} units {'is' if silent == 1 else 'are'}"
    if not silent:
        who = f"No unit of {units} is"
    summary = f"{who} dormant, which is to answer at most {tau:g} of the layer's mean."
    worst = max(metrics, key=lambda name: metrics[name])
    if metrics[worst] < MOST:
        return Checkup(summary, metrics)
    where = worst.partition(":")[2]
    finding = ADVICE[DORMANT].finding(
        DORMANT,
        f"{f'{metrics[worst]:.0%} of layer {where}' if where else f'{silent} of {units} units'} "
        f"hardly answer, at most {tau:g} of their layer's mean. Those that answer to nothing at "
        "all take no part, and no gradient reaches them.",
        worst,
        metrics[worst],
        reference=MOST,
    )
    return Checkup(summary, metrics, (finding,))


def _scores(name: str, activations: ArrayLike, *, min_rows: int = 1) -> Tensor:
    each = as_double(_checks.as_matrix(name, activations, min_rows=min_rows)).abs().mean(dim=0)
    mean = each.mean()
    return each / mean if mean > 0 else each
