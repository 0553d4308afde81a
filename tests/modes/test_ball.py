"""The ball and its film against their closed forms."""

from __future__ import annotations

import pytest
import torch

from repcollapse.modes import ball


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_ball_keeps_its_speed_and_is_reflected_by_walls() -> None:
    shot = ball.film(200, 60, generator())
    x, v = shot.position, shot.velocity
    assert bool((x >= 0).all() & (x <= 1).all())
    torch.testing.assert_close(v.abs(), v[:, :1].abs().expand_as(v))
    inside = (x + v >= 0) & (x + v <= 1)  # no wall within the next step
    moved = (x[:, 1:] - x[:, :-1])[inside[:, :-1]]
    torch.testing.assert_close(moved, v[:, :-1][inside[:, :-1]], atol=1e-5, rtol=0)
    assert bool((v[:, -1].sign() != v[:, 0].sign()).any()), "none has met a wall"


def test_the_brightest_pixel_is_where_the_ball_is() -> None:
    shot = ball.film(50, 2, generator())
    peak = shot.clean[:, 0].argmax(dim=1)
    centre = torch.stack([peak % ball.SIDE, peak // ball.SIDE], dim=1) + 0.5
    expected = ball.BALL + (1 - 2 * ball.BALL) * shot.position[:, 0]
    assert float((centre / ball.SIDE - expected).abs().max()) <= 0.5 / ball.SIDE + 1e-6


def test_another_take_differs_by_the_noise_of_the_camera_alone() -> None:
    shot = ball.film(300, 2, generator())
    again = shot.retake(generator(1))
    assert again.clean is shot.clean
    noise = again.frames - again.clean
    assert float(noise.std()) == pytest.approx(ball.NOISE, rel=0.02)
    assert not torch.equal(again.frames, shot.frames)


def test_a_fixed_backdrop_stays_and_a_changing_one_does_not() -> None:
    pictures = torch.rand(500, ball.SIDE, ball.SIDE, generator=generator()) / 2
    corner = 0  # where the ball seldom is
    for backdrop, same in (("fixed", True), ("changing", False)):
        shot = ball.film(50, 5, generator(), backdrop=backdrop, pictures=pictures)
        far = (shot.position > 0.5).all(dim=2).all(dim=1)
        behind = shot.clean[far][:, :, corner]
        assert len(behind) >= 3
        steady = (behind - behind[:, :1]).abs().max() < 1e-6
        assert bool(steady) is same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backdrop": "stripes"}, "backdrop must be one of"),
        ({"backdrop": "fixed"}, "got backdrop 'fixed' and no pictures"),
        ({"pictures": torch.zeros(3, ball.SIDE, ball.SIDE)}, "got backdrop 'none' and 3 pictures"),
        ({"backdrop": "fixed", "pictures": torch.zeros(3, 4, 4)}, "pictures must have shape"),
    ],
)
def test_a_backdrop_that_cannot_be_hung_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        ball.film(2, 3, generator(), **options)


def test_backdrops_are_those_of_the_two_splits_and_dimmed() -> None:
    train, test = ball.backdrops("digits", 0)
    assert train.shape[1:] == test.shape[1:] == (ball.SIDE, ball.SIDE)
    assert len(train) > len(test)
    assert float(train.max()) <= ball.DIM + 1e-6


def test_a_model_sees_two_frames_of_which_the_first_is_there() -> None:
    shot = ball.film(2, 3, generator())
    torch.testing.assert_close(shot.seen(2), torch.cat([shot.frames[:, 1], shot.frames[:, 2]], 1))
    for t in (0, 3):
        with pytest.raises(ValueError, match="t must be"):
            shot.seen(t)


def test_quadrants_are_numbered_across_and_down() -> None:
    position = torch.tensor([[0.1, 0.2], [0.9, 0.2], [0.1, 0.8], [0.7, 0.7]])[:, None].repeat(
        1, 2, 1
    )
    empty = torch.zeros(4, 2, ball.SIDE**2)
    assert ball.Film(empty, empty, position, position).quadrants.tolist() == [0, 1, 2, 3]
