"""Codebook collapse: an autoencoder whose bottleneck is the nearest of K codes.

A picture x is encoded to z, z is replaced by the nearest code e, and e is decoded. There is one
code a picture: whatever it learns, the decoder can draw K pictures at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.checkups.codes import usage
from repcollapse.data import load, stream
from repcollapse.modes.runs import fit
from repcollapse.networks import mlp
from repcollapse.training import pick_device

SIZE, WIDTH, HIDDEN, BATCH = 64, 32, 128, 128
COMMITMENT = 0.25  # van den Oord et al. 2017, section 3.2
DECAY = 0.95
# A code is dead when its running count falls below a tenth of an even share of the batch.
DEAD = 0.1


def straight_through(z: Tensor, e: Tensor) -> Tensor:
    r"""Return `e` in value, and pass the gradient that arrives on to `z` as it is.

    .. math:: z + \operatorname{sg}(e - z)

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

    .. math:: \ell = \lVert \operatorname{sg}(z) - e \rVert^2
              + \beta \lVert z - \operatorname{sg}(e) \rVert^2, \qquad \beta = 0.25

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
        of the batch.
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
        """Put the codes onto the centres that k-means finds in the outputs `z`."""
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


class Grid(nn.Module):
    """Codes that nobody learns: each dimension of z is squashed and rounded to a few levels."""

    def __init__(self, levels: tuple[int, ...] = (4, 4, 4)) -> None:
        super().__init__()
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


@dataclass(frozen=True)
class Quantised:
    """An autoencoder after training, read on pictures it has not seen.

    Attributes
    ----------
    used, share, perplexity
        How many codes are in use, which share of all that is, and how many in effect.
    error
        Mean squared error of the reconstruction over that of the mean training picture, in
        [0, inf): 1 where the decoder draws the mean whatever the code.
    accuracy
        How often a picture is of the class to which most training pictures of its code belong.
    size
        How many codes there are.
    index, z, drawn
        The code of each picture, (N,), what the encoder makes of it, (N, d), and what the decoder
        does, (N, P).
    codes
        The codes, (K, d); None for a :class:`Grid`.
    trail
        z and codes before training and at the steps asked for.
    """

    used: int
    share: float
    perplexity: float
    error: float
    accuracy: float
    size: int
    index: Tensor
    z: Tensor
    drawn: Tensor
    codes: Tensor | None
    trail: dict[int, tuple[Tensor, Tensor | None]]


@lru_cache(maxsize=16)  # every arm of a seed has the same, and some are slow to draw
def pictures(dataset: str, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pixels and the classes of training and of test pictures.

    The mean training picture is zero, and the mean square of a training pixel one.
    """
    both = load(dataset, seed=seed)
    train, test = both.train.images.flatten(1), both.test.images.flatten(1)
    mean = train.mean(dim=0)
    scale = (train - mean).square().mean().sqrt()
    return (train - mean) / scale, both.train.labels, (test - mean) / scale, both.test.labels


def pixel_error(dataset: str, seed: int, size: int = SIZE) -> float:
    """Return the error on test pictures when each is replaced by the nearest of K pictures.

    The K pictures are those that k-means finds among the training pictures. A decoder of K codes
    draws K pictures as well; this is what they leave if they are chosen for nothing else.
    """
    train, _, test, _ = pictures(dataset, seed)
    drawn = KMeans(size, n_init=1, random_state=seed).fit(train.numpy())
    return _share_of_mean(
        torch.from_numpy(drawn.cluster_centers_[drawn.predict(test.numpy())]), test
    )


def _share_of_mean(drawn: Tensor, test: Tensor) -> float:
    return float((drawn - test).double().square().mean() / test.double().square().mean())


def train(
    make: Callable[[], Codebook | Grid],
    *,
    dataset: str,
    seed: int,
    steps: int,
    device: str = "auto",
    kmeans: bool = False,
    at: Collection[int] = (),
) -> Quantised:
    """Train an autoencoder with one code a picture, and read it on unseen pictures.

    Parameters
    ----------
    make
        Returns the bottleneck; it is called under the seed.
    dataset, seed, steps, device
        Pictures and their split, initialisation and batches follow from the seed.
    kmeans
        Start the codes from k-means of the untrained encoder's outputs.
    at
        The steps whose z and codes are kept, of the test pictures.
    """
    place = pick_device(device)
    x, classes, x_test, classes_test = (part.to(place) for part in pictures(dataset, seed))
    bottleneck = make()
    encoder = mlp([x.shape[1], HIDDEN, bottleneck.width], norm="none")
    decoder = mlp([bottleneck.width, HIDDEN, x.shape[1]], norm="none")
    model = nn.ModuleList([encoder, bottleneck, decoder]).to(place)
    if kmeans and isinstance(bottleneck, Codebook):
        with torch.no_grad():
            bottleneck.start_from(encoder(x), seed)
    order = stream(seed, "codebook batches")
    trail: dict[int, tuple[Tensor, Tensor | None]] = {}

    def loss(step: int) -> Tensor:
        batch = x[torch.randint(len(x), (BATCH,), generator=order)]
        z = encoder(batch)
        quantised, index, own = bottleneck(z)
        bottleneck.update(z.detach(), index)
        return F.mse_loss(decoder(quantised), batch) + own

    def codes() -> Tensor | None:
        return bottleneck.codes().clone().cpu() if isinstance(bottleneck, Codebook) else None

    def keep(step: int) -> None:
        trail[step] = encoder(x_test).cpu(), codes()

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(learned, lr=3e-3, fused=True)
    fit(adam, loss, steps=steps, watch=keep, at=at)
    with torch.no_grad():
        z = encoder(x_test)
        quantised, index, _ = bottleneck(z)
        drawn = decoder(quantised)
        votes = torch.zeros(bottleneck.size, int(classes.max()) + 1, device=place)
        votes.index_put_((bottleneck(encoder(x))[1], classes), x.new_ones(()), accumulate=True)
        right = (votes.argmax(dim=1)[index] == classes_test).double().mean()
        found = usage(index.bincount(minlength=bottleneck.size))
        return Quantised(
            found.used,
            found.share,
            found.perplexity,
            _share_of_mean(drawn, x_test),
            float(right),
            bottleneck.size,
            index.cpu(),
            z.cpu(),
            drawn.cpu(),
            codes(),
            trail,
        )
