"""What the tests of objectives share: embeddings, scalar arithmetic and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

DTYPES = [torch.float32, torch.float64]
HALVES = [torch.float16, torch.bfloat16]
SHAPES = [(2, 1), (2, 3), (5, 4), (4, 9), (12, 2)]
STATES = ["healthy", "nearly collapsed", "collapsed", "zero"]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
FROZEN = Path(__file__).parent / "frozen"


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(n, d, dtype=torch.float64, *, noise=0.5, seed=0):
    """Return two noisy views with gradients."""
    generator = torch.Generator().manual_seed(seed + 97 * n + d)
    z = torch.randn(n, d, generator=generator, dtype=torch.float64)
    other = z + noise * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return z.to(dtype).requires_grad_(), other.to(dtype).requires_grad_()


def embeddings(state, n=64, d=16):
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(n, d, generator=generator) for _ in range(2)]
    if state == "healthy":
        return noise[0], noise[0] + 0.3 * noise[1]
    constant = torch.randn(1, d, generator=generator).expand(n, d)
    if state == "collapsed":
        return constant.clone(), constant.clone()
    if state == "zero":
        return torch.zeros(n, d), torch.zeros(n, d)
    return constant + 1e-2 * noise[0], constant + 1e-2 * noise[1]


# --- oracles are nothing but scalars, sums and loops


def dot(u, v):
    return sum(u[j] * v[j] for j in range(len(u)))


def unit(u):
    return [x / dot(u, u).sqrt() for x in u]


def squared_distance(u, v):
    return sum((u[j] - v[j]) ** 2 for j in range(len(u)))


# --- comparisons


def assert_same(ours, theirs, inputs, dtype):
    """The same value, and the same gradient in every input; None where there must be none."""
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert ours.dtype == dtype and ours.ndim == 0
    torch.testing.assert_close(ours, theirs.to(dtype), **tolerance)
    options = {"retain_graph": True, "allow_unused": True}
    of_ours = torch.autograd.grad(ours, inputs, **options)
    of_theirs = torch.autograd.grad(theirs, inputs, **options)
    # A gradient of zero is still a gradient: a loss in one dimension, a hinge that is met.
    scale = max(1.0, *(float(g.abs().max()) for g in of_theirs if g is not None))
    for a, b in zip(of_ours, of_theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a / scale, b / scale, **tolerance)


def assert_half_agrees_with_double(objective, state, dtype):
    """Half-precision embeddings give the value and gradient of the same numbers in float64."""
    z_a, z_b = (z.to(dtype).requires_grad_() for z in embeddings(state))
    loss = objective(z_a, z_b)
    exact_a, exact_b = (z.detach().double().requires_grad_() for z in (z_a, z_b))
    exact = objective(exact_a, exact_b)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4, abs=2e-6)
    gradients = torch.autograd.grad(loss, (z_a, z_b), allow_unused=True)
    expected = torch.autograd.grad(exact, (exact_a, exact_b), allow_unused=True)
    for gradient, reference in zip(gradients, expected, strict=True):
        if reference is None:
            assert gradient is None
            continue
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()
        error = float((gradient.double() - reference).norm())
        assert error <= 0.02 * float(reference.norm()) + 1e-4


def assert_autocast_is_harmless(objective, state):
    """Under autocast float32 embeddings read the same, a network's have finite gradients."""
    z_a, z_b = embeddings(state)
    plain = objective(z_a, z_b)
    with torch.autocast("cpu", torch.bfloat16):
        assert objective(z_a, z_b).item() == plain.item()
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(layer(z_a), layer(z_b))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def frozen(name):
    """Return a case of the stored outputs of other libraries, as float64 tensors."""
    case = json.loads((FROZEN / "lightly.json").read_text())["cases"][name]
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in case.items()}


def assert_as_frozen(objective, name):
    """The value and the gradients that another library gave for the same embeddings."""
    case = frozen(name)
    z_a, z_b = case["z_a"].requires_grad_(), case["z_b"].requires_grad_()
    loss = objective(z_a, z_b)
    torch.testing.assert_close(loss, case["value"], rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad(loss, (z_a, z_b), allow_unused=True)
    for gradient, place in zip(gradients, ("gradient_a", "gradient_b"), strict=True):
        assert (gradient is None) == (place not in case)
        if gradient is not None:
            torch.testing.assert_close(gradient, case[place], rtol=1e-6, atol=1e-6)


def refused(call, error, message):
    """`call` raises exactly `error`, with a message that matches."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
