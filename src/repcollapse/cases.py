"""Labelled embeddings, made to be told apart: what a verdict is judged on.

A case is a family, a size and a seed; its label follows from how it is made, before anything is
measured. The limits of :mod:`repcollapse.diagnosis` were tuned on the cases of the first half
alone. A case labelled "ambiguous" lies between health and collapse by construction.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from repcollapse import _checks

__all__ = ["Case", "cases"]

ROWS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
DIMENSIONS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
LARGEST = 4_000_000  # numbers in a case, so that all of them take minutes
DTYPES = (torch.float32, torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
A_FAMILY = 16
FULL_SIZE = 50_000, 512  # of the one case with ten times as many


@dataclass(frozen=True)
class Case:
    """One labelled matrix, made when it is asked for.

    Attributes
    ----------
    family, about
        What it is an instance of, and what these are.
    label
        "healthy", "cone", "complete", "cluster", "dimensional" or "ambiguous".
    number
        Which of its family.
    rows, dimension
        N and D.
    rank
        How many dimensions the rows are drawn in, noise left aside: 200 rows, and ten times as many
        as that, have to be enough data.
    dtype
        Of the embeddings.
    """

    family: str
    about: str
    label: str
    number: int
    rows: int
    dimension: int
    rank: int
    dtype: torch.dtype
    _make: Callable[[torch.Generator], Tensor]

    @property
    def name(self) -> str:
        """The family and the number."""
        return f"{self.family}-{self.number:02d}"

    def embeddings(self) -> Tensor:
        """Return the matrix."""
        z = self._make(_generator("rows", self.name))
        return z.to(self.dtype)

    def right(self, verdict: str) -> bool:
        """Whether a verdict is the label, or says with good reason that the rows are too few."""
        enough = self.rows >= 200 and self.rows >= 10 * self.rank
        return verdict == self.label or (verdict == "not-enough-data" and not enough)


def cases(half: str = "both") -> list[Case]:
    """Return 641 labelled cases of 41 families, or half of them.

    Parameters
    ----------
    half
        "first": what limits may be tuned on; "second": what they are judged on, once; "both".

    Raises
    ------
    ValueError
        For another half.

    Examples
    --------
    >>> case = cases("first")[0]
    >>> case.name, case.label, case.rows, case.dimension
    ('isotropic-00', 'healthy', 500, 1024)
    >>> case.embeddings().shape
    torch.Size([500, 1024])
    """
    _checks.choice("half", half, ("first", "second", "both"))
    chosen = []
    for family in FAMILIES:
        made = family()
        by_hash = sorted(made, key=lambda case: hashlib.sha256(case.name.encode()).digest())
        parts = {"first": by_hash[::2], "second": by_hash[1::2], "both": made}
        chosen += sorted(parts[half], key=lambda case: case.number)
    return chosen


FAMILIES: list[Callable[[], list[Case]]] = []
_Made = tuple[int, Callable[[torch.Generator], Tensor]]


class _Draw:
    """Draws of the settings of one case, and its size."""

    def __init__(self, family: str, number: int) -> None:
        self.generator = _generator("settings", f"{family}-{number:02d}")
        self.dimension = self.of(DIMENSIONS)
        fitting = [n for n in ROWS if n * self.dimension <= LARGEST]
        self.rows = self.of(fitting)
        self.dtype = self.of(DTYPES)

    def of(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return options[int(torch.randint(len(options), (), generator=self.generator))]

    def between(self, low: float, high: float) -> float:
        """Return a number between two."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log_between(self, low: float, high: float) -> float:
        """Return a number between two positive ones, as likely small as large."""
        return math.exp(self.between(math.log(low), math.log(high)))


_Build = Callable[[_Draw], _Made]


def _generator(purpose: str, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{purpose} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))


def _family(label: str, *, count: int = A_FAMILY) -> Callable[[_Build], _Build]:
    """Register a family, a function of a draw that returns its rank and how a matrix is made."""

    def registered(build: _Build) -> _Build:
        name = build.__name__.replace("_", "-")
        about = str(build.__doc__)

        def make(number: int) -> Case:
            draw = _Draw(name, number)
            rank, rows = build(draw)
            size = draw.rows, draw.dimension
            return Case(name, about, label, number, *size, rank, draw.dtype, rows)

        FAMILIES.append(lambda: [make(number) for number in range(count)])
        return build

    return registered


# --- pieces


