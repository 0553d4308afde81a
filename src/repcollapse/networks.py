"""Encoders, projectors and predictors, and the joint embedding made of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from repcollapse import _checks

NORMS = ("batch", "layer", "none")
ENCODERS = ("mlp", "conv", "resnet18")

Objective = Callable[[Tensor, Tensor], Tensor]


def mlp(widths: Sequence[int], *, norm: str = "batch", output_norm: bool = False) -> nn.Sequential:
    """Return a perceptron: linear, norm, ReLU on every hidden layer, linear at the end.

    Parameters
    ----------
    widths
        Layer widths from input to output, at least two.
    norm
        Normalisation of hidden layers: "batch", "layer" or "none".
    output_norm
        Batch-normalise the output, without learned scale and shift.

    Returns
    -------
    nn.Sequential
        Maps (N, widths[0]) to (N, widths[-1]).

    Raises
    ------
    TypeError, ValueError
        For widths or a norm other than these.

    Examples
    --------
    >>> mlp([8, 4, 2], norm="none")
    Sequential(
      (0): Linear(in_features=8, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    """
    _checks.choice("norm", norm, NORMS)
    if len(widths) < 2:
        raise ValueError(f"widths needs at least input and output; got {list(widths)}")
    sizes = [_checks.integer("widths", width, at_least=1) for width in widths]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes[:-1]):
        layers += [nn.Linear(fan_in, fan_out), *_norm(norm, fan_out), nn.ReLU()]
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    if output_norm:
        layers.append(nn.BatchNorm1d(sizes[-1], affine=False))
    return nn.Sequential(*layers)


def _norm(norm: str, width: int) -> list[nn.Module]:
    if norm == "none":
        return []
    return [nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width)]


def conv(channels: int, width: int, *, norm: str = "batch") -> nn.Sequential:
    """Return a small convolutional encoder: three strided blocks, average pooling, a linear layer.

    Parameters
    ----------
    channels
        Channels of the image.
    width
        Width of the output.
    norm
        "batch", "layer" (over channels and positions) or "none".

    Returns
    -------
    nn.Sequential
        Maps (N, channels, H, W) to (N, width).

    Raises
    ------
    TypeError, ValueError
        For sizes or a norm other than these.

    Examples
    --------
    >>> import torch
    >>> conv(1, 64)(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 64])
    """
    _checks.choice("norm", norm, NORMS)
    fan_in = _checks.integer("channels", channels, at_least=1)
    width = _checks.integer("width", width, at_least=1)
    layers: list[nn.Module] = []
    for fan_out in (16, 32, 64):
        layers.append(nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(fan_out))
        elif norm == "layer":
            layers.append(nn.GroupNorm(1, fan_out))
        layers.append(nn.ReLU())
        fan_in = fan_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, width))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(fan_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or fan_in != fan_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False), nn.BatchNorm2d(fan_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for (N, fan_in, H, W)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def resnet18(channels: int = 3, *, base: int = 64) -> nn.Sequential:
    """Return the CIFAR variant of ResNet-18: a 3 x 3 stem without pooling, output of 8 * base.

    Parameters
    ----------
    channels
        Channels of the image.
    base
        Channels after the stem; 64 in the paper.

    Returns
    -------
    nn.Sequential
        Maps (N, channels, H, W) to (N, 8 * base).

    Raises
    ------
    TypeError, ValueError
        For sizes other than these.

    References
    ----------
    He et al. 2016, "Deep residual learning"; the stem as in Chen et al. 2020, appendix B.9.

    Examples
    --------
    >>> import torch
    >>> resnet18(base=4).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 32])
    """
    fan_in = _checks.integer("base", base, at_least=1)
    stem = nn.Conv2d(
        _checks.integer("channels", channels, at_least=1), base, 3, padding=1, bias=False
    )
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(base), nn.ReLU()]
    for stage in range(4):
        fan_out = base * 2**stage
        layers += [BasicBlock(fan_in, fan_out, stride=1 if stage == 0 else 2)]
        layers += [BasicBlock(fan_out, fan_out, stride=1)]
        fan_in = fan_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def encoder(
    name: str, shape: tuple[int, int, int], *, width: int = 64, norm: str = "batch"
) -> tuple[nn.Module, int]:
    """Return the encoder called `name` for images of `shape`, and the width of what it returns.

    Parameters
    ----------
    name
        "mlp" (two hidden layers of 128), "conv" or "resnet18".
    shape
        (C, H, W) of one image.
    width
        Width of the representation; "resnet18" has its own, 512.
    norm
        Normalisation of hidden layers: "batch", "layer" or "none"; "resnet18" is always "batch".

    Returns
    -------
    tuple
        The module, mapping (N, C, H, W) to (N, width), and that width.

    Raises
    ------
    TypeError, ValueError
        For a name, a width or a norm other than these.

    Examples
    --------
    >>> _, width = encoder("mlp", (1, 16, 16))
    >>> width
    64
    """
    _checks.choice("name", name, ENCODERS)
    if len(shape) != 3:
        raise ValueError(f"shape must be (C, H, W) of one image; got {tuple(shape)}")
    channels, height, side = shape
    if name == "mlp":
        inputs = channels * height * side
        return nn.Sequential(nn.Flatten(), *mlp([inputs, 128, 128, width], norm=norm)), width
    if name == "conv":
        return conv(channels, width, norm=norm), width
    if norm != "batch":
        raise ValueError(f"norm must be 'batch' for the encoder 'resnet18'; got {norm!r}")
    return resnet18(channels), 512


@torch.no_grad()
def follow(target: nn.Module, leaders: Iterable[Tensor], momentum: float) -> None:
    """Move the weights of a slow copy towards those that it follows: m * copy + (1 - m) * leader.

    Parameters
    ----------
    target
        The copy. Buffers, such as a batch norm's running statistics, are not moved.
    leaders
        The weights, in the order of `target.parameters()`, whose shapes they have.
    momentum
        m in [0, 1]: at 0 the copy becomes what it follows, at 1 it stays where it is.

    Raises
    ------
    TypeError, ValueError
        For a momentum outside [0, 1], or leaders of another number.

    Examples
    --------
    >>> slow, fast = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(slow.weight, 0.0), nn.init.constant_(fast.weight, 4.0)
    >>> follow(slow, fast.parameters(), 0.75)
    >>> slow.weight.item()
    1.0
    """
    momentum = _checks.number("momentum", momentum, at_least=0, at_most=1)
    followers, leaders = list(target.parameters()), list(leaders)
    if len(leaders) != len(followers):
        raise ValueError(f"leaders must be {len(followers)} tensors; got {len(leaders)}")
    for follower, leader in zip(followers, leaders, strict=True):
        follower.lerp_(leader, 1 - momentum)


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, passes: Iterable[Sequence[Tensor]]) -> None:
    """Set the running statistics of a model's batch norms to the mean over some forward passes.

    Before the first step they are 0 and 1 whatever the data, and an untrained network read in
    evaluation mode looks half collapsed; while weights move fast, they lag behind.

    Parameters
    ----------
    model
        A module of any kind. Without a batch norm nothing happens, and no pass is drawn.
    passes
        What the model is called with, in training mode: the arguments of one pass each. The
        momentum of its batch norms and the mode that it was in are put back.

    Raises
    ------
    ValueError
        Without a pass; the model is then as it was.

    References
    ----------
    Wu & Johnson 2021, "Rethinking 'batch' in BatchNorm", there "PreciseBN".

    Examples
    --------
    >>> norm = nn.BatchNorm1d(1, affine=False).eval()
    >>> calibrate_batch_norm(norm, [(torch.tensor([[1.0], [3.0]]),), (torch.zeros(2, 1),)])
    >>> norm.running_mean.item(), norm.running_var.item(), norm.momentum, norm.training
    (1.0, 1.0, 0.1, False)
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    drawn = iter(passes)
    first = next(drawn, None)
    if first is None:
        raise ValueError("passes must hold at least one; got none")
    momenta, modes = [norm.momentum for norm in norms], [m.training for m in model.modules()]
    for norm in norms:
        norm.momentum = None  # a plain mean over the passes that follow
        norm.reset_running_stats()
    try:
        model.train()
        for arguments in chain([first], drawn):
            model(*arguments)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in zip(model.modules(), modes, strict=True):
            module.training = training


