"""Sinkhorn, SwAV and DINO: against loops and another library, at collapse, and their state."""

from __future__ import annotations

import copy
import functools
import json
import math
from pathlib import Path

import pytest
import torch

from repcollapse.objectives import (
    DINO,
    Prototypes,
    SwAV,
    dino,
    dino_terms,
    sinkhorn,
    swav,
)

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
SHAPES = [(2, 2), (5, 3), (3, 7), (12, 4)]
FROZEN = json.loads((Path(__file__).parent / "frozen" / "clustering.json").read_text("utf-8"))


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def pair(n, k, dtype=torch.float64):
    a = randn(n, k)
    b = a + 0.5 * randn(n, k, seed=1)
    return (x.tanh().to(dtype).requires_grad_() for x in (a, b))


def assert_same(ours, theirs, inputs, dtype):
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert ours.dtype == dtype and ours.ndim == 0
    torch.testing.assert_close(ours, theirs.to(dtype), **tolerance)
    of_ours, of_theirs = (
        torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (ours, theirs)
    )
    for a, b in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


# --- the oracles: sums and loops over numbers


def naive_softmax(row, temperature):
    exponentials = [(x / temperature).exp() for x in row]
    return [e / sum(exponentials) for e in exponentials]


def naive_sinkhorn(scores, epsilon, iterations):
    n, k = scores.shape
    q = [[math.exp(scores[i, j].item() / epsilon) for j in range(k)] for i in range(n)]
    for _ in range(iterations):
        columns = [sum(q[i][j] for i in range(n)) for j in range(k)]
        q = [[q[i][j] / columns[j] / k for j in range(k)] for i in range(n)]
        rows = [sum(row) for row in q]
        q = [[q[i][j] / rows[i] / n for j in range(k)] for i in range(n)]
    return [[n * value for value in row] for row in q]


def naive_swav(scores_a, scores_b, *, temperature, epsilon, iterations, balance):
    n, k = scores_a.shape
    total = 0
    for one, other in ((scores_a, scores_b), (scores_b, scores_a)):
        codes = naive_sinkhorn(other, epsilon, iterations)
        if not balance:
            codes = [naive_softmax(row.detach(), epsilon) for row in other]
        for i in range(n):
            p = naive_softmax(one[i], temperature)
            total = total - sum(codes[i][j] * p[j].log() for j in range(k))
    return total / (2 * n)


def naive_dino_terms(student, teacher, center, student_temperature, teacher_temperature):
    n, k = student.shape
    entropy = divergence = 0
    for i in range(n):
        p_t = naive_softmax((teacher[i] - center).detach(), teacher_temperature)
        p_s = naive_softmax(student[i], student_temperature)
        for j in range(k):
            entropy = entropy - p_t[j] * p_t[j].log() / n
            divergence = divergence + p_t[j] * (p_t[j] / p_s[j]).log() / n
    return entropy, divergence


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.5, 1), (0.2, 8)])
def test_sinkhorn(n, k, dtype, epsilon, iterations):
    scores, _ = pair(n, k, dtype)
    codes = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    assert codes.dtype == dtype and not codes.requires_grad
    expected = torch.tensor(naive_sinkhorn(scores, epsilon, iterations), dtype=dtype)
    torch.testing.assert_close(codes, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("numbers", [(0.1, 0.05, 3), (0.5, 0.3, 1)])
def test_swav(n, k, dtype, balance, numbers):
    a, b = pair(n, k, dtype)
    names = ("temperature", "epsilon", "iterations")
    options = {"balance": balance, **dict(zip(names, numbers, strict=True))}
    assert_same(swav(a, b, **options), naive_swav(a, b, **options), (a, b), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (0.3, 0.3), (1.0, 2.0)])
def test_dino(n, k, dtype, temperatures):
    student, teacher = pair(n, k, dtype)
    center = 0.1 * randn(k, seed=4, dtype=dtype)
    names = ("student_temperature", "teacher_temperature")
    options = {"center": center, **dict(zip(names, temperatures, strict=True))}
    entropy, divergence = naive_dino_terms(student, teacher, center, *temperatures)
    assert_same(dino(student, teacher, **options), entropy + divergence, (student,), dtype)
    terms = dino_terms(student, teacher, **options)
    assert terms._fields == ("entropy", "divergence")
    assert_same(terms.divergence, divergence, (student,), dtype)
    assert terms.entropy.item() == pytest.approx(float(entropy), abs=2e-5)
    assert not terms.entropy.requires_grad


