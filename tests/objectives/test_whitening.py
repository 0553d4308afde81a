"""Whitening and W-MSE: against loops, at collapse, and where a batch cannot be whitened."""

from __future__ import annotations

import functools

import pytest
import torch

from repcollapse.objectives import SingularCovarianceError, w_mse, whiten

METHODS = ["cholesky", "zca"]
DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def pair(n, d, dtype=torch.float64):
    z = randn(n, d)
    other = z + 0.5 * randn(n, d, seed=1)
    return z.to(dtype).requires_grad_(), other.to(dtype).requires_grad_()


# --- the oracles: sums and loops over numbers


def shrunk_covariance(z, shrinkage):
    n, d = z.shape
    mean = [sum(z[:, j]) / n for j in range(d)]
    return [
        [
            (1 - shrinkage)
            * sum((z[i, j] - mean[j]) * (z[i, k] - mean[k]) for i in range(n))
            / (n - 1)
            + (shrinkage if j == k else 0)
            for k in range(d)
        ]
        for j in range(d)
    ]


def naive_cholesky(c):
    d = len(c)
    factor = [[0.0] * d for _ in range(d)]
    for j in range(d):
        for k in range(j + 1):
            rest = c[j][k] - sum(factor[j][m] * factor[k][m] for m in range(k))
            factor[j][k] = rest.sqrt() if j == k else rest / factor[k][k]
    return factor


def naive_whiten(z, *, shrinkage=0.0, method="cholesky"):
    n, d = z.shape
    c = shrunk_covariance(z, shrinkage)
    mean = [sum(z[:, j]) / n for j in range(d)]
    centred = [[z[i, j] - mean[j] for j in range(d)] for i in range(n)]
    if method == "zca":
        root = inverse_root(torch.stack([torch.stack(row) for row in c]))
        return [[sum(row[k] * root[k, j] for k in range(d)) for j in range(d)] for row in centred]
    factor = naive_cholesky(c)
    rows = []
    for row in centred:
        out = []
        for j in range(d):
            out.append((row[j] - sum(factor[j][k] * out[k] for k in range(j))) / factor[j][j])
        rows.append(out)
    return rows


def inverse_root(c):
    """The iteration of Denman and Beavers: nothing but inverses and means."""
    root, inverse = c, torch.eye(len(c), dtype=c.dtype)
    for _ in range(14):
        root, inverse = (root + inverse.inverse()) / 2, (inverse + root.inverse()) / 2
    return inverse


def naive_w_mse(z_a, z_b, *, shrinkage=0.0, slices=1, normalize=True, method="cholesky"):
    n, d = z_a.shape
    part, total = n // slices, 0
    for s in range(slices):
        rows = slice(s * part, (s + 1) * part)
        whitened = [naive_whiten(z[rows], shrinkage=shrinkage, method=method) for z in (z_a, z_b)]
        for a, b in zip(*whitened, strict=True):
            if normalize:
                a, b = ([x / sum(y * y for y in row).sqrt() for x in row] for row in (a, b))  # noqa: PLW2901
            total = total + sum((a[j] - b[j]) ** 2 for j in range(d))
    return total / n


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_whiten(method, dtype, shrinkage):
    z, _ = pair(8, 3, dtype)
    ours = whiten(z, shrinkage=shrinkage, method=method)
    theirs = torch.stack(
        [torch.stack(row) for row in naive_whiten(z, shrinkage=shrinkage, method=method)]
    )
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(ours, theirs, **tolerance)
    weights = randn(8, 3, seed=5, dtype=dtype)
    gradients = [torch.autograd.grad((out * weights).sum(), z)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("shrinkage", "slices"), [(0.0, 1), (0.0, 2), (0.2, 3), (0.2, 6)])
