"""Two gloo ranks with half a batch each against one process with the joined batch.

A row of the table is a loss of two views, computed with `gather_distributed=True`: it must have the
value of the joined batch on every rank, and the parameters' gradient averaged over ranks, as DDP
does it, must be that of the joined batch. All rows run in one pair of processes.
"""

from __future__ import annotations

import functools
import inspect
import warnings

import pytest
import torch
from support import randn
from torch import distributed, multiprocessing, nn
from torch.nn.functional import cross_entropy

from repcollapse import objectives
from repcollapse.objectives import SingularCovarianceError, _distributed

RANKS, ROWS, FEATURES, D = 2, 5, 6, 4


# --- the table


def function(name, **options):
    """A row for a function of two views."""
    call = functools.partial(getattr(objectives, name), gather_distributed=True, **options)

    def run(z_a, z_b):
        # What is drawn must be what rank 0 draws.
        grouped = _distributed.world_size() > 1
        torch.manual_seed(distributed.get_rank() if grouped else 0)
        return call(z_a, z_b)

    return run


def terms(name, **options):
    """A row for a function that returns terms; unequal weights tell them apart."""
    call = function(name, **options)
    return lambda z_a, z_b: sum(k * term for k, term in enumerate(call(z_a, z_b), start=1))


def module(name, **options):
    """A row for a module: three steps, so that the state of the first ones tells in the last."""

    def run(z_a, z_b):
        torch.manual_seed(0)
        made = getattr(objectives, name)(D, gather_distributed=True, **options).double()
        earlier = 0
        for step in range(3):
            # Constants: after_step may change in place what a backward pass would still need.
            first, second = z_a.detach() + 0.3 * step, z_b.detach()
            earlier = earlier + (made(first, second) + made(second, first)).detach()
            made.after_step()
        return earlier + made(z_a, z_b) + made(z_b, z_a)

    return run


def moco_of_queue(z_a, z_b):
    queue = randn(7, D, seed=3)
    return objectives.moco(z_a, z_b, queue=queue, gather_distributed=True)


def prediction_of_codes(z_a, z_b):
    """A row for Sinkhorn's codes, of which each rank gets its own rows."""
    codes = objectives.sinkhorn(z_a, epsilon=0.5, gather_distributed=True)
    return cross_entropy(_distributed.gather(z_b), _distributed.gather(codes))


LOSSES = {
    "nt_xent": function("nt_xent", temperature=0.3),
    "nt_xent_terms": terms("nt_xent_terms"),
    "alignment_uniformity": function("alignment_uniformity"),
    "alignment_uniformity_terms": terms("alignment_uniformity_terms", alpha=1),
    "spectral_contrastive": function("spectral_contrastive"),
    "spectral_contrastive_terms": terms("spectral_contrastive_terms"),
    "vicreg": function("vicreg", gamma=3.0),
    "vicreg_terms": terms("vicreg_terms", gamma=3.0, convention="paper"),
    "barlow_twins": function("barlow_twins", redundancy=0.3),
    "barlow_twins_terms": terms("barlow_twins_terms"),
    "moco": moco_of_queue,
    "MoCo": module("MoCo", queue=16),
    "MoCo, a short queue": module("MoCo", queue=3),
    "directpred": function("directpred"),
    "DirectPred": module("DirectPred"),
    "w_mse": function("w_mse", shrinkage=0.01),
    "w_mse, slices": function("w_mse", shrinkage=0.01, slices=2, normalize=False),
    "sinkhorn": prediction_of_codes,
    "swav": function("swav", temperature=0.5, epsilon=0.5),
    "swav, unbalanced": function("swav", temperature=0.5, epsilon=0.5, balance=False),
    "SwAV": module("SwAV", prototypes=6, temperature=0.5, epsilon=0.5),
    "DINO": module("DINO", prototypes=6, momentum=0.5, student_temperature=0.5),
    "sigreg": function("sigreg", slices=8),
    "sigreg_terms": terms("sigreg_terms", slices=8),
}


# --- what must not pass: the two ways in which published code goes wrong


def rows_of_other_ranks_as_constants(z):
    if _distributed.world_size() == 1:
        return z
    rows = [torch.empty_like(z) for _ in range(RANKS)]
    distributed.all_gather(rows, z.detach())
    rows[distributed.get_rank()] = z
    return torch.cat(rows)


def nt_xent_without_gradient_from_other_ranks(z_a, z_b):
    gathered = (rows_of_other_ranks_as_constants(z) for z in (z_a, z_b))
    return objectives.nt_xent(*gathered)


def covariance_by_all_reduce(z_a, z_b):
    """The statistic of the joined batch is right; autograd knows nothing of the sum."""

    def summed(x):
        if _distributed.world_size() > 1:
            distributed.all_reduce(x)
        return x

    total = 0
    for z in (z_a, z_b):
        rows = len(z) * _distributed.world_size()
        centred = z - summed(z.detach().sum(dim=0)) / rows
        covariance = summed(centred.T @ centred) / (rows - 1)
        total = total + (covariance - covariance.diagonal().diag()).square().sum() / D
    return total


