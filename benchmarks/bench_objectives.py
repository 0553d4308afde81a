"""What each objective costs beside the few lines a user would paste instead.

Forward and backward on 256 pairs of 64-dimensional embeddings, the package's function, the pasted
lines and, where it has the objective, pytorch-metric-learning, in turn and many times over in one
process. Writes `objectives.md` beside this file.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from pytorch_metric_learning.losses import NTXentLoss, VICRegLoss
from torch import Tensor
from torch.nn import functional as F

from repcollapse import objectives

REPORT = Path(__file__).with_name("objectives.md")
N, D, K, QUEUE = 256, 64, 32, 1024
ROUNDS = 200
Objective = Callable[[Tensor, Tensor], Tensor]

torch.manual_seed(0)
PROTOTYPES = F.normalize(torch.randn(K, D), dim=1)
KEYS = F.normalize(torch.randn(QUEUE, D), dim=1)
DIRECTIONS = F.normalize(torch.randn(256, D), dim=1)
CENTER = torch.zeros(K)


def invariance(z_a: Tensor, z_b: Tensor) -> Tensor:
    return (2 - 2 * F.cosine_similarity(z_a, z_b)).mean()


def negative_cosine(p: Tensor, t: Tensor) -> Tensor:
    return -F.cosine_similarity(p, t).mean()


def byol(p: Tensor, t: Tensor) -> Tensor:
    return (2 - 2 * F.cosine_similarity(p, t.detach())).mean()


def nt_xent(z_a: Tensor, z_b: Tensor) -> Tensor:
    u = F.normalize(torch.cat([z_a, z_b]), dim=1)
    logits = (u @ u.T / 0.2).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * N).roll(N))


def moco(query: Tensor, key: Tensor) -> Tensor:
    q, k = F.normalize(query, dim=1), F.normalize(key.detach(), dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ KEYS.T], dim=1) / 0.2
    return F.cross_entropy(logits, torch.zeros(N, dtype=torch.long))


def alignment_uniformity(z_a: Tensor, z_b: Tensor) -> Tensor:
    a, b = F.normalize(z_a, dim=1), F.normalize(z_b, dim=1)
    crowding = [torch.pdist(u).square().mul(-2).exp().mean().log() for u in (a, b)]
    return (a - b).square().sum(1).mean() + sum(crowding) / 2


def spectral_contrastive(z_a: Tensor, z_b: Tensor) -> Tensor:
    products = z_a @ z_b.T
    others = products.square().sum() - products.diagonal().square().sum()
    return -2 * products.diagonal().mean() + others / (N * (N - 1))


def vicreg(z_a: Tensor, z_b: Tensor) -> Tensor:
    loss = 25 * F.mse_loss(z_a, z_b)
    for z in (z_a, z_b):
        loss = loss + 25 * F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() / 2
        centred = z - z.mean(dim=0)
        covariance = centred.T @ centred / (N - 1)
        loss = loss + (covariance - covariance.diag().diag()).square().sum() / D
    return loss


def barlow_twins(z_a: Tensor, z_b: Tensor) -> Tensor:
    a, b = (F.batch_norm(z, None, None, training=True) for z in (z_a, z_b))
    c = a.T @ b / N
    on = (c.diag() - 1).square().sum()
    return on + 0.005 * (c - c.diag().diag()).square().sum()


def w_mse(z_a: Tensor, z_b: Tensor) -> Tensor:
    white = []
    for z in (z_a, z_b):
        centred = z - z.mean(dim=0)
        covariance = 0.999 * centred.T @ centred / (N - 1) + 0.001 * torch.eye(D)
        lower = torch.linalg.cholesky(covariance)
        rows = torch.linalg.solve_triangular(lower, centred.T, upper=False).T
        white.append(F.normalize(rows, dim=1))
    return (2 - 2 * (white[0] * white[1]).sum(1)).mean()


def codes(scores: Tensor) -> Tensor:
    q = (scores / 0.05).exp().T
    for _ in range(3):
        q = q / q.sum(dim=1, keepdim=True) / K
        q = q / q.sum(dim=0, keepdim=True) / N
    return (q * N).T


def swav(z_a: Tensor, z_b: Tensor) -> Tensor:
    a, b = (F.normalize(z, dim=1) @ PROTOTYPES.T for z in (z_a, z_b))
    with torch.no_grad():
        q_a, q_b = codes(a), codes(b)
    swapped = (q_a * F.log_softmax(b / 0.1, 1)).sum(1) + (q_b * F.log_softmax(a / 0.1, 1)).sum(1)
    return -swapped.mean() / 2


def dino(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (F.normalize(z, dim=1) @ PROTOTYPES.T for z in (student, teacher.detach()))
    return -(F.softmax((t - CENTER) / 0.04, 1) * F.log_softmax(s / 0.1, 1)).sum(1).mean()


def sigreg(z_a: Tensor, z_b: Tensor) -> Tensor:
    knots = torch.linspace(0, 3, 17)
    steps = torch.full((17,), 2 * 3 / 16)
    steps[[0, -1]] /= 2
    window = (-knots.square() / 2).exp()
    total = torch.zeros(())
    for z in (z_a, z_b):
        angles = (z @ DIRECTIONS.T).unsqueeze(-1) * knots
        gap = (angles.cos().mean(0) - window).square() + angles.sin().mean(0).square()
        total = total + (gap @ (window * steps)).mean() * N / 2
    return 0.95 * F.mse_loss(z_a, z_b) / 4 + 0.05 * total


def on_scores(function: Callable[..., Tensor]) -> Objective:
    """Return the package's objective of scores as one of embeddings."""

    def objective(z_a: Tensor, z_b: Tensor) -> Tensor:
        a, b = (F.normalize(z, dim=1) @ PROTOTYPES.T for z in (z_a, z_b))
        return function(a, b)

    return objective


