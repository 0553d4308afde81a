"""Objectives with a predictor: the negative cosine, BYOL and DirectPred."""

from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from support import (
    DTYPES,
    HALVES,
    SHAPES,
    STATES,
    assert_as_frozen,
    assert_autocast_is_harmless,
    assert_half_agrees_with_double,
    assert_same,
    dot,
    pair,
    randn,
    refused,
    squared_distance,
    unit,
)

from repcollapse.objectives import (
    DirectPred,
    byol,
    directpred,
    invariance,
    negative_cosine,
)


def naive_negative_cosine(prediction, target):
    rows = zip(prediction, target, strict=True)
    return -sum(dot(unit(p), unit(t)) for p, t in rows) / len(prediction)


def naive_byol(prediction, target):
    rows = zip(prediction, target.detach(), strict=True)
    return sum(squared_distance(unit(p), unit(t)) for p, t in rows) / len(prediction)


def naive_correlation(z):
    """Return the mean of the outer products of rows, in numpy."""
    rows = z.detach().double().numpy()
    return sum(np.outer(row, row) for row in rows) / len(rows)


def naive_predictor(correlation, eps):
    """W is the root of the correlation over that of its largest eigenvalue, plus eps I."""
    root = np.real(scipy.linalg.sqrtm(correlation))
    return root / np.sqrt(np.linalg.norm(correlation, 2)) + eps * np.eye(len(correlation))


def naive_directpred(z, target, correlation, eps):
    weight = torch.from_numpy(naive_predictor(correlation, eps)).to(z.dtype)
    return naive_byol([weight @ row for row in z], target)


# --- values and gradients


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_negative_cosine(n, d, dtype):
    z = pair(n, d, dtype)
    assert_same(negative_cosine(*z), naive_negative_cosine(*z), z, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_byol(n, d, dtype):
    z = pair(n, d, dtype)
    assert_same(byol(*z), naive_byol(*z), z, dtype)


def positive_definite(d, seed=5):
    root = randn(d, d, seed=seed)
    return root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("eps", [0.1, 0.5])
def test_directpred_with_a_correlation(n, d, eps, dtype):
    z, correlation = pair(n, d, dtype), positive_definite(d)
    ours = directpred(*z, correlation=correlation.to(dtype), eps=eps)
    assert_same(ours, naive_directpred(*z, correlation.numpy(), eps), z, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(5, 4), (12, 2), (6, 6)])
def test_directpred_of_the_batch(n, d, dtype):
    z = pair(n, d, dtype)
    correlation = naive_correlation(z[0])
    assert_same(directpred(*z), naive_directpred(*z, correlation, 0.1), z, dtype)


def test_directpred_without_spread_of_eigenvalues_is_byol():
    z = pair(7, 4)
    for scale in (1e-3, 1.0, 50.0):
        flat = scale * torch.eye(4, dtype=torch.float64)
        assert_same(directpred(*z, correlation=flat), byol(*z), z, torch.float64)


def test_directpred_amplifies_by_the_root_of_the_eigenvalue():
    # Directions of strength 4 and 1: gains 1.1 and 0.6, by hand.
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    correlation = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    loss = directpred(z, z, correlation=correlation, eps=0.1)
    cosine = (1.1 + 0.6) / math.sqrt((1.1**2 + 0.6**2) * 2)
    assert float(loss) == pytest.approx(2 - 2 * cosine, rel=1e-12)


def test_byol_is_the_invariance_with_a_constant_target_and_twice_one_plus_the_negative_cosine():
    prediction, target = pair(6, 4)
    loss = byol(prediction, target).item()
    assert loss == invariance(prediction, target).item()
    expected = 2 + 2 * negative_cosine(prediction, target).item()
    assert loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("objective", [byol, directpred])
def test_the_target_is_constant(objective):
    prediction, target = pair(6, 4)
    objective(prediction, target).backward()
    assert prediction.grad is not None and target.grad is None


def test_the_negative_cosine_stops_no_gradient():
    prediction, target = pair(6, 4)
    negative_cosine(prediction, target).backward()
    assert float(prediction.grad.norm()) > 0.01 and float(target.grad.norm()) > 0.01


