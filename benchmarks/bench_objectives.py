"""What each objective costs beside the few lines a user would paste instead.

Forward and backward on 256 pairs of 64-dimensional embeddings: the package's objective, the pasted
lines and, where it has the objective, pytorch-metric-learning, many times over in one process.
Modules and pretexts as well, `after_step` included, with heads and prototypes of equal weights on
both sides. Before anything is timed, both versions have to agree in value and gradient. Writes
`objectives.md` beside this file.
"""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pytorch_metric_learning.losses import NTXentLoss, VICRegLoss
from reports import write
from timing import interleaved
from torch import Tensor, nn
from torch.nn import functional as F

from repcollapse import objectives

REPORT = Path(__file__).with_name("objectives.md")
N, D, K, QUEUE = 256, 64, 32, 1024
SHAPE = (1, 16, 16)
ROUNDS = 1000
LIBRARY_ROUNDS = 5  # of pytorch-metric-learning, a call of which may take seconds
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
    return swapped(a, b)


def swapped(a: Tensor, b: Tensor) -> Tensor:
    with torch.no_grad():
        q_a, q_b = codes(a), codes(b)
    both = (q_a * F.log_softmax(b / 0.1, 1)).sum(1) + (q_b * F.log_softmax(a / 0.1, 1)).sum(1)
    return -both.mean() / 2


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


def rotation(images: Tensor, encoder: nn.Module, head: nn.Module) -> Tensor:
    turns = torch.arange(len(images)) % 4
    shown = torch.empty_like(images)
    for turn in range(4):
        shown[turn::4] = images[turn::4].rot90(turn, (2, 3))
    return F.cross_entropy(head(encoder(shown)), turns)


def jigsaw(images: Tensor, encoder: nn.Module, head: nn.Module, orders: Tensor) -> Tensor:
    number = torch.arange(len(images)) % len(orders)
    tiles = images.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)  # N, C, tile, 8, 8
    tiles = tiles[torch.arange(len(images))[:, None], :, orders[number]]  # N, tile, C, 8, 8
    rows = [torch.cat([tiles[:, 2 * i], tiles[:, 2 * i + 1]], dim=3) for i in range(2)]
    return F.cross_entropy(head(encoder(torch.cat(rows, dim=2))), number)


def inpainting(images: Tensor, encoder: nn.Module, head: nn.Module, masks: Tensor) -> Tensor:
    mask = masks[torch.arange(len(images)) % len(masks)].float()
    mean = (images * (1 - mask)).sum((2, 3), keepdim=True) / (1 - mask).sum((2, 3), keepdim=True)
    drawn = head(encoder(images * (1 - mask) + mean * mask))
    return ((drawn - images).square() * mask).sum() / mask.sum() / images.shape[1]


class _PastedDirectPred(nn.Module):
    """With the predictor set from the running correlation after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.correlation, self.predictor = torch.zeros(D, D), torch.eye(D)

    def forward(self, z: Tensor, target: Tensor) -> Tensor:
        self.z = z.detach()
        return (2 - 2 * F.cosine_similarity(z @ self.predictor, target.detach())).mean()

    @torch.no_grad()
    def after_step(self) -> None:
        self.correlation = 0.3 * self.correlation + 0.7 * self.z.T @ self.z / N
        values, vectors = torch.linalg.eigh(self.correlation)
        gains = (values.clamp(min=0) / values.max()).sqrt() + 0.1
        self.predictor = vectors @ gains.diag() @ vectors.T


class _PastedSwAV(nn.Module):
    """With a layer of prototypes."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        directions = F.normalize(self.weight, dim=1)
        a, b = (F.normalize(z, dim=1) @ directions.T for z in (z_a, z_b))
        return swapped(a, b)

    def after_step(self) -> None: ...


class _PastedDINO(nn.Module):
    """With prototypes of a student and of a teacher, and a centre."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.teacher, self.center = weight.detach().clone(), torch.zeros(K)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        s = F.normalize(student, dim=1) @ F.normalize(self.weight, dim=1).T
        with torch.no_grad():
            self.t = F.normalize(teacher, dim=1) @ F.normalize(self.teacher, dim=1).T
            p = F.softmax((self.t - self.center) / 0.04, 1)
        return -(p * F.log_softmax(s / 0.1, 1)).sum(1).mean()

    @torch.no_grad()
    def after_step(self) -> None:
        self.center = 0.9 * self.center + 0.1 * self.t.mean(0)
        self.teacher = 0.99 * self.teacher + 0.01 * self.weight


class _PastedMoCo(nn.Module):
    """With a queue."""

    def __init__(self, queue: Tensor) -> None:
        super().__init__()
        self.queue, self.place = queue.clone(), 0

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        q, self.key = F.normalize(query, dim=1), F.normalize(key.detach(), dim=1)
        logits = torch.cat([(q * self.key).sum(1, keepdim=True), q @ self.queue.T], dim=1) / 0.2
        return F.cross_entropy(logits, torch.zeros(N, dtype=torch.long))

    def after_step(self) -> None:
        self.queue[self.place : self.place + N] = self.key
        self.place = (self.place + N) % QUEUE


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


def modules() -> dict[str, tuple[Objective, Objective]]:
    """Return the package's modules with state beside those that a user would write."""
    moco, swav = objectives.MoCo(D, queue=QUEUE), objectives.SwAV(D, prototypes=K)
    dino = objectives.DINO(D, prototypes=K)
    return {
        "MoCo": (moco, _PastedMoCo(moco.queue)),
        "DirectPred": (objectives.DirectPred(D), _PastedDirectPred()),
        "SwAV": (swav, _PastedSwAV(swav.prototypes.weight)),
        "DINO": (dino, _PastedDINO(dino.prototypes.weight)),
    }


