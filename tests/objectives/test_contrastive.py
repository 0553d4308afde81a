"""MoCo, alignment and uniformity, and the spectral contrastive loss; NT-Xent beside other code."""

from __future__ import annotations

import copy
import functools
import itertools
import math

import numpy as np
import pytest
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
    frozen,
    pair,
    randn,
    refused,
    squared_distance,
    unit,
)
from torch.nn import functional as F

from repcollapse.objectives import (
    MoCo,
    alignment_uniformity,
    alignment_uniformity_terms,
    moco,
    nt_xent,
    spectral_contrastive,
    spectral_contrastive_terms,
)


def naive_moco(query, key, queue, temperature):
    total = 0
    for q, k in zip(query, key.detach(), strict=True):
        positive = (dot(unit(q), unit(k)) / temperature).exp()
        others = sum((dot(unit(q), unit(c)) / temperature).exp() for c in queue)
        total = total - (positive / (positive + others)).log()
    return total / len(query)


def naive_alignment(z_a, z_b, alpha):
    distances = [squared_distance(unit(a), unit(b)).sqrt() for a, b in zip(z_a, z_b, strict=True)]
    return sum(distance**alpha for distance in distances) / len(distances)


def naive_uniformity(z_a, z_b, t):
    total = 0
    for z in (z_a, z_b):
        rows = [unit(row) for row in z]
        pairs = list(itertools.permutations(range(len(rows)), 2))
        potential = sum((-t * squared_distance(rows[i], rows[k])).exp() for i, k in pairs)
        total = total + (potential / len(pairs)).log() / 2
    return total


def naive_spectral_terms(z_a, z_b):
    n = len(z_a)
    attraction = -2 * sum(dot(z_a[i], z_b[i]) for i in range(n)) / n
    repulsion = sum(dot(z_a[i], z_b[k]) ** 2 for i, k in itertools.permutations(range(n), 2))
    return attraction, repulsion / (n * (n - 1))


# --- values and gradients


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.5), (7, 0.2), (3, 3.0)])
def test_moco(n, d, k, temperature, dtype):
    z = pair(n, d, dtype)
    queue = 3 * randn(k, d, seed=5, dtype=dtype)
    ours = moco(*z, queue=queue, temperature=temperature)
    assert_same(ours, naive_moco(*z, queue, temperature), z, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(2, 3), (5, 4), (4, 9), (12, 2)])
@pytest.mark.parametrize(("alpha", "t"), [(2, 2), (1, 0.5), (3.5, 5)])
def test_alignment_uniformity_terms(n, d, alpha, t, dtype):
    z = pair(n, d, dtype)
    ours = alignment_uniformity_terms(*z, alpha=alpha, t=t)
    assert ours._fields == ("alignment", "uniformity")
    assert_same(ours.alignment, naive_alignment(*z, alpha), z, dtype)
    assert_same(ours.uniformity, naive_uniformity(*z, t), z, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.0, 2.0), (0.5, 0.0), (0.0, 0.0)])
def test_alignment_uniformity(weights, dtype):
    z = pair(5, 4, dtype)
    align, uniform = weights
    ours = alignment_uniformity(*z, align=align, uniform=uniform)
    theirs = align * naive_alignment(*z, 2) + uniform * naive_uniformity(*z, 2)
    assert_same(ours, theirs, z, dtype)


def test_the_defaults_of_alignment_and_uniformity_are_the_papers():
    z = pair(5, 4)
    given = alignment_uniformity(*z, align=1, uniform=1, alpha=2, t=2)
    assert alignment_uniformity(*z).item() == given.item()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_spectral_contrastive(n, d, dtype):
    z = pair(n, d, dtype)
    ours, theirs = spectral_contrastive_terms(*z), naive_spectral_terms(*z)
    assert ours._fields == ("attraction", "repulsion")
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other, z, dtype)
    assert_same(spectral_contrastive(*z), sum(theirs), z, dtype)


