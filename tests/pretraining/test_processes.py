"""Two processes that share a batch against one that has it all."""

from __future__ import annotations

import copy

import pytest
import torch
import workers
from torch import multiprocessing, nn

from repcollapse.methods import METHODS
from repcollapse.pretraining import Trainer, processes
from repcollapse.pretraining.processes import SyncedBatchNorm, synchronise_batch_norm

NAMES = [*METHODS, *workers.EXTRA]


def draw(*shape: int, dtype: torch.dtype, offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).add(offset).to(dtype)


DOUBLE, SINGLE = torch.float64, torch.float32
ROWS, IMAGES = (12, 5), (6, 4, 3, 2)


def scaled(norm: nn.Module) -> nn.Module:
    """The norm with a scale and a shift of its own for every channel."""
    with torch.no_grad():
        norm.weight.copy_(draw(norm.num_features, dtype=DOUBLE, offset=2))
        norm.bias.copy_(draw(1, norm.num_features, dtype=DOUBLE)[0])
    return norm


# A norm, its input and the gradient at its output.
NORMS = {
    "rows": (
        scaled(nn.BatchNorm1d(5).double()),
        draw(*ROWS, dtype=DOUBLE),
        draw(*ROWS, dtype=DOUBLE, offset=1),
    ),
    "nothing learned": (
        nn.BatchNorm1d(5, affine=False).double(),
        draw(*ROWS, dtype=DOUBLE),
        draw(*ROWS, dtype=DOUBLE).square(),
    ),
    "images, average of all batches": (
        scaled(nn.BatchNorm2d(4, momentum=None).double()),
        draw(*IMAGES, dtype=DOUBLE),
        draw(*IMAGES, dtype=DOUBLE).square(),
    ),
    "channels last": (
        scaled(nn.BatchNorm2d(4).double()),
        draw(*IMAGES, dtype=DOUBLE).contiguous(memory_format=torch.channels_last),
        draw(*IMAGES, dtype=DOUBLE).square(),
    ),
    # A variance of 1 around a mean of 1000: the mean of squares in float32 would lose it.
    "far from 0": (
        nn.BatchNorm1d(5),
        draw(*ROWS, dtype=SINGLE, offset=1000),
        draw(*ROWS, dtype=SINGLE).square(),
    ),
    "no running statistics": (
        nn.BatchNorm1d(5, track_running_stats=False).double(),
        draw(*ROWS, dtype=DOUBLE),
        draw(*ROWS, dtype=DOUBLE).square(),
    ),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(workers.run, (str(folder), NORMS), nprocs=workers.WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(workers.WORLD)]


@pytest.fixture(scope="module")
def one() -> dict[str, dict]:
    return workers.train_all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_first_gradient_is_that_of_one_process(one, two, name):
    for key, tolerance in ((f"{name}, float32", 1e-5), (name, 1e-12)):
        expected = one[key]["gradients"]
        whole = torch.cat([each.flatten() for each in expected.values()]).norm()
        assert whole > 1e-4
        for rank in two:
            given = rank["trained"][key]["gradients"]
            assert given.keys() == expected.keys()
            for parameter, gradient in expected.items():
                # A bias ahead of a batch norm has none: what it shows is rounding of the rest.
                size = max(gradient.norm(), 0.02 * whole)
                assert (given[parameter] - gradient).norm() <= tolerance * size, parameter


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_weights_after_many_steps_are_those_of_one_process(one, two, name):
    expected = one[name]
    assert len(expected["losses"]) == workers.STEPS == 50
    for rank in two:
        given = rank["trained"][name]
        assert given["state"].keys() == expected["state"].keys()
        for key, value in expected["state"].items():
            torch.testing.assert_close(given["state"][key], value, rtol=0, atol=1e-8, msg=key)
        assert given["losses"] == pytest.approx(expected["losses"], rel=1e-8, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_both_processes_hold_the_same_to_the_last_bit(two, name):
    first, second = (rank["trained"][name]["state"] for rank in two)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_steps_move_all_that_is_compared(one, name, monkeypatch):
    """Equal because nothing moved would be no proof."""
    for extra, recipe in workers.EXTRA.items():
        monkeypatch.setitem(METHODS, extra, recipe)
    trainer = Trainer(workers.settings_of(name, "float64"), torch.device("cpu"))
    start = trainer.model.state_dict()
    moved = [k for k, v in one[name]["state"].items() if not torch.equal(v, start[k])]
    still = set(start) - set(moved)
    assert not {k for k in still if "orders" not in k and "masks" not in k}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_embeddings_read_are_the_whole_batchs(one, two, name):
    expected = one[name]["z"]
    for rank in two:
        given = rank["trained"][name]["z"]
        assert len(given) == len(expected) == 80
        # The rows come in another order, process by process.
        torch.testing.assert_close(given.mean(dim=0), expected.mean(dim=0), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(given.std(dim=0), expected.std(dim=0), rtol=1e-6, atol=1e-8)


# --- batch norm


@pytest.mark.slow
@pytest.mark.parametrize("case", NORMS)
def test_batch_norm_is_that_of_the_joined_batch(two, case):
    original, x, g = NORMS[case]
    norm = copy.deepcopy(original)
    own = x.clone().requires_grad_()
    y = norm(own)
    y.backward(g)
    tolerance = {"rtol": 2e-4, "atol": 2e-4} if x.dtype == SINGLE else {"rtol": 0, "atol": 1e-12}
    parts = [rank["norms"][case] for rank in two]
    torch.testing.assert_close(torch.cat([p["y"] for p in parts]), y.detach(), **tolerance)
    torch.testing.assert_close(
        torch.cat([p["gradient of x"] for p in parts]), own.grad, **tolerance
    )
    for name, parameter in norm.named_parameters():
        total = sum(p[f"gradient of {name}"] for p in parts)
        torch.testing.assert_close(total, parameter.grad, **tolerance)
    assert len(list(norm.named_buffers())) == (0 if case == "no running statistics" else 3)
    for name, buffer in norm.named_buffers():
        for part in parts:
            torch.testing.assert_close(part[name], buffer, **tolerance)
    # Each half normalised alone is something else.
    half = original.train()(x[: len(x) // 2])
    assert (half - y[: len(x) // 2]).abs().max() > 0.05


def test_one_process_keeps_torchs_batch_norm():
    norm, x, _ = NORMS["rows"]
    synced = SyncedBatchNorm.of(copy.deepcopy(norm))
    torch.testing.assert_close(synced(x), copy.deepcopy(norm)(x), rtol=0, atol=0)
    synced.eval()
    torch.testing.assert_close(synced(x), copy.deepcopy(synced)(x), rtol=0, atol=0)


def test_conversion_keeps_names_objects_and_mode():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sequential(nn.BatchNorm1d(5)))
    model[2].eval()
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    converted = synchronise_batch_norm(model, torch.device("cpu"))
    after = dict(converted.named_parameters()) | dict(converted.named_buffers())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert isinstance(converted[1], SyncedBatchNorm) and converted[1].training
    assert isinstance(converted[2][0], SyncedBatchNorm) and not converted[2][0].training


# --- without a group


def test_without_a_group_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes.process_group("cpu") as device:
        assert device == torch.device("cpu")
        assert (processes.rank(), processes.world_size()) == (0, 1)
        assert processes.any_process(True, device) and not processes.any_process(False, device)
