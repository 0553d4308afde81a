"""Encoders, heads and the joint embedding."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from repcollapse.networks import (
    JointEmbedding,
    Pretext,
    calibrate_batch_norm,
    conv,
    encoder,
    follow,
    mlp,
    resnet18,
)
from repcollapse.objectives import (
    DINO,
    DirectPred,
    MoCo,
    byol,
    dino,
    directpred,
    invariance,
    moco,
    nt_xent,
)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def kinds(module):
    return [type(layer) for layer in module.modules() if not list(layer.children())]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


# --- building blocks


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm), ("none", None)]
)
def test_mlp(norm, kind):
    hidden = [nn.Linear, *([kind] if kind else []), nn.ReLU]
    network = mlp([8, 6, 5, 3], norm=norm)
    assert kinds(network) == [*hidden, *hidden, nn.Linear]
    assert network(torch.randn(4, 8)).shape == (4, 3)
    assert kinds(mlp([8, 3], norm=norm)) == [nn.Linear]


def test_output_norm_is_batch_norm_without_parameters():
    network = mlp([8, 6, 3], norm="none", output_norm=True)
    assert isinstance(network[-1], nn.BatchNorm1d) and not network[-1].affine
    assert parameters(network) == parameters(mlp([8, 6, 3], norm="none"))
    z = network(100 + torch.randn(64, 8))
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm), ("none", nn.ReLU)]
)
@pytest.mark.parametrize("side", [8, 16, 28])
def test_conv(norm, kind, side):
    network = conv(2, 10, norm=norm)
    assert kind in kinds(network)
    if norm == "none":
        assert not {nn.BatchNorm2d, nn.GroupNorm} & set(kinds(network))
    assert network(torch.randn(3, 2, side, side)).shape == (3, 10)


def test_resnet18_is_that_of_cifar():
    # Torchvision's 11,689,512 less the classifier (513,000) and the 7 x 7 stem (9,408), with a
    # 3 x 3 stem (1,728).
    assert parameters(resnet18()) == 11_168_832 == 11_689_512 - 513_000 - 9_408 + 1_728
    assert sum(isinstance(layer, nn.Conv2d) for layer in resnet18(base=2).modules()) == 20
    assert nn.MaxPool2d not in kinds(resnet18(base=2))


def test_resnet18_halves_the_side_three_times():
    network = resnet18(base=4)
    assert network[:-2](torch.zeros(2, 3, 32, 32)).shape == (2, 32, 4, 4)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 32)
    assert resnet18(1, base=4)(torch.zeros(2, 1, 16, 16)).shape == (2, 32)


def test_every_parameter_of_resnet18_gets_a_gradient():
    network = resnet18(base=4)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_encoders(name, norm):
    module, width = encoder(name, (3, 12, 16), width=20, norm=norm)
    assert width == 20
    assert module(torch.randn(2, 3, 12, 16)).shape == (2, 20)
    has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    assert has_batch_norm == (norm == "batch")


def test_resnet18_by_name_has_its_own_width():
    module, width = encoder("resnet18", (1, 32, 32))
    assert width == 512 == module.eval()(torch.zeros(1, 1, 32, 32)).shape[1]


# --- the joint embedding

IMAGES = (6, 1, 3, 3)


def parts(norm="none"):
    return nn.Sequential(nn.Flatten(), *mlp([9, 8, 5], norm=norm)), mlp([5, 7, 4], norm=norm)


def joint(objective=invariance, *, norm="none", **kwargs):
    return JointEmbedding(*parts(norm), objective, **kwargs)


def gradients(model, *views):
    model.zero_grad()
    model(*views).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_plain_is_the_objective_of_the_projections():
    model, (a, b) = joint(nt_xent), torch.randn(2, *IMAGES)
    z_a, z_b = (model.projector(model.encoder(view)) for view in (a, b))
    torch.testing.assert_close(model(a, b), nt_xent(z_a, z_b))
    h, z = model.embed(a)
    assert torch.equal(h, model.encoder(a)) and torch.equal(z, model.projector(h))
    assert set(gradients(model, a, b)) == {n for n, _ in model.named_parameters()}


def test_batch_norm_sees_both_views_together():
    model = joint(norm="batch")
    model.projector = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False))
    seen = []
    model.objective = lambda z_a, z_b: seen.append((z_a, z_b)) or z_a.sum()
    a, b = torch.randn(IMAGES), torch.randn(IMAGES) + 3
    model(a, b)
    z_a, z_b = (z.detach() for z in seen[0])
    torch.testing.assert_close(torch.cat([z_a, z_b]).mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert float((z_a.mean(0) - z_b.mean(0)).abs().max()) > 0.1


@pytest.mark.parametrize("objective", [invariance, nt_xent])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_stop_gradient_without_a_predictor_halves_the_gradient_and_does_no_more(objective, norm):
    model = joint(objective, norm=norm).double()
    views = torch.randn(2, *IMAGES, dtype=torch.float64)
    full = gradients(model, *views)
    loss = model(*views)
    model.stop_gradient = True
    half = gradients(model, *views)
    assert model(*views).item() == pytest.approx(loss.item(), rel=1e-12)
    assert set(half) == set(full)
    assert max(float(g.abs().max()) for g in full.values()) > 1e-4
    for name, gradient in full.items():
        torch.testing.assert_close(half[name], gradient / 2, rtol=1e-10, atol=1e-14)


def test_a_predictor_sees_one_side_and_the_target_the_other():
    views = torch.randn(2, *IMAGES, dtype=torch.float64)
    model = joint(predictor=mlp([4, 3, 4], norm="none"), stop_gradient=True).double()
    z_a, z_b = (model.embed(view)[1] for view in views)
    p_a, p_b = model.predictor(z_a), model.predictor(z_b)
    by_hand = (invariance(p_a, z_b.detach()) + invariance(p_b, z_a.detach())) / 2
    torch.testing.assert_close(model(*views), by_hand)
    measured = gradients(model, *views)
    expected = torch.autograd.grad(by_hand, list(model.parameters()))
    for one, other in zip(measured.values(), expected, strict=True):
        torch.testing.assert_close(one, other)
    model.stop_gradient = False
    through = gradients(model, *views)
    assert any(not torch.allclose(through[n], measured[n]) for n in through)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_momentum_target_moves_by_the_average_and_gets_no_gradient(momentum):
    model = joint(momentum=momentum)
    before = [p.clone() for p in model.target.parameters()]
    for follower, leader in zip(
        before, [*model.encoder.parameters(), *model.projector.parameters()], strict=True
    ):
        assert torch.equal(follower, leader)
    assert not any(p.requires_grad for p in model.target.parameters())
    measured = gradients(model, *torch.randn(2, *IMAGES))
    assert not any(name.startswith("target.") for name in measured)
    assert {name.split(".")[0] for name in measured} == {"encoder", "projector"}
    with torch.no_grad():
        for p in [*model.encoder.parameters(), *model.projector.parameters()]:
            p.add_(1.0)
    model.after_step()
    for old, follower in zip(before, model.target.parameters(), strict=True):
        torch.testing.assert_close(follower, old + (1 - momentum))


def test_the_momentum_target_makes_the_targets():
    model, (a, b) = joint(momentum=0.5).double(), torch.randn(2, *IMAGES, dtype=torch.float64)
    with torch.no_grad():
        for p in model.target.parameters():
            p.mul_(0.7)
        t_a, t_b = model.target(a), model.target(b)
    z_a, z_b = model.embed(a)[1], model.embed(b)[1]
    torch.testing.assert_close(model(a, b), (invariance(z_a, t_b) + invariance(z_b, t_a)) / 2)


def test_the_momentum_target_shares_no_tensor():
    model = joint(norm="batch", momentum=0.9)
    own = {
        t.data_ptr()
        for part in (model.encoder, model.projector)
        for t in part.state_dict().values()
    }
    theirs = list(model.target.state_dict().values())
    assert own.isdisjoint(t.data_ptr() for t in theirs)
    frozen = copy.deepcopy(model.target.state_dict())
    model.train()
    model.embed(torch.randn(IMAGES) + 5)
    for name, value in model.target.state_dict().items():
        assert torch.equal(value, frozen[name])


def test_after_step_without_a_target_changes_nothing():
    model = joint()
    before = copy.deepcopy(model.state_dict())
    model.after_step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.target is None


# --- bad arguments


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_a_copy_follows_by_a_weighted_mean_and_its_statistics_stay(momentum):
    slow, fast = mlp([3, 4, 2]), mlp([3, 4, 2])
    fast(torch.randn(8, 3) + 5)
    before = copy.deepcopy(slow.state_dict())
    follow(slow, fast.parameters(), momentum)
    weights = {name for name, _ in slow.named_parameters()}
    for name, value in slow.state_dict().items():
        own, other = before[name], fast.state_dict()[name]
        expected = momentum * own + (1 - momentum) * other if name in weights else own
        torch.testing.assert_close(value, expected)
    assert all(weight.requires_grad for weight in slow.parameters())


def test_a_copy_follows_as_many_weights_as_it_has():
    slow = mlp([3, 2])
    before = copy.deepcopy(slow.state_dict())
    with pytest.raises(ValueError, match="leaders must be 2 tensors; got 4"):
        follow(slow, mlp([3, 2, 2], norm="none").parameters(), 0.5)
    assert all(torch.equal(value, before[name]) for name, value in slow.state_dict().items())
    with pytest.raises(ValueError, match=r"momentum must be .* at most 1; got 1\.1"):
        follow(mlp([3, 2]), mlp([3, 2]).parameters(), 1.1)


def test_calibration_takes_the_mean_over_passes_and_puts_the_rest_back():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5))
    model.eval()
    model[2].train()
    weights = copy.deepcopy(model[0].state_dict())
    passes = [torch.randn(16, 3) + 2 for _ in range(3)]
    for _ in range(2):  # what was there before is forgotten
        calibrate_batch_norm(model, ((rows,) for rows in passes))
    out = torch.stack([model[0](rows) for rows in passes])
    torch.testing.assert_close(model[1].running_mean, out.mean(dim=(0, 1)))
    torch.testing.assert_close(model[1].running_var, out.var(dim=1).mean(dim=0))
    assert model[1].momentum == 0.3
    assert [part.training for part in (model, *model)] == [False, False, False, True]
    for name, value in model[0].state_dict().items():
        assert torch.equal(value, weights[name])


def test_calibration_of_one_pass_is_training_mode():
    model, rows = mlp([3, 4, 2]), torch.randn(32, 3)
    expected = model(rows)
    calibrate_batch_norm(model, [(rows,)])
    assert model.training
    # Running variances have the divisor N - 1, those of a batch N.
    torch.testing.assert_close(model.eval()(rows), expected, rtol=0.1, atol=0.05)


def test_calibration_draws_no_pass_without_a_batch_norm_and_needs_one_with():
    drawn = iter([(torch.zeros(2, 3),)])
    calibrate_batch_norm(mlp([3, 4, 2], norm="layer"), drawn)
    assert len(list(drawn)) == 1
    model = mlp([3, 4, 2])
    model(torch.randn(16, 3) + 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="passes must hold at least one; got none"):
        calibrate_batch_norm(model, [])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pass_that_fails_leaves_the_momentum_as_it_was():
    model = mlp([3, 4, 2]).eval()
    with pytest.raises(RuntimeError):
        calibrate_batch_norm(model, [(torch.zeros(2, 5),)])
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mlp([4]), ValueError, r"widths needs at least input and output; got \[4\]"),
        (lambda: mlp([4, 0]), ValueError, "widths must be at least 1; got 0"),
        (lambda: mlp([4, 2.0]), TypeError, "widths must be an integer; got float"),
        (lambda: mlp([4, True]), TypeError, "widths must be an integer; got bool"),
        (lambda: mlp([4, 2], norm="group"), ValueError, r"norm must be one of \['batch', 'layer'"),
        (lambda: conv(0, 4), ValueError, "channels must be at least 1; got 0"),
        (lambda: conv(1, 4.5), TypeError, "width must be an integer; got float"),
        (lambda: conv(1, 4, norm="x"), ValueError, "norm must be one of .*; got 'x'"),
        (lambda: resnet18(0), ValueError, "channels must be at least 1; got 0"),
        (lambda: resnet18(base="64"), TypeError, "base must be an integer; got str"),
        (lambda: encoder("vit", (1, 8, 8)), ValueError, "name must be one of .*; got 'vit'"),
        (lambda: encoder("mlp", (1, 8, 8), norm="x"), ValueError, "norm must be one of"),
        (lambda: encoder("mlp", (1, 8, 8), width=0), ValueError, "width"),
        (
            lambda: encoder("resnet18", (3, 8, 8), norm="layer"),
            ValueError,
            "norm must be 'batch' for the encoder 'resnet18'; got 'layer'",
        ),
        (lambda: encoder("mlp", (8, 8)), ValueError, r"shape must be .*got \(8, 8\)"),
        (lambda: joint(momentum=1.5), ValueError, "momentum must be .* at most 1; got 1.5"),
        (lambda: joint(momentum=-0.1), ValueError, "momentum must be at least 0 .*; got -0.1"),
        (lambda: joint(momentum=float("nan")), ValueError, "momentum must be .*; got nan"),
        (lambda: joint(momentum=True), TypeError, "momentum must be a number; got bool"),
        (lambda: joint(momentum="0.9"), TypeError, "momentum must be a number; got str"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_views_of_another_shape_are_refused():
    model = JointEmbedding(nn.Flatten(), nn.Linear(4, 2), invariance)
    with pytest.raises(
        ValueError, match=r"view_a and view_b .*got \(5, 1, 2, 2\) and \(3, 1, 2, 2\)"
    ):
        model(torch.zeros(5, 1, 2, 2), torch.zeros(3, 1, 2, 2))


@pytest.mark.parametrize(
    "objective",
    [byol, directpred, moco, dino, DirectPred(4), MoCo(4), DINO(4), partial(byol)],
    ids=lambda objective: getattr(objective, "__name__", type(objective).__name__),
)
@pytest.mark.parametrize("momentum", [None, 0.99])
def test_no_gradient_is_promised_through_a_target_that_is_a_constant(objective, momentum):
    if isinstance(objective, DINO) and momentum is None:
        objective = DINO(4, momentum=0)
    message = r"^stop_gradient must be True or left out with \w+, to which .*; got False"
    with pytest.raises(ValueError, match=message):
        joint(objective, stop_gradient=False, momentum=momentum)
    for allowed in (None, True):
        joint(objective, stop_gradient=allowed, momentum=momentum)


@pytest.mark.parametrize("momentum", [None, 0.0, 0.9])
def test_network_and_prototypes_of_a_teacher_follow_at_one_momentum(momentum):
    objective = DINO(4, momentum=0.99)
    with pytest.raises(ValueError, match=rf"^momentum must be 0.99, .* DINO .*; got {momentum}"):
        joint(objective, momentum=momentum)
    model = joint(DINO(4, momentum=momentum or 0), momentum=momentum)
    model(*torch.randn(2, *IMAGES)).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0 * parameter.requires_grad)
    pairs = [(model.objective.teacher_weight, model.objective.prototypes.weight)]
    if momentum is not None:
        pairs += zip(model.target.parameters(), leaders(model), strict=True)
    before = [follower.clone() for follower, _ in pairs]
    model.after_step()
    for (follower, leader), was in zip(pairs, before, strict=True):
        moved = was + (1 - (momentum or 0)) * (leader - was)
        torch.testing.assert_close(follower.detach(), moved.detach())


# --- the momentum target that gradients flow through


@pytest.mark.parametrize("momentum", [0.0, 0.7, 1.0])
def test_without_stop_gradient_the_gradient_flows_through_the_followers_part(momentum):
    """Against weights m * xi + (1 - m) * theta written out, for two steps of training."""
    model = joint(momentum=momentum, stop_gradient=False).double()
    theta = [p.detach().clone().requires_grad_() for p in leaders(model)]
    xi = [p.detach().clone() for p in theta]
    for step in range(2):
        views = torch.randn(2, *IMAGES, dtype=torch.float64)
        xi = [momentum * x + (1 - momentum) * p for x, p in zip(xi, theta, strict=True)]
        z_a, z_b = (by_hand(model, theta, view) for view in views)
        t_a, t_b = (by_hand(model, xi, view) for view in views)
        expected_loss = (invariance(z_a, t_b) + invariance(z_b, t_a)) / 2
        expected = torch.autograd.grad(expected_loss, theta)
        loss = model(*views)
        torch.testing.assert_close(loss, expected_loss)
        measured = torch.autograd.grad(loss, leaders(model))
        for one, other in zip(measured, expected, strict=True):
            torch.testing.assert_close(one, other)
        xi = [x.detach() for x in xi]
        with torch.no_grad():
            for p, q, gradient in zip(leaders(model), theta, measured, strict=True):
                p.sub_(0.3 * gradient)
                q.sub_(0.3 * gradient)
        assert step == 1 or max(float(g.abs().max()) for g in measured) > 1e-4
        model.after_step()


def leaders(model):
    return [*model.encoder.parameters(), *model.projector.parameters()]


def by_hand(model, weights, view):
    parts = torch.nn.Sequential(model.encoder, model.projector)
    names = [name for name, _ in parts.named_parameters()]
    return torch.func.functional_call(parts, dict(zip(names, weights, strict=True)), (view,))


def test_a_momentum_target_stops_gradients_unless_told_otherwise():
    assert joint(momentum=0.9).stop_gradient is True
    assert joint().stop_gradient is False
    views = torch.randn(2, *IMAGES)
    stopped, through = joint(momentum=0.5), joint(momentum=0.5, stop_gradient=False)
    through.load_state_dict(stopped.state_dict())
    torch.testing.assert_close(stopped(*views), through(*views))
    one, other = gradients(stopped, *views), gradients(through, *views)
    assert any(not torch.allclose(one[name], other[name]) for name in one)


def test_after_step_moves_the_state_of_the_objective():
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = 0

        def forward(self, z_a, z_b):
            return invariance(z_a, z_b)

        def after_step(self):
            self.steps += 1

    model = joint(Counting())
    model(*torch.randn(2, *IMAGES))
    model.after_step()
    assert model.objective.steps == 1


def test_a_pretext_sees_both_views_as_one_batch():
    seen = []

    class Task(torch.nn.Module):
        def forward(self, encoder, images):
            seen.append(images)
            return encoder(images).square().mean()

    model = Pretext(torch.nn.Flatten(), Task())
    a, b = torch.randn(2, *IMAGES)
    loss = model(a, b)
    assert torch.equal(seen[0], torch.cat([a, b]))
    torch.testing.assert_close(loss, torch.cat([a, b]).square().mean())
    h, z = model.embed(a)
    assert torch.equal(h, a.flatten(1)) and h is z
    with pytest.raises(ValueError, match="view_a and view_b must have the same shape"):
        model(a, b[:1])
