"""Expert routing: its training, and what is read of it."""

import math

import numpy as np
import pytest
import torch

from repcollapse.modes import routing, tokens
from repcollapse.modes.mixture import SwitchLayer
from repcollapse.modes.routing import Setting, train
from repcollapse.modes.tokens import draw_tokens


def test_a_training_is_governed_by_its_seed_alone():
    torch.manual_seed(5)
    first = train(Setting(), 1, steps=6, at=(0, 6))
    state = torch.get_rng_state()
    again = train(Setting(), 1, steps=6, at=(0, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert first.losses.tolist() == again.losses.tolist()
    assert first.loads.equals(again.loads)
    assert first.error == pytest.approx(again.error, rel=1e-12)  # least squares round
    assert train(Setting(), 2, steps=6).losses[0] != first.losses[0]


def test_tokens_router_and_batches_come_from_streams_of_their_own(monkeypatch):
    asked = []

    def noted(seed, purpose):
        asked.append((seed, purpose))
        return tokens_stream(seed, purpose)

    tokens_stream = tokens.stream
    for module in (tokens, routing):
        monkeypatch.setattr(module, "stream", noted)
    train(Setting(), 7, steps=1)
    assert len(asked) == len(set(asked)) == 3 and {seed for seed, _ in asked} == {7}


@pytest.mark.parametrize("seed", [900, 901, 902])
def test_the_first_router_says_nothing_about_the_map_that_all_tokens_share(seed):
    seen, _ = draw_tokens(seed)
    maps = [
        torch.linalg.lstsq(seen.x[seen.kind == k], seen.y[seen.kind == k]).solution.T
        for k in range(8)
    ]
    shared = torch.stack(maps).mean(dim=0)
    router = train(Setting(), seed, steps=0).layer.router.detach()
    both = torch.stack([shared[:8].flatten(), router.flatten()])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.3  # of 128 entries: more than three in a thousand


def test_what_is_read_is_of_the_end_and_belongs_together():
    found = train(Setting(), 0, steps=5, at=(0, 2, 5))
    assert list(found.routes) == list(found.loads.index) == [0, 2, 5]
    assert torch.equal(found.routes[5], found.route)
    assert found.loads.shape == (3, 8)
    assert found.loads.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert found.loads.loc[5].tolist() == pytest.approx(
        [float((found.route == k).double().mean()) for k in range(8)]
    )
    assert found.usage.used == len(found.route.unique())
    assert found.usage.perplexity == pytest.approx(8**found.entropy)
    assert {found.probabilities.device, found.layer.router.device} == {torch.device("cpu")}


def test_the_instruments_at_their_limits():
    unseen, layer = draw_tokens(0)[1], SwitchLayer(16, 8)

    def read(probabilities):
        return routing.Trained(
            layer=layer,
            test=unseen,
            losses=np.empty(0),
            routes={},
            probabilities=probabilities,
            error=1.0,
        )

    each = read(torch.eye(8)[unseen.kind])
    assert each.agreement == pytest.approx(1) and each.entropy == pytest.approx(1, abs=5e-3)
    one = read(torch.eye(8)[0].expand(len(unseen.x), 8))
    assert (one.agreement, one.entropy, one.usage.perplexity, one.usage.used) == (0, 0, 1, 1)


def test_the_first_steps_of_a_warm_up_reach_every_expert():
    dense, sparse = (
        train(Setting(warm_up=steps), 0, steps=1).layer.experts.detach().flatten(1).norm(dim=1)
        for steps in (1, 0)
    )
    assert (dense > 0).all()
    assert not torch.allclose(dense, sparse)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"balance": -1.0}, "balance must be at least 0"),
        ({"balance": math.inf}, "balance must be"),
        ({"experts": 1}, "experts must be at least 2"),
        ({"warm_up": -1}, "warm_up must be at least 0"),
    ],
)
def test_a_setting_of_another_kind_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Setting(**wrong)


def test_other_tokens_can_be_given():
    given = draw_tokens(4, dimension=5, train=50, test=20)
    found = train(Setting(experts=3), 0, steps=2, tokens=lambda seed: given)
    assert found.test is given[1] and found.layer.experts.shape == (3, 5, 5)
