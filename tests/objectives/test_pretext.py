"""Pretext tasks: their puzzles, their losses against loops, and what collapsed features read."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from repcollapse.objectives import (
    Inpainting,
    Jigsaw,
    PretextTask,
    Rotation,
    inpainting,
    jigsaw,
    rotation,
)

SHAPE = (2, 6, 6)
PIXELS = math.prod(SHAPE)
TASKS = {
    "rotation": Rotation,
    "jigsaw 2": Jigsaw,
    "jigsaw 3": lambda width, shape: Jigsaw(width, shape, grid=3),
    "inpainting": lambda width, shape: Inpainting(width, shape, hidden=16),
}


def pictures(n, shape=SHAPE, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)


class Collapsed(nn.Module):
    """An encoder with one output for all."""

    def forward(self, x):
        return torch.full((len(x), 4), 0.7, dtype=x.dtype)


# --- losses


@pytest.mark.parametrize(("loss", "count"), [(rotation, 4), (jigsaw, 7), (jigsaw, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropies(loss, count, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, count, generator=generator, dtype=dtype).requires_grad_()
    answers = torch.arange(6) % count
    naive = 0
    for i in range(6):
        partition = sum(logits[i, k].exp() for k in range(count))
        naive = naive - (logits[i, answers[i]].exp() / partition).log() / 6
    ours = loss(logits, answers)
    torch.testing.assert_close(ours, naive)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (ours, naive))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inpainting_counts_the_hole_and_nothing_else(dtype):
    image, prediction = pictures(3, dtype=dtype), pictures(4, dtype=dtype)[:3].requires_grad_()
    mask = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.3
    total, count = 0, 0
    for n, c, y, x in itertools.product(range(3), range(2), range(6), range(6)):
        if mask[n, 0, y, x]:
            total, count = total + (prediction[n, c, y, x] - image[n, c, y, x]) ** 2, count + 1
    ours = inpainting(prediction, image, mask)
    torch.testing.assert_close(ours, total / count)
    gradients = [torch.autograd.grad(v, prediction)[0] for v in (ours, total / count)]
    torch.testing.assert_close(*gradients)
    assert not gradients[0][(~mask).expand_as(image)].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_raise_half_precision(dtype):
    logits, answers = 300 * torch.eye(4, dtype=dtype), torch.tensor([1, 2, 3, 0])
    assert rotation(logits, answers).item() == pytest.approx(300)
    assert jigsaw(logits, answers).dtype == torch.float32
    image = torch.full((2, 1, 4, 4), 300.0, dtype=dtype)  # its square overflows float16
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    assert inpainting(-image, image, mask).item() == pytest.approx(600**2)


# --- puzzles


def test_rotation_turns_by_place_in_the_batch():
    images = pictures(9)
    shown, turns = Rotation(4, SHAPE).puzzle(images)
    assert turns.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    for image, turned, turn in zip(images, shown, turns.tolist(), strict=True):
        expected = image
        for _ in range(turn):  # a quarter, counter-clockwise: the right column becomes the top row
            expected = expected.transpose(1, 2).flip(1)
        assert torch.equal(turned, expected)
    assert torch.equal(images, pictures(9))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("first", [0, 3, 22, 31])
def test_a_part_of_a_batch_counts_on_from_the_part_before_it(name, first):
    images = pictures(60)
    task = TASKS[name](PIXELS, SHAPE)
    shown, answers = task.puzzle(images)
    task.first_place = first
    for given, whole in zip(task.puzzle(images[first:]), (shown, answers), strict=True):
        assert torch.equal(given, whole[first:])


@pytest.mark.parametrize(("grid", "shape"), [(2, (2, 6, 6)), (3, (2, 6, 6)), (2, (1, 4, 10))])
def test_jigsaw_moves_tiles_as_its_orders_say(grid, shape):
    task = Jigsaw(4, shape, grid=grid)
    images = pictures(30, shape)
    shown, numbers = task.puzzle(images)
    assert numbers.tolist() == [i % 24 for i in range(30)]
    assert torch.equal(shown[0], images[0])
    height, width = shape[1] // grid, shape[2] // grid

    def tile(image, place):
        y, x = divmod(place, grid)
        return image[:, y * height : (y + 1) * height, x * width : (x + 1) * width]

    for image, mixed, number in zip(images, shown, numbers, strict=True):
        for place, source in enumerate(task.orders[number].tolist()):
            assert torch.equal(tile(mixed, place), tile(image, source))


def test_four_tiles_have_all_orders():
    orders = {tuple(order) for order in Jigsaw(4, SHAPE).orders.tolist()}
    assert orders == set(itertools.permutations(range(4)))


def test_nine_tiles_have_orders_far_from_each_other():
    orders = Jigsaw(4, SHAPE, grid=3).orders
    assert orders.shape == (24, 9)
    assert orders[0].tolist() == list(range(9))
    assert torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(24, 9))
    assert torch.equal(orders, Jigsaw(4, SHAPE, grid=3).orders)
    distances = [int((a != b).sum()) for a, b in itertools.combinations(orders, 2)]
    # No more than nine orders can differ in all nine places: 8 is the best for 24.
    assert min(distances) >= 7
    assert sum(distances) / len(distances) > 7.5


def test_inpainting_holes_and_what_fills_them():
    images = pictures(20) + torch.tensor([5.0, -3.0])[:, None, None]
    task = Inpainting(4, SHAPE, hole=0.5)
    shown, mask = task.puzzle(images)
    assert mask.shape == (20, 1, 6, 6) and torch.equal(mask[:9], mask[9:18])
    assert (mask.sum(dim=(1, 2, 3)) == 9).all()
    for place, (top, left) in enumerate(itertools.product((0, 1, 3), repeat=2)):
        assert mask[place, 0, top : top + 3, left : left + 3].all()
    for image, holed, hole in zip(images, shown, mask[:, 0], strict=True):
        assert torch.equal(holed[:, ~hole], image[:, ~hole])
        mean = image[:, ~hole].mean(dim=1, keepdim=True)
        torch.testing.assert_close(holed[:, hole], mean.expand(2, 9))


def test_what_is_in_the_hole_cannot_be_seen():
    images = pictures(9)
    task = Inpainting(4, SHAPE)
    shown, mask = task.puzzle(images)
    torch.testing.assert_close(task.puzzle(torch.where(mask, 100.0, images))[0], shown)


@pytest.mark.parametrize("name", TASKS)
def test_nothing_is_random(name):
    torch.manual_seed(0)
    task = TASKS[name](PIXELS, SHAPE)
    state = torch.get_rng_state()
    losses = {task(nn.Flatten(), pictures(24)).item() for _ in range(2)}
    assert len(losses) == 1
    assert torch.equal(torch.get_rng_state(), state)


# --- collapse


@pytest.mark.parametrize(("name", "value"), [("rotation", 4), ("jigsaw 2", 24), ("jigsaw 3", 24)])
def test_collapsed_features_leave_the_head_to_guess(name, value):
    """The loss is convex in the head: where its gradient is 0, it is least."""
    task, images = TASKS[name](4, SHAPE).double(), pictures(48, dtype=torch.float64)
    for parameter in task.parameters():
        nn.init.zeros_(parameter)
    loss = task(Collapsed(), images)
    assert loss.item() == pytest.approx(math.log(value), rel=1e-12)
    for gradient in torch.autograd.grad(loss, list(task.parameters())):
        assert float(gradient.abs().max()) < 1e-15
    assert task.accuracy(Collapsed(), images) == pytest.approx(1 / value)
    nn.init.normal_(task.head.weight)
    assert task(Collapsed(), images).item() > math.log(value)


def test_collapsed_features_leave_the_variance_in_the_holes():
    task = Inpainting(4, SHAPE, hidden=16).double()
    images = pictures(90, dtype=torch.float64) * torch.rand(6, 6, dtype=torch.float64) + 2
    mask = task.puzzle(images)[1]
    best, total, count = torch.zeros(SHAPE, dtype=torch.float64), 0.0, 0
    for c, y, x in itertools.product(*map(range, SHAPE)):
        values = images[mask[:, 0, y, x], c, y, x]
        best[c, y, x] = values.mean()
        total, count = total + float((values - values.mean()).square().sum()), count + len(values)
    nn.init.zeros_(task.head[2].weight)
    with torch.no_grad():
        task.head[2].bias.copy_(best.flatten())
    loss = task(Collapsed(), images)
    assert loss.item() == pytest.approx(total / count, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, task.head[2].bias)
    assert float(gradient.abs().max()) < 1e-12
    assert task.error(Collapsed(), images) == pytest.approx(1, rel=1e-12)
    with torch.no_grad():
        task.head[2].bias.add_(0.1)
    assert task.error(Collapsed(), images) > 1


# --- learning


def stripes(n):
    """Pictures with an up and a down: bright at the top, and a mark in the top left corner."""
    images = 0.05 * pictures(n, (1, 6, 6)) + torch.linspace(1, -1, 6)[:, None]
    images[..., :2, :2] += 2
    # Each has a shade of its own, which is what can be guessed of a hole.
    return images + torch.linspace(-1, 1, n)[:, None, None, None]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_learnt_and_reaches_the_encoder(name):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU())
    task = TASKS[name](32, (1, 6, 6))
    images = stripes(72)
    optimizer = torch.optim.Adam([*encoder.parameters(), *task.parameters()], lr=0.01)
    first = None
    for _ in range(150):
        optimizer.zero_grad()
        loss = task(encoder, images)
        loss.backward()
        optimizer.step()
        first = first or loss.item()
    assert float(encoder[1].weight.grad.norm()) > 0
    assert loss.item() < 0.5 * first
    if name == "inpainting":
        assert task.error(encoder, images) < 0.3
    else:
        assert task.accuracy(encoder, images) > 0.5


def test_a_perfect_picture_has_error_zero():
    task = Inpainting(PIXELS, SHAPE)
    images = pictures(18)
    task.head = nn.Identity()

    class Oracle(nn.Module):
        def forward(self, x):
            return images

    task._answer = lambda encoder, head, shown: encoder(shown)
    assert task.error(Oracle(), images) == 0


# --- the shared base, state and input


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_a_pretext_task(name):
    task = TASKS[name](PIXELS, SHAPE)
    assert isinstance(task, PretextTask)
    loss = task(nn.Flatten(), pictures(24))
    assert loss.ndim == 0 and loss.requires_grad
    other = TASKS[name](PIXELS, SHAPE)
    other.load_state_dict(task.state_dict())
    assert other(nn.Flatten(), pictures(24)).item() == loss.item()


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["healthy", "collapsed"])
@pytest.mark.parametrize("name", TASKS)
def test_autocast_gives_finite_values_and_gradients(name, scale):
    task = TASKS[name](PIXELS, SHAPE)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, PIXELS))
    with torch.no_grad():
        encoder[1].weight.mul_(scale)  # with 0 all images have the same features
    with torch.autocast("cpu", torch.bfloat16):
        loss = task(encoder, pictures(24))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    for parameter in [*task.parameters(), *encoder.parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("name", TASKS)
def test_measuring_leaves_no_gradient(name):
    task = TASKS[name](PIXELS, SHAPE)
    measure = task.error if name == "inpainting" else task.accuracy
    assert isinstance(measure(nn.Flatten(), pictures(24)), float)
    assert all(parameter.grad is None for parameter in task.parameters())


def test_the_base_asks_for_both_methods():
    base = PretextTask(4, SHAPE)
    with pytest.raises(NotImplementedError):
        base(nn.Flatten(), pictures(4))
    with pytest.raises(NotImplementedError):
        base.puzzle(pictures(4))


L, X = torch.zeros(4, 4), torch.zeros(3, 2, 6, 6)
M = torch.zeros(3, 1, 6, 6, dtype=torch.bool)
TURNS = torch.arange(4)
BAD = [
    (lambda: rotation(torch.zeros(4, 5), TURNS), ValueError, r"logits must have shape \(N, 4\)"),
    (lambda: rotation(L, TURNS + 1), ValueError,
     "turns must be at least 0 and at most 3; got 1 to 4"),
    (lambda: rotation(L, TURNS.float()), TypeError, "turns must hold integer class labels"),
    (lambda: jigsaw(L, TURNS[:3]), ValueError, r"orders must have shape \(4,\)"),
    (lambda: jigsaw(L, TURNS - 1), ValueError,
     "orders must be at least 0 and at most 3; got -1 to 2"),
    (lambda: jigsaw(L / 0, TURNS), ValueError, "logits must be finite"),
    (lambda: inpainting(X[0], X, M), ValueError, r"prediction must have shape \(N, C, H, W\)"),
    (lambda: inpainting(X[:2], X, M), ValueError, "prediction and image must have the same shape"),
    (lambda: inpainting(X, X, M.float()), TypeError, "mask must be a boolean.*got dtype"),
    (lambda: inpainting(X, X, M[:, 0]), ValueError, r"mask must have shape \(3, 1, 6, 6\)"),
    (lambda: inpainting(X, X, M), ValueError, "mask must be true somewhere"),
    (lambda: inpainting(X, [1], M), TypeError, "image must be a floating torch.Tensor; got list"),
    (lambda: Rotation(0, SHAPE), ValueError, "width must be at least 1; got 0"),
    (lambda: Rotation(4, (1, 6)), TypeError, r"shape must be a tuple \(C, H, W\)"),
    (lambda: Rotation(4, (1, 6, 8)), ValueError, "shape must be square"),
    (lambda: Rotation(4, SHAPE)(Collapsed(), X.int()), TypeError, "images must be a floating"),
    (lambda: Rotation(4, SHAPE)(Collapsed(), X[:, :1]), ValueError,
     r"images must have shape \(N, 2, 6, 6\); got shape \(3, 1, 6, 6\)"),
    (lambda: Rotation(4, SHAPE)(Collapsed(), X / 0), ValueError, "images must be finite"),
    (lambda: Rotation(5, SHAPE)(Collapsed(), X), ValueError,
     r"encoder must return shape \(3, 5\); got shape \(3, 4\)"),
    (lambda: Jigsaw(4, SHAPE, grid=4), ValueError, "grid must be at least 2 and at most 3"),
    (lambda: Jigsaw(4, (1, 28, 28), grid=3), ValueError, "grid must divide the sides.*got 3"),
    (lambda: Inpainting(4, SHAPE, hole=0), ValueError, "hole must be above 0 and at most 1"),
    (lambda: Inpainting(4, SHAPE, hole=0.01), ValueError, "hole must leave pixels.*0 pixels wide"),
    (lambda: Inpainting(4, SHAPE, hole=1.0), ValueError, "hole must leave pixels.*6 pixels wide"),
    (lambda: Inpainting(4, SHAPE, hidden=0), ValueError, "hidden must be at least 1"),
    (lambda: Inpainting(4, SHAPE).error(Collapsed(), X), ValueError, "images must differ inside"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
