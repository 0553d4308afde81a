"""Answers by arm and seed, whatever gave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

from repcollapse.diagnosis import Tally
from repcollapse.diagnosis.findings import ADVICE, COMPLETE, HEALTHY, NOISE, ZEROS, Finding


@dataclass(frozen=True)
class Said:
    """The least that can be tallied."""

    verdict: str
    beside: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=lambda: {"spread": 0.5})

    @property
    def findings(self) -> tuple[Finding, ...]:
        kinds = (self.verdict, *self.beside)
        return tuple(ADVICE[kind].finding(kind, f"It is {kind}.", "spread", 0.5) for kind in kinds)

    @property
    def severity(self) -> str:
        return self.findings[0].severity

    @property
    def sentence(self) -> str:
        return self.findings[0].sentence


DEAD, ALIVE = Said(COMPLETE), Said(HEALTHY)
NOISY = Said(HEALTHY, (NOISE, ZEROS))


def test_answers_without_seeds_are_numbered_and_others_keep_theirs() -> None:
    tally = Tally({"alone": iter([DEAD, ALIVE]), "by seed": {100: ALIVE, 101: DEAD}})
    assert tally.by_arm == {"alone": {0: DEAD, 1: ALIVE}, "by seed": {100: ALIVE, 101: DEAD}}
    assert tally.arms == ["alone", "by seed"]
    assert tally.of("by seed") == [ALIVE, DEAD]


def test_verdicts_are_counted_the_most_frequent_first() -> None:
    tally = Tally({"one": [ALIVE, DEAD, DEAD]})
    assert list(tally.verdicts("one").items()) == [(COMPLETE, 2), (HEALTHY, 1)]
    assert tally.typical("one") is DEAD


def test_what_is_found_beside_leaves_notes_and_verdicts_out() -> None:
    assert Tally({"one": [DEAD, NOISY]}).found("one") == {NOISE: 1}


def test_what_is_found_twice_in_an_answer_or_is_its_verdict_counts_once() -> None:
    """Views and groups may each find noise, and a verdict may rest on two findings of its kind."""
    twice, verdict = Said(HEALTHY, (NOISE, NOISE)), Said(COMPLETE, (COMPLETE, NOISE))
    tally = Tally({"one": [twice, verdict, ALIVE]})
    assert tally.found("one") == {NOISE: 2}
    assert "Also found: noise in 2 of 3." in str(tally)


def test_numbers_are_given_by_seed() -> None:
    other = Said(HEALTHY, metrics={"spread": 0.75})
    tally = Tally({"one": {100: ALIVE, 101: other}})
    assert tally.values("one", "spread") == {100: 0.5, 101: 0.75}
    with pytest.raises(ValueError, match="metric must be one of"):
        tally.values("one", "rank")


def test_a_seed_is_told_where_all_broken_are_called_it_and_all_mended_healthy() -> None:
    tally = Tally(
        {
            "a": {5: DEAD, 6: DEAD, 7: ALIVE},
            "b": dict.fromkeys((5, 6, 7), DEAD),
            "c": {7: ALIVE, 6: NOISY, 5: ALIVE},
        }
    )
    assert tally.tells(COMPLETE, broken=["a", "b"], mended=["c"]) == {5: True, 6: True, 7: False}
    assert tally.tells(COMPLETE, broken=["b"], mended=["a"]) == {5: False, 6: False, 7: True}
    assert tally.tells(NOISE, broken=["a"], mended=["c"]) == dict.fromkeys((5, 6, 7), False)


def test_a_finding_counts_wherever_it_stands_and_no_other_does() -> None:
    tally = Tally({"noisy": [NOISY, NOISY, ALIVE], "dead": [DEAD] * 3, "both": [DEAD, NOISY, DEAD]})
    assert tally.finds(NOISE, broken=["noisy"], mended=["dead"]) == {0: True, 1: True, 2: False}
    assert tally.finds(NOISE, broken=["noisy"], mended=["both"]) == {0: True, 1: False, 2: False}
    assert tally.finds(COMPLETE, broken=["dead"], mended=["noisy"]) == dict.fromkeys(range(3), True)
    assert tally.tells(NOISE, broken=["noisy"], mended=[]) == dict.fromkeys(range(3), False)


@pytest.mark.parametrize("ask", ["tells", "finds"])
def test_arms_that_cannot_be_compared(ask: str) -> None:
    tally = Tally({"a": {0: DEAD}, "b": {1: ALIVE}})
    with pytest.raises(ValueError, match=r"arm must be one of .*; got 'z'"):
        getattr(tally, ask)(COMPLETE, broken=["z"], mended=["a"])
    with pytest.raises(ValueError, match=r"must have the same seeds; got \{'a': \[0\], 'b': \[1\]"):
        getattr(tally, ask)(COMPLETE, broken=["a"], mended=["b"])
    with pytest.raises(ValueError, match="at least one arm"):
        getattr(tally, ask)(COMPLETE, broken=[], mended=[])


@pytest.mark.parametrize("empty", [{}, {"one": []}, {"one": {}, "two": [DEAD]}])
def test_no_arm_or_no_answer(empty: dict[str, list[Said]]) -> None:
    with pytest.raises(ValueError, match="by_arm must have an answer or more"):
        Tally(empty)


@pytest.mark.parametrize("ask", ["of", "verdicts", "found", "typical"])
def test_an_arm_that_is_not_there(ask: str) -> None:
    with pytest.raises(ValueError, match=r"arm must be one of .*; got 'two'"):
        getattr(Tally({"one": [DEAD]}), ask)("two")


def test_in_print_every_arm_has_its_counts_its_evidence_and_what_else_was_found() -> None:
    tally = Tally({"mixed": [NOISY, NOISY, DEAD], "dead": [DEAD]})
    assert str(tally) == repr(tally)
    assert str(tally).splitlines() == [
        "mixed: healthy in 2 of 3, complete in 1 of 3",
        "  It is healthy.",
        "  Also found: noise in 2 of 3.",
        "dead: complete in 1 of 1",
        "  It is complete.",
    ]


def test_html_is_whole_and_escapes_names() -> None:
    class Balance(HTMLParser):
        stack: list[str]

        def handle_starttag(self, tag, attrs):
            self.stack.append(tag)

        def handle_endtag(self, tag):
            assert self.stack.pop() == tag

    page = Tally({"<dead>": [DEAD], "noisy": [NOISY]})._repr_html_()
    parser = Balance()
    parser.stack = []
    parser.feed(page)
    assert parser.stack == []
    assert "&lt;dead&gt;" in page and "<dead>" not in page
    assert page.count("<li") == 2
    assert "Also found: noise in 1 of 1." in page


def test_no_line_is_longer_than_a_report_has() -> None:
    beside = ("noise", "shrunken", "shortcut", "classes-lost", "class-collapse", "cone")
    lines = str(Tally({"an arm": [Said(HEALTHY, beside)]})).splitlines()
    assert max(map(len, lines)) <= 96 < sum(map(len, lines[2:]))
