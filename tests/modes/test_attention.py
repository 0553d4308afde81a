"""Attention layers: against loops, and put together as their wiring says."""

import math

import pytest
import torch

from repcollapse.modes.attention import Layer, SelfAttention, Wiring, scaled_linear, states

FULL = Wiring(skip=True, norm="pre", mlp=True)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_attention_is_that_of_loops():
    attention = SelfAttention(6, 2).double().requires_grad_(False)
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    query, key, value = (m(x)[0] for m in (attention.query, attention.key, attention.value))
    read = torch.zeros(4, 6, dtype=torch.float64)
    for head in (slice(0, 3), slice(3, 6)):
        for i in range(4):
            scores = [float(query[i, head] @ key[j, head]) / math.sqrt(3) for j in range(4)]
            weights = [math.exp(score) for score in scores]
            for j in range(4):
                read[i, head] += weights[j] / sum(weights) * value[j, head]
    torch.testing.assert_close(attention(x)[0], attention.out(read))
    mixed = attention.weights(x)[0] @ value.unflatten(-1, (2, 3)).transpose(0, 1)
    torch.testing.assert_close(mixed.transpose(0, 1).flatten(1), read)


def test_attention_weights_sum_to_one_and_a_larger_gain_sharpens_them():
    x = torch.randn(2, 5, 8)
    entropies = []
    for gain in (0.1, 1.0, 10.0):
        torch.manual_seed(1)
        weights = SelfAttention(8, 2, gain=gain).weights(x).detach()
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 5))
        entropies.append(float(torch.special.entr(weights).sum(dim=-1).mean()))
    assert math.log(5) > entropies[0] > entropies[1] > entropies[2]


def test_a_layer_is_put_together_as_its_wiring_says():
    x = torch.randn(1, 4, 8)

    def layer(**options):
        torch.manual_seed(2)
        return Layer(8, 2, Wiring(**options))

    plain = layer()
    y = plain.attention(x)
    norm = torch.nn.LayerNorm(8)
    torch.testing.assert_close(plain(x), y)
    torch.testing.assert_close(layer(skip=True)(x), x + y)
    torch.testing.assert_close(layer(skip=True, scale=0.5)(x), x + 0.5 * y)
    torch.testing.assert_close(layer(skip=True, norm="pre")(x), x + plain.attention(norm(x)))
    torch.testing.assert_close(layer(skip=True, norm="post")(x), norm(x + y))
    both = layer(skip=True, mlp=True)
    torch.testing.assert_close(both(x), x + y + both.branches[1](x + y))


def test_a_perceptron_sees_one_token_at_a_time():
    perceptron = Layer(8, 2, Wiring(mlp=True)).branches[1]
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(perceptron(x)[:, 2:3], perceptron(x[:, 2:3]))


def test_states_begin_with_the_input():
    layers = [Layer(8, 2, FULL) for _ in range(3)]
    x = torch.randn(1, 4, 8)
    hidden = states(layers, x)
    assert len(hidden) == 4
    assert hidden[0] is x
    torch.testing.assert_close(hidden[3], layers[2](layers[1](layers[0](x))))


def test_equal_attention_to_all_takes_everything_that_tells_tokens_apart():
    layer = Layer(16, 2, Wiring()).double()
    with torch.no_grad():
        layer.attention.query.weight.zero_()
        x = torch.randn(1, 8, 16, dtype=torch.float64)
        out = layer(x)
    torch.testing.assert_close(out, out[:, :1].expand_as(out))


def test_fixed_attention_mixes_as_it_did_whatever_comes():
    attention = SelfAttention(8, 2).double().requires_grad_(False)
    seen, x = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    before, weights = attention(seen), attention.weights(seen)
    free = attention(x)
    attention.fix(seen)
    torch.testing.assert_close(attention(seen), before)
    torch.testing.assert_close(attention.weights(x), weights)
    assert not torch.allclose(attention(x), free)
    value = attention.value(x).unflatten(-1, (2, 4)).transpose(1, 2)
    read = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x), attention.out(read))


@pytest.mark.parametrize("shape", [(5, 8), (2, 5, 8), (1, 5, 7)])
def test_attention_is_fixed_to_one_sample_of_its_width(shape):
    with pytest.raises(ValueError, match=r"x must have shape \(1, T, 8\); got shape"):
        SelfAttention(8, 2).fix(torch.zeros(shape))


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "norm must be one of", {"norm": "batch"}),
        (ValueError, "scale must be above 0", {"skip": True, "scale": 0.0}),
        (ValueError, "scale must be 1 without skip.*got 0.5", {"scale": 0.5}),
    ],
)
def test_a_wiring_that_is_none_is_refused(error, message, options):
    with pytest.raises(error, match=message):
        Wiring(**options)


def test_sizes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="width must be a multiple of 3 heads; got 8"):
        SelfAttention(8, 3)
    with pytest.raises(ValueError, match="width must be at least 1; got 0"):
        SelfAttention(0, 1)
    with pytest.raises(ValueError, match="gain must be above 0; got 0"):
        SelfAttention(8, 2, gain=0)


@pytest.mark.parametrize("variance", [1.0, 2.0])
def test_a_scaled_map_has_the_variance_it_says(variance):
    weight = scaled_linear(300, 200, variance=variance).weight.detach()
    assert float(weight.var()) * 300 == pytest.approx(variance, rel=0.02)
    x = torch.randn(500, 300)
    assert float((x @ weight.T).square().mean()) == pytest.approx(variance, rel=0.05)
