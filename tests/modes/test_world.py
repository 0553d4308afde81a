"""What each arm adds to the loss of a world model, and what a trained one knows."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from repcollapse import objectives
from repcollapse.modes import ball, world
from repcollapse.modes.runs import once
from repcollapse.modes.world import ARMS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown() -> tuple[torch.Tensor, torch.Tensor]:
    shot = ball.film(64, 3, generator())
    return shot.seen(1), shot.seen(2)


# --- the losses


def test_a_constant_is_predicted_without_error_and_other_terms_object() -> None:
    model = world.WorldModel()
    for part in (model.encoder, model.predictor, model.target):
        for weight in part.parameters():
            weight.data.zero_()
    now, then = shown()
    for arm in ("prediction alone", "stop-gradient", "momentum target"):
        assert world.loss_of(model, now, then, ARMS[arm]).item() == 0
    for arm, least in (("variance terms", 0.98), ("SIGReg", 0.1 * 0.402 * len(now))):
        assert world.loss_of(model, now, then, ARMS[arm]).item() >= least


def test_a_detached_target_gets_no_gradient() -> None:
    model = world.WorldModel()
    now, then = shown()
    loss = world.loss_of(model, now, then.requires_grad_(), ARMS["stop-gradient"])
    (slope,) = torch.autograd.grad(loss, then, allow_unused=True)
    assert slope is None
    free = world.loss_of(model, now, then, ARMS["prediction alone"])
    (slope,) = torch.autograd.grad(free, then)
    assert float(slope.abs().max()) > 0


def test_no_optimiser_has_the_momentum_target() -> None:
    model = world.WorldModel()
    world.loss_of(model, *shown(), ARMS["momentum target"]).backward()
    assert all(weight.grad is None for weight in model.target.parameters())
    assert all(weight.grad is not None for weight in model.encoder.parameters())


@pytest.mark.parametrize("target", world.TARGETS)
def test_terms_add_up_by_their_weights_whatever_the_target(target: str) -> None:
    torch.manual_seed(0)
    model = world.WorldModel()
    for weight in model.target.parameters():
        weight.data.mul_(1.5)
    now, then = shown()
    z, own = model.encoder(now), model.encoder(then)
    aim = {"own": own, "detached": own, "momentum": model.target(then)}[target]
    error = (model.predictor(z) - aim).square().mean()
    vicreg = objectives.vicreg_terms(z, aim)
    torch.manual_seed(1)
    normality = objectives.sigreg_terms(z, aim, slices=world.SLICES).statistic
    redrawn = (model.decoder(z) - now).square().mean()
    weights = {"variance": 2.0, "covariance": 3.0, "sigreg": 0.5, "reconstruction": 0.25}
    parts = [vicreg.variance, vicreg.covariance, normality, redrawn]
    added = [weight * part for weight, part in zip(weights.values(), parts, strict=True)]
    for (name, weight), part in zip(weights.items(), added, strict=True):
        torch.manual_seed(1)
        one = world.loss_of(model, now, then, world.Setting(target=target, **{name: weight}))
        torch.testing.assert_close(one, error + part)
    torch.manual_seed(1)
    whole = world.loss_of(model, now, then, world.Setting(target=target, **weights))
    torch.testing.assert_close(whole, error + sum(added))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": "slow"}, "target must be one of"),
        ({"variance": -1.0}, "variance must be at least 0; got -1.0"),
        ({"covariance": math.inf}, "covariance must be"),
        ({"sigreg": -0.1}, "sigreg must be at least 0; got -0.1"),
        ({"reconstruction": -1}, "reconstruction must be at least 0; got -1"),
    ],
)
def test_a_setting_of_another_kind_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world.Setting(**wrong)  # type: ignore[arg-type]


# --- training and reading


def run(arm: str, seed: int, **options) -> world.Trained:
    return once(partial(world.train, ARMS[arm], device="cpu", **options), seed)


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_repeats_itself_and_is_read_where_asked(arm: str) -> None:
    one, other = (run(arm, 0, steps=6, at=[3]) for _ in range(2))
    assert one.history.equals(other.history)
    assert one.history["step"].tolist() == [0, 3, 6] == list(one.encoders)
    for name in ("variance", "missed", "error", "rank", "position", "velocity"):
        assert getattr(one, name) == one.history[name].iloc[-1]
    assert one.initial_position == one.history["position"].iloc[0]
    assert one.variance_kept == one.variance / one.history["variance"].iloc[0]
    assert one.error == pytest.approx(one.missed * world.LATENTS / one.variance)


def test_the_target_follows_a_step_behind() -> None:
    start = run("momentum target", 0, steps=1).model
    before = [weight.clone() for weight in start.target.parameters()]
    moved = run("momentum target", 0, steps=2).model.target.parameters()
    for old, encoder, now in zip(before, start.encoder.parameters(), moved, strict=True):
        torch.testing.assert_close(now, old.lerp(encoder, 1 - world.MOMENTUM))


def test_a_dead_model_predicts_the_mean_and_tells_nothing() -> None:
    model = world.WorldModel()
    for weight in model.parameters():
        weight.data.zero_()
    taken, judged = (ball.film(50, 3, generator(k)) for k in (0, 1))
    found = world.read(model, taken, judged)
    assert (found["variance"], found["missed"], found["error"]) == (0, 0, 1)
    assert (found["position"], found["velocity"]) == (0, 0)
    model.predictor[-1].bias.data.fill_(1.0)
    assert world.read(model, taken, judged)["error"] == math.inf


def test_pictures_hang_behind_the_ball_where_asked() -> None:
    plain, hung = (run("variance terms", 0, steps=1, backdrop=b) for b in ("none", "fixed"))
    assert plain.initial_position > hung.initial_position
    with pytest.raises(ValueError, match="backdrop must be one of"):
        world.train(world.Setting(), 0, steps=1, backdrop="stripes")


def test_prediction_alone_forgets_and_variance_terms_do_not() -> None:
    dead, alive = (run(arm, 7, steps=150) for arm in ("prediction alone", "variance terms"))
    assert dead.variance_kept < 0.2
    assert alive.position > dead.position + 0.3
    assert alive.variance > 1