@pytest.mark.parametrize("k", [3, 1])
def test_gradients_agree_with_finite_differences(k):
    a, b = (k * x.detach().requires_grad_() for x in pair(5, 4))
    assert torch.autograd.gradcheck(lambda s: dino(s, b), (a,))
    codes = functools.partial(sinkhorn, epsilon=0.05, iterations=3)
    constant = [codes(x) for x in (a, b)]

    def swapped(x, y):
        return -(
            (constant[1] * (x / 0.1).log_softmax(1)).sum()
            + (constant[0] * (y / 0.1).log_softmax(1)).sum()
        ) / (2 * len(x))

    assert torch.autograd.gradcheck(swapped, (a, b))
    ours, theirs = (torch.autograd.grad(f(a, b), (a, b)) for f in (swav, swapped))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# --- another library


@pytest.mark.parametrize("case", FROZEN["swav"], ids=lambda case: str(case["options"]))
def test_sinkhorn_and_swav_as_in_lightly(case):
    a, b = (
        torch.tensor(FROZEN["inputs"][phase], dtype=torch.float64).requires_grad_()
        for phase in ("0", "0.4")
    )
    options = case["options"]
    codes = sinkhorn(a, epsilon=options["epsilon"], iterations=options["iterations"])
    close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
    close(codes, torch.tensor(case["codes"], dtype=torch.float64))
    loss = swav(a, b, **options)
    assert loss.item() == pytest.approx(case["value"], rel=1e-12)
    for ours, theirs in zip(torch.autograd.grad(loss, (a, b)), case["gradients"], strict=True):
        close(ours, torch.tensor(theirs, dtype=torch.float64))


