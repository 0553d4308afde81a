"""The mixture of experts: the layer against loops, and the closed forms of its balancing loss."""

import pytest
import torch

from repcollapse.modes.mixture import SwitchLayer, balance_loss


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_the_layer_is_that_of_loops(cosine, shared):
    torch.manual_seed(0)
    layer = SwitchLayer(5, 3, shared=shared, cosine=cosine).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(7, 5, dtype=torch.float64)
    y, p, route = layer(x)
    dense, _, _ = layer(x, dense=True)
    for n in range(len(x)):
        scores = []
        for r in layer.router:
            dot = (x[n] * r).sum()
            if cosine:
                dot = dot / x[n].norm() / r.norm() / layer.log_temperature.exp()
            scores.append(dot)
        chance = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        best = int(chance.argmax())
        extra = layer.shared @ x[n] if shared else 0
        torch.testing.assert_close(p[n], chance)
        assert int(route[n]) == best
        torch.testing.assert_close(y[n], chance[best] * (layer.experts[best] @ x[n]) + extra)
        mixed = sum(c * (w @ x[n]) for c, w in zip(chance, layer.experts, strict=True))
        torch.testing.assert_close(dense[n], mixed + extra)


def test_only_the_expert_that_takes_a_token_learns_from_it():
    torch.manual_seed(0)
    layer = SwitchLayer(4, 3)
    y, _, route = layer(torch.randn(1, 4))
    (y - 1).square().sum().backward()
    moved = layer.experts.grad.flatten(1).norm(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == [int(route)]


@pytest.mark.parametrize("experts", [2, 5, 8])
def test_the_balance_loss_at_its_limits(experts):
    route = torch.arange(experts).repeat(4)
    sure = torch.eye(experts, dtype=torch.float64)[route]
    assert float(balance_loss(sure, route)) == pytest.approx(1)
    one = torch.zeros(4 * experts, dtype=torch.long)
    assert float(balance_loss(torch.eye(experts)[one], one)) == pytest.approx(experts)
    uniform = torch.full((4 * experts, experts), 1 / experts, dtype=torch.float64)
    assert float(balance_loss(uniform, one)) == pytest.approx(1)


def test_the_balance_loss_of_a_sure_router_is_one_and_the_squared_variation():
    route = torch.tensor([0, 0, 0, 1, 1, 3])
    load = torch.tensor([3.0, 2, 0, 1]) / 6
    variation = float(load.std(correction=0) / load.mean())
    found = balance_loss(torch.eye(4)[route], route)
    assert float(found) == pytest.approx(1 + variation**2)


@pytest.mark.parametrize("experts", [3, 7, 8])
def test_the_balance_loss_can_be_less_than_one(experts):
    used = (experts + 1) // 2
    route = torch.arange(used)
    p = torch.zeros(used, experts, dtype=torch.float64)
    p[:, used:] = 1 / (experts - used + 1)
    p[route, route] = 1 / (experts - used + 1)
    assert torch.equal(p.argmax(dim=1), route)
    assert float(balance_loss(p, route)) == pytest.approx(experts / used / (experts - used + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_load_is_as_exact_as_the_probabilities(dtype):
    route = torch.tensor([0, 0, 1])
    p = torch.tensor([[1.0, 0.0]] * 3, dtype=dtype)
    assert balance_loss(p, route) == 2 * (torch.tensor(2, dtype=dtype) / 3)


def test_the_load_is_a_constant_to_the_gradient():
    p = torch.tensor([[0.6, 0.4], [0.7, 0.3]], requires_grad=True)
    balance_loss(p, p.argmax(dim=1)).backward()
    torch.testing.assert_close(p.grad, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_routes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="route must have shape"):
        balance_loss(torch.eye(3), torch.zeros(2, dtype=torch.long))
