"""Four data sets behind one function: `load`.

- `digits`: 1797 handwritten digits, 8x8; views moved; from scikit-learn, offline.
- `sprites`: eight shapes with known content, 24x24; views moved; drawn on the spot.
- `fashion_mnist`: 70,000 pieces of clothing, 28x28; views moved; downloaded once, 30 MB.
- `cifar10`: 60,000 colour photographs, 32x32; views augmented; downloaded once, 162 MB.

The environment variable REPCOLLAPSE_DATA may name a folder that has the official files of the last
two (see `repcollapse.data.files`); nothing is then downloaded.
"""

from __future__ import annotations

from collections.abc import Callable

from repcollapse import _checks
from repcollapse.data.dataset import Dataset, Split, ViewKind, stratified_order, stream
from repcollapse.data.digits import load_digits
from repcollapse.data.official import load_cifar10, load_fashion_mnist
from repcollapse.data.sprites import load_sprites

__all__ = [
    "NAMES",
    "Dataset",
    "Split",
    "ViewKind",
    "load",
    "stratified_order",
    "stream",
]

# The loader of each, with how many train and test images it gives by default.
_LOADERS: dict[str, tuple[Callable[[int, int, int], Dataset], int, int]] = {
    "digits": (load_digits, 1300, 497),
    "sprites": (load_sprites, 1536, 512),
    "fashion_mnist": (load_fashion_mnist, 2000, 500),
    "cifar10": (load_cifar10, 2000, 500),
}
NAMES = tuple(_LOADERS)


def load(
    name: str, *, seed: int = 0, n_train: int | None = None, n_test: int | None = None
) -> Dataset:
    """Return a data set, split by `seed`.

    Of the digits, the seed draws which are for training and which for testing; of Fashion-MNIST and
    CIFAR-10, which of the official train images and which of the official test images are used; the
    sprites it draws anew. All draws are in proportion to the classes.

    Parameters
    ----------
    name : {"digits", "sprites", "fashion_mnist", "cifar10"}
    seed : int
        At least 0.
    n_train, n_test : int, optional
        How many images of each split, at least 2. By default 1300 and 497 digits, 1536 and 512
        sprites, 2000 and 500 of the others; at most 1797 digits together, as many sprites as you
        like, 60,000 and 10,000 of Fashion-MNIST, 50,000 and 10,000 of CIFAR-10.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError, TypeError
        Where an argument is not as above, or a file is damaged.
    FileNotFoundError
        Where REPCOLLAPSE_DATA is set and the folder lacks the files.
    ConnectionError
        Where the files must be downloaded and cannot be.
    ImportError
        Where they must be downloaded and pooch is not installed.

    Examples
    --------
    >>> digits = load("digits", seed=3)
    >>> tuple(digits.train.images.shape), len(digits.test)
    ((1300, 1, 8, 8), 497)
    >>> sorted(load("sprites", n_train=16, n_test=8).train.factors)
    ['elongation', 'stroke', 'tone']
    """
    _checks.choice("name", name, NAMES)
    seed = _checks.integer("seed", seed, at_least=0)
    loader, default_train, default_test = _LOADERS[name]
    n_train = _checks.integer("n_train", default_train if n_train is None else n_train, at_least=2)
    n_test = _checks.integer("n_test", default_test if n_test is None else n_test, at_least=2)
    return loader(seed, n_train, n_test)
