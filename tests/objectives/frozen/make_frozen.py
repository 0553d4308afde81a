"""Write what lightly (MIT licence) gives for some embeddings: `python make_frozen.py`.

Run by hand, in an environment that has lightly; the tests only read the JSON beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

N, D, K = 6, 4, 5
Loss = Callable[[Tensor, Tensor], Tensor]


def draw(*shape: int) -> Tensor:
    # Four digits, so that JSON holds the very numbers that were used.
    return torch.randn(*shape, dtype=torch.float64).mul(1e4).round().div(1e4)


def with_queue(queue: Tensor, temperature: float) -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=temperature, memory_bank_size=(K, D))
    loss.memory_bank.bank = torch.nn.functional.normalize(queue, dim=1)
    loss.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.long)
    return lambda query, key: loss(query, key.detach())


def record(loss: Loss, z_a: Tensor, z_b: Tensor) -> dict[str, object]:
    """Return the embeddings, the value and the gradients; none of a constant."""
    inputs = [z.clone().requires_grad_() for z in (z_a, z_b)]
    value = loss(*inputs)
    gradients = torch.autograd.grad(value, inputs, allow_unused=True)
    case: dict[str, object] = {"z_a": z_a.tolist(), "z_b": z_b.tolist(), "value": value.item()}
    for name, gradient in zip(("gradient_a", "gradient_b"), gradients, strict=True):
        if gradient is not None:
            case[name] = gradient.tolist()
    return case


def main() -> None:
    # Imported here: pytest imports every file of the tests in search of doctests.
    from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss
    from lightly.loss.hypersphere_loss import HypersphereLoss

    torch.manual_seed(0)
    z_a, z_b, queue = draw(N, D), draw(N, D), draw(K, D)
    losses: dict[str, Loss] = {
        "nt_xent": NTXentLoss(temperature=0.3),
        "moco": with_queue(queue, 0.3),
        "negative_cosine": NegativeCosineSimilarity(),
        "alignment_uniformity": HypersphereLoss(t=2.0, lam=0.5, alpha=2.0),
        "alignment_uniformity, alpha 1": HypersphereLoss(t=3.0, lam=1.0, alpha=1.0),
        "vicreg": VICRegLoss(),
        "barlow_twins": BarlowTwinsLoss(lambda_param=0.02),
    }
    cases = {name: record(loss, z_a, z_b) for name, loss in losses.items()}
    cases["moco"]["queue"] = queue.tolist()
    source = {"library": "lightly", "version": metadata.version("lightly"), "licence": "MIT"}
    source |= {"torch": torch.__version__, "script": Path(__file__).name}
    text = json.dumps(source | {"cases": cases})
    Path(__file__).with_name("lightly.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
