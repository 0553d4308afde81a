"""Bottlenecks of K codes: the nearest replaces what an encoder says, and which can be nearest."""

from __future__ import annotations

import math

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks

SIZE, WIDTH, BATCH = 64, 32, 128
COMMITMENT = 0.25  # van den Oord et al. 2017, section 3.2
DECAY = 0.95
# A code is dead when its running count falls below a tenth of an even share of the batch.
DEAD = 0.1


def straight_through(z: Tensor, e: Tensor) -> Tensor:
    r"""Return `e` in value, and pass the gradient that arrives on to `z` as it is.

    .. math:: z + \operatorname{sg}(e - z)

    Parameters
    ----------
    z, e
        What is replaced, and what replaces it, of one shape.

    Returns
    -------
    Tensor
        Of that shape; no gradient reaches `e`.

    References
    ----------
    Bengio et al. 2013; van den Oord et al. 2017, section 3.2.

    Examples
    --------
    >>> z = torch.tensor([0.2], requires_grad=True)
    >>> out = straight_through(z, z.round())
    >>> (3 * out).sum().backward()
    >>> out.item(), z.grad.item()
    (0.0, 3.0)
    """
    return z + (e - z).detach()


class Codebook(nn.Module):
    r"""K codes, of which the nearest replaces an output of the encoder.

    .. math:: \ell = \frac1d \left( \lVert \operatorname{sg}(z) - e \rVert^2
              + \beta \lVert z - \operatorname{sg}(e) \rVert^2 \right), \qquad \beta = 0.25

    for an output z of d numbers and its code e, the mean over outputs.

    Parameters
    ----------
    size, width
        How many codes, and of how many dimensions.
    scale
        Standard deviation of the normal distribution from which the codes are drawn.
    ema
        Move codes not by the first term of the loss but as running means of what they replace.
    reset
        Put a code of which the running count is below a tenth of an even share onto a random output
        of the batch, drawn from torch's global generator as the first codes are.
    unit
        Compare and decode directions: outputs and codes are divided by their norms.
    basis
        Freeze the codes, and learn one linear map of all of them.

    Raises
    ------
    ValueError
        For `ema` or `reset` together with `unit` or `basis`: the former move the codes themselves.
    """

    def __init__(
        self,
        size: int = SIZE,
        width: int = WIDTH,
        *,
        scale: float = 1.0,
        ema: bool = False,
        reset: bool = False,
        unit: bool = False,
        basis: bool = False,
    ) -> None:
        super().__init__()
        if (ema or reset) and (unit or basis):
            raise ValueError("unit and basis must be False with ema or reset; got True")
        self.size, self.width = size, width
        self.ema, self.reset, self.unit = ema, reset, unit
        self.weight = nn.Parameter(scale * torch.randn(size, width))
        self.weight.requires_grad_(not ema and not basis)
        self.basis = nn.Linear(width, width, bias=False) if basis else None
        self.count: Tensor
        self.total: Tensor
        self.register_buffer("count", torch.full((size,), BATCH / size))
        self.register_buffer("total", self.weight.detach() * BATCH / size)

    def codes(self) -> Tensor:
        """Return the codes as they are compared, shape (K, d)."""
        codes = self.weight if self.basis is None else self.basis(self.weight)
        return F.normalize(codes, dim=1) if self.unit else codes

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is decoded, (N, d), the index of each code, (N,), and the codebook's loss."""
        z = F.normalize(z, dim=1) if self.unit else z
        codes = self.codes()
        with torch.no_grad():
            index = (codes.square().sum(dim=1) - 2 * z @ codes.T).argmin(dim=1)
        e = codes[index]
        loss = COMMITMENT * F.mse_loss(z, e.detach())
        if not self.ema:
            loss = loss + F.mse_loss(e, z.detach())
        return straight_through(z, e), index, loss

    @torch.no_grad()
    def start_from(self, z: Tensor, seed: int) -> None:
        """Put the codes onto the centres that k-means finds in the outputs `z`, shape (N, d).

        Raises
        ------
        ValueError
            With `unit` or `basis`, where codes are not what is stored; or for less than K outputs.
        """
        if self.unit or self.basis is not None:
            raise ValueError("unit and basis must be False for a start from k-means; got True")
        if len(z) < self.size:
            raise ValueError(f"z needs at least {self.size} rows; got {len(z)}")
        kmeans = KMeans(self.size, n_init=1, random_state=seed).fit(z.cpu().numpy())
        self.weight.copy_(torch.from_numpy(kmeans.cluster_centers_))
        self.total.copy_(self.weight * self.count[:, None])

    @torch.no_grad()
    def update(self, z: Tensor, index: Tensor) -> None:
        """Note what a batch was replaced by; move running means, and reset dead codes."""
        if not (self.ema or self.reset):
            return
        members = F.one_hot(index, self.size).to(z.dtype)
        self.count.lerp_(members.sum(dim=0), 1 - DECAY)
        self.total.lerp_(members.T @ z, 1 - DECAY)
        if self.ema:
            self.weight.copy_(self.total / self.count.clamp(min=1e-5)[:, None])
        if self.reset:
            share = len(z) / self.size
            dead = (self.count < DEAD * share).nonzero()[:, 0]
            self.weight[dead] = z[torch.randint(len(z), (len(dead),))]
            self.count[dead] = share
            self.total[dead] = self.weight[dead] * share


