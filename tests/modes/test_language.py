"""The language model's measures against loops and limits, its text, and what a term does to it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from repcollapse.modes import language


def words(count: int = 40, width: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator) + 0.5


# --- the text


def test_the_text_is_cut_into_words_by_frequency() -> None:
    text = language.book()
    assert len(text.words) == len(set(text.words)) == language.WORDS
    assert int(text.counts.sum()) == len(text.train)
    assert bool((text.counts[1:-1] >= text.counts[2:]).all()), "most frequent first"
    assert int(text.counts.min()) > 0
    assert 8 < len(text.train) / len(text.test) < 10
    assert len(language.plurals(text.words)) > 100


def test_contexts_are_every_run_of_five() -> None:
    runs = language.contexts(torch.arange(7))
    assert runs.tolist() == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]


# --- measures


def test_the_mean_cosine_is_that_of_all_pairs() -> None:
    rows = words()
    pairs = [
        float(F.cosine_similarity(rows[i], rows[j], dim=0))
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j
    ]
    assert float(language.mean_cosine(rows)) == pytest.approx(sum(pairs) / len(pairs), rel=1e-10)
    scaled = rows * torch.rand(len(rows), 1, dtype=torch.float64)
    torch.testing.assert_close(language.mean_cosine(scaled), language.mean_cosine(rows))


def test_a_simplex_has_the_least_mean_cosine() -> None:
    simplex = torch.eye(5, dtype=torch.float64) - 1 / 5
    assert float(language.mean_cosine(simplex)) == pytest.approx(-1 / 4)


def test_isotropy_falls_with_a_common_vector_and_ignores_rotation() -> None:
    rows = words() - 0.5
    turned = rows @ torch.linalg.qr(words(6, 6, seed=1)).Q
    assert language.isotropy(turned) == pytest.approx(language.isotropy(rows), rel=1e-9)
    assert language.isotropy(rows + 2) < language.isotropy(rows) / 10


def test_repairs_do_what_their_names_say() -> None:
    rows = words(200)
    centred = language.all_but_the_top(rows)
    assert float(centred.mean(dim=0).abs().max()) < 1e-12
    bare = language.all_but_the_top(rows, 2)
    assert int((torch.linalg.svdvals(bare) > 1e-9).sum()) == 4
    white = language.whitened(rows)
    torch.testing.assert_close(white.T @ white / len(rows), torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(
        white.mean(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_pairs_are_found_where_they_are_and_by_chance_where_not() -> None:
    rows = words(2000, 8)
    pairs = [(k, k + 1000) for k in range(1, 500)]
    assert language.closeness(rows - 0.5, pairs, 0) == pytest.approx(0.5, abs=0.03)
    rows[1000:] = rows[:1000]
    assert language.closeness(rows, pairs, 0) > 0.99


# --- training


def test_a_run_repeats_itself_and_begins_at_the_uniform_guess() -> None:
    outcomes = []
    for _ in range(2):
        torch.manual_seed(3)
        outcomes.append(language.train("tied", 3, steps=2, at=(1,)))
    one, other = outcomes
    assert (one.loss, one.cosine) == (other.loss, other.cosine)
    assert list(one.embeddings) == [0, 1, 2]
    assert abs(float(language.mean_cosine(one.embeddings[0]))) < 0.01
    assert one.loss == pytest.approx(math.log(language.WORDS), abs=0.05)


def test_rare_words_drift_together_unless_a_term_forbids_it() -> None:
    found = {}
    for method in ("tied", "cosine term"):
        torch.manual_seed(0)
        found[method] = language.train(method, 0, steps=150)
    tied, spread = found["tied"], found["cosine term"]
    assert tied.rare > tied.frequent + 0.05
    assert tied.away < -0.5
    assert abs(spread.cosine) < 0.05 < tied.cosine


def test_other_methods_are_refused() -> None:
    with pytest.raises(ValueError, match="method must be one of"):
        language.train("prayer", 0, steps=1)