@pytest.mark.parametrize(
    "objective",
    [
        nt_xent,
        functools.partial(alignment_uniformity, uniform=0.3),
        functools.partial(alignment_uniformity, alpha=3, t=0.7),
        spectral_contrastive,
    ],
)
def test_gradients_agree_with_finite_differences(objective):
    assert torch.autograd.gradcheck(objective, pair(5, 3))


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("nt_xent", functools.partial(nt_xent, temperature=0.3)),
        ("alignment_uniformity", functools.partial(alignment_uniformity, uniform=0.5)),
        ("alignment_uniformity, alpha 1", functools.partial(alignment_uniformity, alpha=1, t=3)),
    ],
)
def test_as_in_lightly(name, objective):
    assert_as_frozen(objective, name)


def test_moco_as_in_lightly():
    queue = frozen("moco")["queue"]
    assert_as_frozen(functools.partial(moco, queue=queue, temperature=0.3), "moco")


# --- collapse, limits and ranges


@pytest.mark.parametrize("k", [1, 15, 65_536])
@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_moco_at_collapse(k, temperature):
    z = randn(1, 5, dtype=torch.float32).expand(8, 5)
    loss = moco(z, z, queue=z[:1].expand(k, 5), temperature=temperature)
    assert float(loss) == pytest.approx(math.log(k + 1), rel=5e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_alignment_and_uniformity_at_collapse(dtype):
    z = randn(1, 5, dtype=dtype).expand(16, 5)
    terms = alignment_uniformity_terms(z, 2 * z)
    assert float(terms.alignment) == pytest.approx(0, abs=1e-12)
    assert float(terms.uniformity) == pytest.approx(0, abs=2e-6)
    assert float(alignment_uniformity(z, z)) == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("n", [2, 5, 16])
@pytest.mark.parametrize("t", [0.5, 2, 100])
def test_uniformity_is_at_its_lower_end_on_a_simplex_and_above_it_elsewhere(n, t):
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n
    lowest = -2 * t * n / (n - 1)
    terms = alignment_uniformity_terms(simplex, simplex, t=t)
    assert float(terms.uniformity) == pytest.approx(lowest, rel=1e-9)
    assert float(terms.alignment) == 0
    z = randn(n, n)
    assert lowest < float(alignment_uniformity_terms(z, z, t=t).uniformity) <= 0


def test_a_sharp_potential_does_not_underflow():
    # The nearest of all pairs is so far that exp(-t d^2) is 0 in float32.
    z = torch.eye(4)
    assert float(alignment_uniformity_terms(z, z, t=500.0).uniformity) == pytest.approx(-1000)


def test_alignment_is_at_most_two_to_alpha():
    z = randn(6, 3)
    for alpha in (1, 2, 3):
        terms = alignment_uniformity_terms(z, -z, alpha=alpha)
        assert float(terms.alignment) == pytest.approx(2**alpha, rel=1e-12)


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 2.0])
def test_spectral_contrastive_at_collapse(length):
    z = length * F.normalize(randn(1, 5), dim=1).expand(8, 5)
    terms = spectral_contrastive_terms(z, z)
    assert float(terms.attraction) == pytest.approx(-2 * length**2, abs=1e-12)
    assert float(terms.repulsion) == pytest.approx(length**4, abs=1e-12)
    expected = length**4 - 2 * length**2
    assert float(spectral_contrastive(z, z)) == pytest.approx(expected, abs=1e-12)
    assert expected >= -1


def test_the_spectral_loss_of_orthogonal_rows_has_no_minimum():
    for scale in (1.0, 10.0, 100.0):
        z = scale * torch.eye(4, dtype=torch.float64)
        assert float(spectral_contrastive(z, z)) == pytest.approx(-2 * scale**2)


def test_the_spectral_repulsion_survives_a_large_diagonal():
    # A sum of all squares less that of the diagonal would be 0 in float32, or negative.
    z_a, z_b = 1e4 * torch.eye(3), 1e4 * torch.eye(3)
    z_b[0, 1] = 1e-4
    assert float(spectral_contrastive_terms(z_a, z_b).repulsion) == pytest.approx(1 / 6, rel=1e-6)