def test_the_predictor_of_the_batch_is_constant():
    z, target = pair(6, 4)
    correlation = (z.T @ z / 6).detach()
    given = torch.autograd.grad(directpred(z, target, correlation=correlation), z)[0]
    taken = torch.autograd.grad(directpred(z, target), z)[0]
    torch.testing.assert_close(given, taken, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_the_negative_cosine_agrees_with_finite_differences():
    assert torch.autograd.gradcheck(negative_cosine, pair(5, 3))


@pytest.mark.parametrize("objective", [byol, functools.partial(directpred, eps=0.2)])
def test_gradients_of_the_prediction_agree_with_finite_differences(objective):
    prediction, target = pair(5, 3)
    correlation = positive_definite(3)
    if objective is not byol:
        objective = functools.partial(objective, correlation=correlation)
    assert torch.autograd.gradcheck(lambda p: objective(p, target.detach()), prediction)


def test_negative_cosine_as_in_lightly():
    assert_as_frozen(negative_cosine, "negative_cosine")


# --- collapse, ranges, invariances


@pytest.mark.parametrize(
    ("objective", "value"), [(negative_cosine, -1.0), (byol, 0.0), (directpred, 0.0)]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_at_collapse_the_value_is_the_minimum(objective, value, dtype):
    z = randn(1, 5, dtype=dtype).expand(8, 5)
    assert float(objective(z, 3 * z)) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("objective", "value"), [(negative_cosine, 1), (byol, 4)])
def test_the_upper_end(objective, value):
    z = randn(8, 5)
    assert float(objective(z, -z)) == pytest.approx(value, rel=1e-12)


def test_rows_of_zeros_have_no_direction():
    zero, z = torch.zeros(4, 3), randn(4, 3, dtype=torch.float32)
    assert float(negative_cosine(zero, z)) == 0
    assert float(byol(zero, z)) == pytest.approx(1)
    assert float(byol(zero, zero)) == 0
    assert float(directpred(zero, zero)) == 0
    assert math.isfinite(float(directpred(zero, zero, eps=0)))


@pytest.mark.parametrize("objective", [negative_cosine, byol, directpred])
def test_scale_rotation_and_order_do_not_matter(objective):
    z, target = randn(9, 4) * torch.tensor([3.0, 1, 1, 0.1]), randn(9, 4, seed=1)
    loss = float(objective(z, target))
    q = torch.linalg.qr(randn(4, 4, seed=3)).Q
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    assert float(objective(1e3 * z, target / 7)) == pytest.approx(loss, rel=1e-10)
    assert float(objective(z @ q, target @ q)) == pytest.approx(loss, rel=1e-10)
    assert float(objective(z[order], target[order])) == pytest.approx(loss, rel=1e-10)
    assert abs(float(objective(z, target[order])) - loss) > 1e-3


# --- precision


def a_new_directpred(z, target):
    return DirectPred(16)(z, target)


PRECISE = {
    "negative_cosine": negative_cosine,
    "byol": byol,
    "directpred": directpred,
    "DirectPred": a_new_directpred,
}


@pytest.mark.parametrize("name", PRECISE)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision(name, state, dtype):
    assert_half_agrees_with_double(PRECISE[name], state, dtype)


@pytest.mark.parametrize("name", PRECISE)
@pytest.mark.parametrize("state", STATES)
def test_autocast(name, state):
    assert_autocast_is_harmless(PRECISE[name], state)


# --- the module


def steps(module, count, start=0):
    """Run both directions and after_step; return the views that were used."""
    seen = []
    for step in range(start, start + count):
        z_a, z_b = pair(6, 3, seed=step)
        module(z_a, z_b.detach())
        module(z_b, z_a.detach())
        module.after_step()
        seen.append(torch.cat([z_a, z_b]).detach())
    return seen


def test_before_the_first_update_the_predictor_is_the_batchs():
    module, z = DirectPred(3, eps=0.2).double(), pair(6, 3)
    assert_same(module(*z), directpred(*z, eps=0.2), z, torch.float64)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_the_correlation_is_the_running_average_of_both_directions(momentum):
    module = DirectPred(3, momentum=momentum, eps=0.2).double()
    views = steps(module, 3)
    expected = naive_correlation(views[0])
    for rows in views[1:]:
        expected = momentum * expected + (1 - momentum) * naive_correlation(rows)
    np.testing.assert_allclose(module.correlation.numpy(), expected, rtol=1e-12)
    predictor = naive_predictor(expected, 0.2)
    np.testing.assert_allclose(module.predictor.numpy(), predictor, rtol=1e-9, atol=1e-9)
    assert int(module.updates) == 3
    z = pair(6, 3, seed=9)
    ours = module(*z)
    theirs = directpred(*z, correlation=module.correlation, eps=0.2)
    assert_same(ours, theirs, z, torch.float64)


def test_the_momentum_is_the_papers():
    assert DirectPred(3).momentum == 0.3


def test_only_after_step_changes_the_state_once():
    module = DirectPred(3).double()
    steps(module, 2)
    before = copy.deepcopy(module.state_dict())
    module(*pair(6, 3, seed=7))
    module(*pair(6, 3, seed=8))
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    module.after_step()
    assert int(module.updates) == 3
    after = module.correlation.clone()
    module.after_step()
    assert torch.equal(module.correlation, after) and int(module.updates) == 3


def test_a_forward_without_gradients_or_in_evaluation_leaves_no_trace():
    module = DirectPred(3).double()
    steps(module, 1)
    before = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        module(*pair(6, 3, seed=7))
    module.eval()
    module(*pair(6, 3, seed=7))
    module.train()
    module.after_step()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_state_round_trips():
    module, other = DirectPred(3).double(), DirectPred(3).double()
    steps(module, 2)
    other.load_state_dict(module.state_dict())
    assert set(module.state_dict()) == {"correlation", "predictor", "updates"}
    for each in (module, other):
        steps(each, 1, start=5)
    assert torch.equal(module.correlation, other.correlation)
    assert module(*pair(6, 3)).item() == other(*pair(6, 3)).item()
    assert not list(module.parameters())


def test_what_is_noted_does_not_grow():
    module = DirectPred(3)
    for seed in range(10):
        module(*pair(6, 3, torch.float32, seed=seed))
    assert module._products.shape == (3, 3) and module._rows == 60


def test_the_state_is_float32_under_half_precision_and_autocast():
    module = DirectPred(3)
    z_a, z_b = (z.detach().bfloat16().requires_grad_() for z in pair(6, 3))
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(z_a, z_b)
        module.after_step()
    assert loss.dtype == torch.float32
    assert module.correlation.dtype == module.predictor.dtype == torch.float32
    expected = naive_correlation(z_a)
    np.testing.assert_allclose(module.correlation.numpy(), expected, rtol=1e-5)
    predictor = naive_predictor(expected, 0.1)
    np.testing.assert_allclose(module.predictor.numpy(), predictor, rtol=1e-4, atol=1e-5)


def test_a_collapsed_state_is_finite():
    module = DirectPred(3, eps=0.0)
    z = torch.zeros(4, 3, requires_grad=True)
    module(z, z)
    module.after_step()
    assert torch.equal(module.predictor, torch.zeros(3, 3))
    assert module(z, z).item() == 0


def test_its_settings_show():
    shown = "DirectPred(3, momentum=0.3, eps=0.1, gather_distributed=False)"
    assert repr(DirectPred(3)) == shown


# --- bad input

A, B = (z.detach().float() for z in pair(6, 3))
NAN = A.clone()
NAN[4, 1] = math.nan
SQUARE = torch.eye(3)


@pytest.mark.parametrize("objective", [negative_cosine, byol])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((NAN, B), ValueError, "prediction must be finite; row 4"),
        ((A, NAN), ValueError, "target must be finite; row 4"),
        ((A, B[:4]), ValueError, "prediction and target must have the same shape"),
        ((A, B.double()), TypeError, "prediction and target must have the same dtype"),
        ((A[:1], B[:1]), ValueError, "prediction needs at least 2 rows; got 1"),
        ((A, None), TypeError, "target must be a torch.Tensor or numpy.ndarray; got NoneType"),
        ((A.long(), B), TypeError, "prediction must have a floating dtype; got torch.int64"),
    ],
)
def test_bad_embeddings(objective, given, error, message):
    refused(lambda: objective(*given), error, message)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: directpred(NAN, B), ValueError, "z must be finite; row 4"),
        (lambda: directpred(A, NAN), ValueError, "target must be finite; row 4"),
        (lambda: directpred(A, B, eps=-0.1), ValueError, "eps must be at least 0; got -0.1"),
        (
            lambda: directpred(A, B, correlation=SQUARE[:2]),
            ValueError,
            r"correlation must have shape \(3, 3\), the embeddings' D; got shape \(2, 3\)",
        ),
        (
            lambda: directpred(A, B, correlation=torch.eye(4)),
            ValueError,
            r"correlation must have shape \(3, 3\), the embeddings' D; got shape \(4, 4\)",
        ),
        (
            lambda: directpred(A, B, correlation=A[:3]),
            ValueError,
            "correlation must be symmetric; it differs from its transpose by up to",
        ),
        (
            lambda: directpred(A, B, correlation=NAN[3:]),
            ValueError,
            "correlation must be finite; row 1",
        ),
        (lambda: DirectPred(4)(A, B), ValueError, r"z must have shape \(N, 4\).*\(6, 3\)"),
        (lambda: DirectPred(3)(A, B[:4]), ValueError, "z and target must have the same shape"),
        (lambda: DirectPred(0), ValueError, "dimension must be at least 1; got 0"),
        (lambda: DirectPred(3, momentum=1.1), ValueError, "momentum must be .* at most 1"),
        (lambda: DirectPred(3, eps=-1), ValueError, "eps must be at least 0; got -1"),
    ],
)
def test_bad_input_to_directpred(call, error, message):
    refused(call, error, message)