def _normal(g: torch.Generator, n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=g)


def _turned(g: torch.Generator, z: Tensor) -> Tensor:
    """Turn rows by a few reflections, so that nothing lies along an axis."""
    for _ in range(3):
        v = torch.nn.functional.normalize(torch.randn(z.shape[1], generator=g), dim=0)
        z = z - 2 * torch.outer(z @ v, v)
    return z


def _unit_variance(z: Tensor) -> Tensor:
    """Return rows about their mean, at a mean square distance of one."""
    z = z - z.mean(dim=0)
    return z / z.square().sum(dim=1).mean().sqrt()


def _scaled(g: torch.Generator, z: Tensor) -> Tensor:
    """Multiply by anything from a hundredth to a hundred, which half precision still holds."""
    return z * 10 ** float(4 * torch.rand((), generator=g) - 2)


def _offset(g: torch.Generator, z: Tensor, share: float) -> Tensor:
    """Add a mean that holds a share of the energy."""
    v = torch.nn.functional.normalize(torch.randn(z.shape[1], generator=g), dim=0)
    return _unit_variance(z) + v * math.sqrt(share / (1 - share))


def _power_law(g: torch.Generator, n: int, d: int, alpha: float) -> Tensor:
    scales = torch.arange(1, d + 1, dtype=torch.float32) ** (-alpha / 2)
    return _turned(g, _normal(g, n, d) * scales)


def _low_rank(g: torch.Generator, n: int, d: int, rank: int, noise: float) -> Tensor:
    """Return rows in `rank` dimensions, and a share of the variance of noise in all of them."""
    z = torch.zeros(n, d)
    z[:, :rank] = _normal(g, n, rank)
    return _turned(g, _unit_variance(z)) + _normal(g, n, d) * math.sqrt(noise / d)


def _assigned(g: torch.Generator, n: int, count: int, *, even: bool = True) -> Tensor:
    """Return the cluster of every row."""
    weights = torch.ones(count)
    if not even:
        weights = 0.2 + torch.rand(count, generator=g)
    chosen = torch.multinomial(weights, n, replacement=True, generator=g)
    chosen[: 2 * count] = torch.arange(count).repeat(2)[: len(chosen)]  # none is empty
    return chosen


def _clusters(
    g: torch.Generator,
    n: int,
    d: int,
    count: int,
    within: float,
    *,
    even: bool = True,
    plane: int | None = None,
) -> Tensor:
    """Return clusters with a share of the variance within, their centres in a plane or anywhere."""
    centres = torch.zeros(count, d)
    centres[:, : plane or d] = _normal(g, count, plane or d)
    if count == 2:
        centres[1] = -centres[0]
    z = _unit_variance(centres[_assigned(g, n, count, even=even)]) * math.sqrt(1 - within)
    return _turned(g, z) + _normal(g, n, d) * math.sqrt(within / d)


# --- healthy


@_family("healthy")
def isotropic(draw: _Draw) -> _Made:
    """Normal rows, as they are."""
    n, d = draw.rows, draw.dimension
    return d, lambda g: _scaled(g, _normal(g, n, d))


@_family("healthy")
def sphere(draw: _Draw) -> _Made:
    """Directions, uniform."""
    n, d = draw.rows, draw.dimension
    return d, lambda g: torch.nn.functional.normalize(_normal(g, n, d), dim=1)


@_family("healthy")
def power_law(draw: _Draw) -> _Made:
    """Spectra that fall as those of good features do."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(0.5, 1.25)
    return d, lambda g: _scaled(g, _power_law(g, n, d, alpha))


@_family("healthy")
def rectified(draw: _Draw) -> _Made:
    """Rectified features, correlated; more or fewer of them zero."""
    n, d, bias = draw.rows, draw.dimension, draw.between(-1.0, 0.0)
    alpha = draw.between(0.0, 0.75)
    # Standardised features, so that none is dead however the spectrum falls.
    return d, lambda g: _scaled(g, (_standard(_power_law(g, n, d, alpha)) + bias).relu())


def _standard(z: Tensor) -> Tensor:
    return (z - z.mean(dim=0)) / z.std(dim=0)


@_family("healthy")
def classes(draw: _Draw) -> _Made:
    """Well separated classes that have an inside, as a classifier's features."""
    n, d, count = draw.rows, draw.dimension, draw.of((3, 5, 10, 20))
    within = draw.between(0.15, 0.6)
    return d, lambda g: _scaled(g, _clusters(g, n, d, count, within, even=False))


