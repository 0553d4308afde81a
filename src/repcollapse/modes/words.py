"""The geometry of word embeddings: what they have in common, and what is left without it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import stream

PAIRS = 2000


def cosine_to_mean(words: Tensor) -> Tensor:
    r"""Return how much of the mean word each word has.

    .. math:: \cos(w_v, \bar w), \qquad \bar w = \frac{1}{V} \sum_u w_u

    Parameters
    ----------
    words
        Shape (V, D), V >= 2.

    Returns
    -------
    Tensor
        Shape (V,), float64, in [-1, 1]. At complete collapse all are 1; of words of mean zero, 0
        but for rounding.

    Raises
    ------
    TypeError, ValueError
        For words other than these.

    References
    ----------
    Mu & Viswanath 2018, "All-but-the-top", section 2, for the mean that words have in common.

    Examples
    --------
    >>> cosine_to_mean(torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, 0.0]])).round(decimals=4)
    tensor([0.7071, 0.7071, 1.0000], dtype=torch.float64)
    """
    words = _checks.as_matrix("words", words).double()
    return F.cosine_similarity(words, words.mean(dim=0)[None])


def cosine_term(words: Tensor) -> Tensor:
    r"""Return the mean cosine of two different words, with its gradient.

    .. math::

        \frac{1}{V (V - 1)} \sum_{v \ne w} u_v^\top u_w
        = \frac{\lVert \sum_v u_v \rVert^2 - V}{V (V - 1)}, \qquad u = w / \lVert w \rVert

    Parameters
    ----------
    words
        Shape (V, D), V >= 2, none of them zero.

    Returns
    -------
    Tensor
        A scalar to minimise, in [-1 / (V - 1), 1]. At complete collapse it is 1.

    References
    ----------
    Gao et al. 2019, "Representation degeneration problem in training natural language generation
    models", section 5, but for a factor of :math:`1 - 1 / V`.

    Examples
    --------
    >>> [round(float(cosine_term(words)), 6) for words in (torch.eye(3), torch.ones(3, 2))]
    [0.0, 1.0]
    """
    count = len(words)
    total = F.normalize(words, dim=1).sum(dim=0).square().sum()
    return (total - count) / (count * (count - 1))


def isotropy(words: Tensor) -> float:
    r"""Return how evenly the partition function of a softmax sees directions, :math:`I(W)`.

    .. math:: \min_{c} Z(c) \,/\, \max_{c} Z(c), \qquad Z(c) = \sum_v e^{c^\top w_v},

    over the eigenvectors c of :math:`W^\top W` and their opposites.

    Parameters
    ----------
    words
        Shape (V, D), V >= 2.

    Returns
    -------
    float
        In [0, 1]: 1 where all directions are alike, as for words of length 0. It depends on the
        length of words; V equal ones of length r, a complete collapse, read :math:`e^{-2 r}`.

    Raises
    ------
    TypeError, ValueError
        For words other than these.

    References
    ----------
    Mu & Viswanath 2018, "All-but-the-top", section 2.1; they take the eigenvectors alone.

    Examples
    --------
    >>> round(isotropy(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    1.0
    """
    words = _checks.as_matrix("words", words).detach().double()
    axes = torch.linalg.eigh(words.T @ words).eigenvectors
    exponents = words @ torch.cat([axes, -axes], dim=1)
    sums = torch.logsumexp(exponents, dim=0)
    return float((sums.min() - sums.max()).exp())


def all_but_the_top(words: Tensor, directions: int = 0) -> Tensor:
    r"""Return words without their mean and without the directions in which they vary most.

    .. math:: \tilde w_v - \sum_{k \le K} (a_k^\top \tilde w_v)\, a_k,
              \qquad \tilde w_v = w_v - \bar w

    with :math:`a_1, \dots, a_K` the first principal directions.

    Parameters
    ----------
    words
        Shape (V, D), V >= 2.
    directions
        K in 0 to D; 0 only subtracts the mean.

    Returns
    -------
    Tensor
        Shape (V, D), float64, of mean zero. At complete collapse zero.

    Raises
    ------
    TypeError, ValueError
        For words or a number other than these.

    References
    ----------
    Mu & Viswanath 2018, "All-but-the-top", section 2.2.

    Examples
    --------
    >>> words = torch.tensor([[3.0, 1.0], [-1.0, 1.0], [1.0, 2.0], [1.0, 0.0]])
    >>> all_but_the_top(words, 1).abs().round(decimals=6).tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    words = _checks.as_matrix("words", words).double()
    count = _checks.integer("directions", directions, at_least=0, at_most=words.shape[1])
    centred = words - words.mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:count]
    return centred - centred @ axes.T @ axes


def closeness(words: Tensor, pairs: list[tuple[int, int]], seed: int) -> float:
    r"""Return how often a pair of words is closer, by cosine, than a random one.

    .. math::

        \frac{1}{P Q} \sum_{p, q} \left(
            \left[s_p > s_q\right] + \tfrac12 \left[s_p = s_q\right] \right)

    over the cosines :math:`s_p` of the P pairs and :math:`s_q` of the Q random ones: the area under
    the curve of telling the one from the other. Random are up to 2000 pairs, drawn from all but the
    unknown word; those that got one word twice are left out.

    Parameters
    ----------
    words
        Shape (V, D), V >= 3. The first is the unknown one.
    pairs
        Indices of the words that belong together.
    seed
        Of the random pairs.

    Returns
    -------
    float
        In [0, 1]: 1 if all pairs are closer than all random ones, 0.5 by chance and at complete
        collapse.

    Raises
    ------
    TypeError, ValueError
        For words or a seed other than these, or without a pair.

    References
    ----------
    Mann & Whitney 1947, "On a test of whether one of two random variables is stochastically larger
    than the other", over the product of the two numbers.

    Examples
    --------
    >>> words = torch.eye(8)
    >>> words[2] = words[1]
    >>> closeness(words, [(1, 2)], seed=0) > 0.9
    True
    """
    words = _checks.as_matrix("words", words, min_rows=3).double()
    if not pairs:
        raise ValueError("pairs must hold at least one pair; got none")
    units = F.normalize(words, dim=1)
    first, second = torch.tensor(pairs).T
    generator = stream(seed, "random pairs of words")
    one, other = torch.randint(1, len(words), (2, PAIRS), generator=generator)
    right = (units[first] * units[second]).sum(dim=1)
    wrong = (units[one] * units[other]).sum(dim=1)[one != other]
    closer = (right[:, None] - wrong).sign()
    return float((1 + closer.mean()) / 2)
