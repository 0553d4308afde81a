"""The tokens of expert routing: linear by kind, drawn by the seed, with what they share apart."""

import pytest
import torch

from repcollapse.modes.tokens import draw_tokens, one_map_error


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