@pytest.mark.parametrize("objective", [alignment_uniformity, spectral_contrastive])
def test_no_objective_can_leave_exact_collapse_by_separating_samples(objective):
    z = torch.full((2, 8, 3), 0.5, dtype=torch.float64).unbind()
    inputs = [view.clone().requires_grad_() for view in z]
    for gradient in torch.autograd.grad(objective(*inputs), inputs):
        assert float((gradient - gradient.mean(dim=0)).abs().max()) < 1e-12


# --- invariances

SYMMETRIC = [alignment_uniformity, spectral_contrastive]


@pytest.mark.parametrize("objective", SYMMETRIC)
def test_the_order_of_views_and_of_samples_does_not_matter_but_pairing_does(objective):
    z_a, z_b = randn(9, 4), randn(9, 4) + 0.1 * randn(9, 4, seed=1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    loss = float(objective(z_a, z_b))
    assert float(objective(z_b, z_a)) == pytest.approx(loss, rel=1e-12)
    assert float(objective(z_a[order], z_b[order])) == pytest.approx(loss, rel=1e-12)
    assert float(objective(z_a, z_b[order])) > loss + 0.1


def moco_of_queue(z_a, z_b, *, rotation=None):
    queue = randn(5, 4, seed=8)
    return moco(z_a, z_b, queue=queue if rotation is None else queue @ rotation)


@pytest.mark.parametrize("objective", [*SYMMETRIC, moco_of_queue])
def test_rotation_changes_nothing(objective):
    z_a, z_b = randn(9, 4) * torch.tensor([3.0, 1, 1, 0.1]), randn(9, 4, seed=1)
    q = torch.linalg.qr(randn(4, 4, seed=3)).Q
    if objective is moco_of_queue:
        turned = moco_of_queue(z_a @ q, z_b @ q, rotation=q)
    else:
        turned = objective(z_a @ q, z_b @ q)
    assert float(turned) == pytest.approx(float(objective(z_a, z_b)), rel=1e-12)


@pytest.mark.parametrize("objective", [alignment_uniformity, moco_of_queue])
def test_normalised_objectives_ignore_the_scale_of_every_row(objective):
    z_a, z_b = randn(9, 4), randn(9, 4, seed=1)
    rows = randn(9, 1, seed=2).exp() * 1e3
    loss = float(objective(z_a, z_b))
    assert float(objective(rows * z_a, z_b / rows)) == pytest.approx(loss, rel=1e-12)


def test_moco_ignores_the_scale_and_the_order_of_the_queue():
    z, queue = pair(5, 4), randn(6, 4, seed=3)
    loss = moco(*z, queue=queue).item()
    scaled = queue.flip(0) * randn(6, 1, seed=4).exp()
    assert moco(*z, queue=scaled).item() == pytest.approx(loss, rel=1e-12)


def test_moco_holds_key_and_queue_constant():
    query, key = pair(5, 4)
    queue = randn(6, 4, seed=3).requires_grad_()
    moco(query, key, queue=queue).backward()
    assert query.grad is not None and key.grad is None and queue.grad is None


# --- precision


def a_new_moco(query, key):
    torch.manual_seed(0)
    return MoCo(16, queue=4)(query, key)


PRECISE = {
    "moco": lambda z_a, z_b: moco(
        z_a, z_b, queue=randn(9, 16, dtype=torch.float32), temperature=0.07
    ),
    "alignment_uniformity": alignment_uniformity,
    "spectral_contrastive": spectral_contrastive,
    "MoCo": a_new_moco,
}


@pytest.mark.parametrize("name", PRECISE)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision(name, state, dtype):
    if (state, dtype) == ("zero", torch.float16) and "moco" in name.lower():
        pytest.skip("the pull of a queue on a row without direction is 1e12, Inf in float16")
    assert_half_agrees_with_double(PRECISE[name], state, dtype)


@pytest.mark.parametrize("name", PRECISE)
@pytest.mark.parametrize("state", STATES)
def test_autocast(name, state):
    assert_autocast_is_harmless(PRECISE[name], state)


def test_a_dead_row_among_healthy_ones_has_no_direction():
    z_a, z_b = randn(6, 3), randn(6, 3, seed=1)
    z_a[2] = 0
    z_a.requires_grad_()
    terms = alignment_uniformity_terms(z_a, z_b)
    # Its distance to a point of the sphere is 1, not the square root of 2.
    rows = F.normalize(z_a.detach(), dim=1)
    potentials = torch.pdist(rows).square().mul(-2).exp().mean().log()
    other = torch.pdist(F.normalize(z_b, dim=1)).square().mul(-2).exp().mean().log()
    expected = float(potentials + other) / 2
    assert terms.uniformity.item() == pytest.approx(expected, rel=1e-12)
    assert torch.isfinite(torch.autograd.grad(sum(terms), z_a)[0]).all()


# --- the module


def filled(**kwargs):
    torch.manual_seed(0)
    module = MoCo(3, **{"queue": 8} | kwargs).double()
    module.queue.copy_(F.normalize(module.queue, dim=1))  # to the last digit of float64
    return module


def test_the_module_is_moco_with_its_queue():
    module = filled(temperature=0.4)
    z = pair(5, 3)
    ours = module(*z)
    theirs = moco(*z, queue=module.queue, temperature=0.4)
    assert_same(ours, theirs, z, torch.float64)


def test_the_queue_starts_with_unit_rows_from_the_default_generator():
    torch.manual_seed(3)
    one = MoCo(5)
    torch.manual_seed(3)
    two = MoCo(5)
    assert one.queue.shape == (1024, 5) and one.queue.dtype == torch.float32
    assert torch.equal(one.queue, two.queue)
    assert not torch.equal(one.queue, MoCo(5).queue)
    torch.testing.assert_close(one.queue.norm(dim=1), torch.ones(1024))
    assert not list(one.parameters())


def test_only_after_step_changes_the_queue_and_both_directions_make_one_update():
    module = filled()
    before = module.queue.clone()
    (z_a, z_b) = pair(2, 3)
    module(z_a, z_b)
    module(z_b, z_a)
    assert torch.equal(module.queue, before)
    module.after_step()
    keys = F.normalize(torch.cat([z_b, z_a]).detach(), dim=1)
    torch.testing.assert_close(module.queue[:4], keys)
    assert torch.equal(module.queue[4:], before[4:])
    assert int(module.position) == 4
    module.after_step()
    assert int(module.position) == 4


def test_the_newest_keys_replace_the_oldest_in_a_ring():
    module = filled(queue=5)
    seen = []
    for step in range(7):
        z_a, z_b = pair(3, 3, seed=step)
        module(z_a, z_b)
        module.after_step()
        seen.extend(F.normalize(z_b.detach(), dim=1))
        if len(seen) >= 5:
            order = sorted(map(tuple, module.queue.tolist()))
            np.testing.assert_allclose(order, sorted(tuple(row.tolist()) for row in seen[-5:]))
    assert int(module.position) == 21 % 5


def test_more_keys_than_the_queue_holds_leave_the_newest_and_bounded_memory():
    module = filled(queue=4)
    for step in range(20):
        module(*pair(3, 3, seed=step))
        assert sum(map(len, module._keys)) <= 4 + 3
    module.after_step()
    last = torch.cat([pair(3, 3, seed=step)[1].detach() for step in (18, 19)])[-4:]
    torch.testing.assert_close(module.queue, F.normalize(last, dim=1))


def test_a_forward_without_gradients_or_in_evaluation_leaves_no_trace():
    module = filled()
    before = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        module(*pair(4, 3))
    module.eval()
    module(*pair(4, 3))
    module.train()
    module.after_step()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_state_round_trips():
    module = filled()
    module(*pair(3, 3))
    module.after_step()
    torch.manual_seed(9)
    other = MoCo(3, queue=8).double()
    other.load_state_dict(module.state_dict())
    assert set(module.state_dict()) == {"queue", "position"}
    for each in (module, other):
        each(*pair(3, 3, seed=1))
        each.after_step()
    assert torch.equal(module.queue, other.queue)
    assert module(*pair(3, 3)).item() == other(*pair(3, 3)).item()


def test_keys_in_half_precision_are_kept_in_float32():
    module = MoCo(3, queue=8)
    z_a, z_b = (z.detach().bfloat16().requires_grad_() for z in pair(4, 3))
    loss = module(z_a, z_b)
    module.after_step()
    assert loss.dtype == torch.float32 and module.queue.dtype == torch.float32
    torch.testing.assert_close(module.queue[:4], F.normalize(z_b.detach().float(), dim=1))


def test_collapse_reads_log_k_plus_one_once_the_queue_has_turned_over():
    module = MoCo(3, queue=8)
    z = torch.ones(4, 3, requires_grad=True)
    for _ in range(2):
        assert abs(module(z, z).item() - math.log(9)) > 0.01
        module.after_step()
    assert module(z, z).item() == pytest.approx(math.log(9), rel=1e-5)


def test_its_settings_show():
    shown = "MoCo(3, queue=8, temperature=0.2, gather_distributed=False)"
    assert repr(MoCo(3, queue=8)) == shown


# --- bad input

A, B = (z.detach().float() for z in pair(6, 3))
NAN = A.clone()
NAN[4, 1] = math.nan


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: moco(NAN, B, queue=B), ValueError, "query must be finite; row 4"),
        (lambda: moco(A, NAN, queue=B), ValueError, "key must be finite; row 4"),
        (lambda: moco(A, B, queue=NAN), ValueError, "queue must be finite; row 4"),
        (lambda: moco(A, B[:5], queue=B), ValueError, r"query and key must have the same shape"),
        (lambda: moco(A, B, queue=B[:, :2]), ValueError, r"queue must have shape \(N, 3\).*6, 2"),
        (lambda: moco(A, B, queue=B[:0]), ValueError, "queue needs at least 1 rows; got 0"),
        (lambda: moco(A, B, queue=None), TypeError, "queue must be a torch.Tensor.*NoneType"),
        (lambda: moco(A, B, queue=B, temperature=0), ValueError, "temperature must be above 0"),
        (lambda: MoCo(3)(A[:, :2], B[:, :2]), ValueError, r"query must have shape \(N, 3\)"),
        (lambda: MoCo(3)(A, B.double()), TypeError, "query and key must have the same dtype"),
        (lambda: MoCo(0), ValueError, "dimension must be at least 1; got 0"),
        (lambda: MoCo(3.0), TypeError, "dimension must be an integer; got float"),
        (lambda: MoCo(3, queue=0), ValueError, "queue must be at least 1; got 0"),
        (lambda: MoCo(3, temperature=-1), ValueError, "temperature must be above 0; got -1"),
        (lambda: nt_xent(A, B, temperature=math.inf), ValueError, "temperature must be above 0"),
    ],
)
def test_bad_input(call, error, message):
    refused(call, error, message)


