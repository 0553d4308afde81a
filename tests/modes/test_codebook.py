"""The codebook: its gradients, what moves its codes, and which can be the nearest."""

import pytest
import torch
from torch.nn import functional as F

from repcollapse.modes.codebook import FSQ, Codebook, out_of_reach, straight_through


@pytest.fixture
def outputs():
    return torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def book(**options):
    torch.manual_seed(1)
    return Codebook(12, 4, **options).double()


def test_the_nearest_code_is_taken(outputs):
    codebook = book()
    quantised, index, _ = codebook(outputs)
    assert torch.equal(index, torch.cdist(outputs, codebook.weight).argmin(dim=1))
    torch.testing.assert_close(quantised, codebook.weight[index])


def test_the_gradients_are_those_of_the_page(outputs):
    codebook, z = book(), outputs.clone().requires_grad_()
    towards = torch.randn_like(outputs)
    quantised, index, own = codebook(z)
    ((towards * quantised).sum() + own).backward()
    apart = (z - codebook.weight[index]).detach()
    torch.testing.assert_close(z.grad, towards + 0.25 * 2 * apart / z.numel())
    by_loop = torch.zeros_like(codebook.weight)
    for row, k in enumerate(index):
        by_loop[k] -= 2 * apart[row] / z.numel()
    torch.testing.assert_close(codebook.weight.grad, by_loop)
    unused = torch.bincount(index, minlength=12) == 0
    assert unused.any() and not codebook.weight.grad[unused].any()


def test_straight_through_has_the_value_of_the_one_and_the_gradient_of_the_other():
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    e = torch.tensor([5.0, 7.0], requires_grad=True)
    out = straight_through(z, e)
    gradients = torch.autograd.grad(
        (out * torch.tensor([2.0, 3.0])).sum(), [z, e], allow_unused=True
    )
    assert out.tolist() == [5.0, 7.0] and gradients[0].tolist() == [2.0, 3.0]
    assert gradients[1] is None


def test_running_means_converge_to_the_means_of_what_is_replaced(outputs):
    codebook = book(ema=True)
    assert not codebook.weight.requires_grad
    index = torch.arange(40) % 12
    for _ in range(3000):
        codebook.update(outputs, index)
    means = torch.stack([outputs[index == k].mean(dim=0) for k in range(12)])
    torch.testing.assert_close(codebook.weight.detach(), means)


def test_without_a_reset_a_dead_code_stays_where_it_is(outputs):
    codebook = book(ema=True)
    before = codebook.weight.detach().clone()
    for _ in range(200):
        codebook.update(outputs, torch.zeros(40, dtype=torch.int64))
    torch.testing.assert_close(codebook.weight[1:], before[1:])


@pytest.mark.parametrize("ema", [False, True])
def test_a_reset_puts_dead_codes_and_only_these_onto_outputs(outputs, ema):
    codebook = book(ema=ema, reset=True)
    index = torch.arange(40) % 3
    before = codebook.weight.detach().clone()
    for _ in range(400):
        codebook.update(outputs, index)
    nearest = torch.cdist(codebook.weight.detach()[3:], outputs).min(dim=1).values
    assert nearest.max() < 1e-6  # cdist rounds
    if not ema:
        assert torch.equal(codebook.weight[:3], before[:3])


def test_directions_are_compared_where_asked(outputs):
    codebook = book(unit=True)
    quantised, index, _ = codebook(outputs)
    cosines = F.normalize(outputs, dim=1) @ F.normalize(codebook.weight, dim=1).T
    assert torch.equal(index, cosines.argmax(dim=1))
    torch.testing.assert_close(quantised.norm(dim=1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(codebook(7 * outputs)[0], quantised)


def test_a_basis_moves_all_codes_at_once(outputs):
    codebook = book(basis=True)
    before = codebook.codes().detach().clone()
    codebook(outputs)[2].backward()
    assert codebook.weight.grad is None
    with torch.no_grad():
        codebook.basis.weight -= codebook.basis.weight.grad
    assert ((codebook.codes() - before).abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("options", [{"ema": True}, {"reset": True}])
@pytest.mark.parametrize("other", [{"unit": True}, {"basis": True}])
def test_what_moves_codes_goes_with_nothing_that_derives_them(options, other):
    with pytest.raises(ValueError, match="unit and basis must be False"):
        Codebook(**options, **other)


def test_fsq_has_every_level_and_an_index_for_each():
    fsq = FSQ((4, 3))
    corners = torch.cartesian_prod(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 3))
    z = torch.atanh(corners * 0.999).requires_grad_()
    quantised, index, own = fsq(z)
    torch.testing.assert_close(quantised, corners)
    assert sorted(index.tolist()) == list(range(12)) and own == 0
    quantised.sum().backward()
    torch.testing.assert_close(z.grad, 1 - torch.tanh(z.detach()) ** 2)


@pytest.mark.parametrize(
    ("levels", "says"),
    [((4, 1), "levels must be at least 2; got 1"), ((), "number of levels must be at least 1")],
)
def test_fsq_of_other_levels_is_refused(levels, says):
    with pytest.raises(ValueError, match=says):
        FSQ(levels)


def test_a_start_from_kmeans_puts_every_code_onto_a_centre(outputs):
    codebook, places = book(ema=True), torch.arange(12.0).double()[:, None].expand(12, 4)
    codebook.start_from(places.repeat(3, 1), seed=0)
    torch.testing.assert_close(codebook.weight.detach().sort(dim=0).values, places)
    torch.testing.assert_close(codebook.total, codebook.weight * codebook.count[:, None])


@pytest.mark.parametrize("options", [{"unit": True}, {"basis": True}])
def test_codes_that_are_derived_have_no_start_from_kmeans(outputs, options):
    with pytest.raises(ValueError, match="unit and basis must be False for a start from k-means"):
        book(**options).start_from(outputs, seed=0)


def test_a_start_needs_an_output_a_code(outputs):
    with pytest.raises(ValueError, match="z needs at least 12 rows; got 11"):
        book().start_from(outputs[:11], seed=0)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_no_code_out_of_reach_is_ever_the_nearest(outputs, scale):
    codes = scale * torch.randn(200, 4, generator=torch.Generator().manual_seed(3)).double()
    ball = F.normalize(torch.randn(20_000, 4, dtype=torch.float64), dim=1)
    ball *= torch.rand(20_000, 1, dtype=torch.float64)
    radius = (outputs - outputs.mean(dim=0)).norm(dim=1).max()
    inside = outputs.mean(dim=0) + radius * ball
    nearest = torch.cdist(inside, codes).argmin(dim=1).unique()
    gone = out_of_reach(outputs, codes)
    assert not gone[nearest].any()
    assert gone.any() == (scale == 3.0) or scale == 1.0
    moved = out_of_reach(3 * outputs + 1, 3 * codes + 1)
    assert torch.equal(moved, gone)


def test_of_one_point_all_codes_but_the_nearest_are_out_of_reach():
    codes = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    assert out_of_reach(torch.zeros(5, 2), codes).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("z", "codes", "says"),
    [
        (torch.zeros(3), torch.zeros(3, 2), r"z must have shape \(N, D\)"),
        (torch.zeros(3, 2), torch.zeros(3, 1), r"codes must have shape \(N, 2\)"),
        (torch.full((3, 2), torch.nan), torch.zeros(3, 2), "z must be finite"),
    ],
)
def test_bad_input_is_refused(z, codes, says):
    with pytest.raises(ValueError, match=says):
        out_of_reach(z, codes)