def check_target(objective: Any, stop_gradient: bool | None, momentum: float | None) -> None:
    """Check what a joint embedding, or a recipe of one, is told about its target.

    Raises
    ------
    TypeError, ValueError
        For a momentum outside [0, 1], or not that of the objective's own part of the target; for a
        gradient asked of an objective that lets none through.
    """
    if momentum is not None:
        _checks.number("momentum", momentum, at_least=0, at_most=1)
    while isinstance(objective, partial):
        objective = objective.func
    following = getattr(objective, "target_momentum", None)
    if following is not None and following != (momentum or 0):
        raise ValueError(
            f"momentum must be {following:g}, at which the part of the target that is in "
            f"{type(objective).__name__} follows; got {momentum}"
        )
    if stop_gradient is False and getattr(objective, "detaches_target", False):
        name = getattr(objective, "__name__", type(objective).__name__)
        raise ValueError(
            f"stop_gradient must be True or left out with {name}, to which a target is a constant; "
            "got False"
        )


class JointEmbedding(nn.Module):
    """An encoder, a projector and an objective over two views of a batch.

    With a predictor, with `stop_gradient` or with a momentum target, each view's prediction is
    compared with the other view's target, and the two directions are averaged; otherwise the
    objective sees the two projections as they are.

    Parameters
    ----------
    encoder
        Maps images (N, C, H, W) to representations h, (N, H).
    projector
        Maps representations to embeddings z, (N, D).
    objective
        A function, or a module, of two (N, D) matrices that returns a scalar to minimise. A module
        with state of its own moves it in `after_step`. Where a part of the target is in it, its
        `target_momentum` is that at which the part follows.
    predictor
        Maps embeddings (N, D) to predictions (N, D) of the other view's embedding.
    stop_gradient
        Send no gradient through the target side; by default only with a momentum target.
    momentum
        Take targets from a copy whose weights follow as m * copy + (1 - m) * weights after every
        step (:meth:`after_step`). Without `stop_gradient` the gradient flows through the second
        part, (1 - m) * weights; at momentum 0 that is the network without a copy.

    Raises
    ------
    TypeError, ValueError
        For a momentum outside [0, 1], or other than the objective's `target_momentum`; for
        `stop_gradient=False` with an objective that takes its target as a constant, as
        :func:`repcollapse.objectives.byol` does.

    Examples
    --------
    >>> import torch
    >>> from repcollapse.objectives import invariance
    >>> model = JointEmbedding(nn.Flatten(), nn.Linear(4, 2), invariance)
    >>> views = torch.eye(4).reshape(4, 1, 2, 2)
    >>> model(views, views).item()
    0.0
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        objective: Objective,
        *,
        predictor: nn.Module | None = None,
        stop_gradient: bool | None = None,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        check_target(objective, stop_gradient, momentum)
        self.encoder = encoder
        self.projector = projector
        self.objective = objective
        self.predictor = predictor
        self.stop_gradient = momentum is not None if stop_gradient is None else stop_gradient
        self.momentum = momentum
        self.target: nn.Module | None = None
        if momentum is not None:
            self.target = copy.deepcopy(nn.Sequential(encoder, projector)).requires_grad_(False)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return representations h and embeddings z of (N, C, H, W) images."""
        h = self.encoder(images)
        return h, self.projector(h)

    def forward(self, view_a: Tensor, view_b: Tensor) -> Tensor:
        """Return the objective on two views of a batch, each (N, C, H, W)."""
        # Both views go through as one batch of 2N, so batch norm sees them together.
        images = _joined(view_a, view_b)
        _, z = self.embed(images)
        z_a, z_b = z.chunk(2)
        if self.predictor is None and self.target is None and not self.stop_gradient:
            return self.objective(z_a, z_b)
        p_a, p_b = (z if self.predictor is None else self.predictor(z)).chunk(2)
        t_a, t_b = self._targets(images, z).chunk(2)
        return (self.objective(p_a, t_b) + self.objective(p_b, t_a)) / 2

    def _targets(self, images: Tensor, z: Tensor) -> Tensor:
        if self.target is None or self.momentum is None:  # there are both or neither
            return z.detach() if self.stop_gradient else z
        if not self.stop_gradient:
            weights = self._following(self.target, self.momentum)
            return functional_call(self.target, weights, (images,))
        with torch.no_grad():
            return self.target(images)

    def _following(self, target: nn.Module, momentum: float) -> dict[str, Tensor]:
        """Return the copy's weights, with the gradient of the (1 - m) * weights in them."""
        leaders = nn.Sequential(self.encoder, self.projector).parameters()
        return {
            name: follower + (1 - momentum) * (leader - leader.detach())
            for (name, follower), leader in zip(target.named_parameters(), leaders, strict=True)
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the momentum target and the objective's own state after an optimiser step."""
        if self.target is not None and self.momentum is not None:
            leaders = nn.Sequential(self.encoder, self.projector).parameters()
            follow(self.target, leaders, self.momentum)
        _move_state(self.objective)


class Pretext(nn.Module):
    """An encoder trained on a task made from the images themselves.

    Parameters
    ----------
    encoder
        Maps images (N, C, H, W) to representations h, (N, H).
    task
        A module called with the encoder and a batch of images that returns a scalar to minimise,
        such as :class:`repcollapse.objectives.Rotation`.

    Examples
    --------
    >>> from repcollapse.objectives import Rotation
    >>> model = Pretext(nn.Flatten(), Rotation(16, (1, 4, 4)))
    >>> views = torch.zeros(4, 1, 4, 4)
    >>> model(views, views).shape
    torch.Size([])
    """

    def __init__(self, encoder: nn.Module, task: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.objective = task

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the representations h of (N, C, H, W) images, twice: there is no projector."""
        h = self.encoder(images)
        return h, h

    def forward(self, view_a: Tensor, view_b: Tensor) -> Tensor:
        """Return the task's loss on two views of a batch, each (N, C, H, W), as 2N images."""
        return self.objective(self.encoder, _joined(view_a, view_b))

    def after_step(self) -> None:
        """Move the task's state, if it has any, after an optimiser step."""
        _move_state(self.objective)


Model = JointEmbedding | Pretext


def _joined(view_a: Tensor, view_b: Tensor) -> Tensor:
    if view_a.shape != view_b.shape:
        raise ValueError(
            "view_a and view_b must have the same shape (N, C, H, W); "
            f"got {tuple(view_a.shape)} and {tuple(view_b.shape)}"
        )
    return torch.cat([view_a, view_b])


def _move_state(objective: Objective | nn.Module) -> None:
    move = getattr(objective, "after_step", None)
    if move is not None:
        move()
