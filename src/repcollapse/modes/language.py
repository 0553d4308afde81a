"""A small language model with tied embeddings, and where its rare words go.

The text is an early copy of this book's own: prose, captions and documentation, in lower case,
words and points apart. Word frequencies fall as in any language, and that is all that matters here.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.modes.runs import fit
from repcollapse.training import pick_device

WORDS, WIDTH, CONTEXT, HIDDEN = 1000, 32, 4, 64
UNKNOWN, RARE = 0, 500  # everything rarer is one word; the rarer half of the words
START = 0.02  # the standard deviation of the embeddings at the beginning, that of GPT-2
BATCH, LR = 256, 3e-3
METHODS = ("tied", "cosine term", "weight decay")
COSINE, DECAY = 1.0, 1.0


@dataclass(frozen=True)
class Text:
    """A text as indices, and its words, most frequent first after the unknown one.

    `counts` is how often each occurs in the training part, which is the first nine tenths.
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
    return Text(words, encoded[:cut], encoded[cut:], counts)


def plurals(words: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the index of each word of four letters or more whose form with an s is there, too.

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


class Model(nn.Module):
    """The next word from the last four, with one matrix for input and output."""

    def __init__(self, words: int = WORDS) -> None:
        super().__init__()
        self.embedding = nn.Parameter(START * torch.randn(words, WIDTH))
        self.body = nn.Sequential(
            nn.Linear(CONTEXT * WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)
        )

    def hidden(self, context: Tensor) -> Tensor:
        """Return what the output words are compared with, shape (N, WIDTH)."""
        return self.body(F.embedding(context, self.embedding).flatten(1))

    def forward(self, context: Tensor) -> Tensor:
        """Return the logits of the next word, shape (N, words)."""
        return self.hidden(context) @ self.embedding.T


def mean_cosine(rows: Tensor) -> Tensor:
    r"""Return the mean cosine of two different rows.

    .. math:: \frac{\lVert \sum_i u_i \rVert^2 - V}{V (V - 1)}, \qquad u = w / \lVert w \rVert

    In [-1/(V-1), 1]: about 0 for directions without a preference, 1 at complete collapse.

    Parameters
    ----------
    rows
        Shape (V, D), V >= 2.

    Examples
    --------
    >>> [round(float(mean_cosine(rows)), 6) for rows in (torch.eye(3), torch.ones(3, 2))]
    [0.0, 1.0]
    """
    count = len(rows)
    total = F.normalize(rows, dim=1).sum(dim=0).square().sum()
    return (total - count) / (count * (count - 1))


def isotropy(rows: Tensor) -> float:
    r"""Return how evenly the partition function sees directions, :math:`I(W)` in [0, 1].

    .. math:: \min_{c} Z(c) \,/\, \max_{c} Z(c), \qquad Z(c) = \sum_i e^{c^\top w_i},

    over the eigenvectors c of :math:`W^\top W` and their opposites. 1 where all directions are
    alike.

    References
    ----------
    Mu & Viswanath 2018, "All-but-the-top", section 2.1.

    Examples
    --------
    >>> round(isotropy(torch.cat([torch.eye(3), -torch.eye(3)])), 6)
    1.0
    """
    rows = rows.detach().double()
    axes = torch.linalg.eigh(rows.T @ rows).eigenvectors
    sums = torch.exp(rows @ torch.cat([axes, -axes], dim=1)).sum(dim=0)
    return float(sums.min() / sums.max())


@dataclass(frozen=True)
class Outcome:
    """A trained model and the geometry of its words. `embeddings` holds them by step.

    `cosine` is the mean cosine of two words, `rare` that of two of the rarer half, `frequent` that
    of two of the others. `away` is the cosine of the mean rare word with the mean hidden state, and
    `comet` the rank correlation of a word's frequency with its cosine to the mean word. `loss` is
    the mean negative log-likelihood of a word of the test text, in nats.
    """

    model: Model
    embeddings: dict[int, Tensor] = field(repr=False)
    hidden: Tensor = field(repr=False)
    cosine: float
    rare: float
    frequent: float
    away: float
    comet: float
    isotropy: float
    loss: float


def contexts(tokens: Tensor) -> Tensor:
    """Return every run of five words, four to read and one to predict, shape (N, 5)."""
    return tokens.unfold(0, CONTEXT + 1, 1)


def train(
    method: str, seed: int, *, steps: int, at: tuple[int, ...] = (), device: str = "cpu"
) -> Outcome:
    """Train a model on the text of the book.

    Parameters
    ----------
    method
        "tied": one matrix for input and output. "cosine term": with the mean cosine of two words
        added to the loss. "weight decay": with AdamW's, of 1, instead.
    seed
        Governs the weights and the batches.
    steps, at
        Optimiser steps, and those at which the embeddings are kept, the first and last besides.
    device
        "auto" or a torch device.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    """
    _checks.choice("method", method, METHODS)
    text, place = book(), pick_device(device)
    runs, unseen = contexts(text.train).to(place), contexts(text.test).to(place)
    generator = torch.Generator().manual_seed(seed)
    model = Model(len(text.words)).to(place)
    kept: dict[int, Tensor] = {}

    def loss(_: int) -> Tensor:
        batch = runs[torch.randint(len(runs), (BATCH,), generator=generator)]
        value = F.cross_entropy(model(batch[:, :-1]), batch[:, -1])
        return value + COSINE * mean_cosine(model.embedding) if method == "cosine term" else value

    def watch(step: int) -> None:
        kept[step] = model.embedding.detach().cpu().clone()

    decay = DECAY if method == "weight decay" else 0.0
    fit(
        torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=decay),
        loss,
        steps=steps,
        watch=watch,
        at={0, steps, *at},
    )
    return _read(model, kept, unseen, text)


