"""How far nodes are from being told apart by nothing but their degrees, measured and foretold."""

from __future__ import annotations

import torch
from torch import Tensor

from repcollapse import _checks
from repcollapse._checks import ArrayLike
from repcollapse.graphs.graph import Graph, rows_of


def dirichlet_energy(graph: Graph, h: ArrayLike, *, relative: bool = False) -> float:
    r"""Return how much node features differ along edges.

    .. math::

        E(H) = \sum_{\{i,j\} \in \mathcal E}
        \left\lVert \frac{h_i}{\sqrt{\tilde d_i}} - \frac{h_j}{\sqrt{\tilde d_j}} \right\rVert^2
        = \operatorname{tr}\left(H^\top (I - \hat A) H\right)

    Parameters
    ----------
    graph
        The graph, of N nodes.
    h
        Features, shape (N, D).
    relative
        Divide by :math:`\lVert H \rVert^2`, so that the scale of `h` does not matter.

    Returns
    -------
    float
        In [0, 2 ‖H‖²), relative in [0, 2). It is 0 exactly where, on each connected component,
        nodes differ by the root of their degree alone, and where all features are 0.

    Raises
    ------
    TypeError, ValueError
        For features other than these.

    References
    ----------
    Cai & Wang 2020.

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> club = karate_club()
    >>> round(dirichlet_energy(club, club.features), 6) == round(34 - float(
    ...     (1 / club.degrees).sum()), 6)
    True
    >>> dirichlet_energy(club, club.degrees.sqrt()[:, None])
    0.0
    """
    h = _features("h", h, graph)
    scaled = h / graph.degrees.sqrt()[:, None]
    first, second = graph.edges
    energy = float((scaled[first] - scaled[second]).square().sum())
    return _of(energy, float(h.square().sum())) if relative else energy


def distance_to_limit(graph: Graph, h: ArrayLike) -> float:
    r"""Return how far node features are from the space in which smoothing ends.

    .. math::

        d_{\mathcal M}(H) = \left\lVert H - \sum_c v_c v_c^\top H \right\rVert_F, \qquad
        v_c \propto \sqrt{\tilde d} \text{ on the connected component } c, \text{ 0 elsewhere}

    Parameters
    ----------
    graph
        The graph, of N nodes.
    h
        Features, shape (N, D).

    Returns
    -------
    float
        In [0, ‖H‖]. It is 0 where the energy is.

    Raises
    ------
    TypeError, ValueError
        For features other than these.

    References
    ----------
    Oono & Suzuki 2020.

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> club = karate_club()
    >>> distance_to_limit(club, 3 * club.degrees.sqrt()[:, None]) < 1e-12
    True
    """
    h = _features("h", h, graph)
    root = graph.degrees.sqrt()[:, None]
    into = torch.zeros(int(graph.components.max()) + 1, 1 + h.shape[1], dtype=h.dtype)
    sums = into.index_add(0, graph.components, torch.cat([root.square(), root * h], dim=1))
    return float((h - root * (sums[:, 1:] / sums[:, :1])[graph.components]).norm())


def spectral_energy(graph: Graph, x: ArrayLike, layers: int, *, relative: bool = False) -> float:
    r"""Return the Dirichlet energy of :math:`\hat A^L X` by its closed form.

    .. math::

        E(\hat A^L X) = \sum_i \lambda_i^{2L} (1 - \lambda_i) \lVert u_i^\top X \rVert^2,
        \qquad \hat A = \sum_i \lambda_i u_i u_i^\top

    Parameters
    ----------
    graph, x
        The graph, and the features before the first layer, shape (N, D).
    layers
        :math:`L`, at least 0.
    relative
        Divide by :math:`\lVert \hat A^L X \rVert^2`, as :func:`dirichlet_energy` does.

    Returns
    -------
    float
        In [0, 2 ‖X‖²), relative in [0, 2); falls in the end by the square of the largest modulus
        below 1 a layer. 0 where the features are, or what is left of them cannot be told from 0.

    Raises
    ------
    TypeError, ValueError
        For features or layers other than these.

    References
    ----------
    The eigendecomposition, applied to the energy of Cai & Wang 2020.

    Examples
    --------
    >>> from repcollapse.graphs import karate_club
    >>> club = karate_club()
    >>> once = club.adjacency @ club.features
    >>> abs(spectral_energy(club, club.features, 1) - dirichlet_energy(club, once)) < 1e-12
    True
    """
    layers = _checks.integer("layers", layers, at_least=0)
    values, vectors = graph.spectrum.values, graph.spectrum.vectors
    shares = values ** (2 * layers) * (vectors.T @ _features("x", x, graph)).square().sum(dim=1)
    energy = float(((1 - values) * shares).sum())
    return _of(energy, float(shares.sum())) if relative else energy


def _features(name: str, value: ArrayLike, graph: Graph) -> Tensor:
    return rows_of(name, value, len(graph)).detach().cpu().double()


def _of(energy: float, whole: float) -> float:
    return energy / whole if whole > 0 else 0.0
