"""The language model: what it reads, what its numbers say, and what a term does to its words."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from repcollapse.diagnostics import mean_cosine
from repcollapse.modes import language
from repcollapse.modes.runs import once
from repcollapse.modes.text import RARE, WORDS, book
from repcollapse.modes.words import closeness, isotropy


def trained(arm: str, seed: int, **options) -> language.Trained:
    return once(partial(language.train, arm, device="cpu", **options), seed)


def test_contexts_are_every_run_of_five() -> None:
    runs = language.contexts(torch.arange(7))
    assert runs.tolist() == [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]


def test_the_output_words_are_the_input_words() -> None:
    torch.manual_seed(0)
    model = language.Model(words=7)
    context = torch.tensor([[1, 2, 3, 4]])
    read = torch.cat([model.embedding[word] for word in context[0]])
    state = model.body(read)
    by_hand = torch.stack([state @ model.embedding[word] for word in range(7)])
    torch.testing.assert_close(model(context)[0], by_hand)


def test_a_run_repeats_itself_and_begins_at_the_uniform_guess() -> None:
    one, again, other = (trained("tied", seed, steps=2, at=(1,)) for seed in (3, 3, 4))
    assert (one.loss, one.cosine) == (again.loss, again.cosine)
    assert one.loss != other.loss
    assert list(one.embeddings) == [0, 1, 2]
    assert torch.equal(one.words, one.embeddings[2].double())
    assert abs(mean_cosine(one.embeddings[0])) < 0.01
    assert one.loss == pytest.approx(math.log(WORDS), abs=0.05)


def test_weights_batches_and_random_pairs_have_a_stream_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, randint = [], torch.randint

    def noted(*arguments, generator: torch.Generator) -> torch.Tensor:
        drawn.append(generator.initial_seed())
        return randint(*arguments, generator=generator)

    monkeypatch.setattr(torch, "randint", noted)
    words = trained("tied", 3, steps=1).words
    closeness(words, [(1, 2)], 3)
    assert len({3, *drawn}) == 3, "the weights have 3 itself"


def test_what_is_read_is_of_the_last_words() -> None:
    run = trained("tied", 0, steps=2)
    words = run.words
    pairs = F.cosine_similarity(words[RARE:, None], words[None, RARE:], dim=2)
    apart = ~torch.eye(len(pairs), dtype=torch.bool)
    assert run.rare == pytest.approx(float(pairs[apart].mean()), rel=1e-9)
    assert run.cosine == mean_cosine(words)
    assert run.frequent == mean_cosine(words[1:RARE])
    assert run.isotropy == isotropy(words)
    said = run.hidden_states.double().mean(dim=0)
    assert run.away == pytest.approx(
        float(F.cosine_similarity(words[RARE:].mean(dim=0), said, dim=0))
    )
    context = language.contexts(book().test)
    logits = run.model(context[:, :-1]).detach()
    assert run.loss == pytest.approx(float(F.cross_entropy(logits, context[:, -1])), rel=1e-6)


def test_the_comet_is_minus_one_where_the_rarer_word_always_leans_more() -> None:
    rarity = -book().counts[1:].double().log()
    angle = 0.1 + (rarity.max() - rarity) / 8  # of equally frequent words the same
    side = (-1.0) ** torch.arange(WORDS - 1)
    words = torch.zeros(WORDS, 2, dtype=torch.float64)
    words[1:] = torch.stack([angle.cos(), side * angle.sin()], dim=1)
    run = language.Trained(
        model=language.Model(), embeddings={0: words}, hidden_states=words, loss=0.0
    )
    assert run.comet == pytest.approx(-1, abs=0.01)


def test_rare_words_drift_together_unless_a_term_forbids_it() -> None:
    tied, spread = (trained(arm, 0, steps=150) for arm in ("tied", "cosine term"))
    assert tied.rare > tied.frequent + 0.05
    assert tied.away < -0.5
    assert tied.comet < -0.5
    assert abs(spread.cosine) < 0.05 < tied.cosine


def test_weight_decay_shortens_words() -> None:
    plain, decayed = (trained(arm, 0, steps=100) for arm in ("tied", "weight decay"))
    assert float(decayed.words.norm()) < 0.95 * float(plain.words.norm())


def test_other_arms_and_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="arm must be one of"):
        language.train("prayer", 0, steps=1)
    with pytest.raises(ValueError, match="at must"):
        language.train("tied", 0, steps=1, at=(2,))