def test_w_mse(method, dtype, normalize, shrinkage, slices):
    z_a, z_b = pair(12, 3, dtype)
    options = {
        "method": method, "normalize": normalize, "shrinkage": shrinkage, "slices": slices
    }  # fmt: skip
    ours, theirs = w_mse(z_a, z_b, **options), naive_w_mse(z_a, z_b, **options)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert ours.dtype == dtype and ours.ndim == 0
    torch.testing.assert_close(ours, theirs, **tolerance)
    of_ours, of_theirs = (torch.autograd.grad(loss, (z_a, z_b)) for loss in (ours, theirs))
    scale = max(1.0, *(float(g.abs().max()) for g in of_theirs))
    for a, b in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(a / scale, b / scale, **tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_agree_with_finite_differences(method):
    objective = functools.partial(w_mse, method=method, shrinkage=0.1)
    assert torch.autograd.gradcheck(objective, pair(7, 3))


def test_second_derivatives_are_right_or_refused():
    z = randn(7, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(whiten, z)
    (gradient,) = torch.autograd.grad(whiten(z, method="zca")[0, 0], z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# --- what whitening is


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(3, 2), (33, 32), (256, 64)])
def test_whitened_rows_have_mean_zero_and_unit_covariance(method, n, d):
    z = randn(n, d) @ randn(d, d, seed=1) + 10
    w = whiten(z, method=method)
    assert float(w.mean(dim=0).abs().max()) < 1e-6
    torch.testing.assert_close(torch.cov(w.T), torch.eye(d, dtype=z.dtype), rtol=0, atol=1e-6)


def test_the_two_methods_differ_by_a_rotation_and_zca_moves_least():
    z = randn(40, 4) @ randn(4, 4, seed=1)
    centred = z - z.mean(dim=0)
    cholesky, zca = (whiten(z, method=method) for method in METHODS)
    torch.testing.assert_close(cholesky @ cholesky.T, zca @ zca.T, rtol=0, atol=1e-10)
    assert float((zca - centred).norm()) < float((cholesky - centred).norm()) - 1e-3


def test_cholesky_goes_by_the_order_of_dimensions_and_zca_does_not():
    z, order = randn(20, 4) @ randn(4, 4, seed=1), [2, 0, 3, 1]
    for method, same in (("cholesky", False), ("zca", True)):
        difference = whiten(z[:, order], method=method) - whiten(z, method=method)[:, order]
        assert (float(difference.abs().max()) < 1e-10) == same
    first = (z - z.mean(dim=0))[:, 0]
    torch.testing.assert_close(whiten(z)[:, 0], first / first.std())


@pytest.mark.parametrize("method", METHODS)
def test_w_mse_ignores_scale_and_place_of_each_view(method):
    z_a, z_b = pair(20, 4)
    loss = w_mse(z_a, z_b, method=method).item()
    assert w_mse(3 * z_a + 7, 0.01 * z_b - 2, method=method).item() == pytest.approx(loss, abs=1e-9)


def test_a_common_rotation_matters_to_cholesky_only():
    z_a, z_b = pair(20, 4)
    z_a = z_a @ torch.diag(torch.tensor([4.0, 2, 1, 0.3], dtype=z_a.dtype))
    q = torch.linalg.qr(randn(4, 4, seed=3)).Q
    for method, same in (("cholesky", False), ("zca", True)):
        change = w_mse(z_a @ q, z_b @ q, method=method) - w_mse(z_a, z_b, method=method)
        assert (abs(change.item()) < 1e-10) == same


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_samples_does_not_matter_but_their_pairing_does(method):
    z_a, z_b = pair(20, 4)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    loss = w_mse(z_a, z_b, method=method).item()
    assert w_mse(z_a[order], z_b[order], method=method).item() == pytest.approx(loss, abs=1e-12)
    assert w_mse(z_a, z_b[order], method=method).item() > loss + 0.5


def test_views_without_relation_read_two_on_average():
    values = [w_mse(randn(64, 8, seed=s), randn(64, 8, seed=s + 500)).item() for s in range(50)]
    assert sum(values) / 50 == pytest.approx(2, abs=0.02)
    opposite = randn(64, 8)
    assert w_mse(opposite, -opposite).item() == pytest.approx(4, abs=1e-12)


# --- collapse


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_at_collapse_w_mse_reads_two_without_gradient(method, constant, dtype):
    z_a, z_b = (torch.full((32, 7), constant, dtype=dtype).requires_grad_() for _ in range(2))
    loss = w_mse(z_a, z_b, shrinkage=0.01, method=method)
    assert loss.item() == 2
    assert all(not g.any() for g in torch.autograd.grad(loss, (z_a, z_b)))
    loss = w_mse(z_a, z_b, shrinkage=0.01, method=method, normalize=False)
    assert loss.item() == 0
    assert all(not g.any() for g in torch.autograd.grad(loss, (z_a, z_b)))
    assert not whiten(z_a, shrinkage=0.01, method=method).any()


def test_beside_collapse_only_the_direction_of_the_rest_counts():
    rest, noise = 1e-6 * randn(256, 8), 1e-6 * randn(256, 8, seed=1)
    same, other = (
        w_mse(1 + rest, 1 + rest, shrinkage=0.01),
        w_mse(1 + rest, 1 + noise, shrinkage=0.01),
    )
    assert same.item() < 1e-9
    assert other.item() == pytest.approx(2, abs=0.15)


def test_without_normalisation_collapse_is_the_minimum():
    rest, noise = randn(64, 4), randn(64, 4, seed=1)
    values = [
        w_mse(s * rest, s * noise, shrinkage=0.01, normalize=False).item()
        for s in (1.0, 1e-1, 1e-2, 1e-4)
    ]
    assert values == sorted(values, reverse=True) and values[-1] < 1e-4


SINGULAR = {
    "as many rows as dimensions": (randn(4, 4), 3, 4),
    "fewer rows than dimensions": (randn(5, 16), 4, 16),
    "constant": (torch.full((8, 3), 0.1), 0, 3),
    "zero": (torch.zeros(8, 3), 0, 3),
    "one dimension dead": (randn(8, 3) * torch.tensor([1.0, 0.0, 1.0]), 2, 3),
    "a line": (randn(8, 1) @ randn(1, 3, seed=1) + 5, 1, 3),
    "a plane in float32": (randn(100, 20, dtype=torch.float32) @ randn(20, 64).float(), 20, 64),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SINGULAR)
def test_a_batch_without_spread_is_refused_by_name(name, method):
    z, rank, d = SINGULAR[name]
    message = rf"N = {len(z)} rows spans {rank} of D = {d} directions.*shrinkage > 0"
    for call in (lambda: whiten(z, method=method), lambda: w_mse(z, z, method=method)):
        with pytest.raises(SingularCovarianceError, match=message):
            call()
    assert torch.isfinite(whiten(z, method=method, shrinkage=0.01)).all()
    assert issubclass(SingularCovarianceError, ValueError)


@pytest.mark.parametrize("method", METHODS)
def test_one_singular_slice_is_enough(method):
    z = randn(16, 3)
    z[8:12] = 1
    w_mse(z, z, method=method)
    with pytest.raises(SingularCovarianceError, match="N = 4 rows spans 0 of D = 3"):
        w_mse(z, z, method=method, slices=4)


@pytest.mark.parametrize("method", METHODS)
def test_a_small_but_full_batch_is_not_refused(method):
    z = (100 + 1e-3 * randn(64, 8)).float()
    w = whiten(z, method=method)
    torch.testing.assert_close(torch.cov(w.T), torch.eye(8), rtol=0, atol=1e-3)


# --- precision and input


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(method, scale, dtype):
    # On a small shrinkage: near collapse the rounding of the input decides all directions.
    z_a, z_b = ((scale * randn(64, 8, seed=s)).to(dtype).requires_grad_() for s in (0, 1))
    options = {"shrinkage": 0.1, "method": method}
    with torch.autocast("cpu", torch.bfloat16):
        loss = w_mse(z_a, z_b, **options)
    exact = w_mse(z_a.detach().double(), z_b.detach().double(), **options)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
    for gradient in torch.autograd.grad(loss, (z_a, z_b)):
        assert gradient.dtype == dtype and torch.isfinite(gradient).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_network_under_autocast_gets_finite_gradients_from_zero_embeddings(method):
    layer = torch.nn.Linear(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        z = layer(torch.zeros(32, 8))
        assert z.dtype == torch.bfloat16
        loss = w_mse(z, z, shrinkage=0.1, method=method)
        with pytest.raises(SingularCovarianceError):
            w_mse(z, z, method=method)
    loss.backward()
    assert loss.item() == 2
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_without_a_process_group_gathering_changes_nothing():
    z_a, z_b = pair(12, 3)
    assert w_mse(z_a, z_b, gather_distributed=True).item() == w_mse(z_a, z_b).item()


Z = torch.zeros(6, 2)
BAD = [
    (lambda: whiten(Z[0]), ValueError, r"z must have shape \(N, D\)"),
    (lambda: whiten(Z, method="pca"), ValueError, r"method must be one of .*got 'pca'"),
    (lambda: whiten(Z, shrinkage=-0.1), ValueError, r"shrinkage must be at least 0 and at most 1"),
    (lambda: w_mse(Z, Z[:4]), ValueError, "z_a and z_b must have the same shape"),
    (lambda: w_mse(Z, Z, shrinkage=2), ValueError, "shrinkage must be at least 0 and at most 1"),
    (lambda: w_mse(Z, Z, method=1), ValueError, "method must be one of"),
    (lambda: w_mse(Z, Z, slices=0), ValueError, "slices must be at least 1; got 0"),
    (lambda: w_mse(Z, Z, slices=4), ValueError, r"slices must divide the N = 6 rows.*got 4"),
    (lambda: w_mse(Z, Z, slices=6), ValueError, r"in equal parts of at least 2; got 6"),
    (lambda: w_mse(Z, Z, slices=1.5), TypeError, "slices must be an integer"),
    (lambda: w_mse(Z / 0, Z), ValueError, "z_a must be finite"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
