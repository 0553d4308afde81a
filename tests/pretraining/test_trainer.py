"""One step: order, views, precision, memory format."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from repcollapse.methods import METHODS
from repcollapse.pretraining import Settings, Trainer, pretrain
from repcollapse.pretraining.sources import AugmentedSource, BankSource

CPU = torch.device("cpu")


def settings(method: str = "vicreg", dataset: str = "digits", **given) -> Settings:
    defaults = {"steps": 6, "batch_size": 16, "limit": 50, "test_limit": 20, "amp": False}
    sizes = {} if METHODS[method].pretext else {"dimension": 8}
    return Settings(method, dataset, **defaults | sizes | given)


def losses(trainer: Trainer, steps: int = 4) -> list[float]:
    return [float(trainer.advance()[0]) for _ in range(steps)]


def test_global_generators_are_neither_read_nor_moved():
    """SIGReg draws its directions from them."""
    read = []
    for state in (5, 6):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        trainer = Trainer(settings("sigreg"), CPU)
        read.append((losses(trainer, 2), trainer.probes()))
        assert torch.equal(torch.get_rng_state(), before)
    assert read[0] == read[1]


def test_an_epoch_shows_every_image_at_most_once():
    trainer = Trainer(settings(), CPU)
    orders = []
    for step in range(6):  # two epochs of three batches of 16, two images left over in each
        trainer.step = step
        orders.append(trainer._rows())
    for epoch in (orders[:3], orders[3:]):
        assert len(torch.cat(epoch).unique()) == 48
    assert not torch.equal(torch.cat(orders[:3]), torch.cat(orders[3:]))


def test_views_are_fresh_at_every_step_and_a_function_of_it():
    trainer = Trainer(settings(), CPU)
    first = trainer._batch()
    trainer.step = 3
    other = trainer._batch()
    trainer.step = 0
    again = trainer._batch()
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])


def test_row_i_of_both_views_is_one_image(cifar):
    trainer = Trainer(settings(dataset="cifar10", batch_size=8), CPU)
    source = trainer.train_source
    assert isinstance(source, AugmentedSource)
    # Images of one value each: whatever is cut from them and recoloured keeps them apart.
    plain = torch.arange(len(source.labels), dtype=torch.uint8) * 4 + 20
    source.images.copy_(plain[:, None, None, None].expand_as(source.images))
    seen = []
    source_render = AugmentedSource.render

    class Spy(AugmentedSource):
        def render(self, rows, drawn):
            seen.append(rows)
            return source_render(self, rows, drawn)

    trainer.train_source = Spy(**vars(source))
    trainer._batch()
    first, second = seen[0].chunk(2)
    assert torch.equal(first, second) and torch.equal(first, trainer._rows())


def test_the_embeddings_read_are_those_of_the_step():
    trainer = Trainer(settings(), CPU)
    with torch.no_grad():
        z_expected = trainer.model.train().embed(torch.cat(trainer._batch()))[1]
    _, z = trainer.advance(read=True)
    torch.testing.assert_close(z, z_expected)
    assert not z.requires_grad
    assert trainer.advance()[1] is None


def test_the_seed_governs_everything():
    one, again, other = (losses(Trainer(settings(seed=s), CPU)) for s in (0, 0, 1))
    assert one == again
    assert all(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("method", ["vicreg", "w_mse", "dino", "byol", "rotation"])
def test_autocast_to_bfloat16_runs_on_the_cpu(method):
    exact = Trainer(settings(method, encoder="conv"), CPU)
    trainer = Trainer(settings(method, encoder="conv", amp=True), CPU)
    dtypes = set()
    for module in trainer.model.encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: dtypes.add(out.dtype))
    half, full = losses(trainer), losses(exact)
    assert dtypes == {torch.bfloat16}
    assert half == pytest.approx(full, rel=0.1) and half != full
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_channels_last_gives_the_same_numbers():
    plain = Trainer(settings(encoder="conv", dtype="float64"), CPU)
    last = Trainer(settings(encoder="conv", dtype="float64", channels_last=True), CPU)
    shapes = []
    first = last.model.encoder[0]
    first.register_forward_hook(
        lambda _, x, __: shapes.append(x[0].is_contiguous(memory_format=torch.channels_last))
    )
    assert losses(plain) == pytest.approx(losses(last), rel=1e-9)
    assert all(shapes)
    kernels = [p for p in last.model.parameters() if p.ndim == 4 and p.shape[1] > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


@pytest.mark.parametrize("dataset", ["digits", "sprites"])
def test_moved_views_come_from_a_bank(dataset):
    source = Trainer(settings(dataset=dataset), CPU).train_source
    assert isinstance(source, BankSource)
    drawn = source.draw(40, torch.Generator().manual_seed(0))["view"]
    first, second = drawn.chunk(2)
    assert (first != second).all() and drawn.unique().numel() == source.bank.n_views
    views = source.render(torch.tensor([3, 3]), {"view": torch.tensor([0, 5])})
    assert torch.equal(views, source.bank.views[3, [0, 5]])


def test_photographs_lie_there_as_bytes_and_standardised_views_come_out(cifar):
    trainer = Trainer(settings("vicreg", "cifar10", limit=100), CPU)
    source = trainer.train_source
    assert source.images.dtype == torch.uint8 and source.shape == (3, 32, 32)
    rows = torch.arange(100).repeat(2)
    views = source.render(rows, source.draw(100, torch.Generator().manual_seed(0)))
    std, mean = torch.std_mean(views, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=0.1)
    torch.testing.assert_close(std, torch.ones(3), rtol=0, atol=0.1)
    test = trainer.test_source
    assert torch.equal(test.mean, source.mean) and len(test.labels) == 20


@pytest.mark.slow
def test_resnet18_trains_on_files_of_cifars_form(cifar, tmp_path):
    given = settings("vicreg", "cifar10", encoder="resnet18", steps=2, batch_size=8, limit=20)
    result = pretrain(given, tmp_path)
    assert result["steps"] == 2
    assert result["final"]["loss"] > 0 and 0 <= result["probes"]["linear_probe_h"] <= 1


def test_the_test_views_are_the_same_at_every_reading():
    trainer = Trainer(settings(), CPU)
    assert trainer.instruments() == trainer.instruments()
    h, z = trainer.embed(trainer.test_source, 20, "test views")
    assert h.shape == (2, 20, 64) and z.shape == (2, 20, 8)
    assert not trainer.model.training and not z.requires_grad


def test_reading_in_parts_changes_nothing(monkeypatch):
    from repcollapse.pretraining import trainer as module

    trainer = Trainer(replace(settings(), dtype="float64"), CPU)
    whole = trainer.embed(trainer.test_source, 20, "test views")[1]
    monkeypatch.setattr(module, "_EMBEDDED_AT_ONCE", 7)
    parts = trainer.embed(trainer.test_source, 20, "test views")[1]
    torch.testing.assert_close(parts, whole)


def test_state_goes_round():
    one, two = Trainer(settings("moco"), CPU), Trainer(settings("moco"), CPU)
    losses(one, 3)
    two.restore(one.state())
    assert losses(one, 3) == losses(two, 3)
