"""A text to learn language from, and its words.

It is an early copy of this book's own: prose, captions and documentation, in lower case, words and
points apart. Word frequencies fall as in any language, and that is all that matters here.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

WORDS = 1000  # with the unknown word, which stands for all that are rarer
UNKNOWN, RARE = 0, 500  # from RARE on: the rarer half


@dataclass(frozen=True, eq=False, kw_only=True)
class Text:
    """A text as indices of its words.

    Attributes
    ----------
    words
        The V words: the unknown one, then by how frequent they are.
    train, test
        The first nine tenths of the text and the rest, indices of words, shape (N,).
    counts
        How often each word occurs in `train`, shape (V,).
    """

    words: tuple[str, ...]
    train: Tensor
    test: Tensor
    counts: Tensor


@cache
def book() -> Text:
    """Return the text of the book.

    Examples
    --------
    >>> text = book()
    >>> len(text.words), text.words[:3], len(text.train) > 80_000
    (1000, ('~', 'the', '.'), True)
    """
    tokens = files(__package__).joinpath("book.txt").read_text(encoding="utf-8").split()
    cut = len(tokens) * 9 // 10
    frequent = [word for word, _ in Counter(tokens[:cut]).most_common(WORDS - 1)]
    words = ("~", *frequent)
    index = {word: number for number, word in enumerate(words)}
    encoded = torch.tensor([index.get(token, UNKNOWN) for token in tokens])
    counts = torch.bincount(encoded[:cut], minlength=len(words))
    return Text(words=words, train=encoded[:cut], test=encoded[cut:], counts=counts)


def plurals(words: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the indices of each word of four letters or more and of its form with an s.

    Only where both are among the words.

    Examples
    --------
    >>> plurals(("~", "runs", "rank", "ranks", "is"))
    [(2, 3)]
    """
    index = {word: number for number, word in enumerate(words)}
    return [
        (index[word], index[word + "s"])
        for word in words
        if re.fullmatch(r"[a-z]{4,}", word) and word + "s" in index
    ]
