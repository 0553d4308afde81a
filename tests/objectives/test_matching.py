"""SIGReg: against loops, quadrature and closed forms, at collapse and at its floor."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from scipy import integrate

from repcollapse.objectives import epps_pulley, sigreg, sigreg_terms

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
FLOOR = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
ORIGIN = math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
FAR = math.sqrt(2 * math.pi) * (1 + 1 / math.sqrt(3))


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def unit_rows(m, d, dtype=torch.float64):
    return torch.nn.functional.normalize(randn(m, d, seed=9), dim=1).to(dtype)


def pair(n, d, dtype=torch.float64):
    z = randn(n, d)
    other = z + 0.5 * randn(n, d, seed=1)
    return z.to(dtype).requires_grad_(), other.to(dtype).requires_grad_()


whole_line = functools.partial(epps_pulley, knots=4001, extent=12.0)


# --- the oracles


def naive_epps_pulley(x, knots, extent):
    """The trapezoid rule on both halves of the line, knot by knot."""
    n, total = len(x), 0
    step = extent / (knots - 1)
    for k in range(-(knots - 1), knots):
        t = k * step
        real = sum((t * value).cos() for value in x) / n
        imaginary = sum((t * value).sin() for value in x) / n
        normal = math.exp(-(t**2) / 2)
        share = 0.5 if abs(k) == knots - 1 else 1.0
        total = total + share * step * ((real - normal) ** 2 + imaginary**2) * normal
    return n * total


def naive_terms(z_a, z_b, directions, knots=17, extent=3.0):
    n, d = z_a.shape
    prediction = statistic = 0
    for i in range(n):
        for j in range(d):
            mean = (z_a[i, j] + z_b[i, j]) / 2
            for z in (z_a, z_b):
                prediction = prediction + (z[i, j] - mean) ** 2 / (2 * n * d)
    for z in (z_a, z_b):
        for u in directions:
            samples = [sum(z[i, j] * u[j] for j in range(d)) for i in range(n)]
            part = naive_epps_pulley(samples, knots, extent)
            statistic = statistic + part / (2 * len(directions))
    return prediction, statistic


def assert_same(ours, theirs, inputs, dtype):
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs.to(dtype), **tolerance)
    of_ours, of_theirs = (
        torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (ours, theirs)
    )
    for a, b in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("knots", "extent"), [(17, 3.0), (2, 1.0), (3, 2.0), (40, 5.0)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_epps_pulley(dtype, knots, extent, scale):
    x = (scale * randn(6, 3)).to(dtype).requires_grad_()
    ours = epps_pulley(x, knots=knots, extent=extent)
    assert ours.shape == (3,)
    theirs = torch.stack([naive_epps_pulley(list(x[:, m]), knots, extent) for m in range(3)])
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=dtype)
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert_same(ours @ weights, theirs @ weights, (x,), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("knots", "extent"), [(17, 3.0), (9, 4.0)])
def test_sigreg_terms(dtype, knots, extent):
    z_a, z_b = pair(5, 3, dtype)
    directions = unit_rows(4, 3, dtype)
    ours = sigreg_terms(z_a, z_b, directions=directions, knots=knots, extent=extent)
    assert ours._fields == ("prediction", "statistic")
    theirs = naive_terms(z_a, z_b, directions, knots, extent)
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other, (z_a, z_b), dtype)


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.6, 1.0])
def test_sigreg_is_the_weighted_sum(weight):
    z_a, z_b = pair(5, 3)
    directions = unit_rows(4, 3)
    prediction, statistic = naive_terms(z_a, z_b, directions)
    ours = sigreg(z_a, z_b, weight=weight, directions=directions)
    expected = (1 - weight) * prediction + weight * statistic
    assert_same(ours, expected, (z_a, z_b), torch.float64)


def test_gradients_agree_with_finite_differences():
    objective = functools.partial(sigreg, directions=unit_rows(6, 3), weight=0.5)
    assert torch.autograd.gradcheck(objective, pair(5, 3))


def test_second_derivatives_agree_with_finite_differences():
    x = randn(5, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(epps_pulley, x)
    # The first derivative is found in two ways: with a graph and without.
    of_sum = [
        torch.autograd.grad(epps_pulley(x).sum(), x, create_graph=graph)[0].detach()
        for graph in (False, True)
    ]
    torch.testing.assert_close(*of_sum, rtol=1e-12, atol=1e-12)


def test_the_rule_is_the_integral():
    x = randn(7, 1)

    def integrand(t):
        phi = torch.exp(1j * t * x).mean()
        return len(x) * abs(complex(phi) - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2)

    whole, _ = integrate.quad(integrand, -12, 12, limit=200)
    assert float(whole_line(x)) == pytest.approx(whole, abs=1e-6)
    short, _ = integrate.quad(integrand, -3, 3)
    assert float(epps_pulley(x)) == pytest.approx(short, rel=0.01)


# --- closed forms


@pytest.mark.parametrize("n", [2, 16, 256])
def test_equal_samples_on_the_whole_line(n):
    origin, far = torch.zeros(n, 1, dtype=torch.float64), torch.full((n, 1), 40.0).double()
    assert float(whole_line(origin)) == pytest.approx(n * ORIGIN, rel=1e-6)
    assert float(whole_line(far)) == pytest.approx(n * FAR, rel=1e-6)
    assert pytest.approx(0.40892, abs=5e-6) == ORIGIN
    assert pytest.approx(3.954, abs=5e-4) == FAR


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 16, 256])
def test_equal_samples_at_the_default_rule(n, dtype):
    assert float(epps_pulley(torch.zeros(n, 1, dtype=dtype))) == pytest.approx(
        n * 0.40205, rel=2e-5
    )
    places = torch.linspace(10, 10 + 2 * math.pi * 16 / 3, 4001, dtype=dtype)[:-1]
    read = epps_pulley(places.expand(n, -1))
    assert float(read.mean()) == pytest.approx(n * 3.572, rel=2e-4)


def test_the_default_rule_repeats():
    shift = 2 * math.pi * 16 / 3
    x = randn(9, 4)
    torch.testing.assert_close(epps_pulley(x + shift), epps_pulley(x))
    assert float(whole_line(x + shift).min()) > 9 * 2


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_floor_of_a_normal_sample_does_not_depend_on_its_size(n):
    x = randn(n, 20000)
    assert float(epps_pulley(x, knots=201, extent=8.0).mean()) == pytest.approx(FLOOR, rel=0.03)
    assert float(epps_pulley(x).mean()) == pytest.approx(1.0525, rel=0.03)
    assert pytest.approx(1.0594, abs=5e-5) == FLOOR


def test_the_floor_at_the_default_rule_is_the_rule_of_its_expectation():
    # E |phi_N - phi|^2 = (1 - phi^2) / N, summed by hand.
    t = [3 * k / 16 for k in range(17)]
    weights = [2 * 3 / 16] * 16 + [3 / 16]
    floor = sum(
        w * (1 - math.exp(-(s**2))) * math.exp(-(s**2) / 2) for w, s in zip(weights, t, strict=True)
    )
    assert floor == pytest.approx(1.0525, abs=5e-5)


# --- collapse


@pytest.mark.parametrize("n", [16, 256])
def test_sigreg_at_collapse(n):
    z = torch.zeros(n, 8)
    terms = sigreg_terms(z, z)
    assert float(terms.prediction) == 0
    assert float(terms.statistic) == pytest.approx(0.40205 * n, rel=2e-5)
    assert float(sigreg(z, z)) == pytest.approx(0.05 * 0.40205 * n, rel=2e-5)
    far = 1e3 * randn(1, 8, dtype=torch.float32).expand(n, 8)
    statistic = sigreg_terms(far, far, directions=unit_rows(4096, 8, torch.float32)).statistic
    assert float(statistic) == pytest.approx(3.572 * n, rel=0.02)


def test_at_the_origin_there_is_no_gradient_and_elsewhere_one_for_all_rows():
    directions = unit_rows(64, 5)
    for constant in (0.0, 0.7):
        z_a, z_b = (torch.full((16, 5), constant).double().requires_grad_() for _ in range(2))
        loss = sigreg(z_a, z_b, directions=directions)
        for gradient in torch.autograd.grad(loss, (z_a, z_b)):
            assert float((gradient - gradient[0]).abs().max()) < 1e-12
            assert (float(gradient.norm()) > 1e-2) == (constant != 0)
            # It points away from the origin, so that a step goes towards it.
            assert constant == 0 or float(gradient[0].sum()) > 0


def test_the_force_that_spreads_a_cloud_vanishes_with_its_size():
    directions, cloud = unit_rows(64, 5), randn(64, 5)
    norms = []
    for scale in (1e-1, 1e-2, 1e-4):
        z = (scale * cloud).requires_grad_()
        (gradient,) = torch.autograd.grad(sigreg_terms(z, z, directions=directions).statistic, z)
        norms.append(float(gradient.norm()) / scale)
    assert norms[1] == pytest.approx(norms[2], rel=1e-3)
    assert norms[0] == pytest.approx(norms[1], rel=0.2)


def test_descent_makes_a_narrow_cloud_standard_normal():
    z = (0.05 * randn(128, 3) + 1).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    torch.manual_seed(0)
    for _ in range(300):
        optimizer.zero_grad()
        sigreg(z, z, slices=16).backward()
        optimizer.step()
    covariance = torch.cov(z.detach().T)
    torch.testing.assert_close(covariance, torch.eye(3).double(), rtol=0, atol=0.2)
    assert float(z.detach().mean(dim=0).abs().max()) < 0.1


# --- directions


def test_directions_come_anew_from_the_default_generator():
    z_a, z_b = pair(16, 8, torch.float32)
    torch.manual_seed(3)
    first, second = sigreg(z_a, z_b, slices=4).item(), sigreg(z_a, z_b, slices=4).item()
    torch.manual_seed(3)
    assert sigreg(z_a, z_b, slices=4).item() == first
    assert first != second


def test_many_slices_agree_with_each_other_and_with_any_rotation():
    z_a, z_b = (z.detach() * torch.tensor([3.0, 1, 1, 0.1]).double() for z in pair(32, 4))
    q = torch.linalg.qr(randn(4, 4, seed=3)).Q
    torch.manual_seed(0)
    values = [
        sigreg_terms(a, b, slices=20000).statistic.item()
        for a, b in ((z_a, z_b), (z_a, z_b), (z_a @ q, z_b @ q))
    ]
    assert max(values) / min(values) < 1.02


def test_slices_share_directions_between_the_views():
    z = randn(16, 8)
    torch.manual_seed(0)
    one_view_twice = sigreg_terms(z, z, slices=1).statistic.item()
    torch.manual_seed(0)
    u = torch.nn.functional.normalize(torch.randn(1, 8, dtype=torch.float64), dim=1)
    assert one_view_twice == pytest.approx(float(epps_pulley(z @ u.T)), rel=1e-12)


def test_the_order_of_samples_and_of_views_does_not_matter_but_pairing_does():
    z_a, z_b = pair(9, 4)
    shared = {"directions": unit_rows(16, 4)}
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    loss = sigreg(z_a, z_b, **shared).item()
    assert sigreg(z_b, z_a, **shared).item() == pytest.approx(loss, rel=1e-12)
    assert sigreg(z_a[order], z_b[order], **shared).item() == pytest.approx(loss, rel=1e-12)
    assert sigreg(z_a, z_b[order], **shared).item() > loss + 0.05


# --- precision and input


@pytest.mark.parametrize("state", ["healthy", "collapsed", "zero"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(state, dtype):
    z_a, z_b = (z.detach() for z in pair(64, 16))
    if state != "healthy":
        z_a = z_b = 0 * z_a + (state == "collapsed")
    z_a, z_b = (z.to(dtype).requires_grad_() for z in (z_a, z_b))
    directions = unit_rows(32, 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = sigreg(z_a, z_b, directions=directions.float())
    exact = sigreg(z_a.detach().double(), z_b.detach().double(), directions=directions)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
    for gradient in torch.autograd.grad(loss, (z_a, z_b)):
        assert gradient.dtype == dtype and torch.isfinite(gradient).all()


def test_a_term_without_weight_cannot_spoil_the_loss():
    z_a, z_b = 1e25 * randn(2, 16, 8, dtype=torch.float32)
    assert torch.isinf(sigreg_terms(z_a, z_b).prediction)
    assert torch.isfinite(sigreg(z_a, z_b, weight=1))


def test_without_a_process_group_gathering_changes_nothing():
    z_a, z_b = pair(12, 3)
    u = unit_rows(5, 3)
    gathered = sigreg(z_a, z_b, directions=u, gather_distributed=True)
    assert gathered.item() == sigreg(z_a, z_b, directions=u).item()


Z = torch.zeros(4, 3)
BAD = [
    (lambda: epps_pulley(Z[0]), ValueError, r"x must have shape \(N, D\)"),
    (lambda: epps_pulley(Z, knots=1), ValueError, "knots must be at least 2; got 1"),
    (lambda: epps_pulley(Z, extent=0), ValueError, "extent must be above 0; got 0"),
    (lambda: sigreg(Z, Z[:2]), ValueError, "z_a and z_b must have the same shape"),
    (lambda: sigreg(Z, Z, weight=1.5), ValueError, "weight must be at least 0 and at most 1"),
    (lambda: sigreg(Z, Z, slices=0), ValueError, "slices must be at least 1; got 0"),
    (lambda: sigreg(Z, Z, slices=2.0), TypeError, "slices must be an integer"),
    (lambda: sigreg_terms(Z, Z, directions=torch.eye(4)), ValueError,
     r"directions must have shape \(M, 3\).*got shape \(4, 4\)"),
    (lambda: sigreg_terms(Z, Z, directions=2 * torch.eye(3)), ValueError,
     "directions must be unit rows; got lengths from 2 to 2"),
    (lambda: sigreg_terms(Z, Z, directions=[1.0]), TypeError, "directions must be a torch.Tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
