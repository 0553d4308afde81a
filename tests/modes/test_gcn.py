"""Graph networks against their equations, and what training does to them."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from repcollapse.checkups import layer_residuals
from repcollapse.graphs import block_model
from repcollapse.modes.gcn import GCN, THETA, Network, train
from repcollapse.modes.runs import once
from repcollapse.modes.smoothing import RULES

SMALL = {"size": 12, "within": 0.6, "between": 0.1, "labelled": 3}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_the_networks_are_their_equations(rule, bias):
    torch.manual_seed(0)
    graph = block_model(0, **SMALL)
    x, a = graph.features.float(), graph.adjacency.to_dense().float()
    model = GCN(16, 4, Network(depth=3, rule=rule, bias=bias, alpha=0.3))
    assert all((layer.bias is not None) == bias for layer in model.layers)
    h = first = (x @ model.into.weight.T + model.into.bias).relu()
    for number, layer in enumerate(model.layers, start=1):
        offset = layer.bias if bias else 0
        if rule == "initial residual":
            beta = math.log(THETA / number + 1)
            weights = (1 - beta) * torch.eye(16) + beta * layer.weight.T
            h = ((0.7 * a @ h + 0.3 * first) @ weights + beta * offset).relu()
        else:
            h = a @ h @ layer.weight.T + offset
            if rule == "PairNorm":
                h = h - h.mean(dim=0)
                h = h / (h.square().sum() / len(h)).sqrt()
            h = h.relu()
    scores = model(x, a)
    torch.testing.assert_close(scores, h @ model.out.weight.T + model.out.bias)
    states = model.hidden(x, a)
    torch.testing.assert_close(states[-1], h)
    assert len(states) == 4
    scores.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_network_keeps_nothing_of_a_call():
    model = GCN(16, 4, Network(depth=3))
    graph = block_model(0, **SMALL)
    before = set(vars(model))
    model(graph.features.float(), graph.adjacency.float())
    assert set(vars(model)) == before


def run(network, *, steps, seed=900):
    graph = partial(block_model, **SMALL)
    return once(partial(train, network, steps=steps, graph=graph, device="cpu"), seed)


def test_a_shallow_network_learns_and_a_seed_governs_it():
    one, again = (run(Network(depth=2), steps=60) for _ in range(2))
    assert one.accuracy == again.accuracy > 0.8
    assert one.fitted < 0.1
    assert len(one.hidden) == 3
    assert torch.equal(one.graph.edges, block_model(900, **SMALL).edges)
    assert not any(h.requires_grad for h in one.hidden)


def test_a_deep_network_begins_smooth():
    found = run(Network(depth=32), steps=0)
    expected = layer_residuals(found.hidden, along=found.graph.degrees.sqrt())
    assert found.residuals.tolist() == expected.tolist()
    assert found.residual == expected[-1] < 2**-8 < expected[0]


def test_dropping_edges_is_seen_in_training_alone():
    found = [
        run(Network(depth=2, keep=keep), steps=steps).hidden[-1]
        for keep, steps in ((1.0, 0), (0.3, 0), (1.0, 3), (0.3, 3))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[2], found[3])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"keep": 0.0}, ValueError, "keep must be above 0 and at most 1"),
        ({"keep": 1.5}, ValueError, "keep must be"),
        ({"keep": math.nan}, ValueError, "keep must be"),
        ({"depth": -1}, ValueError, "depth must be at least 0"),
        ({"depth": 2.0}, TypeError, "depth must be an integer; got float"),
        ({"rule": "hope"}, ValueError, "rule must be one of"),
        ({"alpha": 2}, ValueError, "alpha must be at least 0 and at most 1"),
    ],
)
def test_no_other_network_is_made(wrong, error, message):
    with pytest.raises(error, match=message):
        Network(**wrong)


@pytest.mark.parametrize("size", ["inputs", "classes", "width"])
def test_sizes_are_positive(size):
    sizes = {"inputs": 16, "classes": 4, "width": 8} | {size: 0}
    with pytest.raises(ValueError, match=f"{size} must be at least 1; got 0"):
        GCN(sizes["inputs"], sizes["classes"], Network(), width=sizes["width"])
