"""Black and white pixels, one after another: the second world of posterior collapse."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse.data import load
from repcollapse.modes.pictures import grey
from repcollapse.modes.posterior import VAE, Setting, Trained, read, train_vae
from repcollapse.training import pick_device, seeded

SIDE, LATENTS, BATCH, LEARNING_RATE = 8, 8, 64, 5e-3


class Masked(nn.Module):
    """A decoder for pixels in order: MADE (Germain et al. 2015), one hidden layer, with a latent.

    A hidden unit of degree d sees the first d pixels; pixel t is decoded from units of a degree
    below it.

    Parameters
    ----------
    pixels, latents, hidden
        How many pixels, at least 2, latents and hidden units.
    blind
        See no past.
    """

    reads: Tensor
    writes: Tensor

    def __init__(
        self, pixels: int, latents: int = 8, *, hidden: int = 192, blind: bool = False
    ) -> None:
        super().__init__()
        degree = torch.arange(hidden) * (pixels - 1) // hidden + 1
        place = torch.arange(pixels)
        self.register_buffer("reads", (place < degree[:, None]).float() * (0.0 if blind else 1.0))
        self.register_buffer("writes", (degree <= place[:, None]).float() + (1.0 if blind else 0.0))
        self.writes.clamp_(max=1)
        self.past = nn.Linear(pixels, hidden)
        self.latent = nn.Linear(latents, hidden, bias=False)
        self.out = nn.Linear(hidden, pixels)
        self.direct = nn.Linear(latents, pixels, bias=False)

    def forward(self, z: Tensor, x: Tensor, keep: Tensor) -> Tensor:
        """Return the logits of x, (N, D), from z (N, K); `keep` (N, D) is 0 where x is hidden."""
        past = F.linear((2 * x - 1) * keep, self.past.weight * self.reads, self.past.bias)
        hidden = F.relu(past + self.latent(z))
        return F.linear(hidden, self.out.weight * self.writes, self.out.bias) + self.direct(z)


def train(
    setting: Setting, seed: int, *, steps: int, dataset: str = "digits", device: str = "auto"
) -> Trained:
    """Train a VAE with eight latents on images of 8 x 8 black and white pixels.

    Parameters
    ----------
    setting
        How it is trained, as in :class:`repcollapse.modes.posterior.Setting`.
    seed
        Of the split, the first weights, the batches and all noise.
    steps, dataset
        How many steps of Adam on batches of 64, and of which images.
    device
        Where to train, as in :func:`repcollapse.training.pick_device`.

    Returns
    -------
    Trained
        Read on the test images, all on the CPU.

    Raises
    ------
    TypeError, ValueError
        For steps, a data set or a device other than these.

    Examples
    --------
    >>> train(Setting(), 0, steps=2).mu.shape
    torch.Size([497, 8])
    """
    place = pick_device(device)
    found = load(dataset, seed=seed)
    small = [grey(split.images, SIDE).flatten(1) for split in (found.train, found.test)]
    seen, unseen = ((images > small[0].mean()).float().to(place) for images in small)

    def batch() -> Tensor:
        return seen[torch.randint(len(seen), (BATCH,)).to(place)]

    with seeded(seed, place):
        decoder = Masked(SIDE * SIDE, LATENTS, blind=setting.blind)
        vae = VAE(SIDE * SIDE, LATENTS, decoder, variance=setting.variance).to(place)
        trace = train_vae(vae, batch, setting, steps=steps, lr=LEARNING_RATE)
        return read(vae, unseen, trace)