@_family("healthy")
def outliers(draw: _Draw) -> _Made:
    """A few rows a hundred times as long as the others."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(0.0, 1.0)
    share = draw.between(0.0, 0.02)

    def rows(g: torch.Generator) -> Tensor:
        z = _unit_variance(_power_law(g, n, d, alpha))
        z[: max(1, int(share * n))] *= 100
        return z

    return d, rows


@_family("healthy")
def duplicates(draw: _Draw) -> _Made:
    """Rows of which many are there twice, some more often."""
    n, d, share = draw.rows, draw.dimension, draw.between(0.1, 0.5)

    def rows(g: torch.Generator) -> Tensor:
        z = _power_law(g, n, d, 0.5)
        copies = int(share * n)
        z[:copies] = z[torch.randint(copies, n, (copies,), generator=g)]
        return _scaled(g, z)

    return d, rows


@_family("healthy")
def dead_dimension(draw: _Draw) -> _Made:
    """One feature that never changes, or zero, or up to a tenth of them."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(0.0, 1.0)
    dead = draw.of((1, max(1, d // 10)))

    def rows(g: torch.Generator) -> Tensor:
        z = _standard(_power_law(g, n, d, alpha))
        z[:, :dead] = float(torch.randint(2, (), generator=g))
        return _scaled(g, z)

    return d - dead, rows


@_family("healthy")
def heavy_tails(draw: _Draw) -> _Made:
    """Rows whose lengths differ widely: Student's t with three degrees of freedom."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(0.0, 1.0)

    def rows(g: torch.Generator) -> Tensor:
        squares = torch.randn(n, 3, generator=g).square().mean(dim=1, keepdim=True)
        return _unit_variance(_power_law(g, n, d, alpha)) / squares.sqrt()

    return d, rows


def _away_from_the_origin(draw: _Draw, share: float) -> _Made:
    """Return a cloud, isotropic or with a power law, whose mean holds a share of the energy."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(0.0, 1.0)
    return d, lambda g: _scaled(g, _offset(g, _power_law(g, n, d, alpha), share))


@_family("healthy")
def mild_offset(draw: _Draw) -> _Made:
    """A mean that is there and does not matter."""
    return _away_from_the_origin(draw, draw.between(0.05, 0.35))


@_family("healthy")
def knee(draw: _Draw) -> _Made:
    """A flat head and a tail that falls, as trained networks have it."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(1.0, 2.0)
    head = max(2.0, d * draw.between(0.1, 0.25))

    def rows(g: torch.Generator) -> Tensor:
        index = torch.arange(1, d + 1, dtype=torch.float32)
        scales = (index / head).clamp(min=1) ** (-alpha / 2)
        return _scaled(g, _turned(g, _normal(g, n, d) * scales))

    return d, rows


@_family("healthy")
def views(draw: _Draw) -> _Made:
    """Two to five views a sample, which agree well."""
    n, d, per = draw.rows, draw.dimension, draw.of((2, 3, 5))
    level = draw.log_between(0.01, 0.3)

    def rows(g: torch.Generator) -> Tensor:
        z = _unit_variance(_power_law(g, math.ceil(n / per), d, 0.75)).repeat(per, 1)[:n]
        return _scaled(g, z + level * _normal(g, n, d) / math.sqrt(d))

    return d, rows


@_family("healthy")
def loud_features(draw: _Draw) -> _Made:
    """One to three features with much more variance than the others, as language models have."""
    n, d, loud = draw.rows, draw.dimension, draw.of((1, 2, 3))
    share = draw.between(0.3, 0.9)

    def rows(g: torch.Generator) -> Tensor:
        z = _standard(_power_law(g, n, d, 0.5))
        z[:, :loud] *= math.sqrt(share / (1 - share) * (d - loud) / loud)
        return _scaled(g, z)

    return d, rows


@_family("healthy")
def coarse(draw: _Draw) -> _Made:
    """Features rounded to a few levels, or to their signs."""
    n, d, levels = draw.rows, max(draw.dimension, 32), draw.of((1, 4, 16, 127))
    draw.dimension = d

    def rows(g: torch.Generator) -> Tensor:
        z = _standard(_power_law(g, n, d, 0.5))
        return z.sign() if levels == 1 else (z / 4 * levels).round().clamp(-levels, levels)

    return d, rows


@_family("healthy")
def rectified_classes(draw: _Draw) -> _Made:
    """Classes that have an inside, rectified: what comes before a classifier's last layer."""
    n, d, within = draw.rows, draw.dimension, draw.between(0.2, 0.6)
    return d, lambda g: _scaled(g, _standard(_clusters(g, n, d, 10, within)).relu())


@_family("healthy", count=1)
def full_size(draw: _Draw) -> _Made:
    """A spectrum that falls as one over its index, in ten times as many numbers as others."""
    draw.rows, draw.dimension, draw.dtype = *FULL_SIZE, torch.float16
    n, d = FULL_SIZE

    def rows(g: torch.Generator) -> Tensor:
        z = torch.empty(n, d, dtype=torch.float16)
        for block in z.split(5000):  # in single precision it would be twice as much to hold
            block.copy_(_normal(g, len(block), d) * torch.arange(1, d + 1).rsqrt())
        return z

    return d, rows


# --- complete


@_family("complete")
def constant_and_noise(draw: _Draw) -> _Made:
    """One vector, and noise of a millionth to a fiftieth of it."""
    n, d, level = draw.rows, draw.dimension, draw.log_between(1e-6, 0.02)

    def rows(g: torch.Generator) -> Tensor:
        v = torch.nn.functional.normalize(torch.randn(d, generator=g), dim=0)
        return _scaled(g, v + level * _normal(g, n, d) / math.sqrt(d))

    return d, rows


@_family("complete")
def constant_and_structure(draw: _Draw) -> _Made:
    """One vector, and a healthy or a low-dimensional cloud around it, a hundredth as large."""
    n, d, level = draw.rows, draw.dimension, draw.log_between(1e-4, 0.02)
    kind = draw.of(("power law", "classes", "line"))

    def rows(g: torch.Generator) -> Tensor:
        if kind == "power law":
            z = _power_law(g, n, d, 1.0)
        elif kind == "classes":
            z = _clusters(g, n, d, 5, 0.3)
        else:
            z = _low_rank(g, n, d, 1, 1e-3)
        v = torch.nn.functional.normalize(torch.randn(d, generator=g), dim=0)
        return _scaled(g, v + level * _unit_variance(z))

    return d, rows


@_family("complete")
def exactly_one_point(draw: _Draw) -> _Made:
    """The same row throughout, or nothing but zeros, or zeros in all but one row of fifty."""
    n, d, kind = draw.rows, draw.dimension, draw.of(("constant", "zero", "nearly zero"))

    def rows(g: torch.Generator) -> Tensor:
        z = torch.zeros(n, d)
        if kind == "constant":
            z = z + _scaled(g, torch.randn(d, generator=g))
        elif kind == "nearly zero":
            z[::50] = _normal(g, len(z[::50]), d)
        return z

    return 1, rows


@_family("complete")
def ray(draw: _Draw) -> _Made:
    """One direction, any length."""
    n, d, level = draw.rows, draw.dimension, draw.log_between(1e-5, 0.02)

    def rows(g: torch.Generator) -> Tensor:
        v = torch.nn.functional.normalize(torch.randn(d, generator=g), dim=0)
        lengths = torch.randn(n, 1, generator=g).mul(0.5).exp()
        return lengths * (v + level * _normal(g, n, d) / math.sqrt(d))

    return 1, rows


@_family("complete")
def constant_but_for_a_few(draw: _Draw) -> _Made:
    """One vector, but for a hundredth of the rows."""
    n, d = max(draw.rows, 200), draw.dimension
    draw.rows = n
    level = draw.log_between(1e-5, 0.01)

    def rows(g: torch.Generator) -> Tensor:
        v = torch.nn.functional.normalize(torch.randn(d, generator=g), dim=0)
        z = v + level * _normal(g, n, d) / math.sqrt(d)
        z[: n // 100] = torch.nn.functional.normalize(_normal(g, n // 100, d), dim=1)
        return z

    return 1, rows


@_family("complete")
def rectified_residue(draw: _Draw) -> _Made:
    """Rectified features of which a bias decides: noise moves each by a hundredth of it."""
    n, d, level = draw.rows, draw.dimension, draw.log_between(1e-5, 0.015)
    alive = max(1, int(d * draw.between(0.2, 1.0)))

    def rows(g: torch.Generator) -> Tensor:
        bias = torch.rand(d, generator=g) + 0.5
        bias[alive:] = -bias[alive:]
        return _scaled(g, (bias + level * _normal(g, n, d)).relu())

    return d, rows


# --- dimensional


def _few(draw: _Draw) -> int:
    """Return a rank of at most a twentieth of the dimensions."""
    most = max(1, draw.dimension // 20)
    return min(max(1, round(draw.log_between(1, most + 0.49))), most)


@_family("dimensional")
def low_rank(draw: _Draw) -> _Made:
    """At most a twentieth of the dimensions, and next to nothing in the others."""
    n, d, rank = draw.rows, draw.dimension, _few(draw)
    noise = draw.log_between(1e-9, 2e-4)
    return rank, lambda g: _scaled(g, _low_rank(g, n, d, rank, noise))


@_family("dimensional")
def low_rank_off_centre(draw: _Draw) -> _Made:
    """The same, away from the origin."""
    n, d, rank, share = draw.rows, draw.dimension, _few(draw), draw.between(0.1, 0.9)
    noise = draw.log_between(1e-9, 2e-4)
    return rank, lambda g: _scaled(g, _offset(g, _low_rank(g, n, d, rank, noise), share))


@_family("dimensional")
def one_direction(draw: _Draw) -> _Made:
    """A line, and up to half a hundredth of the variance beside it."""
    n, d, noise = draw.rows, draw.dimension, draw.log_between(1e-6, 5e-3)
    return 1, lambda g: _scaled(g, _low_rank(g, n, d, 1, noise))


@_family("dimensional")
def exponential(draw: _Draw) -> _Made:
    """A spectrum that falls by e within a hundredth of the dimensions."""
    n, d = draw.rows, draw.dimension
    length = max(d * draw.log_between(0.003, 0.01), 0.12)

    def rows(g: torch.Generator) -> Tensor:
        scales = (-torch.arange(d) / (2 * length)).exp()
        return _scaled(g, _turned(g, _normal(g, n, d) * scales))

    return max(1, round(3 * length)), rows


@_family("dimensional")
def low_rank_heavy_tails(draw: _Draw) -> _Made:
    """At most a twentieth of the dimensions, rows of widely different length."""
    n, d, rank = draw.rows, draw.dimension, _few(draw)

    def rows(g: torch.Generator) -> Tensor:
        squares = torch.randn(n, 3, generator=g).square().mean(dim=1, keepdim=True)
        return _low_rank(g, n, d, rank, 1e-6) / squares.sqrt()

    return rank, rows


@_family("dimensional")
def dead_features(draw: _Draw) -> _Made:
    """All but at most a twentieth of the features never change."""
    n, d, alive = draw.rows, draw.dimension, _few(draw)

    def rows(g: torch.Generator) -> Tensor:
        z = _normal(g, 1, d).repeat(n, 1) * _zero_or_not(g)
        where = torch.randperm(d, generator=g)[:alive]
        z[:, where] += 2 * _normal(g, n, alive)
        return _scaled(g, z)

    return alive, rows


def _zero_or_not(g: torch.Generator) -> float:
    """Return zero or a number of the order of the others."""
    return float(torch.randint(2, (), generator=g)) * 0.3


@_family("dimensional")
def copies(draw: _Draw) -> _Made:
    """Features that are copies of a few, with either sign, and slightly blurred."""
    n, d, kept = draw.rows, draw.dimension, _few(draw)
    blur = draw.log_between(1e-4, 0.01)

    def rows(g: torch.Generator) -> Tensor:
        source = torch.randint(kept, (d,), generator=g)
        signs = torch.randint(2, (d,), generator=g) * 2.0 - 1
        z = _normal(g, n, kept)[:, source] * signs
        return _scaled(g, z + blur * _normal(g, n, d))

    return kept, rows


# --- cluster


def _count(draw: _Draw) -> int:
    """Return a number of clusters of twelve rows or more on average."""
    return draw.of([c for c in (2, 3, 4, 8, 20, 50, 100) if 12 * c <= draw.rows])


@_family("cluster")
def points(draw: _Draw) -> _Made:
    """Few points, and a thousandth of the variance or less around them."""
    n, d, count = draw.rows, draw.dimension, _count(draw)
    within = draw.log_between(1e-8, 1e-3)
    return min(count - 1, d), lambda g: _scaled(g, _clusters(g, n, d, count, within))


@_family("cluster")
def exact_points(draw: _Draw) -> _Made:
    """Few points and nothing else."""
    n, d, count = draw.rows, draw.dimension, _count(draw)
    return min(count - 1, d), lambda g: _scaled(g, _clusters(g, n, d, count, 0.0, even=False))


@_family("cluster")
def points_in_a_plane(draw: _Draw) -> _Made:
    """Few points in a plane, where some are near one another."""
    n, d = draw.rows, draw.dimension
    count = draw.of([c for c in (3, 5, 8, 12) if 12 * c <= n])
    within = draw.log_between(1e-9, 1e-5)
    return 2, lambda g: _scaled(g, _clusters(g, n, d, count, within, plane=2))


@_family("cluster")
def uneven_points(draw: _Draw) -> _Made:
    """Few points, of which some have many more rows than others, away from the origin."""
    n, d, count, share = draw.rows, draw.dimension, _count(draw), draw.between(0.0, 0.8)
    within = draw.log_between(1e-8, 1e-3)

    def rows(g: torch.Generator) -> Tensor:
        return _scaled(g, _offset(g, _clusters(g, n, d, count, within, even=False), share))

    return min(count - 1, d), rows


@_family("cluster")
def rays(draw: _Draw) -> _Made:
    """Few directions, and rows of any length along them."""
    n, d = draw.rows, draw.dimension
    count = draw.of([c for c in (3, 5, 10, 20) if 12 * c <= n])
    level = draw.log_between(1e-6, 0.02)

    def rows(g: torch.Generator) -> Tensor:
        z = torch.nn.functional.normalize(_normal(g, count, d), dim=1)[_assigned(g, n, count)]
        z = z + level * _normal(g, n, d) / math.sqrt(d)
        return z * torch.randn(n, 1, generator=g).mul(0.5).exp()

    return min(count, d), rows


# --- cone


@_family("cone")
def cone(draw: _Draw) -> _Made:
    """A healthy cloud, isotropic or with a power law, far from the origin."""
    return _away_from_the_origin(draw, draw.between(0.6, 0.95))


@_family("cone")
def cone_of_classes(draw: _Draw) -> _Made:
    """Classes that have an inside, far from the origin."""
    n, d, share = draw.rows, draw.dimension, draw.between(0.6, 0.95)
    within = draw.between(0.2, 0.6)
    return d, lambda g: _scaled(g, _offset(g, _clusters(g, n, d, 10, within), share))


# --- between health and collapse


@_family("ambiguous")
def middling_rank(draw: _Draw) -> _Made:
    """A tenth to a half of the dimensions, with some noise."""
    n, d = draw.rows, draw.dimension
    rank = max(2, round(d * draw.between(0.1, 0.5)))
    noise = draw.log_between(1e-5, 0.05)
    return rank, lambda g: _scaled(g, _low_rank(g, n, d, rank, noise))


@_family("ambiguous")
def steep_power_law(draw: _Draw) -> _Made:
    """Spectra that fall faster than those of good features do."""
    n, d, alpha = draw.rows, draw.dimension, draw.between(1.5, 3.0)
    return d, lambda g: _scaled(g, _power_law(g, n, d, alpha))


@_family("ambiguous")
def nearly_points(draw: _Draw) -> _Made:
    """Classes with a hundredth to a tenth of the variance inside."""
    n, d, count = draw.rows, draw.dimension, draw.of((2, 3, 4))
    within = draw.log_between(5e-3, 0.1)
    return d, lambda g: _scaled(g, _clusters(g, n, d, count, within))


@_family("ambiguous")
def manifold(draw: _Draw) -> _Made:
    """A smooth surface of two to eight dimensions, bent through all of them."""
    n, d, latent = draw.rows, draw.dimension, draw.of((2, 4, 8))

    def rows(g: torch.Generator) -> Tensor:
        wide = 2 * d
        hidden = (_normal(g, n, latent) @ _normal(g, latent, wide) + _normal(g, 1, wide)).tanh()
        return _scaled(g, hidden @ _normal(g, wide, d) / math.sqrt(wide))

    return latent, rows


@_family("ambiguous")
def narrow_cone(draw: _Draw) -> _Made:
    """A cloud of a twentieth to a sixth of its distance from the origin."""
    n, d, level = draw.rows, draw.dimension, draw.between(0.05, 0.17)
    return d, lambda g: _scaled(g, _offset(g, _normal(g, n, d), 1 / (1 + level**2)))