@pytest.mark.parametrize("case", FROZEN["dino"], ids=lambda case: str(case["options"]))
def test_dino_and_its_centre_as_in_lightly(case):
    def outputs(phase):
        return torch.tensor(FROZEN["inputs"][f"{phase:g}"], dtype=torch.float64)

    module = DINO(5, prototypes=5, momentum=1.0, **case["options"]).double()
    assert len(case["steps"]) == 3
    for number, step in enumerate(case["steps"]):
        students = [outputs(number + part).requires_grad_() for part in (0.0, 0.4)]
        teachers = [outputs(number + part) for part in (0.2, 0.6)]
        # Each student from the other view's teacher.
        loss = sum(
            dino(students[i], teachers[1 - i], center=module.center, **case["options"])
            for i in (0, 1)
        )
        # lightly's teachers need not be unit rows: the module's mean is fed as it would feed it.
        module._rows, module._sum = 24, sum(t.sum(dim=0) for t in teachers)
        module.after_step()
        # lightly holds the teacher's temperature in float32.
        assert loss.item() / 2 == pytest.approx(step["value"], rel=1e-6)
        for ours, theirs in zip(
            torch.autograd.grad(loss / 2, students), step["gradients"], strict=True
        ):
            torch.testing.assert_close(
                ours, torch.tensor(theirs, dtype=torch.float64), rtol=1e-5, atol=1e-7
            )
        torch.testing.assert_close(
            module.center, torch.tensor(step["center"], dtype=torch.float64), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("name", ["clustering.json", "lightly.json"])
def test_frozen_outputs_say_where_they_come_from(name):
    folder = Path(__file__).parent / "frozen"
    frozen = json.loads((folder / name).read_text("utf-8"))
    assert frozen["library"] == "lightly" and frozen["licence"] == "MIT"
    assert (folder / frozen["script"]).is_file()
    assert frozen["version"] and frozen["torch"]


# --- what Sinkhorn does


@pytest.mark.parametrize(("n", "k"), [(8, 4), (5, 3), (4, 9), (256, 32)])
def test_codes_are_balanced_in_the_limit_and_rows_always_sum_to_one(n, k):
    scores = randn(n, k).tanh()
    roughly = sinkhorn(scores)
    torch.testing.assert_close(roughly.sum(dim=1), torch.ones(n).double())
    exactly = sinkhorn(scores, epsilon=0.5, iterations=500)
    torch.testing.assert_close(exactly.sum(dim=1), torch.ones(n).double())
    torch.testing.assert_close(exactly.sum(dim=0), torch.full((k,), n / k).double())


def test_three_iterations_balance_only_roughly():
    scores = randn(256, 32).tanh() + 2 * torch.arange(32).double() / 32
    columns = sinkhorn(scores).sum(dim=0)
    unbalanced = (scores / 0.05).softmax(dim=1).sum(dim=0)
    assert float(columns.min()) > 0.5 and float(columns.max()) < 16
    assert float((columns - 8).abs().max()) > 0.1
    assert float(unbalanced.max()) > 50


def test_codes_are_the_optimal_plan():
    """The plan is u K v: the logarithm of code over kernel has rank one as a sum."""
    scores = randn(6, 4).tanh()
    rest = sinkhorn(scores, epsilon=0.2, iterations=50).log() - scores / 0.2
    double_centred = rest - rest.mean(dim=0) - rest.mean(dim=1, keepdim=True) + rest.mean()
    assert float(double_centred.abs().max()) < 1e-10


def test_sinkhorn_ignores_a_constant_of_a_prototype_only_in_the_limit_and_of_a_row_always():
    scores = randn(8, 4).tanh()
    row, column = randn(8, 1, seed=2), randn(1, 4, seed=3)
    close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    many = functools.partial(sinkhorn, epsilon=0.3, iterations=200)
    close(many(scores + row), many(scores))
    close(many(scores + column), many(scores))
    # Prototypes go first: what is added to one is gone after one iteration.
    close(sinkhorn(scores + column, iterations=1), sinkhorn(scores, iterations=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sinkhorn_survives_large_scores(dtype):
    scores = (1e4 * randn(16, 4)).to(dtype)  # exp(1e4 / 0.05) overflows every dtype
    codes = sinkhorn(scores)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(16))
    exact = sinkhorn(scores.double())
    torch.testing.assert_close(codes.double(), exact, rtol=0, atol=0.05)


# --- collapse


@pytest.mark.parametrize("k", [2, 32, 4096])
@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_with_equal_scores_swav_reads_log_k(k, balance, dtype):
    scores = torch.full((8, k), 0.3, dtype=dtype).requires_grad_()
    loss = swav(scores, scores, balance=balance)
    assert loss.item() == pytest.approx(math.log(k), rel=1e-6)
    assert float(torch.autograd.grad(loss, scores)[0].abs().max()) < 1e-7


def test_with_one_prototype_for_all_sinkhorn_makes_the_difference():
    k = 32
    scores = -torch.ones(16, k, dtype=torch.float64)
    scores[:, 5] = 1
    assert swav(scores, scores, balance=False).item() == pytest.approx(
        math.log(1 + (k - 1) * math.exp(-2 / 0.1)), rel=1e-6
    )
    assert swav(100 * scores, 100 * scores, balance=False).item() == 0
    assert sinkhorn(scores).max().item() == pytest.approx(1 / k, rel=1e-12)
    assert swav(scores, scores).item() == pytest.approx(19.375 + 31 * math.exp(-20), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_at_collapse_balanced_swav_is_at_least_log_k(seed):
    scores = randn(1, 8, seed=seed).tanh().expand(16, 8)
    gap = (scores[0] / 0.1).logsumexp(0) - (scores[0] / 0.1).mean()
    assert swav(scores, scores).item() == pytest.approx(float(gap), rel=1e-12)
    assert float(gap) > math.log(8)


def test_the_value_for_4096_outputs_is_the_tabulated_one():
    assert float(dino(torch.zeros(4, 4096), torch.zeros(4, 4096))) == pytest.approx(
        8.3178, abs=5e-5
    )


@pytest.mark.parametrize("k", [2, 32])
def test_dino_at_both_collapses(k):
    uniform = torch.zeros(8, k)
    terms = dino_terms(uniform, uniform)
    assert terms.entropy.item() == pytest.approx(math.log(k), rel=1e-6)
    assert abs(terms.divergence.item()) < 1e-6
    one_hot = 100 * torch.eye(k)[:1].expand(8, k)
    terms = dino_terms(one_hot, one_hot)
    assert terms.entropy.item() == 0 and terms.divergence.item() == 0
    assert dino(one_hot, one_hot).item() == 0


def test_a_converged_centre_makes_a_collapsed_teacher_uniform():
    constant = randn(1, 8).expand(6, 8)
    terms = dino_terms(constant, constant, center=constant[0])
    assert terms.entropy.item() == pytest.approx(math.log(8), rel=1e-12)


def test_dino_terms_add_up_and_the_divergence_is_least_for_the_teacher():
    student, teacher = pair(9, 4)
    terms = dino_terms(student, teacher, center=0.1 * randn(4))
    total = dino(student, teacher, center=0.1 * randn(4))
    assert terms.entropy.item() + terms.divergence.item() == pytest.approx(total.item(), rel=1e-12)
    assert terms.divergence.item() > 0
    own = dino_terms(0.1 / 0.04 * teacher, teacher)
    assert abs(own.divergence.item()) < 1e-12


def test_only_the_student_gets_a_gradient():
    student, teacher = pair(9, 4)
    center = randn(4).requires_grad_()
    dino(student, teacher, center=center).backward()
    assert student.grad is not None and teacher.grad is None and center.grad is None


@pytest.mark.parametrize("objective", [swav, dino])
def test_order_of_samples_and_prototypes_does_not_matter_but_pairing_does(objective):
    a, b = pair(9, 4)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    loss = objective(a, b).item()
    assert objective(a[order], b[order]).item() == pytest.approx(loss, rel=1e-10)
    assert objective(a[:, [2, 0, 3, 1]], b[:, [2, 0, 3, 1]]).item() == pytest.approx(
        loss, rel=1e-10
    )
    assert objective(a, b[order]).item() > loss + 0.1


def test_swav_is_symmetric_and_dino_is_not():
    a, b = pair(9, 4)
    assert swav(a, b).item() == pytest.approx(swav(b, a).item(), rel=1e-12)
    assert abs(dino(a, b).item() - dino(b, a).item()) > 1e-3


# --- modules


def test_prototypes_give_cosines_whatever_the_lengths():
    prototypes = Prototypes(6, 4).double()
    z = randn(9, 6)
    expected = torch.nn.functional.cosine_similarity(
        z[:, None], prototypes.weight.detach()[None], dim=2
    )
    torch.testing.assert_close(prototypes(z), expected)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(4), check_dtype=False)
    with torch.no_grad():
        prototypes.weight.mul_(torch.tensor([[2.0], [0.1], [30.0], [1.0]]))
    torch.testing.assert_close(prototypes(100 * z), expected)
    assert repr(prototypes) == "Prototypes(dimension=6, count=4)"


def test_prototypes_of_random_start_come_from_the_default_generator():
    for module in (functools.partial(Prototypes, 6, 4), functools.partial(SwAV, 6)):
        torch.manual_seed(3)
        first, second = module(), module()
        torch.manual_seed(3)
        again = module()
        one, two, three = (next(m.parameters()) for m in (first, second, again))
        assert torch.equal(one, three) and not torch.equal(one, two)


@pytest.mark.parametrize("balance", [True, False])
def test_the_swav_module_is_swav_of_the_scores(balance):
    module = SwAV(6, prototypes=5, temperature=0.3, epsilon=0.2, iterations=2, balance=balance)
    z_a, z_b = randn(8, 6, dtype=torch.float32), randn(8, 6, seed=1, dtype=torch.float32)
    before = copy.deepcopy(module.state_dict())
    loss = module(z_a, z_b)
    loss.backward()
    module.after_step()
    expected = swav(
        module.prototypes(z_a),
        module.prototypes(z_b),
        temperature=0.3,
        epsilon=0.2,
        iterations=2,
        balance=balance,
    )
    assert loss.item() == expected.item()
    assert float(module.prototypes.weight.grad.norm()) > 0
    assert before.keys() == module.state_dict().keys() == {"prototypes.weight"}
    assert torch.equal(before["prototypes.weight"], module.prototypes.weight)


def test_the_dino_module_is_dino_of_the_scores():
    module = DINO(6, prototypes=5, student_temperature=0.3, teacher_temperature=0.2).double()
    module.center += 0.1 * randn(5)
    student, teacher = randn(8, 6).requires_grad_(), randn(8, 6, seed=1).requires_grad_()
    own = torch.nn.functional.normalize(teacher, dim=1) @ module.teacher_weight.T
    expected = dino(
        module.prototypes(student),
        own,
        center=module.center,
        student_temperature=0.3,
        teacher_temperature=0.2,
    )
    loss = module(student, teacher)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    assert student.grad is not None and teacher.grad is None
    assert [name for name, _ in module.named_parameters()] == ["prototypes.weight"]


def scores_of(module, z):
    return (
        torch.nn.functional.normalize(z, dim=1)
        @ torch.nn.functional.normalize(module.teacher_weight, dim=1).T
    )


def test_two_forwards_make_one_update_of_centre_and_teacher():
    module = DINO(6, prototypes=5, center_momentum=0.8, momentum=0.75)
    z = [randn(8, 6, seed=s, dtype=torch.float32) for s in range(3)]
    assert torch.equal(module.teacher_weight, module.prototypes.weight)
    with torch.no_grad():
        module.prototypes.weight.add_(1.0)
    before = copy.deepcopy(module.state_dict())
    module(z[0], z[1])
    module(z[1], z[2])
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    mean = torch.cat([scores_of(module, z[1]), scores_of(module, z[2])]).mean(dim=0)
    module.after_step()
    torch.testing.assert_close(module.center, 0.2 * mean)
    expected = 0.75 * before["teacher_weight"] + 0.25 * before["prototypes.weight"]
    torch.testing.assert_close(module.teacher_weight, expected)
    assert torch.equal(module.prototypes.weight, before["prototypes.weight"])
    after = copy.deepcopy(module.state_dict())
    module.after_step()  # nothing was seen since
    for key, value in module.state_dict().items():
        assert torch.equal(value, after[key])


@pytest.mark.parametrize("how", ["no_grad", "eval"])
def test_a_forward_that_does_not_train_changes_nothing(how):
    module = DINO(6, prototypes=5)
    z = randn(8, 6, dtype=torch.float32)
    before = copy.deepcopy(module.state_dict())
    if how == "eval":
        module.eval()
        module(z, z)
    else:
        with torch.no_grad():
            module(z, z)
    module.after_step()
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_without_centring_the_centre_stays_and_the_teacher_follows():
    module = DINO(6, prototypes=5, center=False, momentum=0.5)
    with torch.no_grad():
        module.prototypes.weight.add_(1.0)
    z = randn(8, 6, dtype=torch.float32)
    plain = dino(module.prototypes(z), scores_of(module, z)).item()
    assert module(z, z).item() == pytest.approx(plain, rel=1e-6)
    before = module.teacher_weight.clone()
    module.after_step()
    assert not module.center.any()
    assert not torch.equal(module.teacher_weight, before)


def test_state_makes_a_round_trip():
    module = DINO(6, prototypes=5, momentum=0.5)
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    z_a, z_b = randn(8, 6, dtype=torch.float32), randn(8, 6, seed=1, dtype=torch.float32)
    for _ in range(3):
        optimizer.zero_grad()
        module(z_a, z_b).backward()
        optimizer.step()
        module.after_step()
    state = module.state_dict()
    assert state.keys() == {"prototypes.weight", "center", "teacher_weight"}
    assert all(value.dtype == torch.float32 for value in state.values())
    other = DINO(6, prototypes=5, momentum=0.5)
    assert other(z_a, z_b).item() != module(z_a, z_b).item()
    other.load_state_dict(state)
    assert other(z_a, z_b).item() == module(z_a, z_b).item()
    assert module.double().center.dtype == torch.float64


def test_what_a_forward_notes_is_bounded_and_holds_no_graph():
    module = DINO(6, prototypes=5)
    for seed in range(20):
        module(randn(8, 6, seed=seed).float().requires_grad_(), randn(8, 6).float())
    assert module._sum.shape == (5,) and not module._sum.requires_grad
    assert module._rows == 160


def test_descent_without_sinkhorn_ends_at_one_prototype_and_with_it_does_not():
    """Free embeddings, both views alike: nothing but the objective decides."""
    usage = {}
    for balance in (True, False):
        torch.manual_seed(0)
        module = SwAV(8, prototypes=4, balance=balance)
        z = (1 + 0.3 * randn(64, 8)).float().requires_grad_()
        optimizer = torch.optim.Adam([z, *module.parameters()], lr=0.02)
        for _ in range(200):
            optimizer.zero_grad()
            module(z, z).backward()
            optimizer.step()
        winners = module.prototypes(z).argmax(dim=1)
        usage[balance] = torch.bincount(winners, minlength=4)
    assert int(usage[True].min()) >= 8
    assert int(usage[False].max()) >= 48


# --- precision and input


@pytest.mark.parametrize("module", [SwAV, DINO])
@pytest.mark.parametrize("state", ["healthy", "collapsed", "zero"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(module, state, dtype):
    objective = module(16, prototypes=8)
    z_a, z_b = randn(32, 16, dtype=torch.float32), randn(32, 16, seed=1, dtype=torch.float32)
    if state != "healthy":
        z_a = z_b = (state == "collapsed") * z_a[:1].expand(32, 16)
    z_a, z_b = (z.to(dtype).requires_grad_() for z in (z_a, z_b))
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(z_a, z_b)
    assert loss.dtype == torch.float32
    # The same rounded embeddings, in double precision.
    exact = copy.deepcopy(objective).double()(z_a.detach().double(), z_b.detach().double())
    assert loss.item() == pytest.approx(exact.item(), rel=1e-4)
    loss.backward()
    objective.after_step()
    assert torch.isfinite(z_a.grad).all() and z_a.grad.dtype == dtype
    for value in (objective.prototypes.weight.grad, *objective.state_dict().values()):
        assert torch.isfinite(value).all() and value.dtype == torch.float32


@pytest.mark.parametrize("objective", [swav, dino, dino_terms])
def test_pure_functions_raise_half_precision(objective):
    a, b = (x.detach().half() for x in pair(6, 4))
    ours, exact = objective(a, b), objective(a.double(), b.double())
    for one, other in (
        zip([*ours], [*exact], strict=True) if objective is dino_terms else [(ours, exact)]
    ):
        assert one.dtype == torch.float32
        assert one.item() == pytest.approx(other.item(), rel=1e-5)


def test_without_a_process_group_gathering_changes_nothing():
    a, b = pair(9, 4)
    assert torch.equal(sinkhorn(a, gather_distributed=True), sinkhorn(a))
    assert swav(a, b, gather_distributed=True).item() == swav(a, b).item()
    plain, gathering = DINO(4), DINO(4, gather_distributed=True)
    gathering.load_state_dict(plain.state_dict())
    z_a, z_b = a.detach().float(), b.detach().float()
    assert plain(z_a, z_b).item() == gathering(z_a, z_b).item()
    plain.after_step()
    gathering.after_step()
    assert torch.equal(plain.center, gathering.center)


Z = torch.zeros(4, 3)
BAD = [
    (lambda: sinkhorn(Z[0]), ValueError, r"scores must have shape \(N, D\)"),
    (lambda: sinkhorn(Z, epsilon=0), ValueError, "epsilon must be above 0; got 0"),
    (lambda: sinkhorn(Z, iterations=0), ValueError, "iterations must be at least 1; got 0"),
    (lambda: sinkhorn(Z / 0), ValueError, "scores must be finite"),
    (lambda: swav(Z, Z[:3]), ValueError, "scores_a and scores_b must have the same shape"),
    (lambda: swav(Z, Z, temperature=-1), ValueError, "temperature must be above 0"),
    (lambda: swav(Z, Z, epsilon="x"), TypeError, "epsilon must be a number; got str"),
    (lambda: swav(Z, Z, iterations=1.0), TypeError, "iterations must be an integer"),
    (lambda: dino(Z, Z.double()), TypeError, "student and teacher must have the same dtype"),
    (lambda: dino(Z, Z, student_temperature=0), ValueError, "student_temperature must be above 0"),
    (lambda: dino(Z, Z, teacher_temperature=0), ValueError, "teacher_temperature must be above 0"),
    (lambda: dino(Z, Z, center=torch.zeros(4)), ValueError,
     r"center must be a tensor of shape \(3,\).*got \(4,\)"),
    (lambda: dino_terms(Z, Z, center=0.5), ValueError, r"center must be a tensor.*got float"),
    (lambda: Prototypes(0, 4), ValueError, "dimension must be at least 1; got 0"),
    (lambda: Prototypes(3, 1), ValueError, "count must be at least 2; got 1"),
    (lambda: Prototypes(5, 4)(Z), ValueError, r"z must have shape \(N, 5\).*got shape \(4, 3\)"),
    (lambda: SwAV(3, prototypes=1), ValueError, "prototypes must be at least 2"),
    (lambda: SwAV(3, temperature=0), ValueError, "temperature must be above 0"),
    (lambda: SwAV(3)(Z, Z[:2]), ValueError, "z_a and z_b must have the same shape"),
    (lambda: DINO(3, prototypes=0), ValueError, "prototypes must be at least 2"),
    (lambda: DINO(3, momentum=1.1), ValueError, "momentum must be at least 0 and at most 1"),
    (lambda: DINO(3, center_momentum=-1), ValueError, "center_momentum must be at least 0"),
    (lambda: DINO(3)(Z, Z[:2]), ValueError, "student and teacher must have the same shape"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