class FSQ(nn.Module):
    """Finite scalar quantisation: each dimension of z is squashed and rounded to a few levels.

    Nobody learns the codes; there are as many as ways to choose a level for each dimension.

    Parameters
    ----------
    levels
        How many for each dimension, each at least 2.

    Raises
    ------
    TypeError, ValueError
        For levels other than these.

    References
    ----------
    Mentzer et al. 2024, section 3.

    Examples
    --------
    >>> quantised, index, _ = FSQ((2, 3))(torch.tensor([[-9.0, 0.1], [9.0, 9.0]]))
    >>> quantised.tolist(), index.tolist()
    ([[-1.0, 0.0], [1.0, 1.0]], [2, 5])
    """

    def __init__(self, levels: tuple[int, ...] = (4, 4, 4)) -> None:
        super().__init__()
        levels = tuple(_checks.integer("levels", level, at_least=2) for level in levels)
        _checks.integer("the number of levels", len(levels), at_least=1)
        self.size, self.width = math.prod(levels), len(levels)
        self.top: Tensor
        self.place: Tensor
        self.register_buffer("top", torch.tensor(levels) - 1)
        places = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("place", torch.tensor(places))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is decoded, (N, d), in [-1, 1], the indices, (N,), and a loss of zero."""
        inside = (torch.tanh(z) + 1) / 2 * self.top
        level = inside.detach().round()
        index = (level.long() * self.place).sum(dim=1)
        return straight_through(inside, level) * 2 / self.top - 1, index, z.new_zeros(())

    def update(self, z: Tensor, index: Tensor) -> None:
        """Do nothing: there is nothing to move."""


@torch.no_grad()
def out_of_reach(z: Tensor, codes: Tensor) -> Tensor:
    r"""Return which codes cannot be the nearest to any point of the ball around the outputs `z`.

    With c the mean of z, r the largest distance from it, and :math:`e_1` the code nearest to c,

    .. math:: \frac{\lVert e_k - c \rVert^2 - \lVert e_1 - c \rVert^2}{2 \lVert e_k - e_1 \rVert}
              > r

    says that the plane half way between the two codes misses the ball.

    Parameters
    ----------
    z, codes
        Shapes (N, d) and (K, d).

    Returns
    -------
    Tensor
        Booleans, shape (K,). All but one are true where the outputs are one point that has one
        nearest code. Invariant to a shift, a rotation or a scale of both.

    Raises
    ------
    TypeError, ValueError
        For matrices other than these.

    Examples
    --------
    >>> z = torch.tensor([[-1.0], [1.0]])
    >>> out_of_reach(z, torch.tensor([[0.0], [1.5], [3.0]])).tolist()
    [False, False, True]
    """
    z = _checks.as_matrix("z", z, min_rows=1).double()
    codes = _checks.as_matrix("codes", codes, dimension=z.shape[1]).double()
    centre = z.mean(dim=0)
    radius = (z - centre).norm(dim=1).max()
    square = (codes - centre).square().sum(dim=1)
    first = square.argmin()
    apart = (codes - codes[first]).norm(dim=1)
    # Written as a product, the first code and its doubles are within reach: 0 > 0 is false.
    return square - square[first] > 2 * radius * apart