@torch.no_grad()
def _read(model: Model, kept: dict[int, Tensor], unseen: Tensor, text: Text) -> Outcome:
    """Return the readings of a trained model."""
    hidden = model.hidden(unseen[:, :-1])
    loss = F.cross_entropy(hidden @ model.embedding.T, unseen[:, -1])
    words = model.embedding.cpu().double()
    hidden = hidden.cpu()
    rare = words[RARE:].mean(dim=0)
    towards = F.cosine_similarity(words, words.mean(dim=0)[None])
    order = text.counts[1:].double().argsort(stable=True).argsort().double()
    along = towards[1:].argsort().argsort().double()
    return Outcome(
        model.cpu(),
        kept,
        hidden,
        cosine=float(mean_cosine(words)),
        rare=float(mean_cosine(words[RARE:])),
        frequent=float(mean_cosine(words[1:RARE])),
        away=float(F.cosine_similarity(rare, hidden.double().mean(dim=0), dim=0)),
        comet=float(np.corrcoef(order, along)[0, 1]),
        isotropy=isotropy(words),
        loss=float(loss),
    )


def all_but_the_top(words: Tensor, directions: int = 0) -> Tensor:
    """Return words without their mean and their first principal `directions`, float64.

    References
    ----------
    Mu & Viswanath 2018, section 2.2.
    """
    centred = words.double() - words.double().mean(dim=0)
    if not directions:
        return centred
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:directions]
    return centred - centred @ axes.T @ axes


def whitened(words: Tensor) -> Tensor:
    """Return words with mean zero and their covariance the identity, float64."""
    centred = all_but_the_top(words)
    left, _, right = torch.linalg.svd(centred, full_matrices=False)
    return left @ right * len(words) ** 0.5


def closeness(words: Tensor, pairs: list[tuple[int, int]], seed: int) -> float:
    """Return how often a pair is closer, by cosine, than a random one: the area under the curve.

    In [0, 1], 0.5 by chance.
    """
    units = F.normalize(words.double(), dim=1)
    first, second = torch.tensor(pairs).T
    generator = torch.Generator().manual_seed(seed)
    other = torch.randint(1, len(words), (2, 2000), generator=generator)
    right = (units[first] * units[second]).sum(dim=1)
    wrong = (units[other[0]] * units[other[1]]).sum(dim=1)[other[0] != other[1]]
    return float((right[:, None] > wrong).double().mean())
