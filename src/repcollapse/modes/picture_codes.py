"""Codebook collapse: an autoencoder of pictures whose bottleneck is the nearest of K codes.

A picture x is encoded to z, z is replaced by the nearest code e, and e is decoded. There is one
code a picture: whatever it learns, the decoder can draw K pictures at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse.checkups import Usage, usage
from repcollapse.data import stream
from repcollapse.modes.codebook import BATCH, FSQ, SIZE, Codebook
from repcollapse.modes.fitting import fit
from repcollapse.modes.pictures import Pictures, pictures
from repcollapse.networks import mlp
from repcollapse.training import pick_device, seeded

HIDDEN, LEARNING_RATE = 128, 3e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """An autoencoder after training, read on pictures it has not seen.

    Attributes
    ----------
    error
        Mean squared error of the reconstruction over that of the mean training picture, in
        [0, inf): 1 where the decoder draws the mean whatever the code.
    accuracy
        How often a picture is of the class to which most training pictures of its code belong.
    size
        How many codes there are, K.
    index, z, drawn
        The code of each picture, (N,), what the encoder makes of it, (N, d), and what the decoder
        does, (N, P).
    codes
        The codes, (K, d); None for a :class:`repcollapse.modes.codebook.FSQ`.
    trail
        z and codes by step, at the steps asked for.
    """

    error: float
    accuracy: float
    size: int
    index: Tensor
    z: Tensor
    drawn: Tensor
    codes: Tensor | None
    trail: dict[int, tuple[Tensor, Tensor | None]]

    @property
    def usage(self) -> Usage:
        """How many codes are in use, and how evenly."""
        return usage(self.index.bincount(minlength=self.size))


def pixel_rows(dataset: str, seed: int) -> Pictures:
    """Return pictures as rows of pixels: the mean training picture is zero, the mean square one.

    Those of :func:`repcollapse.modes.pictures.pictures` about "pixels", shapes (N, P) and (M, P).

    Examples
    --------
    >>> rows = pixel_rows("digits", 0).train
    >>> rows.shape, round(float(rows.square().mean()), 3)
    (torch.Size([1300, 64]), 1.0)
    """
    return pictures(dataset, seed, about="pixels").each(lambda images: images.flatten(1))


def pixel_error(dataset: str, seed: int, size: int = SIZE) -> float:
    """Return the error on test pictures when each is replaced by the nearest of K pictures.

    The K pictures are those that k-means finds among the training pictures. A decoder of K codes
    draws K pictures as well; this is what they leave if they are chosen for nothing else.

    Parameters
    ----------
    dataset, seed
        As in :func:`repcollapse.data.load`; the seed is that of k-means as well.
    size
        K, at least 1 and at most the number of training pictures.

    Returns
    -------
    float
        In [0, inf), about 1 for one picture: the error of the mean training picture.

    Examples
    --------
    >>> pixel_error("digits", 0, size=32) < pixel_error("digits", 0, size=2) < 1
    True
    """
    rows = pixel_rows(dataset, seed)
    centres = KMeans(size, n_init=1, random_state=seed).fit(rows.train.numpy())
    drawn = torch.from_numpy(centres.cluster_centers_[centres.predict(rows.test.numpy())])
    return _share_of_mean(drawn, rows.test)


def _share_of_mean(drawn: Tensor, test: Tensor) -> float:
    return float((drawn - test).double().square().mean() / test.double().square().mean())


class Autoencoder(nn.Module):
    """A perceptron to a bottleneck and one from it, drawn from torch's global generator.

    Parameters
    ----------
    pixels
        P.
    bottleneck
        Of K codes of d dimensions.
    """

    def __init__(self, pixels: int, bottleneck: Codebook | FSQ) -> None:
        super().__init__()
        self.encoder = mlp([pixels, HIDDEN, bottleneck.width], norm="none")
        self.bottleneck = bottleneck
        self.decoder = mlp([bottleneck.width, HIDDEN, pixels], norm="none")

    def codes(self) -> Tensor | None:
        """Return a copy of the codes on the CPU, (K, d), None where nobody learns them."""
        own = self.bottleneck
        return own.codes().detach().clone().cpu() if isinstance(own, Codebook) else None


def train(
    make: Callable[[], Codebook | FSQ],
    seed: int,
    *,
    steps: int,
    dataset: str = "digits",
    kmeans: bool = False,
    at: Collection[int] = (),
    device: str = "auto",
) -> Trained:
    """Train an autoencoder with one code a picture, and read it on unseen pictures.

    Parameters
    ----------
    make
        Returns the bottleneck; it is called under the seed.
    seed
        Of the split, the first weights and codes, the batches, k-means and resets.
    steps, dataset
        How many steps of Adam on batches of 128, and of which pictures.
    kmeans
        Start the codes of a :class:`repcollapse.modes.codebook.Codebook` from k-means of the
        untrained encoder's outputs.
    at
        The steps whose z and codes are kept, of the test pictures, 0 to `steps`.
    device
        Where to train, as in :func:`repcollapse.training.pick_device`.

    Returns
    -------
    Trained
        All on the CPU.

    Raises
    ------
    TypeError, ValueError
        For k-means without codes to start, steps, one of `at` beyond them, a data set or a device
        other than these.

    Examples
    --------
    >>> found = train(Codebook, 0, steps=2, at=(0,))
    >>> found.z.shape, list(found.trail)
    (torch.Size([497, 32]), [0])
    """
    place = pick_device(device)
    rows = pixel_rows(dataset, seed).to(place)
    order = stream(seed, "codebook batches")
    trail: dict[int, tuple[Tensor, Tensor | None]] = {}
    with seeded(seed, place):
        model = Autoencoder(rows.train.shape[1], make()).to(place)
        if kmeans:
            _start_from_kmeans(model, rows.train, seed)

        def loss(step: int) -> Tensor:
            batch = rows.train[torch.randint(len(rows.train), (BATCH,), generator=order).to(place)]
            z = model.encoder(batch)
            quantised, index, own = model.bottleneck(z)
            model.bottleneck.update(z.detach(), index)
            return F.mse_loss(model.decoder(quantised), batch) + own

        def keep(step: int) -> None:
            trail[step] = model.encoder(rows.test).cpu(), model.codes()

        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        adam = torch.optim.Adam(learned, lr=LEARNING_RATE, fused=True)
        fit(adam, loss, steps=steps, watch=keep, at=at)
    return _read(model, rows, trail)


def _start_from_kmeans(model: Autoencoder, x: Tensor, seed: int) -> None:
    if not isinstance(model.bottleneck, Codebook):
        raise ValueError("kmeans must be False for a bottleneck without codes; got True")
    with torch.no_grad():
        model.bottleneck.start_from(model.encoder(x), seed)


@torch.no_grad()
def _read(
    model: Autoencoder, rows: Pictures, trail: dict[int, tuple[Tensor, Tensor | None]]
) -> Trained:
    z = model.encoder(rows.test)
    quantised, index, _ = model.bottleneck(z)
    drawn = model.decoder(quantised)
    codes_of_train = model.bottleneck(model.encoder(rows.train))[1]
    votes = z.new_zeros(model.bottleneck.size, rows.classes)
    votes.index_put_((codes_of_train, rows.train_labels), z.new_ones(()), accumulate=True)
    right = (votes.argmax(dim=1)[index] == rows.test_labels).double().mean()
    return Trained(
        error=_share_of_mean(drawn, rows.test),
        accuracy=float(right),
        size=model.bottleneck.size,
        index=index.cpu(),
        z=z.cpu(),
        drawn=drawn.cpu(),
        codes=model.codes(),
        trail=trail,
    )
