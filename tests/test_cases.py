"""The labelled cases: what a label promises is in the matrix, and no case is in both halves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from repcollapse.cases import Case, cases

SMALL = [c for c in cases("first") if c.rows * c.dimension <= 30_000]
LABELS = {"healthy", "cone", "complete", "dimensional", "cluster", "ambiguous"}


def of(label: str, *families: str) -> list[Case]:
    found = [c for c in SMALL if c.label == label and (not families or c.family in families)]
    assert len(found) >= 3
    return found


def by_name(case: Case) -> str:
    return case.name


def centred(case: Case) -> np.ndarray:
    z = case.embeddings().double()
    return (z - z.mean(dim=0)).numpy()


def unit(case: Case) -> torch.Tensor:
    return torch.nn.functional.normalize(case.embeddings().double(), dim=1)


def test_the_halves_share_nothing_and_are_everything() -> None:
    first, second, both = ({c.name for c in cases(half)} for half in ("first", "second", "both"))
    assert not first & second
    assert first | second == both
    assert len(both) == len(cases()) == 641


def test_the_halves_are_alike() -> None:
    first, second = (Counter(c.family for c in cases(half)) for half in ("first", "second"))
    first.pop("full-size")
    assert first == second
    assert set(first.values()) == {8}


def test_another_half_is_refused() -> None:
    with pytest.raises(ValueError, match="half must be one of"):
        cases("third")


def test_the_cases_span_what_they_are_to_span() -> None:
    every = cases()
    assert {c.label for c in every} == LABELS
    assert (min(c.rows for c in every), max(c.rows for c in every)) == (50, 50_000)
    assert (min(c.dimension for c in every), max(c.dimension for c in every)) == (8, 2048)
    kinds = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    assert {c.dtype for c in every} == kinds
    assert all(c.about.endswith(".") for c in every)
    assert sum(c.rows * c.dimension > 4_000_000 for c in every) == 1


@pytest.mark.parametrize("case", SMALL, ids=by_name)
def test_a_case_is_what_it_says_and_the_same_each_time(case: Case) -> None:
    z = case.embeddings()
    assert z.shape == (case.rows, case.dimension)
    assert z.dtype == case.dtype
    assert z.isfinite().all()
    assert torch.equal(z, case.embeddings())


def test_cases_of_a_family_differ() -> None:
    shapes = {(c.rows, c.dimension, c.dtype) for c in cases() if c.family == "isotropic"}
    assert len(shapes) > 8


DEAD = ("constant-and-noise", "constant-and-structure", "ray", "rectified-residue")


@pytest.mark.parametrize("case", of("complete", *DEAD), ids=by_name)
def test_a_complete_collapse_is_one_direction(case: Case) -> None:
    assert unit(case).mean(dim=0).square().sum() > 0.99


@pytest.mark.parametrize("case", of("cone"), ids=by_name)
def test_a_cone_has_most_of_its_energy_in_its_mean_and_is_no_point(case: Case) -> None:
    assert 0.5 < unit(case).mean(dim=0).square().sum() < 0.97


LOW = ("low-rank", "low-rank-off-centre", "dead-features", "copies", "low-rank-heavy-tails")


@pytest.mark.parametrize("case", of("dimensional", *LOW), ids=by_name)
def test_a_dimensional_collapse_has_its_variance_in_few_dimensions(case: Case) -> None:
    energy = np.linalg.svd(centred(case), compute_uv=False) ** 2
    assert energy[: case.rank].sum() > 0.99 * energy.sum()
    assert case.rank <= max(1, case.dimension // 20)


@pytest.mark.parametrize("case", of("cluster", "points", "exact-points"), ids=by_name)
def test_rows_of_a_cluster_collapse_sit_on_few_points(case: Case) -> None:
    z = centred(case)
    size = np.sqrt((z**2).sum(axis=1).mean())
    nearest = [np.partition(np.linalg.norm(z - row, axis=1), 1)[1] for row in z[:50]]
    assert np.quantile(nearest, 0.9) < 0.1 * size


@pytest.mark.parametrize(
    ("rows", "rank", "verdict", "right"),
    [
        (2000, 8, "healthy", True),
        (2000, 8, "cone", False),
        (2000, 8, "not-enough-data", False),
        (199, 8, "not-enough-data", True),
        (200, 20, "not-enough-data", False),
        (200, 21, "not-enough-data", True),
    ],
)
def test_too_few_rows_are_an_answer_where_they_are_few(
    rows: int, rank: int, verdict: str, right: bool
) -> None:
    assert replace(SMALL[0], rows=rows, rank=rank).right(verdict) is right
