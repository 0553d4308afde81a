"""A small language model with one matrix for its input and output, and where its rare words go."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import _checks
from repcollapse.data import stream
from repcollapse.diagnostics import mean_cosine
from repcollapse.modes.fitting import fit
from repcollapse.modes.text import RARE, UNKNOWN, WORDS, book
from repcollapse.modes.words import cosine_term, cosine_to_mean, isotropy
from repcollapse.training import pick_device

WIDTH, CONTEXT, HIDDEN = 32, 4, 64
START = 0.02  # the standard deviation of the embeddings at the beginning, that of GPT-2
BATCH, LR = 256, 3e-3
ARMS = ("tied", "cosine term", "weight decay")
COSINE, DECAY = 1.0, 1.0


class Model(nn.Module):
    """The next word from the last four, with one matrix for input and output.

    Weights come from torch's global generator.

    Examples
    --------
    >>> Model()(torch.zeros(3, 4, dtype=torch.long)).shape
    torch.Size([3, 1000])
    """

    def __init__(self, words: int = WORDS) -> None:
        super().__init__()
        self.embedding = nn.Parameter(START * torch.randn(words, WIDTH))
        self.body = nn.Sequential(
            nn.Linear(CONTEXT * WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)
        )

    def hidden_states(self, context: Tensor) -> Tensor:
        """Return what the output words are compared with, shape (N, 32), for (N, 4) words."""
        return self.body(F.embedding(context, self.embedding).flatten(1))

    def forward(self, context: Tensor) -> Tensor:
        """Return the logits of the next word, shape (N, V)."""
        return self.hidden_states(context) @ self.embedding.T


def contexts(tokens: Tensor) -> Tensor:
    """Return every run of five words, four to read and one to predict, shape (N, 5).

    Examples
    --------
    >>> contexts(torch.arange(6)).tolist()
    [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]
    """
    return tokens.unfold(0, CONTEXT + 1, 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """A trained model, and the geometry of its words.

    Attributes
    ----------
    model
        The model after the last step, on the CPU.
    embeddings
        By step, the words, shape (V, 32); the last step is after training.
    hidden_states
        Of the test text, shape (N, 32).
    loss
        The mean negative log-likelihood of a word of the test text, in nats.
    """

    model: Model
    embeddings: dict[int, Tensor]
    hidden_states: Tensor
    loss: float

    @property
    def words(self) -> Tensor:
        """The words after training, shape (V, 32), float64."""
        return self.embeddings[max(self.embeddings)].double()

    @property
    def cosine(self) -> float:
        """The mean cosine of two words."""
        return mean_cosine(self.words)

    @property
    def rare(self) -> float:
        """The mean cosine of two of the rarer half of the words."""
        return mean_cosine(self.words[RARE:])

    @property
    def frequent(self) -> float:
        """The mean cosine of two of the others, but for the unknown word."""
        return mean_cosine(self.words[UNKNOWN + 1 : RARE])

    @property
    def away(self) -> float:
        """The cosine of the mean word of the rarer half with the mean hidden state."""
        said = self.hidden_states.double().mean(dim=0)
        return float(F.cosine_similarity(self.words[RARE:].mean(dim=0), said, dim=0))

    @property
    def comet(self) -> float:
        """Spearman's correlation of how frequent a word is with its cosine to the mean word."""
        from scipy import stats  # slow to import

        counts, towards = book().counts, cosine_to_mean(self.words)
        return float(stats.spearmanr(counts[UNKNOWN + 1 :], towards[UNKNOWN + 1 :]).statistic)

    @property
    def isotropy(self) -> float:
        """What :func:`repcollapse.modes.words.isotropy` says of the words."""
        return isotropy(self.words)


def train(
    arm: str, seed: int, *, steps: int, at: Collection[int] = (), device: str = "auto"
) -> Trained:
    """Train a model on the text of the book.

    Parameters
    ----------
    arm
        "tied": one matrix for input and output. "cosine term": with the mean cosine of two words
        added to the loss. "weight decay": with AdamW's, of 1, instead.
    seed
        Of the batches; the weights come from torch's global generator, which
        :func:`repcollapse.modes.runs.repeat` seeds.
    steps, at
        How many steps of AdamW, and before which the words are kept, beside before the first and
        after the last.
    device
        "auto" or a torch device.

    Returns
    -------
    Trained
        Read on the test text, all on the CPU.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    FloatingPointError
        Where the loss is not finite.

    References
    ----------
    Press & Wolf 2017, "Using the output embedding to improve language models", for the one matrix.

    Examples
    --------
    >>> trained = train("tied", 0, steps=2)
    >>> list(trained.embeddings), trained.words.shape
    ([0, 2], torch.Size([1000, 32]))
    """
    _checks.choice("arm", arm, ARMS)
    place, text = pick_device(device), book()
    runs = contexts(text.train).to(place)
    model = Model().to(place)
    order = stream(seed, "batches of contexts")
    embeddings: dict[int, Tensor] = {}

    def loss(_: int) -> Tensor:
        batch = runs[torch.randint(len(runs), (BATCH,), generator=order).to(place)]
        value = F.cross_entropy(model(batch[:, :-1]), batch[:, -1])
        return value + COSINE * cosine_term(model.embedding) if arm == "cosine term" else value

    def keep(step: int) -> None:
        embeddings[step] = model.embedding.cpu().clone()

    decay = DECAY if arm == "weight decay" else 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=decay)
    fit(optimizer, loss, steps=steps, watch=keep, at={0, steps, *at})
    model = model.cpu()
    unseen = contexts(text.test)
    with torch.no_grad():
        states = model.hidden_states(unseen[:, :-1])
        surprise = F.cross_entropy(states @ model.embedding.T, unseen[:, -1])
    return Trained(model=model, embeddings=embeddings, hidden_states=states, loss=float(surprise))
