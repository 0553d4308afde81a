"""Expert routing: the world, the layer against loops, and the closed forms of its losses."""

import pytest
import torch

from repcollapse.modes.routing import (
    SwitchLayer,
    balance_loss,
    draw_tokens,
    one_map_error,
    train_layer,
)


def test_a_kind_is_linear_and_its_map_is_one_matrix():
    train, test = draw_tokens(3)
    for kind in range(8):
        here, there = train.kind == kind, test.kind == kind
        fitted = torch.linalg.lstsq(train.x[here], train.y[here]).solution
        torch.testing.assert_close(test.x[there] @ fitted, test.y[there], atol=1e-3, rtol=1e-3)
    assert one_map_error(train, test) > 1


def test_one_map_is_enough_where_kinds_have_none_of_their_own():
    train, test = draw_tokens(3)
    ours = (
        type(part)(part.x, part.x @ torch.eye(16).roll(1, 0), part.kind) for part in (train, test)
    )
    assert one_map_error(*ours) < 1e-10


def test_the_seed_governs_everything_drawn():
    first, again, other = (draw_tokens(seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first.x, again.x) and torch.equal(first.y, again.y)
    assert not torch.equal(first.x, other.x) and not torch.equal(first.kind, other.kind)


def test_the_offset_is_in_one_dimension_of_every_token():
    plain, moved = (draw_tokens(0, offset=offset)[0].x for offset in (0.0, 5.0))
    torch.testing.assert_close(moved - plain, 5 * torch.eye(16)[2].expand(len(plain), 16))


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


def test_the_load_is_a_constant_to_the_gradient():
    p = torch.tensor([[0.6, 0.4], [0.7, 0.3]], requires_grad=True)
    balance_loss(p, p.argmax(dim=1)).backward()
    torch.testing.assert_close(p.grad, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_a_training_is_governed_by_its_seed_alone():
    torch.manual_seed(5)
    first = train_layer(1, steps=6, readings=4)
    state = torch.get_rng_state()
    again = train_layer(1, steps=6, readings=4)
    assert torch.equal(state, torch.get_rng_state())
    assert first.losses.tolist() == again.losses.tolist()
    assert (first.loads == again.loads).all() and first.error == again.error
    assert train_layer(2, steps=6).losses[0] != first.losses[0]


def test_what_is_read_is_of_the_end():
    found = train_layer(0, steps=5, readings=3)
    assert found.read_at == [0, 2, 5]
    assert (found.routes[-1] == found.route.numpy()).all()
    assert found.loads.sum(axis=1) == pytest.approx(1)
    assert torch.equal(found.probabilities.argmax(dim=1), found.route)


def test_the_first_steps_of_a_warm_up_reach_every_expert():
    dense = train_layer(0, steps=1, warm_up=1).layer.experts.detach().flatten(1).norm(dim=1)
    sparse = train_layer(0, steps=1, warm_up=0).layer.experts.detach().flatten(1).norm(dim=1)
    assert (dense > 0).all()
    assert not torch.allclose(dense, sparse)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kinds": 1}, "kinds must be at least 2"),
        ({"dimension": 2}, "dimension must be at least 3"),
        ({"shared": -1.0}, "shared must be at least 0"),
        ({"offset": float("nan")}, "offset must be"),
    ],
)
def test_a_world_of_another_kind_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        draw_tokens(0, **wrong)


def test_a_training_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="balance must be at least 0"):
        train_layer(0, steps=1, balance=-1.0)
    with pytest.raises(ValueError, match="experts must be at least 2"):
        train_layer(0, steps=1, experts=1)
    with pytest.raises(ValueError, match="route must have shape"):
        balance_loss(torch.eye(3), torch.zeros(2, dtype=torch.long))


def test_other_tokens_can_be_given():
    tokens = draw_tokens(4, dimension=5, train=50, test=20)
    found = train_layer(0, steps=2, experts=3, tokens=tokens)
    assert found.test is tokens[1] and found.layer.experts.shape == (3, 5, 5)
