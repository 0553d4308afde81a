"""Several models beside each other."""

from __future__ import annotations

import pytest
import torch

from repcollapse.diagnosis import Arms, diagnose, diagnose_arms

N, D = 400, 16
LABELS = torch.arange(N) % 4


def views(seed: int) -> torch.Tensor:
    """Two views of samples that have four classes, agreeing but for a little."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, D, generator=generator)[LABELS]
    sample = centres + torch.randn(N, D, generator=generator)
    return sample + 0.5 * torch.randn(2, N, D, generator=generator)


@pytest.fixture(scope="module")
def arms() -> Arms:
    whole = [views(seed) for seed in range(3)]
    dead = [1 + 1e-3 * z for z in whole[:2]]
    return diagnose_arms({"whole": whole, "<dead>": [*dead, whole[2]]}, labels=[LABELS] * 3)


def test_each_seed_is_diagnosed_with_its_views_and_labels(arms):
    alone = diagnose(views(1)[0], labels=LABELS, views=views(1))
    assert arms.by_arm["whole"][1].to_dict() == alone.to_dict()


def test_rows_alone_are_diagnosed_without_views_and_without_labels():
    z, other = views(100)[0], (LABELS + torch.arange(N) // 200) % 4
    arms = diagnose_arms({"one": {100: z, 101: z}}, labels={101: other, 100: LABELS})
    assert arms.by_arm["one"][100].to_dict() == diagnose(z, labels=LABELS).to_dict()
    assert arms.by_arm["one"][101].to_dict() == diagnose(z, labels=other).to_dict()
    assert diagnose_arms({"one": {100: z}}).of("one")[0].to_dict() == diagnose(z).to_dict()


def test_what_is_found_beside_is_counted(arms):
    assert not arms.found("whole")
    for diagnosis in arms.of("<dead>")[:2]:
        beside = {finding.kind for finding in diagnosis.findings[1:] if finding.severity != "note"}
        assert beside <= set(arms.found("<dead>"))
    assert "complete" not in arms.found("<dead>")


def test_in_print_verdicts_have_their_headlines(arms):
    printed = str(arms)
    assert "whole: Healthy in 3 of 3" in printed
    assert "<dead>: Complete collapse in 2 of 3, Healthy in 1 of 3" in printed
    assert arms.typical("<dead>").sentence.split(":")[0] in " ".join(printed.split())


def test_an_arm_with_other_seeds_than_the_labels():
    with pytest.raises(ValueError, match=r"the seeds of labels, \[0, 1\]; got \[0\] for 'one'"):
        diagnose_arms({"one": [views(0)]}, labels=[LABELS] * 2)
    with pytest.raises(ValueError, match=r"the seeds of labels, \[0\]; got \[100\] for 'one'"):
        diagnose_arms({"one": {100: views(0)}}, labels=[LABELS])


@pytest.mark.parametrize("empty", [{}, {"none": []}])
def test_no_arm_or_no_seed(empty):
    with pytest.raises(ValueError, match="by_arm must have an answer or more"):
        diagnose_arms(empty, labels=[])
