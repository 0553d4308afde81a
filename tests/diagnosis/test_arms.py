"""Several models beside each other."""

from __future__ import annotations

from html.parser import HTMLParser

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
    assert arms.diagnoses["whole"][1].to_dict() == alone.to_dict()


def test_verdicts_are_counted_the_most_frequent_first(arms):
    assert list(arms.verdicts("<dead>").items()) == [("complete", 2), ("healthy", 1)]
    assert arms.typical("<dead>") is arms.diagnoses["<dead>"][0]


def test_what_is_found_beside_leaves_notes_and_verdicts_out(arms):
    assert not arms.found("whole")
    for diagnosis in arms.diagnoses["<dead>"][:2]:
        beside = {finding.kind for finding in diagnosis.findings[1:] if finding.severity != "note"}
        assert beside <= set(arms.found("<dead>"))
    assert "complete" not in arms.found("<dead>")


def test_in_print_every_arm_has_its_tally_and_its_evidence(arms):
    printed = str(arms)
    assert repr(arms) == printed
    assert "whole: Healthy in 3 of 3" in printed
    assert "<dead>: Complete collapse in 2 of 3, Healthy in 1 of 3" in printed
    assert arms.typical("<dead>").findings[0].sentence.split(":")[0] in " ".join(printed.split())


def test_html_is_whole_and_escapes_names(arms):
    class Balance(HTMLParser):
        stack: list[str]

        def handle_starttag(self, tag, attrs):
            self.stack.append(tag)

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    page = arms._repr_html_()
    parser = Balance()
    parser.stack = []
    parser.feed(page)
    assert parser.stack == []
    assert "&lt;dead&gt;" in page
    assert "<dead>" not in page
    assert page.count("<li") == 2


def test_an_arm_that_is_not_there(arms):
    with pytest.raises(ValueError, match="arm must be one of whole, <dead>; got 'other'"):
        arms.verdicts("other")


def test_an_arm_with_other_seeds_than_the_labels():
    with pytest.raises(ValueError, match=r"one entry for each of 2 seeds .*; got 1 for 'one'"):
        diagnose_arms({"one": [views(0)]}, labels=[LABELS] * 2)


@pytest.mark.parametrize("empty", [{}, {"none": []}])
def test_no_arm_or_no_seed(empty):
    with pytest.raises(ValueError, match="diagnoses must have one diagnosis or more"):
        diagnose_arms(empty, labels=[])
