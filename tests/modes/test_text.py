"""The text of the book as indices of words."""

from __future__ import annotations

from repcollapse.modes.text import WORDS, book, plurals


def test_the_text_is_cut_into_words_by_frequency() -> None:
    text = book()
    assert len(text.words) == len(set(text.words)) == WORDS
    assert int(text.counts.sum()) == len(text.train)
    assert bool((text.counts[1:-1] >= text.counts[2:]).all()), "most frequent first"
    assert int(text.counts.min()) > 0
    assert 8 < len(text.train) / len(text.test) < 10


def test_a_plural_is_a_word_with_an_s_more() -> None:
    words = book().words
    found = plurals(words)
    assert len(found) > 100
    assert all(words[many] == words[one] + "s" for one, many in found)