@pytest.mark.parametrize("function", [alignment_uniformity, alignment_uniformity_terms])
@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ((NAN, B), {}, ValueError, "z_a must be finite; row 4"),
        ((A, NAN), {}, ValueError, "z_b must be finite; row 4"),
        ((A, B[:, :2]), {}, ValueError, "z_a and z_b must have the same shape"),
        ((A[:1], B[:1]), {}, ValueError, "z_a needs at least 2 rows; got 1"),
        ((A, B), {"alpha": 0.5}, ValueError, "alpha must be at least 1; got 0.5"),
        ((A, B), {"alpha": "2"}, TypeError, "alpha must be a number; got str"),
        ((A, B), {"t": 0}, ValueError, "t must be above 0; got 0"),
        ((A, B), {"t": math.nan}, ValueError, "t must be above 0; got nan"),
    ],
)
def test_bad_input_to_alignment_and_uniformity(function, given, options, error, message):
    refused(lambda: function(*given, **options), error, message)


@pytest.mark.parametrize("weight", ["align", "uniform"])
def test_bad_weights(weight):
    message = f"{weight} must be at least 0; got -1"
    refused(lambda: alignment_uniformity(A, B, **{weight: -1}), ValueError, message)


@pytest.mark.parametrize("function", [spectral_contrastive, spectral_contrastive_terms])
def test_bad_input_to_the_spectral_loss(function):
    refused(lambda: function(A, NAN), ValueError, "z_b must be finite; row 4")
    refused(lambda: function(A, B[:4]), ValueError, "z_a and z_b must have the same shape")
    refused(lambda: function(A, B.double()), TypeError, "z_a and z_b must have the same dtype")
