"""The ball's world against its closed forms, and what each keeper of the latents does."""

from __future__ import annotations

import pytest
import torch

from repcollapse.modes import world


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown() -> tuple[torch.Tensor, torch.Tensor]:
    shot = world.film(64, 3, generator())
    return shot.seen(1), shot.seen(2)


# --- the world


def test_a_ball_keeps_its_speed_and_is_reflected_by_walls() -> None:
    shot = world.film(200, 60, generator())
    x, v = shot.position, shot.velocity
    assert bool((x >= 0).all() & (x <= 1).all())
    torch.testing.assert_close(v.abs(), v[:, :1].abs().expand_as(v))
    inside = (x + v >= 0) & (x + v <= 1)  # no wall within the next step
    moved = (x[:, 1:] - x[:, :-1])[inside[:, :-1]]
    torch.testing.assert_close(moved, v[:, :-1][inside[:, :-1]], atol=1e-5, rtol=0)
    assert bool((v[:, -1].sign() != v[:, 0].sign()).any()), "none has met a wall"


def test_the_brightest_pixel_is_where_the_ball_is() -> None:
    shot = world.film(50, 2, generator())
    peak = shot.clean[:, 0].argmax(dim=1)
    centre = torch.stack([peak % world.SIDE, peak // world.SIDE], dim=1) + 0.5
    expected = world.BALL + (1 - 2 * world.BALL) * shot.position[:, 0]
    assert float((centre / world.SIDE - expected).abs().max()) <= 0.5 / world.SIDE + 1e-6


def test_another_take_differs_by_the_noise_of_the_camera_alone() -> None:
    shot = world.film(300, 2, generator())
    again = shot.retake(generator(1))
    assert again.clean is shot.clean
    noise = again.frames - again.clean
    assert float(noise.std()) == pytest.approx(world.NOISE, rel=0.02)
    assert not torch.equal(again.frames, shot.frames)


def test_a_fixed_backdrop_stays_and_a_changing_one_does_not() -> None:
    pictures = torch.rand(500, world.SIDE, world.SIDE, generator=generator()) / 2
    corner = 0  # where the ball seldom is
    for backdrop, same in (("fixed", True), ("changing", False)):
        shot = world.film(50, 5, generator(), backdrop=backdrop, pictures=pictures)
        far = (shot.position > 0.5).all(dim=2).all(dim=1)
        behind = shot.clean[far][:, :, corner]
        assert len(behind) >= 3
        steady = (behind - behind[:, :1]).abs().max() < 1e-6
        assert bool(steady) is same


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backdrop": "stripes"}, "backdrop must be one of"),
        ({"backdrop": "fixed"}, "pictures must have shape"),
        ({"backdrop": "fixed", "pictures": torch.zeros(3, 4, 4)}, "pictures must have shape"),
    ],
)
def test_a_backdrop_that_cannot_be_hung_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        world.film(2, 3, generator(), **options)


def test_backdrops_are_those_of_the_two_splits_and_dimmed() -> None:
    train, test = world.backdrops("digits", 0)
    assert train.shape[1:] == test.shape[1:] == (world.SIDE, world.SIDE)
    assert len(train) > len(test)
    assert float(train.max()) <= world.DIM + 1e-6


# --- the losses


def test_a_constant_is_predicted_without_error_and_other_terms_object() -> None:
    model = world.WorldModel()
    for part in (model.encoder, model.predictor, model.target):
        for weight in part.parameters():
            weight.data.zero_()
    now, then = shown()
    for keeper in ("nothing", "stop-gradient", "momentum"):
        assert world.loss_of(model, now, then, keeper).item() == 0
    for keeper, least in (("variance", 0.98), ("sigreg", 0.1 * 0.402 * len(now))):
        assert world.loss_of(model, now, then, keeper).item() >= least


def test_a_detached_target_gets_no_gradient() -> None:
    model = world.WorldModel()
    now, then = shown()
    loss = world.loss_of(model, now, then.requires_grad_(), "stop-gradient")
    (slope,) = torch.autograd.grad(loss, then, allow_unused=True)
    assert slope is None
    free = world.loss_of(model, now, then, "nothing")
    (slope,) = torch.autograd.grad(free, then)
    assert float(slope.abs().max()) > 0


def test_no_optimiser_has_the_momentum_target() -> None:
    model = world.WorldModel()
    world.loss_of(model, *shown(), "momentum").backward()
    assert all(weight.grad is None for weight in model.target.parameters())
    assert all(weight.grad is not None for weight in model.encoder.parameters())


def test_the_target_follows_the_encoder() -> None:
    model = world.WorldModel()
    weight = model.encoder[0].weight
    before = weight.detach().clone()
    weight.data += 1
    model.follow()
    expected = before + (1 - world.MOMENTUM)
    torch.testing.assert_close(model.target[0].weight, expected)


def test_any_other_keeper_is_refused() -> None:
    with pytest.raises(ValueError, match="keeper must be one of"):
        world.loss_of(world.WorldModel(), *shown(), "prayer")


# --- training and reading


def test_a_linear_map_is_explained_whole_and_noise_not_at_all() -> None:
    z = torch.randn(400, 5, generator=generator())
    y = z @ torch.randn(5, 2, generator=generator(1)) + 3
    assert world.explained(z[:200], y[:200], z[200:], y[200:]) == pytest.approx(1, abs=1e-9)
    noise = torch.randn(400, 2, generator=generator(2))
    assert world.explained(z[:200], noise[:200], z[200:], noise[200:]) < 0.05


@pytest.mark.parametrize("keeper", world.KEEPERS)
def test_a_run_repeats_itself_and_is_read_where_asked(keeper: str) -> None:
    outcomes = []
    for _ in range(2):
        torch.manual_seed(0)
        outcomes.append(world.train(keeper, 0, steps=6, at=[3]))
    one, other = outcomes
    assert one.history[1:].tolist() == other.history[1:].tolist()
    assert one.history[:, 0].tolist() == [0, 3, 6] == list(one.encoders)
    assert one.variance == one.history[-1, world.READINGS.index("variance")]
    assert one.initial_position == one.history[0, world.READINGS.index("position")]


def test_prediction_alone_forgets_and_variance_terms_do_not() -> None:
    torch.manual_seed(1)
    dead = world.train("nothing", 1, steps=150)
    torch.manual_seed(1)
    alive = world.train("variance", 1, steps=150)
    assert dead.variance < 0.2 * dead.initial_variance
    assert alive.position > dead.position + 0.3
    assert alive.variance > 1
