r"""Views: what the two sides of a joint embedding see of one image.

All views are rendered once, into a `ViewBank`; a training batch then costs no more than indexing.
Two ways to make a view, named by `Dataset.views`:

- *moved*: the image is pasted on a canvas at a random place, angle and scale, over a random wave,
  with noise. All of it is recorded, so one can ask which nuisances an embedding still carries.
- *augmented*: random crop, flip, colour jitter and greying, as for photographs (SimCLR's recipe
  without blur), with what the crop, the flip and the greying did recorded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from repcollapse import _checks, augmentation
from repcollapse.data import NAMES, Dataset, Split, load, stream

_CHUNK = 1024  # images rendered at once: bounds the memory a bank costs beside itself


@dataclass(frozen=True)
class Motion:
    """How far a moved view goes. The canvas reaches from -1 to 1 in both directions.

    Parameters
    ----------
    shift : float
        x and y of the image's centre are uniform in ±shift; x points right, y down.
    rotation : float
        The angle is uniform in ±rotation, in radians; positive turns clockwise.
    scale : pair of float
        Half the side of the pasted image is uniform between the two.
    background : float
        The amplitude of the wave behind the image is uniform in [0, background].
    noise : float
        Standard deviation of the normal noise on each pixel.

    Raises
    ------
    ValueError, TypeError
        Where a value is negative or no number, or scale is not 0 < low <= high.

    Examples
    --------
    >>> Motion(rotation=0.0).shift
    0.25
    """

    shift: float = 0.25
    rotation: float = 0.3
    scale: tuple[float, float] = (0.6, 0.8)
    background: float = 0.4
    noise: float = 0.05

    def __post_init__(self) -> None:
        for name in ("shift", "rotation", "background", "noise"):
            _checks.number(name, getattr(self, name), at_least=0)
        if not isinstance(self.scale, tuple) or len(self.scale) != 2:
            raise TypeError(f"scale must be a pair (low, high); got {self.scale!r}")
        low = _checks.number("scale[0]", self.scale[0], above=0)
        _checks.number("scale[1]", self.scale[1], at_least=low)


# Sprites turn further than digits may: no sprite becomes another, as a 6 becomes a 9.
_MOTIONS = {"sprites": Motion(rotation=0.6)}


@dataclass(frozen=True, eq=False)
class ViewBank:
    """All views of all images of a split, standardised.

    Parameters
    ----------
    views : Tensor, shape (N, V, C, S, S)
        float32. Standardised per channel by the mean and standard deviation of the *train* bank.
    labels : Tensor, shape (N,)
        int64 class labels.
    factors : dict of str to Tensor of shape (N, V)
        The true nuisances, by which the views of one image differ. Moved views: `x`, `y`,
        `rotation`, `scale`, `background` (the wave's amplitude), as in `Motion`. Augmented views:
        `x`, `y` (the crop's centre, the image reaching from -1 to 1), `scale` (the crop's area as a
        fraction), `flip` and `grey` (0 or 1).
    content : dict of str to Tensor of shape (N, V)
        The known content factors, the same in all views of an image. Empty where none are known.
    mean, std : Tensor, shape (C,)
        What the views were standardised by, in pixel values.
    """

    views: Tensor
    labels: Tensor
    factors: dict[str, Tensor]
    content: dict[str, Tensor]
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.views)

    @property
    def n_views(self) -> int:
        """How many views of each image there are."""
        return self.views.shape[1]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, S, S) of one view."""
        channels, height, width = self.views.shape[2:]
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the views are."""
        return self.views.device

    def sample_pair(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return two different views of each of `batch_size` different random images.

        Parameters
        ----------
        batch_size : int
            From 1 to N.
        generator : torch.Generator
            Governs the draw. One on the CPU draws the same batches whatever device the bank is on.

        Returns
        -------
        x_a, x_b : Tensor, shape (batch_size, C, S, S)
            Row i of both shows the same image.

        Raises
        ------
        ValueError, TypeError
            Where `batch_size` is not from 1 to N or `generator` is no generator.

        Examples
        --------
        >>> bank, _ = banks("digits", views=2, test_views=2)
        >>> x_a, x_b = bank.sample_pair(4, torch.Generator().manual_seed(0))
        >>> tuple(x_a.shape), bool((x_a == x_b).all())
        ((4, 1, 16, 16), False)
        """
        _checks.integer("batch_size", batch_size, at_least=1, at_most=len(self))
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator; got {type(generator).__name__}")
        draw: dict[str, Any] = {"generator": generator, "device": generator.device}
        rows = torch.randperm(len(self), **draw)[:batch_size]
        first = torch.randint(self.n_views, (batch_size,), **draw)
        # 1 to V-1 further on, around the end: every other view is equally likely.
        step = torch.randint(1, self.n_views, (batch_size,), **draw)
        second = (first + step) % self.n_views
        flat = self.views.flatten(0, 1)
        picks = (rows * self.n_views + torch.stack([first, second])).to(self.device)
        view_a, view_b = flat.index_select(0, picks.flatten()).chunk(2)
        return view_a, view_b

    def select(self, rows: Tensor) -> ViewBank:
        """Return the bank of the images `rows` alone, by index, standardised as before.

        Examples
        --------
        >>> bank, _ = banks("digits", views=2, test_views=2)
        >>> len(bank.select(torch.arange(10)))
        10
        """

        def of(columns: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: values[rows] for name, values in columns.items()}

        picked = {"views": self.views[rows], "labels": self.labels[rows]}
        return replace(self, **picked, factors=of(self.factors), content=of(self.content))

    def first(self, views: int) -> ViewBank:
        """Return the bank of the first `views` views of each image, from 1 to V, alone.

        Raises
        ------
        ValueError, TypeError
            For more views than there are, or none.

        Examples
        --------
        >>> bank, _ = banks("digits", views=4, test_views=2)
        >>> bank.first(2).n_views, bank.first(2).factors["x"].shape == (1300, 2)
        (2, True)
        """
        _checks.integer("views", views, at_least=1, at_most=self.n_views)

        def of(columns: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: values[:, :views] for name, values in columns.items()}

        kept = self.views[:, :views].contiguous()
        return replace(self, views=kept, factors=of(self.factors), content=of(self.content))

    def to(self, device: torch.device | str) -> ViewBank:
        """Return the bank with every tensor on `device`."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: tensor.to(device) for name, tensor in value.items()}
            return value.to(device)

        return replace(self, **{f.name: moved(getattr(self, f.name)) for f in fields(self)})


def make_bank(
    split: Split,
    dataset: Dataset,
    *,
    views: int = 16,
    side: int | None = None,
    seed: int = 0,
    like: ViewBank | None = None,
    motion: Motion | None = None,
) -> ViewBank:
    r"""Render a bank of views of one split.

    A moved view shows at canvas point :math:`p\in[-1,1]^2`

    .. math:: I\!\left(R_\varphi^{-1}(p-t)/s\right) + b\,\sin(k\cdot p+\psi) + \varepsilon_p

    with :math:`I` the image, 0 outside its own :math:`[-1,1]^2`; :math:`t` the shift,
    :math:`\varphi` the rotation, :math:`s` the scale and :math:`b` the background, all as `Motion`
    says; a wave vector :math:`k` of random direction with one to two periods across the canvas, a
    random phase :math:`\psi`, and normal noise :math:`\varepsilon`.

    Parameters
    ----------
    split : Split
        What to show: `dataset.train` or `dataset.test`.
    dataset : Dataset
        The set that the split belongs to; it says how its views are made.
    views : int
        V, how many views of each image, at least 2.
    side : int, optional
        S, the side of a view in pixels, at least 8. By default 16 for moved views and 32 for
        augmented ones.
    seed : int
        Governs all views, at least 0.
    like : ViewBank, optional
        The train bank, for a test bank: its mean and standard deviation are used, and its random
        stream is not repeated.
    motion : Motion, optional
        How far moved views go; by default `Motion()`, for sprites with rotation 0.6.

    Returns
    -------
    ViewBank
        4 N V C S² bytes: 21 MB for the digits at the defaults, 390 MB for CIFAR-10's.

    Raises
    ------
    ValueError, TypeError
        Where an argument is not as above.

    Examples
    --------
    >>> digits = load("digits")
    >>> train = make_bank(digits.train, digits, views=4)
    >>> test = make_bank(digits.test, digits, views=2, like=train)
    >>> tuple(test.views.shape), sorted(test.factors)
    ((497, 2, 1, 16, 16), ['background', 'rotation', 'scale', 'x', 'y'])
    """
    _check_kind("split", split, Split)
    _check_kind("dataset", dataset, Dataset)
    _checks.integer("views", views, at_least=2)
    moved = dataset.views == "moved"
    side = _checks.integer("side", (16 if moved else 32) if side is None else side, at_least=8)
    if like is not None:
        _check_kind("like", like, ViewBank)
        if like.shape != (split.channels, side, side):
            raise ValueError(
                f"like must hold views of shape {(split.channels, side, side)}; got {like.shape}"
            )
    generator = stream(seed, f"{dataset.name} views{'' if like is None else ' of a second split'}")
    if moved:
        motion = _MOTIONS.get(dataset.name, Motion()) if motion is None else motion
        _check_kind("motion", motion, Motion)
        pixels, factors = _moved(split.images, views, side, motion, generator)
    elif motion is not None:
        raise ValueError(f"motion must be None for augmented views, {dataset.name}'s; got {motion}")
    else:
        pixels, factors = _augmented(split.images, views, side, generator)
    mean, std = _moments(pixels) if like is None else (like.mean.cpu(), like.std.cpu())
    pixels.sub_(mean[:, None, None]).div_(std[:, None, None])
    content = {name: values[:, None].expand(-1, views) for name, values in split.factors.items()}
    return ViewBank(pixels, split.labels, factors, content, mean, std)


def banks(
    dataset: str | Dataset,
    *,
    seed: int = 0,
    views: int = 16,
    test_views: int = 8,
    side: int | None = None,
    motion: Motion | None = None,
) -> tuple[ViewBank, ViewBank]:
    """Return the train and the test bank of a data set: split and views all governed by `seed`.

    Parameters
    ----------
    dataset : str or Dataset
        A name that `repcollapse.data.load` knows, loaded with `seed`; or one already loaded.
    seed, side, motion
        As in `make_bank`.
    views, test_views : int
        Views of each train and of each test image, at least 2.

    Returns
    -------
    train, test : ViewBank

    Raises
    ------
    ValueError, TypeError, ImportError
        As `load` and `make_bank` do.

    Examples
    --------
    >>> train, test = banks("digits", seed=1, views=2, test_views=2)
    >>> len(train), len(test), bool(train.mean == test.mean)
    (1300, 497, True)
    """
    _checks.integer("test_views", test_views, at_least=2)
    if not isinstance(dataset, Dataset):
        dataset = load(_checks.choice("dataset", dataset, NAMES), seed=seed)
    train = make_bank(dataset.train, dataset, views=views, side=side, seed=seed, motion=motion)
    test = make_bank(
        *(dataset.test, dataset), views=test_views, side=side, seed=seed, like=train, motion=motion
    )
    return train, test


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}; got {type(value).__name__}")


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    # Over images, views and places; in float64, where sums of millions of pixels lose no digits
    # that matter, and a chunk at a time, so that no copy of the bank is made.
    total, squares = (torch.zeros(pixels.shape[2], dtype=torch.float64) for _ in range(2))
    for chunk in pixels.split(_CHUNK):
        exact = chunk.double()
        total += exact.sum(dim=(0, 1, 3, 4))
        squares += exact.square_().sum(dim=(0, 1, 3, 4))
    count = pixels.numel() / pixels.shape[2]
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(1e-12)
    return mean.float(), variance.sqrt().float()


# --- moved views


def _moved(
    images: Tensor, views: int, side: int, motion: Motion, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(len(images), views).uniform_(low, high, generator=generator)

    factors = {
        "x": uniform(-motion.shift, motion.shift),
        "y": uniform(-motion.shift, motion.shift),
        "rotation": uniform(-motion.rotation, motion.rotation),
        "scale": uniform(*motion.scale),
        "background": uniform(0, motion.background),
    }
    waves = _waves(factors["background"], side, generator)
    canvas = torch.empty(len(images), views, images.shape[1], side, side)
    canvas.normal_(0, motion.noise, generator=generator).add_(waves.unsqueeze(2))
    # An image shrunk to half its pixels or less would alias: paste it larger, then average.
    finer = max(1, round(images.shape[-1] / (side * sum(motion.scale) / 2)))
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        placed = {name: values[rows] for name, values in factors.items()}
        canvas[rows] += _paste(images[rows], placed, side, finer)
    return canvas, factors


def _paste(images: Tensor, placed: dict[str, Tensor], side: int, finer: int) -> Tensor:
    """Return the images on an empty canvas: (N, C, H, W) to (N, V, C, side, side)."""
    count, views = placed["x"].shape
    x, y, scale = (placed[name].flatten() for name in ("x", "y", "scale"))
    angle = placed["rotation"].flatten()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    # From a point of the canvas back to the image: undo the shift, the rotation, the scale.
    rows = [cos, sin, -cos * x - sin * y, -sin, cos, sin * x - cos * y]
    back = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    size = [count * views, images.shape[1], side * finer, side * finer]
    grid = F.affine_grid(back, size, align_corners=False)
    repeated = images.repeat_interleave(views, dim=0)
    pasted = F.grid_sample(repeated, grid, align_corners=False)
    if finer > 1:
        pasted = F.avg_pool2d(pasted, finer)
    return pasted.unflatten(0, (count, views))


def _waves(amplitude: Tensor, side: int, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> Tensor:
        return torch.empty_like(amplitude).uniform_(low, high, generator=generator)[..., None]

    direction, phase = uniform(0, 2 * math.pi), uniform(0, 2 * math.pi)
    rate = uniform(math.pi, 2 * math.pi)  # radians a unit; the canvas is two units wide
    place = (torch.arange(side) + 0.5) * 2 / side - 1
    along_x = (rate * direction.cos() * place + phase)[..., None, :]
    along_y = (rate * direction.sin() * place)[..., :, None]
    # sin(a + b) by the addition theorem: sines of rows and of columns, not of every pixel.
    wave = along_x.sin() * along_y.cos()
    wave += along_x.cos() * along_y.sin()
    return wave.mul_(amplitude[..., None, None])


# --- augmented views


def _augmented(
    images: Tensor, views: int, side: int, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    if images.shape[1] != 3:
        raise ValueError(
            f"split must hold colour images, (N, 3, H, W), for augmented views; "
            f"got shape {tuple(images.shape)}"
        )
    canvas = torch.empty(len(images), views, 3, side, side)
    factors = {name: torch.empty(len(images), views) for name in augmentation.FACTORS}
    height, width = images.shape[-2:]
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        for view in range(views):
            drawn = augmentation.draw(len(images[rows]), (height, width), generator, side=side)
            canvas[rows, view] = augmentation.augment(images[rows], drawn)
            for name, done in augmentation.factors(drawn).items():
                factors[name][rows, view] = done
    return canvas, factors