def pretexts() -> dict[str, tuple[Objective, Objective]]:
    """Return the pretexts, whose encoder is one linear layer, as objectives of 2N images."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(SHAPE[1] * SHAPE[2], D))
    turned = objectives.Rotation(D, SHAPE)
    cut = objectives.Jigsaw(D, SHAPE)
    holed = objectives.Inpainting(D, SHAPE)
    pairs: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
        "Rotation": (partial(turned, encoder), lambda x: rotation(x, encoder, turned.head)),
        "Jigsaw": (partial(cut, encoder), lambda x: jigsaw(x, encoder, cut.head, cut.orders)),
        "Inpainting": (
            partial(holed, encoder),
            lambda x: inpainting(x, encoder, holed.head, holed.masks),
        ),
    }

    def joined(task: Callable[[Tensor], Tensor]) -> Objective:
        return lambda a, b: task(torch.cat([a, b]).detach())

    return {name: (joined(ours), joined(pasted)) for name, (ours, pasted) in pairs.items()}


def call(objective: Objective, samples: tuple[Tensor, Tensor]) -> Callable[[], object]:
    """Return one forward and backward, from leaves of its own, and the move of its state."""
    move = getattr(objective, "after_step", lambda: None)

    def run() -> None:
        objective(*(z.clone().requires_grad_() for z in samples)).backward()
        move()

    return run


def require_agreement(name: str, versions: list[Objective], samples: tuple[Tensor, Tensor]) -> None:
    """Refuse to time two versions that do not compute the same, one step after the start."""
    results = []
    for objective in versions:
        call(objective, samples)()
        leaves = [z.clone().requires_grad_() for z in samples]
        loss = objective(*leaves)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        results.append([loss.detach(), *(g for g in gradients if g is not None)])
    for ours, theirs in zip(*results, strict=True):
        scale = float(theirs.abs().max())
        if not torch.allclose(ours / scale, theirs / scale, rtol=1e-3, atol=1e-3):
            raise AssertionError(f"{name}: the pasted version computes something else")


def main() -> None:
    """Measure and write the report."""
    torch.set_num_threads(1)
    sample = torch.randn(N, D)
    embeddings = (sample, sample + 0.5 * torch.randn(N, D))
    images = (torch.rand(N, *SHAPE), torch.rand(N, *SHAPE))
    pairs = {name: (OURS[name], PASTED[name]) for name in OURS}
    rows = {name: (versions, embeddings) for name, versions in (pairs | modules()).items()}
    rows |= {name: (versions, images) for name, versions in pretexts().items()}
    lines = [
        "# What the objectives cost",
        "",
        f"{platform.machine()}, one thread, torch {torch.__version__}; {N} pairs, {D} dimensions,",
        f"forward and backward, medians of the CPU time of {ROUNDS} calls in turn. The package's",
        "check what they are given (shapes, numbers, NaN and Inf) and raise half precision; the",
        "pasted lines do neither. Names in CamelCase are modules, with their `after_step`; the",
        "pretexts have an encoder of one linear layer.",
        f"Written by `benchmarks/{Path(__file__).name}`.",
        "",
        "| objective | ours, ms | ours / pasted | ours / pytorch-metric-learning |",
        "|---|--:|--:|--:|",
    ]
    for name, (versions, samples) in rows.items():
        require_agreement(name, list(versions), samples)
        parts = dict(zip(("ours", "pasted"), (call(v, samples) for v in versions), strict=True))
        seconds = interleaved(parts, rounds=ROUNDS)
        library = ""
        if name in LIBRARY:
            beside = {"ours": parts["ours"], "library": call(LIBRARY[name], samples)}
            times = interleaved(beside, rounds=LIBRARY_ROUNDS)
            library = f"{times['ours'] / times['library']:.3f}"
        ratio = seconds["ours"] / seconds["pasted"]
        lines.append(f"| {name} | {1e3 * seconds['ours']:.2f} | {ratio:.2f} | {library} |")
        print(lines[-1], flush=True)
    write(REPORT, "\n".join(lines))


if __name__ == "__main__":
    main()
