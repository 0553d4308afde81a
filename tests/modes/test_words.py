"""The geometry of words against loops and limits."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.nn import functional as F

from repcollapse.diagnostics import mean_cosine
from repcollapse.modes.words import (
    all_but_the_top,
    closeness,
    cosine_term,
    cosine_to_mean,
    isotropy,
)


def words(count: int = 40, width: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator) + 0.5


def test_the_cosine_to_the_mean_is_that_of_every_word() -> None:
    rows = words()
    mean = sum(rows) / len(rows)
    by_hand = [float(F.cosine_similarity(row, mean, dim=0)) for row in rows]
    assert cosine_to_mean(rows).tolist() == pytest.approx(by_hand, rel=1e-12)
    assert cosine_to_mean(torch.ones(4, 3)).tolist() == pytest.approx([1.0] * 4)


def test_the_cosine_term_is_the_mean_cosine_with_its_gradient() -> None:
    rows = words(9, 4)
    assert float(cosine_term(rows)) == pytest.approx(mean_cosine(rows), rel=1e-12)
    rows.requires_grad_()
    assert torch.autograd.gradcheck(cosine_term, rows)


def test_isotropy_is_the_least_partition_function_over_the_greatest() -> None:
    rows = words(5, 2)
    axes = torch.linalg.eigh(rows.T @ rows).eigenvectors.T
    sums = [
        sum(math.exp(sign * float(axis @ row)) for row in rows) for axis in axes for sign in (1, -1)
    ]
    assert isotropy(rows) == pytest.approx(min(sums) / max(sums), rel=1e-12)
    assert isotropy(3 * torch.eye(3)[:1].expand(7, 3)) == pytest.approx(math.exp(-6))


def test_isotropy_falls_with_a_common_vector_and_ignores_rotation() -> None:
    rows = words() - 0.5
    turned = rows @ torch.linalg.qr(words(6, 6, seed=1)).Q
    assert isotropy(turned) == pytest.approx(isotropy(rows), rel=1e-9)
    assert isotropy(rows + 2) < isotropy(rows) / 10


def test_repairs_do_what_their_names_say() -> None:
    rows = words(200)
    centred = all_but_the_top(rows)
    assert float(centred.mean(dim=0).abs().max()) < 1e-12
    bare = all_but_the_top(rows, 2)
    assert int((torch.linalg.svdvals(bare) > 1e-9).sum()) == 4
    assert float(all_but_the_top(rows, 6).abs().max()) < 1e-12


def test_closeness_is_the_area_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = words(6, 2)
    drawn = torch.tensor([[1, 2, 3, 4], [2, 2, 5, 1]])  # the second is one word twice
    monkeypatch.setattr(torch, "randint", lambda *_, **__: drawn)
    pairs = [(1, 5), (3, 4)]

    def cosine(i: int, j: int) -> float:
        return float(F.cosine_similarity(rows[i], rows[j], dim=0))

    wins = [cosine(*pair) > cosine(*wrong) for pair in pairs for wrong in ((1, 2), (3, 5), (4, 1))]
    assert 0 < sum(wins) < 6
    assert closeness(rows, pairs, 0) == pytest.approx(sum(wins) / 6)


def test_pairs_are_found_where_they_are_and_by_chance_where_not() -> None:
    rows = words(2000, 8)
    pairs = [(k, k + 1000) for k in range(1, 500)]
    assert closeness(rows - 0.5, pairs, 0) == pytest.approx(0.5, abs=0.03)
    assert closeness(torch.ones(2000, 8), pairs, 0) == 0.5
    rows[1000:] = rows[:1000]
    assert closeness(rows, pairs, 0) > 0.99


def test_random_pairs_follow_their_seed() -> None:
    rows = words(2000, 8)
    pairs = [(1, 2), (3, 4)]
    assert closeness(rows, pairs, 0) == closeness(rows, pairs, 0) != closeness(rows, pairs, 1)


@pytest.mark.parametrize(
    ("message", "measure"),
    [
        ("words must have shape (N, D)", lambda: isotropy(torch.ones(3))),
        ("words needs at least 2 rows; got 1", lambda: cosine_to_mean(torch.ones(1, 3))),
        ("directions must be at least 0 and at most 6", lambda: all_but_the_top(words(), 7)),
        ("words needs at least 3 rows; got 2", lambda: closeness(words(2), [(0, 1)], 0)),
        ("pairs must hold at least one pair; got none", lambda: closeness(words(), [], 0)),
    ],
)
def test_other_arguments_are_refused(message, measure) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        measure()