NAIVE = {
    "all_gather without gradient": nt_xent_without_gradient_from_other_ranks,
    "all_reduce without gradient": covariance_by_all_reduce,
}


# --- the two processes


def network():
    """One layer for each view, the same everywhere."""
    layers = nn.ModuleList([nn.Linear(FEATURES, D), nn.Linear(FEATURES, D)]).double()
    with torch.no_grad():
        for seed, parameter in enumerate(layers.parameters()):
            parameter.copy_(randn(*parameter.shape, seed=seed))
    return layers


def batch():
    x = randn(RANKS * ROWS, FEATURES, seed=10)
    return x, x + 0.5 * randn(RANKS * ROWS, FEATURES, seed=11)


def value_and_gradient(loss, x_a, x_b):
    layers = network()
    value = loss(layers[0](x_a), layers[1](x_b))
    value.backward()
    # A view that is held constant leaves its layer without a gradient.
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in layers.parameters()]
    gradient = torch.cat([part.flatten() for part in parts]).detach()
    if _distributed.world_size() > 1:
        distributed.all_reduce(gradient)  # what DDP does
        gradient /= RANKS
    return value.detach(), gradient


class Both(nn.Module):
    """Both layers in one forward, as DDP wants it."""

    def __init__(self):
        super().__init__()
        self.layers = network()

    def forward(self, x_a, x_b):
        return self.layers[0](x_a), self.layers[1](x_b)


def of_ddp(loss, x_a, x_b):
    model = nn.parallel.DistributedDataParallel(Both())
    value = loss(*model(x_a, x_b))
    value.backward()
    return value.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


def error_for_unequal_rows(rank):
    try:
        _distributed.gather(torch.ones(3 + rank, 2))
    except ValueError as error:
        return str(error)
    return ""


def work(rank, folder):
    torch.set_num_threads(1)
    # all_reduce inside a loss warns in some versions of torch: it is what is being shown here.
    warnings.filterwarnings("ignore", message=".*autograd kernel was not registered")
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS
    )
    here = slice(rank * ROWS, (rank + 1) * ROWS)
    x_a, x_b = (x[here] for x in batch())
    results = {name: value_and_gradient(loss, x_a, x_b) for name, loss in (LOSSES | NAIVE).items()}
    results["DDP"] = of_ddp(LOSSES["nt_xent"], x_a, x_b)
    results["unequal rows"] = error_for_unequal_rows(rank)
    rows = torch.arange(2.0).unsqueeze(1) + 10 * rank
    results["gathered"] = _distributed.gather(rows)
    distributed.destroy_process_group()
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each rank got."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def assert_the_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_have_the_value_and_the_gradient_of_the_joined_batch(name, ranks):
    value, gradient = value_and_gradient(LOSSES[name], *batch())
    assert float(gradient.norm()) > 1e-3
    for results in ranks:
        assert_the_same(results[name][0], value)
        assert_the_same(results[name][1], gradient)


def test_ddp_itself_has_the_gradient_of_the_joined_batch(ranks):
    value, gradient = value_and_gradient(LOSSES["nt_xent"], *batch())
    for results in ranks:
        assert_the_same(results["DDP"][0], value)
        assert_the_same(results["DDP"][1], gradient)


@pytest.mark.parametrize("name", NAIVE)
def test_a_collective_without_gradient_has_the_right_value_and_the_wrong_gradient(name, ranks):
    value, gradient = value_and_gradient(NAIVE[name], *batch())
    for results in ranks:
        assert_the_same(results[name][0], value)
        error = (results[name][1] - gradient).norm() / gradient.norm()
        assert error > 0.1


def test_rows_are_in_the_order_of_ranks(ranks):
    for results in ranks:
        assert results["gathered"].flatten().tolist() == [0, 1, 10, 11]


def test_ranks_with_different_numbers_of_rows_are_told_so_on_every_rank(ranks):
    for results in ranks:
        assert results["unequal rows"].startswith(
            "gather_distributed needs the same number of rows on every rank; got [3, 4]"
        )


# --- one process


@pytest.mark.parametrize("name", ["nt_xent", "alignment_uniformity", "vicreg", "barlow_twins"])
def test_without_a_process_group_it_changes_nothing(name):
    z_a, z_b = randn(6, D), randn(6, D, seed=1)
    objective = getattr(objectives, name)
    assert float(objective(z_a, z_b)) == float(objective(z_a, z_b, gather_distributed=True))


def test_in_a_group_of_one_it_changes_nothing(tmp_path):
    z = randn(6, D)
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        assert _distributed.gather(z) is z
        loss = z.sum()
        assert _distributed.mean_over_ranks(loss, 6) is loss
    finally:
        distributed.destroy_process_group()


def test_the_table_has_every_function_and_module_that_can_gather():
    """A row's name begins with the name of what it tests."""

    def can_gather(name):
        made = getattr(objectives, name)
        takes = {} if made is SingularCovarianceError else inspect.signature(made).parameters
        return "gather_distributed" in takes

    able = {name for name in objectives.__all__ if can_gather(name)}
    assert able == {name.partition(",")[0] for name in LOSSES}