def metric_learning(loss: torch.nn.Module) -> Objective:
    """Return a contrastive loss of pytorch-metric-learning as an objective."""
    labels = torch.arange(N).repeat(2)
    return lambda z_a, z_b: loss(torch.cat([z_a, z_b]), labels)


OURS: dict[str, Objective] = {
    "invariance": objectives.invariance,
    "negative_cosine": objectives.negative_cosine,
    "byol": objectives.byol,
    "nt_xent": objectives.nt_xent,
    "moco": lambda q, k: objectives.moco(q, k, queue=KEYS),
    "alignment_uniformity": objectives.alignment_uniformity,
    "spectral_contrastive": objectives.spectral_contrastive,
    "vicreg": objectives.vicreg,
    "barlow_twins": objectives.barlow_twins,
    "w_mse": lambda a, b: objectives.w_mse(a, b, shrinkage=1e-3),
    "swav": on_scores(objectives.swav),
    "dino": on_scores(lambda s, t: objectives.dino(s, t, center=CENTER)),
    "sigreg": lambda a, b: objectives.sigreg(a, b, directions=DIRECTIONS),
}
PASTED: dict[str, Objective] = {
    function.__name__: function
    for function in (
        *(invariance, negative_cosine, byol, nt_xent, moco, alignment_uniformity),
        *(spectral_contrastive, vicreg, barlow_twins, w_mse, swav, dino, sigreg),
    )
}
LIBRARY: dict[str, Objective] = {
    "nt_xent": metric_learning(NTXentLoss(temperature=0.2)),
    "vicreg": lambda a, b: VICRegLoss()(a, ref_emb=b),
}


def once(objective: Objective, z: Tensor) -> float:
    """Return the seconds of one forward and backward."""
    leaf = z.clone().requires_grad_()
    started = time.perf_counter()
    objective(*leaf.chunk(2)).backward()
    return time.perf_counter() - started


def compare(name: str, z: Tensor) -> dict[str, float]:
    """Return the median seconds of all versions of one objective, timed in turn."""
    versions = {"ours": OURS[name], "pasted": PASTED[name]}
    if name in LIBRARY:
        versions["library"] = LIBRARY[name]
    # A version that takes seconds is not worth a minute.
    rounds = ROUNDS if once(versions.get("library", versions["ours"]), z) < 0.2 else 5
    seconds: dict[str, list[float]] = {version: [] for version in versions}
    for turn in range(rounds + 3):
        for version, objective in versions.items():
            taken = once(objective, z)
            if turn >= 3:  # the first rounds warm up
                seconds[version].append(taken)
    return {version: median(values) for version, values in seconds.items()}


def main() -> None:
    """Measure and write the report."""
    torch.set_num_threads(1)
    sample = torch.randn(N, D)
    z = torch.cat([sample, sample + 0.5 * torch.randn(N, D)])
    lines = [
        "# What the objectives cost",
        "",
        f"{platform.machine()}, one thread, torch {torch.__version__}; {N} pairs, {D} dimensions,",
        "forward and backward, medians of calls timed in turn. The package's functions check what",
        "they are given; the pasted lines do not.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
        "| objective | ours, ms | ours / pasted | ours / pytorch-metric-learning |",
        "|---|--:|--:|--:|",
    ]
    for name in OURS:
        seconds = compare(name, z)
        library = f"{seconds['ours'] / seconds['library']:.2f}" if "library" in seconds else ""
        ratio = seconds["ours"] / seconds["pasted"]
        lines.append(f"| {name} | {1e3 * seconds['ours']:.2f} | {ratio:.2f} | {library} |")
        print(lines[-1], flush=True)
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
